//! What the tests that count have tried, for torture/CORRECTNESS.md: `torture points` runs them at full
//! measure, and finds what each has written down below target/.

use std::path::PathBuf;
use std::{env, fs};

/// Whether to try everything, not the sample that is tried with all other tests.
pub fn is_full() -> bool {
    env::var_os("BAKELITE_EXHAUSTIVE").is_some()
}

/// Writes figures down, in the order in which they are shown.
pub fn record(name: &str, figures: &[(&str, u64)]) {
    println!("{name}: {figures:?}");
    let figures: Vec<_> = figures.iter().map(|(what, n)| serde_json::json!([what, n])).collect();
    let json = serde_json::json!({ "name": name, "full": is_full(), "figures": figures });
    let exe = env::current_exe().expect("a test runs from a file");
    let target = exe.ancestors().nth(3).expect("which cargo has put below target/");
    let dir: PathBuf = target.join("points");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(name).with_extension("json"), json.to_string()).unwrap();
}
