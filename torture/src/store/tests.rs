//! The store does what bakelite expects of S3, each lie can be told, and none through the honest door.

use super::*;
use bakelite::backend::s3::S3;
use bakelite::backend::{Backend, Kind, conformance, list_all};
use bakelite::commit::Timeline;
use bakelite::name::Name;

const A: Name = Name::Timeline(Timeline(1));
const B: Name = Name::Timeline(Timeline(2));

fn store() -> Store {
    Store::start(7).unwrap()
}

fn at(destination: &Destination) -> S3 {
    let Destination::S3(place) = destination else { panic!("a bucket") };
    S3::open(place).unwrap()
}

#[test]
fn a_store_that_tells_the_truth_conforms() {
    let stores = std::cell::RefCell::new(Vec::new());
    conformance::suite(|| {
        let store = store();
        let backend = at(&store.destination("app")).with_page(conformance::PAGE);
        stores.borrow_mut().push(store);
        std::sync::Arc::new(backend)
    });
}

#[test]
fn every_lie_is_told_and_only_through_the_daemons_door() {
    let store = store();
    let [lied, honest] = [store.destination("app"), store.honest("app")].map(|place| at(&place));
    honest.put(&A, b"body").unwrap();
    store.lie(Some(2));
    for _ in 0..100_000 {
        if store.told().len() == lies::LIES.len() {
            break;
        }
        // Whatever it says.
        let _ =
            (lied.get(&A), lied.list(Name::TIMELINES, None), lied.delete(&B), lied.put(&B, b"b"));
        assert_eq!(honest.get(&A).unwrap(), b"body");
    }
    assert_eq!(store.told().len(), lies::LIES.len(), "{:?}", store.told());
    store.lie(None);
    assert_eq!(lied.get(&A).unwrap(), b"body");
}

#[test]
fn a_closed_door_refuses_and_opens_again() {
    let store = store();
    let backend = at(&store.destination("app"));
    for door in [Door::Closed, FULL, READ_ONLY] {
        store.door(door);
        let kind = backend.put(&A, b"body").unwrap_err().kind;
        assert!(matches!(kind, Kind::Transient | Kind::Full | Kind::Denied), "{kind:?}");
    }
    store.door(Door::Open);
    backend.put(&A, b"body").unwrap();
    let copy = store.copy();
    store.put_back(Objects::new());
    assert!(list_all(&backend, Name::TIMELINES).unwrap().entries.is_empty());
    store.put_back(copy);
    assert_eq!(backend.get(&A).unwrap(), b"body");
}

#[test]
fn a_request_stands_still_where_it_was_told_to_and_gets_no_reply() {
    let store = store();
    let [daemons, honest] = [store.destination("app"), store.honest("app")].map(|place| at(&place));
    for (moment, there) in [(Moment::Before, false), (Moment::After, true)] {
        store.stop_at(Stop { method: "PUT", kinds: &["/timeline/"], skip: 1, moment });
        let name = |number| Name::Timeline(Timeline(number + 10 * u32::from(there)));
        daemons.put(&name(1), b"passed over").unwrap();
        thread::scope(|scope| {
            let put = scope.spawn(|| daemons.put(&name(2), b"body").unwrap_err().kind);
            assert!(store.wait_for_stop(Duration::from_secs(60)));
            assert_eq!(honest.get(&name(2)).is_ok(), there, "{moment:?}");
            store.let_go();
            assert_eq!(put.join().unwrap(), Kind::Transient);
        });
        assert_eq!(honest.get(&name(2)).is_ok(), there, "{moment:?}");
    }
    assert!(!store.wait_for_stop(Duration::ZERO));
}

#[test]
fn what_may_not_be_removed_stays_and_what_was_removed_is_remembered() {
    let store = store();
    let backend = at(&store.destination("app"));
    backend.put(&A, b"body").unwrap();
    store.keep_all(true);
    assert_eq!(backend.delete(&A).unwrap_err().kind, Kind::Denied);
    assert_eq!((store.denied(), backend.get(&A).unwrap()), (1, b"body".to_vec()));
    store.keep_all(false);
    backend.delete(&A).unwrap();
    assert_eq!(backend.get(&A).unwrap_err().kind, Kind::NotFound);
    assert_eq!(store.ever().len(), 1);
}
