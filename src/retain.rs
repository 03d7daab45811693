//! Retention: what a replica need not keep any more, and why; what it has to keep, and why.
//!
//! An *era* is a snapshot and the change-sets up to the next one. Eras go as a whole, from the oldest
//! on, and only those before the snapshot that the oldest point to be kept is restored from. Between
//! snapshots that are kept, others may go, since the change-sets lead past them. A branch goes as a
//! whole. Records of timelines stay: numbers must leave no gap. A cap has more eras go.
//!
//! Names are judged by names; the parts that kept manifests name are handed in. No clock, no I/O.

mod cap;

pub use cap::Over;

use crate::commit::{CommitNo, Time};
use crate::keep::{Keep, bucket};
use crate::name::{Change, Name, Part, Span};
use crate::replica::{Branch, Replica, Run, Stretch, is_on};
use crate::sabotage;
use std::cmp::Reverse;
use std::collections::BTreeSet;

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
    /// There is no room for it under the cap of its destination.
    Capped,
    /// An older snapshot and the change-sets after it lead to the same points.
    Dense,
    /// No manifest names it.
    Unnamed,
}

impl Why {
    pub fn deletes(self) -> bool {
        self.goes_in_order() || matches!(self, Self::Dense | Self::Unnamed)
    }

    /// Whether others need it that go later: these stay if it does.
    pub fn goes_in_order(self) -> bool {
        matches!(self, Self::Old | Self::OldBranch | Self::Capped)
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
            Self::Capped => "the oldest, past the cap of this destination",
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
    /// Those that are older than `keep` asks for.
    old: Vec<bool>,
    /// What the oldest point is restored from: one to be kept, and one that a cap leaves room for.
    aged: Option<Span>,
    base: Option<Span>,
    dense: BTreeSet<Span>,
    /// All that can be restored from, on the way to the newest commit.
    snapshots: Vec<Span>,
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
        let old = branches.iter().map(|branch| is_old(replica, branch, horizon)).collect();
        let snapshots = runs.iter().flat_map(|run| &run.snapshots).copied().collect();
        let (aged, base, dense) = (None, None, BTreeSet::new());
        let mut judge = Self { replica, ancestry, branches, old, aged, base, dense, snapshots };
        let kept = branches.iter().zip(&judge.old).filter(|(_, old)| !**old);
        let needed = kept.map(|(branch, _)| branch.after).min().unwrap_or(CommitNo(u64::MAX));
        let old = |span: &&Span| {
            horizon.is_some_and(|horizon| span.time <= horizon) && span.last <= needed
        };
        let base = judge.snapshots.iter().filter(old).max_by_key(|span| span.last).copied();
        (judge.aged, judge.base) = (base, base);
        judge.dense = runs.iter().flat_map(|run| judge.dense(run, keep, now)).collect();
        judge
    }

    /// Falls back to an older base where it lacks a part: what leads past it would go, and the points after
    /// it with that. And of those that stand too close, the first one stays that is whole, unless one before
    /// them is. `parts_of` tells the parts that a snapshot names, or that it is damaged.
    pub fn settle(&mut self, mut parts_of: impl FnMut(&Span) -> Option<Vec<Part>>) {
        let replica = self.replica;
        let mut is_whole = |span: &Span| {
            let is_there = |part: &Part| replica.parts.contains_key(part);
            parts_of(span).is_some_and(|parts| parts.iter().all(is_there))
        };
        while let Some(base) = self.base {
            if is_whole(&base) {
                break;
            }
            let older = self.snapshots.iter().filter(|span| span.last < base.last);
            let older = older.max_by_key(|span| span.last).copied();
            (self.aged, self.base) = (older, older);
        }
        for run in replica.runs(self.ancestry) {
            if !run.snapshots.iter().any(|span| self.dense.contains(span)) {
                continue;
            }
            for span in run.snapshots.iter().filter(|span| !self.is_before_base(span.last)) {
                if self.base == Some(*span) || is_whole(span) {
                    self.dense.remove(span);
                    break;
                }
            }
        }
    }

    fn newest(&self) -> Option<Span> {
        self.snapshots.last().copied()
    }

    /// Whether a branch is kept. What it goes on from has to be there.
    fn stays(&self, at: usize) -> bool {
        !self.old[at] && self.base.is_none_or(|base| base.last <= self.branches[at].after)
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
            if same && Some(*span) != self.newest() && Some(*span) != self.base {
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
                span if self.is_before_base(span.last) => self.past(|aged| span.last < aged.last),
                span if self.dense.contains(span) => Why::Dense,
                span if self.newest() == Some(*span) => Why::NewestSnapshot,
                span if self.base == Some(*span) => Why::Base,
                _ => Why::Wanted,
            },
            Name::Change(Change { span, .. }) if is_on(self.ancestry, span) => {
                let is_in = |base: Span| span.last <= base.first;
                if self.base.is_some_and(is_in) { self.past(is_in) } else { Why::Wanted }
            }
            Name::Snapshot(span) | Name::Change(Change { span, .. }) => self.on_a_branch(span),
        }
    }

    /// Why something goes that is older than what the base leads to.
    fn past(&self, aged: impl FnOnce(Span) -> bool) -> Why {
        if self.aged.is_some_and(aged) { Why::Old } else { Why::Capped }
    }

    fn on_a_branch(&self, span: &Span) -> Why {
        let mut why = Why::Unsure;
        for (at, _) in self.branches.iter().enumerate().filter(|it| is_on(&it.1.ancestry, span)) {
            why = match self.old[at] {
                _ if self.stays(at) => return Why::Branch,
                true if why != Why::Capped => Why::OldBranch,
                _ => Why::Capped,
            };
        }
        why
    }

    /// What is to be deleted, in the order in which that leaves a replica without a flaw at every
    /// moment: branches, then eras from the oldest on, in each the newest change-set first and the
    /// snapshot last, then what stands too close.
    pub fn deletions(&self) -> Vec<(Name, Why)> {
        let names = self.replica.objects.iter().map(|entry| &entry.name);
        let judged = names.map(|name| (name.clone(), self.judge(name, None)));
        let mut deletions: Vec<_> = judged.filter(|(_, why)| why.deletes()).collect();
        let mut starts: Vec<CommitNo> =
            self.replica.snapshots.iter().map(|span| span.first).collect();
        starts.sort_unstable();
        let rank = |why: Why, span: &Span| (is_on(self.ancestry, span), why == Why::Dense);
        deletions.sort_by_key(|(name, why)| match name {
            Name::Snapshot(span) => {
                let era = starts.partition_point(|start| *start <= span.first);
                (rank(*why, span), era, 1, Reverse((span.last, 0)))
            }
            Name::Change(Change { span, part, .. }) => {
                let era = starts.partition_point(|start| *start < span.last);
                (rank(*why, span), era, 0, Reverse((span.last, *part)))
            }
            Name::Timeline(_) | Name::Part(_) => unreachable!("they are judged by others"),
        });
        deletions
    }

    /// The snapshots that stay.
    pub fn snapshots(&self) -> impl Iterator<Item = &'a Span> {
        let all = self.replica.snapshots.iter();
        all.filter(|span| !self.judge(&Name::Snapshot(**span), None).deletes())
    }
}

/// A branch is as old as its last commit.
fn is_old(replica: &Replica, branch: &Branch, horizon: Option<Time>) -> bool {
    let spans = replica.spans().filter(|span| is_on(&branch.ancestry, span));
    let newest = spans.filter(|span| span.last > branch.after).map(|span| span.time).max();
    newest.is_some_and(|newest| newest < horizon.unwrap_or_default())
}

#[cfg(test)]
mod tests;
