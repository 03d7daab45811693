//! Objects whose blocks are sealed, as containers: what can be told of them without a key. What is
//! inside is for `seal` to say.

use super::{Container, Damage, Head, MAGIC, SEALED, VERSION};
use crate::name::Name;
use std::fmt;

/// Where the header has the seal, and the key's id.
const SEAL_AT: usize = 11;
const KEY_AT: usize = 16;

/// The first bytes of a key's hash, which tell it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// How an object is sealed; see `seal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub key: KeyId,
    pub salt: [u8; 24],
}

/// An object whose blocks are sealed: complete, and stored as it was written, or by somebody who knows
/// how to make it seem so.
#[derive(Debug)]
pub struct SealedObject {
    pub envelope: Envelope,
    container: Container,
}

impl SealedObject {
    pub fn open(name: &Name, bytes: Vec<u8>) -> Result<Self, Damage> {
        let container = Container::open(name, bytes)?;
        let envelope = container.head.envelope.ok_or(Damage::UnknownSeal(0))?;
        if container.head != Head::around(envelope) {
            return Err(Damage::BadHeader);
        }
        // Without a block there is none that is the last.
        let blocks = &container.blocks;
        if blocks.is_empty() || blocks.iter().any(|(range, plain)| range.len() != *plain) {
            return Err(Damage::BadDirectory);
        }
        Ok(Self { envelope, container })
    }

    /// What the blocks hold, one after the other. `open` gets the header, a block's number, whether
    /// it is the last, and the block; it leaves so many bytes at the block's beginning.
    pub fn opened(
        self,
        mut open: impl FnMut(&[u8], usize, bool, &mut [u8]) -> Option<usize>,
    ) -> Option<Vec<u8>> {
        let Container { mut bytes, start, blocks, .. } = self.container;
        let header = bytes[..start].to_vec();
        let (count, mut end) = (blocks.len(), 0);
        for (number, (range, _)) in blocks.into_iter().enumerate() {
            let block = &mut bytes[range.clone()];
            let opened = open(&header, number, number + 1 == count, block)?;
            bytes.copy_within(range.start..range.start + opened, end);
            end += opened;
        }
        bytes.truncate(end);
        Some(bytes)
    }
}

/// How an object says that it is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    None,
    Under(KeyId),
    /// It is no object of this version, or could not be read.
    Unknown,
}

impl Seal {
    /// So much of an object's beginning tells.
    pub const BYTES: usize = KEY_AT + 8;

    pub fn of(start: &[u8]) -> Self {
        match sealed_under(start) {
            Some(key) => Self::Under(key),
            None if is_plain(start) => Self::None,
            None => Self::Unknown,
        }
    }
}

/// The key that an object says it is sealed under. What is no object of this version is for
/// `Object::open` to refuse.
pub fn sealed_under(bytes: &[u8]) -> Option<KeyId> {
    let id = bytes.get(KEY_AT..)?.first_chunk()?;
    (seal_of(bytes) == Some(SEALED)).then_some(KeyId(*id))
}

/// Whether this says that it is an object of this version, and not sealed.
pub fn is_plain(bytes: &[u8]) -> bool {
    seal_of(bytes) == Some(0)
}

fn seal_of(bytes: &[u8]) -> Option<u8> {
    let version = bytes.strip_prefix(&MAGIC)?.first_chunk()?;
    bytes.get(SEAL_AT).copied().filter(|_| u16::from_le_bytes(*version) == VERSION)
}
