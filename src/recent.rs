//! Change-sets that were shipped lately, as local files, so that what is merged a little later need not
//! be fetched. One that was merged goes: what was made of it is here instead. Bounded besides, and no
//! more than a convenience: a file that is gone or torn costs a download.

use crate::name::{Change, Name};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Hours of change-sets of a usual database.
const BYTES: u64 = 32 << 20;
/// More than a window of 30 seconds has where 100 are shipped a second. Their names are in memory.
const FILES: usize = 4096;
/// Below a state directory.
const DIR: &str = "recent";

#[derive(Debug)]
pub struct Recent {
    dir: PathBuf,
    /// The oldest first, with sizes, and how much they are in all.
    kept: Mutex<(VecDeque<(Name, u64)>, u64)>,
}

impl Recent {
    /// What an earlier life has left is removed once something is added.
    pub fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.join(DIR), kept: Mutex::default() }
    }

    /// Keeps a change-set for a while, if it is one object.
    pub fn add(&self, name: &Name, body: &[u8]) {
        let Name::Change(Change { part: 0, end: true, .. }) = name else { return };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (files, bytes) = &mut *kept;
        if files.is_empty() {
            drop(fs::remove_dir_all(&self.dir));
            drop(fs::create_dir(&self.dir));
        }
        if write(&self.path(name), body).is_err() {
            // No room for a convenience.
            drop(fs::remove_file(self.path(name)));
            return;
        }
        files.push_back((name.clone(), body.len() as u64));
        *bytes += body.len() as u64;
        while *bytes > BYTES || files.len() > FILES {
            let Some((oldest, size)) = files.pop_front() else { return };
            *bytes -= size;
            drop(fs::remove_file(self.path(&oldest)));
        }
    }

    /// Keeps what was made of some others in place of these.
    pub fn replace(&self, others: &[Change], name: &Name, body: &[u8]) {
        self.add(name, body);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (files, bytes) = &mut *kept;
        files.retain(|(kept, size)| {
            let goes = matches!(kept, Name::Change(kept) if others.contains(kept));
            if goes {
                *bytes -= size;
                drop(fs::remove_file(self.path(kept)));
            }
            !goes
        });
    }

    pub fn get(&self, name: &Name) -> Option<Vec<u8>> {
        fs::read(self.path(name)).ok()
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.dir.join(name.to_string().replace('/', "_"))
    }
}

/// It holds pages of the database, and may be read by nobody who could not read that.
fn write(path: &Path, body: &[u8]) -> io::Result<()> {
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::{CommitNo, Time, Timeline};
    use crate::name::Span;
    use std::os::unix::fs::PermissionsExt;

    fn name(number: u64) -> Name {
        let number = CommitNo(number);
        let span = Span { first: number, last: number, time: Time(5), timeline: Timeline(1) };
        Name::Change(Change { level: 0, span, part: 0, end: true })
    }

    #[test]
    fn the_oldest_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let recent = Recent::new(dir.path());
        recent.add(&Name::Timeline(Timeline(1)), b"no change-set");
        assert!(!dir.path().join(DIR).exists());
        let body = vec![7; 12 << 20];
        for number in 1..=3 {
            recent.add(&name(number), &body);
        }
        assert_eq!(recent.get(&name(1)), None);
        let mode = recent.path(&name(3)).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "pages of a database that others may not read");
        assert!(recent.get(&name(2)).is_some() && recent.get(&name(3)).is_some());
        Recent::new(dir.path()).add(&name(9), b"of the next life");
        assert_eq!(recent.get(&name(3)), None);
    }

    #[test]
    fn however_small_they_are_there_are_only_so_many() {
        let dir = tempfile::tempdir().unwrap();
        let recent = Recent::new(dir.path());
        for number in 1..=FILES as u64 + 1 {
            recent.add(&name(number), b"");
        }
        assert_eq!(recent.get(&name(1)), None);
        assert_eq!(fs::read_dir(dir.path().join(DIR)).unwrap().count(), FILES);
    }

    /// With 50 databases of a thousand written to twice a second memory grew by 5 MiB in 7 minutes: the
    /// names of what had been merged long ago.
    #[test]
    fn what_was_merged_makes_room_for_what_was_made_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let recent = Recent::new(dir.path());
        (1..=5).for_each(|number| recent.add(&name(number), b"12"));
        let inputs: Vec<Change> = (2..=4)
            .chain([77])
            .map(|number| match name(number) {
                Name::Change(change) => change,
                other => panic!("{other}"),
            })
            .collect();
        recent.replace(&inputs, &name(24), b"1234");
        let there = |number: &u64| recent.get(&name(*number)).is_some();
        assert_eq!((1..30).filter(there).collect::<Vec<u64>>(), [1, 5, 24]);
        let kept = recent.kept.lock().unwrap();
        assert_eq!((kept.0.len(), kept.1), (3, 8));
    }
}
