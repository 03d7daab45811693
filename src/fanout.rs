//! All destinations of one database, as one place to put objects.
//!
//! Those that are *current* get each object at the same time, and whoever puts one waits for them,
//! for a while. One that fails or is late is *behind*: change-sets go to its spool
//! instead, and it is brought up to date from there, in order; past what the spool has or may hold,
//! from a sibling. So a slow or dead destination is waited for by nobody. A *mirror* is behind by
//! intent: it gets everything that way.
//!
//! ```text
//!              a put fails or is late                     a try fails
//!   CURRENT ----------------------------> BEHIND --------------------------> BROKEN
//!      ^                                    |  ^                               |
//!      +------------------------------------+  +-------------------------------+
//!          nothing is pending any more                    tried again
//! ```
//!
//! It decides nothing about time: when a destination is tried again is for the caller to say.

mod copy;
mod host;
mod lane;
mod parts;
mod standing;

pub use host::Host;
pub use lane::Inspection;
pub use parts::Stock;
pub use standing::{Standing, StandingKind};

use crate::backend::Backend;
use crate::clock;
use crate::commit::{CommitNo, Time, Timeline};
use crate::error::{Error, Result, Status};
use crate::keep::{Cap, Keep};
use crate::name::Name;
use crate::object::Compression;
use crate::recent::Recent;
use crate::sabotage;
use crate::spool::Spool;
use lane::{Floor, Lane};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// How long a put waits for a destination before that counts as behind. Others are waiting too.
const PATIENCE: Duration = Duration::from_secs(5);

/// And for one that was late a moment ago, whichever database saw that.
const BRIEF: Duration = Duration::from_millis(100);

/// The same for one that is alone. Tests that follow every step of a disk do that on one thread.
const PATIENCE_ALONE: Duration = if cfg!(test) { Duration::MAX } else { PATIENCE };
/// Bytes a second that are as slow as anything may be that is waited for.
const SLOW: u64 = 100_000;

/// The destinations of one database.
pub struct Fanout {
    lanes: Vec<Arc<Lane>>,
    pub compression: Compression,
    pub recent: Recent,
    /// What is older than that is not copied to one that lacks it.
    pub keep: Keep,
    /// Nor is what there is no room for; none for those past the end.
    pub caps: Vec<Cap>,
    /// What is known of each destination's place, by all that go there.
    pub hosts: Vec<Arc<Host>>,
    spool_max: u64,
    patience: Duration,
}

impl fmt::Debug for Fanout {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_list().entries(self.lanes.iter().map(|lane| lane.destination.to_string())).finish()
    }
}

/// A spool holds no parts and no manifests: whoever lacks them has them copied.
fn spools(name: &Name) -> bool {
    matches!(name, Name::Change(_))
}

fn late(lane: &Lane) -> Error {
    let cause = "no answer in time; it gets what it lacks once it answers";
    Error::new(Status::Unreachable, "put", &lane.destination, cause)
}

impl Fanout {
    /// Each destination, and whether it is a mirror.
    pub fn new(
        destinations: Vec<(Arc<dyn Backend>, bool)>,
        compression: Compression,
        state_dir: &Path,
        spool_max: u64,
    ) -> Result<Self> {
        let lane = |(destination, mirror): (Arc<dyn Backend>, bool)| {
            let spool = Spool::new(state_dir, &destination.to_string());
            Lane::new(destination, mirror, spool).map(Arc::new)
        };
        let lanes = destinations.into_iter().map(lane).collect::<std::io::Result<_>>();
        let failed = |error| Error::io("read", state_dir.join("spool").display(), &error);
        let lanes: Vec<Arc<Lane>> = lanes.map_err(failed)?;
        let patience = if lanes.len() == 1 { PATIENCE_ALONE } else { PATIENCE };
        let hosts = lanes.iter().map(|_| Arc::default()).collect();
        Ok(Self {
            lanes,
            hosts,
            compression,
            recent: Recent::new(state_dir),
            keep: Keep::default(),
            caps: Vec::new(),
            spool_max,
            patience,
        })
    }

    /// How many destinations there are.
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    pub fn destination(&self, at: usize) -> &Arc<dyn Backend> {
        &self.lanes[at].destination
    }

    /// Notes that a destination holds everything up to a commit, if that can be restored; and whether what
    /// comes now cannot be, before a snapshot stands.
    pub fn holds(&self, at: usize, floor: Option<(CommitNo, Time)>, anew: bool) -> Result<()> {
        let lane = &self.lanes[at];
        let mut debt = lane.debt();
        (debt.floor, debt.copy) = (Floor::new(floor, anew), false);
        lane.spool.unmark().map_err(|error| Error::io("write", "the spool", &error))
    }

    /// Notes the timeline of this life: whoever lacks its record has been robbed.
    pub fn claimed(&self, timeline: Timeline) {
        self.lanes.iter().for_each(|lane| lane.debt().timeline = timeline);
    }

    /// Notes, as a life begins, that a destination lacks more than its spool has, or cannot be asked.
    /// What an earlier life has left in there goes: it is of a timeline that is over.
    pub fn lacks(&self, at: usize, why: Option<&Error>) -> Result<()> {
        let lane = &self.lanes[at];
        let mut debt = lane.debt();
        (debt.error, debt.copy) = (why.map(ToString::to_string), false);
        drop(debt);
        lane.owe_all().map_err(|error| Error::io("write", "the spool", &error))
    }

    /// Stores an object: on every destination that is current, and in the spools of the others. An
    /// error means that it is taken care of nowhere, and can be tried again.
    pub fn put(&self, name: &Name, body: &[u8]) -> Result<()> {
        let mut first_error = None;
        let mut held = 0;
        let mut owing = Vec::new();
        for (lane, result) in self.put_to_current(name, body) {
            match result.map(|result| lane.note(result)) {
                Some(Ok(())) => held += 1,
                Some(Err(error)) if error.status == Status::Locked => return Err(error),
                Some(Err(error)) => {
                    first_error.get_or_insert(error);
                    owing.push(lane);
                }
                None => owing.push(lane),
            }
        }
        owing.retain(|_| !sabotage::is("drop-instead-of-spool"));
        let room = self.spooled() + (owing.len() * body.len()) as u64 <= self.spool_max;
        let failed = |error: std::io::Error| Error::io("write", "the spool", &error);
        let mut kept = 0;
        for lane in owing {
            let owed = if spools(name) && room { lane.owe(name, body) } else { Ok(false) };
            match owed {
                Ok(true) => kept += 1,
                // A sibling has it: what this one lacks is copied from there.
                _ if held > 0 => lane.owe_all().map_err(failed)?,
                owed => drop(owed.map_err(failed)?),
            }
        }
        if held + kept > 0 {
            self.recent.add(name, body);
            return Ok(());
        }
        Err(first_error.unwrap_or_else(|| {
            let cause = "every destination is behind, and the spool has no room for it";
            Error::new(Status::Unreachable, "put", name, cause)
        }))
    }

    /// `None`: it is behind, or a mirror.
    fn put_to_current(&self, name: &Name, body: &[u8]) -> Vec<(&Arc<Lane>, Option<Result<()>>)> {
        if let [lane] = &self.lanes[..]
            && (!spools(name) || self.patience == Duration::MAX)
        {
            // Nobody else is there to wait, nor a spool to take it.
            return vec![(lane, lane.is_in_step().then(|| lane.put(name, body)))];
        }
        let (send, results) = channel();
        let shared: Arc<(Name, Vec<u8>)> = Arc::new((name.clone(), body.to_owned()));
        let slow = Duration::from_secs(body.len() as u64 / SLOW);
        let patience = |at: usize| match self.hosts[at].was_late() {
            _ if sabotage::is("wait-for-the-slow") => Duration::MAX,
            true => BRIEF.min(self.patience),
            false => self.patience.saturating_add(slow),
        };
        let mut waiting = BTreeMap::new();
        let mut all: Vec<_> = self.lanes.iter().map(|lane| (lane, None)).collect();
        for (at, (lane, result)) in all.iter_mut().enumerate() {
            if !lane.is_in_step() {
                continue;
            }
            // What it was given before hangs, too.
            *result = Some(Err(late(lane)));
            if !lane.takes_off() && !sabotage::is("wait-for-the-slow") {
                continue;
            }
            let (lane, send, shared) = (Arc::clone(lane), send.clone(), Arc::clone(&shared));
            waiting.insert(at, patience(at));
            thread::spawn(move || {
                let put = lane.put(&shared.0, &shared.1);
                lane.lands();
                // Nobody listens any more to one that is late.
                send.send((at, put)).ok();
            });
        }
        let start = clock::instant();
        while let Some(longest) = waiting.values().max() {
            match results.recv_timeout(longest.saturating_sub(start.elapsed())) {
                Ok((at, result)) => {
                    waiting.remove(&at);
                    self.hosts[at].note(false);
                    all[at].1 = Some(result);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        waiting.keys().for_each(|&at| self.hosts[at].note(true));
        all
    }

    /// Puts what an earlier life has left in a destination's spool. Whether it counts, the start
    /// finds out. Where the destination lacks what comes before that, it is dropped: the sibling that
    /// has the one has the other.
    pub fn flush(&self, at: usize) -> Result<()> {
        let lane = &self.lanes[at];
        let debt = lane.debt();
        if debt.copy {
            let dropped = lane.drop_pending(debt);
            return dropped.map_err(|error| Error::io("write", "the spool", &error));
        }
        drop(debt);
        while lane.pay_one(Lane::store)? {}
        Ok(())
    }

    /// Refuses to go on if somebody else has taken the replica up on a destination that is current. One that
    /// does not answer in time says nothing of that.
    pub fn still_ours(&self, timeline: Timeline) -> Result<()> {
        let (send, answers) = channel();
        for lane in self.lanes.iter().filter(|lane| lane.is_current()) {
            if !lane.takes_off() {
                continue;
            }
            let (lane, send) = (Arc::clone(lane), send.clone());
            thread::spawn(move || {
                let answer = lane.still_ours(timeline);
                lane.lands();
                send.send((lane, answer)).ok();
            });
        }
        drop(send);
        let start = clock::instant();
        let next = || answers.recv_timeout(self.patience.saturating_sub(start.elapsed()));
        while let Ok((lane, answer)) = next() {
            if answer.as_ref().is_err_and(|error| error.status == Status::Locked) {
                return lane.note(answer);
            }
        }
        Ok(())
    }

    /// How many objects were taken or refused so far, by all of them.
    pub fn answers(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.answers()).sum()
    }

    /// Bytes in all spools.
    pub fn spooled(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.debt().pending.values().sum::<u64>()).sum()
    }

    /// The spools are another one's from now on: whoever is at work yet leaves them as they are.
    pub fn retire(&self) {
        self.lanes.iter().for_each(|lane| lane.debt().retired = true);
    }

    /// Nobody waits for mirrors any more, nor, if it is `all`, for others that are behind.
    pub fn leave(&self, all: bool) {
        self.lanes.iter().filter(|lane| all || lane.mirror).for_each(|lane| lane.leave());
    }

    /// Whether a destination lacks anything.
    pub fn is_behind(&self, at: usize) -> bool {
        !self.lanes[at].is_current()
    }

    /// The destinations that lack nothing.
    pub fn current(&self) -> Vec<Arc<dyn Backend>> {
        let current = self.lanes.iter().filter(|lane| lane.is_current());
        current.map(|lane| Arc::clone(&lane.destination)).collect()
    }

    pub fn is_mirror(&self, at: usize) -> bool {
        self.lanes[at].mirror
    }

    /// Whether a destination takes objects at once.
    pub fn any_current(&self) -> bool {
        self.lanes.iter().any(|lane| lane.is_in_step())
    }

    pub fn standings(&self) -> Vec<Standing> {
        self.lanes.iter().map(|lane| lane.standing()).collect()
    }

    /// Looks whether a destination still holds what was acknowledged there. One that does not is behind.
    pub fn look_at(&self, at: usize, how: Inspection) -> Result<()> {
        self.lanes[at].look(how)
    }

    /// Brings one destination up to date: from a sibling where its spool has not all, then from that. An
    /// object of the sibling that is damaged, and without which this one cannot be restored: what is
    /// claimed of it stays as it was until a new snapshot stands there.
    pub fn pay(&self, at: usize) -> Result<Option<Name>> {
        let lane = &self.lanes[at];
        let cap = self.caps.get(at).copied().unwrap_or_default();
        let paid = lane.note(self.try_pay(lane, cap));
        // One that refuses answers, but so does a time-out in the end.
        if paid.is_ok() {
            self.hosts[at].note(false);
        }
        paid
    }

    fn try_pay(&self, lane: &Arc<Lane>, cap: Cap) -> Result<Option<Name>> {
        lane.look(Inspection::Glance)?;
        let mut lacking = None;
        loop {
            if lane.debt().copy {
                let Some(sibling) = self.sibling_of(lane) else {
                    // One that is away is that, whatever else it is.
                    lane.destination.list(Name::TIMELINES, None)?;
                    let cause = "it lacks objects, and no other destination has all of them";
                    let thing = &lane.destination;
                    return Err(Error::new(Status::Integrity, "copy to", thing, cause));
                };
                lacking = lane.copy_from(sibling, &self.keep, cap)?;
            }
            while lane.pay_one(Lane::put)? {}
            let mut debt = lane.debt();
            if debt.retired {
                return Ok(None);
            }
            if debt.is_none() {
                debt.error = None;
                // An earlier life may have left one behind.
                let unmarked = lane.spool.unmark();
                unmarked.map_err(|error| Error::io("write", "the spool", &error))?;
                return Ok(lacking);
            }
        }
    }

    /// One that has all that there is. Who was robbed meanwhile, and has not been looked at since, would
    /// seem to hold another replica.
    fn sibling_of(&self, lane: &Arc<Lane>) -> Option<&Arc<Lane>> {
        let mut others = self.lanes.iter().filter(|other| !Arc::ptr_eq(other, lane));
        others.find(|other| {
            other.is_current() && other.look(Inspection::Glance).is_ok() && other.is_current()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::conformance::change;
    use crate::backend::faulty::{Fault, Faulty, Operation};
    use crate::backend::later::Later;
    use crate::backend::mem::Mem;
    use crate::commit::{Chain, PageSize};
    use crate::object::{Encoder, Header};
    use crate::testkit::rig::{claim, fanout};

    /// Found by a reviewer: nothing was shipped to one as long as another one hung that was asked first.
    #[test]
    fn trap_84_who_has_taken_a_replica_up_is_asked_of_all_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (answer, question) = channel::<()>();
        let question = std::sync::Mutex::new(question);
        let open = move || {
            question.lock().unwrap().recv().ok();
            Ok(Arc::new(Mem::new()) as Arc<dyn Backend>)
        };
        let hung = Arc::new(Later::new("hung".into(), open)) as Arc<dyn Backend>;
        let alive = Arc::new(Mem::new());
        claim(&*alive, PageSize::new(512).unwrap());
        let alive = alive as Arc<dyn Backend>;
        let mut stores = fanout(vec![hung, Arc::clone(&alive)], dir.path(), 1 << 20);
        stores.still_ours(Timeline(1)).unwrap();
        let next = crate::snapshot::Fork::default();
        let next = next.encode(Timeline(2), PageSize::new(512).unwrap(), Time(1));
        alive.put(&Name::Timeline(Timeline(2)), &next).unwrap();
        stores.patience = Duration::MAX;
        assert_eq!(stores.still_ours(Timeline(1)).unwrap_err().status, Status::Locked);
        drop(answer);
    }

    /// The only destination hung: what was committed waited in the WAL, whose resets the application then
    /// waited for, and nobody was told.
    #[test]
    fn trap_84_the_only_destination_hangs_and_its_spool_takes_what_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let (answer, question) = channel::<()>();
        let question = std::sync::Mutex::new(question);
        let mem = Arc::new(Mem::new());
        claim(&*mem, PageSize::new(512).unwrap());
        let behind = Arc::clone(&mem) as Arc<dyn Backend>;
        let open = move || {
            question.lock().unwrap().recv().ok();
            Ok(Arc::clone(&behind))
        };
        let hung = Arc::new(Later::new("hung".into(), open)) as Arc<dyn Backend>;
        let mut stores = fanout(vec![hung], dir.path(), 1 << 20);
        stores.patience = Duration::ZERO;
        for number in 1..4 {
            stores.put(&change(0, number), b"a commit").unwrap();
        }
        assert!(stores.is_behind(0) && stores.spooled() > 0);
        let told = stores.standings().remove(0);
        assert_eq!(told.kind, StandingKind::Broken);
        assert!(told.error.is_some_and(|it| it.contains("no answer in time")));
        drop(answer);
        stores.pay(0).unwrap();
        assert!(!stores.is_behind(0) && stores.spooled() == 0);
        assert!((1..4).all(|number| mem.get(&change(0, number)).is_ok()));
    }

    /// What is committed while a destination is filled is in its spool, and where that was never empty for a
    /// moment the mark stayed: a `sync` waited for it, and the next start copied everything again.
    #[test]
    fn trap_84_a_mark_goes_once_what_it_stands_for_was_copied() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (Arc::new(Mem::new()), Arc::new(Faulty::new(Arc::new(Mem::new()))));
        claim(&*one, PageSize::new(512).unwrap());
        let ((asked, begun), (answer, question)) = (channel(), channel::<()>());
        let (question, behind) = (std::sync::Mutex::new(question), Arc::clone(&two));
        let open = move || {
            asked.send(()).ok();
            question.lock().unwrap().recv().ok();
            Ok(Arc::clone(&behind) as Arc<dyn Backend>)
        };
        let later = Arc::new(Later::new("two".into(), open));
        let stores = fanout(vec![one, later as Arc<dyn Backend>], dir.path(), 1 << 20);
        let spool = Spool::new(dir.path(), "two");
        stores.lacks(1, None).unwrap();
        let commit = |number| {
            let (page_size, none) = (PageSize::new(512).unwrap(), Chain::default());
            let header = Header { page_size, parent: none, chain: none };
            let mut object = Encoder::new(&change(0, number), &header, Compression::None);
            object.block(b"a table");
            stores.put(&change(0, number), &object.finish()).unwrap();
        };
        (1..=3).for_each(commit);
        assert!(spool.is_marked() && stores.spooled() == 0);
        // The record of the timeline and four commits are copied, and then the spool's turn comes.
        two.fail(Operation::Put, 6, Fault::Refused);
        let paid = thread::scope(|scope| {
            let pays = scope.spawn(|| stores.pay(1));
            begun.recv().unwrap();
            commit(4);
            drop(answer);
            pays.join().unwrap()
        });
        assert!(paid.is_err() && two.fired(Fault::Refused) == 1);
        assert!(spool.pending().unwrap().into_keys().eq([change(0, 4)]) && !spool.is_marked());
    }

    /// Each of many databases waited five seconds for the one that hung, four at a time: what they had
    /// committed got to the other one minutes late.
    #[test]
    fn trap_84_a_place_that_hangs_is_waited_for_once() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (answer, question) = channel::<()>();
        let question = Arc::new(std::sync::Mutex::new(question));
        let stores = |dir: &Path| {
            let (alive, question) = (Arc::new(Mem::new()), Arc::clone(&question));
            claim(&*alive, PageSize::new(512).unwrap());
            let open = move || {
                question.lock().unwrap().recv().ok();
                Ok(Arc::new(Mem::new()) as Arc<dyn Backend>)
            };
            let hung = Arc::new(Later::new("hung".into(), open));
            fanout(vec![hung as Arc<dyn Backend>, alive], dir, 1 << 20)
        };
        let (mut first, mut second) = (stores(dir.path()), stores(other.path()));
        (first.patience, second.patience) = (Duration::ZERO, Duration::MAX);
        second.hosts.clone_from(&first.hosts);
        first.put(&change(0, 1), b"a commit").unwrap();
        // Of the two, the one that is well may have been late as well.
        first.hosts[1].note(false);
        second.put(&change(0, 1), b"a commit").unwrap();
        assert!(second.is_behind(0) && !second.is_behind(1));
        assert!(second.hosts[0].was_late() && !second.hosts[1].was_late());
        drop(answer);
    }

    /// It was put back to an earlier state, and held an abandoned branch with the same numbers: that was
    /// taken for what upkeep had merged, and it was behind without anybody knowing.
    #[test]
    fn trap_85_the_same_numbers_on_a_branch_stand_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mem = Arc::new(Mem::new());
        claim(&*mem, PageSize::new(512).unwrap());
        let stores = fanout(vec![Arc::clone(&mem) as Arc<dyn Backend>], dir.path(), 1 << 20);
        stores.claimed(Timeline(1));
        (1..=5).for_each(|number| stores.put(&change(0, number), b"a commit").unwrap());
        stores.look_at(0, Inspection::Glance).unwrap();
        assert!(!stores.is_behind(0));
        let Name::Change(mut branch) = change(1, 4) else { panic!() };
        (branch.span.last, branch.span.timeline) = (CommitNo(6), Timeline(77));
        mem.put(&Name::Change(branch), b"of another timeline").unwrap();
        (3..=5).for_each(|number| mem.delete(&change(0, number)).unwrap());
        stores.look_at(0, Inspection::Glance).unwrap();
        assert!(stores.is_behind(0));
    }
}
