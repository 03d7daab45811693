//! What a destination lacks, copied from a sibling.

use super::Lane;
use crate::backend::Backend;
use crate::clock;
use crate::error::Result;
use crate::keep::{Cap, Keep};
use crate::mend::copy_missing;

impl Lane {
    /// Copies all that `sibling` has and keeps. What is stored meanwhile goes to the spool.
    pub(super) fn copy_from(&self, sibling: &dyn Backend, keep: &Keep, cap: Cap) -> Result<()> {
        {
            let mut debt = self.debt();
            (debt.copy, debt.copying) = (false, true);
        }
        let copied = copy_missing(sibling, &*self.destination, keep, cap, clock::now());
        let mut debt = self.debt();
        debt.copying = false;
        debt.copy |= copied.is_err();
        copied
    }
}
