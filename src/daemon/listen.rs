//! A page of metrics on the loopback, for a Prometheus that asks.
//!
//! One thread an address, one connection at a time, each for a bounded time: whoever connects and says
//! nothing keeps the next one waiting for seconds, and the daemon not at all. The values come from the
//! daemon's loop, which is asked for them: when that hangs, so does the page, until it says so.

use crate::clock;
use crate::metrics::{self, Sample};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a connection may take in all, and how long the loop may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// No request is longer.
const MOST: usize = 8 << 10;
/// Written at a time, so that the time is looked at now and then.
const PIECE: usize = 64 << 10;

/// What whoever listens at this address asks the loop for.
#[derive(Debug)]
pub struct Ask {
    pub at: SocketAddr,
    pub reply: SyncSender<Vec<Sample>>,
}

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Listener {
    at: SocketAddr,
    closed: Arc<AtomicBool>,
}

impl Listener {
    pub fn new(at: SocketAddr, ask: Sender<Ask>) -> io::Result<Self> {
        let listener = TcpListener::bind(at)?;
        let closed = Arc::new(AtomicBool::new(false));
        let this = Self { at, closed: Arc::clone(&closed) };
        thread::spawn(move || {
            for connection in listener.incoming() {
                if closed.load(Ordering::Relaxed) {
                    return;
                }
                // One that broke off has nobody who could be told.
                let _ = connection.and_then(|connection| answer(connection, at, &ask));
            }
        });
        Ok(this)
    }
}

impl Drop for Listener {
    /// It waits for a connection, so it gets one.
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect_timeout(&self.at, Duration::from_millis(100));
    }
}

fn answer(mut connection: TcpStream, at: SocketAddr, ask: &Sender<Ask>) -> io::Result<()> {
    let end = clock::instant() + PATIENCE;
    connection.set_write_timeout(Some(PATIENCE))?;
    let head = read_head(&mut connection, end)?;
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let method = words.next().unwrap_or_default();
    let path = words.next().unwrap_or_default().split('?').next().unwrap_or_default();
    let (status, kind, body) = match (method, path) {
        ("GET" | "HEAD", "/metrics" | "/") => match samples(at, ask) {
            Some(mut samples) => {
                samples.iter_mut().for_each(Sample::look_up);
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                ("200 OK", kind, metrics::render(&samples, clock::now()))
            }
            None => plain("503 Service Unavailable", "the daemon does not answer\n"),
        },
        ("GET" | "HEAD", _) => plain("404 Not Found", "see /metrics\n"),
        _ => plain("405 Method Not Allowed", "GET /metrics\n"),
    };
    let reply = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Allow: GET, HEAD\r\nConnection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(reply.as_bytes())?;
    if method != "HEAD" {
        for piece in body.as_bytes().chunks(PIECE) {
            left(end)?;
            connection.write_all(piece)?;
        }
    }
    connection.flush()
}

fn plain(status: &'static str, body: &str) -> (&'static str, &'static str, String) {
    (status, "text/plain; charset=utf-8", body.to_owned())
}

fn samples(at: SocketAddr, ask: &Sender<Ask>) -> Option<Vec<Sample>> {
    let (reply, answer) = sync_channel(1);
    ask.send(Ask { at, reply }).ok()?;
    answer.recv_timeout(PATIENCE).ok()
}

/// Up to the empty line that ends it.
fn read_head(connection: &mut TcpStream, end: Instant) -> io::Result<Vec<u8>> {
    let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        connection.set_read_timeout(Some(left(end)?))?;
        match connection.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => head.extend_from_slice(&buffer[..length]),
        }
        if head.len() > MOST {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(head)
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(clock::instant());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
