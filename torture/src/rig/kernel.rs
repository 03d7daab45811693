//! Faults of the kernel: a program under strace(1), which has one of its system calls fail, do nothing,
//! or be its last.
//!
//! The tracer is a grandchild (`-D`): what is traced is a child of the harness like any other, with its own
//! pid, status and signals. Calls are counted for each thread by itself, as strace counts them, in a run
//! without a fault: the k-th call that is chosen is one that there was. Whether a fault fired is read from
//! what strace has written down, and nothing else counts.
//!
//! What claims more than was done is no fault of a kernel: a `write` says that it has written nothing, never
//! that it has written some of it when it has not. Writes that are cut for real come from a disk that is
//! full.

use super::{Failure, Result, Rig, violation};
use crate::process::{self, Process};
use crate::rng::Rng;
use crate::workload::writer::Args;
use bakelite::error::Status;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Killed,
    NoSpace,
    InputOutput,
    TooManyFiles,
    Interrupted,
    /// A write that wrote nothing and says so.
    Nothing,
}

use Effect::*;

impl Effect {
    fn words(self) -> &'static str {
        match self {
            Killed => "signal=SIGKILL",
            NoSpace => "error=ENOSPC",
            InputOutput => "error=EIO",
            TooManyFiles => "error=EMFILE",
            Interrupted => "error=EINTR",
            Nothing => "retval=0",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Killed => "killed",
            NoSpace => "ENOSPC",
            InputOutput => "EIO",
            TooManyFiles => "EMFILE",
            Interrupted => "EINTR",
            Nothing => "nothing written",
        }
    }
}

/// Calls that do the same, and what may become of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Class {
    pub name: &'static str,
    calls: &'static [&'static str],
    pub effects: &'static [Effect],
}

pub const CLASSES: [Class; 8] = [
    Class {
        name: "write",
        calls: &["write", "pwrite64"],
        effects: &[Killed, NoSpace, InputOutput, Interrupted, Nothing],
    },
    Class {
        name: "sync",
        calls: &["fsync", "fdatasync"],
        effects: &[Killed, InputOutput, NoSpace],
    },
    Class {
        name: "rename",
        calls: &["rename", "renameat", "renameat2"],
        effects: &[Killed, NoSpace, InputOutput],
    },
    Class { name: "link", calls: &["link", "linkat"], effects: &[Killed, NoSpace, InputOutput] },
    Class { name: "unlink", calls: &["unlink", "unlinkat"], effects: &[Killed, InputOutput] },
    Class {
        name: "create",
        calls: &["openat"],
        effects: &[Killed, NoSpace, InputOutput, TooManyFiles],
    },
    Class { name: "mkdir", calls: &["mkdir", "mkdirat"], effects: &[Killed, NoSpace, InputOutput] },
    Class { name: "truncate", calls: &["ftruncate"], effects: &[Killed, InputOutput, NoSpace] },
];

/// What is to happen at which call of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub class: &'static Class,
    pub effect: Effect,
    call: String,
    nth: u64,
}

/// What is asked of strace besides counting.
#[derive(Clone, Copy, Debug)]
pub enum Ask<'a> {
    Nothing,
    Fault(&'a Fault),
    /// The file system knows no rename that spares what is there, and names are linked.
    NoRename(Option<&'a Fault>),
}

impl Ask<'_> {
    fn fault(&self) -> Option<&Fault> {
        match self {
            Ask::Nothing => None,
            Ask::Fault(fault) => Some(fault),
            Ask::NoRename(fault) => *fault,
        }
    }

    fn words(&self) -> Vec<String> {
        let renames = matches!(self, Ask::NoRename(_)).then(|| "renameat2:error=EINVAL".to_owned());
        let fault = self
            .fault()
            .map(|Fault { call, nth, effect, .. }| format!("{call}:{}:when={nth}", effect.words()));
        let all = renames.into_iter().chain(fault);
        all.flat_map(|inject| ["-e".to_owned(), format!("inject={inject}")]).collect()
    }
}

/// Whether a fault may be put at a call: never while a program is being loaded, nor at what it tells the
/// harness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Right,
    Other,
    Never,
}

const NEVER: [&str; 3] = [".so", "/ledger/", "1</dev/null>"];

/// The calls of a run, as strace has written them down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// By name, and there of each thread in order.
    of: BTreeMap<String, BTreeMap<u32, Vec<Fit>>>,
    /// The lines of those that did not do what they were asked for.
    injected: Vec<String>,
}

impl Calls {
    fn parse(log: &str) -> Self {
        let mut calls = Self::default();
        for line in log.lines() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            let (Ok(thread), rest) = (thread.parse(), rest.trim()) else { continue };
            if rest.ends_with("(INJECTED)") {
                calls.injected.push(rest.to_owned());
            }
            let Some((call, args)) = rest.split_once('(') else { continue };
            let fit = match call {
                _ if NEVER.iter().any(|path| args.contains(path)) => Fit::Never,
                "openat" if !args.contains("O_CREAT") => Fit::Other,
                _ => Fit::Right,
            };
            calls.of.entry(call.to_owned()).or_default().entry(thread).or_default().push(fit);
        }
        calls
    }

    /// Where a fault of this class may be put: a call, and which one of a thread's.
    fn places(&self, class: &Class) -> Vec<(String, u64)> {
        let mut places = Vec::new();
        for call in class.calls {
            let Some(threads) = self.of.get(*call) else { continue };
            let most = threads.values().map(Vec::len).max().unwrap_or(0);
            let at = |nth: usize| threads.values().filter_map(move |fits| fits.get(nth));
            let fits = |nth: &usize| {
                at(*nth).any(|fit| *fit == Fit::Right) && at(*nth).all(|fit| *fit != Fit::Never)
            };
            places.extend((0..most).filter(fits).map(|nth| ((*call).to_owned(), nth as u64 + 1)));
        }
        places
    }

    /// What an `Ask::NoRename` has fail already takes no other fault.
    #[must_use]
    pub fn without_rename(mut self) -> Self {
        self.of.remove("renameat2");
        self
    }

    pub fn has(&self, class: &Class) -> bool {
        !self.places(class).is_empty()
    }

    /// A place for a fault. Another run may come to fewer calls: with each attempt it is an earlier one.
    pub fn choose(
        &self,
        rng: &mut Rng,
        class: &'static Class,
        effect: Effect,
        attempt: u32,
    ) -> Option<Fault> {
        let mut places = self.places(class);
        if places.is_empty() {
            return None;
        }
        places.sort_unstable_by_key(|(_, nth)| *nth);
        places.truncate((places.len() >> attempt).max(1));
        let (call, nth) = rng.pick(&places).clone();
        Some(Fault { class, effect, call, nth })
    }
}

/// How a program has ended that something may have happened to.
#[derive(Debug)]
pub struct End {
    pub status: ExitStatus,
    pub said: String,
    pub calls: Calls,
}

impl End {
    /// Whether it came to the fault.
    pub fn fired(&self, fault: &Fault) -> bool {
        match fault.effect {
            Killed => self.status.code().is_none(),
            _ => {
                let [begun, resumed] =
                    [format!("{}(", fault.call), format!("<... {} resumed>", fault.call)];
                let is_it = |line: &String| line.starts_with(&begun) || line.starts_with(&resumed);
                self.calls.injected.iter().any(is_it)
            }
        }
    }

    /// Whether one of its calls of that name did not do what it was asked for.
    pub fn failed_at(&self, call: &str) -> bool {
        self.calls.injected.iter().any(|line| line.contains(call))
    }

    /// Whatever happened, it has come to its end, was killed at the call that it was to be killed at, or
    /// has said what is wrong.
    pub fn is_clean(&self, who: &str, ask: Ask) -> Result<()> {
        let Self { status, said, calls } = self;
        let killed = ask.fault().is_some_and(|fault| fault.effect == Killed);
        const SAYS: [&str; 2] = ["bakelite: ", "torture writer: "];
        let clear = !said.contains("panicked")
            && match status.code() {
                None => killed,
                Some(0) => true,
                Some(code) => code <= 10 && SAYS.iter().any(|it| said.contains(it)),
            };
        match clear {
            true => Ok(()),
            false => violation(format!("{who}, {ask:?}: {status}: {said}: {:?}", calls.injected)),
        }
    }
}

/// A program that is traced, running or not.
#[derive(Debug)]
pub struct Traced {
    process: Process,
    log: PathBuf,
}

impl Traced {
    fn spawn(mut command: Command, log: PathBuf, said: &Path) -> Result<Self> {
        Ok(Self { process: Process::spawn(&mut command, said)?, log })
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits until it has had a call with these words, or has ended.
    pub fn until(&mut self, words: &str) -> Result<()> {
        while self.process.ended()?.is_none() {
            let log = std::fs::read(&self.log).unwrap_or_default();
            if String::from_utf8_lossy(&log).contains(words) {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Waits for its end.
    pub fn end(mut self) -> Result<End> {
        let Some(status) = self.process.wait()? else {
            return violation(format!("it hung for two minutes: {}", self.process.complaint()));
        };
        let began = self.log.metadata().is_ok_and(|log| log.len() > 0);
        if !began && !status.success() {
            let said = self.process.complaint();
            return Err(Failure::Harness(format!("nothing was traced: {status}: {said}")));
        }
        let log = self.whole_log()?;
        Ok(End { status, said: self.process.complaint(), calls: Calls::parse(&log) })
    }

    /// The tracer writes a last line of the process after that has ended.
    fn whole_log(&self) -> Result<String> {
        let began = Instant::now();
        let pid = self.process.child.id().to_string();
        let is_last = |line: &str| line.split(' ').next() == Some(&pid) && line.contains(" +++ ");
        loop {
            let log = std::fs::read(&self.log)?;
            let log = String::from_utf8_lossy(&log).into_owned();
            if log.lines().rev().any(is_last) {
                return Ok(log);
            }
            if began.elapsed() > process::PATIENCE {
                return Err(Failure::Harness(format!("{}: it has no end", self.log.display())));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// `command` under strace.
fn traced(command: &Command, log: &Path, ask: Ask) -> Command {
    let calls: Vec<&str> = CLASSES.iter().flat_map(|class| class.calls).copied().collect();
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-q", "-y", "-s", "16", "-o"]).arg(log);
    // Calls that nobody asks for are not slowed down then. A signal would never come.
    if ask.fault().is_none_or(|fault| fault.effect != Killed) {
        strace.arg("--seccomp-bpf");
    }
    strace.args(["-e", &format!("trace={}", calls.join(","))]).args(ask.words());
    strace.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    // A writer goes on for as long as somebody may tell it something.
    strace.stdin(Stdio::piped()).stdout(Stdio::null());
    strace
}

impl Rig {
    /// Not permitted where no tracer is there, or none that may trace and whose faults fire.
    pub fn may_trace(&mut self) -> Result<()> {
        let mut probe = Command::new("mkdir");
        probe.arg(self.dir.join("never"));
        let fault = Fault { class: &CLASSES[6], effect: NoSpace, call: "mkdir".to_owned(), nth: 1 };
        let end = self.trace("mkdir", &probe, Ask::Fault(&fault)).and_then(Traced::end);
        match end {
            Ok(end) if end.fired(&fault) => Ok(()),
            Ok(End { said, .. }) => Err(Failure::NotPermitted(format!("strace: {said}"))),
            Err(failure) => Err(Failure::NotPermitted(format!("strace: {failure}"))),
        }
    }

    fn trace(&mut self, what: &str, command: &Command, ask: Ask) -> Result<Traced> {
        let (said, log) = (self.path("log", what), self.path("log", "strace"));
        Traced::spawn(traced(command, &log, ask), log, &said)
    }

    /// A verb of the program on the database and the destinations of the rig.
    pub fn trace_verb(&mut self, verb: &str, ask: Ask) -> Result<Traced> {
        self.trace(verb, &self.bakelite(verb), ask)
    }

    pub fn trace_restore(&mut self, target: &Path, ask: Ask) -> Result<Traced> {
        let mut command = self.reader("restore");
        command.arg(self.source().to_string()).arg("--output").arg(target);
        self.trace("restore", &command, ask)
    }

    /// A writer that makes its commits and is done, unless the fault ends it. What it has intended and
    /// acknowledged is in its ledger.
    pub fn trace_writer(&mut self, args: Args, ask: Ask) -> Result<End> {
        let (args, command) = self.writer(args);
        let mut writer = self.trace("writer", &command, ask)?;
        let stdin = writer.process.child.stdin.take();
        let end = writer.end()?;
        drop(stdin);
        if args.ledger.exists() {
            self.truth.watch(&args.ledger);
        }
        Ok(end)
    }

    /// `sync` beside a program that something has happened to: status 8 until it has got over that.
    pub fn sync_at_last(&mut self) -> Result<()> {
        let began = Instant::now();
        while let Err(done) = self.try_sync()? {
            if done.status.code() != Some(Status::Unreachable as i32) {
                return violation(format!("sync: {}: {}", done.status, done.complaint));
            }
            if began.elapsed() > process::PATIENCE {
                return violation(format!("sync never succeeded: {}", done.complaint));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The figures: who had what happen where.
    pub fn note_fault(&mut self, who: &str, fault: &Fault) {
        let Fault { class, effect, .. } = fault;
        self.tally.fault(&format!("{who} at {}: {}", class.name, effect.name()));
        self.tally.kills += u64::from(who == "daemon" && *effect == Killed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
10  openat(AT_FDCWD</>, \"/lib/libc.so.6\", O_RDONLY|O_CLOEXEC) = 3</lib/libc.so.6>
10  openat(AT_FDCWD</>, \"/a/db\", O_RDWR) = 3</a/db>
10  openat(AT_FDCWD</>, \"/a/new\", O_RDWR|O_CREAT) = 3</a/new>
11  openat(AT_FDCWD</>, \"/a/new\", O_RDWR|O_CREAT) = 4</a/new>
11  write(4</a/new>, \"x\", 1) = 1
10  fsync(3</a/new> <unfinished ...>
11  write(4</a/new>, \"x\", 1) = -1 EIO (Input/output error) (INJECTED)
10  <... fsync resumed>) = -1 EIO (Input/output error) (INJECTED)
10  +++ exited with 8 +++
";

    fn class(name: &str) -> &'static Class {
        CLASSES.iter().find(|class| class.name == name).unwrap()
    }

    #[test]
    fn calls_are_counted_by_thread_and_not_while_a_program_is_loaded() {
        let calls = Calls::parse(LOG);
        let places = |name: &str| calls.places(class(name));
        assert_eq!(places("create"), [("openat".to_owned(), 3)]);
        assert_eq!(places("write"), [("write".to_owned(), 1), ("write".to_owned(), 2)]);
        assert_eq!(places("sync"), [("fsync".to_owned(), 1)]);
        assert!(!calls.has(class("rename")) && calls.injected.len() == 2);
    }

    #[test]
    fn a_fault_has_fired_where_strace_says_so() {
        let calls = Calls::parse(LOG);
        let status = Command::new("true").status().unwrap();
        let end = End { status, said: String::new(), calls };
        let fired = |call: &str, effect| {
            end.fired(&Fault { class: class("sync"), effect, call: call.to_owned(), nth: 1 })
        };
        assert_eq!([fired("fsync", InputOutput), fired("write", NoSpace)], [true; 2]);
        assert_eq!([fired("rename", InputOutput), fired("fsync", Killed)], [false; 2]);
    }
}
