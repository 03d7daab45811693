//! Three kinds of objects: a timeline's start, a part of a snapshot, and the manifest that names the
//! parts. `bakelite(5)` owns the byte tables.
//!
//! A snapshot rolls: each part is read at its own commit, so that nothing holds the database still
//! while a large one is copied. A part is named by the hash of its pages, so one that did not change
//! is stored once, however many snapshots name it.

use crate::change::{put_commit, take_commit};
use crate::commit::{Chain, Commit, CommitNo, PageHash, PageNo, PageSize, Time, Timeline};
use crate::name::{self, Name, Span};
use crate::object::{BLOCK_BYTES, Compression, Damage, Encoder, Fields, Header, Object};
use crate::seal::NameKey;

/// The bytes of pages that a part covers.
pub const PART_BYTES: usize = 4 << 20;

/// The pages that one part covers, given their size.
pub fn part_pages(page_size: PageSize) -> u32 {
    (PART_BYTES / page_size.bytes()) as u32
}

/// A part as its manifest names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartRef {
    pub part: name::Part,
    pub pages: u32,
    /// The commit at which it was read.
    pub commit: CommitNo,
}

impl PartRef {
    pub fn name(&self) -> Name {
        Name::Part(self.part)
    }

    /// The pages that it covers, as numbers.
    pub fn range(&self) -> std::ops::Range<u32> {
        self.part.page.0..self.part.page.0 + self.pages
    }
}

/// The name of the part that holds the pages from `first` on that hash to `hashes`.
pub fn part_name(page_size: PageSize, first: PageNo, hashes: &[PageHash]) -> name::Part {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&page_size.get().to_le_bytes());
    hasher.update(&first.0.to_le_bytes());
    hashes.iter().for_each(|hash| {
        hasher.update(&hash.0.to_le_bytes());
    });
    let mut half = [0; 16];
    half.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    name::Part { page: first, hash: u128::from_le_bytes(half) }
}

/// A part's name from which only the key tells what is in there; then its table has the hash.
pub fn hidden(part: name::Part, names: Option<&NameKey>) -> (name::Part, Option<u128>) {
    let hide = |names: &NameKey| (name::Part { hash: names.hide(part.hash), ..part }, part.hash);
    names.map(hide).map_or((part, None), |(part, hash)| (part, Some(hash)))
}

/// `bytes` are the pages one after the other, and `content` their hash, if the name hides it.
pub fn encode_part(
    part: name::Part,
    content: Option<u128>,
    page_size: PageSize,
    bytes: &[u8],
    compression: Compression,
) -> Vec<u8> {
    assert!(!bytes.is_empty() && bytes.len().is_multiple_of(page_size.bytes()), "whole pages");
    let header = Header { page_size, parent: Chain::default(), chain: Chain::default() };
    let mut encoder = Encoder::new(&Name::Part(part), &header, compression);
    bytes.chunks(BLOCK_BYTES).for_each(|block| encoder.block(block));
    let pages = (bytes.len() / page_size.bytes()) as u32;
    let mut table = [part.page.0.to_le_bytes(), pages.to_le_bytes()].concat();
    content.iter().for_each(|hash| table.extend_from_slice(&hash.to_le_bytes()));
    encoder.block(&table);
    encoder.finish()
}

/// A part's pages, a block at a time.
#[derive(Debug)]
pub struct PartPages {
    object: Object,
    first: PageNo,
    /// Of its pages.
    hash: u128,
    pages: u32,
}

impl PartPages {
    pub fn open(part: name::Part, bytes: Vec<u8>) -> Result<Self, Damage> {
        let object = Object::open(&Name::Part(part), bytes)?;
        let table = object.table()?;
        let mut fields = Fields(&table);
        let (first, pages) = (PageNo(fields.u32()?), fields.u32()?);
        let hash = if fields.end().is_ok() { part.hash } else { fields.u128()? };
        fields.end()?;
        if first != part.page || first.0 == 0 || first.0.checked_add(pages).is_none() {
            return Err(Damage::BadTable("a part that covers other pages"));
        }
        Ok(Self { object, first, hash, pages })
    }

    pub fn page_size(&self) -> PageSize {
        self.object.header.page_size
    }

    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Decodes every page, and compares them with the hash in the name, or in the table if the name
    /// hides it.
    pub fn check(&self) -> Result<(), Damage> {
        let mut hashes = Vec::new();
        self.each(|page, bytes| {
            hashes.push(PageHash::of(page, bytes));
            Ok::<(), Damage>(())
        })?;
        let same = part_name(self.page_size(), self.first, &hashes).hash == self.hash;
        same.then_some(()).ok_or(Damage::BadTable("pages other than its hash says"))
    }

    /// Hands each page to `each`, in order.
    pub fn each<E: From<Damage>>(
        &self,
        mut each: impl FnMut(PageNo, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let size = self.page_size().bytes();
        let mut page = self.first.0;
        for number in 0..self.object.count() - 1 {
            for bytes in self.object.block(number)?.chunks(size) {
                if bytes.len() != size || page - self.first.0 >= self.pages {
                    return Err(Damage::BadTable("not whole pages").into());
                }
                each(PageNo(page), bytes)?;
                page += 1;
            }
        }
        let all = page - self.first.0 == self.pages;
        all.then_some(()).ok_or(Damage::BadTable("fewer pages than it says").into())
    }
}

/// A snapshot: every page of the database, in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The commit from which on it can be restored.
    pub commit: Commit,
    pub timeline: Timeline,
    pub page_size: PageSize,
    pub chain: Chain,
    /// In the order of their pages, without a gap.
    pub parts: Vec<PartRef>,
}

impl Manifest {
    /// The oldest commit at which a part was read: the change-sets after it are needed too.
    pub fn first(&self) -> CommitNo {
        self.parts.iter().map(|part| part.commit).min().unwrap_or(self.commit.number)
    }

    pub fn name(&self) -> Name {
        let Commit { number: last, time, .. } = self.commit;
        Name::Snapshot(Span { first: self.first(), last, time, timeline: self.timeline })
    }

    pub fn encode(&self, compression: Compression) -> Vec<u8> {
        let (page_size, chain) = (self.page_size, self.chain);
        let header = Header { page_size, parent: chain, chain };
        let mut encoder = Encoder::new(&self.name(), &header, compression);
        let mut table = Vec::new();
        put_commit(&mut table, &self.commit);
        table.extend_from_slice(&(self.parts.len() as u32).to_le_bytes());
        for PartRef { part, pages, commit } in &self.parts {
            table.extend_from_slice(&part.page.0.to_le_bytes());
            table.extend_from_slice(&pages.to_le_bytes());
            table.extend_from_slice(&part.hash.to_le_bytes());
            table.extend_from_slice(&commit.0.to_le_bytes());
        }
        encoder.block(&table);
        encoder.finish()
    }

    pub fn decode(span: Span, bytes: Vec<u8>) -> Result<Self, Damage> {
        let object = Object::open(&Name::Snapshot(span), bytes)?;
        let table = object.table()?;
        let mut fields = Fields(&table);
        let commit = take_commit(&mut fields)?;
        let count = fields.count(32)?;
        let parts = (0..count).map(|_| take_part(&mut fields)).collect::<Result<Vec<_>, _>>()?;
        fields.end()?;
        let Header { page_size, chain, .. } = object.header;
        let manifest = Self { commit, timeline: span.timeline, page_size, chain, parts };
        let bad = |what| Err(Damage::BadTable(what));
        if !manifest.has_no_gap() {
            return bad("parts that leave a gap");
        }
        if manifest.name() != Name::Snapshot(span) || commit.digest.is_none() {
            return bad("commits other than its name says");
        }
        Ok(manifest)
    }

    /// Pages past the last part came to the database after it was read: change-sets hold them.
    fn has_no_gap(&self) -> bool {
        let end = self.parts.iter().try_fold(1, |next: u32, part| {
            let fits = part.pages > 0 && part.commit <= self.commit.number;
            (fits && part.part.page.0 == next).then(|| next.checked_add(part.pages)).flatten()
        });
        end.is_some()
    }
}

fn take_part(fields: &mut Fields) -> Result<PartRef, Damage> {
    let (page, pages, hash) = (PageNo(fields.u32()?), fields.u32()?, fields.u128()?);
    Ok(PartRef { part: name::Part { page, hash }, pages, commit: CommitNo(fields.u64()?) })
}

/// Where a timeline left its parent. The first one of a replica has none: all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Fork {
    pub parent: Timeline,
    pub commit: CommitNo,
    pub chain: Chain,
    /// The timeline begins with a snapshot: what happened since `commit` was not seen. Its first
    /// commit stands for all of that, and is in no change-set; until the snapshot's manifest is
    /// there, nothing of the timeline can be restored.
    pub anew: bool,
    /// The newest commit that was there when it was claimed, where only other destinations, which
    /// were away, held what came after that up to `commit`.
    pub held: Option<CommitNo>,
    /// The number was claimed because another destination was further, where it says something else:
    /// nothing was ever stored on it here.
    pub placeholder: bool,
}

impl Fork {
    const ANEW: u8 = 1;
    const PLACEHOLDER: u8 = 2;
    const HELD: u8 = 4;

    pub fn encode(&self, timeline: Timeline, page_size: PageSize, now: Time) -> Vec<u8> {
        let header = Header { page_size, parent: self.chain, chain: self.chain };
        let name = Name::Timeline(timeline);
        let mut encoder = Encoder::new(&name, &header, Compression::None);
        let mut table = Vec::new();
        table.extend_from_slice(&self.parent.0.to_le_bytes());
        table.extend_from_slice(&self.commit.0.to_le_bytes());
        table.extend_from_slice(&now.0.to_le_bytes());
        let flags = [
            (self.anew, Self::ANEW),
            (self.placeholder, Self::PLACEHOLDER),
            (self.held.is_some(), Self::HELD),
        ];
        table.push(flags.iter().filter(|(is, _)| *is).map(|(_, flag)| flag).sum());
        self.held.iter().for_each(|held| table.extend_from_slice(&held.0.to_le_bytes()));
        encoder.block(&table);
        encoder.finish()
    }

    pub fn decode(timeline: Timeline, bytes: Vec<u8>) -> Result<Self, Damage> {
        let object = Object::open(&Name::Timeline(timeline), bytes)?;
        let table = object.table()?;
        let mut fields = Fields(&table);
        let (parent, commit) = (Timeline(fields.u32()?), CommitNo(fields.u64()?));
        fields.u64()?; // when it was claimed, for people
        let flags = fields.u8()?;
        if flags & !(Self::ANEW | Self::PLACEHOLDER | Self::HELD) != 0 {
            return Err(Damage::BadTable("an unknown flag"));
        }
        let held = match flags & Self::HELD {
            0 => None,
            _ => Some(CommitNo(fields.u64()?)),
        };
        fields.end()?;
        if held >= Some(commit) {
            return Err(Damage::BadTable("more held than there was"));
        }
        let older = parent < timeline;
        let (anew, placeholder) = (flags & Self::ANEW != 0, flags & Self::PLACEHOLDER != 0);
        let chain = object.header.chain;
        let fork = Self { parent, commit, chain, anew, held, placeholder };
        older.then_some(fork).ok_or(Damage::BadTable("a timeline older than its parent"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timelines_record_says_what_was_held() {
        let (timeline, size) = (Timeline(4), PageSize::new(512).unwrap());
        let again = |fork: &Fork| Fork::decode(timeline, fork.encode(timeline, size, Time(5)));
        let fork = |held, placeholder| {
            let (parent, commit, chain) = (Timeline(3), CommitNo(9), Chain([7; 32]));
            Fork { parent, commit, chain, anew: true, held, placeholder }
        };
        for held in [None, Some(CommitNo(0)), Some(CommitNo(8))] {
            for placeholder in [false, true] {
                let fork = fork(held, placeholder);
                assert_eq!(again(&fork), Ok(fork));
            }
        }
        let wrong = Damage::BadTable("more held than there was");
        assert_eq!(again(&fork(Some(CommitNo(9)), false)), Err(wrong));
    }
}
