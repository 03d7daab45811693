//! The power goes: what was not synced is gone, on the disk of the database and, by seed, on that of
//! the replica.

use super::{ALL, busy};
use crate::rig::{Disk, Failure, Result, Rig};
use crate::workload::writer::Args;

pub fn loss(rig: &mut Rig) -> Result<()> {
    let replica_too = power_goes_for_the_replica(rig)?;
    rig.create(application(rig.seed))?;
    for _ in 0..3 {
        live(rig)?;
        rig.lose_power()?;
        rig.crash()?;
        rig.restore_power()?;
        if replica_too {
            rig.floor_is_what_was_promised();
        }
        // Before anything has been started again.
        rig.grade_latest()?;
        come_back(rig)?;
        rig.recheck(4)?;
    }
    let seq = rig.pause()?;
    rig.drain()?;
    rig.grade_exact(seq)?;
    rig.grade_bytes()?;
    rig.recheck(ALL)?;
    rig.grade_branches(4)?;
    rig.grade_some(8).map(drop)
}

/// Puts the database on a disk of its own, and half of the time the replica with it.
fn power_goes_for_the_replica(rig: &mut Rig) -> Result<bool> {
    let mount = rig.dir.join("disk");
    rig.disk = Some(Disk::new(&rig.dir.join("image"), &mount)?);
    let both = rig.seed.is_multiple_of(2);
    rig.settle(mount.join("app"), both.then(|| mount.join("replica")))?;
    rig.tally.fault(if both { "replica on the disk" } else { "replica elsewhere" });
    Ok(both)
}

/// Often checkpoints, which SQLite syncs, or seldom: much or little of the WAL is on the disk then.
fn application(seed: u64) -> Args {
    let autocheckpoint = [None, Some(20), Some(200)][(seed % 3) as usize];
    Args { paused: true, pace: Some(300), autocheckpoint, ..busy() }
}

fn live(rig: &mut Rig) -> Result<()> {
    if rig.host().daemon.is_none() {
        rig.start_daemon()?;
    }
    rig.go()?;
    for _ in 0..2 {
        rig.random_wait(80);
        if rig.rng.one_in(2) {
            // At rest, so that what is kept in mind is what `sync` has promised.
            rig.pause()?;
            rig.sync()?;
            rig.keep_latest()?;
            rig.go()?;
        }
    }
    rig.random_wait(60);
    Ok(())
}

/// The application goes on from what SQLite has recovered, the daemon from what it finds.
fn come_back(rig: &mut Rig) -> Result<()> {
    let acked = rig.acked()?.unwrap_or_default();
    let daemon_first = rig.rng.one_in(2);
    if daemon_first {
        rig.start_daemon()?;
    }
    rig.fork();
    let found = rig.start_writer(application(rig.seed))?;
    if found < acked {
        rig.tally.faults("commit lost by the source", acked - found);
    }
    if !daemon_first {
        rig.start_daemon()?;
    }
    rig.go()?;
    rig.random_wait(40);
    let seq = rig.pause()?;
    rig.sync_exactly(seq)?;
    rig.keep_latest()?;
    rig.keep_some(3)
}

impl Rig {
    fn lose_power(&mut self) -> Result<()> {
        self.disk.as_ref().ok_or_else(no_disk)?.lose_power()?;
        self.tally.fault("power lost");
        Ok(())
    }

    fn restore_power(&mut self) -> Result<()> {
        self.disk.as_mut().ok_or_else(no_disk)?.restore_power()
    }
}

fn no_disk() -> Failure {
    Failure::Harness("there is no disk to lose power".into())
}
