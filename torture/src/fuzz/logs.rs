//! WALs, written and read a second time after SQLite's specification, and wrong ones made of right ones.
//!
//! A log is taken apart, changed as a log, and put together with its checksums right; or changed as
//! bytes, with or without its checksums made right again.

use super::{Fuzz, Input, Is, Seen, holds, mutate};
use crate::rng::{Rng, shuffle};
use bakelite::wal::{End, Frames, HEADER_BYTES, Header};
use std::path::Path;

const LITTLE: u32 = 0x377f_0682;
const BIG: u32 = 0x377f_0683;
const VERSION: u32 = 3_007_000;
const FRAME_HEADER: usize = 24;

/// A log taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub magic: u32,
    pub version: u32,
    pub page_size: u32,
    pub seq: u32,
    pub salts: [u8; 8],
    pub writes: Vec<Write>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub page: u32,
    /// The pages of the database, where it ends a commit.
    pub commit: u32,
    pub data: Vec<u8>,
}

/// One word at a time, unlike the program.
fn sum((mut s0, mut s1): (u32, u32), bytes: &[u8], big: bool) -> (u32, u32) {
    for pair in bytes.chunks_exact(8) {
        let word = |at: usize| {
            let word = [pair[at], pair[at + 1], pair[at + 2], pair[at + 3]];
            if big { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
        };
        s0 = s0.wrapping_add(word(0)).wrapping_add(s1);
        s1 = s1.wrapping_add(word(4)).wrapping_add(s0);
    }
    (s0, s1)
}

fn stored((s0, s1): (u32, u32)) -> [u8; 8] {
    (u64::from(s0) << 32 | u64::from(s1)).to_be_bytes()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Log {
    pub fn encode(&self) -> Vec<u8> {
        let frame = FRAME_HEADER + self.page_size as usize;
        let mut out = Vec::with_capacity(HEADER_BYTES + self.writes.len() * frame);
        for number in [self.magic, self.version, self.page_size, self.seq] {
            out.extend(number.to_be_bytes());
        }
        out.extend(self.salts);
        let big = self.magic & 1 == 1;
        let mut sums = sum((0, 0), &out, big);
        out.extend(stored(sums));
        for Write { page, commit, data } in &self.writes {
            let start = out.len();
            out.extend(page.to_be_bytes());
            out.extend(commit.to_be_bytes());
            sums = sum(sum(sums, &out[start..], big), data, big);
            out.extend(self.salts);
            out.extend(stored(sums));
            out.extend(data);
        }
        out
    }

    /// What counts of a log, and why there is no more.
    pub fn decode(bytes: &[u8]) -> Result<(Self, End), End> {
        let head = bytes.get(..HEADER_BYTES).ok_or(End::ShortHeader)?;
        let magic = word(head, 0);
        if magic != LITTLE && magic != BIG {
            return Err(End::BadMagic);
        }
        let page_size = word(head, 8);
        if !(9..=16).any(|power| page_size == 1 << power) {
            return Err(End::BadPageSize);
        }
        let big = magic == BIG;
        let mut sums = sum((0, 0), &head[..24], big);
        if stored(sums) != head[24..] {
            return Err(End::BadHeaderChecksum);
        }
        if word(head, 4) != VERSION {
            return Err(End::BadVersion);
        }
        let mut salts = [0; 8];
        salts.copy_from_slice(&head[16..24]);
        let seq = word(head, 12);
        let mut log = Self { magic, version: VERSION, page_size, seq, salts, writes: Vec::new() };
        let mut end = End::Exhausted;
        for frame in bytes[HEADER_BYTES..].chunks(FRAME_HEADER + page_size as usize) {
            if frame.len() < FRAME_HEADER + page_size as usize {
                end = End::ShortFrame;
                break;
            }
            let data = &frame[FRAME_HEADER..];
            let after = sum(sum(sums, &frame[..8], big), data, big);
            let bad = [
                (frame[8..16] != salts, End::ForeignSalt),
                (word(frame, 0) == 0, End::ZeroPage),
                (frame[16..24] != stored(after), End::BadChecksum),
            ];
            if let Some((_, why)) = bad.into_iter().find(|(bad, _)| *bad) {
                end = why;
                break;
            }
            sums = after;
            log.writes.push(Write {
                page: word(frame, 0),
                commit: word(frame, 4),
                data: data.to_vec(),
            });
        }
        Ok((log, end))
    }

    /// One change of what it says. `most`: commits say no larger a database than this, mostly.
    fn change(&mut self, most: u64, rng: &mut Rng) {
        if self.writes.is_empty() {
            return;
        }
        let count = self.writes.len() as u64;
        let (a, b) = (rng.below(count) as usize, rng.below(count) as usize);
        let write = &mut self.writes[a];
        match rng.below(13) {
            0 => write.page = rng.below(9) as u32,
            1 => write.page = rng.number() as u32,
            2 | 3 => write.commit = rng.below(most) as u32,
            4 if rng.one_in(8) => write.commit = rng.number() as u32,
            4 => write.commit = 0,
            5 => write.data = rng.bytes(write.data.len()),
            6 => {
                let at = rng.below(write.data.len() as u64) as usize;
                write.data[at] = rng.number() as u8;
            }
            7 => self.writes.swap(a, b),
            8 => self.writes.truncate(a.max(1)),
            9 => self.writes.insert(b, self.writes[a].clone()),
            10 => self.salts = rng.number().to_be_bytes(),
            11 => self.magic ^= 1,
            _ => {
                drop(self.writes.remove(a));
            }
        }
    }
}

/// A log changed in some way that has a meaning: `Is::Mended` where its checksums are right.
pub fn changed(base: &Log, other: &Log, rng: &mut Rng) -> (Vec<u8>, Is) {
    let mut log = base.clone();
    let most = 2 + (64 << 10) / u64::from(log.page_size);
    for _ in 0..rng.below(4) {
        log.change(most, rng);
    }
    let mut wal = log.encode();
    match rng.below(12) {
        0..4 => return (wal, Is::Mended),
        4 => mutate::bytes(&mut wal, &other.encode(), rng),
        5 => wal.truncate(rng.below(wal.len() as u64 + 1) as usize),
        6 => old_behind(&mut wal, &log, other, rng),
        7 => frames(&mut wal, &log, rng),
        8 => header(&mut wal, rng),
        9 => sector(&mut wal, rng),
        10 => {
            // The header of one generation before the frames of another.
            let with = other.encode();
            wal[..HEADER_BYTES].copy_from_slice(&with[..HEADER_BYTES]);
        }
        _ => {
            let bit = rng.below(wal.len() as u64 * 8) as usize;
            wal[bit / 8] ^= 1 << (bit % 8);
        }
    }
    (wal, Is::Changed)
}

/// Frames of the generation before, as a reset leaves them: sound by themselves, with other salts.
fn old_behind(wal: &mut Vec<u8>, log: &Log, other: &Log, rng: &mut Rng) {
    let mut old = Log { writes: other.writes.clone(), ..log.clone() };
    old.writes.retain(|write| write.data.len() == log.page_size as usize);
    old.salts[3] = old.salts[3].wrapping_sub(1);
    if rng.one_in(2) {
        old.salts[4..].copy_from_slice(&(rng.number() as u32).to_be_bytes());
    }
    let old = old.encode();
    let kept = wal.len().min(old.len());
    wal.extend_from_slice(&old[kept..]);
}

/// Frames moved, their salts or checksums changed, their page zero.
fn frames(wal: &mut [u8], log: &Log, rng: &mut Rng) {
    let bytes = FRAME_HEADER + log.page_size as usize;
    let count = wal[HEADER_BYTES..].len() / bytes;
    if count == 0 {
        return;
    }
    let mut order: Vec<usize> = (0..count).collect();
    shuffle(rng, &mut order);
    let (a, b) = (HEADER_BYTES + order[0] * bytes, HEADER_BYTES + order[count - 1] * bytes);
    match rng.below(5) {
        0 => wal.copy_within(a..a + bytes, b),
        1 => wal[a + 8 + rng.below(8) as usize] ^= 1 << rng.below(8),
        2 => wal[a + 16 + rng.below(8) as usize] ^= 1 << rng.below(8),
        3 => wal[a..a + 4].fill(0),
        // Torn: the header new, the page old.
        _ => wal.copy_within(a + FRAME_HEADER..a + bytes, b + FRAME_HEADER),
    }
}

/// Another field in the header, mostly with its checksum right.
fn header(wal: &mut [u8], rng: &mut Rng) {
    if wal.len() < HEADER_BYTES {
        return;
    }
    let (at, value) = match rng.below(6) {
        0 => (0, *rng.pick(&[LITTLE, BIG, LITTLE - 2, LITTLE.swap_bytes()])),
        1 => (4, *rng.pick(&[VERSION, VERSION + 1, 3_008_000, 0])),
        2 => (8, *rng.pick(&[0, 1, 256, 512, 1000, 1024, 4096, 65_536, 131_072, u32::MAX])),
        3 => (12, rng.number() as u32),
        _ => (16 + 4 * rng.below(2) as usize, rng.number() as u32),
    };
    wal[at..at + 4].copy_from_slice(&value.to_be_bytes());
    if !rng.one_in(4) {
        let sums = stored(sum((0, 0), &wal[..24], wal[3] & 1 == 1));
        wal[24..HEADER_BYTES].copy_from_slice(&sums);
    }
}

/// What a disk that tears sectors leaves.
fn sector(wal: &mut [u8], rng: &mut Rng) {
    let sectors = wal.len() / 512;
    if sectors == 0 {
        return;
    }
    let at = rng.below(sectors as u64) as usize * 512;
    match rng.below(2) {
        0 => wal[at..at + 512].fill(0),
        _ => {
            let from = rng.below((wal.len() - 511) as u64) as usize;
            wal.copy_within(from..from + 512, at);
        }
    }
}

/// The WALs that real SQLites wrote, of the repository's testdata, and their databases.
pub fn of_testdata() -> Vec<(Vec<u8>, Log)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/wal");
    let mut found: Vec<_> = std::fs::read_dir(&dir)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<_, _>>())
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    found.retain(|path| path.extension().is_some_and(|it| it == "db"));
    found.sort();
    let read = |path: &Path| std::fs::read(path).unwrap_or_else(|error| panic!("{error}"));
    let pair = |path: &std::path::PathBuf| {
        let log = Log::decode(&read(&path.with_extension("db-wal")));
        (read(path), log.expect("SQLite has written it").0)
    };
    found.iter().map(pair).collect()
}

#[derive(Debug)]
pub struct Wal {
    bases: Vec<Log>,
}

impl Wal {
    pub fn new() -> Self {
        let mut bases: Vec<_> = of_testdata().into_iter().map(|(_, log)| log).collect();
        // Short ones, which are soon read.
        bases.retain(|log| log.page_size <= 1024);
        bases.iter_mut().for_each(|log| log.writes.truncate(6));
        Self { bases }
    }
}

impl Fuzz for Wal {
    fn input(&mut self, rng: &mut Rng) -> Input {
        let (base, other) = (rng.pick(&self.bases), rng.pick(&self.bases));
        let (bytes, is) = changed(base, other, rng);
        Input { bytes, is }
    }

    fn check(&mut self, Input { bytes, .. }: &Input) -> Result<Seen, String> {
        let (log, end) = match (Header::parse(bytes), Log::decode(bytes)) {
            (Err(end), Err(same)) if end == same => return Ok(Seen::Refused),
            (Ok(_), Ok(decoded)) => decoded,
            (ours, theirs) => return Err(format!("{ours:?}, and not {theirs:?}")),
        };
        let header = Header::parse(bytes).map_err(|end| end.to_string())?;
        let mut frames = Frames::new(&header, header.start(), &bytes[HEADER_BYTES..]);
        let mut places = vec![header.start()];
        let mut writes = log.writes.iter();
        for frame in frames.by_ref() {
            let same = writes.next().is_some_and(|write| {
                let commit = frame.commit.unwrap_or(0);
                (write.page, write.commit, &*write.data) == (frame.page.0, commit, frame.data)
            });
            holds(same, || format!("frame {} is another one", frame.number))?;
            places.push(frame.position);
        }
        let all = writes.next().is_none() && frames.end() == Some(end);
        holds(all, || format!("it ends with {:?}, and not {end:?}", frames.end()))?;
        let sound = log.encode();
        holds(bytes.starts_with(&sound), || "it does not encode to itself".to_owned())?;
        // From a place that was kept, the rest is there, and nothing else.
        let middle = places[places.len() / 2];
        let rest = header.frame_offset(middle.frame + 1) as usize;
        let mut rest = Frames::new(&header, middle, &bytes[rest..]);
        let count = rest.by_ref().count();
        let same = count + middle.frame as usize + 1 == places.len() && rest.end() == Some(end);
        holds(same, || format!("from frame {} on there are {count}", middle.frame))?;
        Ok(Seen::Taken)
    }
}
