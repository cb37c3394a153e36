//! On whose ground a host's addresses lie: for a host that an administrator named for the platform itself, which may be
//! one of the own network, and for the hosts that such a one sends it on to, which nobody named.

use super::address::{is_own, is_public};
use super::host::is_metadata_address;
use crate::Refusal;
use std::net::IpAddr;

/// Where all addresses of one host lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// On this very host.
    Loopback,
    /// In the own network: private and carrier addresses.
    Own,
    /// Outside.
    Public,
}

impl Ground {
    /// Of the addresses of one host.
    ///
    /// # Errors
    /// `ground.none` for no address; `ground.nobodys` for one that is a metadata service, link-local, multicast or
    /// translated; `ground.mixed` where they lie on different ground.
    pub fn of(addresses: &[IpAddr]) -> Result<Self, Refusal> {
        let mut all = addresses.iter().map(|address| one(*address));
        let Some(first) = all.next() else {
            return Err(Refusal::new("ground.none", "The host has no address."));
        };
        let nobodys = || {
            let why = "An address of the host is one at which no such service is: link-local, a machine's metadata, multicast or translated.";
            Refusal::new("ground.nobodys", why)
        };
        let first = first.ok_or_else(nobodys)?;
        for other in all {
            if other.ok_or_else(nobodys)? != first {
                let why = "The host's addresses lie partly in the own network and partly outside it.";
                return Err(Refusal::new("ground.mixed", why));
            }
        }
        Ok(first)
    }

    /// Whether a host on this ground may send a caller on to one on that ground: outside, or to its own kind.
    #[must_use]
    pub fn leads_to(self, other: Self) -> bool {
        other == Self::Public || other == self
    }
}

fn one(address: IpAddr) -> Option<Ground> {
    match address {
        _ if is_metadata_address(address) => None,
        _ if address.is_loopback() => Some(Ground::Loopback),
        _ if is_public(address) => Some(Ground::Public),
        _ => is_own(address).then_some(Ground::Own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Result<Ground, &'static str> {
        let addresses: Vec<IpAddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Ground::of(&addresses).map_err(|no| no.rule)
    }

    #[test]
    fn every_address_counts_and_they_lie_on_one_ground() {
        for (texts, ground) in [
            (&["127.0.0.1", "::1"][..], Ground::Loopback),
            (&["10.1.2.3", "fd12::1", "100.64.0.1"], Ground::Own),
            (&["192.168.0.1"], Ground::Own),
            (&["93.184.216.34", "2606:2800:220:1::34"], Ground::Public),
        ] {
            assert_eq!(of(texts), Ok(ground), "{texts:?}");
        }
        for mixed in [&["10.0.0.1", "93.184.216.34"][..], &["127.0.0.1", "10.0.0.1"], &["::1", "2606:2800::1"]] {
            assert_eq!(of(mixed), Err("ground.mixed"), "{mixed:?}");
        }
        let nobodys = [
            "169.254.169.254",
            "169.254.1.1",
            "fe80::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "224.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::1",
            "168.63.129.16",
        ];
        for address in nobodys {
            assert_eq!(of(&[address]), Err("ground.nobodys"), "{address}");
            assert_eq!(of(&["10.0.0.1", address]), Err("ground.nobodys"), "{address}");
        }
        assert_eq!(of(&[]), Err("ground.none"));
    }

    #[test]
    fn one_is_sent_on_outside_or_to_the_same_ground_and_never_further_in() {
        use Ground::{Loopback, Own, Public};
        for (from, to, may) in [
            (Public, Public, true),
            (Public, Own, false),
            (Public, Loopback, false),
            (Own, Public, true),
            (Own, Own, true),
            (Own, Loopback, false),
            (Loopback, Public, true),
            (Loopback, Own, false),
            (Loopback, Loopback, true),
        ] {
            assert_eq!(from.leads_to(to), may, "{from:?} to {to:?}");
        }
    }
}
