//! How much longer than it should the line takes for large bodies.
//!
//! The time of a request is bounded by its bytes, at a rate that a slow line, or one that several requests
//! share, may not reach: without this the same bytes would be sent, cut off and sent anew for ever. It is
//! learned from what was cut off, and unlearned from what went through quickly.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The rate that any line is expected to reach: 256 KiB a second.
const RATE_BITS: u32 = 18;
/// A line of 16 KiB a second. A store that hangs is waited for as long, so there is an end to it.
const MOST: u32 = 16;

/// How long so many bytes take.
pub(super) fn time_for(bytes: usize) -> Duration {
    Duration::from_secs(bytes as u64 >> RATE_BITS)
}

#[derive(Debug)]
pub(super) struct Pace(AtomicU32);

impl Default for Pace {
    fn default() -> Self {
        Self(AtomicU32::new(1))
    }
}

impl Pace {
    /// How many times the time that its bytes take a request gets.
    pub fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// A request that got `times` the time was cut off for its bytes. Of those that were cut off
    /// together the first one doubles it for all.
    pub fn late(&self, times: u32) {
        self.change(times, (times * 2).min(MOST));
    }

    /// So many bytes went through. Half the time has to be twice what they took, or the next ones, beside
    /// others, would be late again.
    pub fn done(&self, times: u32, bytes: usize, took: Duration) {
        if times > 1 && 4 * took < times * time_for(bytes) {
            self.change(times, times / 2);
        }
    }

    fn change(&self, from: u32, to: u32) {
        // Where it failed, another one has changed it meanwhile.
        let _ = self.0.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn trap_82_what_was_late_gets_twice_the_time_up_to_an_end() {
        let pace = Pace::default();
        let expected = [1, 2, 4, 8, 16, 16, 16];
        for times in expected {
            assert_eq!(pace.now(), times);
            pace.late(times);
        }
        let together = Pace::default();
        (0..4).for_each(|_| together.late(1));
        assert_eq!(together.now(), 2, "four that were cut off at once");
    }

    #[test]
    fn only_what_was_quick_and_large_gives_time_back() {
        let check = |times, bytes, seconds, after| {
            let pace = Pace(AtomicU32::new(times));
            pace.done(times, bytes, Duration::from_secs(seconds));
            assert_eq!(pace.now(), after, "{bytes} bytes in {seconds} s at {times}");
        };
        // 32 MiB should take 128 s.
        check(16, 32 * MIB, 511, 8);
        check(16, 32 * MIB, 512, 16);
        check(2, 32 * MIB, 63, 1);
        check(2, 32 * MIB, 64, 2);
        check(1, 32 * MIB, 0, 1);
        check(16, 100_000, 0, 16);
        // Another one has doubled it since.
        let pace = Pace(AtomicU32::new(4));
        pace.done(2, 32 * MIB, Duration::ZERO);
        assert_eq!(pace.now(), 4);
    }
}
