//! The three forms of a request's target.

use policy::egress::target::{Scheme, absolute, authority, host_header, origin};

fn read(text: &str) -> String {
    absolute(text).map_or_else(
        |no| no.rule.to_owned(),
        |to| {
            let scheme = if to.scheme == Scheme::Http { "http" } else { "https" };
            format!("{scheme} {} {} {}", to.host, to.port, to.path)
        },
    )
}

#[test]
fn an_absolute_url_is_read_in_one_way_or_not_at_all() {
    let long = format!("http://example.org/{}", "a".repeat(16 * 1024));
    for (text, expected) in [
        ("http://example.org/", "http example.org 80 /"),
        ("http://example.org", "http example.org 80 /"),
        ("HTTP://EXAMPLE.org/A", "http example.org 80 /A"),
        ("https://example.org/a?b=c&d", "https example.org 443 /a?b=c&d"),
        ("http://example.org:8080/a", "http example.org 8080 /a"),
        ("http://example.org.:80/", "http example.org 80 /"),
        ("http://[::1]:81/x", "http [::1] 81 /x"),
        ("http://[::1]/x", "http [::1] 80 /x"),
        ("http://1.2.3.4/", "http 1.2.3.4 80 /"),
        ("http://example.org/a/../b", "http example.org 80 /a/../b"),
        ("http://example.org/%2e%2e/b", "http example.org 80 /%2e%2e/b"),
        ("http://example.org//x", "http example.org 80 //x"),
        ("http://example.org/@user:1", "http example.org 80 /@user:1"),
        ("http://example.org?a=b", "target.path"),
        ("http://example.org#a", "target.path"),
        ("http://example.org/#a", "target.path"),
        ("http://example.org/a b", "target.path"),
        ("http://example.org/a\\b", "target.path"),
        ("http://example.org/ä", "target.path"),
        ("http://example.org/\r\nHost: b", "target.path"),
        ("http://example.org/\0", "target.path"),
        ("/", "target.form"),
        ("*", "target.form"),
        ("example.org:443", "target.form"),
        ("", "target.form"),
        ("ftp://example.org/", "target.scheme"),
        ("file:///etc/passwd", "target.scheme"),
        ("gopher://example.org/", "target.scheme"),
        ("ws://example.org/", "target.scheme"),
        (" http://example.org/", "target.scheme"),
        ("http:///etc", "host.empty"),
        ("http://:80/", "host.empty"),
        ("http:// example.org/", "host.character"),
        ("http://example.org:/", "target.port"),
        ("http://example.org:0/", "target.port"),
        ("http://example.org:080/", "target.port"),
        ("http://example.org:65536/", "target.port"),
        ("http://example.org:+80/", "target.port"),
        ("http://example.org:8 0/", "target.port"),
        ("http://example.org:80:80/", "host.port"),
        ("http://::1/", "host.port"),
        ("http://user@example.org/", "host.userinfo"),
        ("http://user:pass@example.org/", "host.userinfo"),
        ("http://user:80@example.org/", "host.userinfo"),
        ("http://example.org\\@evil.example/", "host.userinfo"),
        ("http://example.org\\.evil.example/", "host.character"),
        ("http://0x7f.1/", "host.number"),
        ("http://2130706433/", "host.number"),
        ("http://[::1/", "host.address"),
        ("http://[fe80::1%25lo]/", "host.zone"),
        (long.as_str(), "target.long"),
    ] {
        assert_eq!(read(text), expected, "{text:?}");
    }
}

#[test]
fn a_tunnel_names_host_and_port() {
    let read = |text| authority(text).map_or_else(|no| no.rule.to_owned(), |(host, port)| format!("{host} {port}"));
    for (text, expected) in [
        ("example.org:443", "example.org 443"),
        ("EXAMPLE.org.:443", "example.org 443"),
        ("[::1]:443", "[::1] 443"),
        ("1.2.3.4:1", "1.2.3.4 1"),
        ("example.org:65535", "example.org 65535"),
        ("example.org", "target.port"),
        ("example.org:", "target.port"),
        ("example.org:0", "target.port"),
        ("example.org:0443", "target.port"),
        ("example.org:443443", "target.port"),
        ("example.org:https", "target.port"),
        ("example.org:443/", "target.port"),
        ("example.org:443 ", "target.port"),
        ("[::1]", "target.port"),
        (":443", "host.empty"),
        ("", "host.empty"),
        ("http://example.org:443", "host.port"),
        ("user@example.org:443", "host.userinfo"),
        ("example.org:443@evil.example:443", "host.userinfo"),
        ("example.org:443:443", "host.port"),
        ("[::1]]:443", "host.address"),
        ("0177.0.0.1:443", "host.number"),
    ] {
        assert_eq!(read(text), expected, "{text:?}");
    }
}

#[test]
fn a_host_header_without_a_port_has_its_scheme_s() {
    let host =
        |text, scheme| host_header(text, scheme).map(|(host, port)| format!("{host} {port}")).map_err(|no| no.rule);
    assert_eq!(host("Example.org", Scheme::Https).unwrap(), "example.org 443");
    assert_eq!(host("example.org", Scheme::Http).unwrap(), "example.org 80");
    assert_eq!(host("example.org:8443", Scheme::Https).unwrap(), "example.org 8443");
    assert_eq!(host("", Scheme::Https), Err("host.empty"));
    assert_eq!(host("a.example, b.example", Scheme::Https), Err("host.character"));
}

#[test]
fn an_origin_target_begins_with_a_slash() {
    assert_eq!(origin("/a?b").unwrap(), "/a?b");
    for bad in ["", "a", "*", "http://example.org/", "/a#b", "/a b", "/\u{e4}"] {
        assert_eq!(origin(bad).unwrap_err().rule, "target.path", "{bad:?}");
    }
}
