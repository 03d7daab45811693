//! `torture suite URL`: an operator's own storage, held to what bakelite needs of it, and then backed up
//! to while the program is killed.
//!
//! Whatever is stored lies below a name of its own, made at random, and nothing else at that URL is read
//! or written. It is removed at the end; only a replica that was not right stays, to be looked at.

use crate::replica;
use crate::rig::Programs;
use crate::run::{self, Outcome, Summary};
use crate::scenarios::{self, Scenario};
use crate::tally::Tally;
use argh::FromArgs;
use bakelite::backend::browse::below;
use bakelite::backend::conformance::{Kept, ONE_WINS, PAGE, PROMISES};
use bakelite::backend::fs::Fs;
use bakelite::backend::retry::{Patience, Retry};
use bakelite::backend::s3::S3;
use bakelite::backend::{self, Backend};
use bakelite::config::Destination;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// try your own storage: what bakelite needs of it, then backups to it while the program is killed, and
/// restores that are judged
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "suite",
    note = "Everything is stored below a new name at URL, torture-..., and removed at the end, but for a \
            replica that was not right. What may not be removed is named. A bucket that keeps versions \
            keeps those.\n\nExit status: 0 all held, 1 not.",
    example = "AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... {command_name} \\\n    \
               's3://my-bucket/tmp?endpoint=https://s3.example.com&region=us-east-1'"
)]
pub struct Args {
    /// a directory, or a bucket as bakelite takes it: s3://BUCKET/PREFIX?endpoint=...&region=...; with
    /// credentials from the environment
    #[argh(positional)]
    url: String,
    /// scenarios of `torture list` to try there; else a choice of them
    #[argh(positional)]
    scenarios: Vec<String>,
    /// chooses every operation and every kill
    #[argh(option)]
    seed: Option<u64>,
    /// go on with further seeds for so many minutes; else one of each scenario
    #[argh(option)]
    minutes: Option<f64>,
    /// how many at a time
    #[argh(option, default = "2")]
    jobs: usize,
    /// the bakelite to try; else the one beside this program
    #[argh(option)]
    pub bin: Option<PathBuf>,
}

/// Those that one destination is enough for, wherever it is.
const FIT: [&str; 9] = [
    "marked",
    "drain",
    "unsynced",
    "kill-daemon",
    "kill-sync",
    "kill-writer",
    "kill-restore",
    "away",
    "several-writers",
];

impl Args {
    /// The storage itself is the place of the plan; `run` finds one below it.
    pub fn plan(self, programs: Programs, some_seed: u64) -> Result<run::Plan, String> {
        let at = Destination::parse(&self.url).map_err(|error| error.to_string())?;
        let unfit = self.scenarios.iter().find(|name| !FIT.contains(&name.as_str()));
        if let Some(unfit) = unfit {
            return Err(format!("{unfit} cannot be tried there; these can: {}", FIT.join(", ")));
        }
        let asked =
            |name: &&str| self.scenarios.is_empty() || self.scenarios.iter().any(|it| it == name);
        let named = FIT.iter().filter(|name| asked(name));
        let scenarios: Vec<&Scenario> = named.filter_map(|name| scenarios::find(name)).collect();
        Ok(run::Plan {
            scenarios,
            seed: self.seed.unwrap_or(some_seed),
            seeds: Some(1),
            time: self.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0)),
            long: false,
            jobs: self.jobs.max(1),
            programs,
            root: std::env::temp_dir(),
            at: Some(at),
        })
    }
}

/// Whether all held. `Err`: it could not be tried.
pub fn run(plan: &run::Plan) -> Result<bool, String> {
    let storage = plan.at.as_ref().expect("a suite has a place");
    let place = storage.below(&format!("torture-{:012x}", RandomState::new().hash_one(0) >> 16));
    println!("stores below {place} and nowhere else");
    begin(&place)?;
    let broken = contract(&place);
    let torture =
        broken.is_empty().then(|| run::run(&run::Plan { at: Some(place.clone()), ..plan.clone() }));
    end(&place);
    println!("{}", summary(broken.len(), torture.as_ref()));
    Ok(torture.is_some_and(|torture| torture.outcome == Outcome::Right))
}

/// Makes the place, which is new. The one above it must be there.
fn begin(place: &Destination) -> Result<(), String> {
    match place {
        Destination::File { root } => {
            std::fs::create_dir(root).map_err(|error| format!("{place}: {error}"))
        }
        Destination::S3(_) => match below(place).map_err(|error| told(&error))? {
            found if found.is_empty() => Ok(()),
            found => Err(format!("{place}: there is something already: {}", found.join(", "))),
        },
    }
}

fn told(error: &backend::Error) -> String {
    let hint = error.hint.as_deref().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
    format!("{error}{hint}")
}

/// Each promise, tried in a replica of its own; those that were not kept.
fn contract(place: &Destination) -> Vec<&'static str> {
    let mut broken = Vec::new();
    for (number, (promise, keep)) in PROMISES.into_iter().enumerate() {
        let place = place.below(&format!("promise-{number}"));
        if matches!(&place, Destination::S3(bucket) if !bucket.create_only) && promise == ONE_WINS {
            println!("not asked for  {promise}: create_only=false");
            continue;
        }
        let kept: Kept = open(&place).map_err(Into::into).and_then(|it| keep(&*it));
        match kept {
            Ok(()) => println!("ok             {promise}"),
            Err(seen) => {
                broken.push(promise);
                println!("BROKEN         {promise}\n               {seen}");
            }
        }
        // What cannot be removed is told at the end.
        let _ = replica::remove(&place);
    }
    broken
}

/// As the daemon opens it, but for what it asks of a store at its start: that is what is tried.
fn open(place: &Destination) -> Result<Arc<dyn Backend>, backend::Error> {
    Ok(match place {
        Destination::File { root } => Arc::new(Fs::create(root)?.with_page(PAGE)),
        Destination::S3(bucket) => {
            let s3 = S3::open(bucket)?.with_page(PAGE);
            Arc::new(Retry::new(Arc::new(s3), Patience::default()))
        }
    })
}

/// Removes the place, and says what of it stays. A store may go on listing what is empty.
fn end(place: &Destination) {
    match left(place) {
        Ok(left) if left.is_empty() => println!("removed {place}"),
        Ok(left) => println!("left, for you to remove: {place}: {}", left.join(", ")),
        Err(error) => println!("left, for you to remove: {place}: {error}"),
    }
}

fn left(place: &Destination) -> Result<Vec<String>, String> {
    let mut left = Vec::new();
    for name in below(place).map_err(|error| told(&error))? {
        let replica = place.below(&name);
        match replica::is_empty(&replica).map_err(|error| told(&error))? {
            true => replica::remove(&replica)?,
            false => left.push(name),
        }
    }
    match place {
        Destination::File { root } if left.is_empty() => {
            std::fs::remove_dir(root).map_err(|error| error.to_string())?;
        }
        _ => {}
    }
    Ok(left)
}

fn summary(broken: usize, torture: Option<&Summary>) -> String {
    let all = PROMISES.len();
    let Some(torture) = torture else {
        return format!("{broken} of {all} promises broken; nothing was backed up there");
    };
    let Tally { seeds, commits, restores, violations, .. } = &torture.total();
    let (kills, wrong, outcome) = (torture.total().all_kills(), violations.len(), torture.outcome);
    format!(
        "{all} promises kept; {seeds} runs from seed {}: {commits} commits, {kills} kills, {restores} \
         restores graded, {wrong} violations: {outcome:?}",
        torture.seed
    )
}

#[cfg(test)]
mod tests;
