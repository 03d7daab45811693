//! Child processes: started, signalled, waited for and always reaped.
//!
//! Waiting is for an event (an exit, a line), never for time to pass; a watchdog ends a wait that
//! will have none, so that a hang is a failure with a name instead of a run that never ends.

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Far beyond what anything here takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Kill,
    Terminate,
    Stop,
    Continue,
    HangUp,
}

impl Signal {
    fn number(self) -> libc::c_int {
        match self {
            Self::Kill => libc::SIGKILL,
            Self::Terminate => libc::SIGTERM,
            Self::Stop => libc::SIGSTOP,
            Self::Continue => libc::SIGCONT,
            Self::HangUp => libc::SIGHUP,
        }
    }
}

/// A running child whose stderr goes to a file. Dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    pub child: Child,
    log: PathBuf,
}

impl Process {
    pub fn spawn(command: &mut Command, log: &Path) -> io::Result<Self> {
        let child = command.stderr(File::create(log)?).spawn()?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its own children have inherited nothing of ours: the pid is ours until we reap it.
    pub fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// Waits until it has a handler for `signal`, or has ended: one that comes earlier just ends
    /// it, like any program that is still being loaded. Where there is no /proc it does not wait.
    pub fn handles(&mut self, signal: Signal) -> io::Result<()> {
        let status = format!("/proc/{}/status", self.child.id());
        let bit = 1u64 << (signal.number() - 1);
        while self.ended()?.is_none() {
            let Ok(text) = std::fs::read_to_string(&status) else { break };
            let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
            if caught.is_none_or(|mask| mask & bit != 0) {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// SIGKILL. `Err` holds how it had ended before that.
    pub fn kill(&mut self) -> io::Result<Result<(), ExitStatus>> {
        self.signal(Signal::Kill);
        let status = self.child.wait()?;
        Ok(if status.signal() == Some(libc::SIGKILL) { Ok(()) } else { Err(status) })
    }

    /// Waits for its end; `None` if the watchdog had to make one.
    pub fn wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let pid = self.child.id();
        let (status, bitten) = watched(pid, PATIENCE, || self.child.wait());
        Ok((!bitten).then_some(status?))
    }

    /// The end of what it has said on stderr.
    pub fn complaint(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command that ran to its end has left.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub complaint: String,
}

/// Runs a command to its end; `None` if the watchdog had to make one.
pub fn run(command: &mut Command, log: &Path) -> io::Result<Option<Output>> {
    let child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(log)?).spawn()?;
    let (output, bitten) = watched(child.id(), PATIENCE, || child.wait_with_output());
    let output = output?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let done = Output { status: output.status, stdout, complaint: tail(log) };
    Ok((!bitten).then_some(done))
}

/// Kills `pid` if `wait` has not come back in time; says whether it had to.
pub fn watched<T>(pid: u32, limit: Duration, wait: impl FnOnce() -> T) -> (T, bool) {
    let (done, alarm) = mpsc::channel::<()>();
    let dog = thread::spawn(move || {
        let late = alarm.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
        if late {
            send(pid, Signal::Kill);
        }
        late
    });
    let value = wait();
    drop(done);
    (value, dog.join().expect("the watchdog does not panic"))
}

fn send(pid: u32, signal: Signal) {
    let pid = libc::pid_t::try_from(pid).expect("pids are positive");
    // SAFETY: no memory is involved; the pid is a child's that has not been reaped.
    #[allow(unsafe_code)]
    unsafe {
        libc::kill(pid, signal.number());
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(600)..]).into_owned();
    text.trim().replace('\n', " / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> tempfile::NamedTempFile {
        tempfile::NamedTempFile::new().unwrap()
    }

    #[test]
    fn a_killed_process_is_told_from_one_that_had_ended() {
        let log = log();
        let mut sleeping = Process::spawn(Command::new("sleep").arg("100"), log.path()).unwrap();
        assert_eq!(sleeping.ended().unwrap(), None);
        assert_eq!(sleeping.kill().unwrap(), Ok(()));
        let mut failing =
            Process::spawn(Command::new("sh").args(["-c", "echo no >&2; exit 3"]), log.path())
                .unwrap();
        assert_eq!(failing.wait().unwrap().unwrap().code(), Some(3));
        assert_eq!(failing.kill().unwrap().unwrap_err().code(), Some(3));
        assert_eq!(failing.complaint(), "no");
    }

    #[test]
    fn the_watchdog_ends_what_hangs_and_leaves_the_rest_alone() {
        let log = log();
        let mut sleeping = Process::spawn(Command::new("sleep").arg("100"), log.path()).unwrap();
        let pid = sleeping.child.id();
        let (status, bitten) = watched(pid, Duration::from_millis(20), || sleeping.child.wait());
        assert!(bitten && status.unwrap().signal() == Some(libc::SIGKILL));
        let output = run(Command::new("echo").arg("done"), log.path()).unwrap().unwrap();
        assert!(output.status.success() && output.stdout == "done\n");
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let log = log();
        let sleeping = Process::spawn(Command::new("sleep").arg("100"), log.path()).unwrap();
        let proc = PathBuf::from(format!("/proc/{}", sleeping.child.id()));
        if proc.exists() {
            drop(sleeping);
            assert!(!proc.exists());
        }
    }
}
