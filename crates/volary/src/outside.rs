//! How the gateway reaches the outside, as an administrator says it when the platform starts.

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Options of `up` about the outside. A platform that `run` or `exec` starts for its own length has the defaults:
/// what the system does.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
pub struct Outside {
    /// PEM file of certificate authorities to trust beside the system's
    #[arg(long, value_name = "FILE")]
    pub extra_roots: Option<PathBuf>,
    /// Name server to ask instead of the system's (an address, with :PORT unless it is 53); may be given again
    #[arg(long = "name-server", value_name = "ADDRESS")]
    pub name_servers: Vec<String>,
    /// HTTP proxy that everything public goes through, by CONNECT to the address that was checked
    #[arg(long, value_name = "HOST:PORT")]
    pub upstream_proxy: Option<String>,
    /// That proxy takes names only: it resolves them, the check of addresses is its own, and no credential goes that way
    #[arg(long, requires = "upstream_proxy")]
    pub upstream_proxy_resolves: bool,
}

impl Outside {
    /// The same, as the gateway takes it.
    ///
    /// # Errors
    /// When an address or the proxy cannot be read; names it.
    pub fn outward(&self) -> anyhow::Result<gateway::Outward> {
        let name_servers = self.name_servers.iter().map(|said| name_server(said)).collect::<anyhow::Result<_>>()?;
        let proxy = self.upstream_proxy.as_deref().map(|said| proxy(said, self.upstream_proxy_resolves)).transpose()?;
        Ok(gateway::Outward { name_servers, proxy })
    }
}

fn name_server(said: &str) -> anyhow::Result<SocketAddr> {
    let alone = said.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
    alone.or_else(|_| said.parse()).with_context(|| {
        format!(
            "--name-server {said:?} is no address; give one like 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:5353"
        )
    })
}

fn proxy(said: &str, resolves: bool) -> anyhow::Result<gateway::OutwardProxy> {
    let plain = said.strip_prefix("http://").unwrap_or(said).trim_end_matches('/');
    let parts = plain.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let Some((host, port)) = parts.filter(|(host, port)| !host.is_empty() && *port != 0) else {
        bail!("--upstream-proxy {said:?} is no HOST:PORT");
    };
    if host.contains(['/', '@', ' ']) || host.contains("://") {
        bail!(
            "--upstream-proxy {said:?}: give HOST:PORT of an HTTP proxy; one that asks for a password is not supported"
        );
    }
    Ok(gateway::OutwardProxy { host: host.trim_matches(['[', ']']).to_owned(), port, resolves })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(servers: &[&str], proxy: Option<&str>) -> anyhow::Result<gateway::Outward> {
        let name_servers = servers.iter().map(|s| (*s).to_owned()).collect();
        Outside { name_servers, upstream_proxy: proxy.map(str::to_owned), ..Outside::default() }.outward()
    }

    #[test]
    fn a_name_server_has_port_53_unless_said_and_a_proxy_is_a_host_and_a_port() {
        let way =
            read(&["192.0.2.1", "192.0.2.1:99", "2001:db8::1", "[2001:db8::1]:99"], Some("http://proxy.example:3128/"));
        let way = way.unwrap();
        let said: Vec<String> = way.name_servers.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["192.0.2.1:53", "192.0.2.1:99", "[2001:db8::1]:53", "[2001:db8::1]:99"]);
        let proxy = way.proxy.unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port, proxy.resolves), ("proxy.example", 3128, false));
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        for server in ["", "name.example", "192.0.2.1:", "192.0.2.1:x"] {
            let said = read(&[server], None).unwrap_err().to_string();
            assert!(said.contains("--name-server"), "{said}");
        }
        for proxy in
            ["", "proxy.example", ":3128", "proxy.example:0", "u:p@proxy.example:3128", "https://proxy.example:1"]
        {
            let said = read(&[], Some(proxy)).unwrap_err().to_string();
            assert!(said.contains("--upstream-proxy"), "{said}");
        }
    }
}
