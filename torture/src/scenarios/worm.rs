//! Destinations that nothing can be removed from: for want of a right to it, or since it is locked.

use super::busy;
use super::upkeep::{SETTINGS, STEPS, listed, note_what_is_left, settle};
use crate::rig::{Result, Rig, violation};
use crate::store::Version;
use crate::workload::writer::Args;
use bakelite::config::{Lock, LockMode};
use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

/// By then a daemon has made a round of upkeep, unless the machine is very slow.
const ROUND: Duration = Duration::from_millis(1400);
/// The shortest lock there is.
const PERIOD: Duration = Duration::from_secs(60);
/// Objects of a bucket with locks only become more.
const FEWER: &str = "ship_interval = \"250ms\"\nsnapshot_interval = \"1s\"\n\
     compaction = [\"500ms\", \"1s\"]\nkeep = [\"all:1s\", \"50ms:4s\"]";

/// The places of the destinations.
const FIRST: usize = 0;
const BUCKET: usize = 1;

/// Both have the newest commit, and one of them what `keep` promises.
fn grade(rig: &mut Rig, thoroughly: usize) -> Result<()> {
    for at in [FIRST, BUCKET] {
        rig.mean(at);
        match at == thoroughly {
            true => rig.grade_kept(1)?,
            false => drop(rig.grade_latest()?),
        }
    }
    Ok(())
}

/// The daemon's keys may remove nothing, and after a while they may.
pub fn denied(rig: &mut Rig) -> Result<()> {
    rig.set_destinations(Vec::new());
    rig.add_named_directory("disk-1")?;
    rig.add_store()?;
    rig.set(SETTINGS)?;
    rig.cast_shadow(&STEPS)?;
    rig.create(Args { pace: Some(6000), ..busy() })?;
    rig.store().keep_all(true);
    rig.go()?;
    for life in 0..5 {
        rig.start_daemon()?;
        thread::sleep(ROUND);
        if life % 2 == 1 {
            rig.sync()?;
        }
        let verb = *rig.rng.pick(&["compact", "prune"]);
        rig.upkeep(verb)?;
        rig.kill_daemon()?;
        note_what_is_left(rig)?;
        grade(rig, 1 - life % 2)?;
    }
    rig.tally.faults("removal denied", rig.store().denied());
    went_on_without(rig)?;
    rig.store().keep_all(false);
    let seq = rig.pause()?;
    rig.start_daemon()?;
    rig.sync()?;
    rig.grade_all_exact(seq)?;
    rig.drain()?;
    settle(rig, seq)
}

/// What the bucket could not let go of is gone from the directory: the one does not wait for the other.
fn went_on_without(rig: &mut Rig) -> Result<()> {
    rig.upkeep("compact")?;
    let [mut directory, mut bucket] = [(0, 0); 2];
    for (at, count) in [(FIRST, &mut directory), (BUCKET, &mut bucket)] {
        rig.mean(at);
        let (_, replica) = listed(rig)?;
        let merged = replica.changes.keys().filter(|(_, level)| *level > 0).count();
        *count = (replica.changes.len() - merged, merged);
    }
    match directory.1 > 0 && bucket.1 > 0 && directory.0 * 2 < bucket.0 {
        true => Ok(()),
        false => violation(format!(
            "shipped and merged change-sets: {directory:?} in the directory, {bucket:?} in the bucket"
        )),
    }
}

/// Everything is locked, and a thief of the daemon's keys does what they may.
pub fn locked(rig: &mut Rig) -> Result<()> {
    let (mode, what) = match rig.seed.is_multiple_of(2) {
        true => (LockMode::Governance, "locked in governance mode"),
        false => (LockMode::Compliance, "locked in compliance mode"),
    };
    rig.tally.fault(what);
    rig.set_destinations(Vec::new());
    rig.add_vault(Lock { period: PERIOD, mode })?;
    rig.add_store()?;
    rig.set(FEWER)?;
    rig.cast_shadow(&STEPS)?;
    rig.create(Args { pace: Some(20_000), ..busy() })?;
    rig.go()?;
    let mut vault = Vault::default();
    for life in 0..4 {
        rig.start_daemon()?;
        rig.sync()?;
        thread::sleep(ROUND);
        vault.look(rig, 8)?;
        let under = rig.rng.one_in(2);
        if !under {
            rig.kill_daemon()?;
        }
        vault.strike(rig)?;
        grade(rig, life % 2)?;
        rig.upkeep(if life % 2 == 0 { "compact" } else { "prune" })?;
        if under {
            rig.sync()?;
            grade(rig, 1 - life % 2)?;
            rig.kill_daemon()?;
        }
        vault.look(rig, 8)?;
    }
    let seq = rig.pause()?;
    rig.start_daemon()?;
    rig.sync()?;
    rig.grade_all_exact(seq)?;
    vault.strike(rig)?;
    rig.drain()?;
    rig.grade_all_exact(seq)?;
    vault.look(rig, 1)?;
    vault.wait_for_an_end();
    for verb in ["compact", "prune"] {
        rig.upkeep(verb)?;
    }
    vault.look(rig, 1)?;
    rig.grade_all_exact(seq)?;
    rig.mean(FIRST);
    rig.grade_kept(2)
}

/// What was ever seen to be locked: the first version of each object, with its bytes and the end of its
/// lock.
#[derive(Default)]
struct Vault {
    firsts: BTreeMap<String, (Version, Vec<u8>, String)>,
}

impl Vault {
    /// What was locked is there and the same, and still locked for as long; what is new is noted.
    /// One in `one_in` is read.
    fn look(&mut self, rig: &mut Rig, one_in: u64) -> Result<()> {
        let ever: BTreeMap<String, _> = rig.store().ever().into_iter().collect();
        let versions = rig.server().versions()?;
        let mut gone = Vec::new();
        for (key, (first, bytes, until)) in &self.firsts {
            let there = versions.get(key).is_some_and(|all| all.contains(first));
            if there && !rig.rng.one_in(one_in) {
                continue;
            }
            if !there && ended(until) {
                rig.tally.fault("removed once its lock had ended");
                gone.push(key.clone());
                continue;
            }
            match there.then(|| rig.server().read(first)).transpose()? {
                None => return violation(format!("{key} was locked until {until}, and is gone")),
                Some((now, _)) if now != *bytes => {
                    return violation(format!("{key} is another one"));
                }
                Some((_, Some(ends))) if ends >= *until => rig.tally.fault("locked object there"),
                Some((_, ends)) => {
                    return violation(format!("{key}: locked until {until}, now until {ends:?}"));
                }
            }
        }
        gone.iter().for_each(|key| drop(self.firsts.remove(key)));
        for (key, all) in &versions {
            let first = all.iter().rfind(|version| !version.is_marker);
            let is_ours = key
                .split_once('/')
                .is_some_and(|(_, name)| name.parse::<bakelite::name::Name>().is_ok());
            let Some(first) = first.filter(|_| is_ours && !self.firsts.contains_key(key)) else {
                continue;
            };
            let (bytes, until) = rig.server().read(first)?;
            let Some(until) = until else { return violation(format!("{key} is not locked")) };
            if ever.get(key).is_some_and(|shipped| **shipped != bytes) {
                return violation(format!("{key} is not what the other bucket was given"));
            }
            self.firsts.insert(key.clone(), (first.clone(), bytes, until));
        }
        Ok(())
    }

    /// Waits until the lock that ends first has ended, and some more with it.
    fn wait_for_an_end(&self) {
        let first = self.firsts.values().map(|(.., until)| until).min();
        while first.is_some_and(|until| !ended(until)) {
            thread::sleep(ROUND);
        }
        thread::sleep(3 * ROUND);
    }

    /// The thief does one thing or another to each object, or leaves it alone.
    fn strike(&mut self, rig: &mut Rig) -> Result<()> {
        // What is about to end is left to upkeep.
        let locked = self.firsts.values().filter(|(.., until)| !ended(until));
        let firsts: Vec<Version> = locked.map(|(first, ..)| first.clone()).collect();
        for first in firsts {
            let (hide, cover) = (rig.rng.one_in(4), rig.rng.one_in(4));
            let both = if rig.rng.one_in(2) { [false, true] } else { [true, false] };
            for covers in both {
                let did = match covers {
                    true if cover => rig.server().cover(&first.key, b"the thief's own")?,
                    false if hide => rig.server().hide(&first.key)?,
                    _ => continue,
                };
                if did {
                    rig.tally.fault(if covers {
                        "covered by a thief"
                    } else {
                        "hidden by a thief"
                    });
                }
            }
            if rig.rng.one_in(6) {
                let until = self.firsts[&first.key].2.clone();
                if rig.server().destroy(&first)? && !ended(&until) {
                    return violation(format!("{} could be removed, it was not locked", first.key));
                }
                rig.tally.fault("lock withstood a thief");
            }
        }
        // He has the right to remove: only the locks keep him from it.
        let all = rig.server().versions()?;
        let is_his = |version: &&Version| {
            !version.is_marker
                && self.firsts.get(&version.key).is_some_and(|(first, ..)| first.id != version.id)
        };
        let his = all.values().flatten().find(is_his).cloned();
        if let Some(his) = his {
            if !rig.server().destroy(&his)? {
                return Err(crate::rig::Failure::Harness("the thief may not remove".into()));
            }
            rig.tally.fault("version without a lock removed");
        }
        Ok(())
    }
}

/// Whether a lock may have ended, by a clock that is the server's as well, to the second.
fn ended(until: &str) -> bool {
    const SECONDS: usize = "2026-01-01T00:00:00".len();
    let now = crate::replica::rfc3339(crate::ledger::Micros::now().0 / 1000);
    until.get(..SECONDS) <= now.get(..SECONDS)
}
