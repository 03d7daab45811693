//! The hosts of a rig: each with a database, a daemon and the daemon's state, all for one replica.
//!
//! A host is on a branch of the history, and has a turn as the source of the replica. What is done
//! to a rig is done to the host that is meant; there is only one unless a scenario adds more.

use super::{Failure, Result, Rig, Writer};
use crate::course::Turns;
use crate::process::Process;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Host {
    /// The directory that its database lies in.
    pub home: PathBuf,
    /// Chooses its database's shape and operations.
    pub seed: u64,
    pub branch: u32,
    /// What the branch has left; none for the first one, and for a database made anew.
    pub parent: Option<u32>,
    /// Its turn as the source; 0 until it has one.
    pub turn: Turns,
    pub daemon: Option<Process>,
    pub writers: Vec<Writer>,
    pub wal_counter: Option<u32>,
}

impl Host {
    pub fn first(home: PathBuf, seed: u64) -> Self {
        Self {
            home,
            seed,
            branch: 0,
            parent: None,
            turn: 1,
            daemon: None,
            writers: Vec::new(),
            wal_counter: None,
        }
    }

    pub fn db(&self) -> PathBuf {
        self.home.join("app.db")
    }

    /// Ends what runs on it, by SIGKILL.
    pub fn end(&mut self) {
        self.daemon = None;
        self.writers.clear();
    }
}

/// How long a daemon may take to see that another one has taken over, or to end by itself. It writes
/// all the while, so this is far beyond what it takes.
const PATIENCE: Duration = Duration::from_secs(20);

impl Rig {
    pub fn host(&self) -> &Host {
        &self.hosts[self.at]
    }

    pub fn host_mut(&mut self) -> &mut Host {
        &mut self.hosts[self.at]
    }

    /// From now on this host is meant.
    pub fn switch(&mut self, host: usize) {
        assert!(host < self.hosts.len(), "no such host");
        self.at = host;
    }

    /// The host that is meant.
    pub fn present(&self) -> usize {
        self.at
    }

    /// A further host, which has no database yet.
    pub fn add_host(&mut self) -> Result<usize> {
        let number = self.hosts.len();
        let home = self.dir.join(format!("app-{number}"));
        std::fs::create_dir(&home)?;
        self.hosts.push(Host::first(home, self.seed));
        Ok(number)
    }

    /// Copies the present host's database to another one, over what it may have had, and goes there.
    /// Nobody may write meanwhile.
    pub fn bring_database(&mut self, host: usize) -> Result<()> {
        let from = std::mem::replace(&mut self.at, host);
        if self.db().exists() {
            self.remove_database()?;
        }
        self.remove_sides()?;
        let to = self.db();
        self.at = from;
        self.copy_database(&to)?;
        self.hand_over(host);
        Ok(())
    }

    /// Another place for the database of a rig that has not begun.
    pub fn move_home(&mut self, home: PathBuf) -> Result<()> {
        std::fs::create_dir_all(&home)?;
        self.host_mut().home = home;
        Ok(())
    }

    fn next_branch(&mut self) -> u32 {
        self.branches += 1;
        self.branches
    }

    /// The database of the present host goes to another one, with the history that it has.
    pub fn hand_over(&mut self, host: usize) {
        let Host { seed, branch, parent, turn, .. } = *self.host();
        self.switch(host);
        let host = self.host_mut();
        (host.seed, host.branch, host.parent, host.turn) = (seed, branch, parent, turn);
    }

    /// This host's database goes on from less than was committed: its writers are on a new branch.
    /// The turn begins with the first of them, or with `take_turn`.
    pub fn fork(&mut self) {
        let branch = self.next_branch();
        let host = self.host_mut();
        host.parent = Some(host.branch);
        (host.branch, host.turn) = (branch, 0);
    }

    /// Another database takes the place of this host's: nothing of the history so far is in it.
    pub fn begin_anew(&mut self, seed: u64) {
        let branch = self.next_branch();
        let host = self.host_mut();
        (host.seed, host.parent, host.branch, host.turn) = (seed, None, branch, 0);
    }

    /// This host becomes the source of the replica. Its database is at `seq`.
    pub fn take_turn(&mut self, seq: u64) {
        let branch = self.host().branch;
        self.host_mut().turn = self.truth.course.turn(branch, seq);
    }

    /// Everything on this host dies at once; what has ended before in whatever way is no matter.
    pub fn crash(&mut self) -> Result<()> {
        self.host_mut().writers.clear();
        self.end_daemon()
    }

    /// SIGKILL to the daemon, unless it has ended, in whatever way.
    pub fn end_daemon(&mut self) -> Result<()> {
        if let Some(mut daemon) = self.host_mut().daemon.take()
            && daemon.kill()?.is_ok()
        {
            self.tally.kills += 1;
            self.tally.fault("daemon killed");
        }
        Ok(())
    }

    /// Waits until one of these hosts' daemons has ended, which is then gone: which one, and how.
    /// `None`: all of them go on.
    pub fn first_to_end(&mut self, hosts: &[usize]) -> Result<Option<(usize, ExitStatus, String)>> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            for &at in hosts {
                let host = &mut self.hosts[at];
                let Some(daemon) = &mut host.daemon else { continue };
                if let Some(status) = daemon.ended()? {
                    let said = daemon.complaint();
                    host.daemon = None;
                    return Ok(Some((at, status, said)));
                }
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(None)
    }

    /// SIGTERM to this host's daemon, and how it ended; whatever it has made durable it may say.
    pub fn terminate(&mut self) -> Result<(ExitStatus, String)> {
        let mut daemon = self.host_mut().daemon.take().expect("the daemon was started");
        daemon.handles(crate::process::Signal::Terminate)?;
        daemon.signal(crate::process::Signal::Terminate);
        match daemon.wait()? {
            Some(status) => Ok((status, daemon.complaint())),
            None => Err(Failure::Violation("SIGTERM: it did not end within two minutes".into())),
        }
    }
}
