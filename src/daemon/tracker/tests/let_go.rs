//! What is not captured in this life is held no longer than `wal_max`, whatever the life waits for: the
//! application's checkpoints would wait for it, and its disk fill. Each found by a reviewer.

use super::lanes::Pair;
use super::*;

const WAL_MAX: u64 = 8 << 20;

/// A minute of an application that checkpoints what it writes.
#[track_caller]
fn nothing_is_held(db: &Db, writer: &rusqlite::Connection, sim: &mut Sim) {
    for _ in 0..60 {
        writer.execute_batch("UPDATE t SET x = randomblob(1000000) WHERE id = 1").unwrap();
        checkpoint(writer, "PASSIVE");
        sim.for_ms(1000);
    }
    assert_eq!(checkpoint(writer, "TRUNCATE").0, 0, "{} bytes are held", db.wal_bytes());
}

#[test]
fn a_snapshot_that_cannot_begin_holds_no_wal() {
    let (db, writer) = new_db();
    let (mut sim, faulty) = Sim::faulty(&db);
    let mut config = db.config();
    config.settings.wal_max = WAL_MAX;
    sim.tracker = Tracker::new(&config, false, sim.now);
    faulty.fail_all(Operation::List, Fault::Refused);
    sim.for_ms(3000);
    nothing_is_held(&db, &writer, &mut sim);
    faulty.heal();
    sim.until(|sim| sim.is_current());
    assert!(sim.drain().is_none());
    agrees(&db);
}

#[test]
fn a_drain_that_waits_for_a_destination_holds_no_wal() {
    let mut pair = Pair::new();
    pair.config.settings.wal_max = WAL_MAX;
    let mut sim = pair.sim();
    sim.until(|sim| sim.is_current());
    sim.tracker.stores.as_ref().unwrap().lacks(1, None).unwrap();
    // It is being filled, for hours.
    let payment = sim.tracker.payments(sim.now).pop().expect("it is due");
    let _payment = sim.tracker.sent_out(payment);
    sim.tracker.drain();
    sim.for_ms(10_000);
    assert!(sim.tracker.drained && !sim.tracker.is_ended());
    nothing_is_held(&pair.db, &pair.writer, &mut sim);
}

#[test]
fn a_life_that_waits_for_a_part_to_be_stored_holds_no_wal() {
    let (db, writer) = new_db();
    let row = "INSERT INTO t(x) VALUES (randomblob(1000000))";
    (0..18).for_each(|_| writer.execute_batch(row).unwrap());
    let mut config = db.config();
    config.settings.wal_max = WAL_MAX;
    config.settings.snapshot_interval = Duration::from_millis(1);
    let mut sim = Sim::new(&db);
    sim.tracker = Tracker::new(&config, false, sim.now);
    sim.until(|sim| snapshots(&db) == 1 && sim.tracker.parcel.is_none());
    writer.execute_batch("UPDATE t SET x = randomblob(1000000)").unwrap();
    sim.keep = |done| matches!(done, Done::Stored(..));
    sim.until(|sim| sim.kept.len() == 3);
    writer.execute_batch("UPDATE t SET x = 1 WHERE id = 7").unwrap();
    sim.tracker.lost = true;
    sim.for_ms(10_000);
    assert!(sim.tracker.leaving && sim.opened == 1);
    nothing_is_held(&db, &writer, &mut sim);
}
