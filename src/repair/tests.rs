//! Destinations that were spoiled in one way or another, before and after.

use super::*;
use crate::backend::mem::Mem;
use crate::model::{Step, Writer};
use crate::restore::Target;
use crate::testkit::mortal::{DEATHS, Death, Mortal};
use crate::testkit::points;
use crate::testkit::rig::{Quiet, restored};
use crate::verify::verify;
use Outcome::{Curable, Harmless, Healed, Hurt};
use std::sync::LazyLock;

fn mem(writer: &Writer) -> Arc<Mem> {
    let mem = Mem::new();
    mem.objects().extend(writer.store.objects().clone());
    Arc::new(mem)
}

/// Two snapshots, two timelines, a transaction in parts; ten commits.
fn writer() -> Writer {
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(4, 1..=4, 0)).snapshot();
    writer.alone(&Step::fill(4, [2], 2)).alone(&Step::fill(4, [3], 3));
    writer.in_parts(&Step::fill(6, 1..=6, 4), 2, 1);
    writer.fork(4);
    writer.alone(&Step::fill(6, [5], 5)).snapshot();
    for n in 6..=10 {
        writer.alone(&Step::fill(6, [n % 6 + 1], n));
    }
    writer
}

static KEEP: LazyLock<Keep> = LazyLock::new(Keep::default);

fn order(dry_run: bool, settled: Option<(Timeline, CommitNo)>) -> Order<'static> {
    Order { dry_run, keep: &KEEP, caps: &[], clock: Time(u64::MAX), settled }
}

fn run(mems: &[&Arc<Mem>], order: Order) -> Report {
    let places = mems.iter().map(|mem| Ok(Arc::clone(mem) as Arc<dyn Backend>));
    repair(places.collect(), order, &mut |_| None, &Quiet).unwrap()
}

fn outcomes(report: &Report) -> Vec<Outcome> {
    report.findings.iter().map(|finding| finding.outcome).collect()
}

fn keys(mem: &Mem) -> Vec<String> {
    mem.objects().keys().cloned().collect()
}

#[track_caller]
fn whole(writer: &Writer, mem: &Arc<Mem>) {
    assert!(*mem.objects() == *writer.store.objects(), "every byte of it");
}

/// How an object is spoiled: gone, torn, one bit, the bytes of another one.
fn spoil(mem: &Mem, key: &str, how: usize) {
    let mut objects = mem.objects();
    let other = objects.iter().find(|(other, _)| *other != key).unwrap().1.clone();
    let body = objects.get_mut(key).unwrap();
    let middle = body.len() / 2;
    match how % 4 {
        0 => drop(objects.remove(key)),
        1 => body.truncate(middle),
        2 => body[middle] ^= 4,
        _ => *body = other,
    }
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let writer = writer();
    let (one, two) = (mem(&writer), mem(&writer));
    for mems in [&[&one][..], &[&one, &two]] {
        let report = run(mems, order(false, None));
        assert_eq!(report.findings, []);
        assert_eq!(report.objects, (mems.len() * writer.store.objects().len()) as u64);
    }
}

#[test]
fn whatever_is_wrong_with_an_object_a_sibling_heals_it() {
    let writer = writer();
    for (at, key) in keys(&writer.store).iter().enumerate() {
        for how in 0..4 {
            let mems = [mem(&writer), mem(&writer)];
            spoil(&mems[at % 2], key, how);
            let before = mems[at % 2].objects().clone();
            let dry = run(&[&mems[0], &mems[1]], order(true, None));
            assert_eq!(outcomes(&dry), [Curable], "{key}, {how}: {:?}", dry.findings);
            assert!(dry.findings[0].where_.ends_with(key) && !dry.ok());
            assert!(before == *mems[at % 2].objects(), "it was dry");
            let report = run(&[&mems[0], &mems[1]], order(false, None));
            assert_eq!(outcomes(&report), [Healed], "{key}, {how}: {:?}", report.findings);
            assert!(report.ok());
            mems.iter().for_each(|mem| whole(&writer, mem));
            assert_eq!(run(&[&mems[0], &mems[1]], order(false, None)).findings, []);
        }
    }
}

#[test]
fn two_heal_each_other_where_each_has_lost_something_else() {
    let writer = writer();
    for turn in 0..2 {
        let mems = [mem(&writer), mem(&writer)];
        let keys = keys(&writer.store);
        for (at, key) in keys.iter().enumerate().filter(|(_, key)| !key.contains("timeline")) {
            spoil(&mems[(at + turn) % 2], key, at / 2);
        }
        let report = run(&[&mems[0], &mems[1]], order(false, None));
        assert!(report.ok(), "{:?}", report.findings);
        mems.iter().for_each(|mem| whole(&writer, mem));
    }
}

/// A part counted for nothing where the snapshot that names it was lost, so it was said that nobody had it
/// whole; a second run, with the snapshot healed, took it from there.
#[test]
fn a_part_is_taken_from_one_that_has_lost_the_snapshot_which_names_it() {
    let writer = writer();
    let of =
        |kind: &str| keys(&writer.store).into_iter().filter(|key| key.starts_with(kind)).collect();
    let (snapshots, parts): (Vec<_>, Vec<_>) = (of(Name::SNAPSHOTS), of(Name::PARTS));
    for (turn, (snapshot, part)) in
        snapshots.iter().flat_map(|it| parts.iter().map(move |part| (it, part))).enumerate()
    {
        // Who has lost which of the two; the last one has it whole for all of them.
        for lost in
            [&[(true, false), (false, true)][..], &[(true, true), (false, true), (true, false)]]
        {
            let mut mems: Vec<_> = lost.iter().map(|_| mem(&writer)).collect();
            for (mem, (no_snapshot, no_part)) in mems.iter().zip(lost) {
                no_snapshot.then(|| spoil(mem, snapshot, turn));
                no_part.then(|| spoil(mem, part, 0));
            }
            mems.rotate_left(turn % lost.len());
            let mems: Vec<_> = mems.iter().collect();
            let dry = run(&mems, order(true, None));
            assert!(outcomes(&dry).iter().all(|it| *it == Curable), "{:?}", dry.findings);
            let report = run(&mems, order(false, None));
            assert!(report.ok(), "{:?}", report.findings);
            mems.iter().for_each(|mem| whole(&writer, mem));
        }
    }
}

#[test]
fn trap_85_a_destination_wiped_or_rolled_back_is_filled() {
    let mut writer = writer();
    let old = mem(&writer);
    writer.alone(&Step::fill(6, [1], 11)).fork(11);
    writer.alone(&Step::fill(6, [1], 12)).snapshot();
    for spoiled in [old, Arc::new(Mem::new())] {
        for how in [order(false, None), order(false, Some((Timeline(3), CommitNo(12))))] {
            let (spoiled, sound) = (Mem::new(), mem(&writer));
            let spoiled = Arc::new(spoiled);
            let report = run(&[&spoiled, &sound], how);
            assert!(report.ok() && !report.findings.is_empty(), "{:?}", report.findings);
            whole(&writer, &spoiled);
        }
        let report = run(&[&spoiled, &mem(&writer)], order(false, None));
        assert!(report.ok(), "{:?}", report.findings);
        whole(&writer, &spoiled);
    }
}

/// Both lack a part, and its pages are written to as soon as it is made for the one.
#[test]
fn what_was_made_for_one_is_there_for_the_other() {
    let writer = writer();
    let mems = [mem(&writer), mem(&writer)];
    let part = keys(&writer.store).into_iter().rfind(|key| key.starts_with("part/")).unwrap();
    let mut body = writer.store.objects().get(&part).cloned();
    mems.iter().for_each(|mem| spoil(mem, &part, 0));
    let places = mems.iter().map(|mem| Ok(Arc::clone(mem) as Arc<dyn Backend>)).collect();
    let mut make = |wanted: Needed<'_>| match wanted {
        Needed::Part(it) => body.take_if(|_| it.name().to_string() == part),
        Needed::Change(_) => None,
    };
    let report = repair(places, order(false, None), &mut make, &Quiet).unwrap();
    assert_eq!(outcomes(&report), [Healed, Healed], "{:?}", report.findings);
    mems.iter().for_each(|mem| whole(&writer, mem));
}

/// The same object is damaged on both: it stays as it is, and it is said what is lost by it.
#[test]
fn what_nobody_has_whole_is_left_and_told() {
    let writer = writer();
    let cases = [("000000000000000a-", "commit 10"), ("0000000000000008-", "commits 8 to 10")];
    for (commit, lost) in cases {
        let mems = [mem(&writer), mem(&writer)];
        let changes = writer.changes();
        let key = changes.iter().find(|key| key.contains(&format!("0/{commit}"))).unwrap();
        spoil(&mems[0], key, 1);
        spoil(&mems[1], key, 2);
        let before = mems.each_ref().map(|mem| mem.objects().clone());
        let report = run(&[&mems[0], &mems[1]], order(false, None));
        assert_eq!(outcomes(&report), [Hurt, Hurt], "{:?}", report.findings);
        for finding in &report.findings {
            assert!(finding.where_.ends_with(key));
            assert!(finding.remedy.contains(&format!("lost here: {lost};")), "{finding:?}");
            assert!(finding.remedy.contains("the daemon makes a new snapshot"));
        }
        assert!(report.wants_snapshot);
        assert!(before == mems.each_ref().map(|mem| mem.objects().clone()));
    }
    // The first snapshot's part: only what came before the second one is lost.
    let part =
        keys(&writer.store).into_iter().find(|key| key.starts_with("part/00000001")).unwrap();
    let first = mem(&writer);
    spoil(&first, &part, 2);
    let report = run(&[&first], order(false, None));
    assert_eq!((outcomes(&report), report.wants_snapshot), (vec![Hurt], false));
    spoil(&first, &part, 0);
    assert_eq!(outcomes(&run(&[&first], order(false, None))), [Hurt], "gone, it is missed");
}

#[test]
fn what_is_gone_everywhere_is_told() {
    let writer = writer();
    let mems = [mem(&writer), mem(&writer)];
    let key = writer.changes().remove(9);
    mems.iter().for_each(|mem| drop(mem.objects().remove(&key)));
    let report = run(&[&mems[0], &mems[1]], order(false, None));
    assert!(!report.ok());
    assert!(outcomes(&report).iter().all(|it| *it == Hurt));
    let told = |what: &str| report.findings.iter().filter(|it| it.what.contains(what)).count();
    assert_eq!(told("commits 9 to 10 is missing"), 2, "{:?}", report.findings);
}

/// A daemon runs, and has noted commit 8: what comes later may be on its way.
#[test]
fn what_a_running_daemon_has_not_noted_is_left_alone() {
    let writer = writer();
    let (one, two) = (mem(&writer), mem(&writer));
    let changes = writer.changes();
    for key in changes.iter().rev().take(2) {
        one.objects().remove(key);
    }
    let how = order(false, Some((Timeline(2), CommitNo(8))));
    assert_eq!(run(&[&one, &two], how).findings, []);
    // Parts that no snapshot names yet are those of the one that it makes.
    let mut more = self::writer();
    more.alone(&Step::fill(6, 1..=6, 77)).part(3, |_, _| ());
    let making = mem(&more);
    assert_eq!(run(&[&making], how).findings, []);
    let orphans = run(&[&making], order(false, None));
    assert_eq!(outcomes(&orphans), [Harmless], "{:?}", orphans.findings);
    assert!(orphans.ok());
    whole(&more, &making);
}

/// Two hosts went on with timeline 3, each on a destination of its own.
#[test]
fn trap_65_two_histories_of_one_timeline_are_not_mixed() {
    let (mut here, mut there) = (writer(), writer());
    for (writer, seed) in [(&mut here, 20), (&mut there, 40)] {
        writer.now.0 += u64::from(seed);
        writer.fork(10);
        for n in 0..4 {
            writer.alone(&Step::fill(6, [n + 1], seed + n));
        }
    }
    let (one, two) = (mem(&here), mem(&there));
    let (old, new) = (here.changes().remove(2), here.changes().pop().unwrap());
    spoil(&one, &old, 2);
    spoil(&one, &new, 2);
    let report = run(&[&one, &two], order(false, None));
    assert!(!report.ok());
    let of =
        |key: &str| report.findings.iter().find(|it| it.where_.ends_with(key)).unwrap().outcome;
    assert_eq!((of(&old), of(&new)), (Healed, Hurt), "what they have in common is healed");
    one.objects().insert(new.clone(), here.store.objects()[&new].clone());
    whole(&here, &one);
    whole(&there, &two);
}

/// Each was away while the other one was shipped to: the numbers that it missed were claimed there as
/// timelines that nothing was ever stored on.
#[test]
fn a_number_claimed_in_passing_is_no_other_history() {
    let writer = writer();
    let (mut here, mut there) = (self::writer(), self::writer());
    here.fork(10);
    here.alone(&Step::fill(6, [1], 11));
    let unused = crate::snapshot::Fork { anew: true, placeholder: true, ..Default::default() };
    let body = unused.encode(Timeline(3), there.size, there.now);
    there.timeline = Timeline(3);
    there.store.put(&Name::Timeline(Timeline(3)), &body).unwrap();
    there.fork_of(Timeline(2), 10);
    there.alone(&Step::fill(6, [2], 12));
    let (one, two) = (mem(&here), mem(&there));
    let old = writer.changes().remove(2);
    spoil(&one, &old, 0);
    let report = run(&[&one, &two], order(false, None));
    assert!(report.ok(), "{:?}", report.findings);
    let expected = here.store.objects().keys().filter(|it| !it.contains("timeline")).count();
    assert!(one.objects().len() > expected, "timeline 4 came as well");
    let keys = [keys(&one), keys(&two)];
    let of = |at: usize| keys[at].iter().filter(|it| it.ends_with("00000003-0000e")).count();
    assert_eq!([of(0), of(1)], [1, 0], "timeline 3 is another one");
}

/// An object that was merged into a wider one and removed is not brought back.
#[test]
fn what_a_merged_change_set_stands_for_is_not_missing() {
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(4, 1..=4, 0)).snapshot();
    let (mut apart, mut merged) = (mem(&writer), mem(&writer));
    writer.commit(&Step::fill(4, [2], 2)).commit(&Step::fill(4, [3], 3)).ship();
    let wide = writer.changes().pop().unwrap();
    merged.objects().insert(wide.clone(), writer.store.objects()[&wide].clone());
    let mut again = Writer::new(512);
    again.alone(&Step::fill(4, 1..=4, 0)).snapshot();
    again.alone(&Step::fill(4, [2], 2)).alone(&Step::fill(4, [3], 3));
    apart.objects().extend(again.store.objects().clone());
    let report = run(&[&merged, &apart], order(false, None));
    assert!(report.ok());
    assert_eq!(merged.objects().len(), writer.store.objects().len(), "nothing came back");
    (apart, merged) = (merged, apart);
    for mem in [&apart, &merged] {
        let source = Arc::clone(mem) as Arc<dyn Backend>;
        assert!(restored(&source, Target::Latest).unwrap() == writer.image(3));
    }
}

#[test]
fn trap_86_foreign_objects_are_told_and_stay() {
    let writer = writer();
    let one = mem(&writer);
    one.objects().insert("change/0/README".into(), Vec::new());
    let report = run(&[&one], order(false, None));
    assert_eq!(outcomes(&report), [Harmless]);
    assert!(one.objects().contains_key("change/0/README"));
}

#[test]
fn a_destination_that_is_away_keeps_nobody_from_healing_the_others() {
    let writer = writer();
    let mems = [mem(&writer), mem(&writer)];
    let key = writer.changes().remove(3);
    spoil(&mems[0], &key, 2);
    let away = || Err(Error::new(Status::Unreachable, "open", "/mnt/x", "not mounted"));
    let places = mems.iter().map(|mem| Ok(Arc::clone(mem) as Arc<dyn Backend>));
    let report = repair(
        std::iter::once(away()).chain(places).collect(),
        order(false, None),
        &mut |_| None,
        &Quiet,
    )
    .unwrap();
    assert_eq!(outcomes(&report), [Hurt, Healed]);
    // Found by trying it: of three destinations, nobody knew which.
    assert_eq!(report.findings[0].where_, "/mnt/x");
    whole(&writer, &mems[0]);
    let alone = repair(vec![away()], order(false, None), &mut |_| None, &Quiet).unwrap_err();
    assert_eq!(alone.status, Status::Unreachable);
    let empty = || Ok(Arc::new(Mem::new()) as Arc<dyn Backend>);
    assert_eq!(
        repair(vec![empty()], order(false, None), &mut |_| None, &Quiet).unwrap_err().status,
        Status::Missing
    );
    let sound = Arc::clone(&mems[0]) as Arc<dyn Backend>;
    assert_eq!(verify(&sound, None, &Quiet).unwrap().findings, []);
}

/// What died half way has taken nothing from anybody, and the next one heals what it had left: at each
/// call of the one that is healed, and of the one that heals it; and again while that is made good.
#[test]
fn trap_85_a_repair_stopped_at_any_of_its_calls_harms_nothing_and_the_next_one_ends_it() {
    let writer = writer();
    let broken = || {
        let mems = [mem(&writer), mem(&writer)];
        let all = keys(&writer.store);
        let of_one = all.iter().filter(|key| !key.contains("timeline")).step_by(3);
        of_one.enumerate().for_each(|(how, key)| spoil(&mems[0], key, how));
        mems
    };
    let live = |mems: &[Arc<Mem>; 2], who: usize, left, death| {
        let mortal = Mortal::new(Arc::clone(&mems[who]) as Arc<dyn Backend>, left, death);
        let places = mems.iter().enumerate().map(|(at, mem)| match at == who {
            true => Ok(Arc::clone(&mortal) as Arc<dyn Backend>),
            false => Ok(Arc::clone(mem) as Arc<dyn Backend>),
        });
        drop(repair(places.collect(), order(false, None), &mut |_| None, &Quiet));
        if death == Death::Torn && mortal.is_dead() {
            mems[who].objects().insert(format!("part/.tmp-{left}"), vec![7; 100]);
        }
        mortal
    };
    let judge = |mems: &[Arc<Mem>; 2], moment: &str| {
        mems[1].objects().retain(|key, _| !key.contains(".tmp"));
        assert!(*mems[1].objects() == *writer.store.objects(), "{moment}: what was whole is not");
        run(&[&mems[0], &mems[1]], order(false, None));
        mems[0].objects().retain(|key, _| !key.contains(".tmp"));
        assert!(*mems[0].objects() == *writer.store.objects(), "{moment}: not healed");
    };
    let (mut once, mut twice) = (0, 0);
    for who in [0, 1] {
        let calls = live(&broken(), who, u64::MAX, Death::Before).calls();
        for (left, death) in (0..calls).flat_map(|left| DEATHS.map(|death| (left, death))) {
            let mems = broken();
            let moment = format!("{death:?} call {left} of {calls} of {who}");
            assert!(live(&mems, who, left, death).is_dead(), "{moment}: it came to that");
            once += 1;
            let between = [0, 1].map(|at: usize| mems[at].objects().clone());
            let again = || {
                between.clone().map(|objects| {
                    let mem = Mem::new();
                    *mem.objects() = objects;
                    Arc::new(mem)
                })
            };
            judge(&mems, &moment);
            // A second stop after each of them would take an hour.
            if !points::is_full() || left % 3 != 0 {
                continue;
            }
            let calls = live(&again(), who, u64::MAX, Death::Before).calls();
            for (left, death) in (0..calls).flat_map(|left| DEATHS.map(|death| (left, death))) {
                let mems = again();
                let moment = format!("{moment}, {death:?} call {left} of {calls}");
                assert!(live(&mems, who, left, death).is_dead(), "{moment}: it came to that");
                judge(&mems, &moment);
                twice += 1;
            }
        }
    }
    assert!(once > 100, "{once} once, {twice} twice");
    points::record("repair", &[("points", once + twice)]);
}
