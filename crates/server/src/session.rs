//! Sessions of browsers: an opaque token in a cookie, its hash in the store.

use http::{HeaderMap, header};

/// The cookie's name. No `__Host-` prefix: that demands TLS, and the console is on loopback.
pub const COOKIE: &str = "volary";

/// How long a session lasts, in seconds: 12 hours.
pub const SECONDS: i64 = 12 * 3600;

/// The token of the session's cookie, when exactly one well-formed one was sent.
#[must_use]
pub fn token(headers: &HeaderMap) -> Option<String> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value);
    let token = found.next()?;
    // Two of the name: someone else on this host name has set one too; neither is to be trusted.
    (found.next().is_none() && token.len() == 52).then(|| token.to_owned())
}

/// The header that gives a browser its session.
#[must_use]
pub fn set(token: &str) -> String {
    format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={SECONDS}")
}

/// The header that takes it away.
#[must_use]
pub fn unset() -> String {
    format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(cookie: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, cookie.parse().unwrap());
        token(&headers)
    }

    #[test]
    fn the_token_is_found_among_other_cookies_and_two_of_them_are_none() {
        let t = "a".repeat(52);
        assert_eq!(sent(&format!("x=1; volary={t}; y=2")), Some(t.clone()));
        assert_eq!(sent(&format!("volary={t}; volary={}", "b".repeat(52))), None);
        assert_eq!(sent("volary=short"), None);
        assert_eq!(sent(&format!("not-volary={t}")), None);
    }
}
