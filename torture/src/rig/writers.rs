//! The writers of a rig: each a process with a ledger of its own.

use super::{Failure, Host, Result, Rig, violation};
use crate::process::{PATIENCE, Process, watched};
use crate::workload::writer::Args;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

#[derive(Debug)]
pub struct Writer {
    process: Process,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// How it was started, to start it again after a kill.
    args: Args,
}

impl Writer {
    fn tell(&mut self, word: &str) -> Result<()> {
        Ok(writeln!(self.stdin, "{word}").and_then(|()| self.stdin.flush())?)
    }

    /// The next line, which has to begin with `word`; the seq in it.
    fn hear(&mut self, word: &str) -> Result<u64> {
        let pid = self.process.child.id();
        let mut line = String::new();
        let (read, hung) = watched(pid, PATIENCE, || self.stdout.read_line(&mut line));
        if hung {
            return violation("the writer was stuck for two minutes");
        }
        read?;
        match line.trim_end().split_once(' ') {
            Some((said, seq)) if said == word => seq.parse().map_err(|_| self.broken(&line)),
            _ => Err(self.broken(&line)),
        }
    }

    /// A writer that fails has seen what no application may see, and says so. One that says nothing, or
    /// has panicked, is itself at fault.
    fn broken(&self, line: &str) -> Failure {
        let said = self.process.complaint();
        let what = format!("writer {}: `{}` {said}", self.args.writer, line.trim_end());
        match said.is_empty() || said.contains("panicked at") {
            true => Failure::Harness(what),
            false => Failure::Violation(what),
        }
    }
}

impl Rig {
    /// Makes the database and leaves a paused writer on it.
    pub fn create(&mut self, args: Args) -> Result<()> {
        self.start_writer(Args { create: true, paused: true, ..args }).map(drop)
    }

    /// Starts a writer, or one more life of it; the seq that it found.
    pub fn start_writer(&mut self, args: Args) -> Result<u64> {
        let log = self.path("log", &format!("writer-{}", args.writer));
        let (args, mut command) = self.writer(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(&mut command, &log)?;
        let stdin = process.child.stdin.take().expect("piped");
        let stdout = BufReader::new(process.child.stdout.take().expect("piped"));
        let mut writer = Writer { process, stdin, stdout, args };
        let seq = writer.hear("ready")?;
        self.truth.watch(&writer.args.ledger);
        if writer.args.paused {
            writer.hear("paused")?;
        }
        let host = self.host_mut();
        host.writers.push(writer);
        if host.turn == 0 {
            self.take_turn(seq);
        }
        Ok(seq)
    }

    /// One more life of a writer, on the database that is meant, and how it is started.
    pub(super) fn writer(&mut self, args: Args) -> (Args, Command) {
        let ledger = self.path("ledger", &format!("writer-{}", args.writer));
        let life = self.lives.entry(args.writer).or_default();
        *life += 1;
        let life = *life;
        let Host { seed, branch, parent, .. } = *self.host();
        let branch = Some(branch).filter(|&branch| branch > 0);
        let args = Args { db: self.db(), ledger, seed, branch, parent, life, ..args };
        let mut command = Command::new(&self.programs.torture);
        command.args(args.words());
        (args, command)
    }

    /// Has every paused writer go on.
    pub fn go(&mut self) -> Result<()> {
        self.host_mut().writers.iter_mut().try_for_each(|writer| writer.tell("go"))
    }

    /// Brings every writer to rest between two transactions; the last seq then.
    pub fn pause(&mut self) -> Result<u64> {
        self.all("pause", "paused")
    }

    /// Ends every writer properly; the last seq then.
    pub fn stop_writers(&mut self) -> Result<u64> {
        let seq = self.all("stop", "done")?;
        self.reap_writers()?;
        Ok(seq)
    }

    /// Waits until every writer has made the commits that it was to make; the last seq then.
    pub fn writers_done(&mut self) -> Result<u64> {
        let seq = self.answers("done")?;
        self.reap_writers()?;
        Ok(seq)
    }

    /// Has the only writer, which is paused, do one thing; the last seq then.
    pub fn act(&mut self, what: &str) -> Result<u64> {
        self.all(&format!("do {what}"), "did")
    }

    fn all(&mut self, command: &str, answer: &str) -> Result<u64> {
        self.host_mut().writers.iter_mut().try_for_each(|writer| writer.tell(command))?;
        self.answers(answer)
    }

    fn answers(&mut self, word: &str) -> Result<u64> {
        let writers = &mut self.host_mut().writers;
        assert!(!writers.is_empty(), "nobody writes");
        let mut last = 0;
        for writer in writers {
            last = last.max(writer.hear(word)?);
        }
        Ok(last)
    }

    fn reap_writers(&mut self) -> Result<()> {
        for mut writer in self.host_mut().writers.drain(..) {
            match writer.process.wait()? {
                Some(status) if status.success() => (),
                _ => return Err(writer.broken("")),
            }
        }
        Ok(())
    }

    /// SIGKILL to one writer, which is then gone; how it was started.
    pub fn kill_writer(&mut self, index: usize) -> Result<Args> {
        let mut writer = self.host_mut().writers.remove(index);
        if writer.process.kill()?.is_err() {
            return Err(writer.broken("ended by itself"));
        }
        self.tally.fault("writer killed");
        Ok(Args { create: false, ..writer.args.clone() })
    }
}
