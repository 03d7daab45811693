//! Buckets on a real server: the backend does what every backend has to, and the program backs up to
//! them and restores from them.

#[path = "s3/locks.rs"]
mod locks;
mod support;

use bakelite::backend::conformance::{self, PAGE, change};
use bakelite::backend::s3::S3;
use bakelite::backend::{Backend, Kind};
use bakelite::config::{self, Destination, Secret};
use bakelite::name::Name;
use rusqlite::Connection;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use support::{BUCKET, READER, REGION, WRITER, Weed, weed};

fn place(prefix: &str, [id, secret]: [&str; 2]) -> config::S3 {
    place_at(&url(weed(), prefix), [id, secret])
}

fn place_at(url: &str, [id, secret]: [&str; 2]) -> config::S3 {
    let Destination::S3(place) = Destination::parse(url).unwrap() else { panic!("{url}") };
    let secret_access_key = Secret(secret.to_owned());
    let access_key_id = id.to_owned();
    config::S3 {
        credentials: config::Credentials::Keys { access_key_id, secret_access_key },
        ..place
    }
}

fn url(weed: &Weed, prefix: &str) -> String {
    format!("s3://{BUCKET}/{prefix}?endpoint={}&region={REGION}", weed.endpoint())
}

#[test]
fn a_real_server_conforms() {
    conformance::suite(|| {
        let place = place(&weed().fresh_prefix(), WRITER);
        Arc::new(S3::create(&place).unwrap().with_page(PAGE))
    });
}

#[test]
fn foreign_keys_are_told_apart() {
    let prefix = weed().fresh_prefix();
    let s3 = S3::create(&place(&prefix, WRITER)).unwrap().with_page(PAGE);
    conformance::foreign_keys(&s3, |key| weed().plant(&format!("{prefix}/{key}")));
}

#[test]
fn what_lies_below_a_prefix_is_listed_page_by_page() {
    let prefix = weed().fresh_prefix();
    for key in ["a/x", "b/timeline/y", "b/z/w", "c0/x", "c/x", "d e/x", "file"] {
        weed().plant(&format!("{prefix}/{key}"));
    }
    for page in [2, 1000] {
        let s3 = S3::read(&place(&prefix, READER)).unwrap().with_page(page);
        let mut names = s3.below().unwrap();
        names.sort();
        assert_eq!(names, ["a", "b", "c", "c0", "d e"], "{page} keys to a page");
    }
}

/// The server may answer before it has read the body, and not read on.
#[test]
fn a_large_object_that_is_there_is_told() {
    let s3 = S3::create(&place(&weed().fresh_prefix(), WRITER)).unwrap();
    let body = vec![3; 32 << 20];
    s3.put(&change(0, 1), &body).unwrap();
    assert_eq!(s3.put(&change(0, 1), &body).unwrap_err().kind, Kind::Exists);
    assert!(s3.get(&change(0, 1)).unwrap() == body);
}

#[test]
fn trap_81_a_real_server_refuses_in_words_that_are_understood() {
    let prefix = weed().fresh_prefix();
    let writer = S3::create(&place(&prefix, WRITER)).unwrap();
    writer.put(&change(0, 1), b"x").unwrap();
    let check = |place: &config::S3, kind, hint: &str| {
        let s3 = S3::open(place).unwrap();
        let created = S3::create(place).map(drop);
        for result in [
            s3.list(Name::CHANGES, None).map(drop),
            s3.get(&change(0, 1)).map(drop),
            s3.put(&change(0, 2), b"x"),
            created,
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.hint.as_ref().is_some_and(|it| it.contains(hint)), "{error:?}");
        }
    };
    check(&place(&prefix, ["nobody", "secret"]), Kind::Denied, "check the access key");
    check(&place(&prefix, [WRITER[0], "wrong"]), Kind::Denied, "check the access key");
    let elsewhere = config::S3 { bucket: "not-there".to_owned(), ..place(&prefix, WRITER) };
    check(&elsewhere, Kind::Other, "create the bucket");

    let reader = S3::open(&place(&prefix, READER)).unwrap();
    assert_eq!(reader.get(&change(0, 1)).unwrap(), b"x");
    assert_eq!(reader.list(Name::CHANGES, None).unwrap().entries.len(), 1);
    for error in [
        reader.put(&change(0, 2), b"x").unwrap_err(),
        reader.delete(&change(0, 1)).unwrap_err(),
        S3::create(&place(&prefix, READER)).unwrap_err(),
    ] {
        assert_eq!(error.kind, Kind::Denied, "{error}");
    }
    assert_eq!(writer.get(&change(0, 1)).unwrap(), b"x");
}

/// The harness beside this program, as an operator holds a store of his own to it.
#[test]
fn a_real_server_passes_the_suite_of_the_harness_and_is_left_as_it_was() {
    let torture = Path::new(env!("CARGO_BIN_EXE_bakelite")).with_file_name("torture");
    assert!(torture.exists(), "run: cargo test --workspace --features bakelite/s3-server");
    let prefix = weed().fresh_prefix();
    let place = place(&prefix, WRITER);
    S3::open(&place).unwrap().put(&change(0, 1), b"of somebody else").unwrap();
    let mut command = Command::new(torture);
    command.args(["suite", &url(weed(), &prefix), "drain"]).env_remove("AWS_SESSION_TOKEN");
    command.env("AWS_ACCESS_KEY_ID", WRITER[0]).env("AWS_SECRET_ACCESS_KEY", WRITER[1]);
    let said = said(command.output().unwrap());
    assert!(said.contains("removed s3://") && said.contains(" 0 violations: Right"), "{said}");
    assert_eq!(S3::open(&place).unwrap().get(&change(0, 1)).unwrap(), b"of somebody else");
}

fn bakelite(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bakelite"));
    command.args(words).env_remove("BAKELITE_CONFIG").env_remove("AWS_SESSION_TOKEN");
    command.env("AWS_ACCESS_KEY_ID", WRITER[0]).env("AWS_SECRET_ACCESS_KEY", WRITER[1]);
    command
}

fn said(output: Output) -> String {
    let said = |bytes| String::from_utf8(bytes).unwrap();
    assert!(output.status.success(), "{}", said(output.stderr));
    said(output.stdout)
}

fn run(words: &[&str]) -> String {
    said(bakelite(words).output().unwrap())
}

/// A database of a few rows, kept open so that its WAL stays.
fn database(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
    for _ in 0..50 {
        insert(&connection);
    }
    connection
}

fn insert(connection: &Connection) -> i64 {
    connection.execute("INSERT INTO t VALUES (hex(randomblob(300)))", []).unwrap();
    connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

fn rows(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare("SELECT x FROM t ORDER BY rowid").unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_database_goes_to_a_bucket_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let [db, out] = ["app.db", "out.db"].map(|name| dir.path().join(name));
    let connection = database(&db);
    let url = url(weed(), &format!("{}/app", weed().fresh_prefix()));
    let [db_word, out_word] = [&db, &out].map(|path| path.to_str().unwrap());
    run(&["sync", db_word, &url]);
    insert(&connection);
    run(&["sync", db_word, &url]);
    let verified: Value =
        serde_json::from_str(&run(&["verify", &url, "--deep", "--json"])).unwrap();
    assert_eq!(verified["ok"], true, "{verified}");
    assert!(run(&["list", &url]).contains("all"));
    let status: Value = serde_json::from_str(&run(&["status", db_word, &url, "--json"])).unwrap();
    assert_eq!(status["databases"][0]["destinations"][0]["url"], url.as_str());
    run(&["restore", &url, "--output", out_word, "--check", "full"]);
    assert_eq!(rows(&out), rows(&db));
    assert_eq!(rows(&out).len(), 51);
}

#[test]
fn a_configuration_names_a_bucket_and_the_daemon_ships_there() {
    let dir = tempfile::tempdir().unwrap();
    let [db, out, config, keys] =
        ["app.db", "out.db", "bakelite.toml", "keys"].map(|name| dir.path().join(name));
    let connection = database(&db);
    let text = format!(
        "[[database]]\nname = \"app\"\npath = \"{}\"\nship_interval = \"100ms\"\n\
         [[database.destination]]\ntype = \"s3\"\nbucket = \"{BUCKET}\"\nprefix = \"{}\"\n\
         endpoint = \"{}\"\ncredentials_file = \"{}\"\n",
        db.display(),
        weed().fresh_prefix(),
        weed().endpoint(),
        keys.display(),
    );
    fs::write(&config, text).unwrap();
    let [id, secret] = WRITER;
    fs::write(&keys, format!("aws_access_key_id={id}\naws_secret_access_key={secret}\n")).unwrap();
    chmod(&keys, 0o600);
    let with = |words: &[&str]| {
        let mut command = bakelite(&["--config", config.to_str().unwrap()]);
        command.args(words).env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        command
    };
    let mut daemon = with(&["daemon"]).spawn().unwrap();
    for _ in 0..10 {
        insert(&connection);
        said(with(&["sync"]).output().unwrap());
    }
    insert(&connection);
    let ended = Command::new("kill").arg(daemon.id().to_string()).status().unwrap();
    assert!(ended.success() && daemon.wait().unwrap().success());
    said(with(&["restore", "--output", out.to_str().unwrap()]).output().unwrap());
    assert_eq!(rows(&out), rows(&db));
    assert_eq!(rows(&out).len(), 61);

    chmod(&keys, 0o644);
    let output = with(&["list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("hint: run: chmod 600"));
}

fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn trap_81_a_bucket_that_is_not_there_is_status_8_and_an_empty_prefix_3() {
    let status = |url: &str| bakelite(&["list", url]).output().unwrap().status.code();
    let prefix = weed().fresh_prefix();
    assert_eq!(status(&url(weed(), &prefix)), Some(3));
    assert_eq!(status(&url(weed(), &prefix).replace(BUCKET, "not-there")), Some(8));
    assert_eq!(status("s3://backups/app?endpoint=http://127.0.0.1:1"), Some(8));
    let output =
        bakelite(&["list", &url(weed(), &prefix)]).env_remove("AWS_ACCESS_KEY_ID").output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(8));
    assert!(String::from_utf8_lossy(&output.stderr).contains("hint: set AWS_ACCESS_KEY_ID"));
}

/// The certificates to trust are looked up once a process, so the program is asked, not the library.
#[test]
fn trap_82_tls_trusts_the_certificates_that_it_is_told_to() {
    let plain = url(weed(), &weed().fresh_prefix());
    let url = plain.replace(&weed().endpoint(), &weed().secure_endpoint());
    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tls");
    let list = |ca: &str| {
        let output = bakelite(&["list", &url]).env("SSL_CERT_FILE", tls.join(ca)).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, said) = list("ca.pem");
    assert_eq!(status, Some(3), "an empty prefix: {said}");
    let (status, said) = list("cert.pem");
    assert_eq!(status, Some(8), "{said}");
    assert!(said.contains("certificate") && said.contains("hint: name the certificates"), "{said}");
}
