//! A real S3 server, SeaweedFS, to be killed and started again on what it had stored.
//!
//! The tests of the `s3-server` feature install it below `target/tmp`; where it is not there, nothing
//! is tried on it. It listens on the loopback alone and ends with the harness, however that ends.

use bakelite::backend::s3::S3;
use bakelite::backend::{Backend, Kind};
use bakelite::commit::Timeline;
use bakelite::config::Destination;
use bakelite::name::Name;
use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use super::{KEYS, url, vault};

/// Below the directory that the programs are built in.
const PROGRAM: &str = "tmp/seaweedfs-4.48/bin/weed";
/// Ends the server when its standard input does.
const KEEPER: &str = "\"$@\" >>log 2>&1 & server=$!; read _; kill -9 $server; wait $server";
/// The server says in no other way that it is ready.
const LOOKS: u32 = 1200;
const PAUSE: Duration = Duration::from_millis(25);

/// The first ports of the servers of this process.
static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

#[derive(Debug)]
pub struct Server {
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    keeper: Option<Child>,
}

/// Two that look for free ports at a time would find the same ones.
static STARTING: Mutex<()> = Mutex::new(());

impl Server {
    /// Starts one that stores below `dir`. `None` where it is not installed.
    pub fn start(torture: &Path, dir: &Path) -> io::Result<Option<Self>> {
        let _starting = STARTING.lock().expect("nothing panics under it");
        let Some(mut server) = Self::installed(torture, dir)? else { return Ok(None) };
        server.tell(&identities())?;
        server.start_again()?;
        Ok(Some(server))
    }

    /// The same with Object Lock, whose keys may do no more than the daemon needs.
    pub fn start_vault(torture: &Path, dir: &Path) -> io::Result<Option<Self>> {
        let _starting = STARTING.lock().expect("nothing panics under it");
        let Some(mut server) = Self::installed(torture, dir)? else { return Ok(None) };
        server.tell(&vault::identities(&["Admin"]))?;
        server.spawn()?;
        if !(0..LOOKS).any(|_| {
            thread::sleep(PAUSE);
            server.make_vault()
        }) {
            return Err(server.down());
        }
        server.kill()?;
        server.tell(&vault::identities(vault::KEEPS))?;
        server.start_again()?;
        Ok(Some(server))
    }

    /// Who may do what, for the next start.
    fn tell(&self, identities: &str) -> io::Result<()> {
        std::fs::write(self.dir.join("s3.json"), identities)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    fn installed(torture: &Path, dir: &Path) -> io::Result<Option<Self>> {
        let target = torture.parent().and_then(Path::parent);
        let program = target.map(|target| target.join(PROGRAM)).filter(|it| it.exists());
        let Some(program) = program else { return Ok(None) };
        std::fs::create_dir(dir)?;
        let (dir, port) = (dir.to_owned(), free_ports()?);
        Ok(Some(Self { program, dir, port, keeper: None }))
    }

    pub fn destination(&self) -> Destination {
        url(format_args!("127.0.0.1:{}", self.port), "app")
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> io::Result<()> {
        let Some(mut keeper) = self.keeper.take() else { return Ok(()) };
        drop(keeper.stdin.take());
        keeper.wait().map(drop)
    }

    pub fn start_again(&mut self) -> io::Result<()> {
        self.spawn()?;
        self.wait_until_ready()
    }

    fn spawn(&mut self) -> io::Result<()> {
        let Self { program, dir, port, .. } = self;
        let mut words = vec![program.display().to_string(), "mini".to_owned()];
        words.extend([
            format!("-dir={}", dir.display()),
            "-ip=127.0.0.1".to_owned(),
            "-ip.bind=127.0.0.1".to_owned(),
            format!("-s3.port={port}"),
            format!("-master.port={}", *port + 1),
            format!("-volume.port={}", *port + 2),
            format!("-filer.port={}", *port + 3),
            format!("-admin.port={}", *port + 4),
            "-admin.ui=false".to_owned(),
            "-webdav=false".to_owned(),
            "-s3.port.iceberg=0".to_owned(),
            "-s3.port.lance=0".to_owned(),
            "-master.telemetry=false".to_owned(),
            format!("-s3.config={}", dir.join("s3.json").display()),
            format!("-s3.localSocket={}", dir.join("s3.sock").display()),
        ]);
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "sh"]).args(words).current_dir(dir);
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.keeper = Some(keeper.spawn()?);
        Ok(())
    }

    /// The first put makes the bucket. What it stored before is there some time after the listing.
    fn wait_until_ready(&self) -> io::Result<()> {
        let Destination::S3(place) = self.destination() else { unreachable!("a bucket") };
        let first = Name::Timeline(Timeline(1));
        for _ in 0..LOOKS {
            let ready = S3::create(&place).and_then(|s3| match s3.get(&first) {
                Err(error) if error.kind == Kind::NotFound => Ok(()),
                got => got.map(drop),
            });
            if ready.is_ok() {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        Err(self.down())
    }

    fn down(&self) -> io::Error {
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let end = &log[log.len().saturating_sub(600)..];
        io::Error::other(format!("the S3 server does not come up: {end}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.kill();
        TAKEN.lock().expect("nobody panics with it").remove(&self.port);
    }
}

/// The first of the ports that the server takes: five in a row, and ten thousand above each as well. It
/// takes a while to come up, and no other one of this process may take them meanwhile.
fn free_ports() -> io::Result<u16> {
    let mut taken = TAKEN.lock().expect("nobody panics with it");
    let first = 12_005 + (std::process::id() % 800) as u16 * 10;
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let all_free = |from: &u16| (*from..from + 5).all(|port| free(port) && free(port + 10_000));
    let ports = (first..21_000).step_by(10).find(|port| !taken.contains(port) && all_free(port));
    let ports = ports.ok_or_else(|| io::Error::other("no free ports"))?;
    taken.insert(ports);
    Ok(ports)
}

fn identities() -> String {
    let [id, secret] = KEYS;
    format!(
        "{{\"identities\": [{{\"name\": \"{id}\", \"credentials\": [{{\"accessKey\": \"{id}\", \
         \"secretKey\": \"{secret}\"}}], \"actions\": [\"Admin\", \"Read\", \"Write\", \"List\"]}}]}}"
    )
}
