//! What `check` and `doctor` say.

use super::{Document, SCHEMA};
use crate::check::Finding;
use crate::error::{Status, one_line};
use serde::Serialize;
use std::fmt::Write;

#[derive(Debug, Serialize)]
pub struct Findings {
    schema: u32,
    ok: bool,
    findings: Vec<FindingOf>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    facts: Vec<FactOf>,
}

#[derive(Debug, Serialize)]
struct FindingOf {
    what: String,
    r#where: String,
    remedy: String,
    kind: &'static str,
}

/// Something that was looked at and is worth telling.
#[derive(Debug, Serialize)]
struct FactOf {
    what: String,
    r#where: String,
}

impl Findings {
    /// `facts`: a place, and what it is like.
    pub fn new(findings: &[Finding], facts: &[(String, String)]) -> Self {
        let finding = |it: &Finding| {
            let Finding { status, what, place, remedy } = it.clone();
            FindingOf { what, r#where: place, remedy, kind: status.map_or("warning", Status::kind) }
        };
        let fact = |(place, what): &(String, String)| FactOf {
            what: what.clone(),
            r#where: place.clone(),
        };
        let ok = findings.iter().all(|finding| finding.status.is_none());
        let findings = findings.iter().map(finding).collect();
        let facts = facts.iter().map(fact).collect();
        Self { schema: SCHEMA, ok, findings, facts }
    }
}

impl Document for Findings {
    fn text(&self) -> String {
        let mut out = String::new();
        for FactOf { what, r#where } in &self.facts {
            let _ = writeln!(out, "{}: {}", one_line(r#where), one_line(what));
        }
        for FindingOf { what, r#where, remedy, kind } in &self.findings {
            let warning = if *kind == "warning" { "warning: " } else { "" };
            // What an error says has its place in it.
            let place = match what.contains(r#where.as_str()) {
                true => String::new(),
                false => one_line(r#where) + ": ",
            };
            let (what, remedy) = (one_line(what), one_line(remedy));
            let _ = writeln!(out, "{place}{warning}{what}\n  {remedy}");
        }
        out
    }
}
