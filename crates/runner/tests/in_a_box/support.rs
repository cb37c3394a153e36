//! A poor man's box for the runner's own tests: namespaces by `unshare`, a bare tree, the built runner as process 1.
//!
//! No cgroup and no idmapped worktree: the sandbox's tests run the runner in a real box.

use api::frame;
use api::inbox::{Counts, Done, Hello, Kind, ToRunner};
use base64::Engine;
use model::event::{Exit, Stream};
use model::{Event, Limits};
use std::hash::{Hash, Hasher};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Far beyond what anything here takes; a test that meets it hangs otherwise.
const HANG: Duration = Duration::from_secs(60);

/// The script that makes the tree and becomes the runner. `$1` is the runner, `$2` the agent or nothing.
const BOX: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 root /mnt
cd /mnt
mkdir -p usr etc proc dev tmp workspace run/volary run/bearer var
mount --rbind /usr usr
mount -o remount,ro,bind usr
mount --bind /etc etc
mount -o remount,ro,bind etc
for link in bin sbin lib lib32 lib64 libx32; do [ -e /$link ] && ln -s usr/$link $link; done
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
mkdir dev/shm && mount -t tmpfs -o size=16m shm dev/shm
ln -s /proc/self/fd dev/fd
mount -t proc proc proc
mount -t tmpfs tmp tmp
mount -t tmpfs -o uid=60001,gid=60001 workspace workspace
mount -t tmpfs -o size=16m,noexec bearer run/bearer
chmod 1777 tmp workspace dev/shm run/bearer
echo probe > var/volary-probe
touch run/volary/runner run/volary/agent
mount --bind "$1" run/volary/runner
[ -z "$2" ] || { cp "$2" run/volary/agent; chmod 755 run/volary/agent; }
mount -o remount,ro,bind,nosuid /mnt
pivot_root . mnt 2>/dev/null || { mount --move . /; }
exec chroot --userspec=60001:60001 . /run/volary/runner
"#;

/// How the scripted agent is linked.
#[derive(Debug, Clone, Copy, Hash, PartialEq, Eq)]
pub enum Linked {
    /// As ours is.
    Static,
    /// As most agents are: the kernel begins it through the system's loader.
    Dynamic,
}

/// The scripted agent, compiled at its first use in this process.
async fn agent(linked: Linked) -> &'static str {
    static AGENTS: [tokio::sync::OnceCell<String>; 2] = [const { tokio::sync::OnceCell::const_new() }; 2];
    AGENTS[usize::from(linked == Linked::Dynamic)].get_or_init(|| compile_agent(linked)).await
}

/// Compiles the scripted agent. Named by its source, so that it is compiled once, and put in place whole, so that
/// tests side by side meet no half of it.
async fn compile_agent(linked: Linked) -> String {
    let mut hash = std::hash::DefaultHasher::new();
    (include_str!("scripted.rs"), include_str!("executes.rs"), include_str!("network.rs"), linked).hash(&mut hash);
    let to = format!("{}/scripted-agent-{:016x}", env!("CARGO_TARGET_TMPDIR"), hash.finish());
    if std::path::Path::new(&to).exists() {
        return to;
    }
    let half = format!("{to}.{}", std::process::id());
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/in_a_box/scripted.rs");
    let feature = match linked {
        Linked::Static => "target-feature=+crt-static",
        Linked::Dynamic => "target-feature=-crt-static",
    };
    let args = ["--edition", "2024", "-C", feature, "-C", "panic=abort", "-o", &half, source];
    let compiled = Command::new("rustc").args(args).output().await.unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    std::fs::rename(half, &to).unwrap();
    to
}

/// A live runner in its box.
pub struct Box {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// Events so far, each of which an agent's runner is told to be kept; none for an exec.
    kept: Option<u64>,
    /// Its questions so far, and the answer to each.
    asked: (u64, Counts),
    /// What it said first.
    pub hello: Hello,
    /// The box's door; whoever is to serve it takes it.
    pub door: Option<TcpListener>,
}

/// Binds a port of the loopback in the network namespace that `unshare` is about to have; the door's is 8080.
fn bind(unshare: u32, port: u16) -> TcpListener {
    let of = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/net")).unwrap();
    let end = std::time::Instant::now() + HANG;
    while of(&unshare.to_string()) == of("self") {
        assert!(std::time::Instant::now() < end, "no namespace in {HANG:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    let namespace = std::fs::File::open(format!("/proc/{unshare}/ns/net")).unwrap();
    // A thread of its own, which ends in that namespace.
    let bound = std::thread::spawn(move || {
        let kind = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind)).unwrap();
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        // SAFETY: `ifreq` is plain data, for which all zeros is a value; the call reads it and no more.
        let raised = unsafe {
            let mut lo: libc::ifreq = std::mem::zeroed();
            (lo.ifr_name[0], lo.ifr_name[1]) = (b'l' as libc::c_char, b'o' as libc::c_char);
            lo.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
            libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &lo)
        };
        assert_eq!(raised, 0, "{}", std::io::Error::last_os_error());
        TcpListener::bind(("0.0.0.0", port)).unwrap()
    });
    bound.join().unwrap()
}

/// What came of a run.
#[derive(Debug)]
pub struct Story {
    /// Every event, in order.
    pub events: Vec<Event>,
    /// How it ended.
    pub done: Done,
}

impl Story {
    /// What was written to one stream, joined.
    pub fn text(&self, stream: Stream) -> String {
        String::from_utf8_lossy(&self.bytes(stream)).into_owned()
    }

    /// As [`Story::text`], in bytes.
    pub fn bytes(&self, stream: Stream) -> Vec<u8> {
        let mut all = Vec::new();
        for event in &self.events {
            if let Event::Output { stream: of, data_b64, .. } = event
                && *of == stream
            {
                all.extend(base64::engine::general_purpose::STANDARD.decode(data_b64).unwrap());
            }
        }
        all
    }
}

impl Box {
    /// Makes a box without an agent and reads its hello.
    pub async fn start() -> Self {
        Self::make("").await
    }

    /// Makes a box whose agent is the scripted one.
    pub async fn start_with_agent() -> Self {
        Self::start_with(agent(Linked::Static).await).await
    }

    /// The same, when it is linked dynamically.
    pub async fn start_with_dynamic_agent() -> Self {
        Self::start_with(agent(Linked::Dynamic).await).await
    }

    /// Makes a box whose agent is this program.
    pub async fn start_with(agent: &str) -> Self {
        let mut made = Self::make(agent).await;
        made.kept = Some(0);
        made
    }

    /// Lets the scripted agent play a script in such a tree with neither a runner nor any wall of its; gives its lines.
    pub async fn unwalled(linked: Linked, script: &str) -> Vec<String> {
        Self::unwalled_at(linked, script, &[]).await
    }

    /// The same, with a server at each of these ports of its loopback.
    pub async fn unwalled_with_servers(script: &str, ports: [u16; 2]) -> Vec<String> {
        Self::unwalled_at(Linked::Static, script, &ports).await
    }

    async fn unwalled_at(linked: Linked, script: &str, ports: &[u16]) -> Vec<String> {
        let agent = agent(linked).await;
        let (tree, runner) = BOX.rsplit_once("exec ").unwrap();
        // The shell stays process 1: at its end, which is this test's, everything ends.
        let tree = format!("{tree}{}\ntrue\n", runner.trim_end().replace("volary/runner", "volary/agent"));
        let mut child = Self::unshare(&tree, agent).spawn().unwrap();
        let unshare = child.id().unwrap();
        let _servers: Vec<TcpListener> = ports.iter().map(|port| bind(unshare, *port)).collect();
        let hex: String = script.bytes().map(|byte| format!("{byte:02x}")).collect();
        let lines = [
            r#"{"id":1}"#.to_owned(),
            r#"{"id":2,"cwd":"/workspace","volary.task":1}"#.to_owned(),
            format!(r#"{{"id":3,"sessionId":"s","text":"{hex}"}}"#),
        ];
        child.stdin.as_mut().unwrap().write_all(format!("{}\n", lines.join("\n")).as_bytes()).await.unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut all = Vec::new();
        // It waits for ever at its end.
        while !all.last().is_some_and(|line: &String| line.contains("stopReason")) {
            let line = tokio::time::timeout(HANG, said.next_line()).await.unwrap().unwrap();
            all.push(line.unwrap_or_else(|| panic!("it ended: {all:?}")));
        }
        child.kill().await.unwrap();
        all
    }

    /// Makes a box whose door nobody bound; gives what its runner says when it ends.
    pub async fn without_a_door() -> String {
        let mut child = Self::unshare(BOX, "").stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&[api::inbox::GO]).await.unwrap();
        let out = tokio::time::timeout(HANG, child.wait_with_output()).await.unwrap().unwrap();
        assert!(!out.status.success() && out.stdout.is_empty(), "{out:?}");
        String::from_utf8_lossy(&out.stderr).into_owned()
    }

    fn unshare(tree: &str, agent: &str) -> Command {
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--pid", "--fork", "--mount", "--net", "--ipc", "--uts", "--kill-child", "sh", "-c", tree, "box"])
            .args([env!("CARGO_BIN_EXE_runner"), agent])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        unshare
    }

    async fn make(agent: &str) -> Self {
        let mut child = Self::unshare(BOX, agent).spawn().unwrap();
        let door = bind(child.id().unwrap(), 8080);
        let mut stdin = child.stdin.take();
        stdin.as_mut().unwrap().write_all(&[api::inbox::GO]).await.unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let body = tokio::time::timeout(HANG, frame::read_bytes(&mut stdout)).await.unwrap().unwrap();
        assert_eq!(Kind::of(body[0]), Some(Kind::Hello));
        let hello = serde_json::from_slice(&body[1..]).unwrap();
        Self { child, stdin, stdout, kept: None, asked: (0, Counts::default()), hello, door: Some(door) }
    }

    /// Sends one message.
    pub async fn send(&mut self, message: &ToRunner) {
        if let Err(error) = frame::write(self.stdin.as_mut().unwrap(), message).await {
            let ended = tokio::time::timeout(HANG, self.child.wait()).await;
            panic!("the runner takes nothing: {error}; it ended: {ended:?}");
        }
    }

    /// Sends one message, unless the runner is gone.
    pub async fn try_send(&mut self, message: &ToRunner) -> Result<(), frame::FrameError> {
        frame::write(self.stdin.as_mut().unwrap(), message).await
    }

    /// Reads frames until `enough` says so of one, or the end; what was read is in the answer.
    pub async fn until(&mut self, enough: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let (kind, body) = self.next().await;
            assert_eq!(kind, Kind::Event, "it ended before");
            let event: Event = serde_json::from_slice(&body).unwrap();
            let last = enough(&event);
            events.push(event);
            if last {
                return events;
            }
        }
    }

    /// Reads every frame to the last.
    pub async fn story(mut self) -> Story {
        let mut events = Vec::new();
        loop {
            match self.next().await {
                (Kind::Event, body) => events.push(serde_json::from_slice(&body).unwrap()),
                (Kind::Done, body) => {
                    let done = serde_json::from_slice(&body).unwrap();
                    let status = tokio::time::timeout(HANG, self.child.wait()).await.unwrap().unwrap();
                    assert!(status.success(), "{status}");
                    let mut rest = Vec::new();
                    self.stdout.read_to_end(&mut rest).await.unwrap();
                    assert_eq!(rest, b"", "nothing follows the last frame");
                    return Story { events, done };
                }
                (Kind::Hello | Kind::Ask, _) => panic!("a second hello, or a question that was not answered"),
            }
        }
    }

    /// Closes the operator's end and waits for the box to be gone.
    pub async fn hang_up(mut self) {
        drop(self.stdin.take());
        tokio::time::timeout(HANG, self.child.wait()).await.unwrap().unwrap();
    }

    /// A server at another port of its loopback, as a command of its may be.
    pub fn server(&self, port: u16) -> TcpListener {
        bind(self.child.id().unwrap(), port)
    }

    /// The runner's process id on the host.
    pub fn host_pid(&self) -> u32 {
        let unshare = self.child.id().unwrap();
        let children = std::fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
        children.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// What its control group is said to have met, from now on.
    pub fn met(&mut self, counts: Counts) {
        self.asked.1 = counts;
    }

    async fn next(&mut self) -> (Kind, Vec<u8>) {
        let (kind, body) = loop {
            let body = tokio::time::timeout(HANG, frame::read_bytes(&mut self.stdout)).await.unwrap().unwrap();
            let kind = Kind::of(body[0]).unwrap();
            if kind != Kind::Ask {
                break (kind, body);
            }
            self.asked.0 += 1;
            let (asked, counts) = self.asked;
            // A runner waits only so long for it, and may be gone by now.
            drop(self.try_send(&ToRunner::Met { asked, counts }).await);
        };
        if let (Kind::Event, Some(kept), Some(stdin)) = (kind, &mut self.kept, &mut self.stdin) {
            *kept += 1;
            // A runner that is gone needs no word.
            drop(frame::write(stdin, &ToRunner::Kept { events: *kept }).await);
        }
        (kind, body[1..].to_vec())
    }
}

/// An exec of `sh -c SCRIPT`, with these limits.
pub fn sh(script: &str, limits: Limits) -> ToRunner {
    ToRunner::Exec {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        cwd: "/workspace".into(),
        limits,
        lease: None,
    }
}

/// Runs `sh -c SCRIPT` without input in a box of its own.
pub async fn run(script: &str) -> Story {
    let mut made = Box::start().await;
    made.send(&sh(script, Limits::default())).await;
    made.story().await
}

/// An exit with a code.
pub fn code(code: i32) -> Exit {
    Exit::Code { code }
}
