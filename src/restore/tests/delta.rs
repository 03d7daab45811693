//! A stale copy becomes the commit that is wanted, whatever it was before, and from as little as can
//! be.

use super::super::delta::collect;
use super::*;
use crate::durable::{Step as DiskStep, fault};
use crate::wal::{Frames, HEADER_BYTES, Header};
use rusqlite::Connection;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a copy with these bytes becomes, with the pages of the WAL put in their places, and what it
/// took. The model's pages are no database that SQLite would open.
fn brought(writer: &model::Writer, copy: &[u8], commit: u64) -> (Vec<u8>, Done) {
    let source = writer.source();
    let replica = Replica::list(&*source).unwrap();
    let chosen = choose(&*source, &replica, at(commit), None).unwrap();
    let wanted = Wanted::read(&*source, &chosen.plan).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("copy");
    fs::write(&path, copy).unwrap();
    let file = File::open(&path).unwrap();
    let collected = collect(&*source, &replica, &chosen, &wanted, (&path, file), &Quiet).unwrap();
    let (wal, done) = collected.expect("proved");
    let Some(wal) = wal else { return (copy.to_vec(), done) };
    (played_in(copy, &fs::read(wal.path()).unwrap()), done)
}

fn played_in(copy: &[u8], wal: &[u8]) -> Vec<u8> {
    let header = Header::parse(wal).unwrap();
    let mut frames = Frames::new(&header, header.start(), &wal[HEADER_BYTES..]);
    let mut image = copy.to_vec();
    let mut end = None;
    for frame in &mut frames {
        assert_eq!(end, None, "the last frame alone ends the commit");
        let offset = header.page_size.offset(frame.page) as usize;
        image.resize(image.len().max(offset + frame.data.len()), 0);
        image[offset..][..frame.data.len()].copy_from_slice(frame.data);
        end = frame.commit;
    }
    assert_eq!(frames.end(), Some(crate::wal::End::Exhausted));
    image.resize(end.expect("a commit") as usize * header.page_size.bytes(), 0);
    image
}

#[test]
fn any_copy_becomes_any_commit() {
    fn property(size: u8, events: Vec<Event>, seed: u64) -> bool {
        let mut writer = model::Writer::new(SIZES[usize::from(size % 3)]);
        let first = played(&mut writer, &events[..events.len().min(20)]);
        let span = writer.last().number.0 - first + 1;
        (0..6).all(|turn| {
            let from = first + (seed >> (8 * turn)) % span;
            let to = first + (seed >> (8 * turn + 4)) % span;
            let mut copy = writer.image(from);
            if turn % 3 == 2 {
                // Not a commit that ever was, and not even whole pages.
                let middle = copy.len() / 2 + 7;
                copy[middle..].iter_mut().for_each(|byte| *byte ^= 0x55);
                copy.truncate(copy.len() - 9);
            }
            brought(&writer, &copy, to).0 == writer.image(to)
        })
    }
    QuickCheck::new().tests(80).quickcheck(property as fn(u8, Vec<Event>, u64) -> bool);
}

/// Of a copy that was a commit, only change-sets that came after it are read.
#[test]
fn a_copy_that_was_a_commit_takes_no_part_of_a_snapshot() {
    let mut writer = model::Writer::new(512);
    let wide = Step::fill(40, 1..=40, 1);
    writer.alone(&wide).snapshot();
    for n in 2..=5 {
        writer.alone(&Step::fill(40, [n, n + 20], n));
    }
    writer.snapshot();
    for n in 6..=9 {
        writer.alone(&Step::fill(40, [n, n + 20], n));
    }
    for (from, to, objects, pages) in [
        (9, 9, 0, 0), // not even a change-set
        (7, 9, 4, 4), // those since the newest snapshot
        (5, 9, 4, 8),
        (2, 9, 8, 14), // and those since the older one
        (1, 3, 2, 4),
    ] {
        let (image, done) = brought(&writer, &writer.image(from), to);
        assert!(image == writer.image(to), "{from} to {to}");
        assert_eq!((done.objects, done.rewritten), (objects, Some(pages)), "{from} to {to}");
    }
}

/// Of any other copy, the parts whose pages are there already are not read.
#[test]
fn a_part_that_the_copy_holds_is_not_read() {
    let mut writer = model::Writer::new(512);
    writer.alone(&Step::fill(40, 1..=40, 1)).snapshot().alone(&Step::fill(40, [5], 2));
    let mut copy = writer.image(1);
    copy[20 * 512] ^= 1;
    let (image, done) = brought(&writer, &copy, 2);
    assert!(image == writer.image(2));
    // The change-set, and the part with page 21.
    assert_eq!((done.objects, done.rewritten), (2, Some(2)));
}

/// VACUUM, then growth: what the copy still has there must not come back.
#[test]
fn trap_11_pages_cut_off_do_not_stay_in_a_copy() {
    let mut writer = model::Writer::new(512);
    writer.alone(&Step::fill(8, 1..=8, 1)).snapshot();
    writer.alone(&Step::fill(2, [1], 8)).alone(&Step::fill(9, [9], 9));
    for from in 1..=3 {
        assert!(brought(&writer, &writer.image(from), 3).0 == writer.image(3), "{from}");
    }
    let mut more = writer.image(3);
    more.extend([7; 2048]);
    assert!(brought(&writer, &more, 3).0 == writer.image(3), "longer than it was");
}

/// A real database that grows by a few rows, its replica, and its files by commit.
fn history() -> (model::Writer, Vec<Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source.db");
    let connection = Connection::open(&path).unwrap();
    let mut images = Vec::new();
    let mut writer = model::Writer::new(4096);
    connection
        .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB)")
        .unwrap();
    for n in 1..=6 {
        connection
            .execute_batch(&format!(
                "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 40)
                 INSERT INTO t SELECT {n} * 100 + n, randomblob(n * 10) FROM c;
                 DELETE FROM t WHERE n % {n} = 3; PRAGMA wal_checkpoint(TRUNCATE)"
            ))
            .unwrap();
        images.push(fs::read(&path).unwrap());
        writer.import(images.last().unwrap());
        if n == 1 {
            writer.snapshot();
        }
    }
    (writer, images)
}

fn updated(writer: &model::Writer, output: &Path, check: Check) -> Result<Report> {
    updated_telling(writer, output, check, &Quiet)
}

fn updated_telling(
    writer: &model::Writer,
    output: &Path,
    check: Check,
    progress: &dyn Progress,
) -> Result<Report> {
    let target = Target::Latest;
    let options = Options { output, target, timeline: None, check, force: false, dry_run: false };
    update(&writer.source(), &options, progress)
}

#[test]
fn sqlite_plays_the_pages_into_the_copy() {
    let (writer, images) = history();
    let last = images.last().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("r.db");
    let mut old = images[0].clone();
    old[18..20].copy_from_slice(&[1, 1]); // an old copy need not be in WAL mode
    let long = [last.clone(), vec![1; 5 * 4096]].concat();
    for (copy, check) in [
        (&images[0], Check::None),
        (&images[4], Check::Full),
        (&old, Check::Quick),
        (&long, Check::Full),
        (last, Check::Full),
    ] {
        fs::write(&output, copy).unwrap();
        let report = updated(&writer, &output, check).unwrap();
        assert!(fs::read(&output).unwrap() == *last);
        assert_eq!(names(dir.path()), ["r.db"], "and nothing beside it");
        let nothing = copy.starts_with(last);
        assert_eq!(report.rewritten == Some(0), nothing, "{report:?}");
    }
}

/// Without a copy to begin with, or with pages of another size, it is a restore like any other.
#[test]
fn what_is_no_copy_is_restored_whole_or_refused() {
    let (writer, images) = history();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("r.db");
    let other = dir.path().join("other.db");
    Connection::open(&other)
        .unwrap()
        .execute_batch("PRAGMA page_size = 512; CREATE TABLE other (x)")
        .unwrap();
    for copy in [None, Some(Vec::new()), Some(fs::read(&other).unwrap())] {
        fs::remove_file(&output).ok();
        if let Some(bytes) = copy {
            fs::write(&output, bytes).unwrap();
        }
        let report = updated(&writer, &output, Check::Full).unwrap();
        assert!(fs::read(&output).unwrap() == *images.last().unwrap());
        assert_eq!(report.rewritten, None);
    }
    for bytes in [b"short".to_vec(), vec![b'x'; 9000]] {
        fs::write(&output, &bytes).unwrap();
        let error = updated(&writer, &output, Check::None).unwrap_err();
        assert_eq!(error.status, Status::Exists, "{error}");
        assert!(fs::read(&output).unwrap() == bytes);
    }
}

/// A WAL says that the copy is open, or that it is not all of its database.
#[test]
fn trap_94_a_copy_that_is_not_closed_is_refused() {
    let (writer, images) = history();
    for left in ["r.db-wal", "r.db-shm", "r.db-journal"] {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("r.db");
        fs::write(&output, &images[0]).unwrap();
        fs::write(dir.path().join(left), b"old").unwrap();
        let error = updated(&writer, &output, Check::None).unwrap_err();
        assert_eq!(error.status, Status::Exists, "{error}");
        assert!(error.message.contains(left), "{error}");
        assert_eq!(names(dir.path()), ["r.db", left]);
        assert!(fs::read(&output).unwrap() == images[0]);
    }
}

/// Whatever step of the disk is the last one, SQLite finds the old database there or the new one.
#[test]
fn trap_95_a_crash_leaves_the_old_database_or_the_new_one() {
    const EIO: i32 = 5;
    let (writer, images) = history();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("r.db");
    fs::write(&output, &images[0]).unwrap();
    let watch = fault::watch();
    updated(&writer, &output, Check::Full).unwrap();
    let steps = watch.steps();
    drop(watch);
    let kinds: Vec<DiskStep> = steps.iter().map(|(step, _)| *step).collect();
    use DiskStep::*;
    assert_eq!(kinds, [Create, Sync, Rename, SyncDir, SyncDir]);
    for at in 0..kinds.len() {
        let nth = kinds[..=at].iter().filter(|kind| **kind == kinds[at]).count();
        fs::write(&output, &images[0]).unwrap();
        let fault = fault::fail(kinds[at], nth as u64, EIO);
        updated(&writer, &output, Check::Full).unwrap_err();
        drop(fault);
        let expected = if at < 4 { &images[0] } else { images.last().unwrap() };
        assert!(fs::read(&output).unwrap() == *expected, "step {at}");
        assert_eq!(names(dir.path()), ["r.db"], "step {at}");
    }
}

/// The moment after the WAL has its name, and any moment of the checkpoint: SQLite finishes.
#[test]
fn trap_95_a_crash_while_the_pages_are_played_in_is_made_good_by_sqlite() {
    let (writer, images) = history();
    crash_at_each_page(&writer, &images[0], images.last().unwrap());
    let (writer, before, after) = grown(4096, 60);
    crash_at_each_page(&writer, &before, &after);
}

fn crash_at_each_page(writer: &model::Writer, first: &[u8], last: &[u8]) {
    let source = writer.source();
    let replica = Replica::list(&*source).unwrap();
    let chosen = choose(&*source, &replica, Target::Latest, None).unwrap();
    let wanted = Wanted::read(&*source, &chosen.plan).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("r.db");
    let rows = |path: &Path| -> f64 {
        let connection = Connection::open(path).unwrap();
        connection.query_row("SELECT total(length(b)) FROM t", [], |row| row.get(0)).unwrap()
    };
    fs::write(dir.path().join("new.db"), last).unwrap();
    let expected = rows(&dir.path().join("new.db"));
    for pages_done in 0..=last.len() / 4096 {
        fs::write(&output, first).unwrap();
        let file = File::open(&output).unwrap();
        let collected = collect(&*source, &replica, &chosen, &wanted, (&output, file), &Quiet);
        let (wal, _) = collected.unwrap().unwrap();
        fs::copy(wal.unwrap().path(), dir.path().join("r.db-wal")).unwrap();
        let mut half = first.to_vec();
        let done = (pages_done * 4096).min(last.len());
        half.resize(half.len().max(done), 0);
        half[..done].copy_from_slice(&last[..done]);
        fs::write(&output, &half).unwrap();
        assert_eq!(rows(&output), expected, "{pages_done} pages done");
        assert!(fs::read(&output).unwrap() == *last, "{pages_done} pages done");
        assert!(!dir.path().join("r.db-wal").exists());
    }
}

/// A real database, and what it is once so many pages that came after that were freed, and are zeros.
fn grown(size: u32, pages: u32) -> (model::Writer, Vec<u8>, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source.db");
    let connection = Connection::open(&path).unwrap();
    let image = |sql: &str| {
        connection.execute_batch(&format!("{sql}; PRAGMA wal_checkpoint(TRUNCATE)")).unwrap();
        fs::read(&path).unwrap()
    };
    connection.execute_batch(&format!("PRAGMA page_size = {size}")).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA secure_delete = ON").unwrap();
    let before = image("CREATE TABLE t (b)");
    let bytes = pages * (size - 4);
    let after = image(&format!("INSERT INTO t VALUES (randomblob({bytes})); DELETE FROM t"));
    let mut writer = model::Writer::new(size);
    writer.import(&before).snapshot().import(&after);
    (writer, before, after)
}

/// Zeros past the end of a copy are there without a frame, and SQLite moves no WAL into a file that would
/// grow by more than 64 KiB and what its frames hold: it called the copy malformed, and that stayed so.
#[test]
fn a_copy_that_grows_by_zeros_is_one_that_sqlite_takes() {
    for size in [512, 4096, 65536] {
        let limit = 65536_u32 / size;
        for pages in (limit.saturating_sub(3)..=limit + 8).chain([30 * limit]) {
            let (writer, before, after) = grown(size, pages);
            assert!(after.len() - before.len() >= (pages * size) as usize);
            let dir = tempfile::tempdir().unwrap();
            let output = dir.path().join("r.db");
            fs::write(&output, &before).unwrap();
            updated(&writer, &output, Check::Full).unwrap();
            assert!(fs::read(&output).unwrap() == after, "{pages} pages of {size}");
            assert_eq!(names(dir.path()), ["r.db"]);
            assert!(brought(&writer, &before, 2).0 == after);
        }
    }
}

/// Found by trying it: "7 B of 20 B" was told of a copy that has 20 parts.
#[test]
fn a_copy_is_told_to_be_hashed_in_bytes() {
    struct Most(AtomicU64);
    impl Progress for Most {
        fn at(&self, done: u64, total: u64) {
            assert!(done <= total);
            self.0.fetch_max(total, Ordering::Relaxed);
        }
    }
    let (writer, images) = history();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("r.db");
    fs::write(&output, images.last().unwrap()).unwrap();
    let most = Most(AtomicU64::new(0));
    updated_telling(&writer, &output, Check::None, &most).unwrap();
    assert_eq!(most.0.into_inner(), images.last().unwrap().len() as u64);
}

/// What was proved is what comes of the pages that were hashed: who changed one of those that did not differ,
/// and left nothing behind, made a database that never was, and it was said to be restored.
#[test]
fn a_copy_that_is_written_to_meanwhile_is_refused() {
    struct Writes(PathBuf, Vec<u8>);
    impl Progress for Writes {
        fn at(&self, _done: u64, _total: u64) {
            // The same bytes: only that it was written to can tell.
            let copy = File::options().write(true).open(&self.0).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&copy, &self.1, 0).unwrap();
        }
    }
    let (writer, images) = history();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("r.db");
    fs::write(&output, &images[4]).unwrap();
    let copy = File::options().write(true).open(&output).unwrap();
    copy.set_modified(std::time::UNIX_EPOCH).unwrap();
    let writes = Writes(output.clone(), images[4].clone());
    let error = updated_telling(&writer, &output, Check::None, &writes).unwrap_err();
    assert_eq!(error.status, Status::Locked, "{error}");
    assert_eq!(names(dir.path()), ["r.db"]);
}

/// SQLite is asked before the copy is changed.
#[test]
fn a_copy_whose_new_state_fails_its_check_stays_as_it_was() {
    let (mut writer, images) = history();
    let mut broken = images.last().unwrap().clone();
    broken[3 * 4096..4 * 4096].fill(0x55);
    writer.import(&broken);
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("r.db");
    fs::write(&output, &images[0]).unwrap();
    let error = updated(&writer, &output, Check::Full).unwrap_err();
    assert_eq!(error.status, Status::Integrity, "{error}");
    assert!(error.hint.unwrap().contains("earlier --commit or --at"));
    assert!(fs::read(&output).unwrap() == images[0]);
    assert_eq!(names(dir.path()), ["r.db"]);
}

#[test]
fn a_copy_keeps_its_mode_and_links_lead_to_it() {
    use std::os::unix::fs::PermissionsExt;
    let (writer, images) = history();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("real.db");
    fs::write(&output, &images[0]).unwrap();
    fs::set_permissions(&output, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("real.db", dir.path().join("link")).unwrap();
    updated(&writer, &dir.path().join("link"), Check::None).unwrap();
    assert!(fs::read(&output).unwrap() == *images.last().unwrap());
    assert_eq!(fs::metadata(&output).unwrap().permissions().mode() & 0o7777, 0o640);
    fs::remove_file(&output).unwrap();
    let error = updated(&writer, &dir.path().join("link"), Check::None).unwrap_err();
    assert_eq!(error.status, Status::Exists, "a link that leads nowhere is no copy: {error}");
}
