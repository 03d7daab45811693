use super::*;
use crate::backend::worm::Worm;
use crate::commit::Time;
use crate::config::{self, Destination, Lock, LockMode};
use crate::durable::{Step, fault};
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
    let remedy = format!("mkdir -p {}", crate::units::word(&root));
    assert!(report.findings.iter().any(|it| it.remedy.ends_with(&remedy)), "{report:?}");
    fs::create_dir(root).unwrap();
    assert_eq!(errors(&doctor(&[config], None)), []);
}

/// Found by trying it: a disk had no room for a change-set, and for the object of a trial it had.
#[test]
fn what_the_daemon_could_not_do_is_told() {
    let db = Db::new(4096);
    let _app = db.open();
    let config = db.config();
    crate::daemon::sync(std::slice::from_ref(&config)).unwrap();
    let url = &config.destinations[0];
    let text = format!(
        "{{\"error\": \"put: no room\", \"lanes\": [{{\"url\": \"{url}\", \"standing\": \"broken\", \
         \"floor\": null, \"spooled\": 0, \"error\": \"put: full\"}}]}}"
    );
    fs::write(config.state_dir.join("status"), text).unwrap();
    let report = doctor(std::slice::from_ref(&config), None);
    let said = said(&report);
    assert!(said.contains("since: put: no room") && said.contains("since: put: full"), "{said}");
    assert_eq!(errors(&report), []);
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

#[test]
fn the_version_of_sqlite_is_told() {
    let facts = doctor(&[], None).facts;
    assert!(facts.contains(&("SQLite".into(), rusqlite::version().into())), "{facts:?}");
}

#[test]
fn a_database_that_is_not_in_wal_mode_has_to_be_put_into_it() {
    let db = Db::new(4096);
    db.open().execute_batch("PRAGMA journal_mode = DELETE").unwrap();
    let report = doctor(&[db.config()], None);
    assert_eq!(errors(&report), [Status::Usage]);
    let told = report.findings.iter().find(|it| it.status.is_some()).unwrap();
    assert!(told.what.contains("not in WAL mode"), "{told:?}");
    let remedy = format!("run: sqlite3 '{}' 'PRAGMA journal_mode=WAL'", db.path.display());
    assert_eq!((&told.remedy, &told.place), (&remedy, &db.path.display().to_string()));
}

/// Faults stand in for rights, which do not hold for root, and for a disk that is mounted read-only.
#[test]
fn what_cannot_be_written_is_found() {
    let db = Db::new(4096);
    let _app = db.open();
    let at = |name: &str| db.dir.path().join(name);
    ["state", "replica"].iter().for_each(|name| fs::create_dir(at(name)).unwrap());
    let (state, replica) =
        (at("state").display().to_string(), format!("file://{}", at("replica").display()));
    for (errno, words) in [(13, "Permission denied"), (30, "Read-only file system")] {
        for (dir, step, status, place) in [
            ("state", Step::Create, Status::Failed, &state),
            ("replica", Step::MakeDir, Status::Unreachable, &replica),
            ("replica", Step::Create, Status::Unreachable, &replica),
        ] {
            let _fault = fault::fail_below(&at(dir), step, errno);
            let report = doctor(&[db.config()], None);
            assert_eq!(errors(&report), [status], "{report:?}");
            let told = report.findings.iter().find(|it| it.status.is_some()).unwrap();
            assert!(told.what.contains(words) && !told.remedy.is_empty(), "{told:?}");
            assert_eq!(&told.place, place);
        }
    }
}

/// Found by asking: doctor tried the directory beside it, and found nothing wrong.
#[test]
fn a_file_in_the_place_of_a_destination_is_found() {
    let db = Db::new(4096);
    let _app = db.open();
    fs::write(db.dir.path().join("replica"), "in its way").unwrap();
    let report = doctor(&[db.config()], None);
    assert_eq!(errors(&report), [Status::Unreachable]);
    assert!(said(&report).contains("it is not a directory"), "{report:?}");
}

/// Requests are signed for 15 minutes: a clock that is off by more than a third of that is an error, one
/// that is off by less is told of.
#[test]
fn a_clock_that_is_not_the_stores_is_told_of() {
    let destination = Destination::parse("s3://backups/app").unwrap();
    let check = |ours: u64, theirs: u64, status: Option<Status>, words: Option<&str>| {
        let mut report = Report::default();
        destination::compare_clocks(
            &mut report,
            &destination,
            Time(ours * 1000),
            Time(theirs * 1000),
        );
        let told = report.findings.first();
        assert_eq!(told.map(|it| it.status), words.map(|_| status), "{ours} {theirs}");
        let Some((told, words)) = told.zip(words) else { return };
        assert_eq!(told.what, format!("this machine's clock is {words} the store's"));
        assert!(told.remedy.contains("NTP") && told.place == destination.to_string(), "{told:?}");
    };
    check(1000, 1000, None, None);
    check(1029, 1000, None, None);
    check(1000, 1029, None, None);
    check(1030, 1000, None, Some("30s ahead of"));
    check(1000, 1299, None, Some("4m59s behind"));
    check(1300, 1000, Some(Status::Unreachable), Some("5m00s ahead of"));
    check(1000, 4600, Some(Status::Unreachable), Some("1h00m behind"));
}

/// A store that lives in 1994, and refuses everything.
#[test]
fn the_clock_of_a_store_is_in_its_replies() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("s3://backups/app?endpoint=http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = std::io::BufReader::new(connection.unwrap());
            let lines = std::io::BufRead::lines(&mut connection).map_while(Result::ok);
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let reply = "HTTP/1.1 403 Forbidden\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                         Content-Length: 0\r\nConnection: close\r\n\r\n";
            std::io::Write::write_all(connection.get_mut(), reply.as_bytes()).ok();
        }
    });
    let Ok(Destination::S3(place)) = Destination::parse(&url) else { panic!() };
    let credentials = config::Credentials::Keys {
        access_key_id: "id".into(),
        secret_access_key: config::Secret("secret".into()),
    };
    let db = Db::new(4096);
    let destinations = vec![Destination::S3(config::S3 { credentials, ..place })];
    let report = doctor(&[Database { destinations, ..db.config() }], None);
    assert_eq!(errors(&report)[0], Status::Unreachable, "{report:?}");
    assert!(said(&report).contains(" ahead of the store's\n"), "{report:?}");
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
