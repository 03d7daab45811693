//! A database comes back from the objects of one replica, as it stood at one commit.
//!
//! Change-sets are applied from the newest to the oldest, then the snapshot's parts: a page that a
//! newer object gave is passed over in an older one, so each page is written once. A version older
//! than a commit at which the database ended below its page is dead (VACUUM, then growth).
//!
//! The file is made beside the target, its state digest is recomputed over what was written, and only
//! a proved file takes the target's name. This module knows neither the WAL nor a live database.

use crate::backend::Backend;
use crate::change::ChangeSet;
use crate::clock;
use crate::commit::{Chain, Commit, CommitNo, Digest, PageHash, PageNo, PageSize, Time, Timeline};
use crate::durable::{self, Overwrite};
use crate::error::{Error, Result, Status};
use crate::name::{Change, Name, Span};
use crate::object::Damage;
use crate::replica::{Plan, Replica, Run, damaged, fetch, read_change};
use crate::snapshot::{Manifest, PartPages, PartRef};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

/// Objects fetched and opened at the same time, and so held in memory: a few megabytes each.
const FETCHERS: usize = 4;

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
}

/// Told of long work's progress, in bytes or any other unit that has a total.
pub trait Progress: Sync {
    fn at(&self, done: u64, total: u64);
}

/// Restores from `source`.
pub fn restore(
    source: &Arc<dyn Backend>,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report> {
    let start = clock::instant();
    refuse_to_overwrite(options)?;
    // SQLite follows a link and has its WAL beside the file behind it: that one is to be replaced.
    let output = options.output.canonicalize().unwrap_or_else(|_| options.output.to_owned());
    let options = &Options { output: &output, ..*options };
    let replica = Replica::list(&**source)?;
    let plan = choose(&**source, &replica, options.target)?;
    let wanted = Wanted::read(&**source, &plan)?;
    let (mut bytes, mut objects) = (0, 0);
    if !options.dry_run {
        let temp = durable::temp_beside(options.output)
            .map_err(|error| Error::io("create a file beside", options.output.display(), &error))?;
        let writer = Writer::new(&**source, &wanted, temp.as_file(), progress, &replica);
        (bytes, objects) = writer.run(&plan)?;
        check(temp.path(), options.check)?;
        publish(temp, options)?;
    }
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
    })
}

/// The files that SQLite would take for a part of the restored database.
fn companions(output: &Path) -> impl Iterator<Item = PathBuf> {
    ["-wal", "-shm", "-journal"].into_iter().map(|suffix| {
        let mut path = output.as_os_str().to_owned();
        path.push(suffix);
        path.into()
    })
}

fn refuse_to_overwrite(options: &Options) -> Result<()> {
    if options.force || options.dry_run {
        return Ok(());
    }
    let mut taken = std::iter::once(options.output.to_owned()).chain(companions(options.output));
    match taken.find(|path| path.symlink_metadata().is_ok()) {
        None => Ok(()),
        Some(path) => Err(Error::new(Status::Exists, "restore", path.display(), "it exists")
            .hint("choose another --output, or replace it with --force once nothing has it open")),
    }
}

/// Chooses the commit and the objects for `target`.
pub fn choose(source: &dyn Backend, replica: &Replica, target: Target) -> Result<Plan> {
    let ancestry = replica.ancestry(source)?;
    let runs = replica.runs(&ancestry);
    if !matches!(target, Target::Commit(_)) {
        replica.unfinished(source, &ancestry)?;
    }
    let Some(newest) = replica.newest(&ancestry) else {
        return Err(nothing_there(source, replica));
    };
    let commit = match target {
        Target::Latest => newest.last,
        Target::Commit(commit) => commit,
        Target::At(time) => commit_at(source, replica, &runs, &newest, time)?,
    };
    let run = runs.iter().rev().find(|run| run.holds(commit));
    let run = run.ok_or_else(|| not_restorable(source, &runs, &newest, commit))?;
    Ok(replica.plan(run, commit))
}

fn nothing_there(source: &dyn Backend, replica: &Replica) -> Error {
    let missing = |cause| Error::new(Status::Missing, "restore", source, cause);
    if replica.is_empty() {
        return missing("there is no replica here")
            .hint("check the path; `bakelite list` shows what a replica holds");
    }
    missing("its first snapshot was never finished").hint("start the daemon, or run: bakelite sync")
}

/// The last restorable commit seen at or before `time`.
fn commit_at(
    source: &dyn Backend,
    replica: &Replica,
    runs: &[Run],
    newest: &Span,
    time: Time,
) -> Result<CommitNo> {
    if time >= newest.time {
        return Ok(newest.last);
    }
    let Some(run) = runs.iter().rev().find(|run| run.from() <= time) else {
        let first = runs.first().map(Run::from);
        let hint = first.map(|time| format!("the oldest point is {}", clock::format(time)));
        let error = Error::new(Status::Missing, "restore", source, "no restore point that old");
        return Err(match hint {
            Some(hint) => error.hint(hint),
            None => error,
        });
    };
    let later = run.changes.iter().filter(|span| span.last > run.first());
    let reached = later.clone().take_while(|span| span.time <= time).last();
    let reached = reached.map_or(run.first(), |span| span.last.max(run.first()));
    let Some(next) = later.clone().find(|span| span.time > time) else { return Ok(reached) };
    let Some(part) = replica.parts_of(*next).and_then(|parts| parts.last()) else {
        return Ok(reached);
    };
    let inside = read_change(source, part)?.commits;
    let inside = inside.iter().filter(|commit| commit.time <= time).map(|commit| commit.number);
    Ok(inside.max().unwrap_or(reached).max(reached))
}

/// There is no way to `commit`: because it never was, or because objects are missing.
fn not_restorable(source: &dyn Backend, runs: &[Run], newest: &Span, commit: CommitNo) -> Error {
    let (status, cause) = match runs.first() {
        _ if commit > newest.last => {
            (Status::Missing, format!("there is no commit {commit}, the newest is {}", newest.last))
        }
        None => (Status::Missing, "no snapshot is complete, so there is no restore point".into()),
        Some(oldest) if commit < oldest.first() => {
            (Status::Missing, format!("there is no restore point as old as commit {commit}"))
        }
        Some(_) => {
            (Status::Integrity, format!("commit {commit} lies in a gap, objects are missing"))
        }
    };
    let error = Error::new(status, "restore", source, cause);
    let below = runs.iter().rev().find(|run| run.first() <= commit);
    let nearest = below.map(|run| run.end().last.min(commit)).or(runs.first().map(Run::first));
    match nearest {
        Some(nearest) => error.hint(format!("the nearest restore point is --commit {nearest}")),
        None => error.hint("run `bakelite verify` to see what is missing"),
    }
}

/// What the restored file has to be.
struct Wanted {
    commit: Commit,
    timeline: Timeline,
    manifest: Manifest,
}

impl Wanted {
    fn read(source: &dyn Backend, plan: &Plan) -> Result<Self> {
        let name = Name::Snapshot(plan.snapshot);
        let bytes = fetch(source, &name)?;
        let manifest = Manifest::decode(plan.snapshot, bytes)
            .map_err(|damage| damaged(source, &name, damage))?;
        let last = plan.changes.last().and_then(|parts| parts.last());
        let (commit, timeline) = match last {
            Some(part) if plan.commit > plan.snapshot.last => {
                let commits = read_change(source, part)?.commits;
                let found = commits.into_iter().find(|commit| commit.number == plan.commit);
                let lost =
                    || damaged(source, &Name::Change(*part), Damage::BadTable("no such commit"));
                (found.ok_or_else(lost)?, part.span.timeline)
            }
            _ => (manifest.commit, plan.snapshot.timeline),
        };
        if commit.digest.is_none() {
            let cause =
                format!("commit {} has no digest, it is not a restore point", commit.number);
            return Err(Error::new(Status::Integrity, "restore", source, cause));
        }
        Ok(Self { commit, timeline, manifest })
    }
}

/// The database's size at each commit, as far as it matters: how small it ever was since a commit.
#[derive(Default)]
struct Sizes {
    /// Commits, newest first, each with the smallest size from it on; only where that gets smaller.
    steps: Vec<(CommitNo, u32)>,
}

impl Sizes {
    /// Takes in the commits before those known, oldest first.
    fn prepend(&mut self, commits: &[Commit]) {
        for commit in commits.iter().rev() {
            if self.steps.last().is_none_or(|&(_, least)| commit.pages < least) {
                self.steps.push((commit.number, commit.pages));
            }
        }
    }

    /// The smallest size of the database at `commit` or any known one after it.
    fn least_from(&self, commit: CommitNo) -> u32 {
        let later = self.steps.partition_point(|&(number, _)| number >= commit);
        later.checked_sub(1).map_or(u32::MAX, |at| self.steps[at].1)
    }
}

/// The first commit of the change-set applied last, and the lineage before it.
type Link = (CommitNo, Chain);

/// Writes the pages of one restore into its file.
struct Writer<'a> {
    source: &'a dyn Backend,
    wanted: &'a Wanted,
    file: &'a File,
    progress: &'a dyn Progress,
    page_size: PageSize,
    /// One bit a page: written, by a newer object than any that is still to come.
    written: Vec<u64>,
    sizes: Sizes,
    digest: Digest,
    bytes: AtomicU64,
    objects: AtomicU64,
    done: AtomicU64,
    total: u64,
    stored: std::collections::HashMap<Name, u64>,
}

impl<'a> Writer<'a> {
    fn new(
        source: &'a dyn Backend,
        wanted: &'a Wanted,
        file: &'a File,
        progress: &'a dyn Progress,
        replica: &Replica,
    ) -> Self {
        let stored = replica.objects.iter().map(|entry| (entry.name.clone(), entry.bytes));
        Self {
            source,
            wanted,
            file,
            progress,
            page_size: wanted.manifest.page_size,
            written: vec![0; wanted.commit.pages as usize / 64 + 1],
            sizes: Sizes::default(),
            digest: Digest::default(),
            bytes: AtomicU64::new(0),
            objects: AtomicU64::new(0),
            done: AtomicU64::new(0),
            total: 0,
            stored: stored.collect(),
        }
    }

    fn run(mut self, plan: &Plan) -> Result<(u64, u64)> {
        let pages = self.wanted.commit.pages;
        let bytes = u64::from(pages) * self.page_size.bytes() as u64;
        self.file.set_len(bytes).map_err(|error| self.failed("size", &error))?;
        let names = plan.changes.iter().flatten().map(|change| Name::Change(*change));
        let names = names.chain(self.wanted.manifest.parts.iter().map(PartRef::name));
        self.total = names.filter_map(|name| self.stored.get(&name)).sum();
        self.changes(plan)?;
        self.parts()?;
        let wanted = self.wanted.commit.digest.expect("checked as it was read");
        if self.digest != wanted {
            let cause = format!("restored with digest {}, not {wanted}", self.digest);
            return Err(Error::new(Status::Integrity, "restore", self.source, cause));
        }
        Ok((self.bytes.into_inner(), self.objects.into_inner()))
    }

    fn failed(&self, operation: &str, error: &std::io::Error) -> Error {
        Error::io(operation, "the restored file", error)
    }

    fn fetched(&self, name: &Name) {
        let bytes = self.stored.get(name).copied().unwrap_or(0);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.objects.fetch_add(1, Ordering::Relaxed);
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.progress.at(done, self.total);
    }

    /// Applies the change-sets, newest first, fetching ahead.
    fn changes(&mut self, plan: &Plan) -> Result<()> {
        let wanted: Vec<Change> = plan.changes.iter().flatten().rev().copied().collect();
        let source = self.source;
        let mut link = None;
        let mut writer = 0; // commits of a change-set whose parts follow
        fetch_ahead(
            &wanted,
            |change| read_change(source, change),
            |change, set: ChangeSet| {
                self.fetched(&Name::Change(*change));
                self.check_link(change, &set, &mut link)?;
                let commits =
                    &set.commits[..set.commits.partition_point(|c| c.number <= plan.commit)];
                if !commits.is_empty() {
                    writer = commits.len();
                }
                assert!(writer > 0, "the last part comes first, and holds the commits");
                self.sizes.prepend(commits);
                let first = change.span.first.0;
                set.pages_at(plan.commit, |page, place, bytes| {
                    self.page(page, CommitNo(first + place as u64), bytes)
                })
                .map_err(|error| error.at(source, &Name::Change(*change)))
            },
        )?;
        self.check_manifest(plan, link)
    }

    /// Each change-set must hold the parent of the one applied before it. They may overlap.
    fn check_link(&self, change: &Change, set: &ChangeSet, link: &mut Option<Link>) -> Result<()> {
        let header = set.header();
        if header.page_size != self.page_size {
            let damage = Damage::BadTable("another page size than the snapshot");
            return Err(damaged(self.source, &Name::Change(*change), damage));
        }
        let number = self.wanted.manifest.commit.number;
        if link.is_some_and(|(next, parent)| parent != set.chain_before(next)) {
            let damage = Damage::BadTable("it is not the parent of what follows it");
            return Err(damaged(self.source, &Name::Change(*change), damage));
        }
        let inside = (change.span.first..=change.span.last).contains(&number) && change.end;
        if inside && set.chain_before(number.next()) != self.wanted.manifest.chain {
            let damage = Damage::BadTable("it does not belong to the snapshot");
            return Err(damaged(self.source, &Name::Change(*change), damage));
        }
        *link = Some((change.span.first, header.parent));
        Ok(())
    }

    /// Where every change-set lies past the snapshot, the oldest one must be its child.
    fn check_manifest(&self, plan: &Plan, link: Option<Link>) -> Result<()> {
        let Manifest { commit, chain, .. } = self.wanted.manifest;
        let child = commit.number.next();
        if link.is_some_and(|(first, parent)| first == child && parent != chain) {
            let damage = Damage::BadTable("the change-sets do not belong to it");
            return Err(damaged(self.source, &Name::Snapshot(plan.snapshot), damage));
        }
        Ok(())
    }

    /// Writes a page as `commit` left it, unless a newer version was written or it is dead.
    fn page(
        &mut self,
        page: PageNo,
        commit: CommitNo,
        bytes: &[u8],
    ) -> std::result::Result<(), Stop> {
        let end = self.wanted.commit.pages;
        if page.0 > end || page.0 > self.sizes.least_from(commit) || self.is_written(page) {
            return Ok(());
        }
        let part = self.wanted.manifest.parts.partition_point(|part| part.range().end <= page.0);
        if self.wanted.manifest.parts.get(part).is_some_and(|part| commit <= part.commit) {
            return Ok(()); // the part was read later
        }
        self.written[page.0 as usize / 64] |= 1 << (page.0 % 64);
        self.digest.replace(PageHash::default(), PageHash::of(page, bytes));
        self.file.write_all_at(bytes, self.page_size.offset(page)).map_err(Stop::Write)
    }

    fn is_written(&self, page: PageNo) -> bool {
        self.written[page.0 as usize / 64] & (1 << (page.0 % 64)) != 0
    }

    /// Writes what the snapshot alone gives. Parts do not overlap: they are written side by side.
    fn parts(&mut self) -> Result<()> {
        let parts = &self.wanted.manifest.parts;
        use Ordering::Relaxed;
        let next = AtomicUsize::new(0);
        let digest = Mutex::new(Digest::default());
        let this = &*self;
        let work = || -> Result<()> {
            while let Some(part) = parts.get(next.fetch_add(1, Relaxed)) {
                // After an error nobody begins another one.
                let sum = this.part(part).inspect_err(|_| next.store(parts.len(), Relaxed))?;
                let mut digest = digest.lock().expect("no panic holds it");
                digest.replace(PageHash::default(), PageHash(sum.0));
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..FETCHERS.min(parts.len())).map(|_| scope.spawn(work)).collect();
            let results = threads.into_iter().map(|thread| thread.join().expect("no panic"));
            results.fold(Ok(()), Result::and)
        })?;
        let digest = digest.into_inner().expect("no panic holds it");
        self.digest.replace(PageHash::default(), PageHash(digest.0));
        Ok(())
    }

    /// Writes the pages of one part that nothing newer gave, and returns the XOR of their hashes.
    fn part(&self, part: &PartRef) -> Result<Digest> {
        let name = part.name();
        let at_name = |stop: Stop| stop.at(self.source, &name);
        let bytes = fetch(self.source, &name)?;
        let pages = PartPages::open(part.part, bytes).map_err(|damage| at_name(damage.into()))?;
        if pages.page_size() != self.page_size || pages.pages() != part.pages {
            return Err(at_name(Damage::BadTable("it covers other pages than it should").into()));
        }
        let end = self.wanted.commit.pages.min(self.sizes.least_from(part.commit));
        let mut digest = Digest::default();
        let mut run = Stretch::default();
        pages
            .each(|page, bytes| {
                if page.0 > end || self.is_written(page) {
                    return run.flush(self.file);
                }
                let hash = PageHash::of(page, bytes);
                digest.replace(PageHash::default(), hash);
                run.add(self.page_size.offset(page), bytes, self.file)
            })
            .and_then(|()| run.flush(self.file))
            .map_err(at_name)?;
        self.fetched(&name);
        Ok(digest)
    }
}

/// Consecutive pages on their way to the file: one write for many pages.
#[derive(Default)]
struct Stretch {
    offset: u64,
    bytes: Vec<u8>,
}

impl Stretch {
    const BYTES: usize = 256 << 10;

    fn add(&mut self, offset: u64, page: &[u8], file: &File) -> std::result::Result<(), Stop> {
        if self.bytes.len() >= Self::BYTES || offset != self.offset + self.bytes.len() as u64 {
            self.flush(file)?;
        }
        if self.bytes.is_empty() {
            self.offset = offset;
        }
        self.bytes.extend_from_slice(page);
        Ok(())
    }

    fn flush(&mut self, file: &File) -> std::result::Result<(), Stop> {
        let written = file.write_all_at(&self.bytes, self.offset).map_err(Stop::Write);
        self.bytes.clear();
        written
    }
}

/// Why the pages of an object could not all be written.
enum Stop {
    Damage(Damage),
    Write(std::io::Error),
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl Stop {
    fn at(self, source: &dyn Backend, name: &Name) -> Error {
        match self {
            Self::Damage(damage) => damaged(source, name, damage),
            Self::Write(error) => Error::io("write", "the restored file", &error),
        }
    }
}

/// Gets each of `wanted` on a few threads and hands the results to `apply` in their order. At most
/// `FETCHERS` are held ahead of the one being applied.
fn fetch_ahead<W: Sync, T: Send>(
    wanted: &[W],
    fetch: impl Fn(&W) -> Result<T> + Sync,
    mut apply: impl FnMut(&W, T) -> Result<()>,
) -> Result<()> {
    let lanes = FETCHERS.min(wanted.len());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let receivers: Vec<_> = (0..lanes)
            .map(|lane| {
                let (sender, receiver) = mpsc::sync_channel(1);
                let (fetch, stop) = (&fetch, &stop);
                scope.spawn(move || {
                    for item in wanted.iter().skip(lane).step_by(lanes) {
                        let ended =
                            stop.load(Ordering::Relaxed) || sender.send(fetch(item)).is_err();
                        if ended {
                            return;
                        }
                    }
                });
                receiver
            })
            .collect();
        let mut lanes = receivers.iter().cycle();
        let result = wanted.iter().try_for_each(|item| {
            let lane = lanes.next().expect("a lane for each item");
            apply(item, lane.recv().expect("a fetcher sends all of its items")?)
        });
        stop.store(true, Ordering::Relaxed);
        drop(receivers);
        result
    })
}

/// Asks SQLite about the file, as it will find it: read-only and without a WAL.
fn check(path: &Path, check: Check) -> Result<()> {
    let pragma = match check {
        Check::None => return Ok(()),
        Check::Quick => "quick_check",
        Check::Full => "integrity_check",
    };
    let wrong = |cause: String| Error::new(Status::Integrity, pragma, path.display(), cause);
    let found = crate::sqlite::check(path, pragma).map_err(|error| wrong(error.to_string()))?;
    if found == "ok" { Ok(()) } else { Err(wrong(found)) }
}

/// Gives the proved file its name. An old file keeps its mode and owner in the new one, and stays
/// until this moment.
fn publish(temp: tempfile::NamedTempFile, options: &Options) -> Result<()> {
    let output = options.output;
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
        use std::os::unix::fs::MetadataExt;
        let file = temp.as_file();
        file.set_permissions(old.permissions()).map_err(failed("keep the mode of"))?;
        let (uid, gid) = (Some(old.uid()), Some(old.gid()));
        std::os::unix::fs::fchown(file, uid, gid).map_err(failed("keep the owner of"))?;
    }
    if options.force {
        // The new file is safe on disk before anything of the old database goes, and that goes
        // before the new one takes its name: an old WAL must never be played into it.
        durable::sync_data(temp.as_file()).map_err(failed("sync"))?;
        for path in companions(output).filter(|path| path.symlink_metadata().is_ok()) {
            durable::remove(&path).map_err(failed("remove what belongs to the old"))?;
        }
    } else {
        refuse_to_overwrite(options)?;
    }
    let overwrite = if options.force { Overwrite::Replace } else { Overwrite::Never };
    durable::publish(temp, output, overwrite).map_err(failed("publish"))
}

#[cfg(test)]
mod tests;
