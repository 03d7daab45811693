//! Names of objects. A name alone says what an object is and where it belongs, so that a restore can
//! be planned from a listing. Numbers are fixed-width hex: the order of names is the order of commits.
//!
//! ```text
//! timeline/TTTTTTTT                                          a timeline's start
//! snapshot/FFFFFFFFFFFFFFFF-LLLLLLLLLLLLLLLL-MMMMMMMMMMMM-TTTTTTTT   a snapshot's manifest
//! part/GGGGGGGG-HHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHH             pages of a snapshot, by content
//! change/V/FFFFFFFFFFFFFFFF-LLLLLLLLLLLLLLLL-MMMMMMMMMMMM-TTTTTTTT-PPPPe  a change-set
//! ```
//!
//! F and L are the first and last commit, M the time of the last one in milliseconds, T the timeline,
//! V the level (one digit), P the part, followed by `e` where it is the last one, else by `m` (more);
//! G is the first page, H the 128-bit hash of the part's pages. A snapshot's F is the oldest commit
//! at which one of its parts was read: from L on it can be restored with the change-sets after F.
//!
//! This module does no I/O and knows nothing of what is inside an object.

use crate::commit::{CommitNo, PageNo, Time, Timeline};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    Timeline(Timeline),
    Snapshot(Span),
    Part(Part),
    Change(Change),
}

/// The commits `first..=last` as of one timeline, and when the last one was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    pub first: CommitNo,
    pub last: CommitNo,
    pub time: Time,
    pub timeline: Timeline,
}

/// A part of a snapshot: its first page and the hash of its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    pub page: PageNo,
    pub hash: u128,
}

/// One part of a change-set. A change-set counts when part 0 to the one marked `end` are all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    pub level: u8,
    pub span: Span,
    pub part: u16,
    pub end: bool,
}

/// As their texts are ordered: `e` comes before `m`.
impl Ord for Change {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |it: &Self| (it.level, it.span, it.part, !it.end);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Change {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Name {
    pub const TIMELINES: &str = "timeline/";
    pub const SNAPSHOTS: &str = "snapshot/";
    pub const PARTS: &str = "part/";
    pub const CHANGES: &str = "change/";
    /// Every prefix that holds objects, as listed to see a whole replica.
    pub const PREFIXES: [&str; 4] = [Self::TIMELINES, Self::SNAPSHOTS, Self::PARTS, Self::CHANGES];

    /// What kind of object it names, in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Timeline(_) => "timeline",
            Self::Snapshot(_) => "snapshot",
            Self::Part(_) => "part",
            Self::Change(_) => "change",
        }
    }

    /// The timeline that it belongs to; a part is its content, and belongs to none.
    pub fn timeline(&self) -> Option<Timeline> {
        match self {
            Self::Timeline(timeline) => Some(*timeline),
            Self::Snapshot(span) => Some(span.timeline),
            Self::Change(change) => Some(change.span.timeline),
            Self::Part(_) => None,
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { first, last, time, timeline } = self;
        write!(f, "{:016x}-{:016x}-{:012x}-{:08x}", first.0, last.0, time.0, timeline.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Timeline(timeline) => write!(f, "{}{:08x}", Self::TIMELINES, timeline.0),
            Self::Snapshot(span) => write!(f, "{}{span}", Self::SNAPSHOTS),
            Self::Part(part) => write!(f, "{}{:08x}-{:032x}", Self::PARTS, part.page.0, part.hash),
            Self::Change(Change { level, span, part, end }) => {
                let mark = if *end { 'e' } else { 'm' };
                write!(f, "{}{level:x}/{span}-{part:04x}{mark}", Self::CHANGES)
            }
        }
    }
}

/// The text is not the name of an object of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign;

impl FromStr for Name {
    type Err = Foreign;

    /// Accepts just what `Display` writes: a name has one spelling.
    fn from_str(text: &str) -> Result<Self, Foreign> {
        let name = parse(text).ok_or(Foreign)?;
        (name.to_string() == text).then_some(name).ok_or(Foreign)
    }
}

fn parse(text: &str) -> Option<Name> {
    let (kind, rest) = text.split_once('/')?;
    match kind {
        "timeline" => timeline(rest).map(Name::Timeline),
        "snapshot" => Some(Name::Snapshot(span(rest)?)),
        "part" => {
            let (page, hash) = rest.split_once('-')?;
            Some(Name::Part(Part { page: PageNo(hex(page, 8)? as u32), hash: hex(hash, 32)? }))
        }
        "change" => {
            let (level, rest) = rest.split_once('/')?;
            let (rest, part) = rest.rsplit_once('-')?;
            let digits = part.get(..4)?;
            let end = part.get(4..)? == "e";
            let (level, part) = (hex(level, 1)? as u8, hex(digits, 4)? as u16);
            Some(Name::Change(Change { level, span: span(rest)?, part, end }))
        }
        _ => None,
    }
}

fn span(text: &str) -> Option<Span> {
    let mut fields = text.split('-');
    let mut next = |digits| hex(fields.next()?, digits);
    let (first, last) = (CommitNo(next(16)? as u64), CommitNo(next(16)? as u64));
    let (time, timeline) = (Time(next(12)? as u64), timeline(fields.next()?)?);
    // After the last of all numbers no commit could come.
    let sound = fields.next().is_none() && first <= last && last.0 < u64::MAX;
    sound.then_some(Span { first, last, time, timeline })
}

/// Nor could a timeline.
fn timeline(text: &str) -> Option<Timeline> {
    hex(text, 8).filter(|number| *number < u32::MAX.into()).map(|number| Timeline(number as u32))
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    u128::from_str_radix(text, 16).ok().filter(|_| text.len() == digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    const SPAN: &str = "0000000000000001-00000000000000ff-019abc000000-00000002";

    #[test]
    fn a_name_has_one_spelling() {
        let check = |text: &str, good: bool| {
            let name = text.parse::<Name>();
            assert_eq!(name.is_ok(), good, "{text}");
            name.into_iter().for_each(|name| assert_eq!(name.to_string(), text));
        };
        check("timeline/00000001", true);
        check(&format!("snapshot/{SPAN}"), true);
        check(&format!("change/0/{SPAN}-0000e"), true);
        check(&format!("change/3/{SPAN}-00a1m"), true);
        check("part/00000401-000102030405060708090a0b0c0d0e0f", true);
        for bad in ["", "timeline/", "timeline/1", "timeline/0000000A", "timeline/+0000001", "tip"]
        {
            check(bad, false);
        }
        check(&format!("change/0/{SPAN}-0000"), false);
        check(&format!("change/0/{SPAN}-0000x"), false);
        check(&format!("change/0/{SPAN}-0000é"), false);
        check(&format!("change/0/{SPAN}-00-0000e"), false);
        check(&format!("snapshot/{SPAN}.tmp"), false);
        check("snapshot/0000000000000002-0000000000000001-019abc000000-00000002", false);
        // With a digit too many a name was ours, and in listings out of order.
        check(&format!("change/10/{SPAN}-0000e"), false);
        check("snapshot/0000000000000001-0000000000000001-1019abc000000-00000002", false);
        // Whoever asked for the commit after it panicked, and the timeline after it was 0.
        check("timeline/ffffffff", false);
        check("timeline/fffffffe", true);
        check("snapshot/0000000000000001-0000000000000001-019abc000000-ffffffff", false);
        check("snapshot/0000000000000001-ffffffffffffffff-019abc000000-00000002", false);
        check("snapshot/0000000000000001-fffffffffffffffe-019abc000000-00000002", true);
    }

    #[test]
    fn a_name_tells_its_kind_and_its_timeline() {
        let part = "part/00000401-000102030405060708090a0b0c0d0e0f";
        for (text, kind, timeline) in [
            ("timeline/00000003", "timeline", Some(Timeline(3))),
            (&format!("snapshot/{SPAN}"), "snapshot", Some(Timeline(2))),
            (part, "part", None),
            (&format!("change/0/{SPAN}-0000e"), "change", Some(Timeline(2))),
        ] {
            let name: Name = text.parse().unwrap();
            assert_eq!((name.kind(), name.timeline()), (kind, timeline), "{text}");
        }
    }

    /// Fuzzing: a last part came after one of the same number with more to follow, and in listings before
    /// it.
    #[test]
    fn names_list_in_commit_order() {
        fn property(a: (u64, u64, bool), b: (u64, u64, bool)) -> bool {
            let name = |(first, extra, end): (u64, u64, bool)| {
                let (first, last) = (CommitNo(first), CommitNo(first.saturating_add(extra)));
                let span = Span { first, last, time: Time(5), timeline: Timeline(1) };
                Name::Change(Change { level: 0, span, part: 0, end })
            };
            let (a, b) = (name(a), name(b));
            let order = a.to_string().cmp(&b.to_string());
            (a.cmp(&b), a.partial_cmp(&b)) == (order, Some(order))
        }
        assert!(property((1, 1, true), (1, 1, false)));
        quickcheck(property as fn((u64, u64, bool), (u64, u64, bool)) -> bool);
    }
}
