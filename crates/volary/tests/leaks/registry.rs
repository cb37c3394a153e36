//! What signs in to a registry of images, and the token that the registry gives for it: shown to one that gives them back in its
//! errors, in addresses that it sends on to, and as a part of the image. No other hunt pulls an image.

#[path = "../shared/image.rs"]
mod image;

use crate::everything::Said;
use crate::search::Canary;
use crate::{SMALL, plain};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{Image, sha256};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use testkit::Platform;

/// Every way, as it stands in a repository's name; by the last the image comes.
const WAYS: [&str; 7] = ["code", "words", "challenge", "elsewhere", "sent-on", "part", "good"];

/// With what it is asked: with user and password, and with a token that it gave for them.
const BY: [&str; 2] = ["basic", "bearer"];

/// A value as the codes of errors are, which are shown; a host's name may have it too, and there it loses its case.
fn capitals() -> String {
    plain().bytes().map(|byte| char::from(b'A' + byte % 26)).collect()
}

/// A registry on loopback that gives back what it is shown.
struct Registry {
    address: String,
    layout: PathBuf,
    token: String,
    /// What was given back: way, and what.
    given: Mutex<BTreeSet<(String, String)>>,
}

impl Registry {
    fn start(layout: &Path) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port of loopback");
        let address = listener.local_addr().expect("it is bound").to_string();
        let registry =
            Arc::new(Self { address, layout: layout.to_owned(), token: capitals(), given: Mutex::default() });
        let served = registry.clone();
        std::thread::spawn(move || {
            // Whoever asks may end it at any time.
            listener.incoming().flatten().for_each(|stream| drop(served.answer(&stream)));
        });
        registry
    }

    /// Answers one request.
    fn answer(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream).lines();
        let line = lines.next().transpose()?.unwrap_or_default();
        let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let is_it = |line: &String| {
            line.split_once(": ")
                .filter(|(name, _)| name.eq_ignore_ascii_case("authorization"))
                .map(|(_, value)| value.to_owned())
        };
        let shown = head.iter().find_map(is_it).unwrap_or_default();
        let (scheme, value) = shown.split_once(' ').unwrap_or_default();
        let pair = STANDARD.decode(value).ok().and_then(|pair| String::from_utf8(pair).ok());
        let password = pair.as_deref().and_then(|pair| pair.split_once(':')).map(|(_, password)| password);
        let (by, value) = if scheme == "Basic" { ("basic", password) } else { ("bearer", Some(value)) };
        let target = line.split(' ').nth(1).unwrap_or_default();
        let reply = self.reply(target, by, value.unwrap_or_default());
        stream.write_all(&reply)
    }

    /// The answer to a request to which `value` was shown, in the way `shown`.
    fn reply(&self, target: &str, shown: &str, value: &str) -> Vec<u8> {
        let whole = |status: &str, line: &str, body: &[u8]| {
            let head =
                format!("HTTP/1.1 {status}\r\n{line}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
            [head.as_bytes(), body].concat()
        };
        if target.starts_with("/token?") {
            return whole("200 OK", "", json!({ "token": self.token }).to_string().as_bytes());
        }
        let mut named = target.trim_start_matches("/v2/").split('/');
        let (by, way) = (named.next().unwrap_or_default(), named.next().unwrap_or_default());
        if value.is_empty() || shown != by {
            let realm = if by == "bearer" {
                format!("Bearer realm=\"http://{}/token\"", self.address)
            } else {
                "Basic realm=\"here\"".into()
            };
            return whole("401 Unauthorized", &format!("www-authenticate: {realm}\r\n"), b"");
        }
        self.given.lock().expect("nobody panicked").insert((way.to_owned(), value.to_owned()));
        let code = json!({ "errors": [{ "code": value, "message": value, "detail": value }] }).to_string();
        match way {
            "code" => whole("403 Forbidden", "", code.as_bytes()),
            "words" => whole("500 Internal Server Error", "", format!("bad password {value}\n").as_bytes()),
            "challenge" => whole("401 Unauthorized", &format!("www-authenticate: Basic realm=\"{value}\"\r\n"), b""),
            // Nobody else is asked in the clear; of the outside, there is nothing below `/dl/`.
            "elsewhere" => whole("307 Temporary Redirect", &format!("location: http://{value}.example/dl/x\r\n"), b""),
            "sent-on" => whole("307 Temporary Redirect", &format!("location: https://{value}.example/dl/x\r\n"), b""),
            "part" => whole("200 OK", "", value.as_bytes()),
            _ => {
                let hex = target.rsplit(':').next().unwrap_or_default();
                let part = std::fs::read(self.layout.join("blobs/sha256").join(hex)).unwrap_or_default();
                assert_eq!(sha256(&part), hex, "{target}");
                whole("200 OK", "", &part)
            }
        }
    }
}

/// Has an image pulled in every way, and gives what it was pulled with.
pub fn pull(platform: &Platform, said: &mut Said) -> Vec<Canary> {
    let dir = tempfile::tempdir().expect("a folder");
    // What came once is asked of nobody again: each is an image of its own.
    let digests = BY.map(|by| {
        Image::of_busybox(by).layout(dir.path());
        let index = std::fs::read(dir.path().join("index.json")).expect("a layout has one");
        let index: serde_json::Value = serde_json::from_slice(&index).expect("it is JSON");
        index["manifests"][0]["digest"].as_str().expect("a digest").to_owned()
    });
    let registry = Registry::start(dir.path());
    let password = capitals();
    platform.secret(&format!("registry/{}", registry.address), &format!("alice:{password}"));
    for (by, digest) in BY.iter().zip(digests) {
        for way in WAYS {
            let profile = format!("image = \"{}/{by}/{way}@{digest}\"\n{SMALL}", registry.address);
            std::fs::write(platform.home().join("profiles/image.toml"), profile).expect("it is written");
            let out = platform.cli(&["exec", "--profile", "image", "--", "cat", "/etc/mark"]);
            let shown = String::from_utf8_lossy(&out.stdout).into_owned();
            assert_eq!(shown == *by, way == "good", "{by} {way}: {shown}{}", String::from_utf8_lossy(&out.stderr));
            said.of(&format!("a pull by {by}, {way}"), &out);
        }
    }
    // The control: each way gave both back.
    let given = registry.given.lock().expect("nobody panicked").clone();
    let both =
        [&password, &registry.token].into_iter().flat_map(|value| WAYS.map(|way| (way.to_owned(), value.clone())));
    assert_eq!(given, both.collect());
    vec![Canary::new("the registry's password", &password), Canary::new("the registry's token", &registry.token)]
}
