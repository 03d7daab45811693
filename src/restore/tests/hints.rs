//! I6: nothing on a destination is a pointer that has to be believed. Whatever is deleted or falsified,
//! the same commit comes back, or a refusal that says what is wrong; never another commit.

use super::*;

/// Two snapshots, two timelines, a transaction in parts, a batch; commits 1 to 12.
fn replica() -> model::Writer {
    let mut writer = model::Writer::new(512);
    writer.alone(&Step::fill(4, 1..=4, 0)).snapshot();
    writer.alone(&Step::fill(4, [2], 2)).alone(&Step::fill(4, [3], 3));
    writer.in_parts(&Step::fill(6, 1..=6, 4), 2, 1);
    writer.fork(4);
    writer.alone(&Step::fill(6, [5], 5)).snapshot();
    for n in 6..=9 {
        writer.commit(&Step::fill(6, [n % 6 + 1], n));
    }
    writer.ship();
    (10..=12).for_each(|n| _ = writer.alone(&Step::fill(6, [n % 6 + 1], n)));
    writer
}

/// What may stand in place of an object: nothing, a part of it, other bits, any object of its kind.
fn falsified(writer: &model::Writer, key: &str) -> Vec<Option<Vec<u8>>> {
    let objects = writer.store.objects();
    let whole = &objects[key];
    let mut bodies = vec![None, Some(Vec::new()), Some(whole[..whole.len() / 2].to_vec())];
    for at in [8, 60, 90, 130, whole.len() / 2, whole.len() - 1] {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        bodies.push(Some(flipped));
    }
    let kind = &key[..4];
    let others = objects.iter().filter(|(other, _)| *other != key && other.starts_with(kind));
    bodies.extend(others.map(|(_, body)| Some(body.clone())));
    bodies
}

#[test]
fn whatever_is_falsified_the_same_commit_comes_back_or_none() {
    let writer = replica();
    let keys: Vec<String> = writer.store.objects().keys().cloned().collect();
    let tail = writer.changes().pop().unwrap();
    let (mut same, mut refused) = (0, 0);
    for key in &keys {
        for body in falsified(&writer, key) {
            // Nothing tells of a commit that was the last one and is gone.
            let latest = if body.is_none() && *key == tail { 11 } else { 12 };
            let whole = writer.store.objects()[key].clone();
            match body {
                None => drop(writer.store.objects().remove(key)),
                Some(body) => drop(writer.store.objects().insert(key.clone(), body)),
            }
            for target in (1..=12).map(at).chain([Target::Latest]) {
                let expected = match target {
                    Target::Commit(CommitNo(number)) => number,
                    _ => latest,
                };
                match landing(&writer, target) {
                    Ok(commit) => {
                        assert_eq!(commit, expected, "{key}, {target:?}");
                        same += 1;
                    }
                    Err(status) => {
                        assert!([Status::Integrity, Status::Missing].contains(&status), "{key}");
                        refused += 1;
                    }
                }
            }
            writer.store.objects().insert(key.clone(), whole);
        }
    }
    assert!(same > refused && refused > 100, "{same} came back, {refused} were refused");
}

/// Snapshots save reading, and no more: with the newest one gone, an older one gives the same.
#[test]
fn without_the_newest_snapshot_an_older_one_gives_the_same() {
    let writer = replica();
    let snapshots =
        writer.store.objects().keys().filter(|key| key.starts_with("snapshot/")).count();
    assert_eq!(snapshots, 2);
    let newest = writer.store.objects().keys().rfind(|key| key.starts_with("snapshot/")).cloned();
    writer.store.objects().remove(&newest.unwrap());
    all_come_back(&writer, 1..=12);
    assert_eq!(landing(&writer, Target::Latest), Ok(12));
}
