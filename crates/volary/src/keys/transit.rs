//! The transit engine of a KMS in the style of OpenBao: two calls, `encrypt` and `decrypt`, in HTTP/1.0 (one request, no
//! chunks, the connection's end is the answer's).
//!
//! This is no way out for anything else: it asks the one host that an administrator wrote down, before the platform
//! begins or while they rotate, in a process that has nothing but the key.

use super::source::{self, SECS, Transit};
use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::Secret;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde::Deserialize;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest answer, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// Longest that one question and its answer take, from the name on.
const WHOLE: Duration = Duration::from_secs(SECS);

/// Host and port of a KMS, and whether it is spoken to under TLS.
pub struct Address {
    host: String,
    port: u16,
    tls: bool,
}

/// Reads where the KMS is.
///
/// # Errors
/// What is no address, and one that a token and a key would go to in the clear.
pub fn address(transit: &Transit) -> anyhow::Result<Address> {
    let text = &transit.address;
    let uri: hyper::Uri = text.parse().ok().with_context(|| format!("address {text:?} is no URL"))?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => bail!("address {text:?} takes https://HOST[:PORT]"),
    };
    let plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    let host = uri.host().filter(|_| plain && matches!(uri.path(), "" | "/") && uri.query().is_none());
    let host = host.with_context(|| format!("address {text:?} takes https://HOST[:PORT] and nothing more"))?;
    let host = host.trim_matches(['[', ']']).to_owned();
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if !tls && !loopback {
        bail!("address {text:?} would send the token in the clear; write https");
    }
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    Ok(Address { host, port, tls })
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    ciphertext: Option<String>,
    #[serde(default)]
    plaintext: Option<api::grants::WireSecret>,
}

/// Our key as the KMS gives it back.
///
/// # Errors
/// Why not; nothing of what was sent or answered but its status.
pub fn decrypt(transit: &Transit, server: u32) -> anyhow::Result<Secret<String>> {
    let ciphertext =
        transit.ciphertext.as_deref().context("transit has no ciphertext; `volary vault rotate --to` writes it")?;
    let body = Secret::new(serde_json::json!({ "ciphertext": ciphertext }).to_string());
    let answer = ask(transit, "decrypt", &body, server, WHOLE)?;
    let plaintext = answer.plaintext.context("answered without a plaintext")?;
    let bytes =
        STANDARD.decode(plaintext.0.expose()).map_err(|_| anyhow::anyhow!("answered with what is no base 64"))?;
    let bytes = Secret::new(bytes);
    Ok(Secret::new(std::str::from_utf8(bytes.expose()).map_err(|_| anyhow::anyhow!("decrypted to no key"))?.to_owned()))
}

/// Has the KMS encrypt our key; gives what is kept of it.
///
/// # Errors
/// As of [`decrypt`].
pub fn encrypt(transit: &Transit, key: &Secret<String>, server: u32) -> anyhow::Result<String> {
    let plaintext = Secret::new(STANDARD.encode(key.expose()));
    let mut body = Secret::new(String::with_capacity(256));
    body.expose_mut().push_str("{\"plaintext\":\"");
    body.expose_mut().push_str(plaintext.expose());
    body.expose_mut().push_str("\"}");
    let answer = ask(transit, "encrypt", &body, server, WHOLE)?;
    let ciphertext = answer.ciphertext.context("answered without a ciphertext")?;
    if ciphertext.len() > 4096 || !ciphertext.bytes().all(|b| b.is_ascii_graphic()) {
        bail!("answered with what is no ciphertext");
    }
    Ok(ciphertext)
}

fn ask(transit: &Transit, verb: &str, body: &Secret<String>, server: u32, whole: Duration) -> anyhow::Result<Data> {
    let at = address(transit)?;
    let token = source::read(&transit.token_file, 0o077, server)
        .with_context(|| format!("the token file {}", transit.token_file.display()))?;
    let token = token.expose().trim();
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        bail!("the token file {} holds no token", transit.token_file.display());
    }
    let mut request = Secret::new(String::with_capacity(2048 + body.expose().len()));
    let text = request.expose_mut();
    for part in ["POST /v1/", &transit.mount, "/", verb, "/", &transit.key, " HTTP/1.0\r\nhost: ", &at.host] {
        text.push_str(part);
    }
    text.push_str("\r\ncontent-type: application/json\r\nconnection: close\r\nx-vault-token: ");
    text.push_str(token);
    // Looked at with the rest of the file: it can stand in a header.
    if let Some(namespace) = transit.namespace.as_deref() {
        text.push_str("\r\nx-vault-namespace: ");
        text.push_str(namespace);
    }
    text.push_str(&format!("\r\ncontent-length: {}\r\n\r\n", body.expose().len()));
    text.push_str(body.expose());

    let stream = connect(at.host.clone(), at.port, Instant::now() + whole)?;
    let answer = if at.tls {
        let roots = gateway::load_roots(transit.ca.as_deref())?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(at.host.clone()).context("its name is none for a certificate")?;
        let connection = ClientConnection::new(Arc::new(config), name)?;
        exchange(StreamOwned::new(connection, stream), &request)?
    } else {
        exchange(stream, &request)?
    };
    parse(&answer)
}

/// A connection on which all that is said and heard is over at one moment, however it comes.
struct Until {
    stream: TcpStream,
    end: Instant,
}

/// What is left until then.
fn left(end: Instant) -> std::io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(std::io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

impl Read for Until {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.end)?))?;
        self.stream.read(to)
    }
}

impl Write for Until {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.end)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

fn connect(host: String, port: u16, end: Instant) -> anyhow::Result<Until> {
    let (tell, told) = std::sync::mpsc::channel();
    // The system's resolver takes its own time; what it says too late is heard by nobody.
    std::thread::spawn(move || {
        drop(tell.send((host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>)));
    });
    let addresses = told.recv_timeout(left(end)?).map_err(|_| anyhow::anyhow!("its name was not found in time"))?;
    let mut failed = None;
    for address in addresses.context("its name leads nowhere")? {
        match left(end).and_then(|left| TcpStream::connect_timeout(&address, left)) {
            Ok(stream) => return Ok(Until { stream, end }),
            Err(e) => failed = Some(e),
        }
    }
    match failed {
        Some(e) => Err(e).context("cannot be reached"),
        None => bail!("its name leads nowhere"),
    }
}

fn exchange(mut stream: impl Read + Write, request: &Secret<String>) -> anyhow::Result<Secret<Vec<u8>>> {
    stream.write_all(request.expose().as_bytes()).and_then(|()| stream.flush()).context("broke off")?;
    let mut answer = Secret::new(Vec::with_capacity(8 * 1024));
    match stream.take(MAX_ANSWER).read_to_end(answer.expose_mut()) {
        Ok(_) => Ok(answer),
        // Some close without saying so under TLS; whether the answer is whole is seen by its length.
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(answer),
        Err(e) => Err(e).context("broke off"),
    }
}

/// The JSON of an answer that says 200.
fn parse(answer: &Secret<Vec<u8>>) -> anyhow::Result<Data> {
    let bytes = answer.expose();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").context("answered with what is no HTTP")?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| anyhow::anyhow!("answered with what is no HTTP"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().filter(|line| line.starts_with("HTTP/1.")).and_then(|line| line.split(' ').nth(1));
    match status {
        Some("200") => {}
        Some("403") => bail!("refused the token (403)"),
        Some(status) if status.len() == 3 && status.bytes().all(|b| b.is_ascii_digit()) => bail!("answered {status}"),
        _ => bail!("answered with what is no HTTP"),
    }
    let body = &bytes[end + 4..];
    let length =
        lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    if length.is_some_and(|(_, length)| length.trim().parse() != Ok(body.len())) {
        bail!("broke off in its answer");
    }
    // Its own words could repeat what was answered.
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| anyhow::anyhow!("answered with what a transit engine does not"))?;
    Ok(answer.data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::OpenOptionsExt;

    #[test]
    fn a_kms_that_answers_byte_by_byte_is_given_up_at_one_moment() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let kms = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // Each byte comes well within any wait for one; there is no last one.
            while stream.write_all(b"H").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let token_file = dir.path().join("token");
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&token_file).unwrap();
        file.write_all(b"a-token").unwrap();
        let transit = Transit {
            address,
            key: "volary".into(),
            token_file,
            mount: "transit".into(),
            namespace: None,
            ca: None,
            ciphertext: None,
        };
        let body = Secret::new("{}".to_owned());
        let why = ask(&transit, "encrypt", &body, 0, Duration::from_secs(1)).err().unwrap();
        assert_eq!(why.to_string(), "broke off");
        // It was hung up on.
        kms.join().unwrap();
    }
}
