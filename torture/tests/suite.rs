//! The program as an operator runs it.

use std::path::Path;
use std::process::{Command, Output};

/// It tries the bakelite beside it, which the tests of the whole workspace have built.
fn suite(words: &[&str]) -> (Output, String) {
    let torture = Path::new(env!("CARGO_BIN_EXE_torture"));
    assert!(torture.with_file_name("bakelite").exists(), "run: cargo test --workspace");
    let output = Command::new(torture).arg("suite").args(words).output().unwrap();
    let said = String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap();
    (output, said)
}

#[test]
fn an_operator_is_told_where_before_and_what_came_of_it_after() {
    let dir = tempfile::tempdir().unwrap();
    let (output, said) = suite(&[dir.path().to_str().unwrap(), "drain", "--seed", "5"]);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let place = format!("file://{}/torture-", dir.path().display());
    assert!(said.lines().next().unwrap().contains(&place), "{said}");
    let ok = said.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(ok >= 10, "{said}");
    assert!(said.lines().last().unwrap().contains(" kept; 1 runs from seed 5: "), "{said}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{said}");
}

#[test]
fn what_cannot_be_tried_ends_with_one() {
    for url in ["/not/mounted", "ftp://somewhere"] {
        let (output, said) = suite(&[url]);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("torture suite: "), "{said}");
    }
}
