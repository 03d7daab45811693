//! What was found out about a replica, and what that comes to: a status for scripts, a few words for people.
//! Damage is told from what kept it from being looked for.

use crate::error::{Error, Status};
use crate::name::Name;
use crate::object::KeyId;
use crate::replica::REPAIR;
use crate::restore;
use std::collections::BTreeMap;
use std::fmt;

/// What is not known to be damaged needs no repair.
const UNREAD: &str = "let this user, or these credentials, read it, and run this again";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is, as scripts tell it. `None`: a warning, and the replica is whole.
    pub status: Option<Status>,
    pub what: String,
    pub where_: String,
    pub remedy: String,
}

impl Finding {
    /// What could not be looked at.
    pub fn of(error: &Error) -> Self {
        Self::at(error.place.clone(), error)
    }

    /// What an error says is damage only if it says so.
    pub(super) fn at(place: String, error: &Error) -> Self {
        Self::unread(place, error, (error.status, error.hint.as_deref()))
    }

    /// The same, of what is said to be an error of this kind, with what helps if that is known.
    pub(super) fn unread(
        place: String,
        error: &dyn fmt::Display,
        (status, hint): (Status, Option<&str>),
    ) -> Self {
        let usual = if status == Status::Unreachable { UNREAD } else { REPAIR };
        let remedy = hint.unwrap_or(usual).to_owned();
        Self { status: Some(status), remedy, ..finding(place, error) }
    }
}

/// Which status a command ends with that has found all these: damage goes before what kept it from being
/// looked for, and what a person has to do something about before what may come back by itself.
pub fn gravest(found: impl IntoIterator<Item = Status>) -> Option<Status> {
    use Status::{
        Exists, Failed, Integrity, Key, Locked, Missing, Newer, Stale, Unreachable, Usage,
    };
    const ORDER: [Status; 10] =
        [Integrity, Newer, Key, Usage, Failed, Missing, Unreachable, Locked, Stale, Exists];
    found.into_iter().min_by_key(|status| ORDER.iter().position(|it| it == status))
}

#[derive(Clone, Debug)]
pub struct Report {
    pub objects: u64,
    pub bytes: u64,
    pub findings: Vec<Finding>,
    /// What a deep check restored.
    pub restored: Option<restore::Report>,
    /// What that said when it was asked.
    pub answer: Option<String>,
    /// The key of an object that nobody here can open: then only checksums were checked.
    pub closed: Option<KeyId>,
    /// It could not be looked at, and that is all that was found.
    pub failed: Option<Status>,
    /// Those of the findings that are about the database which a whole replica gives back.
    pub database: Vec<&'static str>,
    /// The hashes of the objects that are sound.
    pub sound: BTreeMap<Name, [u8; 32]>,
}

impl Report {
    /// Of a replica that cannot be looked at.
    pub fn failed(place: String, error: &Error) -> Self {
        Self {
            objects: 0,
            bytes: 0,
            findings: vec![Finding {
                status: Some(Status::Integrity),
                ..Finding::at(place, error)
            }],
            restored: None,
            answer: None,
            closed: None,
            failed: Some(error.status),
            database: Vec::new(),
            sound: BTreeMap::new(),
        }
    }

    /// What the findings come to; `None` if they are no more than warnings.
    pub fn status(&self) -> Option<Status> {
        match (self.grave().count(), self.closed) {
            (0, _) => None,
            (1, Some(_)) => Some(Status::Key),
            _ => self.failed.or(gravest(self.grave())),
        }
    }

    fn grave(&self) -> impl Iterator<Item = Status> {
        self.findings.iter().filter_map(|finding| finding.status)
    }

    /// A few words for it.
    pub fn verdict(&self) -> &'static str {
        match (self.grave().count(), self.failed, self.closed) {
            (0, ..) => "whole",
            (_, Some(Status::Missing), _) => "no replica is there",
            (_, Some(Status::Unreachable), _) => "cannot be reached",
            (_, Some(Status::Key), _) => "its key is missing or wrong",
            (_, Some(Status::Newer), _) => "it needs a newer bakelite",
            (_, Some(Status::Usage), _) => "the configuration keeps it from being opened",
            (1, _, Some(_)) => "sealed and its key was not given",
            (all, ..) if all == self.database.len() => self.database[0],
            _ => match gravest(self.grave()) {
                Some(Status::Missing) => "nothing can be restored from it yet",
                Some(Status::Unreachable) => "not all of it could be read",
                Some(Status::Key) => "not opened by the keys that were given",
                _ => "damaged",
            },
        }
    }

    pub(super) fn note(&mut self, failed: Failed) {
        self.findings.push(match failed {
            Failed::Restore(finding) => finding,
            Failed::Check(finding) => {
                self.database.push("whole but its database is corrupt");
                finding
            }
        });
    }
}

/// How a drill failed.
pub(super) enum Failed {
    Restore(Finding),
    Check(Finding),
}

/// Damage.
pub(super) fn finding(place: String, error: &dyn fmt::Display) -> Finding {
    let (status, what) = (Some(Status::Integrity), error.to_string());
    Finding { status, what, where_: place, remedy: REPAIR.into() }
}
