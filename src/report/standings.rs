//! What `status` and `sync` say.

use super::{Document, SCHEMA};
use crate::clock;
use crate::commit::{CommitNo, Time};
use crate::error::{Error, one_line};
use crate::status::Counts;
use crate::{status, units};
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;

#[derive(Debug, Serialize)]
pub struct Standings {
    schema: u32,
    databases: Vec<DatabaseOf>,
}

#[derive(Debug, Serialize)]
struct DatabaseOf {
    name: String,
    path: String,
    state: String,
    commit: Option<u64>,
    time: Option<String>,
    wal_frames: u64,
    #[serde(flatten)]
    counts: Counts,
    comparing: Option<Comparing>,
    spool_bytes: u64,
    /// What seals what is shipped.
    key: Option<String>,
    destinations: Vec<DestinationOf>,
}

/// Pages compared by the resync under way, and all.
#[derive(Debug, Serialize)]
struct Comparing {
    done: u32,
    total: u32,
}

#[derive(Debug, Serialize)]
struct DestinationOf {
    url: String,
    standing: String,
    floor: Option<u64>,
    floor_time: Option<String>,
    behind_commits: u64,
    lag_seconds: Option<f64>,
    /// When `verify` last found it whole, and when by a full restore.
    verified_time: Option<String>,
    verified_deep_time: Option<String>,
    error: Option<String>,
}

fn number(at: Option<(CommitNo, Time)>) -> Option<u64> {
    at.map(|(commit, _)| commit.0)
}

fn time(at: Option<(CommitNo, Time)>) -> Option<String> {
    at.map(|(_, time)| clock::format(time))
}

impl From<&status::DestinationStatus> for DestinationOf {
    fn from(it: &status::DestinationStatus) -> Self {
        Self {
            url: it.url.clone(),
            standing: it.standing.clone(),
            floor: number(it.floor),
            floor_time: time(it.floor),
            behind_commits: it.behind_commits,
            lag_seconds: it.lag.map(|lag| lag.as_millis() as f64 / 1000.0),
            verified_time: it.verified.whole().map(clock::format),
            verified_deep_time: it.verified.deep().map(clock::format),
            error: it.error.clone(),
        }
    }
}

impl From<&status::Status> for DatabaseOf {
    fn from(it: &status::Status) -> Self {
        Self {
            name: it.name.clone(),
            path: it.path.display().to_string(),
            state: it.state.clone(),
            commit: number(it.commit),
            time: time(it.commit),
            wal_frames: it.wal_frames,
            counts: it.counts,
            comparing: it.comparing.map(|(done, total)| Comparing { done, total }),
            spool_bytes: it.spool_bytes,
            key: it.key.clone(),
            destinations: it.destinations.iter().map(DestinationOf::from).collect(),
        }
    }
}

/// What is durable on every destination that is waited for.
#[derive(Debug, Serialize)]
pub struct Synced {
    schema: u32,
    /// Nothing was left out.
    ok: bool,
    databases: Vec<SyncedOf>,
}

#[derive(Debug, Serialize)]
struct SyncedOf {
    name: String,
    path: String,
    commit: Option<u64>,
    time: Option<String>,
}

impl Synced {
    /// What is durable now, and what was refused.
    pub fn new(databases: &[status::Status], refused: &[Error]) -> Self {
        let of = |it: &status::Status| SyncedOf {
            name: it.name.clone(),
            path: it.path.display().to_string(),
            commit: number(it.commit),
            time: time(it.commit),
        };
        let databases = databases.iter().map(of).collect();
        Self { schema: SCHEMA, ok: refused.is_empty(), databases }
    }
}

impl Document for Synced {
    /// That it returned says it all.
    fn text(&self) -> String {
        String::new()
    }
}

impl Standings {
    pub fn new(databases: &[status::Status]) -> Self {
        Self { schema: SCHEMA, databases: databases.iter().map(DatabaseOf::from).collect() }
    }
}

fn at(commit: Option<u64>, time: Option<&str>) -> String {
    match (commit, time) {
        (Some(commit), Some(time)) => format!("commit {commit} of {time}"),
        _ => "no commit".to_owned(),
    }
}

impl DestinationOf {
    fn text(&self) -> String {
        let Self { url, standing, floor, floor_time, behind_commits, error, .. } = self;
        let (url, floor) = (one_line(url), at(*floor, floor_time.as_deref()));
        let lag = self.lag_seconds.filter(|lag| *lag >= 1.0).map(Duration::from_secs_f64);
        let lag = lag.map_or(String::new(), |lag| format!(" for {}", units::stretch(lag)));
        let mut out = format!("  {url}: {standing}, {floor}, {behind_commits} behind{lag}\n");
        if let Some(whole) = &self.verified_time {
            let deep = self.verified_deep_time.as_deref().unwrap_or("never");
            let _ = writeln!(out, "    found whole {whole}, by a full restore {deep}");
        }
        if let Some(error) = error {
            let _ = writeln!(out, "    last error: {}", one_line(error));
        }
        out
    }
}

impl Document for Standings {
    fn text(&self) -> String {
        let mut out = String::new();
        for database in &self.databases {
            let DatabaseOf { name, path, state, .. } = database;
            let commit = at(database.commit, database.time.as_deref());
            let (name, path) = (one_line(name), one_line(path));
            let _ = writeln!(out, "{name} ({path}): {state}, {commit}");
            let DatabaseOf { wal_frames, comparing, .. } = database;
            let spool = units::bytes(database.spool_bytes);
            let Counts { missed, resyncs, resync_bytes, divergences, .. } = database.counts;
            let healed = match resync_bytes {
                0 => String::new(),
                bytes => format!(" ({})", units::bytes(bytes)),
            };
            let _ = writeln!(
                out,
                "  WAL {wal_frames} frames, missed {missed}, resyncs {resyncs}{healed}, spool {spool}"
            );
            if let Some(key) = &database.key {
                let _ = writeln!(out, "  sealed under key {key}");
            }
            if let Some(Comparing { done, total }) = comparing {
                let _ = writeln!(out, "  comparing page {done} of {total}");
            }
            if divergences > 0 {
                let _ =
                    writeln!(out, "  {divergences} times not what was captured: see bakelite(1)");
            }
            database.destinations.iter().for_each(|destination| out += &destination.text());
        }
        out
    }
}
