//! The commands: from arguments to the functions that do the work, and from those to what is said.

mod back;
mod restore;
mod run;
mod scratch;

pub use restore::restore;
pub use run::run;

use crate::backend::Backend;
use crate::check::{self, Finding};
use crate::cli::{
    Arguments, CheckOf, CompactOf, DaemonOf, DoctorOf, Held, InitOf, KeygenOf, ListOf, PruneOf,
    ReencryptOf, RepairOf, StatusOf, SyncOf, UsageOf, VerifyOf,
};
use crate::clock;
use crate::config::{self, Config, Database, Destination, Gathered, Origin, Unseen};
use crate::daemon::{self, Reload, Stop, Task, open_bare, open_to_read};
use crate::doctor;
use crate::error::{Error, Result, Status};
use crate::fleet::{self, Survey};
use crate::init;
use crate::key;
use crate::list;
use crate::log::{self, Level};
use crate::memory;
use crate::object;
use crate::place::{self, Warning};
use crate::progress::Bar;
use crate::recent::Recent;
use crate::reencrypt::{self, Order};
use crate::repair::{self, Needed};
use crate::replica::REPAIR;
use crate::report::{self, Checked, Kept};
use crate::seal::{Key, Keys, Rule};
use crate::sqlite;
use crate::status;
use crate::upkeep::Mode;
use crate::usage;
use crate::verified::Verified;
use crate::verify::{self, Deep};
use scratch::Scratch;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Well,
    /// It did what it could, and has said what this status stands for.
    Found(Status),
    /// The command that it ran has ended with this status.
    Ended(u8),
}

pub fn daemon(arguments: &Arguments, of: &DaemonOf) -> Result<Outcome> {
    memory::give_back();
    let config = arguments.config(&of.given)?;
    config.gather().databases.iter().for_each(warn);
    let (stop, last) = (Stop::default(), Mutex::new(config.clone()));
    let reload = of.given.is_empty().then(|| reload(arguments, &last));
    obey_signals(&stop, reload.as_ref()).map_err(|cause| Error::io("daemon", "signals", &cause))?;
    daemon::run(&config, &stop, reload.as_ref(), &bar(arguments))?;
    let shipped = last.lock().expect("nobody panics with it").gather().databases;
    show_synced(arguments, &shipped, &[])?;
    Ok(Outcome::Well)
}

/// Reads the configuration as it was read at the start; `last` is the one in force.
fn reload<'a>(arguments: &'a Arguments, last: &'a Mutex<Config>) -> Reload<'a> {
    Reload::new(|| {
        let config = arguments.config(&[])?;
        config.gather().databases.iter().for_each(warn);
        last.lock().expect("nobody panics with it").clone_from(&config);
        Ok(config)
    })
}

/// The first SIGTERM or SIGINT asks for a drain; a second one does not wait for it. SIGHUP has the
/// configuration read again; without one, it means that the terminal is gone, and is as SIGTERM.
///
/// The handlers run in the order of their registration: the one that exits comes first and does so
/// only when the flag is set already.
fn obey_signals(stop: &Stop, reload: Option<&Reload>) -> std::io::Result<()> {
    for signal in [SIGTERM, SIGINT] {
        let status = Status::Failed as i32;
        signal_hook::flag::register_conditional_shutdown(signal, status, stop.flag())?;
        signal_hook::flag::register(signal, stop.flag())?;
    }
    let hangup = reload.map_or_else(|| stop.flag(), Reload::flag);
    signal_hook::flag::register(SIGHUP, hangup)?;
    Ok(())
}

pub fn sync(arguments: &Arguments, of: &SyncOf) -> Result<Outcome> {
    let gathered = arguments.config(&of.given)?.gather();
    gathered.warnings().for_each(|error| say(&error.message, error.hint.as_deref()));
    let Gathered { databases, refused, .. } = gathered;
    databases.iter().for_each(warn);
    let quiet = arguments.quiet || of.ends_soon();
    daemon::sync_within(&databases, of.timeout, quiet, &bar(arguments))?;
    show_synced(arguments, &databases, &refused)?;
    Ok(refused.first().map_or(Outcome::Well, |error| Outcome::Found(error.status)))
}

fn show_synced(arguments: &Arguments, databases: &[Database], refused: &[Error]) -> Result<()> {
    if !arguments.json {
        return Ok(());
    }
    let synced = databases.iter().map(status::status).collect::<Result<Vec<_>>>()?;
    report::show(&report::Synced::new(&synced, refused), true)
}

/// What came of each, and what failed, with its name. One that cannot be looked at keeps nobody from
/// looking at the others; an only one is an error.
type Each<T> = (Vec<T>, Unseen);

fn each<A, T>(
    (all, unseen): (&[A], Unseen),
    name: impl Fn(&A) -> String,
    mut work: impl FnMut(&A) -> Result<T>,
) -> Result<Each<T>> {
    let (mut well, mut failed) = (Vec::new(), unseen);
    let alone = all.len() == 1 && failed.is_empty();
    for one in all {
        match work(one) {
            Ok(it) => well.push(it),
            Err(error) if alone => return Err(error),
            Err(error) => failed.push((name(one), error)),
        }
    }
    Ok((well, failed))
}

/// Says what may go wrong where a database lies.
fn warn(database: &Database) {
    for Warning { message, hint } in place::warnings(&database.path) {
        say(&message, Some(hint));
    }
}

fn say(message: &str, hint: Option<&str>) {
    log::say(Level::Warning, message, hint);
}

pub fn list(arguments: &Arguments, of: &ListOf) -> Result<Outcome> {
    if let Some(root) = arguments.fleet(of.from.as_deref(), of.source.as_slice())? {
        if of.objects {
            let error = Error::new(Status::Usage, "list", "--objects", "cannot stand with --from");
            return Err(error.hint("give one of the replicas as SOURCE to see its objects"));
        }
        report::show(&report::Replicas::new(&survey(&root)?), arguments.json)?;
        return Ok(Outcome::Well);
    }
    let (_, copies) = arguments.copies(of.source.as_deref())?;
    if of.objects {
        let objects = from_first(&copies, |source| list::objects(source.as_ref()))?;
        report::show(&report::Objects::new(&objects), arguments.json)?;
    } else {
        let points = from_first(&copies, |source| list::points(source.as_ref()))?;
        report::show(&report::Points::new(&points), arguments.json)?;
    }
    Ok(Outcome::Well)
}

pub fn status(arguments: &Arguments, of: &StatusOf) -> Result<Outcome> {
    if let Some(root) = arguments.fleet(of.from.as_deref(), &of.given)? {
        report::show(&report::Fleet::new(&survey(&root)?), arguments.json)?;
        return Ok(Outcome::Well);
    }
    let gathered = arguments.config(&of.given)?.gather();
    let (unseen, Gathered { databases, refused, .. }) = (gathered.unseen(), gathered);
    refused.iter().for_each(|error| say(&error.message, error.hint.as_deref()));
    let told = unseen.len();
    let (standings, failed) = each((&databases, unseen), |it| it.name.clone(), status::status)?;
    let told = failed.iter().skip(told);
    told.for_each(|(_, it)| log::say(Level::Error, &it.message, it.hint.as_deref()));
    report::show(&report::Standings::new(&standings), arguments.json)?;
    Ok(failed.first().map_or(Outcome::Well, |(_, error)| Outcome::Found(error.status)))
}

pub fn check(arguments: &Arguments, of: &CheckOf) -> Result<Outcome> {
    let findings = match arguments.fleet(of.from.as_deref(), &of.given)? {
        Some(root) => {
            let survey = survey(&root)?;
            let mut findings = fleet::check(&survey.standings, of.max_age, clock::now());
            findings.extend(fleet::unread(&survey).filter(|_| arguments.json));
            findings
        }
        None => {
            let Gathered { databases, refused, .. } = arguments.config(&of.given)?.gather();
            let mut findings = findings_of(&refused);
            findings.extend(check::check(&databases, of.max_age.unwrap_or(check::MAX_AGE)));
            findings
        }
    };
    if !findings.is_empty() || arguments.json {
        report::show(&report::Findings::new(&findings, &[]), arguments.json)?;
    }
    Ok(found(&findings))
}

/// The replicas below a place; where nobody could look is told.
fn survey(root: &Destination) -> Result<Survey> {
    let survey = fleet::survey(root, &open_bare)?;
    fleet::warning(&survey.passed_over)
        .iter()
        .for_each(|warning| say(warning, Some(fleet::UNREAD)));
    Ok(survey)
}

/// What keeps files of a directory from being backed up.
fn findings_of(refused: &[Error]) -> Vec<Finding> {
    refused.iter().map(|error| Finding::of(error, "the configuration")).collect()
}

/// The status is that of the first finding that has one.
fn found(findings: &[Finding]) -> Outcome {
    let status = findings.iter().find_map(|finding| finding.status);
    status.map_or(Outcome::Well, Outcome::Found)
}

pub fn doctor(arguments: &Arguments, of: &DoctorOf) -> Result<Outcome> {
    let gathered = arguments.config(&of.given)?.gather();
    let file = of.given.is_empty().then(|| config::file(arguments.config.as_deref()));
    examine(arguments, &gathered, file.as_deref())
}

fn examine(arguments: &Arguments, all: &Gathered, file: Option<&Path>) -> Result<Outcome> {
    let doctor::Report { facts, findings: found_out } = doctor::doctor(&all.databases, file);
    let mut findings = findings_of(&all.refused);
    findings.extend(found_out);
    let facts = if arguments.quiet { &[][..] } else { &facts };
    if !facts.is_empty() || !findings.is_empty() || arguments.json {
        report::show(&report::Findings::new(&findings, facts), arguments.json)?;
    }
    Ok(found(&findings))
}

pub fn init(arguments: &Arguments, of: &InitOf) -> Result<Outcome> {
    let (file, database) = arguments.begun(&of.given)?;
    init::init(&file, &database)?;
    let gathered = Config::load(Some(&file))?.gather();
    examine(arguments, &gathered, Some(&file))
}

pub fn verify(arguments: &Arguments, of: &VerifyOf) -> Result<Outcome> {
    let question = of.question()?;
    let scratch = of.deep.then(Scratch::new).transpose()?;
    let deep = scratch.as_ref();
    let deep = deep.map(|it| Deep { scratch: it.path(), question: question.as_ref() });
    let check = |source: &_| verify::verify(source, deep, &bar(arguments));
    let (replicas, unseen) = arguments.replicas(of.source.as_deref())?;
    let mut beside: Vec<_> = unseen.iter().map(|(_, it)| verify::Finding::of(it)).collect();
    let mut checked = Vec::new();
    let several = replicas.iter().flat_map(|(_, copies)| copies).count() > 1;
    for (state_dir, database) in replicas {
        let mut copies = Vec::new();
        for origin in &database {
            let source = origin.to_string();
            let report = match open_to_read(origin).and_then(|source| check(&source)) {
                // One that cannot be looked at keeps nobody from looking at the others.
                Err(error) if several && error.status != Status::Failed => {
                    verify::Report::failed(source.clone(), &error)
                }
                report => report?,
            };
            copies.push(Checked { source, report });
        }
        let reports: Vec<_> = copies.iter().map(|it| (it.source.clone(), &it.report)).collect();
        let found = verify::compare(&reports);
        if let Some(state_dir) = state_dir.filter(|_| found.is_empty()) {
            let whole = copies.iter().filter(|it| it.report.status().is_none());
            let whole: Vec<_> = whole.map(|it| it.source.as_str()).collect();
            Verified::note(&state_dir, &whole, of.deep, clock::now());
        }
        beside.extend(found);
        checked.extend(copies);
    }
    let verified = report::Verified::new(&checked, &beside);
    if !(arguments.quiet && verified.ok()) || arguments.json {
        report::show(&verified, arguments.json)?;
    }
    let found = checked.iter().filter_map(|it| it.report.status());
    let gravest = verify::gravest(found.chain(beside.iter().filter_map(|it| it.status)));
    Ok(gravest.map_or(Outcome::Well, Outcome::Found))
}

pub fn compact(arguments: &Arguments, of: &CompactOf) -> Result<Outcome> {
    let (kept, failed) = keep_up(arguments, &of.given, Task::Compact)?;
    let compacted = report::Compacted::new(&kept, &failed);
    if !(arguments.quiet && compacted.ok()) || arguments.json {
        report::show(&compacted, arguments.json)?;
    }
    Ok(tell_failures((&kept, &failed)))
}

pub fn prune(arguments: &Arguments, of: &PruneOf) -> Result<Outcome> {
    let mode = if of.dry_run { Mode::DryRun } else { Mode::Real };
    let (kept, failed) = keep_up(arguments, &of.given, Task::Prune(mode))?;
    let pruned = report::PrunedObjects::new(&kept, &failed, mode);
    if !(arguments.quiet && pruned.ok()) || arguments.json {
        report::show(&pruned, arguments.json)?;
    }
    Ok(tell_failures((&kept, &failed)))
}

/// A round of upkeep for each database.
fn keep_up(arguments: &Arguments, given: &[String], task: Task) -> Result<Each<Kept>> {
    let (databases, unseen) = arguments.databases(given)?;
    let keep_up = |database: &Database| {
        let done = daemon::upkeep(database, task, &open_to_read, &bar(arguments))?;
        Ok(Kept { database: database.name.clone(), done })
    };
    each((&databases, unseen), |it| it.name.clone(), keep_up)
}

pub fn usage(arguments: &Arguments, of: &UsageOf) -> Result<Outcome> {
    let (settings, unseen) = arguments.settings(of.source.as_deref())?;
    let name = |held: &Held| held.origin.to_string();
    let look = |held: &Held| {
        let parts = daemon::parts_to_collect(held.state_dir.as_deref());
        let how = (&held.settings, held.cap, parts);
        let usage = usage::usage(&*open_to_read(&held.origin)?, how, clock::now())?;
        Ok((name(held), usage))
    };
    let (found, failed) = each((&settings, unseen), name, look)?;
    report::show(&report::Used::new(&found, &failed), arguments.json)?;
    Ok(failed.first().map_or(Outcome::Well, |(_, error)| Outcome::Found(error.status)))
}

/// Tells what is held past a cap, and what did not work; the first of it says how the command ends. A
/// document has it among its findings, and stays the only one.
fn tell_failures((kept, failed): (&[Kept], &Unseen)) -> Outcome {
    let errors = kept.iter().flat_map(|each| &each.done.errors);
    let errors: Vec<&Error> = failed.iter().map(|(_, error)| error).chain(errors).collect();
    for (place, over) in kept.iter().flat_map(|each| &each.done.caps) {
        over.iter().for_each(|over| say(&format!("{place}: {over}"), Some(over.remedy())));
    }
    errors.iter().for_each(|error| log::say(Level::Error, &error.message, error.hint.as_deref()));
    errors.first().map_or(Outcome::Well, |error| Outcome::Found(error.status))
}

pub fn repair(arguments: &Arguments, of: &RepairOf) -> Result<Outcome> {
    let (databases, unseen) = arguments.databases(&of.given)?;
    let heal = |database: &Database| {
        let hold_off = || daemon::hold_off_upkeep(&database.state_dir);
        let _no_upkeep = if of.dry_run { None } else { hold_off()? };
        let settled = status::settled(database)?;
        let (keep, caps, clock) = (&database.settings.keep, &database.caps, clock::now());
        let order = repair::Order { dry_run: of.dry_run, keep, caps, clock, settled };
        let places = database.clone().origins().iter().map(open_to_read).collect();
        let recent = Recent::new(&database.state_dir);
        // Most runs need none of them.
        let mut pages = None;
        let mut make = |wanted: Needed<'_>| match wanted {
            Needed::Change(name) => recent.get(name),
            Needed::Part(part) => {
                let pages = pages.get_or_insert_with(|| repair::Pages::open(database));
                pages.as_mut().ok()?.part(part)
            }
        };
        let mut report = repair::repair(places, order, &mut make, &bar(arguments))?;
        report.note_failed(pages.and_then(std::result::Result::err));
        if report.wants_snapshot && !of.dry_run {
            report.note_failed(daemon::ask_for_snapshot(database).err());
        }
        Ok(report)
    };
    let (reports, failed) = each((&databases, unseen), |it| it.name.clone(), heal)?;
    let repaired = report::Repaired::new(&reports, &failed, of.dry_run);
    if !(arguments.quiet && repaired.is_silent()) || arguments.json {
        report::show(&repaired, arguments.json)?;
    }
    let status = failed.first().map_or(Status::Integrity, |(_, error)| error.status);
    Ok(if repaired.ok() { Outcome::Well } else { Outcome::Found(status) })
}

pub fn keygen(arguments: &Arguments, of: &KeygenOf) -> Result<Outcome> {
    let file = config::absolute("FILE", &of.file)?;
    let id = key::generate(&file)?;
    if !arguments.quiet || arguments.json {
        report::show(&report::Made::new(&file, id), arguments.json)?;
    }
    Ok(Outcome::Well)
}

pub fn reencrypt(arguments: &Arguments, of: &ReencryptOf) -> Result<Outcome> {
    memory::keep();
    let (origins, unseen) = arguments.sources(of.source.as_deref())?;
    let rewrite = |origin: &Origin| {
        let keys = key::load(&origin.sealing)?;
        let target = target(&keys, of)?;
        let order = Order { keys: &keys, target, dry_run: of.dry_run };
        let report =
            reencrypt::reencrypt(&*open_bare(&origin.destination)?, order, &bar(arguments))?;
        Ok((origin.to_string(), target.map(|key| key.id), report))
    };
    let (all, failed) = each((&origins, unseen), Origin::to_string, rewrite)?;
    let remain = all.iter().filter_map(|(.., report)| {
        let failed = (report.remaining > 0).then_some(Status::Unreachable);
        report.errors.first().map(|error| error.status).or(failed)
    });
    let status = failed.iter().map(|(_, error)| error.status).chain(remain).next();
    let said = report::Reencrypted::new(&all, &failed, of.dry_run);
    if !(arguments.quiet && status.is_none()) || arguments.json {
        report::show(&said, arguments.json)?;
    }
    Ok(status.map_or(Outcome::Well, Outcome::Found))
}

/// The key that is to seal everything; `None` where nothing is to be sealed.
fn target<'a>(keys: &'a Keys, of: &ReencryptOf) -> Result<Option<&'a Key>> {
    let refuse = |thing, cause| Error::new(Status::Usage, "reencrypt", thing, cause);
    match (of.to_plain, keys.all.first()) {
        (false, None) => Err(refuse("key_files", "there is no key to seal with")
            .hint("make one with `bakelite keygen FILE`, and name it in key_files or --key-file")),
        (false, first) => Ok(first),
        (true, Some(_)) if keys.rule != Rule::None => {
            Err(refuse("--to-plain", "a daemon would go on sealing, and refuse what is not sealed")
                .hint("set seal = \"none\", start the daemon again, then run this again"))
        }
        (true, _) => Ok(None),
    }
}

pub fn version(arguments: &Arguments) -> Result<Outcome> {
    use std::env::consts::{ARCH, OS};
    let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    let target = format!("{ARCH}-unknown-{OS}-{libc}");
    let linked = sqlite::version();
    let linked = linked.map_err(|cause| Error::new(Status::Failed, "version", "SQLite", cause))?;
    let version = report::Version::new(object::VERSION, linked, target);
    report::show(&version, arguments.json)?;
    Ok(Outcome::Well)
}

fn bar(arguments: &Arguments) -> Bar {
    Bar::new(arguments.progress, arguments.quiet)
}

/// Works on the first copy. Another one may end at another commit, so choosing it after a failure
/// is left to the person who asked; they are told how.
fn from_first<T>(
    copies: &[Origin],
    work: impl FnOnce(&Arc<dyn Backend>) -> Result<T>,
) -> Result<T> {
    let (first, others) = copies.split_first().expect("a database has a destination");
    open_to_read(first).and_then(|source| work(&source)).map_err(|error| {
        match (others.first(), &error) {
            // What is to be done about the copy itself comes after that, but for damage.
            (Some(next), Error { hint, status, .. })
                if of_the_copy(*status)
                    && (*status != Status::Integrity
                        || hint.as_deref().is_none_or(|it| it == REPAIR)) =>
            {
                error.hint(format!("the next destination can be asked as well, as SOURCE: {next}"))
            }
            _ => error,
        }
    })
}

fn of_the_copy(status: Status) -> bool {
    matches!(status, Status::Missing | Status::Integrity | Status::Unreachable)
}
