//! What headers carry.

use super::stage::HANDLE;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use policy::egress::signs::{Place, holds_handle};
use policy::egress::{Handle, Signs};

/// What one header is read as, in a word.
fn read(name: &str, value: &str) -> String {
    let signs = Signs::of([(name, value.as_bytes())]);
    let mut words = Vec::new();
    for (word, set) in [
        ("upgrade", signs.upgrade),
        ("body", signs.body),
        ("override", signs.overrides),
        ("credential", signs.credential),
        ("cookie", signs.cookie),
    ] {
        if set {
            words.push(word.to_owned());
        }
    }
    match &signs.handle {
        Handle::None => {}
        Handle::Misplaced => words.push("misplaced".into()),
        Handle::Shown { header, handle, place } => {
            assert_eq!(handle.expose(), HANDLE);
            let place = match place {
                Place::Whole => "whole",
                Place::AfterWord => "after a word",
                Place::BasicUser => "basic user",
            };
            words.push(format!("{header} {place}"));
        }
    }
    words.join(", ")
}

fn basic(text: &str) -> String {
    format!("Basic {}", STANDARD.encode(text))
}

#[test]
fn each_header_is_read_for_what_it_carries() {
    for (name, value, expected) in [
        ("accept", "*/*", ""),
        ("user-agent", "npm/10", ""),
        ("npm-auth-type", "web", ""),
        ("if-none-match", "\"abc\"", ""),
        ("range", "bytes=0-", ""),
        ("content-type", "application/json", ""),
        ("content-length", "0", ""),
        ("content-length", " 0 ", ""),
        ("content-length", "1", "body"),
        ("content-length", "-0", "body"),
        ("content-length", "0, 0", "body"),
        ("content-length", "", "body"),
        ("Transfer-Encoding", "identity", "body"),
        ("expect", "100-continue", "body"),
        ("Upgrade", "websocket", "upgrade"),
        ("upgrade", "h2c", "upgrade"),
        ("Sec-WebSocket-Key", "x", "upgrade"),
        ("HTTP2-Settings", "x", "upgrade"),
        ("X-HTTP-Method-Override", "GET", "override"),
        ("x-http-method", "GET", "override"),
        ("http-method-override", "GET", "override"),
        ("x-original-url", "/", "override"),
        ("x-host", "a", "override"),
        ("forwarded", "host=a", "override"),
        ("x-forwarded-for", "1.1.1.1", ""),
        ("Cookie", "a=b", "cookie"),
        ("authorization", "Bearer abc", "credential"),
        ("Proxy-Authorization", "Basic dTpw", "credential"),
        ("X-Api-Key", "abc", "credential"),
        ("x-auth-key", "abc", "credential"),
        ("x-functions-key", "abc", "credential"),
        ("my-secret", "abc", "credential"),
        ("x-vault-token", "abc", "credential"),
        ("dpop-signature", "abc", "credential"),
    ] {
        assert_eq!(read(name, value), expected, "{name}: {value}");
    }
}

#[test]
fn a_handle_is_taken_where_a_credential_stands_and_nowhere_else() {
    let bearer = format!("Bearer {HANDLE}");
    for (name, value, expected) in [
        ("Authorization", bearer.clone(), "authorization after a word"),
        ("authorization", format!("token {HANDLE}"), "authorization after a word"),
        ("authorization", HANDLE.to_owned(), "authorization whole"),
        ("x-api-key", HANDLE.to_owned(), "x-api-key whole"),
        ("private-token", HANDLE.to_owned(), "private-token whole"),
        ("authorization", basic(&format!("{HANDLE}:")), "authorization basic user"),
        ("authorization", basic(&format!("{HANDLE}:x-oauth-basic")), "authorization basic user"),
        ("authorization", basic(&format!("user:{HANDLE}")), "misplaced"),
        ("authorization", basic(&format!("{HANDLE}:secret")), "misplaced"),
        ("authorization", basic(HANDLE), "misplaced"),
        ("authorization", basic(&format!("a{HANDLE}:")), "misplaced"),
        ("authorization", basic("user:pass"), "credential"),
        ("authorization", format!("Basic {HANDLE}"), "misplaced"),
        ("authorization", format!("Bearer  {HANDLE}"), "misplaced"),
        ("authorization", format!("Bearer {HANDLE} "), "misplaced"),
        ("authorization", format!("Bearer {HANDLE}, Bearer {HANDLE}"), "misplaced"),
        ("authorization", format!("Digest username=\"{HANDLE}\""), "misplaced"),
        ("proxy-authorization", bearer, "misplaced"),
        ("x-note", HANDLE.to_owned(), "misplaced"),
        ("user-agent", format!("a {HANDLE}"), "misplaced"),
        ("x-api-key", format!("{HANDLE}a"), "misplaced"),
        ("x-api-key", HANDLE[..54].to_owned(), "credential"),
        ("x-api-key", HANDLE.to_uppercase(), "credential"),
    ] {
        assert_eq!(read(name, &value), expected, "{name}: {value}");
    }
    let cookie = read("cookie", &format!("a={HANDLE}"));
    assert_eq!(cookie, "cookie, misplaced");
}

#[test]
fn two_handles_are_one_too_many_whichever_header_comes_first() {
    for names in [["x-api-key", "authorization"], ["authorization", "x-api-key"], ["x-api-key", "x-api-key"]] {
        let signs = Signs::of(names.map(|name| (name, HANDLE.as_bytes())));
        assert!(matches!(signs.handle, Handle::Misplaced), "{names:?}");
    }
}

#[test]
fn a_value_that_is_no_text_is_looked_through_all_the_same() {
    let mut value = vec![0xff];
    value.extend(HANDLE.as_bytes());
    assert!(matches!(Signs::of([("x-a", value.as_slice())]).handle, Handle::Misplaced));
    assert!(holds_handle(&value));
    assert!(!holds_handle(&value[..value.len() - 1]));
    assert!(!holds_handle(b"vh_"));
    assert!(!holds_handle(b""));
}

#[test]
fn signs_never_print_the_handle() {
    let signs = Signs::of([("x-api-key", HANDLE.as_bytes())]);
    assert!(!format!("{signs:?}").contains(HANDLE));
}

/// Every way in which a text can hide a handle that is looked for.
fn hidden() -> Vec<(String, Vec<u8>)> {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    let mut all = vec![
        ("as it is".to_owned(), HANDLE.into()),
        ("its first letter percent-encoded".to_owned(), HANDLE.replacen('v', "%76", 1).into_bytes()),
        ("its line percent-encoded".to_owned(), HANDLE.replacen('_', "%5F", 1).into_bytes()),
        (
            "all percent-encoded".to_owned(),
            HANDLE.bytes().map(|b| format!("%{b:02x}")).collect::<String>().into_bytes(),
        ),
    ];
    for (name, base) in
        [("standard", STANDARD), ("bare", STANDARD_NO_PAD), ("for URLs", URL_SAFE), ("bare for URLs", URL_SAFE_NO_PAD)]
    {
        for before in 0..4 {
            for after in 0..3 {
                let text = format!("{}{HANDLE}{}", "?".repeat(before), "~".repeat(after));
                all.push((format!("in base64, {name}, {before} before and {after} after"), base.encode(text).into()));
            }
        }
    }
    all
}

#[test]
fn a_handle_is_found_in_percent_encoding_and_in_base64_wherever_it_begins() {
    use policy::egress::signs::hides_handle;
    for (what, text) in hidden() {
        for around in ["", "x", "xy=", "one two/three?", "aaaa"] {
            let text = [around.as_bytes(), &text, around.as_bytes()].concat();
            assert!(hides_handle(&text), "{what} between {around:?}: {}", String::from_utf8_lossy(&text));
        }
        let signs = Signs::of([("x-note", text.as_slice())]);
        assert!(matches!(signs.handle, Handle::Misplaced), "{what} in a header");
    }
    for no in ["", "vh_", &HANDLE[..54], &HANDLE.replacen('2', "1", 1), "%", "%7", "%zz", &"A".repeat(100_000)] {
        assert!(!hides_handle(no.as_bytes()), "{no}");
    }
}
