//! Upkeep of a sealed replica: what is merged is sealed like all else, and beside a `reencrypt` neither
//! takes the other's work for damage.

use super::*;
use crate::backend::sealed::sealed;
use crate::compact::tests::points;
use crate::model::Writer;
use crate::object::sealed_under;
use crate::reencrypt::{self, reencrypt};
use crate::seal::{Key, Rule};
use crate::verify::verify;

fn keys(rule: Rule) -> Arc<Keys> {
    let key = Key::new(&zeroize::Zeroizing::new([7; 32]));
    Arc::new(Keys { all: vec![key], rule })
}

/// Everything that is there is sealed; and opened, it is the writer's replica.
fn open_all(writer: &Writer, mem: &Mem, keys: &Keys) {
    let mut objects = writer.store.objects();
    objects.clear();
    for (key, body) in mem.objects().iter() {
        assert_eq!(sealed_under(body), Some(keys.all[0].id), "{key}");
        let plain = keys.open(&key.parse().unwrap(), body.clone()).unwrap();
        objects.insert(key.clone(), plain);
    }
}

#[test]
fn what_is_merged_is_sealed_and_what_is_at_hand_is_plain() {
    let mut writer = seconds(20);
    writer.snapshot();
    for n in 21..=60 {
        writer.alone(&Step::fill(5, [n % 5 + 1], n));
    }
    writer.snapshot();
    let (mem, keys) = (Arc::new(Mem::new()), keys(Rule::Auto));
    let store = sealed(Arc::clone(&mem) as Arc<dyn Backend>, &keys);
    for (key, body) in writer.store.objects().iter() {
        store.put(&key.parse().unwrap(), body).unwrap();
    }
    let plain = writer.store.objects().clone();
    let made = std::sync::Mutex::new(Vec::new());
    let policy = policy(&["all:20s", "5s:30s"], &[5, 15]);
    let round = crate::upkeep::Round {
        recent: &|name| plain.get(&name.to_string()).cloned(),
        keep_recent: &|merged| made.lock().unwrap().push(merged.body.clone()),
        ..at(&policy, Time(10_000_100_000))
    };
    let sources = [store];
    let done = round.compact(&sources).unwrap();
    assert_eq!((done.read_bytes, done.errors.len()), (0, 0), "all of it was at hand: {done:?}");
    let pruned = round.prune(&sources, Parts::Collect, Mode::Real).unwrap();
    assert!(done.made > 3 && pruned.errors.is_empty() && !pruned.pruned.is_empty());
    let made = made.into_inner().unwrap();
    assert!(made.iter().all(|body| sealed_under(body).is_none()) && made.len() > 3);
    assert_eq!(verify(&sources[0], None, &Quiet).unwrap().findings, []);
    open_all(&writer, &mem, &keys);
    assert_eq!(points(&writer, 40..=60), Vec::from_iter(40..=60));
}

/// An object that is gone when it is to be sealed is no error, and one that a round finds sealed
/// meanwhile is the same as before.
#[test]
fn trap_97_a_round_beside_a_reencrypt_does_no_harm() {
    let (mut fired, keys) = (0, keys(Rule::New));
    for call in 0.. {
        let mut writer = seconds(40);
        writer.snapshot();
        let (store, policy) = (Arc::clone(&writer.store), policy(&["all:40s"], &[5, 15]));
        let busy = Busy { keys: Arc::clone(&keys), ..Busy::new(store, call, policy) };
        let order = reencrypt::Order { keys: &keys, target: Some(&keys.all[0]), dry_run: false };
        let report = reencrypt(&busy, order, &Quiet).unwrap();
        assert_eq!((report.errors.len(), report.remaining), (0, 0), "a round at call {call}");
        let all = sealed(Arc::clone(&busy.store) as Arc<dyn Backend>, &keys);
        assert_eq!(verify(&all, None, &Quiet).unwrap().findings, [], "a round at call {call}");
        let sources = [Arc::clone(&all)];
        let round = at(&busy.policy, Time(10_000_100_000));
        let done = round.compact(&sources).unwrap();
        let done = done.and(round.prune(&sources, Parts::Collect, Mode::Real).unwrap());
        assert!(done.errors.is_empty(), "{:?}", done.errors);
        let again = reencrypt(&*busy.store, order, &Quiet).unwrap();
        assert_eq!((again.errors.len(), again.remaining), (0, 0));
        let mem = Mem::new();
        mem.objects().clone_from(&busy.store.objects());
        open_all(&writer, &mem, &keys);
        assert_eq!(points(&writer, [1, 17, 40].into_iter()), [1, 17, 40]);
        if busy.calls.load(Ordering::SeqCst) <= call {
            break;
        }
        fired += 1;
    }
    assert!(fired > 40, "{fired} rounds");
}
