use super::*;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

const HOUSE: &str = "pattern = \"*\"";

/// A directory with these files, each with a byte in it, and its configuration.
fn house(files: &[&str], lines: &str) -> (TempDir, Config) {
    let dir = tempfile::tempdir().unwrap();
    files.iter().for_each(|file| fs::write(dir.path().join(file), "x").unwrap());
    let config = parse(&table(dir.path(), lines));
    (dir, config)
}

fn table(dir: &Path, lines: &str) -> String {
    format!(
        "[[database]]\ndir = \"{}\"\n{lines}\n[[database.destination]]\ntype = \"file\"\n\
         path = \"/m\"\n[[database.destination]]\ntype = \"s3\"\nbucket = \"bbb\"\nprefix = \"p\"\n\
         in_step = false\n",
        dir.display()
    )
}

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("b.toml"), &|_| None).unwrap()
}

fn names(gathered: &Gathered) -> Vec<&str> {
    gathered.databases.iter().map(|it| it.name.as_str()).collect()
}

fn refusals(gathered: &Gathered) -> Vec<String> {
    assert!(gathered.refused.iter().all(|error| error.hint.is_some()));
    gathered.refused.iter().map(ToString::to_string).collect()
}

#[test]
fn each_file_that_fits_is_a_database_of_its_own() {
    let (dir, config) = house(&["a.db", "b.db", "c.txt"], "spool_max = 7\n");
    let all = config.gather();
    assert_eq!((names(&all), refusals(&all)), (vec!["a", "b"], vec![]));
    let dir = dir.path().canonicalize().unwrap();
    let one = &all.databases[0];
    assert_eq!(one.path, dir.join("a.db"));
    assert_eq!(one.state_dir, dir.join(".a.db.bakelite"));
    assert_eq!(one.settings.spool_max, 7);
    let places: Vec<_> = one.destinations.iter().map(ToString::to_string).collect();
    assert_eq!(places[0], "file:///m/a");
    assert!(places[1].starts_with("s3://bbb/p/a?"), "{places:?}");
    assert_eq!(one.mirrors, one.destinations[1..]);
}

#[test]
fn what_is_no_database_of_an_application_never_fits() {
    let files = ["a.db", "a.db-wal", "a.db-shm", "a.db-journal", ".hidden.db", ".a.db.bakelite-x"];
    let (dir, config) = house(&files, HOUSE);
    fs::create_dir(dir.path().join("folder.db")).unwrap();
    fs::create_dir(dir.path().join(".a.db.bakelite")).unwrap();
    fs::write(dir.path().join("empty.db"), "").unwrap();
    symlink("nowhere", dir.path().join("broken.db")).unwrap();
    let all = config.gather();
    assert_eq!((names(&all), refusals(&all)), (vec!["a"], vec![]));
}

#[test]
fn of_two_files_with_one_name_the_one_that_is_backed_up_already_keeps_it() {
    let (dir, config) = house(&["a.db", "a.sqlite", "b.db"], HOUSE);
    let all = config.gather();
    assert!(names(&all) == ["a", "b"] && all.databases[0].path.ends_with("a.db"));
    let said = refusals(&all);
    assert!(said.len() == 1 && said[0].contains("/a.sqlite: not backed up: "), "{said:?}");
    fs::create_dir(dir.path().join(".a.sqlite.bakelite")).unwrap();
    let all = config.gather();
    assert!(names(&all) == ["a", "b"] && all.databases[0].path.ends_with("a.sqlite"));
}

#[test]
fn a_file_with_a_table_of_its_own_is_not_taken_twice() {
    let (dir, config) = house(&["a.db", "b.db"], "");
    let own = format!(
        "[[database]]\nname = \"x\"\npath = \"{}\"\n\
         destination = [{{ type = \"file\", path = \"/n\" }}]\n",
        dir.path().join("b.db").display()
    );
    let both = parse(&(table(dir.path(), "") + &own)).gather();
    assert_eq!((names(&both), refusals(&both)), (vec!["x", "a"], vec![]));
    symlink("a.db", dir.path().join("c.db")).unwrap();
    assert_eq!(names(&config.gather()), ["a", "b"], "a link to one of them");
}

/// A link that came before its file took the file's name away: the link's replica was said to be current,
/// which was never made, and from the next start on the file's own went without what was committed.
#[test]
fn trap_49_a_link_to_a_file_beside_it_takes_no_name_away() {
    let (dir, config) = house(&["orders.db"], "");
    let own = config.gather().databases;
    symlink("orders.db", dir.path().join("current.db")).unwrap();
    symlink("current.db", dir.path().join("zoo.db")).unwrap();
    for begun in [false, true] {
        let all = config.gather();
        assert_eq!((&all.databases, refusals(&all)), (&own, vec![]), "{begun}");
        let told: Vec<_> = all.links.iter().map(|link| link.told.to_string()).collect();
        assert!(told.len() == 2 && told[0].contains("/current.db: passed over"), "{told:?}");
        assert!(told.iter().all(|it| it.ends_with("/orders.db")), "{told:?}");
        let error = config.choose(Some("current")).unwrap_err();
        assert_eq!(error.status, Status::Missing, "{error}");
        fs::create_dir_all(&own[0].state_dir).unwrap();
    }
    // With an address of its own it is what it always was.
    let config = parse(&table(dir.path(), "pattern = \"c*\""));
    assert_eq!(names(&config.gather()), ["current"]);
}

#[test]
fn trap_49_of_names_that_are_one_file_the_first_one_stays() {
    let (dir, config) = house(&["b.db"], "");
    let gathered = || {
        let all = config.gather();
        assert_eq!(refusals(&all), Vec::<String>::new());
        (all.databases[0].name.clone(), all.databases.len(), all.links.len())
    };
    let one = |name: &str, links| (name.to_owned(), 1, links);
    fs::hard_link(dir.path().join("b.db"), dir.path().join("a.db")).unwrap();
    assert_eq!(gathered(), one("a", 1));
    // What is committed through the other one is in the WAL beside that.
    fs::write(dir.path().join("b.db-wal"), "x").unwrap();
    assert_eq!(gathered(), one("b", 1));
    fs::create_dir(dir.path().join(".a.db.bakelite")).unwrap();
    assert_eq!(gathered(), one("a", 1));
    // Two links to a file elsewhere: the older one.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::rename(dir.path().join("b.db"), elsewhere.path().join("x")).unwrap();
    fs::remove_file(dir.path().join("a.db")).unwrap();
    for (link, links) in [("m.db", 0), ("c.db", 1)] {
        symlink(elsewhere.path().join("x"), dir.path().join(link)).unwrap();
        assert_eq!(gathered(), one("m", links));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn one_bad_name_and_a_directory_that_is_not_there_are_told_of_alone() {
    let (dir, _) = house(&["a.db", "o dear.db"], "");
    let gone = dir.path().join("gone");
    let config = parse(
        &(table(dir.path(), "") + &table(&gone, "") + &table(dir.path(), "pattern = \"z?\"")),
    );
    let all = config.gather();
    assert_eq!(names(&all), ["a"]);
    let said = refusals(&all);
    assert!(said[0].contains("/o dear.db: its name is not fit"), "{said:?}");
    assert!(said[1].contains("/gone: No such file"), "{said:?}");
    assert!(said[2].contains("no database here is called z?"), "{said:?}");
    let statuses: Vec<_> = all.refused.iter().map(|error| error.status).collect();
    assert_eq!(statuses, [Status::Usage, Status::Missing, Status::Missing]);
}

#[test]
fn state_directories_can_be_elsewhere() {
    let (dir, config) = house(&["a.db"], "state_dir = \"/s\"");
    assert_eq!(config.gather().databases[0].state_dir, Path::new("/s/a.db"));
    let twice = table(dir.path(), "state_dir = \"/s\"");
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("a.db"), "x").unwrap();
    let all = parse(&(twice + &table(other.path(), "state_dir = \"/s\""))).gather();
    assert_eq!((names(&all), refusals(&all).len()), (vec!["a"], 1));
}

/// Its file is lost, and a restore has to find its replica all the same.
#[test]
fn a_database_that_is_lost_can_still_be_chosen() {
    let (dir, config) = house(&["a.db"], "");
    let chosen = |name| config.choose(Some(name)).map(|all| all.databases);
    assert_eq!(chosen("a").unwrap(), config.gather().databases);
    let lost = chosen("lost").unwrap();
    assert_eq!(lost[0].destinations[0].to_string(), "file:///m/lost");
    assert_eq!(lost[0].path, dir.path().canonicalize().unwrap().join("lost.db"));
    assert_eq!(chosen("o dear").unwrap_err().status, Status::Missing);
    let two = parse(&(table(dir.path(), "") + &table(dir.path(), "")));
    assert_eq!(two.choose(Some("lost")).unwrap_err().status, Status::Usage);
}

#[test]
fn a_pattern_fits_or_does_not() {
    let check = |pattern: &str, name: &str, expected| {
        assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
    };
    for (pattern, name) in [("*", ""), ("*.db", "a.db"), ("a?c", "abc"), ("*a*b", "xaxbab")] {
        check(pattern, name, true);
    }
    for (pattern, name) in [("", "a"), ("*.db", "a.dbx"), ("a?c", "ac"), ("*a*b", "xaxba")] {
        check(pattern, name, false);
    }
    check("*a*a*a*a*b", &"a".repeat(60), false);
}
