//! What must hold of any bytes that come as the first message of TLS. Whoever includes this file has `hello` beside it.
//!
//! The second reader is rustls, which other programs are built with: it finds the name that was found here, or no message.

use super::hello::{Look, MAX_HELLO, look};
use rustls::server::Acceptor;
use std::net::IpAddr;

/// Holds of any bytes.
pub fn holds(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(2 * MAX_HELLO)];
    let said = look(bytes);
    // What was decided stays so, whatever comes after; and a part of what is undecided is undecided.
    for end in (0..bytes.len()).step_by(1 + bytes.len() / 64) {
        let earlier = look(&bytes[..end]);
        assert!(earlier == Look::More || earlier == said, "{earlier:?} became {said:?}: {}", bytes.escape_ascii());
    }
    if said == Look::More {
        assert!(bytes.len() < MAX_HELLO);
    }
    let Look::Name(name) = said else { return };
    assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()));
    let Some(theirs) = second_reading(bytes) else { return };
    match theirs {
        Some(theirs) => assert!(theirs.eq_ignore_ascii_case(&name), "{theirs} and {name}"),
        // An address is no name there, and what is no name it ignores.
        None => assert!(name.parse::<IpAddr>().is_ok() || !is_plain(&name), "{name} was overlooked"),
    }
}

fn is_plain(name: &str) -> bool {
    name.split('.').all(|label| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// The name that the second reader finds; none when it reads no whole first message.
fn second_reading(bytes: &[u8]) -> Option<Option<String>> {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    loop {
        if acceptor.read_tls(&mut rest).ok()? == 0 {
            return None;
        }
        if let Some(accepted) = acceptor.accept().ok()? {
            return Some(accepted.client_hello().server_name().map(str::to_owned));
        }
    }
}
