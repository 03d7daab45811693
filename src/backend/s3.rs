//! A replica in a bucket: the object `change/0/…` is the key `PREFIX/change/0/…`.
//!
//! Makes requests and judges replies; rusty-s3 signs, `http` sends. What is stored is never written
//! over: every put says `If-None-Match: *`, and a store that does not heed it is refused when it is
//! opened to be written. A bucket that is not there, or that may not be read, is an error, never an
//! empty replica.

mod ask;
mod credentials;
pub mod listing;
mod locks;
mod pace;
mod refusal;
pub mod versions;

use super::http::{self, Reply, Request};
use super::retry::{Patience, try_again};
use super::{Backend, Error, Kind, Listing};
use crate::clock;
use crate::config::{self, UrlStyle};
use crate::name::Name;
use ask::{ANSWER, Ask, Header, Headers, time_to_get};
use credentials::Keys;
pub use credentials::VARIABLES;
use locks::Locks;
use pace::Pace;
pub use refusal::Refusal;
use rusty_s3::Bucket;
use sha2::{Digest, Sha256};
use std::fmt;
use std::thread;
use std::time::Duration;

/// How many keys a listing shows at a time: the most that stores give.
const PAGE: usize = 1000;

/// A store may refuse a put before it has read the body, and close. Of a body that is longer than what
/// fits the connection's buffers, sending fails then, and the refusal is never read.
const SENT_AT_ONCE: usize = 64 << 10;

/// The key, below the prefix, that tells at each start whether the store keeps what is there.
pub const PROBE: &str = "probe";
const PROBE_BODY: &[u8] = b"bakelite asks by this object whether the store keeps what is there\n";

#[derive(Debug)]
pub struct S3 {
    bucket: Bucket,
    /// Before every key; ends in a slash unless it is empty.
    root: String,
    keys: Keys,
    create_only: bool,
    locks: Locks,
    page: usize,
    patience: Patience,
    pace: Pace,
    most: Option<Duration>,
}

impl S3 {
    /// A replica that may be there. Asks nothing of the store yet.
    pub fn open(place: &config::S3) -> Result<Self, Error> {
        let shown = shown(&place.bucket, &place.prefix);
        let refuse = |Refusal { kind, cause, hint }: Refusal| Error {
            operation: "open",
            place: shown.clone(),
            name: String::new(),
            kind,
            cause,
            hint,
        };
        let style = match place.url_style {
            UrlStyle::Path => rusty_s3::UrlStyle::Path,
            UrlStyle::VirtualHost => rusty_s3::UrlStyle::VirtualHost,
        };
        let (name, region) = (place.bucket.clone(), place.region.clone());
        let endpoint = place.endpoint.parse().map_err(|error| format!("{error}"));
        let bucket = endpoint.and_then(|endpoint| {
            Bucket::new(endpoint, style, name, region).map_err(|error| format!("{error:?}"))
        });
        let bucket = bucket.map_err(|cause| {
            let cause = format!("{}: {cause}", place.endpoint);
            refuse(Refusal::lasting(cause, "correct the endpoint, or set url_style to \"path\""))
        })?;
        let slash = if place.prefix.is_empty() { "" } else { "/" };
        Ok(Self {
            bucket,
            root: format!("{}{slash}", place.prefix),
            keys: Keys::new(&place.credentials).map_err(refuse)?,
            create_only: place.create_only,
            locks: Locks::new(place.lock),
            page: PAGE,
            patience: Patience::default(),
            pace: Pace::default(),
            most: None,
        })
    }

    /// A replica to be read. Finds out whether it is locked.
    pub fn read(place: &config::S3) -> Result<Self, Error> {
        let s3 = Self::open(place)?;
        s3.find_locks()?;
        Ok(s3)
    }

    /// A replica to be written. Proves that it can be, and that nothing there is written over. One that
    /// was locked once has its first versions still, whatever the configuration says now: deleting
    /// what is newest there would only hide them.
    pub fn create(place: &config::S3) -> Result<Self, Error> {
        let s3 = Self::open(place)?;
        s3.prove_create_only()?;
        if s3.locks.lock.is_none() {
            s3.find_locks()?;
        }
        Ok(s3)
    }

    /// With fewer keys to a page of a listing.
    #[must_use]
    pub fn with_page(self, page: usize) -> Self {
        Self { page, ..self }
    }

    /// With no longer to wait for anything than this.
    #[must_use]
    pub fn with_timeout(self, most: Duration) -> Self {
        Self { most: Some(most), ..self }
    }

    /// Puts the probe; where that succeeds, once more. It stays, so that a later start needs but one
    /// request, and where nothing can be deleted nothing is left to be.
    fn prove_create_only(&self) -> Result<(), Error> {
        for _ in 0..2 {
            match try_again(self.patience, thread::sleep, || self.put_key(PROBE, PROBE_BODY)) {
                Err(error) if error.kind == Kind::Exists => return Ok(()),
                stored => stored?,
            }
        }
        let cause = "the store writes over what is there, in spite of If-None-Match: *";
        let hint = "use a store that heeds it; or, if one daemon alone can ever write there, set \
                    create_only = false";
        Err(self.error("open", "", Refusal::lasting(cause, hint)))
    }

    /// For who removes a whole replica: nothing lists it.
    pub fn remove_probe(&self) -> Result<(), Error> {
        try_again(self.patience, thread::sleep, || self.delete_key(PROBE, None))
    }

    fn put_key(&self, name: &str, body: &[u8]) -> Result<(), Error> {
        if !self.create_only && self.is_there(&self.key(name), name)? {
            return Err(self.error("put", name, Refusal::taken()));
        }
        let only_new = self.create_only.then(|| ("if-none-match", "*".to_owned()));
        let stored = self.store("put", name, body, only_new);
        let unheard = matches!(&stored, Err(error) if error.kind == Kind::Transient)
            && body.len() > SENT_AT_ONCE;
        // Where this cannot be told either, it is the first failure that counts.
        if unheard && self.is_there(&self.key(name), name).unwrap_or(false) {
            return Err(self.error("put", name, Refusal::taken()));
        }
        stored
    }

    fn store(
        &self,
        operation: &'static str,
        name: &str,
        body: &[u8],
        condition: Option<Header>,
    ) -> Result<(), Error> {
        let mut headers = checksum(body);
        headers.extend(self.lock_headers());
        let conditional = condition.is_some();
        headers.extend(condition);
        let ask = Ask::Put { key: &self.key(name), body, headers: &headers };
        let reply = self.send(operation, name, &ask)?;
        // A store may begin to answer before it is done, and tell of a failure in the body.
        if matches!(reply.status, 200 | 201) && !refusal::is_error(&reply.body) {
            return Ok(());
        }
        let refusal = self.refused(&reply);
        let refusal = if conditional { refusal.of_condition() } else { refusal };
        Err(self.error(operation, name, refusal))
    }

    /// Asks for an object, under what hides it if it is locked.
    fn fetch(&self, name: &Name, headers: &[Header], time: Duration) -> Result<Reply, Error> {
        let name = name.to_string();
        let (key, version) = (self.key(&name), self.locks.covered(&name));
        let ask =
            |version| self.send("get", &name, &Ask::Get { key: &key, version, headers, time });
        let reply = ask(version.as_deref())?;
        let hidden = reply.status == 404 && reply.header("x-amz-delete-marker").is_some();
        if hidden && self.locks.apply() && self.uncover(&name)? {
            return ask(self.locks.covered(&name).as_deref());
        }
        Ok(reply)
    }

    /// For a store that cannot be told to keep what is there, and where its refusal went unheard.
    fn is_there(&self, key: &str, name: &str) -> Result<bool, Error> {
        let reply = self.send("put", name, &Ask::Head { key, version: None })?;
        match reply.status {
            200 => Ok(true),
            // Where the bucket is not there either, the put will tell.
            404 => Ok(false),
            _ => Err(self.error("put", name, Refusal::of(&reply))),
        }
    }

    fn delete_key(&self, name: &str, version: Option<&str>) -> Result<(), Error> {
        let reply = self.send("delete", name, &Ask::Delete { key: &self.key(name), version })?;
        let refusal = match reply.status {
            204 => return Ok(()),
            200 if !refusal::is_error(&reply.body) => return Ok(()),
            _ => Refusal::of(&reply),
        };
        match refusal.kind {
            Kind::NotFound => Ok(()),
            _ => Err(self.error("delete", name, refusal)),
        }
    }

    /// One page of keys from the store, as names.
    fn list_keys(&self, prefix: &str, after: &str) -> Result<listing::Page, Error> {
        let from = self.key(prefix);
        let after = if after.is_empty() { String::new() } else { self.key(after) };
        let ask = Ask::List { prefix: &from, after: &after, most: self.page };
        let reply = self.send("list", prefix, &ask)?;
        let page = match reply.status {
            200 if !refusal::is_error(&reply.body) => {
                listing::read(&reply.body, &self.root, &from, &after)
            }
            _ => Err(Refusal::of(&reply)),
        };
        page.map_err(|refusal| self.error("list", prefix, refusal))
    }

    /// What stands between this place and the next slash, in every key below it.
    pub fn below(&self) -> Result<Vec<String>, Error> {
        let (mut names, mut token) = (Vec::new(), None);
        loop {
            let ask = Ask::Below { prefix: &self.root, token: token.as_deref(), most: self.page };
            let reply = self.send("list", "", &ask)?;
            let page = match reply.status {
                200 if !refusal::is_error(&reply.body) => listing::below(&reply.body, &self.root),
                _ => Err(Refusal::of(&reply)),
            };
            let (page, next) = page.map_err(|refusal| self.error("list", "", refusal))?;
            names.extend(page);
            match next {
                Some(next) => token = Some(next),
                None => return Ok(names),
            }
        }
    }

    fn send(&self, operation: &'static str, name: &str, ask: &Ask) -> Result<Reply, Error> {
        let failed = |refusal| self.error(operation, name, refusal);
        let credentials = self.keys.now().map_err(failed)?;
        let (method, headers, body, time) = ask.parts();
        let url = ask.signed(&self.bucket, &credentials);
        let times = self.pace.now();
        let timeout = self.timeout(time, times);
        let request = Request { method, url: &url, headers, body, timeout };
        let start = clock::instant();
        let reply = http::send(&request);
        match &reply {
            Ok(reply) => self.pace.done(times, body.len() + reply.body.len(), start.elapsed()),
            Err(failure) if failure.late && time > ANSWER => self.pace.late(times),
            Err(_) => {}
        }
        let endpoint = self.bucket.base_url().origin().ascii_serialization();
        let reply = reply.map_err(|failure| failed(Refusal::unanswered(failure, endpoint)))?;
        self.locks.note_time(reply.header("date"));
        Ok(reply)
    }

    /// A slow line gets more time for the bytes, not for the answer.
    fn timeout(&self, time: Duration, times: u32) -> Duration {
        let time = time + (times - 1) * time.saturating_sub(ANSWER);
        self.most.map_or(time, |most| most.min(time))
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.root)
    }

    fn error(&self, operation: &'static str, name: &str, refusal: Refusal) -> Error {
        let Refusal { kind, cause, hint } = refusal;
        // A name that is taken, or absent, is an answer to a put and to a get; to nothing else.
        let kind = match (kind, operation) {
            (Kind::Exists, "put") | (Kind::NotFound, "get") => kind,
            (Kind::Exists | Kind::NotFound, _) => Kind::Other,
            _ => kind,
        };
        Error { operation, place: self.to_string(), name: name.to_owned(), kind, cause, hint }
    }
}

/// The body's hash: a store that was sent something else refuses it.
fn checksum(body: &[u8]) -> Headers {
    vec![("x-amz-checksum-sha256", base64(&Sha256::digest(body)))]
}

fn shown(bucket: &str, prefix: &str) -> String {
    let slash = if prefix.is_empty() { "" } else { "/" };
    format!("s3://{bucket}{slash}{prefix}")
}

impl fmt::Display for S3 {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&shown(self.bucket.name(), self.root.trim_end_matches('/')))
    }
}

impl Backend for S3 {
    fn put(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        self.put_key(&name.to_string(), body)
    }

    fn replace(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        let name = name.to_string();
        if self.locks.apply() {
            return Err(self.error("replace", &name, Refusal::locked()));
        }
        self.store("replace", &name, body, None)
    }

    fn renew(&self, name: &Name) -> Result<(), Error> {
        self.renew_lock(&name.to_string())
    }

    fn get(&self, name: &Name) -> Result<Vec<u8>, Error> {
        let reply = self.fetch(name, &[], time_to_get(name))?;
        match reply.status {
            200 if reply.told => Ok(reply.body),
            200 => {
                let untold = Refusal::passing("its length was not told");
                Err(self.error("get", &name.to_string(), untold))
            }
            _ => Err(self.error("get", &name.to_string(), Refusal::of(&reply))),
        }
    }

    fn start(&self, name: &Name, bytes: usize) -> Result<Vec<u8>, Error> {
        let range = ("range", format!("bytes=0-{}", bytes.max(1) - 1));
        let mut reply = self.fetch(name, &[range], ANSWER)?;
        match reply.status {
            // A store may give all of it.
            200 | 206 => {
                reply.body.truncate(bytes);
                Ok(reply.body)
            }
            // An object without a byte has no such range.
            416 => Ok(Vec::new()),
            _ => Err(self.error("get", &name.to_string(), Refusal::of(&reply))),
        }
    }

    /// Asks again only where a page holds nothing but foreign keys, which are no place to go on from.
    fn list(&self, prefix: &str, after: Option<&Name>) -> Result<Listing, Error> {
        assert!(Name::PREFIXES.iter().any(|known| prefix.starts_with(known)), "{prefix}");
        let mut after = after.map(Name::to_string).unwrap_or_default();
        let mut listing = Listing::default();
        loop {
            let page = match self.locks.apply() {
                true => self.list_firsts(prefix, &after)?,
                false => self.list_keys(prefix, &after)?,
            };
            listing.foreign.extend(page.foreign);
            listing.more = page.more;
            if page.more && page.entries.is_empty() {
                after = page.last;
                continue;
            }
            listing.entries = page.entries;
            if listing.more {
                let last = listing.entries.last().map(|entry| entry.name.to_string());
                listing.foreign.retain(|key| Some(key) < last.as_ref());
            }
            return Ok(listing);
        }
    }

    fn delete(&self, name: &Name) -> Result<(), Error> {
        let name = name.to_string();
        match self.locks.apply() {
            true => self.delete_versions(&name),
            false => self.delete_key(&name, None),
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, &byte| bits << 8 | u32::from(byte));
        let bits = bits << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests;
