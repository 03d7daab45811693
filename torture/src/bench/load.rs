//! `torture load`: the application that is measured, in a process of its own.
//!
//! Tables and rows are those of an ordinary application: text that compresses as text does, numbers,
//! indexes, some noise. It says on stdout, as JSON, what it did and how long its commits took.

use crate::ledger::Micros;
use crate::rng::Rng;
use crate::workload::Result;
use argh::FromArgs;
use rusqlite::{Connection, ErrorCode, Statement, params};
use serde_json::json;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

const SCHEMA: &str = "
    CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT, email TEXT UNIQUE, balance REAL);
    CREATE TABLE events(id INTEGER PRIMARY KEY, user INTEGER, ts INTEGER, body TEXT, extra BLOB);
    CREATE INDEX events_user ON events(user, ts);
    CREATE TABLE files(id INTEGER PRIMARY KEY, name TEXT, data BLOB)";
const INSERT: &str = "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5)";
const BLOB: usize = 2 << 20;
const TEXT: usize = 400_000;

/// commit as an ordinary application does, and measure it
#[derive(Clone, Debug, Default, FromArgs)]
#[argh(subcommand, name = "load")]
pub struct Args {
    /// the database; it is made if it is not there
    #[argh(positional)]
    pub db: PathBuf,
    /// fill a new one to so many MiB, then end
    #[argh(option)]
    pub fill: Option<u64>,
    /// change so many percent of the pages of one that was filled, then end
    #[argh(option)]
    pub revise: Option<i64>,
    /// change them all over it, and not in one place
    #[argh(switch)]
    pub scattered: bool,
    /// fill it with what does not compress
    #[argh(switch)]
    pub noise: bool,
    /// make so many small ones instead, DB being their directory
    #[argh(option)]
    pub many: Option<u64>,
    /// commit for so many seconds
    #[argh(option, default = "0.0")]
    pub seconds: f64,
    /// or commit so often
    #[argh(option, default = "0")]
    pub count: u64,
    /// commits a second; saturating without it
    #[argh(option, default = "0.0")]
    pub rate: f64,
    /// most rows in a commit
    #[argh(option, default = "1")]
    pub rows: u64,
    /// a blob of 2 MiB every so many seconds
    #[argh(option, default = "0.0")]
    pub blob_every: f64,
    /// `PRAGMA wal_autocheckpoint`
    #[argh(option, default = "1000")]
    pub autocheckpoint: u32,
    /// commit without a busy timeout, and count the errors that come of it
    #[argh(switch)]
    pub impatient: bool,
    /// chooses every row
    #[argh(option, default = "1")]
    pub seed: u64,
}

pub fn run(args: &Args) -> Result<()> {
    if let Some(number) = args.many {
        (0..number).try_for_each(|n| fill(&args.db.join(format!("{n:04}.db")), 0, 400, n))?;
        return Ok(());
    }
    match (args.fill, args.revise) {
        (Some(mib), _) => fill(&args.db, mib, if args.noise { 20 } else { 400 }, args.seed),
        (None, Some(percent)) => revise(&args.db, percent, args.scattered),
        (None, None) => write(args),
    }
}

fn open(path: &Path) -> Result<Connection> {
    let db = Connection::open(path)?;
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")?;
    Ok(db)
}

/// A file of noise with every so many rows of text, numbers and indexes: with each 400th it is about a
/// fifth of all bytes, with each 20th nearly all.
fn fill(path: &Path, mib: u64, file_every: i64, seed: u64) -> Result<()> {
    let mut rng = Rng::of(seed, "fill");
    let text = Text::new(&mut rng);
    let mut db = open(path)?;
    db.execute_batch(SCHEMA)?;
    let rows = if mib > 0 { 2000 } else { 20 };
    let mut next = 1;
    loop {
        let tx = db.transaction()?;
        let mut insert = tx.prepare(INSERT)?;
        for id in next..next + rows {
            event(&mut insert, &mut rng, &text, id)?;
            if id % 10 == 0 {
                let email = format!("{}{id}@example.com", text.cut(&mut rng, 8).replace(' ', "."));
                let name = text.cut(&mut rng, 14);
                let row = params![id, name, email, rng.below(10_000) as f64];
                tx.execute("INSERT INTO users VALUES (?1, ?2, ?3, ?4)", row)?;
            }
            if id % file_every == 0 && mib > 0 {
                let len = rng.between(8000, 90_000) as usize;
                tx.execute(
                    "INSERT INTO files VALUES (?1, 'a file', ?2)",
                    params![id, noise(&mut rng, len)],
                )?;
            }
        }
        drop(insert);
        tx.commit()?;
        next += rows;
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        if path.metadata()?.len() >= mib << 20 {
            return Ok(());
        }
    }
}

/// Changes text and no index: about nine events share a page, so one in nine hundred changes each
/// hundredth page where they are scattered.
fn revise(path: &Path, percent: i64, scattered: bool) -> Result<()> {
    let db = open(path)?;
    let rows: i64 = db.query_row("SELECT max(id) FROM events", [], |row| row.get(0))?;
    let which = match scattered {
        true => format!("id % {} = 0", 900 / percent),
        false => format!("id > {} LIMIT {}", rows / 2, rows * percent / 100),
    };
    let change = "UPDATE events SET body = 'x' || substr(body, 2) WHERE id IN";
    db.execute_batch(&format!("{change} (SELECT id FROM events WHERE {which})"))?;
    Ok(())
}

fn event(insert: &mut Statement, rng: &mut Rng, text: &Text, id: i64) -> Result<usize> {
    let len = rng.between(250, 500) as usize;
    let body = text.cut(rng, len);
    let user = rng.below(id as u64) as i64;
    insert.execute(params![id, user, Micros::now().0 as i64, body, noise(rng, 16)])?;
    Ok(48 + body.len())
}

fn write(args: &Args) -> Result<()> {
    let mut rng = Rng::of(args.seed, "load");
    let text = Text::new(&mut rng);
    let db = open(&args.db)?;
    db.busy_timeout(Duration::from_secs(if args.impatient { 0 } else { 30 }))?;
    db.execute_batch(&format!("PRAGMA wal_autocheckpoint = {}", args.autocheckpoint))?;
    let mut next: i64 =
        db.query_row("SELECT coalesce(max(id), 0) + 1 FROM events", [], |row| row.get(0))?;
    let mut commit = Commit::prepare(&db)?;
    let (mut payload, mut errors, mut blob_at) = (0, 0_u64, args.blob_every);
    let (mut took, mut ended) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while done(args, start, took.len() as u64) {
        let due = took.len() as f64 / args.rate;
        if args.rate > 0.0 && start.elapsed().as_secs_f64() < due {
            thread::sleep(Duration::from_secs_f64(due - start.elapsed().as_secs_f64()));
        }
        let blob = args.blob_every > 0.0 && start.elapsed().as_secs_f64() >= blob_at;
        let rows = rng.between(1, args.rows);
        let began = Instant::now();
        match commit.run(&mut rng, &text, next..next + rows as i64, blob) {
            Ok(bytes) => payload += bytes,
            Err(error) if is_busy(&*error) => {
                errors += 1;
                commit.give_up();
                continue;
            }
            Err(error) => return Err(error),
        }
        took.push(began.elapsed());
        ended.push(Micros::now().0);
        next += rows as i64;
        blob_at += if blob { args.blob_every } else { 0.0 };
    }
    let seconds = start.elapsed().as_secs_f64();
    let mut wal = args.db.clone().into_os_string();
    wal.push("-wal");
    took.sort_unstable();
    let micros = |at: usize| took.get(at).map_or(0, |took| took.as_micros() as u64);
    let result = json!({
        "commits": took.len(), "payload": payload, "rate": took.len() as f64 / seconds,
        "p99": micros(took.len() * 99 / 100), "longest": micros(took.len().saturating_sub(1)),
        "wal": std::fs::metadata(wal)?.len(), "errors": errors,
        "ended": if args.rate > 0.0 { ended } else { Vec::new() },
    });
    println!("{result}");
    Ok(())
}

fn done(args: &Args, start: Instant, commits: u64) -> bool {
    match args.count {
        0 => start.elapsed().as_secs_f64() < args.seconds,
        count => commits < count,
    }
}

/// A transaction whose statements are prepared, so that the writer is as fast as it can be.
struct Commit<'a> {
    db: &'a Connection,
    begin: Statement<'a>,
    insert: Statement<'a>,
    blob: Statement<'a>,
    commit: Statement<'a>,
}

impl<'a> Commit<'a> {
    fn prepare(db: &'a Connection) -> Result<Self> {
        let begin = db.prepare("BEGIN IMMEDIATE")?;
        let insert = db.prepare(INSERT)?;
        let blob = db.prepare("INSERT INTO files(name, data) VALUES ('blob', ?1)")?;
        Ok(Self { db, begin, insert, blob, commit: db.prepare("COMMIT")? })
    }

    /// How many bytes an application would say that it has committed.
    fn run(&mut self, rng: &mut Rng, text: &Text, ids: Range<i64>, blob: bool) -> Result<usize> {
        self.begin.execute([])?;
        let mut bytes = 0;
        for id in ids {
            bytes += event(&mut self.insert, rng, text, id)?;
        }
        if blob {
            self.blob.execute([noise(rng, BLOB)])?;
            bytes += BLOB;
        }
        self.commit.execute([])?;
        Ok(bytes)
    }

    fn give_up(&self) {
        // Fails where nothing was begun.
        let _ = self.db.execute_batch("ROLLBACK");
    }
}

fn is_busy(error: &(dyn std::error::Error + 'static)) -> bool {
    let code = error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn noise(rng: &mut Rng, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.number().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Text out of 8,000 words drawn by Zipf's law.
struct Text(String);

impl Text {
    fn new(rng: &mut Rng) -> Self {
        const WORDS: f64 = 8000.0;
        let letters = b"etaoinshrdlucmfwygpbvk";
        let mut word = || -> String {
            let len = rng.between(2, 10);
            (0..len).map(|_| char::from(*rng.pick(letters))).collect()
        };
        let words: Vec<String> = (0..WORDS as usize).map(|_| word()).collect();
        let mut text = String::with_capacity(TEXT + 16);
        while text.len() < TEXT {
            let uniform = rng.below(1 << 32) as f64 / f64::from(u32::MAX);
            text.push_str(&words[(WORDS.powf(uniform) as usize - 1).min(words.len() - 1)]);
            text.push(' ');
        }
        Self(text)
    }

    fn cut(&self, rng: &mut Rng, len: usize) -> String {
        let at = rng.below((TEXT - len) as u64) as usize;
        self.0[at..at + len].to_owned()
    }
}
