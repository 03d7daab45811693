//! A daemon as those see it who are told of it: over a socket, in a file, by a ping.

use super::*;
use crate::commit::Time;
use crate::config::Database;
use crate::daemon::Stop;
use crate::daemon::tests::{Running, wait_until};
use crate::testkit::{Db, commits};
use crate::verified::Verified;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::AtomicU32;

/// An address that is free, and stays so: nobody else uses this one of the loopback's.
fn free(last: u8) -> SocketAddr {
    TcpListener::bind(SocketAddr::from(([127, 77, 0, last], 0))).unwrap().local_addr().unwrap()
}

/// Asked again while it is not there, or the daemon has no time to answer.
fn asked(at: SocketAddr, request: &str) -> String {
    loop {
        let Ok(mut connection) = TcpStream::connect(at) else {
            thread::yield_now();
            continue;
        };
        // One that is refused before it was read to its end breaks off, in one way or the other.
        let mut reply = String::new();
        let sent = connection.write_all(request.as_bytes());
        sent.and_then(|()| connection.read_to_string(&mut reply)).ok();
        if !reply.starts_with("HTTP/1.1 503 ") {
            return reply;
        }
    }
}

fn value(page: &str, metric: &str) -> Option<f64> {
    let line = page.lines().find(|line| line.starts_with(&format!("{metric}{{")))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

fn metrics(at: SocketAddr) -> String {
    let reply = asked(at, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("version=0.0.4"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    body.to_owned()
}

#[test]
fn a_page_of_metrics_says_what_is_durable() {
    let db = Db::new(4096);
    let at = free(1);
    let mut config = db.config();
    config.settings.observers.metrics_listen = Some(at);
    let (daemon, flag, wanted) = Running::reloading(std::slice::from_ref(&config));
    wait_until(true, &config);
    commits(&db.open(), 3);
    crate::daemon::sync(std::slice::from_ref(&config)).unwrap();
    // `sync` returns when the cursor says so, which may be a moment before the daemon's loop knows.
    let page = loop {
        let page = metrics(at);
        if value(&page, "bakelite_lag_seconds") == Some(0.0) {
            break page;
        }
    };
    assert_eq!(value(&page, "bakelite_watched"), Some(1.0), "{page}");
    assert_eq!(value(&page, "bakelite_current"), Some(1.0), "{page}");
    let durable = value(&page, "bakelite_durable_commit");
    assert!(durable.is_some() && durable == value(&page, "bakelite_captured_commit"), "{page}");
    let verified = |page: &str| {
        let depths =
            ["bakelite_verified_timestamp_seconds", "bakelite_verified_deep_timestamp_seconds"];
        depths.map(|depth| value(page, depth))
    };
    assert_eq!(verified(&page), [None, None]);
    let url = config.destinations[0].to_string();
    Verified::note(&config.state_dir, &[&url], false, Time(2000));
    assert_eq!(verified(&metrics(at)), [Some(2.0), None]);
    assert!(asked(at, "GET /x HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(asked(at, "PUT /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    let head = asked(at, "HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(asked(at, &"x".repeat(9000)), "", "too long to be a request");
    // A reload moves the page, and does not interrupt the watch.
    let other = free(2);
    config.settings.observers.metrics_listen = Some(other);
    wanted.send(Ok(vec![config])).unwrap();
    flag.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(value(&metrics(other), "bakelite_timelines_total"), Some(1.0));
    while TcpStream::connect(at).is_ok() {
        thread::yield_now();
    }
    daemon.end().unwrap();
}

#[test]
fn a_file_of_metrics_is_there_whole_and_for_all_to_read() {
    use std::os::unix::fs::PermissionsExt;
    let databases = [Db::new(4096), Db::new(512)];
    let file = databases[0].dir.path().join("bakelite.prom");
    let configs = [0, 1].map(|at: usize| {
        let mut config = Database { name: at.to_string(), ..databases[at].config() };
        config.settings.observers.metrics_file = Some(file.clone());
        config
    });
    let (daemon, ..) = Running::reloading(&configs);
    while !file.exists() {
        thread::yield_now();
    }
    let page = fs::read_to_string(&file).unwrap();
    for name in ["0", "1"] {
        assert!(page.contains(&format!("bakelite_watched{{database=\"{name}\"}} ")), "{page}");
    }
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    daemon.end().unwrap();
}

/// The first ping comes once all of its databases are well, and not before.
#[test]
fn a_ping_comes_when_everything_is_durable() {
    let databases = [Db::new(4096), Db::new(4096)];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/secret", listener.local_addr().unwrap());
    let configs = [0, 1].map(|at: usize| {
        let mut config = Database { name: at.to_string(), ..databases[at].config() };
        config.settings.observers.ping_url = Some(url.clone());
        config
    });
    let missing = databases[1].dir.path().join("moved");
    fs::rename(&databases[1].path, &missing).unwrap();
    let (daemon, ..) = Running::reloading(&configs);
    wait_until(true, &configs[0]);
    crate::daemon::sync(&configs[..1]).unwrap();
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "one of them is not watched yet");
    fs::rename(&missing, &databases[1].path).unwrap();
    listener.set_nonblocking(false).unwrap();
    let (mut connection, _) = listener.accept().unwrap();
    assert!(databases[1].dir.path().join("replica/timeline").exists());
    let mut head = [0; 16];
    connection.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"GET /secret HTTP");
    connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    daemon.end().unwrap();
}

/// A page that says 200 to everybody, and how often it was asked for.
fn page() -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/secret", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            // Counted before it is answered, so that an errand that is over has been counted.
            count.fetch_add(1, Ordering::Relaxed);
            connection.read_exact(&mut [0; 16]).unwrap();
            connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok();
        }
    });
    (url, asked)
}

/// Has a daemon ping where it is due, and waits until it is done.
fn run_errands(daemon: &mut Daemon, now: Instant) {
    daemon.run_errands(now);
    while daemon.watch.errands.values().any(|round| round.busy.load(Ordering::Acquire)) {
        thread::yield_now();
    }
}

/// Its time is not the clock's: three minutes in which it is looked at every second whether one is due.
#[test]
fn a_ping_comes_once_in_a_minute_and_while_nothing_old_is_lacking() {
    let db = Db::new(4096);
    let (url, asked) = page();
    let mut config = db.config();
    config.settings.observers.ping_url = Some(url);
    let mut daemon = Daemon::begin(&vec![config].into(), &Stop::default()).unwrap();
    let lacks = |sample: &Sample| sample.destinations[0].owed_since.is_some();
    while !daemon.samples(clock::instant(), |_| true).iter().all(|it| it.watched && !lacks(it)) {
        daemon.turn(clock::instant());
        daemon.wait(Duration::from_millis(1));
    }
    let begun = clock::instant();
    for second in 0..=180 {
        run_errands(&mut daemon, begun + Duration::from_secs(second));
        let expected = 1 + second as u32 / 60;
        assert_eq!(asked.load(Ordering::Relaxed), expected, "after {second} seconds");
    }
    let mut samples = daemon.samples(clock::instant(), |_| true);
    let mut well = |age_ms| {
        samples[0].destinations[0].owed_since = Some(Time(clock::now().0 - age_ms));
        all_are_well(&samples)
    };
    assert_eq!([well(0), well(250_000), well(301_000)], [true, true, false]);
}
