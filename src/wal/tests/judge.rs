//! SQLite as the judge: logs are damaged in every way that comes to mind, SQLite recovers the
//! database from one copy, the parser from another, and the two files must be equal.

use super::super::*;
use super::encode::{BIG, LITTLE, Plan, SIZES, Write, add, noise, stored};
use super::{FIXTURES, fixture, read};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::{env, fs};

const MUTATIONS: usize = 3000;

/// A database file and its log.
#[derive(Clone)]
struct Pair {
    name: String,
    db: Vec<u8>,
    wal: Vec<u8>,
}

/// What recovery makes of a pair: a database, or the refusal to open it.
type Outcome = Option<Vec<u8>>;

#[test]
fn sqlite_recovers_what_the_parser_reads() {
    let seed = seed();
    println!("replay: BAKELITE_SEED={seed} cargo test --lib wal::tests::judge");
    let dir = tempfile::tempdir().unwrap();
    let (mut random, mut seen) = (Random(seed), Seen::default());
    let bases: Vec<_> =
        bases(dir.path()).into_iter().map(|pair| (by_parser(&pair).0, pair)).collect();
    for number in 0..MUTATIONS {
        let base = random.choose(&bases);
        let (kind, mutate) = *random.choose(&KINDS);
        let mut pair = base.1.clone();
        mutate(&mut pair.wal, &mut random);
        let (ours, end) = by_parser(&pair);
        let theirs = by_sqlite(dir.path(), &pair);
        if ours != theirs {
            put(dir.path(), &pair);
            let (name, kept) = (pair.name, dir.keep());
            panic!("mutation {number} of {name}, {kind}: {end}; see x.db in {}", kept.display());
        }
        seen.add(base, &ours, kind, end);
    }
    seen.judge();
}

/// As they are, all logs hold something, and SQLite agrees.
#[test]
fn sqlite_recovers_what_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    for pair in bases(dir.path()) {
        let (ours, _) = by_parser(&pair);
        assert_eq!(by_sqlite(dir.path(), &pair), ours, "{}", pair.name);
        assert_ne!(ours, Some(pair.db), "{}: the log changed nothing", pair.name);
    }
}

/// What the mutations came to, so that a run in which nothing happened fails.
#[derive(Default)]
struct Seen {
    kinds: BTreeMap<&'static str, usize>,
    ends: BTreeSet<String>,
    results: BTreeMap<&'static str, usize>,
}

impl Seen {
    fn add(&mut self, base: &(Outcome, Pair), outcome: &Outcome, kind: &'static str, end: End) {
        let result = match outcome {
            None => "refused",
            Some(db) if *db == base.1.db => "empty",
            _ if *outcome == base.0 => "whole",
            Some(_) => "other",
        };
        *self.kinds.entry(kind).or_default() += 1;
        *self.results.entry(result).or_default() += 1;
        self.ends.insert(format!("{end:?}"));
    }

    fn judge(&self) {
        println!("{:?} {:?} {:?}", self.kinds, self.results, self.ends);
        assert_eq!(self.kinds.values().sum::<usize>(), MUTATIONS);
        assert_eq!(self.kinds.len(), KINDS.len());
        assert_eq!(self.ends.len(), 10, "every reason to end was met");
        let at_least = |result, count| assert!(self.results[result] >= count, "few {result}");
        at_least("refused", 5);
        at_least("empty", 200);
        at_least("other", 200);
        at_least("whole", 200);
    }
}

// Two ways to recover.

/// The file under the pages of the log, as the parser understands it, and why the log ended.
fn by_parser(pair: &Pair) -> (Outcome, End) {
    let (mut writes, end) = read(&pair.wal);
    let commits = |write: &Write| write.commit > 0;
    writes.truncate(writes.iter().rposition(commits).map_or(0, |last| last + 1));
    let refused = end == End::BadVersion;
    ((!refused).then(|| overlay(pair.db.clone(), &writes)), end)
}

/// What a checkpoint writes: a page cut off by one commit comes back when another grows past it.
fn overlay(mut db: Vec<u8>, writes: &[Write]) -> Vec<u8> {
    let Some(Write { commit: pages, data, .. }) = writes.last() else { return db };
    let bytes = data.len();
    db.resize(*pages as usize * bytes, 0);
    for Write { page, data, .. } in writes.iter().filter(|write| write.page <= *pages) {
        db[(*page as usize - 1) * bytes..][..bytes].copy_from_slice(data);
    }
    db
}

/// The file after SQLite has found the pair, put the log into the file and closed both. A page 1
/// that makes no sense is an error too, but one that comes after recovery.
fn by_sqlite(dir: &Path, pair: &Pair) -> Outcome {
    let (path, wal) = (dir.join("x.db"), dir.join("x.db-wal"));
    put(dir, pair);
    let result = checkpoint(&path);
    let db = fs::read(&path).unwrap();
    let left = wal.exists();
    [path, wal, dir.join("x.db-shm")].iter().for_each(|path| drop(fs::remove_file(path)));
    match result.map_err(|error| error.sqlite_error_code().unwrap()) {
        Err(ErrorCode::CannotOpen) => None,
        Ok(()) | Err(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            assert!(!left, "{}: the log was not put into the file", pair.name);
            Some(db)
        }
        Err(code) => panic!("{}: {code:?}", pair.name),
    }
}

fn put(dir: &Path, pair: &Pair) {
    fs::write(dir.join("x.db"), &pair.db).unwrap();
    fs::write(dir.join("x.db-wal"), &pair.wal).unwrap();
}

fn checkpoint(path: &Path) -> rusqlite::Result<()> {
    let db = Connection::open(path)?;
    db.execute_batch("pragma synchronous=off; pragma writable_schema=on;")?;
    db.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))
}

// What is damaged.

/// The fixtures, and a log of the linked SQLite for every page size.
fn bases(dir: &Path) -> Vec<Pair> {
    let kept = FIXTURES.iter().map(|name| Pair {
        name: name.to_string(),
        db: fixture(name, ""),
        wal: fixture(name, "-wal"),
    });
    kept.chain(SIZES.iter().map(|&size| write(dir, size).unwrap())).collect()
}

/// A database in which pages came and went: it grows and is vacuumed.
fn write(dir: &Path, page_size: u32) -> rusqlite::Result<Pair> {
    let path = dir.join(format!("{page_size}.db"));
    let db = Connection::open(&path)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    db.execute_batch(&format!(
        "pragma page_size={page_size}; pragma journal_mode=wal; pragma wal_autocheckpoint=0;
         create table t(k integer primary key, v);"
    ))?;
    db.execute("insert into t(v) values(zeroblob(?1))", [page_size * 2])?;
    db.execute_batch("update t set v = 'short'; vacuum;")?;
    drop(db);
    let log = dir.join(format!("{page_size}.db-wal"));
    let pair = (fs::read(path).unwrap(), fs::read(log).unwrap());
    Ok(Pair { name: format!("pages of {page_size}"), db: pair.0, wal: pair.1 })
}

type Mutate = fn(&mut Vec<u8>, &mut Random);

const KINDS: [(&str, Mutate); 14] = [
    ("nothing", |_, _| ()),
    ("a bit", |wal, random| flip(wal, random)),
    ("a bit of the header", |wal, random| flip(&mut wal[..HEADER_BYTES], random)),
    ("a bit of a frame header", |wal, random| {
        let frame = random.frame(wal).start;
        flip(&mut wal[frame..][..FRAME_HEADER_BYTES], random);
    }),
    ("cut", |wal, random| wal.truncate(random.below(wal.len() + 1))),
    ("cut early", |wal, random| wal.truncate(random.below(HEADER_BYTES * 2))),
    ("a sector of zeros", |wal, random| sector(wal, random, |_| vec![0; 512])),
    ("a sector from elsewhere", |wal, random| {
        let from = random.below(wal.len() - 511);
        sector(wal, random, |wal| wal[from..from + 512].to_vec());
    }),
    ("a frame over another", |wal, random| {
        let (from, to) = (random.frame(wal), random.frame(wal));
        wal.copy_within(from, to.start);
    }),
    ("frames swapped", |wal, random| {
        let (a, b) = (random.frame(wal), random.frame(wal));
        let kept = wal[b.clone()].to_vec();
        wal.copy_within(a.clone(), b.start);
        wal[a].copy_from_slice(&kept);
    }),
    ("salts of a frame", |wal, random| {
        let frame = random.frame(wal).start;
        wal[frame + 8 + random.below(8)] = random.next() as u8;
    }),
    ("header rewritten", |wal, random| rewrite_header(wal, random)),
    ("old frames behind", append_old),
    ("another history", rewrite_history),
];

fn flip(bytes: &mut [u8], random: &mut Random) {
    let bit = random.below(bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
}

fn sector(wal: &mut [u8], random: &mut Random, with: impl Fn(&[u8]) -> Vec<u8>) {
    let at = random.below(wal.len() / 512) * 512;
    let bytes = with(wal);
    wal[at..at + 512].copy_from_slice(&bytes);
}

/// A header field gets another value, and the header's checksum is right.
fn rewrite_header(wal: &mut [u8], random: &mut Random) {
    let (at, value) = *random.choose(&[
        (0, LITTLE),
        (0, BIG),
        (4, 3_007_000),
        (4, 3_007_001),
        (4, 3_008_000),
        (4, 0),
        (8, 512),
        (8, 1024),
        (8, 65536),
        (8, 131_072),
        (8, 0),
        (12, 7),
        (16, 7),
        (20, 7),
    ]);
    wal[at..at + 4].copy_from_slice(&u32::to_be_bytes(value));
    let magic = number(wal, 0);
    let sums = stored(add((0, 0), &wal[..24], magic));
    wal[24..32].copy_from_slice(&sums);
}

/// The log ends early, and goes on with frames of a generation before it.
fn append_old(wal: &mut Vec<u8>, random: &mut Random) {
    let (end, old) = (random.frame(wal).start, random.frame(wal));
    let mut tail = wal[old.start..].to_vec();
    let salt = random.next() as u8;
    let frame_bytes = old.len();
    tail.chunks_mut(frame_bytes).filter(|frame| frame.len() > 16).for_each(|f| f[11] = salt);
    wal.truncate(end);
    wal.extend(tail);
}

/// Other frames in another order and of other commits, all of them sound.
fn rewrite_history(wal: &mut Vec<u8>, random: &mut Random) {
    let header = Header::parse(wal).unwrap();
    let (page_size, writes) = (header.page_size.get(), read(wal).0);
    let magic = *random.choose(&[LITTLE, BIG]);
    let (seq, salts, version) = (random.next() as u32, header.salts.0, 3_007_000);
    let mut plan = Plan { page_size, magic, version, seq, salts, writes };
    for _ in 0..=random.below(4) {
        edit(&mut plan, random);
    }
    *wal = plan.encode();
}

/// One change. SQLite takes a commit for impossible whose database exceeds file and log by more
/// than 64 KiB, which is how large they are here.
fn edit(plan: &mut Plan, random: &mut Random) {
    let (a, b) = (random.below(plan.writes.len()), random.below(plan.writes.len()));
    let page_size = plan.page_size as usize;
    let write = &mut plan.writes[a];
    match random.below(7) {
        0 => write.page = random.below(6) as u32,
        1 => write.commit = random.below(2 + (1 << 16) / page_size) as u32,
        2 => write.data = noise(random.next(), page_size),
        3 => plan.writes.swap(a, b),
        4 => plan.writes.truncate(a.max(1)),
        5 => plan.writes.push(plan.writes[a].clone()),
        _ => plan.salts = random.next().to_be_bytes(),
    }
}

// Chance.

/// Fresh for each run, unless one is to be replayed.
fn seed() -> u64 {
    let asked = env::var("BAKELITE_SEED").ok();
    asked.map_or_else(|| RandomState::new().hash_one(0), |seed| seed.parse().expect("a number"))
}

/// SplitMix64: all that a test wants of chance is to come out the same again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn choose<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Where one of the frames of a sound log is.
    fn frame(&mut self, wal: &[u8]) -> std::ops::Range<usize> {
        let bytes = Header::parse(wal).unwrap().frame_bytes();
        let start = HEADER_BYTES + self.below((wal.len() - HEADER_BYTES) / bytes) * bytes;
        start..start + bytes
    }
}
