//! What the last long soak has shown, for the matrix: `torture soak --record` writes it.

use super::Plan;
use super::samples::{MEASURES, Measure, Samples};
use crate::record;
use crate::run;
use crate::tally::Tally;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const TEXT: &str = "
## Soak

The daemon and two writers run for as long as asked, without a pause for the grader, while destinations
go away and come back, writers and (in the first third) the daemon are killed, the daemon is stopped, the
application vacuums and truncates its WAL, and days are seconds for upkeep. `make soak MINUTES=` does it. In
the last two thirds the daemon is one process: the medians of the last third may not lie above those of
the middle third by more than the bound.
";

/// Medians of the three thirds, and the most that was ever seen.
type Row = [u64; 4];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    date: String,
    commit: String,
    seed: u64,
    seconds: u64,
    looks: u64,
    tally: Tally,
    rows: BTreeMap<String, Row>,
}

impl Record {
    pub fn new(plan: Plan, tally: &Tally, samples: &Samples) -> Self {
        let row = |at: usize| {
            let median = |third| samples.median(at, third);
            [median(0), median(1), median(2), samples.most(at)]
        };
        let rows = MEASURES.iter().enumerate();
        Self {
            date: run::today(),
            commit: run::commit(),
            seed: plan.seed,
            seconds: plan.time.as_secs(),
            looks: samples.count() as u64,
            tally: tally.clone(),
            rows: rows.map(|(at, measure)| (measure.name.to_owned(), row(at))).collect(),
        }
    }

    pub fn violations(&self) -> usize {
        self.tally.violations.len()
    }

    fn to_json(&self) -> Value {
        let Self { date, commit, seed, seconds, looks, tally, rows } = self;
        json!({
            "date": date, "commit": commit, "seed": seed, "seconds": seconds, "looks": looks,
            "tally": tally.to_json(), "measures": rows,
        })
    }

    /// None was recorded as long as `null` is.
    pub fn read() -> Result<Option<Self>, String> {
        record::read(record::SOAK, |json| match json {
            Value::Null => Some(None),
            _ => Self::from_json(json).map(Some),
        })
    }

    pub fn keep(&self) -> Result<(), String> {
        record::write(record::SOAK, &self.to_json())
    }

    fn from_json(json: &Value) -> Option<Self> {
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        let number = |key: &str| json[key].as_u64();
        let row = |value: &Value| -> Option<Row> {
            let values = value.as_array()?.iter().map(Value::as_u64);
            values.collect::<Option<Vec<_>>>()?.try_into().ok()
        };
        let rows = json["measures"].as_object()?.iter();
        Some(Self {
            date: text("date")?,
            commit: text("commit")?,
            seed: number("seed")?,
            seconds: number("seconds")?,
            looks: number("looks")?,
            tally: Tally::from_json(&json["tally"])?,
            rows: rows
                .map(|(name, value)| Some((name.clone(), row(value)?)))
                .collect::<Option<_>>()?,
        })
    }

    /// Its section of the matrix.
    pub fn section(&self) -> String {
        let Self { date, commit, seed, seconds, looks, tally, rows } = self;
        let Tally { commits, kills, restores, targets, violations, faults, .. } = tally;
        let minutes = *seconds as f64 / 60.0;
        let wrong = violations.len();
        let mut text = format!(
            "{TEXT}\nSoak: {date}, commit {commit}, seed {seed}, {minutes:.0} minutes: {commits} commits, \
             {restores} restores graded, {targets} of them points in time, {kills} kills of the daemon, \
             {looks} looks, {wrong} violations.\n\nWhat happened: "
        );
        let happened = faults.iter().map(|(name, times)| format!("{name} {times}"));
        text += &happened.collect::<Vec<_>>().join(", ");
        text += ".\n\n| measure | first third | middle third | last third | most | bound |\n\
                 |---|--:|--:|--:|--:|--:|\n";
        for Measure { name, unit, bound } in MEASURES {
            let [first, middle, last, most] = rows.get(name).copied().unwrap_or_default();
            let unit = if unit.is_empty() { String::new() } else { format!(", {unit}") };
            let _ =
                writeln!(text, "| {name}{unit} | {first} | {middle} | {last} | {most} | {bound} |");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_record_comes_back_and_is_shown() {
        let plan = Plan { seed: 5, time: Duration::from_secs(1200) };
        let mut tally = Tally { commits: 7, restores: 8, ..Tally::default() };
        tally.fault("daemon stopped");
        let record = Record::new(plan, &tally, &Samples::default());
        assert_eq!(Record::from_json(&record.to_json()), Some(record.clone()));
        let section = record.section();
        assert!(section.contains("20 minutes: 7 commits, 8 restores"), "{section}");
        assert!(section.contains("What happened: daemon stopped 1."), "{section}");
        assert!(MEASURES.iter().all(|measure| section.contains(measure.name)));
    }
}
