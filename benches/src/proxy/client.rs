//! The one client: it asks the next thing when the last is answered, over connections that are kept or new.

use super::Proxy;
use super::origin::{HOST, World};
use anyhow::{Context, Result, bail};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How a host is asked.
#[derive(Clone)]
pub struct Way {
    /// The proxy, or the origin.
    pub to: SocketAddr,
    /// The host that CONNECT names, and whom TLS with it is to be trusted by; none for a plain request.
    pub connect: Option<(&'static str, TlsConnector)>,
    /// CONNECT is left out: this is the origin itself.
    pub straight: bool,
    /// The request.
    pub request: Arc<str>,
}

/// A plain request in absolute form.
pub fn plain(to: SocketAddr) -> Way {
    let request = format!("GET http://{HOST}/x HTTP/1.1\r\nHost: {HOST}\r\n\r\n").into();
    Way { to, connect: None, straight: false, request }
}

/// A request inside TLS, which whoever signs by this authority opens.
pub fn secure(to: SocketAddr, host: &'static str, pem: &str, more: &str) -> Result<Way> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Every connection is a new one to the proxy too.
    config.resumption = rustls::client::Resumption::disabled();
    let connector = TlsConnector::from(Arc::new(config));
    let request = format!("GET /x HTTP/1.1\r\nHost: {host}\r\n{more}\r\n").into();
    Ok(Way { to, connect: Some((host, connector)), straight: false, request })
}

/// The origin itself, as the others are measured.
pub fn direct(world: &World) -> Result<Proxy> {
    let at = |port| SocketAddr::new(super::origin::ADDRESS.parse().expect("an address"), port);
    let mut secure = secure(at(443), HOST, &world.pem, "")?;
    secure.straight = true;
    let straight = Way { request: format!("GET /x HTTP/1.1\r\nHost: {HOST}\r\n\r\n").into(), ..plain(at(80)) };
    Ok(Proxy {
        name: "direct".to_owned(),
        plain: Some(straight),
        tunnel: None,
        intercepted: Some(secure),
        injected: None,
        written: None,
        _runs: Box::new(()),
    })
}

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

impl Way {
    async fn open(&self) -> Result<Box<dyn Wire>> {
        let mut stream = TcpStream::connect(self.to).await?;
        stream.set_nodelay(true)?;
        let Some((host, tls)) = &self.connect else { return Ok(Box::new(stream)) };
        if !self.straight {
            let head = format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut answer).await? == 0 {
                    bail!("no tunnel: {}", answer.escape_ascii());
                }
            }
            if answer.split(|b| *b == b' ').nth(1) != Some(b"200") {
                bail!("no tunnel: {}", answer.escape_ascii());
            }
        }
        let name = ServerName::try_from(*host).context("a name")?;
        Ok(Box::new(tls.connect(name, stream).await.context("TLS")?))
    }

    async fn ask(&self, wire: &mut dyn Wire, got: &mut Vec<u8>) -> Result<()> {
        wire.write_all(self.request.as_bytes()).await?;
        wire.flush().await?;
        got.clear();
        loop {
            if wire.read_buf(got).await? == 0 {
                bail!("it ended in an answer: {}", got.escape_ascii());
            }
            let Some(head) = got.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4) else { continue };
            let text = String::from_utf8_lossy(&got[..head]).to_ascii_lowercase();
            let length = text.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            let whole = match length.map(str::parse::<usize>) {
                Some(length) => got.len() >= head + length?,
                // In chunks; no answer here ends like the last one before its end.
                None => got.ends_with(b"\r\n0\r\n\r\n"),
            };
            if whole {
                break;
            }
        }
        if got.split(|b| *b == b' ').nth(1) != Some(b"200") {
            bail!("not answered with 200: {}", got.escape_ascii());
        }
        Ok(())
    }
}

/// Asks over so many kept connections for that long. Gives the microseconds of every request.
pub async fn kept(way: &Way, clients: usize, length: Duration) -> Result<Vec<f64>> {
    let end = Instant::now() + length;
    let one = async |way: Way| -> Result<Vec<f64>> {
        let (mut all, mut got) = (Vec::new(), Vec::with_capacity(8 * 1024));
        let mut wire = way.open().await?;
        while Instant::now() < end {
            let begun = Instant::now();
            way.ask(&mut *wire, &mut got).await?;
            all.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        Ok(all)
    };
    gather(way, clients, one).await
}

/// Asks over a new connection each time, so many at once.
pub async fn fresh(way: &Way, clients: usize, length: Duration) -> Result<Vec<f64>> {
    let end = Instant::now() + length;
    let one = async |way: Way| -> Result<Vec<f64>> {
        let (mut all, mut got) = (Vec::new(), Vec::with_capacity(8 * 1024));
        while Instant::now() < end {
            let begun = Instant::now();
            let mut wire = way.open().await?;
            way.ask(&mut *wire, &mut got).await?;
            all.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        Ok(all)
    };
    gather(way, clients, one).await
}

async fn gather(way: &Way, clients: usize, one: impl AsyncFn(Way) -> Result<Vec<f64>>) -> Result<Vec<f64>> {
    let asking = (0..clients).map(|_| one(way.clone()));
    let all = futures_util::future::try_join_all(asking).await?;
    Ok(all.into_iter().flatten().collect())
}
