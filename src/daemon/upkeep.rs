//! Rounds of upkeep, as the daemon makes them by itself and as `compact` and `prune` ask for one.
//!
//! Two rounds at a time would do the same work twice: whoever makes one holds the file `upkeep` in the
//! state directory. The daemon passes over one that it finds held; a command waits for it.

use super::open::{Lock, Signed, try_lock, try_lock_file};
use crate::backend::Backend;
use crate::clock;
use crate::commit::{CommitNo, Timeline};
use crate::compact::Policy;
use crate::config::{Database, Origin};
use crate::cursor;
use crate::error::{Error, Result, Status};
use crate::fanout::Fanout;
use crate::keep::Cap;
use crate::restore::{Progress, Quiet};
use crate::ship::cursor_path;
use crate::spool::Spool;
use crate::upkeep::{Done, Mode, Parts, Round};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often a command looks whether the daemon's round has ended.
const POLL: Duration = Duration::from_millis(50);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Compact,
    Prune(Mode),
    /// Both, and whether parts may go.
    Both(Parts),
}

/// How a command opens a destination.
pub type Open = dyn Fn(&Origin) -> Result<Arc<dyn Backend>>;

/// A round beside the shipping, on the destinations that lack nothing and do not `rest`.
pub fn beside(
    database: &Database,
    stores: &Fanout,
    timeline: Timeline,
    task: Task,
    rest: &BTreeSet<String>,
    stop: &dyn Fn() -> bool,
) -> Result<Done> {
    let Some(_lock) = try_lock_file(&lock_path(&database.state_dir))? else {
        return Ok(Done::default());
    };
    let policy = Policy::new(&database.settings.keep, &database.settings.compaction);
    let mut current = stores.current();
    current.retain(|destination| !rest.contains(&destination.to_string()));
    let caps: Vec<Cap> = current.iter().map(|it| cap_of(database, &it.to_string())).collect();
    let round = Round {
        policy: &policy,
        caps: &caps,
        compression: stores.compression,
        clock: clock::now(),
        upto: noted(&database.state_dir)?.unwrap_or_default(),
        timeline: Some(timeline),
        recent: &|name| stores.recent.get(name),
        keep_recent: &|made| stores.recent.replace(&made.inputs, &made.name, &made.body),
        stop,
        progress: &Quiet,
    };
    match task {
        Task::Compact => round.compact(&current),
        Task::Prune(mode) => round.prune(&current, Parts::Leave, mode),
        Task::Both(parts) => {
            let done = round.compact(&current)?;
            Ok(done.and(round.prune(&current, parts, Mode::Real)?))
        }
    }
}

/// A round for a command, whether a daemon runs or not.
pub fn upkeep(
    database: &Database,
    task: Task,
    open: &Open,
    progress: &dyn Progress,
) -> Result<Done> {
    let _lock = wait(&database.state_dir)?;
    let policy = Policy::new(&database.settings.keep, &database.settings.compaction);
    let compression = database.settings.compression;
    let (mut destinations, mut caps, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for (at, origin) in database.clone().origins().iter().enumerate() {
        // What is too old is so where commits are lacking too, and deleting it may give them the room they lack.
        let current = is_current(database, &origin.to_string());
        let opened = match task {
            Task::Prune(_) => open(origin).map_err(|error| current.err().unwrap_or(error)),
            Task::Compact | Task::Both(_) => current.and_then(|()| open(origin)),
        };
        match opened {
            Ok(opened) => {
                destinations.push(opened);
                caps.push(database.cap(at));
            }
            Err(error) => errors.push(error),
        }
    }
    let round = Round {
        policy: &policy,
        caps: &caps,
        compression,
        clock: clock::now(),
        upto: noted(&database.state_dir)?.unwrap_or(CommitNo(u64::MAX)),
        timeline: None,
        recent: &|_| None,
        keep_recent: &|_| (),
        stop: &|| false,
        progress,
    };
    let (_alone, parts) = parts(&database.state_dir)?;
    let mut done = match task {
        Task::Compact => round.compact(&destinations)?,
        Task::Prune(mode) => round.prune(&destinations, parts, mode)?,
        Task::Both(_) => {
            round.compact(&destinations)?.and(round.prune(&destinations, parts, Mode::Real)?)
        }
    };
    done.errors.extend(errors);
    Ok(done)
}

/// What parts may go, as long as the lock is held. Only the one that holds it knows that no snapshot of
/// this host is under way.
fn parts(state_dir: &Path) -> Result<(Option<Lock>, Parts)> {
    let alone = if state_dir.is_dir() { try_lock(state_dir)? } else { None };
    let signed = alone.as_ref().and_then(|_| Signed::read(state_dir));
    let parts = signed.map_or(Parts::Leave, |signed| Parts::CollectUpTo(signed.claimed()));
    Ok((alone, parts))
}

/// What parts a command would delete now. Who may not ask would delete none.
pub fn parts_to_collect(state_dir: Option<&Path>) -> Parts {
    state_dir.and_then(|dir| parts(dir).ok()).map_or(Parts::Leave, |(_, parts)| parts)
}

fn cap_of(database: &Database, place: &str) -> Cap {
    let mut places = database.destinations.iter();
    places.position(|it| it.to_string() == place).map_or(Cap::default(), |at| database.cap(at))
}

fn lock_path(state_dir: &Path) -> PathBuf {
    state_dir.join("upkeep")
}

/// Keeps rounds of upkeep, and commands like it, from beginning until it is dropped: they would take
/// parts away again that are put before the manifest that names them. None is at work where there is no
/// state directory.
pub fn wait(state_dir: &Path) -> Result<Option<Lock>> {
    if !state_dir.is_dir() {
        return Ok(None);
    }
    loop {
        match try_lock_file(&lock_path(state_dir))? {
            Some(lock) => return Ok(Some(lock)),
            None => std::thread::sleep(POLL),
        }
    }
}

/// The last commit that is noted as stored. Without any note there is no daemon to make one.
fn noted(state_dir: &Path) -> Result<Option<CommitNo>> {
    let path = cursor_path(state_dir);
    let state = cursor::state(&path);
    let state = state.map_err(|error| Error::io("read", path.display(), &error))?;
    Ok(state.map(|state| state.commit.number))
}

/// The upkeep of a destination that lacks something waits until it lacks nothing.
fn is_current(database: &Database, place: &str) -> Result<()> {
    let spool = Spool::new(&database.state_dir, place);
    let owes = spool.owes(CommitNo(u64::MAX));
    if owes.map_err(|error| Error::io("read", "the spool", &error))? {
        let cause = "it is behind, and its upkeep waits";
        let error = Error::new(Status::Unreachable, "compact", place, cause);
        return Err(error.hint("it is done by itself once the daemon has brought it up to date"));
    }
    Ok(())
}
