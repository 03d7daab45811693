//! What a `sync` sees for itself: whether the destinations hold what the cursor says, and whether there is
//! anything to do at all.
//!
//! A destination that was wiped a moment ago is known to nobody before it is asked. So it is asked, by its
//! names, before a `sync` says that all is durable there.

use super::open::{self, Signed, open_to_read};
use crate::backend::Backend;
use crate::commit::CommitNo;
use crate::config::{Database, Origin};
use crate::cursor::State;
use crate::error::{Error, Result, Status};
use crate::replica::Replica;
use crate::source::Source;
use crate::spool::Spool;

/// A destination that does not hold a commit. One that cannot be asked from here, since its credentials
/// are the daemon's alone, is taken at the daemon's word.
pub fn lacking(database: &Database, commit: CommitNo) -> Option<Origin> {
    waited_for(database).into_iter().find(|origin| matches!(holds(origin, commit), Ok(None)))
}

/// All but mirrors.
fn waited_for(database: &Database) -> Vec<Origin> {
    let mut origins = database.clone().origins();
    origins.retain(|origin| !database.mirrors.contains(&origin.destination));
    origins
}

/// What a destination holds, if that commit is among it.
fn holds(origin: &Origin, commit: CommitNo) -> Result<Option<Replica>> {
    let found = open_to_read(origin).and_then(|source| listed(&*source, commit));
    match found {
        // It is not there, or a record that others need is not.
        Err(error) if matches!(error.status, Status::Missing | Status::Integrity) => Ok(None),
        found => found,
    }
}

fn listed(source: &dyn Backend, commit: CommitNo) -> Result<Option<Replica>> {
    let replica = Replica::list(source)?;
    let ancestry = replica.ancestry(source)?;
    let held = replica.runs(&ancestry).iter().any(|run| run.holds(commit));
    Ok(held.then_some(replica))
}

/// Whether the WAL is just where the cursor stands, and every destination has all of that: then there is
/// nothing to take up, and no timeline is claimed for it. Whatever is in doubt is for a start to find out.
pub fn is_settled(database: &Database, state: &State, source: &mut Source) -> bool {
    let Some(signed) = Signed::read(&database.state_dir) else { return false };
    let has_all = |origin: &Origin| {
        let spool = Spool::new(&database.state_dir, &origin.to_string());
        signed.knows(&origin.destination) && matches!(spool.owes(state.commit.number), Ok(false))
    };
    let is_ours = |origin: &Origin| match holds(origin, state.commit.number) {
        Ok(Some(replica)) => replica.newest_timeline() <= signed.claimed(),
        Ok(None) | Err(_) => false,
    };
    let waited_for = waited_for(database);
    state.commit.digest.is_some()
        && signed.counts(state.timeline)
        && open::identity(&database.path).is_ok_and(|it| it == state.identity)
        && is_at(state, source)
        && waited_for.iter().all(has_all)
        && waited_for.iter().all(is_ours)
}

/// Whether nothing was published since, in the same generation of the WAL.
fn is_at(state: &State, source: &mut Source) -> bool {
    source.go_to(state.mark);
    let there = matches!(source.continues(), Ok(true));
    there && source.steady_look().is_some_and(|it| it.frames == state.mark.position.frame)
}

/// What a destination is waited for that does not hold what it has acknowledged.
pub fn robbed(origin: &Origin) -> Error {
    let cause = "does not hold what was stored there";
    let error = Error::new(Status::Unreachable, "sync", origin, cause);
    error.hint("it is filled again as soon as the daemon has seen that; see: bakelite status")
}
