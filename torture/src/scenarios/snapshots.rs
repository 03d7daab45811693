//! Snapshots of several parts, cut short: what counts is the manifest, and what is there is not sent
//! again; what is not there any more is done without, and noticed.

use super::busy;
use super::upkeep::{listed, named_parts};
use crate::rig::{Failure, Result, Rig, violation};
use crate::store::{Moment, Stop};
use crate::workload::writer::Args;
use bakelite::name::{Name, Part};
use bakelite::replica::read_manifest;
use std::thread;
use std::time::{Duration, Instant};

/// The places of the destinations.
const DIRECTORY: usize = 0;
const BUCKET: usize = 1;

const SETTINGS: &str = "ship_interval = \"50ms\"\nsnapshot_interval = \"1s\"\ncompaction = []";
/// Parts are of 4 MiB.
const MIB: u64 = 9;
/// A snapshot of as many parts is finished by then, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Moments of a snapshot as the bucket sees them, and what the figures call them.
const MOMENTS: [(&str, Stop); 4] = [
    at("before a part", "/part/", Moment::Before),
    at("between a part and its manifest", "/part/", Moment::After),
    at("before a manifest", "/snapshot/", Moment::Before),
    at("after a manifest, its reply lost", "/snapshot/", Moment::After),
];

const fn at(name: &'static str, kind: &'static str, moment: Moment) -> (&'static str, Stop) {
    let kinds: &[&str] = match kind.as_bytes()[1] {
        b'p' => &["/part/"],
        _ => &["/snapshot/"],
    };
    (name, Stop { method: "PUT", kinds, skip: 0, moment })
}

pub fn snapshots(rig: &mut Rig) -> Result<()> {
    rig.set_destinations(Vec::new());
    rig.add_named_directory("disk-1")?;
    rig.add_store()?;
    // By seed one that takes its time, so that commits come between its parts.
    let slow = if rig.seed.is_multiple_of(2) { "\nsnapshot_rate = \"16MiB\"" } else { "" };
    rig.set(&format!("{SETTINGS}{slow}"))?;
    rig.create(Args { pace: Some(6000), vacuum: None, ..busy() })?;
    rig.act(&format!("bulk {MIB}"))?;
    strike(rig, 0)?;
    for number in 1..4 {
        strike(rig, number)?;
    }
    wiped_parts(rig)?;
    let seq = rig.pause()?;
    rig.drain()?;
    rig.grade_all_exact(seq)?;
    // A part that was wiped, and changed before the next snapshot, is on the bucket alone.
    rig.upkeep("repair")?;
    rig.upkeep("prune")?;
    for at in [DIRECTORY, BUCKET] {
        rig.mean(at);
        if let Some(part) = unnamed(rig)?.first() {
            return violation(format!("no manifest names {part:?}, and prune has left it"));
        }
        rig.grade_exact(seq)?;
        rig.grade_some(2)?;
    }
    match rig.store().put_again() {
        0 => Ok(()),
        times => violation(format!("{times} parts were sent that were there")),
    }
}

/// A snapshot is cut short at one of its moments; the next daemon makes a whole one.
fn strike(rig: &mut Rig, number: u64) -> Result<()> {
    let (name, stop) = MOMENTS[((rig.seed + number) % 4) as usize];
    let skip = if stop.kinds == ["/part/"] && number == 0 { rig.rng.below(2) } else { 0 };
    rig.store().stop_at(Stop { skip, ..stop });
    rig.start_daemon()?;
    if number > 0 {
        rig.act("touch 3")?;
        rig.go()?;
    }
    let reached = rig.store().wait_for_stop(PATIENCE);
    let killed = rig.kill_daemon();
    rig.store().let_go();
    killed?;
    if !reached {
        return violation(format!("no snapshot came to the moment {name}"));
    }
    rig.tally.fault(name);
    for at in [DIRECTORY, BUCKET] {
        rig.mean(at);
        let left = !unnamed(rig)?.is_empty();
        rig.tally.faults("left: parts without a manifest", u64::from(left));
        rig.grade_latest()?;
    }
    let seq = rig.pause()?;
    rig.start_daemon()?;
    rig.sync()?;
    rig.grade_all_exact(seq)?;
    rig.kill_daemon()
}

/// A part that the newest manifest names goes from the directory, under the daemon or while it is away.
/// Without it only an older snapshot that does not name it either can stand in, and the next one has it
/// again, although it did not change.
fn wiped_parts(rig: &mut Rig) -> Result<()> {
    rig.mean(DIRECTORY);
    let away = (rig.seed / 2).is_multiple_of(2);
    if !away {
        // It has made a snapshot, and knows what is there.
        rig.start_daemon()?;
        rig.go()?;
        let before = newest(rig)?.1;
        further(rig, before)?;
        rig.pause()?;
    }
    let (before, part) = a_part(rig)?;
    std::fs::remove_file(rig.replica().join(Name::Part(part).to_string()))?;
    rig.tally.fault(if away { "part wiped while away" } else { "part wiped under the daemon" });
    let source = rig.source();
    if rig.verify(&source)? {
        return violation("verify finds no fault with a snapshot that lacks a part");
    }
    rig.refused_or_right()?;
    if away {
        rig.start_daemon()?;
    }
    rig.go()?;
    // One under way has looked already.
    let before = if away { before } else { further(rig, before)? };
    further(rig, before)?;
    let seq = rig.pause()?;
    rig.sync()?;
    let (named, there) = (newest(rig)?.0, listed(rig)?.1.parts);
    if let Some(lost) = named.iter().find(|part| !there.contains_key(part)) {
        return violation(format!("{lost:?} was wiped, and nobody has noticed"));
    }
    // Writers may have come to it after all: then there is nothing to be noticed.
    rig.tally.faults("wiped part noticed", u64::from(named.contains(&part)));
    rig.grade_all_exact(seq)?;
    rig.go()
}

/// Waits for a snapshot after the one of `before`; the commit that it is of.
fn further(rig: &mut Rig, before: u64) -> Result<u64> {
    let began = Instant::now();
    loop {
        rig.daemon_lives()?;
        match newest(rig)?.1 {
            now if now != before => return Ok(now),
            _ if began.elapsed() > PATIENCE => return violation("no further snapshot was made"),
            _ => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// The parts of the newest snapshot, and which commit that is of.
fn newest(rig: &Rig) -> Result<(Vec<Part>, u64)> {
    let (source, replica) = listed(rig)?;
    let newest = replica.snapshots.iter().max_by_key(|span| (span.last, span.timeline));
    let Some(newest) = newest else { return Ok((Vec::new(), 0)) };
    let manifest = read_manifest(&*source, newest);
    let manifest = manifest.map_err(|error| Failure::Violation(error.to_string()))?;
    Ok((manifest.parts.iter().map(|part| part.part).collect(), newest.last.0))
}

/// A part of the newest snapshot that writers hardly touch: neither the first one nor the last one.
fn a_part(rig: &Rig) -> Result<(u64, Part)> {
    let (parts, commit) = newest(rig)?;
    match parts.get(1) {
        Some(part) if parts.len() > 2 => Ok((commit, *part)),
        _ => violation(format!("a snapshot of {} parts", parts.len())),
    }
}

fn unnamed(rig: &Rig) -> Result<Vec<Part>> {
    let (source, replica) = listed(rig)?;
    let named = named_parts(&*source, &replica)?;
    Ok(replica.parts.keys().filter(|part| !named.contains(part)).copied().collect())
}
