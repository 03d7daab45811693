//! The man pages are written by hand; this holds them to the tables that the program works from:
//! commands and flags, exit statuses, configuration keys and defaults, and every example.

use crate::backend::s3;
use crate::cli::{self, Arguments, Asked};
use crate::config::{self, Config, KEYS, Key, Place, Settings};
use crate::durable;
use crate::error::Status;
use crate::log;
use crate::metrics;
use crate::notify;
use crate::structure::sources;
use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfoKind};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

const COMMANDS: &str = include_str!("../man/bakelite.1");
const CONFIG: &str = include_str!("../man/bakelite.5");

/// The lines below `.Sh name` or `.Ss name`, up to the next heading of either kind.
fn section<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let mut lines = page.lines();
    let heading =
        |line: &str| line.strip_prefix(".Sh ").or(line.strip_prefix(".Ss ")) == Some(name);
    assert!(lines.any(heading), "the page has a section {name}");
    lines.take_while(|line| !line.starts_with(".Sh ") && !line.starts_with(".Ss ")).collect()
}

/// The first words of the section's list items after `.It macro `.
fn items<'a>(section: &[&'a str], macro_name: &str) -> Vec<&'a str> {
    let prefix = format!(".It {macro_name} ");
    section.iter().filter_map(|line| line.strip_prefix(prefix.as_str())).collect()
}

/// A flag as the pages spell it, from its last macro on: `-output Ar FILE`.
fn in_mdoc(command: &CommandInfoWithArgs) -> BTreeSet<String> {
    let flags = command.flags.iter().map(|flag| match flag.kind {
        FlagInfoKind::Switch => flag.long[1..].to_owned(),
        FlagInfoKind::Option { arg_name } => format!("{} Ar {arg_name}", &flag.long[1..]),
    });
    flags.collect()
}

fn documented_flags(section: &[&str]) -> BTreeSet<String> {
    let last = |item: &str| item.rsplit("Fl ").next().map(str::to_owned);
    items(section, "Fl").into_iter().filter_map(last).collect()
}

#[test]
fn every_flag_of_every_command_is_documented_and_no_other() {
    let program = Arguments::get_args_info();
    assert_eq!(documented_flags(&section(COMMANDS, "DESCRIPTION")), in_mdoc(&program));
    for verb in &program.commands {
        let mut flags = in_mdoc(&verb.command);
        flags.remove("-help");
        assert_eq!(documented_flags(&section(COMMANDS, verb.name)), flags, "{}", verb.name);
    }
}

#[test]
fn the_short_flags_are_documented() {
    let items = items(&section(COMMANDS, "DESCRIPTION"), "Fl").join("\n");
    for flag in Arguments::get_args_info().flags {
        let short = if flag.long == "--help" { Some('h') } else { flag.short };
        let Some(letter) = short else { continue };
        let item = items.lines().find(|item| item.contains(&flag.long[1..])).unwrap();
        assert!(item.starts_with(letter), "{} as -{letter}: {item}", flag.long);
    }
}

#[test]
fn the_commands_documented_are_those_there_are() {
    let program = Arguments::get_args_info();
    let verbs: Vec<&str> = program.commands.iter().map(|verb| verb.name).collect();
    let headings: Vec<&str> =
        COMMANDS.lines().filter_map(|line| line.strip_prefix(".Ss ")).collect();
    assert_eq!(headings, verbs);
    let synopsis = section(COMMANDS, "SYNOPSIS");
    let listed: Vec<&str> = synopsis.iter().filter_map(|line| line.strip_prefix(".Cm ")).collect();
    assert_eq!(listed, verbs);
}

#[test]
fn the_synopsis_has_every_flag_and_argument() {
    let synopsis = section(COMMANDS, "SYNOPSIS").join("\n");
    for verb in &Arguments::get_args_info().commands {
        let from = synopsis.split(&format!(".Cm {}", verb.name)).nth(1).unwrap();
        let own = from.split(".Nm").next().unwrap();
        let found = own.matches("Fl ").count();
        let mut flags = in_mdoc(&verb.command);
        flags.remove("-help");
        assert_eq!(found, flags.len(), "{}: {own}", verb.name);
        flags.iter().for_each(|flag| assert!(own.contains(&format!("Fl {flag}")), "{flag}: {own}"));
        for positional in verb.command.positionals {
            let needed = cli::is_needed(&verb.command, positional);
            let written = if needed { ".Ar" } else { ".Op Ar" };
            assert!(own.contains(&format!("{written} {}", positional.name)), "{own}");
        }
    }
}

#[test]
fn the_exit_statuses_documented_are_those_there_are() {
    let section = section(COMMANDS, "EXIT STATUS");
    let documented: Vec<&str> = section.iter().filter_map(|it| it.strip_prefix(".It ")).collect();
    let mut expected = vec!["0".to_owned()];
    expected.extend(Status::ALL.iter().map(|&status| (status as u8).to_string()));
    assert_eq!(documented, expected);
}

#[test]
fn the_files_and_variables_documented_are_those_there_are() {
    let files = section(COMMANDS, "FILES");
    assert!(items(&files, "Pa").contains(&config::DEFAULT_FILE));
    // Found by trying it: nobody could tell what a restore that was killed had left.
    let half = format!("{}XXXXXX", durable::TEMP_PREFIX);
    assert!(items(&files, "Pa").contains(&half.as_str()));
    assert!(items(&section(CONFIG, "FILES"), "Pa").contains(&config::DEFAULT_FILE));
    let environment = section(COMMANDS, "ENVIRONMENT");
    let keys = s3::VARIABLES.join(" , ");
    let notify = notify::VARIABLES.join(" , ");
    let (file, key_files) = (config::FILE_VARIABLE, config::KEYS_VARIABLE);
    let expected =
        [file, key_files, &keys, "SSL_CERT_FILE", "TMPDIR", "COLUMNS", &notify, log::VARIABLE];
    assert_eq!(items(&environment, "Ev"), expected);
}

/// The keys of a subsection, each up to its default.
fn documented_keys(name: &str) -> BTreeSet<&'static str> {
    let items = items(&section(CONFIG, name), "Va");
    items.into_iter().map(|item| item.split(' ').next().unwrap()).collect()
}

#[test]
fn the_configuration_keys_documented_are_those_there_are() {
    let named = |wanted: &dyn Fn(&Key) -> bool| -> BTreeSet<&str> {
        KEYS.iter().filter(|key| wanted(key)).map(|key| key.name).collect()
    };
    for (name, place) in [
        ("Settings", Place::Setting),
        ("Databases", Place::Database),
        ("Destinations", Place::Destination),
    ] {
        let keys = named(&|key| key.place == place);
        assert_eq!(documented_keys(name), keys, "{name}");
    }
    let top = items(&section(CONFIG, "CONFIGURATION"), "Li");
    let plain: BTreeSet<&str> = top.into_iter().map(|item| item.trim_matches(['[', ']'])).collect();
    assert_eq!(plain, named(&|key| key.place == Place::Top));
}

/// How mdoc spells an argument without text.
const EMPTY: &[char] = &['\\', '&'];

/// `poll_interval No = Qq 10ms` as TOML, `checkpoint_pages No = 4000` likewise.
fn toml(item: &str) -> String {
    let (key, value) = item.split_once(" No = ").unwrap_or_else(|| panic!("{item} has a default"));
    match value.strip_prefix("Qq ") {
        Some(text) => format!("{key} = \"{}\"\n", text.trim_matches(EMPTY)),
        None => format!("{key} = {}\n", value.replace("\\(dq", "\"")),
    }
}

#[test]
fn the_defaults_documented_are_those_there_are() {
    const DATABASE: &str = "[[database]]\nname = \"x\"\npath = \"/x\"\n\
                            destination = [{ type = \"file\", path = \"/m\" }]";
    let lines: String = items(&section(CONFIG, "Settings"), "Va").into_iter().map(toml).collect();
    let parse = |text: &str| Config::parse(text, Path::new("page"), &|_| None).unwrap().databases;
    let documented = parse(&format!("[defaults]\n{lines}{DATABASE}"));
    assert_eq!(documented[0].settings, Settings::default());
    assert_eq!(documented, parse(DATABASE));
}

#[test]
fn the_example_of_the_configuration_is_one() {
    let from = CONFIG.split(".Bd -literal -offset indent\n").nth(1).unwrap();
    let example = from.split(".Ed").next().unwrap();
    let config = Config::parse(example, Path::new("page"), &|_| None).unwrap();
    assert_eq!(config.databases[0].destinations[0].to_string(), "file:///mnt/backup/app");
}

#[test]
fn the_examples_are_commands() {
    let examples: Vec<&str> =
        COMMANDS.lines().filter_map(|line| line.strip_prefix(".Dl $ bakelite ")).collect();
    assert!(examples.len() >= 4);
    for example in examples {
        let words = example.split(' ').map(|word| {
            let plain = word.trim_matches('\'');
            // Some shells stop at a name with a question mark that no file fits.
            assert!(!plain.contains(['?', '*', '&']) || plain != word, "{word} wants quotes");
            OsString::from(plain)
        });
        let asked = cli::parse(words);
        assert!(matches!(asked, Ok(Asked::Run(_))), "{example}: {asked:?}");
    }
}

/// All that is read of the environment; `name` is what a configuration refers to.
#[test]
fn nothing_else_of_the_environment_is_read() {
    let mut read = BTreeSet::new();
    // A wrong program is told by a variable of its own.
    let honest = |path: &str| path.starts_with("src/") && path != "src/sabotage.rs";
    for source in sources().iter().filter(|source| honest(&source.path)) {
        for call in ["env::var(", "env::var_os("] {
            let calls = source.text.split(call).skip(1);
            read.extend(calls.map(|rest| rest.split(')').next().unwrap().to_owned()));
        }
    }
    let known = [
        "\"COLUMNS\"",
        "CERTIFICATES",
        "FILE_VARIABLE",
        "VARIABLE",
        "config::KEYS_VARIABLE",
        "name",
    ];
    assert_eq!(read, known.map(str::to_owned).into());
}

/// The strings of the program, each cut where something is put in.
fn strings() -> Vec<Vec<String>> {
    let mut strings = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("src/")) {
        let pieces: Vec<&str> = source.text.split('"').collect();
        for string in pieces.into_iter().filter(|it| it.len() > 3) {
            let whole: Vec<&str> = string.split("\\\n").map(str::trim_start).collect();
            let cut = whole.concat();
            let fixed = cut.split('{').enumerate().map(|(at, piece)| match at {
                0 => piece.to_owned(),
                _ => piece.split_once('}').map_or(piece, |(_, rest)| rest).to_owned(),
            });
            strings.push(fixed.collect());
        }
    }
    strings
}

/// Whether a line ends as the string does, whatever is put in; enough of it has to be the string's.
fn ends_as(line: &str, string: &[String]) -> bool {
    let (last, before) = string.split_last().unwrap();
    let fixed: usize = string.iter().map(String::len).sum();
    let Some(mut rest) = line.strip_suffix(last.as_str()).filter(|_| fixed >= 6) else {
        return false;
    };
    for piece in before.iter().rev() {
        let Some(at) = rest.rfind(piece.as_str()) else { return false };
        rest = &rest[..at];
    }
    rest.is_empty() || rest.ends_with(": ")
}

/// What is documented is what the program, the system or a store says.
#[test]
fn every_diagnostic_is_one_that_is_said() {
    const OF_OTHERS: [&str; 3] = ["No such file or directory", "UnknownIssuer", " (status 4"];
    let strings = strings();
    let section = section(COMMANDS, "DIAGNOSTICS");
    let lines: Vec<&str> = section.iter().filter_map(|it| it.strip_prefix(".It ")).collect();
    assert!(lines.len() > 40, "{}", lines.len());
    for line in lines.into_iter().map(|line| line.trim_matches('"').replace("\\(dq", "\"")) {
        let is_of_others = OF_OTHERS.iter().any(|end| line.contains(end));
        let is_ours = strings.iter().any(|string| ends_as(&line, string));
        assert!(is_ours || is_of_others, "nothing says {line}");
    }
}

/// Each status that a person has to act on is explained by an example.
#[test]
fn every_status_has_a_diagnostic() {
    let section = section(COMMANDS, "DIAGNOSTICS").join("\n");
    for status in Status::ALL.into_iter().filter(|status| *status != Status::Failed) {
        let said = format!("Status {}", status as u8);
        assert!(section.contains(&format!("{said}.")), "{said}");
    }
}

/// What the page says of the unit is in it.
#[test]
fn the_unit_is_as_the_page_has_it() {
    const UNIT: &str = include_str!("../man/bakelite.service");
    let title = "STARTING IT WITH THE SYSTEM";
    assert!(UNIT.contains(&format!("bakelite(1), {title}")));
    let lines = section(COMMANDS, title).into_iter().filter(|line| line.contains('='));
    let keys: Vec<&str> = lines.map(|line| line.split('=').next().unwrap()).collect();
    assert_eq!(keys, ["User", "ReadWritePaths"]);
    for key in keys {
        assert!(UNIT.contains(&format!("\n{key}=")), "{key}");
    }
    let fenced = Status::Locked as u8;
    assert!(UNIT.contains(&format!("\nRestartPreventExitStatus={fenced}\n")));
}

#[test]
fn the_metrics_documented_are_those_there_are_and_alerts_are_about_them() {
    let section = section(CONFIG, "Metrics");
    let of_databases = metrics::OF_DATABASES.iter().map(|it| it.name);
    let of_destinations = metrics::OF_DESTINATIONS.iter().map(|it| it.name);
    let whole = [metrics::BUILD, metrics::OBSERVED];
    let all: Vec<_> = whole
        .into_iter()
        .chain(of_databases)
        .chain([metrics::ERRORS])
        .chain(of_destinations)
        .collect();
    assert_eq!(items(&section, "Li"), all);
    let rules = section.iter().skip_while(|line| !line.starts_with("groups:"));
    let words = rules.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
    let named: Vec<_> = words.filter(|word| word.starts_with("bakelite_")).collect();
    assert!(named.len() >= 3 && named.iter().all(|word| all.contains(word)), "{named:?}");
}
