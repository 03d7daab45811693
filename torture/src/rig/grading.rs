//! Restoring from a rig's replica and judging what comes back.

use super::{Failure, Result, Rig, violation};
use crate::bytes;
use crate::ledger::Micros;
use crate::oracle::{self, Expect, Grade};
use crate::process::{self, Process};
use crate::replica::{self, Landed, Refused};
use bakelite::commit::{CommitNo, Time};
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
    Judged { landed: Landed, grade: Grade },
}

impl Rig {
    /// Restores the newest commit; it must be right. `None`: nothing there yet, and rightly so.
    pub fn grade_latest(&mut self) -> Result<Option<u64>> {
        let expect = Expect { floor: self.floor, ..Expect::default() };
        let landed = self.grade(Target::Latest, &expect)?;
        // What has been restored once can be restored for ever: objects are never taken back.
        self.floor = self.floor.max(landed.map(|(seq, _)| seq));
        Ok(landed.map(|(seq, _)| seq))
    }

    /// Restores the newest commit; it must be `seq`.
    pub fn grade_exact(&mut self, seq: u64) -> Result<()> {
        let expect = Expect { floor: self.floor, exactly: Some(seq), ..Expect::default() };
        self.grade(Target::Latest, &expect).map(drop)
    }

    /// Restores the newest commit; it must be the live database byte for byte. Nobody may write.
    pub fn grade_bytes(&mut self) -> Result<()> {
        let output = self.new_output()?;
        replica::restore_here(&self.replica(), &output, Target::Latest)
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
    pub fn grade_commit(&mut self, number: u64, after: Option<u64>) -> Result<u64> {
        let expect = Expect { after, ..Expect::default() };
        let target = Target::Commit(CommitNo(number));
        let Some((seq, landed)) = self.grade(target, &expect)? else {
            return violation(format!("commit {number} is listed but not there"));
        };
        if landed.commit != number {
            return violation(format!("asked for commit {number}, got {}", landed.commit));
        }
        self.tally.targets += 1;
        Ok(seq)
    }

    /// Restores the state at `time`. Below it lies what a `sync` that had returned by then has made
    /// durable; above it what was begun only later.
    pub fn grade_at(&mut self, time: Time, after: Option<u64>) -> Result<Option<u64>> {
        let until = Micros(time.0 * 1000);
        let synced = self.syncs.iter().filter(|(at, _)| at.0 / 1000 < time.0);
        let floor = synced.map(|&(_, seq)| seq).max();
        let expect = Expect { floor, after, until: Some(until), exactly: None };
        let Some((seq, landed)) = self.grade(Target::At(time), &expect)? else {
            return Ok(None);
        };
        if landed.time > time {
            return violation(format!("asked for {}, got a commit of {}", time.0, landed.time.0));
        }
        self.tally.targets += 1;
        Ok(Some(seq))
    }

    /// Restores `target` and demands that it be right.
    fn grade(&mut self, target: Target, expect: &Expect) -> Result<Option<(u64, Landed)>> {
        let source = self.replica();
        match self.verdict(&source, target, expect)? {
            Verdict::Refused(refused) if refused.nothing_there() && expect.floor.is_none() => {
                Ok(None)
            }
            Verdict::Refused(Refused { status, message }) => {
                violation(format!("restore of {target:?} refused with status {status}: {message}"))
            }
            Verdict::Judged { landed, grade } if grade.is_right() => {
                let seq = grade.seq.expect("a right file has a marker");
                self.same_as_ever(landed, seq)?;
                Ok(Some((seq, landed)))
            }
            Verdict::Judged { landed, grade } => {
                let wrong: Vec<_> = grade.violations.iter().map(ToString::to_string).collect();
                violation(format!("restore of {target:?} gave {landed:?}: {}", wrong.join("; ")))
            }
        }
    }

    /// A commit of a timeline is the same whenever it is restored.
    fn same_as_ever(&mut self, landed: Landed, seq: u64) -> Result<()> {
        let Landed { commit, timeline, .. } = landed;
        match self.landed.insert((timeline, commit), seq) {
            Some(before) if before != seq => violation(format!(
                "commit {commit} of timeline {timeline} was seq {before} and now is {seq}"
            )),
            _ => Ok(()),
        }
    }

    /// Restores `target` from `source` and judges the file. One that is right is removed.
    pub fn verdict(&mut self, source: &Path, target: Target, expect: &Expect) -> Result<Verdict> {
        let (dir, restored) = self.restore(source, target)?;
        let landed = match restored {
            Ok(landed) => landed,
            Err(refused) => {
                nothing_left(&dir)?;
                return Ok(Verdict::Refused(refused));
            }
        };
        self.refresh()?;
        let grade = oracle::grade(&dir.join("restored"), &self.truth, expect);
        self.tally.restores += 1;
        if let Some(seq) = grade.seq.filter(|_| grade.is_right()) {
            let whole = self.truth.whole_up_to(seq);
            whole.map_err(|lie| Failure::Harness(format!("ledger: {lie}")))?;
            std::fs::remove_dir_all(&dir)?;
        }
        Ok(Verdict::Judged { landed, grade })
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
        let mut command = Command::new(&self.programs.bakelite);
        command.arg("restore").arg(self.replica()).arg("--output").arg(target);
        Ok(Process::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()), &log)?)
    }

    fn restore(
        &mut self,
        source: &Path,
        target: Target,
    ) -> Result<(PathBuf, std::result::Result<Landed, Refused>)> {
        let output = self.new_output()?;
        let dir = output.parent().expect("a directory of its own").to_owned();
        if !source.exists() {
            let (status, message) = (Status::Missing as i32, "no destination yet".to_owned());
            return Ok((dir, Err(Refused { status, message })));
        }
        let restored = match self.rng.one_in(SAMPLE) {
            true => {
                let log = self.path("log", "restore");
                replica::restore_there(&self.programs.bakelite, source, &output, target, &log)
            }
            false => replica::restore_here(source, &output, target),
        };
        Ok((dir, restored))
    }

    /// Whether `bakelite verify` finds a replica sound.
    pub fn verify(&mut self, source: &Path) -> Result<bool> {
        let log = self.path("log", "verify");
        let mut command = Command::new(&self.programs.bakelite);
        let done = process::run(command.arg("verify").arg(source), &log)?;
        self.tally.fault("verified");
        match done.map(|done| done.status.code()) {
            Some(Some(code)) if code <= 10 => Ok(code == 0),
            done => violation(format!("verify ended with {done:?}")),
        }
    }

    /// The commits that the replica offers.
    pub fn listed(&mut self) -> Result<Vec<u64>> {
        let log = self.path("log", "list");
        let points = replica::list(&self.programs.bakelite, &self.replica(), &log);
        let points = points.map_err(Failure::Violation)?;
        Ok(points.iter().flat_map(|points| points.first..=points.last).collect())
    }
}

/// A restore that failed leaves nothing at its target, nor beside it.
fn nothing_left(dir: &Path) -> Result<()> {
    match std::fs::read_dir(dir)?.next() {
        Some(entry) => violation(format!("a refused restore has left {:?}", entry?.path())),
        None => Ok(std::fs::remove_dir(dir)?),
    }
}
