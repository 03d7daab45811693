//! Work on many objects, one after the other, while the next ones are on their way: a few threads
//! fetch ahead of whoever takes the results, in the order of the list.
//!
//! What is held at a time is bounded in bytes, however many objects there are. Which error is returned
//! follows from the list alone: that of the first item in it that has one. Every thread has ended when
//! this returns.

use crate::error::Result;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Requests under way at a time. A store answers each one late, but many at once: sixteen hide all
/// but a sixteenth of that, and are few for any store.
pub const FETCHERS: usize = 16;
/// Bytes of objects that are fetched and not yet taken: four parts of a snapshot that do not compress,
/// or one object that is larger.
const BYTES: u64 = 16 << 20;
/// What an object counts for at least: opened, it has tables that its stored bytes do not show.
const LEAST: u64 = BYTES / 64;

/// Does `fetch` for each item on a few threads, and hands the results to `take` in order. `bytes` is
/// how much an item takes as long as it is not taken.
pub fn ahead<I: Sync, T: Send>(
    items: &[I],
    bytes: impl Fn(&I) -> u64 + Sync,
    fetch: impl Fn(&I) -> Result<T> + Sync,
    mut take: impl FnMut(&I, T) -> Result<()>,
) -> Result<()> {
    let bytes = |item: &I| bytes(item).max(LEAST);
    let workers = FETCHERS.min(items.len());
    let queue = Queue::new(items.len(), workers);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let _leaves = Leaves(&queue);
                while let Some(at) = queue.next(|at| bytes(&items[at])) {
                    queue.bring(at, fetch(&items[at]));
                }
            });
        }
        // Also when `take` panics: nobody may be left waiting.
        let _stops = Stops(&queue);
        items.iter().enumerate().try_for_each(|(at, item)| {
            take(item, queue.take(at)?)?;
            queue.give_back(bytes(item));
            Ok(())
        })
    })
}

/// Items go in and out in the same order, so the one that is waited for is always let in.
struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// The first item that nobody fetches yet.
    next: usize,
    end: usize,
    held: u64,
    ready: BTreeMap<usize, Result<T>>,
    workers: usize,
}

impl<T> Queue<T> {
    fn new(end: usize, workers: usize) -> Self {
        let state = State { next: 0, end, held: 0, ready: BTreeMap::new(), workers };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The next item to fetch, once there is room for it; `None` when there is nothing more to do.
    fn next(&self, bytes: impl Fn(usize) -> u64) -> Option<usize> {
        let mut state = self.state();
        loop {
            let at = state.next;
            if at >= state.end {
                return None;
            }
            if state.held == 0 || state.held + bytes(at) <= BYTES {
                state.next += 1;
                state.held += bytes(at);
                return Some(at);
            }
            state = self.wait(state);
        }
    }

    fn bring(&self, at: usize, result: Result<T>) {
        let mut state = self.state();
        if result.is_err() {
            state.end = state.end.min(at + 1);
        }
        state.ready.insert(at, result);
        drop(state);
        self.changed.notify_all();
    }

    fn take(&self, at: usize) -> Result<T> {
        let mut state = self.state();
        loop {
            if let Some(result) = state.ready.remove(&at) {
                return result;
            }
            assert!(state.workers > 0, "a fetcher has panicked");
            state = self.wait(state);
        }
    }

    fn give_back(&self, bytes: u64) {
        self.state().held -= bytes;
        self.changed.notify_all();
    }
}

/// A fetcher that ends, however it does.
struct Leaves<'a, T>(&'a Queue<T>);

impl<T> Drop for Leaves<'_, T> {
    fn drop(&mut self) {
        self.0.state().workers -= 1;
        self.0.changed.notify_all();
    }
}

/// Nothing more is to be fetched.
struct Stops<'a, T>(&'a Queue<T>);

impl<T> Drop for Stops<'_, T> {
    fn drop(&mut self) {
        self.0.state().end = 0;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Status};
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

    fn failed(at: usize) -> Error {
        Error::new(Status::Failed, "fetch", at, "it fails")
    }

    #[test]
    fn results_come_in_order_and_each_once() {
        let items: Vec<usize> = (0..500).collect();
        let mut taken = Vec::new();
        let take = |_: &usize, it| {
            taken.push(it);
            Ok(())
        };
        ahead(&items, |_| 1, |it| Ok(*it), take).unwrap();
        assert_eq!(taken, items);
        ahead(&[], |_: &usize| 1, |it| Ok(*it), |_, _| panic!("nothing is there")).unwrap();
    }

    /// No fetch ends before as many are under way as there may be.
    #[test]
    fn as_many_are_under_way_as_may_be() {
        let all_here = Barrier::new(FETCHERS);
        let items: Vec<usize> = (0..20 * FETCHERS).collect();
        let fetch = |_: &usize| {
            all_here.wait();
            Ok(())
        };
        ahead(&items, |_| 0, fetch, |_, ()| Ok(())).unwrap();
    }

    #[test]
    fn what_is_held_is_bounded_in_bytes() {
        for (bytes, most) in [(BYTES, 1), (BYTES * 2, 1), (BYTES / 3, 3), (LEAST * 2, 32)] {
            let items: Vec<u64> = vec![bytes; 100];
            let (held, seen) = (AtomicU64::new(0), AtomicU64::new(0));
            let fetch = |_: &u64| {
                seen.fetch_max(held.fetch_add(1, SeqCst) + 1, SeqCst);
                Ok(())
            };
            let take = |_: &u64, ()| {
                held.fetch_sub(1, SeqCst);
                Ok(())
            };
            ahead(&items, |it| *it, fetch, take).unwrap();
            assert!(seen.load(SeqCst) <= most, "{} of {bytes}", seen.load(SeqCst));
        }
    }

    #[test]
    fn the_first_error_of_the_list_is_told_and_what_comes_after_it_is_left() {
        for first in [0, 1, 7, 60] {
            let items: Vec<usize> = (0..5000).collect();
            let fetched = AtomicUsize::new(0);
            let fetch = |at: &usize| {
                fetched.fetch_add(1, SeqCst);
                // The later ones fail sooner.
                (0..first * 100).for_each(|_| thread::yield_now());
                if *at >= first { Err(failed(*at)) } else { Ok(()) }
            };
            let error = ahead(&items, |_| 0, fetch, |_, ()| Ok(())).unwrap_err();
            assert_eq!(error.message, failed(first).message);
            assert!(fetched.into_inner() <= first + FETCHERS);
        }
    }

    #[test]
    fn who_takes_can_refuse() {
        let items: Vec<usize> = (0..1000).collect();
        let refuse = |at: &usize, ()| if *at == 5 { Err(failed(5)) } else { Ok(()) };
        let error = ahead(&items, |_| BYTES / 2, |_| Ok(()), refuse).unwrap_err();
        assert_eq!(error.message, failed(5).message);
    }

    #[test]
    #[should_panic(expected = "a fetcher has panicked")]
    fn a_panic_of_a_fetcher_is_passed_on() {
        let panics = |at: &usize| if *at == 3 { panic!("on purpose") } else { Ok(()) };
        ahead(&[0, 1, 2, 3, 4], |_| 0, panics, |_, ()| Ok(())).ok();
    }
}
