//! `torture writer`: the workload as a process of its own, so that it can be killed.
//!
//! It obeys lines on stdin (`pause`, `go`, `stop`, `do WHAT`) between two transactions and answers on
//! stdout with a word and the last seq. What it is told to do it does at rest, and rests again. When
//! stdin ends (the harness died) it stops.

use super::setup::Setup;
use super::{Result, Workload};
use crate::ledger::{Ledger, On};
use argh::FromArgs;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

/// commit marked rows until told to stop
#[derive(Clone, Debug, Default, FromArgs)]
#[argh(subcommand, name = "writer")]
pub struct Args {
    /// the database
    #[argh(option)]
    pub db: PathBuf,
    /// a new file for what is intended and acknowledged
    #[argh(option)]
    pub ledger: PathBuf,
    /// chooses the database's shape and every operation
    #[argh(option)]
    pub seed: u64,
    /// make the database first
    #[argh(switch)]
    pub create: bool,
    /// which of several writers this is
    #[argh(option, default = "0")]
    pub writer: u32,
    /// which of this writer's successive processes this is
    #[argh(option, default = "0")]
    pub life: u64,
    /// wait for `go` before the first commit
    #[argh(switch)]
    pub paused: bool,
    /// stop after so many commits
    #[argh(option)]
    pub commits: Option<u64>,
    /// mean pause between commits in microseconds; saturating without it
    #[argh(option)]
    pub pace: Option<u64>,
    /// checkpoint now and then: PASSIVE, FULL, RESTART or TRUNCATE
    #[argh(option)]
    pub checkpoint: Option<String>,
    /// mean number of commits between such checkpoints
    #[argh(option, default = "40")]
    pub every: u64,
    /// `PRAGMA wal_autocheckpoint`
    #[argh(option)]
    pub autocheckpoint: Option<u32>,
    /// switch automatic checkpoints off and on again every so many commits
    #[argh(option)]
    pub toggle: Option<u64>,
    /// `PRAGMA journal_size_limit`
    #[argh(option)]
    pub size_limit: Option<u32>,
    /// mean number of commits between two VACUUMs
    #[argh(option)]
    pub vacuum: Option<u64>,
    /// mean number of commits between two transactions that are rolled back
    #[argh(option)]
    pub rollback: Option<u64>,
    /// the branch of the history that this database is on, if not the first one
    #[argh(option)]
    pub branch: Option<u32>,
    /// the branch that it has left; made anew without it
    #[argh(option)]
    pub parent: Option<u32>,
}

impl Args {
    /// As words of a command line.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec!["writer".to_owned()];
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                words.extend([format!("--{name}"), value]);
            }
        };
        option("db", Some(self.db.display().to_string()));
        option("ledger", Some(self.ledger.display().to_string()));
        option("seed", Some(self.seed.to_string()));
        option("writer", Some(self.writer.to_string()));
        option("life", Some(self.life.to_string()));
        option("every", Some(self.every.to_string()));
        option("checkpoint", self.checkpoint.clone());
        option("commits", self.commits.map(|n| n.to_string()));
        option("pace", self.pace.map(|n| n.to_string()));
        option("autocheckpoint", self.autocheckpoint.map(|n| n.to_string()));
        option("toggle", self.toggle.map(|n| n.to_string()));
        option("size-limit", self.size_limit.map(|n| n.to_string()));
        option("vacuum", self.vacuum.map(|n| n.to_string()));
        option("rollback", self.rollback.map(|n| n.to_string()));
        option("branch", self.branch.map(|n| n.to_string()));
        option("parent", self.parent.map(|n| n.to_string()));
        words.extend(self.create.then(|| "--create".to_owned()));
        words.extend(self.paused.then(|| "--paused".to_owned()));
        words
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Command {
    Pause,
    Go,
    Stop,
    /// One thing, and then the next command.
    Do(String),
}

pub fn run(args: &Args) -> Result<()> {
    let setup = Setup::from_seed(args.seed);
    let mut ledger = Ledger::create(&args.ledger)?;
    if let Some(branch) = args.branch.filter(|_| args.create) {
        ledger.branch(0, On { branch, parent: None, state: None })?;
    }
    let mut workload = match args.create {
        true => Workload::create(&args.db, &setup, ledger)?,
        false => Workload::open(&args.db, &setup, ledger, args.writer, args.life)?,
    };
    workload.tune(args.autocheckpoint, args.size_limit)?;
    if let Some(branch) = args.branch.filter(|_| !args.create) {
        workload.enter(branch, args.parent)?;
    }
    let commands = commands();
    say("ready", workload.present()?)?;
    let mut command = if args.paused { Command::Pause } else { Command::Go };
    let mut made = 0;
    while command != Command::Stop && args.commits.is_none_or(|limit| made < limit) {
        if let Command::Pause | Command::Do(_) = command {
            let word = match &command {
                Command::Do(what) => act(&mut workload, what).map(|()| "did")?,
                _ => "paused",
            };
            say(word, workload.present()?)?;
            command = commands.recv().unwrap_or(Command::Stop);
            continue;
        }
        turn(&mut workload, args, made)?;
        made += 1;
        command = match commands.try_recv() {
            Ok(command) => command,
            Err(TryRecvError::Empty) => Command::Go,
            Err(TryRecvError::Disconnected) => Command::Stop,
        };
    }
    say("done", workload.present()?)
}

/// One thing that a scenario asks for by name.
fn act(workload: &mut Workload, what: &str) -> Result<()> {
    let (word, value) = what.split_once(' ').unwrap_or((what, ""));
    match word {
        "commit" => (0..value.parse::<u64>()?).try_for_each(|_| workload.commit().map(drop)),
        "checkpoint" => workload.checkpoint(value),
        "vacuum" => workload.vacuum(),
        "leave-wal" => workload.leave_wal(),
        "return-to-wal" => workload.return_to_wal(),
        "bulk" => workload.grow(value.parse()?),
        "touch" => workload.touch(value.parse()?),
        "reshape" => workload.reshape(value.parse()?),
        _ => Err(format!("cannot {what}").into()),
    }
}

/// One commit and whatever else an application does between two.
fn turn(workload: &mut Workload, args: &Args, made: u64) -> Result<()> {
    workload.commit()?;
    let mut now = |every: Option<u64>| every.is_some_and(|every| workload.rng().one_in(every));
    let (vacuum, rollback) = (now(args.vacuum), now(args.rollback));
    let checkpoint = args.checkpoint.as_deref().filter(|_| now(Some(args.every)));
    if let Some(mode) = checkpoint {
        workload.checkpoint(mode)?;
    }
    if vacuum {
        workload.vacuum()?;
    }
    if rollback {
        workload.roll_back()?;
    }
    if let Some(every) = args.toggle.filter(|every| made.is_multiple_of(*every)) {
        let on = (made / every) % 2 == 1;
        workload.tune(Some(if on { args.autocheckpoint.unwrap_or(1000) } else { 0 }), None)?;
        workload.event(if on { "autocheckpoint-on" } else { "autocheckpoint-off" })?;
    }
    if let Some(pace) = args.pace {
        let pause = workload.rng().below(2 * pace + 1);
        thread::sleep(Duration::from_micros(pause));
    }
    Ok(())
}

fn commands() -> Receiver<Command> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let command = match line.as_deref() {
                Ok("pause") => Command::Pause,
                Ok("go") => Command::Go,
                Ok(line) => match line.strip_prefix("do ") {
                    Some(what) => Command::Do(what.to_owned()),
                    None => Command::Stop,
                },
                Err(_) => Command::Stop,
            };
            if send.send(command).is_err() {
                return;
            }
        }
    });
    receive
}

fn say(word: &str, seq: u64) -> Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{word} {seq}")?;
    Ok(stdout.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_arguments() {
        let full = Args {
            db: "/a/db".into(),
            ledger: "/b/ledger".into(),
            seed: 5,
            create: true,
            writer: 2,
            life: 3,
            paused: true,
            commits: Some(7),
            pace: Some(8),
            checkpoint: Some("TRUNCATE".into()),
            every: 9,
            autocheckpoint: Some(10),
            toggle: Some(11),
            size_limit: Some(12),
            vacuum: Some(13),
            rollback: Some(14),
            branch: Some(15),
            parent: Some(16),
        };
        for args in [full, Args { every: 40, ..Args::default() }] {
            let words = args.words();
            let words: Vec<&str> = words[1..].iter().map(|word| &**word).collect();
            let again = Args::from_args(&["torture", "writer"], &words).unwrap();
            assert_eq!(format!("{again:?}"), format!("{args:?}"));
        }
    }
}
