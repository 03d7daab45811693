//! Clocks that are wrong: the store's is not the host's, and the host's is set while the daemon runs.
//!
//! What a commit is stamped with is the host's affair. What must not depend on it: that whatever was
//! shipped comes back, that no lock is too short by the store's clock, and that a time asked for lands
//! on the last commit that is stamped with it or earlier.

use super::busy;
use super::upkeep::listed;
use crate::clock::Clock;
use crate::rig::{Result, Rig, Step, violation};
use crate::workload::writer::Args;
use bakelite::commit::CommitNo;
use bakelite::config::{Lock, LockMode};
use std::thread;
use std::time::{Duration, Instant};

/// By then a daemon has made a round of upkeep, unless the machine is very slow.
const ROUND: Duration = Duration::from_millis(1300);
/// Far beyond what a snapshot takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// The shortest lock there is.
const LOCK: Lock = Lock { period: Duration::from_secs(60), mode: LockMode::Governance };
const SETTINGS: &str = "ship_interval = \"100ms\"\nsnapshot_interval = \"1s\"\n\
     compaction = [\"500ms\", \"1s\"]\nkeep = [\"all:2h\", \"1m:1d\"]";
/// No run lasts for two hours: all that was ever shipped is to be kept, whatever a clock shows.
const STEPS: [Step; 1] = [Step { density: 0, age: u64::MAX }];

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// The places of the destinations.
const DIRECTORY: usize = 0;
const BUCKET: usize = 1;

pub fn clocks(rig: &mut Rig) -> Result<()> {
    let (mut clock, program) = Clock::new(&rig.programs.torture, &rig.dir)?;
    rig.programs.bakelite = program;
    rig.set_destinations(Vec::new());
    rig.add_named_directory("disk-1")?;
    rig.add_locked_store(LOCK)?;
    rig.set(SETTINGS)?;
    rig.cast_shadow(&STEPS)?;
    rig.create(Args { pace: Some(6000), ..busy() })?;
    rig.go()?;
    // Within what a store takes, and then beyond that.
    let off = rig.rng.between(2, 13) as i64 * MINUTE;
    let behind = rig.rng.one_in(2);
    clock.set(if behind { -off } else { off })?;
    rig.tally.fault(if behind {
        "clock behind from the start"
    } else {
        "clock ahead from the start"
    });
    rig.start_daemon()?;
    rig.sync()?;
    thread::sleep(ROUND);
    grade(rig)?;
    step(rig, &mut clock, if behind { off } else { -off })?;
    rig.sync()?;
    thread::sleep(ROUND);
    grade(rig)?;
    away(rig, &mut clock)?;
    if rig.rng.one_in(2) {
        rig.kill_daemon()?;
        rig.start_daemon()?;
    }
    // Every lock of before has ended, by the store's clock.
    rig.store().set_clock(3 * MINUTE);
    step(rig, &mut clock, 0)?;
    rig.sync_in_the_end()?;
    thread::sleep(ROUND);
    grade(rig)?;
    snapshots_go_on(rig)?;
    let seq = rig.pause()?;
    rig.sync()?;
    rig.grade_all_exact(seq)?;
    rig.drain()?;
    for verb in ["compact", "prune"] {
        rig.upkeep(verb)?;
    }
    rig.grade_all_exact(seq)?;
    grade(rig)?;
    let seen = rig.store().seen();
    rig.tally.faults("refused for its clock", seen.skewed);
    rig.tally.faults("lock held", seen.locked);
    rig.tally.faults("removed once its lock had ended", seen.let_go);
    Ok(())
}

/// Half a year or more: the bucket takes nothing any more, and the directory knows no better.
fn away(rig: &mut Rig, clock: &mut Clock) -> Result<()> {
    let leap = rig.rng.between(180, 4000) as i64 * DAY;
    let leap = if rig.rng.one_in(4) { -leap } else { leap };
    step(rig, clock, leap)?;
    rig.goes_on(DIRECTORY)?;
    thread::sleep(ROUND);
    // A round of its own, by the clock as it is.
    rig.upkeep("prune")?;
    grade(rig)
}

/// Waits for the next snapshot: without one the locks of those parts that stay would end.
fn snapshots_go_on(rig: &mut Rig) -> Result<()> {
    rig.mean(BUCKET);
    let newest = |rig: &Rig| -> Result<Option<CommitNo>> {
        Ok(listed(rig)?.1.snapshots.iter().map(|span| span.last).max())
    };
    let (before, began) = (newest(rig)?, Instant::now());
    while newest(rig)? <= before {
        if began.elapsed() > PATIENCE {
            return violation(format!("no snapshot since the clock was set, after {before:?}"));
        }
        thread::sleep(ROUND / 10);
    }
    rig.tally.fault("snapshot after the clock was set");
    Ok(())
}

fn step(rig: &mut Rig, clock: &mut Clock, ahead: i64) -> Result<()> {
    rig.tally.fault(if ahead > clock.ahead_ms {
        "clock stepped ahead"
    } else {
        "clock stepped back"
    });
    let by = if ahead > 0 { "clock ahead" } else { "clock behind" };
    rig.tally.faults(by, u64::from(ahead != 0));
    Ok(clock.set(ahead)?)
}

/// Both have all that they were given, at the times that it was stamped with.
fn grade(rig: &mut Rig) -> Result<()> {
    for at in [DIRECTORY, BUCKET] {
        rig.mean(at);
        rig.grade_kept(1)?;
    }
    match rig.store().seen().wrong.first() {
        None => Ok(()),
        Some(wrong) => violation(format!("by the store's clock: {wrong}")),
    }
}
