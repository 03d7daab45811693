//! What has to work before anything breaks.

use super::busy;
use crate::course::Place;
use crate::rig::{Result, Rig, violation};
use crate::workload::writer::Args;

pub fn marked(rig: &mut Rig) -> Result<()> {
    rig.create(Args { commits: Some(250), pace: Some(500), vacuum: Some(60), ..busy() })?;
    rig.start_daemon()?;
    rig.go()?;
    rig.sync()?;
    rig.grade_latest()?;
    let seq = rig.writers_done()?;
    rig.sync_exactly(seq)?;
    rig.grade_some(8)?;
    rig.drain()?;
    rig.grade_exact(seq)?;
    rig.grade_bytes()
}

pub fn drain(rig: &mut Rig) -> Result<()> {
    rig.create(busy())?;
    for _ in 0..4 {
        rig.start_daemon()?;
        rig.go()?;
        rig.random_wait(150);
        let seq = rig.pause()?;
        rig.drain()?;
        rig.grade_exact(seq)?;
        rig.grade_bytes()?;
    }
    Ok(())
}

pub fn several(rig: &mut Rig) -> Result<()> {
    let args = Args { commits: Some(150), ..busy() };
    rig.create(Args { vacuum: Some(60), ..args.clone() })?;
    let quiet = Args { paused: true, vacuum: None, ..args };
    let checkpoint = Some("PASSIVE".to_owned());
    rig.start_writer(Args { writer: 1, checkpoint, ..quiet.clone() })?;
    rig.start_writer(Args { writer: 2, ..quiet })?;
    rig.tally.fault("several writers");
    rig.start_daemon()?;
    rig.go()?;
    for _ in 0..3 {
        rig.sync()?;
        rig.grade_latest()?;
    }
    let seq = rig.writers_done()?;
    rig.sync_exactly(seq)?;
    rig.grade_some(6)?;
    rig.drain()?;
    rig.grade_exact(seq)
}

/// Watched without a break, every commit is a restore point: from one to the next the seq stays
/// (VACUUM) or grows by one.
pub fn every_commit(rig: &mut Rig) -> Result<()> {
    rig.create(Args { commits: Some(120), pace: Some(400), vacuum: Some(40), ..busy() })?;
    rig.start_daemon()?;
    rig.sync()?;
    rig.go()?;
    let seq = rig.writers_done()?;
    rig.drain()?;
    rig.grade_exact(seq)?;
    let listed = rig.listed()?;
    rig.tally.faults("listed", listed.len() as u64);
    let mut after: Option<Place> = None;
    for commit in listed {
        let landed = rig.grade_commit(commit, after)?;
        if after.is_none() && landed.seq > 0 {
            return violation(format!("the first commit listed is seq {}, not 0", landed.seq));
        }
        if let Some(after) = after.filter(|after| landed.seq > after.seq + 1) {
            let (landed, after) = (landed.seq, after.seq);
            return violation(format!("commit {commit} is seq {landed}, the one before {after}"));
        }
        after = Some(landed);
    }
    match after.is_some_and(|after| after.seq == seq) {
        true => Ok(()),
        false => violation(format!("the last commit listed is seq {after:?}, not {seq}")),
    }
}
