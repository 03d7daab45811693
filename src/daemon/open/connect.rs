//! The destinations of one database, opened as far as they can be.

use crate::backend::retry::{Patience, Retry};
use crate::backend::s3::S3;
use crate::backend::sealed::sealed;
use crate::backend::{self, Backend, fs::Fs, later::Later};
use crate::clock;
use crate::config::{Database, Destination, Origin};
use crate::durable;
use crate::error::{Error, Result, Status};
use crate::fanout::{Fanout, Host};
use crate::key;
use crate::log;
use crate::seal::Keys;
use crate::units;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// How long a destination may take to open while others are waiting.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same where one of them was late a moment ago, for another database.
const BRIEF: Duration = Duration::from_secs(1);

/// Opens the destinations, and puts there what an earlier life has left in their spools. Those that
/// cannot be reached are behind, and so is one that does not answer while another does; one has to be
/// there. Mirrors are not waited for: what they lack is copied to them later.
pub fn connect(
    database: &Database,
    keys: &Arc<Keys>,
    shipped: bool,
    hosts: Vec<Arc<Host>>,
) -> Result<(Fanout, Vec<usize>)> {
    let later = |destination: &Destination| {
        let to = destination.clone();
        let open = move || {
            let opened = open_destination(&to, shipped);
            #[cfg(test)]
            let opened = opened.map(|it| crate::testkit::mortal::behind(&to.to_string(), it));
            opened
        };
        Arc::new(Later::new(destination.to_string(), open))
    };
    let all: Vec<_> = database.destinations.iter().map(later).collect();
    let compression = database.settings.compression;
    let is_mirror = |at: usize| database.mirrors.contains(&database.destinations[at]);
    let backends = all.iter().enumerate().map(|(at, each)| {
        let each = Arc::clone(each) as Arc<dyn Backend>;
        (sealed(each, keys), is_mirror(at))
    });
    let backends = backends.collect();
    let settings = &database.settings;
    let mut stores = Fanout::new(backends, compression, &database.state_dir, settings.spool_max)?;
    (stores.keep, stores.caps) = (settings.keep.clone(), database.caps.clone());
    stores.hosts = hosts;
    let one_is_late = stores.hosts.iter().any(|host| host.was_late());
    let patience = if one_is_late { BRIEF } else { PATIENCE };
    let mut reachable = Vec::new();
    let mut errors = Vec::new();
    let (mirrors, in_step): (Vec<_>, Vec<_>) = (0..all.len()).partition(|at| is_mirror(*at));
    mirrors.into_iter().try_for_each(|at| stores.lacks(at, None))?;
    let waited_for: Vec<_> = in_step.iter().map(|&at| Arc::clone(&all[at])).collect();
    for (at, reached) in in_step.into_iter().zip(reach(&waited_for, patience)) {
        let to = &database.destinations[at];
        stores.hosts[at].note(reached.is_none());
        let reached = reached.unwrap_or_else(|| Err(all[at].late()));
        let reached = reached.map_err(|error| unreachable(error, to, shipped));
        match reached.and_then(|()| stores.flush(at)) {
            Ok(()) => reachable.push(at),
            Err(error) => errors.push((at, error)),
        }
    }
    if reachable.is_empty() {
        return Err(errors.swap_remove(0).1);
    }
    errors.iter().try_for_each(|(at, error)| stores.lacks(*at, Some(error)))?;
    Ok((stores, reachable))
}

type Reached = std::result::Result<(), backend::Error>;

/// Opens all at the same time. Who is late goes on opening, and nobody waits for that.
fn reach(all: &[Arc<Later>], patience: Duration) -> Vec<Option<Reached>> {
    let (send, results) = channel();
    for (at, destination) in all.iter().enumerate() {
        let (send, destination) = (send.clone(), Arc::clone(destination));
        // Nobody listens any more to one that is late.
        thread::spawn(move || send.send((at, destination.get().map(drop))).ok());
    }
    let mut reached: Vec<Option<Reached>> = all.iter().map(|_| None).collect();
    let start = clock::instant();
    for _ in all {
        // Without any that is there, there is nothing to go on with.
        let left = match reached.iter().flatten().any(|it| it.is_ok()) {
            true => patience.saturating_sub(start.elapsed()),
            false => Duration::MAX,
        };
        let Ok((at, result)) = results.recv_timeout(left) else { break };
        reached[at] = Some(result);
    }
    reached
}

fn open_destination(
    destination: &Destination,
    shipped: bool,
) -> std::result::Result<Arc<dyn Backend>, backend::Error> {
    match destination {
        Destination::File { root } => {
            let fs = open_root(root, shipped)?;
            fs.tidy()?;
            Ok(Arc::new(fs))
        }
        Destination::S3(place) => Ok(patient(S3::create(place)?)),
    }
}

/// Says, too, what may be wrong with it, as a backend does not.
fn patient(s3: S3) -> Arc<dyn Backend> {
    if let Some(doubt) = s3.doubt() {
        log::warn(&doubt.into());
    }
    Arc::new(Retry::new(Arc::new(s3), Patience::default()))
}

/// Opens a replica to read it: its objects come as they were before they were sealed.
pub fn open_to_read(origin: &Origin) -> Result<Arc<dyn Backend>> {
    let keys = key::load(&origin.sealing)?;
    Ok(sealed(open_bare(&origin.destination)?, &keys))
}

pub fn open_bare(destination: &Destination) -> Result<Arc<dyn Backend>> {
    match destination {
        Destination::File { root } => Ok(Arc::new(Fs::open(root)?)),
        Destination::S3(place) => Ok(patient(S3::read(place)?)),
    }
}

fn unreachable(error: backend::Error, destination: &Destination, shipped: bool) -> Error {
    let is_absent = error.kind == backend::Kind::NotFound;
    let error = Error { status: Status::Unreachable, ..Error::from(error) };
    match destination {
        Destination::File { .. } if shipped && is_absent => tell_if_absent(error, destination),
        Destination::File { .. } if shipped => error,
        Destination::File { root } => {
            error.hint(format!("make or mount it: {}", durable::parent(root).display()))
        }
        Destination::S3(_) => error,
    }
}

/// What is to be done where the root of a replica is not there. Something was to be stored in it, so
/// that is no replica that does not exist, but a destination that is away.
pub fn tell_if_absent(error: Error, destination: &Destination) -> Error {
    if_absent(error, destination, |root| {
        let root = units::word(root);
        format!("mount what belongs there, or for a replica that is new: mkdir -p {root}")
    })
}

/// The same for who reads: a directory made there would be a replica that is empty.
pub fn tell_if_away(error: Error, destination: &Destination) -> Error {
    let hint = "mount what belongs there, or correct the path: nobody knows what is stored there";
    if_absent(error, destination, |_| hint.to_owned())
}

fn if_absent(error: Error, destination: &Destination, hint: impl FnOnce(&Path) -> String) -> Error {
    match destination {
        Destination::File { root } if error.status != Status::Locked && !root.exists() => {
            Error { status: Status::Unreachable, ..error }.hint(hint(root))
        }
        Destination::File { .. } | Destination::S3(_) => error,
    }
}

/// A replica's root. One that was shipped to has to be there: where it is not, a disk is not mounted,
/// and a new replica must not begin in its mount point. A new one is made, and nothing further up.
fn open_root(root: &Path, shipped: bool) -> std::result::Result<Fs, backend::Error> {
    if shipped { Fs::open(root) } else { Fs::create(root) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::mem::Mem;

    /// The disk was not mounted, and its mount point not even made: a new replica began on another disk.
    #[test]
    fn trap_83_a_new_replica_is_made_below_a_directory_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (away, here) = (dir.path().join("mnt/app"), dir.path().join("app"));
        assert_eq!(open_root(&away, false).unwrap_err().kind, backend::Kind::NotFound);
        assert!(!dir.path().join("mnt").exists());
        open_root(&here, false).unwrap();
        open_root(&here, true).unwrap();
    }

    /// A server that took connections and never answered kept a directory waiting for half a minute.
    #[test]
    fn trap_84_nobody_waits_for_a_destination_that_never_answers() {
        let (answer, question) = channel::<()>();
        let question = std::sync::Mutex::new(question);
        let mem = || Ok(Arc::new(Mem::new()) as Arc<dyn Backend>);
        let silent = move || {
            question.lock().unwrap().recv().ok();
            mem()
        };
        let all = [
            Arc::new(Later::new("silent".into(), silent)),
            Arc::new(Later::new("there".into(), mem)),
        ];
        let reached = reach(&all, Duration::ZERO);
        assert!(matches!(reached[1], Some(Ok(()))));
        assert!(reached[0].is_none() && all[0].late().cause == "no answer in time");
        // Late is not never.
        drop(answer);
        assert!(matches!(reach(&all[..1], Duration::ZERO)[0], Some(Ok(()))));
    }
}
