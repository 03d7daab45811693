use super::*;
use crate::backend::conformance::change;
use crate::durable::Step::{self, *};
use crate::durable::fault;
use std::env;
use std::process::Command;
use tempfile::TempDir;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

fn replica() -> (TempDir, Fs) {
    let dir = tempfile::tempdir().unwrap();
    let fs = Fs::open(dir.path()).unwrap();
    (dir, fs)
}

/// Every file below a directory, those that listings leave out too.
fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .flat_map(|entry| match entry.path() {
            path if path.is_dir() => files(&path),
            path => vec![path.file_name().unwrap().to_str().unwrap().to_owned()],
        })
        .collect();
    files.sort();
    files
}

fn listed(fs: &Fs) -> Vec<Name> {
    let listing = fs.list(Name::CHANGES, None).unwrap();
    assert_eq!(listing.foreign, [""; 0]);
    listing.entries.into_iter().map(|entry| entry.name).collect()
}

/// The first put of a replica: makes `change`, then `change/0`, then the file.
const FIRST_PUT: [(Step, u64); 9] = [
    (MakeDir, 1),
    (SyncDir, 1),
    (MakeDir, 2),
    (SyncDir, 2),
    (Create, 1),
    (Write, 1),
    (Sync, 1),
    (Rename, 1),
    (SyncDir, 3),
];

/// A put fails at its `nth` step of a kind, leaves nothing, and the same put then succeeds.
fn check_failed_put((step, nth): (Step, u64), errno: i32, expected: Kind) {
    let (dir, fs) = replica();
    let name = change(0, 1);
    let watch = fault::fail(step, nth, errno);
    let error = fs.put(&name, b"body").unwrap_err();
    assert_eq!(error.kind, expected, "{step:?} {nth}: {error}");
    drop(watch);
    assert_eq!(files(dir.path()), [""; 0], "{step:?} {nth}");
    assert_eq!(fs.get(&name).unwrap_err().kind, Kind::NotFound);
    assert_eq!(listed(&fs), []);
    fs.put(&name, b"body").unwrap();
    assert_eq!(fs.get(&name).unwrap(), b"body");
}

#[test]
fn trap_56_disk_full() {
    for step in FIRST_PUT {
        check_failed_put(step, ENOSPC, Kind::Full);
        check_failed_put(step, EDQUOT, Kind::Full);
    }
}

/// The same without pretence: the kernel takes the first bytes of a body and no more. A limit
/// on the size of files does that for any user; it holds for a process, so the test runs itself.
#[test]
fn trap_56_the_kernel_takes_half_a_body() {
    const LIMITED: &str = "BAKELITE_TEST_LIMITED";
    if env::var_os(LIMITED).is_some() {
        return put_past_the_limit();
    }
    let test = "backend::fs::tests::trap_56_the_kernel_takes_half_a_body";
    // The limit is in blocks of 512 or 1024 bytes. A process that ignores its signal is told by
    // an error.
    let script = format!("trap '' XFSZ && ulimit -f 64 && exec \"$0\" --exact {test}");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).arg(env::current_exe().unwrap()).env(LIMITED, "1");
    let output = shell.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}");
}

fn put_past_the_limit() {
    let (dir, fs) = replica();
    let error = fs.put(&change(0, 1), &[7; 200_000]).unwrap_err();
    assert_eq!(error.kind, Kind::Full, "{error}");
    assert_eq!(files(dir.path()), [""; 0]);
    fs.put(&change(0, 1), &[7; 10_000]).unwrap();
}

#[test]
fn trap_57_fsync_eio_is_final() {
    for step in FIRST_PUT {
        check_failed_put(step, EIO, Kind::Other);
    }
}

#[test]
fn trap_58_denied_and_out_of_means() {
    const EPERM: i32 = 1;
    const ENOMEM: i32 = 12;
    const EACCES: i32 = 13;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const EROFS: i32 = 30;
    const ESTALE: i32 = 116;
    let errors = [
        (Kind::Denied, [EPERM, EACCES, EROFS].as_slice()),
        (Kind::Transient, &[ENOMEM, ENFILE, EMFILE, ESTALE]),
    ];
    for (expected, errno) in errors.iter().flat_map(|(k, all)| all.iter().map(move |e| (*k, *e))) {
        for step in FIRST_PUT {
            check_failed_put(step, errno, expected);
        }
    }
}

/// Errors that even root gets. Above all, what is in the way is not an object that exists.
#[test]
fn trap_58_something_else_in_the_way() {
    let (dir, fs) = replica();
    fs::write(dir.path().join("change"), b"").unwrap();
    assert_eq!(fs.put(&change(0, 1), b"").unwrap_err().kind, Kind::Other);
    assert_eq!(fs.get(&change(0, 1)).unwrap_err().kind, Kind::Other);
    assert_eq!(fs.list(Name::CHANGES, None).unwrap_err().kind, Kind::Other);
    assert_eq!(fs.delete(&change(0, 1)).unwrap_err().kind, Kind::Other);
    std::os::unix::fs::symlink("part", dir.path().join("part")).unwrap();
    let error = fs.list(Name::PARTS, None).unwrap_err();
    assert_eq!(error.kind, Kind::Other, "{error}");
    assert_eq!(Fs::open(&dir.path().join("change")).unwrap_err().kind, Kind::Other);
    assert_eq!(Fs::create(&dir.path().join("change")).unwrap_err().kind, Kind::Other);
}

#[test]
fn trap_59_new_directories_are_synced_too() {
    let (dir, fs) = replica();
    let put = [Create, Write, Sync, Rename, SyncDir];
    let check = |level, first, expected: &[Step]| {
        let watch = fault::watch();
        fs.put(&change(level, first), b"").unwrap();
        let steps = watch.steps().into_iter().map(|(step, _)| step).collect::<Vec<_>>();
        assert_eq!(steps, expected);
    };
    check(0, 1, &[&[MakeDir, SyncDir, MakeDir, SyncDir], &put[..]].concat());
    check(0, 2, &put);
    check(1, 1, &[&[MakeDir, SyncDir, MakeDir, SyncDir], &put[..]].concat());
    let watch = fault::watch();
    fs.delete(&change(0, 1)).unwrap();
    let last = watch.steps().pop();
    assert_eq!(last, Some((SyncDir, dir.path().join("change/0"))));
}

#[test]
fn trap_83_a_disk_that_is_not_mounted() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("disk/app.db");
    let missing = |error: Error| {
        assert_eq!(error.kind, Kind::NotFound, "{error}");
        assert_eq!(files(dir.path()), [""; 0]);
        assert!(!root.exists());
    };
    missing(Fs::open(&root).unwrap_err());
    missing(Fs::create(&root).unwrap_err());
    fs::create_dir(dir.path().join("disk")).unwrap();
    missing(Fs::open(&root).unwrap_err());
    let fs = Fs::create(&root).unwrap();
    fs.put(&change(0, 1), b"x").unwrap();
    fs::rename(dir.path().join("disk"), dir.path().join("gone")).unwrap();
    for error in [
        fs.put(&change(0, 2), b"").unwrap_err(),
        fs.put(&change(1, 1), b"").unwrap_err(),
        fs.list(Name::PARTS, None).unwrap_err(),
        fs.delete(&change(0, 1)).unwrap_err(),
        fs.tidy().unwrap_err(),
    ] {
        assert_eq!(error.kind, Kind::NotFound, "{error}");
    }
    let error = fs.get(&change(0, 1)).unwrap_err();
    assert_eq!(error.kind, Kind::Other, "the object may well exist");
    assert!(error.to_string().ends_with("destination is not there"), "{error}");
    assert!(!root.exists());
}

#[test]
fn trap_85_a_wiped_destination_is_filled_again() {
    let (dir, fs) = replica();
    fs.put(&change(0, 1), b"x").unwrap();
    fs::remove_dir_all(dir.path().join("change")).unwrap();
    assert_eq!(fs.put(&change(0, 2), b"x").unwrap_err().kind, Kind::Transient);
    fs.put(&change(0, 2), b"x").unwrap();
    assert_eq!(listed(&fs), [change(0, 2)]);
}

#[test]
fn trap_86_foreign_files_leftovers_and_empty_objects() {
    let (dir, fs) = replica();
    fs.put(&change(0, 1), b"x").unwrap();
    let plant = |key: &str| fs::write(dir.path().join(key), b"").unwrap();
    plant(&change(0, 2).to_string());
    plant("change/0/.tmp-a1b2c3");
    plant("change/.tmp-a1b2c3");
    plant("change/.tmp");
    plant(".tmp-not-ours");
    fs::create_dir_all(dir.path().join("change/0/attic/deep")).unwrap();
    let listing = fs.list(Name::CHANGES, None).unwrap();
    let sizes = listing.entries.iter().map(|entry| entry.bytes).collect::<Vec<_>>();
    assert_eq!(sizes, [1, 0], "an empty object is for the reader of objects to refuse");
    assert_eq!(listing.foreign, ["change/.tmp", "change/0/attic/"]);
    assert_eq!(fs.get(&change(0, 2)).unwrap(), b"");
    fs.tidy().unwrap();
    assert_eq!(
        files(dir.path()).into_iter().filter(|file| file.starts_with('.')).collect::<Vec<_>>(),
        [".tmp", ".tmp-not-ours"]
    );
    assert_eq!(fs.list(Name::CHANGES, None).unwrap(), listing);
}

/// A writer was killed between rename and sync; the next one adopts what it finds listed.
#[test]
fn tidying_makes_last_what_is_listed() {
    let (dir, fs) = replica();
    fs.put(&change(0, 1), b"x").unwrap();
    let watch = fault::watch();
    fs.tidy().unwrap();
    let synced = ["change/0", "change"].map(|key| (SyncDir, dir.path().join(key)));
    assert_eq!(watch.steps(), synced);
}

#[test]
fn a_level_moved_to_another_disk_is_found_through_its_link() {
    let (dir, fs) = replica();
    let other = tempfile::tempdir().unwrap();
    fs.put(&change(0, 1), b"x").unwrap();
    let (level, moved) = (dir.path().join("change/0"), other.path().join("0"));
    fs::create_dir(&moved).unwrap();
    let file = change(0, 1).to_string();
    let file = file.rsplit('/').next().unwrap();
    fs::rename(level.join(file), moved.join(file)).unwrap();
    fs::remove_dir(&level).unwrap();
    std::os::unix::fs::symlink(&moved, &level).unwrap();
    assert_eq!(listed(&fs), [change(0, 1)]);
    fs.put(&change(0, 2), b"y").unwrap();
    assert_eq!(listed(&fs).len(), 2);
}

/// A level that could not be looked at was left out of the listing, and a restore landed on the snapshot before what
/// was in it. So was one on a disk that is not mounted.
#[test]
fn trap_76_a_level_that_cannot_be_looked_at_is_an_error_and_never_an_empty_one() {
    for (at, to) in [("change/0", "0"), ("change/0", "gone"), ("change", "gone")] {
        let (dir, fs) = replica();
        fs.put(&change(0, 1), b"x").unwrap();
        fs.put(&change(1, 2), b"x").unwrap();
        let level = dir.path().join(at);
        fs::remove_dir_all(&level).unwrap();
        std::os::unix::fs::symlink(to, &level).unwrap();
        let error = fs.list(Name::CHANGES, None).unwrap_err();
        assert_eq!(error.kind, Kind::Other, "no absent replica: {error}");
        fs::remove_file(&level).unwrap();
        fs.list(Name::CHANGES, None).unwrap();
    }
    let (dir, fs) = replica();
    fs.put(&change(1, 2), b"x").unwrap();
    fs::write(dir.path().join("change/0"), b"").unwrap();
    let listing = fs.list(Name::CHANGES, None).unwrap();
    assert_eq!((listing.entries.len(), listing.foreign), (1, vec!["change/0".to_owned()]));
}

/// Where the types of files have to be asked for one by one, an object that was deleted meanwhile made the
/// listing fail, as if there were no replica.
#[test]
fn trap_76_what_is_deleted_while_its_type_is_asked_for_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("object");
    let asked = || list::is_dir(&path, fs::symlink_metadata(&path).map(|it| it.file_type()));
    assert_eq!(asked().unwrap(), None);
    fs::write(&path, b"").unwrap();
    assert_eq!(asked().unwrap(), Some(false));
    let denied = list::is_dir(&path, Err(ErrorKind::PermissionDenied.into()));
    assert_eq!(denied.unwrap_err().kind(), ErrorKind::PermissionDenied);
}

/// A file of the proc filesystem claims to be empty and is not.
#[test]
fn a_body_of_another_length_than_the_file_is_an_error() {
    let error = read_whole(Path::new("/proc/self/stat")).unwrap_err();
    assert_eq!(kind(&error), Kind::Corrupt, "{error}");
}

/// A merged change-set stands before what it was made of is deleted. Levels that were read in another order than
/// from the lowest, or sizes that were asked for later, showed neither, and a restore met a gap.
#[test]
fn trap_89_a_listing_beside_a_merge_shows_the_merged_one_or_all_that_it_was_made_of() {
    for after in ["change/0", "change/1", "change/2", "change"] {
        for levels in [0, 1, 2] {
            let (dir, fs) = replica();
            let inputs = [change(0, 1), change(0, 2)];
            let merged = change(1, 1);
            inputs.iter().for_each(|name| fs.put(name, b"input").unwrap());
            (0..levels).for_each(|level| fs.put(&change(1 + level, 9), b"other").unwrap());
            let root = dir.path().to_owned();
            let (put, delete) = (merged.clone(), inputs.clone());
            super::list::watch::then(move |walked| {
                if walked == after {
                    let beside = Fs::open(&root).unwrap();
                    beside.put(&put, b"merged").unwrap();
                    delete.iter().for_each(|name| beside.delete(name).unwrap());
                }
            });
            let found = listed(&fs);
            let whole = inputs.iter().all(|name| found.contains(name));
            assert!(whole || found.contains(&merged), "{after} {levels}: {found:?}");
        }
    }
}
