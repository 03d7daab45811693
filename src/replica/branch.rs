//! Abandoned branches: what was committed on a timeline past the point where a newer one left it. A
//! second host that goes on writing makes one, and so does a machine that lost its last commits after
//! they were shipped. Nothing here is lost, and nothing of it belongs to the newest timeline.

use super::{Forks, Replica, Stretch, lineage};
use crate::backend::Backend;
use crate::commit::{CommitNo, Timeline};
use crate::error::{Error, Result, Status};
use std::collections::BTreeMap;

/// The commits past `after` along an ancestry that is not the newest timeline's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The last commit that it shares with the newest timeline, or with a newer branch.
    pub after: CommitNo,
    /// Of its newest timeline, newest first.
    pub ancestry: Vec<Stretch>,
}

impl Branch {
    /// The timeline to ask for.
    pub fn timeline(&self) -> Option<Timeline> {
        self.ancestry.first().map(|newest| newest.timeline)
    }
}

impl Replica {
    /// The ancestry of one timeline, abandoned or not.
    pub fn ancestry_of(&self, source: &dyn Backend, timeline: Timeline) -> Result<Vec<Stretch>> {
        if self.timelines.contains(&timeline) || self.spans().any(|it| it.timeline == timeline) {
            return lineage(source, &self.timelines, timeline, &mut Forks::new());
        }
        let cause = format!("there is no timeline {timeline}");
        let error = Error::new(Status::Missing, "read", source, cause);
        Err(error.hint(format!("the timelines there are: {}", ranges(&self.timelines))))
    }

    /// Every abandoned branch, the newest first; in place of one that lacks a record, the error.
    pub fn branches(&self, source: &dyn Backend) -> Result<Vec<Result<Branch>>> {
        let mut forks = Forks::new();
        let mut reached = BTreeMap::new();
        reach(&mut reached, &self.ancestry_with(source, &mut forks)?);
        let mut last: BTreeMap<Timeline, CommitNo> = BTreeMap::new();
        for span in self.spans() {
            let last = last.entry(span.timeline).or_default();
            *last = span.last.max(*last);
        }
        let mut branches = Vec::new();
        for (timeline, last) in last.into_iter().rev() {
            if reached.get(&timeline).is_some_and(|until| last <= *until) {
                continue;
            }
            branches.push(lineage(source, &self.timelines, timeline, &mut forks).map(|ancestry| {
                let shared = ancestry
                    .iter()
                    .filter_map(|at| Some(at.until.min(*reached.get(&at.timeline)?)));
                let after = shared.max().unwrap_or_default();
                reach(&mut reached, &ancestry);
                Branch { after, ancestry }
            }));
        }
        Ok(branches)
    }
}

/// Notes up to where each timeline counts for somebody.
fn reach(reached: &mut BTreeMap<Timeline, CommitNo>, ancestry: &[Stretch]) {
    for at in ancestry {
        let until = reached.entry(at.timeline).or_default();
        *until = at.until.max(*until);
    }
}

/// `1 to 3, 5` for the sorted numbers 1, 2, 3 and 5.
fn ranges(timelines: &[Timeline]) -> String {
    let runs = timelines.chunk_by(|a, b| a.0 + 1 == b.0);
    let words = runs.map(|run| match run {
        [first, .., last] => format!("{first} to {last}"),
        run => run.iter().map(Timeline::to_string).collect(),
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
