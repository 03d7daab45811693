//! What `status --from` and `list --from` say.

use super::{Document, SCHEMA, table};
use crate::clock;
use crate::error::one_line;
use crate::fleet::{Found, Standing, Survey};
use serde::Serialize;
use std::fmt::Write;

#[derive(Debug, Serialize)]
pub struct Fleet {
    schema: u32,
    replicas: Vec<ReplicaOf>,
    passed_over: Vec<PassedOverOf>,
}

/// What could not be looked into.
#[derive(Debug, Serialize)]
struct PassedOverOf {
    r#where: String,
    why: String,
}

#[derive(Debug, Serialize)]
struct ReplicaOf {
    name: String,
    url: String,
    timeline: Option<u32>,
    commit: Option<u64>,
    time: Option<String>,
    snapshot_time: Option<String>,
    objects: Option<usize>,
    error: Option<String>,
}

impl From<&Standing> for ReplicaOf {
    fn from(it: &Standing) -> Self {
        let found = it.found.as_ref().ok();
        let last = found.and_then(|found| found.last);
        Self {
            name: it.name.clone(),
            url: it.url.clone(),
            timeline: found.map(|found| found.timeline.0),
            commit: last.map(|(commit, _)| commit.0),
            time: last.map(|(_, time)| clock::format(time)),
            snapshot_time: found.and_then(|Found { snapshot, .. }| snapshot.map(clock::format)),
            objects: found.map(|found| found.objects),
            error: it.found.as_ref().err().map(ToString::to_string),
        }
    }
}

impl Fleet {
    pub fn new(survey: &Survey) -> Self {
        let passed_over = survey.passed_over.iter();
        let passed_over =
            passed_over.map(|it| PassedOverOf { r#where: it.place.clone(), why: it.cause.clone() });
        Self {
            schema: SCHEMA,
            replicas: survey.standings.iter().map(ReplicaOf::from).collect(),
            passed_over: passed_over.collect(),
        }
    }
}

/// The same, as `list` shows it: by names, for who looks for one of them.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Replicas(Fleet);

impl Replicas {
    pub fn new(survey: &Survey) -> Self {
        Self(Fleet::new(survey))
    }
}

impl Document for Replicas {
    fn text(&self) -> String {
        let row = |it: &ReplicaOf| {
            let number = |it: Option<u64>| it.map_or_else(|| "-".to_owned(), |it| it.to_string());
            let time = match &it.error {
                Some(error) => error.clone(),
                None => it.time.clone().unwrap_or_else(|| "nothing can be restored yet".into()),
            };
            [it.name.clone(), number(it.timeline.map(u64::from)), number(it.commit), time]
        };
        table(["NAME", "TIMELINE", "COMMIT", "TIME"], self.0.replicas.iter().map(row))
    }
}

impl Document for Fleet {
    fn text(&self) -> String {
        let mut out = String::new();
        for ReplicaOf { url, commit, time, snapshot_time, error, .. } in &self.replicas {
            let url = one_line(url);
            let _ = match (error, commit.zip(time.as_ref()), snapshot_time) {
                (Some(error), ..) => writeln!(out, "{url}: {}", one_line(error)),
                (None, Some((commit, time)), Some(snapshot)) => {
                    writeln!(out, "{url}: commit {commit} of {time}, snapshot of {snapshot}")
                }
                _ => writeln!(out, "{url}: nothing can be restored yet"),
            };
        }
        out
    }
}
