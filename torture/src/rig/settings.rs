//! A rig whose programs are told everything in a configuration file, and its upkeep by hand.

use super::{Result, Rig, violation};
use crate::process::{self, Process};
use bakelite::config::{Destination as At, LockMode};
use bakelite::error::Status;
use std::fmt::Write;
use std::process::Stdio;

/// The name of the database in the configuration: the last part of each replica's root.
pub const NAME: &str = "app";

impl Rig {
    /// From now on the program is told these settings in a file. The rig has its destinations.
    pub fn set(&mut self, settings: &str) -> Result<()> {
        let db = self.db();
        let mut text = format!("[[database]]\nname = \"{NAME}\"\npath = {:?}\n{settings}\n", db);
        for destination in &self.destinations {
            text += "[[database.destination]]\n";
            match &destination.given {
                At::File { root } => {
                    assert!(root.ends_with(NAME), "the root of a replica ends in its name");
                    let path = root.parent().expect("it has a name");
                    let _ = writeln!(text, "type = \"file\"\npath = {path:?}");
                }
                At::S3(place) => {
                    assert_eq!(place.prefix, NAME, "the root of a replica is its name");
                    let (bucket, endpoint) = (&place.bucket, &place.endpoint);
                    let _ = writeln!(
                        text,
                        "type = \"s3\"\nbucket = \"{bucket}\"\nendpoint = \"{endpoint}\"\n\
                         region = \"us-east-1\""
                    );
                    if let Some(lock) = place.lock {
                        let seconds = lock.period.as_secs();
                        let mode = match lock.mode {
                            LockMode::Governance => "governance",
                            LockMode::Compliance => "compliance",
                        };
                        let _ = writeln!(text, "lock = \"{seconds}s\"\nlock_mode = \"{mode}\"");
                    }
                }
            }
        }
        let path = self.dir.join("bakelite.toml");
        std::fs::write(&path, text)?;
        self.config = Some(path);
        Ok(())
    }

    /// A directory below one of its own, so that its root ends in the database's name.
    pub fn add_named_directory(&mut self, folder: &str) -> Result<()> {
        let folder = self.dir.join(folder);
        std::fs::create_dir(&folder)?;
        self.add_directory(&folder.join(NAME));
        Ok(())
    }

    /// Starts `compact` or `prune`, to be killed while it works.
    pub fn start_upkeep(&mut self, verb: &str) -> Result<Process> {
        let log = self.path("log", verb);
        Ok(Process::spawn(self.bakelite(verb).stdout(Stdio::null()), &log)?)
    }

    /// Does it to the end. Where a destination lacks something, its upkeep waits.
    pub fn upkeep(&mut self, verb: &str) -> Result<()> {
        let log = self.path("log", verb);
        match process::run(&mut self.bakelite(verb), &log)? {
            Some(done) if done.status.success() => self.tally.fault(&format!("{verb} done")),
            Some(done) if done.status.code() == Some(Status::Unreachable as i32) => {
                self.tally.fault(&format!("{verb} put off"));
            }
            Some(done) => return violation(format!("{verb}: {}: {}", done.status, done.complaint)),
            None => return violation(format!("{verb} did not return within two minutes")),
        }
        Ok(())
    }

    /// Has `repair` do what it can; what is lost for good is status 4.
    pub fn repair(&mut self) -> Result<()> {
        let log = self.path("log", "repair");
        let Some(done) = process::run(&mut self.bakelite("repair"), &log)? else {
            return violation("repair did not return within two minutes");
        };
        let lost = Status::Integrity as i32;
        if !done.status.success() && done.status.code() != Some(lost) {
            return violation(format!("repair: {}: {}", done.status, done.complaint));
        }
        let told = [
            ("healed from the database itself", "part made again"),
            ("healed from what was shipped lately", "change-set put back"),
            ("the daemon makes a new snapshot", "snapshot asked for"),
        ];
        for (words, what) in told {
            self.tally.faults(what, u64::from(done.stdout.contains(words)));
        }
        Ok(())
    }
}
