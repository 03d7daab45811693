//! One pass of capture over one database, as a worker does it.

use crate::capture::{Batch, Capture, Finish, RawPart};
use crate::clock;
use crate::fanout::Stock;
use crate::name::Part;
use crate::source::{Caught, Trouble};

/// What one pass of capture gave.
#[derive(Debug)]
pub struct Captured {
    pub(super) batch: Option<Batch>,
    pub(super) part: Option<RawPart>,
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
    /// A snapshot is under way, and its next part is to be read soon.
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
    if caught.is_ok() && orders.part {
        captured.part = capture.next_part(stored)?;
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
    let needed =
        capture.is_full() || capture.large().is_some() || orders.rolls || orders.begin_snapshot;
    if needed {
        capture.source.hold()?;
        return Ok(());
    }
    if capture.source.zero()? {
        return Ok(());
    }
    let backfilling = capture.source.look().is_some_and(|look| look.backfilled > 0);
    if orders.free && (backfilling || orders.soon) {
        capture.source.release()?;
    } else {
        capture.source.hold()?;
    }
    Ok(())
}
