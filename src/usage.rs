//! What a replica holds, what upkeep would free of it, and what a restore reads.

use crate::backend::{Backend, NONE_HERE};
use crate::commit::{CommitNo, Time};
use crate::compact::{self, Now, Policy};
use crate::config::Settings;
use crate::error::{Error, Result, Status};
use crate::keep::{Cap, Sum};
use crate::name::{Change, Name, Part};
use crate::replica::{Forks, Replica, Run, Stretch, read_manifest};
use crate::retain::{Judge, Over};
use crate::upkeep::{Parts, fit, settle};
use std::collections::{BTreeMap, BTreeSet};

/// Of one replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// By kind, and by level where that has some.
    pub kinds: BTreeMap<(&'static str, Option<u8>), Sum>,
    pub all: Sum,
    /// What pruning would delete now.
    pub free: Sum,
    /// What it is to hold at most, and what it holds past that all the same.
    pub cap: Cap,
    pub over: Option<Over>,
    /// Change-sets that would become fewer now.
    pub to_merge: u64,
    /// What a restore of the oldest and the newest point reads.
    pub oldest: Option<Reads>,
    pub newest: Option<Reads>,
}

/// A restore point, and how many objects it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reads {
    pub commit: CommitNo,
    pub change_sets: u64,
    pub parts: u64,
}

/// `parts`: which of them pruning would delete that no snapshot names. One may be under way that does.
pub fn usage(
    source: &dyn Backend,
    (settings, cap, parts): (&Settings, Cap, Parts),
    clock: Time,
) -> Result<Usage> {
    let replica = Replica::list(source)?;
    if replica.is_empty() {
        let error = Error::new(Status::Missing, "usage", source, "there is no replica here");
        return Err(error.hint(NONE_HERE));
    }
    let mut usage = Usage { cap, ..Usage::default() };
    for entry in &replica.objects {
        let level = match &entry.name {
            Name::Change(Change { level, .. }) => Some(*level),
            _ => None,
        };
        usage.kinds.entry((entry.name.kind(), level)).or_default().add(entry.bytes);
        usage.all.add(entry.bytes);
    }
    let policy = Policy::new(&settings.keep, &settings.compaction);
    let now = Now::new(clock, &replica);
    let mut forks = Forks::new();
    replica.read_forks(source, &mut forks)?;
    let plan = compact::plan(&replica, &forks, &policy, now, CommitNo(u64::MAX));
    let merges = plan.merges.iter().map(|merge| merge.inputs.len());
    usage.to_merge =
        (merges.sum::<usize>() + plan.merged.values().map(Vec::len).sum::<usize>()) as u64;
    let ancestry = replica.ancestry(source)?;
    let branches: Vec<_> = replica.branches(source)?.into_iter().collect::<Result<_>>()?;
    let mut judge = Judge::new(&replica, &ancestry, &branches, &settings.keep, now.reference);
    drop(settle(&mut judge, source));
    usage.over = fit(&mut judge, cap, source)?;
    let parts_may_go = parts.may_go(replica.newest_timeline());
    let named = parts_may_go.then(|| named(source, &judge)).transpose()?;
    for entry in &replica.objects {
        if judge.judge(&entry.name, named.as_ref()).deletes() {
            usage.free.add(entry.bytes);
        }
    }
    let runs = replica.runs(&ancestry);
    let reads = |run: &Run, commit| reads(source, &replica, &ancestry, run, commit);
    usage.oldest = runs.first().map(|run| reads(run, run.first())).transpose()?;
    usage.newest = runs.last().map(|run| reads(run, run.end().last)).transpose()?;
    Ok(usage)
}

/// The parts that the snapshots name which stay.
fn named(source: &dyn Backend, judge: &Judge) -> Result<BTreeSet<Part>> {
    let mut named = BTreeSet::new();
    for span in judge.snapshots() {
        named.extend(read_manifest(source, span)?.parts.iter().map(|part| part.part));
    }
    Ok(named)
}

fn reads(
    source: &dyn Backend,
    replica: &Replica,
    ancestry: &[Stretch],
    run: &Run,
    commit: CommitNo,
) -> Result<Reads> {
    let plan = replica.plan(ancestry, run, commit);
    let parts = read_manifest(source, &plan.snapshot)?.parts.len() as u64;
    Ok(Reads { commit, change_sets: plan.changes.iter().flatten().count() as u64, parts })
}
