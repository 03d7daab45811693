//! A few threads that do what blocks. Each job returns a value, which comes back in a channel with
//! the others: the one owner of all state waits for those, and no state is shared.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

type Job<T> = Box<dyn FnOnce() -> T + Send>;

#[derive(Debug)]
pub struct Pool<T> {
    jobs: Option<Sender<Job<T>>>,
    threads: Vec<JoinHandle<()>>,
}

impl<T: Send + 'static> Pool<T> {
    pub fn new(threads: usize) -> (Self, Receiver<T>) {
        let (jobs, queue) = channel::<Job<T>>();
        let (done, results) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let work = |_| {
            let (queue, done) = (Arc::clone(&queue), done.clone());
            thread::spawn(move || {
                loop {
                    let next = queue.lock().expect("no job runs under the lock").recv();
                    let Ok(job) = next else { return };
                    if done.send(job()).is_err() {
                        return;
                    }
                }
            })
        };
        (Self { jobs: Some(jobs), threads: (0..threads).map(work).collect() }, results)
    }

    pub fn run(&self, job: impl FnOnce() -> T + Send + 'static) {
        let jobs = self.jobs.as_ref().expect("taken only when dropped");
        jobs.send(Box::new(job)).expect("the threads live as long as the pool");
    }
}

impl<T> Drop for Pool<T> {
    fn drop(&mut self) {
        drop(self.jobs.take());
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
