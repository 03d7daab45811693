//! `init`: a first configuration, with what can be set in it as comments. Never in place of a file
//! that is there.

use crate::config::{Config, Database, Destination, S3, UrlStyle, fit_to_be_a_name};
use crate::durable;
use crate::error::{Error, Result, Status};
use std::fmt::Write;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Writes a configuration for one database, if it can be read again. Its replica's root is each
/// destination's, if that ends in the database's name, else the name below it.
pub fn init(file: &Path, database: &Database) -> Result<()> {
    let text = text(database)?;
    Config::parse(&text, file, &|_| None)?;
    durable::create(file, text.as_bytes()).map_err(|cause| match cause.kind() {
        ErrorKind::AlreadyExists => Error::new(Status::Exists, "init", file.display(), "it exists")
            .hint("name another with --config, or add the database to that one"),
        ErrorKind::NotFound => Error::io("init", file.display(), &cause)
            .hint(format!("run: mkdir -p {}", durable::parent(file).display())),
        _ => Error::io("init", file.display(), &cause),
    })
}

fn text(database: &Database) -> Result<String> {
    let mut out = String::from(HEAD);
    let name = &name_of(database);
    let _ = write!(out, "[[database]]\nname = {}\n", quoted(name));
    let _ = writeln!(out, "path = {}", path(&database.path)?);
    for destination in &database.destinations {
        out += "\n  [[database.destination]]\n";
        match destination {
            Destination::File { root } => {
                let above = without(name, root);
                let _ = write!(out, "  type = \"file\"\n  path = {}\n", path(&above)?);
            }
            Destination::S3(place) => bucket(&mut out, place, name),
        }
    }
    Ok(out)
}

/// The name of its file, or what is nearest to it and fit to be a directory's.
fn name_of(database: &Database) -> String {
    if fit_to_be_a_name(&database.name) {
        return database.name.clone();
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._".contains(c) { c } else { '-' };
    let name: String = database.name.chars().map(plain).collect();
    let name: String = name.trim_start_matches(['.', '-']).chars().take(100).collect();
    if name.is_empty() { "database".to_owned() } else { name }
}

fn bucket(out: &mut String, place: &S3, name: &str) {
    let S3 { bucket, prefix, endpoint, region, url_style, create_only, .. } = place;
    let _ = write!(out, "  type = \"s3\"\n  bucket = {}\n", quoted(bucket));
    let prefix = without(name, Path::new(prefix));
    if prefix != Path::new("") {
        let _ = writeln!(out, "  prefix = {}", quoted(&prefix.display().to_string()));
    }
    let _ = write!(out, "  endpoint = {}\n  region = {}\n", quoted(endpoint), quoted(region));
    let style = match url_style {
        UrlStyle::Path => "path",
        UrlStyle::VirtualHost => "virtual-host",
    };
    let _ = writeln!(out, "  url_style = \"{style}\"");
    if !create_only {
        *out += "  create_only = false\n";
    }
    *out += "  # The keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from a file:\n\
             # credentials_file = \"/etc/bakelite/credentials\"\n";
}

/// A root without the database's name at its end, which a configuration adds by itself.
fn without(name: &str, root: &Path) -> PathBuf {
    let named = root.file_name().is_some_and(|last| last == name);
    if named { root.parent().unwrap_or(root).into() } else { root.into() }
}

fn path(path: &Path) -> Result<String> {
    path.to_str().map(quoted).ok_or_else(|| {
        Error::new(Status::Usage, "init", path.display(), "a name that is not UTF-8")
            .hint("reach it by another path, such as a symbolic link")
    })
}

/// As a string of TOML. Those of JSON are such strings, but for one character; and a dollar and a
/// brace would be taken for a variable.
fn quoted(text: &str) -> String {
    let text = text.replace("${", "$${");
    serde_json::to_string(&text).expect("a string").replace('\u{7f}', "\\u007f")
}

const HEAD: &str = "\
# bakelite: what is backed up to where. See bakelite(5) for every key; those that are commented out
# have the values that they would have anyway. ${VAR} takes a value from the environment.

[defaults]
# snapshot_interval = \"1d\"      # how often a new snapshot is made
# wal_max           = \"256MiB\"  # the most that a WAL may grow to while a destination is away
# spool_max         = \"1GiB\"    # the most kept for destinations that are behind

";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn read_back(text: &str) -> Database {
        let variable = |name: &str| panic!("{name} is no variable");
        let mut config = Config::parse(text, Path::new("x"), &variable).expect(text);
        config.databases.remove(0)
    }

    #[test]
    fn what_is_written_is_what_was_meant() {
        for (path, destinations) in [
            ("/a/app.db", &["/m/app"][..]),
            ("/a/od\"d\\ ${X}\u{7f}\n/app.db", &["/m/\"${Y}/app", "s3://bucket/app"]),
            ("/a/app.db", &["s3://bucket/a/b/app?endpoint=http://127.0.0.1:1&region=r"]),
            ("/a/app.db", &["s3://bucket/app?create_only=false&url_style=path"]),
        ] {
            let destinations: Vec<_> = destinations.iter().map(|&url| url.to_owned()).collect();
            let meant = Database::given(path, &destinations).unwrap();
            assert_eq!(read_back(&text(&meant).unwrap()), meant);
        }
    }

    #[test]
    fn a_destination_without_the_name_gets_it() {
        let destinations = ["/m".to_owned(), "s3://bucket".to_owned()];
        let given = Database::given("/a/app.db", &destinations).unwrap();
        let written = read_back(&text(&given).unwrap());
        let roots: Vec<_> = written.destinations.iter().map(ToString::to_string).collect();
        assert_eq!(roots[0], "file:///m/app");
        assert!(roots[1].starts_with("s3://bucket/app?"), "{roots:?}");
    }

    /// Uncommented, they change nothing.
    #[test]
    fn the_values_in_comments_are_the_defaults() {
        let plain: String = HEAD
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|line| line.contains(" = ")).unwrap_or(line))
            .map(|line| line.to_owned() + "\n")
            .collect();
        assert!(plain.matches(" = ").count() >= 3, "{plain}");
        let destinations = ["/m/app".to_owned()];
        let given = Database::given("/a/app.db", &destinations).unwrap();
        let rest = text(&given).unwrap();
        let rest = rest.strip_prefix(HEAD).unwrap();
        assert_eq!(read_back(&(plain + rest)).settings, Settings::default());
    }

    /// Found by trying it: "we ird.db" was written down as a name that is refused when it is read, and the
    /// file stayed in the way of the next try.
    #[test]
    fn a_name_that_a_configuration_can_have_is_derived() {
        let long = "x".repeat(150);
        for (stem, name) in [
            ("app", "app"),
            ("we ird", "we-ird"),
            ("..ünï.x", "n-.x"),
            ("...", "database"),
            (long.as_str(), &long[..100]),
        ] {
            let given = Database::given(&format!("/a/{stem}.db"), &["/m".to_owned()]).unwrap();
            let written = read_back(&text(&given).unwrap());
            assert_eq!(written.name, name, "{stem}");
            assert_eq!(written.path, given.path);
            let root = Destination::File { root: format!("/m/{name}").into() };
            assert_eq!(written.destinations, [root]);
        }
    }

    /// The same of whatever else a configuration cannot say.
    #[test]
    fn a_configuration_that_would_be_refused_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bakelite.toml");
        let mut database = Database::given("/a/app.db", &["/m".to_owned()]).unwrap();
        database.destinations.push(Destination::File { root: "/m/app".into() });
        let error = init(&file, &database).unwrap_err();
        assert_eq!(error.status, Status::Usage, "{error}");
        assert!(!file.exists() && error.message.contains("stands twice"), "{error}");
    }

    #[test]
    fn a_file_that_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bakelite.toml");
        std::fs::write(&file, "mine").unwrap();
        let database = Database::given("/a/app.db", &["/m".to_owned()]).unwrap();
        let error = init(&file, &database).unwrap_err();
        assert_eq!(error.status, Status::Exists);
        assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    }
}
