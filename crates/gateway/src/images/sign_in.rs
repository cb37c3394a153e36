//! Tokens of a registry: what it asks for, whom it sends to for one, and what goes there.
//!
//! The token is for pulling this one repository, whatever the registry asks to be asked for. The password of a
//! registry goes to the registry, and to whom it names for tokens only where that is its own host, or one that its
//! name lies below; Docker Hub's has a name of its own.

use super::registry::{MAX_WORDS, Registry, connect, is_plain_url, send};
use crate::refusal::Refusal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use model::Secret;
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;
use url::Url;

/// How long the words of a token service may take.
const WORDS: Duration = Duration::from_secs(30);
/// Longest token, in bytes.
const MAX_TOKEN: usize = 16 * 1024;
/// Docker Hub's registry, and whom it sends to for tokens.
const HUB: (&str, &str) = ("registry-1.docker.io", "auth.docker.io");

/// What a registry asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token of this service.
    Bearer { realm: String, service: Option<String> },
    /// User and password.
    Basic,
    /// Nothing that is known here.
    Other,
}

impl Challenge {
    /// Reads `WWW-Authenticate`; a token is preferred.
    pub(super) fn of<'t>(texts: impl Iterator<Item = &'t str>) -> Self {
        let mut best = Self::Other;
        for text in texts {
            let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                let mut named = parameters(rest);
                let mut take = |name| named.iter().position(|(key, _)| key == name).map(|at| named.swap_remove(at).1);
                if let Some(realm) = take("realm") {
                    return Self::Bearer { realm, service: take("service") };
                }
            } else if scheme.eq_ignore_ascii_case("basic") {
                best = Self::Basic;
            }
        }
        best
    }
}

/// `key="value"` or `key=value`, with commas between them.
fn parameters(mut rest: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches([' ', ',']).to_ascii_lowercase();
        let value = match after.strip_prefix('"') {
            Some(quoted) => match quoted.split_once('"') {
                Some((value, after)) => {
                    rest = after;
                    value
                }
                None => return all,
            },
            None => {
                let (value, after) = after.split_once(',').unwrap_or((after, ""));
                rest = after;
                value.trim()
            }
        };
        all.push((key, value.to_owned()));
    }
    all
}

/// A header that is never printed.
pub(super) fn header(value: &Secret<String>) -> Result<HeaderValue, Refusal> {
    let mut value = HeaderValue::from_str(value.expose())
        .map_err(|_| Refusal::fault("image.sign-in", "The registry's token or password cannot stand in a header."))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether whoever gives tokens for a registry is the registry's own host, or one that its name lies below.
fn is_its_own(registry: &Url, service: &Url) -> bool {
    let (Some(registry), Some(service)) = (registry.host_str(), service.host_str()) else { return false };
    registry == service
        || registry.strip_suffix(service).is_some_and(|rest| rest.ends_with('.') && service.contains('.'))
        || (registry, service) == HUB
}

impl Registry {
    /// What to show the registry from now on.
    ///
    /// # Errors
    /// In words for people.
    pub(super) async fn sign_in(&self, challenge: Challenge) -> Result<Secret<String>, Refusal> {
        let registry = &self.reference.host;
        let refuse = |why: String| Refusal::fault("image.sign-in", format!("The registry {registry} {why}."));
        match challenge {
            Challenge::Bearer { realm, service } => self.token(&realm, service.as_deref()).await,
            Challenge::Basic => self.basic().ok_or_else(|| refuse(self.needs_sign_in())),
            Challenge::Other => Err(refuse("asks for a sign-in of a kind that is not spoken here".to_owned())),
        }
    }

    /// `Basic`, where there is a password and it may go.
    fn basic(&self) -> Option<Secret<String>> {
        let credential = self.credential.as_ref().filter(|_| !self.delegated)?;
        Some(Secret::new(format!("Basic {}", STANDARD.encode(credential.value.0.expose()))))
    }

    async fn token(&self, realm: &str, service: Option<&str>) -> Result<Secret<String>, Refusal> {
        let registry = &self.reference.host;
        let refuse = |why: String| Refusal::fault("image.sign-in", format!("The registry {registry} {why}."));
        let at = Url::parse(realm).ok().filter(|url| is_plain_url(url) && url.fragment().is_none());
        let mut at = at.ok_or_else(|| refuse("sends for tokens to no address that can be asked".to_owned()))?;
        self.may_name(&at)?;
        let scope = format!("repository:{}:pull", self.reference.repository);
        // What the registry asks to be asked for is not asked for: a `scope` of its own would widen the token.
        at.set_query(None);
        at.query_pairs_mut().extend_pairs(service.map(|name| ("service", name))).append_pair("scope", &scope);
        let asked = connect(&self.gate.reach, &at, Some(self.ground)).await?;
        let mut headers = HeaderMap::new();
        // Last: where it goes is known, and does not change.
        if let Some(basic) = self.basic().filter(|_| !asked.delegated && is_its_own(&self.base, &at)) {
            headers.insert(header::AUTHORIZATION, header(&basic)?);
        }
        let (response, _connection) = send(asked, &at, headers).await?;
        let status = response.status();
        let body = timeout(WORDS, Limited::new(response.into_body(), MAX_WORDS).collect()).await;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(refuse(self.needs_sign_in()));
        }
        let body = body.ok().and_then(Result::ok).filter(|_| status.is_success());
        let token = body.and_then(|body| {
            let said: Value = serde_json::from_slice(&body.to_bytes()).ok()?;
            let token = said["token"].as_str().or(said["access_token"].as_str())?;
            let is_one =
                !token.is_empty() && token.len() <= MAX_TOKEN && token.bytes().all(|byte| byte.is_ascii_graphic());
            is_one.then(|| Secret::new(format!("Bearer {token}")))
        });
        let host = at.host_str().unwrap_or_default();
        token.ok_or_else(|| {
            refuse(format!("sends for tokens to {host}, which gives none (it answers {})", status.as_u16()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_challenge_is_read_however_it_is_written() {
        let bearer = |realm: &str, service: Option<&str>| Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
        };
        for (text, read) in [
            (
                r#"Bearer realm="https://a.example/t",service="s",scope="repository:x:pull,push""#,
                bearer("https://a.example/t", Some("s")),
            ),
            (r#"bearer  Realm=https://a.example/t , service="a, b=c""#, bearer("https://a.example/t", Some("a, b=c"))),
            (r#"Bearer error="x", realm="r""#, bearer("r", None)),
            (r#"Bearer realm="never closed"#, Challenge::Other),
            ("Bearer", Challenge::Other),
            (r#"Basic realm="x""#, Challenge::Basic),
            ("Negotiate", Challenge::Other),
            ("", Challenge::Other),
        ] {
            assert_eq!(Challenge::of([text].into_iter()), read, "{text}");
        }
        assert_eq!(Challenge::of(["Basic x", "Bearer realm=r"].into_iter()), bearer("r", None));
    }

    proptest! {
        #[test]
        fn whatever_a_challenge_says_it_is_read_to_its_end(text in "(Bearer|Basic)? ?([a-z]*=?\"?[ -~]{0,8}\"?,?){0,8}") {
            if let Challenge::Bearer { realm, .. } = Challenge::of([text.as_str()].into_iter()) {
                prop_assert!(text.contains(&realm));
            }
        }
    }

    #[test]
    fn a_password_goes_to_its_registry_and_to_what_that_lies_below_and_to_nobody_else() {
        let own =
            |registry: &str, service: &str| is_its_own(&Url::parse(registry).unwrap(), &Url::parse(service).unwrap());
        for (registry, service) in [
            ("https://r.example/", "https://r.example/token"),
            ("https://registry.git.example/", "https://git.example/jwt/auth"),
            ("https://registry-1.docker.io/", "https://auth.docker.io/token"),
        ] {
            assert!(own(registry, service), "{service}");
        }
        for (registry, service) in [
            ("https://r.example/", "https://evil.example/"),
            ("https://r.example/", "https://x.r.example/"),
            ("https://r.example/", "https://example/"),
            ("https://myr.example/", "https://r.example/"),
            ("https://auth.docker.io/", "https://registry-1.docker.io/"),
        ] {
            assert!(!own(registry, service), "{service}");
        }
    }
}
