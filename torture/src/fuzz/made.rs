//! Right objects of every kind, as the program writes them: small ones, with something odd in many.

use super::objects::size;
use super::sealed::keys;
use crate::rng::Rng;
use bakelite::change::{Builder, Point, encode_part};
use bakelite::commit::{Chain, Commit, CommitNo, Digest, PageHash, PageNo, Time, Timeline};
use bakelite::name::{self, Change, Name, Span};
use bakelite::object::{Compression, Header};
use bakelite::seal::{NameKey, Rule};
use bakelite::snapshot::{self, Fork, Manifest, PartRef, part_name};
use std::collections::BTreeMap;

fn compression(rng: &mut Rng) -> Compression {
    if rng.one_in(3) { Compression::Zstd } else { Compression::None }
}

fn chain(rng: &mut Rng) -> Chain {
    let mut chain = Chain::default();
    chain.0.iter_mut().for_each(|byte| *byte = rng.number() as u8);
    chain
}

fn commit(number: u64, pages: u32, rng: &mut Rng) -> Commit {
    let digest = (!rng.one_in(5)).then(|| Digest(u128::from(rng.number()) << 60));
    let (number, time) = (CommitNo(number), Time(1_700_000_000_000 + 10 * number));
    Commit { number, time, pages, digest, resync: rng.one_in(5) }
}

pub fn change_set(rng: &mut Rng) -> (Name, Vec<u8>) {
    let page_size = size(if rng.one_in(8) { 1024 } else { 512 });
    let mut builder = Builder::new(page_size, chain(rng));
    let (mut next, squashed) = (rng.between(1, 300), rng.one_in(3));
    let mut page = rng.bytes(page_size.bytes());
    for _ in 0..rng.between(1, 4) {
        let first = CommitNo(next);
        next += if squashed { rng.below(3) } else { 0 };
        let commit = commit(next, rng.between(2, 6) as u32, rng);
        next += 1;
        let mut written = BTreeMap::<PageNo, Vec<u8>>::new();
        for _ in 0..rng.below(3) {
            let at = rng.below(page.len() as u64 - 8) as usize;
            let more = rng.bytes_of(0, 8);
            page[at..at + more.len()].copy_from_slice(&more);
            written.insert(PageNo(rng.between(1, commit.pages.into()) as u32), page.clone());
        }
        let least = rng.between(1, commit.pages.into()) as u32;
        let pages = written.iter().map(|(page, bytes)| (*page, &bytes[..]));
        if first == commit.number {
            builder.commit(commit, pages);
        } else {
            let chain = chain(rng);
            builder.point(Point { first, commit, chain, least }, pages);
        }
    }
    builder.encode_at(rng.below(4) as u8, Timeline(1), compression(rng))
}

pub fn part_of_change(rng: &mut Rng) -> (Name, Vec<u8>) {
    let end = rng.one_in(2);
    let commit = commit(rng.between(1, 300), 9, rng);
    let page_size = size(512);
    let parent = chain(rng);
    let chain = if end { parent.after(page_size, &commit) } else { parent };
    let span = Span {
        first: commit.number,
        last: commit.number,
        time: commit.time,
        timeline: Timeline(2),
    };
    let change = Change { level: 0, span, part: rng.below(3) as u16 + u16::from(end), end };
    let pages = [PageNo(2), PageNo(3), PageNo(7)];
    let header = Header { page_size, parent, chain };
    let contents = rng.bytes(3 * 512);
    let commit = end.then_some(&commit);
    (
        Name::Change(change),
        encode_part(change, &header, commit, &pages, &contents, compression(rng)),
    )
}

pub fn manifest(rng: &mut Rng) -> (Name, Vec<u8>) {
    let last = commit(rng.between(20, 40), 90, rng);
    let commit = Commit { digest: Some(Digest(7)), ..last };
    let mut page = 1;
    let parts = (0..rng.below(5)).map(|_| {
        let (first, pages) = (PageNo(page), rng.between(1, 30) as u32);
        page += pages;
        let part = name::Part { page: first, hash: rng.number().into() };
        PartRef { part, pages, commit: CommitNo(rng.between(1, 20)) }
    });
    let (parts, chain) = (parts.collect(), chain(rng));
    let manifest = Manifest { commit, timeline: Timeline(1), page_size: size(512), chain, parts };
    (manifest.name(), manifest.encode(compression(rng)))
}

pub fn part(rng: &mut Rng) -> (Name, Vec<u8>) {
    let (page_size, first) = (size(512), PageNo(1 + 8192 * rng.below(3) as u32));
    let pages = rng.between(1, 4) as usize;
    let contents = rng.bytes(512 * pages);
    let pages = (first.0..).zip(contents.chunks(512));
    let hashes: Vec<_> = pages.map(|(page, bytes)| PageHash::of(PageNo(page), bytes)).collect();
    let names: Option<NameKey> = keys(Rule::Auto).names().filter(|_| rng.one_in(2));
    let (part, hidden) = snapshot::hidden(part_name(page_size, first, &hashes), names.as_ref());
    let body = snapshot::encode_part(part, hidden, page_size, &contents, compression(rng));
    (Name::Part(part), body)
}

pub fn timeline(rng: &mut Rng) -> (Name, Vec<u8>) {
    let (timeline, anew) = (Timeline(rng.between(2, 9) as u32), rng.one_in(2));
    let (commit, chain) = (CommitNo(rng.below(99)), chain(rng));
    let parent = Timeline(rng.below(timeline.0.into()) as u32);
    let held = Some(CommitNo(commit.0 / 2)).filter(|held| *held < commit && rng.one_in(2));
    let placeholder = rng.one_in(2);
    let fork = Fork { parent, commit, chain, anew, held, placeholder };
    (Name::Timeline(timeline), fork.encode(timeline, size(512), Time(rng.below(1 << 40))))
}
