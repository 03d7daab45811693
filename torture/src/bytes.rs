//! Byte for byte: a restored file against the live database, once nobody writes to it.
//!
//! The live file and its WAL are copied and the copy checkpointed, so that SQLite itself says what
//! the bytes are. Only pages that hold nothing (leaves of the free list) may differ: SQLite writes
//! them to the WAL or not as it likes, and a restore has zeros where they never were.

use rusqlite::Connection;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Why the two are not the same database; `scratch` is a directory for the copy.
pub fn compare(live: &Path, restored: &Path, scratch: &Path) -> Result<(), String> {
    let copy = scratch.join("copy.db");
    settle(live, &copy).map_err(|error| format!("copy of {}: {error}", live.display()))?;
    let read = |path: &Path| fs::read(path).map_err(|error| error.to_string());
    let (live, restored) = (read(&copy)?, read(restored)?);
    let size = page_size(&live).ok_or("the live database has no header")?;
    if live.len() != restored.len() {
        return Err(format!("{} bytes, the live one has {}", restored.len(), live.len()));
    }
    let free = free_leaves(&live, size);
    let pages = live.chunks(size).zip(restored.chunks(size)).zip(1u32..);
    match pages.into_iter().find(|((a, b), page)| a != b && !free.contains(page)) {
        Some((_, page)) => Err(format!("page {page} differs from the live one")),
        None => Ok(()),
    }
}

fn settle(live: &Path, copy: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let wal = |path: &Path| {
        path.with_file_name(format!("{}-wal", path.file_name().unwrap_or_default().display()))
    };
    fs::copy(live, copy)?;
    if wal(live).exists() {
        fs::copy(wal(live), wal(copy))?;
    }
    let db = Connection::open(copy)?;
    let busy: bool = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy { Err("somebody else has the copy open".into()) } else { Ok(()) }
}

fn page_size(bytes: &[u8]) -> Option<usize> {
    match u16::from_be_bytes([*bytes.get(16)?, *bytes.get(17)?]) {
        1 => Some(65536),
        size => Some(size.into()),
    }
}

/// The leaves of the free list, from the trunk pages that list them.
fn free_leaves(bytes: &[u8], size: usize) -> BTreeSet<u32> {
    let word = |at: usize| {
        let word = bytes.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        word.unwrap_or_default()
    };
    let mut leaves = BTreeSet::new();
    let mut trunk = word(32);
    while trunk != 0 {
        let base = (trunk as usize - 1) * size;
        let count = (word(base + 4) as usize).min(size / 4 - 2);
        leaves.extend((0..count).map(|at| word(base + 8 + 4 * at)));
        trunk = word(base);
    }
    leaves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_free_pages_may_differ() {
        let dir = tempfile::tempdir().unwrap();
        let (live, restored) = (dir.path().join("live"), dir.path().join("restored"));
        let db = Connection::open(&live).unwrap();
        db.execute_batch(
            "PRAGMA page_size = 512; PRAGMA journal_mode = WAL; CREATE TABLE t(a);
             CREATE TABLE u(a); INSERT INTO u VALUES (zeroblob(9000)); INSERT INTO t VALUES (1);
             DELETE FROM u",
        )
        .unwrap();
        settle(&live, &restored).unwrap();
        let bytes = fs::read(&restored).unwrap();
        let free = free_leaves(&bytes, 512);
        assert!(free.len() > 10, "{free:?}");
        let mut same = 0;
        for page in 1..=bytes.len() as u32 / 512 {
            let mut changed = bytes.clone();
            changed[page as usize * 512 - 1] ^= 1;
            fs::write(&restored, &changed).unwrap();
            let found = compare(&live, &restored, dir.path());
            assert_eq!(found.is_ok(), free.contains(&page), "page {page}: {found:?}");
            same += u32::from(found.is_ok());
        }
        assert_eq!(same as usize, free.len());
        fs::write(&restored, &bytes[512..]).unwrap();
        assert!(compare(&live, &restored, dir.path()).is_err());
    }
}
