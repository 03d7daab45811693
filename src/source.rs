//! A live database, read without being noticed: polled through the wal-index, its WAL pinned while
//! frames in it are still wanted, its commits counted.
//!
//! # What holds a WAL still
//!
//! A WAL is reset by a writer that finds it fully backfilled and gets the read marks 1 to 4
//! exclusively. A shared lock on one of these slots blocks the reset, and nothing else if its mark is
//! unused; a shared lock on slot 0 blocks all backfill, so that at most one reset happens under it.
//!
//! ```text
//!         everything captured and backfilled              a commit appears
//! HOLD ----------------------------------------> ZERO ----------------------> HOLD
//!  |
//!  |  a checkpoint is trying to finish and no quiet moment comes
//!  v
//! FREE   nothing held: polled every millisecond; after a reset the old tail is read from beyond the
//!        new frames, and commits are counted
//! ```
//!
//! The next lock is taken, the wal-index looked at again, and only then the last lock released.
//!
//! # The count
//!
//! SQLite counts commits in the wal-index (`iChange`). Across a reset, the counter's advance must be
//! the commits of the old tail and those of the new generation. More in the tail: they were written
//! but never published (their writer died), and are dropped. Fewer: some are lost to us, and the
//! caller heals. Within a generation nothing can be missed: frames follow each other, and checksums
//! prove it.
//!
//! This module is the only reader of live databases. It never writes to one, and knows nothing of
//! what becomes of the commits.

mod decision;
mod reading;
mod tail;

use crate::clock;
use crate::commit::{PageNo, PageSize};
use crate::sabotage;
use crate::sqlite::{Handles, Slot, UNUSED_MARK};
use crate::wal::{self, Checksum, End, FRAME_HEADER_BYTES, Frame, Frames, Position, Salts};
use decision::{decide, is_sound};
use reading::{Go, Reached};
use std::time::Duration;
use std::{fmt, io};
use tail::{Commits, Tail};

pub use decision::{Look, Mark, Seen};
pub use reading::Still;

/// Bytes of frames read at a time.
const READ_BYTES: usize = 256 << 10;
/// An old tail longer than this is not kept in memory: it counts as lost.
const TAIL_BYTES: usize = 16 << 20;
/// A writer that runs changes the wal-index header within one or two of these.
const LOOKS: usize = 20;
/// How long a writer may take to publish a commit before its wal-index counts as unreadable.
const STEADY: Duration = Duration::from_secs(3);
const STEADY_POLL: Duration = Duration::from_micros(100);

/// What keeps the WAL as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// Nothing.
    Free,
    /// Slot 0: at most one reset can happen, when everything was captured.
    Zero,
    /// A slot from 1 to 4: no reset can happen.
    Hold(Slot),
}

/// Why frames were not captured.
#[derive(Debug)]
pub enum Trouble {
    /// Commits were lost to us: the WAL went on without us.
    Lost(&'static str),
    /// A published frame is not what its writer wrote.
    Corrupt(u32, End),
    /// The database holds another page than its WAL told.
    Diverged(PageNo),
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Lost(why) => write!(f, "commits were missed: {why}"),
            Self::Corrupt(frame, end) => {
                write!(f, "the WAL is corrupt at frame {frame}, which SQLite published: {end}")
            }
            Self::Diverged(page) => {
                write!(f, "page {} of the database is not what was last committed to it", page.0)
            }
            Self::Io(error) => error.fmt(f),
        }
    }
}

/// Takes frames as they are read; the last frame of a commit says so.
pub trait Sink {
    fn frame(&mut self, frame: &Frame, read: Read);
    /// From here on frames are those of another generation, counted from 1 again.
    fn generation(&mut self, salts: Salts);
    /// Whether to stop before the next commit.
    fn is_full(&self) -> bool;
}

/// Where a frame was read: times are known by frame number within the living generation only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    OldTail,
    Living,
}

/// How far one pass of capture came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caught {
    /// Everything was read that was published when it began.
    Up,
    /// The sink is full, or the wal-index was being changed: there may be more.
    Behind,
}

#[derive(Debug)]
pub struct Source {
    handles: Handles,
    page_size: PageSize,
    pin: Pin,
    mark: Mark,
    /// Whether the mark's count is SQLite's own, and what comes next a commit of its own: not the count of
    /// another life of the wal-index, nor one that has copies of commit frames in it, or before it.
    exact: bool,
}

impl Source {
    /// Takes up a database at `mark`, or, without one, at what is published now.
    pub fn new(handles: Handles, page_size: PageSize, mark: Option<Mark>) -> Result<Self, Trouble> {
        let at = mark.unwrap_or(Mark::NOWHERE);
        let mut source = Self { handles, page_size, pin: Pin::Free, mark: at, exact: false };
        source.hold()?;
        if mark.is_none() {
            source.rebase()?;
        }
        Ok(source)
    }

    /// Takes another place for how far was captured.
    pub fn go_to(&mut self, mark: Mark) {
        (self.mark, self.exact) = (mark, false);
    }

    pub fn mark(&self) -> &Mark {
        &self.mark
    }

    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// Reads the wal-index header; `None` if a writer was stopped while it was changing it. No system
    /// call, no lock.
    pub fn look(&self) -> Option<Look> {
        (0..LOOKS).find_map(|_| self.look_once())
    }

    fn look_once(&self) -> Option<Look> {
        let copy = |base: usize| std::array::from_fn(|at| self.handles.word(base + 4 * at));
        let first: [u32; 12] = copy(0);
        self.handles.barrier();
        let second: [u32; 12] = copy(48);
        if first != second || !is_sound(&first) {
            return None;
        }
        let salt = |word: u32| word.to_ne_bytes();
        let ([a, b, c, d], [e, f, g, h]) = (salt(first[8]), salt(first[9]));
        Some(Look {
            change: first[2],
            frames: first[4],
            pages: first[5],
            checksum: Checksum([first[6], first[7]]),
            salts: Salts([a, b, c, d, e, f, g, h]),
            backfilled: self.handles.word(96),
        })
    }

    /// Whether nothing was published, reset or checkpointed since `look`. Cheaper than looking again:
    /// a thousand idle databases are asked this twenty times a second.
    pub fn is_still(&self, look: &Look) -> bool {
        let Salts([a, b, c, d, ..]) = look.salts;
        self.handles.word(8) == look.change
            && self.handles.word(16) == look.frames
            && self.handles.word(32) == u32::from_ne_bytes([a, b, c, d])
            && self.handles.word(96) == look.backfilled
    }

    pub fn seen(&self, look: Option<&Look>) -> Seen {
        decide(look, &self.mark)
    }

    /// Whether the WAL goes on from `mark` just as it was left: for a start, when nothing was pinned
    /// meanwhile. The frame at the mark is read again, its checksum compared.
    pub fn continues(&self) -> Result<bool, Trouble> {
        let Some(look) = self.steady_look() else { return Ok(false) };
        let Position { frame, checksum } = self.mark.position;
        if look.salts != self.mark.salts || look.frames < frame {
            return Ok(false);
        }
        let Some(header) = self.header(look.salts)? else {
            // Begun, and nothing written yet. Salts of zero are those of any new, empty WAL.
            return Ok(frame == 0 && look.frames == 0 && look.salts != Salts::default());
        };
        if frame == 0 {
            return Ok(true);
        }
        let mut bytes = [0; FRAME_HEADER_BYTES];
        let read = self.handles.read_wal(&mut bytes, header.frame_offset(frame))?;
        Ok(read == bytes.len()
            && (wal::frame_checksum(&bytes) == checksum || sabotage::is("trust-salts-alone")))
    }

    /// Begins anew at what is published now: whatever lies before it is somebody else's to capture.
    /// Returns the database's size in pages.
    pub fn rebase(&mut self) -> Result<u32, Trouble> {
        let look =
            self.steady_look().ok_or(Trouble::Lost("the wal-index does not come to rest"))?;
        let header = self.header(look.salts)?;
        let start = header.map_or(Checksum::default(), |header| header.checksum);
        let checksum = if look.frames == 0 { start } else { look.checksum };
        self.mark = Mark {
            salts: look.salts,
            position: Position { frame: look.frames, checksum },
            big_endian: header.is_some_and(|header| header.big_endian),
            change: look.change,
        };
        self.exact = true;
        if look.pages > 0 {
            return Ok(look.pages);
        }
        // Nothing was committed since the wal-index was made: the file tells.
        Ok((self.handles.database_bytes()? / self.page_size.bytes() as u64) as u32)
    }

    /// A writer publishes in nanoseconds, but may be stopped in the middle; one that died there
    /// leaves the header torn until recovery.
    pub fn steady_look(&self) -> Option<Look> {
        let start = clock::instant();
        loop {
            let look = self.look();
            if look.is_some() || start.elapsed() > STEADY {
                return look;
            }
            std::thread::sleep(STEADY_POLL);
        }
    }

    /// The WAL's header, if it is the one of this generation. A generation that was begun and has no
    /// frame yet has not written its header.
    fn header(&self, salts: Salts) -> Result<Option<wal::Header>, Trouble> {
        let mut bytes = [0; wal::HEADER_BYTES];
        self.handles.read_wal(&mut bytes, 0)?;
        match wal::Header::parse(&bytes) {
            Ok(header) if header.salts != salts => Ok(None),
            Ok(header) if header.page_size != self.page_size => {
                Err(Trouble::Lost("the page size has changed"))
            }
            Ok(header) => Ok(Some(header)),
            Err(_) => Ok(None),
        }
    }

    /// Reads what was published between the mark and `look`, as far as `sink` takes it. The mark
    /// follows.
    pub fn capture(&mut self, look: &Look, sink: &mut impl Sink) -> Result<Caught, Trouble> {
        match self.seen(Some(look)) {
            Seen::Torn => Ok(Caught::Behind),
            Seen::Nothing => Ok(Caught::Up),
            Seen::Commits | Seen::Rebuilt => self.go_on(look, sink),
            Seen::Reset => self.turn_over(look, sink),
            Seen::Shrunk => Err(Trouble::Lost("published frames are gone")),
        }
    }

    /// Reads on in the same generation.
    fn go_on(&mut self, look: &Look, sink: &mut impl Sink) -> Result<Caught, Trouble> {
        let at = self.mark.position;
        if look.frames == at.frame {
            if at.frame > 0 && look.checksum != at.checksum {
                return Err(Trouble::Lost("recovery found other frames than were published"));
            }
            (self.mark.change, self.exact) = (look.change, true);
            return Ok(Caught::Up);
        }
        let Some(header) = self.header(look.salts)? else {
            return self.broken(look, End::BadMagic);
        };
        let mut commits = Commits::default();
        // At frame 0, the header may have been written since it was last looked for.
        let from = if at.frame == 0 { header.start() } else { at };
        self.mark.big_endian = header.big_endian;
        let upto = if sabotage::is("read-past-mxframe") { u32::MAX } else { look.frames };
        let reached = self.read(&header, from, upto, &mut |frame| {
            sink.frame(frame, Read::Living);
            commits.add(frame);
            if frame.commit.is_some() && sink.is_full() { Go::Stop } else { Go::On }
        })?;
        let (Reached::All(position) | Reached::Stopped(position) | Reached::Broken(position, _)) =
            reached;
        self.mark.position = position;
        self.mark.change = self.mark.change.wrapping_add(commits.all());
        // Until all is read, the next frame may be a copy of the last one.
        self.exact = false;
        match reached {
            Reached::All(_) => {
                (self.mark.change, self.exact) = (look.change, true);
                Ok(Caught::Up)
            }
            Reached::Stopped(_) => Ok(Caught::Behind),
            Reached::Broken(..) if sabotage::is("read-past-mxframe") => Ok(Caught::Up),
            Reached::Broken(_, end) => self.broken(look, end),
        }
    }

    /// A frame below `look.frames` does not read. In a WAL that was reset meanwhile, that is what a
    /// reset does, and the next look shows it. In one that was not, it is corruption.
    fn broken(&self, look: &Look, end: End) -> Result<Caught, Trouble> {
        match self.steady_look() {
            Some(now) if now.salts == look.salts => {
                Err(Trouble::Corrupt(self.mark.position.frame + 1, end))
            }
            _ => Ok(Caught::Behind),
        }
    }

    /// Reads the rest of the old generation from beyond the new frames, then the new generation, and
    /// counts. A second reset must not come in between: the pin is taken first.
    fn turn_over(&mut self, look: &Look, sink: &mut impl Sink) -> Result<Caught, Trouble> {
        let empty = self.nothing_is_left();
        self.hold()?;
        let mut tail = self.old_tail(empty)?;
        if !self.exact && !empty {
            return Err(Trouble::Lost("the WAL was reset, and its commits were not counted"));
        }
        let now = self.steady_look().ok_or(Trouble::Lost("the wal-index does not come to rest"))?;
        if now.salts != look.salts {
            return Err(Trouble::Lost("the WAL was reset twice"));
        }
        tail.is_followed_by(now.salts);
        let header = self.header(look.salts)?;
        let start = header.map_or(self.mark.position, |header| header.start());
        let start = Position { frame: 0, ..start };
        let fresh = match &header {
            Some(header) if look.frames > 0 => self.count(header, start, look)?,
            None if look.frames > 0 => return Err(Trouble::Lost("the new WAL has no header")),
            _ => Commits::default(),
        };
        let wanted = tail.wanted(self.mark.change, look.change, &fresh)?;
        tail.deliver(wanted, sink);
        sink.generation(look.salts);
        self.mark = Mark {
            salts: look.salts,
            position: start,
            big_endian: header.is_some_and(|header| header.big_endian),
            change: look.change.wrapping_sub(fresh.all()),
        };
        self.exact = !fresh.has_copies();
        match (look.frames, sink.is_full()) {
            (0, _) => Ok(Caught::Up),
            (_, true) => Ok(Caught::Behind),
            (_, false) => self.go_on(look, sink),
        }
    }

    /// Under slot 0 a WAL is reset only when all of it was captured, and salts of zero are those of a WAL
    /// without a frame.
    fn nothing_is_left(&self) -> bool {
        self.pin == Pin::Zero || self.mark.salts == Salts::default()
    }

    /// What is left of the generation at the mark, copied before it is overwritten. None of it is, where all
    /// was captured: what comes after the mark was never published.
    fn old_tail(&self, empty: bool) -> Result<Tail, Trouble> {
        let header = wal::Header {
            page_size: self.page_size,
            salts: self.mark.salts,
            big_endian: self.mark.big_endian,
            checkpoint_seq: 0,
            checksum: Checksum::default(),
        };
        let start = self.mark.position;
        if empty {
            return Ok(Tail::empty(header, start));
        }
        let from = header.frame_offset(start.frame + 1);
        let (mut bytes, mut at) = (Vec::new(), start);
        while bytes.len() < TAIL_BYTES {
            let have = bytes.len();
            bytes.resize(have + READ_BYTES, 0);
            let read = self.handles.read_wal(&mut bytes[have..], from + have as u64)?;
            bytes.truncate(have + read);
            let known = (at.frame - start.frame) as usize * header.frame_bytes();
            let mut frames = Frames::new(&header, at, &bytes[known..]);
            frames.by_ref().for_each(drop);
            at = frames.position();
            let goes_on = matches!(frames.end(), Some(End::Exhausted | End::ShortFrame));
            if read < READ_BYTES || !goes_on {
                return Ok(Tail::new(header, start, bytes, self.mark_stands(&header)?));
            }
        }
        // Of that which nobody published there may be more than this.
        Ok(Tail::new(header, start, bytes, false))
    }

    fn count(&self, header: &wal::Header, from: Position, look: &Look) -> Result<Commits, Trouble> {
        let mut commits = Commits::default();
        let reached = self.read(header, from, look.frames, &mut |frame| {
            commits.add(frame);
            Go::On
        })?;
        let Reached::Broken(committed, end) = reached else { return Ok(commits) };
        match self.steady_look() {
            Some(now) if now.salts == look.salts => Err(Trouble::Corrupt(committed.frame + 1, end)),
            _ => Err(Trouble::Lost("the new WAL was reset while it was read")),
        }
    }

    /// Pins the WAL, if it is not pinned. False if every slot is in use: then nothing changed.
    pub fn hold(&mut self) -> io::Result<bool> {
        if matches!(self.pin, Pin::Hold(_)) {
            return Ok(true);
        }
        for slot in Slot::pinning() {
            if self.handles.word(slot.mark_offset()) != UNUSED_MARK || !self.handles.lock(slot)? {
                continue;
            }
            if self.handles.word(slot.mark_offset()) == UNUSED_MARK {
                self.release()?;
                self.pin = Pin::Hold(slot);
                return Ok(true);
            }
            self.handles.unlock(slot)?;
        }
        Ok(false)
    }

    /// From HOLD to ZERO, if everything is captured and backfilled. False: it is not, and whoever is
    /// in ZERO has to leave it, since no checkpoint gets on meanwhile.
    pub fn zero(&mut self) -> io::Result<bool> {
        if self.pin == Pin::Zero {
            return Ok(self.is_quiet());
        }
        if !self.is_quiet() || !self.handles.lock(Slot::READ0)? {
            return Ok(false);
        }
        if !self.is_quiet() {
            self.handles.unlock(Slot::READ0)?;
            return Ok(false);
        }
        self.release()?;
        self.pin = Pin::Zero;
        Ok(true)
    }

    fn is_quiet(&self) -> bool {
        self.look().is_some_and(|look| {
            decide(Some(&look), &self.mark) == Seen::Nothing
                && (look.backfilled == look.frames || sabotage::is("zero-too-early"))
        })
    }

    /// Lets go of whatever is held.
    pub fn release(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.pin, Pin::Free) {
            Pin::Free => Ok(()),
            Pin::Zero => self.handles.unlock(Slot::READ0),
            Pin::Hold(slot) => self.handles.unlock(slot),
        }
    }
}

/// SQLite closes a connection without a look at its locks: one that is left stays as long as anybody
/// in this process has the wal-index mapped.
impl Drop for Source {
    fn drop(&mut self) {
        self.release().ok();
    }
}

#[cfg(test)]
mod tests;
