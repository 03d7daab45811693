//! Two destinations of one database as an operator meets them: one is spoiled, a restore does with the
//! other, a repair heals it.

use rusqlite::Connection;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Setup {
    dir: tempfile::TempDir,
}

impl Setup {
    /// Three commits on two destinations, in two runs.
    fn new() -> Self {
        let setup = Self { dir: tempfile::tempdir().unwrap() };
        for mount in ["one", "two"] {
            fs::create_dir(setup.path(mount)).unwrap();
        }
        let destination = |mount| {
            let path = setup.path(mount);
            format!("[[database.destination]]\ntype = \"file\"\npath = {path:?}\n")
        };
        let config = format!(
            "[[database]]\nname = \"app\"\npath = {:?}\n{}{}",
            setup.path("app.db"),
            destination("one"),
            destination("two"),
        );
        fs::write(setup.path("config.toml"), config).unwrap();
        let writer = Connection::open(setup.path("app.db")).unwrap();
        writer.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(x)").unwrap();
        for value in 0..2 {
            assert_eq!(setup.run(&["sync"]).status.code(), Some(0));
            writer.execute("INSERT INTO t VALUES (?1)", [value]).unwrap();
        }
        assert_eq!(setup.run(&["sync"]).status.code(), Some(0));
        setup
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bakelite"));
        command.args(words).arg("--config").arg(self.path("config.toml"));
        command.output().unwrap()
    }

    /// The status, and the document.
    fn ask(&self, words: &[&str]) -> (Option<i32>, Value) {
        let output = self.run(&[words, &["--json"]].concat());
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
    }

    /// What was shipped lately is not there any more.
    fn forget(&self) {
        fs::remove_dir_all(self.path(".app.db.bakelite/recent")).unwrap();
    }

    /// The objects of a kind on a destination.
    fn objects(&self, mount: &str, kind: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(&self.path(mount).join("app").join(kind), &mut found);
        found.sort();
        found
    }
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, found) } else { found.push(path) }
    }
}

fn flip(path: &Path) {
    let mut body = fs::read(path).unwrap();
    let middle = body.len() / 2;
    body[middle] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, body).unwrap();
}

#[test]
fn a_damaged_object_is_taken_from_elsewhere_told_and_healed() {
    let setup = Setup::new();
    let change = setup.objects("one", "change").pop().unwrap();
    let whole = fs::read(&change).unwrap();
    flip(&change);
    let output = setup.path("restored.db");
    let restore = ["restore", "--output", output.to_str().unwrap()];
    let told = setup.run(&restore);
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    let stderr = String::from_utf8(told.stderr).unwrap();
    assert!(stderr.contains("its hash is wrong; taken from /"), "{stderr}");
    let restored = Connection::open(&output).unwrap();
    let rows: i64 = restored.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 2);
    let again = [&restore[..], &["--force"]].concat();
    assert_eq!(setup.ask(&again).0, Some(6), "somebody has it open");
    drop(restored);
    let (status, document) = setup.ask(&again);
    assert_eq!(status, Some(0));
    let fallbacks = document["fallbacks"].as_array().unwrap();
    assert_eq!(fallbacks.len(), 1);
    assert!(change.ends_with(fallbacks[0]["object"].as_str().unwrap()));

    let (status, verified) = setup.ask(&["verify"]);
    assert_eq!((status, verified["ok"].as_bool()), (Some(4), Some(false)));
    let remedy = verified["findings"][0]["remedy"].as_str().unwrap();
    assert!(remedy.starts_with("run: bakelite repair"), "{remedy}");
    let (status, dry) = setup.ask(&["repair", "--dry-run"]);
    assert_eq!((status, dry["findings"][0]["outcome"].as_str()), (Some(4), Some("curable")));
    assert_ne!(fs::read(&change).unwrap(), whole);
    let (status, healed) = setup.ask(&["repair"]);
    assert_eq!((status, healed["healed"].as_u64()), (Some(0), Some(1)), "{healed}");
    assert_eq!(fs::read(&change).unwrap(), whole);
    assert_eq!(setup.ask(&["verify", "--deep"]).0, Some(0));
    let quiet = setup.run(&["repair", "--quiet"]);
    assert_eq!((quiet.status.code(), quiet.stdout), (Some(0), Vec::new()));
}

#[test]
fn a_destination_that_is_gone_is_passed_over() {
    let setup = Setup::new();
    fs::remove_dir_all(setup.path("one")).unwrap();
    let output = setup.path("restored.db");
    let told = setup.run(&["restore", "--output", output.to_str().unwrap()]);
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    let stderr = String::from_utf8(told.stderr).unwrap();
    // Found by trying it: nothing was said of what to do.
    assert!(
        stderr.contains("/one/app") && stderr.contains("hint: the others are read"),
        "{stderr}"
    );
    let (status, verified) = setup.ask(&["verify"]);
    assert_eq!((status, verified["replicas"][1]["ok"].as_bool()), (Some(3), Some(true)));
    fs::create_dir_all(setup.path("one/app")).unwrap();
    assert_eq!(setup.ask(&["repair"]).0, Some(0));
    assert_eq!(setup.objects("one", "").len(), setup.objects("two", "").len());
    assert_eq!(setup.ask(&["verify"]).0, Some(0));
}

#[test]
fn what_is_damaged_on_both_is_status_4() {
    let setup = Setup::new();
    for mount in ["one", "two"] {
        flip(&setup.objects(mount, "change").pop().unwrap());
    }
    let output = setup.path("restored.db");
    let (status, document) = setup.ask(&["restore", "--output", output.to_str().unwrap()]);
    assert_eq!(status, Some(4));
    assert!(document["error"]["hint"].as_str().unwrap().contains("--commit 2"), "{document}");
    assert!(!output.exists());
    setup.forget();
    let (status, document) = setup.ask(&["repair"]);
    assert_eq!((status, document["healed"].as_u64()), (Some(4), Some(0)));
    let remedy = document["findings"][0]["remedy"].as_str().unwrap();
    assert!(remedy.contains("lost here: commit 3"), "{remedy}");
}

/// Nor does a destination have it: this machine does.
#[test]
fn what_was_shipped_lately_heals_both() {
    let setup = Setup::new();
    for mount in ["one", "two"] {
        flip(&setup.objects(mount, "change").pop().unwrap());
    }
    let (status, document) = setup.ask(&["repair"]);
    assert_eq!((status, document["healed"].as_u64()), (Some(0), Some(2)), "{document}");
    assert_eq!(setup.ask(&["verify", "--deep"]).0, Some(0));
}

/// What the finding says is done, and the newest commit comes back again. The part's pages have changed since.
#[test]
fn the_way_out_of_damage_that_nobody_can_heal_is_one() {
    for kind in ["change", "part", "snapshot"] {
        let setup = Setup::new();
        for mount in ["one", "two"] {
            flip(&setup.objects(mount, kind).pop().unwrap());
        }
        setup.forget();
        let (status, document) = setup.ask(&["repair"]);
        assert_eq!(status, Some(4), "{kind}");
        let findings = document["findings"].as_array().unwrap();
        assert_eq!(findings.len(), 2, "{findings:?}");
        for finding in findings {
            let remedy = finding["remedy"].as_str().unwrap();
            assert!(remedy.contains("run bakelite sync"), "{remedy}");
        }
        let snapshots = setup.objects("one", "snapshot").len();
        assert_eq!(setup.run(&["sync"]).status.code(), Some(0));
        assert_eq!(setup.objects("one", "snapshot").len(), snapshots + 1, "{kind}");
        let output = setup.path("restored.db");
        for mount in ["one", "two"] {
            let words = ["restore", "--force", "--check", "full", "--output"];
            let source = setup.path(mount).join("app");
            let mut command = Command::new(env!("CARGO_BIN_EXE_bakelite"));
            let told = command.args(words).args([&output, &source]).output().unwrap();
            assert_eq!(told.status.code(), Some(0), "{kind}: {told:?}");
            let rows = Connection::open(&output).unwrap();
            let rows: i64 = rows.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
            assert_eq!(rows, 2, "{kind}");
        }
    }
}
