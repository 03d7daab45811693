//! The keys of a rig's replicas: made by the program, named to the daemon in its configuration and to
//! readers on their command line. And what a destination shows to who has none.

use super::{Failure, Result, Rig, violation};
use crate::oracle::Expect;
use crate::process::{self, Output, Process};
use crate::replica::{self, Refused};
use bakelite::backend::list_all;
use bakelite::commit::CommitNo;
use bakelite::config::{Destination as At, Sealing};
use bakelite::error::Status;
use bakelite::name::Name;
use bakelite::object::{KeyId, sealed_under};
use bakelite::restore::Target;
use bakelite::seal::Rule;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Files and their names.
type Files = Vec<(String, Vec<u8>)>;

/// Under which key each object of a destination is, by its name.
pub type Under = BTreeMap<String, Option<KeyId>>;

impl Rig {
    /// Makes a key, with the program.
    pub fn keygen(&mut self, name: &str) -> Result<PathBuf> {
        let file = self.dir.join(format!("{name}.key"));
        let log = self.path("log", "keygen");
        let mut command = self.program("keygen");
        match process::run(command.arg(&file), &log)? {
            Some(done) if done.status.success() => Ok(file),
            done => violation(format!("keygen: {done:?}")),
        }
    }

    /// From now on the program is told these keys in a file, and so is who reads. Nothing is
    /// compressed, so that what is stored plain is seen to be, and change-sets are merged soon.
    pub fn configure(&mut self, key_files: &[&Path], rule: Rule) -> Result<()> {
        let key_files = key_files.iter().map(|file| file.to_path_buf()).collect();
        self.sealing = Sealing { key_files, rule };
        let (files, seal) = (&self.sealing.key_files, word(rule));
        let settings = format!(
            "compression = \"none\"\nship_interval = \"50ms\"\ncompaction = [\"250ms\", \"1s\"]\n\
             key_files = {files:?}\nseal = {seal:?}"
        );
        self.set(&settings)
    }

    /// The program, told to read with the keys that are known.
    pub(super) fn reader(&self, verb: &str) -> Command {
        let mut command = self.program(verb);
        command.args(self.sealing_words());
        command
    }

    /// The keys as words of a command line.
    pub(super) fn sealing_words(&self) -> Vec<String> {
        let files = self.sealing.key_files.iter();
        let files = files.flat_map(|file| ["--key-file".to_owned(), file.display().to_string()]);
        let rule = Some(self.sealing.rule).filter(|rule| *rule != Rule::Auto);
        files.chain(rule.map(|rule| format!("--seal={}", word(rule)))).collect()
    }

    /// Starts `bakelite reencrypt` on all destinations, to be killed while it works.
    pub fn start_reencrypt(&mut self) -> Result<Process> {
        let log = self.path("log", "reencrypt");
        Ok(Process::spawn(self.bakelite("reencrypt").stdout(Stdio::null()), &log)?)
    }

    pub fn reencrypt(&mut self, words: &[&str]) -> Result<Output> {
        let log = self.path("log", "reencrypt");
        match process::run(self.bakelite("reencrypt").args(words), &log)? {
            Some(done) => Ok(done),
            None => violation("reencrypt did not return within two minutes"),
        }
    }

    /// How `bakelite sync` ends with the keys of now.
    pub fn sync_status(&mut self) -> Result<Option<i32>> {
        let log = self.path("log", "sync");
        let done = process::run(&mut self.bakelite("sync"), &log)?;
        Ok(done.and_then(|done| done.status.code()))
    }

    /// How the objects of each destination are sealed.
    pub fn under(&mut self) -> Result<Vec<Under>> {
        let of = |files: Files| {
            let objects = files.into_iter().filter(|(name, _)| name.parse::<Name>().is_ok());
            objects.map(|(name, bytes)| (name, sealed_under(&bytes))).collect()
        };
        Ok(self.stored()?.into_iter().map(of).collect())
    }

    /// Every file on each destination, unfinished ones too.
    fn stored(&mut self) -> Result<Vec<Files>> {
        let all = self.destinations.iter().map(|destination| match &destination.read {
            At::File { root } => files(root, root),
            bucket => objects(bucket),
        });
        all.collect()
    }

    /// Restores with other keys than those of now. What comes back has to be right, and what does not
    /// has to be refused for lack of a key; whether it came back.
    pub fn grade_with(&mut self, key_files: &[&Path], target: Target) -> Result<bool> {
        let key_files = key_files.iter().map(|file| file.to_path_buf()).collect();
        let sealing = Sealing { key_files, rule: Rule::Auto };
        let known = std::mem::replace(&mut self.sealing, sealing);
        let exactly = match target {
            Target::Commit(commit) => self.kept_as(commit),
            _ => None,
        };
        let expect = Expect {
            floor: self.to().floor.filter(|_| exactly.is_none()),
            exactly,
            ..Expect::default()
        };
        let source = self.source();
        let verdict = self.verdict(&source, target, &expect);
        self.sealing = known;
        match verdict? {
            super::Verdict::Refused(Refused { status, .. }) if status == Status::Key as i32 => {
                self.tally.fault("refused for lack of a key");
                Ok(false)
            }
            verdict => self.settle_verdict(target, verdict, &expect).map(|landed| landed.is_some()),
        }
    }

    /// What a commit that is kept in mind was.
    fn kept_as(&self, commit: CommitNo) -> Option<crate::course::Place> {
        let at = self.kept.iter().find(|(_, number)| *number == commit.0);
        at.and_then(|at| self.landed.get(at)).copied()
    }

    /// One of the commits kept in mind.
    pub fn kept_target(&mut self) -> Option<Target> {
        if self.kept.is_empty() {
            return None;
        }
        let (_, commit) = *self.rng.pick(&self.kept.clone());
        Some(Target::Commit(CommitNo(commit)))
    }

    /// Pieces of what the newest commit holds.
    pub fn pieces(&mut self) -> Result<Pieces> {
        let file = self.new_output()?;
        replica::restore_sealed(&self.source(), &self.sealing, &file, Target::Latest)
            .map_err(|refused| Failure::Violation(refused.message))?;
        let pieces = Pieces::of(&fs::read(&file)?);
        fs::remove_file(file)?;
        Ok(pieces)
    }

    /// The files in which pieces of the database are seen, and how many there are in all.
    pub fn shown(&mut self, pieces: &Pieces) -> Result<(Vec<String>, usize)> {
        let all: Vec<_> = self.stored()?.into_iter().flatten().collect();
        let seen = all.iter().filter(|(_, bytes)| pieces.seen_in(bytes));
        Ok((seen.map(|(name, _)| name.clone()).collect(), all.len()))
    }
}

fn word(rule: Rule) -> &'static str {
    match rule {
        Rule::Auto => "auto",
        Rule::All => "all",
        Rule::New => "new",
        Rule::None => "none",
    }
}

/// The files below a directory; those that vanish meanwhile are left out.
fn files(dir: &Path, root: &Path) -> Result<Files> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.append(&mut files(&path, root)?);
            continue;
        }
        let name = path.strip_prefix(root).expect("below it").display().to_string();
        match fs::read(&path) {
            Ok(bytes) => found.push((name, bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

fn objects(bucket: &At) -> Result<Files> {
    let failed = |error: bakelite::backend::Error| Failure::Harness(error.to_string());
    let source = replica::open(bucket).map_err(failed)?;
    let mut found = Vec::new();
    for prefix in Name::PREFIXES {
        for entry in list_all(&*source, prefix).map_err(failed)?.entries {
            match source.get(&entry.name) {
                Ok(bytes) => found.push((entry.name.to_string(), bytes)),
                Err(error) if error.kind == bakelite::backend::Kind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
    Ok(found)
}

/// Pieces of a database file that are found nowhere by chance.
#[derive(Debug)]
pub struct Pieces {
    all: HashSet<[u8; Self::BYTES]>,
    /// Marked for how each begins, so that most of what is looked at is not looked up.
    begun: Vec<bool>,
}

impl Pieces {
    const BYTES: usize = 16;

    fn of(file: &[u8]) -> Self {
        let mut pieces = Self { all: HashSet::new(), begun: vec![false; 1 << 20] };
        for at in (0..file.len().saturating_sub(Self::BYTES)).step_by(37) {
            let Some(piece) = file[at..].first_chunk::<{ Self::BYTES }>() else { continue };
            if piece.iter().collect::<BTreeSet<_>>().len() >= 10 {
                pieces.all.insert(*piece);
                pieces.begun[Self::beginning(piece)] = true;
            }
        }
        pieces
    }

    fn beginning(piece: &[u8; Self::BYTES]) -> usize {
        let [a, b, c, ..] = piece.map(usize::from);
        (a | b << 8 | c << 16) & 0xf_ffff
    }

    pub fn count(&self) -> usize {
        self.all.len()
    }

    fn seen_in(&self, bytes: &[u8]) -> bool {
        let mut windows = bytes.windows(Self::BYTES).filter_map(<[u8]>::first_chunk);
        windows.any(|at| self.begun[Self::beginning(at)] && self.all.contains(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_seen_wherever_it_lies_and_noise_is_none() {
        let mut rng = crate::rng::Rng::of(1, "pieces");
        let mut noise = || (0..4096).map(|_| rng.below(256) as u8).collect::<Vec<u8>>();
        let (file, other) = (noise(), noise());
        let pieces = Pieces::of(&file);
        assert!(pieces.count() > 90, "{}", pieces.count());
        assert!(!pieces.seen_in(&other));
        for at in [0, 1, 777, 4000] {
            let mut shows = other.clone();
            shows.splice(at..at, file[37..37 + Pieces::BYTES].iter().copied());
            assert!(pieces.seen_in(&shows), "{at}");
        }
        assert_eq!(Pieces::of(&[0; 4096]).count(), 0);
    }
}
