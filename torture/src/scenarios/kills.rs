//! Processes that die or stop at any moment.

use super::busy;
use crate::oracle::Expect;
use crate::process::{PATIENCE, Signal};
use crate::rig::{Result, Rig, violation};
use crate::store::{Moment, Stop};
use crate::workload::writer::Args;
use std::thread;
use std::time::{Duration, Instant};

/// Saturating, brisk or slow, by seed.
fn pace(rig: &mut Rig) -> Option<u64> {
    *rig.rng.pick(&[None, Some(300), Some(3000)])
}

pub fn unsynced(rig: &mut Rig) -> Result<()> {
    let pace = pace(rig);
    rig.create(Args { pace, ..busy() })?;
    rig.go()?;
    for _ in 0..4 {
        rig.start_daemon()?;
        rig.sync()?;
        rig.random_wait(60);
        rig.kill_daemon()?;
        rig.grade_latest()?;
    }
    let seq = rig.pause()?;
    rig.start_daemon()?;
    rig.sync_exactly(seq)
}

pub fn daemon(rig: &mut Rig) -> Result<()> {
    let pace = pace(rig);
    rig.create(Args { pace, ..busy() })?;
    rig.go()?;
    for life in 0..25 {
        rig.start_daemon()?;
        // Short lives die while they start, long ones while they ship.
        let most_ms = *rig.rng.pick(&[5, 30, 150]);
        rig.random_wait(most_ms);
        if life % 4 == 3 {
            rig.sync()?;
            rig.random_wait(20);
        }
        rig.kill_daemon()?;
        rig.grade_latest()?;
        if life % 8 == 7 {
            rig.grade_some(2)?;
        }
    }
    let seq = rig.pause()?;
    rig.start_daemon()?;
    rig.sync_exactly(seq)?;
    rig.grade_some(4)?;
    rig.drain()?;
    rig.grade_exact(seq)
}

pub fn sync(rig: &mut Rig) -> Result<()> {
    let pace = pace(rig);
    rig.create(Args { pace, ..busy() })?;
    rig.go()?;
    for pass in 0..20 {
        let mut sync = rig.start_sync()?;
        rig.random_wait(40);
        match sync.kill()? {
            Ok(()) => rig.tally.fault("sync killed"),
            Err(status) if status.success() => rig.tally.fault("sync was faster"),
            Err(status) => return violation(format!("sync: {status}: {}", sync.complaint())),
        }
        rig.grade_latest()?;
        if pass % 5 == 4 {
            rig.sync()?;
            rig.grade_latest()?;
        }
    }
    let seq = rig.pause()?;
    rig.sync_exactly(seq)
}

pub fn writer(rig: &mut Rig) -> Result<()> {
    let args = Args { paused: true, pace: Some(200), ..busy() };
    rig.create(args.clone())?;
    rig.start_writer(Args { writer: 1, ..args })?;
    rig.start_daemon()?;
    for round in 0..10 {
        rig.go()?;
        rig.random_wait(60);
        let mut dead = vec![rig.kill_writer(0)?];
        let all = round % 2 == 1;
        if all {
            dead.push(rig.kill_writer(0)?);
        }
        let mut found = Vec::new();
        for args in dead {
            found.push(rig.start_writer(args)?);
        }
        rig.sync()?;
        match all {
            // Nobody has written since the last one died: the new ones see what was committed.
            true => rig.grade_exact(found[0])?,
            false => drop(rig.grade_latest()?),
        }
    }
    rig.go()?;
    let seq = rig.stop_writers()?;
    rig.drain()?;
    rig.grade_exact(seq)
}

pub fn restore(rig: &mut Rig) -> Result<()> {
    rig.create(Args { commits: Some(200), ..busy() })?;
    rig.go()?;
    let seq = rig.writers_done()?;
    rig.sync_exactly(seq)?;
    let expect = Expect { exactly: Some(rig.truth.course.here(seq)), ..Expect::default() };
    for _ in 0..12 {
        let target = rig.new_output()?;
        let mut restore = rig.start_restore(&target)?;
        rig.random_wait(30);
        match restore.kill()? {
            Ok(()) => rig.tally.fault("restore killed"),
            Err(status) if status.success() => rig.tally.fault("restore was faster"),
            Err(status) => return violation(format!("restore: {status}: {}", restore.complaint())),
        }
        // A target that is there is whole.
        if target.exists() {
            rig.judge(&target, &expect)?;
        }
        let mut restore = rig.start_restore(&target)?;
        if !restore.wait()?.is_some_and(|status| status.success()) {
            return violation(format!("a restore after a killed one: {}", restore.complaint()));
        }
        rig.judge(&target, &expect)?;
    }
    Ok(())
}

/// One seed in four is stopped for longer than anything waits.
pub fn stalled(rig: &mut Rig) -> Result<()> {
    match rig.seed % 4 {
        0 => at_length(rig),
        _ => for_moments(rig),
    }
}

fn for_moments(rig: &mut Rig) -> Result<()> {
    rig.create(Args { autocheckpoint: Some(20), ..busy() })?;
    rig.start_daemon()?;
    for _ in 0..5 {
        rig.go()?;
        rig.random_wait(40);
        rig.note_resets();
        rig.signal_daemon(Signal::Stop)?;
        rig.tally.fault("daemon stopped");
        rig.random_wait(150);
        let seq = rig.pause()?;
        rig.note_resets();
        rig.signal_daemon(Signal::Continue)?;
        rig.sync_exactly(seq)?;
    }
    rig.go()?;
    rig.random_wait(40);
    rig.terminate_twice()?;
    rig.grade_latest().map(drop)
}

/// How long a `check` demands that nothing be owed, in seconds.
const MAX_AGE: u64 = 5;
/// When the store closes the connection of a request that stands still, in milliseconds at most.
const CLOSES: u64 = 2000;

/// The daemon is stopped in the middle of a request, and whatever it has begun is past its time when it
/// goes on: the connection is closed, retries have ended, timers are due, the WAL has been held or has
/// begun anew again and again.
fn at_length(rig: &mut Rig) -> Result<()> {
    rig.add_store()?;
    // A writer that never rests is one that nothing is pinned against: it goes on for a moment only.
    let pace = *rig.rng.pick(&[None, Some(10_000)]);
    rig.create(Args { autocheckpoint: Some(20), pace, ..busy() })?;
    rig.start_daemon()?;
    rig.go()?;
    rig.sync()?;
    let moment = *rig.rng.pick(&[Moment::Before, Moment::After]);
    let skip = rig.rng.below(3);
    rig.store().stop_at(Stop { method: "PUT", kinds: &["/change/"], skip, moment });
    if !rig.store().wait_for_stop(PATIENCE) {
        return violation("nothing was put for two minutes, beside a writer");
    }
    rig.note_resets();
    rig.signal_daemon(Signal::Stop)?;
    let stopped = Instant::now();
    rig.random_wait(CLOSES);
    rig.store().let_go();
    if pace.is_none() {
        rig.pause()?;
    }
    // Past what a request may take, and its retries.
    let (fault, least, most) = match rig.long {
        true => ("stopped for minutes", 120_000, 240_000),
        false => ("stopped for seconds", 16_000, 20_000),
    };
    let time = Duration::from_millis(rig.rng.between(least, most));
    thread::sleep(Duration::from_secs(MAX_AGE + 1));
    rig.check_is_stale(MAX_AGE)?;
    rig.grade_claims()?;
    thread::sleep(time.saturating_sub(stopped.elapsed()));
    rig.note_resets();
    rig.go()?;
    rig.signal_daemon(Signal::Continue)?;
    rig.tally.fault("daemon stopped");
    rig.tally.fault(fault);
    // It catches up while the application goes on.
    rig.sync()?;
    rig.grade_claims()?;
    let seq = rig.pause()?;
    rig.sync()?;
    rig.grade_all_exact(seq)?;
    rig.grade_some(4)?;
    rig.go()?;
    rig.random_wait(100);
    let seq = rig.stop_writers()?;
    rig.drain()?;
    rig.grade_all_exact(seq)
}
