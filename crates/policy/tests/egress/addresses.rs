//! What a name may become.

use super::stage::law;
use policy::egress::{Law, Name};
use std::net::IpAddr;

fn check(law: &Law, addresses: &str, internal: Option<usize>) -> &'static str {
    let addresses: Vec<IpAddr> = addresses.split_whitespace().map(|address| address.parse().unwrap()).collect();
    law.check_addresses(&addresses, internal).map_or_else(|no| no.rule, |()| "ok")
}

#[test]
fn all_addresses_are_public_or_the_name_is_refused() {
    let law = law("");
    for (addresses, rule) in [
        ("8.8.8.8", "ok"),
        ("8.8.8.8 1.1.1.1 2606:4700::1111", "ok"),
        ("", "address.none"),
        ("127.0.0.1", "address.private"),
        ("10.0.0.1 10.0.0.2", "address.private"),
        ("::1", "address.private"),
        ("::ffff:8.8.8.8", "address.private"),
        ("64:ff9b::808:808", "address.private"),
        ("192.0.2.1", "address.private"),
        ("8.8.8.8 127.0.0.1", "address.mixed"),
        ("127.0.0.1 8.8.8.8", "address.mixed"),
        ("8.8.8.8 ::ffff:8.8.8.8", "address.mixed"),
        ("2606:4700::1111 fe80::1", "address.mixed"),
        ("169.254.169.254", "address.metadata"),
        ("8.8.8.8 169.254.169.254", "address.metadata"),
        ("168.63.129.16", "address.metadata"),
        ("100.100.100.200", "address.metadata"),
        ("fd00:ec2::254", "address.metadata"),
    ] {
        assert_eq!(check(&law, addresses, None), rule, "{addresses}");
    }
}

#[test]
fn an_exception_takes_addresses_of_its_range_alone_and_metadata_never() {
    let law = law("internal = [
            { host = 'a', port = 80, addresses = ['10.2.3.0/24', 'fd12:3456::/64'] },
            { host = 'b', port = 80, addresses = ['100.100.0.0/16', 'fd00:ec2::/48'] },
            { host = 'c', port = 80, addresses = ['127.0.0.1', '::1'] },
            { host = 'd', port = 80, addresses = ['fd00:c1::/48', 'fd00:42::/48', 'fd00:100::/48', 'fd00:a9fe:a9fe::/48'] },
        ]");
    for (addresses, row, rule) in [
        ("10.2.3.4", 0, "ok"),
        ("10.2.3.0 10.2.3.255 fd12:3456::1", 0, "ok"),
        ("10.2.4.0", 0, "address.private"),
        ("10.2.3.4 10.2.4.4", 0, "address.private"),
        ("10.2.3.4 8.8.8.8", 0, "address.mixed"),
        ("::ffff:10.2.3.4", 0, "address.private"),
        // A name that turned public is no service inside any more.
        ("8.8.8.8", 0, "address.outside"),
        ("8.8.8.8 2606:4700::1111", 0, "address.outside"),
        ("8.8.8.8", 2, "address.outside"),
        ("127.0.0.1", 0, "address.private"),
        ("100.100.1.1", 1, "ok"),
        ("100.100.100.200", 1, "address.metadata"),
        ("fd00:ec2::253", 1, "ok"),
        ("fd00:ec2::254", 1, "address.metadata"),
        ("fd00:ec2::23", 1, "address.metadata"),
        ("fd00:c1::1 fd00:42::1 fd00:100::1 fd00:a9fe:a9fe::2", 3, "ok"),
        ("fd00:c1::a9fe:a9fe", 3, "address.metadata"),
        ("fd00:42::42", 3, "address.metadata"),
        ("fd00:100::100:200", 3, "address.metadata"),
        ("fd00:a9fe:a9fe::1", 3, "address.metadata"),
        ("127.0.0.1 ::1", 2, "ok"),
        ("127.0.0.2", 2, "address.private"),
        // A row that is not there is no exception.
        ("10.2.3.4", 4, "address.private"),
    ] {
        assert_eq!(check(&law, addresses, Some(row)), rule, "{addresses} by row {row}");
    }
    assert_eq!(check(&law, "10.2.3.4", None), "address.private");
}

#[test]
fn what_is_refused_names_no_address() {
    for addresses in [["10.77.3.4"].as_slice(), &["10.77.3.4", "8.8.8.8"]] {
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let no = law("").check_addresses(&addresses, None).unwrap_err();
        assert!(!no.why.contains("10.77"), "{no}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn nothing_private_ever_passes(bits in proptest::collection::vec((proptest::prelude::any::<bool>(), proptest::prelude::any::<u128>()), 0..5)) {
        let addresses: Vec<IpAddr> = bits
            .into_iter()
            .map(|(six, bits)| if six { IpAddr::V6(bits.into()) } else { IpAddr::V4((bits as u32).into()) })
            .collect();
        let all = !addresses.is_empty() && addresses.iter().all(|address| policy::egress::is_public(*address));
        proptest::prop_assert_eq!(law("").check_addresses(&addresses, None).is_ok(), all);
        for address in addresses {
            let public = Name::from(address).private().is_none();
            proptest::prop_assert_eq!(public, policy::egress::is_public(address));
        }
    }
}
