//! A sound replica has no findings; each kind of damage has one that names the object.

use super::*;
use crate::model::{Step, Writer};
use crate::name::{Change, Span};
use crate::replica::REPAIR;
use crate::restore::Quiet;
use crate::snapshot::Fork;
use crate::testkit::rig::drilled;

/// Two timelines, a hole where commits were lost at the source, a transaction in parts: commits
/// 1 to 3, 4 in parts, a snapshot that stands for 5, 6 and 7 in one change-set, then timeline 2
/// with 8, 9 and 10.
fn replica() -> Writer {
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(4, 1..=4, 0)).snapshot();
    writer.alone(&Step::fill(4, [2], 2)).alone(&Step::fill(4, [3], 3));
    writer.in_parts(&Step::fill(6, 1..=6, 4), 2, 1);
    writer.resync(&Step::fill(5, 1..=5, 5));
    writer.commit(&Step::fill(5, [1], 6)).commit(&Step::fill(5, [1, 2], 7)).ship();
    writer.fork(7);
    for n in 8..=10 {
        writer.alone(&Step::fill(5, [n - 6], n));
    }
    writer
}

fn findings(writer: &Writer) -> Vec<Finding> {
    verify(&writer.source(), None, &Quiet).unwrap().findings
}

fn keys(writer: &Writer) -> Vec<String> {
    writer.store.objects().keys().cloned().collect()
}

/// Some finding is of this place and speaks of that.
fn found(writer: &Writer, place: &str, what: &str) {
    let findings = findings(writer);
    let one = findings.iter().any(|it| it.where_.contains(place) && it.what.contains(what));
    assert!(one, "{place}, {what:?}: {findings:#?}");
    assert!(findings.iter().all(|it| !it.remedy.is_empty()));
}

#[test]
fn a_sound_replica_has_no_findings() {
    let writer = replica();
    let report = verify(&writer.source(), None, &Quiet).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!(report.objects, writer.store.objects().len() as u64);
    let bytes: usize = writer.store.objects().values().map(Vec::len).sum();
    assert_eq!(report.bytes, bytes as u64);
}

#[test]
fn an_abandoned_branch_and_an_unfinished_transaction_are_no_damage() {
    let mut writer = replica();
    writer.fork(9);
    writer.alone(&Step::fill(5, [1], 20));
    assert_eq!(findings(&writer), [], "10 of timeline 2 is passed over");
    let before = writer.changes().len();
    writer.in_parts(&Step::fill(6, 1..=6, 4), 2, 1);
    let end = writer.changes().split_off(before).pop().unwrap();
    writer.store.objects().remove(&end);
    assert_eq!(findings(&writer), []);
}

/// The replica of above; timeline 3 leaves timeline 1 after commit 3. So a branch has 4 in parts, the
/// snapshot that stands for 5, and so on to commit 10.
fn branched() -> Writer {
    let mut writer = replica();
    writer.fork_of(Timeline(1), 3);
    writer.alone(&Step::fill(4, [2], 30)).alone(&Step::fill(4, [3], 31));
    writer
}

#[test]
fn what_is_lost_of_a_branch_is_missed() {
    let writer = branched();
    assert_eq!(findings(&writer), [], "that there is a branch is no finding");
    let of_branch = |name: &Name| match name {
        Name::Change(change) => change.span.timeline < Timeline(3) && change.span.last.0 > 3,
        Name::Snapshot(span) => span.last.0 > 3,
        Name::Timeline(timeline) => *timeline == Timeline(2),
        Name::Part(_) => false,
    };
    let names = keys(&writer).into_iter().map(|key| key.parse::<Name>().unwrap());
    let mut missed = 0;
    for name in names.filter(of_branch).collect::<Vec<_>>() {
        let Some((place, what)) = missed_as(&name) else { continue };
        let body = writer.store.objects().remove(&name.to_string()).unwrap();
        found(&writer, place, what);
        writer.store.objects().insert(name.to_string(), body);
        missed += 1;
    }
    assert_eq!(missed, 7);
}

/// What the newest timeline and a branch have in common is found once.
#[test]
fn damage_that_a_branch_shares_is_told_once() {
    let (writer, mut other) = (branched(), Writer::new(512));
    other.alone(&Step::fill(4, 1..=4, 99)).snapshot().alone(&Step::fill(4, [2], 2));
    let key = other.changes().remove(1);
    let theirs = other.store.objects()[&key].clone();
    writer.store.objects().insert(key, theirs).unwrap();
    let told: Vec<_> = findings(&writer).into_iter().map(|it| (it.where_, it.what)).collect();
    assert_eq!(told.len(), 2, "it does not fit commit 1, nor 3 it: {told:#?}");
    assert_ne!(told[0], told[1]);
}

/// Sound objects of two branches that say that they go on from another commit than there is.
#[test]
fn what_does_not_belong_to_a_branch_is_found() {
    let (writer, mut other) = (branched(), Writer::new(512));
    other.alone(&Step::fill(4, 1..=4, 99)).snapshot();
    (0..2).for_each(|n| _ = other.alone(&Step::fill(4, [2], n)));
    other.in_parts(&Step::fill(6, 1..=6, 4), 2, 1);
    let foreign = other.changes().split_off(3);
    assert_eq!(foreign.len(), 3, "commit 4 in parts");
    for key in foreign {
        let theirs = other.store.objects()[&key].clone();
        writer.store.objects().insert(key, theirs).unwrap();
    }
    found(&writer, "change/0/0000000000000004", "it does not go on from");
}

/// Found by torture: a record of another replica named a commit just beside the one that the timeline had
/// left. The objects that could have contradicted it were older than the last run, and might have been
/// on their way out.
#[test]
fn a_record_that_its_neighbours_contradict_is_found() {
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(4, 1..=4, 0)).snapshot().alone(&Step::fill(4, [2], 2));
    writer.commit(&Step::fill(4, [2], 3)).commit(&Step::fill(4, [3], 4)).ship();
    writer.fork(4);
    let (parent, commit, chain) = (Timeline(1), CommitNo(4), writer.chains[4]);
    let own = Fork { parent, commit, chain, anew: true, ..Default::default() };
    let foreign = [3, 5].map(|commit| Fork { commit: CommitNo(commit), ..own });
    writer.resync(&Step::fill(4, [3], 5)).alone(&Step::fill(4, [1], 6));
    let older: Vec<Name> = keys(&writer).iter().map(|key| key.parse().unwrap()).collect();
    let older = older.iter().find(|name| matches!(name, Name::Snapshot(span) if span.last.0 == 5));
    writer.store.delete(older.unwrap()).unwrap();
    writer.alone(&Step::fill(4, [2], 7)).snapshot();
    let put = |fork: Fork| {
        let body = fork.encode(Timeline(2), writer.size, writer.now);
        writer.store.objects().insert(Name::Timeline(Timeline(2)).to_string(), body);
    };
    put(own);
    assert!(findings(&writer).iter().all(|it| !it.where_.contains("timeline/")));
    for fork in foreign {
        put(fork);
        found(&writer, "timeline/00000002", "unlike change/0/");
    }
}

/// A timeline that was given up before its first snapshot was finished has nothing to lose.
#[test]
fn a_branch_that_never_had_a_restore_point_is_no_damage() {
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(4, 1..=4, 0)).snapshot().alone(&Step::fill(4, [2], 2));
    writer.fork(2);
    let anew = Fork {
        parent: Timeline(1),
        commit: CommitNo(2),
        chain: writer.chains[2],
        anew: true,
        ..Default::default()
    };
    let record = Name::Timeline(Timeline(2)).to_string();
    let body = anew.encode(Timeline(2), writer.size, writer.now);
    writer.store.objects().insert(record, body);
    // Commit 3 is in no change-set, and 4 has no digest yet.
    let commit = |number, digest| crate::commit::Commit {
        number: CommitNo(number),
        digest,
        pages: 4,
        ..crate::capture::origin()
    };
    let chain = writer.chains[2].after(writer.size, &commit(3, None));
    let mut builder = crate::change::Builder::new(writer.size, chain);
    let page = vec![7; writer.size.bytes()];
    builder.commit(commit(4, None), [(crate::commit::PageNo(2), &page[..])]);
    let (name, body) = builder.encode(Timeline(2), crate::object::Compression::Zstd);
    writer.store.put(&name, &body).unwrap();
    found(&writer, "timeline/00000002", "was not finished");
    writer.fork_of(Timeline(1), 2);
    writer.alone(&Step::fill(4, [2], 9));
    assert_eq!(findings(&writer), []);
    // Nor is it tried: the one finding is that the model's pages are no real database.
    assert_eq!(drilled(&writer.source(), None).findings.len(), 1);
}

#[test]
fn every_object_that_is_damaged_is_named() {
    for writer in [replica(), branched()] {
        every_damage_is_named(&writer);
    }
}

fn every_damage_is_named(writer: &Writer) {
    for key in keys(writer) {
        let whole = writer.store.objects()[&key].clone();
        for at in (0..whole.len()).step_by(37) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x20;
            for body in [flipped, whole[..at].to_vec()] {
                writer.store.objects().insert(key.clone(), body);
                found(writer, &key, "");
            }
        }
        writer.store.objects().insert(key, whole);
    }
    assert_eq!(findings(writer), []);
}

/// Only what was last in a run of commits can go without a trace.
#[test]
fn every_object_that_is_lost_is_missed() {
    let writer = replica();
    let names: Vec<Name> = keys(&writer).iter().map(|key| key.parse().unwrap()).collect();
    for name in names {
        let Some((place, what)) = missed_as(&name) else { continue };
        let body = writer.store.objects().remove(&name.to_string()).unwrap();
        found(&writer, place, what);
        writer.store.objects().insert(name.to_string(), body);
    }
}

/// What the loss of an object looks like; `None` where nobody can tell.
fn missed_as(name: &Name) -> Option<(&'static str, &'static str)> {
    Some(match name {
        Name::Timeline(_) => ("memory", "this object is missing"),
        Name::Part(_) => ("snapshot/", "it needs part/"),
        Name::Snapshot(span) if span.last == CommitNo(1) => ("change/", "commits 1 to 4"),
        Name::Snapshot(_) => ("change/", "commits 6 to 10"),
        Name::Change(Change { part, span, end, .. }) => match span.last.0 {
            // The snapshot of 1 holds it all; 3 and 10 are the last before a hole and of all.
            1 | 10 => return None,
            2 => ("change/", "commits 3 to 4"),
            3 => ("change/", "commits 4 to 4"),
            4 if *end => return None,
            4 if *part < 2 => ("-0002e", "a part before it"),
            7 => ("timeline/00000002", "goes on from commit 7, which is missing"),
            8 => ("change/", "commits 9 to 10"),
            9 => ("change/", "commits 10 to 10"),
            other => panic!("{other} is not expected"),
        },
    })
}

/// Sound objects of another replica with the same names.
#[test]
fn objects_that_do_not_belong_together_are_found() {
    let writer = replica();
    let mut other = Writer::new(512);
    other.alone(&Step::fill(4, 1..=4, 99)).snapshot();
    other.alone(&Step::fill(4, [2], 2)).alone(&Step::fill(4, [3], 3));
    let names: Vec<Name> = keys(&other).iter().map(|key| key.parse().unwrap()).collect();
    for name in names.iter().filter(|name| !matches!(name, Name::Timeline(_) | Name::Part(_))) {
        let theirs = other.store.objects()[&name.to_string()].clone();
        let ours = writer.store.objects().insert(name.to_string(), theirs).unwrap();
        assert!(!findings(&writer).is_empty(), "{name}");
        writer.store.objects().insert(name.to_string(), ours);
    }
    let other = Writer::new(512);
    let mut fork = Fork { parent: Timeline(1), commit: CommitNo(7), ..Default::default() };
    let name = Name::Timeline(Timeline(2));
    let body = fork.encode(Timeline(2), other.size, other.now);
    writer.store.objects().insert(name.to_string(), body);
    found(&writer, "timeline/00000002", "another commit");
    fork.commit = CommitNo(3);
    let body = fork.encode(Timeline(2), other.size, other.now);
    writer.store.objects().insert(name.to_string(), body);
    assert!(!findings(&writer).is_empty());
}

#[test]
fn trap_86_foreign_objects_are_reported() {
    let writer = replica();
    let span = Span {
        first: CommitNo(90),
        last: CommitNo(90),
        time: crate::commit::Time(0),
        timeline: Timeline(2),
    };
    let empty = Name::Change(Change { level: 0, span, part: 0, end: true }).to_string();
    for (key, what) in [
        ("change/0/README", "not an object of ours"),
        ("part/x.tmp", "not an object of ours"),
        (&empty, "it ends too early"),
    ] {
        writer.store.objects().insert(key.into(), Vec::new());
        found(&writer, key, what);
        writer.store.objects().remove(key);
    }
}

#[test]
fn a_deep_check_restores_whatever_else_was_found() {
    let writer = replica();
    let deep = || drilled(&writer.source(), None);
    assert!(deep().findings[0].what.contains("integrity_check"), "it is no real database");
    let branches = drilled(&branched().source(), None);
    let restored = |it: &&Finding| it.what.contains("integrity_check");
    assert_eq!(branches.findings.iter().filter(restored).count(), 2, "and the branch");
    writer.store.objects().insert("change/0/README".into(), Vec::new());
    assert_eq!(deep().findings.len(), 2);
}

#[test]
fn a_replica_of_a_newer_format_is_not_judged() {
    let writer = replica();
    let name = writer.changes().remove(0);
    {
        let mut objects = writer.store.objects();
        let body = objects.get_mut(&name).unwrap();
        body[8] = 2;
        let end = body.len() - 32;
        let hash = blake3::hash(&body[..end]);
        body[end..].copy_from_slice(hash.as_bytes());
    }
    assert_eq!(verify(&writer.source(), None, &Quiet).unwrap_err().status, Status::Newer);
}

#[test]
fn an_empty_place_holds_no_replica() {
    let writer = Writer::new(512);
    assert_eq!(findings(&writer)[..], [], "a timeline alone is a replica that just began");
    writer.store.objects().clear();
    assert_eq!(verify(&writer.source(), None, &Quiet).unwrap_err().status, Status::Missing);
}

/// Two copies that are each sound, and not the same.
/// A script tells a destination that is away, or a key that is wanted, from damage.
#[test]
fn what_keeps_a_copy_from_being_looked_at_is_no_damage() {
    let failed = |status| Report::failed("m".into(), &Error::new(status, "list", "m", "no"));
    for status in [Status::Missing, Status::Unreachable, Status::Integrity] {
        assert_eq!(failed(status).status(), Some(status));
    }
    let mut report = verify(&replica().source(), None, &Quiet).unwrap();
    assert_eq!(report.status(), None);
    report.findings = failed(Status::Missing).findings;
    assert_eq!(report.status(), Some(Status::Integrity), "found in what was looked at");
    report.closed = Some(KeyId([7; 8]));
    assert_eq!(report.status(), Some(Status::Key));
    report.findings.extend(failed(Status::Missing).findings);
    assert_eq!(report.status(), Some(Status::Integrity), "a key is not all that is wanted");
}

#[test]
fn what_two_copies_say_differently_under_one_name_is_found() {
    let report = |writer: &Writer| verify(&writer.source(), None, &Quiet).unwrap();
    let differing = |one: &Writer, other: &Writer| {
        let copies = [("one".to_owned(), &report(one)), ("two".to_owned(), &report(other))];
        compare(&copies).into_iter().map(|it| it.where_).collect::<Vec<_>>()
    };
    let one = replica();
    assert!(differing(&one, &replica()).is_empty());
    let mut shorter = replica();
    let last = shorter.changes().pop().unwrap();
    shorter.store.objects().remove(&last);
    assert!(differing(&one, &shorter).is_empty(), "it is only behind");
    // The same name and time, another page.
    shorter = self::replica();
    shorter.fork(10);
    shorter.alone(&Step::fill(5, [1], 11));
    let mut longer = self::replica();
    longer.fork(10);
    longer.alone(&Step::fill(5, [2], 12));
    let key = longer.changes().pop().unwrap();
    assert_eq!(differing(&shorter, &longer), [format!("two/{key}")]);
    // Where the timeline itself is another one, that is told, and no more.
    let mut later = self::replica();
    later.now.0 += 1;
    later.fork(10);
    later.now.0 -= 1;
    later.alone(&Step::fill(5, [2], 12));
    assert_eq!(differing(&shorter, &later), ["two/timeline/00000003"]);
}

/// Found by trying it: the remedy was to repair the replica, which is sound.
#[test]
fn a_database_that_was_corrupt_when_it_was_committed_is_no_damage_of_the_replica() {
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(4, 1..=4, 1)).snapshot();
    let report = drilled(&writer.source(), None);
    let [finding] = &report.findings[..] else { panic!("{report:?}") };
    assert!(finding.what.starts_with("commit 1: integrity_check: "), "{finding:?}");
    assert!(!finding.what.contains("/tmp") && !finding.remedy.contains("repair"), "{finding:?}");
    assert!(finding.remedy.contains("restore --check full"), "{finding:?}");
    assert_eq!(report.status(), Some(Status::Integrity));
}

/// Found by trying it: what was away, or had been asked for something else, was said to be damaged.
#[test]
fn what_became_of_a_replica_is_said_as_it_is() {
    let failed = |status| {
        Report::failed("there".into(), &Error::new(status, "open", "there", "x"))
            .verdict()
            .to_owned()
    };
    assert_eq!(failed(Status::Unreachable), "cannot be reached");
    assert_eq!(failed(Status::Missing), "no replica is there");
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(4, 1..=4, 1)).snapshot();
    let verdict = |writer: &Writer, question: Option<(&str, &str)>| {
        let question =
            question.map(|(sql, expect)| Question { sql: sql.into(), expect: Some(expect.into()) });
        let report = match &question {
            Some(_) => drilled(&writer.source(), question.as_ref()),
            None => verify(&writer.source(), None, &Quiet).unwrap(),
        };
        report.verdict().to_owned()
    };
    assert_eq!(verdict(&writer, None), "whole");
    assert_eq!(verdict(&writer, Some(("SELECT 1", "1"))), "whole but its database is corrupt");
    let key = crate::seal::Key::new(&zeroize::Zeroizing::new([7; 32]));
    for (name, body) in writer.store.objects().iter_mut() {
        *body = key.seal(&name.parse().unwrap(), body);
    }
    assert_eq!(verdict(&writer, None), "sealed and its key was not given");
    for body in writer.store.objects().values_mut() {
        body[40] ^= 1;
    }
    assert_eq!(verdict(&writer, None), "damaged");
}

/// A drill: the application's own question, put to what came back.
#[test]
fn a_question_is_answered_by_the_restored_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = rusqlite::Connection::open(&path).unwrap();
    app.execute_batch(
        "PRAGMA journal_mode = WAL; CREATE TABLE t(n, x); INSERT INTO t VALUES (1, 'a'), (2, NULL);
         PRAGMA wal_checkpoint(TRUNCATE)",
    )
    .unwrap();
    let mut writer = Writer::new(4096);
    writer.import(&std::fs::read(&path).unwrap()).snapshot();
    let ask = |sql: &str, expect: Option<&str>| {
        let question = Question { sql: sql.into(), expect: expect.map(str::to_owned) };
        let report = drilled(&writer.source(), Some(&question));
        assert!(report.restored.is_some(), "{report:?}");
        let verdict = report.verdict();
        let found: Vec<String> = report.findings.iter().map(|it| it.what.clone()).collect();
        let expected = match (found.is_empty(), report.answer.is_some()) {
            (true, _) => "whole",
            (false, true) => "whole but its answer is another",
            (false, false) => "whole but the question failed",
        };
        assert_eq!(verdict, expected);
        (report.answer, found.join("; "))
    };
    let says = |answer: &str| (Some(answer.to_owned()), String::new());
    assert_eq!(ask("SELECT count(*) FROM t", Some("2")), says("2"));
    assert_eq!(ask("SELECT n, x FROM t ORDER BY n", Some("1|a\n2|")), says("1|a\n2|"));
    assert_eq!(ask("SELECT n FROM t WHERE n > 5", None), says(""));
    assert_eq!(ask("SELECT 1.5, x'41', -3", None), says("1.5|A|-3"));
    let wrong = |sql: &str, expect, cause: &str| {
        let (_, found) = ask(sql, expect);
        assert_eq!(found, format!("{sql}: {cause}"));
    };
    wrong("SELECT max(n) FROM t", Some("3"), "it gives \"2\", not \"3\"");
    wrong("SELECT n FROM gone", None, "no such table: gone");
    wrong("SELECT printf('%5000d', 1)", None, "it gives more than 4096 bytes");
    wrong("DELETE FROM t RETURNING n", None, "it is no SELECT");
    wrong("PRAGMA user_version = 3", None, "it is no SELECT");
}

/// A store that lets nobody read, or a file of somebody else, was a damaged replica, to be repaired.
#[test]
fn what_may_not_be_read_is_not_damaged() {
    use crate::backend::faulty::{Fault, Faulty, Operation};
    for fault in [Fault::Denied, Fault::Refused] {
        let writer = branched();
        let objects = writer.store.objects().len() as u64;
        for nth in 0..=objects {
            let faulty = Arc::new(Faulty::new(writer.source()));
            match nth {
                0 => faulty.fail_all(Operation::Get, fault),
                nth => faulty.fail(Operation::Get, nth, fault),
            }
            let source = Arc::clone(&faulty) as Arc<dyn Backend>;
            let report = verify(&source, None, &Quiet).unwrap();
            assert_eq!(report.status(), Some(Status::Unreachable), "{nth}: {report:#?}");
            assert_eq!(report.verdict(), "not all of it could be read");
            assert!(report.findings.iter().all(|it| it.remedy != REPAIR), "{report:#?}");
        }
        let source = Arc::new(Faulty::new(writer.source()));
        source.fail_all(Operation::Get, fault);
        let deep = drilled(&(source as Arc<dyn Backend>), None);
        assert_eq!(deep.status(), Some(Status::Unreachable), "{deep:#?}");
    }
}
