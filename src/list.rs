//! What a replica holds: restore points as ranges, or its objects.

use crate::backend::Backend;
use crate::commit::{CommitNo, Time, Timeline};
use crate::error::{Error, Result, Status};
use crate::name::Name;
use crate::replica::{Replica, Run};

/// Restore points from `first` to `last`; `points` of them, which may be fewer than the commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub first: CommitNo,
    pub last: CommitNo,
    pub from: Time,
    pub to: Time,
    pub timeline: Timeline,
    pub points: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub name: Name,
    pub bytes: u64,
}

/// The restore points of the newest timeline's ancestry, oldest first.
pub fn points(source: &dyn Backend) -> Result<Vec<Range>> {
    let replica = listed(source)?;
    let ancestry = replica.ancestry(source)?;
    Ok(replica.runs(&ancestry).iter().map(range).collect())
}

fn range(run: &Run) -> Range {
    let (first, end) = (run.first(), run.end());
    let points = end.last.0 - first.0 + 1;
    let timeline = end.timeline;
    Range { first, last: end.last, from: run.from(), to: end.time, timeline, points }
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
