//! Where a database lies, and what is known to go wrong there: file systems on which WAL mode does
//! not hold what it promises, and second names that SQLite cannot know of. Only what the system says
//! of the place is read; the database itself is not opened, and nothing is refused.

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
    at: PathBuf,
    kind: String,
}

/// The mount that `path` lies on: the innermost, and of those at one place the last, which hides the
/// others.
fn holding<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.at));
    above.max_by_key(|mount| mount.at.components().count())
}

/// Reads proc_pid_mountinfo(5): the fifth field is the place, the one after a lone dash the kind.
/// Lines that are not like that are passed over.
fn mounts(mountinfo: &[u8]) -> Vec<Mount> {
    let lines = mountinfo.split(|&byte| byte == b'\n');
    let mount = |line: &[u8]| {
        let mut fields = line.split(|&byte| byte == b' ');
        let at = unescaped(fields.nth(4)?);
        let kind = fields.skip_while(|field| field != b"-").nth(1)?;
        let kind = String::from_utf8_lossy(kind).into_owned();
        Some(Mount { at: OsString::from_vec(at).into(), kind })
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
