//! An object opens as what was written under its name, or not at all.

use super::*;
use crate::commit::{Commit, CommitNo, Digest, PageNo, Time, Timeline};
use crate::model::{Step, Writer};
use crate::name::{Part, Span};
use crate::replica::damaged;
use crate::snapshot::{Fork, Manifest, PartPages};
use quickcheck::QuickCheck;

mod page;

/// A small object of each kind.
fn each_kind() -> Vec<(Name, Vec<u8>)> {
    let mut writer = Writer::new(512);
    writer.commit(&Step::fill(3, 1..=3, 1)).commit(&Step::fill(2, [1], 2)).snapshot();
    writer.in_parts(&Step::fill(4, 3..=4, 3), 1, 0);
    let objects = writer.store.objects();
    objects.iter().map(|(key, body)| (key.parse().unwrap(), body.clone())).collect()
}

/// Opens an object as its kind is opened, and decodes all of it.
fn open(name: &Name, bytes: Vec<u8>) -> Result<String, Damage> {
    match name {
        Name::Timeline(timeline) => Ok(format!("{:?}", Fork::decode(*timeline, bytes)?)),
        Name::Snapshot(span) => Ok(format!("{:?}", Manifest::decode(*span, bytes)?)),
        Name::Part(part) => {
            let pages = PartPages::open(*part, bytes)?;
            pages.check().map(|()| format!("{pages:?}"))
        }
        Name::Change(change) => {
            let set = crate::change::ChangeSet::open(change, bytes)?;
            set.pages_at(change.span.first, |_, _, _| Ok::<(), Damage>(()))?;
            Ok(format!("{set:?}"))
        }
    }
}

#[test]
fn no_byte_of_any_kind_can_be_changed() {
    let kinds = each_kind();
    assert_eq!(kinds.len(), 6, "timeline, snapshot, part, change-set and two parts of one");
    for (name, body) in kinds {
        open(&name, body.clone()).unwrap();
        for at in 0..body.len() {
            for bit in [1, 16, 128] {
                let mut body = body.clone();
                body[at] ^= bit;
                assert!(open(&name, body).is_err(), "{name}: byte {at}");
            }
        }
    }
}

#[test]
fn no_kind_opens_cut_short_or_prolonged() {
    for (name, mut body) in each_kind() {
        for length in 0..body.len() {
            assert!(open(&name, body[..length].to_vec()).is_err(), "{name}: {length} bytes");
        }
        body.push(0);
        assert!(open(&name, body).is_err(), "{name}: a byte more");
    }
}

#[test]
fn an_object_opens_under_its_own_name_alone() {
    let kinds = each_kind();
    for (name, body) in &kinds {
        for (other, _) in kinds.iter().filter(|(other, _)| other != name) {
            let found = open(other, body.clone()).unwrap_err();
            assert!(matches!(found, Damage::WrongKind(_) | Damage::WrongName), "{found:?}");
        }
    }
}

/// Writes other bytes at a place of the header, and the checksums that they should have.
fn rewritten(body: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut body = body[..body.len() - 36].to_vec();
    body[at..at + bytes.len()].copy_from_slice(bytes);
    body.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    let hash = blake3::hash(&body);
    body.extend_from_slice(hash.as_bytes());
    body
}

#[test]
fn a_newer_format_is_refused_with_a_status_of_its_own() {
    use crate::error::Status::{Integrity, Key, Newer};
    let store = crate::backend::mem::Mem::new();
    for (name, body) in each_kind() {
        for (at, bytes, damage, status) in [
            (8, &[2, 0][..], Damage::NewerVersion(2), Newer),
            (8, &[0, 3], Damage::NewerVersion(0x300), Newer),
            (8, &[0, 0], Damage::BadHeader, Integrity),
            (11, &[2], Damage::UnknownSeal(2), Newer),
            (11, &[1], Damage::Sealed(crate::object::KeyId([0; 8])), Key),
            (12, &[9], Damage::UnknownCompression(9), Newer),
            (13, &[1], Damage::BadHeader, Integrity),
            (16, &[1], Damage::BadHeader, Integrity),
            (47, &[1], Damage::BadHeader, Integrity),
            (120, &[1], Damage::BadHeader, Integrity),
            (48, &[1, 0, 0, 0], Damage::BadHeader, Integrity),
        ] {
            let found = open(&name, rewritten(&body, at, bytes)).unwrap_err();
            assert_eq!(found, damage, "{name} at {at}");
            assert_eq!(damaged(&store, &name, found).status, status, "{name} at {at}");
        }
        let mut flipped = body;
        flipped[8] ^= 2;
        assert_eq!(open(&name, flipped), Err(Damage::BadHash), "no version to be believed");
    }
}

/// What mends the hash, which comes last, has to mend this one as well.
#[test]
fn a_wrong_crc_is_told_under_a_right_hash() {
    for (name, mut body) in each_kind() {
        let crc = body.len() - 36;
        body[crc] ^= 1;
        body.truncate(crc + 4);
        let hash = blake3::hash(&body);
        body.extend_from_slice(hash.as_bytes());
        assert_eq!(open(&name, body), Err(Damage::BadCrc));
    }
}

fn header() -> Header {
    let page_size = PageSize::new(512).unwrap();
    Header { page_size, parent: Chain::default(), chain: Chain::default() }
}

#[test]
fn blocks_come_back_as_they_were() {
    fn property(blocks: Vec<Vec<u8>>, plain: bool) -> bool {
        let compression = if plain { Compression::None } else { Compression::Zstd };
        let name = Name::Timeline(Timeline(1));
        let mut encoder = Encoder::new(&name, &header(), compression);
        blocks.iter().for_each(|block| encoder.block(block));
        let object = Object::open(&name, encoder.finish()).unwrap();
        let read = (0..object.count()).map(|at| object.block(at).unwrap());
        assert_eq!(object.block(object.count()), Err(Damage::BadTable("no such block")));
        object.header == header() && read.eq(blocks)
    }
    QuickCheck::new().quickcheck(property as fn(Vec<Vec<u8>>, bool) -> bool);
}

/// A directory that lies, under right checksums, costs neither a panic nor memory.
#[test]
fn a_directory_that_lies_is_refused() {
    fn property(words: Vec<u32>, small: Vec<u8>, count: u8) -> bool {
        let name = Name::Timeline(Timeline(1));
        let mut body = Encoder::new(&name, &header(), Compression::Zstd).finish();
        body.truncate(body.len() - TRAILER);
        let small = small.into_iter().map(|byte| u32::from(byte % 20));
        let words = words.into_iter().chain(small);
        words.for_each(|word| body.extend_from_slice(&word.to_le_bytes()));
        body.extend_from_slice(&u32::from(count % 16).to_le_bytes());
        body.extend_from_slice(&[0; 36]);
        match Object::open(&name, rewritten(&body, 0, &[])) {
            Ok(object) => (0..object.count()).all(|at| object.block(at).is_err()),
            Err(damage) => damage == Damage::BadDirectory,
        }
    }
    fn with_an_empty_block(small: Vec<u8>, count: u8) -> bool {
        let _ = property(Vec::new(), small, count);
        true
    }
    QuickCheck::new().quickcheck(property as fn(Vec<u32>, Vec<u8>, u8) -> bool);
    QuickCheck::new().tests(1000).quickcheck(with_an_empty_block as fn(Vec<u8>, u8) -> bool);
}

/// One that was as large as an object may be is sealed whole.
#[test]
fn a_sealed_object_may_be_larger_than_the_one_in_it() {
    let (name, megabyte) = (Name::Timeline(Timeline(1)), vec![0; 1 << 20]);
    let envelope = Envelope { key: KeyId([1; 8]), salt: [2; 24] };
    let mut encoder = Encoder::sealed(&name, &envelope, 33 << 20);
    (0..32).for_each(|_| encoder.sealed_block(&megabyte, |_| [3; 16]));
    let body = encoder.finish();
    assert!(body.len() > MAX_BYTES && SealedObject::open(&name, body).is_ok());
}

/// No reader would take it: better it is never stored.
#[test]
#[should_panic(expected = "nor has it more before compression")]
fn an_object_of_more_than_32_mib_before_compression_is_not_finished() {
    let mut encoder = Encoder::new(&Name::Timeline(Timeline(1)), &header(), Compression::Zstd);
    let megabyte = vec![0; 1 << 20];
    (0..33).for_each(|_| encoder.block(&megabyte));
    drop(encoder.finish());
}

#[test]
fn a_small_object_cannot_ask_for_much_memory() {
    let name = Name::Timeline(Timeline(1));
    let mut encoder = Encoder::new(&name, &header(), Compression::Zstd);
    let megabyte = vec![0; 1 << 20];
    (0..32).for_each(|_| encoder.block(&megabyte));
    assert!(encoder.body.len() < 8192);
    assert!(Object::open(&name, encoder.finish()).is_ok());
    let mut encoder = Encoder::new(&name, &header(), Compression::Zstd);
    encoder.block(&megabyte);
    let body = encoder.finish();
    let count = body.len() - TRAILER;
    let body = rewritten(&body, count - 4, &(MAX_BYTES as u32 + 1).to_le_bytes());
    assert_eq!(Object::open(&name, body).unwrap_err(), Damage::BadDirectory);
    let wrong = rewritten(&rewritten_plain(&name), count - 4, &5_u32.to_le_bytes());
    assert!(Object::open(&name, wrong).and_then(|object| object.block(0)).is_err());
}

fn rewritten_plain(name: &Name) -> Vec<u8> {
    let mut encoder = Encoder::new(name, &header(), Compression::Zstd);
    encoder.block(&vec![0; 1 << 20]);
    encoder.finish()
}

/// Tables of a snapshot, a part and a timeline with whatever in them, under right checksums.
#[test]
fn a_table_that_lies_is_refused_without_panic() {
    fn property(table: Vec<u8>, words: Vec<u8>, pages: Vec<u8>) -> bool {
        let span =
            Span { first: CommitNo(1), last: CommitNo(2), time: Time(0), timeline: Timeline(2) };
        let part = Part { page: PageNo(1), hash: 7 };
        let words: Vec<u8> = words.iter().flat_map(|w| u32::from(w % 4).to_le_bytes()).collect();
        for table in [table, words] {
            for name in [Name::Timeline(Timeline(2)), Name::Snapshot(span), Name::Part(part)] {
                let mut encoder = Encoder::new(&name, &header(), Compression::None);
                encoder.block(&pages.repeat(40));
                encoder.block(&table);
                let _refused_or_not = open(&name, encoder.finish());
            }
        }
        true
    }
    QuickCheck::new().tests(2000).quickcheck(property as fn(Vec<u8>, Vec<u8>, Vec<u8>) -> bool);
}

/// A manifest under right checksums that says what cannot be.
#[test]
fn a_manifest_whose_parts_leave_a_gap_is_refused() {
    let commit = Commit {
        number: CommitNo(3),
        time: Time(1),
        pages: 9,
        digest: Some(Digest(1)),
        resync: false,
    };
    let part = |page, pages, commit| crate::snapshot::PartRef {
        part: Part { page: PageNo(page), hash: 1 },
        pages,
        commit: CommitNo(commit),
    };
    let manifest = |parts: &[_], commit| Manifest {
        commit,
        timeline: Timeline(1),
        page_size: PageSize::new(512).unwrap(),
        chain: Chain::default(),
        parts: parts.to_vec(),
    };
    let undated = Commit { digest: None, ..commit };
    for (manifest, good) in [
        (manifest(&[part(1, 4, 2), part(5, 5, 3)], commit), true),
        (manifest(&[], commit), true),
        (manifest(&[part(1, 4, 2), part(5, 5, 3)], undated), false),
        (manifest(&[part(1, 4, 2), part(6, 4, 3)], commit), false),
        (manifest(&[part(1, 4, 2), part(4, 4, 3)], commit), false),
        (manifest(&[part(2, 4, 2)], commit), false),
        (manifest(&[part(1, 0, 2), part(1, 9, 3)], commit), false),
        (manifest(&[part(1, 4, 3), part(5, 5, 4)], commit), false),
        (manifest(&[part(1, 4, 3), part(5, u32::MAX, 3)], commit), false),
    ] {
        let Name::Snapshot(span) = manifest.name() else { unreachable!() };
        let decoded = Manifest::decode(span, manifest.encode(Compression::None));
        assert_eq!(decoded.is_ok(), good, "{manifest:?}");
        assert!(!good || decoded == Ok(manifest));
    }
}

#[test]
fn a_part_of_other_pages_than_its_name_says_is_found() {
    let size = PageSize::new(512).unwrap();
    let part = crate::snapshot::part_name(size, PageNo(3), &[]);
    let body = crate::snapshot::encode_part(part, None, size, &[7; 1024], Compression::Zstd);
    let found = PartPages::open(part, body).unwrap().check();
    assert_eq!(found, Err(Damage::BadTable("pages other than its hash says")));
}
