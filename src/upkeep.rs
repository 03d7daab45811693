//! Upkeep: a replica that has run for years stays small, cheap to list and quick to restore.
//!
//! Whatever is made is put first, read back and compared, and only then is deleted what it stands for,
//! the oldest first: a crash anywhere leaves objects that overlap, which every reader expects, and the
//! next round ends what this one began. Each destination deletes only what its own copy stands for.
//!
//! A round may run beside a daemon that ships, and beside another round: both would write the same.

use crate::backend::{Backend, Kind};
use crate::change::ChangeSet;
use crate::commit::{CommitNo, Time, Timeline};
use crate::compact::{self, Merge, Merged, Merger, Now, Policy, unreadable};
use crate::error::{Error, Result, Status};
use crate::name::{Change, Name};
use crate::object::Compression;
use crate::replica::{Forks, Replica, damaged, fetch, read_change};
use std::collections::BTreeMap;
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
    /// What did not work; it is tried again in the next round.
    pub errors: Vec<Error>,
}

/// A destination with what it holds.
struct Place {
    destination: Arc<dyn Backend>,
    replica: Replica,
    bytes: BTreeMap<Name, u64>,
    /// It takes nothing any more, or lets nothing be deleted: so for this round.
    failed: bool,
    denied: bool,
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
            denied: false,
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
        if back == merged.body {
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

    /// Deletes the oldest first, up to the first one that cannot be.
    fn delete(&mut self, inputs: &[Change], done: &mut Done) {
        for name in inputs.iter().map(|input| Name::Change(*input)) {
            if self.denied {
                return;
            }
            match self.destination.delete(&name) {
                Ok(()) => {
                    done.deleted += 1;
                    done.deleted_bytes += self.bytes.get(&name).copied().unwrap_or(0);
                }
                Err(error) => {
                    self.denied = true;
                    done.errors.push(error.into());
                }
            }
        }
    }
}

impl Round<'_> {
    /// Merges what is to be merged on each of `destinations`, which hold the same replica.
    pub fn compact(&self, destinations: &[Arc<dyn Backend>]) -> Result<Done> {
        let mut done = Done::default();
        let mut places = Vec::new();
        let mut merges: BTreeMap<Merge, Vec<usize>> = BTreeMap::new();
        let mut forks = Forks::new();
        for destination in destinations {
            let listed = Place::list(destination).and_then(|place| {
                place.replica.read_forks(&**destination, &mut forks).map(|()| place)
            });
            let mut place = match listed {
                Ok(place) => place,
                Err(error) => {
                    done.errors.push(error);
                    continue;
                }
            };
            if self.timeline.is_some_and(|own| own != place.replica.newest_timeline()) {
                let cause = "another daemon has taken this replica up";
                return Err(Error::new(Status::Locked, "compact", destination, cause));
            }
            let now = Now::new(self.clock, &place.replica);
            let plan = compact::plan(&place.replica, &forks, self.policy, now, self.upto);
            for (by, inputs) in &plan.merged {
                if (self.stop)() {
                    return Ok(done);
                }
                if place.denied {
                    break;
                }
                // What an earlier round has merged is deleted now, if what it made is whole.
                match read_change(&*place.destination, by) {
                    Ok(_) => place.delete(inputs, &mut done),
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

    fn merge(
        &self,
        merge: &Merge,
        at: &[usize],
        places: &mut [Place],
        done: &mut Done,
    ) -> Result<()> {
        let reference = Now::new(self.clock, &places[at[0]].replica).reference;
        let mut merger = Merger::new(merge, &self.policy.keep, reference, self.compression);
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
            done.put_bytes += merged.body.len() as u64;
            match place.put_and_check(merged) {
                Ok(()) => place.delete(&merged.inputs, done),
                Err(error) => {
                    place.failed = true;
                    done.errors.push(error);
                }
            }
        }
    }
}
