//! `sync`: everything committed by now is durable on every destination but mirrors, then it returns.
//!
//! Beside a running daemon it waits until the daemon's cursor has reached what is published now. All that
//! passes between the two is the cursor, and an empty file that asks for it. Without a daemon it runs one
//! that drains at once.

use super::{Signed, Stop, open, open_source, proof, run, try_lock};
use crate::clock;
use crate::commit::{CommitNo, Timeline};
use crate::config::{Database, Destination, Origin};
use crate::cursor::{self, State};
use crate::durable;
use crate::error::{Error, Result, Status};
use crate::log;
use crate::restore::{Progress, Quiet};
use crate::sabotage;
use crate::ship::cursor_path;
use crate::source::{Look, Source};
use crate::spool::Spool;
use crate::status::Record;
use crate::wal::Salts;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often a running daemon's cursor is looked at.
const POLL: Duration = Duration::from_millis(5);
/// How long it waits for a daemon before it says so.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a daemon is asked.
const ASK: Duration = Duration::from_secs(1);
/// How long a daemon may take to see that the lock is free.
const START: Duration = Duration::from_millis(300);

pub fn sync(databases: &[Database]) -> Result<()> {
    sync_within(databases, None, true, &Quiet)
}

/// The same; each database waits for a running daemon for so long, and says so unless it is `quiet`.
/// One that fails keeps none of the others from it; the first failure is how it ends.
pub fn sync_within(
    databases: &[Database],
    timeout: Option<Duration>,
    quiet: bool,
    progress: &dyn Progress,
) -> Result<()> {
    let sync = |database: &Database| sync_one(database, Wait::new(timeout, quiet), progress).err();
    let mut failed = databases.iter().filter_map(sync);
    let first = failed.next();
    failed.for_each(|error| log::warn(&error));
    first.map_or(Ok(()), Err)
}

fn sync_one(database: &Database, mut wait: Wait, progress: &dyn Progress) -> Result<()> {
    let mut published = Published::now(database)?;
    loop {
        if !daemon_runs(database)? {
            if published.is_settled(database)? {
                return Ok(());
            }
            match pass(database, progress) {
                // A daemon was faster, or waits for the lock that the pass held.
                Err(error) if error.status == Status::Locked && daemon_starts(database)? => {}
                result => return result,
            }
        }
        published.look_again(database)?;
        if wait.is_over(database, &mut published)? {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
}

/// How long a daemon is waited for, and what was asked and said meanwhile.
struct Wait {
    begun: Instant,
    timeout: Option<Duration>,
    silent: bool,
    ask_at: Duration,
    proof_at: Duration,
    /// A destination that does not hold what the daemon takes it to hold.
    lacking: Option<Origin>,
}

impl Wait {
    fn new(timeout: Option<Duration>, quiet: bool) -> Self {
        let (begun, now) = (clock::instant(), Duration::ZERO);
        Self { begun, timeout, silent: !quiet, ask_at: now, proof_at: now, lacking: None }
    }

    /// Whether all is durable. An error if it is not, and waited for no longer.
    fn is_over(&mut self, database: &Database, published: &mut Published) -> Result<bool> {
        let elapsed = self.begun.elapsed();
        if elapsed >= self.proof_at && published.wanted.is_durable(database)? {
            let reached = published.wanted.reached;
            let lacking = reached.and_then(|reached| proof::lacking(database, reached));
            self.lacking = lacking.filter(|_| !sabotage::is("sync-ignores-debt"));
            self.proof_at = elapsed + ASK;
            if self.lacking.is_none() {
                return Ok(true);
            }
        }
        let over = self.timeout.is_some_and(|timeout| elapsed >= timeout);
        if over || elapsed >= PATIENCE {
            knows_all(database)?;
        }
        if over {
            return Err(self.why(database, published));
        }
        if self.silent && elapsed >= PATIENCE {
            self.silent = false;
            log::warn(&self.why(database, published));
        }
        if elapsed >= self.ask_at {
            self.ask_at = elapsed + ASK;
            ask(database);
        }
        Ok(false)
    }

    fn why(&self, database: &Database, published: &mut Published) -> Error {
        self.lacking.as_ref().map_or_else(|| waiting(database, published), proof::robbed)
    }
}

/// In a state directory: somebody waits for what was committed. The daemon removes it, ships at once what is
/// there, and looks whether its destinations hold what they did.
const WANTED: &str = "wanted";

/// Where it cannot be said, the daemon ships when it is time.
fn ask(database: &Database) {
    std::fs::write(database.state_dir.join(WANTED), b"").ok();
}

/// In a state directory: a destination cannot restore the newest commit, and a snapshot is to be made; and
/// the same, once one was begun. Who asks meanwhile asks for another one.
const SNAPSHOT: &str = "snapshot-wanted";
const BEGUN: &str = "snapshot-begun";

/// Has the daemon make a snapshot: the one that runs, or the next one.
pub fn ask_for_snapshot(database: &Database) -> Result<()> {
    let path = database.state_dir.join(SNAPSHOT);
    // Where no daemon has been yet, the first one finds it.
    let made =
        if database.path.exists() { durable::make_dirs(&database.state_dir) } else { Ok(()) };
    let written = made.and_then(|()| std::fs::write(&path, b""));
    written.map_err(|error| Error::io("write", path.display(), &error))?;
    ask(database);
    Ok(())
}

/// Whether somebody has asked since the last one was begun.
pub(super) fn is_snapshot_asked(state_dir: &Path) -> bool {
    state_dir.join(SNAPSHOT).exists()
}

/// The same, or an earlier life has begun one that did not stand by its end.
pub(super) fn is_snapshot_wanted(state_dir: &Path) -> bool {
    is_snapshot_asked(state_dir) || state_dir.join(BEGUN).exists()
}

/// The one that is wanted, if one is.
pub(super) fn snapshot_begins(state_dir: &Path) {
    if is_snapshot_asked(state_dir) {
        // In this order, so that a crash in between asks once more.
        std::fs::write(state_dir.join(BEGUN), b"").ok();
        std::fs::remove_file(state_dir.join(SNAPSHOT)).ok();
    }
}

/// It is asked for no longer.
pub(super) fn snapshot_stands(state_dir: &Path) {
    std::fs::remove_file(state_dir.join(BEGUN)).ok();
}

/// Whether somebody waits.
pub(super) fn is_asked(state_dir: &Path) -> bool {
    state_dir.join(WANTED).exists()
}

/// Whoever asked is heard.
pub(super) fn hear(state_dir: &Path) {
    std::fs::remove_file(state_dir.join(WANTED)).ok();
}

/// Refuses to wait for a daemon that ships to other destinations than those it is asked about.
fn knows_all(database: &Database) -> Result<()> {
    let Some(signed) = Signed::read(&database.state_dir) else { return Ok(()) };
    let unknown = |each: &&Destination| !database.mirrors.contains(each) && !signed.knows(each);
    let Some(unknown) = database.destinations.iter().find(unknown) else { return Ok(()) };
    let cause = "the daemon that watches the database does not ship there";
    let error = Error::new(Status::Unreachable, "sync", unknown, cause);
    Err(error
        .hint("have it read its configuration again (SIGHUP), or start it with that destination"))
}

/// What the daemon has not done yet, and why.
fn waiting(database: &Database, published: &mut Published) -> Error {
    let record = Record::load(database);
    let mut lacks = |destination: &&Destination| {
        let durable = published.is_durable_on(database, |each| each == *destination);
        !database.mirrors.contains(destination) && !matches!(durable, Ok(true))
    };
    let behind = database.destinations.iter().find(|each| lacks(each)).map(ToString::to_string);
    let why = match &behind {
        Some(url) => record.error_of(url),
        None => record.error.as_deref(),
    };
    let thing = behind.clone().unwrap_or_else(|| database.path.display().to_string());
    let cause = match why {
        Some(why) => format!("lacks what was committed: {why}"),
        None => "lacks what was committed, and the daemon is at work".to_owned(),
    };
    Error::new(Status::Unreachable, "sync", thing, cause)
        .hint("see: bakelite status; what is committed is shipped as soon as it can be")
}

/// What was published when it was asked.
#[derive(Debug)]
pub struct Published {
    source: Source,
    wanted: Wanted,
}

impl Published {
    pub fn now(database: &Database) -> Result<Self> {
        let (source, _) = open_source(&database.path)?;
        let wanted = Wanted::new(look(&source, database)?);
        Ok(Self { source, wanted })
    }

    /// Notes which generation there is by now.
    pub fn look_again(&mut self, database: &Database) -> Result<()> {
        self.wanted.comes_before(look(&self.source, database)?.salts);
        Ok(())
    }

    /// Whether all of it was durable before, and nothing came since.
    fn is_settled(&mut self, database: &Database) -> Result<bool> {
        let state = cursor(database)?;
        Ok(state.is_some_and(|state| proof::is_settled(database, &state, &mut self.source)))
    }

    /// Whether the destinations that `which` picks hold all of it by now.
    pub fn is_durable_on(
        &mut self,
        database: &Database,
        which: impl Fn(&Destination) -> bool,
    ) -> Result<bool> {
        self.wanted.is_durable_on(database, which)
    }
}

/// What is waited for, and what is known of it so far.
#[derive(Debug)]
pub(super) struct Wanted {
    look: Look,
    /// Generations that were seen to come after this one. Counts of commits are no measure: recovery
    /// restarts them.
    later: Vec<Salts>,
    /// A timeline, and the commit of it that has all that is wanted: where the cursor stood when it was
    /// first seen to have that. Whether a destination lacks what came since is no matter.
    reached: Option<(Timeline, CommitNo)>,
}

impl Wanted {
    pub fn new(look: Look) -> Self {
        Self { look, later: Vec::new(), reached: None }
    }

    fn comes_before(&mut self, now: Salts) {
        if now != self.look.salts && self.later.last() != Some(&now) {
            self.later.push(now);
        }
    }

    /// Whether the daemon that runs has shipped all of it.
    pub fn is_durable(&mut self, database: &Database) -> Result<bool> {
        self.is_durable_on(database, |destination| !database.mirrors.contains(destination))
    }

    fn is_durable_on(
        &mut self,
        database: &Database,
        which: impl Fn(&Destination) -> bool,
    ) -> Result<bool> {
        // Read before the cursor: what counts by then counts for what is read now.
        let signed = Signed::read(&database.state_dir);
        let state = cursor(database)?;
        let waited_for = database.destinations.iter().filter(|each| which(each));
        let Some(signed) =
            signed.filter(|signed| waited_for.clone().all(|each| signed.knows(each)))
        else {
            return Ok(false);
        };
        let identity = open::identity(&database.path).ok();
        let counts = |state: &State| {
            signed.counts(state.timeline)
                && identity == Some(state.identity)
                && self.is_reached_by(state)
        };
        self.reached = state.filter(counts).map(|State { timeline, commit, .. }| {
            let before = self.reached.filter(|(of, _)| *of == timeline);
            (timeline, before.map_or(commit.number, |(_, number)| number))
        });
        let Some((_, upto)) = self.reached else { return Ok(false) };
        for destination in waited_for {
            let spool = Spool::new(&database.state_dir, &destination.to_string());
            let owed = spool.owes(upto);
            let owed = owed.map_err(|error| Error::io("read", "the spool", &error))?;
            if owed && !sabotage::is("sync-ignores-debt") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether all of it is taken care of, and can be restored.
    fn is_reached_by(&self, state: &State) -> bool {
        let Look { salts, frames, .. } = self.look;
        let mark = &state.mark;
        let same = mark.salts == salts && mark.position.frame >= frames;
        state.commit.digest.is_some()
            && (same || self.later.contains(&mark.salts) || sabotage::is("sync-too-early"))
    }
}

fn cursor(database: &Database) -> Result<Option<State>> {
    let path = cursor_path(&database.state_dir);
    let state = cursor::state(&path);
    state.map_err(|error| Error::io("read", path.display(), &error))
}

/// A daemon that drains at once.
fn pass(database: &Database, progress: &dyn Progress) -> Result<()> {
    let stop = Stop::default();
    stop.flag().store(true, Ordering::Relaxed);
    run(&vec![database.clone()].into(), &stop, None, progress)
}

fn look(source: &Source, database: &Database) -> Result<Look> {
    source.steady_look().ok_or_else(|| {
        let cause = "its wal-index does not come to rest";
        Error::new(Status::Failed, "read", database.path.display(), cause)
    })
}

/// Whether somebody has the database's lock.
pub fn daemon_runs(database: &Database) -> Result<bool> {
    Ok(database.state_dir.is_dir() && try_lock(&database.state_dir)?.is_none())
}

fn daemon_starts(database: &Database) -> Result<bool> {
    let start = clock::instant();
    while !daemon_runs(database)? {
        if start.elapsed() > START {
            return Ok(false);
        }
        std::thread::sleep(POLL);
    }
    Ok(true)
}
