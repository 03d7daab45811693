//! Help on one screen a command: what it takes, from argh's own tables, an example last.
//!
//! argh can write help too, but leaves out the names of values and puts the example in the middle.

use super::Arguments;
use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality, PositionalInfo};

const WIDTH: usize = 79;
const COLUMN: usize = 20;

/// Where to read on, as a hint.
pub(super) fn pointer(verb: &str) -> String {
    match Arguments::get_args_info().commands.iter().any(|command| command.name == verb) {
        true => format!("see: bakelite {verb} --help"),
        false => "see: bakelite --help".to_owned(),
    }
}

/// The help of a command, or of the program.
pub(super) fn of(verb: Option<&str>) -> String {
    let program = Arguments::get_args_info();
    let verb = program.commands.iter().find(|command| Some(command.name) == verb);
    verb.map_or_else(|| of_program(&program), |verb| of_verb(&verb.command, &program))
}

fn of_program(program: &CommandInfoWithArgs) -> String {
    let mut out =
        String::from("Usage: bakelite COMMAND [ARGUMENT...] [OPTION...] | COMMAND --help\n\n");
    out += &paragraph(&format!("{}.", program.description));
    out += "\nCommands:\n";
    for command in &program.commands {
        out += &entry(command.name, command.command.description);
    }
    out += "\nOptions, before or after the command:\n";
    own(program).for_each(|flag| out += &entry(&spelled(flag), flag.description));
    out + &examples(program)
}

fn of_verb(verb: &CommandInfoWithArgs, program: &CommandInfoWithArgs) -> String {
    let mut out = paragraph(&usage(verb));
    let mut about = format!("{}.", verb.description);
    verb.notes.iter().for_each(|note| about += &format!(" {note}"));
    out += &format!("\n{}\n", paragraph(&about));
    for positional in verb.positionals {
        out += &entry(positional.name, positional.description);
    }
    own(verb).for_each(|flag| out += &entry(&spelled(flag), flag.description));
    let everywhere: Vec<String> = program.flags.iter().map(spelled_long).collect();
    out += &paragraph(&format!("Everywhere: {}", everywhere.join(", ")));
    out + &examples(verb)
}

/// What it takes besides `--help`, which goes without saying.
fn own(command: &CommandInfoWithArgs) -> impl Iterator<Item = &FlagInfo<'static>> {
    command.flags.iter().filter(|flag| flag.long != "--help")
}

fn usage(verb: &CommandInfoWithArgs) -> String {
    let mut out = format!("Usage: bakelite {}", verb.name);
    for positional in verb.positionals {
        let more = if positional.optionality == Optionality::Repeating { "..." } else { "" };
        out += &match is_needed(verb, positional) {
            true => format!(" {}{more}", positional.name),
            false => format!(" [{}{more}]", positional.name),
        };
    }
    for flag in verb.flags.iter().filter(|flag| flag.optionality == Optionality::Required) {
        out += &format!(" {}", spelled_long(flag));
    }
    out + " [OPTION...]"
}

/// argh knows of no list that something has to be in.
pub fn is_needed(verb: &CommandInfoWithArgs, positional: &PositionalInfo) -> bool {
    positional.optionality == Optionality::Required || verb.name == "init"
}

fn spelled(flag: &FlagInfo) -> String {
    let long = spelled_long(flag);
    flag.short.map(|letter| format!("-{letter}, {long}")).unwrap_or(long)
}

fn spelled_long(flag: &FlagInfo) -> String {
    match flag.kind {
        FlagInfoKind::Switch => flag.long.to_owned(),
        FlagInfoKind::Option { arg_name } => format!("{} {arg_name}", flag.long),
    }
}

fn examples(command: &CommandInfoWithArgs) -> String {
    let title = if command.examples.len() == 1 { "Example" } else { "Examples" };
    let lines = command.examples.iter().map(|example| format!("  {example}\n"));
    format!("\n{title}:\n{}", lines.collect::<String>())
}

/// A name and what it is, side by side; a long name has its line to itself.
fn entry(name: &str, description: &str) -> String {
    let name = format!("  {name}");
    let indent = " ".repeat(COLUMN);
    let gap = match name.len() < COLUMN {
        true => indent[name.len()..].to_owned(),
        false => format!("\n{indent}"),
    };
    let description = wrapped(description, WIDTH - COLUMN).join(&format!("\n{indent}"));
    format!("{name}{gap}{description}\n")
}

/// Prose, its first letter a capital.
fn paragraph(text: &str) -> String {
    let mut lines = wrapped(text, WIDTH).join("\n");
    lines[..1].make_ascii_uppercase();
    lines + "\n"
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("starts with one line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + 1 + word.len() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
