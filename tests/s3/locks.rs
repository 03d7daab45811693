//! A bucket with Object Lock on a real server, and somebody who has the writer's keys.

use super::{bakelite, database, insert, rows, said};
use crate::support::{KEEPER, REGION, VAULT, weed};
use bakelite::backend::conformance::{self, PAGE, change};
use bakelite::backend::s3::S3;
use bakelite::backend::{Backend, Kind, list_all};
use bakelite::config::{self, Credentials, Destination, Lock, LockMode, Secret};
use bakelite::name::Name;
use std::fs;
use std::time::Duration;

fn url(prefix: &str) -> String {
    format!("s3://{VAULT}/{prefix}?endpoint={}&region={REGION}", weed().endpoint())
}

fn place(prefix: &str, mode: LockMode) -> config::S3 {
    let Destination::S3(place) = Destination::parse(&url(prefix)).unwrap() else { panic!() };
    let [id, secret] = KEEPER.map(str::to_owned);
    let credentials = Credentials::Keys { access_key_id: id, secret_access_key: Secret(secret) };
    config::S3 {
        lock: Some(Lock { period: Duration::from_secs(3600), mode }),
        credentials,
        ..place
    }
}

/// The same object that a reader finds who was not told of any lock.
fn reader(place: &config::S3) -> S3 {
    S3::read(&config::S3 { lock: None, ..place.clone() }).unwrap().with_page(PAGE)
}

fn names(backend: &dyn Backend) -> Vec<Name> {
    let listing = list_all(backend, Name::CHANGES).unwrap();
    listing.entries.into_iter().map(|entry| entry.name).collect()
}

#[test]
fn trap_78_a_locked_object_cannot_be_removed_or_replaced() {
    for mode in [LockMode::Governance, LockMode::Compliance] {
        let prefix = weed().fresh_prefix();
        let place = place(&prefix, mode);
        let s3 = S3::create(&place).unwrap().with_page(PAGE);
        let all: Vec<Name> = (1..=7).map(|first| change(0, first)).collect();
        for name in &all {
            s3.put(name, name.to_string().as_bytes()).unwrap();
        }
        s3.put(&Name::Timeline(bakelite::commit::Timeline(1)), b"x").unwrap();
        assert_eq!(s3.put(&all[0], b"other").unwrap_err().kind, Kind::Exists);
        assert_eq!(s3.delete(&all[0]).unwrap_err().kind, Kind::Locked, "{mode:?}");
        assert_eq!(s3.replace(&all[0], b"other").unwrap_err().kind, Kind::Locked);
        s3.renew(&all[0]).unwrap();

        // Hidden; covered; both; in either order.
        let key = |at: usize| format!("{prefix}/{}", all[at]);
        weed().hide(&key(0));
        weed().cover(&key(1), b"evil");
        weed().cover(&key(2), b"evil");
        weed().hide(&key(2));
        weed().hide(&key(3));
        weed().cover(&key(3), b"evil");
        (0..9).for_each(|_| weed().cover(&key(6), b"a page full of evil"));
        let (told, untold) = (S3::create(&place).unwrap().with_page(PAGE), reader(&place));
        for reader in [&told, &untold] {
            assert_eq!(names(reader), all, "{mode:?}");
            for name in &all {
                assert_eq!(reader.get(name).unwrap(), name.to_string().as_bytes());
            }
        }
        for (key, version) in weed().versions(&prefix) {
            weed().destroy(&key, &version);
        }
        let untold = reader(&place);
        assert_eq!(names(&untold), all, "what is not locked is gone, and nothing else");
        s3.renew(&all[5]).unwrap();
        assert_eq!(s3.delete(&all[5]).unwrap_err().kind, Kind::Locked);
        s3.delete(&change(0, 99)).unwrap();
    }
}

/// The configuration speaks of no lock any more: what was stored under one is not hidden, but removed
/// once that has ended.
#[test]
fn trap_78_a_writer_that_locks_no_more_hides_nothing() {
    let prefix = weed().fresh_prefix();
    let locked = place(&prefix, LockMode::Governance);
    let s3 = S3::create(&locked).unwrap();
    s3.put(&Name::Timeline(bakelite::commit::Timeline(1)), b"x").unwrap();
    s3.put(&change(0, 1), b"x").unwrap();
    let now = S3::create(&config::S3 { lock: None, ..locked.clone() }).unwrap();
    assert_eq!(now.delete(&change(0, 1)).unwrap_err().kind, Kind::Locked);
    now.put(&change(0, 2), b"not locked").unwrap();
    now.delete(&change(0, 2)).unwrap();
    assert_eq!(names(&now), [change(0, 1)]);
    assert_eq!(names(&reader(&locked)), [change(0, 1)]);
    assert!(
        !weed()
            .versions(&prefix)
            .iter()
            .any(|(key, _)| key.contains("0000000000000002-0000000000000003-"))
    );
}

/// Without locks, a bucket with versions is one like any other.
#[test]
fn what_is_not_locked_is_removed_with_its_versions() {
    let prefix = weed().fresh_prefix();
    let place = config::S3 { lock: None, ..place(&prefix, LockMode::Governance) };
    let s3 = S3::create(&place).unwrap();
    s3.put(&change(0, 1), b"x").unwrap();
    s3.delete(&change(0, 1)).unwrap();
    assert_eq!(names(&s3), []);
    assert_eq!(names(&reader(&place)), [], "it has no locks, so what is hidden was removed");
    s3.put(&change(0, 2), b"x").unwrap();
    let versioned = S3::create(&self::place(&prefix, LockMode::Governance)).unwrap();
    versioned.delete(&change(0, 2)).unwrap();
    versioned.delete(&change(0, 1)).unwrap();
    assert!(!weed().versions(&prefix).iter().any(|(key, _)| key.contains("change")));
}

#[test]
fn foreign_keys_are_told_apart_there_too() {
    let prefix = weed().fresh_prefix();
    let s3 = S3::create(&place(&prefix, LockMode::Governance)).unwrap().with_page(PAGE);
    conformance::foreign_keys(&s3, |key| weed().cover(&format!("{prefix}/{key}"), b""));
}

/// Everything is hidden, and rubbish is stored over half of it: with the configuration or without it,
/// the database comes back as it is.
#[test]
fn trap_78_a_restore_is_exact_after_somebody_removed_and_replaced_everything() {
    let dir = tempfile::tempdir().unwrap();
    let [db, out, config] = ["app.db", "out.db", "bakelite.toml"].map(|name| dir.path().join(name));
    let connection = database(&db);
    let prefix = weed().fresh_prefix();
    let text = format!(
        "[[database]]\nname = \"app\"\npath = \"{}\"\n\
         [[database.destination]]\ntype = \"s3\"\nbucket = \"{VAULT}\"\nprefix = \"{prefix}\"\n\
         endpoint = \"{}\"\nlock = \"30d\"\nlock_mode = \"compliance\"\n",
        db.display(),
        weed().endpoint(),
    );
    fs::write(&config, text).unwrap();
    let keeper = |words: &[&str]| {
        let mut command = bakelite(words);
        command.env("AWS_ACCESS_KEY_ID", KEEPER[0]).env("AWS_SECRET_ACCESS_KEY", KEEPER[1]);
        said(command.output().unwrap())
    };
    let config = config.to_str().unwrap();
    let sync = || keeper(&["--config", config, "sync"]);
    sync();
    insert(&connection);
    sync();
    let all = weed().versions(&prefix);
    assert!(all.len() >= 4, "{all:?}");
    for (at, (key, version)) in all.iter().enumerate() {
        assert_eq!(weed().destroy(key, version), 403, "{key}");
        if at % 2 == 0 {
            weed().cover(key, b"evil");
        }
        weed().hide(key);
    }
    let url = url(&format!("{prefix}/app"));
    for words in [&["--config", config, "restore"][..], &["restore", &url]] {
        let _ = fs::remove_file(&out);
        keeper(&[words, &["--output", out.to_str().unwrap(), "--check", "full"]].concat());
        assert_eq!(rows(&out), rows(&db), "{words:?}");
        assert_eq!(rows(&out).len(), 51);
    }
    keeper(&["verify", &url, "--deep"]);
    // And the daemon goes on.
    insert(&connection);
    sync();
    let _ = fs::remove_file(&out);
    keeper(&["restore", &url, "--output", out.to_str().unwrap()]);
    assert_eq!(rows(&out).len(), 52);
}
