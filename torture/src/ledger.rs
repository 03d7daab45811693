//! The ledger: the workload's own record of the truth, kept outside the database's directory.
//!
//! One file per writer process, appended to only, one record a line:
//!
//! ```text
//! i SEQ DIGEST MICROS CHECK     about to commit SEQ; this is the state that it makes
//! a SEQ DIGEST MICROS CHECK     SEQ is committed
//! e SEQ WHAT MICROS CHECK       something else happened while SEQ was the last commit
//! b SEQ BRANCH MICROS CHECK     what follows is on BRANCH, where SEQ was found
//! ```
//!
//! CHECK is the start of the BLAKE3 of what stands before it. A last line without its end is the
//! mark of a killed writer and is passed over; anything else that does not fit is a lie.
//!
//! What may be concluded: the seq is taken inside the transaction, under the write lock. So an
//! intent of N says that N - 1 was committed, and of several intents of N only the latest can have
//! been. Between its intent and its ack a commit may be there or not (trap 103).
//!
//! A history forks where a database goes on from less than was committed on it: power was lost, an
//! older copy took its place, or a copy is written to elsewhere. BRANCH is `NUMBER/PARENT/STATE`:
//! the digest that was found at SEQ, and the branch that it is of. A file is about branch 0 until it
//! says otherwise. A PARENT of `-` means a database made anew, and a STATE of `-` that it is about to
//! be made. The first record of a branch says where it left its parent; every one has to find a state
//! that was committed. The line of a branch is its parent's up to there, and then its own.

use crate::course::{Course, Place, Turn, Turns};
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
    Branch { seq: u64, on: On, at: Micros },
}

/// Which branch, and what was found on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct On {
    pub branch: u32,
    pub parent: Option<u32>,
    pub state: Option<Digest>,
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let word = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let parent = word(self.parent.map(|parent| parent.to_string()));
        let state = word(self.state.map(|state| state.to_string()));
        write!(f, "{}/{parent}/{state}", self.branch)
    }
}

impl On {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split('/');
        let branch = words.next()?.parse().ok()?;
        let mut word = || words.next().map(|word| Some(word).filter(|&word| word != "-"));
        let (parent, state) = (word()?, word()?);
        let parent = parent.map(|word| word.parse().ok().ok_or(())).transpose().ok()?;
        let state = state.map(|word| Digest::parse(word).ok_or(())).transpose().ok()?;
        Some(Self { branch, parent, state })
    }
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
            Self::Branch { seq, on, at } => format!("b {seq} {on} {}", at.0),
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
        "b" => Some(Record::Branch { seq, on: On::parse(what)?, at }),
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

    pub fn branch(&mut self, seq: u64, on: On) -> io::Result<()> {
        self.append(&Record::Branch { seq, on, at: Micros::now() })
    }

    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        self.file.write_all(record.to_string().as_bytes())
    }
}

/// What the ledgers of all writers say together; read on with `refresh` while they grow.
#[derive(Debug)]
pub struct Truth {
    files: Vec<Tail>,
    branches: BTreeMap<u32, Branch>,
    /// Which branches the replica was made from, one after another.
    pub course: Course,
    events: BTreeMap<String, u64>,
}

impl Default for Truth {
    fn default() -> Self {
        let branches = BTreeMap::from([(0, Branch::default())]);
        Self { files: Vec::new(), branches, course: Course::default(), events: BTreeMap::new() }
    }
}

#[derive(Debug, Default)]
struct Branch {
    /// Its parent, and the last commit that it has from there.
    fork: Option<(u32, u64)>,
    seqs: BTreeMap<u64, Entry>,
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
    branch: u32,
    /// Of this file's last intent: an ack has to follow its own.
    pending: Option<(u64, Digest)>,
}

/// A ledger that contradicts itself or another one.
#[derive(Debug, PartialEq, Eq)]
pub enum Lie {
    /// It is not what a writer writes.
    Garbled(String),
    /// The database is not what it was: a commit that was acknowledged is gone, or another one.
    Lost(String),
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
    /// Of a replica that was made in these turns.
    pub fn of(course: Course) -> Self {
        Self { course, ..Self::default() }
    }

    pub fn watch(&mut self, path: &Path) {
        self.files.push(Tail { path: path.to_owned(), offset: 0, branch: 0, pending: None });
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
        let path = tail.path.display().to_string();
        let said = |what: &str| format!("{path}: {what}: {line}");
        let branch = self.branches.get_mut(&tail.branch).expect("entered before");
        match line.parse().map_err(|Garbled| Lie::Garbled(said("not a record")))? {
            Record::Intent { seq, digest, at } => {
                tail.pending = Some((seq, digest));
                branch.seqs.entry(seq).or_default().intents.push((at, digest));
            }
            Record::Ack { seq, digest, at } => {
                if tail.pending != Some((seq, digest)) {
                    return Err(Lie::Garbled(said("an ack without its intent")));
                }
                let entry = branch.seqs.entry(seq).or_default();
                if entry.ack.is_some() {
                    return Err(Lie::Lost(said("a second ack of one commit")));
                }
                entry.ack = Some((at, digest));
            }
            Record::Event { what, .. } => *self.events.entry(what).or_default() += 1,
            Record::Branch { seq, on, .. } => {
                (tail.branch, tail.pending) = (on.branch, None);
                self.enter(seq, on, said)?;
            }
        }
        Ok(())
    }

    /// Takes in that a writer has found a database at `seq`, on a branch.
    fn enter(&mut self, seq: u64, on: On, said: impl Fn(&str) -> String) -> Result<(), Lie> {
        let On { branch, parent, state } = on;
        if parent.is_some_and(|parent| parent >= branch || !self.branches.contains_key(&parent)) {
            return Err(Lie::Garbled(said("a parent that comes later")));
        }
        let fork = parent.map(|parent| (parent, seq));
        let known = self.branches.entry(branch).or_insert(Branch { fork, ..Branch::default() });
        if known.fork.map(|(parent, _)| parent) != parent {
            return Err(Lie::Garbled(said("a branch with two parents")));
        }
        if known.fork.is_some_and(|(_, after)| seq < after) {
            return Err(Lie::Lost(said("a branch that goes back before its start")));
        }
        match state.is_none() || self.line(branch).digest(seq) == state {
            true => Ok(()),
            false => Err(Lie::Lost(said("found a state that was never committed"))),
        }
    }

    /// The history that ends on a branch.
    pub fn line(&self, branch: u32) -> Line<'_> {
        assert!(self.branches.contains_key(&branch), "nobody has said anything of branch {branch}");
        Line { truth: self, branch }
    }

    /// The lines that the replica may show, with the bit of their turn, the newest one first.
    pub fn turns(&self) -> impl Iterator<Item = (Turns, Turn, Line<'_>)> {
        let known = |turn: &Turn| self.branches.contains_key(&turn.branch);
        let turns = self.course.turns().rev().filter(move |(_, turn)| known(turn));
        turns.map(|(bit, turn)| (bit, turn, self.line(turn.branch)))
    }

    /// Nothing is missing on the lines that a place can be on.
    pub fn whole_at(&self, place: Place) -> Result<(), Lie> {
        let mut turns = self.turns().filter(|(bit, _, _)| bit & place.turns != 0);
        turns.try_for_each(|(_, _, line)| line.whole_up_to(place.seq))
    }

    /// All commits that anyone has acknowledged.
    pub fn commits(&self) -> u64 {
        let seqs = self.branches.values().flat_map(|branch| &branch.seqs);
        seqs.filter(|&(&seq, entry)| seq > 0 && entry.ack.is_some()).count() as u64
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

/// What was committed on a branch and, before it was left, on its parent.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    truth: &'a Truth,
    branch: u32,
}

impl<'a> Line<'a> {
    fn own(self) -> &'a Branch {
        &self.truth.branches[&self.branch]
    }

    fn parent(self) -> Option<(Self, u64)> {
        let (branch, after) = self.own().fork?;
        Some((Self { branch, ..self }, after))
    }

    /// No seq up to `last` may be missing. (Beyond the commit in question another writer's ledger
    /// may simply not have been read far enough yet.)
    pub fn whole_up_to(self, last: u64) -> Result<(), Lie> {
        let first = match self.parent() {
            Some((parent, after)) => {
                parent.whole_up_to(after.min(last))?;
                after + 1
            }
            None => 0,
        };
        let seqs = &self.own().seqs;
        match (first..=last).find(|seq| !seqs.contains_key(seq)) {
            None => Ok(()),
            Some(seq) => {
                Err(Lie::Lost(format!("seq {seq} of branch {} is in no ledger", self.branch)))
            }
        }
    }

    pub fn standing(self, seq: u64) -> Standing {
        if let Some((parent, _)) = self.parent().filter(|&(_, after)| seq <= after) {
            // It was found there when this branch began.
            return match parent.standing(seq) {
                Standing::Never => Standing::Never,
                Standing::Open | Standing::Committed => Standing::Committed,
            };
        }
        let seqs = &self.own().seqs;
        match seqs.get(&seq) {
            None => Standing::Never,
            Some(entry) if entry.ack.is_some() => Standing::Committed,
            Some(_) if seqs.range(seq + 1..).next().is_some() => Standing::Committed,
            Some(_) => Standing::Open,
        }
    }

    /// The state that a commit made, if it was made: the acknowledged one, else the latest intent.
    pub fn digest(self, seq: u64) -> Option<Digest> {
        let entry = self.entry(seq)?;
        let latest = || entry.intents.iter().copied().max_by_key(|&(at, _)| at);
        entry.ack.or_else(latest).map(|(_, digest)| digest)
    }

    /// The earliest moment at which anyone can have seen a commit.
    pub fn begun(self, seq: u64) -> Option<Micros> {
        self.entry(seq)?.intents.iter().map(|&(at, _)| at).min()
    }

    fn entry(self, seq: u64) -> Option<&'a Entry> {
        match self.parent() {
            Some((parent, after)) if seq <= after => parent.entry(seq),
            _ => self.own().seqs.get(&seq),
        }
    }

    /// The last commit that is known to have been made.
    pub fn acked(self) -> Option<u64> {
        let mut own = self.own().seqs.iter().rev();
        let acked = own.find(|(_, entry)| entry.ack.is_some()).map(|(&seq, _)| seq);
        acked.or(self.own().fork.map(|(_, after)| after))
    }

    /// The last commit that may have been made.
    #[cfg(test)]
    pub fn intended(self) -> Option<u64> {
        self.own().seqs.keys().next_back().copied()
    }
}

impl Tail {
    fn gained(&mut self) -> Result<String, Lie> {
        let lie =
            |error: &dyn fmt::Display| Lie::Garbled(format!("{}: {error}", self.path.display()));
        let mut file = File::open(&self.path).map_err(|error| lie(&error))?;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.offset))
            .and_then(|_| file.read_to_end(&mut bytes))
            .map_err(|error| lie(&error))?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        bytes.truncate(whole);
        self.offset += whole as u64;
        String::from_utf8(bytes).map_err(|error| lie(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Digest = Digest([1; 32]);
    const B: Digest = Digest([2; 32]);
    const C: Digest = Digest([3; 32]);

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
        let made = On { branch: 2, parent: None, state: None };
        let left = On { branch: 3, parent: Some(1), state: Some(B) };
        let branch = |on| Record::Branch { seq: 6, on, at: Micros(7) };
        for record in [intent(1, A, 2), ack(1, A, 3), event, branch(made), branch(left)] {
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
        assert_eq!((truth.line(0).acked(), truth.line(0).intended()), (Some(0), Some(1)));
        assert_eq!(truth.line(0).standing(0), Standing::Committed);
        assert_eq!(truth.line(0).standing(1), Standing::Open);
        assert_eq!(truth.line(0).standing(2), Standing::Never);
        assert_eq!(truth.line(0).digest(1), Some(B));
    }

    #[test]
    fn trap_103_a_later_intent_says_what_became_of_an_open_commit() {
        let killed: &[Record] = &[intent(0, A, 1), ack(0, A, 2), intent(1, A, 3)];
        // The next writer took the same seq: the killed one's commit was not made.
        let again = truth(&[killed, &[intent(1, B, 9)]]).unwrap();
        assert_eq!((again.line(0).standing(1), again.line(0).digest(1)), (Standing::Open, Some(B)));
        // It took the one after: it was.
        let after = truth(&[killed, &[intent(2, B, 9)]]).unwrap();
        assert_eq!(
            (after.line(0).standing(1), after.line(0).digest(1)),
            (Standing::Committed, Some(A))
        );
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
            assert_eq!(truth.line(0).intended(), Some(0), "{cut}");
            std::fs::write(&path, whole.clone() + &torn).unwrap();
            truth.refresh().unwrap();
            assert_eq!(truth.line(0).intended(), Some(1), "{cut}");
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
        assert!(is_lost(&[one, one]), "one commit made twice");
    }

    /// Whether it is no fault of the harness, but the live database that is not what it was.
    fn is_lost(ledgers: &[&[Record]]) -> bool {
        matches!(truth(ledgers), Err(Lie::Lost(_)))
    }

    #[test]
    fn a_gap_below_the_commit_in_question_is_a_lie() {
        let truth = truth(&[&[intent(0, A, 1), intent(2, A, 2)]]).unwrap();
        assert!(truth.line(0).whole_up_to(0).is_ok());
        assert!(truth.line(0).whole_up_to(2).is_err());
    }

    /// A writer that found `state` at `seq` on branch `branch`.
    fn branch(seq: u64, branch: u32, parent: Option<u32>, state: Digest) -> Record {
        Record::Branch { seq, on: On { branch, parent, state: Some(state) }, at: Micros(4) }
    }

    const MAIN: &[Record] = &[
        Record::Intent { seq: 0, digest: A, at: Micros(1) },
        Record::Ack { seq: 0, digest: A, at: Micros(1) },
        Record::Intent { seq: 1, digest: A, at: Micros(2) },
        Record::Ack { seq: 1, digest: A, at: Micros(2) },
        Record::Intent { seq: 2, digest: B, at: Micros(3) },
    ];

    #[test]
    fn trap_52_a_branch_is_its_parent_up_to_where_it_left_and_then_its_own() {
        let other = [branch(1, 1, Some(0), A), intent(2, C, 5), ack(2, C, 6), intent(3, C, 7)];
        let truth = truth(&[MAIN, &other]).unwrap();
        let (main, line) = (truth.line(0), truth.line(1));
        assert_eq!((main.digest(2), main.standing(2)), (Some(B), Standing::Open));
        assert_eq!((main.digest(3), main.standing(3)), (None, Standing::Never));
        assert_eq!((line.digest(1), line.standing(1)), (Some(A), Standing::Committed));
        assert_eq!((line.digest(2), line.standing(2)), (Some(C), Standing::Committed));
        assert_eq!((line.digest(3), line.standing(3)), (Some(C), Standing::Open));
        assert_eq!((line.begun(1), line.begun(2)), (Some(Micros(2)), Some(Micros(5))));
        assert_eq!((main.acked(), line.acked()), (Some(1), Some(2)));
        assert_eq!((line.whole_up_to(3), truth.commits()), (Ok(()), 2));
        assert!(line.whole_up_to(4).is_err());
    }

    #[test]
    fn trap_52_what_a_branch_began_with_was_committed() {
        let truth = truth(&[MAIN, &[branch(2, 1, Some(0), B)]]).unwrap();
        assert_eq!(truth.line(0).standing(2), Standing::Open);
        assert_eq!(truth.line(1).standing(2), Standing::Committed);
        assert_eq!(truth.line(1).acked(), Some(2));
    }

    #[test]
    fn trap_48_a_database_made_anew_has_no_parent() {
        let made = Record::Branch {
            seq: 0,
            on: On { branch: 1, parent: None, state: None },
            at: Micros(4),
        };
        let truth = truth(&[MAIN, &[made, intent(0, C, 5), ack(0, C, 6)]]).unwrap();
        assert_eq!(
            (truth.line(1).digest(0), truth.line(1).standing(1)),
            (Some(C), Standing::Never)
        );
        assert!(truth.line(1).whole_up_to(1).is_err());
    }

    #[test]
    fn lies_about_branches_are_lies() {
        let is_lie = |records: &[Record]| truth(&[MAIN, records]).is_err();
        assert!(!is_lie(&[branch(1, 1, Some(0), A), branch(1, 1, Some(0), A)]));
        assert!(is_lost(&[MAIN, &[branch(1, 1, Some(0), B)]]), "a state that was never there");
        assert!(is_lie(&[branch(3, 1, Some(0), B)]), "from the future of its parent");
        assert!(is_lie(&[branch(1, 1, Some(2), A)]), "a parent that nobody knows");
        assert!(is_lie(&[branch(1, 1, Some(1), A)]), "its own parent");
        assert!(is_lie(&[branch(1, 1, None, A)]), "made anew, and not empty");
        assert!(is_lie(&[branch(1, 0, Some(0), A)]), "the first one has no parent");
        let back = [branch(1, 1, Some(0), A), branch(0, 1, Some(0), A)];
        assert!(is_lost(&[MAIN, &back]), "back before it");
        let two = [branch(1, 1, Some(0), A), branch(1, 2, Some(0), A), branch(1, 2, Some(1), A)];
        assert!(is_lie(&two) && !is_lost(&[MAIN, &two]), "two parents");
        let pending = [intent(3, A, 4), branch(1, 1, Some(0), A), ack(3, A, 5)];
        assert!(is_lie(&pending), "an ack of another branch's intent");
    }
}
