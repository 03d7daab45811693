//! Running scenarios: seeds as jobs on a few threads, figures, verdict, exit status.

use crate::matrix;
use crate::replica::{self, rfc3339};
use crate::rig::{self, Failure, Programs, Rig};
use crate::scenarios::{INVENTORY, Idle, Scenario};
use crate::tally::Tally;
use bakelite::config::Destination;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// Exit statuses, one for each kind of failure; the gravest one wins. (argh itself ends with 1.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Right = 0,
    /// The matrix does not show what the harness does.
    StaleMatrix = 10,
    /// A fault never fired: nothing is proved.
    NeverFired = 11,
    /// A scenario graded nothing: nothing is proved.
    NothingGraded = 12,
    /// The harness does not work.
    Broken = 13,
    Violation = 14,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub scenarios: Vec<&'static Scenario>,
    pub seed: u64,
    /// For each scenario; as the inventory says without it.
    pub seeds: Option<u64>,
    /// Go on with further seeds until so much time has passed.
    pub time: Option<Duration>,
    pub jobs: usize,
    pub programs: Programs,
    /// Whether what takes minutes may take them.
    pub long: bool,
    /// Where the runs' directories are made.
    pub root: PathBuf,
    /// The replica of each run lies below this place; in its directory without it.
    pub at: Option<Destination>,
}

/// What a run has shown.
#[derive(Clone, Debug)]
pub struct Summary {
    pub seed: u64,
    pub seconds: f64,
    pub jobs: usize,
    pub commit: String,
    pub date: String,
    pub tallies: BTreeMap<String, Tally>,
    pub outcome: Outcome,
    /// What went wrong, with the command that does it again; nothing that is kept.
    pub failures: Vec<String>,
}

pub fn run(plan: &Plan) -> Summary {
    println!("seed {}", plan.seed);
    let began = Instant::now();
    let shared = Shared::default();
    shared.work(plan, began);
    let tallies = shared.tallies.into_inner().expect("no job panics while it adds");
    let mut outcome = Outcome::Right;
    if shared.broken.into_inner() {
        outcome = Outcome::Broken;
    }
    for scenario in &plan.scenarios {
        outcome = outcome.max(verdict(scenario, &tallies[scenario.name]));
    }
    // One scenario that may not be tried here takes nothing from the others. All of them prove nothing.
    if tallies.values().all(Tally::is_barred) {
        outcome = outcome.max(Outcome::NothingGraded);
    }
    let (commit, date) = (commit(), today());
    let seconds = began.elapsed().as_secs_f64();
    let failures = shared.failures.into_inner().expect("no job panics while it adds");
    Summary { seed: plan.seed, seconds, jobs: plan.jobs, commit, date, tallies, outcome, failures }
}

impl Plan {
    /// Each round takes seeds that no round before it took. Scenarios alternate, so that a run that
    /// is cut short has seen something of each.
    fn round(&self, round: u64) -> Vec<Job> {
        let seeds = |scenario: &Scenario| self.seeds.unwrap_or(scenario.seeds);
        let most = self.scenarios.iter().map(|scenario| seeds(scenario)).max().unwrap_or(0);
        // Scenarios choose by remainders of the seed: by 2, 3, 4 and 8, of which none may stay the same.
        let stride = (most..).find(|n| n % 2 > 0 && n % 3 > 0).expect("every sixth is such a one");
        let mut jobs = Vec::new();
        for index in 0..most {
            for &scenario in self.scenarios.iter().filter(|scenario| index < seeds(scenario)) {
                jobs.push(Job { scenario, seed: self.seed + round * stride + index });
            }
        }
        jobs
    }
}

#[derive(Clone, Copy, Debug)]
struct Job {
    scenario: &'static Scenario,
    seed: u64,
}

#[derive(Default)]
struct Shared {
    tallies: Mutex<BTreeMap<String, Tally>>,
    broken: AtomicBool,
    failures: Mutex<Vec<String>>,
}

impl Shared {
    /// Round after round: nobody waits for the last one of a round.
    fn work(&self, plan: &Plan, began: Instant) {
        let (length, next) = (plan.round(0).len(), AtomicUsize::new(0));
        let work = || loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            // The first round is what was asked for; only further ones are cut short.
            let over = plan.time.is_none_or(|time| began.elapsed() >= time);
            if over && at >= length {
                return;
            }
            self.one(plan, &plan.round((at / length) as u64)[at % length]);
        };
        thread::scope(|scope| (0..plan.jobs).for_each(|_| drop(scope.spawn(work))));
    }

    fn one(&self, plan: &Plan, job: &Job) {
        let began = Instant::now();
        let (tally, failure) = job.run(plan);
        if let Some(failure) = &failure {
            let failed =
                format!("torture run {} --seed {}: {failure}", job.scenario.name, job.seed);
            println!("{failed}");
            if !matches!(failure, Failure::NotPermitted(_)) {
                self.failures.lock().expect("no job panics while it adds").push(failed);
            }
        }
        if matches!(failure, Some(Failure::Harness(_))) {
            self.broken.store(true, Ordering::Relaxed);
        }
        let seconds = began.elapsed().as_secs_f64();
        let (name, seed, restores) = (job.scenario.name, job.seed, tally.restores);
        println!("{name:20} seed {seed:<8} {seconds:6.1} s {restores:5} restores");
        let mut tallies = self.tallies.lock().expect("no job panics while it adds");
        tallies.entry(job.scenario.name.to_owned()).or_default().add(&tally);
    }
}

/// Fit to be a directory's name.
impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}-{}", self.scenario.name, self.seed)
    }
}

impl Job {
    /// Runs one seed. Its directory goes if all was right, and stays if not.
    fn run(&self, plan: &Plan) -> (Tally, Option<Failure>) {
        let prefix = format!("torture-{self}-");
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(&plan.root);
        let made = dir.map_err(Failure::from).and_then(|dir| {
            let rig = Rig::new(self.seed, &plan.programs, dir.path())?;
            Ok((dir, rig))
        });
        let (dir, mut rig) = match made {
            Ok(made) => made,
            Err(failure) => return (Tally::default(), Some(failure)),
        };
        rig.long = plan.long;
        let replica = plan.at.as_ref().map(|at| at.below(&self.to_string()));
        if let Some(place) = &replica {
            rig.set_destinations(vec![rig::Destination::at(place.clone())]);
        }
        let ended = catch_unwind(AssertUnwindSafe(|| (self.scenario.run)(&mut rig)))
            .unwrap_or_else(|_| Err(Failure::Harness("panicked, see above".into())));
        let finished = rig.finish();
        let failure = ended.and(finished).err();
        let mut tally = std::mem::take(&mut rig.tally);
        tally.seeds = 1;
        drop(rig);
        if let Some(Failure::NotPermitted(_)) = &failure {
            (tally.seeds, tally.not_permitted) = (0, 1);
        } else if let Some(failure) = &failure {
            let kept = dir.keep();
            let long = if plan.long { " --long" } else { "" };
            println!("replay: torture run {} --seed {}{long}", self.scenario.name, self.seed);
            println!("kept: {}", kept.display());
            if let Failure::Violation(what) = failure {
                tally.violations.push(format!("seed {}: {what}", self.seed));
            }
        } else if let Some(Err(error)) = replica.as_ref().map(replica::remove) {
            println!("left: {error}");
        }
        (tally, failure)
    }
}

fn verdict(scenario: &Scenario, tally: &Tally) -> Outcome {
    if !tally.violations.is_empty() {
        return Outcome::Violation;
    }
    if tally.not_permitted > 0 {
        println!("{}: {} seeds not permitted here", scenario.name, tally.not_permitted);
    }
    match scenario.idle(tally) {
        None => Outcome::Right,
        Some(Idle::NothingGraded) => {
            println!("{}: graded nothing", scenario.name);
            Outcome::NothingGraded
        }
        Some(Idle::NeverFired(fault)) => {
            println!("{}: `{fault}` never happened", scenario.name);
            Outcome::NeverFired
        }
    }
}

/// The commit that is tried, as far as git knows one here: the one of the first question, so that what is
/// committed during a long run does not count as tried.
pub fn commit() -> String {
    static COMMIT: OnceLock<String> = OnceLock::new();
    let ask = || {
        let head = Command::new("git").args(["describe", "--always", "--dirty"]).output();
        let head = head.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&head.stdout).trim().to_owned())
    };
    COMMIT.get_or_init(|| ask().unwrap_or_else(|| "unknown".to_owned())).clone()
}

pub fn today() -> String {
    rfc3339(crate::ledger::Micros::now().0 / 1000)[..10].to_owned()
}

impl Summary {
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.tallies.values().for_each(|tally| total.add(tally));
        total
    }

    pub fn print(&self) {
        let line = |name: &str, tally: &Tally| {
            let Tally { seeds, kills, restores, targets, rejected, violations, .. } = tally;
            let wrong = match tally.is_barred() {
                true => matrix::NOT_PERMITTED.to_owned(),
                false => violations.len().to_string(),
            };
            println!(
                "{name:20} {seeds:6} {kills:6} {restores:9} {targets:8} {rejected:9} {wrong:>11}"
            );
        };
        println!("scenario              seeds  kills  restores  targets  rejected  violations");
        for scenario in INVENTORY {
            if let Some(tally) = self.tallies.get(scenario.name) {
                line(scenario.name, tally);
            }
        }
        line("all", &self.total());
        // Whoever has the end of a log only has what to begin with.
        self.failures.iter().for_each(|failed| println!("{failed}"));
        println!("{:.0} s, {} jobs: {:?}", self.seconds, self.jobs, self.outcome);
    }

    pub fn to_json(&self) -> Value {
        let scenarios: BTreeMap<_, _> =
            self.tallies.iter().map(|(name, tally)| (name, tally.to_json())).collect();
        json!({
            "schema": 1, "seed": self.seed, "seconds": self.seconds, "jobs": self.jobs,
            "commit": self.commit, "date": self.date, "outcome": self.outcome as u8,
            "scenarios": scenarios, "all": self.total().to_json(),
        })
    }

    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let json = self.to_json();
        std::fs::create_dir_all(path.parent().expect("a file in a folder"))?;
        std::fs::write(path, format!("{json:#}\n"))
    }

    pub fn read(path: &Path) -> Result<Self, String> {
        let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| said(&error))?;
        let json = serde_json::from_str(&text).map_err(|error| said(&error))?;
        Self::from_json(&json).ok_or_else(|| said(&"not the summary of a run"))
    }

    pub fn from_json(json: &Value) -> Option<Self> {
        let tallies = json["scenarios"].as_object()?.iter();
        let outcome = match json["outcome"].as_u64()? {
            0 => Outcome::Right,
            _ => Outcome::Broken,
        };
        Some(Self {
            seed: json["seed"].as_u64()?,
            seconds: json["seconds"].as_f64()?,
            jobs: usize::try_from(json["jobs"].as_u64()?).ok()?,
            commit: json["commit"].as_str()?.to_owned(),
            date: json["date"].as_str()?.to_owned(),
            tallies: tallies
                .map(|(name, tally)| Some((name.clone(), Tally::from_json(tally)?)))
                .collect::<Option<_>>()?,
            outcome,
            failures: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::{Result, violation};

    fn plan(scenario: &'static Scenario) -> (Plan, tempfile::TempDir) {
        let root = tempfile::tempdir().unwrap();
        let programs = Programs { bakelite: "/none".into(), torture: "/none".into() };
        let path = root.path().to_owned();
        let plan = Plan {
            scenarios: vec![scenario],
            seed: 5,
            seeds: Some(2),
            time: None,
            jobs: 2,
            programs,
            long: false,
            root: path,
            at: None,
        };
        (plan, root)
    }

    fn outcome(scenario: &'static Scenario) -> Outcome {
        run(&plan(scenario).0).outcome
    }

    const fn scenario(run: fn(&mut Rig) -> Result<()>) -> Scenario {
        let (adversity, how) = ("none", "not at all");
        Scenario { name: "probe", adversity, how, seeds: 1, faults: &["probe"], run }
    }

    #[test]
    fn each_kind_of_failure_has_a_status_of_its_own() {
        static RIGHT: Scenario = scenario(|rig| {
            rig.tally.restores += 1;
            rig.tally.fault("probe");
            Ok(())
        });
        static NOTHING: Scenario = scenario(|rig| {
            rig.tally.fault("probe");
            Ok(())
        });
        static NEVER: Scenario = scenario(|rig| {
            rig.tally.restores += 1;
            Ok(())
        });
        static WRONG: Scenario = scenario(|_| violation("wrong"));
        static PANICS: Scenario = scenario(|_| panic!("on purpose"));
        assert_eq!(outcome(&RIGHT), Outcome::Right);
        assert_eq!(outcome(&NOTHING), Outcome::NothingGraded);
        assert_eq!(outcome(&NEVER), Outcome::NeverFired);
        assert_eq!(outcome(&WRONG), Outcome::Violation);
        assert_eq!(outcome(&PANICS), Outcome::Broken);
        assert_eq!(run(&plan(&RIGHT).0).failures, [""; 0]);
        let failed = ["5: violation: wrong", "6: violation: wrong"];
        let mut told = run(&plan(&WRONG).0).failures;
        told.sort();
        assert_eq!(told, failed.map(|failed| format!("torture run probe --seed {failed}")));
    }

    #[test]
    fn trap_106_what_may_not_be_tried_is_neither_right_nor_wrong_and_alone_proves_nothing() {
        static BARRED: Scenario = scenario(|_| Err(Failure::NotPermitted("by nobody".into())));
        static RIGHT: Scenario = Scenario {
            name: "other",
            ..scenario(|rig| {
                rig.tally.restores += 1;
                rig.tally.fault("probe");
                Ok(())
            })
        };
        assert_eq!(outcome(&BARRED), Outcome::NothingGraded);
        let (mut plan, root) = plan(&BARRED);
        plan.scenarios.push(&RIGHT);
        let summary = run(&plan);
        assert_eq!(summary.outcome, Outcome::Right);
        let tally = &summary.tallies["probe"];
        assert_eq!((tally.seeds, tally.not_permitted, tally.is_barred()), (0, 2, true));
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_failure_keeps_its_directory_and_success_does_not() {
        static WRONG: Scenario = scenario(|_| violation("wrong"));
        static RIGHT: Scenario = scenario(|_| Ok(()));
        let left = |scenario| {
            let (plan, root) = plan(scenario);
            run(&plan);
            std::fs::read_dir(root.path()).unwrap().count()
        };
        assert_eq!((left(&WRONG), left(&RIGHT)), (2, 0));
    }

    #[test]
    fn rounds_take_new_seeds() {
        let (plan, _root) = plan(&INVENTORY[0]);
        let seeds = |round| plan.round(round).iter().map(|job| job.seed).collect::<Vec<_>>();
        assert_eq!((seeds(0), seeds(1)), (vec![5, 6], vec![10, 11]));
    }

    #[test]
    fn a_summary_comes_back() {
        let mut tallies = BTreeMap::new();
        tallies.insert("marked".to_owned(), Tally { seeds: 3, ..Tally::default() });
        let (commit, date) = ("abc".to_owned(), today());
        let outcome = Outcome::Right;
        let summary = Summary {
            seed: 1,
            seconds: 2.5,
            jobs: 2,
            commit,
            date,
            tallies,
            outcome,
            failures: Vec::new(),
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("torture/last-run.json");
        summary.write(&path).unwrap();
        let again = Summary::read(&path).unwrap();
        assert_eq!(format!("{again:?}"), format!("{summary:?}"));
    }
}
