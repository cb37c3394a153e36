//! What a run may reach beyond its model: the `[egress]` table of a profile, as an administrator writes it.
//!
//! This is text with a form. What it means, and what in it is wrong, is `policy::egress`'s word: nothing here
//! allows anything. A table that is left out is [`Egress::default`]: reads of any public host, no write at all.

use serde::{Deserialize, Serialize};

/// The `[egress]` table. Unknown keys are an error, so that a typo is not a hole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Egress {
    /// Which hosts may be read, by GET and HEAD without a body and without a credential.
    pub reads: Reads,
    /// What may be read under [`Reads::Listed`]; beside [`Reads::Any`] only rows with a port of their own mean
    /// something, beside the others none.
    pub read: Vec<ReadRow>,
    /// Package groups that may be read under [`Reads::Listed`] and [`Reads::Packages`]: `rust`, `python`, `node`,
    /// `go`, `java`, `ruby`, `debian`, `ubuntu`, `alpine`, and those of the home's own list.
    pub packages: Vec<String>,
    /// Lines by which the home's own list of registries differs from the one that comes with Volary, in the form of
    /// that list; they are filled in when a profile is read, and no profile's file names any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registries: Vec<String>,
    /// What may be asked with a credential, row by row. Empty: no write leaves the box.
    pub write: Vec<WriteRow>,
    /// Blind tunnels to package registries. Whoever has one can write there.
    pub tunnel: Vec<TunnelRow>,
    /// Named services inside the administrator's own network.
    pub internal: Vec<InternalRow>,
}

/// Which hosts may be read. From wide to narrow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reads {
    /// None.
    None,
    /// The hosts of the package groups in [`Egress::packages`].
    Packages,
    /// The rows of [`Egress::read`], and the package groups.
    Listed,
    /// Every public host. What a box knows can then leave in a URL.
    #[default]
    Any,
}

/// One thing that may be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReadRow {
    /// A host, or `*.` and a name of two labels or more for everything below that name, not the name itself.
    pub host: String,
    /// What the path starts with, by whole segments: `/v1` is `/v1` and `/v1/x`, not `/v10`. The root unless said.
    #[serde(default = "root", skip_serializing_if = "is_root")]
    pub path: String,
    /// The port; 80 for http and 443 for https unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// One request that may carry a credential, and so may change something. HTTPS only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WriteRow {
    /// The credential, by the name it has in the vault. The box shows its handle instead.
    pub capability: String,
    /// The host, exactly.
    pub host: String,
    /// `GET`, `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE`, or `UPGRADE` (a WebSocket: anything, both ways).
    pub method: String,
    /// What the path starts with, by whole segments.
    pub path: String,
    /// The port; 443 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl WriteRow {
    /// What a lease for requests of this row is for: its host, with its port where that is another than 443.
    #[must_use]
    pub fn destination(&self) -> String {
        match self.port {
            None | Some(443) => self.host.clone(),
            Some(port) => format!("{}:{port}", self.host),
        }
    }
}

/// A blind tunnel to a package group's hosts, port 443.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TunnelRow {
    /// The group.
    pub packages: String,
    /// One host of the group; all of them unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What one tunnel may carry, both ways together, in MiB: `1..=4096`.
    pub mib: u64,
    /// How long one tunnel may stand, in seconds: `1..=3600`.
    pub seconds: u64,
}

/// A service that has no public address. Never "allow private": one host, one port, one range.
///
/// It opens nothing by itself: a read of it must be allowed by [`Egress::reads`] (`any`, or a row), a write by a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct InternalRow {
    /// The host, exactly; one label is enough here.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Ranges in which every address of the host must lie: `10.2.3.0/24`, `fd12:3456::/64`, or one address.
    pub addresses: Vec<String>,
    /// Why, for those who read `volary reach`.
    #[serde(default)]
    pub why: String,
}

fn root() -> String {
    "/".to_owned()
}

fn is_root(path: &str) -> bool {
    path == "/"
}
