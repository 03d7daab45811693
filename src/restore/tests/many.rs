//! Many objects on a store that answers late: requests go side by side, and none is made in vain.

use super::*;
use crate::ahead::FETCHERS;
use crate::backend::faulty::{Faulty, Operation};
use crate::backend::{self, Listing};
use std::fmt;
use std::sync::Barrier;

type Answer<T> = std::result::Result<T, backend::Error>;

/// Answers a get of one of these names only when as many as go side by side are waiting for it.
struct Together {
    inner: Arc<dyn Backend>,
    these: fn(&Name) -> bool,
    all_here: Barrier,
}

fn together(inner: Arc<dyn Backend>, these: fn(&Name) -> bool) -> Arc<dyn Backend> {
    Arc::new(Together { inner, these, all_here: Barrier::new(FETCHERS) })
}

impl fmt::Display for Together {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Backend for Together {
    fn put(&self, name: &Name, body: &[u8]) -> Answer<()> {
        self.inner.put(name, body)
    }

    fn replace(&self, name: &Name, body: &[u8]) -> Answer<()> {
        self.inner.replace(name, body)
    }

    fn renew(&self, name: &Name) -> Answer<()> {
        self.inner.renew(name)
    }

    fn get(&self, name: &Name) -> Answer<Vec<u8>> {
        if (self.these)(name) {
            self.all_here.wait();
        }
        self.inner.get(name)
    }

    fn list(&self, prefix: &str, after: Option<&Name>) -> Answer<Listing> {
        self.inner.list(prefix, after)
    }

    fn delete(&self, name: &Name) -> Answer<()> {
        self.inner.delete(name)
    }
}

const MANY: u32 = 2 * FETCHERS as u32;

/// The newest one is read on its own first, to know what is wanted.
#[test]
fn change_sets_are_fetched_side_by_side() {
    let writer = shipped(MANY + 1);
    let older =
        |name: &Name| matches!(name, Name::Change(it) if (2..=33).contains(&it.span.last.0));
    assert_eq!(writer.last().number.0, 34);
    let (bytes, _) = get(&together(writer.source(), older), Target::Latest).unwrap();
    assert!(bytes == writer.image(34));
}

#[test]
fn parts_are_fetched_side_by_side() {
    let mut writer = model::Writer::new(512);
    writer.alone(&Step::fill(3 * MANY, 1..=3 * MANY, 1)).snapshot();
    let parts = |name: &Name| matches!(name, Name::Part(_));
    let (bytes, _) = get(&together(writer.source(), parts), Target::Latest).unwrap();
    assert!(bytes == writer.image(1));
}

#[test]
fn records_of_timelines_are_read_side_by_side() {
    let mut writer = shipped(1);
    (1..MANY).for_each(|_| writer.fork(2));
    assert_eq!(writer.timeline, Timeline(MANY));
    let records = |name: &Name| matches!(name, Name::Timeline(_));
    let (_, commit) = get(&together(writer.source(), records), Target::Latest).unwrap();
    assert_eq!(commit.number, CommitNo(2));
}

/// One request for each kind of object, and each object once, but for the newest change-set.
#[test]
fn nothing_is_asked_for_twice() {
    let writer = shipped(5);
    let counted = Arc::new(Faulty::new(writer.source()));
    get(&(counted.clone() as Arc<dyn Backend>), Target::Latest).unwrap();
    assert_eq!(counted.calls(Operation::List), 4);
    // The timeline, the manifest, its part, five change-sets, and the last of these for its commit.
    assert_eq!(counted.calls(Operation::Get), 1 + 1 + 1 + 5 + 1);
}

/// Whatever comes first in time: what is told is the first one in the order in which they are applied.
#[test]
fn of_many_damaged_objects_the_same_one_is_named_each_time() {
    let writer = shipped(MANY);
    let newest_but_one = writer.changes().remove(MANY as usize - 1);
    for key in &writer.changes()[..MANY as usize] {
        writer.store.objects().insert(key.clone(), vec![0; 400]);
    }
    for _ in 0..20 {
        let error = get(&writer.source(), Target::Latest).unwrap_err();
        assert!(error.message.contains(&newest_but_one), "{error}");
    }
}
