//! What is captured and shipped, against the database as SQLite sees it at each commit.

use super::roll::READ_ALL_THE_SAME;
use super::*;
use crate::change::ChangeSet;
use crate::name::Name;
use crate::snapshot::part_pages;
use crate::source::Caught;
use crate::source::Read;
use crate::testkit::rig::Rig;
use crate::testkit::{Db, Random, checkpoint, digest, free_pages};
use crate::wal::Frame;
use rusqlite::Connection;

mod roll;

/// One random transaction, or a checkpoint.
fn act(random: &mut Random, writer: &Connection) {
    let some = |random: &mut Random, end| 1 + random.below(end);
    let blob = |random: &mut Random, bytes: u64| {
        (0..bytes).map(|_| random.below(256) as u8).collect::<Vec<u8>>()
    };
    let id = random.below(60) as i64;
    let run = |sql: String| writer.execute_batch(&sql).unwrap();
    match random.below(12) {
        0..4 => {
            let bytes = some(random, 300);
            let bytes = blob(random, bytes);
            writer.execute("INSERT INTO t(x) VALUES (?1)", [bytes]).unwrap();
        }
        4 => {
            let bytes = some(random, 60_000);
            let bytes = blob(random, bytes);
            writer.execute("INSERT OR REPLACE INTO t VALUES (?2, ?1)", (bytes, id)).unwrap();
        }
        5 => run(format!("UPDATE t SET x = hex(id + {id}) WHERE id % 5 = {}", id % 5)),
        6 => run(format!("DELETE FROM t WHERE id BETWEEN {id} AND {}", id + 15)),
        7 => run("BEGIN; DELETE FROM t WHERE id % 2; INSERT INTO t(x) VALUES (1); COMMIT".into()),
        8 => run("VACUUM".into()),
        9 => run("PRAGMA incremental_vacuum(3)".into()),
        10 => run(format!(
            "BEGIN; CREATE TABLE IF NOT EXISTS u{id}(y); DROP TABLE IF EXISTS u{}; COMMIT",
            id + 1
        )),
        _ => drop(checkpoint(writer, "PASSIVE")),
    }
}

/// The pages of `image` that a restore gives as zeros: each a free page, never written.
fn holes(image: &[u8], restored: &[u8], page_size: usize) -> Vec<u32> {
    let free = free_pages(image, page_size);
    let pages = image.chunks(page_size).zip(restored.chunks(page_size));
    let differ = (1..).zip(pages).filter(|(_, (a, b))| a != b);
    let holes: Vec<u32> = differ.map(|(page, _)| page).collect();
    for page in &holes {
        let bytes = &restored[(*page as usize - 1) * page_size..][..page_size];
        assert!(free.contains(page) && bytes.iter().all(|&byte| byte == 0), "page {page}");
    }
    holes
}

/// Everything is captured every few commits, whatever the pin; every commit comes back as SQLite saw
/// it, with the digest that it was shipped with.
fn model(page_size: u32, auto_vacuum: u32, seed: u64, steps: u32) {
    println!("seed {seed}");
    let mut random = Random(seed);
    let db = Db::empty(page_size);
    let writer = db.open();
    writer
        .execute_batch(&format!(
            "PRAGMA auto_vacuum = {auto_vacuum}; VACUUM; CREATE TABLE t(id INTEGER PRIMARY KEY, x)"
        ))
        .unwrap();
    let mut rig = Rig::shipped(db);
    let mut truth = vec![(rig.last(), rig.db.image())];
    for _ in 0..steps {
        let before = rig.capture.source.look().unwrap();
        act(&mut random, &writer);
        let after = rig.capture.source.look().unwrap();
        rig.now.0 += 1;
        rig.look();
        let commits = after.change.wrapping_sub(before.change);
        assert!(commits < 2, "a step is one transaction");
        // One that changes nothing is no commit of its own.
        let image = rig.db.image();
        if commits == 1 && Some(&image) != truth.last().map(|(_, image)| image) {
            truth.push((CommitNo(0), image));
        }
        if random.below(3) == 0 {
            rig.drain();
            number(&mut truth, rig.last());
            match random.below(3) {
                0 => drop(rig.capture.source.hold().unwrap()),
                1 => drop(rig.capture.source.zero().unwrap()),
                _ => rig.capture.source.release().unwrap(),
            }
        } else {
            rig.capture.source.hold().unwrap();
        }
    }
    rig.drain();
    number(&mut truth, rig.last());
    rig.index_agrees();
    let digests = digests(&rig);
    let size = page_size as usize;
    let mut compared = 0;
    for (commit, image) in &truth {
        let restored = rig.restored(*commit);
        assert_eq!(restored.len(), image.len(), "commit {commit}");
        let holes = holes(image, &restored, size);
        let want = digest(image, size, |page| holes.contains(&page.0));
        assert_eq!(digests.get(commit).copied().flatten(), Some(want), "commit {commit}");
        compared += 1;
    }
    assert!(compared > steps / 3, "{compared} commits were compared");
}

/// Gives the commits their numbers, now that all are captured.
fn number(truth: &mut [(CommitNo, Vec<u8>)], last: CommitNo) {
    for ((number, _), at) in truth.iter_mut().rev().zip(0..) {
        let want = CommitNo(last.0 - at);
        assert!(number.0 == 0 || *number == want, "commits were missed or made up");
        *number = want;
    }
}

fn digests(rig: &Rig) -> HashMap<CommitNo, Option<Digest>> {
    let mut digests = HashMap::new();
    for (key, body) in rig.mem.objects().iter() {
        match key.parse().unwrap() {
            Name::Change(change) => {
                let set = ChangeSet::open(&change, body.clone()).unwrap();
                digests.extend(set.commits.iter().map(|commit| (commit.number, commit.digest)));
            }
            Name::Snapshot(span) => {
                let manifest = Manifest::decode(span, body.clone()).unwrap();
                digests.insert(manifest.commit.number, manifest.commit.digest);
            }
            _ => {}
        }
    }
    digests
}

#[test]
fn trap_10_every_commit_comes_back_as_sqlite_saw_it() {
    for (page_size, seed) in [(512, 1), (1024, 2), (4096, 3)] {
        model(page_size, 0, seed, 60);
    }
}

#[test]
fn trap_11_databases_that_shrink_and_grow() {
    model(512, 1, 11, 50);
    model(1024, 2, 12, 50);
    model(4096, 1, 13, 40);
}

#[test]
fn trap_14_every_page_size_comes_back() {
    for (page_size, seed) in [(2048, 21), (8192, 22), (16384, 23), (32768, 24), (65536, 25)] {
        model(page_size, 0, seed, 15);
    }
}

fn big(writer: &Connection, bytes: usize) {
    writer.execute("INSERT INTO t(x) VALUES (randomblob(?1))", [bytes as i64]).unwrap();
}

/// The last commit, from the replica and from SQLite.
#[track_caller]
fn last_agrees(rig: &Rig) -> Vec<u32> {
    let (image, restored) = (rig.db.image(), rig.restored(rig.last()));
    assert_eq!(image.len(), restored.len());
    rig.index_agrees();
    holes(&image, &restored, rig.capture.state().page_size.bytes())
}

/// A database that somebody writes to while its first snapshot is taken, part by part.
#[test]
fn a_snapshot_under_a_writer() {
    for seed in 30..33 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let db = Db::new(4096);
        let writer = db.open();
        (0..14).for_each(|_| big(&writer, 1_000_000));
        let mut rig = Rig::new(db);
        rig.capture.begin_snapshot(|| Time(0)).unwrap();
        let mut parts = 0;
        loop {
            act(&mut random, &writer);
            parts += 1;
            if !rig.part() {
                break;
            }
            act(&mut random, &writer);
            rig.ship(Finish::Nothing).unwrap();
        }
        assert!(parts > 3, "{parts} parts");
        rig.roll();
        last_agrees(&rig);
        act(&mut random, &writer);
        big(&writer, 5000);
        rig.drain();
        last_agrees(&rig);
    }
}

/// Each part that is read finds more pages than the one before: the copy ends where it began to end.
#[test]
fn a_database_that_grows_faster_than_it_is_copied() {
    let db = Db::new(4096);
    let writer = db.open();
    big(&writer, 5_000_000);
    let mut rig = Rig::new(db);
    rig.capture.begin_snapshot(|| Time(0)).unwrap();
    let mut parts = 0;
    while !rig.capture.parts_are_read() {
        big(&writer, 100_000);
        parts += u32::from(rig.part());
        assert!(parts < 5, "it never ends");
    }
    big(&writer, 100_000);
    rig.catch_up();
    assert!(rig.capture.parts_are_read(), "what came later is in change-sets");
    rig.roll();
    assert_eq!(parts, 2);
    last_agrees(&rig);
}

#[test]
fn trap_12_frames_past_the_end_of_their_own_commit() {
    let mut rig = Rig::shipped(Db::new(512));
    let before = rig.capture.last().digest;
    let (position, data) = (rig.capture.source.mark().position, [7; 512]);
    let pages = rig.capture.last().pages;
    for (page, commit) in [(pages + 5, None), (pages, Some(pages))] {
        let frame = Frame { number: 1, page: PageNo(page), commit, data: &data, position };
        rig.capture.ledger.frame(&frame, Read::OldTail);
    }
    rig.ship_small();
    rig.index_agrees();
    assert_ne!(rig.capture.last().digest, before);
    assert_eq!(rig.index.get(PageNo(pages + 5)).unwrap(), PageHash::default());
    assert_eq!(rig.restored(rig.last()).len() as u32, pages * 512);
}

/// The file holds what the pages were before the database shrank. It grew again without a word about
/// them: they count as zeros in the part, in the index, and so in the digest.
#[test]
fn trap_108_a_free_page_below_a_grown_end() {
    let db = Db::new(4096);
    let writer = db.open();
    big(&writer, 6_000_000);
    let mut rig = Rig::new(db);
    rig.capture.begin_snapshot(|| Time(0)).unwrap();
    assert!(rig.part());
    let pages = rig.capture.last().pages;
    let first = rig.db.image()[..4096].to_vec();
    for size in [1100, pages] {
        let position = rig.capture.source.mark().position;
        let number = position.frame + 1;
        let frame = Frame { number, page: PageNo(1), commit: Some(size), data: &first, position };
        rig.capture.ledger.frame(&frame, Read::OldTail);
        assert_eq!(rig.capture.last().pages, size);
    }
    let part = rig.next_part().unwrap();
    let first = part.part.page.0;
    assert!(first < 1100 && first + 200 < pages);
    for (page, bytes) in (first..).zip(part.bytes.chunks(4096)) {
        let zeros = bytes.iter().all(|&byte| byte == 0);
        assert_eq!(zeros, page > 1100, "page {page}");
        let hash = rig.index.get(PageNo(page)).unwrap();
        assert_eq!(hash, PageHash::of(PageNo(page), bytes));
    }
}

/// A row of the large transaction is there with all the others or not at all, and it is not held.
#[test]
fn trap_19_a_transaction_larger_than_memory_allows() {
    for page_size in [1024, 65536] {
        let db = Db::new(page_size);
        let writer = db.open();
        let mut rig = Rig::shipped(db);
        writer.execute_batch("INSERT INTO t(x) VALUES ('before')").unwrap();
        writer.execute_batch("PRAGMA cache_size = 10; BEGIN").unwrap();
        (0..12).for_each(|_| big(&writer, 1_000_000));
        writer.execute_batch("UPDATE t SET x = x || 'z' WHERE id < 3; COMMIT").unwrap();
        let truth = rig.db.image();
        writer.execute_batch("INSERT INTO t(x) VALUES ('after')").unwrap();
        assert_eq!(rig.capture().unwrap(), Caught::Behind);
        assert!(rig.capture.ledger.large.is_some(), "left in the WAL");
        assert!(rig.capture.ledger.stage.bytes.capacity() <= 1 << 20, "nothing of it is held");
        let large = rig.capture.ledger.large.as_ref().unwrap().commit.number;
        assert!(rig.capture.large().is_none(), "what comes before it is shipped first");
        let before = rig.capture.state();
        assert_eq!(
            (before.commit.number.next(), before.mark.change + 1),
            (large, rig.capture.source.mark().change)
        );
        rig.drain();
        assert_eq!(rig.last(), large.next());
        assert!(rig.restored(large) == truth, "the whole transaction");
        let changes = rig.mem.objects();
        let parts =
            changes.keys().filter(|key| key.contains(&format!("{:016x}-{0:016x}", large.0)));
        assert!(parts.count() > 2, "in parts");
        drop(changes);
        last_agrees(&rig);
        assert_eq!(
            rig.restored(CommitNo(large.0 - 1)).len() as u32,
            before.commit.pages * page_size
        );
    }
}

#[test]
fn trap_19_a_large_transaction_that_shrinks_the_database() {
    let db = Db::new(4096);
    let writer = db.open();
    (0..25).for_each(|_| big(&writer, 1_000_000));
    let mut rig = Rig::shipped(db);
    writer.execute_batch("DELETE FROM t WHERE id % 2; VACUUM").unwrap();
    assert_eq!(rig.capture().unwrap(), Caught::Behind);
    rig.drain();
    last_agrees(&rig);
    big(&writer, 20_000_000);
    commit_and_drain(&mut rig, &writer);
    last_agrees(&rig);
}

fn commit_and_drain(rig: &mut Rig, writer: &Connection) {
    writer.execute_batch("INSERT INTO t(x) VALUES (1)").unwrap();
    rig.drain();
}

/// A commit after a quiet night has the time at which it was seen, not that of the last one in the
/// WAL that it began anew.
#[test]
fn a_commit_after_a_reset_has_its_own_time() {
    let db = Db::new(4096);
    let writer = db.open();
    let mut rig = Rig::shipped(db);
    for commits in [5, 1, 9] {
        for _ in 0..commits {
            commit_and_drain(&mut rig, &writer);
        }
        checkpoint(&writer, "PASSIVE");
        assert!(rig.capture.source.zero().unwrap());
        rig.now.0 += 1_000_000;
        writer.execute_batch("INSERT INTO t(x) VALUES ('in the morning')").unwrap();
        rig.look();
        rig.now.0 += 7;
        writer.execute_batch("INSERT INTO t(x) VALUES ('a bit later')").unwrap();
        rig.drain();
        let times: Vec<_> = commits_of(&rig).iter().rev().map(|commit| commit.time).collect();
        assert_eq!((times[0], times[1]), (rig.now, Time(rig.now.0 - 7)));
    }
}

fn commits_of(rig: &Rig) -> Vec<Commit> {
    let mut commits = Vec::new();
    for (key, body) in rig.mem.objects().iter().filter(|(key, _)| key.starts_with("change")) {
        let Ok(Name::Change(change)) = key.parse() else { panic!("{key}") };
        commits.extend(ChangeSet::open(&change, body.clone()).unwrap().commits);
    }
    commits
}

#[test]
fn trap_67_the_clock_steps_back() {
    let db = Db::new(4096);
    let writer = db.open();
    let mut rig = Rig::shipped(db);
    for now in [5000, 6000, 2000, 1, 6500, 6400] {
        rig.now = Time(now);
        commit_and_drain(&mut rig, &writer);
    }
    let times: Vec<_> = commits_of(&rig).iter().map(|commit| commit.time.0).collect();
    assert_eq!(times, [5000, 6000, 6000, 6000, 6500, 6500]);
    rig.now = Time(3);
    rig.capture.begin_snapshot(|| Time(0)).unwrap();
    assert_eq!(rig.capture.last().time, Time(6500));
}

/// Were they all of one time, `keep` would see one moment in them, and keep its last commit.
#[test]
fn trap_67_commits_keep_apart_until_the_clock_has_passed_them() {
    let db = Db::new(4096);
    let writer = db.open();
    let mut rig = Rig::shipped(db);
    for now in [20_000_000, 5000, 5003, 5004, 5010, 15_000_000, 20_000_000, 25_000_000] {
        rig.now = Time(now);
        commit_and_drain(&mut rig, &writer);
    }
    let times: Vec<_> = commits_of(&rig).iter().map(|commit| commit.time.0).collect();
    assert_eq!(times[..5], [20_000_000, 20_000_000, 20_000_001, 20_000_002, 20_000_005]);
    // A clock that was set has not passed hours.
    assert_eq!(times[5..], [21_800_005, 23_600_005, 25_000_000]);
}

/// What was seen and cannot be captured is remembered in bounded room; no commit gets too old a time.
#[test]
fn times_are_bounded() {
    let db = Db::new(512);
    let writer = db.open();
    let mut rig = Rig::shipped(db);
    for _ in 0..3 * TIMES {
        rig.now.0 += 1;
        let look = rig.capture.source.look().unwrap();
        let frames = look.frames + rig.now.0 as u32;
        rig.capture.note(&crate::source::Look { frames, ..look }, rig.now);
    }
    let times = &rig.capture.ledger.times;
    assert!(times.len() <= TIMES && times.back().unwrap().1 == rig.now);
    assert!(times.iter().is_sorted());
    commit_and_drain(&mut rig, &writer);
}

/// SQLite counts a commit that changed nothing: it is no commit of ours, but its place in the WAL is
/// handed out, or whoever waits for it waits for ever.
#[test]
fn a_commit_that_changes_nothing_moves_the_mark() {
    let db = Db::new(512);
    let writer = db.open();
    writer.execute_batch("PRAGMA user_version = 5").unwrap();
    let mut rig = Rig::shipped(db);
    let last = rig.last();
    writer.execute_batch("PRAGMA user_version = 5").unwrap();
    let look = rig.capture.source.look().unwrap();
    assert!(look.frames > rig.capture.state().mark.position.frame, "it wrote a frame");
    assert_eq!(rig.capture().unwrap(), Caught::Up);
    assert!(!rig.capture.is_drained());
    rig.ship(Finish::Nothing).unwrap();
    assert!(rig.capture.is_drained());
    assert_eq!(rig.last(), last);
    assert_eq!(rig.states.last().unwrap().mark.position.frame, look.frames);
}

/// Parts that were read before commits were missed are worth nothing.
#[test]
fn a_snapshot_is_given_up_where_commits_were_missed() {
    let db = Db::new(512);
    let writer = db.open();
    commit_some(&writer);
    let mut rig = Rig::new(db);
    rig.capture.begin_snapshot(|| Time(0)).unwrap();
    assert!(rig.part());
    rig.capture.source.release().unwrap();
    for _ in 0..2 {
        commit_some(&writer);
        assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
    }
    commit_some(&writer);
    assert!(matches!(rig.capture(), Err(Trouble::Lost(_))));
    assert_eq!(rig.capture.rolling(), None);
    rig.capture.begin_snapshot(|| Time(0)).unwrap();
    rig.roll();
    last_agrees(&rig);
}

fn commit_some(writer: &Connection) {
    crate::testkit::commits(writer, 5);
}

/// An index that cannot be read is trouble, and not the end of all snapshots.
#[test]
fn a_snapshot_whose_digest_cannot_be_read_is_an_error() {
    let mut rig = Rig::new(Db::new(512));
    rig.capture.begin_snapshot(|| Time(0)).unwrap();
    while rig.part() {}
    let path = rig.db.dir.path().join("write only");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(160).unwrap();
    rig.capture.ledger.index = Arc::new(Index::of_file(file));
    assert!(rig.capture.batch(Finish::Snapshot).is_err());
}

/// Found by a soak: what was taken up for a resync two seconds after the last look had that look's time, and
/// a restore as of a time in between gave what was committed later.
#[test]
fn trap_67_what_is_taken_up_anew_is_no_older_than_the_clock_then() {
    let mut rig = Rig::shipped(Db::new(512));
    let later = Time(rig.capture.ledger.now.0 + 2000);
    assert_eq!(rig.capture.resync_commit(2, later).time, later);
    let later = Time(later.0 + 2000);
    rig.capture.begin_snapshot(|| later).unwrap();
    assert_eq!(rig.capture.last().time, later);
}
