//! A round that is stopped at each of its calls, before or after that has its effect, or within it, and
//! then once more while it is made good. The calls of a round that nobody stops are counted, so none is
//! left out. At every such moment all points that are to be kept come back, and the next round ends
//! where one that was never stopped does.
//!
//! Many moments leave a replica as another one did, as one that died before it read something and one
//! that died after. Each is lived through; what it leaves is judged once.

use crate::backend::Backend;
use crate::backend::fs::Fs;
use crate::backend::mem::Mem;
use crate::commit::{CommitNo, Time};
use crate::compact::Policy;
use crate::compact::tests::{at, policy};
use crate::durable::{Step as DiskStep, fault};
use crate::keep::{Cap, Sum};
use crate::model::{Step, Writer};
use crate::name::Name;
use crate::restore::Target;
use crate::restore::tests::get;
use crate::testkit::mortal::{DEATHS, Death, Mortal};
use crate::testkit::power::{fates, record};
use crate::testkit::rig::Quiet;
use crate::testkit::{Random, points};
use crate::upkeep::{Mode, Parts, Round};
use crate::verify::verify;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

type Objects = BTreeMap<String, Vec<u8>>;

/// A replica before a round, the rules of that, and what has to come back at any time.
struct Workload {
    writer: Writer,
    before: Objects,
    after: Objects,
    policy: Policy,
    cap: Cap,
    clock: Time,
    wanted: Vec<u64>,
    /// What was left and found to be well, by its hash.
    judged: RefCell<HashSet<blake3::Hash>>,
}

impl Workload {
    /// `count` commits, a second apart, with a snapshot of every `every`th, a branch if `fork` says
    /// where, and what an earlier round has left half done.
    fn new(count: u32, every: u32, fork: Option<u64>, keep: &[&str], compaction: &[u64]) -> Self {
        Self::capped(count, every, fork, keep, compaction, Cap::default())
    }

    /// The same, on a destination with a cap.
    fn capped(
        count: u32,
        every: u32,
        fork: Option<u64>,
        keep: &[&str],
        compaction: &[u64],
        cap: Cap,
    ) -> Self {
        let mut writer = Writer::new(512);
        for n in 1..=count {
            if fork.is_some_and(|fork| fork + 2 == u64::from(n)) {
                writer.fork(fork.unwrap());
            }
            let pages = if n == 1 { 1..=4 } else { n % 4 + 1..=n % 4 + 1 };
            writer.commit(&Step::fill(4, pages, n));
            if n % 3 != 0 {
                writer.ship();
            }
            if n % every == 1 {
                writer.snapshot();
            }
        }
        writer.ship();
        let clock = Time(writer.now.0 + 60_000);
        let before = writer.store.objects().clone();
        let mut workload = Self {
            before,
            after: Objects::new(),
            policy: policy(keep, compaction),
            cap,
            clock,
            wanted: Vec::new(),
            judged: RefCell::default(),
            writer,
        };
        workload.round(&workload.writer.source());
        workload.after = workload.writer.store.objects().clone();
        let all = 1..=workload.writer.last().number.0;
        workload.wanted = all.filter(|commit| workload.comes_back(*commit)).collect();
        assert!(workload.before != workload.after, "there is something to do");
        assert!(cap == Cap::default() || workload.wanted[0] > 1, "the cap takes effect");
        assert_eq!(workload.wanted.last(), Some(&workload.writer.last().number.0));
        workload
    }

    /// A whole round: merged, then pruned.
    fn round(&self, source: &Arc<dyn Backend>) {
        let sources = [Arc::clone(source)];
        let round = Round { caps: &[self.cap], ..at(&self.policy, self.clock) };
        if round.compact(&sources).is_ok_and(|done| done.errors.is_empty()) {
            drop(round.prune(&sources, Parts::Collect, Mode::Real));
        }
    }

    fn reset(&self) {
        self.writer.store.objects().clone_from(&self.before);
    }

    fn comes_back(&self, commit: u64) -> bool {
        let back = get(&self.writer.source(), Target::Commit(CommitNo(commit)));
        let same = back.as_ref().is_ok_and(|(bytes, _)| *bytes == self.writer.image(commit));
        assert!(same || back.is_err(), "commit {commit} is another one");
        same
    }

    fn grade(&self, moment: &str) {
        for &commit in &self.wanted {
            assert!(self.comes_back(commit), "{moment}: commit {commit} is lost");
        }
        let (latest, _) = get(&self.writer.source(), Target::Latest).unwrap();
        assert!(latest == self.writer.image(self.writer.last().number.0), "{moment}: the last");
        let report = verify(&self.writer.source(), None, &Quiet).unwrap();
        let ours = report.findings.iter().filter(|it| it.what != "not an object of ours");
        assert_eq!(ours.count(), 0, "{moment}: {:?}", report.findings);
    }

    /// How many calls a round makes that nobody stops.
    fn calls(&self) -> u64 {
        let before = self.writer.store.objects().clone();
        let mortal = Mortal::new(self.writer.source(), u64::MAX, Death::Before);
        self.round(&(Arc::clone(&mortal) as Arc<dyn Backend>));
        self.writer.store.objects().clone_from(&before);
        mortal.calls()
    }

    /// Dies at call `left`.
    fn die(&self, left: u64, death: Death) {
        let mortal = Mortal::new(self.writer.source(), left, death);
        self.round(&(Arc::clone(&mortal) as Arc<dyn Backend>));
        if death == Death::Torn {
            let torn = format!("change/1/.tmp-{left}");
            self.writer.store.objects().insert(torn, vec![7; 100]);
        }
        assert!(mortal.is_dead(), "it came to that");
    }

    /// Everything is there at this moment, and the next round ends where one that was never stopped
    /// does.
    fn judge(&self, moment: &str) {
        if self.judged.borrow_mut().insert(self.state()) {
            self.grade(moment);
            self.round(&self.writer.source());
            let mut objects = self.writer.store.objects().clone();
            objects.retain(|key, _| !key.contains(".tmp"));
            assert!(objects == self.after || self.fits(&objects), "{moment}: {:?}", objects.keys());
        }
    }

    /// Under a cap, what is left of an era that was to go may stay, if there is room for it by then.
    fn fits(&self, objects: &Objects) -> bool {
        let mut held = Sum::default();
        objects.values().for_each(|body| held.add(body.len() as u64));
        let all = self.after.iter().all(|(key, body)| objects.get(key) == Some(body));
        self.cap != Cap::default() && self.cap.allows(held) && all
    }

    /// All that the destination holds. What a crash left unfinished counts, its name does not.
    fn state(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for (key, body) in self.writer.store.objects().iter() {
            let key = if key.contains(".tmp") { ".tmp" } else { key };
            let (name, length) = (key.as_bytes(), body.len().to_le_bytes());
            hasher.update(name).update(&[0]).update(&length).update(body);
        }
        hasher.finalize()
    }

    /// Every moment at which one round can be stopped.
    fn once(&self) -> u64 {
        self.reset();
        let calls = self.calls();
        for death in DEATHS {
            for left in 0..calls {
                self.reset();
                self.die(left, death);
                self.judge(&format!("{death:?} call {left}"));
            }
        }
        calls * DEATHS.len() as u64
    }

    /// The same, and again every moment of the round after it.
    fn twice(&self) -> u64 {
        self.reset();
        let (calls, mut moments) = (self.calls(), 0);
        for first in DEATHS {
            for left in 0..calls {
                self.reset();
                self.die(left, first);
                let between = self.writer.store.objects().clone();
                let calls = self.calls();
                for second in DEATHS {
                    for again in 0..calls {
                        self.writer.store.objects().clone_from(&between);
                        self.die(again, second);
                        self.judge(&format!("{first:?} call {left}, {second:?} call {again}"));
                        moments += 1;
                    }
                }
            }
        }
        moments
    }
}

/// Litestream keeps what it was about to delete, or loses what it was about to write.
#[test]
fn trap_87_a_round_stopped_at_any_of_its_calls_loses_nothing_and_the_next_one_ends_it() {
    let merges = Workload::new(14, 50, None, &["all:1h"], &[5]);
    let thins = Workload::new(25, 8, None, &["all:4s", "2s:12s"], &[3]);
    let branch = Workload::new(30, 6, Some(10), &["3s:9s"], &[2, 6]);
    let room = |objects| Cap { objects: Some(objects), bytes: None };
    let capped = Workload::capped(25, 6, Some(10), &["all:1h"], &[3], room(17));
    let once = [merges, thins, branch, capped].map(|workload| workload.once());
    let merged = Workload::new(6, 50, None, &["all:1h"], &[2]);
    let pruned = Workload::new(6, 4, None, &["2s:3s"], &[2]);
    let capped = Workload::capped(6, 3, None, &["all:1h"], &[2], room(6));
    let mut twice = [merged, pruned, capped].map(|smallest| smallest.twice()).to_vec();
    if points::is_full() {
        let branch = Workload::new(12, 5, Some(6), &["3s:6s"], &[2, 6]);
        let thins = Workload::new(12, 4, None, &["all:2s", "2s:6s"], &[3]);
        twice.extend([branch, thins].map(|larger| larger.twice()));
    }
    let moments = once.iter().chain(&twice).sum::<u64>();
    println!("crash points: {once:?} once, {twice:?} twice, {moments} in all");
    assert!(moments >= if points::is_full() { 20_000 } else { 5000 }, "{moments}");
    points::record("upkeep", &[("points", moments)]);
}

/// The power goes at each step that a round asks of the disk that a replica lies on, and takes what was
/// not synced, or some of it: objects that were deleted may be back, and others not there yet.
#[test]
fn trap_87_a_power_cut_at_any_step_of_a_round_loses_nothing() {
    let (mut rng, mut steps, mut images) = (Random(3), 0, 0);
    for (count, every, keep, compaction) in
        [(9, 4, &["2s:4s"][..], [2]), (12, 50, &["all:1h"], [3])]
    {
        let workload = Workload::new(count, every, None, keep, &compaction);
        let dir = tempfile::tempdir().unwrap();
        let fs: Arc<dyn Backend> = Arc::new(Fs::create(dir.path()).unwrap());
        for (key, body) in &workload.before {
            fs.put(&key.parse().unwrap(), body).unwrap();
        }
        let recording = record(dir.path());
        workload.round(&fs);
        let moments = recording.end();
        steps += moments.len() as u64 - 1;
        for moment in &moments {
            for fate in fates(if points::is_full() { 30 } else { 4 }) {
                let disk = tempfile::tempdir().unwrap();
                moment.cut(dir.path(), disk.path(), fate, &mut rng);
                workload.take(&(Arc::new(Fs::open(disk.path()).unwrap()) as Arc<dyn Backend>));
                workload.judge(&format!("{:?}, {fate:?}", moment.step));
                images += 1;
            }
        }
        workload.take(&fs);
        assert!(*workload.writer.store.objects() == workload.after);
    }
    assert!(steps > 50, "{steps}");
    points::record("upkeep-power", &[("points", steps), ("images", images)]);
}

/// The same on a disk that fails at each step once.
#[test]
fn trap_87_a_disk_that_fails_at_any_step_of_a_round_loses_nothing() {
    let workload = Workload::new(9, 4, None, &["2s:4s"], &[2]);
    let mut fired = 0;
    for step in
        [DiskStep::Create, DiskStep::Write, DiskStep::Sync, DiskStep::Rename, DiskStep::SyncDir]
    {
        for nth in 1.. {
            let dir = tempfile::tempdir().unwrap();
            let fs: Arc<dyn Backend> = Arc::new(Fs::create(&dir.path().join("replica")).unwrap());
            for (key, body) in &workload.before {
                fs.put(&key.parse().unwrap(), body).unwrap();
            }
            let watch = fault::watch();
            workload.round(&fs);
            let steps = watch.steps().iter().filter(|(kind, _)| *kind == step).count() as u64;
            drop(watch);
            if nth > steps {
                assert!(steps > 0, "{step:?} is taken");
                break;
            }
            let dir = tempfile::tempdir().unwrap();
            let fs: Arc<dyn Backend> = Arc::new(Fs::create(&dir.path().join("replica")).unwrap());
            for (key, body) in &workload.before {
                fs.put(&key.parse().unwrap(), body).unwrap();
            }
            let failing = fault::fail(step, nth, 5);
            workload.round(&fs);
            drop(failing);
            fired += 1;
            workload.take(&fs);
            workload.grade(&format!("{step:?} {nth}"));
            workload.round(&fs);
            workload.take(&fs);
            assert!(*workload.writer.store.objects() == workload.after, "{step:?} {nth}");
        }
    }
    points::record("upkeep-disk", &[("points", fired)]);
}

impl Workload {
    /// What a directory holds, where it can be graded.
    fn take(&self, fs: &Arc<dyn Backend>) {
        let mem = Mem::new();
        for prefix in Name::PREFIXES {
            for entry in crate::backend::list_all(&**fs, prefix).unwrap().entries {
                mem.put(&entry.name, &fs.get(&entry.name).unwrap()).unwrap();
            }
        }
        self.writer.store.objects().clone_from(&mem.objects());
    }
}
