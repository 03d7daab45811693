//! The second daily snapshot of a large database of which a hundredth has changed, to the first one.

use super::watched::{Place, stored};
use super::{Bench, FULL, median, names, row};
use crate::rig::{Result, violation};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// What stands for a day.
const DAY: Duration = Duration::from_secs(5);
/// What a daemon says where a snapshot is not worth what it would store.
const WAITS: &str = "the snapshot that is due waits";

/// What a snapshot took, from the daemon's start on.
#[derive(Clone, Copy, Debug)]
struct Cost {
    seconds: f64,
    read: f64,
    stored: f64,
}

impl Bench<'_> {
    pub(super) fn daily(&mut self) -> Result<()> {
        let mib = self.size.daily_mib;
        for (what, words) in [("in one place", ""), ("here and there", " --scattered")] {
            let mut shares = Vec::new();
            let mut peak = Vec::new();
            for _ in self.runs() {
                let mut place = self.place()?;
                place.load(&format!("app.db --fill {mib}"))?;
                let first = snapshot(&mut place, "1d")?;
                let ended = Instant::now();
                place.load(&format!("app.db --revise 1{words}"))?;
                place.run(&["sync", "--config", "config"])?;
                place.drain()?;
                thread::sleep(DAY.saturating_sub(ended.elapsed()));
                let second = snapshot(&mut place, &format!("{}s", DAY.as_secs()))?;
                peak.push(place.usage().peak_mib);
                place.drain()?;
                place.prove()?;
                fs::remove_dir_all(&place.dir)?;
                shares.push([
                    second.stored / first.stored,
                    second.read / first.read,
                    second.seconds / first.seconds,
                ]);
            }
            println!("second daily snapshot of {mib} MiB, 1 % changed {what}, to the first one");
            let bound = if mib == FULL.daily_mib { "<= 0.03" } else { "" };
            for (at, figure) in ["stored", "read", "seconds"].into_iter().enumerate() {
                let shares: Vec<f64> = shares.iter().map(|share| share[at]).collect();
                row(&format!("  {figure}"), bound, median(&shares));
            }
            row("  peak memory, MiB", "", median(&peak));
        }
        Ok(())
    }
}

/// Starts a daemon, and waits until it has taken the snapshot that is due, or put it off.
fn snapshot(place: &mut Place, interval: &str) -> Result<Cost> {
    let (db, replica) = (place.db(), place.replica());
    let config = format!(
        "[defaults]\nsnapshot_interval = \"{interval}\"\n[[database]]\nname = \"replica\"\npath = \"{}\"\n\
         destination = [{{ type = \"file\", path = \"{}\" }}]\n",
        db.display(),
        place.dir.display()
    );
    fs::create_dir_all(&replica)?;
    fs::write(place.dir.join("config"), config)?;
    let manifests = || names(&replica.join("snapshot")).len();
    let (there, before) = (manifests(), stored(&replica));
    let began = Instant::now();
    place.start(&["daemon", "--config", "config"])?;
    while manifests() == there && !place.said()?.contains(WAITS) {
        if began.elapsed() > Duration::from_secs(300) {
            return violation("no snapshot in 300 s");
        }
        thread::sleep(Duration::from_millis(1));
    }
    let seconds = began.elapsed().as_secs_f64();
    let read = place.usage().read;
    Ok(Cost { seconds, read, stored: (stored(&replica) - before) as f64 })
}
