//! The daemon's own files, as a crash or a bad disk may leave them: the cursor and the page index.

use super::{Fuzz, Input, Is, Seen, holds, mutate};
use crate::rng::Rng;
use bakelite::commit::{
    Chain, Commit, CommitNo, Digest, PageHash, PageNo, PageSize, Time, Timeline,
};
use bakelite::cursor::{self, Change, Cursor, State};
use bakelite::index::Index;
use bakelite::source::Mark;
use bakelite::wal::{Checksum, Position, Salts};
use std::io;
use std::os::unix::fs::FileExt;
use tempfile::TempDir;

const MAGIC: usize = 16;

/// Cursors of several records, and the states and changes that were ever written.
#[derive(Debug)]
pub struct Cursors {
    files: Vec<Vec<u8>>,
    states: Vec<State>,
    changes: Vec<Change>,
}

fn state(number: u64, rng: &mut Rng) -> State {
    let position = Position {
        frame: rng.below(2000) as u32,
        checksum: Checksum([rng.number() as u32, rng.number() as u32]),
    };
    State {
        commit: Commit {
            number: CommitNo(number),
            time: Time(1_700_000_000_000 + number),
            pages: rng.below(3000) as u32,
            digest: rng.one_in(2).then(|| Digest(rng.number().into())),
            resync: rng.one_in(4),
        },
        chain: Chain([number as u8; 32]),
        timeline: Timeline(rng.below(9) as u32),
        page_size: PageSize::new(4096).expect("SQLite knows it"),
        identity: (rng.below(99), rng.number()),
        mark: Mark {
            salts: Salts(rng.number().to_be_bytes()),
            position,
            big_endian: rng.one_in(2),
            change: rng.number() as u32,
        },
        snapshot: Time(rng.below(99)),
    }
}

impl Cursors {
    pub fn new() -> Self {
        let mut all = Self { files: Vec::new(), states: Vec::new(), changes: Vec::new() };
        for seed in 0..8 {
            let file = all.write(&mut Rng::of(seed, "cursor"));
            all.files.push(file.unwrap_or_else(|error| panic!("a cursor: {error}")));
        }
        all
    }

    /// One as a daemon writes it.
    fn write(&mut self, rng: &mut Rng) -> io::Result<Vec<u8>> {
        let dir = tempfile::tempdir()?;
        let mut cursor = Cursor::new(dir.path().join("cursor"));
        for number in 0..rng.between(1, 4) {
            let state = state(number, rng);
            let pages = 0..rng.below(3);
            let changes: Vec<_> = pages
                .map(|_| (PageNo(rng.below(99) as u32), PageHash(rng.number().into())))
                .collect();
            match number {
                0 => cursor.replace(&state, &changes)?,
                _ if rng.one_in(2) => cursor.append(&state, &changes)?,
                _ => {
                    cursor.stage(&changes)?;
                    cursor.append(&state, &[])?;
                }
            }
            self.states.push(state);
            self.changes.extend(changes);
        }
        std::fs::read(dir.path().join("cursor"))
    }
}

/// Makes the checksum of each record right again, as far as their lengths lead.
fn mend(bytes: &mut [u8]) {
    let mut at = MAGIC;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(payload) = bytes.get(at + 8..).and_then(|rest| rest.get(..length)) else { return };
        let crc = super::objects::crc(payload);
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        at += 8 + length;
    }
}

fn read(bytes: &[u8]) -> Result<(Option<State>, Vec<Change>), String> {
    let mut changes = Vec::new();
    let state = cursor::read(io::Cursor::new(bytes), |more| {
        changes.extend_from_slice(more);
        Ok(())
    });
    Ok((state.map_err(|error| error.to_string())?, changes))
}

impl Fuzz for Cursors {
    fn input(&mut self, rng: &mut Rng) -> Input {
        let mut bytes = rng.pick(&self.files).clone();
        if rng.one_in(32) {
            return Input { bytes, is: Is::Right };
        }
        let other = rng.pick(&self.files);
        mutate::bytes(&mut bytes, other, rng);
        if rng.one_in(2) {
            return Input { bytes, is: Is::Changed };
        }
        mend(&mut bytes);
        Input { bytes, is: Is::Mended }
    }

    fn check(&mut self, Input { bytes, is }: &Input) -> Result<Seen, String> {
        let (state, changes) = read(bytes)?;
        let Some(state) = state else {
            holds(*is != Is::Right, || "there is nothing in it".to_owned())?;
            return Ok(Seen::Refused);
        };
        if *is != Is::Mended {
            let known = self.states.contains(&state)
                && changes.iter().all(|change| self.changes.contains(change));
            holds(known, || format!("nobody has written {state:?}, {changes:?}"))?;
        }
        let again = read(&cursor::file(&state, &changes))?;
        let same = again == (Some(state), changes);
        holds(same, || format!("{state:?} became {again:?}"))?;
        Ok(Seen::Taken)
    }
}

/// A page index, which proves nothing by itself: taken is one that has the digest it should.
#[derive(Debug)]
pub struct Indexes {
    files: Vec<Vec<u8>>,
    index: Index,
    _dir: TempDir,
}

const ENTRY: usize = 16;

fn entries(bytes: &[u8]) -> Vec<u128> {
    let entry = |piece: &[u8]| {
        let mut entry = [0; ENTRY];
        entry[..piece.len()].copy_from_slice(piece);
        u128::from_le_bytes(entry)
    };
    bytes.chunks(ENTRY).map(entry).collect()
}

fn digest(entries: &[u128]) -> u128 {
    entries.iter().fold(0, |sum, entry| sum ^ entry)
}

impl Indexes {
    pub fn new() -> Self {
        let dir = super::recovery::dir();
        let index = Index::open(&dir.path().join("index"));
        let index = index.unwrap_or_else(|error| panic!("an index: {error}"));
        let file = |seed| Rng::of(seed, "index").bytes_of(0, 40).repeat(ENTRY);
        Self { files: (0..8).map(file).collect(), index, _dir: dir }
    }

    fn judge(&self, bytes: &[u8]) -> io::Result<Result<u128, String>> {
        let index = &self.index;
        index.clear()?;
        index.file().write_all_at(bytes, 0)?;
        let mut expected = entries(bytes);
        let found = index.digest()?.0;
        if found != digest(&expected) {
            return Ok(Err(format!("its digest is {found:032x}")));
        }
        let hashes = index.range(PageNo(1), expected.len() + 2)?;
        let zeros = [0; 2];
        if !hashes.iter().map(|hash| &hash.0).eq(expected.iter().chain(&zeros)) {
            return Ok(Err(format!("it reads as {hashes:?}")));
        }
        // Changes of any pages, in any order, some past its end.
        let pages = bytes.chunks(3).take(5).enumerate();
        let pages = pages.map(|(at, piece)| PageNo(1 + 7 * at as u32 + u32::from(piece[0] & 7)));
        let mut changes: Vec<_> = pages.map(|page| (page, PageHash(page.0.into()))).collect();
        changes.reverse();
        index.set_all(&mut changes)?;
        for (page, hash) in changes {
            let at = page.0 as usize - 1;
            expected.resize(expected.len().max(at + 1), 0);
            expected[at] = hash.0;
            if index.get(page)? != hash {
                return Ok(Err(format!("page {} was not set", page.0)));
            }
        }
        let same = index.digest()?.0 == digest(&expected);
        Ok(if same { Ok(found) } else { Err("changed, it has another digest".to_owned()) })
    }
}

impl Fuzz for Indexes {
    fn input(&mut self, rng: &mut Rng) -> Input {
        let mut bytes = rng.pick(&self.files).clone();
        if rng.one_in(8) {
            return Input { bytes, is: Is::Right };
        }
        let other = rng.pick(&self.files);
        mutate::bytes(&mut bytes, other, rng);
        Input { bytes, is: Is::Changed }
    }

    fn check(&mut self, Input { bytes, .. }: &Input) -> Result<Seen, String> {
        let found = self.judge(bytes).map_err(|error| error.to_string())??;
        let known = self.files.iter().any(|file| digest(&entries(file)) == found);
        Ok(if known { Seen::Taken } else { Seen::Refused })
    }

    /// It is read so many entries at a time, whatever its length.
    fn memory(&self, input: &Input) -> usize {
        (256 << 10) + 64 * input.bytes.len()
    }
}
