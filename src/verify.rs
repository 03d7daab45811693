//! Whether a replica would come back. Shallow: every object is read, its checksums, its name and its
//! place in the chain are checked, and that no commit is missing. Deep: the newest commit is restored
//! as well, its digest proved, and SQLite's own integrity check run over it; then the last commit of
//! each abandoned branch. What lies on a branch counts as much as anything else.

use crate::backend::Backend;
use crate::change::ChangeSet;
use crate::commit::Timeline;
use crate::error::{Result, Status};
use crate::name::Name;
use crate::object::Damage;
use crate::replica::{Replica, damaged};
use crate::restore::{self, Check, Options, Progress, Target};
use crate::snapshot::{Fork, Manifest, PartPages};
use chain::Links;
use std::sync::Arc;

mod chain;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub what: String,
    pub where_: String,
    pub remedy: String,
}

#[derive(Clone, Debug)]
pub struct Report {
    pub objects: u64,
    pub bytes: u64,
    pub findings: Vec<Finding>,
    /// What a deep check restored.
    pub restored: Option<restore::Report>,
}

pub fn verify(source: &Arc<dyn Backend>, deep: bool, progress: &dyn Progress) -> Result<Report> {
    let replica = Replica::list(&**source)?;
    if replica.is_empty() {
        let error = crate::error::Error::new(Status::Missing, "verify", source, "no replica here");
        return Err(error.hint("check the path: it is the replica's root, DEST of the daemon"));
    }
    let bytes = replica.objects.iter().map(|entry| entry.bytes).sum();
    let objects = replica.objects.len() as u64;
    let mut report = Report { objects, bytes, findings: Vec::new(), restored: None };
    let (mut done, mut links) = (0, Links::default());
    for entry in &replica.objects {
        report.findings.extend(object(&**source, &replica, &entry.name, &mut links)?);
        done += entry.bytes;
        progress.at(done, bytes);
    }
    report.findings.extend(replica.foreign.iter().map(|key| Finding {
        what: "not an object of ours".into(),
        where_: format!("{source}/{key}"),
        remedy: "nothing reads it; remove it if you know where it comes from".into(),
    }));
    report.findings.extend(links.findings(&**source, &replica)?);
    if deep {
        match drill(source, None, progress) {
            Ok(restored) => report.restored = Some(restored),
            Err(error) => report.findings.push(finding(source.to_string(), &error)),
        }
        // A branch that lacks a record was found out about above.
        for branch in replica.branches(&**source).into_iter().flatten().flatten() {
            let newest = replica.newest(&branch.ancestry);
            if newest.is_some_and(|newest| newest.last > branch.after) {
                let failed = drill(source, branch.timeline(), progress).err();
                report.findings.extend(failed.map(|error| finding(source.to_string(), &error)));
            }
        }
    }
    Ok(report)
}

fn finding(place: String, error: &dyn std::fmt::Display) -> Finding {
    Finding {
        what: error.to_string(),
        where_: place,
        remedy: "restore points that need it are lost here: copy it from another destination, or \
                 start the daemon on an empty destination"
            .into(),
    }
}

/// Reads one object whole, and notes its place in the chain. Nothing can be said of a replica that
/// a newer version wrote, or that is sealed with a key which is not there.
fn object(
    source: &dyn Backend,
    replica: &Replica,
    name: &Name,
    links: &mut Links,
) -> Result<Option<Finding>> {
    let place = format!("{source}/{name}");
    let bytes = match source.get(name) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Some(finding(place, &error))),
    };
    match contents(replica, name, bytes, links) {
        Ok(missing) => Ok(missing.map(|missing| finding(place, &missing))),
        Err(damage) => match damaged(source, name, damage) {
            error if matches!(error.status, Status::Newer | Status::Key) => Err(error),
            _ => Ok(Some(finding(place, &damage))),
        },
    }
}

/// Decodes all of an object; what it needs and is not there.
fn contents(
    replica: &Replica,
    name: &Name,
    bytes: Vec<u8>,
    links: &mut Links,
) -> std::result::Result<Option<String>, Damage> {
    match name {
        Name::Timeline(timeline) => {
            links.forks.insert(*timeline, Fork::decode(*timeline, bytes)?);
        }
        Name::Part(part) => PartPages::open(*part, bytes)?.check()?,
        Name::Change(change) => {
            let set = ChangeSet::open(change, bytes)?;
            set.pages_at(change.span.first, |_, _, _| Ok::<(), Damage>(()))?;
            links.note(change, &set);
        }
        Name::Snapshot(span) => {
            let manifest = Manifest::decode(*span, bytes)?;
            links.snapshots.insert(*span, manifest.chain);
            let lost = manifest.parts.iter().find(|part| !replica.parts.contains_key(&part.part));
            return Ok(lost.map(|part| format!("it needs {}, which is missing", part.name())));
        }
    }
    Ok(None)
}

/// Restores the newest commit, or a branch's, beside the system's temporary files, and throws it away.
fn drill(
    source: &Arc<dyn Backend>,
    timeline: Option<Timeline>,
    progress: &dyn Progress,
) -> Result<restore::Report> {
    let failed =
        |error: std::io::Error| crate::error::Error::io("create", "a scratch directory", &error);
    let scratch = tempfile::tempdir().map_err(failed)?;
    let options = Options {
        output: &scratch.path().join("restored.db"),
        target: Target::Latest,
        timeline,
        check: Check::Full,
        force: false,
        dry_run: false,
    };
    restore::restore(source, &options, progress)
}

#[cfg(test)]
mod tests;
