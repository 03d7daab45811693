//! How each database and each of its destinations stands.
//!
//! The daemon leaves what only it knows in a small file of its state directory, rewritten at most once
//! a second; the cursor beside it says what is durable. `status` reads both and asks the daemon
//! nothing.

use crate::clock;
use crate::commit::{CommitNo, Time, Timeline};
use crate::config::{Database, Destination};
use crate::cursor::{self, State};
use crate::daemon::Signed;
use crate::durable;
use crate::error::{Error, Result, Status as Exit};
use crate::fanout::Standing;
use crate::ship::cursor_path;
use crate::spool::Spool;
use crate::verified::{Depths, Verified};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What has happened since the daemon was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// How often commits were published that the daemon could not see.
    pub missed: u64,
    /// How often the database was healed: by the pages that differed, or by a new snapshot.
    pub resyncs: u64,
    /// Pages that differed, and the bytes put for them to each destination.
    pub resync_pages: u64,
    pub resync_bytes: u64,
    /// How often the database was found to hold other pages than were captured.
    pub divergences: u64,
    /// Timelines claimed.
    pub timelines: u64,
    /// How often somebody else had taken the replica up.
    pub fences: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub name: String,
    pub path: PathBuf,
    pub state: String,
    pub commit: Option<(CommitNo, Time)>,
    pub wal_frames: u64,
    pub counts: Counts,
    /// Pages compared by the resync under way, and all.
    pub comparing: Option<(u32, u32)>,
    pub spool_bytes: u64,
    /// The id of the key that seals what is shipped.
    pub key: Option<String>,
    pub destinations: Vec<DestinationStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationStatus {
    pub url: String,
    pub standing: String,
    pub floor: Option<(CommitNo, Time)>,
    pub behind_commits: u64,
    /// For how long it has lacked something, while a daemon knows.
    pub lag: Option<Duration>,
    /// When it was last found whole.
    pub verified: Depths,
    pub error: Option<String>,
}

/// What the daemon leaves for `status`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    pub wal_frames: u64,
    #[serde(flatten)]
    pub counts: Counts,
    /// Pages compared by the resync under way, and all.
    pub comparing: Option<(u32, u32)>,
    /// The last commit captured, durable or not.
    pub commit: u64,
    /// The id of the key that seals what is shipped.
    pub key: Option<String>,
    pub error: Option<String>,
    /// Why it ended, where another daemon has taken the replica up.
    pub fenced: Option<String>,
    pub lanes: Vec<LaneRecord>,
    /// Since when each destination lacks something that was published, in milliseconds that the machine
    /// was up by then: the clock may be set meanwhile.
    pub lacks_since: Vec<Option<u64>>,
    /// When the last snapshot was begun, by the milliseconds of `Time`.
    pub snapshot_begun: Option<u64>,
    /// What destinations hold past their caps.
    pub over: BTreeMap<String, Note>,
}

/// Something to be told, and what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub what: String,
    pub remedy: String,
}

/// One destination, as the daemon left it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LaneRecord {
    #[serde(default)]
    url: String,
    standing: String,
    floor: Option<(u64, u64)>,
    spooled: u64,
    error: Option<String>,
}

impl LaneRecord {
    pub fn new(url: String, it: &Standing) -> Self {
        Self {
            url,
            standing: it.kind.to_string(),
            floor: it.floor.map(|(commit, time)| (commit.0, time.0)),
            spooled: it.spooled,
            error: it.error.clone(),
        }
    }
}

impl Record {
    /// What the daemon has left last; nothing, if it cannot be read.
    pub fn load(database: &Database) -> Self {
        let text = std::fs::read_to_string(path(database)).ok();
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// What a daemon that begins says: what the one before it has said of the destinations, and that it was
    /// fenced, until this one is at work.
    pub fn of_next_life(database: &Database) -> Self {
        let Self { lanes, snapshot_begun, fenced, .. } = Self::load(database);
        Self { lanes, snapshot_begun, fenced, ..Self::default() }
    }

    /// What has failed and was not well since, at the database and at each destination.
    pub fn errors(&self) -> (Option<&str>, impl Iterator<Item = (&str, &str)>) {
        let lanes = self.lanes.iter();
        let lanes = lanes.filter_map(|lane| Some((lane.url.as_str(), lane.error.as_deref()?)));
        (self.error.as_deref(), lanes)
    }

    fn lane(&self, url: &str) -> Option<&LaneRecord> {
        self.lanes.iter().find(|lane| lane.url == url)
    }

    /// Why a destination lacks what it lacks.
    pub fn error_of(&self, url: &str) -> Option<&str> {
        self.lane(url).and_then(|lane| lane.error.as_deref()).or(self.error.as_deref())
    }

    pub fn fail(&mut self, error: &Error) {
        self.error = Some(error.to_string());
    }

    /// Notes a failure that is the end if another daemon has the replica.
    pub fn count_fence(&mut self, error: &Error) {
        if error.status == Exit::Locked {
            self.counts.fences += 1;
            self.fenced = Some(error.to_string());
        }
    }

    pub fn recover(&mut self) {
        self.error = None;
    }

    /// A hint for people: losing it loses nothing, so it is not synced and a failure is not reported. Who
    /// reads it meanwhile has the old one or the new one.
    pub fn write(&self, database: &Database) {
        let text = serde_json::to_string(self).expect("plain values");
        durable::replace_hint(&path(database), text.as_bytes()).ok();
    }
}

fn path(database: &Database) -> PathBuf {
    database.state_dir.join("status")
}

/// What a daemon that runs has noted as stored everywhere or in a spool; `None`: none runs.
pub fn settled(database: &Database) -> Result<Option<(Timeline, CommitNo)>> {
    let dir = &database.state_dir;
    if !dir.is_dir() || crate::daemon::try_lock(dir)?.is_some() {
        return Ok(None);
    }
    let cursor = cursor_path(dir);
    let state = cursor::state(&cursor);
    let state = state.map_err(|error| Error::io("read", cursor.display(), &error))?;
    Ok(Some(state.map_or_else(Default::default, |state| (state.timeline, state.commit.number))))
}

/// What `status` goes by.
struct Known<'a> {
    database: &'a Database,
    record: Record,
    state: Option<State>,
    signed: Option<Signed>,
    verified: Verified,
    running: bool,
}

impl Known<'_> {
    /// The last commit that can be restored.
    fn last(&self) -> Option<(CommitNo, Time)> {
        let state = self.state.filter(|state| state.commit.digest.is_some());
        state.map(|state| (state.commit.number, state.commit.time))
    }

    /// What is wrong, but for what one destination has refused: that says nothing of the others.
    fn error(&self) -> Option<&String> {
        let lanes = &self.record.lanes;
        let of_one = |error: &&String| lanes.iter().any(|it| it.error.as_ref() == Some(*error));
        self.record.error.as_ref().filter(|error| !of_one(error))
    }

    /// Noted by the steady clock, which another start of the machine begins anew.
    fn lag(&self, at: usize) -> Option<Duration> {
        let since = self.record.lacks_since.get(at).copied().flatten().filter(|_| self.running)?;
        clock::passed_since(since)
    }

    fn destination(&self, at: usize, destination: &Destination) -> DestinationStatus {
        let Self { database, record, state, signed, verified, .. } = self;
        let url = destination.to_string();
        // One that begins does not say yet where it ships to.
        let lane = record.lane(&url);
        let known = signed.as_ref().map_or(lane.is_some(), |signed| signed.knows(destination));
        let lane = lane.filter(|_| known);
        let behind = lane.filter(|lane| lane.standing != "current");
        // The cursor is newer than what the daemon says once a second, and the spools know what of it a
        // destination lacks.
        let counts = signed.as_ref().zip(*state).is_some_and(|(it, at)| it.counts(at.timeline));
        let spool = Spool::new(&database.state_dir, &url);
        let holds_all = |last: &CommitNo| matches!(spool.owes(*last), Ok(false));
        let all = self.last().filter(|_| known && counts && behind.is_none());
        let floor = all.filter(|(last, _)| holds_all(last)).or_else(|| {
            let floor = lane.and_then(|lane| lane.floor);
            floor.map(|(commit, time)| (CommitNo(commit), Time(time)))
        });
        let error = lane.and_then(|lane| lane.error.as_ref()).or(self.error()).cloned();
        let standing = match (behind, &error, self.last()) {
            (Some(lane), _, _) => &lane.standing,
            (None, None, None) => "new",
            (None, None, Some(_)) if floor.is_some() => "current",
            (None, _, _) => "behind",
        };
        let last = self.last().map_or(0, |(commit, _)| commit.0).max(record.commit);
        let behind_commits = last.saturating_sub(floor.map_or(0, |(commit, _)| commit.0));
        DestinationStatus {
            verified: verified.of(&url),
            standing: standing.into(),
            floor,
            behind_commits,
            // What was on its way when the daemon said so may have arrived since.
            lag: self.lag(at).filter(|_| behind_commits > 0),
            error,
            url,
        }
    }
}

pub fn status(database: &Database) -> Result<Status> {
    let record = Record::load(database);
    let cursor = cursor_path(&database.state_dir);
    let state = cursor::state(&cursor);
    let state = state.map_err(|error| Error::io("read", cursor.display(), &error))?;
    let running =
        database.state_dir.is_dir() && crate::daemon::try_lock(&database.state_dir)?.is_none();
    if !running && state.is_none() && !database.path.exists() {
        let path = database.path.display();
        return Err(Error::new(Exit::Missing, "status", path, "no such database")
            .hint("correct its path, or restore it"));
    }
    let signed = Signed::read(&database.state_dir);
    let verified = Verified::load(&database.state_dir);
    let known = Known { database, record, state, signed, verified, running };
    let destinations = database.destinations.iter().enumerate();
    let destinations = destinations.map(|(at, it)| known.destination(at, it)).collect();
    let commit = known.last();
    let record = known.record;
    let state = match (running, &record.error) {
        (false, _) => "stopped",
        (true, Some(_)) => "failing",
        (true, None) if record.comparing.is_some() => "resync",
        (true, None) if commit.is_none() => "first snapshot",
        (true, None) => "following",
    };
    Ok(Status {
        name: database.name.clone(),
        path: database.path.clone(),
        state: state.into(),
        commit,
        wal_frames: record.wal_frames,
        counts: record.counts,
        comparing: record.comparing.filter(|_| running),
        spool_bytes: record.lanes.iter().map(|lane| lane.spooled).sum(),
        key: record.key.clone(),
        destinations,
    })
}
