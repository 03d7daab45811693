//! A bucket with Object Lock on a real server, and a thief of the daemon's keys: he may store, hide and
//! remove whatever they may.
//!
//! The thief's requests carry no signature. The server gives those the rights that the daemon's keys
//! have, and the rights to make the bucket only until it is made.

use super::real::Server;
use super::{BUCKET, KEYS};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::TcpStream;

/// A version of an object, or a marker over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub key: String,
    pub id: String,
    pub is_marker: bool,
}

/// Who may do what, by the names that the server knows.
pub(super) fn identities(actions: &[&str]) -> String {
    let [id, secret] = KEYS;
    let actions: Vec<String> = actions.iter().map(|action| format!("{action:?}")).collect();
    let actions = actions.join(", ");
    format!(
        "{{\"identities\": [{{\"name\": \"{id}\", \"credentials\": [{{\"accessKey\": \"{id}\", \
         \"secretKey\": \"{secret}\"}}], \"actions\": [{actions}]}}, \
         {{\"name\": \"anonymous\", \"actions\": [{actions}]}}]}}"
    )
}

/// What the daemon needs: it may not lift a lock.
pub(super) const KEEPS: &[&str] =
    &["Read:backups", "Write:backups", "List:backups", "PutObjectRetention:backups"];

impl Server {
    /// The thief's request: its status, its headers and its body.
    fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> io::Result<(u16, String, Vec<u8>)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port()))?;
        // Of version 1.0, so that the reply comes in one piece.
        let mut head = format!("{method} /{BUCKET}{path} HTTP/1.0\r\nhost: 127.0.0.1\r\n{headers}");
        let _ = write!(head, "content-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply)?;
        let end = reply.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.ok_or_else(|| io::Error::other("a reply without an end"))?;
        let body = reply.split_off(end + 4);
        let head = String::from_utf8_lossy(&reply).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("not a reply: {head}")))?;
        Ok((status, head, body))
    }

    /// Makes the bucket. `false`: the server is not ready yet.
    pub(super) fn make_vault(&self) -> bool {
        let locked = "x-amz-bucket-object-lock-enabled: true\r\n";
        self.ask("PUT", "", locked, b"").is_ok_and(|(status, ..)| status == 200)
    }

    /// Hides an object under a marker; whether the server let him.
    pub fn hide(&self, key: &str) -> io::Result<bool> {
        Ok(self.ask("DELETE", &format!("/{key}"), "", b"")?.0 == 204)
    }

    /// Stores something else over it.
    pub fn cover(&self, key: &str, body: &[u8]) -> io::Result<bool> {
        Ok(self.ask("PUT", &format!("/{key}"), "", body)?.0 == 200)
    }

    /// Tries to remove a version for good.
    pub fn destroy(&self, version: &Version) -> io::Result<bool> {
        let Version { key, id, .. } = version;
        let bypass = "x-amz-bypass-governance-retention: true\r\n";
        Ok(self.ask("DELETE", &format!("/{key}?versionId={id}"), bypass, b"")?.0 == 204)
    }

    /// A version's bytes, and until when it is locked.
    pub fn read(&self, version: &Version) -> io::Result<(Vec<u8>, Option<String>)> {
        let Version { key, id, .. } = version;
        let (status, head, body) = self.ask("GET", &format!("/{key}?versionId={id}"), "", b"")?;
        if status != 200 {
            return Err(io::Error::other(format!("{key} {id}: {status}")));
        }
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let until = lines
            .find(|(name, _)| name.eq_ignore_ascii_case("x-amz-object-lock-retain-until-date"));
        Ok((body, until.map(|(_, until)| until.trim().to_owned())))
    }

    /// Every version and marker, by key, the newest one first.
    pub fn versions(&self) -> io::Result<BTreeMap<String, Vec<Version>>> {
        let mut all: BTreeMap<String, Vec<Version>> = BTreeMap::new();
        let mut from = String::new();
        loop {
            let (status, _, body) = self.ask("GET", &format!("/?versions{from}"), "", b"")?;
            let xml = String::from_utf8_lossy(&body).into_owned();
            if status != 200 {
                return Err(io::Error::other(format!("versions: {status}: {xml}")));
            }
            for piece in xml.split("<Key>").skip(1) {
                let piece = format!("<Key>{piece}");
                let (Some(key), Some(id)) = (element(&piece, "Key"), element(&piece, "VersionId"))
                else {
                    continue;
                };
                let is_marker = element(&piece, "Size").is_none();
                let version = Version { key: key.clone(), id, is_marker };
                all.entry(key).or_default().push(version);
            }
            if element(&xml, "IsTruncated").as_deref() != Some("true") {
                return Ok(all);
            }
            let mark = |name| element(&xml, name).unwrap_or_default();
            from = format!(
                "&key-marker={}&version-id-marker={}",
                mark("NextKeyMarker"),
                mark("NextVersionIdMarker")
            );
        }
    }
}

fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split('<').next().map(str::to_owned)
}
