//! Snapshots as the daemon takes them.

use super::*;
use crate::config::Destination;
use crate::daemon::room::Room;
use crate::daemon::tests::agrees_with;
use crate::name::Name;
use crate::testkit::BAD_SECTOR;
use std::collections::BTreeSet;

fn parts(db: &Db) -> BTreeSet<String> {
    let names = fs::read_dir(db.dir.path().join("replica/part")).into_iter().flatten();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn of_several_parts() -> (Db, rusqlite::Connection) {
    let (db, writer) = new_db();
    let row = "INSERT INTO t(x) VALUES (randomblob(1000000))";
    (0..18).for_each(|_| writer.execute_batch(row).unwrap());
    (db, writer)
}

/// One life with a snapshot due whenever something was committed, until `there`; how many objects it
/// put.
fn live(db: &Db, mut there: impl FnMut(&Sim) -> bool) -> u64 {
    let (mut sim, faulty) = Sim::faulty(db);
    let mut config = db.config();
    config.settings.snapshot_interval = Duration::from_millis(1);
    sim.tracker = Tracker::new(&config, false, sim.now);
    sim.until(|sim| there(sim));
    faulty.calls(Operation::Put)
}

/// Killed in the middle of a snapshot, and started again: what was stored is found, and not sent
/// again; in the first one, and in one of what changed.
#[test]
fn a_snapshot_cut_short_is_gone_on_with() {
    let (db, writer) = of_several_parts();
    live(&db, |_| parts(&db).len() == 2);
    let puts = live(&db, |sim| sim.is_current());
    let all = parts(&db);
    assert!(all.len() >= 5, "{} parts", all.len());
    assert_eq!((puts, snapshots(&db)), (all.len() as u64 - 2 + 1, 1), "the manifest as well");
    agrees(&db);
    // Every part changes.
    writer.execute_batch("UPDATE t SET x = randomblob(1000000)").unwrap();
    live(&db, |_| parts(&db).len() == all.len() + 2);
    assert_eq!(snapshots(&db), 1);
    let before = parts(&db);
    let manifests = |db: &Db| snapshots(db) == 2;
    let puts = live(&db, |sim| sim.is_current() && manifests(&db));
    let new = parts(&db).difference(&before).count();
    assert!(new >= 3, "{new} parts were left");
    assert_eq!(puts, new as u64 + 1, "those, and the manifest");
    agrees(&db);
    // What is there, is what the names say.
    let stores = replica(&db);
    let listing = crate::backend::list_all(&*stores, Name::PARTS).unwrap();
    for name in listing.entries.into_iter().map(|entry| entry.name) {
        let Name::Part(part) = name else { panic!("{name}") };
        let body = stores.get(&name).unwrap();
        crate::snapshot::PartPages::open(part, body).unwrap().check().unwrap();
    }
}

/// What a snapshot passes over is kept from being removed before the manifest says that it is needed.
#[test]
fn parts_that_are_not_put_again_are_kept_first() {
    let (db, writer) = of_several_parts();
    Sim::current(&db);
    commits(&writer, 1);
    let (mut sim, faulty) = Sim::faulty(&db);
    let mut config = db.config();
    config.settings.snapshot_interval = Duration::from_millis(1);
    sim.tracker = Tracker::new(&config, false, sim.now);
    // The first one is the timeline's, with the listing.
    (3..9).for_each(|nth| faulty.fail(Operation::Renew, nth, Fault::Refused));
    sim.until(|_| faulty.fired(Fault::Refused) == 6);
    assert_eq!(snapshots(&db), 1);
    sim.until(|sim| sim.is_current() && snapshots(&db) == 2);
    assert!(faulty.calls(Operation::Renew) >= 2 + parts(&db).len() as u64 - 3);
    agrees(&db);
}

/// However long they take to be stored, no more than a few parts are read ahead, and occupy threads
/// that other databases wait for.
#[test]
fn a_snapshot_has_a_few_parts_under_way_at_a_time() {
    let (db, _writer) = of_several_parts();
    let mut sim = Sim::new(&db);
    sim.keep = |done| matches!(done, Done::Stored(..));
    sim.until(|sim| !sim.kept.is_empty());
    sim.for_ms(1000);
    assert_eq!((sim.tracker.parts.storing, sim.kept.len()), (3, 3));
    sim.keep = |_| false;
    for late in std::mem::take(&mut sim.kept) {
        sim.tracker.done(late, sim.now);
    }
    sim.until(|sim| sim.is_current());
    assert!(parts(&db).len() >= 5);
    agrees(&db);
}

/// Sixty databases of 12 MiB began together, and 344 MiB were read before most of it was stored.
#[test]
fn what_many_databases_read_ahead_has_one_bound() {
    let all: Vec<_> = (0..4).map(|_| of_several_parts()).collect();
    let (disk, mut shared) = (tempfile::tempdir().unwrap(), Shared::default());
    let place = |at: usize| Destination::File { root: disk.path().join(at.to_string()) };
    let begin = |(at, (db, _)): (usize, &(Db, rusqlite::Connection))| {
        let (mut sim, mut config) = (Sim::new(db), db.config());
        config.destinations = vec![place(at)];
        sim.tracker = Tracker::new(&config, false, sim.now);
        sim.tracker.share(&mut shared);
        sim.keep = |done| matches!(done, Done::Stored(..));
        sim.until(|sim| !sim.kept.is_empty());
        sim.for_ms(1000);
        sim
    };
    let mut sims: Vec<_> = all.iter().enumerate().map(begin).collect();
    assert_eq!(sims.iter().map(|sim| sim.kept.len()).collect::<Vec<_>>(), [3, 3, 1, 1]);
    for (at, (sim, (db, _))) in sims.iter_mut().zip(&all).enumerate() {
        sim.keep = |_| false;
        for late in std::mem::take(&mut sim.kept) {
            sim.tracker.done(late, sim.now);
        }
        sim.until(|sim| sim.is_current());
        agrees_with(db, &place(at));
    }
    let Shared { rooms, hosts } = shared;
    assert!(rooms.len() == 1 && hosts.len() == 1 && rooms.values().all(Room::is_empty));
}

/// It was tried again before any change-set: what was committed meanwhile was neither stored nor spooled. And
/// it stayed in memory, where others on the same disk waited for its place.
#[test]
fn trap_83_a_part_that_is_refused_is_in_the_way_of_nothing() {
    let (db, writer) = of_several_parts();
    let replica = db.dir.path().join("replica");
    let (mut sim, mut shared, mut config) = (Sim::new(&db), Shared::default(), db.config());
    config.settings.wal_max = 1 << 20;
    sim.tracker = Tracker::new(&config, false, sim.now);
    sim.tracker.share(&mut shared);
    sim.until(|sim| sim.tracker.rolling.is_some());
    fs::write(replica.join("part"), "no directory").unwrap();
    sim.until(|sim| sim.tracker.parts.refusals > 3);
    checkpoint(&writer, "PASSIVE");
    sim.for_ms(1000);
    assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
    for number in 1..=10 {
        writer.execute_batch("INSERT INTO t(x) VALUES (randomblob(600000))").unwrap();
        sim.for_ms(500);
        checkpoint(&writer, "PASSIVE");
        sim.for_ms(500);
        assert!(db.wal_bytes() < 4 << 20, "{} bytes of WAL", db.wal_bytes());
        assert!(fs::read_dir(replica.join("change/0")).unwrap().count() >= number);
        sim.until(|_| shared.rooms.values().all(Room::is_empty));
        assert!(sim.tracker.status.error.is_some(), "it is told");
    }
    fs::remove_file(replica.join("part")).unwrap();
    sim.until(|sim| sim.is_current());
    assert_eq!((snapshots(&db), sim.tracker.parts.refusals, sim.opened), (1, 0, 1));
    assert_eq!(sim.tracker.status.error, None);
    agrees(&db);
}

/// Each try ended the life, and the next one claimed another timeline and met the same sector: thousands a day,
/// for good.
#[test]
fn trap_57_a_page_that_cannot_be_read_ends_no_life() {
    let (db, writer) = of_several_parts();
    checkpoint(&writer, "TRUNCATE");
    let mut sim = Sim::new(&db);
    BAD_SECTOR.set(Some(12_000_000));
    sim.until(|sim| sim.tracker.parts.refusals > 3);
    commits(&writer, 3);
    sim.for_ms(20_000);
    assert!(sim.tracker.parts.refusals < 20, "{}", sim.tracker.parts.refusals);
    assert!(sim.tracker.status.error.as_ref().is_some_and(|it| it.contains("read: ")));
    let Phase::Here(capture) = &sim.tracker.phase else { panic!() };
    assert!(capture.is_drained(), "commits are shipped");
    BAD_SECTOR.set(None);
    sim.until(|sim| sim.is_current());
    assert_eq!((sim.opened, snapshots(&db)), (1, 1));
    agrees(&db);
}

/// An error of another kind was told until the next snapshot, a day later: a part that had been refused in a
/// life that was over kept it from being taken back.
#[test]
fn what_a_life_was_refused_is_forgotten_with_it() {
    let (db, writer) = of_several_parts();
    let mut sim = Sim::current(&db);
    sim.tracker.part_failed(Error::new(Status::Unreachable, "put", "a part", "refused"), sim.now);
    assert!(sim.tracker.parts.are_stalled());
    sim.tracker.reopen(Error::new(Status::Integrity, "copy to", "a place", "lacking"), sim.now);
    sim.until(|sim| sim.opened == 2 && sim.is_current());
    sim.tracker.status.fail(&Error::new(Status::Unreachable, "put", "a place", "away"));
    commits(&writer, 1);
    sim.until(|sim| sim.is_current());
    assert_eq!((sim.tracker.status.error.take(), sim.tracker.parts.refusals), (None, 0));
}

/// From its first part to its manifest it held the WAL, however long that took, unless it was told to take
/// its time: an application that waits for a reset kept all others from writing meanwhile.
#[test]
fn trap_32_a_snapshot_that_waits_for_a_destination_keeps_no_wal_from_being_reset() {
    let (db, writer) = of_several_parts();
    let (mut sim, mut config) = (Sim::new(&db), db.config());
    config.settings.snapshot_interval = Duration::from_millis(1);
    sim.tracker = Tracker::new(&config, false, sim.now);
    for snapshot in 1..=2 {
        sim.keep = |done| matches!(done, Done::Stored(..));
        sim.until(|sim| sim.kept.len() == 3);
        commits(&writer, 3);
        checkpoint(&writer, "PASSIVE");
        sim.for_ms(1000);
        assert!(sim.tracker.rolling.is_some());
        assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0, "snapshot {snapshot}");
        commits(&writer, 3);
        sim.keep = |_| false;
        for late in std::mem::take(&mut sim.kept) {
            sim.tracker.done(late, sim.now);
        }
        sim.until(|sim| snapshots(&db) == snapshot && sim.tracker.parcel.is_none());
        writer.execute_batch("UPDATE t SET x = randomblob(1000000)").unwrap();
    }
    sim.until(|sim| sim.is_current());
    assert_eq!((sim.opened, sim.tracker.status.counts.missed), (1, 0));
    agrees(&db);
}

/// A snapshot that is told to take its time leaves the WAL alone between its parts: a first one at
/// quiet moments, a later one always. A drain does not wait.
#[test]
fn trap_32_a_slow_snapshot_keeps_no_wal_from_being_reset() {
    let (db, writer) = of_several_parts();
    let mut config = db.config();
    config.settings.snapshot_rate = Some(1 << 20);
    config.settings.snapshot_interval = Duration::from_millis(1);
    let mut sim = Sim::new(&db);
    sim.tracker = Tracker::new(&config, false, sim.now);
    for snapshot in 1..=2 {
        sim.until(|sim| sim.tracker.rolling.is_some());
        let (start, mut resets) = (sim.now, 0);
        while sim.tracker.rolling.is_some() {
            let done = sim.tracker.rolling;
            sim.until(|sim| sim.tracker.rolling != done);
            commits(&writer, 1);
            // Quiet moments alone, for the first one.
            if snapshot == 1 {
                sim.for_ms(1000);
            }
            checkpoint(&writer, "PASSIVE");
            if snapshot == 2 {
                commits(&writer, 1);
            }
            sim.for_ms(1000);
            resets +=
                u32::from(sim.tracker.rolling.is_some() && checkpoint(&writer, "TRUNCATE").0 == 0);
        }
        let took = sim.now - start;
        assert!(took >= Duration::from_secs(12) && resets >= 3, "{took:?}, {resets} resets");
        sim.until(|sim| sim.tracker.parcel.is_none());
        assert_eq!(snapshots(&db), snapshot);
        writer.execute_batch("UPDATE t SET x = randomblob(1000000)").unwrap();
    }
    sim.until(|sim| sim.tracker.rolling.is_some());
    let start = sim.now;
    assert!(sim.drain().is_none());
    assert!(sim.now - start < Duration::from_secs(4), "{:?}", sim.now - start);
    agrees(&db);
}

/// A destination that cannot be listed is asked again, and the snapshot begins then.
#[test]
fn a_snapshot_waits_for_the_listing() {
    let (db, writer) = new_db();
    let (mut sim, faulty) = Sim::faulty(&db);
    faulty.fail_all(Operation::List, Fault::Refused);
    sim.for_ms(3000);
    assert_eq!(snapshots(&db), 0);
    assert!(faulty.fired(Fault::Refused) > 2, "it was asked again");
    faulty.heal();
    commits(&writer, 2);
    sim.until(|sim| sim.is_current());
    agrees(&db);
}

/// A database of ten parts, a row on each page of most of them, and its first snapshot.
fn of_many_parts() -> (Db, rusqlite::Connection) {
    of_parts(10)
}

fn of_parts(count: usize) -> (Db, rusqlite::Connection) {
    let db = Db::new(4096);
    let writer = db.open();
    let rows = format!(
        "CREATE TABLE s(k INTEGER PRIMARY KEY, v BLOB); WITH k(k) AS (SELECT 1 UNION ALL SELECT \
         k + 1 FROM k WHERE k < {count}000) INSERT INTO s SELECT k, randomblob(3000) FROM k"
    );
    writer.execute_batch(&rows).unwrap();
    let mut sim = Sim::current(&db);
    assert!(sim.drain().is_none());
    assert_eq!((parts(&db).len(), snapshots(&db)), (count, 1));
    (db, writer)
}

fn change(writer: &rusqlite::Connection, which: &str) {
    writer.execute_batch(&format!("UPDATE s SET v = randomblob(3000) WHERE {which}")).unwrap();
}

/// The next life of a daemon that makes a snapshot each hour, where the last one is so old.
fn hours_later(db: &Db, hours: u64, settle: impl FnOnce(&mut crate::config::Database)) -> Sim {
    let mut changes = Vec::new();
    let path = cursor_path(&db.config().state_dir);
    let state = cursor::load(&path, |staged| {
        changes.extend_from_slice(staged);
        Ok(())
    });
    let mut state = state.unwrap().unwrap();
    state.snapshot = Time(clock::now().0 - hours * 3_600_000);
    fs::write(&path, cursor::file(&state, &changes)).unwrap();
    let mut config = db.config();
    config.settings.snapshot_interval = Duration::from_secs(3600);
    settle(&mut config);
    let mut sim = Sim::new(db);
    sim.tracker = Tracker::new(&config, false, sim.now);
    sim
}

/// One page in a hundred, all over the database, made every daily snapshot as large as the first one.
#[test]
fn a_snapshot_that_stores_many_times_what_was_committed_is_put_off() {
    let (db, writer) = of_many_parts();
    let first = parts(&db);
    change(&writer, "k % 100 = 0");
    let mut sim = hours_later(&db, 2, |_| ());
    sim.until(|sim| sim.tracker.put_off.is_some() && sim.is_current());
    sim.for_ms(60_000);
    assert_eq!((snapshots(&db), parts(&db)), (1, first.clone()));
    assert!(sim.tracker.survey == Survey::None && sim.tracker.rolling.is_none());
    agrees(&db);
    // Once more than a quarter has changed it is worth it, at the next time that it is due.
    change(&writer, "k % 3 = 0");
    sim.for_ms(60_000);
    sim.until(|sim| sim.is_current());
    assert_eq!(snapshots(&db), 1);
    sim.now += Duration::from_secs(3600);
    sim.until(|sim| sim.is_current() && snapshots(&db) == 2);
    assert_eq!(parts(&db).difference(&first).count(), 10);
    agrees(&db);
}

/// Of a database at rest each step of it waited for the next look, which is a long time off: half of what
/// the second daily snapshot of 1 GiB took.
#[test]
fn the_steps_of_a_snapshot_wait_for_no_look() {
    let (db, writer) = of_many_parts();
    change(&writer, "k BETWEEN 2100 AND 2110");
    let mut sim = hours_later(&db, 0, |_| ());
    sim.until(|sim| sim.is_current());
    sim.for_ms(5_000);
    assert_eq!(sim.tracker.pause(sim.now), IDLE_POLL);
    sim.tracker.snapshot_wanted.is = true;
    sim.until(|sim| sim.tracker.rolling.is_some());
    let began = sim.now;
    sim.until(|_| snapshots(&db) == 2);
    assert!(sim.now < began + IDLE_POLL, "{:?}", sim.now - began);
}

/// A `repair` has found that the newest commit cannot be restored. One that was under way by then may name
/// what is damaged.
#[test]
fn a_snapshot_that_is_asked_for_is_one_that_begins_later() {
    let (db, writer) = of_many_parts();
    let config = db.config();
    let is_asked = || crate::daemon::sync::is_snapshot_asked(&config.state_dir);
    let is_wanted = || crate::daemon::sync::is_snapshot_wanted(&config.state_dir);
    crate::daemon::ask_for_snapshot(&config).unwrap();
    let mut sim = Sim::current(&db);
    sim.for_ms(5_000);
    assert!(snapshots(&db) == 1 && is_wanted(), "nothing was committed since");
    change(&writer, "k = 5");
    sim.until(|sim| sim.is_current() && snapshots(&db) == 2);
    assert!(!is_wanted());
    sim.tracker.snapshot_wanted.is = true;
    change(&writer, "k = 6");
    sim.until(|sim| sim.tracker.rolling.is_some());
    crate::daemon::ask_for_snapshot(&config).unwrap();
    sim.until(|sim| sim.is_current() && snapshots(&db) == 3);
    assert!(is_asked());
    change(&writer, "k = 7");
    sim.until(|sim| sim.tracker.rolling.is_some());
    assert!(!is_asked() && is_wanted() && snapshots(&db) == 3);
    // A life that ends meanwhile does not forget it.
    drop(sim);
    change(&writer, "k = 8");
    let mut sim = Sim::current(&db);
    sim.until(|sim| sim.is_current() && snapshots(&db) == 4);
    change(&writer, "k = 9");
    sim.for_ms(60_000);
    assert!(snapshots(&db) == 4 && !is_wanted());
    agrees(&db);
}

#[test]
fn a_snapshot_of_what_has_changed_in_one_place_is_made_when_it_is_due() {
    let (db, writer) = of_many_parts();
    change(&writer, "k BETWEEN 2100 AND 2110");
    let mut sim = hours_later(&db, 2, |_| ());
    sim.until(|sim| sim.is_current() && snapshots(&db) == 2);
    assert!(sim.tracker.put_off.is_none());
    assert_eq!(parts(&db).len(), 11);
}

#[test]
fn a_snapshot_is_put_off_for_thirty_intervals_and_not_where_there_are_caps() {
    let (db, writer) = of_many_parts();
    change(&writer, "k % 100 = 0");
    let mut sim = hours_later(&db, 29, |_| ());
    sim.until(|sim| sim.tracker.put_off.is_some() && sim.is_current());
    assert!(sim.drain().is_none());
    let cap = crate::keep::Cap { bytes: None, objects: Some(1000) };
    hours_later(&db, 29, |config| config.caps = vec![cap]).until(|_| snapshots(&db) == 2);
    change(&writer, "k % 100 = 0");
    let mut sim = hours_later(&db, 30, |_| ());
    sim.until(|sim| sim.is_current() && snapshots(&db) == 3);
    agrees(&db);
}

/// Parts that a destination had lost were taken for parts that had changed all over: the snapshot that puts
/// them again was put off, up to thirty times, and none that names them could be restored meanwhile.
#[test]
fn trap_85_a_snapshot_that_puts_lost_parts_again_is_not_put_off() {
    let (db, writer) = of_parts(18);
    let all = parts(&db);
    let dir = db.dir.path().join("replica/part");
    all.iter().take(9).for_each(|name| fs::remove_file(dir.join(name)).unwrap());
    change(&writer, "k = 17000");
    let mut sim = hours_later(&db, 2, |_| ());
    sim.for_ms(60_000);
    assert!(sim.is_current() && sim.tracker.put_off.is_none());
    assert_eq!(snapshots(&db), 2);
    assert!(parts(&db).is_superset(&all), "they are there again");
    agrees(&db);
}
