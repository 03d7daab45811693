//! The source against databases that real SQLite writes, in this process and in others.

use super::decision::DECISION;
use super::*;
use crate::commit::PageNo;
use crate::daemon::open_database;
use crate::testkit::{Db, Process, checkpoint, commits};
use rusqlite::Connection;
use std::cmp::Ordering;
use std::fs;
use std::os::unix::fs::FileExt;

mod count;
mod pins;
mod restart;

/// A replica in memory: a database as its captured commits leave it.
struct Replay {
    page_size: usize,
    image: Vec<u8>,
    stage: Vec<(PageNo, Vec<u8>)>,
    /// Commit frames, and how many of them came from an old tail.
    commits: u32,
    old: u32,
    /// Commits taken in one pass.
    room: u32,
    generations: Vec<Salts>,
}

impl Sink for Replay {
    fn frame(&mut self, frame: &Frame, read: Read) {
        self.stage.push((frame.page, frame.data.to_vec()));
        let Some(pages) = frame.commit else { return };
        self.image.resize(pages as usize * self.page_size, 0);
        for (page, bytes) in self.stage.drain(..).filter(|(page, _)| page.0 <= pages) {
            let place = (page.0 as usize - 1) * self.page_size;
            self.image[place..place + self.page_size].copy_from_slice(&bytes);
        }
        self.commits += 1;
        self.old += u32::from(read == Read::OldTail);
        self.room = self.room.saturating_sub(1);
    }

    fn generation(&mut self, salts: Salts) {
        self.generations.push(salts);
    }

    fn is_full(&self) -> bool {
        self.room == 0
    }
}

/// A database, one writer of it in this process, and a source that has captured all of it.
struct Watched {
    source: Source,
    replay: Replay,
    writer: Connection,
    db: Db,
}

impl Watched {
    fn new(page_size: u32) -> Self {
        Self::of(Db::new(page_size))
    }

    fn of(db: Db) -> Self {
        let writer = db.open();
        writer.execute_batch("SELECT count(*) FROM sqlite_master").unwrap();
        Self::with(db, writer)
    }

    fn with(db: Db, writer: Connection) -> Self {
        let (handles, page_size) = open_database(&db.path).unwrap();
        let mut source = Source::new(handles, page_size, None).unwrap();
        let pages = source.rebase().unwrap();
        let mut image = vec![0; pages as usize * page_size.bytes()];
        source.read_pages(1..pages + 1, &mut image).unwrap();
        let replay = Replay {
            page_size: page_size.bytes(),
            image,
            stage: Vec::new(),
            commits: 0,
            old: 0,
            room: u32::MAX,
            generations: Vec::new(),
        };
        Self { source, replay, writer, db }
    }

    fn sql(&self, sql: &str) {
        self.writer.execute_batch(sql).unwrap();
    }

    /// Captures; how many commit frames there were.
    fn capture(&mut self) -> Result<u32, Trouble> {
        let before = self.replay.commits;
        let look = self.source.steady_look().unwrap();
        let caught = self.source.capture(&look, &mut self.replay);
        self.replay.stage.clear();
        caught.map(|_| self.replay.commits - before)
    }

    /// What was captured is what SQLite sees.
    #[track_caller]
    fn agrees(&self) {
        let image = self.db.image();
        assert_eq!(self.replay.image.len(), image.len(), "size");
        let pages = self.replay.image.chunks(self.replay.page_size);
        let other = image.chunks(self.replay.page_size);
        let differ: Vec<_> = (1..)
            .zip(pages.zip(other))
            .filter(|(_, (a, b))| a != b)
            .map(|(page, _)| page)
            .collect();
        assert!(differ.is_empty(), "pages {differ:?} differ");
    }

    fn pages_agree(&self) {
        let pages = (self.replay.image.len() / self.replay.page_size) as u32;
        let mut bytes = vec![0; self.replay.image.len()];
        self.source.read_pages(1..pages + 1, &mut bytes).unwrap();
        assert!(bytes == self.db.image(), "pages as read are not the database");
    }

    /// Moves everything into the database.
    #[track_caller]
    fn backfill(&self) {
        let (busy, frames, moved) = checkpoint(&self.writer, "PASSIVE");
        assert_eq!((busy, frames), (0, moved), "all was moved");
    }

    fn is_lost(&mut self) -> bool {
        matches!(self.capture(), Err(Trouble::Lost(_)))
    }

    /// Another source from a mark, as after a restart.
    fn resume(db: &Db, mark: Mark) -> Source {
        let (handles, page_size) = open_database(&db.path).unwrap();
        Source::new(handles, page_size, Some(mark)).unwrap()
    }

    /// Appends a commit to the WAL that SQLite never published: its writer died in fdatasync.
    fn phantom(&self, sql: &str) {
        let copy = self.db.copy();
        let writer = copy.open();
        writer.execute_batch(sql).unwrap();
        let frames = fs::read(copy.beside("-wal")).unwrap();
        drop(writer);
        let frame_bytes = FRAME_HEADER_BYTES + self.replay.page_size;
        let from = 32 + self.source.look().unwrap().frames as usize * frame_bytes;
        assert!(frames.len() > from, "the copy goes on where the database does");
        let wal = fs::File::options().write(true).open(self.db.beside("-wal")).unwrap();
        wal.write_all_at(&frames[from..], from as u64).unwrap();
    }
}

#[test]
fn exactly_one_row_of_the_decision_matches() {
    let mut tried = 0;
    for readable in [false, true] {
        for same in [false, true] {
            for frames in [Ordering::Less, Ordering::Equal, Ordering::Greater] {
                for counted in [false, true] {
                    let rows = DECISION.iter();
                    let matching =
                        rows.filter(|row| row.matches(readable, same, frames, counted)).count();
                    assert_eq!(matching, 1, "{readable} {same} {frames:?} {counted}");
                    tried += 1;
                }
            }
        }
    }
    assert_eq!(tried, 2 * 2 * 3 * 2);
}

#[test]
fn trap_04_uncommitted_frames_are_never_shipped() {
    let mut it = Watched::new(512);
    commits(&it.writer, 3);
    it.capture().unwrap();
    let before = it.db.wal_bytes();
    it.sql("PRAGMA cache_size = 2; BEGIN");
    for _ in 0..50 {
        it.sql("INSERT INTO t(x) VALUES (hex(randomblob(300)))");
    }
    assert!(it.db.wal_bytes() > before + 10 * 536, "it spilled into the WAL");
    assert_eq!(it.capture().unwrap(), 0);
    it.sql("ROLLBACK");
    assert_eq!(it.capture().unwrap(), 0);
    it.sql("INSERT INTO t(x) VALUES ('over it')");
    assert_eq!(it.capture().unwrap(), 1);
    it.agrees();
}

#[test]
fn trap_07_phantom_commit_of_a_killed_writer() {
    let mut it = Watched::new(512);
    commits(&it.writer, 3);
    it.capture().unwrap();
    it.phantom("INSERT INTO t(x) VALUES ('never published')");
    assert_eq!(it.capture().unwrap(), 0);
    commits(&it.writer, 1);
    assert_eq!(it.capture().unwrap(), 1);
    it.agrees();
}

/// When all have died, the next to come recovers, and takes the commit for one.
#[test]
fn trap_08_recovery_keeps_a_commit_that_nobody_published() {
    let mut it = Watched::new(512);
    commits(&it.writer, 3);
    it.capture().unwrap();
    it.phantom("INSERT INTO t(x) VALUES ('kept')");
    let Watched { source, mut replay, writer, db } = it;
    let mark = *source.mark();
    drop(writer);
    drop(source);
    let mut source = Watched::resume(&db, mark);
    assert!(source.continues().unwrap());
    let look = source.look().unwrap();
    assert_eq!(source.seen(Some(&look)), Seen::Commits);
    source.capture(&look, &mut replay).unwrap();
    assert_eq!(replay.commits, 4);
    let writer = db.open();
    let kept = "SELECT count(*) FROM t WHERE x = 'kept'";
    assert_eq!(writer.query_row(kept, [], |row| row.get::<_, u32>(0)).unwrap(), 1);
    Watched { source, replay, writer, db }.agrees();
}

/// Without powersafe overwrite, each commit frame is repeated to the end of its sector.
#[test]
fn trap_13_padding_frames() {
    let db = Db::new(512);
    let writer = db.open_uri("psow=0");
    writer.execute_batch("PRAGMA synchronous = FULL").unwrap();
    commits(&writer, 1);
    let mut it = Watched::with(db, writer);
    commits(&it.writer, 2);
    assert!(it.capture().unwrap() > 2, "the frames are padded");
    it.agrees();
    assert_eq!(it.source.mark().change, it.source.look().unwrap().change);
}

/// Eight bytes at the end of each page belong to an extension; the page size is that of the header.
#[test]
fn trap_15_reserved_bytes() {
    let db = Db::empty(4096);
    let mut file = fs::read(&db.path).unwrap();
    file[20] = 8;
    file[105..107].copy_from_slice(&4088u16.to_be_bytes());
    fs::write(&db.path, file).unwrap();
    db.open().execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, x)").unwrap();
    let mut it = Watched::of(db);
    commits(&it.writer, 100);
    assert_eq!(it.capture().unwrap(), 100);
    it.agrees();
    let sound = it.writer.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
    assert_eq!(sound.unwrap(), "ok");
}

/// The page of each frame, over the first regions of the wal-index, the first of which is shorter.
#[test]
fn trap_18_frames_beyond_the_first_regions() {
    let mut it = Watched::new(512);
    it.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)
            INSERT INTO t(x) SELECT randomblob(250000) FROM n",
    );
    commits(&it.writer, 3);
    assert_eq!(it.capture().unwrap(), 4);
    let frames = it.source.look().unwrap().frames;
    assert!(frames > 8158 + 100, "{frames}");
    let wal = fs::read(it.db.beside("-wal")).unwrap();
    for frame in 1..=frames {
        let at = 32 + (frame as usize - 1) * 536;
        let page = u32::from_be_bytes(wal[at..at + 4].try_into().unwrap());
        assert_eq!(it.source.handles.frame_page(frame), Some(page), "frame {frame}");
    }
    assert_eq!(it.source.handles.frame_page(0), None);
    assert_eq!(it.source.handles.frame_page(1_000_000), None, "not mapped");
    it.agrees();
    it.pages_agree();
}

#[test]
fn trap_20_only_the_commit_of_savepoints_matters() {
    let mut it = Watched::new(512);
    it.sql("PRAGMA cache_size = 2; BEGIN; SAVEPOINT a");
    for _ in 0..20 {
        it.sql("INSERT INTO t(x) VALUES (hex(randomblob(300)))");
    }
    it.sql("SAVEPOINT b; UPDATE t SET x = hex(randomblob(300)); ROLLBACK TO b; RELEASE b");
    it.sql("DELETE FROM t WHERE id % 3 = 0; RELEASE a");
    assert_eq!(it.capture().unwrap(), 0);
    it.sql("COMMIT");
    assert_eq!(it.capture().unwrap(), 1);
    it.agrees();
}

#[test]
fn trap_22_a_broken_frame_that_was_published_is_no_tail() {
    let mut it = Watched::new(512);
    commits(&it.writer, 3);
    it.capture().unwrap();
    commits(&it.writer, 3);
    let frames = it.source.look().unwrap().frames;
    let wal = fs::File::options().write(true).open(it.db.beside("-wal")).unwrap();
    wal.write_all_at(&[0x55; 16], it.db.wal_bytes() - 100).unwrap();
    let trouble = it.capture().unwrap_err();
    assert!(matches!(trouble, Trouble::Corrupt(_, End::BadChecksum)), "{trouble}");
    assert_eq!(it.source.mark().position.frame, frames - 1, "up to the last good commit");
}

/// The same in a new generation, whose frames are counted before any is taken.
#[test]
fn trap_22_a_broken_frame_after_a_reset() {
    let mut it = Watched::new(512);
    commits(&it.writer, 3);
    let wal = fs::File::options().write(true).open(it.db.beside("-wal")).unwrap();
    wal.write_all_at(&[0x55; 16], it.db.wal_bytes() - 100).unwrap();
    let trouble = it.capture().unwrap_err();
    assert!(matches!(trouble, Trouble::Corrupt(..)), "{trouble}");
}

/// SQLite itself does not read the header again while it runs. Without it no frame can be read, and the
/// database file alone is not the database.
#[test]
fn trap_22_pages_are_not_read_without_the_frames_that_hold_them() {
    let mut it = Watched::new(512);
    commits(&it.writer, 3);
    it.capture().unwrap();
    crate::testkit::damage(&it.db.beside("-wal"), 8, &[0x55; 4]);
    let still = it.source.still(&it.db.path).map(drop);
    assert!(matches!(still, Err(Trouble::Corrupt(1, End::BadMagic))), "{still:?}");
    let pages = it.source.read_pages(1..3, &mut [0; 1024]);
    assert!(matches!(pages, Err(Trouble::Corrupt(1, End::BadMagic))), "{pages:?}");
}

/// A writer that publishes changes one copy of the header, then the other.
#[test]
fn trap_23_torn_copies_of_the_wal_index() {
    let mut it = Watched::new(512);
    let mut vandal = Process::new(&it.db.path);
    commits(&it.writer, 1);
    let byte = (it.source.handles.word(16) & 0xff) as u8;
    for (offset, what) in [(16, "first copy"), (48 + 16, "second copy")] {
        vandal.poke(offset, &[byte ^ 1]);
        assert_eq!(it.source.look(), None, "{what}");
        assert_eq!(it.source.seen(None), Seen::Torn);
        vandal.poke(offset, &[byte]);
    }
    for offset in [0, 8, 12, 40] {
        let word = it.source.handles.word(offset).to_ne_bytes();
        let value = word[0] ^ 1;
        for copy in [0, 48] {
            vandal.poke(copy + offset, &[value]);
        }
        assert_eq!(it.source.look(), None, "equal copies, unsound at {offset}");
        for copy in [0, 48] {
            vandal.poke(copy + offset, &word);
        }
    }
    assert_eq!(it.capture().unwrap(), 1);
    it.agrees();
}

#[test]
fn trap_24_a_reset_between_look_and_read() {
    let mut it = Watched::new(512);
    commits(&it.writer, 5);
    it.capture().unwrap();
    it.source.release().unwrap();
    commits(&it.writer, 3);
    let stale = it.source.look().unwrap();
    it.backfill();
    commits(&it.writer, 1);
    assert_ne!(it.source.look().unwrap().salts, stale.salts);
    let (mark, old) = (*it.source.mark(), it.replay.commits);
    assert_eq!(it.source.go_on(&stale, &mut it.replay).unwrap(), Caught::Behind);
    assert_eq!((it.source.mark(), it.replay.commits), (&mark, old), "nothing was read");
    assert_eq!(it.capture().unwrap(), 4);
    it.agrees();
}

/// Marks hold a checkpointer at a commit; what it moved and what it did not make the same pages.
#[test]
fn trap_38_pages_read_while_a_checkpointer_backfills() {
    let mut it = Watched::new(1024);
    commits(&it.writer, 50);
    let reader = it.db.open();
    reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
    it.sql("UPDATE t SET x = upper(x) || id; DELETE FROM t WHERE id % 7 = 0");
    commits(&it.writer, 20);
    it.capture().unwrap();
    it.pages_agree();
    let (_, frames, moved) = checkpoint(&it.writer, "PASSIVE");
    assert!(0 < moved && moved < frames, "a part was moved");
    it.pages_agree();
    reader.execute_batch("COMMIT").unwrap();
    it.backfill();
    it.pages_agree();
    it.agrees();
}

/// Under a read transaction too: a checkpoint that stops at its mark passes over a page that a later
/// frame holds, and counts the page's frames before the mark as moved, though they are not.
#[test]
fn trap_38_a_database_at_rest_while_others_commit() {
    let mut it = Watched::new(1024);
    commits(&it.writer, 100);
    it.backfill();
    it.sql("UPDATE t SET x = upper(x) || id");
    let (still, pages) = it.source.still(&it.db.path).unwrap().expect("a mark is free");
    let image = it.db.image();
    assert_eq!(image.len(), pages as usize * 1024);
    let mut read = vec![0; image.len()];
    for round in 0..4 {
        it.source.read_still(&still, 1..pages + 1, &mut read).unwrap();
        assert!(read == image, "round {round}");
        it.sql(&format!("UPDATE t SET x = lower(x) || 'x' WHERE id % {} = 0", round + 1));
        commits(&it.writer, 20);
        let (_, frames, moved) = checkpoint(&it.writer, "PASSIVE");
        assert!(0 < moved && moved < frames, "up to the mark");
    }
    drop(still);
    let (_, frames, moved) = checkpoint(&it.writer, "PASSIVE");
    assert_eq!(frames, moved);
}

#[test]
fn trap_40_a_file_shorter_or_longer_than_the_database() {
    let mut it = Watched::new(1024);
    it.sql("INSERT INTO t(x) VALUES (randomblob(100000))");
    let bytes = fs::metadata(&it.db.path).unwrap().len();
    it.capture().unwrap();
    assert!(bytes < it.replay.image.len() as u64, "the file is shorter");
    it.pages_agree();
    it.agrees();
    it.backfill();
    it.sql("DELETE FROM t; VACUUM");
    it.capture().unwrap();
    assert!(fs::metadata(&it.db.path).unwrap().len() > it.replay.image.len() as u64);
    it.agrees();
    let pages = it.source.rebase().unwrap();
    assert_eq!(pages as usize * 1024, it.replay.image.len(), "the commit's size counts");
    it.pages_agree();
}

#[test]
fn trap_41_the_first_transaction_of_all() {
    let mut it = Watched::of(Db::empty(512));
    assert_eq!(it.replay.image.len(), 512);
    assert_eq!(it.source.mark().salts, Salts::default());
    assert_eq!(it.capture().unwrap(), 0);
    it.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, x)");
    assert_eq!(it.capture().unwrap(), 1);
    it.agrees();
    let nothing = tempfile::NamedTempFile::new().unwrap();
    let error = open_database(nothing.path()).unwrap_err();
    assert_eq!(error.status, crate::error::Status::Usage);
    assert!(error.message.contains("empty"), "{error}");
}

#[test]
fn trap_42_exclusive_locking_is_refused() {
    let db = Db::new(512);
    let mut owner = Process::new(&db.path);
    owner.sql("PRAGMA locking_mode = EXCLUSIVE");
    assert_eq!(owner.sql("INSERT INTO t(x) VALUES (1)"), "ok");
    let error = open_database(&db.path).unwrap_err();
    assert_eq!(error.status, crate::error::Status::Locked, "{error}");
    assert!(error.hint.is_some());
}

/// A schema that this SQLite cannot read is none of our business, nor does a large one stay in memory.
#[test]
fn the_schema_is_not_parsed() {
    let db = Db::new(512);
    let writer = db.open();
    writer
        .execute_batch(
            "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = 'CREATE TABLE (('",
        )
        .unwrap();
    let mut it = Watched::with(db, writer);
    it.sql("PRAGMA user_version = 7");
    assert_eq!(it.capture().unwrap(), 1);
}
