//! The application checkpoints and resets the WAL, under the daemon and while it is away.

use super::busy;
use crate::rig::{Result, Rig};
use crate::workload::writer::Args;

pub fn truncate(rig: &mut Rig) -> Result<()> {
    by_itself(rig, "TRUNCATE")
}

pub fn restart(rig: &mut Rig) -> Result<()> {
    by_itself(rig, "RESTART")
}

pub fn full(rig: &mut Rig) -> Result<()> {
    by_itself(rig, "FULL")
}

fn by_itself(rig: &mut Rig, mode: &str) -> Result<()> {
    let pace = *rig.rng.pick(&[None, Some(500)]);
    under_the_daemon(rig, Args { checkpoint: Some(mode.to_owned()), pace, ..busy() })
}

pub fn automatic(rig: &mut Rig) -> Result<()> {
    let pages = rig.rng.between(3, 60) as u32;
    under_the_daemon(rig, Args { autocheckpoint: Some(pages), ..busy() })
}

pub fn toggled(rig: &mut Rig) -> Result<()> {
    under_the_daemon(rig, Args { autocheckpoint: Some(30), toggle: Some(120), ..busy() })
}

pub fn limited(rig: &mut Rig) -> Result<()> {
    under_the_daemon(rig, Args { autocheckpoint: Some(30), size_limit: Some(0), ..busy() })
}

fn under_the_daemon(rig: &mut Rig, args: Args) -> Result<()> {
    rig.create(Args { commits: Some(600), ..args })?;
    rig.start_daemon()?;
    rig.go()?;
    for _ in 0..4 {
        rig.random_wait(80);
        rig.note_resets();
        rig.sync()?;
        rig.grade_latest()?;
    }
    let seq = rig.writers_done()?;
    rig.note_resets();
    rig.sync_exactly(seq)?;
    rig.grade_some(6)?;
    rig.drain()?;
    rig.grade_exact(seq)
}

pub fn away(rig: &mut Rig) -> Result<()> {
    let mode = *rig.rng.pick(&["TRUNCATE", "RESTART", "PASSIVE"]);
    rig.create(Args { checkpoint: Some(mode.to_owned()), pace: Some(200), ..busy() })?;
    rig.start_daemon()?;
    for _ in 0..6 {
        rig.go()?;
        rig.random_wait(60);
        // Half of the time it has captured everything when it leaves.
        if rig.rng.one_in(2) {
            rig.pause()?;
            rig.sync()?;
            rig.go()?;
        }
        match rig.rng.one_in(2) {
            true => rig.kill_daemon()?,
            false => rig.drain()?,
        }
        rig.tally.fault("away");
        rig.random_wait(100);
        let seq = rig.pause()?;
        rig.grade_latest()?;
        rig.start_daemon()?;
        rig.sync_exactly(seq)?;
    }
    rig.grade_some(6).map(drop)
}
