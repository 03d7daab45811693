//! What the modules may know of each other, and how long things may get: read from the source itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A source file without its tests.
pub(crate) struct Source {
    /// Below the package, as `src/wal.rs`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// The module at the root of the library that it belongs to.
    fn module(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or_default();
        below.split(['/', '.']).next().expect("a name")
    }

    /// The root modules that it names: in `use` lines, and in paths.
    fn names(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        for (at, found) in self.text.match_indices("crate::") {
            let rest = &self.text[at + found.len()..];
            match rest.strip_prefix('{') {
                None => drop(names.insert(first_word(rest))),
                Some(group) => {
                    let group = &group[..group.find("};").unwrap_or(group.len())];
                    let mut depth = 0;
                    for piece in group.split_inclusive([',', '{', '}']) {
                        if depth == 0 && !piece.trim().is_empty() {
                            names.insert(first_word(piece.trim()));
                        }
                        depth += piece.matches('{').count();
                        depth -= piece.matches('}').count().min(depth);
                    }
                }
            }
        }
        names
    }

    /// The lines of code, comments left out, with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn first_word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// Every file of the library and of the torture workspace, tests left out.
pub(crate) fn sources() -> Vec<Source> {
    let mut found = with_tests();
    found.retain(|source| !TESTS.iter().any(|test| source.path.contains(test)));
    for source in &mut found {
        let end = source.text.find("\n#[cfg(test)]\nmod tests").unwrap_or(source.text.len());
        source.text.truncate(end);
    }
    found
}

fn with_tests() -> Vec<Source> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for root in ["src", "torture/src"] {
        collect(package, &package.join(root), &mut found);
    }
    assert!(found.len() > 40, "the source is there");
    found
}

fn collect(package: &Path, dir: &Path, found: &mut Vec<Source>) {
    let mut entries: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(package, &path, found);
            continue;
        }
        let name = path.strip_prefix(package).unwrap().to_str().unwrap().to_owned();
        if name.ends_with(".rs") {
            found.push(Source { path: name, text: fs::read_to_string(&path).unwrap() });
        }
    }
}

/// Files that are tests as a whole.
const TESTS: [&str; 6] =
    ["/tests.rs", "/tests/", "src/testkit", "src/structure.rs", "src/manual.rs", "conformance.rs"];

#[test]
fn modules_know_only_what_they_may() {
    let rules: [(&str, &[&str]); 8] = [
        ("source", &["backend", "object", "ship", "daemon", "capture", "replica", "restore"]),
        ("wal", &["source", "sqlite", "capture", "backend", "object", "durable"]),
        (
            "backend",
            &["wal", "source", "capture", "sqlite", "change", "index", "snapshot", "object"],
        ),
        ("restore", &["source", "wal", "capture"]),
        ("capture", &["backend", "ship", "daemon", "clock", "durable"]),
        (
            "commit",
            &["wal", "source", "capture", "object", "backend", "durable", "clock", "daemon"],
        ),
        ("object", &["wal", "source", "capture", "sqlite", "backend", "durable", "clock"]),
        ("ship", &["wal", "sqlite", "clock"]),
    ];
    let sources = sources();
    for (module, forbidden) in rules {
        let files: Vec<_> = sources.iter().filter(|source| source.module() == module).collect();
        assert!(!files.is_empty(), "no module {module}");
        for file in files {
            let known = file.names();
            let bad: Vec<_> = forbidden.iter().filter(|name| known.contains(**name)).collect();
            assert!(bad.is_empty(), "{} must not know of {bad:?}", file.path);
        }
    }
}

#[test]
fn pure_modules_do_no_io_and_read_no_clock() {
    const PURE: [&str; 7] = ["commit", "name", "object", "seal", "change", "snapshot", "wal"];
    let impure = ["std::fs", "std::time", "std::net", "std::thread", "fs::", "File::", "clock::"];
    for source in sources().iter().filter(|source| PURE.contains(&source.module())) {
        for (line, code) in source.code() {
            let bad = impure.iter().find(|word| code.contains(**word));
            assert_eq!(bad, None, "{}:{line} is to be pure", source.path);
        }
    }
}

/// What only these files may do, each with the words that give it away.
#[test]
fn one_module_owns_each_danger() {
    let owners: [(&[&str], &[&str]); 5] = [
        (
            &["src/durable.rs"],
            &[
                ".sync_all(",
                ".sync_data(",
                "fs::rename(",
                "hard_link(",
                ".persist(",
                "persist_noclobber(",
            ],
        ),
        (&["src/clock.rs"], &["SystemTime::now", "Instant::now"]),
        (&["src/run.rs"], &["process::Command", "Command::new"]),
        // They end the program where nobody can be told.
        (&[], &["print!(", "println!("]),
        (&["src/sqlite.rs", "src/memory.rs"], &["unsafe ", "allow(unsafe_code)"]),
    ];
    for source in sources().iter().filter(|source| source.path.starts_with("src/")) {
        let others = owners.iter().filter(|(owners, _)| !owners.contains(&&*source.path));
        for (owners, words) in others {
            for (line, code) in source.code() {
                let bad = words.iter().find(|word| code.contains(**word));
                assert_eq!(bad, None, "{}:{line}: only {owners:?} does that", source.path);
            }
        }
    }
}

/// A child made by fork that goes on with this program would share SQLite's connections and lose its
/// locks, and a mapping of our own would be one that another process can truncate: SQLite alone maps,
/// under its own lock.
const NOWHERE: [&str; 7] =
    ["::fork(", "posix_spawn", "CommandExt", "mmap(", "memmap", "Mmap", "MAP_SHARED"];

#[test]
fn trap_61_trap_62_nothing_forks_and_nothing_is_mapped() {
    for source in sources().iter().filter(|source| source.path.starts_with("src/")) {
        for (line, code) in source.code() {
            let bad = NOWHERE.iter().find(|word| code.contains(**word));
            assert_eq!(bad, None, "{}:{line}: not in a process that holds locks", source.path);
        }
    }
}

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;
/// Longer than they should be, each no longer than it is. A file that gets short leaves the list.
const LONG_FILES: [(&str, usize); 1] = [("torture/src/scenarios/inventory.rs", 570)];

#[test]
fn files_and_functions_are_short() {
    for source in sources() {
        let lines = source.text.lines().count();
        let known = LONG_FILES.iter().find(|(path, _)| *path == source.path);
        let most = known.map_or(FILE_LINES, |(_, most)| *most);
        assert!(lines <= most, "{} has {lines} lines, {most} at most", source.path);
        assert!(known.is_none() || lines > FILE_LINES, "{} is short by now", source.path);
        let all: Vec<_> = source.text.lines().collect();
        for (at, line) in all.iter().enumerate().filter(|(_, line)| is_function(line)) {
            let indent = &line[..line.len() - line.trim_start().len()];
            let end = all[at..].iter().position(|line| *line == format!("{indent}}}"));
            let lines = end.map_or(0, |end| end + 1);
            let place = format!("{}:{}", source.path, at + 1);
            assert!(lines <= FUNCTION_LINES, "{place}: a function of {lines} lines");
        }
    }
}

fn is_function(line: &str) -> bool {
    let before = line.split("fn ").next().unwrap_or_default().trim();
    line.contains("fn ")
        && line.ends_with(['{', '('])
        && before.split_whitespace().all(|word| word.starts_with("pub") || word == "const")
}

/// What the field does to a tool of this kind, numbered; a test's name says which of it is tried.
const TRAPS: usize = 109;

#[test]
fn every_trap_has_a_test() {
    let mut tests = vec![Vec::new(); TRAPS + 1];
    for source in with_tests() {
        for line in source.text.lines().filter_map(|line| line.trim().strip_prefix("fn trap_")) {
            let name = first_word(line);
            for number in
                format!("trap_{name}").split("trap_").filter_map(|it| it.split('_').next())
            {
                let trap: Option<usize> = number.parse().ok();
                trap.into_iter()
                    .for_each(|trap| tests[trap].push(format!("{}: trap_{name}", source.path)));
            }
        }
    }
    for (trap, tests) in tests.iter().enumerate().skip(1) {
        println!("{trap:3}  {}", tests.join("\n     "));
        assert!(!tests.is_empty(), "trap {trap}: no test has it in its name");
    }
}
