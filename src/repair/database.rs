//! What the machine itself still has of what is lost: change-sets that it has shipped lately, and parts of
//! snapshots, made again from the database itself. As long as its pages are as they were, so is the part.
//!
//! Nothing is locked for that, and nobody waits. A page that changes while it is read makes a part of
//! another name: a name is a hash of the pages, and the one that is wanted is known. So nothing else that is
//! read here has to be believed either, such as what the page index says, beside its writer, of pages that
//! count as zeros whatever the file has in their place.

use super::cure::{Healed, put_back};
use super::{Finding, Lacking, Order, Place, is_on_its_way};
use crate::commit::{PageHash, PageNo, PageSize};
use crate::config::Database;
use crate::daemon::open_source;
use crate::error::Result;
use crate::index::{INDEX, Index};
use crate::key;
use crate::name::{self, Name};
use crate::object::Compression;
use crate::seal::Keys;
use crate::snapshot::{PartRef, encode_part, hidden, part_name, part_pages};
use crate::source::{Source, Trouble};
use crate::verify::Content;
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

/// How often a part is read that is written to meanwhile.
const TRIES: u32 = 3;

/// What nobody has whole.
#[derive(Clone, Copy, Debug)]
pub enum Needed<'a> {
    Part(&'a PartRef),
    Change(&'a Name),
}

/// Gives the body of an object, if it can be had.
pub type Make<'a> = &'a mut dyn FnMut(Needed<'_>) -> Option<Vec<u8>>;

/// A database whose pages are read.
#[derive(Debug)]
pub struct Pages {
    source: Source,
    page_size: PageSize,
    keys: Arc<Keys>,
    compression: Compression,
    /// Where a daemon has left one.
    index: Option<Index>,
    /// What was read: the parts that its pages make, unless they are written to meanwhile.
    known: HashMap<Range<u32>, Vec<name::Part>>,
}

impl Pages {
    pub fn open(database: &Database) -> Result<Self> {
        let keys = key::load(&database.settings.sealing)?;
        let (source, page_size) = open_source(&database.path)?;
        let compression = database.settings.compression;
        let index = File::open(database.state_dir.join(INDEX)).ok().map(Index::of_file);
        Ok(Self { source, page_size, keys, compression, index, known: HashMap::new() })
    }

    /// The body of a part whose pages are as they were.
    pub fn part(&mut self, wanted: &PartRef) -> Option<Vec<u8>> {
        let known = self.known.get(&wanted.range());
        let of_others = known.is_some_and(|all| !all.iter().any(|it| self.is(*it, wanted)));
        let fits = wanted.range().len() <= part_pages(self.page_size) as usize;
        if of_others || !fits {
            return None;
        }
        for _ in 0..TRIES {
            self.source.rebase().ok()?;
            let before = *self.source.mark();
            if let Some(body) = self.read(wanted).ok()? {
                return Some(body);
            }
            // It may have been torn.
            self.source.rebase().ok()?;
            if *self.source.mark() == before {
                break;
            }
        }
        None
    }

    fn read(&mut self, wanted: &PartRef) -> std::result::Result<Option<Vec<u8>>, Trouble> {
        let pages = wanted.range();
        let mut bytes = vec![0; pages.len() * self.page_size.bytes()];
        self.source.read_pages(pages.clone(), &mut bytes)?;
        self.known.insert(pages.clone(), Vec::new());
        let made = self.made(wanted, &bytes);
        if made.is_some() || !self.blank(pages, &mut bytes) {
            return Ok(made);
        }
        Ok(self.made(wanted, &bytes))
    }

    /// The part that these bytes make, if it is the one.
    fn made(&mut self, wanted: &PartRef, bytes: &[u8]) -> Option<Vec<u8>> {
        let pages = wanted.range();
        let each = pages.clone().map(PageNo).zip(bytes.chunks(self.page_size.bytes()));
        let hashes: Vec<_> = each.map(|(page, bytes)| PageHash::of(page, bytes)).collect();
        let named = part_name(self.page_size, PageNo(pages.start), &hashes);
        self.known.entry(pages).or_default().push(named);
        let (part, content) = self.names_of(named).find(|(part, _)| *part == wanted.part)?;
        Some(encode_part(part, content, self.page_size, bytes, self.compression))
    }

    /// Makes zeros of the pages that count as such, and tells whether there are any.
    fn blank(&self, pages: Range<u32>, bytes: &mut [u8]) -> bool {
        let hashes = self.index.as_ref().map(|it| it.range(PageNo(pages.start), pages.len()));
        let Some(Ok(hashes)) = hashes else { return false };
        let each = hashes.iter().zip(bytes.chunks_mut(self.page_size.bytes()));
        let zeros = each.filter(|(hash, _)| **hash == PageHash::default());
        zeros.map(|(_, bytes)| bytes.fill(0)).count() > 0
    }

    fn is(&self, named: name::Part, wanted: &PartRef) -> bool {
        self.names_of(named).any(|(part, _)| part == wanted.part)
    }

    /// How a part may be named: the key that hides it is the one of the time when it was stored.
    fn names_of(
        &self,
        named: name::Part,
    ) -> impl Iterator<Item = (name::Part, Option<u128>)> + use<'_> {
        let names = std::iter::once(None).chain(self.keys.all_names().map(Some));
        names.map(move |names| hidden(named, names))
    }
}

/// Gives a destination the parts of its snapshots that it lacks, and that can be made, and the change-sets
/// that are damaged there and whole here.
pub fn remake(place: &mut Place, order: &Order, make: Make) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let is_change = |name: &Name| matches!(name, Name::Change(_)) && !is_on_its_way(name, order);
    let changes = place.bad.clone().into_iter().filter(|(name, _)| is_change(name));
    for (name, damage) in changes {
        let body = make(Needed::Change(&name));
        let whole = body.filter(|body| Content::decode(&name, body.clone()).is_ok());
        let Some(body) = whole else { continue };
        let made = remade(place, &name, &body, true, order);
        found.push(place.healed(&name, Some(damage), "what was shipped lately", made));
    }
    for (name, Lacking { part, snapshots }) in place.lacking()? {
        if snapshots.iter().all(|snapshot| place.surplus.contains(snapshot)) {
            continue;
        }
        let Some(body) = make(Needed::Part(&part)) else { continue };
        let damage = place.bad.get(&name).cloned();
        let made = remade(place, &name, &body, damage.is_some(), order);
        found.push(place.healed(&name, damage, "the database itself", made));
    }
    Ok(found)
}

fn remade(
    place: &Place,
    name: &Name,
    body: &[u8],
    is_damaged: bool,
    order: &Order,
) -> Result<Healed> {
    match order.dry_run {
        true => Ok((*blake3::hash(body).as_bytes(), None)),
        false => put_back(&*place.source, name, body, is_damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Outcome, Report, repair};
    use super::*;
    use crate::clock;
    use crate::config::Destination;
    use crate::daemon::{open_to_read, sync};
    use crate::recent::Recent;
    use crate::restore::Target;
    use crate::testkit::rig::{Quiet, restored};
    use crate::testkit::{Db, damage};
    use Outcome::{Curable, Healed, Hurt};
    use std::fs;
    use std::os::unix::fs::FileExt;
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
        let recent = Recent::new(&database.state_dir);
        let mut make = |wanted: Needed<'_>| match wanted {
            Needed::Part(part) => pages.part(part),
            Needed::Change(name) => recent.get(name),
        };
        repair(places, order, &mut make, &Quiet).unwrap()
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

    /// Found by trying it: what had been lost for good was in the state directory, whole.
    #[test]
    fn a_change_set_that_was_shipped_lately_is_put_back() {
        let (db, writer, database) = shipped(|_| ());
        let pass = || sync(std::slice::from_ref(&database)).unwrap();
        writer.execute_batch("UPDATE s SET v = randomblob(3000) WHERE k = 7").unwrap();
        pass();
        let Destination::File { root } = &database.destinations[0] else { panic!() };
        let files = fs::read_dir(root.join("change/0")).unwrap().map(|file| file.unwrap().path());
        let newest = files.max().unwrap();
        let whole = fs::read(&newest).unwrap();
        damage(&newest, 60, b"another's");
        assert!(latest(&database).is_err());
        assert_eq!(outcomes(&heal(&database, true)), [Curable]);
        let report = heal(&database, false);
        assert_eq!(outcomes(&report), [Healed], "{:?}", report.findings);
        assert!(!report.wants_snapshot && fs::read(&newest).unwrap() == whole);
        assert!(latest(&database).unwrap() == db.image());
        // What lies there torn is no help.
        damage(&newest, 60, b"another's");
        let recent = fs::read_dir(database.state_dir.join("recent")).unwrap();
        recent.for_each(|file| damage(&file.unwrap().path(), 60, b"another's"));
        assert_eq!(outcomes(&heal(&database, false)), [Hurt]);
    }

    /// The leaves of the list of free pages: SQLite never asks what they hold.
    fn free_leaves(image: &[u8]) -> Vec<u32> {
        let number = |at: usize| u32::from_be_bytes(image[at..at + 4].try_into().unwrap());
        let (mut leaves, mut trunk) = (Vec::new(), number(32));
        while trunk != 0 {
            let at = (trunk as usize - 1) * 4096;
            leaves.extend((0..number(at + 4) as usize).map(|leaf| number(at + 8 + 4 * leaf)));
            trunk = number(at);
        }
        leaves
    }

    /// The file has something else in their place than the page index, as where a database shrank and
    /// grew again without a word about them.
    #[test]
    fn a_part_with_pages_that_count_as_zeros_is_made_again() {
        let (db, writer, database) = shipped(|_| ());
        writer.execute_batch("DELETE FROM s; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let file = fs::OpenOptions::new().write(true).open(&database.path).unwrap();
        let leaves = free_leaves(&db.image());
        let fill = |byte| {
            let fill = |page: &u32| file.write_all_at(&[byte; 4096], (u64::from(*page) - 1) * 4096);
            leaves.iter().try_for_each(fill).unwrap();
        };
        assert!(leaves.len() > 3000);
        fill(0);
        let before = parts(&database);
        // Looks at every page, since what it knows is gone.
        fs::remove_dir_all(&database.state_dir).unwrap();
        sync(std::slice::from_ref(&database)).unwrap();
        let new: Vec<_> = parts(&database).into_iter().filter(|it| !before.contains(it)).collect();
        assert_eq!(new.len(), 4);
        let whole: Vec<_> = new.iter().map(|part| fs::read(part).unwrap()).collect();
        let truth = latest(&database).unwrap();
        fill(7);
        new.iter().for_each(|part| fs::remove_file(part).unwrap());
        let report = heal(&database, false);
        assert_eq!(outcomes(&report), [Healed; 4], "{:?}", report.findings);
        let now: Vec<_> = new.iter().map(|part| fs::read(part).unwrap()).collect();
        assert!(now == whole && latest(&database).unwrap() == truth);
    }

    /// The one lacks a part, and the other one also the snapshot that names it, which comes from the first.
    #[test]
    fn a_snapshot_that_came_from_another_gets_its_part() {
        let (db, _writer, database) = shipped(|database| {
            let two = database.path.with_file_name("two");
            database.destinations.push(Destination::File { root: two });
        });
        let roots: Vec<_> =
            database.clone().origins().iter().map(|it| it.destination.clone()).collect();
        let Destination::File { root: two } = &roots[1] else { panic!() };
        damage(&parts(&database)[1], 5000, b"another's");
        for kind in ["part", "snapshot"] {
            let file = fs::read_dir(two.join(kind)).unwrap().map(|it| it.unwrap().path());
            let mut files: Vec<_> = file.collect();
            files.sort();
            fs::remove_file(&files[usize::from(kind == "part")]).unwrap();
        }
        let report = heal(&database, false);
        assert!(report.ok() && report.findings.len() == 3, "{:?}", report.findings);
        assert!(heal(&database, false).findings.is_empty());
        for origin in &database.clone().origins() {
            let source = open_to_read(origin).unwrap();
            assert!(restored(&source, Target::Latest).unwrap() == db.image());
        }
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
        let Ok(crate::name::Name::Part(part)) = name.parse() else { panic!("{name}") };
        let commit = crate::commit::CommitNo(1);
        Pages::open(database).unwrap().part(&PartRef { part, pages: 1024, commit })
    }
}
