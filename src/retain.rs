//! Retention: what a replica need not keep any more, and why; what it has to keep, and why.
//!
//! An *era* is a snapshot and the change-sets up to the next one. Eras go as a whole, from the oldest
//! on, and only those before the snapshot that the oldest point to be kept is restored from. Between
//! snapshots that are kept, others may go, since the change-sets lead past them. A branch goes as a
//! whole. Records of timelines stay: numbers must leave no gap.
//!
//! Names are judged by names; the parts that kept manifests name are handed in. No clock, no I/O.

use crate::commit::{CommitNo, Time};
use crate::keep::{Keep, bucket};
use crate::name::{Change, Name, Part, Span};
use crate::replica::{Branch, Replica, Run, Stretch, is_on};
use crate::sabotage;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Why an object is kept, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Kept: restore points that `keep` asks for are in it, or it is new.
    Wanted,
    NewestSnapshot,
    /// The oldest point to be kept, or a branch, is restored from it.
    Base,
    /// Numbers of timelines leave no gap.
    Record,
    /// On a branch that is kept.
    Branch,
    /// Nothing can be said of it: no timeline leads to it, or a snapshot under way may name it.
    Unsure,
    /// Not kept: on a branch whose last commit is older than `keep` asks for. It goes before what it
    /// shares with others.
    OldBranch,
    /// Older than `keep` asks for.
    Old,
    /// An older snapshot and the change-sets after it lead to the same points.
    Dense,
    /// No manifest names it.
    Unnamed,
}

impl Why {
    pub fn deletes(self) -> bool {
        matches!(self, Self::Old | Self::Dense | Self::OldBranch | Self::Unnamed)
    }

    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Wanted => "restore points to be kept are in it",
            Self::NewestSnapshot => "the newest snapshot",
            Self::Base => "the oldest restore point to be kept needs it",
            Self::Record => "records of timelines are kept",
            Self::Branch => "on a branch that is to be kept",
            Self::Unsure => "nothing says that it is not needed",
            Self::Old => "older than what is to be kept",
            Self::Dense => "an older snapshot leads to the same restore points",
            Self::OldBranch => "on a branch older than what is to be kept",
            Self::Unnamed => "no snapshot that is kept needs it",
        }
    }
}

/// What is known of a replica, to judge its objects by.
#[derive(Debug)]
pub struct Judge<'a> {
    replica: &'a Replica,
    ancestry: &'a [Stretch],
    branches: &'a [Branch],
    horizon: Option<Time>,
    base: Option<Span>,
    dense: BTreeSet<Span>,
    newest: Option<Span>,
}

impl<'a> Judge<'a> {
    /// `now` is what ages count from.
    pub fn new(
        replica: &'a Replica,
        ancestry: &'a [Stretch],
        branches: &'a [Branch],
        keep: &Keep,
        now: Time,
    ) -> Self {
        let runs = replica.runs(ancestry);
        let horizon = keep.horizon(now);
        let newest = runs.last().and_then(|run| run.snapshots.last()).copied();
        let (base, dense) = (None, BTreeSet::new());
        let mut judge = Self { replica, ancestry, branches, horizon, base, dense, newest };
        let kept = branches.iter().filter(|branch| !judge.is_old(branch));
        let needed = kept.map(|branch| branch.after).min().unwrap_or(CommitNo(u64::MAX));
        let old = |span: &&Span| {
            horizon.is_some_and(|horizon| span.time <= horizon) && span.last <= needed
        };
        let snapshots = runs.iter().flat_map(|run| &run.snapshots);
        judge.base = snapshots.filter(old).max_by_key(|span| span.last).copied();
        judge.dense = runs.iter().flat_map(|run| judge.dense(run, keep, now)).collect();
        judge
    }

    /// A branch is as old as its last commit.
    fn is_old(&self, branch: &Branch) -> bool {
        let spans = self.replica.spans().filter(|span| is_on(&branch.ancestry, span));
        let newest = spans.filter(|span| span.last > branch.after).map(|span| span.time).max();
        let horizon = self.horizon.unwrap_or_default();
        newest.is_some_and(|newest| newest < horizon)
    }

    /// The snapshots of one run, which all lead on to each other, that are closer to the one kept
    /// before them than they need be.
    fn dense(&self, run: &Run, keep: &Keep, now: Time) -> Vec<Span> {
        let mut dense = Vec::new();
        let mut before: Option<&Span> = None;
        for span in run.snapshots.iter().filter(|span| !self.is_before_base(span.last)) {
            let window = keep.snapshot_window(span.time, now);
            let same = window.zip(before).is_some_and(|(window, before)| {
                bucket(before.time, window) == bucket(span.time, window)
            });
            if same && Some(*span) != self.newest && Some(*span) != self.base {
                dense.push(*span);
            } else {
                before = Some(span);
            }
        }
        dense
    }

    fn is_before_base(&self, last: CommitNo) -> bool {
        let last = if sabotage::is("prune-the-base") { CommitNo(last.0 - 1) } else { last };
        self.base.is_some_and(|base| last < base.last)
    }

    /// What becomes of an object. `named`: the parts that kept manifests name, if that is known and
    /// no snapshot is under way.
    pub fn judge(&self, name: &Name, named: Option<&BTreeSet<Part>>) -> Why {
        match name {
            Name::Timeline(_) => Why::Record,
            Name::Part(part) => match named {
                None => Why::Unsure,
                Some(named) if named.contains(part) && !sabotage::is("prune-named-parts") => {
                    Why::Wanted
                }
                Some(_) => Why::Unnamed,
            },
            Name::Snapshot(span) if is_on(self.ancestry, span) => match span {
                span if self.is_before_base(span.last) => Why::Old,
                span if self.dense.contains(span) => Why::Dense,
                span if self.newest == Some(*span) => Why::NewestSnapshot,
                span if self.base == Some(*span) => Why::Base,
                _ => Why::Wanted,
            },
            Name::Change(Change { span, .. }) if is_on(self.ancestry, span) => {
                let old = self.base.is_some_and(|base| span.last <= base.first);
                if old { Why::Old } else { Why::Wanted }
            }
            Name::Snapshot(span) | Name::Change(Change { span, .. }) => self.on_a_branch(span),
        }
    }

    fn on_a_branch(&self, span: &Span) -> Why {
        let mut branches = self.branches.iter().filter(|it| is_on(&it.ancestry, span));
        match branches.next().map(|first| self.is_old(first) && branches.all(|it| self.is_old(it)))
        {
            None => Why::Unsure,
            Some(true) => Why::OldBranch,
            Some(false) => Why::Branch,
        }
    }

    /// What is to be deleted, in the order in which that leaves a replica without a flaw at every
    /// moment: branches, then eras from the oldest on, in each the newest change-set first and the
    /// snapshot last.
    pub fn deletions(&self) -> Vec<(Name, Why)> {
        let names = self.replica.objects.iter().map(|entry| &entry.name);
        let judged = names.map(|name| (name.clone(), self.judge(name, None)));
        let mut deletions: Vec<_> = judged.filter(|(_, why)| why.deletes()).collect();
        let mut starts: Vec<CommitNo> =
            self.replica.snapshots.iter().map(|span| span.first).collect();
        starts.sort_unstable();
        deletions.sort_by_key(|(name, why)| match name {
            Name::Snapshot(span) => {
                let era = starts.partition_point(|start| *start <= span.first);
                (*why, era, 1, Reverse((span.last, 0)))
            }
            Name::Change(Change { span, part, .. }) => {
                let era = starts.partition_point(|start| *start < span.last);
                (*why, era, 0, Reverse((span.last, *part)))
            }
            Name::Timeline(_) | Name::Part(_) => (*why, 0, 2, Reverse((CommitNo(0), 0))),
        });
        deletions
    }

    /// The snapshots that stay.
    pub fn snapshots(&self) -> impl Iterator<Item = &'a Span> {
        let all = self.replica.snapshots.iter();
        all.filter(|span| !self.judge(&Name::Snapshot(**span), None).deletes())
    }
}

/// Objects and bytes for each reason.
pub type Tally = BTreeMap<Why, (u64, u64)>;

#[cfg(test)]
mod tests;
