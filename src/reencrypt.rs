//! A replica is rewritten object by object, until one key seals all of it, or none does.
//!
//! Each object is read, opened, checked, sealed anew and put in the place of the old one, then read
//! back. At every moment it is the old one or the new one, so whoever has both keys restores all along,
//! and whoever runs this again goes on. What a daemon stores or removes meanwhile does no harm: an
//! object's new bytes say what the old ones said.
//!
//! This knows bare destinations only. What is not sealed is sealed only where the rule trusts it: else
//! an object that anybody has slipped in would become one that nobody doubts any more.

use crate::backend::{self, Backend, Kind, NONE_HERE, list_all};
use crate::error::{Error, Result, Status};
use crate::name::Name;
use crate::object::{KeyId, Object, sealed_under};
use crate::replica::damaged;
use crate::restore::Progress;
use crate::seal::{Key, Keys, Refused};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// While some wait for a destination, the others use two cores. Each holds an object in two forms at most: a
/// fifth one is 5 % faster, and past 64 MiB.
const THREADS: usize = 4;
/// What went wrong is told for so many objects; the others are counted.
const TOLD: usize = 20;
/// The way out, where it is not somebody else's.
const NOT_SEALED: &str = "seal = \"new\", or --seal new, trusts what is not sealed, and seals it";

#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    pub keys: &'a Keys,
    /// `None`: everything is to be plain.
    pub target: Option<&'a Key>,
    pub dry_run: bool,
}

/// What became of a replica.
#[derive(Debug, Default)]
pub struct Report {
    pub objects: u64,
    pub bytes: u64,
    /// Written anew, or to be, in a dry run.
    pub rewritten: u64,
    /// Could not be written anew.
    pub remaining: u64,
    /// How many objects were found under each key, and under none.
    pub found: BTreeMap<Option<KeyId>, u64>,
    /// The first of those that went wrong.
    pub errors: Vec<Error>,
}

/// What is done with one object.
enum Done {
    /// It was as it should be, or had been removed since it was listed.
    Nothing,
    Rewritten,
}

pub fn reencrypt(source: &dyn Backend, order: Order, progress: &dyn Progress) -> Result<Report> {
    let mut entries = Vec::new();
    for prefix in Name::PREFIXES {
        entries.extend(list_all(source, prefix)?.entries);
    }
    if entries.is_empty() {
        let error = Error::new(Status::Missing, "reencrypt", source, "there is no replica here");
        return Err(error.hint(NONE_HERE));
    }
    let total = entries.iter().map(|entry| entry.bytes).sum();
    let report = Report { objects: entries.len() as u64, bytes: total, ..Report::default() };
    let work = Work { source, order, stop: AtomicBool::new(false), done: Mutex::new((report, 0)) };
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(entry) = entries.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let bytes = work.take(&entry.name, entry.bytes);
                    progress.at(bytes, total);
                }
            });
        }
    });
    Ok(work.done.into_inner().unwrap_or_else(PoisonError::into_inner).0)
}

struct Work<'a> {
    source: &'a dyn Backend,
    order: Order<'a>,
    /// The destination does not answer any more: what is left remains.
    stop: AtomicBool,
    /// And the bytes that are done with.
    done: Mutex<(Report, u64)>,
}

impl Work<'_> {
    /// Does one object, and notes what became of it. How many bytes are done with.
    fn take(&self, name: &Name, bytes: u64) -> u64 {
        let stopped = self.stop.load(Ordering::Relaxed);
        let result = (!stopped).then(|| self.one(name));
        let (report, done) = &mut *self.done.lock().unwrap_or_else(PoisonError::into_inner);
        *done += bytes;
        let (found, result) = result.unwrap_or((None, Ok(Done::Nothing)));
        found.iter().for_each(|under| *report.found.entry(*under).or_default() += 1);
        match result {
            Ok(Done::Rewritten) => report.rewritten += 1,
            Ok(Done::Nothing) if !stopped => {}
            Ok(Done::Nothing) => report.remaining += 1,
            Err(error) => {
                report.remaining += 1;
                if report.errors.len() < TOLD {
                    report.errors.push(error);
                }
            }
        }
        *done
    }

    /// How it was sealed, as far as that was found out, and what was done.
    fn one(&self, name: &Name) -> (Option<Option<KeyId>>, Result<Done>) {
        let stored = match self.source.get(name) {
            Ok(stored) => stored,
            Err(error) if error.kind == Kind::NotFound => return (None, Ok(Done::Nothing)),
            Err(error) => return (None, Err(self.failed(error))),
        };
        let under = sealed_under(&stored);
        (Some(under), self.rewrite(name, stored, under))
    }

    fn rewrite(&self, name: &Name, stored: Vec<u8>, under: Option<KeyId>) -> Result<Done> {
        let Order { keys, target, dry_run } = self.order;
        let wrong = |damage| damaged(self.source, name, damage);
        let plain = keys.open(name, stored).map_err(|refused| match refused {
            Refused::Damaged(damage) => wrong(damage),
            Refused::NotSealed => {
                let thing = format!("{}/{name}", self.source);
                Error::new(Status::Key, "reencrypt", thing, refused).hint(NOT_SEALED)
            }
        })?;
        let plain = match under.and_then(|id| keys.find(id)) {
            // It is what was sealed under this name.
            Some(_) => plain,
            // One that no key here opens is refused by that too.
            None => Object::open(name, plain).map_err(wrong)?.into_bytes(),
        };
        if under == target.map(|key| key.id) {
            return Ok(Done::Nothing);
        }
        if dry_run {
            return Ok(Done::Rewritten);
        }
        let wanted = match target {
            Some(key) => {
                let sealed = key.seal(name, &plain);
                drop(plain);
                sealed
            }
            None => plain,
        };
        self.source.replace(name, &wanted).map_err(|error| self.failed(error))?;
        match self.source.holds(name, &wanted) {
            Ok(true) => Ok(Done::Rewritten),
            Ok(false) => {
                let thing = format!("{}/{name}", self.source);
                let cause = "it does not read back as it was written";
                Err(Error::new(Status::Integrity, "reencrypt", thing, cause))
            }
            Err(error) if error.kind == Kind::NotFound => Ok(Done::Nothing),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// What befalls a single object leaves the others to be done.
    fn failed(&self, error: backend::Error) -> Error {
        if matches!(error.kind, Kind::Transient | Kind::Full | Kind::Other) {
            self.stop.store(true, Ordering::Relaxed);
        }
        error.into()
    }
}

#[cfg(test)]
mod tests;
