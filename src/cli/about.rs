//! What a command is about: the databases, replicas and restore point that its arguments and the
//! configuration name.

use super::{Arguments, Existing, RestoreOf, RunOf, VerifyOf, help};
use crate::clock;
use crate::commit::Time;
use crate::config::{
    self, Config, Database, Destination, Gathered, Origin, Sealing, Settings, Unseen,
};
use crate::error::{Error, Result, Status};
use crate::keep::Cap;
use crate::restore::Target;
use crate::seal::Rule;
use crate::sqlite;
use crate::verify::Question;
use std::env;
use std::path::PathBuf;

/// The directory of a database's state, if that is known, and its replicas.
pub type CopiesOf = (Option<PathBuf>, Vec<Origin>);

/// A replica, the settings of its database, its own cap, and the directory of the database's state.
#[derive(Debug)]
pub struct Held {
    pub origin: Origin,
    pub settings: Settings,
    pub cap: Cap,
    pub state_dir: Option<PathBuf>,
}

impl Arguments {
    /// What a verb of the form `[DB DEST...]` is about: databases, or directories of them.
    pub fn config(&self, given: &[String]) -> Result<Config> {
        let Some((path, destinations)) = given.split_first() else {
            let mut config = Config::load(self.config.as_deref())?;
            for settings in config.settings() {
                settings.sealing = self.sealing(std::mem::take(&mut settings.sealing))?;
            }
            return match &self.db {
                Some(_) => Ok(config.choose(self.db.as_deref())?.databases.into()),
                None => Ok(config),
            };
        };
        self.alone("DB")?;
        let mut database = spelled_out(path, destinations)?;
        database.settings.sealing = self.sealing(sealing_of_environment())?;
        Ok(vec![database].into())
    }

    /// The databases that there are of that by now, and the directories that have none.
    pub fn databases(&self, given: &[String]) -> Result<(Vec<Database>, Unseen)> {
        let gathered = self.config(given)?.gather();
        let unseen = gathered.unseen();
        Ok((gathered.databases, unseen))
    }

    /// The place that many replicas are below, if there is one given.
    pub fn fleet(&self, from: Option<&str>, given: &[String]) -> Result<Option<Destination>> {
        let Some(url) = from else { return Ok(None) };
        if !given.is_empty() {
            return Err(cannot_stand("--from", "another place"));
        }
        self.alone("--from")?;
        Destination::parse(url).map(Some)
    }

    /// What `init` is to write, and the file that it goes to.
    pub fn begun(&self, given: &[String]) -> Result<(PathBuf, Database)> {
        let Some((path, destinations)) = given.split_first() else {
            let error = Error::new(Status::Usage, "init", "DB", "missing");
            return Err(error.hint(help::pointer("init")));
        };
        if self.db.is_some() {
            return Err(cannot_stand("--db", "DB"));
        }
        Ok((config::file(self.config.as_deref()), spelled_out(path, destinations)?))
    }

    /// The replicas that a verb of the form `[SOURCE]` is about, and the directories whose are not known.
    pub fn sources(&self, given: Option<&str>) -> Result<(Vec<Origin>, Unseen)> {
        let (replicas, unseen) = self.replicas(given)?;
        Ok((replicas.into_iter().flat_map(|(_, copies)| copies).collect(), unseen))
    }

    /// The same, those of each database together, with the directory of its state if it is known.
    pub fn replicas(&self, given: Option<&str>) -> Result<(Vec<CopiesOf>, Unseen)> {
        if let Some(url) = given {
            self.alone("SOURCE")?;
            let sealing = self.sealing(sealing_of_environment())?;
            let origin = Origin { destination: Destination::parse(url)?, sealing };
            return Ok((vec![(None, vec![origin])], Unseen::new()));
        }
        let known = |it: Database| (Some(it.state_dir.clone()), it.origins());
        let (databases, unseen) = self.databases(&[])?;
        Ok((databases.into_iter().map(known).collect(), unseen))
    }

    /// The same, each with how it is held.
    pub fn settings(&self, given: Option<&str>) -> Result<(Vec<Held>, Unseen)> {
        if given.is_some() {
            let (sources, unseen) = self.sources(given)?;
            let (settings, cap) = (Settings::default(), Cap::default());
            let by_default =
                |origin| Held { origin, settings: settings.clone(), cap, state_dir: None };
            return Ok((sources.into_iter().map(by_default).collect(), unseen));
        }
        let with_settings = |it: Database| {
            let (settings, caps) = (it.settings.clone(), it.caps.clone());
            let state_dir = Some(it.state_dir.clone());
            let cap = move |at: usize| caps.get(at).copied().unwrap_or_default();
            let origins = it.origins().into_iter().enumerate();
            origins.map(move |(at, origin)| Held {
                origin,
                settings: settings.clone(),
                cap: cap(at),
                state_dir: state_dir.clone(),
            })
        };
        let (databases, unseen) = self.databases(&[])?;
        Ok((databases.into_iter().flat_map(with_settings).collect(), unseen))
    }

    /// The replicas of one database, in the order of the configuration, and the directory of its state.
    pub fn copies(&self, given: Option<&str>) -> Result<CopiesOf> {
        if given.is_some() {
            return Ok((None, self.sources(given)?.0));
        }
        let Gathered { mut databases, refused, .. } = self.config(&[])?.gather();
        if databases.len() != 1 {
            // Where there is none to choose, why is all that helps.
            if let Some(none) = refused.into_iter().next().filter(|_| databases.is_empty()) {
                return Err(none);
            }
            let names: Vec<_> = databases.iter().map(|each| each.name.as_str()).collect();
            return Err(Error::new(Status::Usage, "arguments", "SOURCE", "which database?")
                .hint(format!("choose one with --db: {}", config::some_of(&names))));
        }
        let database = databases.remove(0);
        Ok((Some(database.state_dir.clone()), database.origins()))
    }

    /// What the options say goes before what is said elsewhere.
    fn sealing(&self, elsewhere: Sealing) -> Result<Sealing> {
        let given = self.key_file.iter().map(|file| config::absolute("--key-file", file));
        let given = given.collect::<Result<Vec<_>>>()?;
        let key_files = if given.is_empty() { elsewhere.key_files } else { given };
        Ok(Sealing { key_files, rule: self.seal.unwrap_or(elsewhere.rule) })
    }

    /// With everything on the command line, no configuration is read; asking for one is a mistake.
    fn alone(&self, given: &str) -> Result<()> {
        let option = match (&self.config, &self.db) {
            (Some(_), _) => "--config",
            (None, Some(_)) => "--db",
            (None, None) => return Ok(()),
        };
        Err(cannot_stand(option, given))
    }
}

fn spelled_out(path: &str, destinations: &[String]) -> Result<Database> {
    if destinations.is_empty() {
        return Err(Error::new(Status::Usage, "arguments", path, "a DB without a DEST")
            .hint("name where its replica goes: a path, file:///path or s3://BUCKET/PREFIX"));
    }
    Database::given(path, destinations)
}

fn cannot_stand(option: &str, given: &str) -> Error {
    Error::new(Status::Usage, "arguments", option, format!("cannot stand with {given}"))
        .hint(format!("leave out {option} or {given}"))
}

fn sealing_of_environment() -> Sealing {
    let files = env::var_os(config::KEYS_VARIABLE).unwrap_or_default();
    let files = env::split_paths(&files).filter(|file| !file.as_os_str().is_empty());
    Sealing { key_files: files.collect(), rule: Rule::Auto }
}

impl RunOf {
    /// `DB DEST...`, and the command with its arguments.
    pub fn parts(&self) -> Result<(&[String], &[String])> {
        let dashes = self.given.iter().position(|word| word == "--");
        let parts = dashes.map(|at| (&self.given[..at], &self.given[at + 1..]));
        parts.filter(|(_, command)| !command.is_empty()).ok_or_else(|| {
            Error::new(Status::Usage, "run", "CMD", "missing").hint(
                "the command follows --: bakelite run DB DEST -- CMD ARG, or with a \
                     configuration: bakelite run -- CMD ARG",
            )
        })
    }
}

impl VerifyOf {
    pub fn question(&self) -> Result<Option<Question>> {
        let refuse = |thing: &str, cause: &str, hint: &str| {
            Err(Error::new(Status::Usage, "verify", thing, cause).hint(hint))
        };
        let Some(sql) = &self.sql else {
            return match &self.expect {
                None => Ok(None),
                Some(_) => refuse("--expect", "needs --sql", "say what is asked: --sql SELECT"),
            };
        };
        if !self.deep {
            return refuse("--sql", "needs --deep", "only a deep check restores a database to ask");
        }
        match sqlite::objection(sql) {
            Some(cause) => refuse("--sql", &cause, "give one SELECT, in quotes"),
            None => Ok(Some(Question { sql: sql.clone(), expect: self.expect.clone() })),
        }
    }
}

impl RestoreOf {
    /// The commit that is wanted, ages counting back from `now`.
    pub fn target(&self, now: Time) -> Result<Target> {
        match (&self.at, self.commit) {
            (None, None) => Ok(Target::Latest),
            (None, Some(commit)) => Ok(Target::Commit(commit)),
            (Some(time), None) => {
                let at = clock::parse_target(time, now).map_err(|mut error| {
                    let what = error.message.strip_prefix("time: ").unwrap_or(&error.message);
                    error.message = format!("restore: --at: {what}");
                    error
                });
                at.map(Target::At)
            }
            (Some(_), Some(_)) => {
                Err(Error::new(Status::Usage, "restore", "--at", "cannot stand with --commit")
                    .hint("a commit has one time: leave out --at or --commit"))
            }
        }
    }

    /// What becomes of a file that is there; no more than one of the switches can say.
    pub fn existing(&self) -> Result<Existing> {
        let switches = [
            (self.if_missing, "--if-missing", Existing::Keep),
            (self.delta, "--delta", Existing::Update),
            (self.force, "--force", Existing::Replace),
        ];
        let mut given = switches.into_iter().filter(|(given, ..)| *given);
        match (given.next(), given.next()) {
            (None, _) => Ok(Existing::Refuse),
            (Some((_, _, existing)), None) => Ok(existing),
            (Some((_, one, _)), Some((_, other, _))) => {
                let cause = format!("cannot stand with {other}");
                Err(Error::new(Status::Usage, "restore", one, cause)
                    .hint("each of them says what becomes of a FILE that exists: choose one"))
            }
        }
    }

    pub fn output(&self) -> Result<PathBuf> {
        config::absolute("--output", &self.output)
    }
}
