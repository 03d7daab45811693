//! Keys that come, change and are lost, while the application writes.
//!
//! A replica that was plain is sealed, then sealed with another key, by `reencrypt` beside the daemon and
//! killed again and again. With all keys everything comes back all along; with some of them what
//! comes back is right, and what does not is refused for lack of a key. The daemon merges all the while.

use super::busy;
use super::upkeep::{MERGING, ROUNDS, stop_at_one};
use crate::rig::{Failure, NAME, Result, Rig, Under, violation};
use crate::workload::writer::Args;
use bakelite::error::Status;
use bakelite::key;
use bakelite::name::Name;
use bakelite::object::KeyId;
use bakelite::restore::Target;
use bakelite::seal::Rule;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How often a rewrite is killed, at most, and in the middle of its work.
const TRIES: usize = 16;
const CUTS: usize = 3;

pub fn rekeyed(rig: &mut Rig) -> Result<()> {
    let [first, second, other] = legacy(rig)?;
    convert(rig, &[&first], Rule::New)?;
    convert(rig, &[&second, &first], Rule::Auto)?;
    let seq = rig.stop_writers()?;
    rig.drain()?;
    rig.grade_all_exact(seq)?;
    for keys in [&[&*first][..], &[&other], &[&other, &first], &[]] {
        closed(rig, keys)?;
    }
    rig.configure(&[&second], Rule::Auto)?;
    rig.sync_exactly(seq)?;
    nothing_shows(rig)
}

/// Two plain replicas with some history, and three keys that nothing is sealed with yet.
fn legacy(rig: &mut Rig) -> Result<[PathBuf; 3]> {
    let keep = rig.dir.join("keep");
    std::fs::create_dir(&keep)?;
    rig.move_replica(&keep.join(NAME));
    rig.add_store()?;
    rig.configure(&[], Rule::Auto)?;
    let pace = Some(*rig.rng.pick(&[8000, 20_000]));
    rig.create(Args { pace, ..busy() })?;
    rig.start_daemon()?;
    rig.go()?;
    for _ in 0..12 {
        rig.random_wait(30);
        rig.sync()?;
    }
    rig.pause()?;
    rig.keep_some(4)?;
    let pieces = rig.pieces()?;
    let (shown, files) = rig.shown(&pieces)?;
    if pieces.count() < 50 || shown.len() < files / 4 {
        let what = format!("{} pieces, seen in {} of {files}", pieces.count(), shown.len());
        return Err(Failure::Harness(format!("a scan that does not find what is plain: {what}")));
    }
    rig.tally.fault("seen where it is plain");
    // A file that a killed daemon has left plain stays so until the next one starts.
    rig.drain()?;
    rig.start_daemon()?;
    Ok([rig.keygen("first")?, rig.keygen("second")?, rig.keygen("other")?])
}

/// The first of these keys seals what is stored from now on, and then all of it.
fn convert(rig: &mut Rig, keys: &[&Path], rule: Rule) -> Result<()> {
    let target = id(keys[0])?;
    restart(rig, keys, rule)?;
    let (mut longest_ms, mut cuts) = (8, 0);
    for _ in 0..TRIES {
        rig.go()?;
        let before = rig.under()?;
        let mut rewrite = rig.start_reencrypt()?;
        rig.random_wait(longest_ms);
        let restarted = rig.rng.one_in(4);
        if restarted {
            rig.kill_daemon()?;
            rig.start_daemon()?;
        }
        match rewrite.kill()? {
            Ok(()) => rig.tally.fault("reencrypt killed"),
            Err(status) if status.success() => rig.tally.fault("reencrypt was faster"),
            // A daemon that starts removes what is unfinished.
            Err(status) if restarted && status.code() == Some(Status::Unreachable as i32) => {
                rig.tally.fault("reencrypt was cut off");
            }
            Err(status) => return violation(format!("{status}: {}", rewrite.complaint())),
        }
        let (done, left) = progress(&before, &rig.under()?, target);
        cuts += usize::from(done > 0 && left > 0);
        if done > 0 && left > 0 {
            rig.tally.fault("killed mid-rewrite");
        }
        if done == 0 {
            longest_ms = (longest_ms * 2).min(400);
        }
        rig.pause()?;
        // Where nothing was rewritten, the one before has been judged.
        if done > 0 {
            judge(rig, keys)?;
        }
        if left == 0 || cuts == CUTS {
            break;
        }
    }
    finish(rig, keys, target)
}

/// How many objects that were not sealed with `target` now are, and are still not. Those that
/// are gone are neither.
fn progress(before: &[Under], now: &[Under], target: KeyId) -> (usize, usize) {
    let (mut done, mut left) = (0, 0);
    for (before, now) in before.iter().zip(now) {
        let old = before.iter().filter(|(_, under)| **under != Some(target));
        for under in old.filter_map(|(name, _)| now.get(name)) {
            *(if *under == Some(target) { &mut done } else { &mut left }) += 1;
        }
    }
    (done, left)
}

/// On each destination: all that was, with all keys; with some of them, nothing that is not right.
fn judge(rig: &mut Rig, keys: &[&Path]) -> Result<()> {
    for at in 0..rig.count() {
        rig.mean(at);
        rig.grade_latest()?;
        rig.grade_some(1)?;
        rig.recheck(1)?;
        let targets = [Some(Target::Latest), rig.kept_target()];
        for target in targets.into_iter().flatten() {
            for key in keys {
                rig.grade_with(&[key], target)?;
            }
            rig.grade_with(&[], target)?;
        }
    }
    Ok(())
}

/// Runs `reencrypt` to its end. From then on one key is enough.
fn finish(rig: &mut Rig, keys: &[&Path], target: KeyId) -> Result<()> {
    rig.go()?;
    let before = merged(&rig.under()?);
    // All is rewritten while the daemon is anywhere between putting a merge and deleting what it stands
    // for. Points do not become fewer here, which is the last of these moments.
    let stopped = stop_at_one(rig, "merge", &MERGING[..MERGING.len() - 1]);
    let reached = rig.store().wait_for_stop(ROUNDS);
    if !reached {
        // Else it would be the rewrite that stands still.
        rig.store().let_go();
    }
    let done = rig.reencrypt(&[]);
    rig.store().let_go();
    let done = done?;
    if !done.status.success() {
        return violation(format!("reencrypt: {}: {}", done.status, done.complaint));
    }
    rig.tally.fault(&if reached { stopped } else { format!("no {stopped}") });
    rig.tally.fault("rewritten");
    merges_are_under(rig, target, &before)?;
    restart(rig, &keys[..1], Rule::Auto)?;
    let seq = rig.pause()?;
    rig.sync()?;
    rig.grade_all_exact(seq)?;
    rig.recheck(3)?;
    nothing_shows(rig)
}

/// Neither what was rewritten nor what the daemon merges beside it and later is under another key.
fn merges_are_under(rig: &mut Rig, target: KeyId, before: &BTreeSet<String>) -> Result<()> {
    let began = Instant::now();
    loop {
        let under = rig.under()?;
        if let Some((name, under)) = under.iter().flatten().find(|(_, it)| **it != Some(target)) {
            return violation(format!("{name} is under {under:?} after reencrypt has ended"));
        }
        if !merged(&under).is_subset(before) {
            rig.tally.fault("merged beside reencrypt");
            return Ok(());
        }
        if began.elapsed() > ROUNDS {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// What was made by merging.
fn merged(under: &[Under]) -> BTreeSet<String> {
    let names = under.iter().flat_map(|under| under.keys());
    let level = |name: &str| matches!(name.parse(), Ok(Name::Change(it)) if it.level > 0);
    names.filter(|name| level(name)).cloned().collect()
}

/// A daemon with other keys takes the place of this one.
fn restart(rig: &mut Rig, keys: &[&Path], rule: Rule) -> Result<()> {
    match rig.rng.one_in(2) {
        true => rig.kill_daemon()?,
        false => rig.drain()?,
    }
    rig.configure(keys, rule)?;
    rig.start_daemon()
}

/// Neither an object nor a file that is not finished has a piece of the database in it.
fn nothing_shows(rig: &mut Rig) -> Result<()> {
    let pieces = rig.pieces()?;
    let (shown, _) = rig.shown(&pieces)?;
    rig.tally.fault("scanned");
    match shown.first() {
        None => Ok(()),
        Some(name) => violation(format!("{name} shows what the database holds")),
    }
}

/// Without the key nothing comes back, nothing is stored, and nothing is rewritten.
fn closed(rig: &mut Rig, keys: &[&Path]) -> Result<()> {
    for at in 0..rig.count() {
        rig.mean(at);
        let targets = [Some(Target::Latest), rig.kept_target()];
        for target in targets.into_iter().flatten() {
            if rig.grade_with(keys, target)? {
                return violation(format!("{target:?} came back with {keys:?}"));
            }
        }
    }
    let before = rig.under()?;
    rig.configure(keys, Rule::Auto)?;
    let wanted = Some(Status::Key as i32);
    let found = rig.sync_status()?;
    if found != wanted {
        return violation(format!("sync with {keys:?}: status {found:?}"));
    }
    if !keys.is_empty() {
        let found = rig.reencrypt(&[])?.status.code();
        if found != wanted {
            return violation(format!("reencrypt with {keys:?}: status {found:?}"));
        }
    }
    if rig.under()? != before {
        return violation(format!("something was stored with {keys:?}"));
    }
    rig.tally.fault("wrong key");
    Ok(())
}

fn id(file: &Path) -> Result<KeyId> {
    key::read(file).map(|key| key.id).map_err(|error| Failure::Harness(error.to_string()))
}
