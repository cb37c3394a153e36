//! The usual ways to run one command in a container, with walls as near to ours as each of them has.

use crate::stage;
use crate::table::ms;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A way that is not on this machine: its name and why.
pub struct Absent(pub String, pub anyhow::Error);

/// One of the ways.
pub struct Rival {
    /// With what it lacks, in words.
    pub name: &'static str,
    command: Box<dyn Fn(usize) -> Command>,
    // What must live as long as it is measured; the daemon ends before its folder goes.
    _kept: (Option<Daemon>, tempfile::TempDir),
}

/// Makes one ready.
type Way = fn() -> Result<Rival>;

/// All of them, one by one, so that none is up while another is measured.
pub fn all() -> impl Iterator<Item = Result<Rival, Absent>> {
    let ways: [(&str, Way); 3] = [("docker run", docker), ("runc", runc), ("bubblewrap", bubblewrap)];
    ways.into_iter().map(|(name, way)| way().map_err(|e| Absent(name.to_owned(), e)))
}

impl Rival {
    /// Milliseconds from the start of its command to the first output of what runs inside.
    pub fn start(&self, n: usize) -> Result<f64> {
        let mut command = (self.command)(n);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = command.spawn()?;
        let mut first = [0u8];
        let read = child.stdout.take().context("no pipe")?.read(&mut first)?;
        let time = ms(begun.elapsed());
        let out = child.wait_with_output()?;
        ensure!(read == 1 && out.status.success(), "{}", String::from_utf8_lossy(&out.stderr).trim());
        Ok(time)
    }
}

fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).map(|dir| dir.join(program));
    found.into_iter().find(|file| file.is_file()).with_context(|| format!("no {program} on this machine"))
}

/// The system folders that are links on this host (as on any with a merged `/usr`), with their targets.
fn links() -> Vec<(&'static str, PathBuf)> {
    let names = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
    names.into_iter().filter_map(|name| Some((name, fs::read_link(name).ok()?))).collect()
}

/// A root tree with mount points and links only; the host's `/usr` is shown in it, as in our box.
fn root_tree(root: &Path) -> Result<()> {
    ensure!(links().iter().any(|(name, _)| *name == "/bin"), "this host's /bin is no link into /usr");
    for name in ["dev", "etc", "proc", "sys", "tmp", "usr", "workspace"] {
        fs::create_dir_all(root.join(name))?;
    }
    for (name, target) in links() {
        symlink(target, root.join(&name[1..]))?;
    }
    Ok(())
}

fn bubblewrap() -> Result<Rival> {
    let bwrap = find("bwrap")?;
    let command = move |_| {
        let mut command = Command::new(&bwrap);
        command.args(["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]);
        command.args(["--uid", "1000", "--gid", "1000", "--ro-bind", "/usr", "/usr"]);
        for (name, target) in links() {
            command.arg("--symlink").arg(target).arg(name);
        }
        command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/workspace"]);
        command.args(["/bin/echo", "x"]);
        command
    };
    let kept = (None, stage::folder(&std::env::temp_dir())?);
    Ok(Rival { name: "bubblewrap: no cgroup, no seccomp, no worktree", command: Box::new(command), _kept: kept })
}

fn runc() -> Result<Rival> {
    let runc = find("runc")?;
    ensure!(stage::root(), "only measured as root");
    let dir = stage::folder(&std::env::temp_dir())?;
    root_tree(&dir.path().join("rootfs"))?;
    fs::write(dir.path().join("config.json"), bundle().to_string())?;
    let (bundle, state) = (dir.path().to_path_buf(), dir.path().join("state"));
    let command = move |n| {
        let mut command = Command::new(&runc);
        command.arg("--root").arg(&state).args(["run", "--bundle"]).arg(&bundle).arg(format!("bench-runc-{n}"));
        command
    };
    Ok(Rival { name: "runc: no worktree, no Landlock, no read-back", command: Box::new(command), _kept: (None, dir) })
}

fn bundle() -> Value {
    let fresh = |kind: &str, point: &str, options: &[&str]| json!({"destination": point, "type": kind, "source": kind, "options": options});
    let limit = 2048u64 << 20;
    let refused =
        ["ptrace", "bpf", "keyctl", "add_key", "request_key", "perf_event_open", "userfaultfd", "io_uring_setup"];
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "box",
        "process": {
            "terminal": false,
            "user": {"uid": 1000, "gid": 1000},
            "args": ["/bin/echo", "x"],
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
            "capabilities": {"bounding": [], "effective": [], "inheritable": [], "permitted": [], "ambient": []},
            "noNewPrivileges": true,
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}],
        },
        "mounts": [
            fresh("proc", "/proc", &["nosuid", "noexec", "nodev"]),
            fresh("tmpfs", "/dev", &["nosuid", "noexec", "mode=755", "size=64k"]),
            {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["bind", "ro", "nosuid", "nodev"]},
            fresh("tmpfs", "/tmp", &["nosuid", "nodev", "mode=1777", "size=512m"]),
            fresh("tmpfs", "/workspace", &["nosuid", "nodev", "mode=1777", "size=512m"]),
        ],
        "linux": {
            "namespaces": (["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({"type": kind}))),
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}],
                "memory": {"limit": limit, "swap": limit},
                "cpu": {"period": 100_000, "quota": 200_000},
                "pids": {"limit": 256},
            },
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{"names": refused, "action": "SCMP_ACT_ERRNO"}],
            },
        },
    })
}

/// A docker daemon of our own, ended when this is dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // By SIGTERM, so that it ends its own containerd and takes its mounts down.
        let pid = rustix::process::Pid::from_child(&self.0);
        let told = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        if told.is_err() || self.0.wait().is_err() {
            eprintln!("the docker daemon {} could not be ended", self.0.id());
        }
    }
}

/// A Docker engine that answers: the machine's, or one of our own.
pub struct Docker {
    /// Its client.
    pub client: PathBuf,
    /// Where it answers.
    pub socket: String,
    // The daemon ends before its folder goes.
    _daemon: Option<Daemon>,
    dir: tempfile::TempDir,
}

impl Docker {
    /// Finds or starts one.
    pub fn start() -> Result<Self> {
        let client = find("docker")?;
        let dir = stage::folder(&std::env::temp_dir())?;
        let answers = |socket: &str| {
            let out = Command::new(&client).args(["-H", socket, "version"]).output();
            out.is_ok_and(|out| out.status.success())
        };
        let default = "unix:///var/run/docker.sock".to_owned();
        let (socket, daemon) = if answers(&default) {
            (default, None)
        } else {
            let socket = format!("unix://{}", dir.path().join("docker.sock").display());
            (socket.clone(), Some(daemon(dir.path(), &socket, || answers(&socket))?))
        };
        Ok(Self { client, socket, _daemon: daemon, dir })
    }
}

fn docker() -> Result<Rival> {
    let Docker { client: docker, socket, _daemon: daemon, dir } = Docker::start()?;
    let tree = dir.path().join("tree");
    root_tree(&tree)?;
    let tar = dir.path().join("tree.tar");
    finish(Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&tar).arg("."))?;
    finish(Command::new(&docker).args(["-H", &socket, "import"]).arg(&tar).arg("volary-bench"))?;
    let command = move |_| {
        let mut command = Command::new(&docker);
        command.args(["-H", &socket, "run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL"]);
        command.args(["--security-opt", "no-new-privileges", "--pids-limit", "256", "--memory", "2g"]);
        command.args(["--memory-swap", "2g", "--cpus", "2", "--user", "1000:1000", "--log-driver", "none"]);
        command.args(["--tmpfs", "/tmp:size=512m", "--tmpfs", "/workspace:size=512m", "--volume", "/usr:/usr:ro"]);
        command.args(["volary-bench", "/bin/echo", "x"]);
        command
    };
    let name = "docker run: no worktree, no Landlock, no read-back";
    Ok(Rival { name, command: Box::new(command), _kept: (daemon, dir) })
}

fn daemon(dir: &Path, socket: &str, answers: impl Fn() -> bool) -> Result<Daemon> {
    ensure!(stage::root(), "no docker daemon runs, and one is started as root only");
    let dockerd = find("dockerd").context("no docker daemon runs")?;
    let at = |name: &str| dir.join(name);
    let log = fs::File::create(at("dockerd.log"))?;
    let mut command = Command::new(dockerd);
    command.args(["--host", socket, "--bridge=none", "--iptables=false", "--ip6tables=false"]);
    command.arg("--data-root").arg(at("data")).arg("--exec-root").arg(at("exec")).arg("--pidfile").arg(at("pid"));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let daemon = Daemon(command.spawn()?);
    let end = Instant::now() + Duration::from_secs(15);
    while !answers() {
        if Instant::now() > end {
            let said = fs::read_to_string(at("dockerd.log")).unwrap_or_default();
            bail!("the docker daemon does not start: {}", said.lines().last().unwrap_or_default());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(daemon)
}

/// Runs a command that must succeed.
pub fn finish(command: &mut Command) -> Result<Vec<u8>> {
    let out = command.output().with_context(|| format!("{:?}", command.get_program()))?;
    ensure!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr).trim());
    Ok(out.stdout)
}
