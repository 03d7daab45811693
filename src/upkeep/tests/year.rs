//! A year of a small database, with a clock of its own: what is left at the end is small, listed with
//! four requests, and every point that is left comes back from a bounded number of objects.

use crate::backend::Backend;
use crate::backend::faulty::{Faulty, Operation};
use crate::backend::mem::Mem;
use crate::change::Builder;
use crate::commit::{Chain, Commit, Digest, PageHash, PageNo, PageSize, Time, Timeline};
use crate::compact::Policy;
use crate::compact::tests::at;
use crate::config::Settings;
use crate::name::Name;
use crate::object::Compression;
use crate::restore::{Check, Options, Report, Target, restore};
use crate::snapshot::{Fork, Manifest, PartRef, encode_part, part_name};
use crate::testkit::Random;
use crate::testkit::rig::Quiet;
use crate::upkeep::{Mode, Parts};
use std::sync::Arc;

const PAGES: u32 = 16;
const SIZE: u32 = 512;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const START: u64 = 20_000 * DAY;

/// Each commit writes page 1 and another one, so every state can be told from its number alone.
fn page(page: u32, commit: u64) -> Vec<u8> {
    let others = u64::from(PAGES) - 1;
    let last = match page {
        1 => commit,
        _ => (0..others)
            .find_map(|back| {
                let at = commit.checked_sub(back)?;
                (at > 0 && at % others == u64::from(page) - 2).then_some(at)
            })
            .unwrap_or(0),
    };
    let hash = blake3::hash(&[&last.to_le_bytes()[..], &page.to_le_bytes()].concat());
    let mut bytes = vec![0; SIZE as usize];
    bytes[..32].copy_from_slice(hash.as_bytes());
    bytes[100..108].copy_from_slice(&last.to_le_bytes());
    bytes
}

struct Year {
    store: Arc<Mem>,
    size: PageSize,
    last: Commit,
    chain: Chain,
    /// When each commit was made.
    times: Vec<u64>,
    policy: Policy,
}

impl Year {
    fn new() -> Self {
        let (store, size) = (Arc::new(Mem::new()), PageSize::new(SIZE).unwrap());
        let record = Fork::default().encode(Timeline(1), size, Time(START));
        store.put(&Name::Timeline(Timeline(1)), &record).unwrap();
        let settings = Settings::default();
        let policy = Policy::new(&settings.keep, &settings.compaction);
        let last = crate::capture::origin();
        Self { store, size, last, chain: Chain::default(), times: vec![0], policy }
    }

    fn source(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.store) as Arc<dyn Backend>
    }

    fn commit(&mut self, time: u64) {
        let number = self.last.number.next();
        let all = number.0 == 1;
        let changed: Vec<u32> = (1..=PAGES)
            .filter(|&at| all || at == 1 || number.0 % u64::from(PAGES - 1) == u64::from(at) - 2)
            .collect();
        let mut digest = self.last.digest.unwrap_or_default();
        let hash = |at: u32, commit| PageHash::of(PageNo(at), &page(at, commit));
        for &at in &changed {
            let old = if all { PageHash::default() } else { hash(at, number.0 - 1) };
            digest.replace(old, hash(at, number.0));
        }
        let (digest, time) = (Some(digest), Time(time));
        let commit = Commit { number, time, pages: PAGES, digest, resync: false };
        let mut builder = Builder::new(self.size, self.chain);
        let written: Vec<_> = changed.iter().map(|&at| (PageNo(at), page(at, number.0))).collect();
        builder.commit(commit, written.iter().map(|(at, bytes)| (*at, &bytes[..])));
        let (name, body) = builder.encode(Timeline(1), Compression::Zstd);
        self.store.put(&name, &body).unwrap();
        (self.chain, self.last) = (builder.chain(), commit);
        self.times.push(time.0);
    }

    fn snapshot(&self) {
        let number = self.last.number;
        let bytes: Vec<u8> = (1..=PAGES).flat_map(|at| page(at, number.0)).collect();
        let hashes: Vec<_> =
            (1..=PAGES).map(|at| PageHash::of(PageNo(at), &page(at, number.0))).collect();
        let part = part_name(self.size, PageNo(1), &hashes);
        let body = encode_part(part, None, self.size, &bytes, Compression::Zstd);
        self.store.put(&Name::Part(part), &body).unwrap();
        let manifest = Manifest {
            commit: self.last,
            timeline: Timeline(1),
            page_size: self.size,
            chain: self.chain,
            parts: vec![PartRef { part, pages: PAGES, commit: number }],
        };
        self.store.put(&manifest.name(), &manifest.encode(Compression::Zstd)).unwrap();
    }

    fn upkeep(&self, now: u64, prune: bool) {
        let round = at(&self.policy, Time(now));
        let sources = [self.source()];
        let done = round.compact(&sources).unwrap();
        assert!(done.errors.is_empty(), "{:?}", done.errors);
        if prune {
            let done = round.prune(&sources, Parts::Collect, Mode::Real).unwrap();
            assert!(done.errors.is_empty(), "{:?}", done.errors);
        }
    }

    /// Restores a time and holds it to what it has to be.
    fn back(&self, source: &Arc<dyn Backend>, time: u64) -> Report {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("year.db");
        let options = Options {
            output: &output,
            target: Target::At(Time(time)),
            timeline: None,
            check: Check::None,
            force: false,
            dry_run: false,
        };
        let report = restore(source, &options, &Quiet).unwrap();
        let expected: Vec<u8> = (1..=PAGES).flat_map(|at| page(at, report.commit.0)).collect();
        assert!(std::fs::read(&output).unwrap() == expected, "commit {}", report.commit);
        let mut digest = Digest::default();
        for (at, bytes) in (1..).map(PageNo).zip(expected.chunks(SIZE as usize)) {
            digest.replace(PageHash::default(), PageHash::of(at, bytes));
        }
        assert_eq!(report.digest, digest);
        assert_eq!(self.times[report.commit.0 as usize], report.time.0);
        report
    }
}

/// A commit every 20 minutes for a year, and ten a minute in its last hours.
#[test]
fn after_a_year_a_replica_is_small_and_every_density_comes_back() {
    const END: u64 = START + 400 * DAY;
    const BUSY: u64 = END - 3 * HOUR;
    let mut year = Year::new();
    let mut now = START;
    while now < END {
        let step = if now < BUSY { 20 * MINUTE } else { 6_000 };
        now += step;
        year.commit(now);
        let passed = now - START;
        if passed % DAY < step {
            year.snapshot();
        }
        if now < BUSY {
            if passed % (8 * HOUR) < step {
                year.upkeep(now, passed % DAY < step);
            }
        } else if passed % (MINUTE / 2) < step {
            year.upkeep(now, false);
        }
    }
    year.upkeep(now, true);
    let counting = Arc::new(Faulty::new(year.source()));
    let source = Arc::clone(&counting) as Arc<dyn Backend>;
    let objects = year.store.objects().len();
    let mut kinds = std::collections::BTreeMap::new();
    for key in year.store.objects().keys() {
        *kinds.entry(key[..key.len().min(8)].to_owned()).or_insert(0) += 1;
    }
    println!("{} commits, {objects} objects: {kinds:?}", year.last.number);
    assert!(objects <= 3000, "{objects} objects");
    let mut random = Random(9);
    // How old the points of a tier are, and how far apart.
    let tiers = [
        (0, 3 * HOUR, 6_000),
        (3 * HOUR, DAY, 20 * MINUTE),
        (DAY, 7 * DAY, 20 * MINUTE),
        (7 * DAY, 30 * DAY, HOUR),
        (30 * DAY, 365 * DAY, DAY),
    ];
    let mut most = 0;
    for (young, old, apart) in tiers {
        for _ in 0..12 {
            let target = now - young - random.below(old - young);
            let lists = counting.calls(Operation::List);
            let report = year.back(&source, target);
            assert_eq!(counting.calls(Operation::List) - lists, 4, "one request a kind");
            let late = target.checked_sub(report.time.0).expect("never later than asked for");
            // A bucket's last point may lie a commit before its end.
            assert!(late <= apart + 20 * MINUTE, "{late} ms before a point of {apart} ms");
            most = most.max(report.objects);
        }
    }
    println!("at most {most} objects for one restore");
    assert!(most <= 100, "a restore read {most} objects");
    let oldest = crate::list::points(&*source).unwrap()[0].from.0;
    assert!(oldest <= now - 365 * DAY, "the window's start can be restored");
    assert!(oldest >= now - 395 * DAY, "and not much more is kept");
}
