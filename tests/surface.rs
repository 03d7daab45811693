//! What scripts rely on, of every command: its status, one document where one is asked for, and
//! silence where that is.

use argh::ArgsInfo;
use bakelite::cli::Arguments;
use rusqlite::Connection;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output};

/// `app` on the destinations `one` and `two`, `b` on the first of them alone.
struct Place {
    dir: tempfile::TempDir,
}

/// A daemon that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        let mut config = String::new();
        for (name, destinations) in [("app", &["one", "two"][..]), ("b", &["one"])] {
            let path = place.path(&format!("{name}.db"));
            let app = Connection::open(&path).unwrap();
            app.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
            config += &format!("[[database]]\nname = {name:?}\npath = {path:?}\n");
            for destination in destinations.iter().map(|it| place.path(it)) {
                config += "[[database.destination]]\ntype = \"file\"\n";
                config += &format!("path = {destination:?}\n");
            }
        }
        fs::write(place.path("config"), config).unwrap();
        ["one", "two"].iter().for_each(|it| fs::create_dir(place.path(it)).unwrap());
        assert_eq!(place.run("keygen a-key", &[]).status.code(), Some(0));
        assert_eq!(place.run("sync", &[]).status.code(), Some(0));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn first_part(&self, replica: &str) -> PathBuf {
        let mut dir = self.path(replica).join("part");
        while dir.is_dir() {
            dir = fs::read_dir(&dir).unwrap().next().expect("a part").unwrap().path();
        }
        dir
    }

    fn run(&self, words: &str, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bakelite"));
        command.args(words.split(' ')).args(more).current_dir(&self.dir);
        command.env("BAKELITE_CONFIG", "config").env_remove("BAKELITE_KEY_FILES").output().unwrap()
    }

    /// The one document, after its status; it has the keys, and says of itself what the status says.
    fn ask(&self, words: &str, keys: &str) -> (i32, Value) {
        let output = self.run(words, &["--json"]);
        let status = output.status.code().unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).expect(words);
        assert_eq!(said["schema"], 1, "{words}");
        keys.split(' ').for_each(|key| assert!(!said[key].is_null(), "{words}: {key} in {said}"));
        match &said["error"] {
            Value::Null => {
                assert_eq!(*said.get("ok").unwrap_or(&(status == 0).into()), status == 0)
            }
            error => assert_eq!(error["status"], status, "{words}: {said}"),
        }
        (status, said)
    }
}

/// What is typed, the document's keys, and whether there is something to say with `--quiet` as well.
/// `@` is a name that is new each time.
const WELL: &[(&str, &str, bool)] = &[
    ("sync", "ok databases", false),
    ("restore --db app --output @", "commit time timeline digest page_size pages bytes", false),
    ("restore --db app --output @", "objects seconds checked output fallbacks", false),
    ("restore --db app --output @ --dry-run", "commit dry_run", false),
    ("restore --db app --output app.db --if-missing", "output existed", false),
    ("list --db app", "points", true),
    ("list --db app --objects", "objects", true),
    ("list --from one", "replicas", true),
    ("status", "databases", true),
    ("status --from one", "replicas", true),
    ("check --from one", "ok findings", false),
    ("verify", "ok findings objects bytes replicas", false),
    ("verify --deep", "ok findings objects bytes replicas", false),
    ("repair", "ok findings objects bytes healed dry_run", false),
    ("compact", "ok findings databases", false),
    ("prune", "ok findings objects bytes locked dry_run", false),
    ("prune --dry-run", "ok findings objects bytes locked dry_run", false),
    ("usage", "ok findings replicas", true),
    ("keygen @", "key file", false),
    ("reencrypt --key-file a-key --seal new --dry-run", "ok findings replicas dry_run", false),
    // All of it lies on one disk, which is a warning.
    ("doctor", "ok findings facts", true),
    ("init app.db one -c @", "ok findings facts", true),
    ("version", "version format sqlite target", true),
];

#[test]
fn what_goes_well_is_status_0_one_document_and_silent_if_asked() {
    let place = Place::new();
    let mut names = (0..).map(|at| format!("new-{at}"));
    let mut fresh = |words: &str| words.replace('@', &names.next().unwrap());
    for (words, keys, speaks) in WELL {
        assert_eq!(place.ask(&fresh(words), keys).0, 0, "{words}");
        let quiet = place.run(&fresh(words), &["--quiet"]);
        assert_eq!(quiet.status.code(), Some(0), "{words}");
        assert_eq!(!quiet.stdout.is_empty(), *speaks, "{words}: {quiet:?}");
        assert!(quiet.stderr.is_empty(), "{words}: {quiet:?}");
    }
    let tried: BTreeSet<&str> = WELL.iter().map(|it| it.0.split(' ').next().unwrap()).collect();
    let commands = Arguments::get_args_info().commands;
    // These run until they are told to end.
    let all = commands.iter().map(|it| it.name).filter(|it| !["daemon", "run"].contains(it));
    assert_eq!(tried, all.collect());
}

/// While one of the destinations is away: the status, and the document's keys.
const AWAY: &[(&str, i32, &str)] = &[
    ("sync", 8, "error"),
    ("sync --db b", 0, "ok databases"),
    ("restore --db app --output away.db", 0, "commit"),
    ("restore --db app --output app.db", 9, "error"),
    ("list --db app", 0, "points"),
    ("status", 0, "databases"),
    ("check", 5, "ok findings"),
    ("verify", 3, "ok findings replicas"),
    ("repair", 4, "ok findings"),
    ("compact", 8, "ok findings databases"),
    ("prune", 8, "ok findings"),
    ("usage", 3, "ok findings replicas"),
    ("reencrypt --key-file a-key --seal new --dry-run", 3, "ok findings replicas"),
    ("doctor", 8, "ok findings facts"),
];

#[test]
fn what_does_not_go_well_is_one_document_too_and_has_its_status() {
    let place = Place::new();
    fs::rename(place.path("two"), place.path("away")).unwrap();
    for (words, status, keys) in AWAY {
        let (found, said) = place.ask(words, keys);
        assert_eq!(found, *status, "{words}: {said}");
        let findings = said["findings"].as_array().into_iter().flatten();
        for key in ["what", "where", "remedy"] {
            assert!(findings.clone().all(|it| it[key].is_string()), "{words}: {said}");
        }
        let quiet = place.run(&words.replace("away.db", "quiet.db"), &["--quiet"]);
        assert_eq!(quiet.status.code(), Some(*status), "{words}");
        let is_silent = quiet.stdout.is_empty() && quiet.stderr.is_empty();
        assert!(*status == 0 || !is_silent, "{words}: {quiet:?}");
    }
    let used = place.ask("usage", "ok").1;
    assert_eq!(used["replicas"].as_array().unwrap().len(), 2, "those that are there: {used}");
    // What one destination has refused is no matter of the other's.
    let standings = place.ask("status --db app", "databases").1;
    let [one, two] = [0, 1].map(|at| &standings["databases"][0]["destinations"][at]);
    assert_eq!((&one["standing"], &one["error"]), (&"current".into(), &Value::Null), "{one}");
    assert!(two["standing"] == "broken" && two["error"].is_string(), "{two}");
}

/// A database that is gone keeps nobody from looking at the others, nor from healing them.
#[test]
fn a_database_that_is_nowhere_is_told_beside_the_others() {
    let place = Place::new();
    let config = fs::read_to_string(place.path("config")).unwrap();
    let gone = place.path("gone.db");
    let gone = format!(
        "[[database]]\nname = \"gone\"\npath = {gone:?}\ndestination = [{{ type = \"file\", path = {:?} }}]\n",
        place.path("one")
    );
    fs::write(place.path("config"), gone + &config).unwrap();
    let (status, said) = place.ask("status", "databases");
    assert_eq!((status, said["databases"].as_array().unwrap().len()), (3, 2), "{said}");
    let part = place.first_part("two/app");
    fs::write(&part, b"not what it was").unwrap();
    let (status, said) = place.ask("repair", "findings");
    assert_eq!((status, &said["healed"]), (3, &1.into()), "{said}");
    assert_eq!(place.ask("verify --db app", "ok").0, 0);
    let (status, said) = place.ask("reencrypt --key-file a-key --seal new", "findings replicas");
    assert_eq!((status, said["replicas"].as_array().unwrap().len()), (3, 3), "{said}");
}

/// What a file of a directory is not backed up for is told by the status, and so by the document.
#[test]
fn a_sync_that_leaves_a_file_out_is_not_ok() {
    let place = Place::new();
    fs::create_dir(place.path("dbs")).unwrap();
    fs::copy(place.path("app.db"), place.path("dbs/a.db")).unwrap();
    fs::copy(place.path("app.db"), place.path("dbs/o dear.db")).unwrap();
    let config = format!(
        "[[database]]\ndir = {:?}\npattern = \"*.db\"\ndestination = [{{ type = \"file\", path = {:?} }}]\n",
        place.path("dbs"),
        place.path("one")
    );
    fs::write(place.path("config"), config).unwrap();
    let (status, said) = place.ask("sync", "databases");
    assert_eq!((status, said["databases"].as_array().unwrap().len()), (2, 1), "{said}");
}

/// What a script does about a gap is not what it does about a damaged object.
#[test]
fn a_gap_is_told_from_other_damage() {
    let place = Place::new();
    let app = Connection::open(place.path("b.db")).unwrap();
    for value in 0..3 {
        app.execute("INSERT INTO t VALUES (?1)", [value]).unwrap();
        assert_eq!(place.run("sync --db b", &[]).status.code(), Some(0));
    }
    let said = place.ask("list --db b --objects", "objects").1;
    let objects = said["objects"].as_array().unwrap();
    let second = objects.iter().find(|it| it["kind"] == "change" && it["first"] == 3).expect("one");
    fs::remove_file(place.path("one/b").join(second["name"].as_str().unwrap())).unwrap();
    let (status, said) = place.ask("restore --db b --output x --commit 3", "error");
    assert_eq!((status, &said["error"]["kind"]), (4, &"gap".into()), "{said}");
}

/// Of a directory whose disk is not mounted, nothing was looked at and the weekly `verify` said that all was
/// well. The databases that are there are looked at all the same.
#[test]
fn a_directory_with_no_database_is_not_well_and_keeps_nobody_from_the_others() {
    let place = Place::new();
    fs::create_dir(place.path("empty")).unwrap();
    let directory = |name: &str| {
        let to = place.path("one");
        let destination = format!("{{ type = \"file\", path = {to:?} }}");
        format!("[[database]]\ndir = {:?}\ndestination = [{destination}]\n", place.path(name))
    };
    let app = fs::read_to_string(place.path("config")).unwrap();
    let commands = [
        "verify --deep --quiet",
        "usage",
        "repair",
        "prune",
        "compact",
        "reencrypt --key-file a-key --seal new --dry-run",
        "status",
    ];
    for (name, cause) in [("empty", "no database here is called *.db"), ("gone", "No such file")] {
        for (others, beside) in [("", 0), (&*app, 2)] {
            fs::write(place.path("config"), directory(name) + others).unwrap();
            for words in commands {
                let (status, said) = place.ask(words, "schema");
                assert_eq!(status, 3, "{words}: {said}");
                let output = place.run(words, &[]);
                let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
                let words = format!("{words}: {told}");
                assert!(told.contains(cause) && told.contains(&format!("/{name}")), "{words}");
                let of_others = ["replicas", "databases"].iter().find_map(|it| said[it].as_array());
                assert!(of_others.is_none_or(|it| it.len() >= beside), "{words}: {said}");
            }
        }
        fs::write(place.path("config"), directory(name)).unwrap();
        for words in ["list", "restore --output x"] {
            let (status, said) = place.ask(words, "error");
            let message = said["error"]["message"].as_str().unwrap();
            assert!(status == 3 && message.contains(cause), "{words}: {said}");
        }
    }
}

/// One key file that was not there kept every other database from being proved.
#[test]
fn a_key_that_is_missing_keeps_no_other_database_from_being_verified() {
    let place = Place::new();
    let config = fs::read_to_string(place.path("config")).unwrap();
    let (app, b) = config.split_at(config.rfind("[[database]]\n").unwrap());
    for (key, expected) in [("no-such-key", 7), ("one", 2)] {
        let keyed =
            b.replacen("\npath", &format!("\nkey_files = [{:?}]\npath", place.path(key)), 1);
        fs::write(place.path("config"), keyed + app).unwrap();
        let (status, said) = place.ask("verify --deep", "findings replicas");
        assert_eq!(status, expected, "{said}");
        let [of_key] = &said["findings"].as_array().unwrap()[..] else { panic!("{said}") };
        let what = of_key["what"].as_str().unwrap();
        assert!(what.contains("read the key: ") && what.contains(key), "{of_key}");
        assert!(!of_key["remedy"].as_str().unwrap().contains("repair"), "{of_key}");
        let replicas = said["replicas"].as_array().unwrap();
        let whole: Vec<_> = replicas.iter().map(|it| it["verdict"] == "whole").collect();
        assert_eq!(whole, [false, true, true], "{said}");
        assert_ne!(replicas[0]["verdict"], "damaged", "{said}");
    }
}

/// What is not damage was called so, and to be repaired.
#[test]
fn verify_calls_damaged_what_is_damaged() {
    let place = Place::new();
    let verdict = |said: &Value| said["replicas"][0]["verdict"].as_str().unwrap().to_owned();
    for words in ["verify one/b --key-file a-key", "verify one/b --deep --key-file a-key"] {
        let (status, said) = place.ask(words, "findings");
        assert_eq!(
            (status, &*verdict(&said)),
            (7, "not opened by the keys that were given"),
            "{said}"
        );
        assert!(!said.to_string().contains("bakelite repair"), "{said}");
    }
    fs::create_dir_all(place.path("one/b/change")).unwrap();
    fs::write(place.path("one/b/change/.DS_Store"), "x").unwrap();
    let (status, said) = place.ask("verify one/b --deep", "findings");
    assert_eq!((status, &*verdict(&said), &said["ok"]), (0, "whole", &true.into()), "{said}");
    assert_eq!(said["findings"][0]["kind"], "warning", "{said}");
    let said = place.run("verify one/b", &[]);
    assert!(String::from_utf8_lossy(&said.stdout).contains(".DS_Store: warning: not an object"));
    assert!(place.run("verify one/b", &["--quiet"]).stdout.is_empty());
    fs::remove_file(place.first_part("one/b")).unwrap();
    assert_eq!(place.ask("verify one/b", "findings").0, 4, "that is damage");
}

/// A first snapshot that is under way, as a daemon leaves it that was killed meanwhile.
#[test]
fn a_replica_that_has_only_begun_is_not_damaged() {
    let place = Place::new();
    let app = Connection::open(place.path("b.db")).unwrap();
    app.execute_batch("INSERT INTO t VALUES (randomblob(12000000))").unwrap();
    let config = format!(
        "[[database]]\nname = \"b\"\npath = {:?}\nstate_dir = {:?}\nsnapshot_rate = \"1MiB\"\n\
         destination = [{{ type = \"file\", path = {:?} }}]\n",
        place.path("b.db"),
        place.path("state"),
        place.path("two")
    );
    fs::write(place.path("config"), config).unwrap();
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_bakelite"));
    daemon.args(["daemon", "--config", "config"]).current_dir(&place.dir);
    let mut daemon = Killed(daemon.spawn().unwrap());
    while !place.path("two/b/part").exists() {
        assert_eq!(daemon.0.try_wait().unwrap(), None);
    }
    drop(daemon);
    assert_eq!(place.ask("restore --output x", "error").0, 3);
    for words in ["verify", "verify --deep"] {
        let (status, said) = place.ask(words, "findings");
        let verdict = &said["replicas"][0]["verdict"];
        assert_eq!((status, verdict), (3, &"nothing can be restored from it yet".into()), "{said}");
        assert!(!said.to_string().contains("bakelite repair"), "{said}");
    }
}

/// Whoever can write to a destination names files there: a line of `verify` was forged by one, and a terminal
/// obeyed another.
#[test]
fn what_a_file_is_called_stays_a_part_of_its_line() {
    let place = Place::new();
    let odd = |name: &str| format!("{name}\u{1b}[2J\nforged: whole");
    fs::create_dir_all(place.path("one/b/change/0")).unwrap();
    fs::write(place.path("one/b/change/0").join(odd("x")), "").unwrap();
    fs::rename(place.path("one/app"), place.path("one").join(odd("app"))).unwrap();
    let replica = format!("one/{}", odd("app"));
    let gone = place.path(&odd("gone"));
    let config = fs::read_to_string(place.path("config")).unwrap();
    let gone = gone.display().to_string().replace('\u{1b}', "\\u001b").replace('\n', "\\n");
    let to = place.path("two");
    let directory = format!(
        "[[database]]\ndir = \"{gone}\"\ndestination = [{{ type = \"file\", path = {to:?} }}]\n"
    );
    fs::write(place.path("config"), directory + &config).unwrap();
    for words in [
        &["verify", "one/b"][..],
        &["verify", &replica],
        &["verify"],
        &["repair", "--db", "b"],
        &["repair"],
        &["check"],
        &["check", "--from", "one", "--max-age", "0s"],
        &["doctor"],
        &["usage"],
        &["usage", &replica],
        &["status", "--from", "one"],
        &["list", "--from", "one"],
        &["reencrypt", &replica, "--key-file", "a-key", "--seal", "new", "--dry-run"],
        &["restore", &replica, "--output", &odd("out"), "--dry-run"],
        &["restore", &replica, "--output", &odd("out")],
        &["restore", &replica, "--output", &odd("out"), "--if-missing"],
        &["keygen", &odd("key")],
    ] {
        let output = place.run(words[0], &words[1..]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("\\u{1b}[2J\\nforged: whole"), "{words:?}: {said}");
        assert!(!said.contains('\u{1b}') && !said.contains("\nforged"), "{words:?}: {said}");
    }
}

/// `usage` said that parts could go which `prune` then left alone: those of a snapshot under way, and those
/// that another host may have put there for one.
#[test]
fn usage_says_what_prune_would_do() {
    let place = Place::new();
    let some = place.first_part("one/b");
    fs::copy(&some, some.with_file_name("00000001-00000000000000000000000000000001")).unwrap();
    let would = || {
        let used = place.ask("usage --db b", "replicas").1;
        let pruned = place.ask("prune --db b --dry-run", "findings").1;
        let free = used["replicas"][0]["to_free"]["objects"].clone();
        assert_eq!(free, pruned["objects"], "{used} {pruned}");
        free
    };
    assert_eq!(would(), 1, "no daemon is there to name it");
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_bakelite"));
    daemon.args(["daemon", "--config", "config", "--db", "b"]).current_dir(&place.dir);
    let mut daemon = Killed(daemon.spawn().unwrap());
    while place.run("check --db b", &[]).status.code() != Some(0) {
        assert_eq!(daemon.0.try_wait().unwrap(), None);
    }
    assert_eq!(would(), 0, "a snapshot may be under way");
    drop(daemon);
    fs::remove_dir_all(place.path(".b.db.bakelite")).unwrap();
    assert_eq!(would(), 0, "nobody here knows whose it is");
}
