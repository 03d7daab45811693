//! SQLite as the judge: a changed WAL beside its database is recovered by SQLite and by the parser, and
//! the two databases must be equal.
//!
//! SQLite opens files in memory (/dev/shm, where there is one), alone, so that its wal-index is on its
//! heap, and its checkpoint puts the log into the file. So every page is compared, and their number,
//! and the frame with which the last commit ends.

use super::logs::{self, Log};
use super::{Fuzz, Input, Seen, holds};
use crate::rng::Rng;
use bakelite::wal::{End, Frames, HEADER_BYTES, Header};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// SQLite takes a commit for impossible whose database exceeds file and log by more.
const BEYOND: u64 = 65_536;

#[derive(Debug)]
pub struct Recovery {
    /// Databases, and the logs beside them.
    bases: Vec<(Vec<u8>, Log)>,
    dir: TempDir,
}

/// What a log makes of a database.
#[derive(Debug)]
enum Recovered {
    /// A log of another version: SQLite does not open the database.
    NotOpened,
    /// The frame that ends the last commit, and the database then.
    Database(u64, Vec<u8>),
    /// The frame, and more pages than SQLite believes.
    Impossible(u64, u64),
    /// Of pages of another size than the database's: SQLite leaves both as they are.
    OtherPages,
}

impl Recovery {
    pub fn new() -> Self {
        let dir = dir();
        let mut bases = logs::of_testdata();
        bases.retain(|(_, log)| log.page_size <= 1024);
        let made = [made(&dir.path().join("a"), 512), made(&dir.path().join("b"), 1024)];
        bases.extend(made.map(|made| made.unwrap_or_else(|error| panic!("a base: {error}"))));
        // What a run takes follows its frames.
        bases.iter_mut().for_each(|(_, log)| log.writes.truncate(9));
        Self { bases, dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("x.db")
    }

    /// The file and the log after SQLite had both.
    fn by_sqlite(&self, db: &[u8], wal: &[u8]) -> io::Result<BySqlite> {
        let (path, log) = (self.path(), self.dir.path().join("x.db-wal"));
        fs::write(&path, db)?;
        fs::write(&log, wal)?;
        let said = checkpoint(&path);
        let db = fs::read(&path)?;
        let left = fs::remove_file(&log).is_ok();
        Ok(BySqlite { said, db, left })
    }
}

/// A directory in memory, if there is such a place.
pub fn dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
    let dir = tempfile::Builder::new().prefix("bakelite-fuzz-").tempdir_in(root);
    dir.unwrap_or_else(|error| panic!("a directory: {error}"))
}

#[derive(Debug)]
struct BySqlite {
    /// The frames up to the last commit.
    said: rusqlite::Result<u64>,
    db: Vec<u8>,
    /// Whether the log is still there.
    left: bool,
}

fn checkpoint(path: &Path) -> rusqlite::Result<u64> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    // A schema that makes no sense is no matter here.
    db.execute_batch(
        "pragma locking_mode=exclusive; pragma synchronous=off; pragma writable_schema=on;",
    )?;
    let frames: i64 = db.query_row("pragma wal_checkpoint(passive)", [], |row| row.get(1))?;
    // -1: there is no log.
    Ok(frames.try_into().unwrap_or(0))
}

/// Rows, an index, a table that goes, and VACUUM, in a log that nobody has checkpointed.
fn made(path: &Path, page_size: u32) -> Result<(Vec<u8>, Log), String> {
    let wal = path.with_extension("db-wal");
    let path = path.with_extension("db");
    let sql = format!(
        "pragma page_size={page_size}; pragma auto_vacuum=full; pragma journal_mode=wal;
         pragma wal_autocheckpoint=0; create table a(x); insert into a values(zeroblob(700));
         pragma wal_checkpoint(truncate);
         insert into a values(randomblob(10)); create table b(y);
         insert into b values(zeroblob(3000)); drop table b; insert into a values(2);"
    );
    let made = || -> Result<_, Box<dyn std::error::Error>> {
        let connection = Connection::open(&path)?;
        connection.execute_batch(&sql)?;
        Ok((fs::read(&path)?, fs::read(&wal)?))
    };
    let (db, wal) = made().map_err(|error| error.to_string())?;
    let (log, _) = Log::decode(&wal).map_err(|end| end.to_string())?;
    Ok((db, log))
}

/// The file under the pages of the log, as the program's parser understands it.
fn by_parser(db: &[u8], wal: &[u8]) -> Recovered {
    let header = match Header::parse(wal) {
        Ok(header) => header,
        // A header alone is nothing to SQLite, whatever it says.
        Err(End::BadVersion) if wal.len() > HEADER_BYTES => return Recovered::NotOpened,
        Err(_) => return Recovered::Database(0, db.to_vec()),
    };
    let bytes = header.page_size.bytes();
    let mut frames: Vec<_> = Frames::new(&header, header.start(), &wal[HEADER_BYTES..]).collect();
    frames.truncate(frames.iter().rposition(|it| it.commit.is_some()).map_or(0, |at| at + 1));
    let Some(pages) = frames.last().and_then(|last| last.commit) else {
        return Recovered::Database(0, db.to_vec());
    };
    let first = frames.iter().rev().find(|frame| frame.page.0 == 1);
    let said = first.and_then(|frame| page_size(frame.data)).or(page_size(db));
    if said != Some(bytes) {
        return Recovered::OtherPages;
    }
    let (count, log) = (frames.len() as u64, frames.len() * bytes);
    if u64::from(pages) * bytes as u64 > db.len() as u64 + BEYOND + log as u64 {
        return Recovered::Impossible(count, pages.into());
    }
    let mut db = db.to_vec();
    db.resize(pages as usize * bytes, 0);
    for frame in frames.iter().filter(|frame| frame.page.0 <= pages) {
        db[(frame.page.0 as usize - 1) * bytes..][..bytes].copy_from_slice(frame.data);
    }
    Recovered::Database(count, db)
}

/// What the first page of a database says, if it is one. SQLite goes by the file's until it has found
/// one in the log that it can believe.
fn page_size(first: &[u8]) -> Option<usize> {
    let is_one = first.starts_with(b"SQLite format 3\0") && first[19] <= 2;
    let size = usize::from(first[16]) << 8 | usize::from(first[17]);
    let size = if size == 1 { 65_536 } else { size };
    let known = size.is_power_of_two() && size >= 512;
    (is_one && known && first[21..24] == [64, 32, 32]).then_some(size)
}

impl Fuzz for Recovery {
    /// The number of the base, then the log.
    fn input(&mut self, rng: &mut Rng) -> Input {
        let base = rng.below(self.bases.len() as u64) as usize;
        let other = rng.pick(&self.bases);
        let (wal, is) = logs::changed(&self.bases[base].1, &other.1, rng);
        Input { bytes: [&[base as u8], &*wal].concat(), is }
    }

    /// Taken: SQLite has put something into the file.
    fn check(&mut self, Input { bytes, .. }: &Input) -> Result<Seen, String> {
        let (base, wal) = bytes.split_first().ok_or("no base")?;
        let (db, _) = self.bases.get(usize::from(*base)).ok_or("no such base")?;
        let theirs = self.by_sqlite(db, wal).map_err(|error| error.to_string())?;
        let said = match &theirs.said {
            Ok(frames) => Ok(*frames),
            Err(error) => Err(error.sqlite_error_code().ok_or_else(|| error.to_string())?),
        };
        let saw = || format!("SQLite says {said:?}, has left the log: {}", theirs.left);
        match by_parser(db, wal) {
            Recovered::NotOpened => {
                let same = said == Err(ErrorCode::CannotOpen) && theirs.db == *db;
                holds(same, || format!("a log of another version: {}", saw()))?;
                Ok(Seen::Refused)
            }
            Recovered::OtherPages => {
                holds(theirs.db == *db, || format!("pages of another size: {}", saw()))?;
                Ok(Seen::Refused)
            }
            Recovered::Impossible(frames, pages) => {
                let same = theirs.db == *db && said.is_err();
                holds(same, || format!("{pages} pages by frame {frames}: {}", saw()))?;
                Ok(Seen::Refused)
            }
            Recovered::Database(frames, ours) => {
                judge(frames, &ours, &theirs).map_err(|wrong| format!("{wrong}: {}", saw()))?;
                Ok(if frames > 0 { Seen::Taken } else { Seen::Refused })
            }
        }
    }

    fn memory(&self, _: &Input) -> usize {
        1 << 20
    }
}

fn judge(frames: u64, ours: &[u8], theirs: &BySqlite) -> Result<(), String> {
    match &theirs.said {
        Ok(counted) => {
            holds(*counted == frames, || format!("the last commit ends with frame {frames}"))?;
        }
        // A first page that makes no sense is an error too, but one that comes after recovery.
        Err(error) => {
            let code = error.sqlite_error_code();
            // `Unknown`: a schema of a later file format.
            let after = [ErrorCode::DatabaseCorrupt, ErrorCode::NotADatabase, ErrorCode::Unknown];
            let after = after.map(Some);
            holds(after.contains(&code), || "an error that is none".to_owned())?;
        }
    }
    let at = ours.iter().zip(&theirs.db).position(|(a, b)| a != b);
    holds(ours == theirs.db, || {
        format!("{} bytes against {}, first other one {at:?}", ours.len(), theirs.db.len())
    })?;
    holds(!theirs.left, || "the log was not put into the file".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As they are, all logs hold something, and SQLite agrees.
    #[test]
    fn sqlite_agrees_on_what_it_wrote() {
        let mut recovery = Recovery::new();
        for at in 0..recovery.bases.len() {
            let wal = recovery.bases[at].1.encode();
            let input = Input { bytes: [&[at as u8], &*wal].concat(), is: super::super::Is::Right };
            assert_eq!(recovery.check(&input), Ok(Seen::Taken), "base {at}");
        }
    }
}
