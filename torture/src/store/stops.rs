//! A request at which the world stands still, so that whoever sent it can be killed at just that
//! moment: before the store has done what it asks for, or after that with the reply still to come.

use super::{Shared, Store};
use crate::store::wire::Request;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
}

/// The request that is meant: the `skip`-th after the first one that fits.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    pub method: &'static str,
    /// The key has one of these in it.
    pub kinds: &'static [&'static str],
    pub skip: u64,
    pub moment: Moment,
}

#[derive(Debug, Default)]
pub(super) enum Stopping {
    #[default]
    Nothing,
    Waiting(Stop),
    /// It stands there.
    Reached,
}

impl Shared {
    /// Stands still if this is the request and the moment; whether it is not to be gone on with.
    pub(super) fn stand_still(&self, request: &Request, moment: Moment) -> bool {
        let mut state = self.state();
        let Stopping::Waiting(stop) = &mut state.stopping else { return false };
        let of_kind = stop.kinds.iter().any(|kind| request.key.contains(kind));
        if stop.method != request.method || !of_kind || stop.moment != moment {
            return false;
        }
        if stop.skip > 0 {
            stop.skip -= 1;
            return false;
        }
        state.stopping = Stopping::Reached;
        self.changed.notify_all();
        while matches!(state.stopping, Stopping::Reached) {
            state = self.changed.wait(state).expect("nothing panics under it");
        }
        true
    }
}

impl Store {
    /// From now on until `let_go`, the request that is meant gets no further.
    pub fn stop_at(&self, stop: Stop) {
        self.shared.state().stopping = Stopping::Waiting(stop);
    }

    /// Waits until it stands still, for so long at most; whether it does.
    pub fn wait_for_stop(&self, most: Duration) -> bool {
        let until = Instant::now() + most;
        let mut state = self.shared.state();
        while !matches!(state.stopping, Stopping::Reached) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.expect("nothing panics under it").0;
        }
        true
    }

    /// What stands still ends without a reply.
    pub fn let_go(&self) {
        self.shared.state().stopping = Stopping::Nothing;
        self.shared.changed.notify_all();
    }
}
