//! Destinations: places that hold a replica's objects, behind eight methods.
//!
//! A backend makes one request a call; `retry` wraps one that is to be tried again. It never retries,
//! never logs and never looks inside a body; it sees neither pages nor SQLite. Every backend passes the
//! one suite in `conformance`.

pub mod browse;
pub mod conformance;
pub mod faulty;
pub mod fs;
pub(crate) mod http;
pub mod later;
pub mod mem;
pub mod retry;
pub mod s3;
pub mod sealed;
pub mod worm;

use crate::name::Name;
use crate::sabotage;
use std::fmt;

/// What is to be done where no replica is.
pub const NONE_HERE: &str = "check the path, and that its disk is mounted; which replicas lie below a place, \
                             says: bakelite list --from PLACE";

pub trait Backend: fmt::Display + Send + Sync {
    /// Stores a new object. `Ok` means durable: a power cut after it loses nothing. A name that is
    /// taken is `Kind::Exists`, whatever its bytes, and the object there stays as it was.
    fn put(&self, name: &Name, body: &[u8]) -> Result<(), Error>;

    /// Stores an object in place of the one that has its name, if there is one. At every moment a
    /// reader finds the old one or the new one, whole. For what heals or seals a replica anew, and
    /// only with a body that says the same: what a writer ships is put, and never written over.
    fn replace(&self, name: &Name, body: &[u8]) -> Result<(), Error>;

    /// The whole object. A body shorter than the store says it is, is an error, never a success.
    fn get(&self, name: &Name) -> Result<Vec<u8>, Error>;

    /// Whether the object is there with just these bytes: they are read anew.
    fn holds(&self, name: &Name, body: &[u8]) -> Result<bool, Error> {
        Ok(self.get(name)? == body)
    }

    /// So many bytes from an object's beginning, or all of it, as they are stored: those of a sealed one
    /// are not opened.
    fn start(&self, name: &Name, bytes: usize) -> Result<Vec<u8>, Error> {
        let mut body = self.get(name)?;
        body.truncate(bytes);
        Ok(body)
    }

    /// One page of the names that begin with `prefix` (one of `Name::PREFIXES`, or longer) and come
    /// after `after`, in the order of their text. A destination where nothing was ever put lists
    /// nothing; one that is not there at all (an unmounted disk) is an error.
    fn list(&self, prefix: &str, after: Option<&Name>) -> Result<Listing, Error>;

    /// Removes an object. One that is absent is `Ok`; one that is locked is `Kind::Locked`, and can be
    /// removed later.
    fn delete(&self, name: &Name) -> Result<(), Error>;

    /// Keeps an object that is there from being removed for as long as one that is put now. Stores
    /// without locks have nothing to do.
    fn renew(&self, name: &Name) -> Result<(), Error>;
}

/// One page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub entries: Vec<Entry>,
    /// Keys under the prefix that are not names of ours; unfinished writes of ours are left out.
    pub foreign: Vec<String>,
    /// Whether more may follow after the last entry.
    pub more: bool,
}

/// An object as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Name,
    pub bytes: u64,
}

/// What a caller can do about it is the kind; the rest is for people.
#[derive(Debug)]
pub struct Error {
    pub operation: &'static str,
    /// The destination, as its `Display` says.
    pub place: String,
    /// The object's name, or the prefix of a listing; empty where the place itself is meant.
    pub name: String,
    pub kind: Kind,
    pub cause: String,
    /// What a person can do about it.
    pub hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    NotFound,
    Exists,
    Denied,
    Locked,
    Full,
    Corrupt,
    /// It is not sealed as it has to be.
    Key,
    /// Likely to go away by itself: a time-out, a reset, a busy server.
    Transient,
    Other,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { operation, place, name, cause, .. } = self;
        let slash = if name.is_empty() { "" } else { "/" };
        write!(f, "{operation}: {place}{slash}{name}: {cause}")
    }
}

impl std::error::Error for Error {}

/// Every object under `prefix`, page by page.
pub fn list_all(backend: &dyn Backend, prefix: &str) -> Result<Listing, Error> {
    let mut all = Listing::default();
    loop {
        let page = backend.list(prefix, all.entries.last().map(|entry| &entry.name))?;
        all.entries.extend(page.entries);
        all.foreign.extend(page.foreign);
        if !page.more || sabotage::is("first-page-only") {
            return Ok(all);
        }
    }
}
