//! Power cuts at every step.

use super::super::lanes::{Pair, shipped};
use super::*;
use crate::testkit::points;
use crate::testkit::power::{Fate, fates};
use std::path::Path;
use std::process::Command;

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

fn copy_dir(from: &Path, to: &Path) {
    fs::remove_dir_all(to).ok();
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// One of two destinations is away, what it lacks is spooled, and it comes back; both are on other disks.
/// The power goes at each step of the state directory. Both come to hold what was acknowledged, and each
/// commit of the outage among it.
#[test]
fn trap_84_a_power_cut_at_every_step_of_an_outage() {
    let (elsewhere, aside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (there, aside) = (elsewhere.path().join("there"), aside.path());
    fs::create_dir(&there).unwrap();
    let pair = Pair::apart(&there);
    let mut sim = pair.sim();
    sim.until(|sim| sim.is_current());
    let mut history = History::new();
    let recording = crate::testkit::power::record(pair.db.dir.path());
    // What the other disks hold, and up to which moment.
    let mut held: Vec<(usize, std::path::PathBuf)> = Vec::new();
    let mut keep = |_: &mut Sim| {
        let before = held.last().map_or(0, |(upto, _)| *upto);
        if before < recording.count() {
            held.push((recording.count(), aside.join(held.len().to_string())));
            copy_dir(&there, &held.last().unwrap().1);
        }
    };
    pair.take(1);
    for _ in 0..3 {
        commits(&pair.writer, 1);
        for here in [false, true] {
            sim.until(|sim| {
                keep(sim);
                shipped(sim) == here
            });
        }
        history.push((pair.state().commit.number, pair.db.image()));
    }
    pair.give_back(1);
    sim.until(|sim| {
        keep(sim);
        sim.is_current()
    });
    drop(sim);
    let moments = recording.end();
    held.last_mut().unwrap().0 = moments.len();
    let (mut rng, mut images) = (crate::testkit::Random(2), 0);
    for (at, moment) in moments.iter().enumerate() {
        for fate in fates(if points::is_full() { 20 } else { 1 }) {
            copy_dir(&held.iter().find(|(upto, _)| at < *upto).unwrap().1, &there);
            let db = pair.db.copy();
            moment.cut(pair.db.dir.path(), db.dir.path(), fate, &mut rng);
            let writer = db.open();
            let cut = Pair::of(db, writer, &there);
            if cut.away(1).exists() {
                cut.give_back(1);
            }
            let moment = format!("{:?}, {fate:?}", moment.step);
            let acknowledged = on_disk(&cut.db).map(|state| state.commit.number);
            cut.sim().until(|sim| sim.is_current());
            for destination in [0, 1] {
                cut.agrees(destination);
                for (number, image) in history.iter().filter(|it| Some(it.0) <= acknowledged) {
                    let back = restored(&cut.backend(destination), Target::Commit(*number));
                    let back = back.unwrap_or_else(|error| panic!("{moment}: {error}"));
                    assert!(back == *image, "{moment}: {number:?} on {destination}");
                }
            }
            images += 1;
        }
    }
    assert!(images > 50, "{images}");
    points::record("outage-power", &[("points", moments.len() as u64 - 1), ("images", images)]);
}
