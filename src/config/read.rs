//! From TOML to a `Config`: which keys there are, and what each may hold.
//!
//! An error names the file, the line and the key, and says what to write instead. Nothing is silently
//! ignored.

use super::expand::expand;
use super::field::{Field, Section, Source};
use super::s3::{self, Wrong};
use super::{
    Config, Credentials, Database, Destination, Directory, LONG, Like, Lock, LockMode, RENAME, S3,
    Secret, Settings, fit_to_be_a_name, leaves_room, real, state_dir_beside, taken,
};
use crate::error::Result;
use crate::keep::{Cap, Keep};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;
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

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Top => "the beginning of the file, above the first [...]",
            Self::Setting => "[defaults] or a [[database]]",
            Self::Database => "a [[database]]",
            Self::Destination => "a [[database.destination]]",
        })
    }
}

/// A key as the reader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub place: Place,
    pub name: &'static str,
}

const fn key(place: Place, name: &'static str) -> Key {
    Key { place, name }
}

/// Every key there is. bakelite.5 describes each, and a test holds the two together.
pub const KEYS: &[Key] = &[
    key(Place::Top, "defaults"),
    key(Place::Top, "database"),
    key(Place::Setting, "poll_interval"),
    key(Place::Setting, "ship_interval"),
    key(Place::Setting, "snapshot_interval"),
    key(Place::Setting, "snapshot_rate"),
    key(Place::Setting, "checkpoint_pages"),
    key(Place::Setting, "wal_max"),
    key(Place::Setting, "spool_max"),
    key(Place::Setting, "compression"),
    key(Place::Setting, "compaction"),
    key(Place::Setting, "keep"),
    key(Place::Setting, "key_files"),
    key(Place::Setting, "seal"),
    key(Place::Setting, "metrics_file"),
    key(Place::Setting, "metrics_listen"),
    key(Place::Setting, "ping_url"),
    key(Place::Database, "name"),
    key(Place::Database, "path"),
    key(Place::Database, "dir"),
    key(Place::Database, "pattern"),
    key(Place::Database, "state_dir"),
    key(Place::Database, "destination"),
    key(Place::Destination, "type"),
    key(Place::Destination, "path"),
    key(Place::Destination, "bucket"),
    key(Place::Destination, "prefix"),
    key(Place::Destination, "endpoint"),
    key(Place::Destination, "region"),
    key(Place::Destination, "url_style"),
    key(Place::Destination, "create_only"),
    key(Place::Destination, "access_key_id"),
    key(Place::Destination, "secret_access_key"),
    key(Place::Destination, "credentials_file"),
    key(Place::Destination, "lock"),
    key(Place::Destination, "lock_mode"),
    key(Place::Destination, "in_step"),
    key(Place::Destination, "replica_max"),
    key(Place::Destination, "objects_max"),
];

pub(super) fn config(source: &Source) -> Result<Config> {
    let table = DeTable::parse(source.text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        match (error.message(), source.text.get(span.clone())) {
            (message @ "duplicate key", Some(key)) => {
                source.refuse(span.start, key.trim_matches('"'), message).hint("keep one of them")
            }
            (message, _) => {
                source.refuse(span.start, "", message).hint("see bakelite(5) for an example")
            }
        }
    })?;
    let top = Section { source, at: 0, fields: source.fields(table.get_ref(), &[Place::Top])? };
    let mut defaults = Settings::default();
    if let Some(field) = top.find("defaults") {
        let table = field.table("[defaults]")?;
        let settings = source.fields(table, &[Place::Setting])?;
        settings.iter().try_for_each(|field| set(&mut defaults, field))?;
    }
    let mut config = Config::default();
    for table in top.tables("database", "[[database]]")? {
        let fields = source.fields(table.fields, &[Place::Setting, Place::Database])?;
        let section = Section { source, at: table.at, fields };
        match section.find("dir") {
            Some(dir) => {
                let like = like(&section, &defaults, &mut config.holds_secret)?;
                config.directories.push(Directory::read(&section, dir, like)?);
            }
            None => {
                let database = database(&section, &defaults, &mut config.holds_secret)?;
                distinct(&section, &database, &config.databases)?;
                config.databases.push(database);
            }
        }
    }
    Ok(config)
}

fn database(section: &Section, defaults: &Settings, secret: &mut bool) -> Result<Database> {
    if let Some(field) = section.find("pattern") {
        return Err(field.refuse("needs dir").hint("name the directory, or leave pattern out"));
    }
    let name = name(section.need("name", "give it a name of its own, such as name = \"app\"")?)?;
    let path_field =
        section.need("path", "name the database's file, such as path = \"/a/app.db\"")?;
    let path = path_field.path()?;
    if path.file_name().is_none() {
        return Err(path_field.refuse("not a file's path").hint("name the database's file"));
    }
    let path = real(&path);
    if !leaves_room(&path) {
        return Err(path_field.refuse(LONG).hint(RENAME));
    }
    let state_dir = match section.find("state_dir") {
        Some(field) if !field.is_off() => field.path()?,
        _ => state_dir_beside(&path),
    };
    let like = like(section, defaults, secret)?;
    Ok(like.called(name, path, state_dir))
}

/// All of a database but which one it is: its destinations are what its replicas are below.
fn like(section: &Section, defaults: &Settings, secret: &mut bool) -> Result<Like> {
    let mut settings = defaults.clone();
    for field in section.fields.iter().filter(|field| field.place == Place::Setting) {
        set(&mut settings, field)?;
    }
    if !settings.keep.fits(&settings.compaction) {
        let refused = section.refuse("keep", "more levels than there can be");
        return Err(refused.hint("compaction and keep have 15 entries at most, together"));
    }
    let (mut destinations, mut mirrors, mut caps) = (Vec::new(), Vec::new(), Vec::new());
    for table in section.tables("destination", "[[database.destination]]")? {
        let fields = section.source.fields(table.fields, &[Place::Destination])?;
        let section = Section { source: section.source, at: table.at, fields };
        let destination = destination(&section, settings.snapshot_interval)?;
        *secret |= holds_secret(&section);
        if let Some(cause) = taken(&destination, &destinations, "stands twice") {
            return Err(section
                .refuse(key_of(&destination), format!("{destination} {cause}"))
                .hint("give each destination of a database once"));
        }
        if let Some(field) = section.find("in_step").filter(|field| !field.is_off())
            && !field.boolean()?
        {
            mirrors.push(destination.clone());
        }
        caps.push(cap(&section)?);
        destinations.push(destination);
    }
    if !mirrors.is_empty() && mirrors.len() == destinations.len() {
        let error = section.refuse("destination", "all of them may trail");
        return Err(error.hint("leave in_step = false out of the one that is to be waited for"));
    }
    let capped = caps.iter().rposition(|cap| *cap != Cap::default());
    caps.truncate(capped.map_or(0, |last| last + 1));
    Ok(Like { destinations, mirrors, caps, settings })
}

fn cap(section: &Section) -> Result<Cap> {
    let given = |key| section.find(key).filter(|field| !field.is_off());
    Ok(Cap {
        bytes: given("replica_max").map(Field::size).transpose()?,
        objects: given("objects_max").map(Field::count).transpose()?,
    })
}

/// The key to blame for a place.
fn key_of(destination: &Destination) -> &'static str {
    match destination {
        Destination::File { .. } => "path",
        Destination::S3(_) => "bucket",
    }
}

fn name(field: &Field) -> Result<String> {
    let name = field.string()?;
    if fit_to_be_a_name(&name) {
        return Ok(name);
    }
    Err(field
        .refuse(format!("{name:?} is not fit to be a directory's name"))
        .hint("use at most 100 of a-z, A-Z, 0-9, '.', '_' and '-', the first not a '.'"))
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

fn destination(section: &Section, interval: Duration) -> Result<Destination> {
    let kind = section.need("type", "write type = \"file\" or type = \"s3\"")?;
    match kind.string()?.as_str() {
        "file" => {
            section.fields.iter().try_for_each(Field::of_file)?;
            let path =
                section.need("path", "name the directory, such as path = \"/mnt/backup\"")?;
            Ok(Destination::File { root: path.path()? })
        }
        "s3" => {
            section.fields.iter().try_for_each(Field::of_s3)?;
            let lock = lock(section, interval)?;
            bucket(section).map(|s3| Destination::S3(S3 { lock, ..s3 }))
        }
        other => Err(kind
            .refuse(format!("{other:?} is no kind of destination"))
            .hint("write type = \"file\" or type = \"s3\"")),
    }
}

fn checked<T>(
    field: &Field,
    check: impl FnOnce(&str) -> std::result::Result<T, Wrong>,
) -> Result<T> {
    check(&field.string()?).map_err(|(cause, hint)| field.refuse(cause).hint(hint))
}

/// A lock is renewed with each snapshot, and has to last until the next one is finished.
fn lock(section: &Section, interval: Duration) -> Result<Option<Lock>> {
    let given = |key| section.find(key).filter(|field| !field.is_off());
    let mode = given("lock_mode").map(|field| checked(field, s3::lock_mode)).transpose()?;
    let Some(field) = given("lock") else {
        return match mode {
            None => Ok(None),
            Some(_) => Err(section.refuse("lock", "missing").hint("write lock = \"30d\"")),
        };
    };
    let period = field.duration("1m", "100y")?;
    if period < interval * 2 {
        let cause = "shorter than two times snapshot_interval";
        return Err(field
            .refuse(cause)
            .hint("what a snapshot needs must be locked until the next"));
    }
    Ok(Some(Lock { period, mode: mode.unwrap_or(LockMode::Governance) }))
}

fn bucket(section: &Section) -> Result<S3> {
    let given = |key| section.find(key).filter(|field| !field.is_off());
    let name = section.need("bucket", "name the bucket, such as bucket = \"backups\"")?;
    let name = checked(name, |text| s3::check_bucket(text).map(str::to_owned))?;
    let prefix =
        given("prefix").map(|it| checked(it, |it| s3::check_prefix(it).map(str::to_owned)));
    let mut s3 = S3::new(&name, &prefix.transpose()?.unwrap_or_default());
    if let Some(field) = given("endpoint") {
        s3.endpoint = checked(field, s3::check_endpoint)?;
    }
    if let Some(field) = given("region") {
        s3.region = checked(field, |text| s3::check_region(text).map(str::to_owned))?;
    }
    if let Some(field) = section.find("create_only") {
        s3.create_only = field.boolean()?;
    }
    s3.credentials = credentials(section)?;
    let style = given("url_style").map(|field| checked(field, s3::style));
    let wrong = |(cause, hint): s3::Wrong| section.refuse("endpoint", cause).hint(hint);
    s3.complete(style.transpose()?).map_err(wrong)
}

fn credentials(section: &Section) -> Result<Credentials> {
    let given = |key| section.find(key).filter(|field| !field.is_off());
    let both = "set access_key_id and secret_access_key, or neither";
    match (given("access_key_id"), given("secret_access_key"), given("credentials_file")) {
        (None, None, None) => Ok(Credentials::Environment),
        (None, None, Some(file)) => Ok(Credentials::File(file.path()?)),
        (Some(id), Some(secret), None) => Ok(Credentials::Keys {
            access_key_id: id.string()?,
            secret_access_key: Secret(secret.string()?),
        }),
        (Some(_), None, None) => Err(section.refuse("secret_access_key", "missing").hint(both)),
        (None, Some(_), None) => Err(section.refuse("access_key_id", "missing").hint(both)),
        (_, _, Some(file)) => {
            let cause = "cannot stand with access_key_id or secret_access_key";
            Err(file.refuse(cause).hint("leave out the one or the other"))
        }
    }
}

/// A secret of which something is spelled out: what is left of it when every variable is empty, as what
/// stands in for one.
fn holds_secret(section: &Section) -> bool {
    let secret = section.find("secret_access_key").and_then(|field| field.value.as_str());
    let nothing = |_: &str| Some(String::new());
    secret.is_some_and(|text| expand(text, &nothing).is_ok_and(|spelled| !spelled.is_empty()))
}

/// Metrics are for this machine: whoever can connect reads them.
fn loopback(text: &str) -> std::result::Result<SocketAddr, Wrong> {
    let hint = "write an address of the loopback and a port, such as 127.0.0.1:9187";
    let address = text.parse::<SocketAddr>().ok().filter(|address| address.port() > 0);
    let address =
        address.ok_or_else(|| (format!("{text:?} is not an address and a port"), hint))?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err((format!("{} is not the loopback", address.ip()), hint)),
    }
}

fn page(text: &str) -> std::result::Result<String, Wrong> {
    let rest = text.strip_prefix("https://").or(text.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-:".contains(c);
    let fit =
        !host.is_empty() && host.chars().all(plain) && text.chars().all(|c| c.is_ascii_graphic());
    let hint = "write the whole URL, such as https://hc-ping.com/...";
    fit.then(|| text.to_owned()).ok_or_else(|| (format!("{text:?} is not the URL of a page"), hint))
}

fn set(settings: &mut Settings, field: &Field) -> Result<()> {
    match field.key {
        "poll_interval" => settings.poll_interval = field.duration("1ms", "1s")?,
        "ship_interval" => {
            let chosen = (!field.is("auto")).then(|| field.duration("0s", "1h"));
            settings.ship_interval = chosen.transpose()?;
        }
        "snapshot_interval" => settings.snapshot_interval = field.duration("1s", "100y")?,
        "snapshot_rate" => settings.snapshot_rate = field.rate()?,
        "checkpoint_pages" => settings.checkpoint_pages = field.count()?,
        "wal_max" => settings.wal_max = field.size()?,
        "spool_max" => settings.spool_max = field.size()?,
        "compression" => settings.compression = field.compression()?,
        "compaction" => settings.compaction = field.windows()?,
        "keep" => {
            let keep = Keep::parse(&field.strings()?);
            settings.keep = keep.map_err(|(cause, hint)| field.refuse(cause).hint(hint))?;
        }
        "key_files" => settings.sealing.key_files = field.paths()?,
        "seal" => {
            let rule = field.string()?.parse();
            settings.sealing.rule = rule.map_err(|cause: &str| {
                field.refuse(cause).hint("leave it out, or write seal = \"auto\"")
            })?;
        }
        "metrics_file" => {
            settings.observers.metrics_file =
                (!field.is_off()).then(|| field.path()).transpose()?;
        }
        "metrics_listen" => {
            let listen = (!field.is_off()).then(|| checked(field, loopback));
            settings.observers.metrics_listen = listen.transpose()?;
        }
        "ping_url" => {
            let url = (!field.is_off()).then(|| checked(field, page));
            settings.observers.ping_url = url.transpose()?;
        }
        _ => unreachable!("{} is a setting", field.key),
    }
    Ok(())
}
