//! A database's history as plain pages, and a writer that makes a replica of it in memory: what the
//! tests of change-sets, plans and restores are held to. It keeps every page of every commit, so
//! there is nothing clever in it that could be wrong in the same way.

use crate::backend::{Backend, mem::Mem};
use crate::change::{self, Builder};
use crate::commit::{Chain, Commit, CommitNo, Digest, PageHash, PageNo, PageSize, Time, Timeline};
use crate::name::{Change, Name, Span};
use crate::object::{Compression, Header};
use crate::snapshot::{self, Fork, Manifest, PartRef, part_name};
use quickcheck::{Arbitrary, Gen};
use std::collections::BTreeMap;
use std::sync::Arc;

pub const SIZES: [u32; 8] = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];

/// One transaction: the size that it leaves, and what it writes, each page once.
#[derive(Clone, Debug)]
pub struct Step {
    pub pages: u32,
    pub writes: BTreeMap<u32, Write>,
}

/// How a page changes.
#[derive(Clone, Copy, Debug)]
pub enum Write {
    /// All of it, to bytes that follow from the number.
    Fill(u32),
    /// A few bytes at a place.
    Row(u16, u8),
    Zero,
    Same,
}

impl Step {
    /// A transaction that fills pages with fresh bytes.
    pub fn fill(pages: u32, writes: impl IntoIterator<Item = u32>, seed: u32) -> Self {
        Self { pages, writes: writes.into_iter().map(|page| (page, Write::Fill(seed))).collect() }
    }
}

impl Arbitrary for Write {
    fn arbitrary(g: &mut Gen) -> Self {
        match u8::arbitrary(g) % 8 {
            0 | 1 => Self::Fill(u32::arbitrary(g)),
            2 => Self::Zero,
            3 => Self::Same,
            _ => Self::Row(u16::arbitrary(g), u8::arbitrary(g)),
        }
    }
}

/// Few pages, so that they are rewritten often; sizes that fall and rise.
impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        let pages = u32::arbitrary(g) % 9 + 1;
        let writes = Vec::<(u32, Write)>::arbitrary(g);
        let writes = writes.into_iter().take(6).map(|(page, write)| (page % pages + 1, write));
        Self { pages, writes: writes.collect() }
    }
}

fn written(page: &mut [u8], write: Write) {
    let size = page.len();
    match write {
        Write::Fill(seed) => {
            let seed = blake3::hash(&seed.to_le_bytes());
            page.iter_mut().zip(seed.as_bytes().iter().cycle()).for_each(|(to, from)| *to = *from);
            page[size - 1] = 1;
        }
        Write::Row(at, byte) => {
            let at = usize::from(at) % size;
            let end = (at + 5 + usize::from(byte % 40)).min(size);
            page[at..end].fill(byte);
        }
        Write::Zero => page.fill(0),
        Write::Same => {}
    }
}

/// All pages after one commit, the first page first.
pub type Pages = Vec<Vec<u8>>;

pub fn digest(pages: &Pages) -> Digest {
    let mut digest = Digest::default();
    for (at, bytes) in pages.iter().enumerate() {
        digest.replace(PageHash::default(), PageHash::of(PageNo(at as u32 + 1), bytes));
    }
    digest
}

/// A writer of one replica, and the truth about it.
pub struct Writer {
    pub store: Arc<Mem>,
    pub size: PageSize,
    pub timeline: Timeline,
    pub now: Time,
    /// After each commit, from the empty database on.
    pub states: Vec<Pages>,
    pub commits: Vec<Commit>,
    pub chains: Vec<Chain>,
    pub builder: Builder,
    /// The snapshot under way.
    pub parts: Vec<PartRef>,
}

impl Writer {
    pub fn new(size: u32) -> Self {
        let size = PageSize::new(size).unwrap();
        let origin = crate::capture::origin();
        let mut writer = Self {
            store: Arc::new(Mem::new()),
            size,
            timeline: Timeline(0),
            now: Time(10_000_000_000),
            states: vec![Vec::new()],
            commits: vec![origin],
            chains: vec![Chain::default()],
            builder: Builder::new(size, Chain::default()),
            parts: Vec::new(),
        };
        writer.claim(Fork::default());
        writer
    }

    /// Of a database of its own, with a snapshot on its second timeline.
    pub fn of(database: u32) -> Self {
        let mut writer = Self::new(512);
        writer.now.0 += u64::from(database);
        writer.fork(0);
        writer.alone(&Step::fill(4, 1..=4, database)).snapshot();
        writer
    }

    pub fn source(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.store) as Arc<dyn Backend>
    }

    pub fn last(&self) -> &Commit {
        self.commits.last().unwrap()
    }

    /// The bytes of the database file after a commit.
    pub fn image(&self, commit: u64) -> Vec<u8> {
        self.states[commit as usize].concat()
    }

    fn claim(&mut self, fork: Fork) {
        self.timeline.0 += 1;
        let body = fork.encode(self.timeline, self.size, self.now);
        self.store.put(&Name::Timeline(self.timeline), &body).unwrap();
    }

    /// Begins a timeline that leaves the present one after `commit`; what follows there is lost.
    pub fn fork(&mut self, commit: u64) {
        self.fork_of(self.timeline, commit);
    }

    pub fn fork_of(&mut self, parent: Timeline, commit: u64) {
        self.states.truncate(commit as usize + 1);
        self.commits.truncate(commit as usize + 1);
        self.chains.truncate(commit as usize + 1);
        self.builder = Builder::new(self.size, self.chains[commit as usize]);
        self.claim(Fork {
            parent,
            commit: CommitNo(commit),
            chain: self.chains[commit as usize],
            ..Fork::default()
        });
    }

    fn record(&mut self, pages: Pages) -> Commit {
        self.now.0 += 1000;
        let commit = Commit {
            number: self.last().number.next(),
            time: self.now.max(self.last().time),
            pages: pages.len() as u32,
            digest: Some(digest(&pages)),
            resync: false,
        };
        self.chains.push(self.chains.last().unwrap().after(self.size, &commit));
        self.commits.push(commit);
        self.states.push(pages);
        commit
    }

    fn stepped(&self, step: &Step) -> Pages {
        let mut pages = self.states.last().unwrap().clone();
        pages.resize(step.pages as usize, vec![0; self.size.bytes()]);
        step.writes.iter().for_each(|(page, how)| written(&mut pages[*page as usize - 1], *how));
        pages
    }

    /// Commits into the change-set under way.
    pub fn commit(&mut self, step: &Step) -> &mut Self {
        let pages = self.stepped(step);
        let commit = self.record(pages);
        let pages = self.states.last().unwrap();
        let written = step.writes.keys().map(|&page| (PageNo(page), &pages[page as usize - 1][..]));
        self.builder.commit(commit, written);
        self
    }

    /// Commits a whole database file, and ships it alone.
    pub fn import(&mut self, file: &[u8]) -> &mut Self {
        let pages: Pages = file.chunks(self.size.bytes()).map(<[u8]>::to_vec).collect();
        let commit = self.record(pages);
        let pages = self.states.last().unwrap();
        let written = (1..).map(PageNo).zip(pages.iter().map(|page| &page[..]));
        self.builder.commit(commit, written);
        self.ship()
    }

    /// Ships the change-set under way, if there is anything in it.
    pub fn ship(&mut self) -> &mut Self {
        let next = Builder::new(self.size, *self.chains.last().unwrap());
        let builder = std::mem::replace(&mut self.builder, next);
        if !builder.is_empty() {
            let (name, body) = builder.encode(self.timeline, Compression::Zstd);
            self.store.put(&name, &body).unwrap();
        }
        self
    }

    /// Commits and ships alone.
    pub fn alone(&mut self, step: &Step) -> &mut Self {
        self.ship().commit(step).ship()
    }

    /// Commits and ships as parts of `per_part` pages, in an order of pages that follows `turn`.
    pub fn in_parts(&mut self, step: &Step, per_part: usize, turn: usize) -> &mut Self {
        self.ship();
        let parent = *self.chains.last().unwrap();
        let pages = self.stepped(step);
        let commit = self.record(pages);
        let mut order: Vec<u32> = step.writes.keys().copied().collect();
        let turn = turn % order.len().max(1);
        order.rotate_left(turn);
        let groups: Vec<&[u32]> =
            if order.is_empty() { vec![&[]] } else { order.chunks(per_part).collect() };
        for (part, group) in groups.iter().enumerate() {
            let end = (part + 1 == groups.len()).then_some(&commit);
            self.put_part(part as u16, group, end, parent);
        }
        self.builder = Builder::new(self.size, *self.chains.last().unwrap());
        self
    }

    fn put_part(&mut self, part: u16, group: &[u32], end: Option<&Commit>, parent: Chain) {
        let Commit { number, time, .. } = *self.last();
        let span = Span { first: number, last: number, time, timeline: self.timeline };
        let change = Change { level: 0, span, part, end: end.is_some() };
        let chain = if end.is_some() { *self.chains.last().unwrap() } else { parent };
        let header = Header { page_size: self.size, parent, chain };
        let mut group: Vec<PageNo> = group.iter().map(|&page| PageNo(page)).collect();
        group.sort_unstable();
        let pages = self.states.last().unwrap();
        let contents: Vec<u8> =
            group.iter().flat_map(|page| pages[page.0 as usize - 1].clone()).collect();
        let body = change::encode_part(change, &header, end, &group, &contents, Compression::Zstd);
        self.store.put(&Name::Change(change), &body).unwrap();
    }

    /// Stores the next `pages` pages of the snapshot under way as they are after the last commit,
    /// each as `spoil` leaves it.
    pub fn part(&mut self, pages: u32, spoil: impl Fn(PageNo, &mut [u8])) {
        let next = self.parts.last().map_or(1, |part| part.range().end);
        let state = self.states.last().unwrap();
        let end = (next + pages).min(state.len() as u32 + 1);
        if next >= end {
            return;
        }
        let mut bytes = state[next as usize - 1..end as usize - 1].concat();
        let numbered = (next..).map(PageNo).zip(bytes.chunks_mut(self.size.bytes()));
        let hashes = numbered.map(|(page, bytes)| {
            spoil(page, bytes);
            PageHash::of(page, bytes)
        });
        let part = part_name(self.size, PageNo(next), &hashes.collect::<Vec<_>>());
        let body = snapshot::encode_part(part, None, self.size, &bytes, Compression::Zstd);
        let _there_already = self.store.put(&Name::Part(part), &body);
        self.parts.push(PartRef { part, pages: end - next, commit: self.last().number });
    }

    /// Stores the manifest of the snapshot under way.
    pub fn manifest(&mut self) -> Name {
        let manifest = Manifest {
            commit: *self.last(),
            timeline: self.timeline,
            page_size: self.size,
            chain: *self.chains.last().unwrap(),
            parts: std::mem::take(&mut self.parts),
        };
        self.store.put(&manifest.name(), &manifest.encode(Compression::Zstd)).unwrap();
        manifest.name()
    }

    /// A snapshot of the last commit, in parts of three pages.
    pub fn snapshot(&mut self) -> &mut Self {
        self.ship();
        self.parts.clear();
        for _ in 0..self.last().pages.div_ceil(3) {
            self.part(3, |_, _| ());
        }
        self.manifest();
        self
    }

    /// A commit that stands for others that nobody saw: no change-set holds it, a snapshot follows.
    pub fn resync(&mut self, step: &Step) -> &mut Self {
        self.ship();
        let pages = self.stepped(step);
        self.record(pages);
        self.builder = Builder::new(self.size, *self.chains.last().unwrap());
        self.snapshot()
    }

    /// The keys of the change-sets that there are, in order.
    pub fn changes(&self) -> Vec<String> {
        let objects = self.store.objects();
        objects.keys().filter(|key| key.starts_with(Name::CHANGES)).cloned().collect()
    }
}
