//! The program as scripts see it: exit statuses, what goes to which stream, one document for JSON.

use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};

fn bakelite(words: &[&str]) -> Output {
    command(words).output().unwrap()
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bakelite"));
    command.args(words).env_remove("BAKELITE_CONFIG").env_remove("BAKELITE_KEY_FILES");
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn an_error_is_two_lines_and_a_status() {
    let output = bakelite(&["restore", "--outptu", "x"]);
    assert_eq!(output.status.code(), Some(2));
    let lines: Vec<&str> = text(&output.stderr).lines().collect();
    let expected = ["bakelite: restore: --outptu: no such option", "hint: did you mean --output?"];
    assert_eq!(lines, expected);
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn an_error_stays_one_line_whatever_is_in_it() {
    let output = bakelite(&["list\n\u{1b}[2J"]);
    let line = text(&output.stderr).lines().next().unwrap();
    assert_eq!(line, "bakelite: arguments: list\\n\\u{1b}[2J: no such command");
}

#[test]
fn an_error_is_a_document_too_when_asked() {
    for words in [["--json", "frobnicate"], ["list", "--json"]] {
        let output = command(&words).env("BAKELITE_CONFIG", "/nonexistent.toml").output().unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["schema"], 1);
        let error = &document["error"];
        assert_eq!((error["status"].as_i64(), error["kind"].as_str()), (Some(2), Some("usage")));
        let message = error["message"].as_str().unwrap();
        let stderr = text(&output.stderr);
        assert!(stderr.starts_with(&format!("bakelite: {message}\nhint: ")), "{stderr}");
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn a_replica_that_is_not_there_is_status_3() {
    let output = bakelite(&["list", "/nonexistent/replica", "--json"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["error"]["kind"], "missing");
}

#[test]
fn help_and_version_are_no_errors() {
    for words in [&["--help"][..], &["help", "restore"], &["sync", "-h"], &["version"], &["-V"]] {
        let output = bakelite(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    }
    let output = bakelite(&["version", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    for key in ["schema", "version", "format", "sqlite", "target"] {
        assert!(!document[key].is_null(), "{key}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error_but_a_reader_that_left_is_not() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = command(&["version"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("bakelite: write: standard output: "));
    let mut child = command(&["version"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

/// The log lies on a disk that is full, too. Found by a fault of the kernel at the write of a line, which
/// ended the daemon. Here the destination takes no file as large as the first part.
#[test]
fn trap_56_a_log_that_cannot_be_written_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let app = rusqlite::Connection::open(dir.path().join("app.db")).unwrap();
    let large = "PRAGMA journal_mode = WAL; CREATE TABLE t AS SELECT randomblob(500000)";
    app.execute_batch(large).unwrap();
    let mut sync = Command::new("sh");
    sync.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" sync app.db replica"]);
    sync.arg(env!("CARGO_BIN_EXE_bakelite")).current_dir(dir.path());
    let said = sync.output().unwrap();
    assert!(text(&said.stderr).starts_with("bakelite: app: "), "{said:?}");
    let full = File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(sync.stderr(full).status().unwrap().code(), said.status.code());
    assert_eq!(said.status.code(), Some(8));
}

/// A `sync` looks whether a daemon runs by trying its lock. A daemon that started at that moment once
/// took it for another daemon and ended.
#[test]
fn a_daemon_that_starts_while_a_sync_looks_for_one_is_not_refused() {
    let dir = tempfile::tempdir().unwrap();
    let app = rusqlite::Connection::open(dir.path().join("app.db")).unwrap();
    app.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
    let here = |verb: &str| {
        let mut command = command(&[verb, "app.db", "replica"]);
        command.current_dir(dir.path());
        command
    };
    assert!(here("sync").status().unwrap().success());
    let lock = dir.path().join(".app.db.bakelite/lock");
    std::fs::write(&lock, "daemon\n").unwrap();
    let held = File::open(&lock).unwrap();
    held.lock().unwrap();
    let mut daemon = here("daemon").spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    drop(held);
    app.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    assert!(here("sync").status().unwrap().success());
    // It may have waited for a pass of that `sync`.
    while File::open(&lock).unwrap().try_lock().is_ok() {
        assert_eq!(daemon.try_wait().unwrap(), None);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let second = here("daemon").output().unwrap();
    assert_eq!(second.status.code(), Some(6), "{second:?}");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

/// Has a daemon read its configuration again. The first line that it says of that comes back.
fn hang_up(daemon: &Child, said: &mut impl BufRead) -> String {
    let pid = daemon.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    line
}

#[test]
fn a_hangup_reads_the_configuration_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("bakelite.toml");
    fs::create_dir(dir.path().join("backup")).unwrap();
    let database = |name: &str| {
        let path = dir.path().join(name);
        let wal = "PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS t(x)";
        rusqlite::Connection::open(&path).unwrap().execute_batch(wal).unwrap();
        format!(
            "[[database]]\nname = \"{name}\"\npath = \"{}\"\n[[database.destination]]\n\
             type = \"file\"\npath = \"{}\"\n",
            path.display(),
            dir.path().join("backup").display()
        )
    };
    fs::write(&config, database("a.db")).unwrap();
    let words = ["daemon", "--config", config.to_str().unwrap()];
    let mut daemon = Daemon(command(&words).stderr(Stdio::piped()).spawn().unwrap());
    let mut said = BufReader::new(daemon.0.stderr.take().unwrap());
    let sync = || command(&["sync", "--config", config.to_str().unwrap()]).status().unwrap();
    while !dir.path().join("backup/a.db/snapshot").exists() {
        assert_eq!(daemon.0.try_wait().unwrap(), None);
    }
    fs::write(&config, "nonsense = 1").unwrap();
    let line = hang_up(&daemon.0, &mut said);
    assert!(line.contains("nonsense: unknown key"), "{line}");
    said.read_line(&mut String::new()).unwrap();
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("stays in force"), "{line}");
    fs::write(&config, database("a.db") + &database("b.db")).unwrap();
    let line = hang_up(&daemon.0, &mut said);
    assert!(line.contains("reload: 1 stay, 0 end, 1 begin"), "{line}");
    assert!(sync().success());
    daemon.end();
}

/// From a key to a sealed replica and back, with the statuses that scripts see on the way.
#[test]
fn a_sealed_replica_takes_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let app = rusqlite::Connection::open(dir.path().join("app.db")).unwrap();
    app.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (7)")
        .unwrap();
    let run = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        command(&words).current_dir(dir.path()).output().unwrap()
    };
    let status = |words: &str| run(words).status.code();
    let made = run("keygen one --json");
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let id = made["key"].as_str().unwrap().to_owned();
    assert_eq!((made["schema"].as_i64(), id.len()), (Some(1), 16));
    assert_eq!(status("keygen one"), Some(9));
    assert_eq!(status("keygen two --quiet"), Some(0));
    assert_eq!(status("sync app.db replica --key-file one"), Some(0));
    let refused = run("restore replica --output out.db");
    assert_eq!(refused.status.code(), Some(7));
    assert!(text(&refused.stderr).contains(&format!("it is sealed under key {id}")), "{refused:?}");
    assert_eq!(status("list replica --key-file two"), Some(7));
    assert_eq!(status("list replica --key-file missing"), Some(7));
    let restore = ["restore", "replica", "--output", "out.db"];
    let mut with_environment = command(&restore);
    with_environment.current_dir(dir.path()).env("BAKELITE_KEY_FILES", dir.path().join("one"));
    assert!(with_environment.status().unwrap().success());
    let out = rusqlite::Connection::open(dir.path().join("out.db")).unwrap();
    assert_eq!(out.query_row("SELECT x FROM t", [], |row| row.get(0)), Ok(7));
    assert_eq!(status("reencrypt replica"), Some(2), "no key");
    let dry = run("reencrypt replica --key-file two --key-file one --dry-run --json");
    let dry: Value = serde_json::from_slice(&dry.stdout).unwrap();
    let found = &dry["replicas"][0]["found"][0];
    assert_eq!(
        (found["key"].as_str(), &found["objects"]),
        (Some(&*id), &dry["replicas"][0]["objects"])
    );
    assert_eq!(status("reencrypt replica --key-file two"), Some(7), "the old key is wanted");
    assert_eq!(status("reencrypt replica --key-file two --key-file one"), Some(0));
    assert_eq!(status("verify replica --deep --key-file one"), Some(7));
    assert_eq!(status("verify replica --deep --key-file two"), Some(0));
    assert_eq!(status("reencrypt replica --key-file two --to-plain"), Some(2), "a daemon seals");
    assert_eq!(status("reencrypt replica --key-file two --to-plain --seal none"), Some(0));
    assert_eq!(status("verify replica --deep"), Some(0));
    assert_eq!(status("list replica --key-file two"), Some(7), "not sealed");
    assert_eq!(status("list replica --key-file two --seal new"), Some(0));
}

/// What a service says of itself, up to these words.
fn told(socket: &UnixDatagram, words: &str) -> String {
    let (mut buffer, mut said) = ([0; 1000], String::new());
    while !said.contains(words) {
        let length = socket.recv(&mut buffer).unwrap();
        said += text(&buffer[..length]);
    }
    said
}

/// Does not outlive its test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

impl Daemon {
    /// As SIGTERM does it.
    fn end(&mut self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        assert!(self.0.wait().unwrap().success());
    }
}

#[test]
fn systemd_is_told_how_a_daemon_is() {
    let dir = tempfile::tempdir().unwrap();
    let app = rusqlite::Connection::open(dir.path().join("app.db")).unwrap();
    app.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut daemon = command(&["daemon", "app.db", "replica"]);
    daemon.current_dir(dir.path()).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "3000000");
    let mut daemon = Daemon(daemon.spawn().unwrap());
    assert!(told(&socket, "READY=1").contains("STATUS=watching 1 database"));
    told(&socket, "WATCHDOG=1");
    daemon.end();
    told(&socket, "STOPPING=1");
}

fn kill(daemon: &Child, signal: &str) {
    let pid = daemon.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

/// With DB and DEST there is no configuration to read again: a terminal that is gone ends it as well.
#[test]
fn an_interrupt_and_a_hangup_ship_what_is_committed_and_end() {
    let dir = tempfile::tempdir().unwrap();
    let app = rusqlite::Connection::open(dir.path().join("app.db")).unwrap();
    app.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let here = |words: &[&str]| {
        let mut command = command(words);
        command.current_dir(dir.path());
        command
    };
    for (at, signal) in ["-INT", "-HUP"].into_iter().enumerate() {
        let mut daemon = here(&["daemon", "app.db", "replica", "--json", "--quiet"]);
        daemon.env("NOTIFY_SOCKET", &path).stdout(Stdio::piped()).stderr(Stdio::piped());
        let daemon = daemon.spawn().unwrap();
        told(&socket, "READY=1");
        assert!(here(&["sync", "app.db", "replica"]).status().unwrap().success());
        let check = here(&["check", "app.db", "replica"]).output().unwrap();
        assert!(check.status.success() && check.stdout.is_empty(), "{check:?}");
        app.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        kill(&daemon, signal);
        let ended = daemon.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), text(&ended.stderr)), (Some(0), ""));
        let said: Value = serde_json::from_slice(&ended.stdout).unwrap();
        let newest = &said["databases"][0]["commit"];
        assert!(said["schema"] == 1 && newest.is_u64(), "{said}");
        let (out, commit) = (format!("{at}.db"), newest.to_string());
        let words = ["restore", "replica", "--quiet", "--output", &out, "--commit", &commit];
        assert!(here(&words).status().unwrap().success());
        let out = rusqlite::Connection::open(dir.path().join(out)).unwrap();
        let rows = out.query_row("SELECT count(*) FROM t", [], |row| row.get(0));
        assert_eq!(rows, Ok(at as i64 + 1));
    }
}

/// The first one waits for a store that takes connections and never answers.
#[test]
fn a_second_signal_waits_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let app = rusqlite::Connection::open(dir.path().join("app.db")).unwrap();
    app.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("s3://bucket/app?endpoint=http://{}", silent.local_addr().unwrap());
    let mut daemon = command(&["daemon", "app.db", &url]);
    daemon.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "secret");
    daemon.current_dir(dir.path()).env("NOTIFY_SOCKET", &path);
    let mut daemon = Daemon(daemon.spawn().unwrap());
    let _unanswered = silent.accept().unwrap();
    kill(&daemon.0, "-TERM");
    told(&socket, "STOPPING=1");
    kill(&daemon.0, "-INT");
    assert_eq!(daemon.0.wait().unwrap().code(), Some(1));
}

/// It is a plain copy, and a large one.
#[test]
fn what_a_deep_check_has_restored_does_not_outlive_it() {
    for (signal, number) in [("-TERM", 15), ("-INT", 2)] {
        let dir = tempfile::tempdir().unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("s3://bucket/app?endpoint=http://{}", silent.local_addr().unwrap());
        let mut verify = command(&["verify", "--deep", &url]);
        verify.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "secret");
        let mut verify = Daemon(verify.env("TMPDIR", dir.path()).spawn().unwrap());
        let _unanswered = silent.accept().unwrap();
        let scratch = || fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let inside = scratch().next().unwrap().join("restored");
        fs::create_dir(&inside).unwrap();
        fs::write(inside.join("restored.db"), "rows").unwrap();
        kill(&verify.0, signal);
        assert_eq!(verify.0.wait().unwrap().signal(), Some(number));
        assert_eq!(scratch().count(), 0);
    }
}

/// A first snapshot that is told to take more than a second, and so has a bar where one is asked for. The
/// last one is not: what is no terminal gets one only then.
#[test]
fn a_bar_is_drawn_on_standard_error_alone_and_only_where_it_is_asked_for() {
    for (words, drawn) in [
        (&["--progress", "always"][..], true),
        (&["--progress", "never"], false),
        (&["--quiet"], false),
        (&[], false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path).display().to_string();
        let app = rusqlite::Connection::open(at("app.db")).unwrap();
        let large = "PRAGMA journal_mode = WAL; CREATE TABLE t AS SELECT randomblob(12000000)";
        app.execute_batch(large).unwrap();
        let config = format!(
            "[[database]]\nname = \"app\"\npath = \"{}\"\nsnapshot_rate = \"8MiB\"\n\
             destination = [{{ type = \"file\", path = \"{}\" }}]\n",
            at("app.db"),
            at("")
        );
        fs::write(at("b.toml"), config).unwrap();
        let mut daemon =
            command(&[&["daemon", "--json", "--config", &at("b.toml")], words].concat());
        daemon.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut daemon = Daemon(daemon.spawn().unwrap());
        while fs::read_dir(at("app/snapshot")).map_or(0, Iterator::count) == 0 {
            assert_eq!(daemon.0.try_wait().unwrap(), None);
        }
        kill(&daemon.0, "-TERM");
        let read = |from: Option<&mut dyn Read>| {
            let mut said = String::new();
            from.unwrap().read_to_string(&mut said).unwrap();
            said
        };
        let out = read(daemon.0.stdout.as_mut().map(|it| it as _));
        let err = read(daemon.0.stderr.as_mut().map(|it| it as _));
        assert!(daemon.0.wait().unwrap().success());
        let document: Value = serde_json::from_str(&out).unwrap();
        assert!(document["schema"] == 1 && out.lines().count() == 1, "{out}");
        let bars = err.lines().filter(|line| line.contains("% [") && line.contains(" pages "));
        assert_eq!(bars.count() > 0, drawn, "{words:?}: {err}");
    }
}

/// Every replica below a place, as a script that watches a fleet sees it.
#[test]
fn a_fleet_is_looked_at_from_one_place() {
    let dir = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| command(words).current_dir(dir.path()).output().unwrap();
    fs::create_dir_all(dir.path().join("fleet/shop")).unwrap();
    for (db, replica) in [("a.db", "fleet/a"), ("b.db", "fleet/shop/b")] {
        let app = rusqlite::Connection::open(dir.path().join(db)).unwrap();
        app.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
        assert!(run(&["sync", db, replica]).status.success());
    }
    let shown = run(&["status", "--from", "fleet", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["schema"], 1);
    let replicas = shown["replicas"].as_array().unwrap();
    let url = |at: usize| replicas[at]["url"].as_str().unwrap();
    assert!(replicas.len() == 2 && url(0).ends_with("/fleet/a") && url(1).ends_with("/shop/b"));
    assert!(replicas.iter().all(|it| it["commit"].is_u64() && it["error"].is_null()), "{shown}");
    let listed = run(&["list", "--from", "fleet"]);
    let listed: Vec<_> = text(&listed.stdout).lines().collect();
    assert!(listed.len() == 3 && listed[1].starts_with("a ") && listed[2].starts_with("shop/b "));
    let one = run(&["list", "--from", "fleet/a", "--json"]);
    let one: Value = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!((&one["schema"], &one["replicas"][0]["name"]), (&1.into(), &".".into()), "{one}");
    assert_eq!(run(&["list", "--from", "fleet", "--objects"]).status.code(), Some(2));
    let check = |words: &[&str]| run(&[&["check", "--from", "fleet"], words].concat());
    let well = check(&[]);
    assert_eq!((well.status.code(), text(&well.stdout)), (Some(0), ""));
    assert_eq!(check(&["--max-age", "1d"]).status.code(), Some(0));
    let stale = check(&["--max-age", "0s", "--json"]);
    assert_eq!(stale.status.code(), Some(5));
    let stale: Value = serde_json::from_slice(&stale.stdout).unwrap();
    assert_eq!((&stale["ok"], stale["findings"].as_array().unwrap().len()), (&false.into(), 2));
    assert_eq!(run(&["status", "--from", "."]).status.code(), Some(0));
    fs::remove_dir_all(dir.path().join("fleet/shop/b/snapshot")).unwrap();
    assert_eq!(check(&[]).status.code(), Some(3));
    assert_eq!(run(&["status", "--from", "fleet/shop/b/part"]).status.code(), Some(3));
}

/// A directory of databases, one of them bad, one of them lost, as an operator meets it.
#[test]
fn a_directory_is_a_source_from_the_first_sync_to_a_restore() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    fs::create_dir(at("tenants")).unwrap();
    fs::create_dir(at("backup")).unwrap();
    for name in ["acme", "blue"] {
        let app = rusqlite::Connection::open(at(&format!("tenants/{name}.db"))).unwrap();
        app.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
    }
    let config = format!(
        "[[database]]\ndir = \"{}\"\ndestination = [{{ type = \"file\", path = \"{}\" }}]\n",
        at("tenants").display(),
        at("backup").display()
    );
    fs::write(at("b.toml"), config).unwrap();
    let run = |words: &[&str]| {
        let words = [words, &["--config", "b.toml"]].concat();
        let done = command(&words).current_dir(dir.path()).output().unwrap();
        (done.status.code().unwrap(), text(&done.stdout).to_owned(), text(&done.stderr).to_owned())
    };
    assert_eq!(run(&["sync"]), (0, String::new(), String::new()));
    fs::write(at("tenants/o dear.db"), "no database").unwrap();
    let (status, _, said) = run(&["sync"]);
    assert!(status == 2 && said.contains("/o dear.db: its name is not fit"), "{status} {said}");
    let (status, said, _) = run(&["check"]);
    assert!(status == 2 && said.contains("/o dear.db: its name is not fit"), "{status} {said}");
    assert_eq!(run(&["verify", "--deep", "--quiet"]).0, 0);
    let (_, said, _) = run(&["status", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let databases = said["databases"].as_array().unwrap();
    let names: Vec<_> = databases.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["acme", "blue"]);
    let place = &databases[1]["destinations"][0];
    assert!(place["verified_time"].is_string(), "{place}");
    assert_eq!(place["verified_time"], place["verified_deep_time"]);
    assert!(run(&["list"]).2.contains("choose one with --db: acme, blue"));
    fs::remove_file(at("tenants/blue.db")).unwrap();
    assert_eq!(run(&["list", "--db", "blue"]).0, 0);
    assert_eq!(run(&["restore", "--db", "blue", "--output", "back.db"]).0, 0);
    assert_eq!(run(&["list", "--db", "green"]).0, 3);
    fs::remove_file(at("tenants/acme.db")).unwrap();
    fs::remove_file(at("tenants/o dear.db")).unwrap();
    let (status, said, _) = run(&["check"]);
    assert!(status == 3 && said.contains("no database here is called *.db"), "{status} {said}");
}
