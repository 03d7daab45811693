//! A destination whose objects are sealed: what is put is sealed on its way, what is got is opened.
//! Everybody above sees plain objects, and nothing plain gets past it.
//!
//! It stands above `retry`, so that what is sent again is sealed already. Sizes in listings are those of
//! what is stored.
//!
//! An object that no key here opens is handed on as it is: who opens objects says which key it wants.
//! Put again somewhere else, it stays what it is. An object that is not sealed is refused where all
//! have to be, since anybody who can write to the destination could have put it there.

use super::{Backend, Error, Kind, Listing};
use crate::name::Name;
use crate::seal::{Keys, Refused};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The way out, if it is not somebody else's.
const NOT_SEALED: &str = "if it is yours, seal = \"new\", or --seal new, trusts it, and `bakelite reencrypt` then seals it";

pub struct Sealed {
    inner: Arc<dyn Backend>,
    keys: Arc<Keys>,
}

/// `inner` itself, if there are no keys.
pub fn sealed(inner: Arc<dyn Backend>, keys: &Arc<Keys>) -> Arc<dyn Backend> {
    if keys.all.is_empty() {
        return inner;
    }
    Arc::new(Sealed { inner, keys: Arc::clone(keys) })
}

impl Sealed {
    fn seal<'a>(&self, name: &Name, body: &'a [u8]) -> Cow<'a, [u8]> {
        match self.keys.sealing() {
            Some(key) => key.seal(name, body).into(),
            None => body.into(),
        }
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Sealed({}, {:?})", self.inner, self.keys)
    }
}

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Backend for Sealed {
    fn put(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        self.inner.put(name, &self.seal(name, body))
    }

    fn replace(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        self.inner.replace(name, &self.seal(name, body))
    }

    fn renew(&self, name: &Name) -> Result<(), Error> {
        self.inner.renew(name)
    }

    fn get(&self, name: &Name) -> Result<Vec<u8>, Error> {
        let bytes = self.inner.get(name)?;
        self.keys.open(name, bytes).map_err(|refused| {
            let (kind, hint) = match refused {
                Refused::Damaged(_) => (Kind::Corrupt, None),
                Refused::NotSealed => (Kind::Key, Some(NOT_SEALED.to_owned())),
            };
            let (place, name, cause) = (self.to_string(), name.to_string(), refused.to_string());
            Error { operation: "get", place, name, kind, cause, hint }
        })
    }

    fn start(&self, name: &Name, bytes: usize) -> Result<Vec<u8>, Error> {
        self.inner.start(name, bytes)
    }

    fn list(&self, prefix: &str, after: Option<&Name>) -> Result<Listing, Error> {
        self.inner.list(prefix, after)
    }

    fn delete(&self, name: &Name) -> Result<(), Error> {
        self.inner.delete(name)
    }
}

#[cfg(test)]
mod tests;
