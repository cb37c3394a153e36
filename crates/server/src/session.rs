//! Sessions of browsers: an opaque token in a cookie, its hash in the store.
//!
//! A cookie of 127.0.0.1 goes to every port there. So its name holds ours, for two platforms on one host not to take
//! each other's; and the hash that is kept is of the token and of the account that it was given to, so that it is worth
//! nothing to a server on another port that runs under another account.

use crate::port::Account;
use crate::random;
use http::{HeaderMap, header};
use model::Moment;
use store::keep::TokenRow;

/// How long a session lasts, in seconds: 12 hours.
pub const SECONDS: i64 = 12 * 3600;

/// The cookie's name at `port`. No `__Host-` prefix: that demands TLS, and the console is on loopback.
#[must_use]
pub fn cookie(port: u16) -> String {
    format!("volary-{port}")
}

/// The token of the session's cookie, when exactly one well-formed one was sent.
#[must_use]
pub fn token(headers: &HeaderMap, port: u16) -> Option<String> {
    let cookie = cookie(port);
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == cookie)
        .map(|(_, value)| value);
    let token = found.next()?;
    // Two of the name: someone else on this host name has set one too; neither is to be trusted.
    (found.next().is_none() && token.len() == 52).then(|| token.to_owned())
}

/// What is kept of a session: the hash of its token in the hands of `account`; none where that is not known.
#[must_use]
pub fn hash(token: &str, account: Account) -> Option<String> {
    Some(random::sha256_hex(format!("{token} of uid {}", account.0?).as_bytes()))
}

/// When a session is over that begins `at`.
#[must_use]
pub fn end(at: Moment) -> Moment {
    at.plus_ms(SECONDS * 1000)
}

/// The session, where there is one and it is not over at `now`.
#[must_use]
pub fn live(kept: Option<TokenRow>, now: Moment) -> Option<TokenRow> {
    kept.filter(|session| now < session.expires)
}

/// The header that gives a browser its session.
#[must_use]
pub fn set(token: &str, port: u16) -> String {
    format!("{}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={SECONDS}", cookie(port))
}

/// The header that takes it away.
#[must_use]
pub fn unset(port: u16) -> String {
    format!("{}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0", cookie(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(cookie: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, cookie.parse().unwrap());
        token(&headers, 7)
    }

    #[test]
    fn the_token_is_found_among_other_cookies_and_two_of_them_are_none() {
        let t = "a".repeat(52);
        assert_eq!(sent(&format!("x=1; volary-7={t}; y=2")), Some(t.clone()));
        assert_eq!(sent(&format!("volary-7={t}; volary-7={}", "b".repeat(52))), None);
        assert_eq!(sent("volary-7=short"), None);
        assert_eq!(sent(&format!("not-volary-7={t}")), None);
    }

    #[test]
    fn another_platforms_cookie_on_another_port_is_no_session_here_and_does_not_disturb_ours() {
        let (t, other) = ("a".repeat(52), "b".repeat(52));
        assert_eq!(sent(&format!("volary-8={other}")), None);
        assert_eq!(sent(&format!("volary-8={other}; volary-7={t}")), Some(t));
    }

    #[test]
    fn a_session_is_over_at_the_end_of_its_twelfth_hour_and_not_before() {
        let expires = end(Moment(1000));
        assert_eq!(expires, Moment(1000 + 12 * 60 * 60 * 1000));
        let at = |now| live(Some(TokenRow { person: "ada".parse().unwrap(), expires }), Moment(now)).is_some();
        assert!(at(expires.0 - 1) && !at(expires.0) && !at(expires.0 + 1));
        assert!(live(None, Moment(0)).is_none());
        assert!(set("t", 7).contains("; Max-Age=43200"));
    }

    #[test]
    fn a_script_does_not_see_the_cookie_and_another_site_does_not_send_it() {
        for header in [set("t", 7), unset(7)] {
            let parts: Vec<&str> = header.split("; ").collect();
            assert!(parts[0].starts_with("volary-7="), "{header}");
            for part in ["Path=/", "HttpOnly", "SameSite=Strict"] {
                assert!(parts.contains(&part), "{header}");
            }
            // With a domain it would go to other hosts too.
            assert!(!header.contains("Domain"), "{header}");
        }
    }

    #[test]
    fn a_token_in_other_hands_is_another_session_and_in_nobodys_none() {
        let of = |uid| hash("t", Account(uid));
        assert_eq!(of(Some(1000)), of(Some(1000)));
        assert_ne!(of(Some(1000)), of(Some(1001)));
        assert_ne!(of(Some(1000)), hash("u", Account(Some(1000))));
        assert_eq!(of(None), None);
    }
}
