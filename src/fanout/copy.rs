//! What one destination has and another lacks, copied.
//!
//! In an order that keeps the copy restorable as far as it goes: parts, then timeline by timeline its
//! record, its change-sets and its snapshots.

use super::Lane;
use crate::backend::{Backend, Kind};
use crate::commit::Timeline;
use crate::error::{Error, Result, Status};
use crate::name::Name;
use crate::replica::{Replica, fetch};
use std::collections::BTreeSet;

impl Lane {
    /// Copies all that `sibling` has. What is stored meanwhile goes to the spool.
    pub(super) fn copy_from(&self, sibling: &dyn Backend) -> Result<()> {
        {
            let mut debt = self.debt();
            (debt.copy, debt.copying) = (false, true);
        }
        let copied = copy_missing(sibling, &*self.destination);
        let mut debt = self.debt();
        debt.copying = false;
        debt.copy |= copied.is_err();
        copied.map(drop)
    }
}

/// Copies every object that is missing; how many those were.
pub fn copy_missing(from: &dyn Backend, to: &dyn Backend) -> Result<u64> {
    let there = Replica::list(to)?;
    let here = Replica::list(from)?;
    if there.newest_timeline() > here.newest_timeline() {
        let cause = "another daemon has taken this replica up";
        return Err(Error::new(Status::Locked, "copy to", to, cause));
    }
    let known: BTreeSet<_> = there.objects.iter().map(|entry| &entry.name).collect();
    let missing = here.objects.iter().map(|entry| &entry.name).filter(|it| !known.contains(it));
    let mut missing: Vec<_> = missing.collect();
    missing.sort_by_key(|name| order(name));
    for name in &missing {
        let body = fetch(from, name)?;
        match to.put(name, &body) {
            Err(error) if error.kind == Kind::Exists && to.get(name)? == body => {}
            result => result?,
        }
    }
    Ok(missing.len() as u64)
}

fn order(name: &Name) -> (Timeline, u8, &Name) {
    match name {
        Name::Part(_) => (Timeline(0), 0, name),
        Name::Timeline(timeline) => (*timeline, 1, name),
        Name::Change(change) => (change.span.timeline, 2, name),
        Name::Snapshot(span) => (span.timeline, 3, name),
    }
}
