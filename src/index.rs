//! The page index: a local file with the hash of each page as last captured, 16 bytes a page, the
//! first page's first. What lies past its end, or is zeros, is a page of zeros or one never written.
//!
//! The file alone proves nothing. It is believed when the XOR over it is the digest in the cursor,
//! after the changes that the cursor holds were made again.
//!
//! Nor does what can be read from it last: once a sync has failed, the kernel may give back what was
//! there before, and take what it has not written for written. Only what is set again counts then.

use crate::commit::{Digest, PageHash, PageNo};
use crate::durable;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Its name in the state directory.
pub const INDEX: &str = "index";

const ENTRY: u64 = 16;
/// Entries read at a time where many are read.
const CHUNK: usize = 4096;

#[derive(Debug)]
pub struct Index {
    file: File,
    /// A sync has failed.
    failed: AtomicBool,
}

impl Index {
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Self::of_file(file))
    }

    /// One that only reads, if that is how the file is open.
    pub fn of_file(file: File) -> Self {
        Self { file, failed: AtomicBool::new(false) }
    }

    /// The file, for who fills it with anything.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Makes last what was set. Where that fails it fails from then on: another try would succeed, and
    /// mean nothing.
    pub fn sync(&self) -> io::Result<()> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(io::Error::other("it could not be synced, and has to be opened anew"));
        }
        durable::sync_data(&self.file).inspect_err(|_| self.failed.store(true, Ordering::Relaxed))
    }

    pub fn get(&self, page: PageNo) -> io::Result<PageHash> {
        let mut entry = [0; ENTRY as usize];
        read_up_to(&self.file, &mut entry, offset(page))?;
        Ok(PageHash(u128::from_le_bytes(entry)))
    }

    pub fn set(&self, page: PageNo, hash: PageHash) -> io::Result<()> {
        self.file.write_all_at(&hash.0.to_le_bytes(), offset(page))
    }

    /// Sets the hashes of any pages, which it sorts: neighbours are written at once.
    pub fn set_all(&self, changes: &mut [(PageNo, PageHash)]) -> io::Result<()> {
        changes.sort_unstable_by_key(|(page, _)| *page);
        changes.chunk_by(|(a, _), (b, _)| a.0 + 1 == b.0).try_for_each(|run| {
            let hashes: Vec<_> = run.iter().map(|(_, hash)| *hash).collect();
            self.set_range(run[0].0, &hashes)
        })
    }

    /// The hashes of `count` pages from `first` on.
    pub fn range(&self, first: PageNo, count: usize) -> io::Result<Vec<PageHash>> {
        let mut bytes = vec![0; count * ENTRY as usize];
        read_up_to(&self.file, &mut bytes, offset(first))?;
        let entries = bytes.as_chunks().0.iter();
        Ok(entries.map(|entry| PageHash(u128::from_le_bytes(*entry))).collect())
    }

    /// Sets the hashes of consecutive pages from `first` on.
    pub fn set_range(&self, first: PageNo, hashes: &[PageHash]) -> io::Result<()> {
        let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.0.to_le_bytes()).collect();
        self.file.write_all_at(&bytes, offset(first))
    }

    /// Sets all of it again, as it is: the next sync counts for the whole file.
    pub fn set_again(&self) -> io::Result<()> {
        self.each_chunk(|first, hashes| self.set_range(first, &hashes))
    }

    /// Forgets everything.
    pub fn clear(&self) -> io::Result<()> {
        self.file.set_len(0)
    }

    /// The XOR over all of it: the state digest.
    pub fn digest(&self) -> io::Result<Digest> {
        let mut digest = Digest::default();
        self.each_chunk(|_, hashes| {
            hashes.into_iter().for_each(|hash| digest.replace(PageHash::default(), hash));
            Ok(())
        })?;
        Ok(digest)
    }

    fn each_chunk(
        &self,
        mut each: impl FnMut(PageNo, Vec<PageHash>) -> io::Result<()>,
    ) -> io::Result<()> {
        let entries = self.file.metadata()?.len().div_ceil(ENTRY) as usize;
        (0..entries).step_by(CHUNK).try_for_each(|start| {
            let first = PageNo(start as u32 + 1);
            each(first, self.range(first, CHUNK.min(entries - start))?)
        })
    }
}

fn offset(page: PageNo) -> u64 {
    assert!(page.0 > 0, "page numbers count from 1");
    u64::from(page.0 - 1) * ENTRY
}

/// Reads what is there; past the end of the file, `buffer` keeps its zeros.
fn read_up_to(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::{Step, fault};

    #[test]
    fn what_was_never_set_is_zero() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("index")).unwrap();
        assert_eq!(index.get(PageNo(9)).unwrap(), PageHash(0));
        index.set(PageNo(3), PageHash(7)).unwrap();
        index.set(PageNo(5), PageHash(8)).unwrap();
        assert_eq!(index.range(PageNo(2), 6).unwrap(), [0, 7, 0, 8, 0, 0].map(PageHash));
        assert_eq!(index.digest().unwrap(), Digest(7 ^ 8));
        index.set_range(PageNo(1), &[PageHash(1), PageHash(2)]).unwrap();
        assert_eq!(index.range(PageNo(1), 3).unwrap(), [1, 2, 7].map(PageHash));
        index.clear().unwrap();
        assert_eq!(index.digest().unwrap(), Digest(0));
    }

    /// Another version of this program has to find the same pages in it.
    #[test]
    fn the_file_is_16_bytes_a_page_from_the_first_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let index = Index::open(&path).unwrap();
        index.set(PageNo(1), PageHash(0x0201)).unwrap();
        index.set(PageNo(3), PageHash(9)).unwrap();
        let bytes = std::fs::read(path).unwrap();
        assert_eq!((bytes.len(), &bytes[..3], bytes[32]), (48, &[1, 2, 0][..], 9));
        assert_eq!([1, 2, 3].map(|page| index.get(PageNo(page)).unwrap().0), [0x0201, 0, 9]);
        assert_eq!(index.range(PageNo(1), 5).unwrap(), [0x0201, 0, 9, 0, 0].map(PageHash));
    }

    #[test]
    fn pages_are_set_alike_alone_and_beside_others() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("index")).unwrap();
        index.set_all(&mut [9, 4, 3, 1, 5].map(|n| (PageNo(n), PageHash(n.into())))).unwrap();
        let found = index.range(PageNo(1), 10).unwrap();
        assert_eq!(found, [1, 0, 3, 4, 5, 0, 0, 0, 9, 0].map(PageHash));
    }

    /// What cannot be read is no page of zeros: it would be taken for one that changed.
    #[test]
    fn an_index_that_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::of_file(File::create(dir.path().join("index")).unwrap());
        assert!(index.get(PageNo(1)).is_err(), "it is open for writing alone");
    }

    #[test]
    fn the_digest_covers_more_than_one_chunk() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("index")).unwrap();
        let hashes: Vec<_> = (1..=3 * CHUNK as u128 + 5).map(PageHash).collect();
        index.set_range(PageNo(1), &hashes).unwrap();
        let want = hashes.iter().fold(0, |sum, hash| sum ^ hash.0);
        assert_eq!(index.digest().unwrap(), Digest(want));
    }

    #[test]
    fn trap_57_a_sync_that_has_failed_is_not_asked_for_again() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("index")).unwrap();
        let failing = fault::fail(Step::Sync, 1, 5);
        assert_eq!(index.sync().unwrap_err().raw_os_error(), Some(5));
        assert!(index.sync().is_err() && failing.steps().len() == 1);
        drop(failing);
        let anew = Index::open(&dir.path().join("index")).unwrap();
        assert!(anew.sync().is_ok() && index.sync().is_err());
    }

    /// Each byte is written, or a sync would have nothing to do for it.
    #[test]
    fn all_of_it_is_set_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let bytes: Vec<u8> = (0..3 * CHUNK * 16 + 24).map(|at| at as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let index = Index::open(&path).unwrap();
        let written = || {
            let told = std::fs::read_to_string("/proc/thread-self/io").unwrap();
            let line = told.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
            line.parse::<usize>().unwrap()
        };
        let before = (written(), index.digest().unwrap());
        index.set_again().unwrap();
        assert_eq!((written(), index.digest().unwrap()), (before.0 + bytes.len() + 8, before.1));
        assert!(std::fs::read(&path).unwrap().starts_with(&bytes));
    }
}
