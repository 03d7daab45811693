//! How a database is taken up: lock, database, cursor, destinations, and the claim of a timeline.
//!
//! The cursor is believed where everything fits: the page index gives its digest, the destinations
//! hold its commit on their newest timeline, the database file is the same, and its WAL goes on from
//! where the cursor stands. Anything else begins with a new snapshot.

use crate::backend::{self, Backend, Kind, fs::Fs};
use crate::capture::{Capture, Start, origin};
use crate::change::ChangeSet;
use crate::clock;
use crate::commit::{Chain, Commit, CommitNo, PageSize, Time, Timeline};
use crate::config::{self, Database, Destination};
use crate::cursor::{self, State};
use crate::durable;
use crate::error::{Error, Result, Status};
use crate::index::Index;
use crate::name::{Name, Span};
use crate::object::Compression;
use crate::replica::{Replica, damaged};
use crate::ship::{Shipper, Stores, cursor_path};
use crate::snapshot::{Fork, Manifest};
use crate::source::Source;
use crate::sqlite::{HEAD_BYTES, Handles, Opened};
use rusqlite::ErrorCode;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A database taken up.
#[derive(Debug)]
pub struct Live {
    pub capture: Capture,
    pub shipper: Shipper,
    /// Why it has to begin with a snapshot, if it has to.
    pub snapshot: Option<&'static str>,
    /// Held as long as it is watched.
    pub lock: File,
}

/// Who takes a database up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Daemon,
    Sync,
}

pub fn open(database: &Database, purpose: Purpose) -> Result<Live> {
    let (handles, page_size) = open_database(&database.path)?;
    durable::make_dirs(&database.state_dir)
        .map_err(|error| Error::io("create", database.state_dir.display(), &error))?;
    let lock = lock(database, purpose)?;
    let index = open_index(database)?;
    let cursor = load_cursor(database, &index)?;
    let stores = Arc::new(stores(database, cursor.is_some_and(|state| state.snapshot > Time(0)))?);
    let replicas = stores.destinations.iter().map(|destination| Replica::list(&**destination));
    let replicas = replicas.collect::<Result<Vec<_>>>()?;
    let identity = identity(&database.path)?;
    let fits = |state: &State| state.page_size == page_size && state.identity == identity;
    let state = believable(cursor.filter(fits), &stores, &replicas, &index)?;
    let source = Source::new(handles, page_size, state.map(|state| state.mark));
    let source = source.map_err(|trouble| failed("read", &database.path, trouble))?;
    let continues =
        source.continues().map_err(|trouble| failed("read", &database.path, trouble))?;
    let (state, snapshot) = match state {
        Some(state) if continues => (Some(state), None),
        Some(state) => (Some(state), Some("its WAL does not go on from where the cursor stands")),
        None => (None, Some("there is nothing to go on from")),
    };
    let tip = match state {
        Some(state) => Tip { timeline: state.timeline, commit: state.commit, chain: state.chain },
        None => newest(&stores, &replicas)?,
    };
    let timeline = claim(&stores, &replicas, &tip, snapshot.is_some(), page_size)?;
    let start = Start {
        page_size,
        timeline,
        identity,
        last: tip.commit,
        chain: tip.chain,
        snapshot: state.map_or(Time(0), |state| state.snapshot),
    };
    let capture = Capture::new(source, Arc::clone(&index), &start);
    let shipper = Shipper::new(stores, &database.state_dir, index);
    Ok(Live { capture, shipper, snapshot, lock })
}

fn failed(operation: &str, path: &Path, cause: impl std::fmt::Display) -> Error {
    Error::new(Status::Failed, operation, path.display(), cause)
}

/// Opens a database for watching, or says what keeps it from being watched.
pub fn open_database(path: &Path) -> Result<(Handles, PageSize)> {
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => (),
        Ok(_) => return Err(not_a_database(path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::new(Status::Missing, "open", path.display(), error));
        }
        Err(error) => return Err(failed("open", path, error)),
    }
    let opened = Opened::open(path).map_err(|error| sqlite_error(path, &error))?;
    let head = opened.head().map_err(|error| failed("read", path, error))?;
    let page_size = page_size(path, &head)?;
    let handles = opened.into_handles().map_err(|error| sqlite_error(path, &error))?;
    Ok((handles, page_size))
}

fn page_size(path: &Path, head: &[u8]) -> Result<PageSize> {
    let not_wal = |cause| {
        let hint = format!("run: sqlite3 '{}' 'PRAGMA journal_mode=WAL'", path.display());
        Err(Error::new(Status::Usage, "watch", path.display(), cause).hint(hint))
    };
    if head.is_empty() {
        return not_wal("the file is empty, not yet a database in WAL mode");
    }
    // Only the format versions and the page size are read: they stand there in plain even where an
    // extension encrypts the page.
    if head.len() < HEAD_BYTES || !head.starts_with(b"SQLite format 3\0") {
        return Err(not_a_database(path));
    }
    if head[18..20] != [2, 2] {
        return not_wal("the database is not in WAL mode");
    }
    let bytes = match u16::from_be_bytes([head[16], head[17]]) {
        1 => 65536,
        bytes => bytes.into(),
    };
    PageSize::new(bytes).ok_or_else(|| failed("watch", path, "its header has no page size"))
}

fn sqlite_error(path: &Path, error: &rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            let cause = "an application has locked it exclusively";
            Error::new(Status::Locked, "open", path.display(), cause)
                .hint("a database used with PRAGMA locking_mode=EXCLUSIVE cannot be watched")
        }
        Some(ErrorCode::NotADatabase) => not_a_database(path),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            failed("open", path, "no permission to open it as SQLite does")
                .hint("run bakelite as the user that the application runs as")
        }
        _ => failed("open", path, error),
    }
}

fn not_a_database(path: &Path) -> Error {
    Error::new(Status::Usage, "watch", path.display(), "not a SQLite database")
        .hint("check the path")
}

fn identity(path: &Path) -> Result<(u64, u64)> {
    let metadata = path.metadata().map_err(|error| failed("open", path, error))?;
    Ok((metadata.dev(), metadata.ino()))
}

/// How long a daemon that starts waits for a `sync` that is at work. It is a pass of capture, as long
/// as a snapshot at most.
const PATIENCE: Duration = Duration::from_secs(600);
const LOCK_POLL: Duration = Duration::from_millis(20);
/// A `sync` that only looks whether a daemon runs holds the lock for an instant: who finds it held
/// looks again for so long.
const GLANCE: Duration = Duration::from_millis(300);
/// What a `sync` writes into the lock file.
const SYNC: &[u8] = b"sync\n";

/// Whoever holds the lock is the one that watches the database. The file says what it is.
fn lock(database: &Database, purpose: Purpose) -> Result<File> {
    let path = database.state_dir.join("lock");
    let start = clock::instant();
    loop {
        if let Some(mut file) = try_lock(&database.state_dir)? {
            let word: &[u8] = if purpose == Purpose::Sync { SYNC } else { b"daemon\n" };
            let written = file.set_len(0).and_then(|()| file.write_all(word));
            written.map_err(|error| Error::io("write", path.display(), &error))?;
            return Ok(file);
        }
        let holder = std::fs::read(&path).unwrap_or_default();
        let patience = match purpose {
            Purpose::Daemon if holder == SYNC => PATIENCE,
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

/// The lock of a state directory, unless somebody holds it.
pub fn try_lock(state_dir: &Path) -> Result<Option<File>> {
    let path = state_dir.join("lock");
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|error| Error::io("open", path.display(), &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", path.display(), &error)),
    }
}

fn open_index(database: &Database) -> Result<Arc<Index>> {
    let path = database.state_dir.join("index");
    Ok(Arc::new(Index::open(&path).map_err(|error| Error::io("open", path.display(), &error))?))
}

fn stores(database: &Database, shipped: bool) -> Result<Stores> {
    let open = |destination: &Destination| -> Result<Arc<dyn Backend>> {
        let Destination::File { root } = destination;
        let fs = open_root(root, shipped).map_err(|error| {
            let hint = match shipped {
                true => "commits were shipped there before: mount what belongs there".into(),
                false => format!("make or mount it: {}", durable::parent(root).display()),
            };
            Error { status: Status::Unreachable, ..Error::from(error) }.hint(hint)
        })?;
        fs.tidy()?;
        Ok(Arc::new(fs))
    };
    let destinations = database.destinations.iter().map(open).collect::<Result<Vec<_>>>()?;
    let compression = match database.settings.compression {
        config::Compression::Zstd => Compression::Zstd,
        config::Compression::None => Compression::None,
    };
    Ok(Stores { destinations, compression })
}

/// A replica's root. One that was shipped to has to be there: where it is not, a disk is not mounted,
/// and a new replica must not begin in its mount point. A new one is made, in a directory that may be
/// new too, but no further up.
fn open_root(root: &Path, shipped: bool) -> std::result::Result<Fs, backend::Error> {
    if shipped {
        return Fs::open(root);
    }
    let above = durable::parent(root);
    if !above.exists() {
        Fs::create(above)?;
    }
    Fs::create(root)
}

/// The cursor's state; its changes of the page index are made again.
fn load_cursor(database: &Database, index: &Index) -> Result<Option<State>> {
    let path = cursor_path(&database.state_dir);
    let state = cursor::load(&path, |changes| {
        changes.iter().try_for_each(|(page, hash)| index.set(*page, *hash))
    });
    state.map_err(|error| Error::io("read", path.display(), &error))
}

/// The cursor's state, if the page index and the destinations agree with it.
fn believable(
    state: Option<State>,
    stores: &Stores,
    replicas: &[Replica],
    index: &Index,
) -> Result<Option<State>> {
    let Some(state) = state else { return Ok(None) };
    let digest = index.digest().map_err(|error| Error::io("read", "the page index", &error))?;
    if state.commit.digest != Some(digest) {
        return Ok(None);
    }
    for (destination, replica) in stores.destinations.iter().zip(replicas) {
        let ancestry = replica.ancestry(&**destination)?;
        let runs = replica.runs(&ancestry);
        let there = runs.iter().any(|run| run.holds(state.commit.number));
        // A newer timeline that nothing was stored on is an earlier start of our own, or fenced.
        let newest = replica.newest(&ancestry).map(|span| span.timeline);
        if !there || newest > Some(state.timeline) {
            return Ok(None);
        }
    }
    Ok(Some(state))
}

/// The last commit that a new timeline goes on from.
struct Tip {
    timeline: Timeline,
    commit: Commit,
    chain: Chain,
}

/// The newest commit of the destinations' replicas.
fn newest(stores: &Stores, replicas: &[Replica]) -> Result<Tip> {
    let mut tip = Tip { timeline: Timeline(0), commit: origin(), chain: Chain::default() };
    for (destination, replica) in stores.destinations.iter().zip(replicas) {
        let ancestry = replica.ancestry(&**destination)?;
        let Some(span) = replica.newest(&ancestry) else {
            tip.timeline = tip.timeline.max(replica.newest_timeline());
            continue;
        };
        if span.last > tip.commit.number {
            let (commit, chain) = read_tip(&**destination, replica, &span)?;
            tip = Tip { timeline: replica.newest_timeline(), commit, chain };
        }
    }
    Ok(tip)
}

fn read_tip(source: &dyn Backend, replica: &Replica, span: &Span) -> Result<(Commit, Chain)> {
    let parts = replica.changes.range((*span, 0)..=(*span, u8::MAX)).next();
    let unsure = Commit { number: span.last, time: span.time, ..origin() };
    if let Some(end) = parts.and_then(|(_, parts)| parts.iter().find(|part| part.end)) {
        let name = Name::Change(*end);
        let set = ChangeSet::open(end, source.get(&name)?)
            .map_err(|damage| damaged(source, &name, damage))?;
        return Ok((set.commits.last().copied().unwrap_or(unsure), set.header().chain));
    }
    let name = Name::Snapshot(*span);
    let manifest = Manifest::decode(*span, source.get(&name)?)
        .map_err(|damage| damaged(source, &name, damage))?;
    Ok((manifest.commit, manifest.chain))
}

/// Claims the next timeline on every destination. Two that claim the same one at a time cannot both
/// succeed: a name is taken once.
fn claim(
    stores: &Stores,
    replicas: &[Replica],
    tip: &Tip,
    anew: bool,
    page_size: PageSize,
) -> Result<Timeline> {
    let newest = replicas.iter().map(Replica::newest_timeline).max().unwrap_or_default();
    let timeline = Timeline(newest.max(tip.timeline).0 + 1);
    let first = tip.commit.number == CommitNo(0);
    let parent = if first { Timeline(0) } else { tip.timeline };
    let fork = Fork { parent, commit: tip.commit.number, chain: tip.chain, anew };
    let (name, body) = (Name::Timeline(timeline), fork.encode(timeline, page_size, clock::now()));
    for destination in &stores.destinations {
        destination.put(&name, &body).map_err(|error| match error.kind {
            Kind::Exists => {
                let thing = format!("{destination}");
                Error::new(Status::Locked, "claim", thing, "another daemon has just taken it up")
                    .hint("let only one daemon write a replica")
            }
            _ => Error { status: Status::Unreachable, ..Error::from(error) },
        })?;
    }
    Ok(timeline)
}
