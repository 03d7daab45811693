//! What is left to say of a destination once it has what others could give: what cannot be restored
//! from it any more, and what lies there to no end.

use super::{Finding, Order, Outcome, Place, Report, is_on_its_way};
use crate::commit::CommitNo;
use crate::error::Result;
use crate::name::Name;
use crate::replica::{Replica, Run};
use std::collections::HashSet;

/// Damaged objects that nobody has whole, and holes, each with the commits that are lost by it.
pub fn find(place: &Place, order: &Order, report: &mut Report) -> Result<()> {
    let lacking = place.lacking()?;
    let spoiled: HashSet<&Name> = lacking.values().flat_map(|it| &it.snapshots).collect();
    let now = place.replica_now();
    let ancestry = now.ancestry(&*place.source).unwrap_or_default();
    let runs = |of: &dyn Fn(&Name) -> bool| {
        let entries = now.objects.iter().filter(|entry| of(&entry.name));
        Replica::of(entries.cloned().collect()).runs(&ancestry)
    };
    let listed = runs(&|_| true);
    let whole = runs(&|name| place.holds(name) && !spoiled.contains(name));
    let newest = now.newest(&ancestry).map(|span| span.last);
    let current = whole.last().map(|run| run.end().last) == newest;
    let way_out = match (current || !place.unread.is_empty(), order.dry_run) {
        (true, _) => "",
        (false, true) => ASK,
        (false, false) => ASKED,
    };
    report.wants_snapshot |= !way_out.is_empty();
    let bad = place.bad.iter().map(|(name, damage)| (name, damage.clone()));
    let missing = lacking.keys().filter(|name| !place.bad.contains_key(name));
    let missing = missing.map(|name| (name, "it is missing".to_owned()));
    for (name, damage) in bad.chain(missing).filter(|(name, _)| !is_on_its_way(name, order)) {
        let needs = |it: &Name| lacking.get(name).is_some_and(|part| part.snapshots.contains(it));
        let without = runs(&|it| it != name && !needs(it));
        let mut remedy = match &lost(&listed, &without)[..] {
            [] => "no restore point is lost by it".to_owned(),
            lost => format!("lost here: {}", lost.join(", ")),
        };
        remedy += way_out;
        let what = format!("{damage}, and no other destination has it whole");
        let where_ = format!("{}/{name}", place.source);
        report.findings.push(Finding { what, where_, remedy, outcome: Outcome::Hurt });
    }
    let known = place.bad.is_empty() && place.unread.is_empty() && place.promised == 0;
    if known && !now.is_empty() {
        report.findings.extend(holes(place, way_out)?);
    }
    Ok(())
}

/// What becomes of a destination that cannot restore the newest commit.
const ASK: &str = "; the newest commit cannot be restored from here: a run that is not dry has the daemon make \
                   a new snapshot";
const ASKED: &str = "; the newest commit cannot be restored from here: the daemon makes a new snapshot, at once \
                     or after the next commit; if none runs, start it, or run bakelite sync";

/// What does not hang together, though every object is whole.
fn holes(place: &Place, way_out: &str) -> Result<Vec<Finding>> {
    let found = place.links.findings(&*place.source, &place.replica_now())?;
    let missing = |it: crate::verify::Finding| Finding {
        what: it.what,
        where_: it.where_,
        remedy: format!("no destination has what is missing: what needs it is lost here{way_out}"),
        outcome: Outcome::Hurt,
    };
    Ok(found.into_iter().map(missing).collect())
}

impl Place {
    fn holds(&self, name: &Name) -> bool {
        self.sound.contains_key(name)
    }

    /// What it lists, and what was put there.
    fn replica_now(&self) -> Replica {
        let healed = self.sound.keys().chain(self.bad.keys()).chain(&self.unread);
        let entry = |name: &Name| crate::backend::Entry { name: name.clone(), bytes: 0 };
        Replica::of(healed.map(entry).collect())
    }
}

/// The commits that runs hold and others do not, as ranges.
fn lost(all: &[Run], left: &[Run]) -> Vec<String> {
    let mut ranges = Vec::new();
    for run in all {
        let (mut from, end) = (run.first(), run.end().last);
        while from <= end {
            let inside = left.iter().find(|it| it.holds(from));
            if let Some(inside) = inside {
                from = inside.end().last.next();
                continue;
            }
            let next = left.iter().map(Run::first).filter(|first| *first > from).min();
            let last = next.map_or(end, |next| end.min(CommitNo(next.0 - 1)));
            ranges.push(match from == last {
                true => format!("commit {from}"),
                false => format!("commits {from} to {last}"),
            });
            from = last.next();
        }
    }
    ranges
}

/// What no snapshot names, and what was never finished: harmless, and told in one line each.
pub fn orphans(place: &Place, here: &[Place]) -> Vec<Finding> {
    let named: HashSet<&Name> = here.iter().flat_map(|it| &it.named).collect();
    let unnamed = |entry: &&crate::backend::Entry| {
        matches!(entry.name, Name::Part(_)) && !named.contains(&entry.name)
    };
    let known = here.iter().all(|it| it.bad.keys().all(|it| !matches!(it, Name::Snapshot(_))));
    let parts: Vec<_> = place.replica.objects.iter().filter(unnamed).filter(|_| known).collect();
    let now = place.replica_now();
    let unended = now.changes.values().filter(|parts| !parts.iter().any(|it| it.end));
    let unended = unended.count();
    let finding = |what, remedy: &str| Finding {
        what,
        where_: place.source.to_string(),
        remedy: remedy.into(),
        outcome: Outcome::Harmless,
    };
    let mut found = Vec::new();
    if !parts.is_empty() {
        let bytes = crate::units::bytes(parts.iter().map(|entry| entry.bytes).sum());
        let what = format!("{} parts that no snapshot names, {bytes}", parts.len());
        found.push(finding(
            what,
            "left by a snapshot that was not finished: the next one uses them",
        ));
    }
    if unended > 0 {
        let what = format!("{unended} change-sets without an end");
        found
            .push(finding(what, "left by transactions that were shipped again under another name"));
    }
    found
}
