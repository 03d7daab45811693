//! Objects beyond the cursor: stored by an earlier start that ended before its cursor said so. Those
//! that link to the cursor's commit are adopted, so that every restore point stays on the main line.
//!
//! Where the WAL goes on from the cursor, the same commits are read from it again, which gives the
//! place in it too; where it does not, or says something else, the objects themselves tell what they
//! changed, and a resync finds the rest. Either way the state digest proves the result.

use super::ground::{self, Listed};
use super::{Opening, failed};
use crate::backend::Backend;
use crate::capture::{Capture, Changes, Start};
use crate::change::ChangeSet;
use crate::commit::{Chain, Commit, CommitNo, PageHash, PageNo, Timeline};
use crate::cursor::State;
use crate::error::{Error, Result, Status};
use crate::mend;
use crate::name::{Change, Name};
use crate::replica::{is_on, is_whole, read_change};
use crate::sabotage;
use crate::source::{Mark, Source, Trouble};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A change-set that goes on from the one before it.
struct Link {
    parts: Vec<Change>,
    commits: Vec<Commit>,
    chain: Chain,
}

impl Link {
    fn last(&self) -> &Commit {
        self.commits.last().expect("a change-set has a commit")
    }
}

/// Takes in what lies beyond `state`. Returns the state reached, and whether the WAL goes on from it. A
/// destination that does not take what another one holds has to be brought up to date later.
pub fn adopt(
    opening: &mut Opening,
    state: State,
    mut source: Source,
    continues: bool,
    listed: &mut Vec<Listed>,
) -> Result<(State, Source, bool)> {
    let mut most: Option<(usize, Vec<Link>)> = None;
    for (at, each) in listed.iter().enumerate() {
        let links = links(each, &state)?;
        if most.as_ref().is_none_or(|(_, known)| links.len() > known.len()) {
            most = Some((at, links));
        }
    }
    let Some((holder, links)) =
        most.filter(|(_, links)| !links.is_empty() && !sabotage::is("adopt-nothing"))
    else {
        return Ok((state, source, continues));
    };
    let timelines = listed[holder].replica.timelines.clone();
    let holder = Arc::clone(&listed[holder].destination);
    for mut other in std::mem::take(listed) {
        let is_holder = Arc::ptr_eq(&other.destination, &holder);
        let completed =
            if is_holder { Ok(()) } else { complete(&*holder, &timelines, &mut other, &links) };
        match completed {
            Err(error) if error.status == Status::Locked => return Err(error),
            Err(error) => opening.stores.lacks(other.at, Some(&error))?,
            Ok(()) => listed.push(other),
        }
    }
    let mut state = state;
    let mut rest = &links[..];
    while let Some((link, after)) = rest.split_first().filter(|_| continues) {
        let read;
        (source, read) = replay(opening, &state, source, link)?;
        let Some((mark, changes)) = read else { break };
        state = beyond(&state, link, mark);
        opening.shipper.record(&state, &changes, false)?;
        rest = after;
    }
    let replayed = rest.is_empty();
    for link in rest {
        let Some(changes) = effect(opening, &state, &*holder, link)? else { break };
        state = beyond(&state, link, Mark::NOWHERE);
        opening.shipper.record(&state, &changes, false)?;
    }
    Ok((state, source, continues && replayed))
}

fn beyond(state: &State, link: &Link, mark: Mark) -> State {
    let timeline = link.parts[0].span.timeline;
    State { commit: *link.last(), chain: link.chain, timeline, mark, ..*state }
}

/// The change-sets that lead on from `state`, as far as they are there and sound.
fn links(each: &Listed, state: &State) -> Result<Vec<Link>> {
    let Listed { destination, replica, ancestry, .. } = each;
    let mut links: Vec<Link> = Vec::new();
    let (mut last, mut chain) = (state.commit.number, state.chain);
    loop {
        let from =
            |change: &Change| change.span.first == last.next() && is_on(ancestry, &change.span);
        let next = replica.changes.values().filter(|parts| is_whole(parts) && from(&parts[0]));
        let mut found = None;
        for parts in next {
            let set = match read_change(&**destination, &parts[parts.len() - 1]) {
                Ok(set) => set,
                // Left behind as a branch, for `verify` to name.
                Err(error) if error.status == Status::Integrity => continue,
                Err(error) => return Err(error),
            };
            if set.header().parent == chain && set.header().page_size == state.page_size {
                let (parts, chain) = (parts.clone(), set.header().chain);
                found = Some(Link { parts, chain, commits: set.commits });
            }
        }
        let Some(link) = found else { return Ok(links) };
        (last, chain) = (link.last().number, link.chain);
        links.push(link);
    }
}

/// Stores on one destination what only another one has, after the records of its timelines.
fn complete(
    holder: &dyn Backend,
    timelines: &[Timeline],
    other: &mut Listed,
    links: &[Link],
) -> Result<()> {
    let parts = || links.iter().flat_map(|link| &link.parts);
    let last = parts().map(|part| part.span.timeline).max().unwrap_or_default();
    let new = other.replica.newest_record().unwrap_or_default().0 + 1..=last.0;
    let records = timelines.iter().filter(|timeline| new.contains(&timeline.0));
    let names = records.map(|it| Name::Timeline(*it)).chain(parts().map(|it| Name::Change(*it)));
    let known: BTreeSet<_> = other.replica.objects.iter().map(|entry| &entry.name).collect();
    let lacking: Vec<_> = names.filter(|name| !known.contains(name)).collect();
    for name in &lacking {
        mend::store(&*other.destination, name, &holder.get(name)?)?;
    }
    if !lacking.is_empty() {
        *other = ground::list_one(other.at, &other.destination)?;
    }
    Ok(())
}

/// Reads a change-set's commits from the WAL: the place after them, and the changes of the page
/// index. `None` if the WAL holds something else.
fn replay(
    opening: &Opening,
    state: &State,
    source: Source,
    link: &Link,
) -> Result<(Source, Option<(Mark, Changes)>)> {
    let start = Start {
        page_size: state.page_size,
        timeline: state.timeline,
        identity: state.identity,
        last: state.commit,
        chain: state.chain,
        snapshot: state.snapshot,
    };
    let mut capture = Capture::new(source, Arc::clone(&opening.index), &start);
    let batch = match capture.replay(link.last()) {
        Err(Trouble::Io(error)) => return Err(failed("read", &opening.database.path, error)),
        Err(Trouble::Lost(_) | Trouble::Corrupt(..) | Trouble::Diverged(_)) => None,
        Ok(batch) => batch,
    };
    let read = batch.map(|batch| (batch.state.mark, Arc::unwrap_or_clone(batch.index)));
    Ok((capture.source, read))
}

/// What a change-set does to the page index. `None` if that does not give its digest.
fn effect(
    opening: &Opening,
    state: &State,
    holder: &dyn Backend,
    link: &Link,
) -> Result<Option<Changes>> {
    // The size of the database from each commit on: a page cut off and not written again is gone.
    let mut least: Vec<u32> = link.commits.iter().map(|commit| commit.pages).collect();
    for at in (1..least.len()).rev() {
        least[at - 1] = least[at - 1].min(least[at]);
    }
    let cut = least[0];
    let mut changes: Changes =
        (cut + 1..=state.commit.pages).map(|page| (PageNo(page), PageHash::default())).collect();
    for part in &link.parts {
        let set: ChangeSet = read_change(holder, part)?;
        let pages = set.pages_at(CommitNo(u64::MAX), |page, commit, bytes| {
            let lives = page.0 <= least[commit];
            changes
                .insert(page, if lives { PageHash::of(page, bytes) } else { PageHash::default() });
            Ok::<(), crate::object::Damage>(())
        });
        pages.map_err(|damage| crate::replica::damaged(holder, &Name::Change(*part), damage))?;
    }
    let mut digest = state.commit.digest.unwrap_or_default();
    for (page, hash) in &changes {
        let old = opening
            .index
            .get(*page)
            .map_err(|error| Error::io("read", "the page index", &error))?;
        digest.replace(old, *hash);
    }
    Ok((link.last().digest == Some(digest)).then_some(changes))
}
