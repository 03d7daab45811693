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
    let missing = missing_parts(place);
    let listed = runs(place, |_| true);
    let usable = |name: &Name| {
        let lacking = place.bad.keys().chain(&missing).any(|it| needs(place, name, it));
        place.holds(name) && !lacking
    };
    let whole = runs(place, usable);
    let newest = listed.last().map(|run| run.end().last);
    let current = whole.last().map(|run| run.end().last) == newest;
    let bad = place.bad.iter().map(|(name, damage)| (name, damage.clone()));
    let missing = missing.iter().map(|name| (name, "it is missing".to_owned()));
    for (name, damage) in bad.chain(missing).filter(|(name, _)| !is_on_its_way(name, order)) {
        let without = runs(place, |it| it != name && !needs(place, it, name));
        let mut remedy = match &lost(&listed, &without)[..] {
            [] => "no restore point is lost by it".to_owned(),
            lost => format!("lost here: {}", lost.join(", ")),
        };
        if !current {
            report.wants_snapshot = true;
            remedy += match order.dry_run {
                true => ASK,
                false => ASKED,
            };
        }
        let what = format!("{damage}, and no other destination has it whole");
        let where_ = format!("{}/{name}", place.source);
        report.findings.push(Finding { what, where_, remedy, outcome: Outcome::Hurt });
    }
    let known = place.bad.is_empty() && place.unread.is_empty() && place.promised == 0;
    if known && !place.replica_now().is_empty() {
        report.findings.extend(holes(place)?);
    }
    Ok(())
}

/// What becomes of a destination that cannot restore the newest commit.
const ASK: &str = "; the newest commit cannot be restored from here: a run that is not dry has the daemon make \
                   a new snapshot";
const ASKED: &str = "; the newest commit cannot be restored from here: the daemon makes a new snapshot after the \
                     next commit; start it if it does not run";

/// What does not hang together, though every object is whole.
fn holes(place: &Place) -> Result<Vec<Finding>> {
    let found = place.links.findings(&*place.source, &place.replica_now())?;
    let missing = |it: crate::verify::Finding| Finding {
        what: it.what,
        where_: it.where_,
        remedy: "no destination has what is missing: what needs it is lost here; if that is the \
                 newest commit, start the daemon again, which makes a new snapshot"
            .into(),
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

/// Parts that a snapshot names which is still there, and that are not.
fn missing_parts(place: &Place) -> Vec<Name> {
    let there = |name: &&Name| {
        !place.holds(name) && !place.bad.contains_key(name) && !place.unread.contains(name)
    };
    let missing = place.named.iter().filter(there);
    let snapshots = || place.sound.keys().filter(|name| matches!(name, Name::Snapshot(_)));
    missing.filter(|part| snapshots().any(|it| needs(place, it, part))).cloned().collect()
}

/// Whether an object is of no use without another one: a snapshot without its part.
fn needs(place: &Place, name: &Name, other: &Name) -> bool {
    let (Name::Snapshot(span), Name::Part(part)) = (name, other) else { return false };
    let manifest = place.source.get(name).ok();
    let manifest = manifest.and_then(|it| crate::snapshot::Manifest::decode(*span, it).ok());
    manifest.is_some_and(|it| it.parts.iter().any(|it| it.part == *part))
}

/// The runs that these objects give; none where the timelines' records do not lead anywhere.
fn runs(place: &Place, of: impl Fn(&Name) -> bool) -> Vec<Run> {
    let mut replica = place.replica_now();
    replica.objects.retain(|entry| of(&entry.name));
    let replica = Replica::of(replica.objects);
    let ancestry = replica.ancestry(&*place.source);
    ancestry.map_or_else(|_| Vec::new(), |ancestry| replica.runs(&ancestry))
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
