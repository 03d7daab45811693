//! `doctor`: tries what a backup stands on, before it is needed: the database, the directory of the
//! daemon's state, room on their disks, descriptors, and every destination with objects of its own.
//!
//! Nothing of a database or a replica is changed. What it finds either keeps the daemon from working,
//! which is an error with the status that the daemon would end with, or is a warning.

mod destination;
mod sealing;

use crate::check::Finding;
use crate::config::Database;
use crate::daemon::{daemon_runs, open_database};
use crate::durable;
use crate::error::{Error, Status};
use crate::place::{self, Warning};
use crate::sqlite::{self, HEAD_BYTES, Handles};
use crate::status::Record;
use crate::units;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Descriptors of one database in the daemon, with some for its destinations; and of the daemon itself.
/// With one directory as its destination a database has 6, a checkpoint three more for an instant.
const PER_DATABASE: u64 = 10;
const OF_DAEMON: u64 = 40;

/// What was found out: facts by their places, and what is wrong.
#[derive(Debug, Default)]
pub struct Report {
    pub facts: Vec<(String, String)>,
    pub findings: Vec<Finding>,
}

impl Report {
    fn fact(&mut self, place: impl ToString, what: impl Into<String>) {
        self.facts.push((place.to_string(), what.into()));
    }

    fn error(&mut self, error: &Error, place: impl ToString) {
        self.findings.push(Finding::of(error, place));
    }

    fn warn(&mut self, what: impl Into<String>, place: impl ToString, remedy: impl Into<String>) {
        self.findings.push(Finding::warning(what, place).remedy(remedy));
    }
}

/// `file`: the configuration that they come from.
pub fn doctor(databases: &[Database], file: Option<&Path>) -> Report {
    let mut report = Report::default();
    if let Some(file) = file {
        configuration(&mut report, file, databases.len());
    }
    match sqlite::version() {
        Ok(version) => report.fact("SQLite", version),
        Err(cause) => {
            let finding = Finding::new(Status::Failed, cause, "SQLite");
            report.findings.push(finding.remedy("build bakelite with the SQLite that it bundles"));
        }
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    descriptors(&mut report, &limits, databases.len());
    for database in databases {
        one(&mut report, database);
    }
    report
}

/// A configuration that has a secret and can be read by others was refused when it was read.
fn configuration(report: &mut Report, file: &Path, databases: usize) {
    report.fact(file.display(), format!("a configuration, {databases} of its databases tried"));
    let mode = fs::metadata(file).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o002 != 0 {
        let hint = format!("run: chmod o-w {}", file.display());
        report.warn("everybody can write it", file.display(), hint);
    }
}

fn descriptors(report: &mut Report, limits: &str, databases: usize) {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let needed = OF_DAEMON + PER_DATABASE * databases as u64;
    if let Some(soft) = soft.filter(|soft| *soft < needed) {
        let what = format!("{soft} descriptors may be open, and the daemon may need {needed}");
        let remedy = "raise it: ulimit -n, or LimitNOFILE= in the unit of systemd";
        report.warn(what, "limits of this shell", remedy);
    }
}

fn one(report: &mut Report, database: &Database) {
    let path = &database.path.display();
    for Warning { message, hint } in place::warnings(&database.path) {
        report.warn(message, path, hint);
    }
    match open_database(&database.path) {
        Ok((handles, _)) => {
            if let Err(cause) = examine(report, database, &handles) {
                report.error(&Error::io("read", path, &cause), path);
            }
        }
        Err(error) => report.error(&error, path),
    }
    state(report, database);
    recorded(report, database);
    let keys = sealing::keys(report, database);
    for destination in &database.destinations {
        destination::probe(report, database, destination, keys.as_ref());
    }
}

/// What the daemon could not do last: objects of its own may be larger than those that are tried here.
fn recorded(report: &mut Report, database: &Database) {
    let record = Record::load(database);
    let (own, lanes) = record.errors();
    let own = own.map(|error| (database.path.display().to_string(), error));
    for (place, error) in own.into_iter().chain(lanes.map(|(url, error)| (url.to_owned(), error))) {
        let what = format!("the daemon has failed, and not succeeded since: {error}");
        report.warn(what, place, "see what it waits for: bakelite status");
    }
}

/// What kind of database it is, as its header has it.
fn examine(report: &mut Report, database: &Database, handles: &Handles) -> io::Result<()> {
    let path = &database.path.display();
    let mut head = [0; HEAD_BYTES];
    let bytes = handles.database_bytes()?;
    handles.read_database(&mut head, 0)?;
    report.fact(path, format!("{}, {}", units::bytes(bytes), kind(&head)));
    let (wal, most) = (handles.wal_bytes()?, database.settings.wal_max);
    if wal > most {
        let what = format!("its WAL has {}, wal_max is {}", units::bytes(wal), units::bytes(most));
        report.warn(
            what,
            path,
            "find what keeps it from being checkpointed: a reader that never ends",
        );
    }
    room(report, &database.path, "wal_max", most);
    Ok(())
}

/// The fields of a database's header that say how it is written.
fn kind(head: &[u8; HEAD_BYTES]) -> String {
    let number =
        |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let page_size = match u16::from_be_bytes([head[16], head[17]]) {
        1 => 65536,
        bytes => u32::from(bytes),
    };
    let encoding = match number(56) {
        2 => "UTF-16le",
        3 => "UTF-16be",
        _ => "UTF-8",
    };
    // The largest root page is kept only where pages can be moved.
    let vacuum = match (number(52), number(64)) {
        (0, _) => "",
        (_, 0) => ", auto_vacuum=full",
        (_, _) => ", auto_vacuum=incremental",
    };
    let reserved = match head[20] {
        0 => String::new(),
        bytes => format!(", {bytes} bytes of each page kept by an extension"),
    };
    format!("WAL mode, pages of {page_size}, {encoding}{vacuum}{reserved}")
}

/// The directory that the daemon keeps its state and the spool in, or makes with all above it.
fn state(report: &mut Report, database: &Database) {
    let dir = &database.state_dir;
    let above = dir.ancestors().find(|above| above.exists()).unwrap_or(dir);
    if let Err(cause) = durable::temp_beside(&above.join("doctor")) {
        let error = Error::io("write below", above.display(), &cause);
        return report
            .error(&error.hint("give it to the user that bakelite runs as"), above.display());
    }
    let mode = fs::metadata(dir).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o002 != 0 {
        let hint = format!("run: chmod o-w {}", dir.display());
        report.warn("everybody can write there", dir.display(), hint);
    }
    room(report, above, "spool_max", database.settings.spool_max);
    if let Ok(true) = daemon_runs(database).map(|runs| dir.is_dir() && runs) {
        report.fact(dir.display(), "a daemon runs");
    }
}

/// Whether a disk has as much room as a setting says may be taken.
fn room(report: &mut Report, path: &Path, setting: &str, most: u64) {
    let Ok(disk) = rustix::fs::statvfs(path) else { return };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < most {
        let what = format!("{} are free, {setting} is {}", units::bytes(free), units::bytes(most));
        report.warn(what, path.display(), format!("make room, or set {setting} lower"));
    }
}

#[cfg(test)]
mod tests;
