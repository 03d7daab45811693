//! The WAL parser against WALs that SQLite wrote (`testdata/wal`), and the traps of reading them.
//! `encode` holds it to WALs made to order, `judge` to SQLite's own recovery.

use super::*;
use std::fs;

mod encode;
mod judge;

use encode::{BIG, LITTLE, Plan, SIZES, Write, add};

const FIXTURES: [&str; 15] = [
    "big-endian-3.40.1",
    "big-endian-3.54.1",
    "full-3.40.1",
    "full-3.54.1",
    "padding-3.40.1",
    "padding-3.54.1",
    "plain-3.40.1",
    "plain-3.54.1",
    "reset-3.40.1",
    "reset-3.54.1",
    "shell-3.40.1",
    "spill-done-3.40.1",
    "spill-done-3.54.1",
    "spill-open-3.40.1",
    "spill-open-3.54.1",
];

fn fixture(name: &str, end: &str) -> Vec<u8> {
    let path = format!("{}/testdata/wal/{name}.db{end}", env!("CARGO_MANIFEST_DIR"));
    fs::read(&path).unwrap_or_else(|e| panic!("read {path}: {e}"))
}

/// Calls `check` with the log and header of each SQLite's fixture of one kind.
fn each(kind: &str, check: impl Fn(&[u8], &Header)) {
    let names: Vec<_> = FIXTURES.iter().filter(|name| name.starts_with(kind)).collect();
    assert!(!names.is_empty(), "no fixture {kind}");
    for name in names {
        let wal = fixture(name, "-wal");
        check(&wal, &Header::parse(&wal).expect(name));
    }
}

/// Everything that a WAL's bytes hold, and why there is no more.
fn read(wal: &[u8]) -> (Vec<Write>, End) {
    let header = match Header::parse(wal) {
        Ok(header) => header,
        Err(end) => return (Vec::new(), end),
    };
    let mut frames = Frames::new(&header, header.start(), &wal[HEADER_BYTES..]);
    let writes = frames.by_ref().map(|frame| Write::from(&frame)).collect();
    assert!(frames.next().is_none(), "an iterator that ended stays at its end");
    (writes, frames.end().expect("the iterator is at its end"))
}

/// The place after the last commit, and the place where reading ended.
fn positions(header: &Header, wal: &[u8]) -> (Position, Position, End) {
    let mut frames = Frames::new(header, header.start(), &wal[HEADER_BYTES..]);
    let commits = frames.by_ref().filter(|frame| frame.commit.is_some());
    let commit = commits.last().map_or(header.start(), |frame| frame.position);
    (commit, frames.position(), frames.end().expect("the iterator is at its end"))
}

/// The bytes of a log right after a position.
fn after<'a>(header: &Header, position: Position, wal: &'a [u8]) -> &'a [u8] {
    &wal[header.frame_offset(position.frame + 1) as usize..]
}

#[test]
fn what_sqlite_wrote_reads_back() {
    /// Frame and database size of each commit frame, and how it ends.
    type Expected<'a> = (&'a str, u32, &'a [(u32, u32)], End);
    let padded: Vec<_> = (2..=8).chain(10..=16).chain(18..=23).map(|frame| (frame, 2)).collect();
    let expected: [Expected; 8] = [
        ("plain", 1024, &[(2, 2), (3, 2), (4, 2), (5, 2), (6, 2)], End::Exhausted),
        ("full", 512, &[(2, 2), (3, 2), (7, 4), (10, 5), (13, 5)], End::Exhausted),
        ("reset", 512, &[(3, 5)], End::ForeignSalt),
        ("padding", 512, &padded, End::Exhausted),
        ("spill-open", 512, &[(2, 2), (3, 2), (4, 2)], End::BadChecksum),
        ("spill-done", 512, &[(2, 2), (3, 2), (4, 2), (20, 16)], End::Exhausted),
        ("big-endian", 512, &[(2, 2), (3, 2), (4, 2), (5, 2), (6, 2)], End::Exhausted),
        ("shell", 4096, &[(2, 2), (3, 2)], End::Exhausted),
    ];
    for (kind, page_size, commits, end) in expected {
        each(kind, |wal, header| {
            let mut frames = Frames::new(header, header.start(), &wal[HEADER_BYTES..]);
            let found: Vec<_> =
                frames.by_ref().filter_map(|f| Some((f.number, f.commit?))).collect();
            assert_eq!((header.page_size.get(), found.as_slice()), (page_size, commits), "{kind}");
            assert_eq!(frames.end(), Some(end), "{kind}");
        });
    }
}

/// What a log says is all that an operator sees of it.
#[test]
fn every_end_is_told_from_the_others() {
    use End::*;
    let frames = [Exhausted, ShortFrame, ForeignSalt, ZeroPage, BadChecksum];
    let headers = [ShortHeader, BadMagic, BadPageSize, BadHeaderChecksum, BadVersion];
    let told: std::collections::BTreeSet<_> =
        frames.iter().chain(&headers).map(ToString::to_string).collect();
    assert_eq!((told.len(), told.contains("")), (10, false));
}

/// The log of `plain` after some damage: how many frames are left, and why no more.
#[test]
fn damage_is_named() {
    fn check(what: &str, damage: fn(&mut Vec<u8>), frames: usize, end: End) {
        each("plain", |wal, _| {
            let mut wal = wal.to_vec();
            damage(&mut wal);
            let (writes, found) = read(&wal);
            assert_eq!((writes.len(), found), (frames, end), "{what}: {found}");
        });
    }
    const FRAME: usize = 24 + 1024;
    check("none", |_| (), 6, End::Exhausted);
    check("no last frame", |wal| wal.truncate(32 + 5 * FRAME), 5, End::Exhausted);
    check("no last byte", |wal| wal.truncate(31 + 6 * FRAME), 5, End::ShortFrame);
    check("one byte too many", |wal| wal.push(0), 6, End::ShortFrame);
    check("zeros behind", |wal| wal.extend([0; FRAME]), 6, End::ForeignSalt);
    check("a frame twice", |wal| wal.extend_from_within(32 + 5 * FRAME..), 6, End::BadChecksum);
    check("a frame lost", |wal| drop(wal.drain(32 + FRAME..32 + 2 * FRAME)), 1, End::BadChecksum);
    check("a lost sector", |wal| wal[1024..1536].fill(0), 0, End::BadChecksum);
    check("first salt", |wal| wal[32 + FRAME + 8] ^= 1, 1, End::ForeignSalt);
    check("second salt", |wal| wal[32 + FRAME + 15] ^= 1, 1, End::ForeignSalt);
    check("page 0", |wal| wal[32 + 2 * FRAME..][..4].fill(0), 2, End::ZeroPage);
    check("other page", |wal| wal[32 + 2 * FRAME + 3] = 1, 2, End::BadChecksum);
    check("no commit", |wal| wal[32 + 2 * FRAME + 7] = 0, 2, End::BadChecksum);
    check("first sum", |wal| wal[32 + 3 * FRAME + 16] ^= 1, 3, End::BadChecksum);
    check("second sum", |wal| wal[32 + 3 * FRAME + 23] ^= 1, 3, End::BadChecksum);
    check("header's salt", |wal| wal[16] ^= 1, 0, End::BadHeaderChecksum);
    check("header's sequence number", |wal| wal[15] ^= 1, 0, End::BadHeaderChecksum);
    check("header's sum", |wal| wal[31] ^= 1, 0, End::BadHeaderChecksum);
    check("other byte order", |wal| wal[3] ^= 1, 0, End::BadHeaderChecksum);
    check("header's version", |wal| wal[7] ^= 1, 0, End::BadHeaderChecksum);
    check("header's page size", |wal| wal[9] = 1, 0, End::BadPageSize);
    check("magic", |wal| wal[0] = 0, 0, End::BadMagic);
}

#[test]
fn trap_01_partial_frame_at_tail() {
    each("full", |wal, header| {
        let last = header.frame_offset(13) as usize;
        let (_, before, end) = positions(header, &wal[..last]);
        assert_eq!((before.frame, end), (12, End::Exhausted));
        for cut in last + 1..wal.len() {
            assert_eq!(positions(header, &wal[..cut]).1, before);
            assert_eq!(positions(header, &wal[..cut]).2, End::ShortFrame);
        }
        let mut rest = Frames::new(header, before, after(header, before, wal));
        assert_eq!(rest.next().map(|frame| (frame.number, frame.commit)), Some((13, Some(5))));
    });
}

#[test]
fn trap_02_torn_frame() {
    each("full", |wal, header| {
        let last = header.frame_offset(13) as usize + FRAME_HEADER_BYTES;
        for bytes in [8, 256, 504] {
            let mut torn = wal.to_vec();
            torn[last + bytes..].fill(0xee);
            let (_, before, end) = positions(header, &torn);
            assert_eq!((before.frame, end), (12, End::BadChecksum));
            assert_eq!(Frames::new(header, before, after(header, before, wal)).count(), 1);
        }
    });
}

#[test]
fn trap_03_header_without_frames() {
    each("plain", |wal, header| {
        for bytes in 0..HEADER_BYTES {
            assert_eq!(Header::parse(&wal[..bytes]), Err(End::ShortHeader));
        }
        assert_eq!(read(&wal[..HEADER_BYTES]), (Vec::new(), End::Exhausted));
        let (commit, end, _) = positions(header, &wal[..HEADER_BYTES]);
        assert_eq!((commit, end), (header.start(), header.start()));
    });
}

/// Frames behind the published commit look good, and the next transaction takes their place.
fn overwritten(behind: [(u32, u32); 2], last_commit: u32) {
    let before = Plan::new(512, &[&[(1, 0), (2, 2)], &behind[..]].concat()).encode();
    let now = Plan::new(512, &[(1, 0), (2, 2), (5, 0), (6, 6), (7, 7)]).encode();
    let header = Header::parse(&before).unwrap();
    let (commit, end, _) = positions(&header, &before);
    assert_eq!((commit.frame, end.frame), (last_commit, 4));
    let pages = |from| {
        let frames = Frames::new(&header, from, after(&header, from, &now));
        frames.map(|frame| frame.page.0).collect::<Vec<_>>()
    };
    let published = positions(&header, &before[..header.frame_offset(3) as usize]).0;
    assert_eq!(pages(published), [5, 6, 7]);
    assert!(pages(end).is_empty(), "a position behind the published commit is worth nothing");
}

#[test]
fn trap_04_uncommitted_frames_at_tail() {
    overwritten([(3, 0), (4, 0)], 2);
}

/// To the parser it is a commit like any other: only the wal-index knows better.
#[test]
fn trap_07_phantom_commit() {
    overwritten([(3, 0), (4, 4)], 4);
}

#[test]
fn trap_05_spilled_frames_rewritten_in_place() {
    for version in ["3.40.1", "3.54.1"] {
        let open = fixture(&format!("spill-open-{version}"), "-wal");
        let done = fixture(&format!("spill-done-{version}"), "-wal");
        let header = Header::parse(&open).unwrap();
        assert_eq!(Header::parse(&done), Ok(header));
        let (commit, end, why) = positions(&header, &open);
        assert_eq!((commit.frame, why), (4, End::BadChecksum));
        assert!(end.frame < 12, "something was rewritten");
        let frame = Frames::new(&header, commit, after(&header, commit, &done)).last().unwrap();
        assert_eq!((frame.number, frame.commit), (20, Some(16)));
    }
}

#[test]
fn trap_06_zero_salt_frames_in_an_open_transaction() {
    each("spill-open", |wal, header| {
        let rewritten = header.frame_offset(13) as usize;
        assert_eq!(frame_salts(&wal[rewritten..]), Salts::default());
        assert_eq!(frame_checksum(&wal[rewritten..]), Checksum::default());
        assert_eq!(frame_page(&wal[rewritten..]), PageNo(11));
        let mut frames = Frames::new(header, header.start(), &wal[rewritten..]);
        assert_eq!((frames.next(), frames.end()), (None, Some(End::ForeignSalt)));
    });
}

/// Two versions of a page in one transaction come as two frames, in the order of the log.
#[test]
fn trap_09_same_page_twice_in_a_transaction() {
    each("spill-done", |wal, header| {
        let frames = Frames::new(header, header.start(), &wal[HEADER_BYTES..]);
        let versions: Vec<_> = frames.filter(|frame| frame.page == PageNo(2)).collect();
        let numbers: Vec<_> = versions.iter().map(|frame| frame.number).collect();
        assert_eq!(numbers, [2, 3, 4, 18]);
        assert!(versions.is_sorted_by(|a, b| a.data != b.data));
    });
    let plan = Plan::new(512, &[(2, 0), (1, 0), (2, 0), (2, 2)]);
    assert_eq!(read(&plan.encode()).0, plan.writes);
}

#[test]
fn trap_13_padding_frames_are_commits_like_the_one_they_repeat() {
    each("padding", |wal, header| {
        let frames: Vec<_> = Frames::new(header, header.start(), &wal[HEADER_BYTES..]).collect();
        let repeats = |pair: &&[Frame]| {
            let [a, b] = pair else { return false };
            a.commit.is_some() && (a.page, a.commit, a.data) == (b.page, b.commit, b.data)
        };
        assert_eq!(frames.windows(2).filter(repeats).count(), 6 + 6 + 5);
        let sector = |frame: u32| header.frame_offset(frame) % 4096;
        for first in [9, 17] {
            assert!(sector(first) < header.frame_bytes() as u64, "a commit begins a sector");
        }
    });
}

#[test]
fn trap_14_every_page_size() {
    for size in SIZES {
        let plan = Plan::new(size, &[(1, 0), (2, 2)]);
        let wal = plan.encode();
        assert_eq!(Header::parse(&wal).unwrap().page_size.get(), size);
        assert_eq!(read(&wal), (plan.writes, End::Exhausted));
    }
    for size in [0, 1, 256, 513, 1536, 65535, 65537, 131_072, 1 << 31, u32::MAX] {
        let wal = Plan { page_size: size, ..Plan::new(0, &[]) }.encode();
        assert_eq!(Header::parse(&wal), Err(End::BadPageSize), "{size}");
    }
}

#[test]
fn trap_16_big_endian_checksums() {
    each("big-endian", |wal, header| {
        assert!(header.big_endian);
        assert_eq!(read(wal).0.len(), 6);
    });
    each("plain", |_, header| assert!(!header.big_endian));
    assert_ne!(add((0, 0), b"abcdefgh", BIG), add((0, 0), b"abcdefgh", LITTLE));
}

#[test]
fn trap_18_offsets_beyond_4_gib() {
    let header = |size| Header::parse(&Plan::new(size, &[]).encode()).unwrap();
    assert_eq!(header(512).frame_offset(1), 32);
    assert_eq!(header(512).frame_offset(8159), 32 + 8158 * 536);
    assert_eq!(header(65536).frame_offset(70_001), 4_589_200_032);
    assert_eq!(header(65536).frame_offset(u32::MAX), 32 + (u64::from(u32::MAX) - 1) * 65560);
}

#[test]
#[should_panic(expected = "frames count from 1")]
fn frame_0_has_no_offset() {
    Header::parse(&Plan::new(512, &[]).encode()).unwrap().frame_offset(0);
}

/// Not to be mistaken for an empty log: someone else's file, or a SQLite newer than this program.
#[test]
fn trap_21_unknown_version_or_magic() {
    let frames = [(1, 0), (2, 2)];
    for magic in [0, LITTLE - 1, BIG + 1, LITTLE.swap_bytes(), u32::MAX] {
        let wal = Plan { magic, ..Plan::new(512, &frames) }.encode();
        assert_eq!(read(&wal), (Vec::new(), End::BadMagic), "{magic:x}");
    }
    for version in [0, 3_006_999, 3_007_001, 3_008_000] {
        let wal = Plan { version, ..Plan::new(512, &frames) }.encode();
        assert_eq!(read(&wal), (Vec::new(), End::BadVersion), "{version}");
    }
    assert_eq!(read(&[0; 4096]), (Vec::new(), End::BadMagic));
}

/// After a reset the file looks the same from outside. The salts tell, and the old log's tail is
/// still there for whoever kept its header and a position.
#[test]
fn trap_26_reset_with_identical_file_size() {
    for version in ["3.40.1", "3.54.1"] {
        let full = fixture(&format!("full-{version}"), "-wal");
        let reset = fixture(&format!("reset-{version}"), "-wal");
        let (old, new) = (Header::parse(&full).unwrap(), Header::parse(&reset).unwrap());
        assert_eq!(full.len(), reset.len());
        assert_ne!(old.salts, new.salts);
        let (commit, _, end) = positions(&new, &reset);
        assert_eq!((commit.frame, end), (3, End::ForeignSalt));
        let kept = Frames::new(&old, old.start(), &full[HEADER_BYTES..]).nth(6).unwrap().position;
        let mut tail = Frames::new(&old, kept, after(&old, kept, &reset));
        let commits: Vec<_> = tail.by_ref().filter_map(|f| Some((f.number, f.commit?))).collect();
        assert_eq!((commits, tail.end()), (vec![(10, 5), (13, 5)], Some(End::Exhausted)));
        let mut wrong = Frames::new(&new, kept, after(&old, kept, &reset));
        assert_eq!((wrong.next(), wrong.end()), (None, Some(End::ForeignSalt)));
    }
}

/// A frame of an older generation whose salts happen to be right still fails: sums are chained.
#[test]
fn salts_alone_prove_nothing() {
    let mut wal = Plan::new(512, &[(1, 0), (2, 2)]).encode();
    let second = wal.split_off(32 + 536);
    wal.truncate(32);
    wal.extend(second);
    assert_eq!(read(&wal), (Vec::new(), End::BadChecksum));
}
