//! The inventory: every adversity that is tried, from which runs, figures and the matrix are made.

mod alone;
mod basic;
mod checkpoints;
mod clocks;
mod damage;
mod down;
mod fanout;
mod full;
mod hosts;
mod inventory;
mod kernel;
mod kills;
mod lies;
mod power;
mod replaced;
mod sealed;
mod snapshots;
mod stores;
mod time;
mod upkeep;
mod worm;

use crate::rig::{Result, Rig};
use crate::tally::Tally;
use crate::workload::writer::Args;
pub use inventory::INVENTORY;

#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// What happens to the system, for the matrix.
    pub adversity: &'static str,
    /// How it is made to happen and what is demanded then.
    pub how: &'static str,
    /// Seeds in a run of everything.
    pub seeds: u64,
    /// What must have happened at least once over all seeds, by the start of its name.
    pub faults: &'static [&'static str],
    pub run: fn(&mut Rig) -> Result<()>,
}

impl Scenario {
    /// Why these figures prove nothing, if they do not (traps 106 and 107). What may not be tried
    /// here claims to prove nothing.
    pub fn idle(&self, tally: &Tally) -> Option<Idle> {
        if tally.is_barred() {
            return None;
        }
        if tally.restores == 0 {
            return Some(Idle::NothingGraded);
        }
        let fired =
            |fault: &str| tally.faults.iter().any(|(name, &n)| name.starts_with(fault) && n > 0);
        let never = self.faults.iter().find(|fault| !fired(fault));
        never.map(|fault| Idle::NeverFired(fault))
    }
}

/// A scenario that ran and proved nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    NothingGraded,
    NeverFired(&'static str),
}

pub fn find(name: &str) -> Option<&'static Scenario> {
    INVENTORY.iter().find(|scenario| scenario.name == name)
}

/// However many there are.
const ALL: usize = usize::MAX;

/// A writer that does a little of everything, at a few thousand commits a second at most.
fn busy() -> Args {
    Args { every: 25, vacuum: Some(150), rollback: Some(80), ..Args::default() }
}

impl Rig {
    /// All that was committed until now is shipped and comes back exactly. Nobody writes meanwhile.
    fn sync_exactly(&mut self, seq: u64) -> Result<()> {
        self.sync()?;
        self.grade_exact(seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_words() {
        let names: HashSet<_> = INVENTORY.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), INVENTORY.len());
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(names.iter().all(|name| name.chars().all(is_plain)));
        assert!(INVENTORY.iter().all(|scenario| scenario.seeds > 0 && !scenario.faults.is_empty()));
    }

    #[test]
    fn trap_106_nothing_graded_proves_nothing() {
        let marked = find("marked").unwrap();
        let mut tally = Tally::default();
        marked.faults.iter().for_each(|fault| tally.fault(fault));
        assert_eq!(marked.idle(&tally), Some(Idle::NothingGraded));
        tally.restores = 1;
        assert_eq!(marked.idle(&tally), None);
    }

    #[test]
    fn trap_107_a_fault_that_never_fired_proves_nothing() {
        for scenario in INVENTORY {
            let mut tally = Tally { restores: 1, ..Tally::default() };
            for fault in scenario.faults {
                assert_eq!(scenario.idle(&tally), Some(Idle::NeverFired(fault)));
                tally.fault(fault);
            }
            assert_eq!(scenario.idle(&tally), None, "{}", scenario.name);
        }
    }
}
