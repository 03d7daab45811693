//! An S3 server in this process, in memory: as much of it as bakelite asks for, and faults by seed.
//!
//! It has two doors. The one that the daemon is given lies, closes, hangs or refuses as it is told;
//! the other one is honest, and is what restores are graded through: what is graded is what the store
//! holds. What it promises is what S3 promises: a put that was answered with success is kept, a name
//! that is taken stays as it is. A listing behind the time is more than S3 ever does, so it counts
//! as a lie. Only `drop_puts` and `damage_puts` break a promise, for the harness's own red path.

mod clock;
mod lies;
mod real;
mod stops;
mod vault;
mod wire;

pub use lies::Lie;
pub use real::Server;
pub use stops::{Moment, Stop};
pub use vault::Version;

use crate::rng::Rng;
use bakelite::config::{Credentials, Destination, Lock, S3, Secret};
use clock::Clock;
use lies::Liar;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;
use stops::Stopping;
use wire::{Reply, Request};

pub const BUCKET: &str = "backups";
/// What signs every request of the harness and of the programs that it starts. The store looks at no
/// signature; a real server does.
pub const KEYS: [&str; 2] = ["torture", "tortures-secret"];

/// What the daemon's door is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Open,
    /// Connections are refused.
    Closed,
    /// Connections are taken, and nothing ever comes.
    Hanging,
    /// Every put is refused with this status and code.
    NoPuts(u16, &'static str),
    Ended,
}

pub const FULL: Door = Door::NoPuts(403, "QuotaExceeded");
pub const READ_ONLY: Door = Door::NoPuts(403, "AccessDenied");

pub type Objects = BTreeMap<String, Object>;

#[derive(Clone, Debug)]
pub struct Object {
    body: Arc<Vec<u8>>,
    /// The change of the store that it came with, and the one that it went with.
    put: u64,
    deleted: Option<u64>,
    /// Until when it is locked, in milliseconds since 1970.
    locked: u64,
}

#[derive(Debug)]
struct State {
    objects: Objects,
    /// Counts what has changed anything.
    changes: u64,
    door: Door,
    liar: Liar,
    /// Connections that nobody answers.
    hanging: Vec<TcpStream>,
    /// How many puts are still to be answered with success and not kept.
    drops: u64,
    dropped: BTreeSet<String>,
    /// How many puts are still to be kept with a bit flipped, and how many were.
    damages: u64,
    damaged: u64,
    stopping: Stopping,
    /// Whether whoever comes through the daemon's door may remove nothing.
    keeps_all: bool,
    denied: u64,
    /// Parts that were put although they were there.
    put_again: u64,
    clock: Clock,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under it")
    }
}

#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    honest: SocketAddr,
    daemons: SocketAddr,
}

impl Store {
    /// A store that tells the truth until it is told to lie.
    pub fn start(seed: u64) -> io::Result<Self> {
        let state = State {
            objects: Objects::new(),
            changes: 0,
            door: Door::Open,
            liar: Liar::new(Rng::of(seed, "store")),
            hanging: Vec::new(),
            drops: 0,
            dropped: BTreeSet::new(),
            damages: 0,
            damaged: 0,
            stopping: Stopping::Nothing,
            keeps_all: false,
            denied: 0,
            put_again: 0,
            clock: Clock::default(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let [honest, daemons] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0"));
        let (honest, daemons) = (honest?, daemons?);
        let store = Self {
            shared: Arc::clone(&shared),
            honest: honest.local_addr()?,
            daemons: daemons.local_addr()?,
        };
        let other = Arc::clone(&shared);
        thread::spawn(move || keep_honest_door(honest, &other));
        thread::spawn(move || keep_daemons_door(daemons, &shared));
        Ok(store)
    }

    /// Where the daemon finds a replica.
    pub fn destination(&self, prefix: &str) -> Destination {
        url(self.daemons, prefix)
    }

    /// Where the same replica is read as it is.
    pub fn honest(&self, prefix: &str) -> Destination {
        url(self.honest, prefix)
    }

    pub fn door(&self, door: Door) {
        let mut state = self.shared.state();
        state.door = door;
        // Those that hang have their end now.
        state.hanging.clear();
        state.stopping = Stopping::Nothing;
        drop(state);
        self.shared.changed.notify_all();
        for address in [self.daemons, self.honest] {
            // Whoever waits for a connection looks at the door. Where nobody does, none is needed.
            drop(TcpStream::connect(address));
        }
    }

    /// Whether the first put that was never answered still waits. To be asked once.
    pub fn is_waited_for(&self) -> bool {
        let state = self.shared.state();
        let mut asked = state.hanging.iter().filter_map(|it| still_waits(it).ok().flatten());
        asked.next().unwrap_or(false)
    }

    /// From now on one request in `one_in` is lied to; none with `None`.
    pub fn lie(&self, one_in: Option<u64>) {
        self.shared.state().liar.lie(one_in);
    }

    /// How often each lie was told.
    pub fn told(&self) -> BTreeMap<Lie, u64> {
        self.shared.state().liar.told().clone()
    }

    /// The next `puts` of commits are answered with success and not kept.
    pub fn drop_puts(&self, puts: u64) {
        self.shared.state().drops = puts;
    }

    /// The next `puts` of commits are kept with a bit flipped.
    pub fn damage_puts(&self, puts: u64) {
        self.shared.state().damages = puts;
    }

    pub fn damaged(&self) -> u64 {
        self.shared.state().damaged
    }

    /// What is put again from now on is kept.
    pub fn keep_puts(&self) {
        let mut state = self.shared.state();
        state.drops = 0;
        state.dropped.clear();
    }

    pub fn dropped(&self) -> u64 {
        self.shared.state().dropped.len() as u64
    }

    /// All that it holds, for `put_back`.
    pub fn copy(&self) -> Objects {
        self.shared.state().objects.clone()
    }

    /// Every object that was ever there, whether it still is or not.
    pub fn ever(&self) -> Vec<(String, Arc<Vec<u8>>)> {
        let state = self.shared.state();
        state.objects.iter().map(|(key, it)| (key.clone(), Arc::clone(&it.body))).collect()
    }

    /// The keys of all that is there.
    #[cfg(test)]
    pub fn there(&self) -> Vec<String> {
        let state = self.shared.state();
        let there = state.objects.iter().filter(|(_, object)| object.deleted.is_none());
        there.map(|(key, _)| key.clone()).collect()
    }

    /// From now on the daemon may remove nothing, or may again.
    pub fn keep_all(&self, keeps: bool) {
        self.shared.state().keeps_all = keeps;
    }

    /// How many removals were denied.
    pub fn denied(&self) -> u64 {
        self.shared.state().denied
    }

    /// How many parts of snapshots were sent that were there.
    pub fn put_again(&self) -> u64 {
        self.shared.state().put_again
    }

    /// It holds these objects from now on and no others.
    pub fn put_back(&self, objects: Objects) {
        self.shared.state().objects = objects;
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.door(Door::Ended);
    }
}

/// How long nothing comes of a put that waits for its answer.
const SILENT: Duration = Duration::from_millis(500);

/// Whether whoever wants to put something here has not hung up; `None`: it is no put.
fn still_waits(mut connection: &TcpStream) -> io::Result<Option<bool>> {
    // A body that did not fit is on its way for a moment after its sender has closed.
    connection.set_read_timeout(Some(SILENT))?;
    let mut sent = Vec::new();
    let waits = match connection.read_to_end(&mut sent) {
        Ok(_) => false,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    };
    Ok(sent.starts_with(b"PUT ").then_some(waits))
}

/// A replica on a store of the harness's own, with its keys.
fn url(address: impl Display, prefix: &str) -> Destination {
    let url = format!("s3://{BUCKET}/{prefix}?endpoint=http://{address}&region=us-east-1");
    let [id, secret] = KEYS.map(str::to_owned);
    match Destination::parse(&url) {
        Ok(Destination::S3(place)) => Destination::S3(S3 {
            credentials: Credentials::Keys { access_key_id: id, secret_access_key: Secret(secret) },
            ..place
        }),
        _ => unreachable!("a URL of a bucket"),
    }
}

fn keep_honest_door(listener: TcpListener, shared: &Arc<Shared>) {
    for connection in listener.incoming().flatten() {
        if shared.state().door == Door::Ended {
            return;
        }
        let shared = Arc::clone(shared);
        // The client may be gone by the time it is answered.
        thread::spawn(move || drop(serve(connection, &shared, false)));
    }
}

/// While it is closed nobody listens, so that the system refuses.
fn keep_daemons_door(listener: TcpListener, shared: &Arc<Shared>) {
    let address = listener.local_addr().expect("it is bound");
    let mut listener = Some(listener);
    loop {
        let mut state = shared.state();
        match state.door {
            Door::Ended => return,
            Door::Closed => {
                listener = None;
                drop(shared.changed.wait(state).expect("nothing panics under it"));
                continue;
            }
            Door::Open | Door::Hanging | Door::NoPuts(..) => {}
        }
        let Some(open) = &listener else {
            // Its number may be in use by a connection for a moment.
            listener = TcpListener::bind(address).ok();
            drop(state);
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        drop(state);
        let Ok((connection, _)) = open.accept() else { continue };
        state = shared.state();
        match state.door {
            Door::Closed | Door::Ended => {}
            Door::Hanging => state.hanging.push(connection),
            Door::Open | Door::NoPuts(..) => {
                drop(state);
                let shared = Arc::clone(shared);
                thread::spawn(move || drop(serve(connection, &shared, true)));
            }
        }
    }
}

fn serve(mut connection: TcpStream, shared: &Shared, may_lie: bool) -> io::Result<()> {
    let mut request = Request::head(&mut connection)?;
    if may_lie && shared.state().clock.refuses(&request) {
        request.read_body(&mut connection)?;
        let date = shared.state().clock.now();
        return Reply::error((403, "RequestTimeTooSkewed")).dated(date).send(&mut connection);
    }
    let lie = if may_lie { shared.state().liar.choose(&request) } else { None };
    if lie == Some(Lie::ResetBefore) {
        // What was sent and is not read makes the system reset the connection.
        return Ok(());
    }
    request.read_body(&mut connection)?;
    if may_lie && shared.stand_still(&request, Moment::Before) {
        return Ok(());
    }
    let reply = match lie {
        Some(Lie::ResetAfter) => return Ok(()),
        Some(lie) if lie.refusal().is_some() => Reply::error(lie.refusal().expect("seen")),
        lie => {
            let mut state = shared.state();
            let reply = state.answer(&request, lie, may_lie);
            reply.dated(state.clock.now())
        }
    };
    if may_lie && shared.stand_still(&request, Moment::After) {
        return Ok(());
    }
    match lie {
        Some(Lie::ReplyLost) => Ok(()),
        Some(Lie::Short) => reply.send_half(&mut connection),
        Some(Lie::Trickle) => reply.send_slowly(&mut connection),
        _ => reply.send(&mut connection),
    }
}

impl State {
    fn answer(&mut self, request: &Request, lie: Option<Lie>, for_daemon: bool) -> Reply {
        match (request.method.as_str(), request.key.as_str()) {
            ("GET", "") if request.asks("versions") => self.versions(request),
            ("GET", "") if request.asks("delimiter") => self.groups(request.text("prefix")),
            ("GET", "") => self.list(request, lie),
            ("GET" | "HEAD", key) => match self.there(key) {
                Some(object) => Reply::ok(object.body.to_vec()).locked(object.locked),
                None => Reply::error((404, "NoSuchKey")),
            },
            ("PUT", _) if request.asks("retention") => self.renew(request),
            ("PUT", _) => match self.door {
                Door::NoPuts(status, code) if for_daemon => Reply::error((status, code)),
                _ => self.put(request),
            },
            ("DELETE", _) if for_daemon && self.keeps_all => {
                self.denied += 1;
                Reply::error((403, "AccessDenied"))
            }
            ("DELETE", _) if !self.lets_go(request) => Reply::error((403, "AccessDenied")),
            ("DELETE", key) => {
                self.changes += 1;
                if let Some(object) = self.objects.get_mut(key) {
                    object.deleted.get_or_insert(self.changes);
                }
                Reply::nothing()
            }
            _ => Reply::error((405, "MethodNotAllowed")),
        }
    }

    fn there(&self, key: &str) -> Option<&Object> {
        self.objects.get(key).filter(|object| object.deleted.is_none())
    }

    fn put(&mut self, request: &Request) -> Reply {
        if request.create_only && self.there(&request.key).is_some() {
            self.put_again += u64::from(request.key.contains("/part/"));
            return Reply::error((412, "PreconditionFailed"));
        }
        if self.drops > 0 && request.key.contains("/change/") {
            self.drops -= 1;
            self.dropped.insert(request.key.clone());
        }
        // Whoever finds it missing and puts it again is told the same.
        if self.dropped.contains(&request.key) {
            return Reply::ok(Vec::new());
        }
        self.changes += 1;
        let mut body = request.body.clone();
        if self.damages > 0 && request.key.contains("/change/") {
            self.damages -= 1;
            self.damaged += 1;
            body.last_mut().into_iter().for_each(|byte| *byte ^= 1);
        }
        let body = Arc::new(body);
        let locked = self.clock.lock(&request.key, request.until.as_deref());
        let object = Object { body, put: self.changes, deleted: None, locked };
        self.objects.insert(request.key.clone(), object);
        Reply::ok(Vec::new())
    }

    fn groups(&self, prefix: &str) -> Reply {
        let there = self.objects.iter().filter(|(_, object)| object.deleted.is_none());
        let below = there.filter_map(|(key, _)| Some((key, key.strip_prefix(prefix)?)));
        let group = |(key, rest): (&'_ String, &str)| {
            let end = prefix.len() + rest.find('/')? + 1;
            Some(key[..end].to_owned())
        };
        let groups: BTreeSet<String> = below.filter_map(group).collect();
        Reply::ok(wire::groups(groups.iter().map(String::as_str)))
    }

    fn list(&mut self, request: &Request, lie: Option<Lie>) -> Reply {
        let most = request.number("max-keys").unwrap_or(1000).min(1000);
        let most = if lie == Some(Lie::TinyPage) { self.liar.few() } else { most };
        let behind = if lie == Some(Lie::Stale) { self.liar.some_changes() } else { 0 };
        let now = self.changes.saturating_sub(behind);
        let prefix = request.text("prefix");
        let after = request.text("start-after").max(request.text("continuation-token"));
        let seen = |object: &Object| {
            object.put <= now && object.deleted.is_none_or(|deleted| deleted > now)
        };
        let mut keys = self.objects.iter().filter(|(key, object)| {
            key.starts_with(prefix) && key.as_str() > after && seen(object)
        });
        let page = keys.by_ref().take(most).map(|(key, object)| (key.as_str(), object.body.len()));
        let page: Vec<_> = page.collect();
        let more = keys.next().is_some();
        Reply::ok(wire::listing(&page, more))
    }
}

#[cfg(test)]
mod tests;
