//! Rounds of upkeep that are stopped anywhere, that others read beside, and a year of them.

mod beside;
mod clock;
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
use crate::restore::Progress;
use crate::restore::Target;
use crate::seal::{Keys, Rule};
use crate::testkit::rig::{Quiet, restored};
use crate::upkeep::{Mode, Parts, Round};
use crate::verify::verify;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Makes a round at the `at`th call of a reader.
struct Busy {
    store: Arc<Mem>,
    calls: AtomicU64,
    at: u64,
    policy: Policy,
    /// Rounds besides, each as soon as a change-set of its level is to be read; and how many were made.
    levels: Vec<Policy>,
    made: Mutex<usize>,
    /// Those that the round has.
    keys: Arc<Keys>,
}

impl Busy {
    fn new(store: Arc<Mem>, at: u64, policy: Policy) -> Self {
        let keys = Arc::new(Keys { all: Vec::new(), rule: Rule::Auto });
        let (calls, made) = (AtomicU64::new(0), Mutex::default());
        Self { store, calls, at, policy, levels: Vec::new(), made, keys }
    }

    fn call(&self) {
        if self.calls.fetch_add(1, Ordering::SeqCst) == self.at {
            assert!(self.round(&self.policy) > 30);
        }
    }

    /// How many objects were merged and deleted.
    fn round(&self, policy: &Policy) -> u64 {
        let round = at(policy, Time(10_000_100_000));
        let store = Arc::clone(&self.store) as Arc<dyn Backend>;
        let sources = [crate::backend::sealed::sealed(store, &self.keys)];
        let deleted = round.compact(&sources).unwrap().deleted;
        round.prune(&sources, Parts::Collect, Mode::Real).unwrap();
        deleted
    }

    fn overtake(&self, name: &Name) {
        let mut made = self.made.lock().unwrap();
        if matches!(name, Name::Change(change) if usize::from(change.level) == *made)
            && let Some(policy) = self.levels.get(*made)
        {
            *made += 1;
            assert!(self.round(policy) > 3);
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
        self.overtake(name);
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

/// What a bar shows: it rises, and ends where all of it is done.
#[test]
fn a_round_tells_how_far_it_is() {
    struct Told(Mutex<Vec<(u64, u64)>>);
    impl Progress for Told {
        fn at(&self, done: u64, total: u64) {
            self.0.lock().unwrap().push((done, total));
        }
    }
    impl Told {
        fn is_all(&self, steps: usize) {
            let told = std::mem::take(&mut *self.0.lock().unwrap());
            assert!(told.len() >= steps && told.is_sorted(), "{told:?}");
            assert!(told.iter().all(|it| it.1 == told[0].1), "{told:?}");
            assert_eq!(told.last().map(|it| it.0), told.last().map(|it| it.1));
        }
    }
    let mut writer = seconds(30);
    writer.snapshot();
    (31..60).for_each(|n| _ = writer.alone(&Step::fill(3, [1, 2], n)));
    let (told, policy) = (Told(Mutex::default()), policy(&["all:10s"], &[5]));
    let sources = [writer.source()];
    let round = Round { progress: &told, ..at(&policy, writer.last().time) };
    assert!(round.compact(&sources).unwrap().made > 3);
    told.is_all(3);
    assert!(!round.prune(&sources, Parts::Leave, Mode::Real).unwrap().pruned.is_empty());
    told.is_all(3);
}

/// Found by torture: a daemon that ended in the middle of a round left a snapshot without the change-sets
/// that it needs, which `verify` told as damage until the next round.
#[test]
fn trap_87_a_round_that_leaves_off_leaves_no_flaw() {
    let policy = policy(&["all:10s"], &[]);
    for deletions in 0.. {
        let mut writer = seconds(2);
        for n in 0..12 {
            writer.part(1, |_, _| ());
            (0..2).for_each(|at| _ = writer.alone(&Step::fill(3, [1, 2 + at], 7 * n + at)));
            writer.part(2, |_, _| ());
            writer.manifest();
            writer.alone(&Step::fill(3, [2], n));
        }
        let faulty = Arc::new(Faulty::new(writer.source()));
        let store: Arc<dyn Backend> = faulty.clone();
        let stop = || faulty.calls(Operation::Delete) >= deletions;
        let now = writer.last().time;
        let round = Round { stop: &stop, ..at(&policy, now) };
        round.prune(&[Arc::clone(&store)], Parts::Collect, Mode::Real).unwrap();
        assert_eq!(verify(&store, None, &Quiet).unwrap().findings, [], "after {deletions}");
        if !stop() {
            assert!(deletions > 30, "{deletions}");
            return;
        }
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

/// One rotten object on the first of two destinations kept both from merging its window, round after round.
#[test]
fn an_input_that_is_damaged_on_one_destination_is_taken_from_the_other() {
    // By destination, the change-sets that are damaged there.
    for damaged in [[&[2][..], &[]], [&[], &[2]], [&[0, 3], &[1, 2]], [&[2], &[2]]] {
        let (writer, sources, mems) = spoiled(damaged, |body| body[40] ^= 1);
        let policy = policy(&["all:1d"], &[3600]);
        let done = at(&policy, Time(10_100_000_000)).compact(&sources).unwrap();
        let told = |key: &String| done.errors.iter().any(|it| it.message.contains(key.as_str()));
        assert!(damaged[0].iter().all(|at| told(&writer.changes()[*at])), "{:?}", done.errors);
        let both = damaged[0] == damaged[1];
        for (source, mem) in sources.iter().zip(&mems) {
            let left = mem.objects().keys().filter(|key| key.starts_with(Name::CHANGES)).count();
            assert_eq!((left, done.made), if both { (6, 0) } else { (2, 1) }, "{damaged:?}");
            if !both {
                assert_eq!(verify(source, None, &Quiet).unwrap().findings, []);
                assert!(restored(source, Target::Latest).unwrap() == writer.image(6));
            }
        }
    }
}

/// A sound object of another replica under the name of one of ours: it was merged as it was on the first destination,
/// and took the place of what was whole on the other.
#[test]
fn trap_93_what_does_not_go_on_from_the_one_before_is_taken_from_the_other_destination() {
    let mut stranger = crate::model::Writer::new(512);
    stranger.alone(&Step::fill(3, 1..=3, 90)).snapshot();
    (2..=6).for_each(|n| _ = stranger.alone(&Step::fill(3 + n % 3, [1, 2 + n % 3], 90 + n)));
    let key = stranger.changes()[3].clone();
    let body = stranger.store.objects()[&key].clone();
    let (writer, sources, mems) = spoiled([&[3], &[]], |own| own.clone_from(&body));
    assert_eq!(writer.changes()[3], key);
    let done = at(&policy(&["all:1d"], &[3600]), Time(10_100_000_000)).compact(&sources).unwrap();
    assert!(done.errors[0].message.contains(&key), "{:?}", done.errors);
    assert_eq!((mems.len(), done.made), (2, 1));
    for source in &sources {
        assert_eq!(verify(source, None, &Quiet).unwrap().findings, []);
        assert!(restored(source, Target::Latest).unwrap() == writer.image(6));
    }
}

/// The same where it is alone in its window: nothing before or after it told, and it took the place of what
/// was right on the other destination.
#[test]
fn trap_93_what_is_alone_in_its_window_is_merged_only_where_all_have_the_same() {
    let thinning = policy(&["all:10s", "2s:1d"], &[48]);
    let new = |seed: u32| {
        let mut writer = seconds(1);
        (2..=160).for_each(|n| _ = writer.alone(&Step::fill(3, [1, 2], seed + n)));
        let merging = policy(&["all:1d"], &[48]);
        at(&merging, Time(10_100_000_000)).compact(&[writer.source()]).unwrap();
        writer
    };
    let (writer, stranger) = (new(0), new(1000));
    let merged = |key: &&String| key.starts_with("change/1/");
    let key = writer.changes().iter().filter(merged).nth(1).unwrap().clone();
    for spoiled in [false, true] {
        let mems = [(); 2].map(|()| Arc::new(Mem::new()));
        mems.iter().for_each(|mem| mem.objects().clone_from(&writer.store.objects()));
        if spoiled {
            mems[0].objects().insert(key.clone(), stranger.store.objects()[&key].clone());
        }
        let sources = mems.each_ref().map(|mem| Arc::clone(mem) as Arc<dyn Backend>);
        let done = at(&thinning, Time(10_100_000_000)).compact(&sources).unwrap();
        assert!(done.made > 1, "{done:?}");
        assert_eq!(done.errors.iter().any(|it| it.message.contains(&key)), spoiled, "{done:?}");
        assert_eq!(mems[1].objects().contains_key(&key), spoiled);
        assert_eq!(verify(&sources[1], None, &Quiet).unwrap().findings, []);
        assert!(restored(&sources[1], Target::Latest).unwrap() == writer.image(160));
    }
}

/// Six commits on two destinations, some of which are spoiled there.
fn spoiled(
    damaged: [&[usize]; 2],
    spoil: impl Fn(&mut Vec<u8>),
) -> (crate::model::Writer, [Arc<dyn Backend>; 2], [Arc<Mem>; 2]) {
    let writer = seconds(6);
    let mems = damaged.map(|damaged| {
        let mem = Mem::new();
        mem.objects().clone_from(&writer.store.objects());
        let keys: Vec<_> = damaged.iter().map(|at| writer.changes()[*at].clone()).collect();
        keys.iter().for_each(|key| spoil(mem.objects().get_mut(key).unwrap()));
        Arc::new(mem)
    });
    let sources = mems.each_ref().map(|mem| Arc::clone(mem) as Arc<dyn Backend>);
    (writer, sources, mems)
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
    let windows = [2, 4, 8, 16];
    let levels = (1..=windows.len()).map(|count| policy(&["all:1d"], &windows[..count])).collect();
    let writer = seconds(90);
    let none = policy(&["all:1d"], &[]);
    let busy = Busy { levels, ..Busy::new(Arc::clone(&writer.store), u64::MAX, none) };
    let busy = Arc::new(busy);
    let reader = Arc::clone(&busy) as Arc<dyn Backend>;
    assert!(restored(&reader, Target::Latest).unwrap() == writer.image(90));
    assert_eq!(*busy.made.lock().unwrap(), windows.len());
}
