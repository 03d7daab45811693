//! Destinations of one database heal each other: what is missing or damaged on one is taken from
//! another one that has it whole. What none has is made again from the database itself, if it can be.
//!
//! An object is only ever put where nothing has its name, or in place of one that does not open.
//! Nothing is removed. What two destinations know differently of a timeline is never mixed, and what a
//! running daemon has not noted as stored yet is left alone: it may be on its way.

use crate::ahead::ahead;
use crate::backend::{Backend, Kind};
use crate::commit::{CommitNo, Time, Timeline};
use crate::compact;
use crate::error::{Error, Result, Status};
use crate::keep::{Cap, Keep};
use crate::name::{Change, Name, Span};
use crate::replica::{Replica, damaged, is_whole, read_manifest};
use crate::restore::Progress;
use crate::snapshot::PartRef;
use crate::upkeep;
use crate::verify::{Content, Links, Read, read};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

mod cure;
mod database;
mod lost;

pub use database::{Make, Needed, Pages};

/// What became of something that was not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Healed,
    /// It can be, by a run that is not dry.
    Curable,
    /// Nobody has it whole, or it cannot be put where it belongs.
    Hurt,
    /// It does no harm.
    Harmless,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub what: String,
    pub where_: String,
    pub remedy: String,
    pub outcome: Outcome,
}

#[derive(Debug, Default)]
pub struct Report {
    pub objects: u64,
    pub bytes: u64,
    pub findings: Vec<Finding>,
    /// A destination cannot restore the newest commit, and a new snapshot makes that good.
    pub wants_snapshot: bool,
}

impl Report {
    /// Whether nothing is left that does harm.
    pub fn ok(&self) -> bool {
        let harmless = [Outcome::Healed, Outcome::Harmless];
        self.findings.iter().all(|finding| harmless.contains(&finding.outcome))
    }

    /// What could not be done for a destination, or the database, as a whole.
    pub fn note_failed(&mut self, error: Option<Error>) {
        self.findings.extend(error.map(|error| Finding {
            what: error.to_string(),
            where_: error.place.clone(),
            remedy: error.hint.unwrap_or_else(|| "run it again later".into()),
            outcome: Outcome::Hurt,
        }));
    }
}

/// How to go about it.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    pub dry_run: bool,
    /// What upkeep would delete elsewhere is not missing.
    pub keep: &'a Keep,
    /// Nor is what there is no room for, by destination; none for those past the end.
    pub caps: &'a [Cap],
    pub clock: Time,
    /// What the daemon that runs has noted as stored, if one runs; read before anything is listed.
    pub settled: Option<(Timeline, CommitNo)>,
}

/// One destination: what it lists, and what of that is whole.
struct Place {
    source: Arc<dyn Backend>,
    replica: Replica,
    /// Hashes of the bodies.
    sound: BTreeMap<Name, [u8; 32]>,
    bad: BTreeMap<Name, String>,
    /// Timelines that were claimed here because another destination was further.
    unused: BTreeSet<Timeline>,
    /// Not read: neither can be said of it.
    unread: BTreeSet<Name>,
    /// The parts that its snapshots name, and those that snapshots to be kept name.
    named: HashSet<Name>,
    wanted: HashSet<Name>,
    /// What upkeep would delete: too old, or merged into others.
    surplus: BTreeSet<Name>,
    links: Links,
    cap: Cap,
    /// What it would be given: nothing can be read of that yet.
    promised: usize,
}

/// A part that a destination lacks, and the snapshots that are of no use without it.
struct Lacking {
    part: PartRef,
    snapshots: BTreeSet<Name>,
}

/// Heals `places`, the destinations of one database, whose pages `make` reads.
pub fn repair(
    places: Vec<Result<Arc<dyn Backend>>>,
    order: Order<'_>,
    make: Make,
    progress: &dyn Progress,
) -> Result<Report> {
    let mut report = Report::default();
    let mut here = list(places, order.caps, &mut report)?;
    let total = here.iter().flat_map(|place| &place.replica.objects).map(|it| it.bytes).sum();
    report.bytes = total;
    for place in &mut here {
        place.surplus = place.old(&order)?;
        report.objects += place.replica.objects.len() as u64;
        place.read(&mut report, &|done| progress.at(done, total))?;
        let merged = compact::merged(&place.sound_ones());
        place.surplus.extend(merged.into_keys().map(Name::Change));
    }
    cure::heal(&mut here, &order, &mut report)?;
    let mut made = 0;
    for place in &mut here {
        let findings = database::remake(place, &order, make)?;
        made += findings.len();
        report.findings.extend(findings);
    }
    if made > 0 {
        // What one has now is there for the others.
        cure::heal(&mut here, &order, &mut report)?;
    }
    for (at, place) in here.iter().enumerate() {
        report.findings.extend(clashes(&here, at));
        lost::find(place, &order, &mut report)?;
        if order.settled.is_none() {
            report.findings.extend(lost::orphans(place, &here));
        }
        report.findings.extend(place.replica.foreign.iter().map(|key| Finding {
            what: "not an object of ours".into(),
            where_: format!("{}/{key}", place.source),
            remedy: "nothing reads it; remove it if you know where it comes from".into(),
            outcome: Outcome::Harmless,
        }));
    }
    Ok(report)
}

/// Those that can be listed; the others are findings.
fn list(
    places: Vec<Result<Arc<dyn Backend>>>,
    caps: &[Cap],
    report: &mut Report,
) -> Result<Vec<Place>> {
    let (mut here, mut failed) = (Vec::new(), None);
    let caps = caps.iter().copied().chain(std::iter::repeat(Cap::default()));
    for (source, cap) in places.into_iter().zip(caps) {
        let listed = source.and_then(|source| Ok((Replica::list(&*source)?, source)));
        match listed {
            Ok((replica, source)) => here.push(Place::new(source, replica, cap)),
            Err(error) => {
                report.note_failed(Some(error.clone()));
                failed.get_or_insert(error);
            }
        }
    }
    if here.iter().all(|place| place.replica.is_empty()) {
        let nothing = |place: &Place| {
            Error::new(Status::Missing, "repair", &place.source, "there is no replica here")
                .hint("check the path; start the daemon to make one")
        };
        return Err(failed.unwrap_or_else(|| nothing(&here[0])));
    }
    Ok(here)
}

impl Place {
    fn new(source: Arc<dyn Backend>, replica: Replica, cap: Cap) -> Self {
        Self {
            source,
            replica,
            sound: BTreeMap::new(),
            bad: BTreeMap::new(),
            unused: BTreeSet::new(),
            unread: BTreeSet::new(),
            named: HashSet::new(),
            wanted: HashSet::new(),
            surplus: BTreeSet::new(),
            links: Links::default(),
            cap,
            promised: 0,
        }
    }

    /// What is there, and too old. Where the timelines' records do not say, nothing is.
    fn old(&self, order: &Order) -> Result<BTreeSet<Name>> {
        match upkeep::old(&*self.source, &self.replica, order.keep, Cap::default(), order.clock) {
            Err(error) if error.status == Status::Integrity => Ok(BTreeSet::new()),
            old => old,
        }
    }

    /// The parts that are damaged or not there, and that snapshots name which are.
    fn lacking(&self) -> Result<BTreeMap<Name, Lacking>> {
        let mut lacking: BTreeMap<Name, Lacking> = BTreeMap::new();
        let whole = |name: &Name| self.sound.contains_key(name) || self.unread.contains(name);
        if self.named.iter().all(whole) {
            return Ok(lacking);
        }
        for name in self.sound.keys() {
            let Name::Snapshot(span) = name else { continue };
            let parts = match read_manifest(&*self.source, span) {
                Err(error) if error.status == Status::Integrity => continue,
                manifest => manifest?.parts,
            };
            for part in parts.into_iter().filter(|part| !whole(&part.name())) {
                let snapshots = BTreeSet::new();
                let it = lacking.entry(part.name()).or_insert(Lacking { part, snapshots });
                it.snapshots.insert(name.clone());
            }
        }
        Ok(lacking)
    }

    fn sound_ones(&self) -> Replica {
        let entries = self.replica.objects.iter();
        Replica::of(entries.filter(|it| self.sound.contains_key(&it.name)).cloned().collect())
    }

    /// Reads every object whole.
    fn read(&mut self, report: &mut Report, progress: &dyn Fn(u64)) -> Result<()> {
        let Self { source, replica, sound, bad, unused, unread, links, .. } = self;
        let Self { named, wanted, surplus, .. } = self;
        let mut done = 0;
        ahead(
            &replica.objects,
            |entry| entry.bytes,
            |entry| Ok(read(&**source, &entry.name)),
            |entry, read| {
                let name = entry.name.clone();
                done += entry.bytes;
                progress(done);
                match read {
                    Read::Sound(hash, content) => {
                        links.note(&name, &content);
                        unused.extend(name.timeline().filter(|_| content.is_placeholder()));
                        let parts = parts_of(&content);
                        if !surplus.contains(&name) {
                            wanted.extend(parts.iter().cloned());
                        }
                        named.extend(parts);
                        sound.insert(name, hash);
                    }
                    Read::Damaged(damage) => match damaged(&**source, &name, damage) {
                        error if error.status != Status::Integrity => return Err(error),
                        _ => drop(bad.insert(name, damage.to_string())),
                    },
                    // Upkeep has removed it since, and it is not to come back.
                    Read::Unreadable(error) if error.kind == Kind::NotFound => {
                        unread.insert(name);
                    }
                    // And one that anybody could have put there, though all has to be sealed.
                    Read::Unreadable(error) if matches!(error.kind, Kind::Corrupt | Kind::Key) => {
                        bad.insert(name, error.cause);
                    }
                    Read::Unreadable(error) => {
                        report.findings.push(Finding {
                            what: error.cause.clone(),
                            where_: format!("{source}/{name}"),
                            remedy: error.hint.unwrap_or_else(|| "run it again later".into()),
                            outcome: Outcome::Hurt,
                        });
                        unread.insert(name);
                    }
                }
                Ok(())
            },
        )
    }

    fn record(&self, timeline: Timeline) -> Option<&[u8; 32]> {
        self.sound.get(&Name::Timeline(timeline))
    }

    /// The newest timeline that anything speaks of.
    fn newest(&self) -> Option<Timeline> {
        self.replica.objects.iter().filter_map(|entry| entry.name.timeline()).max()
    }

    /// Whether nothing was ever stored on a timeline here, or there.
    fn is_unused(&self, other: &Self, timeline: Option<Timeline>) -> bool {
        let unused = [&self.unused, &other.unused];
        timeline.is_some_and(|timeline| unused.iter().any(|it| it.contains(&timeline)))
    }

    /// Whether another destination has something else under one of these names.
    fn conflicts(&self, other: &Self, of: impl Fn(&Name) -> bool) -> bool {
        let used = |name: &Name| !self.is_unused(other, name.timeline());
        let mut both = self.sound.iter().filter(|(name, _)| of(name) && used(name));
        both.any(|(name, hash)| other.sound.get(name).is_some_and(|theirs| theirs != hash))
    }

    /// Whether objects of a timeline mean the same on another destination. Where the record is not
    /// there to tell, nothing at all may say otherwise.
    fn agrees(&self, other: &Self, timeline: Timeline) -> bool {
        match (self.record(timeline), other.record(timeline)) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => {
                let record = |name: &Name| matches!(name, Name::Timeline(_));
                let of = |name: &Name| record(name) || name.timeline() == Some(timeline);
                !self.conflicts(other, of)
            }
        }
    }

    /// Whether an object that another destination has belongs here: it is of the same replica, upkeep
    /// has not removed it here and would not there, and the commits are not here in other
    /// change-sets. Of timelines past all that is known here, only those of one that leads on from
    /// here.
    fn wants(&self, other: &Self, name: &Name) -> bool {
        let Some(timeline) = name.timeline() else { return other.wanted.contains(name) };
        if !self.agrees(other, timeline) || other.surplus.contains(name) {
            return false;
        }
        if Some(timeline) > self.newest() {
            return !self.conflicts(other, |name| matches!(name, Name::Timeline(_)));
        }
        !self.covers(name)
    }

    /// Whether change-sets that are here, whole, hold all the commits of one that is not: they were
    /// merged there and not here, or here and not there.
    fn covers(&self, name: &Name) -> bool {
        let Name::Change(Change { span: Span { first, last, timeline, .. }, .. }) = *name else {
            return false;
        };
        let overlaps = |it: &Span| it.timeline == timeline && it.first <= last && first <= it.last;
        let sound = |it: &Change| self.sound.contains_key(&Name::Change(*it));
        let mut reached = CommitNo(first.0.saturating_sub(1));
        for ((span, _), parts) in self.replica.changes.iter().filter(|((it, _), _)| overlaps(it)) {
            if span.first <= reached.next() && is_whole(parts) && parts.iter().all(sound) {
                reached = reached.max(span.last);
            }
        }
        reached >= last
    }
}

fn parts_of(content: &Content) -> Vec<Name> {
    let Content::Snapshot(manifest) = content else { return Vec::new() };
    manifest.parts.iter().map(PartRef::name).collect()
}

/// Whether a daemon that runs may still be about to store it.
fn is_on_its_way(name: &Name, order: &Order) -> bool {
    let Some((timeline, commit)) = order.settled else { return false };
    match name {
        Name::Timeline(it) => *it > timeline,
        Name::Snapshot(span) => span.last > commit || span.timeline > timeline,
        Name::Change(it) => it.span.last > commit || it.span.timeline > timeline,
        Name::Part(_) => false,
    }
}

/// Objects that are whole here and on an earlier destination, and not the same.
fn clashes(here: &[Place], at: usize) -> Vec<Finding> {
    let place = &here[at];
    let mut found = Vec::new();
    for other in &here[..at] {
        let clash = |(name, hash): &(&Name, &[u8; 32])| {
            let alike = match name {
                Name::Timeline(timeline) => !place.is_unused(other, Some(*timeline)),
                name => name.timeline().is_none_or(|timeline| place.agrees(other, timeline)),
            };
            alike && other.sound.get(*name).is_some_and(|theirs| theirs != *hash)
        };
        found.extend(place.sound.iter().filter(clash).map(|(name, _)| Finding {
            what: format!("it is another object than {}/{name}", other.source),
            where_: format!("{}/{name}", place.source),
            remedy: "restore from each, and keep the one with the history that is wanted".into(),
            outcome: Outcome::Hurt,
        }));
    }
    found
}

#[cfg(test)]
mod tests;
