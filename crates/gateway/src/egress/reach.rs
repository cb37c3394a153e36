//! From a host to a connection, in one step: every address is asked for, every one is judged, and the connection goes
//! to one of those very addresses. No name is asked for twice, no proxy variable is read.
//!
//! Where an administrator has set a proxy that leads outside, it is told the checked address; the host's name stays
//! in TLS and in the request. One that takes names only is a delegation: it then resolves by itself, nothing it finds
//! is judged here, and so no credential goes that way.
//!
//! Read [`Outward`] (what an administrator sets), then [`Reach::open`].

use super::fault::Fault;
use super::limits::{ADDRESSES_TRIED, STEP};
use super::near::Near;
use super::resolve::Resolver;
use crate::connect::Wire;
use crate::pace::{Interim, Paced};
use crate::refusal::{Kind, Refusal};
use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::Secret;
use policy::egress::ground::Ground;
use policy::egress::{Law, Name};
use rustls::pki_types::ServerName;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longest answer of a company's proxy to CONNECT, in bytes.
const PROXY_HEAD: usize = 16 * 1024;

/// How the outside is reached, as an administrator sets it. The default is what the system does.
#[derive(Debug, Clone, Default)]
pub struct Outward {
    /// Name servers to ask; empty: those of the system's configuration.
    pub name_servers: Vec<SocketAddr>,
    /// The HTTP proxy that everything public goes through; none: straight.
    pub proxy: Option<OutwardProxy>,
}

/// An HTTP proxy that leads outside.
#[derive(Debug, Clone)]
pub struct OutwardProxy {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// It takes names only: it resolves them, and the check of addresses is delegated to it. No credential goes that
    /// way.
    pub resolves: bool,
    /// `user:password`, with which the gateway signs in to it; none when it asks for nothing. No box sees it.
    pub sign_in: Option<Arc<Secret<String>>>,
}

/// A host, as a request names it and policy allowed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) host: Name,
    pub(crate) port: u16,
    pub(crate) tls: bool,
    /// The exception of the table that it is.
    pub(crate) internal: Option<usize>,
    /// HTTP/1.1 only, for a protocol that follows it.
    pub(crate) one: bool,
}

impl Way {
    /// What stands in `Host` and `:authority`.
    pub(crate) fn authority(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }
}

/// A connection, and what is known of it.
pub(crate) struct Reached {
    pub(crate) wire: Box<dyn Wire>,
    /// HTTP/2 was agreed.
    pub(crate) two: bool,
    /// The checked address behind it; none when a proxy resolved.
    pub(crate) address: Option<IpAddr>,
    /// By what requests over HTTP/1.1 are watched.
    pub(crate) interim: Interim,
}

/// A connection to a host that the platform itself asks, HTTP/1.1 only.
pub(crate) struct Asked {
    pub(crate) wire: Box<dyn Wire>,
    /// Where its addresses lie.
    pub(crate) ground: Ground,
    /// A proxy resolved its name: no credential goes that way.
    pub(crate) delegated: bool,
}

/// The way out of all runs.
pub(crate) struct Reach {
    resolver: Resolver,
    tls: TlsConnector,
    tls_one: TlsConnector,
    proxy: Option<OutwardProxy>,
}

impl Reach {
    /// One that trusts `roots`.
    ///
    /// # Errors
    /// When the process has installed no TLS provider, or the system's name servers cannot be read.
    pub(crate) fn new(roots: Arc<rustls::RootCertStore>, outward: &Outward) -> anyhow::Result<Self> {
        let provider = rustls::crypto::CryptoProvider::get_default()
            .context("install the TLS provider (aws-lc-rs) before the gateway starts")?;
        let config = |protocols: &[&[u8]]| -> anyhow::Result<TlsConnector> {
            let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .context("the TLS provider has no protocol version in common with us")?
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
            // A ticket would tell the host that two runs are one platform.
            config.resumption = rustls::client::Resumption::disabled();
            Ok(Arc::new(config).into())
        };
        Ok(Self {
            resolver: Resolver::new(&outward.name_servers)?,
            tls: config(&[b"h2", b"http/1.1"])?,
            tls_one: config(&[b"http/1.1"])?,
            proxy: outward.proxy.clone(),
        })
    }

    /// Connects. What `law` says of the addresses is asked for all of them before the first connection.
    ///
    /// # Errors
    /// A policy refusal for an address; a fault when the host is not reached.
    pub(crate) async fn open(&self, way: &Way, law: &Law) -> Result<Reached, Refusal> {
        let (stream, address) = self.dial(way, law).await?;
        let interim = stream.interim();
        if !way.tls {
            return Ok(Reached { wire: Box::new(stream), two: false, address, interim });
        }
        let name = server_name(&way.host)?;
        let tls = if way.one { &self.tls_one } else { &self.tls };
        match within(STEP, tls.connect(name, stream)).await {
            Ok(stream) => {
                let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                Ok(Reached { wire: Box::new(stream), two, address, interim })
            }
            Err(error) => {
                tracing::debug!(%error, host = %way.host, "TLS with a host failed");
                Err(Fault::Tls.into())
            }
        }
    }

    /// A connection to the host without TLS of ours: for [`Reach::open`], and for a blind tunnel. However much the host sends,
    /// whoever reads it gives way.
    ///
    /// # Errors
    /// Those of [`Reach::open`].
    pub(crate) async fn dial(&self, way: &Way, law: &Law) -> Result<(Paced<TcpStream>, Option<IpAddr>), Refusal> {
        let judge = |addresses: &[IpAddr]| {
            law.check_addresses(addresses, way.internal).map_err(|no| Refusal::policy(no.rule, no.why))
        };
        let (stream, address) = self.stream(&way.host, way.port, way.internal.is_some(), judge).await?;
        Ok((Paced::new(stream), address))
    }

    /// Whether a proxy resolves this host's name, and the check of its addresses is the proxy's.
    pub(crate) fn delegates(&self, host: &Name, inside: bool) -> bool {
        self.proxy.as_ref().is_some_and(|proxy| proxy.resolves) && !inside && host.address().is_none()
    }

    /// A connection to one of a host's addresses, all of which `judge` has seen and let pass; the address is none when
    /// a proxy resolved. An `inside` host is not asked of the proxy that leads outside.
    ///
    /// # Errors
    /// Those of `judge`; a fault when the host is not reached.
    pub(crate) async fn stream(
        &self,
        host: &Name,
        port: u16,
        inside: bool,
        judge: impl Fn(&[IpAddr]) -> Result<(), Refusal>,
    ) -> Result<(TcpStream, Option<IpAddr>), Refusal> {
        let proxy = self.proxy.as_ref().filter(|_| !inside);
        if let Some(proxy) = proxy.filter(|_| self.delegates(host, inside)) {
            let stream = self.through(proxy, &format!("{host}:{port}")).await?;
            return Ok((stream, None));
        }
        let addresses = self.resolver.addresses(host).await?;
        judge(&addresses)?;
        if !inside {
            is_far(&addresses)?;
        }
        let (stream, address) = self.first_of(addresses, port, proxy).await?;
        Ok((stream, Some(address)))
    }

    /// Connects to a host that the platform itself asks: one that an administrator named (`from` is none), wherever its
    /// addresses lie; or one that another sent on to, on whose ground `from` it may lie, or outside. In the clear only
    /// on this very host. What lies outside goes through the proxy that leads there.
    ///
    /// # Errors
    /// A policy refusal for an address, or for the way to it; a fault when the host is not reached.
    pub(crate) async fn ask(&self, host: &Name, port: u16, tls: bool, from: Option<Ground>) -> Result<Asked, Refusal> {
        let delegates = self.delegates(host, false);
        let addresses = match self.resolver.addresses(host).await {
            Err(_) if delegates => Vec::new(),
            found => found?,
        };
        let ground = if addresses.is_empty() { Ground::Public } else { ground(&addresses)? };
        if from.is_some_and(|from| !from.leads_to(ground)) {
            let why = "Its addresses lie further inside than those of whoever sent on to it, and nobody named it.";
            return Err(Refusal::policy("ground.inward", why));
        }
        if !tls && ground != Ground::Loopback {
            let why = "It is asked in the clear, and it is not this very host; what is not over TLS is not taken.";
            return Err(Refusal::policy("ground.plain", why));
        }
        let proxy = self.proxy.as_ref().filter(|_| ground == Ground::Public);
        let delegated = delegates && proxy.is_some();
        let stream = match proxy {
            Some(proxy) if delegated => self.through(proxy, &format!("{host}:{port}")).await?,
            proxy => self.first_of(addresses, port, proxy).await?.0,
        };
        if !tls {
            return Ok(Asked { wire: Box::new(stream), ground, delegated });
        }
        let name = server_name(host)?;
        match within(STEP, self.tls_one.connect(name, stream)).await {
            Ok(stream) => Ok(Asked { wire: Box::new(stream), ground, delegated }),
            Err(error) => {
                tracing::debug!(%error, %host, "TLS with a host failed");
                Err(Fault::Tls.into())
            }
        }
    }

    /// A connection to the first of these addresses that answers, perhaps through a proxy.
    async fn first_of(
        &self,
        addresses: Vec<IpAddr>,
        port: u16,
        proxy: Option<&OutwardProxy>,
    ) -> Result<(TcpStream, IpAddr), Fault> {
        let mut last = Fault::Address;
        for address in addresses.into_iter().take(ADDRESSES_TRIED) {
            let to = SocketAddr::new(address, port);
            let dialled = match proxy {
                None => connect(to).await,
                Some(proxy) => self.through(proxy, &to.to_string()).await,
            };
            match dialled {
                Ok(stream) => return Ok((stream, address)),
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    /// A connection to `target` through a proxy.
    async fn through(&self, proxy: &OutwardProxy, target: &str) -> Result<TcpStream, Fault> {
        let host = Name::parse(&proxy.host).map_err(|_| Fault::Proxy)?;
        let addresses = self.resolver.addresses(&host).await.map_err(|_| Fault::Proxy)?;
        for address in addresses.into_iter().take(ADDRESSES_TRIED) {
            let Ok(stream) = connect(SocketAddr::new(address, proxy.port)).await else { continue };
            return match within(STEP, ask_proxy(stream, target, proxy.sign_in.as_deref())).await {
                Ok(stream) => Ok(stream),
                Err(error) => {
                    tracing::warn!(%error, "the proxy that leads outside did not connect");
                    Err(Fault::Proxy)
                }
            };
        }
        Err(Fault::Proxy)
    }
}

/// What a certificate must be for.
fn server_name(host: &Name) -> Result<ServerName<'static>, Fault> {
    match host.address() {
        Some(address) => Ok(ServerName::IpAddress(address.into())),
        None => ServerName::try_from(host.as_str().to_owned()).map_err(|_| Fault::Tls),
    }
}

/// On whose ground addresses lie: those beside this host are of the own network, whatever they look like.
fn ground(addresses: &[IpAddr]) -> Result<Ground, Refusal> {
    let ground = Ground::of(addresses).map_err(|no| Refusal::policy(no.rule, no.why))?;
    match is_far(addresses) {
        Err(no) if no.kind == Kind::Fault => Err(no),
        Err(_) if ground == Ground::Public => Ok(Ground::Own),
        _ => Ok(ground),
    }
}

/// None of a public host's addresses is this host's own, or beside it.
fn is_far(addresses: &[IpAddr]) -> Result<(), Refusal> {
    let near = Near::now().map_err(|error| {
        tracing::error!(%error, "this host's own addresses cannot be read");
        Refusal::fault("address.unknown", "The host's own addresses cannot be read, so nothing is connected to.")
    })?;
    near.why_not(addresses).map_or(Ok(()), |why| Err(Refusal::policy("address.near", why)))
}

async fn ask_proxy(mut stream: TcpStream, target: &str, sign_in: Option<&Secret<String>>) -> io::Result<TcpStream> {
    let basic = |pair: &Secret<String>| format!("proxy-authorization: Basic {}\r\n", STANDARD.encode(pair.expose()));
    let line = Secret::new(sign_in.map(basic).unwrap_or_default());
    let ask = Secret::new(format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{}\r\n", line.expose()));
    stream.write_all(ask.expose().as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // Byte by byte: what follows the head belongs to the host.
        head.push(stream.read_u8().await?);
        if head.len() > PROXY_HEAD {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its answer is too long"));
        }
    }
    let status = head.split(|b| *b == b' ').nth(1).unwrap_or_default();
    if !(head.starts_with(b"HTTP/1.") && status.len() == 3 && status[0] == b'2') {
        let status = String::from_utf8_lossy(&status[..status.len().min(3)]).into_owned();
        let why = match (status.as_str(), sign_in) {
            ("407", None) => "it asks for a sign-in (407), and was given none".to_owned(),
            ("407", Some(_)) => "it does not take the sign-in that it was given (407)".to_owned(),
            _ => format!("it answered {status}"),
        };
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, why));
    }
    Ok(stream)
}

async fn connect(to: SocketAddr) -> Result<TcpStream, Fault> {
    let connected = within(STEP, TcpStream::connect(to)).await.and_then(|stream| {
        stream.set_nodelay(true)?;
        Ok(stream)
    });
    connected.map_err(|error| {
        tracing::debug!(%error, "a host's address did not answer");
        Fault::Address
    })
}

async fn within<T>(time: Duration, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(time, step).await {
        Ok(done) => done,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
