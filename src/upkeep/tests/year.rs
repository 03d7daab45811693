//! A year of a database, with a clock of its own: what is left at the end is small, listed with four
//! requests, and every point that is left comes back from a bounded number of objects.
//!
//! A small year is tried with all other tests. At full measure, ten commits a minute throughout, it is
//! a campaign of some minutes: `make points`.

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
use crate::snapshot::{Fork, Manifest, PartRef, encode_part, part_name, part_pages};
use crate::testkit::Random;
use crate::testkit::points;
use crate::testkit::rig::Quiet;
use crate::upkeep::{Mode, Parts};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const START: u64 = 20_000 * DAY;
/// The daily snapshot is due with the next commit: nothing costs a restore more than that.
const END: u64 = START + 400 * DAY - BUSY_STEP;
const BUSY_STEP: u64 = 6_000;

/// How large a year is.
#[derive(Clone, Copy, Debug)]
struct Scale {
    page_size: u32,
    /// The first ones are written in turn, as those of an index; the others are filled up in turn.
    index: u32,
    leaves: u32,
    /// From one commit to the next, until the last hours of all.
    step: u64,
    upkeep: u64,
}

const SMALL: Scale =
    Scale { page_size: 512, index: 1, leaves: 15, step: 20 * MINUTE, upkeep: 8 * HOUR };
const FULL: Scale =
    Scale { page_size: 4096, index: 256, leaves: 32_512, step: BUSY_STEP, upkeep: HOUR };

const ROW: usize = 64;

/// A row of a page: whose it is, and text that compresses to a half.
fn row(page: u32, at: u64, commit: u64) -> [u8; ROW] {
    let mut random = Random(commit << 20 ^ u64::from(page) << 8 ^ at);
    let mut bytes = [0; ROW];
    bytes[..8].copy_from_slice(&commit.to_le_bytes());
    for word in bytes[8..].chunks_mut(8) {
        word.copy_from_slice(&(random.below(u64::MAX) & 0x0f0f_0f0f_0f0f_0f0f).to_le_bytes());
    }
    bytes
}

/// Each commit but the first writes a row of an index page and one of a leaf, so every state can be
/// told from its number alone.
impl Scale {
    fn pages(self) -> u32 {
        self.index + self.leaves
    }

    fn rows(self) -> u64 {
        u64::from(self.page_size) / ROW as u64
    }

    /// The pages that a commit writes, and which of their rows.
    fn written(self, commit: u64) -> [(u32, u64); 2] {
        let (index, leaves) = (u64::from(self.index), u64::from(self.leaves));
        let leaf = self.index + (commit / self.rows() % leaves) as u32;
        let index = ((commit % index) as u32, commit / index % self.rows());
        [(index.0 + 1, index.1), (leaf + 1, commit % self.rows())]
    }

    /// Which commit up to this one has written a row last.
    fn writer(self, page: u32, row: u64, commit: u64) -> u64 {
        let (index, leaves) = (u64::from(self.index), u64::from(self.leaves));
        let at = u64::from(page - 1);
        let (first, cycle) = match at.checked_sub(index) {
            None => (row * index + at, index * self.rows()),
            Some(leaf) => (leaf * self.rows() + row, leaves * self.rows()),
        };
        let since = commit.checked_sub(first).map_or(u64::MAX, |since| since % cycle);
        commit.checked_sub(since).unwrap_or(1).max(1)
    }

    /// The database after a commit.
    fn image(self, commit: u64) -> Vec<u8> {
        let rows = (1..=self.pages()).flat_map(|page| (0..self.rows()).map(move |at| (page, at)));
        rows.flat_map(|(page, at)| row(page, at, self.writer(page, at, commit))).collect()
    }
}

fn hashes(first: u32, bytes: &[u8], page_size: u32) -> Vec<PageHash> {
    let pages = (first..).map(PageNo).zip(bytes.chunks(page_size as usize));
    pages.map(|(page, bytes)| PageHash::of(page, bytes)).collect()
}

struct Year {
    scale: Scale,
    store: Arc<Mem>,
    size: PageSize,
    last: Commit,
    chain: Chain,
    image: Vec<u8>,
    hashes: Vec<PageHash>,
    parts: Vec<PartRef>,
    /// Parts that were written to since they were stored.
    dirty: BTreeSet<u32>,
    /// When each commit was made.
    times: Vec<u64>,
    policy: Policy,
}

impl Year {
    fn new(scale: Scale) -> Self {
        let (store, size) = (Arc::new(Mem::new()), PageSize::new(scale.page_size).unwrap());
        let record = Fork::default().encode(Timeline(1), size, Time(START));
        store.put(&Name::Timeline(Timeline(1)), &record).unwrap();
        let settings = Settings::default();
        let policy = Policy::new(&settings.keep, &settings.compaction);
        let image = scale.image(1);
        let hashes = hashes(1, &image, scale.page_size);
        let mut digest = Digest::default();
        hashes.iter().for_each(|hash| digest.replace(PageHash::default(), *hash));
        let (number, pages) = (crate::capture::origin().number.next(), scale.pages());
        let (time, digest) = (Time(START), Some(digest));
        let last = Commit { number, time, pages, digest, resync: false };
        let mut year = Self {
            scale,
            store,
            size,
            last,
            chain: Chain::default().after(size, &last),
            image,
            hashes,
            parts: Vec::new(),
            dirty: (0..pages.div_ceil(part_pages(size))).collect(),
            times: vec![0, START],
            policy,
        };
        year.snapshot();
        year
    }

    fn source(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.store) as Arc<dyn Backend>
    }

    fn page(&self, page: u32) -> &[u8] {
        let bytes = self.size.bytes();
        &self.image[(page as usize - 1) * bytes..][..bytes]
    }

    fn commit(&mut self, time: u64) {
        let number = self.last.number.next();
        let mut digest = self.last.digest.unwrap_or_default();
        let written = self.scale.written(number.0);
        for (page, at) in written {
            let to = (page as usize - 1) * self.size.bytes() + at as usize * ROW;
            self.image[to..to + ROW].copy_from_slice(&row(page, at, number.0));
            let hash = PageHash::of(PageNo(page), self.page(page));
            digest.replace(std::mem::replace(&mut self.hashes[page as usize - 1], hash), hash);
            self.dirty.insert((page - 1) / part_pages(self.size));
        }
        let (digest, time) = (Some(digest), Time(time));
        let commit = Commit { number, time, pages: self.scale.pages(), digest, resync: false };
        let mut builder = Builder::new(self.size, self.chain);
        builder.commit(commit, written.map(|(page, _)| (PageNo(page), self.page(page))));
        let (name, body) = builder.encode(Timeline(1), Compression::Zstd);
        self.store.put(&name, &body).unwrap();
        (self.chain, self.last) = (builder.chain(), commit);
        self.times.push(time.0);
    }

    /// Stores the parts that changed, and the manifest.
    fn snapshot(&mut self) {
        let most = part_pages(self.size);
        for at in std::mem::take(&mut self.dirty) {
            let (first, pages) = (at * most + 1, most.min(self.scale.pages() - at * most));
            let part = first as usize - 1..(first + pages) as usize - 1;
            let bytes = &self.image[part.start * self.size.bytes()..part.end * self.size.bytes()];
            let part = part_name(self.size, PageNo(first), &self.hashes[part]);
            let body = encode_part(part, None, self.size, bytes, Compression::Zstd);
            self.store.put(&Name::Part(part), &body).unwrap();
            let part = PartRef { part, pages, commit: self.last.number };
            match self.parts.get_mut(at as usize) {
                Some(known) => *known = part,
                None => self.parts.push(part),
            }
        }
        self.parts.iter_mut().for_each(|part| part.commit = self.last.number);
        let manifest = Manifest {
            commit: self.last,
            timeline: Timeline(1),
            page_size: self.size,
            chain: self.chain,
            parts: self.parts.clone(),
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

    /// All of it; what time it is then.
    fn live(&mut self) -> u64 {
        let Scale { step: idle, upkeep, .. } = self.scale;
        let busy = END - 3 * HOUR;
        let mut now = START;
        while now < END {
            let step = if now < busy { idle } else { BUSY_STEP };
            now += step;
            self.commit(now);
            let passed = now - START;
            if passed % DAY < step {
                self.snapshot();
            }
            let every = if now < busy { upkeep } else { MINUTE / 2 };
            if passed % every < step {
                self.upkeep(now, passed % DAY < step);
            }
            if passed % (20 * DAY) < step {
                println!("day {}: {} objects", passed / DAY, self.store.objects().len());
            }
        }
        self.upkeep(now, true);
        now
    }

    /// Restores a time and holds it to what it has to be.
    fn back(&self, source: &Arc<dyn Backend>, time: u64) -> Report {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("year.db");
        let report = get(source, &output, Target::At(Time(time)));
        let expected = self.scale.image(report.commit.0);
        assert!(std::fs::read(&output).unwrap() == expected, "commit {}", report.commit);
        let mut digest = Digest::default();
        let hashes = hashes(1, &expected, self.scale.page_size);
        hashes.iter().for_each(|hash| digest.replace(PageHash::default(), *hash));
        assert_eq!(report.digest, digest);
        assert_eq!(self.times[report.commit.0 as usize], report.time.0);
        report
    }

    /// The same database with nothing but a snapshot of it.
    fn fresh(mut self) -> Arc<dyn Backend> {
        let record = self.store.get(&Name::Timeline(Timeline(1))).unwrap();
        self.store = Arc::new(Mem::new());
        self.store.put(&Name::Timeline(Timeline(1)), &record).unwrap();
        self.dirty = (0..self.parts.len() as u32).collect();
        self.snapshot();
        self.source()
    }
}

fn get(source: &Arc<dyn Backend>, output: &Path, target: Target) -> Report {
    let options = Options {
        output,
        target,
        timeline: None,
        check: Check::None,
        force: false,
        dry_run: false,
    };
    restore(source, &options, &Quiet).unwrap()
}

fn seconds_of_a_restore(source: &Arc<dyn Backend>) -> Duration {
    let dir = tempfile::tempdir().unwrap();
    let began = Instant::now();
    get(source, &dir.path().join("year.db"), Target::Latest);
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// A commit every 20 minutes for a year, and ten a minute in its last hours; or ten a minute in all of
/// it.
#[test]
fn after_a_year_a_replica_is_small_and_every_density_comes_back() {
    let scale = if points::is_full() { FULL } else { SMALL };
    let mut year = Year::new(scale);
    let now = year.live();
    let counting = Arc::new(Faulty::new(year.source()));
    let source = Arc::clone(&counting) as Arc<dyn Backend>;
    let (objects, bytes) = {
        let objects = year.store.objects();
        (objects.len(), objects.values().map(Vec::len).sum::<usize>())
    };
    let mut kinds = BTreeMap::new();
    for key in year.store.objects().keys() {
        *kinds.entry(key[..key.len().min(8)].to_owned()).or_insert(0) += 1;
    }
    println!("{} commits, {objects} objects, {bytes} bytes: {kinds:?}", year.last.number);
    assert!(objects <= 3000, "{objects} objects");
    let mut random = Random(9);
    // How old the points of a tier are, and how far apart.
    let tiers = [
        (0, 3 * HOUR, 6_000),
        (3 * HOUR, DAY, scale.step),
        (DAY, 7 * DAY, scale.step.max(5 * MINUTE)),
        (7 * DAY, 30 * DAY, HOUR),
        (30 * DAY, 365 * DAY, DAY),
    ];
    let (mut most, mut restores) = (0, 0);
    for (young, old, apart) in tiers {
        for _ in 0..12 {
            let target = now - young - random.below(old - young);
            let lists = counting.calls(Operation::List);
            let report = year.back(&source, target);
            assert_eq!(counting.calls(Operation::List) - lists, 4, "one request a kind");
            let late = target.checked_sub(report.time.0).expect("never later than asked for");
            // A bucket's last point may lie a commit before its end.
            assert!(late <= apart + scale.step, "{late} ms before a point of {apart} ms");
            most = most.max(report.objects);
            restores += 1;
        }
    }
    println!("at most {most} objects for one restore");
    assert!(most <= 150, "a restore read {most} objects");
    let oldest = crate::list::points(&*source).unwrap()[0].from.0;
    assert!(oldest <= now - 365 * DAY, "the window's start can be restored");
    assert!(oldest >= now - 395 * DAY, "and not much more is kept");
    let commits = year.last.number.0;
    let (old, fresh) = (year.source(), year.fresh());
    let both = (0..7).map(|_| (seconds_of_a_restore(&old), seconds_of_a_restore(&fresh)));
    let (old, fresh): (Vec<_>, Vec<_>) = both.unzip();
    let (old, fresh) = (median(old), median(fresh));
    println!("{old:?} for a restore, {fresh:?} from a snapshot alone");
    points::record(
        "year",
        &[
            ("commits", commits),
            ("objects", objects as u64),
            ("bytes", bytes as u64),
            ("restores", restores),
            ("objects of one restore", most),
            ("requests to list", 4),
            (
                "restore, % of a fresh snapshot's time",
                (old.as_micros() * 100 / fresh.as_micros()) as u64,
            ),
        ],
    );
}
