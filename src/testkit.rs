//! What the tests of reading a live database share: databases in temporary directories, writers in
//! other processes, and what SQLite itself sees.
//!
//! This process holds SQLite's locks, so it never opens a database or `-shm` file by itself: closing
//! that would drop them (trap 60). Copies are made by `cp`, and a child does the damage.

pub mod mortal;
pub mod points;
pub mod power;
pub mod rig;

use crate::commit::{Digest, PageHash, PageNo};
use crate::config::{Database, Destination, Settings};
use crate::daemon::{self, Stop};
use rusqlite::{Connection, OpenFlags};
use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{env, fs};
use tempfile::TempDir;

thread_local! {
    /// Where this thread cannot read a database.
    pub static BAD_SECTOR: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Fails a read of so many bytes if the bad sector is among them.
pub fn bad_sector(offset: u64, bytes: usize) -> io::Result<()> {
    const EIO: i32 = 5;
    let is_in = |at: u64| (offset..offset + bytes as u64).contains(&at);
    match BAD_SECTOR.get().is_some_and(is_in) {
        true => Err(io::Error::from_raw_os_error(EIO)),
        false => Ok(()),
    }
}

/// A database in WAL mode, in a directory of its own.
#[derive(Debug)]
pub struct Db {
    pub dir: TempDir,
    pub path: PathBuf,
}

impl Db {
    /// With a table `t(id INTEGER PRIMARY KEY, x)`.
    pub fn new(page_size: u32) -> Self {
        let db = Self::empty(page_size);
        db.open().execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, x)").unwrap();
        db
    }

    /// Nothing but a header, and no WAL.
    pub fn empty(page_size: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let db = Self { dir, path };
        let sql = format!("PRAGMA page_size = {page_size}; PRAGMA journal_mode = WAL");
        Connection::open(&db.path).unwrap().execute_batch(&sql).unwrap();
        db
    }

    /// A connection that never checkpoints by itself.
    pub fn open(&self) -> Connection {
        self.open_uri("")
    }

    pub fn open_uri(&self, parameters: &str) -> Connection {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_URI;
        let uri = format!("file:{}?{parameters}", self.path.display());
        let connection = Connection::open_with_flags(uri, flags).unwrap();
        connection.busy_timeout(Duration::ZERO).unwrap();
        connection
            .execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = OFF")
            .unwrap();
        connection
    }

    pub fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(suffix);
        path.into()
    }

    pub fn wal_bytes(&self) -> u64 {
        fs::metadata(self.beside("-wal")).map_or(0, |metadata| metadata.len())
    }

    /// The files as they are now, in a directory of their own. The wal-index is left behind, so that
    /// whoever opens the copy recovers.
    pub fn copy(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut cp = Command::new("cp");
        cp.args([&self.path, &self.beside("-wal")]).arg(dir.path()).stderr(Stdio::null());
        cp.status().expect("cp runs; there may be no WAL for it");
        let path = dir.path().join(self.path.file_name().unwrap());
        assert!(path.exists(), "copied");
        Self { dir, path }
    }

    /// The database as SQLite sees it now, as one file. Nobody may be writing.
    pub fn image(&self) -> Vec<u8> {
        let copy = self.copy();
        let connection = copy.open();
        connection.execute_batch("SELECT count(*) FROM sqlite_master").unwrap();
        assert_eq!(checkpoint(&connection, "TRUNCATE").0, 0, "nobody else has the copy");
        drop(connection);
        fs::read(&copy.path).unwrap()
    }

    pub fn config(&self) -> Database {
        config(&self.path)
    }
}

/// A configuration that ships a database to `replica` beside it.
fn config(path: &Path) -> Database {
    Database {
        name: "app".into(),
        path: path.to_owned(),
        state_dir: path.with_file_name("state"),
        destinations: vec![Destination::File { root: path.with_file_name("replica") }],
        mirrors: vec![],
        caps: vec![],
        settings: Settings::default(),
    }
}

/// Busy, frames in the WAL, frames checkpointed.
pub fn checkpoint(connection: &Connection, mode: &str) -> (i64, i64, i64) {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    let row = |row: &rusqlite::Row| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    connection.query_row(&sql, [], row).unwrap()
}

/// `n` commits of one row each.
pub fn commits(connection: &Connection, n: u32) {
    for _ in 0..n {
        connection.execute_batch("INSERT INTO t(x) VALUES (hex(randomblob(20)))").unwrap();
    }
}

/// Overwrites bytes of one of the database's files, from another process: one that closes the file
/// itself would drop this one's locks.
pub fn damage(file: &Path, at: u64, bytes: &[u8]) {
    let script = "dd of=\"$0\" bs=1 seek=$1 conv=notrunc status=none";
    let mut dd = Command::new("sh");
    let dd = dd.args(["-c", script]).arg(file).arg(at.to_string());
    let mut child = dd.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    assert!(child.wait().unwrap().success());
}

/// The pages on the freelist of a database file.
pub fn free_pages(image: &[u8], page_size: usize) -> Vec<u32> {
    let word = |at: usize| u32::from_be_bytes(image[at..at + 4].try_into().unwrap());
    let mut free = Vec::new();
    let mut trunk = word(32);
    while trunk != 0 {
        let at = (trunk as usize - 1) * page_size;
        free.push(trunk);
        free.extend((0..word(at + 4) as usize).map(|leaf| word(at + 8 + 4 * leaf)));
        trunk = word(at);
    }
    free
}

/// The state digest of a database file, pages that `skip` names counting as zeros.
pub fn digest(image: &[u8], page_size: usize, skip: impl Fn(PageNo) -> bool) -> Digest {
    let mut digest = Digest::default();
    for (page, bytes) in (1..).map(PageNo).zip(image.chunks(page_size)) {
        if !skip(page) {
            digest.replace(PageHash::default(), PageHash::of(page, bytes));
        }
    }
    digest
}

/// Small, fast and the same everywhere.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

const CHILD: &str = "BAKELITE_TEST_CHILD";
const REPLY: &str = "child: ";

/// Another process with a connection to a database. Dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    orders: ChildStdin,
    replies: BufReader<ChildStdout>,
}

impl Process {
    pub fn new(path: &Path) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "testkit::serve_as_a_child", "--nocapture"])
            .env(CHILD, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (orders, replies) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, orders, replies: BufReader::new(replies) }
    }

    /// Runs one statement; the first column of its first row, or the error.
    pub fn sql(&mut self, sql: &str) -> String {
        self.ask(&format!("sql {sql}"))
    }

    /// Overwrites bytes of the wal-index.
    pub fn poke(&mut self, offset: usize, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(self.ask(&format!("poke {offset} {hex}")), "ok");
    }

    pub fn ask(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").unwrap();
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.replies.read_line(&mut line).unwrap() > 0, "the child lives");
            if let Some((_, reply)) = line.trim_end().split_once(REPLY) {
                return reply.to_owned();
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Not a test, but what `Process` runs: this binary again.
#[test]
fn serve_as_a_child() {
    let Some(path) = env::var_os(CHILD).map(PathBuf::from) else { return };
    let mut connection = None;
    for order in std::io::stdin().lines() {
        let order = order.unwrap();
        let (verb, rest) = order.split_once(' ').unwrap_or((&order, ""));
        let reply = match verb {
            "sql" => run(connection.get_or_insert_with(|| impatient(&path)), rest),
            "close" => {
                connection = None;
                "ok".into()
            }
            "read" => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
                run(&Connection::open_with_flags(&path, flags).unwrap(), rest)
            }
            "daemon" => drain(&path),
            "poke" => poke(&path, rest),
            _ => panic!("{verb}?"),
        };
        println!("\n{REPLY}{reply}");
    }
    std::process::exit(0);
}

/// Runs a daemon that drains at once.
fn drain(path: &Path) -> String {
    let stop = Stop::default();
    stop.flag().store(true, Ordering::Relaxed);
    match daemon::run(&vec![config(path)].into(), &stop, None, &rig::Quiet) {
        Ok(()) => "ok".into(),
        Err(error) => format!("{:?}", error.status),
    }
}

/// Tests ask whether something is busy, and do not wait until it is not.
fn impatient(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::ZERO).unwrap();
    connection
}

fn run(connection: &Connection, sql: &str) -> String {
    let mut statement = match connection.prepare(sql) {
        Ok(statement) => statement,
        Err(error) => return error.to_string(),
    };
    let row = statement.query([]).and_then(|mut rows| {
        let row = rows.next()?;
        let value = row.map(|row| row.get::<_, rusqlite::types::Value>(0)).transpose()?;
        while rows.next()?.is_some() {}
        Ok(value)
    });
    match row {
        Ok(Some(value)) => format!("{value:?}"),
        Ok(None) => "ok".into(),
        Err(error) => error.to_string(),
    }
}

/// In a process without a connection: closing the descriptor would drop its locks.
fn poke(path: &Path, rest: &str) -> String {
    let (offset, hex) = rest.split_once(' ').unwrap();
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    let mut shm = path.as_os_str().to_owned();
    shm.push("-shm");
    let shm = fs::File::options().write(true).open(shm).unwrap();
    shm.write_all_at(&bytes, offset.parse().unwrap()).unwrap();
    "ok".into()
}
