//! What `compact` and `prune` say.

use super::{Document, SCHEMA};
use crate::error::{Error, one_line};
use crate::units;
use crate::upkeep::{Done, Mode};
use serde::Serialize;
use std::fmt::Write;

/// What a round did for one database.
#[derive(Debug)]
pub struct Kept {
    pub database: String,
    pub done: Done,
}

#[derive(Debug, Serialize)]
pub struct Compacted {
    schema: u32,
    ok: bool,
    findings: Vec<Finding>,
    databases: Vec<CompactedOf>,
}

/// What did not work.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    r#where: String,
    remedy: String,
}

#[derive(Debug, Serialize)]
struct CompactedOf {
    name: String,
    merged: u64,
    made: u64,
    deleted: u64,
    put_bytes: u64,
    deleted_bytes: u64,
    read_bytes: u64,
    locked: u64,
}

/// Of what could not be begun, and in what was done.
fn failures(kept: &[Kept], failed: &[(String, Error)]) -> Vec<Finding> {
    let finding = |name: &String, error: &Error| Finding {
        what: error.message.clone(),
        r#where: name.clone(),
        remedy: error.hint.clone().unwrap_or_else(|| "the next round tries again".into()),
    };
    let failed = failed.iter().map(|(name, error)| finding(name, error));
    let inside =
        kept.iter().flat_map(|it| it.done.errors.iter().map(|error| finding(&it.database, error)));
    failed.chain(inside).collect()
}

impl Compacted {
    pub fn new(kept: &[Kept], failed: &[(String, Error)]) -> Self {
        let findings = failures(kept, failed);
        let of = |Kept { database, done }: &Kept| CompactedOf {
            name: database.clone(),
            merged: done.merged,
            made: done.made,
            deleted: done.deleted,
            put_bytes: done.put_bytes,
            deleted_bytes: done.deleted_bytes,
            read_bytes: done.read_bytes,
            locked: done.locked,
        };
        let databases = kept.iter().map(of).collect();
        Self { schema: SCHEMA, ok: findings.is_empty(), findings, databases }
    }

    pub fn ok(&self) -> bool {
        self.ok
    }
}

impl Document for Compacted {
    fn text(&self) -> String {
        let mut out = String::new();
        for it in &self.databases {
            let CompactedOf { name, merged, made, deleted, put_bytes, deleted_bytes, .. } = it;
            let name = one_line(name);
            let (put, gone) = (units::bytes(*put_bytes), units::bytes(*deleted_bytes));
            let _ = writeln!(
                out,
                "{name}: {merged} change-sets became {made} ({put}), {deleted} objects deleted ({gone})"
            );
            out += &locked(it.locked);
        }
        out
    }
}

/// What is to be told of objects that a lock keeps.
fn locked(count: u64) -> String {
    match count {
        0 => String::new(),
        count => format!("{count} objects or more go once their locks have ended\n"),
    }
}

#[derive(Debug, Serialize)]
pub struct PrunedObjects {
    schema: u32,
    ok: bool,
    dry_run: bool,
    objects: u64,
    bytes: u64,
    locked: u64,
    /// What went, or would: why, which, and that nothing is to be done about it. Then what is held past
    /// a cap, and what failed.
    findings: Vec<Finding>,
    #[serde(skip)]
    gone: usize,
}

impl PrunedObjects {
    pub fn new(kept: &[Kept], failed: &[(String, Error)], mode: Mode) -> Self {
        let dry_run = mode == Mode::DryRun;
        let pruned = || kept.iter().flat_map(|each| &each.done.pruned);
        let remedy = if dry_run { "run: bakelite prune" } else { "none: it was deleted" };
        let finding = |it: &crate::upkeep::Pruned| Finding {
            what: it.why.text().into(),
            r#where: format!("{}/{}", it.place, it.name),
            remedy: remedy.into(),
        };
        let mut findings: Vec<_> = pruned().map(finding).collect();
        let count = findings.len();
        let over = kept.iter().flat_map(|each| &each.done.caps);
        findings.extend(over.filter_map(|(place, over)| {
            over.map(|over| Finding {
                what: over.to_string(),
                r#where: place.clone(),
                remedy: over.remedy().into(),
            })
        }));
        let failures = failures(kept, failed);
        let ok = failures.is_empty();
        findings.extend(failures);
        let (objects, bytes) = (pruned().count() as u64, pruned().map(|it| it.bytes).sum());
        let locked = kept.iter().map(|each| each.done.locked).sum();
        Self { schema: SCHEMA, ok, dry_run, objects, bytes, locked, findings, gone: count }
    }

    pub fn ok(&self) -> bool {
        self.ok
    }
}

impl Document for PrunedObjects {
    /// One line an object, then the sum.
    fn text(&self) -> String {
        let gone = &self.findings[..self.gone];
        let mut out: String =
            gone.iter().map(|it| format!("{}: {}\n", one_line(&it.r#where), it.what)).collect();
        let verb = if self.dry_run { "would be deleted" } else { "deleted" };
        let _ = writeln!(out, "{} objects {verb}, {}", self.objects, units::bytes(self.bytes));
        out + &locked(self.locked)
    }
}
