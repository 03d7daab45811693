//! Wrong inputs from right ones. Nothing here knows a format: `objects` and `logs` mend what hides
//! the rest of a parser from it.

use crate::rng::Rng;

/// Lengths, counts and numbers on which parsers have been known to stumble.
const ODD: [u64; 16] = [
    0,
    1,
    2,
    7,
    255,
    256,
    511,
    512,
    65_535,
    65_536,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    u64::MAX - 1,
    u64::MAX,
];

/// No input grows past this by itself: a run is to be short.
const LONG: usize = 16 << 10;

/// Changes `bytes` in one to four ways. `other` is a right input too, from which pieces are taken.
pub fn bytes(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    for _ in 0..few(rng) {
        let at = place(bytes.len(), rng);
        match rng.below(12) {
            0 | 1 => flip(bytes, rng),
            2 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = rng.number() as u8),
            3 | 4 => field(bytes, rng),
            5 => bytes.truncate(at),
            6 => drop(bytes.drain(at..end(at, bytes.len(), rng))),
            7 => insert(bytes, at, &rng.bytes_of(0, 24)),
            8 => repeat(bytes, at, rng),
            9 => bytes[at..].iter_mut().take(rng.below(32) as usize).for_each(|byte| *byte = 0),
            10 => splice(bytes, other, rng),
            _ => copy_over(bytes, other, rng),
        }
        bytes.truncate(LONG);
    }
}

/// Changes a text: as bytes, or by words of its language. It may be no UTF-8 any more.
pub fn text(text: &mut Vec<u8>, other: &[u8], words: &[&str], rng: &mut Rng) {
    for _ in 0..few(rng) {
        let at = place(text.len(), rng);
        match rng.below(6) {
            0 | 1 => {
                let word = rng.pick(words).as_bytes();
                insert(text, at, word);
            }
            2 => {
                let word = *rng.pick(words);
                drop(text.splice(at..end(at, text.len(), rng), word.bytes()));
            }
            3 => digit(text, rng),
            _ => bytes(text, other, rng),
        }
        text.truncate(LONG);
    }
}

/// One mostly, so that a change is seen by itself.
fn few(rng: &mut Rng) -> u64 {
    if rng.one_in(2) { 1 } else { rng.between(1, 4) }
}

fn place(len: usize, rng: &mut Rng) -> usize {
    rng.below(len as u64 + 1) as usize
}

/// Near, mostly.
fn end(at: usize, len: usize, rng: &mut Rng) -> usize {
    let most = if rng.one_in(4) { len - at } else { (len - at).min(16) };
    at + place(most, rng)
}

fn flip(bytes: &mut [u8], rng: &mut Rng) {
    if !bytes.is_empty() {
        let bit = rng.below(bytes.len() as u64 * 8) as usize;
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// Another number in a field of 2, 4 or 8 bytes, in either order: an odd one, or one near to it.
fn field(bytes: &mut [u8], rng: &mut Rng) {
    let width = *rng.pick(&[1, 2, 4, 4, 4, 8]);
    let Some(last) = bytes.len().checked_sub(width) else { return };
    let at = place(last, rng);
    let at = if rng.one_in(2) { at / 4 * 4 } else { at };
    let field = &mut bytes[at..][..width];
    let big = rng.one_in(3);
    let mut number = [0; 8];
    number[..width].copy_from_slice(field);
    if big {
        number[..width].reverse();
    }
    let number = u64::from_le_bytes(number);
    let near = rng.below(9).wrapping_sub(4);
    let number = if rng.one_in(2) { *rng.pick(&ODD) } else { number.wrapping_add(near) };
    field.copy_from_slice(&number.to_le_bytes()[..width]);
    if big {
        field.reverse();
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, more: &[u8]) {
    drop(bytes.splice(at..at, more.iter().copied()));
}

fn repeat(bytes: &mut Vec<u8>, at: usize, rng: &mut Rng) {
    let piece = bytes[at..end(at, bytes.len(), rng)].to_vec();
    let most = if rng.one_in(16) { 200 } else { 3 };
    for _ in 0..rng.between(1, most) {
        insert(bytes, at, &piece);
        if bytes.len() > LONG {
            return;
        }
    }
}

/// The front of one, the rest of the other.
fn splice(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    bytes.truncate(place(bytes.len(), rng));
    bytes.extend_from_slice(&other[place(other.len(), rng)..]);
}

/// A piece of the other one in place of its own.
fn copy_over(bytes: &mut [u8], other: &[u8], rng: &mut Rng) {
    let from = place(other.len(), rng);
    let piece = &other[from..end(from, other.len(), rng)];
    // Mostly where it stands there too.
    let at = if rng.one_in(4) { place(bytes.len(), rng) } else { from.min(bytes.len()) };
    bytes[at..].iter_mut().zip(piece).for_each(|(byte, with)| *byte = *with);
}

fn digit(text: &mut [u8], rng: &mut Rng) {
    let digits = text.iter_mut().filter(|byte| byte.is_ascii_hexdigit());
    let mut digits: Vec<_> = digits.collect();
    if !digits.is_empty() {
        let at = rng.below(digits.len() as u64) as usize;
        *digits[at] = *rng.pick(b"0123456789abcdefF-");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_become_others_of_bounded_length_and_the_same_for_a_seed() {
        let (one, other) = (b"one input that is right".to_vec(), b"and another, a longer one");
        let change = |seed| {
            let (mut raw, mut words) = (one.clone(), one.clone());
            bytes(&mut raw, other, &mut Rng::new(seed));
            text(&mut words, other, &["word", "="], &mut Rng::new(seed));
            (raw, words)
        };
        let all: Vec<_> = (0..2000).map(change).collect();
        assert_eq!(all, (0..2000).map(change).collect::<Vec<_>>());
        assert!(all.iter().all(|(raw, words)| raw.len().max(words.len()) <= LONG));
        let same = all.iter().filter(|(raw, words)| *raw == one || *words == one).count();
        assert!(same < 500, "{same} of 2000 are as they were");
        let mut empty = Vec::new();
        (0..2000).for_each(|seed| bytes(&mut empty, b"", &mut Rng::new(seed)));
    }
}
