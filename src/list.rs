//! What a replica holds: restore points as ranges, or its objects.

use crate::ahead::ahead;
use crate::backend::{Backend, Entry, Kind, NONE_HERE};
use crate::commit::{Commit, CommitNo, Time, Timeline};
use crate::error::{Error, Result, Status};
use crate::name::{Change, Name, Span};
use crate::object::Seal;
use crate::replica::{Replica, Run, read_change};
use std::collections::BTreeMap;

/// Restore points from `first` to `last`; `points` of them, which may be fewer than the commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub first: CommitNo,
    pub last: CommitNo,
    pub from: Time,
    pub to: Time,
    pub timeline: Timeline,
    pub points: u64,
    /// Abandoned: restored only where its timeline is asked for.
    pub branch: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub name: Name,
    pub bytes: u64,
    pub seal: Seal,
}

/// The restore points of the newest timeline's ancestry, oldest first, then those of each abandoned
/// branch, the newest branch first.
pub fn points(source: &dyn Backend) -> Result<Vec<Range>> {
    let replica = listed(source)?;
    let ancestry = replica.ancestry(source)?;
    let mut all = Vec::new();
    for run in replica.runs(&ancestry) {
        all.extend(ranges(source, &replica, &run, CommitNo(0), false)?);
    }
    for branch in replica.branches(source)? {
        match branch {
            Ok(branch) => {
                let runs = replica.runs(&branch.ancestry).into_iter();
                for run in runs.filter(|run| run.end().last > branch.after) {
                    all.extend(ranges(source, &replica, &run, branch.after, true)?);
                }
            }
            // Nothing on it can be restored, which is for `verify` to say. The others can.
            Err(error) if error.status == Status::Integrity => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// The restore points of a run past `after`, a range for each density.
fn ranges(
    source: &dyn Backend,
    replica: &Replica,
    run: &Run,
    after: CommitNo,
    branch: bool,
) -> Result<Vec<Range>> {
    let mut ranges: Vec<Range> = Vec::new();
    let (mut reached, mut density) = (after, None);
    if run.first() > after {
        let Span { last, time, timeline, .. } = run.snapshot;
        let (first, from, to) = (last, time, time);
        ranges.push(Range { first, last, from, to, timeline, points: 1, branch });
        reached = last;
    }
    let left_out = left_out(source, replica, run)?;
    for span in run.changes.iter().filter(|span| span.last > run.first().max(after)) {
        let kept = left_out.get(span);
        let level = kept.map_or(0, |(level, _)| *level);
        let inside = |it: &&(CommitNo, Time)| it.0 > reached;
        let points = match kept {
            Some((_, points)) => points.iter().filter(inside).count() as u64,
            None => span.last.0 - reached.0,
        };
        match ranges.last_mut().filter(|_| density.is_none_or(|before| before == level)) {
            Some(range) => {
                let (last, to, timeline) = (span.last, span.time, span.timeline);
                *range = Range { last, to, timeline, points: range.points + points, ..*range };
            }
            None => {
                let next = reached.next();
                let first = kept.and_then(|(_, points)| points.iter().find(inside).copied());
                let (first, from) =
                    first.unwrap_or_else(|| (next, time_of(source, replica, run, next)));
                let Span { last, time: to, timeline, .. } = *span;
                ranges.push(Range { first, last, from, to, timeline, points, branch });
            }
        }
        (reached, density) = (span.last, Some(level));
    }
    Ok(ranges)
}

/// What is left of change-sets that commits were left out of, with their levels. Names do not tell;
/// below level 2 there are none. One that cannot be read counts as its last commit.
fn left_out(source: &dyn Backend, replica: &Replica, run: &Run) -> Result<LeftOut> {
    let merged = run.changes.iter().filter_map(|span| replica.parts_of(*span)?.last());
    let merged: Vec<Change> = merged.filter(|change| change.level > 1).copied().collect();
    let mut found = LeftOut::new();
    let bytes: BTreeMap<_, _> = replica.objects.iter().map(|it| (&it.name, it.bytes)).collect();
    ahead(
        &merged,
        |change| bytes.get(&Name::Change(*change)).copied().unwrap_or(0),
        |change| Ok(read_change(source, change).map(|set| set.commits)),
        |Change { level, span, .. }, commits| {
            let Span { first, last, time, .. } = *span;
            let points: Vec<_> = match commits {
                Ok(commits) => commits.iter().map(|it| (it.number, it.time)).collect(),
                Err(_) => vec![(last, time)],
            };
            if (points.len() as u64) < last.0 - first.0 + 1 {
                found.insert(*span, (*level, points));
            }
            Ok(())
        },
    )?;
    Ok(found)
}

type LeftOut = BTreeMap<Span, (u8, Vec<(CommitNo, Time)>)>;

/// When a commit of a run was made. The name of its change-set has the time of the last commit; where
/// the others cannot be read, that has to do.
fn time_of(source: &dyn Backend, replica: &Replica, run: &Run, commit: CommitNo) -> Time {
    let Some(span) = run.changes.iter().find(|span| span.last >= commit) else { return run.from() };
    let end = replica.parts_of(*span).and_then(|parts| parts.last());
    let set = end.filter(|_| span.last > commit).and_then(|end| read_change(source, end).ok());
    let found = |commits: Vec<Commit>| commits.into_iter().find(|it| it.number == commit);
    set.and_then(|set| found(set.commits)).map_or(span.time, |commit| commit.time)
}

/// Every object, in the order of their names. The beginning of each tells how it is sealed.
pub fn objects(source: &dyn Backend) -> Result<Vec<Object>> {
    let entries = listed(source)?.objects;
    let mut objects = Vec::with_capacity(entries.len());
    ahead(
        &entries,
        |_| 0,
        |entry| seal(source, &entry.name),
        |Entry { name, bytes }, seal| {
            objects.extend(seal.map(|seal| Object { name: name.clone(), bytes: *bytes, seal }));
            Ok(())
        },
    )?;
    Ok(objects)
}

/// Nothing, if it was removed since it was listed. One that may not be read is listed all the same.
fn seal(source: &dyn Backend, name: &Name) -> Result<Option<Seal>> {
    match source.start(name, Seal::BYTES) {
        Ok(start) => Ok(Some(Seal::of(&start))),
        Err(error) => match error.kind {
            Kind::NotFound => Ok(None),
            Kind::Denied | Kind::Corrupt => Ok(Some(Seal::Unknown)),
            _ => Err(error.into()),
        },
    }
}

fn listed(source: &dyn Backend) -> Result<Replica> {
    let replica = Replica::list(source)?;
    if replica.is_empty() {
        let error = Error::new(Status::Missing, "list", source, "there is no replica here");
        return Err(error.hint(NONE_HERE));
    }
    Ok(replica)
}

#[cfg(test)]
mod tests;
