//! The waist: the plain values that cross from reading a database to storing it.
//!
//! One side produces them (`wal`, `source`), the other consumes them (`object`, `daemon`, `restore`);
//! neither side sees the other. Nothing here does I/O or reads a clock.

use std::fmt;

/// A page's number within its database, counted from 1 as SQLite does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PageNo(pub u32);

/// A commit's number within its replica, counted from 1. 0 stands before the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CommitNo(pub u64);

impl CommitNo {
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("commit numbers fit 64 bits"))
    }
}

impl fmt::Display for CommitNo {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One unbroken run of a writer, counted from 1. 0 stands before the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timeline(pub u32);

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds since 1970-01-01 UTC: when the daemon first saw a commit. At most 48 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    pub const MAX: Self = Self((1 << 48) - 1);
}

/// A page size that SQLite knows: a power of two from 512 to 65536 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u32);

impl PageSize {
    pub fn new(bytes: u32) -> Option<Self> {
        (bytes.is_power_of_two() && (512..=65536).contains(&bytes)).then_some(Self(bytes))
    }

    pub fn bytes(self) -> usize {
        self.0 as usize
    }

    pub fn get(self) -> u32 {
        self.0
    }

    /// Where a page starts in the database file.
    pub fn offset(self, page: PageNo) -> u64 {
        assert!(page.0 > 0, "page numbers count from 1");
        u64::from(page.0 - 1) * u64::from(self.0)
    }
}

/// The hash of one page and its number, 128 bits of BLAKE3; zero for a page of zeros.
///
/// SQLite does not write a free page that merely lies below a grown end of the file, so a page never
/// written and a page of zeros have to look the same. Zero as "no contribution" gives just that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct PageHash(pub u128);

impl PageHash {
    pub fn of(page: PageNo, bytes: &[u8]) -> Self {
        if bytes.iter().all(|&b| b == 0) {
            return Self::default();
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(bytes).update(&page.0.to_le_bytes());
        let mut half = [0; 16];
        half.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(u128::from_le_bytes(half))
    }
}

/// The state of a whole database: the XOR over its pages' hashes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest(pub u128);

impl Digest {
    /// Takes one page's change into account.
    pub fn replace(&mut self, old: PageHash, new: PageHash) {
        self.0 ^= old.0 ^ new.0;
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What is known of one commit besides its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    pub number: CommitNo,
    pub time: Time,
    /// The size of the database after this commit, in pages.
    pub pages: u32,
    /// The state after this commit; `None` while the first snapshot has not seen every page yet.
    pub digest: Option<Digest>,
    /// It stands for every commit since the one before it: what happened in between was not seen.
    pub resync: bool,
}

impl Commit {
    const HAS_DIGEST: u8 = 1;
    const RESYNC: u8 = 2;

    /// What is optional about it as one byte, as objects and chains hold it.
    pub fn flags(&self) -> u8 {
        let digest = if self.digest.is_some() { Self::HAS_DIGEST } else { 0 };
        digest | if self.resync { Self::RESYNC } else { 0 }
    }

    /// Its digest and mark, back from `flags`; `None` for a flag that this version does not know.
    pub fn with_flags(mut self, flags: u8, digest: Digest) -> Option<Self> {
        self.digest = (flags & Self::HAS_DIGEST != 0).then_some(digest);
        self.resync = flags & Self::RESYNC != 0;
        (self.flags() == flags).then_some(self)
    }
}

/// The lineage of a commit: a hash over every commit up to it. All zeros before the first one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    /// The chain after `commit`, this being the chain before it.
    #[must_use]
    pub fn after(&self, page_size: PageSize, commit: &Commit) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(&commit.number.0.to_le_bytes());
        hasher.update(&commit.time.0.to_le_bytes());
        hasher.update(&page_size.get().to_le_bytes());
        hasher.update(&commit.pages.to_le_bytes());
        hasher.update(&[commit.flags()]);
        hasher.update(&commit.digest.unwrap_or_default().0.to_le_bytes());
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{self}")
    }
}
