//! The oracle: whether a restored file is right, judged by the workload's ledgers and nothing else.
//!
//! It opens the file read-only and immutable, so that it cannot heal what it grades: no recovery,
//! no side files. It takes no program's word for anything: what `restore` printed is not asked for.
//!
//! Where the history has forked, a file is right if it is a commit of one of the branches that the
//! replica was made from. Marker, log and digest have to be of one and the same branch.

use crate::course::{Place, Turns};
use crate::digest::{self, Digest};
use crate::ledger::{Line, Micros, Standing, Truth};
use rusqlite::{Connection, OpenFlags, Result};
use std::fmt;
use std::path::Path;

/// What a restored file has to be, besides a commit that was really made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// The floor: the last commit acknowledged as durable. `None`: none was.
    pub floor: Option<Place>,
    /// After a clean drain: just this one.
    pub exactly: Option<Place>,
    /// Where an earlier target of a rising order has landed.
    pub after: Option<Place>,
    /// The time that was asked for: nothing begun later may be there.
    pub until: Option<Micros>,
}

/// What is wrong with a restored file, one variant for each thing that the oracle checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    Unreadable(String),
    Litter(String),
    Integrity(String),
    /// The log is not `1..=seq`.
    Log {
        seq: u64,
        rows: u64,
        first: u64,
        last: u64,
    },
    Digest {
        seq: u64,
        found: Digest,
        recorded: Option<Digest>,
    },
    NeverMade(u64),
    BelowFloor {
        seq: u64,
        floor: u64,
    },
    NotExact {
        seq: u64,
        wanted: u64,
    },
    /// The right seq, and of another branch than was asked for.
    WrongBranch(u64),
    WentBack {
        seq: u64,
        before: u64,
    },
    Future {
        seq: u64,
        begun: u64,
        until: u64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Unreadable(cause) => write!(f, "cannot be read: {cause}"),
            Self::Litter(name) => write!(f, "left beside the restored file: {name}"),
            Self::Integrity(first) => write!(f, "integrity_check: {first}"),
            Self::Log { seq, rows, first, last } => {
                write!(f, "marker says {seq}, log has {rows} rows {first}..={last}")
            }
            Self::Digest { seq, found, recorded: Some(recorded) } => {
                write!(f, "seq {seq}: digest {found}, recorded was {recorded}")
            }
            Self::Digest { seq, found, recorded: None } => {
                write!(f, "seq {seq}: digest {found}, none was recorded")
            }
            Self::NeverMade(seq) => write!(f, "seq {seq} was never committed"),
            Self::BelowFloor { seq, floor } => write!(f, "seq {seq} is below the floor {floor}"),
            Self::NotExact { seq, wanted } => write!(f, "seq {seq}, expected exactly {wanted}"),
            Self::WrongBranch(seq) => write!(f, "seq {seq} is of another branch"),
            Self::WentBack { seq, before } => {
                write!(f, "seq {seq}, but an earlier target landed on {before}")
            }
            Self::Future { seq, begun, until } => {
                write!(f, "seq {seq} was begun at {begun} us, asked for was {until} us")
            }
        }
    }
}

/// The judgement: where the file landed, and everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grade {
    /// What its marker says; `None` if even that cannot be read.
    pub place: Option<Place>,
    pub violations: Vec<Violation>,
}

impl Grade {
    pub fn is_right(&self) -> bool {
        self.violations.is_empty()
    }

    pub fn seq(&self) -> Option<u64> {
        self.place.map(|place| place.seq)
    }
}

/// Judges `file`. The ledgers must have been read after the restore had ended.
pub fn grade(file: &Path, truth: &Truth, expect: &Expect) -> Grade {
    let mut violations = Vec::new();
    violations.extend(litter(file).map(Violation::Litter));
    let seen = look(file, &mut violations);
    let place = seen.map(|seen| {
        let place = judge_content(&seen, truth, &mut violations);
        judge_place(place, truth, expect, &mut violations)
    });
    Grade { place, violations }
}

/// What the file says of itself.
struct Seen {
    seq: u64,
    rows: u64,
    first: u64,
    last: u64,
    digest: Digest,
}

fn look(file: &Path, violations: &mut Vec<Violation>) -> Option<Seen> {
    let integrity = open(file).and_then(|db| integrity(&db));
    match integrity {
        Ok(None) => (),
        Ok(Some(first)) => violations.push(Violation::Integrity(first)),
        Err(error) => violations.push(Violation::Unreadable(error.to_string())),
    }
    match open(file).and_then(|db| seen(&db)) {
        Ok(seen) => Some(seen),
        Err(error) => {
            violations.push(Violation::Unreadable(error.to_string()));
            None
        }
    }
}

/// The turns in which the replica can have been given this content.
fn judge_content(seen: &Seen, truth: &Truth, violations: &mut Vec<Violation>) -> Place {
    let &Seen { seq, rows, first, last, digest } = seen;
    if (rows, first, last) != (seq, u64::from(seq > 0), seq) {
        violations.push(Violation::Log { seq, rows, first, last });
    }
    if truth.turns().all(|(_, _, line)| line.standing(seq) == Standing::Never) {
        violations.push(Violation::NeverMade(seq));
    }
    let fits = |line: Line| line.digest(seq) == Some(digest);
    let turns = truth.turns().filter(|&(_, turn, line)| seq >= turn.from && fits(line));
    let turns = turns.fold(0, |turns: Turns, (bit, _, _)| turns | bit);
    if turns != 0 {
        return Place { seq, turns };
    }
    let recorded = truth.turns().find_map(|(_, _, line)| line.digest(seq));
    violations.push(Violation::Digest { seq, found: digest, recorded });
    truth.course.here(seq)
}

/// The place, narrowed down by what was found before.
fn judge_place(
    mut place: Place,
    truth: &Truth,
    expect: &Expect,
    violations: &mut Vec<Violation>,
) -> Place {
    let Expect { floor, exactly, after, until } = *expect;
    let seq = place.seq;
    if let Some(floor) = floor {
        match place.after(floor) {
            Some(narrowed) => place = narrowed,
            None => violations.push(Violation::BelowFloor { seq, floor: floor.seq }),
        }
    }
    match exactly {
        Some(wanted) if wanted.seq != seq => {
            violations.push(Violation::NotExact { seq, wanted: wanted.seq });
        }
        Some(wanted) if wanted.turns & place.turns == 0 => {
            violations.push(Violation::WrongBranch(seq));
        }
        Some(wanted) => place.turns &= wanted.turns,
        None => (),
    }
    if let Some(before) = after {
        match place.after(before) {
            Some(narrowed) => place = narrowed,
            None => violations.push(Violation::WentBack { seq, before: before.seq }),
        }
    }
    // The times of commits are cut to milliseconds, so the comparison is, too.
    let lines = truth.turns().filter(|(bit, _, _)| bit & place.turns != 0);
    let begun = lines.filter_map(|(_, _, line)| line.begun(seq)).min().unwrap_or_default().0;
    if let Some(Micros(until)) = until.filter(|until| begun / 1000 > until.0 / 1000) {
        violations.push(Violation::Future { seq, begun, until });
    }
    place
}

/// Opens a file that nobody else has open, without a right to change it or anything beside it.
pub fn open(file: &Path) -> Result<Connection> {
    let path = file.to_str().expect("the harness names its files in UTF-8");
    let escaped = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(format!("file:{escaped}?immutable=1&mode=ro"), flags)
}

/// The first complaint of SQLite's own check.
fn integrity(db: &Connection) -> Result<Option<String>> {
    let first: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    Ok((first != "ok").then_some(first))
}

fn seen(db: &Connection) -> Result<Seen> {
    let seq = marker(db)?;
    let [rows, first, last] = ["count(*)", "coalesce(min(seq), 0)", "coalesce(max(seq), 0)"]
        .map(|what| number(db, &format!("SELECT {what} FROM log")));
    Ok(Seen { seq, rows: rows?, first: first?, last: last?, digest: digest::of(db)? })
}

/// The seq that the database itself says it is at.
pub fn marker(db: &Connection) -> Result<u64> {
    number(db, "SELECT seq FROM mark")
}

/// The one number that a query yields. None of ours is negative; one made so looks enormous.
pub fn number(db: &Connection, sql: &str) -> Result<u64> {
    db.query_row(sql, [], |row| Ok(row.get::<_, i64>(0)? as u64))
}

/// A file beside the restored one that belongs to it: a WAL, a journal, an unfinished restore.
fn litter(file: &Path) -> Option<String> {
    let own = file.file_name()?.to_str()?;
    let names = std::fs::read_dir(file.parent()?).ok()?;
    let mut names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.find(|name| name != own && name.contains(own))
}
