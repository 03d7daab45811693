//! Whole replicas, sealed: what a daemon leaves behind, and what comes back of it under which key.

use super::*;
use crate::backend::fs::Fs;
use crate::backend::list_all;
use crate::backend::mem::Mem;
use crate::commit::CommitNo;
use crate::config::{Database, Destination, Sealing};
use crate::daemon;
use crate::error::{Result as Done, Status};
use crate::key;
use crate::model::{Step, Writer};
use crate::object::{Compression, KeyId};
use crate::restore::Target;
use crate::seal::{Key, Rule};
use crate::testkit::rig::{Quiet, restored};
use crate::testkit::{Db, commits};
use std::fs;
use std::path::{Path, PathBuf};

/// A database whose replica is sealed, and the key's file.
fn configured(db: &Db, rule: Rule, key_files: &[&Path]) -> Database {
    let mut database = db.config();
    let key_files = key_files.iter().map(|file| file.to_path_buf()).collect();
    database.settings.compression = Compression::None;
    database.settings.sealing = Sealing { key_files, rule };
    database
}

fn new_key(db: &Db, name: &str) -> (PathBuf, KeyId) {
    let file = db.dir.path().join(name);
    let id = key::generate(&file).unwrap();
    (file, id)
}

fn bare(database: &Database) -> Arc<dyn Backend> {
    let Destination::File { root } = &database.destinations[0] else { panic!() };
    Arc::new(Fs::open(root).unwrap())
}

fn back(database: &Database) -> Done<Vec<u8>> {
    let keys = key::load(&database.settings.sealing)?;
    restored(&sealed(bare(database), &keys), Target::Latest)
}

/// Every file below a directory, whatever it is called.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn contains(bytes: &[u8], marker: &[u8]) -> bool {
    bytes.windows(marker.len()).any(|window| window == marker)
}

/// The marked row is in the snapshot, in change-sets, and in an undo patch.
#[test]
fn nothing_plain_leaves_the_machine() {
    const MARKER: &[u8] = b"in plain sight";
    let db = Db::new(512);
    let writer = db.open();
    writer.execute_batch("INSERT INTO t VALUES (1, 'in plain sight')").unwrap();
    let (file, id) = new_key(&db, "key");
    let database = configured(&db, Rule::Auto, &[&file]);
    daemon::sync(std::slice::from_ref(&database)).unwrap();
    writer.execute_batch("INSERT INTO t VALUES (2, 'also in plain sight')").unwrap();
    writer.execute_batch("UPDATE t SET x = 'gone'").unwrap();
    commits(&writer, 5);
    daemon::sync(std::slice::from_ref(&database)).unwrap();
    let replica = db.dir.path().join("replica");
    let all = files(&replica);
    assert!(all.len() >= 5, "{all:?}");
    for file in &all {
        let bytes = fs::read(file).unwrap();
        assert!(!contains(&bytes, MARKER) && !contains(&bytes, b"SQLite"), "{}", file.display());
        assert_eq!(crate::object::sealed_under(&bytes), Some(id), "{}", file.display());
    }
    assert!(back(&database).unwrap() == db.image());
    // The scan finds what it looks for where nothing is sealed.
    let plain = Database { state_dir: db.dir.path().join("other"), ..database.clone() };
    let root = db.dir.path().join("plain");
    let settings = configured(&db, Rule::None, &[]).settings;
    let destinations = vec![Destination::File { root: root.clone() }];
    daemon::sync(&[Database { destinations, settings, ..plain }]).unwrap();
    let found = files(&root).into_iter().filter(|it| contains(&fs::read(it).unwrap(), b"SQLite"));
    assert_eq!(found.count(), 1);
}

/// Names of parts would tell who knows a page whether the database has it.
#[test]
fn names_of_parts_tell_nothing_and_parts_are_still_checked() {
    use crate::object::Damage;
    use crate::snapshot::PartPages;
    let db = Db::new(512);
    let (file, _) = new_key(&db, "key");
    let (other, _) = new_key(&db, "other");
    let mut names = Vec::new();
    for (rule, key_files) in
        [(Rule::None, &[][..]), (Rule::Auto, &[&*file]), (Rule::Auto, &[&*other])]
    {
        let mut database = configured(&db, rule, key_files);
        database.state_dir = db.dir.path().join(format!("state{}", names.len()));
        let root = db.dir.path().join(format!("replica{}", names.len()));
        database.destinations = vec![Destination::File { root }];
        daemon::sync(std::slice::from_ref(&database)).unwrap();
        let keys = key::load(&database.settings.sealing).unwrap();
        let source = sealed(bare(&database), &keys);
        let parts = list_all(&*source, Name::PARTS).unwrap().entries;
        let [Name::Part(part)] = parts.iter().map(|it| it.name.clone()).collect::<Vec<_>>()[..]
        else {
            panic!("{parts:?}")
        };
        let body = source.get(&parts[0].name).unwrap();
        PartPages::open(part, body.clone()).unwrap().check().unwrap();
        // One of other pages is found: written anew, with sound checksums.
        let mut pages = vec![7; 512];
        pages[0] = names.len() as u8;
        let size = PartPages::open(part, body).unwrap().page_size();
        let content = (!key_files.is_empty()).then_some(7);
        let compression = Compression::None;
        let body = crate::snapshot::encode_part(part, content, size, &pages, compression);
        let found = PartPages::open(part, body).unwrap().check();
        assert_eq!(found, Err(Damage::BadTable("pages other than its hash says")));
        names.push(part.hash);
    }
    assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2]);
}

/// A key is changed while the replica goes on, and the old one is lost after that.
#[test]
fn trap_97_a_key_changed_in_the_middle_and_a_lost_one() {
    let db = Db::new(4096);
    let writer = db.open();
    let (old, old_id) = new_key(&db, "old");
    let (new, _) = new_key(&db, "new");
    let ship = |database: &Database| {
        commits(&writer, 3);
        daemon::sync(std::slice::from_ref(database))
    };
    ship(&configured(&db, Rule::Auto, &[&old])).unwrap();
    let both = configured(&db, Rule::Auto, &[&new, &old]);
    ship(&both).unwrap();
    ship(&both).unwrap();
    assert!(back(&both).unwrap() == db.image());
    let (other, _) = new_key(&db, "other");
    for lost in [&[&*new][..], &[&*other], &[]] {
        let database = configured(&db, Rule::Auto, lost);
        let error = back(&database).unwrap_err();
        assert_eq!(error.status, Status::Key, "{error}");
        let wanted = if lost == [&*new] { old_id.to_string() } else { "under key".into() };
        assert!(error.message.contains(&wanted), "{error}");
        assert!(error.hint.unwrap().contains("key_files"));
        let error = ship(&database).unwrap_err();
        assert_eq!(error.status, Status::Key, "{error}");
    }
    ship(&both).unwrap();
    assert!(back(&both).unwrap() == db.image());
}

/// Whoever can write to the destination, and has no key, slips in an object that is not sealed.
#[test]
fn trap_97_what_is_not_sealed_is_refused_beside_what_is() {
    let db = Db::new(4096);
    commits(&db.open(), 3);
    let (file, _) = new_key(&db, "key");
    let plain = configured(&db, Rule::None, &[]);
    daemon::sync(std::slice::from_ref(&plain)).unwrap();
    let all = configured(&db, Rule::Auto, &[&file]);
    for error in [back(&all).unwrap_err(), daemon::sync(std::slice::from_ref(&all)).unwrap_err()] {
        assert_eq!(error.status, Status::Key, "{error}");
        assert!(error.message.contains("not sealed"), "{error}");
        assert!(error.hint.unwrap().contains("reencrypt"));
    }
    // Its owner says so, and goes on with sealed ones.
    let new = configured(&db, Rule::New, &[&file]);
    commits(&db.open(), 3);
    daemon::sync(std::slice::from_ref(&new)).unwrap();
    assert!(back(&new).unwrap() == db.image());
    let none = configured(&db, Rule::None, &[&file]);
    commits(&db.open(), 3);
    daemon::sync(std::slice::from_ref(&none)).unwrap();
    assert!(back(&none).unwrap() == db.image());
    assert_eq!(back(&plain).unwrap_err().status, Status::Key);
}

fn keys(numbers: &[u8], rule: Rule) -> Arc<Keys> {
    let key = |number: &u8| Key::new(&zeroize::Zeroizing::new([*number; 32]));
    Arc::new(Keys { all: numbers.iter().map(key).collect(), rule })
}

/// A replica in memory with two change-sets and a snapshot, sealed under a key; other seeds write
/// other pages.
fn replica(number: u8, seed: u32) -> Arc<Mem> {
    let mut writer = Writer::new(512);
    writer.commit(&Step::fill(3, 1..=3, seed)).snapshot();
    writer.commit(&Step::fill(3, [2], seed + 1)).ship();
    writer.commit(&Step::fill(3, [3], seed + 2)).ship();
    let mem = Arc::new(Mem::new());
    let keys = keys(&[number], Rule::Auto);
    let to = sealed(Arc::clone(&mem) as Arc<dyn Backend>, &keys);
    for (key, body) in &*writer.store.objects() {
        to.put(&key.parse().unwrap(), body).unwrap();
    }
    mem
}

/// An object of another replica under the same key opens, since it has the same name; that it belongs
/// to another history is what the lineage tells.
#[test]
fn trap_97_an_object_of_another_replica_with_the_same_key_is_refused_by_its_lineage() {
    let (ours, theirs) = (replica(1, 10), replica(1, 20));
    let open =
        |mem: &Arc<Mem>| sealed(Arc::clone(mem) as Arc<dyn Backend>, &keys(&[1], Rule::Auto));
    let read = |mem: &Arc<Mem>| restored(&open(mem), Target::Latest);
    let image = read(&ours).unwrap();
    assert!(image != read(&theirs).unwrap());
    let names: Vec<String> = ours.objects().keys().cloned().collect();
    let mut refused = 0;
    for name in names.iter().filter(|name| theirs.objects().contains_key(*name)) {
        let body = theirs.objects()[name].clone();
        let own = ours.objects().insert(name.clone(), body.clone()).unwrap();
        if own != body {
            match read(&ours) {
                Ok(bytes) => assert!(bytes == image, "{name}: it was not needed"),
                Err(error) => {
                    assert_eq!(error.status, Status::Integrity, "{name}");
                    refused += 1;
                }
            }
            let found = crate::verify::verify(&open(&ours), None, &Quiet).unwrap().findings;
            assert!(!found.is_empty(), "{name}");
        }
        ours.objects().insert(name.clone(), own);
    }
    assert!(refused >= 3, "{refused}");
}

/// A put whose reply was lost is tried again, perhaps by a process with another first key: the name is
/// taken, and what is there says the same.
#[test]
fn trap_98_a_put_again_after_a_crash_finds_its_own_object() {
    let mem = Arc::new(Mem::new());
    let open =
        |numbers: &[u8], rule| sealed(Arc::clone(&mem) as Arc<dyn Backend>, &keys(numbers, rule));
    let name = crate::backend::conformance::change(0, 1);
    open(&[1], Rule::Auto).put(&name, b"the same").unwrap();
    let first = mem.objects()[&name.to_string()].clone();
    for (numbers, rule) in [(&[1][..], Rule::Auto), (&[2, 1], Rule::New), (&[1], Rule::None)] {
        let to = open(numbers, rule);
        assert_eq!(to.put(&name, b"the same").unwrap_err().kind, Kind::Exists);
        assert_eq!(to.get(&name).unwrap(), b"the same", "what a writer compares");
    }
    open(&[1], Rule::Auto).replace(&name, b"the same").unwrap();
    assert_eq!(mem.objects()[&name.to_string()], first, "sealed again it is the same");
}

#[test]
fn damage_is_found_with_the_key_and_without() {
    let mem = replica(1, 1);
    let bare = Arc::clone(&mem) as Arc<dyn Backend>;
    let with = sealed(Arc::clone(&bare), &keys(&[1], Rule::Auto));
    let verify = |source| crate::verify::verify(source, None, &Quiet).unwrap();
    assert_eq!(verify(&with).findings, []);
    let without = verify(&bare);
    assert_eq!(without.closed, Some(keys(&[1], Rule::Auto).all[0].id));
    assert_eq!(without.findings.len(), 1, "{:?}", without.findings);
    for entry in list_all(&*with, Name::CHANGES).unwrap().entries {
        let key = entry.name.to_string();
        let sound = mem.objects()[&key].clone();
        let at = sound.len() / 2;
        mem.objects().get_mut(&key).unwrap()[at] ^= 1;
        assert_eq!(with.get(&entry.name).unwrap_err().kind, Kind::Corrupt);
        for source in [&with, &bare] {
            let found = verify(source).findings;
            assert!(found.iter().any(|it| it.where_.ends_with(&key)), "{found:?}");
        }
        mem.objects().insert(key, sound);
    }
    assert!(restored(&with, Target::Commit(CommitNo(2))).is_ok());
}

/// Destinations heal each other in their sealed form: what was damaged, or slipped in plain, is sealed
/// again. Without the key nothing is touched.
#[test]
fn what_is_healed_is_sealed() {
    let (one, two) = (replica(1, 1), replica(1, 1));
    let keys = keys(&[1], Rule::Auto);
    let open = |mem: &Arc<Mem>| Ok(sealed(Arc::clone(mem) as Arc<dyn Backend>, &keys));
    let names: Vec<String> = one.objects().keys().cloned().collect();
    let name: Name = names[0].parse().unwrap();
    let plain = keys.all[0].open(&name, one.objects()[&names[0]].clone()).unwrap();
    one.objects().insert(names[0].clone(), plain);
    one.objects().remove(&names[1]);
    *one.objects().get_mut(&names[2]).unwrap().last_mut().unwrap() ^= 1;
    let (keep, clock) = (&crate::keep::Keep::default(), crate::commit::Time(u64::MAX));
    let order = crate::repair::Order { dry_run: false, keep, caps: &[], clock, settled: None };
    let bare = [&one, &two].map(|mem| Ok(Arc::clone(mem) as Arc<dyn Backend>));
    let before = one.objects().clone();
    let error = crate::repair::repair(bare.into(), order, &mut |_| None, &Quiet).unwrap_err();
    assert_eq!(error.status, Status::Key, "{error}");
    assert!(*one.objects() == before);
    let report =
        crate::repair::repair(vec![open(&one), open(&two)], order, &mut |_| None, &Quiet).unwrap();
    assert!(report.ok() && report.findings.len() == 3, "{:?}", report.findings);
    assert!(*one.objects() == *two.objects(), "sealed again they are the same");
}
