//! Many replicas below one place, such as a bucket that a thousand devices write to: how each one
//! stands, told from the names of its objects alone.
//!
//! No key is needed, no object is opened and parts are not even listed, so one replica costs some four
//! requests. That its chain is whole is for `verify` to say. A device that is at rest and one that is
//! dead look alike from here: only who knows how often it commits can tell.

use crate::ahead::ahead;
use crate::backend::{Backend, browse};
use crate::check::Finding;
use crate::commit::{CommitNo, Time, Timeline};
use crate::config::Destination;
use crate::error::{Error, Result, Status};
use crate::name::Name;
use crate::replica::{Replica, is_whole};
use crate::units;
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

/// Every replica at `root` or below, in the order of their names.
pub fn survey(root: &Destination, open: &Open) -> Result<Vec<Standing>> {
    let places = replicas(root)?;
    if places.is_empty() {
        let error = Error::new(Status::Missing, "look for replicas", root, "there is none");
        return Err(error.hint("name the directory or prefix that they are below"));
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
    Ok(standings)
}

type Place = (String, Destination);

/// A replica has timelines, and no replica is below another one.
fn replicas(root: &Destination) -> Result<Vec<Place>> {
    let (mut replicas, mut places) = (Vec::new(), vec![(".".to_owned(), root.clone())]);
    for _ in 0..=DEPTH {
        let mut next = Vec::new();
        ahead(
            &places,
            |_| 0,
            |(_, place): &Place| Ok(browse::below(place)?),
            |(way, place), names| {
                if names.iter().any(|name| Name::TIMELINES.trim_end_matches('/') == name) {
                    replicas.push((way.clone(), place.clone()));
                    return Ok(());
                }
                let way = if way == "." { String::new() } else { format!("{way}/") };
                let below = |name: &String| (format!("{way}{name}"), place.below(name));
                next.extend(names.iter().map(below));
                Ok(())
            },
        )?;
        places = next;
    }
    replicas.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(replicas)
}

fn look(source: &dyn Backend) -> Result<Found> {
    Ok(of_names(&Replica::list_without_parts(source)?))
}

/// The newest timeline that holds commits is what counts: those of another one may be abandoned.
fn of_names(replica: &Replica) -> Found {
    let whole = replica.changes.iter().filter(|(_, parts)| is_whole(parts));
    let spans = whole.map(|((span, _), _)| span).chain(&replica.snapshots);
    let last = spans.max_by_key(|span| (span.timeline, span.last));
    Found {
        timeline: replica.newest_timeline(),
        last: last.map(|span| (span.last, span.time)),
        snapshot: replica.snapshots.iter().map(|span| span.time).max(),
        objects: replica.objects.len(),
    }
}

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
