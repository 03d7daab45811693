//! An application under `bakelite run`: what it finds, what it is told, and how it all ends.

use rusqlite::Connection;
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};

/// Not a test: what `run` runs, in a process of its own. It says how many rows it finds, adds one and
/// ends with the status that it is told.
#[test]
fn application() {
    let Ok(status) = std::env::var("APPLICATION") else { return };
    let app = Connection::open("app.db").unwrap();
    app.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS t(x)").unwrap();
    println!("finds {}", rows(&app));
    app.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    std::process::exit(status.parse().unwrap());
}

fn rows(app: &Connection) -> i64 {
    app.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

/// For a shell that says what it is told, and ends with 5 when that is SIGTERM.
const TRAPS: &str = "trap 'echo HUP' HUP; trap 'echo INT' INT; trap 'echo TERM; exit 5' TERM";

struct Setup {
    dir: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// With a database of one row that was shipped.
    fn shipped() -> Self {
        let setup = Self::new();
        assert_eq!(setup.application(0), (Some(0), "finds 0".into()));
        setup
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn bakelite(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bakelite"));
        command.args(words).current_dir(&self.dir).env_remove("BAKELITE_CONFIG");
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, command: &[&str]) -> Command {
        self.bakelite(&[&["run", "app.db", "replica", "--"], command].concat())
    }

    /// Runs the application, which ends with a status; the status of all, and what it said.
    fn application(&self, status: u8) -> (Option<i32>, String) {
        let exe = std::env::current_exe().unwrap();
        let words = [exe.to_str().unwrap(), "--exact", "application", "--nocapture"];
        let output = self.run(&words).env("APPLICATION", status.to_string()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let line = said.lines().find_map(|line| line.split_once("finds "));
        let line = line.unwrap_or_else(|| panic!("{said}")).1;
        (output.status.code(), format!("finds {line}"))
    }

    fn output(&self, command: &[&str]) -> (Option<i32>, String) {
        let Output { status, stderr, .. } = self.run(command).output().unwrap();
        (status.code(), String::from_utf8(stderr).unwrap())
    }

    fn restored(&self, name: &str) -> i64 {
        let words = ["restore", "replica", "--output", name, "--check", "full"];
        assert!(self.bakelite(&words).output().unwrap().status.success());
        rows(&Connection::open(self.path(name)).unwrap())
    }

    /// As on a new machine.
    fn lose(&self) {
        for name in ["app.db", "app.db-wal", "app.db-shm"] {
            fs::remove_file(self.path(name)).ok();
        }
        fs::remove_dir_all(self.path(".app.db.bakelite")).unwrap();
    }
}

/// `run` with the shell, and what both say.
struct Running {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
    told: Lines<BufReader<ChildStderr>>,
}

impl Running {
    fn new(setup: &Setup, traps: &str) -> Self {
        let script = format!("{traps}; echo up; while :; do sleep 0.02; done");
        let mut command = setup.run(&["sh", "-c", &script]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut running = Self { child, said, told };
        running.says("up");
        running
    }

    #[track_caller]
    fn says(&mut self, word: &str) {
        assert_eq!(self.said.next().unwrap().unwrap(), word);
    }

    fn is_told(&mut self, word: &str) {
        assert!(self.told.any(|line| line.unwrap().contains(word)), "never told of {word}");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    fn status(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

#[test]
fn a_first_start_begins_with_nothing_and_a_new_machine_with_what_was_shipped() {
    let setup = Setup::new();
    assert_eq!(setup.application(0), (Some(0), "finds 0".into()));
    assert_eq!(setup.application(0), (Some(0), "finds 1".into()));
    setup.lose();
    assert_eq!(setup.application(0), (Some(0), "finds 2".into()));
    assert_eq!(setup.restored("copy.db"), 3);
}

/// All that it committed is shipped before its status comes back, however it ended.
#[test]
fn the_status_is_the_commands() {
    let setup = Setup::shipped();
    assert_eq!(setup.application(7), (Some(7), "finds 1".into()));
    assert_eq!(setup.restored("copy.db"), 2);
    assert_eq!(setup.output(&["sh", "-c", "kill -KILL $$"]).0, Some(137));
    let (status, told) = setup.output(&["/nonexistent/app"]);
    assert_eq!(status, Some(2));
    assert!(told.contains("bakelite: run: /nonexistent/app: No such file"), "{told}");
    // Found by trying it: nothing was said of what to do.
    assert!(told.contains("hint: check the path"), "{told}");
    let (_, told) = setup.output(&["no-such-command"]);
    assert!(told.contains("hint: there is none of that name in PATH"), "{told}");
    let (_, told) = setup.output(&[concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
    assert!(told.contains("hint: make it executable"), "{told}");
}

/// What both told systemd would contradict each other; the child's process is not the one that is meant.
#[test]
fn the_command_is_not_asked_to_tell_systemd_how_it_is() {
    let setup = Setup::shipped();
    let socket = setup.path("notify");
    let _socket = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    let inherits = "test -n \"${NOTIFY_SOCKET+x}${WATCHDOG_USEC+x}${WATCHDOG_PID+x}\"";
    let mut command = setup.run(&["sh", "-c", inherits]);
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "60000000");
    command.env("WATCHDOG_PID", "1");
    assert_eq!(command.status().unwrap().code(), Some(1));
}

#[test]
fn signals_go_to_the_command() {
    let setup = Setup::shipped();
    let mut running = Running::new(&setup, TRAPS);
    for name in ["HUP", "INT", "TERM"] {
        running.signal(name);
        running.says(name);
    }
    Connection::open(setup.path("app.db")).unwrap().execute_batch("VACUUM").unwrap();
    assert_eq!(running.status(), Some(5));
}

/// The command is not started where it would find the wrong thing, or could not be backed up at all.
#[test]
fn what_must_not_begin_does_not() {
    let setup = Setup::shipped();
    let touch = ["touch", "started"];
    let refused = |status: i32, words: &str| {
        let (found, told) = setup.output(&touch);
        assert_eq!(found, Some(status), "{told}");
        assert!(told.contains(words), "{told}");
        assert!(!setup.path("started").exists());
    };
    let lock = setup.path(".app.db.bakelite/lock");
    fs::write(&lock, "daemon\n").unwrap();
    let lock = fs::File::open(lock).unwrap();
    lock.lock().unwrap();
    refused(6, "app.db");
    drop(lock);
    setup.lose();
    fs::write(setup.path("app.db-wal"), "old").unwrap();
    refused(9, "app.db-wal");
    fs::remove_file(setup.path("app.db-wal")).unwrap();
    // A replica that is not whole is no reason to begin anew.
    let snapshots = setup.path("replica/snapshot");
    for entry in fs::read_dir(&snapshots).unwrap() {
        fs::write(entry.unwrap().path(), "spoiled").unwrap();
    }
    refused(4, "snapshot");
    assert!(!setup.path("app.db").exists());
}

/// A disk that is not mounted does not look like a replica that was never there.
#[test]
fn trap_81_a_destination_that_is_away_is_no_first_start() {
    let setup = Setup::new();
    let words = ["run", "app.db", "mnt/disk/replica", "--", "touch", "started"];
    let output = setup.bakelite(&words).output().unwrap();
    assert_eq!(output.status.code(), Some(8), "{output:?}");
    assert!(!setup.path("started").exists());
    // With a database, the command is not kept waiting for a disk.
    let app = Connection::open(setup.path("app.db")).unwrap();
    app.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(x)").unwrap();
    let output = setup.bakelite(&words).output().unwrap();
    assert!(setup.path("started").exists(), "{output:?}");
    assert_eq!(output.status.code(), Some(8), "and the status tells of it: {output:?}");
}

/// Another host takes the replica up: the command goes on, is told of, and the status says so.
#[test]
fn a_daemon_that_fails_leaves_the_command_alone() {
    let setup = Setup::shipped();
    let mut running = Running::new(&setup, "trap 'exit 0' TERM");
    fs::create_dir(setup.path("other")).unwrap();
    assert_eq!(setup.restored("other/app.db"), 1);
    let timelines = || fs::read_dir(setup.path("replica/timeline")).unwrap().count();
    let before = timelines();
    let mut host = setup.bakelite(&["daemon", "other/app.db", "replica"]).spawn().unwrap();
    while timelines() == before {
        assert_eq!(host.try_wait().unwrap(), None);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let app = Connection::open(setup.path("app.db")).unwrap();
    app.execute_batch("INSERT INTO t VALUES (2)").unwrap();
    running.is_told("not backed up any more");
    assert_eq!(running.child.try_wait().unwrap(), None, "the command goes on");
    running.signal("TERM");
    assert_eq!(running.status(), Some(6));
    host.kill().unwrap();
    host.wait().unwrap();
}
