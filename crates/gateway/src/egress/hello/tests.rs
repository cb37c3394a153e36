//! First messages as rustls writes them, and as nobody should.

use super::*;
use proptest::prelude::*;
use std::sync::Arc;

/// What rustls sends first to this host.
fn hello(name: &str) -> Vec<u8> {
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_real_first_message_tells_its_name_once_it_is_whole() {
    let whole = hello("registry.example");
    assert_eq!(look(&whole), Look::Name("registry.example".to_owned()));
    for end in 0..whole.len() {
        assert_eq!(look(&whole[..end]), Look::More, "{end}");
    }
    assert_eq!(look(&hello("93.184.216.34")), Look::Nameless);
}

#[test]
fn a_message_that_never_ends_is_none() {
    let mut endless = vec![HANDSHAKE, 3, 1, 0x40, 0, CLIENT_HELLO, 0, 0x7f, 0xff];
    endless.resize(5 + (1 << 14), 0);
    let record = endless.clone();
    while endless.len() < MAX_HELLO {
        assert_eq!(look(&endless), Look::More);
        endless.extend_from_slice(&record);
    }
    assert_eq!(look(&endless), Look::Other);
}

proptest! {
    #[test]
    fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if look(&bytes) != Look::Other {
            prop_assert!(bytes.first().is_none_or(|b| *b == HANDSHAKE));
        }
    }

    #[test]
    fn a_flipped_byte_never_gives_another_name_that_was_not_written(at in 0_usize..2000, flip in 1_u8..=255) {
        let mut bytes = hello("registry.example");
        let at = at % bytes.len();
        bytes[at] ^= flip;
        if let Look::Name(name) = look(&bytes) {
            prop_assert!(name.len() == "registry.example".len() && name.is_ascii());
        }
    }
}
