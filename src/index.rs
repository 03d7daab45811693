//! The page index: a local file with the hash of each page as last captured, 16 bytes a page, the
//! first page's first. What lies past its end, or is zeros, is a page of zeros or one never written.
//!
//! The file alone proves nothing. It is believed when the XOR over it is the digest in the cursor,
//! after the changes that the cursor holds were made again.

use crate::commit::{Digest, PageHash, PageNo};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const ENTRY: u64 = 16;
/// Entries read at a time where many are read.
const CHUNK: usize = 4096;

#[derive(Debug)]
pub struct Index {
    file: File,
}

impl Index {
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Self { file })
    }

    #[cfg(test)]
    pub fn of_file(file: File) -> Self {
        Self { file }
    }

    /// The file, for a sync.
    pub fn file(&self) -> &File {
        &self.file
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

    /// Forgets everything.
    pub fn clear(&self) -> io::Result<()> {
        self.file.set_len(0)
    }

    /// The XOR over all of it: the state digest.
    pub fn digest(&self) -> io::Result<Digest> {
        let entries = self.file.metadata()?.len().div_ceil(ENTRY) as usize;
        let mut digest = Digest::default();
        for start in (0..entries).step_by(CHUNK) {
            let hashes = self.range(PageNo(start as u32 + 1), CHUNK.min(entries - start))?;
            hashes.into_iter().for_each(|hash| digest.replace(PageHash::default(), hash));
        }
        Ok(digest)
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
}
