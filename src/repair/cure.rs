//! What destinations give each other.

use super::{Finding, Order, Outcome, Place, Report, is_on_its_way, parts_of};
use crate::backend::Backend;
use crate::error::{Error, Result, Status};
use crate::keep::Cap;
use crate::mend::{Surplus, named, order, store};
use crate::name::Name;
use crate::replica::damaged;
use crate::verify::{Content, Read, read};
use std::collections::BTreeSet;

/// Gives each what the others have.
pub fn heal(here: &mut [Place], order: &Order, report: &mut Report) -> Result<()> {
    for at in 0..here.len() {
        for cure in cures(here, at, order)? {
            report.findings.push(cure.apply(here, at, order.dry_run));
        }
    }
    Ok(())
}

/// An object to be taken from another destination.
struct Cure {
    name: Name,
    donor: usize,
    /// What is wrong with the one here; `None`: there is none.
    damage: Option<String>,
}

/// What one destination can be given by the others, in the order in which it is stored.
fn cures(here: &[Place], at: usize, order_of: &Order) -> Result<Vec<Cure>> {
    let place = &here[at];
    let no_room = no_room(here, place.cap, order_of)?;
    let others = || here.iter().enumerate().filter(|(other, _)| *other != at);
    let known = |name: &Name| place.sound.contains_key(name) || place.unread.contains(name);
    let names: BTreeSet<&Name> = others()
        .flat_map(|(_, other)| other.sound.keys())
        .filter(|name| !known(name) && !is_on_its_way(name, order_of))
        .collect();
    let (mut cures, mut coming) = (Vec::new(), BTreeSet::new());
    for name in names {
        let damage = place.bad.get(name).cloned();
        // Whoever has a part may have lost the snapshot that names it.
        let needed = place.named.contains(name) || coming.contains(name);
        let fits = |other: &Place| match (&damage, name.timeline()) {
            (Some(_), None) => true,
            (Some(_), Some(timeline)) => place.agrees(other, timeline),
            (None, _) => needed || place.wants(other, name),
        };
        let needed = damage.is_some() || needed;
        let room = |at: usize| needed || no_room.get(at).is_none_or(|it| !it.has(name));
        let donor = others().find(|(at, it)| it.sound.contains_key(name) && fits(it) && room(*at));
        if let Some((donor, it)) = donor {
            // Snapshots come before parts in the order of names. One that cannot be read now is not copied.
            if let Name::Snapshot(span) = name {
                coming.extend(named(&*it.source, &[span]).unwrap_or_default());
            }
            cures.push(Cure { name: name.clone(), donor, damage });
        }
    }
    cures.sort_by(|a, b| order(&a.name).cmp(&order(&b.name)));
    Ok(cures)
}

/// What upkeep would delete of each if it were held to this cap; nothing at all without one.
fn no_room(here: &[Place], cap: Cap, order: &Order) -> Result<Vec<Surplus>> {
    let Order { keep, clock, .. } = *order;
    let capped = here.iter().filter(|_| cap != Cap::default());
    capped.map(|it| Surplus::of(&*it.source, &it.replica, keep, cap, clock)).collect()
}

impl Cure {
    fn apply(self, here: &mut [Place], at: usize, dry_run: bool) -> Finding {
        let donor = &here[self.donor];
        let from = donor.source.to_string();
        let copied = match dry_run {
            true => Ok((donor.sound[&self.name], None)),
            false => self.copy(here, at),
        };
        here[at].healed(&self.name, self.damage, &from, copied)
    }

    /// Copies it, and reads it back.
    fn copy(&self, here: &[Place], at: usize) -> Result<Healed> {
        let Self { name, donor, damage } = self;
        let (from, to) = (&here[*donor].source, &here[at].source);
        let body = from.get(name)?;
        if here[*donor].sound[name] != *blake3::hash(&body).as_bytes() {
            let thing = format!("{from}/{name}");
            return Err(Error::new(Status::Integrity, "read", thing, "it is not what it was"));
        }
        put_back(&**to, name, &body, damage.is_some())
    }
}

/// The hash of what is there now, and what that is; `None`: it would be there.
pub type Healed = ([u8; 32], Option<Content>);

/// Stores an object, in place of one that `is_damaged` or of none, and reads it back.
pub fn put_back(to: &dyn Backend, name: &Name, body: &[u8], is_damaged: bool) -> Result<Healed> {
    match is_damaged {
        true => to.replace(name, body)?,
        false => store(to, name, body)?,
    }
    match read(to, name) {
        Read::Sound(hash, content) => Ok((hash, Some(content))),
        Read::Damaged(damage) => Err(damaged(to, name, damage)),
        Read::Unreadable(error) => Err(error.into()),
    }
}

impl Place {
    /// What became of an object that was damaged or not there, and was to come `from` somewhere.
    pub fn healed(
        &mut self,
        name: &Name,
        damage: Option<String>,
        from: &str,
        healed: Result<Healed>,
    ) -> Finding {
        let (remedy, outcome) = match &healed {
            Ok((_, None)) => (format!("run: bakelite repair; {from} has it"), Outcome::Curable),
            Ok(_) => (format!("healed from {from}"), Outcome::Healed),
            Err(error) => {
                let hint = error.hint.as_deref().unwrap_or("run it again later");
                (format!("{error}; {hint}"), Outcome::Hurt)
            }
        };
        if let Ok((hash, content)) = healed {
            self.take(name, hash, content.as_ref());
        }
        let what = damage.unwrap_or_else(|| "it is missing".into());
        Finding { what, where_: format!("{}/{name}", self.source), remedy, outcome }
    }

    /// Takes in that an object is whole here, or would be.
    fn take(&mut self, name: &Name, hash: [u8; 32], content: Option<&Content>) {
        self.bad.remove(name);
        self.sound.insert(name.clone(), hash);
        let Some(content) = content else {
            self.promised += 1;
            return;
        };
        self.links.note(name, content);
        self.named.extend(parts_of(content));
    }
}
