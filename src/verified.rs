//! When each replica of a database was last found whole, and how closely it was looked at: what a
//! `verify` leaves in the state directory for `status` and metrics.
//!
//! A note for people: where there is no state directory, or it cannot be written, nothing is noted.

use crate::commit::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// By the milliseconds of `Time`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Depths {
    /// Names, headers, chain and hashes.
    whole: Option<u64>,
    /// All of it was restored.
    deep: Option<u64>,
}

impl Depths {
    pub fn whole(&self) -> Option<Time> {
        self.whole.map(Time)
    }

    pub fn deep(&self) -> Option<Time> {
        self.deep.map(Time)
    }
}

/// Of each destination of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Verified(BTreeMap<String, Depths>);

impl Verified {
    pub fn load(state_dir: &Path) -> Self {
        let text = fs::read_to_string(path(state_dir)).ok();
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    pub fn of(&self, url: &str) -> Depths {
        self.0.get(url).copied().unwrap_or_default()
    }

    /// Notes that these were found whole.
    pub fn note(state_dir: &Path, urls: &[&str], deep: bool, now: Time) {
        let mut all = Self::load(state_dir);
        for url in urls {
            let depths = all.0.entry((*url).to_owned()).or_default();
            depths.whole = Some(now.0);
            depths.deep = if deep { Some(now.0) } else { depths.deep };
        }
        let text = serde_json::to_string(&all).expect("plain values");
        fs::write(path(state_dir), text).ok();
    }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("verified")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_found_and_a_quick_look_leaves_the_deep_one_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Verified::load(dir.path()), Verified::default());
        Verified::note(dir.path(), &["a", "b"], true, Time(1));
        Verified::note(dir.path(), &["a"], false, Time(2));
        let times = |url| {
            let depths = Verified::load(dir.path()).of(url);
            (depths.whole(), depths.deep())
        };
        assert_eq!(times("a"), (Some(Time(2)), Some(Time(1))));
        assert_eq!(times("b"), (Some(Time(1)), Some(Time(1))));
        assert_eq!(times("c"), (None, None));
        fs::write(path(dir.path()), "torn").unwrap();
        assert_eq!(times("a"), (None, None));
        Verified::note(&dir.path().join("gone"), &["a"], true, Time(1));
    }
}
