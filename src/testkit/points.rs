//! What the tests that count have tried, for torture/CORRECTNESS.md: `torture points` runs them at full
//! measure, and each writes its figures down where that says.

use serde_json::json;
use std::path::PathBuf;
use std::{env, fs};

/// A directory: everything is to be tried, not the sample that is tried with all other tests, and what
/// is counted is to be written down there.
const FULL: &str = "BAKELITE_EXHAUSTIVE";

pub fn is_full() -> bool {
    env::var_os(FULL).is_some()
}

/// Writes figures down, in the order in which they are shown.
pub fn record(name: &str, figures: &[(&str, u64)]) {
    println!("{name}: {figures:?}");
    if let Some(dir) = env::var_os(FULL) {
        let json = json!({ "name": name, "figures": figures }).to_string();
        fs::write(PathBuf::from(dir).join(name).with_extension("json"), json).unwrap();
    }
}
