//! Who is told how the daemon is: files and pages of metrics, pages to be asked for while all is well,
//! and systemd.
//!
//! Nothing here keeps the loop waiting. What blocks has a thread of its own, one at a time for each
//! file or page; one that hangs is told no more until it is back.

use super::Daemon;
use super::listen::{Ask, Listener};
use crate::backend::http;
use crate::check;
use crate::clock;
use crate::config::Observers;
use crate::durable;
use crate::error::{Error, Status};
use crate::log;
use crate::metrics::{self, Sample};
use crate::notify::Notify;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How often metrics are written. A scraper of files looks at them every 15 seconds or less often.
const WRITE: Duration = Duration::from_secs(10);
/// The least time between two pings, and how long one may take.
const PING: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked at what systemd should be told, and an address that was taken is tried again.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Errand {
    File(PathBuf),
    Ping(String),
}

/// An errand's state: when it is due, whether a thread is on it, and whether the last one failed.
#[derive(Debug)]
struct Round {
    due: Instant,
    busy: Arc<AtomicBool>,
    failing: Arc<AtomicBool>,
}

#[derive(Debug)]
pub(super) struct Watch {
    errands: BTreeMap<Errand, Round>,
    listeners: BTreeMap<SocketAddr, Option<Listener>>,
    ask: Sender<Ask>,
    asks: Receiver<Ask>,
    notify: Option<Notify>,
    /// What systemd was told last.
    told: String,
    ready: bool,
    alive_at: Instant,
    look_at: Instant,
}

impl Watch {
    pub(super) fn new(notify: Option<Notify>, now: Instant) -> Self {
        let (ask, asks) = channel();
        Self {
            errands: BTreeMap::new(),
            listeners: BTreeMap::new(),
            ask,
            asks,
            notify,
            told: String::new(),
            ready: false,
            alive_at: now,
            look_at: now,
        }
    }

    /// Takes up who is to be told from now on, and lets go of the others.
    fn set(&mut self, observers: &[&Observers], now: Instant) {
        let files = observers.iter().filter_map(|it| it.metrics_file.clone()).map(Errand::File);
        let pings = observers.iter().filter_map(|it| it.ping_url.clone()).map(Errand::Ping);
        let errands: BTreeSet<Errand> = files.chain(pings).collect();
        let addresses: BTreeSet<_> = observers.iter().filter_map(|it| it.metrics_listen).collect();
        self.errands.retain(|errand, _| errands.contains(errand));
        self.listeners.retain(|address, _| addresses.contains(address));
        for errand in errands {
            let new = || Round { due: now, busy: Arc::default(), failing: Arc::default() };
            self.errands.entry(errand).or_insert_with(new);
        }
        for address in addresses {
            self.listeners.entry(address).or_insert_with(|| {
                let listener = Listener::new(address, self.ask.clone());
                listener.inspect_err(|error| tell(&Error::io("listen", address, error))).ok()
            });
        }
    }

    /// One whose address was taken has it once it is free.
    fn listen(&mut self) {
        for (&address, listener) in self.listeners.iter_mut().filter(|(_, it)| it.is_none()) {
            *listener = Listener::new(address, self.ask.clone()).ok();
        }
    }
}

impl Daemon {
    /// Takes up who is to be told, of what is watched and of what will be.
    pub(super) fn set_observers(&mut self, now: Instant) {
        let watched = self.trackers.values().filter(|tracker| !tracker.is_retired());
        let waiting = self.waiting.iter().map(|database| &database.settings.observers);
        let observers: Vec<_> = watched.map(|tracker| tracker.observers()).chain(waiting).collect();
        self.watch.set(&observers, now);
    }

    pub(super) fn observe(&mut self, now: Instant) {
        while let Ok(Ask { at, reply }) = self.watch.asks.try_recv() {
            let samples = self.samples(now, |it| it.metrics_listen == Some(at));
            reply.try_send(samples).ok();
        }
        if now < self.watch.look_at {
            return;
        }
        let watchdog = self.watch.notify.as_ref().and_then(|notify| notify.watchdog);
        self.watch.look_at = now + watchdog.map_or(LOOK, |limit| LOOK.min(limit / 4));
        self.watch.listen();
        // Another daemon may write the same file, and watch it all.
        if self.trackers.values().any(|it| it.has_begun() && !it.is_watched_elsewhere()) {
            self.run_errands(now);
        }
        self.tell_systemd(now);
    }

    fn samples(&mut self, now: Instant, of: impl Fn(&Observers) -> bool) -> Vec<Sample> {
        let trackers = self.trackers.values_mut().filter(|tracker| !tracker.is_retired());
        trackers.filter(|it| of(it.observers())).map(|tracker| tracker.sample(now)).collect()
    }

    fn run_errands(&mut self, now: Instant) {
        let due = self.watch.errands.iter().filter(|(_, round)| now >= round.due);
        let due: Vec<Errand> = due.map(|(errand, _)| errand.clone()).collect();
        for errand in due {
            let samples = match &errand {
                Errand::File(path) => {
                    self.samples(now, |it| it.metrics_file.as_ref() == Some(path))
                }
                Errand::Ping(url) => self.samples(now, |it| it.ping_url.as_ref() == Some(url)),
            };
            // One that waits for its place is not watched, and has no sample.
            let well = all_are_well(&samples) && self.waiting.is_empty();
            let round = self.watch.errands.get_mut(&errand).expect("it was there just now");
            if !well && matches!(errand, Errand::Ping(_)) {
                continue;
            }
            round.due = now + if let Errand::File(_) = errand { WRITE } else { PING };
            round.run(errand, samples);
        }
    }

    /// Whether every database goes on: looked at, or with a job that came back or stored something,
    /// within `limit`.
    fn goes_on(&mut self, now: Instant, limit: Duration) -> bool {
        let mut trackers = self.trackers.values_mut().filter(|tracker| !tracker.is_ended());
        trackers.all(|tracker| now.duration_since(tracker.last_move(now)) < limit)
    }

    fn tell_systemd(&mut self, now: Instant) {
        let Some(limit) = self.watch.notify.as_ref().map(|notify| notify.watchdog) else { return };
        let mut lines = Vec::new();
        if !self.watch.ready && self.trackers.values().all(|it| it.has_begun()) {
            self.watch.ready = true;
            lines.push("READY=1".to_owned());
        }
        let told = self.standing();
        if told != self.watch.told {
            lines.push(format!("STATUS={told}"));
            self.watch.told = told;
        }
        if let Some(limit) = limit.filter(|_| now >= self.watch.alive_at)
            && self.goes_on(now, limit)
        {
            self.watch.alive_at = now + limit / 3;
            lines.push("WATCHDOG=1".to_owned());
        }
        if let Some(notify) = self.watch.notify.as_ref().filter(|_| !lines.is_empty()) {
            notify.send(&lines.join("\n"));
        }
    }

    /// How it stands, in a line.
    fn standing(&self) -> String {
        let all = || self.trackers.values().filter(|tracker| !tracker.is_retired());
        let failing = || all().filter_map(|it| Some((it.name(), it.complaint()?)));
        let count = all().count();
        let mut line = match (self.draining, count) {
            (true, _) => "shipping what is left".to_owned(),
            (false, 1) => "watching 1 database".to_owned(),
            (false, count) => format!("watching {count} databases"),
        };
        if let Some((name, complaint)) = failing().next() {
            line += &format!(", {} failing: {name}: {complaint}", failing().count());
        }
        line.replace('\n', " ")
    }

    pub(super) fn tell_stopping(&self) {
        self.watch.notify.iter().for_each(|notify| notify.send("STOPPING=1"));
    }

    pub(super) fn tell_reloading(&mut self) {
        self.watch.ready = false;
        self.watch.notify.iter().for_each(Notify::reloading);
    }
}

impl Round {
    /// Does it in a thread. The first failure in a row is told.
    fn run(&self, errand: Errand, mut samples: Vec<Sample>) {
        if self.busy.swap(true, Ordering::Relaxed) {
            return;
        }
        let (busy, failing) = (Arc::clone(&self.busy), Arc::clone(&self.failing));
        thread::spawn(move || {
            let done = match &errand {
                Errand::File(path) => {
                    samples.iter_mut().for_each(Sample::look_up);
                    write(path, &samples)
                }
                Errand::Ping(url) => ping(url),
            };
            let failed = done.as_ref().is_err();
            if !failing.swap(failed, Ordering::Relaxed) {
                done.as_ref().err().into_iter().for_each(tell);
            }
            busy.store(false, Ordering::Relaxed);
        });
    }
}

/// As `check` has it. Where nothing is watched, nothing is well.
fn all_are_well(samples: &[Sample]) -> bool {
    let now = clock::now();
    !samples.is_empty() && samples.iter().all(|it| it.is_well(check::MAX_AGE, now))
}

fn write(path: &Path, samples: &[Sample]) -> Result<(), Error> {
    let text = metrics::render(samples, clock::now());
    durable::replace_readable(path, text.as_bytes())
        .map_err(|error| Error::io("write metrics", path.display(), &error))
}

/// What is behind the last slash is often a secret, and is not shown.
fn ping(url: &str) -> Result<(), Error> {
    let failed = |cause: String| {
        let shown = url.rsplit_once('/').map_or(url, |(before, _)| before);
        Err(Error::new(Status::Unreachable, "ping", format!("{shown}/..."), cause))
    };
    match http::glance(url, PING_TIMEOUT) {
        Ok(reply) if (200..300).contains(&reply.status) => Ok(()),
        Ok(reply) => failed(format!("status {}", reply.status)),
        Err(failure) => failed(failure.cause),
    }
}

fn tell(error: &Error) {
    log::warn(error);
}

#[cfg(test)]
mod tests;
