//! Deleting what is not to be kept any more: what retention says of names, in an order in which what is
//! left is whole at every moment, and then the parts that nothing names any more.

use super::{Done, Meter, Mode, Parts, Place, Round};
use crate::backend::Backend;
use crate::commit::Time;
use crate::compact::Now;
use crate::error::{Error, Result, Status};
use crate::keep::{Cap, Keep, Sum};
use crate::name::{Change, Name, Span};
use crate::replica::{Branch, Replica, read_manifest};
use crate::retain::{Judge, Over, Why};
use std::collections::BTreeSet;
use std::sync::Arc;

/// An object that is not needed any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    pub place: String,
    pub name: Name,
    pub bytes: u64,
    pub why: Why,
}

/// What pruning would delete of a replica now, but for parts, if it were held to this cap: no other
/// destination that has the cap need have it.
pub fn old(
    source: &dyn Backend,
    replica: &Replica,
    keep: &Keep,
    cap: Cap,
    clock: Time,
) -> Result<BTreeSet<Name>> {
    let ancestry = replica.ancestry(source)?;
    let branches: Vec<Branch> = replica.branches(source)?.into_iter().collect::<Result<_>>()?;
    let now = Now::new(clock, replica).reference;
    let mut judge = Judge::new(replica, &ancestry, &branches, keep, now);
    drop(settle(&mut judge, source));
    fit(&mut judge, cap, source)?;
    Ok(judge.deletions().into_iter().map(|(name, _)| name).collect())
}

/// Nothing older goes for a snapshot that lacks a part, or whose manifest is damaged. Nor for one that could
/// not be read; why, is returned.
pub fn settle(judge: &mut Judge, source: &dyn Backend) -> Vec<Error> {
    let mut errors = Vec::new();
    if judge.deletions().is_empty() {
        return errors;
    }
    judge.settle(|span| match read_manifest(source, span) {
        Ok(manifest) => Some(manifest.parts.iter().map(|part| part.part).collect()),
        // It is sealed under a key that is given up, and nothing is known against it.
        Err(error) if error.status == Status::Key => Some(Vec::new()),
        Err(error) => {
            let told = !matches!(error.status, Status::Integrity | Status::Missing);
            errors.extend(Some(error).filter(|_| told));
            None
        }
    });
    errors
}

/// Holds to a cap as far as that is possible, by what the snapshots say that they need.
pub fn fit(judge: &mut Judge, cap: Cap, source: &dyn Backend) -> Result<Option<Over>> {
    judge.fit(cap, |span| {
        let manifest = read_manifest(source, span)?;
        Ok(manifest.parts.iter().map(|part| part.part).collect())
    })
}

impl Place {
    /// Deletes what `why` speaks of, and notes it.
    fn prune(&mut self, name: &Name, why: Why, mode: Mode, done: &mut Done) -> bool {
        if mode == Mode::Real && !self.delete(name, done) {
            return false;
        }
        let (place, bytes) = (self.destination.to_string(), self.bytes(name));
        done.pruned.push(Pruned { place, name: name.clone(), bytes, why });
        true
    }
}

impl Round<'_> {
    /// Deletes what is not to be kept any more on each of `destinations`.
    pub fn prune(
        &self,
        destinations: &[Arc<dyn Backend>],
        parts: Parts,
        mode: Mode,
    ) -> Result<Done> {
        let mut done = Done::default();
        for (at, destination) in destinations.iter().enumerate() {
            let cap = self.caps.get(at).copied().unwrap_or_default();
            match self.prune_one(destination, cap, parts, mode, &mut done) {
                Err(error) if error.status == Status::Locked => return Err(error),
                result => done.errors.extend(result.err()),
            }
        }
        Ok(done)
    }

    fn prune_one(
        &self,
        destination: &Arc<dyn Backend>,
        cap: Cap,
        parts: Parts,
        mode: Mode,
        done: &mut Done,
    ) -> Result<()> {
        let mut place = self.list(destination)?;
        if place.replica.is_empty() {
            return Ok(());
        }
        let replica = std::mem::take(&mut place.replica);
        let ancestry = replica.ancestry(&**destination)?;
        let branches: Vec<Branch> =
            replica.branches(&**destination)?.into_iter().collect::<Result<_>>()?;
        let now = Now::new(self.clock, &replica).reference;
        let parts_may_go = parts.may_go(replica.newest_timeline());
        let mut judge = Judge::new(&replica, &ancestry, &branches, &self.policy.keep, now);
        done.errors.extend(settle(&mut judge, &**destination));
        let over = match fit(&mut judge, cap, &**destination) {
            Ok(over) => over,
            // What it would take to hold to the cap is not known: only what is too old goes.
            Err(error) => {
                done.errors.push(error);
                None
            }
        };
        let (locked, before) = (done.locked, done.pruned.len());
        let Some(gone) = self.prune_old(&mut place, judge.deletions(), mode, done) else {
            return Ok(());
        };
        if parts_may_go && !place.refuses() {
            self.prune_parts(&mut place, &replica, &judge, &gone, mode, done)?;
        }
        let mut left = Sum::default();
        replica.objects.iter().for_each(|entry| left.add(entry.bytes));
        done.pruned[before..].iter().for_each(|it| left.take(it.bytes));
        let locked = done.locked > locked;
        let over =
            over.or((locked && !cap.allows(left)).then_some(Over { held: left, cap, locked }));
        if parts_may_go || !locked {
            done.caps.insert(destination.to_string(), over);
        }
        Ok(())
    }

    /// Deletes the parts that no snapshot names which is left.
    fn prune_parts(
        &self,
        place: &mut Place,
        replica: &Replica,
        judge: &Judge,
        gone: &BTreeSet<Name>,
        mode: Mode,
        done: &mut Done,
    ) -> Result<()> {
        let destination = Arc::clone(&place.destination);
        let mut named = BTreeSet::new();
        let snapshots = replica.snapshots.iter();
        for span in snapshots.filter(|span| !gone.contains(&Name::Snapshot(**span))) {
            let manifest = match read_manifest(&*destination, span) {
                // Somebody else prunes too: what it named is for a round that knows what is left.
                Err(_) if is_gone(&*destination, span)? => return Ok(()),
                manifest => manifest?,
            };
            named.extend(manifest.parts.iter().map(|part| part.part));
        }
        let parts: BTreeSet<_> = replica.parts.keys().collect();
        let judged = parts.into_iter().map(|part| {
            let name = Name::Part(*part);
            let why = judge.judge(&name, Some(&named));
            (name, why)
        });
        let deletions: Vec<_> = judged.filter(|(_, why)| why.deletes()).collect();
        let mut meter = self.meter(place, &deletions);
        for (name, why) in deletions {
            if (self.stop)() {
                return Ok(());
            }
            place.prune(&name, why, mode, done);
            meter.add(place.bytes(&name));
        }
        Ok(())
    }

    fn meter(&self, place: &Place, deletions: &[(Name, Why)]) -> Meter<'_> {
        let bytes: Vec<_> = deletions.iter().map(|(name, _)| place.bytes(name)).collect();
        Meter::new(self.progress, &bytes)
    }

    /// Deletes in order, and says what is gone; `None` if it was told to stop.
    fn prune_old(
        &self,
        place: &mut Place,
        deletions: Vec<(Name, Why)>,
        mode: Mode,
        done: &mut Done,
    ) -> Option<BTreeSet<Name>> {
        let mut gone = BTreeSet::new();
        let mut held_up = false;
        let mut rolled: BTreeSet<Span> = deletions.iter().filter_map(|it| rolled(&it.0)).collect();
        // The last of what a snapshot needs and the snapshot go together, or it would be damaged.
        let mut begun = false;
        let mut meter = self.meter(place, &deletions);
        for (name, why) in deletions {
            meter.add(place.bytes(&name));
            if !begun && (self.stop)() {
                return None;
            }
            // What stays is whole: nothing that it needs goes before it.
            let in_order = why.goes_in_order();
            if in_order && held_up {
                continue;
            }
            if !place.prune(&name, why, mode, done) {
                held_up |= in_order;
                continue;
            }
            if let Name::Snapshot(span) = &name {
                rolled.remove(span);
            }
            begun = match &name {
                Name::Change(Change { span, .. }) => {
                    begun || rolled.iter().any(|it| it.first < span.last && span.first <= it.last)
                }
                _ => false,
            };
            gone.insert(name);
        }
        Some(gone)
    }
}

/// The commits of a snapshot whose parts are not all of one commit: it needs the change-sets between.
fn rolled(name: &Name) -> Option<Span> {
    match name {
        Name::Snapshot(span) if span.first < span.last => Some(*span),
        _ => None,
    }
}

fn is_gone(destination: &dyn Backend, span: &Span) -> Result<bool> {
    let name = Name::Snapshot(*span).to_string();
    Ok(destination.list(&name, None)?.entries.is_empty())
}
