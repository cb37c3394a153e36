//! From a provider's address to a connection. With `egress::reach`, by which it goes outside, this is where the platform
//! dials out, and nowhere else.
//!
//! Every address of a name must be public; the connection goes to one of the very addresses that were checked.
//! Literals are checked alike. No proxy variable is read, no redirect followed, no connection shared between calls.
//! An administrator's mark lifts the check for one place, and has it looked up as this system does.
//!
//! Read [`Target::of`], then [`Outlet::connect`].

use crate::egress::reach::Reach;
use crate::refusal::{Kind, Refusal};
use crate::script::Scripts;
use anyhow::Context as _;
use api::grants::Place;
use model::Dialect;
use policy::egress::Name;
use rustls::pki_types::ServerName;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use url::{Host, Url};

/// How long a name may take to resolve, one address to answer, and TLS to be agreed, each.
const STEP_SECS: u64 = 10;
/// Addresses of one name that are tried.
const ADDRESSES_TRIED: usize = 4;
/// Bytes on the way between gateway and scripted provider, each direction.
const DUPLEX_BYTES: usize = 64 * 1024;

/// A connection to a provider, whatever it runs over.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Where a provider is, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Path of the base, without a slash at its end.
    pub(crate) path: String,
    /// What stands in `Host`.
    pub(crate) host_header: String,
    host: Host<String>,
    port: u16,
    tls: bool,
}

impl Target {
    /// Reads where a place is. The scripted provider has a name of its own, which no resolver ever sees.
    ///
    /// # Errors
    /// A fault, when the base is no `http` or `https` URL with a host and without user, query and fragment.
    pub(crate) fn of(place: &Place) -> Result<Self, Refusal> {
        let Place::Url { base, .. } = place else {
            let host = "script.volary.internal";
            return Ok(Self {
                path: String::new(),
                host_header: host.to_owned(),
                host: Host::Domain(host.to_owned()),
                port: 80,
                tls: false,
            });
        };
        let bad = || {
            Refusal::fault("upstream.base", "The address that was set for this model is no plain http or https URL.")
        };
        let url = Url::parse(base).map_err(|_| bad())?;
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(bad()),
        };
        let plain =
            url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
        let (Some(host), Some(port), true) = (url.host(), url.port_or_known_default(), plain) else {
            return Err(bad());
        };
        let host_header = url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
        Ok(Self { path: url.path().trim_end_matches('/').to_owned(), host_header, host: host.to_owned(), port, tls })
    }
}

impl Target {
    /// The host, as a box's requests name it; none where those cannot.
    pub(crate) fn name(&self) -> Option<Name> {
        Name::parse(&self.host.to_string()).ok()
    }
}

/// The way out.
pub(crate) struct Outlet {
    tls: tokio_rustls::TlsConnector,
    pub(crate) scripts: Arc<Scripts>,
}

/// What a scripted provider needs besides its turns.
pub(crate) struct Scripted<'a> {
    /// Whose script it is: turns that fail once do so once for each owner.
    pub(crate) owner: &'a str,
    pub(crate) dialect: Dialect,
    pub(crate) credential: &'a model::Secret<String>,
}

impl Outlet {
    /// An outlet that trusts `roots`.
    ///
    /// # Errors
    /// When the process has installed no TLS provider.
    pub(crate) fn new(roots: Arc<rustls::RootCertStore>) -> anyhow::Result<Self> {
        let provider = rustls::crypto::CryptoProvider::get_default()
            .context("install the TLS provider (aws-lc-rs) before the gateway starts")?;
        let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .context("the TLS provider has no protocol version in common with us")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: Arc::new(config).into(), scripts: Arc::default() })
    }

    /// Connects to a place.
    ///
    /// # Errors
    /// A policy refusal when an address is not public or the way not encrypted; a fault, without any
    /// address in it, when the provider cannot be reached.
    pub(crate) async fn connect(
        &self,
        reach: &Reach,
        place: &Place,
        to: &Target,
        scripted: &Scripted<'_>,
    ) -> Result<Box<dyn Wire>, Refusal> {
        if let Place::Script { turns } = place {
            let (ours, theirs) = tokio::io::duplex(DUPLEX_BYTES);
            let turns = turns.clone();
            self.scripts.serve(theirs, scripted.owner, scripted.dialect, turns, scripted.credential.share());
            return Ok(Box::new(ours));
        }
        self.connect_plain(reach, place, to).await
    }

    /// As [`Outlet::connect`], to a place that is no script.
    ///
    /// # Errors
    /// Those of [`Outlet::connect`].
    pub(crate) async fn connect_plain(
        &self,
        reach: &Reach,
        place: &Place,
        to: &Target,
    ) -> Result<Box<dyn Wire>, Refusal> {
        let Place::Url { internal, .. } = place else {
            return Err(unreachable_for("it is a script, which is no host"));
        };
        let internal = *internal;
        let stream = if internal { inside(to).await? } else { outside(reach, to).await? };
        if !to.tls {
            return Ok(Box::new(stream));
        }
        let name = match &to.host {
            Host::Domain(name) => ServerName::try_from(name.clone())
                .map_err(|_| unreachable_for("its name cannot be in a certificate"))?,
            Host::Ipv4(ip) => ServerName::IpAddress(IpAddr::V4(*ip).into()),
            Host::Ipv6(ip) => ServerName::IpAddress(IpAddr::V6(*ip).into()),
        };
        match within(self.tls.connect(name, stream)).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => {
                tracing::warn!(%error, host = to.host_header, "TLS with a model provider failed");
                Err(unreachable_for("TLS could not be agreed with it; its certificate may not be trusted here"))
            }
        }
    }
}

/// A provider that is not reached, in words that show no address.
fn unreachable_for(why: &str) -> Refusal {
    Refusal::fault("upstream.unreachable", format!("The model provider was not reached: {why}."))
}

async fn within<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(Duration::from_secs(STEP_SECS), step).await {
        Ok(done) => done,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// A connection to a public place, over the way that leads outside.
async fn outside(reach: &Reach, to: &Target) -> Result<TcpStream, Refusal> {
    let private = || {
        Refusal::policy(
            "egress.private",
            "The model's address is not a public one, and no administrator marked it as internal.",
        )
    };
    let host = to.name().ok_or_else(|| unreachable_for("its name was not resolved"))?;
    let judge = |addresses: &[IpAddr]| {
        if !addresses.iter().all(|a| policy::egress::is_public(*a)) {
            return Err(private());
        }
        if to.tls { Ok(()) } else { Err(plain()) }
    };
    let reached = reach.stream(&host, to.port, false, judge).await;
    let (stream, address) = reached.map_err(|error| match error.kind {
        Kind::Fault => unreachable_for("its name was not resolved, or none of its addresses answered"),
        _ => error,
    })?;
    // A proxy that resolved by itself has shown no address to judge.
    if address.is_none() && !to.tls {
        return Err(plain());
    }
    Ok(stream)
}

fn plain() -> Refusal {
    Refusal::policy("egress.plain", "The model's address is a public one without TLS; no credential goes there.")
}

/// A connection to a place that an administrator marked as internal, its name as this system knows it.
async fn inside(to: &Target) -> Result<TcpStream, Refusal> {
    let addresses = resolve(to).await?;
    // The mark is for one's own network, not for a key in the clear on the way out.
    if !to.tls && addresses.iter().any(|a| policy::egress::is_public(a.ip())) {
        return Err(plain());
    }
    dial(&addresses).await
}

/// Every address of a target; never an empty list.
async fn resolve(to: &Target) -> Result<Vec<SocketAddr>, Refusal> {
    let name = match &to.host {
        Host::Ipv4(ip) => return Ok(vec![(*ip, to.port).into()]),
        Host::Ipv6(ip) => return Ok(vec![(*ip, to.port).into()]),
        Host::Domain(name) => name,
    };
    match within(tokio::net::lookup_host((name.as_str(), to.port))).await.map(Vec::from_iter) {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        Ok(_) => Err(unreachable_for("its name has no address")),
        Err(error) => {
            tracing::warn!(%error, host = to.host_header, "a model provider's name was not resolved");
            Err(unreachable_for("its name was not resolved"))
        }
    }
}

async fn dial(addresses: &[SocketAddr]) -> Result<TcpStream, Refusal> {
    for address in addresses.iter().take(ADDRESSES_TRIED) {
        match within(TcpStream::connect(address)).await {
            Ok(stream) => match stream.set_nodelay(true) {
                Ok(()) => return Ok(stream),
                Err(error) => tracing::warn!(%error, %address, "a new connection is broken"),
            },
            Err(error) => tracing::warn!(%error, %address, "a model provider did not answer"),
        }
    }
    Err(unreachable_for("none of its addresses answered"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(base: &str) -> Result<Target, Refusal> {
        Target::of(&Place::Url { base: base.to_owned(), internal: false })
    }

    #[test]
    fn a_base_is_taken_apart_and_nothing_hides_in_it() {
        let plain = target("https://api.example.com/openai/").unwrap();
        assert_eq!((plain.path.as_str(), plain.host_header.as_str(), plain.port), ("/openai", "api.example.com", 443));
        assert_eq!(target("http://[::1]:8000").unwrap().host_header, "[::1]:8000");
        for bad in [
            "ftp://a.example",
            "https://joe@a.example",
            "https://a.example/?x=1",
            "https://a.example/#x",
            "a.example",
            "file:///etc",
            "unix:/run/x",
            "",
        ] {
            assert_eq!(target(bad).map_err(|no| no.rule), Err("upstream.base".to_owned()), "{bad}");
        }
    }

    #[test]
    fn an_address_in_disguise_is_still_a_literal() {
        for base in ["http://0x7f.1", "http://2130706433", "http://0177.0.0.1"] {
            assert_eq!(target(base).unwrap().host, Host::<String>::Ipv4(std::net::Ipv4Addr::LOCALHOST), "{base}");
        }
    }
}
