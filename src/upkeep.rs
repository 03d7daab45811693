//! Upkeep: a replica that has run for years stays small, cheap to list and quick to restore.
//!
//! Whatever is made is put first, read back and compared, and only then is deleted what it stands for,
//! the oldest first: a crash anywhere leaves objects that overlap, which every reader expects, and the
//! next round ends what this one began. Each destination deletes only what its own copy stands for.
//!
//! A round may run beside a daemon that ships, and beside another round: both would write the same.

mod prune;

pub use prune::{Pruned, fit, old, settle};

use crate::backend::{self, Backend, Kind};
use crate::change::ChangeSet;
use crate::commit::{Chain, CommitNo, Time, Timeline};
use crate::compact::{self, Merge, Merged, Merger, Now, Policy, unreadable};
use crate::error::{Error, Result, Status};
use crate::keep::Cap;
use crate::name::{Change, Name};
use crate::object::{Compression, Damage};
use crate::replica::{Forks, Replica, damaged, fetch, read_change};
use crate::restore::Progress;
use crate::retain::Over;
use crate::sabotage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a round was told.
pub struct Round<'a> {
    pub policy: &'a Policy,
    /// What each destination is to hold at most; those past the end, whatever comes.
    pub caps: &'a [Cap],
    pub compression: Compression,
    pub clock: Time,
    /// Commits past this one are left alone: nobody has noted yet that they are stored.
    pub upto: CommitNo,
    /// The timeline of the daemon that does it: once there is a later one, it is not its to do.
    pub timeline: Option<Timeline>,
    /// An object's body, where one is at hand.
    pub recent: &'a dyn Fn(&Name) -> Option<Vec<u8>>,
    /// What is made and stands everywhere, to have it at hand in place of what it was made of.
    pub keep_recent: &'a dyn Fn(&Merged),
    /// Whether to leave off: the next round goes on from there.
    pub stop: &'a dyn Fn() -> bool,
    /// Told how many bytes of what is to be merged, or to go, are dealt with.
    pub progress: &'a dyn Progress,
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
    /// By destination, what it holds past its cap, if it does.
    pub caps: BTreeMap<String, Option<Over>>,
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
        self.caps.extend(other.caps);
        self.locked += other.locked;
        self.refusing.extend(other.refusing);
        self.errors.extend(other.errors);
        self
    }
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
    /// All, unless a timeline after this one was claimed: then somebody else's may be under way.
    CollectUpTo(Timeline),
}

impl Parts {
    /// Whether they may go from a destination with this newest timeline.
    pub fn may_go(self, newest: Timeline) -> bool {
        match self {
            Self::Leave => false,
            Self::Collect => true,
            Self::CollectUpTo(own) => newest <= own,
        }
    }
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
}

/// How far a round is with what it has to do.
struct Meter<'a> {
    progress: &'a dyn Progress,
    done: u64,
    total: u64,
}

impl<'a> Meter<'a> {
    fn new(progress: &'a dyn Progress, bytes: &[u64]) -> Self {
        Self { progress, done: 0, total: bytes.iter().sum() }
    }

    fn add(&mut self, bytes: u64) {
        self.done += bytes;
        self.progress.at(self.done, self.total);
    }
}

impl Round<'_> {
    /// Merges what is to be merged on each of `destinations`, which hold the same replica.
    pub fn compact(&self, destinations: &[Arc<dyn Backend>]) -> Result<Done> {
        let mut done = Done::default();
        let mut places = Vec::new();
        let mut merges: BTreeMap<Merge, Vec<usize>> = BTreeMap::new();
        for destination in destinations {
            // Its own: what one holds for a number only, another may have a record of.
            let mut forks = Forks::new();
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
        let bytes_of = |(merge, at): (&Merge, &Vec<usize>)| -> u64 {
            merge.inputs.iter().map(|input| places[at[0]].bytes(&Name::Change(*input))).sum()
        };
        let bytes: Vec<u64> = merges.iter().map(bytes_of).collect();
        let mut meter = Meter::new(self.progress, &bytes);
        for ((merge, at), bytes) in merges.into_iter().zip(bytes) {
            if (self.stop)() {
                break;
            }
            let merged = self.merge(&merge, &at, &mut places, &mut done);
            done.errors.extend(merged.err());
            meter.add(bytes);
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

    fn merge(
        &self,
        merge: &Merge,
        at: &[usize],
        places: &mut [Place],
        done: &mut Done,
    ) -> Result<()> {
        let mut merger = Merger::new(merge, &self.policy.keep, self.compression);
        let (mut at, mut before) = (at.to_vec(), None);
        if let [alone] = &merge.inputs[..] {
            self.is_one_everywhere(alone, &at, places)?;
        }
        for input in &merge.inputs {
            let (set, from) = self.read(input, before, &mut at, places, done)?;
            before = Some(set.header().chain);
            let merged = merger.add(*input, &set);
            let merged =
                merged.map_err(|damage| unreadable(&places[from].destination, input, damage))?;
            if let Some(merged) = merged {
                self.store(&merged, &at, places, done);
            }
            if (self.stop)() {
                return Ok(());
            }
        }
        if let Some(merged) = merger.finish() {
            self.store(&merged, &at, places, done);
        }
        Ok(())
    }

    /// Nothing before or after it tells whether an input that is alone is of another replica: so all that
    /// have it whole have to have the same.
    fn is_one_everywhere(&self, input: &Change, at: &[usize], places: &[Place]) -> Result<()> {
        let name = Name::Change(*input);
        if at.len() == 1 || (self.recent)(&name).is_some() {
            return Ok(());
        }
        let sets = at.iter().filter_map(|at| read_change(&*places[*at].destination, input).ok());
        let mut chains = sets.map(|set| (set.header().parent, set.header().chain));
        let first = chains.next();
        if chains.all(|other| Some(other) == first) {
            return Ok(());
        }
        let cause = "it is not the same on all destinations";
        Err(Error::new(Status::Integrity, "compact", name, cause).hint("run: bakelite verify"))
    }

    /// An input from where it is whole and goes on from the one before, and where that is: what is at hand, else the
    /// first destination that has it so. Where it is damaged, what is merged will stand for it, and it is told; where
    /// nothing is known of it, as there is no answer or no key, this is not merged.
    fn read(
        &self,
        input: &Change,
        before: Option<Chain>,
        at: &mut Vec<usize>,
        places: &[Place],
        done: &mut Done,
    ) -> Result<(ChangeSet, usize)> {
        let name = Name::Change(*input);
        let recent = (self.recent)(&name).and_then(|body| ChangeSet::open(input, body).ok());
        if let Some(set) = recent {
            return Ok((set, at[0]));
        }
        let (alone, mut errors) = (at.len() == 1, Vec::new());
        for place in at.clone() {
            let from = &*places[place].destination;
            let set = read_change(from, input).and_then(|set| {
                let goes_on = before.is_none_or(|before| before == set.header().parent);
                let other = Damage::BadTable("it does not go on from the one before it");
                // Where there is but one, the merger keeps it apart. On others it would take the place of
                // what is right.
                if goes_on || alone { Ok(set) } else { Err(damaged(from, &name, other)) }
            });
            match set {
                Ok(set) => {
                    done.read_bytes += set.plain_bytes() as u64;
                    done.errors.extend(errors);
                    return Ok((set, place));
                }
                Err(error) => {
                    at.retain(|it| *it != place || error.status == Status::Integrity);
                    errors.push(error);
                }
            }
        }
        let last = errors.pop().expect("it was asked for somewhere");
        done.errors.extend(errors);
        Err(last)
    }

    /// Stores one merged change-set everywhere, and deletes there what it stands for.
    fn store(&self, merged: &Merged, at: &[usize], places: &mut [Place], done: &mut Done) {
        done.merged += merged.inputs.len() as u64;
        done.made += 1;
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
        if at.iter().all(|at| !places[*at].failed) {
            (self.keep_recent)(merged);
        }
    }
}

#[cfg(test)]
mod tests;
