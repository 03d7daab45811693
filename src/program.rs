//! The program: reads its arguments, runs one command, and is the one place that prints errors.

use crate::cli::{self, Arguments, Asked, Verb};
use crate::error::{Error, Result};
use crate::log::{self, Level};
use crate::report;
use crate::verbs::{self, Outcome};
use std::ffi::OsString;
use std::process::ExitCode;

/// All of it, with the words of its command line but for the first.
pub fn main(argv: Vec<OsString>) -> ExitCode {
    let json = cli::wants_json(&argv);
    let done = cli::parse(argv).and_then(|asked| match asked {
        Asked::Help(help) => report::show(&*help, json).map(|()| Outcome::Well),
        Asked::Run(arguments) => run(&arguments),
    });
    match done {
        Ok(Outcome::Well) => ExitCode::SUCCESS,
        Ok(Outcome::Ended(status)) => ExitCode::from(status),
        Ok(Outcome::Found(status)) => ExitCode::from(status as u8),
        Err(error) => fail(&error, json),
    }
}

fn run(arguments: &Arguments) -> Result<Outcome> {
    if arguments.quiet {
        log::be_quiet();
    }
    match &arguments.verb {
        Verb::Daemon(of) => verbs::daemon(arguments, of),
        Verb::Run(of) => verbs::run(arguments, of),
        Verb::Sync(of) => verbs::sync(arguments, of),
        Verb::Restore(of) => verbs::restore(arguments, of),
        Verb::List(of) => verbs::list(arguments, of),
        Verb::Status(of) => verbs::status(arguments, of),
        Verb::Check(of) => verbs::check(arguments, of),
        Verb::Verify(of) => verbs::verify(arguments, of),
        Verb::Repair(of) => verbs::repair(arguments, of),
        Verb::Compact(of) => verbs::compact(arguments, of),
        Verb::Prune(of) => verbs::prune(arguments, of),
        Verb::Usage(of) => verbs::usage(arguments, of),
        Verb::Doctor(of) => verbs::doctor(arguments, of),
        Verb::Init(of) => verbs::init(arguments, of),
        Verb::Keygen(of) => verbs::keygen(arguments, of),
        Verb::Reencrypt(of) => verbs::reencrypt(arguments, of),
        Verb::Version(_) => verbs::version(arguments),
    }
}

/// There is nobody left to tell when these cannot be written; the status still says it.
fn fail(error: &Error, json: bool) -> ExitCode {
    log::say(Level::Error, &error.message, error.hint.as_deref());
    if json {
        let _ = report::print(&report::failure(error));
    }
    ExitCode::from(error.status as u8)
}
