//! How a database is taken up: lock, database, cursor, destinations, and the claim of a timeline.
//!
//! What is found decides how its life begins. Destinations that are away, or lack what others have, are
//! brought up to date later.
//!
//! ```text
//! the page index is at a commit    | the WAL goes on from there | begins with
//! that a destination holds         | in the same file           |
//! ---------------------------------+----------------------------+---------------------------------
//! yes                              | yes                        | the next commit
//! yes                              | no, or nobody knows        | a resync: the pages that differ
//! no                               |                            | a snapshot
//! ```

mod adopt;
mod claim;
mod connect;
mod files;
mod ground;
mod lock;

use crate::capture::{Capture, Start};
use crate::commit::{PageSize, Time, Timeline};
use crate::config::Database;
use crate::cursor::{self, State};
use crate::durable;
use crate::error::{Error, Result, Status};
use crate::fanout::{Fanout, Host};
use crate::index::{INDEX, Index};
use crate::key;
use crate::object::KeyId;
use crate::sabotage;
use crate::ship::{Shipper, cursor_path};
use crate::source::{Mark, Source};
use crate::sqlite::{HEAD_BYTES, Handles, Opened};
use crate::units;
use adopt::adopt;
use claim::Claimed;
use connect::connect;
use files::{open_identified, refuse_half_replaced};
use ground::{Listed, Tip, ground};
use rusqlite::ErrorCode;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub use connect::{open_bare, open_to_read, tell_if_absent, tell_if_away};
pub use files::{Files, Identity, identity};
pub use lock::{Lock, Signed, try_lock, try_lock_file};

/// A database taken up.
#[derive(Debug)]
pub struct Live {
    pub capture: Capture,
    pub shipper: Shipper,
    pub begin: Begin,
    pub files: Files,
    /// What seals what it ships.
    pub key: Option<KeyId>,
}

/// How the life of a database begins.
#[derive(Clone, Debug)]
pub enum Begin {
    /// Nothing was missed.
    Follow,
    /// The page index is at this state, and what came after it was not seen.
    Resync(State, &'static str),
    /// There is nothing that it can be compared with.
    Snapshot(&'static str),
}

/// Who takes a database up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Daemon,
    Sync,
}

/// How often somebody else may store something while a timeline is claimed. A daemon stops at the
/// first claim that it sees.
const CLAIMS: u32 = 5;

/// How a database is to be taken up.
#[derive(Clone, Debug)]
pub struct Order {
    pub purpose: Purpose,
    /// The last timeline that this daemon has tried to claim, 0 before the first: a later one is
    /// somebody else's.
    pub claimed: Arc<AtomicU32>,
    /// The database was seen to differ from the page index.
    pub distrust: bool,
    /// The files as they were, if others have taken their place.
    pub replaced: Option<Files>,
    /// What is known of the places that the destinations are at, in their order.
    pub hosts: Vec<Arc<Host>>,
}

/// Takes a database up. The lock is left in `held` by an opening that fails as well: who tries again
/// has it all along, or a `sync` of the meantime would look like another host.
pub fn open(database: &Database, order: Order, held: &mut Option<Arc<Lock>>) -> Result<Live> {
    let Order { purpose, claimed, distrust, replaced, hosts } = order;
    if let Some(before) = replaced.filter(|_| purpose == Purpose::Daemon) {
        refuse_half_replaced(&database.path, before)?;
    }
    let (handles, page_size, files) = open_identified(&database.path)?;
    let identity = files.database;
    durable::make_dirs(&database.state_dir)
        .map_err(|error| Error::io("create", database.state_dir.display(), &error))?;
    let (lock, before) = lock::take(database, purpose, held)?;
    let index = open_index(database)?;
    let cursor = load_cursor(database, &index)?;
    let least = before.max(cursor.map_or(Timeline(0), |state| state.timeline));
    // A timeline that begins anew has a cursor that tells of no snapshot yet.
    let shipped = before > Timeline(0) || cursor.is_some_and(|state| state.snapshot > Time(0));
    let keys = key::load(&database.settings.sealing)?;
    let (stores, mut reachable) = connect(database, &keys, shipped, hosts)?;
    let stores = Arc::new(stores);
    let source = Source::new(handles, page_size, cursor.map(|state| state.mark));
    let source = source.map_err(|trouble| failed("read", &database.path, trouble))?;
    let mut opening = Opening {
        database,
        page_size,
        identity,
        distrust,
        noted: cursor,
        shipper: Shipper::new(Arc::clone(&stores), &database.state_dir, Arc::clone(&index)),
        index,
        stores,
    };
    let (mut state, mut source) = (cursor, source);
    for _ in 0..CLAIMS {
        let listed = ground::list(&opening.stores, &mut reachable)?;
        refuse_taken_over(&listed, claimed.load(Ordering::Relaxed), &database.path)?;
        if purpose == Purpose::Sync {
            refuse_taking_over(&listed, least, &database.path)?;
        }
        let Beginning { at, tip, begin, holders, source: back } =
            opening.begin(state, source, listed).map_err(gone)?;
        (state, source) = (at, back);
        let anew = matches!(begin, Begin::Snapshot(_));
        let claimed = claim::claim(&holders, &tip, anew, page_size, least, &claimed)?;
        let timeline = match claimed {
            Claimed::Ours(timeline) => timeline,
            Claimed::Unknown => continue,
            Claimed::Refused(at, error) => {
                ground::give_up(&opening.stores, &mut reachable, at, error)?;
                continue;
            }
        };
        if claim::has_news(&holders).map_err(gone)? {
            continue;
        }
        let since = match begin {
            Begin::Follow => tip.timeline,
            Begin::Resync(..) | Begin::Snapshot(_) => timeline,
        };
        opening.sign((&lock, purpose), since, timeline)?;
        let Opening { index, shipper, .. } = opening;
        let Tip { commit: last, chain, .. } = tip;
        let snapshot = state.map_or(Time(0), |state| state.snapshot);
        let start = Start { page_size, timeline, identity, last, chain, snapshot };
        let capture = Capture::new(source, index, &start).with_names(keys.names());
        let key = keys.sealing().map(|key| key.id);
        return Ok(Live { capture, shipper, begin, files, key });
    }
    let cause = "its destinations do not come to rest";
    let error = Error::new(Status::Unreachable, "claim", database.path.display(), cause);
    Err(error.hint("let only one daemon write a replica"))
}

/// What a destination held a moment ago: it is away by now.
fn gone(error: Error) -> Error {
    match error.status {
        Status::Missing => Error { status: Status::Unreachable, ..error },
        _ => error,
    }
}

/// Refuses to go on once somebody has claimed a timeline after this daemon's `own`.
fn refuse_taken_over(listed: &[Listed], own: u32, path: &Path) -> Result<()> {
    if own == 0 || listed.iter().all(|each| each.replica.newest_timeline().0 <= own) {
        return Ok(());
    }
    let cause = "another daemon has taken its replica up";
    let error = Error::new(Status::Locked, "watch", path.display(), cause);
    Err(error.hint("let only one daemon write a replica"))
}

/// Refuses a `sync` where somebody else has stored anything on a timeline later than `own`, the last one
/// that was claimed for this state directory: finished or not, that is what counts now.
fn refuse_taking_over(listed: &[Listed], own: Timeline, path: &Path) -> Result<()> {
    let mut stored = listed.iter().flat_map(|each| each.replica.spans());
    if own == Timeline(0) || stored.all(|span| span.timeline <= own) {
        return Ok(());
    }
    let cause = "another host has taken its replica up";
    let error = Error::new(Status::Locked, "sync", path.display(), cause);
    Err(error.hint("`bakelite daemon` takes it back"))
}

/// What is known while a database is taken up.
struct Opening<'a> {
    database: &'a Database,
    page_size: PageSize,
    identity: Identity,
    distrust: bool,
    /// What the cursor said at first: it may tell of commits that only one that is away holds.
    noted: Option<State>,
    stores: Arc<Fanout>,
    index: Arc<Index>,
    shipper: Shipper,
}

/// What a life begins with.
struct Beginning {
    at: Option<State>,
    tip: Tip,
    begin: Begin,
    /// The destinations that hold all up to there.
    holders: Vec<Listed>,
    source: Source,
}

impl Opening<'_> {
    /// What there is to go on from, and how. Takes in what was stored beyond the cursor.
    fn begin(
        &mut self,
        cursor: Option<State>,
        mut source: Source,
        listed: Vec<Listed>,
    ) -> Result<Beginning> {
        let ground = ground(cursor, &listed, &self.index, self.page_size)?;
        let Some((state, holders)) = ground else {
            let why = match listed.iter().any(|each| each.is_lost) {
                true => "the record of a timeline is missing, and nobody else has it",
                false => "there is nothing to go on from",
            };
            return self.anew(source, listed, why);
        };
        source.go_to(state.mark);
        let same_file = state.identity == self.identity;
        let continues = same_file
            && !self.distrust
            && source
                .continues()
                .map_err(|trouble| failed("read", &self.database.path, trouble))?;
        let continues = continues || sabotage::is("skip-resync") && source.rebase().is_ok();
        let (mut holders, others): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(|each| holders.contains(&each.at));
        let (state, source, continues) = adopt(self, state, source, continues, &mut holders)?;
        if holders.iter().any(|each| each.is_taken_over(&state)) {
            let why = "the replica holds commits of another host";
            return self.anew(source, holders.into_iter().chain(others).collect(), why);
        }
        self.settle(&holders, &others, &Tip::of(&state), false)?;
        let begin = match (continues, same_file) {
            (true, _) => Begin::Follow,
            _ if self.distrust => Begin::Resync(state, "it is not what was captured"),
            _ if state.identity == ground::NOWHERE => {
                Begin::Resync(state, "its cursor is lost, or behind")
            }
            (false, false) => Begin::Resync(state, "it is another file than before"),
            _ if state.mark == Mark::NOWHERE => {
                Begin::Resync(state, "its WAL does not tell what came before it")
            }
            (false, true) => {
                Begin::Resync(state, "its WAL does not go on from where the cursor stands")
            }
        };
        Ok(Beginning { at: Some(state), tip: Tip::of(&state), begin, holders, source })
    }

    /// Begins with a snapshot, on the destinations that hold the newest commit of those there are.
    fn anew(&self, source: Source, listed: Vec<Listed>, why: &'static str) -> Result<Beginning> {
        let tip = ground::tip(&listed)?.with_what_is_away(self.noted, &listed);
        let (holders, others): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(|each| each.is_at(&tip));
        self.settle(&holders, &others, &tip, true)?;
        Ok(Beginning { at: None, tip, begin: Begin::Snapshot(why), holders, source })
    }

    /// From now on the cursor counts, of all destinations, and this is who writes there.
    fn sign(&self, by: (&Lock, Purpose), since: Timeline, timeline: Timeline) -> Result<()> {
        self.stores.claimed(timeline);
        let signed = Signed::new(since, timeline, &self.database.destinations);
        lock::sign(by.0, by.1, Some(&signed), timeline)
            .map_err(|error| Error::io("write", "the lock", &error))
    }

    /// Notes which destinations hold all up to `tip`, and which have to be brought up to date. Of one that
    /// holds it and cannot restore it nothing is claimed.
    fn settle(&self, holders: &[Listed], others: &[Listed], tip: &Tip, anew: bool) -> Result<()> {
        let held = tip.held.0;
        let floor = held.digest.map(|_| (held.number, held.time));
        holders.iter().try_for_each(|each| {
            let floor = floor.filter(|(number, _)| each.restores(*number));
            self.stores.holds(each.at, floor, anew)
        })?;
        others.iter().try_for_each(|each| self.stores.lacks(each.at, None))
    }
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
            return Err(Error::new(Status::Missing, "open", path.display(), error)
                .hint("correct its path, or restore it"));
        }
        Err(error) => return Err(failed("open", path, error).hint("check the path")),
    }
    let opened = Opened::open(path).map_err(|error| sqlite_error(path, &error))?;
    let head = opened.head().map_err(|error| failed("read", path, error))?;
    let page_size = page_size(path, &head)?;
    let handles = opened.into_handles().map_err(|error| sqlite_error(path, &error))?;
    Ok((handles, page_size))
}

/// The same, to be looked at beside whoever watches it: nothing is held.
pub fn open_source(path: &Path) -> Result<(Source, PageSize)> {
    let (handles, page_size) = open_database(path)?;
    let source = Source::new(handles, page_size, None);
    let mut source = source.map_err(|trouble| failed("read", path, trouble))?;
    source.release().map_err(|error| failed("read", path, error))?;
    Ok((source, page_size))
}

fn page_size(path: &Path, head: &[u8]) -> Result<PageSize> {
    let not_wal = |cause| {
        let hint = format!("run: sqlite3 {} 'PRAGMA journal_mode=WAL'", units::word(path));
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

fn open_index(database: &Database) -> Result<Arc<Index>> {
    let path = database.state_dir.join(INDEX);
    Ok(Arc::new(Index::open(&path).map_err(|error| Error::io("open", path.display(), &error))?))
}

/// The cursor's state; its changes of the page index are made again.
fn load_cursor(database: &Database, index: &Index) -> Result<Option<State>> {
    let path = cursor_path(&database.state_dir);
    let state = cursor::load(&path, |changes| {
        changes.iter().try_for_each(|(page, hash)| index.set(*page, *hash))
    });
    state.map_err(|error| Error::io("read", path.display(), &error))
}
