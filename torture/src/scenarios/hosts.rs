//! A replica and more than one host: one after another, and two at a time.

use super::{ALL, busy};
use crate::rig::{Result, Rig, violation};
use crate::rng::shuffle;
use crate::workload::writer::Args;

/// How the next host comes by the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Swap {
    /// A copy on a host that has never had it, with its WAL or closed properly before.
    New,
    /// The same host has lost the daemon's state.
    StateLost,
    /// Back to the first host, with a copy of what the last one had. Its state is stale.
    Back,
    /// Back to the first host, with the database that was left there. Both are stale.
    Stale,
}

use Swap::*;

pub fn swap(rig: &mut Rig) -> Result<()> {
    rig.create(application())?;
    live(rig)?;
    // The first host has to have been left before it can be gone back to.
    let mut ways = [Back, Stale];
    shuffle(&mut rig.rng, &mut ways);
    let mut swaps = vec![New, ways[0], New, ways[1]];
    let at = rig.rng.below(swaps.len() as u64 + 1) as usize;
    swaps.insert(at, StateLost);
    for swap in swaps {
        go_over(rig, swap)?;
        live(rig)?;
        rig.recheck(3)?;
    }
    rig.start_daemon()?;
    let seq = rig.pause()?;
    rig.drain()?;
    rig.grade_exact(seq)?;
    rig.grade_bytes()?;
    rig.recheck(ALL)?;
    rig.grade_branches(4)?;
    rig.grade_some(6).map(drop)
}

fn application() -> Args {
    Args { paused: true, pace: Some(300), ..busy() }
}

/// The daemon follows this host, and what it gives is right. Then it is gone, and nobody writes.
fn live(rig: &mut Rig) -> Result<()> {
    rig.start_daemon()?;
    rig.go()?;
    rig.random_wait(60);
    rig.sync()?;
    rig.keep_latest()?;
    rig.random_wait(40);
    let seq = rig.pause()?;
    if rig.rng.one_in(2) {
        rig.sync_exactly(seq)?;
    }
    match rig.rng.one_in(2) {
        true => rig.kill_daemon()?,
        false => rig.drain()?,
    }
    rig.keep_latest()?;
    rig.keep_some(2)
}

fn go_over(rig: &mut Rig, swap: Swap) -> Result<()> {
    // By a crash of the host its WAL stays, else the last close writes it back.
    match rig.rng.one_in(2) {
        true => rig.crash()?,
        false => drop(rig.stop_writers()?),
    }
    match swap {
        New => {
            let host = rig.add_host()?;
            rig.bring_database(host)?;
            rig.tally.fault("new host");
        }
        StateLost => rig.lose_state()?,
        Back => {
            rig.bring_database(0)?;
            rig.tally.fault("first host again");
        }
        Stale => {
            // What is committed there from now on has left the line of the others.
            rig.switch(0);
            rig.fork();
            rig.tally.fault("old database again");
        }
    }
    rig.start_writer(application()).map(drop)
}

/// Two copies of one database, both written to, both with a daemon, and one replica.
pub fn two(rig: &mut Rig) -> Result<()> {
    rig.create(application())?;
    rig.start_daemon()?;
    rig.go()?;
    rig.random_wait(50);
    let seq = rig.pause()?;
    rig.sync_exactly(seq)?;
    rig.keep_latest()?;
    second_host(rig)?;
    // Both are written to; the first one has made its commits durable when the second one comes.
    rig.switch(0);
    rig.go()?;
    rig.random_wait(40);
    rig.sync()?;
    rig.keep_latest()?;
    rig.keep_some(2)?;
    match rig.rng.below(3) {
        0 => at_once(rig)?,
        1 => told_to_end(rig)?,
        _ => taken_over(rig, 0, 1)?,
    }
    // The survivor was taken over from, and now takes it back.
    let survivor = rig.present();
    let other = 1 - survivor;
    rig.recheck(4)?;
    rig.switch(other);
    let seq = rig.pause()?;
    rig.take_turn(seq);
    rig.go()?;
    taken_over(rig, survivor, other)?;
    rig.recheck(4)?;
    let seq = rig.pause()?;
    rig.sync_exactly(seq)?;
    rig.grade_bytes()?;
    rig.drain()?;
    rig.grade_exact(seq)?;
    rig.recheck(ALL)?;
    rig.grade_branches(8)?;
    let source = rig.source();
    match rig.verify(&source)? {
        true => Ok(()),
        false => violation("the replica is damaged, says verify"),
    }
}

/// A second host with a copy of the first one's database, on a branch of its own from now on.
fn second_host(rig: &mut Rig) -> Result<()> {
    let host = rig.add_host()?;
    rig.bring_database(host)?;
    rig.fork();
    rig.start_writer(application())?;
    rig.go()
}

/// The daemon of `new` starts while that of `old` runs: the old one ends with status 6, and what is
/// restored is what the new one has.
fn taken_over(rig: &mut Rig, old: usize, new: usize) -> Result<()> {
    rig.switch(new);
    rig.start_daemon()?;
    match rig.first_to_end(&[old, new])? {
        Some((host, status, _)) if host == old && status.code() == Some(6) => (),
        Some((host, status, said)) => {
            let which = if host == old { "older" } else { "newer" };
            return violation(format!("the {which} daemon of two ended with {status}: {said}"));
        }
        None => return violation("two daemons go on writing one replica"),
    }
    rig.tally.fault("fenced");
    survives(rig)
}

/// Both daemons start at one time. Whichever it is, one goes on and the other one ends.
fn at_once(rig: &mut Rig) -> Result<()> {
    rig.kill_daemon()?;
    // The first one may come before the second one or after it.
    let first = rig.acked()?.unwrap_or_default();
    rig.take_turn(first);
    rig.start_daemon()?;
    rig.switch(1);
    let second = rig.acked()?.unwrap_or_default();
    rig.random_wait(6);
    rig.start_daemon()?;
    let loser = match rig.first_to_end(&[0, 1])? {
        Some((host, status, _)) if status.code() == Some(6) => host,
        Some((_, status, said)) => {
            return violation(format!("one of two daemons ended with {status}: {said}"));
        }
        None => return violation("two daemons go on writing one replica"),
    };
    rig.tally.fault("fenced");
    rig.switch(1 - loser);
    rig.take_turn(if loser == 0 { second } else { first });
    survives(rig)
}

/// The older daemon is told to end before it can have seen the newer one. What it has not made
/// durable before then it must not call durable.
fn told_to_end(rig: &mut Rig) -> Result<()> {
    rig.switch(1);
    rig.start_daemon()?;
    rig.sync()?;
    rig.switch(0);
    rig.pause()?;
    rig.act("commit 1")?;
    // It may have ended by itself.
    let (status, said) = rig.terminate()?;
    if status.code() != Some(6) {
        return violation(format!("the older daemon of two, told to end: {status}: {said}"));
    }
    rig.tally.fault("fenced");
    rig.switch(1);
    survives(rig)
}

fn survives(rig: &mut Rig) -> Result<()> {
    rig.random_wait(30);
    rig.daemon_lives()?;
    let seq = rig.pause()?;
    rig.sync_exactly(seq)?;
    rig.keep_latest()?;
    rig.keep_some(3)?;
    rig.go()
}
