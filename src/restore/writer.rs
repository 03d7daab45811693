//! The pages of one restore on their way into its file.

use super::Progress;
use crate::ahead::ahead;
use crate::backend::Backend;
use crate::change::{ChangeSet, Point};
use crate::commit::{Chain, Commit, CommitNo, Digest, PageHash, PageNo, PageSize, Timeline};
use crate::error::{Error, Result, Status};
use crate::name::{Change, Name};
use crate::object::Damage;
use crate::replica::{Plan, Replica, damaged, fetch, read_change};
use crate::sabotage;
use crate::snapshot::{Manifest, PartPages, PartRef};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the restored file has to be.
pub(super) struct Wanted {
    pub(super) commit: Commit,
    pub(super) timeline: Timeline,
    pub(super) manifest: Manifest,
}

impl Wanted {
    pub(super) fn read(source: &dyn Backend, plan: &Plan) -> Result<Self> {
        let name = Name::Snapshot(plan.snapshot);
        let bytes = fetch(source, &name)?;
        let manifest = Manifest::decode(plan.snapshot, bytes)
            .map_err(|damage| damaged(source, &name, damage))?;
        let last = plan.changes.last().and_then(|parts| parts.last());
        let (commit, timeline, chain) = match last {
            Some(part) if plan.commit > plan.snapshot.last => {
                let set = read_change(source, part)?;
                let mut points = set.points().into_iter();
                let found = points.find(|point| point.commit.number == plan.commit);
                let Point { commit, chain, .. } =
                    found.ok_or_else(|| left_out(source, part, &set, plan.commit))?;
                (commit, part.span.timeline, chain)
            }
            _ => (manifest.commit, plan.snapshot.timeline, manifest.chain),
        };
        if let Some((stranger, _)) = plan.forks.iter().find(|(_, fork)| *fork != chain) {
            let damage = Damage::BadTable("it goes on from another commit than there is");
            return Err(damaged(source, &Name::Timeline(*stranger), damage));
        }
        if commit.digest.is_none() {
            let cause =
                format!("commit {} has no digest, it is not a restore point", commit.number);
            return Err(Error::new(Status::Integrity, "restore", source, cause));
        }
        Ok(Self { commit, timeline, manifest })
    }

    pub(super) fn digest(&self) -> Digest {
        self.commit.digest.expect("checked as it was read")
    }
}

/// The commit was squashed into a later one, or its number is past a damaged object's.
fn left_out(source: &dyn Backend, part: &Change, set: &ChangeSet, commit: CommitNo) -> Error {
    if !(part.span.first..=part.span.last).contains(&commit) {
        return damaged(source, &Name::Change(*part), Damage::BadTable("no such commit"));
    }
    let cause = format!("commit {commit} is no restore point any more");
    let error = Error::new(Status::Missing, "restore", source, cause);
    let at = set.commits.partition_point(|it| it.number < commit);
    let near = [at.checked_sub(1).and_then(|at| set.commits.get(at)), set.commits.get(at)];
    let near = near.into_iter().flatten().map(|it| format!("--commit {}", it.number));
    error.hint(format!("the nearest restore point is {}", near.collect::<Vec<_>>().join(" or ")))
}

/// The database's size at each commit, as far as it matters: how small it ever was since a commit.
#[derive(Default)]
pub(super) struct Sizes {
    /// Commits, newest first, each with the smallest size from it on; only where that gets smaller.
    steps: Vec<(CommitNo, u32)>,
}

impl Sizes {
    /// Takes in the commits before those known, oldest first. Where the one before a point was left
    /// out, it counts as having had the smallest size of all that were.
    pub(super) fn prepend(&mut self, points: &[Point]) {
        for Point { first, commit: Commit { number, pages, .. }, least, .. } in points.iter().rev()
        {
            let before = (first < number).then(|| (CommitNo(number.0 - 1), *least));
            for (number, pages) in std::iter::once((*number, *pages)).chain(before) {
                if self.steps.last().is_none_or(|&(_, least)| pages < least) {
                    self.steps.push((number, pages));
                }
            }
        }
    }

    /// The smallest size of the database at `commit` or any known one after it.
    pub(super) fn least_from(&self, commit: CommitNo) -> u32 {
        let steps = if sabotage::is("revive-dead-pages") { &[] } else { &self.steps[..] };
        let later = steps.partition_point(|&(number, _)| number >= commit);
        later.checked_sub(1).map_or(u32::MAX, |at| steps[at].1)
    }
}

/// The first commit of the change-set applied last, and the lineage before it.
type Link = (CommitNo, Chain);

/// Where pages go.
pub(super) trait Sink: Sync {
    /// Whether what it holds without them is the snapshot's parts, or will be.
    const TAKES_PARTS: bool;

    /// Takes a page, and gives the hash of what it held in that place.
    fn put(&self, page: PageNo, bytes: &[u8], offset: u64) -> io::Result<PageHash>;
}

/// A new file.
impl Sink for &File {
    const TAKES_PARTS: bool = true;

    fn put(&self, _page: PageNo, bytes: &[u8], offset: u64) -> io::Result<PageHash> {
        self.write_all_at(bytes, offset)?;
        Ok(PageHash::default())
    }
}

/// Brings the pages of one restore to where they go.
pub(super) struct Writer<'a, S> {
    pub(super) source: &'a dyn Backend,
    pub(super) wanted: &'a Wanted,
    pub(super) sink: S,
    progress: &'a dyn Progress,
    pub(super) page_size: PageSize,
    /// One bit a page: written, by a newer object than any that is still to come.
    written: Vec<u64>,
    pub(super) sizes: Sizes,
    pub(super) digest: Digest,
    link: Option<Link>,
    bytes: AtomicU64,
    objects: AtomicU64,
    done: AtomicU64,
    total: u64,
    stored: Arc<HashMap<Name, u64>>,
}

impl<'a, S: Sink> Writer<'a, S> {
    pub(super) fn new(
        source: &'a dyn Backend,
        wanted: &'a Wanted,
        sink: S,
        progress: &'a dyn Progress,
        replica: &Replica,
    ) -> Self {
        let stored = replica.objects.iter().map(|entry| (entry.name.clone(), entry.bytes));
        Self {
            source,
            wanted,
            sink,
            progress,
            page_size: wanted.manifest.page_size,
            written: vec![0; wanted.commit.pages as usize / 64 + 1],
            sizes: Sizes::default(),
            digest: Digest::default(),
            link: None,
            bytes: AtomicU64::new(0),
            objects: AtomicU64::new(0),
            done: AtomicU64::new(0),
            total: 0,
            stored: Arc::new(stored.collect()),
        }
    }

    /// What is to be fetched at most.
    pub(super) fn expect(&mut self, names: impl Iterator<Item = Name>) {
        self.total = names.filter_map(|name| self.stored.get(&name)).sum();
    }

    pub(super) fn is_proved(&self) -> bool {
        self.digest == self.wanted.digest() || sabotage::is("skip-state-digest")
    }

    /// Bytes and objects read.
    pub(super) fn read(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.objects.load(Ordering::Relaxed))
    }

    /// How large an object is, as listed.
    pub(super) fn bytes_of(&self, name: &Name) -> u64 {
        self.stored.get(name).copied().unwrap_or(0)
    }

    pub(super) fn fetched(&self, name: &Name) {
        let bytes = self.bytes_of(name);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.objects.fetch_add(1, Ordering::Relaxed);
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.progress.at(done, self.total);
    }

    /// Applies the change-sets, newest first, fetching ahead.
    pub(super) fn changes(&mut self, changes: &[Vec<Change>]) -> Result<()> {
        let wanted: Vec<Change> = changes.iter().flatten().rev().copied().collect();
        let (source, stored) = (self.source, Arc::clone(&self.stored));
        let target = self.wanted.commit.number;
        let mut writer = 0; // commits of a change-set whose parts follow
        ahead(
            &wanted,
            |change| stored.get(&Name::Change(*change)).copied().unwrap_or(0),
            |change| read_change(source, change),
            |change, set: ChangeSet| {
                self.fetched(&Name::Change(*change));
                self.check_link(change, &set)?;
                let mut points = set.points();
                points.retain(|point| point.commit.number <= target);
                if !points.is_empty() {
                    writer = points.len();
                }
                // The last part comes first, and holds the commits.
                if writer == 0 {
                    let damage = Damage::BadTable("it holds none of the commits wanted");
                    return Err(damaged(source, &Name::Change(*change), damage));
                }
                self.sizes.prepend(&points);
                set.pages_at(target, |page, place, bytes| {
                    let commit = points.get(place).map_or(change.span.last, |it| it.commit.number);
                    self.page(page, commit, bytes)
                })
                .map_err(|error| error.at(source, &Name::Change(*change)))
            },
        )
    }

    /// Each change-set must hold the parent of the one applied before it. They may overlap.
    fn check_link(&mut self, change: &Change, set: &ChangeSet) -> Result<()> {
        let header = set.header();
        if header.page_size != self.page_size {
            let damage = Damage::BadTable("another page size than the snapshot");
            return Err(damaged(self.source, &Name::Change(*change), damage));
        }
        let number = self.wanted.manifest.commit.number;
        // Nothing is known of a commit that was left out: the digest has the last word.
        let other = |next, chain| set.chain_before(next).is_some_and(|before| before != chain);
        if self.link.is_some_and(|(next, parent)| other(next, parent)) {
            let damage = Damage::BadTable("it is not the parent of what follows it");
            return Err(damaged(self.source, &Name::Change(*change), damage));
        }
        let inside = (change.span.first..=change.span.last).contains(&number) && change.end;
        if inside && other(number.next(), self.wanted.manifest.chain) {
            let damage = Damage::BadTable("it does not belong to the snapshot");
            return Err(damaged(self.source, &Name::Change(*change), damage));
        }
        self.link = Some((change.span.first, header.parent));
        Ok(())
    }

    /// Where every change-set lies past the snapshot, the oldest one must be its child.
    pub(super) fn check_manifest(&self, plan: &Plan) -> Result<()> {
        let Manifest { commit, chain, .. } = self.wanted.manifest;
        let child = commit.number.next();
        if self.link.is_some_and(|(first, parent)| first == child && parent != chain) {
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
        let known = |page| self.is_written(page) && !sabotage::is("older-page-wins");
        if page.0 > end || page.0 > self.sizes.least_from(commit) || known(page) {
            return Ok(());
        }
        let part = self.wanted.manifest.parts.partition_point(|part| part.range().end <= page.0);
        let part = self.wanted.manifest.parts.get(part).filter(|_| S::TAKES_PARTS);
        if part.is_some_and(|part| commit <= part.commit) {
            return Ok(()); // the part was read later
        }
        self.written[page.0 as usize / 64] |= 1 << (page.0 % 64);
        let offset = self.page_size.offset(page);
        let old = self.sink.put(page, bytes, offset).map_err(Stop::Write)?;
        self.digest.replace(old, PageHash::of(page, bytes));
        Ok(())
    }

    pub(super) fn is_written(&self, page: PageNo) -> bool {
        self.written[page.0 as usize / 64] & (1 << (page.0 % 64)) != 0
    }

    /// A part's pages, as they are stored.
    pub(super) fn open_part(&self, part: &PartRef) -> Result<PartPages> {
        let name = part.name();
        let at_name = |damage| damaged(self.source, &name, damage);
        let pages = PartPages::open(part.part, fetch(self.source, &name)?).map_err(at_name)?;
        if pages.page_size() != self.page_size || pages.pages() != part.pages {
            return Err(at_name(Damage::BadTable("it covers other pages than it should")));
        }
        Ok(pages)
    }

    /// Takes what parts of the snapshot alone give, by what `part` makes of each. They do not overlap: they
    /// are taken side by side.
    pub(super) fn parts(
        &mut self,
        parts: &[PartRef],
        part: impl Fn(&Self, &PartRef) -> Result<Digest> + Sync,
    ) -> Result<()> {
        let this = &*self;
        let mut digest = this.digest;
        ahead(
            parts,
            |part| this.bytes_of(&part.name()),
            |it| part(this, it),
            |_, sum| {
                digest.replace(PageHash::default(), PageHash(sum.0));
                Ok(())
            },
        )?;
        self.digest = digest;
        Ok(())
    }

    /// The last page that a part gives: what lies past it was cut off later.
    pub(super) fn end_of(&self, part: &PartRef) -> u32 {
        self.wanted.commit.pages.min(self.sizes.least_from(part.commit))
    }
}

impl Writer<'_, &File> {
    pub(super) fn run(mut self, plan: &Plan) -> Result<(u64, u64)> {
        let pages = self.wanted.commit.pages;
        let bytes = u64::from(pages) * self.page_size.bytes() as u64;
        self.sink.set_len(bytes).map_err(|error| self.failed("size", &error))?;
        let names = plan.changes.iter().flatten().map(|change| Name::Change(*change));
        let names = names.chain(self.wanted.manifest.parts.iter().map(PartRef::name));
        self.expect(names);
        self.changes(&plan.changes)?;
        self.check_manifest(plan)?;
        let parts = &self.wanted.manifest.parts;
        self.parts(parts, Self::part)?;
        if !self.is_proved() {
            let wanted = self.wanted.digest();
            let cause = format!("restored with digest {}, not {wanted}", self.digest);
            return Err(Error::new(Status::Integrity, "restore", self.source, cause));
        }
        Ok(self.read())
    }

    fn failed(&self, operation: &str, error: &io::Error) -> Error {
        Error::io(operation, "the restored file", error)
    }

    /// Writes the pages of one part that nothing newer gave, and returns the XOR of their hashes.
    fn part(&self, part: &PartRef) -> Result<Digest> {
        let name = part.name();
        let at_name = |stop: Stop| stop.at(self.source, &name);
        let pages = self.open_part(part)?;
        let end = self.end_of(part);
        let mut digest = Digest::default();
        let mut run = Stretch::default();
        pages
            .each(|page, bytes| {
                if page.0 > end || self.is_written(page) {
                    return run.flush(self.sink);
                }
                let hash = PageHash::of(page, bytes);
                digest.replace(PageHash::default(), hash);
                run.add(self.page_size.offset(page), bytes, self.sink)
            })
            .and_then(|()| run.flush(self.sink))
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
pub(super) enum Stop {
    Damage(Damage),
    Write(io::Error),
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl Stop {
    pub(super) fn at(self, source: &dyn Backend, name: &Name) -> Error {
        match self {
            Self::Damage(damage) => damaged(source, name, damage),
            Self::Write(error) => Error::io("write", "the restored file", &error),
        }
    }
}
