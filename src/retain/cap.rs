//! Caps: the most that a destination is to hold of a replica.
//!
//! To hold to one is to move the base on, as if `keep` asked for less: so the eras before it go, from the
//! oldest on and each as a whole, with the branches that go on from them, and what is left begins with a
//! snapshot. The newest snapshot and what follows it stay, whatever the cap: that is told instead.

use super::Judge;
use crate::keep::{Cap, Sum};
use crate::name::{Name, Part, Span};
use crate::units;
use std::collections::BTreeSet;
use std::fmt;

/// More is held than a cap allows, and cannot go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    pub held: Sum,
    pub cap: Cap,
    /// It could, but for locks.
    pub locked: bool,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Sum { objects, bytes } = self.held;
        let what = match self.locked {
            true => "what is locked or still needed has",
            false => "the newest snapshot and what follows it have",
        };
        write!(f, "{what} {} in {objects} objects, past {}", units::bytes(bytes), self.cap)
    }
}

impl Over {
    pub fn remedy(&self) -> &'static str {
        match self.locked {
            true => "it goes once its locks have ended; raise the cap, or have a shorter lock",
            false => {
                "they are kept all the same; raise the cap, or have a shorter snapshot_interval"
            }
        }
    }
}

/// What is held, and the snapshots that there are, with a base and with no later one.
#[derive(Default)]
struct Step {
    held: Sum,
    snapshots: Vec<Span>,
}

impl Judge<'_> {
    /// Has as much go as it takes to hold to a cap; what is too much even then. `parts_of` tells the
    /// parts that a snapshot names.
    pub fn fit<E>(
        &mut self,
        cap: Cap,
        mut parts_of: impl FnMut(&Span) -> Result<Vec<Part>, E>,
    ) -> Result<Option<Over>, E> {
        let mut all = Sum::default();
        self.replica.objects.iter().for_each(|entry| all.add(entry.bytes));
        if cap.allows(all) {
            return Ok(None);
        }
        let bases = self.bases();
        let steps = self.steps(&bases);
        let (mut held, mut named) = (Sum::default(), BTreeSet::new());
        let mut best: Option<(usize, Sum)> = None;
        for (at, step) in steps.iter().enumerate().rev() {
            held += step.held;
            let mut whole = true;
            for span in &step.snapshots {
                for part in parts_of(span)? {
                    let bytes = self.replica.parts.get(&part);
                    bytes.filter(|_| named.insert(part)).into_iter().for_each(|it| held.add(*it));
                    // Nothing is deleted for a snapshot that cannot be restored from.
                    whole &= bytes.is_some() || bases[at] != Some(*span);
                }
            }
            if best.is_some() && !cap.allows(held) {
                break;
            }
            if whole || at == 0 {
                best = Some((at, held));
            }
        }
        let (at, held) = best.expect("the first of them will do");
        self.base = bases[at];
        Ok((!cap.allows(held)).then_some(Over { held, cap, locked: false }))
    }

    /// Where what is kept may begin, the present base first.
    fn bases(&self) -> Vec<Option<Span>> {
        let is_later = |span: &&Span| self.base.is_none_or(|base| span.last > base.last);
        let later = self.snapshots.iter().filter(is_later);
        let kept = later.filter(|span| !self.judge(&Name::Snapshot(**span), None).deletes());
        std::iter::once(self.base).chain(kept.copied().map(Some)).collect()
    }

    /// All that is not deleted with the first of `bases`, by the last one with which it is not.
    fn steps(&mut self, bases: &[Option<Span>]) -> Vec<Step> {
        let mut steps: Vec<Step> = bases.iter().map(|_| Step::default()).collect();
        let base = self.base;
        let replica = self.replica;
        for entry in &replica.objects {
            if matches!(entry.name, Name::Part(_)) {
                continue;
            }
            let kept = bases.partition_point(|base| {
                self.base = *base;
                !self.judge(&entry.name, None).deletes()
            });
            let Some(step) = kept.checked_sub(1).map(|at| &mut steps[at]) else { continue };
            step.held.add(entry.bytes);
            if let Name::Snapshot(span) = entry.name {
                step.snapshots.push(span);
            }
        }
        self.base = base;
        steps
    }
}
