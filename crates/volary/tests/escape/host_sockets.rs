//! Sockets of the host that a box goes for: each answers on the host, or there would be nothing to refuse.

use crate::support::console_port;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use testkit::Platform;

/// Listeners of the test's own and the platform's sockets, all of which anybody may dial as far as their modes go.
pub struct HostSockets {
    /// What `network.c` is told: an abstract name, the API, the cable, a path in `/tmp`, one in `/run`, the console's port.
    args: [String; 6],
    /// Removed at the end.
    run: PathBuf,
    _listeners: Vec<OwnedFd>,
    _dir: tempfile::TempDir,
}

impl HostSockets {
    /// Makes them, and dials each.
    pub fn open(platform: &Platform) -> Self {
        let name = format!("volary-escape-{}-{:?}", std::process::id(), std::thread::current().id());
        let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let (tmp, run) = (dir.path().join("socket"), PathBuf::from(format!("/run/{name}.sock")));
        let [api, cable] = ["api.sock", "cable.sock"].map(|name| platform.home().join("run").join(name));

        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let abstract_one = UnixListener::bind_addr(&address).unwrap();
        UnixStream::connect_addr(&address).expect("the abstract socket answers on the host");
        let mut listeners = vec![abstract_one.into()];
        for path in [&tmp, &run] {
            listeners.push(UnixListener::bind(path).unwrap().into());
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        for path in [&tmp, &run, &api] {
            UnixStream::connect(path).unwrap_or_else(|e| panic!("{} answers on the host: {e}", path.display()));
        }
        let kind = rustix::net::SocketType::SEQPACKET;
        let dialled = rustix::net::socket(rustix::net::AddressFamily::UNIX, kind, None).unwrap();
        let address = rustix::net::SocketAddrUnix::new(&cable).unwrap();
        rustix::net::connect(&dialled, &address).expect("the cable answers on the host");
        let console = console_port(platform);
        TcpStream::connect(("127.0.0.1", console.parse().unwrap())).expect("the console answers on the host");

        let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
        let args = [name, text(&api), text(&cable), text(&tmp), text(&run), console];
        Self { args, run, _listeners: listeners, _dir: dir }
    }

    /// The same, as a program takes them.
    pub fn args(&self) -> [&str; 6] {
        self.args.each_ref().map(String::as_str)
    }
}

impl Drop for HostSockets {
    fn drop(&mut self) {
        std::fs::remove_file(&self.run).unwrap();
    }
}
