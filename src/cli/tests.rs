use super::*;
use crate::commit::Time;
use crate::report::Document;
use crate::restore::Target;
use std::path::Path;

fn asked(words: &[&str]) -> Result<Asked> {
    parse(words.iter().map(OsString::from))
}

fn run(words: &[&str]) -> Arguments {
    match asked(words) {
        Ok(Asked::Run(arguments)) => arguments,
        other => panic!("{words:?}: {other:?}"),
    }
}

fn help_of(words: &[&str]) -> String {
    match asked(words) {
        Ok(Asked::Help(help)) => help.text(),
        other => panic!("{words:?}: {other:?}"),
    }
}

fn restore_of(words: &[&str]) -> (Arguments, RestoreOf) {
    let mut arguments = run(words);
    let other = Verb::Version(VersionOf {});
    match std::mem::replace(&mut arguments.verb, other) {
        Verb::Restore(of) => (arguments, of),
        other => panic!("{words:?}: {other:?}"),
    }
}

/// All verbs there are, from the tables that the parser itself uses.
fn verbs() -> Vec<argh::CommandInfoWithArgs> {
    Arguments::get_args_info().commands.into_iter().map(|verb| verb.command).collect()
}

#[test]
fn options_stand_anywhere_and_in_either_spelling() {
    let spellings: [&[&str]; 5] = [
        &["-c", "c", "--db", "app", "restore", "--json", "--output", "o", "--at", "5m", "s"],
        &["restore", "s", "--output=o", "--at=5m", "--db=app", "--config=c", "--json"],
        &["--json", "restore", "--at", "5m", "-c", "c", "s", "--output", "o", "--db", "app"],
        &["restore", "--json", "--db", "app", "--config", "c", "--output=o", "--at=5m", "--", "s"],
        &["restore", "--at=5m", "--config", "c", "s", "--db", "app", "--output=o", "--json"],
    ];
    for words in spellings {
        let (all, of) = restore_of(words);
        assert_eq!(all.config.as_deref(), Some(Path::new("c")), "{words:?}");
        assert_eq!((all.db.as_deref(), all.json, all.quiet), (Some("app"), true, false));
        assert_eq!((of.output.as_str(), of.at.as_deref()), ("o", Some("5m")), "{words:?}");
        assert_eq!(of.source.as_deref(), Some("s"), "{words:?}");
    }
}

#[test]
fn values_and_words_can_look_like_anything() {
    let (_, of) = restore_of(&["restore", "--output=--json", "--", "--help"]);
    assert_eq!((of.output.as_str(), of.source.as_deref()), ("--json", Some("--help")));
    let (_, of) = restore_of(&["restore", "--output=a=b", "restore"]);
    assert_eq!((of.output.as_str(), of.source.as_deref()), ("a=b", Some("restore")));
    let (all, _) = restore_of(&["restore", "--output", "o", "--", "--json"]);
    assert!(!all.json);
}

#[test]
fn restore_reads_its_options() {
    let (all, of) = restore_of(&[
        "restore",
        "--output",
        "o",
        "--commit",
        "12",
        "--timeline",
        "3",
        "--check",
        "full",
        "--force",
        "--dry-run",
        "--progress",
        "never",
    ]);
    assert_eq!(of.target(Time(0)).unwrap(), Target::Commit(CommitNo(12)));
    assert_eq!(of.timeline, Some(Timeline(3)));
    assert_eq!((of.check, of.dry_run), (Check::Full, true));
    assert_eq!(of.existing().unwrap(), Existing::Replace);
    assert_eq!((all.progress, of.source), (Mode::Never, None));
    let (all, of) = restore_of(&["restore", "--output", "o"]);
    assert_eq!(of.target(Time(0)).unwrap(), Target::Latest);
    assert_eq!(of.timeline, None);
    assert_eq!((of.check, of.dry_run), (Check::None, false));
    assert_eq!(of.existing().unwrap(), Existing::Refuse);
    assert_eq!(all.progress, Mode::Auto);
    assert!(of.output().unwrap().is_absolute());
    for (switch, existing) in [("--if-missing", Existing::Keep), ("--delta", Existing::Update)] {
        let (_, of) = restore_of(&["restore", switch, "--output", "o"]);
        assert_eq!(of.existing().unwrap(), existing);
    }
    let (_, of) = restore_of(&["restore", "--output", "o", "--at", "1s"]);
    assert_eq!(of.target(Time(5000)).unwrap(), Target::At(Time(4000)));
}

#[test]
fn a_command_follows_two_dashes_with_its_own_options() {
    let parts = |words: &[&str]| {
        let Verb::Run(of) = run(words).verb else { panic!("{words:?}") };
        let (given, command) = of.parts().unwrap();
        (given.join(" "), command.join(" "))
    };
    let all = |given: &str, command: &str| (given.to_owned(), command.to_owned());
    assert_eq!(parts(&["run", "a", "b", "--", "app", "-x"]), all("a b", "app -x"));
    assert_eq!(parts(&["run", "--quiet", "--", "app"]), all("", "app"));
    let own = ["--db", "x", "run", "--", "app", "--db=y", "--", "--help", "--json"];
    assert_eq!(parts(&own), all("", "app --db=y -- --help --json"));
    let arguments = run(&own);
    assert_eq!((arguments.db.as_deref(), arguments.json), (Some("x"), false));
    // Elsewhere they only end the options.
    let Verb::Daemon(of) = run(&["daemon", "a", "--", "b"]).verb else { panic!() };
    assert_eq!(of.given, ["a", "b"]);
}

#[test]
fn a_database_and_its_destinations_need_no_configuration() {
    let arguments = run(&["daemon", "/a/app.db", "/m/app", "file:///n/app"]);
    let Verb::Daemon(of) = &arguments.verb else { panic!("{arguments:?}") };
    let (databases, _) = arguments.databases(&of.given).unwrap();
    assert_eq!(databases.len(), 1);
    let destinations: Vec<String> =
        databases[0].destinations.iter().map(|it| it.to_string()).collect();
    assert_eq!(destinations, ["file:///m/app", "file:///n/app"]);
    assert_eq!(databases[0].name, "app");
    assert_eq!(databases[0].state_dir, Path::new("/a/.app.db.bakelite"));
    let words = ["list".to_owned(), "rel/ative".to_owned()];
    let relative = &arguments.databases(&words).unwrap().0[0];
    assert!(relative.path.is_absolute(), "{relative:?}");
}

#[test]
fn every_verbs_help_fits_a_screen_and_ends_in_an_example() {
    let mut screens = vec![(String::from("bakelite"), help_of(&["--help"]))];
    for verb in verbs() {
        let text = help_of(&[verb.name, "--help"]);
        for words in [["-h", verb.name], ["help", verb.name], [verb.name, "-h"]] {
            assert_eq!(help_of(&words), text);
        }
        for flag in verb.flags {
            assert!(text.contains(flag.long), "{}: {}", verb.name, flag.long);
        }
        screens.push((verb.name.to_owned(), text));
    }
    for (name, text) in &screens {
        // The program's own has a line for each command.
        let most = if name == "bakelite" { 20 + verbs().len() } else { 23 };
        assert!(text.lines().count() <= most, "{name} has {} lines", text.lines().count());
        text.lines().for_each(|line| assert!(line.len() <= 79, "{name}: {line}"));
        let last = text.lines().last().unwrap();
        assert!(last.starts_with("  bakelite "), "{name} ends in {last:?}");
        let words: Vec<&str> = last.split_whitespace().skip(1).collect();
        assert!(matches!(asked(&words), Ok(Asked::Run(_))), "{name}: the example is bad: {last}");
    }
}

/// Found by trying it: `init` showed what it cannot do without as if it could be left out.
#[test]
fn what_a_verb_needs_stands_without_brackets() {
    let first = |verb: &str| help_of(&[verb, "--help"]).lines().next().unwrap().to_owned();
    assert_eq!(first("init"), "Usage: bakelite init DB DEST... [OPTION...]");
    assert_eq!(first("doctor"), "Usage: bakelite doctor [DB DEST...] [OPTION...]");
    assert_eq!(first("keygen"), "Usage: bakelite keygen FILE [OPTION...]");
    let restore = help_of(&["restore", "--help"]);
    assert!(restore.contains("else all configured, as one"), "{restore}");
}

/// Found by trying it: what was waited for was said after five seconds, and again two seconds later.
#[test]
fn what_is_waited_for_is_said_once() {
    for (words, brief) in [
        (&["sync"][..], false),
        (&["sync", "--timeout", "7s"], true),
        (&["sync", "--timeout", "30s"], true),
        (&["sync", "--timeout", "1h"], false),
    ] {
        let Verb::Sync(of) = run(words).verb else { panic!() };
        assert_eq!(of.ends_soon(), brief, "{words:?}");
    }
}

#[test]
fn one_name_takes_a_value_everywhere_or_nowhere() {
    let program = Arguments::get_args_info();
    let mut seen = std::collections::BTreeMap::new();
    let verbs = verbs();
    for flag in program.flags.iter().chain(verbs.iter().flat_map(|verb| verb.flags)) {
        let value = matches!(flag.kind, argh::FlagInfoKind::Option { .. });
        assert_eq!(*seen.entry(flag.long).or_insert(value), value, "{}", flag.long);
    }
}

#[test]
fn version_and_help_have_their_usual_options() {
    for words in [["--version"], ["-V"], ["version"]] {
        assert!(matches!(run(&words).verb, Verb::Version(_)));
    }
    for words in [["--help"], ["-h"], ["help"]] {
        assert!(help_of(&words).starts_with("Usage: bakelite COMMAND"));
    }
}

#[test]
fn json_is_wanted_whatever_else_is_wrong() {
    let check = |words: &[&str], wanted| {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        assert_eq!(wants_json(&words), wanted, "{words:?}");
    };
    check(&["restroe", "--json"], true);
    check(&["--json"], true);
    check(&["restore", "--", "--json"], false);
    check(&["restore", "--jsn"], false);
}

/// What is said of a bad command line: its message, and a word of its hint.
const BAD: &[(&[&str], &str, &str)] = &[
    (&[], "arguments: COMMAND: missing", "daemon, run, sync, restore"),
    (&["--json"], "arguments: COMMAND: missing", "bakelite --help"),
    (&[""], "arguments: : no such command", "there are daemon"),
    (&["-"], "arguments: -: no such command", "there are daemon"),
    (&["restroe"], "arguments: restroe: no such command", "did you mean restore?"),
    (&["snyc"], "arguments: snyc: no such command", "did you mean sync?"),
    (&["Restore"], "arguments: Restore: no such command", "did you mean restore?"),
    (&["frobnicate"], "arguments: frobnicate: no such command", "there are daemon"),
    (&["defragment"], "arguments: defragment: no such command", "there are daemon"),
    (&["check", "--max-age", "5"], "check: --max-age 5: not a duration", "bakelite check --help"),
    (&["check", "--max-age", "soon"], "check: --max-age soon: not a duration", "check --help"),
    (&["check", "--max-age"], "arguments: --max-age: needs a value", "--max-age VALUE"),
    (&["check", "--max"], "check: --max: no such option", "did you mean --max-age?"),
    (&["check", "/a.db"], "arguments: /a.db: a DB without a DEST", "name where its replica goes"),
    (&["repair", "/a/app.db"], "arguments: /a/app.db: a DB without a DEST", "name where"),
    (&["doctor", "--fix"], "doctor: --fix: no such option", "see: bakelite doctor --help"),
    (&["doctor", "/a.db"], "arguments: /a.db: a DB without a DEST", "name where its replica goes"),
    (&["docter"], "arguments: docter: no such command", "did you mean doctor?"),
    (&["init"], "init: DB: missing", "see: bakelite init --help"),
    (&["init", "/a.db"], "arguments: /a.db: a DB without a DEST", "name where its replica goes"),
    (&["init", "/a.db", "s3://x"], "destination: s3://x: \"x\" is no bucket's name", "3 to 63"),
    (&["init", "/a.db", "/m", "--db", "x"], "arguments: --db: cannot stand with DB", "leave out"),
    (&["init", "--force", "/a.db"], "init: --force: no such option", "bakelite init --help"),
    (&["--hepl"], "arguments: --hepl: no such option", "did you mean --help?"),
    (&["-x"], "arguments: -x: no such option", "see: bakelite --help"),
    (&["-x", "list"], "list: -x: no such option", "see: bakelite list --help"),
    (&["--output", "f", "list"], "list: --output: no such option", "see: bakelite list --help"),
    (&["list", "--object"], "list: --object: no such option", "did you mean --objects?"),
    (&["restore", "--outptu", "f"], "restore: --outptu: no such option", "--output?"),
    (&["restore", "--delta"], "restore: --output: missing", "bakelite restore --help"),
    (&["verify", "/m", "--sql", "SELECT 1"], "verify: --sql: needs --deep", "a deep check"),
    (&["verify", "/m", "--deep", "--expect", "1"], "verify: --expect: needs --sql", "--sql SELECT"),
    (&["verify", "/m", "--deep", "--sql", "SELEC 1"], "verify: --sql: not a SELECT", "one SELECT"),
    (&["verify", "/m", "--deep", "--sql", "DROP TABLE t"], "verify: --sql: not a SELECT", "one"),
    (
        &["verify", "/m", "--deep", "--sql", "SELECT 1; SELECT 2"],
        "verify: --sql: more than one statement",
        "one SELECT",
    ),
    (&["verify", "/m", "--deep", "--sql", "SELECT ("], "verify: --sql: ", "in quotes"),
    (&["verify", "/m", "--deep", "--sql="], "verify: --sql: not a SELECT", "one SELECT"),
    (&["verify", "--deeply"], "verify: --deeply: no such option", "did you mean --deep?"),
    (&["sync", "--jsno"], "sync: --jsno: no such option", "did you mean --json?"),
    (&["list", "-ofile"], "list: -ofile: no such option", "see: bakelite list --help"),
    (&["restore"], "restore: --output: missing", "see: bakelite restore --help"),
    (&["restore", "--output"], "arguments: --output: needs a value", "--output VALUE"),
    (&["restore", "--output", "--force"], "arguments: --output: needs a value", "--output=--force"),
    (&["status", "--db"], "arguments: --db: needs a value", "--db VALUE"),
    (&["status", "-c"], "arguments: -c: needs a value", "-c VALUE"),
    (&["list", "--json=yes"], "arguments: --json: takes no value", "write --json alone"),
    (&["verify", "--deep=1"], "arguments: --deep: takes no value", "write --deep alone"),
    (&["list", "a", "--from", "b"], "arguments: --from: cannot stand with another", "leave out"),
    (&["list", "--from", "b", "--db", "a"], "arguments: --db: cannot stand with --from", "leave"),
    (&["sync", "--timeout", "5"], "sync: --timeout 5: not a duration", "see: "),
    (&["list", "a", "b"], "list: b: one argument too many", "see: bakelite list --help"),
    (&["version", "now"], "version: now: one argument too many", "see: bakelite version"),
    (&["restore", "a", "b", "--output", "o"], "restore: b: one argument too many", "see: "),
    (&["list", "--db", "a", "--db", "b"], "list: --db: given twice", "see: bakelite list"),
    (&["restore", "--output=a", "--output=b"], "restore: --output: given twice", "see: "),
    (
        &["restore", "--output", "o", "--commit", "0"],
        "restore: --commit 0: not a commit's number, which counts from 1",
        "see: ",
    ),
    (
        &["restore", "--output", "o", "--commit=-1"],
        "restore: --commit -1: not a commit's number, which counts from 1",
        "see: ",
    ),
    (
        &["restore", "--output", "o", "--commit", "+5"],
        "restore: --commit +5: not a commit's number, which counts from 1",
        "see: ",
    ),
    (
        &["restore", "--output", "o", "--commit", "last"],
        "restore: --commit last: not a commit's number, which counts from 1",
        "see: ",
    ),
    (
        &["restore", "--output", "o", "--commit", "99999999999999999999"],
        "restore: --commit 99999999999999999999: not a commit's number, which counts from 1",
        "see: ",
    ),
    (
        &["restore", "--output", "o", "--timeline", "0"],
        "restore: --timeline 0: not a timeline's number, which counts from 1",
        "see: ",
    ),
    (
        &["restore", "--output", "o", "--timeline", "4294967296"],
        "restore: --timeline 4294967296: not a timeline's number, which counts from 1",
        "see: ",
    ),
    (
        &["restore", "--output", "o", "--check", "deep"],
        "restore: --check deep: not one of none, quick, full",
        "see: ",
    ),
    (
        &["restore", "--output", "o", "--check="],
        "restore: --check : not one of none, quick, full",
        "see: ",
    ),
    (
        &["list", "--progress", "sometimes"],
        "list: --progress sometimes: not one of auto, always, never",
        "see: ",
    ),
    (
        &["restore", "--output", "o", "--at", "1h", "--commit", "5"],
        "restore: --at: cannot stand with --commit",
        "leave out --at or --commit",
    ),
    (
        &["restore", "--output", "o", "--at", "yesterday"],
        "restore: --at: yesterday: neither a time nor an age",
        "RFC 3339",
    ),
    (
        &["restore", "--output", "o", "--at", "2025-11-23 14:00"],
        "restore: --at: 2025-11-23 14:00: a time without its zone",
        "add Z for UTC",
    ),
    (
        &["restore", "s", "--output", "o", "--if-missing", "--force"],
        "restore: --if-missing: cannot stand with --force",
        "choose one",
    ),
    (
        &["restore", "s", "--output", "o", "--force", "--delta"],
        "restore: --delta: cannot stand with --force",
        "choose one",
    ),
    (
        &["restore", "s", "--output", "o", "--delta", "--if-missing"],
        "restore: --if-missing: cannot stand with --delta",
        "choose one",
    ),
    (&["restore", "--if-mising"], "restore: --if-mising: no such option", "--if-missing?"),
    (&["restore", "s", "--output", ""], "--output: \"\": ", "give a path"),
    (&["restore", "", "--output", "o"], "destination: \"\": ", "give a path"),
    (
        &["list", "s3://bucket/prefix?regoin=x"],
        "destination: s3://bucket/prefix?regoin=x: unknown parameter \"regoin\"",
        "known here: endpoint, region",
    ),
    (&["list", "s3:///prefix"], "destination: s3:///prefix: \"\" is no bucket's name", "s3://"),
    (&["list", "ftp://x/y"], "destination: ftp://x/y: unknown scheme", "use a path"),
    (
        &["list", "file://host/path"],
        "destination: file://host/path: a file URL with a host or a relative path",
        "three slashes",
    ),
    (&["run"], "run: CMD: missing", "the command follows --"),
    (&["run", "/a/app.db", "/m"], "run: CMD: missing", "the command follows --"),
    (&["run", "/a/app.db", "/m", "--"], "run: CMD: missing", "the command follows --"),
    (&["run", "/a/app.db", "--", "app"], "arguments: /a/app.db: a DB without a DEST", "name where"),
    (&["run", "--restart", "--", "app"], "run: --restart: no such option", "bakelite run --help"),
    (&["rnu", "--", "app"], "arguments: rnu: no such command", "did you mean run?"),
    (&["daemon", "/a/app.db"], "arguments: /a/app.db: a DB without a DEST", "name where"),
    (&["sync", "", "/m"], "database: \"\": ", "give a path"),
    (&["sync", "/", "/m"], "database: /: not a file's path", "name the database's file"),
    (
        &["daemon", "/a/app.db", "/m", "file:///m"],
        "destination: file:///m: named twice",
        "give each destination once",
    ),
    (&["sync", "/a", "/m", "--db", "x"], "arguments: --db: cannot stand with DB", "leave out"),
    (
        &["list", "/m", "-c", "x"],
        "arguments: --config: cannot stand with SOURCE",
        "leave out --config or SOURCE",
    ),
    (
        &["status", "-c", "/nonexistent/b.toml"],
        "config: /nonexistent/b.toml: No such file or directory (os error 2)",
        "--config FILE",
    ),
    (&["keygen"], "keygen: FILE: missing", "see: bakelite keygen --help"),
    (&["keygen", "a", "b"], "keygen: b: one argument too many", "see: "),
    (
        &["list", "/m", "--seal", "some"],
        "list: --seal some: not one of auto, all, new, none",
        "see: ",
    ),
    (&["list", "/m", "--key-file="], "--key-file: \"\": ", "give a path"),
    (
        &["status", "/a", "/m", "--from", "/m"],
        "arguments: --from: cannot stand with another",
        "leave",
    ),
    (
        &["check", "--from", "/m", "-c", "/x"],
        "arguments: --config: cannot stand with --from",
        "lea",
    ),
    (&["check", "--from", "/m", "--db", "x"], "arguments: --db: cannot stand with --from", "leave"),
    (&["check", "--from", "gs://b"], "destination: gs://b: unknown scheme", "s3://"),
    (&["status", "--from="], "destination: \"\": ", "give a path"),
    (&["check", "--from"], "arguments: --from: needs a value", "--from VALUE"),
    (&["list", "-c", "/"], "config: /: Is a directory (os error 21)", "--config FILE"),
    (&["help", "frobnicate"], "arguments: frobnicate: no such command", "there are daemon"),
    (&["keygen"], "keygen: FILE: missing", "see: bakelite keygen --help"),
    (&["keygen", "a", "b"], "keygen: b: one argument too many", "see: bakelite keygen --help"),
    (&["sync", "--seal", "most"], "sync: --seal most: not one of auto, all, new, none", "see: "),
    (&["list", "--to-plain"], "list: --to-plain: no such option", "see: bakelite list --help"),
    (&["list", "/m", "--key-file", ""], "--key-file: \"\": ", "give a path"),
    (
        &["restore", "--output", "o", "--at", "2025-02-30T00:00:00Z"],
        "restore: --at: 2025-02-30T00:00:00Z: ",
        "RFC 3339",
    ),
    (
        &["restore", "--output", "o", "--at", "2999-01-01T00:00:00"],
        "restore: --at: 2999-01-01T00:00:00: a time without its zone",
        "add Z for UTC",
    ),
    (&["restore", "--output", "o", "--at="], "restore: --at: : neither a time nor an age", "RFC"),
    (&["list", "S3://bucket/x"], "destination: S3://bucket/x: unknown scheme", "use a path"),
];

pub(crate) fn mistakes_tried() -> usize {
    BAD.len()
}

/// Goes as far as a command does before it opens anything but the configuration.
fn prepare(words: &[&str]) -> Result<()> {
    let Asked::Run(all) = asked(words)? else { return Ok(()) };
    match &all.verb {
        Verb::Daemon(DaemonOf { given })
        | Verb::Sync(SyncOf { given, .. })
        | Verb::Compact(CompactOf { given })
        | Verb::Repair(RepairOf { given, .. }) => all.databases(given).map(drop),
        Verb::Status(StatusOf { given, from }) | Verb::Check(CheckOf { given, from, .. }) => {
            match all.fleet(from.as_deref(), given)? {
                Some(_) => Ok(()),
                None => all.databases(given).map(drop),
            }
        }
        Verb::Run(of) => all.databases(of.parts()?.0).map(drop),
        Verb::Restore(of) => {
            of.output()?;
            of.existing()?;
            of.target(Time(1_763_906_400_000))?;
            all.copies(of.source.as_deref()).map(drop)
        }
        Verb::List(of) => match all.fleet(of.from.as_deref(), of.source.as_slice())? {
            Some(_) => Ok(()),
            None => all.copies(of.source.as_deref()).map(drop),
        },
        Verb::Prune(of) => all.databases(&of.given).map(drop),
        Verb::Usage(of) => all.sources(of.source.as_deref()).map(drop),
        Verb::Verify(of) => {
            of.question()?;
            all.sources(of.source.as_deref()).map(drop)
        }
        Verb::Doctor(of) => all.databases(&of.given).map(drop),
        Verb::Init(of) => all.begun(&of.given).map(drop),
        Verb::Reencrypt(of) => all.sources(of.source.as_deref()).map(drop),
        Verb::Keygen(_) | Verb::Version(_) => Ok(()),
    }
}

#[test]
fn a_bad_command_line_is_refused_with_a_hint() {
    for (words, message, hint) in BAD {
        let error = prepare(words).expect_err(&format!("{words:?} is bad"));
        assert_eq!(error.status, Status::Usage, "{words:?}");
        assert!(error.message.starts_with(message), "{words:?}: {error}");
        assert_eq!(error.message.lines().count(), 1, "{words:?}: {error}");
        let given = error.hint.unwrap_or_default();
        assert!(given.contains(hint) && given.lines().count() == 1, "{words:?}: {given}");
    }
}

#[test]
fn arguments_that_are_not_text_are_refused() {
    use std::os::unix::ffi::OsStringExt;
    let error = parse([OsString::from("list"), OsString::from_vec(vec![b'/', 0xff])]).unwrap_err();
    assert_eq!(error.status, Status::Usage);
    assert!(error.message.ends_with("not UTF-8"), "{error}");
}
