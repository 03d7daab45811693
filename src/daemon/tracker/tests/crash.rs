//! A daemon that is stopped at each call of its destination: while it takes a replica up, claims its
//! timeline, stores parts, manifests and change-sets, and keeps it up. The calls of a life that nobody
//! stops are counted, so none is left out; what power cuts leave of its own files is tried elsewhere.

use super::*;
use crate::backend::mem::Mem;
use crate::commit::Digest;
use crate::testkit::mortal::{DEATHS, Death, Mortal, put_behind};
use crate::testkit::points;
use crate::testkit::rig::Quiet;
use crate::verify::verify;

/// A database, and a destination in memory.
pub(super) struct World {
    db: Db,
    writer: rusqlite::Connection,
    store: Arc<Mem>,
    /// What the database was after each commit.
    images: Vec<(Digest, Vec<u8>)>,
}

impl World {
    pub fn new() -> Self {
        let db = Db::new(1024);
        let writer = db.open();
        let mut world = Self { db, writer, store: Arc::default(), images: Vec::new() };
        world.commit("INSERT INTO t(x) VALUES (zeroblob(4500))");
        world
    }

    fn commit(&mut self, sql: &str) {
        self.writer.execute_batch(sql).unwrap();
        let image = self.db.image();
        let pages = image.chunks(1024).map(<[u8]>::to_vec).collect();
        self.images.push((crate::model::digest(&pages), image));
    }

    /// Just before its life of that number: the first one begins a replica, the second one takes it up
    /// again, and the third one heals what was missed meanwhile.
    pub fn before_life(life: u32) -> Self {
        let mut world = Self::new();
        (1..life.min(2)).for_each(|_| drop(world.live(u64::MAX, Death::Before)));
        (2..life).for_each(|_| world.missed());
        world
    }

    pub fn source(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.store) as Arc<dyn Backend>
    }

    /// While nobody looks, the WAL is checkpointed and cut off: the next life heals by difference.
    pub fn missed(&mut self) {
        self.commit("INSERT INTO t(x) VALUES (zeroblob(900)); DELETE FROM t WHERE id = 2");
        assert_eq!(checkpoint(&self.writer, "TRUNCATE").0, 0);
        self.commit("INSERT INTO t(x) VALUES (zeroblob(90))");
    }

    /// A life of the daemon: a snapshot, three commits, a round of upkeep. Or as far as it comes.
    pub fn live(&mut self, left: u64, death: Death) -> Arc<Mortal> {
        self.live_for(2, left, death)
    }

    fn live_for(&mut self, commits: u32, left: u64, death: Death) -> Arc<Mortal> {
        let mortal = Mortal::new(self.source(), left, death);
        let mut config = self.db.config();
        let place = config.destinations[0].to_string();
        put_behind(&place, Some(Arc::clone(&mortal) as Arc<dyn Backend>));
        config.settings.snapshot_interval = Duration::from_millis(1);
        let mut sim = Sim::new(&self.db);
        sim.tracker = Tracker::new(&config, false, sim.now);
        for commit in 0..=commits {
            sim.until(|sim| sim.is_current() || mortal.is_dead());
            if commit == 1 && !mortal.is_dead() {
                let hour = sim.now + Duration::from_secs(3600);
                let done = sim.upkeep(hour).expect("it is due");
                let done = (done.work)();
                sim.tracker.done(done, sim.now);
            }
            if mortal.is_dead() {
                break;
            }
            self.commit("INSERT INTO t(x) VALUES (zeroblob(900))");
        }
        sim.until(|sim| sim.is_current() || mortal.is_dead());
        if death == Death::Torn {
            self.store.objects().insert(format!("part/.tmp-{left}"), vec![7; 100]);
        }
        put_behind(&place, None);
        mortal
    }

    pub fn grade(&mut self, moment: &str) {
        // Until the first snapshot stands, nothing can be restored, and nothing is acknowledged.
        let begun = self.store.objects().keys().any(|key| key.starts_with("snapshot/"));
        let acknowledged = on_disk(&self.db).map(|state| state.commit).filter(|_| begun);
        // From now on nobody but the replica knows what was acknowledged.
        self.commit("INSERT INTO t(x) VALUES (0)");
        let place = self.db.config().destinations[0].to_string();
        put_behind(&place, Some(self.source()));
        let mut sim = Sim::current(&self.db);
        self.commit("INSERT INTO t(x) VALUES (1)");
        assert!(sim.drain().is_none(), "{moment}");
        put_behind(&place, None);
        let latest = restored(&self.source(), Target::Latest).unwrap();
        assert!(latest == self.images.last().unwrap().1, "{moment}: the last commit");
        if let Some(commit) = acknowledged {
            let truth = self.images.iter().find(|(digest, _)| Some(*digest) == commit.digest);
            let back = restored(&self.source(), Target::Commit(commit.number));
            let (_, truth) = truth.unwrap_or_else(|| panic!("{moment}: {commit:?} was never made"));
            let back = back.unwrap_or_else(|error| panic!("{moment}: {error}"));
            assert!(back == *truth, "{moment}: commit {}", commit.number);
        }
        let report = verify(&self.source(), None, &Quiet).unwrap();
        let ours = report.findings.iter().filter(|it| it.what != "not an object of ours");
        assert_eq!(ours.count(), 0, "{moment}: {:?}", report.findings);
    }
}

#[test]
fn trap_63_a_daemon_stopped_at_any_call_of_its_destination_loses_nothing() {
    let mut moments = Vec::new();
    for lives in [1, 2, 3] {
        let world = || World::before_life(lives);
        let calls = world().live(u64::MAX, Death::Before).calls();
        for death in DEATHS {
            for left in 0..calls {
                let mut world = world();
                let moment = format!("life {lives}, {death:?} call {left} of {calls}");
                assert!(world.live(left, death).is_dead(), "{moment}: it came to that");
                world.grade(&moment);
            }
        }
        moments.push(calls * DEATHS.len() as u64);
    }
    println!("crash points: {moments:?}");
    let all = moments.iter().sum::<u64>();
    assert!(all > 250, "{moments:?}");
    points::record("daemon", &[("points", all)]);
}

/// The smallest life, stopped at each call; then the next one, which makes that good, at each of its own.
/// With all other tests, the first stop is where the snapshot is about to count.
#[test]
fn trap_63_a_daemon_stopped_twice_loses_nothing() {
    let calls = World::new().live_for(0, u64::MAX, Death::Before).calls();
    let mut moments = 0;
    let firsts = if points::is_full() { 0..calls } else { calls - 1..calls };
    for (left, first) in firsts.flat_map(|left| DEATHS.map(|death| (left, death))) {
        let world = || {
            let mut world = World::new();
            assert!(world.live_for(0, left, first).is_dead());
            world
        };
        let again = world().live_for(0, u64::MAX, Death::Before).calls();
        for (at, second) in (0..again).flat_map(|at| DEATHS.map(|death| (at, death))) {
            let mut world = world();
            let moment =
                format!("{first:?} call {left} of {calls}, {second:?} call {at} of {again}");
            assert!(world.live_for(0, at, second).is_dead(), "{moment}: it came to that");
            world.grade(&moment);
            moments += 1;
        }
    }
    println!("crash points: {moments}");
    assert!(moments > 20, "{moments}");
    points::record("daemon-twice", &[("points", moments)]);
}
