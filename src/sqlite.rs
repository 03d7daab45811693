//! The seam to SQLite, and nearly all `unsafe` of the program: a connection's own file handles, used
//! through SQLite's VFS methods.
//!
//! A descriptor of our own on the database or its `-shm` is never opened here: closing it would drop
//! every POSIX lock that this process holds there, SQLite's included. And nothing is mapped here: the
//! wal-index is SQLite's own mapping, under SQLite's own lock.
#![allow(unsafe_code)]

use crate::sabotage;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, ffi};
use std::ffi::{c_int, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::{fmt, io, ptr};

/// The oldest SQLite without the WAL-reset corruption bug of 3.7.0 to 3.51.2.
const OLDEST: i32 = 3_051_003;

/// A lock of the wal-index that can be held shared: one of five read marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u8);

impl Slot {
    pub const READ0: Self = Self(0);

    /// The slots whose lock keeps the WAL from being reset, highest first.
    pub fn pinning() -> impl Iterator<Item = Self> {
        (1..=4).rev().map(Self)
    }
}

/// A read mark that no reader has set.
pub const UNUSED_MARK: u32 = u32::MAX;

/// How long an application may recover the WAL, or close as its last connection, while it is opened.
const OPEN_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);
const REGION_BYTES: c_int = 32 * 1024;
const FIRST_READ_LOCK: c_int = 3;

/// The linked SQLite's version, refused if it is one that can corrupt a WAL.
pub fn version() -> Result<&'static str, String> {
    let number = rusqlite::version_number();
    let version = rusqlite::version();
    if number < OLDEST {
        return Err(format!(
            "SQLite {version} can corrupt a WAL when it is reset, 3.51.3 is needed"
        ));
    }
    Ok(version)
}

fn open(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(std::time::Duration::ZERO)?;
    // Lookaside memory is 48 KB that an idle connection never uses.
    let rc = unsafe {
        // SAFETY: the handle is open, and these are the arguments that this option takes.
        let none: *mut c_void = ptr::null_mut();
        ffi::sqlite3_db_config(connection.handle(), ffi::SQLITE_DBCONFIG_LOOKASIDE, none, 0, 0)
    };
    debug_assert_eq!(rc, ffi::SQLITE_OK);
    Ok(connection)
}

/// The first word of `PRAGMA pragma` about a file that nobody else has open.
pub fn check(path: &Path, pragma: &str) -> rusqlite::Result<String> {
    at_rest(path)?.query_row(&format!("PRAGMA {pragma}(1)"), [], |row| row.get(0))
}

/// A file that nobody else has open, to be read as it is: without a WAL, and never changed.
fn at_rest(path: &Path) -> rusqlite::Result<Connection> {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        uri.push_str(&format!("%{byte:02x}"));
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    open(Path::new(&uri), flags)
}

/// How much an answer may say.
const ANSWER_BYTES: usize = 4096;

/// What one SELECT gives about a file at rest, as SQLite's shell prints it: values with `|` between
/// them, a row on a line.
pub fn ask(path: &Path, sql: &str) -> Result<String, String> {
    let connection = at_rest(path).map_err(|error| error.to_string())?;
    answer(&connection, sql).map_err(|error| error.to_string())?
}

fn answer(connection: &Connection, sql: &str) -> rusqlite::Result<Result<String, String>> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    if !statement.readonly() || columns == 0 {
        return Ok(Err("it is no SELECT".into()));
    }
    let (mut rows, mut out) = (statement.query([])?, String::new());
    while let Some(row) = rows.next()? {
        let values = (0..columns).map(|at| row.get_ref(at).map(shown));
        let line = values.collect::<rusqlite::Result<Vec<_>>>()?.join("|");
        if !out.is_empty() {
            out.push('\n');
        }
        out += &line;
        if out.len() > ANSWER_BYTES {
            return Ok(Err(format!("it gives more than {ANSWER_BYTES} bytes")));
        }
    }
    Ok(Ok(out))
}

fn shown(value: ValueRef) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => format!("{number:?}"),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
    }
}

/// What can be said against a question before there is a database to ask: it is more than one
/// statement, or none, or would change something.
pub fn objection(sql: &str) -> Option<String> {
    let first = sql.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    if !["SELECT", "WITH", "VALUES"].contains(&first.as_str()) {
        return Some("not a SELECT".into());
    }
    let empty = Connection::open_in_memory().ok()?;
    let said = match empty.prepare(sql) {
        Err(rusqlite::Error::MultipleStatement) => Some("more than one statement".to_owned()),
        Err(error) => Some(error.to_string()).filter(|error| is_about_syntax(error)),
        Ok(statement) => (!statement.readonly()).then(|| "not a SELECT".into()),
    };
    said.map(|said| said.lines().next().unwrap_or_default().to_owned())
}

/// Tables and functions may be there in the end.
fn is_about_syntax(error: &str) -> bool {
    error.contains("syntax error") || error.contains("incomplete input")
}

/// Has a WAL moved into the database that it lies beside, and removed. Nobody else may have that open,
/// and nobody can open it meanwhile. If `pragma` is given and its first word about the two is not
/// `ok`, that is returned, and both are left as they were.
pub fn absorb_wal(path: &Path, pragma: Option<&str>) -> rusqlite::Result<Option<String>> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    keep_wal(&connection, true)?;
    // Said before the first read, it also spares the wal-index a file of its own.
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA locking_mode = EXCLUSIVE")?;
    touch(&connection)?;
    if let Some(pragma) = pragma {
        let sql = format!("PRAGMA {pragma}(1)");
        let found: String = connection.query_row(&sql, [], |row| row.get(0))?;
        if found != "ok" {
            return Ok(Some(found));
        }
    }
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy {
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None));
    }
    keep_wal(&connection, false)?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(None)
}

/// A short-lived connection that reads at a mark, checkpoints, or holds the write lock.
pub struct Session {
    connection: Connection,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Session")
    }
}

impl Session {
    pub fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        keep_wal(&connection, true)?;
        Ok(Self { connection })
    }

    /// Begins a read transaction: checkpoints stop at this commit until `end`.
    pub fn begin_read(&self) -> rusqlite::Result<()> {
        self.connection.execute_batch("BEGIN")?;
        touch(&self.connection)
    }

    pub fn end(&self) -> rusqlite::Result<()> {
        self.connection.execute_batch("ROLLBACK")
    }

    /// Moves frames into the database, as many as can be without waiting for anybody.
    pub fn checkpoint(&self) -> rusqlite::Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }
}

/// Reads the database once, without parsing its schema, which may be large.
fn touch(connection: &Connection) -> rusqlite::Result<()> {
    if sabotage::is("write-to-the-database") {
        connection.execute_batch("PRAGMA user_version = 1")?;
    }
    connection.query_row("PRAGMA schema_version", [], |_| Ok(()))
}

/// If this connection is the last one, its close must neither checkpoint nor unlink the WAL: what is
/// in there may not be captured yet.
fn keep_wal(connection: &Connection, keep: bool) -> rusqlite::Result<()> {
    let option = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(option, keep).map(drop)
}

/// A connection that runs no transaction after its first one, and its file handles.
pub struct Handles {
    // Declared first, closed first: the pointers below are SQLite's and end with it.
    _connection: Connection,
    database: *mut ffi::sqlite3_file,
    wal: *mut ffi::sqlite3_file,
    index: *const AtomicU32,
}

// SAFETY: SQLite is built with SQLITE_THREADSAFE=1, and the handles move with their connection: one
// thread at a time owns all of it, and every method that changes something takes `&mut self`.
unsafe impl Send for Handles {}

impl fmt::Debug for Handles {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Handles")
    }
}

/// The first bytes of a database file, as they are on disk.
pub const HEAD_BYTES: usize = 100;

/// A database that was opened, not yet read.
pub struct Opened(Connection);

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Opened")
    }
}

impl Opened {
    pub fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        keep_wal(&connection, true)?;
        connection.busy_timeout(OPEN_TIMEOUT)?;
        Ok(Self(connection))
    }

    /// The file's first bytes, without a lock and without a transaction.
    pub fn head(&self) -> io::Result<Vec<u8>> {
        let file = file_pointer(&self.0, ffi::SQLITE_FCNTL_FILE_POINTER);
        let mut head = vec![0; HEAD_BYTES];
        let read = read_at(file, &mut head, 0)?;
        head.truncate(read);
        Ok(head)
    }

    /// Reads once, which makes SQLite open the WAL and map the wal-index, and takes the handles.
    pub fn into_handles(self) -> rusqlite::Result<Handles> {
        let connection = self.0;
        touch(&connection)?;
        // SAFETY: the connection is open. This gives back its page cache, which it needs no more.
        unsafe { ffi::sqlite3_db_release_memory(connection.handle()) };
        let database = file_pointer(&connection, ffi::SQLITE_FCNTL_FILE_POINTER);
        let wal = file_pointer(&connection, ffi::SQLITE_FCNTL_JOURNAL_POINTER);
        if size(wal).is_err() {
            // It has left WAL mode since its header was read.
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None));
        }
        let mut index: *mut c_void = ptr::null_mut();
        // SAFETY: both files are open, and this connection has just read in WAL mode, so the first
        // region of the wal-index exists; SQLite keeps it mapped until the connection closes.
        let rc = unsafe {
            let map = (*(*database).pMethods).xShmMap.expect("the unix VFS has shared memory");
            map(database, 0, REGION_BYTES, 0, ptr::from_mut(&mut index).cast())
        };
        if rc != ffi::SQLITE_OK || index.is_null() {
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(rc), None));
        }
        Ok(Handles { _connection: connection, database, wal, index: index.cast() })
    }
}

fn file_pointer(connection: &Connection, operation: c_int) -> *mut ffi::sqlite3_file {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    // SAFETY: the connection is open, and these operations store one pointer in their argument.
    let rc = unsafe {
        let argument = ptr::from_mut(&mut file).cast();
        ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), operation, argument)
    };
    assert!(rc == ffi::SQLITE_OK && !file.is_null(), "the main database has its files");
    file
}

/// How often a file that shrinks is read before that is an error.
const READS: u32 = 10;

/// Reads up to `buffer`'s length, and returns how much there was; the rest of `buffer` is zeros. A file
/// that shrinks meanwhile is read again: what is still there must not be taken for gone.
fn read_at(file: *mut ffi::sqlite3_file, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    for _ in 0..READS {
        let there = size(file)?.saturating_sub(offset).min(buffer.len() as u64) as usize;
        // SAFETY: `file` belongs to an open connection, and `buffer` has at least the bytes asked for.
        let rc = unsafe {
            let read = (*(*file).pMethods).xRead.expect("every VFS file can be read");
            read(file, buffer.as_mut_ptr().cast(), there as c_int, offset as i64)
        };
        match rc {
            ffi::SQLITE_OK => {
                buffer[there..].fill(0);
                return Ok(there);
            }
            ffi::SQLITE_IOERR_SHORT_READ => {}
            rc => return Err(failed("read", rc)),
        }
    }
    Err(failed("read", ffi::SQLITE_IOERR_SHORT_READ))
}

fn size(file: *mut ffi::sqlite3_file) -> io::Result<u64> {
    // SAFETY: `file` belongs to an open connection.
    unsafe {
        let methods = (*file).pMethods;
        if methods.is_null() {
            return Err(io::Error::other("SQLite has closed the file"));
        }
        let mut size = 0;
        match (*methods).xFileSize.expect("every VFS file has a size")(file, &mut size) {
            ffi::SQLITE_OK => Ok(size as u64),
            rc => Err(failed("size", rc)),
        }
    }
}

fn failed(operation: &str, rc: c_int) -> io::Error {
    let error = rusqlite::Error::SqliteFailure(ffi::Error::new(rc), None);
    io::Error::other(format!("{operation}: {error}"))
}

impl Handles {
    /// Reads from the WAL; fewer bytes than asked for where it ends.
    pub fn read_wal(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        read_at(self.wal, buffer, offset)
    }

    pub fn wal_bytes(&self) -> io::Result<u64> {
        size(self.wal)
    }

    pub fn database_bytes(&self) -> io::Result<u64> {
        size(self.database)
    }

    /// Reads from the database file; fewer bytes than asked for where it ends.
    pub fn read_database(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        #[cfg(test)]
        crate::testkit::bad_sector(offset, buffer.len())?;
        read_at(self.database, buffer, offset)
    }

    /// The 32-bit word at a byte offset of the wal-index, as other processes last left it.
    pub fn word(&self, offset: usize) -> u32 {
        assert!(offset.is_multiple_of(4) && offset < REGION_BYTES as usize, "a word of it");
        // SAFETY: the region is mapped as long as the connection is open, and words of it are read
        // whole: SQLite's own readers and writers access them just so.
        unsafe { (*self.index.add(offset / 4)).load(Ordering::Relaxed) }
    }

    /// The page that a frame of the living generation holds, from the wal-index's hash tables.
    pub fn frame_page(&self, frame: u32) -> Option<u32> {
        const HEADER_WORDS: u32 = 136 / 4;
        const PER_REGION: u32 = 4096;
        let at = frame.checked_sub(1)? + HEADER_WORDS;
        let (region, word) = (at / PER_REGION, at % PER_REGION);
        // SAFETY: a region that SQLite maps stays mapped until the connection closes, and one that it
        // does not map comes back as null; page numbers are the first words of each.
        unsafe {
            let mut words: *mut c_void = ptr::null_mut();
            let map = (*(*self.database).pMethods).xShmMap?;
            let words = {
                let place = ptr::from_mut(&mut words).cast();
                let rc = map(self.database, region as c_int, REGION_BYTES, 0, place);
                (rc == ffi::SQLITE_OK && !words.is_null()).then_some(words)?
            };
            Some((*words.cast::<AtomicU32>().add(word as usize)).load(Ordering::Relaxed))
        }
    }

    /// What is read after this was not read before it.
    pub fn barrier(&self) {
        fence(Ordering::SeqCst);
    }

    /// Locks a read mark's slot shared; false if somebody holds it exclusively.
    pub fn lock(&mut self, slot: Slot) -> io::Result<bool> {
        match self.shm_lock(slot, ffi::SQLITE_SHM_LOCK | ffi::SQLITE_SHM_SHARED) {
            ffi::SQLITE_OK => Ok(true),
            ffi::SQLITE_BUSY => Ok(false),
            rc => Err(failed("lock", rc)),
        }
    }

    pub fn unlock(&mut self, slot: Slot) -> io::Result<()> {
        match self.shm_lock(slot, ffi::SQLITE_SHM_UNLOCK | ffi::SQLITE_SHM_SHARED) {
            ffi::SQLITE_OK => Ok(()),
            rc => Err(failed("unlock", rc)),
        }
    }

    fn shm_lock(&mut self, slot: Slot, flags: c_int) -> c_int {
        // SAFETY: the connection is open and maps the wal-index; SQLite tracks the lock as a reader's.
        unsafe {
            let lock = (*(*self.database).pMethods).xShmLock.expect("the unix VFS has locks");
            lock(self.database, FIRST_READ_LOCK + c_int::from(slot.0), 1, flags)
        }
    }
}

impl Slot {
    /// The offset of its read mark in the wal-index.
    pub fn mark_offset(self) -> usize {
        100 + 4 * usize::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    /// How often the size was asked for.
    static ASKED: AtomicU64 = AtomicU64::new(0);

    unsafe extern "C" fn file_size(_: *mut ffi::sqlite3_file, to: *mut i64) -> c_int {
        let first = ASKED.fetch_add(1, Ordering::Relaxed) == 0;
        // SAFETY: the caller gives a place for it.
        unsafe { *to = if first { 8192 } else { 4096 } };
        ffi::SQLITE_OK
    }

    /// As the unix VFS does it for a file of 4096 bytes.
    unsafe extern "C" fn read(
        _: *mut ffi::sqlite3_file,
        to: *mut c_void,
        bytes: c_int,
        _: i64,
    ) -> c_int {
        // SAFETY: the caller gives room for as much as it asks for.
        let to = unsafe { std::slice::from_raw_parts_mut(to.cast::<u8>(), bytes as usize) };
        to.fill(0);
        let there = to.len().min(4096);
        to[..there].fill(7);
        if there < to.len() { ffi::SQLITE_IOERR_SHORT_READ } else { ffi::SQLITE_OK }
    }

    /// A checkpoint cuts the database off between the question for its size and the reading: what is left
    /// came as zeros, and went so into a first snapshot, whose digest agreed with it.
    #[test]
    fn trap_38_what_is_left_of_a_file_that_shrinks_is_read() {
        // SAFETY: methods may be missing, and a file is a pointer to them.
        let mut methods: ffi::sqlite3_io_methods = unsafe { std::mem::zeroed() };
        methods.xFileSize = Some(file_size);
        methods.xRead = Some(read);
        let mut file = ffi::sqlite3_file { pMethods: &raw const methods };
        let mut bytes = vec![1; 8192];
        assert_eq!(read_at(&raw mut file, &mut bytes, 0).unwrap(), 4096);
        assert!(bytes[..4096].iter().all(|&byte| byte == 7));
        assert!(bytes[4096..].iter().all(|&byte| byte == 0));
    }
}
