//! A Docker engine of a test's own: its own folder, socket and containers; no bridge and no firewall rules.

use crate::{PATIENCE_SECS, eventually, held};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running `dockerd`, ended when this is dropped; then it must have no container left.
pub struct Docker {
    dir: tempfile::TempDir,
    daemon: Child,
}

impl Docker {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// When it is not installed or does not start; says what to do, and what it said.
    #[must_use]
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("volary-d-").tempdir_in("/tmp").expect("/tmp can be written");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).expect("its mode can be set");
        let at = |name: &str| dir.path().join(name);
        // Not the machine's: its settings would contradict ours.
        fs::write(at("daemon.json"), "{}").expect("the folder can be written");
        let log = fs::File::create(at("log")).expect("the folder can be written");
        let name = dir.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut daemon = Command::new("dockerd");
        daemon
            .args(["--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"])
            // Where the machine has a containerd, what we do in it is not mixed with what others do.
            .args(["--containerd-namespace", &name, "--containerd-plugins-namespace", &format!("{name}-plugins")])
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .arg("--config-file")
            .arg(at("daemon.json"))
            .arg("--data-root")
            .arg(at("root"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .arg("--host")
            .arg(format!("unix://{}", at("d.sock").display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log);
        let daemon = held(&mut daemon)
            .spawn()
            .expect("dockerd starts (as root: apt-get install docker.io, or cargo xtask test)");
        let mut docker = Self { dir, daemon };
        eventually("an answer of dockerd", || {
            let ended = docker.daemon.try_wait().expect("its status can be read");
            assert!(ended.is_none(), "dockerd ended: {}", docker.log());
            docker.ask("/_ping").is_some_and(|said| said == "OK").then_some(())
        });
        docker
    }

    /// `unix://` and its socket.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Its containers, those that ended among them, as the engine describes them.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn containers(&self) -> Vec<Value> {
        let said = self.ask("/containers/json?all=1").expect("dockerd answers");
        serde_json::from_str(&said).expect("dockerd lists its containers")
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("d.sock")
    }

    /// Asks it to do something (`POST`, `DELETE`) and gives what it said of it.
    ///
    /// # Panics
    /// When it does not answer, or says that it cannot.
    pub fn order(&self, method: &str, path: &str) -> String {
        let said = self.say(method, path).expect("dockerd answers");
        let (head, body) = said.split_once("\r\n\r\n").expect("an answer of HTTP");
        let done = head.split(' ').nth(1).is_some_and(|status| status.starts_with('2'));
        assert!(done && !body.contains("errorDetail"), "{method} {path}: {said}");
        body.to_owned()
    }

    /// The body of its answer to one GET.
    fn ask(&self, path: &str) -> Option<String> {
        self.say("GET", path)?.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
    }

    fn say(&self, method: &str, path: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(PATIENCE_SECS))).ok()?;
        // An empty sign-in, as base64: a push wants one even where nobody asks.
        let head = "Host: docker\r\nContent-Length: 0\r\nX-Registry-Auth: e30=\r\n\r\n";
        write!(stream, "{method} {path} HTTP/1.0\r\n{head}").ok()?;
        let mut said = String::new();
        stream.read_to_string(&mut said).ok()?;
        Some(said)
    }

    fn end(&mut self) -> std::io::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.daemon);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        self.daemon.wait()?;
        unmounted(self.dir.path())
    }
}

/// Takes away what a daemon left mounted in its folder, the innermost first.
fn unmounted(dir: &Path) -> std::io::Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let mut inside: Vec<&str> = points.filter(|point| Path::new(point).starts_with(dir)).collect();
    inside.reverse();
    for point in inside {
        rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH)?;
    }
    Ok(())
}

impl Drop for Docker {
    fn drop(&mut self) {
        let left = if std::thread::panicking() { Vec::new() } else { self.containers() };
        let ended = self.end();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("-- the end of dockerd's log\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
            if let Err(e) = ended {
                eprintln!("ending dockerd: {e}");
            }
        } else {
            ended.expect("dockerd ends");
            assert!(left.is_empty(), "left in Docker: {left:?}");
        }
    }
}
