//! Arguments in any order people type them, put into the one order that argh reads.
//!
//! `--opt=value` is split, `-h` and `--help` are seen anywhere, the options of every command may
//! stand before or after its name, and what does not exist is refused with what was probably meant.
//! What exists is read from argh's own tables, so this knows no option by name.

use super::{Arguments, help};
use crate::error::{Error, Result, Status};
use crate::units;
use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality};
use std::ffi::OsString;

pub(super) enum Wanted {
    /// Of one command, or of the program.
    Help(Option<&'static str>),
    Run {
        verb: &'static str,
        ordered: Vec<String>,
    },
}

/// An option as given, with its value.
struct Given {
    name: String,
    value: Option<String>,
}

/// The arguments, sorted by what they look like.
#[derive(Default)]
struct Sorted {
    options: Vec<Given>,
    words: Vec<String>,
    /// How many of the words come before `--`.
    before: Option<usize>,
    help: bool,
    version: bool,
}

pub(super) fn normalise(argv: impl IntoIterator<Item = OsString>) -> Result<Wanted> {
    let program = Arguments::get_args_info();
    let mut sorted = sort(&program, argv)?;
    if sorted.version {
        sorted.words.insert(0, "version".into());
    }
    if sorted.words.first().is_some_and(|word| word == "help") {
        sorted.words.remove(0);
        sorted.help = true;
    }
    if sorted.words.is_empty() {
        let known = sorted.options.iter().try_for_each(|given| is_known(&program, None, given));
        return match sorted.help {
            true => known.map(|()| Wanted::Help(None)),
            false => known.and(Err(no_command(&program))),
        };
    }
    let word = sorted.words.remove(0);
    sorted.before = sorted.before.and_then(|before| before.checked_sub(1));
    let verb = verbs(&program).find(|verb| verb.name == word);
    let verb = verb.ok_or_else(|| unknown_command(&program, &word))?;
    sorted.options.iter().try_for_each(|given| is_known(&program, Some(verb), given))?;
    if sorted.help {
        return Ok(Wanted::Help(Some(verb.name)));
    }
    complete(verb, &sorted)?;
    if let Some(before) = sorted.before.filter(|_| has_two_lists(verb)) {
        sorted.words.insert(before, "--".into());
    }
    Ok(Wanted::Run { verb: verb.name, ordered: order(&program, verb.name, sorted) })
}

fn verbs(program: &CommandInfoWithArgs) -> impl Iterator<Item = &CommandInfoWithArgs> + Clone {
    program.commands.iter().map(|verb| &verb.command)
}

/// Where `--` does not only end the options, but stands between two lists of words.
fn has_two_lists(verb: &CommandInfoWithArgs) -> bool {
    verb.positionals.iter().any(|each| each.name.contains(" -- "))
}

/// Every option of the program and of all its commands.
fn all_flags(program: &CommandInfoWithArgs) -> impl Iterator<Item = &FlagInfo<'static>> {
    program.flags.iter().chain(verbs(program).flat_map(|verb| verb.flags))
}

fn is_called(flag: &FlagInfo, name: &str) -> bool {
    let short = |letter: char| name.strip_prefix('-').is_some_and(|it| it == letter.to_string());
    flag.long == name || flag.short.is_some_and(short)
}

fn takes_value(flag: &FlagInfo) -> bool {
    matches!(flag.kind, FlagInfoKind::Option { .. })
}

fn sort(program: &CommandInfoWithArgs, argv: impl IntoIterator<Item = OsString>) -> Result<Sorted> {
    let mut sorted = Sorted::default();
    let mut argv = argv.into_iter();
    while let Some(word) = argv.next() {
        let word = text(word)?;
        match word.as_str() {
            "--" => {
                sorted.before = Some(sorted.words.len());
                let rest = argv.by_ref().map(text).collect::<Result<Vec<_>>>()?;
                sorted.words.extend(rest);
            }
            "-h" | "--help" => sorted.help = true,
            "-V" | "--version" => sorted.version = true,
            "-" => sorted.words.push(word),
            _ if word.starts_with('-') => sorted.options.push(option(program, word, &mut argv)?),
            _ => sorted.words.push(word),
        }
    }
    Ok(sorted)
}

/// Names of files need not be UTF-8, but argh reads nothing else.
fn text(word: OsString) -> Result<String> {
    word.into_string().map_err(|word| {
        Error::new(Status::Usage, "arguments", word.display(), "not UTF-8")
            .hint("reach the file by another path, such as a symbolic link")
    })
}

fn option(
    program: &CommandInfoWithArgs,
    word: String,
    rest: &mut impl Iterator<Item = OsString>,
) -> Result<Given> {
    let (name, inline) = match word.split_once('=') {
        Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
        _ => (word, None),
    };
    let Some(flag) = all_flags(program).find(|flag| is_called(flag, &name)) else {
        return Ok(Given { name, value: inline });
    };
    let refuse = |cause: &str| Error::new(Status::Usage, "arguments", &name, cause);
    let value = match (takes_value(flag), inline) {
        (false, None) => None,
        (false, Some(_)) => {
            return Err(refuse("takes no value").hint(format!("write {name} alone")));
        }
        (true, Some(value)) => Some(value),
        (true, None) => {
            let next = rest.next().map(text).transpose()?;
            let missing = || refuse("needs a value").hint(format!("write {name} VALUE"));
            let next = next.ok_or_else(missing)?;
            if next.starts_with('-') && next != "-" {
                return Err(refuse("needs a value")
                    .hint(format!("if {next} is the value, write {name}={next}")));
            }
            Some(next)
        }
    };
    Ok(Given { name: flag.long.to_owned(), value })
}

fn is_known(
    program: &CommandInfoWithArgs,
    verb: Option<&CommandInfoWithArgs>,
    given: &Given,
) -> Result<()> {
    let flags = || program.flags.iter().chain(verb.into_iter().flat_map(|verb| verb.flags));
    if flags().any(|flag| flag.long == given.name) {
        return Ok(());
    }
    let operation = verb.map_or("arguments", |verb| verb.name);
    let hint = match units::nearest(&given.name, flags().map(|flag| flag.long)) {
        Some(meant) => format!("did you mean {meant}?"),
        None => help::pointer(operation),
    };
    Err(Error::new(Status::Usage, operation, &given.name, "no such option").hint(hint))
}

fn commands(program: &CommandInfoWithArgs) -> String {
    verbs(program).map(|verb| verb.name).collect::<Vec<_>>().join(", ")
}

fn no_command(program: &CommandInfoWithArgs) -> Error {
    Error::new(Status::Usage, "arguments", "COMMAND", "missing")
        .hint(format!("one of {}; see: bakelite --help", commands(program)))
}

fn unknown_command(program: &CommandInfoWithArgs, word: &str) -> Error {
    let list = format!("there are {}", commands(program));
    let hint = match units::nearest(word, verbs(program).map(|verb| verb.name)) {
        Some(meant) => format!("did you mean {meant}? {list}"),
        None => list,
    };
    Error::new(Status::Usage, "arguments", word, "no such command").hint(hint)
}

/// Nothing that is required is missing, and nothing is left over.
fn complete(verb: &CommandInfoWithArgs, sorted: &Sorted) -> Result<()> {
    let refuse = |thing: &str, cause: &str| {
        Error::new(Status::Usage, verb.name, thing, cause).hint(help::pointer(verb.name))
    };
    let given = |name: &str| sorted.options.iter().any(|option| option.name == name);
    let required = |flag: &&FlagInfo| flag.optionality == Optionality::Required;
    if let Some(flag) = verb.flags.iter().filter(required).find(|flag| !given(flag.long)) {
        return Err(refuse(flag.long, "missing"));
    }
    let mut needed = verb.positionals.iter().filter(|it| it.optionality == Optionality::Required);
    if let Some(missing) = needed.nth(sorted.words.len()) {
        return Err(refuse(missing.name, "missing"));
    }
    let many = verb.positionals.iter().any(|each| each.optionality == Optionality::Repeating);
    match sorted.words.get(verb.positionals.len()) {
        Some(word) if !many => Err(refuse(word, "one argument too many")),
        _ => Ok(()),
    }
}

/// The program's options, the command, its options, its words.
fn order(program: &CommandInfoWithArgs, verb: &str, sorted: Sorted) -> Vec<String> {
    let ours = |given: &Given| program.flags.iter().any(|flag| flag.long == given.name);
    let (before, after): (Vec<_>, Vec<_>) = sorted.options.into_iter().partition(ours);
    let spelled = |given: Given| std::iter::once(given.name).chain(given.value);
    let mut ordered: Vec<String> = before.into_iter().flat_map(spelled).collect();
    ordered.push(verb.to_owned());
    ordered.extend(after.into_iter().flat_map(spelled));
    ordered.push("--".to_owned());
    ordered.extend(sorted.words);
    ordered
}
