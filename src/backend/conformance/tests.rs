use super::*;
use crate::backend::faulty::Faulty;
use crate::backend::fs::Fs;
use crate::backend::mem::Mem;
use crate::backend::{Entry, Listing};
use std::cell::RefCell;
use std::fmt;
use std::fs;
use std::sync::atomic::AtomicU64;

#[test]
fn memory_conforms() {
    suite(|| Arc::new(Mem::new().with_page(PAGE)));
    let mem = Mem::new().with_page(PAGE);
    foreign_keys(&mem, |key| drop(mem.objects().insert(key.to_owned(), vec![])));
}

#[test]
fn directories_conform() {
    let dirs = RefCell::new(vec![]);
    suite(|| {
        let dir = tempfile::tempdir().unwrap();
        let fs = Fs::open(dir.path()).unwrap().with_page(PAGE);
        dirs.borrow_mut().push(dir);
        Arc::new(fs)
    });
    let dir = tempfile::tempdir().unwrap();
    let backend = Fs::open(dir.path()).unwrap().with_page(PAGE);
    foreign_keys(&backend, |key| {
        let path = dir.path().join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"").unwrap();
    });
}

#[test]
fn a_faulty_backend_without_faults_conforms() {
    suite(|| Arc::new(Faulty::new(Arc::new(Mem::new().with_page(PAGE)))));
}

/// What a store may do instead of what it promises, in the order of the promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    ListsOneByteMore,
    GivesAllForABeginning,
    TakesNoLargeOnes,
    WritesOver,
    DoesNotReplace,
    ReplacesInTwoSteps,
    LetsAllWin,
    GivesNothingForTheAbsent,
    RefusesToDeleteTheAbsent,
    ListsAllPrefixes,
    ListsBackwards,
    ShowsHalves,
}

use Wrong::*;

const WRONGS: [Wrong; PROMISES.len()] = [
    ListsOneByteMore,
    GivesAllForABeginning,
    TakesNoLargeOnes,
    WritesOver,
    DoesNotReplace,
    ReplacesInTwoSteps,
    LetsAllWin,
    GivesNothingForTheAbsent,
    RefusesToDeleteTheAbsent,
    ListsAllPrefixes,
    ListsBackwards,
    ShowsHalves,
];

struct Liar {
    mem: Mem,
    wrong: Wrong,
    /// At the first object: begun, ended.
    looks: [AtomicU64; 2],
}

impl Liar {
    /// Waits until the one who reads the first object has looked at what there is between two steps of
    /// its first writing: a look that has begun after this one did is over.
    fn be_looked_at(&self, body: &[u8]) {
        let [begun, ended] = &self.looks;
        let before = begun.load(Ordering::SeqCst);
        while body.first() == Some(&1) && ended.load(Ordering::SeqCst) <= before {
            thread::yield_now();
        }
    }

    fn error(&self, kind: Kind) -> Error {
        let (operation, place, cause) = ("lie", self.to_string(), "as told".to_owned());
        Error { operation, place, name: String::new(), kind, cause, hint: None }
    }
}

impl fmt::Display for Liar {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:?}", self.wrong)
    }
}

impl Backend for Liar {
    fn put(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        match self.wrong {
            WritesOver | LetsAllWin => self.mem.replace(name, body),
            TakesNoLargeOnes if body.len() > 16 << 20 => Err(self.error(Kind::Full)),
            ShowsHalves => {
                self.mem.put(name, &body[..body.len() / 2])?;
                self.be_looked_at(body);
                self.mem.replace(name, body)
            }
            _ => self.mem.put(name, body),
        }
    }

    fn replace(&self, name: &Name, body: &[u8]) -> Result<(), Error> {
        match self.wrong {
            DoesNotReplace => Ok(()),
            ReplacesInTwoSteps => {
                self.mem.delete(name)?;
                self.be_looked_at(body);
                self.mem.replace(name, body)
            }
            _ => self.mem.replace(name, body),
        }
    }

    fn get(&self, name: &Name) -> Result<Vec<u8>, Error> {
        let look = u64::from(*name == change(0, 1));
        self.looks[0].fetch_add(look, Ordering::SeqCst);
        let got = self.mem.get(name);
        self.looks[1].fetch_add(look, Ordering::SeqCst);
        match self.wrong {
            GivesNothingForTheAbsent => Ok(got.unwrap_or_default()),
            _ => got,
        }
    }

    fn start(&self, name: &Name, bytes: usize) -> Result<Vec<u8>, Error> {
        match self.wrong {
            GivesAllForABeginning => self.get(name),
            _ => self.mem.start(name, bytes),
        }
    }

    fn list(&self, prefix: &str, after: Option<&Name>) -> Result<Listing, Error> {
        let prefix = if self.wrong == ListsAllPrefixes { "" } else { prefix };
        let mut page = self.mem.list(prefix, after)?;
        match self.wrong {
            ListsBackwards => page.entries.reverse(),
            ListsOneByteMore => {
                let more = |it: Entry| Entry { bytes: it.bytes + 1, ..it };
                page.entries = page.entries.into_iter().map(more).collect();
            }
            _ => {}
        }
        Ok(page)
    }

    fn delete(&self, name: &Name) -> Result<(), Error> {
        match self.mem.objects().contains_key(&name.to_string()) {
            false if self.wrong == RefusesToDeleteTheAbsent => Err(self.error(Kind::NotFound)),
            _ => self.mem.delete(name),
        }
    }

    fn renew(&self, _: &Name) -> Result<(), Error> {
        Ok(())
    }
}

#[test]
fn each_promise_is_broken_by_a_store_that_does_not_keep_it() {
    for ((promise, keep), wrong) in PROMISES.into_iter().zip(WRONGS) {
        let mem = Mem::new().with_page(PAGE);
        let seen =
            keep(&Liar { mem, wrong, looks: Default::default() }).map_err(|it| it.to_string());
        println!("{promise}: {seen:?}");
        assert!(seen.is_err(), "{wrong:?} passes: {promise}");
    }
}
