//! One pass of capture over one database, as a worker does it.

use crate::capture::{Batch, Capture, Finish, RawPart};
use crate::clock;
use crate::fanout::Stock;
use crate::name::Part;
use crate::source::{Caught, Seen, Trouble};
use std::io;

/// What is left to be captured of a WAL that is let go of: at most one frame for so many captured ones.
const NEAR: u32 = 4;

/// What one pass of capture gave.
#[derive(Debug)]
pub struct Captured {
    pub(super) batch: Option<Batch>,
    pub(super) part: Option<RawPart>,
    /// Why the next part could not be read.
    pub(super) unread: Option<io::Error>,
    /// Parts of a snapshot that need not be read.
    pub(super) passed: Vec<Part>,
    /// A snapshot was begun.
    pub(super) began: bool,
    /// A snapshot that was due is not worth it yet.
    pub(super) put_off: bool,
    pub(super) part_is_due: bool,
    /// Everything published when it began was captured.
    pub(super) complete: bool,
    pub(super) drain: bool,
    pub(super) result: std::result::Result<(), Trouble>,
}

/// What a pass of capture is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Orders {
    pub(super) begin_snapshot: bool,
    /// A snapshot beside what is being shipped, if it is worth it.
    pub(super) begin_roll: Option<Stock>,
    pub(super) capture: bool,
    pub(super) drain: bool,
    pub(super) cut: bool,
    pub(super) part: bool,
    /// A first snapshot is under way, and its next part is to be read soon: what a later one goes on from
    /// is healed if it is lost.
    pub(super) rolls: bool,
    pub(super) finish: bool,
    /// Whether the WAL may be left unpinned, and whether it should be even before a checkpoint.
    pub(super) free: bool,
    pub(super) soon: bool,
}

/// One pass of capture, on a worker; `stored` tells which parts of a snapshot are there already.
pub(super) fn pass(
    capture: &mut Capture,
    orders: Orders,
    stored: &dyn Fn(&Part) -> bool,
) -> Captured {
    let mut captured = Captured {
        batch: None,
        part: None,
        unread: None,
        passed: Vec::new(),
        began: false,
        put_off: false,
        complete: false,
        part_is_due: orders.part,
        drain: orders.drain,
        result: Ok(()),
    };
    captured.result = try_pass(capture, orders, stored, &mut captured);
    captured
}

fn try_pass(
    capture: &mut Capture,
    orders: Orders,
    stored: &dyn Fn(&Part) -> bool,
    captured: &mut Captured,
) -> std::result::Result<(), Trouble> {
    if orders.begin_snapshot {
        capture.begin_snapshot(clock::now)?;
        captured.began = true;
    }
    if let Some(stock) = orders.begin_roll {
        captured.put_off = stock.puts_off(capture.lacking(stored)?);
        if !captured.put_off {
            capture.begin_roll()?;
        }
    }
    if orders.part {
        capture.source.hold()?;
    }
    let look = capture.source.look().filter(|_| orders.capture);
    if let Some(look) = &look {
        capture.note(look, clock::now());
    }
    let caught = look.as_ref().map_or(Ok(Caught::Behind), |look| capture.capture(look));
    captured.complete = matches!(caught, Ok(Caught::Up));
    let same = matches!(capture.source.seen(look.as_ref()), Seen::Nothing | Seen::Commits);
    // Of another generation than the mark's nothing can be read, where there was no room to capture it.
    if caught.is_ok() && same && orders.part {
        match capture.next_part(stored) {
            // A page that cannot be read is in the way of no commit.
            Err(Trouble::Io(error)) => captured.unread = Some(error),
            part => captured.part = part?,
        }
        captured.passed = capture.take_passed();
    }
    let finish = orders.finish && captured.complete;
    if orders.cut {
        captured.batch = capture.batch(if finish { Finish::Snapshot } else { Finish::Nothing })?;
    }
    caught?;
    settle(capture, orders)
}

/// Moves the pin to where it belongs after a pass.
fn settle(capture: &mut Capture, orders: Orders) -> std::result::Result<(), Trouble> {
    let needed = capture.is_full() || capture.large().is_some() || orders.begin_snapshot;
    // The next part may follow at once: what waits for it finds a quiet moment by itself.
    if !needed && !orders.part && capture.source.zero()? {
        return Ok(());
    }
    if needed || orders.rolls {
        capture.source.hold()?;
        return Ok(());
    }
    let captured = capture.source.mark().position.frame;
    let leave = capture.source.look().is_some_and(|look| {
        // What is not captured is overwritten as soon as the next generation is as long.
        let near = look.frames.saturating_sub(captured) <= captured / NEAR;
        near && (orders.soon || look.backfilled > 0)
    });
    if orders.free && leave {
        capture.source.release()?;
    } else {
        capture.source.hold()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Pin;
    use crate::testkit::rig::Rig;
    use crate::testkit::{Db, Process, checkpoint, commits};

    const LET_GO: Orders = Orders {
        begin_snapshot: false,
        begin_roll: None,
        capture: true,
        drain: false,
        cut: false,
        part: false,
        rolls: false,
        finish: false,
        free: true,
        soon: true,
    };

    fn ends_free(rig: &mut Rig) -> bool {
        let captured = pass(&mut rig.capture, LET_GO, &|_| false);
        assert!(captured.result.is_ok());
        rig.capture.source.pin() == Pin::Free
    }

    /// Found where a writer commits 30,000 times a second: a pass that met it in the middle of a
    /// publication captured nothing, and let go of the WAL all the same.
    #[test]
    fn trap_23_a_pass_that_sees_a_torn_header_keeps_the_wal() {
        let mut rig = Rig::new(Db::new(512));
        let writer = rig.db.open();
        let mut vandal = Process::new(&rig.db.path);
        commits(&writer, 20);
        let byte = rig.capture.source.look().unwrap().frames.to_ne_bytes()[0];
        vandal.poke(16, &[byte ^ 1]);
        assert!(!ends_free(&mut rig));
        vandal.poke(16, &[byte]);
        assert!(ends_free(&mut rig));
    }

    /// A destination that took nothing came back after the WAL was let go of, and reset: a part of the
    /// snapshot under way was read over the new WAL, which was told to be corrupt.
    #[test]
    fn trap_32_no_part_is_read_over_another_wal() {
        let mut rig = Rig::shipped(Db::new(512));
        let writer = rig.db.open();
        while !rig.capture.is_full() {
            writer.execute_batch("INSERT INTO t(x) VALUES (randomblob(1000000))").unwrap();
            rig.capture().unwrap();
        }
        rig.capture.begin_roll().unwrap();
        rig.capture.source.release().unwrap();
        assert_eq!(checkpoint(&writer, "RESTART").0, 0);
        commits(&writer, 1);
        let orders = Orders { part: true, rolls: true, ..LET_GO };
        let captured = pass(&mut rig.capture, orders, &|_| false);
        assert!(captured.result.is_ok() && captured.part.is_none(), "{captured:?}");
    }

    /// The longer a pass takes, the more is written meanwhile, and the sooner all that is overwritten.
    #[test]
    fn a_wal_is_let_go_of_only_when_little_of_it_is_left_to_be_read() {
        let mut rig = Rig::new(Db::new(512));
        let writer = rig.db.open();
        commits(&writer, 20);
        assert!(ends_free(&mut rig));
        let mut settled = |count| {
            rig.capture.source.hold().unwrap();
            commits(&writer, count);
            settle(&mut rig.capture, LET_GO).unwrap();
            rig.capture.source.pin() == Pin::Free
        };
        assert!(settled(1));
        assert!(!settled(10));
        assert!(ends_free(&mut rig));
    }
}
