//! What the tests of whole runs share: a platform, a run's record, a provider that answers byte by byte as it is told.

#![allow(dead_code, reason = "each test program uses its own part of it")]

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use testkit::{Platform, Repo};

/// The program under test.
pub const VOLARY: &str = env!("CARGO_BIN_EXE_volary");

/// A platform for one test.
pub fn platform() -> Platform {
    Platform::start(VOLARY)
}

/// Text of an output, for messages and searches.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Everything that was said, and how it ended.
pub fn all(out: &Output) -> String {
    format!("{}\n-- stdout\n{}-- stderr\n{}", out.status, text(&out.stdout), text(&out.stderr))
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A run that is over: what the command that made it said, and its record.
pub struct Ran {
    /// The command's end and words.
    pub out: Output,
    /// Its id.
    pub run: String,
    /// Its record.
    pub entries: Vec<Value>,
}

impl Ran {
    /// The run as `volary runs --json` shows it.
    pub fn view(&self, platform: &Platform) -> Value {
        view(platform, &self.run)
    }
    /// Its events of one kind.
    pub fn of_kind(&self, kind: &str) -> Vec<&Value> {
        of_kind(&self.entries, kind)
    }
    /// How it ended: outcome and reason.
    pub fn end(&self) -> (String, String) {
        let ends = self.of_kind("ended");
        assert_eq!(ends.len(), 1, "a run ends once: {ends:#?}\n{}", all(&self.out));
        let word = |name: &str| ends[0][name].as_str().unwrap_or_default().to_owned();
        (word("outcome"), word("reason"))
    }
}

/// A run as `volary runs --json` shows it.
pub fn view(platform: &Platform, run: &str) -> Value {
    let runs = platform.json(&["runs", "--json"]);
    let found = runs.as_array().and_then(|all| all.iter().find(|view| view["run"] == run));
    found.unwrap_or_else(|| panic!("{run} is not listed: {runs:#}")).clone()
}

/// The events of one kind in a record, in order.
pub fn of_kind<'a>(entries: &'a [Value], kind: &str) -> Vec<&'a Value> {
    entries.iter().map(|entry| &entry["event"]).filter(|event| event["kind"] == kind).collect()
}

/// `volary run --json ARGS… "task"` to its end, in this repository.
pub fn run(platform: &Platform, repo: &Repo, args: &[&str]) -> Ran {
    let fixed = ["run", "--json", "--repo", repo.path_str()];
    let out = platform.cli(&[&fixed[..], args, &["make the test pass"]].concat());
    let entries: Vec<Value> = text(&out.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {}", all(&out))))
        .collect();
    let first = entries.first().unwrap_or_else(|| panic!("the run said nothing: {}", all(&out)));
    let run = first["run"].as_str().expect("an entry names its run").to_owned();
    Ran { out, run, entries }
}

/// The steps of the agent's loop in a record that say `what`.
pub fn steps<'a>(entries: &'a [Value], what: &str) -> Vec<&'a Value> {
    of_kind(entries, "loop").into_iter().map(|event| &event["step"]).filter(|step| step["what"] == what).collect()
}

/// The input of the tool call that mends the failing repository.
pub fn mend() -> Value {
    serde_json::json!({"path": "max.c", "old": "a < b", "new": "a > b"})
}

// ---- a provider that is told every byte ---------------------------------------------------------------------

/// A request as it arrived at [`Wild`].
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its first line.
    pub line: String,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Makes the answer to the `n`th request, from 0: pieces, each of which leaves by itself. After the last the
/// connection is closed.
type Answers = Box<dyn Fn(usize, &Asked) -> Vec<Vec<u8>> + Send + Sync>;

/// A provider on loopback whose answers are bytes, not turns: for what no honest provider would say.
pub struct Wild {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Wild {
    /// Starts one.
    pub fn start(answers: impl Fn(usize, &Asked) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a listener has an address"));
        let (asked, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (kept, ended, answers): (_, _, Arc<Answers>) =
            (Arc::clone(&asked), Arc::clone(&over), Arc::new(Box::new(answers)));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (stream, kept, answers) = (stream.expect("a connection"), Arc::clone(&kept), Arc::clone(&answers));
                // A peer that goes away in the middle is its own affair; what it asked is kept.
                std::thread::spawn(move || drop(serve(stream, &kept, &answers)));
            }
        });
        Self { url, asked, over, thread: Some(thread) }
    }

    /// Its base address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("the provider lives").clone()
    }
}

impl Drop for Wild {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the accept; were it gone already, there is nothing to wake.
        drop(TcpStream::connect(self.url.trim_start_matches("http://")));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the provider panicked");
        }
    }
}

fn serve(stream: TcpStream, kept: &Mutex<Vec<Asked>>, answers: &Answers) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut from = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    from.read_line(&mut line)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        from.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or("0", |(_, value)| value);
    let mut body = vec![0; length.parse().expect("a length")];
    from.read_exact(&mut body)?;
    let asked = Asked { line: line.trim_end().to_owned(), headers, body };
    let n = {
        let mut kept = kept.lock().expect("the provider lives");
        kept.push(asked.clone());
        kept.len() - 1
    };
    let mut to = stream;
    for piece in answers(n, &asked) {
        to.write_all(&piece)?;
        // Long enough that two pieces are two reads of whoever reads on; nothing depends on it.
        std::thread::sleep(Duration::from_millis(30));
    }
    Ok(())
}

/// An answer's head, whose body ends with the connection.
pub fn head(status: &str, kind: &str, more: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{more}connection: close\r\n\r\n").into_bytes()
}

/// One server-sent event of Anthropic's.
pub fn event(event: &Value) -> Vec<u8> {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().expect("an event has a type")).into_bytes()
}

/// Adds a model in Anthropic's format at this address, its price 3, 15, 0.30 and 3.75 dollars, and its key.
pub fn anthropic(platform: &Platform, name: &str, url: &str, key: &str) {
    platform.secret("model/anthropic", key);
    drop(platform.ok(&[
        "model",
        "add",
        name,
        "--provider",
        "anthropic",
        "--id",
        "claude-test",
        "--base",
        url,
        "--internal",
        "--price",
        "3,15,0.30,3.75",
    ]));
}

/// The same in OpenAI's format, where what is read from the cache costs half and nothing is written to it.
pub fn openai(platform: &Platform, name: &str, url: &str, key: &str) {
    platform.secret("model/openai", key);
    drop(platform.ok(&[
        "model",
        "add",
        name,
        "--provider",
        "openai-compatible",
        "--id",
        "gpt-test",
        "--base",
        url,
        "--internal",
        "--secret",
        "model/openai",
        "--price",
        "2,8,1,2",
    ]));
}

/// The same in Gemini's format.
pub fn gemini(platform: &Platform, name: &str, url: &str, key: &str) {
    platform.secret("model/gemini", key);
    let fixed = ["model", "add", name, "--provider", "gemini", "--id", "gemini-test", "--internal"];
    drop(platform.ok(&[&fixed[..], &["--base", url, "--price", "2,8,1,2"]].concat()));
}

// ---- the server, without the command line -------------------------------------------------------------------

/// One request by HTTP/1.0, whose answer ends with the connection: status, head, body.
fn exchange(mut stream: impl Read + Write, request: &str) -> (u16, String, Vec<u8>) {
    stream.write_all(request.as_bytes()).expect("the server reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the server answers");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer has a head");
    let head = text(&answer[..end]);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
    (status, head, answer[end + 4..].to_vec())
}

/// `GET` over the home's own socket, which must be answered with 200.
pub fn api(platform: &Platform, path: &str) -> Vec<u8> {
    let socket = platform.home().join("run/api.sock");
    let stream = std::os::unix::net::UnixStream::connect(socket).expect("the platform is up");
    let (status, head, body) = exchange(stream, &format!("GET {path} HTTP/1.0\r\nhost: volary\r\n\r\n"));
    assert_eq!(status, 200, "{path}: {head}\n{}", text(&body));
    body
}

/// A signed-in session of the console.
pub struct Console {
    host: String,
    cookie: String,
}

impl Console {
    /// Signs in by a link of its own.
    pub fn open(platform: &Platform) -> Self {
        let host = platform.url().trim_start_matches("http://").to_owned();
        let link = platform.ok(&["sign-in"]);
        let path = link.trim().strip_prefix(platform.url()).expect("the link is of this console").to_owned();
        let stream = TcpStream::connect(&host).expect("the console listens");
        let request = format!("POST {path} HTTP/1.0\r\nhost: {host}\r\ncontent-length: 0\r\n\r\n");
        let (status, head, _) = exchange(stream, &request);
        assert_eq!(status, 303, "{head}");
        let set = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a session");
        Self { host, cookie: set.split(';').next().expect("a cookie has a value").to_owned() }
    }

    /// A page's text.
    pub fn page(&self, path: &str) -> String {
        let stream = TcpStream::connect(&self.host).expect("the console listens");
        let request = format!("GET {path} HTTP/1.0\r\nhost: {}\r\ncookie: {}\r\n\r\n", self.host, self.cookie);
        let (status, head, body) = exchange(stream, &request);
        assert_eq!(status, 200, "{path}: {head}");
        text(&body)
    }
}
