//! A database comes back from the objects of one replica, as it stood at one commit.
//!
//! Change-sets are applied from the newest to the oldest, then the snapshot's parts: a page that a
//! newer object gave is passed over in an older one, so each page is written once. A version older
//! than a commit at which the database ended below its page is dead (VACUUM, then growth).
//!
//! Where a snapshot is damaged or lacks a part, an older one that leads to the same commit stands in for it,
//! and what a change-set was merged from stands in for that. No other commit ever does.
//!
//! The file is made beside the target, its state digest is recomputed over what was written, and only
//! a proved file takes the target's name. This module knows neither the WAL nor a live database.

mod choose;
mod delta;
mod output;
mod writer;

pub use choose::{Chosen, choose};

use crate::backend::Backend;
use crate::clock;
use crate::commit::{Commit, CommitNo, Digest, Time, Timeline};
use crate::durable::{self, Overwrite};
use crate::error::{Error, Result, Status};
use crate::name::{Name, Span};
use crate::replica::Replica;
use crate::sabotage;
use crate::snapshot::PartRef;
use output::{companions, refuse, refuse_in_use};
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use writer::{Wanted, Writer};

/// The commit that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Latest,
    /// The last commit seen at or before this time.
    At(Time),
    Commit(CommitNo),
}

/// What SQLite itself is asked about the restored file, beyond the digest that is always proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    None,
    Quick,
    Full,
}

#[derive(Clone, Debug)]
pub struct Options<'a> {
    pub output: &'a Path,
    pub target: Target,
    /// The timeline that leads to it, if not the newest.
    pub timeline: Option<Timeline>,
    pub check: Check,
    pub force: bool,
    pub dry_run: bool,
}

/// What was restored.
#[derive(Clone, Debug)]
pub struct Report {
    pub commit: CommitNo,
    pub time: Time,
    pub timeline: Timeline,
    pub digest: Digest,
    pub page_size: u32,
    pub pages: u32,
    /// Read from the replica.
    pub bytes: u64,
    pub objects: u64,
    pub seconds: f64,
    /// How many pages of a stale copy had to be rewritten, if that is how it was done.
    pub rewritten: Option<u32>,
    /// What would have been nearer, and why it was not taken.
    pub passed_over: Vec<PassedOver>,
}

/// A snapshot, or a part of a change-set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    pub object: Name,
    pub why: String,
}

/// How often a restore plans anew because upkeep was faster. It reads what upkeep merges first, and a
/// round merges what the one before has made once in a window of `compaction` only.
const PLANS: u32 = 16;

/// What it took to make the file.
#[derive(Debug, Default)]
struct Done {
    bytes: u64,
    objects: u64,
    rewritten: Option<u32>,
}

/// What becomes of a file that is at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Old {
    Refused,
    Replaced,
    /// It is a stale copy, and closed.
    Updated,
}

/// What is asked for.
#[derive(Clone, Copy)]
struct Work<'a> {
    source: &'a Arc<dyn Backend>,
    options: &'a Options<'a>,
    old: Old,
    progress: &'a dyn Progress,
    start: Instant,
}

/// Told of long work's progress.
pub trait Progress: Sync {
    /// In bytes.
    fn at(&self, done: u64, total: u64);

    /// In pages of databases, which may be of several sizes.
    fn pages(&self, done: u64, total: u64) {
        self.at(done, total);
    }
}

/// Tells nobody.
#[derive(Clone, Copy, Debug)]
pub struct Quiet;

impl Progress for Quiet {
    fn at(&self, _done: u64, _total: u64) {}
}

/// Restores from `source`.
pub fn restore(
    source: &Arc<dyn Backend>,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report> {
    let old = if options.force { Old::Replaced } else { Old::Refused };
    planned(source, options, old, progress)
}

/// Restores as well, but where the target is a stale copy of the database that nobody has open, only
/// the pages that differ are rewritten.
pub fn update(
    source: &Arc<dyn Backend>,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report> {
    planned(source, options, Old::Updated, progress)
}

fn planned(
    source: &Arc<dyn Backend>,
    options: &Options,
    old: Old,
    progress: &dyn Progress,
) -> Result<Report> {
    let start = clock::instant();
    // SQLite follows a link and has its WAL beside the file behind it: that one is to be replaced.
    let output = options.output.canonicalize().unwrap_or_else(|_| options.output.to_owned());
    let options = &Options { output: &output, ..*options };
    refuse(&output, old)?;
    let work = &Work { source, options, old, progress, start };
    let mut replica = Replica::list(&**source)?;
    let (mut target, mut damaged, mut plans) = (options.target, Damaged::default(), 1);
    loop {
        let (error, plan) = match choose(&**source, &replica, target, options.timeline) {
            Err(error) => (error, None),
            Ok(chosen) => match carry_out(work, &replica, &chosen, &damaged.objects) {
                Ok(report) => return Ok(Report { passed_over: damaged.passed_over, ..report }),
                Err(error) => (error, Some(chosen.plan)),
            },
        };
        // A wrong digest, and what SQLite finds wrong, come of no listing: another one mends neither.
        let of_listing = plan.is_none() || error.object.is_some();
        if plans < PLANS && error.status == Status::Integrity && of_listing {
            // Upkeep may have merged or deleted it meanwhile: then others lead to the commit.
            let now = damaged.leave_out(Replica::list(&**source)?);
            if has_moved_on(&error, &replica, &now) {
                (replica, plans) = (now, plans + 1);
                continue;
            }
        }
        let object = match &plan {
            Some(plan) => damaged.note(plan.snapshot, error)?,
            None => damaged.note_unread(&replica, error)?,
        };
        replica = replica.without(&object);
        target = plan.map_or(target, |plan| Target::Commit(plan.commit));
    }
}

/// Whether what an error is about has gone; or, where a listing seemed to lack something, whether another one
/// differs: it is not made at one moment.
fn has_moved_on(error: &Error, before: &Replica, now: &Replica) -> bool {
    let Some(object) = error.object.as_deref() else {
        let names = |replica: &Replica| {
            replica.objects.iter().map(|entry| entry.name.clone()).collect::<Vec<_>>()
        };
        return names(before) != names(now);
    };
    let holds = |replica: &Replica| replica.objects.iter().any(|entry| entry.name == *object);
    holds(before) && !holds(now)
}

/// What was found wrong.
#[derive(Debug, Default)]
struct Damaged {
    /// Parts of snapshots, and manifests.
    objects: Vec<Name>,
    passed_over: Vec<PassedOver>,
    first: Option<Error>,
}

impl Damaged {
    /// What has ended an attempt with this snapshot: what to leave out of the next one. An error: it was
    /// something else.
    fn note(&mut self, snapshot: Span, error: Error) -> Result<Name> {
        let object = match error.object.as_deref().filter(|_| error.status == Status::Integrity) {
            Some(bad @ (Name::Part(_) | Name::Snapshot(_))) => {
                self.objects.push(bad.clone());
                Name::Snapshot(snapshot)
            }
            Some(change @ Name::Change(_)) => change.clone(),
            Some(Name::Timeline(_)) | None => return Err(self.first.take().unwrap_or(error)),
        };
        Ok(self.pass_over(object, error))
    }

    /// The same of what had to be read to know which commit is meant. Others tell that as well if they hold all
    /// that it holds: else an older commit would be taken for it.
    fn note_unread(&mut self, replica: &Replica, error: Error) -> Result<Name> {
        match error.object.as_deref().filter(|_| error.status == Status::Integrity) {
            Some(Name::Change(change)) if replica.has_instead_of(change) => {
                Ok(self.pass_over(Name::Change(*change), error))
            }
            _ => Err(self.blame(error)),
        }
    }

    fn pass_over(&mut self, object: Name, error: Error) -> Name {
        self.passed_over.push(PassedOver { object: object.clone(), why: error.message.clone() });
        self.first.get_or_insert(error);
        object
    }

    fn leave_out(&self, replica: Replica) -> Replica {
        self.passed_over.iter().fold(replica, |replica, it| replica.without(&it.object))
    }

    /// The first error, with what can be restored without all that lack something: the last one knows.
    fn blame(&mut self, last: Error) -> Error {
        let Some(first) = self.first.take() else { return last };
        let knows = matches!(last.status, Status::Integrity | Status::Missing);
        let hint = last.hint.filter(|hint| knows && hint != choose::START);
        Error { hint: hint.or(first.hint), ..first }
    }
}

fn carry_out(work: &Work, replica: &Replica, chosen: &Chosen, bad: &[Name]) -> Result<Report> {
    let Work { source, options, old, progress, start } = *work;
    let plan = &chosen.plan;
    let wanted = Wanted::read(&**source, plan)?;
    if let Some(part) = wanted.manifest.parts.iter().map(PartRef::name).find(|it| bad.contains(it))
    {
        let error =
            Error::new(Status::Integrity, "read", format!("{source}/{part}"), "it is damaged");
        return Err(error.about(&part));
    }
    let mut done = None;
    if options.dry_run {
        output::find_directory(options.output)?;
    }
    if old == Old::Updated && !options.dry_run {
        done = delta::update(&**source, replica, chosen, &wanted, options, progress)?;
    }
    if done.is_none() && !options.dry_run {
        let temp = match sabotage::is("restore-in-place") {
            true => in_place(options.output),
            false => durable::temp_beside(options.output),
        };
        let temp = temp.map_err(|cause| output::no_room_beside(options.output, &cause))?;
        let writer = Writer::new(&**source, &wanted, temp.as_file(), progress, replica);
        let (bytes, objects) = writer.run(plan)?;
        if let Some(wrong) = wrong_with(temp.path(), options.check) {
            let wrong = format!("commit {}: {wrong}", plan.commit);
            return Err(unsound(options.output, options.check, wrong));
        }
        let old = if sabotage::is("restore-in-place") { Old::Replaced } else { old };
        publish(temp, options.output, old)?;
        done = Some(Done { bytes, objects, rewritten: None });
    }
    let Done { bytes, objects, rewritten } = done.unwrap_or_default();
    let Commit { number, time, pages, digest, .. } = wanted.commit;
    Ok(Report {
        commit: number,
        time,
        timeline: wanted.timeline,
        digest: digest.unwrap_or_default(),
        page_size: wanted.manifest.page_size.get(),
        pages,
        bytes,
        objects,
        seconds: start.elapsed().as_secs_f64(),
        rewritten,
        passed_over: Vec::new(),
    })
}

/// What SQLite finds wrong with a file, as it will find it: read-only and without a WAL.
pub fn wrong_with(path: &Path, check: Check) -> Option<String> {
    let found = crate::sqlite::check(path, pragma(check)?);
    let found = found.unwrap_or_else(|error| error.to_string());
    (found != "ok").then_some(found)
}

/// The replica has given back what was committed, so no other copy of it helps.
fn unsound(output: &Path, check: Check, wrong: impl std::fmt::Display) -> Error {
    let pragma = pragma(check).unwrap_or("check");
    Error::new(Status::Integrity, pragma, output.display(), wrong)
        .hint("the database was like that when it was committed: try an earlier --commit or --at")
}

/// What a wrong program does: killed, it leaves half a database.
fn in_place(output: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let file = File::create(output)?;
    Ok(tempfile::NamedTempFile::from_parts(file, tempfile::TempPath::try_from_path(output)?))
}

fn pragma(check: Check) -> Option<&'static str> {
    match check {
        Check::None => None,
        Check::Quick => Some("quick_check"),
        Check::Full => Some("integrity_check"),
    }
}

/// Gives the proved file its name. An old file keeps its mode and owner in the new one, and stays
/// until this moment.
fn publish(temp: tempfile::NamedTempFile, output: &Path, old: Old) -> Result<()> {
    let failed = |operation| {
        move |error: std::io::Error| {
            let status = match error.kind() {
                std::io::ErrorKind::AlreadyExists => Status::Exists,
                _ => Status::Failed,
            };
            Error::new(status, operation, output.display(), error)
        }
    };
    if let Ok(old) = output.metadata() {
        keep_mode_and_owner(temp.as_file(), &old, output)?;
    }
    if old == Old::Replaced {
        refuse_in_use(output)?;
        // The new file is safe on disk before anything of the old database goes, and that goes
        // before the new one takes its name: an old WAL must never be played into it.
        durable::sync_data(temp.as_file()).map_err(failed("sync"))?;
        let aside = Aside::of(output).map_err(failed("put aside what belongs to the old"))?;
        durable::publish(temp, output, Overwrite::Replace).map_err(failed("publish"))?;
        aside.remove();
        return Ok(());
    }
    refuse(output, old)?;
    let overwrite = if old == Old::Refused { Overwrite::Never } else { Overwrite::Replace };
    durable::publish(temp, output, overwrite).map_err(failed("publish"))
}

/// The WAL and the like of an old database, under other names until the new one has its own. Where it
/// does not get that, they are back beside the old one when this is dropped.
struct Aside<'a> {
    output: &'a Path,
    old: Option<u64>,
    /// What it is called, and was.
    moved: Vec<(PathBuf, PathBuf)>,
}

fn inode(path: &Path) -> Option<u64> {
    path.metadata().ok().map(|it| it.ino())
}

impl<'a> Aside<'a> {
    fn of(output: &'a Path) -> std::io::Result<Self> {
        let mut aside = Self { output, old: inode(output), moved: Vec::new() };
        for was in companions(output).filter(|path| path.symlink_metadata().is_ok()) {
            let name = was.file_name().expect("a companion has a name").to_string_lossy();
            let is = was.with_file_name(format!("{}{name}", durable::TEMP_PREFIX));
            aside.moved.push((is.clone(), was.clone()));
            durable::rename(&was, &is)?;
        }
        Ok(aside)
    }

    fn remove(mut self) {
        for (is, _) in std::mem::take(&mut self.moved) {
            // Nobody takes it for anything any more.
            durable::remove(&is).ok();
        }
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        if inode(self.output) != self.old {
            return;
        }
        for (is, was) in self.moved.iter().filter(|(_, was)| was.symlink_metadata().is_err()) {
            durable::rename(is, was).ok();
        }
    }
}

fn keep_mode_and_owner(file: &File, old: &Metadata, output: &Path) -> Result<()> {
    let failed =
        |operation| move |error: std::io::Error| Error::io(operation, output.display(), &error);
    file.set_permissions(old.permissions()).map_err(failed("keep the mode of"))?;
    let (uid, gid) = (Some(old.uid()), Some(old.gid()));
    std::os::unix::fs::fchown(file, uid, gid).map_err(failed("keep the owner of"))
}

#[cfg(test)]
pub(crate) mod tests;
