use super::*;
use crate::backend::faulty::Faulty;
use crate::backend::fs::Fs;
use crate::backend::mem::Mem;
use crate::backend::{Entry, Listing};
use std::cell::RefCell;
use std::fmt;
use std::fs;

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
    ComparesLengths,
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
    ComparesLengths,
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

/// Of a body, as long as it is not whole.
const HALF: usize = 1000;

struct Liar {
    mem: Mem,
    wrong: Wrong,
    /// Whether somebody was shown what stands between two steps of a writing.
    shown: AtomicBool,
}

impl Liar {
    /// Waits, between two steps of the first object's first writing, until what stands there then was
    /// shown: whoever sees it ends, and may have done so before this is called.
    fn be_looked_at(&self, body: &[u8]) {
        while body.first() == Some(&1) && !self.shown.load(Ordering::SeqCst) {
            thread::yield_now();
        }
    }

    fn shows(&self, half: bool) {
        self.shown.fetch_or(half, Ordering::SeqCst);
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
                self.mem.put(name, &body[..HALF])?;
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
        let got = self.mem.get(name);
        match self.wrong {
            GivesNothingForTheAbsent => return Ok(got.unwrap_or_default()),
            ReplacesInTwoSteps => self.shows(got.is_err()),
            ShowsHalves => self.shows(got.as_ref().is_ok_and(|body| body.len() == HALF)),
            _ => {}
        }
        got
    }

    fn holds(&self, name: &Name, body: &[u8]) -> Result<bool, Error> {
        match self.wrong {
            ComparesLengths => Ok(self.get(name)?.len() == body.len()),
            _ => self.mem.holds(name, body),
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
            ShowsHalves => self.shows(page.entries.iter().any(|it| it.bytes == HALF as u64)),
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
            keep(&Liar { mem, wrong, shown: AtomicBool::new(false) }).map_err(|it| it.to_string());
        println!("{promise}: {seen:?}");
        assert!(seen.is_err(), "{wrong:?} passes: {promise}");
    }
}
