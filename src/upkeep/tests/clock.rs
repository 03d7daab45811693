//! Upkeep by a clock that is wrong for a while: half a year ahead, and then set back.

use super::*;
use crate::compact::tests::points;
use crate::model::Writer;
use crate::replica::Replica;

const HOUR: u64 = 3_600_000;
const HALF_YEAR: u64 = 182 * 24 * HOUR;

/// A writer of a commit a second, each alone, with a snapshot now and then, by a clock that it is told.
struct Told(Writer);

impl Told {
    fn new(count: u32) -> Self {
        let mut told = Self(Writer::new(512));
        (1..=count).for_each(|n| told.second(n));
        told
    }

    fn second(&mut self, n: u32) {
        let pages = if n == 1 { 1..=4 } else { n % 4 + 1..=n % 4 + 1 };
        self.0.alone(&Step::fill(4, pages, n));
        if n % 20 == 1 {
            self.0.snapshot();
        }
    }

    /// Sets the clock.
    fn set(&mut self, by: impl Fn(u64) -> u64) {
        self.0.now.0 = by(self.0.now.0);
    }

    fn round(&self, policy: &Policy) -> u64 {
        let (sources, round) = ([self.0.source()], at(policy, self.0.now));
        let done = round.compact(&sources).unwrap();
        let done = done.and(round.prune(&sources, Parts::Collect, Mode::Real).unwrap());
        assert!(done.errors.is_empty(), "{:?}", done.errors);
        done.pruned.len() as u64
    }

    fn all_come_back(&self, to: u64) {
        let some = || (1..=to).step_by(if to > 200 { 7 } else { 1 });
        assert_eq!(points(&self.0, some()), Vec::from_iter(some()));
        let report = verify(&self.0.source(), None, &Quiet).unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }
}

/// Commits keep the times that the clock gave them, and those after it was set back have the latest of
/// these or later ones: their windows pass in half a year, and until then nothing was merged. A daemon
/// ships 86,400 change-sets a day, all of which are listed by whoever starts or restores.
#[test]
fn trap_67_what_is_stamped_in_the_future_is_merged_all_the_same() {
    let mut told = Told::new(30);
    let policy = policy(&["all:1h"], &[10, 60]);
    told.set(|now| now + HALF_YEAR);
    (31..=40).for_each(|n| told.second(n));
    told.set(|now| now - HALF_YEAR);
    for n in 41..=400 {
        told.second(n);
        if n % 10 == 0 {
            told.round(&policy);
        }
    }
    let replica = Replica::list(&*told.0.source()).unwrap();
    let levels = [0, 1, 2].map(|level| replica.changes.keys().filter(|it| it.1 == level).count());
    // As if the clock had been right: a few young ones, some windows and one for each minute.
    assert!(levels[0] < 12 && levels[1] < 12 && levels[2] >= 6 && levels[2] < 12, "{levels:?}");
    told.all_come_back(400);
}

/// For an hour the clock was half a year ahead, and upkeep went by it: all of before was old.
#[test]
fn trap_79_a_clock_that_leaps_makes_nothing_old() {
    let mut told = Told::new(50);
    let policy = policy(&["all:1h", "10m:1d"], &[10, 60]);
    told.set(|now| now + HALF_YEAR);
    for n in 51..=110 {
        told.set(|now| now + 60_000);
        told.second(n);
        assert_eq!(told.round(&policy), 0, "commit {n}");
    }
    told.set(|now| now - HALF_YEAR);
    (111..=115).for_each(|n| told.second(n));
    assert_eq!(told.round(&policy), 0);
    told.all_come_back(115);
}

/// After a leap and a way back, commits keep the time of the leap for months. A second one made that the time
/// that was trusted, and all that is real was old.
#[test]
fn trap_79_a_clock_that_leaps_twice_makes_nothing_old() {
    for goes_back in [true, false] {
        let mut told = Told::new(50);
        let policy = policy(&["all:1h", "10m:1d"], &[10, 60]);
        told.set(|now| now + HALF_YEAR);
        told.second(51);
        if goes_back {
            told.set(|now| now - HALF_YEAR);
        }
        (52..=70).for_each(|n| told.second(n));
        told.set(|now| now + 2 * HALF_YEAR);
        told.second(71);
        assert_eq!(told.round(&policy), 0);
        told.all_come_back(71);
    }
}

/// What looks like a leap may be a long rest. Once commits have gone on for a day, it was one.
#[test]
fn after_a_long_rest_what_is_old_goes_a_day_later() {
    let mut told = Told::new(50);
    let policy = policy(&["all:1h", "10m:1d"], &[10, 60]);
    told.set(|now| now + HALF_YEAR);
    let mut pruned = Vec::new();
    for n in 51..=51 + 60 {
        told.set(|now| now + HOUR);
        told.second(n);
        pruned.push(told.round(&policy));
    }
    assert_eq!(pruned[..24], [0; 24]);
    assert!(pruned[24..].iter().sum::<u64>() > 0);
    let first =
        Replica::list(&*told.0.source()).unwrap().snapshots.iter().map(|it| it.last.0).min();
    assert!(first > Some(1), "{first:?}");
}
