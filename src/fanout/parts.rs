//! Which parts of snapshots are on which destination: what is there already is not put again, and
//! what is there everywhere is not even read.
//!
//! A survey lists the parts once, as a snapshot begins; so parts that one cut short has left are found
//! too. A destination that is behind then, or cannot be listed, will be brought up to date from a
//! sibling: whatever the sibling has comes along.
//!
//! What it finds also tells whether a snapshot is worth what it costs. Where few pages of most parts have
//! changed, a new one stores nearly the whole database, to save a restore next to nothing: the change-sets
//! that lead there are a small part of it. So it waits until they are a quarter of what it would store.
//! A restore then reads about that much more than it would from a snapshot of the same moment.
//!
//! That counts parts that have changed. Where one is gone that the last snapshot names, none can be
//! restored there that names it, and the next one, which puts it again, does not wait.

use super::Fanout;
use super::lane::Lane;
use crate::backend::list_all;
use crate::capture::RawPart;
use crate::commit::Time;
use crate::error::{Error, Result, Status};
use crate::name::{Change, Name, Part};
use crate::replica::read_manifest;
use crate::snapshot::encode_part;
use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard};

/// A database of fewer parts is no great matter: its snapshots are made when they are due.
const FEW: u64 = 8;
/// How many times what was committed a snapshot may store.
const WORTH: u64 = 4;

/// What there is on a destination, in bytes. With nothing known, every snapshot is worth its costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    /// A part of a snapshot, as stored, on average.
    pub part: u64,
    /// The change-sets since the last snapshot.
    pub since: u64,
}

impl Stock {
    /// Whether a snapshot that has to store so many parts had better wait.
    pub fn puts_off(self, parts: u64) -> bool {
        parts >= FEW && parts.saturating_mul(self.part) > self.since.saturating_mul(WORTH)
    }

    /// Of two destinations: what makes a snapshot come sooner.
    fn or(self, other: Self) -> Self {
        Self { part: self.part.min(other.part), since: self.since.max(other.since) }
    }
}

/// The parts on one destination; `None`: nobody has looked.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Option<HashSet<Part>>>);

impl Known {
    fn set(&self) -> MutexGuard<'_, Option<HashSet<Part>>> {
        self.0.lock().expect("nothing panics under it")
    }

    /// Whether it is a part, and there.
    pub(super) fn has(&self, name: &Name) -> bool {
        matches!(name, Name::Part(part) if self.set().as_ref().is_some_and(|set| set.contains(part)))
    }

    /// Notes what was stored.
    pub(super) fn add(&self, name: &Name) {
        if let (Name::Part(part), Some(set)) = (name, &mut *self.set()) {
            set.insert(*part);
        }
    }
}

impl Lane {
    /// Lists the parts, and the change-sets that came after the last snapshot. What a restore begins with
    /// is to stay as long as those that are put now.
    fn survey(&self, snapshot: Time) -> Result<Stock> {
        for timeline in list_all(&*self.destination, Name::TIMELINES)?.entries {
            self.destination.renew(&timeline.name)?;
        }
        let listed = list_all(&*self.destination, Name::PARTS)?;
        let bytes: u64 = listed.entries.iter().map(|entry| entry.bytes).sum();
        let parts = listed.entries.into_iter().filter_map(|entry| match entry.name {
            Name::Part(part) => Some(part),
            Name::Timeline(_) | Name::Snapshot(_) | Name::Change(_) => None,
        });
        let parts: HashSet<Part> = parts.collect();
        let part = bytes / (parts.len() as u64).max(1);
        let due = (parts.len() as u64) < FEW || self.lacks_any_of(&parts)?;
        *self.known.set() = Some(parts);
        if due {
            return Ok(Stock::default());
        }
        let changes = list_all(&*self.destination, Name::CHANGES)?.entries.into_iter();
        let since = changes.filter(|entry| match &entry.name {
            Name::Change(Change { span, .. }) => span.time > snapshot,
            Name::Timeline(_) | Name::Snapshot(_) | Name::Part(_) => false,
        });
        Ok(Stock { part, since: since.map(|entry| entry.bytes).sum() })
    }

    /// Whether the last snapshot names a part that is not among those that are there, or is gone itself, or
    /// does not tell: it may be damaged, or sealed with a key that is given up.
    fn lacks_any_of(&self, parts: &HashSet<Part>) -> Result<bool> {
        let listed = list_all(&*self.destination, Name::SNAPSHOTS)?.entries.into_iter();
        let spans = listed.filter_map(|entry| match entry.name {
            Name::Snapshot(span) => Some(span),
            Name::Timeline(_) | Name::Part(_) | Name::Change(_) => None,
        });
        let Some(last) = spans.max_by_key(|span| (span.timeline, span.last)) else {
            return Ok(true);
        };
        match read_manifest(&*self.destination, &last) {
            Ok(manifest) => Ok(manifest.parts.iter().any(|each| !parts.contains(&each.part))),
            Err(error) if error.status == Status::Unreachable => Err(error),
            Err(_) => Ok(true),
        }
    }
}

impl Fanout {
    /// Lists the parts on every destination that is current. The last snapshot was finished at `snapshot`.
    /// An error: on none.
    pub fn survey(&self, snapshot: Time) -> Result<Stock> {
        self.forget_parts();
        let found = RefCell::new(Vec::new());
        self.on_current(|lane| {
            found.borrow_mut().push(lane.survey(snapshot)?);
            Ok(())
        })?;
        Ok(found.into_inner().into_iter().reduce(Stock::or).unwrap_or_default())
    }

    /// Keeps parts that are stored for as long as those that are put now.
    pub fn renew(&self, parts: &[Part]) -> Result<()> {
        self.on_current(|lane| {
            let names = parts.iter().map(|part| Name::Part(*part));
            Ok(names.into_iter().try_for_each(|name| lane.destination.renew(&name))?)
        })
    }

    /// Does something on each destination that is in step and current. Where it fails, and where it is not done,
    /// a sibling has what is lacking; unless it was done nowhere, which is an error.
    fn on_current(&self, work: impl Fn(&Lane) -> Result<()>) -> Result<()> {
        let mut failed = None;
        let mut done = false;
        let mut owing = Vec::new();
        for lane in &self.lanes {
            match lane.is_in_step().then(|| lane.note(work(lane))) {
                Some(Ok(())) => done = true,
                Some(Err(error)) => {
                    failed = Some(error);
                    owing.push(lane);
                }
                None => owing.push(lane),
            }
        }
        if !done {
            // What their spools hold is nowhere else.
            return Err(failed.unwrap_or_else(|| {
                let cause = "every destination is behind";
                Error::new(Status::Unreachable, "list", "the parts of snapshots", cause)
            }));
        }
        // A spool holds no parts.
        let all = owing.iter().try_for_each(|lane| lane.owe_all());
        all.map_err(|error| Error::io("write", "the spool", &error))
    }

    /// Whether every destination that was listed has this part.
    pub fn has_part(&self, part: &Part) -> bool {
        let known: Vec<_> = self.lanes.iter().map(|lane| lane.known.set()).collect();
        let mut sets = known.iter().filter_map(|set| set.as_ref()).peekable();
        sets.peek().is_some() && sets.all(|set| set.contains(part))
    }

    /// Stores a part of a snapshot wherever it is not. It is named by its content: one that is there
    /// is the same.
    pub fn put_part(&self, raw: &RawPart) -> Result<()> {
        let RawPart { part, content, page_size, bytes } = raw;
        if self.has_part(part) {
            return self.renew(&[*part]);
        }
        let body = encode_part(*part, *content, *page_size, bytes, self.compression);
        self.put(&Name::Part(*part), &body)
    }

    /// Gives up what a survey found: from now on parts may be removed.
    pub fn forget_parts(&self) {
        self.lanes.iter().for_each(|lane| *lane.known.set() = None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::backend::faulty::{Fault, Faulty, Operation};
    use crate::backend::mem::Mem;
    use crate::commit::{Chain, Commit, CommitNo, Digest, PageHash, PageNo, PageSize, Timeline};
    use crate::name::Span;
    use crate::snapshot::{Manifest, PartRef, part_name};
    use crate::testkit::rig::{claim, fanout};
    use std::sync::Arc;

    fn part(page: u32) -> RawPart {
        let (page_size, bytes) = (PageSize::new(512).unwrap(), vec![7; 512]);
        let part = part_name(page_size, PageNo(page), &[PageHash::of(PageNo(page), &bytes)]);
        RawPart { part, content: None, page_size, bytes }
    }

    fn lanes(count: usize) -> (Vec<Arc<Faulty>>, Fanout, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let each: Vec<_> =
            (0..count).map(|_| Arc::new(Faulty::new(Arc::new(Mem::new())))).collect();
        let backends = each.iter().map(|it| Arc::clone(it) as Arc<dyn Backend>);
        let stores = fanout(backends.collect(), dir.path(), 1 << 20);
        each.iter().for_each(|it| claim(&**it, PageSize::new(512).unwrap()));
        (each, stores, dir)
    }

    fn has(destination: &Faulty, raw: &RawPart) -> bool {
        destination.get(&Name::Part(raw.part)).is_ok()
    }

    #[test]
    fn a_part_goes_just_where_it_is_missing() {
        let (each, stores, _dir) = lanes(3);
        let raw = part(1);
        assert!(!stores.has_part(&raw.part), "nobody has looked");
        each[1].put(&Name::Part(raw.part), &encode(&raw)).unwrap();
        stores.survey(Time(0)).unwrap();
        assert!(!stores.has_part(&raw.part), "one has it, not all");
        let puts = |each: &[Arc<Faulty>]| {
            each.iter().map(|it| it.calls(Operation::Put)).collect::<Vec<_>>()
        };
        let before = puts(&each);
        stores.put_part(&raw).unwrap();
        assert_eq!(puts(&each), [before[0] + 1, before[1], before[2] + 1]);
        assert!(stores.has_part(&raw.part) && each.iter().all(|it| has(it, &raw)));
        stores.put_part(&raw).unwrap();
        assert_eq!(puts(&each), [before[0] + 1, before[1], before[2] + 1]);
        // Once a snapshot is finished, what it found counts no more.
        stores.forget_parts();
        assert!(!stores.has_part(&raw.part));
    }

    #[test]
    fn a_snapshot_is_weighed_against_what_came_since() {
        let (each, stores, _dir) = lanes(2);
        let change = |number| crate::backend::conformance::change(0, number);
        let Name::Change(Change { span: Span { time, .. }, .. }) = change(1) else { panic!() };
        assert_eq!(stores.survey(Time(0)).unwrap(), Stock::default(), "there are no parts");
        let put = |page| {
            let raw = part(page);
            stores.put_part(&raw).unwrap();
            PartRef { part: raw.part, pages: 1, commit: CommitNo(1) }
        };
        let parts: Vec<_> = (1..=8).map(put).collect();
        let one = encode(&part(1)).len() as u64;
        [1, 3, 5].iter().for_each(|&it| stores.put(&change(it), &[7; 100]).unwrap());
        assert_eq!(stores.survey(time).unwrap(), Stock::default(), "there is no snapshot");
        put_manifest(&stores, parts);
        assert_eq!(stores.survey(time).unwrap(), Stock { part: one, since: 0 });
        let before = Time(time.0 - 1);
        assert_eq!(stores.survey(before).unwrap(), Stock { part: one, since: 300 });
        each[0].delete(&change(3)).unwrap();
        assert_eq!(
            stores.survey(before).unwrap(),
            Stock { part: one, since: 300 },
            "the other has"
        );
        // A destination with few parts has to get them anyway.
        each[1].delete(&Name::Part(part(8).part)).unwrap();
        assert_eq!(stores.survey(before).unwrap(), Stock { part: 0, since: 200 });
        let stock = Stock { part: 1000, since: 2500 };
        assert_eq!([7, 8, 10, 11].map(|parts| stock.puts_off(parts)), [false, false, false, true]);
        assert!(!Stock { part: 1000, since: 0 }.puts_off(7), "it is small anyway");
        assert!(!Stock::default().puts_off(u64::MAX));
    }

    /// Lost or damaged on any of the destinations, it is not left at that. One that is away says nothing.
    #[test]
    fn a_snapshot_is_not_weighed_where_the_last_one_cannot_be_restored() {
        let (each, stores, _dir) = lanes(2);
        (1..=9).for_each(|page| stores.put_part(&part(page)).unwrap());
        let named =
            (1..=8).map(|page| PartRef { part: part(page).part, pages: 1, commit: CommitNo(1) });
        let manifest = put_manifest(&stores, named.collect());
        let whole = each[1].get(&manifest).unwrap();
        let is_weighed = || stores.survey(Time(0)).unwrap() != Stock::default();
        each[1].delete(&Name::Part(part(9).part)).unwrap();
        assert!(is_weighed(), "nothing names it any more");
        each[1].put(&Name::Part(part(9).part), &encode(&part(9))).unwrap();
        each[1].delete(&Name::Part(part(3).part)).unwrap();
        assert!(!is_weighed(), "nine were there, and one that is named is gone");
        each[1].put(&Name::Part(part(3).part), &encode(&part(3))).unwrap();
        each[1].delete(&manifest).unwrap();
        assert!(!is_weighed());
        each[1].put(&manifest, b"damaged").unwrap();
        assert!(!is_weighed());
        each[1].delete(&manifest).unwrap();
        each[1].put(&manifest, &whole).unwrap();
        assert!(is_weighed());
        each[1].fail_all(Operation::Get, Fault::Refused);
        assert!(is_weighed() && stores.is_behind(1), "the other one has all");
    }

    /// What a destination lacks that is away while parts are passed over, a sibling has.
    #[test]
    fn one_that_cannot_be_listed_gets_what_was_passed_over() {
        let (each, stores, _dir) = lanes(2);
        let raw = part(1);
        each[0].put(&Name::Part(raw.part), &encode(&raw)).unwrap();
        each[1].fail_all(Operation::List, Fault::Refused);
        stores.survey(Time(0)).unwrap();
        assert!(stores.has_part(&raw.part) && stores.is_behind(1) && !has(&each[1], &raw));
        each[1].heal();
        stores.pay(1).unwrap();
        assert!(!behind(&stores) && has(&each[1], &raw));
        each.iter().for_each(|it| it.fail_all(Operation::List, Fault::Refused));
        stores.survey(Time(0)).unwrap_err();
        assert!(!behind(&stores), "nobody else has what they lack");
    }

    /// A snapshot came due as the only destination failed: what it was owed was thrown away, to be copied
    /// from a sibling that there was not.
    #[test]
    fn trap_84_what_is_owed_is_kept_while_nobody_else_has_it() {
        let (each, stores, _dir) = lanes(1);
        each[0].fail_all(Operation::Put, Fault::Refused);
        let name = crate::backend::conformance::change(0, 1);
        stores.put(&name, b"a commit that was taken care of").unwrap();
        assert!(stores.is_behind(0) && stores.spooled() > 0);
        assert_eq!(stores.survey(Time(0)).unwrap_err().status, Status::Unreachable);
        assert_eq!(stores.renew(&[part(1).part]).unwrap_err().status, Status::Unreachable);
        assert!(stores.spooled() > 0);
        each[0].heal();
        stores.flush(0).unwrap();
        assert!(each[0].get(&name).is_ok());
    }

    /// The manifest of a snapshot with these parts, on each destination.
    fn put_manifest(stores: &Fanout, parts: Vec<PartRef>) -> Name {
        let (number, digest) = (CommitNo(1), Some(Digest(1)));
        let commit = Commit { number, time: Time(1), pages: 8, digest, resync: false };
        let (timeline, chain) = (Timeline(1), Chain([0; 32]));
        let page_size = PageSize::new(512).unwrap();
        let manifest = Manifest { commit, timeline, page_size, chain, parts };
        stores.put(&manifest.name(), &manifest.encode(stores.compression)).unwrap();
        manifest.name()
    }

    fn behind(stores: &Fanout) -> bool {
        (0..stores.count()).any(|at| stores.is_behind(at))
    }

    fn encode(raw: &RawPart) -> Vec<u8> {
        encode_part(
            raw.part,
            raw.content,
            raw.page_size,
            &raw.bytes,
            crate::object::Compression::Zstd,
        )
    }
}
