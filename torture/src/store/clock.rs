//! The store's own clock, which need not be right, and the locks that end by it.
//!
//! A store with locks keeps one version of each object: nobody but the daemon is at it. What a thief
//! does with more of them is tried on a real server.

use super::wire::{self, Reply, Request};
use super::{Lock, State, Store};
use crate::ledger::Micros;
use crate::replica;

/// A request that was signed by a clock farther off is refused, as every store does.
const MOST_SKEW_MS: u64 = 15 * 60_000;
/// Dates are to the second, and so are locks; and a request takes a while.
const SLACK_MS: u64 = 5_000;

#[derive(Debug, Default)]
pub(super) struct Clock {
    /// How far it is ahead of the right time.
    ahead_ms: i64,
    lock: Option<Lock>,
    seen: Seen,
}

/// What came of the clocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Requests that were refused for a clock that is off.
    pub skewed: u64,
    /// Removals that a lock has refused, and those after it had ended.
    pub locked: u64,
    pub let_go: u64,
    /// What must not be: a lock that is too short by this clock, an object without one, one that is
    /// hidden under a marker.
    pub wrong: Vec<String>,
}

impl Clock {
    pub fn now(&self) -> u64 {
        (Micros::now().0 / 1000).saturating_add_signed(self.ahead_ms)
    }

    pub fn refuses(&mut self, request: &Request) -> bool {
        let signed = replica::millis(&wire::spread(request.text("X-Amz-Date")));
        let skewed = signed.is_some_and(|signed| signed.abs_diff(self.now()) > MOST_SKEW_MS);
        self.seen.skewed += u64::from(skewed);
        skewed
    }

    /// Until when an object is locked that is put now.
    pub fn lock(&mut self, key: &str, until: Option<&str>) -> u64 {
        let Some(lock) = self.lock.filter(|_| !key.ends_with("/probe")) else { return 0 };
        let until = until.and_then(replica::millis).unwrap_or_default();
        let least = self.now() + lock.period.as_millis() as u64 - SLACK_MS;
        if until < least {
            let [until, least] = [until, least].map(replica::rfc3339);
            self.seen.wrong.push(format!("{key} is locked until {until}, not until {least}"));
        }
        until
    }
}

impl State {
    /// Whether an object may be removed.
    pub(super) fn lets_go(&mut self, request: &Request) -> bool {
        let locked = self.there(&request.key).map(|object| object.locked);
        let clock = &mut self.clock;
        let Some(locked) = locked.filter(|_| clock.lock.is_some()) else { return true };
        if request.text("versionId").is_empty() {
            clock.seen.wrong.push(format!("{} is hidden under a marker", request.key));
        }
        let ended = locked <= clock.now();
        *if ended { &mut clock.seen.let_go } else { &mut clock.seen.locked } += 1;
        ended
    }

    /// A new end for a lock, which is never earlier than the old one.
    pub(super) fn renew(&mut self, request: &Request) -> Reply {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let until = text.split_once("<RetainUntilDate>").map(|(_, rest)| rest);
        let until = until.and_then(|rest| rest.split('<').next());
        let until = self.clock.lock(&request.key, until);
        match self.objects.get_mut(&request.key) {
            Some(object) if object.deleted.is_none() && until >= object.locked => {
                object.locked = until;
                Reply::ok(Vec::new())
            }
            Some(object) if object.deleted.is_none() => Reply::error((403, "AccessDenied")),
            _ => Reply::error((404, "NoSuchKey")),
        }
    }

    pub(super) fn versions(&self, request: &Request) -> Reply {
        let most = request.number("max-keys").unwrap_or(1000).min(1000);
        let (prefix, after) = (request.text("prefix"), request.text("key-marker"));
        let mut there = self.objects.iter().filter(|(key, object)| {
            key.starts_with(prefix) && key.as_str() > after && object.deleted.is_none()
        });
        let page = there.by_ref().take(most).map(|(key, it)| (key.as_str(), it.body.len()));
        let page: Vec<_> = page.collect();
        let more = there.next().is_some();
        Reply::ok(wire::versions(&page, more))
    }
}

impl Store {
    /// From now on its clock is so far ahead of the right time, or behind it.
    pub fn set_clock(&self, ahead_ms: i64) {
        self.shared.state().clock.ahead_ms = ahead_ms;
    }

    /// Every object is to be put with this lock.
    pub fn lock_all(&self, lock: Lock) {
        self.shared.state().clock.lock = Some(lock);
    }

    pub fn seen(&self) -> Seen {
        self.shared.state().clock.seen.clone()
    }
}
