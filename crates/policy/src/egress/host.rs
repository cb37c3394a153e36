//! What a host's name is: one spelling for each host, or a refusal.
//!
//! Everything that follows (the rules, the lookup, SNI, the Host header) uses the [`Name`] and never the text
//! it came from, so two spellings of one host cannot be told apart, and two hosts cannot share one spelling.
//! International names become their ASCII form, so a look-alike matches no row. Spellings of addresses that only
//! some programs read as addresses (octal, hexadecimal, short, without dots, full-width digits) are refused.

use crate::Refusal;
use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest text that is looked at, in bytes. A name has 253 at most; before mapping a text may be longer.
const MAX_TEXT: usize = 1024;

/// A host in its one spelling.
///
/// Either a DNS name (`a-z`, `0-9`, `-` and `_` in labels of 1 to 63, 253 in all, without a dot at the end) or an
/// IP address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    text: String,
    address: Option<IpAddr>,
}

impl Name {
    /// Reads a host as it stands in a URL, a CONNECT line or a rule; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// `host.empty`, `host.long`, `host.userinfo`, `host.percent`, `host.zone`, `host.port`, `host.character`,
    /// `host.number`, `host.address`, `host.label`.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let no = |rule, why: &str| Err(Refusal::new(rule, why));
        if text.is_empty() {
            return no("host.empty", "The request names no host.");
        }
        if text.len() > MAX_TEXT {
            return no("host.long", "The host's name is longer than any name can be.");
        }
        if let Some(inner) = text.strip_prefix('[') {
            return bracketed(inner);
        }
        match text.bytes().find(|b| b.is_ascii() && !(b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))) {
            None => {}
            Some(b'@') => {
                return no("host.userinfo", "A user name or password before the host is not taken; leave it out.");
            }
            Some(b'%') => return no("host.percent", "The host is percent-encoded; write it plainly."),
            Some(b':') => {
                return no(
                    "host.port",
                    "The host holds a colon; a port is a number after it, and an IPv6 address stands in brackets.",
                );
            }
            Some(_) => return no("host.character", "The host holds a character that no host's name has."),
        }
        let ascii =
            Uts46::new().to_ascii(text.as_bytes(), AsciiDenyList::URL, Hyphens::Allow, DnsLength::VerifyAllowRootDot);
        let Ok(ascii) = ascii else {
            return no(
                "host.label",
                "The host is no valid name: an empty or too long label, or a broken international one.",
            );
        };
        let name = ascii.strip_suffix('.').unwrap_or(&ascii);
        let plain = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
        };
        // A mapped character may have become something that is no letter at all.
        if !name.split('.').all(plain) {
            return no(
                "host.label",
                "The host is no valid name: a label of it is empty, or begins or ends with a hyphen, or holds what no label may.",
            );
        }
        if !ends_in_number(name) {
            return Ok(Self { text: name.to_owned(), address: None });
        }
        match text.parse::<Ipv4Addr>() {
            Ok(address) => Ok(Self::from(IpAddr::V4(address))),
            Err(_) => no(
                "host.number",
                "This spelling of an address is not taken; write four decimal numbers from 0 to 255, without zeros before them.",
            ),
        }
    }

    /// The name, or the address as it stands in a URL (IPv6 in brackets).
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The address, when it is one and no name.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Whether this name is a label or more below `parent`. An address is below nothing.
    #[must_use]
    pub fn is_below(&self, parent: &str) -> bool {
        self.address.is_none() && self.text.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
    }

    /// The names above this one, nearest first: of `a.b.c` these are `b.c` and `c`.
    pub(crate) fn parents(&self) -> impl Iterator<Item = &str> {
        let text = if self.address.is_none() { self.text.as_str() } else { "" };
        text.match_indices('.').map(move |(at, _)| &text[at + 1..])
    }

    /// Why this host is nobody's public service, whatever it resolves to; None when it may be one.
    ///
    /// The address decides in the end: this is a second wall, and a clearer word.
    #[must_use]
    pub fn private(&self) -> Option<Private> {
        if METADATA.iter().any(|name| self.text == *name || self.is_below(name)) {
            return Some(Private::Metadata);
        }
        match self.address {
            Some(address) if METADATA_ADDRESSES.contains(&address) => Some(Private::Metadata),
            Some(address) if !super::is_public(address) => Some(Private::Address),
            Some(_) => None,
            None if !self.text.contains('.') => Some(Private::Name),
            None => LOCAL.iter().any(|tld| self.is_below(tld)).then_some(Private::Name),
        }
    }
}

/// Why a host is nobody's public service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Private {
    /// It hands out a machine's credentials. No exception exists for it.
    Metadata,
    /// It is an address, and not a public one.
    Address,
    /// It is a name that exists only inside networks: one label, or below a reserved one.
    Name,
}

/// Names of the clouds' metadata services and host agents, and what stands below them. Source: the vendors' own
/// documentation, read 2026-11.
const METADATA: [&str; 9] = [
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "metadata.azure.internal",
    "metadata.tencentyun.com",
    "metadata.packet.net",
    "metadata.platformequinix.com",
    "instance-data",
    "instance-data.ec2.internal",
];

/// Their addresses, those of container credential agents and host agents among them. An exception can reach what is in
/// `100.64.0.0/10` and in `fc00::/7`; the others it cannot reach either, and are here for the clearer word. Source: the
/// vendors' own documentation and software development kits, read 2026-11.
const METADATA_ADDRESSES: [IpAddr; 16] = [
    // The common one: Amazon, Google, Azure, Oracle, OpenStack and most others.
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    // Amazon: the agents of its container services (ECS, and EKS Pod Identity over IPv4 and IPv6), and IMDS over IPv6.
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    unique_local([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23]),
    unique_local([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]),
    // Google, machines with IPv6 alone.
    unique_local([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]),
    // Azure's host agent.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Oracle: its older cloud, and over IPv6.
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    unique_local([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe]),
    // Alibaba, over IPv4 and IPv6.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    unique_local([0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200]),
    // Scaleway, over IPv4 and IPv6.
    IpAddr::V4(Ipv4Addr::new(169, 254, 42, 42)),
    unique_local([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42]),
    // Akamai (Linode), over IPv6.
    unique_local([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1]),
    // Tencent.
    IpAddr::V4(Ipv4Addr::new(169, 254, 0, 23)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 10, 10)),
];

const fn unique_local(segments: [u16; 8]) -> IpAddr {
    let [a, b, c, d, e, f, g, h] = segments;
    IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h))
}

/// Top-level names that no public service has: RFC 6761, 6762, 7686, 8375, ICANN's `internal`, and what networks use as such.
const LOCAL: [&str; 11] = [
    "localhost",
    "local",
    "localdomain",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "home.arpa",
    "onion",
];

/// Whether an address is one of the metadata services'.
pub(crate) fn is_metadata_address(address: IpAddr) -> bool {
    METADATA_ADDRESSES.contains(&address)
}

/// The WHATWG test for a host that some programs read as a number.
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn bracketed(inner: &str) -> Result<Name, Refusal> {
    let Some(inner) = inner.strip_suffix(']') else {
        return Err(Refusal::new("host.address", "An IPv6 address stands in brackets, with nothing after them."));
    };
    if inner.contains('%') {
        return Err(Refusal::new(
            "host.zone",
            "An address with a zone points at a network interface; it is not taken.",
        ));
    }
    match inner.parse::<Ipv6Addr>() {
        Ok(address) => Ok(Name::from(IpAddr::V6(address))),
        Err(_) => Err(Refusal::new("host.address", "What stands in the brackets is no IPv6 address.")),
    }
}

impl From<IpAddr> for Name {
    fn from(address: IpAddr) -> Self {
        let text = match address {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        };
        Self { text, address: Some(address) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
