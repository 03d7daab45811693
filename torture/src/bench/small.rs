//! How soon it is there: from a start to the first capture, and a restore of next to nothing.

use super::{Bench, median, names, row};
use crate::rig::{Result, violation};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

const TIMES: u64 = 21;

impl Bench<'_> {
    pub(super) fn starts(&mut self) -> Result<()> {
        let mut place = self.small()?;
        let changes = place.replica().join("change");
        let (mut captured, mut restored) = (Vec::new(), Vec::new());
        for _ in 0..TIMES {
            place.drain()?;
            place.load("app.db --count 1 --rate 1000")?;
            let had = names(&changes);
            let began = Instant::now();
            place.start(&["daemon", "app.db", "replica"])?;
            while names(&changes).is_subset(&had) {
                if began.elapsed() > Duration::from_secs(60) {
                    return violation("nothing was captured in 60 s");
                }
                thread::sleep(Duration::from_micros(200));
            }
            captured.push(began.elapsed().as_secs_f64() * 1000.0);
            let restore = ["restore", "replica", "--output", "restored.db"];
            restored.push(place.time(&restore)? * 1000.0);
            fs::remove_file(place.dir.join("restored.db"))?;
        }
        place.drain()?;
        place.prove()?;
        println!("a small database, {TIMES} times");
        row("  from the start to the first capture in its replica, ms", "<= 50", median(&captured));
        row("  restore, ms", "<= 30", median(&restored));
        Ok(())
    }
}
