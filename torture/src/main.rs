//! Faults, kills and an oracle: the proof that what bakelite restores is right.
//!
//! `torture run` tries scenarios on the real program, `torture suite` some of them on an operator's own
//! storage, `torture matrix` writes down what was tried,
//! `torture fuzz` feeds wrong inputs to every parser, `torture demo` shows the program at work, `torture
//! bench` measures it. `torture writer` is the workload, started by `run` as a process that can be killed,
//! and `torture load` the one of `bench`.

mod bench;
mod bytes;
mod clock;
mod course;
mod demo;
mod digest;
mod fuzz;
mod ledger;
mod matrix;
mod meanwhile;
mod mutants;
mod oracle;
mod points;
mod process;
mod record;
mod replica;
mod rig;
mod rng;
mod run;
mod saboteurs;
mod scenarios;
mod soak;
mod store;
mod suite;
mod tally;
mod workload;

use argh::FromArgs;
use matrix::Records;
use rig::Programs;
use run::{Outcome, Plan, Summary};
use scenarios::{INVENTORY, Scenario};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Tries bakelite under faults and kills, and judges what it restores.
///
/// Exit status: 0 right, 10 stale matrix, 11 a fault never happened, 12 nothing was graded, 13 the
/// harness is broken, 14 violation.
#[derive(FromArgs)]
struct Args {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Run(Run),
    Matrix(Matrix),
    List(List),
    Demo(Demo),
    Bench(Bench),
    Saboteurs(Saboteurs),
    Points(Points),
    Fuzz(fuzz::Args),
    Soak(Soak),
    Mutants(Mutants),
    Suite(suite::Args),
    Load(bench::load::Args),
    Writer(workload::writer::Args),
}

/// try scenarios, all of them if none is named
#[derive(FromArgs)]
#[argh(subcommand, name = "run")]
struct Run {
    /// their names, as `torture list` gives them
    #[argh(positional)]
    scenarios: Vec<String>,
    /// the first seed; with scenarios named, the only one
    #[argh(option)]
    seed: Option<u64>,
    /// how many seeds for each scenario
    #[argh(option)]
    seeds: Option<u64>,
    /// go on with further seeds for so many minutes
    #[argh(option)]
    minutes: Option<f64>,
    /// let what takes minutes take them, as in runs of half an hour and more
    #[argh(switch)]
    long: bool,
    /// the bakelite to try; else the one beside this program
    #[argh(option)]
    bin: Option<PathBuf>,
    /// fail if fewer kills of the daemon than this come of it
    #[argh(option, default = "0")]
    kills: u64,
    /// fail if fewer restores than this are graded
    #[argh(option, default = "0")]
    restores: u64,
    /// how many at a time; many of them wait more than they work
    #[argh(option, default = "3")]
    jobs: usize,
    /// where to make the runs' directories; else the system's temporary one
    #[argh(option)]
    root: Option<PathBuf>,
    /// where to write the figures; else target/torture/last-run.json
    #[argh(option)]
    figures: Option<PathBuf>,
}

/// write torture/CORRECTNESS.md from the last run's figures
#[derive(FromArgs)]
#[argh(subcommand, name = "matrix")]
struct Matrix {
    /// only say whether the page shows what the harness does
    #[argh(switch)]
    check: bool,
    /// fail if what all campaigns have counted is less than a full run has to
    #[argh(switch)]
    full: bool,
}

/// name the scenarios
#[derive(FromArgs)]
#[argh(subcommand, name = "list")]
struct List {}

/// a live database, a killed daemon, a restore, and the proof that it is right
#[derive(FromArgs)]
#[argh(subcommand, name = "demo")]
struct Demo {
    /// the bakelite to show; else the one beside this program
    #[argh(option)]
    bin: Option<PathBuf>,
}

/// measure what is promised and print it beside its bound
#[derive(FromArgs)]
#[argh(subcommand, name = "bench")]
struct Bench {
    /// saturated, lag, one-dead, shipping, idle, large; all without one
    #[argh(positional)]
    figures: Vec<String>,
    /// less of everything
    #[argh(switch)]
    quick: bool,
    /// the bakelite to measure; else the one beside this program
    #[argh(option)]
    bin: Option<PathBuf>,
}

/// run wrong programs, all of them if none is named, until each is caught
#[derive(FromArgs)]
#[argh(subcommand, name = "saboteurs")]
struct Saboteurs {
    /// their names
    #[argh(positional)]
    names: Vec<String>,
    /// the first seed
    #[argh(option, default = "1")]
    seed: u64,
    /// how many seeds of a scenario until one counts as not caught
    #[argh(option, default = "8")]
    most: u64,
    /// how many at a time
    #[argh(option, default = "2")]
    jobs: usize,
    /// write down what came of it for the matrix, in torture/records
    #[argh(switch)]
    record: bool,
    /// only name them
    #[argh(switch)]
    list: bool,
}

/// stop the library at every point at full measure, and live its year
#[derive(FromArgs)]
#[argh(subcommand, name = "points")]
struct Points {
    /// their names, as the page gives them; else all
    #[argh(positional)]
    names: Vec<String>,
    /// how many at a time
    #[argh(option, default = "2")]
    jobs: usize,
    /// write down what came of all for the matrix, in torture/records
    #[argh(switch)]
    record: bool,
}

/// run the daemon and writers for long, with random faults, and judge random points in time
#[derive(FromArgs)]
#[argh(subcommand, name = "soak")]
struct Soak {
    /// for so many minutes
    #[argh(option, default = "20.0")]
    minutes: f64,
    /// chooses the database's shape and the faults
    #[argh(option)]
    seed: Option<u64>,
    /// the bakelite to try; else the one beside this program
    #[argh(option)]
    bin: Option<PathBuf>,
    /// write down what came of it for the matrix, in torture/records
    #[argh(switch)]
    record: bool,
}

/// change the core files in one place at a time, and write down what no test of the library notices
#[derive(FromArgs)]
#[argh(subcommand, name = "mutants")]
struct Mutants {
    /// the files, as src/wal.rs; else all that are tried
    #[argh(positional)]
    files: Vec<String>,
}

impl Verb {
    /// Whether what comes of it is kept, and with it which commit it was of.
    fn is_campaign(&self) -> bool {
        use Verb::{Fuzz, Mutants, Points, Run, Saboteurs, Soak};
        matches!(self, Run(_) | Points(_) | Fuzz(_) | Soak(_) | Mutants(_) | Saboteurs(_))
    }
}

fn main() -> ExitCode {
    if let Some(ended) = clock::program() {
        return ended;
    }
    let args: Args = argh::from_env();
    if args.verb.is_campaign() {
        run::commit();
    }
    let done = match args.verb {
        Verb::Run(args) => {
            let (least, figures) = ((args.kills, args.restores), args.figures.clone());
            plan(args).and_then(|plan| try_out(&plan, least, figures))
        }
        Verb::Matrix(Matrix { check: true, .. }) => Ok(check_matrix()),
        Verb::Matrix(Matrix { check: false, full }) => write_matrix(full),
        Verb::List(List {}) => Ok(list()),
        Verb::Demo(Demo { bin }) => on_stage("demo", bin, demo::run),
        Verb::Bench(Bench { figures, quick, bin }) => {
            let size = if quick { bench::QUICK } else { bench::FULL };
            on_stage("bench", bin, |programs, dir| bench::run(programs, dir, size, &figures))
        }
        Verb::Saboteurs(args) => sabotage(&args),
        Verb::Points(args) => count(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Soak(args) => soak(args),
        Verb::Mutants(Mutants { files }) => {
            target().and_then(|target| mutants::run(&files, &target)).map(|()| Outcome::Right)
        }
        Verb::Suite(args) => return suite(args),
        Verb::Writer(args) => return ended("writer", workload::writer::run(&args)),
        Verb::Load(args) => return ended("load", bench::load::run(&args)),
    };
    let outcome = done.unwrap_or_else(|error| {
        eprintln!("torture: {error}");
        Outcome::Broken
    });
    ExitCode::from(outcome as u8)
}

fn ended(verb: &str, done: workload::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("torture {verb}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> Outcome {
    INVENTORY.iter().for_each(|Scenario { name, adversity, .. }| println!("{name:20} {adversity}"));
    Outcome::Right
}

/// A run that is long enough for what takes minutes.
const CAMPAIGN: Duration = Duration::from_secs(30 * 60);

fn plan(args: Run) -> Result<Plan, String> {
    let named: Option<Vec<&Scenario>> =
        args.scenarios.iter().map(|name| scenarios::find(name)).collect();
    let named = named.ok_or("no such scenario; run: torture list")?;
    let replay = !named.is_empty() && args.seed.is_some();
    let time = args.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    Ok(Plan {
        scenarios: if named.is_empty() { INVENTORY.iter().collect() } else { named },
        seed: args.seed.unwrap_or_else(some_seed),
        seeds: args.seeds.or(replay.then_some(1)),
        time,
        long: args.long || time.is_some_and(|time| time >= CAMPAIGN),
        jobs: args.jobs.max(1),
        programs: programs(args.bin)?,
        root: args.root.unwrap_or_else(std::env::temp_dir),
        at: None,
    })
}

/// This program and the one to try.
fn programs(bakelite: Option<PathBuf>) -> Result<Programs, String> {
    let torture = std::env::current_exe().map_err(|error| error.to_string())?;
    let bakelite = bakelite.unwrap_or_else(|| torture.with_file_name("bakelite"));
    let there = bakelite.canonicalize();
    let bakelite =
        there.map_err(|error| format!("{}: {error}; run: cargo build", bakelite.display()))?;
    Ok(Programs { bakelite, torture })
}

/// Runs `show` in a directory of its own, which stays if something was wrong.
fn on_stage(
    name: &str,
    bin: Option<PathBuf>,
    show: impl FnOnce(&Programs, &Path) -> rig::Result<()>,
) -> Result<Outcome, String> {
    let programs = programs(bin)?;
    let dir = tempfile::Builder::new().prefix(&format!("bakelite-{name}-")).tempdir();
    let dir = dir.map_err(|error| error.to_string())?;
    let Err(failure) = show(&programs, dir.path()) else {
        return Ok(Outcome::Right);
    };
    println!("\n{failure}\nkept: {}", dir.keep().display());
    Ok(match failure {
        rig::Failure::Violation(_) => Outcome::Violation,
        rig::Failure::Harness(_) | rig::Failure::NotPermitted(_) => Outcome::Broken,
    })
}

/// `least`: so many kills and restores, or it proves too little.
fn try_out(plan: &Plan, least: (u64, u64), figures: Option<PathBuf>) -> Result<Outcome, String> {
    let summary = run::run(plan);
    summary.print();
    let path = figures.map_or_else(last_run, Ok)?;
    summary.write(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let tally::Tally { kills, restores, .. } = summary.total();
    if kills >= least.0 && restores >= least.1 {
        return Ok(summary.outcome);
    }
    println!("fewer than {} kills and {} restores", least.0, least.1);
    Ok(summary.outcome.max(Outcome::NothingGraded))
}

fn soak(args: Soak) -> Result<Outcome, String> {
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    let plan = soak::Plan { seed: args.seed.unwrap_or_else(some_seed), time };
    let mut shown = None;
    let outcome = on_stage("soak", args.bin, |programs, dir| {
        shown = Some(soak::run(programs, dir, plan)?);
        Ok(())
    })?;
    let Some(record) = shown else { return Ok(outcome) };
    println!("\n{}", record.section());
    if args.record {
        record.keep()?;
        write_page()?;
    }
    Ok(outcome)
}

/// Ends with 0 or 1: whoever tries a store of his own asks for no more.
fn suite(args: suite::Args) -> ExitCode {
    let plan = programs(args.bin.clone()).and_then(|programs| args.plan(programs, some_seed()));
    match plan.and_then(|plan| suite::run(&plan)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("torture suite: {error}");
            ExitCode::FAILURE
        }
    }
}

fn some_seed() -> u64 {
    ledger::Micros::now().0 % 1_000_000_000
}

fn sabotage(args: &Saboteurs) -> Result<Outcome, String> {
    if args.list {
        saboteurs::TABLE.iter().for_each(|it| println!("{:26} {}", it.name, it.wrong));
        return Ok(Outcome::Right);
    }
    let named: Option<Vec<_>> = args.names.iter().map(|name| saboteurs::find(name)).collect();
    let named = named.ok_or("no such saboteur; run: torture saboteurs --list")?;
    if args.record && !named.is_empty() {
        return Err("what is recorded is a run of all of them".to_owned());
    }
    let saboteurs = if named.is_empty() { saboteurs::TABLE.iter().collect() } else { named };
    let began = Instant::now();
    let (caught, outcome) = saboteurs::run(&saboteurs::Plan {
        tests: saboteurs::tests_of(&saboteurs)?,
        saboteurs,
        seed: args.seed,
        most: args.most,
        jobs: args.jobs.max(1),
        torture: programs(None)?.torture,
    })?;
    if args.record {
        saboteurs::Record::new(caught, began.elapsed()).keep()?;
        write_page()?;
    }
    Ok(outcome)
}

fn count(args: &Points) -> Result<Outcome, String> {
    if args.record && !args.names.is_empty() {
        return Err("what is recorded is a run of all of them".to_owned());
    }
    let record = points::run(&args.names, args.jobs, &target()?)?;
    if args.record {
        record.keep()?;
        write_page()?;
    }
    Ok(Outcome::Right)
}

/// The last run's figures become those of the page.
fn write_matrix(full: bool) -> Result<Outcome, String> {
    let summary = Summary::read(&last_run()?)?;
    matrix::complete(&summary)?;
    record::write(record::RUN, &summary.to_json())?;
    write_page()?;
    let short = if full { matrix::short_of(&Records::read()?) } else { Vec::new() };
    short.iter().for_each(|short| println!("{short}"));
    Ok(if short.is_empty() { Outcome::Right } else { Outcome::NothingGraded })
}

/// Page and README, made from all that is recorded.
fn write_page() -> Result<(), String> {
    let records = Records::read()?;
    write(PAGE, &matrix::page(&records))?;
    write(README, &matrix::readme(&read(README)?, &records.run)?)
}

fn check_matrix() -> Outcome {
    let fresh = || {
        let records = Records::read()?;
        matrix::complete(&records.run)?;
        matrix::same(&read(PAGE)?, &matrix::page(&records))
            .map_err(|error| format!("{PAGE}: {error}"))?;
        let readme = read(README)?;
        match matrix::readme(&readme, &records.run)? == readme {
            true => Ok(()),
            false => Err(format!("{README}: its figures are not those of the last run")),
        }
    };
    match fresh() {
        Ok(()) => Outcome::Right,
        Err(error) => {
            eprintln!("torture: {error}; run: make torture matrix");
            Outcome::StaleMatrix
        }
    }
}

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/CORRECTNESS.md");
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");

fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

fn write(path: &str, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{path}: {error}"))
}

/// `target/torture/last-run.json`, whatever directory this is called from.
fn last_run() -> Result<PathBuf, String> {
    Ok(target()?.join("torture/last-run.json"))
}

fn target() -> Result<PathBuf, String> {
    let torture = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = torture.parent().and_then(Path::parent).ok_or("this program lies nowhere")?;
    Ok(target.to_owned())
}
