//! Parts of snapshots, made again from the database itself: as long as its pages are as they were, so is
//! the part.
//!
//! Nothing is locked for that, and nobody waits. A page that changes while it is read makes a part of
//! another name: a name is a hash of the pages, and the one that is wanted is known.

use super::{Finding, Order, Outcome, Place, put_back};
use crate::commit::{PageHash, PageNo, PageSize};
use crate::config::Database;
use crate::daemon::open_database;
use crate::error::{Error, Result, Status};
use crate::key;
use crate::name::Name;
use crate::object::Compression;
use crate::replica::read_manifest;
use crate::seal::Keys;
use crate::snapshot::{PartRef, encode_part, hidden, part_name, part_pages};
use crate::source::{Source, Trouble};

use std::collections::BTreeMap;
use std::sync::Arc;

/// How often a part is read that was written to meanwhile.
const TRIES: u32 = 3;

/// Gives the body of a part, if it can be had.
pub type Make<'a> = &'a mut dyn FnMut(&PartRef) -> Option<Vec<u8>>;

/// A database whose pages are read.
#[derive(Debug)]
pub struct Pages {
    source: Source,
    page_size: PageSize,
    keys: Arc<Keys>,
    compression: Compression,
}

impl Pages {
    pub fn open(database: &Database) -> Result<Self> {
        let keys = key::load(&database.settings.sealing)?;
        let (handles, page_size) = open_database(&database.path)?;
        let failed = |cause: &dyn std::fmt::Display| {
            Error::new(Status::Failed, "read", database.path.display(), cause)
        };
        let source = Source::new(handles, page_size, None);
        let mut source = source.map_err(|trouble| failed(&trouble))?;
        source.release().map_err(|error| failed(&error))?;
        Ok(Self { source, page_size, keys, compression: database.settings.compression })
    }

    /// The body of a part whose pages are as they were.
    pub fn part(&mut self, part: &PartRef) -> Option<Vec<u8>> {
        (0..TRIES).find_map(|_| self.try_part(part).ok().flatten())
    }

    fn try_part(&mut self, wanted: &PartRef) -> std::result::Result<Option<Vec<u8>>, Trouble> {
        let pages = wanted.range();
        if pages.len() > part_pages(self.page_size) as usize {
            return Ok(None);
        }
        self.source.rebase()?;
        let mut bytes = vec![0; pages.len() * self.page_size.bytes()];
        self.source.read_pages(pages.clone(), &mut bytes)?;
        let pages_of = pages.clone().map(PageNo).zip(bytes.chunks(self.page_size.bytes()));
        let hashes: Vec<_> = pages_of.map(|(page, bytes)| PageHash::of(page, bytes)).collect();
        let named = part_name(self.page_size, PageNo(pages.start), &hashes);
        // The key that hides a name is the one of the time when it was stored.
        let mut names = std::iter::once(None).chain(self.keys.all_names().map(Some));
        let Some((part, content)) =
            names.find_map(|names| Some(hidden(named, names)).filter(|it| it.0 == wanted.part))
        else {
            return Ok(None);
        };
        Ok(Some(encode_part(part, content, self.page_size, &bytes, self.compression)))
    }
}

/// Gives a destination the parts of its snapshots that it lacks, and that can be made.
pub fn remake(place: &mut Place, order: &Order, make: Make) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for (name, part) in lacking(place)? {
        let Some(body) = make(&part) else { continue };
        let damage = place.bad.get(&name).cloned();
        let made = match order.dry_run {
            true => Ok((*blake3::hash(&body).as_bytes(), None)),
            false => put_back(&*place.source, &name, &body, damage.is_some())
                .map(|(hash, content)| (hash, Some(content))),
        };
        let (remedy, outcome) = match &made {
            Ok((_, None)) => {
                ("run: bakelite repair; the database itself has it".into(), Outcome::Curable)
            }
            Ok(_) => ("healed from the database itself".into(), Outcome::Healed),
            Err(error) => {
                let hint = error.hint.as_deref().unwrap_or("run it again later");
                (format!("{error}; {hint}"), Outcome::Hurt)
            }
        };
        let what = damage.unwrap_or_else(|| "it is missing".into());
        let where_ = format!("{}/{name}", place.source);
        if let Ok((hash, content)) = made {
            place.take(&name, hash, content.as_ref());
        }
        found.push(Finding { what, where_, remedy, outcome });
    }
    Ok(found)
}

/// What snapshots name that are to be kept, and that is damaged or not there.
fn lacking(place: &Place) -> Result<BTreeMap<Name, PartRef>> {
    let mut lacking = BTreeMap::new();
    let whole = |name: &Name| place.sound.contains_key(name) || place.unread.contains(name);
    if place.wanted.iter().all(whole) {
        return Ok(lacking);
    }
    for name in place.sound.keys().filter(|name| !place.surplus.contains(name)) {
        let Name::Snapshot(span) = name else { continue };
        let parts = match read_manifest(&*place.source, span) {
            Err(error) if error.status == Status::Integrity => continue,
            manifest => manifest?.parts,
        };
        let parts = parts.into_iter().map(|part| (part.name(), part));
        lacking.extend(parts.filter(|(name, _)| !whole(name)));
    }
    Ok(lacking)
}

#[cfg(test)]
mod tests {
    use super::super::{Report, repair};
    use super::*;
    use crate::clock;
    use crate::config::Destination;
    use crate::daemon::{open_to_read, sync};
    use crate::restore::Target;
    use crate::testkit::rig::{Quiet, restored};
    use crate::testkit::{Db, damage};
    use Outcome::{Curable, Healed, Hurt};
    use std::fs;
    use std::path::PathBuf;

    /// Three parts and a piece of a fourth, shipped.
    fn shipped(set: impl FnOnce(&mut Database)) -> (Db, rusqlite::Connection, Database) {
        let db = Db::new(4096);
        let writer = db.open();
        let rows = "CREATE TABLE s(k INTEGER PRIMARY KEY, v BLOB); WITH k(k) AS (SELECT 1 UNION ALL SELECT \
                    k + 1 FROM k WHERE k < 3100) INSERT INTO s SELECT k, randomblob(3000) FROM k";
        writer.execute_batch(rows).unwrap();
        let mut database = db.config();
        set(&mut database);
        sync(std::slice::from_ref(&database)).unwrap();
        (db, writer, database)
    }

    fn parts(database: &Database) -> Vec<PathBuf> {
        let Destination::File { root } = &database.destinations[0] else { panic!() };
        let files = fs::read_dir(root.join("part")).unwrap();
        let mut parts: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        parts.sort();
        parts
    }

    fn heal(database: &Database, dry_run: bool) -> Report {
        let places = database.clone().origins().iter().map(open_to_read).collect();
        let keep = &database.settings.keep;
        let order = Order { dry_run, keep, caps: &[], clock: clock::now(), settled: None };
        let mut pages = Pages::open(database).unwrap();
        repair(places, order, &mut |part| pages.part(part), &Quiet).unwrap()
    }

    fn outcomes(report: &Report) -> Vec<Outcome> {
        report.findings.iter().map(|finding| finding.outcome).collect()
    }

    fn latest(database: &Database) -> crate::error::Result<Vec<u8>> {
        restored(&open_to_read(&database.clone().origins()[0]).unwrap(), Target::Latest)
    }

    #[test]
    fn parts_are_made_again_as_long_as_their_pages_are_as_they_were() {
        let (db, writer, database) = shipped(|_| ());
        let parts = parts(&database);
        assert_eq!(parts.len(), 4);
        let whole: Vec<_> = parts.iter().map(|part| fs::read(part).unwrap()).collect();
        let now =
            || parts.iter().map(|part| fs::read(part).unwrap_or_default()).collect::<Vec<_>>();
        damage(&parts[1], 5000, b"another's");
        fs::remove_file(&parts[3]).unwrap();
        let spoiled = now();
        let dry = heal(&database, true);
        assert_eq!((outcomes(&dry), now() == spoiled), (vec![Curable, Curable], true));
        assert!(!dry.wants_snapshot);
        let healed = heal(&database, false);
        assert_eq!(outcomes(&healed), [Healed, Healed], "{:?}", healed.findings);
        assert!(now() == whole && !healed.wants_snapshot);
        assert!(latest(&database).unwrap() == db.image());
        // Of two that are gone, one has changed since.
        writer.execute_batch("UPDATE s SET v = randomblob(3000) WHERE k = 1500").unwrap();
        parts[1..3].iter().for_each(|part| fs::remove_file(part).unwrap());
        let report = heal(&database, false);
        assert_eq!(outcomes(&report), [Healed, Hurt], "{:?}", report.findings);
        assert!(report.findings[1].remedy.contains("lost here: commit"), "{:?}", report.findings);
        assert!(report.wants_snapshot && latest(&database).is_err());
    }

    /// A name is hidden by the key of its time, and what is made again is sealed as all else is.
    #[test]
    fn a_part_that_a_former_key_has_named_is_made_again_and_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let keys = ["old", "new"].map(|name| dir.path().join(name));
        keys.iter().for_each(|file| assert!(key::generate(file).is_ok()));
        let (db, _writer, mut database) =
            shipped(|database| database.settings.sealing.key_files = vec![keys[0].clone()]);
        database.settings.sealing.key_files = keys.iter().rev().cloned().collect();
        let part = parts(&database).swap_remove(2);
        damage(&part, 5000, b"another's");
        assert_eq!(outcomes(&heal(&database, false)), [Healed]);
        let head = fs::read(&part).unwrap();
        assert!(!crate::object::is_plain(&head));
        assert!(latest(&database).unwrap() == db.image());
        database.settings.sealing.key_files = vec![keys[1].clone()];
        fs::remove_file(&part).unwrap();
        // Whoever has not that key cannot tell that it is the one.
        assert!(heal_alone(&database, &part).is_none());
    }

    fn heal_alone(database: &Database, part: &std::path::Path) -> Option<Vec<u8>> {
        let name = format!("part/{}", part.file_name().unwrap().to_str().unwrap());
        let Ok(Name::Part(part)) = name.parse() else { panic!("{name}") };
        let commit = crate::commit::CommitNo(1);
        Pages::open(database).unwrap().part(&PartRef { part, pages: 1024, commit })
    }
}
