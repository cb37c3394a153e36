//! The command line's client: HTTP over the home's own socket. Whoever may open that socket is the administrator.

use crate::home::Home;
use crate::logs;
use anyhow::{Context as _, bail};
use api::git::OpenProposal;
use api::http::{CreateRun, Health, Input, Problem, RunView, SignInLink};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use model::{Entry, RunId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// Speaks to one home's server.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    /// The server's log, for people to look at.
    log: PathBuf,
}

/// How long the server of a platform that is up may take for its first answer, in seconds. One that died is started again at
/// once, and answers within a second, in an emulated machine within ten; one that cannot start never does.
const FIRST_ANSWER_SECS: u64 = 60;
/// The pause before a server that broke off is asked again.
const BETWEEN: Duration = Duration::from_millis(100);

/// The server said no, in its own words.
#[derive(Debug)]
pub struct Refused {
    /// What it said.
    pub problem: Problem,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.problem.message)
    }
}
impl std::error::Error for Refused {}

impl Client {
    /// A client of `home`'s server; nothing is opened yet.
    pub fn new(home: &Home) -> Self {
        Self { socket: home.run("api.sock"), log: home.path().join("log").join("server") }
    }

    /// Whether a platform is up there.
    pub async fn is_up(&self) -> bool {
        UnixStream::connect(&self.socket).await.is_ok()
    }

    /// Waits for a server that answers, whatever it answers: the socket is `up`'s, and takes what nobody answers. Gives its
    /// health, if it said so much.
    ///
    /// # Errors
    /// When none answers for [`FIRST_ANSWER_SECS`], with what hinders it.
    pub async fn answers(&self) -> anyhow::Result<Option<Health>> {
        let answer = async {
            loop {
                match self.get("/api/health").await {
                    Ok(health) => return Some(health),
                    // It took the question and died with it: the next one is asked, if there is one.
                    Err(e) if e.is::<hyper::Error>() => tokio::time::sleep(BETWEEN).await,
                    Err(_) => return None,
                }
            }
        };
        let longest = Duration::from_secs(FIRST_ANSWER_SECS);
        tokio::time::timeout(longest, answer).await.map_err(|_| self.silent())
    }

    fn silent(&self) -> anyhow::Error {
        let last = logs::last_line(&self.log).map_or_else(String::new, |line| format!(" Its last words: {line}."));
        let log = self.log.display();
        anyhow::anyhow!(
            "a platform was started, but its server has not answered for {FIRST_ANSWER_SECS} s.{last} More is in {log}; `volary \
             doctor` says whether the vault's key is in order"
        )
    }

    /// The server's health, if it answers.
    pub async fn health(&self) -> Option<Health> {
        self.get("/api/health").await.ok()
    }

    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<Response<Incoming>> {
        self.send_body(method, path, Full::new(Bytes::from(body))).await
    }

    async fn send_body<B>(&self, method: Method, path: &str, body: B) -> anyhow::Result<Response<Incoming>>
    where
        B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
    {
        let stream = UnixStream::connect(&self.socket)
            .await
            .with_context(|| format!("no platform answers on {}; start one with `volary up`", self.socket.display()))?;
        // Secrets go over this socket: only to root's or one's own, whoever owns the folder it lies in.
        let peer = stream.peer_cred().context("ask who answers on the home's socket")?.uid();
        if peer != 0 && peer != rustix::process::geteuid().as_raw() {
            bail!("{} is answered by uid {peer}, who is neither root nor you; nothing was sent", self.socket.display());
        }
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "volary")
            .header("content-type", "application/json")
            .body(body)?;
        let response = sender.send_request(request).await.context("the server broke off")?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let problem = serde_json::from_slice(&body).unwrap_or_else(|_| Problem {
            code: "server.unclear".into(),
            message: format!("the server answered {status}: {}", String::from_utf8_lossy(&body)),
        });
        Err(Refused { problem }.into())
    }

    async fn whole<T: DeserializeOwned>(response: Response<Incoming>) -> anyhow::Result<T> {
        let body = response.into_body().collect().await?.to_bytes();
        serde_json::from_slice(&body).context("the server's answer is not what this version expects")
    }

    /// `GET`, answered in JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        Self::whole(self.send(Method::GET, path, Vec::new()).await?).await
    }
    /// `GET`, answered in bytes.
    pub async fn get_bytes(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        Ok(self.send(Method::GET, path, Vec::new()).await?.into_body().collect().await?.to_bytes().to_vec())
    }
    /// `GET`, answered in bytes of any length, as they come.
    pub async fn stream(&self, path: &str) -> anyhow::Result<Incoming> {
        Ok(self.send(Method::GET, path, Vec::new()).await?.into_body())
    }
    /// `POST`, answered in JSON.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        Self::whole(self.send(Method::POST, path, serde_json::to_vec(body)?).await?).await
    }
    /// `DELETE`, answered in JSON.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        Self::whole(self.send(Method::DELETE, path, b"{}".to_vec()).await?).await
    }
    /// Any method whose answer does not matter beyond having succeeded.
    pub async fn act(&self, method: Method, path: &str, body: &impl Serialize) -> anyhow::Result<()> {
        self.send(method, path, serde_json::to_vec(body)?).await.map(|_| ())
    }

    /// Makes a run.
    pub async fn create(&self, run: &CreateRun) -> anyhow::Result<RunView> {
        self.post("/api/runs", run).await
    }
    /// One run.
    pub async fn run(&self, run: &RunId) -> anyhow::Result<RunView> {
        self.get(&format!("/api/runs/{run}")).await
    }
    /// Ends a run.
    pub async fn cancel(&self, run: &RunId) -> anyhow::Result<()> {
        self.act(Method::POST, &format!("/api/runs/{run}/cancel"), &serde_json::json!({})).await
    }
    /// Has a run stand still; gives it as it is then.
    pub async fn pause(&self, run: &RunId) -> anyhow::Result<RunView> {
        self.post(&format!("/api/runs/{run}/pause"), &serde_json::json!({})).await
    }
    /// Lets a run go on; gives it as it is then.
    pub async fn resume(&self, run: &RunId) -> anyhow::Result<RunView> {
        self.post(&format!("/api/runs/{run}/resume"), &serde_json::json!({})).await
    }
    /// Opens a pull request for what a run pushed; gives it.
    pub async fn propose(&self, run: &RunId, words: &OpenProposal) -> anyhow::Result<api::git::PullRequestView> {
        self.post(&format!("/api/runs/{run}/propose"), words).await
    }
    /// Bytes for an exec.
    pub async fn input(&self, run: &RunId, input: &Input) -> anyhow::Result<()> {
        self.act(Method::POST, &format!("/api/runs/{run}/input"), input).await
    }
    /// A new sign-in link.
    pub async fn sign_in(&self) -> anyhow::Result<SignInLink> {
        self.post("/api/sign-in", &serde_json::json!({})).await
    }
    /// What the transcript holds after entry `after`.
    pub async fn events(&self, run: &RunId, after: u64) -> anyhow::Result<Vec<Entry>> {
        let bytes = self.get_bytes(&format!("/api/runs/{run}/events?after={after}")).await?;
        let mut all = Vec::new();
        for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            all.push(serde_json::from_slice(line)?);
        }
        Ok(all)
    }

    /// Has what `from` gives scrubbed, as it comes: the answer's pieces come while it is still being read.
    ///
    /// # Errors
    /// Those of any request.
    pub async fn scrub(&self, mut from: impl Read + Send + 'static) -> anyhow::Result<Scrubbed> {
        let (give, pieces) = mpsc::channel(PIECES);
        // Reading blocks, perhaps for ever; whoever ends the process ends this thread.
        std::thread::spawn(move || {
            let mut piece = vec![0; PIECE];
            loop {
                let read = match from.read(&mut piece) {
                    Ok(0) => return,
                    Ok(got) => Ok(Bytes::copy_from_slice(&piece[..got])),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => Err(e),
                };
                let failed = read.is_err();
                // Nobody takes it any more: the connection is gone, and that is told where its answer is read.
                if give.blocking_send(read).is_err() || failed {
                    return;
                }
            }
        });
        let failed = Arc::new(Mutex::new(None));
        let body = Pieces { pieces, failed: failed.clone() };
        let sent = self.send_body(Method::POST, "/api/scrub", body).await;
        let why = || failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (sent, why()) {
            (_, Some(e)) => Err(e).context("read the text"),
            (sent, None) => Ok(Scrubbed { body: sent?.into_body(), failed }),
        }
    }

    /// Follows a transcript from `after` on, to its end; survives a restart of the server.
    pub async fn follow(&self, run: &RunId, after: u64) -> Follow {
        let (client, run) = (self.clone(), run.clone());
        Follow { client, run, after, hold: false, body: None, held: Vec::new(), searched: 0, failures: 0 }
    }

    /// As [`Client::follow`], and the run ends soon after whoever follows so is gone, however that came.
    pub async fn hold(&self, run: &RunId) -> Follow {
        Follow { hold: true, ..self.follow(run, 0).await }
    }
}

/// Bytes that are read at once of a text to scrub, and how many such pieces may wait.
const PIECE: usize = 64 * 1024;
const PIECES: usize = 2;

/// Why a text could not be read to its end, once that is so.
type Failed = Arc<Mutex<Option<io::Error>>>;

/// The body of a request whose pieces come from elsewhere.
struct Pieces {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    failed: Failed,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.pieces.poll_recv(cx).map(|piece| {
            piece.map(|piece| {
                piece.map(Frame::data).map_err(|e| {
                    let kind = e.kind();
                    *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                    kind.into()
                })
            })
        })
    }
}

/// A text that comes back scrubbed.
#[derive(Debug)]
pub struct Scrubbed {
    body: Incoming,
    failed: Failed,
}

impl Scrubbed {
    /// The next piece; `None` at its end.
    ///
    /// # Errors
    /// When the text could not be read to its end, or the server broke off; what came until then is scrubbed.
    pub async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        return Ok(Some(piece));
                    }
                }
                Some(Err(e)) => {
                    let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
                    return match failed {
                        Some(e) => Err(e).context("read the text"),
                        None => Err(e).context("the server broke off; the rest of the text is missing"),
                    };
                }
            }
        }
    }
}

/// A transcript as it grows.
#[derive(Debug)]
pub struct Follow {
    client: Client,
    run: RunId,
    after: u64,
    hold: bool,
    body: Option<Incoming>,
    held: Vec<u8>,
    /// Bytes of it in which no event ends.
    searched: usize,
    failures: u32,
}

impl Follow {
    /// The next entry; `None` when the run is over and all is told. Cancel-safe.
    ///
    /// # Errors
    /// When the server stays away for about ten seconds, does not answer for [`FIRST_ANSWER_SECS`], or refuses.
    pub async fn next(&mut self) -> anyhow::Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.take_held()? {
                if entry.n > self.after {
                    self.after = entry.n;
                    return Ok(Some(entry));
                }
                continue;
            }
            let Some(body) = self.body.as_mut() else {
                self.open().await?;
                continue;
            };
            match body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.failures = 0;
                        self.held.extend_from_slice(data);
                    }
                }
                Some(Err(_)) => self.body = None,
                None => {
                    self.body = None;
                    // A clean end: the run's own, or the server's. The run's state tells.
                    if let Ok(view) = self.client.run(&self.run).await
                        && view.state.is_over()
                        && view.entries <= self.after
                    {
                        return Ok(None);
                    }
                }
            }
        }
    }

    async fn open(&mut self) -> anyhow::Result<()> {
        let hold = if self.hold { "&hold=true" } else { "" };
        let path = format!("/api/runs/{}/events?after={}&follow=true{hold}", self.run, self.after);
        self.held.clear();
        self.searched = 0;
        let longest = Duration::from_secs(FIRST_ANSWER_SECS);
        let Ok(answer) = tokio::time::timeout(longest, self.client.send(Method::GET, &path, Vec::new())).await else {
            return Err(self.client.silent());
        };
        match answer {
            Ok(response) => {
                self.body = Some(response.into_body());
                Ok(())
            }
            Err(e) if e.is::<Refused>() || self.failures > 100 => Err(e),
            Err(_) => {
                self.failures += 1;
                tokio::time::sleep(BETWEEN).await;
                Ok(())
            }
        }
    }

    /// One whole server-sent event out of what has arrived.
    fn take_held(&mut self) -> anyhow::Result<Option<Entry>> {
        loop {
            let from = self.searched.saturating_sub(1);
            let Some(end) = self.held[from..].windows(2).position(|pair| pair == b"\n\n").map(|at| from + at) else {
                self.searched = self.held.len();
                return Ok(None);
            };
            self.searched = 0;
            let event: Vec<u8> = self.held.drain(..end + 2).collect();
            let event = String::from_utf8(event).context("an event is not UTF-8")?;
            let data: String =
                event.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim_start).collect();
            if data.is_empty() {
                continue;
            }
            let entry: Entry = serde_json::from_str(&data)
                .with_context(|| format!("an entry that this version cannot read: {data}"))?;
            if entry.run != self.run {
                bail!("the server sent an entry of another run");
            }
            return Ok(Some(entry));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_platform_whose_server_never_answers_is_given_up_with_the_last_words_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(folder.path())).unwrap();
        for name in ["run", "log"] {
            std::fs::create_dir(home.path().join(name)).unwrap();
        }
        let client = Client::new(&home);
        // As `up` holds it while no server lives.
        let _socket = std::os::unix::net::UnixListener::bind(home.run("api.sock")).unwrap();
        assert!(client.is_up().await);
        std::fs::write(home.path().join("log/server"), "begun\nthe key file may be read by others\n").unwrap();
        for said in [
            client.answers().await.unwrap_err(),
            client.hold(&RunId::parse("run1").unwrap()).await.next().await.unwrap_err(),
        ] {
            let said = said.to_string();
            assert!(said.contains("for 60 s. Its last words: the key file may be read by others. More"), "{said}");
            assert!(said.contains("log/server") && said.contains("volary doctor"), "{said}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_server_that_dies_with_the_question_has_not_answered_and_the_next_one_is_asked() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let folder = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(folder.path())).unwrap();
        std::fs::create_dir(home.path().join("run")).unwrap();
        let socket = tokio::net::UnixListener::bind(home.run("api.sock")).unwrap();
        let servers = async {
            for n in 1.. {
                let (mut asked, _) = socket.accept().await.unwrap();
                asked.read_u8().await.unwrap();
                if n == 3 {
                    let health = r#"{"version":"1","operator":true,"gateway":true,"live_runs":0}"#;
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{health}", health.len());
                    asked.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        };
        let client = Client::new(&home);
        tokio::select! {
            answer = client.answers() => assert!(answer.unwrap().is_some(), "two broke off, and the third was not asked"),
            () = servers => unreachable!(),
        }
    }
}
