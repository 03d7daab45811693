//! What every backend has to do: one suite that all of them pass.

use super::{Backend, Kind, list_all};
use crate::commit::{CommitNo, PageNo, Time, Timeline};
use crate::name::{Change, Name, Part, Span};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// What a backend is made with for this suite: pages are short, so that a few names fill several.
pub const PAGE: usize = 3;

/// `make` gives an empty replica each time, with `PAGE` names to a page of a listing.
pub fn suite(make: impl Fn() -> Arc<dyn Backend>) {
    bodies_come_back(&*make());
    a_name_is_taken_once(&*make());
    a_replaced_object_is_the_new_one(&*make());
    one_racer_wins(&*make());
    the_absent_is_not_found(&*make());
    deleting_twice_is_fine(&*make());
    names_of_every_kind_are_kept_apart(&*make());
    listings_are_in_order_and_paged(&*make());
    a_prefix_may_end_within_a_name(&*make());
    bodies_appear_whole(&*make());
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

fn bodies_come_back(backend: &dyn Backend) {
    let big = (0..8u32 << 20).map(|i| ((i * 31) >> 3) as u8).collect();
    for (first, body) in (1..).zip([vec![], vec![0], b"hello\n\0".to_vec(), big]) {
        let name = change(0, first);
        backend.put(&name, &body).unwrap();
        assert!(backend.get(&name).unwrap() == body, "{} bytes", body.len());
        let listed = list_all(backend, &name.to_string()).unwrap().entries;
        assert_eq!((listed.len(), listed[0].bytes), (1, body.len() as u64));
        for bytes in [1, 5, 24, 100] {
            let start = backend.start(&name, bytes).unwrap();
            assert_eq!(start, body[..body.len().min(bytes)], "{bytes} of {}", body.len());
        }
    }
}

fn a_name_is_taken_once(backend: &dyn Backend) {
    let name = change(0, 1);
    backend.put(&name, b"first").unwrap();
    for body in [&b"first"[..], b"second", b""] {
        let error = backend.put(&name, body).unwrap_err();
        assert_eq!(error.kind, Kind::Exists, "{error}");
    }
    assert_eq!(backend.get(&name).unwrap(), b"first");
    backend.delete(&name).unwrap();
    backend.put(&name, b"second").unwrap();
    assert_eq!(backend.get(&name).unwrap(), b"second");
}

fn a_replaced_object_is_the_new_one(backend: &dyn Backend) {
    let (name, other) = (change(0, 1), change(0, 2));
    backend.put(&name, b"first").unwrap();
    for body in [&b"a longer second"[..], b"", b"third"] {
        backend.replace(&name, body).unwrap();
        assert_eq!(backend.get(&name).unwrap(), body);
        let listed = list_all(backend, Name::CHANGES).unwrap().entries;
        assert_eq!((listed.len(), listed[0].bytes), (1, body.len() as u64));
    }
    assert_eq!(backend.put(&name, b"fourth").unwrap_err().kind, Kind::Exists);
    backend.replace(&other, b"where none was").unwrap();
    assert_eq!(backend.get(&other).unwrap(), b"where none was");
    replaced_at_once(backend, &name);
}

/// A reader polls while the object is replaced: it is always there, and always of one writing.
fn replaced_at_once(backend: &dyn Backend, name: &Name) {
    const BODY: usize = 300_000;
    let done = AtomicBool::new(false);
    backend.replace(name, &vec![0; BODY]).unwrap();
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                let body = backend.get(name).unwrap();
                assert!(body == vec![body[0]; BODY], "torn");
            }
        });
        (1..=50u8).for_each(|round| backend.replace(name, &vec![round; BODY]).unwrap());
        done.store(true, Ordering::Release);
        reader.join().unwrap();
    });
    assert_eq!(backend.get(name).unwrap()[0], 50);
}

fn one_racer_wins(backend: &dyn Backend) {
    for first in 1..=20 {
        let name = change(0, first);
        let won: Vec<u8> = thread::scope(|scope| {
            let race = |racer: u8| {
                let name = &name;
                scope.spawn(move || match backend.put(name, &[racer; 5000]) {
                    Ok(()) => Some(racer),
                    Err(error) => {
                        assert_eq!(error.kind, Kind::Exists, "{error}");
                        None
                    }
                })
            };
            let racers: Vec<_> = (0..8).map(race).collect();
            racers.into_iter().filter_map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(won.len(), 1, "winners of {name}");
        assert_eq!(backend.get(&name).unwrap(), [won[0]; 5000]);
    }
}

fn the_absent_is_not_found(backend: &dyn Backend) {
    let absent = |name: &Name| {
        let error = backend.get(name).unwrap_err();
        assert_eq!((error.kind, error.operation), (Kind::NotFound, "get"), "{error}");
        assert_eq!(error.name, name.to_string());
        assert_eq!(backend.start(name, 9).unwrap_err().kind, Kind::NotFound);
    };
    absent(&change(0, 1));
    backend.put(&change(0, 2), b"x").unwrap();
    absent(&change(0, 1));
    backend.delete(&change(0, 2)).unwrap();
    absent(&change(0, 2));
}

fn deleting_twice_is_fine(backend: &dyn Backend) {
    backend.delete(&change(0, 1)).unwrap();
    backend.put(&change(0, 1), b"x").unwrap();
    backend.put(&change(0, 2), b"y").unwrap();
    backend.delete(&change(0, 1)).unwrap();
    backend.delete(&change(0, 1)).unwrap();
    assert_eq!(backend.get(&change(0, 2)).unwrap(), b"y");
    assert_eq!(list_all(backend, Name::CHANGES).unwrap().entries.len(), 1);
}

fn names_of_every_kind_are_kept_apart(backend: &dyn Backend) {
    for prefix in Name::PREFIXES {
        assert_eq!(list_all(backend, prefix).unwrap(), Default::default(), "nothing put yet");
    }
    let all = names_of_every_kind();
    for name in all.iter().flat_map(|(_, names)| names.iter().rev()) {
        backend.put(name, name.to_string().as_bytes()).unwrap();
    }
    for (prefix, names) in all {
        let listing = list_all(backend, prefix).unwrap();
        let listed: Vec<_> = listing.entries.into_iter().map(|entry| entry.name).collect();
        assert_eq!(listed, names);
        for name in names {
            assert_eq!(backend.get(&name).unwrap(), name.to_string().as_bytes());
        }
    }
}

fn listings_are_in_order_and_paged(backend: &dyn Backend) {
    let names: Vec<_> = [(0, 1), (0, 2), (0, 0x10), (1, 1), (1, 3), (2, 1), (2, 0x100)]
        .map(|(level, first)| change(level, first))
        .to_vec();
    // Neither this order nor its reverse is that of the text.
    for at in [3, 0, 6, 2, 5, 1, 4] {
        backend.put(&names[at], &vec![0; at]).unwrap();
    }
    for after in 0..=names.len() {
        let page = backend.list(Name::CHANGES, after.checked_sub(1).map(|at| &names[at])).unwrap();
        let end = names.len().min(after + PAGE);
        let listed: Vec<_> = page.entries.iter().map(|entry| entry.name.clone()).collect();
        assert_eq!(listed, names[after..end], "after {after}");
        assert!(page.entries.iter().zip(after..).all(|(entry, at)| entry.bytes == at as u64));
        assert!(page.more || end == names.len(), "after {after}");
    }
    assert_eq!(list_all(backend, Name::CHANGES).unwrap().entries.len(), names.len());
    let level = list_all(backend, "change/1/").unwrap().entries;
    assert_eq!(level.into_iter().map(|entry| entry.name).collect::<Vec<_>>(), names[3..5]);
    // A name to start after need not be there, nor be of the same level.
    let page = backend.list("change/1/", Some(&change(0, 9))).unwrap();
    assert_eq!(page.entries.len(), 2);
    assert_eq!(backend.list("change/0/", Some(&change(1, 1))).unwrap().entries, []);
}

fn a_prefix_may_end_within_a_name(backend: &dyn Backend) {
    for first in [0x1f, 0x20, 0x2f, 0x30] {
        backend.put(&change(0, first), b"x").unwrap();
    }
    let listing = backend.list("change/0/000000000000002", None).unwrap();
    let listed: Vec<_> = listing.entries.into_iter().map(|entry| entry.name).collect();
    assert_eq!(listed, [change(0, 0x20), change(0, 0x2f)]);
}

/// A reader polls while puts run: an object is absent or whole, and listed with its whole length.
fn bodies_appear_whole(backend: &dyn Backend) {
    const BODY: usize = 300_000;
    const OBJECTS: u64 = 50;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !done.load(Ordering::Acquire) {
                for first in 1..=OBJECTS {
                    seen += read_if_there(backend, first, BODY);
                }
                let listing = list_all(backend, "change/0/").unwrap();
                assert!(listing.entries.iter().all(|entry| entry.bytes == BODY as u64));
                assert_eq!(listing.foreign, [""; 0]);
            }
            seen
        });
        for first in 1..=OBJECTS {
            backend.put(&change(0, first), &vec![first as u8; BODY]).unwrap();
        }
        done.store(true, Ordering::Release);
        reader.join().unwrap();
    });
    assert!((1..=OBJECTS).all(|first| read_if_there(backend, first, BODY) == 1));
}

fn read_if_there(backend: &dyn Backend, first: u64, bytes: usize) -> u64 {
    match backend.get(&change(0, first)) {
        Ok(body) => {
            assert!(body == vec![first as u8; bytes], "object {first}: {} bytes", body.len());
            1
        }
        Err(error) => {
            assert_eq!(error.kind, Kind::NotFound, "{error}");
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::faulty::Faulty;
    use crate::backend::fs::Fs;
    use crate::backend::mem::Mem;
    use std::cell::RefCell;
    use std::fs;

    #[test]
    fn memory_conforms() {
        suite(|| Arc::new(Mem::new().with_page(PAGE)));
        let mem = Mem::new().with_page(PAGE);
        foreign_keys(&mem, |key| drop(mem.objects().insert(key.to_owned(), vec![])));
    }

    #[test]
    fn directories_conform() {
        let dirs = RefCell::new(vec![]);
        suite(|| {
            let dir = tempfile::tempdir().unwrap();
            let fs = Fs::open(dir.path()).unwrap().with_page(PAGE);
            dirs.borrow_mut().push(dir);
            Arc::new(fs)
        });
        let dir = tempfile::tempdir().unwrap();
        let backend = Fs::open(dir.path()).unwrap().with_page(PAGE);
        foreign_keys(&backend, |key| {
            let path = dir.path().join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        });
    }

    #[test]
    fn a_faulty_backend_without_faults_conforms() {
        suite(|| Arc::new(Faulty::new(Arc::new(Mem::new().with_page(PAGE)))));
    }
}
