//! Destinations that come back with less than they held, and what is claimed of them meanwhile.

use super::lanes::{Pair, shipped};
use super::*;
use crate::name::Name;
use crate::replica::Replica;
use crate::spool::Spool;
use crate::testkit::mortal::{Death, Mortal, put_behind};
use crate::testkit::rig::Quiet;

/// Commits were put on top of what was left, and said to be durable: a restore met a gap.
#[test]
fn trap_85_a_destination_that_comes_back_with_less_is_filled() {
    for wiped in [true, false] {
        let pair = Pair::new();
        let mut sim = pair.sim();
        sim.until(|sim| sim.is_current());
        commits(&pair.writer, 2);
        sim.until(|sim| sim.is_current());
        pair.take(1);
        commits(&pair.writer, 2);
        sim.until(|sim| !shipped(sim));
        sim.until(|sim| shipped(sim));
        match wiped {
            true => {
                fs::remove_dir_all(pair.away(1)).unwrap();
                fs::create_dir(pair.away(1)).unwrap();
            }
            false => lose_newest(&pair.away(1)),
        }
        pair.give_back(1);
        sim.until(|sim| sim.is_current());
        pair.both_agree();
        assert_eq!(sim.opened, 1);
    }
}

/// No put fails on one that was set back while nothing was put: it is asked now and then.
#[test]
fn trap_85_a_destination_that_is_set_back_beneath_the_daemon_is_filled() {
    let pair = Pair::new();
    let mut sim = pair.sim();
    sim.until(|sim| sim.is_current());
    commits(&pair.writer, 2);
    sim.until(|sim| sim.is_current());
    lose_newest(&pair.roots[1]);
    sim.for_ms(61_000);
    sim.until(|sim| sim.is_current());
    pair.both_agree();
    sim.for_ms(3000);
    assert_eq!(pair.told()[1], ("current".into(), 0, false));
    // At rest, and nothing was acknowledged in this life.
    drop(sim);
    let mut sim = pair.sim();
    sim.until(|sim| sim.is_current());
    sim.for_ms(61_000);
    empty(&pair.roots[1]);
    sim.now += Duration::from_secs(3600);
    sim.for_ms(100);
    sim.until(|sim| sim.is_current());
    pair.both_agree();
}

/// A `sync` trusted what was noted: it returned at once, where a destination had just been wiped.
#[test]
fn trap_85_a_sync_sees_for_itself_what_destinations_hold() {
    let mut pair = Pair::new();
    pair.config.settings.ship_interval = Some(Duration::from_millis(20));
    let stop = Stop::default();
    let (config, asked) = (pair.config.clone(), stop.clone());
    let thread =
        std::thread::spawn(move || crate::daemon::run(&vec![config].into(), &asked, None, &Quiet));
    crate::daemon::sync(std::slice::from_ref(&pair.config)).unwrap();
    for at in [1, 0, 1] {
        empty(&pair.roots[at]);
        crate::daemon::sync(std::slice::from_ref(&pair.config)).unwrap();
        pair.agrees(at);
    }
    (0..2).for_each(|at| empty(&pair.roots[at]));
    crate::daemon::sync(std::slice::from_ref(&pair.config)).unwrap();
    (0..2).for_each(|at| pair.agrees(at));
    // One that lies in between is asked for by nobody else.
    for _ in 0..3 {
        commits(&pair.writer, 1);
        crate::daemon::sync(std::slice::from_ref(&pair.config)).unwrap();
    }
    let changes = fs::read_dir(pair.roots[1].join("change/0")).unwrap();
    let mut changes: Vec<_> = changes.map(|entry| entry.unwrap().path()).collect();
    changes.sort();
    fs::remove_file(&changes[changes.len() - 2]).unwrap();
    crate::daemon::sync(std::slice::from_ref(&pair.config)).unwrap();
    pair.agrees(1);
    stop.flag().store(true, std::sync::atomic::Ordering::Relaxed);
    thread.join().unwrap().unwrap();
}

/// A `sync` from a timer, over months: each time it claimed a timeline, also where nothing had happened.
#[test]
fn a_sync_with_nothing_to_do_claims_nothing() {
    let pair = Pair::new();
    let sync = || crate::daemon::sync(std::slice::from_ref(&pair.config)).unwrap();
    let timelines = || Replica::list(&*pair.backend(0)).unwrap().timelines.len();
    sync();
    let claimed = timelines();
    (0..5).for_each(|_| sync());
    assert_eq!(timelines(), claimed);
    commits(&pair.writer, 1);
    sync();
    (0..2).for_each(|at| pair.agrees(at));
    assert_eq!(timelines(), claimed + 1);
    empty(&pair.roots[1]);
    sync();
    (0..2).for_each(|at| pair.agrees(at));
    // Just as many frames as before, and others.
    checkpoint(&pair.writer, "TRUNCATE");
    commits(&pair.writer, 1);
    sync();
    (0..2).for_each(|at| pair.agrees(at));
}

/// Under a writer that never rests, what was acknowledged last was always there: only what came before that
/// was gone, and a restore met a gap, or no record of the timeline.
#[test]
fn trap_85_a_destination_that_is_robbed_under_a_busy_writer_is_filled() {
    let robberies: [fn(&Pair); 3] = [
        |pair| empty(&pair.roots[1]),
        |pair| (0..2).for_each(|_| lose_newest(&pair.roots[1])),
        |pair| fs::remove_dir_all(pair.roots[1].join("timeline")).unwrap(),
    ];
    for rob in robberies {
        let pair = Pair::new();
        let mut sim = pair.sim();
        sim.until(|sim| sim.is_current());
        busy(&pair.writer, &mut sim, 61);
        rob(&pair);
        busy(&pair.writer, &mut sim, 122);
        sim.until(|sim| sim.is_current());
        pair.both_agree();
        assert_eq!(sim.opened, 1);
    }
}

/// The same where nobody else has what it lacks: it begins anew, with a snapshot, and numbers go on.
#[test]
fn trap_85_the_only_destination_is_robbed_under_a_busy_writer() {
    let robberies: [fn(&std::path::Path); 3] = [
        empty,
        |root| (0..2).for_each(|_| lose_newest(root)),
        |root| fs::remove_dir_all(root.join("timeline")).unwrap(),
    ];
    for rob in robberies {
        let (db, writer) = new_db();
        assert!(Sim::current(&db).drain().is_none());
        let mut sim = Sim::current(&db);
        busy(&writer, &mut sim, 61);
        let before = on_disk(&db).unwrap().commit.number;
        rob(&db.dir.path().join("replica"));
        busy(&writer, &mut sim, 122);
        sim.until(|sim| sim.is_current());
        agrees(&db);
        assert!(on_disk(&db).unwrap().commit.number > before, "no number stands for two commits");
        assert!(sim.drain().is_none());
        let mut sim = Sim::current(&db);
        commits(&writer, 1);
        assert!(sim.drain().is_none());
        agrees(&db);
    }
}

fn empty(root: &std::path::Path) {
    fs::remove_dir_all(root).unwrap();
    fs::create_dir(root).unwrap();
}

/// A commit every other second, for so many seconds.
fn busy(writer: &rusqlite::Connection, sim: &mut Sim, seconds: u32) {
    for _ in 0..seconds / 2 {
        commits(writer, 1);
        sim.for_ms(2000);
    }
}

/// What it was filled from had a damaged object, which was passed over; and all of it was claimed.
#[test]
fn trap_74_what_is_filled_from_one_that_is_damaged_claims_no_more_than_can_be_restored() {
    let is_part = |path: &std::path::Path| path.to_string_lossy().contains("/part/");
    for parts in [false, true] {
        let pair = Pair::new();
        let mut sim = pair.sim();
        sim.until(|sim| sim.is_current());
        commits(&pair.writer, 2);
        sim.until(|sim| sim.is_current());
        let dir = pair.roots[0].join(if parts { "part" } else { "change/0" });
        let newest = fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()).max().unwrap();
        assert_eq!(is_part(&newest), parts);
        crate::testkit::damage(&newest, 140, b"damage");
        empty(&pair.roots[1]);
        sim.for_ms(61_000);
        sim.until(|sim| sim.is_current());
        sim.for_ms(3000);
        let back = restored(&pair.backend(1), Target::Latest);
        let held = claimed(&pair).is_none_or(|it| it < pair.state().commit.number);
        assert!(held || back.is_ok_and(|it| it == pair.db.image()), "{:?}", claimed(&pair));
        commits(&pair.writer, 1);
        sim.for_ms(3000);
        pair.agrees(1);
        assert_eq!(claimed(&pair), Some(pair.state().commit.number));
    }
}

/// What `status` claims of the second destination.
fn claimed(pair: &Pair) -> Option<CommitNo> {
    let told = status::status(&pair.config).unwrap();
    told.destinations[1].floor.map(|it| it.0)
}

/// The next life has lost its page index, and ships commits while its snapshot is under way.
fn begun_anew(pair: &Pair) -> Sim {
    fs::remove_file(pair.config.state_dir.join("index")).unwrap();
    let mut sim = pair.sim();
    sim.keep = |done| matches!(done, Done::Stored(..));
    sim.until(|sim| !sim.kept.is_empty());
    commits(&pair.writer, 2);
    sim.for_ms(3000);
    sim
}

/// A timeline that begins with a snapshot, on destinations that hold an older one: its commits were claimed
/// of each before that stood.
#[test]
fn trap_84_a_timeline_that_begins_anew_claims_nothing_before_its_snapshot_stands() {
    let pair = Pair::new();
    assert!(pair.sim().drain().is_none());
    let (before, image) = (pair.state().commit.number, pair.db.image());
    let mut sim = begun_anew(&pair);
    assert!(!Replica::list(&*pair.backend(1)).unwrap().changes.is_empty());
    assert_eq!(claimed(&pair), Some(before));
    assert!(restored(&pair.backend(1), Target::Latest).unwrap() == image);
    sim.keep = |_| false;
    for done in std::mem::take(&mut sim.kept) {
        sim.tracker.done(done, sim.now);
    }
    sim.for_ms(3000);
    pair.agrees(1);
    assert_eq!(claimed(&pair), Some(pair.state().commit.number));
}

/// The daemon was killed before that snapshot stood, and the disk is not mounted when it starts again: a
/// replica was begun in the mount point.
#[test]
fn trap_83_a_timeline_that_begins_anew_makes_no_root_either() {
    let pair = Pair::new();
    assert!(pair.sim().drain().is_none());
    drop(begun_anew(&pair));
    assert!(pair.state().snapshot == Time(0) && pair.state().timeline.0 > 1);
    pair.take(1);
    let mut sim = pair.sim();
    sim.until(|sim| sim.opened == 1);
    assert!(!pair.roots[1].exists());
}

/// Nobody else has what it lacks: it is filled from the database.
#[test]
fn trap_85_the_only_destination_comes_back_empty() {
    let (db, writer) = new_db();
    let mut sim = Sim::current(&db);
    let (here, gone) = (db.dir.path().join("replica"), db.dir.path().join("gone"));
    fs::rename(&here, &gone).unwrap();
    commits(&writer, 2);
    sim.until(|sim| !shipped(sim));
    sim.until(|sim| shipped(sim));
    fs::create_dir(&here).unwrap();
    sim.until(|sim| sim.is_current());
    agrees(&db);
    assert_eq!(sim.opened, 2);
}

/// The daemon died while a destination was being filled, which is away when it starts again. What its
/// spool still held was put after the newer timeline, and taken for a zombie's: the daemon ended.
#[test]
fn trap_84_what_is_spooled_of_an_earlier_timeline_does_not_fence() {
    let pair = Pair::new();
    let sim = pair.behind();
    assert!(pair.spooled() > 0);
    drop(sim);
    let destination = pair.config.destinations[1].to_string();
    Spool::new(&pair.config.state_dir, &destination).mark().unwrap();
    let mut sim = pair.sim();
    commits(&pair.writer, 2);
    sim.until(|sim| !shipped(sim));
    sim.until(|sim| shipped(sim));
    pair.give_back(1);
    sim.until(|sim| sim.is_current());
    pair.both_agree();
}

/// One that could be reached, and then was not what it should be, kept the daemon from its work.
#[test]
fn trap_84_a_destination_that_fails_while_the_database_is_taken_up_is_done_without() {
    let pair = Pair::new();
    assert!(pair.sim().drain().is_none());
    commits(&pair.writer, 2);
    assert!(pair.sim().drain().is_none());
    fs::remove_file(pair.roots[1].join("timeline/00000002")).unwrap();
    let mut sim = pair.sim();
    commits(&pair.writer, 2);
    sim.until(|sim| shipped(sim));
    pair.agrees(0);
    sim.until(|sim| sim.is_current());
    pair.both_agree();
}

/// Found by a soak: one that was taken away just while the database was taken up ended the daemon, which had
/// another one to go to.
#[test]
fn trap_84_a_destination_that_goes_away_while_the_database_is_taken_up_is_done_without() {
    for left in 0.. {
        let pair = Pair::new();
        assert!(pair.sim().drain().is_none());
        commits(&pair.writer, 2);
        let mortal = Mortal::new(pair.backend(1), left, Death::Away);
        let place = pair.config.destinations[1].to_string();
        put_behind(&place, Some(mortal.clone()));
        let mut sim = pair.sim();
        sim.tracker = Tracker::new(&pair.config, true, sim.now);
        sim.until(|sim| sim.opened == 1 || sim.tracker.is_ended());
        put_behind(&place, None);
        assert!(!sim.tracker.is_ended(), "{left}: {:?}", sim.tracker.take_error());
        if !mortal.is_dead() {
            assert!(left > 5, "{left}");
            return;
        }
    }
}

/// A daemon that has just begun has not said yet how its destinations stand: the cursor's commit was
/// claimed of each.
#[test]
fn trap_84_what_a_spool_owes_is_not_claimed() {
    let pair = Pair::new();
    let sim = pair.behind();
    drop(sim);
    fs::remove_file(pair.config.state_dir.join("status")).unwrap();
    let told = status::status(&pair.config).unwrap();
    let floors: Vec<_> = told.destinations.iter().map(|it| it.floor.map(|it| it.0)).collect();
    assert_eq!(floors, [Some(pair.state().commit.number), None]);
}

/// Found by a soak. One was away, and the other one alone held what was committed meanwhile; then that
/// one was away at a start, and the first one there again. What was claimed there went on from where it
/// had been left, and what the other one held was a branch from then on.
#[test]
fn trap_84_what_only_one_that_is_away_holds_is_no_branch() {
    for known in [false, true] {
        let mut pair = Pair::new();
        // What it lacks is not in a spool, which it would be paid from.
        pair.config.settings.spool_max = 0;
        let mut sim = pair.sim();
        sim.until(|sim| sim.is_current());
        let state = || (pair.state().commit.number, pair.db.image());
        let mut images = vec![state()];
        pair.take(1);
        if !known {
            // The timeline of the next start, it will never have heard of.
            drop(sim);
            sim = pair.sim();
        }
        for _ in 0..3 {
            commits(&pair.writer, 1);
            sim.until(|sim| !shipped(sim));
            sim.until(|sim| shipped(sim));
            images.push(state());
        }
        drop(sim);
        let [before, durable] = [&images[0], &images[images.len() - 1]].map(|it| it.0);
        assert!(durable > before.next());
        pair.give_back(1);
        pair.take(0);
        let claimed = || {
            let told = status::status(&pair.config).unwrap();
            told.destinations[1].floor.map(|it| it.0)
        };
        // Killed before the snapshot stands that the timeline begins with, and killed again.
        for _ in 0..2 {
            commits(&pair.writer, 1);
            let mut sim = pair.sim();
            let told = |sim: &mut Sim| {
                sim.tracker.status_due = true;
                sim.tracker.write_status(sim.now + Duration::from_secs(10));
                assert!(claimed() <= Some(before));
            };
            told(&mut sim);
            sim.until(|sim| sim.opened == 1);
            told(&mut sim);
            assert!(restored(&pair.backend(1), Target::Latest).unwrap() == images[0].1);
        }
        let mut sim = pair.sim();
        sim.until(|sim| shipped(sim));
        pair.agrees(1);
        assert_eq!(pair.state().commit.number, durable.next(), "no number stands for two commits");
        images.push(state());
        pair.give_back(0);
        sim.until(|sim| sim.is_current());
        commits(&pair.writer, 1);
        assert!(sim.drain().is_none());
        for at in 0..2 {
            pair.agrees(at);
            let points = crate::list::points(&*pair.backend(at)).unwrap();
            assert!(points.iter().all(|range| !range.branch), "{points:?}");
            let found = crate::testkit::rig::drilled(&pair.backend(at), None).findings;
            assert_eq!(found, []);
        }
        for (number, image) in &images {
            let [one, two] = [0, 1].map(|at| restored(&pair.backend(at), Target::Commit(*number)));
            assert!(one.is_ok_and(|one| one == *image), "commit {number}");
            let held = *number <= before || *number > durable;
            assert_eq!(two.is_ok_and(|two| two == *image), held, "commit {number}");
        }
    }
}

/// Found by a soak. The daemon was killed while a destination was being filled, and the next one put what
/// was spooled meanwhile before what it goes on from was there: its timeline's record was missing.
#[test]
fn trap_84_what_was_spooled_while_a_destination_was_filled_does_not_come_first() {
    let pair = Pair::new();
    assert!(pair.sim().drain().is_none());
    let image = pair.db.image();
    pair.take(1);
    let mut sim = pair.sim();
    commits(&pair.writer, 2);
    sim.until(|sim| shipped(sim));
    drop(sim);
    let newest = Replica::list(&*pair.backend(0)).unwrap().objects.pop().unwrap().name;
    let body = pair.backend(0).get(&newest).unwrap();
    let destination = pair.config.destinations[1].to_string();
    let spool = Spool::new(&pair.config.state_dir, &destination);
    assert!(spool.is_marked() && matches!(newest, Name::Change(_)));
    spool.add(&newest, &body).unwrap();
    pair.give_back(1);
    let mut sim = pair.sim();
    sim.until(|sim| sim.opened == 1);
    assert!(restored(&pair.backend(1), Target::Latest).unwrap() == image);
    sim.until(|sim| sim.is_current());
    pair.both_agree();
}

/// Found by a soak. The daemon was killed before its cursor said what it had stored, on the only one that was
/// there. The next one stored that on the other one too, without the record of its timeline.
#[test]
fn trap_84_what_is_taken_in_from_one_is_stored_on_the_other_with_its_timeline() {
    let pair = Pair::new();
    assert!(pair.sim().drain().is_none());
    let files = ["cursor", "index"].map(|name| pair.config.state_dir.join(name));
    let before = files.clone().map(|file| fs::read(file).unwrap());
    pair.take(1);
    let mut sim = pair.sim();
    commits(&pair.writer, 2);
    sim.until(|sim| shipped(sim));
    drop(sim);
    pair.give_back(1);
    files.iter().zip(before).for_each(|(file, bytes)| fs::write(file, bytes).unwrap());
    let mut sim = pair.sim();
    sim.until(|sim| {
        assert!(restored(&pair.backend(1), Target::Latest).is_ok());
        sim.is_current()
    });
    for number in 1..=Replica::list(&*pair.backend(0)).unwrap().newest_timeline().0 {
        let name = Name::Timeline(crate::commit::Timeline(number));
        let [one, two] = [0, 1].map(|at| pair.backend(at).get(&name).unwrap());
        assert!(one == two, "the record of {number}");
    }
    pair.both_agree();
}

/// An older copy of itself: without the last change-set.
fn lose_newest(root: &std::path::Path) {
    let changes = fs::read_dir(root.join("change/0")).unwrap();
    let newest = changes.map(|entry| entry.unwrap().path()).max().unwrap();
    fs::remove_file(newest).unwrap();
}

/// Found by torture: the snapshot was gone that all commits build on. The next start began anew, claimed of the
/// only destination that it held what could not be restored from it, found that it did not, and waited for
/// another one to fill it.
#[test]
fn trap_85_of_one_that_leads_nowhere_nothing_is_claimed() {
    let db = Db::new(4096);
    let writer = db.open();
    let config = db.config();
    for _ in 0..2 {
        commits(&writer, 2);
        assert!(Sim::current(&db).drain().is_none());
    }
    fs::remove_dir_all(db.dir.path().join("replica/snapshot")).unwrap();
    commits(&writer, 1);
    let mut sim = Sim::new(&db);
    sim.until(|sim| matches!(sim.tracker.phase, Phase::Here(_)));
    let stores = sim.tracker.stores.clone().unwrap();
    stores.look_at(0, crate::fanout::Inspection::Listing).unwrap();
    assert!(!stores.is_behind(0));
    sim.until(|sim| sim.is_current());
    agrees(&db);
    assert!(crate::status::status(&config).unwrap().destinations[0].floor.is_some());
}
