//! The destinations of one database, opened as far as they can be.

use crate::backend::retry::{Patience, Retry};
use crate::backend::s3::S3;
use crate::backend::{self, Backend, fs::Fs, later::Later};
use crate::config::{self, Database, Destination};
use crate::durable;
use crate::error::{Error, Result, Status};
use crate::fanout::Fanout;
use crate::object::Compression;
use std::path::Path;
use std::sync::Arc;

/// Opens the destinations, and puts there what an earlier life has left in their spools. Those that
/// cannot be reached are behind; one has to be there. Mirrors are not waited for: what they lack is
/// copied to them later.
pub fn connect(database: &Database, shipped: bool) -> Result<(Fanout, Vec<usize>)> {
    let later = |destination: &Destination| {
        let to = destination.clone();
        Arc::new(Later::new(destination.to_string(), move || open_destination(&to, shipped)))
    };
    let all: Vec<_> = database.destinations.iter().map(later).collect();
    let compression = match database.settings.compression {
        config::Compression::Zstd => Compression::Zstd,
        config::Compression::None => Compression::None,
    };
    let is_mirror = |at: usize| database.mirrors.contains(&database.destinations[at]);
    let backends = all.iter().enumerate();
    let backends =
        backends.map(|(at, each)| (Arc::clone(each) as Arc<dyn Backend>, is_mirror(at))).collect();
    let settings = &database.settings;
    let stores = Fanout::new(backends, compression, &database.state_dir, settings.spool_max)?;
    let mut reachable = Vec::new();
    let mut errors = Vec::new();
    for (at, destination) in all.iter().enumerate() {
        if is_mirror(at) {
            stores.lacks(at, None)?;
            continue;
        }
        let to = &database.destinations[at];
        let reached = destination.get().map(drop).map_err(|error| unreachable(error, to, shipped));
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
        Destination::S3(place) => {
            Ok(Arc::new(Retry::new(Arc::new(S3::create(place)?), Patience::default())))
        }
    }
}

fn unreachable(error: backend::Error, destination: &Destination, shipped: bool) -> Error {
    let error = Error { status: Status::Unreachable, ..Error::from(error) };
    match destination {
        Destination::File { .. } if shipped => {
            error.hint("commits were shipped there before: mount what belongs there")
        }
        Destination::File { root } => {
            error.hint(format!("make or mount it: {}", durable::parent(root).display()))
        }
        Destination::S3(_) => error,
    }
}

/// A replica's root. One that was shipped to has to be there: where it is not, a disk is not mounted,
/// and a new replica must not begin in its mount point. A new one is made, in a directory that may be
/// new too, but no further up.
fn open_root(root: &Path, shipped: bool) -> std::result::Result<Fs, backend::Error> {
    if shipped {
        return Fs::open(root);
    }
    let above = durable::parent(root);
    if !above.exists() {
        Fs::create(above)?;
    }
    Fs::create(root)
}
