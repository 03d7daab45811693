//! What a run has done, in numbers: the figures of the matrix and the proof that it did anything.

use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub seeds: u64,
    /// Seeds that could not be tried, since what they take may not be done here.
    pub not_permitted: u64,
    /// The daemon killed by SIGKILL while it was running.
    pub kills: u64,
    /// Restored files that the oracle has judged.
    pub restores: u64,
    /// Of these, restores of a time or a commit that was asked for.
    pub targets: u64,
    /// Damage and lies that were refused.
    pub rejected: u64,
    pub commits: u64,
    /// How often each fault really happened.
    pub faults: BTreeMap<String, u64>,
    pub violations: Vec<String>,
}

impl Tally {
    pub fn fault(&mut self, name: &str) {
        self.faults(name, 1);
    }

    pub fn faults(&mut self, name: &str, times: u64) {
        if times == 0 {
            return;
        }
        *self.faults.entry(name.to_owned()).or_default() += times;
    }

    /// Every process killed by SIGKILL while it ran, the daemon and others.
    pub fn all_kills(&self) -> u64 {
        let killed = self.faults.iter().filter(|(name, _)| name.ends_with(" killed"));
        killed.map(|(_, times)| times).sum()
    }

    /// Whether there was nothing but seeds that may not be tried here.
    pub fn is_barred(&self) -> bool {
        self.seeds == 0 && self.not_permitted > 0
    }

    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.not_permitted += other.not_permitted;
        self.kills += other.kills;
        self.restores += other.restores;
        self.targets += other.targets;
        self.rejected += other.rejected;
        self.commits += other.commits;
        other.faults.iter().for_each(|(name, times)| self.faults(name, *times));
        self.violations.extend_from_slice(&other.violations);
    }

    pub fn to_json(&self) -> Value {
        let Self { seeds, not_permitted, kills, restores, targets, .. } = self;
        let Self { rejected, commits, .. } = self;
        json!({
            "seeds": seeds, "not_permitted": not_permitted, "kills": kills, "restores": restores, "targets": targets,
            "rejected": rejected, "commits": commits,
            "faults": self.faults, "violations": self.violations,
        })
    }

    pub fn from_json(json: &Value) -> Option<Self> {
        let number = |key: &str| json[key].as_u64();
        let faults = json["faults"].as_object()?.iter();
        let violations = json["violations"].as_array()?.iter();
        Some(Self {
            seeds: number("seeds")?,
            not_permitted: number("not_permitted")?,
            kills: number("kills")?,
            restores: number("restores")?,
            targets: number("targets")?,
            rejected: number("rejected")?,
            commits: number("commits")?,
            faults: faults.map(|(k, v)| Some((k.clone(), v.as_u64()?))).collect::<Option<_>>()?,
            violations: violations.map(|v| v.as_str().map(Into::into)).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_add_up_and_come_back_from_json() {
        let mut one = Tally { seeds: 1, kills: 2, restores: 3, targets: 4, ..Tally::default() };
        one.fault("kill");
        one.violations.push("no".into());
        let two = Tally { rejected: 5, commits: 7, not_permitted: 8, ..one.clone() };
        let mut sum = one.clone();
        sum.add(&two);
        assert_eq!((sum.seeds, sum.kills, sum.rejected, sum.commits), (2, 4, 5, 7));
        assert_eq!((sum.faults["kill"], sum.violations.len(), sum.not_permitted), (2, 2, 8));
        assert_eq!(Tally::from_json(&sum.to_json()), Some(sum));
    }
}
