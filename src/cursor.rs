//! The cursor: the fsynced local record of what was captured and shipped. It governs what is shipped
//! next.
//!
//! A file of records, each appended and synced when what it tells of is durable on the destinations:
//!
//! ```text
//! 0  16  "bakelite cursor" and the format's version, 1
//! then records:
//! 0   4  bytes of the payload
//! 4   4  CRC-32 of the payload
//! 8   n  payload: a kind, 1 or 2, and
//!        1: changes of the page index that the next state record makes good
//!        2: the state, and the last changes of the page index
//! ```
//!
//! The page index itself is not synced at each commit. The changes since it last was are all in here,
//! so that after a crash making them again brings both to agree, at a cost that follows these changes.
//! When the file has grown, the index is synced and the file replaced by one with a single record.
//!
//! A reader takes whole, sound records up to the first that is not: what a torn tail told of is
//! shipped again. It reads the file twice, a piece at a time: a large transaction stages a change for
//! each of its pages, and whether a state makes them good is known only at the end. Little-endian
//! throughout.

use crate::commit::{Chain, Commit, CommitNo, Digest, PageHash, PageNo, PageSize, Time, Timeline};
use crate::durable;
use crate::object::{Damage, Fields};
use crate::sabotage;
use crate::source::Mark;
use crate::wal::{Checksum, Position, Salts};
use crc32fast::Hasher;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 16] = *b"bakelite cursor\x01";
/// Past this, the file is replaced; often, where it is tested what that leaves.
const LONG: u64 = if cfg!(test) { 16 << 10 } else { 1 << 20 };

/// Changes read and handed on at a time.
const PIECE: usize = 512;

const CHANGES: u8 = 1;
const STATE: u8 = 2;
const CHANGE_BYTES: usize = 20;
const STATE_BYTES: usize = 126;

/// Everything that has to be known to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The last commit that every destination holds.
    pub commit: Commit,
    pub chain: Chain,
    pub timeline: Timeline,
    pub page_size: PageSize,
    /// Device and inode of the database file.
    pub identity: (u64, u64),
    /// Where the commit stands in the WAL.
    pub mark: Mark,
    /// When the last snapshot was finished; zero: there is none yet.
    pub snapshot: Time,
}

/// A change of the page index.
pub type Change = (PageNo, PageHash);

#[derive(Debug)]
pub struct Cursor {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
}

impl Cursor {
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None, bytes: 0 }
    }

    /// Whether the index should be synced and `replace` used for the next state.
    pub fn is_long(&self) -> bool {
        self.file.is_none() || self.bytes > LONG
    }

    /// Writes `state` as the only record. The page index, but for `changes`, has to be durable.
    pub fn replace(&mut self, state: &State, changes: &[Change]) -> io::Result<()> {
        self.file = None;
        let bytes = file(state, changes);
        durable::replace(&self.path, &bytes)?;
        self.file = Some(OpenOptions::new().append(true).open(&self.path)?);
        self.bytes = bytes.len() as u64;
        Ok(())
    }

    /// Writes changes that the next state makes good. They are not durable before it.
    pub fn stage(&mut self, changes: &[Change]) -> io::Result<()> {
        self.write(&record(CHANGES, &[], changes))
    }

    /// No state makes good what was staged: the file is written anew before anything is added.
    pub fn take_back(&mut self) {
        self.file = None;
    }

    /// Writes `state`, and the changes of the page index that lead to it, durably.
    pub fn append(&mut self, state: &State, changes: &[Change]) -> io::Result<()> {
        self.write(&record(STATE, &encode(state), changes))?;
        let file = self.file.as_ref().expect("written to just now");
        // A failed sync is final: what the file holds is unknown, and it is written anew.
        let sync =
            if sabotage::is("skip-cursor-fsync") { |_: &File| Ok(()) } else { durable::sync_data };
        sync(file).inspect_err(|_| self.file = None)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("the cursor has to be replaced first"));
        };
        // Half a record would hide those after it.
        file.write_all(bytes).inspect_err(|_| self.file = None)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// Reads the cursor at `path`, handing on the changes of the page index that lead to its last state, some
/// at a time and in order. `None`: there is none that can be believed.
pub fn load(
    path: &Path,
    change: impl FnMut(&[Change]) -> io::Result<()>,
) -> io::Result<Option<State>> {
    open(path)?.map_or(Ok(None), |file| read(file, change))
}

/// The last state that the cursor at `path` tells of.
pub fn state(path: &Path) -> io::Result<Option<State>> {
    let Some(file) = open(path)? else { return Ok(None) };
    Ok(last_state(file)?.map(|(state, _)| state))
}

/// What a cursor's file says.
pub fn read(
    mut file: impl Read + Seek,
    mut change: impl FnMut(&[Change]) -> io::Result<()>,
) -> io::Result<Option<State>> {
    let Some((state, end)) = last_state(&mut file)? else { return Ok(None) };
    file.rewind()?;
    let mut records = Records::new(&mut file);
    while records.at < end {
        if records.next(&mut change)?.is_none() {
            return Err(io::Error::new(ErrorKind::InvalidData, "it changed while it was read"));
        }
    }
    Ok(Some(state))
}

/// The state of the last record that has one, and where that ends.
fn last_state(file: impl Read) -> io::Result<Option<(State, u64)>> {
    let mut records = Records::new(file);
    let mut last = None;
    while let Some(record) = records.next(&mut |_| Ok(()))? {
        if let Record::State(state) = record {
            last = Some((state, records.at));
        }
    }
    Ok(last)
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

/// What a record has besides changes of the page index.
enum Record {
    Nothing,
    State(State),
}

/// What ends the reading of records.
enum End {
    /// There is no more, or what there is was torn or damaged.
    Unsound,
    Failed(io::Error),
}

impl From<Damage> for End {
    fn from(_: Damage) -> Self {
        Self::Unsound
    }
}

/// The records of a file, one after the other.
struct Records<R> {
    file: BufReader<R>,
    /// Where the next one begins.
    at: u64,
    /// Of the payload, as far as it was read.
    crc: Hasher,
}

impl<R: Read> Records<R> {
    fn new(file: R) -> Self {
        Self { file: BufReader::new(file), at: 0, crc: Hasher::new() }
    }

    /// The next record, if there is a sound one. Its changes are handed on before that is known.
    fn next(
        &mut self,
        change: &mut impl FnMut(&[Change]) -> io::Result<()>,
    ) -> io::Result<Option<Record>> {
        match self.record(change) {
            Ok(record) => Ok(Some(record)),
            Err(End::Unsound) => Ok(None),
            Err(End::Failed(error)) => Err(error),
        }
    }

    fn record(
        &mut self,
        change: &mut impl FnMut(&[Change]) -> io::Result<()>,
    ) -> Result<Record, End> {
        if self.at == 0 {
            let magic: [u8; MAGIC.len()] = self.take()?;
            self.at = if magic == MAGIC { MAGIC.len() as u64 } else { return Err(End::Unsound) };
        }
        let [length, crc] = [self.take()?, self.take()?].map(u32::from_le_bytes);
        self.crc = Hasher::new();
        let (record, head) = match self.take()? {
            [CHANGES] => (Record::Nothing, 1),
            [STATE] => (Record::State(decode_state(&self.take()?)?), 1 + STATE_BYTES),
            _ => return Err(End::Unsound),
        };
        let rest = (length as usize).checked_sub(head).ok_or(End::Unsound)?;
        if !rest.is_multiple_of(CHANGE_BYTES) {
            return Err(End::Unsound);
        }
        self.changes(rest / CHANGE_BYTES, change)?;
        self.at += 8 + u64::from(length);
        (self.crc.clone().finalize() == crc).then_some(record).ok_or(End::Unsound)
    }

    fn changes(
        &mut self,
        mut count: usize,
        change: &mut impl FnMut(&[Change]) -> io::Result<()>,
    ) -> Result<(), End> {
        let mut piece = Vec::with_capacity(count.min(PIECE));
        while count > 0 {
            piece.clear();
            for _ in 0..count.min(PIECE) {
                let bytes: [u8; CHANGE_BYTES] = self.take()?;
                let mut fields = Fields(&bytes);
                piece.push((PageNo(fields.u32()?), PageHash(fields.u128()?)));
            }
            count -= piece.len();
            change(&piece).map_err(End::Failed)?;
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], End> {
        let mut bytes = [0; N];
        match self.file.read_exact(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(End::Unsound),
            read => read.map_err(End::Failed)?,
        }
        self.crc.update(&bytes);
        Ok(bytes)
    }
}

/// A cursor's file with `state` as its only record.
pub fn file(state: &State, changes: &[Change]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(record(STATE, &encode(state), changes));
    bytes
}

fn record(kind: u8, state: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut payload = vec![kind];
    payload.extend_from_slice(state);
    for (page, hash) in changes {
        payload.extend_from_slice(&page.0.to_le_bytes());
        payload.extend_from_slice(&hash.0.to_le_bytes());
    }
    let mut record = (payload.len() as u32).to_le_bytes().to_vec();
    record.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
    record.extend_from_slice(&payload);
    record
}

fn encode(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |field: &[u8]| bytes.extend_from_slice(field);
    let commit = &state.commit;
    put(&commit.number.0.to_le_bytes());
    put(&commit.time.0.to_le_bytes());
    put(&commit.pages.to_le_bytes());
    put(&[commit.flags()]);
    put(&commit.digest.unwrap_or_default().0.to_le_bytes());
    put(&state.chain.0);
    put(&state.timeline.0.to_le_bytes());
    put(&state.page_size.get().to_le_bytes());
    put(&state.identity.0.to_le_bytes());
    put(&state.identity.1.to_le_bytes());
    put(&state.mark.salts.0);
    put(&state.mark.position.frame.to_le_bytes());
    put(&state.mark.position.checksum.0[0].to_le_bytes());
    put(&state.mark.position.checksum.0[1].to_le_bytes());
    put(&[state.mark.big_endian.into()]);
    put(&state.mark.change.to_le_bytes());
    put(&state.snapshot.0.to_le_bytes());
    bytes
}

fn decode_state(bytes: &[u8; STATE_BYTES]) -> Result<State, Damage> {
    let mut fields = Fields(bytes);
    let (number, time) = (CommitNo(fields.u64()?), Time(fields.u64()?));
    let (pages, flags) = (fields.u32()?, fields.u8()?);
    let commit = Commit { number, time, pages, digest: None, resync: false };
    let commit = commit.with_flags(flags, Digest(fields.u128()?));
    let commit = commit.ok_or(Damage::BadTable("an unknown flag"))?;
    let chain = Chain(fields.array()?);
    let timeline = Timeline(fields.u32()?);
    let page_size = PageSize::new(fields.u32()?).ok_or(Damage::BadTable("a page size"))?;
    let identity = (fields.u64()?, fields.u64()?);
    let salts = Salts(fields.array()?);
    let frame = fields.u32()?;
    let checksum = Checksum([fields.u32()?, fields.u32()?]);
    let big_endian = fields.u8()? != 0;
    let mark =
        Mark { salts, position: Position { frame, checksum }, big_endian, change: fields.u32()? };
    let snapshot = Time(fields.u64()?);
    fields.end()?;
    Ok(State { commit, chain, timeline, page_size, identity, mark, snapshot })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(number: u64) -> State {
        let salts = Salts([1, 2, 3, 4, 5, 6, 7, 8]);
        let position = Position { frame: 77, checksum: Checksum([9, 10]) };
        State {
            commit: Commit {
                number: CommitNo(number),
                time: Time(1234),
                pages: 10,
                digest: Some(Digest(99)),
                resync: false,
            },
            chain: Chain([3; 32]),
            timeline: Timeline(4),
            page_size: PageSize::new(65536).unwrap(),
            identity: (5, 6),
            mark: Mark { salts, position, big_endian: true, change: u32::MAX },
            snapshot: Time(1000),
        }
    }

    fn loaded(path: &Path) -> (Option<State>, Vec<Change>) {
        let mut all = Vec::new();
        let state = load(path, |changes| {
            all.extend_from_slice(changes);
            Ok(())
        });
        (state.unwrap(), all)
    }

    /// A cursor that was taken for one that never was would have the database shipped anew.
    #[test]
    fn trap_58_one_that_cannot_be_opened_is_not_absent() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "no directory").unwrap();
        let error = load(&file.join("cursor"), |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotADirectory);
        assert!(super::state(&file.join("cursor")).is_err());
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursor");
        assert_eq!(loaded(&path), (None, vec![]));
        let mut cursor = Cursor::new(path.clone());
        assert!(cursor.is_long() && cursor.append(&state(1), &[]).is_err());
        cursor.replace(&state(1), &[]).unwrap();
        assert_eq!(loaded(&path), (Some(state(1)), vec![]));
        let (a, b) = ((PageNo(1), PageHash(2)), (PageNo(3), PageHash(4)));
        cursor.append(&state(2), &[a]).unwrap();
        cursor.stage(&[b]).unwrap();
        assert_eq!(loaded(&path), (Some(state(2)), vec![a]), "staged only");
        cursor.append(&state(3), &[]).unwrap();
        assert_eq!(loaded(&path), (Some(state(3)), vec![a, b]));
        cursor.stage(&[a]).unwrap();
        cursor.take_back();
        assert!(cursor.is_long() && cursor.append(&state(4), &[]).is_err());
        cursor.replace(&state(4), &[]).unwrap();
        assert_eq!(loaded(&path), (Some(state(4)), vec![]));
    }

    /// Where it never was, a daemon's state directory grew as long as it ran.
    #[test]
    fn a_cursor_that_has_grown_is_to_be_replaced_and_is_short_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursor");
        let mut cursor = Cursor::new(path.clone());
        cursor.replace(&state(1), &[]).unwrap();
        for number in 2..400 {
            let bytes = std::fs::metadata(&path).unwrap().len();
            assert_eq!(cursor.is_long(), bytes > LONG, "{bytes} bytes");
            cursor.append(&state(number), &[(PageNo(1), PageHash(2))]).unwrap();
        }
        assert!(cursor.is_long());
        cursor.replace(&state(400), &[]).unwrap();
        assert!(!cursor.is_long() && loaded(&path).0 == Some(state(400)));
        cursor.bytes = LONG;
        assert!(!cursor.is_long());
    }

    /// Taken for none, it would cost a new snapshot, and be written over.
    #[test]
    fn a_cursor_that_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path(), |_| Ok(())).is_err());
    }

    /// A VACUUM stages a change for each page: all of them were collected in memory before the first one
    /// was handed on, 1.3 GB for a database of 100 GB.
    #[test]
    fn trap_19_what_is_staged_is_read_a_piece_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursor");
        let mut cursor = Cursor::new(path.clone());
        cursor.replace(&state(1), &[]).unwrap();
        let changes: Vec<_> = (1..=4096).map(|n| (PageNo(n), PageHash(n.into()))).collect();
        (0..600).for_each(|_| cursor.stage(&changes).unwrap());
        cursor.append(&state(2), &changes).unwrap();
        let (mut longest, mut sum) = (0, 0);
        let mut file = Asked { file: File::open(&path).unwrap(), most: 0 };
        let found = read(&mut file, |changes| {
            longest = longest.max(changes.len());
            sum += changes.iter().map(|(_, hash)| hash.0).sum::<u128>();
            Ok(())
        });
        assert_eq!((found.unwrap(), sum), (Some(state(2)), 601 * 4096 * 4097 / 2));
        assert!(longest < 1000, "{longest} changes at a time");
        assert!(file.most <= 1 << 16, "{} bytes at a time", file.most);
    }

    /// The most bytes that are asked of a file at a time.
    struct Asked {
        file: File,
        most: usize,
    }

    impl Read for Asked {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.most = self.most.max(buffer.len());
            self.file.read(buffer)
        }
    }

    impl Seek for Asked {
        fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
            self.file.seek(to)
        }
    }

    /// What comes before a state counts only with it: a transaction whose last record is torn has changed
    /// nothing, however much of it was staged.
    #[test]
    fn what_is_staged_is_handed_on_only_where_a_sound_state_follows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursor");
        let mut cursor = Cursor::new(path.clone());
        let changes: Vec<_> = (1..=2000).map(|n| (PageNo(n), PageHash(n.into()))).collect();
        cursor.replace(&state(1), &changes[..3]).unwrap();
        cursor.stage(&changes).unwrap();
        cursor.append(&state(2), &changes[..700]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let count = |bytes: &[u8]| {
            let mut count = 0;
            let found = read(io::Cursor::new(bytes), |changes| {
                count += changes.len();
                Ok(())
            });
            (found.unwrap().map(|state| state.commit.number.0), count)
        };
        assert_eq!(count(&whole), (Some(2), 2703));
        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!([count(&damaged), count(&whole[..whole.len() - 1])], [(Some(1), 3); 2]);
        let failing = read(io::Cursor::new(&whole), |_| Err(io::Error::other("no room")));
        assert_eq!(failing.unwrap_err().to_string(), "no room");
    }

    /// A power cut may leave any front part of the file, and rot may flip any bit: what is read then
    /// is an older state, whole, or nothing.
    #[test]
    fn trap_55_cursor_torn_missing_older() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursor");
        let mut cursor = Cursor::new(path.clone());
        cursor.replace(&state(1), &[]).unwrap();
        cursor.append(&state(2), &[(PageNo(1), PageHash(2))]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let mut seen = [0; 3];
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let found = loaded(&path).0;
            assert!(found.is_none() || found == Some(state(1)) || length == whole.len());
            seen[found.map_or(0, |found| found.commit.number.0 as usize)] += 1;
        }
        assert!(seen[0] > 100 && seen[1] > 100 && seen[2] == 1, "{seen:?}");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            let found = loaded(&path).0;
            assert!(found.is_none() || found == Some(state(1)), "a flip at {at} was believed");
        }
    }
}
