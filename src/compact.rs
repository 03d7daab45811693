//! Compaction: which change-sets become one, and the one that they become.
//!
//! Merging never takes a restore point away that `keep` asks for, never joins timelines, gaps or page
//! sizes, and never ends anywhere but where one of the change-sets merged did: so what stands for
//! others can be told from names. A change-set is merged into one of a higher level only, so a listing
//! made meanwhile, which sees low levels first, always sees a commit in one of the two.
//!
//! Names are planned with, and bodies handed in: nothing is read or written here, and no clock.

use crate::change::{Builder, ChangeSet, Point};
use crate::commit::{Chain, CommitNo, PageNo, PageSize, Time, Timeline};
use crate::error::{Error, Status};
use crate::keep::{Keep, Level, Place, bucket};
use crate::name::{Change, Name};
use crate::object::{Compression, Damage};
use crate::replica::{Forks, Replica, is_whole};
use crate::sabotage;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// No merged change-set is begun beyond what this many bytes before compression take, so that a merge
/// holds a few times as much, whatever its window holds. What does not fit goes to the next one.
const MERGED_BYTES: usize = 12 << 20;
/// Stored ones of this size are not worth rewriting only to have fewer.
const LARGE_BYTES: u64 = 1 << 20;

/// What decides about merging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub keep: Keep,
    pub levels: Vec<Level>,
}

impl Policy {
    pub fn new(keep: &Keep, compaction: &[Duration]) -> Self {
        Self { keep: keep.clone(), levels: keep.levels(compaction) }
    }
}

/// Consecutive change-sets to be merged, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Merge {
    pub inputs: Vec<Change>,
    pub level: u8,
    /// What ages count to. It follows from the window, so the same comes of it on every destination,
    /// whenever that is kept up.
    pub now: Time,
    /// Points that are kept whatever their age: snapshots and other timelines begin there.
    pub pins: BTreeSet<CommitNo>,
}

/// What there is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Change-sets that are merged already, and not deleted yet: by the one that stands for them.
    pub merged: BTreeMap<Change, Vec<Change>>,
    pub merges: Vec<Merge>,
}

/// A leap of the times of commits makes nothing old before commits have gone on for this long after
/// it: the clock may be wrong, and whoever keeps it may see that by then.
const LEAP_MS: u64 = 86_400_000;
/// So many of them, each soon after the one before: commits keep the times of a clock that was wrong until
/// it is as late as that, and it may go wrong again meanwhile. A database that is written to once a week has
/// no others, and is not to be kept for ever.
const LEAPS: usize = 2;

/// When it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub clock: Time,
    /// Ages count from here: the newest commit, unless that is stamped in the future, or comes so soon
    /// after a leap that it may be.
    pub reference: Time,
}

impl Now {
    pub fn new(clock: Time, replica: &Replica) -> Self {
        let spans = replica.changes.keys().map(|(span, _)| span).chain(&replica.snapshots);
        let times: BTreeSet<u64> = spans.map(|span| span.time.0).collect();
        let newest = times.last().map_or(clock, |newest| Time(*newest));
        let before_leaps = std::iter::successors(Some(newest), |time| before_a_leap(&times, *time));
        let trusted = before_leaps.take(1 + LEAPS).last().expect("the first one is there");
        Self { clock, reference: trusted.min(clock) }
    }
}

/// The time from which it leapt less than `LEAP_MS` before `time`, if it did.
fn before_a_leap(times: &BTreeSet<u64>, time: Time) -> Option<Time> {
    let lately = time.0.saturating_sub(LEAP_MS);
    let before = *times.range(..=lately).next_back()?;
    let after = *times.range(lately + 1..).next()?;
    (after - before > LEAP_MS).then_some(Time(before))
}

/// Plans what to merge of the commits up to `upto`.
pub fn plan(replica: &Replica, forks: &Forks, policy: &Policy, now: Now, upto: CommitNo) -> Plan {
    let bytes: HashMap<_, _> = replica.objects.iter().map(|it| (&it.name, it.bytes)).collect();
    let mut plan = Plan::default();
    for (timeline, sets) in timelines(replica) {
        let left = split_merged(sets, &mut plan.merged);
        let branches: BTreeSet<CommitNo> =
            forks.values().filter(|it| it.parent == timeline).map(|fork| fork.commit).collect();
        let snapshots = replica.snapshots.iter().filter(|span| span.timeline == timeline);
        let pins: BTreeSet<_> =
            snapshots.map(|span| span.last).chain(branches.iter().copied()).collect();
        let mut left: Vec<_> = left.into_iter().filter(|set| set.span.last <= upto).collect();
        if timeline == replica.newest_timeline() {
            // A writer looks for what it stored last, to see whether the destination still is what it was.
            left.pop();
        }
        for level in policy.levels.iter().rev() {
            let large = |set: &Change| bytes.get(&Name::Change(*set)) >= Some(&LARGE_BYTES);
            let fits = |set: &Change| {
                set.level < level.number
                    && (is_due(level, set, now) || is_ahead(level, set, now))
                    && (level.thins || !large(set))
            };
            let side = |set: &Change| branches.range(..set.span.last).count();
            let together = |a: &Change, b: &Change| {
                fits(a)
                    && fits(b)
                    && a.span.last.next() == b.span.first
                    && window(level, a) == window(level, b)
                    && (side(a) == side(b) || sabotage::is("merge-across-branches"))
            };
            let groups = left.chunk_by(together).filter(|group| fits(&group[0]));
            let worth = |group: &&[Change]| match is_ahead(level, &group[0], now) {
                true => is_many(group, level, &policy.levels),
                false => group.len() > 1 || level.thins && group[0].span.first < group[0].span.last,
            };
            let merges: Vec<Merge> = groups
                .filter(worth)
                .map(|group| {
                    let (first, last) = (group[0].span.first, group[group.len() - 1].span.last);
                    let pins = pins.range(first..=last).copied().collect();
                    let now = ages_to(level, &group[0]);
                    Merge { inputs: group.to_vec(), level: level.number, now, pins }
                })
                .collect();
            let taken: BTreeSet<_> = merges.iter().flat_map(|merge| &merge.inputs).collect();
            left.retain(|set| !taken.contains(set));
            plan.merges.extend(merges);
        }
    }
    plan.merges.sort_unstable();
    plan
}

/// Change-sets that others stand for, with the one that does for each.
pub fn merged(replica: &Replica) -> BTreeMap<Change, Change> {
    let mut merged = BTreeMap::new();
    for sets in timelines(replica).into_values() {
        split_merged(sets, &mut merged);
    }
    let each = |(by, inputs): (Change, Vec<Change>)| inputs.into_iter().map(move |it| (it, by));
    merged.into_iter().flat_map(each).collect()
}

/// The change-sets of one object each, in order.
fn timelines(replica: &Replica) -> BTreeMap<Timeline, Vec<Change>> {
    let mut timelines: BTreeMap<Timeline, Vec<Change>> = BTreeMap::new();
    for parts in replica.changes.values().filter(|parts| is_whole(parts) && parts.len() == 1) {
        timelines.entry(parts[0].span.timeline).or_default().push(parts[0]);
    }
    timelines.values_mut().for_each(|sets| sets.sort_unstable_by_key(order));
    timelines
}

/// By first commit, and of those that begin there the one that stands for the others first.
fn order(change: &Change) -> (CommitNo, std::cmp::Reverse<(CommitNo, u8)>) {
    (change.span.first, std::cmp::Reverse((change.span.last, change.level)))
}

/// Takes out those that one of a higher level stands for.
fn split_merged(sets: Vec<Change>, merged: &mut BTreeMap<Change, Vec<Change>>) -> Vec<Change> {
    let mut left: Vec<Change> = Vec::new();
    for set in sets {
        // Those that begin before it reach farthest if they came last.
        let inside = |by: &&Change| by.span.last >= set.span.last && by.level > set.level;
        match left.last().filter(inside) {
            Some(by) => merged.entry(*by).or_default().push(set),
            None => left.push(set),
        }
    }
    left
}

fn window(level: &Level, change: &Change) -> u64 {
    bucket(change.span.time, level.window)
}

/// When nothing is added any more to the window that it lies in, and that is old enough.
fn due(level: &Level, change: &Change) -> Time {
    let length = u64::try_from(level.window.as_millis()).unwrap_or(u64::MAX);
    let age = u64::try_from(level.age.as_millis()).unwrap_or(u64::MAX);
    Time((window(level, change) + 1).saturating_mul(length).saturating_add(age))
}

/// Points become fewer when all of a window is old enough. Until then all of it is new, since ages
/// count from the newest commit, which may be in there.
fn ages_to(level: &Level, change: &Change) -> Time {
    match level.age.is_zero() {
        true => Time::default(),
        false => due(level, change),
    }
}

fn is_due(level: &Level, change: &Change, now: Now) -> bool {
    due(level, change) <= if level.age.is_zero() { now.clock } else { now.reference }
}

/// Whether it is stamped in the future, as all are once the clock was set back: its window will not have
/// passed for long.
fn is_ahead(level: &Level, change: &Change, now: Now) -> bool {
    !level.thins && change.span.time > now.clock
}

/// Of those, as many are merged as windows of the level below usually go into one.
fn is_many(group: &[Change], level: &Level, levels: &[Level]) -> bool {
    let below = levels.iter().find(|it| it.number + 1 == level.number);
    let least = below.map_or(2, |it| level.window.as_millis() / it.window.as_millis().max(1));
    let below = group.iter().filter(|set| set.level + 1 == level.number).count();
    below as u128 >= least.max(2)
}

/// A merged change-set, and what it stands for.
#[derive(Debug)]
pub struct Merged {
    pub name: Name,
    pub body: Vec<u8>,
    pub parent: Chain,
    pub chain: Chain,
    pub inputs: Vec<Change>,
}

/// Makes merged change-sets of those of one `Merge`, as they come.
#[derive(Debug)]
pub struct Merger<'a> {
    merge: &'a Merge,
    keep: Option<&'a Keep>,
    compression: Compression,
    started: Option<Started>,
}

#[derive(Debug)]
struct Started {
    builder: Builder,
    page_size: PageSize,
    parent: Chain,
    chain: Chain,
    group: Option<Group>,
    inputs: Vec<Change>,
}

/// Commits on their way to become one point.
#[derive(Debug)]
struct Group {
    point: Point,
    place: Place,
    pages: BTreeMap<PageNo, Vec<u8>>,
    bytes: usize,
}

impl<'a> Merger<'a> {
    /// The first level keeps every commit, whatever is to be kept.
    pub fn new(merge: &'a Merge, keep: &'a Keep, compression: Compression) -> Self {
        let keep = (merge.level > 1).then_some(keep);
        Self { merge, keep, compression, started: None }
    }

    /// Adds the next one; what was complete before it.
    pub fn add(&mut self, input: Change, set: &ChangeSet) -> Result<Option<Merged>, Damage> {
        let header = *set.header();
        let fits = |it: &Started| {
            (it.chain == header.parent || sabotage::is("merge-strangers"))
                && it.page_size == header.page_size
                && it.bytes() + set.plain_bytes() <= MERGED_BYTES
        };
        let merged = if self.started.as_ref().is_some_and(fits) { None } else { self.finish() };
        let mut it = self.started.take().unwrap_or_else(|| Started {
            builder: Builder::new(header.page_size, header.parent),
            page_size: header.page_size,
            parent: header.parent,
            chain: header.parent,
            group: None,
            inputs: Vec::new(),
        });
        set.replay(|point, pages| {
            let place = match point.commit.digest {
                Some(_) => self
                    .keep
                    .map_or(Place::Apart, |keep| keep.place(point.commit.time, self.merge.now)),
                // No restore point.
                None => Place::Past,
            };
            it.point(point, place, &self.merge.pins);
            it.pages(point, pages.iter());
        })?;
        it.chain = header.chain;
        it.inputs.push(input);
        self.started = Some(it);
        Ok(merged)
    }

    /// What was not complete yet.
    pub fn finish(&mut self) -> Option<Merged> {
        let mut it = self.started.take()?;
        it.end_group();
        let timeline = it.inputs[0].span.timeline;
        let (name, body) = it.builder.encode_at(self.merge.level, timeline, self.compression);
        let Started { parent, chain, inputs, .. } = it;
        Some(Merged { name, body, parent, chain, inputs })
    }
}

impl Started {
    fn bytes(&self) -> usize {
        self.builder.plain_bytes() + self.group.as_ref().map_or(0, |group| group.bytes)
    }

    /// Begins the next commit, and ends the group before it unless it becomes one with that.
    fn point(&mut self, point: Point, place: Place, pins: &BTreeSet<CommitNo>) {
        let joins = |group: &mut Group| {
            group.place == place
                && place != Place::Apart
                && !pins.contains(&group.point.commit.number)
        };
        let Some(mut group) = self.group.take_if(joins) else {
            self.end_group();
            self.group = Some(Group { point, place, pages: BTreeMap::new(), bytes: 0 });
            return;
        };
        let (first, least) = (group.point.first, group.point.least.min(point.least));
        group.point = Point { first, least, ..point };
        // Cut off, and dead if nothing writes them again.
        let dead = group.pages.split_off(&PageNo(point.least.saturating_add(1)));
        group.bytes -= dead.values().map(Vec::len).sum::<usize>();
        self.group = Some(group);
    }

    fn pages<'a>(&mut self, point: Point, pages: impl Iterator<Item = (PageNo, &'a [u8])>) {
        let group = self.group.as_mut().expect("one was begun");
        for (page, bytes) in pages.filter(|(page, _)| page.0 <= point.commit.pages) {
            let known = group.pages.insert(page, bytes.to_vec());
            group.bytes += bytes.len() - known.map_or(0, |known| known.len());
        }
    }

    fn end_group(&mut self) {
        let Some(Group { point, pages, .. }) = self.group.take() else { return };
        self.builder.point(point, pages.iter().map(|(page, bytes)| (*page, &bytes[..])));
    }
}

/// An error that says of which change-set it is.
pub fn unreadable(place: &dyn std::fmt::Display, input: &Change, damage: Damage) -> Error {
    let name = Name::Change(*input);
    Error::new(Status::Integrity, "compact", format!("{place}/{name}"), damage)
}

#[cfg(test)]
pub(crate) mod tests;
