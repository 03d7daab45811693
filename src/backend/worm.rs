//! A replica in memory whose objects are locked, for tests: what a bucket with Object Lock does, and
//! what somebody with its writer's keys can do to it.
//!
//! Time passes only when a test says so.

use super::{Backend, Entry, Error, Kind, Listing};
use crate::commit::Time;
use crate::name::Name;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub struct Worm {
    state: Mutex<State>,
    period_ms: u64,
}

#[derive(Debug, Default)]
struct State {
    now: Time,
    /// The versions of each name, oldest first. One that nothing is left of is gone.
    names: BTreeMap<Name, Vec<Version>>,
}

#[derive(Debug)]
struct Version {
    /// `None`: a delete marker.
    body: Option<Vec<u8>>,
    locked_until: Time,
}

impl Worm {
    pub fn new(period_ms: u64) -> Self {
        Self { state: Mutex::default(), period_ms }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, operation: &'static str, name: &Name, kind: Kind) -> Error {
        let (place, name) = (self.to_string(), name.to_string());
        Error { operation, place, name, kind, cause: format!("{kind:?}"), hint: None }
    }

    pub fn pass(&self, ms: u64) {
        self.state().now.0 += ms;
    }

    /// Every name that has a version.
    pub fn names(&self) -> Vec<Name> {
        self.state().names.keys().cloned().collect()
    }

    /// Does to every object what a thief of the keys can do: removes each version that is not locked,
    /// stores another one above those that are, and hides the lot.
    pub fn ravage(&self) {
        let mut state = self.state();
        let now = state.now;
        for versions in state.names.values_mut() {
            versions.retain(|version| version.locked_until > now);
            versions.push(Version { body: Some(b"ravaged".to_vec()), locked_until: Time(0) });
            versions.push(Version { body: None, locked_until: Time(0) });
        }
        // What nothing but the thief's is left of has no lock to tell it by: a first version counts.
        state.names.retain(|_, versions| versions.len() > 2);
    }
}

impl State {
    fn first(&self, name: &Name) -> Option<&Vec<u8>> {
        self.names.get(name)?.iter().find_map(|version| version.body.as_ref())
    }
}

impl fmt::Display for Worm {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("locked memory")
    }
}

impl Backend for Worm {
    /// Sees the newest version alone, as `If-None-Match` does.
    fn put(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        let mut state = self.state();
        let locked_until = Time(state.now.0 + self.period_ms);
        let versions = state.names.entry(name.clone()).or_default();
        if versions.last().is_some_and(|newest| newest.body.is_some()) {
            return Err(self.error("put", name, Kind::Exists));
        }
        versions.push(Version { body: Some(body.to_vec()), locked_until });
        Ok(())
    }

    fn replace(&self, name: &Name, _: &[u8]) -> Result<(), Error> {
        Err(self.error("replace", name, Kind::Locked))
    }

    fn get(&self, name: &Name) -> Result<Vec<u8>, Error> {
        let body = self.state().first(name).cloned();
        body.ok_or_else(|| self.error("get", name, Kind::NotFound))
    }

    fn list(&self, prefix: &str, after: Option<&Name>) -> Result<Listing, Error> {
        let state = self.state();
        let after = after.map(Name::to_string).unwrap_or_default();
        let mut entries: Vec<Entry> = Vec::new();
        for name in state.names.keys().filter(|name| {
            let text = name.to_string();
            text.starts_with(prefix) && text > after
        }) {
            let bytes = state.first(name).map(|body| body.len() as u64);
            entries.extend(bytes.map(|bytes| Entry { name: name.clone(), bytes }));
        }
        entries.sort_by_key(|entry| entry.name.to_string());
        Ok(Listing { entries, ..Listing::default() })
    }

    fn delete(&self, name: &Name) -> Result<(), Error> {
        let mut state = self.state();
        let now = state.now;
        let Some(versions) = state.names.get(name) else { return Ok(()) };
        if versions.iter().any(|version| version.locked_until > now) {
            return Err(self.error("delete", name, Kind::Locked));
        }
        state.names.remove(name);
        Ok(())
    }

    fn renew(&self, name: &Name) -> Result<(), Error> {
        let mut state = self.state();
        let until = Time(state.now.0 + self.period_ms);
        let versions = state.names.get_mut(name);
        let first = versions.and_then(|all| all.iter_mut().find(|version| version.body.is_some()));
        let first = first.ok_or_else(|| self.error("renew", name, Kind::NotFound))?;
        first.locked_until = first.locked_until.max(until);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::conformance::change;

    #[test]
    fn trap_78_what_is_locked_can_be_hidden_and_not_lost() {
        let worm = Worm::new(1000);
        let (a, b) = (change(0, 1), change(0, 2));
        worm.put(&a, b"a").unwrap();
        worm.put(&b, b"b").unwrap();
        worm.pass(600);
        worm.renew(&b).unwrap();
        worm.ravage();
        assert_eq!(worm.get(&a).unwrap(), b"a");
        assert_eq!(worm.list(Name::CHANGES, None).unwrap().entries.len(), 2);
        worm.pass(400);
        assert_eq!(worm.delete(&b).unwrap_err().kind, Kind::Locked);
        worm.ravage();
        assert_eq!(worm.get(&a).unwrap_err().kind, Kind::NotFound, "its lock has ended");
        assert_eq!(worm.get(&b).unwrap(), b"b");
        worm.pass(600);
        worm.delete(&b).unwrap();
        assert_eq!(worm.names(), []);
    }
}
