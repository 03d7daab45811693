//! Whether a replica would come back. Shallow: every object is read, its checksums, its name and its
//! place in the chain are checked, and that no commit is missing. Deep: the newest commit is restored
//! as well, its digest proved, and SQLite's own integrity check run over it.

use crate::backend::Backend;
use crate::change::ChangeSet;
use crate::commit::{Chain, CommitNo, Timeline};
use crate::error::{Result, Status};
use crate::name::Name;
use crate::object::Damage;
use crate::replica::{Replica, Stretch, read_change, read_fork};
use crate::restore::{self, Check, Options, Progress, Target};
use crate::snapshot::{Fork, Manifest, PartPages};
use std::sync::Arc;

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
    let mut done = 0;
    for entry in &replica.objects {
        report.findings.extend(object(&**source, &replica, &entry.name));
        done += entry.bytes;
        progress.at(done, bytes);
    }
    report.findings.extend(replica.foreign.iter().map(|key| Finding {
        what: "not an object of ours".into(),
        where_: format!("{source}/{key}"),
        remedy: "nothing reads it; remove it if you know where it comes from".into(),
    }));
    report.findings.extend(chain(&**source, &replica));
    if deep && report.findings.is_empty() {
        match drill(source, progress) {
            Ok(restored) => report.restored = Some(restored),
            Err(error) => report.findings.push(finding(source.to_string(), &error)),
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

/// Reads one object whole.
fn object(source: &dyn Backend, replica: &Replica, name: &Name) -> Option<Finding> {
    let place = format!("{source}/{name}");
    let bytes = match source.get(name) {
        Ok(bytes) => bytes,
        Err(error) => return Some(finding(place, &error)),
    };
    match contents(replica, name, bytes) {
        Ok(missing) if missing.is_empty() => None,
        Ok(missing) => Some(finding(place, &format!("it names {missing}, which is not there"))),
        Err(damage) => Some(finding(place, &damage)),
    }
}

/// Decodes all of an object; the first part of a snapshot that is missing.
fn contents(replica: &Replica, name: &Name, bytes: Vec<u8>) -> std::result::Result<String, Damage> {
    let mut missing = String::new();
    match name {
        Name::Timeline(timeline) => drop(Fork::decode(*timeline, bytes)?),
        Name::Part(part) => PartPages::open(*part, bytes)?.check()?,
        Name::Change(change) => {
            ChangeSet::open(change, bytes)?
                .pages_at(change.span.first, |_, _, _| Ok::<(), Damage>(()))?;
        }
        Name::Snapshot(span) => {
            let manifest = Manifest::decode(*span, bytes)?;
            let lost = manifest.parts.iter().find(|part| !replica.parts.contains_key(&part.part));
            missing = lost.map(|part| part.name().to_string()).unwrap_or_default();
        }
    }
    Ok(missing)
}

/// That the newest commit can be reached, and no commit before it is missing.
fn chain(source: &dyn Backend, replica: &Replica) -> Vec<Finding> {
    let ancestry: Vec<Stretch> = match replica.ancestry(source) {
        Ok(ancestry) => ancestry,
        Err(error) => return vec![finding(source.to_string(), &error)],
    };
    let runs = replica.runs(&ancestry);
    let newest = replica.newest(&ancestry);
    let reached = runs.last().map(|run| run.end().last);
    let mut findings = lineage(source, replica, &ancestry);
    match replica.unfinished(source, &ancestry) {
        Ok(None) => {}
        Ok(Some(timeline)) => findings.push(Finding {
            what: format!("the snapshot that timeline {timeline} begins with was not finished"),
            where_: source.to_string(),
            remedy: "start the daemon, or run `bakelite sync`".into(),
        }),
        Err(error) => findings.push(finding(source.to_string(), &error)),
    }
    if newest.map(|span| span.last) != reached {
        let cause = format!(
            "commits up to {} are known, but restore points end at {}",
            newest.map_or(0, |span| span.last.0),
            reached.map_or(0, |commit| commit.0),
        );
        findings.push(finding(source.to_string(), &cause));
    }
    findings
}

/// That each timeline leaves its parent where its record says, with the lineage that it says.
fn lineage(source: &dyn Backend, replica: &Replica, ancestry: &[Stretch]) -> Vec<Finding> {
    let forks = ancestry.iter().zip(ancestry.iter().skip(1));
    let wrong = forks.filter_map(|(child, parent)| {
        let fork = read_fork(source, child.timeline).ok()?;
        let chain = chain_at(source, replica, parent.timeline, fork.commit)?;
        let name = Name::Timeline(child.timeline);
        let what = "it does not belong to this replica: its lineage is another one";
        (chain != fork.chain).then(|| finding(format!("{source}/{name}"), &what))
    });
    wrong.collect()
}

/// The lineage of a commit, as the objects of a timeline have it; `None` if none of them tells.
fn chain_at(
    source: &dyn Backend,
    replica: &Replica,
    timeline: Timeline,
    commit: CommitNo,
) -> Option<Chain> {
    let spans = replica.changes.iter().filter(|((span, _), _)| span.timeline == timeline);
    let mut holding = spans.filter(|((span, _), _)| (span.first..=span.last).contains(&commit));
    if let Some(end) = holding.find_map(|(_, parts)| parts.iter().find(|part| part.end)) {
        let set = read_change(source, end).ok()?;
        let upto = set.commits.iter().filter(|each| each.number <= commit);
        let size = set.header().page_size;
        return Some(upto.fold(set.header().parent, |chain, each| chain.after(size, each)));
    }
    let mut snapshots = replica.snapshots.iter();
    let span = snapshots.find(|span| span.timeline == timeline && span.last == commit)?;
    let bytes = source.get(&Name::Snapshot(*span)).ok()?;
    Some(Manifest::decode(*span, bytes).ok()?.chain)
}

/// Restores the newest commit beside the system's temporary files, and throws it away.
fn drill(source: &Arc<dyn Backend>, progress: &dyn Progress) -> Result<restore::Report> {
    let failed =
        |error: std::io::Error| crate::error::Error::io("create", "a scratch directory", &error);
    let scratch = tempfile::tempdir().map_err(failed)?;
    let options = Options {
        output: &scratch.path().join("restored.db"),
        target: Target::Latest,
        check: Check::Full,
        force: false,
        dry_run: false,
    };
    restore::restore(source, &options, progress)
}
