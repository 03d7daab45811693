//! What `make dist` has made, tried where there is nothing but itself: an empty root directory. Run by
//! `make chroot`, since it takes that program; without the right to change the root, what could not be
//! tried is counted and said.

#[cfg(feature = "s3-server")]
#[allow(dead_code, reason = "the tests of buckets use the rest")]
mod support;

use rusqlite::Connection;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// 8 MiB. A program of this size is copied to a small device without a thought. glibc's is larger, and
/// only stands in.
const MOST_BYTES: usize = 8 << 20;
const MOST_BYTES_GNU: usize = 9 << 20;

fn program() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("dist/bakelite");
    assert!(path.exists(), "{} is not there; run: make chroot", path.display());
    path
}

/// An empty root, and the program in it.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // By another process, or a child of a test beside this one has it open for writing.
        said(Command::new("cp").arg(program()).arg(dir.path().join("bakelite")));
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new("unshare");
        if !is_root() {
            command.arg("--map-root-user");
        }
        command.arg(format!("--root={}", self.0.path().display())).args(["--wd=/", "/bakelite"]);
        command.args(words.split(' ')).env_clear();
        command
    }

    fn run(&self, words: &str) -> String {
        said(&mut self.command(words))
    }

    /// Whether this user may change the root at all; what is left out is counted.
    fn is_to_be_had(&self, steps: usize) -> bool {
        let tried = self.command("version").output();
        let may = tried.is_ok_and(|output| output.status.success());
        if !may {
            eprintln!("note: no right to change the root: {steps} steps not tried");
        }
        assert!(may || !is_root(), "{:?}", self.command("version").output());
        may
    }

    /// A database that an application has open, with 100 rows.
    fn database(&self) -> Connection {
        let app = Connection::open(self.path("app.db")).unwrap();
        app.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
        for _ in 0..100 {
            app.execute("INSERT INTO t VALUES (randomblob(200))", []).unwrap();
        }
        app
    }

    fn rows(&self, name: &str) -> u32 {
        let database = Connection::open(self.path(name)).unwrap();
        database.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
    }
}

/// One that does not outlive a test that fails.
struct Daemon(Child);

impl Daemon {
    fn stop(mut self) {
        let kill = Command::new("kill").arg(self.0.id().to_string()).status().unwrap();
        assert!(kill.success() && self.0.wait().unwrap().success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn it_is_static_and_small() {
    let bytes = fs::read(program()).unwrap();
    let is_musl = said(Command::new(program()).arg("version")).contains("linux-musl");
    let most = if is_musl { MOST_BYTES } else { MOST_BYTES_GNU };
    println!("{} bytes, {most} at most", bytes.len());
    assert!(bytes.len() <= most, "{} bytes", bytes.len());
    // elf(5): the program headers, of which none asks for an interpreter.
    const INTERPRETER: u32 = 3;
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let half = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    assert_eq!(&bytes[..5], b"\x7fELF\x02");
    let kinds = (0..half(56)).map(|at| word(word(32) as usize + at * half(54)));
    assert!(kinds.clone().count() > 2 && kinds.clone().all(|kind| kind != INTERPRETER));
}

#[test]
fn it_backs_up_and_restores_where_there_is_nothing_else() {
    let root = Root::new();
    if !root.is_to_be_had(6) {
        return;
    }
    assert!(root.run("version").starts_with("bakelite "));
    let app = root.database();
    let mut daemon = root.command("daemon /app.db /replica");
    let daemon = Daemon(daemon.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    root.run("sync /app.db /replica");
    app.execute("INSERT INTO t VALUES (1)", []).unwrap();
    root.run("sync /app.db /replica");
    daemon.stop();
    root.run("restore /replica --output /restored.db --check full");
    assert_eq!(root.rows("restored.db"), 101);
    fs::create_dir(root.path("tmp")).unwrap();
    root.run("verify /replica --deep");
}

/// The names of hosts are looked up, certificates proved, and objects stored, all without a library or
/// a file of the system. The name server is the test's own, since there is no other.
#[cfg(feature = "s3-server")]
#[test]
fn it_finds_a_bucket_by_name_and_speaks_tls() {
    let root = Root::new();
    if !root.is_to_be_had(4) {
        return;
    }
    let Ok(names) = std::net::UdpSocket::bind("127.0.0.1:53") else {
        assert!(!is_root(), "port 53 of 127.0.0.1 is taken");
        return eprintln!("note: no right to serve names: 4 steps not tried");
    };
    let (asked, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || serve_names(&names, &asked));
    fs::create_dir(root.path("etc")).unwrap();
    fs::write(root.path("etc/resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    let certificates = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tls/ca.pem");
    fs::copy(certificates, root.path("ca.pem")).unwrap();
    let weed = support::weed();
    let endpoint = weed.secure_endpoint().replace("127.0.0.1", "localhost");
    let (bucket, region, prefix) = (support::BUCKET, support::REGION, weed.fresh_prefix());
    let url = format!("s3://{bucket}/{prefix}?endpoint={endpoint}&region={region}");
    let there = |words: &str| {
        let mut command = root.command(&words.replace("URL", &url));
        let [id, secret] = support::WRITER;
        command.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
        command.env("SSL_CERT_FILE", "/ca.pem");
        command
    };
    let _app = root.database();
    said(&mut there("sync /app.db URL"));
    said(&mut there("restore URL --output /restored.db --check full"));
    assert_eq!(root.rows("restored.db"), 100);
    assert_eq!(hear.try_recv().unwrap(), "localhost");
    // Without certificates nobody is trusted, and the way out is named.
    let refused = there("list URL").env_remove("SSL_CERT_FILE").output().unwrap();
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(8) && words.contains("SSL_CERT_FILE"), "{words}");
}

/// Says that every name is this machine, and what it was asked for. rfc1035(4).
#[cfg(feature = "s3-server")]
fn serve_names(socket: &std::net::UdpSocket, asked: &std::sync::mpsc::Sender<String>) {
    const HEAD: usize = 12;
    const A: u8 = 1;
    let mut packet = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut packet) {
        let question = &packet[HEAD..length];
        let end = question.iter().position(|&byte| byte == 0).unwrap();
        let (mut name, mut at) = (Vec::new(), 0);
        while at < end {
            let label = usize::from(question[at]);
            name.push(String::from_utf8_lossy(&question[at + 1..=at + label]).into_owned());
            at += 1 + label;
        }
        let wants_address = question[end + 2] == A;
        let mut reply = packet[..2].to_vec();
        reply.extend([0x81, 0x80, 0, 1, 0, u8::from(wants_address), 0, 0, 0, 0]);
        reply.extend(&question[..end + 5]);
        if wants_address {
            reply.extend([0xc0, HEAD as u8, 0, A, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
        }
        asked.send(name.join(".")).ok();
        socket.send_to(&reply, from).unwrap();
    }
}
