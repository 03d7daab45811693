//! `run`: what is missing is restored, then the application is run under the daemon.

use super::back::{from_one_or_all, tell_passed_over};
use super::{Outcome, bar, say, warn};
use crate::cli::{Arguments, RunOf};
use crate::clock;
use crate::config::Database;
use crate::error::{Result, Status};
use crate::memory;
use crate::restore::{self, Check, Options, Target};
use crate::run;

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
    let origins = database.clone().origins();
    let said = match from_one_or_all(&origins, Some(&database.state_dir), work) {
        Ok((report, _)) => {
            tell_passed_over(&report);
            let restore::Report { commit, time, .. } = report;
            format!("restored commit {commit} of {}", clock::format(time))
        }
        Err(error) if error.status == Status::Missing => {
            "there is no replica yet, the command begins without a database".to_owned()
        }
        Err(error) => return Err(error),
    };
    if !arguments.quiet {
        say(&format!("run: {}: {said}", path.display()), None);
    }
    Ok(())
}
