use super::*;
use crate::daemon::tests::{Running, agrees_with, wait_until};
use crate::testkit::rig::Quiet;
use crate::testkit::{Db, commits};
use std::fs;
use std::path::Path;

fn called(name: &str) -> Database {
    Database { name: name.into(), path: format!("/d/{name}.db").into(), ..Db::new(512).config() }
}

#[test]
fn a_file_that_is_gone_is_let_go_of_after_a_while_only() {
    let begun = clock::instant();
    let after = |seconds| begun + Duration::from_secs(seconds);
    let (a, b) = (called("a"), called("b"));
    let mut roll = Roll::default();
    let mut note = |found: &[&Database], seconds| {
        let found = found.iter().map(|&it| it.clone()).collect();
        let news = roll.note(found, after(seconds))?;
        Some(news.into_iter().map(|it| it.name).collect::<Vec<_>>().concat())
    };
    assert_eq!(note(&[&a, &b], 0).as_deref(), Some("ab"));
    assert_eq!(note(&[&a, &b], 5), None);
    assert_eq!(note(&[&a], 10), None);
    assert_eq!(note(&[&a], 64), None);
    assert_eq!(note(&[&a], 65).as_deref(), Some("a"));
    assert_eq!(note(&[&a, &b], 70).as_deref(), Some("ab"), "it is back");
}

/// Its name is wanted, and it is not there.
#[test]
fn a_file_that_is_gone_does_not_keep_its_name() {
    let now = clock::instant();
    let (a, b) = (called("a"), called("b"));
    let mut roll = Roll::default();
    roll.note(vec![a.clone(), b], now);
    let other = Database { path: "/e/a.db".into(), ..a };
    let news = roll.note(vec![other.clone()], now).unwrap();
    assert_eq!(news.iter().filter(|it| it.name == "a").collect::<Vec<_>>(), [&other]);
}

/// A directory of databases, configured.
struct House(tempfile::TempDir, Config);

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (house, replicas) = (dir.path().join("house"), dir.path().join("replicas"));
        fs::create_dir(&house).unwrap();
        fs::create_dir(&replicas).unwrap();
        let text = format!(
            "[[database]]\ndir = \"{}\"\ndestination = [{{ type = \"file\", path = \"{}\" }}]",
            house.display(),
            replicas.display()
        );
        let config = Config::parse(&text, Path::new("x"), &|_| None).unwrap();
        Self(dir, config)
    }

    /// A database moves in.
    fn add(&self, name: &str, db: &mut Db) -> Database {
        let path = self.0.path().join("house").join(format!("{name}.db"));
        fs::rename(&db.path, &path).unwrap();
        db.path = path;
        self.1.choose(Some(name)).unwrap().databases.remove(0)
    }
}

#[test]
fn databases_appear_while_the_daemon_runs_and_bad_files_are_in_nobodys_way() {
    let house = House::new();
    fs::write(house.0.path().join("house/bad.db"), "no database").unwrap();
    fs::write(house.0.path().join("house/o dear.db"), "no name").unwrap();
    let mut dbs = [Db::new(4096), Db::new(512)];
    let one = house.add("one", &mut dbs[0]);
    let daemon = Running::of(house.1.clone(), Quiet);
    wait_until(true, &one);
    let other = house.add("other", &mut dbs[1]);
    wait_until(true, &other);
    for (db, database) in dbs.iter().zip([&one, &other]) {
        commits(&db.open(), 3);
        crate::daemon::sync(std::slice::from_ref(database)).unwrap();
        agrees_with(db, &database.destinations[0]);
    }
    let error = daemon.end().unwrap_err();
    assert!(error.message.contains("bad.db: not a SQLite database"), "{error}");
}
