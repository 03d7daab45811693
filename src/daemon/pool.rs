//! A few threads that do what blocks. Each job returns a value, which comes back in a channel with
//! the others: the one owner of all state waits for those, and shares none of it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

type Job<T> = Box<dyn FnOnce() -> T + Send>;

/// Jobs that wait for a thread. `None` in the end, once for each thread. A channel shared under a
/// lock would wake two threads for each job.
struct Queue<T> {
    jobs: Mutex<VecDeque<Option<Job<T>>>>,
    more: Condvar,
}

impl<T> Queue<T> {
    fn push(&self, job: Option<Job<T>>) {
        self.jobs.lock().expect("no job runs under the lock").push_back(job);
        self.more.notify_one();
    }

    fn pop(&self) -> Option<Job<T>> {
        let mut jobs = self.jobs.lock().expect("no job runs under the lock");
        loop {
            match jobs.pop_front() {
                Some(job) => return job,
                None => jobs = self.more.wait(jobs).expect("no job runs under the lock"),
            }
        }
    }
}

pub struct Pool<T> {
    queue: Arc<Queue<T>>,
    threads: Vec<JoinHandle<()>>,
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Pool({} threads)", self.threads.len())
    }
}

impl<T: Send + 'static> Pool<T> {
    /// Results go to `done`.
    pub fn new(threads: usize, done: &Sender<T>) -> Self {
        let queue = Arc::new(Queue { jobs: Mutex::default(), more: Condvar::new() });
        let work = |_| {
            let (queue, done) = (Arc::clone(&queue), done.clone());
            thread::spawn(move || {
                while let Some(job) = queue.pop() {
                    if done.send(job()).is_err() {
                        return;
                    }
                }
            })
        };
        let threads = (0..threads).map(work).collect();
        Self { queue, threads }
    }

    pub fn run(&self, job: impl FnOnce() -> T + Send + 'static) {
        self.queue.push(Some(Box::new(job)));
    }
}

impl<T> Drop for Pool<T> {
    fn drop(&mut self) {
        self.threads.iter().for_each(|_| self.queue.push(None));
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
