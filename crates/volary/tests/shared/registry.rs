//! Registries of a test's own on loopback: Debian's, and one whose answers the test holds in its hand.

#![allow(dead_code, reason = "each test program uses its own part of it")]

use super::image::sha256;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use testkit::eventually;

/// Debian's registry.
pub struct Registry {
    process: Child,
    pub address: String,
    dir: tempfile::TempDir,
}

impl Registry {
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same, with more of its configuration.
    pub fn start_with(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (mut process, mut address) = begin(dir.path(), more);
        eventually("the registry", || {
            let answers = TcpStream::connect(&address).is_ok();
            // It may be another's, who took the port first: then this one ends, in a moment.
            std::thread::sleep(std::time::Duration::from_millis(if answers { 200 } else { 0 }));
            if process.try_wait().unwrap().is_some() {
                (process, address) = begin(dir.path(), more);
                return None;
            }
            answers.then_some(())
        });
        Self { process, address, dir }
    }

    /// Puts a layout into it, as a push would have; gives what a profile names it by.
    pub fn take(&self, repository: &str, layout: &Path) -> String {
        let index = fs::read(layout.join("index.json")).unwrap();
        let all = self.dir.path().join("data/docker/registry/v2");
        let link = |place: String, hex: &str| {
            let folder = all.join("repositories").join(repository).join(place).join(hex);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("link"), format!("sha256:{hex}")).unwrap();
        };
        for blob in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
            let (path, hex) = blob.map(|e| (e.path(), e.file_name().into_string().unwrap())).unwrap();
            let folder = all.join("blobs/sha256").join(&hex[..2]).join(&hex);
            fs::create_dir_all(&folder).unwrap();
            fs::copy(path, folder.join("data")).unwrap();
            link("_layers/sha256".into(), &hex);
            link("_manifests/revisions/sha256".into(), &hex);
        }
        let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap();
        format!("{}/{repository}@{digest}", self.address)
    }

    /// Ends it: nobody answers any more.
    pub fn stop(self) {}
}

/// Starts Debian's registry on a port that was free a moment ago.
fn begin(dir: &Path, more: &str) -> (Child, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {:?}}}}}\nhttp: {{addr: {address}}}\n{more}",
        dir.join("data")
    );
    fs::write(dir.join("config.yml"), config).unwrap();
    let process = Command::new("docker-registry")
        .arg("serve")
        .arg(dir.join("config.yml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("docker-registry starts (apt-get install docker-registry, or cargo xtask test)");
    (process, address)
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).expect("the registry ends");
    }
}

/// A registry that serves one layout, and its longest part only as far as the test lets it.
pub struct Held {
    pub address: String,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    /// Requests for the longest part that have half of it.
    half: usize,
    /// The rest may go.
    free: bool,
    /// Targets, in order.
    asked: Vec<String>,
}

impl Held {
    pub fn start(layout: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::<(Mutex<State>, Condvar)>::default();
        let (ours, layout) = (Arc::clone(&state), layout.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, layout) = (Arc::clone(&ours), layout.clone());
                // Whoever asked may be killed at any moment.
                std::thread::spawn(move || drop(serve(&stream, &layout, &state)));
            }
        });
        Self { address, state }
    }

    /// Waits until so many asked for the longest part, and have half of it.
    pub fn until_half(&self, times: usize) {
        eventually("half of a part", || (self.state.0.lock().unwrap().half >= times).then_some(()));
    }

    /// Lets everything through from now on.
    pub fn release(&self) {
        self.state.0.lock().unwrap().free = true;
        self.state.1.notify_all();
    }

    /// How often something was asked for whose target ends so.
    pub fn asked(&self, end: &str) -> usize {
        self.state.0.lock().unwrap().asked.iter().filter(|target| target.ends_with(end)).count()
    }
}

fn serve(stream: &TcpStream, layout: &Path, state: &(Mutex<State>, Condvar)) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let line = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let blobs = layout.join("blobs/sha256");
    let longest = fs::read_dir(&blobs)?.flatten().max_by_key(|e| e.metadata().map_or(0, |about| about.len()));
    let hex = target.rsplit(':').next().unwrap_or_default();
    let bytes = fs::read(blobs.join(hex))?;
    assert_eq!(sha256(&bytes), hex);
    state.0.lock().unwrap().asked.push(target.clone());
    let mut to = stream;
    write!(to, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", bytes.len())?;
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    to.write_all(first)?;
    if longest.is_some_and(|longest| longest.file_name() == *hex) {
        let mut now = state.0.lock().unwrap();
        now.half += 1;
        let free = state.1.wait_while(now, |now| !now.free).unwrap();
        drop(free);
    }
    to.write_all(rest)
}
