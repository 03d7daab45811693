//! One page of a listing. A directory comes unordered, so each page reads all of it and keeps the
//! first names: memory is bounded by the page, not by the replica.

use super::{DEPTH, is_temp};
use crate::backend::{Entry, Listing};
use crate::name::Name;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// How many foreign keys a page tells of: they are for a person, who needs no more to be warned.
const FOREIGN: usize = 1000;
/// How many levels of change-sets a name can tell: one hexadecimal digit.
const LEVELS: u8 = 16;

/// The first `page` names below `root` that begin with `prefix` and come after `after`.
pub fn page(root: &Path, prefix: &str, after: &str, page: usize) -> io::Result<Listing> {
    let mut found = Found { prefix, after, page, ..Found::default() };
    let dir = &prefix[..prefix.rfind('/').expect("every known prefix has one")];
    found.walk(root, dir)?;
    Ok(found.listing())
}

#[derive(Default)]
struct Found<'a> {
    prefix: &'a str,
    after: &'a str,
    page: usize,
    /// The first names by text, one more than a page.
    names: BTreeMap<String, Entry>,
    foreign: BTreeSet<String>,
}

impl Found<'_> {
    fn walk(&mut self, root: &Path, dir: &str) -> io::Result<()> {
        // What was merged stands a level higher before what it was made of goes. Read from the lowest level on,
        // each directory opened only then, one of both is seen.
        let levels: Vec<_> = match dir == Name::CHANGES.trim_end_matches('/') {
            true => (0..LEVELS).map(|level| format!("{dir}/{level:x}")).collect(),
            false => Vec::new(),
        };
        for level in &levels {
            if there(&root.join(level))?.is_some_and(|it| it.is_dir()) {
                self.walk(root, level)?;
            }
        }
        let path = root.join(dir);
        if there(&path)?.is_none() {
            return Ok(());
        }
        let entries = match fs::read_dir(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let file_name = entry.file_name();
            let key = format!("{dir}/{}", file_name.to_string_lossy());
            let Some(is_dir) = is_dir(&entry.path(), entry.file_type())? else { continue };
            if is_dir {
                if !levels.contains(&key) {
                    self.enter(root, key)?;
                }
            } else if !is_temp(&file_name.to_string_lossy()) {
                self.file(root, key)?;
            }
        }
        #[cfg(test)]
        watch::walked(dir);
        Ok(())
    }

    fn enter(&mut self, root: &Path, key: String) -> io::Result<()> {
        if key.split('/').count() > DEPTH {
            self.add_foreign(key + "/");
            return Ok(());
        }
        self.walk(root, &key)
    }

    fn file(&mut self, root: &Path, key: String) -> io::Result<()> {
        if !key.starts_with(self.prefix) || key.as_str() <= self.after {
            return Ok(());
        }
        let Ok(name) = key.parse() else {
            self.add_foreign(key);
            return Ok(());
        };
        let full = self.names.len() > self.page;
        if full && self.names.last_key_value().is_some_and(|(last, _)| *last < key) {
            return Ok(());
        }
        // Else it was deleted since the directory was read.
        if let Some(metadata) = there(&root.join(&key))? {
            self.names.insert(key, Entry { name, bytes: metadata.len() });
            if full {
                self.names.pop_last();
            }
        }
        Ok(())
    }

    fn add_foreign(&mut self, key: String) {
        if key.starts_with(self.prefix) && key.as_str() > self.after {
            self.foreign.insert(key);
            if self.foreign.len() > FOREIGN {
                self.foreign.pop_last();
            }
        }
    }

    /// What lies up to the page's last name, or to the end where nothing follows: every foreign key
    /// belongs to one page.
    fn listing(mut self) -> Listing {
        let more = self.names.len() > self.page;
        if more {
            self.names.pop_last();
            let last = self.names.last_key_value().map(|(key, _)| key.clone());
            self.foreign.retain(|key| Some(key) <= last.as_ref());
        }
        let entries = self.names.into_values().collect();
        Listing { entries, foreign: self.foreign.into_iter().collect(), more }
    }
}

/// What a path leads to, if it is there. A link that leads nowhere is an error like all that cannot be looked at:
/// what was moved may be on a disk that is not mounted, and is not to be taken for absent.
fn there(path: &Path) -> io::Result<Option<fs::Metadata>> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        metadata => metadata?,
    };
    if !metadata.is_symlink() {
        return Ok(Some(metadata));
    }
    let nowhere = || io::Error::other(format!("{} is a link that leads nowhere", path.display()));
    fs::metadata(path).map(Some).map_err(|error| match error.kind() {
        ErrorKind::NotFound => nowhere(),
        _ => error,
    })
}

/// Links count as what they lead to: an operator may have moved a directory to another disk. `None`: it was
/// deleted since the directory was read, as comes out where a file system tells no types with the names.
pub(super) fn is_dir(path: &Path, found: io::Result<fs::FileType>) -> io::Result<Option<bool>> {
    match found {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        found => found.map(|it| Some(it.is_dir() || it.is_symlink() && path.is_dir())),
    }
}

/// What happens just after a directory was read, for tests.
#[cfg(test)]
pub(super) mod watch {
    use std::cell::RefCell;

    type Then = Box<dyn Fn(&str)>;

    thread_local! {
        static THEN: RefCell<Option<Then>> = const { RefCell::new(None) };
    }

    pub fn then(what: impl Fn(&str) + 'static) {
        THEN.with_borrow_mut(|then| *then = Some(Box::new(what)));
    }

    pub fn walked(dir: &str) {
        THEN.with_borrow(|then| then.iter().for_each(|then| then(dir)));
    }
}
