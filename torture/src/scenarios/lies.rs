//! The oracle's own red path: it is given files that are right and ledgers that lie.

use super::busy;
use crate::course::{Course, Place};
use crate::digest::Digest;
use crate::ledger::{Ledger, Micros, Record, Truth};
use crate::oracle::{self, Expect};
use crate::replica;
use crate::rig::{Failure, Result, Rig, violation};
use crate::workload::writer::Args;
use bakelite::commit::CommitNo;
use bakelite::restore::Target;
use std::path::{Path, PathBuf};

pub mod branches;

type Records = Vec<Record>;
type Lie = fn(&mut Records, u64);

/// What is done to the records, given the seq that the restored file is at.
const LIES: &[(&str, Lie)] = &[
    ("the state is another one", |records, seq| digest_of(records, seq, |digest| digest.0[7] ^= 1)),
    ("the state is the one before", |records, seq| {
        let before = find(records, seq - 1);
        digest_of(records, seq, |digest| *digest = before);
    }),
    ("the ack says another state than the intent", |records, seq| {
        for record in records {
            if let Record::Ack { seq: at, digest, .. } = record
                && *at == seq
            {
                digest.0[0] ^= 1;
            }
        }
    }),
    ("a commit that was never made", |records, _| {
        let last = last(records) + 1;
        let (digest, at) = (Digest([9; 32]), Micros::now());
        records.push(Record::Intent { seq: last, digest, at });
        records.push(Record::Ack { seq: last, digest, at });
    }),
    ("a commit left out", |records, seq| records.retain(|record| seq_of(record) != seq - 1)),
    ("the commit left out", |records, seq| records.retain(|record| seq_of(record) != seq)),
    ("all from the commit on left out", |records, seq| {
        records.retain(|record| seq_of(record) < seq);
    }),
    ("an ack without its intent", |records, seq| {
        records.retain(|record| !matches!(record, Record::Intent { seq: at, .. } if *at == seq));
    }),
    ("a commit acknowledged twice", |records, seq| {
        let again: Vec<_> =
            records.iter().filter(|record| seq_of(record) == seq).cloned().collect();
        records.extend(again);
    }),
    ("the commit was begun later", |records, seq| {
        for record in records {
            if let Record::Intent { seq: at, at: time, .. } = record
                && *at == seq
            {
                time.0 += 3_600_000_000;
            }
        }
    }),
];

pub fn ledger(rig: &mut Rig) -> Result<()> {
    rig.create(Args { commits: Some(40), pace: Some(500), ..busy() })?;
    rig.start_daemon()?;
    rig.go()?;
    let last = rig.writers_done()?;
    rig.drain()?;
    rig.grade_exact(last)?;
    let records = records(&rig.dir.join("ledger"))?;
    let mut tried = 0;
    for commit in rig.listed()?.into_iter().rev().step_by(6) {
        let file = rig.new_output()?;
        let target = Target::Commit(CommitNo(commit));
        replica::restore_here(&rig.source(), &file, target)
            .map_err(|refused| Failure::Violation(refused.message))?;
        let seq = believed(&file, &records, last, &rig.dir)?;
        if seq > 1 {
            all_lies(rig, &file, &records, last, seq)?;
            tried += 1;
        }
    }
    if tried == 0 {
        return Err(Failure::Harness("no commit past the first was listed".into()));
    }
    Ok(())
}

fn all_lies(rig: &mut Rig, file: &Path, records: &Records, last: u64, seq: u64) -> Result<()> {
    for (what, lie) in LIES {
        let mut lying = records.clone();
        lie(&mut lying, seq);
        // A commit that was never made is missed only by who asks for the newest one.
        if lying.len() > records.len() && seq < last && *what == "a commit that was never made" {
            continue;
        }
        rig.tally.fault(&format!("lie: {what}"));
        if accepted(file, &lying, seq == last, &rig.dir)?.is_some() {
            return violation(format!("the oracle believed a ledger in which {what} (seq {seq})"));
        }
        rig.tally.rejected += 1;
    }
    Ok(())
}

/// The seq of a file that is right by the true ledger.
fn believed(file: &Path, records: &Records, last: u64, dir: &Path) -> Result<u64> {
    let seq = oracle::open(file).and_then(|db| oracle::marker(&db));
    let seq = seq.map_err(|error| Failure::Violation(error.to_string()))?;
    match accepted(file, records, seq == last, dir)? {
        Some(seq) => Ok(seq),
        None => violation("the oracle rejected a file by the true ledger"),
    }
}

/// Where the file is at, if the oracle finds nothing wrong by these records.
fn accepted(file: &Path, records: &Records, newest: bool, dir: &Path) -> Result<Option<u64>> {
    let expect = |truth: &Truth| {
        let floor = truth.line(0).acked().filter(|_| newest);
        let floor = floor.map(|seq| truth.course.here(seq));
        Expect { floor, until: Some(Micros::now()), ..Expect::default() }
    };
    Ok(graded(file, records, &Course::default(), expect, dir)?.map(|place| place.seq))
}

/// The place of a file, if the oracle finds nothing wrong by these records.
fn graded(
    file: &Path,
    records: &Records,
    course: &Course,
    expect: impl Fn(&Truth) -> Expect,
    dir: &Path,
) -> Result<Option<Place>> {
    let path = dir.join("lying-ledger");
    let _ = std::fs::remove_file(&path);
    let mut ledger = Ledger::create(&path)?;
    records.iter().try_for_each(|record| ledger.append(record))?;
    let mut truth = Truth::of(course.clone());
    truth.watch(&path);
    if truth.refresh().is_err() {
        return Ok(None);
    }
    let grade = oracle::grade(file, &truth, &expect(&truth));
    let Some(place) = grade.place.filter(|_| grade.is_right()) else { return Ok(None) };
    Ok(truth.whole_at(place).is_ok().then_some(place))
}

fn records(dir: &Path) -> Result<Records> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    paths.sort();
    let mut records = Vec::new();
    for path in paths {
        for line in std::fs::read_to_string(path)?.lines() {
            records.push(line.parse().map_err(|_| Failure::Harness(format!("garbled: {line}")))?);
        }
    }
    Ok(records)
}

fn seq_of(record: &Record) -> u64 {
    match record {
        Record::Intent { seq, .. } | Record::Ack { seq, .. } | Record::Event { seq, .. } => *seq,
        Record::Branch { seq, .. } => *seq,
    }
}

fn last(records: &Records) -> u64 {
    records.iter().map(seq_of).max().unwrap_or_default()
}

fn find(records: &Records, wanted: u64) -> Digest {
    let digest = records.iter().find_map(|record| match record {
        Record::Ack { seq, digest, .. } if *seq == wanted => Some(*digest),
        _ => None,
    });
    digest.unwrap_or(Digest([0; 32]))
}

fn digest_of(records: &mut Records, wanted: u64, mut change: impl FnMut(&mut Digest)) {
    for record in records {
        match record {
            Record::Intent { seq, digest, .. } | Record::Ack { seq, digest, .. }
                if *seq == wanted =>
            {
                change(digest);
            }
            _ => (),
        }
    }
}
