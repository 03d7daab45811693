//! The clock of the day, set at each reading of it: ahead and back, for good and for one reading. The
//! readings of a life that nobody disturbs are counted, so none is left out. Whatever it says, nothing
//! is lost, times never go backwards, and a target in time never steps back.

use super::crash::World;
use super::*;
use crate::commit::Time;
use crate::list;
use crate::replica::{Replica, read_change};
use crate::restore::tests::get;
use crate::testkit::mortal::Death;
use crate::testkit::points;
use std::cell::Cell;

const DAY: i64 = 86_400_000;
/// How far it is set. The last one is before 1970, which reads as that.
const SETS: [i64; 6] = [DAY / 24, 2 * DAY, 400 * DAY, -1000, -2 * DAY, -100_000 * DAY];

/// From which reading of this thread on it is off, until which, and how far.
#[derive(Clone, Copy, Default)]
struct Set {
    from: u64,
    until: u64,
    ahead: i64,
}

thread_local! {
    static SET: Cell<Set> = const { Cell::new(Set { from: 0, until: 0, ahead: 0 }) };
    static READ: Cell<u64> = const { Cell::new(0) };
}

fn shown() -> Time {
    let (read, set) = (READ.get(), SET.get());
    READ.set(read + 1);
    let off = (set.from..set.until).contains(&read);
    Time(clock::system().0.saturating_add_signed(if off { set.ahead } else { 0 }))
}

/// How often `work` reads the clock, which is `set` meanwhile.
fn under<T>(set: Set, work: impl FnOnce() -> T) -> (T, u64) {
    clock::stand_in(shown);
    READ.set(0);
    SET.set(set);
    let done = work();
    SET.set(Set::default());
    (done, READ.get())
}

/// Times rise with commits, and each time leads to the last commit that had been made by then.
fn times_rise(source: &Arc<dyn Backend>, moment: &str) {
    let replica = Replica::list(&**source).unwrap();
    let ends = replica.changes.values().filter_map(|parts| parts.iter().find(|part| part.end));
    let commits = ends.flat_map(|end| read_change(&**source, end).unwrap().commits);
    let mut stamps: Vec<(CommitNo, Time)> = commits.map(|it| (it.number, it.time)).collect();
    stamps.sort();
    let rise = stamps.windows(2).all(|pair| pair[0].1 <= pair[1].1);
    assert!(rise, "{moment}: {stamps:?}");
    let mut landed = CommitNo(0);
    for point in list::points(&**source).unwrap() {
        for time in [point.from, point.to] {
            let (_, commit) = get(source, Target::At(time)).unwrap();
            assert!(commit.number >= landed, "{moment}: {time:?} steps back");
            landed = commit.number;
        }
    }
}

#[test]
fn trap_67_a_clock_that_is_set_at_any_reading_of_it_loses_nothing() {
    let mut moments = 0;
    for lives in [1, 2, 3] {
        let world = || World::before_life(lives);
        let mut first = world();
        let (_, reads) = under(Set::default(), || first.live(u64::MAX, Death::Before));
        assert!(reads > 5, "life {lives}: {reads} readings");
        // With all other tests: a few of the readings, and each of them in two ways of the twelve.
        let (each, ways) = if points::is_full() { (1, 1) } else { (7, 6) };
        for from in (0..reads).step_by(each) {
            let sets = SETS.into_iter().flat_map(|it| [(it, from + 1), (it, u64::MAX)]);
            for (ahead, until) in sets.skip(from as usize % ways).step_by(ways) {
                let mut world = world();
                let set = Set { from, until, ahead };
                under(set, || world.live(u64::MAX, Death::Before));
                let moment =
                    format!("life {lives}, reading {from} of {reads}, {ahead} ms, {until}");
                world.grade(&moment);
                times_rise(&world.source(), &moment);
                moments += 1;
            }
        }
    }
    assert!(moments > 20, "{moments}");
    points::record("daemon-clock", &[("points", moments)]);
}
