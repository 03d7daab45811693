//! Three destinations, each of which fails in its turn while the others do not.

use super::busy;
use crate::rig::{Ram, Result, Rig};
use crate::rng::shuffle;
use crate::store::{Door, FULL, Objects, READ_ONLY};
use crate::workload::writer::Args;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    MovedAway,
    Wiped,
    RolledBack,
    Full,
    ReadOnly,
}

use Fault::*;

/// The places of the destinations: a small disk where one may be mounted, a directory, a bucket.
const DISK: usize = 0;
const BUCKET: usize = 2;

/// What a destination held before, to be brought back.
enum Older {
    Directory(PathBuf),
    Bucket(Objects),
}

pub fn fan_out(rig: &mut Rig) -> Result<()> {
    let mount = rig.dir.join("ram");
    rig.ram = Ram::new(&mount)?;
    rig.set_destinations(Vec::new());
    rig.add_directory(&mount.join("replica"));
    rig.add_directory(&rig.dir.join("replica-1"));
    rig.add_store()?;
    let pace = Some(*rig.rng.pick(&[1000, 4000]));
    rig.create(Args { pace, ..busy() })?;
    rig.start_daemon()?;
    rig.go()?;
    rig.sync()?;
    let mut faults = [MovedAway, Wiped, RolledBack, Full, ReadOnly];
    shuffle(&mut rig.rng, &mut faults);
    for fault in faults {
        let victims: &[usize] = match fault {
            Full | ReadOnly if rig.ram.is_some() => &[DISK, BUCKET],
            Full | ReadOnly => &[BUCKET],
            MovedAway | Wiped | RolledBack => &[0, 1, 2],
        };
        let victim = *rig.rng.pick(victims);
        strike(rig, fault, victim)?;
    }
    let seq = rig.stop_writers()?;
    rig.drain()?;
    rig.grade_all_exact(seq)?;
    for at in 0..rig.count() {
        rig.mean(at);
        rig.grade_some(2)?;
    }
    Ok(())
}

fn strike(rig: &mut Rig, fault: Fault, victim: usize) -> Result<()> {
    let older = match fault {
        RolledBack => Some(older(rig, victim)?),
        _ => None,
    };
    rig.mean(victim);
    begin(rig, fault)?;
    rig.until_behind()?;
    if rig.rng.one_in(2) {
        rig.kill_daemon()?;
        rig.start_daemon()?;
    }
    let other = (victim + rig.rng.between(1, 2) as usize) % rig.count();
    rig.goes_on(other)?;
    if matches!(fault, Full | ReadOnly) {
        rig.mean(victim);
        rig.grade_claim()?;
    }
    rig.mean(victim);
    end(rig, fault, older)?;
    rig.tally.fault(match fault {
        MovedAway => "moved away",
        Wiped => "wiped",
        RolledBack => "rolled back",
        Full => "full",
        ReadOnly => "read-only",
    });
    if rig.rng.one_in(3) {
        rig.kill_daemon()?;
        rig.start_daemon()?;
    }
    let seq = rig.pause()?;
    rig.sync()?;
    rig.grade_all_exact(seq)?;
    rig.go()
}

/// A copy of a destination, which is then left behind by some commits.
fn older(rig: &mut Rig, victim: usize) -> Result<Older> {
    rig.pause()?;
    rig.sync()?;
    rig.mean(victim);
    let older = match victim {
        BUCKET => Older::Bucket(rig.store().copy()),
        _ => {
            let copy = rig.dir.join("older");
            if copy.exists() {
                fs::remove_dir_all(&copy)?;
            }
            copy_all(&rig.replica(), &copy)?;
            Older::Directory(copy)
        }
    };
    rig.go()?;
    rig.sync()?;
    Ok(older)
}

pub(super) fn copy_all(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_all(&entry.path(), &to)?,
            false => drop(fs::copy(entry.path(), to)?),
        }
    }
    Ok(())
}

/// Where a directory is meanwhile: on its own file system.
fn aside(root: &Path) -> PathBuf {
    root.with_file_name("aside")
}

fn begin(rig: &mut Rig, fault: Fault) -> Result<()> {
    if rig.meant() == BUCKET {
        rig.store().door(match fault {
            Full => FULL,
            ReadOnly => READ_ONLY,
            MovedAway | Wiped | RolledBack => Door::Closed,
        });
        return Ok(());
    }
    match fault {
        Full => rig.ram().fill(),
        ReadOnly => rig.ram().remount("ro"),
        MovedAway | Wiped | RolledBack => Ok(fs::rename(rig.replica(), aside(&rig.replica()))?),
    }
}

fn end(rig: &mut Rig, fault: Fault, older: Option<Older>) -> Result<()> {
    if matches!(fault, Wiped | RolledBack) {
        rig.robbed();
    }
    if rig.meant() == BUCKET {
        match older {
            Some(Older::Bucket(objects)) => rig.store().put_back(objects),
            _ if fault == Wiped => rig.store().put_back(Objects::new()),
            _ => {}
        }
        rig.store().door(Door::Open);
        return Ok(());
    }
    let (root, aside) = (rig.replica(), aside(&rig.replica()));
    match (fault, older) {
        (Full, _) => return rig.ram().make_room(),
        (ReadOnly, _) => return rig.ram().remount("rw"),
        (Wiped, _) => {
            fs::remove_dir_all(&aside)?;
            fs::create_dir(&aside)?;
        }
        (_, Some(Older::Directory(older))) => {
            fs::remove_dir_all(&aside)?;
            copy_all(&older, &aside)?;
        }
        _ => {}
    }
    Ok(fs::rename(aside, root)?)
}
