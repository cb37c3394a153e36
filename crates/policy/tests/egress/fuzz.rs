//! Generators for the parsers and the judge: nothing panics, and what is taken is what it seems to be.
//!
//! The same texts every time. `VOLARY_FUZZ_SECS` lets each generator run on for so many seconds, with further seeds.

use super::stage::{HANDLE, named};
use policy::egress::target::{self, Scheme};
use policy::egress::{Ask, Form, Kind, Law, Name, Signs, Verdict, judge};
use std::time::{Duration, Instant};

/// Texts of each generator when no time is given.
const TEXTS: u64 = 20_000;

/// Runs `one` on numbered seeds.
fn run(mut one: impl FnMut(&mut Random)) {
    let secs = std::env::var("VOLARY_FUZZ_SECS").ok().map(|secs| secs.parse().expect("VOLARY_FUZZ_SECS is a number"));
    let until = secs.map(|secs| Instant::now() + Duration::from_secs(secs));
    let mut seed = 0;
    while seed < TEXTS || until.is_some_and(|until| Instant::now() < until) {
        one(&mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d));
        seed += 1;
    }
}

/// Numbers that are the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
    /// Pieces of a grammar, now and then broken: cut, doubled, or with a character that does not belong.
    fn text(&mut self, pieces: &[&str], most: usize) -> String {
        let mut text: String = (0..self.below(most) + 1).map(|_| self.of(pieces)).collect();
        for _ in 0..self.below(3) {
            let at = text.char_indices().map(|(at, _)| at).nth(self.below(text.chars().count().max(1))).unwrap_or(0);
            match self.below(4) {
                0 => text.truncate(at),
                1 => text.insert(at, char::from_u32(self.next() as u32 % 0x3000).unwrap_or('\u{fffd}')),
                2 => text.insert(at, char::from(self.of(b"@:/\\%#?[]. \t\r\n\0~{}|"))),
                _ => {
                    let again = text[at..].to_owned();
                    text.push_str(&again);
                }
            }
        }
        text
    }
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
        let text = random.text(&pieces, 6);
        if let Ok((host, port)) = target::authority(&text) {
            assert_eq!(target::authority(&format!("{host}:{port}")).as_ref(), Ok(&(host, port)), "{text:?}");
            assert!(port > 0 && !text.contains(['@', '/', '?', '#', '\\', ' ']), "{text:?}");
        }
    });
}

#[test]
fn any_headers_are_read() {
    let values =
        ["", "0", "1", "Bearer ", "Basic ", HANDLE, "dTpw", "=", " ", "websocket", "chunked", "a=b", "vh_", "\u{e4}"];
    run(|random| {
        let lines: Vec<(&str, Vec<u8>)> = (0..random.below(4))
            .map(|_| {
                let name = random.of(&HEADERS);
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
fn rule(random: &mut Random) -> String {
    let host = match random.below(4) {
        0 => random.text(&HOST, 4),
        _ => named(random.of(&[
            "a.example",
            "*.b.example",
            "artifacts",
            "$rust",
            "8.8.8.8",
            "10.1.2.3",
            "api.example.org",
        ])),
    };
    let path = random.of(&["/", "/v1", "/v1/", "/..", "", "/a?b", "/%2e"]);
    let method = random.of(&["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "UPGRADE", "CONNECT", "*"]);
    let port = random.of(&[80, 443, 8443, 0]);
    let quote = |text: &str| serde_json::to_string(text).expect("a text is JSON");
    let (host, path) = (quote(&host), quote(path));
    match random.below(5) {
        0 | 1 => format!(r#""read": [{{"host": {host}, "path": {path}, "port": {port}}}]"#),
        2 => format!(
            r#""write": [{{"capability": "c", "host": {host}, "method": "{method}", "path": {path}, "port": {port}}}]"#
        ),
        3 => format!(
            r#""tunnel": [{{"packages": "{}", "host": {host}, "mib": {port}, "seconds": 9}}]"#,
            random.of(&["rust", "go", "x"])
        ),
        _ => {
            let range =
                random.of(&["10.1.0.0/16", "10.0.0.0/8", "0.0.0.0/0", "8.8.8.8", "127.0.0.1", "fd00::/48", "x"]);
            format!(r#""internal": [{{"host": {host}, "port": {port}, "addresses": ["{range}"]}}]"#)
        }
    }
}

#[test]
fn any_rule_is_right_or_wrong_and_a_right_one_opens_no_more_than_it_names() {
    let mut right = 0;
    run(|random| {
        let reads = random.of(&["any", "listed", "packages", "none"]);
        let table = format!(r#"{{"reads": "{reads}", {}}}"#, rule(random));
        let Ok(table) = serde_json::from_str::<model::Egress>(&table) else { return };
        let Ok(law) = Law::of(&table) else { return };
        right += 1;
        let text = random.text(&TARGET, 6);
        let Ok(to) = target::absolute(&text) else { return };
        let form = if to.scheme == Scheme::Http { Form::Plain } else { Form::Intercepted };
        let header = random.of(&[("x-api-key", HANDLE), ("accept", "*/*"), ("upgrade", "websocket")]);
        let signs = Signs::of([(header.0, header.1.as_bytes())]);
        let method = random.of(&["GET", "HEAD", "POST", "PUT", "DELETE", "UPGRADE", "TRACE"]);
        let ask = Ask { form, method, host: &to.host, port: to.port, path: to.path, signs: &signs };
        if let Verdict::Allow(allowed) = judge(&law, &ask) {
            assert!(to.host.private().is_none() || allowed.internal.is_some(), "{text:?} by {table:?}");
            let read = matches!(allowed.kind, Kind::Read | Kind::Package);
            assert!(read || !table.write.is_empty(), "{method} {text:?} by {table:?}");
            assert!(!read || matches!(method, "GET" | "HEAD"), "{method} {text:?} by {table:?}");
        }
    });
    assert!(right > TEXTS / 20, "only {right} tables were right: the generator has lost its way");
}
