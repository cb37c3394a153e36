//! Generators for the parsers and the judge: nothing panics, and what is taken is what it seems to be.
//!
//! The same texts every time; `cargo xtask test` lets each generator run on for a minute (`fuzz/seeds.rs`).

#[path = "../../../../fuzz/claims/connect.rs"]
mod connect;
#[path = "../../../../fuzz/claims/rule.rs"]
mod rule;
#[allow(dead_code, reason = "each crate's generators use some of it")]
#[path = "../../../../fuzz/seeds.rs"]
mod seeds;

use super::stage::{HANDLE, named};
use policy::egress::target::{self, Scheme};
use policy::egress::{Name, Signs};
use seeds::Random;

/// Texts of each generator when no time is given.
const TEXTS: u64 = 20_000;

/// Runs `one` on numbered seeds.
fn run(mut one: impl FnMut(&mut Random)) {
    seeds::run(TEXTS, |seed| one(&mut Random::of(seed)));
}

const HOST: [&str; 30] = [
    "a",
    "example",
    ".",
    ".",
    ".org",
    "a.example",
    "xn--",
    "xn--bcher-kva",
    "127",
    ".0.0.1",
    "0x7f",
    "0177",
    "[",
    "]",
    "::",
    "::1",
    "ffff:",
    "8.8.8.8",
    "169.254.169.254",
    "-",
    "_",
    "ü",
    "Ａ",
    "１",
    "。",
    "%2e",
    "localhost",
    "internal",
    "metadata",
    "*.",
];
const TARGET: [&str; 27] = [
    "http://",
    "https://",
    "HTTP://",
    "ftp://",
    "a.example",
    "x.b.example",
    "127.0.0.1",
    "[::1]",
    ":80",
    ":443",
    ":0",
    ":99999",
    "/",
    "/",
    "/v1",
    "/..",
    "/%2e%2e",
    "//",
    "?a=b",
    "?_method=PUT",
    "&b",
    "#f",
    "user@",
    "user:pass@",
    "*",
    "%00",
    " HTTP/1.1",
];
const HEADERS: [&str; 14] = [
    "authorization",
    "Proxy-Authorization",
    "x-api-key",
    "cookie",
    "upgrade",
    "content-length",
    "transfer-encoding",
    "x-note",
    "x-http-method-override",
    "sec-websocket-key",
    "expect",
    "accept",
    "x-original-url",
    "npm-auth-type",
];

#[test]
fn any_text_is_a_host_or_refused() {
    run(|random| {
        let text = random.text(&HOST, 7);
        let Ok(name) = Name::parse(&text) else { return };
        assert_eq!(Name::parse(name.as_str()).as_ref(), Ok(&name), "{text:?}");
        assert!(!name.as_str().is_empty() && name.as_str().len() <= 253, "{text:?}");
        let theirs = url::Host::parse(&text).unwrap_or_else(|e| panic!("{text:?}: {e}")).to_string();
        assert_eq!(theirs.strip_suffix('.').unwrap_or(&theirs), name.as_str(), "{text:?}");
    });
}

#[test]
fn any_text_is_a_target_that_everybody_reads_alike_or_refused() {
    run(|random| {
        let text = random.text(&TARGET, 7);
        if let Ok(to) = target::absolute(&text) {
            let scheme = if to.scheme == Scheme::Http { "http" } else { "https" };
            let again = format!("{scheme}://{}:{}{}", to.host, to.port, to.path);
            assert_eq!(target::absolute(&again).as_ref(), Ok(&to), "{text:?}");
            let theirs = url::Url::parse(&text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
            let host = theirs.host_str().unwrap_or_default();
            assert_eq!(host.strip_suffix('.').unwrap_or(host), to.host.as_str(), "{text:?}");
            assert_eq!(theirs.port_or_known_default(), Some(to.port), "{text:?}");
            assert!(
                theirs.username().is_empty() && theirs.password().is_none() && theirs.fragment().is_none(),
                "{text:?}"
            );
        }
        // What is an origin target is no other form, and the other way round.
        assert!(target::origin(&text).is_err() || target::absolute(&text).is_err(), "{text:?}");
    });
}

#[test]
fn any_text_is_a_tunnel_s_target_or_refused() {
    let pieces: Vec<&str> =
        HOST.iter().copied().chain([":443", ":443", ":80", ":", "0443", "65536", "@", "/"]).collect();
    run(|random| {
        let line = random.text(&pieces, 6);
        let header = if random.below(2) == 0 { line.clone() } else { random.text(&pieces, 6) };
        connect::holds(&line, &header);
    });
}

#[test]
fn any_headers_are_read() {
    let values =
        ["", "0", "1", "Bearer ", "Basic ", HANDLE, "dTpw", "=", " ", "websocket", "chunked", "a=b", "vh_", "\u{e4}"];
    run(|random| {
        let lines: Vec<(&str, Vec<u8>)> = (0..random.below(4))
            .map(|_| {
                let name = random.pick(&HEADERS);
                let mut value = random.text(&values, 3).into_bytes();
                if random.below(8) == 0 {
                    value.push(random.next() as u8);
                }
                (name, value)
            })
            .collect();
        let signs = Signs::of(lines.iter().map(|(name, value)| (*name, value.as_slice())));
        // A handle in the clear is never overlooked.
        if lines.iter().any(|(_, value)| policy::egress::signs::holds_handle(value)) {
            assert!(!matches!(signs.handle, policy::egress::Handle::None), "{lines:?}");
        }
    });
}

/// One rule of a table, as text that is often right.
fn row(random: &mut Random) -> String {
    let host = match random.below(4) {
        0 => random.text(&HOST, 4),
        _ => named(random.pick(&[
            "a.example",
            "*.b.example",
            "artifacts",
            "$rust",
            "8.8.8.8",
            "10.1.2.3",
            "api.example.org",
        ])),
    };
    let path = random.pick(&["/", "/v1", "/v1/", "/..", "", "/a?b", "/%2e"]);
    let method = random.pick(&["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "UPGRADE", "CONNECT", "*"]);
    let port = random.pick(&[80, 443, 8443, 0]);
    let quote = |text: &str| serde_json::to_string(text).expect("a text is JSON");
    let (host, path) = (quote(&host), quote(path));
    match random.below(5) {
        0 | 1 => format!(r#""read": [{{"host": {host}, "path": {path}, "port": {port}}}]"#),
        2 => format!(
            r#""write": [{{"capability": "c", "host": {host}, "method": "{method}", "path": {path}, "port": {port}}}]"#
        ),
        3 => format!(
            r#""tunnel": [{{"packages": "{}", "host": {host}, "mib": {port}, "seconds": 9}}]"#,
            random.pick(&["rust", "go", "x"])
        ),
        _ => {
            let range =
                random.pick(&["10.1.0.0/16", "10.0.0.0/8", "0.0.0.0/0", "8.8.8.8", "127.0.0.1", "fd00::/48", "x"]);
            format!(r#""internal": [{{"host": {host}, "port": {port}, "addresses": ["{range}"]}}]"#)
        }
    }
}

#[test]
fn any_rule_is_right_or_wrong_and_a_right_one_opens_no_more_than_it_names() {
    let (mut tried, mut right) = (0, 0);
    run(|random| {
        tried += 1;
        let reads = random.pick(&["any", "listed", "packages", "none"]);
        let table = format!(r#"{{"reads": "{reads}", {}}}"#, row(random));
        let text = random.text(&TARGET, 6);
        let header = random.pick(&[("x-api-key", HANDLE), ("accept", "*/*"), ("upgrade", "websocket")]);
        let method = random.pick(&["GET", "HEAD", "POST", "PUT", "DELETE", "UPGRADE", "TRACE"]);
        right += u64::from(rule::holds(&table, method, &text, header));
    });
    assert!(right >= tried / 20, "only {right} tables of {tried} were right: the generator has lost its way");
}
