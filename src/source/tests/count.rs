//! What a reset leaves, and whether SQLite's count proves that nothing was missed.

use super::*;

impl Watched {
    /// Everything captured, nothing pinned, in a generation of some frames.
    fn free() -> Self {
        let mut it = Self::new(512);
        commits(&it.writer, 10);
        it.capture().unwrap();
        it.source.release().unwrap();
        it
    }

    /// The same without powersafe overwrite: each commit frame is repeated to the end of its sector, so one
    /// of 4096 bytes has one copy.
    fn padded(page_size: u32) -> Self {
        let db = Db::new(page_size);
        let writer = db.open_uri("psow=0");
        writer.execute_batch("PRAGMA synchronous = FULL; CREATE TABLE u(x)").unwrap();
        commits(&writer, 10);
        let mut it = Self::with(db, writer);
        it.source.release().unwrap();
        it
    }
}

#[test]
fn trap_39_a_commit_between_the_last_look_and_the_checkpoint() {
    for late in 1..=3 {
        let mut it = Watched::free();
        commits(&it.writer, late);
        it.backfill();
        commits(&it.writer, 1);
        assert_eq!(it.capture().unwrap(), late + 1);
        assert_eq!(it.replay.old, late, "from the old tail");
        it.agrees();
        assert_eq!(it.source.mark().change, it.source.look().unwrap().change);
        assert_eq!(it.replay.generations.last(), Some(&it.source.mark().salts));
    }
}

/// It is read in pieces; one that is too long to be held counts as lost.
#[test]
fn trap_39_a_long_tail() {
    let bytes = |it: &Watched| it.db.wal_bytes() as usize;
    for (rows, fits) in [(300, true), (TAIL_BYTES / 3000, false)] {
        let mut it = Watched::free();
        let before = bytes(&it);
        for _ in 0..rows {
            it.sql("INSERT INTO t(x) VALUES (randomblob(3000))");
        }
        let left = bytes(&it) - before;
        assert!(left > 2 * READ_BYTES && (left < TAIL_BYTES) == fits, "{left}");
        it.backfill();
        commits(&it.writer, 1);
        match fits {
            true => assert_eq!(it.capture().unwrap(), rows as u32 + 1),
            false => assert!(it.is_lost()),
        }
    }
}

/// A transaction that was rolled back had spilled more than that to the WAL: all that was published had been
/// captured, and was told to be lost.
#[test]
fn trap_04_a_long_tail_that_nobody_published() {
    for zero in [true, false] {
        let mut it = Watched::new(512);
        commits(&it.writer, 10);
        it.capture().unwrap();
        let before = it.db.wal_bytes() as usize;
        it.sql("PRAGMA cache_size = 10; BEGIN; INSERT INTO t(x) VALUES (randomblob(20000000)); ROLLBACK");
        assert!(it.db.wal_bytes() as usize - before > TAIL_BYTES);
        it.backfill();
        match zero {
            true => assert!(it.source.zero().unwrap()),
            false => it.source.release().unwrap(),
        }
        commits(&it.writer, 1);
        assert_eq!(it.capture().unwrap(), 1);
        it.agrees();
    }
}

/// TRUNCATE takes the tail away: the count shows that it is missed.
#[test]
fn trap_39_a_commit_before_a_truncation_is_known_to_be_lost() {
    let mut it = Watched::free();
    commits(&it.writer, 1);
    assert_eq!(checkpoint(&it.writer, "TRUNCATE").0, 0);
    assert!(it.is_lost());
    let mut it = Watched::free();
    assert_eq!(checkpoint(&it.writer, "TRUNCATE").0, 0);
    commits(&it.writer, 2);
    assert_eq!(it.capture().unwrap(), 2, "nothing was in the tail");
    it.agrees();
}

#[test]
fn trap_26_a_reset_with_identical_file_size() {
    let mut it = Watched::free();
    let bytes = it.db.wal_bytes();
    it.backfill();
    commits(&it.writer, 2);
    assert_eq!(it.db.wal_bytes(), bytes);
    assert_eq!(it.source.seen(it.source.look().as_ref()), Seen::Reset);
    assert_eq!(it.capture().unwrap(), 2);
    it.agrees();
}

#[test]
fn trap_27_two_resets_between_polls() {
    let mut it = Watched::free();
    commits(&it.writer, 1);
    it.backfill();
    commits(&it.writer, 1);
    it.backfill();
    commits(&it.writer, 1);
    assert!(it.is_lost());
    let mut it = Watched::free();
    for _ in 0..3 {
        assert_eq!(checkpoint(&it.writer, "TRUNCATE").0, 0);
    }
    commits(&it.writer, 1);
    assert_eq!(it.capture().unwrap(), 1, "resets without a commit lose nothing");
    it.agrees();
}

/// An unpublished commit at the end of the old WAL must not stand in for one that was missed.
#[test]
fn trap_27_a_phantom_does_not_make_up_for_a_missed_commit() {
    let mut it = Watched::free();
    it.phantom("INSERT INTO t(x) VALUES ('never published')");
    it.backfill();
    commits(&it.writer, 1);
    it.backfill();
    commits(&it.writer, 1);
    assert!(it.is_lost());
}

/// Another process knows nothing of the sequence number: both salts are new and random.
#[test]
fn trap_29_the_sequence_number_goes_backwards() {
    let mut it = Watched::free();
    it.backfill();
    commits(&it.writer, 1);
    it.capture().unwrap();
    let sequence = |it: &Watched| fs::read(it.db.beside("-wal")).unwrap()[12..16].to_vec();
    let before = sequence(&it);
    it.source.release().unwrap();
    assert_eq!(checkpoint(&it.writer, "TRUNCATE").0, 0);
    assert_eq!(it.capture().unwrap(), 0);
    let salts = it.source.mark().salts;
    let mut other = Process::new(&it.db.path);
    assert_eq!(other.sql("INSERT INTO t(x) VALUES ('other')"), "ok");
    assert!(sequence(&it) < before, "it went backwards");
    let first = |salts: Salts| u32::from_be_bytes(*salts.0.first_chunk().unwrap());
    assert_ne!(first(it.source.look().unwrap().salts), first(salts).wrapping_add(1));
    assert_eq!(it.capture().unwrap(), 1);
    it.agrees();
}

#[test]
fn trap_30_journal_size_limit_truncates_at_the_first_commit() {
    let mut it = Watched::free();
    let bytes = it.db.wal_bytes();
    it.sql("PRAGMA journal_size_limit = 0");
    it.backfill();
    commits(&it.writer, 1);
    assert!(it.db.wal_bytes() < bytes);
    assert_eq!(it.capture().unwrap(), 1);
    it.agrees();
    it.source.release().unwrap();
    commits(&it.writer, 5);
    it.backfill();
    commits(&it.writer, 1);
    assert!(it.is_lost(), "five commits were cut off before they were read");
}

/// The writer died before it published, then the WAL was reset: the tail is longer than the count.
#[test]
fn trap_07_a_phantom_at_the_end_of_the_old_wal_is_dropped() {
    let mut it = Watched::free();
    commits(&it.writer, 1);
    it.phantom("INSERT INTO t(x) VALUES ('never published')");
    it.backfill();
    commits(&it.writer, 1);
    assert_eq!(it.capture().unwrap(), 2);
    assert_eq!(it.replay.old, 1);
    it.agrees();
}

/// Copies of one commit are one commit, or commits that changed nothing: then the last one may be one that
/// was never published. Nothing is made up.
#[test]
fn trap_13_padding_in_the_old_tail() {
    let mut it = Watched::padded(512);
    commits(&it.writer, 3);
    it.backfill();
    commits(&it.writer, 1);
    assert!(it.is_lost());
}

/// A transaction that is not over has overwritten the tail and shows in no count; copies of the commit
/// before it must not be taken for those of the one that is gone.
#[test]
fn trap_39_a_tail_that_a_transaction_has_overwritten_before_its_end() {
    let mut it = Watched::padded(512);
    it.sql("PRAGMA cache_size = 1");
    commits(&it.writer, 1);
    it.backfill();
    commits(&it.writer, 1);
    let captured = it.source.mark().position.frame;
    it.sql("BEGIN; UPDATE t SET x = hex(randomblob(20_000))");
    assert!(it.source.look().unwrap().frames < captured, "nothing of it is published");
    assert!(it.is_lost());
}

/// There are too few commits, copies or not, for the last one of the tail to be among them.
#[test]
fn trap_13_padding_before_a_phantom() {
    let mut it = Watched::padded(512);
    commits(&it.writer, 2);
    it.phantom("INSERT INTO t(x) VALUES ('never published')");
    it.backfill();
    commits(&it.writer, 1);
    assert!(it.capture().unwrap() > 3);
    it.agrees();
}

const AGAIN: &str = "PRAGMA user_version = 7";

/// A commit may change nothing at all, and is counted by SQLite nevertheless.
#[test]
fn commits_that_change_nothing_are_no_loss() {
    let mut it = Watched::free();
    // Longer once, so that the file does not end with the tail.
    commits(&it.writer, 20);
    it.backfill();
    commits(&it.writer, 1);
    it.capture().unwrap();
    it.source.release().unwrap();
    it.replay.old = 0;
    it.sql(&[AGAIN; 3].join(";"));
    it.backfill();
    it.sql(&[AGAIN; 2].join(";"));
    assert_eq!(it.capture().unwrap(), 3);
    assert_eq!(it.replay.old, 1, "what repeats is delivered once");
    it.agrees();
}

/// Where the file ends with the tail, more may have been cut off, which such commits seem to make good.
#[test]
fn trap_39_commits_that_change_nothing_may_stand_for_what_was_cut_off() {
    let mut it = Watched::free();
    it.sql(&[AGAIN; 3].join(";"));
    it.backfill();
    it.sql(&[AGAIN; 2].join(";"));
    assert!(it.is_lost());
}

/// A commit that changed nothing is counted, or is a copy: it must not stand in for one that was never
/// published.
#[test]
fn trap_27_a_phantom_is_not_made_good_by_commits_that_change_nothing() {
    let again = "PRAGMA user_version = 8";
    for (before, after) in [(0, 2), (2, 1), (2, 2)] {
        let mut it = Watched::free();
        it.sql("PRAGMA user_version = 7");
        (0..before).for_each(|_| it.sql("PRAGMA user_version = 9"));
        it.phantom("INSERT INTO t(x) VALUES ('never published')");
        it.backfill();
        (0..after).for_each(|_| it.sql(again));
        match it.capture() {
            Err(trouble) => assert!(matches!(trouble, Trouble::Lost(_)), "{trouble}"),
            Ok(_) => it.agrees(),
        }
    }
}

/// After a recovery the count begins at 0: of several commits left over, some cannot be all.
#[test]
fn trap_27_only_the_last_of_a_tail_can_be_unpublished() {
    let mut it = Watched::free();
    commits(&it.writer, 6);
    it.backfill();
    commits(&it.writer, 1);
    it.source.mark.change = it.source.look().unwrap().change.wrapping_sub(2);
    assert!(it.is_lost());
}

/// `journal_size_limit` cuts the WAL off in the middle of what was left: copies must not stand in for that.
#[test]
fn trap_30_a_tail_that_was_cut_off_is_not_whole() {
    let mut it = Watched::padded(512);
    commits(&it.writer, 1);
    let limit = 32 + it.source.look().unwrap().frames * 536 + 100;
    commits(&it.writer, 3);
    it.sql(&format!("PRAGMA journal_size_limit = {limit}"));
    it.backfill();
    commits(&it.writer, 1);
    assert!(it.is_lost());
}

/// A WAL that was truncated, and has grown to just where it was read up to.
#[test]
fn trap_39_a_tail_that_ends_where_a_later_one_does() {
    let db = Db::new(512);
    let writer = db.open_uri("psow=0");
    writer.execute_batch("PRAGMA synchronous = FULL").unwrap();
    commits(&writer, 10);
    assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
    let mut it = Watched::with(db, writer);
    commits(&it.writer, 10);
    it.capture().unwrap();
    let captured = it.source.mark().position.frame;
    it.source.release().unwrap();
    commits(&it.writer, 2);
    assert_eq!(checkpoint(&it.writer, "TRUNCATE").0, 0);
    while it.source.look().unwrap().frames < captured {
        commits(&it.writer, 1);
    }
    assert!(it.is_lost());
}

/// Copies were counted for commits up to where a pass stopped.
#[test]
fn trap_13_a_count_with_copies_in_it_is_not_gone_on_from() {
    let db = Db::new(512);
    let writer = db.open_uri("psow=0");
    writer.execute_batch("PRAGMA synchronous = FULL").unwrap();
    commits(&writer, 1);
    let mut it = Watched::with(db, writer);
    commits(&it.writer, 3);
    it.replay.room = 12;
    it.capture().unwrap();
    it.replay.room = u32::MAX;
    it.source.release().unwrap();
    while it.source.look().unwrap().change != it.source.mark().change {
        commits(&it.writer, 1);
    }
    assert_eq!(checkpoint(&it.writer, "TRUNCATE").0, 0);
    commits(&it.writer, 1);
    assert!(it.is_lost());
}

/// SQLite counts from 0 after each recovery.
#[test]
fn trap_27_a_count_of_another_life_is_not_gone_on_from() {
    let mut it = Watched::free();
    let mark = *it.source.mark();
    it.source.go_to(Mark { change: mark.change.wrapping_add(1), ..mark });
    commits(&it.writer, 1);
    assert_eq!(checkpoint(&it.writer, "TRUNCATE").0, 0);
    commits(&it.writer, 1);
    assert!(it.is_lost());
}

#[test]
fn trap_109_the_count_wraps() {
    for ahead in [1, 2, 4] {
        let mut it = Watched::new(512);
        commits(&it.writer, 10);
        it.capture().unwrap();
        let mut vandal = Process::new(&it.db.path);
        let mut words: [u32; 12] = std::array::from_fn(|at| it.source.handles.word(4 * at));
        words[2] = u32::MAX - ahead;
        let mut sums = (0u32, 0u32);
        for pair in words[..10].chunks(2) {
            sums.0 = sums.0.wrapping_add(pair[0]).wrapping_add(sums.1);
            sums.1 = sums.1.wrapping_add(pair[1]).wrapping_add(sums.0);
        }
        (words[10], words[11]) = sums;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        vandal.poke(0, &[&bytes[..], &bytes[..]].concat());
        assert_eq!(it.source.seen(it.source.look().as_ref()), Seen::Rebuilt);
        assert_eq!(it.capture().unwrap(), 0);
        it.source.release().unwrap();
        commits(&it.writer, 3);
        it.backfill();
        commits(&it.writer, 2);
        assert!(it.source.look().unwrap().change < 10, "it has wrapped");
        assert_eq!(it.capture().unwrap(), 5);
        it.agrees();
    }
}

/// Recovery counts from 0 again. Salts and checksum prove that the frames are the same.
#[test]
fn trap_109_the_wal_index_is_rebuilt_under_us() {
    let mut it = Watched::new(512);
    commits(&it.writer, 5);
    it.capture().unwrap();
    let mut vandal = Process::new(&it.db.path);
    vandal.poke(16, &[0xff]);
    assert_eq!(it.source.look(), None);
    let mut other = Process::new(&it.db.path);
    assert_eq!(other.sql("SELECT count(*) FROM t"), "Integer(5)");
    let look = it.source.look().unwrap();
    assert_eq!((look.change, look.frames), (0, it.source.mark().position.frame));
    assert_eq!(it.source.seen(Some(&look)), Seen::Rebuilt);
    assert_eq!(it.capture().unwrap(), 0);
    assert_eq!(it.source.mark().change, 0);
    commits(&it.writer, 1);
    assert_eq!(it.capture().unwrap(), 1);
    it.agrees();
    // Other frames at the same place are another history.
    it.source.mark.position.checksum.0[0] ^= 1;
    it.source.mark.change ^= 1;
    assert!(it.is_lost());
}

/// Either nothing is missing, or it is known that something is.
#[track_caller]
fn is_right(it: &mut Watched) {
    match it.capture() {
        Err(trouble) => assert!(matches!(trouble, Trouble::Lost(_)), "{trouble}"),
        Ok(_) => it.agrees(),
    }
}

/// A pass stopped after a commit, and what came next was its copy: it counted as a commit of its own, at the
/// head of the next pass or of the old tail, and the last one that was published as one that never was.
#[test]
fn trap_13_a_copy_that_begins_a_pass_or_a_tail_is_no_commit() {
    for passes in [1, 2] {
        let mut it = Watched::padded(4096);
        commits(&it.writer, 1);
        it.sql("INSERT INTO u VALUES ('lost')");
        for _ in 0..passes {
            it.replay.room = 1;
            it.capture().unwrap();
        }
        it.replay.room = u32::MAX;
        it.source.release().unwrap();
        it.backfill();
        commits(&it.writer, 1);
        is_right(&mut it);
    }
}

/// The limit was where a frame ends: nothing showed that a commit was cut off, and the copy of the first new
/// one stood in for it.
#[test]
fn trap_39_a_tail_that_was_cut_off_between_two_frames() {
    let mut it = Watched::padded(4096);
    let limit = 32 + it.source.look().unwrap().frames * 4120;
    it.sql("INSERT INTO u VALUES ('lost')");
    it.sql(&format!("PRAGMA journal_size_limit = {limit}"));
    it.backfill();
    it.sql("PRAGMA user_version = 7");
    assert_eq!(it.db.wal_bytes(), u64::from(limit));
    is_right(&mut it);
}

/// The wal-index was rebuilt while nothing was pinned, and the WAL reset before anybody looked: the count of
/// the new life passed for the one of the old.
#[test]
fn trap_109_a_recovery_and_a_reset_between_two_looks() {
    for after in 0..3 {
        let mut it = Watched::new(512);
        commits(&it.writer, 10);
        it.capture().unwrap();
        let mut vandal = Process::new(&it.db.path);
        let mut other = Process::new(&it.db.path);
        let mut recover = |rows: &str| {
            vandal.poke(16, &[0xff]);
            assert_eq!(other.sql("SELECT count(*) FROM t"), rows);
        };
        recover("Integer(10)");
        assert_eq!(it.capture().unwrap(), 0);
        assert_eq!(it.source.mark().change, 0);
        it.source.release().unwrap();
        commits(&it.writer, 1);
        recover("Integer(11)");
        assert_eq!(it.source.look().unwrap().change, 0);
        commits(&it.writer, after);
        it.backfill();
        commits(&it.writer, 1);
        is_right(&mut it);
    }
}
