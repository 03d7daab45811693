//! What a command says: one JSON document for scripts, or lines for people. Standard output only;
//! errors are `main`'s.
//!
//! The JSON documents only ever grow. Their keys are the fields' names here.

mod findings;
mod fleet;
mod kept;
mod listing;
mod repaired;
mod sealing;
mod standings;
mod used;
mod verified;

pub use findings::Findings;
pub use fleet::{Fleet, Replicas};
pub use kept::{Compacted, Kept, PrunedObjects};
pub use listing::{Objects, Points};
pub use repaired::Repaired;
pub use sealing::{Made, Reencrypted};
pub use standings::{Standings, Synced};
pub use used::Used;
pub use verified::{Checked, Verified};

use crate::copies::Fallback;
use crate::error::{Error, Result, one_line};
use crate::{clock, restore, units};
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;

/// The version of the JSON documents.
pub const SCHEMA: u32 = 1;

/// Something that can be said either way.
pub trait Document: Serialize {
    /// Whole lines. What was not written here, such as a path or what a destination calls a file, may hold
    /// anything, and is a part of its line all the same: see `one_line`.
    fn text(&self) -> String;
}

/// Says it on standard output.
pub fn show(document: &impl Document, json: bool) -> Result<()> {
    if !json {
        return print(&document.text());
    }
    let text = serde_json::to_string(document).expect("our documents have string keys");
    print(&(text + "\n"))
}

/// A reader that has gone away (`| head`) has had enough; that is no error.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(|cause| Error::io("write", "standard output", &cause)),
    }
}

/// What went wrong, for `--json`.
#[derive(Debug, Serialize)]
struct Failure<'a> {
    schema: u32,
    error: FailureOf<'a>,
}

#[derive(Debug, Serialize)]
struct FailureOf<'a> {
    status: u8,
    kind: &'static str,
    message: &'a str,
    hint: Option<&'a str>,
}

/// The document of an error, as one line.
pub fn failure(error: &Error) -> String {
    let (kind, Error { status, message, hint, .. }) = (error.kind(), error);
    let error = FailureOf { status: *status as u8, kind, message, hint: hint.as_deref() };
    let failure = Failure { schema: SCHEMA, error };
    serde_json::to_string(&failure).expect("our documents have string keys") + "\n"
}

#[derive(Debug, Serialize)]
pub struct Restored {
    schema: u32,
    #[serde(flatten)]
    what: RestoredFacts,
    checked: &'static str,
    output: String,
    existed: bool,
    dry_run: bool,
    fallbacks: Vec<FallbackOf>,
    passed_over: Vec<PassedOverOf>,
}

/// What was not taken because it is damaged.
#[derive(Debug, Serialize)]
struct PassedOverOf {
    object: String,
    why: String,
}

impl From<&restore::PassedOver> for PassedOverOf {
    fn from(restore::PassedOver { object, why }: &restore::PassedOver) -> Self {
        Self { object: object.to_string(), why: why.clone() }
    }
}

/// A file that was to be restored only if it is missing, and is not.
#[derive(Debug, Serialize)]
pub struct Untouched {
    schema: u32,
    output: String,
    existed: bool,
}

/// An object that came from another destination than the others.
#[derive(Debug, Serialize)]
struct FallbackOf {
    object: String,
    from: String,
    why: String,
}

impl From<&Fallback> for FallbackOf {
    fn from(Fallback { object, from, why }: &Fallback) -> Self {
        Self { object: object.to_string(), from: from.clone(), why: why.clone() }
    }
}

#[derive(Clone, Debug, Serialize)]
struct RestoredFacts {
    commit: u64,
    time: String,
    timeline: u32,
    digest: String,
    page_size: u32,
    pages: u32,
    bytes: u64,
    objects: u64,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rewritten: Option<u32>,
}

impl From<&restore::Report> for RestoredFacts {
    fn from(report: &restore::Report) -> Self {
        Self {
            commit: report.commit.0,
            time: clock::format(report.time),
            timeline: report.timeline.0,
            digest: report.digest.to_string(),
            page_size: report.page_size,
            pages: report.pages,
            bytes: report.bytes,
            objects: report.objects,
            seconds: (report.seconds * 1000.0).round() / 1000.0,
            rewritten: report.rewritten,
        }
    }
}

impl RestoredFacts {
    fn text(&self) -> String {
        let read = units::bytes(self.bytes);
        let Self { objects, seconds, .. } = self;
        let rewritten = self.rewritten.map(|pages| format!(", {pages} pages rewritten"));
        let rewritten = rewritten.unwrap_or_default();
        self.state()
            + &format!("  {read} read from {objects} objects in {seconds:.2} s{rewritten}\n")
    }

    /// What the commit is, without what it took to restore it.
    fn state(&self) -> String {
        let Self { commit, time, timeline, digest, page_size, pages, .. } = self;
        let size = units::bytes(u64::from(*pages) * u64::from(*page_size));
        format!(
            "  commit {commit} of {time}, timeline {timeline}\n  \
             digest {digest}, {size} in {pages} pages of {page_size}\n"
        )
    }
}

impl Restored {
    pub fn new(
        report: &restore::Report,
        options: &restore::Options,
        fallbacks: &[Fallback],
    ) -> Self {
        let checked = match options.check {
            restore::Check::None => "none",
            restore::Check::Quick => "quick",
            restore::Check::Full => "full",
        };
        let output = options.output.display().to_string();
        let what = RestoredFacts::from(report);
        let (dry_run, fallbacks) =
            (options.dry_run, fallbacks.iter().map(FallbackOf::from).collect());
        let passed_over = report.passed_over.iter().map(PassedOverOf::from).collect();
        let (schema, existed) = (SCHEMA, false);
        Self { schema, what, checked, output, existed, dry_run, fallbacks, passed_over }
    }
}

impl Document for Restored {
    fn text(&self) -> String {
        if self.dry_run {
            return format!("would restore {}\n{}", one_line(&self.output), self.what.state());
        }
        let checked = match self.checked {
            "none" => String::new(),
            how => format!("  SQLite's {how} check passed\n"),
        };
        format!("restored {}\n{}{checked}", one_line(&self.output), self.what.text())
    }
}

impl Untouched {
    pub fn new(output: &Path) -> Self {
        Self { schema: SCHEMA, output: output.display().to_string(), existed: true }
    }
}

impl Document for Untouched {
    fn text(&self) -> String {
        format!("{} exists, nothing was restored\n", one_line(&self.output))
    }
}

#[derive(Debug, Serialize)]
pub struct Version {
    pub schema: u32,
    pub version: &'static str,
    pub format: u16,
    pub sqlite: &'static str,
    pub target: String,
}

impl Version {
    pub fn new(format: u16, sqlite: &'static str, target: String) -> Self {
        Self { schema: SCHEMA, version: env!("CARGO_PKG_VERSION"), format, sqlite, target }
    }
}

impl Document for Version {
    fn text(&self) -> String {
        let Self { version, format, sqlite, target, .. } = self;
        format!("bakelite {version}\nformat {format}\nSQLite {sqlite}\ntarget {target}\n")
    }
}

/// A finding, and what can be done about it.
fn told(place: &str, what: &str, remedy: &str) -> String {
    format!("{}: {}\n  {}\n", one_line(place), one_line(what), one_line(remedy))
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut all = vec![head.map(str::to_owned)];
    all.extend(rows.into_iter().map(|row| row.map(|cell| one_line(&cell))));
    let width = |at: usize| all.iter().map(|row| row[at].len()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests;
