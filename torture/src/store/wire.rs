//! HTTP as the store speaks it: one request on each connection, and its reply.

use crate::replica;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

/// No object is larger; a client that says more is a bug.
const MOST: usize = 33 << 20;
/// A client that sends nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Request {
    pub method: String,
    /// Empty for the bucket itself.
    pub key: String,
    query: BTreeMap<String, String>,
    pub create_only: bool,
    /// Until when it is to be locked.
    pub until: Option<String>,
    pub body: Vec<u8>,
    length: usize,
}

impl Request {
    /// The first line and the headers.
    pub fn head(connection: &mut TcpStream) -> io::Result<Self> {
        connection.set_read_timeout(Some(PATIENCE))?;
        let mut head = Vec::new();
        let mut chunk = [0; 4096];
        let end = loop {
            if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            match connection.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => head.extend_from_slice(&chunk[..read]),
            }
        };
        let body = head.split_off(end + 4);
        let text = String::from_utf8_lossy(&head).into_owned();
        let mut lines = text.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
        let query = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut request = Self {
            method: method.to_owned(),
            key: decoded(key),
            query: query.map(|(key, value)| (decoded(key), decoded(value))).collect(),
            body,
            ..Self::default()
        };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => request.length = value.trim().parse().unwrap_or(0),
                "x-amz-object-lock-retain-until-date" => {
                    request.until = Some(value.trim().to_owned());
                }
                "if-none-match" => request.create_only = value.trim() == "*",
                _ => {}
            }
        }
        if request.length > MOST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(request)
    }

    pub fn read_body(&mut self, connection: &mut TcpStream) -> io::Result<()> {
        let had = self.body.len().min(self.length);
        self.body.resize(self.length, 0);
        connection.read_exact(&mut self.body[had..])
    }

    /// `LIST` is a `GET` of the bucket.
    pub fn kind(&self) -> &str {
        match (self.method.as_str(), self.key.as_str()) {
            ("GET", "") => "LIST",
            ("HEAD", _) => "GET",
            (method, _) => method,
        }
    }

    pub fn text(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    pub fn asks(&self, name: &str) -> bool {
        self.query.contains_key(name)
    }

    pub fn number(&self, name: &str) -> Option<usize> {
        self.text(name).parse().ok()
    }
}

/// `%2F` and the like.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        (rest, _) = match code.filter(|_| first == b'%') {
            Some(code) => (&after[2..], bytes.push(code)),
            None => (after, bytes.push(first)),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `20261123T190000Z`, as requests are dated, with the marks that a time has elsewhere.
pub fn spread(date: &str) -> String {
    let digits: Vec<char> = date.chars().collect();
    let marks = [(4, '-'), (6, '-'), (11, ':'), (13, ':')];
    let mark = |at| marks.iter().find(|(before, _)| *before == at).map(|(_, mark)| *mark);
    digits.iter().enumerate().flat_map(|(at, digit)| mark(at).into_iter().chain([*digit])).collect()
}

/// A page of versions: one of each key, and no marker.
pub fn versions(page: &[(&str, usize)], more: bool) -> Vec<u8> {
    let mut xml = format!("<ListVersionsResult><IsTruncated>{more}</IsTruncated>");
    if let Some((last, _)) = page.last().filter(|_| more) {
        let _ = write!(xml, "<NextKeyMarker>{last}</NextKeyMarker>");
        xml.push_str("<NextVersionIdMarker>1</NextVersionIdMarker>");
    }
    for (key, size) in page {
        let _ = write!(xml, "<Version><Key>{key}</Key><VersionId>1</VersionId>");
        let _ = write!(xml, "<Size>{size}</Size></Version>");
    }
    xml.push_str("</ListVersionsResult>");
    xml.into_bytes()
}

const OPEN: &str = "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">";

/// A page of keys and their sizes.
pub fn listing(page: &[(&str, usize)], more: bool) -> Vec<u8> {
    let mut xml = OPEN.to_owned();
    let _ = write!(xml, "<IsTruncated>{more}</IsTruncated>");
    for (key, size) in page {
        let _ = write!(xml, "<Contents><Key>{key}</Key><Size>{size}</Size></Contents>");
    }
    if let Some((last, _)) = page.last().filter(|_| more) {
        let _ = write!(xml, "<NextContinuationToken>{last}</NextContinuationToken>");
    }
    xml.push_str("</ListBucketResult>");
    xml.into_bytes()
}

/// What keys have in common up to a slash, all of it on one page.
pub fn groups<'a>(groups: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut xml = format!("{OPEN}<IsTruncated>false</IsTruncated>");
    for group in groups {
        let _ = write!(xml, "<CommonPrefixes><Prefix>{group}</Prefix></CommonPrefixes>");
    }
    xml.push_str("</ListBucketResult>");
    xml.into_bytes()
}

#[derive(Debug)]
pub struct Reply {
    status: u16,
    body: Vec<u8>,
    headers: String,
}

impl Reply {
    pub fn ok(body: Vec<u8>) -> Self {
        Self { status: 200, body, headers: String::new() }
    }

    pub fn nothing() -> Self {
        Self { status: 204, body: Vec::new(), headers: String::new() }
    }

    pub fn error((status, code): (u16, &str)) -> Self {
        let body = format!("<Error><Code>{code}</Code><Message>of the harness</Message></Error>");
        Self { status, body: body.into_bytes(), headers: String::new() }
    }

    /// Sent at this time, by the store's clock.
    #[must_use]
    pub fn dated(mut self, millis: u64) -> Self {
        const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
        let time = replica::rfc3339(millis);
        let month: usize = time[5..7].parse().expect("two digits");
        let (year, month) = (&time[..4], &MONTHS[month * 3 - 3..month * 3]);
        let _ =
            write!(self.headers, "date: {} {month} {year} {} GMT\r\n", &time[8..10], &time[11..19]);
        self
    }

    /// Of an object that is locked until then, unless that is 0.
    #[must_use]
    pub fn locked(mut self, until: u64) -> Self {
        if until > 0 {
            self.headers.push_str("x-amz-version-id: 1\r\nx-amz-object-lock-mode: GOVERNANCE\r\n");
            let until = replica::rfc3339(until);
            let _ = write!(self.headers, "x-amz-object-lock-retain-until-date: {until}\r\n");
        }
        self
    }

    fn head(&self) -> String {
        let Self { status, body, headers } = self;
        let length = body.len();
        format!(
            "HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
        )
    }

    pub fn send(&self, to: &mut TcpStream) -> io::Result<()> {
        to.write_all(self.head().as_bytes())?;
        to.write_all(&self.body)
    }

    /// All of the head, and half of the body: without one, the head is what ends in its middle.
    pub fn send_half(&self, to: &mut TcpStream) -> io::Result<()> {
        if self.body.is_empty() {
            let head = self.head();
            return to.write_all(&head.as_bytes()[..head.len() / 2]);
        }
        to.write_all(self.head().as_bytes())?;
        to.write_all(&self.body[..self.body.len() / 2])
    }

    pub fn send_slowly(&self, to: &mut TcpStream) -> io::Result<()> {
        let mut bytes = self.head().into_bytes();
        bytes.extend_from_slice(&self.body);
        for piece in bytes.chunks(bytes.len().div_ceil(20)) {
            to.write_all(piece)?;
            to.flush()?;
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}
