//! `restore`: from one replica, or from all copies of a database as one.

use super::{Outcome, bar, open, say};
use crate::backend::Backend;
use crate::cli::{Arguments, Existing, RestoreOf};
use crate::clock;
use crate::config::Origin;
use crate::copies::{Copies, Fallback};
use crate::error::Result;
use crate::report;
use crate::restore::{self, Options};
use std::sync::Arc;

pub fn restore(arguments: &Arguments, of: &RestoreOf) -> Result<Outcome> {
    let (output, existing) = (of.output()?, of.existing()?);
    if existing == Existing::Keep && output.is_file() {
        if !arguments.quiet || arguments.json {
            report::show(&report::Untouched::new(&output), arguments.json)?;
        }
        return Ok(Outcome::Well);
    }
    let options = Options {
        output: &output,
        target: of.target(clock::now())?,
        timeline: of.timeline,
        check: of.check,
        force: existing == Existing::Replace,
        dry_run: of.dry_run,
    };
    let origins = arguments.copies(of.source.as_deref())?;
    let work = |source: &_| match existing {
        Existing::Update => restore::update(source, &options, &bar(arguments)),
        Existing::Refuse | Existing::Keep | Existing::Replace => {
            restore::restore(source, &options, &bar(arguments))
        }
    };
    let (report, fallbacks) = from_one_or_all(&origins, work)?;
    tell_passed_over(&report);
    if !arguments.quiet || arguments.json {
        let restored = report::Restored::new(&report, &options, &fallbacks);
        report::show(&restored, arguments.json)?;
    }
    Ok(Outcome::Well)
}

pub(super) fn from_one_or_all<T>(
    origins: &[Origin],
    work: impl Fn(&Arc<dyn Backend>) -> Result<T>,
) -> Result<(T, Vec<Fallback>)> {
    match origins {
        [one] => Ok((work(&open(one)?)?, Vec::new())),
        all => from_all(all, work),
    }
}

/// Works on all copies as one, and tells what was not as it should be. An object that does not fit
/// what it is put to is tried again as another copy has it.
fn from_all<T>(
    origins: &[Origin],
    work: impl Fn(&Arc<dyn Backend>) -> Result<T>,
) -> Result<(T, Vec<Fallback>)> {
    let copies = Arc::new(Copies::open(origins.iter().map(open).collect())?);
    copies.notes.iter().for_each(|note| say(&note.message, note.hint.as_deref()));
    let done = copies.all_as_one(work)?;
    let fallbacks = copies.fallbacks();
    for Fallback { object, from, why } in fallbacks.iter().take(TOLD) {
        let message = format!("restore: {copies}/{object}: {why}; taken from {from}");
        say(&message, None);
    }
    if fallbacks.len() > TOLD {
        let more = fallbacks.len() - TOLD;
        say(&format!("restore: {copies}: and {more} more objects"), Some("run: bakelite repair"));
    }
    Ok((done, fallbacks))
}

/// What was restored is right all the same; what is left of the replica may not be for long.
pub(super) fn tell_passed_over(report: &restore::Report) {
    for restore::PassedOver { object, why } in &report.passed_over {
        let message = format!("{why}; restored without {object}");
        say(&message, Some("run: bakelite verify"));
    }
}

/// How many objects a person is told of one by one.
const TOLD: usize = 8;
