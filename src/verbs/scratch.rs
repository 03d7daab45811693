//! Where a full restore is tried: a directory that does not outlive a command that is told to end. It
//! holds as much as the database, and plain, however sealed the replica is.

use crate::error::{Error, Result};
use crate::verify::SCRATCH;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use std::path::Path;
use std::{fs, io, thread};
use tempfile::TempDir;

#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    pub fn new() -> Result<Self> {
        let failed = |error: io::Error| Error::io("create", "a scratch directory", &error);
        let dir = tempfile::tempdir().map_err(|error| failed(error).hint(SCRATCH))?;
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
        let path = dir.path().to_owned();
        thread::spawn(move || {
            let Some(signal) = signals.forever().next() else { return };
            // Whoever is at work in there may make a file as its directory is removed.
            while path.exists() && fs::remove_dir_all(&path).is_err_and(is_not_empty) {}
            emulate_default_handler(signal).ok();
        });
        Ok(Self(dir))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

fn is_not_empty(error: io::Error) -> bool {
    error.kind() == io::ErrorKind::DirectoryNotEmpty
}
