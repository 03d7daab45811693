//! What a `sync` sees for itself: whether the destinations hold what the cursor says, and whether there is
//! anything to do at all.
//!
//! A destination that was wiped a moment ago is known to nobody before it is asked. So it is asked, by its
//! names, before a `sync` says that all is durable there.

use super::open::{self, Signed, open_to_read};
use super::sync::is_snapshot_wanted;
use crate::backend::Backend;
use crate::commit::{CommitNo, Timeline};
use crate::config::{Database, Origin};
use crate::cursor::State;
use crate::error::{Error, Result, Status};
use crate::replica::Replica;
use crate::source::Source;
use crate::spool::Spool;

/// A destination that does not hold a commit, given its timeline. One that cannot be asked from here, since
/// its credentials are the daemon's alone, is taken at the daemon's word.
pub fn lacking(database: &Database, commit: (Timeline, CommitNo)) -> Option<Origin> {
    waited_for(database).into_iter().find(|origin| matches!(holds(origin, commit), Ok(None)))
}

/// All but mirrors.
fn waited_for(database: &Database) -> Vec<Origin> {
    let mut origins = database.clone().origins();
    origins.retain(|origin| !database.mirrors.contains(&origin.destination));
    origins
}

/// What a destination holds, if that commit is among it, or a later one that goes on from it: upkeep may
/// have removed the restore point.
fn holds(origin: &Origin, commit: (Timeline, CommitNo)) -> Result<Option<Replica>> {
    let found = open_to_read(origin).and_then(|source| listed(&*source, commit));
    match found {
        // It is not there, or a record that others need is not.
        Err(error) if matches!(error.status, Status::Missing | Status::Integrity) => Ok(None),
        found => found,
    }
}

fn listed(
    source: &dyn Backend,
    (timeline, commit): (Timeline, CommitNo),
) -> Result<Option<Replica>> {
    let replica = Replica::list(source)?;
    let ancestry = replica.ancestry(source)?;
    let mut its_own = ancestry.iter().filter(|at| at.timeline == timeline && at.until >= commit);
    let counts = its_own.next().is_some();
    let held = counts && replica.runs(&ancestry).iter().any(|run| run.end().last >= commit);
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
    let is_ours = |origin: &Origin| match holds(origin, (state.timeline, state.commit.number)) {
        Ok(Some(replica)) => replica.newest_timeline() <= signed.claimed(),
        Ok(None) | Err(_) => false,
    };
    let waited_for = waited_for(database);
    let owes_snapshot =
        state.commit.time > state.snapshot && is_snapshot_wanted(&database.state_dir);
    state.commit.digest.is_some()
        && !owes_snapshot
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{Db, commits};
    use std::fs;

    /// A `sync` waited for a restore point that upkeep had removed meanwhile, and said that it had been
    /// stolen. What goes on from it holds it.
    #[test]
    fn a_point_that_is_gone_is_held_by_what_goes_on_from_it() {
        let db = Db::new(4096);
        let (writer, database) = (db.open(), db.config());
        let sync = || crate::daemon::sync(std::slice::from_ref(&database)).unwrap();
        let root = db.dir.path().join("replica");
        let files = |kind: &str| {
            let files = fs::read_dir(root.join(kind)).unwrap().map(|file| file.unwrap().path());
            let mut files: Vec<_> = files.collect();
            files.sort();
            files
        };
        let lacks =
            |timeline, commit| lacking(&database, (Timeline(timeline), CommitNo(commit))).is_some();
        commits(&writer, 3);
        sync();
        commits(&writer, 1);
        crate::daemon::ask_for_snapshot(&database).unwrap();
        sync();
        assert_eq!((files("snapshot").len(), lacks(1, 1), lacks(2, 2)), (2, false, false));
        fs::remove_file(&files("snapshot")[0]).unwrap();
        files("change/0").iter().for_each(|file| fs::remove_file(file).unwrap());
        assert!(!lacks(1, 1) && !lacks(2, 2));
        assert!(lacks(2, 3) && lacks(1, 2) && lacks(3, 1), "of others, or not there");
    }
}
