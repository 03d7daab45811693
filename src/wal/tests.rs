//! The WAL parser against WALs made here.

use super::*;

/// One frame to be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Write {
    page: u32,
    commit: u32,
    data: Vec<u8>,
}

/// A WAL to be encoded: what the parser has to find again.
#[derive(Clone, Debug)]
struct Plan {
    page_size: u32,
    magic: u32,
    version: u32,
    seq: u32,
    salts: [u8; 8],
    writes: Vec<Write>,
}

const LITTLE: u32 = 0x377f_0682;
const BIG: u32 = 0x377f_0683;

impl Plan {
    /// Frames for the pages, in order; a second number makes a frame the end of a commit.
    fn new(page_size: u32, frames: &[(u32, u32)]) -> Self {
        let fill = |(i, &(page, commit)): (usize, &(u32, u32))| {
            let data = (0..page_size).map(|b| (b * 7 + page * 31 + i as u32 * 3) as u8).collect();
            Write { page, commit, data }
        };
        let writes = frames.iter().enumerate().map(fill).collect();
        let (version, salts) = (3_007_000, *b"saltSALT");
        Self { page_size, magic: LITTLE, version, seq: 3, salts, writes }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for number in [self.magic, self.version, self.page_size, self.seq] {
            out.extend(number.to_be_bytes());
        }
        out.extend(self.salts);
        let mut sums = slow_sums((0, 0), &out, self.magic == BIG);
        out.extend(stored(sums));
        for Write { page, commit, data } in &self.writes {
            let head = [page.to_be_bytes(), commit.to_be_bytes()].concat();
            sums = slow_sums(slow_sums(sums, &head, self.magic == BIG), data, self.magic == BIG);
            out.extend([&head, &self.salts[..], &stored(sums), data].concat());
        }
        out
    }
}

/// The checksum written a second time, one word at a time, so that the parser has a judge.
fn slow_sums((mut s0, mut s1): (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    for (i, word) in bytes.chunks(4).enumerate() {
        let word: [u8; 4] = word.try_into().unwrap();
        let word = if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) };
        let sum = s0.wrapping_add(s1).wrapping_add(word);
        if i % 2 == 0 { s0 = sum } else { s1 = sum }
    }
    (s0, s1)
}

fn stored((s0, s1): (u32, u32)) -> [u8; 8] {
    [s0.to_be_bytes(), s1.to_be_bytes()].concat().try_into().unwrap()
}

/// Everything that a WAL's bytes hold, and why there is no more.
fn read(wal: &[u8]) -> (Vec<Write>, End) {
    let header = match Header::parse(wal) {
        Ok(header) => header,
        Err(end) => return (Vec::new(), end),
    };
    let mut frames = Frames::new(&header, header.start(), &wal[HEADER_BYTES..]);
    let writes = frames.by_ref().map(|frame| Write::from(&frame)).collect();
    (writes, frames.end().expect("the iterator is at its end"))
}

impl From<&Frame<'_>> for Write {
    fn from(frame: &Frame) -> Self {
        let (page, data) = (frame.page.0, frame.data.to_vec());
        Self { page, commit: frame.commit.unwrap_or(0), data }
    }
}

#[test]
fn a_wal_reads_back() {
    let plan = Plan::new(512, &[(1, 0), (2, 2), (7, 9)]);
    let wal = plan.encode();
    let header = Header::parse(&wal).unwrap();
    assert_eq!((header.checkpoint_seq, header.salts.0), (3, *b"saltSALT"));
    assert_eq!(read(&wal), (plan.writes, End::Exhausted));
}
