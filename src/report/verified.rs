//! What `verify` says.

use super::{Document, RestoredFacts, SCHEMA, told};
use crate::error::one_line;
use crate::units;
use crate::verify::Finding;
use serde::Serialize;
use std::fmt::Write;

/// What `verify` found out about one replica.
#[derive(Debug)]
pub struct Checked {
    pub source: String,
    pub report: crate::verify::Report,
}

#[derive(Debug, Serialize)]
pub struct Verified {
    schema: u32,
    ok: bool,
    objects: u64,
    bytes: u64,
    findings: Vec<FindingOf>,
    replicas: Vec<ReplicaOf>,
}

#[derive(Debug, Serialize)]
struct FindingOf {
    what: String,
    r#where: String,
    remedy: String,
    /// Of one that is no more than a warning.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct ReplicaOf {
    source: String,
    ok: bool,
    verdict: &'static str,
    objects: u64,
    bytes: u64,
    /// Whether it could be looked at.
    #[serde(skip)]
    seen: bool,
    restored: Option<RestoredFacts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
}

impl From<&Finding> for FindingOf {
    fn from(it: &Finding) -> Self {
        let Finding { status, what, where_, remedy } = it.clone();
        Self { what, r#where: where_, remedy, kind: status.is_none().then_some("warning") }
    }
}

impl From<&Checked> for ReplicaOf {
    fn from(Checked { source, report }: &Checked) -> Self {
        Self {
            source: source.clone(),
            ok: report.status().is_none(),
            verdict: report.verdict(),
            seen: report.failed.is_none(),
            objects: report.objects,
            bytes: report.bytes,
            restored: report.restored.as_ref().map(RestoredFacts::from),
            answer: report.answer.clone(),
        }
    }
}

impl Verified {
    /// Also what is found of no replica alone: that those of one database differ, or that a directory's
    /// are not known.
    pub fn new(checked: &[Checked], beside: &[Finding]) -> Self {
        let findings = checked.iter().flat_map(|each| &each.report.findings).chain(beside);
        let findings: Vec<_> = findings.map(FindingOf::from).collect();
        Self {
            schema: SCHEMA,
            ok: findings.iter().all(|it| it.kind.is_some()),
            objects: checked.iter().map(|each| each.report.objects).sum(),
            bytes: checked.iter().map(|each| each.report.bytes).sum(),
            findings,
            replicas: checked.iter().map(ReplicaOf::from).collect(),
        }
    }

    pub fn ok(&self) -> bool {
        self.ok
    }
}

impl Document for Verified {
    fn text(&self) -> String {
        let mut out = String::new();
        for FindingOf { what, r#where, remedy, kind } in &self.findings {
            let warning = if kind.is_some() { "warning: " } else { "" };
            out += &told(r#where, &format!("{warning}{what}"), remedy);
        }
        for replica in &self.replicas {
            let ReplicaOf { source, verdict, objects, .. } = replica;
            let (source, bytes) = (one_line(source), units::bytes(replica.bytes));
            let _ = match replica.seen {
                true => writeln!(out, "{source}: {verdict}, {objects} objects, {bytes}"),
                false => writeln!(out, "{source}: {verdict}"),
            };
            if let Some(restored) = &replica.restored {
                out += &restored.text();
            }
            for line in replica.answer.iter().flat_map(|answer| answer.lines()) {
                let _ = writeln!(out, "  answer {}", line.escape_debug());
            }
        }
        out
    }
}
