//! One destination: what it has acknowledged, what it lacks, and its spool.
//!
//! The loop takes the lock of a debt at each turn, so nobody waits for a disk or a destination under it,
//! but to unlink a file.

use super::parts;
use crate::backend::{Backend, Kind};
use crate::commit::{CommitNo, Time, Timeline};
use crate::error::{Error, Result, Status};
use crate::name::{Change, Name, Span};
use crate::object::{Object, is_plain};
use crate::replica::{Replica, damaged};
use crate::sabotage;
use crate::spool::Spool;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// How closely one is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspection {
    /// A request or two.
    Glance,
    /// Whether all that it holds leads to what it has acknowledged.
    Listing,
}

/// Puts to a destination at a time: a change-set, and the parts of a snapshot under way.
const FLYING: u64 = 8;

pub(super) struct Lane {
    pub destination: Arc<dyn Backend>,
    pub mirror: bool,
    pub spool: Spool,
    debt: Mutex<Debt>,
    /// How many objects it has taken or refused.
    answers: AtomicU64,
    /// Puts that are under way, each on a thread of its own.
    flying: AtomicU64,
    /// What it lacks yet is for the next start.
    left: AtomicBool,
    pub known: parts::Known,
}

#[derive(Debug, Default)]
pub(super) struct Debt {
    /// In the spool, with sizes.
    pub pending: BTreeMap<Name, u64>,
    /// It may lack more than that: what a sibling has.
    pub copy: bool,
    pub copying: bool,
    /// The spool is somebody else's now.
    pub retired: bool,
    pub floor: Floor,
    /// The one of this life, once it is claimed.
    pub timeline: Timeline,
    /// What was acknowledged there last, in this life.
    last: Option<Name>,
    /// What had been by the last look at it.
    anchor: Option<Name>,
    pub error: Option<String>,
}

impl Debt {
    pub fn is_none(&self) -> bool {
        self.pending.is_empty() && !self.copy && !self.copying
    }
}

/// Up to where a destination holds everything, and what may be claimed of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Floor {
    held: Option<(CommitNo, Time)>,
    /// There is a snapshot that what is held can be restored from.
    based: bool,
    /// What can be restored until there is: of the timeline before.
    before: Option<(CommitNo, Time)>,
}

impl Floor {
    /// Everything up to a commit. A timeline that begins with a snapshot of its own has none yet.
    pub fn new(held: Option<(CommitNo, Time)>, anew: bool) -> Self {
        Self { held, based: held.is_some() && !anew, before: held }
    }

    /// The last commit that can be restored, with all below it.
    pub fn claimed(self) -> Option<(CommitNo, Time)> {
        if self.based { self.held } else { self.before }
    }

    /// Something was stored that makes commits durable. What comes late may have been overtaken.
    fn rise(&mut self, span: &Span, snapshot: bool) {
        self.held = self.held.max(Some((span.last, span.time)));
        self.based |= snapshot;
    }

    /// All that another one holds was copied; `whole` unless it does not lead to the last commit.
    pub fn take_over(&mut self, other: Self, whole: bool) {
        let before = self.claimed().max(other.before.filter(|_| whole));
        let based = whole && (self.based || other.based);
        *self = Self { held: self.held.max(other.held), based, before };
    }
}

impl Lane {
    pub fn new(destination: Arc<dyn Backend>, mirror: bool, spool: Spool) -> io::Result<Self> {
        spool.tidy()?;
        let (pending, copy) = (spool.pending()?, spool.is_marked());
        let debt = Mutex::new(Debt { pending, copy, ..Debt::default() });
        let (answers, flying) = (AtomicU64::new(0), AtomicU64::new(0));
        let (left, known) = (AtomicBool::new(false), parts::Known::default());
        Ok(Self { destination, mirror, spool, debt, answers, flying, left, known })
    }

    pub fn debt(&self) -> MutexGuard<'_, Debt> {
        self.debt.lock().expect("nothing panics under it")
    }

    pub fn is_current(&self) -> bool {
        self.debt().is_none()
    }

    /// Whether it is waited for.
    pub fn is_in_step(&self) -> bool {
        !self.mirror && self.is_current()
    }

    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Whether one more put may be under way. One that hangs has its thread for good.
    pub fn takes_off(&self) -> bool {
        let flying = self.flying.fetch_add(1, Ordering::Relaxed);
        if flying >= FLYING {
            self.lands();
        }
        flying < FLYING
    }

    pub fn lands(&self) {
        self.flying.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// Refuses to go on with one that nobody waits for any more.
    pub fn goes_on(&self) -> Result<()> {
        if self.left.load(Ordering::Relaxed) {
            let cause = "it is left behind, and brought up to date after the next start";
            return Err(Error::new(Status::Unreachable, "copy to", &self.destination, cause));
        }
        Ok(())
    }

    /// Stores an object; one that is there already with the same bytes was stored by us, its reply
    /// lost. Other bytes mean that somebody else writes this replica.
    pub fn store(&self, name: &Name, body: &[u8]) -> Result<()> {
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
    pub fn put(&self, name: &Name, body: &[u8]) -> Result<()> {
        if self.known.has(name) {
            return Ok(self.destination.renew(name)?);
        }
        self.store(name, body)?;
        self.known.add(name);
        if let Some(span) = acknowledges(name) {
            self.still_ours(span.timeline)?;
            let mut debt = self.debt();
            debt.floor.rise(span, matches!(name, Name::Snapshot(_)));
            let last = debt.last.as_ref().and_then(acknowledges);
            if last.is_none_or(|last| last.last <= span.last) {
                debt.last = Some(name.clone());
            }
        }
        Ok(())
    }

    fn compare(&self, name: &Name, body: &[u8]) -> Result<()> {
        // A part is named by its content.
        if matches!(name, Name::Part(_)) || sabotage::is("trust-taken-name") {
            return Ok(());
        }
        let damaged = match self.destination.get(name) {
            Ok(there) if there == body => return Ok(()),
            Ok(there) => is_damaged(&*self.destination, name, there),
            Err(error) if error.kind == Kind::Corrupt => true,
            Err(error) => return Err(error.into()),
        };
        let thing = format!("{}/{name}", self.destination);
        if !damaged {
            let cause = "another daemon has stored other commits there";
            let error = Error::new(Status::Locked, "put", thing, cause);
            let hint = "let only one daemon write a replica; give this one another destination";
            return Err(error.hint(hint));
        }
        // It was stored by us, its reply lost, and it was damaged since.
        self.destination.replace(name, body)?;
        if self.destination.holds(name, body)? {
            return Ok(());
        }
        let cause = "it does not read back as it was written";
        Err(Error::new(Status::Integrity, "put", thing, cause))
    }

    /// Keeps what this destination has said last: an error, or that all is well.
    pub fn note<T>(&self, result: Result<T>) -> Result<T> {
        self.debt().error = result.as_ref().err().map(ToString::to_string);
        result
    }

    /// Refuses to acknowledge what is stored on `timeline`, once somebody has claimed the next one.
    /// Numbers are claimed without a gap, so the next one tells.
    pub fn still_ours(&self, timeline: Timeline) -> Result<()> {
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

    /// Looks whether it still holds what was acknowledged there. One that does not is behind: it was wiped,
    /// or is an older copy of itself.
    pub fn look(&self, how: Inspection) -> Result<()> {
        if sabotage::is("miss-the-wipe") {
            return Ok(());
        }
        if !self.is_robbed()? && (how == Inspection::Glance || !self.has_a_gap()?) {
            return Ok(());
        }
        self.debt().floor = Floor::default();
        self.owe_all().map_err(|error| Error::io("write", "the spool", &error))
    }

    fn has_a_gap(&self) -> Result<bool> {
        let claimed = Some(self.debt()).filter(|debt| !debt.copy).and_then(|it| it.floor.claimed());
        let Some((last, _)) = claimed else { return Ok(false) };
        match self.leads_to(last) {
            Err(error) if error.status == Status::Integrity => Ok(true),
            leads => leads.map(|leads| !leads),
        }
    }

    /// The record of the timeline stays for good. Under a writer that never rests, what was acknowledged
    /// last is always there; so what was by the last look is asked for.
    fn is_robbed(&self) -> Result<bool> {
        let (timeline, last, anchor) = {
            let debt = self.debt();
            if debt.copy || debt.timeline == Timeline(0) {
                return Ok(false);
            }
            let (last, anchor) = (debt.last.clone(), debt.anchor.clone());
            (debt.timeline, last.clone(), anchor.or(last))
        };
        match self.destination.get(&Name::Timeline(timeline)) {
            Err(error) if error.kind == Kind::NotFound => return Ok(true),
            record => record?,
        };
        if let Some(anchor) = &anchor
            && self.destination.list(&anchor.to_string(), None)?.entries.is_empty()
            && !acknowledges(anchor).map_or(Ok(true), |span| self.has_moved_on(span))?
        {
            return Ok(true);
        }
        self.debt().anchor = last;
        Ok(false)
    }

    /// Whether upkeep has put something in the place of what made these commits durable: it was merged, or
    /// has gone with all before it.
    fn has_moved_on(&self, span: &Span) -> Result<bool> {
        let there = Replica::list(&*self.destination)?;
        // On another timeline the same numbers are other commits.
        let merged = there
            .spans()
            .any(|it| it.timeline == span.timeline && (it.first..=it.last).contains(&span.last));
        let thinned_out = there.spans().all(|it| it.first > span.last);
        Ok(merged || thinned_out && !there.snapshots.is_empty())
    }

    /// From now on it is behind, and a sibling has what it lacks.
    pub fn owe_all(&self) -> io::Result<()> {
        let is_settled = |debt: &Debt| debt.copy || debt.retired;
        if is_settled(&self.debt()) {
            return Ok(());
        }
        loop {
            self.spool.mark()?;
            let mut debt = self.debt();
            if is_settled(&debt) {
                return Ok(());
            }
            // Who has just brought it up to date takes the mark away, under this lock.
            if self.spool.is_marked() {
                (debt.copy, debt.last, debt.anchor) = (true, None, None);
                return self.drop_pending(debt);
            }
        }
    }

    /// What is dropped is in the way of nobody: its files may go after the lock.
    pub fn drop_pending(&self, mut debt: MutexGuard<'_, Debt>) -> io::Result<()> {
        let pending = std::mem::take(&mut debt.pending);
        drop(debt);
        pending.keys().try_for_each(|name| self.spool.remove(name))
    }

    /// Keeps an object for it, unless all that it lacks will be copied from a sibling: what comes
    /// after a gap is of no use before that is closed. Whether it was kept.
    pub fn owe(&self, name: &Name, body: &[u8]) -> io::Result<bool> {
        if self.debt().copy {
            return Ok(false);
        }
        self.spool.add(name, body)?;
        let mut debt = self.debt();
        if debt.copy {
            drop(debt);
            self.spool.remove(name)?;
            return Ok(false);
        }
        debt.pending.insert(name.clone(), body.len() as u64);
        if let Some(span) = acknowledges(name).filter(|_| sabotage::is("claim-what-is-spooled")) {
            debt.floor.rise(span, false);
        }
        Ok(true)
    }

    /// Puts the oldest object that is pending. `false`: there is none, or not for us.
    pub fn pay_one(&self, put: impl Fn(&Self, &Name, &[u8]) -> Result<()>) -> Result<bool> {
        let Some(name) = self.debt().pending.keys().next().cloned() else { return Ok(false) };
        self.goes_on()?;
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

/// Whether an object that was read is nobody's any more. One under another key, or of a newer bakelite, is
/// not, and what is no object at all may be somebody's.
fn is_damaged(from: &dyn Backend, name: &Name, bytes: Vec<u8>) -> bool {
    is_plain(&bytes)
        && Object::open(name, bytes)
            .is_err_and(|damage| damaged(from, name, damage).status == Status::Integrity)
}
