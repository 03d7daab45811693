//! The container that every object is: a header, blocks, a directory of the blocks, two checksums.
//!
//! `bakelite(5)` owns the byte tables; a test decodes testdata against them. What a reader may rely
//! on: an object that opens is complete, unchanged since it was written, and the one its name says.
//! A block is compressed by itself, so a reader takes only the blocks that it wants.
//!
//! This module does no I/O and does not know what the blocks of a kind mean: see `change` and
//! `snapshot`.

mod sealed;

pub use sealed::{Envelope, KeyId, Seal, SealedObject, is_plain, sealed_under};

use crate::commit::{Chain, PageSize};
use crate::name::Name;
use crate::sabotage;
use std::fmt;

pub const MAGIC: [u8; 8] = *b"bakelite";
pub const VERSION: u16 = 1;
/// No object is larger. What does not fit is split into parts.
pub const MAX_BYTES: usize = 32 << 20;
/// What sealing adds to an object stays below this, but for a second header.
pub const SEALED_MORE: usize = 64 << 10;
/// A block's bytes before compression, at most. Larger ones compress hardly better, and cost memory
/// in every writer and reader.
pub const BLOCK_BYTES: usize = 256 << 10;

const FIXED: usize = 128;
pub const ENTRY: usize = 8;
const TRAILER: usize = 4 + 4 + 32;

/// How the blocks are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compression {
    None,
    #[default]
    Zstd,
}

/// zstd's level: the fastest one. Level 3 saves 5 % of a snapshot's bytes at a third more time, and
/// this program runs beside an application on a small machine.
const LEVEL: i32 = 1;

/// What an object's header says besides its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub page_size: PageSize,
    /// The lineage before the first commit in here, and after the last one.
    pub parent: Chain,
    pub chain: Chain,
}

/// Why bytes are not the object that they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    Short,
    BadMagic,
    NewerVersion(u16),
    UnknownSeal(u8),
    /// It may be sound: its checksums are right, and nobody has opened it.
    Sealed(KeyId),
    /// What is in there was not sealed under this name with this key, or was changed.
    Forged,
    UnknownCompression(u8),
    WrongKind(u8),
    WrongName,
    BadHeader,
    BadDirectory,
    BadCrc,
    BadHash,
    BadBlock,
    /// A block decodes, but says something that cannot be.
    BadTable(&'static str),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Short => write!(f, "it ends too early"),
            Self::BadMagic => write!(f, "it is not an object of bakelite"),
            Self::NewerVersion(found) => {
                write!(f, "its format is version {found}, this program reads up to {VERSION}")
            }
            Self::UnknownSeal(found) => write!(f, "it is sealed with unknown algorithm {found}"),
            Self::Sealed(key) => write!(f, "it is sealed under key {key}, which was not given"),
            Self::Forged => write!(f, "it was changed after it was sealed"),
            Self::UnknownCompression(found) => write!(f, "unknown compression {found}"),
            Self::WrongKind(found) => write!(f, "it is of kind {found}, not what its name says"),
            Self::WrongName => write!(f, "it was written under another name"),
            Self::BadHeader => write!(f, "its header is damaged"),
            Self::BadDirectory => write!(f, "its directory is damaged"),
            Self::BadCrc => write!(f, "its CRC-32 is wrong"),
            Self::BadHash => write!(f, "its hash is wrong"),
            Self::BadBlock => write!(f, "a block does not decompress"),
            Self::BadTable(what) => write!(f, "its table is wrong: {what}"),
        }
    }
}

impl std::error::Error for Damage {}

fn kind_byte(name: &Name) -> u8 {
    match name {
        Name::Timeline(_) => 1,
        Name::Snapshot(_) => 2,
        Name::Part(_) => 3,
        Name::Change(_) => 4,
    }
}

/// Builds one object. Blocks are compressed as they come, so only the result is held.
pub struct Encoder {
    body: Vec<u8>,
    directory: Vec<u8>,
    compression: Compression,
    /// The blocks' bytes before compression, where they are compressed here.
    plain: usize,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Encoder({} bytes)", self.body.len())
    }
}

impl Encoder {
    pub fn new(name: &Name, header: &Header, compression: Compression) -> Self {
        let Header { page_size, parent, chain } = *header;
        let page_size = page_size.get();
        Self::begin(name, &Head { compression, envelope: None, page_size, parent, chain })
    }

    /// One whose blocks are sealed already and have so many bytes in all. What else a header says is
    /// inside.
    pub fn sealed(name: &Name, envelope: &Envelope, bytes: usize) -> Self {
        let mut encoder = Self::begin(name, &Head::around(*envelope));
        encoder.body.reserve_exact(bytes + TRAILER);
        encoder
    }

    fn begin(name: &Name, head: &Head) -> Self {
        let (body, compression) = (head.encode(name), head.compression);
        Self { body, directory: Vec::new(), compression, plain: 0 }
    }

    /// What was written so far: at the beginning, the header.
    pub fn written(&self) -> &[u8] {
        &self.body
    }

    pub fn block(&mut self, plain: &[u8]) {
        self.plain += plain.len();
        let start = self.body.len();
        match self.compression {
            Compression::None => self.body.extend_from_slice(plain),
            Compression::Zstd => compress(plain, &mut self.body),
        }
        let stored = (self.body.len() - start) as u32;
        self.directory.extend_from_slice(&stored.to_le_bytes());
        self.directory.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    }

    /// Adds a block, sealed in its place by `seal`, which gives the tag that comes after it.
    pub fn sealed_block(&mut self, plain: &[u8], seal: impl FnOnce(&mut [u8]) -> [u8; 16]) {
        let start = self.body.len();
        self.body.extend_from_slice(plain);
        let tag = seal(&mut self.body[start..]);
        self.body.extend_from_slice(&tag);
        let stored = ((self.body.len() - start) as u32).to_le_bytes();
        self.directory.extend_from_slice(&stored);
        self.directory.extend_from_slice(&stored);
    }

    pub fn finish(self) -> Vec<u8> {
        let Self { mut body, directory, plain, .. } = self;
        body.extend_from_slice(&directory);
        body.extend_from_slice(&((directory.len() / ENTRY) as u32).to_le_bytes());
        body.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        let hash = blake3::hash(&body);
        body.extend_from_slice(hash.as_bytes());
        let most = most(&body);
        assert!(body.len() <= most, "an object has at most {most} bytes");
        assert!(plain <= most, "nor has it more before compression");
        body
    }
}

thread_local! {
    /// One compressor a thread: its tables are half a megabyte, and clearing them costs more than a
    /// small block.
    static COMPRESSOR: std::cell::RefCell<zstd::bulk::Compressor<'static>> =
        std::cell::RefCell::new(zstd::bulk::Compressor::new(LEVEL).expect("level 1 exists"));
    /// And one decompressor, for the same reason.
    static DECOMPRESSOR: std::cell::RefCell<zstd::bulk::Decompressor<'static>> =
        std::cell::RefCell::new(zstd::bulk::Decompressor::new().expect("memory is all it needs"));
}

/// Into the body itself: a buffer of its own costs more to get from the system than to fill.
fn compress(plain: &[u8], body: &mut Vec<u8>) {
    let start = body.len();
    body.resize(start + zstd::zstd_safe::compress_bound(plain.len()), 0);
    let room = &mut body[start..];
    let done = COMPRESSOR.with_borrow_mut(|compressor| compressor.compress_to_buffer(plain, room));
    body.truncate(start + done.expect("memory is the only thing it can lack"));
}

/// An object that was opened: complete, unchanged, and the one its name says.
pub struct Object {
    pub header: Header,
    bytes: Vec<u8>,
    compression: Compression,
    /// Where each block is stored, and its bytes before compression.
    blocks: Vec<(std::ops::Range<usize>, usize)>,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Object({:?}, {} blocks)", self.header, self.blocks.len())
    }
}

impl Object {
    pub fn open(name: &Name, bytes: Vec<u8>) -> Result<Self, Damage> {
        let Container { head, bytes, blocks, .. } = Container::open(name, bytes)?;
        if let Some(envelope) = head.envelope {
            return Err(Damage::Sealed(envelope.key));
        }
        let Head { compression, parent, chain, page_size, .. } = head;
        let page_size = PageSize::new(page_size).ok_or(Damage::BadHeader)?;
        Ok(Self { header: Header { page_size, parent, chain }, bytes, compression, blocks })
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// How many blocks it has.
    pub fn count(&self) -> usize {
        self.blocks.len()
    }

    pub fn block(&self, number: usize) -> Result<Vec<u8>, Damage> {
        let (range, plain) = self.blocks.get(number).ok_or(Damage::BadTable("no such block"))?;
        let stored = &self.bytes[range.clone()];
        let block = match self.compression {
            Compression::None => stored.to_vec(),
            Compression::Zstd => {
                let plain = DECOMPRESSOR.with_borrow_mut(|it| it.decompress(stored, *plain));
                plain.map_err(|_| Damage::BadBlock)?
            }
        };
        (block.len() == *plain).then_some(block).ok_or(Damage::BadBlock)
    }

    /// How many bytes a block has before compression.
    pub fn block_bytes(&self, number: usize) -> usize {
        self.blocks[number].1
    }

    /// The last block: what the others hold.
    pub fn table(&self) -> Result<Vec<u8>, Damage> {
        self.block(self.blocks.len().checked_sub(1).ok_or(Damage::BadTable("no blocks"))?)
    }
}

/// What a header says besides its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    compression: Compression,
    envelope: Option<Envelope>,
    page_size: u32,
    parent: Chain,
    chain: Chain,
}

const SEALED: u8 = 1;

impl Head {
    /// That of a sealed object says nothing of what is inside.
    fn around(envelope: Envelope) -> Self {
        let (parent, chain) = (Chain::default(), Chain::default());
        let envelope = Some(envelope);
        Self { compression: Compression::None, envelope, page_size: 0, parent, chain }
    }

    fn encode(&self, name: &Name) -> Vec<u8> {
        let name_text = name.to_string();
        let mut bytes = Vec::with_capacity(FIXED + name_text.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.push(kind_byte(name));
        bytes.push(if self.envelope.is_some() { SEALED } else { 0 });
        bytes.push(matches!(self.compression, Compression::Zstd).into());
        bytes.extend_from_slice(&[0; 3]);
        let none = Envelope { key: KeyId([0; 8]), salt: [0; 24] };
        let Envelope { key, salt } = self.envelope.unwrap_or(none);
        bytes.extend_from_slice(&key.0);
        bytes.extend_from_slice(&salt);
        bytes.extend_from_slice(&self.page_size.to_le_bytes());
        bytes.extend_from_slice(&(name_text.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.parent.0);
        bytes.extend_from_slice(&self.chain.0);
        bytes.extend_from_slice(&[0; 8]);
        assert_eq!(bytes.len(), FIXED, "the header's size is part of the format");
        bytes.extend_from_slice(name_text.as_bytes());
        bytes
    }

    /// What the header says, and where it ends.
    fn decode(name: &Name, bytes: &[u8]) -> Result<(Self, usize), Damage> {
        let mut fields = Fields(bytes.get(MAGIC.len()..FIXED).ok_or(Damage::Short)?);
        match u16::from_le_bytes(fields.array()?) {
            VERSION => {}
            0 => return Err(Damage::BadHeader),
            newer => return Err(Damage::NewerVersion(newer)),
        }
        let [kind, seal, compression] = fields.array()?;
        if kind != kind_byte(name) {
            return Err(Damage::WrongKind(kind));
        }
        if seal > SEALED {
            return Err(Damage::UnknownSeal(seal));
        }
        let compression = match compression {
            0 => Compression::None,
            1 => Compression::Zstd,
            other => return Err(Damage::UnknownCompression(other)),
        };
        if fields.array()? != [0; 3] {
            return Err(Damage::BadHeader);
        }
        let envelope = Envelope { key: KeyId(fields.array()?), salt: fields.array()? };
        let envelope = match seal {
            SEALED => Some(envelope),
            _ if envelope == (Envelope { key: KeyId([0; 8]), salt: [0; 24] }) => None,
            _ => return Err(Damage::BadHeader),
        };
        let (page_size, name_bytes) = (fields.u32()?, fields.u32()? as usize);
        let (parent, chain) = (Chain(fields.array()?), Chain(fields.array()?));
        if fields.array()? != [0; 8] {
            return Err(Damage::BadHeader);
        }
        let written = bytes.get(FIXED..FIXED.saturating_add(name_bytes)).ok_or(Damage::Short)?;
        if written != name.to_string().as_bytes() {
            return Err(Damage::WrongName);
        }
        Ok((Self { compression, envelope, page_size, parent, chain }, FIXED + name_bytes))
    }
}

/// An object's frame: all is where it should be, and as it was stored.
#[derive(Debug)]
struct Container {
    head: Head,
    bytes: Vec<u8>,
    /// Where the blocks begin.
    start: usize,
    blocks: Blocks,
}

impl Container {
    fn open(name: &Name, bytes: Vec<u8>) -> Result<Self, Damage> {
        let end = bytes.len().checked_sub(TRAILER).ok_or(Damage::Short)?;
        if !bytes.starts_with(&MAGIC) {
            return Err(Damage::BadMagic);
        }
        // First, and alike in all versions: what a damaged header says of its version means nothing.
        let (summed, hash) = bytes.split_at(bytes.len() - 32);
        if blake3::hash(summed).as_bytes() != hash && !sabotage::is("accept-damage") {
            return Err(Damage::BadHash);
        }
        let (head, start) = Head::decode(name, &bytes)?;
        check_crc(summed)?;
        let blocks = read_directory(&bytes, start, end)?;
        Ok(Self { head, bytes, start, blocks })
    }
}

/// How many bytes an object may have, stored and before compression. One that is sealed holds another.
fn most(bytes: &[u8]) -> usize {
    MAX_BYTES + if sealed_under(bytes).is_some() { SEALED_MORE } else { 0 }
}

fn check_crc(summed: &[u8]) -> Result<(), Damage> {
    let (body, crc) = summed.split_at(summed.len() - 4);
    let sound = crc32fast::hash(body).to_le_bytes() == crc || sabotage::is("accept-damage");
    sound.then_some(()).ok_or(Damage::BadCrc)
}

type Blocks = Vec<(std::ops::Range<usize>, usize)>;

fn read_directory(bytes: &[u8], start: usize, end: usize) -> Result<Blocks, Damage> {
    let count = Fields(&bytes[end..]).u32()? as usize;
    let directory = count.checked_mul(ENTRY).and_then(|size| end.checked_sub(size));
    let directory = directory.filter(|&at| at >= start).ok_or(Damage::BadDirectory)?;
    let mut entries = Fields(&bytes[directory..end]);
    let (mut at, mut left) = (start, most(bytes));
    let mut blocks = Vec::with_capacity(count);
    for _ in 0..count {
        let (stored, plain) = (entries.u32()? as usize, entries.u32()? as usize);
        let next = at.checked_add(stored).filter(|&next| next <= directory);
        let next = next.ok_or(Damage::BadDirectory)?;
        // So that a small object cannot ask for more memory than a large one.
        left = left.checked_sub(plain).ok_or(Damage::BadDirectory)?;
        blocks.push((at..next, plain));
        at = next;
    }
    (at == directory).then_some(blocks).ok_or(Damage::BadDirectory)
}

/// Little-endian fields off the front of a table.
#[derive(Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Damage> {
        let (front, rest) = self.0.split_at_checked(count).ok_or(Damage::Short)?;
        self.0 = rest;
        Ok(front)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    pub fn u8(&mut self) -> Result<u8, Damage> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, Damage> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Damage> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Damage> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn u128(&mut self) -> Result<u128, Damage> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    /// A count of things of at least `least` bytes each; one that the rest cannot hold is damage,
    /// so that nothing is allocated on a damaged table's word.
    pub fn count(&mut self, least: usize) -> Result<usize, Damage> {
        let count = self.u32()? as usize;
        let fits = count.checked_mul(least).is_some_and(|size| size <= self.0.len());
        fits.then_some(count).ok_or(Damage::BadTable("a count past its end"))
    }

    /// Nothing may follow the last field.
    pub fn end(&self) -> Result<(), Damage> {
        self.0.is_empty().then_some(()).ok_or(Damage::BadTable("bytes after its end"))
    }
}

#[cfg(test)]
mod tests;
