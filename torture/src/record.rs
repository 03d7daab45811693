//! What campaigns have come to: a file each in torture/records. The page is made from them.

use serde_json::Value;
use std::fs;

pub const RUN: &str = "run";
pub const POINTS: &str = "points";
pub const FUZZ: &str = "fuzz";
pub const SOAK: &str = "soak";
pub const MUTANTS: &str = "mutants";
pub const SABOTEURS: &str = "saboteurs";

fn path(name: &str) -> String {
    format!("{}/records/{name}.json", env!("CARGO_MANIFEST_DIR"))
}

/// What `parse` makes of a record.
pub fn read<T>(name: &str, parse: impl FnOnce(&Value) -> Option<T>) -> Result<T, String> {
    let path = path(name);
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let json = serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
    parse(&json).ok_or_else(|| format!("{path}: not what is recorded there"))
}

pub fn write(name: &str, record: &Value) -> Result<(), String> {
    crate::write(&path(name), &format!("{record:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_record_that_is_read() {
        let dir = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/records")).unwrap();
        let mut found: Vec<_> =
            dir.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        let mut known =
            [RUN, POINTS, FUZZ, SOAK, MUTANTS, SABOTEURS].map(|name| format!("{name}.json"));
        found.sort();
        known.sort();
        assert_eq!(found, known);
        crate::matrix::Records::read().unwrap();
    }
}
