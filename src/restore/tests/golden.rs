//! Replicas that released versions made, kept as they were: every later version restores them.

use super::*;
use crate::backend::fs::Fs;
use crate::name::Name;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden-v1")
}

fn golden() -> Arc<dyn Backend> {
    Arc::new(Fs::open(&root().join("replica")).unwrap())
}

/// Commit, CRC-32 of the file as it was when the replica was made, and state digest.
fn expected() -> Vec<(u64, u32, String)> {
    let text = std::fs::read_to_string(root().join("expected")).unwrap();
    let lines = text.lines().map(|line| {
        let mut words = line.split(' ');
        let mut next = || words.next().unwrap();
        let commit = next().parse().unwrap();
        (commit, u32::from_str_radix(next(), 16).unwrap(), next().to_owned())
    });
    lines.collect()
}

#[test]
fn trap_99_every_commit_of_the_golden_replica_of_format_1_comes_back() {
    let source = golden();
    let expected = expected();
    assert_eq!(expected.len(), 41);
    for (commit, crc, digest) in &expected {
        let (bytes, found) = get(&source, at(*commit)).unwrap();
        assert_eq!(crc32fast::hash(&bytes), *crc, "commit {commit}");
        assert_eq!(found.digest.unwrap().to_string(), *digest, "commit {commit}");
    }
}

#[test]
fn trap_99_the_golden_replica_of_format_1_is_the_database_that_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("golden.db");
    let (target, check) = (Target::Latest, Check::Full);
    let options =
        Options { output: &output, target, timeline: None, check, force: false, dry_run: false };
    let report = restore(&golden(), &options, &Quiet).unwrap();
    assert_eq!((report.commit, report.timeline), (CommitNo(41), Timeline(2)));
    let connection = rusqlite::Connection::open(&output).unwrap();
    let one = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    // One commit was the VACUUM, which logs nothing.
    assert_eq!(one("SELECT count(*) FROM log"), 40);
    assert_eq!(one("SELECT max(seq) FROM log"), 40);
    assert_eq!(one("SELECT count(*) FROM log WHERE note = 'commit ' || seq"), 39);
    assert_eq!(one("SELECT min(n) FROM blob"), 108);
    assert_eq!(one("SELECT count(*) FROM blob WHERE n % 2"), 0);
    assert_eq!(one("SELECT count(*) FROM sqlite_schema WHERE name = 'by_note'"), 1);
}

#[test]
fn trap_99_a_replica_of_a_newer_format_is_refused() {
    let ours = golden();
    let store = Arc::new(Mem::new());
    for entry in Replica::list(&*ours).unwrap().objects {
        let body = newer(ours.get(&entry.name).unwrap());
        store.objects().insert(entry.name.to_string(), body);
    }
    let source: Arc<dyn Backend> = store;
    for target in [Target::Latest, at(1), at(41)] {
        let error = get(&source, target).unwrap_err();
        assert_eq!(error.status, Status::Newer, "{error}");
    }
    let name = Name::Timeline(Timeline(2));
    assert!(get(&source, Target::Latest).unwrap_err().message.contains(&name.to_string()));
}

/// The object as a version 2 might write it: only what all versions have in common is right.
fn newer(mut body: Vec<u8>) -> Vec<u8> {
    body[8] = 2;
    body[20] = 7;
    body.truncate(body.len() - 32);
    let hash = blake3::hash(&body);
    body.extend_from_slice(hash.as_bytes());
    body
}
