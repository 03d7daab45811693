use super::*;
use crate::commit::{CommitNo, Digest, PageNo, Time, Timeline};
use crate::error::Status;
use crate::list::{Object, Range};
use crate::name::{Change, Name, Part, Span};
use crate::object::{KeyId, Seal};
use crate::status::{Counts, DestinationStatus, Status as Standing};
use crate::verify::{self, Finding};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

const TIME: Time = Time(1_763_906_400_123);
const SHOWN: &str = "2025-11-23T14:00:00.123Z";

fn same(document: &impl Document, expected: &Value) {
    assert_eq!(serde_json::to_value(document).unwrap(), *expected);
}

fn restored() -> restore::Report {
    restore::Report {
        commit: CommitNo(7),
        time: TIME,
        timeline: Timeline(2),
        digest: Digest(0xabc),
        page_size: 4096,
        pages: 256,
        bytes: 3 << 20,
        objects: 12,
        seconds: 0.412_345,
        rewritten: None,
        passed_over: Vec::new(),
    }
}

fn facts() -> Value {
    json!({
        "commit": 7, "time": SHOWN, "timeline": 2, "digest": "00000000000000000000000000000abc",
        "page_size": 4096, "pages": 256, "bytes": 3 << 20, "objects": 12, "seconds": 0.412,
    })
}

#[test]
fn restore_says_where_it_landed() {
    let mut options = restore::Options {
        output: Path::new("/tmp/app.db"),
        target: restore::Target::Latest,
        timeline: None,
        check: restore::Check::Quick,
        force: false,
        dry_run: false,
    };
    let document = Restored::new(&restored(), &options, &[]);
    let mut expected = facts();
    for (key, value) in [
        ("schema", json!(1)),
        ("checked", json!("quick")),
        ("output", json!("/tmp/app.db")),
        ("existed", json!(false)),
        ("dry_run", json!(false)),
        ("fallbacks", json!([])),
        ("passed_over", json!([])),
    ] {
        expected[key] = value;
    }
    same(&document, &expected);
    let fallback = crate::copies::Fallback {
        object: Name::Timeline(Timeline(3)),
        from: "file:///two".into(),
        why: "its hash is wrong".into(),
    };
    expected["fallbacks"] = json!([
        {"object": "timeline/00000003", "from": "file:///two", "why": "its hash is wrong"},
    ]);
    same(&Restored::new(&restored(), &options, &[fallback]), &expected);
    assert_eq!(
        document.text(),
        format!(
            "restored /tmp/app.db\n  \
             commit 7 of {SHOWN}, timeline 2\n  \
             digest 00000000000000000000000000000abc, 1.0 MiB in 256 pages of 4096\n  \
             3.0 MiB read from 12 objects in 0.41 s\n  \
             SQLite's quick check passed\n"
        )
    );
    let span = Span { first: CommitNo(5), last: CommitNo(6), time: TIME, timeline: Timeline(2) };
    let snapshot = Name::Snapshot(span);
    let why = "it lacks a part".to_owned();
    let passed_over = vec![restore::PassedOver { object: snapshot.clone(), why }];
    let report = restore::Report { passed_over, ..restored() };
    expected["fallbacks"] = json!([]);
    expected["passed_over"] = json!([{"object": snapshot.to_string(), "why": "it lacks a part"}]);
    same(&Restored::new(&report, &options, &[]), &expected);
    let updated = restore::Report { rewritten: Some(3), ..restored() };
    let document = Restored::new(&updated, &options, &[]);
    assert_eq!(serde_json::to_value(&document).unwrap()["rewritten"], 3);
    assert!(document.text().contains(" objects in 0.41 s, 3 pages rewritten\n"));
    options.dry_run = true;
    let text = Restored::new(&restored(), &options, &[]).text();
    assert!(text.starts_with("would restore /tmp/app.db\n"), "{text}");
    assert!(!text.contains("passed"), "nothing was checked: {text}");
    assert!(!text.contains("objects"), "nothing was read: {text}");
}

#[test]
fn restore_says_that_it_left_a_file_alone() {
    let document = Untouched::new(Path::new("/tmp/app.db"));
    same(&document, &json!({ "schema": 1, "output": "/tmp/app.db", "existed": true }));
    assert_eq!(document.text(), "/tmp/app.db exists, nothing was restored\n");
}

#[test]
fn list_shows_ranges_with_their_density() {
    let range = |first, last, points| Range {
        first: CommitNo(first),
        last: CommitNo(last),
        from: TIME,
        to: TIME,
        timeline: Timeline(1),
        points,
        branch: false,
    };
    let document = Points::new(&[range(1, 10, 10), range(11, 100, 9)]);
    let point = |first, last, density: Value| {
        json!({ "first": first, "last": last, "from": SHOWN, "to": SHOWN, "timeline": 1,
                "density": density, "branch": false })
    };
    let points = [point(1, 10, json!("all")), point(11, 100, json!(9))];
    same(&document, &json!({ "schema": 1, "points": points }));
    let lines: Vec<String> = document.text().lines().map(str::to_owned).collect();
    let row = format!("11     100   {SHOWN}  {SHOWN}  1         9");
    assert_eq!(
        lines[0],
        "FIRST  LAST  FROM                      TO                        TIMELINE  \
         DENSITY"
    );
    assert_eq!(lines[2], row);
    same(&Points::new(&[]), &json!({ "schema": 1, "points": [] }));
}

#[test]
fn list_shows_branches_apart_and_how_to_restore_them() {
    let range = |first, last, timeline, branch| Range {
        first: CommitNo(first),
        last: CommitNo(last),
        from: TIME,
        to: TIME,
        timeline: Timeline(timeline),
        points: last - first + 1,
        branch,
    };
    let document = Points::new(&[range(1, 10, 2, false), range(5, 7, 1, true)]);
    let json = serde_json::to_value(&document).unwrap();
    let marks =
        |at: usize| (json["points"][at]["branch"].clone(), json["points"][at]["last"].clone());
    assert_eq!([marks(0), marks(1)], [(json!(false), json!(10)), (json!(true), json!(7))]);
    let text = document.text();
    let (points, branches) = text.split_once("\nabandoned branches:\n").unwrap();
    assert_eq!((points.lines().count(), branches.lines().count()), (2, 3), "{text}");
    assert!(branches.lines().nth(1).unwrap().starts_with("5      7  "), "{text}");
    assert!(text.ends_with("bakelite restore --output FILE --commit 7 --timeline 1\n"), "{text}");
    let command = text.lines().last().unwrap().split_once(": bakelite ").unwrap().1;
    let asked = crate::cli::parse(command.split(' ').map(std::ffi::OsString::from));
    assert!(matches!(asked, Ok(crate::cli::Asked::Run(_))), "{asked:?}");
}

#[test]
fn list_shows_objects_by_what_their_names_say() {
    let span = Span { first: CommitNo(1), last: CommitNo(9), time: TIME, timeline: Timeline(3) };
    let change = Name::Change(Change { level: 0, span, part: 0, end: true });
    let part = Name::Part(Part { page: PageNo(1), hash: 5 });
    let names = [Name::Timeline(Timeline(3)), Name::Snapshot(span), part, change];
    let seals = [Seal::None, Seal::Under(KeyId([1; 8])), Seal::Unknown, Seal::None];
    let mut seals = seals.into_iter();
    let objects =
        names.clone().map(|name| Object { name, bytes: 100, seal: seals.next().unwrap() });
    let sealed = [json!(false), json!(true), Value::Null, json!(false)];
    let keys = [Value::Null, json!("0101010101010101"), Value::Null, Value::Null];
    let object = |at: usize, span: bool, timeline: Option<u32>| {
        let when = |value: Value| if span { value } else { Value::Null };
        json!({ "name": names[at].to_string(), "kind": names[at].kind(), "first": when(json!(1)),
                "last": when(json!(9)), "time": when(json!(SHOWN)), "timeline": timeline,
                "bytes": 100, "sealed": sealed[at], "key": keys[at] })
    };
    let expected = [
        object(0, false, Some(3)),
        object(1, true, Some(3)),
        object(2, false, None),
        object(3, true, Some(3)),
    ];
    same(&Objects::new(&objects), &json!({ "schema": 1, "objects": expected }));
    let text = Objects::new(&objects[..3]).text();
    let lines = [
        "timeline/00000003".to_owned(),
        format!("{}  0101010101010101", names[1]),
        format!("{}  ?", names[2]),
    ];
    assert_eq!(text, lines.map(|line| format!("         100  {line}\n")).concat());
}

fn standing() -> Standing {
    let destination = |url: &str, floor, error: Option<&str>| DestinationStatus {
        verified: Default::default(),
        url: url.into(),
        standing: "current".into(),
        floor,
        behind_commits: 3,
        lag: error.map(|_| std::time::Duration::from_millis(65_250)),
        error: error.map(str::to_owned),
    };
    Standing {
        name: "app".into(),
        path: "/a/app.db".into(),
        state: "running".into(),
        commit: Some((CommitNo(7), TIME)),
        wal_frames: 4,
        counts: Counts {
            resyncs: 1,
            resync_pages: 2,
            resync_bytes: 3072,
            timelines: 4,
            ..Counts::default()
        },
        comparing: None,
        spool_bytes: 2048,
        key: None,
        destinations: vec![
            destination("file:///m/app", Some((CommitNo(4), TIME)), None),
            destination("file:///n/app", None, Some("put: full")),
        ],
    }
}

#[test]
fn status_shows_each_destination() {
    let document = Standings::new(&[standing()]);
    let expected = json!({ "schema": 1, "databases": [{
        "name": "app", "path": "/a/app.db", "state": "running", "commit": 7, "time": SHOWN,
        "wal_frames": 4, "missed": 0, "resyncs": 1, "resync_pages": 2, "resync_bytes": 3072,
        "divergences": 0, "timelines": 4, "fences": 0, "comparing": null, "spool_bytes": 2048,
        "key": null, "destinations": [
            { "url": "file:///m/app", "standing": "current", "floor": 4, "floor_time": SHOWN,
              "behind_commits": 3, "lag_seconds": null, "verified_time": null,
              "verified_deep_time": null, "error": null },
            { "url": "file:///n/app", "standing": "current", "floor": null, "floor_time": null,
              "behind_commits": 3, "lag_seconds": 65.25, "verified_time": null,
              "verified_deep_time": null, "error": "put: full" },
        ],
    }]});
    same(&document, &expected);
    let healing = Standing { comparing: Some((7, 10)), ..standing() };
    let text = Standings::new(&[healing]).text();
    assert!(text.contains("\n  comparing page 7 of 10\n"), "{text}");
    let sealed = Standing { key: Some("a6012c0a03700252".into()), ..standing() };
    let text = Standings::new(&[sealed]).text();
    assert!(text.contains("\n  sealed under key a6012c0a03700252\n"), "{text}");
    let counts = Counts { divergences: 2, ..Counts::default() };
    let text = Standings::new(&[Standing { counts, ..standing() }]).text();
    assert!(text.contains("\n  2 times not what was captured"), "{text}");
    assert_eq!(
        document.text(),
        format!(
            "app (/a/app.db): running, commit 7 of {SHOWN}\n  WAL 4 frames, missed 0, resyncs 1 \
             (3.0 KiB), spool 2.0 KiB\n  file:///m/app: current, commit 4 of {SHOWN}, 3 behind\n  \
             file:///n/app: current, no commit, 3 behind for 1m05s\n    last error: put: full\n"
        )
    );
}

#[test]
fn verify_is_ok_only_without_findings() {
    let finding = Finding {
        status: Some(crate::error::Status::Integrity),
        what: "a gap".into(),
        where_: "commit 5".into(),
        remedy: "do so".into(),
    };
    let checked = |findings, restored| Checked {
        source: "file:///m/app".into(),
        report: verify::Report {
            objects: 2,
            bytes: 50,
            findings,
            restored,
            answer: None,
            closed: None,
            failed: None,
            database: vec![],
            sound: BTreeMap::new(),
        },
    };
    let whole = Verified::new(&[checked(vec![], Some(restored()))], &[]);
    assert!(whole.ok());
    let replica = |ok: bool, restored: Value| {
        let verdict = if ok { "whole" } else { "damaged" };
        json!({ "source": "file:///m/app", "ok": ok, "verdict": verdict, "objects": 2, "bytes": 50,
                "restored": restored })
    };
    let expected = json!({ "schema": 1, "ok": true, "objects": 2, "bytes": 50, "findings": [],
                           "replicas": [replica(true, facts())] });
    same(&whole, &expected);
    let damaged =
        Verified::new(&[checked(vec![], None), checked(vec![finding.clone()], None)], &[]);
    assert!(!damaged.ok());
    let expected = json!({ "schema": 1, "ok": false, "objects": 4, "bytes": 100,
        "findings": [{ "what": "a gap", "where": "commit 5", "remedy": "do so" }],
        "replicas": [replica(true, Value::Null), replica(false, Value::Null)] });
    same(&damaged, &expected);
    assert!(!Verified::new(&[checked(vec![], None)], &[finding]).ok(), "two of one name differ");
    let text = damaged.text();
    assert!(text.starts_with("commit 5: a gap\n  do so\n"), "{text}");
    assert!(text.ends_with("file:///m/app: damaged, 2 objects, 50 B\n"), "{text}");
}

#[test]
fn repair_is_ok_once_nothing_is_left_that_does_harm() {
    use crate::repair::Outcome::{Curable, Harmless, Healed, Hurt};
    let said = |outcome| {
        let (what, where_, remedy) = ("torn".into(), "file:///m/x".into(), "do so".into());
        let finding = crate::repair::Finding { what, where_, remedy, outcome };
        let findings = vec![finding];
        let report =
            crate::repair::Report { objects: 2, bytes: 50, findings, wants_snapshot: false };
        Repaired::new(&[report], &[], outcome == Curable)
    };
    for (outcome, word, ok, silent, healed) in [
        (Healed, "healed", true, false, 1),
        (Curable, "curable", false, false, 0),
        (Hurt, "hurt", false, false, 0),
        (Harmless, "harmless", true, true, 0),
    ] {
        let document = said(outcome);
        assert_eq!((document.ok(), document.is_silent()), (ok, silent), "{word}");
        let expected = json!({
            "schema": 1, "ok": ok, "dry_run": outcome == Curable, "objects": 2, "bytes": 50,
            "healed": healed, "findings": [
                {"what": "torn", "where": "file:///m/x", "remedy": "do so", "outcome": word},
            ],
        });
        same(&document, &expected);
    }
    let text = said(Hurt).text();
    assert_eq!(text, "file:///m/x: torn\n  do so\n2 objects, 50 B: 0 healed, 1 left\n");
}

#[test]
fn a_failure_has_its_status_and_kind() {
    let error = Error::new(Status::Integrity, "restore", "x", "a gap");
    let check = |error: &Error, expected: Value| {
        let line = failure(error);
        assert_eq!(line.lines().count(), 1);
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), expected);
    };
    let body = |hint: Value| {
        json!({ "schema": 1, "error": { "status": 4, "kind": "integrity",
                "message": "restore: x: a gap", "hint": hint } })
    };
    check(&error, body(Value::Null));
    check(&error.hint("do \"so\""), body(json!("do \"so\"")));
}

#[test]
fn findings_say_what_where_and_the_remedy() {
    let finding = crate::check::Finding::new(Status::Stale, "no daemon watches it", "/a/app.db");
    let findings = [finding.remedy("start it: bakelite daemon")];
    let document = Findings::new(&findings, &[]);
    let expected = json!({
        "schema": 1, "ok": false, "findings": [{
            "what": "no daemon watches it", "where": "/a/app.db",
            "remedy": "start it: bakelite daemon", "kind": "stale",
        }],
    });
    same(&document, &expected);
    assert_eq!(document.text(), "/a/app.db: no daemon watches it\n  start it: bakelite daemon\n");
    let warning = crate::check::Finding::warning("hot", "/a").remedy("cool it");
    let document = Findings::new(&[warning], &[("/a".into(), "there".into())]);
    let expected = json!({
        "schema": 1, "ok": true,
        "findings": [{ "what": "hot", "where": "/a", "remedy": "cool it", "kind": "warning" }],
        "facts": [{ "what": "there", "where": "/a" }],
    });
    same(&document, &expected);
    assert_eq!(document.text(), "/a: there\n/a: warning: hot\n  cool it\n");
    same(&Findings::new(&[], &[]), &json!({ "schema": 1, "ok": true, "findings": [] }));
}

#[test]
fn reencrypt_says_what_was_found_and_what_remains() {
    let id = KeyId([1; 8]);
    let error = Error::new(Status::Unreachable, "replace", "/m/part/1", "denied");
    let report = crate::reencrypt::Report {
        objects: 9,
        bytes: 2048,
        rewritten: 6,
        remaining: 1,
        found: [(None, 7), (Some(id), 1)].into(),
        errors: vec![error],
    };
    let document = Reencrypted::new(&[("file:///m".into(), Some(id), report)], &[], false);
    let expected = json!({ "schema": 1, "ok": false, "dry_run": false,
        "findings": [{ "what": "replace: /m/part/1: denied", "where": "file:///m",
            "remedy": "run `bakelite reencrypt` again" }],
        "replicas": [{ "source": "file:///m", "key": "0101010101010101", "ok": false, "objects": 9,
            "bytes": 2048, "rewritten": 6, "remaining": 1, "found": [
                { "key": null, "objects": 7 }, { "key": "0101010101010101", "objects": 1 } ] }],
    });
    same(&document, &expected);
    assert_eq!(
        document.text(),
        "replace: /m/part/1: denied\n  run `bakelite reencrypt` again\n\
         file:///m: 6 of 9 objects rewritten, 2.0 KiB; 1 remain as they are\n  \
         not sealed: 7 found\n  key 0101010101010101: 1 found\n"
    );
}
