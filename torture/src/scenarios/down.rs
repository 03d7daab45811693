//! The daemon is away while the application does to its WAL whatever an application can do.

use super::{ALL, busy};
use crate::rig::{Result, Rig, Wal, violation};
use crate::rng::shuffle;
use crate::workload::writer::Args;

/// What happens while the daemon is away, each to be recognized when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    /// The old generation grows, is written back, and the WAL begins anew with less in it. A reader
    /// that trusts the length of the file takes the new frames for old ones.
    FewerFrames,
    /// Commits without a reset: the cursor is still right.
    Appended,
    Truncated,
    /// The last connection of the application removes the WAL.
    Closed,
    /// Two and more generations come and go unseen.
    Resets,
    /// Commits in another journal mode, which no WAL has seen.
    LeftWal,
    Reshaped,
}

use Outage::*;

pub fn down(rig: &mut Rig) -> Result<()> {
    rig.create(Args { pace: Some(300), ..busy() })?;
    let mut outages = [FewerFrames, Appended, Truncated, Closed, Resets, LeftWal, Reshaped];
    shuffle(&mut rig.rng, &mut outages);
    for outage in outages {
        rig.start_daemon()?;
        rig.go()?;
        rig.random_wait(60);
        leave(rig)?;
        rig.keep_latest()?;
        rig.keep_some(2)?;
        happen(rig, outage)?;
        rig.start_daemon()?;
        let seq = settle(rig)?;
        rig.grade_exact(seq)?;
        rig.recheck(4)?;
        rig.drain()?;
        rig.grade_exact(seq)?;
    }
    rig.grade_bytes()?;
    rig.recheck(ALL)?;
    rig.grade_some(6).map(drop)
}

/// The daemon goes, killed or told to, having captured everything or not. The writer rests then.
fn leave(rig: &mut Rig) -> Result<()> {
    if rig.rng.one_in(2) {
        rig.pause()?;
        rig.sync()?;
        rig.go()?;
    }
    if rig.rng.one_in(2) {
        rig.pause()?;
    }
    match rig.rng.one_in(3) {
        true => rig.drain()?,
        false => rig.kill_daemon()?,
    }
    rig.pause().map(drop)
}

/// The daemon is back, at once told to end or with the application going on; the last seq then.
fn settle(rig: &mut Rig) -> Result<u64> {
    if rig.rng.one_in(2) {
        rig.go()?;
        rig.random_wait(40);
    }
    let seq = rig.pause()?;
    rig.sync()?;
    Ok(seq)
}

fn happen(rig: &mut Rig, outage: Outage) -> Result<()> {
    match outage {
        FewerFrames => fewer_frames(rig),
        Appended => {
            some(rig, 30)?;
            rig.tally.fault("appended");
            Ok(())
        }
        Truncated => {
            some(rig, 20)?;
            rig.act("checkpoint TRUNCATE")?;
            if rig.wal_path().metadata()?.len() == 0 {
                rig.tally.fault("truncated");
            }
            some(rig, 20)
        }
        Closed => {
            some(rig, 20)?;
            rig.stop_writers()?;
            if !rig.wal_path().exists() {
                rig.tally.fault("removed by the last close");
            }
            reopen(rig)?;
            some(rig, 20)
        }
        Resets => resets(rig),
        LeftWal => {
            rig.act("leave-wal")?;
            some(rig, 20)?;
            rig.act("return-to-wal")?;
            some(rig, 10)
        }
        Reshaped => {
            let sizes = [512, 1024, 4096, 8192, 65536];
            let page_size = *rig.rng.pick(&sizes);
            rig.act("leave-wal")?;
            rig.act(&format!("reshape {page_size}"))?;
            rig.act("return-to-wal")?;
            some(rig, 10)
        }
    }
}

/// None to `most` commits.
fn some(rig: &mut Rig, most: u64) -> Result<()> {
    match rig.rng.below(most + 1) {
        0 => Ok(()),
        number => rig.act(&format!("commit {number}")).map(drop),
    }
}

fn reopen(rig: &mut Rig) -> Result<()> {
    rig.start_writer(Args { paused: true, pace: Some(300), ..busy() }).map(drop)
}

/// Appends to the old generation, writes it back, and begins a new one with fewer frames than the
/// daemon has seen.
fn fewer_frames(rig: &mut Rig) -> Result<()> {
    let many = rig.rng.between(20, 40);
    rig.act(&format!("commit {many}"))?;
    let before = rig.wal();
    rig.act("checkpoint RESTART")?;
    let few = rig.rng.between(1, 3);
    rig.act(&format!("commit {few}"))?;
    let (Some(before), Some(after)) = (before, rig.wal()) else {
        return violation("a database in WAL mode has no WAL");
    };
    if after.salts != before.salts && after.frames < before.frames {
        rig.tally.fault("restarted with fewer frames");
    }
    Ok(())
}

fn resets(rig: &mut Rig) -> Result<()> {
    let counter = |wal: Option<Wal>| wal.map_or(0, |wal| wal.counter);
    some(rig, 10)?;
    rig.act("commit 1")?;
    let before = counter(rig.wal());
    for _ in 0..rig.rng.between(2, 4) {
        rig.act("checkpoint RESTART")?;
        let number = rig.rng.between(1, 15);
        rig.act(&format!("commit {number}"))?;
    }
    if counter(rig.wal()) >= before + 2 {
        rig.tally.fault("reset twice");
    }
    Ok(())
}
