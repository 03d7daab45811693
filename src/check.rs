//! `check`: whether every database is watched, and how old the oldest commit is that some destination
//! does not hold. For a timer: it asks the database, the daemon's lock and what the daemon has left
//! on disk, no destination and not the daemon itself.
//!
//! What counts is not when the last commit was made durable, since an application may rest for weeks,
//! but what is published now: where that is durable, nothing is stale. Where it is not, the daemon
//! says since when; a daemon that does not even say that hangs.

use crate::clock;
use crate::config::Database;
use crate::daemon::{Published, daemon_runs};
use crate::error::{Error, Result, Status};
use crate::status::Record;
use crate::units;
use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

/// How old a commit may be that some destination lacks, unless `--max-age` says otherwise.
pub const MAX_AGE: Duration = Duration::from_secs(300);
/// How long a daemon may take to notice what is published, and to say so.
const GRACE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// What is wrong, where, and what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `None`: a warning.
    pub status: Option<Status>,
    pub what: String,
    pub place: String,
    pub remedy: String,
}

impl Finding {
    pub fn new(status: Status, what: impl Into<String>, place: impl ToString) -> Self {
        Self { status: Some(status), ..Self::warning(what, place) }
    }

    pub fn warning(what: impl Into<String>, place: impl ToString) -> Self {
        let (what, place) = (what.into(), place.to_string());
        Self { status: None, what, place, remedy: String::new() }
    }

    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }

    /// What an error says, which names its place itself.
    pub fn of(error: &Error, place: impl ToString) -> Self {
        Self::new(error.status, &error.message, place)
            .remedy(error.hint.as_deref().unwrap_or("see DIAGNOSTICS in bakelite(1)"))
    }
}

pub fn check(databases: &[Database], max_age: Duration) -> Vec<Finding> {
    let start = clock::instant();
    let mut findings = Vec::new();
    let mut undecided = Vec::new();
    for database in databases {
        match begin(database).and_then(|begun| judge(begun, max_age, start)) {
            Ok(Verdict::Found(found)) => findings.extend(found),
            Ok(Verdict::Undecided(begun)) => undecided.push(begun),
            Err(error) => findings.push(Finding::of(&error, database.path.display())),
        }
    }
    // A daemon that has just started, or a commit of this moment: looked at again, all of them in turn.
    while !undecided.is_empty() {
        std::thread::sleep(POLL);
        for begun in std::mem::take(&mut undecided) {
            let path = begun.database.path.display();
            match judge(begun, max_age, start) {
                Ok(Verdict::Found(found)) => findings.extend(found),
                Ok(Verdict::Undecided(begun)) => undecided.push(begun),
                Err(error) => findings.push(Finding::of(&error, path)),
            }
        }
    }
    // What lacks a commit is worse than what has no room.
    findings.sort_by_key(|it| it.status == Some(Status::Failed));
    findings
}

struct Begun<'a> {
    database: &'a Database,
    /// `None`: nobody watches it.
    published: Option<Published>,
}

enum Verdict<'a> {
    Found(Vec<Finding>),
    Undecided(Begun<'a>),
}

fn begin(database: &Database) -> Result<Begun<'_>> {
    if !database.path.exists() {
        let path = database.path.display();
        return Err(Error::new(Status::Missing, "check", path, "no such database")
            .hint("correct its path in the configuration, or restore it"));
    }
    let published = daemon_runs(database)?.then(|| Published::now(database));
    Ok(Begun { database, published: published.transpose()? })
}

fn judge(begun: Begun<'_>, max_age: Duration, start: Instant) -> Result<Verdict<'_>> {
    let Begun { database, published } = begun;
    let Some(mut published) = published else {
        return Ok(Verdict::Found(vec![unwatched(database)]));
    };
    published.look_again(database)?;
    let record = Record::load(database);
    let mut findings = Vec::new();
    for (at, destination) in database.destinations.iter().enumerate() {
        if published.is_durable_on(database, |each| each == destination)? {
            continue;
        }
        let since = record.lacks_since.get(at).copied().flatten();
        let Some(age) = since.and_then(clock::passed_since) else {
            if start.elapsed() < GRACE {
                let published = Some(published);
                return Ok(Verdict::Undecided(Begun { database, published }));
            }
            let what = "the daemon does not take in what is committed";
            let finding = Finding::new(Status::Stale, what, database.path.display());
            findings.push(finding.remedy("see what it logs, and start it again"));
            break;
        };
        if age > max_age {
            let why = record.error_of(&destination.to_string()).map(|it| format!(": {it}"));
            let (age, why) = (units::stretch(age), why.unwrap_or_default());
            let what = format!("lacks commits of the last {age}{why}");
            let remedy = "see how it stands, and what it waits for: bakelite status";
            findings.push(Finding::new(Status::Stale, what, destination).remedy(remedy));
        }
    }
    let places = database.destinations.iter().map(ToString::to_string);
    findings.extend(places.filter_map(|place| {
        let note = record.over.get(&place)?;
        Some(Finding::new(Status::Failed, &note.what, place).remedy(&note.remedy))
    }));
    Ok(Verdict::Found(findings))
}

/// A daemon that runs leaves alone what its header says that it cannot watch. One that was fenced is not to
/// be started by somebody who does not know that.
fn unwatched(database: &Database) -> Finding {
    let path = &database.path;
    if Record::load(database).fenced.is_some() {
        let what = "no daemon watches it: another one has taken the replica up";
        let remedy =
            "decide which of the two goes on, and stop the other one: see bakelite-recovery(7)";
        return Finding::new(Status::Stale, what, path.display()).remedy(remedy);
    }
    let mut head = [0; 20];
    // Nothing in this process has it open: there would be a lock to lose.
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    let (why, remedy) = match read.map(|()| (head.starts_with(b"SQLite format 3\0"), &head[18..])) {
        Ok((true, [2, 2])) | Err(_) => ("", "start it: bakelite daemon".to_owned()),
        Ok((true, _)) => {
            let remedy = format!("run: sqlite3 {} 'PRAGMA journal_mode=WAL'", units::word(path));
            (": it is not in WAL mode", remedy)
        }
        Ok((false, _)) => (": it is no SQLite database", "correct its path, or pattern".to_owned()),
    };
    let what = format!("no daemon watches it{why}");
    Finding::new(Status::Stale, what, path.display()).remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::try_lock;
    use crate::testkit::{Db, commits};

    fn record(db: &Db, since: Option<u64>) {
        let text = since.map_or("null".to_owned(), |since| since.to_string());
        let text = format!("{{\"lacks_since\": [{text}]}}");
        std::fs::write(db.config().state_dir.join("status"), text).unwrap();
    }

    fn said(db: &Db, max_age: u64) -> Vec<String> {
        let findings = check(&[db.config()], Duration::from_secs(max_age));
        assert!(
            findings.iter().all(|it| it.status == Some(Status::Stale) && !it.remedy.is_empty())
        );
        findings.into_iter().map(|it| it.what).collect()
    }

    /// However old the last commit is: what is published is durable.
    #[test]
    fn a_database_at_rest_is_never_stale_and_one_without_a_daemon_is() {
        let db = Db::new(4096);
        let app = db.open();
        commits(&app, 3);
        assert_eq!(said(&db, 60), ["no daemon watches it"]);
        crate::daemon::sync(&[db.config()]).unwrap();
        assert_eq!(said(&db, 60), ["no daemon watches it"]);
        let _lock = try_lock(&db.config().state_dir).unwrap().unwrap();
        record(&db, Some(0));
        assert_eq!(said(&db, 0), [""; 0]);
    }

    /// Found by trying it: beside a daemon that watches all other files of a directory, that was to be started.
    #[test]
    fn a_database_that_is_not_in_wal_mode_is_told_to_be_why_nobody_watches_it() {
        let db = Db::new(4096);
        db.open().execute_batch("PRAGMA journal_mode = DELETE").unwrap();
        let findings = check(&[db.config()], MAX_AGE);
        assert_eq!(findings[0].what, "no daemon watches it: it is not in WAL mode");
        assert_eq!(findings[0].status, Some(Status::Stale));
        assert!(findings[0].remedy.starts_with("run: sqlite3 '"), "{findings:?}");
        std::fs::write(&db.path, "what is longer than twenty bytes").unwrap();
        assert_eq!(said(&db, 60), ["no daemon watches it: it is no SQLite database"]);
    }

    #[test]
    fn a_commit_that_a_destination_lacks_is_stale_once_it_is_old() {
        let db = Db::new(4096);
        let app = db.open();
        commits(&app, 3);
        crate::daemon::sync(&[db.config()]).unwrap();
        let _lock = try_lock(&db.config().state_dir).unwrap().unwrap();
        commits(&app, 1);
        record(&db, Some(clock::uptime().0 - 90_000));
        assert_eq!(said(&db, 600), [""; 0]);
        let stale = said(&db, 60);
        assert!(
            stale.len() == 1 && stale[0].starts_with("lacks commits of the last 1m"),
            "{stale:?}"
        );
    }

    /// Since when is told by the steady clock: by the other one it would be half a century.
    #[test]
    fn trap_67_a_clock_that_is_set_makes_nothing_stale() {
        let db = Db::new(4096);
        let app = db.open();
        commits(&app, 3);
        crate::daemon::sync(&[db.config()]).unwrap();
        let _lock = try_lock(&db.config().state_dir).unwrap().unwrap();
        commits(&app, 1);
        record(&db, Some(clock::uptime().0));
        assert_eq!(said(&db, 3600), [""; 0]);
    }

    /// A cap that cannot be held to is told after what is worse.
    #[test]
    fn what_has_no_room_is_told_last() {
        let (full, alone) = (Db::new(4096), Db::new(4096));
        commits(&full.open(), 3);
        commits(&alone.open(), 3);
        let config = full.config();
        crate::daemon::sync(&[full.config()]).unwrap();
        let _lock = try_lock(&config.state_dir).unwrap().unwrap();
        let place = config.destinations[0].to_string();
        let text = format!("{{\"over\": {{\"{place}\": {{\"what\": \"w\", \"remedy\": \"r\"}}}}}}");
        std::fs::write(config.state_dir.join("status"), text).unwrap();
        let findings = check(&[config, alone.config()], MAX_AGE);
        let statuses: Vec<_> = findings.iter().map(|it| it.status.unwrap()).collect();
        assert_eq!(statuses, [Status::Stale, Status::Failed]);
        assert_eq!((&*findings[1].what, &*findings[1].place), ("w", &*place));
    }

    /// It holds its lock, and says nothing of a commit that it ought to see.
    #[test]
    fn a_daemon_that_hangs_is_found() {
        let db = Db::new(4096);
        let app = db.open();
        commits(&app, 3);
        crate::daemon::sync(&[db.config()]).unwrap();
        let _lock = try_lock(&db.config().state_dir).unwrap().unwrap();
        commits(&app, 1);
        record(&db, None);
        assert_eq!(said(&db, 600), ["the daemon does not take in what is committed"]);
    }

    /// The steady clock begins anew with the machine: what was noted before that was of no age at all, for as
    /// long as the machine had run before, and a destination that hung as the daemon began was not told.
    #[test]
    fn what_was_noted_before_the_machine_was_started_again_has_no_age() {
        let db = Db::new(4096);
        let app = db.open();
        commits(&app, 3);
        crate::daemon::sync(&[db.config()]).unwrap();
        let _lock = try_lock(&db.config().state_dir).unwrap().unwrap();
        commits(&app, 1);
        record(&db, Some(clock::uptime().0 + 90 * 86_400_000));
        assert_eq!(said(&db, 600), ["the daemon does not take in what is committed"]);
    }

    #[test]
    fn a_database_that_is_gone_is_missing() {
        let db = Db::new(4096);
        let mut config = db.config();
        config.path.set_extension("gone");
        let findings = check(&[config], MAX_AGE);
        assert!(findings.len() == 1 && findings[0].status == Some(Status::Missing), "{findings:?}");
    }
}
