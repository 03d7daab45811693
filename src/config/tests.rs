use super::*;
use crate::seal::Rule;

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

/// Where the text goes, the text, what is said after `config: b.toml:`, a word of the hint.
const BAD: &[(&str, &str, &str, &str)] = &[
    ("defaults", "pol_interval = \"1s\"", "2: pol_interval: unknown key", "poll_interval?"),
    ("defaults", "snapshot = \"1d\"", "2: snapshot: unknown key", "snapshot_interval?"),
    ("defaults", "colour = 1", "2: colour: unknown key", "known here: poll_interval, "),
    ("defaults", "name = \"x\"", "2: name: cannot stand here", "into a [[database]]"),
    ("defaults", "state_dir = \"/x\"", "2: state_dir: cannot stand here", "into a [[database]]"),
    ("defaults", "type = \"s3\"", "2: type: cannot stand here", "a [[database.destination]]"),
    ("defaults", "database = []", "2: database: cannot stand here", "above the first [...]"),
    ("defaults", "wal_max = 1\nwal_max = 2", "3: wal_max: duplicate key", "keep one of them"),
    ("defaults", "\"wal_max\" = 1\nwal_max = 2", "3: wal_max: duplicate key", "keep one of them"),
    ("defaults", "wal_max = ", "2: ", "bakelite(5)"),
    ("defaults", "wal_max", "2: ", "bakelite(5)"),
    ("defaults", "poll_interval = \"soon\"", "2: poll_interval: \"soon\" is not a", "200ms"),
    ("defaults", "poll_interval = \"10 ms\"", "2: poll_interval: \"10 ms\" is not a", "200ms"),
    ("defaults", "poll_interval = \"\"", "2: poll_interval: \"\" is not a duration", "200ms"),
    ("defaults", "poll_interval = 10", "2: poll_interval: a duration without its unit", "ms"),
    ("defaults", "poll_interval = 1.5", "2: poll_interval: a float where a string", "write"),
    ("defaults", "poll_interval = true", "2: poll_interval: a boolean where a string", "write"),
    ("defaults", "poll_interval = [\"1s\"]", "2: poll_interval: an array where a", "write"),
    ("defaults", "poll_interval = \"0ms\"", "2: poll_interval: 0ms is out of range", "1ms to 1s"),
    ("defaults", "poll_interval = \"1h\"", "2: poll_interval: 1h is out of range", "1ms to 1s"),
    ("defaults", "ship_interval = \"Auto\"", "2: ship_interval: \"Auto\" is not a", "200ms"),
    ("defaults", "ship_interval = \"2h\"", "2: ship_interval: 2h is out of range", "0s to 1h"),
    ("defaults", "snapshot_interval = \"0s\"", "2: snapshot_interval: 0s is out", "1s to 100y"),
    ("defaults", "snapshot_interval = \"1w\"", "2: snapshot_interval: \"1w\" is not", "30d"),
    ("defaults", "checkpoint_pages = 0", "2: checkpoint_pages: 0 is out of range", "from 1"),
    ("defaults", "checkpoint_pages = -1", "2: checkpoint_pages: -1 is out of", "from 1"),
    ("defaults", "checkpoint_pages = 99999999999", "2: checkpoint_pages: 99999999999", "4000"),
    ("defaults", "checkpoint_pages = \"4000\"", "2: checkpoint_pages: a string where a", "4000"),
    ("defaults", "wal_max = \"256 MiB\"", "2: wal_max: \"256 MiB\" is not a size", "256MiB"),
    ("defaults", "wal_max = \"256mb\"", "2: wal_max: \"256mb\" is not a size", "256MiB"),
    ("defaults", "wal_max = -1", "2: wal_max: \"-1\" is not a size", "256MiB"),
    ("defaults", "wal_max = 0", "2: wal_max: must be more than 0", "256MiB"),
    ("defaults", "spool_max = \"99999999TiB\"", "2: spool_max: \"99999999TiB\" is not", "MiB"),
    ("defaults", "snapshot_rate = 0", "2: snapshot_rate: must be more", "MiB"),
    ("defaults", "snapshot_rate = \"fast\"", "2: snapshot_rate: \"fast\" is not", "MiB"),
    ("defaults", "spool_max = false", "2: spool_max: a boolean where a string", "write"),
    ("defaults", "compression = \"gzip\"", "2: compression: \"gzip\" is no kind", "\"zstd\""),
    ("defaults", "compression = 3", "2: compression: an integer where a string", "write"),
    ("defaults", "keep = \"all\"", "2: keep: a string where a list belongs", "keep = [\"...\"]"),
    ("defaults", "keep = [\"all\"]", "2: keep: \"all\" is no density and age", "density:age"),
    ("defaults", "keep = [\"1h:7d\", \"5m:8d\"]", "2: keep: \"5m:8d\" does not go on", "ages rise"),
    (
        "defaults",
        "compaction = [5]",
        "2: compaction: an entry that is no string",
        "compaction = [\"...\"]",
    ),
    ("defaults", "compaction = [\"5\"]", "2: compaction: \"5\" is not a duration", "such as 200ms"),
    ("defaults", "compaction = [\"1h\", \"5m\"]", "2: compaction: 5m is not longer", "rising"),
    ("defaults", "key_files = [\"k\"]", "2: key_files: \"k\" is not an absolute", "from / on"),
    ("defaults", "key_files = [7]", "2: key_files: an integer where a string", "write"),
    ("defaults", "seal = \"some\"", "2: seal: not one of auto, all, new, none", "seal = \"auto\""),
    ("defaults", "seal = \"yes\"", "2: seal: ", "seal = \"auto\""),
    ("defaults", "seal = true", "2: seal: a boolean where a string belongs", "write"),
    (
        "defaults",
        "keep = [\"all:1d\", \"all:2d\"]",
        "2: keep: \"all:2d\" does not go on",
        "multiple",
    ),
    ("defaults", "keep = [\"1h:0d\"]", "2: keep: \"1h:0d\" has no age", "density:age"),
    ("defaults", "keep = [\":1d\"]", "2: keep: \":1d\" has no density", "density:age"),
    ("defaults", "keep = [\"${GONE}\"]", "2: keep: the environment has no GONE", "set GONE"),
    ("defaults", "compaction = [\"0s\"]", "2: compaction: 0s is not longer than 0", "rising"),
    ("defaults", "poll_interval = 2025-01-01", "2: poll_interval: a datetime where a", "write"),
    ("defaults", "poll_interval = { s = 1 }", "2: poll_interval: a table where a string", "write"),
    ("defaults", "wal_max = 0x10", "2: wal_max: an integer where a string belongs", "write"),
    ("defaults", "\"wal max\" = 1", "2: wal max: unknown key", "did you mean wal_max?"),
    ("defaults", "wal_max = '1MB", "2: ", "bakelite(5)"),
    ("defaults", "[defaults]", "2: defaults: duplicate key", "keep one of them"),
    ("defaults", "metrics_listen = \":1\"", "2: metrics_listen: \":1\" is not an address", "127.0"),
    ("defaults", "metrics_listen = 9187", "2: metrics_listen: an integer where a string", "write"),
    ("defaults", "metrics_listen = \"127.0.0.1\"", "2: metrics_listen: \"127.0.0.1\" is", ":9187"),
    (
        "defaults",
        "metrics_listen = \"127.0.0.1:0\"",
        "2: metrics_listen: \"127.0.0.1:0\" is",
        "port",
    ),
    (
        "defaults",
        "metrics_listen = \"localhost:1\"",
        "2: metrics_listen: \"localhost:1\" is",
        "127",
    ),
    (
        "defaults",
        "metrics_listen = \"0.0.0.0:1\"",
        "2: metrics_listen: 0.0.0.0 is not the",
        "127.0",
    ),
    (
        "defaults",
        "metrics_file = \"m.prom\"",
        "2: metrics_file: \"m.prom\" is not an abs",
        "from /",
    ),
    ("defaults", "metrics_file = true", "2: metrics_file: a boolean where a string", "write"),
    ("defaults", "ping_url = \"x.org\"", "2: ping_url: \"x.org\" is not the URL of", "https://"),
    ("defaults", "ping_url = \"ftp://x.org\"", "2: ping_url: \"ftp://x.org\" is not", "https://"),
    ("defaults", "ping_url = \"https://\"", "2: ping_url: \"https://\" is not the URL", "https://"),
    ("defaults", "ping_url = \"http://a b\"", "2: ping_url: \"http://a b\" is not the", "https://"),
    ("defaults", "ping_url = \"http://u@h/\"", "2: ping_url: \"http://u@h/\" is not", "https://"),
    ("defaults", "ping_url = 7", "2: ping_url: an integer where a string belongs", "write"),
    ("database", "key_files = \"/k\"", "6: key_files: a string where a list", "[\"/etc"),
    ("database", "nmae = \"x\"", "6: nmae: unknown key", "did you mean name?"),
    ("database", "destinations = []", "6: destinations: unknown key", "mean destination?"),
    ("database", "state_dir = \"state\"", "6: state_dir: \"state\" is not an abs", "from / on"),
    ("database", "state_dir = 1", "6: state_dir: an integer where a string", "write"),
    (
        "database",
        "state_dir = \"${GONE}\"",
        "6: state_dir: the environment has no GONE",
        "set GONE",
    ),
    ("database", "state_dir = \"/${X\"", "6: state_dir: a ${ without its }", "close it"),
    ("database", "state_dir = \"/${1}\"", "6: state_dir: ${1} does not name", "${NAME}"),
    ("database", "pattern = \"*\"", "6: pattern: needs dir", "leave pattern out"),
    ("database", "dir = \"/a\"", "4: name: each file of a directory has its own", "leave it out"),
    ("dir", "path = \"/a/b.db\"", "3: path: cannot stand with dir", "the one or the other"),
    ("dir", "pattern = \"\"", "3: pattern: \"\" fits no file's name", "*.db"),
    ("dir", "pattern = \"*/*.db\"", "3: pattern: \"*/*.db\" fits no file's name", "*.db"),
    ("dir", "pattern = [\"*.db\"]", "3: pattern: an array where a string belongs", "write"),
    ("dir", "state_dir = \"s\"", "3: state_dir: \"s\" is not an absolute path", "from / on"),
    ("dir", "dri = 1", "3: dri: unknown key", "did you mean dir?"),
    ("all", "[[database]]\ndir = \"/a\"", "1: destination: missing", "add at least one"),
    (
        "all",
        "[[database]]\ndir = \"a\"\ndestination = [{type=\"file\", path=\"/m\"}]",
        "2: dir: \"a\" is not an absolute path",
        "from / on",
    ),
    ("destination", "in_step = false", "7: destination: all of them may trail", "leave in_step"),
    ("destination", "replica_max = \"5 GB\"", "10: replica_max: \"5 GB\" is not a size", "256MiB"),
    ("destination", "objects_max = 0", "10: objects_max: 0 is out of range", "from 1 on"),
    ("destination", "in_step = 0", "10: in_step: an integer where a", "in_step = false"),
    ("destination", "bucket = \"b\"", "10: bucket: belongs to a destination of", "leave it out"),
    ("destination", "lock = \"30d\"", "10: lock: belongs to a destination of", "leave it out"),
    ("destination", "wal_max = 1", "10: wal_max: cannot stand here", "[defaults] or a"),
    ("destination", "[[database.destination]]", "10: type: missing", "type = \"file\""),
    (
        "destination",
        "[[database.destination]]\ntype = \"file\"",
        "10: path: missing",
        "name the directory",
    ),
    (
        "destination",
        "[[database.destination]]\ntype = \"file\"\npath = \"/m/\"",
        "12: path: file:///m/ stands twice",
        "once",
    ),
    ("destination", "[[database.destination]]\ntype = \"s3\"", "10: bucket: missing", "bucket ="),
    ("s3", "", "10: bucket: missing", "name the bucket"),
    ("s3", "bucket = \"b\"", "12: bucket: \"b\" is no bucket's name", "3 to 63"),
    ("s3", "bucket = \"a/b\"", "12: bucket: \"a/b\" is no bucket's name", "3 to 63"),
    ("s3", "bukcet = \"bbb\"", "12: bukcet: unknown key", "did you mean bucket?"),
    ("s3", "bucket = \"bbb\"\npath = \"/m\"", "13: path: belongs to a destination of", "prefix"),
    ("s3", "bucket = \"bbb\"\nprefix = \"/a\"", "13: prefix: \"/a\" is not fit", "slashes"),
    ("s3", "bucket = \"bbb\"\nprefix = \"a//b\"", "13: prefix: \"a//b\" is not fit", "slashes"),
    ("s3", "bucket = \"bbb\"\nprefix = \"a/../b\"", "13: prefix: \"a/../b\" is not", "slashes"),
    ("s3", "bucket = \"bbb\"\nprefix = \"ü\"", "13: prefix: \"ü\" is not fit", "slashes"),
    ("s3", "bucket = \"bbb\"\nendpoint = \"s3.x\"", "13: endpoint: \"s3.x\" is not an", "URL"),
    ("s3", "bucket = \"bbb\"\nendpoint = \"http://\"", "13: endpoint: \"http://\" is", "URL"),
    ("s3", "bucket = \"bbb\"\nendpoint = \"http://u@h\"", "13: endpoint: \"http://u@h\"", "URL"),
    ("s3", "bucket = \"bbb\"\nendpoint = \"http://h:0\"", "13: endpoint: \"http://h:0\"", "URL"),
    ("s3", "bucket = \"bbb\"\nendpoint = \"http://h?x\"", "13: endpoint: \"http://h?x\"", "URL"),
    ("s3", "bucket = \"bbb\"\nendpoint = \"http://[::1]\"", "13: endpoint: ", "give its name"),
    (
        "s3",
        "bucket = \"bbb\"\nregion = \"e_u\"",
        "10: endpoint: \"e_u\" is no region of AWS",
        "endpoint",
    ),
    ("s3", "bucket = \"bbb\"\nregion = \"e u\"", "13: region: \"e u\" is not a region", "eu-west"),
    ("s3", "bucket = \"bbb\"\nurl_style = \"host\"", "13: url_style: \"host\" is no style", "path"),
    ("s3", "bucket = \"bbb\"\ncreate_only = 1", "13: create_only: an integer where a", "= false"),
    ("s3", "bucket = \"bbb\"\nin_step = \"no\"", "13: in_step: a string where a", "in_step"),
    ("s3", "bucket = \"bbb\"\nlock = \"30\"", "13: lock: \"30\" is not a duration", "30d"),
    ("s3", "bucket = \"bbb\"\nlock = \"1d\"", "13: lock: shorter than two", "until the next"),
    ("s3", "bucket = \"bbb\"\nlock_mode = \"compliance\"", "10: lock: missing", "30d"),
    (
        "s3",
        "bucket = \"bbb\"\nlock = \"30d\"\nlock_mode = \"x\"",
        "14: lock_mode: \"x\" is no",
        "compli",
    ),
    ("s3", "bucket = \"bbb\"\naccess_key_id = \"a\"", "10: secret_access_key: missing", "neither"),
    ("s3", "bucket = \"bbb\"\nsecret_access_key = \"a\"", "10: access_key_id: missing", "neither"),
    (
        "s3",
        "bucket = \"bbb\"\ncredentials_file = \"c\"",
        "13: credentials_file: \"c\" is",
        "from /",
    ),
    (
        "s3",
        "bucket = \"bbb\"\naccess_key_id = \"a\"\ncredentials_file = \"/c\"",
        "14: credentials_file: cannot stand with access_key_id",
        "leave out",
    ),
    (
        "s3",
        "bucket = \"bbb\"\n[[database.destination]]\ntype = \"s3\"\nbucket = \"bbb\"\n\
         region = \"us-east-1\"\nin_step = true",
        "15: bucket: s3://bbb?endpoint=https://s3.us-east-1.amazonaws.com&region=us-east-1 stands",
        "once",
    ),
    (
        "destination",
        "[[database.destination]]\ntype = \"ftp\"",
        "11: type: \"ftp\" is no kind of destination",
        "type = \"file\"",
    ),
    (
        "destination",
        "[[database.destination]]\ntype = \"file\"\npath = \"backup\"",
        "12: path: \"backup\" is not an absolute path",
        "from / on",
    ),
    ("destination", "[[databse]]", "10: databse: unknown key", "did you mean database?"),
    ("destination", "[[database]]", "10: name: missing", "name = \"app\""),
    ("destination", "[[database]]\nname = \"\"", "11: name: \"\" is not fit", "a-z"),
    ("destination", "[[database]]\nname = \"a/b\"", "11: name: \"a/b\" is not fit", "a-z"),
    ("destination", "[[database]]\nname = \"..\"", "11: name: \"..\" is not fit", "a-z"),
    ("destination", "[[database]]\nname = \"b\"", "10: path: missing", "path = "),
    (
        "destination",
        "[[database]]\nname = \"b\"\npath = \"b.db\"",
        "12: path: \"b.db\" is not an absolute path",
        "from / on",
    ),
    (
        "destination",
        "[[database]]\nname = \"b\"\npath = \"/\"",
        "12: path: not a file's path",
        "name the database's file",
    ),
    (
        "destination",
        "[[database]]\nname = \"b\"\npath = \"/a/b.db\"",
        "10: destination: missing",
        "add at least one [[database.destination]]",
    ),
    (
        "destination",
        "[[database]]\nname = \"b\"\npath = \"/a/b.db\"\ndestination = []",
        "10: destination: missing",
        "add at least one",
    ),
    (
        "destination",
        "[[database]]\nname = \"b\"\npath = \"/a/b.db\"\ndestination = \"/m\"",
        "13: destination: a string where a table belongs",
        "[[database.destination]]",
    ),
    (
        "destination",
        "[[database]]\nname = \"b\"\npath = \"/a/b.db\"\n[database.destination]",
        "13: destination: a table where",
        "[[database.destination]]",
    ),
    (
        "destination",
        "[[database]]\nname = \"app\"\npath = \"/a/b.db\"\n\
         destination = [{type=\"file\", path=\"/m\"}]",
        "11: name: two databases are called app",
        "a name of its own",
    ),
    (
        "destination",
        "[[database]]\nname = \"b\"\npath = \"/a/app.db\"\n\
         destination = [{type=\"file\", path=\"/m\"}]",
        "12: path: /a/app.db stands twice",
        "app has it already",
    ),
    (
        "destination",
        "[[database]]\nname = \"b\"\npath = \"/a/b.db\"\nstate_dir = \"/a/.app.db.bakelite\"\n\
         destination = [{type=\"file\", path=\"/m\"}]",
        "13: state_dir: /a/.app.db.bakelite stands twice",
        "app has it already",
    ),
    ("all", "", "1: database: missing", "add at least one [[database]]"),
    ("all", "database = []", "1: database: missing", "add at least one [[database]]"),
    ("all", "[database]\nname = \"x\"", "1: database: a table where", "[[database]]"),
    ("all", "defaults = 1", "1: defaults: an integer where a table", "[defaults]"),
    ("all", "[default]", "1: default: unknown key", "did you mean defaults?"),
    ("all", "{\"database\": []}", "1: ", "bakelite(5)"),
    ("all", "database = [1]", "1: database: an array where", "[[database]]"),
];

#[test]
fn a_bad_configuration_is_refused_by_line_and_key_with_a_hint() {
    for (place, text, message, hint) in BAD {
        let whole = match *place {
            "defaults" => with(text, "", ""),
            "database" => with("", text, ""),
            "destination" => with("", "", text),
            "dir" => format!(
                "[[database]]\ndir = \"/a\"\n{text}\n\
                 [[database.destination]]\ntype = \"file\"\npath = \"/m\""
            ),
            "s3" => with("", "", &format!("[[database.destination]]\ntype = \"s3\"\n{text}")),
            _ => (*text).to_owned(),
        };
        let error = parse(&whole).expect_err(text);
        assert_eq!(error.status, Status::Usage, "{text}");
        let expected = format!("config: b.toml:{message}");
        assert!(error.message.starts_with(&expected), "{text}: {error}, not {expected}");
        assert_eq!(error.message.lines().count(), 1, "{text}: {error}");
        let given = error.hint.unwrap_or_default();
        assert!(given.contains(hint) && given.lines().count() == 1, "{text}: {given}");
    }
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

/// With those of the command line that the parser refuses, and of the program in tests/bad_input.rs.
#[test]
fn mistakes_of_two_hundred_kinds_are_tried() {
    let tried = BAD.len() + crate::cli::mistakes_tried();
    assert!(tried >= 200, "{tried}");
}
