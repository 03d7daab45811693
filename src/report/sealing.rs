//! What `keygen` and `reencrypt` say: never a key, only ids.

use super::{Document, SCHEMA};
use crate::error::{Error, one_line};
use crate::object::KeyId;
use crate::reencrypt;
use crate::units;
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;

#[derive(Debug, Serialize)]
pub struct Made {
    schema: u32,
    key: String,
    file: String,
}

impl Made {
    pub fn new(file: &Path, id: KeyId) -> Self {
        Self { schema: SCHEMA, key: id.to_string(), file: file.display().to_string() }
    }
}

impl Document for Made {
    fn text(&self) -> String {
        let Self { key, file, .. } = self;
        let file = one_line(file);
        format!("key {key} in {file}\n  keep a copy of it that is not on this machine\n")
    }
}

/// What became of the replicas.
#[derive(Debug, Serialize)]
pub struct Reencrypted {
    schema: u32,
    ok: bool,
    dry_run: bool,
    findings: Vec<Finding>,
    replicas: Vec<Replica>,
}

#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    r#where: String,
    remedy: String,
}

impl Finding {
    fn of(source: &str, error: &Error) -> Self {
        let again = || "run `bakelite reencrypt` again".into();
        Self {
            what: error.message.clone(),
            r#where: source.to_owned(),
            remedy: error.hint.clone().unwrap_or_else(again),
        }
    }
}

#[derive(Debug, Serialize)]
struct Replica {
    source: String,
    /// What was to seal all of it; none if nothing was to be sealed.
    key: Option<String>,
    ok: bool,
    objects: u64,
    bytes: u64,
    rewritten: u64,
    remaining: u64,
    found: Vec<Found>,
}

#[derive(Debug, Serialize)]
struct Found {
    key: Option<String>,
    objects: u64,
}

impl Reencrypted {
    /// Replicas, the key that was to seal each, and what became of it; and those that were not reached.
    pub fn new(
        all: &[(String, Option<KeyId>, reencrypt::Report)],
        failed: &[(String, Error)],
        dry_run: bool,
    ) -> Self {
        let findings = failed.iter().map(|(source, error)| Finding::of(source, error)).collect();
        let (ok, replicas) = (failed.is_empty(), Vec::new());
        let mut said = Self { schema: SCHEMA, ok, dry_run, findings, replicas };
        all.iter().for_each(|(source, key, report)| said.add(source.clone(), *key, report));
        said
    }

    fn add(&mut self, source: String, key: Option<KeyId>, report: &reencrypt::Report) {
        let reencrypt::Report { objects, bytes, rewritten, remaining, .. } = *report;
        let found = report
            .found
            .iter()
            .map(|(key, objects)| Found { key: key.map(|id| id.to_string()), objects: *objects });
        let (ok, found, key) = (remaining == 0, found.collect(), key.map(|id| id.to_string()));
        self.ok &= ok;
        self.findings.extend(report.errors.iter().map(|error| Finding::of(&source, error)));
        self.replicas.push(Replica {
            source,
            key,
            ok,
            objects,
            bytes,
            rewritten,
            remaining,
            found,
        });
    }
}

impl Document for Reencrypted {
    fn text(&self) -> String {
        let mut out = String::new();
        for Finding { what, remedy, .. } in &self.findings {
            let _ = writeln!(out, "{}\n  {}", one_line(what), one_line(remedy));
        }
        for replica in &self.replicas {
            let Replica { source, objects, bytes, rewritten, remaining, .. } = replica;
            let (source, bytes) = (one_line(source), units::bytes(*bytes));
            let verb = if self.dry_run { "to be rewritten" } else { "rewritten" };
            let _ = write!(out, "{source}: {rewritten} of {objects} objects {verb}, {bytes}");
            let _ = match remaining {
                0 => writeln!(out),
                _ => writeln!(out, "; {remaining} remain as they are"),
            };
            for Found { key, objects } in &replica.found {
                let key = key.as_ref().map_or("not sealed".to_owned(), |id| format!("key {id}"));
                let _ = writeln!(out, "  {key}: {objects} found");
            }
        }
        out
    }
}
