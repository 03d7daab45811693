//! What systemd is told of a service: that it is ready, how it stands, that it goes on. The protocol
//! of sd_notify(3), a datagram of `KEY=value` lines to the socket that the environment names.
//!
//! Nobody waits for it: what the socket does not take at once is lost, and the next one says it anew.

use crate::clock;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

/// Where it is said whom to tell, how often, and which process is meant.
pub const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

#[derive(Debug)]
pub struct Notify {
    socket: UnixDatagram,
    /// How long the service may be silent before it is taken for dead.
    pub watchdog: Option<Duration>,
}

impl Notify {
    /// `None`: nobody asked to be told.
    pub fn of_environment() -> Option<io::Result<Self>> {
        let variable = |name| env::var_os(name).filter(|value: &OsString| !value.is_empty());
        let number = |name| variable(name).and_then(|value| value.to_str()?.parse::<u64>().ok());
        let [socket, usec, pid] = VARIABLES;
        let socket = variable(socket)?;
        // It may be meant for the process that started this one.
        let ours = number(pid).is_none_or(|pid| pid == u64::from(process::id()));
        let watchdog = number(usec).filter(|&usec| ours && usec > 0);
        Some(Self::new(&socket, watchdog.map(Duration::from_micros)))
    }

    /// To a path, or with an `@` first, a name without a file.
    pub fn new(socket: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match socket.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(socket)?,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, watchdog })
    }

    pub fn send(&self, lines: &str) {
        self.socket.send(lines.as_bytes()).ok();
    }

    /// The configuration is being read again; ready is to follow.
    pub fn reloading(&self) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic().as_micros()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said_to(listener: &UnixDatagram, socket: &OsStr) -> String {
        let notify = Notify::new(socket, None).unwrap();
        notify.send("READY=1\nSTATUS=well");
        let mut buffer = [0; 100];
        let length = listener.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_socket_with_a_path_and_one_without_are_told_alike() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        assert_eq!(said_to(&listener, path.as_os_str()), "READY=1\nSTATUS=well");
        let name = format!("bakelite-{}-{}", process::id(), dir.path().display());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        assert_eq!(said_to(&listener, OsStr::new(&format!("@{name}"))), "READY=1\nSTATUS=well");
    }

    #[test]
    fn a_listener_that_does_not_listen_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::new(path.as_os_str(), None).unwrap();
        (0..10_000).for_each(|_| notify.send("STATUS=well"));
        drop(listener);
        notify.send("STATUS=well");
        assert!(Notify::new(path.as_os_str(), None).is_err());
        assert!(Notify::new(OsStr::new("relative"), None).is_err());
    }
}
