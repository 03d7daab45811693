//! What `usage` says.

use super::{Document, SCHEMA, table, told};
use crate::error::{Error, one_line};
use crate::keep::{Cap, Sum};
use crate::units;
use crate::usage::{Reads, Usage};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Used {
    schema: u32,
    ok: bool,
    findings: Vec<Finding>,
    replicas: Vec<ReplicaOf>,
    /// How many of the findings are about what cannot be looked at; they come first.
    #[serde(skip)]
    failed: usize,
}

/// What upkeep would do, and what cannot be looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    r#where: String,
    remedy: String,
}

#[derive(Debug, Serialize)]
struct ReplicaOf {
    source: String,
    objects: u64,
    bytes: u64,
    kinds: Vec<KindOf>,
    cap: Option<CapOf>,
    to_free: SumOf,
    to_merge: u64,
    oldest: Option<ReadsOf>,
    newest: Option<ReadsOf>,
}

#[derive(Debug, Serialize)]
struct KindOf {
    kind: &'static str,
    level: Option<u8>,
    objects: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct SumOf {
    objects: u64,
    bytes: u64,
}

/// What it is to hold at most, of which one may be left open.
#[derive(Debug, Serialize)]
struct CapOf {
    objects: Option<u32>,
    bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ReadsOf {
    commit: u64,
    change_sets: u64,
    parts: u64,
}

impl From<&Reads> for ReadsOf {
    fn from(reads: &Reads) -> Self {
        let Reads { commit, change_sets, parts } = *reads;
        Self { commit: commit.0, change_sets, parts }
    }
}

impl From<&(String, Usage)> for ReplicaOf {
    fn from((source, usage): &(String, Usage)) -> Self {
        let Sum { objects, bytes } = usage.all;
        let kind = |(&(kind, level), sum): (&(&'static str, Option<u8>), &Sum)| {
            let Sum { objects, bytes } = *sum;
            KindOf { kind, level, objects, bytes }
        };
        Self {
            source: source.clone(),
            objects,
            bytes,
            kinds: usage.kinds.iter().map(kind).collect(),
            cap: (usage.cap != Cap::default())
                .then_some(CapOf { objects: usage.cap.objects, bytes: usage.cap.bytes }),
            to_free: SumOf { objects: usage.free.objects, bytes: usage.free.bytes },
            to_merge: usage.to_merge,
            oldest: usage.oldest.as_ref().map(ReadsOf::from),
            newest: usage.newest.as_ref().map(ReadsOf::from),
        }
    }
}

impl Used {
    pub fn new(found: &[(String, Usage)], failed: &[(String, Error)]) -> Self {
        let finding = |(source, usage): &(String, Usage)| {
            let Sum { objects, bytes } = usage.free;
            (objects > 0).then(|| Finding {
                what: format!("{objects} objects are not needed any more, {}", units::bytes(bytes)),
                r#where: source.clone(),
                remedy: "run: bakelite prune; the daemon does it by itself".into(),
            })
        };
        let failure = |(source, error): &(String, Error)| Finding {
            what: error.message.clone(),
            r#where: source.clone(),
            remedy: error.hint.clone().unwrap_or_else(|| "run: bakelite doctor".into()),
        };
        let over = |(source, usage): &(String, Usage)| {
            usage.over.map(|over| Finding {
                what: over.to_string(),
                r#where: source.clone(),
                remedy: over.remedy().into(),
            })
        };
        let failures = failed.iter().map(failure);
        let each = found.iter().flat_map(|it| over(it).into_iter().chain(finding(it)));
        let findings = failures.chain(each).collect();
        let replicas = found.iter().map(ReplicaOf::from).collect();
        Self { schema: SCHEMA, ok: failed.is_empty(), findings, replicas, failed: failed.len() }
    }
}

impl Document for Used {
    fn text(&self) -> String {
        let failed = self.findings[..self.failed].iter();
        let failed = failed.map(|it| told(&it.r#where, &it.what, &it.remedy));
        failed.chain(self.replicas.iter().map(ReplicaOf::text)).collect()
    }
}

impl ReplicaOf {
    fn text(&self) -> String {
        let row = |it: &KindOf| {
            let level = it.level.map(|level| level.to_string()).unwrap_or_default();
            [it.kind.to_owned(), level, it.objects.to_string(), units::bytes(it.bytes)]
        };
        let sum = ["all".into(), String::new(), self.objects.to_string(), units::bytes(self.bytes)];
        let rows = self.kinds.iter().map(row).chain([sum]);
        let mut out = one_line(&self.source) + "\n";
        out += &table(["KIND", "LEVEL", "OBJECTS", "BYTES"], rows);
        if let Some(CapOf { objects, bytes }) = self.cap {
            let bytes = bytes.map(|most| share(self.bytes, most, units::bytes));
            let objects = objects.map(|most| share(self.objects, most.into(), |it| it.to_string()));
            let shares: Vec<_> = bytes.into_iter().chain(objects).collect();
            out += &format!("cap: {}\n", shares.join(", "));
        }
        let SumOf { objects, bytes } = self.to_free;
        out += &format!("{objects} objects could go, {}; ", units::bytes(bytes));
        out += &format!("{} change-sets could become fewer\n", self.to_merge);
        for (which, reads) in [("oldest", &self.oldest), ("newest", &self.newest)] {
            if let Some(ReadsOf { commit, change_sets, parts }) = reads {
                out += &format!("{which} point: commit {commit}, ");
                out += &format!("parts {parts}, change-sets {change_sets}\n");
            }
        }
        out
    }
}

/// How much of what a cap allows is there.
fn share(held: u64, most: u64, text: impl Fn(u64) -> String) -> String {
    format!("{} of {} ({} %)", text(held), text(most), u128::from(held) * 100 / u128::from(most))
}
