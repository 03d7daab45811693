//! Mutants: the core files changed in one place at a time by cargo-mutants, each of them to be noticed
//! by a test of the library; and what came of it, for the matrix. What no test notices needs a reason.
//!
//! The record is by file, so that one file can be tried again alone.

mod reasons;

use crate::record;
use crate::run;
use reasons::REASONS;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// The files, and the tests that are to notice what is changed there: those of the file, and of others
/// that see it best. More of them would notice no less, and take longer.
pub const FILES: &[(&str, &[&str])] = &[
    ("src/wal.rs", &["wal::"]),
    ("src/wal/write.rs", &["restore::tests::delta", "redo::"]),
    ("src/cursor.rs", &["cursor::"]),
    ("src/spool.rs", &["spool::"]),
    ("src/index.rs", &["index::"]),
    ("src/name.rs", &["name::"]),
    (
        "src/object.rs",
        &["object::", "seal::", "change::tests::what", "golden", "verify::", "reencrypt::"],
    ),
    ("src/object/sealed.rs", &["object::", "seal::", "sealed::", "reencrypt::"]),
    ("src/change.rs", &["change::", "object::", "ship::"]),
    ("src/change/patch.rs", &["change::"]),
    ("src/change/replay.rs", &["change::"]),
    ("src/durable.rs", &["durable::"]),
];

/// A mutant that no test can notice, and why.
#[derive(Clone, Copy, Debug)]
pub struct Reason {
    pub file: &'static str,
    /// As cargo-mutants says it, without the place.
    pub mutant: &'static str,
    pub why: &'static str,
}

/// What came of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    file: String,
    date: String,
    commit: String,
    caught: u64,
    /// Noticed as well: a test did not come to its end.
    timed_out: u64,
    /// They do not compile.
    unviable: u64,
    survivors: Vec<String>,
}

impl Tried {
    /// From the `outcomes.json` of cargo-mutants.
    fn read(file: &str, text: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(text).ok()?;
        let (file, date, commit) = (file.to_owned(), run::today(), run::commit());
        let mut tried = Self { file, date, commit, ..Self::default() };
        for outcome in json["outcomes"].as_array()? {
            // The one before all mutants, of the honest program, has none.
            let Some(mutant) = outcome["scenario"]["Mutant"].as_object() else { continue };
            if mutant["file"] != tried.file.as_str() {
                continue;
            }
            match outcome["summary"].as_str()? {
                "CaughtMutant" => tried.caught += 1,
                "Timeout" => tried.timed_out += 1,
                "Unviable" => tried.unviable += 1,
                "MissedMutant" => tried.survivors.push(without_place(mutant["name"].as_str()?)),
                _ => return None,
            }
        }
        tried.survivors.sort();
        Some(tried)
    }

    /// Those that compile and that a test has noticed.
    pub fn noticed(&self) -> u64 {
        self.caught + self.timed_out
    }

    fn all(&self) -> u64 {
        self.caught + self.timed_out + self.unviable + self.survivors.len() as u64
    }

    fn to_json(&self) -> Value {
        let Self { file, date, commit, caught, timed_out, unviable, survivors } = self;
        json!({
            "file": file, "date": date, "commit": commit, "caught": caught,
            "timed_out": timed_out, "unviable": unviable, "survivors": survivors,
        })
    }

    fn from_json(json: &Value) -> Option<Self> {
        let text = |json: &Value| json.as_str().map(str::to_owned);
        Some(Self {
            file: text(&json["file"])?,
            date: text(&json["date"])?,
            commit: text(&json["commit"])?,
            caught: json["caught"].as_u64()?,
            timed_out: json["timed_out"].as_u64()?,
            unviable: json["unviable"].as_u64()?,
            survivors: json["survivors"].as_array()?.iter().map(text).collect::<Option<_>>()?,
        })
    }
}

/// `src/name.rs:12:3: replace ...`: the place is another one after the next change of the file.
fn without_place(name: &str) -> String {
    name.split_once(": ").map_or(name, |(_, change)| change).to_owned()
}

fn why(file: &str, mutant: &str) -> Option<&'static str> {
    let mut reasons = REASONS.iter();
    reasons.find(|it| it.file == file && it.mutant == mutant).map(|it| it.why)
}

/// Tries the files that are named, else all, and writes down what came of each.
pub fn run(names: &[String], target: &Path) -> Result<(), String> {
    let known = |name: &String| FILES.iter().any(|(file, _)| file == name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        return Err(format!("{name} is not among them; see torture/src/mutants.rs"));
    }
    let wanted = |file: &&(&str, _)| names.is_empty() || names.iter().any(|name| name == file.0);
    for (file, tests) in FILES.iter().filter(wanted) {
        keep(tried(file, tests, &target.join("mutants"))?)?;
    }
    crate::write_page()
}

fn tried(file: &str, tests: &[&str], dir: &Path) -> Result<Tried, String> {
    let mut command = Command::new("cargo");
    command.args(["mutants", "--package", "bakelite", "--profile", "mutants", "--file", file]);
    command.args(["--cargo-arg=--lib", "--output"]).arg(dir).args(["--", "--"]).args(tests);
    // One at a time: a test that waits for the other one's build would be stopped, and be taken for one that
    // has noticed something.
    command.env_remove("CARGO_MUTANTS_JOBS").env("CARGO_TARGET_DIR", dir.join("target"));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let path = dir.join("mutants.out/outcomes.json");
    std::fs::remove_file(&path).ok();
    let status = command.status().map_err(|error| format!("cargo: {error}"))?;
    // 2 and 3: there are survivors, or some that were stopped.
    if !matches!(status.code(), Some(0 | 2 | 3)) || !path.exists() {
        let hint = "is it there? run: cargo install --locked cargo-mutants";
        return Err(format!("cargo mutants: {file}: {status}; {hint}"));
    }
    let text = crate::read(path.to_str().ok_or("a path that is no text")?)?;
    Tried::read(file, &text).ok_or(format!("{}: not what cargo-mutants writes", path.display()))
}

fn keep(tried: Tried) -> Result<(), String> {
    let mut all = read()?;
    all.retain(|it| it.file != tried.file);
    all.push(tried);
    all.sort_by_key(|it| FILES.iter().position(|(file, _)| *file == it.file));
    record::write(record::MUTANTS, &all.iter().map(Tried::to_json).collect())
}

/// What is recorded of each file that was tried.
pub fn read() -> Result<Vec<Tried>, String> {
    record::read(record::MUTANTS, |all| all.as_array()?.iter().map(Tried::from_json).collect())
}

/// The section of the matrix.
pub fn section(all: &[Tried]) -> String {
    let mut text = TEXT.to_owned();
    if all.is_empty() {
        return text + "\nNone of it is recorded yet.\n";
    }
    text += "\n| file | mutants | caught | stopped | survivors | do not compile | commit |\n\
             |---|--:|--:|--:|--:|--:|---|\n";
    for it in all {
        let Tried { file, date, commit, caught, timed_out, unviable, survivors } = it;
        let (all, left) = (it.all(), survivors.len());
        let _ = writeln!(
            text,
            "| {file} | {all} | {caught} | {timed_out} | {left} | {unviable} | {commit}, {date} |"
        );
    }
    text += "\n| survivor | in | why no test sees it |\n|---|---|---|\n";
    for Tried { file, survivors, .. } in all {
        for mutant in survivors {
            let why = why(file, mutant).unwrap_or(UNEXPLAINED);
            let mutant = mutant.replace('|', "\\|");
            let _ = writeln!(text, "| {mutant} | {file} | {why} |");
        }
    }
    text
}

const UNEXPLAINED: &str = "**nobody has said yet**";

const TEXT: &str = "
## Mutants

The core files, changed in one place at a time by cargo-mutants: an operator is another one, a condition
is always true, a function gives nothing. Some test of the library has to fail then, or never end; then
the mutant is caught, or stopped. What survives is named with the reason why no test can see it. `make
mutants` tries them all again, `make mutants FILE=src/wal.rs` those of one file.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted_without_the_honest_program_and_come_back() {
        let mutant = |summary: &str, name: &str| {
            let mutant = json!({ "file": "src/wal.rs", "name": name });
            json!({ "scenario": { "Mutant": mutant }, "summary": summary })
        };
        let outcomes = [
            json!({ "scenario": "Baseline", "summary": "Success" }),
            mutant("CaughtMutant", ""),
            mutant("Timeout", ""),
            mutant("Unviable", ""),
            mutant("MissedMutant", "src/wal.rs:1:2: replace || with && in a::b"),
        ];
        let text = json!({ "outcomes": outcomes }).to_string();
        let tried = Tried::read("src/wal.rs", &text).unwrap();
        assert_eq!((tried.caught, tried.timed_out, tried.unviable, tried.all()), (1, 1, 1, 4));
        assert_eq!(tried.survivors, ["replace || with && in a::b"]);
        assert_eq!(Tried::from_json(&tried.to_json()).as_ref(), Some(&tried));
        let shown = section(&[tried]);
        let row = format!("| replace \\|\\| with && in a::b | src/wal.rs | {UNEXPLAINED} |");
        assert!(shown.contains(&row), "{shown}");
        assert_eq!(Tried::read("src/wal.rs", "{}"), None);
    }

    /// A reason outlives what it was given for otherwise.
    #[test]
    fn every_reason_names_a_function_that_is_there() {
        for Reason { file, mutant, .. } in REASONS {
            assert!(FILES.iter().any(|(known, _)| known == file), "{file}");
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
            let text = crate::read(&format!("{path}/{file}")).unwrap();
            let of = mutant.rsplit_once(" in ").map_or(*mutant, |(_, of)| of);
            // That of a constant.
            if let Some((operator, _)) = of.trim_start_matches("replace ").split_once(" with ")
                && !operator.contains(char::is_alphanumeric)
            {
                assert!(text.contains(&format!(" {operator} ")), "{file}: {mutant}");
                continue;
            }
            let of = of.trim_start_matches("replace ").split(" -> ").next().unwrap();
            let of = of.split(" with ").next().unwrap().rsplit("::").next().unwrap();
            assert!(text.contains(&format!("fn {of}")), "{file}: {mutant}");
        }
    }

    #[test]
    fn the_record_is_of_files_that_are_tried() {
        let all = read().unwrap();
        assert!(all.iter().all(|it| FILES.iter().any(|(file, _)| *file == it.file)));
    }
}
