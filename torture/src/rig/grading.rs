//! Restoring from a rig's replica and judging what comes back.

use super::{Failure, Result, Rig, violation};
use crate::bytes;
use crate::course::Place;
use crate::ledger::Micros;
use crate::oracle::{self, Expect, Grade};
use crate::process::{self, Process};
use crate::replica::{self, Branch, Landed, Points, Refused};
use crate::rng::shuffle;
use bakelite::commit::{CommitNo, Time};
use bakelite::config::Destination as Source;
use bakelite::error::Status;
use bakelite::restore::Target;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One restore in so many goes through the program instead of the library.
const SAMPLE: u64 = 10;

/// A restore and what the oracle says of it. The caller decides what of it is wrong.
#[derive(Clone, Debug)]
pub enum Verdict {
    Refused(Refused),
    Judged { landed: Landed, grade: Grade, file: PathBuf },
}

impl Rig {
    /// Restores the newest commit; it must be right. `None`: nothing there yet, and rightly so.
    pub fn grade_latest(&mut self) -> Result<Option<u64>> {
        let expect = Expect { floor: self.to().floor, ..Expect::default() };
        let landed = self.grade(Target::Latest, &expect)?;
        // What has been restored once can be restored for ever: objects are never taken back.
        self.restored(landed.map(|(place, _)| place));
        Ok(landed.map(|(place, _)| place.seq))
    }

    /// Restores the newest commit; it must be `seq` of this host.
    pub fn grade_exact(&mut self, seq: u64) -> Result<()> {
        let exactly = Some(Place { seq, turns: self.host().turn });
        let expect = Expect { floor: self.to().floor, exactly, ..Expect::default() };
        self.grade(Target::Latest, &expect).map(drop)
    }

    /// What a disk that lost power held without having been told to keep it may be gone.
    pub fn floor_is_what_was_promised(&mut self) {
        self.to_mut().floor_is_what_was_promised();
        self.landed.retain(|at, _| self.kept.contains(at));
    }

    /// Restores the newest commit as `grade_latest` does, and keeps it in mind for `recheck`.
    pub fn keep_latest(&mut self) -> Result<()> {
        let expect = Expect { floor: self.to().floor, ..Expect::default() };
        if let Some((place, landed)) = self.grade(Target::Latest, &expect)? {
            self.restored(Some(place));
            self.kept.push((landed.timeline, landed.commit));
        }
        Ok(())
    }

    /// Up to `number` of the commits kept in mind are what they were, on the main line or on the
    /// branch that they are of.
    pub fn recheck(&mut self, number: usize) -> Result<()> {
        let kept = self.kept.clone();
        for (timeline, commit) in self.some(kept, number) {
            let was = self.landed[&(timeline, commit)];
            let target = Target::Commit(CommitNo(commit));
            let expect = Expect { exactly: Some(was), ..Expect::default() };
            let source = self.source();
            let verdict = self.verdict(&source, target, &expect)?;
            let on_main = matches!(
                &verdict, Verdict::Judged { landed, .. } if landed.timeline == timeline);
            if on_main {
                self.settle_verdict(target, verdict, &expect)?;
                self.tally.targets += 1;
            } else if self.knows_branches()? {
                self.grade_on_branch(Branch { commit, timeline }, &expect)?;
            } else {
                self.discard(verdict)?;
                self.tally.fault("no way to ask for a branch");
            }
        }
        Ok(())
    }

    /// Restores a commit of a timeline that the newest one may have left behind.
    fn grade_on_branch(&mut self, on: Branch, expect: &Expect) -> Result<()> {
        let Branch { commit, timeline } = on;
        let source = self.source();
        let log = self.path("log", "restore");
        let output = self.new_output()?;
        let restored = replica::restore_branch(self.reader("restore"), &source, &output, on, &log);
        let target = Target::Commit(CommitNo(commit));
        let verdict = self.judged(&output, restored, expect)?;
        let Some((_, landed)) = self.settle_verdict(target, verdict, expect)? else {
            return violation(format!("commit {commit} of timeline {timeline} is gone"));
        };
        self.tally.targets += 1;
        self.tally.fault("asked for a branch");
        match (landed.commit, landed.timeline) == (commit, timeline) {
            true => Ok(()),
            false => violation(format!("asked for {commit} of timeline {timeline}: {landed:?}")),
        }
    }

    /// Whether `restore` takes a timeline.
    pub fn knows_branches(&mut self) -> Result<bool> {
        if self.knows_branches.is_none() {
            let log = self.path("log", "help");
            let mut command = Command::new(&self.programs.bakelite);
            let help = process::run(command.args(["restore", "--help"]), &log)?;
            self.knows_branches = Some(help.is_some_and(|help| help.stdout.contains("--timeline")));
        }
        Ok(self.knows_branches.unwrap_or_default())
    }

    /// Removes a file that nobody has asked anything of.
    fn discard(&mut self, verdict: Verdict) -> Result<()> {
        match verdict {
            Verdict::Judged { grade, file, .. } if !grade.is_right() => {
                Ok(std::fs::remove_dir_all(file.parent().expect("a directory of its own"))?)
            }
            _ => Ok(()),
        }
    }

    /// Asks for the newest commit where something that it may take is missing: it is right, or refused, and
    /// status and words say so.
    pub fn refused_or_right(&mut self) -> Result<()> {
        let expect = Expect { floor: self.to().floor, ..Expect::default() };
        let source = self.source();
        match self.verdict(&source, Target::Latest, &expect)? {
            Verdict::Refused(refused) if refused.status == Status::Integrity as i32 => {
                self.tally.rejected += 1;
                Ok(())
            }
            verdict => self.settle_verdict(Target::Latest, verdict, &expect).map(drop),
        }
    }

    /// Restores the newest commit; it must be the live database byte for byte. Nobody may write.
    pub fn grade_bytes(&mut self) -> Result<()> {
        let output = self.new_output()?;
        replica::restore_sealed(&self.source(), &self.sealing, &output, Target::Latest)
            .map_err(|refused| Failure::Violation(refused.message))?;
        let scratch = self.new_output()?;
        let scratch = scratch.parent().expect("a directory of its own");
        match bytes::compare(&self.db(), &output, scratch) {
            Err(why) => violation(format!("{}: {why}", output.display())),
            Ok(()) => {
                self.tally.fault("compared byte for byte");
                Ok(std::fs::remove_file(output)?)
            }
        }
    }

    /// Restores commit `number`; where it landed. `after`: where the commit before it did.
    pub fn grade_commit(&mut self, number: u64, after: Option<Place>) -> Result<Place> {
        self.grade_number(number, after).map(|(place, _)| place)
    }

    fn grade_number(&mut self, number: u64, after: Option<Place>) -> Result<(Place, Landed)> {
        let expect = Expect { after, ..Expect::default() };
        let target = Target::Commit(CommitNo(number));
        let Some((place, landed)) = self.grade(target, &expect)? else {
            return violation(format!("commit {number} is listed but not there"));
        };
        if landed.commit != number {
            return violation(format!("asked for commit {number}, got {}", landed.commit));
        }
        self.tally.targets += 1;
        Ok((place, landed))
    }

    /// Restores the state at `time`. Below it lies what a `sync` that had returned by then has made
    /// durable; above it what was begun only later.
    pub fn grade_at(&mut self, time: Time, after: Option<Place>) -> Result<Option<Place>> {
        let until = Micros(time.0 * 1000);
        let floor = self.to().synced_before(time);
        let expect = Expect { floor, after, until: Some(until), exactly: None };
        let Some((place, landed)) = self.grade(Target::At(time), &expect)? else {
            return Ok(None);
        };
        if landed.time > time {
            return violation(format!("asked for {}, got a commit of {}", time.0, landed.time.0));
        }
        self.tally.targets += 1;
        Ok(Some(place))
    }

    /// Restores the state at a `time` of which only some points are kept, or none any more.
    pub fn grade_thinned(&mut self, time: Time) -> Result<Option<Place>> {
        let until = Some(Micros(time.0 * 1000));
        let graded = self.grade(Target::At(time), &Expect { until, ..Expect::default() })?;
        self.tally.targets += u64::from(graded.is_some());
        self.tally.faults("nothing kept of then", u64::from(graded.is_none()));
        Ok(graded.map(|(place, _)| place))
    }

    /// Restores `target` and demands that it be right.
    pub(super) fn grade(
        &mut self,
        target: Target,
        expect: &Expect,
    ) -> Result<Option<(Place, Landed)>> {
        let source = self.source();
        let verdict = self.verdict(&source, target, expect)?;
        self.settle_verdict(target, verdict, expect)
    }

    pub fn settle_verdict(
        &mut self,
        target: Target,
        verdict: Verdict,
        expect: &Expect,
    ) -> Result<Option<(Place, Landed)>> {
        let may_be_filled = self.count() > 1;
        match verdict {
            Verdict::Refused(refused)
                if (refused.nothing_there() || may_be_filled && refused.snapshot_to_come())
                    && expect.floor.is_none()
                    && expect.exactly.is_none() =>
            {
                Ok(None)
            }
            Verdict::Refused(Refused { status, message }) => {
                violation(format!("restore of {target:?} refused with status {status}: {message}"))
            }
            Verdict::Judged { landed, grade, .. } if grade.is_right() => {
                let place = grade.place.expect("a right file has a marker");
                self.same_as_ever(landed, place)?;
                Ok(Some((place, landed)))
            }
            Verdict::Judged { landed, grade, .. } => {
                let wrong: Vec<_> = grade.violations.iter().map(ToString::to_string).collect();
                violation(format!("restore of {target:?} gave {landed:?}: {}", wrong.join("; ")))
            }
        }
    }

    /// A commit of a timeline is the same whenever it is restored.
    fn same_as_ever(&mut self, landed: Landed, place: Place) -> Result<()> {
        let Landed { commit, timeline, .. } = landed;
        match self.landed.insert((timeline, commit), place) {
            Some(before) if before.seq != place.seq || before.turns & place.turns == 0 => {
                violation(format!(
                    "commit {commit} of timeline {timeline} was {before:?} and now is {place:?}"
                ))
            }
            _ => Ok(()),
        }
    }

    /// Restores `target` from `source` and judges the file. One that is right is removed.
    pub fn verdict(&mut self, source: &Source, target: Target, expect: &Expect) -> Result<Verdict> {
        let (output, restored) = self.restore(source, target)?;
        self.judged(&output, restored, expect)
    }

    pub(super) fn judged(
        &mut self,
        output: &Path,
        restored: std::result::Result<Landed, Refused>,
        expect: &Expect,
    ) -> Result<Verdict> {
        let dir = output.parent().expect("a directory of its own");
        let landed = match restored {
            Ok(landed) => landed,
            Err(refused) => {
                nothing_left(dir)?;
                return Ok(Verdict::Refused(refused));
            }
        };
        self.refresh()?;
        let grade = oracle::grade(output, &self.truth, expect);
        self.tally.restores += 1;
        if let Some(place) = grade.place.filter(|_| grade.is_right()) {
            self.truth.whole_at(place)?;
            alone(output)?;
            std::fs::remove_dir_all(dir)?;
        }
        Ok(Verdict::Judged { landed, grade, file: output.to_owned() })
    }

    /// Judges a file that was restored by other means, and removes it.
    pub fn judge(&mut self, file: &Path, expect: &Expect) -> Result<()> {
        // Away from what a killed restore has left beside it.
        let moved = self.new_output()?;
        std::fs::rename(file, &moved)?;
        self.refresh()?;
        let grade = oracle::grade(&moved, &self.truth, expect);
        self.tally.restores += 1;
        if !grade.is_right() {
            return violation(format!("{}: {:?}", moved.display(), grade.violations));
        }
        Ok(std::fs::remove_file(moved)?)
    }

    /// A target for a restore, in a directory of its own.
    pub fn new_output(&mut self) -> Result<PathBuf> {
        let dir = self.path("out", "restore");
        std::fs::create_dir(&dir)?;
        Ok(dir.join("restored"))
    }

    /// Starts the program to restore the newest commit, to be killed while it works.
    pub fn start_restore(&mut self, target: &Path) -> Result<Process> {
        let log = self.path("log", "restore");
        let mut command = self.reader("restore");
        command.arg(self.source().to_string()).arg("--output").arg(target);
        Ok(Process::spawn(command.stdout(Stdio::null()), &log)?)
    }

    fn restore(
        &mut self,
        source: &Source,
        target: Target,
    ) -> Result<(PathBuf, std::result::Result<Landed, Refused>)> {
        let output = self.new_output()?;
        if matches!(source, Source::File { root } if !root.exists()) {
            let (status, message) = (Status::Missing as i32, "no destination yet".to_owned());
            return Ok((output, Err(Refused { status, message })));
        }
        let restored = match self.sampler.one_in(SAMPLE) {
            true => {
                let log = self.path("log", "restore");
                replica::restore_there(self.reader("restore"), source, &output, target, &log)
            }
            false => replica::restore_sealed(source, &self.sealing, &output, target),
        };
        Ok((output, restored))
    }

    /// Whether `bakelite verify` finds a replica sound.
    pub fn verify(&mut self, source: &Source) -> Result<bool> {
        let log = self.path("log", "verify");
        let mut command = self.reader("verify");
        let done = process::run(command.arg(source.to_string()), &log)?;
        self.tally.fault("verified");
        let of_a_replica = [Status::Integrity, Status::Key, Status::Newer].map(|it| it as i32);
        match done.map(|done| done.status.code()) {
            Some(Some(0)) => Ok(true),
            Some(Some(code)) if of_a_replica.contains(&code) => Ok(false),
            done => violation(format!("verify ended with {done:?}")),
        }
    }

    /// The commits that the replica offers on its main line.
    pub fn listed(&mut self) -> Result<Vec<u64>> {
        let points = self.points()?;
        let main = points.iter().filter(|points| !points.branch);
        Ok(main.flat_map(|points| points.first..=points.last).collect())
    }

    fn points(&mut self) -> Result<Vec<Points>> {
        let log = self.path("log", "list");
        let points = replica::list(self.reader("list"), &self.source(), &log);
        points.map_err(Failure::Violation)
    }

    /// Restores up to `number` of the commits that the replica offers on abandoned branches.
    pub fn grade_branches(&mut self, number: usize) -> Result<()> {
        let points = self.points()?;
        let branches = points.iter().filter(|points| points.branch);
        let listed: Vec<Branch> = branches
            .flat_map(|points| {
                let on = |commit| Branch { commit, timeline: points.timeline };
                (points.first..=points.last).map(on)
            })
            .collect();
        for on in self.some(listed, number) {
            self.grade_on_branch(on, &Expect::default())?;
        }
        Ok(())
    }

    /// Restores up to `number` commits that the replica offers, in rising order, and keeps them in
    /// mind for `recheck`. Where nothing has come back yet, nothing has to be offered.
    pub fn keep_some(&mut self, number: usize) -> Result<()> {
        if self.to().floor.is_none() {
            return Ok(());
        }
        let graded = self.grade_some(number)?;
        self.kept.extend(graded.iter().map(|landed| (landed.timeline, landed.commit)));
        self.kept.sort_unstable();
        self.kept.dedup();
        Ok(())
    }

    /// Up to `number` of them, at random. However many there are, which depends on the machine, the choices
    /// after it are the same.
    pub(super) fn some<T>(&mut self, mut all: Vec<T>, number: usize) -> Vec<T> {
        shuffle(&mut self.rng.clone(), &mut all);
        self.rng.number();
        all.truncate(number);
        all
    }

    /// Keeps the last `number` commits that the replica offers in mind for `recheck`, and no others.
    pub fn keep_last(&mut self, number: usize) -> Result<()> {
        let listed = self.listed()?;
        let mut kept = Vec::new();
        for &commit in &listed[listed.len().saturating_sub(number)..] {
            let (_, landed) = self.grade_number(commit, None)?;
            kept.push((landed.timeline, landed.commit));
        }
        self.kept = kept;
        Ok(())
    }

    /// Restores up to `number` commits that the replica offers, chosen at random, in rising order.
    pub fn grade_some(&mut self, number: usize) -> Result<Vec<Landed>> {
        let listed = self.listed()?;
        if listed.is_empty() && self.to().floor.is_some() {
            return violation("there are commits, and the replica offers none");
        }
        let mut listed = self.some(listed, number);
        listed.sort_unstable();
        let (mut graded, mut after) = (Vec::new(), None);
        for commit in listed {
            let (place, landed) = self.grade_number(commit, after)?;
            after = Some(place);
            graded.push(landed);
        }
        Ok(graded)
    }
}

/// A restore that succeeded leaves nothing else.
fn alone(file: &Path) -> Result<()> {
    let dir = file.parent().expect("a directory of its own");
    let mut entries = std::fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path()));
    match entries.find(|entry| entry.as_ref().is_ok_and(|path| path != file)) {
        Some(other) => violation(format!("a restore has left {:?}", other?)),
        None => Ok(()),
    }
}

/// A restore that failed leaves nothing at its target, nor beside it.
fn nothing_left(dir: &Path) -> Result<()> {
    match std::fs::read_dir(dir)?.next() {
        Some(entry) => violation(format!("a refused restore has left {:?}", entry?.path())),
        None => Ok(std::fs::remove_dir(dir)?),
    }
}
