//! Each target in a process of its own, so that one which brings its process down is found like one
//! that panics: by the number of its run, which is all that it takes to repeat it.

use super::record::Record;
use super::{Args, BATCH, Fall, Stood, TARGETS, Target, Until, find, seconds};
use crate::rng::Rng;
use crate::run::{Outcome, commit, today};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// What became of one target.
#[derive(Clone, Debug)]
pub struct Report {
    pub name: &'static str,
    pub stood: Stood,
    pub seconds: f64,
    /// The run that fell, and what was wrong.
    fall: Option<(u64, String)>,
}

/// Minutes, where nobody says how long.
const MINUTES: f64 = 1.0;

pub fn run(args: &Args) -> Result<Outcome, String> {
    if args.list {
        TARGETS.iter().for_each(|it| println!("{:10} {}: {}", it.name, it.parses, it.holds));
        return Ok(Outcome::Right);
    }
    let named: Option<Vec<_>> = args.targets.iter().map(|name| find(name)).collect();
    let named = named.ok_or("no such target; run: torture fuzz --list")?;
    let targets = if named.is_empty() { TARGETS.iter().collect() } else { named };
    let seed = args.seed.unwrap_or_else(|| crate::ledger::Micros::now().0 % 1_000_000_000);
    if args.figures.is_none() {
        println!("seed {seed}");
    }
    let campaign = Campaign { args, seed, targets };
    if let [target] = campaign.targets[..]
        && (args.figures.is_some() || args.run.is_some())
    {
        return campaign.alone(target);
    }
    if args.record && campaign.targets.len() < TARGETS.len() {
        return Err("what is recorded is a campaign of all targets".to_owned());
    }
    let began = Instant::now();
    let reports = campaign.all()?;
    let outcome = reports.iter().map(Report::outcome).max().unwrap_or(Outcome::NothingGraded);
    let runs: u64 = reports.iter().map(|report| report.stood.runs()).sum();
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    println!("{runs} runs of {} targets in {minutes:.1} minutes", reports.len());
    if args.record && outcome == Outcome::Right {
        let (date, commit, jobs) = (today(), commit(), args.jobs);
        Record {
            date,
            commit,
            seed,
            minutes,
            jobs,
            targets: reports.iter().map(Into::into).collect(),
        }
        .keep()?;
    }
    Ok(outcome)
}

#[derive(Debug)]
struct Campaign<'a> {
    args: &'a Args,
    seed: u64,
    targets: Vec<&'static Target>,
}

impl Campaign<'_> {
    /// One target in this process, which may not come back from it.
    fn alone(&self, target: &Target) -> Result<Outcome, String> {
        let Args { run, runs, minutes, figures, .. } = self.args;
        let began = Instant::now();
        let until = match (run, runs) {
            (Some(_), _) => Until::Runs(1),
            (None, Some(runs)) => Until::Runs(*runs),
            (None, None) => Until::Ended(began + seconds(60.0 * minutes.unwrap_or(MINUTES))),
        };
        let place = figures.as_deref().map(|figures| figures.with_extension("at"));
        let place = place.map(File::create).transpose().map_err(|error| error.to_string())?;
        let tell = |run: u64| {
            // Where it cannot be said, a crash is not found; that is no reason to end.
            place.iter().for_each(|file| drop(file.write_all_at(&run.to_le_bytes(), 0)));
        };
        let (stood, fall) = target.fuzz(self.seed, run.unwrap_or(0), until, tell);
        if let Some(fall) = &fall {
            println!("{}", self.told(target, fall)?);
        }
        let fall = fall.map(|Fall { run, wrong, .. }| (run, wrong));
        let report =
            Report { name: target.name, stood, seconds: began.elapsed().as_secs_f64(), fall };
        if let Some(figures) = figures {
            fs::write(figures, report.to_json().to_string()).map_err(|error| error.to_string())?;
        }
        let alone = run.is_some() && report.fall.is_none();
        Ok(if alone { Outcome::Right } else { report.outcome() })
    }

    /// What a person is told of a fall. The input is kept.
    fn told(&self, target: &Target, fall: &Fall) -> Result<String, String> {
        let (name, seed, run) = (target.name, self.seed, fall.run);
        let dir = match &self.args.keep {
            Some(dir) => dir.clone(),
            None => crate::last_run()?.with_file_name(""),
        };
        let path = dir.join(format!("fuzz-{name}-{seed}-{run}"));
        let kept = fs::create_dir_all(&dir).and_then(|()| fs::write(&path, &fall.input.bytes));
        let kept = match kept {
            Ok(()) => format!("{} ({:?})", path.display(), fall.input.is),
            Err(error) => format!("not at all: {error}"),
        };
        let wrong = &fall.wrong;
        Ok(format!(
            "{name}: {wrong}\nkept: {kept}\nreplay: torture fuzz {name} --seed {seed} --run {run}"
        ))
    }

    /// All of them, a few at a time. Those that take long come first.
    fn all(&self) -> Result<Vec<Report>, String> {
        let mut order = self.targets.clone();
        order.sort_by_key(|target| std::cmp::Reverse(target.share));
        let dir = tempfile::Builder::new().prefix("bakelite-fuzz-").tempdir();
        let dir = dir.map_err(|error| error.to_string())?;
        let (next, reports) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for _ in 0..self.args.jobs.max(1) {
                scope.spawn(|| {
                    while let Some(target) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let report = self.child(target, dir.path());
                        reports.lock().expect("nothing panics under it").push(report);
                    }
                });
            }
        });
        let reports = reports.into_inner().expect("nothing panics under it");
        let mut reports = reports.into_iter().collect::<Result<Vec<_>, String>>()?;
        let place = |report: &Report| TARGETS.iter().position(|it| it.name == report.name);
        reports.sort_by_key(place);
        Ok(reports)
    }

    fn child(&self, target: &'static Target, dir: &Path) -> Result<Report, String> {
        let Args { runs, minutes, jobs, .. } = self.args;
        let figures = dir.join(target.name).with_extension("json");
        let shares: u64 = self.targets.iter().map(|target| target.share).sum();
        let share = target.share as f64 / shares as f64;
        let minutes = minutes.unwrap_or(MINUTES) * share * (*jobs).min(self.targets.len()) as f64;
        let length = match runs {
            Some(runs) => ["--runs".to_owned(), runs.to_string()],
            None => ["--minutes".to_owned(), minutes.to_string()],
        };
        let began = Instant::now();
        let status = self.process(target, &figures, &length)?;
        let report = fs::read_to_string(&figures).ok().and_then(|text| Report::parse(&text));
        let report = match report {
            Some(report) => report,
            None => {
                let run = self.crash(target, dir, &figures)?;
                let fuzzed = Rng::of(self.seed, target.name).of_run(run);
                let input = (target.make)().input(&mut { fuzzed });
                let wrong = format!("it brings the process down: {status}");
                println!("{}", self.told(target, &Fall { run, wrong: wrong.clone(), input })?);
                let (stood, seconds) = (Stood::default(), began.elapsed().as_secs_f64());
                Report { name: target.name, stood, seconds, fall: Some((run, wrong)) }
            }
        };
        println!("{}", report.line());
        Ok(report)
    }

    fn process(
        &self,
        target: &Target,
        figures: &Path,
        length: &[String],
    ) -> Result<ExitStatus, String> {
        let torture = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(torture);
        command.args(["fuzz", target.name, "--seed", &self.seed.to_string()]).args(length);
        command.arg("--figures").arg(figures).stdin(Stdio::null()).stdout(Stdio::inherit());
        if let Some(dir) = &self.args.keep {
            command.arg("--keep").arg(dir);
        }
        command.status().map_err(|error| error.to_string())
    }

    /// The run that brought its process down, found by repeating the last batch one by one.
    fn crash(&self, target: &Target, dir: &Path, figures: &Path) -> Result<u64, String> {
        let at = fs::read(figures.with_extension("at")).unwrap_or_default();
        let first = at.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let one = dir.join(format!("{}-one.json", target.name));
        for run in first..first + BATCH {
            drop(fs::remove_file(&one));
            self.process(target, &one, &["--run".to_owned(), run.to_string()])?;
            if !one.exists() {
                return Ok(run);
            }
        }
        Err(format!("{}: it crashed near run {first}, and not again", target.name))
    }
}

impl Report {
    fn outcome(&self) -> Outcome {
        match &self.fall {
            Some(_) => Outcome::Violation,
            None if self.stood.shows_something() => Outcome::Right,
            None => Outcome::NothingGraded,
        }
    }

    fn line(&self) -> String {
        let Self { name, stood, seconds, fall } = self;
        let Stood { taken, refused } = stood;
        let (runs, rate) = (stood.runs(), stood.runs() as f64 / seconds.max(0.001));
        let fell = if fall.is_some() { ", FELL" } else { "" };
        format!("{name:10} {runs:10} runs, {rate:8.0}/s, {taken} taken, {refused} refused{fell}")
    }

    fn to_json(&self) -> Value {
        let Self { name, stood: Stood { taken, refused }, seconds, fall } = self;
        let fall = fall.as_ref().map(|(run, wrong)| json!([run, wrong]));
        json!({"name": name, "taken": taken, "refused": refused, "seconds": seconds, "fall": fall})
    }

    fn parse(text: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(text).ok()?;
        let name = find(json["name"].as_str()?)?.name;
        let stood = Stood { taken: json["taken"].as_u64()?, refused: json["refused"].as_u64()? };
        let fall = &json["fall"];
        let fall = fall[0].as_u64().zip(fall[1].as_str()).map(|(run, it)| (run, it.to_owned()));
        Some(Self { name, stood, seconds: json["seconds"].as_f64()?, fall })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_comes_back_from_another_process() {
        let stood = Stood { taken: 3, refused: 4 };
        for fall in [None, Some((9, "it \"panics\"".to_owned()))] {
            let report = Report { name: "wal", stood, seconds: 1.5, fall: fall.clone() };
            let again = Report::parse(&report.to_json().to_string()).unwrap();
            assert_eq!((again.stood, again.seconds, again.fall.clone()), (stood, 1.5, fall));
            assert_eq!(again.outcome(), report.outcome());
        }
        assert!(Report::parse("{\"name\": \"wal\"}").is_none());
    }
}
