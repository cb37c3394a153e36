//! How the gateway reaches the outside, as an administrator says it when the platform starts.

use anyhow::{Context as _, bail};
use model::Secret;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    /// File with USER:PASSWORD for that proxy, which nobody but its owner may read
    #[arg(long, value_name = "FILE", requires = "upstream_proxy")]
    #[serde(default)]
    pub upstream_proxy_sign_in: Option<PathBuf>,
    /// That proxy takes names only: it resolves them, the check of addresses is its own, and no credential goes that way
    #[arg(long, requires = "upstream_proxy")]
    pub upstream_proxy_resolves: bool,
}

impl Outside {
    /// The same, as the gateway takes it. Reads the file of the sign-in.
    ///
    /// # Errors
    /// When an address, the proxy or its sign-in cannot be read, or others may read the latter; names it.
    pub fn outward(&self) -> anyhow::Result<gateway::Outward> {
        let name_servers = self.name_servers.iter().map(|said| name_server(said)).collect::<anyhow::Result<_>>()?;
        let mut proxy =
            self.upstream_proxy.as_deref().map(|said| proxy(said, self.upstream_proxy_resolves)).transpose()?;
        if let (Some(proxy), Some(file)) = (&mut proxy, &self.upstream_proxy_sign_in) {
            let pair = sign_in(file).with_context(|| format!("--upstream-proxy-sign-in {}", file.display()))?;
            proxy.sign_in = Some(Arc::new(pair));
        }
        Ok(gateway::Outward { name_servers, proxy })
    }

    /// The way outside in words, for people who ask what a run could reach.
    #[must_use]
    pub fn told(&self) -> Vec<String> {
        let mut lines = Vec::new();
        match (&self.upstream_proxy, self.upstream_proxy_resolves) {
            (None, _) => lines.push("straight to each host, at an address that was checked".to_owned()),
            (Some(proxy), false) => lines.push(format!(
                "through the HTTP proxy {proxy}, which is told the address that was checked and not the name"
            )),
            (Some(proxy), true) => lines.push(format!(
                "DELEGATED to the HTTP proxy {proxy}: it resolves names by itself, so the check that an address is a \
                 public one is its own; no credential goes that way, and the record of each request says so"
            )),
        }
        if self.upstream_proxy_sign_in.is_some() {
            lines.push("the gateway signs in to that proxy; no box sees the password".to_owned());
        }
        if !self.name_servers.is_empty() {
            lines.push(format!("names are asked of {}", self.name_servers.join(", ")));
        }
        if let Some(file) = &self.extra_roots {
            let file = file.display();
            lines.push(format!("beside the system's certificate authorities those in {file} are trusted"));
        }
        lines
    }
}

/// Longest file of a sign-in, in bytes.
const SIGN_IN_BYTES: usize = 1024;

/// The one line `user:password` of a file that is its owner's alone.
fn sign_in(file: &Path) -> anyhow::Result<Secret<String>> {
    // A pipe in its place must not hold up the platform's start.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file)?;
    let known = opened.metadata()?;
    if !known.is_file() {
        bail!("it is no file");
    }
    if known.mode() & 0o077 != 0 {
        bail!("others than its owner may use it (mode {:03o}); chmod 600 it", known.mode() & 0o777);
    }
    let own = rustix::process::geteuid().as_raw();
    if known.uid() != own && known.uid() != 0 {
        bail!("it belongs to another account (uid {})", known.uid());
    }
    // Room for all of it: a text that grew would leave copies of its beginning behind.
    let mut bytes = Vec::with_capacity(SIGN_IN_BYTES + 1);
    let read = opened.take(SIGN_IN_BYTES as u64 + 1).read_to_end(&mut bytes);
    let bytes = Secret::new(bytes);
    read?;
    let text = std::str::from_utf8(bytes.expose()).context("it is not UTF-8")?;
    let line = text.trim_end_matches(['\r', '\n']);
    let user = line.split_once(':').map_or("", |(user, _)| user);
    if user.is_empty() || line.chars().any(char::is_control) || text.len() > SIGN_IN_BYTES {
        bail!("it takes one line, USER:PASSWORD, of at most {SIGN_IN_BYTES} bytes");
    }
    Ok(Secret::new(line.to_owned()))
}

fn name_server(said: &str) -> anyhow::Result<SocketAddr> {
    let alone = said.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
    alone.or_else(|_| said.parse()).with_context(|| {
        format!(
            "--name-server {said:?} is no address; give one like 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:5353"
        )
    })
}

fn proxy(whole: &str, resolves: bool) -> anyhow::Result<gateway::OutwardProxy> {
    // Whatever stands before the last '@' may be a password, and is not repeated.
    let said = &whole.rsplit_once('@').map_or_else(|| whole.to_owned(), |(_, host)| format!("…@{host}"));
    let plain = said.strip_prefix("http://").unwrap_or(said).trim_end_matches('/');
    let parts = plain.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let Some((host, port)) = parts.filter(|(host, port)| !host.is_empty() && *port != 0) else {
        bail!("--upstream-proxy {said:?} is no HOST:PORT");
    };
    if host.contains(['/', '@', ' ']) || host.contains("://") {
        bail!(
            "--upstream-proxy {said:?}: give HOST:PORT of an HTTP proxy; what it asks for as a sign-in goes into a file, \
             --upstream-proxy-sign-in"
        );
    }
    // As it stands in a URL: an IPv6 address in brackets.
    let host = match policy::egress::Name::parse(host) {
        Ok(name) => name.to_string(),
        Err(no) => bail!("--upstream-proxy {said:?}: {}", no.why),
    };
    Ok(gateway::OutwardProxy { host, port, resolves, sign_in: None })
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
        let six = read(&[], Some("[2001:DB8::1]:3128")).unwrap().proxy.unwrap();
        assert_eq!((six.host.as_str(), six.port), ("[2001:db8::1]", 3128));
    }

    fn signed(text: &[u8], mode: u32) -> anyhow::Result<(Outside, gateway::Outward)> {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("sign-in");
        std::fs::write(&file, text)?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode))?;
        let proxy = Some("proxy.example:3128".to_owned());
        let said = Outside { upstream_proxy: proxy, upstream_proxy_sign_in: Some(file), ..Outside::default() };
        let way = said.outward()?;
        Ok((said, way))
    }

    #[test]
    fn a_sign_in_is_read_from_a_file_that_is_its_owners_alone_and_stands_in_no_argument() {
        for (text, pair) in [(&b"joe:pass:word\n"[..], "joe:pass:word"), (b"joe:", "joe:"), (b"j:p\r\n", "j:p")] {
            let (said, way) = signed(text, 0o600).unwrap();
            assert_eq!(way.proxy.as_ref().unwrap().sign_in.as_ref().unwrap().expose(), pair);
            // The whole of the options stands on the command line of a process.
            let shown = format!("{way:?} {said:?} {} {:?}", serde_json::to_string(&said).unwrap(), said.told());
            assert!(!shown.contains("joe") && !shown.contains("pass:word"), "{shown}");
        }
    }

    #[test]
    fn a_sign_in_that_others_may_read_or_that_is_none_is_refused_by_name_and_never_shown() {
        for (text, mode, why) in [
            (&b"joe:secret"[..], 0o640, "chmod 600"),
            (b"joe:secret", 0o604, "chmod 600"),
            (b"joe:secret", 0o602, "chmod 600"),
            (b"", 0o600, "USER:PASSWORD"),
            (b"joe", 0o600, "USER:PASSWORD"),
            (b":secret", 0o600, "USER:PASSWORD"),
            (b"joe:secret\r\nx-more: 1", 0o600, "USER:PASSWORD"),
            (b"joe:secret\nx", 0o600, "USER:PASSWORD"),
            (b"joe:secret\0", 0o600, "USER:PASSWORD"),
            (b"joe:\xff", 0o600, "UTF-8"),
            (&[b'a'; SIGN_IN_BYTES + 1], 0o600, "USER:PASSWORD"),
        ] {
            let said = format!("{:#}", signed(text, mode).unwrap_err());
            assert!(said.contains("--upstream-proxy-sign-in") && said.contains(why), "{said}");
            assert!(!said.contains("secret") && !said.contains("joe"), "{said}");
        }
        for nothing in ["/nonexistent", "/dev/null", "/tmp"] {
            let proxy = Some("proxy.example:3128".to_owned());
            let file = Some(nothing.into());
            let said = Outside { upstream_proxy: proxy, upstream_proxy_sign_in: file, ..Outside::default() };
            assert!(said.outward().is_err(), "{nothing}");
        }
    }

    #[test]
    fn a_proxy_that_resolves_is_told_as_a_delegation() {
        let way = |resolves| Outside {
            upstream_proxy: Some("proxy.example:3128".into()),
            upstream_proxy_resolves: resolves,
            ..Outside::default()
        };
        assert!(way(true).told()[0].starts_with("DELEGATED to the HTTP proxy proxy.example:3128"));
        assert!(way(false).told()[0].contains("the address that was checked"));
        assert!(Outside::default().told()[0].starts_with("straight"));
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        for server in ["", "name.example", "192.0.2.1:", "192.0.2.1:x"] {
            let said = read(&[server], None).unwrap_err().to_string();
            assert!(said.contains("--name-server"), "{said}");
        }
        let pair = "joe:secret";
        for proxy in [
            format!("http://{pair}@proxy.example:3128"),
            "joe:se@cret@proxy.example".to_owned(),
            format!("http://{pair}@:1"),
            format!("{pair}@h:0"),
        ] {
            let said = read(&[], Some(&proxy)).unwrap_err().to_string();
            assert!(said.contains("--upstream-proxy") && said.contains("…@"), "{said}");
            assert!(!said.contains("joe") && !said.contains("cret"), "{said}");
        }
        for proxy in [
            "",
            "proxy.example",
            ":3128",
            "proxy.example:0",
            "u:p@proxy.example:3128",
            "https://proxy.example:1",
            "::1:3128",
            "[::1:3128",
            "0x7f.1:3128",
        ] {
            let said = read(&[], Some(proxy)).unwrap_err().to_string();
            assert!(said.contains("--upstream-proxy"), "{said}");
        }
    }
}
