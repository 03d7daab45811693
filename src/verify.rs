//! Whether a replica would come back. Shallow: every object is read, its checksums, its name and its
//! place in the chain are checked, and that no commit is missing. Deep: the newest commit is restored
//! as well, its digest proved, and SQLite's own integrity check run over it; then the last commit of
//! each abandoned branch. What lies on a branch counts as much as anything else.

use crate::ahead::ahead;
use crate::backend::{self, Backend, Entry, Kind, NONE_HERE};
use crate::change::ChangeSet;
use crate::commit::{CommitNo, Timeline};
use crate::error::{Error, Result, Status};
use crate::name::Name;
use crate::object::{Damage, KeyId};
use crate::replica::{Replica, damaged};
use crate::restore::{self, Check, Options, Progress, Target};
use crate::snapshot::{Fork, Manifest, PartPages};
use crate::sqlite;
use found::{Failed, finding};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

mod chain;
mod found;

pub use chain::Links;
pub use found::{Finding, Report, gravest};

/// How often what has come since is looked at, after something that was listed is found gone.
const PASSES: u32 = 5;

/// What the restored database is asked, and what it has to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// One SELECT.
    pub sql: String,
    pub expect: Option<String>,
}

/// A deep check.
#[derive(Clone, Copy, Debug)]
pub struct Deep<'a> {
    /// A directory with room for a whole database; nothing is left there.
    pub scratch: &'a Path,
    /// For the newest commit.
    pub question: Option<&'a Question>,
}

pub fn verify(
    source: &Arc<dyn Backend>,
    deep: Option<Deep<'_>>,
    progress: &dyn Progress,
) -> Result<Report> {
    let replica = Replica::list(&**source)?;
    if replica.is_empty() {
        let error = Error::new(Status::Missing, "verify", source, "no replica here");
        return Err(error.hint(NONE_HERE));
    }
    let bytes = replica.objects.iter().map(|entry| entry.bytes).sum();
    let objects = replica.objects.len() as u64;
    let mut report = Report {
        objects,
        bytes,
        findings: Vec::new(),
        restored: None,
        answer: None,
        closed: None,
        failed: None,
        database: Vec::new(),
        sound: BTreeMap::new(),
    };
    let mut links = Links::default();
    let replica = read_all(&**source, replica, &mut report, &mut links, progress)?;
    report.findings.extend(replica.foreign.iter().map(|key| Finding {
        status: None,
        what: "not an object of ours".into(),
        where_: format!("{source}/{key}"),
        remedy: "nothing reads it; remove it if you know where it comes from".into(),
    }));
    if let Some(key) = report.closed {
        report.findings.push(not_opened(source.to_string(), key));
        return Ok(report);
    }
    report.findings.extend(links.findings(&**source, &replica)?);
    if let Some(deep) = deep {
        drill_all(source, &replica, deep, &mut report, progress)?;
    }
    Ok(report)
}

/// Reads every object; the replica as it is then. What upkeep has merged or deleted meanwhile is not
/// missing: what took its place is read instead.
fn read_all(
    source: &dyn Backend,
    mut replica: Replica,
    report: &mut Report,
    links: &mut Links,
    progress: &dyn Progress,
) -> Result<Replica> {
    let (total, mut done) = (report.bytes, 0);
    let mut unread = replica.objects.clone();
    let mut found = BTreeMap::new();
    for pass in 1.. {
        let mut gone = BTreeSet::new();
        ahead(
            &unread,
            |entry| entry.bytes,
            |entry| Ok(read(source, &entry.name)),
            |entry, read| {
                let name = entry.name.clone();
                done += entry.bytes;
                progress.at(done.min(total), total);
                if matches!(&read, Read::Unreadable(error) if error.kind == Kind::NotFound)
                    && pass < PASSES
                {
                    gone.insert(name);
                    return Ok(());
                }
                let wrong = object(source, &replica, entry, &read, links)?;
                found.extend(wrong.map(|finding| (name.clone(), finding)));
                match read {
                    Read::Sound(hash, content) if !content.is_placeholder() => {
                        report.sound.insert(name, hash);
                    }
                    Read::Damaged(Damage::Sealed(key)) => report.closed = Some(key),
                    _ => {}
                }
                Ok(())
            },
        )?;
        if gone.is_empty() {
            break;
        }
        let now = Replica::list(source)?;
        let known: BTreeSet<&Name> = replica.objects.iter().map(|entry| &entry.name).collect();
        let is_new = |entry: &&Entry| !known.contains(&entry.name) || gone.contains(&entry.name);
        unread = now.objects.iter().filter(is_new).cloned().collect();
        links.retain(&now);
        replica = now;
    }
    let there: BTreeSet<&Name> = replica.objects.iter().map(|entry| &entry.name).collect();
    report.findings.extend(found.into_iter().filter(|it| there.contains(&it.0)).map(|it| it.1));
    Ok(replica)
}

/// Restores the newest commit, and the last one of each abandoned branch.
fn drill_all(
    source: &Arc<dyn Backend>,
    replica: &Replica,
    Deep { scratch, question }: Deep<'_>,
    report: &mut Report,
    progress: &dyn Progress,
) -> Result<()> {
    let ask = |path: &Path| question.map(|question| (question, sqlite::ask(path, &question.sql)));
    match drill(source, scratch, None, ask, progress)? {
        Ok((restored, answer)) => {
            report.restored = Some(restored);
            let wrong = answer.as_ref().and_then(|(question, answer)| differs(question, answer));
            report.database.extend(wrong.as_ref().map(|_| match &answer {
                Some((_, Ok(_))) => "whole but its answer is another",
                _ => "whole but the question failed",
            }));
            report.answer = answer.and_then(|(_, answer)| answer.ok());
            report.findings.extend(wrong.map(|what| {
                Finding {
                    status: Some(Status::Integrity),
                    what,
                    where_: source.to_string(),
                    remedy:
                        "ask the application's own database the same; a restore with --at shows \
                         since when the answer is another"
                            .into(),
                }
            }));
        }
        Err(failed) => report.note(failed),
    }
    // A branch that lacks a record was found out about above.
    for branch in replica.branches(&**source).into_iter().flatten().flatten() {
        let newest = replica.newest(&branch.ancestry);
        if newest.is_some_and(|newest| newest.last > branch.after) {
            let failed = drill(source, scratch, branch.timeline(), |_| (), progress)?.err();
            failed.into_iter().for_each(|failed| report.note(failed));
        }
    }
    Ok(())
}

/// What is wrong with an answer.
fn differs(question: &Question, answer: &std::result::Result<String, String>) -> Option<String> {
    let Question { sql, expect } = question;
    match (answer, expect) {
        (Err(cause), _) => Some(format!("{sql}: {cause}")),
        (Ok(answer), Some(expected)) if answer != expected => {
            Some(format!("{sql}: it gives {answer:?}, not {expected:?}"))
        }
        (Ok(_), _) => None,
    }
}

/// What is inside, and how it hangs together, can be said by those alone who have the key.
fn not_opened(place: String, key: KeyId) -> Finding {
    Finding {
        status: Some(Status::Key),
        what: format!("sealed under key {key}, which was not given: only checksums were checked"),
        where_: place,
        remedy: "name the key's file too, with key_files, --key-file or BAKELITE_KEY_FILES".into(),
    }
}

/// What reading one object whole gave.
#[derive(Debug)]
pub enum Read {
    /// The hash of its bytes, and what is in it.
    Sound([u8; 32], Content),
    Damaged(Damage),
    Unreadable(backend::Error),
}

/// What is in an object, all of which was decoded.
#[derive(Debug)]
pub enum Content {
    Timeline(Fork),
    Part,
    Change(ChangeSet),
    Snapshot(Manifest),
}

/// Reads one object and decodes all of it.
pub fn read(source: &dyn Backend, name: &Name) -> Read {
    match source.get(name) {
        Ok(bytes) => {
            let hash = *blake3::hash(&bytes).as_bytes();
            Content::decode(name, bytes).map_or_else(Read::Damaged, |it| Read::Sound(hash, it))
        }
        Err(error) => Read::Unreadable(error),
    }
}

impl Content {
    /// The record of a timeline that nothing was ever stored on.
    pub fn is_placeholder(&self) -> bool {
        matches!(self, Self::Timeline(fork) if fork.placeholder)
    }

    pub fn decode(name: &Name, bytes: Vec<u8>) -> std::result::Result<Self, Damage> {
        Ok(match name {
            Name::Timeline(timeline) => Self::Timeline(Fork::decode(*timeline, bytes)?),
            Name::Part(part) => {
                PartPages::open(*part, bytes)?.check()?;
                Self::Part
            }
            Name::Change(change) => {
                let set = ChangeSet::open(change, bytes)?;
                set.pages_at(change.span.first, |_, _, _| Ok::<(), Damage>(()))?;
                Self::Change(set)
            }
            Name::Snapshot(span) => Self::Snapshot(Manifest::decode(*span, bytes)?),
        })
    }
}

/// What is wrong with one object, and its place in the chain. Nothing can be said of a replica that a
/// newer version wrote.
fn object(
    source: &dyn Backend,
    replica: &Replica,
    entry: &Entry,
    read: &Read,
    links: &mut Links,
) -> Result<Option<Finding>> {
    let name = &entry.name;
    let place = format!("{source}/{name}");
    let content = match read {
        Read::Sound(_, content) => content,
        Read::Unreadable(error) => {
            let status = match error.kind {
                // It was listed, time and again.
                Kind::NotFound | Kind::Corrupt => Status::Integrity,
                Kind::Key => Status::Key,
                _ => Status::Unreachable,
            };
            let hint = error.hint.as_deref();
            return Ok(Some(Finding::unread(place, error, (status, hint))));
        }
        Read::Damaged(Damage::Sealed(_)) => return Ok(None),
        Read::Damaged(damage) => {
            return match damaged(source, name, *damage) {
                error if error.status == Status::Newer => Err(error),
                _ => Ok(Some(finding(place, damage))),
            };
        }
    };
    links.note(name, content);
    let Content::Snapshot(manifest) = content else { return Ok(None) };
    let lost = manifest.parts.iter().find(|part| !replica.parts.contains_key(&part.part));
    Ok(lost.map(|part| finding(place, &format!("it needs {}, which is missing", part.name()))))
}

/// Where copies of one database say different things under one name. Each is sound by itself.
pub fn compare(copies: &[(String, &Report)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, (there, newer)) in copies.iter().enumerate() {
        for (here, older) in &copies[..at] {
            let differs = |name: &&Name| {
                let both = older.sound.get(name).zip(newer.sound.get(name));
                both.is_some_and(|(one, other)| one != other)
            };
            let differing: Vec<&Name> = newer.sound.keys().filter(differs).collect();
            let record = |name: &Name| name.timeline().map(Name::Timeline);
            // Where the record differs, it alone is told of: the rest follows from it.
            let told = differing.iter().filter(|name| {
                let record = record(name).filter(|record| record != **name);
                record.is_none_or(|record| !differing.contains(&&record))
            });
            findings.extend(told.map(|name| {
                Finding {
                    status: Some(Status::Integrity),
                    what: format!("it is another object than {here}/{name}"),
                    where_: format!("{there}/{name}"),
                    remedy:
                        "see with `bakelite list` which of the two has the history that is wanted, \
                         and keep the other one apart"
                            .into(),
                }
            }));
        }
    }
    findings
}

pub const SCRATCH: &str = "TMPDIR names a directory with room for a whole database";

/// Restores the newest commit, or a branch's, looks at it, and throws it away. What comes of that is about the replica, unless this machine failed.
fn drill<T>(
    source: &Arc<dyn Backend>,
    scratch: &Path,
    timeline: Option<Timeline>,
    look: impl FnOnce(&Path) -> T,
    progress: &dyn Progress,
) -> Result<std::result::Result<(restore::Report, T), Failed>> {
    let failed =
        |error: std::io::Error| Error::io("create", "a scratch directory", &error).hint(SCRATCH);
    let scratch = tempfile::tempdir_in(scratch).map_err(failed)?;
    let options = Options {
        output: &scratch.path().join("restored.db"),
        target: Target::Latest,
        timeline,
        check: Check::None,
        force: false,
        dry_run: false,
    };
    match restore::restore(source, &options, progress) {
        Err(error) if error.status == Status::Failed => Err(error.hint(SCRATCH)),
        Err(error) => Ok(Err(Failed::Restore(Finding::at(source.to_string(), &error)))),
        Ok(restored) => Ok(match restore::wrong_with(options.output, Check::Full) {
            Some(wrong) => {
                Err(Failed::Check(corrupt(source.to_string(), timeline, restored.commit, &wrong)))
            }
            None => Ok((restored, look(options.output))),
        }),
    }
}

/// The replica gives back what was committed, and SQLite finds something wrong with that.
fn corrupt(place: String, timeline: Option<Timeline>, commit: CommitNo, wrong: &str) -> Finding {
    let on = timeline.map(|timeline| format!(" --timeline {timeline}")).unwrap_or_default();
    Finding {
        status: Some(Status::Integrity),
        what: format!("commit {commit}: integrity_check: {wrong}"),
        where_: place,
        remedy: format!(
            "the database itself was corrupt then, and the replica is right: look for an earlier \
             commit that passes, with bakelite restore --check full{on} and --at or --commit"
        ),
    }
}

#[cfg(test)]
mod tests;
