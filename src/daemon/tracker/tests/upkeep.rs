//! Upkeep as a job of the daemon: beside the shipping, from what it has at hand, and left off at once.

use super::lanes::Pair;
use super::*;
use crate::keep::{Cap, bucket};
use crate::name::Name;
use crate::testkit::mortal::put_behind;

const WINDOW: Duration = Duration::from_secs(1);

/// Two destinations with change-sets of one commit each, all but the last of a window that has passed.
fn shipped() -> (Pair, Sim) {
    let mut pair = Pair::new();
    pair.config.settings.compaction = vec![WINDOW];
    let mut sim = pair.sim();
    sim.until(|sim| sim.is_current());
    for _ in 0..8 {
        commits(&pair.writer, 1);
        sim.until(|sim| sim.is_current());
    }
    let window = || bucket(clock::now(), WINDOW);
    let then = window();
    while window() == then {
        std::thread::yield_now();
    }
    commits(&pair.writer, 1);
    sim.until(|sim| sim.is_current());
    (pair, sim)
}

fn changes(pair: &Pair) -> usize {
    let listed = crate::backend::list_all(&*pair.backend(0), Name::CHANGES).unwrap();
    listed.entries.len()
}

#[test]
fn the_daemon_merges_what_it_shipped_and_fetches_nothing_for_that() {
    let (pair, mut sim) = shipped();
    let before = changes(&pair);
    let job = sim.upkeep(sim.now + WINDOW).expect("it is due");
    assert!(sim.upkeep(sim.now + WINDOW).is_none(), "one round at a time");
    let done = (job.work)();
    let Done::Abroad(_, Abroad::Kept(Ok(kept))) = &done else { panic!("{done:?}") };
    assert!(kept.errors.is_empty(), "{:?}", kept.errors);
    assert!(kept.made > 0 && kept.merged > kept.made, "{kept:?}");
    assert_eq!(kept.read_bytes, 0, "all of it was at hand");
    assert!(changes(&pair) < before);
    sim.tracker.done(done, sim.now);
    pair.both_agree();
    // What was acknowledged last is there still, so no destination counts as robbed.
    for at in 0..2 {
        sim.tracker
            .stores
            .as_ref()
            .unwrap()
            .look_at(at, crate::fanout::Inspection::Glance)
            .unwrap();
        assert!(!sim.tracker.stores.as_ref().unwrap().is_behind(at));
    }
    assert!(sim.upkeep(sim.now + WINDOW * 9).is_none(), "there is nothing new");
    assert!(sim.drain().is_none());
}

/// Each destination is held to its own cap, and one that cannot be is told of, not worked at for ever.
#[test]
fn a_cap_that_cannot_be_held_to_is_noted_for_the_destination_that_has_it() {
    let mut pair = Pair::new();
    pair.config.settings.compaction = vec![WINDOW];
    pair.config.caps = vec![Cap::default(), Cap { objects: Some(1), bytes: None }];
    let mut sim = pair.sim();
    sim.until(|sim| sim.is_current());
    let job = sim.upkeep(sim.now + WINDOW).expect("it is due");
    let done = (job.work)();
    sim.tracker.done(done, sim.now);
    let over = &sim.tracker.status.over;
    let place = pair.config.destinations[1].to_string();
    assert_eq!(over.keys().collect::<Vec<_>>(), [&place]);
    assert!(over[&place].what.ends_with(" objects, past objects_max = 1"), "{over:?}");
    sim.tracker.note_caps([(place, None)].into());
    assert!(sim.tracker.status.over.is_empty());
    pair.both_agree();
    assert!(sim.drain().is_none());
}

#[test]
fn a_round_is_left_off_when_the_daemon_is_to_end() {
    let (pair, mut sim) = shipped();
    let before = changes(&pair);
    let job = sim.upkeep(sim.now + WINDOW).unwrap();
    sim.tracker.drain();
    let done = (job.work)();
    assert_eq!(changes(&pair), before);
    sim.tracker.done(done, sim.now);
    assert!(sim.drain().is_none());
    assert!(sim.upkeep(sim.now + WINDOW * 9).is_none(), "it has ended");
    pair.both_agree();
}

/// A destination that is behind is kept up once it has everything, and until then left as it is.
#[test]
fn the_upkeep_of_a_destination_that_is_behind_waits() {
    let (pair, mut sim) = shipped();
    pair.take(1);
    commits(&pair.writer, 1);
    sim.until(|sim| lanes::shipped(sim));
    let done = (sim.upkeep(sim.now + WINDOW).unwrap().work)();
    assert!(
        matches!(&done, Done::Abroad(_, Abroad::Kept(Ok(kept))) if kept.made > 0 && kept.errors.is_empty())
    );
    sim.tracker.done(done, sim.now);
    pair.give_back(1);
    sim.until(|sim| sim.is_current());
    commits(&pair.writer, 1);
    sim.until(|sim| sim.is_current());
    let done = (sim.upkeep(sim.now + WINDOW * 2).unwrap().work)();
    sim.tracker.done(done, sim.now);
    assert!(sim.drain().is_none());
    pair.both_agree();
}

/// Keys that may not delete, or locks: asking every time, for every listing, would cost more than it
/// brings. What is pruned is asked for again as well.
#[test]
fn trap_77_a_destination_that_refuses_is_left_alone_for_an_hour() {
    const HOUR: Duration = Duration::from_secs(3600);
    let (db, writer) = new_db();
    let mut config = db.config();
    config.settings.compaction = vec![WINDOW];
    let faulty = Arc::new(Faulty::new(Arc::new(crate::backend::mem::Mem::new())));
    let place = config.destinations[0].to_string();
    put_behind(&place, Some(Arc::clone(&faulty) as Arc<dyn Backend>));
    let mut sim = Sim::new(&db);
    sim.tracker = Tracker::new(&config, false, sim.now);
    sim.until(|sim| sim.is_current());
    for _ in 0..4 {
        commits(&writer, 1);
        sim.until(|sim| sim.is_current());
    }
    let then = bucket(clock::now(), WINDOW);
    while bucket(clock::now(), WINDOW) == then {
        std::thread::yield_now();
    }
    faulty.fail_all(Operation::Delete, Fault::Denied);
    let mut round = |after: Duration| {
        commits(&writer, 1);
        sim.until(|sim| sim.is_current());
        let now = sim.now + after;
        let before = (faulty.calls(Operation::List), faulty.calls(Operation::Delete));
        let done = sim.upkeep(now).expect("it is due");
        let done = (done.work)();
        sim.tracker.done(done, now);
        let lists = faulty.calls(Operation::List) - before.0;
        (lists, faulty.calls(Operation::Delete) - before.1)
    };
    assert_eq!(round(WINDOW), (8, 1), "merged, and pruned");
    assert_eq!(round(HOUR / 2), (0, 0), "it is not even listed");
    assert_eq!(round(HOUR * 2), (8, 1));
    faulty.heal();
    let (lists, deletes) = round(HOUR * 4);
    assert!(lists == 8 && deletes > 1, "{deletes}");
    put_behind(&place, None);
}

/// A part that nothing names yet may be one that the snapshot under way has passed over.
#[test]
fn parts_are_collected_only_while_no_snapshot_is_under_way() {
    const HOUR: Duration = Duration::from_secs(3600);
    let (db, writer) = new_db();
    let store = Arc::new(crate::backend::mem::Mem::new());
    let mut config = db.config();
    config.settings.snapshot_interval = Duration::from_millis(1);
    let place = config.destinations[0].to_string();
    put_behind(&place, Some(Arc::clone(&store) as Arc<dyn Backend>));
    let mut sim = Sim::new(&db);
    sim.tracker = Tracker::new(&config, false, sim.now);
    sim.until(|sim| sim.is_current());
    let part = crate::name::Part { page: crate::commit::PageNo(1), hash: 7 };
    let part = Name::Part(part);
    store.put(&part, b"nothing names it").unwrap();
    let mut later = sim.now;
    let mut round = |sim: &mut Sim| {
        later += HOUR;
        let job = sim.upkeep(later).expect("it is due");
        sim.tracker.done((job.work)(), later);
        assert!(sim.tracker.upkeep.makes_way());
        store.get(&part).is_ok()
    };
    commits(&writer, 1);
    let under_way = |sim: &Sim| sim.tracker.survey != Survey::None || sim.tracker.rolling.is_some();
    sim.until(|sim| under_way(sim));
    assert!(round(&mut sim), "one is under way");
    sim.until(|sim| sim.is_current() && !under_way(sim));
    assert!(!round(&mut sim), "none is");
    put_behind(&place, None);
    assert!(restored(&(store as Arc<dyn Backend>), Target::Latest).unwrap() == db.image());
}
