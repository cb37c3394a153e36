//! The addresses of known providers, as their own documentation gives them.

use crate::platform::named_host;
use api::connections::ConnectionSettings;

struct Provider {
    name: &'static str,
    authorize: &'static str,
    token: &'static str,
    device: Option<&'static str>,
    revoke: Option<&'static str>,
    /// What the sign-in's address carries besides what every one does.
    more: &'static [(&'static str, &'static str)],
}

const PROVIDERS: [Provider; 4] = [
    Provider {
        name: "github",
        authorize: "https://github.com/login/oauth/authorize",
        token: "https://github.com/login/oauth/access_token",
        device: Some("https://github.com/login/device/code"),
        // Its way to end a token is none of RFC 7009.
        revoke: None,
        more: &[],
    },
    Provider {
        name: "gitlab",
        authorize: "https://gitlab.com/oauth/authorize",
        token: "https://gitlab.com/oauth/token",
        device: Some("https://gitlab.com/oauth/authorize_device"),
        revoke: Some("https://gitlab.com/oauth/revoke"),
        more: &[],
    },
    Provider {
        name: "google",
        authorize: "https://accounts.google.com/o/oauth2/v2/auth",
        token: "https://oauth2.googleapis.com/token",
        device: Some("https://oauth2.googleapis.com/device/code"),
        revoke: Some("https://oauth2.googleapis.com/revoke"),
        // Without these it gives no refresh token, or only the first time.
        more: &[("access_type", "offline"), ("prompt", "consent")],
    },
    Provider {
        name: "codeberg",
        authorize: "https://codeberg.org/login/oauth/authorize",
        token: "https://codeberg.org/login/oauth/access_token",
        device: None,
        revoke: None,
        more: &[],
    },
];

/// The names of the known ones, for people.
pub(super) fn names() -> String {
    PROVIDERS.map(|provider| provider.name).join(", ")
}

/// Takes a known provider's addresses where none are given; of one that keeps its tokens at another host, a forge of one's
/// own in the style of a known one, none: the known one is another company. False if it is not known.
pub(super) fn fill(settings: &mut ConnectionSettings) -> bool {
    let Some(name) = &settings.provider else { return true };
    let Some(known) = PROVIDERS.iter().find(|provider| provider.name == name) else { return false };
    if settings.token_url.is_empty() {
        known.token.clone_into(&mut settings.token_url);
    }
    let host = |url: &str| named_host(url, true).map(|named| named.host).ok();
    if host(&settings.token_url) != host(known.token) {
        return true;
    }
    settings.authorize_url.get_or_insert_with(|| known.authorize.to_owned());
    settings.device_url = settings.device_url.take().or(known.device.map(str::to_owned));
    settings.revoke_url = settings.revoke_url.take().or(known.revoke.map(str::to_owned));
    true
}

/// What a sign-in's address carries for this provider besides what every one does.
pub(super) fn more(settings: &ConnectionSettings) -> &'static [(&'static str, &'static str)] {
    let known = PROVIDERS.iter().find(|provider| Some(provider.name) == settings.provider.as_deref());
    known.map_or(&[], |provider| provider.more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_providers_addresses_are_taken_where_none_are_given_and_only_for_tokens_that_it_keeps() {
        let of = |token: &str| {
            let mut settings = ConnectionSettings { provider: Some("gitlab".into()), ..ConnectionSettings::default() };
            token.clone_into(&mut settings.token_url);
            assert!(fill(&mut settings));
            (settings.token_url, [settings.authorize_url, settings.device_url, settings.revoke_url])
        };
        let known = |path: &str| Some(format!("https://gitlab.com/oauth/{path}"));
        let all = [known("authorize"), known("authorize_device"), known("revoke")];
        assert_eq!(of(""), ("https://gitlab.com/oauth/token".into(), all.clone()));
        assert_eq!(of("https://gitlab.com/another/token"), ("https://gitlab.com/another/token".into(), all));
        for other in ["https://gitlab.example/oauth/token", "https://gitlab.com.example/token", "no address"] {
            assert_eq!(of(other), (other.into(), [None, None, None]));
        }
        let mut unknown = ConnectionSettings { provider: Some("nobody".into()), ..ConnectionSettings::default() };
        assert!(!fill(&mut unknown));
    }

    #[test]
    fn every_known_address_is_https() {
        for provider in &PROVIDERS {
            let all = [Some(provider.authorize), Some(provider.token), provider.device, provider.revoke];
            for url in all.into_iter().flatten() {
                crate::platform::named_host(url, false).unwrap();
            }
        }
    }
}
