//! What must hold of any text that stands in a CONNECT line, and in the Host header beside it.

use policy::egress::target::{self, Scheme};

/// Holds of any two texts.
pub fn holds(line: &str, header: &str) {
    let Ok((host, port)) = target::authority(line) else { return };
    let again = format!("{host}:{port}");
    assert_eq!(target::authority(&again).as_ref(), Ok(&(host.clone(), port)), "{line:?}");
    assert!(port > 0 && !line.contains(['@', '/', '?', '#', '\\', ' ', '%']), "{line:?}");
    // The second reader is the one that browsers follow.
    let theirs = url::Url::parse(&format!("https://{line}/")).unwrap_or_else(|e| panic!("{line:?}: {e}"));
    let named = theirs.host_str().unwrap_or_default();
    assert_eq!(named.strip_suffix('.').unwrap_or(named), host.as_str(), "{line:?}");
    assert_eq!(theirs.port_or_known_default(), Some(port), "{line:?}");
    // A header that agrees names the same host and port in its own right.
    if let Ok((other, at)) = target::host_header(header, Scheme::Https)
        && (&other, at) == (&host, port)
    {
        let theirs = url::Url::parse(&format!("https://{header}/")).unwrap_or_else(|e| panic!("{header:?}: {e}"));
        let named = theirs.host_str().unwrap_or_default();
        assert_eq!(named.strip_suffix('.').unwrap_or(named), host.as_str(), "{header:?}");
    }
}
