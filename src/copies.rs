//! The destinations of one database as one replica to read from.
//!
//! One of them leads: the one with the newest commit, and of equals the first. What it lacks, what is
//! damaged there and what cannot be read comes from the others, under the same name. A commit number
//! means something on a timeline only, so objects of a timeline are never taken from a destination
//! where its record says something else. Whoever restores proves the result by its digest.
//!
//! Nothing is written, and what had to come from elsewhere is remembered, to be told.

use crate::backend::{self, Backend, Entry, Kind, Listing, NONE_HERE};
use crate::commit::{CommitNo, Timeline};
use crate::error::{Error, Result, Status};
use crate::name::Name;
use crate::object::{Damage, Object};
use crate::replica::{Replica, damaged, list_whole};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

/// One destination, and what it lists.
struct Copy {
    source: Arc<dyn Backend>,
    replica: Mutex<Arc<Replica>>,
    /// Why the others are asked first: it does not answer, or what it holds does not fit together.
    last: OnceLock<String>,
}

pub struct Copies {
    all: Vec<Copy>,
    lead: usize,
    /// The others that end at the same commit of the same timeline.
    equals: Vec<usize>,
    /// What a reader should know of the destinations that do not lead.
    pub notes: Vec<Error>,
    /// Why one cannot be listed, that may hold what the others do not.
    failed: Option<Error>,
    listed: Mutex<Listed>,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Listed {
    /// What all of them hold of the leading one's replica, in the order of the names' text.
    entries: BTreeMap<String, Entry>,
    /// The prefixes that a reader was told all of.
    told: BTreeSet<String>,
}

#[derive(Default)]
struct Found {
    fallbacks: BTreeMap<Name, (usize, String)>,
    /// Objects that opened and did not fit.
    distrusted: BTreeSet<(usize, Name)>,
    /// Whether a destination's record of a timeline is the leading one's.
    agreed: HashMap<(usize, Timeline), bool>,
    alone: Option<String>,
}

/// An object that was not taken from the destination that leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    pub object: Name,
    pub from: String,
    /// What was wrong with the one of the destination that leads.
    pub why: String,
}

impl fmt::Debug for Copies {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_list().entries(self.all.iter().map(|copy| copy.source.to_string())).finish()
    }
}

/// Whether these bytes are not the object that they should be, and another copy may be. That nobody
/// here can read them says nothing against them.
pub fn damage(source: &dyn Backend, name: &Name, bytes: &[u8]) -> Option<Damage> {
    let damage = Object::open(name, bytes.to_vec()).err()?;
    (damaged(source, name, damage).status == Status::Integrity).then_some(damage)
}

impl Copies {
    /// Lists those that can be. Where none holds a replica, the error is that of one which cannot be
    /// listed: only if all answer, and all are empty, is there none.
    pub fn open(sources: Vec<Result<Arc<dyn Backend>>>) -> Result<Self> {
        let list = |source: Result<Arc<dyn Backend>>| {
            let source = source?;
            let replica = Mutex::new(Arc::new(Replica::list(&*source)?));
            Ok(Copy { source, replica, last: OnceLock::new() })
        };
        let listed: Vec<Result<Copy>> = thread::scope(|scope| {
            let threads: Vec<_> =
                sources.into_iter().map(|source| scope.spawn(move || list(source))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let (mut all, mut notes) = (Vec::new(), Vec::new());
        let (mut failed, mut empty) = (None, None);
        for copy in listed {
            match copy {
                Ok(copy) if !copy.replica().is_empty() => all.push(copy),
                Ok(copy) => {
                    notes.push(nothing(&copy.source).hint(AWAY));
                    empty.get_or_insert_with(|| nothing(&copy.source));
                }
                Err(error) => {
                    let own = error.hint.clone().filter(|_| error.status == Status::Key);
                    notes.push(error.clone().hint(own.unwrap_or_else(|| AWAY.into())));
                    let kind =
                        if error.status == Status::Missing { &mut empty } else { &mut failed };
                    kind.get_or_insert(error);
                }
            }
        }
        match failed.as_ref().or(empty.as_ref()) {
            Some(error) if all.is_empty() => return Err(error.clone()),
            _ => {}
        }
        let (listed, found) = (Mutex::default(), Mutex::default());
        let mut copies = Self { all, lead: 0, equals: Vec::new(), notes, failed, listed, found };
        copies.choose();
        Ok(copies)
    }

    /// Does `work` on all of them as one. An object that does not fit what it is put to is tried again
    /// as another copy has it.
    pub fn all_as_one<T>(
        self: &Arc<Self>,
        work: impl Fn(&Arc<dyn Backend>) -> Result<T>,
    ) -> Result<T> {
        let source = Arc::clone(self) as Arc<dyn Backend>;
        let error = loop {
            match work(&source) {
                Err(error) if self.distrust(&error) => {}
                // What answers may have been filled only in part from the one that does not.
                Err(Error { status: Status::Missing | Status::Integrity, .. })
                    if self.failed.is_some() && self.is_bare() =>
                {
                    return Err(self.failed.clone().expect("there is one"));
                }
                Err(error) if error.status == Status::Integrity => break error,
                done => return done,
            }
        };
        self.one_alone(&error, work).ok_or(error)
    }

    /// Whether nothing at all can be restored from what was listed.
    fn is_bare(&self) -> bool {
        let replica = Replica::of(self.listed().entries.values().cloned().collect());
        replica.ancestry(self).is_ok_and(|ancestry| replica.runs(&ancestry).is_empty())
    }

    /// The same with another one alone that ends where the leading one does. If that mixes two histories,
    /// what others have of the right one is not of its own, and was left out.
    fn one_alone<T>(
        &self,
        error: &Error,
        work: impl Fn(&Arc<dyn Backend>) -> Result<T>,
    ) -> Option<T> {
        let sources = self.equals.iter().map(|at| &self.all[*at].source);
        let (source, done) = sources.filter_map(|it| Some((it, work(it).ok()?))).next()?;
        let mut found = self.found();
        found.fallbacks.clear();
        found.alone = Some(format!("{}; restored from {source} alone", error.message));
        Some(done)
    }

    /// Why it was done with one alone, if it was, and with which.
    pub fn alone(&self) -> Option<String> {
        self.found().alone.clone()
    }

    /// Lists all of them again. One that cannot be listed keeps what it had, as long as another one can.
    fn list_anew(&self) -> std::result::Result<(), backend::Error> {
        let listed: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = self
                .all
                .iter()
                .map(|copy| scope.spawn(move || list_whole(&*copy.source)))
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        if listed.iter().all(std::result::Result::is_err) {
            return listed.into_iter().try_for_each(|it| it.map(drop));
        }
        for (copy, listed) in self.all.iter().zip(listed) {
            if let Ok(listed) = listed {
                *copy.locked() = Arc::new(Replica::of(listed.entries));
            }
        }
        let entries = self.entries_of(self.lead, true);
        self.listed().entries = entries;
        Ok(())
    }

    /// Has the newest one lead.
    fn choose(&mut self) {
        let ranks: Vec<_> = (0..self.all.len()).map(|at| self.rank(at)).collect();
        let newest = ranks.iter().max().copied().expect("there is one");
        let newest_timeline = |at: &usize| self.all[*at].replica().newest_timeline();
        let lead = match newest {
            Some(_) => ranks.iter().position(|rank| *rank == newest),
            // One that was only begun to be filled would hide what is wrong with another.
            None => (0..ranks.len()).rev().max_by_key(newest_timeline),
        };
        let lead = lead.expect("it is one of them");
        let place = |at: usize| &self.all[at].source;
        for (at, rank) in
            ranks.iter().enumerate().filter(|(at, rank)| *at < lead && **rank < newest)
        {
            let commit = |rank: &Rank| rank.map_or(CommitNo(0), |(_, commit)| commit);
            let (ends, newest) = (commit(rank), commit(&newest));
            let cause =
                format!("behind, it ends at commit {ends}, and {} at {newest}", place(lead));
            let note = Error::new(Status::Missing, "restore", place(at), cause);
            self.notes.push(note.hint(AWAY));
        }
        self.lead = lead;
        let equals = (0..ranks.len()).filter(|at| *at != lead && ranks[*at] == newest);
        self.equals = equals.collect();
        let entries = self.entries_of(lead, true);
        self.listed().entries = entries;
    }

    /// The newest commit that a destination itself holds; none if nobody can tell.
    fn rank(&mut self, at: usize) -> Rank {
        self.lead = at;
        self.found().agreed.clear();
        let replica = Replica::of(self.entries_of(at, false).into_values().collect());
        let rank = replica.ancestry(self).ok().and_then(|ancestry| replica.newest(&ancestry));
        let mut found = self.found();
        found.agreed.clear();
        found.fallbacks.clear();
        rank.map(|span| (span.timeline, span.last))
    }

    /// What a destination holds, and what others have of the same replica: the timelines' records
    /// that it must have had, and the rest if `all` is asked for.
    fn entries_of(&self, at: usize, all: bool) -> BTreeMap<String, Entry> {
        let own = self.all[at].replica();
        let used = own.objects.iter().filter_map(|entry| entry.name.timeline()).max();
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        let mut add = |entry: &Entry| {
            entries.entry(entry.name.to_string()).or_insert_with(|| entry.clone());
        };
        own.objects.iter().for_each(&mut add);
        let known: BTreeSet<&Name> = own.objects.iter().map(|entry| &entry.name).collect();
        for other in (0..self.all.len()).filter(|other| *other != at) {
            let theirs = self.all[other].replica();
            for entry in theirs.objects.iter().filter(|entry| !known.contains(&entry.name)) {
                let counts = match entry.name.timeline() {
                    timeline if timeline > used => false,
                    _ if matches!(entry.name, Name::Timeline(_)) => true,
                    _ if !all => false,
                    None => true,
                    Some(timeline) => self.agrees(other, timeline),
                };
                if counts {
                    add(entry);
                }
            }
        }
        entries
    }

    fn listed(&self) -> MutexGuard<'_, Listed> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a destination knows a timeline as the leading one does. One that has lost its record
    /// does not say otherwise.
    fn agrees(&self, at: usize, timeline: Timeline) -> bool {
        if let Some(known) = self.found().agreed.get(&(at, timeline)) {
            return *known;
        }
        let name = Name::Timeline(timeline);
        let theirs = self.sound(at, &name);
        let agrees = theirs.is_err()
            || match self.sound(self.lead, &name) {
                Ok(ours) => theirs.is_ok_and(|theirs| theirs == ours),
                Err(_) => true,
            };
        self.found().agreed.insert((at, timeline), agrees);
        agrees
    }

    /// An object as one destination has it, if that opens; else what is wrong.
    fn sound(&self, at: usize, name: &Name) -> std::result::Result<Vec<u8>, Box<Refused>> {
        if self.found().distrusted.contains(&(at, name.clone())) {
            let why = "it does not fit the others".into();
            return Err(Box::new(Refused { why, outcome: None }));
        }
        let copy = &self.all[at];
        match copy.source.get(name) {
            Ok(bytes) => match damage(&*copy.source, name, &bytes) {
                Some(damage) => {
                    let why = damage.to_string();
                    Err(Box::new(Refused { why, outcome: Some(Ok(bytes)) }))
                }
                None => Ok(bytes),
            },
            Err(error) => {
                if !matches!(error.kind, Kind::NotFound | Kind::Corrupt) {
                    copy.last.get_or_init(|| error.cause.clone());
                }
                Err(Box::new(Refused { why: error.cause.clone(), outcome: Some(Err(error)) }))
            }
        }
    }

    /// After an error of what was read: whether it can be tried again, with another copy of the
    /// object that is to blame. Of two that do not fit each other that may be the wrong one: in the
    /// end, everything is taken from the next destination first.
    pub fn distrust(&self, error: &Error) -> bool {
        if error.status != Status::Integrity {
            return false;
        }
        let mut found = self.found();
        if let Some(name) = error.object.as_deref() {
            let from = found.fallbacks.get(name).map_or(self.lead, |(from, _)| *from);
            let new = found.distrusted.insert((from, name.clone()));
            let mut others = (0..self.all.len()).filter(|at| self.all[*at].holds(name));
            if new && others.any(|at| !found.distrusted.contains(&(at, name.clone()))) {
                return true;
            }
        }
        found.distrusted.clear();
        found.fallbacks.clear();
        let mut order = self.order().into_iter().map(|at| &self.all[at]);
        let first = order.next().filter(|first| first.last.get().is_none());
        first.is_some_and(|first| {
            first.last.get_or_init(|| "what it holds does not fit together".into());
            order.any(|next| next.last.get().is_none())
        })
    }

    /// In which order destinations are asked.
    fn order(&self) -> Vec<usize> {
        let others = (0..self.all.len()).filter(|at| *at != self.lead);
        let mut order: Vec<usize> = std::iter::once(self.lead).chain(others).collect();
        order.sort_by_key(|at| self.all[*at].last.get().is_some());
        order
    }

    /// What was not taken from the destination that leads, so far.
    pub fn fallbacks(&self) -> Vec<Fallback> {
        let found = self.found();
        let told = found.fallbacks.iter().map(|(object, (from, why))| Fallback {
            object: object.clone(),
            from: self.all[*from].source.to_string(),
            why: why.clone(),
        });
        told.collect()
    }
}

/// A destination's newest commit.
type Rank = Option<(Timeline, CommitNo)>;

/// An object that is of no use, and what a plain get of it gave.
struct Refused {
    why: String,
    outcome: Option<std::result::Result<Vec<u8>, backend::Error>>,
}

impl Copy {
    fn locked(&self) -> MutexGuard<'_, Arc<Replica>> {
        self.replica.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replica(&self) -> Arc<Replica> {
        Arc::clone(&self.locked())
    }

    fn holds(&self, name: &Name) -> bool {
        self.replica().objects.binary_search_by(|entry| entry.name.cmp(name)).is_ok()
    }
}

/// What becomes of a destination that does not have what others have.
const AWAY: &str = "the others are read; once it is back, a daemon brings it up to date, and so does: \
                    bakelite repair";

fn nothing(source: &Arc<dyn Backend>) -> Error {
    Error::new(Status::Missing, "restore", source, "there is no replica here").hint(NONE_HERE)
}

impl fmt::Display for Copies {
    /// As the one that leads.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.all[self.lead].source.fmt(f)
    }
}

impl Copies {
    fn refuse<T>(
        &self,
        operation: &'static str,
        name: &Name,
    ) -> std::result::Result<T, backend::Error> {
        Err(backend::Error {
            operation,
            place: self.to_string(),
            name: name.to_string(),
            kind: Kind::Denied,
            cause: "several destinations are only read together".into(),
            hint: None,
        })
    }
}

impl Backend for Copies {
    fn put(&self, name: &Name, _body: &[u8]) -> std::result::Result<(), backend::Error> {
        self.refuse("put", name)
    }

    fn replace(&self, name: &Name, _body: &[u8]) -> std::result::Result<(), backend::Error> {
        self.refuse("replace", name)
    }

    fn renew(&self, name: &Name) -> std::result::Result<(), backend::Error> {
        self.refuse("renew", name)
    }

    /// From the one that leads, else from the next one that has it whole. If nobody has, it is as the
    /// leading one has it, for the reader to refuse.
    fn get(&self, name: &Name) -> std::result::Result<Vec<u8>, backend::Error> {
        let mut why = self.all[self.lead].last.get().cloned().unwrap_or_default();
        let mut outcome = None;
        let held = |at: &usize| *at == self.lead || self.all[*at].holds(name);
        for at in self.order().into_iter().filter(held) {
            let own = at == self.lead;
            let is_record = matches!(name, Name::Timeline(_));
            let timeline = name.timeline().filter(|_| !own && !is_record);
            if timeline.is_some_and(|timeline| !self.agrees(at, timeline)) {
                continue;
            }
            match self.sound(at, name) {
                Ok(bytes) => {
                    if !own {
                        self.found().fallbacks.insert(name.clone(), (at, why));
                    }
                    return Ok(bytes);
                }
                Err(refused) => {
                    if own {
                        why = refused.why;
                    }
                    if own || outcome.is_none() {
                        outcome = refused.outcome.or(outcome);
                    }
                }
            }
        }
        outcome.unwrap_or_else(|| self.all[self.lead].source.get(name))
    }

    /// All at once: it is known already. Who asks for the same again wants to know what there is by now.
    fn list(
        &self,
        prefix: &str,
        after: Option<&Name>,
    ) -> std::result::Result<Listing, backend::Error> {
        if after.is_none() && !self.listed().told.insert(prefix.to_owned()) {
            self.list_anew()?;
            self.listed().told = [prefix.to_owned()].into();
        }
        let after = after.map(Name::to_string).unwrap_or_default();
        let listed = self.listed();
        let named =
            listed.entries.iter().filter(|(key, _)| key.starts_with(prefix) && **key > after);
        let entries = named.map(|(_, entry)| entry.clone()).collect();
        Ok(Listing { entries, foreign: Vec::new(), more: false })
    }

    fn delete(&self, name: &Name) -> std::result::Result<(), backend::Error> {
        self.refuse("delete", name)
    }
}

#[cfg(test)]
mod tests;
