//! How many parts of snapshots are in memory, read and not yet stored.
//!
//! A thousand databases begin their first snapshots at once, and reading is faster than storing. So those
//! that go the same way share a room, and who finds it full reads nothing. Its size does not depend on how
//! many there are; and where one destination hangs, others have rooms of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Parts of one database.
const EACH: usize = 3;
/// Parts of all that go the same way: as many as are stored at a time, and some that are next.
const ALL: usize = 6;
/// More of those that have none: two large databases keep no small one waiting.
const FIRST: usize = 2;

#[derive(Clone, Debug, Default)]
pub(super) struct Room(Arc<AtomicUsize>);

impl Room {
    /// Whether one who has so many may have another one.
    pub fn takes(&self, has: usize) -> bool {
        let most = if has == 0 { ALL + FIRST } else { ALL };
        has < EACH && self.0.load(Ordering::Relaxed) < most
    }

    /// The loop alone takes seats, so nobody else comes between its question and this.
    pub fn seat(&self) -> Seat {
        self.0.fetch_add(1, Ordering::Relaxed);
        Seat(Arc::clone(&self.0))
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// The place of one part, for as long as this is kept.
#[derive(Debug)]
pub struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes as many as are to be had. What one database has is its seats.
    fn fill(room: &Room, seats: &mut Vec<Seat>) -> usize {
        while room.takes(seats.len()) {
            seats.push(room.seat());
        }
        seats.len()
    }

    #[test]
    fn the_large_leave_room_for_the_small_and_all_of_them_have_an_end() {
        let room = Room::default();
        let mut databases: Vec<Vec<Seat>> = (0..5).map(|_| Vec::new()).collect();
        let taken: Vec<_> = databases.iter_mut().map(|seats| fill(&room, seats)).collect();
        assert_eq!(taken, [3, 3, 1, 1, 0]);
        databases[0].pop();
        assert_eq!(fill(&room, &mut databases[1]), 3);
        assert_eq!(fill(&room, &mut databases[4]), 1);
        assert_eq!(fill(&room, &mut databases[0]), 2);
        databases.clear();
        assert!(room.is_empty());
    }
}
