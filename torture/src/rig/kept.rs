//! What `keep` promises, held against a replica by its shadow: all that was ever shipped, in a
//! directory that no upkeep touches.
//!
//! The shadow has no merged change-set in it: what a commit is, comes from what was shipped as it was
//! shipped. Which commits are to be there is reckoned here, from the words of bakelite(5) and not with
//! the program's own code: with `all` every one, else the last of each stretch of time.

use super::{Failure, Result, Rig, Verdict, violation};
use crate::meanwhile::Meanwhile;
use crate::oracle::Expect;
use crate::replica::{self, Refused};
use bakelite::backend::Backend;
use bakelite::backend::fs::Fs;
use bakelite::commit::{CommitNo, Time, Timeline};
use bakelite::config::Destination as Source;
use bakelite::error::Status;
use bakelite::name::{Change, Name};
use bakelite::replica::{Replica, read_change};
use bakelite::restore::Target;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// An entry of `keep`, in milliseconds. A density of 0 keeps every commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub density: u64,
    pub age: u64,
}

/// A commit that could be restored when it was shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    pub commit: u64,
    pub time: u64,
    pub timeline: u32,
}

#[derive(Debug)]
pub struct Shadow {
    root: PathBuf,
    steps: Vec<Step>,
    /// The commits of each change-set that was read, with their times.
    commits: BTreeMap<Name, Vec<(u64, u64)>>,
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    since.as_millis() as u64
}

/// Whether each of `points`, which are in order, is to be there at `now`.
pub fn promised(points: &[Point], steps: &[Step], now: u64) -> Vec<bool> {
    let is_promised = |(at, point): (usize, &Point)| {
        let age = now.saturating_sub(point.time);
        match steps.iter().find(|step| age <= step.age) {
            None => false,
            Some(Step { density: 0, .. }) => true,
            Some(Step { density, .. }) => {
                // What is still to come may be in the same stretch.
                let next = points.get(at + 1).map_or(now, |next| next.time);
                next / density != point.time / density
            }
        }
    };
    points.iter().enumerate().map(is_promised).collect()
}

impl Shadow {
    fn lie<T>(what: impl std::fmt::Display) -> Result<T> {
        Err(Failure::Harness(format!("shadow: {what}")))
    }

    /// Takes in what came since, and gives the points along the newest timeline.
    fn points(&mut self, ever: Vec<(String, Arc<Vec<u8>>)>) -> Result<Vec<Point>> {
        for (key, body) in ever {
            let Some(name) = key.split_once('/').and_then(|(_, name)| name.parse().ok()) else {
                continue;
            };
            let path = self.root.join(key.split_once('/').expect("seen").1);
            let merged = matches!(name, Name::Change(Change { level: 1.., .. }));
            if !merged && !path.exists() {
                fs::create_dir_all(path.parent().expect("below the root"))?;
                fs::write(path, &*body)?;
            }
        }
        let fs = Fs::open(&self.root).or_else(Self::lie)?;
        let replica = Replica::list(&fs).or_else(Self::lie)?;
        if replica.is_empty() {
            return Ok(Vec::new());
        }
        let ancestry = replica.ancestry(&fs).or_else(Self::lie)?;
        let mut points: Vec<Point> = Vec::new();
        for run in replica.runs(&ancestry) {
            let base = run.snapshot;
            let (commit, time) = (base.last.0, base.time.0);
            points.push(Point { commit, time, timeline: base.timeline.0 });
            for span in &run.changes {
                let end = replica.parts_of(*span).and_then(|parts| parts.last());
                let Some(end) = end else { continue };
                let timeline = span.timeline.0;
                let commits = self.commits_of(&fs, end)?.iter();
                let after = commits.filter(|(commit, _)| *commit > base.last.0);
                points.extend(after.map(|&(commit, time)| Point { commit, time, timeline }));
            }
        }
        Ok(points)
    }

    fn commits_of(&mut self, fs: &dyn Backend, end: &Change) -> Result<&Vec<(u64, u64)>> {
        let name = Name::Change(*end);
        if !self.commits.contains_key(&name) {
            let set = read_change(fs, end).or_else(Self::lie)?;
            let points = set.commits.iter().filter(|commit| commit.digest.is_some());
            let commits = points.map(|commit| (commit.number.0, commit.time.0)).collect();
            self.commits.insert(name.clone(), commits);
        }
        Ok(&self.commits[&name])
    }
}

/// The commits that an error names as the nearest ones.
fn named(message: &str) -> Vec<u64> {
    let words: Vec<&str> = message.split_whitespace().collect();
    let pairs = words.windows(2).filter(|pair| pair[0] == "--commit");
    pairs
        .filter_map(|pair| pair[1].trim_matches(|c: char| !c.is_ascii_digit()).parse().ok())
        .collect()
}

impl Rig {
    /// Casts a shadow of the bucket, whose replica is to keep what `steps` say.
    pub fn cast_shadow(&mut self, steps: &[Step]) -> Result<()> {
        let root = self.dir.join("shadow");
        fs::create_dir(&root)?;
        let (steps, commits) = (steps.to_vec(), BTreeMap::new());
        self.shadow = Some(Shadow { root, steps, commits });
        Ok(())
    }

    fn points_ever(&mut self) -> Result<Vec<Point>> {
        let ever = self.store().ever();
        self.shadow.as_mut().expect("it was cast").points(ever)
    }

    fn promised(&self, points: &[Point]) -> Vec<bool> {
        promised(points, &self.shadow.as_ref().expect("it was cast").steps, self.reference(points))
    }

    /// Ages count from the newest commit, which may have come just now if a daemon runs.
    fn reference(&self, points: &[Point]) -> u64 {
        let newest = points.last().filter(|_| self.host().daemon.is_none());
        newest.map_or_else(now, |newest| newest.time)
    }

    /// Whether it is older than anything that is kept.
    fn is_old(&self, points: &[Point], at: usize) -> bool {
        let steps = &self.shadow.as_ref().expect("it was cast").steps;
        let age = self.reference(points).saturating_sub(points[at].time);
        steps.iter().all(|step| age > step.age)
    }

    /// Whether both go on from the same timeline: a daemon that is killed in between leaves one behind.
    fn is_of_the_same_line(&self) -> Result<bool> {
        let newest = |source: &Source| -> Result<Timeline> {
            let replica = replica::open(source).or_else(Shadow::lie)?;
            Ok(Replica::list(&*replica)
                .or_else(|error| violation(error.message))?
                .newest_timeline())
        };
        let shadow = Source::File { root: self.shadow.as_ref().expect("it was cast").root.clone() };
        Ok(newest(&shadow)? == newest(&self.source())?)
    }

    /// Asks the replica that is meant for its newest commit, and for up to `number` of those before it
    /// that were ever shipped, of each age: what is promised comes back and is what it was, what is not
    /// may be refused, and then the points that are named come back; and for as many times.
    pub fn grade_kept(&mut self, number: usize) -> Result<()> {
        let points = self.points_here()?;
        let kept = self.promised(&points);
        let class = |at| (kept[at], self.is_old(&points, at));
        let classes: Vec<_> = (0..points.len()).map(class).collect();
        let mut chosen = Vec::new();
        for wanted in [(true, false), (false, false), (false, true)] {
            let all: Vec<_> = (0..points.len()).filter(|&at| classes[at] == wanted).collect();
            // The ends of what is promised are where it goes wrong.
            chosen.extend(all.first().filter(|_| wanted.0));
            chosen.extend(self.some(all, number));
        }
        for at in chosen {
            self.grade_point(&points, at)?;
        }
        for _ in 0..number.min(points.len()) {
            let (from, to) = (points[0].time, points[points.len() - 1].time + 200);
            let time = self.rng.between(from, to);
            self.grade_time(&points, time)?;
        }
        Ok(())
    }

    /// The points up to the newest commit of the one that is meant, which is right. The bucket may have
    /// been given something that another one was not, before a kill. None where a kill has left the two
    /// on different timelines.
    fn points_here(&mut self) -> Result<Vec<Point>> {
        let expect = Expect { floor: self.to().floor, ..Expect::default() };
        let newest = self.grade(Target::Latest, &expect)?;
        self.restored(newest.map(|(place, _)| place));
        let newest = newest.map_or(0, |(_, newest)| newest.commit);
        let mut points = self.points_ever()?;
        points.retain(|point| point.commit <= newest);
        if !self.is_of_the_same_line()? {
            self.tally.fault("no common line");
            points.clear();
        }
        Ok(points)
    }

    fn grade_point(&mut self, points: &[Point], at: usize) -> Result<()> {
        let Point { commit, timeline, .. } = points[at];
        let target = Target::Commit(CommitNo(commit));
        self.learn(points[at])?;
        let expect =
            Expect { exactly: self.landed.get(&(timeline, commit)).copied(), ..Expect::default() };
        let source = self.source();
        match self.verdict(&source, target, &expect)? {
            Verdict::Refused(refused) if !self.promised(points)[at] => {
                let is_old = self.is_old(points, at);
                self.grade_refusal(is_old, &refused)
            }
            verdict => {
                let Some((_, landed)) = self.settle_verdict(target, verdict, &expect)? else {
                    return violation(format!("commit {commit} is to be kept and is not there"));
                };
                // A snapshot may have been finished on a later timeline than its commit was made on.
                if landed.commit != commit {
                    return violation(format!("asked for {commit} of {timeline}: {landed:?}"));
                }
                self.tally.targets += 1;
                let kept = self.promised(points)[at];
                self.tally.fault(if kept { "promised point" } else { "point not gone yet" });
                Ok(())
            }
        }
    }

    /// Restores a commit that is promised while upkeep is done, to its end, at one of the restore's own
    /// requests: whatever of the plan has gone by then, it comes back as it was.
    pub fn grade_through_upkeep(&mut self) -> Result<()> {
        let points = self.points_here()?;
        let kept = self.promised(&points);
        let some: Vec<usize> = (0..points.len()).filter(|at| kept[*at]).collect();
        if some.is_empty() {
            return Ok(());
        }
        let at = match self.rng.one_in(2) {
            true => points.len() - 1,
            false => *self.rng.pick(&some),
        };
        self.learn(points[at])?;
        let Point { commit, timeline, .. } = points[at];
        let exactly = self.landed.get(&(timeline, commit)).copied();
        let (target, expect) =
            (Target::Commit(CommitNo(commit)), Expect { exactly, ..Expect::default() });
        let mut commands = ["compact", "prune"].map(|verb| self.bakelite(verb));
        let upkeep = move || {
            for command in &mut commands {
                // What it says is asked of it elsewhere.
                drop(command.stdout(Stdio::null()).stderr(Stdio::null()).status());
            }
        };
        let inner = replica::open(&self.source()).or_else(Shadow::lie)?;
        let source = Arc::new(Meanwhile::new(inner, self.rng.below(3), upkeep));
        let shared: Arc<dyn Backend> = Arc::clone(&source) as _;
        let output = self.new_output()?;
        let restored = replica::restore_from(&shared, &output, target);
        self.tally.faults("gone meanwhile", u64::from(source.vanished() > 0));
        let anew = restored.is_ok() && source.vanished() > 0;
        match self.judged(&output, restored, &expect)? {
            Verdict::Refused(refused) if !self.promised(&points)[at] => {
                let is_old = self.is_old(&points, at);
                self.grade_refusal(is_old, &refused)?;
            }
            verdict => drop(self.settle_verdict(target, verdict, &expect)?),
        }
        self.tally.faults("planned anew", u64::from(anew));
        Ok(())
    }

    /// A point that is no more: the error says so, and names points that are there. Of one that is older
    /// than all that is kept the change-sets go before their snapshot: whoever is killed in between leaves
    /// a gap, which names alone do not tell from damage.
    fn grade_refusal(&mut self, is_old: bool, refused: &Refused) -> Result<()> {
        let Refused { status, message } = refused;
        let named = named(message);
        let in_a_gap = is_old && message.contains("lies in a gap");
        self.tally.faults("old point in a gap", u64::from(in_a_gap));
        if (*status != Status::Missing as i32 && !in_a_gap) || named.is_empty() {
            return violation(format!("a point that is gone: status {status}: {message}"));
        }
        for commit in named {
            let (target, expect) = (Target::Commit(CommitNo(commit)), Expect::default());
            if self.grade(target, &expect)?.is_none() {
                return violation(format!("commit {commit} is named, and not there: {message}"));
            }
            self.tally.targets += 1;
        }
        self.tally.fault(if is_old { "old point refused" } else { "thinned point refused" });
        Ok(())
    }

    /// Finds out from the shadow what a commit is, unless that is known.
    fn learn(&mut self, point: Point) -> Result<()> {
        if self.landed.contains_key(&(point.timeline, point.commit)) {
            return Ok(());
        }
        let shadow = Source::File { root: self.shadow.as_ref().expect("it was cast").root.clone() };
        let (target, expect) = (Target::Commit(CommitNo(point.commit)), Expect::default());
        let verdict = self.verdict(&shadow, target, &expect)?;
        match self.settle_verdict(target, verdict, &expect)? {
            Some((_, landed)) if landed.commit == point.commit => Ok(()),
            other => violation(format!("the shadow gave {other:?} for {point:?}")),
        }
    }

    /// The last promised point at or before a time, or a later one that is not after it.
    fn grade_time(&mut self, points: &[Point], time: u64) -> Result<()> {
        let target = Target::At(Time(time));
        let (source, expect) = (self.source(), Expect::default());
        let verdict = self.verdict(&source, target, &expect)?;
        let refused = matches!(&verdict, Verdict::Refused(refused) if refused.nothing_there());
        let landed = match refused {
            true => None,
            false => self.settle_verdict(target, verdict, &expect)?,
        };
        let kept = self.promised(points);
        let by_then = points.iter().zip(kept).filter(|(point, kept)| *kept && point.time <= time);
        let least = by_then.map(|(point, _)| point.commit).max();
        let Some((_, landed)) = landed else {
            if let Some(least) = least {
                return violation(format!("nothing at {time}, but {least} is promised"));
            }
            self.tally.fault("time refused");
            return Ok(());
        };
        if landed.time.0 > time || Some(landed.commit) < least {
            return violation(format!("asked for {time}, got {landed:?}, promised is {least:?}"));
        }
        self.tally.targets += 1;
        self.tally.fault("target time");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step; 2] = [Step { density: 0, age: 100 }, Step { density: 10, age: 300 }];

    #[test]
    fn the_last_of_each_stretch_is_promised_until_it_is_too_old() {
        let point = |commit, time| Point { commit, time, timeline: 1 };
        let points =
            [point(1, 1000), point(2, 1003), point(3, 1009), point(4, 1010), point(5, 1200)];
        let at = |now| promised(&points, &STEPS, now);
        assert_eq!(at(1100), [true; 5]);
        assert_eq!(at(1104), [false, false, true, true, true]);
        assert_eq!(at(1309), [false, false, true, true, true]);
        assert_eq!(at(1310), [false, false, false, true, true]);
        assert_eq!(at(1500), [false, false, false, false, true]);
        assert_eq!(at(1501), [false; 5]);
    }

    #[test]
    fn nearest_points_are_read_from_an_error() {
        let said = "gone / hint: the nearest restore point is --commit 17 or --commit 29";
        assert_eq!(named(said), [17, 29]);
        assert_eq!(named("the nearest restore point is --commit 4 --timeline 2"), [4]);
        assert_eq!(named("no hint"), [0; 0]);
    }
}
