//! The ledger: the workload's own record of the truth, kept outside the database's directory.
//!
//! One file per writer process, appended to only, one record a line:
//!
//! ```text
//! i SEQ DIGEST MICROS CHECK     about to commit SEQ; this is the state that it makes
//! a SEQ DIGEST MICROS CHECK     SEQ is committed
//! e SEQ WHAT MICROS CHECK       something else happened while SEQ was the last commit
//! ```
//!
//! CHECK is the start of the BLAKE3 of what stands before it. A last line without its end is the
//! mark of a killed writer and is passed over; anything else that does not fit is a lie.
//!
//! What may be concluded: the seq is taken inside the transaction, under the write lock. So an
//! intent of N says that N - 1 was committed, and of several intents of N only the latest can have
//! been. Between its intent and its ack a commit may be there or not (trap 103).

use crate::digest::Digest;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Intent { seq: u64, digest: Digest, at: Micros },
    Ack { seq: u64, digest: Digest, at: Micros },
    Event { seq: u64, what: String, at: Micros },
}

/// Microseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

impl Micros {
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        Self(since.as_micros() as u64)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let text = match self {
            Self::Intent { seq, digest, at } => format!("i {seq} {digest} {}", at.0),
            Self::Ack { seq, digest, at } => format!("a {seq} {digest} {}", at.0),
            Self::Event { seq, what, at } => format!("e {seq} {what} {}", at.0),
        };
        writeln!(f, "{text} {}", check(&text))
    }
}

fn check(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

/// The line is not a record as `Display` writes it.
#[derive(Debug, PartialEq, Eq)]
pub struct Garbled;

impl FromStr for Record {
    type Err = Garbled;

    fn from_str(line: &str) -> Result<Self, Garbled> {
        parse(line).ok_or(Garbled)
    }
}

fn parse(line: &str) -> Option<Record> {
    let (text, sum) = line.rsplit_once(' ')?;
    if check(text) != sum {
        return None;
    }
    let mut fields = text.split(' ');
    let mut next = || fields.next();
    let (kind, seq, what, at) = (next()?, next()?.parse().ok()?, next()?, next()?);
    let at = Micros(at.parse().ok()?);
    match kind {
        "i" => Some(Record::Intent { seq, digest: Digest::parse(what)?, at }),
        "a" => Some(Record::Ack { seq, digest: Digest::parse(what)?, at }),
        "e" => Some(Record::Event { seq, what: what.to_owned(), at }),
        _ => None,
    }
}

/// The end that writes. Each record is one `write`: a kill tears at most the last one.
#[derive(Debug)]
pub struct Ledger {
    file: File,
}

impl Ledger {
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().append(true).create_new(true).open(path)? })
    }

    pub fn intent(&mut self, seq: u64, digest: Digest) -> io::Result<()> {
        self.append(&Record::Intent { seq, digest, at: Micros::now() })
    }

    pub fn ack(&mut self, seq: u64, digest: Digest) -> io::Result<()> {
        self.append(&Record::Ack { seq, digest, at: Micros::now() })
    }

    pub fn event(&mut self, seq: u64, what: &str) -> io::Result<()> {
        assert!(!what.contains([' ', '\n']), "an event is one word: {what}");
        self.append(&Record::Event { seq, what: what.to_owned(), at: Micros::now() })
    }

    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        self.file.write_all(record.to_string().as_bytes())
    }
}

/// What the ledgers of all writers say together; read on with `refresh` while they grow.
#[derive(Debug, Default)]
pub struct Truth {
    files: Vec<Tail>,
    seqs: BTreeMap<u64, Entry>,
    events: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    intents: Vec<(Micros, Digest)>,
    ack: Option<(Micros, Digest)>,
}

#[derive(Debug)]
struct Tail {
    path: PathBuf,
    offset: u64,
    /// Of this file's last intent: an ack has to follow its own.
    pending: Option<(u64, Digest)>,
}

/// A ledger that contradicts itself or another one.
#[derive(Debug, PartialEq, Eq)]
pub struct Lie(pub String);

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How sure it is that a commit was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Acknowledged, or a later one was begun on top of it.
    Committed,
    /// Intended, and nothing heard of since.
    Open,
    Never,
}

impl Truth {
    pub fn watch(&mut self, path: &Path) {
        self.files.push(Tail { path: path.to_owned(), offset: 0, pending: None });
    }

    /// Reads what the ledgers have gained. What is not yet a whole line waits for the next time.
    pub fn refresh(&mut self) -> Result<(), Lie> {
        for at in 0..self.files.len() {
            let text = self.files[at].gained()?;
            for line in text.lines() {
                self.take(at, line)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, file: usize, line: &str) -> Result<(), Lie> {
        let tail = &mut self.files[file];
        let lie = |what: &str| Lie(format!("{}: {what}: {line}", tail.path.display()));
        match line.parse().map_err(|Garbled| lie("not a record"))? {
            Record::Intent { seq, digest, at } => {
                tail.pending = Some((seq, digest));
                self.seqs.entry(seq).or_default().intents.push((at, digest));
            }
            Record::Ack { seq, digest, at } => {
                if tail.pending != Some((seq, digest)) {
                    return Err(lie("an ack without its intent"));
                }
                let entry = self.seqs.entry(seq).or_default();
                if entry.ack.is_some() {
                    return Err(lie("a second ack of one commit"));
                }
                entry.ack = Some((at, digest));
            }
            Record::Event { what, .. } => *self.events.entry(what).or_default() += 1,
        }
        Ok(())
    }

    /// No seq up to `last` may be missing. (Beyond the commit in question another writer's ledger
    /// may simply not have been read far enough yet.)
    pub fn whole_up_to(&self, last: u64) -> Result<(), Lie> {
        let known = self.seqs.range(..=last).count() as u64;
        let missing = || (0..=last).find(|seq| !self.seqs.contains_key(seq));
        match known == last + 1 {
            true => Ok(()),
            false => Err(Lie(format!("seq {} is in no ledger", missing().unwrap_or(last)))),
        }
    }

    pub fn standing(&self, seq: u64) -> Standing {
        match self.seqs.get(&seq) {
            None => Standing::Never,
            Some(entry) if entry.ack.is_some() => Standing::Committed,
            Some(_) if self.seqs.range(seq + 1..).next().is_some() => Standing::Committed,
            Some(_) => Standing::Open,
        }
    }

    /// The state that a commit made, if it was made: the acknowledged one, else the latest intent.
    pub fn digest(&self, seq: u64) -> Option<Digest> {
        self.entry_of(seq).map(|(_, digest)| digest)
    }

    /// The earliest moment at which anyone can have seen a commit.
    pub fn begun(&self, seq: u64) -> Option<Micros> {
        self.seqs.get(&seq)?.intents.iter().map(|&(at, _)| at).min()
    }

    fn entry_of(&self, seq: u64) -> Option<(Micros, Digest)> {
        let entry = self.seqs.get(&seq)?;
        entry.ack.or_else(|| entry.intents.iter().copied().max_by_key(|&(at, _)| at))
    }

    /// The last acknowledged commit.
    pub fn acked(&self) -> Option<u64> {
        self.seqs.iter().rev().find(|(_, entry)| entry.ack.is_some()).map(|(&seq, _)| seq)
    }

    /// The last commit that may have been made.
    #[cfg(test)]
    pub fn intended(&self) -> Option<u64> {
        self.seqs.keys().next_back().copied()
    }

    pub fn all_events(&self) -> impl Iterator<Item = (&str, u64)> {
        self.events.iter().map(|(what, &times)| (&**what, times))
    }

    /// How often an event was recorded, by the start of its name.
    #[cfg(test)]
    pub fn events(&self, prefix: &str) -> u64 {
        self.events.iter().filter(|(what, _)| what.starts_with(prefix)).map(|(_, n)| n).sum()
    }
}

impl Tail {
    fn gained(&mut self) -> Result<String, Lie> {
        let lie = |error: &dyn fmt::Display| Lie(format!("{}: {error}", self.path.display()));
        let mut file = File::open(&self.path).map_err(|error| lie(&error))?;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.offset))
            .and_then(|_| file.read_to_end(&mut bytes))
            .map_err(|error| lie(&error))?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        bytes.truncate(whole);
        self.offset += whole as u64;
        String::from_utf8(bytes).map_err(|error| Lie(format!("{}: {error}", self.path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Digest = Digest([1; 32]);
    const B: Digest = Digest([2; 32]);

    fn intent(seq: u64, digest: Digest, at: u64) -> Record {
        Record::Intent { seq, digest, at: Micros(at) }
    }

    fn ack(seq: u64, digest: Digest, at: u64) -> Record {
        Record::Ack { seq, digest, at: Micros(at) }
    }

    fn truth(ledgers: &[&[Record]]) -> Result<Truth, Lie> {
        let dir = tempfile::tempdir().unwrap();
        let mut truth = Truth::default();
        for (number, records) in ledgers.iter().enumerate() {
            let path = dir.path().join(number.to_string());
            let mut ledger = Ledger::create(&path).unwrap();
            records.iter().for_each(|record| ledger.append(record).unwrap());
            truth.watch(&path);
        }
        truth.refresh().map(|()| truth)
    }

    #[test]
    fn a_record_comes_back_and_a_changed_one_does_not() {
        let event = Record::Event { seq: 4, what: "vacuum".into(), at: Micros(5) };
        for record in [intent(1, A, 2), ack(1, A, 3), event] {
            let line = record.to_string();
            assert_eq!(line.trim_end().parse(), Ok(record));
            for at in 0..line.len() - 1 {
                let mut bytes = line.trim_end().as_bytes().to_vec();
                bytes[at] ^= 1;
                let changed = String::from_utf8(bytes).unwrap();
                assert_eq!(changed.parse::<Record>(), Err(Garbled), "{changed}");
            }
        }
    }

    #[test]
    fn trap_103_between_intent_and_ack_a_commit_may_be_there_or_not() {
        let truth = truth(&[&[intent(0, A, 1), ack(0, A, 2), intent(1, B, 3)]]).unwrap();
        assert_eq!((truth.acked(), truth.intended()), (Some(0), Some(1)));
        assert_eq!(truth.standing(0), Standing::Committed);
        assert_eq!(truth.standing(1), Standing::Open);
        assert_eq!(truth.standing(2), Standing::Never);
        assert_eq!(truth.digest(1), Some(B));
    }

    #[test]
    fn trap_103_a_later_intent_says_what_became_of_an_open_commit() {
        let killed: &[Record] = &[intent(0, A, 1), ack(0, A, 2), intent(1, A, 3)];
        // The next writer took the same seq: the killed one's commit was not made.
        let again = truth(&[killed, &[intent(1, B, 9)]]).unwrap();
        assert_eq!((again.standing(1), again.digest(1)), (Standing::Open, Some(B)));
        // It took the one after: it was.
        let after = truth(&[killed, &[intent(2, B, 9)]]).unwrap();
        assert_eq!((after.standing(1), after.digest(1)), (Standing::Committed, Some(A)));
    }

    #[test]
    fn a_torn_tail_is_passed_over_and_a_torn_middle_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let whole = intent(0, A, 1).to_string() + &ack(0, A, 2).to_string();
        let torn = intent(1, B, 3).to_string();
        for cut in 0..torn.len() {
            std::fs::write(&path, whole.clone() + &torn[..cut]).unwrap();
            let mut truth = Truth::default();
            truth.watch(&path);
            truth.refresh().unwrap();
            assert_eq!(truth.intended(), Some(0), "{cut}");
            std::fs::write(&path, whole.clone() + &torn).unwrap();
            truth.refresh().unwrap();
            assert_eq!(truth.intended(), Some(1), "{cut}");
        }
        std::fs::write(&path, torn[..20].to_owned() + "\n" + &whole).unwrap();
        let mut truth = Truth::default();
        truth.watch(&path);
        assert!(truth.refresh().is_err());
    }

    #[test]
    fn contradictions_are_lies() {
        assert!(truth(&[&[ack(0, A, 1)]]).is_err(), "an ack out of nowhere");
        assert!(truth(&[&[intent(0, A, 1), ack(0, B, 2)]]).is_err(), "another digest");
        assert!(truth(&[&[intent(0, A, 1), ack(1, A, 2)]]).is_err(), "another seq");
        let one: &[Record] = &[intent(0, A, 1), ack(0, A, 2)];
        assert!(truth(&[one, one]).is_err(), "one commit made twice");
    }

    #[test]
    fn a_gap_below_the_commit_in_question_is_a_lie() {
        let truth = truth(&[&[intent(0, A, 1), intent(2, A, 2)]]).unwrap();
        assert!(truth.whole_up_to(0).is_ok());
        assert!(truth.whole_up_to(2).is_err());
    }
}
