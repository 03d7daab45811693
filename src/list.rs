//! What a replica holds: restore points as ranges, or its objects.

use crate::backend::Backend;
use crate::commit::{Commit, CommitNo, Time, Timeline};
use crate::error::{Error, Result, Status};
use crate::name::Name;
use crate::replica::{Branch, Replica, Run, read_change};

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
}

/// The restore points of the newest timeline's ancestry, oldest first, then those of each abandoned
/// branch, the newest branch first.
pub fn points(source: &dyn Backend) -> Result<Vec<Range>> {
    let replica = listed(source)?;
    let ancestry = replica.ancestry(source)?;
    let mut ranges: Vec<Range> = replica.runs(&ancestry).iter().map(range).collect();
    for branch in replica.branches(source)? {
        match branch {
            Ok(branch) => ranges.extend(branch_ranges(source, &replica, &branch)),
            // Nothing on it can be restored, which is for `verify` to say. The others can.
            Err(error) if error.status == Status::Integrity => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ranges)
}

fn range(run: &Run) -> Range {
    let (first, end) = (run.first(), run.end());
    let points = end.last.0 - first.0 + 1;
    let timeline = end.timeline;
    let (last, from, to) = (end.last, run.from(), end.time);
    Range { first, last, from, to, timeline, points, branch: false }
}

/// What of a branch's runs lies past the point where it was left.
fn branch_ranges(source: &dyn Backend, replica: &Replica, branch: &Branch) -> Vec<Range> {
    let runs = replica.runs(&branch.ancestry).into_iter();
    let past = runs.filter(|run| run.end().last > branch.after);
    let ranges = past.map(|run| {
        let whole = Range { branch: true, ..range(&run) };
        let first = branch.after.next();
        if first <= whole.first {
            return whole;
        }
        let from = time_of(source, replica, &run, first);
        Range { first, from, points: whole.last.0 - first.0 + 1, ..whole }
    });
    ranges.collect()
}

/// When a commit of a run was made. The name of its change-set has the time of the last commit; where
/// the others cannot be read, that has to do.
fn time_of(source: &dyn Backend, replica: &Replica, run: &Run, commit: CommitNo) -> Time {
    let Some(span) = run.changes.iter().find(|span| span.last >= commit) else { return run.from() };
    let end = replica.parts_of(*span).and_then(|parts| parts.last());
    let set = end.filter(|_| span.last > commit).and_then(|end| read_change(source, end).ok());
    let found = |commits: Vec<Commit>| commits.into_iter().find(|it| it.number == commit);
    set.and_then(|set| found(set.commits)).map_or(span.time, |commit| commit.time)
}

/// Every object, in the order of their names.
pub fn objects(source: &dyn Backend) -> Result<Vec<Object>> {
    let objects = listed(source)?.objects;
    Ok(objects.into_iter().map(|entry| Object { name: entry.name, bytes: entry.bytes }).collect())
}

fn listed(source: &dyn Backend) -> Result<Replica> {
    let replica = Replica::list(source)?;
    if replica.is_empty() {
        let error = Error::new(Status::Missing, "list", source, "there is no replica here");
        return Err(error.hint("check the path: it is the replica's root, DEST of the daemon"));
    }
    Ok(replica)
}

#[cfg(test)]
mod tests;
