//! What a destination lacks, copied from a sibling.

use super::Lane;
use crate::backend::Backend;
use crate::error::Result;
use crate::mend::copy_missing;

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
        copied
    }
}
