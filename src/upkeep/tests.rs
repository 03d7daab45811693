//! Rounds of upkeep that are stopped anywhere, that others read beside, and a year of them.

mod beside;
mod crash;
mod sealed;
mod worm;
mod year;

use crate::backend::faulty::{Fault, Faulty, Operation};
use crate::backend::mem::Mem;
use crate::backend::{Backend, Error, Listing};
use crate::commit::{CommitNo, Time};
use crate::compact::Policy;
use crate::compact::tests::{at, policy, seconds};
use crate::model::Step;
use crate::name::Name;
use crate::restore::Target;
use crate::seal::{Keys, Rule};
use crate::testkit::rig::{Quiet, restored};
use crate::upkeep::{Mode, Parts};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes a round at the `at`th call of a reader, and others a few calls later each.
struct Busy {
    store: Arc<Mem>,
    calls: AtomicU64,
    at: u64,
    policy: Policy,
    later: Vec<Policy>,
    /// Those that the round has.
    keys: Arc<Keys>,
}

impl Busy {
    fn new(store: Arc<Mem>, at: u64, policy: Policy) -> Self {
        let keys = Arc::new(Keys { all: Vec::new(), rule: Rule::Auto });
        Self { store, calls: AtomicU64::new(0), at, policy, later: Vec::new(), keys }
    }

    fn call(&self) {
        let Some(since) = self.calls.fetch_add(1, Ordering::SeqCst).checked_sub(self.at) else {
            return;
        };
        let nth = since as usize / 8;
        let policy = std::iter::once(&self.policy).chain(&self.later).nth(nth);
        if let Some(policy) = policy.filter(|_| since % 8 == 0) {
            let round = at(policy, Time(10_000_100_000));
            let store = Arc::clone(&self.store) as Arc<dyn Backend>;
            let sources = [crate::backend::sealed::sealed(store, &self.keys)];
            let deleted = round.compact(&sources).unwrap().deleted;
            assert!(since > 0 || deleted > 30);
            round.prune(&sources, Parts::Collect, Mode::Real).unwrap();
        }
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("busy")
    }
}

impl Backend for Busy {
    fn put(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        self.store.put(name, body)
    }

    fn replace(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        self.store.replace(name, body)
    }

    fn renew(&self, name: &Name) -> Result<(), Error> {
        self.store.renew(name)
    }

    fn get(&self, name: &Name) -> Result<Vec<u8>, Error> {
        self.call();
        self.store.get(name)
    }

    fn list(&self, prefix: &str, after: Option<&Name>) -> Result<Listing, Error> {
        self.call();
        self.store.list(prefix, after)
    }

    fn delete(&self, name: &Name) -> Result<(), Error> {
        self.store.delete(name)
    }
}

/// A store that does not give back what it was given: what was to be deleted for it stays, whichever of
/// the objects is the one that reads differently.
#[test]
fn trap_87_nothing_is_deleted_for_what_does_not_read_back() {
    let policy = policy(&["all:1d"], &[3600]);
    for nth in 1.. {
        let writer = seconds(6);
        let faulty = Arc::new(Faulty::new(writer.source()));
        faulty.fail(Operation::Get, nth, Fault::Flipped);
        let store: Arc<dyn Backend> = faulty.clone();
        let done = at(&policy, Time(10_100_000_000)).compact(&[store]).unwrap();
        if faulty.fired(Fault::Flipped) == 0 {
            assert!(nth > 5 && done.deleted > 3, "{nth}: {done:?}");
            return;
        }
        assert!(done.deleted == 0 && !done.errors.is_empty(), "{nth}: {done:?}");
    }
}

/// At each call of a restore: what it was about to read is merged and pruned, and it plans anew.
#[test]
fn trap_89_a_restore_beside_a_round_gives_what_was_asked_for() {
    let policy = policy(&["all:40s"], &[5, 15]);
    let mut fired = 0;
    for call in 0.. {
        let mut writer = seconds(40);
        writer.snapshot();
        writer.alone(&Step::fill(4, [2], 77)).snapshot();
        let (store, policy) = (Arc::clone(&writer.store), policy.clone());
        let busy = Arc::new(Busy::new(store, call, policy));
        let reader = Arc::clone(&busy) as Arc<dyn Backend>;
        let back = restored(&reader, Target::Commit(CommitNo(33))).unwrap();
        assert!(back == writer.image(33), "a round at call {call}");
        if busy.calls.load(Ordering::SeqCst) <= call {
            break;
        }
        fired += 1;
    }
    assert!(fired > 20, "{fired} rounds");
}

/// A restore that planned anew once, and found that gone as well, gave up: under load rounds come more
/// often than it gets on.
#[test]
fn trap_89_a_restore_that_upkeep_overtakes_again_and_again_gives_what_was_asked_for() {
    let windows = [2, 4, 8, 16, 32];
    let mut rounds = (1..=windows.len()).map(|count| policy(&["all:1d"], &windows[..count]));
    let store = seconds(90);
    let first = rounds.next().unwrap();
    let busy = Busy { later: rounds.collect(), ..Busy::new(Arc::clone(&store.store), 8, first) };
    let reader = Arc::new(busy) as Arc<dyn Backend>;
    assert!(restored(&reader, Target::Latest).unwrap() == store.image(90));
}
