//! Ways through change-sets, which may overlap: those that were merged stand beside what they were made
//! of until that is deleted. Of the ways without a gap the one over the fewest objects is taken.
//!
//! Everything here is sorted by first commit.

use crate::commit::CommitNo;
use crate::name::Span;

/// The way from the state after `from` as far as it goes.
pub fn farthest(changes: &[(Span, u8)], from: CommitNo) -> Vec<Span> {
    let mut way = Way { changes, next: 0, reached: from };
    let mut path = Vec::new();
    let mut best = None::<Span>;
    loop {
        for (span, _) in way.within_reach() {
            best = best.filter(|best| best.last >= span.last).or(Some(*span));
        }
        let Some(span) = best.filter(|best| best.last > way.reached) else { return path };
        way.reached = span.last;
        path.push(span);
    }
}

/// The way from the state after `from` to `target`. What goes past that has to know it as one of its
/// points, which is sure of the lowest level only: so it comes last.
pub fn to_commit(changes: &[(Span, u8)], from: CommitNo, target: CommitNo) -> Vec<(Span, u8)> {
    let mut way = Way { changes, next: 0, reached: from };
    let mut path = Vec::new();
    let (mut best, mut last) = (None::<(Span, u8)>, None::<(Span, u8)>);
    while way.reached < target {
        for one in way.within_reach() {
            if one.0.last <= target {
                best = best.filter(|best| best.0.last >= one.0.last).or(Some(*one));
            } else {
                last = last.filter(|last| last.1 <= one.1).or(Some(*one));
            }
        }
        match best.filter(|best| best.0.last > way.reached) {
            Some(one) => {
                way.reached = one.0.last;
                path.push(one);
            }
            None => {
                // Where it was copied to a destination that has come back, what it was made of may
                // end in the middle of it.
                path.retain(|(span, _)| last.is_none_or(|last| span.first < last.0.first));
                path.extend(last);
                return path;
            }
        }
    }
    path
}

struct Way<'a> {
    changes: &'a [(Span, u8)],
    next: usize,
    reached: CommitNo,
}

impl<'a> Way<'a> {
    /// Those that begin at or before the next commit, and were not looked at yet.
    fn within_reach(&mut self) -> &'a [(Span, u8)] {
        let rest = &self.changes[self.next..];
        let count = rest.partition_point(|(span, _)| span.first <= self.reached.next());
        self.next += count;
        &rest[..count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::{Time, Timeline};

    fn changes(all: &[(u64, u64, u8)]) -> Vec<(Span, u8)> {
        let mut changes: Vec<_> = all
            .iter()
            .map(|&(first, last, level)| {
                let (time, timeline) = (Time(last), Timeline(1));
                (Span { first: CommitNo(first), last: CommitNo(last), time, timeline }, level)
            })
            .collect();
        changes.sort_unstable_by_key(|(span, level)| (span.first, span.last, *level));
        changes
    }

    fn check(all: &[(u64, u64, u8)], from: u64, target: u64, expected: &[(u64, u64)]) {
        let path = to_commit(&changes(all), CommitNo(from), CommitNo(target));
        let path: Vec<_> = path.iter().map(|(span, _)| (span.first.0, span.last.0)).collect();
        assert_eq!(path, expected, "from {from} to {target}");
    }

    /// Merged change-sets and what they were made of, in every state of its deletion (Litestream #857).
    #[test]
    fn trap_88_overlapping_levels_have_one_plan() {
        let fresh = [(1, 1, 0), (2, 4, 0), (5, 5, 0), (6, 9, 0), (1, 5, 1), (1, 9, 2)];
        check(&fresh, 0, 9, &[(1, 9)]);
        check(&fresh, 0, 5, &[(1, 5)]);
        check(&fresh, 0, 3, &[(1, 1), (2, 4)]);
        check(&fresh, 0, 7, &[(1, 5), (6, 9)]);
        check(&fresh, 5, 9, &[(1, 9)]);
        // Of the level below only the end is left, and what is needed before it is not.
        check(&[(6, 9, 0), (1, 9, 2)], 0, 7, &[(1, 9)]);
        check(&[(3, 6, 1), (1, 9, 2)], 0, 4, &[(1, 9)]);
        // Of the level below only the beginning was ever there, as a soak has found.
        check(&[(1, 2, 1), (3, 4, 0), (5, 5, 0), (3, 9, 2)], 0, 7, &[(1, 2), (3, 9)]);
        check(&[(1, 2, 1), (3, 4, 0), (5, 5, 0), (2, 9, 2)], 0, 7, &[(1, 2), (2, 9)]);
        check(&[(1, 2, 1), (3, 4, 0), (5, 5, 0), (1, 9, 2)], 0, 5, &[(1, 2), (3, 4), (5, 5)]);
        check(&[(3, 6, 1), (1, 9, 2)], 2, 4, &[(3, 6)]);
        check(&[(1, 4, 0), (3, 6, 1), (5, 9, 0)], 0, 9, &[(1, 4), (5, 9)]);
        let far: Vec<_> =
            farthest(&changes(&[(1, 4, 0), (3, 6, 1), (5, 7, 0), (9, 9, 0)]), CommitNo(1))
                .iter()
                .map(|span| span.last.0)
                .collect();
        assert_eq!(far, [4, 7]);
    }
}
