//! Encryption: a whole object, as it would be stored plain, becomes the contents of a sealed one.
//!
//! A sealed object is a container like any other (see `object`): its header has the kind, the name, the
//! id of the key and a salt, and nothing of what is inside; its blocks are the plain object's bytes, cut
//! and each sealed with XChaCha20-Poly1305. `bakelite(5)` owns the byte tables.
//!
//! Every object has a subkey of its own, the keyed BLAKE3 of its salt. The nonce is the number of the
//! block, and whether it is the last. The header is associated data of every block. So a block that
//! is moved, dropped, repeated or taken from another object is refused, and so is an object under
//! another name.
//!
//! The salt is synthetic: the keyed BLAKE3 of the name and of all plain bytes, as in SIV modes. It is not
//! compared when an object is opened: the tags have proved all that by then.
//!
//! - Under one key, a subkey meets a nonce twice only with the same bytes to seal: other bytes or another
//!   name give another salt, unless 192 bits of a keyed hash collide. A crash, a second writer, a cloned
//!   machine or a bad source of random numbers change nothing of that; none is asked.
//! - The same object sealed again has the same bytes. So a put can be repeated whatever became of
//!   the first try, and what two equal objects under one name show is that they are equal.
//!
//! This module does no I/O. Keys are wiped from memory when they are dropped, and never shown.

use crate::name::Name;
use crate::object::{
    Damage, ENTRY, Encoder, Envelope, KeyId, MAX_BYTES, SEALED_MORE, SealedObject, is_plain,
    sealed_under,
};
use crate::sabotage;
use chacha20poly1305::{AeadInOut, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// The plain bytes of a block: they and their hashes' state stay in a core's cache.
const BLOCK_BYTES: usize = 64 << 10;
const TAG_BYTES: usize = 16;

/// So many blocks add a tag and a place in the directory each.
const _: () = assert!((MAX_BYTES / BLOCK_BYTES + 1) * (TAG_BYTES + ENTRY) < SEALED_MORE / 2);

/// What keys are made from.
pub type Secret = Zeroizing<[u8; 32]>;

/// What a key is used for, each use with a key of its own.
const ID: &str = "bakelite 2026 seal 1: id of a key";
const SUBKEYS: &str = "bakelite 2026 seal 1: subkeys of objects";
const SALTS: &str = "bakelite 2026 seal 1: salts of objects";
const NAMES: &str = "bakelite 2026 seal 1: names of parts";

/// A key, as the keys that are derived from it.
pub struct Key {
    pub id: KeyId,
    subkeys: Secret,
    salts: Secret,
    names: NameKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl Key {
    pub fn new(secret: &Secret) -> Self {
        let derive = |purpose| Zeroizing::new(blake3::derive_key(purpose, &secret[..]));
        let mut id = [0; 8];
        id.copy_from_slice(&derive(ID)[..8]);
        let names = NameKey(derive(NAMES));
        Self { id: KeyId(id), subkeys: derive(SUBKEYS), salts: derive(SALTS), names }
    }

    /// Seals an object. One that is sealed already stays as it is.
    pub fn seal(&self, name: &Name, plain: &[u8]) -> Vec<u8> {
        if sealed_under(plain).is_some() {
            return plain.to_vec();
        }
        let envelope = Envelope { key: self.id, salt: self.salt(name, plain) };
        let count = plain.len().div_ceil(BLOCK_BYTES).max(1);
        let stored = plain.len() + count * (TAG_BYTES + ENTRY);
        let mut encoder = Encoder::sealed(name, &envelope, stored);
        let header = encoder.written().to_vec();
        let cipher = self.cipher(&envelope);
        for number in 0..count {
            let end = plain.len().min((number + 1) * BLOCK_BYTES);
            let nonce = nonce(number, number + 1 == count);
            encoder.sealed_block(&plain[number * BLOCK_BYTES..end], |block| {
                let tag = cipher.encrypt_inout_detached(&nonce, &header, block.into());
                tag.expect("a block is far below the cipher's limit").into()
            });
        }
        encoder.finish()
    }

    /// Opens an object that `sealed_under` says is sealed under this key.
    pub fn open(&self, name: &Name, bytes: Vec<u8>) -> Result<Vec<u8>, Damage> {
        let object = SealedObject::open(name, bytes)?;
        let cipher = self.cipher(&object.envelope);
        let opened = object.opened(|header, number, last, block| {
            let (sealed, tag) = block.split_last_chunk_mut::<TAG_BYTES>()?;
            let (nonce, tag, size) = (nonce(number, last), Tag::from(*tag), sealed.len());
            cipher.decrypt_inout_detached(&nonce, header, sealed.into(), &tag).ok()?;
            Some(size)
        });
        opened.ok_or(Damage::Forged)
    }

    fn salt(&self, name: &Name, plain: &[u8]) -> [u8; 24] {
        let name = name.to_string();
        let mut hasher = blake3::Hasher::new_keyed(&self.salts);
        hasher.update(&(name.len() as u32).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(if sabotage::is("salt-of-the-name-alone") { &[] } else { plain });
        let mut salt = [0; 24];
        hasher.finalize_xof().fill(&mut salt);
        salt
    }

    fn cipher(&self, envelope: &Envelope) -> XChaCha20Poly1305 {
        let subkey = blake3::keyed_hash(&self.subkeys, &envelope.salt);
        let subkey = Zeroizing::new(*subkey.as_bytes());
        XChaCha20Poly1305::new((&*subkey).into())
    }
}

fn nonce(number: usize, last: bool) -> XNonce {
    let mut nonce = [0; 24];
    let number = if sabotage::is("reuse-nonce") { 0 } else { number };
    nonce[..8].copy_from_slice(&(number as u64).to_le_bytes());
    nonce[8] = last.into();
    nonce.into()
}

/// Names parts: their hashes tell nobody who lacks the key which pages are in there.
#[derive(Clone)]
pub struct NameKey(Secret);

impl fmt::Debug for NameKey {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("NameKey")
    }
}

impl NameKey {
    /// The hash in a part's name, for one of its contents.
    pub fn hide(&self, hash: u128) -> u128 {
        let hidden = blake3::keyed_hash(&self.0, &hash.to_le_bytes());
        let mut half = [0; 16];
        half.copy_from_slice(&hidden.as_bytes()[..16]);
        u128::from_le_bytes(half)
    }
}

/// What of a replica is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Rule {
    /// All, if there is a key.
    #[default]
    Auto,
    /// All: what is not sealed is refused, so that nobody without a key can slip anything in.
    All,
    /// What is written from now on. What is not sealed is read as well.
    New,
    /// Nothing that is written. What is sealed is read as well.
    None,
}

impl FromStr for Rule {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "all" => Ok(Self::All),
            "new" => Ok(Self::New),
            "none" => Ok(Self::None),
            _ => Err("not one of auto, all, new, none"),
        }
    }
}

/// The keys of a database: the first one seals, all of them open.
#[derive(Debug, Default)]
pub struct Keys {
    pub all: Vec<Key>,
    pub rule: Rule,
}

impl Keys {
    /// What new objects are sealed with.
    pub fn sealing(&self) -> Option<&Key> {
        self.all.first().filter(|_| self.rule != Rule::None)
    }

    pub fn find(&self, id: KeyId) -> Option<&Key> {
        self.all.iter().find(|key| key.id == id)
    }

    /// What stands under `name`, opened. An object that no key here opens stays as it is, and so does
    /// what is no object of this version: who reads it refuses it, and knows why.
    pub fn open(&self, name: &Name, bytes: Vec<u8>) -> Result<Vec<u8>, Refused> {
        match sealed_under(&bytes).and_then(|id| self.find(id)) {
            Some(key) => key.open(name, bytes).map_err(Refused::Damaged),
            None if self.are_needed() && is_plain(&bytes) => Err(Refused::NotSealed),
            None => Ok(bytes),
        }
    }

    /// Whether an object that is not sealed is refused.
    fn are_needed(&self) -> bool {
        !self.all.is_empty()
            && matches!(self.rule, Rule::Auto | Rule::All)
            && !sabotage::is("accept-unsealed")
    }

    /// What hides the contents of parts in their names.
    pub fn names(&self) -> Option<NameKey> {
        self.sealing().map(|key| key.names.clone())
    }

    /// What may have hidden them.
    pub fn all_names(&self) -> impl Iterator<Item = &NameKey> {
        self.all.iter().map(|key| &key.names)
    }
}

/// Why an object is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Damaged(Damage),
    /// Anybody could have written it.
    NotSealed,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Damaged(damage) => damage.fmt(f),
            Self::NotSealed => {
                write!(f, "it is not sealed, and where there is a key all has to be")
            }
        }
    }
}

#[cfg(test)]
mod tests;
