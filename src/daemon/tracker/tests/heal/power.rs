//! Power cuts at every step.

use super::*;
use crate::testkit::points;
use crate::testkit::power::{Fate, fates};

/// The power goes at every step that the daemon asks of the disk in turn, while it ships commits, a
/// large transaction, a resync and a snapshot; and takes any part of what was not synced. What was
/// acknowledged is there, the next start goes on by itself, and what it costs follows the change.
#[test]
fn trap_56_a_power_cut_at_every_sync() {
    let works: [fn(&Connection); 4] = [
        |writer| commits(writer, 3),
        |writer| sql(writer, "INSERT INTO t(x) VALUES (randomblob(9000000))"),
        |writer| {
            commits(writer, 3);
            assert_eq!(checkpoint(writer, "TRUNCATE").0, 0);
        },
        |writer| sql(writer, "DELETE FROM t WHERE id = 1; VACUUM"),
    ];
    let seed = 1;
    let mut rng = crate::testkit::Random(seed);
    let mut cuts = 0;
    let mut steps = 0;
    for work in works {
        let (db, writer, mut history) = stopped();
        let before = db.copy();
        work(&writer);
        let root = db.dir.path();
        let recording = crate::testkit::power::record(root);
        let mut sim = Sim::current(&db);
        commits(&writer, 1);
        sim.until(|sim| !sim.is_current());
        sim.until(|sim| sim.is_current());
        let moments = recording.end();
        assert!(moments.len() > 10);
        let after = db.copy();
        note(&db, &mut history);
        steps += moments.len() as u64 - 1;
        // A sample: what is mixed may be all of it, or nothing.
        let each: Vec<_> = if points::is_full() { fates(4).collect() } else { vec![Fate::Mixed] };
        for (moment, fate) in moments.iter().flat_map(|it| each.iter().map(move |fate| (it, *fate)))
        {
            let lost = rng.below(3) == 0;
            let cut = if lost { before.copy() } else { after.copy() };
            moment.cut(root, cut.dir.path(), fate, &mut rng);
            let acknowledged = on_disk(&cut).map(|state| state.commit.number);
            let there: History =
                history.iter().filter(|(it, _)| Some(*it) <= acknowledged).cloned().collect();
            let writer = cut.open();
            let mut sim = Sim::current(&cut);
            agrees(&cut);
            holds(&cut, &there);
            assert_eq!(snapshots(&cut), 1, "at {:?}", moment.step);
            commits(&writer, 1);
            assert!(sim.drain().is_none());
            agrees(&cut);
            cuts += 1;
        }
    }
    assert!(cuts > 100, "{cuts}");
    points::record("daemon-power", &[("points", steps), ("images", cuts)]);
}
