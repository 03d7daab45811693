//! What `repair` says.

use super::{Document, SCHEMA, told};
use crate::error::Error;
use crate::repair::{Finding, Outcome, Report};
use crate::units;
use serde::Serialize;
use std::fmt::Write;

#[derive(Debug, Serialize)]
pub struct Repaired {
    schema: u32,
    /// Nothing is left that does harm.
    ok: bool,
    dry_run: bool,
    objects: u64,
    bytes: u64,
    healed: usize,
    findings: Vec<FindingOf>,
}

#[derive(Debug, Serialize)]
struct FindingOf {
    what: String,
    r#where: String,
    remedy: String,
    outcome: &'static str,
}

impl From<&Finding> for FindingOf {
    fn from(it: &Finding) -> Self {
        let Finding { what, where_, remedy, outcome } = it.clone();
        let outcome = match outcome {
            Outcome::Healed => "healed",
            Outcome::Curable => "curable",
            Outcome::Hurt => "hurt",
            Outcome::Harmless => "harmless",
        };
        Self { what, r#where: where_, remedy, outcome }
    }
}

impl FindingOf {
    fn failed((name, error): &(String, Error)) -> Self {
        Self {
            what: error.message.clone(),
            r#where: name.clone(),
            remedy: error.hint.clone().unwrap_or_else(|| "run `bakelite repair` again".into()),
            outcome: "hurt",
        }
    }
}

impl Repaired {
    /// What was done, and the databases of which nothing could be.
    pub fn new(reports: &[Report], failed: &[(String, Error)], dry_run: bool) -> Self {
        let findings = reports.iter().flat_map(|report| &report.findings).map(FindingOf::from);
        let findings: Vec<_> = findings.chain(failed.iter().map(FindingOf::failed)).collect();
        Self {
            schema: SCHEMA,
            ok: failed.is_empty() && reports.iter().all(Report::ok),
            dry_run,
            objects: reports.iter().map(|report| report.objects).sum(),
            bytes: reports.iter().map(|report| report.bytes).sum(),
            healed: findings.iter().filter(|finding| finding.outcome == "healed").count(),
            findings,
        }
    }

    pub fn ok(&self) -> bool {
        self.ok
    }

    /// Nothing was wrong.
    pub fn is_silent(&self) -> bool {
        self.ok && self.healed == 0
    }
}

impl Document for Repaired {
    fn text(&self) -> String {
        let mut out = String::new();
        for FindingOf { what, r#where, remedy, .. } in &self.findings {
            out += &told(r#where, what, remedy);
        }
        let left = self.findings.iter().filter(|it| !["healed", "harmless"].contains(&it.outcome));
        let (objects, bytes) = (self.objects, units::bytes(self.bytes));
        let (healed, left) = (self.healed, left.count());
        let _ = writeln!(out, "{objects} objects, {bytes}: {healed} healed, {left} left");
        out
    }
}
