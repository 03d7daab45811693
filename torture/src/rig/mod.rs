//! The rig of one run: a database, its writers, the daemon, a replica, and what is known of them.
//!
//! ```text
//! DIR/app/app.db     the database, and the daemon's state beside it
//! DIR/app-N/app.db   the same on further hosts
//! DIR/disk/          a file system of its own, where power is lost
//! DIR/replica        the destination; DIR/replica-N further ones
//! DIR/ram/           a small disk for one of them, to be full or read-only
//! DIR/ledger/        one file for each writer's process, away from the database
//! DIR/out/N/         what the Nth restore gave; removed once judged right
//! DIR/log/           what each process has said on stderr
//! ```
//!
//! The harness never opens the database: a file of it closed in this process could drop nobody's
//! locks but would still be a look that the workload does not need (trap 105).

mod destinations;
mod disk;
mod files;
mod grading;
mod hosts;
mod kept;
mod kernel;
mod ram;
mod sealing;
mod settings;
mod writers;

pub use destinations::Destination;
pub use disk::Disk;
pub use files::Wal;
pub use grading::Verdict;
pub use hosts::Host;
pub use kept::Step;
pub use kernel::{Ask, CLASSES, End, Fault};
pub use ram::Ram;
pub use sealing::Under;
pub use settings::NAME;
pub use writers::Writer;

use crate::course::Place;
use crate::ledger::{Lie, Truth};
use crate::process::{self, Process, Signal};
use crate::replica;
use crate::rng::Rng;
use crate::store::{Server, Store};
use crate::tally::Tally;
use bakelite::config::Sealing;
use bakelite::error::Status;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// Why a run ended before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// bakelite did something wrong.
    Violation(String),
    /// The harness itself did not work; nothing is proved either way.
    Harness(String),
    /// What it takes may not be done here, or is not there. Neither right nor wrong.
    NotPermitted(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Violation(what) => write!(f, "violation: {what}"),
            Self::Harness(what) => write!(f, "harness: {what}"),
            Self::NotPermitted(what) => write!(f, "not permitted here: {what}"),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Harness(error.to_string())
    }
}

/// What the ledgers say of the live database is graded as well: nobody may lose what the application has.
impl From<Lie> for Failure {
    fn from(lie: Lie) -> Self {
        match lie {
            Lie::Garbled(what) => Self::Harness(format!("ledger: {what}")),
            Lie::Lost(what) => Self::Violation(format!("the live database: {what}")),
        }
    }
}

pub type Result<T> = std::result::Result<T, Failure>;

pub fn violation<T>(what: impl Into<String>) -> Result<T> {
    Err(Failure::Violation(what.into()))
}

/// The two programs that a run starts.
#[derive(Clone, Debug)]
pub struct Programs {
    pub bakelite: PathBuf,
    pub torture: PathBuf,
}

#[derive(Debug)]
pub struct Rig {
    pub seed: u64,
    pub rng: Rng,
    /// Which restores go through the program: there are more of them on one machine than on another.
    sampler: Rng,
    /// Whether what takes minutes may take them.
    pub long: bool,
    pub programs: Programs,
    pub dir: PathBuf,
    pub truth: Truth,
    pub tally: Tally,
    /// What each commit of each timeline was when it was last restored.
    landed: BTreeMap<(u32, u64), Place>,
    /// Commits that have to stay what they are, by timeline and number.
    kept: Vec<(u32, u64)>,
    /// Whether the program restores the commits of an abandoned branch; not asked yet without it.
    knows_branches: Option<bool>,
    hosts: Vec<Host>,
    /// The one that is meant.
    at: usize,
    /// How many there are besides the first one.
    branches: u32,
    destinations: Vec<Destination>,
    /// The one that is meant.
    meant: usize,
    /// Its settings, where it is told them in a file.
    config: Option<PathBuf>,
    /// All that was ever shipped.
    shadow: Option<kept::Shadow>,
    /// The keys of who reads the replica.
    pub sealing: Sealing,
    /// Numbers logs, ledgers and outputs.
    serial: u64,
    /// How many lives each writer has had.
    lives: BTreeMap<u32, u64>,
    /// A bucket's, if one of the destinations is in it.
    pub store: Option<Store>,
    /// A real one.
    pub server: Option<Server>,
    /// Goes last, once nothing runs on it any more.
    pub disk: Option<Disk>,
    pub ram: Option<Ram>,
}

impl Rig {
    pub fn new(seed: u64, programs: &Programs, dir: &Path) -> Result<Self> {
        for name in ["app", "ledger", "out", "log"] {
            std::fs::create_dir(dir.join(name))?;
        }
        Ok(Self {
            seed,
            rng: Rng::of(seed, "faults"),
            sampler: Rng::of(seed, "restores"),
            long: false,
            programs: programs.clone(),
            dir: dir.to_owned(),
            truth: Truth::default(),
            tally: Tally::default(),
            landed: BTreeMap::new(),
            kept: Vec::new(),
            knows_branches: None,
            hosts: vec![Host::first(dir.join("app"), seed)],
            at: 0,
            branches: 0,
            destinations: vec![Destination::directory(&dir.join("replica"))],
            meant: 0,
            config: None,
            shadow: None,
            sealing: Sealing::default(),
            serial: 0,
            lives: BTreeMap::new(),
            store: None,
            server: None,
            disk: None,
            ram: None,
        })
    }

    pub fn db(&self) -> PathBuf {
        self.host().db()
    }

    /// A new path in one of the directories.
    fn path(&mut self, folder: &str, what: &str) -> PathBuf {
        self.serial += 1;
        self.dir.join(folder).join(format!("{:04}-{what}", self.serial))
    }

    /// Waits for a random time, as a fault that strikes at a random moment does.
    pub fn random_wait(&mut self, most_ms: u64) {
        let micros = self.rng.below(most_ms * 1000);
        thread::sleep(Duration::from_micros(micros));
    }

    fn program(&self, verb: &str) -> Command {
        let places = self.destinations.iter().map(|it| &it.given);
        replica::command(&self.programs.bakelite, verb, places)
    }

    fn bakelite(&self, verb: &str) -> Command {
        let mut command = self.program(verb);
        command.args(self.of());
        command
    }

    pub fn start_daemon(&mut self) -> Result<()> {
        assert!(self.host().daemon.is_none(), "one daemon at a time");
        let log = self.path("log", "daemon");
        let mut command = self.bakelite("daemon");
        command.stdout(Stdio::null());
        self.host_mut().daemon = Some(Process::spawn(&mut command, &log)?);
        Ok(())
    }

    fn daemon(&mut self) -> &mut Process {
        self.host_mut().daemon.as_mut().expect("the daemon was started")
    }

    /// The one that runs.
    pub fn daemon_pid(&mut self) -> u32 {
        self.daemon().child.id()
    }

    /// SIGHUP: it reads its settings again, which are the same.
    pub fn reload(&mut self) -> Result<()> {
        self.daemon().handles(Signal::HangUp)?;
        self.signal_daemon(Signal::HangUp)?;
        self.tally.fault("settings read again");
        Ok(())
    }

    /// A daemon that has ended by itself is wrong, whatever it says.
    pub fn daemon_lives(&mut self) -> Result<()> {
        match self.daemon().ended()? {
            None => Ok(()),
            Some(status) => {
                let said = self.daemon().complaint();
                violation(format!("the daemon ended by itself: {status}: {said}"))
            }
        }
    }

    /// Whether it does; one that has ended by itself has said why, and is gone.
    pub fn daemon_goes_on(&mut self) -> Result<bool> {
        let Some(status) = self.daemon().ended()? else { return Ok(true) };
        let said = self.daemon().complaint();
        let clear = status.code().is_some_and(|code| (1..=10).contains(&code));
        if !clear || !said.contains("bakelite: ") {
            return violation(format!("the daemon ended by itself: {status}: {said}"));
        }
        self.host_mut().daemon = None;
        Ok(false)
    }

    /// Whether it has just said this.
    pub fn daemon_says(&mut self, words: &str) -> bool {
        self.daemon().complaint().contains(words)
    }

    pub fn kill_daemon(&mut self) -> Result<()> {
        self.daemon_lives()?;
        let mut daemon = self.host_mut().daemon.take().expect("the daemon was started");
        if let Err(status) = daemon.kill()? {
            return violation(format!("the daemon ended by itself: {status}"));
        }
        self.tally.kills += 1;
        self.tally.fault("daemon killed");
        Ok(())
    }

    pub fn signal_daemon(&mut self, signal: Signal) -> Result<()> {
        self.daemon_lives()?;
        self.daemon().signal(signal);
        Ok(())
    }

    /// SIGTERM: captures and ships everything committed by then, and exits with status 0.
    pub fn drain(&mut self) -> Result<()> {
        self.daemon().handles(Signal::Terminate)?;
        let acked = self.acked()?;
        self.signal_daemon(Signal::Terminate)?;
        let mut daemon = self.host_mut().daemon.take().expect("the daemon was started");
        match daemon.wait()? {
            Some(status) if status.success() => (),
            Some(status) => {
                return violation(format!("SIGTERM: {status}: {}", daemon.complaint()));
            }
            None => return violation("the daemon did not end within two minutes of SIGTERM"),
        }
        self.tally.fault("drained");
        self.raise_floor(acked);
        Ok(())
    }

    /// SIGTERM, and again while it drains: it ends at once, in whatever way but a crash.
    pub fn terminate_twice(&mut self) -> Result<()> {
        self.daemon().handles(Signal::Terminate)?;
        self.signal_daemon(Signal::Terminate)?;
        self.random_wait(4);
        let mut daemon = self.host_mut().daemon.take().expect("the daemon was started");
        daemon.signal(Signal::Terminate);
        match daemon.wait()? {
            Some(status) if status.code().is_some_and(|code| code <= 10) => Ok(()),
            Some(status) => violation(format!("SIGTERM twice: {status}: {}", daemon.complaint())),
            None => violation("the daemon did not end within two minutes of two SIGTERMs"),
        }
    }

    /// `bakelite sync`: all that was acknowledged before it began is durable when it returns.
    pub fn sync(&mut self) -> Result<()> {
        match self.try_sync()? {
            Ok(()) => Ok(()),
            Err(done) => violation(format!("sync: {}: {}", done.status, done.complaint)),
        }
    }

    /// The same beside a destination that may fail just then, which is told by status 8.
    pub fn sync_in_the_end(&mut self) -> Result<()> {
        for _ in 0..20 {
            match self.try_sync()? {
                Ok(()) => return Ok(()),
                Err(done) if done.status.code() == Some(Status::Unreachable as i32) => {}
                Err(done) => {
                    return violation(format!("sync: {}: {}", done.status, done.complaint));
                }
            }
        }
        violation("sync never succeeded")
    }

    /// The end of a `sync` that has begun when all up to `acked` was acknowledged; whether that is durable
    /// now. It may have failed, and say so.
    pub fn sync_ends(&mut self, mut sync: Process, acked: Option<u64>) -> Result<bool> {
        match sync.wait()? {
            Some(status) if status.success() => {
                self.tally.fault("synced");
                self.raise_floor(acked);
                Ok(true)
            }
            Some(status) if status.code().is_some_and(|code| (1..=10).contains(&code)) => Ok(false),
            Some(status) => violation(format!("sync: {status}: {}", sync.complaint())),
            None => violation("sync did not return within two minutes"),
        }
    }

    fn try_sync(&mut self) -> Result<std::result::Result<(), process::Output>> {
        let acked = self.acked()?;
        let log = self.path("log", "sync");
        match process::run(&mut self.bakelite("sync"), &log)? {
            Some(done) if done.status.success() => (),
            Some(done) => return Ok(Err(done)),
            None => return violation("sync did not return within two minutes"),
        }
        self.tally.fault("synced");
        self.raise_floor(acked);
        self.destinations.iter_mut().for_each(Destination::synced);
        Ok(Ok(()))
    }

    /// A `sync` that is told to wait no longer says that not all is durable.
    pub fn sync_in_vain(&mut self) -> Result<()> {
        let log = self.path("log", "sync");
        let mut command = self.bakelite("sync");
        match process::run(command.args(["--timeout", "3s"]), &log)? {
            Some(done) if done.status.code() == Some(Status::Unreachable as i32) => Ok(()),
            Some(done) => violation(format!("sync: {}: {}", done.status, done.complaint)),
            None => violation("sync did not return within two minutes"),
        }
    }

    /// Starts `bakelite sync` to be killed while it works.
    pub fn start_sync(&mut self) -> Result<Process> {
        let log = self.path("log", "sync");
        Ok(Process::spawn(self.bakelite("sync").stdout(Stdio::null()), &log)?)
    }

    fn raise_floor(&mut self, acked: Option<u64>) {
        let Some(seq) = acked else { return };
        let place = Place { seq, turns: self.host().turn };
        self.destinations.iter_mut().for_each(|it| it.raise_floor(place));
    }

    /// The last acknowledged commit as of now.
    pub fn acked(&mut self) -> Result<Option<u64>> {
        self.refresh()?;
        Ok(self.truth.line(self.host().branch).acked())
    }

    pub fn refresh(&mut self) -> Result<()> {
        Ok(self.truth.refresh()?)
    }

    /// Ends what still runs; what the ledgers noted becomes part of the figures.
    pub fn finish(&mut self) -> Result<()> {
        self.hosts.iter_mut().for_each(Host::end);
        self.server = None;
        (self.disk, self.ram) = (None, None);
        self.note_lies();
        self.refresh()?;
        self.tally.commits = self.truth.commits();
        for (what, times) in self.truth.all_events() {
            self.tally.faults(what, times);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_104_ledgers_lie_away_from_the_database() {
        let dir = tempfile::tempdir().unwrap();
        let programs = Programs { bakelite: "/none".into(), torture: "/none".into() };
        let mut rig = Rig::new(1, &programs, dir.path()).unwrap();
        let home = rig.db().parent().unwrap().to_owned();
        assert!(!rig.path("ledger", "writer-0").starts_with(home));
    }

    /// The workload opens it, in a process of its own; the oracle opens restored files; `bytes`
    /// opens a copy, `fuzz` what it has made itself. Nothing else here may open any database.
    #[test]
    fn trap_105_the_harness_does_not_open_the_live_database() {
        let allowed = [
            "bench/load.rs",
            "oracle.rs",
            "bytes.rs",
            "workload/mod.rs",
            "workload/tests.rs",
            "digest.rs",
            "fuzz/recovery.rs",
        ];
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut folders = vec![src.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(&src).unwrap().to_str().unwrap();
                let opens = std::fs::read_to_string(&path)
                    .unwrap()
                    .contains(concat!("Connection", "::open"));
                assert!(!opens || allowed.contains(&name), "{name} opens a database");
            }
        }
    }
}
