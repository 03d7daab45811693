//! A disk that loses power: an ext4 file system in an image, on a loop device, shut down by ioctl.
//!
//! `EXT4_IOC_SHUTDOWN` without flushing the log ends the file system as a loss of power does: what
//! was not synced, or written back by chance, is gone, and the next mount replays the journal. The
//! ioctl is issued by perl or python, since nothing here may be unsafe. All of it takes root.
//!
//! The mount goes with the `Disk`. A keeper, a shell that waits for the end of its stdin, takes it
//! down where the harness is killed. The loop device frees itself with the mount.

use super::{Failure, Result};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const MIB: u64 = 1 << 20;
/// Room for a database, its WAL and, by seed, the replica; sparse, so most of it costs nothing.
const SIZE: u64 = 512 * MIB;
/// `_IOR('X', 125, u32)` and `EXT4_GOING_FLAGS_NOLOGFLUSH`.
const SHUTDOWN: u32 = 0x8004_587d;
const NO_LOG_FLUSH: u32 = 2;

#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
    mounted: bool,
    keeper: Child,
}

impl Disk {
    /// Makes one, mounted at `mount`. Where that may not be done, it is not permitted.
    pub fn new(image: &Path, mount: &Path) -> Result<Self> {
        let barred = |what: String| Failure::NotPermitted(what);
        if shutter().is_none() {
            return Err(barred("neither perl nor python3 is there".into()));
        }
        File::create(image)?.set_len(SIZE)?;
        std::fs::create_dir(mount)?;
        let mut mkfs = Command::new("mkfs.ext4");
        mkfs.args(["-q", "-F", "-E", "lazy_itable_init=1,nodiscard"]).arg(image);
        said(&mut mkfs).map_err(barred)?;
        let keeper = keeper(mount)?;
        let (image, mount) = (image.to_owned(), mount.to_owned());
        let mut disk = Self { image, mount, mounted: false, keeper };
        disk.mount().map_err(barred)?;
        Ok(disk)
    }

    fn mount(&mut self) -> std::result::Result<(), String> {
        // Another run may have taken the loop device that mount has found free.
        let mut tries = (0..5).map(|_| {
            said(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mount))
        });
        let first = tries.next().expect("five tries");
        let mounted = if first.is_err() { tries.find(|tried| tried.is_ok()) } else { None };
        mounted.unwrap_or(first)?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> std::result::Result<(), String> {
        said(Command::new("umount").arg(&self.mount))?;
        self.mounted = false;
        Ok(())
    }

    /// The power goes: nothing reaches the disk from now on.
    pub fn lose_power(&self) -> Result<()> {
        let mut command = shutter().expect("it was there");
        said(command.arg(&self.mount)).map_err(Failure::Harness)
    }

    /// The power comes back. Nothing may have a file of it open.
    pub fn restore_power(&mut self) -> Result<()> {
        self.unmount().and_then(|()| self.mount()).map_err(Failure::Harness)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted && self.unmount().is_err() {
            // Something is still there: the mount goes with its last file. Nobody hears an error.
            let _ = said(Command::new("umount").arg("-l").arg(&self.mount));
        }
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Unmounts once its stdin ends, however this process ends. What no longer is mounted is no matter.
pub(super) fn keeper(mount: &Path) -> Result<Child> {
    let script = r#"trap "" INT TERM HUP; while read -r _; do :; done; umount -l "$1""#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "keeper"]).arg(mount);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.spawn()?)
}

/// What shuts a file system down, given its mount point.
fn shutter() -> Option<Command> {
    let perl = format!(
        r#"open(my $f, "<", $ARGV[0]) or die $!; my $b = pack("L", {NO_LOG_FLUSH}); ioctl($f, {SHUTDOWN}, $b) or die $!;"#
    );
    let python = format!(
        "import fcntl, os, struct, sys; fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), {SHUTDOWN}, \
         struct.pack('I', {NO_LOG_FLUSH}))"
    );
    [("perl", "-e", perl), ("python3", "-c", python)].into_iter().find_map(
        |(name, flag, script)| {
            said(Command::new(name).args([flag, "1"])).ok()?;
            let mut command = Command::new(name);
            command.args([flag, &script]);
            Some(command)
        },
    )
}

/// Runs a tool to its end; what it has said, if it failed.
pub(super) fn said(command: &mut Command) -> std::result::Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{name}: {}: {}", output.status, said.trim().replace('\n', " / ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// `None` where it is not permitted, which no test can change.
    fn disk(dir: &Path) -> Option<Disk> {
        match Disk::new(&dir.join("image"), &dir.join("disk")) {
            Ok(disk) => Some(disk),
            Err(Failure::NotPermitted(_)) => None,
            Err(failure) => panic!("{failure}"),
        }
    }

    fn is_mounted(dir: &Path) -> bool {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        mounts.contains(dir.to_str().unwrap())
    }

    #[test]
    fn trap_52_what_was_synced_outlives_the_power_and_the_rest_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let Some(mut disk) = disk(dir.path()) else { return };
        let path = |name: &str| dir.path().join("disk").join(name);
        let write = |name: &str| {
            let mut file = File::create(path(name)).unwrap();
            file.write_all(b"some bytes").unwrap();
            file
        };
        write("synced").sync_all().unwrap();
        drop(write("not synced"));
        disk.lose_power().unwrap();
        assert!(File::create(path("later")).is_err(), "nothing reaches a disk without power");
        disk.restore_power().unwrap();
        assert_eq!(std::fs::read(path("synced")).unwrap(), b"some bytes");
        assert!(!path("not synced").exists() && !path("later").exists());
        drop(disk);
        assert!(!is_mounted(dir.path()));
    }

    #[test]
    fn a_mount_is_gone_even_where_the_harness_was_killed_or_a_file_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let Some(mut disk) = disk(dir.path()) else { return };
        assert!(is_mounted(dir.path()));
        // What is left of a killed harness is its keeper, whose stdin has ended.
        drop(disk.keeper.stdin.take());
        assert!(disk.keeper.wait().unwrap().success());
        assert!(!is_mounted(dir.path()));
        disk.mount().unwrap();
        let _open = File::create(dir.path().join("disk/open")).unwrap();
        drop(disk);
        assert!(!is_mounted(dir.path()));
    }
}
