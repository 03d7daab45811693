//! The program on a clock that is wrong: the same code as that of `bakelite`, in this program, with its
//! clock as far off as a file says. Who has the file sets the clock of a daemon that runs.
//!
//! Only the clock of the day is moved, as by whoever sets it: the steady one goes on.

use bakelite::clock;
use bakelite::commit::Time;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

/// The first word of a command line that runs the program; the file comes next, then the program's words.
const VERB: &str = "bakelite-at";

static FILE: OnceLock<PathBuf> = OnceLock::new();

/// Runs the program, if that is what this process was started for.
pub fn program() -> Option<ExitCode> {
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if words.first().is_none_or(|word| word != VERB) || words.len() < 2 {
        return None;
    }
    let words = words.split_off(1);
    FILE.get_or_init(|| PathBuf::from(&words[0]));
    clock::stand_in(shown);
    Some(bakelite::program::main(words[1..].to_vec()))
}

/// What its clock shows.
fn shown() -> Time {
    let text = FILE.get().and_then(|file| fs::read_to_string(file).ok());
    let ahead: Option<i64> = text.and_then(|text| text.parse().ok());
    Time(clock::system().0.saturating_add_signed(ahead.expect("the clock's file is there")))
}

/// The clock of a host.
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
    pub ahead_ms: i64,
}

impl Clock {
    /// One that is right, in `dir`, and the program that goes by it.
    pub fn new(torture: &Path, dir: &Path) -> io::Result<(Self, PathBuf)> {
        let (mut clock, script) =
            (Self { file: dir.join("clock"), ahead_ms: 0 }, dir.join("bakelite-at"));
        clock.set(0)?;
        let (torture, file) = (torture.display(), clock.file.display());
        fs::write(&script, format!("#!/bin/sh\nexec '{torture}' {VERB} '{file}' \"$@\"\n"))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        Ok((clock, script))
    }

    /// Sets it so far ahead of the right time. Nobody reads half of it.
    pub fn set(&mut self, ahead_ms: i64) -> io::Result<()> {
        let new = self.file.with_extension("new");
        fs::write(&new, ahead_ms.to_string())?;
        fs::rename(new, &self.file)?;
        self.ahead_ms = ahead_ms;
        Ok(())
    }
}
