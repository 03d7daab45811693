//! The keys of a database, and whether what a start reads on its destinations opens with them: asked here
//! rather than by a daemon that does not start, or by a restore that comes too late.

use super::Report;
use crate::backend::Backend;
use crate::backend::sealed::sealed;
use crate::config::{Database, Destination};
use crate::error::{Result, Status};
use crate::key;
use crate::replica::{Replica, is_on, read_change, read_manifest};
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

/// Whether what a daemon reads when it starts, and a restore first of all, is whole, in a format that is
/// known and open to the keys, where there is a replica already.
pub(super) fn opens(
    report: &mut Report,
    destination: &Destination,
    backend: impl Backend + 'static,
    keys: &Arc<Keys>,
) {
    let source = sealed(Arc::new(backend), keys);
    let read = match read_newest(&*source) {
        // Upkeep may have merged it meanwhile, and then it is not read again.
        Err(error) if error.status == Status::Integrity => read_newest(&*source),
        read => read,
    };
    if let Err(error) = read {
        report.error(&error, destination);
    }
}

/// The records of the timelines, the end of the newest change-set and the newest manifest.
fn read_newest(source: &dyn Backend) -> Result<()> {
    let replica = Replica::list_without_parts(source)?;
    let ancestry = replica.ancestry(source)?;
    let changes = replica.changes.iter().filter(|((span, _), _)| is_on(&ancestry, span));
    let ends = changes.filter_map(|(_, parts)| parts.iter().find(|part| part.end));
    if let Some(end) = ends.max_by_key(|end| end.span.last) {
        read_change(source, end)?;
    }
    let snapshots = replica.snapshots.iter().filter(|span| is_on(&ancestry, span));
    snapshots.max_by_key(|span| span.last).map(|span| read_manifest(source, span)).transpose()?;
    Ok(())
}
