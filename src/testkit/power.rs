//! Power cuts: a recorder that follows what was synced below a directory, and what a disk may hold
//! when the power goes at any step.
//!
//! A file's bytes last once the file is synced, a name once its directory is. What is newer than
//! that may have come to the disk or not, each file and each name by itself, and of a file any part.

use super::Random;
use crate::durable::{Step, fault};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

#[cfg(test)]
mod whole;

type Inode = u64;

/// What becomes of what was not synced when all ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The process dies and the machine does not.
    Kept,
    Dropped,
    /// Each name, each block and each length by itself.
    Mixed,
}

/// The first two, and so many of the third.
pub fn fates(mixed: usize) -> impl Iterator<Item = Fate> {
    [Fate::Kept, Fate::Dropped].into_iter().chain(std::iter::repeat_n(Fate::Mixed, mixed))
}

/// The names in each directory, and the bytes of each file.
#[derive(Clone, Debug, Default)]
struct Tree {
    names: BTreeMap<PathBuf, BTreeMap<OsString, Inode>>,
    bytes: BTreeMap<Inode, Vec<u8>>,
}

impl Tree {
    fn read(dir: &Path, skip: &dyn Fn(&Path) -> bool) -> Self {
        let mut tree = Self::default();
        tree.read_dir(dir, skip);
        tree
    }

    fn read_dir(&mut self, dir: &Path, skip: &dyn Fn(&Path) -> bool) {
        let mut names = BTreeMap::new();
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if skip(&path) {
                continue;
            }
            let inode = entry.metadata().unwrap().ino();
            names.insert(entry.file_name(), inode);
            if path.is_dir() {
                self.read_dir(&path, skip);
            } else {
                self.bytes.insert(inode, fs::read(&path).unwrap());
            }
        }
        self.names.insert(dir.to_owned(), names);
    }
}

/// What was asked of the disk, and how it stood just before.
#[derive(Debug)]
pub struct Moment {
    /// None: nothing any more, all was done.
    pub step: Option<Step>,
    synced: Tree,
    cached: Tree,
}

#[derive(Debug, Default)]
struct Recorder {
    root: PathBuf,
    synced: Tree,
    moments: Vec<Moment>,
}

/// Records every step of this thread below `root` until it is dropped. All that is there now counts
/// as synced. Databases are left out: SQLite's own syncs are not seen here, and opening its files
/// would drop its locks.
#[derive(Debug)]
pub struct Recording(Rc<RefCell<Recorder>>, fault::Watch);

fn is_database(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("app.db")
}

pub fn record(root: &Path) -> Recording {
    let synced = Tree::read(root, &is_database);
    let recorder = Recorder { root: root.to_owned(), synced, moments: Vec::new() };
    let recorder = Rc::new(RefCell::new(recorder));
    let inner = Rc::clone(&recorder);
    let watch = fault::observe(move |step, path| inner.borrow_mut().step(step, path));
    Recording(recorder, watch)
}

impl Recording {
    /// How many moments there were so far.
    pub fn count(&self) -> usize {
        self.0.borrow().moments.len()
    }

    pub fn end(self) -> Vec<Moment> {
        drop(self.1);
        let Recorder { root, synced, mut moments } = self.0.take();
        let cached = Tree::read(&root, &is_database);
        moments.push(Moment { step: None, synced, cached });
        moments
    }
}

impl Recorder {
    /// Notes how all stands before a step, then what the step makes last.
    fn step(&mut self, step: Step, path: &Path) {
        if !path.starts_with(&self.root) {
            return;
        }
        let cached = Tree::read(&self.root, &is_database);
        let synced = self.synced.clone();
        match step {
            Step::Sync => {
                let inode = path.metadata().unwrap().ino();
                self.synced.bytes.insert(inode, cached.bytes[&inode].clone());
            }
            Step::SyncDir => {
                self.synced.names.insert(path.to_owned(), cached.names[path].clone());
            }
            Step::Create | Step::Write | Step::Rename | Step::MakeDir | Step::Remove => {}
        }
        self.moments.push(Moment { step: Some(step), synced, cached });
    }
}

impl Moment {
    /// What a disk may hold if all ends now, written to `target` in place of `dir`.
    pub fn cut(&self, dir: &Path, target: &Path, fate: Fate, rng: &mut Random) {
        let none = BTreeMap::new();
        let (synced, cached) = (&self.synced.names, &self.cached.names);
        let (synced, cached) = (synced.get(dir).unwrap_or(&none), cached.get(dir).unwrap_or(&none));
        let names: std::collections::BTreeSet<_> = synced.keys().chain(cached.keys()).collect();
        for name in names {
            let (old, new) = (synced.get(name), cached.get(name));
            let name_lasts = match fate {
                Fate::Kept => true,
                Fate::Dropped => false,
                Fate::Mixed => rng.below(2) == 1,
            };
            let Some(inode) = (if name_lasts { new } else { old }) else { continue };
            let (from, to) = (dir.join(name), target.join(name));
            if self.cached.names.contains_key(&from) {
                fs::create_dir(&to).unwrap();
                self.cut(&from, &to, fate, rng);
            } else {
                fs::write(&to, self.content(*inode, fate, rng)).unwrap();
            }
        }
    }

    fn content(&self, inode: Inode, fate: Fate, rng: &mut Random) -> Vec<u8> {
        let synced = self.synced.bytes.get(&inode).cloned().unwrap_or_default();
        let Some(cached) = self.cached.bytes.get(&inode) else { return synced };
        match fate {
            Fate::Kept => return cached.clone(),
            Fate::Dropped => return synced,
            Fate::Mixed if synced == *cached || rng.below(3) == 0 => return synced,
            Fate::Mixed => {}
        }
        // Each block, and the length, by itself.
        let length = match rng.below(3) {
            0 => synced.len(),
            1 => cached.len(),
            _ => synced.len() + rng.below(cached.len().abs_diff(synced.len()) as u64 + 1) as usize,
        };
        let mut bytes = vec![0; length];
        for (at, block) in bytes.chunks_mut(64).enumerate() {
            let from = if rng.below(2) == 0 { &synced } else { cached };
            let from = from.get(at * 64..).unwrap_or_default();
            let count = block.len().min(from.len());
            block[..count].copy_from_slice(&from[..count]);
        }
        bytes
    }
}
