//! A disk that is full for a while: under what the daemon keeps, under its destination, and under the
//! target of a restore. Writes are cut there for real, and files are begun that cannot be ended.

use super::{busy, upkeep};
use crate::oracle::Expect;
use crate::rig::{Failure, Ram, Result, Rig, violation};
use crate::workload::writer::Args;
use bakelite::error::Status;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

const ROUNDS: u64 = 4;
/// How often it is looked whether the daemon has run into it, and how long in between.
const LOOKS: u64 = 200;
const PAUSE: Duration = Duration::from_millis(10);
/// What the operating system calls it.
const FULL: &str = "(os error 28)";

/// What lies on the small disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    State,
    Destination,
    Both,
}

pub fn full(rig: &mut Rig) -> Result<()> {
    let mount = rig.dir.join("ram");
    rig.ram = Ram::new(&mount)?;
    if rig.ram.is_none() {
        return Err(Failure::NotPermitted("no small disk may be mounted".into()));
    }
    let on = [On::State, On::Destination, On::Both][(rig.seed % 3) as usize];
    rig.set_destinations(Vec::new());
    rig.add_named_directory(if on == On::State { "disk-1" } else { "ram/disk-1" })?;
    let state = match on {
        On::Destination => String::new(),
        On::State | On::Both => format!("state_dir = {:?}\n", mount.join("state")),
    };
    rig.set(&format!("{state}{}", upkeep::SETTINGS))?;
    rig.create(Args { pace: Some(2000), ..busy() })?;
    rig.start_daemon()?;
    rig.go()?;
    rig.sync()?;
    let killed_in = rig.rng.below(ROUNDS);
    for at in 0..ROUNDS {
        round(rig, on, at == killed_in)?;
    }
    let seq = rig.pause()?;
    rig.drain()?;
    rig.grade_exact(seq)?;
    let source = rig.source();
    if !rig.verify(&source)? {
        return violation("verify finds fault with what a full disk has left");
    }
    restores(rig, seq)
}

/// The disk is full, or nearly, and gets room again. What is said to be durable meanwhile is; a daemon that
/// cannot go on says so, and the next one heals it.
fn round(rig: &mut Rig, on: On, kill: bool) -> Result<()> {
    rig.ram().fill()?;
    let room = *rig.rng.pick(&[0, 0, 4 << 10, 40 << 10, 400 << 10]);
    rig.ram().leave(room)?;
    let noticed = run_into_it(rig)?;
    let ended = kill && !rig.daemon_goes_on()?;
    if kill && !ended {
        rig.kill_daemon()?;
        rig.start_daemon()?;
        rig.random_wait(200);
    }
    let acked = rig.acked()?;
    let sync = rig.start_sync()?;
    rig.random_wait(100);
    rig.grade_latest()?;
    rig.ram().make_room()?;
    if rig.sync_ends(sync, acked)? {
        rig.grade_latest()?;
    }
    let seq = rig.pause()?;
    if ended || !rig.daemon_goes_on()? {
        rig.tally.fault("ended by a full disk");
        rig.start_daemon()?;
    }
    rig.sync_at_last()?;
    rig.grade_exact(seq)?;
    rig.tally.faults(
        match on {
            On::State => "state on a full disk",
            On::Destination => "destination on a full disk",
            On::Both => "both on a full disk",
        },
        u64::from(noticed),
    );
    rig.go()
}

/// Waits until the daemon has met the full disk, or for as long as it may not have to.
fn run_into_it(rig: &mut Rig) -> Result<bool> {
    for _ in 0..LOOKS {
        if rig.daemon_says(FULL) {
            return Ok(true);
        }
        thread::sleep(PAUSE);
    }
    Ok(false)
}

/// With room for some of it or nothing: refused, with the reason and nothing left. With room it is right.
fn restores(rig: &mut Rig, seq: u64) -> Result<()> {
    let target = rig.dir.join("ram/out/restored");
    let folder = rig.dir.join("ram/out");
    fs::create_dir(&folder)?;
    let bytes = restore(rig, &target, seq)?;
    for _ in 0..ROUNDS {
        let room = rig.rng.below(bytes / 2);
        rig.ram().fill()?;
        rig.ram().leave(room)?;
        let mut tight = rig.start_restore(&target)?;
        let status = tight.wait()?.and_then(|status| status.code());
        let said = tight.complaint();
        if status != Some(Status::Failed as i32) || !said.contains(FULL) {
            return violation(format!("a restore with room for {room} bytes: {status:?}: {said}"));
        }
        if let Some(left) = fs::read_dir(&folder)?.next().transpose()? {
            return violation(format!("a restore to a full disk has left {:?}", left.path()));
        }
        rig.tally.fault("restore to a full disk");
        rig.ram().make_room()?;
        restore(rig, &target, seq)?;
    }
    Ok(())
}

/// The whole of it; its size.
fn restore(rig: &mut Rig, target: &Path, seq: u64) -> Result<u64> {
    let expect = Expect { exactly: Some(rig.truth.course.here(seq)), ..Expect::default() };
    let mut restore = rig.start_restore(target)?;
    if !restore.wait()?.is_some_and(|status| status.success()) {
        return violation(format!("a restore with room: {}", restore.complaint()));
    }
    let elsewhere = rig.new_output()?;
    let bytes = fs::copy(target, &elsewhere)?;
    fs::remove_file(target)?;
    rig.judge(&elsewhere, &expect)?;
    Ok(bytes)
}
