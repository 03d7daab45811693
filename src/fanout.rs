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
mod parts;
mod standing;

pub use parts::Stock;
pub use standing::{Standing, StandingKind};

use crate::backend::{Backend, Kind};
use crate::clock;
use crate::commit::{CommitNo, Time, Timeline};
use crate::error::{Error, Result, Status};
use crate::keep::{Cap, Keep};
use crate::name::{Change, Name, Span};
use crate::object::Compression;
use crate::recent::Recent;
use crate::sabotage;
use crate::spool::Spool;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// How long a put waits for a destination before that counts as behind. Others are waiting too.
const PATIENCE: Duration = Duration::from_secs(5);

/// The destinations of one database.
pub struct Fanout {
    lanes: Vec<Arc<Lane>>,
    pub compression: Compression,
    pub recent: Recent,
    /// What is older than that is not copied to one that lacks it.
    pub keep: Keep,
    /// Nor is what there is no room for; none for those past the end.
    pub caps: Vec<Cap>,
    spool_max: u64,
}

impl fmt::Debug for Fanout {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_list().entries(self.lanes.iter().map(|lane| lane.destination.to_string())).finish()
    }
}

/// One destination, and what it lacks.
struct Lane {
    destination: Arc<dyn Backend>,
    mirror: bool,
    spool: Spool,
    debt: Mutex<Debt>,
    /// How many objects it has taken or refused.
    answers: AtomicU64,
    known: parts::Known,
}

#[derive(Debug, Default)]
struct Debt {
    /// In the spool, with sizes.
    pending: BTreeMap<Name, u64>,
    /// It may lack more than that: what a sibling has.
    copy: bool,
    copying: bool,
    /// The spool is somebody else's now.
    retired: bool,
    floor: Option<(CommitNo, Time)>,
    /// There is a snapshot that the floor can be restored from.
    based: bool,
    /// What was acknowledged there last, in this life.
    last: Option<Name>,
    error: Option<String>,
}

impl Debt {
    fn is_none(&self) -> bool {
        self.pending.is_empty() && !self.copy && !self.copying
    }
}

impl Lane {
    fn debt(&self) -> MutexGuard<'_, Debt> {
        self.debt.lock().expect("nothing panics under it")
    }

    fn is_current(&self) -> bool {
        self.debt().is_none()
    }

    /// Whether it is waited for.
    fn is_in_step(&self) -> bool {
        !self.mirror && self.is_current()
    }

    /// Stores an object; one that is there already with the same bytes was stored by us, its reply
    /// lost. Other bytes mean that somebody else writes this replica.
    fn store(&self, name: &Name, body: &[u8]) -> Result<()> {
        if sabotage::is("ack-before-put") {
            let (to, name, body) = (Arc::clone(&self.destination), name.clone(), body.to_owned());
            sabotage::later(move || drop(to.put(&name, &body)));
            return Ok(());
        }
        let put = self.destination.put(name, body);
        self.answers.fetch_add(1, Ordering::Relaxed);
        match put {
            Err(error) if error.kind == Kind::Exists => {
                self.compare(name, body)?;
                Ok(self.destination.renew(name)?)
            }
            result => result.map_err(Error::from),
        }
    }

    /// Stores an object, and looks whether what it makes durable still counts.
    fn put(&self, name: &Name, body: &[u8]) -> Result<()> {
        if self.known.has(name) {
            return Ok(self.destination.renew(name)?);
        }
        self.store(name, body)?;
        self.known.add(name);
        if let Some(span) = acknowledges(name) {
            self.still_ours(span.timeline)?;
            let mut debt = self.debt();
            (debt.floor, debt.last) = (Some((span.last, span.time)), Some(name.clone()));
            debt.based |= matches!(name, Name::Snapshot(_));
        }
        Ok(())
    }

    fn compare(&self, name: &Name, body: &[u8]) -> Result<()> {
        // A part is named by its content.
        let trusted = matches!(name, Name::Part(_)) || sabotage::is("trust-taken-name");
        if trusted || self.destination.get(name)? == body {
            return Ok(());
        }
        let cause = "another daemon has stored other commits there";
        let thing = format!("{}/{name}", self.destination);
        let error = Error::new(Status::Locked, "put", thing, cause);
        Err(error.hint("let only one daemon write a replica; give this one another destination"))
    }

    /// Refuses to acknowledge what is stored on `timeline`, once somebody has claimed the next one.
    /// Numbers are claimed without a gap, so the next one tells.
    fn still_ours(&self, timeline: Timeline) -> Result<()> {
        match self.destination.get(&Name::Timeline(Timeline(timeline.0 + 1))) {
            Err(error) if error.kind == Kind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) if sabotage::is("ignore-fence") => Ok(()),
            Ok(_) => {
                let cause = "another daemon has taken this replica up";
                let error = Error::new(Status::Locked, "ship to", &self.destination, cause);
                Err(error.hint(
                    "let only one daemon write a replica; starting this one again takes it back",
                ))
            }
        }
    }

    /// Whether what was acknowledged there is gone: the destination was wiped, or is an older copy of
    /// itself. Where nothing was yet, the timeline of what is pending tells, which was claimed there.
    fn is_robbed(&self) -> Result<bool> {
        let debt = self.debt();
        let pending = debt.pending.keys().find_map(acknowledges);
        let timeline = pending.map(|span| Name::Timeline(span.timeline));
        let Some(name) = debt.last.clone().or(timeline).filter(|_| !debt.copy) else {
            return Ok(false);
        };
        drop(debt);
        let gone = self.destination.list(&name.to_string(), None)?.entries.is_empty();
        // Once something newer is there, it may have been merged.
        Ok(gone
            && !sabotage::is("miss-the-wipe")
            && self.debt().last.as_ref().is_none_or(|last| *last == name))
    }

    /// From now on it is behind, and a sibling has what it lacks.
    fn owe_all(&self) -> std::io::Result<()> {
        let mut debt = self.debt();
        if debt.copy || debt.retired {
            return Ok(());
        }
        self.spool.mark()?;
        (debt.copy, debt.last) = (true, None);
        self.drop_pending(&mut debt)
    }

    fn drop_pending(&self, debt: &mut Debt) -> std::io::Result<()> {
        let mut pending = std::mem::take(&mut debt.pending).into_keys();
        pending.try_for_each(|name| self.spool.remove(&name))
    }

    /// Keeps an object for it, unless all that it lacks will be copied from a sibling: what comes
    /// after a gap is of no use before that is closed. Whether it was kept.
    fn owe(&self, name: &Name, body: &[u8]) -> std::io::Result<bool> {
        let mut debt = self.debt();
        if debt.copy {
            return Ok(false);
        }
        self.spool.add(name, body)?;
        debt.pending.insert(name.clone(), body.len() as u64);
        let claimed = acknowledges(name).filter(|_| sabotage::is("claim-what-is-spooled"));
        debt.floor = claimed.map(|span| (span.last, span.time)).or(debt.floor);
        Ok(true)
    }

    /// Puts the oldest object that is pending. `false`: there is none, or not for us.
    fn pay_one(&self, put: impl Fn(&Self, &Name, &[u8]) -> Result<()>) -> Result<bool> {
        let Some(name) = self.debt().pending.keys().next().cloned() else { return Ok(false) };
        let body = match self.spool.read(&name) {
            Err(_) if self.debt().retired => return Ok(false),
            body => body.map_err(|error| Error::io("read from the spool", &name, &error))?,
        };
        put(self, &name, &body)?;
        let mut debt = self.debt();
        if debt.retired {
            return Ok(false);
        }
        debt.pending.remove(&name);
        self.spool
            .remove(&name)
            .map_err(|error| Error::io("remove from the spool", &name, &error))?;
        Ok(true)
    }
}

/// The commits that a stored object makes durable: the last part of a change-set, and a manifest.
fn acknowledges(name: &Name) -> Option<&Span> {
    match name {
        Name::Change(Change { span, end: true, .. }) | Name::Snapshot(span) => Some(span),
        Name::Change(_) | Name::Timeline(_) | Name::Part(_) => None,
    }
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
            let failed = |error| Error::io("read", state_dir.join("spool").display(), &error);
            let pending = spool.tidy().and_then(|()| spool.pending()).map_err(failed)?;
            let copy = spool.is_marked();
            let debt = Mutex::new(Debt { pending, copy, ..Debt::default() });
            let known = parts::Known::default();
            let answers = AtomicU64::new(0);
            Ok(Arc::new(Lane { destination, mirror, spool, debt, answers, known }))
        };
        let lanes = destinations.into_iter().map(lane).collect::<Result<_>>()?;
        let recent = Recent::new(state_dir);
        Ok(Self { lanes, compression, recent, keep: Keep::default(), caps: Vec::new(), spool_max })
    }

    /// How many destinations there are.
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    pub fn destination(&self, at: usize) -> &Arc<dyn Backend> {
        &self.lanes[at].destination
    }

    /// Notes that a destination holds everything up to a commit, and whether it can be restored.
    pub fn holds(&self, at: usize, floor: Option<(CommitNo, Time)>) -> Result<()> {
        let lane = &self.lanes[at];
        let mut debt = lane.debt();
        (debt.floor, debt.based, debt.copy) = (floor, floor.is_some(), false);
        lane.spool.unmark().map_err(|error| Error::io("write", "the spool", &error))
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
            match result {
                Some(Ok(())) => held += 1,
                Some(Err(error)) if error.status == Status::Locked => return Err(error),
                Some(Err(error)) => {
                    lane.debt().error = Some(error.to_string());
                    first_error.get_or_insert(error);
                    owing.push(lane);
                }
                None => owing.push(lane),
            }
        }
        owing.retain(|_| !sabotage::is("drop-instead-of-spool"));
        let spools = matches!(name, Name::Change(_));
        let room = self.spooled() + (owing.len() * body.len()) as u64 <= self.spool_max;
        let failed = |error: std::io::Error| Error::io("write", "the spool", &error);
        let mut kept = 0;
        for lane in owing {
            let owed = if spools && room { lane.owe(name, body) } else { Ok(false) };
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

    /// `None`: it is behind, too late, or a mirror.
    fn put_to_current(&self, name: &Name, body: &[u8]) -> Vec<(&Arc<Lane>, Option<Result<()>>)> {
        if let [lane] = &self.lanes[..] {
            return vec![(lane, lane.is_in_step().then(|| lane.put(name, body)))];
        }
        let (send, results) = channel();
        let shared: Arc<(Name, Vec<u8>)> = Arc::new((name.clone(), body.to_owned()));
        let mut waiting = 0;
        for (at, lane) in self.lanes.iter().enumerate().filter(|(_, lane)| lane.is_in_step()) {
            let (lane, send, shared) = (Arc::clone(lane), send.clone(), Arc::clone(&shared));
            waiting += 1;
            thread::spawn(move || {
                // Nobody listens any more to one that is late.
                send.send((at, lane.put(&shared.0, &shared.1))).ok();
            });
        }
        let mut all: Vec<_> = self.lanes.iter().map(|lane| (lane, None)).collect();
        let patience = if sabotage::is("wait-for-the-slow") { Duration::MAX } else { PATIENCE };
        let start = clock::instant();
        for _ in 0..waiting {
            match results.recv_timeout(patience.saturating_sub(start.elapsed())) {
                Ok((at, result)) => all[at].1 = Some(result),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        all
    }

    /// Puts what an earlier life has left in a destination's spool. Whether it counts, the start
    /// finds out. Where the destination lacks what comes before that, it is dropped: the sibling that
    /// has the one has the other.
    pub fn flush(&self, at: usize) -> Result<()> {
        let lane = &self.lanes[at];
        let mut debt = lane.debt();
        if debt.copy {
            return lane
                .drop_pending(&mut debt)
                .map_err(|error| Error::io("write", "the spool", &error));
        }
        drop(debt);
        while lane.pay_one(Lane::store)? {}
        Ok(())
    }

    /// Refuses to go on if somebody else has taken the replica up on a destination that is current.
    pub fn still_ours(&self, timeline: Timeline) -> Result<()> {
        let current = self.lanes.iter().filter(|lane| lane.is_current());
        current
            .map(|lane| lane.still_ours(timeline))
            .find(|it| it.as_ref().is_err_and(|error| error.status == Status::Locked))
            .unwrap_or(Ok(()))
    }

    /// How many objects were taken or refused so far, by all of them.
    pub fn answers(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.answers.load(Ordering::Relaxed)).sum()
    }

    /// Bytes in all spools.
    pub fn spooled(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.debt().pending.values().sum::<u64>()).sum()
    }

    /// The spools are another one's from now on: whoever is at work yet leaves them as they are.
    pub fn retire(&self) {
        self.lanes.iter().for_each(|lane| lane.debt().retired = true);
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
    pub fn look_at(&self, at: usize) -> Result<()> {
        self.look(&self.lanes[at])
    }

    fn look(&self, lane: &Lane) -> Result<()> {
        if !lane.is_robbed()? {
            return Ok(());
        }
        let mut debt = lane.debt();
        (debt.floor, debt.based) = (None, false);
        drop(debt);
        lane.owe_all().map_err(|error| Error::io("write", "the spool", &error))
    }

    /// Brings one destination up to date: from a sibling where its spool has not all, then from that.
    pub fn pay(&self, at: usize) -> Result<()> {
        let lane = &self.lanes[at];
        let cap = self.caps.get(at).copied().unwrap_or_default();
        let paid = self.try_pay(lane, cap);
        lane.debt().error = paid.as_ref().err().map(ToString::to_string);
        paid
    }

    fn try_pay(&self, lane: &Arc<Lane>, cap: Cap) -> Result<()> {
        self.look(lane)?;
        loop {
            if lane.debt().copy {
                let mut others = self.lanes.iter().filter(|other| !Arc::ptr_eq(other, lane));
                let sibling = others.find(|other| other.debt().is_none());
                let Some(sibling) = sibling else {
                    // One that is away is that, whatever else it is.
                    lane.destination.list(Name::TIMELINES, None)?;
                    let cause = "it lacks objects, and no other destination has all of them";
                    let thing = &lane.destination;
                    return Err(Error::new(Status::Integrity, "copy to", thing, cause));
                };
                let Debt { floor: held, based, .. } = *sibling.debt();
                lane.copy_from(&*sibling.destination, &self.keep, cap)?;
                let mut debt = lane.debt();
                debt.floor = debt.floor.max(held);
                debt.based |= based;
            }
            while lane.pay_one(Lane::put)? {}
            let mut debt = lane.debt();
            if debt.retired {
                return Ok(());
            }
            if debt.is_none() {
                debt.error = None;
                return lane
                    .spool
                    .unmark()
                    .map_err(|error| Error::io("write", "the spool", &error));
            }
        }
    }
}
