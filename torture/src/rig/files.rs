//! Database files handled as an operator does: copied, moved, removed; and a WAL looked at.
//!
//! Only while nobody in this process has them open, which the harness never does (trap 105).

use super::{Failure, Result, Rig};
use std::path::{Path, PathBuf};

/// A WAL as its file shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wal {
    /// Counts the resets.
    pub counter: u32,
    pub salts: [u8; 8],
    /// Those of this generation, up to the first one that is not; committed or not.
    pub frames: u64,
}

impl Wal {
    pub fn read(path: &Path) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let (counter, page) = (word(12)?, word(8)?);
        let salts: [u8; 8] = bytes.get(16..24)?.try_into().ok()?;
        let frames = bytes[32.min(bytes.len())..].chunks_exact(24 + page as usize);
        let frames = frames.take_while(|frame| frame[8..16] == salts).count() as u64;
        Some(Self { counter, salts, frames })
    }
}

/// The files that SQLite keeps beside a database.
const SIDES: [&str; 3] = ["-wal", "-shm", "-journal"];

fn beside(db: &Path, side: &str) -> PathBuf {
    let mut path = db.as_os_str().to_owned();
    path.push(side);
    path.into()
}

impl Rig {
    pub fn wal_path(&self) -> PathBuf {
        beside(&self.db(), "-wal")
    }

    pub fn wal(&self) -> Option<Wal> {
        Wal::read(&self.wal_path())
    }

    /// Counts how often the WAL has begun anew since this was last asked, by its header's counter.
    pub fn note_resets(&mut self) {
        let Some(Wal { counter, .. }) = self.wal() else { return };
        let before = self.host_mut().wal_counter.replace(counter);
        if let Some(before) = before.filter(|&before| before < counter) {
            self.tally.faults("wal reset", u64::from(counter - before));
        }
    }

    /// Copies this host's database to `to`, with its WAL if it has one. Nobody may write meanwhile.
    /// A checkpoint may run: the database first, then the WAL, is right even so.
    pub fn copy_database(&self, to: &Path) -> Result<()> {
        std::fs::copy(self.db(), to)?;
        let wal = self.wal_path();
        if wal.exists() {
            std::fs::copy(wal, beside(to, "-wal"))?;
        }
        Ok(())
    }

    /// What belongs to a database that is no longer there goes, too.
    pub fn remove_sides(&self) -> Result<()> {
        SIDES.iter().try_for_each(|side| match std::fs::remove_file(beside(&self.db(), side)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::from(error)),
            _ => Ok(()),
        })
    }

    pub fn remove_database(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.db())?)
    }

    /// Moves `from` over this host's database: a new file under the same name.
    pub fn rename_over(&self, from: &Path) -> Result<()> {
        Ok(std::fs::rename(from, self.db())?)
    }

    /// Where the daemon keeps what it knows.
    pub fn state(&self) -> PathBuf {
        self.host().home.join(".app.db.bakelite")
    }

    /// Loses what the daemon keeps beside the database.
    pub fn lose_state(&mut self) -> Result<()> {
        std::fs::remove_dir_all(self.state())?;
        self.tally.fault("state lost");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wal_is_counted_up_to_where_an_older_generation_begins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wal");
        let wal = wal_of(&[7; 8], &[[7; 8], [7; 8], [6; 8]]);
        std::fs::write(&path, wal).unwrap();
        assert_eq!(Wal::read(&path), Some(Wal { counter: 3, salts: [7; 8], frames: 2 }));
        std::fs::write(&path, b"").unwrap();
        assert_eq!(Wal::read(&path), None);
        assert_eq!(Wal::read(&dir.path().join("none")), None);
    }

    fn wal_of(salts: &[u8; 8], frames: &[[u8; 8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [0x377f_0682_u32, 3_007_000, 512, 3] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(salts);
        bytes.extend([0; 8]);
        for frame in frames {
            bytes.extend([0; 8]);
            bytes.extend(frame);
            bytes.extend([0; 8 + 512]);
        }
        bytes
    }
}
