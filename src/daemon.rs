//! Every database of a configuration is watched and shipped.

use crate::config::Database;
use crate::error::{Error, Result, Status};
use crate::restore::Progress;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once to ask a running daemon to drain and end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// What a signal handler sets.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

pub fn run(_databases: &[Database], _stop: &Stop, _progress: &dyn Progress) -> Result<()> {
    Err(Error::new(Status::Failed, "daemon", "stub", "not here"))
}

pub fn sync(_databases: &[Database]) -> Result<()> {
    Err(Error::new(Status::Failed, "sync", "stub", "not here"))
}
