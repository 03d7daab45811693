//! The red path: a replica damaged in every way that a disk, a store or a person may find.
//!
//! A copy of a small replica is damaged in one place, asked for its newest commit and for one that
//! needs the damaged object, and mended again. To be refused is right. To give the right bytes is
//! right too: what was damaged was not needed. An older commit in place of the newest one is right
//! only where the newest objects were taken away whole, since less history looks just like that.

use super::busy;
use crate::course::Place;
use crate::oracle::{Expect, Violation};
use crate::replica::{self, Refused, directory};
use crate::rig::{Failure, Result, Rig, Verdict, violation};
use crate::rng::Rng;
use crate::workload::writer::Args;
use bakelite::commit::CommitNo;
use bakelite::error::Status;
use bakelite::name::{Change, Name, Span};
use bakelite::restore::Target;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The same where all is sealed, that other database's replica with the same key.
pub fn sealed_objects(rig: &mut Rig) -> Result<()> {
    rig.sealing.key_files = vec![rig.keygen("key")?];
    objects(rig)
}

pub fn objects(rig: &mut Rig) -> Result<()> {
    let (seq, foreign) = build(rig)?;
    let objects = replica::objects(&rig.replica()).map_err(Failure::Harness)?;
    let foreign = replica::objects(&foreign).map_err(Failure::Harness)?;
    let copy = rig.dir.join("damaged");
    let (listed, commits, wrong) = (rig.listed()?, BTreeMap::new(), Vec::new());
    let newest = rig.truth.course.here(seq);
    let mut bench = Bench { newest, commits, listed, copy, objects, foreign, wrong };
    copy_all(&bench.objects, &rig.replica(), &bench.copy)?;
    bench.check_untouched(rig)?;
    for index in sample(&mut rig.rng, &bench.objects) {
        for damage in DAMAGES {
            bench.try_one(rig, index, *damage)?;
        }
    }
    bench.tail_lost(rig)?;
    // Each damage is a case of its own: all are tried, and then all that went wrong is told.
    match bench.wrong.len() {
        0 => Ok(()),
        wrong => violation(format!("{wrong} accepted: {}", bench.wrong.join("; "))),
    }
}

/// Two lives of a daemon, several change-sets in each, in every other seed on two branches; and a
/// replica of another database.
fn build(rig: &mut Rig) -> Result<(u64, PathBuf)> {
    let seq = history(rig)?;
    let dir = rig.dir.join("foreign");
    fs::create_dir(&dir)?;
    // The same shape: neighbours of a seed differ in page size, the eighth one does not.
    let mut foreign = Rig::new(rig.seed + 8, &rig.programs, &dir)?;
    foreign.sealing = rig.sealing.clone();
    history(&mut foreign)?;
    foreign.finish()?;
    Ok((seq, foreign.replica()))
}

fn history(rig: &mut Rig) -> Result<u64> {
    rig.create(Args { pace: Some(2000), vacuum: None, ..busy() })?;
    let forks = !rig.seed.is_multiple_of(2);
    let other = if forks { Some(rig.add_host()?) } else { None };
    for life in 0..2 {
        rig.start_daemon()?;
        rig.go()?;
        for _ in 0..3 {
            if let Some(host) = other.filter(|_| life == 0) {
                rig.pause()?;
                rig.bring_database(host)?;
                rig.switch(0);
                rig.go()?;
            }
            rig.random_wait(40);
            rig.sync()?;
        }
        rig.pause()?;
        rig.drain()?;
        if let Some(host) = other.filter(|_| life == 0) {
            // Goes on from less than was committed.
            rig.switch(host);
            rig.fork();
            rig.start_writer(Args { pace: Some(2000), vacuum: None, paused: true, ..busy() })?;
            rig.tally.fault("forked");
        }
    }
    let seq = rig.stop_writers()?;
    rig.grade_exact(seq)?;
    Ok(seq)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// One bit, at so many 64ths of the object.
    Flipped(u64),
    FlippedAnywhere,
    CutToHalf,
    CutByOne,
    Grown,
    Emptied,
    Zeroed,
    Deleted,
    /// With another one of its kind.
    Swapped,
    /// An older one of its kind in its place.
    Older,
    /// A copy under a name that would come after it.
    Renamed,
    /// One of its kind from another database in its place.
    Foreign,
    /// One of its kind from another database beside it.
    ForeignBeside,
}

use Damage::*;

const DAMAGES: &[Damage] = &[
    Flipped(0),
    Flipped(1),
    Flipped(4),
    Flipped(16),
    Flipped(32),
    Flipped(48),
    Flipped(60),
    Flipped(62),
    Flipped(63),
    FlippedAnywhere,
    FlippedAnywhere,
    FlippedAnywhere,
    CutToHalf,
    CutByOne,
    Grown,
    Emptied,
    Zeroed,
    Deleted,
    Swapped,
    Older,
    Renamed,
    Foreign,
    ForeignBeside,
];

impl Damage {
    fn word(self) -> &'static str {
        match self {
            Flipped(_) | FlippedAnywhere => "damage flipped",
            CutToHalf | CutByOne => "damage cut",
            Grown => "damage grown",
            Emptied => "damage emptied",
            Zeroed => "damage zeroed",
            Deleted => "damage deleted",
            Swapped => "damage swapped",
            Older => "damage older",
            Renamed => "damage renamed",
            Foreign | ForeignBeside => "damage foreign",
        }
    }
}

impl Damage {
    /// Changes the bytes under a name.
    fn is_in_place(self) -> bool {
        !matches!(self, Deleted | Renamed | ForeignBeside)
    }
}

struct Bench {
    /// The newest commit of the sound replica.
    newest: Place,
    /// Where each commit of the sound replica that was asked for has landed.
    commits: BTreeMap<CommitNo, Place>,
    listed: Vec<u64>,
    copy: PathBuf,
    objects: Vec<(Name, PathBuf)>,
    foreign: Vec<(Name, PathBuf)>,
    wrong: Vec<String>,
}

impl Bench {
    fn check_untouched(&self, rig: &mut Rig) -> Result<()> {
        let expect = Expect { exactly: Some(self.newest), ..Expect::default() };
        match rig.verdict(&directory(&self.copy), Target::Latest, &expect)? {
            Verdict::Judged { grade, .. } if grade.is_right() => (),
            verdict => return violation(format!("the copy of a sound replica: {verdict:?}")),
        }
        match rig.verify(&directory(&self.copy))? {
            true => Ok(()),
            false => violation("verify finds fault with the copy of a sound replica"),
        }
    }

    fn try_one(&mut self, rig: &mut Rig, index: usize, damage: Damage) -> Result<()> {
        let (name, original) = self.objects[index].clone();
        let bytes = fs::read(&original)?;
        let Some(touched) = self.inflict(rig, index, damage, &bytes)? else {
            return Ok(());
        };
        rig.tally.fault(damage.word());
        // Asked for what needs the object most: the last commit in it, and then the newest.
        // (The commits before the first snapshot was complete cannot be asked for.)
        let own = last_commit(&name).filter(|commit| self.listed.contains(&commit.0));
        let own = own.map(Target::Commit);
        for target in own.into_iter().chain([Target::Latest]) {
            let expect = Expect { exactly: Some(self.sound(rig, target)?), ..Expect::default() };
            let verdict = rig.verdict(&directory(&self.copy), target, &expect)?;
            let what = format!("{damage:?} of {name}, then {target:?}");
            self.settle(rig, &what, verdict, damage == Deleted && self.is_tail(&name));
        }
        // Whether or not a restore needs the object, one that is not what it was is to be found.
        if damage.is_in_place() && rig.rng.one_in(5) && rig.verify(&directory(&self.copy))? {
            self.wrong.push(format!("{damage:?} of {name}: verify found nothing"));
        }
        for path in touched {
            self.mend(rig, &path)?;
        }
        Ok(())
    }

    /// What the sound replica gives.
    fn sound(&mut self, rig: &mut Rig, target: Target) -> Result<Place> {
        let Target::Commit(commit) = target else { return Ok(self.newest) };
        if let Some(&place) = self.commits.get(&commit) {
            return Ok(place);
        }
        let place = rig.grade_commit(commit.0, None)?;
        self.commits.insert(commit, place);
        Ok(place)
    }

    fn settle(&mut self, rig: &mut Rig, what: &str, verdict: Verdict, tail: bool) {
        match verdict {
            Verdict::Refused(refused) if is_orderly(&refused) => rig.tally.rejected += 1,
            Verdict::Refused(Refused { status, message }) => {
                self.wrong.push(format!("{what}: ended with {status}: {message}"));
            }
            Verdict::Judged { grade, .. } if grade.is_right() => {
                rig.tally.fault("right without it");
            }
            Verdict::Judged { grade, .. } if tail && only_short(&grade.violations) => {
                rig.tally.fault("shorter history");
            }
            Verdict::Judged { landed, grade, .. } => {
                self.wrong.push(format!("{what}: accepted {landed:?}: {:?}", grade.violations));
            }
        }
    }

    /// The newest change-sets gone whole: an older commit comes back, and it is right.
    fn tail_lost(&mut self, rig: &mut Rig) -> Result<()> {
        let changes: Vec<_> =
            self.objects.iter().filter(|(name, _)| matches!(name, Name::Change(_))).collect();
        let mut before = None;
        for (name, _) in changes.iter().rev().take(4) {
            fs::remove_file(self.copy.join(name.to_string()))?;
            match rig.verdict(&directory(&self.copy), Target::Latest, &Expect::default())? {
                Verdict::Judged { grade, .. }
                    if grade.is_right() && is_before(grade.place, before) =>
                {
                    before = grade.place;
                }
                Verdict::Refused(refused) if is_orderly(&refused) => return Ok(()),
                verdict => return violation(format!("the tail from {name} lost: {verdict:?}")),
            }
        }
        Ok(())
    }

    /// Whether nothing that counts commits follows.
    fn is_tail(&self, name: &Name) -> bool {
        let end = self.objects.iter().filter_map(|(name, _)| last_commit(name)).max();
        last_commit(name) == end
    }

    /// Damages the copy and says which files were touched; `None` where this damage does not apply.
    fn inflict(
        &self,
        rig: &mut Rig,
        index: usize,
        damage: Damage,
        bytes: &[u8],
    ) -> Result<Option<Vec<PathBuf>>> {
        let (name, _) = &self.objects[index];
        let own = self.copy.join(name.to_string());
        let peer = |older: bool| {
            let mut peers = self.objects.iter().enumerate();
            let like = |&(at, (other, _)): &(usize, &(Name, PathBuf))| {
                other.kind() == name.kind() && at != index && (!older || at < index)
            };
            if older { peers.rfind(like) } else { peers.find(like) }
        };
        let foreign = || self.foreign.iter().rev().find(|(other, _)| other.kind() == name.kind());
        let changed = match damage {
            Deleted => {
                fs::remove_file(&own)?;
                return Ok(Some(vec![own]));
            }
            Swapped => {
                let Some((_, (other, path))) = peer(false) else { return Ok(None) };
                let other = self.copy.join(other.to_string());
                fs::write(&own, fs::read(path)?)?;
                fs::write(&other, bytes)?;
                return Ok(Some(vec![own, other]));
            }
            Renamed => {
                let Some(other) = following(name) else { return Ok(None) };
                let other = self.copy.join(other.to_string());
                fs::write(&other, bytes)?;
                return Ok(Some(vec![other]));
            }
            ForeignBeside => {
                let Some((other, path)) = foreign() else { return Ok(None) };
                let other = self.copy.join(other.to_string());
                if other.exists() {
                    return Ok(None);
                }
                fs::write(&other, fs::read(path)?)?;
                return Ok(Some(vec![other]));
            }
            Older => match peer(true) {
                Some((_, (_, path))) => fs::read(path)?,
                None => return Ok(None),
            },
            Foreign => match foreign() {
                Some((_, path)) => fs::read(path)?,
                None => return Ok(None),
            },
            _ => in_place(&mut rig.rng, damage, bytes),
        };
        if changed == bytes {
            return Ok(None);
        }
        fs::write(&own, changed)?;
        Ok(Some(vec![own]))
    }

    fn mend(&self, rig: &Rig, path: &Path) -> Result<()> {
        let name = path.strip_prefix(&self.copy).expect("a path in the copy");
        let original = rig.replica().join(name);
        match original.exists() {
            true => fs::copy(original, path).map(drop)?,
            false => fs::remove_file(path)?,
        }
        Ok(())
    }
}

fn in_place(rng: &mut Rng, damage: Damage, bytes: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    let len = bytes.len() as u64;
    let mut flip = |low: u64, end: u64, rng: &mut Rng| {
        changed[rng.between(low, end.max(low + 1) - 1) as usize] ^= 1 << rng.below(8);
    };
    match damage {
        Flipped(part) => flip(len * part / 64, len * (part + 1) / 64, rng),
        FlippedAnywhere => flip(0, len, rng),
        CutToHalf => changed.truncate(bytes.len() / 2),
        CutByOne => changed.truncate(bytes.len() - 1),
        Grown => changed.push(0),
        Emptied => changed.clear(),
        Zeroed => changed.fill(0),
        _ => unreachable!("not in place"),
    }
    changed
}

/// By a status that says what is wrong with the replica: nothing to begin with, damage, a key that nobody
/// has, a format that nobody knows.
fn is_orderly(refused: &Refused) -> bool {
    let of_a_replica = [Status::Missing, Status::Integrity, Status::Key, Status::Newer];
    of_a_replica.iter().any(|status| *status as i32 == refused.status)
        && !refused.message.contains("panicked")
}

/// Whether a file that lacks more of the history is not ahead of one that lacks less.
fn is_before(found: Option<Place>, with_more: Option<Place>) -> bool {
    match (found, with_more) {
        (Some(found), Some(with_more)) => with_more.after(found).is_some(),
        (found, _) => found.is_some(),
    }
}

pub(super) fn only_short(violations: &[Violation]) -> bool {
    violations.iter().all(|wrong| matches!(wrong, Violation::NotExact { .. }))
}

fn last_commit(name: &Name) -> Option<CommitNo> {
    match name {
        Name::Snapshot(span) | Name::Change(Change { span, .. }) => Some(span.last),
        Name::Timeline(_) | Name::Part(_) => None,
    }
}

/// A name of the same kind that would continue where this one ends.
fn following(name: &Name) -> Option<Name> {
    let after = |span: &Span| {
        let length = span.last.0 - span.first.0;
        let first = span.last.next();
        Span { first, last: CommitNo(first.0 + length), ..*span }
    };
    match name {
        Name::Timeline(timeline) => {
            Some(Name::Timeline(bakelite::commit::Timeline(timeline.0 + 1)))
        }
        Name::Snapshot(span) => Some(Name::Snapshot(after(span))),
        Name::Change(change) => Some(Name::Change(Change { span: after(&change.span), ..*change })),
        Name::Part(part) => Some(Name::Part(bakelite::name::Part { hash: part.hash ^ 1, ..*part })),
    }
}

/// The first and last two of each kind and some between: enough to meet every role.
fn sample(rng: &mut Rng, objects: &[(Name, PathBuf)]) -> Vec<usize> {
    let mut chosen = Vec::new();
    for kind in ["timeline", "snapshot", "part", "change"] {
        let mut of_kind: Vec<usize> =
            (0..objects.len()).filter(|&at| objects[at].0.kind() == kind).collect();
        while of_kind.len() > 5 {
            let at = rng.between(2, of_kind.len() as u64 - 3) as usize;
            of_kind.remove(at);
        }
        chosen.append(&mut of_kind);
    }
    chosen
}

fn copy_all(objects: &[(Name, PathBuf)], from: &Path, to: &Path) -> Result<()> {
    for (name, _) in objects {
        let target = to.join(name.to_string());
        fs::create_dir_all(target.parent().expect("names have folders"))?;
        fs::copy(from.join(name.to_string()), target)?;
    }
    // What else the replica's root holds belongs to it, too.
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
