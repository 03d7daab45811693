//! WALs made to order, written after the specification a second time, and what must hold for each.

use super::super::*;
use super::read;
use quickcheck::{Arbitrary, Gen, quickcheck};

pub const LITTLE: u32 = 0x377f_0682;
pub const BIG: u32 = 0x377f_0683;
pub const SIZES: [u32; 8] = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];

/// One frame to be encoded.
#[derive(Clone, PartialEq, Eq)]
pub struct Write {
    pub page: u32,
    pub commit: u32,
    pub data: Vec<u8>,
}

impl fmt::Debug for Write {
    /// Without data, which would fill the screen. An arbitrary plan's follows from the rest.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.page, self.commit)
    }
}

/// A WAL to be encoded: what the parser has to find again.
#[derive(Clone, Debug)]
pub struct Plan {
    pub page_size: u32,
    pub magic: u32,
    pub version: u32,
    pub seq: u32,
    pub salts: [u8; 8],
    pub writes: Vec<Write>,
}

impl Plan {
    /// Frames for the pages, in order; a second number makes a frame the end of a commit.
    pub fn new(page_size: u32, frames: &[(u32, u32)]) -> Self {
        let fill = |(i, &(page, commit)): (usize, &(u32, u32))| {
            let data = (0..page_size).map(|b| (b * 7 + page * 31 + i as u32 * 3) as u8).collect();
            Write { page, commit, data }
        };
        let writes = frames.iter().enumerate().map(fill).collect();
        let (version, salts) = (3_007_000, *b"saltSALT");
        Self { page_size, magic: LITTLE, version, seq: 3, salts, writes }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for number in [self.magic, self.version, self.page_size, self.seq] {
            out.extend(number.to_be_bytes());
        }
        out.extend(self.salts);
        let mut sums = add((0, 0), &out, self.magic);
        out.extend(stored(sums));
        for Write { page, commit, data } in &self.writes {
            let head = [page.to_be_bytes(), commit.to_be_bytes()].concat();
            sums = add(add(sums, &head, self.magic), data, self.magic);
            out.extend([&head, &self.salts[..], &stored(sums), data].concat());
        }
        out
    }

    fn frame_bytes(&self) -> usize {
        24 + self.page_size as usize
    }
}

/// The checksum one word at a time, so that the parser has a judge.
pub fn add((mut s0, mut s1): (u32, u32), bytes: &[u8], magic: u32) -> (u32, u32) {
    for (i, word) in bytes.chunks(4).enumerate() {
        let word: [u8; 4] = word.try_into().unwrap();
        let word = if magic == BIG { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) };
        let sum = s0.wrapping_add(s1).wrapping_add(word);
        if i % 2 == 0 { s0 = sum } else { s1 = sum }
    }
    (s0, s1)
}

pub fn stored((s0, s1): (u32, u32)) -> [u8; 8] {
    [s0.to_be_bytes(), s1.to_be_bytes()].concat().try_into().unwrap()
}

impl From<&Frame<'_>> for Write {
    fn from(frame: &Frame) -> Self {
        let (page, data) = (frame.page.0, frame.data.to_vec());
        Self { page, commit: frame.commit.unwrap_or(0), data }
    }
}

impl Arbitrary for Write {
    /// Without data: the plan that it becomes a part of knows how much.
    fn arbitrary(g: &mut Gen) -> Self {
        let commit = if bool::arbitrary(g) { u32::arbitrary(g) } else { 0 };
        Self { page: u32::arbitrary(g).max(1), commit, data: Vec::new() }
    }
}

impl Arbitrary for Plan {
    fn arbitrary(g: &mut Gen) -> Self {
        let page_size = *g.choose(&SIZES).unwrap();
        let mut writes = Vec::<Write>::arbitrary(g);
        writes.truncate(if page_size > 4096 { 3 } else { 12 });
        for (i, write) in writes.iter_mut().enumerate() {
            write.data = noise(u64::from(write.page) << 32 | i as u64, page_size as usize);
        }
        let salts = u64::arbitrary(g).to_be_bytes();
        let (magic, seq) = (*g.choose(&[LITTLE, BIG]).unwrap(), u32::arbitrary(g));
        Self { page_size, magic, version: 3_007_000, seq, salts, writes }
    }
}

/// Bytes without a pattern, always the same for a seed.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

#[test]
fn a_wal_reads_back() {
    fn property(plan: Plan) -> bool {
        let wal = plan.encode();
        let header = Header::parse(&wal).unwrap();
        assert_eq!(header.page_size.get(), plan.page_size);
        assert_eq!((header.salts.0, header.checkpoint_seq), (plan.salts, plan.seq));
        assert_eq!(header.big_endian, plan.magic == BIG);
        read(&wal) == (plan.writes, End::Exhausted)
    }
    quickcheck(property as fn(Plan) -> bool);
}

#[test]
fn any_truncation_gives_the_whole_frames_before_it() {
    fn property(plan: Plan, cut: usize) -> bool {
        let wal = plan.encode();
        let cut = cut % (wal.len() + 1);
        let whole = cut.saturating_sub(32) / plan.frame_bytes();
        let end = match cut.checked_sub(32) {
            None => End::ShortHeader,
            Some(bytes) if bytes % plan.frame_bytes() == 0 => End::Exhausted,
            Some(_) => End::ShortFrame,
        };
        read(&wal[..cut]) == (plan.writes[..whole].to_vec(), end)
    }
    quickcheck(property as fn(Plan, usize) -> bool);
}

/// The sums lose no flipped bit: each step can be undone, so two states never become one.
#[test]
fn any_bit_flip_gives_the_frames_before_it() {
    fn property(plan: Plan, bit: usize) -> bool {
        let mut wal = plan.encode();
        let bit = bit % (wal.len() * 8);
        wal[bit / 8] ^= 1 << (bit % 8);
        let whole = (bit / 8).saturating_sub(32) / plan.frame_bytes();
        let (writes, end) = read(&wal);
        writes == plan.writes[..whole] && end != End::Exhausted
    }
    quickcheck(property as fn(Plan, usize) -> bool);
}

#[test]
fn reading_on_from_a_position_gives_the_same_frames() {
    fn property(plan: Plan, at: usize) -> bool {
        let wal = plan.encode();
        let header = Header::parse(&wal).unwrap();
        let at = at % (plan.writes.len() + 1);
        let (first, second) = wal[32..].split_at(at * plan.frame_bytes());
        let mut frames = Frames::new(&header, header.start(), first);
        let mut writes: Vec<_> = frames.by_ref().map(|frame| Write::from(&frame)).collect();
        let position = frames.position();
        assert_eq!(header.frame_offset(position.frame + 1), 32 + first.len() as u64);
        let rest: Vec<_> = Frames::new(&header, position, second).collect();
        assert!(rest.iter().zip(at as u32 + 1..).all(|(frame, number)| frame.number == number));
        writes.extend(rest.iter().map(Write::from));
        writes == plan.writes && frames.end() == Some(End::Exhausted)
    }
    quickcheck(property as fn(Plan, usize) -> bool);
}

/// What makes a remembered position cheap to verify.
#[test]
fn the_checksum_in_a_frame_is_that_of_the_position_after_it() {
    fn property(plan: Plan) -> bool {
        let wal = plan.encode();
        let header = Header::parse(&wal).unwrap();
        Frames::new(&header, header.start(), &wal[32..]).all(|frame| {
            let bytes = &wal[header.frame_offset(frame.number) as usize..];
            frame_checksum(bytes) == frame.position.checksum && frame_salts(bytes) == header.salts
        })
    }
    quickcheck(property as fn(Plan) -> bool);
}
