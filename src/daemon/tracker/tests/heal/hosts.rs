//! Two hosts, one replica.

use super::super::lanes::shipped;
use super::*;

/// A second host with a copy of the database takes the replica up: the first one learns of it before
/// it acknowledges anything, and stops. Nothing is damaged.
#[test]
fn trap_65_two_hosts_with_one_replica() {
    let (db, writer, mut history) = stopped();
    let mut first = Sim::current(&db);
    let other = db.copy();
    let mut config = other.config();
    config.destinations = db.config().destinations;
    let mut second = Sim::new(&other);
    second.tracker = Tracker::new(&config, false, second.now);
    second.until(|sim| sim.is_current());
    let acknowledged = on_disk(&db).unwrap();
    commits(&writer, 3);
    first.until(|sim| sim.tracker.is_ended());
    let error = first.tracker.take_error().unwrap();
    assert_eq!(error.status as i32, 6, "{error}");
    assert_eq!(first.tracker.status.counts.fences, 1);
    let check = || crate::check::check(&[db.config()], Duration::MAX)[0].what.clone();
    // Who is told to start it would take the replica from the one that has it now.
    let fenced = "no daemon watches it: another one has taken the replica up";
    assert_eq!(check(), fenced);
    crate::daemon::sync(&[db.config()]).unwrap_err();
    assert_eq!(check(), fenced, "a sync changes nothing of that");
    assert_eq!(on_disk(&db).unwrap(), acknowledged, "nothing more was acknowledged");
    note(&db, &mut history);
    history.pop();
    let other_writer = other.open();
    commits(&other_writer, 2);
    assert!(second.drain().is_none());
    assert!(restored(&replica(&db), Target::Latest).unwrap() == other.image());
    holds(&db, &history);
    // The first one, started again, takes it back.
    assert!(Sim::current(&db).drain().is_none());
    assert_eq!(check(), "no daemon watches it");
    agrees(&db);
    holds(&db, &history);
}

/// Somebody takes the replica up while a resync is under way: it ends, and the daemon with it.
#[test]
fn trap_65_fenced_during_a_resync() {
    let db = Db::new(1024);
    let writer = db.open();
    sql(&writer, "INSERT INTO t(x) VALUES (zeroblob(150000000))");
    assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
    Sim::current(&db).drain();
    commits(&writer, 1);
    assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
    let mut sim = Sim::new(&db);
    let resync = |sim: &Sim| sim.tracker.healing.as_ref().is_some_and(|it| it.resync.is_some());
    sim.until(|sim| resync(sim));
    let next =
        crate::commit::Timeline(Replica::list(&*replica(&db)).unwrap().newest_timeline().0 + 1);
    let page_size = crate::commit::PageSize::new(1024).unwrap();
    let claim = crate::snapshot::Fork::default().encode(next, page_size, clock::now());
    replica(&db).put(&crate::name::Name::Timeline(next), &claim).unwrap();
    sim.until(|sim| sim.tracker.is_ended());
    assert_eq!(sim.tracker.take_error().unwrap().status, Status::Locked);
    assert_eq!(sim.tracker.status.counts.fences, 1);
    assert!(is_unlocked(&db));
}

/// A `sync` that cron starts on a host which was given up does not take the replica back.
#[test]
fn trap_65_a_sync_takes_nothing_over() {
    let (db, _writer, _) = stopped();
    let other = db.copy();
    let mut config = other.config();
    config.destinations = db.config().destinations;
    let mut second = Sim::new(&other);
    second.tracker = Tracker::new(&config, false, second.now);
    second.until(|sim| sim.is_current());
    let before = Replica::list(&*replica(&db)).unwrap().newest_timeline();
    let error = crate::daemon::sync(&[db.config()]).unwrap_err();
    assert_eq!((error.status, error.hint.is_some()), (Status::Locked, true), "{error}");
    assert_eq!(Replica::list(&*replica(&db)).unwrap().newest_timeline(), before);
    commits(&other.open(), 2);
    assert!(second.drain().is_none());
}

/// What the first host had spooled was on no destination when the second one came. So its cursor is past
/// where the two part, it found nothing to go on from, and its `sync` took the replica back: whether the
/// second one's first snapshot is finished or under way.
#[test]
fn trap_65_a_sync_that_has_spooled_takes_nothing_over() {
    for (spooled, finished) in [(true, true), (true, false), (false, false)] {
        let (db, writer, _) = stopped();
        let other = db.copy();
        let [root, away] = ["replica", "away"].map(|name| db.dir.path().join(name));
        if spooled {
            let mut first = Sim::current(&db);
            fs::rename(&root, &away).unwrap();
            commits(&writer, 3);
            first.until(|sim| !shipped(sim));
            first.until(|sim| shipped(sim));
            drop(first);
            fs::rename(&away, &root).unwrap();
        }
        let mut config = other.config();
        config.destinations = db.config().destinations;
        let mut second = Sim::new(&other);
        second.tracker = Tracker::new(&config, false, second.now);
        if !finished {
            second.keep = |done| matches!(done, Done::Stored(..));
            second.until(|sim| !sim.kept.is_empty());
            commits(&other.open(), 2);
            second.for_ms(1000);
        } else {
            second.until(|sim| sim.is_current());
        }
        assert_eq!(snapshots(&db), 1 + usize::from(finished));
        let before = Replica::list(&*replica(&db)).unwrap().newest_timeline();
        let error = crate::daemon::sync(&[db.config()]).unwrap_err();
        assert_eq!((error.status, error.hint.is_some()), (Status::Locked, true), "{error}");
        assert_eq!(Replica::list(&*replica(&db)).unwrap().newest_timeline(), before);
        second.keep = |_| false;
        for late in std::mem::take(&mut second.kept) {
            second.tracker.done(late, second.now);
        }
        commits(&other.open(), 2);
        assert!(second.drain().is_none());
        assert!(restored(&replica(&db), Target::Latest).unwrap() == other.image());
    }
}

/// The claim came between a change-set and its acknowledgement: it is gone on from.
#[test]
fn trap_65_what_was_stored_before_a_claim_is_not_lost() {
    let (db, writer, history) = stopped();
    let mut first = Sim::current(&db);
    first.keep = |done| matches!(done, Done::Shipped(..));
    commits(&writer, 3);
    first.until(|sim| !sim.kept.is_empty());
    let acknowledged = (on_disk(&db).unwrap().commit.number, db.image());
    let other = db.copy();
    let mut config = other.config();
    config.destinations = db.config().destinations;
    let mut second = Sim::new(&other);
    second.tracker = Tracker::new(&config, false, second.now);
    second.until(|sim| sim.is_current());
    assert!(second.drain().is_none());
    holds(&db, &history);
    holds(&db, &vec![acknowledged]);
}
