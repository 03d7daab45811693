//! A stale copy becomes the database at a commit: only the pages that differ are rewritten.
//!
//! The copy may hold anything. Its pages are hashed once; then the change-sets are applied, newest
//! first, until the digest of what it would be is the commit's: every page that differs has come by
//! then, and nothing else is fetched. If that does not come about, the parts of the snapshot follow
//! whose pages hash to something else than the copy's.
//!
//! What differs is collected in a WAL beside the copy. Only when the digest is proved does it get its
//! name; SQLite plays it into the file, and a crash leaves the old database or the new one.

use super::choose::Chosen;
use super::output::{companions, refuse_companions, refuse_in_use};
use super::writer::{Sink, Stop, Wanted, Writer};
use super::{Done, Options, Progress, keep_mode_and_owner, pragma, unsound};
use crate::ahead::ahead;
use crate::backend::Backend;
use crate::commit::{Digest, PageHash, PageNo, PageSize};
use crate::durable;
use crate::error::{Error, Result, Status};
use crate::name::Name;
use crate::redo::{self, Redo};
use crate::replica::Replica;
use crate::snapshot::{PART_BYTES, PartRef, part_name, part_pages};
use crate::sqlite;
use rusqlite::ErrorCode;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tempfile::NamedTempFile;

/// Bytes of the copy that are read at a time: few enough that they are hashed out of a core's own cache.
const WINDOW: usize = 128 << 10;

/// Updates the copy at the target. `None`: there is none, or this is not the way to the commit, and
/// nothing was changed.
pub(super) fn update(
    source: &dyn Backend,
    replica: &Replica,
    chosen: &Chosen,
    wanted: &Wanted,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Option<Done>> {
    let output = options.output;
    let Some(file) = open(output, wanted.manifest.page_size)? else { return Ok(None) };
    let old = file.metadata().map_err(|error| at(output, "read", &error))?;
    let Some((redo, done)) = collect(source, replica, chosen, wanted, (output, file), progress)?
    else {
        return Ok(None);
    };
    refuse_another(output, &old)?;
    if let Some(redo) = redo {
        keep_mode_and_owner(redo.as_file(), &old, output)?;
        take(redo, options)?;
    }
    Ok(Some(done))
}

/// The pages that the copy lacks, if there are any, once they are proved to be all of them.
pub(super) fn collect(
    source: &dyn Backend,
    replica: &Replica,
    chosen: &Chosen,
    wanted: &Wanted,
    (path, file): (&Path, File),
    progress: &dyn Progress,
) -> Result<Option<(Option<NamedTempFile>, Done)>> {
    let failed = |error: io::Error| at(path, "write a file beside", &error);
    let stale = Stale::new(path, file, wanted).map_err(failed)?;
    let mut writer = Writer::new(source, wanted, stale, progress, replica);
    if !writer.bring(replica, chosen, progress)? {
        return Ok(None);
    }
    let (bytes, objects) = writer.read();
    let (redo, pages) = writer.sink.finish().map_err(failed)?;
    Ok(Some((redo, Done { bytes, objects, rewritten: Some(pages) })))
}

/// Refuses a file that is no database: it would be lost.
pub(super) fn refuse_other(path: &Path) -> Result<()> {
    open_any(path).map(drop)
}

/// A copy of a database with such pages; `None` if the target is missing, or of another kind.
fn open(path: &Path, page_size: PageSize) -> Result<Option<File>> {
    let copy = open_any(path)?;
    Ok(copy.filter(|(_, size)| *size == page_size.get()).map(|(file, _)| file))
}

/// A database, and the size of its pages: 0 of an empty one. `None`: there is no file.
fn open_any(path: &Path) -> Result<Option<(File, u32)>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| at(path, "open", &error))?,
    };
    let mut head = [0; 18];
    match file.read_exact_at(&mut head, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        read => read.map_err(|error| at(path, "read", &error))?,
    }
    let empty = file.metadata().is_ok_and(|metadata| metadata.len() == 0);
    if !empty && !head.starts_with(b"SQLite format 3\0") {
        let cause = "it is no SQLite database";
        return Err(Error::new(Status::Exists, "restore", path.display(), cause)
            .hint("choose another --output, or replace it with --force"));
    }
    let page_size = match u16::from_be_bytes([head[16], head[17]]) {
        1 => 65536,
        bytes => u32::from(bytes),
    };
    Ok(Some((file, page_size)))
}

fn at(path: &Path, operation: &str, error: &io::Error) -> Error {
    Error::io(operation, path.display(), error)
}

/// What was proved is what comes of the copy that was hashed: one that somebody has written to since is
/// another one.
fn refuse_another(output: &Path, old: &Metadata) -> Result<()> {
    refuse_in_use(output)?;
    let now = output.metadata().map_err(|error| at(output, "read", &error))?;
    let of = |it: &Metadata| {
        (it.dev(), it.ino(), it.len(), (it.mtime(), it.mtime_nsec()), (it.ctime(), it.ctime_nsec()))
    };
    if of(&now) == of(old) {
        return Ok(());
    }
    let cause = "it was changed while it was compared";
    Err(Error::new(Status::Locked, "restore", output.display(), cause)
        .hint("stop what writes to it, then restore again"))
}

/// Has SQLite take the pages in, after it was asked about the result.
fn take(redo: NamedTempFile, options: &Options) -> Result<()> {
    let output = options.output;
    let wal = companions(output).next().expect("the first is the WAL");
    refuse_companions(output)?;
    redo::publish(redo, &wal).map_err(|error| at(&wal, "publish", &error))?;
    let found = sqlite::absorb_wal(output, pragma(options.check));
    match found.map_err(|error| opened_meanwhile(output, &error))? {
        None => {}
        Some(wrong) => {
            for path in companions(output).filter(|path| path.symlink_metadata().is_ok()) {
                durable::remove(&path).map_err(|error| at(&path, "remove", &error))?;
            }
            return Err(unsound(output, options.check, wrong));
        }
    }
    durable::sync_dir(durable::parent(output)).map_err(|error| at(output, "sync", &error))
}

fn opened_meanwhile(output: &Path, error: &rusqlite::Error) -> Error {
    let status = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Status::Locked,
        _ => Status::Failed,
    };
    Error::new(status, "checkpoint", output.display(), error)
        .hint("the WAL beside it holds what was restored, for whoever opens it")
}

/// A copy, and the pages that it lacks.
pub(super) struct Stale {
    file: File,
    page_size: PageSize,
    /// Pages of the database that is wanted.
    pages: u32,
    redo: Mutex<Redo>,
}

impl Sink for Stale {
    const TAKES_PARTS: bool = false;

    fn put(&self, page: PageNo, bytes: &[u8], offset: u64) -> io::Result<PageHash> {
        let mut old = vec![0; bytes.len()];
        self.read(&mut old, offset)?;
        if old != bytes {
            self.redo.lock().unwrap_or_else(PoisonError::into_inner).add(page, bytes)?;
        }
        Ok(PageHash::of(page, &old))
    }
}

impl Stale {
    fn new(path: &Path, file: File, wanted: &Wanted) -> io::Result<Self> {
        let (page_size, pages) = (wanted.manifest.page_size, wanted.commit.pages);
        let mut salts = [0; 8];
        salts.copy_from_slice(&wanted.digest().0.to_le_bytes()[..8]);
        let redo = Mutex::new(Redo::new(path, page_size, salts)?);
        Ok(Self { file, page_size, pages, redo })
    }

    /// Reads what there is; past the end there are zeros.
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer[filled..].fill(0);
        Ok(())
    }

    /// The WAL, if there is anything to change, and how many pages it changes.
    fn finish(self) -> io::Result<(Option<NamedTempFile>, u32)> {
        let bytes = self.file.metadata()?.len();
        let mut first = vec![0; self.page_size.bytes()];
        self.read(&mut first, 0)?;
        let mut redo = self.redo.into_inner().unwrap_or_else(PoisonError::into_inner);
        let pages = redo.pages();
        if pages == 0 {
            if bytes == u64::from(self.pages) * self.page_size.bytes() as u64 {
                return Ok((None, 0));
            }
            // The end is all that differs.
            redo.add(PageNo(1), &first)?;
        }
        Ok((Some(redo.finish(self.pages, bytes)?), pages))
    }
}

/// Some pages of the copy, and the part of the snapshot that covers them.
struct Range {
    first: u32,
    end: u32,
    part: Option<PartRef>,
}

impl Writer<'_, Stale> {
    /// Collects what the copy lacks; whether that makes it the database that is wanted.
    fn bring(
        &mut self,
        replica: &Replica,
        chosen: &Chosen,
        progress: &dyn Progress,
    ) -> Result<bool> {
        let differing = self.scan(progress)?;
        if self.is_proved() {
            return Ok(true);
        }
        let plan = &chosen.plan;
        let budget: u64 = differing.iter().map(|part| self.bytes_of(&part.name())).sum();
        let names = |changes: &[Vec<_>]| changes.concat().into_iter().map(Name::Change);
        let parts = differing.iter().map(PartRef::name);
        self.expect(names(&plan.changes).chain(parts).collect::<Vec<_>>().into_iter());
        self.changes(&plan.changes)?;
        self.check_manifest(plan)?;
        let mut left = budget;
        for changes in chosen.older(replica) {
            let bytes: u64 = names(&changes).map(|name| self.bytes_of(&name)).sum();
            // Where they cost more than the parts, or are not what they should be, the parts will do.
            if self.is_proved() || bytes > left || self.changes(&changes).is_err() {
                break;
            }
            left -= bytes;
        }
        if !self.is_proved() {
            self.parts(&differing, Self::part)?;
            self.zeros()?;
        }
        Ok(self.is_proved())
    }

    /// Hashes the copy; which parts of the snapshot it does not hold.
    fn scan(&mut self, progress: &dyn Progress) -> Result<Vec<PartRef>> {
        let ranges = self.ranges();
        let (mut digest, mut differing, mut done) = (Digest::default(), Vec::new(), 0);
        let bytes = |range: &Range| self.page_size.offset(PageNo(1 + range.end - range.first));
        let total = ranges.iter().map(bytes).sum();
        let this = &*self;
        ahead(
            &ranges,
            |_| PART_BYTES as u64,
            |range| this.hash(range),
            |range, (sum, same)| {
                digest.replace(PageHash::default(), PageHash(sum.0));
                differing.extend(range.part.filter(|_| !same));
                done += bytes(range);
                progress.at(done, total);
                Ok(())
            },
        )?;
        self.digest = digest;
        Ok(differing)
    }

    /// All pages, those of the parts and those past them.
    fn ranges(&self) -> Vec<Range> {
        let parts = &self.wanted.manifest.parts;
        let covered = |part: &PartRef| {
            let range = part.range();
            Range { first: range.start, end: range.end, part: Some(*part) }
        };
        let mut ranges: Vec<Range> = parts.iter().map(covered).collect();
        let end = self.sink.pages + 1;
        let past = ranges.last().map_or(1, |last| last.end);
        let step = part_pages(self.page_size);
        ranges.extend((past..end).step_by(step as usize).map(|first| Range {
            first,
            end: end.min(first + step),
            part: None,
        }));
        ranges
    }

    /// The digest of the pages in a range that are wanted, and whether they are all its part's.
    fn hash(&self, range: &Range) -> Result<(Digest, bool)> {
        let size = self.page_size.bytes();
        let pages: Vec<PageNo> = (range.first..range.end).map(PageNo).collect();
        let mut hashes = Vec::with_capacity(pages.len());
        let mut window = vec![0; WINDOW.max(size)];
        for pages in pages.chunks(window.len() / size) {
            let bytes = &mut window[..pages.len() * size];
            let read = self.sink.read(bytes, self.page_size.offset(pages[0]));
            read.map_err(|error| Error::io("read", "the stale copy", &error))?;
            let pages = pages.iter().zip(bytes.chunks(size));
            hashes.extend(pages.map(|(page, bytes)| PageHash::of(*page, bytes)));
        }
        let mut digest = Digest::default();
        let inside = (self.sink.pages + 1).saturating_sub(range.first) as usize;
        hashes.iter().take(inside).for_each(|hash| digest.replace(PageHash::default(), *hash));
        let same = range
            .part
            .is_some_and(|it| part_name(self.page_size, PageNo(range.first), &hashes) == it.part);
        Ok((digest, same))
    }

    /// Takes the pages of one part that nothing newer gave, and returns what changed of the digest.
    fn part(&self, part: &PartRef) -> Result<Digest> {
        let end = self.end_of(part);
        let mut changed = Digest::default();
        if part.range().all(|page| page > end || self.is_written(PageNo(page))) {
            return Ok(changed);
        }
        let pages = self.open_part(part)?;
        let put = |page: PageNo, bytes: &[u8]| {
            if page.0 <= end && !self.is_written(page) {
                let old = self.sink.put(page, bytes, self.page_size.offset(page));
                changed.replace(old.map_err(Stop::Write)?, PageHash::of(page, bytes));
            }
            Ok(())
        };
        pages.each(put).map_err(|stop: Stop| stop.at(self.source, &part.name()))?;
        self.fetched(&part.name());
        Ok(changed)
    }

    /// Clears the pages that nothing gives: they were cut off, or never written.
    fn zeros(&mut self) -> Result<()> {
        let zeros = vec![0; self.page_size.bytes()];
        let mut digest = self.digest;
        for range in self.ranges() {
            let given = range.part.map_or(0, |part| self.end_of(&part) + 1);
            for page in range.first.max(given)..range.end.min(self.sink.pages + 1) {
                let page = PageNo(page);
                if !self.is_written(page) {
                    let old = self.sink.put(page, &zeros, self.page_size.offset(page));
                    let old =
                        old.map_err(|error| Error::io("rewrite", "the stale copy", &error))?;
                    digest.replace(old, PageHash::default());
                }
            }
        }
        self.digest = digest;
        Ok(())
    }
}
