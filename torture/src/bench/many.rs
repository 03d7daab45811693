//! Many databases in one process: what they take at rest, and what one of them waits while others are
//! written to.

use super::watched::{Place, Usage, objects};
use super::{Bench, FULL, Size, lags, percentile, row};
use crate::rig::{Result, violation};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// So many of them are written to.
const WRITTEN: u64 = 50;

impl Bench<'_> {
    pub(super) fn idle(&mut self) -> Result<()> {
        let Size { idle: number, idle_s: seconds, .. } = self.size;
        let (mut place, first) = self.all(number)?;
        thread::sleep(Duration::from_secs(3));
        let before = place.usage();
        thread::sleep(Duration::from_secs(seconds));
        let after = place.usage();
        place.drain()?;
        println!("{number} idle databases");
        let full = |bound| if number == FULL.idle { bound } else { "" };
        row("  first copies of all, s", full("<= 4"), first);
        row("  peak memory, MiB", full("<= 64"), after.peak_mib);
        let cpu_s = after.cpu_s - before.cpu_s;
        row("  CPU, s a minute", full("<= 0.5"), cpu_s * 60.0 / seconds as f64);
        Ok(())
    }

    /// The lag of one among many is looked at in each tenth of the time; memory is flat where the last
    /// tenth has no more than the third.
    pub(super) fn many(&mut self) -> Result<()> {
        let Size { idle: number, many: commits, lags: alone, .. } = self.size;
        let mut one = self.small()?;
        let lag_alone = percentile(&lags(&one, "app.db", &one.replica(), alone)?, 99);
        one.drain()?;
        let (mut place, _) = self.all(number)?;
        let write = |n: u64| place.start_load(&format!("dbs/{n:04}.db --count {commits} --rate 2"));
        let mut writers = (1..WRITTEN).map(write).collect::<Result<Vec<_>>>()?;
        let (mut waited, mut used) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            let replica = place.dir.join("replica/0000");
            waited.extend(lags(&place, "dbs/0000.db", &replica, commits / 10)?);
            used.push(place.usage());
        }
        for writer in &mut writers {
            writer.wait()?;
        }
        place.drain()?;
        place.restored("replica/0000")?;
        let (third, last): (Usage, Usage) = (used[2], used[9]);
        println!("{number} databases, {WRITTEN} of them with {commits} commits, two a second");
        let full = |bound| if number == FULL.idle { bound } else { "" };
        row("  p99 of the lag, to that of one alone", "<= 3", percentile(&waited, 99) / lag_alone);
        row("  p99 of the lag, ms", "", percentile(&waited, 99));
        row("  peak memory, MiB", full("<= 96"), last.peak_mib);
        row("  growth in the last 7 tenths, MiB", "<= 2", last.resident_mib - third.resident_mib);
        Ok(())
    }

    /// A running daemon that has a first copy of each of them, and how many seconds that took.
    fn all(&mut self, number: u64) -> Result<(Place, f64)> {
        let mut place = self.place()?;
        fs::create_dir(place.dir.join("dbs"))?;
        fs::create_dir(place.dir.join("replica"))?;
        place.load(&format!("dbs --many {number}"))?;
        fs::write(place.dir.join("config"), config(&place.dir, number))?;
        let began = Instant::now();
        place.start(&["daemon", "--config", "config"])?;
        loop {
            let found = objects(&place.replica());
            let is_snapshot =
                |path: &Path| path.parent().is_some_and(|it| it.ends_with("snapshot"));
            if found.iter().filter(|(path, _)| is_snapshot(path)).count() as u64 >= number {
                return Ok((place, began.elapsed().as_secs_f64()));
            }
            if began.elapsed() > Duration::from_secs(120) {
                return violation(format!("not all of {number} databases have a copy in 120 s"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn config(dir: &Path, number: u64) -> String {
    let database = |n: u64| {
        format!(
            "[[database]]\nname = \"{n:04}\"\npath = \"{dir}/dbs/{n:04}.db\"\n\
             destination = [{{ type = \"file\", path = \"{dir}/replica\" }}]\n",
            dir = dir.display()
        )
    };
    (0..number).map(database).collect()
}
