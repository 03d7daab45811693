//! A replica to which something happens while it is read: at one request of its reader, and before that
//! is answered.

use bakelite::backend::{Backend, Error, Kind, Listing};
use bakelite::name::Name;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

type Act = Box<dyn FnOnce() + Send>;

pub struct Meanwhile {
    inner: Arc<dyn Backend>,
    /// Objects that are read before it happens.
    before: AtomicU64,
    act: Mutex<Option<Act>>,
    vanished: AtomicU64,
}

impl Meanwhile {
    pub fn new(inner: Arc<dyn Backend>, before: u64, act: impl FnOnce() + Send + 'static) -> Self {
        let act: Act = Box::new(act);
        let (before, vanished) = (AtomicU64::new(before), AtomicU64::new(0));
        Self { inner, before, act: Mutex::new(Some(act)), vanished }
    }

    /// How many objects were asked for that were not there any more.
    pub fn vanished(&self) -> u64 {
        self.vanished.load(Ordering::Relaxed)
    }

    /// Whoever reads at the same time waits as well.
    fn happen(&self) {
        let mut act = self.act.lock().expect("the act does not panic");
        if let Some(act) = act.take() {
            act();
        }
    }
}

impl fmt::Display for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Backend for Meanwhile {
    fn get(&self, name: &Name) -> Result<Vec<u8>, Error> {
        // Records of timelines stay; what a restore is made of may go.
        if !matches!(name, Name::Timeline(_)) {
            let left = self
                .before
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            if left.is_err() {
                self.happen();
            }
        }
        let got = self.inner.get(name);
        if matches!(&got, Err(error) if error.kind == Kind::NotFound) {
            self.vanished.fetch_add(1, Ordering::Relaxed);
        }
        got
    }

    fn list(&self, prefix: &str, after: Option<&Name>) -> Result<Listing, Error> {
        self.inner.list(prefix, after)
    }

    fn put(&self, _: &Name, _: &[u8]) -> Result<(), Error> {
        unreachable!("a reader stores nothing")
    }

    fn replace(&self, _: &Name, _: &[u8]) -> Result<(), Error> {
        unreachable!("a reader stores nothing")
    }

    fn delete(&self, _: &Name) -> Result<(), Error> {
        unreachable!("a reader removes nothing")
    }

    fn renew(&self, _: &Name) -> Result<(), Error> {
        unreachable!("a reader keeps nothing for longer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite::backend::mem::Mem;
    use bakelite::commit::{CommitNo, Time, Timeline};
    use bakelite::name::{Change, Span};

    fn name(number: u64) -> Name {
        let (first, time, timeline) = (CommitNo(number), Time(5), Timeline(1));
        let span = Span { first, last: first, time, timeline };
        Name::Change(Change { level: 0, span, part: 0, end: true })
    }

    #[test]
    fn it_happens_once_and_before_the_answer() {
        let inner: Arc<dyn Backend> = Arc::new(Mem::default());
        (1..=3).for_each(|number| inner.put(&name(number), b"x").unwrap());
        let behind = Arc::clone(&inner);
        let act = move || (1..=2).for_each(|number| behind.delete(&name(number)).unwrap());
        let reader = Meanwhile::new(inner, 1, act);
        assert_eq!(reader.get(&name(1)).unwrap(), b"x");
        assert_eq!(
            (reader.get(&name(2)).unwrap_err().kind, reader.vanished()),
            (Kind::NotFound, 1)
        );
        assert_eq!(reader.get(&name(3)).unwrap(), b"x");
    }
}
