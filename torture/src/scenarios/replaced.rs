//! Another file takes the place of the database, under the running daemon.
//!
//! As SQLite demands, the application closes it first, and what belonged to the old file goes with
//! it. The daemon still holds the old one, and nobody tells it.

use super::{ALL, busy};
use crate::rig::{Result, Rig};
use crate::rng::shuffle;
use crate::workload::writer::Args;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replacement {
    /// A copy with the same content moved over it: only the file is another one.
    Same,
    /// An older copy moved over it, as after a restore.
    Older,
    /// Deleted, and made anew by the application.
    Anew,
    /// Another database moved over it.
    Foreign,
}

use Replacement::*;

pub fn replaced(rig: &mut Rig) -> Result<()> {
    rig.create(application())?;
    rig.start_daemon()?;
    let mut replacements = [Same, Older, Anew, Foreign];
    shuffle(&mut rig.rng, &mut replacements);
    for replacement in replacements {
        rig.go()?;
        rig.random_wait(40);
        rig.pause()?;
        let old = closed_copy(rig)?;
        rig.go()?;
        rig.random_wait(40);
        // The last commits of the old file may not have been captured when it goes.
        if rig.rng.one_in(2) {
            rig.pause()?;
            rig.sync()?;
        }
        rig.stop_writers()?;
        rig.keep_latest()?;
        rig.keep_some(2)?;
        replace(rig, replacement, old)?;
        follows(rig)?;
        rig.recheck(4)?;
    }
    let seq = rig.pause()?;
    rig.drain()?;
    rig.grade_exact(seq)?;
    rig.grade_bytes()?;
    rig.recheck(ALL)?;
    rig.grade_branches(4)
}

fn application() -> Args {
    Args { paused: true, pace: Some(300), ..busy() }
}

/// Puts another file in the place of the database, and opens it. `old`: a copy of what it was.
fn replace(rig: &mut Rig, replacement: Replacement, old: PathBuf) -> Result<()> {
    match replacement {
        Same => {
            let copy = closed_copy(rig)?;
            put_in_place(rig, &copy)?;
            rig.tally.fault("replaced by its copy");
        }
        Older => {
            put_in_place(rig, &old)?;
            rig.fork();
            rig.tally.fault("replaced by an older copy");
        }
        Anew => {
            rig.remove_database()?;
            rig.remove_sides()?;
            let seed = another_seed(rig);
            rig.begin_anew(seed);
            rig.create(application())?;
            rig.tally.fault("deleted and made anew");
            return Ok(());
        }
        Foreign => {
            // Made elsewhere, by an application that then closes it.
            let here = rig.present();
            let seed = another_seed(rig);
            let elsewhere = rig.add_host()?;
            rig.switch(elsewhere);
            rig.begin_anew(seed);
            rig.create(application())?;
            let number = rig.rng.between(1, 40);
            rig.act(&format!("commit {number}"))?;
            rig.stop_writers()?;
            let file = rig.db();
            rig.hand_over(here);
            put_in_place(rig, &file)?;
            rig.tally.fault("replaced by another database");
        }
    }
    rig.start_writer(application()).map(drop)
}

/// A copy of the database as it is now, with its WAL written back.
fn closed_copy(rig: &mut Rig) -> Result<PathBuf> {
    let here = rig.present();
    let elsewhere = rig.add_host()?;
    rig.bring_database(elsewhere)?;
    rig.start_writer(application())?;
    rig.stop_writers()?;
    let file = rig.db();
    rig.switch(here);
    Ok(file)
}

/// A seed for another database, of the same page size or of another one.
fn another_seed(rig: &mut Rig) -> u64 {
    let seed = rig.host().seed;
    seed + rig.rng.between(7, 9)
}

/// What belonged to the old file goes before the new one comes, or just after: then a daemon that is
/// quick finds the new file with the old one's WAL beside it, and must not take the two for one.
fn put_in_place(rig: &mut Rig, file: &Path) -> Result<()> {
    match rig.rng.one_in(2) {
        true => {
            rig.tally.fault("old WAL removed before");
            rig.remove_sides()?;
            rig.rename_over(file)
        }
        false => {
            rig.tally.fault("old WAL removed after");
            rig.rename_over(file)?;
            rig.remove_sides()
        }
    }
}

/// The daemon goes on with the new file, whether it is given time to notice or told to end at once.
fn follows(rig: &mut Rig) -> Result<()> {
    if rig.rng.one_in(3) {
        rig.act("commit 5")?;
        let seq = rig.pause()?;
        rig.drain()?;
        rig.grade_exact(seq)?;
        rig.start_daemon()?;
    }
    rig.go()?;
    rig.random_wait(60);
    rig.sync()?;
    rig.keep_latest()?;
    let seq = rig.pause()?;
    rig.sync_exactly(seq)?;
    rig.grade_bytes()?;
    rig.keep_some(2)
}
