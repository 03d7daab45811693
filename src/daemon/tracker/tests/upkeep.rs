//! Upkeep as a job of the daemon: beside the shipping, from what it has at hand, and left off at once.

use super::lanes::Pair;
use super::*;
use crate::keep::bucket;
use crate::name::Name;

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
    let job = sim.tracker.next_upkeep(sim.now + WINDOW).expect("it is due");
    assert!(sim.tracker.next_upkeep(sim.now + WINDOW).is_none(), "one round at a time");
    let done = job();
    let Done::Kept(Ok(kept)) = &done else { panic!("{done:?}") };
    assert!(kept.errors.is_empty(), "{:?}", kept.errors);
    assert!(kept.made > 0 && kept.merged > kept.made, "{kept:?}");
    assert_eq!(kept.read_bytes, 0, "all of it was at hand");
    assert!(changes(&pair) < before);
    sim.tracker.done(done, sim.now);
    pair.both_agree();
    // What was acknowledged last is there still, so no destination counts as robbed.
    for at in 0..2 {
        sim.tracker.stores.as_ref().unwrap().look_at(at).unwrap();
        assert!(!sim.tracker.stores.as_ref().unwrap().is_behind(at));
    }
    assert!(sim.tracker.next_upkeep(sim.now + WINDOW * 9).is_none(), "there is nothing new");
    assert!(sim.drain().is_none());
}

#[test]
fn a_round_is_left_off_when_the_daemon_is_to_end() {
    let (pair, mut sim) = shipped();
    let before = changes(&pair);
    let job = sim.tracker.next_upkeep(sim.now + WINDOW).unwrap();
    sim.tracker.drain();
    let done = job();
    assert_eq!(changes(&pair), before);
    sim.tracker.done(done, sim.now);
    assert!(sim.drain().is_none());
    assert!(sim.tracker.next_upkeep(sim.now + WINDOW * 9).is_none(), "it has ended");
    pair.both_agree();
}

/// A destination that is behind is kept up once it has everything, and until then left as it is.
#[test]
fn the_upkeep_of_a_destination_that_is_behind_waits() {
    let (pair, mut sim) = shipped();
    pair.take(1);
    commits(&pair.writer, 1);
    sim.until(|sim| lanes::shipped(sim));
    let done = sim.tracker.next_upkeep(sim.now + WINDOW).unwrap()();
    assert!(matches!(&done, Done::Kept(Ok(kept)) if kept.made > 0 && kept.errors.is_empty()));
    sim.tracker.done(done, sim.now);
    pair.give_back(1);
    sim.until(|sim| sim.is_current());
    commits(&pair.writer, 1);
    sim.until(|sim| sim.is_current());
    let done = sim.tracker.next_upkeep(sim.now + WINDOW * 2).unwrap()();
    sim.tracker.done(done, sim.now);
    assert!(sim.drain().is_none());
    pair.both_agree();
}
