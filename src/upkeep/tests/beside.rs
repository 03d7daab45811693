//! What else looks at a replica while a round goes on, and what looks at two that were kept up at
//! different times: neither takes for damage what upkeep did.

use super::*;
use crate::backend::worm::Worm;
use crate::copies::Copies;
use crate::keep::{Cap, Keep};
use crate::mend::{Terms, copy_missing};
use crate::model::Writer;
use crate::repair::{self, repair};
use crate::verify::compare;

const LATER: Time = Time(10_000_100_000);

fn rules() -> Policy {
    policy(&["all:40s"], &[5, 15])
}

/// Calls `work` with a reader beside whom a round is made at its first call, its second and so on.
fn at_each_call(work: impl Fn(&Writer, &Arc<dyn Backend>)) -> u64 {
    for call in 0.. {
        let mut writer = seconds(40);
        writer.snapshot();
        writer.alone(&Step::fill(4, [2], 77)).snapshot();
        let (store, policy) = (Arc::clone(&writer.store), rules());
        let busy = Arc::new(Busy::new(store, call, policy));
        work(&writer, &(Arc::clone(&busy) as Arc<dyn Backend>));
        if busy.calls.load(Ordering::SeqCst) <= call {
            return call;
        }
    }
    unreachable!("a reader ends")
}

/// An object that was listed and is gone when it is read was told as damage, with every round.
#[test]
fn trap_89_a_verify_beside_a_round_finds_nothing_wrong() {
    let rounds = at_each_call(|_, reader| {
        assert_eq!(verify(reader, None, &Quiet).unwrap().findings, []);
    });
    assert!(rounds > 40, "{rounds}");
}

/// What is gone for good is still missed.
#[test]
fn an_object_that_is_listed_and_cannot_be_read_is_told() {
    struct Hollow(Writer, Name);
    impl fmt::Display for Hollow {
        fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("hollow")
        }
    }
    impl Backend for Hollow {
        fn put(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
            self.0.store.put(name, body)
        }
        fn replace(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
            self.0.store.replace(name, body)
        }
        fn get(&self, name: &Name) -> Result<Vec<u8>, Error> {
            let absent = Name::Timeline(crate::commit::Timeline(99));
            self.0.store.get(if *name == self.1 { &absent } else { name })
        }
        fn list(&self, prefix: &str, after: Option<&Name>) -> Result<Listing, Error> {
            self.0.store.list(prefix, after)
        }
        fn delete(&self, name: &Name) -> Result<(), Error> {
            self.0.store.delete(name)
        }
        fn renew(&self, name: &Name) -> Result<(), Error> {
            self.0.store.renew(name)
        }
    }
    let writer = seconds(5);
    let name = writer.changes()[2].parse().unwrap();
    let hollow = Arc::new(Hollow(writer, name)) as Arc<dyn Backend>;
    let report = verify(&hollow, None, &Quiet).unwrap();
    assert!(report.findings.iter().any(|it| it.what.contains("no such object")), "{report:?}");
}

/// A copy that takes hours broke off at the first change-set that was merged meanwhile.
#[test]
fn trap_89_a_copy_beside_a_round_is_whole() {
    let rounds = at_each_call(|writer, reader| {
        let copy = Arc::new(Mem::new()) as Arc<dyn Backend>;
        copy_missing(&**reader, &*copy, &Terms::new(&rules().keep, Cap::default(), LATER)).unwrap();
        assert!(restored(&copy, Target::Latest).unwrap() == writer.image(41));
        assert_eq!(verify(&copy, None, &Quiet).unwrap().findings, []);
    });
    assert!(rounds > 40, "{rounds}");
}

/// Where a copy is made to: once a timeline's record is put there, what it goes on from has to be there.
struct Watched(Arc<Mem>);

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("watched")
    }
}

impl Backend for Watched {
    fn put(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        self.0.put(name, body)?;
        let there = Arc::clone(&self.0) as Arc<dyn Backend>;
        if self.0.objects().contains_key("timeline/00000002") {
            restored(&there, Target::Latest).map_err(|error| panic!("{name}: {error}")).map(drop)
        } else {
            Ok(())
        }
    }
    fn replace(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        self.0.replace(name, body)
    }
    fn get(&self, name: &Name) -> Result<Vec<u8>, Error> {
        self.0.get(name)
    }
    fn list(&self, prefix: &str, after: Option<&Name>) -> Result<Listing, Error> {
        self.0.list(prefix, after)
    }
    fn delete(&self, name: &Name) -> Result<(), Error> {
        self.0.delete(name)
    }
    fn renew(&self, name: &Name) -> Result<(), Error> {
        self.0.renew(name)
    }
}

/// Found by a soak: what was merged while a copy was made was left for its next pass, and a newer
/// timeline's record came before what that goes on from. Until then nothing newest could be restored.
#[test]
fn trap_88_a_copy_beside_a_round_leads_to_each_timeline_that_it_has() {
    for call in 0.. {
        let mut writer = seconds(40);
        writer.fork(40);
        (0..3).for_each(|n| _ = writer.alone(&Step::fill(4, [2], n)));
        let busy = Busy::new(Arc::clone(&writer.store), call, rules());
        let to = Watched(Arc::new(Mem::new()));
        copy_missing(&busy, &to, &Terms::new(&Keep::default(), Cap::default(), LATER)).unwrap();
        let there = Arc::clone(&to.0) as Arc<dyn Backend>;
        assert!(restored(&there, Target::Latest).unwrap() == writer.image(43));
        if busy.calls.load(Ordering::SeqCst) <= call {
            assert!(call > 40, "{call}");
            return;
        }
    }
}

#[test]
fn trap_89_a_repair_beside_a_round_brings_nothing_back() {
    let rounds = at_each_call(|writer, reader| {
        let other = Mem::new();
        other.objects().clone_from(&writer.store.objects());
        let keep = rules().keep;
        let order =
            repair::Order { dry_run: false, keep: &keep, caps: &[], clock: LATER, settled: None };
        let places = vec![Ok(Arc::clone(reader)), Ok(Arc::new(other) as Arc<dyn Backend>)];
        let report = repair(places, order, &mut |_| None, &Quiet).unwrap();
        assert!(report.ok(), "{:?}", report.findings);
        let merged = writer.changes().iter().any(|key| !key.starts_with("change/0"));
        let again = at(&rules(), LATER).compact(&[writer.source()]).unwrap();
        assert!(!merged || again.deleted == 0, "what was merged stays away");
    });
    assert!(rounds > 50, "{rounds}");
}

/// The same replica twice: as it was shipped, and kept up.
fn two() -> (Writer, Policy, Arc<Mem>) {
    let policy = policy(&["all:15s", "5s:30s"], &[5, 15]);
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(3, 1..=3, 0)).snapshot();
    for n in 2..=60 {
        writer.alone(&Step::fill(3 + n % 3, [1, 2 + n % 3], n));
        if n % 7 == 0 {
            writer.snapshot();
        }
    }
    let kept = Arc::new(Mem::new());
    kept.objects().clone_from(&writer.store.objects());
    let sources = [Arc::clone(&kept) as Arc<dyn Backend>];
    let round = at(&policy, LATER);
    assert!(round.compact(&sources).unwrap().deleted > 30);
    let pruned = round.prune(&sources, Parts::Collect, Mode::Real).unwrap().pruned;
    let of = |kind: &str| pruned.iter().filter(|it| it.name.kind() == kind).count();
    assert!(of("snapshot") > 2 && of("part") > 2 && of("change") > 1, "{pruned:?}");
    (writer, policy, kept)
}

/// `repair` brought back what was pruned, `prune` deleted it again, and so on for ever.
#[test]
fn destinations_that_were_kept_up_at_different_times_lack_nothing() {
    let (writer, policy, kept) = two();
    let (before, raw) = (kept.objects().clone(), writer.store.objects().clone());
    let kept_up = Arc::clone(&kept) as Arc<dyn Backend>;
    let run = || {
        let places = vec![Ok(writer.source()), Ok(Arc::clone(&kept_up))];
        let keep = &policy.keep;
        let order = repair::Order { dry_run: false, keep, caps: &[], clock: LATER, settled: None };
        repair(places, order, &mut |_| None, &Quiet).unwrap()
    };
    assert_eq!(run().findings, []);
    assert!(before == *kept.objects() && raw == *writer.store.objects());
    let reports: Vec<_> = [writer.source(), Arc::clone(&kept_up)]
        .iter()
        .map(|it| (it.to_string(), verify(it, None, &Quiet).unwrap()))
        .collect();
    assert!(reports.iter().all(|(_, report)| report.findings.is_empty()));
    let reports: Vec<_> = reports.iter().map(|(place, report)| (place.clone(), report)).collect();
    assert_eq!(compare(&reports), []);
    // What is really gone there comes back, in the other one's pieces.
    let merged = before.keys().rfind(|key| key.starts_with("change/2")).unwrap();
    kept.objects().remove(merged);
    let healed = run();
    assert!(healed.ok() && healed.findings.len() > 5, "{:?}", healed.findings);
    assert_eq!(verify(&kept_up, None, &Quiet).unwrap().findings, []);
    assert!(restored(&kept_up, Target::Latest).unwrap() == writer.image(60));
}

/// A mirror is filled from a sibling with each snapshot. Where that may delete nothing for a month, the
/// mirror was given all that its own upkeep had removed, each time.
#[test]
fn what_upkeep_removed_is_not_copied_again_from_one_that_keeps_it() {
    let (writer, policy, kept) = two();
    let worm = Arc::new(Worm::new(1_000_000));
    copy_missing(
        &*writer.store,
        &*worm,
        &Terms::new(&Keep::parse(&[]).unwrap(), Cap::default(), LATER),
    )
    .unwrap();
    let locked = Arc::clone(&worm) as Arc<dyn Backend>;
    let done = at(&policy, LATER).compact(&[Arc::clone(&locked)]).unwrap();
    assert!(done.deleted == 0 && done.locked > 0 && done.made > 0);
    let before = kept.objects().clone();
    copy_missing(&*worm, &*kept, &Terms::new(&policy.keep, Cap::default(), LATER)).unwrap();
    assert!(before == *kept.objects(), "nothing came");
    let empty = Arc::new(Mem::new());
    copy_missing(&*worm, &*empty, &Terms::new(&policy.keep, Cap::default(), LATER)).unwrap();
    assert!(before == *empty.objects(), "a new one gets just what is kept");
}

/// Away while others were merged and pruned, with change-sets of its own that nobody else has any more.
#[test]
fn a_destination_that_comes_back_after_days_ends_like_the_others() {
    let (mut writer, policy, kept) = two();
    let late = Arc::new(Mem::new());
    let mut old = writer.store.objects().clone();
    old.retain(|key, _| !key.starts_with(Name::CHANGES) || *key < format!("change/0/{:016x}", 20));
    late.objects().extend(old);
    writer.store.objects().clone_from(&kept.objects());
    writer.alone(&Step::fill(3, [1], 99)).snapshot();
    copy_missing(&*writer.store, &*late, &Terms::new(&policy.keep, Cap::default(), LATER)).unwrap();
    let clock = Time(LATER.0 + 60_000);
    let both = [writer.source(), Arc::clone(&late) as Arc<dyn Backend>];
    let round = at(&policy, clock);
    let done = round.compact(&both).unwrap();
    assert!(done.errors.is_empty(), "{:?}", done.errors);
    let done = round.prune(&both, Parts::Collect, Mode::Real).unwrap();
    assert!(done.errors.is_empty(), "{:?}", done.errors);
    let changes = |mem: &Mem| {
        let objects = mem.objects();
        objects.keys().filter(|key| key.starts_with(Name::CHANGES)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(changes(&late), changes(&writer.store));
    for source in &both {
        assert_eq!(verify(source, None, &Quiet).unwrap().findings, []);
        assert!(restored(source, Target::Latest).unwrap() == writer.image(61));
    }
}

/// Several destinations are listed once and read as one: where upkeep had kept all of them up since, a
/// restore failed that would have gone well when it was asked for again.
#[test]
fn trap_89_a_restore_from_all_destinations_beside_a_round_gives_what_was_asked_for() {
    let rounds = at_each_call(|writer, reader| {
        let copies = Arc::new(Copies::open(vec![Ok(Arc::clone(reader))]).unwrap());
        let work = |source: &Arc<dyn Backend>| restored(source, Target::Commit(CommitNo(33)));
        let back = copies.all_as_one(work).unwrap();
        assert!(back == writer.image(33));
        assert_eq!(copies.fallbacks(), []);
    });
    assert!(rounds > 20, "{rounds}");
}

/// Two who prune at a time: a manifest that is gone by the time it is read is no damage, and no part
/// goes that it may have named.
#[test]
fn a_prune_beside_another_one_takes_nothing_for_damage() {
    let mut fired = 0;
    for call in 0.. {
        let mut writer = seconds(40);
        for n in 41..=60 {
            writer.alone(&Step::fill(4, [2], n)).snapshot();
        }
        let policy = policy(&["all:15s", "5s:30s"], &[5, 15]);
        let store = Arc::clone(&writer.store);
        // Who is told to keep less deletes what this one counts on.
        let busy = Arc::new(Busy::new(store, call, self::policy(&["5s:10s"], &[5, 15])));
        let done = at(&policy, LATER)
            .prune(&[Arc::clone(&busy) as Arc<dyn Backend>], Parts::Collect, Mode::Real)
            .unwrap();
        assert!(done.errors.is_empty(), "call {call}: {:?}", done.errors);
        assert_eq!(verify(&writer.source(), None, &Quiet).unwrap().findings, [], "call {call}");
        assert!(restored(&writer.source(), Target::Latest).unwrap() == writer.image(60));
        if busy.calls.load(Ordering::SeqCst) <= call {
            break;
        }
        fired += 1;
    }
    assert!(fired > 8, "{fired}");
}
