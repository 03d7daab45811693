//! Upkeep: a replica that has run for years stays small, cheap to list and quick to restore.
//!
//! Whatever is made is put first, read back and compared, and only then is deleted what it stands for,
//! the oldest first: a crash anywhere leaves objects that overlap, which every reader expects, and the
//! next round ends what this one began. Each destination deletes only what its own copy stands for.
//!
//! A round may run beside a daemon that ships, and beside another round: both would write the same.

use crate::backend::{self, Backend, Kind};
use crate::change::ChangeSet;
use crate::commit::{CommitNo, Time, Timeline};
use crate::compact::{self, Merge, Merged, Merger, Now, Policy, unreadable};
use crate::error::{Error, Result, Status};
use crate::keep::Keep;
use crate::name::{Change, Name, Span};
use crate::object::Compression;
use crate::replica::{Branch, Forks, Replica, damaged, fetch, read_change, read_manifest};
use crate::retain::{Judge, Why};
use crate::sabotage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a round was told.
pub struct Round<'a> {
    pub policy: &'a Policy,
    pub compression: Compression,
    pub clock: Time,
    /// Commits past this one are left alone: nobody has noted yet that they are stored.
    pub upto: CommitNo,
    /// The timeline of the daemon that does it: once there is a later one, it is not its to do.
    pub timeline: Option<Timeline>,
    /// An object's body, where one is at hand.
    pub recent: &'a dyn Fn(&Name) -> Option<Vec<u8>>,
    /// What is made, to have it at hand later.
    pub keep_recent: &'a dyn Fn(&Name, &[u8]),
    /// Whether to leave off: the next round goes on from there.
    pub stop: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for Round<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Round({:?}, up to {})", self.clock, self.upto)
    }
}

/// What a round has done.
#[derive(Debug, Default)]
pub struct Done {
    pub merged: u64,
    pub made: u64,
    pub deleted: u64,
    /// Bytes put and bytes deleted.
    pub put_bytes: u64,
    pub deleted_bytes: u64,
    /// Bytes that had to be read from a destination for it, but for those read back.
    pub read_bytes: u64,
    /// What `prune` deleted, or would, in order.
    pub pruned: Vec<Pruned>,
    /// Deletions that a lock refused, which are for later.
    pub locked: u64,
    /// Destinations that do not let everything go: there is little to gain in asking them often.
    pub refusing: BTreeSet<String>,
    /// What did not work; it is tried again in the next round.
    pub errors: Vec<Error>,
}

impl Done {
    /// Both of two.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.merged += other.merged;
        self.made += other.made;
        self.deleted += other.deleted;
        self.put_bytes += other.put_bytes;
        self.deleted_bytes += other.deleted_bytes;
        self.read_bytes += other.read_bytes;
        self.pruned.extend(other.pruned);
        self.locked += other.locked;
        self.refusing.extend(other.refusing);
        self.errors.extend(other.errors);
        self
    }
}

/// An object that is not needed any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    pub place: String,
    pub name: Name,
    pub bytes: u64,
    pub why: Why,
}

/// So many locked objects a destination is asked to delete in a round. Locks end by and by: what could
/// go lies among what cannot yet.
const REFUSALS: u32 = 100;

/// What a round may delete besides change-sets and snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// A snapshot may be under way that names them later.
    Leave,
    Collect,
}

/// Whether to do it, or only to say what would be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Real,
    DryRun,
}

/// A destination with what it holds.
struct Place {
    destination: Arc<dyn Backend>,
    replica: Replica,
    bytes: BTreeMap<Name, u64>,
    /// It takes nothing any more: so for this round.
    failed: bool,
    /// Deletions that it refused, up to as many as are borne.
    refusals: u32,
}

impl Place {
    fn list(destination: &Arc<dyn Backend>) -> Result<Self> {
        let replica = Replica::list(&**destination)?;
        let bytes = replica.objects.iter().map(|it| (it.name.clone(), it.bytes)).collect();
        Ok(Self {
            destination: Arc::clone(destination),
            replica,
            bytes,
            failed: false,
            refusals: 0,
        })
    }

    /// Stores an object, or finds it there, and makes sure that it is what it should be.
    fn put_and_check(&self, merged: &Merged) -> Result<()> {
        let to = &*self.destination;
        match to.put(&merged.name, &merged.body) {
            Err(error) if error.kind == Kind::Exists => {}
            result => result?,
        }
        let back = fetch(to, &merged.name)?;
        if back == merged.body || sabotage::is("skip-read-back") {
            return Ok(());
        }
        // An earlier round has made it, and may have kept other points.
        let Name::Change(change) = &merged.name else { unreachable!("merged change-sets only") };
        let set =
            ChangeSet::open(change, back).map_err(|damage| damaged(to, &merged.name, damage))?;
        let same = (set.header().parent, set.header().chain) == (merged.parent, merged.chain);
        if same {
            return Ok(());
        }
        let thing = format!("{to}/{}", merged.name);
        let error = Error::new(Status::Integrity, "compact", thing, "other commits are there");
        Err(error.hint("run: bakelite verify"))
    }

    fn bytes(&self, name: &Name) -> u64 {
        self.bytes.get(name).copied().unwrap_or(0)
    }

    /// Whether nothing more is to be deleted in this round.
    fn refuses(&self) -> bool {
        self.refusals >= REFUSALS
    }

    /// Deletes the oldest first.
    fn delete_all(&mut self, inputs: &[Change], done: &mut Done) {
        for input in inputs {
            self.delete(&Name::Change(*input), done);
        }
    }

    /// Whether it did. One that is locked keeps no other from being tried, all else does.
    fn delete(&mut self, name: &Name, done: &mut Done) -> bool {
        if self.refuses() {
            return false;
        }
        if let Err(error) = self.destination.delete(name) {
            if matches!(error.kind, Kind::Locked | Kind::Denied) {
                done.refusing.insert(self.destination.to_string());
            }
            match error.kind {
                Kind::Locked => (self.refusals, done.locked) = (self.refusals + 1, done.locked + 1),
                _ => {
                    self.refusals = REFUSALS;
                    // Where nothing can be deleted, which object it was is no news.
                    let denied = error.kind == Kind::Denied;
                    let name = if denied { String::new() } else { error.name };
                    done.errors.push(backend::Error { name, ..error }.into());
                }
            }
            return false;
        }
        done.deleted += 1;
        done.deleted_bytes += self.bytes(name);
        true
    }

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

/// What pruning would delete of a replica now, but for parts: no other destination need have it.
pub fn old(
    source: &dyn Backend,
    replica: &Replica,
    keep: &Keep,
    clock: Time,
) -> Result<BTreeSet<Name>> {
    let ancestry = replica.ancestry(source)?;
    let branches: Vec<Branch> = replica.branches(source)?.into_iter().collect::<Result<_>>()?;
    let now = Now::new(clock, replica).reference;
    let judge = Judge::new(replica, &ancestry, &branches, keep, now);
    Ok(judge.deletions().into_iter().map(|(name, _)| name).collect())
}

impl Round<'_> {
    /// Merges what is to be merged on each of `destinations`, which hold the same replica.
    pub fn compact(&self, destinations: &[Arc<dyn Backend>]) -> Result<Done> {
        let mut done = Done::default();
        let mut places = Vec::new();
        let mut merges: BTreeMap<Merge, Vec<usize>> = BTreeMap::new();
        let mut forks = Forks::new();
        for destination in destinations {
            let listed = self.list(destination).and_then(|place| {
                place.replica.read_forks(&**destination, &mut forks).map(|()| place)
            });
            let mut place = match listed {
                Ok(place) => place,
                Err(error) if error.status == Status::Locked => return Err(error),
                Err(error) => {
                    done.errors.push(error);
                    continue;
                }
            };
            let now = Now::new(self.clock, &place.replica);
            let plan = compact::plan(&place.replica, &forks, self.policy, now, self.upto);
            // The oldest first: their locks are the first to end.
            let mut merged: Vec<_> = plan.merged.iter().collect();
            merged.sort_unstable_by_key(|(by, _)| by.span);
            for (by, inputs) in merged {
                if (self.stop)() {
                    return Ok(done);
                }
                if place.refuses() {
                    break;
                }
                // What an earlier round has merged is deleted now, if what it made is whole.
                match read_change(&*place.destination, by) {
                    Ok(_) => place.delete_all(inputs, &mut done),
                    Err(error) => done.errors.push(error),
                }
            }
            plan.merges.into_iter().for_each(|it| merges.entry(it).or_default().push(places.len()));
            places.push(place);
        }
        for (merge, at) in merges {
            if (self.stop)() {
                break;
            }
            let merged = self.merge(&merge, &at, &mut places, &mut done);
            done.errors.extend(merged.err());
        }
        Ok(done)
    }

    fn list(&self, destination: &Arc<dyn Backend>) -> Result<Place> {
        let place = Place::list(destination)?;
        if self.timeline.is_some_and(|own| own != place.replica.newest_timeline()) {
            let cause = "another daemon has taken this replica up";
            return Err(Error::new(Status::Locked, "compact", destination, cause));
        }
        Ok(place)
    }

    /// Deletes what is not to be kept any more on each of `destinations`.
    pub fn prune(
        &self,
        destinations: &[Arc<dyn Backend>],
        parts: Parts,
        mode: Mode,
    ) -> Result<Done> {
        let mut done = Done::default();
        for destination in destinations {
            match self.prune_one(destination, parts, mode, &mut done) {
                Err(error) if error.status == Status::Locked => return Err(error),
                result => done.errors.extend(result.err()),
            }
        }
        Ok(done)
    }

    fn prune_one(
        &self,
        destination: &Arc<dyn Backend>,
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
        let judge = Judge::new(&replica, &ancestry, &branches, &self.policy.keep, now);
        let Some(gone) = self.prune_old(&mut place, judge.deletions(), mode, done) else {
            return Ok(());
        };
        if parts == Parts::Leave || place.refuses() {
            return Ok(());
        }
        let mut named = BTreeSet::new();
        let snapshots = replica.snapshots.iter();
        for span in snapshots.filter(|span| !gone.contains(&Name::Snapshot(**span))) {
            let manifest = match read_manifest(&**destination, span) {
                // Somebody else prunes too: what it named is for a round that knows what is left.
                Err(_) if is_gone(&**destination, span)? => return Ok(()),
                manifest => manifest?,
            };
            named.extend(manifest.parts.iter().map(|part| part.part));
        }
        for part in replica.parts.keys().collect::<BTreeSet<_>>() {
            let name = Name::Part(*part);
            let why = judge.judge(&name, Some(&named));
            if (self.stop)() {
                return Ok(());
            }
            if why.deletes() {
                place.prune(&name, why, mode, done);
            }
        }
        Ok(())
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
        for (name, why) in deletions {
            if !begun && (self.stop)() {
                return None;
            }
            // What stays is whole: nothing that it needs goes before it.
            let in_order = matches!(why, Why::Old | Why::OldBranch);
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

    fn merge(
        &self,
        merge: &Merge,
        at: &[usize],
        places: &mut [Place],
        done: &mut Done,
    ) -> Result<()> {
        let mut merger = Merger::new(merge, &self.policy.keep, self.compression);
        for input in &merge.inputs {
            let from = &places[at[0]].destination;
            let set = self.read(&**from, input, done)?;
            let merged = merger.add(*input, &set);
            let merged = merged.map_err(|damage| unreadable(from, input, damage))?;
            if let Some(merged) = merged {
                self.store(&merged, at, places, done);
            }
            if (self.stop)() {
                return Ok(());
            }
        }
        if let Some(merged) = merger.finish() {
            self.store(&merged, at, places, done);
        }
        Ok(())
    }

    fn read(&self, from: &dyn Backend, input: &Change, done: &mut Done) -> Result<ChangeSet> {
        let recent = (self.recent)(&Name::Change(*input));
        let recent = recent.and_then(|body| ChangeSet::open(input, body).ok());
        match recent {
            Some(set) => Ok(set),
            None => {
                let set = read_change(from, input)?;
                done.read_bytes += set.plain_bytes() as u64;
                Ok(set)
            }
        }
    }

    /// Stores one merged change-set everywhere, and deletes there what it stands for.
    fn store(&self, merged: &Merged, at: &[usize], places: &mut [Place], done: &mut Done) {
        done.merged += merged.inputs.len() as u64;
        done.made += 1;
        (self.keep_recent)(&merged.name, &merged.body);
        for at in at {
            let place = &mut places[*at];
            if place.failed {
                continue;
            }
            if sabotage::is("delete-before-merge") {
                place.delete_all(&merged.inputs, done);
            }
            done.put_bytes += merged.body.len() as u64;
            match place.put_and_check(merged) {
                Ok(()) => place.delete_all(&merged.inputs, done),
                Err(error) => {
                    place.failed = true;
                    done.errors.push(error);
                }
            }
        }
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

#[cfg(test)]
mod tests;
