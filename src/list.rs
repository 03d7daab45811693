//! What a replica holds.

use crate::backend::Backend;
use crate::commit::{CommitNo, Time, Timeline};
use crate::error::{Error, Result, Status};
use crate::name::Name;

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

pub fn points(_source: &dyn Backend) -> Result<Vec<Range>> {
    Err(Error::new(Status::Failed, "list", "stub", "not here"))
}

pub fn objects(_source: &dyn Backend) -> Result<Vec<Object>> {
    Err(Error::new(Status::Failed, "list", "stub", "not here"))
}
