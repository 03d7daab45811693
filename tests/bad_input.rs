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
    let lines = [
        "bakelite: open: DIR/absent: No such file or directory (os error 2)",
        "hint: correct its path, or restore it",
    ];
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
        "bakelite: create: DIR/not/mounted/app: No such file or directory (os error 2)",
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

/// Found by trying it: one directory that is not readable, such as lost+found, hid all replicas.
#[test]
fn a_fleet_beside_what_may_not_be_read() {
    let place = Place::replicated();
    for name in ["lost+found", "more"] {
        fs::create_dir(place.path(name)).unwrap();
        fs::set_permissions(place.path(name), Permissions::from_mode(0o000)).unwrap();
    }
    let outputs = ["list --from .", "status --from .", "check --from . --json", "check --from ."]
        .map(|words| place.run_as_nobody(words));
    for name in ["lost+found", "more"] {
        fs::set_permissions(place.path(name), Permissions::from_mode(0o755)).unwrap();
    }
    for output in &outputs {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(said.matches("bakelite: ").count(), 1, "{said}");
        assert!(said.contains("lost+found: Permission denied"), "{said}");
        assert!(said.contains("and 1 more"), "{said}");
    }
    let out = outputs.map(|output| String::from_utf8(output.stdout).unwrap());
    assert!(out[0].contains("replica") && out[1].contains("commit 1 of"), "{out:?}");
    assert!(out[2].contains("lost+found") && out[3].is_empty(), "{out:?}");
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

/// A drill needs room, and once took its lack for damage of the replica.
#[test]
fn a_drill_without_a_scratch_directory() {
    let place = Place::replicated();
    let mut command = place.command(env!("CARGO_BIN_EXE_bakelite"));
    let output = command.args(["verify", "replica", "--deep"]).env("TMPDIR", "/absent").output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said.starts_with("bakelite: create: a scratch directory: No such file"), "{said}");
    assert!(said.contains("\nhint: TMPDIR names a directory"), "{said}");
}

#[test]
fn a_target_whose_directory_is_not_there() {
    let place = Place::replicated();
    let before = place.objects();
    let lines = [
        "bakelite: create a file beside: DIR/not/here: No such file or directory (os error 2)",
        "hint: choose a directory that can be written to; this is DIR/not",
    ];
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

/// A place with a replica and a sealed one, keys good and bad, and things that are something else.
fn cluttered() -> Place {
    let place = Place::replicated();
    let two = Connection::open(place.path("app.db2")).unwrap();
    two.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
    for words in ["keygen key", "keygen other", "sync app.db2 sealed --key-file key"] {
        assert!(place.run(words).status.success(), "{words}");
    }
    let key = fs::read_to_string(place.path("key")).unwrap();
    let line = key.lines().last().unwrap();
    let last = if line.ends_with('0') { '1' } else { '0' };
    let keys = [
        ("no-key", "abc\n".to_owned()),
        ("empty-key", String::new()),
        ("two-keys", format!("{key}{line}\n")),
        ("mistyped-key", format!("{}{last}\n", &line[..line.len() - 1])),
        ("short-key", format!("{}\n", &line[..line.len() - 2])),
        ("open-key", key.clone()),
    ];
    for (name, text) in keys {
        fs::write(place.path(name), text).unwrap();
        let mode = if name == "open-key" { 0o644 } else { 0o600 };
        fs::set_permissions(place.path(name), Permissions::from_mode(mode)).unwrap();
    }
    fs::write(place.path("text"), "Dear diary, ".repeat(1000)).unwrap();
    fs::write(place.path("cut.db"), &fs::read(place.path("app.db")).unwrap()[..50]).unwrap();
    fs::write(place.path("latin-1.toml"), b"# caf\xe9\n").unwrap();
    fs::create_dir(place.path("folder")).unwrap();
    fs::create_dir_all(place.path("newer/timeline")).unwrap();
    fs::write(place.path("newer/timeline/00000001"), of_a_later_version(&place)).unwrap();
    std::os::unix::fs::symlink("loop", place.path("loop")).unwrap();
    place
}

/// A timeline's record of format version 2, its checksums right.
fn of_a_later_version(place: &Place) -> Vec<u8> {
    let mut object = fs::read(place.path("replica/timeline/00000001")).unwrap();
    object.truncate(object.len() - 36);
    object[8] = 2;
    object.extend(crc32fast::hash(&object).to_le_bytes());
    object.extend(blake3::hash(&object).as_bytes());
    object
}

const NEWER: &str = "read: DIR/newer/timeline/00000001: its format is version 2";
const ROOT: &str = "check the path, and that its disk is mounted; which replicas lie below a place, says: \
                    bakelite list --from PLACE";
const PATH: &str = "correct its path, or restore it";
const KEY: &str = "name the key's file with key_files, --key-file or BAKELITE_KEY_FILES";
const KEYGEN: &str = "a key's file is made by `bakelite keygen FILE`, and has one key";
const OTHER_KEY: &str =
    "name the file of that key too, with key_files, --key-file or BAKELITE_KEY_FILES";

/// What is typed, the status, how the line begins, and the hint.
const BAD: &[(&str, i32, &str, &str)] = &[
    ("list text", 8, "open: DIR/text: not a directory", ROOT),
    ("list absent", 3, "open: DIR/absent: destination is not there", ROOT),
    ("list folder", 3, "list: DIR/folder: there is no replica here", ROOT),
    ("list loop", 8, "open: DIR/loop: Too many levels of symbolic links", ROOT),
    ("list replica/change", 3, "open: DIR/replica/change: destination is not there", ROOT),
    ("restore newer --output x", 10, NEWER, "use a newer bakelite"),
    ("verify newer", 10, NEWER, "use a newer bakelite"),
    (
        "sync app.db newer",
        10,
        "read: file://DIR/newer/timeline/00000001: its format",
        "use a newer",
    ),
    ("verify text", 8, "open: DIR/text: not a directory", ROOT),
    ("verify absent", 3, "open: DIR/absent: destination is not there", ROOT),
    ("verify folder", 3, "verify: DIR/folder: no replica here", ROOT),
    ("usage folder", 3, "usage: DIR/folder: there is no replica here", ROOT),
    ("repair app.db absent", 3, "open: DIR/absent: destination is not there", ROOT),
    ("status absent.db replica", 3, "status: DIR/absent.db: no such database", PATH),
    ("sync absent.db new", 3, "open: DIR/absent.db: No such file or directory", PATH),
    ("sync cut.db new", 2, "watch: DIR/cut.db: not a SQLite database", "check the path"),
    ("sync loop new", 1, "open: DIR/loop: Too many levels of symbolic links", "check the path"),
    ("sync app.db text", 8, "open: DIR/text: not a directory", ROOT),
    ("sync app.db app.db", 8, "open: DIR/app.db: not a directory", ROOT),
    (
        "sync app.db new",
        8,
        "open: DIR/new: destination is not there",
        "mount what belongs there, or for a replica that is new: mkdir -p 'DIR/new'",
    ),
    (
        "sync app.db2 new --seal all",
        2,
        "seal: key_files: there is no key to seal with",
        "make one with `bakelite keygen FILE`, and name it there",
    ),
    ("restore folder --output x", 3, "restore: DIR/folder: there is no replica here", ROOT),
    (
        "restore replica --output folder",
        9,
        "restore: DIR/folder: a directory",
        "name a file in it, or another one",
    ),
    (
        "restore replica --output / --force",
        9,
        "restore: /: a directory",
        "name a file in it, or another one",
    ),
    (
        "restore replica --output text",
        9,
        "restore: DIR/text: it exists",
        "choose another --output, or replace it with --force once nothing has it open",
    ),
    (
        "restore replica --output absent/x",
        1,
        "create a file beside: DIR/absent/x: No such file or directory",
        "choose a directory that can be written to; this is DIR/absent",
    ),
    (
        "restore replica --output text/x",
        1,
        "create a file beside: DIR/text/x: Not a directory",
        "choose a directory that can be written to; this is DIR/text",
    ),
    (
        "restore replica --output x --timeline 7",
        3,
        "read: DIR/replica: there is no timeline 7",
        "the timelines there are: 1",
    ),
    (
        "restore replica --output x --commit 9",
        3,
        "restore: DIR/replica: there is no commit 9, the newest is 1",
        "the nearest restore point is --commit 1",
    ),
    (
        "restore replica --output x --at 10y",
        3,
        "restore: DIR/replica: no restore point that old",
        "the oldest point is 2",
    ),
    (
        "restore replica --output x --key-file key",
        7,
        "get: DIR/replica/timeline/00000001: it is not sealed, and where there is a key all has to be",
        "if it is yours, seal = \"new\", or --seal new, trusts it, and `bakelite reencrypt` then seals",
    ),
    ("restore sealed --output x", 7, "read: DIR/sealed/timeline/00000001: it is sealed", OTHER_KEY),
    ("list sealed --key-file other", 7, "read: DIR/sealed/timeline/00000001: it is", OTHER_KEY),
    ("list sealed --key-file absent", 7, "read the key: DIR/absent: No such file", KEY),
    ("list sealed --key-file no-key", 7, "read the key: DIR/no-key: it is not a key", KEYGEN),
    ("list sealed --key-file empty-key", 7, "read the key: DIR/empty-key: there is no key", KEYGEN),
    ("list sealed --key-file two-keys", 7, "read the key: DIR/two-keys: there is more", KEYGEN),
    ("list sealed --key-file short-key", 7, "read the key: DIR/short-key: its key is not", KEYGEN),
    ("list sealed --key-file mistyped-key", 7, "read the key: DIR/mistyped-key: its key", KEYGEN),
    (
        "list sealed --key-file open-key",
        2,
        "read the key: DIR/open-key: others can read it",
        "run: chmod o-rwx DIR/open-key",
    ),
    (
        "keygen key",
        9,
        "keygen: DIR/key: there is a file of that name",
        "a key that is lost cannot be had again, so none is written over",
    ),
    (
        "keygen absent/key",
        1,
        "keygen: DIR/absent/key: No such file or directory",
        "choose a directory that is there, and that you may write to",
    ),
    (
        "reencrypt replica",
        2,
        "reencrypt: key_files: there is no key to seal with",
        "make one with `bakelite keygen FILE`, and name it in key_files or --key-file",
    ),
    (
        "reencrypt sealed --to-plain --key-file key",
        2,
        "reencrypt: --to-plain: a daemon would go on sealing, and refuse what is not sealed",
        "set seal = \"none\", start the daemon again, then run this again",
    ),
    (
        "init app.db replica -c absent/b.toml",
        1,
        "init: absent/b.toml: No such file or directory",
        "run: mkdir -p absent",
    ),
    (
        "init app.db replica -c text",
        9,
        "init: text: it exists",
        "name another with --config, or add the database to that one",
    ),
    ("list -c folder", 2, "config: folder: Is a directory", "name another one with --config FILE"),
    (
        "status -c latin-1.toml",
        2,
        "config: latin-1.toml: stream did not contain valid UTF-8",
        "name another one with --config FILE",
    ),
    (
        "list s3://bucket/x?endpoint=http://127.0.0.1:1",
        8,
        "get: s3://bucket/x/timeline/00000001: Connection refused",
        "see whether http://127.0.0.1:1 is right, and can be reached from here",
    ),
    (
        "list s3://bucket/x?endpoint=http://no.such.host.invalid",
        8,
        "get: s3://bucket/x/timeline/00000001: failed to lookup address information: ",
        "see whether http://no.such.host.invalid is right, and can be reached from here",
    ),
];

/// Two lines, the second one a hint; and all there is stays as it was.
#[test]
fn every_mistake_is_told_in_one_line_with_a_hint() {
    let place = cluttered();
    let before = place.objects();
    for (words, status, line, hint) in BAD {
        let mut command = place.command(env!("CARGO_BIN_EXE_bakelite"));
        command.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "secret");
        let output = command.args(words.split(' ')).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let said = said.replace(place.dir.path().canonicalize().unwrap().to_str().unwrap(), "DIR");
        let lines: Vec<&str> = said.lines().collect();
        let [first, second] = lines[..] else { panic!("{words}: {said}") };
        assert_eq!(output.status.code(), Some(*status), "{words}: {said}");
        assert!(first.starts_with(&format!("bakelite: {line}")), "{words}: {said}");
        assert!(second.starts_with(&format!("hint: {hint}")), "{words}: {said}");
        assert!(output.stdout.is_empty(), "{words}: {:?}", output.stdout);
    }
    assert_eq!(place.objects(), before);
}
