//! The command line: arguments as typed, then as meant.
//!
//! `normal` puts the arguments into the one order that argh reads and refuses what does not exist,
//! in our own words; argh turns the rest into the types below; `help` shows them. `about` finds what
//! they name: nothing is opened there but the configuration.

mod about;
mod help;
mod normal;

pub use about::Held;
pub use help::Help;
#[cfg(test)]
pub(crate) use help::is_needed;

use crate::commit::{CommitNo, Timeline};
use crate::error::{Error, Result, Status};
use crate::progress::Mode;
use crate::restore::Check;
use crate::seal::Rule;
use crate::units;
use argh::{ArgsInfo, FromArgs};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What the command line asks for.
#[derive(Debug)]
pub enum Asked {
    /// Show this and be done.
    Help(Box<Help>),
    Run(Arguments),
}

/// continuous backup of SQLite databases: every commit is a restore point
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    example = "bakelite daemon /var/lib/app/app.db /mnt/backup/app",
    example = "bakelite restore /mnt/backup/app --output /tmp/app.db --at 90m"
)]
pub struct Arguments {
    #[argh(option, short = 'c', arg_name = "FILE")]
    /// the configuration, else the one $BAKELITE_CONFIG names
    pub config: Option<PathBuf>,
    #[argh(option, arg_name = "NAME")]
    /// one database of the configuration
    pub db: Option<String>,
    #[argh(option, arg_name = "FILE")]
    /// a key of replicas, instead of those configured; the first one writes
    pub key_file: Vec<String>,
    #[argh(option, arg_name = "WHAT", from_str_fn(seal))]
    /// auto, all, new or none: what is sealed, instead of what is configured
    pub seal: Option<Rule>,
    #[argh(switch)]
    /// one JSON document on standard output
    pub json: bool,
    #[argh(switch)]
    /// say nothing when all is well
    pub quiet: bool,
    #[argh(option, arg_name = "WHEN", default = "Mode::Auto", from_str_fn(progress))]
    /// auto, always or never: a bar for long work
    pub progress: Mode,
    #[argh(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand)]
pub enum Verb {
    Daemon(DaemonOf),
    Run(RunOf),
    Sync(SyncOf),
    Restore(RestoreOf),
    List(ListOf),
    Status(StatusOf),
    Check(CheckOf),
    Verify(VerifyOf),
    Repair(RepairOf),
    Compact(CompactOf),
    Prune(PruneOf),
    Usage(UsageOf),
    Keygen(KeygenOf),
    Reencrypt(ReencryptOf),
    Doctor(DoctorOf),
    Init(InitOf),
    Version(VersionOf),
}

/// watch databases and ship every commit, in the foreground
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "daemon",
    note = "SIGTERM or SIGINT ships everything committed and ends; a second one ends at once.",
    note = "SIGHUP reads the configuration again.",
    example = "bakelite daemon /var/lib/app/app.db /mnt/backup/app"
)]
pub struct DaemonOf {
    #[argh(positional, arg_name = "DB DEST")]
    /// a database and the roots of its replicas: paths or s3://BUCKET/PREFIX
    pub given: Vec<String>,
}

/// run an application, with the daemon that backs it up
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "run",
    note = "Restores what is missing, then runs CMD; ends when all is shipped, with CMD's status.",
    example = "bakelite run /var/lib/app/app.db /mnt/backup/app -- app --port 80"
)]
pub struct RunOf {
    #[argh(positional, arg_name = "DB DEST ... -- CMD ARG")]
    /// a database and the roots of its replicas, as daemon has them, and the command
    pub given: Vec<String>,
}

/// make all that is committed durable on every destination
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "sync",
    note = "Makes one pass, or waits for the running daemon to have made it.",
    example = "bakelite sync /var/lib/app/app.db /mnt/backup/app"
)]
pub struct SyncOf {
    #[argh(positional, arg_name = "DB DEST")]
    /// a database and the roots of its replicas: paths or s3://BUCKET/PREFIX
    pub given: Vec<String>,
    #[argh(option, arg_name = "DUR", from_str_fn(duration))]
    /// how long to wait for a running daemon; for ever, unless given
    pub timeout: Option<Duration>,
}

/// Whoever waits no longer than this reads the reason at the end.
const SOON: Duration = Duration::from_secs(30);

impl SyncOf {
    /// Whether what is waited for is told once, when it is over.
    pub fn ends_soon(&self) -> bool {
        self.timeout.is_some_and(|timeout| timeout <= SOON)
    }
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
    /// the root of a replica, else all configured, as one
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

/// show the restore points of a replica, or its objects
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "list",
    example = "bakelite list /mnt/backup/app --json",
    example = "bakelite list --from s3://bucket/fleet"
)]
pub struct ListOf {
    #[argh(positional, arg_name = "SOURCE")]
    /// the root of a replica, else the first one configured
    pub source: Option<String>,
    #[argh(switch)]
    /// objects instead of restore points
    pub objects: bool,
    #[argh(option, arg_name = "DEST")]
    /// the replicas at or below this place, each with its last commit
    pub from: Option<String>,
}

/// show how each database and its destinations stand
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "status",
    example = "bakelite status --db app --json",
    example = "bakelite status --from /mnt/backup"
)]
pub struct StatusOf {
    #[argh(positional, arg_name = "DB DEST")]
    /// a database and the roots of its replicas: paths or s3://BUCKET/PREFIX
    pub given: Vec<String>,
    #[argh(option, arg_name = "DEST")]
    /// every replica at or below this place, from its names alone
    pub from: Option<String>,
}

/// whether all that is committed is backed up; silent if so
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "check",
    note = "For a timer. Status 5 when something is stale, or no daemon runs.",
    example = "bakelite check --max-age 5m"
)]
pub struct CheckOf {
    #[argh(positional, arg_name = "DB DEST")]
    /// a database and the roots of its replicas: paths or s3://BUCKET/PREFIX
    pub given: Vec<String>,
    #[argh(option, arg_name = "DUR", from_str_fn(duration))]
    /// how old a commit may be that a destination lacks: 5m
    pub max_age: Option<Duration>,
    #[argh(option, arg_name = "DEST")]
    /// every replica at or below this place; with --max-age, by the age of its last commit
    pub from: Option<String>,
}

/// check that a replica is whole: names, chain, hashes
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "verify", example = "bakelite verify /mnt/backup/app --deep")]
pub struct VerifyOf {
    #[argh(positional, arg_name = "SOURCE")]
    /// the root of a replica, else every one configured
    pub source: Option<String>,
    #[argh(switch)]
    /// restore it all into a scratch file and check that as well
    pub deep: bool,
    #[argh(option, arg_name = "SELECT")]
    /// with --deep: a statement for the restored database
    pub sql: Option<String>,
    #[argh(option, arg_name = "VALUE")]
    /// what it has to give
    pub expect: Option<String>,
}

/// heal what is lost from another destination or the database
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "repair",
    note = "Adds what is missing and replaces what is damaged; works beside a running daemon.",
    example = "bakelite repair --db app --dry-run"
)]
pub struct RepairOf {
    #[argh(positional, arg_name = "DB DEST")]
    /// a database and the roots of its replicas: paths or s3://BUCKET/PREFIX
    pub given: Vec<String>,
    #[argh(switch)]
    /// say what would be done, write nothing
    pub dry_run: bool,
}

/// merge change-sets and thin restore points out, now
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "compact",
    note = "The daemon does it by itself; works beside it.",
    example = "bakelite compact --db app"
)]
pub struct CompactOf {
    #[argh(positional, arg_name = "DB DEST")]
    /// a database and the roots of its replicas: paths or s3://BUCKET/PREFIX
    pub given: Vec<String>,
}

/// delete what is older than what is to be kept, now
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "prune",
    note = "The daemon does it by itself; works beside it.",
    example = "bakelite prune --db app --dry-run"
)]
pub struct PruneOf {
    #[argh(positional, arg_name = "DB DEST")]
    /// a database and the roots of its replicas: paths or s3://BUCKET/PREFIX
    pub given: Vec<String>,
    #[argh(switch)]
    /// say what would go and why, delete nothing
    pub dry_run: bool,
}

/// show objects and bytes by kind, and what upkeep would free
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "usage", example = "bakelite usage /mnt/backup/app")]
pub struct UsageOf {
    #[argh(positional, arg_name = "SOURCE")]
    /// the root of a replica, else every one configured
    pub source: Option<String>,
}

/// try what a backup stands on: databases, disks, destinations
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "doctor",
    note = "Stores an object of its own on each destination, and removes it.",
    example = "bakelite doctor --config bakelite.toml"
)]
pub struct DoctorOf {
    #[argh(positional, arg_name = "DB DEST")]
    /// a database and the roots of its replicas: paths or s3://BUCKET/PREFIX
    pub given: Vec<String>,
}

/// write a first configuration, then run doctor
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "init",
    note = "It goes where --config says; a file that is there is left alone.",
    example = "bakelite init /var/lib/app/app.db /mnt/backup"
)]
pub struct InitOf {
    #[argh(positional, arg_name = "DB DEST")]
    /// a database, and where its replicas go: directories or s3://BUCKET/PREFIX
    pub given: Vec<String>,
}

/// make a key to seal replicas with
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "keygen",
    note = "Keep a copy elsewhere: without the key, nothing that is sealed with it comes back.",
    example = "bakelite keygen /etc/bakelite/key"
)]
pub struct KeygenOf {
    #[argh(positional, arg_name = "FILE")]
    /// where the key goes; never over another file
    pub file: String,
}

/// rewrite replicas, so that the first key seals all of them
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "reencrypt",
    note = "Can be stopped at any moment; run again, it goes on.",
    example = "bakelite reencrypt --db app"
)]
pub struct ReencryptOf {
    #[argh(positional, arg_name = "SOURCE")]
    /// the root of a replica, else every one configured
    pub source: Option<String>,
    #[argh(switch)]
    /// open all objects instead, so that no key is needed any more
    pub to_plain: bool,
    #[argh(switch)]
    /// count what is sealed under which key, write nothing
    pub dry_run: bool,
}

/// show the versions of bakelite, its format and SQLite
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "version", example = "bakelite version --json")]
pub struct VersionOf {}

/// Reads the arguments that follow the program's name.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Asked> {
    match normal::normalise(argv)? {
        normal::Wanted::Help(verb) => Ok(Asked::Help(help::of(verb).into())),
        normal::Wanted::Run { verb, ordered } => {
            let words: Vec<&str> = ordered.iter().map(String::as_str).collect();
            let read = Arguments::from_args(&["bakelite"], &words);
            read.map(Asked::Run).map_err(|exit| in_our_words(verb, &exit.output))
        }
    }
}

/// Whether an error belongs on standard output too, asked before the arguments can be trusted.
pub fn wants_json(argv: &[OsString]) -> bool {
    argv.iter().take_while(|word| *word != "--").any(|word| word == "--json")
}

/// argh quotes the option and the value; what it says of them comes from the functions below.
fn in_our_words(verb: &str, said: &str) -> Error {
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let quoted = said.strip_prefix("Error parsing option '");
    let parts = quoted.and_then(|rest| {
        let (option, rest) = rest.split_once("' with value '")?;
        Some((option, rest.rsplit_once("': ")?))
    });
    let error = match parts {
        Some((option, (_, "duplicate values provided"))) => {
            Error::new(Status::Usage, verb, option, "given twice")
        }
        Some((option, (value, cause))) => {
            Error::new(Status::Usage, verb, format!("{option} {value}"), cause)
        }
        None => Error::new(Status::Usage, verb, "arguments", said),
    };
    error.hint(help::pointer(verb))
}

fn progress(text: &str) -> std::result::Result<Mode, String> {
    match text {
        "auto" => Ok(Mode::Auto),
        "always" => Ok(Mode::Always),
        "never" => Ok(Mode::Never),
        _ => Err("not one of auto, always, never".into()),
    }
}

fn seal(text: &str) -> std::result::Result<Rule, String> {
    text.parse().map_err(|wrong: &str| wrong.into())
}

fn check(text: &str) -> std::result::Result<Check, String> {
    match text {
        "none" => Ok(Check::None),
        "quick" => Ok(Check::Quick),
        "full" => Ok(Check::Full),
        _ => Err("not one of none, quick, full".into()),
    }
}

fn duration(text: &str) -> std::result::Result<Duration, String> {
    units::duration(text).ok_or_else(|| "not a duration, such as 90s or 5m".into())
}

fn commit(text: &str) -> std::result::Result<CommitNo, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<u64>().ok().filter(|&number| digits && number > 0);
    number.map(CommitNo).ok_or_else(|| "not a commit's number, which counts from 1".into())
}

fn timeline(text: &str) -> std::result::Result<Timeline, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<u32>().ok().filter(|&number| digits && number > 0);
    number.map(Timeline).ok_or_else(|| "not a timeline's number, which counts from 1".into())
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::mistakes_tried;
