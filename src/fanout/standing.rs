//! How a destination stands, as `status` tells it.

use super::lane::Lane;
use crate::commit::{CommitNo, Time};
use std::fmt;

/// How one destination stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub kind: StandingKind,
    /// The last commit that is durable there, with all below it.
    pub floor: Option<(CommitNo, Time)>,
    /// Bytes that wait in the spool.
    pub spooled: u64,
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandingKind {
    Current,
    Behind,
    Broken,
}

impl fmt::Display for StandingKind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Current => "current",
            Self::Behind => "behind",
            Self::Broken => "broken",
        })
    }
}

impl Lane {
    pub(super) fn standing(&self) -> Standing {
        let debt = self.debt();
        let kind = match (debt.is_none(), &debt.error) {
            (true, _) => StandingKind::Current,
            (false, Some(_)) => StandingKind::Broken,
            (false, None) => StandingKind::Behind,
        };
        Standing {
            kind,
            floor: debt.floor.claimed(),
            spooled: debt.pending.values().sum(),
            error: debt.error.clone(),
        }
    }
}
