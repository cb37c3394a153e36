//! Names to addresses. Nothing is remembered: every connection asks anew and is judged by what it got.
//!
//! Names are asked for whole: no search domain is put behind them. Both kinds of addresses are asked for, since a
//! name is judged by all that it has.

use super::fault::Fault;
use anyhow::Context as _;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name as DnsName;
use policy::egress::Name;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long all of a lookup may take.
const LOOKUP_SECS: u64 = 10;
/// How long one name server may take to answer once, of so many times.
const ANSWER_SECS: u64 = 3;
const ATTEMPTS: usize = 2;
/// Addresses of one name. More are no service but a trick.
const ADDRESSES: usize = 64;

/// Asks for addresses.
pub(crate) struct Resolver(TokioResolver);

impl Resolver {
    /// One that asks `servers`, or, when there are none, whom the system's configuration names; the system's
    /// file of hosts is read either way.
    ///
    /// # Errors
    /// When the system's configuration cannot be read.
    pub(crate) fn new(servers: &[SocketAddr]) -> anyhow::Result<Self> {
        let (config, mut options) = if servers.is_empty() {
            let builder = TokioResolver::builder_tokio();
            match builder {
                Ok(mut builder) => {
                    let options = builder.options_mut().clone();
                    return Self::build(builder, options);
                }
                // A machine without the file has no names; what it has is said when one is asked for.
                Err(error) => {
                    tracing::warn!(%error, "the system's name servers are not known; no name will be resolved");
                    (ResolverConfig::from_name_servers(Vec::new()), ResolverOpts::default())
                }
            }
        } else {
            let servers = servers.iter().map(|at| name_server(*at)).collect();
            (ResolverConfig::from_name_servers(servers), ResolverOpts::default())
        };
        options.num_concurrent_reqs = 1;
        Self::build(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()), options)
    }

    fn build(
        builder: hickory_resolver::ResolverBuilder<TokioRuntimeProvider>,
        mut options: ResolverOpts,
    ) -> anyhow::Result<Self> {
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Always;
        options.cache_size = 0;
        options.timeout = Duration::from_secs(ANSWER_SECS);
        options.attempts = ATTEMPTS;
        let resolver = builder.with_options(options).build().context("the resolver cannot be built")?;
        Ok(Self(resolver))
    }

    /// Every address of a host: those of a name, or the one that it is. Never an empty list.
    ///
    /// # Errors
    /// A fault, when the name is not resolved.
    pub(crate) async fn addresses(&self, host: &Name) -> Result<Vec<IpAddr>, Fault> {
        if let Some(address) = host.address() {
            return Ok(vec![address]);
        }
        let mut name = DnsName::from_ascii(host.as_str()).map_err(|_| Fault::Name)?;
        name.set_fqdn(true);
        let looked = tokio::time::timeout(Duration::from_secs(LOOKUP_SECS), self.0.lookup_ip(name)).await;
        let mut addresses: Vec<IpAddr> = match looked {
            Ok(Ok(found)) => found.iter().take(ADDRESSES + 1).collect(),
            Ok(Err(error)) => {
                tracing::debug!(%error, %host, "a name was not resolved");
                return Err(Fault::Name);
            }
            Err(_) => return Err(Fault::Name),
        };
        if addresses.is_empty() || addresses.len() > ADDRESSES {
            return Err(Fault::Name);
        }
        // The more likely road first.
        addresses.sort_by_key(IpAddr::is_ipv6);
        addresses.dedup();
        Ok(addresses)
    }
}

/// The name servers that the system's configuration names now: for who looks whether there are any.
///
/// # Errors
/// When it cannot be read.
pub fn system_name_servers() -> anyhow::Result<Vec<IpAddr>> {
    let (config, _) = hickory_resolver::system_conf::read_system_conf().context("the system's name servers")?;
    Ok(config.name_servers().iter().map(|server| server.ip).collect())
}

fn name_server(at: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = at.port();
        connection
    });
    NameServerConfig::new(at.ip(), true, connections.to_vec())
}
