//! Which commit is meant, and which objects lead to it.

use super::Target;
use crate::backend::{Backend, NONE_HERE};
use crate::clock;
use crate::commit::{CommitNo, Time, Timeline};
use crate::error::{Error, Result, Status};
use crate::name::{Change, Name, Span};
use crate::replica::{Plan, Replica, Run, Stretch, read_change};
use crate::sabotage;

/// The objects that restore a commit, and what else leads to it.
#[derive(Debug)]
pub struct Chosen {
    pub plan: Plan,
    pub ancestry: Vec<Stretch>,
    run: Run,
}

impl Chosen {
    /// The change-sets before those of the plan, oldest first, back to each older snapshot in turn.
    pub fn older(&self, replica: &Replica) -> Vec<Vec<Vec<Change>>> {
        let mut until = self.plan.snapshot.first;
        let older = self.run.snapshots.iter().rev().filter(|it| it.last < self.plan.snapshot.last);
        let back = older.filter(|it| it.first < self.plan.snapshot.first).map(|snapshot| {
            let begin = snapshot.first.min(until);
            let end = std::mem::replace(&mut until, begin);
            replica.changes_between(&self.ancestry, begin, end)
        });
        back.collect()
    }
}

/// Chooses the commit and the objects for `target`, along the ancestry of one timeline: the newest
/// one, unless another is asked for.
pub fn choose(
    source: &dyn Backend,
    replica: &Replica,
    target: Target,
    timeline: Option<Timeline>,
) -> Result<Chosen> {
    if replica.is_empty() {
        return Err(nothing_there(source, replica, timeline));
    }
    let ancestry = match timeline {
        None => replica.ancestry(source)?,
        Some(timeline) => replica.ancestry_of(source, timeline)?,
    };
    let runs = replica.runs(&ancestry);
    if !matches!(target, Target::Commit(_)) {
        replica.unfinished(source, &ancestry)?;
    }
    if runs.is_empty() {
        lost_its_snapshots(source, replica, &ancestry)?;
    }
    let Some(newest) = replica.newest(&ancestry) else {
        return Err(nothing_there(source, replica, timeline));
    };
    let commit = match target {
        Target::Latest if sabotage::is("restore-without-last") => CommitNo(newest.last.0 - 1),
        Target::Latest => newest.last,
        Target::Commit(commit) => commit,
        Target::At(time) => commit_at(source, replica, &runs, &newest, time)?,
    };
    let run = runs.iter().rev().find(|run| run.holds(commit));
    let Some(run) = run else {
        let error = not_restorable(source, &runs, &newest, commit, timeline);
        // Within a gap, another timeline's commit of that number is another commit.
        let past = commit > newest.last;
        let hint = past.then(|| elsewhere(source, replica, commit, timeline)).flatten();
        return Err(match hint {
            Some(hint) => error.hint(hint),
            None => error,
        });
    };
    if target == Target::Latest {
        check_forks(source, &ancestry, &runs)?;
    }
    let leaving = ancestry.iter().filter(|at| at.after == commit);
    let forks = leaving.map(|at| (at.timeline, at.chain)).collect();
    let plan = Plan { forks, ..replica.plan(&ancestry, run, commit) };
    let run = run.clone();
    Ok(Chosen { plan, ancestry, run })
}

/// A timeline goes on from a commit that was durable. Where there is none such, objects are missing,
/// or the timeline's record is not of this replica. What is older than the last run may be on its way
/// out.
fn check_forks(source: &dyn Backend, ancestry: &[Stretch], runs: &[Run]) -> Result<()> {
    let oldest = runs.last().map_or(CommitNo(0), Run::first);
    let mut forks = ancestry.iter().filter(|at| at.after >= oldest);
    match forks.find(|at| !at.stands_on(runs)) {
        None => Ok(()),
        Some(at) => {
            let name = Name::Timeline(at.timeline);
            let cause = format!("it goes on from commit {}, which is missing", at.after);
            let error = Error::new(Status::Integrity, "restore", format!("{source}/{name}"), cause);
            Err(error.hint("run: bakelite verify; older points can be restored with --commit"))
        }
    }
}

/// Where nothing can be restored, though commits have a digest: they have one once a snapshot stands, and
/// that is missing then, or what leads to it. That is damage, and not a replica that has only begun.
fn lost_its_snapshots(source: &dyn Backend, replica: &Replica, ancestry: &[Stretch]) -> Result<()> {
    for at in ancestry {
        let ends = replica.changes.values().filter_map(|parts| parts.iter().find(|it| it.end));
        let on_it =
            ends.filter(|end| end.span.timeline == at.timeline && end.span.last <= at.until);
        let Some(end) = on_it.max_by_key(|end| end.span.last) else { continue };
        let commits = read_change(source, end)?.commits;
        if commits.iter().any(|commit| commit.digest.is_some()) {
            let last = end.span.last;
            let cause = format!("no snapshot that leads to commit {last} is there any more");
            return Err(Error::new(Status::Integrity, "restore", source, cause)
                .hint("run `bakelite verify` to see what is missing"));
        }
    }
    Ok(())
}

/// What can be done where nothing is damaged.
pub(super) const START: &str = "start the daemon, or run: bakelite sync";

fn nothing_there(source: &dyn Backend, replica: &Replica, timeline: Option<Timeline>) -> Error {
    let missing = |cause| Error::new(Status::Missing, "restore", source, cause);
    if replica.is_empty() {
        return missing("there is no replica here").hint(NONE_HERE);
    }
    if timeline.is_some() {
        return missing("no snapshot on that timeline was ever finished")
            .hint("`bakelite list` shows what can be restored");
    }
    missing("its first snapshot was never finished").hint(START)
}

/// The last restorable commit seen at or before `time`.
fn commit_at(
    source: &dyn Backend,
    replica: &Replica,
    runs: &[Run],
    newest: &Span,
    time: Time,
) -> Result<CommitNo> {
    if time >= newest.time {
        return Ok(newest.last);
    }
    let Some(run) = runs.iter().rev().find(|run| run.from() <= time) else {
        let first = runs.first().map(Run::from);
        let hint = first.map(|time| format!("the oldest point is {}", clock::format(time)));
        let error = Error::new(Status::Missing, "restore", source, "no restore point that old");
        return Err(match hint {
            Some(hint) => error.hint(hint),
            None => error,
        });
    };
    let later = run.changes.iter().filter(|span| span.last > run.first());
    let reached = later.clone().take_while(|span| span.time <= time).last();
    let reached = reached.map_or(run.first(), |span| span.last.max(run.first()));
    let Some(next) = later.clone().find(|span| span.time > time) else { return Ok(reached) };
    let Some(part) = replica.parts_of(*next).and_then(|parts| parts.last()) else {
        return Ok(reached);
    };
    let inside = read_change(source, part)?.commits;
    let late = sabotage::is("point-in-time-late");
    let inside =
        inside.iter().filter(|commit| commit.time <= time || late).map(|commit| commit.number);
    Ok(inside.max().unwrap_or(reached).max(reached))
}

/// Where a commit can be restored from that is not on the timeline asked for.
fn elsewhere(
    source: &dyn Backend,
    replica: &Replica,
    commit: CommitNo,
    timeline: Option<Timeline>,
) -> Option<String> {
    let holds =
        |ancestry: &[Stretch]| replica.runs(ancestry).into_iter().find(|run| run.holds(commit));
    if timeline.is_some() && holds(&replica.ancestry(source).ok()?).is_some() {
        return Some(format!("the newest timeline has a commit {commit}: leave out --timeline"));
    }
    let branches = replica.branches(source).ok()?.into_iter().flatten();
    let found = branches.map(|branch| branch.ancestry).find_map(|ancestry| holds(&ancestry))?;
    let timeline = found.end().timeline;
    Some(format!("an abandoned branch has it: --commit {commit} --timeline {timeline}"))
}

/// There is no way to `commit`: because it never was, or because objects are missing.
fn not_restorable(
    source: &dyn Backend,
    runs: &[Run],
    newest: &Span,
    commit: CommitNo,
    timeline: Option<Timeline>,
) -> Error {
    let on = timeline.map(|timeline| format!(" on timeline {timeline}")).unwrap_or_default();
    let missing = |cause| Error::new(Status::Missing, "restore", source, cause);
    let error = match runs.first() {
        _ if commit > newest.last => {
            let newest = newest.last;
            missing(format!("there is no commit {commit}{on}, the newest is {newest}"))
        }
        None => missing("no snapshot is complete, so there is no restore point".into()),
        Some(oldest) if commit < oldest.first() => {
            missing(format!("there is no restore point as old as commit {commit}"))
        }
        Some(_) => {
            let cause = format!("commit {commit} lies in a gap, objects are missing");
            Error::new(Status::Integrity, "restore", source, cause).word("gap")
        }
    };
    let below = runs.iter().rev().find(|run| run.first() <= commit);
    let nearest = below.map(|run| run.end().last.min(commit)).or(runs.first().map(Run::first));
    match nearest {
        Some(nearest) => {
            let on = timeline.map(|timeline| format!(" --timeline {timeline}")).unwrap_or_default();
            error.hint(format!("the nearest restore point is --commit {nearest}{on}"))
        }
        None => error.hint("run `bakelite verify` to see what is missing"),
    }
}
