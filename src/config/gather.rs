//! Directories whose files are databases: which files those are, and what each is called.
//!
//! A name leads to a replica, so it never passes from one file to another while the first is there: of
//! two files that want one name, the one that has a state directory keeps it.

mod links;

use super::field::{Field, Section};
use super::{Config, Database, Destination, Settings, fit_to_be_a_name, real, state_dir_beside};
use crate::error::{Error, Result, Status};
use crate::keep::Cap;
use crate::units;
use links::{Found, Link};
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// What SQLite keeps beside a database.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The files of a directory whose names a pattern fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    pub dir: PathBuf,
    pub pattern: String,
    /// Where state directories are, if not beside the files.
    pub(super) state_dir: Option<PathBuf>,
    pub like: Like,
}

/// All of a database but which one it is: its replicas are below these destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Like {
    pub destinations: Vec<Destination>,
    pub mirrors: Vec<Destination>,
    pub caps: Vec<Cap>,
    pub settings: Settings,
}

impl Like {
    pub(super) fn called(&self, name: String, path: PathBuf, state_dir: PathBuf) -> Database {
        let below = |places: &[Destination]| places.iter().map(|it| it.below(&name)).collect();
        let (destinations, mirrors) = (below(&self.destinations), below(&self.mirrors));
        let (caps, settings) = (self.caps.clone(), self.settings.clone());
        Database { name, path, state_dir, destinations, mirrors, caps, settings }
    }
}

/// What could not be looked at, by its name.
pub type Unseen = Vec<(String, Error)>;

/// All that is backed up by now, and what cannot be.
#[derive(Debug, Default)]
pub struct Gathered {
    pub databases: Vec<Database>,
    pub refused: Vec<Error>,
    /// Other names of theirs.
    pub links: Vec<Link>,
}

impl Gathered {
    /// What a person should know.
    pub fn warnings(&self) -> impl Iterator<Item = &Error> {
        self.refused.iter().chain(self.links.iter().map(|link| &link.told))
    }

    /// The directories that nothing was found in, with why. Who says that all is well has to have looked:
    /// a disk that is not mounted holds databases, and a file with an odd name never was one.
    pub fn unseen(&self) -> Unseen {
        let directories = self.refused.iter().filter(|error| error.status != Status::Usage);
        directories.map(|error| (error.place.clone(), error.clone())).collect()
    }
}

impl Directory {
    pub(super) fn read(section: &Section, dir: &Field, like: Like) -> Result<Self> {
        if let Some(field) = section.find("name") {
            let refused = field.refuse("each file of a directory has its own");
            return Err(refused.hint("leave it out: app.db is called app"));
        }
        if let Some(field) = section.find("path") {
            let refused = field.refuse("cannot stand with dir");
            return Err(refused.hint("leave out the one or the other"));
        }
        let state_dir = section.find("state_dir").filter(|field| !field.is_off());
        let state_dir = state_dir.map(Field::path).transpose()?;
        let pattern = section.find("pattern").map_or(Ok("*.db".to_owned()), Field::string)?;
        if pattern.is_empty() || pattern.contains('/') {
            let refused = section.refuse("pattern", format!("{pattern:?} fits no file's name"));
            return Err(refused.hint("write a name with * and ?, such as pattern = \"*.db\""));
        }
        Ok(Self { dir: dir.path()?, pattern, state_dir, like })
    }

    /// The files that there are by now, in the order of their names.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            // One that is gone again, or leads nowhere, is none; an empty one has no commit yet.
            let is_one = || fs::metadata(&path).is_ok_and(|it| it.is_file() && it.len() > 0);
            if path.file_name().is_some_and(|name| self.takes(name)) && is_one() {
                files.push(path);
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    fn takes(&self, name: &OsStr) -> bool {
        let name = name.to_string_lossy();
        let beside = BESIDE.iter().any(|suffix| name.ends_with(suffix));
        !name.starts_with('.') && !beside && fits(self.pattern.as_bytes(), name.as_bytes())
    }

    /// The database that a file of the directory is.
    fn database(&self, file: &Path) -> Result<Database> {
        let stem = file.file_stem().and_then(OsStr::to_str).unwrap_or_default();
        if !fit_to_be_a_name(stem) {
            let error = refuse(file, "its name is not fit to be a directory's");
            return Err(error.hint("use at most 100 of a-z, A-Z, 0-9, '.', '_' and '-'"));
        }
        let path = real(file);
        let state_dir = match (&self.state_dir, file.file_name()) {
            (Some(dir), Some(name)) => dir.join(name),
            _ => state_dir_beside(&path),
        };
        Ok(self.like.called(stem.to_owned(), path, state_dir))
    }

    /// The database of that name, of which there may be nothing left but its replicas.
    fn lost(&self, name: &str) -> Option<Database> {
        let extension = Path::new(&self.pattern).extension().and_then(OsStr::to_str);
        let file = extension.map_or(name.to_owned(), |extension| format!("{name}.{extension}"));
        let takes = !file.contains(['*', '?', '/']) && self.takes(OsStr::new(&file));
        let database = takes.then(|| self.database(&self.dir.join(&file)))?;
        database.ok().filter(|database| database.name == name)
    }
}

impl Config {
    /// The databases that there are by now: those with a path of their own, and what the directories
    /// hold besides.
    pub fn gather(&self) -> Gathered {
        let (mut refused, mut found) = (Vec::new(), Vec::new());
        for directory in &self.directories {
            match directory.files() {
                Ok(files) if files.is_empty() => refused.push(none(directory)),
                Ok(files) => {
                    for file in files {
                        match directory.database(&file) {
                            Ok(database) => {
                                found.push(Found { order: found.len(), file, database });
                            }
                            Err(error) => refused.push(error),
                        }
                    }
                }
                Err(error) => refused.push(unreadable(directory, &error)),
            }
        }
        let (mut found, links) = links::apart(found);
        // A stable sort: those whose backup has begun go first, then it goes by the configuration.
        found.sort_by_cached_key(|it| !it.database.state_dir.is_dir());
        let mut databases = self.databases.clone();
        let mut taken = Taken::default();
        databases.iter().for_each(|database| taken.take(database));
        for Found { file, database, .. } in found {
            match taken.objection(&database) {
                // By another name, or with settings of its own: it is backed up.
                _ if taken.paths.contains(&database.path) => {}
                Some((cause, hint)) => refused.push(refuse(&file, cause).hint(hint)),
                None => {
                    taken.take(&database);
                    databases.push(database);
                }
            }
        }
        databases[self.databases.len()..].sort_by(|a, b| a.path.cmp(&b.path));
        Gathered { databases, refused, links }
    }

    /// Those that `name` chooses, or all. Of a file that is lost, its directory still tells where its
    /// replicas are.
    pub fn choose(&self, name: Option<&str>) -> Result<Gathered> {
        let mut all = self.gather();
        let Some(name) = name else { return Ok(all) };
        let names: Vec<_> = all.databases.iter().map(|each| each.name.clone()).collect();
        all.databases.retain(|database| database.name == name);
        all.refused.clear();
        let links = std::mem::take(&mut all.links);
        if !all.databases.is_empty() {
            return Ok(all);
        }
        if let Some(link) = links.into_iter().find(|link| link.name == name) {
            return Err(link.told);
        }
        let mut lost = self.directories.iter().filter_map(|directory| directory.lost(name));
        match (lost.next(), lost.next()) {
            (Some(database), None) => Ok(Gathered { databases: vec![database], ..all }),
            (Some(one), Some(other)) => {
                let cause = format!("{} or {}?", one.path.display(), other.path.display());
                Err(Error::new(Status::Usage, "--db", name, cause)
                    .hint("neither is there: name the root of a replica instead"))
            }
            (None, _) => Err(unknown(name, &names)),
        }
    }
}

/// What no two databases may share.
#[derive(Default)]
struct Taken {
    names: BTreeMap<String, PathBuf>,
    paths: BTreeSet<PathBuf>,
    state_dirs: BTreeSet<PathBuf>,
}

impl Taken {
    fn take(&mut self, database: &Database) {
        self.names.insert(database.name.clone(), database.path.clone());
        self.paths.insert(database.path.clone());
        self.state_dirs.insert(database.state_dir.clone());
    }

    fn objection(&self, database: &Database) -> Option<(String, &'static str)> {
        let Database { name, state_dir, .. } = database;
        if let Some(other) = self.names.get(name) {
            let cause = format!("not backed up: {} is called {name} as well", other.display());
            return Some((cause, "rename one of the files, or narrow the pattern"));
        }
        let cause = || format!("not backed up: {} belongs to another one", state_dir.display());
        self.state_dirs.contains(state_dir).then(|| (cause(), "set another state_dir"))
    }
}

fn refuse(file: &Path, cause: impl Display) -> Error {
    Error::new(Status::Usage, "config", file.display(), cause)
}

fn none(directory: &Directory) -> Error {
    let Directory { dir, pattern, .. } = directory;
    let cause = format!("no database here is called {pattern}");
    Error::new(Status::Missing, "config", dir.display(), cause)
        .hint("mount what belongs there, or correct dir or pattern")
}

fn unreadable(directory: &Directory, error: &io::Error) -> Error {
    let status = match error.kind() {
        io::ErrorKind::NotFound => Status::Missing,
        _ => Status::Failed,
    };
    Error::new(status, "config", directory.dir.display(), error)
        .hint("correct dir, or let the user that bakelite runs as read it")
}

fn unknown(name: &str, names: &[String]) -> Error {
    let meant = units::nearest(name, names.iter().map(String::as_str));
    let hint = match meant {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("the configuration has {}", some_of(names)),
    };
    Error::new(Status::Missing, "--db", name, "no such database").hint(hint)
}

/// As many as a line can hold.
pub fn some_of(names: &[impl Borrow<str>]) -> String {
    const MOST: usize = 8;
    match names.len().saturating_sub(MOST) {
        0 if names.is_empty() => "none".to_owned(),
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..MOST].join(", ")),
    }
}

/// Whether a name is as a pattern has it: `*` stands for any bytes, `?` for one.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star = None;
    while from < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[from] => (at, from) = (at + 1, from + 1),
            _ => match star {
                // The last star takes one more.
                Some((before, begun)) => {
                    star = Some((before, begun + 1));
                    (at, from) = (before + 1, begun + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests;
