//! From TOML to a `Config`: which keys there are, and what each may hold.
//!
//! An error names the file, the line and the key, and says what to write instead. A key that is
//! known but not supported yet is refused when it is set to anything that would ask for more than
//! this version does; it is never silently ignored.

use super::field::{Field, Section, Source};
use super::{Config, Database, Destination, Settings, real, state_dir_beside};
use crate::error::Result;
use toml::de::DeTable;

/// Where a key may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Top,
    /// In `[defaults]` and in `[[database]]`.
    Setting,
    Database,
    Destination,
}

/// A key as the reader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub place: Place,
    pub name: &'static str,
    /// Whether this version can do what it asks for.
    pub supported: bool,
}

const fn key(place: Place, name: &'static str) -> Key {
    Key { place, name, supported: true }
}

const fn later(place: Place, name: &'static str) -> Key {
    Key { place, name, supported: false }
}

/// Every key there is. bakelite.5 describes each, and a test holds the two together.
pub const KEYS: &[Key] = &[
    key(Place::Top, "defaults"),
    key(Place::Top, "database"),
    key(Place::Setting, "poll_interval"),
    key(Place::Setting, "ship_interval"),
    key(Place::Setting, "snapshot_interval"),
    key(Place::Setting, "checkpoint_pages"),
    key(Place::Setting, "wal_max"),
    key(Place::Setting, "spool_max"),
    key(Place::Setting, "compression"),
    later(Place::Setting, "compaction"),
    later(Place::Setting, "keep"),
    later(Place::Setting, "key_files"),
    later(Place::Setting, "metrics_file"),
    later(Place::Setting, "metrics_listen"),
    later(Place::Setting, "ping_url"),
    key(Place::Database, "name"),
    key(Place::Database, "path"),
    key(Place::Database, "state_dir"),
    key(Place::Database, "destination"),
    key(Place::Destination, "type"),
    key(Place::Destination, "path"),
    later(Place::Destination, "in_step"),
    later(Place::Destination, "bucket"),
    later(Place::Destination, "prefix"),
    later(Place::Destination, "endpoint"),
    later(Place::Destination, "region"),
    later(Place::Destination, "lock"),
    later(Place::Destination, "lock_mode"),
    later(Place::Destination, "access_key_id"),
    later(Place::Destination, "secret_access_key"),
    later(Place::Destination, "credentials_file"),
];

pub(super) fn config(source: &Source) -> Result<Config> {
    let table = DeTable::parse(source.text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        source.refuse(at, "", error.message()).hint("see bakelite(5) for an example")
    })?;
    let top = Section { source, at: 0, fields: source.fields(table.get_ref(), &[Place::Top])? };
    let mut defaults = Settings::default();
    if let Some(field) = top.find("defaults") {
        let table = field.table("[defaults]")?;
        let settings = source.fields(table, &[Place::Setting])?;
        settings.iter().try_for_each(|field| set(&mut defaults, field))?;
    }
    let mut databases = Vec::new();
    for table in top.tables("database", "[[database]]")? {
        let fields = source.fields(table.fields, &[Place::Setting, Place::Database])?;
        let section = Section { source, at: table.at, fields };
        let database = database(&section, &defaults)?;
        distinct(&section, &database, &databases)?;
        databases.push(database);
    }
    Ok(Config { databases })
}

fn database(section: &Section, defaults: &Settings) -> Result<Database> {
    let name = name(section.need("name", "give it a name of its own, such as name = \"app\"")?)?;
    let path_field =
        section.need("path", "name the database's file, such as path = \"/a/app.db\"")?;
    let path = path_field.path()?;
    if path.file_name().is_none() {
        return Err(path_field.refuse("not a file's path").hint("name the database's file"));
    }
    let path = real(&path);
    let mut settings = defaults.clone();
    for field in section.fields.iter().filter(|field| field.place == Place::Setting) {
        set(&mut settings, field)?;
    }
    let state_dir = match section.find("state_dir") {
        Some(field) if !field.is_off() => field.path()?,
        _ => state_dir_beside(&path),
    };
    let mut destinations = Vec::new();
    for table in section.tables("destination", "[[database.destination]]")? {
        let fields = section.source.fields(table.fields, &[Place::Destination])?;
        let section = Section { source: section.source, at: table.at, fields };
        let destination = destination(&section, &name)?;
        if destinations.contains(&destination) {
            return Err(section
                .refuse("path", format!("{destination} stands twice"))
                .hint("give each destination of a database once"));
        }
        destinations.push(destination);
    }
    Ok(Database { name, path, state_dir, destinations, settings })
}

/// A name becomes a directory on every destination.
fn name(field: &Field) -> Result<String> {
    let name = field.string()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 100 || name.starts_with('.') || !name.chars().all(plain) {
        return Err(field
            .refuse(format!("{name:?} is not fit to be a directory's name"))
            .hint("use at most 100 of a-z, A-Z, 0-9, '.', '_' and '-', the first not a '.'"));
    }
    Ok(name)
}

/// Two databases must not share a name, a file or their state.
fn distinct(section: &Section, new: &Database, others: &[Database]) -> Result<()> {
    for other in others {
        let hint = format!("{} has it already; change one of them", other.name);
        if other.name == new.name {
            return Err(section
                .refuse("name", format!("two databases are called {}", new.name))
                .hint("give each database a name of its own"));
        }
        if other.path == new.path {
            let cause = format!("{} stands twice", new.path.display());
            return Err(section.refuse("path", cause).hint(hint));
        }
        if other.state_dir == new.state_dir {
            let cause = format!("{} stands twice", new.state_dir.display());
            return Err(section.refuse("state_dir", cause).hint(hint));
        }
    }
    Ok(())
}

fn destination(section: &Section, name: &str) -> Result<Destination> {
    let kind = section.need("type", "write type = \"file\"")?;
    match kind.string()?.as_str() {
        "file" => {}
        "s3" => {
            return Err(kind
                .refuse("s3 is not supported yet by this version")
                .hint("use type = \"file\""));
        }
        other => {
            return Err(kind
                .refuse(format!("{other:?} is no kind of destination"))
                .hint("write type = \"file\""));
        }
    }
    section.fields.iter().filter(|field| !field.supported).try_for_each(Field::file_only)?;
    let path = section.need("path", "name the directory, such as path = \"/mnt/backup\"")?;
    Ok(Destination::File { root: path.path()?.join(name) })
}

fn set(settings: &mut Settings, field: &Field) -> Result<()> {
    match field.key {
        "poll_interval" => settings.poll_interval = field.duration("1ms", "1s")?,
        "ship_interval" => {
            let auto = field.value.as_str() == Some("auto");
            let chosen = (!auto).then(|| field.duration("0s", "1h"));
            settings.ship_interval = chosen.transpose()?;
        }
        "snapshot_interval" => settings.snapshot_interval = field.duration("1s", "100y")?,
        "checkpoint_pages" => settings.checkpoint_pages = field.count()?,
        "wal_max" => settings.wal_max = field.size()?,
        "spool_max" => settings.spool_max = field.size()?,
        "compression" => settings.compression = field.compression()?,
        _ => field.must_be_off()?,
    }
    Ok(())
}
