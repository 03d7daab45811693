//! What there is to go on from: a commit whose digest the page index gives, and that every
//! destination holds on its newest timeline's ancestry.

use super::Result;
use crate::backend::Backend;
use crate::capture::origin;
use crate::commit::{Chain, Commit, CommitNo, PageSize, Time, Timeline};
use crate::cursor::State;
use crate::error::{Error, Status};
use crate::fanout::Fanout;
use crate::index::Index;
use crate::name::{Name, Span};
use crate::replica::{Replica, Run, Stretch, is_on, is_whole, read_change, read_manifest};
use crate::source::Mark;
use std::sync::Arc;

/// The identity of no file.
pub const NOWHERE: (u64, u64) = (0, 0);

/// A destination and what it holds.
pub struct Listed {
    /// Its place among the destinations.
    pub at: usize,
    pub destination: Arc<dyn Backend>,
    pub replica: Replica,
    pub ancestry: Vec<Stretch>,
    runs: Vec<Run>,
    /// What it holds leads nowhere, since a timeline's record is missing or damaged.
    pub is_lost: bool,
}

/// What the destinations hold that can be reached. One that fails here cannot; one has to be left. One that
/// lacks the record of a timeline is filled from another one; if there is none, it begins anew.
pub fn list(stores: &Fanout, reachable: &mut Vec<usize>) -> Result<Vec<Listed>> {
    let mut listed = Vec::new();
    for at in reachable.clone() {
        let destination = stores.destination(at);
        match list_one(at, destination) {
            Ok(one) => listed.push(one),
            Err(error) if lacks_a_record(&error) && reachable[..] == [at] => {
                let replica = Replica::list(&**destination)?;
                listed.push(Listed::new(at, destination, replica, None));
            }
            Err(error) => give_up(stores, reachable, at, error)?,
        }
    }
    Ok(listed)
}

fn lacks_a_record(error: &Error) -> bool {
    error.status == Status::Integrity && matches!(error.object.as_deref(), Some(Name::Timeline(_)))
}

/// Goes on without a destination that fails while the database is taken up, unless it is the last.
pub fn give_up(stores: &Fanout, reachable: &mut Vec<usize>, at: usize, error: Error) -> Result<()> {
    reachable.retain(|other| *other != at);
    if reachable.is_empty() {
        return Err(error);
    }
    stores.lacks(at, Some(&error))
}

/// What one destination holds.
pub fn list_one(at: usize, destination: &Arc<dyn Backend>) -> Result<Listed> {
    let replica = Replica::list(&**destination)?;
    let ancestry = replica.ancestry(&**destination)?;
    Ok(Listed::new(at, destination, replica, Some(ancestry)))
}

impl Listed {
    fn new(
        at: usize,
        destination: &Arc<dyn Backend>,
        replica: Replica,
        ancestry: Option<Vec<Stretch>>,
    ) -> Self {
        let is_lost = ancestry.is_none();
        let ancestry = ancestry.unwrap_or_default();
        let runs = replica.runs(&ancestry);
        Self { at, destination: Arc::clone(destination), replica, ancestry, runs, is_lost }
    }

    /// Whether just this commit can be restored, and lies on the newest timeline's ancestry.
    fn holds(&self, state: &State) -> Result<bool> {
        let number = state.commit.number;
        let there = self.restores(number);
        let mut ancestry = self.ancestry.iter().filter(|at| at.timeline == state.timeline);
        let there = there && ancestry.any(|at| (at.after..=at.until).contains(&number));
        Ok(there && self.chain_at(number)? == Some(state.chain))
    }

    /// The lineage of a commit, from an object that knows it. A damaged one does not.
    fn chain_at(&self, commit: CommitNo) -> Result<Option<Chain>> {
        let source = &*self.destination;
        let on_it = |span: &Span| is_on(&self.ancestry, span);
        let changes = self.replica.changes.iter().filter(|((span, _), parts)| {
            on_it(span) && (span.first..=span.last).contains(&commit) && is_whole(parts)
        });
        let change = changes.filter_map(|(_, parts)| parts.last()).next_back();
        let snapshots = self.replica.snapshots.iter();
        let chain = match (change, snapshots.rev().find(|span| span.last == commit && on_it(span)))
        {
            (Some(end), _) => read_change(source, end).map(|set| set.chain_before(commit.next())),
            (None, Some(span)) => read_manifest(source, span).map(|manifest| Some(manifest.chain)),
            (None, None) => return Ok(None),
        };
        match chain {
            Err(error) if error.status == Status::Integrity => Ok(None),
            chain => chain,
        }
    }

    /// Whether somebody else has stored commits past `state`, on a timeline of their own. What lies
    /// past it on its own timeline, and could not be adopted, is given up as a branch.
    pub fn is_taken_over(&self, state: &State) -> bool {
        let newest = self.newest();
        newest.is_some_and(|span| span.last > state.commit.number && span.timeline > state.timeline)
    }

    /// Whether its names lead to this commit.
    pub fn restores(&self, number: CommitNo) -> bool {
        self.runs.iter().any(|run| run.holds(number))
    }

    /// Whether it holds as much as any.
    pub fn is_at(&self, tip: &Tip) -> bool {
        self.newest().map_or(CommitNo(0), |span| span.last) == tip.held.0.number
    }

    pub fn newest(&self) -> Option<Span> {
        self.replica.newest(&self.ancestry)
    }
}

/// The last commit that a new timeline goes on from.
#[derive(Clone, Copy)]
pub struct Tip {
    pub timeline: Timeline,
    pub commit: Commit,
    pub chain: Chain,
    /// `None` where there is no commit.
    page_size: Option<PageSize>,
    /// The newest commit that the destinations hold, with its lineage: an earlier one where only
    /// those that are away hold the rest.
    pub held: (Commit, Chain),
}

impl Tip {
    pub fn of(state: &State) -> Self {
        let State { timeline, commit, chain, page_size, .. } = *state;
        Self { timeline, commit, chain, page_size: Some(page_size), held: (commit, chain) }
    }

    /// What came after it was durable on destinations that are away, as the cursor tells, or a
    /// timeline that began there: that is gone on from, or it would be a branch.
    pub fn with_what_is_away(self, cursor: Option<State>, listed: &[Listed]) -> Self {
        let bases = || listed.iter().filter_map(|each| each.ancestry.first());
        let newest = bases().map(|base| base.timeline).max().unwrap_or_default();
        let known =
            cursor.filter(|state| state.commit.digest.is_some() && state.timeline >= newest);
        let cursor = known.map(|it| (it.timeline, it.commit, it.chain));
        let bases = bases().filter(|base| base.timeline == newest).map(|base| {
            // When that was, only the destinations that are away know.
            let commit = Commit { number: base.after, digest: None, ..self.commit };
            (newest, commit, base.chain)
        });
        let all = cursor.into_iter().chain(bases);
        match all.max_by_key(|(_, commit, _)| commit.number) {
            Some((timeline, commit, chain))
                if commit.number > self.commit.number
                    || commit.number == self.commit.number && self.page_size.is_none() =>
            {
                Self { timeline, commit, chain, ..self }
            }
            _ => self,
        }
    }
}

/// The cursor's state if that can be believed, else the newest commit if the page index is there;
/// and the destinations that hold it.
pub fn ground(
    cursor: Option<State>,
    listed: &[Listed],
    index: &Index,
    page_size: PageSize,
) -> Result<Option<(State, Vec<usize>)>> {
    let digest = index.digest().map_err(|error| Error::io("read", "the page index", &error))?;
    let holders = |state: &State| {
        let here = state.commit.digest == Some(digest) && state.page_size == page_size;
        let mut holders = Vec::new();
        for each in listed.iter().filter(|_| here) {
            if each.holds(state)? {
                holders.push(each.at);
            }
        }
        Ok::<_, Error>((!holders.is_empty()).then_some((*state, holders)))
    };
    if let Some(state) = cursor
        && let Some(ground) = holders(&state)?
    {
        return Ok(Some(ground));
    }
    // The cursor is lost, or older than the page index.
    let Tip { timeline, commit, chain, page_size: there, .. } = tip(listed)?;
    if there != Some(page_size) {
        return Ok(None);
    }
    let snapshots = listed.iter().flat_map(|each| each.runs.last()).map(Run::last_snapshot);
    let snapshot = snapshots.min().unwrap_or(Time(0));
    let state = State {
        commit,
        chain,
        timeline,
        page_size,
        identity: NOWHERE,
        mark: Mark::NOWHERE,
        snapshot,
    };
    holders(&state)
}

/// The newest commit of the destinations' replicas.
pub fn tip(listed: &[Listed]) -> Result<Tip> {
    let (timeline, chain) = (Timeline(0), Chain::default());
    let held = (origin(), chain);
    let mut tip = Tip { timeline, commit: origin(), chain, page_size: None, held };
    for each in listed {
        let newest_timeline = each.replica.newest_timeline();
        let Some(span) = each.newest() else {
            tip.timeline = tip.timeline.max(newest_timeline);
            continue;
        };
        if span.last > tip.commit.number {
            let (commit, chain, page_size) = match read_tip(each, &span) {
                // It is damaged. A later one may be whole, and else there is nothing to go on from.
                Err(error) if error.status == Status::Integrity => {
                    (unsure(&span), Chain::default(), None)
                }
                read => read.map(|(commit, chain, size)| (commit, chain, Some(size)))?,
            };
            let (timeline, held) = (newest_timeline, (commit, chain));
            tip = Tip { timeline, commit, chain, page_size, held };
        }
    }
    Ok(tip)
}

/// All that a name says of the last commit.
fn unsure(span: &Span) -> Commit {
    Commit { number: span.last, time: span.time, ..origin() }
}

fn read_tip(each: &Listed, span: &Span) -> Result<(Commit, Chain, PageSize)> {
    let Listed { destination, replica, .. } = each;
    let source = &**destination;
    let parts = replica.changes.range((*span, 0)..=(*span, u8::MAX)).next();
    if let Some(end) = parts.and_then(|(_, parts)| parts.iter().find(|part| part.end)) {
        let set = read_change(source, end)?;
        let commit = set.commits.last().copied().unwrap_or_else(|| unsure(span));
        return Ok((commit, set.header().chain, set.header().page_size));
    }
    let manifest = read_manifest(source, span)?;
    Ok((manifest.commit, manifest.chain, manifest.page_size))
}
