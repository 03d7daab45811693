use super::*;
use crate::seal::Rule;

mod bad;

fn parse(text: &str) -> Result<Config> {
    let variable = |name: &str| (name == "ROOT").then(|| "/srv".to_owned());
    Config::parse(text, Path::new("b.toml"), &variable)
}

/// A sound configuration, with a line in each of its tables to fill in.
fn with(defaults: &str, database: &str, destination: &str) -> String {
    format!(
        "[defaults]\n{defaults}\n[[database]]\nname = \"app\"\npath = \"/a/app.db\"\n{database}\n\
         [[database.destination]]\ntype = \"file\"\npath = \"/m\"\n{destination}\n"
    )
}

fn only(text: &str) -> Database {
    let mut databases = parse(text).unwrap().databases;
    assert_eq!(databases.len(), 1);
    databases.remove(0)
}

#[test]
fn the_least_configuration_has_every_default() {
    let expected = Database {
        name: "app".into(),
        path: "/a/app.db".into(),
        state_dir: "/a/.app.db.bakelite".into(),
        destinations: vec![Destination::File { root: "/m/app".into() }],
        mirrors: vec![],
        caps: vec![],
        settings: Settings::default(),
    };
    assert_eq!(only(&with("", "", "")), expected);
    let short = "database = [{ name = 'app', path = '/a/app.db', \
                 destination = [{ type = 'file', path = '/m' }] }]";
    assert_eq!(only(short), expected);
}

#[test]
fn every_setting_can_stand_in_both_places() {
    let lines = "poll_interval = \"20ms\"\nship_interval = \"0s\"\nsnapshot_interval = \"7d\"\n\
                 snapshot_rate = \"10MiB\"\n\
                 checkpoint_pages = 0x10\nwal_max = \"1GiB\"\nspool_max = 4096\n\
                  compression = \"none\"\ncompaction = [\"1m\"]\nkeep = [\"1h:2d\"]\n\
                  key_files = [\"/k\", \"${ROOT}/l\"]\nseal = \"new\"\n\
                  metrics_file = \"/p\"\nmetrics_listen = \"[::1]:9187\"\n\
                  ping_url = \"https://x.org/a?b=${ROOT}\"\n";
    let expected = Settings {
        poll_interval: Duration::from_millis(20),
        ship_interval: Some(Duration::ZERO),
        snapshot_interval: Duration::from_secs(7 * 86_400),
        snapshot_rate: Some(10 << 20),
        checkpoint_pages: 16,
        wal_max: 1 << 30,
        spool_max: 4096,
        compression: Compression::None,
        compaction: vec![Duration::from_secs(60)],
        keep: Keep::parse(&["1h:2d".to_owned()]).unwrap(),
        sealing: Sealing { key_files: vec!["/k".into(), "/srv/l".into()], rule: Rule::New },
        observers: Observers {
            metrics_file: Some("/p".into()),
            metrics_listen: Some("[::1]:9187".parse().unwrap()),
            ping_url: Some("https://x.org/a?b=/srv".into()),
        },
    };
    assert_eq!(only(&with(lines, "", "")).settings, expected);
    assert_eq!(only(&with("", lines, "")).settings, expected);
    for key in KEYS.iter().filter(|key| key.place == Place::Setting) {
        assert!(lines.contains(key.name), "{} is not tried here", key.name);
    }
}

#[test]
fn a_database_overrides_the_defaults_for_itself_alone() {
    let two = with("ship_interval = \"5s\"\nwal_max = \"1MB\"", "ship_interval = \"auto\"", "")
        + "[[database]]\nname = \"b\"\npath = \"/a/b.db\"\nstate_dir = \"/s/b\"\n\
           [[database.destination]]\ntype = \"file\"\npath = \"${ROOT}/${DIR:-x}\"\n";
    let databases = parse(&two).unwrap().databases;
    assert_eq!(databases[0].settings.ship_interval, None);
    assert_eq!(databases[1].settings.ship_interval, Some(Duration::from_secs(5)));
    assert_eq!([0, 1].map(|at: usize| databases[at].settings.wal_max), [1_000_000; 2]);
    assert_eq!(databases[1].state_dir, Path::new("/s/b"));
    assert_eq!(databases[1].destinations[0].to_string(), "file:///srv/x/b");
    let names = |name| parse(&two).unwrap().choose(name).unwrap().databases.len();
    assert_eq!((names(None), names(Some("b"))), (2, 1));
}

#[test]
fn a_database_that_is_not_there_is_missing() {
    let check = |name, hint: &str| {
        let error = parse(&with("", "", "")).unwrap().choose(Some(name)).unwrap_err();
        assert_eq!(error.status, Status::Missing);
        assert_eq!(error.message, format!("--db: {name}: no such database"));
        assert_eq!(error.hint.as_deref(), Some(hint));
    };
    check("ap", "did you mean app?");
    check("orders", "the configuration has app");
}

#[test]
fn what_is_empty_asks_for_nothing() {
    let off = "metrics_file = \"\"\nmetrics_listen = \"\"\nping_url = \"\"";
    assert_eq!(only(&with(off, "", "in_step = true")), only(&with("", "", "")));
    assert_eq!(only(&with("", off, "lock = \"\"")), only(&with("", "", "")));
}

fn bucket(lines: &str) -> S3 {
    let text = format!("[[database.destination]]\ntype = \"s3\"\nbucket = \"backups\"\n{lines}");
    match only(&with("", "", &text)).destinations.remove(1) {
        Destination::S3(s3) => s3,
        other => panic!("{other}"),
    }
}

#[test]
fn a_bucket_says_little_and_may_say_all() {
    let least = S3 {
        bucket: "backups".into(),
        prefix: "app".into(),
        endpoint: "https://s3.us-east-1.amazonaws.com".into(),
        region: "us-east-1".into(),
        url_style: UrlStyle::VirtualHost,
        create_only: true,
        lock: None,
        credentials: Credentials::Environment,
    };
    assert_eq!(bucket(""), least);
    let off = "path = \"\"\nprefix = \"\"\nendpoint = \"\"\nregion = \"\"\nurl_style = \"\"\n\
               access_key_id = \"\"\nsecret_access_key = \"\"\ncredentials_file = \"\"\nlock = \"\"";
    assert_eq!(bucket(off), least);
    let all = "prefix = \"shop/17\"\nendpoint = \"http://localhost:8333/s3/\"\nregion = \"x\"\n\
               url_style = \"virtual-host\"\ncreate_only = false\nin_step = true\n\
               access_key_id = \"${ROOT}\"\nsecret_access_key = \"${ROOT}\"\n\
               lock = \"30d\"\nlock_mode = \"compliance\"";
    let expected = S3 {
        bucket: "backups".into(),
        prefix: "shop/17/app".into(),
        endpoint: "http://localhost:8333/s3".into(),
        region: "x".into(),
        url_style: UrlStyle::VirtualHost,
        create_only: false,
        lock: Some(Lock { period: Duration::from_secs(30 * 86_400), mode: LockMode::Compliance }),
        credentials: Credentials::Keys {
            access_key_id: "/srv".into(),
            secret_access_key: Secret("/srv".into()),
        },
    };
    assert_eq!(bucket(all), expected);
    let file = bucket("credentials_file = \"/c\"").credentials;
    assert_eq!(file, Credentials::File("/c".into()));
}

#[test]
fn a_lock_governs_where_its_mode_is_not_named() {
    let check = |lines, mode| {
        let lock = bucket(lines).lock;
        assert_eq!(lock.map(|lock| lock.mode), mode, "{lines}");
    };
    check("", None);
    check("lock = \"30d\"", Some(LockMode::Governance));
    check("lock = \"30d\"\nlock_mode = \"\"", Some(LockMode::Governance));
    check("lock = \"30d\"\nlock_mode = \"governance\"", Some(LockMode::Governance));
    check("lock = \"30d\"\nlock_mode = \"compliance\"", Some(LockMode::Compliance));
}

#[test]
fn the_style_of_urls_follows_the_endpoint() {
    let check = |lines, style| assert_eq!(bucket(lines).url_style, style, "{lines}");
    check("region = \"eu-west-1\"", UrlStyle::VirtualHost);
    check("endpoint = \"https://s3.eu-west-1.amazonaws.com/\"", UrlStyle::VirtualHost);
    check("endpoint = \"http://127.0.0.1:8333\"", UrlStyle::Path);
    check("url_style = \"path\"", UrlStyle::Path);
    let Destination::S3(dotted) = Destination::parse("s3://a.b/c").unwrap() else { panic!() };
    assert_eq!(dotted.url_style, UrlStyle::Path, "no certificate holds for it");
}

/// Spelled out, a secret makes the whole file one; taken from a variable, it does not.
#[test]
fn each_destination_has_a_cap_of_its_own() {
    let two = "replica_max = \"50GiB\"\nobjects_max = 1000\n\
               [[database.destination]]\ntype = \"file\"\npath = \"/n\"\nreplica_max = \"\"";
    let database = only(&with("", "", two));
    let cap = Cap { bytes: Some(50 << 30), objects: Some(1000) };
    assert_eq!([0, 1].map(|at| database.cap(at)), [cap, Cap::default()]);
    let dir = two.replace("1000", "1");
    let text = with("", "", &dir).replace("path = \"/a/app.db\"", "dir = \"/a\"");
    let text = text.replace("name = \"app\"\n", "");
    assert_eq!(parse(&text).unwrap().directories[0].like.caps[0].objects, Some(1));
}

#[test]
fn a_mirror_is_a_destination_that_is_not_in_step() {
    let two = "in_step = false\n[[database.destination]]\ntype = \"file\"\npath = \"/n\"";
    let database = only(&with("", "", two));
    assert_eq!(database.destinations.len(), 2);
    assert_eq!(database.mirrors, database.destinations[..1]);
    let in_step = two.replace("false", "true");
    assert!(only(&with("", "", &in_step)).mirrors.is_empty());
}

#[test]
fn the_file_is_the_one_given_else_the_environments_else_the_usual_one() {
    let check = |given: Option<&str>, named: Option<&str>, expected| {
        let file = file_of(given.map(Path::new), named.map(OsString::from));
        assert_eq!(file, Path::new(expected), "{given:?} {named:?}");
    };
    check(Some("/given.toml"), Some("/named.toml"), "/given.toml");
    check(Some("/given.toml"), None, "/given.toml");
    check(None, Some("/named.toml"), "/named.toml");
    check(None, Some(""), "/etc/bakelite/bakelite.toml");
    check(None, None, "/etc/bakelite/bakelite.toml");
}

#[test]
fn a_file_with_a_secret_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("b.toml");
    let load = |secret: &str, mode| {
        let text = format!(
            "[[database.destination]]\ntype = \"s3\"\nbucket = \"backups\"\n\
             access_key_id = \"a\"\nsecret_access_key = \"{secret}\""
        );
        fs::write(&file, with("", "", &text)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        Config::load(Some(&file))
    };
    let error = load("hush", 0o644).unwrap_err();
    assert_eq!(error.status, Status::Usage);
    assert!(error.message.ends_with("others can read it, and a secret is in it"), "{error}");
    assert!(error.hint.unwrap().starts_with("run: chmod o-rwx /"));
    let config = load("hush", 0o640).unwrap();
    assert!(!format!("{config:?}").contains("hush"));
    load("${HOME}", 0o644).unwrap();
    // Found by trying it: what stands in for a variable was no secret.
    for spelled in ["${GONE:-hush}", "${HOME:-hush}", "hu${HOME}", "$${HOME}"] {
        load(spelled, 0o644).expect_err(spelled);
    }
    load("${HOME:-}${HOME}", 0o644).unwrap();
}

/// It was refused at the first request only, as if the bucket had refused.
#[test]
fn credentials_that_others_can_read_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let [file, secrets] = ["b.toml", "credentials"].map(|name| dir.path().join(name));
    let bucket = "[[database.destination]]\ntype = \"s3\"\nbucket = \"backups\"\n";
    let text = with("", "", &format!("{bucket}credentials_file = {secrets:?}"));
    fs::write(&file, text).unwrap();
    Config::load(Some(&file)).expect("it may come");
    fs::write(&secrets, "").unwrap();
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o644)).unwrap();
    let error = Config::load(Some(&file)).unwrap_err();
    let said = format!("read the credentials: {}: others can read it", secrets.display());
    assert_eq!((error.status, &error.message), (Status::Usage, &said));
    assert_eq!(error.hint, Some(format!("run: chmod 600 {}", secrets.display())));
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).unwrap();
    Config::load(Some(&file)).unwrap();
}

#[test]
fn destinations_read_back_as_they_are_shown() {
    for url in [
        "file:///m/app",
        "file:///with space/%20",
        "s3://backups?endpoint=https://s3.eu-west-1.amazonaws.com&region=eu-west-1",
        "s3://backups/a/b?endpoint=http://127.0.0.1:8333&region=us-east-1",
        "s3://backups/a?endpoint=http://h/s3&region=x&url_style=virtual-host&create_only=false",
        "s3://backups/a?endpoint=https://s3.x.amazonaws.com&region=x&url_style=path",
    ] {
        assert_eq!(Destination::parse(url).unwrap().to_string(), url);
    }
    assert_eq!(Destination::parse("/m/app").unwrap(), Destination::parse("file:///m/app").unwrap());
    let relative = Destination::parse("m").unwrap().to_string();
    assert!(relative.starts_with("file:///") && relative.ends_with("/m"), "{relative}");
}

#[test]
fn a_bad_url_of_a_bucket_is_refused_with_a_hint() {
    for (rest, cause) in [
        ("", "\"\" is no bucket's name"),
        ("-bb/x", "\"-bb\" is no bucket's name"),
        ("bbb/x y", "\"x y\" is not fit to be a prefix"),
        ("bbb//x", "\"/x\" is not fit to be a prefix"),
        ("bbb/x?endpoint=https%3A%2F%2Fh", "\"https%3A%2F%2Fh\" is not an endpoint"),
        ("bbb/x?endpoint=http://[::1]:1", "\"http://[::1]:1\": addresses of IPv6"),
        ("bbb/x?region=", "\"\" is not a region"),
        // The endpoint that follows from it was shown, and could not be read again.
        ("bbb/x?region=create_on", "\"create_on\" is no region of AWS"),
        ("bbb/x?region=a&region=b", "region stands twice"),
        ("bbb/x?url_style=", "\"\" is no style of URLs"),
        ("bbb/x?create_only=no", "create_only=no"),
        (
            "bbb/x?endpoint=http://10.0.0.7:8333/s3&url_style=virtual-host",
            "10.0.0.7 is an address, which has no virtual hosts",
        ),
        ("bbb/x?access_key_id=a", "unknown parameter \"access_key_id\""),
    ] {
        let url = format!("s3://{rest}");
        let error = Destination::parse(&url).expect_err(rest);
        let expected = format!("destination: {url}: {cause}");
        assert!(error.message.starts_with(&expected), "{error}, not {expected}");
        assert!(error.hint.is_some() && error.status == Status::Usage, "{error}");
    }
    let trailing = Destination::parse("s3://bbb/x/").unwrap();
    assert_eq!(trailing, Destination::parse("s3://bbb/x").unwrap());
}

/// Whatever the bytes, the answer is a configuration or an error, never a panic.
#[test]
fn a_mangled_configuration_is_only_refused() {
    fn property(edits: Vec<(usize, u8)>) -> bool {
        let whole = with("wal_max = \"1MB\"", "state_dir = \"/é${ROOT:-x}\"", "in_step = true");
        let mut bytes = whole.into_bytes();
        for (at, byte) in edits {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        parse(&String::from_utf8_lossy(&bytes)).map_or_else(|e| e.hint.is_some(), |_| true)
    }
    quickcheck::QuickCheck::new().tests(2000).quickcheck(property as fn(Vec<(usize, u8)>) -> bool);
}

/// Every way to name a database comes to the same file, and so to one lock, one state and one `-wal`.
#[test]
fn trap_49_a_database_has_one_identity() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let data = dir.join("data");
    fs::create_dir(&data).unwrap();
    let path = data.join("app.db");
    fs::write(&path, "").unwrap();
    let link = |target: &str, name: &str| symlink(target, dir.join(name)).unwrap();
    link("data/app.db", "link.db");
    link("link.db", "twice.db");
    link("data", "folder");
    symlink(&path, dir.join("absolute.db")).unwrap();
    let state_dir = data.join(".app.db.bakelite");
    let names = ["data/app.db", "link.db", "twice.db", "folder/app.db", "absolute.db"];
    let check = |name: &Path| {
        let given = Database::given(name.to_str().unwrap(), &["/m".to_owned()]).unwrap();
        assert_eq!((&given.path, &given.state_dir), (&path, &state_dir), "{}", name.display());
        let text = with("", "", "").replace("/a/app.db", name.to_str().unwrap());
        let read = only(&text);
        assert_eq!((read.path, read.state_dir), (given.path, given.state_dir));
    };
    for name in names {
        check(&dir.join(name));
        check(&dir.join("data/..").join(name));
    }
    // It need not be there yet.
    fs::remove_file(&path).unwrap();
    names.iter().for_each(|name| check(&dir.join(name)));
    // Links that lead nowhere are for those to refuse who open them.
    link("round.db", "round.db");
    let round = Database::given(dir.join("round.db").to_str().unwrap(), &["/m".to_owned()]);
    assert_eq!(round.unwrap().path, dir.join("round.db"));
}

#[test]
fn trap_49_a_relative_name_is_the_same() {
    let here = std::env::current_dir().unwrap().canonicalize().unwrap();
    let given = Database::given("src/../Cargo.toml", &["/m".to_owned()]).unwrap();
    assert_eq!(given.path, here.join("Cargo.toml"));
}

/// One database under two names would be two daemons' work on one state.
#[test]
fn trap_49_two_names_of_one_file_stand_twice() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    std::os::unix::fs::symlink("app.db", dir.join("link.db")).unwrap();
    let table = |name: &str, file: &str| {
        let path = dir.join(file);
        let path = path.display();
        format!(
            "[[database]]\nname = \"{name}\"\npath = \"{path}\"\nstate_dir = \"/s/{name}\"\n\
             destination = [{{ type = \"file\", path = \"/m\" }}]\n"
        )
    };
    let error = parse(&(table("a", "app.db") + &table("b", "link.db"))).unwrap_err();
    assert!(error.message.contains("app.db stands twice"), "{error}");
}

/// Found by trying it: each commit was put twice, and the second time somebody else seemed to have taken the name.
#[test]
fn one_directory_under_two_names_is_one_destination() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    fs::create_dir(dir.join("real")).unwrap();
    std::os::unix::fs::symlink("real", dir.join("link")).unwrap();
    let of = |name: &str| format!("{}/{name}", dir.display());
    for (one, other, cause) in [
        ("real", "link", "is the same place as"),
        ("real", "real/", "stands twice"),
        ("real", "./real//", "stands twice"),
        ("link/new", "real/new", "is the same place as"),
    ] {
        let table = format!("[[database.destination]]\ntype = \"file\"\npath = \"{}\"", of(other));
        let text = with("", "", &table).replace("\"/m\"", &format!("\"{}\"", of(one)));
        let error = parse(&text).expect_err(other);
        assert!(error.status == Status::Usage && error.message.contains(cause), "{error}");
        let given = Database::given("/a/app.db", &[of(one), of(other)]).unwrap_err();
        assert!(given.status == Status::Usage && given.hint.is_some(), "{given}");
    }
    Database::given("/a/app.db", &[of("real"), of("other")]).unwrap();
}

/// Found by trying it: the daemon could not make the directory of its state, whose name is longer still.
#[test]
fn a_name_that_leaves_no_room_for_those_beside_it_is_refused() {
    let file = |bytes| format!("/a/{}", "x".repeat(bytes));
    let read = |path: &str| parse(&with("", "", "").replace("/a/app.db", path));
    let given = |path: &str| Database::given(path, &["/m".to_owned()]);
    read(&file(200)).unwrap();
    given(&file(200)).unwrap();
    for error in [read(&file(201)).unwrap_err(), given(&file(201)).unwrap_err()] {
        assert!(error.status == Status::Usage && error.hint.is_some(), "{error}");
        assert!(error.message.ends_with("its name has more than 200 bytes"), "{error}");
    }
    let error = read("/a/\\u0000.db").unwrap_err();
    assert!(error.status == Status::Usage && error.hint.is_some(), "{error}");
}

/// A container sets a variable or leaves it out: a default that turns a key off was taken for a value of it.
#[test]
fn what_a_variable_turns_off_is_off() {
    let plain = with("", "", "");
    for key in [
        "ship_interval = \"${NONE:-auto}\"",
        "snapshot_rate = \"${NONE:-}\"",
        "metrics_file = \"${NONE:-}\"",
        "metrics_listen = \"${NONE:-}\"",
        "ping_url = \"${NONE:-}\"",
    ] {
        assert_eq!(parse(&with(key, "", "")).unwrap(), parse(&plain).unwrap(), "{key}");
    }
    let database = with("", "state_dir = \"${NONE:-}\"", "");
    assert_eq!(parse(&database).unwrap(), parse(&plain).unwrap());
    let bucket = |more: &str| {
        let more = format!("[[database.destination]]\ntype = \"s3\"\nbucket = \"bbb\"\n{more}");
        parse(&with("", "", &more))
    };
    for key in [
        "endpoint",
        "region",
        "credentials_file",
        "access_key_id",
        "prefix",
        "replica_max",
        "lock",
        "path",
    ] {
        let given = bucket(&format!("{key} = \"${{NONE:-}}\""));
        assert_eq!(given.unwrap(), bucket("").unwrap(), "{key}");
    }
    let missing = parse(&with("ping_url = \"${NONE}\"", "", "")).unwrap_err();
    assert!(missing.message.contains("ping_url: the environment has no NONE"), "{missing}");
    let set = only(&with("metrics_file = \"${ROOT:-}/m\"", "", "")).settings.observers;
    assert_eq!(set.metrics_file, Some("/srv/m".into()));
}
