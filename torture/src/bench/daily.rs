//! The second daily snapshot of a large database of which a hundredth has changed, to the first one.

use super::watched::{Place, stored};
use super::{Bench, FULL, median, names, row};
use crate::rig::{Failure, Result, violation};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// What stands for a day.
const DAY: Duration = Duration::from_secs(8);
/// A daemon that reads nothing for so long is at rest.
const REST: Duration = Duration::from_millis(300);
/// A daemon at rest reads no more than this, in bytes: what upkeep looks at.
const LITTLE: f64 = 65_536.0;
/// What a daemon says where a snapshot is not worth what it would store.
const WAITS: &str = "the snapshot that is due waits";

/// What a snapshot took.
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
                let first = first(&mut place)?;
                place.load(&format!("app.db --revise 1{words}"))?;
                place.run(&["sync", "--config", "config"])?;
                place.drain()?;
                let second = next(&mut place)?;
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

/// Starts a daemon that takes snapshots so often.
fn start(place: &mut Place, interval: &str) -> Result<()> {
    let config = format!(
        "[defaults]\nsnapshot_interval = \"{interval}\"\n[[database]]\nname = \"replica\"\npath = \"{}\"\n\
         destination = [{{ type = \"file\", path = \"{}\" }}]\n",
        place.db().display(),
        place.dir.display()
    );
    fs::create_dir_all(place.replica())?;
    fs::write(place.dir.join("config"), config)?;
    place.start(&["daemon", "--config", "config"])
}

fn manifests(place: &Place) -> usize {
    names(&place.replica().join("snapshot")).len()
}

/// Waits until there are more snapshots than so many, or one was put off. What that took since `began`
/// says that it has: of its time, and of what the daemon had read by then.
fn snapshot(place: &mut Place, there: usize, began: impl Fn(&Place) -> bool) -> Result<Cost> {
    let (start, before, idle) = (Instant::now(), stored(&place.replica()), place.usage().read);
    let mut since = None;
    while manifests(place) == there && !place.said()?.contains(WAITS) {
        if start.elapsed() > Duration::from_secs(300) {
            return violation("no snapshot in 300 s");
        }
        if since.is_none() && began(place) {
            since = Some(Instant::now());
        }
        thread::sleep(Duration::from_millis(1));
    }
    let seconds = since.map_or(0.0, |since| since.elapsed().as_secs_f64());
    let (read, stored) = (place.usage().read - idle, stored(&place.replica()) - before);
    Ok(Cost { seconds, read, stored: stored as f64 })
}

/// The first one, as soon as the daemon starts.
fn first(place: &mut Place) -> Result<Cost> {
    start(place, "1d")?;
    snapshot(place, 0, |_| true)
}

/// The next one, of a daemon that has been at rest: it begins with what is read then.
fn next(place: &mut Place) -> Result<Cost> {
    let there = manifests(place);
    start(place, &format!("{}s", DAY.as_secs()))?;
    let mut idle = f64::NAN;
    while place.usage().read != idle {
        idle = place.usage().read;
        thread::sleep(REST);
    }
    if manifests(place) > there {
        return Err(Failure::Harness("it was due before the daemon was at rest".to_owned()));
    }
    snapshot(place, there, |place| place.usage().read > idle + LITTLE)
}
