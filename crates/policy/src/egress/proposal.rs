//! The narrowest change of a profile that would allow what was refused, as text ready to paste.

use super::address::Ranges;
use super::host::Private;
use super::target::{self, Scheme};
use super::{Law, Name, law, next, path};
use model::egress::Reads;
use std::net::IpAddr;

/// A change of a profile's `[egress]` table, for a person to judge. It allows nothing by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The lines to add, in TOML.
    pub toml: String,
    /// What they would newly open, spelled out: one to three sentences.
    pub opens: String,
}

impl Proposal {
    /// What was offered, or would have been, when this request was refused: from the verdict as it was recorded,
    /// with the target as `https://host[:port]/path`, or `host:port` of a CONNECT. None where no row would allow it.
    #[must_use]
    pub fn of(law: &Law, rule: &str, method: &str, target: &str) -> Option<Self> {
        let url = target::absolute(target).ok();
        let (host, port, scheme, path) = match &url {
            Some(url) => (url.host.clone(), url.port, url.scheme, Some(url.path)),
            None => {
                let (host, port) = target::authority(target).ok()?;
                (host, port, Scheme::Https, None)
            }
        };
        let to_write = |method: &str| {
            let known = law::WRITE_METHODS.contains(&method) && scheme == Scheme::Https && law.may_be_read(&host, port);
            // No row lets a write to a path through that servers read in several ways.
            path.filter(|path| known && !path::is_odd(path::bare(path))).map(|path| write(&host, port, method, path))
        };
        match rule {
            "read.none" | "read.packages" | "read.unlisted" | "port.closed" if law.may_be_read(&host, port) => {
                Some(read(law, &host, port, scheme.port(), path))
            }
            "write.no-row" | "handle.no-row" | "read.credential" => to_write(method),
            "upgrade.no-row" => to_write(law::UPGRADE),
            "port.closed" | "host.private" | "host.internal" | "address.private"
                if law.exception(&host, port).is_none() =>
            {
                internal(law, &host, port)
            }
            _ => None,
        }
    }
}

/// Why a person is offered nothing for a refusal of which [`Proposal::of`] gives none, by its rule and its target as it
/// was recorded: one or two sentences.
#[must_use]
pub fn why_none(rule: &str, target: &str) -> String {
    let host = match target::absolute(target) {
        Ok(url) => Some(url.host),
        Err(_) => target::authority(target).ok().map(|(host, _)| host),
    };
    let inside = matches!(rule, "port.closed" | "host.private" | "host.internal");
    if inside && host.is_some_and(|host| is_own_machine(&host)) {
        return "No row is offered for what runs on the platform's own machine. An administrator may write one: \
                [[egress.internal]] with this host, its port and its one address."
            .to_owned();
    }
    match (next::of(rule), rule) {
        (Some(next), _) => format!("It takes no row of a profile. The agent was told: {next}"),
        (None, "write.handle" | "write.credential") => {
            "The profile has a row for it. The agent was told to show the handle, and how it gets one.".to_owned()
        }
        (None, "write.no-row" | "handle.no-row" | "read.credential" | "upgrade.no-row") => {
            "No row is for plain http. The agent was told to send it over https.".to_owned()
        }
        (None, _) => "No row of a profile can be added that would allow it.".to_owned(),
    }
}

/// A row that reads this.
pub(super) fn read(law: &Law, host: &Name, port: u16, usual: u16, target: Option<&str>) -> Proposal {
    if let Some(registry) = law.registries().find(host).filter(|_| port == usual && law.reads != Reads::Any) {
        let mut groups: Vec<String> = law.groups.iter().map(|group| quoted(group)).collect();
        groups.push(quoted(&registry.group));
        let reads = if law.reads == Reads::None { "reads = \"packages\"\n" } else { "" };
        return Proposal {
            toml: format!("[egress]\n{reads}packages = [{}]\n", groups.join(", ")),
            opens: format!(
                "GET and HEAD to every registry of the group {}. What the box knows can leave in a URL.",
                registry.group
            ),
        };
    }
    let path = target.map_or("/", prefix);
    let head = if matches!(law.reads, Reads::None | Reads::Packages) { "[egress]\nreads = \"listed\"\n\n" } else { "" };
    let at = if port == usual { String::new() } else { format!("port = {port}\n") };
    let what = if path == "/" { "every path".to_owned() } else { format!("{path} and what is below it,") };
    Proposal {
        toml: format!("{head}[[egress.read]]\nhost = {}\npath = {}\n{at}", quoted(host.as_str()), quoted(path)),
        opens: format!(
            "GET and HEAD to {what} on {host}, port {port}. What the box knows can leave in a URL; that host sees it."
        ),
    }
}

/// A row that writes this.
pub(super) fn write(host: &Name, port: u16, method: &str, target: &str) -> Proposal {
    let path = prefix(target);
    let at = if port == 443 { String::new() } else { format!("port = {port}\n") };
    Proposal {
        toml: format!(
            "[[egress.write]]\ncapability = \"\" # NAME, of the secret capability/NAME that {host} takes\nhost = {}\nmethod = {}\npath = {}\n{at}",
            quoted(host.as_str()),
            quoted(method),
            quoted(path)
        ),
        opens: format!(
            "{method} to {path} and what is below it on {host}, port {port}, over https, in the name of that secret. \
             Whatever it may change there, a run can then change, and send there what the box knows. An agent does so by \
             commands under leases of this capability, which it asks for itself; a `volary exec` with the handle that it has."
        ),
    }
}

/// Whether a host is the platform's own machine, of which an exception can name one address. None is offered: what
/// listens there is to be opened by somebody who thought of it, not because a box knocked.
pub(super) fn is_own_machine(host: &Name) -> bool {
    let own = |address: IpAddr| address.is_loopback() && Ranges::parse(&[address.to_string()]).is_ok();
    host.as_str() == "localhost" || host.is_below("localhost") || host.address().is_some_and(own)
}

/// An exception for this. None for what has none, and for the platform's own machine.
pub(super) fn internal(law: &Law, host: &Name, port: u16) -> Option<Proposal> {
    let may = |address: IpAddr| Ranges::parse(&[address.to_string()]).is_ok();
    let cannot = host.private() == Some(Private::Metadata) || host.address().is_some_and(|address| !may(address));
    if cannot || is_own_machine(host) {
        return None;
    }
    let range = host.address().map(|address| quoted(&address.to_string())).unwrap_or_default();
    let reads = if law.reads == Reads::Any {
        "GET and HEAD need no other rule, since this profile reads any host; writes need rows of their own."
    } else {
        "Reads and writes of it need rows of their own."
    };
    Some(Proposal {
        toml: format!(
            "[[egress.internal]]\nhost = {}\nport = {port}\naddresses = [{range}] # where the service is\nwhy = \"\"\n",
            quoted(host.as_str())
        ),
        opens: format!("Connections from boxes to {host}, port {port}, inside your own network. {reads}"),
    })
}

/// Longest path that is offered, in bytes; of a longer one its root.
const MAX_OFFERED: usize = 256;

/// The path as a prefix, where it can be one.
fn prefix(target: &str) -> &str {
    let path = path::bare(target);
    if path.len() > MAX_OFFERED || path::check(path).is_err() || path::is_odd(path) { "/" } else { path }
}

/// A TOML string. Hosts, methods and paths are printable ASCII here.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
