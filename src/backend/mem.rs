//! A replica in memory, for tests: fast, and open to every kind of tampering.

use super::{Backend, Entry, Error, Kind, Listing};
use crate::name::Name;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub struct Mem {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    page: usize,
}

impl Default for Mem {
    fn default() -> Self {
        Self::new()
    }
}

impl Mem {
    pub fn new() -> Self {
        Self { objects: Mutex::default(), page: 1000 }
    }

    /// With this many keys to a page of a listing.
    #[must_use]
    pub fn with_page(self, page: usize) -> Self {
        Self { page, ..self }
    }

    /// Every key and its bytes, to look at, falsify, remove or add to behind the backend's back.
    pub fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, operation: &'static str, name: &Name, kind: Kind) -> Error {
        let cause = match kind {
            Kind::NotFound => "no such object",
            _ => "the name is taken",
        };
        let (place, name) = (self.to_string(), name.to_string());
        Error { operation, place, name, kind, cause: cause.to_owned(), hint: None }
    }
}

impl fmt::Display for Mem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("memory")
    }
}

impl Backend for Mem {
    fn put(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        let mut objects = self.objects();
        if objects.contains_key(&name.to_string()) {
            return Err(self.error("put", name, Kind::Exists));
        }
        objects.insert(name.to_string(), body.to_vec());
        Ok(())
    }

    fn replace(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        self.objects().insert(name.to_string(), body.to_vec());
        Ok(())
    }

    fn renew(&self, _: &Name) -> Result<(), Error> {
        Ok(())
    }

    fn get(&self, name: &Name) -> Result<Vec<u8>, Error> {
        let body = self.objects().get(&name.to_string()).cloned();
        body.ok_or_else(|| self.error("get", name, Kind::NotFound))
    }

    fn list(&self, prefix: &str, after: Option<&Name>) -> Result<Listing, Error> {
        let after = after.map(Name::to_string).unwrap_or_default();
        let objects = self.objects();
        let mut listing = Listing::default();
        for (key, body) in objects.range::<str, _>((Bound::Excluded(&*after), Bound::Unbounded)) {
            match key.parse() {
                _ if !key.starts_with(prefix) => {}
                Err(_) => listing.foreign.push(key.clone()),
                Ok(_) if listing.entries.len() == self.page => return Ok(more(listing)),
                Ok(name) => listing.entries.push(Entry { name, bytes: body.len() as u64 }),
            }
        }
        Ok(listing)
    }

    fn delete(&self, name: &Name) -> Result<(), Error> {
        self.objects().remove(&name.to_string());
        Ok(())
    }
}

/// The page is full, and what is foreign past its end belongs to the next.
fn more(mut listing: Listing) -> Listing {
    let last = listing.entries.last().map(|entry| entry.name.to_string());
    listing.foreign.retain(|key| Some(key) < last.as_ref());
    Listing { more: true, ..listing }
}
