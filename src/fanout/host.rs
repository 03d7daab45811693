//! What the databases that go to one place know of it together: whether it was late a moment ago.
//!
//! Each of a thousand would find that out for itself otherwise, a few at a time, and what they commit would
//! get to the places that are well when all of them have waited.

use crate::clock;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a place that was late is hardly waited for. Those that are behind ask it all the while, and
/// its first answer ends that.
const REMEMBERED: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Host {
    late: Mutex<Option<Instant>>,
}

impl Host {
    pub fn was_late(&self) -> bool {
        let late = *self.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.is_some_and(|since| since.elapsed() < REMEMBERED)
    }

    pub fn note(&self, late: bool) {
        let now = late.then(clock::instant);
        *self.late.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}
