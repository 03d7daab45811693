//! Upkeep of a destination whose objects are locked: what is merged stands beside what it was made of
//! until that may go, and then that goes.

use super::*;
use crate::backend::faulty::{Fault, Faulty, Operation};
use crate::backend::worm::Worm;
use crate::compact::tests::points;
use crate::keep::{Cap, Sum};
use crate::model::Writer;
use crate::upkeep::Done;
use std::collections::BTreeSet;

const LOCK: u64 = 20;

/// A writer of a commit a second, and a destination that locks what it ships for `LOCK` seconds.
struct Locked {
    writer: Writer,
    worm: Arc<Worm>,
    shipped: BTreeSet<String>,
    policy: Policy,
    cap: Cap,
}

impl Locked {
    fn new(keep: &[&str]) -> Self {
        let (writer, worm) = (Writer::new(512), Arc::new(Worm::new(LOCK * 1000)));
        let policy = policy(keep, &[5, 15]);
        Self { writer, worm, shipped: BTreeSet::new(), policy, cap: Cap::default() }
    }

    fn second(&mut self, n: u32) {
        let pages = if n == 1 { 1..=4 } else { n % 4 + 1..=n % 4 + 1 };
        self.writer.alone(&Step::fill(4, pages, n));
        if n % 10 == 1 {
            self.writer.snapshot();
        }
        for (key, body) in self.writer.store.objects().iter() {
            if self.shipped.insert(key.clone()) {
                self.worm.put(&key.parse().unwrap(), body).unwrap();
            }
        }
        self.worm.pass(1000);
    }

    fn source(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.worm) as Arc<dyn Backend>
    }

    fn round(&self) -> Done {
        let sources = [self.source()];
        let round = Round { caps: &[self.cap], ..at(&self.policy, self.writer.now) };
        let done = round.compact(&sources).unwrap();
        done.and(round.prune(&sources, Parts::Collect, Mode::Real).unwrap())
    }

    /// What the destination holds, where the model's tests look.
    fn take(&self) {
        let mut objects = self.writer.store.objects();
        objects.clear();
        for name in self.worm.names() {
            objects.insert(name.to_string(), self.worm.get(&name).unwrap());
        }
    }

    fn level(&self, level: &str) -> usize {
        self.worm.names().iter().filter(|name| name.to_string().starts_with(level)).count()
    }
}

/// The youngest are refused first, and kept those from going whose locks had ended long before.
#[test]
fn trap_77_what_was_merged_under_locks_goes_when_they_end() {
    let mut locked = Locked::new(&["all:1h"]);
    let mut refused = 0;
    for n in 1..=200 {
        locked.second(n);
        let done = locked.round();
        assert!(done.errors.is_empty(), "that a lock runs is no error: {:?}", done.errors);
        assert_eq!(done.locked > 0, !done.refusing.is_empty());
        refused += done.locked;
        // A window of 15 s is merged once it has passed.
        let most = (LOCK + 15 + 2) as usize;
        assert!(locked.level("change/0") <= most, "{n}: {}", locked.level("change/0"));
    }
    assert!(refused > 1000, "{refused}");
    assert_eq!(locked.worm.names().iter().filter(|it| it.kind() == "snapshot").count(), 20);
    locked.take();
    assert_eq!(points(&locked.writer, 1..=200), Vec::from_iter(1..=200));
}

/// Eras go from the oldest on, each once nothing in it is locked; nothing is left for ever.
#[test]
fn trap_79_what_is_too_old_goes_once_its_lock_has_ended() {
    let mut locked = Locked::new(&["all:5s", "5s:10s"]);
    for n in 1..=100 {
        locked.second(n);
        locked.round();
        let verified = crate::verify::verify(&locked.source(), None, &Quiet).unwrap();
        assert_eq!(verified.findings, [], "second {n}");
    }
    let snapshots = locked.worm.names().iter().filter(|it| it.kind() == "snapshot").count();
    assert!((3..=4).contains(&snapshots), "those of {LOCK} seconds, and the base: {snapshots}");
    let before = locked.worm.names().len();
    locked.worm.pass(LOCK * 1000);
    assert_eq!(locked.round().locked, 0);
    assert!(locked.worm.names().len() < before);
    locked.take();
    let (latest, _) = crate::restore::tests::get(&locked.writer.source(), Target::Latest).unwrap();
    assert!(latest == locked.writer.image(100));
}

/// What is locked stays, whatever the cap, and is told; once the locks have ended the oldest goes.
#[test]
fn trap_79_a_cap_lifts_no_lock() {
    let mut locked = Locked::new(&["all:1h"]);
    locked.cap.objects = Some(30);
    let mut told = 0;
    for n in 1..=60 {
        locked.second(n);
        let done = locked.round();
        assert!(done.errors.is_empty(), "{:?}", done.errors);
        let over = done.caps["locked memory"];
        told += u64::from(over.is_some_and(|over| over.locked));
        let held = Sum { objects: locked.worm.names().len() as u64, bytes: 0 };
        assert_eq!(over.is_some(), !locked.cap.allows(held), "second {n}");
        let verified = crate::verify::verify(&locked.source(), None, &Quiet).unwrap();
        assert_eq!(verified.findings, [], "second {n}");
    }
    assert!(told > 20, "{told}");
    let back = |locked: &Locked| {
        locked.take();
        points(&locked.writer, 1..=60)
    };
    let locks = back(&locked);
    assert!(locks[0] <= 60 - LOCK + 1 && locks.last() == Some(&60), "{locks:?}");
    locked.worm.pass(LOCK * 1000);
    assert_eq!(locked.round().caps["locked memory"], None);
    assert!(locked.worm.names().len() <= 30);
    assert_eq!(back(&locked), Vec::from_iter(back(&locked)[0]..=60));
}

/// A snapshot that was begun anew again and again leaves locked parts that nothing names.
#[test]
fn trap_79_a_part_that_is_locked_keeps_no_other_from_going() {
    let mut locked = Locked::new(&["all:1h"]);
    locked.second(1);
    let part = |page: u32| {
        let part = crate::name::Part { page: crate::commit::PageNo(page), hash: 7 };
        locked.worm.put(&Name::Part(part), b"nothing names it").unwrap();
        Name::Part(part)
    };
    let old = part(2);
    locked.worm.pass(LOCK * 1000);
    let young = part(1);
    assert_eq!(locked.round().locked, 1);
    let names = locked.worm.names();
    assert!(!names.contains(&old) && names.contains(&young));
}

/// Keys that may not delete are enough: it is merged all the same, and one error tells.
#[test]
fn trap_77_a_destination_that_lets_nothing_be_deleted_is_asked_once() {
    let writer = seconds(40);
    let faulty = Arc::new(Faulty::new(writer.source()));
    faulty.fail_all(Operation::Delete, Fault::Denied);
    let sources = [Arc::clone(&faulty) as Arc<dyn Backend>];
    let policy = policy(&["all:1h"], &[5, 15]);
    let done = at(&policy, Time(10_000_100_000)).compact(&sources).unwrap();
    assert!(done.made > 2 && done.deleted == 0, "{done:?}");
    assert_eq!((done.errors.len(), done.refusing.len()), (1, 1));
    assert_eq!(done.errors[0].message, "delete: memory: denied (injected)");
    assert_eq!(faulty.calls(Operation::Delete), 1);
    assert_eq!(points(&writer, 1..=40), Vec::from_iter(1..=40));
    faulty.heal();
    let done = at(&policy, Time(10_000_100_000)).compact(&sources).unwrap();
    assert_eq!((done.made, done.deleted), (0, 39));
}
