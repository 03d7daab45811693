//! Every command of the man pages is run, in order, with the trouble made beforehand that its section
//! is about, and says what stands there but for numbers, times and digests.
//!
//! The pages' directories are below a scratch directory here. `systemctl` and `sqlite3` are played by
//! the test, a bucket by a directory.

#[path = "support/shape.rs"]
mod shape;

use rusqlite::Connection;
use rusqlite::types::Value;
use serde_json::Value as Json;
use shape::shape;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

const RECOVERY: &str = include_str!("../man/bakelite-recovery.7");
const COMMANDS: &str = include_str!("../man/bakelite.1");
const PROGRAM: &str = env!("CARGO_BIN_EXE_bakelite");

type Trouble = fn(&mut Machine);

/// What makes the trouble of a section. Each begins on a machine where all is well.
const TROUBLES: [(&str, Trouble); 15] = [
    ("Where to look first", |_| ()),
    ("The disk or the machine is gone", Machine::lose_the_database),
    ("Nothing is left but a replica", Machine::lose_the_database),
    ("The database is corrupt", Machine::damage_the_database),
    ("Rows were deleted by mistake", Machine::delete_rows),
    ("The key is lost", Machine::lose_the_key),
    ("A bucket or a disk with a replica is gone", |machine| {
        machine.stop_daemon();
        fs::remove_dir_all(machine.path("/mnt/offsite/app")).unwrap();
    }),
    ("A destination is damaged", |machine| machine.damage(&["/mnt/offsite"])),
    ("What is damaged is nowhere whole", |machine| {
        machine.damage(&["/mnt/backup", "/mnt/offsite"]);
        // What was shipped lately is there otherwise.
        fs::remove_dir_all(machine.path("/var/lib/app/.app.db.bakelite/recent")).unwrap();
    }),
    ("Two machines write to one replica", Machine::write_from_elsewhere),
    ("The clock was wrong", |_| ()),
    ("A disk is full", |_| ()),
    ("The WAL grows", Machine::read_without_end),
    ("The daemon does not stay up", |_| ()),
    ("Whether it would work", |_| ()),
];

/// Parts of commands that only hold on the page.
const STANDS_FOR: [(&str, &str); 2] =
    [("s3://backups/app?region=eu-west-1", "/mnt/bucket/app"), ("--at 90m", "--at 1ms")];

/// A command of a page and what it says there.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    command: String,
    says: Vec<String>,
}

/// The sections of a page below a heading, each with its commands.
fn sections(page: &'static str, heading: &str) -> Vec<(&'static str, Vec<Step>)> {
    let pieces = page.split(heading).skip(1);
    let sections = pieces.map(|piece| {
        let (title, text) = piece.split_once('\n').unwrap();
        (title, steps(text.split("\n.Sh ").next().unwrap()))
    });
    sections.collect()
}

/// Commands begin with a dollar sign, in a block or a line of their own. A backslash at the end goes
/// on, and what else is in such a block is said by the command before.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut shown = false;
    for line in text.lines().map(|line| line.replace("\\e", "\\")) {
        let line = line.strip_prefix(".Dl ").unwrap_or(&line);
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_owned(), says: Vec::new() });
            shown = true;
        } else if line.starts_with('.') {
            shown = false;
        } else if let (true, Some(step)) = (shown, steps.last_mut()) {
            match step.command.strip_suffix('\\') {
                Some(begun) => step.command = format!("{begun}{}", line.trim_start()),
                None => step.says.push(shape(line)),
            }
        }
    }
    steps
}

/// A machine with an application, the daemon, and two destinations with all that was committed.
struct Machine {
    dir: TempDir,
    app: Option<Connection>,
    /// A connection of the application's, in a transaction.
    reader: Option<Connection>,
    daemon: Option<Child>,
    /// When all was well.
    time: String,
}

impl Machine {
    /// With the page's own configuration.
    fn new() -> Self {
        let mut machine = Self::bare();
        let config = RECOVERY.split(".Bd -literal -offset indent\n").nth(1).unwrap();
        let config = machine.below(config.split(".Ed").next().unwrap());
        fs::write(machine.path("/etc/bakelite/bakelite.toml"), config).unwrap();
        machine.run("bakelite keygen /etc/bakelite/key");
        machine.start_daemon();
        machine.run("bakelite sync");
        machine.commit(7);
        machine.run("bakelite sync");
        let points: Json = serde_json::from_str(&machine.run("bakelite list --json")).unwrap();
        let last = points["points"].as_array().unwrap().last().unwrap();
        machine.time = last["to"].as_str().unwrap().to_owned();
        machine
    }

    fn bare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut machine = Self { dir, app: None, reader: None, daemon: None, time: String::new() };
        for folder in
            ["/var/lib/app", "/mnt/backup/app", "/mnt/offsite", "/mnt/bucket", "/etc/bakelite"]
        {
            fs::create_dir_all(machine.path(folder)).unwrap();
        }
        // The application, as a program.
        let program = machine.dir.path().join("app");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        machine.start_app();
        machine.query("PRAGMA journal_mode = WAL", "/var/lib/app/app.db");
        machine.query("CREATE TABLE orders (id INTEGER PRIMARY KEY, what)", "/var/lib/app/app.db");
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(self.below(path))
    }

    /// The directories of the page are below that of the machine.
    fn below(&self, text: &str) -> String {
        let root = self.dir.path().to_str().unwrap();
        let move_in = |text: String, folder| text.replace(folder, &format!("{root}{folder}"));
        ["/var/lib/", "/mnt/", "/etc/bakelite"].into_iter().fold(text.to_owned(), move_in)
    }

    /// A command of the page, which must end well; what it says on either stream.
    fn run(&mut self, command: &str) -> String {
        let (program, rest) = command.split_once(' ').unwrap();
        match program {
            "systemctl" => self.systemctl(rest),
            "sqlite3" => self.sqlite3(rest),
            _ if command.starts_with("bakelite daemon ") => self.begin_daemon(command),
            _ => self.shell(command),
        }
    }

    fn command(&self, line: &str) -> Command {
        let mut line = line.replace("2026-11-23T03:04:00Z", &self.time);
        STANDS_FOR.iter().for_each(|(page, here)| line = line.replace(page, here));
        let program = PathBuf::from(PROGRAM);
        let path = std::env::var("PATH").unwrap();
        let here = self.dir.path().display();
        let path = format!("{here}:{}:{path}", program.parent().unwrap().display());
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec 2>&1\n{}", self.below(&line))]);
        shell.current_dir(self.path("/var/lib/app")).env("PATH", path);
        shell.env("BAKELITE_CONFIG", self.path("/etc/bakelite/bakelite.toml"));
        shell
    }

    fn shell(&self, line: &str) -> String {
        for word in line.split([' ', '\'']).filter(|word| word.starts_with('/')) {
            let known = ["/var/lib/app", "/mnt/", "/etc/bakelite/", "/dev/null"];
            assert!(known.iter().any(|folder| word.starts_with(folder)), "{line}: {word}");
        }
        let output = self.command(line).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let said = said.replace(self.dir.path().to_str().unwrap(), "");
        assert!(output.status.success(), "{line}: {said}");
        said
    }

    fn systemctl(&mut self, words: &str) -> String {
        for word in words.split(' ') {
            match (words.split(' ').next().unwrap(), word) {
                ("start", "app") => self.start_app(),
                ("stop", "app") => self.stop_app(),
                ("restart", "app") => {
                    self.stop_app();
                    self.start_app();
                }
                ("start", "bakelite") => self.start_daemon(),
                ("stop", "bakelite") => self.stop_daemon(),
                ("restart", "bakelite") => {
                    self.stop_daemon();
                    self.start_daemon();
                }
                (verb, word) => assert_eq!(verb, word, "systemctl {words}"),
            }
        }
        String::new()
    }

    /// As the shell of SQLite shows it: one row a line, with bars between the columns.
    fn sqlite3(&self, words: &str) -> String {
        let split =
            self.command(&format!("set -- {words}\nprintf '%s\\0' \"$@\"")).output().unwrap();
        let words = String::from_utf8(split.stdout).unwrap();
        let mut words = words.split_terminator('\0');
        let (file, sql) = (words.next().unwrap(), words.next().unwrap());
        assert_eq!(words.next(), None);
        let database = Connection::open(file).unwrap();
        let said: String = sql.split(';').map(|each| rows(&database, each)).collect();
        if sql == "PRAGMA wal_checkpoint" {
            let numbers: Vec<&str> = said.trim().split('|').collect();
            assert_eq!(numbers[1], numbers[2], "all of the WAL is taken in");
        }
        said
    }

    fn query(&self, sql: &str, file: &str) -> String {
        rows(&Connection::open(self.path(file)).unwrap(), sql)
    }

    fn start_app(&mut self) {
        self.app = Some(Connection::open(self.path("/var/lib/app/app.db")).unwrap());
    }

    fn stop_app(&mut self) {
        (self.app, self.reader) = (None, None);
    }

    fn start_daemon(&mut self) {
        assert!(self.daemon.is_none());
        // As of a unit with Type=notify: it is started once it says that it is ready, or has ended.
        let socket = self.dir.path().join("notify");
        let _ = fs::remove_file(&socket);
        let notified = UnixDatagram::bind(&socket).unwrap();
        notified.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut daemon = self.command("exec bakelite daemon");
        daemon.env("NOTIFY_SOCKET", &socket).stdout(Stdio::null());
        let mut daemon = daemon.spawn().unwrap();
        let mut said = [0; 1024];
        while daemon.try_wait().unwrap().is_none() {
            let bytes = notified.recv(&mut said).unwrap_or(0);
            if String::from_utf8_lossy(&said[..bytes]).contains("READY=1") {
                break;
            }
        }
        self.daemon = Some(daemon);
    }

    fn stop_daemon(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let killed = Command::new("kill").arg(daemon.id().to_string()).status().unwrap();
        assert!(killed.success() && daemon.wait().unwrap().success());
    }

    /// One that is told what to watch runs until the next one does.
    fn begin_daemon(&mut self, command: &str) -> String {
        self.stop_daemon();
        let mut daemon =
            self.command(&format!("exec {command}")).stdout(Stdio::null()).spawn().unwrap();
        let lock = self.path("/var/lib/app/.app.db.bakelite/lock");
        while !fs::File::open(&lock).is_ok_and(|lock| lock.try_lock().is_err()) {
            assert_eq!(daemon.try_wait().unwrap(), None, "{command}");
            thread::sleep(Duration::from_millis(5));
        }
        self.daemon = Some(daemon);
        self.shell(&command.replace("daemon", "sync"))
    }

    fn commit(&mut self, rows: usize) {
        let app = self.app.as_ref().unwrap();
        for _ in 0..rows {
            app.execute("INSERT INTO orders (what) VALUES (hex(randomblob(300)))", []).unwrap();
            self.shell("bakelite sync");
        }
    }
}

/// The troubles.
impl Machine {
    fn lose_the_database(&mut self) {
        self.stop_daemon();
        self.app = None;
        fs::remove_dir_all(self.path("/var/lib/app")).unwrap();
        fs::create_dir(self.path("/var/lib/app")).unwrap();
    }

    fn damage_the_database(&mut self) {
        self.app.as_ref().unwrap().execute_batch("PRAGMA wal_checkpoint").unwrap();
        let file = self.path("/var/lib/app/app.db");
        let mut bytes = fs::read(&file).unwrap();
        bytes[4096..4106].fill(0xff);
        fs::write(&file, bytes).unwrap();
    }

    fn delete_rows(&mut self) {
        self.app.as_ref().unwrap().execute_batch("DELETE FROM orders").unwrap();
        self.run("bakelite sync");
    }

    fn read_without_end(&mut self) {
        let reader = Connection::open(self.path("/var/lib/app/app.db")).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM orders").unwrap();
        self.reader = Some(reader);
        self.commit(20);
        let kept = self.query("PRAGMA wal_checkpoint", "/var/lib/app/app.db");
        let numbers: Vec<&str> = kept.trim().split('|').collect();
        assert_ne!(numbers[1], numbers[2], "the reader keeps some of the WAL");
    }

    fn lose_the_key(&mut self) {
        self.stop_daemon();
        let state = "/var/lib/app/.app.db.bakelite";
        for folder in ["/mnt/backup/app", "/mnt/offsite/app", state] {
            fs::remove_dir_all(self.path(folder)).unwrap();
        }
        self.run("bakelite sync --key-file /etc/bakelite/key");
        self.run("rm /etc/bakelite/key");
        self.run("bakelite keygen /etc/bakelite/key");
    }

    /// Half of a change-set that is not the newest.
    fn damage(&mut self, destinations: &[&str]) {
        self.stop_daemon();
        for destination in destinations {
            let folder = self.path(&format!("{destination}/app/change/0"));
            let mut files: Vec<_> =
                fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            files.sort();
            let bytes = fs::read(&files[2]).unwrap();
            fs::write(&files[2], &bytes[..bytes.len() / 2]).unwrap();
        }
        self.start_daemon();
    }

    /// The other machine has a copy of the database, and commits of its own.
    fn write_from_elsewhere(&mut self) {
        self.app = None;
        self.stop_daemon();
        let (config, copy) = (self.path("/etc/bakelite/bakelite.toml"), self.path("/var/lib/copy"));
        fs::create_dir(&copy).unwrap();
        fs::copy(self.path("/var/lib/app/app.db"), copy.join("app.db")).unwrap();
        self.start_daemon();
        self.start_app();
        self.commit(2);
        let other = fs::read_to_string(&config).unwrap().replace("/var/lib/app/", "/var/lib/copy/");
        fs::write(self.path("/etc/bakelite/other.toml"), other).unwrap();
        self.query("PRAGMA journal_mode = WAL", "/var/lib/copy/app.db");
        self.query("INSERT INTO orders (what) VALUES ('theirs')", "/var/lib/copy/app.db");
        self.run("bakelite sync --config /etc/bakelite/other.toml");
        self.app.as_ref().unwrap().execute_batch("INSERT INTO orders (what) VALUES (1)").unwrap();
        let fenced = self.daemon.take().unwrap().wait().unwrap();
        assert_eq!(fenced.code(), Some(6));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }
}

fn rows(database: &Connection, sql: &str) -> String {
    let mut statement = database.prepare(sql).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let mut out = String::new();
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => return out,
            // As the check of a damaged database may end.
            Err(cause) => return out + &format!("Error: {cause}\n"),
        };
        let values = (0..columns).map(|at| match row.get(at).unwrap() {
            Value::Text(text) => text,
            Value::Integer(number) => number.to_string(),
            other => format!("{other:?}"),
        });
        out += &(values.collect::<Vec<_>>().join("|") + "\n");
    }
}

fn follow(machine: &mut Machine, title: &str, steps: &[Step]) {
    for Step { command, says } in steps {
        let said = machine.run(command);
        let said: Vec<String> = said.lines().map(shape).collect();
        assert!(says.is_empty() || *says == said, "{title}: {command}: {said:?}, not {says:?}");
    }
}

#[test]
fn every_trouble_of_the_manual_ends_well() {
    let sections = sections(RECOVERY, "\n.Ss ");
    let titles: Vec<&str> = sections.iter().map(|(title, _)| *title).collect();
    assert_eq!(titles, TROUBLES.map(|(title, _)| title));
    let next = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(((title, steps), (_, trouble))) = {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    sections.get(at).zip(TROUBLES.get(at))
                } {
                    assert!(!steps.is_empty(), "{title}");
                    let mut machine = Machine::new();
                    trouble(&mut machine);
                    follow(&mut machine, title, steps);
                }
            });
        }
    });
}

/// The examples begin where there is nothing yet but a database: their first ones configure it.
#[test]
fn every_example_of_the_commands_does_its_work() {
    let sections = sections(COMMANDS, "\n.Sh ");
    let mut run = 0;
    for (title, steps) in sections {
        let mut machine = Machine::bare();
        follow(&mut machine, title, &steps);
        run += steps.len();
    }
    assert_eq!(run, COMMANDS.matches("\n$ ").count() + COMMANDS.matches("\n.Dl $ ").count());
}
