//! Courses: which branches of a history a replica was made from, one after another.
//!
//! A replica is one line of commits, while the database that feeds it may have been several: after a
//! loss of power, an older copy put in its place, or another host, it goes on from a state that was
//! there before. Each time one of them becomes the source is a *turn*. A state may fit several
//! turns; what was found before it narrows them down, since turns are never gone back to: the same
//! branch is the source once more only by a turn of its own.

/// A set of turns, a bit for each.
pub type Turns = u64;

/// One source of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pub branch: u32,
    /// The commit that it was at when its turn came.
    pub from: u64,
}

/// All turns, the first one first. There is always one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    turns: Vec<Turn>,
}

impl Default for Course {
    fn default() -> Self {
        Self { turns: vec![Turn { branch: 0, from: 0 }] }
    }
}

impl Course {
    /// From now on the replica is fed from `branch`, which is at `from`; the bit of this turn.
    pub fn turn(&mut self, branch: u32, from: u64) -> Turns {
        assert!(self.turns.len() < Turns::BITS as usize, "a bit for each turn");
        self.turns.push(Turn { branch, from });
        self.here(from).turns
    }

    pub fn turns(&self) -> impl DoubleEndedIterator<Item = (Turns, Turn)> {
        self.turns.iter().enumerate().map(|(at, turn)| (1 << at, *turn))
    }

    /// The present source at `seq`.
    pub fn here(&self, seq: u64) -> Place {
        Place { seq, turns: 1 << (self.turns.len() - 1) }
    }
}

/// A commit, and the turns that it can have been made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub seq: u64,
    pub turns: Turns,
}

impl Place {
    /// This place, narrowed down to the turns in which it can come after `before`; none if it cannot.
    pub fn after(self, before: Self) -> Option<Self> {
        // Later in one of the turns that the one before can be of, or in any turn after those.
        let same = if self.seq >= before.seq { before.turns } else { 0 };
        let oldest = before.turns & before.turns.wrapping_neg();
        let later = !(oldest | oldest.wrapping_sub(1));
        let turns = self.turns & (same | later);
        (turns != 0).then_some(Self { turns, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(seq: u64, turns: Turns) -> Place {
        Place { seq, turns }
    }

    #[test]
    fn within_a_turn_seqs_do_not_fall_and_turns_are_not_gone_back_to() {
        let check = |before: (u64, Turns), found: (u64, Turns), expected: Turns| {
            let narrowed = place(found.0, found.1).after(place(before.0, before.1));
            let expected = (expected != 0).then_some(place(found.0, expected));
            assert_eq!(narrowed, expected, "{before:?} {found:?}");
        };
        check((5, 0b1), (5, 0b1), 0b1);
        check((5, 0b1), (4, 0b1), 0);
        check((5, 0b1), (4, 0b11), 0b10);
        check((5, 0b1), (9, 0b11), 0b11);
        check((5, 0b10), (9, 0b11), 0b10);
        check((5, 0b10), (9, 0b01), 0);
        check((5, 0b10), (4, 0b110), 0b100);
        check((5, 0b11), (4, 0b11), 0b10);
        check((5, 0b11), (4, 0b01), 0);
        check((5, 1 << 63), (4, 1 << 63), 0);
        check((5, 1 << 63), (6, 1 << 63), 1 << 63);
    }

    #[test]
    fn here_is_the_last_turn() {
        let mut course = Course::default();
        assert_eq!(course.here(7), place(7, 0b1));
        course.turn(1, 4);
        course.turn(0, 9);
        assert_eq!(course.here(7), place(7, 0b100));
        let turns: Vec<_> = course.turns().map(|(bit, turn)| (bit, turn.branch)).collect();
        assert_eq!(turns, [(0b1, 0), (0b10, 1), (0b100, 0)]);
    }
}
