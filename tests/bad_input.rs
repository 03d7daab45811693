//! What the program says of bad input: which thing, the exit status, and nothing half-written.

use rusqlite::Connection;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const NOBODY: u32 = 65534;

/// A directory with a database in WAL mode that an application has open.
struct Place {
    dir: TempDir,
    app: Connection,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let app = Connection::open(dir.path().join("app.db")).unwrap();
        app.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
        Self { dir, app }
    }

    /// With a replica in `replica`.
    fn replicated() -> Self {
        let place = Self::new();
        place.app.execute_batch("INSERT INTO t VALUES (randomblob(300000))").unwrap();
        assert!(place.run("sync app.db replica").status.success());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.current_dir(self.dir.path()).env_remove("BAKELITE_CONFIG");
        command
    }

    fn run(&self, words: &str) -> Output {
        let mut command = self.command(env!("CARGO_BIN_EXE_bakelite"));
        command.args(words.split(' ')).output().unwrap()
    }

    /// As on a disk where no file can grow past 64 KiB.
    fn run_cramped(&self, words: &str) -> Output {
        let bakelite = env!("CARGO_BIN_EXE_bakelite");
        let script = format!("trap '' XFSZ; ulimit -f 128; exec '{bakelite}' {words}");
        // Of dash and bash: the latter counts in 1024 bytes, and has to be told not to.
        self.command("sh").env("POSIXLY_CORRECT", "1").args(["-c", &script]).output().unwrap()
    }

    /// As a user who may read and write nothing but what everybody may.
    fn run_as_nobody(&self, words: &str) -> Output {
        let program = self.path("bakelite");
        // Copied by another process: what this one has open for writing, the child of a test beside
        // this one may have inherited, and then it cannot be executed.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_bakelite")).arg(&program).status();
        assert!(copied.unwrap().success());
        let mut command = self.command(&program);
        if self.dir.path().metadata().unwrap().uid() == 0 {
            fs::set_permissions(self.dir.path(), Permissions::from_mode(0o755)).unwrap();
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.args(words.split(' ')).output().unwrap();
        fs::remove_file(program).unwrap();
        output
    }

    /// Everything there is, apart from the database itself and the daemon's state.
    fn objects(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap();
                match path.is_dir() {
                    true if name.ends_with(".bakelite") => (),
                    true => folders.push(path),
                    false if name.starts_with("app.db") => (),
                    false => files.push(path),
                }
            }
        }
        files.sort();
        files
    }
}

/// The lines for people, each with its place replaced by `DIR`.
#[track_caller]
fn check(place: &Place, output: &Output, status: i32, lines: &[&str]) {
    let dir = place.dir.path().canonicalize().unwrap();
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    let said = said.replace(dir.to_str().unwrap(), "DIR");
    assert_eq!(said.lines().collect::<Vec<_>>(), lines);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

/// Both commands that watch say the same, and leave nothing behind.
#[track_caller]
fn watching(place: &Place, database: &str, status: i32, lines: &[&str]) {
    let before = place.objects();
    for verb in ["sync", "daemon"] {
        check(place, &place.run(&format!("{verb} {database} replica")), status, lines);
    }
    assert_eq!(place.objects(), before);
    assert!(!place.path("replica").exists());
    assert!(!place.path(&format!(".{database}.bakelite")).exists());
}

#[test]
fn not_a_database() {
    let place = Place::new();
    fs::write(place.path("text"), "Dear diary, ".repeat(1000)).unwrap();
    let lines = ["bakelite: watch: DIR/text: not a SQLite database", "hint: check the path"];
    watching(&place, "text", 2, &lines);
    fs::create_dir(place.path("folder")).unwrap();
    let lines = ["bakelite: watch: DIR/folder: not a SQLite database", "hint: check the path"];
    watching(&place, "folder", 2, &lines);
}

#[test]
fn not_in_wal_mode() {
    let place = Place::new();
    let path = place.path("rollback");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let before = fs::read(&path).unwrap();
    let lines = [
        "bakelite: watch: DIR/rollback: the database is not in WAL mode",
        "hint: run: sqlite3 'DIR/rollback' 'PRAGMA journal_mode=WAL'",
    ];
    watching(&place, "rollback", 2, &lines);
    assert_eq!(fs::read(&path).unwrap(), before, "never switched silently");
}

#[test]
fn an_empty_file() {
    let place = Place::new();
    fs::write(place.path("empty"), "").unwrap();
    let lines = [
        "bakelite: watch: DIR/empty: the file is empty, not yet a database in WAL mode",
        "hint: run: sqlite3 'DIR/empty' 'PRAGMA journal_mode=WAL'",
    ];
    watching(&place, "empty", 2, &lines);
    assert_eq!(place.path("empty").metadata().unwrap().len(), 0);
}

#[test]
fn a_database_that_is_not_there() {
    let place = Place::new();
    let lines = ["bakelite: open: DIR/absent: No such file or directory (os error 2)"];
    watching(&place, "absent", 3, &lines);
    assert!(!place.path("absent").exists());
}

#[test]
fn locked_exclusively() {
    let place = Place::new();
    place.app.execute_batch("PRAGMA locking_mode = EXCLUSIVE; INSERT INTO t VALUES (1)").unwrap();
    let lines = [
        "bakelite: open: DIR/app.db: an application has locked it exclusively",
        "hint: a database used with PRAGMA locking_mode=EXCLUSIVE cannot be watched",
    ];
    watching(&place, "app.db", 6, &lines);
}

#[test]
fn a_database_without_permission() {
    let place = Place::new();
    let lines = [
        "bakelite: open: DIR/app.db: no permission to open it as SQLite does",
        "hint: run bakelite as the user that the application runs as",
    ];
    fs::set_permissions(place.path("app.db"), Permissions::from_mode(0o000)).unwrap();
    check(&place, &place.run_as_nobody("sync app.db replica"), 1, &lines);
    assert!(place.objects().is_empty() && !place.path("replica").exists());
}

#[test]
fn a_destination_that_is_not_there() {
    let place = Place::new();
    let lines = [
        "bakelite: create: DIR/not/mounted: No such file or directory (os error 2)",
        "hint: make or mount it: DIR/not/mounted",
    ];
    check(&place, &place.run("sync app.db not/mounted/app"), 8, &lines);
    assert!(!place.path("not").exists());
}

#[test]
fn a_destination_that_is_a_file() {
    let place = Place::new();
    fs::write(place.path("file"), "mine").unwrap();
    let lines = ["bakelite: create: DIR/file: not a directory", "hint: make or mount it: DIR"];
    check(&place, &place.run("sync app.db file"), 8, &lines);
    assert_eq!(fs::read(place.path("file")).unwrap(), b"mine");
}

#[test]
fn a_destination_without_permission() {
    let place = Place::replicated();
    fs::set_permissions(place.path("replica"), Permissions::from_mode(0o000)).unwrap();
    let output = place.run_as_nobody("list replica");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    fs::set_permissions(place.path("replica"), Permissions::from_mode(0o755)).unwrap();
    assert_eq!(output.status.code(), Some(8), "{said}");
    assert!(said.contains("/replica") && said.contains("Permission denied"), "{said}");
}

#[test]
fn a_destination_that_is_full() {
    let place = Place::new();
    place.app.execute_batch("INSERT INTO t VALUES (randomblob(300000))").unwrap();
    let output = place.run_cramped("sync app.db replica");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(8), "{said}");
    assert!(said.contains("bakelite: put: ") && said.contains("File too large"), "{said}");
    let halves = place
        .objects()
        .into_iter()
        .filter(|path| !path.starts_with(place.path("replica/timeline")));
    assert_eq!(halves.count(), 0, "nothing half-written");
    assert!(place.run("sync app.db replica").status.success(), "there is room again");
    assert!(place.run("verify replica --deep").status.success());
}

#[test]
fn a_restore_onto_a_full_disk() {
    let place = Place::replicated();
    let before = place.objects();
    let output = place.run_cramped("restore replica --output restored");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("bakelite: ") && said.contains("File too large"), "{said}");
    assert_eq!(place.objects(), before);
}

#[test]
fn a_target_that_exists() {
    let place = Place::replicated();
    fs::write(place.path("mine"), "mine").unwrap();
    fs::write(place.path("other-wal"), "").unwrap();
    let before = place.objects();
    let hint = "hint: choose another --output, or replace it with --force once nothing has it open";
    let lines = ["bakelite: restore: DIR/mine: it exists", hint];
    check(&place, &place.run("restore replica --output mine"), 9, &lines);
    let lines = ["bakelite: restore: DIR/other-wal: it exists", hint];
    check(&place, &place.run("restore replica --output other"), 9, &lines);
    assert_eq!(place.objects(), before);
    assert_eq!(fs::read(place.path("mine")).unwrap(), b"mine");
}

#[test]
fn a_target_whose_directory_is_not_there() {
    let place = Place::replicated();
    let before = place.objects();
    let lines =
        ["bakelite: create a file beside: DIR/not/here: No such file or directory (os error 2)"];
    check(&place, &place.run("restore replica --output not/here"), 1, &lines);
    assert_eq!(place.objects(), before);
}

#[test]
fn a_restore_point_that_is_not_there() {
    let place = Place::replicated();
    let before = place.objects();
    let lines = [
        "bakelite: restore: DIR/replica: there is no commit 99, the newest is 1",
        "hint: the nearest restore point is --commit 1",
    ];
    check(&place, &place.run("restore replica --output x --commit 99"), 3, &lines);
    let output = place.run("restore replica --output x --at 1999-01-01T00:00:00Z");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("no restore point that old\nhint: the oldest point is "), "{said}");
    assert_eq!(place.objects(), before);
}

/// It is said, and it is done all the same.
#[test]
fn trap_49_a_second_hard_link_is_told() {
    let place = Place::new();
    fs::hard_link(place.path("app.db"), place.path("other.db")).unwrap();
    let lines = [
        "bakelite: watch: DIR/app.db: it has 2 hard links, and SQLite keeps another -wal beside each \
         of them",
        "hint: use it by one name and remove the others; symbolic links do no harm",
    ];
    check(&place, &place.run("sync app.db replica"), 0, &lines);
    fs::remove_file(place.path("other.db")).unwrap();
    std::os::unix::fs::symlink("app.db", place.path("link.db")).unwrap();
    check(&place, &place.run("sync link.db replica"), 0, &[]);
    assert!(!place.path(".link.db.bakelite").exists(), "its state is beside the file");
}

#[test]
fn a_configuration_with_a_mistake() {
    let place = Place::new();
    for (line, cause, hint) in [
        ("poll_intreval = \"10ms\"", "poll_intreval: unknown key", "did you mean poll_interval?"),
        (
            "poll_interval = \"10 parsecs\"",
            "poll_interval: \"10 parsecs\" is not a duration",
            "write a whole number and one of ms, s, m, h, d, y, such as 200ms or 30d",
        ),
    ] {
        fs::write(place.path("config"), format!("[defaults]\n{line}\n")).unwrap();
        for verb in ["daemon", "sync", "status", "list", "verify"] {
            let lines = [format!("bakelite: config: config:2: {cause}"), format!("hint: {hint}")];
            let lines = lines.each_ref().map(String::as_str);
            check(&place, &place.run(&format!("{verb} --config config")), 2, &lines);
        }
    }
    let lines = [
        "bakelite: config: absent: No such file or directory (os error 2)",
        "hint: name one with --config FILE, or give DB and DEST (or SOURCE)",
    ];
    check(&place, &place.run("status --config absent"), 2, &lines);
}
