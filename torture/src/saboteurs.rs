//! Wrong programs, each to be caught: the proof that the harness sees what it claims to see.
//!
//! One build, with bakelite's feature `sabotage`, is all of them: the name of one is in its environment.
//! Each runs through what is to catch it, with rising seeds, until that finds a violation. It counts
//! only if the same build without a name, with the same seed, is found right. What nobody catches is a
//! hole in the harness, and a failure.
//!
//! What cannot be seen from outside (a nonce used twice, a sync left out where no power can be cut) is
//! for a test of the library to see, built the same way.

mod table;

use crate::record;
use crate::run::{self, Outcome, Summary};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
pub use table::TABLE;

#[derive(Clone, Copy, Debug)]
pub struct Saboteur {
    pub name: &'static str,
    /// What it leaves out.
    pub wrong: &'static str,
    /// The invariant that is broken then.
    pub breaks: &'static str,
    /// In the order in which they are tried.
    pub catchers: &'static [Catcher],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Catcher {
    Scenario(&'static str),
    /// Of the library, or all tests of a module.
    Test(&'static str),
}

/// What it says of itself where it is none of them.
const NOBODY: &str = "";
const VARIABLE: &str = "BAKELITE_SABOTAGE";

/// What is to be tried.
#[derive(Debug)]
pub struct Plan {
    pub saboteurs: Vec<&'static Saboteur>,
    pub seed: u64,
    /// Seeds for each scenario, until a saboteur counts as not caught.
    pub most: u64,
    pub jobs: usize,
    /// The sabotaged harness, and its library's tests.
    pub torture: PathBuf,
    pub tests: PathBuf,
}

/// What became of one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    pub name: String,
    /// By which scenario or test; none has.
    pub by: Option<String>,
    /// How many it took.
    pub seeds: u64,
    /// What was seen.
    pub saw: String,
}

pub fn find(name: &str) -> Option<&'static Saboteur> {
    TABLE.iter().find(|saboteur| saboteur.name == name)
}

pub fn run(plan: &Plan) -> Result<(Vec<Caught>, Outcome), String> {
    if !bakelite::sabotage::BUILT_IN {
        return Err("this harness tries honest programs only; run: make saboteurs".to_owned());
    }
    println!("seed {}", plan.seed);
    let work =
        Work { plan, next: AtomicUsize::new(0), all: Mutex::default(), honest: Mutex::default() };
    thread::scope(|scope| {
        (0..plan.jobs).for_each(|_| drop(scope.spawn(|| work.run())));
    });
    let all = work.all.into_inner().expect("nothing panics under it");
    let all: Vec<Caught> = all.into_iter().collect::<Result<_, String>>()?;
    let honest = work.honest.into_inner().expect("nothing panics under it");
    let wrong: Vec<_> = honest.iter().filter_map(|(of, saw)| Some((of, saw.as_ref()?))).collect();
    let missed = all.iter().filter(|caught| caught.by.is_none()).count();
    println!("{} of {} caught", all.len() - missed, all.len());
    println!(
        "{} of {} runs of the honest program were right",
        honest.len() - wrong.len(),
        honest.len()
    );
    for ((catcher, seed), saw) in &wrong {
        println!("the honest program, {} --seed {seed}: {saw}", catcher.name());
    }
    let right = missed == 0 && wrong.is_empty();
    Ok((all, if right { Outcome::Right } else { Outcome::Violation }))
}

/// What the threads share.
struct Work<'a> {
    plan: &'a Plan,
    next: AtomicUsize,
    all: Mutex<Vec<Result<Caught, String>>>,
    /// What was seen in the honest program, by what, with which seed.
    honest: Mutex<BTreeMap<(Catcher, u64), Option<String>>>,
}

impl Work<'_> {
    fn run(&self) {
        let saboteurs = &self.plan.saboteurs;
        while let Some(saboteur) = saboteurs.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let caught = self.catch(saboteur);
            match &caught {
                Ok(caught) => println!("{}", caught.line()),
                Err(error) => println!("{}: {error}", saboteur.name),
            }
            self.all.lock().expect("nothing panics under it").push(caught);
        }
    }

    fn catch(&self, saboteur: &Saboteur) -> Result<Caught, String> {
        let name = saboteur.name.to_owned();
        let Plan { seed: first, most, .. } = *self.plan;
        let mut tried = 0;
        for catcher in saboteur.catchers {
            let seeds = if let Catcher::Test(_) = catcher { 1 } else { most };
            for seed in first..first + seeds {
                tried += 1;
                let saw = self.plan.see(saboteur.name, *catcher, seed)?;
                if let Some(saw) = saw
                    && self.is_honest(*catcher, seed)?
                {
                    return Ok(Caught { name, by: Some(catcher.name()), seeds: tried, saw });
                }
            }
        }
        Ok(Caught { name, by: None, seeds: tried, saw: String::new() })
    }

    /// Whether what has seen something sees nothing in the honest program: else it means nothing.
    fn is_honest(&self, catcher: Catcher, seed: u64) -> Result<bool, String> {
        let honest = || self.honest.lock().expect("nothing panics under it");
        if let Some(known) = honest().get(&(catcher, seed)) {
            return Ok(known.is_none());
        }
        let saw = self.plan.see(NOBODY, catcher, seed)?;
        let right = saw.is_none();
        honest().insert((catcher, seed), saw);
        Ok(right)
    }
}

impl Plan {
    /// What is wrong with this program; nothing, as far as this one sees.
    fn see(&self, name: &str, catcher: Catcher, seed: u64) -> Result<Option<String>, String> {
        match catcher {
            Catcher::Scenario(scenario) => self.see_scenario(name, scenario, seed),
            Catcher::Test(test) => self.see_test(name, test),
        }
    }

    fn see_scenario(
        &self,
        name: &str,
        scenario: &str,
        seed: u64,
    ) -> Result<Option<String>, String> {
        let failed = |error: std::io::Error| format!("{scenario}: {error}");
        let dir = tempfile::Builder::new().prefix("saboteur-").tempdir().map_err(failed)?;
        let figures = dir.path().join("figures.json");
        let mut command = Command::new(&self.torture);
        command.args(["run", scenario, "--seed", &seed.to_string(), "--jobs", "1"]);
        command.arg("--root").arg(dir.path()).arg("--figures").arg(&figures);
        let output = as_saboteur(&mut command, name).output().map_err(failed)?;
        let summary = Summary::read(&figures);
        let said = || String::from_utf8_lossy(&output.stdout).into_owned();
        let summary = summary.map_err(|error| format!("{name}: {error}: {}", said()))?;
        let mut violations = summary.total().violations.into_iter();
        let broken = output.status.code() == Some(Outcome::Broken as i32);
        match violations.next() {
            Some(violation) => Ok(Some(without_dir(&violation, dir.path()))),
            None if broken && name == NOBODY => {
                Err(format!("{scenario} --seed {seed}: {}", said()))
            }
            // Not every fault comes with every seed, and a harness that breaks has seen nothing.
            None => Ok(None),
        }
    }

    fn see_test(&self, name: &str, test: &str) -> Result<Option<String>, String> {
        let output = as_saboteur(Command::new(&self.tests).args([test, "--quiet"]), name).output();
        let output = output.map_err(|error| format!("{}: {error}", self.tests.display()))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if said.contains("running 0 tests") {
            return Err(format!("there is no test {test}"));
        }
        // In the list at the end each name has a line of its own.
        let mut names = said.lines().filter_map(|line| line.strip_prefix("    "));
        let failed = names.rfind(|name| name.contains(test)).unwrap_or(test).to_owned();
        Ok((!output.status.success()).then_some(failed))
    }
}

fn as_saboteur<'a>(command: &'a mut Command, name: &str) -> &'a mut Command {
    command.stdin(Stdio::null()).stderr(Stdio::null()).env_remove(VARIABLE);
    if name == NOBODY { command } else { command.env(VARIABLE, name) }
}

/// What was seen, without what is different each time.
fn without_dir(saw: &str, dir: &Path) -> String {
    saw.replace(&*dir.to_string_lossy(), "DIR").chars().filter(|c| !c.is_control()).collect()
}

/// Builds the library's tests as saboteurs, if any of them is needed, and says where they are.
pub fn tests_of(saboteurs: &[&Saboteur]) -> Result<PathBuf, String> {
    let mut catchers = saboteurs.iter().flat_map(|saboteur| saboteur.catchers);
    if !catchers.any(|catcher| matches!(catcher, Catcher::Test(_))) {
        return Ok(PathBuf::new());
    }
    build_tests(&["--profile", "sabotage", "--features", "sabotage"])
}

/// Builds the library's tests, and says where they are.
pub fn build_tests(options: &[&str]) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--no-run", "--package", "bakelite", "--lib"]).args(options);
    command.args(["--message-format", "json"]);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let messages = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut built = messages.filter_map(|it| it["executable"].as_str().map(PathBuf::from));
    let built = built.next_back();
    built.filter(|_| output.status.success()).ok_or_else(|| "cargo test --no-run failed".into())
}

impl Catcher {
    fn name(self) -> String {
        match self {
            Self::Scenario(name) => name.to_owned(),
            Self::Test(name) => format!("test {name}"),
        }
    }
}

impl Caught {
    fn line(&self) -> String {
        let Self { name, by, seeds, saw } = self;
        match by {
            Some(by) => format!("{name:26} caught by {by} after {seeds}: {saw}"),
            None => format!("{name:26} NOT CAUGHT"),
        }
    }

    fn to_json(&self) -> Value {
        let Self { name, by, seeds, saw } = self;
        json!({ "name": name, "by": by, "seeds": seeds, "saw": saw })
    }

    fn from_json(json: &Value) -> Option<Self> {
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        let seeds = json["seeds"].as_u64()?;
        Some(Self { name: text("name")?, by: text("by"), seeds, saw: text("saw")? })
    }
}

/// What came of all of them, for the matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    date: String,
    commit: String,
    pub minutes: f64,
    caught: Vec<Caught>,
}

impl Record {
    pub fn new(mut caught: Vec<Caught>, took: Duration) -> Self {
        caught.sort_by_key(|caught| TABLE.iter().position(|it| it.name == caught.name));
        let minutes = took.as_secs_f64() / 60.0;
        Self { date: run::today(), commit: run::commit(), minutes, caught }
    }

    pub fn read() -> Result<Self, String> {
        record::read(record::SABOTEURS, Self::from_json)
    }

    pub fn keep(&self) -> Result<(), String> {
        record::write(record::SABOTEURS, &self.to_json())
    }

    /// How many were, of all in the table.
    pub fn caught(&self) -> usize {
        self.caught.iter().filter(|caught| caught.by.is_some()).count()
    }

    fn to_json(&self) -> Value {
        let caught: Vec<_> = self.caught.iter().map(Caught::to_json).collect();
        let Self { date, commit, minutes, .. } = self;
        json!({ "date": date, "commit": commit, "minutes": minutes, "saboteurs": caught })
    }

    fn from_json(json: &Value) -> Option<Self> {
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        let caught = json["saboteurs"].as_array()?.iter().map(Caught::from_json);
        let caught = caught.collect::<Option<_>>()?;
        let minutes = json["minutes"].as_f64()?;
        Some(Self { date: text("date")?, commit: text("commit")?, minutes, caught })
    }

    /// The section of the matrix.
    pub fn section(&self) -> String {
        let (caught, Self { date, commit, minutes, .. }) = (self.caught(), self);
        let mut text = format!(
            "{TEXT}\nSaboteurs: {date}, commit {commit}, {minutes:.1} minutes, {caught} of {} caught.\n\n\
             | wrong program | what it does | breaks | caught by | seeds |\n|---|---|---|---|--:|\n",
            TABLE.len()
        );
        for Saboteur { name, wrong, breaks, .. } in TABLE {
            let found = self.caught.iter().find(|caught| caught.name == *name);
            let by = found.and_then(|caught| caught.by.as_deref()).unwrap_or("nobody");
            let seeds = found.map_or(0, |caught| caught.seeds);
            let _ = writeln!(text, "| {name} | {wrong} | {breaks} | {by} | {seeds} |");
        }
        text
    }
}

const TEXT: &str = "
## Wrong programs

A harness that finds nothing proves little unless it would have found something. Each of these programs
leaves out one thing that bakelite takes care of; the same build without a name is found right by all
that is to catch them. `make saboteurs` runs each through what is to catch it, with rising seeds, until
that finds a violation. What cannot be seen from outside is for a test of the library to see. I1 to I10
are the invariants of the design.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios;
    use std::collections::BTreeSet;

    /// The names that the code of the program asks for.
    fn hooks(dir: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                hooks(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("sabotage::is(\"").skip(1);
            found.extend(names.map(|rest| rest.split('"').next().unwrap().to_owned()));
        }
    }

    #[test]
    fn every_hook_has_its_row_and_every_row_its_hook() {
        let mut found = BTreeSet::new();
        hooks(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../src")), &mut found);
        let rows: BTreeSet<String> = TABLE.iter().map(|row| row.name.to_owned()).collect();
        assert_eq!(found, rows);
        assert_eq!(rows.len(), TABLE.len());
        assert!(rows.len() >= 30);
    }

    /// A test by its path, or a module of them: the library's tests end well if none has the name.
    fn is_there(test: &str) -> bool {
        let path: Vec<&str> = test.split("::").collect();
        let (name, modules) = path.split_last().unwrap();
        let inline = &modules[..modules.len() - 1];
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
        [modules, inline].iter().filter(|it| !it.is_empty()).any(|modules| {
            let file = root.join(modules.join("/")).with_extension("rs");
            let text = std::fs::read_to_string(file).unwrap_or_default();
            text.contains(&format!("fn {name}(")) || text.contains(&format!("mod {name}"))
        })
    }

    #[test]
    fn what_is_to_catch_them_is_there() {
        for Saboteur { name, catchers, .. } in TABLE {
            assert!(!catchers.is_empty(), "{name}");
            for catcher in *catchers {
                let there = match catcher {
                    Catcher::Scenario(scenario) => scenarios::find(scenario).is_some(),
                    Catcher::Test(test) => is_there(test),
                };
                assert!(there, "{name}: {catcher:?}");
            }
        }
    }

    /// The page shows what was recorded last, and that is of all of them.
    #[test]
    fn every_saboteur_is_recorded_as_caught() {
        let record = Record::read().unwrap();
        for Saboteur { name, catchers, .. } in TABLE {
            let found = record.caught.iter().find(|caught| caught.name == *name);
            let by = found.and_then(|caught| caught.by.clone());
            let known = by.is_some_and(|by| catchers.iter().any(|catcher| catcher.name() == by));
            assert!(known, "{name}; run: make saboteurs");
        }
        assert_eq!(record.caught.len(), TABLE.len());
    }

    #[test]
    fn a_record_comes_back_in_the_order_of_the_table() {
        let caught = |name: &str, seeds| Caught {
            name: name.to_owned(),
            by: Some("marked".to_owned()),
            seeds,
            saw: "it".to_owned(),
        };
        let (first, second) = (TABLE[0].name, TABLE[1].name);
        let all = vec![caught(second, 1), caught(first, 2)];
        let record = Record::new(all, Duration::from_secs(90));
        assert_eq!(record.caught, [caught(first, 2), caught(second, 1)]);
        assert_eq!((record.caught(), record.minutes), (2, 1.5));
        assert_eq!(Record::from_json(&record.to_json()), Some(record));
    }
}
