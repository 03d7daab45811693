//! How much memory a run holds at most: every allocation of this program is counted, by thread. What
//! C code asks for (SQLite, zstd) does not come by here.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    /// What this thread holds, and the most since it was last asked. Negative where it frees what
    /// another one has made.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn add(bytes: isize) {
    // A thread that ends may free after its own are gone.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + bytes, most.max(now + bytes)));
    });
}

// SAFETY: the system's allocator does all of the work, with the same arguments. No counter allocates:
// they are constants at first and have nothing to drop.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as isize);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size as isize - layout.size() as isize);
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        add(-(layout.size() as isize));
        unsafe { System.dealloc(old, layout) }
    }
}

/// The most bytes that `work` held at a time beyond what was there before.
pub fn most<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.with(|held| {
        let (now, _) = held.get();
        held.set((now, now));
        now
    });
    let done = work();
    let (_, most) = HELD.with(Cell::get);
    (done, (most - before).try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_and_what_was_held_before_is_not() {
        let before = vec![0u8; 1 << 20];
        let (_, held) = most(|| drop((vec![1u8; 3000], Vec::<u64>::with_capacity(500))));
        assert!((7000..7100).contains(&held), "{held}");
        let (grown, held) = most(|| {
            let mut grown = vec![0u8; 10];
            grown.reserve_exact(99_990);
            grown
        });
        assert!((100_000..100_100).contains(&held), "{held}");
        assert_eq!(most(|| drop((before, grown))).1, 0);
    }
}
