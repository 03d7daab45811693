//! A small disk in memory, for what a directory alone cannot be made to be as root: full, and
//! read-only. Only where the harness may mount one. The mount goes with it, as a `Disk`'s does.

use super::disk::{keeper, said};
use super::{Failure, Result, Rig};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

#[derive(Debug)]
pub struct Ram {
    mount: PathBuf,
    keeper: Child,
}

impl Ram {
    /// Makes one, mounted at `mount`. `None` where that may not be done.
    pub fn new(mount: &Path) -> Result<Option<Self>> {
        std::fs::create_dir(mount)?;
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]).arg(mount);
        if said(&mut command).is_err() {
            return Ok(None);
        }
        Ok(Some(Self { mount: mount.to_owned(), keeper: keeper(mount)? }))
    }

    fn filler(&self) -> PathBuf {
        self.mount.join("filler")
    }

    /// Takes all the room that is left.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.filler())?;
        loop {
            match file.write(&[7; 4096]) {
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                written => written?,
            };
        }
    }

    /// Gives back so much of what was taken.
    pub fn leave(&self, bytes: u64) -> Result<()> {
        let filler = File::options().write(true).open(self.filler())?;
        Ok(filler.set_len(filler.metadata()?.len().saturating_sub(bytes))?)
    }

    pub fn make_room(&self) -> Result<()> {
        // A child that another scenario forks right now has it open until it is another program: a file
        // that was only removed would keep its room for so long.
        File::create(self.filler())?;
        Ok(std::fs::remove_file(self.filler())?)
    }

    /// A disk that somebody is writing to cannot become read-only at once.
    pub fn remount(&self, how: &str) -> Result<()> {
        let mut tried = Err(String::new());
        for _ in 0..2000 {
            tried = said(
                Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.mount),
            );
            if tried.is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        tried.map_err(Failure::Harness)
    }
}

impl Rig {
    /// The one that is mounted.
    pub fn ram(&self) -> &Ram {
        self.ram.as_ref().expect("it is mounted")
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        // What a process still has open goes with that process.
        let _ = said(Command::new("umount").arg("-l").arg(&self.mount));
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_is_full_and_read_only_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let Some(ram) = Ram::new(&dir.path().join("ram")).unwrap() else { return };
        let write = || std::fs::write(dir.path().join("ram/file"), [7; 4096]);
        ram.fill().unwrap();
        assert_eq!(write().unwrap_err().kind(), ErrorKind::StorageFull);
        ram.leave(4096).unwrap();
        write().unwrap();
        ram.make_room().unwrap();
        write().unwrap();
        ram.remount("ro").unwrap();
        assert_eq!(write().unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
        ram.remount("rw").unwrap();
        write().unwrap();
        drop(ram);
        assert!(!dir.path().join("ram/file").exists());
    }
}
