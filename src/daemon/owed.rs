//! Since when a destination lacks something that was published: the age of the oldest commit that is
//! not durable there.
//!
//! Marks say which commit was the last one at some moments past. Once a destination holds all up to
//! a mark, what it still lacks was committed later than that. Marks lie the further apart the longer
//! it lacks anything, so there are few of them, and the age is right to an eighth. It is never too
//! low by more than the time between two looks, and a database that rests owes nothing.

use crate::commit::{CommitNo, Time};
use std::collections::VecDeque;

#[derive(Clone, Debug, Default)]
pub struct Owed {
    since: Option<Time>,
    /// The last commit, and when it was that.
    marks: VecDeque<(CommitNo, Time)>,
}

impl Owed {
    /// `last`: the last commit, `None` if there are some that nobody has counted yet. `floor`: the
    /// last one that the destination holds.
    pub fn note(&mut self, last: Option<CommitNo>, floor: Option<CommitNo>, now: Time) {
        if last.is_some() && floor >= last {
            *self = Self::default();
            return;
        }
        while let Some(&(_, at)) = self.marks.front().filter(|(commit, _)| floor >= Some(*commit)) {
            self.since = Some(at);
            self.marks.pop_front();
        }
        let since = *self.since.get_or_insert(now);
        let Some(last) = last else { return };
        let gap = now.0.saturating_sub(since.0) / 8;
        let due = |&(commit, at): &(CommitNo, Time)| commit < last && now.0 >= at.0 + gap;
        if self.marks.back().is_none_or(due) {
            self.marks.push_back((last, now));
        }
    }

    pub fn since(&self) -> Option<Time> {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said at each second, where commit `n` is made in second `n`.
    fn ages(seconds: u64, floor: impl Fn(u64) -> Option<u64>) -> Vec<Option<u64>> {
        let mut owed = Owed::default();
        let age = |second: u64| {
            owed.note(Some(CommitNo(second)), floor(second).map(CommitNo), Time(second * 1000));
            assert!(owed.marks.len() < 100, "{}", owed.marks.len());
            owed.since().map(|since| second - since.0 / 1000)
        };
        (1..=seconds).map(age).collect()
    }

    #[test]
    fn one_that_holds_everything_owes_nothing_however_old_that_is() {
        assert!(ages(1000, Some).iter().all(Option::is_none));
    }

    #[test]
    fn a_first_commit_after_a_long_rest_is_new() {
        let mut owed = Owed::default();
        owed.note(Some(CommitNo(7)), Some(CommitNo(7)), Time(1000));
        owed.note(Some(CommitNo(8)), Some(CommitNo(7)), Time(900_000));
        assert_eq!(owed.since(), Some(Time(900_000)));
        owed.note(Some(CommitNo(8)), Some(CommitNo(8)), Time(901_000));
        assert_eq!(owed.since(), None);
    }

    #[test]
    fn one_that_takes_nothing_is_as_old_as_its_first_debt() {
        let ages = ages(100_000, |second| Some(second.min(10)));
        assert_eq!(ages[99_999], Some(100_000 - 11));
    }

    /// It takes everything, later: the age is how much later, neither less nor much more.
    #[test]
    fn one_that_trails_is_as_old_as_it_trails() {
        for lag in [1, 10, 600] {
            let ages = ages(5 * lag + 20, |second| second.checked_sub(lag));
            for age in &ages[2 * lag as usize..] {
                let age = age.unwrap();
                assert!(age + 1 >= lag && age <= lag + lag / 4 + 1, "{age} for {lag}");
            }
        }
    }

    #[test]
    fn commits_that_nobody_has_counted_are_owed_too() {
        let mut owed = Owed::default();
        for second in 5..10 {
            owed.note(None, Some(CommitNo(3)), Time(second * 1000));
            assert_eq!(owed.since(), Some(Time(5000)));
        }
    }
}
