//! `restore` as the script that starts an application calls it.

use rusqlite::Connection;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Setup {
    dir: tempfile::TempDir,
}

impl Setup {
    /// A database of one row, and its replica.
    fn new() -> Self {
        let setup = Self { dir: tempfile::tempdir().unwrap() };
        let app = setup.app();
        app.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(x); INSERT INTO t VALUES (1)")
            .unwrap();
        setup.sync();
        setup
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn app(&self) -> Connection {
        Connection::open(self.path("app.db")).unwrap()
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bakelite"));
        command.args(words).current_dir(&self.dir).env_remove("BAKELITE_CONFIG");
        command.output().unwrap()
    }

    fn sync(&self) {
        assert_eq!(self.run(&["sync", "app.db", "replica"]).status.code(), Some(0));
    }

    /// The status, and the document.
    fn ask(&self, words: &[&str]) -> (Option<i32>, Value) {
        let output = self.run(&[&["restore", "--json"], words].concat());
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
    }
}

fn rows(path: &Path) -> i64 {
    let count = "SELECT count(*) FROM t";
    Connection::open(path).unwrap().query_row(count, [], |row| row.get(0)).unwrap()
}

/// A start script restores what is missing, and leaves alone what is there, whatever it is.
#[test]
fn a_file_that_exists_is_left_alone_if_only_a_missing_one_is_wanted() {
    let setup = Setup::new();
    let words = ["replica", "--output", "new.db", "--if-missing"];
    let (status, said) = setup.ask(&words);
    assert_eq!((status, &said["existed"]), (Some(0), &Value::Bool(false)), "{said}");
    assert_eq!(rows(&setup.path("new.db")), 1);
    fs::write(setup.path("new.db"), "mine").unwrap();
    fs::write(setup.path("new.db-wal"), "of the application that runs").unwrap();
    let (status, said) = setup.ask(&words);
    assert_eq!((status, &said["existed"]), (Some(0), &Value::Bool(true)), "{said}");
    assert_eq!(fs::read(setup.path("new.db")).unwrap(), b"mine");
    // No replica is asked for what is not needed.
    let output = setup.run(&["restore", "nowhere", "--output", "new.db", "--if-missing"]);
    let expected = format!("{} exists, nothing was restored\n", setup.path("new.db").display());
    assert_eq!(std::str::from_utf8(&output.stdout).unwrap(), expected);
    let output =
        setup.run(&["restore", "nowhere", "--output", "new.db", "--if-missing", "--quiet"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
}

/// What is left beside a missing file would be taken for a part of the new one.
#[test]
fn trap_94_what_is_left_beside_a_missing_file_is_refused() {
    let setup = Setup::new();
    for left in ["new.db-wal", "new.db-shm", "new.db-journal"] {
        fs::write(setup.path(left), "old").unwrap();
        let (status, said) = setup.ask(&["replica", "--output", "new.db", "--if-missing"]);
        assert_eq!((status, &said["error"]["kind"]), (Some(9), &Value::from("exists")), "{said}");
        assert!(said["error"]["message"].as_str().unwrap().contains(left), "{said}");
        assert!(!setup.path("new.db").exists());
        fs::remove_file(setup.path(left)).unwrap();
    }
    // A link that leads nowhere, and a directory: neither is the database, nor missing.
    std::os::unix::fs::symlink("nowhere", setup.path("link")).unwrap();
    for odd in ["link", "."] {
        let (status, said) = setup.ask(&["replica", "--output", odd, "--if-missing"]);
        assert_eq!(status, Some(9), "{said}");
    }
}

/// The first start of all: a script tells "nothing there yet" from everything else by its status.
#[test]
fn a_replica_that_is_not_there_yet_has_a_status_of_its_own() {
    let setup = Setup::new();
    fs::create_dir(setup.path("empty")).unwrap();
    for source in ["empty", "nowhere"] {
        let (status, said) = setup.ask(&[source, "--output", "new.db", "--if-missing"]);
        assert_eq!(status, Some(3), "{said}");
        assert!(!setup.path("new.db").exists());
    }
}

/// A disk that was not mounted looked like a replica that was never there: the script of the manual began
/// the application with an empty database.
#[test]
fn trap_81_a_destination_that_is_away_is_not_one_that_nothing_was_stored_on() {
    let setup = Setup::new();
    let (disk, new) = (setup.path("disk"), setup.path("new.db"));
    let config = format!(
        "[[database]]\nname = \"app\"\npath = \"{}\"\n\
         destination = [{{ type = \"file\", path = \"{}\" }}]\n",
        setup.path("own.db").display(),
        disk.display()
    );
    fs::write(setup.path("b.toml"), config).unwrap();
    let words = ["--config", "b.toml", "--output", "new.db", "--if-missing"];
    let refused = |expected| {
        let (status, said) = setup.ask(&words);
        assert_eq!(status, Some(expected), "{said}");
        let hint = said["error"]["hint"].as_str().unwrap();
        assert_eq!(hint.starts_with("mount what belongs there"), expected == 8, "{said}");
        assert!(!new.exists());
    };
    refused(8);
    fs::create_dir(&disk).unwrap();
    refused(3);
    let own = Connection::open(setup.path("own.db")).unwrap();
    own.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(x)").unwrap();
    assert_eq!(setup.run(&["sync", "--config", "b.toml"]).status.code(), Some(0));
    fs::rename(disk.join("app"), setup.path("away")).unwrap();
    refused(8);
    // Somebody says that a new one may begin.
    fs::create_dir(disk.join("app")).unwrap();
    refused(3);
    fs::remove_dir(disk.join("app")).unwrap();
    // Another machine, on which nothing says that there ever was anything.
    fs::remove_dir_all(setup.path(".own.db.bakelite")).unwrap();
    refused(3);
    let (status, said) = setup.ask(&["nowhere/app", "--output", "new.db", "--if-missing"]);
    assert_eq!(status, Some(8), "{said}");
    fs::rename(setup.path("away"), disk.join("app")).unwrap();
    assert_eq!(setup.ask(&words).0, Some(0));
}

/// A standby that is refreshed from time to time.
#[test]
fn a_stale_copy_is_brought_up_to_date() {
    let setup = Setup::new();
    let words = ["replica", "--output", "copy.db", "--delta"];
    let (status, said) = setup.ask(&words);
    assert_eq!((status, &said["rewritten"]), (Some(0), &Value::Null), "made anew: {said}");
    setup.app().execute_batch("INSERT INTO t VALUES (2)").unwrap();
    setup.sync();
    let (status, said) = setup.ask(&words);
    assert_eq!(status, Some(0), "{said}");
    assert!(said["rewritten"].as_u64().unwrap() > 0, "{said}");
    let files = || fs::read_dir(&setup.dir).unwrap().map(|it| it.unwrap().file_name());
    assert_eq!(files().filter(|name| name.to_str().unwrap().contains("copy")).count(), 1);
    assert_eq!(rows(&setup.path("copy.db")), 2);
    let said = setup.run(&[&["restore"], &words[..]].concat()).stdout;
    assert!(std::str::from_utf8(&said).unwrap().contains(", 0 pages rewritten\n"));
    let open = Connection::open(setup.path("copy.db")).unwrap();
    open.execute_batch("INSERT INTO t VALUES (3)").unwrap();
    assert_eq!(setup.ask(&words).0, Some(6), "somebody has it open");
}

/// A drill from a timer: the status says whether the restored database says what it should.
#[test]
fn a_drill_asks_the_restored_database() {
    let setup = Setup::new();
    let drill = |expect: &str| {
        let words = ["verify", "replica", "--deep", "--json", "--sql", "SELECT sum(x) FROM t"];
        let output = setup.run(&[&words[..], &["--expect", expect]].concat());
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["replicas"][0]["answer"], "1", "{said}");
        (output.status.code(), said["findings"].as_array().unwrap().len())
    };
    assert_eq!(drill("1"), (Some(0), 0));
    assert_eq!(drill("2"), (Some(4), 1));
}

/// A dry run is asked whether the real one would go through, and said yes to all of these.
#[test]
fn a_dry_run_refuses_what_the_real_run_refuses() {
    let setup = Setup::new();
    fs::write(setup.path("text"), "Dear diary, ".repeat(1000)).unwrap();
    for (output, more, status, cause) in [
        ("text", "--delta", 9, "text: it is no SQLite database"),
        ("new/", "--force", 2, "new/: it is no file's name"),
        ("text/", "--delta", 2, "text/: it is no file's name"),
        ("absent/dir/x", "--force", 1, "absent/dir/x: No such file or directory"),
        ("text/x", "--force", 1, "text/x: Not a directory"),
    ] {
        for dry in [&["--dry-run"][..], &[]] {
            let words = [&["replica", "--output", output, more], dry].concat();
            let (found, said) = setup.ask(&words);
            let message = said["error"]["message"].as_str().unwrap_or_default();
            assert!(found == Some(status) && message.contains(cause), "{words:?}: {said}");
            assert!(said["error"]["hint"].is_string(), "{words:?}: {said}");
        }
    }
    // Before the replica is read, or even looked for what is in it.
    fs::remove_dir_all(setup.path("replica/snapshot")).unwrap();
    let (status, said) = setup.ask(&["replica", "--output", "new/"]);
    assert_eq!(status, Some(2), "{said}");
}

/// It was replaced by the database, and what the link had stood for was not there any more.
#[test]
fn trap_94_a_link_that_leads_nowhere_stays_one_also_with_force() {
    let setup = Setup::new();
    std::os::unix::fs::symlink("not/mounted/app.db", setup.path("link")).unwrap();
    for more in [&["--force"][..], &["--force", "--dry-run"], &["--delta"], &["--if-missing"], &[]]
    {
        let (status, said) = setup.ask(&[&["replica", "--output", "link"], more].concat());
        let message = said["error"]["message"].as_str().unwrap_or_default();
        assert!(
            status == Some(9) && message.ends_with("link: a link that leads nowhere"),
            "{said}"
        );
        assert!(said["error"]["hint"].as_str().unwrap().contains("not/mounted/app.db"), "{said}");
        let still = fs::read_link(setup.path("link")).unwrap();
        assert_eq!(still, Path::new("not/mounted/app.db"));
    }
}
