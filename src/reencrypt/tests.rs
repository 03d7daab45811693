//! Rewriting a replica: whatever stops it, every commit is restored all along with both keys, and once
//! it has run to its end, with the new one alone.

use super::*;
use crate::backend::faulty::{Fault, Faulty, Operation};
use crate::backend::mem::Mem;
use crate::backend::sealed::sealed;
use crate::commit::CommitNo;
use crate::model::{Step, Writer};
use crate::restore::Target;
use crate::seal::Rule;
use crate::testkit::points;
use crate::testkit::rig::{Quiet, restored};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Two snapshots, a large commit in parts, and what comes after.
fn written() -> Writer {
    let mut writer = Writer::new(512);
    writer.commit(&Step::fill(3, 1..=3, 1)).commit(&Step::fill(2, [1], 2)).snapshot();
    writer.in_parts(&Step::fill(4, 3..=4, 3), 1, 0);
    writer.commit(&Step::fill(4, [2], 4)).snapshot();
    writer.commit(&Step::fill(5, [5, 1], 5)).ship();
    writer
}

fn keys(numbers: &[u8], rule: Rule) -> Arc<Keys> {
    let key = |number: &u8| Key::new(&zeroize::Zeroizing::new([*number; 32]));
    Arc::new(Keys { all: numbers.iter().map(key).collect(), rule })
}

/// The replica of `writer`, sealed under a key or plain.
fn replica(writer: &Writer, under: Option<u8>) -> Arc<Mem> {
    let mem = Arc::new(Mem::new());
    let numbers: Vec<u8> = under.into_iter().collect();
    let to = sealed(Arc::clone(&mem) as Arc<dyn Backend>, &keys(&numbers, Rule::Auto));
    for (key, body) in &*writer.store.objects() {
        to.put(&key.parse().unwrap(), body).unwrap();
    }
    mem
}

fn run(source: &dyn Backend, keys: &Keys, target: Option<&Key>) -> Report {
    let order = Order { keys, target, dry_run: false };
    reencrypt(source, order, &Quiet).unwrap()
}

/// Every commit that can be restored comes back with these keys.
#[track_caller]
fn restores(writer: &Writer, mem: &Arc<Mem>, keys: &Arc<Keys>) {
    let source = sealed(Arc::clone(mem) as Arc<dyn Backend>, keys);
    for commit in [2, 3, 4, 5] {
        let bytes = restored(&source, Target::Commit(CommitNo(commit))).unwrap();
        assert!(bytes == writer.image(commit), "commit {commit}");
    }
}

fn under(mem: &Mem) -> Vec<Option<KeyId>> {
    mem.objects().values().map(|body| sealed_under(body)).collect()
}

/// From, to: keys by number, none is plain.
const CONVERSIONS: [(Option<u8>, Option<u8>); 3] =
    [(None, Some(1)), (Some(1), Some(2)), (Some(1), None)];

/// The keys of both sides, the target first.
fn of_both(from: Option<u8>, to: Option<u8>) -> Arc<Keys> {
    let numbers: Vec<u8> = to.into_iter().chain(from).collect();
    keys(&numbers, if to.is_some() { Rule::New } else { Rule::None })
}

#[test]
fn each_conversion_leaves_one_key_or_none() {
    let writer = written();
    for (from, to) in CONVERSIONS {
        let (mem, both) = (replica(&writer, from), of_both(from, to));
        let target = to.and(both.all.first());
        let count = mem.objects().len() as u64;
        let dry = Order { keys: &both, target, dry_run: true };
        let before = mem.objects().clone();
        let report = reencrypt(&*mem, dry, &Quiet).unwrap();
        assert_eq!((report.rewritten, report.remaining), (count, 0));
        assert!(*mem.objects() == before, "a dry run writes nothing");
        let report = run(&*mem, &both, target);
        assert_eq!((report.objects, report.rewritten, report.remaining), (count, count, 0));
        let from_id = from.map(|number| keys(&[number], Rule::Auto).all[0].id);
        assert_eq!(report.found, BTreeMap::from([(from_id, count)]));
        assert!(under(&mem).iter().all(|id| *id == target.map(|key| key.id)));
        let alone: Vec<u8> = to.into_iter().collect();
        restores(&writer, &mem, &keys(&alone, Rule::Auto));
        assert_eq!(run(&*mem, &both, target).rewritten, 0, "nothing is left to do");
    }
}

/// The power goes, a reply is lost, the connection is cut: at each call of the rewrite, before it or
/// after it. The calls are those of four threads, so the enumeration is over their number, not their
/// order.
#[test]
fn trap_97_a_rewrite_cut_at_every_call_restores_at_every_point_and_is_finished_by_the_next() {
    let writer = written();
    let mut cut = 0;
    for (from, to) in CONVERSIONS {
        let both = of_both(from, to);
        let target = to.and(both.all.first());
        let calls = {
            let faulty = Faulty::new(replica(&writer, from));
            run(&faulty, &both, target);
            [Operation::Get, Operation::Replace].map(|kind| (kind, faulty.calls(kind)))
        };
        for (operation, count) in calls {
            for fault in operation.faults() {
                for nth in 1..=count {
                    let mem = replica(&writer, from);
                    let faulty = Faulty::new(Arc::clone(&mem) as Arc<dyn Backend>);
                    faulty.fail(operation, nth, *fault);
                    let report = run(&faulty, &both, target);
                    assert_eq!(faulty.fired(*fault), 1, "{operation:?} {nth} {fault:?}");
                    assert!(report.remaining > 0, "{operation:?} {nth} {fault:?}: unnoticed");
                    assert_eq!(report.errors.len(), 1, "{:?}", report.errors);
                    restores(&writer, &mem, &both);
                    let again = run(&*mem, &both, target);
                    assert_eq!(again.remaining, 0, "{:?}", again.errors);
                    assert!(under(&mem).iter().all(|id| *id == target.map(|key| key.id)));
                    cut += 1;
                }
            }
        }
    }
    assert!(cut > 100, "{cut}");
    points::record("reencrypt", &[("points", cut)]);
}

/// From one call on, nothing is done any more; whether that call itself still was is `late`.
struct PowerCut {
    inner: Arc<dyn Backend>,
    at: u64,
    late: bool,
    calls: AtomicU64,
}

impl PowerCut {
    fn call<T>(&self, inner: impl FnOnce() -> Answer<T>) -> Answer<T> {
        let nth = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if nth < self.at {
            return inner();
        }
        if nth == self.at && self.late {
            inner()?;
        }
        let (place, name, cause) = (self.to_string(), String::new(), "the power is gone".into());
        Err(backend::Error { operation: "call", place, name, kind: Kind::Other, cause, hint: None })
    }
}

type Answer<T> = std::result::Result<T, backend::Error>;

impl std::fmt::Display for PowerCut {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl Backend for PowerCut {
    fn put(&self, _: &Name, _: &[u8]) -> Answer<()> {
        panic!("nothing is stored under a new name")
    }

    fn replace(&self, name: &Name, body: &[u8]) -> Answer<()> {
        self.call(|| self.inner.replace(name, body))
    }

    fn get(&self, name: &Name) -> Answer<Vec<u8>> {
        self.call(|| self.inner.get(name))
    }

    fn list(&self, prefix: &str, after: Option<&Name>) -> Answer<backend::Listing> {
        self.call(|| self.inner.list(prefix, after))
    }

    fn delete(&self, _: &Name) -> Answer<()> {
        panic!("nothing is removed")
    }

    fn renew(&self, _: &Name) -> Answer<()> {
        panic!("no lock is renewed")
    }
}

/// The machine dies at each call of the rewrite, before it or right after it, with all threads.
#[test]
fn trap_97_a_rewrite_dies_at_every_call_and_the_next_one_finishes() {
    let writer = written();
    let mut moments = 0;
    for (from, to) in CONVERSIONS {
        let both = of_both(from, to);
        let target = to.and(both.all.first());
        let cut = |at, late| {
            let mem = replica(&writer, from);
            let (inner, calls) = (Arc::clone(&mem) as Arc<dyn Backend>, AtomicU64::new(0));
            (mem, PowerCut { inner, at, late, calls })
        };
        let (mem, whole) = cut(u64::MAX, false);
        run(&whole, &both, target);
        let (objects, calls) = (mem.objects().len() as u64, whole.calls.into_inner());
        // Each kind is listed; each object is read, replaced and read back.
        assert_eq!(calls, 4 + 3 * objects);
        let mut mixed = 0;
        moments += 2 * calls;
        for (at, late) in (1..=calls).flat_map(|at| [(at, false), (at, true)]) {
            let (mem, dying) = cut(at, late);
            let order = Order { keys: &both, target, dry_run: false };
            let remaining = reencrypt(&dying, order, &Quiet).map_or(objects, |it| it.remaining);
            assert!(remaining > 0, "{at}: unnoticed");
            let done = target.map(|key| key.id);
            let rewritten = under(&mem).iter().filter(|id| **id == done).count() as u64;
            assert!(rewritten + remaining >= objects, "{at}: {rewritten}, {remaining} remain");
            mixed += u64::from((1..objects).contains(&rewritten));
            restores(&writer, &mem, &both);
            assert_eq!(run(&*mem, &both, target).remaining, 0);
            assert!(under(&mem).iter().all(|id| *id == done));
        }
        assert!(mixed > calls, "{mixed} of {} left a mixed replica", 2 * calls);
    }
    points::record("reencrypt-death", &[("points", moments)]);
}

/// A destination that is gone is not asked for each of the other objects.
#[test]
fn an_outage_stops_the_rewrite_and_what_remains_is_counted() {
    let writer = written();
    let (mem, both) = (replica(&writer, None), of_both(None, Some(1)));
    let faulty = Faulty::new(Arc::clone(&mem) as Arc<dyn Backend>);
    faulty.fail_all(Operation::Replace, Fault::Refused);
    let report = run(&faulty, &both, both.all.first());
    assert_eq!((report.rewritten, report.remaining), (0, report.objects));
    assert!(report.errors.len() <= THREADS, "{:?}", report.errors);
    assert_eq!(report.errors[0].status, Status::Unreachable);
}

/// Objects under a retention lock cannot be written over: the others are.
#[test]
fn objects_that_are_denied_remain_and_the_others_do_not() {
    let writer = written();
    let (mem, both) = (replica(&writer, None), of_both(None, Some(1)));
    let faulty = Faulty::new(Arc::clone(&mem) as Arc<dyn Backend>);
    faulty.fail(Operation::Replace, 2, Fault::Denied);
    faulty.fail(Operation::Replace, 3, Fault::Denied);
    let report = run(&faulty, &both, both.all.first());
    assert_eq!((report.rewritten, report.remaining), (report.objects - 2, 2));
    restores(&writer, &mem, &both);
}

/// What is damaged, or sealed with a key that is not there, is neither sealed anew nor lost.
#[test]
fn what_cannot_be_opened_stays_as_it_is() {
    let writer = written();
    let mem = replica(&writer, Some(1));
    let (damaged, lost) = {
        let mut objects = mem.objects();
        let names: Vec<String> = objects.keys().cloned().collect();
        let (damaged, lost) = (names[0].clone(), names[1].clone());
        let body = objects.get_mut(&damaged).unwrap();
        let middle = body.len() / 2;
        body[middle] ^= 1;
        let name: Name = lost.parse().unwrap();
        let plain = keys(&[1], Rule::Auto).all[0].open(&name, objects[&lost].clone()).unwrap();
        objects.insert(lost.clone(), keys(&[9], Rule::Auto).all[0].seal(&name, &plain));
        (damaged, lost)
    };
    let before = [&damaged, &lost].map(|name| mem.objects()[name].clone());
    let both = of_both(Some(1), Some(2));
    let report = run(&*mem, &both, both.all.first());
    assert_eq!((report.remaining, report.rewritten), (2, report.objects - 2));
    let mut statuses: Vec<_> = report.errors.iter().map(|error| error.status as u8).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [Status::Integrity as u8, Status::Key as u8]);
    assert_eq!([&damaged, &lost].map(|name| mem.objects()[name].clone()), before);
}

/// Whoever can write to the destination had put it there, and waited until the keys were changed.
#[test]
fn what_is_not_sealed_is_sealed_only_where_it_is_trusted() {
    let writer = written();
    let mem = replica(&writer, Some(1));
    let planted = mem.objects().keys().next().unwrap().clone();
    let plain = writer.store.objects()[&planted].clone();
    mem.objects().insert(planted.clone(), plain.clone());
    for rule in [Rule::Auto, Rule::All] {
        let strict = keys(&[2, 1], rule);
        for dry_run in [true, false] {
            let order = Order { keys: &strict, target: strict.all.first(), dry_run };
            let report = reencrypt(&*mem, order, &Quiet).unwrap();
            assert_eq!((report.remaining, report.found[&None]), (1, 1), "{rule:?}");
            assert_eq!(report.errors[0].status, Status::Key, "{rule:?}");
            assert_eq!(mem.objects()[&planted], plain, "{rule:?}");
        }
    }
    let trusting = keys(&[2, 1], Rule::New);
    let report = run(&*mem, &trusting, trusting.all.first());
    assert_eq!((report.rewritten, report.remaining), (1, 0));
    restores(&writer, &mem, &keys(&[2], Rule::Auto));
}

#[test]
fn an_empty_place_is_no_replica() {
    let both = of_both(None, Some(1));
    let order = Order { keys: &both, target: both.all.first(), dry_run: false };
    assert_eq!(reencrypt(&Mem::new(), order, &Quiet).unwrap_err().status, Status::Missing);
}
