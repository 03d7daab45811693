//! What `compact` says.

use super::{Document, SCHEMA};
use crate::units;
use crate::upkeep::Done;
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
}

impl Compacted {
    pub fn new(kept: &[Kept]) -> Self {
        let findings = kept.iter().flat_map(|each| {
            each.done.errors.iter().map(|error| Finding {
                what: error.message.clone(),
                r#where: each.database.clone(),
                remedy: error.hint.clone().unwrap_or_else(|| "the next round tries again".into()),
            })
        });
        let findings: Vec<_> = findings.collect();
        let of = |Kept { database, done }: &Kept| CompactedOf {
            name: database.clone(),
            merged: done.merged,
            made: done.made,
            deleted: done.deleted,
            put_bytes: done.put_bytes,
            deleted_bytes: done.deleted_bytes,
            read_bytes: done.read_bytes,
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
        for CompactedOf { name, merged, made, deleted, put_bytes, deleted_bytes, .. } in
            &self.databases
        {
            let (put, gone) = (units::bytes(*put_bytes), units::bytes(*deleted_bytes));
            let _ = writeln!(
                out,
                "{name}: {merged} change-sets became {made} ({put}), {deleted} objects deleted ({gone})"
            );
        }
        // The first one is an error of the command.
        for Finding { what, r#where, remedy } in self.findings.iter().skip(1) {
            let _ = writeln!(out, "{where}: {what}\n  {remedy}", where = r#where);
        }
        out
    }
}
