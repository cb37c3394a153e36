//! Addresses that look public and are this host's own, or on a network that it stands in: its own public address, a
//! router or a printer beside it on IPv6. What listens there listens for the inside, so it takes an exception to reach.
//!
//! Read [`Near::now`], then [`Near::why_not`].

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::sys::socket::SockaddrStorage;
use std::io;
use std::net::IpAddr;

/// The shortest prefixes, in bits, that are taken for a network that this host stands in, of IPv4 and IPv6: what is
/// shorter is a way of writing "everything", and then the address itself is meant.
const SHORTEST: (u32, u32) = (8, 16);

/// The networks that this host stands in.
#[derive(Debug)]
pub(crate) struct Near(Vec<(IpAddr, u32)>);

impl Near {
    /// As the kernel has them now.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn now() -> io::Result<Self> {
        Ok(Self(getifaddrs()?.filter_map(|interface| network(&interface)).collect()))
    }

    /// Why one of these addresses is not connected to, if one is near.
    pub(crate) fn why_not(&self, addresses: &[IpAddr]) -> Option<&'static str> {
        let addresses = addresses.iter().map(IpAddr::to_canonical);
        let mut why = None;
        for address in addresses {
            if self.0.iter().any(|(own, _)| *own == address) {
                return Some("This address is the host's own; what listens there is not for boxes.");
            }
            if self.0.iter().any(|(own, bits)| shares(*own, address, *bits)) {
                why =
                    Some("This address is on a network that the host stands in; what listens there is not for boxes.");
            }
        }
        why
    }
}

fn network(interface: &InterfaceAddress) -> Option<(IpAddr, u32)> {
    let own = ip(interface.address.as_ref()?)?;
    let (shortest, all) = if own.is_ipv4() { (SHORTEST.0, 32) } else { (SHORTEST.1, 128) };
    let bits = match interface.netmask.as_ref().and_then(ip) {
        Some(IpAddr::V4(mask)) => mask.to_bits().leading_ones(),
        Some(IpAddr::V6(mask)) => mask.to_bits().leading_ones(),
        None => all,
    };
    Some((own, if bits < shortest { all } else { bits }))
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let four = address.as_sockaddr_in().map(|four| IpAddr::V4(four.ip()));
    four.or_else(|| address.as_sockaddr_in6().map(|six| IpAddr::V6(six.ip()).to_canonical()))
}

/// Whether the first bits of two addresses are the same.
fn shares(one: IpAddr, other: IpAddr, bits: u32) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros() >= bits,
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros() >= bits,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_host_and_one_beside_it_are_near_and_no_other_is() {
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let near = Near(vec![(at("8.8.4.4"), 32), (at("203.0.113.9"), 29), (at("2606:4700:1234::1"), 64)]);
        let own = |address: &str| near.why_not(&[at("1.1.1.1"), at(address)]).map(|why| why.contains("own"));
        assert_eq!(own("8.8.4.4"), Some(true));
        assert_eq!(own("::ffff:8.8.4.4"), Some(true));
        assert_eq!(own("203.0.113.14"), Some(false));
        assert_eq!(own("2606:4700:1234::99"), Some(false));
        for far in ["8.8.4.5", "203.0.113.16", "2606:4700:1234:1::1", "1.1.1.1"] {
            assert_eq!(own(far), None, "{far}");
        }
    }

    #[test]
    fn the_kernel_is_asked() {
        let near = Near::now().unwrap();
        assert!(near.why_not(&[IpAddr::from([127, 0, 0, 1])]).is_some(), "{near:?}");
    }
}
