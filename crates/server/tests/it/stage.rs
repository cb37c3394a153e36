//! A server in a temporary folder, and the parts that talk to it.

use api::frame;
use api::grants::{FromGateway, ToGateway};
use api::http::{CreateRun, ModelView, RunView, SignInLink};
use api::link::{Down, Known, Launch, Up};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use model::run::RunKind;
use model::{Event, GrantId, LeaseId, Moment, RunId};
use scrub::Key;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;

/// What a test waits for comes at once or never; this is when it is never.
const NEVER: Duration = Duration::from_secs(120);

pub async fn soon<T>(what: &str, doing: impl Future<Output = T>) -> T {
    tokio::time::timeout(NEVER, doing).await.unwrap_or_else(|_| panic!("{what}: did not come"))
}

pub struct Stage {
    pub dir: tempfile::TempDir,
    pub port: u16,
    running: Option<(oneshot::Sender<()>, std::thread::JoinHandle<anyhow::Result<()>>)>,
    starts: u32,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text()))
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    pub fn code(&self) -> String {
        self.json::<api::http::Problem>().code
    }
}

impl Stage {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["server", "profiles", "run"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let mut stage = Self { dir, port: 0, running: None, starts: 0 };
        stage.again();
        stage
    }

    /// Another server on the database of this one, in a house of its own beside that.
    pub fn beside(other: &Self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(other.dir.path().join("server"), dir.path().join("server")).unwrap();
        for folder in ["profiles", "run"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let mut stage = Self { dir, port: 0, running: None, starts: 0 };
        stage.again();
        stage
    }

    /// Starts the server (again) on the same folder.
    pub fn again(&mut self) {
        self.stop();
        self.starts += 1;
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        self.port = tcp.local_addr().unwrap().port();
        let bind = |name| UnixListener::bind(self.socket(name)).unwrap();
        let config = server::Config {
            tcp,
            api: bind("api"),
            operator: bind("operator"),
            gateway: bind("gateway"),
            dir: self.dir.path().join("server"),
            keys: key(),
            profiles: self.dir.path().join("profiles"),
            workspace: "main".parse().unwrap(),
            administrator: "ada".to_owned(),
            accounts: server::accounts::Accounts::open().unwrap(),
            prove: Vec::new,
            warm: 0,
            log: scrub::Current::default(),
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(|| {
            server::run_until(config, async {
                stopped.await.ok();
            })
        });
        self.running = Some((stop, thread));
    }

    pub fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            stop.send(()).ok();
            thread.join().unwrap().unwrap();
        }
    }

    pub fn socket(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("run/{name}{}.sock", self.starts))
    }

    /// A call over the home's socket.
    pub async fn home(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let stream = UnixStream::connect(self.socket("api")).await.unwrap();
        let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let request = request(method, path, &[("host", "volary"), ("content-type", "application/json")], body);
        call(stream, request).await
    }

    /// A call over the port, with just these headers beside `host`.
    pub async fn tcp(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let host = format!("127.0.0.1:{}", self.port);
        let stream = TcpStream::connect(&host).await.unwrap();
        let mut all = vec![("host", host.as_str())];
        if headers.iter().any(|(name, _)| *name == "host") {
            all.clear();
        }
        all.extend(headers);
        call(stream, request(method, path, &all, body.as_bytes().to_vec())).await
    }

    pub async fn model(&self, name: &str, id: &str) {
        let secret = format!("model/{name}");
        let put = self.home(Method::PUT, &format!("/api/secrets/{secret}"), Some(json!({ "value": KEY }))).await;
        assert_eq!(put.status, StatusCode::OK, "{}", put.text());
        let view = json!({
            "dialect": "anthropic", "base": "script:", "id": id, "secret": secret, "script": [{ "text": "hello" }],
            "price": { "input": 1_000_000, "output": 1_000_000 }, "max_output_tokens": 100,
        });
        let put = self.home(Method::PUT, &format!("/api/models/{name}"), Some(view)).await;
        assert_eq!(put.status, StatusCode::OK, "{}", put.text());
        put.json::<ModelView>();
    }

    /// The cookie of a browser that has just signed in.
    pub async fn signed_in(&self) -> String {
        let link: SignInLink = self.home(Method::POST, "/api/sign-in", None).await.json();
        let path = link.url.split_once(&format!(":{}", self.port)).unwrap().1.to_owned();
        let redeemed = self.tcp(Method::POST, &path, &[], "").await;
        redeemed.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    /// Sets a secret.
    pub async fn secret(&self, name: &str, body: Value) {
        let put = self.home(Method::PUT, &format!("/api/secrets/{name}"), Some(body)).await;
        assert_eq!(put.status, StatusCode::OK, "{}", put.text());
    }

    /// An agent's run by a profile of this text, in its first attempt.
    pub async fn running(&self, profile: &str) -> (Operator, Launch) {
        self.model("m", "model-1").await;
        std::fs::write(self.dir.path().join("profiles/p.toml"), profile).unwrap();
        let mut operator = self.operator(vec![]).await;
        self.create(&CreateRun { profile: Some("p".into()), ..agent("x") }).await;
        let launch = operator.launch().await;
        operator.begin(&launch, 1).await;
        (operator, launch)
    }

    /// The same, with a person's own command.
    pub async fn commanding(&self, profile: &str) -> (Operator, Launch) {
        std::fs::write(self.dir.path().join("profiles/p.toml"), profile).unwrap();
        let mut operator = self.operator(vec![]).await;
        self.create(&CreateRun { profile: Some("p".into()), ..exec(&["true"]) }).await;
        let launch = operator.launch().await;
        operator.begin(&launch, 1).await;
        (operator, launch)
    }

    pub async fn create(&self, wish: &CreateRun) -> RunView {
        let created = self.home(Method::POST, "/api/runs", Some(serde_json::to_value(wish).unwrap())).await;
        assert_eq!(created.status, StatusCode::CREATED, "{}", created.text());
        created.json()
    }

    pub async fn get(&self, run: &RunId) -> RunView {
        self.home(Method::GET, &format!("/api/runs/{run}"), None).await.json()
    }

    pub async fn transcript(&self, run: &RunId) -> Vec<model::Entry> {
        let lines = self.home(Method::GET, &format!("/api/runs/{run}/events"), None).await;
        lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub async fn operator(&self, known: Vec<Known>) -> Operator {
        let mut operator = Operator(UnixStream::connect(self.socket("operator")).await.unwrap());
        operator.say(Up::Hello { host: "testhost".into(), runs: known }).await;
        operator
    }

    pub async fn gateway(&self) -> Gateway {
        self.gateway_with(Vec::new()).await
    }

    /// A gateway that has these calls under way.
    pub async fn gateway_with(&self, open: Vec<GrantId>) -> Gateway {
        self.gateway_saying(FromGateway::Hello { open, leases: Vec::new(), values: Vec::new() }).await
    }

    /// A gateway at which these leases are in use.
    pub async fn gateway_with_leases(&self, leases: Vec<LeaseId>) -> Gateway {
        self.gateway_saying(FromGateway::Hello { open: Vec::new(), leases, values: Vec::new() }).await
    }

    pub async fn gateway_saying(&self, hello: FromGateway) -> Gateway {
        let mut gateway = Gateway(UnixStream::connect(self.socket("gateway")).await.unwrap(), None);
        gateway.say(&hello).await;
        let ToGateway::Hello { fingerprints } = gateway.hear().await else { panic!("its first word is no hello") };
        gateway.1 = Some(Key::new(fingerprints.key().expect("a key")));
        loop {
            let health: api::http::Health = self.home(Method::GET, "/api/health", None).await.json();
            if health.gateway {
                return gateway;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

/// The key of every model of these tests.
pub const KEY: &str = "canary-key-0123456789abcdef";

pub fn agent(task: &str) -> CreateRun {
    CreateRun {
        kind: RunKind::Agent,
        task: task.into(),
        repo: None,
        model: None,
        profile: None,
        argv: Vec::new(),
        lease: None,
    }
}

pub fn exec(argv: &[&str]) -> CreateRun {
    let argv = argv.iter().map(|s| (*s).to_owned()).collect();
    CreateRun { kind: RunKind::Exec, task: String::new(), repo: None, model: None, profile: None, argv, lease: None }
}

/// SHA-256, hex.
pub fn sha256(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// The hash of the handle that a run was given: an agent for its model, a person's command for its requests.
pub fn handle_sha256(launch: &Launch) -> String {
    let agents = launch.agent.as_ref().map(|agent| &agent.handle);
    sha256(agents.or(launch.handle.as_ref()).expect("a handle"))
}

fn request(method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

async fn call<S>(stream: S, request: Request<Full<Bytes>>) -> Answer
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    soon("an HTTP answer", async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        connection.abort();
        Answer { status: head.status, headers: head.headers, body }
    })
    .await
}

pub struct Operator(UnixStream);

impl Operator {
    pub async fn say(&mut self, up: Up) {
        frame::write(&mut self.0, &up).await.unwrap();
    }

    pub async fn event(&mut self, run: &RunId, seq: u64, event: &Event) {
        self.raw(run, seq, &serde_json::to_string(event).unwrap()).await;
    }

    pub async fn raw(&mut self, run: &RunId, seq: u64, event: &str) {
        let event = serde_json::value::RawValue::from_string(event.to_owned()).unwrap();
        self.say(Up::Event { run: run.clone(), seq, at: Moment(1_000 + seq as i64), event }).await;
    }

    /// The next word that is about runs.
    pub async fn hear(&mut self) -> Down {
        loop {
            match soon("a word of the server", frame::read(&mut self.0)).await.unwrap() {
                Down::Head { .. } => {}
                down => return down,
            }
        }
    }

    pub async fn launch(&mut self) -> Launch {
        match self.hear().await {
            Down::Launch(launch) => *launch,
            other => panic!("no launch: {other:?}"),
        }
    }

    pub async fn head(&mut self) -> String {
        loop {
            if let Down::Head { head } = soon("a head", frame::read(&mut self.0)).await.unwrap() {
                return head;
            }
        }
    }

    /// Begins attempt 1 of a run as event 1.
    pub async fn begin(&mut self, launch: &Launch, seq: u64) {
        let event = Event::Attempt { attempt: launch.attempt, box_id: launch.box_id.clone(), uid: 7 };
        self.event(&launch.run, seq, &event).await;
        assert_eq!(self.hear().await, Down::Ack { run: launch.run.clone(), seq });
    }
}

/// Its connection, and the key of fingerprints that the server told it.
pub struct Gateway(pub UnixStream, pub Option<Key>);

impl Gateway {
    pub async fn say(&mut self, word: &FromGateway) {
        frame::write(&mut self.0, word).await.unwrap();
    }
    /// The next word, but for that a vendor's value is kept ([`Gateway::kept`]) or a value deleted ([`Gateway::ended`]).
    pub async fn hear(&mut self) -> ToGateway {
        loop {
            match soon("a word to the gateway", frame::read(&mut self.0)).await.unwrap() {
                ToGateway::Kept { .. } | ToGateway::EndValue { .. } => {}
                word => return word,
            }
        }
    }
    /// The next value that was deleted: its secret, whose own it was, and the how-manieth.
    pub async fn ended(&mut self) -> (String, String, u64) {
        loop {
            if let ToGateway::EndValue { value } = soon("its end", frame::read(&mut self.0)).await.unwrap() {
                return (value.secret, value.person, value.version);
            }
        }
    }
    /// That what came of the call for a lease is kept, and held no longer.
    pub async fn kept(&mut self) -> LeaseId {
        loop {
            if let ToGateway::Kept { lease } = soon("it is kept", frame::read(&mut self.0)).await.unwrap() {
                return lease;
            }
        }
    }
}

/// What opens the vault of a test's server.
fn key() -> api::vault::KeyOffer {
    let key = api::grants::WireSecret(model::Secret::new("5".repeat(64)));
    let keys = vec![api::vault::OfferedKey { source: "the test".to_owned(), key }];
    api::vault::KeyOffer { keys, missing: Vec::new() }
}
