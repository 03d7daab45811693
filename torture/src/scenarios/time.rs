//! Points in time, asked for while commits keep coming.

use super::busy;
use crate::ledger::Micros;
use crate::rig::{Result, Rig};
use crate::workload::writer::Args;
use bakelite::commit::Time;

const BATCHES: u64 = 10;
const TARGETS: u64 = 20;

pub fn targets(rig: &mut Rig) -> Result<()> {
    rig.create(Args { pace: Some(1500), ..busy() })?;
    rig.start_daemon()?;
    rig.sync()?;
    let start = Micros::now();
    rig.go()?;
    for batch in 0..BATCHES {
        rig.random_wait(150);
        rig.sync()?;
        match batch % 2 {
            0 => times(rig, start)?,
            _ => commits(rig)?,
        }
        rig.daemon_lives()?;
    }
    rig.pause()?;
    rig.drain()
}

fn times(rig: &mut Rig, start: Micros) -> Result<()> {
    let (from, to) = (start.0 / 1000 - 20, Micros::now().0 / 1000);
    let mut times: Vec<u64> = (0..TARGETS).map(|_| rig.rng.between(from, to)).collect();
    times.sort_unstable();
    let mut after = None;
    for time in times {
        after = rig.grade_at(Time(time), after)?.or(after);
        rig.tally.fault("target time");
    }
    Ok(())
}

fn commits(rig: &mut Rig) -> Result<()> {
    let before = rig.tally.targets;
    rig.grade_some(TARGETS as usize)?;
    let times = rig.tally.targets - before;
    rig.tally.faults("target commit", times);
    Ok(())
}
