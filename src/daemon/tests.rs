//! Whole daemons, in threads as they run: what is waited for is the cursor, never a time.

use super::*;
use crate::backend::fs::Fs;
use crate::config::Destination;
use crate::error::Status;
use crate::object::Compression;
use crate::restore::Target;
use crate::spool::Spool;
use crate::testkit::rig::{Quiet, restored};
use crate::testkit::{Db, checkpoint, commits};
use crate::upkeep::Mode;
use rusqlite::Connection;
use std::fs;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

pub(super) struct Running {
    stop: Stop,
    thread: JoinHandle<Result<()>>,
}

/// Says when a first snapshot is under way.
struct Begun(Sender<()>);

impl Progress for Begun {
    fn at(&self, _: u64, _: u64) {
        self.0.send(()).ok();
    }
}

impl Running {
    fn new(databases: &[Db]) -> Self {
        Self::with(databases, Quiet)
    }

    /// Returns when the database is taken up: its replica is new.
    fn begun(databases: &[Db]) -> Self {
        let (sender, begun) = channel();
        let running = Self::with(databases, Begun(sender));
        begun.recv().unwrap();
        running
    }

    fn with(databases: &[Db], progress: impl Progress + Send + 'static) -> Self {
        let configs: Vec<_> = databases.iter().map(Db::config).collect();
        Self::of(configs.into(), progress)
    }

    pub(super) fn of(config: Config, progress: impl Progress + Send + 'static) -> Self {
        let stop = Stop::default();
        let asked = stop.clone();
        Self { stop, thread: thread::spawn(move || run(&config, &asked, None, &progress)) }
    }

    /// Reads what is sent as its configuration, whenever it is told to.
    pub(super) fn reloading(
        databases: &[Database],
    ) -> (Self, Arc<AtomicBool>, Sender<Result<Vec<Database>>>) {
        let (configs, stop) = (databases.to_vec().into(), Stop::default());
        let (sender, wanted) = channel::<Result<Vec<Database>>>();
        let read = move || wanted.recv().unwrap();
        let reload = Reload::new(move || read().map(Config::from));
        let (asked, flag) = (stop.clone(), reload.flag());
        let thread = thread::spawn(move || run(&configs, &asked, Some(&reload), &Quiet));
        (Self { stop, thread }, flag, sender)
    }

    pub(super) fn end(self) -> Result<()> {
        self.stop.flag().store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[track_caller]
fn agrees(db: &Db) {
    agrees_with(db, &db.config().destinations[0]);
}

#[track_caller]
pub(super) fn agrees_with(db: &Db, destination: &Destination) {
    let Destination::File { root } = destination else { panic!() };
    let backend = Arc::new(Fs::open(root).unwrap()) as Arc<dyn crate::backend::Backend>;
    assert!(restored(&backend, Target::Latest).unwrap() == db.image());
}

fn snapshots(db: &Db) -> usize {
    fs::read_dir(db.dir.path().join("replica/snapshot")).map_or(0, Iterator::count)
}

#[test]
fn several_databases_drain_exactly_and_go_on() {
    let databases: Vec<Db> = [512, 4096, 65536].into_iter().map(Db::new).collect();
    let writers: Vec<_> = databases.iter().map(Db::open).collect();
    for round in 0..3 {
        let daemon = Running::new(&databases);
        thread::scope(|scope| {
            for db in &databases {
                scope.spawn(|| commits(&db.open(), 30));
            }
        });
        daemon.end().unwrap();
        for db in &databases {
            agrees(db);
            assert_eq!(snapshots(db), 1, "round {round}");
        }
        writers.iter().for_each(|writer| commits(writer, 5));
    }
}

/// Beside a daemon, `sync` returns when what was committed before it is durable, whatever else the
/// application does to its WAL.
#[test]
fn sync_beside_a_daemon() {
    let db = Db::new(4096);
    let writer = db.open();
    let databases = [db];
    let daemon = Running::begun(&databases);
    let config = [databases[0].config()];
    for round in 0..12 {
        match round % 4 {
            0 => commits(&writer, 3),
            1 => writer.execute_batch("PRAGMA user_version = 5").unwrap(),
            2 => drop(checkpoint(&writer, "TRUNCATE")),
            _ => drop(checkpoint(&writer, "PASSIVE")),
        }
        sync(&config).unwrap();
        agrees(&databases[0]);
    }
    daemon.end().unwrap();
    agrees(&databases[0]);
    sync(&config).unwrap();
    assert_eq!(snapshots(&databases[0]), 1);
}

/// A daemon that was refused said how the database stood, over what the one said that watches it; and one
/// with several databases never ended.
#[test]
fn trap_64_a_daemon_that_is_refused_ends_and_leaves_no_trace() {
    let databases = [Db::new(4096), Db::new(4096)];
    let apps = databases.each_ref().map(Db::open);
    let metrics = databases[0].dir.path().join("metrics");
    let daemon = Running::new(&databases);
    for (db, app) in databases.iter().zip(&apps) {
        commits(app, 3);
        sync(&[db.config()]).unwrap();
    }
    for count in [1, 2] {
        let mut configs: Vec<_> = databases.iter().take(count).map(Db::config).collect();
        configs[0].settings.observers.metrics_file = Some(metrics.clone());
        let refused = run(&configs.into(), &Stop::default(), None, &Quiet).unwrap_err();
        assert_eq!(refused.status, Status::Locked);
        for db in &databases {
            let told = crate::status::status(&db.config()).unwrap();
            assert_eq!((told.state.as_str(), &told.destinations[0].error), ("following", &None));
            assert_eq!(told.destinations[0].standing, "current");
        }
        assert!(!metrics.exists());
    }
    daemon.end().unwrap();
}

/// One that the daemon which runs does not ship to was said to hold everything, since nothing was noted that
/// it lacked.
#[test]
fn what_the_daemon_does_not_know_is_not_claimed() {
    let db = Db::new(4096);
    let app = db.open();
    commits(&app, 3);
    let databases = [db];
    let daemon = Running::begun(&databases);
    sync(&[databases[0].config()]).unwrap();
    let mut config = databases[0].config();
    let root = databases[0].dir.path().join("elsewhere");
    config.destinations.push(Destination::File { root });
    let error = sync_within(&[config.clone()], Some(Duration::ZERO), true, &Quiet).unwrap_err();
    assert_eq!(error.status, Status::Unreachable);
    assert!(error.message.ends_with("does not ship there") && error.hint.is_some(), "{error}");
    let told = crate::status::status(&config).unwrap().destinations;
    assert_eq!((told[0].standing.as_str(), told[0].floor.is_some()), ("current", true));
    assert_eq!((told[1].standing.as_str(), told[1].floor), ("behind", None));
    daemon.end().unwrap();
    let told = crate::status::status(&config).unwrap().destinations;
    assert_eq!((told[1].standing.as_str(), told[1].floor), ("behind", None));
}

/// A full destination is behind until there is room, and what is too old is what takes it.
#[test]
fn what_is_too_old_is_deleted_where_commits_are_lacking_too() {
    let db = Db::new(4096);
    let _app = db.open();
    let config = db.config();
    sync(std::slice::from_ref(&config)).unwrap();
    Spool::new(&config.state_dir, &config.destinations[0].to_string()).mark().unwrap();
    let done = |task| upkeep(&config, task, &open_to_read, &Quiet).unwrap().errors;
    assert_eq!(done(Task::Prune(Mode::Real)).len(), 0);
    let [error] = &done(Task::Compact)[..] else { panic!("it waits") };
    assert_eq!(error.status, Status::Unreachable);
}

/// A daemon that ships once in an hour: who waits for it is heard, and what waits is told of.
#[test]
fn a_sync_does_not_wait_for_a_long_ship_interval() {
    let db = Db::new(4096);
    let app = db.open();
    let mut config = db.config();
    config.settings.ship_interval = Some(Duration::from_secs(3600));
    let (sender, begun) = channel();
    let daemon = Running::of(vec![config.clone()].into(), Begun(sender));
    begun.recv().unwrap();
    for _ in 0..3 {
        commits(&app, 1);
        sync(&[config.clone()]).unwrap();
        agrees(&db);
    }
    commits(&app, 1);
    let found = crate::check::check(&[config], Duration::from_secs(600));
    assert_eq!(found, [], "it is young yet");
    daemon.end().unwrap();
    agrees(&db);
}

/// A first snapshot by `sync` was as long as any other, and nobody saw how far it was.
#[test]
fn a_sync_tells_how_far_its_snapshot_is() {
    let db = Db::new(4096);
    db.open().execute_batch("INSERT INTO t(x) VALUES (randomblob(9 << 20))").unwrap();
    let (sender, told) = channel();
    sync_within(&[db.config()], None, true, &Begun(sender)).unwrap();
    assert!(told.iter().count() >= 3, "a part is 4 MiB");
}

/// A destination that is dead keeps the daemon waiting, and a `sync` beside it no longer than it was told.
#[test]
fn a_sync_beside_a_daemon_waits_as_long_as_it_was_told() {
    let db = Db::new(4096);
    let config = [db.config()];
    let app = db.open();
    commits(&app, 3);
    sync(&config).unwrap();
    let _lock = try_lock(&config[0].state_dir).unwrap().unwrap();
    sync_within(&config, Some(Duration::ZERO), false, &Quiet).unwrap();
    commits(&app, 1);
    let error = sync_within(&config, Some(Duration::ZERO), false, &Quiet).unwrap_err();
    assert_eq!(error.status, Status::Unreachable);
    let said = format!("sync: {}: lacks what was committed", config[0].destinations[0]);
    assert!(error.message.starts_with(&said), "{error}");
}

/// A database of the application's own choosing of checkpoints, and a fast writer.
#[test]
fn a_saturating_writer_loses_nothing() {
    let db = Db::new(4096);
    let databases = [db];
    let daemon = Running::begun(&databases);
    sync(&[databases[0].config()]).unwrap();
    let writer = databases[0].open();
    writer.execute_batch("PRAGMA wal_autocheckpoint = 50").unwrap();
    commits(&writer, 3000);
    daemon.end().unwrap();
    agrees(&databases[0]);
}

/// Every row says the same, which is found in what is stored as it is, and makes it small otherwise.
#[test]
fn what_is_stored_is_compressed_unless_it_is_told_not_to_be() {
    const SAID: &str = "over and over ";
    let stored = |compression| {
        let db = Db::new(4096);
        let mut config = db.config();
        config.settings.compression = compression;
        let app = db.open();
        let replica = db.dir.path().join("replica");
        ["part", "change/0"].map(|kind| {
            let row = SAID.repeat(10_000);
            app.execute("INSERT INTO t(x) VALUES (?1)", [&row]).unwrap();
            sync(std::slice::from_ref(&config)).unwrap();
            agrees(&db);
            let mut objects: Vec<_> = fs::read_dir(replica.join(kind)).unwrap().collect();
            assert_eq!(objects.len(), 1, "{kind}");
            let body = fs::read(objects.remove(0).unwrap().path()).unwrap();
            let shown = String::from_utf8_lossy(&body).matches(SAID).count();
            (body.len(), shown)
        })
    };
    for (plain, small) in stored(Compression::None).into_iter().zip(stored(Compression::Zstd)) {
        assert!(plain.0 > 140_000 && plain.1 > 9_000, "{plain:?}");
        assert!(small.0 < plain.0 / 10 && small.1 < 10, "{small:?}");
    }
}

/// The only database cannot be watched: there is nothing to run for.
#[test]
fn what_cannot_be_watched_is_refused() {
    let db = Db::new(512);
    let check = |status: Status, words: &str| {
        let error = run(&vec![db.config()].into(), &Stop::default(), None, &Quiet).unwrap_err();
        assert_eq!(error.status, status, "{error}");
        assert!(error.message.contains(words), "{error}");
    };
    fs::write(db.dir.path().join("state"), "in the way").unwrap();
    check(Status::Failed, "state");
    fs::remove_file(db.dir.path().join("state")).unwrap();
    Connection::open(&db.path).unwrap().execute_batch("PRAGMA journal_mode = DELETE").unwrap();
    check(Status::Usage, "not in WAL mode");
    fs::write(&db.path, vec![7; 4096]).unwrap();
    check(Status::Usage, "not a SQLite database");
    fs::write(&db.path, "").unwrap();
    check(Status::Usage, "empty");
    fs::remove_file(&db.path).unwrap();
    check(Status::Missing, "No such file");
    assert!(!db.dir.path().join("state").exists(), "nothing half-made");
}

/// Every database gets its turn while the first snapshot of another has hardly begun, and the end does
/// not wait as its rate says.
#[test]
fn a_long_first_snapshot_keeps_nobody_waiting() {
    let large = Db::new(4096);
    large.open().execute_batch("INSERT INTO t(x) VALUES (randomblob(9 << 20))").unwrap();
    let databases = [large, Db::new(4096), Db::new(512)];
    let mut configs: Vec<_> = databases.iter().map(Db::config).collect();
    configs[0].settings.snapshot_rate = Some(1);
    let (sender, begun) = channel();
    let daemon = Running::of(configs.into(), Begun(sender));
    begun.recv().unwrap();
    for db in &databases[1..] {
        wait_until(true, &db.config());
        commits(&db.open(), 3);
        sync(&[db.config()]).unwrap();
        agrees(db);
    }
    assert_eq!(snapshots(&databases[0]), 0, "it is at work all the while");
    daemon.end().unwrap();
    agrees(&databases[0]);
}

/// Returns once a daemon watches it, or once none does.
pub(super) fn wait_until(watched: bool, database: &Database) {
    while daemon_runs(database).unwrap() != watched {
        thread::yield_now();
    }
}

fn timelines(db: &Db) -> usize {
    fs::read_dir(db.dir.path().join("replica/timeline")).unwrap().count()
}

/// Four databases: one stays, one is left out, one is changed, one is new.
#[test]
fn a_reload_begins_what_is_new_ends_what_is_gone_and_leaves_the_rest_alone() {
    let databases: Vec<Db> = (0..4).map(|_| Db::new(4096)).collect();
    let writers: Vec<_> = databases.iter().map(Db::open).collect();
    let [stays, goes, mut changes, comes] =
        [0, 1, 2, 3].map(|at| Database { name: at.to_string(), ..databases[at].config() });
    let (daemon, flag, wanted) =
        Running::reloading(&[stays.clone(), goes.clone(), changes.clone()]);
    for config in [&stays, &goes, &changes] {
        wait_until(true, config);
        sync(std::slice::from_ref(config)).unwrap();
    }
    writers.iter().for_each(|writer| commits(writer, 3));
    changes.settings.compression = Compression::None;
    wanted.send(Ok(vec![stays.clone(), changes.clone(), comes.clone()])).unwrap();
    flag.store(true, Ordering::Relaxed);
    wait_until(false, &goes);
    agrees(&databases[1]);
    wait_until(true, &comes);
    writers.iter().for_each(|writer| commits(writer, 3));
    while timelines(&databases[2]) < 2 {
        thread::yield_now();
    }
    daemon.end().unwrap();
    for at in [0, 2, 3] {
        agrees(&databases[at]);
    }
    assert_eq!([0, 1, 2, 3].map(|at| timelines(&databases[at])), [1, 1, 2, 1]);
    assert_eq!(snapshots(&databases[2]), 1, "it goes on from where it stopped");
}

#[test]
fn a_configuration_that_is_wrong_changes_nothing() {
    let db = Db::new(4096);
    let writer = db.open();
    let (daemon, flag, wanted) = Running::reloading(&[db.config()]);
    wait_until(true, &db.config());
    // Once it takes the second one up, it has dealt with the first.
    for _ in 0..2 {
        let refused = Error::new(Status::Usage, "config", "bakelite.toml:3", "unknown key");
        wanted.send(Err(refused)).unwrap();
        flag.store(true, Ordering::Relaxed);
        while flag.load(Ordering::Relaxed) {
            assert!(!daemon.thread.is_finished(), "it goes on");
        }
    }
    commits(&writer, 3);
    sync(&[db.config()]).unwrap();
    agrees(&db);
    daemon.end().unwrap();
    assert_eq!(timelines(&db), 1);
}

/// What takes the place of a database waits until that has let go: two at a time on one file would
/// fence each other.
#[test]
fn a_database_by_another_name_waits_for_the_one_before() {
    let db = Db::new(4096);
    let (daemon, flag, wanted) = Running::reloading(&[db.config()]);
    wait_until(true, &db.config());
    sync(&[db.config()]).unwrap();
    for name in ["b", "c", "d"] {
        wanted.send(Ok(vec![Database { name: name.into(), ..db.config() }])).unwrap();
        flag.store(true, Ordering::Relaxed);
        while flag.load(Ordering::Relaxed) {
            thread::yield_now();
        }
    }
    commits(&db.open(), 3);
    daemon.end().unwrap();
    agrees(&db);
}

#[test]
fn two_that_share_a_file_or_a_replica_are_in_each_others_way() {
    let (one, other) = (Db::new(4096).config(), Db::new(4096).config());
    let tracker = Tracker::new(&one, false, clock::instant());
    let check = |database: &Database, expected| {
        assert_eq!(tracker.is_in_the_way_of(database), expected, "{database:?}");
    };
    check(&other, false);
    check(&Database { path: one.path.clone(), ..other.clone() }, true);
    check(&Database { state_dir: one.state_dir.clone(), ..other.clone() }, true);
    check(&Database { destinations: one.destinations.clone(), ..other }, true);
}
