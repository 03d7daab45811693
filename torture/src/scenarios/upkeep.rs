//! A long life in a few seconds: change-sets are merged, points become fewer, old snapshots go, and
//! whoever does it is killed in the middle of it.

use super::busy;
use crate::replica;
use crate::rig::{Failure, Result, Rig, Step, violation};
use crate::store::{Moment, Stop};
use crate::workload::writer::Args;
use bakelite::backend::Backend;
use bakelite::error::Status;
use bakelite::name::{Change, Name, Part};
use bakelite::replica::{Replica, read_manifest};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The places of the destinations.
const DIRECTORY: usize = 0;
const BUCKET: usize = 1;

/// Days as seconds: windows of a quarter of a second and of one, every commit for a second, then twenty
/// points a second, and nothing older than four. Points that become fewer are level 3.
pub const SETTINGS: &str = "ship_interval = \"50ms\"\nsnapshot_interval = \"1s\"\n\
     compaction = [\"250ms\", \"1s\"]\nkeep = [\"all:1s\", \"50ms:4s\"]";
pub const STEPS: [Step; 2] = [Step { density: 0, age: 1000 }, Step { density: 50, age: 4000 }];
/// A daemon has made a round by then, unless the machine is very slow, and has left something to prune.
const ROUND: Duration = Duration::from_millis(2500);
/// Some rounds: what happens in most of them has happened by then.
pub const ROUNDS: Duration = Duration::from_secs(10);
const LIVES: usize = 9;

use Moment::{After, Before};

/// Objects that were made by merging, and those that were shipped.
const MERGED: &[&str] = &["/change/1/", "/change/2/", "/change/3/"];
const SHIPPED: &[&str] = &["/change/0/"];

/// A moment of upkeep or of a snapshot, as the bucket sees it, and what the figures call it.
pub type At = (&'static str, Stop);

const fn at(
    name: &'static str,
    method: &'static str,
    kinds: &'static [&'static str],
    moment: Moment,
) -> At {
    (name, Stop { method, kinds, skip: 0, moment })
}

pub const MERGING: [At; 6] = [
    at("before a merge is put", "PUT", MERGED, Before),
    at("between a merge and its deletes", "PUT", MERGED, After),
    at("while a merge is read back", "GET", MERGED, Before),
    at("before a delete of what was merged", "DELETE", SHIPPED, Before),
    at("after a delete of what was merged", "DELETE", SHIPPED, After),
    at("after points were thinned out", "PUT", &["/change/3/"], After),
];
const DELETING: [At; 3] = [
    at("in the middle of deleting", "DELETE", &["/change/"], After),
    at("after a delete of a snapshot", "DELETE", &["/snapshot/"], After),
    at("after a delete of a part", "DELETE", &["/part/"], After),
];
const SNAPSHOTS: [At; 2] = [
    at("between a part and its manifest", "PUT", &["/part/"], After),
    at("before a manifest", "PUT", &["/snapshot/"], Before),
];

/// What is seen in a directory right before a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    Merged,
    Deleted,
    Part,
}

pub fn upkeep(rig: &mut Rig) -> Result<()> {
    begin(rig)?;
    rig.go()?;
    rig.start_daemon()?;
    rig.sync()?;
    for life in 0..LIVES {
        match life % 3 {
            0 => strike_at_a_stop(rig)?,
            1 => strike_at_sight(rig)?,
            _ => strike_at_a_command(rig)?,
        }
        note_what_is_left(rig)?;
        grade(rig, life % 2)?;
        if rig.host().daemon.is_none() {
            rig.start_daemon()?;
        }
    }
    rest(rig)
}

fn begin(rig: &mut Rig) -> Result<()> {
    rig.set_destinations(Vec::new());
    rig.add_named_directory("disk-1")?;
    rig.add_store()?;
    rig.set(SETTINGS)?;
    rig.cast_shadow(&STEPS)?;
    let pace = Some(*rig.rng.pick(&[6000, 20_000]));
    rig.create(Args { pace, ..busy() })
}

/// One destination has what `keep` promises, and both the newest commit.
fn grade(rig: &mut Rig, thoroughly: usize) -> Result<()> {
    for at in [DIRECTORY, BUCKET] {
        rig.mean(at);
        match at == thoroughly {
            true => rig.grade_kept(1)?,
            false => drop(rig.grade_latest()?),
        }
    }
    Ok(())
}

/// Restores through upkeep, with the daemon's own beside it and without.
pub fn restores(rig: &mut Rig) -> Result<()> {
    begin(rig)?;
    rig.go()?;
    rig.start_daemon()?;
    rig.sync()?;
    for round in 0..8 {
        thread::sleep(ROUND / 2);
        let alone = round % 2 == 1;
        if alone {
            rig.sync()?;
            rig.kill_daemon()?;
        }
        for at in [DIRECTORY, BUCKET] {
            rig.mean(at);
            rig.grade_through_upkeep()?;
        }
        if alone {
            rig.start_daemon()?;
        }
    }
    rest(rig)
}

/// Has the bucket stand still at one of these moments while `who` is at work: at another one with each
/// seed and whenever one was reached.
pub fn stop_at_one(rig: &mut Rig, who: &str, all: &[At]) -> String {
    let begins = format!("{who} stopped");
    let strikes = rig.tally.faults.iter().filter(|(name, _)| name.starts_with(&begins));
    let strikes: u64 = strikes.map(|(_, times)| times).sum();
    let (when, stop) = all[((rig.seed * 5 + strikes) % all.len() as u64) as usize];
    let skip = if stop.kinds == SHIPPED { rig.rng.below(3) } else { 0 };
    rig.store().stop_at(Stop { skip, ..stop });
    format!("{who} stopped {when}")
}

fn strike_at_a_stop(rig: &mut Rig) -> Result<()> {
    let all = [&MERGING[..], &SNAPSHOTS[..]].concat();
    let stopped = stop_at_one(rig, "daemon", &all);
    let reached = rig.store().wait_for_stop(ROUNDS);
    let killed = rig.kill_daemon();
    rig.store().let_go();
    killed?;
    rig.tally.fault(&if reached { stopped } else { format!("no {stopped}") });
    Ok(())
}

fn strike_at_sight(rig: &mut Rig) -> Result<()> {
    rig.mean(DIRECTORY);
    let sight = *rig.rng.pick(&[Sight::Merged, Sight::Deleted, Sight::Part]);
    let root = rig.replica();
    let seen = wait_to_see(&root, sight)?;
    rig.kill_daemon()?;
    rig.tally.fault(if seen { "killed at sight" } else { "nothing seen" });
    Ok(())
}

/// A command in the middle of its work, beside the daemon or alone.
fn strike_at_a_command(rig: &mut Rig) -> Result<()> {
    let times = |name: &str| rig.tally.faults.get(name).copied().unwrap_or(0);
    let (verb, all) = match times("prune killed") <= times("compact killed") {
        true => ("prune", &DELETING[..]),
        false => ("compact", &MERGING[..]),
    };
    for _ in 0..3 {
        if rig.host().daemon.is_none() {
            rig.start_daemon()?;
        }
        // More than the daemon's own round has left to it.
        thread::sleep(if verb == "prune" { ROUND } else { ROUND / 4 });
        // Parts are only collected while no daemon may be about to name them.
        if verb == "prune" || rig.rng.one_in(2) {
            rig.kill_daemon()?;
        }
        if kill_command(rig, verb, all)? {
            break;
        }
    }
    Ok(())
}

/// Whether it came to the moment.
fn kill_command(rig: &mut Rig, verb: &str, all: &[At]) -> Result<bool> {
    let stopped = stop_at_one(rig, verb, all);
    let mut command = rig.start_upkeep(verb)?;
    let began = Instant::now();
    let mut reached = false;
    while !reached && began.elapsed() < ROUND && command.ended()?.is_none() {
        reached = rig.store().wait_for_stop(Duration::from_millis(20));
    }
    let killed = command.kill();
    rig.store().let_go();
    match killed? {
        Ok(()) => rig.tally.fault(&format!("{verb} killed")),
        Err(status) if status.success() => rig.tally.fault(&format!("{verb} was faster")),
        // A destination that just came back has its upkeep wait.
        Err(status) if status.code() == Some(Status::Unreachable as i32) => {
            rig.tally.fault(&format!("{verb} put off"));
        }
        Err(status) => return violation(format!("{verb}: {status}: {}", command.complaint())),
    }
    rig.tally.fault(&if reached { stopped } else { format!("no {stopped}") });
    Ok(reached)
}

/// Looks at a directory until something comes or goes, for as long as a round may take.
fn wait_to_see(root: &Path, sight: Sight) -> Result<bool> {
    let began = Instant::now();
    let mut before = seen(root, sight);
    while began.elapsed() < ROUND {
        let now = seen(root, sight);
        let is_it = match sight {
            Sight::Merged | Sight::Part => now.difference(&before).next().is_some(),
            Sight::Deleted => before.difference(&now).next().is_some(),
        };
        if is_it {
            return Ok(true);
        }
        before = now;
        thread::sleep(Duration::from_micros(100));
    }
    Ok(false)
}

fn seen(root: &Path, sight: Sight) -> BTreeSet<String> {
    let folders: &[&str] = match sight {
        Sight::Merged => &["change/1", "change/2", "change/3"],
        Sight::Deleted => &["change/0", "change/1", "change/2", "change/3", "snapshot"],
        Sight::Part => &["part"],
    };
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(root.join(folder)));
    let names =
        entries.flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| !name.starts_with('.')).collect()
}

/// In which states a kill has really left the destinations, whatever it was aimed at.
pub fn note_what_is_left(rig: &mut Rig) -> Result<()> {
    for at in [DIRECTORY, BUCKET] {
        rig.mean(at);
        let place = if at == BUCKET { "bucket" } else { "directory" };
        let (source, replica) = listed(rig)?;
        let (all, some) = merged_and_there(&replica);
        let parts = u64::from(has_unnamed_parts(&*source, &replica)?);
        for (what, times) in [
            ("a merge and all that it stands for", all),
            ("some of what was merged", some),
            ("parts without a manifest", parts),
        ] {
            rig.tally.faults(&format!("left in the {place}: {what}"), times);
        }
    }
    Ok(())
}

/// How many merges there are beside all that they stand for, and beside some of it.
fn merged_and_there(replica: &Replica) -> (u64, u64) {
    let changes: Vec<Change> = replica.changes.values().flatten().copied().collect();
    let commits = |it: &Change| it.span.last.0 - it.span.first.0 + 1;
    let (mut all, mut some) = (0, 0);
    for by in changes.iter().filter(|change| change.level > 0) {
        let is_in = |it: &&Change| {
            it.level < by.level
                && it.span.timeline == by.span.timeline
                && it.span.first >= by.span.first
                && it.span.last <= by.span.last
        };
        match changes.iter().filter(is_in).map(commits).sum::<u64>() {
            0 => {}
            left if left >= commits(by) => all += 1,
            _ => some += 1,
        }
    }
    (all, some)
}

fn has_unnamed_parts(source: &dyn Backend, replica: &Replica) -> Result<bool> {
    let named = named_parts(source, replica)?;
    Ok(replica.parts.keys().any(|part| !named.contains(part)))
}

/// The parts that a manifest names.
pub fn named_parts(source: &dyn Backend, replica: &Replica) -> Result<BTreeSet<Part>> {
    let mut named = BTreeSet::new();
    for span in &replica.snapshots {
        let manifest = read_manifest(source, span).map_err(broken)?;
        named.extend(manifest.parts.iter().map(|part| part.part));
    }
    Ok(named)
}

/// The one that is meant.
pub fn listed(rig: &Rig) -> Result<(Arc<dyn Backend>, Replica)> {
    let source = replica::open(&rig.source()).map_err(broken)?;
    let replica = Replica::list(&*source).map_err(broken)?;
    Ok((source, replica))
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::Violation(format!("after a kill: {error}"))
}

/// Nobody writes any more: the last commit exactly, and what upkeep ends with.
fn rest(rig: &mut Rig) -> Result<()> {
    let seq = rig.pause()?;
    rig.sync()?;
    rig.grade_all_exact(seq)?;
    rig.drain()?;
    settle(rig, seq)
}

/// Upkeep comes to an end: with nobody at work a further round finds nothing to do, but for a window
/// that has just passed. Then every promise holds, and no part is there that no manifest names.
pub fn settle(rig: &mut Rig, seq: u64) -> Result<()> {
    let mut before = BTreeSet::new();
    let mut settled = false;
    for _ in 0..4 {
        for verb in ["compact", "prune"] {
            rig.upkeep(verb)?;
        }
        let now = names(rig)?;
        settled = now == before;
        if settled {
            break;
        }
        before = now;
    }
    if !settled {
        return violation("upkeep never ends");
    }
    for at in [DIRECTORY, BUCKET] {
        rig.mean(at);
        rig.grade_exact(seq)?;
        rig.grade_kept(3)?;
        let (source, replica) = listed(rig)?;
        if has_unnamed_parts(&*source, &replica)? || merged_and_there(&replica) != (0, 0) {
            return violation(format!("{source}: upkeep has left something over"));
        }
        let source = rig.source();
        if !rig.verify(&source)? {
            return violation(format!("verify finds fault with {source} after upkeep"));
        }
    }
    Ok(())
}

/// All names of both destinations.
fn names(rig: &mut Rig) -> Result<BTreeSet<(usize, Name)>> {
    let mut all = BTreeSet::new();
    for at in [DIRECTORY, BUCKET] {
        rig.mean(at);
        let replica = listed(rig)?.1;
        all.extend(replica.objects.into_iter().map(|entry| (at, entry.name)));
    }
    Ok(all)
}
