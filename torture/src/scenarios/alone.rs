//! The only destination is damaged, and nobody has it whole but the database: `repair` makes parts of
//! snapshots again from that, and has a new snapshot made where the newest commit is lost.

use super::busy;
use crate::rig::{Failure, Result, Rig, violation};
use crate::workload::writer::Args;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

const SETTINGS: &str = "ship_interval = \"50ms\"\ncompaction = []";
/// Parts are of 4 MiB.
const MIB: u64 = 9;
/// Where objects lie, and what the figures call one that is damaged.
const KINDS: [(&str, &str); 3] = [
    ("part", "damage of a part"),
    ("change/0", "damage of a change-set"),
    ("snapshot", "damage of a manifest"),
];
/// What somebody has asked for is done by then, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn alone(rig: &mut Rig) -> Result<()> {
    rig.set_destinations(Vec::new());
    rig.add_named_directory("disk")?;
    rig.set(SETTINGS)?;
    rig.create(Args { pace: Some(4000), vacuum: None, ..busy() })?;
    rig.act(&format!("bulk {MIB}"))?;
    rig.start_daemon()?;
    for round in 0..KINDS.len() {
        rig.go()?;
        rig.sync()?;
        rig.pause()?;
        let watched = rig.rng.one_in(2);
        if !watched {
            rig.drain()?;
        }
        let (kind, what) = KINDS[(rig.seed as usize + round) % KINDS.len()];
        damage(rig, kind)?;
        rig.tally.fault(what);
        // Something is committed after it, or no other snapshot could be made.
        rig.act("touch 3")?;
        rig.go()?;
        rig.repair()?;
        if watched {
            until_it_is_made(rig)?;
        }
        let seq = rig.pause()?;
        rig.sync()?;
        rig.tally.fault(if watched { "under the daemon" } else { "without a daemon" });
        rig.grade_exact(seq)?;
        if !watched {
            rig.start_daemon()?;
        }
    }
    let seq = rig.pause()?;
    rig.drain()?;
    rig.grade_exact(seq)
}

/// Spoils an object in one of the ways of a disk: gone, cut short, a bit flipped.
fn damage(rig: &mut Rig, kind: &str) -> Result<()> {
    let mut files = files(&rig.replica().join(kind))?;
    // What writers hardly touch lies in the middle, and the newest of the others counts most.
    let at = if kind == "part" { files.len() / 2 } else { files.len() - 1 };
    let file = files.swap_remove(at);
    let mut body = fs::read(&file)?;
    let middle = body.len() / 2;
    match rig.rng.below(3) {
        0 => return Ok(fs::remove_file(file)?),
        1 => body.truncate(middle),
        _ => body[middle] ^= 4,
    }
    Ok(fs::write(file, body)?)
}

/// In the order of their names.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files = entries.collect::<std::io::Result<Vec<_>>>()?;
    files.sort();
    match files.is_empty() {
        true => Err(Failure::Harness(format!("nothing in {}", dir.display()))),
        false => Ok(files),
    }
}

fn until_it_is_made(rig: &mut Rig) -> Result<()> {
    let began = Instant::now();
    let notes = ["snapshot-wanted", "snapshot-begun"].map(|note| rig.state().join(note));
    while notes.iter().any(|note| note.exists()) {
        rig.daemon_lives()?;
        if began.elapsed() > PATIENCE {
            return violation("the snapshot that was asked for was not made");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
