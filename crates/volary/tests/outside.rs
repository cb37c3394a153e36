//! The whole way to the outside, from programs in a real box to hosts of a network of the test's own.
//!
//! The tools are the host's, as they stand in the listed system tree; none is given a flag: they find the way and trust
//! the run's authority by what a box gives every command. Node's own `https` finds no proxy by itself ([`NODE`]): of it the
//! test sees that the authority is trusted.

#[path = "outside/accepting.rs"]
mod accepting;
#[path = "outside/company.rs"]
mod company;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;
use testkit::{Outside, Platform, eventually};

const VOLARY: &str = env!("CARGO_BIN_EXE_volary");

/// Asks the proxy that the box names by itself: this version of Node reads no variable for that.
const NODE: &str = "const http = require('http'), https = require('https'), proxy = new URL(process.env.HTTPS_PROXY);
http.request({ host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: 'a.example:443', headers: { host: 'a.example:443' } })
    .on('connect', (_, socket) => https.get({ host: 'a.example', path: '/node', socket, agent: false }, r => r.pipe(process.stdout)))
    .end();";
const PYTHON: &str =
    "import urllib.request as u; print(u.urlopen('https://a.example/python', timeout=60).read().decode())";
const REQUESTS: &str = "import requests; print(requests.get('https://a.example/requests', timeout=60).text)";
const HTTPX: &str = "import httpx; print(httpx.get('https://a.example/httpx', timeout=60).text)";
const PIP: &str =
    "cd /tmp && PIP_INDEX_URL=https://a.example/simple exec /usr/bin/python3 -m pip download --no-deps tiny";
const RUBY: &str = "print URI.open('https://a.example/ruby').read";
const JAVA: &str = r#"cat >/tmp/Get.java <<'END'
import java.net.*; import java.nio.charset.*;
public class Get { public static void main(String[] a) throws Exception {
  System.out.print(new String(new URL("https://a.example/java").openStream().readAllBytes(), StandardCharsets.UTF_8));
} }
END
exec java /tmp/Get.java"#;
const CARGO: &str = r#"mkdir -p /tmp/p/src && cd /tmp/p && echo 'fn main() {}' >src/main.rs &&
printf '[package]\nname="p"\nversion="1.0.0"\nedition="2021"\n[dependencies]\ntiny={version="1",registry="outside"}\n' >Cargo.toml &&
export CARGO_HOME=/tmp/cargo CARGO_REGISTRIES_OUTSIDE_INDEX=sparse+https://a.example/index/ &&
PATH="${0%/*}:$PATH" exec "$0" fetch"#;
const GO: &str = r#"mkdir /tmp/g && cd /tmp/g && printf 'module g\n' >go.mod && cat >main.go <<'END'
package main
import ("fmt"; "io"; "net/http")
func main() { r, e := http.Get("https://a.example/go"); if e != nil { panic(e) }; b, _ := io.ReadAll(r.Body); fmt.Print(string(b)) }
END
GOFLAGS=-mod=mod GOTOOLCHAIN=local GOCACHE=/tmp/go-build exec go run ."#;

fn sysroot() -> String {
    let cargo = std::env::var("CARGO").expect("cargo runs this test");
    let root = std::path::Path::new(&cargo).parent().and_then(std::path::Path::parent).expect("bin/cargo");
    root.to_str().expect("a plain path").to_owned()
}

#[test]
fn each_toolchain_reads_https_from_a_box_without_a_flag() {
    let outside = Outside::enter();
    let platform = Platform::start_with(VOLARY, &outside.options());
    let rust = sysroot();
    // `go run` compiles its own libraries first: on a slow machine ten minutes are too few.
    let limits = "[limits]\nscratch-mib = 1024\ncommand-seconds = 3000\n";
    let profile = format!("[[folders]]\npath = {rust:?}\n\n{limits}");
    std::fs::write(platform.home().join("profiles/tools.toml"), profile).unwrap();
    let cargo = format!("{rust}/bin/cargo");
    let cases: [(&str, &[&str], &str); 13] = [
        ("curl", &["curl", "-sS", "https://a.example/curl"], "heard GET /curl"),
        ("curl, plain", &["curl", "-sS", "http://a.example/plain"], "heard GET /plain"),
        ("wget", &["wget", "-q", "-O", "-", "https://a.example/wget"], "heard GET /wget"),
        ("git", &["git", "clone", "https://a.example/repo.git", "/tmp/cloned"], "cloned an empty repository"),
        ("python", &["/usr/bin/python3", "-c", PYTHON], "heard GET /python"),
        ("requests", &["/usr/bin/python3", "-c", REQUESTS], "heard GET /requests"),
        ("httpx", &["/usr/bin/python3", "-c", HTTPX], "heard GET /httpx"),
        // Everything before the package itself, which this outside has not.
        ("pip", &["sh", "-c", PIP], "HTTP error 404 while getting https://a.example/dl/tiny-1.0-py3-none-any.whl"),
        ("ruby", &["/usr/bin/ruby", "-ropen-uri", "-e", RUBY], "heard GET /ruby"),
        ("node", &["/usr/bin/node", "-e", NODE], "heard GET /node"),
        ("java", &["sh", "-c", JAVA], "heard GET /java"),
        ("go", &["sh", "-c", GO], "heard GET /go"),
        ("cargo", &["sh", "-c", CARGO, &cargo], "got 404"),
    ];
    let mut wrong = Vec::new();
    for (name, command, expected) in cases {
        let done = platform.cli(&[&["exec", "--profile", "tools", "--"], command].concat());
        let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        if !said.contains(expected) {
            wrong.push(format!("{name}: {:?} {said}", done.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_a_box_may_not_ask_is_refused_with_a_reason_that_a_program_can_read() {
    let outside = Outside::enter();
    let platform = Platform::start_with(VOLARY, &outside.options());
    let post = ["exec", "--", "curl", "-sS", "-d", "secret=1", "https://a.example/post"];
    let done = platform.cli(&post);
    let said: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"));
    let error = &said["error"];
    assert_eq!((&error["policy"], &error["retry"]), (&true.into(), &false.into()), "{said}");
    assert_eq!(error["rule"], "write.no-row", "{said}");
    for (what, url) in [
        ("the platform's own console", platform.url().to_owned()),
        ("the cloud's metadata", "http://169.254.169.254/latest/meta-data/".to_owned()),
        ("the host's loopback", "http://127.0.0.53/".to_owned()),
        ("a port of another service", "http://a.example:22/".to_owned()),
    ] {
        // Through the proxy whatever the box's own list of exceptions says.
        let get = ["exec", "--", "curl", "-sS", "--noproxy", "", "-o", "/dev/null", "-w", "%{http_code}", &url];
        let done = platform.cli(&get);
        assert_eq!(String::from_utf8_lossy(&done.stdout), "403", "{what}: {done:?}");
    }
}

fn an_open_connection_ends_with_the_gateway(start: fn(&str, &[&str]) -> Platform) {
    let outside = Outside::enter();
    let host = TcpListener::bind("0.0.0.0:8088").expect("a port of our own");
    let platform = start(VOLARY, &outside.options());
    let profile = format!("{}[[egress.read]]\nhost = \"a.example\"\nport = 8088\n", platform.engine());
    std::fs::write(platform.home().join("profiles/port.toml"), profile).unwrap();
    let mut exec = platform
        .command()
        .args(["exec", "--profile", "port", "--", "sh", "-c"])
        // Nothing ends the command but the end of its box.
        .arg("curl -sSN http://a.example:8088/ ; exec sleep 1000")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("volary starts");
    let (mut connection, _) = host.accept().expect("the box asks");
    let mut asked = [0; 16 * 1024];
    assert_ne!(connection.read(&mut asked).expect("a request"), 0);
    connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nfirst\n").expect("the box listens");
    let mut lines = BufReader::new(exec.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a word").expect("text"), "first");

    let gateway = eventually("the gateway", || platform.pid_of("gateway"));
    let pid = rustix::process::Pid::from_raw(gateway.cast_signed()).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it lives");
    connection.set_read_timeout(Some(Duration::from_secs(60))).expect("a time");
    match connection.read(&mut asked) {
        Ok(length) => assert_eq!(length, 0, "the box said more"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the connection stands: {error}"),
    }
    let out = exec.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(125), "{said}");
    assert!(said.contains("the platform was interrupted") && said.contains("the gateway ended"), "{said}");
    platform.stop();
}

#[test]
fn when_the_gateway_is_killed_an_open_connection_to_the_outside_ends_and_its_command_with_it() {
    an_open_connection_ends_with_the_gateway(Platform::start_with);
}

#[test]
fn when_the_gateway_is_killed_an_open_connection_of_a_box_of_dockers_ends_and_its_command_with_it() {
    an_open_connection_ends_with_the_gateway(Platform::start_on_docker_with);
}
