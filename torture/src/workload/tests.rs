use super::*;
use crate::course::{Course, Place};
use crate::ledger::Truth;
use crate::oracle::{self, Expect, Violation};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// A database with a ledger, and copies of it at any moment: what a right restore would give.
struct Bench {
    dir: tempfile::TempDir,
    workload: Workload,
    truth: Truth,
}

fn bench(setup: &Setup) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let ledger = Ledger::create(&path).unwrap();
    let workload = Workload::create(&dir.path().join("db"), setup, ledger).unwrap();
    let mut truth = Truth::default();
    truth.watch(&path);
    Bench { dir, workload, truth }
}

impl Bench {
    fn commits(&mut self, number: u64) -> u64 {
        (0..number).map(|_| self.workload.commit().unwrap()).last().unwrap()
    }

    fn copy(&mut self) -> PathBuf {
        let seq = self.workload.present().unwrap();
        let dir = self.dir.path().join(format!("copy-{seq}"));
        std::fs::create_dir_all(&dir).unwrap();
        let copy = dir.join("restored");
        let _ = std::fs::remove_file(&copy);
        self.workload.db.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        self.truth.refresh().unwrap();
        copy
    }

    fn grade(&mut self, expect: &Expect) -> oracle::Grade {
        let copy = self.copy();
        oracle::grade(&copy, &self.truth, expect)
    }
}

/// A commit of a history that has not forked.
fn here(seq: u64) -> Option<Place> {
    Some(Course::default().here(seq))
}

/// Changes a copy behind its back and says what the oracle makes of it.
fn tampered(sql: &str) -> Vec<Violation> {
    let mut bench = bench(&Setup::from_seed(3));
    bench.commits(30);
    let copy = bench.copy();
    let db = Connection::open(&copy).unwrap();
    db.execute_batch(sql).unwrap();
    drop(db);
    oracle::grade(&copy, &bench.truth, &Expect::default()).violations
}

#[test]
fn copies_are_right_at_every_commit_and_every_shape() {
    for seed in 0..16 {
        let setup = Setup::from_seed(seed);
        let mut bench = bench(&setup);
        for _ in 0..20 {
            let seq = bench.commits(4);
            let grade =
                bench.grade(&Expect { floor: here(seq), exactly: here(seq), ..Expect::default() });
            assert_eq!(grade, oracle::Grade { place: here(seq), violations: vec![] }, "{setup:?}");
        }
    }
}

#[test]
fn sums_kept_up_equal_those_of_the_tables_over_every_operation() {
    for seed in 0..8 {
        let mut workload = bench(&Setup { fts: true, ..Setup::from_seed(seed) }).workload;
        for _ in 0..300 {
            let seq = workload.commit().unwrap();
            workload.prove_sums(seq).unwrap();
        }
    }
}

#[test]
fn vacuum_and_rollback_change_no_content() {
    let mut bench = bench(&Setup { fts: true, ..Setup::from_seed(6) });
    bench.commits(100);
    let before = bench.workload.digest().unwrap();
    bench.workload.roll_back().unwrap();
    bench.workload.vacuum().unwrap();
    bench.workload.checkpoint("TRUNCATE").unwrap();
    assert_eq!(bench.workload.digest().unwrap(), before);
    bench.truth.refresh().unwrap();
    for event in ["rollback", "vacuum", "checkpoint-TRUNCATE-done"] {
        assert_eq!(bench.truth.events(event), 1, "{event}");
    }
}

#[test]
fn trap_100_an_older_or_foreign_database_passes_integrity_check_and_is_rejected() {
    let mut bench = bench(&Setup::from_seed(4));
    let old = bench.commits(10);
    let copy = bench.copy();
    let new = bench.commits(10);
    bench.truth.refresh().unwrap();
    let floor = Expect { floor: here(new), ..Expect::default() };
    let violations = oracle::grade(&copy, &bench.truth, &floor).violations;
    assert_eq!(violations, [Violation::BelowFloor { seq: old, floor: new }]);

    let mut foreign = self::bench(&Setup::from_seed(12));
    foreign.commits(10);
    let violations = oracle::grade(&foreign.copy(), &bench.truth, &Expect::default()).violations;
    assert!(matches!(violations[..], [Violation::Digest { .. }]), "{violations:?}");
}

#[test]
fn trap_101_a_value_that_looks_alike_is_rejected() {
    for sql in [
        "REPLACE INTO odd VALUES (1, NULL, NULL)",
        "UPDATE tally SET id = 2",
        "UPDATE sqlite_sequence SET seq = seq + 1",
        "UPDATE heap SET rowid = rowid + 1000 WHERE rowid = (SELECT max(rowid) FROM heap)",
        "CREATE TABLE more(x)",
        "PRAGMA user_version = -7",
    ] {
        let violations = tampered(sql);
        assert!(matches!(violations[..], [Violation::Digest { .. }]), "{sql}: {violations:?}");
    }
}

#[test]
fn a_hole_and_a_row_from_the_future_are_rejected() {
    for sql in ["DELETE FROM log WHERE seq = 7", "INSERT INTO log VALUES (31, 0, '')"] {
        let violations = tampered(sql);
        assert!(matches!(violations[0], Violation::Log { .. }), "{sql}: {violations:?}");
    }
    let violations = tampered("UPDATE mark SET seq = 31; INSERT INTO log VALUES (31, 0, '')");
    assert!(violations.contains(&Violation::NeverMade(31)), "{violations:?}");
}

#[test]
fn a_damaged_page_is_rejected() {
    let mut bench = bench(&Setup::from_seed(3));
    bench.commits(60);
    let copy = bench.copy();
    let bytes = std::fs::read(&copy).unwrap();
    let page = Setup::from_seed(3).page_size as usize;
    for number in 1..bytes.len() / page {
        let mut damaged = bytes.clone();
        damaged[number * page..][..page / 2].fill(0x5a);
        std::fs::write(&copy, &damaged).unwrap();
        let grade = oracle::grade(&copy, &bench.truth, &Expect::default());
        assert!(!grade.is_right(), "page {}", number + 1);
    }
    for bytes in [&bytes[..page * 2], &bytes[..100], b""] {
        std::fs::write(&copy, bytes).unwrap();
        assert!(!oracle::grade(&copy, &bench.truth, &Expect::default()).is_right());
    }
}

#[test]
fn places_in_time_are_held_to() {
    let mut bench = bench(&Setup::from_seed(1));
    let early = Micros::now();
    let seq = bench.commits(5);
    let late = Some(Micros(Micros::now().0 + 1000));
    let expect = |expect: Expect, bench: &mut Bench| bench.grade(&expect).violations;
    let none = Expect::default();
    assert!(expect(Expect { until: late, ..none }, &mut bench).is_empty());
    let early = Some(Micros(early.0 - 2000));
    let future = expect(Expect { until: early, ..none }, &mut bench);
    assert!(matches!(future[..], [Violation::Future { seq: 5, .. }]), "{future:?}");
    let before = seq + 1;
    let back = expect(Expect { after: here(before), ..none }, &mut bench);
    assert_eq!(back, [Violation::WentBack { seq, before }]);
    let short = expect(Expect { exactly: here(before), ..none }, &mut bench);
    assert_eq!(short, [Violation::NotExact { seq, wanted: before }]);
}

#[test]
fn trap_102_grading_changes_nothing_and_heals_nothing() {
    let mut bench = bench(&Setup::from_seed(2));
    bench.commits(10);
    // A file that still says WAL in its header, as a restore leaves it, with a WAL beside it whose
    // recovery would bring it to another commit.
    let dir = bench.dir.path().join("graded");
    std::fs::create_dir(&dir).unwrap();
    let (live, file) = (bench.dir.path().join("db"), dir.join("restored"));
    bench.workload.checkpoint("TRUNCATE").unwrap();
    bench.commits(3);
    std::fs::copy(&live, &file).unwrap();
    std::fs::copy(live.with_file_name("db-wal"), dir.join("restored-wal")).unwrap();
    bench.truth.refresh().unwrap();
    let before = std::fs::read(&file).unwrap();
    let grade = oracle::grade(&file, &bench.truth, &Expect::default());
    assert_eq!(grade.seq(), Some(10));
    assert_eq!(grade.violations, [Violation::Litter("restored-wal".into())]);
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let names: BTreeSet<_> =
        std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, BTreeSet::from(["restored".into(), "restored-wal".into()]));
}

/// A copy of the database as it is now, to be written to on a branch of its own.
fn branch(bench: &mut Bench, number: u32) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let (db, ledger) = (dir.path().join("db"), dir.path().join("ledger"));
    bench.workload.checkpoint("TRUNCATE").unwrap();
    std::fs::copy(bench.dir.path().join("db"), &db).unwrap();
    bench.truth.watch(&ledger);
    let mut truth = Truth::default();
    truth.watch(&bench.dir.path().join("ledger"));
    truth.watch(&ledger);
    let setup = Setup::from_seed(9);
    let ledger = Ledger::create(&ledger).unwrap();
    let mut workload = Workload::open(&db, &setup, ledger, 0, number.into()).unwrap();
    workload.enter(number, Some(0)).unwrap();
    Bench { dir, workload, truth }
}

#[test]
fn trap_52_of_a_forked_history_each_branch_is_right_in_its_turn_and_no_other() {
    let mut main = bench(&Setup::from_seed(9));
    let fork = main.commits(10);
    let mut other = branch(&mut main, 1);
    let (old, new) = (main.commits(6), other.commits(4));
    let (first, second) = (main.copy(), other.copy());
    let truth = &mut main.truth;
    truth.refresh().unwrap();
    let grade = |truth: &Truth, file: &PathBuf, expect: Expect| oracle::grade(file, truth, &expect);
    let none = Expect::default();
    // Before its turn has come, nothing of a branch can be there.
    assert!(grade(truth, &first, none).is_right());
    let early = grade(truth, &second, none).violations;
    assert!(matches!(early[..], [Violation::Digest { .. }]), "{early:?}");

    let before = truth.course.here(old);
    truth.course.turn(1, fork);
    let here = truth.course.here(new);
    assert_eq!(grade(truth, &first, none).place, Some(before));
    assert_eq!(grade(truth, &second, none).place, Some(here));
    // It has fewer commits, and comes after all the same.
    let after = Expect { floor: Some(before), exactly: Some(here), after: Some(before), ..none };
    assert!(grade(truth, &second, after).is_right());
    let back = grade(truth, &first, Expect { floor: Some(here), ..none }).violations;
    assert_eq!(back, [Violation::BelowFloor { seq: old, floor: new }]);
    let back = grade(truth, &first, Expect { after: Some(here), ..none }).violations;
    assert_eq!(back, [Violation::WentBack { seq: old, before: new }]);
    let wanted = Place { seq: new, ..before };
    let wrong = grade(truth, &second, Expect { exactly: Some(wanted), ..none }).violations;
    assert_eq!(wrong, [Violation::WrongBranch(new)]);
}

#[test]
fn trap_36_a_database_leaves_wal_mode_and_comes_back_in_another_shape() {
    let mut bench = bench(&Setup::from_seed(3));
    bench.commits(10);
    bench.workload.leave_wal().unwrap();
    assert!(bench.workload.return_to_wal().is_ok() && bench.workload.reshape(512).is_err());
    bench.workload.leave_wal().unwrap();
    bench.commits(3);
    bench.workload.reshape(512).unwrap();
    bench.workload.return_to_wal().unwrap();
    bench.commits(3);
    assert!(bench.grade(&Expect { exactly: here(16), ..Expect::default() }).is_right());
    for (event, times) in [("wal-left", 2), ("wal-entered", 2), ("page-size-changed", 1)] {
        assert_eq!(bench.truth.events(event), times, "{event}");
    }
}

#[test]
fn several_writers_share_one_sequence() {
    let mut bench = bench(&Setup::from_seed(9));
    let mut peers: Vec<_> = (1..=2)
        .map(|writer| {
            let ledger = bench.dir.path().join(format!("ledger-{writer}"));
            bench.truth.watch(&ledger);
            let ledger = Ledger::create(&ledger).unwrap();
            let db = bench.dir.path().join("db");
            Workload::open(&db, &Setup::from_seed(9), ledger, writer, 0).unwrap()
        })
        .collect();
    for round in 0..60 {
        assert_eq!(peers[round % 2].commit().unwrap(), 2 * round as u64 + 1);
        assert_eq!(bench.workload.commit().unwrap(), 2 * round as u64 + 2);
    }
    assert!(bench.grade(&Expect { exactly: here(120), ..Expect::default() }).is_right());
}
