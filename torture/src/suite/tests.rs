//! Storage that keeps what it promises passes and is left as it was; storage that does not is told which
//! promise it broke.

use super::*;
use crate::store::Store;
use bakelite::config::S3 as Bucket;

/// The programs that the tests of the whole workspace are built with.
fn programs() -> Programs {
    let built = crate::target().unwrap();
    let [bakelite, torture] = ["bakelite", "torture"].map(|name| built.join(name));
    assert!(bakelite.exists() && torture.exists(), "run: cargo test --workspace");
    Programs { bakelite, torture }
}

fn plan(at: &Destination, scenarios: &[&str]) -> run::Plan {
    let args = Args {
        url: at.to_string(),
        scenarios: scenarios.iter().map(ToString::to_string).collect(),
        seed: Some(3),
        minutes: None,
        jobs: 2,
        bin: None,
    };
    // A URL has no keys; those of the harness's own store are not in the environment.
    run::Plan { at: Some(at.clone()), ..args.plan(programs(), 1).unwrap() }
}

#[test]
fn a_directory_passes_and_is_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("other"), b"of somebody else").unwrap();
    assert_eq!(run(&plan(&replica::directory(dir.path()), &["marked", "kill-restore"])), Ok(true));
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(left.len(), 1);
}

#[test]
fn a_bucket_passes_and_is_left_as_it_was() {
    let store = Store::start(7).unwrap();
    assert_eq!(run(&plan(&store.destination("of/mine"), &["unsynced"])), Ok(true));
    let keys: Vec<String> = store.there();
    assert_eq!(keys, [""; 0]);
    assert!(store.ever().iter().all(|(key, _)| key.starts_with("of/mine/torture-")));
}

#[test]
fn a_store_that_breaks_a_promise_fails_it_by_name() {
    let store = Store::start(7).unwrap();
    let place = store.destination("app");
    store.drop_puts(u64::MAX);
    let broken = contract(&place);
    for promise in ["what is put comes back", "the largest object", "a name that is taken"] {
        assert!(broken.iter().any(|it| it.starts_with(promise)), "{promise}: {broken:?}");
    }
    assert_eq!(run(&plan(&place, &["marked"])), Ok(false));
}

/// What it damages only later is seen by who restores, and stays to be looked at.
#[test]
fn a_store_that_damages_what_it_acknowledged_fails_the_torture() {
    let store = Store::start(7).unwrap();
    let root = tempfile::tempdir().unwrap();
    let at = store.destination("app");
    // The first one may hold only what the first snapshot holds as well.
    store.damage_puts(2);
    let plan = run::Plan { root: root.path().to_owned(), ..plan(&at, &["marked"]) };
    assert_eq!(run::run(&plan).outcome, Outcome::Violation);
    assert_eq!(below(&at).unwrap(), ["marked-3"]);
    replica::remove(&at.below("marked-3")).unwrap();
    assert_eq!(store.there(), [""; 0]);
}

#[test]
fn a_store_that_cannot_keep_what_is_there_is_not_asked_who_wins() {
    let store = Store::start(7).unwrap();
    let Destination::S3(bucket) = store.destination("app") else { panic!("a bucket") };
    let asked = Destination::S3(Bucket { create_only: false, ..bucket });
    assert_eq!(contract(&asked), [""; 0]);
}

#[test]
fn what_is_no_place_or_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let absent = replica::directory(&dir.path().join("not-mounted"));
    assert!(run(&plan(&absent, &["marked"])).unwrap_err().contains("No such file"));
    let args = |url: &str, scenario: &str| Args {
        url: url.to_owned(),
        scenarios: vec![scenario.to_owned()],
        seed: None,
        minutes: None,
        jobs: 1,
        bin: None,
    };
    assert!(args("ftp://host/", "marked").plan(programs(), 1).is_err());
    let refused = args("/tmp", "damaged-replica").plan(programs(), 1).unwrap_err();
    assert!(refused.contains("kill-daemon"), "{refused}");
    assert!(FIT.iter().all(|name| scenarios::find(name).is_some()));
}
