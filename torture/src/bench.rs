//! `torture bench`: the figures that are promised, each measured beside its bound.
//!
//! What is compared runs in turns, A B A B, and a figure is the median of the runs; a ratio is taken
//! within each turn. It reports and never asserts: a busy machine is no failure. What it restores has
//! to be right all the same.

mod daily;
mod dead;
mod delta;
pub mod load;
mod many;
mod sealed;
mod small;
mod watched;

use crate::ledger::Micros;
use crate::rig::{Failure, Programs, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use watched::{Place, copy, objects, stored};

const MIB: f64 = 1_048_576.0;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    runs: u64,
    saturate_s: u64,
    lags: u64,
    ship_s: u64,
    idle: u64,
    idle_s: u64,
    /// Commits of each database that is written to, two a second.
    many: u64,
    mib: u64,
    daily_mib: u64,
    changes: u64,
}

pub const FULL: Size = Size {
    runs: 3,
    saturate_s: 6,
    lags: 40,
    ship_s: 20,
    idle: 1000,
    idle_s: 30,
    many: 1200,
    mib: 256,
    daily_mib: 1024,
    changes: 2000,
};

/// Tells whether something is far off, in about a minute.
pub const QUICK: Size = Size {
    runs: 3,
    saturate_s: 2,
    lags: 10,
    ship_s: 5,
    idle: 100,
    idle_s: 10,
    many: 20,
    mib: 64,
    daily_mib: 64,
    changes: 500,
};

struct Bench<'a> {
    programs: &'a Programs,
    dir: &'a Path,
    size: Size,
    serial: u64,
}

type Measure = fn(&mut Bench<'_>) -> Result<()>;

/// What is measured, by name.
const FIGURES: [(&str, Measure); 11] = [
    ("saturated", |bench| {
        bench.saturated("default autocheckpoint", 1000)?;
        bench.saturated("autocheckpoint off", 0)
    }),
    ("lag", |bench| bench.lag()),
    ("one-dead", |bench| bench.one_dead()),
    ("shipping", |bench| bench.shipping()),
    ("idle", |bench| bench.idle()),
    ("large", |bench| bench.large()),
    ("daily", |bench| bench.daily()),
    ("sealed", |bench| bench.sealed()),
    ("delta", |bench| bench.delta()),
    ("small", |bench| bench.starts()),
    ("many", |bench| bench.many()),
];

/// Measures what is named, or all.
pub fn run(programs: &Programs, dir: &Path, size: Size, named: &[String]) -> Result<()> {
    if let Some(unknown) = named.iter().find(|name| FIGURES.iter().all(|(it, _)| it != name)) {
        let names = FIGURES.map(|(name, _)| name).join(", ");
        return Err(Failure::Harness(format!("{unknown}: no such figure; there are: {names}")));
    }
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    println!("medians of {} runs, load {load} at the start\n", size.runs);
    println!("{:52} {:>10} {:>10}", "figure", "bound", "measured");
    let mut bench = Bench { programs, dir, size, serial: 0 };
    let wanted = |name: &str| named.is_empty() || named.iter().any(|it| it == name);
    FIGURES.iter().filter(|(name, _)| wanted(name)).try_for_each(|(_, measure)| measure(&mut bench))
}

fn row(figure: &str, bound: &str, measured: f64) {
    println!("{figure:52} {bound:>10} {measured:>10.3}");
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value below which so many of a hundred lie.
fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let at = (values.len() * percent / 100).min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or(f64::NAN)
}

impl Bench<'_> {
    fn place(&mut self) -> Result<Place> {
        self.serial += 1;
        Place::new(self.programs, &self.dir.join(self.serial.to_string()))
    }

    /// A small database with a complete replica and a running daemon.
    fn small(&mut self) -> Result<Place> {
        let mut place = self.place()?;
        place.load("app.db --fill 0")?;
        place.watch()?;
        Ok(place)
    }

    fn runs(&self) -> std::ops::RangeInclusive<u64> {
        1..=self.size.runs
    }

    /// A writer as fast as it can be, alone and watched.
    fn saturated(&mut self, name: &str, autocheckpoint: u32) -> Result<()> {
        const FIGURES: [(&str, &str, &str); 4] = [
            ("rate", "commits a second, watched to alone", ">= 0.95"),
            ("p99", "p99 of a commit, watched to alone", "<= 1.5"),
            ("longest", "longest commit, watched to alone", "<= 2"),
            ("wal", "size of the WAL, watched to alone", "<= 2"),
        ];
        let (mut ratios, mut errors, mut rates) = (vec![Vec::new(); 4], 0.0, Vec::new());
        for run in self.runs() {
            let seconds = self.size.saturate_s;
            let words = format!(
                "app.db --seconds {seconds} --autocheckpoint {autocheckpoint} --impatient --seed {run}"
            );
            let alone = self.place()?;
            alone.load("app.db --fill 0")?;
            let alone_said = alone.load(&words)?;
            let mut watched = self.small()?;
            let said = watched.load(&words)?;
            watched.drain()?;
            watched.prove()?;
            for ((key, ..), ratios) in FIGURES.iter().zip(&mut ratios) {
                ratios.push(number(&said[key]) / number(&alone_said[key]));
            }
            errors += number(&said["errors"]);
            rates.push(number(&said["rate"]));
            fs::remove_dir_all(alone.dir)?;
            fs::remove_dir_all(watched.dir)?;
        }
        println!("saturating writer, {name}, {:.0} commits/s", median(&rates));
        for ((_, figure, bound), ratios) in FIGURES.iter().zip(&ratios) {
            row(&format!("  {figure}"), bound, median(ratios));
        }
        row("  errors seen without a busy timeout", "0", errors);
        Ok(())
    }

    fn lag(&mut self) -> Result<()> {
        let mut place = self.small()?;
        let count = self.size.lags;
        let lags = lags(&place, "app.db", &place.replica(), count)?;
        place.drain()?;
        place.prove()?;
        println!("commit to durable object, {count} commits half a second apart");
        row("  p50, ms", "<= 40", percentile(&lags, 50));
        row("  p99, ms", "<= 90", percentile(&lags, 99));
        Ok(())
    }

    fn shipping(&mut self) -> Result<()> {
        let (mut cpu, mut peak, mut per_byte) = (Vec::new(), Vec::new(), Vec::new());
        let seconds = self.size.ship_s;
        for run in self.runs() {
            let mut place = self.small()?;
            let (before, had) = (place.usage(), stored(&place.replica()));
            let words = format!(
                "app.db --seconds {seconds} --rate 200 --rows 5 --blob-every 5 --seed {run}"
            );
            let said = place.load(&words)?;
            place.run(&["sync", "app.db", "replica"])?;
            let after = place.usage();
            cpu.push(after.cpu_s - before.cpu_s);
            peak.push(after.peak_mib);
            per_byte.push((stored(&place.replica()) - had) as f64 / number(&said["payload"]));
            place.drain()?;
            place.prove()?;
            fs::remove_dir_all(place.dir)?;
        }
        println!("{seconds} s at 200 commits/s of 1 to 5 rows, a blob of 2 MiB every 5 s");
        row("  CPU of the daemon, s", if seconds == 20 { "<= 0.10" } else { "" }, median(&cpu));
        row("  peak memory, MiB", "<= 16", median(&peak));
        row("  stored per committed byte", "<= 0.6", median(&per_byte));
        Ok(())
    }

    /// First snapshot and restore of a database that is not small, beside copying its file.
    fn large(&mut self) -> Result<()> {
        let Size { mib, changes, .. } = self.size;
        let mut place = self.place()?;
        place.load(&format!("app.db --fill {mib}"))?;
        let bytes = place.db().metadata()?.len() as f64;
        let (mut wall, mut over, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
        for run in self.runs() {
            if run > 1 {
                place.drain()?;
                fs::remove_dir_all(place.replica())?;
                fs::remove_dir_all(place.dir.join(".app.db.bakelite"))?;
            }
            let copied = copy(&place.db(), &place.dir.join("copy"))?;
            let began = Instant::now();
            place.start(&["daemon", "app.db", "replica"])?;
            while names(&place.replica().join("snapshot")).is_empty() {
                thread::sleep(Duration::from_millis(1));
            }
            wall.push(began.elapsed().as_secs_f64());
            over.push(began.elapsed().as_secs_f64() / copied);
            cpu.push(place.usage().cpu_s);
        }
        let full = |bound| if mib == FULL.mib { bound } else { "" };
        println!("first snapshot of {:.0} MiB", bytes / MIB);
        row("  seconds", full("<= 0.8"), median(&wall));
        row("  seconds, to those of copying the file", "", median(&over));
        row("  CPU, s", "", median(&cpu));
        row("  peak memory, MiB", "", place.usage().peak_mib);
        row(
            "  stored, to the size of the database",
            "<= 1",
            stored(&place.replica()) as f64 / bytes,
        );
        place.load(&format!("app.db --count {changes} --rate 100"))?;
        place.drain()?;
        self.restores(&place)
    }

    fn restores(&self, place: &Place) -> Result<()> {
        let (mut wall, mut over, mut usage) = (Vec::new(), Vec::new(), Vec::new());
        for _ in self.runs() {
            let copied = copy(&place.db(), &place.dir.join("copy"))?;
            let (seconds, used) = place.run(&["restore", "replica", "--output", "restored.db"])?;
            wall.push(seconds);
            over.push(seconds / copied);
            usage.push(used);
            fs::remove_file(place.dir.join("restored.db"))?;
        }
        place.prove()?;
        let Size { mib, changes, .. } = self.size;
        let full = |bound| if mib == FULL.mib { bound } else { "" };
        println!("restore of it with {changes} more commits");
        row("  seconds", full("<= 0.6"), median(&wall));
        row("  seconds, to those of copying the file", "", median(&over));
        let of =
            |each: fn(&watched::Usage) -> f64| median(&usage.iter().map(each).collect::<Vec<_>>());
        row("  CPU, s", "", of(|usage| usage.cpu_s));
        row("  peak memory, MiB", "<= 64", of(|usage| usage.peak_mib));
        Ok(())
    }
}

/// Milliseconds from each commit's return to the first new object that can hold it.
fn lags(place: &Place, db: &str, replica: &Path, count: u64) -> Result<Vec<f64>> {
    let mut child = place.start_load(&format!("{db} --count {count} --rate 2"))?;
    let changes = replica.join("change");
    let mut known: BTreeSet<PathBuf> = names(&changes);
    let mut appeared = Vec::new();
    let mut ended = None;
    while ended.is_none_or(|ended: Instant| ended.elapsed() < Duration::from_secs(2)) {
        let fresh: Vec<PathBuf> = names(&changes).difference(&known).cloned().collect();
        let now = Micros::now().0;
        appeared.extend(fresh.iter().map(|_| now));
        known.extend(fresh);
        if ended.is_none() && child.try_wait()?.is_some() {
            ended = Some(Instant::now());
        }
        thread::sleep(Duration::from_millis(1));
    }
    let said = child.wait_with_output()?.stdout;
    let said: serde_json::Value = serde_json::from_slice(&said).unwrap_or_default();
    let commits = said["ended"].as_array().into_iter().flatten().filter_map(|at| at.as_u64());
    let lag = |commit| {
        let object = appeared.iter().find(|&&at| at >= commit);
        object.map_or(f64::INFINITY, |at| (at - commit) as f64 / 1000.0)
    };
    Ok(commits.map(lag).collect())
}

fn number(value: &serde_json::Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn names(root: &Path) -> BTreeSet<PathBuf> {
    objects(root).into_iter().map(|(path, _)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_and_a_percentile() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(
            (median(&values[..3]), percentile(&values, 50), percentile(&values, 99)),
            (99.0, 51.0, 100.0)
        );
        assert!(median(&[]).is_nan());
    }
}
