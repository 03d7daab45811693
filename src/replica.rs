//! What a listing of a destination means: which timelines there are, which commits can be restored,
//! and which objects that takes. Names alone are enough, but for the few records that say where a
//! timeline left its parent.
//!
//! Objects of an older timeline past the point where a newer one left it belong to an abandoned
//! branch, and are passed over, unless that branch is asked for. Nothing is read but timeline records;
//! nothing is written.

mod branch;
mod path;

pub use branch::Branch;

use crate::ahead::{FETCHERS, ahead};
use crate::backend::{self, Backend, Kind, Listing, list_all};
use crate::change::ChangeSet;
use crate::commit::{Chain, CommitNo, Time, Timeline};
use crate::error::{Error, Result, Status};
use crate::name::{Change, Name, Part, Span};
use crate::object::Damage;
use crate::sabotage;
use crate::snapshot::{Fork, Manifest};
use std::collections::{BTreeMap, HashMap};
use std::iter;

/// A replica as listed.
#[derive(Debug, Default)]
pub struct Replica {
    pub timelines: Vec<Timeline>,
    pub snapshots: Vec<Span>,
    /// The parts of each change-set, in order; only those that are there.
    pub changes: BTreeMap<(Span, u8), Vec<Change>>,
    pub parts: HashMap<Part, u64>,
    pub foreign: Vec<String>,
    pub objects: Vec<backend::Entry>,
}

/// A piece of a timeline's ancestry: the commits in `after+1..=until` belong to `timeline`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub timeline: Timeline,
    pub after: CommitNo,
    pub until: CommitNo,
    /// The lineage of the commit `after`.
    pub chain: Chain,
    /// It begins with a snapshot.
    pub anew: bool,
    /// The newest commit that was there when it was claimed, if not all up to `after`.
    pub held: Option<CommitNo>,
}

impl Stretch {
    /// Whether what it goes on from is in one of the runs: all of it, or what was there of it.
    pub fn stands_on(&self, runs: &[Run]) -> bool {
        let holds = |commit| runs.iter().any(|run| run.holds(commit));
        let held = |commit| commit == CommitNo(0) || holds(commit);
        holds(self.after) || self.held.is_some_and(held)
    }
}

/// Consecutive commits that can each be restored, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The oldest snapshot of the run; the commits from its last one on can be restored.
    pub snapshot: Span,
    /// All snapshots in it, oldest first.
    pub snapshots: Vec<Span>,
    /// The change-sets from the oldest snapshot's first part on, in order, without a gap.
    pub changes: Vec<Span>,
}

impl Run {
    pub fn first(&self) -> CommitNo {
        let Span { last, .. } = self.snapshot;
        last
    }

    pub fn from(&self) -> Time {
        self.snapshot.time
    }

    /// When its newest snapshot was finished.
    pub fn last_snapshot(&self) -> Time {
        self.snapshots.last().unwrap_or(&self.snapshot).time
    }

    pub fn end(&self) -> &Span {
        self.changes.last().filter(|last| last.last > self.snapshot.last).unwrap_or(&self.snapshot)
    }

    pub fn holds(&self, commit: CommitNo) -> bool {
        (self.first()..=self.end().last).contains(&commit)
    }
}

/// The objects that restore one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub commit: CommitNo,
    /// The timelines that go on from this commit, and the lineage that they say it has.
    pub forks: Vec<(Timeline, Chain)>,
    pub snapshot: Span,
    /// Oldest first, each with its parts in order.
    pub changes: Vec<Vec<Change>>,
}

impl Replica {
    pub fn list(source: &dyn Backend) -> Result<Self> {
        let Listing { entries, foreign, .. } = list_whole(source)?;
        Ok(Self { foreign, ..Self::of(entries) })
    }

    /// The same without the parts of snapshots, which are many, and say nothing that a manifest does not.
    pub fn list_without_parts(source: &dyn Backend) -> Result<Self> {
        let mut entries = Vec::new();
        for prefix in PREFIXES.into_iter().filter(|prefix| *prefix != Name::PARTS) {
            entries.extend(list_all(source, prefix)?.entries);
        }
        Ok(Self::of(entries))
    }

    /// What there would be if one object were not.
    pub fn without(&self, name: &Name) -> Self {
        Self::of(self.objects.iter().filter(|entry| entry.name != *name).cloned().collect())
    }

    /// The replica that these objects are.
    pub fn of(mut objects: Vec<backend::Entry>) -> Self {
        objects.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut replica = Self { objects, ..Self::default() };
        for entry in &replica.objects {
            match entry.name {
                Name::Timeline(timeline) => replica.timelines.push(timeline),
                Name::Snapshot(span) => replica.snapshots.push(span),
                Name::Part(part) => drop(replica.parts.insert(part, entry.bytes)),
                Name::Change(change) => {
                    replica.changes.entry((change.span, change.level)).or_default().push(change);
                }
            }
        }
        replica.timelines.sort_unstable();
        replica.changes.values_mut().for_each(|parts| parts.sort_unstable_by_key(|c| c.part));
        replica
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The newest timeline that anything speaks of: a listing may lack its record.
    pub fn newest_timeline(&self) -> Timeline {
        let used = self.spans().map(|span| span.timeline);
        used.chain(self.newest_record()).max().unwrap_or_default()
    }

    /// The newest timeline whose record was listed.
    pub fn newest_record(&self) -> Option<Timeline> {
        self.timelines.last().copied()
    }

    /// The newest timeline's ancestry, newest first, read from the timelines' records.
    pub fn ancestry(&self, source: &dyn Backend) -> Result<Vec<Stretch>> {
        self.ancestry_with(source, &mut BTreeMap::new())
    }

    /// The same, and the records that it took. The newest timeline that objects are of is asked for its
    /// record whether that was listed or not: without it an older state would be taken for the last, and
    /// a listing may be behind another one that was made before it.
    fn ancestry_with(&self, source: &dyn Backend, forks: &mut Forks) -> Result<Vec<Stretch>> {
        let used = self.spans().map(|span| span.timeline).max().unwrap_or_default();
        let counts = self.newest_that_counts(source, forks, used)?;
        lineage(source, &self.timelines, counts, forks)
    }

    /// The newest timeline but for numbers that were claimed to fill up to a later one, which is not there
    /// yet, or never came: what is durable below them stays the newest.
    fn newest_that_counts(
        &self,
        source: &dyn Backend,
        forks: &mut Forks,
        used: Timeline,
    ) -> Result<Timeline> {
        if used == Timeline::default() {
            return Ok(self.newest_timeline());
        }
        for timeline in self.timelines.iter().rev().copied().filter(|it| *it > used) {
            if !forks.contains_key(&timeline) {
                read_forks(source, &self.timelines, timeline, forks)?;
            }
            if !forks[&timeline].placeholder {
                return Ok(timeline);
            }
        }
        Ok(used)
    }

    /// Reads the records of all timelines that are not known yet.
    pub fn read_forks(&self, source: &dyn Backend, forks: &mut Forks) -> Result<()> {
        for timeline in &self.timelines {
            if !forks.contains_key(timeline) {
                forks.insert(*timeline, read_fork(source, *timeline)?);
            }
        }
        Ok(())
    }

    /// What every change-set and snapshot says it is, whole or not.
    pub fn spans(&self) -> impl Iterator<Item = &Span> {
        self.changes.keys().map(|(span, _)| span).chain(&self.snapshots)
    }

    /// Every run of restorable commits along the ancestry, oldest first.
    pub fn runs(&self, ancestry: &[Stretch]) -> Vec<Run> {
        let mut snapshots: Vec<Span> =
            self.snapshots.iter().filter(|span| is_on(ancestry, span)).copied().collect();
        snapshots.sort_unstable_by_key(|span| (span.last, span.timeline));
        let changes = self.whole(|span| is_on(ancestry, span));
        let mut runs: Vec<Run> = Vec::new();
        for snapshot in snapshots {
            match runs.last_mut() {
                Some(run) if run.holds(snapshot.last) => run.snapshots.push(snapshot),
                _ => runs.extend(run_from(snapshot, &changes)),
            }
        }
        runs
    }

    /// The newest commit along the ancestry that anything speaks of, restorable or not. What was
    /// never finished does not count: a change-set without its last part, and the commits of a
    /// timeline that begins with a snapshot which is not there.
    pub fn newest(&self, ancestry: &[Stretch]) -> Option<Span> {
        let finished = self.changes.iter().filter(|(_, parts)| parts.iter().any(|part| part.end));
        let spans = finished.map(|((span, _), _)| span).chain(&self.snapshots);
        let counts = |span: &&Span| {
            let at = ancestry.iter().find(|at| at.timeline == span.timeline);
            at.is_some_and(|at| span.last <= at.until && (!at.anew || self.has_snapshot(at)))
        };
        spans.filter(counts).max_by_key(|span| span.last).copied()
    }

    fn has_snapshot(&self, at: &Stretch) -> bool {
        let mut snapshots = self.snapshots.iter();
        snapshots.any(|span| span.timeline == at.timeline && span.last <= at.until)
    }

    /// The ancestry's newest timeline, if it begins with a snapshot that was never finished: what was
    /// committed on it cannot be restored. A snapshot that was finished and is missing is an error:
    /// commits have a digest once it stands, and none before.
    pub fn unfinished(
        &self,
        source: &dyn Backend,
        ancestry: &[Stretch],
    ) -> Result<Option<Timeline>> {
        let newest = ancestry.first().filter(|at| at.anew && !self.has_snapshot(at));
        let Some(Stretch { timeline, after, .. }) = newest else { return Ok(None) };
        let on_it = self.changes.iter().filter(|((span, _), _)| span.timeline == *timeline);
        let ends = on_it.filter_map(|(_, parts)| parts.iter().find(|part| part.end));
        if let Some(last) = ends.max_by_key(|end| end.span.last) {
            let commits = read_change(source, last)?.commits;
            if commits.last().is_some_and(|commit| commit.digest.is_some()) {
                let cause = format!("the snapshot that timeline {timeline} begins with is missing");
                let error = Error::new(Status::Integrity, "read", source, cause);
                return Err(match *after {
                    CommitNo(0) => error.hint("run `bakelite verify` to see what is missing"),
                    after => error.hint(format!(
                        "what came before it can be restored, up to --commit {after} --timeline \
                         {timeline}"
                    )),
                });
            }
        }
        Ok(Some(*timeline))
    }

    /// The parts of a change-set that is whole, in order.
    pub fn parts_of(&self, span: Span) -> Option<&Vec<Change>> {
        let levels = self.changes.range((span, 0)..=(span, u8::MAX));
        levels.map(|(_, parts)| parts).find(|parts| is_whole(parts))
    }

    /// Whether others lead to the last commit of this change-set from the one before its first, as those
    /// do that it was merged from. Those that go past it may not count where it does.
    pub fn has_instead_of(&self, change: &Change) -> bool {
        let Change { span, .. } = *change;
        let counts = |it: &Span| it.timeline == span.timeline && it.last <= span.last;
        let others = self.without(&Name::Change(*change)).whole(counts);
        let way = path::farthest(&others, CommitNo(span.first.0.saturating_sub(1)));
        way.last().is_some_and(|end| end.last == span.last)
    }

    /// The change-sets that count and are whole, by their first commit, with their levels.
    fn whole(&self, counts: impl Fn(&Span) -> bool) -> Vec<(Span, u8)> {
        let whole = self.changes.iter().filter(|(_, parts)| is_whole(parts));
        let whole = whole.map(|(key, _)| *key).filter(|(span, _)| counts(span));
        let mut whole: Vec<_> = whole.collect();
        whole.sort_unstable_by_key(|(span, level)| (span.first, span.last, *level));
        whole
    }

    /// What restores `commit`, which `run` holds: its newest snapshot up to there, and the rest.
    pub fn plan(&self, ancestry: &[Stretch], run: &Run, commit: CommitNo) -> Plan {
        assert!(run.holds(commit), "a run restores the commits that it holds");
        let before = run.snapshots.iter().filter(|snapshot| snapshot.last <= commit);
        let snapshot = *before.max_by_key(|snapshot| snapshot.last).unwrap_or(&run.snapshot);
        let changes = self.changes_between(ancestry, snapshot.first, commit);
        Plan { commit, forks: Vec::new(), snapshot, changes }
    }

    /// The change-sets that lead from the state after `from` to that after `to`, each with its parts.
    pub fn changes_between(
        &self,
        ancestry: &[Stretch],
        from: CommitNo,
        to: CommitNo,
    ) -> Vec<Vec<Change>> {
        let path = path::to_commit(&self.whole(|span| is_on(ancestry, span)), from, to);
        path.iter().filter_map(|key| self.changes.get(key).cloned()).collect()
    }
}

/// A writer puts what others build on first: a timeline before its objects, parts before the manifest that
/// names them. Listed the other way round, nothing seems to lack its base.
const PREFIXES: [&str; 4] = [Name::SNAPSHOTS, Name::PARTS, Name::CHANGES, Name::TIMELINES];

/// Everything that a destination lists.
pub fn list_whole(source: &dyn Backend) -> std::result::Result<Listing, backend::Error> {
    let mut whole = Listing::default();
    for prefix in PREFIXES {
        let listing = list_all(source, prefix)?;
        whole.foreign.extend(listing.foreign);
        whole.entries.extend(listing.entries);
    }
    Ok(whole)
}

/// Whether these commits count, or belong to an abandoned branch.
pub fn is_on(ancestry: &[Stretch], span: &Span) -> bool {
    ancestry.iter().any(|at| {
        at.timeline == span.timeline && (span.last <= at.until || sabotage::is("follow-abandoned"))
    })
}

/// Records of timelines, each read once.
pub type Forks = BTreeMap<Timeline, Fork>;

/// How `timeline` came to be, newest first. What others did that left it later is no part of that.
fn lineage(
    source: &dyn Backend,
    known: &[Timeline],
    timeline: Timeline,
    forks: &mut Forks,
) -> Result<Vec<Stretch>> {
    let mut stretches = Vec::new();
    let (mut timeline, mut until) = (timeline, CommitNo(u64::MAX));
    while timeline != Timeline::default() {
        if !forks.contains_key(&timeline) {
            read_forks(source, known, timeline, forks)?;
        }
        let Fork { commit: after, chain, anew, parent, held, .. } = forks[&timeline];
        // One that was left before it began adds nothing, and where it began is no matter any more.
        if after <= until {
            stretches.push(Stretch { timeline, after, until, chain, anew, held });
            until = after;
        }
        timeline = parent;
    }
    Ok(stretches)
}

/// Reads the record of `timeline`, and of the known ones just before it, which mostly are what it
/// goes on from: one after the other, those of many starts would take their time.
fn read_forks(
    source: &dyn Backend,
    known: &[Timeline],
    timeline: Timeline,
    forks: &mut Forks,
) -> Result<()> {
    let before = known.iter().rev().filter(|it| **it < timeline && !forks.contains_key(it));
    let batch: Vec<_> = iter::once(&timeline).chain(before).take(FETCHERS).copied().collect();
    ahead(
        &batch,
        |_| 0,
        |it| Ok(read_fork(source, *it)),
        |it, fork| {
            match fork {
                Ok(fork) => drop(forks.insert(*it, fork)),
                // Nobody may ever need it.
                Err(_) if *it != timeline => {}
                Err(error) => return Err(error),
            }
            Ok(())
        },
    )
}

/// Where `timeline` left its parent.
pub fn read_fork(source: &dyn Backend, timeline: Timeline) -> Result<Fork> {
    let name = Name::Timeline(timeline);
    let bytes = fetch(source, &name)?;
    Fork::decode(timeline, bytes).map_err(|damage| damaged(source, &name, damage))
}

/// Opens one part of a change-set.
pub fn read_change(source: &dyn Backend, change: &Change) -> Result<ChangeSet> {
    let name = Name::Change(*change);
    let bytes = fetch(source, &name)?;
    ChangeSet::open(change, bytes).map_err(|damage| damaged(source, &name, damage))
}

/// Opens a snapshot's manifest.
pub fn read_manifest(source: &dyn Backend, span: &Span) -> Result<Manifest> {
    let name = Name::Snapshot(*span);
    let manifest = Manifest::decode(*span, fetch(source, &name)?);
    manifest.map_err(|damage| damaged(source, &name, damage))
}

/// Gets an object that others need: if it is not there, something is wrong with the replica.
pub fn fetch(source: &dyn Backend, name: &Name) -> Result<Vec<u8>> {
    source.get(name).map_err(|error| match error.kind {
        Kind::NotFound => lost(source, name),
        Kind::Corrupt => Error::from(error).hint(REPAIR).about(name),
        _ => error.into(),
    })
}

fn lost(source: &dyn Backend, name: &Name) -> Error {
    let error =
        Error::new(Status::Integrity, "read", format!("{source}/{name}"), "this object is missing");
    error.hint(REPAIR).about(name)
}

/// What can be done about an object that is missing or damaged.
pub const REPAIR: &str = "run: bakelite repair; it takes what is whole from another destination, and says \
                          what is lost";

/// The error for an object that is not what it should be.
pub fn damaged(source: &dyn Backend, name: &Name, damage: Damage) -> Error {
    let status = match damage {
        Damage::NewerVersion(_) | Damage::UnknownSeal(_) | Damage::UnknownCompression(_) => {
            Status::Newer
        }
        Damage::Sealed(_) => Status::Key,
        _ => Status::Integrity,
    };
    let error = Error::new(status, "read", format!("{source}/{name}"), damage).about(name);
    match status {
        Status::Newer => error.hint("use a newer bakelite; `bakelite version` says which this is"),
        Status::Key => error.hint(
            "name the file of that key too, with key_files, --key-file or BAKELITE_KEY_FILES",
        ),
        _ => error.hint(REPAIR),
    }
}

/// Parts 0, 1, 2 and so on to the one marked as the last.
pub fn is_whole(parts: &[Change]) -> bool {
    let numbered = parts.iter().enumerate().all(|(at, change)| usize::from(change.part) == at);
    let ends = parts.iter().filter(|change| change.end).count();
    let whole = numbered && ends == 1 && parts.last().is_some_and(|last| last.end);
    whole || sabotage::is("take-parts-for-whole")
}

/// The run that begins with `snapshot`; none if the change-sets do not lead from its first part to
/// its last.
fn run_from(snapshot: Span, changes: &[(Span, u8)]) -> Option<Run> {
    let changes = path::farthest(changes, snapshot.first);
    let reached = changes.last().map_or(snapshot.first, |span| span.last);
    let run = Run { snapshot, snapshots: vec![snapshot], changes };
    (reached >= snapshot.last).then_some(run)
}
