//! Many replicas below one place, such as a bucket that a thousand devices write to: how each one
//! stands, told from the names of its objects alone.
//!
//! No key is needed, no object is opened and parts are not even listed, so one replica costs some four
//! requests. That its chain is whole is for `verify` to say. A device that is at rest and one that is
//! dead look alike from here: only who knows how often it commits can tell.

use crate::ahead::ahead;
use crate::backend::{self, Backend, browse};
use crate::check::Finding;
use crate::commit::{CommitNo, Time, Timeline};
use crate::config::Destination;
use crate::error::{Error, Result, Status};
use crate::name::{Name, Span};
use crate::replica::{Replica, is_whole};
use crate::units;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Replicas are looked for no deeper than this below the place that was named.
const DEPTH: usize = 4;

#[derive(Debug)]
pub struct Standing {
    /// The way to it from the place that was named; `.` for that place itself.
    pub name: String,
    pub url: String,
    /// What its names say, or why they could not be listed.
    pub found: Result<Found>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub timeline: Timeline,
    /// The last commit that was stored whole, and its time.
    pub last: Option<(CommitNo, Time)>,
    /// When the last snapshot was finished; without one nothing can be restored.
    pub snapshot: Option<Time>,
    /// But for parts of snapshots.
    pub objects: usize,
}

/// How a place is opened whose bodies are of no matter.
pub type Open = dyn Fn(&Destination) -> Result<Arc<dyn Backend>> + Sync;

/// What there is below a place.
#[derive(Debug)]
pub struct Survey {
    /// In the order of their names.
    pub standings: Vec<Standing>,
    /// Where nobody could look: what is below may hold replicas, or be a file system's own.
    pub passed_over: Vec<backend::Error>,
}

/// Every replica at `root` or below.
pub fn survey(root: &Destination, open: &Open) -> Result<Survey> {
    let (places, mut passed_over) = replicas(root)?;
    if places.is_empty() {
        let error = Error::new(Status::Missing, "look for replicas", root, "there is none");
        let error = error.hint("name the directory or prefix that they are below");
        return Err(passed_over.drain(..).next().map_or(error, Error::from));
    }
    let mut standings = Vec::new();
    let look = |(_, place): &Place| Ok(open(place).and_then(|source| look(&*source)));
    ahead(
        &places,
        |_| 0,
        look,
        |(name, place), found| {
            standings.push(Standing { name: name.clone(), url: place.to_string(), found });
            Ok(())
        },
    )?;
    Ok(Survey { standings, passed_over })
}

type Place = (String, Destination);

/// A replica has timelines, and no replica is below another one.
fn replicas(root: &Destination) -> Result<(Vec<Place>, Vec<backend::Error>)> {
    let (mut replicas, mut passed_over) = (Vec::new(), Vec::new());
    let (mut places, mut seen) = (vec![(".".to_owned(), root.clone())], Seen::new(root));
    for _ in 0..=DEPTH {
        let mut next = Vec::new();
        ahead(
            &places,
            |_| 0,
            |(_, place): &Place| Ok(browse::below(place)),
            |(way, place), names| {
                let names = match names {
                    Err(error) if way != "." && is_of_the_place(&error) => {
                        passed_over.push(error);
                        return Ok(());
                    }
                    names => names?,
                };
                if names.iter().any(|name| Name::TIMELINES.trim_end_matches('/') == name) {
                    replicas.push((way.clone(), place.clone()));
                    return Ok(());
                }
                let way = if way == "." { String::new() } else { format!("{way}/") };
                let below = |name: &String| (format!("{way}{name}"), place.below(name));
                next.extend(names.iter().map(below).filter(|place| seen.is_new(place)));
                Ok(())
            },
        )?;
        places = next;
    }
    replicas.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok((replicas, passed_over))
}

/// What keeps nobody from looking elsewhere.
fn is_of_the_place(error: &backend::Error) -> bool {
    matches!(error.kind, backend::Kind::Denied | backend::Kind::NotFound)
}

/// The directories that were come to. Links make many ways to one of them, and ways without an end.
struct Seen {
    root: Option<PathBuf>,
    real: BTreeSet<PathBuf>,
}

impl Seen {
    fn new(root: &Destination) -> Self {
        let root = real(root);
        Self { real: root.iter().cloned().collect(), root }
    }

    /// What a link leads to below the root is come to by its own name.
    fn is_new(&mut self, (way, place): &Place) -> bool {
        let (Some(root), Some(real)) = (&self.root, real(place)) else { return true };
        let is_own = real == root.join(way) || !real.starts_with(root);
        is_own && self.real.insert(real)
    }
}

/// In a bucket there are no links.
fn real(place: &Destination) -> Option<PathBuf> {
    match place {
        Destination::File { root } => root.canonicalize().ok(),
        Destination::S3(_) => None,
    }
}

fn look(source: &dyn Backend) -> Result<Found> {
    Ok(of_names(&Replica::list_without_parts(source)?))
}

/// The newest timeline that holds restore points is what counts: those of another one may be abandoned.
fn of_names(replica: &Replica) -> Found {
    let whole = replica.changes.iter().filter(|(_, parts)| is_whole(parts));
    let spans: Vec<&Span> = whole.map(|((span, _), _)| span).chain(&replica.snapshots).collect();
    let timelines: BTreeSet<Timeline> = spans.iter().map(|span| span.timeline).collect();
    let on = |timeline| spans.iter().filter(move |span| span.timeline == timeline);
    // The first commit of one that begins with a snapshot is in no change-set: until that snapshot is
    // finished, nothing goes on from what was there before.
    let goes_on = |timeline: Timeline| {
        let first = on(timeline).map(|span| span.first).min().expect("it has one");
        let before = CommitNo(first.0.saturating_sub(1));
        let older = spans.iter().filter(|span| span.timeline < timeline);
        { older }.any(|span| (span.first..=span.last).contains(&before))
    };
    let begins = |timeline| replica.snapshots.iter().any(|span| span.timeline == timeline);
    let newest = timelines.into_iter().rev().find(|it| begins(*it) || goes_on(*it));
    let last = newest.and_then(|timeline| on(timeline).max_by_key(|span| span.last));
    Found {
        timeline: replica.newest_timeline(),
        last: last.map(|span| (span.last, span.time)),
        snapshot: replica.snapshots.iter().map(|span| span.time).max(),
        objects: replica.objects.len(),
    }
}

/// What could not be looked into, in one line.
pub fn warning(passed_over: &[backend::Error]) -> Option<String> {
    let (first, more) = passed_over.split_first()?;
    let more = if more.is_empty() { String::new() } else { format!(", and {} more", more.len()) };
    Some(format!("look for replicas: {}: {}{more}", first.place, first.cause))
}

/// The same one by one.
pub fn unread(survey: &Survey) -> impl Iterator<Item = Finding> {
    let finding = |it: &backend::Error| Finding::warning(&it.cause, &it.place).remedy(UNREAD);
    survey.passed_over.iter().map(finding)
}

/// Why it is not an error.
pub const UNREAD: &str = "replicas below it are not seen: let this user read it, or leave it alone";

/// What is wrong with them: `max_age` is how old a last commit may be, if that is to be asked.
pub fn check(standings: &[Standing], max_age: Option<Duration>, now: Time) -> Vec<Finding> {
    standings.iter().filter_map(|standing| judge(standing, max_age, now)).collect()
}

fn judge(standing: &Standing, max_age: Option<Duration>, now: Time) -> Option<Finding> {
    let found = match &standing.found {
        Ok(found) => found,
        Err(error) => return Some(Finding::of(error, &standing.url)),
    };
    let (Some((_, time)), Some(_)) = (found.last, found.snapshot) else {
        let finding = Finding::new(Status::Missing, "nothing can be restored yet", &standing.url);
        return Some(finding.remedy("see whether its daemon runs, and what that logs"));
    };
    let age = Duration::from_millis(now.0.saturating_sub(time.0));
    max_age.filter(|most| age > *most).map(|_| {
        let what = format!("its last commit is {} old", units::stretch(age));
        let finding = Finding::new(Status::Stale, what, &standing.url);
        finding.remedy("see whether its application writes and its daemon runs")
    })
}

#[cfg(test)]
mod tests;
