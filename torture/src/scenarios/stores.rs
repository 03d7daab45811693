//! A store that lies, one that is away, and one that does not keep what it promises to.

use super::busy;
use super::damage::only_short;
use crate::oracle::Expect;
use crate::rig::{Result, Rig, Verdict, violation};
use crate::store::Door;
use crate::workload::writer::Args;
use bakelite::restore::Target;

/// The places of the destinations.
const DIRECTORY: usize = 0;
const BUCKET: usize = 1;

fn begin(rig: &mut Rig) -> Result<()> {
    rig.add_store()?;
    let pace = Some(*rig.rng.pick(&[500, 3000]));
    rig.create(Args { pace, ..busy() })
}

impl Rig {
    /// Each destination holds what is claimed of it.
    pub(super) fn grade_claims(&mut self) -> Result<()> {
        (0..self.count()).try_for_each(|at| {
            self.mean(at);
            self.grade_claim()
        })
    }
}

pub fn lying(rig: &mut Rig) -> Result<()> {
    begin(rig)?;
    rig.store().lie(Some(6));
    rig.go()?;
    for life in 0..4 {
        rig.start_daemon()?;
        let most_ms = *rig.rng.pick(&[100, 1500]);
        rig.random_wait(most_ms);
        if life == 2 {
            rig.sync_in_the_end()?;
        }
        rig.grade_claims()?;
        rig.kill_daemon()?;
        rig.grade_claims()?;
    }
    let seq = rig.pause()?;
    rig.start_daemon()?;
    rig.sync_in_the_end()?;
    rig.grade_all_exact(seq)?;
    rig.store().lie(None);
    rig.drain()?;
    rig.grade_all_exact(seq)?;
    rig.grade_some(2).map(drop)
}

pub fn outage(rig: &mut Rig) -> Result<()> {
    begin(rig)?;
    rig.go()?;
    rig.start_daemon()?;
    rig.sync()?;
    rig.until_further(DIRECTORY)?;
    let (door, fault) = match rig.seed % 2 {
        0 => (Door::Closed, "refused"),
        _ => (Door::Hanging, "hung"),
    };
    rig.store().door(door);
    rig.mean(BUCKET);
    rig.until_behind()?;
    // The others have not waited until it was given up: that takes six times as long.
    if door == Door::Hanging && !rig.store().is_waited_for() {
        return violation("a store that never answers was waited for until the request gave up");
    }
    rig.tally.fault(fault);
    rig.goes_on(DIRECTORY)?;
    rig.kill_daemon()?;
    rig.grade_claims()?;
    rig.start_daemon()?;
    rig.tally.fault("started in an outage");
    rig.goes_on(DIRECTORY)?;
    rig.grade_claims()?;
    rig.store().door(Door::Open);
    let seq = rig.stop_writers()?;
    rig.sync()?;
    rig.grade_all_exact(seq)?;
    rig.drain()?;
    rig.grade_all_exact(seq)
}

/// Nobody notices before somebody asks what is there: a floor that is claimed meanwhile is found wrong. A
/// `sync` asks, and then it is made good.
pub fn dropping(rig: &mut Rig) -> Result<()> {
    begin(rig)?;
    rig.go()?;
    rig.start_daemon()?;
    rig.sync()?;
    rig.store().drop_puts(1);
    while rig.store().dropped() == 0 {
        rig.random_wait(50);
    }
    rig.tally.faults("put dropped", rig.store().dropped());
    let seq = rig.pause()?;
    rig.mean(BUCKET);
    let exactly = Some(rig.truth.course.here(seq));
    let expect = Expect { exactly, ..Expect::default() };
    let source = rig.source();
    match rig.verdict(&source, Target::Latest, &expect)? {
        Verdict::Judged { grade, .. } if grade.is_right() => {
            return violation("a store has dropped a change-set, and nobody has seen it");
        }
        Verdict::Judged { grade, .. } if only_short(&grade.violations) => {
            rig.tally.fault("shorter history");
        }
        Verdict::Refused(refused) if refused.is_integrity() => rig.tally.rejected += 1,
        verdict => return violation(format!("without a change-set: {verdict:?}")),
    }
    rig.sync_in_vain()?;
    rig.store().keep_puts();
    rig.sync()?;
    rig.grade_all_exact(seq)
}

/// What rots beneath the daemon is refused, never taken for something else; `verify` finds it, and `repair`
/// makes it good from the directory.
pub fn rotting(rig: &mut Rig) -> Result<()> {
    begin(rig)?;
    rig.go()?;
    rig.start_daemon()?;
    rig.sync()?;
    rig.store().damage_puts(3);
    while rig.store().damaged() < 3 {
        rig.random_wait(100);
        rig.sync()?;
    }
    rig.tally.faults("put damaged", rig.store().damaged());
    let seq = rig.pause()?;
    rig.sync()?;
    rig.mean(DIRECTORY);
    rig.grade_exact(seq)?;
    rig.mean(BUCKET);
    let exactly = Some(rig.truth.course.here(seq));
    let expect = Expect { exactly, ..Expect::default() };
    let source = rig.source();
    match rig.verdict(&source, Target::Latest, &expect)? {
        Verdict::Judged { grade, .. } if grade.is_right() => {}
        Verdict::Refused(refused) if refused.is_integrity() => rig.tally.rejected += 1,
        verdict => return violation(format!("from damaged objects: {verdict:?}")),
    }
    if rig.verify(&source)? {
        return violation("verify finds no fault with objects that are damaged");
    }
    rig.drain()?;
    rig.upkeep("repair")?;
    rig.grade_all_exact(seq)
}

pub fn killed(rig: &mut Rig) -> Result<()> {
    rig.add_server()?;
    let pace = Some(*rig.rng.pick(&[500, 3000]));
    rig.create(Args { pace, ..busy() })?;
    rig.go()?;
    rig.start_daemon()?;
    rig.sync()?;
    for _ in 0..2 {
        rig.random_wait(1500);
        rig.server().kill()?;
        rig.tally.fault("server killed");
        rig.goes_on(DIRECTORY)?;
        rig.server().start_again()?;
        rig.grade_claims()?;
        let seq = rig.pause()?;
        rig.sync()?;
        rig.grade_all_exact(seq)?;
        rig.go()?;
    }
    let seq = rig.stop_writers()?;
    rig.drain()?;
    rig.grade_all_exact(seq)?;
    rig.mean(BUCKET);
    rig.grade_some(2).map(drop)
}
