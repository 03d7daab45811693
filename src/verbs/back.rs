//! Where a restore reads from: one replica, or all destinations of a database as one.

use super::say;
use crate::backend::Backend;
use crate::config::{Destination, Origin};
use crate::copies::{Copies, Fallback};
use crate::daemon::{self, open_to_read};
use crate::durable;
use crate::error::{Result, Status};
use crate::restore;
use crate::ship;
use std::path::Path;
use std::sync::Arc;

/// How many objects a person is told of one by one.
const TOLD: usize = 8;

/// `state_dir` is that of the database, if it is known whose replicas they are.
pub fn from_one_or_all<T>(
    origins: &[Origin],
    state_dir: Option<&Path>,
    work: impl Fn(&Arc<dyn Backend>) -> Result<T>,
) -> Result<(T, Vec<Fallback>)> {
    let open = |origin| open_if_there(origin, state_dir);
    match origins {
        [one] => Ok((work(&open(one)?)?, Vec::new())),
        all => from_all(all.iter().map(open).collect(), work),
    }
}

/// A replica that is not there may be away. Only where its place is, and nothing says that it was ever
/// there, is it one that does not exist, and an application may begin without.
fn open_if_there(origin: &Origin, state_dir: Option<&Path>) -> Result<Arc<dyn Backend>> {
    let Origin { destination, .. } = origin;
    open_to_read(origin).map_err(|error| match destination {
        Destination::File { root }
            if error.status == Status::Missing
                && (!durable::parent(root).exists()
                    || state_dir.is_some_and(ship::may_have_shipped)) =>
        {
            daemon::tell_if_away(error, destination)
        }
        Destination::File { .. } | Destination::S3(_) => error,
    })
}

/// Works on all copies as one, and tells what was not as it should be. An object that does not fit
/// what it is put to is tried again as another copy has it.
fn from_all<T>(
    sources: Vec<Result<Arc<dyn Backend>>>,
    work: impl Fn(&Arc<dyn Backend>) -> Result<T>,
) -> Result<(T, Vec<Fallback>)> {
    let copies = Arc::new(Copies::open(sources)?);
    copies.notes.iter().for_each(|note| say(&note.message, note.hint.as_deref()));
    let done = copies.all_as_one(work)?;
    copies.alone().iter().for_each(|note| say(note, Some("run: bakelite verify")));
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
pub fn tell_passed_over(report: &restore::Report) {
    for restore::PassedOver { object, why } in &report.passed_over {
        let message = format!("{why}; restored without {object}");
        say(&message, Some("run: bakelite verify"));
    }
}
