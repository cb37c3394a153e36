//! A platform taken apart: a home in a temporary folder and the real `volary` processes, started one by one the way
//! `volary up` starts them, with the benchmark in the place of the neighbours that it plays.

use crate::table::ms;
use anyhow::{Context, Result, bail, ensure};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Uids for server and gateway, when root: outside the range from which `volary up` takes them.
const SERVER_UID: u32 = 0x6fff_0000;
const GATEWAY_UID: u32 = 0x6fff_0001;

/// The line above every run: what the figures were measured on, and how busy it was.
pub fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(" an unnamed processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ");
    let kernel = read("/proc/sys/kernel/osrelease");
    let cpu = cpu.trim_start_matches(['\t', ' ', ':']);
    format!("{cores} cores ({cpu}), Linux {}, load {load} before the first", kernel.trim())
}

/// The `volary` that stands beside this program.
pub fn volary() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("volary");
    ensure!(path.is_file(), "{} is missing; run `cargo xtask bench`, which builds it", path.display());
    Ok(path)
}

/// An executable that stands in boxes, as `volary`'s build made it.
pub fn in_box(name: &str) -> Result<Vec<u8>> {
    let exe = std::env::current_exe()?;
    let target = exe.ancestors().nth(2).context("this program stands in no target folder")?;
    let path = target.join(format!("box/{}-unknown-linux-gnu/box/{name}", std::env::consts::ARCH));
    fs::read(&path).with_context(|| format!("{} is missing; run `cargo xtask bench`, which builds it", path.display()))
}

/// A temporary folder that every uid may pass through, under `parent` (a short path: sockets stand in it).
pub fn folder(parent: &Path) -> Result<tempfile::TempDir> {
    let dir = tempfile::Builder::new().prefix("volary-b-").tempdir_in(parent)?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711))?;
    Ok(dir)
}

/// Whether this is root.
pub fn root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A home with its sockets bound, as `volary up` leaves it before it starts anything.
pub struct Home {
    dir: tempfile::TempDir,
    tcp: TcpListener,
    api: UnixListener,
    operator: UnixListener,
    gateway: UnixListener,
    cable: OwnedFd,
    roots: Option<PathBuf>,
}

/// One `volary process`, killed when this is dropped.
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        if self.0.kill().and_then(|()| self.0.wait()).is_err() {
            eprintln!("process {} could not be ended", self.0.id());
        }
    }
}

impl Home {
    /// A fresh one under `parent`.
    pub fn new(parent: &Path) -> Result<Self> {
        Self::with_roots(parent, None)
    }

    /// One whose gateway trusts a further authority.
    pub fn with_roots(parent: &Path, roots: Option<&Path>) -> Result<Self> {
        let dir = folder(parent)?;
        let at = |name: &str| dir.path().join(name);
        for (name, mode) in [("server", 0o700), ("operator", 0o700), ("profiles", 0o755), ("run", 0o711)] {
            fs::create_dir(at(name))?;
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode))?;
        }
        let gateway = UnixListener::bind(at("run/gateway.sock"))?;
        if root() {
            chown(at("server"), Some(SERVER_UID), Some(SERVER_UID))?;
            chown(at("run/gateway.sock"), Some(GATEWAY_UID), Some(GATEWAY_UID))?;
        }
        let cable = seqpacket()?;
        rustix::net::bind(&cable, &SocketAddrUnix::new(at("run/cable.sock"))?)?;
        rustix::net::listen(&cable, 8)?;
        Ok(Self {
            tcp: TcpListener::bind("127.0.0.1:0")?,
            api: UnixListener::bind(at("run/api.sock"))?,
            operator: UnixListener::bind(at("run/operator.sock"))?,
            gateway,
            cable,
            roots: roots.map(Path::to_path_buf),
            dir,
        })
    }

    /// A place in it.
    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the server. Its sockets stay ours, so it can be started again.
    pub fn server(&self) -> Result<Process> {
        // As the process that obtains the vault's key hands it over; always the same one, for a home that is opened again.
        let (key, mut give) = std::io::pipe()?;
        let key_of_64_digits = "5a".repeat(32);
        let offer = json!({ "keys": [{ "source": "the benchmark", "key": key_of_64_digits }], "missing": [] });
        give.write_all(offer.to_string().as_bytes())?;
        drop(give);
        let sockets = [self.tcp.as_fd(), self.api.as_fd(), self.operator.as_fd(), self.gateway.as_fd(), key.as_fd()];
        self.start("server", &sockets)
    }

    /// Starts the gateway.
    pub fn gateway(&self) -> Result<Process> {
        self.start("gateway", &[self.cable.as_fd()])
    }

    /// Starts the operator.
    pub fn operator(&self) -> Result<Process> {
        self.start("operator", &[])
    }

    fn start(&self, name: &str, fds: &[BorrowedFd<'_>]) -> Result<Process> {
        let config = json!({
            "home": self.dir.path(), "cgroup_parent": sandbox::rootless::cgroup_parent("bench")?,
            "server_uid": SERVER_UID, "gateway_uid": GATEWAY_UID, "up": std::process::id(), "administrator": "bench",
            "outside": {
                "extra_roots": self.roots, "name_servers": [], "upstream_proxy": null, "upstream_proxy_resolves": false,
            },
        });
        let log = fs::File::options().create(true).append(true).open(self.at("log"))?;
        let mut command = Command::new(volary()?);
        command.args(["process", name, &config.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).env_clear().env("PATH", "/usr/bin:/usr/sbin");
        let fds: Vec<i32> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
        // SAFETY: only fcntl and dup2, which are async-signal-safe; nothing allocates.
        unsafe {
            command.pre_exec(move || {
                let mut high = [0i32; 8];
                for (to, from) in high.iter_mut().zip(&fds) {
                    *to = libc::fcntl(*from, libc::F_DUPFD_CLOEXEC, 64);
                }
                for (n, from) in high.iter().take(fds.len()).enumerate() {
                    if libc::dup2(*from, 3 + n as i32) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        Ok(Process(command.spawn().with_context(|| format!("start the {name}"))?))
    }

    /// One call of the API over the home's socket. Waits for a server that is still starting.
    pub fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut stream = UnixStream::connect(self.at("run/api.sock"))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        // In one piece: a server that answers before it has read a body hangs up on what comes later.
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: volary\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).with_context(|| format!("{method} {path}; {}", self.log()))?;
        let (head, body) = answer.split_once("\r\n\r\n").context("the server's answer has no head")?;
        if !head.starts_with("HTTP/1.1 2") {
            bail!("{method} {path}: {head}\n{body}");
        }
        if body.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(body)?) }
    }

    /// The processes' last words.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.at("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

/// A packet socket.
pub fn seqpacket() -> Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Resident and proportional memory of a process, in MB.
pub fn memory(pid: u32) -> Result<(f64, f64)> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let field = |name: &str| -> Result<f64> {
        let line = text.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name} in {path}"))?;
        let kib: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
        Ok(kib * 1024.0 / 1e6)
    };
    Ok((field("Rss:")?, field("Pss:")?))
}

/// A whole platform, as `volary up` starts it.
pub struct Up {
    child: Child,
    home: tempfile::TempDir,
    /// Milliseconds until it was ready.
    pub ready: f64,
}

impl Up {
    /// Starts one below the temporary folder, with these further arguments.
    pub fn start(args: &[&str]) -> Result<Self> {
        let home = folder(&std::env::temp_dir())?;
        let begun = Instant::now();
        let mut child = Command::new(volary()?)
            .args(["up", "--port", "0", "--json", "--home"])
            .arg(home.path())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no pipe")?).read_line(&mut line)?;
        let ready = ms(begun.elapsed());
        if !line.contains("\"ready\":true") {
            child.kill()?;
            bail!("`volary up` did not get ready: {line}");
        }
        Ok(Self { child, home, ready })
    }

    /// Resident and proportional memory of each of its processes, `up` itself first.
    pub fn memory(&self) -> Result<Vec<(String, (f64, f64))>> {
        let state = std::fs::read_to_string(Path::new(self.home.path()).join("run/up.json"))?;
        let state: Value = serde_json::from_str(&state)?;
        let mut all = vec![("up".to_owned(), memory(self.child.id())?)];
        for (name, pid) in state["processes"].as_object().context("no processes in up.json")? {
            let pid = pid.as_u64().and_then(|pid| u32::try_from(pid).ok()).context("no process id in up.json")?;
            all.push((name.clone(), memory(pid)?));
        }
        Ok(all)
    }

    /// Its home.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs `volary --home HOME ARGS…` with this input to its end, which must be a good one; gives what it printed.
    pub fn volary(&self, args: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(volary()?);
        command.arg("--home").arg(self.home()).args(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("no pipe")?.write_all(input.as_bytes())?;
        let out = child.wait_with_output()?;
        ensure!(out.status.success(), "volary {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr));
        Ok(String::from_utf8(out.stdout)?)
    }

    /// Ends it in order.
    pub fn end(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "`volary up` ended with {status}");
        Ok(())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // A benchmark that broke off: its boxes end with it, in order.
        let pid = rustix::process::Pid::from_child(&self.child);
        if matches!(self.child.try_wait(), Ok(None))
            && let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::TERM)
                .map_err(std::io::Error::from)
                .and_then(|()| self.child.wait().map(drop))
        {
            eprintln!("`volary up` could not be ended: {error}");
        }
    }
}
