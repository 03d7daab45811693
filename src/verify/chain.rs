//! How the objects of a replica hang together: that each one goes on from where the one before it
//! ends, and that nothing is missing between them.
//!
//! Commits without a digest are no restore points: those of a snapshot that is being made, or was
//! given up. Nothing is said of these. Where commits were lost at the source, a snapshot begins anew,
//! and nothing leads up to it; all other holes are damage.

use super::{Content, Finding, finding};
use crate::backend::Backend;
use crate::change::ChangeSet;
use crate::commit::{Chain, CommitNo, Timeline};
use crate::error::{Error, Result, Status};
use crate::name::{Change, Name, Span};
use crate::replica::{Replica, Run, Stretch, is_on, is_whole};
use crate::snapshot::Fork;
use std::collections::{BTreeMap, BTreeSet};

/// The place of each object in the chain, as it says itself.
#[derive(Debug, Default)]
pub struct Links {
    forks: BTreeMap<Timeline, Fork>,
    snapshots: BTreeMap<Span, Chain>,
    changes: BTreeMap<Span, Link>,
}

#[derive(Debug)]
struct Link {
    parent: Chain,
    chain: Chain,
    /// Its commits have digests.
    dated: bool,
}

impl Links {
    pub fn note(&mut self, name: &Name, content: &Content) {
        match (name, content) {
            (Name::Timeline(timeline), Content::Timeline(fork)) => {
                self.forks.insert(*timeline, *fork);
            }
            (Name::Snapshot(span), Content::Snapshot(manifest)) => {
                self.snapshots.insert(*span, manifest.chain);
            }
            (Name::Change(change), Content::Change(set)) => self.note_change(change, set),
            _ => {}
        }
    }

    /// Forgets what is not there any more.
    pub fn retain(&mut self, replica: &Replica) {
        self.snapshots.retain(|span, _| replica.snapshots.contains(span));
        let there: BTreeSet<&Span> = replica.changes.keys().map(|(span, _)| span).collect();
        self.changes.retain(|span, _| there.contains(span));
    }

    fn note_change(&mut self, change: &Change, set: &ChangeSet) {
        let Some(last) = set.commits.last() else { return };
        let (parent, chain) = (set.header().parent, set.header().chain);
        self.changes.insert(change.span, Link { parent, chain, dated: last.digest.is_some() });
    }

    /// What does not hang together: along the newest timeline's ancestry, then along each abandoned
    /// branch, as far as that is not the same. That there are branches is no finding.
    pub fn findings(&self, source: &dyn Backend, replica: &Replica) -> Result<Vec<Finding>> {
        let ancestry = match replica.ancestry(source) {
            Ok(ancestry) => ancestry,
            Err(error) if error.status == Status::Newer => return Err(error),
            Err(error) => return Ok(vec![Finding::at(source.to_string(), &error)]),
        };
        let (mut found, mut unread) = (Vec::new(), Vec::new());
        let mut note = |error: &Error| {
            let finding = Finding::at(source.to_string(), error);
            unread.extend((!unread.contains(&finding)).then_some(finding));
        };
        let begun = self.along(source, replica, &ancestry, &mut found, &mut note)?;
        for branch in replica.branches(source)? {
            match branch {
                // One that was given up before its snapshot was finished has nothing to lose.
                Ok(branch) => {
                    self.along(source, replica, &branch.ancestry, &mut found, &mut note)?;
                }
                Err(error) if error.status == Status::Newer => return Err(error),
                Err(error) => note(&error),
            }
        }
        let place = |name: &Option<Name>| match name {
            Some(name) => format!("{source}/{name}"),
            None => source.to_string(),
        };
        let unfinished = begun.map(|timeline| Finding {
            status: Some(Status::Missing),
            what: "the snapshot that it begins with was not finished".into(),
            where_: format!("{source}/{}", Name::Timeline(timeline)),
            remedy: "its daemon goes on with it: see whether that runs, or run: bakelite sync"
                .into(),
        });
        let found = found.iter().map(|(name, what)| finding(place(name), what));
        Ok(found.chain(unread).chain(unfinished).collect())
    }

    /// Adds what one ancestry lacks and was not found before, and tells what could not be read for that.
    /// The timeline that it ends with, if that never came to have a restore point.
    fn along(
        &self,
        source: &dyn Backend,
        replica: &Replica,
        ancestry: &[Stretch],
        found: &mut Vec<Found>,
        unread: &mut dyn FnMut(&Error),
    ) -> Result<Option<Timeline>> {
        let runs = replica.runs(ancestry);
        let mut new = unfinished(replica, ancestry);
        let given_up = match replica.unfinished(source, ancestry) {
            Err(error) if error.status == Status::Newer => return Err(error),
            Err(error) => {
                unread(&error);
                None
            }
            Ok(timeline) => timeline,
        };
        new.extend(end(replica, ancestry, &runs));
        new.extend(snapshots(replica, ancestry, &runs));
        new.extend(self.unreachable(ancestry, &runs));
        new.extend(self.unlinked(ancestry));
        new.extend(ancestry.iter().filter_map(|at| self.fork(at, ancestry, &runs)));
        new.retain(|one| !found.contains(one));
        found.extend(new);
        Ok(given_up)
    }

    /// Restore points that nothing leads to any more, as stretches.
    fn unreachable(&self, ancestry: &[Stretch], runs: &[Run]) -> Vec<Found> {
        let reached = |span: &Span| runs.iter().any(|run| run.holds(span.last));
        // What a snapshot that begins a run has taken the place of is lost to nobody.
        let before = runs.iter().flat_map(|run| &run.changes).collect::<BTreeSet<_>>();
        let spans = self.changes.iter().filter(|(_, link)| link.dated).map(|(span, _)| span);
        let lost = spans.filter(|s| is_on(ancestry, s) && !reached(s) && !before.contains(s));
        let mut stretches: Vec<(Span, CommitNo)> = Vec::new();
        for span in lost {
            match stretches.last_mut() {
                Some((_, last)) if span.first <= last.next() => *last = span.last.max(*last),
                _ => stretches.push((*span, span.last)),
            }
        }
        let described = stretches.into_iter().map(|(span, last)| {
            let what = format!("what leads to the commits {} to {last} is missing", span.first);
            (Some(change_name(span)), what)
        });
        described.collect()
    }

    /// Neighbours that do not fit each other.
    fn unlinked(&self, ancestry: &[Stretch]) -> Vec<Found> {
        let mut found = Vec::new();
        for (older, link) in self.changes.iter().filter(|(span, _)| is_on(ancestry, span)) {
            let next = older.last.next();
            let from = Span { first: next, ..Span::default() };
            let followers = self.changes.range(from..).take_while(|(span, _)| span.first == next);
            let strangers = followers.filter(|(_, newer)| newer.parent != link.chain);
            found.extend(strangers.filter(|(span, _)| is_on(ancestry, span)).map(|(newer, _)| {
                (
                    Some(change_name(*newer)),
                    format!("it does not go on from {}", change_name(*older)),
                )
            }));
        }
        for (snapshot, chain) in self.snapshots.iter().filter(|(span, _)| is_on(ancestry, span)) {
            if self.chain_at(snapshot.last, ancestry).is_some_and(|beside| *chain != beside) {
                let what = "the change-sets do not belong to it".to_owned();
                found.push((Some(Name::Snapshot(*snapshot)), what));
            }
        }
        found
    }

    /// The lineage after a commit, if a change-set ends or begins there.
    fn chain_at(&self, commit: CommitNo, ancestry: &[Stretch]) -> Option<Chain> {
        let mut changes = self.changes.iter().filter(|(span, _)| is_on(ancestry, span));
        changes.find_map(|(span, link)| {
            let before = (span.first == commit.next()).then_some(link.parent);
            before.or((span.last == commit).then_some(link.chain))
        })
    }

    /// Where a timeline goes on from there has to be something, and the same.
    fn fork(&self, at: &Stretch, ancestry: &[Stretch], runs: &[Run]) -> Option<Found> {
        let fork = self.forks.get(&at.timeline)?;
        let name = Some(Name::Timeline(at.timeline));
        // The commit that a snapshot stands for is in no change-set.
        let first = if at.anew { at.after.next().next() } else { at.after.next() };
        let early = |s: &Span| s.timeline == at.timeline && s.first < first;
        let across =
            |s: &Span| s.timeline == fork.parent && s.first <= at.after && s.last > at.after;
        if let Some(span) = self.changes.keys().find(|span| early(span) || across(span)) {
            let beside = change_name(*span);
            return Some((name, format!("it goes on from commit {}, unlike {beside}", at.after)));
        }
        let kept = runs.first().is_some_and(|oldest| oldest.first() <= at.after);
        if at.after == CommitNo(0) || !kept {
            return None;
        }
        let older = |span: &&Span| is_on(ancestry, span) && span.timeline < at.timeline;
        let ends = |span: &&Span| older(span) && span.last == at.after;
        let mut snapshots = self.snapshots.iter().filter(|(span, _)| ends(span));
        let chain = self.changes.iter().find(|(span, _)| ends(span)).map(|(_, link)| link.chain);
        match chain.or_else(|| snapshots.next().map(|(_, chain)| *chain)) {
            // What is older than the last run may be on its way out.
            None if runs.last().is_some_and(|last| at.after < last.first()) => None,
            None if at.stands_on(runs) => None,
            None => Some((name, format!("it goes on from commit {}, which is missing", at.after))),
            Some(chain) if chain != fork.chain => {
                Some((name, format!("it goes on from another commit {} than there is", at.after)))
            }
            Some(_) => None,
        }
    }
}

/// Which object, and what is wrong with it.
type Found = (Option<Name>, String);

fn change_name(span: Span) -> Name {
    Name::Change(Change { level: 0, span, part: 0, end: true })
}

/// Change-sets whose last part is there, and another one is not.
fn unfinished(replica: &Replica, ancestry: &[Stretch]) -> Vec<Found> {
    let ended = replica.changes.iter().filter(|((span, _), parts)| {
        is_on(ancestry, span) && parts.iter().any(|part| part.end) && !is_whole(parts)
    });
    let named = ended.filter_map(|(_, parts)| parts.last());
    named.map(|end| (Some(Name::Change(*end)), "a part before it is missing".into())).collect()
}

/// The newest commit has to be one that can be reached.
fn end(replica: &Replica, ancestry: &[Stretch], runs: &[Run]) -> Option<Found> {
    let newest = replica.newest(ancestry)?;
    match runs.last().map(|run| run.end().last) {
        Some(reached) if reached == newest.last => None,
        Some(reached) => {
            let what = format!(
                "commits up to {} are known, but restore points end at {reached}",
                newest.last
            );
            Some((None, what))
        }
        None => Some((None, "there is no restore point: no snapshot is complete".into())),
    }
}

/// Snapshots that need change-sets which are not there.
fn snapshots(replica: &Replica, ancestry: &[Stretch], runs: &[Run]) -> Vec<Found> {
    let used: BTreeSet<&Span> = runs.iter().flat_map(|run| &run.snapshots).collect();
    let unused = replica.snapshots.iter().filter(|s| is_on(ancestry, s) && !used.contains(s));
    unused
        .map(|span| (Some(Name::Snapshot(*span)), "change-sets that it needs are missing".into()))
        .collect()
}
