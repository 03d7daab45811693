//! One HTTP request on a connection of its own, and its whole reply.
//!
//! Follows no redirect, waits no longer than it is told, and takes nothing that was cut off for an
//! answer: a reply has a status line, says how long it is, and is as long as it says. It knows nothing
//! of what is asked for, and retries nothing.

use crate::sabotage;
use minreq::{Error, Method};
use std::io::{self, ErrorKind, Read};
use std::time::Duration;

pub struct Request<'a> {
    pub method: Method,
    /// It carries the signature, so it is never shown.
    pub url: &'a str,
    pub headers: &'a [(&'static str, String)],
    pub body: &'a [u8],
    /// From the first look-up of a name to the last byte.
    pub timeout: Duration,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
    /// Whether the length was told beforehand, so that all of the body is known to be here.
    pub told: bool,
    headers: Vec<(String, String)>,
}

/// Why there is no reply.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub cause: String,
    /// Trying again will not help by itself.
    pub lasting: bool,
    /// Time was up while a body may still have been on its way, this one or that of the reply.
    pub late: bool,
}

/// No reply is longer: the largest object, or a page of a listing.
const MOST: u64 = 33 << 20;

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        header.map(|(_, value)| value.trim())
    }
}

pub fn send(request: &Request) -> Result<Reply, Failure> {
    let has_no_body = request.method == Method::Head;
    // A connection that nothing is left to come from need not be kept open by the server.
    let mut sent = minreq::Request::new(request.method.clone(), request.url)
        .with_follow_redirects(false)
        .with_timeout(request.timeout.as_secs().max(1))
        .with_header("connection", "close")
        .with_headers(request.headers.iter().cloned());
    if request.method == Method::Put {
        sent = sent.with_body(request.body);
    }
    let mut lazy = sent.send_lazy().map_err(|error| match request.body {
        [] => Failure { late: false, ..failure(error) },
        _ => failure(error),
    })?;
    let mut reply = Reply {
        status: lazy.status_code,
        body: Vec::new(),
        told: false,
        headers: std::mem::take(&mut lazy.headers),
    };
    if !(100..600).contains(&reply.status) {
        return Err(passing("no status line"));
    }
    if has_no_body || reply.status == 204 || reply.status == 304 {
        return Ok(Reply { told: true, ..reply });
    }
    read_body(&mut lazy, &mut reply)?;
    Ok(reply)
}

/// Asks for a page, and takes nothing but the head of the reply.
pub fn glance(url: &str, timeout: Duration) -> Result<Reply, Failure> {
    let sent = minreq::Request::new(Method::Get, url)
        .with_follow_redirects(false)
        .with_timeout(timeout.as_secs().max(1))
        .with_header("connection", "close");
    let lazy = sent.send_lazy().map_err(failure)?;
    match lazy.status_code {
        status @ 100..600 => {
            let headers = lazy.headers.clone();
            Ok(Reply { status, body: Vec::new(), told: false, headers })
        }
        _ => Err(passing("no status line")),
    }
}

fn read_body(from: &mut impl Read, reply: &mut Reply) -> Result<(), Failure> {
    let length = reply.header("content-length").and_then(|text| text.parse::<u64>().ok());
    let chunked = reply.header("transfer-encoding").is_some();
    if length.is_none() && !chunked {
        return Err(passing("the reply ends within its header, or does not say how long it is"));
    }
    if length.is_some_and(|length| length > MOST) {
        return Err(passing("the reply is longer than any object"));
    }
    from.take(MOST + 1).read_to_end(&mut reply.body).map_err(|error| failure(error.into()))?;
    let got = reply.body.len() as u64;
    match length.filter(|_| !chunked) {
        Some(length) if got != length && !sabotage::is("accept-short-body") => {
            Err(passing(format!("the connection ended after {got} bytes of {length}")))
        }
        _ if got > MOST => Err(passing("the reply is longer than any object")),
        length => {
            reply.told = length.is_some();
            Ok(())
        }
    }
}

fn passing(cause: impl Into<String>) -> Failure {
    Failure { cause: cause.into(), lasting: false, late: false }
}

/// What the connection failed at. TLS reports a certificate that it does not trust as invalid data.
fn failure(error: Error) -> Failure {
    match error {
        Error::IoError(error) => Failure {
            cause: of_system(&error),
            lasting: is_distrust(&error),
            late: is_late(&error),
        },
        Error::RustlsCreateConnection(error) => {
            Failure { lasting: true, ..passing(format!("no TLS: {error}")) }
        }
        error => passing(error.to_string()),
    }
}

fn is_distrust(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput)
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

fn of_system(error: &io::Error) -> String {
    if is_late(error) { "no answer in time".to_owned() } else { error.to_string() }
}
