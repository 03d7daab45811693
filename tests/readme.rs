//! The README's transcript is real: its commands are run again, and say what stands there but for
//! numbers, times and digests. Its figures are those of the code.

#[path = "support/shape.rs"]
mod shape;

use bakelite::daemon::SHIP_FILE;
use rusqlite::Connection;
use shape::shape;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const README: &str = include_str!("../README.md");
const DIR: &str = "/srv/app";
const MARK: &str = "-- next --\n";

/// A command and what it says.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    command: String,
    says: Vec<String>,
}

fn transcript() -> Vec<Step> {
    let block = README.split("```console\n").nth(1).expect("a transcript");
    let mut steps: Vec<Step> = Vec::new();
    for line in block.split("```").next().unwrap().lines() {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push(Step { command: command.to_owned(), says: Vec::new() }),
            None => steps.last_mut().expect("a command first").says.push(shape(line)),
        }
    }
    steps
}

/// Runs the commands in one shell, as they stand there.
fn run(steps: &[Step], dir: &Path) -> Vec<Step> {
    let script: String =
        steps.iter().map(|step| format!("{}\nprintf '%s' '{MARK}'\n", step.command)).collect();
    let bin = Path::new(env!("CARGO_BIN_EXE_bakelite")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec 2>&1\n{script}")]).current_dir(dir).env("PATH", path);
    let output = String::from_utf8(shell.output().unwrap().stdout).unwrap();
    let output = output.replace(dir.canonicalize().unwrap().to_str().unwrap(), DIR);
    let mut said = output.split(MARK).map(|said| said.lines().map(shape));
    steps
        .iter()
        .map(|step| Step { command: step.command.clone(), says: said.next().unwrap().collect() })
        .collect()
}

fn application(path: &Path, over: &AtomicBool) {
    let db = Connection::open(path).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
    while !over.load(Ordering::Relaxed) {
        db.execute("INSERT INTO t VALUES (randomblob(300))", []).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_transcript_is_real() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("app.db");
    let over = AtomicBool::new(false);
    let steps = transcript();
    thread::scope(|scope| {
        scope.spawn(|| application(&database, &over));
        while !database.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            thread::sleep(Duration::from_millis(1));
        }
        let said = run(&steps, dir.path());
        over.store(true, Ordering::Relaxed);
        assert_eq!(said, steps);
    });
}

#[test]
fn what_can_be_lost_is_what_the_code_waits() {
    let figure = format!("the commits of its last {} ms", SHIP_FILE.as_millis());
    assert!(README.replace('\n', " ").contains(&figure), "{figure}");
}

#[test]
fn the_configuration_is_one() {
    let block = README.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let config = bakelite::config::Config::parse(block, Path::new("README"), &|_| None).unwrap();
    assert_eq!(config.databases[0].destinations[0].to_string(), "file:///mnt/backup/app");
}
