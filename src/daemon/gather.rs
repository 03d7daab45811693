//! Directories that are looked into while the daemon runs: databases appear in them, and go.
//!
//! A thread of its own looks, since a disk that hangs must not keep the loop. A file that is not there
//! is let go of after a while only: it may be on its way back, from a restore or another mount.

use super::Daemon;
use crate::clock;
use crate::config::{Config, Database};
use crate::error::Error;
use crate::log;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a new file may have to wait.
const LOOK: Duration = Duration::from_secs(5);
/// How long one that is gone is waited for.
const LINGER: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Gatherer {
    /// All that is to be watched, each time that it has changed.
    found: Receiver<Vec<Database>>,
    _alive: Sender<()>,
}

impl Gatherer {
    /// Looks until it is dropped; not at all where there is no directory. `roll` has looked once.
    pub(super) fn new(config: &Config, mut roll: Roll) -> Option<Self> {
        if config.directories.is_empty() {
            return None;
        }
        let (config, (tell, found), (_alive, ended)) = (config.clone(), channel(), channel::<()>());
        thread::spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK) {
                if let Some(news) = roll.call(&config, clock::instant())
                    && tell.send(news).is_err()
                {
                    return;
                }
            }
        });
        Some(Self { found, _alive })
    }
}

/// What is known of the directories.
#[derive(Debug, Default)]
pub(super) struct Roll {
    /// All that is to be watched, and when it was last there.
    known: BTreeMap<PathBuf, (Database, Instant)>,
    /// What was said of those that cannot be.
    told: BTreeSet<String>,
}

impl Roll {
    /// Looks, and tells of what it cannot take. All that is to be watched, if that is not as before.
    pub(super) fn call(&mut self, config: &Config, now: Instant) -> Option<Vec<Database>> {
        let found = config.gather();
        self.tell(found.warnings());
        self.note(found.databases, now)
    }

    fn note(&mut self, found: Vec<Database>, now: Instant) -> Option<Vec<Database>> {
        let before: BTreeSet<PathBuf> = self.known.keys().cloned().collect();
        let taken: BTreeSet<String> = found.iter().map(|it| it.name.clone()).collect();
        self.known.retain(|_, (database, seen)| {
            now.duration_since(*seen) < LINGER && !taken.contains(&database.name)
        });
        for database in found {
            self.known.insert(database.path.clone(), (database, now));
        }
        let same = self.known.keys().eq(&before);
        let all = || self.known.values().map(|(database, _)| database.clone()).collect();
        (!same).then(all)
    }

    /// Each thing once, and again when it had been put right.
    fn tell<'a>(&mut self, warnings: impl Iterator<Item = &'a Error>) {
        let warnings: Vec<_> = warnings.collect();
        for error in warnings.iter().filter(|error| !self.told.contains(&error.message)) {
            log::warn(error);
        }
        self.told = warnings.iter().map(|error| error.message.clone()).collect();
    }
}

impl Daemon {
    /// Takes up what has appeared in directories, and lets go of what has left them.
    pub(super) fn gather(&mut self) {
        let Some(wanted) = self.gatherer.as_ref().and_then(|it| it.found.try_iter().last()) else {
            return;
        };
        let (_, left, begun) = self.watch_only(wanted);
        if left + begun > 0 {
            log::event("directories", format!("{left} end, {begun} begin"));
        }
    }
}

#[cfg(test)]
mod tests;
