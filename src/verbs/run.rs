//! `run`: what is missing is restored, then the application is run under the daemon.

use super::restore::{from_one_or_all, tell_passed_over};
use super::{Outcome, bar, say, warn};
use crate::cli::{Arguments, RunOf};
use crate::clock;
use crate::config::{Database, Destination};
use crate::durable;
use crate::error::{Error, Result, Status};
use crate::memory;
use crate::restore::{self, Check, Options, Target};
use crate::run;
use std::path::PathBuf;

pub fn run(arguments: &Arguments, of: &RunOf) -> Result<Outcome> {
    memory::give_back();
    let (given, command) = of.parts()?;
    let config = arguments.config(given)?;
    for database in config.gather().databases {
        warn(&database);
        restore_missing(arguments, &database)?;
    }
    run::run(command, config, bar(arguments)).map(Outcome::Ended)
}

/// What an application is to find there, unless there never was anything.
fn restore_missing(arguments: &Arguments, database: &Database) -> Result<()> {
    let path = &database.path;
    if path.is_file() {
        return Ok(());
    }
    let options = Options {
        output: path,
        target: Target::Latest,
        timeline: None,
        check: Check::None,
        force: false,
        dry_run: false,
    };
    let work = |source: &_| restore::restore(source, &options, &bar(arguments));
    let said = match from_one_or_all(&database.clone().origins(), work) {
        Ok((report, _)) => {
            tell_passed_over(&report);
            let restore::Report { commit, time, .. } = report;
            format!("restored commit {commit} of {}", clock::format(time))
        }
        Err(error) if error.status == Status::Missing => {
            destinations_are_there(database)?;
            "there is no replica yet, the command begins without a database".to_owned()
        }
        Err(error) => return Err(error),
    };
    if !arguments.quiet {
        say(&format!("run: {}: {said}", path.display()), None);
    }
    Ok(())
}

/// Whether a replica could be where there is none: a directory that a disk is to be mounted in, and is
/// not, says nothing of what is on that disk.
fn destinations_are_there(database: &Database) -> Result<()> {
    let roots = database.destinations.iter().filter_map(|each| match each {
        Destination::File { root } => Some(root),
        Destination::S3(_) => None,
    });
    let away = |root: &&PathBuf| !root.is_dir() && !durable::parent(root).is_dir();
    roots.filter(away).take(1).try_for_each(|root| {
        let cause = "destination is not there";
        Err(Error::new(Status::Unreachable, "restore", root.display(), cause)
            .hint("mount it, or make the directory that it is to be in"))
    })
}
