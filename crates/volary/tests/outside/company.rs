//! The way outside as companies have it: their own proxy, as `up` is told of it; their own name server, hosts and
//! authorities, as the system's files say.

use super::VOLARY;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use testkit::{Outside, Platform};

/// Where the proxy listens: inside the company's network.
const PROXY: &str = "10.9.9.9:3128";
/// Whom it connects.
const PAIR: &str = "gateway:proxy-canary-7c20";
/// Where it connects to, whatever the name.
const PUBLIC: &str = "93.184.216.34";

/// An HTTP proxy that keeps what it was told to connect to, and what it said to that.
struct Proxy(Arc<Mutex<Vec<String>>>);

impl Proxy {
    /// One in the network of this thread.
    fn start(names_only: bool) -> Self {
        let listener = TcpListener::bind(PROXY).expect("a port of our own");
        let told = Arc::default();
        let own = Self(Arc::clone(&told));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, told) = (stream.expect("a connection"), Arc::clone(&told));
                // Either side may end it.
                thread::spawn(move || drop(lead(stream, names_only, &told)));
            }
        });
        own
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}

/// Serves one connection.
fn lead(mut inside: TcpStream, names_only: bool, told: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        inside.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head);
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    let (host, port) = target.rsplit_once(':').unwrap_or_default();
    let signed = format!("proxy-authorization: Basic {}", STANDARD.encode(PAIR));
    let status = if !head.lines().any(|line| line == signed) {
        "407 Proxy Authentication Required"
    } else if names_only && host.parse::<IpAddr>().is_ok() {
        "403 Forbidden"
    } else {
        "200 OK"
    };
    told.lock().expect("no panic").push(format!("{target} {status}"));
    inside.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes())?;
    if status != "200 OK" {
        return Ok(());
    }
    let outside = TcpStream::connect(format!("{PUBLIC}:{port}"))?;
    let (mut from, mut to) = (inside.try_clone()?, outside.try_clone()?);
    let there = thread::spawn(move || io::copy(&mut from, &mut to).and_then(|_| to.shutdown(Shutdown::Write)));
    io::copy(&mut &outside, &mut inside)?;
    inside.shutdown(Shutdown::Write)?;
    there.join().expect("no panic")
}

/// What `up` is told of the proxy, with the file of its sign-in.
fn by_proxy<'a>(options: &[&'a str], sign_in: &'a tempfile::NamedTempFile) -> Vec<&'a str> {
    std::fs::write(sign_in.path(), PAIR).expect("it is written");
    let file = sign_in.path().to_str().expect("a plain path");
    [options, &["--upstream-proxy", PROXY, "--upstream-proxy-sign-in", file]].concat()
}

/// What a program in a box of that profile reads there.
fn read(platform: &Platform, profile: &str, url: &str) -> String {
    let done = platform.cli(&["exec", "--profile", profile, "--", "curl", "-sS", url]);
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

/// Why the newest run was allowed what it asked for, as the record says.
fn why(platform: &Platform) -> String {
    let run = platform.json(&["runs", "--json"])[0]["run"].as_str().expect("a run").to_owned();
    let entries = platform.json_lines(&["log", &run, "--json"]);
    let verdict = entries.iter().find(|entry| entry["event"]["kind"] == "verdict").expect("it is on record");
    verdict["event"]["why"].as_str().expect("a reason").to_owned()
}

/// What `reach` prints of the way outside.
fn way(platform: &Platform) -> Vec<String> {
    let reach: Value = platform.json(&["reach", "--json"]);
    let lines = reach["the way outside"].as_array().expect("lines");
    lines.iter().map(|line| line.as_str().expect("text").to_owned()).collect()
}

#[test]
fn the_proxy_that_up_names_is_signed_in_to_and_told_the_checked_address_of_what_a_box_reads() {
    let outside = Outside::enter();
    let proxy = Proxy::start(false);
    let sign_in = tempfile::NamedTempFile::new().expect("a file");
    let platform = Platform::start_with(VOLARY, &by_proxy(&outside.options(), &sign_in));
    let said = read(&platform, "default", "https://a.example/through");
    assert!(said.contains("the outside heard GET /through"), "{said}");
    assert_eq!(proxy.told(), [format!("{PUBLIC}:443 200 OK")]);
    assert!(!why(&platform).contains("the proxy"), "{}", why(&platform));
    let way = way(&platform);
    let told = format!("through the HTTP proxy {PROXY}, which is told the address that was checked");
    assert!(way[0].starts_with(&told) && way[1].contains("signs in to that proxy"), "{way:?}");
    platform.stop();
}

#[test]
fn a_proxy_that_takes_names_only_connects_nothing_until_up_delegates_to_it_and_reach_and_the_record_say_so() {
    let outside = Outside::enter();
    let proxy = Proxy::start(true);
    let sign_in = tempfile::NamedTempFile::new().expect("a file");
    let by_proxy = by_proxy(&outside.options(), &sign_in);
    let mut platform = Platform::start_with(VOLARY, &by_proxy);
    let said = read(&platform, "default", "http://a.example/named");
    assert!(said.contains("egress.proxy"), "{said}");
    assert_eq!(proxy.told(), [format!("{PUBLIC}:80 403 Forbidden")]);
    platform.down();

    let asked = outside.asked();
    platform.up(&[&by_proxy[..], &["--upstream-proxy-resolves"]].concat());
    let said = read(&platform, "default", "http://a.example/named");
    assert!(said.contains("the outside heard GET /named"), "{said}");
    assert_eq!(proxy.told(), ["a.example:80 200 OK"]);
    assert_eq!(outside.asked(), asked, "the proxy resolves, and nobody here");
    assert!(why(&platform).contains("checked by the proxy that leads outside"), "{}", why(&platform));
    let way = way(&platform);
    assert!(way[0].starts_with(&format!("DELEGATED to the HTTP proxy {PROXY}")), "{way:?}");
    platform.stop();
}

#[test]
fn without_an_option_names_hosts_and_authorities_are_those_of_the_systems_files_and_no_search_domain_is_put_behind() {
    let outside = Outside::enter_by_the_system("listed.example");
    let platform = Platform::start(VOLARY);
    for host in ["a.example", "listed.example"] {
        let said = read(&platform, "default", &format!("https://{host}/system"));
        assert!(said.contains("the outside heard GET /system"), "{host}: {said}");
    }
    // A name without a dot may be a service inside; it is asked for as it is.
    let profile = "[[egress.internal]]\nhost = \"artifacts\"\nport = 80\naddresses = [\"10.2.3.0/24\"]\n";
    std::fs::write(platform.home().join("profiles/inside.toml"), profile).expect("a profile");
    let said = read(&platform, "inside", "http://artifacts/");
    assert!(said.contains("\"policy\""), "{said}");
    // Of a listed name the file alone says the address.
    let mut asked = outside.asked();
    asked.dedup();
    assert_eq!(asked, ["a.example.", "artifacts."]);
    assert!(way(&platform)[0].starts_with("straight"), "{:?}", way(&platform));
    platform.stop();
}
