//! Files that hold keys: made, and read. `bakelite(5)` describes them.
//!
//! One is readable by its owner and group at most, written once and never over another file. It says
//! the key's id twice, so that a key copied by hand with an error is told from another key.

use crate::config::{Sealing, others_may_read};
use crate::durable;
use crate::error::{Error, Result, Status};
use crate::object::KeyId;
use crate::seal::{Key, Keys, Rule, Secret};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The first word of a key's line: the version of its form.
const WORD: &str = "bakelite-key-1";
/// No key file is longer.
const MOST: u64 = 4096;

/// The keys that a configuration or a command line names.
pub fn load(sealing: &Sealing) -> Result<Arc<Keys>> {
    let Sealing { key_files, rule } = sealing;
    if key_files.is_empty() && matches!(rule, Rule::All | Rule::New) {
        let error = Error::new(Status::Usage, "seal", "key_files", "there is no key to seal with");
        return Err(error.hint("make one with `bakelite keygen FILE`, and name it there"));
    }
    let all = key_files.iter().map(|file| read(file)).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Keys { all, rule: *rule }))
}

/// Makes a key, in a file that must not exist yet.
pub fn generate(file: &Path) -> Result<KeyId> {
    let mut secret = Secret::default();
    let random = File::open("/dev/random").and_then(|mut random| random.read_exact(&mut *secret));
    random.map_err(|cause| Error::io("read", "/dev/random", &cause))?;
    let id = Key::new(&secret).id;
    durable::create(file, text(&secret, id).as_bytes()).map_err(|cause| match cause.kind() {
        ErrorKind::AlreadyExists => {
            Error::new(Status::Exists, "keygen", file.display(), "there is a file of that name")
                .hint("a key that is lost cannot be had again, so none is written over")
        }
        _ => Error::io("keygen", file.display(), &cause)
            .hint("choose a directory that is there, and that you may write to"),
    })?;
    Ok(id)
}

fn text(secret: &Secret, id: KeyId) -> Zeroizing<String> {
    let digits = b"0123456789abcdef";
    let mut text = format!(
        "# A key of bakelite, id {id}. Whoever has it can read what is sealed with it, and without it\n\
         # nobody can: keep a copy in a safe place that is not this machine.\n{WORD} {id} "
    );
    // All that follows has room, so that no copy of it is left behind.
    text.reserve_exact(2 * secret.len() + 1);
    let mut text = Zeroizing::new(text);
    for byte in secret.iter() {
        text.push(digits[usize::from(byte >> 4)].into());
        text.push(digits[usize::from(byte & 15)].into());
    }
    text.push('\n');
    text
}

/// Reads a key. One that others can read is none any more.
pub fn read(file: &Path) -> Result<Key> {
    let missing = |cause: io::Error| {
        Error::new(Status::Key, "read the key", file.display(), cause)
            .hint("name the key's file with key_files, --key-file or BAKELITE_KEY_FILES")
    };
    if file.is_dir() {
        let error = Error::new(Status::Usage, "read the key", file.display(), "it is a directory");
        return Err(error.hint("name the key's file in it"));
    }
    if others_may_read(file).map_err(missing)? {
        let error = Error::new(Status::Usage, "read the key", file.display(), "others can read it");
        return Err(error.hint(format!("run: chmod o-rwx {}", file.display())));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(MOST as usize));
    let opened = File::open(file).and_then(|file| file.take(MOST).read_to_end(&mut text));
    opened.map_err(missing)?;
    parse(&text).map_err(|cause| {
        Error::new(Status::Key, "read the key", file.display(), cause)
            .hint("a key's file is made by `bakelite keygen FILE`, and has one key")
    })
}

/// What a key's file says: one line that is no comment, with the word, the id and the key.
pub fn parse(text: &[u8]) -> std::result::Result<Key, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not text")?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut lines = lines.filter(|line| !line.starts_with('#'));
    let line = lines.next().ok_or("there is no key in it")?;
    if lines.next().is_some() {
        return Err("there is more than one line in it");
    }
    let mut words = line.split_ascii_whitespace();
    if words.next() != Some(WORD) {
        return Err("it is not a key of bakelite, or of a newer version");
    }
    let (id, digits) = (words.next(), words.next().unwrap_or_default());
    let secret = secret(digits).filter(|_| words.next().is_none());
    let key = Key::new(&secret.ok_or("its key is not 64 hexadecimal digits")?);
    let same = id.is_some_and(|id| id.eq_ignore_ascii_case(&key.id.to_string()));
    same.then_some(key).ok_or("its key is not the one that its id says: a digit is wrong")
}

fn secret(digits: &str) -> Option<Secret> {
    let mut secret = Secret::default();
    if digits.len() != 2 * secret.len() || !digits.is_ascii() {
        return None;
    }
    for (byte, pair) in secret.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(secret)
}

#[cfg(test)]
mod tests;
