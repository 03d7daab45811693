//! Everything that makes a file of its own: ended at any step, by the process or the power, it leaves
//! the file as it was or as it is to be, and once it said that it was done, that lasts.

use super::{fates, record};
use crate::backend::{Backend, fs::Fs};
use crate::commit::{CommitNo, Time, Timeline};
use crate::config::{Database, Destination, Settings};
use crate::durable;
use crate::model::{self, Writer};
use crate::name::{Change, Name, Span};
use crate::restore::{Check, Options, Target, restore};
use crate::spool::Spool;
use crate::testkit::rig::Quiet;
use crate::testkit::{Random, points};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

type Work = fn(&Path);

const NAME: Name = Name::Change(Change {
    level: 0,
    span: Span { first: CommitNo(1), last: CommitNo(2), time: Time(3), timeline: Timeline(1) },
    part: 0,
    end: true,
});

/// What is done, and the files that were there before.
const WORKS: [(&str, &[&str], Work); 15] = [
    ("create", &[], |dir| durable::create(&dir.join("f"), b"new").unwrap()),
    ("create where it is", &["f"], |dir| {
        durable::create(&dir.join("f"), b"new").unwrap_err();
    }),
    ("replace", &["f"], |dir| durable::replace(&dir.join("f"), &[7; 1000]).unwrap()),
    ("replace readable", &["f"], |dir| durable::replace_readable(&dir.join("f"), b"new").unwrap()),
    ("remove", &["f", "g"], |dir| durable::remove(&dir.join("f")).unwrap()),
    ("directories", &[], |dir| {
        durable::make_dirs(&dir.join("a/b")).unwrap();
        durable::create(&dir.join("a/b/f"), &[7; 1000]).unwrap();
    }),
    ("put", &[], |dir| {
        let fs = Fs::create(&dir.join("r")).unwrap();
        fs.put(&NAME, &[7; 1000]).unwrap();
        fs.put(&Name::Timeline(Timeline(1)), b"another").unwrap();
    }),
    ("replace an object", &[], |dir| {
        let fs = Fs::create(&dir.join("r")).unwrap();
        fs.put(&NAME, &[7; 1000]).unwrap();
        fs.replace(&NAME, &[8; 1200]).unwrap();
    }),
    ("delete", &[], |dir| {
        let fs = Fs::create(&dir.join("r")).unwrap();
        fs.put(&NAME, &[7; 1000]).unwrap();
        fs.delete(&NAME).unwrap();
    }),
    ("spool", &[], |dir| {
        let spool = Spool::new(dir, "memory");
        spool.add(&NAME, &[7; 1000]).unwrap();
        spool.mark().unwrap();
    }),
    ("keygen", &[], |dir| {
        crate::key::generate(&dir.join("key")).unwrap();
    }),
    ("init", &[], |dir| crate::init::init(&dir.join("bakelite.toml"), &database(dir)).unwrap()),
    ("restore", &[], |dir| restored(dir, false)),
    ("restore over another", &["r.db"], |dir| restored(dir, true)),
    ("restore over one with a WAL", &["r.db", "r.db-wal"], |dir| restored(dir, true)),
];

fn database(dir: &Path) -> Database {
    Database {
        name: "app".into(),
        path: dir.join("db"),
        state_dir: dir.join("state"),
        destinations: vec![Destination::File { root: dir.join("replica").join("app") }],
        mirrors: vec![],
        caps: vec![],
        settings: Settings::default(),
    }
}

fn restored(dir: &Path, force: bool) {
    let mut writer = Writer::new(512);
    writer.alone(&model::Step::fill(4, 1..=4, 1)).snapshot().alone(&model::Step::fill(5, 2..=5, 2));
    let (target, check) = (Target::Latest, Check::None);
    let output = dir.join("r.db");
    let options = Options { output: &output, target, timeline: None, check, force, dry_run: false };
    restore(&writer.source(), &options, &Quiet).unwrap();
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// All but what is unfinished, which nobody looks at.
fn files(root: &Path, dir: &Path, found: &mut Files) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() {
            files(root, &path, found);
        } else if !name.starts_with(durable::TEMP_PREFIX) {
            found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
        }
    }
}

fn all(dir: &Path) -> Files {
    let mut found = Files::new();
    files(dir, dir, &mut found);
    found
}

/// What a file may be while the work is under way: as it was before, and as any step left it.
fn states(moments: &[super::Moment], dir: &Path) -> BTreeMap<PathBuf, Vec<Vec<u8>>> {
    let mut states: BTreeMap<PathBuf, Vec<Vec<u8>>> = BTreeMap::new();
    for moment in moments {
        let there = tempfile::tempdir().unwrap();
        moment.cut(dir, there.path(), super::Fate::Kept, &mut Random(0));
        all(there.path())
            .into_iter()
            .for_each(|(path, it)| states.entry(path).or_default().push(it));
    }
    states
}

#[test]
fn trap_59_what_ends_at_any_step_leaves_each_file_as_it_was_or_as_it_is_to_be() {
    let mut rng = Random(5);
    let (mut steps, mut images) = (0, 0);
    for (what, there, work) in WORKS {
        let dir = tempfile::tempdir().unwrap();
        there.iter().for_each(|name| fs::write(dir.path().join(name), b"old").unwrap());
        let before = all(dir.path());
        let recording = record(dir.path());
        work(dir.path());
        let moments = recording.end();
        let after = all(dir.path());
        let states = states(&moments, dir.path());
        steps += moments.len() as u64 - 1;
        assert!(moments.len() > 1, "{what}");
        for moment in &moments {
            for fate in fates(if points::is_full() { 20 } else { 4 }) {
                let disk = tempfile::tempdir().unwrap();
                moment.cut(dir.path(), disk.path(), fate, &mut rng);
                let image = all(disk.path());
                let moment = format!("{what}, {:?}, {fate:?}", moment.step);
                for (path, bytes) in &image {
                    assert!(states[path].contains(bytes), "{moment}: {} is torn", path.display());
                }
                for path in before.keys().filter(|path| after.contains_key(*path)) {
                    assert!(image.contains_key(path), "{moment}: {} is gone", path.display());
                }
                let db = image.get(Path::new("r.db"));
                let new = db.is_some_and(|it| before.get(Path::new("r.db")) != Some(it));
                assert!(!new || !image.contains_key(Path::new("r.db-wal")), "{moment}: an old WAL");
                images += 1;
            }
        }
        let last = moments.last().expect("there is one");
        for fate in fates(4) {
            let disk = tempfile::tempdir().unwrap();
            last.cut(dir.path(), disk.path(), fate, &mut rng);
            assert!(all(disk.path()) == after, "{what}: done, and {fate:?} has other files");
        }
    }
    points::record("files", &[("points", 2 * steps), ("images", images)]);
}
