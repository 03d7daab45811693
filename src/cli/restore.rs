//! The arguments of `restore`.

use super::{check, commit, timeline};
use crate::clock;
use crate::commit::{CommitNo, Time, Timeline};
use crate::config;
use crate::error::{Error, Result, Status};
use crate::restore::{Check, Target};
use argh::{ArgsInfo, FromArgs};
use std::path::PathBuf;

/// What is done about a file that is where the restored one is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    Refuse,
    /// It is what was wanted.
    Keep,
    /// It is a stale copy.
    Update,
    Replace,
}

/// rebuild a database as it stood at one commit
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "restore",
    note = "The digest of the whole database is always proved; --check asks SQLite as well.",
    example = "bakelite restore /mnt/backup/app --output /tmp/app.db --at 90m"
)]
pub struct RestoreOf {
    #[argh(positional, arg_name = "SOURCE")]
    /// the root of a replica, else the first one configured
    pub source: Option<String>,
    #[argh(option, arg_name = "FILE")]
    /// where the database goes
    pub output: String,
    #[argh(option, arg_name = "TIME")]
    /// the last commit by then: RFC 3339, or an age such as 90m
    pub at: Option<String>,
    #[argh(option, arg_name = "N", from_str_fn(commit))]
    /// this commit
    pub commit: Option<CommitNo>,
    #[argh(option, arg_name = "T", from_str_fn(timeline))]
    /// on an abandoned branch: the one of this timeline
    pub timeline: Option<Timeline>,
    #[argh(option, arg_name = "HOW", default = "Check::None", from_str_fn(check))]
    /// none (default), quick or full: SQLite's own check
    pub check: Check,
    #[argh(switch)]
    /// replace FILE if it exists, once the new one is proved
    pub force: bool,
    #[argh(switch)]
    /// do nothing if FILE exists
    pub if_missing: bool,
    #[argh(switch)]
    /// FILE is a stale copy: rewrite the pages that differ
    pub delta: bool,
    #[argh(switch)]
    /// find the commit and what it takes, write nothing
    pub dry_run: bool,
}

impl RestoreOf {
    /// The commit that is wanted, ages counting back from `now`.
    pub fn target(&self, now: Time) -> Result<Target> {
        match (&self.at, self.commit) {
            (None, None) => Ok(Target::Latest),
            (None, Some(commit)) => Ok(Target::Commit(commit)),
            (Some(time), None) => {
                let at = clock::parse_target(time, now).map_err(|mut error| {
                    let what = error.message.strip_prefix("time: ").unwrap_or(&error.message);
                    error.message = format!("restore: --at: {what}");
                    error
                });
                at.map(Target::At)
            }
            (Some(_), Some(_)) => {
                Err(Error::new(Status::Usage, "restore", "--at", "cannot stand with --commit")
                    .hint("a commit has one time: leave out --at or --commit"))
            }
        }
    }

    /// What becomes of a file that is there; no more than one of the switches can say.
    pub fn existing(&self) -> Result<Existing> {
        let switches = [
            (self.if_missing, "--if-missing", Existing::Keep),
            (self.delta, "--delta", Existing::Update),
            (self.force, "--force", Existing::Replace),
        ];
        let mut given = switches.into_iter().filter(|(given, ..)| *given);
        match (given.next(), given.next()) {
            (None, _) => Ok(Existing::Refuse),
            (Some((_, _, existing)), None) => Ok(existing),
            (Some((_, one, _)), Some((_, other, _))) => {
                let cause = format!("cannot stand with {other}");
                Err(Error::new(Status::Usage, "restore", one, cause)
                    .hint("each of them says what becomes of a FILE that exists: choose one"))
            }
        }
    }

    pub fn output(&self) -> Result<PathBuf> {
        config::absolute("--output", &self.output)
    }
}
