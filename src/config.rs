//! What is backed up to where, and how: the configuration as typed values.
//!
//! A `Config` that exists is valid: paths are absolute, names are fit to be directories, nothing
//! stands twice, and a database is the file behind all links to it. `read` makes one from TOML;
//! bakelite.5 describes the keys. `gather` finds what is in directories. Whether the things that it
//! names exist is for those to say who open them.

mod expand;
mod field;
mod gather;
mod read;
mod s3;

pub use gather::{Directory, Gathered, Like, Unseen, some_of};
pub use read::{KEYS, Key, Place};
pub use s3::{Credentials, Lock, LockMode, S3, Secret, UrlStyle};

use crate::durable;
use crate::error::{Error, Result, Status};
use crate::keep::{Cap, Keep};
use crate::object::Compression;
use crate::seal::Rule;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fmt, fs, io, path};

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_FILE: &str = "/etc/bakelite/bakelite.toml";
/// The variable of the environment that says otherwise.
pub const FILE_VARIABLE: &str = "BAKELITE_CONFIG";
/// Key files, with colons between them, for commands that read no configuration.
pub const KEYS_VARIABLE: &str = "BAKELITE_KEY_FILES";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Those that have a path of their own.
    pub databases: Vec<Database>,
    pub directories: Vec<Directory>,
    /// Whether a secret stands in the file itself.
    pub holds_secret: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    pub name: String,
    pub path: PathBuf,
    pub state_dir: PathBuf,
    pub destinations: Vec<Destination>,
    /// Those of them that nothing waits for: they may trail.
    pub mirrors: Vec<Destination>,
    /// What each of them is to hold at most, in their order; those past the end, whatever comes.
    pub caps: Vec<Cap>,
    pub settings: Settings,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub poll_interval: Duration,
    /// `None` leaves it to the kind of destination.
    pub ship_interval: Option<Duration>,
    pub snapshot_interval: Duration,
    /// Bytes of the database read a second; `None`: as fast as it goes.
    pub snapshot_rate: Option<u64>,
    pub checkpoint_pages: u32,
    pub wal_max: u64,
    pub spool_max: u64,
    pub compression: Compression,
    /// The windows in which change-sets are merged.
    pub compaction: Vec<Duration>,
    pub keep: Keep,
    pub sealing: Sealing,
    pub observers: Observers,
}

/// Who is told how a database stands. Of no matter to the work itself.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Observers {
    pub metrics_file: Option<PathBuf>,
    pub metrics_listen: Option<SocketAddr>,
    pub ping_url: Option<String>,
}

/// What a database's replicas are sealed with.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Sealing {
    /// The first one writes, all of them read.
    pub key_files: Vec<PathBuf>,
    pub rule: Rule,
}

/// Where a replica is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub destination: Destination,
    pub sealing: Sealing,
}

/// Where one replica is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    File { root: PathBuf },
    S3(S3),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_millis(10),
            ship_interval: None,
            snapshot_interval: Duration::from_secs(86_400),
            snapshot_rate: None,
            checkpoint_pages: 4000,
            wal_max: 256 << 20,
            spool_max: 1 << 30,
            compression: Compression::Zstd,
            compaction: [30, 300, 3600].map(Duration::from_secs).into(),
            keep: Keep::default(),
            sealing: Sealing::default(),
            observers: Observers::default(),
        }
    }
}

impl Config {
    /// Reads `file`, else the one that the environment names, else the usual one.
    pub fn load(file: Option<&Path>) -> Result<Self> {
        let file = self::file(file);
        let text = fs::read_to_string(&file).map_err(|cause| unreadable(&file, &cause))?;
        let config = Self::parse(&text, &file, &|name| env::var(name).ok())?;
        if config.holds_secret && others_may_read(&file).map_err(|e| unreadable(&file, &e))? {
            let cause = "others can read it, and a secret is in it";
            return Err(Error::new(Status::Usage, "config", file.display(), cause)
                .hint(format!("run: chmod o-rwx {}", file.display())));
        }
        // One that is not there yet may be put there while a daemon runs.
        let open = |file: &&PathBuf| others_may_read(file).unwrap_or(false);
        if let Some(file) = config.credentials_files().find(open) {
            let (file, cause) = (file.display(), "others can read it");
            return Err(Error::new(Status::Usage, "read the credentials", &file, cause)
                .hint(format!("run: chmod 600 {file}")));
        }
        Ok(config)
    }

    fn credentials_files(&self) -> impl Iterator<Item = &PathBuf> {
        let of_databases = self.databases.iter().flat_map(|it| &it.destinations);
        let of_directories = self.directories.iter().flat_map(|it| &it.like.destinations);
        of_databases.chain(of_directories).filter_map(|it| match it {
            Destination::S3(S3 { credentials: Credentials::File(file), .. }) => Some(file),
            _ => None,
        })
    }

    /// Reads a configuration's text. `file` is only named in errors.
    pub fn parse(
        text: &str,
        file: &Path,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        read::config(&field::Source { file, text, variable })
    }

    /// Those of every database that there is or may be.
    pub fn settings(&mut self) -> impl Iterator<Item = &mut Settings> {
        let databases = self.databases.iter_mut().map(|it| &mut it.settings);
        databases.chain(self.directories.iter_mut().map(|it| &mut it.like.settings))
    }
}

impl From<Vec<Database>> for Config {
    fn from(databases: Vec<Database>) -> Self {
        Self { databases, ..Self::default() }
    }
}

/// The configuration's file: `given`, else the one that the environment names, else the usual one.
pub fn file(given: Option<&Path>) -> PathBuf {
    file_of(given, env::var_os(FILE_VARIABLE))
}

/// `named`: what the environment says. Where that is nothing, it is as if it said so.
fn file_of(given: Option<&Path>, named: Option<OsString>) -> PathBuf {
    let named = named.filter(|value| !value.is_empty()).map(PathBuf::from);
    given.map(Path::to_path_buf).or(named).unwrap_or_else(|| DEFAULT_FILE.into())
}

/// Whether those may read a file who are neither its owner nor of its group.
pub fn others_may_read(file: &Path) -> io::Result<bool> {
    Ok(fs::metadata(file)?.permissions().mode() & 0o007 != 0)
}

fn unreadable(file: &Path, cause: &io::Error) -> Error {
    let hint = match cause.kind() {
        io::ErrorKind::NotFound => "name one with --config FILE, or give DB and DEST (or SOURCE)",
        io::ErrorKind::PermissionDenied => "run as a user that may read it, or change its mode",
        _ => "name another one with --config FILE",
    };
    Error::new(Status::Usage, "config", file.display(), cause).hint(hint)
}

impl Database {
    /// Whether a destination locks what it stores, or is to hold no more than so much.
    pub fn has_locks_or_caps(&self) -> bool {
        let locked = |it: &Destination| matches!(it, Destination::S3(s3) if s3.lock.is_some());
        self.destinations.iter().any(locked) || self.caps.iter().any(|cap| *cap != Cap::default())
    }

    /// What its destination of that number is to hold at most.
    pub fn cap(&self, at: usize) -> Cap {
        self.caps.get(at).copied().unwrap_or_default()
    }

    pub fn origins(self) -> Vec<Origin> {
        let sealing = self.settings.sealing;
        let origin = |destination| Origin { destination, sealing: sealing.clone() };
        self.destinations.into_iter().map(origin).collect()
    }

    /// A database as given on the command line, with every setting at its default.
    pub fn given(path: &str, destinations: &[String]) -> Result<Self> {
        let path = absolute("database", path)?;
        let Some(file) = path.file_name() else {
            return Err(Error::new(Status::Usage, "database", path.display(), "not a file's path")
                .hint("name the database's file, such as /var/lib/app/app.db"));
        };
        let stem = Path::new(file).file_stem().unwrap_or(file);
        let name = stem.to_string_lossy().into_owned();
        let destinations = destinations.iter().map(|url| Destination::parse(url));
        let destinations = destinations.collect::<Result<Vec<_>>>()?;
        for (at, destination) in destinations.iter().enumerate() {
            if let Some(cause) = taken(destination, &destinations[..at], "named twice") {
                return Err(Error::new(Status::Usage, "destination", destination, cause)
                    .hint("give each destination once"));
            }
        }
        let path = real(&path);
        if !leaves_room(&path) {
            return Err(Error::new(Status::Usage, "database", path.display(), LONG).hint(RENAME));
        }
        let state_dir = state_dir_beside(&path);
        let (mirrors, caps, settings) = (Vec::new(), Vec::new(), Settings::default());
        Ok(Self { name, path, state_dir, destinations, mirrors, caps, settings })
    }
}

/// Links that lead to one another are followed no further than this; the system has the same limit.
const LINKS: usize = 40;

/// The file that SQLite opens at `path`: links are followed, to a file that is not there yet as well.
/// By whatever name it is reached, it has one `-wal`, and must have one lock and one state.
fn real(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        if let Ok(real) = path.canonicalize() {
            return real;
        }
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return path };
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        path = match fs::read_link(dir.join(name)) {
            Ok(target) => dir.join(target),
            Err(_) => return dir.join(name),
        };
    }
    path
}

/// A name becomes a directory on every destination.
pub fn fit_to_be_a_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=100).contains(&name.len()) && !name.starts_with('.') && name.chars().all(plain)
}

/// `.app.db.bakelite` beside `app.db`.
fn state_dir_beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().expect("a database's path ends in a file name"));
    name.push(".bakelite");
    path.with_file_name(name)
}

/// What SQLite and the daemon keep beside a database has longer names, and a file system takes 255 bytes.
fn leaves_room(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.len() <= 200)
}

const LONG: &str = "its name has more than 200 bytes";
const RENAME: &str = "rename the file: what is kept beside it has longer names";

/// Whether one of the others is the same place, by whatever name; what is to be said of that.
fn taken(destination: &Destination, others: &[Destination], twice: &str) -> Option<String> {
    use Destination::File;
    let other = others.iter().find(|other| match (destination, other) {
        (File { root: here }, File { root: there }) => real(here) == real(there),
        (here, there) => here.below("").to_string() == there.below("").to_string(),
    })?;
    Some(match (destination, other) {
        (File { root: here }, File { root: there }) if here != there => {
            format!("is the same place as {other}")
        }
        _ => twice.to_owned(),
    })
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.destination.fmt(f)
    }
}

impl Destination {
    /// A path, `file:///path` or `s3://BUCKET/PREFIX?…`, taken as it is: nothing is decoded.
    pub fn parse(url: &str) -> Result<Self> {
        let refuse = |cause: &str| Error::new(Status::Usage, "destination", url, cause);
        match url.split_once("://") {
            None => Ok(Self::File { root: absolute("destination", url)? }),
            Some(("file", path)) if path.starts_with('/') => Ok(Self::File { root: path.into() }),
            Some(("file", _)) => Err(refuse("a file URL with a host or a relative path")
                .hint("write file:///path with three slashes, or the path alone")),
            Some(("s3", rest)) => S3::parse(rest, url).map(Self::S3),
            Some(_) => Err(refuse("unknown scheme").hint("use a path, file:///path or s3://...")),
        }
    }
}

impl Destination {
    /// What answers for it, or does not: replicas of other databases may lie there as well.
    pub fn host(&self) -> String {
        match self {
            Self::File { root } => durable::parent(root).display().to_string(),
            Self::S3(S3 { endpoint, bucket, .. }) => format!("{endpoint}/{bucket}"),
        }
    }

    /// The place of that name below this one.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        match self {
            Self::File { root } => Self::File { root: root.join(name) },
            Self::S3(s3) => {
                let slash = if s3.prefix.is_empty() { "" } else { "/" };
                let prefix = format!("{}{slash}{name}", s3.prefix);
                Self::S3(S3 { prefix, ..s3.clone() })
            }
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::File { root } => write!(f, "file://{}", root.display()),
            Self::S3(s3) => s3.fmt(f),
        }
    }
}

/// A path of the command line, which is relative to the working directory.
pub fn absolute(what: &str, text: &str) -> Result<PathBuf> {
    path::absolute(text).map_err(|cause| {
        Error::new(Status::Usage, what, format!("{text:?}"), cause).hint("give a path")
    })
}

#[cfg(test)]
mod tests;
