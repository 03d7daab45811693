//! How a workload's database is made and opened: everything that a seed chooses once.

use super::Result;
use crate::rng::Rng;
use rusqlite::Connection;

/// The shape of the database, chosen by the seed alone: every process of a run agrees on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    pub seed: u64,
    pub page_size: u32,
    pub auto_vacuum: u8,
    pub encoding: &'static str,
    pub full_sync: bool,
    /// In pages. A small one makes big transactions spill into the WAL before they commit.
    pub cache: u32,
    pub fts: bool,
}

const PAGE_SIZES: [u32; 8] = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];

impl Setup {
    /// Neighbouring seeds take all page sizes in turn, and never more than three sync each commit.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::of(seed, "setup");
        Self {
            seed,
            page_size: PAGE_SIZES[(seed % 8) as usize],
            auto_vacuum: *rng.pick(&[0, 0, 1, 2]),
            encoding: *rng.pick(&["UTF-8", "UTF-8", "UTF-16le", "UTF-16be"]),
            full_sync: (seed / 3).is_multiple_of(3),
            cache: *rng.pick(&[5, 10, 100, 2000]),
            fts: rng.one_in(2),
        }
    }

    /// What has to be said before the first table is made.
    pub fn shape(&self, db: &Connection) -> Result<()> {
        let Self { page_size, auto_vacuum, encoding, .. } = self;
        db.execute_batch(&format!(
            "PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {auto_vacuum};
             PRAGMA encoding = '{encoding}'; PRAGMA journal_mode = WAL"
        ))?;
        Ok(())
    }

    /// What has to be said on every connection.
    pub fn tune(&self, db: &Connection) -> Result<()> {
        let synchronous = if self.full_sync { "FULL" } else { "NORMAL" };
        let cache = self.cache;
        db.execute_batch(&format!(
            "PRAGMA synchronous = {synchronous}; PRAGMA cache_size = {cache};
             PRAGMA foreign_keys = OFF"
        ))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_14_neighbouring_seeds_take_every_page_size() {
        let mut sizes: Vec<_> = (40..48).map(|seed| Setup::from_seed(seed).page_size).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, PAGE_SIZES);
    }

    /// Found by CI: of six neighbours, all that lost the power of their database had synced each commit. So
    /// none was lost, and the run had proved nothing.
    #[test]
    fn of_neighbouring_seeds_some_lose_commits_with_the_power() {
        for first in 0..18 {
            let mut on_the_disk = (first..first + 6).filter(|seed| seed % 3 != 1);
            assert!(on_the_disk.any(|seed| !Setup::from_seed(seed).full_sync), "from {first}");
        }
        assert!((0..9).any(|seed| Setup::from_seed(seed).full_sync));
    }
}
