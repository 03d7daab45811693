//! What every backend has to do: promises that all of them keep, and every store behind one.
//!
//! The tests hold the backends of this library to it, and `torture suite` an operator's own storage. So
//! a promise that is not kept is told in words, not by a panic.

use super::{Backend, Error, Kind, list_all};
use crate::commit::{CommitNo, PageNo, Time, Timeline};
use crate::name::{Change, Name, Part, Span};
use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// What a backend is made with for this suite: pages are short, so that a few names fill several.
pub const PAGE: usize = 3;

/// That a promise was kept, or what was seen instead.
pub type Kept = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// A promise in words, and how it is tried on an empty replica with `PAGE` names to a page.
pub type Promise = (&'static str, fn(&dyn Backend) -> Kept);

/// The promise that a store cannot keep which has to be asked first what is there.
pub const ONE_WINS: &str = "of those who put one name at once exactly one wins";

pub const PROMISES: [Promise; 13] = [
    ("what is put comes back byte for byte, and is listed as long as it is", bodies_come_back),
    ("the beginning of an object can be read alone", beginnings_come_back),
    ("other bytes than an object has are told from its own", bytes_are_compared),
    ("the largest object, 32 MiB, comes back and is kept", the_largest_comes_back),
    ("a name that is taken is refused, and free again once it is deleted", a_name_is_taken_once),
    ("a replaced object is the new one", a_replaced_object_is_the_new_one),
    ("whoever reads an object that is replaced finds the old one or the new one", replaced_at_once),
    (ONE_WINS, one_racer_wins),
    ("what is absent is told to be", the_absent_is_not_found),
    ("a delete removes one object, and of one that is absent succeeds", deleting_twice_is_fine),
    ("names of every kind are kept apart", names_of_every_kind_are_kept_apart),
    ("listings are in order, page by page, after any name", listings_are_in_order_and_paged),
    ("whoever reads and lists while objects are put finds whole ones", bodies_appear_whole),
];

/// `make` gives an empty replica each time.
pub fn suite(make: impl Fn() -> Arc<dyn Backend>) {
    for (promise, keep) in PROMISES {
        keep(&*make()).unwrap_or_else(|seen| panic!("{promise}: {seen}"));
    }
}

/// `plant` stores a key behind the backend's back.
pub fn foreign_keys(backend: &dyn Backend, plant: impl Fn(&str)) {
    let names: Vec<_> = (1..=5).map(|first| change(0, first)).collect();
    names.iter().for_each(|name| backend.put(name, b"x").unwrap());
    let keys = [
        "change/0/.hidden".to_owned(),
        "change/0/README".to_owned(),
        "change/zero/README".to_owned(),
        format!("{}.bak", names[PAGE - 1]),
        format!("{}.bak", names[4]),
    ];
    keys.iter().for_each(|key| plant(key));
    let listing = list_all(backend, Name::CHANGES).unwrap();
    let listed: Vec<_> = listing.entries.into_iter().map(|entry| entry.name).collect();
    assert_eq!(listed, names);
    let mut expected = keys.to_vec();
    expected.sort();
    assert_eq!(listing.foreign, expected, "each once");
}

/// A change-set's name, as most tests need one.
pub fn change(level: u8, first: u64) -> Name {
    Name::Change(Change { level, span: span(first), part: 0, end: true })
}

fn span(first: u64) -> Span {
    let (first, last) = (CommitNo(first), CommitNo(first + 1));
    Span { first, last, time: Time(1_700_000_000_000), timeline: Timeline(1) }
}

/// Names under each prefix, in the order of their text.
fn names_of_every_kind() -> [(&'static str, Vec<Name>); 4] {
    let part = |page, hash| Name::Part(Part { page: PageNo(page), hash });
    let first_half = Name::Change(Change { level: 0, span: span(9), part: 0, end: false });
    let second_half = Name::Change(Change { level: 0, span: span(9), part: 1, end: true });
    [
        (
            Name::TIMELINES,
            vec![Name::Timeline(Timeline(1)), Name::Timeline(Timeline(u32::MAX - 1))],
        ),
        (Name::SNAPSHOTS, vec![Name::Snapshot(span(1)), Name::Snapshot(span(u64::MAX - 2))]),
        (Name::PARTS, vec![part(1, 7), part(1, u128::MAX), part(1025, 0)]),
        (Name::CHANGES, vec![change(0, 1), first_half, second_half, change(1, 1), change(9, 1)]),
    ]
}

fn expect<T: PartialEq + Debug>(what: impl Display, found: T, expected: T) -> Kept {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{what}: {found:?}, not {expected:?}").into()),
    }
}

fn expect_bytes(what: impl Display, found: &[u8], expected: &[u8]) -> Kept {
    match found.iter().zip(expected).position(|(found, expected)| found != expected) {
        None => expect(format!("{what}: bytes"), found.len(), expected.len()),
        Some(at) => Err(format!("{what}: byte {at} is another one").into()),
    }
}

fn expect_refusal<T>(what: impl Display, of: Result<T, Error>, kind: Kind) -> Kept {
    match of {
        Ok(_) => Err(format!("{what}: succeeded, not {kind:?}").into()),
        Err(error) if error.kind == kind => Ok(()),
        Err(error) => Err(format!("{what}: {error}: {:?}, not {kind:?}", error.kind).into()),
    }
}

fn expect_one(backend: &dyn Backend, prefix: &str, bytes: usize) -> Kept {
    let listed = list_all(backend, prefix)?.entries;
    let lengths: Vec<u64> = listed.iter().map(|entry| entry.bytes).collect();
    expect(format!("lengths listed below {prefix}"), lengths, vec![bytes as u64])
}

fn expect_names(backend: &dyn Backend, prefix: &str, expected: &[Name]) -> Kept {
    let entries = list_all(backend, prefix)?.entries;
    let found: Vec<_> = entries.iter().map(|entry| entry.name.to_string()).collect();
    let expected = expected.iter().map(Name::to_string).collect();
    expect(format!("names listed below {prefix}"), found, expected)
}

/// Does its work while the other looks again and again, until it is done or has failed.
fn meanwhile(look: impl Fn() -> Kept + Sync, work: impl FnOnce() -> Result<(), Error>) -> Kept {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let looking = scope.spawn(|| -> Kept {
            while !done.load(Ordering::Acquire) {
                look()?;
            }
            Ok(())
        });
        let worked = work();
        done.store(true, Ordering::Release);
        looking.join().expect("it tells what it sees")?;
        Ok(worked?)
    })
}

/// Bytes without much of a pattern: they neither shrink to nothing nor repeat by the page.
fn noise(bytes: u32) -> Vec<u8> {
    (0..bytes).map(|i| ((i.wrapping_mul(31)) >> 3) as u8).collect()
}

fn bodies_come_back(backend: &dyn Backend) -> Kept {
    let every_byte = (0..=u8::MAX).collect();
    for (first, body) in
        (1..).zip([vec![], vec![0], b"hello\r\n\0".to_vec(), every_byte, noise(300_000)])
    {
        let name = change(0, first);
        backend.put(&name, &body)?;
        expect_bytes(&name, &backend.get(&name)?, &body)?;
        expect_one(backend, &name.to_string(), body.len())?;
    }
    Ok(())
}

fn beginnings_come_back(backend: &dyn Backend) -> Kept {
    for (first, body) in (1..).zip([vec![], vec![0], b"hello\n\0".to_vec(), noise(300_000)]) {
        let name = change(0, first);
        backend.put(&name, &body)?;
        for bytes in [1, 5, 24, 100, 200_000] {
            let expected = &body[..body.len().min(bytes)];
            let what = format!("the first {bytes} bytes of {}", body.len());
            expect_bytes(what, &backend.start(&name, bytes)?, expected)?;
        }
    }
    Ok(())
}

fn bytes_are_compared(backend: &dyn Backend) -> Kept {
    let (name, body) = (change(0, 1), noise(300_000));
    let [mut longer, mut last, mut middle] = [body.clone(), body.clone(), body.clone()];
    longer.push(0);
    last[299_999] ^= 1;
    middle[150_000] ^= 1;
    backend.put(&name, &body)?;
    expect("its own bytes", backend.holds(&name, &body)?, true)?;
    for other in [&longer[..], &last, &middle, &body[..299_999], &[]] {
        expect("other bytes", backend.holds(&name, other)?, false)?;
    }
    backend.replace(&name, &[])?;
    expect("none, where there are none", backend.holds(&name, &[])?, true)?;
    expect("some, where there are none", backend.holds(&name, &body)?, false)
}

/// A server may answer a put before it has read the body, and not read on.
fn the_largest_comes_back(backend: &dyn Backend) -> Kept {
    let (name, body) = (change(0, 1), noise(32 << 20));
    backend.put(&name, &body)?;
    expect_refusal("put again", backend.put(&name, &body), Kind::Exists)?;
    expect_bytes(&name, &backend.get(&name)?, &body)?;
    expect_one(backend, Name::CHANGES, body.len())
}

fn a_name_is_taken_once(backend: &dyn Backend) -> Kept {
    let name = change(0, 1);
    backend.put(&name, b"first")?;
    for body in [&b"first"[..], b"second", b""] {
        expect_refusal("put of a name that is taken", backend.put(&name, body), Kind::Exists)?;
    }
    expect_bytes("after these puts", &backend.get(&name)?, b"first")?;
    backend.delete(&name)?;
    backend.put(&name, b"second")?;
    expect_bytes("put after its delete", &backend.get(&name)?, b"second")
}

fn a_replaced_object_is_the_new_one(backend: &dyn Backend) -> Kept {
    let (name, other) = (change(0, 1), change(0, 2));
    backend.put(&name, b"first")?;
    for body in [&b"a longer second"[..], b"", b"third"] {
        backend.replace(&name, body)?;
        expect_bytes("replaced", &backend.get(&name)?, body)?;
        expect_one(backend, Name::CHANGES, body.len())?;
    }
    expect_refusal("put after that", backend.put(&name, b"fourth"), Kind::Exists)?;
    backend.replace(&other, b"where none was")?;
    expect_bytes("replaced where none was", &backend.get(&other)?, b"where none was")
}

fn replaced_at_once(backend: &dyn Backend) -> Kept {
    const BODY: usize = 300_000;
    let name = change(0, 1);
    backend.replace(&name, &vec![0; BODY])?;
    let look = || {
        let body = backend.get(&name)?;
        let first = body.first().copied().unwrap_or_default();
        expect_bytes("read meanwhile", &body, &vec![first; BODY])
    };
    meanwhile(look, || (1..=50).try_for_each(|round| backend.replace(&name, &vec![round; BODY])))?;
    expect_bytes("at last", &backend.get(&name)?, &[50; BODY])
}

fn one_racer_wins(backend: &dyn Backend) -> Kept {
    for first in 1..=20 {
        let name = change(0, first);
        let race = |racer: u8| backend.put(&name, &[racer; 5000]);
        let ended: Vec<_> = thread::scope(|scope| {
            let racers: Vec<_> = (0..8).map(|racer| scope.spawn(move || race(racer))).collect();
            racers.into_iter().map(|racer| racer.join().expect("a put returns")).collect()
        });
        let won: Vec<u8> = (0..).zip(&ended).filter(|it| it.1.is_ok()).map(|it| it.0).collect();
        for refused in ended.into_iter().filter(Result::is_err) {
            expect_refusal("a put of eight at once", refused, Kind::Exists)?;
        }
        expect(format!("winners of {name}"), won.len(), 1)?;
        expect_bytes("the winner's", &backend.get(&name)?, &[won[0]; 5000])?;
    }
    Ok(())
}

fn the_absent_is_not_found(backend: &dyn Backend) -> Kept {
    let absent = |name: &Name| {
        expect_refusal("get of what is absent", backend.get(name), Kind::NotFound)?;
        let error = backend.get(name).expect_err("seen just now");
        expect("the error's words", (error.operation, error.name), ("get", name.to_string()))?;
        expect_refusal("whether the absent has bytes", backend.holds(name, b""), Kind::NotFound)?;
        expect_refusal("the beginning of what is absent", backend.start(name, 9), Kind::NotFound)
    };
    absent(&change(0, 1))?;
    backend.put(&change(0, 2), b"x")?;
    absent(&change(0, 1))?;
    backend.delete(&change(0, 2))?;
    absent(&change(0, 2))
}

fn deleting_twice_is_fine(backend: &dyn Backend) -> Kept {
    backend.delete(&change(0, 1))?;
    backend.put(&change(0, 1), b"x")?;
    backend.put(&change(0, 2), b"y")?;
    backend.delete(&change(0, 1))?;
    backend.delete(&change(0, 1))?;
    expect_bytes("the other one", &backend.get(&change(0, 2))?, b"y")?;
    expect_names(backend, Name::CHANGES, &[change(0, 2)])
}

fn names_of_every_kind_are_kept_apart(backend: &dyn Backend) -> Kept {
    for prefix in Name::PREFIXES {
        expect("a listing before any put", list_all(backend, prefix)?, Default::default())?;
    }
    let all = names_of_every_kind();
    for name in all.iter().flat_map(|(_, names)| names.iter().rev()) {
        backend.put(name, name.to_string().as_bytes())?;
    }
    for (prefix, names) in all {
        for name in &names {
            expect_bytes(name, &backend.get(name)?, name.to_string().as_bytes())?;
        }
        expect_names(backend, prefix, &names)?;
    }
    Ok(())
}

fn listings_are_in_order_and_paged(backend: &dyn Backend) -> Kept {
    let names: Vec<_> = [(0, 1), (0, 2), (0, 0x10), (1, 1), (1, 3), (2, 1), (2, 0x100)]
        .map(|(level, first)| change(level, first))
        .to_vec();
    // Neither this order nor its reverse is that of the text.
    for at in [3, 0, 6, 2, 5, 1, 4] {
        backend.put(&names[at], &vec![0; at])?;
    }
    for after in 0..=names.len() {
        let page = backend.list(Name::CHANGES, after.checked_sub(1).map(|at| &names[at]))?;
        let end = names.len().min(after + PAGE);
        let found: Vec<_> = page.entries.iter().map(|it| (it.name.to_string(), it.bytes)).collect();
        let expected = (after..end).map(|at| (names[at].to_string(), at as u64)).collect();
        expect(format!("{PAGE} names after {after}"), found, expected)?;
        expect("whether more follows", page.more || end == names.len(), true)?;
    }
    expect_names(backend, Name::CHANGES, &names)?;
    expect_names(backend, "change/1/", &names[3..5])?;
    // A name to start after need not be there, nor be of the same level.
    let after = |prefix, name| backend.list(prefix, Some(&name)).map(|page| page.entries.len());
    expect("one level after another", after("change/1/", change(0, 9))?, 2)?;
    expect("one level after a later one", after("change/0/", change(1, 1))?, 0)?;
    a_prefix_may_end_within_a_name(backend)
}

fn a_prefix_may_end_within_a_name(backend: &dyn Backend) -> Kept {
    for first in [0x1f, 0x20, 0x2f, 0x30] {
        backend.put(&change(3, first), b"x")?;
    }
    let prefix = "change/3/000000000000002";
    expect_names(backend, prefix, &[change(3, 0x20), change(3, 0x2f)])
}

/// A reader polls while puts run: an object is absent or whole, and listed with its whole length.
fn bodies_appear_whole(backend: &dyn Backend) -> Kept {
    const BODY: usize = 300_000;
    const OBJECTS: u8 = 50;
    let name = |object: u8| change(0, u64::from(object));
    let look = || {
        for object in 1..=OBJECTS {
            match backend.get(&name(object)) {
                Err(error) if error.kind == Kind::NotFound => {}
                body => expect_bytes("read meanwhile", &body?, &vec![object; BODY])?,
            }
        }
        let listing = list_all(backend, "change/0/")?;
        expect("foreign keys", listing.foreign, vec![])?;
        let mut lengths = listing.entries.iter().map(|entry| entry.bytes);
        expect("a length listed", lengths.find(|it| *it != BODY as u64), None)
    };
    meanwhile(look, || {
        (1..=OBJECTS).try_for_each(|object| backend.put(&name(object), &vec![object; BODY]))
    })?;
    (1..=OBJECTS).try_for_each(|object| {
        expect_bytes("at last", &backend.get(&name(object))?, &vec![object; BODY])
    })
}

#[cfg(test)]
mod tests;
