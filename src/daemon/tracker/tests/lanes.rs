//! More than one destination: those that are there are not kept waiting by those that are not, and
//! each comes to hold everything.

use super::super::lanes::{MIRRORED, MIRRORS};
use super::*;
use crate::config::{Database, Destination};
use crate::daemon::sync::Wanted;
use crate::replica::Replica;
use crate::testkit::mortal::put_behind;
use std::path::PathBuf;

/// A database with two directories to go to.
pub(super) struct Pair {
    pub db: Db,
    pub writer: rusqlite::Connection,
    pub config: Database,
    pub roots: [PathBuf; 2],
}

impl Pair {
    pub fn new() -> Self {
        let (db, writer) = new_db();
        let dir = db.dir.path().to_owned();
        Self::of(db, writer, &dir)
    }

    /// Both lie in `dir`, as on disks of their own.
    pub fn apart(dir: &std::path::Path) -> Self {
        let (db, writer) = new_db();
        Self::of(db, writer, dir)
    }

    pub fn of(db: Db, writer: rusqlite::Connection, dir: &std::path::Path) -> Self {
        let mut config = db.config();
        let roots = ["one", "two"].map(|name| dir.join(name));
        let destination = |root: &PathBuf| Destination::File { root: root.clone() };
        config.destinations = roots.iter().map(destination).collect();
        Self { db, writer, config, roots }
    }

    pub fn sim(&self) -> Sim {
        let mut sim = Sim::new(&self.db);
        sim.tracker = Tracker::new(&self.config, false, sim.now);
        sim
    }

    /// A daemon that follows, and whose second destination is away and lacks two commits.
    pub fn behind(&self) -> Sim {
        let mut sim = self.sim();
        sim.until(|sim| sim.is_current());
        self.take(1);
        commits(&self.writer, 2);
        sim.until(|sim| !shipped(sim));
        sim.until(|sim| shipped(sim));
        sim
    }

    pub fn backend(&self, at: usize) -> Arc<dyn Backend> {
        Arc::new(Fs::open(&self.roots[at]).unwrap())
    }

    pub fn away(&self, at: usize) -> PathBuf {
        self.roots[at].with_extension("away")
    }

    pub fn take(&self, at: usize) {
        fs::rename(&self.roots[at], self.away(at)).unwrap();
    }

    pub fn give_back(&self, at: usize) {
        fs::rename(self.away(at), &self.roots[at]).unwrap();
    }

    /// What is shipped to a destination is the database as it is now.
    #[track_caller]
    pub fn agrees(&self, at: usize) {
        assert!(restored(&self.backend(at), Target::Latest).unwrap() == self.db.image());
    }

    /// Both hold the same, and each commit is a restore point of both.
    #[track_caller]
    pub fn both_agree(&self) {
        let [one, two] = [0, 1].map(|at| Replica::list(&*self.backend(at)).unwrap());
        let names = |it: &Replica| it.objects.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&one), names(&two));
        let last = self.state().commit.number;
        for number in 1..=last.0 {
            let [one, two] =
                [0, 1].map(|at| restored(&self.backend(at), Target::Commit(CommitNo(number))));
            assert_eq!(one.ok(), two.ok(), "commit {number}");
        }
        (0..2).for_each(|at| self.agrees(at));
        assert!(!self.config.state_dir.join("spool").exists() || self.spooled() == 0);
    }

    pub fn state(&self) -> State {
        cursor::load(&cursor_path(&self.config.state_dir), |_| Ok(())).unwrap().unwrap()
    }

    /// Files in all spools.
    pub fn spooled(&self) -> usize {
        let lanes = fs::read_dir(self.config.state_dir.join("spool")).into_iter().flatten();
        lanes.map(|lane| fs::read_dir(lane.unwrap().path()).unwrap().count()).sum()
    }

    pub fn told(&self) -> [(String, u64, bool); 2] {
        let told = status::status(&self.config).unwrap().destinations;
        [0, 1].map(|at| {
            (told[at].standing.clone(), told[at].behind_commits, told[at].error.is_some())
        })
    }
}

/// A mirror waited to be filled, and nobody was there who could: the database was let go of, and not taken up
/// again before the other one was back. Nothing was kept of what was committed meanwhile.
#[test]
fn trap_84_a_mirror_that_nobody_can_fill_ends_no_life() {
    let mut pair = Pair::new();
    pair.config.mirrors = vec![pair.config.destinations[1].clone()];
    let mut sim = pair.sim();
    sim.until(|sim| sim.is_current());
    sim.tracker.stores.as_ref().unwrap().lacks(1, None).unwrap();
    pair.take(0);
    for _ in 0..10 {
        commits(&pair.writer, 1);
        sim.for_ms(2000);
    }
    pair.give_back(0);
    sim.until(|sim| sim.is_current());
    assert_eq!(sim.opened, 1);
    pair.both_agree();
}

/// Everything shipped that can be: the cursor is where the database is.
pub(super) fn shipped(sim: &Sim) -> bool {
    let Phase::Here(capture) = &sim.tracker.phase else { return false };
    let seen = capture.source.seen(capture.source.look().as_ref());
    seen == Seen::Nothing
        && capture.is_drained()
        && sim.tracker.parcel.is_none()
        && sim.tracker.shipper.is_some()
        && capture.rolling().is_none()
        && sim.tracker.healing.is_none()
        && !sim.tracker.begin_snapshot
}

#[test]
fn trap_84_one_of_two_destinations_goes_away_and_comes_back() {
    for at in [0, 1] {
        let pair = Pair::new();
        let mut sim = pair.sim();
        sim.until(|sim| sim.is_current());
        pair.both_agree();
        pair.take(at);
        for _ in 0..3 {
            commits(&pair.writer, 2);
            sim.until(|sim| !shipped(sim));
            sim.until(|sim| shipped(sim));
            pair.agrees(1 - at);
        }
        assert!(!pair.roots[at].exists(), "nothing is written into the mount point");
        sim.for_ms(3000);
        let told = pair.told();
        assert_eq!(told[1 - at], ("current".into(), 0, false));
        assert_eq!(told[at], ("broken".into(), 6, true));
        assert!(pair.spooled() > 0);
        pair.give_back(at);
        sim.until(|sim| sim.is_current());
        pair.both_agree();
        sim.for_ms(3000);
        assert_eq!(pair.told()[at], ("current".into(), 0, false));
        assert!(sim.drain().is_none());
        pair.both_agree();
    }
}

/// It is away when the daemon starts: what it lacks then, the other one has.
#[test]
fn trap_84_a_destination_is_away_when_the_daemon_starts() {
    for at in [0, 1] {
        let pair = Pair::new();
        assert!(pair.sim().drain().is_none());
        pair.take(at);
        let mut sim = pair.sim();
        commits(&pair.writer, 2);
        sim.until(|sim| shipped(sim));
        pair.agrees(1 - at);
        assert!(sim.drain().is_some(), "one destination has not got it");
        commits(&pair.writer, 2);
        let mut sim = pair.sim();
        sim.until(|sim| shipped(sim));
        pair.give_back(at);
        sim.until(|sim| sim.is_current());
        pair.both_agree();
        sim.for_ms(3000);
        assert_eq!(pair.told()[at], ("current".into(), 0, false), "what was copied is held");
        assert!(sim.drain().is_none());
        assert_eq!(pair.state().commit.number, CommitNo(6 + 4 - 5));
        pair.both_agree();
    }
}

/// Each is away while the other one is shipped to, over starts: what was claimed and stored on the one
/// is never taken for the other's, and in the end both hold what the database holds.
#[test]
fn trap_84_destinations_are_away_in_turn() {
    let pair = Pair::new();
    assert!(pair.sim().drain().is_none());
    for round in 0..6 {
        let at = round % 2;
        pair.take(at);
        // Every other start ships nothing: its timeline is known to one destination alone.
        if round % 3 != 0 {
            commits(&pair.writer, 2);
        }
        let mut sim = pair.sim();
        sim.until(|sim| shipped(sim));
        pair.agrees(1 - at);
        drop(sim);
        pair.give_back(at);
    }
    let mut sim = pair.sim();
    commits(&pair.writer, 1);
    sim.until(|sim| sim.is_current());
    (0..2).for_each(|at| pair.agrees(at));
    assert!(sim.drain().is_none());
    (0..2).for_each(|at| pair.agrees(at));
    let found = crate::verify::verify(&pair.backend(0), None, &crate::testkit::rig::Quiet)
        .unwrap()
        .findings;
    assert!(found.is_empty(), "{found:?}");
}

/// The only one is away: commits go to the spool, outlive the daemon, and are all there in the end.
#[test]
fn trap_84_the_only_destination_is_away_over_a_restart() {
    let (db, writer) = new_db();
    let mut sim = Sim::current(&db);
    let (here, gone) = (db.dir.path().join("replica"), db.dir.path().join("gone"));
    fs::rename(&here, &gone).unwrap();
    let mut images = Vec::new();
    for _ in 0..3 {
        commits(&writer, 1);
        sim.until(|sim| !shipped(sim));
        sim.until(|sim| shipped(sim));
        images.push((on_disk(&db).unwrap().commit.number, db.image()));
    }
    drop(sim);
    // Whatever was in the WAL is gone: only the spool has those commits.
    assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
    let mut sim = Sim::new(&db);
    sim.for_ms(3000);
    assert_eq!(sim.opened, 0, "there is nowhere to go");
    fs::rename(&gone, &here).unwrap();
    sim.until(|sim| sim.is_current());
    for (number, image) in images {
        assert!(restored(&replica(&db), Target::Commit(number)).unwrap() == image);
    }
    assert_eq!(snapshots(&db), 1);
    agrees(&db);
}

/// Nobody is told that commits are durable which only the spool has.
#[test]
fn trap_84_what_is_spooled_is_not_acknowledged() {
    let pair = Pair::new();
    let mut sim = pair.sim();
    sim.until(|sim| sim.is_current());
    let durable = |sim: &Sim| {
        let Phase::Here(capture) = &sim.tracker.phase else { panic!("away") };
        let wanted = capture.source.steady_look().unwrap();
        Wanted::new(wanted).is_durable(&pair.config).unwrap()
    };
    assert!(durable(&sim));
    pair.take(1);
    commits(&pair.writer, 1);
    sim.until(|sim| !shipped(sim));
    sim.until(|sim| shipped(sim));
    assert!(!durable(&sim));
    pair.give_back(1);
    sim.until(|sim| sim.is_current());
    assert!(durable(&sim));
}

/// Found by torture: a writer that never rests, and a bucket that is always a little behind it. A `sync` waited
/// for what was committed after it was asked, and so for ever.
#[test]
fn trap_84_what_is_committed_later_is_not_waited_for() {
    let pair = Pair::new();
    let mut sim = pair.sim();
    let wanted = |sim: &Sim| {
        let Phase::Here(capture) = &sim.tracker.phase else { panic!("away") };
        Wanted::new(capture.source.steady_look().unwrap())
    };
    let owing = |sim: &mut Sim| {
        commits(&pair.writer, 1);
        sim.until(|sim| !shipped(sim));
        sim.until(|sim| shipped(sim));
    };
    sim.until(|sim| sim.is_current());
    let mut before = wanted(&sim);
    assert!(before.is_durable(&pair.config).unwrap());
    pair.take(1);
    owing(&mut sim);
    let mut first = wanted(&sim);
    assert!(before.is_durable(&pair.config).unwrap() && !first.is_durable(&pair.config).unwrap());
    owing(&mut sim);
    assert!(pair.spooled() == 2 && !first.is_durable(&pair.config).unwrap());
    let mut spool = fs::read_dir(pair.config.state_dir.join("spool")).unwrap();
    let mut spooled: Vec<_> = fs::read_dir(spool.next().unwrap().unwrap().path())
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    spooled.sort();
    // The older one was put.
    fs::remove_file(&spooled[0]).unwrap();
    assert!(
        first.is_durable(&pair.config).unwrap() && !wanted(&sim).is_durable(&pair.config).unwrap()
    );
}

/// Found by a soak: both were behind, the one with a spool and the other one with what only the first one
/// had, and both were there. The end came to the second one first, and gave up.
#[test]
fn trap_84_an_end_brings_both_up_to_date_the_one_from_the_other() {
    let pair = Pair::new();
    assert!(pair.sim().drain().is_none());
    pair.take(0);
    let mut sim = pair.sim();
    commits(&pair.writer, 2);
    sim.until(|sim| shipped(sim));
    drop(sim);
    pair.give_back(0);
    let mut sim = pair.sim();
    sim.until(|sim| sim.opened == 1);
    pair.take(1);
    commits(&pair.writer, 2);
    sim.until(|_| pair.spooled() > 1);
    pair.give_back(1);
    assert!(sim.drain().is_none());
    pair.both_agree();
}

/// A mirror trails: what is durable without it is durable, and an end waits for no mirror that is away.
#[test]
fn a_mirror_trails_and_nothing_waits_for_it() {
    let mut pair = Pair::new();
    pair.config.mirrors = vec![pair.config.destinations[1].clone()];
    let mut sim = pair.sim();
    sim.until(|sim| sim.is_current());
    pair.both_agree();
    commits(&pair.writer, 2);
    sim.until(|sim| !shipped(sim));
    sim.until(|sim| shipped(sim));
    pair.agrees(0);
    assert!(pair.spooled() > 0, "the mirror has it later");
    let Phase::Here(capture) = &sim.tracker.phase else { panic!("away") };
    let wanted = capture.source.steady_look().unwrap();
    assert!(Wanted::new(wanted).is_durable(&pair.config).unwrap());
    sim.until(|sim| sim.is_current());
    pair.both_agree();
    pair.take(1);
    commits(&pair.writer, 2);
    assert!(sim.drain().is_none());
    pair.agrees(0);
    pair.give_back(1);
    let mut sim = pair.sim();
    commits(&pair.writer, 1);
    assert!(sim.drain().is_none(), "one that is there has everything in the end");
    pair.both_agree();
}

/// An end and a `sync` waited for a mirror that did not answer, or was filled for hours.
#[test]
fn an_end_waits_a_moment_for_a_mirror_and_no_longer() {
    let mut pair = Pair::new();
    pair.config.mirrors = vec![pair.config.destinations[1].clone()];
    let mut sim = pair.sim();
    sim.until(|sim| sim.is_current());
    commits(&pair.writer, 2);
    sim.until(|sim| shipped(sim) && sim.tracker.owes());
    // Its payment never comes back.
    sim.now += MIRRORED;
    let payment = sim.tracker.payments(sim.now).pop().expect("it is due");
    let payment = sim.tracker.sent_out(payment);
    commits(&pair.writer, 1);
    let begun = sim.now;
    assert!(sim.drain().is_none());
    assert!(sim.tracker.is_over() && sim.now >= begun + MIRRORS);
    pair.agrees(0);
    assert!(is_unlocked(&pair.db));
    let spooled = pair.spooled();
    let done = (payment.work)();
    assert!(matches!(&done, Done::Abroad(0, Abroad::Paid(1, _))), "{done:?}");
    assert_eq!(pair.spooled(), spooled, "the spool is the next one's");
    sim.tracker.done(done, sim.now);
    assert!(sim.tracker.is_over(), "a daemon waited for ever for one that had ended");
    assert!(pair.sim().drain().is_none());
    pair.agrees(1);
}

/// Its configuration was changed while a destination hung, or was filled for hours: nothing was captured until
/// that had come to its end.
#[test]
fn trap_84_one_that_gives_way_to_another_waits_for_no_destination_that_is_behind() {
    let pair = Pair::new();
    let mut sim = pair.sim();
    sim.until(|sim| sim.is_current());
    sim.tracker.stores.as_ref().unwrap().lacks(1, None).unwrap();
    let payment = sim.tracker.payments(sim.now).pop().expect("it is due");
    let payment = sim.tracker.sent_out(payment);
    commits(&pair.writer, 3);
    sim.tracker.retire();
    sim.tracker.make_way();
    sim.until(|sim| sim.tracker.is_over());
    pair.agrees(0);
    assert!(is_unlocked(&pair.db));
    let mut next = pair.sim();
    commits(&pair.writer, 1);
    let late = (payment.work)();
    sim.tracker.done(late, sim.now);
    assert!(next.drain().is_none());
    pair.both_agree();
}

/// All but the mirror are away: it is not what makes a commit durable.
#[test]
fn a_mirror_alone_is_nowhere_to_go() {
    let mut pair = Pair::new();
    pair.config.mirrors = vec![pair.config.destinations[1].clone()];
    assert!(pair.sim().drain().is_none());
    pair.take(0);
    let mut sim = pair.sim();
    sim.for_ms(3000);
    assert_eq!(sim.opened, 0);
    assert!(sim.drain().is_some());
    pair.give_back(0);
    commits(&pair.writer, 1);
    assert!(pair.sim().drain().is_none());
    pair.both_agree();
}

/// Wiped, or new in the configuration: filled from the other one.
#[test]
fn trap_85_a_destination_that_is_wiped_or_new_is_filled() {
    for new in [false, true] {
        let mut pair = Pair::new();
        let whole = pair.config.clone();
        if new {
            pair.config.destinations.pop();
        }
        assert!(pair.sim().drain().is_none());
        commits(&pair.writer, 2);
        assert!(pair.sim().drain().is_none());
        if !new {
            fs::remove_dir_all(&pair.roots[1]).unwrap();
            fs::create_dir(&pair.roots[1]).unwrap();
        } else {
            // One that was shipped to before has to be there; this one is made by the operator.
            fs::create_dir(&pair.roots[1]).unwrap();
        }
        pair.config = whole;
        let mut sim = pair.sim();
        sim.until(|sim| sim.is_current());
        pair.both_agree();
        commits(&pair.writer, 2);
        assert!(sim.drain().is_none());
        pair.both_agree();
        assert_eq!(Replica::list(&*pair.backend(1)).unwrap().snapshots.len(), 1);
    }
}

/// A destination that hangs kept a database from being taken up again, after commits that were missed,
/// until its time was up.
#[test]
fn trap_84_a_destination_that_hangs_does_not_hold_up_the_next_life() {
    let pair = Pair::new();
    let mut sim = pair.sim();
    sim.until(|sim| sim.is_current());
    pair.take(1);
    commits(&pair.writer, 3);
    sim.until(|sim| sim.tracker.owes() && shipped(sim));
    let spooled = pair.spooled();
    sim.for_ms(1000);
    assert!(spooled > 0);
    sim.now += RETRY_LAST;
    let hung = sim.tracker.payments(sim.now).pop().expect("it is tried again");
    let hung = sim.tracker.sent_out(hung);

    let why = Error::new(Status::Integrity, "capture", "app", "commits were missed");
    sim.tracker.reopen(why, sim.now);
    sim.until(|sim| sim.opened == 2 && shipped(sim));
    commits(&pair.writer, 3);
    sim.until(|sim| !shipped(sim));
    sim.until(|sim| shipped(sim));
    pair.agrees(0);

    // It stores what it was about to, and what is in the spool now is not its own.
    pair.give_back(1);
    let spooled = pair.spooled();
    let done = (hung.work)();
    assert!(matches!(&done, Done::Abroad(0, Abroad::Paid(1, Ok(None)))), "{done:?}");
    assert_eq!(pair.spooled(), spooled);
    sim.tracker.done(done, sim.now);
    sim.until(|sim| sim.is_current());
    pair.both_agree();
    assert!(sim.drain().is_none());
    assert!(is_unlocked(&pair.db));
}

/// What one of them refused for good was told as the other one's error, too.
#[test]
fn trap_65_a_fence_of_one_destination_is_told_of_that_one() {
    let pair = Pair::new();
    let mut sim = pair.sim();
    sim.until(|sim| sim.is_current());
    let newest = Replica::list(&*pair.backend(1)).unwrap().newest_timeline();
    let next = crate::commit::Timeline(newest.0 + 1);
    let page_size = crate::commit::PageSize::new(1024).unwrap();
    let claim = crate::snapshot::Fork::default().encode(next, page_size, clock::now());
    pair.backend(1).put(&crate::name::Name::Timeline(next), &claim).unwrap();
    commits(&pair.writer, 2);
    sim.until(|sim| sim.tracker.is_ended());
    let error = sim.tracker.take_error().unwrap();
    assert_eq!(error.status, Status::Locked);
    let told = status::status(&pair.config).unwrap().destinations;
    assert_eq!(told[0].error, None);
    assert_eq!((told[1].error.as_ref(), &*told[1].standing), (Some(&error.to_string()), "behind"));
    let acknowledged = pair.state().commit.number;
    assert_eq!(told[1].floor.map(|it| it.0), Some(acknowledged), "it claims no more");
}

/// An error that is over was told for as long as the daemon ran.
#[test]
fn a_destination_that_takes_objects_again_has_no_error() {
    let (db, writer) = new_db();
    let faulty = Arc::new(Faulty::new(Arc::new(crate::backend::mem::Mem::new())));
    let place = db.config().destinations[0].to_string();
    put_behind(&place, Some(Arc::clone(&faulty) as Arc<dyn Backend>));
    let mut sim = Sim::new(&db).without_spool(&db);
    sim.until(|sim| sim.is_current());
    let told = |sim: &mut Sim| {
        sim.for_ms(1500);
        let told = status::status(&db.config()).unwrap().destinations;
        (told[0].standing.clone(), told[0].error.is_some())
    };
    faulty.fail_all(Operation::Put, Fault::Refused);
    commits(&writer, 2);
    sim.until(|sim| sim.tracker.retries > 1);
    assert_eq!(told(&mut sim), ("behind".to_owned(), true));
    faulty.heal();
    sim.until(|sim| sim.is_current());
    assert_eq!(told(&mut sim), ("current".to_owned(), false));
    put_behind(&place, None);
}

/// Found by torture: the daemon was killed before its cursor said what it had stored on one of them, and the
/// other one could not be written to by then. The next one gave that what it lacked, was refused, and ended.
#[test]
fn trap_84_a_start_goes_on_without_one_that_does_not_take_what_it_lacks() {
    let pair = Pair::new();
    let mut sim = pair.sim();
    sim.until(|sim| sim.is_current());
    let inner = pair.backend(1);
    drop(sim);
    // Stored on the first one only, beyond the cursor.
    let noted = [cursor_path(&pair.config.state_dir), pair.config.state_dir.join("index")];
    let noted = noted.map(|file| (fs::read(&file).unwrap(), file));
    pair.take(1);
    let mut sim = pair.sim();
    sim.until(|sim| matches!(sim.tracker.phase, Phase::Here(_)));
    commits(&pair.writer, 2);
    sim.until(|sim| !shipped(sim));
    sim.until(|sim| shipped(sim));
    drop(sim);
    pair.give_back(1);
    noted.iter().for_each(|(bytes, file)| fs::write(file, bytes).unwrap());
    fs::remove_dir_all(pair.config.state_dir.join("spool")).unwrap();
    let faulty = Arc::new(Faulty::new(inner));
    let place = pair.config.destinations[1].to_string();
    put_behind(&place, Some(Arc::clone(&faulty) as Arc<dyn Backend>));
    faulty.fail_all(Operation::Put, Fault::Denied);
    let mut sim = pair.sim();
    sim.until(|sim| matches!(sim.tracker.phase, Phase::Here(_)));
    assert!(faulty.fired(Fault::Denied) > 0);
    pair.agrees(0);
    faulty.heal();
    sim.until(|sim| sim.is_current());
    put_behind(&place, None);
    pair.both_agree();
}

/// Found by a reviewer: a `sync`, or the end of a daemon, ended at the first failure of a destination that
/// was away, and dropped what was on its way to the other one.
#[test]
fn an_end_beside_a_dead_destination_waits_until_the_other_has_everything() {
    let pair = Pair::new();
    let mut sim = pair.behind();
    sim.for_ms(3000);
    commits(&pair.writer, 2);
    assert_eq!(sim.drain().unwrap().status, Status::Unreachable);
    pair.agrees(0);
}

/// The same without a daemon, where a resync, and where a first snapshot is what the other one lacks.
#[test]
fn a_sync_beside_a_dead_destination_gives_the_other_one_everything() {
    let pair = Pair::new();
    let sync = || crate::daemon::sync(std::slice::from_ref(&pair.config));
    let row = "INSERT INTO t(x) VALUES (randomblob(1000000))";
    sync().unwrap();
    pair.take(1);
    (0..40).for_each(|_| pair.writer.execute_batch(row).unwrap());
    assert_eq!(checkpoint(&pair.writer, "TRUNCATE").0, 0);
    commits(&pair.writer, 3);
    assert_eq!(sync().unwrap_err().status, Status::Unreachable);
    assert!(restored(&pair.backend(0), Target::Latest).unwrap() == pair.db.image());
    let mut new = Pair::new();
    (0..18).for_each(|_| new.writer.execute_batch(row).unwrap());
    new.config.destinations[1] = Destination::File { root: new.roots[1].join("missing") };
    crate::daemon::sync(std::slice::from_ref(&new.config)).unwrap_err();
    assert!(restored(&new.backend(0), Target::Latest).unwrap() == new.db.image());
}

/// Found by a reviewer: a round of upkeep hung at a destination, which an operator then removed from the
/// configuration. Nobody watched the database from then on.
#[test]
fn trap_84_one_that_gives_way_waits_for_no_upkeep_that_hangs() {
    let pair = Pair::new();
    let mut sim = pair.sim();
    sim.until(|sim| sim.is_current());
    let later = sim.now + Duration::from_secs(4000);
    sim.now = later;
    let _hung = sim.upkeep(later).expect("a round is due");
    commits(&pair.writer, 3);
    sim.tracker.retire();
    sim.for_ms(60_000);
    assert!(sim.tracker.is_ended() && !sim.tracker.is_over(), "nobody waits for its place");
    sim.tracker.make_way();
    sim.for_ms(60_000);
    assert!(sim.tracker.is_over());
    assert!(restored(&pair.backend(0), Target::Latest).unwrap() == pair.db.image());
}
