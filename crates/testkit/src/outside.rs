//! An outside of its own for one test: a network in which every address is this machine, a name server for it, and
//! hosts that answer every name over HTTP and HTTPS.

use crate::forge::{self, Forge};
use crate::mirror;
use crate::vendors::Vendors;
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::rustls::{ServerConfig, crypto::aws_lc_rs};

/// Where the name server listens, in that network.
const NAMES: &str = "127.0.0.53:53";
/// What every name's address is: public, and here this machine's.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
/// Longest head of a request that a host reads, in bytes.
const MAX_HEAD: usize = 16 * 1024;

type Issuer = Arc<CertifiedIssuer<'static, KeyPair>>;

/// Heads of the requests that hosts answered by themselves, whole, in their order.
type Heard = Arc<Mutex<Vec<String>>>;

/// Names whose IPv4 addresses the name server was asked for, in their order.
type Asked = Arc<Mutex<Vec<String>>>;

/// The outside; it lasts as long as the test's process.
pub struct Outside {
    roots: tempfile::NamedTempFile,
    heard: Heard,
    asked: Asked,
    // What lies over the system's own files.
    _covers: Vec<tempfile::NamedTempFile>,
}

impl Outside {
    /// Puts this thread, and whatever it starts from now on, into such a network, and serves it.
    ///
    /// # Panics
    /// When this is not root, or iproute2 is not there.
    #[must_use]
    pub fn enter() -> Self {
        Self::enter_beside(None, None)
    }

    /// As [`Outside::enter`], with a forge on every host: [`Forge::url`].
    ///
    /// # Panics
    /// As of it.
    #[must_use]
    pub fn enter_with(forge: &Forge) -> Self {
        Self::enter_beside(Some(forge.served()), None)
    }

    /// As [`Outside::enter_with`], with vendors that mint on every host, and a forge or none.
    ///
    /// # Panics
    /// As of it.
    #[must_use]
    pub fn enter_minting(forge: Option<&Forge>, vendors: &Vendors) -> Self {
        Self::enter_beside(forge.map(Forge::served), Some(vendors.clone()))
    }

    /// As [`Outside::enter`], where the system's own files lead there and `volary up` needs no option: its name server, with
    /// a search domain, is that of the outside, its file of hosts has `named`, its authorities are those of the hosts. Other
    /// files cover them, for this thread and whatever it starts from now on.
    ///
    /// # Panics
    /// As of it, or when the system has no such file.
    #[must_use]
    pub fn enter_by_the_system(named: &str) -> Self {
        let outside = Self::enter();
        // SAFETY: it changes which mounts this thread sees, and no memory.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.expect("mounts of our own");
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).expect("and they stay here");
        let server = NAMES.trim_end_matches(":53");
        let roots = std::fs::read_to_string(outside.roots()).expect("its own file");
        let files = [
            ("/etc/resolv.conf", format!("search corp.example\nnameserver {server}\n")),
            ("/etc/hosts", format!("127.0.0.1 localhost\n{PUBLIC} {named}\n")),
            ("/etc/ssl/certs/ca-certificates.crt", roots),
        ];
        let cover = |(place, text): (&str, String)| {
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), text).expect("it is written");
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).expect("its mode");
            mount_bind(file.path(), place).unwrap_or_else(|e| panic!("{place}: {e}"));
            file
        };
        Self { _covers: files.map(cover).into(), ..outside }
    }

    fn enter_beside(forge: Option<Forge>, vendors: Option<Vendors>) -> Self {
        // SAFETY: it changes which network this thread sees, and no memory.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("a network of our own");
        for line in ["link set lo up", "route add local 0.0.0.0/0 dev lo"] {
            let done = Command::new("ip").args(line.split(' ')).status().expect("iproute2 is there");
            assert!(done.success(), "ip {line}");
        }
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
        let issuer: Issuer = Arc::new(issuer);
        let roots = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(roots.path(), issuer.pem()).expect("it is written");
        let (ready, is_ready) = std::sync::mpsc::channel();
        let heard = Heard::default();
        let hears = heard.clone();
        let asked = Asked::default();
        let asks = asked.clone();
        // A thread is born into the network of the one that starts it.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let names = UdpSocket::bind(NAMES).await.expect("a port of our own");
                let plain = TcpListener::bind(("0.0.0.0", 80)).await.expect("a port of our own");
                let tls = TcpListener::bind(("0.0.0.0", 443)).await.expect("a port of our own");
                ready.send(()).expect("the test waits");
                let all = Hosts { forge, vendors, heard: hears.clone() };
                let few = Hosts { forge: None, vendors: None, heard: hears };
                tokio::join!(name(names, asks), serve(plain, None, few), serve(tls, Some(issuer), all));
            });
        });
        is_ready.recv().expect("the outside is served");
        Self { roots, heard, asked, _covers: Vec::new() }
    }

    /// The heads of the requests that its hosts answered by themselves, as they arrived there: what a forge, a vendor or a
    /// mirror answered is not among them.
    #[must_use]
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The names whose IPv4 addresses its name server was asked for, each as `a.example.`, in their order.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The authority of its hosts, a PEM file.
    #[must_use]
    pub fn roots(&self) -> &Path {
        self.roots.path()
    }

    /// What `volary up` is told of it.
    ///
    /// # Panics
    /// Never, in practice: its own paths are text.
    #[must_use]
    pub fn options(&self) -> [&str; 4] {
        ["--name-server", NAMES, "--extra-roots", self.roots().to_str().expect("a plain path")]
    }
}

/// Answers every question for an IPv4 address with [`PUBLIC`], and every other with nothing.
async fn name(socket: UdpSocket, names: Asked) {
    let mut packet = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut packet).await {
        let question = &packet[..length];
        let Some(end) = question.get(12..).and_then(|rest| rest.iter().position(|byte| *byte == 0)) else { continue };
        let end = 12 + end + 5;
        let Some(asked) = question.get(12..end) else { continue };
        let is_a = asked[asked.len() - 4..asked.len() - 2] == [0, 1];
        let mut reply = question[..2].to_vec();
        reply.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
        reply.extend(asked);
        if is_a {
            names.lock().unwrap_or_else(PoisonError::into_inner).push(spoken(&asked[..asked.len() - 4]));
            // The name again, by its place; kind, class, one minute, four bytes.
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            reply.extend(PUBLIC.octets());
        }
        drop(socket.send_to(&reply, from).await);
    }
}

/// A name as it is written: its labels, a dot after each.
fn spoken(mut labels: &[u8]) -> String {
    let mut name = String::new();
    while let Some((label, rest)) = labels.split_first().and_then(|(n, rest)| rest.split_at_checked((*n).into())) {
        if !label.is_empty() {
            name.push_str(&format!("{}.", String::from_utf8_lossy(label)));
        }
        labels = rest;
    }
    name
}

/// What answers on a port.
struct Hosts {
    forge: Option<Forge>,
    vendors: Option<Vendors>,
    heard: Heard,
}

impl Hosts {
    fn share(&self) -> Self {
        let forge = self.forge.as_ref().map(Forge::served);
        Self { forge, vendors: self.vendors.clone(), heard: self.heard.clone() }
    }
}

async fn serve(listener: TcpListener, issuer: Option<Issuer>, hosts: Hosts) {
    while let Ok((stream, _)) = listener.accept().await {
        let (issuer, hosts) = (issuer.clone(), hosts.share());
        tokio::spawn(async move {
            match issuer {
                None => talk(stream, hosts).await,
                // Who does not trust us hangs up.
                Some(issuer) => drop(greet(stream, &issuer, hosts).await),
            }
        });
    }
}

async fn greet(stream: tokio::net::TcpStream, issuer: &Issuer, hosts: Hosts) -> std::io::Result<()> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let name = start.client_hello().server_name().unwrap_or("nameless.example").to_owned();
    let is_of_two = name == mirror::HOST_OF_TWO;
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec![name]).expect("a name").signed_by(&key, issuer).expect("signed");
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("its own versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).expect("a key"))
        .expect("they fit");
    if is_of_two {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    let stream = start.into_stream(Arc::new(config)).await?;
    match (is_of_two, stream.get_ref().1.alpn_protocol()) {
        (false, _) => talk(stream, hosts).await,
        (true, Some(b"h2")) => talk_two(stream).await,
        // It speaks nothing else.
        (true, _) => {}
    }
    Ok(())
}

/// Answers as the mirror does, over HTTP/2.
async fn talk_two(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let service = service_fn(|request: Request<Incoming>| async {
        let (parts, body) = request.into_parts();
        body.collect().await?;
        let mut head = format!("{} {} HTTP/2\r\n", parts.method, parts.uri.path());
        for (name, value) in &parts.headers {
            head += &format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
        }
        Ok::<_, hyper::Error>(mirror::answer_of_two(&head))
    });
    // Who asks may end it at any time.
    drop(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
}

/// Answers one request after the other. Only the mirror and a forge are sent bodies that may arrive.
async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, hosts: Hosts) {
    let Hosts { forge, vendors, heard } = hosts;
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) if head.len() < MAX_HEAD => head.push(byte),
                _ => return,
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let line = head.lines().next().unwrap_or_default();
        if let Some(vendors) = &vendors
            && is_minting(line, header(&head, "host").unwrap_or_default())
        {
            let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            let mut body = vec![0; length];
            if stream.read_exact(&mut body).await.is_err() {
                return;
            }
            let (host, shown) = (header(&head, "host"), header(&head, "authorization"));
            let body = String::from_utf8_lossy(&body);
            let said = vendors.answer(line, host.unwrap_or_default(), shown.unwrap_or_default(), &body);
            let (status, kind, body) = said.unwrap_or(("404 Not Found", "text/plain", String::new()));
            let length =
                if status.starts_with("204") { String::new() } else { format!("content-length: {}\r\n", body.len()) };
            let reply = format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{length}\r\n{body}");
            vendors.let_go().await;
            if stream.write_all(reply.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                return;
            }
            continue;
        }
        if let Some(forge) = &forge
            && line
                .split(' ')
                .nth(1)
                .is_some_and(|target| target.starts_with(forge::PREFIX) || target.starts_with(forge::API))
        {
            if of_forge(&mut stream, &head, forge).await.is_err() {
                return;
            }
            continue;
        }
        let is_mirror = header(&head, "host") == Some(mirror::HOST);
        if let Some(reply) = mirror::socket(&head).filter(|_| is_mirror) {
            // What follows is no HTTP, and nothing follows.
            drop(stream.write_all(&reply).await);
            drop(stream.shutdown().await);
            return;
        }
        let reply = if is_mirror {
            let mut body = vec![0; header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
            if stream.read_exact(&mut body).await.is_err() {
                return;
            }
            mirror::answer(&head)
        } else {
            heard.lock().unwrap_or_else(PoisonError::into_inner).push(head.clone());
            let (status, kind, body) = answer(line);
            let body_shown = if line.starts_with("HEAD ") { "" } else { &body };
            let length = body.len();
            format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body_shown}")
                .into_bytes()
        };
        if stream.write_all(&reply).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// Whether a request is one that a vendor of values answers.
fn is_minting(line: &str, host: &str) -> bool {
    let target = line.split(' ').nth(1).unwrap_or_default();
    target.contains("/app/installations/")
        || target.ends_with("/installation/token")
        || target.contains("/serviceaccounts/")
        || (host.starts_with("sts.") && line.starts_with("POST "))
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let is_it = |line: &'h str| line.split_once(':').filter(|(own, _)| own.eq_ignore_ascii_case(name));
    head.lines().find_map(is_it).map(|(_, value)| value.trim())
}

/// Answers one request to a forge.
async fn of_forge(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    head: &str,
    forge: &Forge,
) -> std::io::Result<()> {
    let (mut line, headers) = (head.lines().next().unwrap_or_default().split(' '), head.lines().skip(1));
    let (method, target) = (line.next().unwrap_or_default().to_owned(), line.next().unwrap_or_default().to_owned());
    let pair = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    let headers: Vec<(String, String)> = headers.filter_map(pair).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().expect("a length"))];
    stream.read_exact(&mut body).await?;
    let forge = forge.served();
    let answered = tokio::task::spawn_blocking(move || {
        forge.answer(&forge::Asked { method: &method, target: &target, headers: &headers, body: &body })
    });
    let (status, headers, body) = answered.await.expect("it answers");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let reply = format!("HTTP/1.1 {status}\r\n{lines}content-length: {}\r\n\r\n", body.len());
    stream.write_all(reply.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.flush().await
}

/// What stands at a path: an empty repository for git, an index of one package for cargo and one for pip, elsewhere the request's own line.
fn answer(line: &str) -> (&'static str, &'static str, String) {
    let path = line.split(' ').nth(1).unwrap_or_default();
    match path {
        "/repo.git/info/refs?service=git-upload-pack" => {
            let zero = "0".repeat(40);
            let refs = format!("{zero} capabilities^{{}}\0agent=outside\n");
            let body = format!("001e# service=git-upload-pack\n0000{:04x}{refs}0000", refs.len() + 4);
            ("200 OK", "application/x-git-upload-pack-advertisement", body)
        }
        "/index/config.json" => ("200 OK", "application/json", r#"{"dl":"https://b.example/dl"}"#.into()),
        "/index/ti/ny/tiny" => {
            let sum = "0".repeat(64);
            let line =
                format!(r#"{{"name":"tiny","vers":"1.0.0","deps":[],"cksum":"{sum}","features":{{}},"yanked":false}}"#);
            ("200 OK", "text/plain", format!("{line}\n"))
        }
        "/simple/tiny/" => {
            let link = "<!DOCTYPE html><a href=\"/dl/tiny-1.0-py3-none-any.whl\">tiny-1.0-py3-none-any.whl</a>\n";
            ("200 OK", "text/html", link.into())
        }
        _ if path.starts_with("/dl/") => ("404 Not Found", "text/plain", "no such package here\n".into()),
        _ => ("200 OK", "text/plain", format!("the outside heard {line}\n")),
    }
}
