//! Crash points: the library's tests that stop a piece of work at each of its effects, or cut the power
//! there, run at full measure; and what they have counted, for the matrix.
//!
//! Each of them counts the calls or steps of a run that nobody stops, goes through all of these, and
//! writes down how many moments that were. What it writes is named here, so none can be left out.

use crate::record;
use crate::run;
use crate::saboteurs::build_tests;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// A test that counts.
#[derive(Clone, Copy, Debug)]
pub struct Enumeration {
    /// What its record is called.
    pub name: &'static str,
    pub test: &'static str,
    pub what: &'static str,
}

const fn row(name: &'static str, test: &'static str, what: &'static str) -> Enumeration {
    Enumeration { name, test, what }
}

pub const TABLE: &[Enumeration] = &[
    row(
        "files",
        "testkit::power::whole::trap_59_what_ends_at_any_step_leaves_each_file_as_it_was_or_as_it_is_to_be",
        "whatever makes a file of its own, `restore`, `keygen`, `init`, the spool and objects in directories \
         among them: at each step of the disk, unsynced data kept, dropped or mixed",
    ),
    row(
        "daemon",
        "daemon::tracker::tests::crash::trap_63_a_daemon_stopped_at_any_call_of_its_destination_loses_nothing",
        "a daemon that begins a replica, takes it up, heals what it missed, ships and keeps it up: at each \
         call of its destination, before it, with the reply lost, torn",
    ),
    row(
        "daemon-twice",
        "daemon::tracker::tests::crash::trap_63_a_daemon_stopped_twice_loses_nothing",
        "the smallest life of a daemon in the same ways, and the next one at each of its own calls",
    ),
    row(
        "daemon-power",
        "daemon::tracker::tests::heal::power::trap_56_a_power_cut_at_every_sync",
        "the disk of a daemon that ships, heals, and takes a snapshot, state directory and destination: the \
         power goes at each step",
    ),
    row(
        "outage-power",
        "daemon::tracker::tests::heal::power::trap_84_a_power_cut_at_every_step_of_an_outage",
        "the same disk while one of two destinations, on another one, is away, its commits are spooled, and it \
         is back: the power goes at each step",
    ),
    row(
        "daemon-clock",
        "daemon::tracker::tests::clock_steps::trap_67_a_clock_that_is_set_at_any_reading_of_it_loses_nothing",
        "the clock of a daemon that begins a replica, takes it up, and heals what it missed: set ahead or back at \
         each reading, by a second to centuries, for good or for that one",
    ),
    row(
        "upkeep",
        "upkeep::tests::crash::trap_87_a_round_stopped_at_any_of_its_calls_loses_nothing_and_the_next_one_ends_it",
        "compaction and retention, branches among it: at each call of the destination, before it, with the \
         reply lost, torn; then once more while that is made good",
    ),
    row(
        "upkeep-disk",
        "upkeep::tests::crash::trap_87_a_disk_that_fails_at_any_step_of_a_round_loses_nothing",
        "the same on a directory whose disk fails at each step once",
    ),
    row(
        "upkeep-power",
        "upkeep::tests::crash::trap_87_a_power_cut_at_any_step_of_a_round_loses_nothing",
        "the same on a directory: the power goes at each step",
    ),
    row(
        "repair",
        "repair::tests::trap_85_a_repair_stopped_at_any_of_its_calls_harms_nothing_and_the_next_one_ends_it",
        "`repair`, at each call of the destination that is healed and of the one that heals it, before it, \
         with the reply lost, torn; after every third one once more, while that is made good",
    ),
    row(
        "reencrypt",
        "reencrypt::tests::trap_97_a_rewrite_cut_at_every_call_restores_at_every_point_and_is_finished_by_the_next",
        "`reencrypt`, each call refused, denied, without room, its reply lost",
    ),
    row(
        "reencrypt-death",
        "reencrypt::tests::trap_97_a_rewrite_dies_at_every_call_and_the_next_one_finishes",
        "`reencrypt`, dead at each call with all its threads, before it and after it",
    ),
    row(
        "restore",
        "restore::tests::files::trap_95_a_failed_source_leaves_nothing_at_the_target",
        "`restore`, each call of the source refused, denied, short or with a bit flipped",
    ),
];

/// The year is no crash point; it is measured in the same campaign.
const YEAR: Enumeration = row(
    "year",
    "upkeep::tests::year::after_a_year_a_replica_is_small_and_every_density_comes_back",
    "ten commits a minute for 400 days",
);

/// What one of them has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Counted {
    name: String,
    figures: Vec<(String, u64)>,
}

impl Counted {
    fn figure(&self, what: &str) -> u64 {
        self.figures.iter().find(|(name, _)| name == what).map_or(0, |(_, figure)| *figure)
    }

    fn to_json(&self) -> Value {
        json!({ "name": self.name, "figures": self.figures })
    }

    fn from_json(json: &Value) -> Option<Self> {
        let figures = json["figures"].as_array()?.iter();
        let figure = |it: &Value| Some((it[0].as_str()?.to_owned(), it[1].as_u64()?));
        let figures = figures.map(figure).collect::<Option<_>>()?;
        Some(Self { name: json["name"].as_str()?.to_owned(), figures })
    }
}

/// Runs all of them, or those that are named, a few at a time; their files come to lie below `target`.
pub fn run(names: &[String], jobs: usize, target: &Path) -> Result<Record, String> {
    let all = || TABLE.iter().chain([&YEAR]);
    let known = |name: &String| all().any(|it| it.name == name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        return Err(format!("{name} counts nothing; see torture/src/points.rs"));
    }
    // Built as tests are, but for the library itself, which is what the campaign waits for.
    let tests = build_tests(&["--config", "profile.dev.package.bakelite.opt-level=3"])?;
    let dir = target.join("points");
    std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let began = Instant::now();
    let wanted = |it: &&Enumeration| names.is_empty() || names.iter().any(|name| name == it.name);
    let wanted: Vec<&Enumeration> = all().filter(wanted).collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(it) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let counted = it.count(&tests, &dir);
                    done.lock().expect("nothing panics under it").push(counted);
                }
            });
        }
    });
    let done = done.into_inner().expect("nothing panics under it");
    let mut counted = done.into_iter().collect::<Result<Vec<_>, _>>()?;
    counted.sort_by_key(|counted| all().position(|it| it.name == counted.name));
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    Ok(Record { date: run::today(), commit: run::commit(), minutes, counted })
}

impl Enumeration {
    fn count(&self, tests: &Path, dir: &Path) -> Result<Counted, String> {
        let (began, name) = (Instant::now(), self.name);
        let path = dir.join(name).with_extension("json");
        std::fs::remove_file(&path).ok();
        let mut command = Command::new(tests);
        command.args(["--exact", self.test, "--nocapture"]).env("BAKELITE_EXHAUSTIVE", dir);
        let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{name}: {} failed\n{said}\n{why}", self.test));
        }
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
        let json: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let counted = Counted::from_json(&json).ok_or(format!("{}: no record", path.display()))?;
        println!("{name:16} {:?} in {:.0} s", counted.figures, began.elapsed().as_secs_f64());
        Ok(counted)
    }
}

/// What is known of all of them, for the matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    date: String,
    commit: String,
    pub minutes: f64,
    counted: Vec<Counted>,
}

impl Record {
    pub fn read() -> Result<Self, String> {
        record::read(record::POINTS, Self::from_json)
    }

    pub fn keep(&self) -> Result<(), String> {
        record::write(record::POINTS, &self.to_json())
    }

    fn to_json(&self) -> Value {
        let counted: Vec<_> = self.counted.iter().map(Counted::to_json).collect();
        let Self { date, commit, minutes, .. } = self;
        json!({ "date": date, "commit": commit, "minutes": minutes, "counted": counted })
    }

    fn from_json(json: &Value) -> Option<Self> {
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        let counted = json["counted"].as_array()?.iter().map(Counted::from_json);
        let counted = counted.collect::<Option<_>>()?;
        let minutes = json["minutes"].as_f64()?;
        Some(Self { date: text("date")?, commit: text("commit")?, minutes, counted })
    }

    fn figure(&self, name: &str, what: &str) -> u64 {
        let found = self.counted.iter().find(|counted| counted.name == name);
        found.map_or(0, |counted| counted.figure(what))
    }

    /// `points` or `images`, of all enumerations.
    pub fn all(&self, what: &str) -> u64 {
        TABLE.iter().map(|it| self.figure(it.name, what)).sum()
    }

    pub fn section(&self) -> String {
        let Self { date, commit, minutes, .. } = self;
        let (points, images) = (self.all("points"), self.all("images"));
        let mut text = format!(
            "{TEXT}\nPoints: {date}, commit {commit}, {minutes:.1} minutes, {points} crash points, {images} \
             power-loss images.\n\n\
             | points of | what is stopped, and where | points | images |\n|---|---|--:|--:|\n"
        );
        for Enumeration { name, what, .. } in TABLE {
            let (points, images) = (self.figure(name, "points"), self.figure(name, "images"));
            let _ = writeln!(text, "| {name} | {what} | {points} | {images} |");
        }
        text.push_str(&self.year());
        text
    }

    /// In words, once it was lived.
    fn year(&self) -> String {
        let year = |what: &str| self.figure(YEAR.name, what);
        if year("commits") == 0 {
            return String::new();
        }
        format!(
            "\nYear: {}, {} commits: {} objects and {} bytes are left. To plan a restore takes {} requests,\n\
             and one reads {} objects at most; {} restores at random times of every density were right. One of\n\
             the last commit takes {} % of the time that it takes from a snapshot alone.\n",
            YEAR.what,
            year("commits"),
            year("objects"),
            year("bytes"),
            year("requests to list"),
            year("objects of one restore"),
            year("restores"),
            year("restore, % of a fresh snapshot's time"),
        )
    }
}

const TEXT: &str = "\
## Every point

These tests of the library count the effects that a piece of work has on disks and destinations when nobody
stops it, then stop it at each of them, and hold what is left to what has to be there: 100 % of the points.
The smallest workloads are stopped twice. `make points` runs all of it at full measure; a smaller measure
of each is among all other tests.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_enumeration_is_recorded_at_full_measure() {
        let record = Record::read().unwrap();
        for Enumeration { name, .. } in TABLE {
            assert!(record.figure(name, "points") > 0, "{name}; run: make points");
        }
        assert!(record.all("points") >= 30_000 && record.all("images") >= 500);
    }

    /// What counts writes down a name that is known here, and the other way round.
    #[test]
    fn every_test_that_counts_has_its_row() {
        for Enumeration { name, test, .. } in TABLE.iter().chain([&YEAR]) {
            let path: Vec<&str> = test.split("::").collect();
            let (function, modules) = path.split_last().unwrap();
            let file = |path: &str| {
                let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
                std::fs::read_to_string(root.join(path).with_extension("rs")).unwrap()
            };
            let text = file(&modules.join("/"));
            assert!(text.contains(&format!("fn {function}()")), "{test}");
            assert!(text.contains(&format!("\"{name}\"")), "{test} records {name}");
        }
    }
}
