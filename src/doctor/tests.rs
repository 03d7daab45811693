use super::*;
use crate::backend::worm::Worm;
use crate::commit::Time;
use crate::config::{self, Destination, Lock, LockMode};
use crate::testkit::{Db, commits};
use std::time::Duration;

fn said(report: &Report) -> String {
    assert!(report.findings.iter().all(|it| !it.remedy.is_empty()), "{report:?}");
    report.findings.iter().map(|it| it.what.clone() + "\n").collect()
}

fn errors(report: &Report) -> Vec<Status> {
    report.findings.iter().filter_map(|finding| finding.status).collect()
}

fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A replica and its database are as they were, and there is nothing besides.
#[test]
fn nothing_is_wrong_and_nothing_is_left() {
    let db = Db::new(4096);
    let _app = db.open();
    crate::daemon::sync(&[db.config()]).unwrap();
    let Destination::File { root } = &db.config().destinations[0] else { panic!() };
    let (before, image) = (files(root), db.image());
    let report = doctor(&[db.config()], None);
    assert_eq!(errors(&report), []);
    assert!(said(&report).contains("own disk"), "both are in one temporary directory");
    let facts = format!("{:?}", report.facts);
    for word in ["put ", "get ", "list ", "delete ", "pages of 4096, UTF-8"] {
        assert!(facts.contains(word), "{word}: {facts}");
    }
    assert_eq!(files(root), before);
    assert!(db.image() == image);
}

#[test]
fn a_destination_that_is_not_there_is_unreachable() {
    let db = Db::new(4096);
    let mut config = db.config();
    let root = db.dir.path().join("not/mounted/app");
    config.destinations = vec![Destination::File { root }];
    assert_eq!(errors(&doctor(&[config], None)), [Status::Unreachable]);
    assert!(!db.dir.path().join("not").exists());
}

/// As the daemon has it: a root that is gone may be on a disk that is not mounted.
#[test]
fn a_root_that_is_missing_beside_a_replica_has_to_be_made() {
    let db = Db::new(4096);
    let _app = db.open();
    crate::daemon::sync(&[db.config()]).unwrap();
    let mut config = db.config();
    let root = db.dir.path().join("second");
    config.destinations.push(Destination::File { root: root.clone() });
    let report = doctor(std::slice::from_ref(&config), None);
    assert_eq!(errors(&report), [Status::Unreachable]);
    let remedy = format!("mkdir -p {}", root.display());
    assert!(report.findings.iter().any(|it| it.remedy.ends_with(&remedy)), "{report:?}");
    fs::create_dir(root).unwrap();
    assert_eq!(errors(&doctor(&[config], None)), []);
}

/// Found by trying it: doctor ended with 1 where `sync` made the directory and all above it.
#[test]
fn a_state_directory_may_be_new_with_all_above_it() {
    let db = Db::new(4096);
    let mut config = db.config();
    config.state_dir = db.dir.path().join("var/lib/state/app");
    assert_eq!(errors(&doctor(std::slice::from_ref(&config), None)), []);
    assert!(!db.dir.path().join("var").exists());
    fs::write(db.dir.path().join("var"), "").unwrap();
    assert_eq!(errors(&doctor(&[config], None)), [Status::Failed]);
}

#[test]
fn what_a_header_says_is_told() {
    let check = |sql: &str, expected: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let app = rusqlite::Connection::open(&path).unwrap();
        app.execute_batch(&format!("{sql}; PRAGMA journal_mode = WAL; CREATE TABLE t (x)"))
            .unwrap();
        app.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let head = fs::read(&path).unwrap()[..HEAD_BYTES].try_into().unwrap();
        assert_eq!(kind(&head), format!("WAL mode, pages of {expected}"), "{sql}");
    };
    check("PRAGMA page_size = 4096", "4096, UTF-8");
    check("PRAGMA page_size = 65536", "65536, UTF-8");
    check("PRAGMA encoding = 'UTF-16le'; PRAGMA page_size = 512", "512, UTF-16le");
    check("PRAGMA auto_vacuum = full", "4096, UTF-8, auto_vacuum=full");
    check("PRAGMA auto_vacuum = incremental", "4096, UTF-8, auto_vacuum=incremental");
}

#[test]
fn descriptors_are_counted() {
    let limits = "Limit  Soft Limit  Hard Limit  Units\n\
                  Max open files            1024                 524288               files\n";
    for (databases, enough) in [(1, true), (98, true), (99, false), (1000, false)] {
        let mut report = Report::default();
        descriptors(&mut report, limits, databases);
        assert_eq!(report.findings.is_empty(), enough, "{databases}");
    }
}

#[test]
fn room_that_a_setting_may_take_has_to_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut report = Report::default();
    room(&mut report, dir.path(), "spool_max", 1);
    assert_eq!(said(&report), "");
    room(&mut report, dir.path(), "spool_max", u64::MAX);
    assert!(said(&report).contains("free, spool_max is "), "{report:?}");
}

/// A daemon with these keys would end with status 7, or a restore would find out too late.
#[test]
fn keys_that_do_not_open_the_replica_are_found() {
    use crate::config::Sealing;
    use crate::seal::Rule;
    let db = Db::new(4096);
    let _app = db.open();
    let files = ["one", "two"].map(|name| db.dir.path().join(name));
    let ids = files.each_ref().map(|file| crate::key::generate(file).unwrap().to_string());
    let with = |key_files: &[&std::path::PathBuf], rule| {
        let mut config = db.config();
        let key_files = key_files.iter().map(|file| file.to_path_buf()).collect();
        config.settings.sealing = Sealing { key_files, rule };
        config
    };
    let [one, two] = &files;
    crate::daemon::sync(&[with(&[one], Rule::Auto)]).unwrap();
    let missing = db.dir.path().join("missing");
    for (config, expected) in [
        (with(&[one], Rule::Auto), &[][..]),
        (with(&[two, one], Rule::Auto), &[]),
        (with(&[two], Rule::Auto), &[Status::Key]),
        (with(&[], Rule::Auto), &[Status::Key]),
        (with(&[&missing], Rule::Auto), &[Status::Key]),
    ] {
        let report = doctor(std::slice::from_ref(&config), None);
        assert_eq!(errors(&report), expected, "{:?}", config.settings.sealing);
        let wanted = said(&report).contains(&ids[0]);
        assert!(
            wanted == (!expected.is_empty() && !said(&report).contains("missing")),
            "{report:?}"
        );
    }
    let facts = format!("{:?}", doctor(&[with(&[one, two], Rule::Auto)], None).facts);
    assert!(facts.contains(&format!("key {} seals, of 2 keys", ids[0])), "{facts}");
}

/// The object of the highest name below a prefix of a replica.
fn newest_below(replica: &Path, prefix: &str) -> std::path::PathBuf {
    let dir = replica.join(prefix);
    dir.join(files(&dir).pop().expect("there is one"))
}

/// Found by trying it: doctor looked at the record of a timeline alone, and ended with 0 where the daemon
/// and a restore could not read the newest commit.
#[test]
fn newest_objects_that_are_damaged_or_newer_are_found() {
    let db = Db::new(4096);
    let app = db.open();
    crate::daemon::sync(&[db.config()]).unwrap();
    commits(&app, 3);
    crate::daemon::sync(&[db.config()]).unwrap();
    let replica = db.dir.path().join("replica");
    for prefix in ["change/0", "snapshot", "timeline"] {
        let file = newest_below(&replica, prefix);
        let whole = fs::read(&file).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let mut newer = whole.clone();
        newer[8] = 2;
        newer.truncate(whole.len() - 32);
        newer.extend_from_slice(blake3::hash(&newer).as_bytes());
        for (body, expected) in
            [(flipped, &[Status::Integrity][..]), (newer, &[Status::Newer]), (whole, &[])]
        {
            fs::write(&file, body).unwrap();
            assert_eq!(errors(&doctor(&[db.config()], None)), expected, "{}", file.display());
        }
    }
}

/// Found by trying it: what was stored to try a locked bucket stayed for the whole period of its locks, with
/// a warning that bakelite is to be let delete there.
#[test]
fn trap_78_what_a_locked_bucket_is_tried_with_is_soon_free_and_no_warning() {
    let url = "s3://backups/shop/app?endpoint=http://127.0.0.1:1&region=r";
    let Ok(Destination::S3(place)) = Destination::parse(url) else { panic!() };
    let lock = |seconds| Lock { period: Duration::from_secs(seconds), mode: LockMode::Compliance };
    for (seconds, expected) in [(30 * 86_400, 60), (60, 60), (5, 5)] {
        let place = config::S3 { lock: Some(lock(seconds)), ..place.clone() };
        let tried = destination::trial(&place, Time(1));
        assert_eq!(tried.lock, Some(lock(expected)));
        assert_eq!(tried.prefix, "shop/app/doctor-000000000001");
    }
    assert_eq!(destination::trial(&place, Time(1)).lock, None);
    let mut report = Report::default();
    destination::exercise(&mut report, &Destination::S3(place), &Worm::new(60_000));
    assert_eq!((said(&report).as_str(), report.facts.len()), ("", 1));
}

/// Found by trying it: of a path with a quote, a shell would have taken a part.
#[test]
fn the_command_that_switches_wal_mode_on_is_one_for_a_shell() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("it's $HOME.db");
    let app = rusqlite::Connection::open(&path).unwrap();
    app.execute_batch("CREATE TABLE t(x)").unwrap();
    let hint = crate::daemon::open_database(&path).unwrap_err().hint.unwrap();
    let words = hint.strip_prefix("run: sqlite3 ").unwrap();
    let script = format!("printf '%s\\n' {words}");
    let told = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    let expected = format!("{}\nPRAGMA journal_mode=WAL\n", path.display());
    assert_eq!(String::from_utf8(told.stdout).unwrap(), expected, "{hint}");
}
