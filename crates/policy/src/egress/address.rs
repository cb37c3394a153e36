//! Which addresses exist for a connection that a box can steer.
//!
//! An *allow* table: hand-written lists of what is private miss one range after the other
//! (mapped, translated, tunnelled, documentation, benchmarking …), so whatever is not clearly a
//! public unicast address is refused. Callers check *every* address a name resolves to and then
//! connect to that very address; a name is never judged, only what it became.
//!
//! What this cannot know: a network's own NAT64 prefix carved out of public space, and public
//! addresses that answer only inside someone's cloud, apart from the one that is listed.

use super::host::is_metadata_address;
use crate::Refusal;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4: everything outside the IANA special-purpose registry (read 2026-11), multicast and class E.
/// Entries the registry calls globally reachable (AS112, AMT) stay out: no run has business there.
const V4_OUT: [Ipv4Net; 18] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 31, 196, 0, 24),
    v4(192, 52, 193, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(192, 175, 48, 0, 24),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 3),
    // Azure's host agent: public by the registry, answers with a machine's credentials from inside it.
    v4(168, 63, 129, 16, 32),
];

/// IPv6: global unicast is all that may be …
const V6_IN: Ipv6Net = v6([0x2000, 0, 0, 0], 3);

/// … minus what the registry takes out of it.
const V6_OUT: [Ipv6Net; 5] = [
    // Protocol assignments: Teredo, ORCHID, benchmarking, AMT, anycast.
    v6([0x2001, 0, 0, 0], 23),
    v6([0x2001, 0x0db8, 0, 0], 32),
    // 6to4 carries an IPv4 address, any of them.
    v6([0x2002, 0, 0, 0], 16),
    v6([0x2620, 0x004f, 0x8000, 0], 48),
    v6([0x3fff, 0, 0, 0], 20),
];

const fn v4(a: u8, b: u8, c: u8, d: u8, len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), len)
}

const fn v6(head: [u16; 4], len: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(head[0], head[1], head[2], head[3], 0, 0, 0, 0), len)
}

/// Whether `addr` is a public unicast address that a box may be connected to.
///
/// IPv4 in any IPv6 dress (mapped, compatible, NAT64, 6to4, Teredo, ISATAP) is refused as such,
/// also when the address inside is public: it has a plain form, and that form can be asked for.
#[must_use]
pub fn is_public(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => !V4_OUT.iter().any(|net| net.contains(&addr)),
        IpAddr::V6(addr) => V6_IN.contains(&addr) && !V6_OUT.iter().any(|net| net.contains(&addr)) && !isatap(addr),
    }
}

/// ISATAP (RFC 5214) hides an IPv4 address behind any prefix: interface id `0000:5efe:` or `0200:5efe:`.
fn isatap(addr: Ipv6Addr) -> bool {
    let part = addr.segments();
    part[5] == 0x5efe && part[4] & !0x0200 == 0
}

/// Where an exception's ranges may lie: private, carrier and loopback addresses, and those for documentation and
/// benchmarks, which test networks use. Nothing link-local, multicast, reserved or translated.
const EXCEPTIONS: [IpNet; 12] = [
    IpNet::V4(v4(10, 0, 0, 0, 8)),
    IpNet::V4(v4(100, 64, 0, 0, 10)),
    IpNet::V4(v4(127, 0, 0, 0, 8)),
    IpNet::V4(v4(172, 16, 0, 0, 12)),
    IpNet::V4(v4(192, 168, 0, 0, 16)),
    IpNet::V4(v4(192, 0, 2, 0, 24)),
    IpNet::V4(v4(198, 18, 0, 0, 15)),
    IpNet::V4(v4(198, 51, 100, 0, 24)),
    IpNet::V4(v4(203, 0, 113, 0, 24)),
    IpNet::V6(v6([0xfc00, 0, 0, 0], 7)),
    IpNet::V6(v6([0x2001, 0x0db8, 0, 0], 32)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
];

/// Whether an address is of somebody's own network, or of a test's: private, carrier, documentation and benchmarks.
pub(super) fn is_own(address: IpAddr) -> bool {
    EXCEPTIONS.iter().any(|net| net.contains(&address))
}

/// The widest range of an exception, as a prefix length: a /16 of IPv4, a /48 of IPv6.
const WIDEST: (u8, u8) = (16, 48);

/// The ranges of one exception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ranges(Vec<IpNet>);

impl Ranges {
    /// Reads ranges (`10.2.3.0/24`) and single addresses.
    ///
    /// # Errors
    /// A sentence that names the range.
    pub(super) fn parse(texts: &[String]) -> Result<Self, String> {
        if texts.is_empty() {
            return Err("it names no addresses".into());
        }
        texts.iter().map(|text| range(text)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether `address` is in one of them, and no metadata service.
    pub(super) fn contain(&self, address: IpAddr) -> bool {
        !is_metadata_address(address) && self.0.iter().any(|range| range.contains(&address))
    }
}

fn range(text: &str) -> Result<IpNet, String> {
    let one = text.parse::<IpAddr>().map(IpNet::from);
    let range = one.or_else(|_| text.parse::<IpNet>()).map_err(|_| format!("{text:?} is no address and no range"))?;
    if range.trunc() != range {
        return Err(format!("{text} has bits behind its length; the range is {}", range.trunc()));
    }
    if !EXCEPTIONS.iter().any(|net| net.contains(&range)) {
        return Err(format!("{text} is not a private range; public addresses need no exception, and others have none"));
    }
    let (v4, v6) = WIDEST;
    let too_wide = match range {
        // The machine's own services: each by its address.
        IpNet::V4(net) if net.addr().is_loopback() => net.prefix_len() < 32,
        IpNet::V4(net) => net.prefix_len() < v4,
        IpNet::V6(net) => net.prefix_len() < v6,
    };
    if too_wide {
        return Err(format!(
            "{text} is too wide: at most a /{v4} of IPv4 or a /{v6} of IPv6, and one address of loopback"
        ));
    }
    Ok(range)
}

/// Whether all of `addresses` may be connected to: all public, or, where there is an exception, all in its ranges and
/// nowhere else. What is inside goes past the proxy that leads outside and past the look at what is near, so a name
/// that turned public must not come with it.
///
/// # Errors
/// `address.none`, `address.metadata`, `address.private`, `address.mixed`, `address.outside`. The words name no address:
/// what a private name resolves to is not the box's to know.
pub(super) fn check(addresses: &[IpAddr], exception: Option<&Ranges>) -> Result<(), Refusal> {
    if addresses.is_empty() {
        return Err(Refusal::new("address.none", "The name has no address."));
    }
    if addresses.iter().any(|address| is_metadata_address(*address)) {
        return Err(Refusal::new(
            "address.metadata",
            "The name leads to a service that hands out a machine's credentials.",
        ));
    }
    let all = addresses.len();
    let public = addresses.iter().filter(|address| is_public(**address)).count();
    let taken = exception.map_or(public, |ranges| addresses.iter().filter(|address| ranges.contain(**address)).count());
    let (rule, why) = match exception {
        _ if taken == all => return Ok(()),
        Some(_) if public == all => (
            "address.outside",
            "The profile's exception says that this host is a service inside, and its name leads outside.",
        ),
        _ if public == 0 => (
            "address.private",
            "The name leads to an address that is not public, and the profile has no exception for it.",
        ),
        _ => ("address.mixed", "The name leads to public and to other addresses at once; that is refused as a whole."),
    };
    Err(Refusal::new(rule, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_unicast_addresses_are_allowed() {
        for addr in [
            "1.0.0.0",
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "140.82.112.3",
            "160.79.104.10",
            "168.63.129.15",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700::1111",
            "2a00:1450:4001::200e",
            "2620:4f:8001::1",
            "3ffe::1",
            "3fff:1000::",
        ] {
            assert!(is_public(addr.parse().unwrap()), "{addr} was refused");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let all = include_str!("not_public.txt").lines().filter(|line| !line.starts_with('#'));
        for addr in all {
            assert!(!is_public(addr.parse().unwrap()), "{addr} was allowed");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_address_in_ipv6_dress_is_allowed_unless_it_is_global_unicast(bits: u128) {
            let addr = Ipv6Addr::from_bits(bits);
            if is_public(IpAddr::V6(addr)) {
                proptest::prop_assert_eq!(addr.segments()[0] >> 13, 1);
                proptest::prop_assert_eq!(addr.to_ipv4(), None);
            }
        }
    }
}
