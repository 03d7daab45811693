//! One destination, tried with an object of its own: stored, refused a second time, read, listed,
//! removed. It lies beside the replica's objects, where no listing of the replica looks, and stays there
//! where objects are locked.

use super::{Report, sealing};
use crate::backend::fs::Fs;
use crate::backend::s3::S3;
use crate::backend::{self, Backend, Kind, browse, http, list_all};
use crate::check::Finding;
use crate::clock;
use crate::commit::{Time, Timeline};
use crate::config::{self, Database, Destination, Lock};
use crate::cursor;
use crate::daemon::tell_if_absent;
use crate::durable;
use crate::error::{Error, Status};
use crate::name::Name;
use crate::seal::Keys;
use crate::ship::cursor_path;
use crate::units;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a destination is waited for, at each step.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests are signed for 15 minutes. Past this they will not be taken for long.
const SKEW: i64 = 300;
/// What a clock is off that is set by nothing.
const NOTABLE: i64 = 30;

/// How long what is stored to try locks is locked at most: it stays behind.
const LOCKED: Duration = Duration::from_secs(60);

/// Without keys, where there is something wrong with them, no object of the replica is read.
pub(super) fn probe(
    report: &mut Report,
    database: &Database,
    destination: &Destination,
    keys: Option<&Arc<Keys>>,
) {
    match destination {
        Destination::File { root } => {
            directory(report, database, destination, root);
            if let (Some(keys), Ok(replica)) = (keys, Fs::open(root)) {
                sealing::opens(report, destination, replica, keys);
            }
        }
        Destination::S3(place) => {
            if let (Some(replica), Some(keys)) = (bucket(report, destination, place), keys) {
                sealing::opens(report, destination, replica, keys);
            }
        }
    }
}

fn directory(report: &mut Report, database: &Database, destination: &Destination, root: &Path) {
    if !root.is_dir() && has_replica(database) {
        let error = Error::new(Status::Unreachable, "open", destination, "it is not there");
        return report.error(&tell_if_absent(error, destination), destination);
    }
    if root.exists() && !root.is_dir() {
        let error = Error::new(Status::Unreachable, "open", destination, "it is not a directory");
        let error = error.hint("move it out of the way, or name another place");
        return report.error(&error, destination);
    }
    let above = durable::parent(root);
    let Some(base) = [root, above].into_iter().find(|dir| dir.is_dir()) else {
        let error = Error::new(Status::Unreachable, "open", destination, "it is not there");
        let error = error.hint(format!("make or mount it: {}", above.display()));
        return report.error(&error, destination);
    };
    let device = |path: &Path| path.metadata().map(|metadata| metadata.dev()).ok();
    if device(base) == device(&database.path) {
        let remedy = "add a destination on another disk or machine: what takes this one takes both";
        report.warn("it is on the database's own disk", destination, remedy);
    }
    let place = base.join(format!(".{}", browse::trial(clock::now())));
    match Fs::create(&place) {
        Ok(fs) => exercise(report, destination, &fs),
        Err(error) => report.error(&Error::from(error), destination),
    }
    for dir in [place.join("timeline"), place] {
        fs::remove_dir(dir).ok();
    }
}

/// Whether the daemon has shipped a snapshot, and so takes a root that is not there for a disk that is
/// not mounted.
fn has_replica(database: &Database) -> bool {
    let state = cursor::state(&cursor_path(&database.state_dir));
    state.is_ok_and(|state| state.is_some_and(|state| state.snapshot > Time(0)))
}

fn bucket(report: &mut Report, destination: &Destination, place: &config::S3) -> Option<S3> {
    skew(report, destination, &place.endpoint);
    // As a daemon does when it starts: proves that nothing there is written over.
    let replica = S3::create(place).map_err(|error| report.error(&error.into(), destination));
    let replica = replica.ok()?;
    if let Some(doubt) = replica.doubt() {
        report.warn(doubt.cause, destination, doubt.hint.unwrap_or_default());
    }
    match S3::open(&trial(place, clock::now())) {
        Ok(s3) => exercise(report, destination, &s3.with_timeout(PATIENCE)),
        Err(error) => report.error(&Error::from(error), destination),
    }
    Some(replica)
}

/// A place of its own below the replica's, where nothing is locked for long.
pub(super) fn trial(place: &config::S3, now: Time) -> config::S3 {
    let slash = if place.prefix.is_empty() { "" } else { "/" };
    let prefix = format!("{}{slash}{}", place.prefix, browse::trial(now));
    let lock = place.lock.map(|lock| Lock { period: lock.period.min(LOCKED), ..lock });
    config::S3 { prefix, lock, ..place.clone() }
}

/// How far the store's clock is from this one's, by the header that every reply has.
fn skew(report: &mut Report, destination: &Destination, endpoint: &str) {
    let Ok(reply) = http::glance(endpoint, PATIENCE) else { return };
    let Some(theirs) = reply.header("date").and_then(clock::parse_http) else { return };
    compare_clocks(report, destination, clock::now(), theirs);
}

pub(super) fn compare_clocks(
    report: &mut Report,
    destination: &Destination,
    ours: Time,
    theirs: Time,
) {
    let ahead = (ours.0 as i64 - theirs.0 as i64) / 1000;
    let stretch = units::stretch(Duration::from_secs(ahead.unsigned_abs()));
    let which = if ahead > 0 { "ahead of" } else { "behind" };
    let what = format!("this machine's clock is {stretch} {which} the store's");
    let remedy = "set the clock, and keep it right with NTP";
    match ahead.abs() {
        SKEW.. => {
            let finding = Finding::new(Status::Unreachable, what, destination);
            report.findings.push(finding.remedy(remedy));
        }
        NOTABLE.. => report.warn(what, destination, remedy),
        _ => {}
    }
}

pub(super) fn exercise(report: &mut Report, destination: &Destination, backend: &dyn Backend) {
    match tried(backend) {
        Ok(said) => report.fact(destination, said),
        Err(error) => report.error(&Error::from(error), destination),
    }
    let name = probe_name();
    match timed(|| backend.delete(&name)) {
        Ok((_, time)) => {
            if let Some((_, said)) =
                report.facts.last_mut().filter(|(of, _)| *of == destination.to_string())
            {
                *said += &format!(", delete {time}");
            }
        }
        // As it has to be.
        Err(error) if error.kind == Kind::Locked => {}
        // A replica is kept without that; it only grows.
        Err(error) => report.warn(
            error.to_string(),
            destination,
            "let bakelite delete there, or objects that are no longer needed stay",
        ),
    }
}

fn probe_name() -> Name {
    Name::Timeline(Timeline(1))
}

/// Puts, puts again, gets, lists; how long each took.
fn tried(backend: &dyn Backend) -> Result<String, backend::Error> {
    const BODY: &[u8] = b"bakelite doctor tries whether objects can be stored here\n";
    let name = probe_name();
    let wrong = |operation, kind, cause: &str| backend::Error {
        operation,
        place: backend.to_string(),
        name: name.to_string(),
        kind,
        cause: cause.to_owned(),
        hint: Some("use a store that keeps what it is given, as it is".to_owned()),
    };
    let ((), put) = timed(|| backend.put(&name, BODY))?;
    match backend.put(&name, BODY) {
        Err(error) if error.kind == Kind::Exists => {}
        Err(error) => return Err(error),
        Ok(()) => {
            return Err(wrong("put", Kind::Other, "an object that is there was written over"));
        }
    }
    let (body, get) = timed(|| backend.get(&name))?;
    if body != BODY {
        return Err(wrong("get", Kind::Corrupt, "not what was put"));
    }
    let (listing, list) = timed(|| list_all(backend, Name::TIMELINES))?;
    if !listing.entries.iter().any(|entry| entry.name == name) {
        return Err(wrong("list", Kind::Other, "what was put is not listed"));
    }
    Ok(format!("put {put}, get {get}, list {list}"))
}

fn timed<T>(
    work: impl FnOnce() -> Result<T, backend::Error>,
) -> Result<(T, String), backend::Error> {
    let start = clock::instant();
    let value = work()?;
    Ok((value, format!("{:.1} ms", start.elapsed().as_secs_f64() * 1000.0)))
}
