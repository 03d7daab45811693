//! What `make install` puts in place: the program, its pages, the unit, and completions that know every
//! command and option because they ask the program.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bakelite");
const HERE: &str = env!("CARGO_MANIFEST_DIR");

fn installed() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut make = Command::new("make");
    make.args(["-s", "-C", HERE, "install", "PREFIX=/opt/b"]);
    make.arg(format!("PROGRAM={PROGRAM}")).arg(format!("DESTDIR={}", dir.path().display()));
    let output = make.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    dir
}

fn below(dir: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => below(&path, files),
            false => drop(files.insert(path)),
        }
    }
}

#[test]
fn everything_goes_below_the_prefix() {
    let dir = installed();
    let mut files = BTreeSet::new();
    below(dir.path(), &mut files);
    let prefix = dir.path().join("opt/b");
    let names = files.iter().map(|file| file.strip_prefix(&prefix).unwrap().to_str().unwrap());
    let expected = [
        "bin/bakelite",
        "lib/systemd/system/bakelite.service",
        "share/bash-completion/completions/bakelite",
        "share/fish/vendor_completions.d/bakelite.fish",
        "share/man/man1/bakelite.1",
        "share/man/man5/bakelite.5",
        "share/man/man7/bakelite-recovery.7",
        "share/zsh/site-functions/_bakelite",
    ];
    assert_eq!(names.collect::<Vec<_>>(), expected);
    let unit = fs::read_to_string(prefix.join("lib/systemd/system/bakelite.service")).unwrap();
    assert!(unit.contains("\nExecStart=/opt/b/bin/bakelite daemon\n"), "{unit}");
}

/// The words of a command's help that a completion offers, or of the program's.
fn offered(verb: Option<&str>) -> BTreeSet<String> {
    let help = Command::new(PROGRAM).args(verb).arg("--help").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let table = help.split("\nExample").next().unwrap();
    let mut words: BTreeSet<String> = BTreeSet::new();
    for word in
        table.split([' ', '\n', ',']).filter(|word| word.starts_with("--") && word.len() > 2)
    {
        words.insert(word.trim_end_matches(['.', ';', ':']).to_owned());
    }
    words
}

fn commands() -> Vec<String> {
    let help = Command::new(PROGRAM).arg("--help").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let table = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    table.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

/// A shell, how it is given a script, and how it is asked what may follow some words.
const SHELLS: [(&str, &str, &str); 3] = [
    (
        "bash",
        "--norc",
        "source @FILE@; COMP_WORDS=(@WORDS@); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _bakelite; \
         printf '%s\\n' \"${COMPREPLY[@]}\"",
    ),
    (
        "zsh",
        "-f",
        "compadd() { shift; print -rl -- $@ }; _files() { }; words=(@WORDS@); CURRENT=$#words; \
         ask() { eval \"$(<@FILE@)\" }; ask",
    ),
    ("fish", "--no-config", "source @FILE@; complete -C \"$(string join -- ' ' @WORDS@)\""),
];

/// What the shell would offer for the last of the words; `None` where there is no such shell.
fn asked(shell: usize, dir: &Path, words: &[&str]) -> Option<BTreeSet<String>> {
    let (name, plain, script) = SHELLS[shell];
    let files = [
        "share/bash-completion/completions/bakelite",
        "share/zsh/site-functions/_bakelite",
        "share/fish/vendor_completions.d/bakelite.fish",
    ];
    let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let script = script.replace("@WORDS@", &words.join(" "));
    let script =
        script.replace("@FILE@", &dir.join("opt/b").join(files[shell]).display().to_string());
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", dir.join("opt/b/bin").display());
    let mut command = Command::new(name);
    command.args([plain, "-c", &script]).env("PATH", path).env("HOME", dir);
    let output = match command.output() {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return None,
        output => output.unwrap(),
    };
    assert!(output.stderr.is_empty(), "{name}: {output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    // A fish shell has a description after a tab.
    Some(said.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect())
}

#[test]
fn completions_know_every_command_and_option() {
    let dir = installed();
    let check = |shell: usize, words: &[&str], expected: &BTreeSet<String>| {
        let Some(offered) = asked(shell, dir.path(), words) else {
            return eprintln!("note: without {}: 1 completion not tried", SHELLS[shell].0);
        };
        assert!(offered.is_superset(expected), "{}: {words:?}: {offered:?}", SHELLS[shell].0);
    };
    let commands = commands();
    assert!(commands.len() > 12, "{commands:?}");
    for shell in 0..SHELLS.len() {
        check(shell, &["bakelite", ""], &commands.iter().cloned().collect());
        check(shell, &["bakelite", "--"], &offered(None));
        check(shell, &["bakelite", "-c", "file", "--"], &offered(None));
        // The three ask the program in the same way; one is tried with every command.
        let most = if shell == 0 { commands.len() } else { 3 };
        for verb in &commands[..most] {
            let options = offered(Some(verb));
            assert!(options.contains("--json"), "{verb}: {options:?}");
            check(shell, &["bakelite", "--db", "app", verb, "x", "--"], &options);
        }
    }
}

/// What is no option of that command is not offered.
#[test]
fn completions_offer_nothing_else() {
    let dir = installed();
    for (shell, (name, ..)) in SHELLS.iter().enumerate() {
        let Some(offered) = asked(shell, dir.path(), &["bakelite", "list", "--"]) else { continue };
        assert!(!offered.contains("--output") && !offered.contains("list"), "{name}: {offered:?}");
    }
}
