//! The one error type of the program, and the exit statuses that scripts rely on.
//!
//! An error says what was being done, to which thing, and why it failed; it is returned, never
//! printed where it arises. `main` alone turns it into words and a status.

use crate::backend;
use crate::name::Name;
use std::{fmt, io};

/// Why a command failed, as scripts tell reasons apart. The discriminant is the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    Failed = 1,
    Usage = 2,
    Missing = 3,
    Integrity = 4,
    Stale = 5,
    Locked = 6,
    Key = 7,
    Unreachable = 8,
    Exists = 9,
    Newer = 10,
}

impl Status {
    /// Every one. The match in `kind` refuses to compile when one is added, and has to be here too.
    pub const ALL: [Self; 10] = [
        Self::Failed,
        Self::Usage,
        Self::Missing,
        Self::Integrity,
        Self::Stale,
        Self::Locked,
        Self::Key,
        Self::Unreachable,
        Self::Exists,
        Self::Newer,
    ];

    /// One word, for JSON.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Missing => "missing",
            Self::Integrity => "integrity",
            Self::Stale => "stale",
            Self::Locked => "locked",
            Self::Key => "key",
            Self::Unreachable => "unreachable",
            Self::Exists => "exists",
            Self::Newer => "newer",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Error {
    pub status: Status,
    /// A narrower word than the one of the status, for JSON.
    pub word: Option<&'static str>,
    /// The thing that it happened to.
    pub place: String,
    /// `operation: thing: cause`, without a full stop.
    pub message: String,
    /// What a person can do about it, a sentence of its own.
    pub hint: Option<String>,
    /// The object that is to blame, where another copy of it would do.
    pub object: Option<Box<Name>>,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(
        status: Status,
        operation: &str,
        thing: impl fmt::Display,
        cause: impl fmt::Display,
    ) -> Self {
        let place = thing.to_string();
        let message = format!("{operation}: {place}: {cause}");
        Self { status, word: None, place, message, hint: None, object: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn word(self, word: &'static str) -> Self {
        Self { word: Some(word), ..self }
    }

    /// One word, for JSON.
    pub fn kind(&self) -> &'static str {
        self.word.unwrap_or(self.status.kind())
    }

    #[must_use]
    pub fn about(mut self, object: &Name) -> Self {
        self.object = Some(Box::new(object.clone()));
        self
    }

    /// An error of the operating system about a local file.
    pub fn io(operation: &str, thing: impl fmt::Display, cause: &io::Error) -> Self {
        let hint = way_out(cause).map(str::to_owned);
        Self { hint, ..Self::new(Status::Failed, operation, thing, cause) }
    }
}

/// What a person can do about an error of the operating system, where that is known.
pub fn way_out(cause: &io::Error) -> Option<&'static str> {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match cause.kind() {
        PermissionDenied => {
            Some("run it as the user whose file that is, or give this user the right to it")
        }
        ReadOnlyFilesystem => {
            Some("mount that disk to be written to, or choose a place on another one")
        }
        StorageFull | QuotaExceeded => Some("make room on that disk"),
        _ => None,
    }
}

/// What a person is told on standard error: one line, and a hint on another. Names of files and what
/// a server says may hold anything; a terminal must not obey it.
pub fn lines(message: &str, hint: Option<&str>) -> String {
    let hint = hint.map(|hint| format!("hint: {}\n", one_line(hint)));
    format!("bakelite: {}\n{}", one_line(message), hint.unwrap_or_default())
}

/// The same of any text that is a part of a line.
pub fn one_line(text: &str) -> String {
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<backend::Error> for Error {
    fn from(error: backend::Error) -> Self {
        use backend::Kind::*;
        let status = match error.kind {
            NotFound => Status::Missing,
            Corrupt => Status::Integrity,
            Key => Status::Key,
            Exists | Denied | Locked | Full | Transient | Other => Status::Unreachable,
        };
        let message = error.to_string();
        Self { status, word: None, place: error.place, message, hint: error.hint, object: None }
    }
}
