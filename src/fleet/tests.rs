//! Replicas in directories, as a fleet would leave them.

use super::*;
use crate::backend::fs::Fs;
use crate::config::Database;
use crate::name::Change;
use crate::testkit::{Db, commits};
use std::path::Path;
use std::{fs, iter};

fn file(root: &Path) -> Destination {
    Destination::File { root: root.to_owned() }
}

fn open(place: &Destination) -> Result<Arc<dyn Backend>> {
    let Destination::File { root } = place else { panic!("{place}") };
    Ok(Arc::new(Fs::open(root)?))
}

/// Ships a new database of so many commits to `root`.
fn device(root: &Path, rows: u32) -> Db {
    let db = Db::new(4096);
    commits(&db.open(), rows);
    fs::create_dir_all(root.parent().unwrap()).unwrap();
    crate::daemon::sync(&[Database { destinations: vec![file(root)], ..db.config() }]).unwrap();
    db
}

fn said(standings: &[Standing], max_age: Option<u64>, now: Time) -> Vec<(String, Status)> {
    let findings = check(standings, max_age.map(Duration::from_secs), now);
    let name = |place: &str| place.rsplit('/').next().unwrap().to_owned();
    findings.iter().map(|it| (name(&it.place), it.status.unwrap())).collect()
}

#[test]
fn replicas_are_found_at_any_depth_and_judged_by_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let _devices = [device(&root.join("a"), 3), device(&root.join("shop/17/b"), 5)];
    fs::create_dir_all(root.join("empty/er")).unwrap();
    fs::write(root.join("readme"), "not a replica").unwrap();
    let standings = survey(&file(root), &open).unwrap().standings;
    let places: Vec<_> = standings.iter().map(|it| it.url.clone()).collect();
    let expected = [root.join("a"), root.join("shop/17/b")].map(|it| file(&it).to_string());
    assert_eq!(places, expected);
    let mut last = Time(0);
    for standing in &standings {
        let found = standing.found.as_ref().unwrap();
        assert!(found.last.unwrap().0 >= CommitNo(1) && found.timeline == Timeline(1), "{found:?}");
        last = last.max(found.last.unwrap().1);
    }
    let later = Time(last.0 + 100_000);
    assert_eq!(said(&standings, None, later), []);
    assert_eq!(said(&standings, Some(3600), later), []);
    let stale = said(&standings, Some(60), later);
    assert_eq!(stale, [("a".to_owned(), Status::Stale), ("b".to_owned(), Status::Stale)]);
    let alone = survey(&file(&root.join("a")), &open).unwrap().standings;
    assert_eq!(alone.len(), 1, "a replica by itself is a fleet of one");
}

#[test]
fn a_replica_without_a_snapshot_is_found_and_no_replica_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let device = device(&dir.path().join("a"), 3);
    commits(&device.open(), 3);
    let destinations = vec![file(&dir.path().join("a"))];
    crate::daemon::sync(&[Database { destinations, ..device.config() }]).unwrap();
    fs::remove_dir_all(dir.path().join("a/snapshot")).unwrap();
    let standings = survey(&file(dir.path()), &open).unwrap().standings;
    assert_eq!(said(&standings, None, Time(0)), [("a".to_owned(), Status::Missing)]);
    fs::remove_dir_all(dir.path().join("a")).unwrap();
    let error = survey(&file(dir.path()), &open).unwrap_err();
    assert_eq!(error.status, Status::Missing);
    assert!(survey(&file(&dir.path().join("gone")), &open).is_err());
}

/// A zombie of an older timeline has stored more, and it does not count.
#[test]
fn the_last_commit_is_that_of_the_newest_timeline_and_whole() {
    let object = |text: &str| backend::Entry { name: text.parse().unwrap(), bytes: 1 };
    let span = |first: u64, last: u64, time: u64, timeline: u32| {
        format!("{first:016x}-{last:016x}-{time:012x}-{timeline:08x}")
    };
    let snapshot = iter::once(format!("snapshot/{}", span(1, 4, 40, 1)));
    let changes = [
        format!("change/0/{}-0000e", span(1, 90, 900, 1)),
        format!("change/0/{}-0000e", span(5, 5, 50, 2)),
        format!("change/0/{}-0000m", span(6, 6, 60, 2)),
    ];
    let objects = snapshot.chain(changes).map(|name| object(&name)).collect();
    let found = of_names(&Replica::of(objects));
    assert_eq!(found.last, Some((CommitNo(5), Time(50))));
    assert_eq!(found.snapshot, Some(Time(40)));
}

/// Until the snapshot that a timeline begins with is finished, nothing of it can be restored: a `check` of
/// the bucket was well for as long as that took.
#[test]
fn commits_that_cannot_be_restored_yet_are_not_the_newest() {
    let span = |first: u64, last: u64, seconds: u64, timeline: u32| {
        let (first, last) = (CommitNo(first), CommitNo(last));
        Span { first, last, time: Time(seconds), timeline: Timeline(timeline) }
    };
    let object = |text: &str| backend::Entry { name: text.parse().unwrap(), bytes: 1 };
    let change = |span| Name::Change(Change { level: 0, span, part: 0, end: true });
    let begun =
        [Name::Snapshot(span(4, 4, 40, 1)), change(span(5, 5, 50, 1)), change(span(7, 7, 70, 2))];
    let last = |more: &[Name]| {
        let objects = begun.iter().chain(more).map(|name| object(&name.to_string())).collect();
        of_names(&Replica::of(objects)).last
    };
    assert_eq!(last(&[]), Some((CommitNo(5), Time(50))));
    assert_eq!(last(&[Name::Snapshot(span(6, 7, 70, 2))]), Some((CommitNo(7), Time(70))));
    assert_eq!(last(&[change(span(6, 6, 60, 3))]), Some((CommitNo(6), Time(60))), "it goes on");
}

/// Found by trying it: an object that doctor had stored, and a lock kept, was shown as a replica of which
/// nothing can be restored.
#[test]
fn what_doctor_tried_a_destination_with_is_no_replica() {
    let dir = tempfile::tempdir().unwrap();
    let trial = browse::trial(Time(1_763_906_400_000));
    let names = [trial.clone(), format!(".{trial}"), "doctor-who".into(), "doctor-".into()];
    for name in &names {
        fs::create_dir_all(dir.path().join("app").join(name).join("timeline")).unwrap();
    }
    let standings = survey(&file(dir.path()), &open).unwrap().standings;
    let found: Vec<_> = standings.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(found, ["app/doctor-", "app/doctor-who"]);
}

/// Found by trying it: a link to a directory above it showed a replica as often as the depth allows.
#[test]
fn what_links_lead_to_is_looked_at_once() {
    use std::os::unix::fs::symlink;
    let (dir, beside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = dir.path();
    let replica = |place: &Path| fs::create_dir_all(place.join("timeline")).unwrap();
    replica(&root.join("shop/17"));
    replica(&beside.path().join("other"));
    symlink(root, root.join("again")).unwrap();
    symlink("..", root.join("shop/up")).unwrap();
    symlink("17", root.join("shop/1")).unwrap();
    symlink("shop/17", root.join("current")).unwrap();
    symlink(beside.path(), root.join("beside")).unwrap();
    symlink(beside.path(), root.join("twice")).unwrap();
    symlink(root, beside.path().join("back")).unwrap();
    let Survey { standings, passed_over } = survey(&file(root), &open).unwrap();
    let found: Vec<_> = standings.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(found, ["beside/other", "shop/17"]);
    assert!(passed_over.is_empty(), "{passed_over:?}");
    // A link is a way to a fleet like any other.
    assert_eq!(survey(&file(&root.join("again")), &open).unwrap().standings.len(), 2);
}
