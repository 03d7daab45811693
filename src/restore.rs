//! A database comes back from the objects of one replica.

use crate::backend::Backend;
use crate::commit::{CommitNo, Digest, Time, Timeline};
use crate::error::Result;
use std::path::Path;
use std::sync::Arc;

/// The commit that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Latest,
    /// The last commit seen at or before this time.
    At(Time),
    Commit(CommitNo),
}

/// What SQLite itself is asked about the restored file, beyond the digest that is always proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    None,
    Quick,
    Full,
}

#[derive(Clone, Debug)]
pub struct Options<'a> {
    pub output: &'a Path,
    pub target: Target,
    pub check: Check,
    pub force: bool,
    pub dry_run: bool,
}

/// What was restored.
#[derive(Clone, Debug)]
pub struct Report {
    pub commit: CommitNo,
    pub time: Time,
    pub timeline: Timeline,
    pub digest: Digest,
    pub page_size: u32,
    pub pages: u32,
    /// Read from the replica.
    pub bytes: u64,
    pub objects: u64,
    pub seconds: f64,
}

/// Told of long work's progress, in bytes or any other unit that has a total.
pub trait Progress: Sync {
    fn at(&self, done: u64, total: u64);
}

/// Restores from `source`.
pub fn restore(
    _source: &Arc<dyn Backend>,
    _options: &Options,
    _progress: &dyn Progress,
) -> Result<Report> {
    unimplemented!()
}
