//! Caps, held to the model: what is left comes back, the newest always does, and no more goes than has
//! to.

use super::*;
use crate::keep::{Cap, Sum};
use crate::list;
use crate::mend::{Terms, copy_missing};
use crate::repair::{self, repair};
use crate::testkit::Random;
use crate::upkeep::Round;

const NOW: Time = Time(10_000_500_000);

fn capped(source: &Arc<dyn Backend>, policy: &Policy, cap: Cap, mode: Mode) -> Done {
    let round = Round { caps: &[cap], ..at(policy, NOW) };
    let done = round.prune(&[Arc::clone(source)], Parts::Collect, mode).unwrap();
    assert!(done.errors.is_empty(), "{:?}", done.errors);
    done
}

fn over(done: &Done) -> Option<Over> {
    done.caps["memory"]
}

fn held(store: &Mem) -> Sum {
    let mut held = Sum::default();
    store.objects().values().for_each(|body| held.add(body.len() as u64));
    held
}

fn bytes(most: u64) -> Cap {
    Cap { bytes: Some(most), objects: None }
}

fn objects(most: u64) -> Cap {
    Cap { bytes: None, objects: Some(most as u32) }
}

/// Commits, alone and together, snapshots, some of them rolled, gaps and a branch: all by chance.
fn any_history(random: &mut Random) -> Writer {
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(4, 1..=4, 0)).snapshot();
    for n in 1..=30 {
        let step = Step::fill(4 + n % 3, [n % 4 + 1], n);
        match random.below(12) {
            0 | 1 => drop(writer.alone(&step).snapshot()),
            2 => {
                writer.ship().part(3, |_, _| ());
                writer.alone(&step).commit(&step);
                while writer.parts.last().is_none_or(|it| it.range().end <= writer.last().pages) {
                    writer.part(3, |_, _| ());
                }
                writer.ship().manifest();
            }
            3 if n == 17 => drop(writer.resync(&step)),
            4 | 5 => drop(writer.commit(&step)),
            6 if (12..20).contains(&n) && writer.timeline == Timeline(1) => {
                let replica = Replica::list(&*writer.ship().source()).unwrap();
                let ends = replica.changes.keys().map(|(span, _)| span.last.0);
                let end = ends.filter(|end| end + 2 <= writer.last().number.0).max();
                writer.fork(end.unwrap());
            }
            _ => drop(writer.alone(&step)),
        }
    }
    writer.ship();
    writer
}

/// Each point that is listed comes back as it was, and no flaw is found.
fn oldest_of(writer: &Writer) -> u64 {
    is_whole(writer);
    let last = writer.last().number.0;
    let back = points(writer, 1..=last);
    assert_eq!(back.last(), Some(&last), "the newest comes back");
    let runs = list::points(&*writer.source()).unwrap();
    let main = runs.iter().filter(|run| run.timeline == writer.timeline || run.last.0 <= last);
    let oldest = main.map(|run| run.first.0).min().unwrap();
    assert!(back[0] <= oldest || back.contains(&oldest), "{oldest} of {back:?}");
    back[0]
}

/// A cap that is a byte, or an object, too small for what is there lets one step go, and the next one
/// another: all of them are tried, down to what has to stay. Any other cap ends at one of them.
#[test]
fn trap_90_a_cap_takes_the_oldest_eras_one_by_one_and_leaves_what_the_newest_needs() {
    let (mut random, mut taken, mut gone) = (Random(7), 0, 0);
    for turn in 0..10 {
        let mut writer = any_history(&mut random);
        writer.now = NOW;
        let policy =
            [policy(&["all:1h"], &[]), policy(&["all:480s", "3s:1h"], &[])][turn % 2].clone();
        let cap = [|it: Sum| bytes(it.bytes - 1), |it: Sum| objects(it.objects - 1)][turn / 2 % 2];
        let source = writer.source();
        prune(&source, &policy, NOW);
        let before = writer.store.objects().clone();
        let kept = snapshots(&writer);
        let mut states = vec![(held(&writer.store), before.clone(), oldest_of(&writer))];
        loop {
            let done = capped(&source, &policy, cap(held(&writer.store)), Mode::Real);
            if over(&done).is_some() {
                assert_eq!(done.deleted, 0, "nothing goes that would not do");
                break;
            }
            assert!(done.deleted > 0, "{turn}: {:?} {:?}", held(&writer.store), done);
            gone += done.pruned.iter().filter(|it| it.why == Why::Capped).count();
            assert!(done.pruned.iter().all(|it| matches!(it.why, Why::Capped | Why::Unnamed)));
            let oldest = oldest_of(&writer);
            states.push((held(&writer.store), writer.store.objects().clone(), oldest));
            taken += 1;
        }
        let oldest: Vec<_> = states.iter().map(|it| it.2).collect();
        assert!(oldest.is_sorted() && oldest.iter().all(|it| kept.contains(it)), "{oldest:?}");
        assert_eq!(snapshots(&writer).len(), 1, "{turn}");
        for _ in 0..4 {
            let cap = bytes(1 + random.below(states[0].0.bytes));
            writer.store.objects().clone_from(&before);
            capped(&source, &policy, cap, Mode::Real);
            let fits = states.iter().find(|it| cap.allows(it.0)).or(states.last()).unwrap();
            assert!(*writer.store.objects() == fits.1, "{turn}: {cap}");
        }
    }
    assert!(taken > 20 && gone > 50, "{taken} steps, {gone} objects");
}

/// What would have to go for the cap stays, and is told; nothing else goes for it either.
#[test]
fn trap_90_a_cap_that_asks_for_the_newest_snapshot_is_told_and_not_followed() {
    let writer = history(35);
    let policy = policy(&["all:1h"], &[]);
    let dry = capped(&writer.source(), &policy, bytes(1), Mode::DryRun);
    assert_eq!(snapshots(&writer), [1, 11, 21, 31]);
    let done = capped(&writer.source(), &policy, bytes(1), Mode::Real);
    assert_eq!(done.pruned, dry.pruned);
    assert_eq!(snapshots(&writer), [31]);
    assert_eq!(points(&writer, 1..=35), Vec::from_iter(31..=35));
    is_whole(&writer);
    let over = over(&done).unwrap();
    assert_eq!(over, Over { held: held(&writer.store), cap: bytes(1), locked: false });
    assert_eq!(over, dry.caps["memory"].unwrap());
    let said = over.to_string();
    assert!(said.starts_with("the newest snapshot and what follows it have "), "{said}");
    assert!(said.ends_with(" in 8 objects, past replica_max = 1 B"), "{said}");
    assert!(capped(&writer.source(), &policy, Cap::default(), Mode::Real).caps["memory"].is_none());
}

/// The newest snapshot lacks a part: nothing that leads to a restore goes for its sake.
#[test]
fn nothing_goes_for_a_snapshot_that_cannot_be_restored_from() {
    let writer = history(35);
    let policy = policy(&["all:1h"], &[]);
    let replica = Replica::list(&*writer.source()).unwrap();
    let newest = replica.snapshots.iter().max_by_key(|span| span.last).unwrap();
    let manifest = crate::replica::read_manifest(&*writer.store, newest).unwrap();
    let earlier = |part: &Part| {
        let mut others = replica.snapshots.iter().filter(|span| *span != newest);
        others.any(|span| {
            let manifest = crate::replica::read_manifest(&*writer.store, span).unwrap();
            manifest.parts.iter().any(|it| it.part == *part)
        })
    };
    let own = manifest.parts.iter().map(|it| it.part).find(|part| !earlier(part)).unwrap();
    writer.store.delete(&Name::Part(own)).unwrap();
    capped(&writer.source(), &policy, bytes(1), Mode::Real);
    assert_eq!(snapshots(&writer), [21, 31]);
    assert_eq!(points(&writer, 21..=30), Vec::from_iter(21..=30));
}

/// A destination with a cap is not filled past it, nor is what has gone there brought back.
#[test]
fn what_there_is_no_room_for_is_neither_copied_nor_brought_back() {
    let writer = history(46);
    let policy = policy(&["all:1h"], &[]);
    let small = Arc::new(Mem::new());
    small.objects().clone_from(&writer.store.objects());
    let there = Arc::clone(&small) as Arc<dyn Backend>;
    let cap = objects(held(&small).objects / 2);
    assert!(capped(&there, &policy, cap, Mode::Real).deleted > 20);
    let before = small.objects().clone();
    let order = repair::Order {
        dry_run: false,
        keep: &policy.keep,
        caps: &[Cap::default(), cap],
        clock: NOW,
        settled: None,
    };
    let report =
        repair(vec![Ok(writer.source()), Ok(Arc::clone(&there))], order, &mut |_| None, &Quiet)
            .unwrap();
    assert_eq!(report.findings, []);
    assert!(*small.objects() == before);
    let empty = Mem::new();
    copy_missing(&*writer.store, &empty, &Terms::new(&policy.keep, cap, NOW)).unwrap();
    assert!(*empty.objects() == before);
    let lost = before.keys().find(|key| key.starts_with(Name::PARTS)).unwrap();
    small.objects().remove(lost);
    repair(vec![Ok(writer.source()), Ok(there)], order, &mut |_| None, &Quiet).unwrap();
    assert!(*small.objects() == before, "what there is room for is brought back");
}
