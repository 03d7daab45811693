//! One of three destinations dead for the whole run: the others do not notice.

use super::watched::{Place, stored};
use super::{Bench, lags, median, row};
use crate::rig::{Result, violation};
use std::fs;

const ALL: [&str; 3] = ["one", "two", "three"];

#[derive(Debug, Default)]
struct Figures {
    lag: f64,
    peak: f64,
    spooled: f64,
}

impl Bench<'_> {
    pub(super) fn one_dead(&mut self) -> Result<()> {
        let (mut lag, mut peak, mut spooled) = (Vec::new(), Vec::new(), Vec::new());
        for _ in self.runs() {
            let whole = self.three(false)?;
            let dead = self.three(true)?;
            lag.push(dead.lag / whole.lag);
            peak.push(dead.peak / whole.peak);
            spooled.push(dead.spooled);
        }
        println!("one of three destinations dead for the whole run, to a run without that");
        row("  commit to durable object on another one, p50", "<= 1.1", median(&lag));
        row("  peak memory", "<= 1.1", median(&peak));
        row("  spool, MiB", "<= 1024", median(&spooled));
        Ok(())
    }

    /// Three directories, the last one away from the first commit on, if it is to be. In the end all of
    /// them give the same bytes.
    fn three(&mut self, dead: bool) -> Result<Figures> {
        let mut place = self.place()?;
        place.load("app.db --fill 0")?;
        let words = |verb| [&[verb, "app.db"], &ALL[..]].concat();
        place.start(&words("daemon"))?;
        place.run(&words("sync"))?;
        let [there, aside] = ["three", "aside"].map(|name| place.dir.join(name));
        if dead {
            fs::rename(&there, &aside)?;
        }
        let lags = lags(&place, "app.db", &place.dir.join("one"), self.size.lags)?;
        let spooled = stored(&place.dir.join(".app.db.bakelite/spool")) as f64 / super::MIB;
        if dead {
            fs::rename(&aside, &there)?;
        }
        place.run(&words("sync"))?;
        let peak = place.usage().peak_mib;
        place.drain()?;
        same(&place)?;
        fs::remove_dir_all(&place.dir)?;
        Ok(Figures { lag: median(&lags), peak, spooled })
    }
}

fn same(place: &Place) -> Result<()> {
    let first = place.restored(ALL[0])?;
    for other in &ALL[1..] {
        if place.restored(other)? != first {
            return violation(format!("{other} does not give what {} gives", ALL[0]));
        }
    }
    Ok(())
}
