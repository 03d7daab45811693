//! `run`: an application, with the daemon that backs it up in this process.
//!
//! ```text
//!   Starting --- every database taken up, or not there yet ---> Running --- CMD ends ---> Draining
//!      |  a signal, or nothing that can be backed up               |  signals go to CMD      |
//!      +--> the end, without CMD                                   |  a daemon that fails    +--> the end
//!                                                                  +- is told of; CMD goes on
//! ```
//!
//! One loop owns all of it; the signals and the daemon are threads that report to it. This is the one
//! place that starts a program. That takes no lock away: the child is replaced by the program at once,
//! all that SQLite and the daemon have open closes on exec, and record locks are not inherited.

use crate::config::Config;
use crate::daemon::{self, Stop};
use crate::error::{Error, Result, Status};
use crate::log::{self, Level};
use crate::notify;
use crate::restore::Progress;
use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// What the loop is told.
enum Event {
    Signal(i32),
    /// The daemon has looked at every database.
    Ready,
    DaemonEnded(Result<()>),
}

enum Phase {
    Starting,
    Running(Child),
    /// CMD has ended, or was not started, with this status.
    Draining(u8),
}

/// Runs `command`, a program and its arguments, and returns its status as a shell has it. If that is
/// 0 and the daemon has failed, the error is the daemon's.
pub fn run(
    command: &[String],
    config: Config,
    progress: impl Progress + Send + 'static,
) -> Result<u8> {
    let (events, inbox) = channel();
    let stop = Stop::default();
    let failed = |error: io::Error| Error::io("run", "signals", &error);
    listen(events.clone()).map_err(failed)?;
    let asked = stop.clone();
    thread::spawn(move || {
        let ready = || drop(events.send(Event::Ready));
        let ended = daemon::run_beside(&config, &asked, &ready, &progress);
        events.send(Event::DaemonEnded(ended)).ok();
    });
    let phase = Phase::Starting;
    Supervisor { command, stop, phase, unstarted: None, daemon: None }.run(&inbox)
}

fn listen(events: Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGCHLD])?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    });
    Ok(())
}

struct Supervisor<'a> {
    command: &'a [String],
    stop: Stop,
    phase: Phase,
    /// Why CMD could not be started.
    unstarted: Option<Error>,
    /// How the daemon has ended.
    daemon: Option<Result<()>>,
}

impl Supervisor<'_> {
    fn run(mut self, inbox: &Receiver<Event>) -> Result<u8> {
        loop {
            let event = inbox.recv().expect("the signals' thread lives as long as this");
            if let (Event::Signal(signal @ (SIGTERM | SIGINT | SIGHUP)), Phase::Draining(status)) =
                (&event, &self.phase)
            {
                // What is not shipped yet is, after the next start.
                return Ok(if *status == 0 { by_signal(*signal) } else { *status });
            }
            self.take(event)?;
            let drained = match self.phase {
                Phase::Draining(status) => self.daemon.is_some().then_some(status),
                Phase::Starting | Phase::Running(_) => None,
            };
            if let Some(status) = drained {
                return self.end(status);
            }
        }
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match (event, &mut self.phase) {
            (Event::Ready, Phase::Starting) => self.start(),
            (Event::Signal(SIGCHLD), Phase::Running(child)) => {
                let ended = child.try_wait();
                let ended =
                    ended.map_err(|error| Error::io("wait for", &self.command[0], &error))?;
                if let Some(status) = ended {
                    self.drain(status_of(status));
                }
            }
            (Event::Signal(signal), Phase::Running(child)) => pass_on(signal, child),
            (Event::Signal(SIGCHLD), _) => {}
            (Event::Signal(signal), Phase::Starting) => self.drain(by_signal(signal)),
            (Event::DaemonEnded(ended), Phase::Running(_)) => {
                if let Err(error) = &ended {
                    say(error, Some("the command goes on, and is not backed up any more"));
                }
                self.daemon = Some(ended);
            }
            (Event::DaemonEnded(ended), Phase::Starting) => {
                self.daemon = Some(ended);
                self.phase = Phase::Draining(0);
            }
            (Event::DaemonEnded(ended), Phase::Draining(_)) => self.daemon = Some(ended),
            (Event::Ready | Event::Signal(_), _) => {}
        }
        Ok(())
    }

    fn start(&mut self) {
        let (program, arguments) = self.command.split_first().expect("there is a command");
        let mut command = Command::new(program);
        // Who supervises this process is told by the daemon: what the child said would contradict it.
        for name in notify::VARIABLES {
            command.env_remove(name);
        }
        match command.args(arguments).spawn() {
            Ok(child) => self.phase = Phase::Running(child),
            Err(error) => {
                let hint = way_out(program, error.kind());
                self.unstarted = Some(Error::new(Status::Usage, "run", program, error).hint(hint));
                self.drain(0);
            }
        }
    }

    fn drain(&mut self, status: u8) {
        self.stop.flag().store(true, Ordering::Relaxed);
        self.phase = Phase::Draining(status);
    }

    /// CMD's status goes first; of a failure that it hides, at least something is said.
    fn end(self, status: u8) -> Result<u8> {
        let failed = self.unstarted.or_else(|| self.daemon.and_then(Result::err));
        match failed {
            Some(error) if status == 0 => Err(error),
            Some(error) => {
                say(&error, error.hint.as_deref());
                Ok(status)
            }
            None => Ok(status),
        }
    }
}

/// What to do about a program that cannot be started.
fn way_out(program: &str, kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound if program.contains('/') => {
            "check the path, and that of the interpreter which the file may name"
        }
        ErrorKind::NotFound => {
            "there is none of that name in PATH; what a shell does by itself takes: sh -c"
        }
        ErrorKind::PermissionDenied => "make it executable, with chmod +x",
        _ => "see whether it is a program for this machine",
    }
}

/// Passes a signal on to CMD, which is not waited for yet, so that the number is still its own.
fn pass_on(signal: i32, child: &Child) {
    if signal == SIGINT && in_foreground() {
        return; // the terminal has told every process of the group
    }
    let pid = Pid::from_child(child);
    if let Some(signal) = Signal::from_named_raw(signal) {
        // One that has ended just now needs no signal.
        kill_process(pid, signal).ok();
    }
}

fn in_foreground() -> bool {
    let terminal = File::open("/dev/tty").and_then(|tty| Ok(tcgetpgrp(&tty)?));
    terminal.is_ok_and(|group| group == getpgrp())
}

/// As a shell has it.
fn status_of(status: ExitStatus) -> u8 {
    let code = status.code().map(|code| code as u8);
    code.or(status.signal().map(by_signal)).unwrap_or(Status::Failed as u8)
}

fn by_signal(signal: i32) -> u8 {
    128 + signal as u8
}

fn say(error: &Error, hint: Option<&str>) {
    log::say(Level::Warning, &error.message, hint);
}
