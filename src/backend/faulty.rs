//! A destination that misbehaves, for tests: a wrapper that makes chosen calls go wrong.
//!
//! It counts the faults that really fired, since a test whose fault never did proves nothing.

use super::{Backend, Entry, Error, Kind, Listing};
use crate::name::Name;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Put,
    Replace,
    Renew,
    Get,
    List,
    Delete,
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Fails before it has an effect, as if the connection was refused.
    Refused,
    Full,
    Denied,
    /// A put, replace or delete takes effect, but the caller is told that it failed.
    ReplyLost,
    /// A get succeeds with half of the body.
    Short,
    /// A get succeeds with one bit flipped.
    Flipped,
    /// The last page of a listing lacks its newest name.
    Stale,
    /// The last page of a listing shows again what was deleted through this wrapper.
    Ghosts,
}

use Fault::*;

impl Operation {
    /// The faults that a call of this kind can have.
    pub fn faults(self) -> &'static [Fault] {
        match self {
            Self::Put | Self::Replace => &[Refused, ReplyLost, Full, Denied],
            Self::Renew => &[Refused, Denied],
            Self::Get => &[Refused, Denied, Short, Flipped],
            Self::List => &[Refused, Denied, Stale, Ghosts],
            Self::Delete => &[Refused, ReplyLost, Denied],
        }
    }
}

pub struct Faulty {
    inner: Arc<dyn Backend>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: HashMap<Operation, u64>,
    fired: HashMap<Fault, u64>,
    /// Which call of its kind fails, counted from 1.
    script: HashMap<(Operation, u64), Fault>,
    /// Every call of this kind fails, until healed.
    down: HashMap<Operation, Fault>,
    seeded: Option<Seeded>,
    deleted: BTreeMap<String, Entry>,
}

/// Faults at random, one in `one_in` calls.
struct Seeded {
    random: u64,
    one_in: u64,
}

impl Faulty {
    /// A wrapper without faults: it only counts.
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// Any fault may befall one in `one_in` calls. The same seed and calls give the same faults.
    #[must_use]
    pub fn seeded(self, seed: u64, one_in: u64) -> Self {
        assert!(one_in > 0, "one in none");
        self.state().seeded = Some(Seeded { random: seed, one_in });
        self
    }

    /// Makes the `nth` call of a kind from now on go wrong, counted from 1.
    pub fn fail(&self, operation: Operation, nth: u64, fault: Fault) {
        assert!(operation.faults().contains(&fault), "{operation:?} has no {fault:?}");
        let call = self.calls(operation) + nth;
        self.state().script.insert((operation, call), fault);
    }

    /// Makes every call of a kind go wrong from now on, until healed.
    pub fn fail_all(&self, operation: Operation, fault: Fault) {
        assert!(operation.faults().contains(&fault), "{operation:?} has no {fault:?}");
        self.state().down.insert(operation, fault);
    }

    /// Ends all faults that are still to come.
    pub fn heal(&self) {
        let mut state = self.state();
        state.script.clear();
        state.down.clear();
        state.seeded = None;
    }

    /// How many calls of a kind came, failed ones included.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.state().calls.get(&operation).copied().unwrap_or(0)
    }

    /// How often a fault had its effect.
    pub fn fired(&self, fault: Fault) -> u64 {
        self.state().fired.get(&fault).copied().unwrap_or(0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fire(&self, fault: Fault) {
        *self.state().fired.entry(fault).or_default() += 1;
    }

    fn error(&self, operation: &'static str, name: String, fault: Fault) -> Error {
        self.fire(fault);
        let (kind, cause) = match fault {
            Full => (Kind::Full, "no space left (injected)"),
            Denied => (Kind::Denied, "denied (injected)"),
            ReplyLost => (Kind::Transient, "reply lost (injected)"),
            _ => (Kind::Transient, "refused (injected)"),
        };
        Error {
            operation,
            place: self.to_string(),
            name,
            kind,
            cause: cause.to_owned(),
            hint: None,
        }
    }

    /// Falsifies what a get brought.
    fn spoil(&self, mut body: Vec<u8>, fault: Fault) -> Vec<u8> {
        if body.is_empty() {
            return body;
        }
        self.fire(fault);
        let middle = body.len() / 2;
        match fault {
            Short => body.truncate(middle),
            _ => body[middle] ^= 1,
        }
        body
    }

    fn lose_newest(&self, listing: &mut Listing) {
        if !listing.more && listing.entries.pop().is_some() {
            self.fire(Stale);
        }
    }

    fn resurrect(&self, listing: &mut Listing, prefix: &str, after: Option<&Name>) {
        if listing.more {
            return;
        }
        let after = after.map(Name::to_string).unwrap_or_default();
        let there: Vec<_> = listing.entries.iter().map(|entry| entry.name.clone()).collect();
        let known = |key: &str| key.starts_with(prefix) && key > after.as_str();
        let ghosts: Vec<_> = {
            let state = self.state();
            let deleted = state.deleted.iter().filter(|(key, _)| known(key));
            deleted.map(|(_, e)| e.clone()).filter(|e| !there.contains(&e.name)).collect()
        };
        if !ghosts.is_empty() {
            listing.entries.extend(ghosts);
            listing.entries.sort_by_cached_key(|entry| entry.name.to_string());
            self.fire(Ghosts);
        }
    }

    fn delete_and_remember(&self, name: &Name) -> Result<(), Error> {
        let key = name.to_string();
        let entry = self.inner.list(&key, None)?.entries.pop();
        self.inner.delete(name)?;
        self.state().deleted.extend(entry.map(|entry| (key, entry)));
        Ok(())
    }
}

impl State {
    /// Counts a call and says how it goes wrong.
    fn call(&mut self, operation: Operation) -> Option<Fault> {
        let calls = self.calls.entry(operation).or_default();
        *calls += 1;
        let scripted = self.script.remove(&(operation, *calls));
        let planned = scripted.or(self.down.get(&operation).copied());
        planned.or_else(|| self.seeded.as_mut()?.fault(operation))
    }
}

impl Seeded {
    fn fault(&mut self, operation: Operation) -> Option<Fault> {
        let faults = operation.faults();
        let (fires, which) = (self.next().is_multiple_of(self.one_in), self.next());
        fires.then(|| faults[(which % faults.len() as u64) as usize])
    }

    /// SplitMix64: any seed will do.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let state = self.state();
        write!(f, "Faulty({}, calls {:?}, fired {:?})", self.inner, state.calls, state.fired)
    }
}

impl Backend for Faulty {
    fn put(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        let fault = self.state().call(Operation::Put);
        if matches!(fault, None | Some(ReplyLost)) {
            self.inner.put(name, body)?;
        }
        fault.map_or(Ok(()), |fault| Err(self.error("put", name.to_string(), fault)))
    }

    fn replace(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        let fault = self.state().call(Operation::Replace);
        if matches!(fault, None | Some(ReplyLost)) {
            self.inner.replace(name, body)?;
        }
        fault.map_or(Ok(()), |fault| Err(self.error("replace", name.to_string(), fault)))
    }

    fn renew(&self, name: &Name) -> Result<(), Error> {
        let fault = self.state().call(Operation::Renew);
        match fault {
            None => self.inner.renew(name),
            Some(fault) => Err(self.error("renew", name.to_string(), fault)),
        }
    }

    fn get(&self, name: &Name) -> Result<Vec<u8>, Error> {
        let fault = self.state().call(Operation::Get);
        match fault {
            None => self.inner.get(name),
            Some(fault @ (Short | Flipped)) => Ok(self.spoil(self.inner.get(name)?, fault)),
            Some(fault) => Err(self.error("get", name.to_string(), fault)),
        }
    }

    fn list(&self, prefix: &str, after: Option<&Name>) -> Result<Listing, Error> {
        let fault = self.state().call(Operation::List);
        if let Some(fault @ (Refused | Denied)) = fault {
            return Err(self.error("list", prefix.to_owned(), fault));
        }
        let mut listing = self.inner.list(prefix, after)?;
        match fault {
            Some(Stale) => self.lose_newest(&mut listing),
            Some(Ghosts) => self.resurrect(&mut listing, prefix, after),
            _ => {}
        }
        Ok(listing)
    }

    fn delete(&self, name: &Name) -> Result<(), Error> {
        let fault = self.state().call(Operation::Delete);
        if matches!(fault, None | Some(ReplyLost)) {
            self.delete_and_remember(name)?;
        }
        fault.map_or(Ok(()), |fault| Err(self.error("delete", name.to_string(), fault)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::mem::Mem;
    use crate::commit::Timeline;

    const A: Name = Name::Timeline(Timeline(1));
    const B: Name = Name::Timeline(Timeline(2));

    fn faulty() -> Faulty {
        let faulty = Faulty::new(Arc::new(Mem::new()));
        faulty.put(&A, b"a").unwrap();
        faulty.put(&B, b"bb").unwrap();
        faulty
    }

    fn listed(faulty: &Faulty) -> Vec<Name> {
        let listing = faulty.list(Name::TIMELINES, None).unwrap();
        listing.entries.into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn a_refused_put_stores_nothing_and_a_lost_reply_hides_a_success() {
        let faulty = Faulty::new(Arc::new(Mem::new()));
        faulty.fail(Operation::Put, 1, Refused);
        faulty.fail(Operation::Put, 2, ReplyLost);
        assert_eq!(faulty.put(&A, b"a").unwrap_err().kind, Kind::Transient);
        assert_eq!(faulty.get(&A).unwrap_err().kind, Kind::NotFound);
        assert_eq!(faulty.put(&A, b"a").unwrap_err().kind, Kind::Transient);
        assert_eq!(faulty.put(&A, b"a").unwrap_err().kind, Kind::Exists);
        assert_eq!(faulty.get(&A).unwrap(), b"a");
        assert_eq!((faulty.fired(Refused), faulty.fired(ReplyLost)), (1, 1));
        assert_eq!((faulty.calls(Operation::Put), faulty.calls(Operation::Get)), (3, 2));
    }

    #[test]
    fn gets_come_back_short_or_wrong() {
        let faulty = faulty();
        faulty.fail(Operation::Get, 1, Short);
        faulty.fail(Operation::Get, 2, Flipped);
        assert_eq!(faulty.get(&B).unwrap(), b"b");
        assert_eq!(faulty.get(&B).unwrap(), b"bc");
        assert_eq!(faulty.get(&B).unwrap(), b"bb");
    }

    #[test]
    fn listings_miss_the_newest_or_show_the_dead() {
        let faulty = faulty();
        faulty.fail(Operation::List, 1, Stale);
        faulty.fail(Operation::List, 2, Ghosts);
        assert_eq!(listed(&faulty), [A]);
        assert_eq!(listed(&faulty), [A, B]);
        assert_eq!(faulty.fired(Ghosts), 0, "nothing was deleted yet");
        faulty.delete(&A).unwrap();
        assert_eq!(listed(&faulty), [B]);
        faulty.fail(Operation::List, 1, Ghosts);
        assert_eq!(listed(&faulty), [A, B]);
        assert_eq!(faulty.fired(Ghosts), 1);
    }

    #[test]
    fn an_outage_lasts_until_healed() {
        let faulty = faulty();
        faulty.fail_all(Operation::Delete, Denied);
        for _ in 0..3 {
            assert_eq!(faulty.delete(&A).unwrap_err().kind, Kind::Denied);
        }
        faulty.heal();
        faulty.delete(&A).unwrap();
        assert_eq!(faulty.fired(Denied), 3);
    }

    #[test]
    fn a_seed_gives_the_same_faults_again() {
        let run = |seed| {
            let faulty = faulty().seeded(seed, 3);
            let kinds = (0..50).map(|_| faulty.put(&A, b"").unwrap_err().kind);
            kinds.collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        assert!(run(7).contains(&Kind::Full));
    }
}
