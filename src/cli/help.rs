//! Help on one screen a command: what it takes, from argh's own tables, an example last.
//!
//! argh can write help too, but leaves out the names of values and puts the example in the middle.

use super::Arguments;
use crate::report::{Document, SCHEMA};
use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality, PositionalInfo};
use serde::Serialize;

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
pub(super) fn of(verb: Option<&str>) -> Help {
    let program = Arguments::get_args_info();
    let command = program.commands.iter().find(|command| Some(command.name) == verb);
    let text = command.map(|command| of_verb(&command.command, &program));
    let info = command.map_or(&program, |command| &command.command);
    let commands = program.commands.iter().filter(|_| command.is_none());
    Help {
        schema: SCHEMA,
        command: command.map(|command| command.name),
        description: info.description,
        notes: info.notes.to_vec(),
        commands: commands.map(|it| Named::new(it.name, it.command.description)).collect(),
        arguments: info.positionals.iter().map(|it| Named::new(it.name, it.description)).collect(),
        options: own(info).map(Choice::new).collect(),
        everywhere: own(&program).filter(|_| command.is_some()).map(Choice::new).collect(),
        examples: info.examples.to_vec(),
        text: text.unwrap_or_else(|| of_program(&program)),
    }
}

/// What a command takes, or the program: a screen of text, or the same as a document.
#[derive(Debug, Serialize)]
pub struct Help {
    schema: u32,
    command: Option<&'static str>,
    description: &'static str,
    notes: Vec<&'static str>,
    commands: Vec<Named>,
    arguments: Vec<Named>,
    options: Vec<Choice>,
    /// Those that every command takes.
    everywhere: Vec<Choice>,
    examples: Vec<&'static str>,
    #[serde(skip)]
    text: String,
}

impl Document for Help {
    fn text(&self) -> String {
        self.text.clone()
    }
}

#[derive(Debug, Serialize)]
struct Named {
    name: &'static str,
    description: &'static str,
}

impl Named {
    fn new(name: &'static str, description: &'static str) -> Self {
        Self { name, description }
    }
}

#[derive(Debug, Serialize)]
struct Choice {
    long: &'static str,
    short: Option<char>,
    /// What its value is called, if it takes one.
    value: Option<&'static str>,
    description: &'static str,
}

impl Choice {
    fn new(flag: &FlagInfo<'static>) -> Self {
        let value = match flag.kind {
            FlagInfoKind::Switch => None,
            FlagInfoKind::Option { arg_name } => Some(arg_name),
        };
        Self { long: flag.long, short: flag.short, value, description: flag.description }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn document(verb: Option<&str>) -> Value {
        serde_json::to_value(of(verb)).unwrap()
    }

    #[test]
    fn what_is_on_the_screen_is_in_the_document() {
        let program = document(None);
        assert_eq!(program["command"], Value::Null);
        let verbs = program["commands"].as_array().unwrap();
        assert!(verbs.len() > 10, "{verbs:?}");
        for verb in verbs {
            let verb = verb["name"].as_str().unwrap();
            let (screen, found) = (of(Some(verb)).text(), document(Some(verb)));
            assert_eq!((&found["schema"], &found["command"]), (&json!(1), &json!(verb)));
            assert_eq!(
                (&found["commands"], &found["everywhere"]),
                (&json!([]), &program["options"])
            );
            let told = ["arguments", "options"].map(|list| found[list].as_array().unwrap());
            for each in told.into_iter().flatten() {
                let name = each["long"].as_str().or(each["name"].as_str()).unwrap();
                let value = each["value"].as_str().unwrap_or_default();
                assert!(screen.contains(format!("{name} {value}").trim()), "{verb} {name}");
            }
        }
        let config = &program["options"][0];
        assert_eq!(
            [&config["long"], &config["short"], &config["value"]],
            ["--config", "c", "FILE"]
        );
    }
}
