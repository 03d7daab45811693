//! The real programs under the kernel's faults: a system call fails, does nothing or is the last one, at a
//! place chosen among those that a run without a fault has come to.
//!
//! Whatever happens, a restore gives what is right or nothing; what `sync` has promised is there; who ends
//! says why; and the next one, without a fault, makes good what is left. The application never sees any
//! of it, unless it is the application's own call.

use super::fanout::copy_all;
use super::{busy, upkeep};
use crate::oracle::Expect;
use crate::process::Signal;
use crate::rig::{Ask, CLASSES, End, Fault, Result, Rig, violation};
use crate::workload::writer::Args;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// The daemon's own checkpoints are what writes to the database.
const CHECKPOINTS: &str = "checkpoint_pages = 20\n";
const NO_UPKEEP: &str = "ship_interval = \"50ms\"\nsnapshot_interval = \"1s\"\ncompaction = []";
/// What `compact` is tried with merges, and thins nothing out.
const MERGES: &str = "compaction = [\"250ms\", \"1s\"]\nkeep = [\"all:1h\"]";
/// What `prune` is tried with has old snapshots go, and what comes before them.
const FEWER: &str = "compaction = [\"250ms\", \"1s\"]\nkeep = [\"all:1s\", \"100ms:1500ms\"]";
/// How often a fault is put somewhere else where it did not fire.
const TRIES: u32 = 4;

pub fn faults(rig: &mut Rig) -> Result<()> {
    rig.may_trace()?;
    rig.set_destinations(Vec::new());
    rig.add_named_directory("disk-1")?;
    rig.set(NO_UPKEEP)?;
    rig.create(application())?;
    rig.act("commit 20")?;
    first_syncs(rig)?;
    syncs(rig)?;
    rounds(rig)?;
    daemons(rig)?;
    restores(rig)?;
    writers(rig)?;
    let seq = rig.stop_writers()?;
    rig.drain()?;
    rig.grade_exact(seq)?;
    rig.grade_bytes()?;
    let source = rig.source();
    match rig.verify(&source)? {
        true => Ok(()),
        false => violation("verify finds fault with what all these faults have left"),
    }
}

fn application() -> Args {
    Args { paused: true, pace: Some(500), autocheckpoint: Some(0), ..busy() }
}

/// Odd seeds are on a file system that cannot rename without writing over what is there.
fn ask<'a>(rig: &Rig, fault: Option<&'a Fault>) -> Ask<'a> {
    match (rig.seed % 2 == 1, fault) {
        (true, fault) => Ask::NoRename(fault),
        (false, Some(fault)) => Ask::Fault(fault),
        (false, None) => Ask::Nothing,
    }
}

/// Counts the calls of `work` in a run without a fault, then does it again and again with one: `number`
/// classes of calls in turn, the next ones with the next seed on such a file system; what happens to a
/// class changes from turn to turn.
fn under_faults(
    rig: &mut Rig,
    who: &str,
    number: u64,
    work: impl Fn(&mut Rig, Ask) -> Result<End>,
) -> Result<()> {
    let plain = ask(rig, None);
    let counted = work(rig, plain)?.calls;
    let calls = if rig.seed % 2 == 1 { counted.without_rename() } else { counted };
    let classes: Vec<_> = CLASSES.iter().filter(|class| calls.has(class)).collect();
    let (first, all) = (rig.seed / 2 * number, classes.len() as u64);
    for at in first..first + number {
        let class = classes[(at % all) as usize];
        let effect = class.effects[(at / all) as usize % class.effects.len()];
        for attempt in 0..TRIES {
            let fault =
                calls.choose(&mut rig.rng, class, effect, attempt).expect("there are such calls");
            let asked = ask(rig, Some(&fault));
            let end = work(rig, asked)?;
            end.is_clean(who, asked)?;
            if end.fired(&fault) {
                rig.note_fault(who, &fault);
                break;
            }
            rig.tally.fault("never came to its fault");
        }
    }
    Ok(())
}

/// Each on a replica that is not there yet: directories are made, and nothing was promised.
fn first_syncs(rig: &mut Rig) -> Result<()> {
    let seq = rig.pause()?;
    under_faults(rig, "first sync", 5, |rig, ask| {
        for dir in [rig.replica(), rig.state()] {
            if dir.exists() {
                fs::remove_dir_all(dir)?;
            }
        }
        rig.robbed();
        let end = rig.trace_verb("sync", ask)?.end()?;
        settle(rig, &end, seq)?;
        Ok(end)
    })
}

fn syncs(rig: &mut Rig) -> Result<()> {
    under_faults(rig, "sync", 4, |rig, ask| {
        let seq = rig.act("commit 5")?;
        let end = rig.trace_verb("sync", ask)?.end()?;
        settle(rig, &end, seq)?;
        Ok(end)
    })
}

/// Who has ended well has made all of it durable; else the next one does, and until then what is there is
/// right.
fn settle(rig: &mut Rig, end: &End, seq: u64) -> Result<()> {
    if end.status.success() {
        return rig.grade_exact(seq);
    }
    rig.grade_latest()?;
    rig.sync_exactly(seq)
}

/// A daemon with upkeep and checkpoints of its own, for a few commits.
fn daemons(rig: &mut Rig) -> Result<()> {
    rig.set(&format!("{CHECKPOINTS}{}", upkeep::SETTINGS))?;
    under_faults(rig, "daemon", 6, |rig, ask| {
        let mut daemon = rig.trace_verb("daemon", ask)?;
        daemon.until("\"daemon\\n")?;
        for _ in 0..3 {
            rig.act("commit 6")?;
            rig.sync_at_last()?;
        }
        let seq = rig.act("commit 3")?;
        daemon.process().handles(Signal::Terminate)?;
        daemon.process().signal(Signal::Terminate);
        let end = daemon.end()?;
        settle(rig, &end, seq)?;
        Ok(end)
    })
}

fn restores(rig: &mut Rig) -> Result<()> {
    let seq = rig.pause()?;
    rig.sync_exactly(seq)?;
    let exactly = Some(rig.truth.course.here(seq));
    let expect = Expect { exactly, ..Expect::default() };
    under_faults(rig, "restore", 6, |rig, ask| {
        let target = rig.new_output()?;
        let end = rig.trace_restore(&target, ask)?.end()?;
        if end.status.success() && !target.exists() {
            return violation("a restore that has given nothing has ended with status 0");
        }
        if target.exists() {
            rig.judge(&target, &expect)?;
        }
        nothing_half_written(&target, &end)?;
        let again = rig.trace_restore(&target, Ask::Nothing)?.end()?;
        if !again.status.success() {
            return violation(format!("a restore after a fault: {}", again.said));
        }
        rig.judge(&target, &expect)?;
        Ok(end)
    })
}

/// A restore that was not killed takes away what it has begun, unless that is what it may not do.
fn nothing_half_written(target: &Path, end: &End) -> Result<()> {
    let folder = target.parent().expect("a directory of its own");
    let left = fs::read_dir(folder)?.next().transpose()?;
    match left {
        Some(left) if end.status.code().is_some() && !end.failed_at("unlink") => {
            violation(format!("a restore has left {:?}: {}", left.path(), end.said))
        }
        _ => Ok(()),
    }
}

/// `compact` and `prune` by hand, each time with the same work before them.
fn rounds(rig: &mut Rig) -> Result<()> {
    rig.set(NO_UPKEEP)?;
    rig.start_daemon()?;
    rig.go()?;
    thread::sleep(Duration::from_millis(3000));
    let seq = rig.pause()?;
    rig.drain()?;
    rig.grade_exact(seq)?;
    let aside = rig.dir.join("aside");
    fs::create_dir(&aside)?;
    let places = [rig.replica(), rig.state()];
    put_by(&places, &aside, copy_all)?;
    for (verb, settings) in [("compact", MERGES), ("prune", FEWER)] {
        rig.set(settings)?;
        rig.keep_last(3)?;
        if verb == "compact" {
            // All commits are there after it.
            rig.keep_some(6)?;
        }
        under_faults(rig, verb, 3, |rig, ask| {
            put_by(&places, &aside, |place, copy| {
                fs::remove_dir_all(place)?;
                copy_all(copy, place)
            })?;
            if verb == "prune" {
                rig.upkeep("compact")?;
            }
            let end = rig.trace_verb(verb, ask)?.end()?;
            rig.grade_exact(seq)?;
            rig.recheck(3)?;
            rig.upkeep("compact")?;
            rig.upkeep("prune")?;
            rig.grade_exact(seq)?;
            rig.recheck(3)?;
            Ok(end)
        })?;
    }
    Ok(())
}

fn put_by(
    places: &[PathBuf],
    aside: &Path,
    copy: impl Fn(&Path, &Path) -> std::io::Result<()>,
) -> Result<()> {
    for (at, place) in places.iter().enumerate() {
        copy(place, &aside.join(at.to_string()))?;
    }
    Ok(())
}

/// The application's own calls fail, and SQLite has to cope. The daemon beside it lives on and invents
/// nothing: what the next writer finds is what comes back.
fn writers(rig: &mut Rig) -> Result<()> {
    rig.stop_writers()?;
    rig.start_daemon()?;
    under_faults(rig, "writer", 5, |rig, ask| {
        let args = Args { commits: Some(40), autocheckpoint: Some(10), pace: None, ..busy() };
        let end = rig.trace_writer(args, ask)?;
        rig.daemon_lives()?;
        let seq = rig.start_writer(application())?;
        rig.sync_exactly(seq)?;
        rig.stop_writers()?;
        Ok(end)
    })?;
    // A commit that failed may lie behind those of the WAL, whole, and a copy would take it for one. What
    // is committed next is written over it.
    rig.start_writer(application())?;
    rig.act("commit 3").map(drop)
}
