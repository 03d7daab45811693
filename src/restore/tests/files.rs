//! What happens at the target: refused, kept, published whole or not at all.

use super::*;
use crate::backend::faulty::{Fault, Faulty, Operation};
use crate::durable::{Step as DiskStep, fault};
use crate::testkit::{Process, points};
use rusqlite::Connection;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// A replica of a real database in WAL mode: four tables' worth of rows.
fn database() -> (model::Writer, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB);
             WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100)
             INSERT INTO t SELECT n, zeroblob(n * 10) FROM c; PRAGMA wal_checkpoint(TRUNCATE)",
        )
        .unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes[18..20], [2, 2], "in WAL mode");
    let mut writer = model::Writer::new(4096);
    writer.import(&bytes).snapshot();
    (writer, dir)
}

fn run(writer: &model::Writer, output: &Path, force: bool) -> Result<Report> {
    run_from(&writer.source(), output, force)
}

fn run_from(source: &Arc<dyn Backend>, output: &Path, force: bool) -> Result<Report> {
    let (target, check) = (Target::Latest, Check::Full);
    restore(
        source,
        &Options { output, target, timeline: None, check, force, dry_run: false },
        &Quiet,
    )
}

#[test]
fn trap_96_a_file_with_the_wal_flag_opens_without_a_wal() {
    let (writer, _source) = database();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("r.db");
    let report = run(&writer, &output, false).unwrap();
    assert_eq!(report.bytes, report_bytes(&writer), "each object was read once");
    assert_eq!(names(dir.path()), ["r.db"], "and nothing beside it");
    assert_eq!(fs::read(&output).unwrap(), writer.image(1));
    let connection = Connection::open(&output).unwrap();
    let row = |row: &rusqlite::Row| Ok((row.get(0)?, row.get(1)?));
    let found: (String, i64) = connection
        .query_row("SELECT journal_mode, (SELECT sum(n) FROM t) FROM pragma_journal_mode", [], row)
        .unwrap();
    assert_eq!(found, ("wal".into(), 5050));
    connection.execute("INSERT INTO t VALUES (1000, NULL)", []).unwrap();
}

/// The snapshot's parts: all that this restore reads besides manifest and timeline.
fn report_bytes(writer: &model::Writer) -> u64 {
    let objects = writer.store.objects();
    objects
        .iter()
        .filter(|(key, _)| key.starts_with("part/"))
        .map(|(_, body)| body.len() as u64)
        .sum()
}

#[test]
fn trap_94_what_exists_is_refused_without_force() {
    let (writer, _source) = database();
    for taken in ["r.db", "r.db-wal", "r.db-shm", "r.db-journal"] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(taken), b"old").unwrap();
        let error = run(&writer, &dir.path().join("r.db"), false).unwrap_err();
        assert_eq!(error.status, Status::Exists, "{error}");
        assert!(error.message.contains(taken) && error.hint.is_some(), "{error}");
        assert_eq!(names(dir.path()), [taken]);
        assert_eq!(fs::read(dir.path().join(taken)).unwrap(), b"old");
        run(&writer, &dir.path().join("r.db"), true).unwrap();
        assert_eq!(names(dir.path()), ["r.db"], "with force only the new one is left");
        assert_eq!(fs::read(dir.path().join("r.db")).unwrap(), writer.image(1));
    }
}

/// Even a link that leads nowhere: whoever made it meant something by it.
#[test]
fn trap_94_a_dangling_link_is_refused() {
    let (writer, _source) = database();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("r.db");
    std::os::unix::fs::symlink("nowhere", &output).unwrap();
    assert_eq!(run(&writer, &output, false).unwrap_err().status, Status::Exists);
    assert_eq!(names(dir.path()), ["r.db"]);
}

/// A file that turned up while the restore ran is nobody's to overwrite.
#[test]
fn trap_94_what_turns_up_meanwhile_is_refused() {
    struct Meanwhile(PathBuf);
    impl Progress for Meanwhile {
        fn at(&self, _done: u64, _total: u64) {
            fs::write(&self.0, b"new").unwrap();
        }
    }
    let (writer, _source) = database();
    for taken in ["r.db", "r.db-wal"] {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("r.db");
        let (target, check) = (Target::Latest, Check::None);
        let options = Options {
            output: &output,
            target,
            timeline: None,
            check,
            force: false,
            dry_run: false,
        };
        let progress = Meanwhile(dir.path().join(taken));
        let error = restore(&writer.source(), &options, &progress).unwrap_err();
        assert_eq!(error.status, Status::Exists, "{error}");
        assert_eq!(names(dir.path()), [taken]);
    }
}

#[test]
fn trap_94_force_keeps_mode_and_owner() {
    let (writer, _source) = database();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("r.db");
    fs::write(&output, b"old").unwrap();
    fs::set_permissions(&output, fs::Permissions::from_mode(0o640)).unwrap();
    // Only root can give files away; to itself anybody can.
    let owner = std::os::unix::fs::chown(&output, Some(1234), Some(4321));
    let (uid, gid) = fs::metadata(&output).map(|old| (old.uid(), old.gid())).unwrap();
    assert!(owner.is_err() || (uid, gid) == (1234, 4321));
    run(&writer, &output, true).unwrap();
    let new = fs::metadata(&output).unwrap();
    assert_eq!((new.mode() & 0o7777, new.uid(), new.gid()), (0o640, uid, gid));
    fs::remove_file(&output).unwrap();
    run(&writer, &output, false).unwrap();
    assert_eq!(fs::metadata(&output).unwrap().mode() & 0o7777, 0o600, "a new one is its owner's");
}

/// Found by trying it: with force, a FIFO was replaced by a database.
#[test]
fn trap_94_what_is_no_file_is_refused_also_with_force() {
    let (writer, _source) = database();
    let dir = tempfile::tempdir().unwrap();
    let [fifo, socket] = ["fifo", "socket"].map(|name| dir.path().join(name));
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::os::unix::fs::symlink("fifo", dir.path().join("link")).unwrap();
    for (path, kind) in [(&fifo, "a FIFO"), (&socket, "a socket"), (&dir.path().join("link"), "")] {
        for force in [false, true] {
            let error = run(&writer, path, force).unwrap_err();
            assert_eq!(error.status, Status::Exists, "{error}");
            assert!(error.message.contains(kind) && error.hint.is_some(), "{error}");
        }
        let (target, check) = (Target::Latest, Check::None);
        let options =
            Options { output: path, target, timeline: None, check, force: false, dry_run: false };
        let error = update(&writer.source(), &options, &Quiet).unwrap_err();
        assert_eq!(error.status, Status::Exists, "{error}");
    }
    assert_eq!(names(dir.path()), ["fifo", "link", "socket"]);
    assert_eq!(
        super::super::output::kind_of(fs::metadata("/dev/null").unwrap().file_type()),
        Some("a device")
    );
}

/// Found by trying it: with force, the file was replaced below an application that went on writing to the
/// one that was gone.
#[test]
fn trap_94_what_a_process_has_open_is_refused_also_with_force() {
    let (writer, _source) = database();
    for (mode, lock) in [("wal", "SELECT count(*) FROM t"), ("delete", "BEGIN IMMEDIATE")] {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("r.db");
        std::os::unix::fs::symlink("r.db", dir.path().join("link")).unwrap();
        let mut app = Process::new(&output);
        app.sql(&format!("PRAGMA journal_mode = {mode}"));
        app.sql("CREATE TABLE t(x)");
        app.sql(lock);
        for path in [&output, &dir.path().join("link")] {
            let error = run(&writer, path, true).unwrap_err();
            assert_eq!(error.status, Status::Locked, "{mode}: {error}");
            assert!(error.hint.unwrap().contains("stop"), "{mode}");
        }
        let error = dry_run(&writer, &output, true).unwrap_err();
        assert_eq!(error.status, Status::Locked, "{mode}: {error}");
        drop(app);
        run(&writer, &output, true).unwrap();
        assert_eq!(fs::read(&output).unwrap(), writer.image(1));
    }
}

/// SQLite follows a link and has the WAL beside the file that it leads to.
#[test]
fn trap_94_force_replaces_the_file_behind_a_link() {
    let (writer, _source) = database();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    fs::write(dir.path().join("real/r.db"), b"old").unwrap();
    fs::write(dir.path().join("real/r.db-wal"), b"old").unwrap();
    std::os::unix::fs::symlink("real/r.db", dir.path().join("link")).unwrap();
    run(&writer, &dir.path().join("link"), true).unwrap();
    assert!(dir.path().join("link").is_symlink());
    assert_eq!(names(&dir.path().join("real")), ["r.db"]);
    assert_eq!(fs::read(dir.path().join("real/r.db")).unwrap(), writer.image(1));
}

/// Whatever step fails, there is no file at a new target.
#[test]
fn trap_95_a_failed_disk_leaves_nothing_at_the_target() {
    const ENOSPC: i32 = 28;
    let (writer, _source) = database();
    for step in [DiskStep::Create, DiskStep::Sync, DiskStep::Rename, DiskStep::SyncDir] {
        let dir = tempfile::tempdir().unwrap();
        let _disk = fault::fail(step, 1, ENOSPC);
        let error = run(&writer, &dir.path().join("r.db"), false).unwrap_err();
        assert_eq!(error.status, Status::Failed, "{error}");
        assert_eq!(names(dir.path()), [""; 0], "{step:?}");
    }
}

/// Nothing of an old database goes before the new one is safe on disk.
#[test]
fn trap_95_a_failed_disk_leaves_the_old_database_whole() {
    const EIO: i32 = 5;
    let (writer, _source) = database();
    // The two that belong to it are put aside, and then the new one takes its name.
    let renames = (1..=3).map(|nth| (DiskStep::Rename, nth));
    let syncs = [(DiskStep::Create, 1), (DiskStep::Sync, 1), (DiskStep::Sync, 2)];
    for (step, nth) in syncs.into_iter().chain(renames).chain([(DiskStep::SyncDir, 1)]) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["r.db", "r.db-shm", "r.db-wal"] {
            fs::write(dir.path().join(name), b"old").unwrap();
        }
        let _disk = fault::fail(step, nth, EIO);
        let error = run(&writer, &dir.path().join("r.db"), true).unwrap_err();
        assert_eq!(error.status, Status::Failed, "{error}");
        assert_eq!(names(dir.path()), ["r.db", "r.db-shm", "r.db-wal"], "{step:?} {nth}");
        assert_eq!(fs::read(dir.path().join("r.db")).unwrap(), b"old");
    }
}

/// The new one has its name, though nobody knows whether that lasts: the old WAL is not for it.
#[test]
fn trap_95_an_old_wal_is_not_put_beside_the_new_database() {
    let (writer, _source) = database();
    let dir = tempfile::tempdir().unwrap();
    for name in ["r.db", "r.db-wal"] {
        fs::write(dir.path().join(name), b"old").unwrap();
    }
    let _disk = fault::fail(DiskStep::SyncDir, 2, 5);
    run(&writer, &dir.path().join("r.db"), true).unwrap_err();
    assert_ne!(fs::read(dir.path().join("r.db")).unwrap(), b"old");
    assert!(!dir.path().join("r.db-wal").exists());
}

/// Any call of the source may fail, or bring something short or wrong.
#[test]
fn trap_95_a_failed_source_leaves_nothing_at_the_target() {
    let (mut writer, _source) = database();
    writer.alone(&Step::fill(40, 30..=40, 1)).alone(&Step::fill(40, [35], 2));
    let mut moments = 0;
    for (operation, faults) in [
        (Operation::List, &[Fault::Refused, Fault::Denied][..]),
        (Operation::Get, &[Fault::Refused, Fault::Denied, Fault::Short, Fault::Flipped]),
    ] {
        for fault in faults {
            let calls = (1..).take_while(|nth| fails_at(&writer, operation, *nth, *fault)).count();
            assert!(calls >= 4, "{operation:?} {fault:?}: {calls} calls");
            moments += calls as u64;
        }
    }
    points::record("restore", &[("points", moments)]);
}

/// Whether a restore has an `nth` call, which then fails it.
fn fails_at(writer: &model::Writer, operation: Operation, nth: u64, fault: Fault) -> bool {
    let faulty = Arc::new(Faulty::new(writer.source()));
    faulty.fail(operation, nth, fault);
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("r.db");
    let source = Arc::clone(&faulty) as Arc<dyn Backend>;
    let options = Options {
        output: &output,
        target: Target::Latest,
        timeline: None,
        check: Check::None,
        force: false,
        dry_run: false,
    };
    let result = restore(&source, &options, &Quiet);
    let fired = faulty.fired(fault) == 1;
    assert_eq!(result.is_err(), fired, "{operation:?} {nth} {fault:?}");
    let left = if fired { vec![] } else { vec!["r.db".to_owned()] };
    assert_eq!(names(dir.path()), left);
    fired
}

/// A file whose digest is proved and that SQLite nevertheless finds malformed gets no name.
#[test]
fn a_file_that_fails_its_check_is_not_published() {
    let mut writer = model::Writer::new(4096);
    writer.alone(&Step::fill(3, 1..=3, 1)).snapshot();
    let dir = tempfile::tempdir().unwrap();
    let error = run(&writer, &dir.path().join("r.db"), false).unwrap_err();
    assert_eq!(error.status, Status::Integrity);
    assert_eq!(names(dir.path()), [""; 0]);
    // Found by trying it: what was named is a file that is gone again, and nothing was said of a way out.
    let said = format!("integrity_check: {}: commit 1: ", dir.path().join("r.db").display());
    assert!(error.message.starts_with(&said), "{error}");
    assert!(error.hint.unwrap().contains("earlier --commit or --at"));
}

#[test]
fn a_dry_run_says_what_it_would_land_on_and_writes_nothing() {
    let (writer, _source) = database();
    let dir = tempfile::tempdir().unwrap();
    let report = dry_run(&writer, &dir.path().join("r.db"), false).unwrap();
    assert_eq!(report.commit, CommitNo(1));
    assert_eq!(names(dir.path()), [""; 0]);
}

/// Found by trying it: it said that it would restore, and ended with 0.
#[test]
fn a_dry_run_refuses_what_a_real_one_does() {
    let (writer, _source) = database();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("r.db");
    fs::write(&output, b"old").unwrap();
    let said = |error: Error| (error.status, error.message, error.hint);
    let real = said(run(&writer, &output, false).unwrap_err());
    assert_eq!(said(dry_run(&writer, &output, false).unwrap_err()), real);
    assert_eq!(dry_run(&writer, &output, true).unwrap().commit, CommitNo(1));
    assert_eq!(fs::read(&output).unwrap(), b"old");
}

fn dry_run(writer: &model::Writer, output: &Path, force: bool) -> Result<Report> {
    let (target, check) = (Target::Latest, Check::Full);
    let options = Options { output, target, timeline: None, check, force, dry_run: true };
    restore(&writer.source(), &options, &Quiet)
}
