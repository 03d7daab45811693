//! Parsers against wrong inputs: `torture fuzz`.
//!
//! A target makes inputs from right ones and says what must hold for each, whatever it is: more than
//! that nothing panics. What is parsed and written again is the same, an error names its thing, a
//! small input takes little memory. Every run follows from seed, target and number alone.
//!
//! Nothing here sees which code a run has reached. Instead inputs are changed by those who know their
//! structure, and in half of the cases what guards the rest (checksums, hashes, lineages) is mended, so
//! that a wrong field is met by the code that reads it.

mod campaign;
mod local;
mod logs;
mod made;
mod memory;
mod mutate;
mod objects;
mod record;
mod recovery;
mod sealed;
mod texts;
mod xml;

pub use campaign::run;
pub use record::Record;

use crate::rng::Rng;
use argh::FromArgs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// feed wrong inputs to every parser, or to those that are named
#[derive(FromArgs, Clone, Debug)]
#[argh(subcommand, name = "fuzz")]
pub struct Args {
    /// their names
    #[argh(positional)]
    pub targets: Vec<String>,
    /// the seed
    #[argh(option)]
    pub seed: Option<u64>,
    /// how long, all of them together
    #[argh(option)]
    pub minutes: Option<f64>,
    /// how many runs of each, in place of a time
    #[argh(option)]
    pub runs: Option<u64>,
    /// only the run of that number
    #[argh(option)]
    pub run: Option<u64>,
    /// how many at a time
    #[argh(option, default = "2")]
    pub jobs: usize,
    /// write down what came of it for the matrix, in torture/records
    #[argh(switch)]
    pub record: bool,
    /// only name them
    #[argh(switch)]
    pub list: bool,
    /// where to keep inputs that were not stood; else target/torture
    #[argh(option)]
    pub keep: Option<PathBuf>,
    /// where one target writes its figures, and how far it has come
    #[argh(option)]
    pub figures: Option<PathBuf>,
}

/// A parser, and what is tried on it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub name: &'static str,
    pub parses: &'static str,
    /// What must hold, besides that nothing panics and memory is bounded.
    pub holds: &'static str,
    /// Of the time, against the others'.
    share: u64,
    /// Runs of it among the tests.
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests are the ones to ask"))]
    sample: u64,
    make: fn() -> Box<dyn Fuzz>,
}

const OBJECT: &str =
    "opens with its own hashes only; what opens encodes to the same commits and pages";

pub const TARGETS: &[Target] = &[
    Target {
        name: "wal",
        parses: "a WAL: header, frames, where it ends and why",
        holds: "frames and end are those of a second decoder; from each position the rest is read again",
        share: 3,
        sample: 4000,
        make: || Box::new(logs::Wal::new()),
    },
    Target {
        name: "recovery",
        parses: "a WAL beside its database, as SQLite recovers them",
        holds: "the same last commit, the same number of pages, the same content of every page",
        share: 24,
        sample: 1500,
        make: || Box::new(recovery::Recovery::new()),
    },
    Target {
        name: "change",
        parses: "a change-set, and its undo patches",
        holds: OBJECT,
        share: 4,
        sample: 1000,
        make: || Box::new(objects::Objects::changes()),
    },
    Target {
        name: "manifest",
        parses: "a snapshot's manifest",
        holds: OBJECT,
        share: 2,
        sample: 2000,
        make: || Box::new(objects::Objects::manifests()),
    },
    Target {
        name: "part",
        parses: "a part of a snapshot",
        holds: OBJECT,
        share: 2,
        sample: 1000,
        make: || Box::new(objects::Objects::parts()),
    },
    Target {
        name: "timeline",
        parses: "a timeline's start",
        holds: OBJECT,
        share: 1,
        sample: 2000,
        make: || Box::new(objects::Objects::timelines()),
    },
    Target {
        name: "sealed",
        parses: "a sealed object",
        holds: "opens unchanged only, even with its checksums mended",
        share: 2,
        sample: 1000,
        make: || Box::new(sealed::Sealed::new()),
    },
    Target {
        name: "cursor",
        parses: "the cursor of a daemon",
        holds: "what was written up to the damage is read, and nothing else",
        share: 2,
        sample: 4000,
        make: || Box::new(local::Cursors::new()),
    },
    Target {
        name: "index",
        parses: "the page index of a daemon",
        holds: "one hash changed is another digest; what lies past its end is zero",
        share: 1,
        sample: 1000,
        make: || Box::new(local::Indexes::new()),
    },
    Target {
        name: "name",
        parses: "the name of an object",
        holds: "one spelling each, and the order of texts is that of commits",
        share: 2,
        sample: 20_000,
        make: || Box::new(texts::Names::new()),
    },
    Target {
        name: "config",
        parses: "a configuration",
        holds: "an error has status 2, names the file and says what to do; nothing stands twice",
        share: 2,
        sample: 1000,
        make: || Box::new(texts::Configs::new()),
    },
    Target {
        name: "url",
        parses: "a destination's URL",
        holds: "what is shown of it is read as the same",
        share: 1,
        sample: 10_000,
        make: || Box::new(texts::Urls::new()),
    },
    Target {
        name: "listing",
        parses: "a page of ListObjectsV2",
        holds: "keys rise, all are below the prefix, and no cut page is a whole one",
        share: 2,
        sample: 2000,
        make: || Box::new(xml::Keys::new()),
    },
    Target {
        name: "versions",
        parses: "a page of ListObjectVersions",
        holds: "each version has key, name and size; what is written again is read as the same",
        share: 1,
        sample: 2000,
        make: || Box::new(xml::Versions::new()),
    },
    Target {
        name: "key",
        parses: "a key's file",
        holds: "a digit that is wrong is told, whichever it is",
        share: 1,
        sample: 4000,
        make: || Box::new(texts::KeyFiles::new()),
    },
    Target {
        name: "units",
        parses: "durations, sizes and the steps of keep",
        holds: "what is read and written in the smallest unit is the same, and nothing wraps",
        share: 1,
        sample: 20_000,
        make: || Box::new(texts::Units::new()),
    },
    Target {
        name: "time",
        parses: "times of RFC 3339, ages and times of HTTP",
        holds: "what is read and shown is read as the same; an error has status 2 and a hint",
        share: 1,
        sample: 10_000,
        make: || Box::new(texts::Times::new()),
    },
];

pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// One parser's inputs, and what must hold for them.
trait Fuzz {
    fn input(&mut self, rng: &mut Rng) -> Input;

    /// What became of it, or what does not hold.
    fn check(&mut self, input: &Input) -> Result<Seen, String>;

    /// The most bytes that this may take.
    fn memory(&self, input: &Input) -> usize {
        (64 << 10) + 64 * input.bytes.len()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Input {
    bytes: Vec<u8>,
    is: Is,
}

/// How an input came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    /// As the program itself writes it.
    Right,
    /// Changed anywhere. It may still be what it was.
    Changed,
    /// Changed, and what guards the rest made right again.
    Mended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Taken,
    Refused,
}

/// What a target has stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stood {
    pub taken: u64,
    pub refused: u64,
}

impl Stood {
    pub fn runs(&self) -> u64 {
        self.taken + self.refused
    }

    /// A target that only ever saw one of both shows nothing.
    pub fn shows_something(&self) -> bool {
        self.taken > 0 && self.refused > 0
    }
}

/// A run that did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fall {
    run: u64,
    wrong: String,
    input: Input,
}

/// How long to go on.
#[derive(Clone, Copy, Debug)]
enum Until {
    Runs(u64),
    Ended(Instant),
}

/// So many runs between looks at the clock. A crash of the process lies within as many.
const BATCH: u64 = 64;

impl Target {
    /// Runs number `first` and on, up to the first one that falls. `tell` hears where each batch begins.
    fn fuzz(
        &self,
        seed: u64,
        first: u64,
        until: Until,
        mut tell: impl FnMut(u64),
    ) -> (Stood, Option<Fall>) {
        let (mut fuzz, base) = ((self.make)(), Rng::of(seed, self.name));
        let mut stood = Stood::default();
        for run in first.. {
            if (run - first).is_multiple_of(BATCH) {
                tell(run);
                if matches!(until, Until::Ended(end) if Instant::now() >= end) {
                    break;
                }
            }
            if matches!(until, Until::Runs(runs) if run - first >= runs) {
                break;
            }
            let input = fuzz.input(&mut base.of_run(run));
            match stand(&mut *fuzz, &input) {
                Ok(Seen::Taken) => stood.taken += 1,
                Ok(Seen::Refused) => stood.refused += 1,
                Err(wrong) => return (stood, Some(Fall { run, wrong, input })),
            }
        }
        (stood, None)
    }
}

fn stand(fuzz: &mut dyn Fuzz, input: &Input) -> Result<Seen, String> {
    let most = fuzz.memory(input);
    let checked = || catch_unwind(AssertUnwindSafe(|| fuzz.check(input)));
    let (done, held) = memory::most(checked);
    let seen = done.unwrap_or_else(|panic| Err(format!("a panic: {}", words(&*panic))))?;
    let len = input.bytes.len();
    match held > most {
        true => Err(format!("{len} bytes of input took {held} bytes of memory, {most} at most")),
        false => Ok(seen),
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without a word").to_owned()
}

/// What does not hold, in words.
fn holds(it: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if it { Ok(()) } else { Err(otherwise()) }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.max(0.0))
}

#[cfg(test)]
mod tests;
