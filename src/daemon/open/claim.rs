//! The claim of a timeline: the record that says who writes a replica from now on, and from which
//! commit on.

use super::ground::{Listed, Tip};
use crate::backend::Kind;
use crate::clock;
use crate::commit::{CommitNo, PageSize, Timeline};
use crate::error::{Error, Result, Status};
use crate::name::Name;
use crate::replica::Replica;
use crate::sabotage;
use crate::snapshot::Fork;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

/// What came of a claim.
#[derive(Debug)]
pub enum Claimed {
    Ours(Timeline),
    /// It is not known: then it counts for nothing, and the next one is to be claimed.
    Unknown,
    /// A destination does not take it.
    Refused(usize, Error),
}

/// Claims the next timeline on every destination. Two that claim the same one at a time cannot both
/// succeed: a name is taken once.
///
/// Where another destination is further, the numbers between are claimed too, as timelines that
/// nothing was ever stored on: whoever writes there looks for the number after its own, and whoever
/// reads finds the way from each to what was there before. It is later than `least`, which
/// destinations that are away may know.
pub fn claim(
    listed: &[Listed],
    tip: &Tip,
    anew: bool,
    page_size: PageSize,
    least: Timeline,
    claimed: &AtomicU32,
) -> Result<Claimed> {
    // A record that is missing is put again: whoever writes looks for the number after its own.
    let newest = |each: &Listed| each.replica.newest_record().unwrap_or_default();
    let of_all = listed.iter().map(|each| each.replica.newest_timeline());
    let newest_of_all = of_all.max().unwrap_or_default();
    // A claim whose reply was lost may not be listed yet.
    let own = Timeline(claimed.load(Ordering::Relaxed));
    let timeline = Timeline(newest_of_all.max(tip.timeline).max(least).max(own).0 + 1);
    // Before it is known to be ours: a reply may be lost.
    claimed.store(timeline.0, Ordering::Relaxed);
    let leads_on = tip.commit.number > CommitNo(0) && listed.iter().all(|each| !each.is_lost);
    let parent = if leads_on { tip.timeline } else { Timeline(0) };
    let (commit, chain) = (tip.commit.number, tip.chain);
    let (held, held_chain) = (tip.held.0.number, tip.held.1);
    let less = (held < commit).then_some(held);
    let fork = Fork { parent, commit, chain, anew, held: less, placeholder: false };
    let now = clock::now();
    for each in listed {
        let destination = &each.destination;
        let placeholder = Fork {
            parent: newest(each),
            commit: held,
            chain: held_chain,
            anew: true,
            held: None,
            placeholder: true,
        };
        for number in newest(each).0 + 1..=timeline.0 {
            let number = Timeline(number);
            let fork = if number == timeline { &fork } else { &placeholder };
            let body = fork.encode(number, page_size, now);
            match destination.put(&Name::Timeline(number), &body) {
                Ok(()) => {}
                // It was not listed yet. Whoever claimed it is told by the number after it.
                Err(error) if error.kind == Kind::Exists && number < timeline => {}
                Err(error) if error.kind == Kind::Exists => {
                    let cause = "another daemon has just taken it up";
                    let error = Error::new(Status::Locked, "claim", destination, cause);
                    return Err(error.hint("let only one daemon write a replica"));
                }
                Err(error) if error.kind == Kind::Transient => return Ok(Claimed::Unknown),
                Err(error) => {
                    let error = Error { status: Status::Unreachable, ..Error::from(error) };
                    return Ok(Claimed::Refused(each.at, error));
                }
            }
        }
    }
    Ok(Claimed::Ours(timeline))
}

/// Whether anything was stored since the destinations were listed: by a daemon that had not seen the
/// claim yet, and may have acknowledged it.
pub fn has_news(listed: &[Listed]) -> Result<bool> {
    for each in listed {
        let known: BTreeSet<_> = stored(&each.replica).collect();
        let now = Replica::list(&*each.destination)?;
        if stored(&now).any(|name| !known.contains(name)) && !sabotage::is("trust-stale-listing") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn stored(replica: &Replica) -> impl Iterator<Item = &Name> {
    let names = replica.objects.iter().map(|entry| &entry.name);
    names.filter(|name| matches!(name, Name::Change(_) | Name::Snapshot(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::backend::faulty::{Fault, Faulty, Operation};
    use crate::backend::mem::Mem;
    use crate::commit::Time;
    use crate::daemon::open::ground;
    use crate::name::Span;
    use crate::testkit::rig::fanout;
    use std::sync::Arc;

    /// Found by a soak: a restore that came between the record of a number to fill up to the claim and the
    /// claim itself was refused, as if nothing had ever been finished, and a daemon killed there left it so.
    #[test]
    fn trap_63_a_claim_that_is_cut_short_takes_nothing_away() {
        let (dir, mem) = (tempfile::tempdir().unwrap(), Arc::new(Mem::new()));
        let stores = fanout(vec![mem.clone()], dir.path(), 0);
        let newest = || {
            let replica = Replica::list(&*mem).unwrap();
            replica.ancestry(&*mem).unwrap()[0].timeline
        };
        let size = PageSize::new(512).unwrap();
        let listed = || ground::list(&stores, &mut vec![0]).unwrap();
        let mut tip = ground::tip(&listed()).unwrap();
        let claim_after = |tip: &Tip, anew, least| {
            claim(&listed(), tip, anew, size, least, &AtomicU32::new(0)).unwrap();
        };
        claim_after(&tip, true, Timeline(0));
        let (first, last) = (CommitNo(1), CommitNo(1));
        let span = Span { first, last, time: Time(5), timeline: Timeline(1) };
        mem.put(&Name::Snapshot(span), b"stored").unwrap();
        (tip.timeline, tip.commit.number) = (Timeline(1), CommitNo(1));
        claim_after(&tip, false, Timeline(3));
        assert_eq!(newest(), Timeline(4));
        for cut in [4, 3, 2] {
            mem.delete(&Name::Timeline(Timeline(cut))).unwrap();
            assert_eq!(newest(), Timeline(1), "without {cut}");
        }
    }

    /// Found by torture: a bucket listed its timelines as they had been before the last start, and the number
    /// to fill up with was there. The daemon took it for somebody else's, and ended.
    #[test]
    fn trap_76_a_number_to_fill_up_with_may_be_there_already() {
        let (dir, faulty) =
            (tempfile::tempdir().unwrap(), Arc::new(Faulty::new(Arc::new(Mem::new()))));
        let stores = fanout(vec![Arc::new(Mem::new()), faulty.clone()], dir.path(), 0);
        let claim_once = || {
            let listed = ground::list(&stores, &mut vec![0, 1]).unwrap();
            let tip = ground::tip(&listed).unwrap();
            let size = PageSize::new(512).unwrap();
            claim(&listed, &tip, true, size, Timeline(0), &AtomicU32::new(0))
        };
        for number in 1..=2 {
            assert!(matches!(claim_once(), Ok(Claimed::Ours(it)) if it == Timeline(number)));
        }
        faulty.fail(Operation::List, 4, Fault::Stale);
        assert!(matches!(claim_once(), Ok(Claimed::Ours(Timeline(3)))));
        assert_eq!(faulty.fired(Fault::Stale), 1);
        // The number that is claimed itself is somebody's.
        let listed = ground::list(&stores, &mut vec![0, 1]).unwrap();
        faulty.put(&Name::Timeline(Timeline(4)), b"another's").unwrap();
        let (tip, size) = (ground::tip(&listed).unwrap(), PageSize::new(512).unwrap());
        let error = claim(&listed, &tip, true, size, Timeline(0), &AtomicU32::new(0)).unwrap_err();
        assert_eq!(error.status, Status::Locked);
    }

    /// A daemon that had not seen the claim yet stored it, and may have acknowledged it.
    #[test]
    fn trap_65_what_was_stored_since_the_listing_is_news() {
        let (dir, mem) = (tempfile::tempdir().unwrap(), Arc::new(Mem::new()));
        let stores = fanout(vec![mem.clone()], dir.path(), 0);
        let listed = ground::list(&stores, &mut vec![0]).unwrap();
        let span =
            Span { first: CommitNo(1), last: CommitNo(1), time: Time(5), timeline: Timeline(1) };
        mem.put(&Name::Timeline(Timeline(1)), b"a claim is no news").unwrap();
        assert!(!has_news(&listed).unwrap());
        mem.put(&Name::Snapshot(span), b"stored").unwrap();
        assert!(has_news(&listed).unwrap());
    }

    /// A full or read-only destination ended the daemon, which had another one to go to.
    #[test]
    fn trap_84_a_destination_that_takes_no_claim_is_told_from_one_whose_reply_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let faulty = Arc::new(Faulty::new(Arc::new(Mem::new())));
        let stores = fanout(vec![Arc::new(Mem::new()), faulty.clone()], dir.path(), 0);
        let claimed = AtomicU32::new(0);
        let mut reachable = vec![0, 1];
        let claim_once = |reachable: &mut Vec<usize>| {
            let listed = ground::list(&stores, reachable).unwrap();
            let tip = ground::tip(&listed).unwrap();
            let size = PageSize::new(512).unwrap();
            claim(&listed, &tip, true, size, Timeline(0), &claimed).unwrap()
        };
        faulty.fail(Operation::Put, 1, Fault::ReplyLost);
        assert!(matches!(claim_once(&mut reachable), Claimed::Unknown));
        // What was claimed is not claimed again, even where a listing does not show it yet.
        (1..=4).for_each(|nth| faulty.fail(Operation::List, nth, Fault::Stale));
        assert!(matches!(claim_once(&mut vec![1]), Claimed::Ours(Timeline(2))));
        faulty.fail(Operation::Put, 1, Fault::Full);
        let Claimed::Refused(at, error) = claim_once(&mut reachable) else { panic!() };
        ground::give_up(&stores, &mut reachable, at, error).unwrap();
        assert_eq!((at, &reachable[..]), (1, &[0][..]));
        assert!(matches!(claim_once(&mut reachable), Claimed::Ours(Timeline(4))));
    }
}
