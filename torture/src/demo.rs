//! `torture demo`: one look at what bakelite does, every command real and every claim proved.
//!
//! An application writes without a pause while the daemon is killed and started again; then what is
//! on the destination is restored and the oracle judges it. What is shown of a restored file has
//! passed that judgement; anything wrong ends the demo with a status.

use crate::oracle::{self, Expect};
use crate::rig::{Programs, Result, Rig, violation};
use crate::workload::writer::Args;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// Gives pages of 4096 bytes, as most databases have.
const SEED: u64 = 3;
/// Each ends with a kill.
const LIVES: u32 = 3;
/// Long enough to ship something, short enough for a demo.
const LIFE: Duration = Duration::from_millis(1500);
/// Mean pause between two commits in microseconds: some hundred commits a second.
const PACE_US: u64 = 2000;

pub fn run(programs: &Programs, dir: &Path) -> Result<()> {
    let mut rig = Rig::new(SEED, programs, dir)?;
    println!("In {}:\n", dir.display());
    rig.create(Args { pace: Some(PACE_US), rollback: Some(80), ..Args::default() })?;
    rig.go()?;
    say("an application commits to app/app.db, a database in WAL mode, without a pause");
    lives(&mut rig)?;
    live(&mut rig)?;
    at_rest(&mut rig)?;
    rig.finish()?;
    println!(
        "\nAll of it is right: {} commits, {} kills of the daemon, {} restored files judged.",
        rig.tally.commits, rig.tally.kills, rig.tally.restores
    );
    Ok(())
}

/// The daemon dies under load, and goes on where it was.
fn lives(rig: &mut Rig) -> Result<()> {
    for life in 1..=LIVES {
        typed("bakelite daemon app/app.db replica &");
        rig.start_daemon()?;
        thread::sleep(LIFE);
        rig.kill_daemon()?;
        typed("kill -KILL $!");
        let acked = acked(rig)?;
        say(&format!("daemon {life} died while commit {acked} of the application was the last"));
    }
    typed("bakelite daemon app/app.db replica &");
    rig.start_daemon()
}

/// Under load: what `sync` has promised is there, whatever has come since.
fn live(rig: &mut Rig) -> Result<()> {
    let floor = acked(rig)?;
    shown(rig, &["sync", "app/app.db", "replica"])?;
    let expect = Expect { floor: Some(rig.truth.course.here(floor)), ..Expect::default() };
    shown(rig, &["restore", "replica", "--output", "live.db", "--check", "full"])?;
    let seq = judged(rig, "live.db", &expect)?;
    say(&format!(
        "commit {floor} was the last before `sync`; {seq} came back, from a live database"
    ));
    Ok(())
}

/// The application rests: the last commit comes back, exactly.
fn at_rest(rig: &mut Rig) -> Result<()> {
    let last = rig.stop_writers()?;
    println!();
    say(&format!("the application has ended; its last commit is {last}"));
    rig.drain()?;
    typed("kill -TERM $!; wait");
    shown(rig, &["list", "replica"])?;
    shown(rig, &["restore", "replica", "--output", "restored.db", "--check", "full"])?;
    let expect = Expect { exactly: Some(rig.truth.course.here(last)), ..Expect::default() };
    judged(rig, "restored.db", &expect)?;
    shown(rig, &["verify", "replica", "--deep"])
}

fn acked(rig: &mut Rig) -> Result<u64> {
    Ok(rig.acked()?.unwrap_or_default())
}

/// The oracle's judgement of a restored file, in words; the commit that it holds.
fn judged(rig: &mut Rig, name: &str, expect: &Expect) -> Result<u64> {
    rig.refresh()?;
    let grade = oracle::grade(&rig.dir.join(name), &rig.truth, expect);
    rig.tally.restores += 1;
    let (Some(seq), true) = (grade.seq(), grade.is_right()) else {
        let wrong: Vec<String> = grade.violations.iter().map(ToString::to_string).collect();
        return violation(format!("{name}: {}", wrong.join("; ")));
    };
    let digest = rig.truth.line(0).digest(seq).expect("the oracle has compared it").to_string();
    println!();
    say(&format!("{name} holds the application's commits 1 to {seq}, none missing, none torn"));
    say(&format!("digest of every row {}...: as the application wrote down", &digest[..16]));
    say("integrity_check: ok");
    Ok(seq)
}

/// Runs the program as one would type it and shows what it says.
fn shown(rig: &Rig, words: &[&str]) -> Result<()> {
    println!();
    typed(&format!("bakelite {}", words.join(" ")));
    let mut command = Command::new(&rig.programs.bakelite);
    let status = command.args(words).current_dir(&rig.dir).stdin(Stdio::null()).status()?;
    match status.success() {
        true => Ok(()),
        false => violation(format!("bakelite {}: {status}", words[0])),
    }
}

fn typed(command: &str) {
    println!("$ {command}");
}

/// What the demo itself has seen, told from what the program says.
fn say(what: &str) {
    println!("# {what}");
}
