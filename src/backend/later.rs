//! A destination that may not be there yet: opened by the first call that succeeds in it.

use super::{Backend, Error, Kind, Listing};
use crate::name::Name;
use std::fmt;
use std::sync::{Arc, OnceLock};

type Open = dyn Fn() -> Result<Arc<dyn Backend>, Error> + Send + Sync;

pub struct Later {
    place: String,
    open: Box<Open>,
    opened: OnceLock<Arc<dyn Backend>>,
}

impl Later {
    pub fn new(
        place: String,
        open: impl Fn() -> Result<Arc<dyn Backend>, Error> + Send + Sync + 'static,
    ) -> Self {
        Self { place, open: Box::new(open), opened: OnceLock::new() }
    }

    /// The error of one that has not opened in time.
    pub fn late(&self) -> Error {
        Error {
            operation: "open",
            place: self.place.clone(),
            name: String::new(),
            kind: Kind::Transient,
            cause: "no answer in time".to_owned(),
            hint: None,
        }
    }

    /// Opens it, if it is not open.
    pub fn get(&self) -> Result<&Arc<dyn Backend>, Error> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let opened = (self.open)()?;
        Ok(self.opened.get_or_init(|| opened))
    }
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_tuple("Later").field(&self.place).finish()
    }
}

impl fmt::Display for Later {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.place)
    }
}

impl Backend for Later {
    fn put(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        Later::get(self)?.put(name, body)
    }

    fn replace(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        Later::get(self)?.replace(name, body)
    }

    fn renew(&self, name: &Name) -> Result<(), Error> {
        Later::get(self)?.renew(name)
    }

    fn get(&self, name: &Name) -> Result<Vec<u8>, Error> {
        Later::get(self)?.get(name)
    }

    fn holds(&self, name: &Name, body: &[u8]) -> Result<bool, Error> {
        Later::get(self)?.holds(name, body)
    }

    fn start(&self, name: &Name, bytes: usize) -> Result<Vec<u8>, Error> {
        Later::get(self)?.start(name, bytes)
    }

    fn list(&self, prefix: &str, after: Option<&Name>) -> Result<Listing, Error> {
        Later::get(self)?.list(prefix, after)
    }

    fn delete(&self, name: &Name) -> Result<(), Error> {
        Later::get(self)?.delete(name)
    }
}
