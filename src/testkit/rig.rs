//! A capture and a shipper without a daemon: every step when a test says so.

use super::Db;
use crate::backend::Backend;
use crate::backend::mem::Mem;
use crate::capture::{Capture, Finish, RawPart, Start, origin};
use crate::commit::{Chain, CommitNo, PageSize, Time, Timeline};
use crate::cursor::State;
use crate::daemon::open_database;
use crate::error::Result;
use crate::fanout::Fanout;
use crate::index::Index;
use crate::name::Name;
use crate::object::Compression;
pub use crate::restore::Quiet;
use crate::restore::{Check, Options, Target, restore};
use crate::ship::{Parcel, Shipper};
use crate::snapshot::Fork;
use crate::source::{Caught, Source, Trouble};
use crate::verify::{Deep, Question, Report, verify};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub struct Rig {
    pub capture: Capture,
    pub shipper: Shipper,
    pub index: Arc<Index>,
    pub mem: Arc<Mem>,
    pub now: Time,
    /// The state of each batch shipped.
    pub states: Vec<State>,
    pub db: Db,
}

impl Rig {
    pub fn new(db: Db) -> Self {
        let mem = Arc::new(Mem::new());
        let dir = db.dir.path().join("state");
        std::fs::create_dir_all(&dir).unwrap();
        let index = Arc::new(Index::open(&dir.join("index")).unwrap());
        let (handles, page_size) = open_database(&db.path).unwrap();
        let source = Source::new(handles, page_size, None).unwrap();
        let start = Start {
            page_size,
            timeline: Timeline(1),
            identity: (1, 2),
            last: origin(),
            chain: Chain::default(),
            snapshot: Time(0),
        };
        let capture = Capture::new(source, Arc::clone(&index), &start);
        claim(&*mem, page_size);
        let stores = fanout(vec![mem.clone()], &dir, 1 << 30);
        let shipper = Shipper::new(Arc::new(stores), &dir, Arc::clone(&index));
        Self { capture, shipper, index, mem, now: Time(1000), states: Vec::new(), db }
    }

    /// With a first snapshot shipped.
    pub fn shipped(db: Db) -> Self {
        let mut rig = Self::new(db);
        rig.capture.begin_snapshot(|| Time(0)).unwrap();
        rig.roll();
        rig
    }

    pub fn look(&mut self) {
        let look = self.capture.source.look().unwrap();
        self.capture.note(&look, self.now);
    }

    pub fn capture(&mut self) -> std::result::Result<Caught, Trouble> {
        self.look();
        let look = self.capture.source.steady_look().expect("nobody writes meanwhile");
        self.capture.capture(&look)
    }

    /// Reads and stores what is left of a snapshot, and finishes it.
    pub fn roll(&mut self) {
        while self.part() {}
        self.catch_up();
        self.ship(Finish::Snapshot).unwrap();
        assert_eq!(self.capture.rolling(), None);
    }

    /// Captures everything, and ships only what there is no room for.
    pub fn catch_up(&mut self) {
        while self.capture().unwrap() == Caught::Behind {
            self.ship(Finish::Nothing).unwrap();
        }
    }

    /// Reads and stores one part, if one is left.
    pub fn part(&mut self) -> bool {
        self.catch_up();
        let part = self.next_part();
        part.iter().for_each(|part| self.shipper.stores.put_part(part).unwrap());
        part.is_some()
    }

    /// Reads the next part that is not stored.
    pub fn next_part(&mut self) -> Option<RawPart> {
        let Self { capture, shipper, .. } = self;
        let part = capture.next_part(&|part| shipper.stores.has_part(part)).unwrap();
        shipper.stores.renew(&capture.take_passed()).unwrap();
        part
    }

    /// Ships what was captured, but for a large transaction.
    pub fn ship_small(&mut self) {
        self.ship_batch(Finish::Nothing).unwrap();
    }

    fn ship_batch(&mut self, finish: Finish) -> Result<()> {
        let Some(batch) = self.capture.batch(finish).unwrap() else { return Ok(()) };
        let mut parcel = Parcel::new(batch);
        self.shipper.ship(&mut parcel)?;
        self.capture.shipped();
        self.states.push(parcel.batch.state);
        Ok(())
    }

    /// Ships what was captured.
    pub fn ship(&mut self, finish: Finish) -> Result<()> {
        self.ship_batch(finish)?;
        if self.capture.large().is_some() {
            let before = self.capture.state();
            let state = self.shipper.ship_large(&mut self.capture, &before)?;
            self.states.push(state);
        }
        Ok(())
    }

    /// Captures and ships until nothing is left.
    pub fn drain(&mut self) {
        loop {
            let caught = self.capture().unwrap();
            self.ship(Finish::Nothing).unwrap();
            if caught == Caught::Up && self.capture.is_drained() {
                return;
            }
        }
    }

    /// The database as of a commit, from the replica alone.
    pub fn restored(&self, commit: CommitNo) -> Vec<u8> {
        restored(&(self.mem.clone() as Arc<dyn Backend>), Target::Commit(commit)).unwrap()
    }

    pub fn last(&self) -> CommitNo {
        self.capture.last().number
    }

    /// The page index is what the last commit's digest says.
    #[track_caller]
    pub fn index_agrees(&self) {
        assert_eq!(Some(self.index.digest().unwrap()), self.capture.last().digest);
    }
}

/// Destinations that are all put to at once.
pub fn fanout(destinations: Vec<Arc<dyn Backend>>, state_dir: &Path, spool_max: u64) -> Fanout {
    let destinations = destinations.into_iter().map(|each| (each, false)).collect();
    Fanout::new(destinations, Compression::Zstd, state_dir, spool_max).unwrap()
}

/// The first timeline's record.
pub fn claim(backend: &dyn Backend, page_size: PageSize) {
    let timeline = Timeline(1);
    let body = Fork::default().encode(timeline, page_size, Time(1));
    backend.put(&Name::Timeline(timeline), &body).unwrap();
}

/// A deep check, with a question to the newest commit.
pub fn drilled(source: &Arc<dyn Backend>, question: Option<&Question>) -> Report {
    let dir = tempfile::tempdir().unwrap();
    let deep = Deep { scratch: dir.path(), question };
    let report = verify(source, Some(deep), &Quiet).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "it is left as it was");
    report
}

pub fn restored(source: &Arc<dyn Backend>, target: Target) -> Result<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let output: PathBuf = dir.path().join("restored.db");
    let options = Options {
        output: Path::new(&output),
        target,
        timeline: None,
        check: Check::None,
        force: false,
        dry_run: false,
    };
    restore(source, &options, &Quiet)?;
    Ok(std::fs::read(output).unwrap())
}
