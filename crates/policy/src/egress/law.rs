//! A profile's `[egress]` table, checked once and made ready to be asked.
//!
//! A table that does not mean what it seems to mean is wrong as a whole: rows that narrow nothing, groups that do
//! not exist, a private host without its exception. A profile with a wrong table starts no run.

use super::address::Ranges;
use super::host::Private;
use super::registries::{Registries, Registry};
use super::{Budget, Name, path};
use crate::Refusal;
use model::Egress;
use model::egress::Reads;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// Most rows of a table, of all kinds together.
pub const MAX_ROWS: usize = 4096;
/// Longest path of a row, in bytes.
pub const MAX_PATH: usize = 1024;
/// Widest tunnel, in MiB.
pub const MAX_TUNNEL_MIB: u64 = 4096;
/// Longest tunnel, in seconds.
pub const MAX_TUNNEL_SECS: u64 = 3600;
/// The one port of a tunnel.
pub(super) const TUNNEL_PORT: u16 = 443;
/// What a row of `write` may name as its method.
pub const WRITE_METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", UPGRADE];
/// The word for an upgrade to another protocol.
pub(super) const UPGRADE: &str = "UPGRADE";

/// What is wrong with a table: one sentence that names the row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(pub String);

/// A checked table. Rows keep their place: an index into it is an index into the profile's.
#[derive(Debug)]
pub struct Law {
    pub(super) reads: Reads,
    pub(super) groups: BTreeSet<String>,
    registries: Cow<'static, Registries>,
    read: Vec<Read>,
    exact: HashMap<String, Vec<usize>>,
    below: HashMap<String, Vec<usize>>,
    write: Vec<Write>,
    writes: HashMap<String, Vec<usize>>,
    tunnel: Vec<Tunnel>,
    internal: Vec<Internal>,
    internals: HashMap<String, Vec<usize>>,
}

#[derive(Debug)]
struct Read {
    path: String,
    port: Option<u16>,
}

/// A row of `write`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The credential's name in the vault.
    pub capability: String,
    /// The host.
    pub host: Name,
    /// One of [`WRITE_METHODS`].
    pub method: &'static str,
    /// The prefix of the path.
    pub path: String,
    /// The port.
    pub port: u16,
}

impl Write {
    /// What a lease for requests of this row is for: its host, with its port where that is another than 443.
    #[must_use]
    pub fn destination(&self) -> String {
        if self.port == 443 { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }
}

#[derive(Debug)]
struct Tunnel {
    group: String,
    host: Option<Name>,
    budget: Budget,
}

/// A row of `internal`.
#[derive(Debug)]
struct Internal {
    port: u16,
    ranges: Ranges,
}

impl Law {
    /// Checks a profile's table.
    ///
    /// # Errors
    /// [`Wrong`], of the first row that is.
    pub fn of(egress: &Egress) -> Result<Self, Wrong> {
        let rows =
            [egress.read.len(), egress.packages.len(), egress.write.len(), egress.tunnel.len(), egress.internal.len()];
        if rows.iter().sum::<usize>() > MAX_ROWS {
            return Err(Wrong(format!("egress has more than {MAX_ROWS} rows")));
        }
        let mut law = Self {
            reads: egress.reads,
            groups: BTreeSet::new(),
            registries: registries(&egress.registries)?,
            read: Vec::new(),
            exact: HashMap::new(),
            below: HashMap::new(),
            write: Vec::new(),
            writes: HashMap::new(),
            tunnel: Vec::new(),
            internal: Vec::new(),
            internals: HashMap::new(),
        };
        // Exceptions first: other rows may name their hosts.
        numbered(&egress.internal, "internal", |row| law.add_internal(row))?;
        numbered(&egress.packages, "packages", |group| law.add_group(group))?;
        numbered(&egress.read, "read", |row| law.add_read(row))?;
        numbered(&egress.write, "write", |row| law.add_write(row))?;
        numbered(&egress.tunnel, "tunnel", |row| law.add_tunnel(row))?;
        if egress.reads == Reads::Packages && egress.packages.is_empty() {
            return Err(Wrong(
                r#"egress.reads = "packages" needs egress.packages, the groups that may be read"#.into(),
            ));
        }
        Ok(law)
    }

    /// The registries that its groups are made of: those that come with Volary, as the home's own list changes them.
    #[must_use]
    pub fn registries(&self) -> &Registries {
        &self.registries
    }

    /// The row that a [`Kind::Write`](super::Kind::Write) names.
    #[must_use]
    pub fn write(&self, row: usize) -> Option<&Write> {
        self.write.get(row)
    }

    /// Whether every address of a name may be connected to: all of them public; or, with the exception that
    /// [`judge`](fn@super::judge) named in [`Allowed::internal`](super::Allowed), all of them in its ranges.
    ///
    /// The caller then connects to one of these very addresses, and asks no name server again.
    ///
    /// # Errors
    /// `address.none`, `address.metadata`, `address.private`, `address.mixed`, `address.outside`.
    pub fn check_addresses(&self, addresses: &[IpAddr], internal: Option<usize>) -> Result<(), Refusal> {
        super::address::check(addresses, internal.and_then(|row| self.internal.get(row)).map(|row| &row.ranges))
    }

    /// The exception for `host` and `port`.
    #[must_use]
    pub fn exception(&self, host: &Name, port: u16) -> Option<usize> {
        self.internals.get(host.as_str())?.iter().copied().find(|row| self.internal[*row].port == port)
    }

    /// Whether a row of `read` could name this host and port.
    pub(super) fn may_be_read(&self, host: &Name, port: u16) -> bool {
        host.private().is_none() || self.exception(host, port).is_some()
    }

    /// Whether there is an exception for `host` at all.
    pub(super) fn has_exception(&self, host: &Name) -> bool {
        self.internals.contains_key(host.as_str())
    }

    /// The package group of `host`, when it may be read by this table.
    pub(super) fn package(&self, host: &Name) -> Option<&Registry> {
        let registry = self.registries.find(host)?;
        let open = match self.reads {
            Reads::Any => true,
            Reads::Listed | Reads::Packages => self.groups.contains(&registry.group),
            Reads::None => false,
        };
        open.then_some(registry)
    }

    /// Whether a row of `read` has this host and port, and the path where one is given. `usual` is the scheme's port.
    pub(super) fn reads(&self, host: &Name, port: u16, usual: u16, target: Option<&str>) -> bool {
        let fits = |row: &usize| {
            let row = &self.read[*row];
            row.port.unwrap_or(usual) == port && target.is_none_or(|target| path::is_under(target, &row.path))
        };
        let at =
            |table: &HashMap<String, Vec<usize>>, name: &str| table.get(name).is_some_and(|rows| rows.iter().any(fits));
        at(&self.exact, host.as_str()) || (!self.below.is_empty() && host.parents().any(|name| at(&self.below, name)))
    }

    /// The row of `write` that fits a request best: the longest path.
    #[must_use]
    pub fn writes(&self, host: &Name, port: u16, method: &str, target: &str) -> Option<usize> {
        let rows = self.writes.get(host.as_str())?.iter().copied();
        let fits = |row: &Write| row.port == port && row.method == method && path::is_under(target, &row.path);
        rows.filter(|row| fits(&self.write[*row])).max_by_key(|row| self.write[*row].path.len())
    }

    /// Whether a row of `write` names this host and port.
    pub(super) fn has_write(&self, host: &Name, port: u16) -> bool {
        self.writes.get(host.as_str()).is_some_and(|rows| rows.iter().any(|row| self.write[*row].port == port))
    }

    /// Whether a row of `write` names this host, so that it may be given a credential.
    pub(super) fn lends_to(&self, host: &Name) -> bool {
        self.writes.contains_key(host.as_str())
    }

    /// The budget of a tunnel to `host` and `port`, the widest row first.
    pub(super) fn tunnel(&self, host: &Name, port: u16) -> Option<Budget> {
        if port != TUNNEL_PORT || self.tunnel.is_empty() {
            return None;
        }
        let registry = self.registries.find(host)?;
        let fits = |row: &&Tunnel| row.group == registry.group && row.host.as_ref().is_none_or(|only| only == host);
        self.tunnel.iter().filter(fits).map(|row| row.budget).max()
    }

    fn add_internal(&mut self, row: &model::egress::InternalRow) -> Result<(), String> {
        let host = host(&row.host)?;
        if host.private() == Some(Private::Metadata) {
            return Err("a metadata service is nobody's to reach; there is no exception for it".into());
        }
        let ranges = Ranges::parse(&row.addresses)?;
        if host.address().is_some_and(|address| !ranges.contain(address)) {
            return Err(format!("the host is the address {host}, which is in none of its ranges"));
        }
        if row.port == 0 {
            return Err("there is no port 0".into());
        }
        if self.exception(&host, row.port).is_some() {
            return Err(format!("{host}:{} has an exception already", row.port));
        }
        self.internals.entry(host.as_str().to_owned()).or_default().push(self.internal.len());
        self.internal.push(Internal { port: row.port, ranges });
        Ok(())
    }

    fn add_group(&mut self, group: &str) -> Result<(), String> {
        self.group_exists(group)?;
        if !matches!(self.reads, Reads::Listed | Reads::Packages) {
            return Err(r#"groups narrow nothing here; they take reads = "listed" or "packages""#.into());
        }
        if !self.groups.insert(group.to_owned()) {
            return Err(format!("{group:?} is there twice"));
        }
        Ok(())
    }

    fn add_read(&mut self, row: &model::egress::ReadRow) -> Result<(), String> {
        // A table that seems to narrow and does not is worse than none.
        if self.reads != Reads::Listed && !(self.reads == Reads::Any && row.port.is_some()) {
            return Err(r#"rows to read take reads = "listed""#.into());
        }
        let (name, table) = match row.host.strip_prefix("*.") {
            None => (host(&row.host)?, &mut self.exact),
            Some(parent) => {
                let parent = host(parent)?;
                if parent.address().is_some() || !parent.as_str().contains('.') {
                    return Err("after `*.` comes a name of two labels or more".into());
                }
                (parent, &mut self.below)
            }
        };
        table.entry(name.as_str().to_owned()).or_default().push(self.read.len());
        self.needs_exception(&name)?;
        port_exists(row.port)?;
        path_is_plain(&row.path)?;
        self.read.push(Read { path: row.path.clone(), port: row.port });
        Ok(())
    }

    fn add_write(&mut self, row: &model::egress::WriteRow) -> Result<(), String> {
        let host = host(&row.host)?;
        self.needs_exception(&host)?;
        port_exists(row.port)?;
        path_is_plain(&row.path)?;
        let method = WRITE_METHODS.into_iter().find(|method| *method == row.method);
        let method =
            method.ok_or_else(|| format!("the method {:?} is none of {}", row.method, WRITE_METHODS.join(", ")))?;
        if !is_capability(&row.capability) {
            return Err("the capability is a name of a-z, 0-9 and '-', or `connection/` and such a name".into());
        }
        let port = row.port.unwrap_or(443);
        let same = |other: &Write| {
            other.host == host && other.port == port && other.method == method && other.path == row.path
        };
        if self.write.iter().any(same) {
            return Err("the same request has a row already".into());
        }
        self.writes.entry(host.as_str().to_owned()).or_default().push(self.write.len());
        self.write.push(Write { capability: row.capability.clone(), host, method, path: row.path.clone(), port });
        Ok(())
    }

    fn add_tunnel(&mut self, row: &model::egress::TunnelRow) -> Result<(), String> {
        self.group_exists(&row.packages)?;
        if !(1..=MAX_TUNNEL_MIB).contains(&row.mib) || !(1..=MAX_TUNNEL_SECS).contains(&row.seconds) {
            return Err(format!("a tunnel takes 1 to {MAX_TUNNEL_MIB} MiB and 1 to {MAX_TUNNEL_SECS} seconds"));
        }
        let host = row.host.as_deref().map(host).transpose()?;
        let group_of = |host: &Name| self.registries.find(host).map(|registry| registry.group.as_str());
        if host.as_ref().is_some_and(|host| group_of(host) != Some(row.packages.as_str())) {
            return Err(format!("the host is no registry of the group {:?}; there are no other tunnels", row.packages));
        }
        let budget = Budget { bytes: row.mib << 20, seconds: row.seconds };
        self.tunnel.push(Tunnel { group: row.packages.clone(), host, budget });
        Ok(())
    }

    fn group_exists(&self, group: &str) -> Result<(), String> {
        let groups = self.registries.groups();
        if groups.contains(&group) {
            return Ok(());
        }
        Err(format!("there is no package group {group:?}; there are {}", groups.join(", ")))
    }

    fn needs_exception(&self, host: &Name) -> Result<(), String> {
        match host.private() {
            None => Ok(()),
            Some(Private::Metadata) => Err(format!("{host} is a metadata service, which is nobody's to reach")),
            Some(_) if self.has_exception(host) => Ok(()),
            Some(_) => Err(format!("{host} is inside a network; it needs a row in egress.internal")),
        }
    }
}

fn numbered<T>(rows: &[T], table: &str, mut add: impl FnMut(&T) -> Result<(), String>) -> Result<(), Wrong> {
    rows.iter()
        .enumerate()
        .try_for_each(|(n, row)| add(row).map_err(|why| Wrong(format!("egress.{table} row {}: {why}", n + 1))))
}

fn host(text: &str) -> Result<Name, String> {
    Name::parse(text).map_err(|no| format!("the host {text:?}: {}", no.why))
}

fn port_exists(port: Option<u16>) -> Result<(), String> {
    if port == Some(0) { Err("there is no port 0".into()) } else { Ok(()) }
}

/// Whether a text can be what a row to write names: the last part of a secret's name, or the whole name of a connection's
/// access token.
#[must_use]
pub fn is_capability(text: &str) -> bool {
    let text = text.strip_prefix("connection/").unwrap_or(text);
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
}

fn registries(own: &[String]) -> Result<Cow<'static, Registries>, Wrong> {
    if own.is_empty() {
        return Ok(Cow::Borrowed(Registries::built_in()));
    }
    let amended = Registries::built_in().amended(&own.join("\n"));
    amended.map(Cow::Owned).map_err(|why| Wrong(format!("the home's own list of registries, {why}")))
}

fn path_is_plain(text: &str) -> Result<(), String> {
    if text.len() > MAX_PATH || path::check(text).is_err() || text.contains('?') || path::is_odd(text) {
        return Err(format!(
            "the path {text:?} is no plain prefix: it begins with a slash, has no query, no dot segments, and at most {MAX_PATH} bytes"
        ));
    }
    Ok(())
}
