//! Where a database lies, and what is known to go wrong there: file systems on which WAL mode does
//! not hold what it promises, second names that SQLite cannot know of, and who has it open. Only what the
//! system says of the place is read; the database itself is not opened, and nothing is refused.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is wrong with a place, and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub message: String,
    pub hint: &'static str,
}

/// What an operator should know before the database at `path` is watched. Links are followed already.
pub fn warnings(path: &Path) -> Vec<Warning> {
    let mountinfo = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let metadata = path.metadata().ok();
    if metadata.as_ref().is_some_and(|metadata| !metadata.is_file()) {
        return Vec::new(); // no database, which is for those to say who open it
    }
    let names = metadata.map_or(1, |metadata| metadata.nlink());
    judge(path, &mounts(&mountinfo), names)
}

/// Another process that has the database at `path` open, as far as the system tells: in WAL mode SQLite
/// always has a lock on the wal-index, without it on the file while it reads or writes.
pub fn user_of(path: &Path) -> Option<u32> {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let mounts = mounts(&fs::read("/proc/self/mountinfo").unwrap_or_default());
    let mut shm = path.as_os_str().to_owned();
    shm.push("-shm");
    [path, Path::new(&shm)].into_iter().find_map(|file| {
        let inode = file.metadata().ok()?.ino();
        locker(&locks, holding(&mounts, file)?.device, inode, std::process::id())
    })
}

/// Reads proc_locks(5) for a process other than `own` that holds a lock of the kind that SQLite takes. The
/// device is the one of the mount: what a file says of itself is another one on some file systems.
fn locker(locks: &str, (major, minor): Device, inode: u64, own: u32) -> Option<u32> {
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    let holder = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        match fields[..] {
            [_, "POSIX", _, _, pid, of, ..] if of == file => pid.parse().ok(),
            _ => None,
        }
    };
    locks.lines().filter_map(holder).find(|pid| *pid != own)
}

/// File systems that several machines share, or that one machine serves to another.
const SHARED: [&str; 14] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "virtiofs",
    "ceph",
    "glusterfs",
    "lustre",
    "afs",
    "fuse.sshfs",
    "fuse.glusterfs",
    "fuse.ceph",
];

fn judge(path: &Path, mounts: &[Mount], names: u64) -> Vec<Warning> {
    let warning = |what: String, hint| {
        let message = format!("watch: {}: {what}", path.display());
        Warning { message, hint }
    };
    let mut warnings = Vec::new();
    let mount = holding(mounts, path);
    // An overlay is none of these: what it shows is local, and a file that is written to stays put.
    if let Some(Mount { kind, .. }) = mount {
        if SHARED.contains(&kind.as_str()) {
            warnings.push(warning(
                format!("{kind} is shared between machines, WAL mode works within one at most"),
                "run all that opens it on one machine, bakelite too, or move it to a local disk",
            ));
        } else if kind.starts_with("fuse") {
            warnings.push(warning(
                format!("{kind} is in user space, its locks and shared memory may not do for WAL"),
                "a local disk is safer",
            ));
        }
    }
    if mount.is_some_and(|mount| mount.at == path) {
        warnings.push(warning(
            "the file alone is mounted there, it has another -wal where it comes from".into(),
            "mount its directory instead",
        ));
    }
    if names > 1 {
        warnings.push(warning(
            format!("it has {names} hard links, and SQLite keeps another -wal beside each of them"),
            "use it by one name and remove the others; symbolic links do no harm",
        ));
    }
    warnings
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    device: Device,
    at: PathBuf,
    kind: String,
}

/// Its major and its minor number.
type Device = (u32, u32);

/// The mount that `path` lies on: the innermost, and of those at one place the last, which hides the
/// others.
fn holding<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.at));
    above.max_by_key(|mount| mount.at.components().count())
}

/// Reads proc_pid_mountinfo(5): the third field is the device, the fifth the place, the one after a lone dash
/// the kind.
/// Lines that are not like that are passed over.
fn mounts(mountinfo: &[u8]) -> Vec<Mount> {
    let lines = mountinfo.split(|&byte| byte == b'\n');
    let mount = |line: &[u8]| {
        let mut fields = line.split(|&byte| byte == b' ');
        let device = str::from_utf8(fields.nth(2)?).ok()?.split_once(':')?;
        let device = (device.0.parse().ok()?, device.1.parse().ok()?);
        let at = unescaped(fields.nth(1)?);
        let kind = fields.skip_while(|field| field != b"-").nth(1)?;
        let kind = String::from_utf8_lossy(kind).into_owned();
        Some(Mount { device, at: OsString::from_vec(at).into(), kind })
    };
    lines.filter_map(mount).collect()
}

/// Spaces and the like stand there as a backslash and three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let code = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(|_| *first == b'\\') {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What proc_locks(5) says: of a wal-index, of somebody who waits, of another file and of another kind.
    const LOCKS: &str = "\
1: FLOCK  ADVISORY  WRITE 2484 fe:00:10371675 0 EOF\n\
2: POSIX  ADVISORY  READ 2484 08:02:10371669 127 128\n\
2: -> POSIX  ADVISORY  WRITE 2485 08:02:7 0 EOF\n\
3: OFDLCK ADVISORY  READ -1 08:02:8 0 EOF\n\
4: POSIX  ADVISORY  WRITE 17 103:02:9 0 EOF\n\
5: POSIX  ADVISORY  WRITE 18 08:02:9 0 EOF\n\
a line that is none\n";

    #[test]
    fn trap_94_who_locks_a_file_is_told() {
        let check = |device, inode, own, pid| {
            assert_eq!(locker(LOCKS, device, inode, own), pid, "{device:?} {inode}");
        };
        check((8, 2), 10371669, 1, Some(2484));
        check((8, 2), 10371669, 2484, None);
        check((8, 1), 10371669, 1, None);
        for inode in [7, 8, 10371675] {
            check((8, 2), inode, 1, None);
        }
        check((0x103, 2), 9, 1, Some(17));
        check((8, 2), 9, 1, Some(18));
        let device = |path| holding(&mounts(MOUNTINFO), Path::new(path)).map(|it| it.device);
        assert_eq!(device("/srv/local disk/app.db"), Some((8, 2)));
    }

    const MOUNTINFO: &[u8] = b"\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
30 22 0:26 / /proc rw,nosuid shared:12 master:3 - proc proc rw\n\
41 22 0:40 / /srv rw shared:20 - autofs systemd-1 rw,fd=29\n\
42 41 0:41 / /srv rw,relatime - nfs4 host:/export rw,vers=4.2\n\
43 42 8:2 / /srv/local\\040disk rw shared:22 - xfs /dev/sdb1 rw\n\
44 22 0:50 / /mnt/sshfs rw - fuse.sshfs me@host:/ rw\n\
45 22 0:51 / /mnt/other rw - fuse.rclone remote: rw\n\
46 22 8:1 /host/app.db /data/app.db rw - ext4 /dev/sda1 rw\n\
47 22 0:60 / /var/lib/docker/m rw - overlay overlay rw,lowerdir=/a,upperdir=/b\n\
48 22 0:61 / /odd\\134040\\ rw - 9p share rw\n\
a line that is none\n\
49 22 0:62 / /cut rw\n\n";

    fn kind_of(path: &str) -> Option<String> {
        holding(&mounts(MOUNTINFO), Path::new(path)).map(|mount| mount.kind.clone())
    }

    #[test]
    fn the_innermost_mount_holds_a_file() {
        let check = |path, kind| assert_eq!(kind_of(path).as_deref(), Some(kind), "{path}");
        check("/home/app.db", "ext4");
        check("/srv/app.db", "nfs4");
        check("/srv/local disk/app.db", "xfs");
        check("/srv/local/app.db", "nfs4");
        check("/srvx/app.db", "ext4");
        check("/odd\\040\\/app.db", "9p");
        check("/cut/app.db", "ext4");
        assert_eq!(mounts(MOUNTINFO).len(), 10);
        assert_eq!(holding(&mounts(b""), Path::new("/a")), None);
    }

    fn said_of(path: &str, names: u64) -> String {
        let warnings = judge(Path::new(path), &mounts(MOUNTINFO), names);
        assert!(warnings.iter().all(|it| !it.hint.is_empty() && it.message.contains(path)));
        warnings.iter().map(|it| it.message.clone() + "\n").collect()
    }

    #[test]
    fn trap_66_file_systems_that_break_wal_mode_are_told() {
        for quiet in ["/home/app.db", "/srv/local disk/app.db", "/var/lib/docker/m/app.db"] {
            assert_eq!(said_of(quiet, 1), "");
        }
        for (path, words) in [
            ("/srv/app.db", "nfs4 is shared between machines"),
            ("/mnt/sshfs/app.db", "fuse.sshfs is shared between machines"),
            ("/mnt/other/app.db", "fuse.rclone is in user space"),
        ] {
            let said = said_of(path, 1);
            assert!(said.contains(words) && said.lines().count() == 1, "{path}: {said}");
        }
        for kind in SHARED {
            let line = format!("1 1 0:1 / /x rw - {kind} source rw\n");
            let said = judge(Path::new("/x/app.db"), &mounts(line.as_bytes()), 1);
            assert!(said[0].message.contains("shared"), "{kind}: {said:?}");
        }
    }

    #[test]
    fn trap_49_names_that_have_another_wal_are_told() {
        assert!(said_of("/home/app.db", 2).contains("it has 2 hard links"));
        assert!(said_of("/data/app.db", 1).contains("the file alone is mounted"));
        assert_eq!(said_of("/srv/app.db", 3).lines().count(), 2);
    }

    /// What this machine says of itself can be read.
    #[test]
    fn the_root_is_mounted() {
        let mounts = mounts(&fs::read("/proc/self/mountinfo").unwrap());
        assert!(holding(&mounts, Path::new("/x")).is_some(), "{mounts:?}");
    }
}
