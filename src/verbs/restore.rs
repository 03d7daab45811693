//! `restore`: the arguments, and what is said of it.

use super::back::{from_one_or_all, tell_passed_over};
use super::{Outcome, bar};
use crate::cli::{Arguments, Existing, RestoreOf};
use crate::clock;
use crate::error::Result;
use crate::report;
use crate::restore::{self, Options};

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
    let (state_dir, origins) = arguments.copies(of.source.as_deref())?;
    let work = |source: &_| match existing {
        Existing::Update => restore::update(source, &options, &bar(arguments)),
        Existing::Refuse | Existing::Keep | Existing::Replace => {
            restore::restore(source, &options, &bar(arguments))
        }
    };
    let (report, fallbacks) = from_one_or_all(&origins, state_dir.as_deref(), work)?;
    tell_passed_over(&report);
    if !arguments.quiet || arguments.json {
        let restored = report::Restored::new(&report, &options, &fallbacks);
        report::show(&restored, arguments.json)?;
    }
    Ok(Outcome::Well)
}
