//! What a destination lacks, copied from a sibling.

use super::lane::Lane;
use crate::clock;
use crate::commit::CommitNo;
use crate::error::{Error, Result};
use crate::keep::{Cap, Keep};
use crate::mend::{Terms, copy_missing};
use crate::name::Name;
use crate::replica::Replica;

impl Lane {
    /// Copies all that `sibling` has and keeps. What is stored meanwhile goes to the spool. An object that
    /// is damaged there, where this one cannot be restored for lack of it.
    pub(super) fn copy_from(&self, sibling: &Self, keep: &Keep, cap: Cap) -> Result<Option<Name>> {
        let floor = sibling.debt().floor;
        {
            let mut debt = self.debt();
            (debt.copy, debt.copying) = (false, true);
        }
        let (from, to, clock) = (&*sibling.destination, &*self.destination, clock::now());
        let goes_on = || self.goes_on();
        let copied = copy_missing(from, to, &Terms::new(keep, cap, clock).until(&goes_on));
        let lacking = copied.and_then(|bad| match floor.claimed() {
            Some((last, _)) if !bad.is_empty() && !self.leads_to(last)? => Ok(bad.first().cloned()),
            _ => Ok(None),
        });
        let mut debt = self.debt();
        debt.copying = false;
        // What it lacks from now on is in the spool, and there only.
        let lacking = lacking.and_then(|lacking| {
            let unmarked = if debt.copy || debt.retired { Ok(()) } else { self.spool.unmark() };
            unmarked.map_err(|error| Error::io("write", "the spool", &error))?;
            Ok(lacking)
        });
        match &lacking {
            Ok(lacking) => debt.floor.take_over(floor, lacking.is_none()),
            Err(_) => debt.copy = true,
        }
        lacking
    }

    /// Whether what is there, by its names, leads to a commit.
    pub(super) fn leads_to(&self, commit: CommitNo) -> Result<bool> {
        let there = Replica::list(&*self.destination)?;
        let ancestry = there.ancestry(&*self.destination)?;
        Ok(there.runs(&ancestry).iter().any(|run| run.holds(commit)))
    }
}
