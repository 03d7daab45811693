//! Locked replicas: objects that for a while can be neither removed nor replaced, by nobody who has
//! this writer's keys.
//!
//! A lock keeps a version of an object; it does not keep others from being stored above it, nor from
//! hiding it under a delete marker. So in a locked replica the first version of each name counts, as
//! names are stored once, and markers count for nothing. Removing an object removes its versions, which
//! a lock refuses until it has ended.
//!
//! Whoever reads need not be told: the first version of the first timeline's record has a lock.
//!
//! A lock ends by the store's clock, which every reply tells. Where ours is behind, locks are reckoned
//! by the store's, up to the 15 minutes past which a store takes no request. Where ours is ahead they
//! last longer by as much.

use super::listing;
use super::refusal::{self, Refusal};
use super::versions::{self, Version};
use super::{Ask, Headers, Reply, S3, checksum};
use crate::backend::retry::try_again;
use crate::backend::{Entry, Error, Kind};
use crate::clock;
use crate::commit::{Time, Timeline};
use crate::config::{Lock, LockMode};
use crate::name::Name;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The header that says how a version is locked, and until when.
const MODE: &str = "x-amz-object-lock-mode";
const UNTIL: &str = "x-amz-object-lock-retain-until-date";

const UNTOLD: &str = "allow s3:GetObjectRetention, s3:GetObjectVersion and s3:ListBucketVersions; what is \
                      hidden or stored over in a locked replica is not found without them";

/// How far ahead of ours the store's clock is believed to be. Nobody can take back a lock that lasts too
/// long.
const MOST_AHEAD_MS: u64 = 15 * 60_000;

/// What is known of the versions of a replica's objects.
#[derive(Debug, Default)]
pub(super) struct Locks {
    pub lock: Option<Lock>,
    /// Whether the replica is a locked one, once somebody has looked.
    found: OnceLock<bool>,
    /// Why that could not be told.
    doubt: OnceLock<String>,
    /// The first versions of the names that something was stored or hidden over since.
    covered: Mutex<BTreeMap<String, String>>,
    /// What the store's clock showed last, and when that was.
    theirs: Mutex<Option<(Time, Instant)>>,
}

impl Locks {
    pub fn new(lock: Option<Lock>) -> Self {
        Self { lock, ..Self::default() }
    }

    /// Every reply tells the store's time.
    pub fn note_time(&self, date: Option<&str>) {
        if let Some(theirs) = date.and_then(clock::parse_http).filter(|_| self.lock.is_some()) {
            let mut seen = self.theirs.lock().unwrap_or_else(PoisonError::into_inner);
            *seen = Some((theirs, clock::instant()));
        }
    }

    /// When a lock that begins now will end, by the store's clock.
    fn until(&self, lock: Lock) -> String {
        let seen = *self.theirs.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = seen.map(|(time, at)| (time, clock::instant().duration_since(at)));
        until(lock, begin(clock::now(), theirs))
    }

    /// Whether the first version of each name counts.
    pub fn apply(&self) -> bool {
        self.lock.is_some() || self.found.get().is_some_and(|found| *found)
    }

    /// The version to ask for, where that is not the newest.
    pub fn covered(&self, name: &str) -> Option<String> {
        self.covered.lock().expect("nothing panics under it").get(name).cloned()
    }

    fn note(&self, name: &str, first: Option<&str>) {
        let mut covered = self.covered.lock().expect("nothing panics under it");
        match first {
            Some(id) => drop(covered.insert(name.to_owned(), id.to_owned())),
            None => drop(covered.remove(name)),
        }
    }
}

fn mode(lock: Lock) -> &'static str {
    match lock.mode {
        LockMode::Governance => "GOVERNANCE",
        LockMode::Compliance => "COMPLIANCE",
    }
}

/// When it is, as far as locks go. `theirs`: what the store's clock showed, and how long ago.
fn begin(ours: Time, theirs: Option<(Time, Duration)>) -> Time {
    let theirs = theirs.map_or(ours.0, |(time, ago)| time.0 + ago.as_millis() as u64);
    Time(theirs.clamp(ours.0, ours.0.saturating_add(MOST_AHEAD_MS)))
}

fn until(lock: Lock, begin: Time) -> String {
    let end = begin.0.saturating_add(lock.period.as_millis() as u64);
    let end = i64::try_from(end).ok().and_then(|end| Timestamp::from_millisecond(end).ok());
    end.unwrap_or(Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Whether a lock lasts until then; the same to the second, however many digits the store adds.
fn lasts(ends: &str, until: &str) -> bool {
    const SECONDS: usize = "2026-01-01T00:00:00".len();
    ends.get(..SECONDS).is_some_and(|ends| ends >= &until[..SECONDS])
}

/// A version that something may have been stored over.
struct First {
    key: String,
    /// Its id and size; `None`: nothing but markers.
    version: Option<(String, u64)>,
    covered: bool,
}

impl First {
    fn of(newest: Version) -> Self {
        let covered = newest.bytes.is_none();
        let version = newest.bytes.map(|bytes| (newest.id, bytes));
        Self { key: newest.key, version, covered }
    }

    fn add(&mut self, older: Version) {
        if let Some(bytes) = older.bytes {
            self.version = Some((older.id, bytes));
            self.covered = true;
        }
    }
}

impl S3 {
    /// What a put says of its lock.
    pub(super) fn lock_headers(&self) -> Headers {
        let Some(lock) = self.locks.lock else { return Headers::new() };
        let mode = mode(lock).to_owned();
        vec![
            (MODE, mode),
            (UNTIL, self.locks.until(lock)),
            ("x-amz-sdk-checksum-algorithm", "SHA256".into()),
        ]
    }

    /// Why a store does not take what is to be stored or locked.
    pub(super) fn refused(&self, reply: &Reply) -> Refusal {
        if self.locks.lock.is_some() { Refusal::of_lock(reply) } else { Refusal::of(reply) }
    }

    /// Looks whether the replica is a locked one, for who was not told. Where that cannot be asked,
    /// it is not; where it may not be asked, there is a doubt.
    pub(super) fn find_locks(&self) -> Result<(), Error> {
        let name = Name::Timeline(Timeline(1)).to_string();
        let found = match try_again(self.patience, thread::sleep, || self.is_locked(&name)) {
            Err(error) if error.kind == Kind::Transient => return Err(error),
            Err(error) if error.kind == Kind::Denied => {
                self.locks.doubt.get_or_init(|| error.cause);
                false
            }
            found => found.unwrap_or(false),
        };
        self.locks.found.get_or_init(|| found);
        Ok(())
    }

    /// What to tell whoever opened it: it is taken for one that is not locked, and may be.
    pub fn doubt(&self) -> Option<Error> {
        let cause = self.locks.doubt.get()?;
        let cause = format!("it cannot be told whether this replica is locked: {cause}");
        Some(self.error("open", "", Refusal::denied(cause, UNTOLD)))
    }

    fn is_locked(&self, name: &str) -> Result<bool, Error> {
        let newest = self.head(name, None)?;
        let (status, version) = (newest.status, newest.header("x-amz-version-id"));
        if newest.header(MODE).is_some() {
            return Ok(true);
        }
        // A bucket without versions has no locks. Of what is absent there may be a hidden version.
        if status == 200 && version.is_none_or(|version| version == "null") {
            return Ok(false);
        }
        let hidden = newest.header("x-amz-delete-marker").is_some();
        let versions = match self.versions_of(name) {
            // A replica that is yet to be made takes no more rights than shipping does.
            Err(error) if error.kind == Kind::Denied && status == 404 && !hidden => {
                return Ok(false);
            }
            versions => versions?,
        };
        let Some(first) = versions.iter().rfind(|it| it.bytes.is_some()) else { return Ok(false) };
        let first = self.head(name, Some(&first.id))?;
        match first.status {
            200 => Ok(first.header(MODE).is_some()),
            _ => Err(self.error("get", name, Refusal::of(&first))),
        }
    }

    /// Of a store that is busy nothing is learned, and least that there is no lock.
    fn head(&self, name: &str, version: Option<&str>) -> Result<Reply, Error> {
        let reply = self.send("get", name, &Ask::Head { key: &self.key(name), version })?;
        let refusal = Refusal::of(&reply);
        match refusal.kind {
            Kind::Transient => Err(self.error("get", name, refusal)),
            _ => Ok(reply),
        }
    }

    fn page_of_versions(
        &self,
        prefix: &str,
        (key, version): &(String, String),
    ) -> Result<versions::Page, Error> {
        let ask = Ask::Versions { prefix: &self.key(prefix), key, version, most: self.page };
        let reply = self.send("list", prefix, &ask)?;
        let page = match reply.status {
            200 if !refusal::is_error(&reply.body) => versions::read(&reply.body),
            _ => Err(Refusal::of(&reply)),
        };
        page.map_err(|refusal| self.error("list", prefix, refusal))
    }

    /// Every version of one name and every marker over it, newest first.
    fn versions_of(&self, name: &str) -> Result<Vec<Version>, Error> {
        let key = self.key(name);
        let mut all = Vec::new();
        let mut from = Default::default();
        loop {
            let page = self.page_of_versions(name, &from)?;
            let other = page.versions.iter().any(|version| version.key != key);
            all.extend(page.versions.into_iter().filter(|version| version.key == key));
            match page.next {
                Some(next) if !other => from = next,
                _ => return Ok(all),
            }
        }
    }

    /// A page of the names that have a version, each with its first one.
    pub(super) fn list_firsts(&self, prefix: &str, after: &str) -> Result<listing::Page, Error> {
        let after = if after.is_empty() { String::new() } else { self.key(after) };
        let mut from = (after.clone(), String::new());
        let mut firsts: Vec<First> = Vec::new();
        let more = loop {
            let page = self.page_of_versions(prefix, &from)?;
            for version in page.versions.into_iter().filter(|version| version.key > after) {
                match firsts.last_mut() {
                    Some(last) if last.key == version.key => last.add(version),
                    Some(last) if last.key > version.key => {
                        let refusal = listing::unordered(&version.key);
                        return Err(self.error("list", prefix, refusal));
                    }
                    _ => firsts.push(First::of(version)),
                }
            }
            match page.next {
                None => break false,
                // Older versions of the last name may be on the next page.
                Some(_) if firsts.len() > 1 => {
                    firsts.pop();
                    break true;
                }
                Some(next) => from = next,
            }
        };
        let mut page = listing::Page { more, ..listing::Page::default() };
        for First { key, version, covered } in firsts {
            let Some(name) = key.strip_prefix(&self.root) else { continue };
            name.clone_into(&mut page.last);
            let Some((id, bytes)) = version else { continue };
            match name.parse() {
                Ok(parsed) => {
                    self.locks.note(name, Some(&*id).filter(|_| covered));
                    page.entries.push(Entry { name: parsed, bytes });
                }
                Err(_) => page.foreign.push(name.to_owned()),
            }
        }
        Ok(page)
    }

    /// The first version of a name that seems to be absent, which is kept in mind; whether there is
    /// one.
    pub(super) fn uncover(&self, name: &str) -> Result<bool, Error> {
        let versions = self.versions_of(name)?;
        let first = versions.iter().rfind(|version| version.bytes.is_some());
        self.locks.note(name, first.map(|first| &*first.id));
        Ok(first.is_some())
    }

    /// Removes every version, the first one first: while that is locked, the others stay as well.
    pub(super) fn delete_versions(&self, name: &str) -> Result<(), Error> {
        for version in self.versions_of(name)?.iter().rev() {
            match self.delete_key(name, Some(&version.id)) {
                Err(error) if error.kind != Kind::Transient && version.bytes.is_some() => {
                    return Err(self.why_refused(name, version, error)?);
                }
                deleted => deleted?,
            }
        }
        self.locks.note(name, None);
        Ok(())
    }

    /// A store does not say whether it was a lock; MinIO calls it a bad request, others deny it.
    fn why_refused(&self, name: &str, version: &Version, error: Error) -> Result<Error, Error> {
        let reply = self.head(name, Some(&version.id))?;
        Ok(match reply.header(UNTIL) {
            Some(ends) => {
                let cause = format!("locked until {ends}");
                Error { kind: Kind::Locked, cause, hint: None, ..error }
            }
            None => error,
        })
    }

    /// Renews the lock of an object that is there.
    pub(super) fn renew_lock(&self, name: &str) -> Result<(), Error> {
        let Some(lock) = self.locks.lock else { return Ok(()) };
        let (mode, until) = (mode(lock), self.locks.until(lock));
        let body = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{mode}</Mode>\
             <RetainUntilDate>{until}</RetainUntilDate></Retention>"
        );
        let headers = checksum(body.as_bytes());
        let (key, version) = (self.key(name), self.locks.covered(name));
        let version = version.as_deref();
        let ask = Ask::Lock { key: &key, version, body: body.as_bytes(), headers: &headers };
        let reply = self.send("lock", name, &ask)?;
        if matches!(reply.status, 200 | 204) && !refusal::is_error(&reply.body) {
            return Ok(());
        }
        let refused = self.error("lock", name, self.refused(&reply));
        // A lock is never shortened: one that lasts longer, from when the period was longer, will do.
        let ends = self.head(name, version)?;
        match ends.header(UNTIL).is_some_and(|ends| lasts(ends, &until)) {
            true => Ok(()),
            false => Err(refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_lock_ends_a_period_from_its_beginning() {
        let lock = Lock { period: Duration::from_secs(86_400), mode: LockMode::Compliance };
        assert_eq!(until(lock, Time(1_763_906_400_123)), "2025-11-24T14:00:00Z");
        assert!(until(lock, Time::MAX).starts_with("9999-"));
    }

    #[test]
    fn trap_79_a_lock_begins_by_the_clock_of_the_store_where_ours_is_behind() {
        const MINUTE: u64 = 60_000;
        let ours = Time(1000 * MINUTE);
        let check = |theirs: Option<(u64, u64)>, minutes| {
            let theirs = theirs.map(|(time, ago)| (time * MINUTE, ago * MINUTE));
            let theirs = theirs.map(|(time, ago)| (Time(time), Duration::from_millis(ago)));
            assert_eq!(begin(ours, theirs), Time(minutes * MINUTE), "{theirs:?}");
        };
        check(None, 1000);
        check(Some((1010, 0)), 1010);
        check(Some((995, 0)), 1000);
        // Ours has been set back by ten minutes since.
        check(Some((1005, 5)), 1010);
        check(Some((9000, 0)), 1015);
    }

    #[test]
    fn a_lock_that_lasts_longer_will_do() {
        let until = "2026-11-23T10:00:00Z";
        let check = |ends, will_do| assert_eq!(lasts(ends, until), will_do, "{ends}");
        check("2026-11-23T10:00:00Z", true);
        check("2026-11-23T10:00:00.000Z", true);
        check("2027-01-01T00:00:00Z", true);
        check("2026-11-23T09:59:59.999Z", false);
        check("", false);
        check("soon", false);
    }
}
