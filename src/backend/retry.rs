//! A backend that tries again: what is likely to go away by itself is waited out, for a bounded time.
//!
//! Only `Kind::Transient` is tried again, after a pause that doubles and has a random part, so that
//! those who were refused together do not come back together. A put whose reply was lost finds its
//! name taken when it is tried again, and that is what the caller is told: who puts compares the bytes,
//! since the same happens when it is the writer that died.
//!
//! A timeline is claimed by a put that succeeds, and equal bytes do not tell two claimants apart. So a
//! claim is tried once, and who claims finds out what became of it.

use super::{Backend, Error, Kind, Listing};
use crate::clock;
use crate::name::Name;
use crate::sabotage;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long something is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    pub tries: u32,
    /// The first pause; each one after it may be twice as long.
    pub first: Duration,
    pub longest: Duration,
    /// No try begins later than this after the first one.
    pub within: Duration,
}

/// A server that restarts is back within these few seconds. What takes longer is an outage, which
/// callers report and wait out at their own pace.
impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: 6,
            first: Duration::from_millis(100),
            longest: Duration::from_secs(2),
            within: Duration::from_secs(15),
        }
    }
}

pub struct Retry {
    inner: Arc<dyn Backend>,
    patience: Patience,
    pause: fn(Duration),
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_tuple("Retry").field(&self.patience).finish()
    }
}

impl Retry {
    pub fn new(inner: Arc<dyn Backend>, patience: Patience) -> Self {
        Self { inner, patience, pause: thread::sleep }
    }

    fn try_again<T>(&self, call: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        try_again(self.patience, self.pause, call)
    }
}

/// Calls until it does not fail in passing, or patience ends; then the last error is returned.
pub(super) fn try_again<T>(
    patience: Patience,
    pause: fn(Duration),
    mut call: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let start = clock::instant();
    let mut most = patience.first;
    for tried in 1.. {
        let result = call();
        let again = matches!(&result, Err(error) if error.kind == Kind::Transient)
            && tried < patience.tries
            && start.elapsed() + most <= patience.within;
        if !again {
            return result;
        }
        pause(between_half_and_all(most));
        most = (most * 2).min(patience.longest);
    }
    unreachable!("the last try has returned")
}

/// Every hasher of the standard library is seeded anew, which is random enough to spread clients.
fn between_half_and_all(most: Duration) -> Duration {
    let part = (RandomState::new().hash_one(0) >> 40) as u32;
    most / 2 + most.mul_f64(f64::from(part) / f64::from(1 << 24) / 2.0)
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Backend for Retry {
    fn put(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        match name {
            Name::Timeline(_) => self.inner.put(name, body),
            _ => match self.try_again(|| self.inner.put(name, body)) {
                Err(_) if sabotage::is("failed-put-is-done") => Ok(()),
                result => result,
            },
        }
    }

    fn replace(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        self.try_again(|| self.inner.replace(name, body))
    }

    fn renew(&self, name: &Name) -> Result<(), Error> {
        self.try_again(|| self.inner.renew(name))
    }

    fn get(&self, name: &Name) -> Result<Vec<u8>, Error> {
        self.try_again(|| self.inner.get(name))
    }

    fn holds(&self, name: &Name, body: &[u8]) -> Result<bool, Error> {
        self.try_again(|| self.inner.holds(name, body))
    }

    fn start(&self, name: &Name, bytes: usize) -> Result<Vec<u8>, Error> {
        self.try_again(|| self.inner.start(name, bytes))
    }

    fn list(&self, prefix: &str, after: Option<&Name>) -> Result<Listing, Error> {
        self.try_again(|| self.inner.list(prefix, after))
    }

    fn delete(&self, name: &Name) -> Result<(), Error> {
        self.try_again(|| self.inner.delete(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::conformance::change;
    use crate::backend::faulty::{Fault, Faulty, Operation};
    use crate::backend::mem::Mem;
    use crate::commit::Timeline;
    use std::cell::RefCell;

    thread_local! {
        static PAUSES: RefCell<Vec<Duration>> = const { RefCell::new(Vec::new()) };
    }

    fn retry() -> (Arc<Faulty>, Retry) {
        PAUSES.take();
        let faulty = Arc::new(Faulty::new(Arc::new(Mem::new())));
        let pause = |pause| PAUSES.with_borrow_mut(|pauses| pauses.push(pause));
        let retry = Retry { pause, ..Retry::new(faulty.clone(), Patience::default()) };
        (faulty, retry)
    }

    fn outages(faulty: &Faulty, operation: Operation, calls: u64) {
        (1..=calls).for_each(|nth| faulty.fail(operation, nth, Fault::Refused));
    }

    #[test]
    fn trap_69_what_passes_is_waited_out_and_what_lasts_is_reported() {
        let tries = u64::from(Patience::default().tries);
        for outage in [1, tries - 1, tries] {
            let (faulty, retry) = retry();
            outages(&faulty, Operation::Put, outage);
            let put = retry.put(&change(0, 1), b"x").map_err(|error| error.kind);
            assert_eq!(put, if outage < tries { Ok(()) } else { Err(Kind::Transient) });
            assert_eq!(faulty.fired(Fault::Refused), outage);
        }
        let (faulty, retry) = retry();
        retry.put(&change(0, 1), b"x").unwrap();
        for operation in [Operation::Replace, Operation::Get, Operation::List, Operation::Delete] {
            outages(&faulty, operation, 2);
        }
        retry.replace(&change(0, 1), b"y").unwrap();
        assert_eq!(retry.get(&change(0, 1)).unwrap(), b"y");
        assert_eq!(retry.list(Name::CHANGES, None).unwrap().entries.len(), 1);
        retry.delete(&change(0, 1)).unwrap();
        assert_eq!(faulty.fired(Fault::Refused), 8);
    }

    #[test]
    fn pauses_grow_with_a_random_part_and_an_end() {
        let (faulty, retry) = retry();
        faulty.fail_all(Operation::Get, Fault::Refused);
        retry.get(&change(0, 1)).unwrap_err();
        let first = PAUSES.take();
        retry.get(&change(0, 1)).unwrap_err();
        let second = PAUSES.take();
        assert_ne!(first, second, "the chance that ten parts in 2^24 agree is nil");
        for (pause, most) in first.iter().chain(&second).zip([100, 200, 400, 800, 1600].repeat(2)) {
            let most = Duration::from_millis(most);
            assert!(*pause >= most / 2 && *pause <= most, "{pause:?} of {most:?}");
        }
        assert_eq!(first.len() + second.len(), 10);
        let hasty = Patience { within: Duration::ZERO, ..Patience::default() };
        let retry = Retry { patience: hasty, ..retry };
        retry.get(&change(0, 1)).unwrap_err();
        assert_eq!(PAUSES.take(), []);
    }

    #[test]
    fn what_does_not_pass_is_tried_once() {
        let (faulty, retry) = retry();
        for fault in [Fault::Denied, Fault::Full] {
            faulty.fail(Operation::Put, 1, fault);
            retry.put(&change(0, 1), b"x").unwrap_err();
            assert_eq!(faulty.fired(fault), 1);
        }
        assert_eq!(retry.get(&change(0, 1)).unwrap_err().kind, Kind::NotFound);
        assert_eq!(PAUSES.take(), []);
    }

    #[test]
    fn a_claim_is_tried_once() {
        let (faulty, retry) = retry();
        let claim = Name::Timeline(Timeline(1));
        faulty.fail(Operation::Put, 1, Fault::ReplyLost);
        assert_eq!(retry.put(&claim, b"x").unwrap_err().kind, Kind::Transient, "not Exists");
        assert_eq!(faulty.calls(Operation::Put), 1);
    }
}
