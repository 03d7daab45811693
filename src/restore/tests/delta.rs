//! A stale copy becomes the commit that is wanted, whatever it was before, and from as little as can
//! be.

use super::*;
use crate::durable::{Step as DiskStep, fault};
use rusqlite::Connection;
use std::fs;

/// What a copy with these bytes becomes, page by page as the WAL has it, and how many objects that
/// took. These pages are no database that SQLite would open.
fn brought(writer: &model::Writer, copy: &[u8], commit: u64) -> (Vec<u8>, u64) {
    let source = writer.source();
    let replica = Replica::list(&*source).unwrap();
    let chosen = choose(&*source, &replica, at(commit), None).unwrap();
    let wanted = Wanted::read(&*source, &chosen.plan).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("copy");
    fs::write(&path, copy).unwrap();
    let (wal, objects) = delta::tests::collect(&source, &replica, &chosen, &wanted, &path);
    let mut image = copy.to_vec();
    image.resize(writer.image(commit).len(), 0);
    delta::tests::play(&wal, &mut image);
    (image, objects)
}

#[test]
fn any_copy_becomes_any_commit() {
    fn property(size: u8, events: Vec<Event>, seed: u64) -> bool {
        let mut writer = model::Writer::new(SIZES[usize::from(size % 3)]);
        let first = played(&mut writer, &events[..events.len().min(20)]);
        let last = writer.last().number.0;
        let span = last - first + 1;
        (0..6).all(|turn| {
            let from = first + (seed >> (8 * turn)) % span;
            let to = first + (seed >> (8 * turn + 4)) % span;
            let mut copy = writer.image(from);
            if turn % 3 == 2 {
                // Not a commit that ever was.
                let middle = copy.len() / 2;
                copy[middle..].iter_mut().for_each(|byte| *byte ^= 0x55);
            }
            brought(&writer, &copy, to).0 == writer.image(to)
        })
    }
    QuickCheck::new().tests(60).quickcheck(property as fn(u8, Vec<Event>, u64) -> bool);
}
