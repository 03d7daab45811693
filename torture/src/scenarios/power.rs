//! The power goes: what was not synced is gone, on the disk of the database and, by seed, on that of
//! the replica.

use super::{ALL, busy};
use crate::rig::{Disk, Failure, Result, Rig};
use crate::workload::writer::Args;

/// What is on the disk that loses power, in turn over the seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hit {
    /// The database and the daemon's state: the replica may be ahead of what is recovered.
    Source,
    /// The destination: what it has not synced is gone, though it was there to be restored.
    Replica,
    /// Both, as on one machine.
    Both,
}

pub fn loss(rig: &mut Rig) -> Result<()> {
    let hit = [Hit::Source, Hit::Replica, Hit::Both][(rig.seed % 3) as usize];
    put_on_disk(rig, hit)?;
    rig.create(application(rig.seed))?;
    // There is a database to come back to, at least.
    rig.act("checkpoint TRUNCATE")?;
    for _ in 0..3 {
        live(rig)?;
        rig.lose_power()?;
        match hit {
            Hit::Source | Hit::Both => rig.crash()?,
            // The application goes on; the daemon may find out that its destination does not.
            Hit::Replica => {
                rig.random_wait(20);
                rig.end_daemon()?;
            }
        }
        rig.restore_power()?;
        if hit != Hit::Source {
            rig.floor_is_what_was_promised();
        }
        // Before anything has been started again.
        rig.grade_latest()?;
        come_back(rig, hit)?;
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

fn put_on_disk(rig: &mut Rig, hit: Hit) -> Result<()> {
    let mount = rig.dir.join("disk");
    rig.disk = Some(Disk::new(&rig.dir.join("image"), &mount)?);
    rig.tally.fault(match hit {
        Hit::Source => "source on the disk",
        Hit::Replica => "replica on the disk",
        Hit::Both => "both on the disk",
    });
    if hit != Hit::Replica {
        rig.move_home(mount.join("app"))?;
    }
    if hit != Hit::Source {
        rig.move_replica(&mount.join("replica"));
    }
    Ok(())
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
            promise(rig)?;
            rig.go()?;
        }
    }
    // The power goes under load, or when all is said to be durable and nothing has been synced since.
    match rig.rng.one_in(3) {
        true => promise(rig),
        false => {
            rig.random_wait(60);
            Ok(())
        }
    }
}

/// At rest, so that what is kept in mind is what `sync` has promised.
fn promise(rig: &mut Rig) -> Result<()> {
    rig.pause()?;
    rig.sync()?;
    rig.keep_latest()
}

/// The application goes on from what SQLite has recovered, the daemon from what it finds.
fn come_back(rig: &mut Rig, hit: Hit) -> Result<()> {
    let daemon_first = rig.rng.one_in(2);
    if daemon_first {
        rig.start_daemon()?;
    }
    if hit != Hit::Replica {
        recover(rig)?;
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

/// A writer opens what is left of the database. It may be less than was committed.
fn recover(rig: &mut Rig) -> Result<()> {
    let acked = rig.acked()?.unwrap_or_default();
    rig.fork();
    let found = rig.start_writer(application(rig.seed))?;
    if found < acked {
        rig.tally.faults("commit lost by the source", acked - found);
    }
    Ok(())
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
