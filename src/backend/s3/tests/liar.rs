//! A store in this process that lies: it does what the backend asks of S3, in memory and without
//! looking at signatures, except where a test has told it to do something else.
//!
//! It counts the lies that it really told, since a test whose lie was never told proves nothing.

use crate::config::{Credentials, S3 as Place, Secret, UrlStyle};
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What a request gets instead of what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Nothing is done, and this status and code come back.
    Refused(u16, &'static str),
    /// A refusal with a message.
    Told(u16, &'static str, &'static str),
    /// Nothing is done, and this status, these headers, a line each, and this body come back.
    Said(u16, String, String),
    /// A put is refused after its header, since the name is taken, and none of its body is read.
    RefusedUnread,
    /// The connection ends before the request is read.
    ResetBefore,
    /// All is done, and the connection ends without a reply.
    ReplyLost,
    /// All is done, and the reply ends within its header.
    CutHeader,
    /// The reply ends in the middle of its body.
    CutBody,
    /// Nothing is done, and a success comes back with this code in its body.
    ErrorBody(&'static str),
    /// The reply is chunked, so nobody knows its length beforehand.
    Chunked,
    /// A byte of the reply at a time, for longer than anybody waits.
    Trickle,
    /// Nothing at all, and the connection stays.
    Silence,
    /// Half of the body, and the connection stays.
    Stalls,
    /// A listing without its newest key.
    Stale,
    /// A listing with every key twice.
    Twice,
    /// A listing from its end.
    Backwards,
    /// A listing from its start, wherever it was to go on.
    Anew,
}

#[derive(Default)]
pub struct State {
    pub objects: BTreeMap<String, Vec<u8>>,
    pub lies: VecDeque<Lie>,
    pub told: Vec<Lie>,
    /// The first line and the headers of each request.
    pub heads: Vec<String>,
    /// Writes over what is there, as some stores do.
    pub overwrites: bool,
    pub ended: bool,
}

pub struct Liar {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

pub const BUCKET: &str = "backups";

impl Liar {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || {
            for connection in listener.incoming() {
                if lock(&shared).ended {
                    return;
                }
                let shared = Arc::clone(&shared);
                // The client may be gone by the time it is answered.
                thread::spawn(move || drop(serve(connection.unwrap(), &shared)));
            }
        });
        Self { address, state, thread: Some(thread) }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The next requests are lied to, one lie each.
    pub fn lie(&self, lies: &[Lie]) {
        self.state().lies.extend(lies.iter().cloned());
    }

    /// How many requests came.
    pub fn asked(&self) -> usize {
        self.state().heads.len()
    }

    pub fn place(&self) -> Place {
        Place {
            bucket: BUCKET.to_owned(),
            prefix: "shop/app".to_owned(),
            endpoint: format!("http://{}", self.address),
            region: "eu-west-1".to_owned(),
            url_style: UrlStyle::Path,
            create_only: true,
            lock: None,
            credentials: Credentials::Keys {
                access_key_id: "AKID".to_owned(),
                secret_access_key: Secret("hush-hush".to_owned()),
            },
        }
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.state().ended = true;
        drop(TcpStream::connect(self.address));
        self.thread.take().unwrap().join().unwrap();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Asked {
    method: String,
    /// The key, empty for the bucket itself.
    key: String,
    query: BTreeMap<String, String>,
    create_only: bool,
    /// The last byte that is wanted, from the first one on.
    end: Option<usize>,
    body: Vec<u8>,
}

fn serve(mut connection: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let lie = {
        let mut state = lock(state);
        let lie = state.lies.pop_front();
        state.told.extend(lie.clone());
        lie
    };
    if lie == Some(Lie::ResetBefore) {
        lock(state).heads.push(String::new());
        // What is not read makes the system reset the connection.
        return connection.read_exact(&mut [0]);
    }
    let incoming = connection.try_clone()?;
    let (head, mut reader) = read_head(&incoming, state)?;
    if lie == Some(Lie::RefusedUnread) {
        assert!(head.starts_with("PUT "), "{head}");
        send(&mut connection, &taken(), None)?;
        return connection.shutdown(Shutdown::Write);
    }
    let asked = read(&head, &mut reader)?;
    let reply = match &lie {
        Some(Lie::Refused(status, code)) => error(*status, code, "injected"),
        Some(Lie::Told(status, code, message)) => error(*status, code, message),
        Some(Lie::ErrorBody(code)) => error(200, code, "injected"),
        Some(Lie::Said(status, _, body)) => (*status, body.clone().into_bytes()),
        _ => answer(&asked, &mut lock(state), lie.as_ref()),
    };
    send(&mut connection, &reply, lie.as_ref())
}

fn read_head<'a>(
    connection: &'a TcpStream,
    state: &Mutex<State>,
) -> std::io::Result<(String, impl Read + use<'a>)> {
    let mut reader = BufReader::new(connection);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    lock(state).heads.push(head.clone());
    Ok((head, reader))
}

fn read(head: &str, reader: &mut impl Read) -> std::io::Result<Asked> {
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, it)| it)
    };
    let mut body = vec![0; header("content-length").map_or(0, |it| it.parse().unwrap())];
    reader.read_exact(&mut body)?;
    let create_only = header("if-none-match") == Some("*");
    let end = header("range").map(|it| it.strip_prefix("bytes=0-").unwrap().parse().unwrap());
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap();
    let key = path.strip_prefix(&format!("/{BUCKET}/")).expect("the bucket's path").to_owned();
    let pair = |pair: &str| pair.split_once('=').map(|(key, it)| (key.to_owned(), decoded(it)));
    let query = query.split('&').filter_map(pair).collect();
    Ok(Asked { method, key, query, create_only, end, body })
}

fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push(char::from(u8::from_str_radix(&part[..2], 16).unwrap()));
        out += &part[2..];
    }
    out
}

/// Status and body.
type Answer = (u16, Vec<u8>);

fn error(status: u16, code: &str, message: &str) -> Answer {
    let xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>";
    let body = format!("{xml}<Code>{code}</Code><Message>{message}</Message></Error>");
    (status, if code.is_empty() { Vec::new() } else { body.into_bytes() })
}

fn taken() -> Answer {
    error(412, "PreconditionFailed", "At least one of the pre-conditions did not hold")
}

fn answer(asked: &Asked, state: &mut State, lie: Option<&Lie>) -> Answer {
    let absent = || error(404, "NoSuchKey", "The specified key does not exist.");
    let there = state.objects.contains_key(&asked.key);
    match asked.method.as_str() {
        "PUT" if there && asked.create_only && !state.overwrites => taken(),
        "PUT" => {
            state.objects.insert(asked.key.clone(), asked.body.clone());
            (200, Vec::new())
        }
        "HEAD" => (if there { 200 } else { 404 }, Vec::new()),
        "GET" if asked.query.contains_key("list-type") => (200, list(asked, state, lie)),
        "GET" => state.objects.get(&asked.key).map_or_else(absent, |body| part(body, asked.end)),
        "DELETE" => {
            state.objects.remove(&asked.key);
            (204, Vec::new())
        }
        method => panic!("{method}"),
    }
}

fn part(body: &[u8], end: Option<usize>) -> Answer {
    match end {
        None => (200, body.to_vec()),
        Some(_) if body.is_empty() => error(416, "InvalidRange", "not satisfiable"),
        Some(end) => (206, body[..body.len().min(end + 1)].to_vec()),
    }
}

fn list(asked: &Asked, state: &State, lie: Option<&Lie>) -> Vec<u8> {
    let get = |key: &str| asked.query.get(key).cloned().unwrap_or_default();
    let after = if lie == Some(&Lie::Anew) { String::new() } else { get("start-after") };
    let most: usize = get("max-keys").parse().unwrap();
    let prefix = get("prefix");
    let mut keys: Vec<_> =
        state.objects.iter().filter(|(key, _)| key.starts_with(&prefix)).collect();
    if lie == Some(&Lie::Stale) {
        keys.pop();
    }
    keys.retain(|(key, _)| **key > after);
    let more = keys.len() > most;
    keys.truncate(most);
    match lie {
        Some(Lie::Twice) => keys = keys.iter().flat_map(|each| [*each, *each]).collect(),
        Some(Lie::Backwards) => keys.reverse(),
        _ => {}
    }
    let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult xmlns=\
                   \"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>"
        .to_owned();
    for (key, body) in keys {
        xml += &format!("<Contents><Key>{key}</Key><Size>{}</Size></Contents>", body.len());
    }
    let token = if more { "<NextContinuationToken>x</NextContinuationToken>" } else { "" };
    xml += &format!("<IsTruncated>{more}</IsTruncated>{token}</ListBucketResult>");
    xml.into_bytes()
}

fn send(to: &mut TcpStream, (status, body): &Answer, lie: Option<&Lie>) -> std::io::Result<()> {
    let headers = if let Some(Lie::Said(_, headers, _)) = lie { headers } else { "" };
    let head = format!(
        "HTTP/1.1 {status} Said\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\n\
         x-amz-bucket-region: eu-central-1\r\n{headers}"
    );
    let whole =
        [format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body.as_slice()]
            .concat();
    match lie {
        Some(Lie::ReplyLost) => Ok(()),
        Some(Lie::CutHeader) => to.write_all(&head.as_bytes()[..17]),
        Some(Lie::CutBody) => to.write_all(&whole[..whole.len() - body.len().div_ceil(2)]),
        Some(Lie::Chunked) => {
            write!(to, "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len())?;
            to.write_all(body)?;
            to.write_all(b"\r\n0\r\n\r\n")
        }
        Some(Lie::Stalls) => {
            to.write_all(&whole[..whole.len() - body.len().div_ceil(2)])?;
            to.read_exact(&mut [0])
        }
        Some(Lie::Silence) => to.read_exact(&mut [0]),
        Some(Lie::Trickle) => whole.iter().try_for_each(|byte| {
            thread::sleep(Duration::from_millis(20));
            to.write_all(&[*byte])
        }),
        _ => to.write_all(&whole),
    }
}
