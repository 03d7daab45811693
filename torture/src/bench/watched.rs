//! A process and a replica as they are measured: CPU and memory from /proc, objects by looking.

use crate::process::{self, Process, Signal};
use crate::rig::{Failure, Programs, Result, violation};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What the kernel says of a process so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu_s: f64,
    pub peak_mib: f64,
    pub resident_mib: f64,
    /// Bytes, from files or the kernel's cache of them.
    pub read: f64,
}

impl Usage {
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let ticks: u64 = fields.get(11..13)?.iter().filter_map(|n| n.parse::<u64>().ok()).sum();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let mib = |key: &str| {
            let kib = status.lines().find_map(|line| line.strip_prefix(key))?;
            Some(kib.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
        };
        let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
        let read = io.lines().find_map(|line| line.strip_prefix("rchar: "))?.parse().ok()?;
        // 100 ticks a second on every Linux that Rust runs on.
        let (peak_mib, resident_mib) = (mib("VmHWM:")?, mib("VmRSS:")?);
        Some(Self { cpu_s: ticks as f64 / 100.0, peak_mib, resident_mib, read })
    }
}

/// A directory with a database, its replica and perhaps a daemon.
#[derive(Debug)]
pub struct Place {
    pub dir: PathBuf,
    programs: Programs,
    daemon: Option<Process>,
}

impl Place {
    pub fn new(programs: &Programs, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned(), programs: programs.clone(), daemon: None })
    }

    pub fn db(&self) -> PathBuf {
        self.dir.join("app.db")
    }

    pub fn replica(&self) -> PathBuf {
        self.dir.join("replica")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.programs.bakelite);
        command.args(words).current_dir(&self.dir).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// `torture load` with these words; what it said.
    pub fn load(&self, words: &str) -> Result<serde_json::Value> {
        let done = self.start_load(words)?.wait_with_output()?;
        if !done.status.success() {
            return Err(Failure::Harness(format!("load {words}: {}", done.status)));
        }
        Ok(serde_json::from_slice(&done.stdout).unwrap_or_default())
    }

    pub fn start_load(&self, words: &str) -> Result<std::process::Child> {
        let mut command = Command::new(&self.programs.torture);
        command.arg("load").args(words.split(' ')).current_dir(&self.dir);
        Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)
    }

    pub fn start(&mut self, words: &[&str]) -> Result<()> {
        let log = self.dir.join("log");
        self.daemon = Some(Process::spawn(&mut self.command(words), &log)?);
        Ok(())
    }

    /// Starts the daemon and waits until the replica is complete.
    pub fn watch(&mut self) -> Result<()> {
        self.start(&["daemon", "app.db", "replica"])?;
        self.run(&["sync", "app.db", "replica"]).map(drop)
    }

    pub fn usage(&self) -> Usage {
        let daemon = self.daemon.as_ref().expect("a daemon was started");
        Usage::of(daemon.child.id()).unwrap_or_default()
    }

    /// What the daemon has written to its log. An error: it has ended.
    pub fn said(&mut self) -> Result<String> {
        let daemon = self.daemon.as_mut().expect("a daemon was started");
        if let Some(status) = daemon.ended()? {
            return violation(format!("the daemon ended with {status}: {}", daemon.complaint()));
        }
        Ok(fs::read_to_string(self.dir.join("log"))?)
    }

    /// Ends the daemon properly, with everything shipped.
    pub fn drain(&mut self) -> Result<()> {
        let Some(mut daemon) = self.daemon.take() else { return Ok(()) };
        daemon.signal(Signal::Terminate);
        match daemon.wait()? {
            Some(status) if status.success() => Ok(()),
            ended => violation(format!("the daemon ended with {ended:?}: {}", daemon.complaint())),
        }
    }

    /// Runs the program to its end: how long it took and what it used.
    pub fn run(&self, words: &[&str]) -> Result<(f64, Usage)> {
        let began = Instant::now();
        let mut child = Process::spawn(&mut self.command(words), &self.dir.join("log-of-run"))?;
        let pid = child.child.id();
        let mut usage = Usage::default();
        let status = loop {
            usage = Usage::of(pid).unwrap_or(usage);
            match child.ended()? {
                Some(status) => break status,
                None => thread::sleep(Duration::from_millis(1)),
            }
        };
        match status.success() {
            true => Ok((began.elapsed().as_secs_f64(), usage)),
            false => violation(format!("bakelite {}: {}", words[0], child.complaint())),
        }
    }

    /// Runs the program to its end; seconds. Nobody looks at it meanwhile, which costs it a tenth.
    pub fn time(&self, words: &[&str]) -> Result<f64> {
        let began = Instant::now();
        let log = self.dir.join("log-of-run");
        let status = process::run(&mut self.command(words), &log)?.map(|done| done.status);
        match status {
            Some(status) if status.success() => Ok(began.elapsed().as_secs_f64()),
            ended => violation(format!("bakelite {}: {ended:?}", words[0])),
        }
    }

    /// What is restored passes SQLite's own check.
    pub fn prove(&self) -> Result<()> {
        self.restored("replica").map(drop)
    }

    /// The bytes that a replica gives, which pass SQLite's own check.
    pub fn restored(&self, replica: &str) -> Result<Vec<u8>> {
        self.run(&["restore", replica, "--output", "proof.db", "--check", "full"])?;
        let bytes = fs::read(self.dir.join("proof.db"))?;
        fs::remove_file(self.dir.join("proof.db"))?;
        Ok(bytes)
    }
}

/// Seconds to copy a file and make it last, the least that any backup takes.
pub fn copy(from: &Path, to: &Path) -> Result<f64> {
    let began = Instant::now();
    // A program of its own, so that nothing here opens a database.
    let log = to.with_extension("log");
    let mut cp = Command::new("cp");
    cp.arg("--reflink=never").arg(from).arg(to);
    let done = process::run(&mut cp, &log)?;
    if !done.is_some_and(|done| done.status.success()) {
        return Err(Failure::Harness(format!("cannot copy {}", from.display())));
    }
    fs::File::open(to)?.sync_all()?;
    let seconds = began.elapsed().as_secs_f64();
    fs::remove_file(to)?;
    Ok(seconds)
}

/// The objects below a directory and their sizes; what is not finished yet has a name with a dot.
pub fn objects(root: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(_) if entry.file_name().as_encoded_bytes().starts_with(b".") => (),
                Ok(metadata) => found.push((entry.path(), metadata.len())),
                Err(_) => (),
            }
        }
    }
    found
}

pub fn stored(root: &Path) -> u64 {
    objects(root).iter().map(|(_, bytes)| bytes).sum()
}
