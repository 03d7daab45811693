//! A sealed object opens under its key and its name, as it was, or not at all.

use super::*;
use crate::commit::Timeline;
use crate::model::{Step, Writer};
use crate::object::Object;
use crate::testkit::Random;

fn key(number: u8) -> Key {
    Key::new(&Zeroizing::new([number; 32]))
}

fn timeline(number: u32) -> Name {
    Name::Timeline(Timeline(number))
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| ((at * 31) >> 3) as u8).collect()
}

/// An object's trailer as anybody can make it: they need no key for that.
fn with_trailer(mut body: Vec<u8>) -> Vec<u8> {
    let end = body.len() - 36;
    body.truncate(end);
    body.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    body.extend_from_slice(blake3::hash(&body).as_bytes());
    body
}

#[test]
fn what_is_sealed_opens_as_it_was() {
    for size in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES] {
        let plain = bytes(size);
        let sealed = key(1).seal(&timeline(1), &plain);
        assert_eq!(sealed_under(&sealed), Some(key(1).id), "{size}");
        assert!(sealed.len() < size + 300 + size / 2000, "{size}: {}", sealed.len());
        assert!(key(1).open(&timeline(1), sealed).unwrap() == plain, "{size}");
    }
}

/// The nonce counts within an object, so two objects must never have a subkey in common; and the same
/// object has the same bytes each time, whatever crashed between.
#[test]
fn trap_98_a_nonce_meets_a_subkey_only_with_the_same_bytes() {
    let salt = |key: &Key, name: &Name, plain: &[u8]| {
        let sealed = key.seal(name, plain);
        assert_eq!(sealed, key.seal(name, plain), "again after a crash");
        SealedObject::open(name, sealed).unwrap().envelope.salt
    };
    let mut random = Random(98);
    let mut salts = std::collections::BTreeSet::new();
    let mut tried = 0;
    for number in 0..50 {
        let mut plain = bytes(200 + number as usize);
        for _ in 0..20 {
            plain[random.below(200) as usize] ^= 1 << random.below(8);
            salts.insert(salt(&key(1), &timeline(number), &plain));
            salts.insert(salt(&key(1), &timeline(number + 1000), &plain));
            salts.insert(salt(&key(2), &timeline(number), &plain));
            tried += 3;
        }
    }
    // A bit that is turned back gives bytes that were there before.
    assert!(salts.len() > tried - 40, "{} of {tried}", salts.len());
    let (one, two) = (nonce(1, false), nonce(1, true));
    assert_ne!(one, two);
    assert_ne!(one, nonce(256, false));
}

#[test]
fn a_sealed_object_shows_nothing_of_what_is_inside() {
    let mut writer = Writer::new(512);
    writer.commit(&Step::fill(3, 1..=3, 1)).snapshot();
    for (name, plain) in &*writer.store.objects() {
        let name = name.parse().unwrap();
        let sealed = key(1).seal(&name, plain);
        // The page size, the lineage, the digest: nothing past the name is the same.
        assert_eq!(sealed[48..52], [0; 4]);
        assert_eq!(sealed[56..128], [0; 72]);
        let inside = &plain[128 + name.to_string().len()..];
        let seen = |window: &[u8]| sealed.windows(window.len()).any(|it| it == window);
        assert!(!inside.windows(12).filter(|it| it != &[0; 12]).any(seen), "{name}");
        let Err(Damage::Sealed(id)) = Object::open(&name, sealed.clone()) else {
            panic!("{name}: opens without a key")
        };
        assert_eq!(id, key(1).id);
        assert_eq!(key(1).seal(&name, &sealed), sealed, "not sealed twice");
    }
}

/// Every piece of a sealed object, changed as one who has no key can: with checksums made anew.
#[test]
fn trap_97_ten_thousand_forgeries_and_none_is_accepted() {
    let (name, other) = (timeline(1), timeline(2));
    let plain = bytes(2 * BLOCK_BYTES + 777);
    let sealed = key(1).seal(&name, &plain);
    let mut random = Random(97);
    let mut tried = 0;
    let mut refused = |body: Vec<u8>, what: &str| {
        assert!(key(1).open(&name, body).is_err(), "{what} {tried}");
        tried += 1;
    };
    // Each bit of the header and of the end, and as many in between, under the trailer as it was; one
    // bit of each byte under a new one.
    let (head, tail) = (150, sealed.len() - 150);
    let dense = (0..head).chain(tail..sealed.len()).flat_map(|at| (0..8).map(move |bit| (at, bit)));
    let spread =
        (0..600).map(|_| (random.below(sealed.len() as u64) as usize, random.below(8) as usize));
    let spread: Vec<_> = spread.collect();
    for (at, bit) in dense.chain(spread) {
        let mut body = sealed.clone();
        body[at] ^= 1 << bit;
        if at % 8 == bit && at < sealed.len() - 36 {
            refused(with_trailer(body.clone()), "a bit");
        }
        refused(body, "a bit, and the trailer as it was");
    }
    // A small object in each of its bits: the header's fields, the tag, the directory.
    let small = key(1).seal(&name, &bytes(300));
    for at in 0..small.len() - 36 {
        for bit in 0..8 {
            let mut body = small.clone();
            body[at] ^= 1 << bit;
            refused(with_trailer(body), "a bit of a small one");
        }
    }
    for _ in 0..4000 {
        let mut body = small.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(small.len() as u64 - 36) as usize;
            body[at] = body[at].wrapping_add(1 + random.below(255) as u8);
        }
        refused(with_trailer(body), "bytes");
    }
    for end in (0..small.len()).chain((0..sealed.len()).step_by(997)) {
        let from = if end < small.len() { &small } else { &sealed };
        refused(from[..end].to_vec(), "cut");
    }
    // What was sealed under another name, key or for another kind.
    let swapped = key(1).seal(&other, &plain);
    refused(swapped.clone(), "another name");
    refused(renamed(&swapped), "another name, written over");
    refused(key(2).seal(&name, &plain), "another key");
    let mut posing = key(2).seal(&name, &plain);
    posing[16..24].copy_from_slice(&key(1).id.0);
    refused(with_trailer(posing), "another key, posing");
    for blocks in rearranged(&name, &sealed) {
        refused(blocks, "other blocks");
    }
    assert!(tried >= 10_000, "{tried} forgeries");
}

/// The name in the header and the one it is stored under agree.
fn renamed(sealed: &[u8]) -> Vec<u8> {
    let mut body = sealed.to_vec();
    let at = 128 + timeline(1).to_string().len() - 1;
    assert_eq!(body[at], b'2');
    body[at] = b'1';
    with_trailer(body)
}

/// The blocks as stored.
fn blocks_of(object: SealedObject) -> Vec<Vec<u8>> {
    let mut blocks = Vec::new();
    object.opened(|_, _, _, block| {
        blocks.push(block.to_vec());
        Some(0)
    });
    blocks
}

/// The same header, and its blocks in other orders, some left out or repeated, or of another object.
fn rearranged(name: &Name, sealed: &[u8]) -> Vec<Vec<u8>> {
    let object = SealedObject::open(name, sealed.to_vec()).unwrap();
    let other = key(1).seal(name, &bytes(3 * BLOCK_BYTES));
    let other = SealedObject::open(name, other).unwrap();
    let envelope = object.envelope;
    let (blocks, others) = (blocks_of(object), blocks_of(other));
    assert_eq!((blocks.len(), others.len()), (3, 3));
    let orders: [&[usize]; 12] = [
        &[],
        &[0],
        &[0, 1],
        &[1, 2],
        &[0, 2],
        &[2],
        &[1, 0, 2],
        &[2, 1, 0],
        &[0, 1, 2, 2],
        &[0, 0, 1, 2],
        &[0, 1, 5],
        &[3, 1, 2],
    ];
    let all: Vec<_> = blocks.iter().chain(&others).collect();
    let made = orders.iter().map(|order| {
        let mut encoder = Encoder::sealed(name, &envelope, 0);
        order.iter().for_each(|&at| encoder.block(all[at]));
        encoder.finish()
    });
    let mut made: Vec<_> = made.collect();
    // Cut within a block, and at each border of one: the directory says what is left.
    for kept in [0, 15, 16, 17, BLOCK_BYTES - 1, BLOCK_BYTES + 15] {
        let mut encoder = Encoder::sealed(name, &envelope, 0);
        encoder.block(&blocks[0][..kept]);
        made.push(encoder.finish());
    }
    made
}

/// Nothing that is printed holds a key.
#[test]
fn keys_are_not_shown() {
    let keys = Keys { all: vec![key(7)], rule: Rule::All };
    let shown = format!("{keys:?} {:?}", keys.names());
    assert_eq!(shown, format!("Keys {{ all: [Key({})], rule: All }} Some(NameKey)", key(7).id));
}

#[test]
fn the_rule_says_what_is_sealed_and_what_is_refused() {
    for (rule, seals, refuses) in [
        (Rule::Auto, true, true),
        (Rule::All, true, true),
        (Rule::New, true, false),
        (Rule::None, false, false),
    ] {
        let keys = Keys { all: vec![key(1), key(2)], rule };
        assert_eq!(keys.sealing().map(|key| key.id), seals.then_some(key(1).id), "{rule:?}");
        assert_eq!((keys.are_needed(), keys.names().is_some()), (refuses, seals), "{rule:?}");
        assert!(keys.find(key(2).id).is_some() && keys.find(key(3).id).is_none());
    }
    let none = Keys::default();
    assert!(none.sealing().is_none() && !none.are_needed());
}

/// Sealed by another program, in Python, that was written from the words of `bakelite(5)`.
#[test]
fn trap_99_the_golden_sealed_replica_is_what_its_key_makes_of_the_plain_one() {
    let key = Key::new(&Zeroizing::new(std::array::from_fn(|at| at as u8)));
    assert_eq!(key.id.to_string(), "a6012c0a03700252");
    let testdata = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let read = |replica: &str, name: &Name| {
        std::fs::read(testdata.join(replica).join("replica").join(name.to_string())).unwrap()
    };
    let golden = crate::backend::fs::Fs::open(&testdata.join("golden-v1-sealed/replica")).unwrap();
    let names = Name::PREFIXES.map(|prefix| crate::backend::list_all(&golden, prefix).unwrap());
    let names: Vec<_> = names.into_iter().flat_map(|it| it.entries).map(|it| it.name).collect();
    assert_eq!(names.len(), 17);
    for name in names {
        let (plain, sealed) = (read("golden-v1", &name), read("golden-v1-sealed", &name));
        assert!(key.seal(&name, &plain) == sealed, "{name}");
        assert!(key.open(&name, sealed).unwrap() == plain, "{name}");
    }
    // Several blocks.
    let sealed = key.seal(&timeline(7), &bytes(150_000));
    assert_eq!(blake3::hash(&sealed).to_hex().as_str(), MANY_BLOCKS);
    assert_eq!(key.names.hide(0x0123), HIDDEN);
}

const MANY_BLOCKS: &str = "9ea9537dac1d5c118c28caf62c42210e99c024119adf833defd12c7d097f89d4";
const HIDDEN: u128 = 0x35c455320034483134d6e877a8bf6b8e;
