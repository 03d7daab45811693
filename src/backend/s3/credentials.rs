//! The keys that requests are signed with: from the environment, the configuration or a file.
//!
//! A file is read for each request, so that credentials that expire can be renewed beneath a running
//! daemon. One that others can read is refused. Nothing here is ever shown.

use super::refusal::Refusal;
use crate::config::{self, Credentials as Source, Secret};
use rusty_s3::Credentials;
use std::path::{Path, PathBuf};
use std::{env, fmt, fs};

/// The variables that hold a key, its secret and a session token, as the AWS tools have them.
pub const VARIABLES: [&str; 3] =
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

pub(super) enum Keys {
    Fixed(Credentials),
    File(PathBuf),
}

/// Not even the key's name.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed(_) => "Fixed",
            Self::File(_) => "File",
        })
    }
}

impl Keys {
    pub fn new(source: &Source) -> Result<Self, Refusal> {
        match source {
            Source::Environment => of_environment(|name| env::var(name).ok()).map(Self::Fixed),
            Source::Keys { access_key_id, secret_access_key: Secret(secret) } => {
                Ok(Self::Fixed(Credentials::new(access_key_id.as_str(), secret.as_str())))
            }
            Source::File(path) => Ok(Self::File(path.clone())),
        }
    }

    pub fn now(&self) -> Result<Credentials, Refusal> {
        match self {
            Self::Fixed(credentials) => Ok(credentials.clone()),
            Self::File(path) => of_file(path),
        }
    }
}

fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Credentials, Refusal> {
    let value = |name| variable(name).map(|value| value.trim().to_owned()).unwrap_or_default();
    made_of(VARIABLES.map(value)).ok_or_else(|| {
        Refusal::denied(
            "the environment has no credentials",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a credentials_file",
        )
    })
}

fn of_file(path: &Path) -> Result<Credentials, Refusal> {
    let shown = path.display();
    let open = config::others_may_read(path).and_then(|open| Ok((open, fs::read_to_string(path)?)));
    let (open, text) = open.map_err(|error| {
        Refusal::denied(format!("{shown}: {error}"), "name a file that bakelite may read")
    })?;
    if open {
        let cause = format!("{shown}: others can read it");
        return Err(Refusal::denied(cause, &format!("run: chmod 600 {shown}")));
    }
    of_text(&text).ok_or_else(|| {
        Refusal::denied(
            format!("{shown}: no credentials in it"),
            "write aws_access_key_id = ... and aws_secret_access_key = ... below [default]",
        )
    })
}

/// The file of the AWS tools: the section `[default]`, or what stands before any section.
fn of_text(text: &str) -> Option<Credentials> {
    let mut here = true;
    let mut found = [const { String::new() }; 3];
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            here = section.trim_end_matches(']').trim() == "default";
        }
        let Some((key, value)) = line.split_once('=').filter(|_| here) else { continue };
        let slot = match key.trim() {
            "aws_access_key_id" => 0,
            "aws_secret_access_key" => 1,
            "aws_session_token" => 2,
            _ => continue,
        };
        value.trim().clone_into(&mut found[slot]);
    }
    made_of(found)
}

fn made_of([key, secret, token]: [String; 3]) -> Option<Credentials> {
    match (key.is_empty() || secret.is_empty(), token.is_empty()) {
        (true, _) => None,
        (false, true) => Some(Credentials::new(key, secret)),
        (false, false) => Some(Credentials::new_with_token(key, secret, token)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Kind;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_of_the_aws_tools_is_read() {
        let check = |text: &str, expected: Option<(&str, &str, Option<&str>)>| {
            let read = of_text(text);
            let read = read.as_ref().map(|it| (it.key(), it.secret(), it.token()));
            assert_eq!(read, expected, "{text}");
        };
        let two = "aws_access_key_id = A\naws_secret_access_key=b=/+\n";
        check(two, Some(("A", "b=/+", None)));
        check(&format!("[default]\n{two}"), Some(("A", "b=/+", None)));
        check(
            &format!("[other]\naws_access_key_id = O\n[default]\n{two}"),
            Some(("A", "b=/+", None)),
        );
        check(&format!("{two}aws_session_token = T\r\n"), Some(("A", "b=/+", Some("T"))));
        check(&format!("{two}[other]\naws_access_key_id = O"), Some(("A", "b=/+", None)));
        check(&format!("[other]\n{two}"), None);
        check("# aws_access_key_id\naws_access_key_id = A\n", None);
        check("", None);
    }

    #[test]
    fn trap_80_a_renewed_file_is_read_at_once_and_an_open_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        let keys = Keys::new(&Source::File(path.clone())).unwrap();
        let write = |key: &str, mode| {
            fs::write(&path, format!("aws_access_key_id={key}\naws_secret_access_key=s")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let refused = |word: &str| {
            let refusal = keys.now().unwrap_err();
            assert_eq!(refusal.kind, Kind::Denied);
            assert!(refusal.cause.contains(word) && refusal.hint.is_some(), "{refusal:?}");
        };
        refused("No such file");
        write("A", 0o600);
        assert_eq!(keys.now().unwrap().key(), "A");
        write("B", 0o640);
        assert_eq!(keys.now().unwrap().key(), "B");
        write("C", 0o604);
        refused("others can read it");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        refused("no credentials");
    }

    #[test]
    fn the_environment_has_to_have_both_keys() {
        let of = |pairs: &[(&str, &str)]| {
            let find = |name: &str| pairs.iter().find(|pair| pair.0 == name).map(|it| it.1.into());
            of_environment(find).map(|it| it.token().map(str::to_owned))
        };
        let (key, secret) = (("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "s"));
        assert_eq!(of(&[key, secret]).unwrap(), None);
        assert_eq!(of(&[key, secret, ("AWS_SESSION_TOKEN", "T")]).unwrap().as_deref(), Some("T"));
        assert_eq!(of(&[key]).unwrap_err().kind, Kind::Denied);
        assert_eq!(of(&[]).unwrap_err().kind, Kind::Denied);
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret_access_key = Secret("hush".to_owned());
        let source = Source::Keys { access_key_id: "id".to_owned(), secret_access_key };
        let shown = format!("{:?} {source:?}", Keys::new(&source).unwrap());
        assert!(!shown.contains("hush"), "{shown}");
    }
}
