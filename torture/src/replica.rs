//! A replica as its reader sees it: restored through the library or the program, listed, looked at.

use crate::process;
use bakelite::backend::fs::Fs;
use bakelite::backend::retry::{Patience, Retry};
use bakelite::backend::s3::{S3, VARIABLES};
use bakelite::backend::sealed::sealed;
use bakelite::backend::{self, Backend, list_all};
use bakelite::commit::{CommitNo, Time};
use bakelite::config::{self, Credentials, Destination, Sealing, Secret};
use bakelite::error::Status;
use bakelite::key;
use bakelite::name::Name;
use bakelite::restore::{Check, Options, Quiet, Target, restore};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Where a restore says that it has landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landed {
    pub commit: u64,
    pub timeline: u32,
    pub time: Time,
}

/// A restore that gave nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: i32,
    pub message: String,
}

impl Refused {
    /// There is no replica, or no restore point yet.
    pub fn nothing_there(&self) -> bool {
        self.status == Status::Missing as i32
    }

    pub fn is_integrity(&self) -> bool {
        self.status == Status::Integrity as i32
    }

    /// There are commits, and no snapshot yet: a destination that is filled from another one gets them
    /// last. That is no status 3, upon which an application is started on an empty database.
    pub fn snapshot_to_come(&self) -> bool {
        let told = ["no snapshot that leads to commit", "the snapshot that timeline"];
        self.is_integrity() && told.iter().any(|it| self.message.contains(it))
    }
}

/// A replica in a directory.
pub fn directory(root: &Path) -> Destination {
    Destination::File { root: root.to_owned() }
}

/// A replica as the program opens it to read.
pub fn open(source: &Destination) -> Result<Arc<dyn Backend>, backend::Error> {
    Ok(match source {
        Destination::File { root } => Arc::new(Fs::open(root)?),
        Destination::S3(place) => {
            let s3 = S3::read(place)?;
            Arc::new(Retry::new(Arc::new(s3), Patience::default()))
        }
    })
}

/// The program, told a verb. What signs its requests is in its environment: the keys of the first of
/// these places that has its own, else what is there.
pub fn command<'a>(
    program: &Path,
    verb: &str,
    places: impl IntoIterator<Item = &'a Destination>,
) -> Command {
    let mut command = Command::new(program);
    command.arg(verb).stdin(Stdio::null());
    let keys = places.into_iter().find_map(|place| match place {
        Destination::S3(config::S3 {
            credentials: Credentials::Keys { access_key_id, secret_access_key: Secret(secret) },
            ..
        }) => Some([access_key_id, secret]),
        _ => None,
    });
    if let Some([id, secret]) = keys {
        command.env_remove(VARIABLES[2]).env(VARIABLES[0], id).env(VARIABLES[1], secret);
    }
    command
}

/// Removes a replica: every object, and what else the daemon has put there.
pub fn remove(place: &Destination) -> Result<(), String> {
    match place {
        Destination::File { root } => match std::fs::remove_dir_all(root) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("{}: {error}", root.display()))
            }
            _ => Ok(()),
        },
        Destination::S3(bucket) => empty(place, bucket).map_err(|error| error.to_string()),
    }
}

/// Whether there is no object in it.
pub fn is_empty(place: &Destination) -> Result<bool, backend::Error> {
    let backend = open(place)?;
    for prefix in Name::PREFIXES {
        if !backend.list(prefix, None)?.entries.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn empty(place: &Destination, bucket: &config::S3) -> Result<(), backend::Error> {
    let backend = open(place)?;
    for prefix in Name::PREFIXES {
        for entry in list_all(&*backend, prefix)?.entries {
            backend.delete(&entry.name)?;
        }
    }
    S3::open(bucket)?.remove_probe()
}

/// Restores within this process: the same code as the program's, without the start of a process.
pub fn restore_here(
    source: &Destination,
    output: &Path,
    target: Target,
) -> Result<Landed, Refused> {
    restore_sealed(source, &Sealing::default(), output, target)
}

/// The same, of a replica that is sealed.
pub fn restore_sealed(
    source: &Destination,
    sealing: &Sealing,
    output: &Path,
    target: Target,
) -> Result<Landed, Refused> {
    let keys = key::load(sealing).map_err(|error| refused(&error))?;
    let source = open(source).map_err(|error| refused(&error.into()))?;
    restore_from(&sealed(source, &keys), output, target)
}

fn refused(error: &bakelite::error::Error) -> Refused {
    let hint = error.hint.as_deref().map(|hint| format!(" / hint: {hint}")).unwrap_or_default();
    Refused { status: error.status as i32, message: format!("{error}{hint}") }
}

/// The same, from a replica that is open.
pub fn restore_from(
    source: &Arc<dyn Backend>,
    output: &Path,
    target: Target,
) -> Result<Landed, Refused> {
    let options = Options {
        output,
        target,
        timeline: None,
        check: Check::None,
        force: false,
        dry_run: false,
    };
    let report = restore(source, &options, &Quiet).map_err(|error| refused(&error))?;
    let (commit, timeline) = (report.commit.0, report.timeline.0);
    Ok(Landed { commit, timeline, time: report.time })
}

/// A commit of a timeline that the newest one may have left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    pub commit: u64,
    pub timeline: u32,
}

/// Restores with the program, as an operator would.
pub fn restore_there(
    mut command: Command,
    source: &Destination,
    output: &Path,
    target: Target,
    log: &Path,
) -> Result<Landed, Refused> {
    let words = match target {
        Target::Latest => Vec::new(),
        Target::At(Time(millis)) => vec!["--at".to_owned(), rfc3339(millis)],
        Target::Commit(CommitNo(number)) => vec!["--commit".to_owned(), number.to_string()],
    };
    restored(command.arg(source.to_string()).args(words), output, log)
}

/// Restores a commit of a branch, with the program.
pub fn restore_branch(
    mut command: Command,
    source: &Destination,
    output: &Path,
    on: Branch,
    log: &Path,
) -> Result<Landed, Refused> {
    let Branch { commit, timeline } = on;
    command.arg(source.to_string()).args(["--commit", &commit.to_string()]);
    restored(command.args(["--timeline", &timeline.to_string()]), output, log)
}

fn restored(command: &mut Command, output: &Path, log: &Path) -> Result<Landed, Refused> {
    command.arg("--output").arg(output).arg("--json");
    let refused = |status: i32, message: String| Refused { status, message };
    let done = match process::run(command, log) {
        Ok(Some(done)) => done,
        Ok(None) => return Err(refused(-1, "restore hung and was killed".into())),
        Err(error) => return Err(refused(-1, format!("cannot run it: {error}"))),
    };
    if !done.status.success() {
        return Err(refused(done.status.code().unwrap_or(-1), done.complaint));
    }
    landed(&done.stdout).ok_or_else(|| refused(-1, format!("not its JSON: {}", done.stdout)))
}

fn landed(json: &str) -> Option<Landed> {
    let json: Value = serde_json::from_str(json).ok()?;
    let timeline = u32::try_from(json["timeline"].as_u64()?).ok()?;
    let time = Time(millis(json["time"].as_str()?)?);
    Some(Landed { commit: json["commit"].as_u64()?, timeline, time })
}

/// A range of commits that `list` offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Points {
    pub first: u64,
    pub last: u64,
    pub timeline: u32,
    /// Off the main line: a newer timeline has left them behind.
    pub branch: bool,
}

pub fn list(mut command: Command, source: &Destination, log: &Path) -> Result<Vec<Points>, String> {
    command.arg(source.to_string()).arg("--json");
    let done = process::run(&mut command, log).map_err(|error| error.to_string())?;
    let done = done.ok_or("list hung and was killed")?;
    if !done.status.success() {
        return Err(format!("list: {}: {}", done.status, done.complaint));
    }
    points(&done.stdout).ok_or_else(|| format!("list: not its JSON: {}", done.stdout))
}

fn points(json: &str) -> Option<Vec<Points>> {
    let json: Value = serde_json::from_str(json).ok()?;
    let points = json["points"].as_array()?.iter();
    let point = |value: &Value| {
        let (first, last) = (value["first"].as_u64()?, value["last"].as_u64()?);
        let timeline = u32::try_from(value["timeline"].as_u64()?).ok()?;
        let branch = value["branch"].as_bool().unwrap_or(false);
        Some(Points { first, last, timeline, branch })
    };
    points.map(point).collect()
}

/// What the daemon says of one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub standing: String,
    /// The last commit that is durable there, with all below it.
    pub floor: Option<u64>,
    pub error: Option<String>,
}

/// What `status` says of each destination, given how it is called.
pub fn status(mut command: Command, log: &Path) -> Result<Vec<Claim>, String> {
    let done = process::run(command.arg("--json"), log).map_err(|error| error.to_string())?;
    let done = done.ok_or("status hung and was killed")?;
    if !done.status.success() {
        return Err(format!("status: {}: {}", done.status, done.complaint));
    }
    claims(&done.stdout).ok_or_else(|| format!("status: not its JSON: {}", done.stdout))
}

fn claims(json: &str) -> Option<Vec<Claim>> {
    let json: Value = serde_json::from_str(json).ok()?;
    let [database] = &json["databases"].as_array()?[..] else { return None };
    let claim = |value: &Value| {
        let standing = value["standing"].as_str()?.to_owned();
        let error = value["error"].as_str().map(str::to_owned);
        Some(Claim { standing, floor: value["floor"].as_u64(), error })
    };
    database["destinations"].as_array()?.iter().map(claim).collect()
}

/// The names of all objects, and where each of them lies.
pub fn objects(source: &Path) -> Result<Vec<(Name, PathBuf)>, String> {
    let fs = Fs::open(source).map_err(|error| error.to_string())?;
    let mut objects = Vec::new();
    for prefix in Name::PREFIXES {
        let listing = list_all(&fs, prefix).map_err(|error| error.to_string())?;
        let path = |name: Name| (source.join(name.to_string()), name);
        objects
            .extend(listing.entries.into_iter().map(|entry| path(entry.name)).map(|(p, n)| (n, p)));
    }
    Ok(objects)
}

/// Milliseconds since 1970 as RFC 3339 in UTC.
pub fn rfc3339(millis: u64) -> String {
    let (days, rest) = (millis / 86_400_000, millis % 86_400_000);
    let (year, month, day) = civil(days as i64);
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, milli) = (rest / 1000 % 60, rest % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// The way back, for what we print ourselves and the program prints alike.
pub fn millis(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let date: Vec<i64> = date.split('-').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    let (clock, milli) = time.split_once('.').unwrap_or((time, "0"));
    let clock: Vec<u64> = clock.split(':').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    let (&[year, month, day], &[hour, minute, second]) = (&*date, &*clock) else { return None };
    let days = days(year, month, day);
    let seconds = days as u64 * 86_400 + hour * 3600 + minute * 60 + second;
    Some(seconds * 1000 + format!("{milli:0<3}").get(..3)?.parse::<u64>().ok()?)
}

/// Days since 1970 to year, month, day: counted in eras of 400 years that begin on 1 March.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_763_865_000_001), "2025-11-23T02:30:00.001Z");
        for day in 0..40_000 {
            let time = day * 86_400_000 + 12_345_678;
            assert_eq!(millis(&rfc3339(time)), Some(time));
        }
        assert_eq!(millis("2025-11-23T02:30:00Z"), Some(1_763_865_000_000));
        assert_eq!(millis("yesterday"), None);
    }

    #[test]
    fn json_is_read() {
        let json = r#"{"schema":1,"commit":7,"time":"1970-01-01T00:00:01.500Z","timeline":2}"#;
        let landed_at = Landed { commit: 7, timeline: 2, time: Time(1500) };
        assert_eq!(landed(json), Some(landed_at));
        assert_eq!(landed("{}"), None);
        let json = r#"{"schema":1,"points":[{"first":1,"last":9,"timeline":1},
            {"first":12,"last":12,"timeline":2,"branch":true}]}"#;
        let expected = vec![
            Points { first: 1, last: 9, timeline: 1, branch: false },
            Points { first: 12, last: 12, timeline: 2, branch: true },
        ];
        assert_eq!(points(json), Some(expected));
    }
}
