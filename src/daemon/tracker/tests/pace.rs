//! How often: a checkpoint of the daemon's own, and a change-set.

use super::*;

/// Watched with settings that `change` has changed, everything shipped.
fn with(db: &Db, change: impl FnOnce(&mut crate::config::Settings)) -> Sim {
    let mut config = db.config();
    change(&mut config.settings);
    let mut sim = Sim::new(db);
    sim.tracker = Tracker::new(&config, false, sim.now);
    sim.until(|sim| sim.is_current());
    sim
}

/// Frames in the WAL that are not in the database yet.
fn unchecked(sim: &Sim) -> u32 {
    let Phase::Here(capture) = &sim.tracker.phase else { panic!("away") };
    let look = capture.source.look().unwrap();
    look.frames - look.backfilled
}

/// So many commits of one frame each.
fn frames(writer: &rusqlite::Connection, n: u32) {
    let change = "UPDATE t SET x = hex(randomblob(20)) WHERE id = 1";
    (0..n).for_each(|_| writer.execute_batch(change).unwrap());
}

/// The application checkpoints nothing (`PRAGMA wal_autocheckpoint=0`), so the daemon does; but not up to
/// `checkpoint_pages`, nor where somebody else does it in time.
#[test]
fn a_wal_past_checkpoint_pages_is_checkpointed_if_nobody_else_does_it() {
    let (db, writer) = new_db();
    assert_eq!(checkpoint(&writer, "TRUNCATE").0, 0);
    let mut sim = with(&db, |settings| settings.checkpoint_pages = 30);
    frames(&writer, 30);
    sim.for_ms(10_000);
    assert_eq!(unchecked(&sim), 30, "not past it");
    frames(&writer, 1);
    sim.for_ms(800);
    assert_eq!(unchecked(&sim), 31, "left to others so far");
    checkpoint(&writer, "PASSIVE");
    // The last commit may be left, which the daemon's own lock is for.
    assert!(unchecked(&sim) <= 1);
    sim.for_ms(800);
    frames(&writer, 31);
    sim.for_ms(800);
    assert!(unchecked(&sim) > 30, "somebody else does them");
    sim.for_ms(800);
    assert!(unchecked(&sim) <= 1, "nobody else does");
    agrees(&db);
}

fn change_sets(db: &Db) -> usize {
    fs::read_dir(db.dir.path().join("replica/change/0")).map_or(0, |entries| entries.count())
}

/// When each of the next change-sets was stored, in milliseconds from now on, under a writer that never
/// rests.
fn shipped(sim: &mut Sim, db: &Db, writer: &rusqlite::Connection) -> Vec<u128> {
    let (begun, before, mut at) = (sim.now, change_sets(db), Vec::new());
    sim.until(|sim| {
        commits(writer, 1);
        let new = change_sets(db) - before;
        assert!(new <= at.len() + 1, "one at a time");
        if new > at.len() {
            at.push((sim.now - begun).as_millis());
        }
        at.len() == 5
    });
    at
}

#[test]
fn change_sets_are_an_interval_apart_and_the_first_after_a_pause_goes_at_once() {
    for (set, least) in [(None, 200), (Some(700), 700), (Some(3000), 3000), (Some(0), 0)] {
        let (db, writer) = new_db();
        let set = set.map(Duration::from_millis);
        let mut sim = with(&db, |settings| settings.ship_interval = set);
        sim.for_ms(10_000);
        let at = shipped(&mut sim, &db, &writer);
        assert!(at[0] <= 50, "seen at the next look, and shipped: {at:?}");
        for pair in at.windows(2) {
            let gap = pair[1] - pair[0];
            assert!(gap >= least && gap <= least + 20, "{least} ms: {at:?}");
        }
    }
}
