//! Threads that do what blocks. Each job returns a value, which comes back in a channel with the others:
//! the one owner of all state waits for those, and shares none of it.
//!
//! A job goes by a *route*: what it may have to wait for, such as a disk or a bucket. So many jobs of a
//! route are done at a time and no more, so that one which never answers keeps others of its own route
//! from being done, and nobody else. Threads are made when a job could be done and none is free, and end
//! when enough of them are.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

/// Jobs of one route at a time: two keep two cores busy with a first snapshot, the others wait for disks.
const EACH: usize = 4;
/// All at a time, whatever there is to wait for.
const ALL: usize = 128;
/// Threads that wait for the next job, so that few have to be made. However many there were once, no
/// more stay.
const SPARE: usize = 2;

pub type Route = Arc<str>;
type Job<T> = Box<dyn FnOnce() -> T + Send>;

struct Jobs<T> {
    waiting: VecDeque<(Route, Job<T>)>,
    /// How many are being done, by route.
    running: BTreeMap<Route, usize>,
    /// Threads without a job; one that was made or woken counts until it has begun.
    free: usize,
    threads: usize,
    ended: bool,
}

impl<T> Jobs<T> {
    /// Whether more can be done by now than threads are free.
    fn lacks_a_thread(&self) -> bool {
        let (mut running, mut ready) = (self.running.clone(), 0);
        for (route, _) in &self.waiting {
            let of_route = running.entry(Arc::clone(route)).or_default();
            if *of_route < EACH {
                *of_route += 1;
                ready += 1;
            }
            if ready > self.free {
                return true;
            }
        }
        false
    }

    fn begin(&mut self) -> Option<(Route, Job<T>)> {
        let may = |(route, _): &(Route, _)| self.running.get(route).is_none_or(|it| *it < EACH);
        let next = self.waiting.iter().position(may)?;
        let (route, job) = self.waiting.remove(next)?;
        *self.running.entry(Arc::clone(&route)).or_default() += 1;
        Some((route, job))
    }

    fn end(&mut self, route: &Route) {
        let left = self.running.get_mut(route).expect("it was begun");
        *left -= 1;
        if *left == 0 {
            self.running.remove(route);
        }
    }
}

struct Shared<T> {
    jobs: Mutex<Jobs<T>>,
    more: Condvar,
    done: Sender<T>,
}

impl<T> Shared<T> {
    fn jobs(&self) -> MutexGuard<'_, Jobs<T>> {
        self.jobs.lock().expect("no job runs under the lock")
    }

    /// Begins as one that is free.
    fn work(&self) {
        let mut jobs = self.jobs();
        loop {
            jobs.free -= 1;
            while let Some((route, job)) = jobs.begin() {
                drop(jobs);
                // Whoever waited for it may have ended.
                self.done.send(job()).ok();
                jobs = self.jobs();
                jobs.end(&route);
            }
            if jobs.ended || jobs.free >= SPARE {
                jobs.threads -= 1;
                return;
            }
            jobs.free += 1;
            jobs = self.more.wait(jobs).expect("no job runs under the lock");
        }
    }
}

pub struct Pool<T>(Arc<Shared<T>>);

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Pool({} threads)", self.0.jobs().threads)
    }
}

impl<T: Send + 'static> Pool<T> {
    /// Results go to `done`.
    pub fn new(done: &Sender<T>) -> Self {
        let jobs = Jobs {
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            free: 0,
            threads: 0,
            ended: false,
        };
        let (jobs, more, done) = (Mutex::new(jobs), Condvar::new(), done.clone());
        Self(Arc::new(Shared { jobs, more, done }))
    }

    pub fn run(&self, route: &Route, job: impl FnOnce() -> T + Send + 'static) {
        let mut jobs = self.0.jobs();
        jobs.waiting.push_back((Arc::clone(route), Box::new(job)));
        self.0.more.notify_one();
        if jobs.threads < ALL && jobs.lacks_a_thread() {
            let shared = Arc::clone(&self.0);
            jobs.threads += 1;
            jobs.free += 1;
            thread::spawn(move || shared.work());
        }
    }
}

/// Waits for nobody: who has to be waited for, whoever shares out the jobs knows.
impl<T> Drop for Pool<T> {
    fn drop(&mut self) {
        self.0.jobs().ended = true;
        self.0.more.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::mpsc::channel;

    fn route(name: &str) -> Route {
        name.into()
    }

    /// Four databases on a disk that hung kept all others from being captured and shipped.
    #[test]
    fn trap_84_a_route_that_hangs_keeps_no_other_from_being_taken() {
        let (done, results) = channel();
        let pool = Pool::new(&done);
        let (release, hung) = channel::<()>();
        let hung = Arc::new(Mutex::new(hung));
        let (begin, begun) = channel();
        for number in 0..3 * EACH {
            let (hung, begin) = (Arc::clone(&hung), begin.clone());
            pool.run(&route("dead"), move || {
                begin.send(()).ok();
                hung.lock().unwrap().recv().ok();
                number
            });
        }
        (0..EACH).for_each(|_| begun.recv().unwrap());
        for number in 100..120 {
            pool.run(&route("alive"), move || number);
        }
        let mut alive: Vec<_> = (100..120).map(|_| results.recv().unwrap()).collect();
        alive.sort_unstable();
        assert_eq!(alive, (100..120).collect::<Vec<_>>());
        assert!(pool.0.jobs().threads <= 2 * EACH, "{pool:?}");
        assert_eq!(pool.0.jobs().running[&route("dead")], EACH);
        drop(release);
        let mut dead: Vec<_> = (0..3 * EACH).map(|_| results.recv().unwrap()).collect();
        dead.sort_unstable();
        assert_eq!(dead, (0..3 * EACH).collect::<Vec<_>>());
    }

    /// Each burst left its threads for good, and a soak saw their number grow.
    #[test]
    fn threads_that_a_burst_has_made_end_after_it() {
        let (done, results) = channel();
        let pool = Pool::new(&done);
        for round in 1..4 {
            let together = Arc::new(Barrier::new(3 * EACH));
            for at in 0..3 * EACH {
                let together = Arc::clone(&together);
                pool.run(&route(&(at / EACH).to_string()), move || {
                    together.wait();
                });
            }
            assert_eq!(results.iter().take(3 * EACH).count(), 3 * EACH, "round {round}");
            while pool.0.jobs().threads != SPARE {
                thread::yield_now();
            }
        }
    }

    #[test]
    fn what_waits_is_done_before_it_ends() {
        let (done, results) = channel();
        let pool = Pool::new(&done);
        (0..50).for_each(|number| pool.run(&route("one"), move || number));
        drop((pool, done));
        assert_eq!(results.iter().count(), 50);
    }
}
