//! What the last whole campaign has come to: torture/records/fuzz.json, and its section of the matrix.

use super::campaign::Report;
use super::{Stood, TARGETS, Target};
use crate::record;
use serde_json::{Value, json};
use std::fmt::Write;

#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub date: String,
    pub commit: String,
    pub seed: u64,
    pub minutes: f64,
    pub jobs: usize,
    /// By name, with the seconds that each took.
    pub targets: Vec<(String, Stood, f64)>,
}

impl From<&Report> for (String, Stood, f64) {
    fn from(report: &Report) -> Self {
        (report.name.to_owned(), report.stood, report.seconds)
    }
}

impl Record {
    pub fn read() -> Result<Self, String> {
        record::read(record::FUZZ, Self::from_json)
    }

    /// Writes it down, and shows it on the page.
    pub fn keep(&self) -> Result<(), String> {
        record::write(record::FUZZ, &self.to_json())?;
        crate::write_page()
    }

    fn to_json(&self) -> Value {
        let target = |(name, Stood { taken, refused }, seconds): &(String, Stood, f64)| {
            let seconds = seconds.round();
            json!({ "name": name, "taken": taken, "refused": refused, "seconds": seconds })
        };
        let targets: Vec<_> = self.targets.iter().map(target).collect();
        let Self { date, commit, seed, minutes, jobs, .. } = self;
        json!({
            "date": date, "commit": commit, "seed": seed, "minutes": minutes, "jobs": jobs,
            "targets": targets,
        })
    }

    fn from_json(json: &Value) -> Option<Self> {
        let target = |json: &Value| {
            let (taken, refused) = (json["taken"].as_u64()?, json["refused"].as_u64()?);
            let name = json["name"].as_str()?.to_owned();
            Some((name, Stood { taken, refused }, json["seconds"].as_f64()?))
        };
        Some(Self {
            date: json["date"].as_str()?.to_owned(),
            commit: json["commit"].as_str()?.to_owned(),
            seed: json["seed"].as_u64()?,
            minutes: json["minutes"].as_f64()?,
            jobs: json["jobs"].as_u64()?.try_into().ok()?,
            targets: json["targets"].as_array()?.iter().map(target).collect::<Option<_>>()?,
        })
    }

    fn stood(&self, name: &str) -> Stood {
        let found = self.targets.iter().find(|target| target.0 == name);
        found.map(|target| target.1).unwrap_or_default()
    }

    pub fn runs(&self) -> u64 {
        TARGETS.iter().map(|target| self.stood(target.name).runs()).sum()
    }

    /// WALs that SQLite has recovered as well.
    pub fn logs(&self) -> u64 {
        self.stood("recovery").runs()
    }

    /// The section of the matrix.
    pub fn section(&self) -> String {
        let Self { date, commit, seed, minutes, jobs, .. } = self;
        let (all, logs, targets) = (self.runs(), self.logs(), TARGETS.len());
        let mut text = format!(
            "{TEXT}\nFuzzing: {date}, commit {commit}, seed {seed}, {minutes:.1} minutes, {jobs} at a \
             time: {all} runs of {targets} targets, {logs} WALs compared with SQLite, 0 violations.\n\n\
             | target | what it reads | what must hold | runs | taken | refused |\n\
             |---|---|---|--:|--:|--:|\n"
        );
        for Target { name, parses, holds, .. } in TARGETS {
            let stood = self.stood(name);
            let (runs, Stood { taken, refused }) = (stood.runs(), stood);
            let _ =
                writeln!(text, "| {name} | {parses} | {holds} | {runs} | {taken} | {refused} |");
        }
        text
    }
}

const TEXT: &str = "
## Wrong inputs

Everything that bakelite parses is fed with inputs that are not what they should be. None may panic, take
memory that the input does not account for, or be taken for something else than it is. What is parsed and
written again has to be the same; a WAL is recovered by SQLite as well, and both databases have to be
equal. Taken are inputs that were parsed, refused those that were not.

    make fuzz
    torture fuzz change --seed 1234 --run 5678

The first command repeats the campaign, the second one a run, as a failure prints it. A sample runs with
the tests. Nothing sees which code a run has reached: coverage guides nobody here. Instead inputs are made
from right ones by what knows their structure, and in many of the cases checksums, hashes and lineages are
made right again, so that wrong fields are met by the code that reads them.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Record {
        let target =
            |target: &Target| (target.name.to_owned(), Stood { taken: 2, refused: 3 }, 4.0);
        Record {
            date: "2025-01-01".to_owned(),
            commit: "abc".to_owned(),
            seed: 7,
            minutes: 1.5,
            jobs: 2,
            targets: TARGETS.iter().map(target).collect(),
        }
    }

    /// The page shows what was recorded last, and that is of all targets.
    #[test]
    fn every_target_is_recorded_as_one_that_has_stood() {
        let record = Record::read().unwrap();
        for Target { name, .. } in TARGETS {
            let stood = record.stood(name);
            assert!(stood.shows_something(), "{name}; run: make fuzz");
        }
        assert_eq!(record.targets.len(), TARGETS.len());
    }

    #[test]
    fn a_record_comes_back_and_is_shown() {
        let record = some();
        assert_eq!(Record::from_json(&record.to_json()).as_ref(), Some(&record));
        let section = record.section();
        assert!(section.contains("85 runs of 17 targets, 5 WALs"), "{section}");
    }
}
