//! A sample of each target, and what the harness sees of a parser that is wrong.

use super::*;
use std::thread;

/// What `make fuzz` runs for minutes, with the same inputs each time.
#[test]
fn every_target_stands_a_sample() {
    let sample = |target: &'static Target| {
        let (stood, fall) = target.fuzz(1, 0, Until::Runs(target.sample), |_| ());
        let fall = fall.map(|Fall { run, wrong, .. }| format!("run {run}: {wrong}"));
        assert_eq!(fall, None, "{0}; run: torture fuzz {0} --seed 1", target.name);
        assert!(stood.shows_something(), "{}: {stood:?}", target.name);
        assert_eq!(stood.runs(), target.sample);
    };
    thread::scope(|scope| {
        TARGETS.iter().for_each(|target| drop(scope.spawn(move || sample(target))));
    });
}

#[test]
fn names_are_unique_and_short() {
    let names: std::collections::BTreeSet<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names.len(), TARGETS.len());
    assert!(names.iter().all(|name| name.len() <= 10 && find(name).is_some()));
    assert!(find("nothing").is_none());
}

/// A parser with a fault that some inputs show: their first byte says which one.
struct Faulty;

impl Fuzz for Faulty {
    fn input(&mut self, rng: &mut Rng) -> Input {
        Input { bytes: vec![rng.number() as u8], is: Is::Changed }
    }

    fn check(&mut self, Input { bytes, .. }: &Input) -> Result<Seen, String> {
        match bytes[0] {
            0 => panic!("an index out of bounds"),
            1 => drop(Vec::<u8>::with_capacity(1 << 30)),
            2 => return Err("it became another one".to_owned()),
            _ => {}
        }
        Ok(if bytes[0] & 1 == 0 { Seen::Taken } else { Seen::Refused })
    }
}

const FAULTY: Target = Target {
    name: "faulty",
    parses: "",
    holds: "",
    share: 1,
    sample: 0,
    make: || Box::new(Faulty),
};

#[test]
fn a_panic_and_a_greedy_parser_and_one_that_errs_are_seen_and_replayed() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let (stood, fall) = FAULTY.fuzz(seed, 0, Until::Runs(10_000), |_| ());
        let fall = fall.expect("three inputs of 256 are fatal");
        let word = ["a panic: an index", "took 1073741824 bytes", "another one"];
        let word = word.iter().find(|word| fall.wrong.contains(**word)).expect("one of them");
        seen.insert(*word);
        assert_eq!(stood.runs(), fall.run);
        let (_, again) = FAULTY.fuzz(seed, fall.run, Until::Runs(1), |_| ());
        assert_eq!(again, Some(fall));
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[test]
fn a_batch_is_told_of_before_it_begins() {
    let mut told = Vec::new();
    let (seed, most) = (0..)
        .map(|seed| (seed, FAULTY.fuzz(seed, 0, Until::Runs(500), |_| ())))
        .find_map(|(seed, (stood, _))| (stood.runs() > 2 * BATCH).then(|| (seed, stood.runs())))
        .expect("some seed lasts");
    FAULTY.fuzz(seed, 0, Until::Runs(most), |run| told.push(run));
    assert!(told.starts_with(&[0, BATCH, 2 * BATCH]), "{told:?}");
}
