//! A stale copy brought up to date, to a restore of all of it.

use super::{Bench, FULL, median, row};
use crate::rig::{Result, violation};
use std::fs;

impl Bench<'_> {
    pub(super) fn delta(&mut self) -> Result<()> {
        let mib = self.size.daily_mib;
        for (what, words) in [("in one place", ""), ("here and there", " --scattered")] {
            let place = self.place()?;
            let [stale, copy, whole] =
                ["stale.db", "copy.db", "whole.db"].map(|name| place.dir.join(name));
            place.load(&format!("app.db --fill {mib}"))?;
            place.run(&["sync", "app.db", "replica"])?;
            place.run(&["restore", "replica", "--output", "stale.db"])?;
            place.load(&format!("app.db --revise 1{words}"))?;
            place.run(&["sync", "app.db", "replica"])?;
            let mut shares = Vec::new();
            for _ in self.runs() {
                fs::copy(&stale, &copy)?;
                fs::File::open(&copy)?.sync_all()?;
                let restore =
                    |words: &[&str]| place.time(&[&["restore", "replica"], words].concat());
                let all = restore(&["--output", "whole.db"])?;
                let delta = restore(&["--output", "copy.db", "--delta"])?;
                shares.push(delta / all);
                if fs::read(&copy)? != fs::read(&whole)? {
                    return violation("what a delta gives is not what a restore gives");
                }
                fs::remove_file(&whole)?;
            }
            fs::remove_dir_all(&place.dir)?;
            println!("a copy of {mib} MiB that lacks 1 %, changed {what}");
            let bound = if mib == FULL.daily_mib { "<= 0.25" } else { "" };
            row("  seconds of restore --delta, to those of a restore", bound, median(&shares));
        }
        Ok(())
    }
}
