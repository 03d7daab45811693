//! The destinations of a rig: each holds a replica, and each is held to a floor of its own.
//!
//! What is restored is restored from the one that is meant; there is only one unless a scenario adds
//! more. A floor is what the daemon itself has claimed: by a `sync` that returned, by a drain, and by
//! what `status` says of each destination.

use super::{Failure, Result, Rig, violation};
use crate::course::Place;
use crate::ledger::Micros;
use crate::oracle::Expect;
use crate::process;
use crate::replica::{self, Claim};
use crate::store::{Server, Store};
use bakelite::commit::Time;
use bakelite::config::{Destination as At, Lock};
use bakelite::error::Status;
use bakelite::restore::Target;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Destination {
    /// What the daemon is told.
    pub(super) given: At,
    /// Where the same replica is read by who grades it.
    pub(super) read: At,
    /// The last commit known to be durable there.
    pub(super) floor: Option<Place>,
    /// The last one that was said to be.
    promised: Option<Place>,
    /// When each `sync` had come back, and the floor it had set.
    syncs: Vec<(Micros, Place)>,
    /// What `status` says of it is of before it was wiped or rolled back.
    outdated: bool,
}

impl Destination {
    pub fn new(given: At, read: At) -> Self {
        let (floor, promised, syncs) = (None, None, Vec::new());
        Self { given, read, floor, promised, syncs, outdated: false }
    }

    pub fn directory(root: &Path) -> Self {
        Self::at(replica::directory(root))
    }

    /// One that is read as the daemon sees it.
    pub fn at(place: At) -> Self {
        Self::new(place.clone(), place)
    }

    /// All up to `place` was said to be durable there.
    pub(super) fn raise_floor(&mut self, place: Place) {
        self.outdated = false;
        for floor in [&mut self.floor, &mut self.promised] {
            *floor = floor.map_or(Some(place), |floor| place.after(floor).or(Some(floor)));
        }
    }

    pub(super) fn synced(&mut self) {
        self.syncs.extend(self.promised.map(|floor| (Micros::now(), floor)));
    }

    pub(super) fn floor_is_what_was_promised(&mut self) {
        self.floor = self.promised;
    }

    /// What the last `sync` that had returned before `time` has made durable.
    pub(super) fn synced_before(&self, time: Time) -> Option<Place> {
        let mut synced = self.syncs.iter().rev().filter(|(at, _)| at.0 / 1000 < time.0);
        synced.next().map(|&(_, place)| place)
    }
}

/// Far beyond what any change of a destination's standing takes.
const PATIENCE: Duration = Duration::from_secs(60);

impl Rig {
    /// These destinations instead of the one directory, for a rig that has not begun.
    pub fn set_destinations(&mut self, destinations: Vec<Destination>) {
        (self.destinations, self.meant) = (destinations, 0);
    }

    /// One more destination: a directory.
    pub fn add_directory(&mut self, root: &Path) {
        self.destinations.push(Destination::directory(root));
    }

    /// One more destination: a bucket of a store of this process.
    pub fn add_store(&mut self) -> Result<()> {
        let store = Store::start(self.seed)?;
        let [given, read] = [store.destination("app"), store.honest("app")];
        self.destinations.push(Destination::new(given, read));
        self.store = Some(store);
        Ok(())
    }

    /// The same with locks, by a clock of its own. Who reads is not told of them.
    pub fn add_locked_store(&mut self, lock: Lock) -> Result<()> {
        self.add_store()?;
        self.store().lock_all(lock);
        match self.destinations.last_mut().map(|it| &mut it.given) {
            Some(At::S3(place)) => place.lock = Some(lock),
            _ => unreachable!("it was added"),
        }
        Ok(())
    }

    /// One more destination: a bucket of a real server.
    pub fn add_server(&mut self) -> Result<()> {
        let server = Server::start(&self.programs.torture, &self.dir.join("weed"))?;
        self.add_bucket_of(server, None)
    }

    /// The same with Object Lock. Who reads is not told of it.
    pub fn add_vault(&mut self, lock: Lock) -> Result<()> {
        let server = Server::start_vault(&self.programs.torture, &self.dir.join("weed"))?;
        self.add_bucket_of(server, Some(lock))
    }

    fn add_bucket_of(&mut self, server: Option<Server>, lock: Option<Lock>) -> Result<()> {
        let Some(server) = server else {
            let what = "no S3 server is installed; run: make test, with pip for python3";
            return Err(Failure::NotPermitted(what.into()));
        };
        let (mut given, read) = (server.destination(), server.destination());
        if let At::S3(place) = &mut given {
            place.lock = lock;
        }
        self.destinations.push(Destination::new(given, read));
        self.server = Some(server);
        Ok(())
    }

    pub fn server(&mut self) -> &mut Server {
        self.server.as_mut().expect("a destination is on it")
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("a destination is a bucket")
    }

    /// What the store has told becomes part of the figures.
    pub(super) fn note_lies(&mut self) {
        let Some(store) = self.store.take() else { return };
        for (lie, times) in store.told() {
            self.tally.faults(lie.name(), times);
        }
    }

    /// From now on this one is meant.
    pub fn mean(&mut self, destination: usize) {
        assert!(destination < self.destinations.len(), "no such destination");
        self.meant = destination;
    }

    pub fn meant(&self) -> usize {
        self.meant
    }

    pub fn count(&self) -> usize {
        self.destinations.len()
    }

    pub(super) fn to(&self) -> &Destination {
        &self.destinations[self.meant]
    }

    pub(super) fn to_mut(&mut self) -> &mut Destination {
        &mut self.destinations[self.meant]
    }

    /// What has been restored once can be restored for ever: objects are never taken back.
    pub(super) fn restored(&mut self, place: Option<Place>) {
        let to = self.to_mut();
        to.floor = place.or(to.floor);
    }

    /// The replica that is meant, as it is read.
    pub fn source(&self) -> At {
        self.to().read.clone()
    }

    /// The replica that is meant, which is a directory.
    pub fn replica(&self) -> PathBuf {
        match &self.to().given {
            At::File { root } => root.clone(),
            At::S3(_) => panic!("it is a bucket"),
        }
    }

    /// Another place for the replica of a rig that has not begun.
    pub fn move_replica(&mut self, root: &Path) {
        self.set_destinations(vec![Destination::directory(root)]);
    }

    /// Database and destinations, as words of a command line.
    pub(super) fn of(&self) -> Vec<String> {
        if let Some(config) = &self.config {
            return vec!["--config".to_owned(), config.display().to_string()];
        }
        let database = self.db().display().to_string();
        let given = self.destinations.iter().map(|it| it.given.to_string());
        std::iter::once(database).chain(given).chain(self.sealing_words()).collect()
    }

    /// Somebody has taken from the one that is meant what it held: no claim of before holds for it.
    pub fn robbed(&mut self) {
        let to = self.to_mut();
        (to.floor, to.promised, to.outdated) = (None, None, true);
        to.syncs.clear();
    }

    /// What `status` says of each destination.
    pub fn claims(&mut self) -> Result<Vec<Claim>> {
        let log = self.path("log", "status");
        let claims = replica::status(self.bakelite("status"), &log);
        let claims = claims.map_err(Failure::Violation)?;
        match claims.len() == self.count() {
            true => Ok(claims),
            false => violation(format!("status knows {} destinations", claims.len())),
        }
    }

    /// `check` says that something committed is not backed up for longer than so many seconds.
    pub fn check_is_stale(&mut self, max_age: u64) -> Result<()> {
        let log = self.path("log", "check");
        let mut command = self.bakelite("check");
        let done = process::run(command.args(["--max-age", &format!("{max_age}s")]), &log)?;
        match done.as_ref().map(|done| done.status.code()) {
            Some(Some(code)) if code == Status::Stale as i32 => Ok(()),
            _ => violation(format!("check beside a daemon that does nothing: {done:?}")),
        }
    }

    /// Restores the newest commit of the one that is meant; it must be right, and no less than what
    /// `status` claims of it.
    pub fn grade_claim(&mut self) -> Result<()> {
        let at = self.meant;
        let claimed = self.claims()?[at].floor.filter(|_| !self.to().outdated);
        let expect = Expect { floor: self.to().floor, ..Expect::default() };
        let landed = self.grade(Target::Latest, &expect)?;
        self.restored(landed.map(|(place, _)| place));
        let found = landed.map(|(_, landed)| landed.commit);
        if claimed > found {
            return violation(format!(
                "{}: said to hold commit {claimed:?}, found {found:?}",
                self.to().given
            ));
        }
        self.tally.faults("claim held", u64::from(claimed.is_some()));
        Ok(())
    }

    /// Waits until the daemon says of the one that is meant what `is` asks for.
    pub fn until(&mut self, what: &str, is: impl Fn(&Claim) -> bool) -> Result<Claim> {
        let began = Instant::now();
        loop {
            self.daemon_lives()?;
            let claim = self.claims()?.swap_remove(self.meant);
            if is(&claim) {
                return Ok(claim);
            }
            if began.elapsed() > PATIENCE {
                return violation(format!("{}: never {what}: {claim:?}", self.to().given));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the daemon has seen that something is wrong with the one that is meant.
    pub fn until_behind(&mut self) -> Result<()> {
        self.until("behind", |claim| claim.standing != "current").map(drop)
    }

    /// A destination gets what is committed, whatever the others do; and holds what is claimed of it.
    pub fn goes_on(&mut self, at: usize) -> Result<()> {
        self.until_further(at)?;
        self.tally.fault("other went on");
        self.grade_claim()
    }

    /// Waits until the daemon has stored something on a destination: a `sync` may have been faster.
    pub fn until_further(&mut self, at: usize) -> Result<()> {
        self.mean(at);
        let before = self.claims()?[at].floor;
        self.until("further", |claim| claim.floor > before).map(drop)
    }

    /// Every destination holds `seq`, and nothing newer.
    pub fn grade_all_exact(&mut self, seq: u64) -> Result<()> {
        for at in 0..self.count() {
            self.mean(at);
            self.grade_exact(seq)?;
        }
        Ok(())
    }
}
