//! `torture soak`: the daemon and writers for as long as asked, with random faults, and restores of random
//! points in time judged all the while. Nobody pauses for it: the grader reads what the destinations hold.
//!
//! In the first third the daemon is killed and restarted as well. From then on it is one life, so that
//! what it does not give back adds up: its resident memory, descriptors and threads and the size of its
//! state directory are looked at after each step, and in the last third their medians may not lie above
//! those of the middle third by more than `samples::BOUNDS` says. At the end it is killed and restarted
//! once more, and the last commit has to come back exactly from both destinations.

mod record;
mod samples;

use crate::ledger::Micros;
use crate::process::Signal;
use crate::rig::{Programs, Result, Rig, violation};
use crate::workload::writer::Args;
use bakelite::commit::Time;
pub use record::Record;
use samples::Samples;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Days as seconds: every commit for half a minute, then one a second for two minutes.
const SETTINGS: &str = "ship_interval = \"100ms\"\nsnapshot_interval = \"20s\"\n\
     compaction = [\"2s\", \"10s\"]\nkeep = [\"all:30s\", \"1s:2m\"]";
/// How far back what a `sync` has promised is asked for, and what is only some of it: in milliseconds.
const RECENT: (u64, u64) = (0, 20_000);
const OLDER: (u64, u64) = (35_000, 110_000);
/// Mean pause between two commits of a writer, in microseconds.
const PACE: u64 = 20_000;
const WRITERS: u32 = 2;
const DESTINATIONS: usize = 2;
/// A destination that is away comes back after so many steps.
const AWAY: u64 = 4;

/// What happens to it, and how often among all: in the first third, and after that.
const FAULTS: [(Fault, u64, u64); 9] = [
    (Fault::Nothing, 6, 8),
    (Fault::Sync, 4, 4),
    (Fault::KillDaemon, 3, 0),
    (Fault::Restart, 2, 0),
    (Fault::Stop, 2, 2),
    (Fault::KillWriter, 2, 2),
    (Fault::Away, 2, 2),
    (Fault::Upkeep, 2, 2),
    (Fault::Reload, 1, 1),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    Sync,
    KillDaemon,
    Restart,
    Stop,
    KillWriter,
    Away,
    Upkeep,
    Reload,
}

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub time: Duration,
}

struct Soak {
    rig: Rig,
    samples: Samples,
    /// The destination that is not there, and for how many steps more.
    away: Option<(usize, u64)>,
}

pub fn run(programs: &Programs, dir: &Path, plan: Plan) -> Result<Record> {
    println!("seed {}", plan.seed);
    let began = Instant::now();
    let rig = Rig::new(plan.seed, programs, dir)?;
    let mut soak = Soak { rig, samples: Samples::default(), away: None };
    soak.begin()?;
    for third in 0..3 {
        while began.elapsed() < plan.time * (third + 1) / 3 {
            soak.stir(third == 0)?;
            soak.grade()?;
            soak.sample(third as usize)?;
        }
        println!("{:4.0} s: {}", began.elapsed().as_secs_f64(), soak.says());
    }
    soak.samples.are_flat()?;
    soak.end()?;
    let Soak { rig, samples, .. } = soak;
    Ok(Record::new(plan, &rig.tally, &samples))
}

impl Soak {
    fn begin(&mut self) -> Result<()> {
        let rig = &mut self.rig;
        rig.set_destinations(Vec::new());
        for at in 1..=DESTINATIONS {
            rig.add_named_directory(&format!("disk-{at}"))?;
        }
        rig.set(SETTINGS)?;
        rig.create(writer(0))?;
        for number in 1..WRITERS {
            rig.start_writer(Args { paused: true, ..writer(number) })?;
        }
        rig.start_daemon()?;
        rig.go()?;
        rig.sync()
    }

    /// One of the faults, by chance.
    fn stir(&mut self, restarts: bool) -> Result<()> {
        self.come_back()?;
        match self.choose(restarts) {
            Fault::Nothing => {}
            // They would wait for the one that is away, or say that it is.
            Fault::Sync | Fault::Restart | Fault::Upkeep if self.away.is_some() => {}
            Fault::Sync => self.rig.sync()?,
            Fault::KillDaemon => {
                self.rig.kill_daemon()?;
                self.rig.random_wait(1000);
                self.rig.start_daemon()?;
            }
            Fault::Restart => {
                self.rig.drain()?;
                self.rig.random_wait(300);
                self.rig.start_daemon()?;
            }
            Fault::Stop => self.stop_for_a_while()?,
            Fault::KillWriter => self.kill_writer()?,
            Fault::Away => self.go_away()?,
            Fault::Upkeep => {
                let verb = *self.rig.rng.pick(&["compact", "prune"]);
                self.rig.upkeep(verb)?;
            }
            Fault::Reload => self.rig.reload()?,
        }
        self.rig.daemon_lives()
    }

    fn choose(&mut self, restarts: bool) -> Fault {
        let weight = |row: &(Fault, u64, u64)| if restarts { row.1 } else { row.2 };
        let mut left = self.rig.rng.below(FAULTS.iter().map(weight).sum());
        let chosen = FAULTS.iter().find(|row| match left.checked_sub(weight(row)) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        chosen.expect("less than their sum").0
    }

    /// What is restored meanwhile is restored without it.
    fn stop_for_a_while(&mut self) -> Result<()> {
        self.rig.signal_daemon(Signal::Stop)?;
        self.rig.tally.fault("daemon stopped");
        self.rig.random_wait(2000);
        let graded = self.grade();
        self.rig.signal_daemon(Signal::Continue)?;
        graded
    }

    fn kill_writer(&mut self) -> Result<()> {
        let args = self.rig.kill_writer(0)?;
        self.rig.start_writer(Args { paused: false, ..args }).map(drop)
    }

    fn go_away(&mut self) -> Result<()> {
        if self.away.is_none() {
            let at = self.rig.rng.below(DESTINATIONS as u64) as usize;
            fs::rename(self.root(at), aside(&self.root(at)))?;
            self.away = Some((at, AWAY));
            self.rig.tally.fault("destination away");
        }
        Ok(())
    }

    fn come_back(&mut self) -> Result<()> {
        match self.away {
            Some((at, 0)) => {
                fs::rename(aside(&self.root(at)), self.root(at))?;
                self.away = None;
                self.rig.tally.fault("destination back");
            }
            Some((at, left)) => self.away = Some((at, left - 1)),
            None => {}
        }
        Ok(())
    }

    /// The directory that is mounted there: the root of the replica lies in it.
    fn root(&mut self, at: usize) -> PathBuf {
        self.rig.mean(at);
        self.rig.replica().parent().expect("it has a name").to_owned()
    }

    /// One restore of a destination that is there: the newest commit, or a time of the last seconds or
    /// minutes.
    fn grade(&mut self) -> Result<()> {
        let here: Vec<usize> =
            (0..DESTINATIONS).filter(|at| self.away.is_none_or(|(away, _)| away != *at)).collect();
        let at = *self.rig.rng.pick(&here);
        self.rig.mean(at);
        let rig = &mut self.rig;
        let now = Micros::now().0 / 1000;
        match rig.rng.below(4) {
            0 => rig.grade_latest().map(drop),
            1 => rig.grade_claim(),
            2 => {
                let back = rig.rng.between(RECENT.0, RECENT.1);
                rig.grade_at(Time(now - back), None).map(drop)
            }
            _ => {
                let back = rig.rng.between(OLDER.0, OLDER.1);
                rig.grade_thinned(Time(now - back)).map(drop)
            }
        }
    }

    fn sample(&mut self, third: usize) -> Result<()> {
        let pid = self.rig.daemon_pid();
        let (state, wal) = (self.rig.state(), self.rig.wal_path());
        self.samples.take(third, pid, &state, &wal)
    }

    fn says(&self) -> String {
        let tally = &self.rig.tally;
        let (restores, targets, kills) = (tally.restores, tally.targets, tally.kills);
        format!("{restores} restores, {targets} targets, {kills} kills; {}", self.samples)
    }

    fn end(&mut self) -> Result<()> {
        while self.away.is_some() {
            self.come_back()?;
        }
        let rig = &mut self.rig;
        rig.kill_daemon()?;
        rig.start_daemon()?;
        let seq = rig.stop_writers()?;
        rig.sync_at_last()?;
        rig.drain()?;
        rig.grade_all_exact(seq)?;
        for at in 0..DESTINATIONS {
            rig.mean(at);
            let source = rig.source();
            if !rig.verify(&source)? {
                return violation(format!("verify finds fault with {source}"));
            }
        }
        rig.finish()
    }
}

/// The first one vacuums and truncates the WAL now and then, the other one leaves checkpoints to SQLite.
fn writer(number: u32) -> Args {
    let (vacuum, checkpoint) = match number {
        0 => (Some(2000), Some("TRUNCATE".to_owned())),
        _ => (None, None),
    };
    let pace = Some(PACE);
    Args {
        writer: number,
        every: 500,
        rollback: Some(80),
        pace,
        vacuum,
        checkpoint,
        ..Args::default()
    }
}

fn aside(root: &Path) -> PathBuf {
    root.with_extension("aside")
}
