//! The lock of a state directory: whoever holds it is the one that watches the database. The file says
//! what it is, since when the cursor counts, and of which destinations.
//!
//! ```text
//! daemon, or sync       what holds it, or held it last
//! timeline              since which the cursor tells the truth; empty until that is known
//! timeline              the one claimed last
//! a destination         each on a line of its own, all that the cursor speaks of
//! ```

use super::Purpose;
use crate::clock;
use crate::commit::Timeline;
use crate::config::{Database, Destination};
use crate::error::{Error, Result, Status};
use crate::sabotage;
use std::fs::{File, TryLockError};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a daemon that starts waits for a `sync` that is at work. It is a pass of capture, as long
/// as a snapshot at most.
const PATIENCE: Duration = Duration::from_secs(600);
const LOCK_POLL: Duration = Duration::from_millis(20);
/// A `sync` that only looks whether a daemon runs holds the lock for an instant: who finds it held
/// looks again for so long.
const GLANCE: Duration = Duration::from_millis(300);
/// What a `sync` writes into the lock file.
const SYNC: &[u8] = b"sync\n";

/// A file that is locked until this is dropped. Closing it would not do: a child that is forked at that
/// moment, and has not become another program yet, has it open as well.
#[derive(Debug)]
pub struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // It is closed next, which does the same but for that child.
        self.0.unlock().ok();
    }
}

/// Takes the lock, or goes on with the one that is held: whoever has it is the one that watches the
/// database. Also the last timeline that was claimed with it.
pub fn take(
    database: &Database,
    purpose: Purpose,
    held: &mut Option<Arc<Lock>>,
) -> Result<(Arc<Lock>, Timeline)> {
    let lock = match held {
        Some(lock) => Arc::clone(lock),
        None => Arc::clone(held.insert(Arc::new(wait(database, purpose)?))),
    };
    let text = read(&database.state_dir).unwrap_or_default();
    let claimed = timeline(&text, 2).unwrap_or_default();
    sign(&lock, purpose, None, claimed)
        .map_err(|error| Error::io("write", database.state_dir.join("lock").display(), &error))?;
    Ok((lock, claimed))
}

fn wait(database: &Database, purpose: Purpose) -> Result<Lock> {
    let path = database.state_dir.join("lock");
    let start = clock::instant();
    loop {
        if let Some(lock) = try_lock(&database.state_dir)? {
            return Ok(lock);
        }
        let holder = std::fs::read(&path).unwrap_or_default();
        let patience = match purpose {
            Purpose::Daemon if holder.starts_with(SYNC) => PATIENCE,
            Purpose::Daemon | Purpose::Sync => GLANCE,
        };
        if start.elapsed() > patience {
            let cause = "another bakelite watches it";
            let error = Error::new(Status::Locked, "watch", database.path.display(), cause);
            return Err(error.hint("stop that one first; `bakelite sync` works beside it"));
        }
        std::thread::sleep(LOCK_POLL);
    }
}

/// What a cursor says counts for: one of an earlier life says nothing of what is durable of the database as
/// it is now, nor of a destination that this life does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    since: Timeline,
    claimed: Timeline,
    places: Vec<String>,
}

impl Signed {
    pub fn new(since: Timeline, claimed: Timeline, destinations: &[Destination]) -> Self {
        Self { since, claimed, places: destinations.iter().map(spelled).collect() }
    }

    /// What whoever holds the lock has signed, or held it last; `None` until it knows.
    pub fn read(state_dir: &Path) -> Option<Self> {
        let text = read(state_dir)?;
        let places = text.lines().skip(3).map(str::to_owned).collect();
        Some(Self { since: timeline(&text, 1)?, claimed: timeline(&text, 2)?, places })
    }

    /// The last timeline that was claimed here.
    pub fn claimed(&self) -> Timeline {
        self.claimed
    }

    /// Whether a cursor on this timeline tells the truth.
    pub fn counts(&self, timeline: Timeline) -> bool {
        timeline >= self.since
    }

    pub fn knows(&self, destination: &Destination) -> bool {
        self.places.contains(&spelled(destination))
    }
}

/// On one line.
fn spelled(destination: &Destination) -> String {
    destination.to_string().escape_debug().to_string()
}

/// Writes what holds the lock and what it knows. No timeline is claimed twice, though a destination that
/// has it may be away.
pub fn sign(
    lock: &Lock,
    purpose: Purpose,
    signed: Option<&Signed>,
    claimed: Timeline,
) -> std::io::Result<()> {
    let mut text = if purpose == Purpose::Sync { SYNC.to_vec() } else { b"daemon\n".to_vec() };
    let since = signed.map_or(String::new(), |signed| signed.since.to_string());
    text.extend_from_slice(format!("{since}\n{claimed}\n").as_bytes());
    for place in signed.iter().flat_map(|signed| &signed.places) {
        text.extend_from_slice(format!("{place}\n").as_bytes());
    }
    lock.0.write_all_at(&text, 0)?;
    lock.0.set_len(text.len() as u64)
}

fn read(state_dir: &Path) -> Option<String> {
    std::fs::read_to_string(state_dir.join("lock")).ok()
}

fn timeline(text: &str, line: usize) -> Option<Timeline> {
    text.lines().nth(line)?.parse().ok().map(Timeline)
}

/// The lock of a state directory, unless somebody holds it.
pub fn try_lock(state_dir: &Path) -> Result<Option<Lock>> {
    try_lock_file(&state_dir.join("lock"))
}

pub fn try_lock_file(path: &Path) -> Result<Option<Lock>> {
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false).open(path);
    let file = file.map_err(|error| Error::io("open", path.display(), &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock(file))),
        Err(TryLockError::WouldBlock) if sabotage::is("lock-nothing") => Ok(Some(Lock(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", path.display(), &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `fork` copies what is open, for as long as the child takes to become another program: a
    /// lock that was only closed was held by it a little longer, and a daemon refused to start.
    #[test]
    fn a_lock_that_is_let_go_of_is_free_whoever_has_the_file_open() {
        let dir = tempfile::tempdir().unwrap();
        let lock = try_lock(dir.path()).unwrap().unwrap();
        let of_child = lock.0.try_clone().unwrap();
        assert!(try_lock(dir.path()).unwrap().is_none());
        drop(lock);
        assert!(try_lock(dir.path()).unwrap().is_some());
        drop(of_child);
    }
}
