//! What blocks is handed out as a job, with what it may have to wait for; and what comes back.

use super::lanes::Abroad;
use super::pass::Captured;
use crate::capture::{Capture, RawPart};
use crate::config::{Database, Destination};
use crate::daemon::open::{Live, Lock};
use crate::daemon::pool::Route;
use crate::error::Result;
use crate::ship::{Healed, Parcel, Resync, Shipper};
use std::fmt;
use std::sync::Arc;

pub struct Job {
    pub route: Route,
    pub work: Box<dyn FnOnce() -> Done + Send>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Job({:?})", self.route)
    }
}

impl Job {
    pub(super) fn new(route: &Route, work: impl FnOnce() -> Done + Send + 'static) -> Self {
        Self { route: Arc::clone(route), work: Box::new(work) }
    }
}

/// What a job brings back.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a handful of them are on their way at a time")]
pub enum Done {
    /// And the lock, if that was to be had.
    Opened(Result<Box<Live>>, Option<Arc<Lock>>),
    Captured(Box<Capture>, Captured),
    Shipped(Box<Shipper>, Box<Parcel>, Result<()>),
    LargeShipped(Box<Capture>, Box<Shipper>, Result<()>),
    Compared(Box<Capture>, Box<Shipper>, Result<Compared>),
    Stored(RawPart, Result<()>),
    Checkpointed(Result<()>),
    /// With the number of the life that it was sent out in.
    Abroad(u32, Abroad),
}

/// How far a resync came.
#[derive(Debug)]
pub enum Compared {
    Some(Box<Resync>),
    All(Healed),
}

/// The ways of a database's jobs.
#[derive(Debug)]
pub(super) struct Routes {
    /// To the database, and no destination.
    pub local: Route,
    /// To all of its destinations.
    pub all: Route,
    /// To each of them, for what nobody waits for.
    pub each: Vec<Route>,
    pub upkeep: Route,
}

impl Routes {
    pub fn new(database: &Database) -> Self {
        let each = || database.destinations.iter().map(Destination::host);
        let all = each().collect::<Vec<_>>().join("\n");
        Self {
            local: "".into(),
            upkeep: format!("upkeep of {all}").into(),
            each: each().map(|host| format!("debts of {host}").into()).collect(),
            all: all.into(),
        }
    }
}
