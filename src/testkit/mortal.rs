//! A process that dies at a call of its destination, and destinations that a test has put in the place
//! of those that a configuration names.

use crate::backend::{Backend, Error, Kind, Listing};
use crate::name::Name;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// How a process dies in the middle of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    Before,
    /// The call has its effect, and nobody learns of it.
    After,
    /// What was written so far lies there under a name that is none.
    Torn,
    /// The destination is not there from then on.
    Away,
}

pub const DEATHS: [Death; 3] = [Death::Before, Death::After, Death::Torn];

/// Lets `left` calls through, and none after that.
pub struct Mortal {
    inner: Arc<dyn Backend>,
    calls: AtomicU64,
    left: u64,
    death: Death,
}

impl Mortal {
    pub fn new(inner: Arc<dyn Backend>, left: u64, death: Death) -> Arc<Self> {
        Arc::new(Self { inner, calls: AtomicU64::new(0), left, death })
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub fn is_dead(&self) -> bool {
        self.calls() > self.left
    }

    fn call<T>(&self, effect: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let before = self.calls.fetch_add(1, Ordering::Relaxed);
        if before < self.left {
            return effect();
        }
        if before == self.left && self.death == Death::After {
            drop(effect());
        }
        let (place, name) = (self.to_string(), String::new());
        let kind = if self.death == Death::Away { Kind::NotFound } else { Kind::Transient };
        let cause = "dead".into();
        Err(Error { operation: "call", place, name, kind, cause, hint: None })
    }
}

impl fmt::Display for Mortal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Backend for Mortal {
    fn put(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        self.call(|| self.inner.put(name, body))
    }

    fn replace(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        self.call(|| self.inner.replace(name, body))
    }

    fn renew(&self, name: &Name) -> Result<(), Error> {
        self.call(|| self.inner.renew(name))
    }

    fn get(&self, name: &Name) -> Result<Vec<u8>, Error> {
        self.call(|| self.inner.get(name))
    }

    fn list(&self, prefix: &str, after: Option<&Name>) -> Result<Listing, Error> {
        self.call(|| self.inner.list(prefix, after))
    }

    fn delete(&self, name: &Name) -> Result<(), Error> {
        self.call(|| self.inner.delete(name))
    }
}

static BEHIND: Mutex<BTreeMap<String, Arc<dyn Backend>>> = Mutex::new(BTreeMap::new());

/// From now on, what is opened as `place` is `backend`; `None`: what it always was.
pub fn put_behind(place: &str, backend: Option<Arc<dyn Backend>>) {
    let mut behind = BEHIND.lock().unwrap();
    match backend {
        Some(backend) => drop(behind.insert(place.to_owned(), backend)),
        None => drop(behind.remove(place)),
    }
}

/// What is to be used in place of a destination that was opened.
pub fn behind(place: &str, opened: Arc<dyn Backend>) -> Arc<dyn Backend> {
    BEHIND.lock().unwrap().get(place).cloned().unwrap_or(opened)
}
