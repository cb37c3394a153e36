//! A gateway in this process, with everything it talks to played by the test.

mod client;
mod server;

pub use client::{Got, ask, call, head, parse};
pub use server::{Desk, Word};

use api::cable::{FromCable, MAX_PACKET, ToCable};
use api::grants::{FromGateway, ModelCall, Place, ScriptTurn, ToGateway, Upstream, WireSecret};
use model::event::Verdict;
use model::provider::Price;
use model::{Dialect, RunId, Secret, Usage};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};
use scrub::{Key, Scrubber};
use server::{hello, serve_grants};
use std::io::{IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;
use tokio::sync::mpsc;

/// What a provider's key looks like here. It must never be seen by a client.
pub const KEY: &str = "sk-canary-4f9b1c7e2d8a6053";
/// What a run's handle looks like here. It must never be seen by a provider.
pub const HANDLE: &str = "vh_q7w3e5r2t4abcdefghijklmnopqrstuvwxyz234567abcdefghij";
/// Nothing in these tests takes this long; beyond it a test hangs and says so.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that must come. What [`pass`]es meanwhile does not count.
pub async fn soon<T>(what: &str, coming: impl Future<Output = T>) -> T {
    let began = std::time::Instant::now();
    let mut coming = std::pin::pin!(coming);
    loop {
        match tokio::time::timeout(Duration::from_millis(200), &mut coming).await {
            Ok(came) => return came,
            Err(_) => assert!(began.elapsed() < PATIENCE, "waited in vain for {what}"),
        }
    }
}

/// Waits until something is so.
pub async fn when(what: &str, mut so: impl FnMut() -> bool) {
    soon(what, async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// So much time passes for this thread's runtime at once, for everything that waits in it; sockets are as before.
pub async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// What comes once a limit of so many seconds was met, and not before: it may begin to run a little later than this
/// does, and then it is met at the second time, or the third.
pub async fn past<T>(what: &str, limit_secs: u64, coming: impl Future<Output = T>) -> T {
    let mut coming = std::pin::pin!(coming);
    for _ in 0..8 {
        pass(Duration::from_secs(limit_secs + 1)).await;
        if let Ok(came) = tokio::time::timeout(Duration::from_secs(4), &mut coming).await {
            return came;
        }
    }
    panic!("waited in vain for {what}");
}

pub struct House {
    /// What is said of requests to the outside.
    pub desk: Arc<Mutex<Desk>>,
    /// The certificate of the run's authority, in PEM.
    pub authority: String,
    /// What the gateway said to the server, in order.
    pub heard: mpsc::UnboundedReceiver<FromGateway>,
    /// What the server says by itself.
    pub say: mpsc::UnboundedSender<ToGateway>,
    /// The operator's end of the cable.
    pub cable: OwnedFd,
    /// The run's listener, as the box sees it.
    pub door: SocketAddr,
    /// The operator's copy of the listener.
    pub listener: TcpListener,
    pub run: RunId,
    word: Arc<Mutex<Word>>,
    server: tokio::task::JoinHandle<()>,
    folder: tempfile::TempDir,
    heard_by: mpsc::UnboundedSender<FromGateway>,
}

pub fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| rustls::crypto::aws_lc_rs::default_provider().install_default().expect("it is the first"));
}

pub fn url(base: &str) -> Place {
    Place::Url { base: base.to_owned(), internal: true }
}

pub fn script(turns: Vec<ScriptTurn>) -> Word {
    Word::Grant { dialect: Dialect::Anthropic, place: Place::Script { turns }, key: KEY.to_owned() }
}

pub fn route(dialect: Dialect, place: Place, key: &str) -> Upstream {
    let (credential, secret) = (WireSecret(Secret::new(key.to_owned())), "model/m".to_owned());
    Upstream { dialect, place, credential, secret, price: Price::default() }
}

/// What the gateway puts in the place of this value of the secret of this name.
pub fn placeholder(name: &str, value: &str) -> String {
    let scrubber =
        Scrubber::keyed(&Key::new(Secret::new(FINGERPRINTS)), [(name.to_owned(), Secret::new(value.to_owned()))]);
    scrubber.scrub_str(value).into_owned()
}

/// What the gateway puts in the place of this token of a format.
pub fn redacted(rule: &str, token: &str) -> String {
    let print = placeholder("x", token);
    format!("[redacted: {rule}{}", print.strip_prefix("[scrubbed:x").expect("a placeholder"))
}

/// What the gateway puts in the place of [`KEY`].
pub fn scrubbed() -> String {
    placeholder("model/m", KEY)
}

/// The workspace's key of fingerprints, as the server says it.
const FINGERPRINTS: [u8; 32] = [7; 32];

/// A listener as a box's helper binds it: without SO_REUSEADDR, which the standard library would set.
pub fn box_listener() -> TcpListener {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .expect("a socket");
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("bound");
    rustix::net::listen(&socket, 128).expect("listening");
    socket.into()
}

/// The forbidden calls of these tests' gateway, which has no walls.
pub fn walls() -> Vec<api::walls::Forbidden> {
    vec![api::walls::Forbidden { wall: "test".to_owned(), call: "a call".to_owned(), promised: 13, errno: Some(13) }]
}

fn run_id() -> RunId {
    RunId::parse("run1").expect("an id")
}

impl House {
    /// A gateway with a server that grants calls to `place`, and one run attached.
    pub async fn granting(dialect: Dialect, place: Place) -> Self {
        Self::with(Word::Grant { dialect, place, key: KEY.to_owned() }, rustls::RootCertStore::empty()).await
    }

    pub async fn with(word: Word, roots: rustls::RootCertStore) -> Self {
        Self::outward(word, roots, gateway::Outward::default(), model::Egress::default()).await
    }

    /// A gateway that reaches the outside in this way, and a run with this table.
    pub async fn outward(
        word: Word,
        roots: rustls::RootCertStore,
        outward: gateway::Outward,
        table: model::Egress,
    ) -> Self {
        install_tls();
        let folder = tempfile::tempdir().expect("a folder");
        let cable = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .expect("a socket");
        let cable_path = SocketAddrUnix::new(folder.path().join("cable.sock")).expect("a path");
        rustix::net::bind(&cable, &cable_path).expect("bound");
        rustix::net::listen(&cable, 4).expect("listening");
        let server_socket = folder.path().join("gateway.sock");
        let config =
            gateway::Config { server_socket, cable, roots, outward, prove: walls, log: scrub::Current::default() };
        tokio::spawn(async move { gateway::serve(config).await.expect("the gateway serves") });

        let (heard_by, heard) = mpsc::unbounded_channel();
        let word = Arc::new(Mutex::new(word));
        let desk = Arc::new(Mutex::new(Desk::of(table)));
        let (say, server) = serve_grants(&folder, word.clone(), desk.clone(), heard_by.clone());

        let operator = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .expect("a socket");
        rustix::net::connect(&operator, &cable_path).expect("the cable takes us");
        let listener = box_listener();
        let door = listener.local_addr().expect("an address");
        let run = run_id();
        let authority = String::new();
        let mut house =
            Self { desk, authority, heard, say, cable: operator, door, listener, run, word, server, folder, heard_by };
        house.attach().await;
        house.until_up().await;
        house
    }

    async fn attach(&mut self) {
        let run = self.run.clone();
        self.send(&ToCable::Attach { run }, Some(self.listener.as_fd()));
        let FromCable::Attached { run, authority } = self.receive().await else { panic!("not attached") };
        assert_eq!(run, self.run);
        self.authority = authority.expect("an authority");
    }

    /// Attaches another run, `run2`, and gives its door.
    pub async fn second_run(&mut self) -> SocketAddr {
        self.another_run("run2").await.0
    }

    /// Attaches another run, and gives its door and its authority.
    pub async fn another_run(&mut self, run: &str) -> (SocketAddr, String) {
        let run = RunId::parse(run).expect("an id");
        let listener = box_listener();
        self.send(&ToCable::Attach { run: run.clone() }, Some(listener.as_fd()));
        let FromCable::Attached { run: attached, authority } = self.receive().await else { panic!("not attached") };
        assert_eq!(attached, run);
        (listener.local_addr().expect("an address"), authority.expect("an authority"))
    }

    /// Waits until the gateway has dialled: only then it answers anything but 503.
    pub async fn until_up(&mut self) {
        soon("the gateway's dial", async {
            loop {
                if ask(self.door, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"").await.status == 403 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(self.refusal().await.rule, "door.closed");
    }

    /// The server dies: its connection and its socket are gone.
    pub async fn kill_server(&mut self) {
        self.server.abort();
        assert!((&mut self.server).await.is_err(), "it was aborted");
        std::fs::remove_file(self.folder.path().join("gateway.sock")).expect("the socket was there");
    }

    /// A server that takes the gateway's connection, says hello and never reads it by itself.
    pub async fn deaf_server(&mut self) -> std::os::unix::net::UnixStream {
        let path = self.folder.path().join("gateway.sock");
        let listener = std::os::unix::net::UnixListener::bind(path).expect("a socket");
        let accepting = tokio::task::spawn_blocking(move || listener.accept().expect("the gateway dials").0);
        let mut server = soon("the gateway's dial", accepting).await.expect("it accepted");
        let hello = serde_json::to_vec(&hello()).expect("JSON");
        let length = u32::try_from(hello.len()).expect("a frame").to_le_bytes();
        server.write_all(&[&length[..], &hello].concat()).expect("the gateway reads");
        server
    }

    /// The server is back.
    pub fn restart_server(&mut self) {
        (self.say, self.server) =
            serve_grants(&self.folder, self.word.clone(), self.desk.clone(), self.heard_by.clone());
    }

    pub fn answer_with(&self, word: Word) {
        *self.word.lock().expect("unpoisoned") = word;
    }

    /// The next thing that the gateway says.
    pub async fn hear(&mut self) -> FromGateway {
        soon("a word of the gateway", self.heard.recv()).await.expect("the server listens")
    }
    pub async fn question(&mut self) -> ModelCall {
        match self.hear().await {
            FromGateway::Ask { call, .. } => call,
            other => panic!("not a question: {other:?}"),
        }
    }
    pub async fn refusal(&mut self) -> Verdict {
        match self.hear().await {
            FromGateway::Refused { run, verdict } => {
                assert_eq!(run, self.run);
                assert!(!verdict.allowed);
                verdict
            }
            other => panic!("not a refusal: {other:?}"),
        }
    }
    pub async fn settled(&mut self) -> Settled {
        match self.hear().await {
            FromGateway::Settle { grant, usage, status, interrupted } => {
                assert_eq!(grant.as_str(), "grant1");
                Settled { usage, status, interrupted }
            }
            other => panic!("not a settlement: {other:?}"),
        }
    }
    /// The next settlement of a call, whatever was said before it.
    pub async fn settled_of_a_call(&mut self) -> Settled {
        loop {
            if let FromGateway::Settle { usage, status, interrupted, .. } = self.hear().await {
                return Settled { usage, status, interrupted };
            }
        }
    }
    /// Nothing but what the test has heard was said so far: a refusal of now is the next word.
    pub async fn said_nothing_more(&mut self) {
        let path = "/sentinel";
        let answer = ask(self.door, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"), b"").await;
        assert_eq!(answer.status, 403);
        assert_eq!(self.refusal().await.target, path);
    }

    pub fn send(&self, message: &ToCable, descriptor: Option<std::os::fd::BorrowedFd<'_>>) {
        self.send_bytes(&serde_json::to_vec(message).expect("JSON"), descriptor);
    }
    pub fn send_bytes(&self, packet: &[u8], descriptor: Option<std::os::fd::BorrowedFd<'_>>) {
        let brought: Vec<_> = descriptor.into_iter().collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !brought.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&brought)));
        }
        rustix::net::sendmsg(&self.cable, &[IoSlice::new(packet)], &mut control, SendFlags::NOSIGNAL).expect("sent");
    }
    /// The gateway's next packet.
    pub async fn receive(&self) -> FromCable {
        serde_json::from_slice(&self.packet().await.expect("the cable is open")).expect("a message of the cable")
    }
    /// The gateway's next packet; none at the end of the cable.
    pub async fn packet(&self) -> Option<Vec<u8>> {
        let socket = self.cable.try_clone().expect("a copy");
        let reading = tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; MAX_PACKET];
            let (got, _) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty()).expect("received");
            buffer.truncate(got);
            buffer
        });
        Some(soon("a packet", reading).await.expect("it read")).filter(|packet| !packet.is_empty())
    }
}

pub struct Settled {
    pub usage: Usage,
    pub status: u16,
    pub interrupted: bool,
}
