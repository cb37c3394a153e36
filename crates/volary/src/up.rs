//! `volary up`: binds what is listened on, starts server, gateway and operator as processes of their own, and
//! starts again what dies. The sockets are its own, so that a restart loses no connection that waits on them.

use crate::client::Client;
use crate::home::Home;
use crate::keys;
use crate::logs;
use crate::outside::Outside;
use crate::process::Config;
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, WaitOptions};
use serde_json::json;
use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where the console is when nothing else is said.
pub const DEFAULT_PORT: u16 = 7440;
/// How long the platform may take to get ready: it does in less than a second, in an emulated machine in ten.
const READY: Duration = Duration::from_secs(180);

/// What `up` was asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The home.
    pub home: Home,
    /// The console's port on 127.0.0.1; 0 for any.
    pub port: u16,
    /// Print one JSON line when ready, instead of words.
    pub json: bool,
    /// How the gateway reaches the outside.
    pub outside: Outside,
    /// Say nothing; for a platform that a command started for its own length.
    pub quiet: bool,
    /// Most boxes that are made ahead of the runs that will claim them.
    pub warm: usize,
}

/// Where this installation is reached and where its boxes are.
struct State {
    url: String,
    cgroup_parent: String,
    outside: Outside,
}

struct Part {
    name: &'static str,
    fds: Vec<OwnedFd>,
    pid: Option<Pid>,
    started: Instant,
    quick_deaths: u32,
    /// How often it died at all.
    deaths: u32,
    next_start: Instant,
}

/// Runs the platform until it is told to end (SIGINT or SIGTERM).
pub fn main(options: &Options) -> anyhow::Result<()> {
    let home = &options.home;
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    // Every connection of every box is a descriptor of the gateway's; the usual soft limit is that of a shell.
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: files.maximum, maximum: files.maximum },
    )?;
    // What is wrong in it is said before anything begins.
    options.outside.outward()?;
    let (server_uid, gateway_uid) = home.uids();
    let tcp = match listen(options.port) {
        Ok(tcp) => tcp,
        Err(taken) => {
            // Whoever starts a second platform on one home hears of the first, not of its port.
            if home.path().is_dir() {
                drop(lock(home)?);
            }
            return Err(taken);
        }
    };
    make(home, server_uid)?;
    keys::Config::read(home)?;
    let lock = lock(home)?;
    // Orphans of the operator (helpers that still take a box down) become ours, so that we can wait for them.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;

    let url = format!("http://{}", tcp.local_addr()?);
    // A socket is nobody else's, also for the moment before its mode is set.
    let usual = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let api = socket(home, "api.sock", None)?;
    let link = socket(home, "operator.sock", None)?;
    let grants = socket(home, "gateway.sock", Some(gateway_uid))?;
    let cable = seqpacket(home)?;
    rustix::process::umask(usual);

    let cgroup_parent = sandbox::rootless::cgroup_parent(&home.label()).context("a control group for the boxes")?;
    let config = Config {
        home: home.path().to_path_buf(),
        cgroup_parent: cgroup_parent.clone(),
        server_uid,
        gateway_uid,
        up: std::process::id(),
        outside: options.outside.clone(),
        administrator: account(),
        warm: options.warm,
    };
    let config = serde_json::to_string(&config)?;
    let now = Instant::now();
    let part = |name, fds| Part { name, fds, pid: None, started: now, quick_deaths: 0, deaths: 0, next_start: now };
    let mut parts = [
        part("server", vec![tcp.into(), api.into(), link.into(), grants.into()]),
        part("gateway", vec![cable]),
        part("operator", Vec::new()),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let state = State { url, cgroup_parent, outside: options.outside.clone() };
    let ended = runtime.block_on(supervise(options, &config, &state, &mut parts));
    end(&mut parts, home, &state)?;
    drop(lock);
    ended
}

/// The console's socket.
fn listen(port: u16) -> anyhow::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow::anyhow!("port {port} on 127.0.0.1 is taken by another program; give --port N (0 for any free one)")
        }
        _ => anyhow::anyhow!("listen on 127.0.0.1:{port}: {e}"),
    })
}

/// Makes the home; when it is refused, folders that were made only now are taken away again, if they are empty.
fn make(home: &Home, server_uid: u32) -> anyhow::Result<()> {
    let new: Vec<&std::path::Path> = home.path().ancestors().take_while(|folder| !folder.exists()).collect();
    let made = home.make(server_uid);
    if made.is_err() {
        // The deepest first; above one that stays all stay.
        new.into_iter().take_while(|folder| fs::remove_dir(folder).is_ok()).for_each(drop);
    }
    made
}

/// The name of the account that runs this, which the home belongs to; its number, where it has none.
fn account() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let mut room = vec![0 as libc::c_char; 64 * 1024];
    let mut found = std::ptr::null_mut();
    // SAFETY: all zeros is a valid value of this plain struct, which is only written to.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    // SAFETY: every pointer is to something that lives longer than the call, and `room` is as long as said.
    let failed = unsafe { libc::getpwuid_r(uid, &raw mut entry, room.as_mut_ptr(), room.len(), &raw mut found) };
    if failed != 0 || found.is_null() || entry.pw_name.is_null() {
        return format!("uid {uid}");
    }
    // SAFETY: it was found, so the name is a C string within `room`.
    unsafe { std::ffi::CStr::from_ptr(entry.pw_name) }.to_string_lossy().into_owned()
}

/// One `up` per home: the lock is on the folder itself, which no clean-up takes away.
fn lock(home: &Home) -> anyhow::Result<File> {
    let folder = File::open(home.path()).with_context(|| format!("open the home {}", home.path().display()))?;
    if rustix::fs::flock(&folder, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        let state = fs::read_to_string(home.run("up.json")).ok();
        let state = state.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        let who = state.map_or_else(
            || "it is starting".to_owned(),
            |state| format!("process {}, console {}", state["pid"], state["url"].as_str().unwrap_or("not known")),
        );
        bail!(
            "the home {} is in use: a platform runs on it ({who}); stop that one, or give another --home",
            home.path().display()
        );
    }
    Ok(folder)
}

fn socket(home: &Home, name: &str, uid: Option<u32>) -> anyhow::Result<UnixListener> {
    let path = home.run(name);
    remove_stale(&path)?;
    let socket = UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    guard(&path, uid)?;
    Ok(socket)
}

fn seqpacket(home: &Home) -> anyhow::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
    let path = home.run("cable.sock");
    remove_stale(&path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrUnix::new(&path)?).with_context(|| format!("listen on {}", path.display()))?;
    listen(&socket, 8)?;
    guard(&path, None)?;
    Ok(socket)
}

fn remove_stale(path: &std::path::Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Whoever can open a socket is who may use it: its mode and owner are the check.
fn guard(path: &std::path::Path, uid: Option<u32>) -> anyhow::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    if let (Some(uid), true) = (uid, rustix::process::geteuid().is_root()) {
        chown(path, Some(uid), Some(uid))?;
    }
    Ok(())
}

impl Part {
    fn start(&mut self, config: &str, home: &Home) -> anyhow::Result<()> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0(format!("volary-{}", self.name));
        command.args(["process", self.name, config]).stdin(Stdio::null()).stdout(Stdio::null());
        let log = File::options().create(true).append(true).open(home.path().join("log").join(self.name))?;
        // A group of its own: Ctrl-C is for `up`, which ends its parts in order.
        command.process_group(0);
        command.stderr(log.try_clone()?).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        if let (Some(address), "operator") = (std::env::var_os("DOCKER_HOST"), self.name) {
            // An administrator's word on where the Docker engine is; see `sandbox::docker`.
            command.env("DOCKER_HOST", address);
        }
        // For the server's own, from a process that is not confined and lives no longer than it takes.
        let key = match self.name {
            "server" => Some(keys::hand_over(config, log)?),
            _ => None,
        };
        let fds: Vec<i32> = self.fds.iter().chain(&key).map(|fd| fd.as_fd().as_raw_fd()).collect();
        // SAFETY: only fcntl and dup2, which are async-signal-safe; no allocation.
        unsafe {
            command.pre_exec(move || {
                // First out of the way of one another, then to 3, 4, …
                let mut high = [0i32; 8];
                for (to, from) in high.iter_mut().zip(&fds) {
                    *to = libc::fcntl(*from, libc::F_DUPFD_CLOEXEC, 64);
                    if *to < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                for (n, from) in high.iter().take(fds.len()).enumerate() {
                    if libc::dup2(*from, 3 + n as i32) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| format!("start the {}", self.name))?;
        self.pid = Pid::from_raw(child.id().cast_signed());
        self.started = Instant::now();
        Ok(())
    }

    /// It died: when it may be started again. Longer each time it dies young, 5 s at most.
    fn died(&mut self) {
        self.pid = None;
        self.deaths += 1;
        let young = self.started.elapsed() < Duration::from_secs(5);
        self.quick_deaths = if young { (self.quick_deaths + 1).min(6) } else { 0 };
        let wait = if self.quick_deaths <= 1 { 0 } else { 100u64 << self.quick_deaths };
        self.next_start = Instant::now() + Duration::from_millis(wait.min(5000));
    }
}

async fn supervise(options: &Options, config: &str, state: &State, parts: &mut [Part; 3]) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let home = &options.home;
    let (mut child, mut term, mut int) =
        (signal(SignalKind::child())?, signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    for part in parts.iter_mut() {
        part.start(config, home)?;
    }
    write_state(home, state, parts)?;
    let started = Instant::now();
    let mut told = false;
    let client = Client::new(home);
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        tokio::select! {
            _ = child.recv() => {}
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            _ = tick.tick() => {}
        }
        if let Err(e) = logs::bound(&home.path().join("log")) {
            eprintln!("volary: a log is too long, and was not begun anew: {e}");
        }
        let mut changed = collect(parts, options)?;
        for part in parts.iter_mut() {
            if part.pid.is_none() && Instant::now() >= part.next_start {
                part.start(config, home)?;
                changed = true;
            }
        }
        if changed {
            write_state(home, state, parts)?;
        }
        // Whoever ends meanwhile is collected at once: how young it was decides whether it is hopeless. And whoever is to be started
        // again is, for while there is no server nobody answers.
        let next = parts.iter().filter(|part| part.pid.is_none()).map(|part| part.next_start).min();
        let is_ready = !told
            && tokio::select! {
                is_ready = ready(&client) => is_ready,
                _ = child.recv() => false,
                () = at(next) => false,
            };
        if is_ready {
            told = true;
            tick = tokio::time::interval(Duration::from_secs(1));
            settle(home, &client).await;
            tell_ready(options, &state.url, &client).await?;
        }
        if !told {
            // However long each of its lives was: a loaded machine takes its time to say no.
            let hopeless = parts.iter().find(|part| part.deaths >= 4);
            if let Some(part) = hopeless {
                bail!("the {} does not start; its last words:\n{}", part.name, last_words(home, part.name));
            }
            if started.elapsed() > READY {
                let log = home.path().join("log");
                bail!("the platform was not ready within {} s; look at {}", READY.as_secs(), log.display());
            }
        }
    }
}

/// A rotation of the vault's key that was cut off, if there was one, is brought to its end.
async fn settle(home: &Home, client: &Client) {
    let settled = match keys::rotate::lock(home) {
        Ok(Some(_lock)) => keys::rotate::settle(home, client).await,
        // One is under way: it brings itself to its end.
        Ok(None) => Ok(()),
        Err(e) => Err(e),
    };
    if let Err(e) = settled {
        // Both keys are offered at the next start as at this one.
        eprintln!("volary: a rotation of the vault's key was not brought to its end: {e:#}");
    }
}

/// Waits until then; for good where there is no such moment.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Whether all three answer. The socket is ours and takes connections while no server lives, so the wait has an end.
async fn ready(client: &Client) -> bool {
    let health = tokio::time::timeout(Duration::from_secs(5), client.health()).await;
    health.is_ok_and(|health| health.is_some_and(|h| h.operator && h.gateway))
}

async fn tell_ready(options: &Options, url: &str, client: &Client) -> anyhow::Result<()> {
    if options.quiet {
        return Ok(());
    }
    let mut out = std::io::stdout();
    if options.json {
        writeln!(out, "{}", json!({"ready": true, "url": url, "home": options.home.path()}))?;
    } else {
        let link = client.sign_in().await?;
        writeln!(out, "volary is up. Home: {}", options.home.path().display())?;
        writeln!(out, "Console (this link works once, for ten minutes): {}", link.url)?;
        writeln!(out, "Ctrl-C ends it, and every box with it.")?;
    }
    out.flush()?;
    Ok(())
}

/// The tail of a process's log.
fn last_words(home: &Home, name: &str) -> String {
    let text = fs::read_to_string(home.path().join("log").join(name)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

/// Collects everything that died; says whether one of the parts did.
fn collect(parts: &mut [Part; 3], options: &Options) -> anyhow::Result<bool> {
    let mut changed = false;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if let Some(part) = parts.iter_mut().find(|part| part.pid == Some(pid)) {
                    part.died();
                    changed = true;
                    if !options.quiet {
                        let why = why(&status, &options.home.path().join("log").join(part.name));
                        eprintln!("volary: the {} ended ({}{why}); starting it again", part.name, how(&status));
                    }
                }
            }
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(changed),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn how(status: &rustix::process::WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("status {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => "for no known reason".into(),
    }
}

/// What a process that ended by itself said last: why. One that was killed said nothing of it.
fn why(status: &rustix::process::WaitStatus, log: &std::path::Path) -> String {
    let failed = status.exit_status().is_some_and(|code| code != 0);
    let last = if failed { logs::last_line(log) } else { None };
    last.map_or_else(String::new, |line| format!(": {}", line.trim_start_matches("volary: ")))
}

/// What `status`, `reach` and a second `up` read: where, which processes, and by which way the gateway goes outside.
fn write_state(home: &Home, state: &State, parts: &[Part; 3]) -> anyhow::Result<()> {
    let pids: serde_json::Map<String, serde_json::Value> =
        parts.iter().filter_map(|part| Some((part.name.to_owned(), part.pid?.as_raw_nonzero().get().into()))).collect();
    let state = json!({
        "pid": std::process::id(), "url": state.url, "cgroup": state.cgroup_parent, "processes": pids,
        "outside": state.outside,
    });
    let draft = home.run("up.json.tmp");
    fs::write(&draft, format!("{state}\n"))?;
    fs::rename(&draft, home.run("up.json"))?;
    Ok(())
}

/// Ends all three, and waits until no box and no helper is left.
fn end(parts: &mut [Part; 3], home: &Home, state: &State) -> anyhow::Result<()> {
    // The server first: its last act is to sign the evidence, and the operator keeps that head.
    for name in ["server", "operator", "gateway"] {
        let Some(part) = parts.iter_mut().find(|part| part.name == name) else { continue };
        let Some(pid) = part.pid.take() else { continue };
        signal_to(pid, Signal::TERM)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut killed = false;
        while let Ok(None) = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG) {
            if Instant::now() > deadline && !killed {
                signal_to(pid, Signal::KILL)?;
                killed = true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    // Helpers of boxes, whose operator is gone: they end their boxes and then themselves.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Err(rustix::io::Errno::CHILD) => break,
            Ok(None) if Instant::now() > deadline => {
                eprintln!("volary: a box's helper does not end; the next `up` will reap it");
                break;
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(2)),
            Ok(Some(_)) | Err(_) => {}
        }
    }
    sandbox::read_back::remove_parent(&state.cgroup_parent);
    for name in ["api.sock", "operator.sock", "gateway.sock", "cable.sock", "up.json"] {
        remove_stale(&home.run(name))?;
    }
    Ok(())
}

fn signal_to(pid: Pid, signal: Signal) -> anyhow::Result<()> {
    match rustix::process::kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
