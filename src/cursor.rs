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
//! shipped again. Little-endian throughout.

use crate::commit::{Chain, Commit, CommitNo, Digest, PageHash, PageNo, PageSize, Time, Timeline};
use crate::durable;
use crate::object::{Damage, Fields};
use crate::sabotage;
use crate::source::Mark;
use crate::wal::{Checksum, Position, Salts};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 16] = *b"bakelite cursor\x01";
/// Past this, the file is replaced; often, where it is tested what that leaves.
const LONG: u64 = if cfg!(test) { 16 << 10 } else { 1 << 20 };

const CHANGES: u8 = 1;
const STATE: u8 = 2;

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

/// Reads the cursor at `path`, handing on the changes of the page index that lead to each state.
/// `None`: there is none that can be believed.
pub fn load(
    path: &Path,
    change: impl FnMut(&[Change]) -> io::Result<()>,
) -> io::Result<Option<State>> {
    match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        bytes => read(&bytes?, change),
    }
}

/// What a cursor's file says.
pub fn read(
    bytes: &[u8],
    mut change: impl FnMut(&[Change]) -> io::Result<()>,
) -> io::Result<Option<State>> {
    let mut state = None;
    let mut staged = Vec::new();
    let mut rest = bytes.strip_prefix(&MAGIC).unwrap_or_default();
    while let Some((payload, after)) = take_record(rest) {
        rest = after;
        let Ok((next, changes)) = decode(payload) else { break };
        staged.extend(changes);
        if let Some(next) = next {
            change(&std::mem::take(&mut staged))?;
            state = Some(next);
        }
    }
    Ok(state)
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

fn take_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = Fields(bytes);
    let (length, crc) = (fields.u32().ok()?, fields.u32().ok()?);
    let payload = fields.bytes(length as usize).ok()?;
    (crc32fast::hash(payload) == crc).then_some((payload, fields.0))
}

fn decode(payload: &[u8]) -> Result<(Option<State>, Vec<Change>), Damage> {
    let mut fields = Fields(payload);
    let state = match fields.u8()? {
        CHANGES => None,
        STATE => Some(decode_state(&mut fields)?),
        _ => return Err(Damage::BadTable("an unknown kind of record")),
    };
    let mut changes = Vec::with_capacity(fields.0.len() / 20);
    while !fields.0.is_empty() {
        changes.push((PageNo(fields.u32()?), PageHash(fields.u128()?)));
    }
    Ok((state, changes))
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

fn decode_state(fields: &mut Fields) -> Result<State, Damage> {
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
    }

    /// Taken for none, it would cost a new snapshot, and be written over.
    #[test]
    fn a_cursor_that_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path(), |_| Ok(())).is_err());
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
