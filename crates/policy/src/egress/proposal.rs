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
        if is_cut(target) {
            return None;
        }
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
            path.filter(|path| known && !path::is_odd(path::bare(path)))
                .and_then(|path| write(&host, port, method, path))
        };
        match rule {
            "read.none" | "read.packages" | "read.unlisted" | "port.closed" if law.may_be_read(&host, port) => {
                read(law, &host, port, scheme.port(), path)
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
    let url = target::absolute(target).ok();
    let long = is_cut(target) || url.as_ref().is_some_and(|url| is_long(&url.host, url.path));
    let host = match &url {
        Some(url) => Some(url.host.clone()),
        None => target::authority(target).ok().map(|(host, _)| host),
    };
    let inside = matches!(rule, "port.closed" | "host.private" | "host.internal");
    if inside && host.as_ref().is_some_and(is_own_machine) {
        return "No row is offered for what runs on the platform's own machine. An administrator may write one: \
                [[egress.internal]] with this host, its port and its one address."
            .to_owned();
    }
    let would_be_offered = match rule {
        "read.none" | "read.packages" | "read.unlisted" => true,
        "write.no-row" | "handle.no-row" | "read.credential" | "upgrade.no-row" => !target.starts_with("http:"),
        "port.closed" | "host.private" | "host.internal" | "address.private" => !host.as_ref().is_some_and(has_none),
        _ => false,
    };
    if long && would_be_offered {
        return "It is too long to offer a row for it. An administrator may write one by hand.".to_owned();
    }
    match (next::of(rule), rule) {
        (Some(next), _) => format!("It takes no row of a profile. The agent was told: {next}"),
        (None, "write.handle" | "write.credential") => {
            "The profile has a row for it. The agent was told to show the handle, and how it gets one.".to_owned()
        }
        (None, "write.no-row" | "handle.no-row" | "read.credential" | "upgrade.no-row") => {
            "No row is for plain http. The agent was told to send it over https.".to_owned()
        }
        (None, _) => by_the_profile(rule).unwrap_or("No row of a profile can be added that would allow it.").to_owned(),
    }
}

/// What an administrator may change in the profile, where no row is offered since it was no passage that was refused.
fn by_the_profile(rule: &str) -> Option<&'static str> {
    Some(match rule {
        "lease.capability" => "No row is offered. An administrator may give the profile a [[capability]] of this name.",
        "lease.destination" => "No row is offered. An administrator may add the destination to the [[capability]].",
        "lease.executable" => "No row is offered. An administrator may add the program to the [[capability]].",
        "lease.per-minute" | "lease.per-run" | "lease.term" => {
            "No row is offered. An administrator may set other bounds in the [[capability]], up to its kind's."
        }
        "git.branch" | "git.tag" | "git.pipelines" | "git.read-only" => {
            "No row is offered. An administrator may allow more in the profile's [[repository]]; a person may push it."
        }
        "git.repository" => "No row is offered. An administrator may give the profile a [[repository]].",
        _ => return None,
    })
}

/// A row that reads this: of a registry too, whose whole group would open every host of it, for paths that nobody asked for.
pub(super) fn read(law: &Law, host: &Name, port: u16, usual: u16, target: Option<&str>) -> Option<Proposal> {
    let path = target.map_or(Some("/"), |target| prefix(host, target))?;
    let head = if matches!(law.reads, Reads::None | Reads::Packages) { "[egress]\nreads = \"listed\"\n\n" } else { "" };
    let at = if port == usual { String::new() } else { format!("port = {port}\n") };
    let group = law.registries().find(host).filter(|_| port == usual && law.reads != Reads::Any);
    let wider = group.map_or_else(String::new, |registry| {
        format!(
            " It is a registry: packages = [{}] would open every host of that group, which is wider.",
            quoted(&registry.group)
        )
    });
    let what = if path == "/" { "every path".to_owned() } else { format!("{path} and what is below it,") };
    Some(Proposal {
        toml: format!("{head}[[egress.read]]\nhost = {}\npath = {}\n{at}", quoted(host.as_str()), quoted(path)),
        opens: format!(
            "GET and HEAD to {what} on {host}, port {port}. What the box knows can leave in a URL; that host sees it.{wider}"
        ),
    })
}

/// A row that writes this.
pub(super) fn write(host: &Name, port: u16, method: &str, target: &str) -> Option<Proposal> {
    let path = prefix(host, target)?;
    let at = if port == 443 { String::new() } else { format!("port = {port}\n") };
    Some(Proposal {
        toml: format!(
            "[[egress.write]]\ncapability = \"\" # NAME, of the secret capability/NAME that {host} takes\nhost = {}\nmethod = {}\npath = {}\n{at}",
            quoted(host.as_str()),
            quoted(method),
            quoted(path)
        ),
        opens: format!(
            "{method} to {path} and what is below it on {host}, port {port}, over https, in the name of that secret. \
             Whatever it may change there, a run can then change, and send there what the box knows. An agent does so by \
             commands under leases of this capability, which it asks for itself; a command of volary exec \
             by the handle that it has, or under a lease as well, where a [[capability]] has that name."
        ),
    })
}

/// Whether a host is the platform's own machine, of which an exception can name one address. None is offered: what
/// listens there is to be opened by somebody who thought of it, not because a box knocked.
pub(super) fn is_own_machine(host: &Name) -> bool {
    let own = |address: IpAddr| address.is_loopback() && Ranges::parse(&[address.to_string()]).is_ok();
    host.as_str() == "localhost" || host.is_below("localhost") || host.address().is_some_and(own)
}

/// Whether no exception can name it.
fn has_none(host: &Name) -> bool {
    let may = |address: IpAddr| Ranges::parse(&[address.to_string()]).is_ok();
    host.private() == Some(Private::Metadata) || host.address().is_some_and(|address| !may(address))
}

/// An exception for this. None for what has none, and for the platform's own machine.
pub(super) fn internal(law: &Law, host: &Name, port: u16) -> Option<Proposal> {
    if has_none(host) || is_own_machine(host) {
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

/// Characters of a target that a record holds. One that has so many may have been cut there.
pub const MAX_TARGET: usize = 256;
/// Longest path that is offered, in bytes together with its host: with a scheme and a port it stands whole on record. Of a
/// longer one no part is offered: that would open more than was asked for.
const MAX_OFFERED: usize = 240;

/// Whether a target, as it was recorded, may have been cut: of what is not known whole nothing is offered.
fn is_cut(target: &str) -> bool {
    target.chars().count() >= MAX_TARGET
}

/// Whether no row is offered for a path, since that is too long.
pub(super) fn is_long(host: &Name, target: &str) -> bool {
    host.as_str().len() + path::bare(target).len() > MAX_OFFERED
}

/// The path as a prefix, or the root where it can be none; none for one that is too long.
fn prefix<'t>(host: &Name, target: &'t str) -> Option<&'t str> {
    let path = path::bare(target);
    if is_long(host, path) {
        return None;
    }
    Some(if path::check(path).is_err() || path::is_odd(path) { "/" } else { path })
}

/// A TOML string. Hosts, methods and paths are printable ASCII here.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
