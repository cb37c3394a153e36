//! The programs that boxes use trust the run's authority by the variables that a box gets, and nothing else.

use crate::egress::world::{World, any};
use std::path::Path;
use std::process::{Command, Stdio};

/// The variables by which programs find the bundle and the proxy. What an operator sets in a box is these.
fn variables(bundle: &Path, door: std::net::SocketAddr) -> Vec<(String, String)> {
    let bundle = bundle.to_str().expect("a plain path").to_owned();
    let bundles = [
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "NODE_EXTRA_CA_CERTS",
        "CARGO_HTTP_CAINFO",
        "PIP_CERT",
    ];
    let proxies = ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"];
    let bundles = bundles.into_iter().map(|name| (name.to_owned(), bundle.clone()));
    let proxies = proxies.into_iter().map(|name| (name.to_owned(), format!("http://{door}")));
    bundles.chain(proxies).chain([("NODE_USE_ENV_PROXY".to_owned(), "1".to_owned())]).collect()
}

/// Whether the machine has the program; one that is not there is not tried.
fn is_there(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(program).is_file())
}

const PYTHON: &str = "import urllib.request as u; print(u.urlopen('https://a.example/tool').read().decode())";

const REQUESTS: &str = "import requests; print(requests.get('https://a.example/tool', timeout=20).text)";

fn has_requests() -> bool {
    Command::new("python3").args(["-c", "import requests"]).output().is_ok_and(|done| done.status.success())
}

#[tokio::test(flavor = "current_thread")]
async fn each_toolchain_that_is_there_reads_https_through_the_door_and_is_refused_without_the_authority() {
    let world = World::of(any(), false, |_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("authority.pem");
    std::fs::write(&bundle, &world.house.authority).unwrap();
    let empty = folder.path().join("empty.pem");
    let other = rcgen_authority();
    std::fs::write(&empty, other).unwrap();
    let mut tried = 0;
    let node = "const http = require('http'), https = require('https'), p = new URL(process.env.HTTPS_PROXY);\
                http.request({host: p.hostname, port: p.port, method: 'CONNECT', path: 'a.example:443', headers: {host: 'a.example:443'}})\
                .on('connect', (r, socket) => https.get({host: 'a.example', path: '/tool', socket, agent: false},\
                r => r.pipe(process.stdout)).on('error', e => { console.error(e.message); process.exit(1) })).end()";
    for (program, arguments, expected) in [
        ("curl", &["-sS", "--max-time", "20", "https://a.example/tool"][..], "GET /tool"),
        ("curl", &["-sS", "--http1.1", "--max-time", "20", "https://a.example/tool"], "GET /tool"),
        ("wget", &["-q", "-O", "-", "-T", "20", "-t", "1", "https://a.example/tool"], "GET /tool"),
        ("python3", &["-c", PYTHON], "GET /tool"),
        ("python3", &["-c", REQUESTS], "GET /tool"),
        ("git", &["ls-remote", "https://a.example/repo.git"], "1111111111111111111111111111111111111111"),
        ("node", &["-e", node], "GET /tool"),
    ] {
        if !is_there(program) || (arguments.contains(&REQUESTS) && !has_requests()) {
            continue;
        }
        tried += 1;
        for (trusted, file) in [(true, &bundle), (false, &empty)] {
            let mut command = Command::new(program);
            // Debian's wget has a library that reads no variable; its own file names the bundle.
            let wgetrc = folder.path().join("wgetrc");
            std::fs::write(&wgetrc, format!("ca_certificate = {}\n", file.display())).unwrap();
            command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
            command.env("HOME", folder.path()).env("WGETRC", wgetrc).envs(variables(file, world.house.door));
            command.stdin(Stdio::null());
            // What this thread starts is in the test's network too.
            let running = tokio::task::spawn_blocking(move || command.output());
            let done = crate::house::soon(program, running).await.unwrap().unwrap();
            let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
            assert_eq!(done.status.success(), trusted, "{program} {arguments:?}: {said}");
            assert_eq!(said.contains(expected), trusted, "{program} {arguments:?}: {said}");
        }
    }
    assert!(tried > 0, "no toolchain is there");
}

/// The certificate of an authority that signed nothing here.
fn rcgen_authority() -> String {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}
