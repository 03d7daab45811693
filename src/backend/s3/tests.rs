mod liar;

use super::ask::LARGEST;
use super::*;
use crate::backend::conformance::{self, change};
use crate::backend::list_all;
use crate::backend::retry::Retry;
use crate::commit::{PageSize, Time, Timeline};
use crate::config::{Lock, LockMode, S3 as Place};
use crate::error::Status;
use crate::fanout::Fanout;
use crate::snapshot::Fork;
use liar::{Liar, Lie};
use rusty_s3::Credentials;
use std::cell::RefCell;
use std::sync::Arc;

const ROOT: &str = "shop/app/";

fn open(liar: &Liar) -> S3 {
    S3::open(&liar.place()).unwrap()
}

/// Tries again at once.
fn patient(s3: S3) -> Retry {
    let patience = Patience { first: Duration::ZERO, ..Patience::default() };
    Retry::new(Arc::new(s3), patience)
}

/// Every lie is told, and to nobody else.
fn all_told(liar: &Liar, lies: &[Lie]) {
    let state = liar.state();
    assert_eq!(state.lies, [], "never told");
    assert_eq!(state.told, lies);
}

fn stored(liar: &Liar, name: &Name) -> Option<Vec<u8>> {
    liar.state().objects.get(&format!("{ROOT}{name}")).cloned()
}

fn names(listing: Listing) -> Vec<Name> {
    listing.entries.into_iter().map(|entry| entry.name).collect()
}

#[test]
fn a_store_that_tells_the_truth_conforms() {
    let liars = RefCell::new(vec![]);
    conformance::suite(|| {
        let liar = Liar::new();
        let s3 = open(&liar).with_page(conformance::PAGE);
        liars.borrow_mut().push(liar);
        Arc::new(s3)
    });
    let liar = Liar::new();
    let s3 = open(&liar).with_page(conformance::PAGE);
    conformance::foreign_keys(&s3, |key| {
        liar.state().objects.insert(format!("{ROOT}{key}"), vec![]);
    });
}

#[test]
fn a_page_of_foreign_keys_alone_is_passed_over() {
    let liar = Liar::new();
    let s3 = open(&liar).with_page(2);
    for key in ["change/0/!1", "change/0/!2", "change/0/!3", "change/0/zzz"] {
        liar.state().objects.insert(format!("{ROOT}{key}"), vec![]);
    }
    s3.put(&change(0, 1), b"x").unwrap();
    let listing = list_all(&s3, Name::CHANGES).unwrap();
    assert_eq!(listing.foreign.len(), 4);
    assert_eq!(names(listing), [change(0, 1)]);
}

#[test]
fn trap_69_a_busy_store_is_tried_again_and_nothing_is_lost() {
    let busy = [
        Lie::Refused(500, "InternalError"),
        Lie::Refused(503, "SlowDown"),
        Lie::Refused(429, ""),
        Lie::Refused(502, ""),
        Lie::ResetBefore,
    ];
    let liar = Liar::new();
    let s3 = open(&liar);
    for (first, lie) in (1..).zip(&busy) {
        liar.lie(std::slice::from_ref(lie));
        let error = s3.put(&change(0, first), b"x").unwrap_err();
        assert_eq!(error.kind, Kind::Transient, "{lie:?}: {error}");
        assert_eq!(stored(&liar, &change(0, first)), None, "{lie:?}");
    }
    all_told(&liar, &busy);
    liar.lie(&busy);
    let s3 = patient(s3);
    s3.put(&change(0, 1), b"x").unwrap();
    liar.lie(&busy);
    assert_eq!(s3.get(&change(0, 1)).unwrap(), b"x");
    liar.lie(&busy);
    assert_eq!(names(s3.list(Name::CHANGES, None).unwrap()), [change(0, 1)]);
    liar.lie(&busy);
    s3.delete(&change(0, 1)).unwrap();
    assert_eq!(liar.state().told.len(), 5 * busy.len());
    assert_eq!(liar.asked(), 5 * busy.len() + 4);
}

/// Without a spool: what is not stored is an error.
fn stores(s3: S3) -> Fanout {
    crate::testkit::rig::fanout(vec![Arc::new(patient(s3))], std::path::Path::new("/none"), 0)
}

#[test]
fn trap_70_a_put_whose_reply_was_lost_is_found_to_be_ours() {
    for lie in [Lie::ReplyLost, Lie::CutHeader, Lie::ResetBefore] {
        let liar = Liar::new();
        let s3 = open(&liar);
        let applied = lie != Lie::ResetBefore;
        liar.lie(std::slice::from_ref(&lie));
        assert_eq!(s3.put(&change(0, 1), b"x").unwrap_err().kind, Kind::Transient, "{lie:?}");
        assert_eq!(stored(&liar, &change(0, 1)).is_some(), applied);
        liar.lie(std::slice::from_ref(&lie));
        stores(s3).put(&change(0, 2), b"ours").unwrap();
        assert_eq!(stored(&liar, &change(0, 2)).unwrap(), b"ours");
        all_told(&liar, &[lie.clone(), lie]);
    }
}

/// MinIO looks at If-None-Match before it reads a body, answers, and closes while it is still being sent.
/// The put whose reply was lost was tried again for ever then.
#[test]
fn trap_70_a_large_put_that_is_refused_before_it_is_read_is_settled() {
    let liar = Liar::new();
    // More than any buffers hold.
    let body = vec![7; 16 << 20];
    let put = |lie: Lie| {
        liar.lie(&[lie]);
        open(&liar).put(&change(0, 1), &body).unwrap_err().kind
    };
    assert_eq!(put(Lie::RefusedUnread), Kind::Transient, "what is not there is not taken");
    liar.state().objects.insert(format!("{ROOT}{}", change(0, 1)), body.clone());
    assert_eq!(put(Lie::RefusedUnread), Kind::Exists);
    liar.lie(&[Lie::RefusedUnread]);
    stores(open(&liar)).put(&change(0, 1), &body).unwrap();
    // Where the store does not answer that either, nothing is known.
    liar.lie(&[Lie::RefusedUnread, Lie::Refused(503, "")]);
    assert_eq!(open(&liar).put(&change(0, 1), &body).unwrap_err().kind, Kind::Transient);
    assert_eq!(liar.state().lies, []);
}

#[test]
fn trap_71_a_name_that_others_took_is_told_and_a_conflict_is_tried_again() {
    let liar = Liar::new();
    open(&liar).put(&change(0, 1), b"theirs").unwrap();
    let error = stores(open(&liar)).put(&change(0, 1), b"ours").unwrap_err();
    assert_eq!(error.status, Status::Locked, "{error}");
    assert_eq!(stored(&liar, &change(0, 1)).unwrap(), b"theirs");
    let conflict = [Lie::Refused(409, "ConditionalRequestConflict")];
    liar.lie(&conflict);
    stores(open(&liar)).put(&change(0, 2), b"ours").unwrap();
    assert_eq!(stored(&liar, &change(0, 2)).unwrap(), b"ours");
    all_told(&liar, &conflict);
}

#[test]
fn trap_72_a_success_with_an_error_in_its_body_is_a_failure() {
    let liar = Liar::new();
    let s3 = open(&liar);
    for (code, kind) in
        [("InternalError", Kind::Transient), ("AccessDenied", Kind::Denied), ("Odd", Kind::Other)]
    {
        liar.lie(&[Lie::ErrorBody(code), Lie::ErrorBody(code), Lie::ErrorBody(code)]);
        for error in [
            s3.put(&change(0, 1), b"x").unwrap_err(),
            s3.list(Name::CHANGES, None).unwrap_err(),
            s3.delete(&change(0, 1)).unwrap_err(),
        ] {
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.cause.contains(code), "{error}");
        }
    }
    assert_eq!((stored(&liar, &change(0, 1)), liar.state().told.len()), (None, 9));
}

#[test]
fn trap_73_a_reply_that_is_cut_is_no_answer() {
    let liar = Liar::new();
    let s3 = open(&liar);
    let body = vec![7; 100_000];
    s3.put(&change(0, 1), &body).unwrap();
    let cuts = [Lie::CutBody, Lie::CutHeader, Lie::ReplyLost, Lie::Chunked];
    liar.lie(&cuts);
    for lie in &cuts {
        let error = s3.get(&change(0, 1)).unwrap_err();
        assert_eq!(error.kind, Kind::Transient, "{lie:?}: {error}");
    }
    liar.lie(&[Lie::CutBody, Lie::CutHeader, Lie::ReplyLost]);
    for _ in 0..3 {
        let error = s3.list(Name::CHANGES, None).unwrap_err();
        assert_eq!(error.kind, Kind::Transient, "{error}");
    }
    // The end of a listing is in its text, so it may come in chunks.
    liar.lie(&[Lie::Chunked]);
    assert_eq!(names(s3.list(Name::CHANGES, None).unwrap()), [change(0, 1)]);
    liar.lie(&cuts);
    assert_eq!(patient(s3).get(&change(0, 1)).unwrap(), body);
    assert_eq!(liar.state().told.len(), 12);
}

/// The backend does not look inside, and need not: no byte of an object can change unseen.
#[test]
fn trap_74_wrong_bytes_are_refused_by_the_object() {
    let liar = Liar::new();
    let s3 = open(&liar);
    let fork = Fork { anew: true, ..Fork::default() };
    let name = Name::Timeline(Timeline(1));
    let body = fork.encode(Timeline(1), PageSize::new(4096).unwrap(), Time(1));
    s3.put(&name, &body).unwrap();
    let flip = |at: usize| {
        liar.state().objects.get_mut(&format!("{ROOT}{name}")).unwrap()[at] ^= 1;
    };
    for at in 0..body.len() {
        flip(at);
        assert!(Fork::decode(Timeline(1), s3.get(&name).unwrap()).is_err(), "byte {at}");
        flip(at);
    }
    assert!(Fork::decode(Timeline(1), s3.get(&name).unwrap()).is_ok());
}

/// Nothing is ever uploaded in pieces, so nothing can be left of a crash that no listing shows.
#[test]
fn trap_75_the_largest_object_is_one_request() {
    let liar = Liar::new();
    let s3 = open(&liar);
    let body = vec![1; 32 << 20];
    s3.put(&change(0, 1), &body).unwrap();
    assert_eq!(liar.asked(), 1);
    assert!(!liar.state().heads[0].contains("upload"));
    assert!(s3.get(&change(0, 1)).unwrap() == body);
}

#[test]
fn trap_76_listings_in_small_pages_stale_twice_and_out_of_order() {
    let liar = Liar::new();
    let s3 = open(&liar).with_page(1);
    let all: Vec<_> = (1..=4).map(|first| change(0, first)).collect();
    all.iter().for_each(|name| s3.put(name, b"x").unwrap());
    let before = liar.asked();
    assert_eq!(names(list_all(&s3, Name::CHANGES).unwrap()), all);
    assert_eq!(liar.asked() - before, 4, "a key a page");
    let s3 = s3.with_page(1000);
    liar.lie(&[Lie::Stale, Lie::Twice]);
    assert_eq!(names(s3.list(Name::CHANGES, None).unwrap()), all[..3], "stale, as told");
    assert_eq!(names(s3.list(Name::CHANGES, None).unwrap()), all);
    liar.lie(&[Lie::Backwards, Lie::Anew]);
    for after in [None, Some(&all[1])] {
        let error = s3.list(Name::CHANGES, after).unwrap_err();
        assert_eq!(error.kind, Kind::Other, "{error}");
        assert!(error.hint.is_some());
    }
    all_told(&liar, &[Lie::Stale, Lie::Twice, Lie::Backwards, Lie::Anew]);
}

#[test]
fn trap_77_a_delete_is_done_denied_or_needless() {
    let liar = Liar::new();
    let s3 = open(&liar);
    s3.put(&change(0, 1), b"x").unwrap();
    let lies = [
        Lie::Refused(403, "AccessDenied"),
        Lie::Refused(404, "NoSuchKey"),
        Lie::Refused(404, "NoSuchBucket"),
        Lie::Refused(404, ""),
    ];
    liar.lie(&lies);
    assert_eq!(s3.delete(&change(0, 1)).unwrap_err().kind, Kind::Denied);
    s3.delete(&change(0, 1)).unwrap();
    assert_eq!(s3.delete(&change(0, 1)).unwrap_err().kind, Kind::Other);
    assert_eq!(s3.delete(&change(0, 1)).unwrap_err().kind, Kind::Other);
    all_told(&liar, &lies);
    assert!(stored(&liar, &change(0, 1)).is_some());
}

/// Nothing but these headers.
fn head(status: u16, headers: &str) -> Lie {
    Lie::Said(status, headers.to_owned(), String::new())
}

fn one_version(name: &Name) -> Lie {
    let xml = format!(
        "<ListVersionsResult><IsTruncated>false</IsTruncated><Version><Key>{ROOT}{name}</Key>\
         <VersionId>v1</VersionId><Size>1</Size></Version></ListVersionsResult>"
    );
    Lie::Said(200, String::new(), xml)
}

const LOCKED: &str = "x-amz-object-lock-mode: COMPLIANCE\r\n";
const VERSION: &str = "x-amz-version-id: v2\r\n";

#[test]
fn trap_69_a_store_that_is_busy_does_not_make_a_locked_replica_an_unlocked_one() {
    let liar = Liar::new();
    let (newest, versions) = (head(200, VERSION), one_version(&Name::Timeline(Timeline(1))));
    let (busy, locked) = (Lie::Refused(503, ""), head(200, LOCKED));
    for lies in [
        vec![busy.clone(), locked.clone()],
        vec![newest.clone(), versions.clone(), busy, newest, versions, locked],
    ] {
        liar.lie(&lies);
        assert!(S3::read(&liar.place()).unwrap().locks.apply());
        assert_eq!(liar.state().lies, []);
    }
}

/// Found by reading: with keys that may not ask, a locked replica was read as one that is not locked, and
/// nobody was told.
#[test]
fn trap_78_who_may_not_ask_whether_a_replica_is_locked_is_told_so() {
    let denied = Lie::Refused(403, "AccessDenied");
    let (newest, versions) = (head(200, VERSION), one_version(&Name::Timeline(Timeline(1))));
    let hidden = head(404, "x-amz-delete-marker: true\r\n");
    let check = |lies: &[&Lie], doubt: bool| {
        let liar = Liar::new();
        liar.lie(&lies.iter().map(|&lie| lie.clone()).collect::<Vec<_>>());
        let s3 = S3::read(&liar.place()).unwrap();
        assert_eq!((liar.asked(), s3.locks.apply()), (lies.len(), false), "{lies:?}");
        assert_eq!(s3.doubt().is_some(), doubt, "{lies:?}");
        s3.doubt()
    };
    let error = check(&[&newest, &denied], true).unwrap();
    assert!(error.cause.contains("cannot be told") && error.cause.contains("AccessDenied"));
    assert!(error.hint.unwrap().contains("s3:ListBucketVersions"));
    check(&[&denied, &denied], true);
    check(&[&hidden, &denied], true);
    check(&[&newest, &versions, &denied], true);
    // One that is not there yet, one in a bucket without versions, and one that is not locked.
    check(&[&head(404, ""), &denied], false);
    check(&[&head(200, "")], false);
    check(&[&newest, &versions, &newest], false);
}

/// Found by trying MinIO, which says of a lock that the request is invalid.
#[test]
fn trap_78_a_lock_is_found_out_however_its_store_refuses() {
    let liar = Liar::new();
    let lock = Lock { period: Duration::from_secs(3600), mode: LockMode::Compliance };
    let s3 = S3::open(&Place { lock: Some(lock), ..liar.place() }).unwrap();
    let name = change(0, 1);
    let versions = one_version(&name);
    let locked = head(200, "x-amz-object-lock-retain-until-date: 2030-01-01T00:00:00Z\r\n");
    let unlocked = head(200, "");
    let worm = "Object is WORM protected and cannot be overwritten";
    let check = |refused: Lie, head: Option<&Lie>, kind, cause: &str| {
        let lies: Vec<_> = [&versions, &refused].into_iter().chain(head).cloned().collect();
        let before = liar.asked();
        liar.lie(&lies);
        let error = s3.delete(&name).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.cause.contains(cause), "{error}");
        assert_eq!(liar.asked() - before, lies.len());
    };
    let denied = Lie::Refused(403, "AccessDenied");
    let until = "locked until 2030-01-01";
    check(denied.clone(), Some(&locked), Kind::Locked, until);
    check(denied, Some(&unlocked), Kind::Denied, "AccessDenied");
    let invalid = Lie::Told(400, "InvalidRequest", worm);
    check(invalid.clone(), Some(&locked), Kind::Locked, until);
    check(invalid, Some(&unlocked), Kind::Other, worm);
    check(Lie::Refused(503, "SlowDown"), None, Kind::Transient, "SlowDown");
}

#[test]
fn trap_80_a_wrong_clock_and_old_credentials_are_told_apart() {
    let liar = Liar::new();
    let s3 = patient(open(&liar));
    let check = |lie: Lie, hint: &str, cause: &str| {
        let before = liar.asked();
        liar.lie(&[lie]);
        let error = s3.put(&change(0, 1), b"x").unwrap_err();
        assert_eq!(error.kind, Kind::Denied, "{error}");
        assert!(error.hint.as_ref().unwrap().contains(hint), "{error:?}");
        assert!(error.cause.contains(cause), "{error}");
        assert_eq!(liar.asked() - before, 1, "not tried again");
    };
    let time = "the store's time is Sat, 01 Jan 2000";
    check(Lie::Refused(403, "RequestTimeTooSkewed"), "set this machine's clock", time);
    check(Lie::Told(403, "AccessDenied", "Request has expired"), "machine's clock", time);
    check(Lie::Refused(400, "ExpiredToken"), "renew the credentials", "ExpiredToken");
    check(Lie::Refused(403, "InvalidAccessKeyId"), "check the access key", "InvalidAccessKeyId");
    check(Lie::Refused(403, "AccessDenied"), "allow it", "AccessDenied");
    s3.put(&change(0, 1), b"x").unwrap();
}

#[test]
fn trap_81_a_place_that_may_not_be_read_is_never_empty() {
    let lies = [
        (Lie::Refused(404, "NoSuchBucket"), Kind::Other, "create the bucket"),
        (Lie::Refused(403, "AccessDenied"), Kind::Denied, "ListBucket"),
        (Lie::Refused(404, ""), Kind::Other, "endpoint"),
        (Lie::Refused(200, ""), Kind::Transient, ""),
        (Lie::Refused(301, "PermanentRedirect"), Kind::Other, "region"),
        (Lie::Refused(404, "NoSuchKey"), Kind::Other, ""),
    ];
    let liar = Liar::new();
    let s3 = open(&liar);
    for (lie, kind, word) in &lies {
        liar.lie(std::slice::from_ref(lie));
        let error = s3.list(Name::TIMELINES, None).unwrap_err();
        assert_eq!(error.kind, *kind, "{error}");
        assert!(error.hint.unwrap_or_default().contains(word), "{lie:?}");
    }
    for lie in [Lie::Refused(404, "NoSuchBucket"), Lie::Refused(404, "")] {
        liar.lie(&[lie]);
        assert_eq!(s3.get(&change(0, 1)).unwrap_err().kind, Kind::Other, "not NotFound");
    }
    // A key that may only read is found out before anything is shipped.
    liar.lie(&[Lie::Refused(403, "AccessDenied")]);
    assert_eq!(S3::create(&liar.place()).unwrap_err().kind, Kind::Denied);
    assert_eq!(liar.state().told.len(), lies.len() + 3);
}

/// Found by trying it: the hint was to check that the endpoint is that of an S3 store.
#[test]
fn a_bucket_without_object_lock_is_told_of_where_objects_are_to_be_locked() {
    const MD5: &str = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object \
                       requests with Object Lock parameters";
    let liar = Liar::new();
    let made = "a bucket is made with it";
    let check = |period: Option<u64>, code, message, word: &str| {
        let period = period.map(Duration::from_secs);
        let lock = period.map(|period| Lock { period, mode: LockMode::Compliance });
        liar.lie(&[Lie::Told(400, code, message)]);
        let error = S3::create(&Place { lock, ..liar.place() }).unwrap_err();
        assert!(error.hint.as_ref().unwrap().contains(word), "{error:?}");
        assert_eq!(error.cause.contains("has no Object Lock"), word == made, "{error}");
    };
    let locked = Some(3600);
    check(locked, "InvalidRequest", "Bucket is missing Object Lock Configuration", made);
    check(locked, "InvalidRequest", "Bucket is missing ObjectLockConfiguration", made);
    check(locked, "InvalidRequest", "", made);
    check(locked, "ObjectLockConfigurationNotFoundError", "There is none", made);
    check(locked, "InvalidRequest", "A header is missing", "endpoint");
    check(locked, "InvalidRequest", MD5, "SHA-256");
    check(None, "InvalidRequest", "", "endpoint");
}

/// Found by reading: each 501 was told to be for If-None-Match, that for a lock or for a listing as well.
#[test]
fn what_a_store_does_not_know_is_told_by_what_it_was_asked() {
    let liar = Liar::new();
    let place = liar.place();
    let lock = Lock { period: Duration::from_secs(3600), mode: LockMode::Compliance };
    let told = |place: &Place, message, call: &dyn Fn(&S3) -> Result<(), Error>| {
        liar.lie(&[Lie::Told(501, "NotImplemented", message)]);
        call(&S3::open(place).unwrap()).unwrap_err().hint.unwrap()
    };
    let put: &dyn Fn(&S3) -> _ = &|s3| s3.put(&change(0, 1), b"x");
    let locked = Place { lock: Some(lock), ..place.clone() };
    let header = "A header you provided implies functionality that is not implemented.";
    assert!(told(&place, header, put).contains("create_only = false"));
    assert!(told(&locked, header, put).contains("create_only = false"));
    let of_lock = "A header is not implemented: x-amz-object-lock-mode";
    assert!(told(&locked, of_lock, put).contains("leave out lock"));
    for call in [
        &|s3: &S3| s3.list(Name::CHANGES, None).map(drop),
        &|s3: &S3| s3.replace(&change(0, 1), b"x"),
        &|s3: &S3| s3.delete(&change(0, 1)),
    ] as [&dyn Fn(&S3) -> Result<(), Error>; 3]
    {
        assert!(told(&place, header, call).contains("does not know"));
    }
    let versions = told(&locked, "versions", &|s3| s3.list(Name::CHANGES, None).map(drop));
    assert!(versions.contains("does not know"));
}

#[test]
fn trap_82_nothing_is_waited_for_longer_than_told() {
    let liar = Liar::new();
    let second = Duration::from_secs(1);
    let s3 = open(&liar).with_timeout(second);
    s3.put(&change(0, 1), &[7; 10_000]).unwrap();
    for lie in [Lie::Silence, Lie::Trickle] {
        liar.lie(&[lie.clone(), lie.clone(), lie]);
        for error in [
            s3.get(&change(0, 1)).unwrap_err(),
            s3.list(Name::CHANGES, None).unwrap_err(),
            s3.put(&change(0, 2), b"x").unwrap_err(),
        ] {
            assert_eq!((error.kind, error.cause.as_str()), (Kind::Transient, "no answer in time"));
        }
    }
    assert_eq!(liar.state().told.len(), 6);
}

#[test]
fn trap_82_what_is_large_gets_more_time() {
    let put = |body: &[u8]| Ask::Put { key: "x", body, headers: &[] }.parts().3;
    assert_eq!(put(&[]), ANSWER);
    assert_eq!(put(&vec![0; 32 << 20]), LARGEST);
    assert_eq!(time_to_get(&Name::Timeline(Timeline(1))), ANSWER);
    assert_eq!(time_to_get(&change(0, 1)), LARGEST);
}

/// Found by reading: on a line of less than 256 KiB a second for each request the same bytes were sent, cut
/// off and sent anew for ever.
#[test]
fn trap_82_a_line_that_is_slow_gets_more_time_until_it_is_quick() {
    let liar = Liar::new();
    let s3 = open(&liar).with_timeout(Duration::from_secs(1));
    let large = vec![7; 32 << 20];
    liar.state().objects.insert(format!("{ROOT}{}", change(0, 1)), large.clone());
    let check = |lie: Lie, call: &dyn Fn() -> Error, times| {
        liar.lie(&[lie]);
        assert_eq!(call().cause, "no answer in time");
        assert_eq!(s3.pace.now(), times);
    };
    // A store that does not answer is none that is slow.
    check(Lie::Silence, &|| s3.get(&change(0, 1)).unwrap_err(), 1);
    check(Lie::Silence, &|| s3.put(&change(0, 2), b"x").unwrap_err(), 1);
    check(Lie::Stalls, &|| s3.get(&change(0, 1)).unwrap_err(), 2);
    check(Lie::Silence, &|| s3.replace(&change(0, 2), &large).unwrap_err(), 4);
    let s3 = S3 { most: None, ..s3 };
    assert_eq!(s3.timeout(ANSWER, 4), ANSWER);
    assert_eq!(s3.timeout(LARGEST, 4), Duration::from_secs(15 + 4 * 128));
    s3.get(&change(0, 1)).unwrap();
    s3.get(&change(0, 1)).unwrap();
    assert_eq!(s3.pace.now(), 1);
}

#[test]
fn trap_82_names_that_lead_nowhere_and_broken_tls() {
    let liar = Liar::new();
    let place = liar.place();
    let get = |endpoint: String| {
        let s3 = S3::open(&config::S3 { endpoint, ..place.clone() }).unwrap();
        s3.get(&change(0, 1)).unwrap_err()
    };
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(get(format!("http://{free}")).kind, Kind::Transient, "connection refused");
    assert_eq!(get("http://nowhere.invalid".to_owned()).kind, Kind::Transient, "no such host");
    // The store speaks plainly.
    let error = get(place.endpoint.replace("http:", "https:"));
    assert!(matches!(error.kind, Kind::Other | Kind::Transient), "{error}");
}

#[test]
fn a_store_that_writes_over_what_is_there_is_refused_unless_told() {
    let liar = Liar::new();
    let for_locks = 2;
    S3::create(&liar.place()).unwrap();
    assert_eq!(liar.asked(), 2 + for_locks);
    S3::create(&liar.place()).unwrap();
    assert_eq!(liar.asked(), 3 + 2 * for_locks, "the probe is still there");
    assert!(liar.state().objects.contains_key("shop/app/probe"));
    let listed = list_all(&open(&liar), Name::TIMELINES).unwrap();
    assert_eq!(listed, Listing::default(), "it is not seen among objects");

    liar.state().overwrites = true;
    let error = S3::create(&liar.place()).unwrap_err();
    assert_eq!(error.kind, Kind::Other);
    assert!(error.cause.contains("writes over"), "{error}");
    assert!(error.hint.unwrap().contains("create_only = false"));

    let place = config::S3 { create_only: false, ..liar.place() };
    let s3 = S3::create(&place).unwrap();
    s3.put(&change(0, 1), b"first").unwrap();
    assert_eq!(s3.put(&change(0, 1), b"second").unwrap_err().kind, Kind::Exists);
    assert_eq!(stored(&liar, &change(0, 1)).unwrap(), b"first");
    assert!(!liar.state().heads.last().unwrap().contains("if-none-match"));
}

#[test]
fn a_start_waits_for_a_store_that_is_busy() {
    let liar = Liar::new();
    liar.lie(&[Lie::Refused(503, "SlowDown"), Lie::ReplyLost]);
    S3::create(&liar.place()).unwrap();
    assert_eq!(liar.asked(), 3 + 2, "and whether it is a locked replica");
}

#[test]
fn requests_say_what_they_must() {
    let liar = Liar::new();
    let s3 = open(&liar);
    s3.put(&change(0, 1), b"hello").unwrap();
    let head = liar.state().heads[0].clone();
    let sum = "x-amz-checksum-sha256: LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=\r\n";
    for part in [
        format!("PUT /backups/shop/app/{}?", change(0, 1)).as_str(),
        sum,
        "if-none-match: *\r\n",
        "AKID%2F",
        "%2Feu-west-1%2Fs3%2Faws4_request",
        "SignedHeaders=host%3Bif-none-match%3Bx-amz-checksum-sha256&",
    ] {
        assert!(head.contains(part), "{part} in {head}");
    }
    assert!(!head.contains("hush"), "{head}");
}

#[test]
fn places_are_reached_in_both_styles_and_with_a_token() {
    let signed = |place: &config::S3, keys| {
        let s3 = S3 { keys, ..S3::open(place).unwrap() };
        let ask = Ask::Get { key: &s3.key("x"), version: None, headers: &[], time: ANSWER };
        ask.signed(&s3.bucket, &s3.keys.now().unwrap())
    };
    let liar = Liar::new();
    let keys = || Keys::Fixed(Credentials::new_with_token("K", "S", "to ken"));
    let mut place = liar.place();
    place.endpoint = "https://s3.eu-west-1.amazonaws.com".to_owned();
    let path = signed(&place, keys());
    assert!(path.starts_with("https://s3.eu-west-1.amazonaws.com/backups/shop/app/x?X-"), "{path}");
    assert!(path.contains("X-Amz-Security-Token=to%20ken"), "{path}");
    place.url_style = UrlStyle::VirtualHost;
    place.prefix = String::new();
    let host = signed(&place, keys());
    assert!(host.starts_with("https://backups.s3.eu-west-1.amazonaws.com/x?X-"), "{host}");
    place.endpoint = "http://127.0.0.1:8333".to_owned();
    let error = S3::open(&place).unwrap_err();
    assert!(error.hint.unwrap().contains("url_style"), "an address has no hosts below it");
}

#[test]
fn errors_show_the_place_and_no_secret() {
    let liar = Liar::new();
    liar.lie(&[Lie::Refused(403, "AccessDenied")]);
    let s3 = open(&liar);
    let error = s3.put(&change(0, 1), b"x").unwrap_err();
    let start = format!("put: s3://backups/shop/app/{}: AccessDenied", change(0, 1));
    assert!(error.to_string().starts_with(&start), "{error}");
    let shown = format!("{error:?} {s3:?} {:?}", liar.place());
    assert!(!shown.contains("hush") && !shown.contains("Signature"), "{shown}");
}

#[test]
fn base64_is_that_of_rfc_4648() {
    for (bytes, text) in
        [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
    {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
    assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
}
