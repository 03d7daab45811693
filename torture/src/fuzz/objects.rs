//! Objects: what opens is what was written, and says the same when it is written again.
//!
//! An input is an object's name on a line of its own, then its bytes. Half of the changed ones get a
//! right checksum and a right hash again; of those some were changed block by block, with a directory
//! and a lineage that fit, so that only what the blocks say is wrong.

use super::{Fuzz, Input, Is, Seen, holds, made, mutate};
use crate::rng::Rng;
use bakelite::backend::mem::Mem;
use bakelite::change::{Builder, ChangeSet, encode_part};
use bakelite::commit::{Commit, CommitNo, Digest, PageHash, PageNo, PageSize, Time, Timeline};
use bakelite::error::Status;
use bakelite::name::{Change, Name, Span};
use bakelite::object::{Compression, Damage, Encoder, Fields, Header, MAX_BYTES, Object};
use bakelite::replica;
use bakelite::snapshot::{self, Fork, Manifest, PartPages, PartRef, part_name};
use bakelite::verify::Content;
use std::collections::BTreeMap;
use std::fmt;

/// How many right objects wrong ones are made of.
pub const BASES: u64 = 40;

#[derive(Debug)]
pub struct Objects {
    bases: Vec<Base>,
    place: Mem,
}

#[derive(Clone, Debug)]
struct Base {
    name: Name,
    body: Vec<u8>,
    header: Header,
    blocks: Vec<Vec<u8>>,
}

impl Base {
    fn new((name, body): (Name, Vec<u8>)) -> Self {
        let object = Object::open(&name, body.clone()).expect("it was just written");
        let blocks = (0..object.count()).map(|number| object.block(number));
        let blocks = blocks.collect::<Result<_, Damage>>().expect("it was just written");
        Self { name, body, header: object.header, blocks }
    }

    fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new(&self.name, &self.header, Compression::None);
        self.blocks.iter().for_each(|block| encoder.block(block));
        encoder.finish()
    }

    /// Other blocks, or another header, and all that is around them right.
    fn change(&mut self, other: &Self, rng: &mut Rng) {
        let last = self.blocks.len() - 1;
        let at = if rng.one_in(3) { rng.below(last as u64 + 1) as usize } else { last };
        let with = other.blocks.last().map_or(&[][..], |block| block);
        match rng.below(10) {
            0 => self.blocks.swap(at, 0),
            1 if last > 0 => drop(self.blocks.remove(at)),
            2 => self.blocks.insert(at, other.blocks[0].clone()),
            3 => self.header.page_size = *rng.pick(&SIZES.map(size)),
            _ => mutate::bytes(&mut self.blocks[at], with, rng),
        }
        if let Name::Change(change) = &mut self.name
            && rng.one_in(2)
        {
            // The lineage follows from what the table says.
            let commits = self.blocks.last().and_then(|table| commits(table)).unwrap_or_default();
            let Header { page_size, parent, chain } = &mut self.header;
            *chain = commits.iter().fold(*parent, |chain, it| chain.after(*page_size, it));
            if let Some(last) = commits.last() {
                (change.span.last, change.span.time) = (last.number, last.time);
                change.span.first = change.span.first.min(last.number);
            }
        }
    }
}

/// The commits of a change-set's table.
fn commits(table: &[u8]) -> Option<Vec<Commit>> {
    let mut fields = Fields(table);
    let pages = fields.count(4).ok()?;
    fields.bytes(4 * pages).ok()?;
    for _ in 0..fields.count(4).ok()? {
        let writes = fields.count(4).ok()?;
        fields.bytes(4 * writes).ok()?;
    }
    let count = Fields(fields.0).count(37).ok()?;
    fields.bytes(4).ok()?;
    let one = |_| {
        let (number, time) = (CommitNo(fields.u64().ok()?), Time(fields.u64().ok()?));
        let (pages, flags) = (fields.u32().ok()?, fields.u8().ok()?);
        let commit = Commit { number, time, pages, digest: None, resync: false };
        commit.with_flags(flags, Digest(fields.u128().ok()?))
    };
    (0..count).map(one).collect()
}

const SIZES: [u32; 8] = [512, 512, 512, 512, 1024, 4096, 32_768, 65_536];

pub fn size(bytes: u32) -> PageSize {
    PageSize::new(bytes).expect("SQLite knows it")
}

pub fn input(name: &dyn fmt::Display, body: &[u8], is: Is) -> Input {
    Input { bytes: [name.to_string().as_bytes(), b"\n", body].concat(), is }
}

pub fn split(bytes: &[u8]) -> (Option<Name>, &[u8]) {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let name = std::str::from_utf8(&bytes[..end]).ok().and_then(|text| text.parse().ok());
    (name, bytes.get(end + 1..).unwrap_or_default())
}

/// Makes what guards an object right again, whatever is in it.
pub fn mend(body: &mut Vec<u8>) {
    body.resize(body.len().max(168), 0);
    let end = body.len() - 36;
    let crc = crc(&body[..end]);
    body[end..end + 4].copy_from_slice(&crc.to_le_bytes());
    let hash = blake3::hash(&body[..end + 4]);
    body[end + 4..].copy_from_slice(hash.as_bytes());
}

/// The CRC-32 of zlib.
pub fn crc(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut at = 0;
        while at < 256 {
            let (mut value, mut bit) = (at as u32, 0);
            while bit < 8 {
                value = (value >> 1) ^ (0xedb8_8320 * (value & 1));
                bit += 1;
            }
            table[at] = value;
            at += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, &byte| TABLE[((crc ^ u32::from(byte)) & 255) as usize] ^ crc >> 8)
}

impl Objects {
    fn of(make: impl Fn(&mut Rng) -> (Name, Vec<u8>)) -> Self {
        let bases = (0..BASES).map(|seed| Base::new(make(&mut Rng::of(seed, "objects"))));
        Self { bases: bases.collect(), place: Mem::new() }
    }

    pub fn changes() -> Self {
        Self::of(
            |rng| if rng.one_in(4) { made::part_of_change(rng) } else { made::change_set(rng) },
        )
    }

    pub fn manifests() -> Self {
        Self::of(made::manifest)
    }

    pub fn parts() -> Self {
        Self::of(made::part)
    }

    pub fn timelines() -> Self {
        Self::of(made::timeline)
    }

    fn refused(&self, name: &Name, damage: Damage) -> Result<Seen, String> {
        let error = replica::damaged(&self.place, name, damage);
        let status = match damage {
            Damage::NewerVersion(_) | Damage::UnknownSeal(_) | Damage::UnknownCompression(_) => {
                Status::Newer
            }
            Damage::Sealed(_) => Status::Key,
            _ => Status::Integrity,
        };
        let told = error.status == status && error.message.contains(&name.to_string());
        holds(told, || format!("{:?}: {error}", error.status))?;
        Ok(Seen::Refused)
    }
}

impl Fuzz for Objects {
    fn input(&mut self, rng: &mut Rng) -> Input {
        let (base, other) = (rng.pick(&self.bases), rng.pick(&self.bases));
        match rng.below(16) {
            0 => input(&base.name, &base.body, Is::Right),
            1..8 => {
                let mut body = base.body.clone();
                mutate::bytes(&mut body, &other.body, rng);
                let name = if rng.one_in(16) { &other.name } else { &base.name };
                input(name, &body, Is::Changed)
            }
            8..11 => {
                let mut body = base.body.clone();
                mutate::bytes(&mut body, &other.body, rng);
                mend(&mut body);
                input(&base.name, &body, Is::Mended)
            }
            _ => {
                let mut base = base.clone();
                base.change(other, rng);
                input(&base.name, &base.encode(), Is::Mended)
            }
        }
    }

    fn check(&mut self, Input { bytes, is }: &Input) -> Result<Seen, String> {
        let (Some(name), body) = split(bytes) else { return Ok(Seen::Refused) };
        let content = match Content::decode(&name, body.to_vec()) {
            Ok(content) => content,
            Err(damage) if *is == Is::Right => return Err(format!("it is refused: {damage}")),
            Err(damage) => return self.refused(&name, damage),
        };
        if *is != Is::Mended {
            let same = self.bases.iter().any(|base| base.name == name && base.body == body);
            holds(same, || "it opens, and is not what was written".to_owned())?;
        }
        let again = match (&name, content) {
            (Name::Change(change), Content::Change(set)) => change_again(change, &set),
            (Name::Snapshot(span), Content::Snapshot(manifest)) => manifest_again(*span, &manifest),
            (Name::Timeline(timeline), Content::Timeline(fork)) => timeline_again(*timeline, fork),
            (Name::Part(part), Content::Part) => part_again(*part, body),
            _ => Err("it is of another kind than its name says".to_owned()),
        };
        match again {
            Ok(Seen::Refused) if *is == Is::Right => Err("a part of it is refused".to_owned()),
            again => again,
        }
    }

    /// An object may say that it has so much in it, and no more; it is read, and written again.
    fn memory(&self, input: &Input) -> usize {
        4 * MAX_BYTES + 64 * input.bytes.len()
    }
}

type Pages = BTreeMap<PageNo, Vec<u8>>;

fn pages_at(set: &ChangeSet, target: CommitNo) -> Result<Pages, Damage> {
    let mut pages = Pages::new();
    set.pages_at(target, |page, _, bytes| {
        pages.insert(page, bytes.to_vec());
        Ok::<(), Damage>(())
    })?;
    Ok(pages)
}

/// What a merge does: each commit is taken out with its pages, and put into another change-set.
fn change_again(change: &Change, set: &ChangeSet) -> Result<Seen, String> {
    if change.part > 0 || !change.end {
        return part_of_change_again(change, set);
    }
    let Header { page_size, parent, .. } = *set.header();
    let (mut builder, mut states) = (Builder::new(page_size, parent), Vec::new());
    let (mut state, mut past) = (Pages::new(), false);
    let replayed = set.replay(|point, pages| {
        let all: Vec<_> = pages.iter().collect();
        state.extend(all.iter().map(|(page, bytes)| (*page, bytes.to_vec())));
        states.push((point.commit.number, state.clone()));
        past |= all.iter().any(|(page, _)| page.0 > point.commit.pages);
        builder.point(point, all.into_iter().filter(|(page, _)| page.0 <= point.commit.pages));
    });
    if replayed.is_err() {
        return Ok(Seen::Refused);
    }
    let timeline = change.span.timeline;
    let (name, body) = builder.encode_at(change.level, timeline, Compression::None);
    holds(name == Name::Change(*change), || format!("written again it is {name}"))?;
    let again = ChangeSet::open(change, body);
    let again = again.map_err(|damage| format!("written again: {damage}"))?;
    let same = again.points() == set.points() && again.header() == set.header();
    holds(same, || format!("{:?} became {:?}", set.points(), again.points()))?;
    for (number, state) in states {
        let wrong = |damage: Damage| format!("commit {number}: {damage}");
        let found = pages_at(set, number).map_err(wrong)?;
        holds(found == state, || format!("commit {number}: replayed it has other pages"))?;
        let found = pages_at(&again, number).map_err(wrong)?;
        holds(past || found == state, || format!("commit {number} has other pages then"))?;
    }
    Ok(Seen::Taken)
}

fn part_of_change_again(change: &Change, set: &ChangeSet) -> Result<Seen, String> {
    let pages = pages_at(set, CommitNo(u64::MAX)).map_err(|damage| damage.to_string())?;
    let commit = match &set.commits[..] {
        [] => None,
        [commit] => Some(commit),
        _ => return Ok(Seen::Taken),
    };
    let (numbers, contents): (Vec<_>, Vec<_>) = pages.clone().into_iter().unzip();
    let contents = contents.concat();
    let body = encode_part(*change, set.header(), commit, &numbers, &contents, Compression::None);
    let again = ChangeSet::open(change, body);
    // One point that stands for several commits needs more than this kind of part can say.
    let Ok(again) = again else { return Ok(Seen::Refused) };
    let same = pages_at(&again, CommitNo(u64::MAX)).map_err(|damage| damage.to_string())?;
    holds(same == pages, || "written again it has other pages".to_owned())?;
    Ok(Seen::Taken)
}

fn manifest_again(span: Span, manifest: &Manifest) -> Result<Seen, String> {
    let mut next = 1;
    for PartRef { part, pages, commit } in &manifest.parts {
        let right = u64::from(part.page.0) == next && *commit <= manifest.commit.number;
        holds(right && *pages > 0, || format!("parts that do not fit: {manifest:?}"))?;
        next += u64::from(*pages);
    }
    let again = Manifest::decode(span, manifest.encode(Compression::Zstd));
    let again = again.map_err(|damage| format!("written again: {damage}"))?;
    holds(again == *manifest, || format!("{manifest:?} became {again:?}"))?;
    Ok(Seen::Taken)
}

fn timeline_again(timeline: Timeline, fork: Fork) -> Result<Seen, String> {
    holds(fork.parent < timeline, || format!("it is older than its parent: {fork:?}"))?;
    let again = Fork::decode(timeline, fork.encode(timeline, size(512), Time(0)));
    let again = again.map_err(|damage| format!("written again: {damage}"))?;
    holds(again == fork, || format!("{fork:?} became {again:?}"))?;
    Ok(Seen::Taken)
}

fn part_again(part: bakelite::name::Part, body: &[u8]) -> Result<Seen, String> {
    let read = |body: &[u8]| {
        let opened = PartPages::open(part, body.to_vec())?;
        let (mut hashes, mut contents) = (Vec::new(), Vec::new());
        opened.each(|page, bytes| {
            hashes.push(PageHash::of(page, bytes));
            contents.extend_from_slice(bytes);
            Ok::<(), Damage>(())
        })?;
        Ok((opened.page_size(), hashes, contents))
    };
    let wrong = |damage: Damage| format!("written again: {damage}");
    let (page_size, hashes, contents) = read(body).map_err(wrong)?;
    if contents.is_empty() {
        return Ok(Seen::Taken);
    }
    let named = part_name(page_size, part.page, &hashes);
    let table = Object::open(&Name::Part(part), body.to_vec()).and_then(|object| object.table());
    let known = match table.map_err(wrong)?.get(8..) {
        Some([]) | None => named == part,
        Some(hash) => named.hash.to_le_bytes() == hash,
    };
    holds(known, || "its pages are not those that its hash names".to_owned())?;
    let hidden = (named != part).then_some(named.hash);
    let again = snapshot::encode_part(part, hidden, page_size, &contents, Compression::None);
    let same = read(&again).map_err(wrong)? == (page_size, hashes, contents);
    holds(same, || "written again it has other pages".to_owned())?;
    Ok(Seen::Taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_object_is_mended_to_itself() {
        for mut objects in [Objects::changes(), Objects::manifests(), Objects::parts()] {
            for Base { name, body, .. } in objects.bases.clone() {
                let mut mended = body.clone();
                mend(&mut mended);
                assert_eq!(mended, body, "{name}");
                assert_eq!(objects.check(&input(&name, &body, Is::Right)), Ok(Seen::Taken));
            }
        }
    }
}
