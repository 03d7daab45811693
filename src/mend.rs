//! What one destination has and another one lacks, copied; but for what upkeep would only delete.
//!
//! In an order that keeps the copy restorable as far as it goes: parts, then timeline by timeline its
//! record, its change-sets and its snapshots. A commit number means something on a timeline only, and
//! what two destinations know of one under the same number may be two things: that is never mixed.

use crate::backend::{self, Backend, Kind};
use crate::commit::{CommitNo, Time, Timeline};
use crate::compact;
use crate::copies::damage;
use crate::error::{Error, Result, Status};
use crate::keep::{Cap, Keep};
use crate::name::{Change, Name, Span};
use crate::replica::{Replica, damaged, fetch, is_on, read_manifest};
use crate::snapshot::{Fork, Manifest, PartRef};
use crate::upkeep;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How often a listing is made anew because something that was listed has gone since.
const PASSES: u32 = 16;

/// What is copied, and for how long.
pub struct Terms<'a> {
    keep: &'a Keep,
    cap: Cap,
    clock: Time,
    goes_on: &'a dyn Fn() -> Result<()>,
}

impl fmt::Debug for Terms<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { keep, cap, clock, .. } = self;
        write!(f, "{keep:?}, {cap:?} at {clock:?}")
    }
}

impl<'a> Terms<'a> {
    /// What `keep` does not keep at that time is not copied, nor what there is no room for.
    pub fn new(keep: &'a Keep, cap: Cap, clock: Time) -> Self {
        Self { keep, cap, clock, goes_on: &|| Ok(()) }
    }

    /// An error ends it: `goes_on` is asked before each object.
    #[must_use]
    pub fn until(self, goes_on: &'a dyn Fn() -> Result<()>) -> Self {
        Self { goes_on, ..self }
    }
}

/// Copies every object that is missing and that upkeep would not delete there. Timelines that the two know
/// differently, because each was claimed while the other destination was away, are left as they are, and
/// nothing is copied where the newest one goes on from what was stored on such a one. What is damaged is
/// not copied, nor a snapshot that names it: these come back, and what leads past them there is for the
/// caller to find out.
pub fn copy_missing(from: &dyn Backend, to: &dyn Backend, terms: &Terms) -> Result<BTreeSet<Name>> {
    for pass in 1.. {
        match copy_once(from, to, terms)? {
            Copied::All(damaged) => return Ok(damaged),
            Copied::UpTo(gone) if pass == PASSES => return Err(gone.into()),
            Copied::UpTo(_) => {}
        }
    }
    unreachable!("there is a last pass")
}

enum Copied {
    /// But for these, which are damaged.
    All(BTreeSet<Name>),
    /// The first object that was gone before it could be copied: upkeep has merged or deleted it since,
    /// and what comes after it has to wait for what is there in its place.
    UpTo(backend::Error),
}

fn copy_once(from: &dyn Backend, to: &dyn Backend, terms: &Terms) -> Result<Copied> {
    let there = Replica::list(to)?;
    let here = Replica::list(from)?;
    let differing = differing(from, &here, to, &there)?;
    refuse_another(from, &here, to, &there, &differing)?;
    let mut known: BTreeSet<Name> = there.objects.iter().map(|it| it.name.clone()).collect();
    let surplus = Surplus::of(from, &here, terms.keep, terms.cap, terms.clock)?;
    let missing = here.objects.iter().map(|entry| &entry.name).filter(|it| !known.contains(it));
    let mut missing: Vec<_> =
        missing.filter(|name| !differing.contains_key(&order(name).0)).collect();
    missing.sort_by_key(|name| place(name, surplus.by(name).is_some()));
    let mut bad = BTreeSet::new();
    for name in missing {
        if surplus.has(name) || surplus.by(name).is_some_and(|by| known.contains(&by)) {
            continue;
        }
        (terms.goes_on)()?;
        let body = match from.get(name) {
            Err(error) if error.kind == Kind::NotFound => return Ok(Copied::UpTo(error)),
            body => body?,
        };
        // It would take the place of a whole one, which a repair may bring.
        if damage(from, name, &body).is_some() {
            bad.insert(name.clone());
            continue;
        }
        if let Name::Snapshot(span) = name {
            let manifest = Manifest::decode(*span, body.clone());
            let manifest = manifest.map_err(|damage| damaged(from, name, damage))?;
            if manifest.parts.iter().any(|part| bad.contains(&part.name())) {
                bad.insert(name.clone());
                continue;
            }
            renew_needed(to, &there, &manifest)?;
        }
        store(to, name, &body)?;
        known.insert(name.clone());
    }
    Ok(Copied::All(bad))
}

/// What a destination holds and another one need not be given: upkeep would delete it there.
#[derive(Debug)]
pub struct Surplus {
    old: BTreeSet<Name>,
    /// Parts that only such snapshots name.
    parts: BTreeSet<Name>,
    /// Change-sets that others stand for.
    merged: BTreeMap<Change, Change>,
}

impl Surplus {
    /// Of what `from` holds, for one that is held to `cap`.
    pub fn of(
        from: &dyn Backend,
        here: &Replica,
        keep: &Keep,
        cap: Cap,
        clock: Time,
    ) -> Result<Self> {
        let old = match upkeep::old(from, here, keep, cap, clock) {
            // Nothing can be said of it, and all of it is copied.
            Err(error) if error.status == Status::Integrity => BTreeSet::new(),
            old => old?,
        };
        let is_old = |span: &&Span| old.contains(&Name::Snapshot(**span));
        let (gone, kept): (Vec<&Span>, Vec<&Span>) = here.snapshots.iter().partition(is_old);
        let mut parts = named(from, &gone)?;
        if !parts.is_empty() {
            let kept = named(from, &kept)?;
            parts.retain(|part| !kept.contains(part));
        }
        Ok(Self { old, parts, merged: compact::merged(here) })
    }

    pub fn has(&self, name: &Name) -> bool {
        self.old.contains(name) || self.parts.contains(name)
    }

    fn by(&self, name: &Name) -> Option<Name> {
        let Name::Change(change) = name else { return None };
        self.merged.get(change).map(|by| Name::Change(*by))
    }
}

/// The parts that snapshots name; one that is damaged, or gone by now, names none.
pub fn named(from: &dyn Backend, snapshots: &[&Span]) -> Result<BTreeSet<Name>> {
    let mut named = BTreeSet::new();
    for span in snapshots {
        match read_manifest(from, span) {
            Err(error) if error.status == Status::Integrity => {}
            manifest => named.extend(manifest?.parts.iter().map(PartRef::name)),
        }
    }
    Ok(named)
}

/// What a snapshot needs and `there` had already is to stay as long as what is stored now.
fn renew_needed(to: &dyn Backend, there: &Replica, manifest: &Manifest) -> Result<()> {
    let parts = manifest.parts.iter().filter(|part| there.parts.contains_key(&part.part));
    let timelines = there.timelines.iter().map(|timeline| Name::Timeline(*timeline));
    for name in timelines.chain(parts.map(PartRef::name)) {
        to.renew(&name)?;
    }
    Ok(())
}

/// Stores a copy. One that is there already with the same bytes is as good.
pub fn store(to: &dyn Backend, name: &Name, body: &[u8]) -> Result<()> {
    match to.put(name, body) {
        Err(error) if error.kind == Kind::Exists && to.holds(name, body)? => Ok(()),
        result => Ok(result?),
    }
}

/// Refuses to copy to one that holds another history: the newest timeline is another one there, or it goes
/// on from commits of one that is.
fn refuse_another(
    from: &dyn Backend,
    here: &Replica,
    to: &dyn Backend,
    there: &Replica,
    differing: &BTreeMap<Timeline, Both>,
) -> Result<()> {
    let newest = here.newest_timeline();
    let taken_up = there.newest_timeline() > newest || differing.contains_key(&newest);
    if taken_up || goes_on_from_another(from, here, there, differing)? {
        let cause = "it holds another replica, or another daemon has taken it up";
        let error = Error::new(Status::Locked, "copy to", to, cause);
        return Err(error.hint("let only one daemon write a replica; an empty one is filled"));
    }
    Ok(())
}

/// Whether what is copied hangs on commits that are not, or would be others there: of a timeline that both
/// claimed, each for itself.
fn goes_on_from_another(
    from: &dyn Backend,
    here: &Replica,
    there: &Replica,
    differing: &BTreeMap<Timeline, Both>,
) -> Result<bool> {
    if !differing.values().any(|both| *both == Both::Claimed) {
        return Ok(false);
    }
    let mut ancestry = here.ancestry(from)?;
    ancestry.retain(|at| differing.get(&at.timeline) == Some(&Both::Claimed));
    Ok(here.spans().chain(there.spans()).any(|span| is_on(&ancestry, span)))
}

/// What two records of a timeline are that are not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Both {
    Claimed,
    /// One is damaged, or stands for a number only.
    Unsure,
}

/// Timelines whose records are not the same.
fn differing(
    from: &dyn Backend,
    here: &Replica,
    to: &dyn Backend,
    there: &Replica,
) -> Result<BTreeMap<Timeline, Both>> {
    let both = here.timelines.iter().filter(|timeline| there.timelines.contains(timeline));
    let mut differing = BTreeMap::new();
    for timeline in both {
        let name = Name::Timeline(*timeline);
        let records = [fetch(from, &name)?, fetch(to, &name)?];
        if records[0] != records[1] {
            let claims = |it| Fork::decode(*timeline, it).is_ok_and(|fork| !fork.placeholder);
            let claimed = records.into_iter().all(claims);
            differing.insert(*timeline, if claimed { Both::Claimed } else { Both::Unsure });
        }
    }
    Ok(differing)
}

/// Where an object stands among those to be copied: by its first commit, whatever its level, so that what
/// is there at any moment has no gap; and what stands for others before them.
fn place(name: &Name, merged: bool) -> (Timeline, u8, bool, CommitNo, &Name) {
    let (timeline, kind, _) = order(name);
    let first = match name {
        Name::Change(change) => change.span.first,
        _ => CommitNo(0),
    };
    (timeline, kind, merged, first, name)
}

/// In which order objects are copied. Parts belong to no timeline, and come first.
pub fn order(name: &Name) -> (Timeline, u8, &Name) {
    match name {
        Name::Part(_) => (Timeline(0), 0, name),
        Name::Timeline(timeline) => (*timeline, 1, name),
        Name::Change(change) => (change.span.timeline, 2, name),
        Name::Snapshot(span) => (span.timeline, 3, name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::mem::Mem;
    use crate::backend::worm::Worm;
    use crate::commit::{Chain, PageSize};
    use crate::model::{Step, Writer};
    use crate::name::{Change, Span};
    use crate::object::{Compression, Encoder, Header};
    use crate::restore::Target;
    use crate::testkit::mortal::{Death, Mortal};
    use crate::testkit::rig::restored;
    use std::sync::Arc;

    fn copy(from: &dyn Backend, to: &dyn Backend) -> Result<BTreeSet<Name>> {
        copy_missing(from, to, &Terms::new(&Keep::default(), Cap::default(), Time(u64::MAX)))
    }

    fn claim(mem: &Mem, number: u32, time: u64) {
        let number = Timeline(number);
        let body = Fork::default().encode(number, PageSize::new(512).unwrap(), Time(time));
        mem.put(&Name::Timeline(number), &body).unwrap();
    }

    fn change(commit: u64, timeline: u32) -> Name {
        let (number, timeline) = (CommitNo(commit), Timeline(timeline));
        let span = Span { first: number, last: number, time: Time(1), timeline };
        Name::Change(Change { level: 0, span, part: 0, end: true })
    }

    fn store_change(mem: &Mem, commit: u64, timeline: u32) -> Name {
        let name = change(commit, timeline);
        let (page_size, none) = (PageSize::new(512).unwrap(), Chain::default());
        let header = Header { page_size, parent: none, chain: none };
        let mut object = Encoder::new(&name, &header, Compression::None);
        object.block(b"a table");
        mem.put(&name, &object.finish()).unwrap();
        name
    }

    /// Found by a soak: a destination that was killed over in the middle of a copy had the newest commits,
    /// which nothing led to. Names are in the order of levels, and what is merged is older.
    #[test]
    fn trap_88_a_copy_that_is_cut_short_has_no_gap() {
        let leveled = |level, first: u64, last: u64| {
            let (first, last) = (CommitNo(first), CommitNo(last));
            let span = Span { first, last, time: Time(1), timeline: Timeline(1) };
            Name::Change(Change { level, span, part: 0, end: true })
        };
        let expected =
            [(leveled(2, 1, 4), false), (leveled(1, 5, 6), false), (leveled(0, 7, 7), false)];
        let merged = [(leveled(0, 5, 5), true), (leveled(0, 6, 6), true)];
        let expected: Vec<_> = expected.into_iter().chain(merged).collect();
        let mut found = expected.clone();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        assert_ne!(found, expected);
        found.sort_by(|one, other| place(&one.0, one.1).cmp(&place(&other.0, other.1)));
        assert_eq!(found, expected);
    }

    /// Found by torture: while an empty destination was filled, its newest commits said that a snapshot had
    /// been finished, which was yet to be copied. That is refused, and not as if there was nothing: an
    /// application is started on an empty database then.
    #[test]
    fn trap_88_what_is_filled_is_refused_or_right() {
        let mut writer = Writer::new(512);
        writer.alone(&Step::fill(9, 1..=9, 7));
        writer.part(4, |_, _| {});
        writer.alone(&Step::fill(9, 1..=9, 8));
        writer.part(5, |_, _| {});
        writer.manifest();
        writer.alone(&Step::fill(9, [9], 9)).fork(3);
        writer.alone(&Step::fill(9, [9], 10)).snapshot().alone(&Step::fill(9, [9], 11));
        let last = writer.last().number;
        let mut states = Vec::new();
        for left in 0.. {
            let mem = Arc::new(Mem::new());
            let mortal = Mortal::new(mem.clone(), left, Death::Before);
            let copied = copy(&*writer.store, &*mortal);
            assert_eq!(copied.is_err(), mortal.is_dead());
            let source = mem as Arc<dyn Backend>;
            states.push(match restored(&source, Target::Latest) {
                Ok(image) => (1..=last.0).find(|it| writer.image(*it) == image).expect("a state"),
                Err(error) => {
                    let yet_to_come = error.message.contains("no snapshot that leads to commit");
                    let nothing = error.status == Status::Missing;
                    assert!(nothing || yet_to_come, "after {left} calls: {error}");
                    u64::from(yet_to_come) * 100
                }
            });
            if copied.is_ok() {
                break;
            }
        }
        states.dedup();
        assert_eq!(states, [0, 100, 3, 4, 5]);
    }

    #[test]
    fn what_is_damaged_is_not_copied() {
        let (one, two) = (Mem::new(), Mem::new());
        claim(&one, 1, 1);
        let (damaged, sound) = (store_change(&one, 1, 1), store_change(&one, 2, 1));
        one.objects().get_mut(&damaged.to_string()).unwrap()[140] ^= 1;
        assert_eq!(copy(&one, &two).unwrap(), BTreeSet::from([damaged.clone()]));
        assert!(two.objects().contains_key(&sound.to_string()));
        assert!(!two.objects().contains_key(&damaged.to_string()));
    }

    /// Each destination has a timeline 2 of its own: commits of the one are not taken for the other's.
    #[test]
    fn what_only_the_numbers_have_in_common_is_not_mixed() {
        let (one, two) = (Mem::new(), Mem::new());
        for mem in [&one, &two] {
            claim(mem, 1, 1);
        }
        claim(&one, 2, 2);
        claim(&two, 2, 3);
        store_change(&one, 5, 2);
        assert_eq!(copy(&one, &two).unwrap_err().status, Status::Locked);
        claim(&one, 3, 4);
        store_change(&one, 6, 3);
        store_change(&one, 4, 1);
        copy(&one, &two).unwrap();
        let there: Vec<_> =
            two.objects().keys().filter(|key| key.contains("change")).cloned().collect();
        assert_eq!(there, [change(4, 1), change(6, 3)].map(|name| name.to_string()));
        // Somebody has gone on there.
        claim(&two, 4, 5);
        assert_eq!(copy(&one, &two).unwrap_err().status, Status::Locked);
    }

    /// Two databases had one name, and one's configuration was given the other's destination: its newest
    /// timelines were put there on top of what the other had stored on those before them, it was said to be
    /// up to date, and nothing could be restored from it.
    #[test]
    fn what_goes_on_from_another_history_is_not_copied_to_it() {
        let mut one = Writer::of(1);
        one.fork(1);
        one.alone(&Step::fill(4, [2], 3));
        let two = Writer::of(2).store;
        let before = two.objects().clone();
        let error = copy(&*one.store, &*two).unwrap_err();
        assert_eq!((error.status, error.hint.is_some()), (Status::Locked, true), "{error}");
        assert!(*two.objects() == before);
        // What it stored there is a branch: nothing goes on from it.
        let mut apart = Writer::of(1);
        apart.fork_of(Timeline(1), 0);
        apart.alone(&Step::fill(4, 1..=4, 3)).snapshot();
        copy(&*apart.store, &*two).unwrap();
        let target = Target::Commit(CommitNo(1));
        assert!(restored(&(two as Arc<dyn Backend>), target).unwrap() == apart.image(1));
        // Nothing was ever stored there under that number.
        let (two, number) = (Mem::new(), Timeline(2));
        let fork = Fork { anew: true, placeholder: true, ..Fork::default() };
        claim(&two, 1, 10_000_000_000);
        two.put(&Name::Timeline(number), &fork.encode(number, one.size, one.now)).unwrap();
        copy(&*one.store, &two).unwrap();
    }

    /// A destination that was away while a snapshot was made gets it from a sibling: the parts that it
    /// had before are locked no shorter for that.
    #[test]
    fn trap_79_what_a_copied_snapshot_needs_has_its_locks_renewed() {
        let mut writer = Writer::new(512);
        writer.alone(&Step::fill(9, 1..=9, 7)).snapshot();
        let worm = Worm::new(1000);
        copy(&*writer.store, &worm).unwrap();
        worm.pass(900);
        writer.alone(&Step::fill(9, [9], 8)).snapshot();
        copy(&*writer.store, &worm).unwrap();
        worm.pass(900);
        worm.ravage();
        let target = Target::Commit(writer.last().number);
        let source = Arc::new(worm) as Arc<dyn Backend>;
        assert!(restored(&source, target).unwrap() == writer.image(writer.last().number.0));
    }
}
