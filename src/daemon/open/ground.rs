//! What there is to go on from: a commit whose digest the page index gives, and that every
//! destination holds on its newest timeline's ancestry.

use super::Result;
use crate::backend::Backend;
use crate::capture::origin;
use crate::change::ChangeSet;
use crate::commit::{Chain, Commit, CommitNo, PageSize, Time, Timeline};
use crate::cursor::State;
use crate::error::Error;
use crate::index::Index;
use crate::name::{Name, Span};
use crate::replica::{Replica, Run, Stretch, damaged, fetch};
use crate::ship::Stores;
use crate::snapshot::Manifest;
use crate::source::Mark;
use std::sync::Arc;

/// A destination and what it holds.
pub struct Listed {
    pub destination: Arc<dyn Backend>,
    pub replica: Replica,
    pub ancestry: Vec<Stretch>,
    runs: Vec<Run>,
}

pub fn list(stores: &Stores) -> Result<Vec<Listed>> {
    let one = |destination: &Arc<dyn Backend>| {
        let replica = Replica::list(&**destination)?;
        let ancestry = replica.ancestry(&**destination)?;
        let runs = replica.runs(&ancestry);
        Ok(Listed { destination: Arc::clone(destination), replica, ancestry, runs })
    };
    stores.destinations.iter().map(one).collect()
}

impl Listed {
    /// Whether the commit of `state` can be restored, and lies on the newest timeline's ancestry.
    fn holds(&self, state: &State) -> bool {
        let number = state.commit.number;
        let there = self.runs.iter().any(|run| run.holds(number));
        let mut ancestry = self.ancestry.iter().filter(|at| at.timeline == state.timeline);
        there && ancestry.any(|at| (at.after..=at.until).contains(&number))
    }

    /// Whether somebody else has stored commits past `state`, on a timeline of their own. What lies
    /// past it on its own timeline, and could not be adopted, is given up as a branch.
    pub fn is_taken_over(&self, state: &State) -> bool {
        let newest = self.newest();
        newest.is_some_and(|span| span.last > state.commit.number && span.timeline > state.timeline)
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
}

impl Tip {
    pub fn of(state: &State) -> Self {
        Self { timeline: state.timeline, commit: state.commit, chain: state.chain }
    }
}

/// The cursor's state if that can be believed, else the newest commit if the page index is there.
pub fn ground(
    cursor: Option<State>,
    listed: &[Listed],
    index: &Index,
    page_size: PageSize,
) -> Result<Option<State>> {
    let digest = index.digest().map_err(|error| Error::io("read", "the page index", &error))?;
    let fits = |state: &State| {
        state.commit.digest == Some(digest)
            && state.page_size == page_size
            && listed.iter().all(|each| each.holds(state))
    };
    if let Some(state) = cursor.filter(fits) {
        return Ok(Some(state));
    }
    // The cursor is lost, or older than the page index.
    let Tip { timeline, commit, chain } = tip(listed)?;
    let snapshots = listed.iter().flat_map(|each| each.runs.last()).map(Run::last_snapshot);
    let snapshot = snapshots.min().unwrap_or(Time(0));
    let page_size = match listed.first().and_then(|each| Some((each, each.newest()?))) {
        Some((each, span)) => read_page_size(each, &span)?,
        None => return Ok(None),
    };
    let state = State {
        commit,
        chain,
        timeline,
        page_size,
        identity: (0, 0),
        mark: Mark::NOWHERE,
        snapshot,
    };
    Ok(Some(state).filter(fits))
}

/// The newest commit of the destinations' replicas.
pub fn tip(listed: &[Listed]) -> Result<Tip> {
    let mut tip = Tip { timeline: Timeline(0), commit: origin(), chain: Chain::default() };
    for each in listed {
        let newest_timeline = each.replica.newest_timeline();
        let Some(span) = each.newest() else {
            tip.timeline = tip.timeline.max(newest_timeline);
            continue;
        };
        if span.last > tip.commit.number {
            let (commit, chain, _) = read_tip(each, &span)?;
            tip = Tip { timeline: newest_timeline, commit, chain };
        }
    }
    Ok(tip)
}

fn read_page_size(each: &Listed, span: &Span) -> Result<PageSize> {
    Ok(read_tip(each, span)?.2)
}

fn read_tip(each: &Listed, span: &Span) -> Result<(Commit, Chain, PageSize)> {
    let Listed { destination, replica, .. } = each;
    let source = &**destination;
    let parts = replica.changes.range((*span, 0)..=(*span, u8::MAX)).next();
    let unsure = Commit { number: span.last, time: span.time, ..origin() };
    if let Some(end) = parts.and_then(|(_, parts)| parts.iter().find(|part| part.end)) {
        let name = Name::Change(*end);
        let set = ChangeSet::open(end, fetch(source, &name)?)
            .map_err(|damage| damaged(source, &name, damage))?;
        let header = set.header();
        let commit = set.commits.last().copied().unwrap_or(unsure);
        return Ok((commit, header.chain, header.page_size));
    }
    let name = Name::Snapshot(*span);
    let manifest = Manifest::decode(*span, fetch(source, &name)?)
        .map_err(|damage| damaged(source, &name, damage))?;
    Ok((manifest.commit, manifest.chain, manifest.page_size))
}

/// Whether a commit comes before all others.
pub fn is_first(tip: &Tip) -> bool {
    tip.commit.number == CommitNo(0)
}
