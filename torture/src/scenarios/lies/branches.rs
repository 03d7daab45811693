//! Files of a history that has forked, and ledgers that lie about the fork.

use super::super::busy;
use super::{Records, digest_of, find, graded, records, seq_of};
use crate::course::{Course, Place};
use crate::ledger::Record;
use crate::oracle::Expect;
use crate::replica;
use crate::rig::{Failure, Result, Rig, violation};
use crate::workload::writer::Args;
use bakelite::commit::CommitNo;
use bakelite::restore::Target;
use std::path::{Path, PathBuf};

/// Where the history forks.
const FORK: u64 = 20;

type Lie = fn(&mut Parts, u64);

/// The true records: up to the fork and on along the main line, and of the branch.
#[derive(Clone, Debug)]
struct Parts {
    main: Records,
    branch: Records,
}

impl Parts {
    fn all(&self) -> Records {
        [self.main.clone(), self.branch.clone()].concat()
    }

    fn on(&mut self) -> (&mut u64, &mut crate::ledger::On) {
        match &mut self.branch[0] {
            Record::Branch { seq, on, .. } => (seq, on),
            record => panic!("a branch begins with what it is, not {record:?}"),
        }
    }

    /// The branch says that it left the main line at `seq`, and the main line's state agrees.
    fn left_at(&mut self, left: u64) {
        let state = find(&self.main, left);
        let (seq, on) = self.on();
        (*seq, on.state) = (left, Some(state));
    }
}

/// What is done to the records, given the seq that a file of the branch is at.
const LIES: &[(&str, Lie)] = &[
    ("the branch began with another state", |parts, _| {
        parts.on().1.state.as_mut().expect("it left something").0[3] ^= 1;
    }),
    ("the branch left earlier", |parts, _| parts.left_at(FORK - 1)),
    ("the branch left later", |parts, seq| parts.left_at(seq)),
    ("the branch left from the future", |parts, _| *parts.on().0 += 1_000_000),
    ("the branch left nothing", |parts, _| parts.on().1.parent = None),
    ("the branch left one that nobody knows", |parts, _| parts.on().1.parent = Some(7)),
    ("the branch is the main line", |parts, _| drop(parts.branch.remove(0))),
    ("the branch was never there", |parts, _| parts.branch.clear()),
    ("the branch has made what the main line has made", |parts, seq| {
        let other = find(&parts.main, seq);
        digest_of(&mut parts.branch, seq, |digest| *digest = other);
    }),
    ("branch and main line are exchanged", |parts, seq| {
        let (main, branch) = (find(&parts.main, seq), find(&parts.branch, seq));
        digest_of(&mut parts.main, seq, |digest| *digest = branch);
        digest_of(&mut parts.branch, seq, |digest| *digest = main);
    }),
    ("the branch lacks a commit", |parts, _| {
        parts.branch.retain(|record| seq_of(record) != FORK + 1);
    }),
];

pub fn ledger(rig: &mut Rig) -> Result<()> {
    fork(rig)?;
    let (parts, branches) = parts(rig)?;
    let course = rig.truth.course.clone();
    let newest = course.here(2 * FORK);
    let main = Place { turns: 1, ..newest };
    let mut tried = 0;
    for commit in rig.listed()?.into_iter().rev().step_by(3) {
        let file = restored(rig, commit)?;
        let at = |parts: &Parts, expect: Expect| {
            graded(&file, &parts.all(), &course, |_| expect, &rig.dir)
        };
        let Some(place) = at(&parts, Expect::default())? else {
            return violation("the oracle rejected a file by the true ledger");
        };
        // Common commits and those of the main line come in turn; these lies are about the others.
        if place.turns & 1 == 0 {
            rig.tally.rejected += all_lies(&file, &parts, place, &course, &rig.dir)?;
            tried += 1;
        } else if place.seq > FORK {
            let expect = Expect { floor: Some(Place { seq: FORK, ..newest }), ..Expect::default() };
            refused("an abandoned branch comes back", at(&parts, expect)?)?;
            let exactly = Some(Place { turns: newest.turns, ..place });
            refused("it is of the branch", at(&parts, Expect { exactly, ..Expect::default() })?)?;
            rig.tally.rejected += 2;
        }
    }
    LIES.iter().for_each(|(what, _)| rig.tally.fault(&format!("lie: {what}")));
    match tried > 1 && branches == 1 && main.seq == newest.seq {
        true => Ok(()),
        false => Err(Failure::Harness("the history has not forked".into())),
    }
}

/// Both lines make as many commits after the fork, so that a seq alone tells nothing.
fn fork(rig: &mut Rig) -> Result<()> {
    let application = || Args { paused: true, ..busy() };
    rig.create(application())?;
    rig.start_daemon()?;
    rig.act(&format!("commit {FORK}"))?;
    let host = rig.add_host()?;
    rig.bring_database(host)?;
    rig.switch(0);
    let seq = rig.act(&format!("commit {FORK}"))?;
    rig.drain()?;
    rig.grade_exact(seq)?;
    rig.switch(host);
    rig.fork();
    rig.start_writer(application())?;
    rig.start_daemon()?;
    rig.sync()?;
    let seq = rig.act(&format!("commit {FORK}"))?;
    rig.drain()?;
    rig.grade_exact(seq)
}

/// The records of the ledgers, apart, and how many branches there are.
fn parts(rig: &Rig) -> Result<(Parts, usize)> {
    let all = records(&rig.dir.join("ledger"))?;
    let is_branch = |record: &&Record| matches!(record, Record::Branch { .. });
    let at = all.iter().position(|record| is_branch(&record)).unwrap_or(all.len());
    let (main, branch) = all.split_at(at);
    let parts = Parts { main: main.to_vec(), branch: branch.to_vec() };
    Ok((parts, all.iter().filter(is_branch).count()))
}

fn restored(rig: &mut Rig, commit: u64) -> Result<PathBuf> {
    let file = rig.new_output()?;
    replica::restore_here(&rig.source(), &file, Target::Commit(CommitNo(commit)))
        .map_err(|refused| Failure::Violation(refused.message))?;
    rig.tally.restores += 1;
    Ok(file)
}

fn all_lies(file: &Path, parts: &Parts, place: Place, course: &Course, dir: &Path) -> Result<u64> {
    for (what, lie) in LIES {
        let mut lying = parts.clone();
        lie(&mut lying, place.seq);
        let expect = Expect { exactly: Some(place), ..Expect::default() };
        refused(what, graded(file, &lying.all(), course, |_| expect, dir)?)?;
    }
    Ok(LIES.len() as u64)
}

fn refused(what: &str, accepted: Option<Place>) -> Result<()> {
    match accepted {
        None => Ok(()),
        Some(place) => violation(format!("the oracle believed that {what} ({place:?})")),
    }
}
