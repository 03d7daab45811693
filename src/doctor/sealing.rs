//! The keys of a database, and whether they open what its destinations hold: asked here rather than by a
//! daemon that does not start, or by a restore that comes too late.

use super::Report;
use crate::backend::sealed::sealed;
use crate::backend::{Backend, list_all};
use crate::config::{Database, Destination};
use crate::error::{Error, Result};
use crate::key;
use crate::name::Name;
use crate::object::Object;
use crate::replica::damaged;
use crate::seal::Keys;
use std::sync::Arc;

/// The keys of a database, none where something is wrong with them.
pub(super) fn keys(report: &mut Report, database: &Database) -> Option<Arc<Keys>> {
    let path = &database.path.display();
    let keys = key::load(&database.settings.sealing).map_err(|error| report.error(&error, path));
    let keys = keys.ok()?;
    if let Some(first) = keys.all.first() {
        let seals = if keys.sealing().is_some() { "seals" } else { "opens, and nothing is sealed" };
        report.fact(path, format!("key {} {seals}, of {} keys", first.id, keys.all.len()));
    }
    Some(keys)
}

/// Whether the keys open the newest record of a replica that is there already.
pub(super) fn opens(
    report: &mut Report,
    destination: &Destination,
    backend: impl Backend + 'static,
    keys: &Arc<Keys>,
) {
    if let Err(error) = newest_opens(&sealed(Arc::new(backend), keys)) {
        report.error(&error, destination);
    }
}

fn newest_opens(source: &Arc<dyn Backend>) -> Result<()> {
    let Some(newest) = list_all(&**source, Name::TIMELINES)?.entries.pop() else { return Ok(()) };
    let bytes = source.get(&newest.name).map_err(Error::from)?;
    let opened = Object::open(&newest.name, bytes);
    opened.map(drop).map_err(|damage| damaged(&**source, &newest.name, damage))
}
