//! What a daemon stored that was fenced: a branch of a real replica, by all that operators have.

use super::*;
use crate::list;
use crate::restore::{Check, Options, restore};
use crate::testkit::rig::{Quiet, drilled};

/// The first host stores commits before it notices the second one. They have the numbers of the second
/// one's, and come back by their timeline alone.
#[test]
fn trap_65_what_a_fenced_daemon_stored_is_a_branch() {
    let (db, writer) = new_db();
    let mut first = Sim::current(&db);
    let other = db.copy();
    let mut config = other.config();
    config.destinations = db.config().destinations;
    let mut second = Sim::new(&other);
    second.tracker = Tracker::new(&config, false, second.now);
    second.until(|sim| sim.is_current());
    let source = replica(&db);
    assert!(list::points(&*source).unwrap().iter().all(|range| !range.branch));
    commits(&writer, 3);
    first.until(|sim| sim.tracker.is_ended());
    commits(&other.open(), 4);
    assert!(second.drain().is_none());

    let points = list::points(&*source).unwrap();
    let branches: Vec<_> = points.iter().filter(|range| range.branch).collect();
    let [branch] = branches[..] else { panic!("{points:?}") };
    let main = points.iter().rfind(|range| !range.branch).unwrap();
    assert!(main.first <= branch.first && branch.last <= main.last, "of the same numbers");
    let dir = tempfile::tempdir().unwrap();
    let bring_back = |name: &str, commit, timeline| {
        let output = dir.path().join(name);
        let options = Options {
            output: &output,
            target: Target::Commit(commit),
            timeline,
            check: Check::Full,
            force: false,
            dry_run: false,
        };
        let report = restore(&source, &options, &Quiet).unwrap();
        (fs::read(&output).unwrap(), report.timeline)
    };
    let (bytes, timeline) = bring_back("branch.db", branch.last, Some(branch.timeline));
    assert!(bytes == db.image() && timeline == branch.timeline, "the first host's");
    let (bytes, timeline) = bring_back("main.db", branch.last, None);
    assert!(bytes != db.image() && timeline == main.timeline, "the second host's");
    let found = drilled(&source, None);
    assert_eq!(found.findings, []);
    assert_eq!(found.restored.unwrap().commit, main.last);
    assert!(restored(&source, Target::Latest).unwrap() == other.image());
}
