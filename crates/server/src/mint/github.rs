//! GitHub Apps: a signed word of the app's becomes a token of one installation, for one repository and what is needed there.
//!
//! Described by the vendor in "Generating an installation access token for a GitHub App" and "Create an installation
//! access token for an app". What comes back is read again: a token for more than was asked for is ended, and not used.

use super::plan::{Access, HTTPS, call, is_at};
use super::value::{End, Kept, Minted, Said, moment, sendable};
use api::grants::WireSecret;
use api::platform::{CallCredential, CredentialForm, Method, PlatformCall, Purpose};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use model::mint::GithubApp;
use model::{Moment, Secret};
use policy::providers::Provider;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use url::Url;

/// How far back the app's word is dated, in seconds: its clock and the vendor's may differ.
const SKEW_SECS: i64 = 60;
/// How long the app's word is good, from now on; with [`SKEW_SECS`] the ten minutes that the vendor allows at most.
const WORD_SECS: i64 = 540;

/// The API's address, without a slash at its end.
fn base(app: &GithubApp) -> &str {
    app.base.as_deref().map_or("https://api.github.com", |base| base.trim_end_matches('/'))
}

/// Whether what is minted may go to this port of this host.
pub(super) fn belongs(app: &GithubApp, host: &str, port: u16) -> bool {
    match &app.base {
        None => port == HTTPS && Provider::of("github").is_some_and(|github| github.holds(host)),
        Some(base) => is_at(base, host, port),
    }
}

/// The repository of a destination, `HOST[:PORT]/OWNER/NAME`, at this app's own host and port.
pub(super) fn repository<'d>(app: &GithubApp, destination: &'d str) -> Option<(&'d str, &'d str)> {
    let (host, path) = destination.split_once('/')?;
    let (owner, name) = path.trim_end_matches('/').split_once('/')?;
    let name = name.strip_suffix(".git").unwrap_or(name);
    let plain = |text: &str| {
        (1..=100).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && text != "."
            && text != ".."
    };
    let (bare, port) = match host.split_once(':') {
        Some((bare, port)) => (bare, port.parse().ok()?),
        None => (host, HTTPS),
    };
    (belongs(app, bare, port) && plain(owner) && plain(name)).then_some((owner, name))
}

/// The repository that a path of the API is about; `host` as a destination has it.
pub(super) fn of_path(app: &GithubApp, host: &str, path: &str) -> Option<String> {
    let below = Url::parse(base(app)).ok()?.path().trim_end_matches('/').to_owned();
    let rest = path.strip_prefix(&below).and_then(|rest| rest.strip_prefix("/repos/"))?;
    let mut parts = rest.split(['/', '?']);
    let destination = format!("{host}/{}/{}", parts.next()?, parts.next()?);
    repository(app, &destination).is_some().then_some(destination)
}

/// What a token may do.
fn permissions(app: &GithubApp, access: Access) -> BTreeMap<String, String> {
    let one = |name: &str, level: &str| BTreeMap::from([(name.to_owned(), level.to_owned())]);
    match access {
        Access::Read => one("contents", "read"),
        Access::Write => one("contents", "write"),
        Access::Propose => one("pull_requests", "write"),
        Access::Tool if app.permissions.is_empty() => one("contents", "read"),
        Access::Tool => app.permissions.clone(),
    }
}

/// How much a permission's level lets a token do.
fn rank(level: &str) -> Option<u8> {
    match level {
        "read" => Some(1),
        "write" => Some(2),
        "admin" => Some(3),
        _ => None,
    }
}

/// What is granted, in words for people: `contents: write`.
pub(super) fn words(app: &GithubApp, access: Access) -> String {
    let all: Vec<String> = permissions(app, access).iter().map(|(name, level)| format!("{name}: {level}")).collect();
    all.join(", ")
}

/// A private key of RSA in PEM, in its one spelling: from what an administrator pasted, with its line ends or without.
///
/// # Errors
/// One sentence that repeats nothing of it.
pub(super) fn key(text: &Secret<String>) -> Result<Secret<String>, String> {
    let wrong = || "It is no RSA private key in PEM, as the app's settings give it to be downloaded.".to_owned();
    let text = text.expose();
    let kind =
        ["RSA PRIVATE KEY", "PRIVATE KEY"].into_iter().find(|kind| text.contains(&format!("-----BEGIN {kind}-----")));
    let kind = kind.ok_or_else(wrong)?;
    let body = text
        .split_once(&format!("-----BEGIN {kind}-----"))
        .and_then(|(_, rest)| rest.split_once(&format!("-----END {kind}-----")).map(|(body, _)| body));
    let body: Secret<String> =
        Secret::new(body.ok_or_else(wrong)?.chars().filter(|c| !c.is_ascii_whitespace()).collect());
    let der = Secret::new(STANDARD.decode(body.expose()).map_err(|_| wrong())?);
    let pair = if kind == "PRIVATE KEY" { KeyPair::from_pkcs8(der.expose()) } else { KeyPair::from_der(der.expose()) };
    pair.map_err(|_| wrong())?;
    let mut pem = String::with_capacity(body.expose().len() * 2 + 128);
    pem.push_str(&format!("-----BEGIN {kind}-----\n"));
    for line in body.expose().as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {kind}-----\n"));
    Ok(Secret::new(pem))
}

/// The app's word: a JWT (RFC 7519), RS256.
fn word(app: &GithubApp, pem: &Secret<String>, at: Moment) -> Result<Secret<String>, String> {
    let wrong = || "the stored key does not sign".to_owned();
    let pem = key(pem)?;
    let pkcs8 = pem.expose().starts_with("-----BEGIN PRIVATE KEY-----");
    let body: Secret<String> = Secret::new(pem.expose().lines().filter(|line| !line.starts_with('-')).collect());
    let der = Secret::new(STANDARD.decode(body.expose()).map_err(|_| wrong())?);
    let pair = if pkcs8 { KeyPair::from_pkcs8(der.expose()) } else { KeyPair::from_der(der.expose()) };
    let pair = pair.map_err(|_| wrong())?;
    let seconds = at.0 / 1000;
    let claims = json!({ "iat": seconds - SKEW_SECS, "exp": seconds + WORD_SECS, "iss": app.app });
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let mut text = format!("{}.{}", part(json!({ "alg": "RS256", "typ": "JWT" })), part(claims));
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).map_err(|_| wrong())?;
    text.push('.');
    text.push_str(&URL_SAFE_NO_PAD.encode(signature));
    Ok(Secret::new(text))
}

fn headers() -> Vec<(String, String)> {
    [("accept", "application/vnd.github+json"), ("x-github-api-version", "2022-11-28")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

/// The request for a token.
///
/// # Errors
/// One sentence, for a key that does not sign and a destination that is no repository.
pub(super) fn request(
    app: &GithubApp,
    pem: &Secret<String>,
    (secret, destination, access): (&str, &str, Access),
    at: Moment,
) -> Result<PlatformCall, String> {
    let (_, name) = repository(app, destination).ok_or("the destination is no repository at the app's host")?;
    let body = json!({ "repositories": [name], "permissions": permissions(app, access) });
    let url = format!("{}/app/installations/{}/access_tokens", base(app), app.installation);
    let mut call = call(Purpose::Mint, Method::Post, url, app.internal)?;
    call.headers = headers();
    call.headers.push(("content-type".into(), "application/json".into()));
    call.body = Some(WireSecret(Secret::new(body.to_string())));
    let value = WireSecret(word(app, pem, at)?);
    call.credential = Some(CallCredential { form: CredentialForm::Bearer, value, secret: secret.to_owned() });
    Ok(call)
}

/// The request that ends a token: made by whoever has it.
pub(super) fn end(base: &str, internal: bool, token: &Secret<String>, secret: &str) -> Result<PlatformCall, String> {
    let mut call = call(Purpose::Revoke, Method::Delete, format!("{base}/installation/token"), internal)?;
    call.headers = headers();
    let value = WireSecret(token.share());
    call.credential = Some(CallCredential { form: CredentialForm::Bearer, value, secret: secret.to_owned() });
    Ok(call)
}

#[derive(Deserialize)]
struct Answer {
    token: WireSecret,
    expires_at: String,
    #[serde(default)]
    permissions: BTreeMap<String, String>,
    #[serde(default)]
    repositories: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    full_name: String,
}

/// What an answer with status 201 holds.
pub(super) fn read(app: &GithubApp, destination: &str, access: Access, body: &Secret<String>) -> Said {
    let Ok(answer) = serde_json::from_str::<Answer>(body.expose()) else {
        return Said::Unknown("The vendor's answer holds no token that can be read.".into());
    };
    if !sendable(&answer.token.0) {
        return Said::Unknown("The vendor's token cannot be sent.".into());
    }
    let asked = permissions(app, access);
    let wider = |(name, level): (&String, &String)| {
        // Every token may read what a repository is called.
        let may = asked.get(name).map(String::as_str).or_else(|| (name == "metadata").then_some("read"));
        // A level that is not known here is more than any.
        rank(level).is_none_or(|given| rank(may.unwrap_or_default()).is_none_or(|may| given > may))
    };
    let named = repository(app, destination).map(|(owner, name)| format!("{owner}/{name}")).unwrap_or_default();
    let one = matches!(&answer.repositories[..], [only] if only.full_name.eq_ignore_ascii_case(&named));
    let kept = Kept {
        value: Minted::Token(answer.token),
        end: Some(End { base: base(app).to_owned(), internal: app.internal }),
    };
    let until = moment(&answer.expires_at);
    if !one || answer.permissions.iter().any(wider) {
        let why = "The vendor's token is not for this repository alone, or for more than was asked for; it is ended.";
        return Said::Wider { kept, until, why: why.into() };
    }
    Said::Value { kept, until }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    fn app(base: Option<&str>) -> GithubApp {
        let base = base.map(str::to_owned);
        GithubApp { app: "123".into(), installation: 45, base, permissions: BTreeMap::new(), internal: false }
    }

    fn pair() -> (Secret<String>, Vec<u8>) {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = pair.as_der().unwrap();
        let pem = format!("-----BEGIN PRIVATE KEY-----{}-----END PRIVATE KEY-----", STANDARD.encode(der.as_ref()));
        (Secret::new(pem), pair.public_key().as_ref().to_vec())
    }

    #[test]
    fn a_token_is_asked_for_by_a_signed_word_of_less_than_ten_minutes_for_one_repository() {
        let (pem, public) = pair();
        let at = Moment(1_800_000_000_123);
        let call =
            request(&app(None), &pem, ("capability/acme", "github.com/acme/shop.git", Access::Write), at).unwrap();
        assert_eq!(call.url, "https://api.github.com/app/installations/45/access_tokens");
        assert_eq!((call.method, call.named.host.as_str()), (Method::Post, "api.github.com"));
        let body: serde_json::Value = serde_json::from_str(call.body.unwrap().0.expose()).unwrap();
        assert_eq!(body, json!({ "repositories": ["shop"], "permissions": { "contents": "write" } }));
        let credential = call.credential.unwrap();
        assert_eq!(credential.form, CredentialForm::Bearer);
        let (signed, signature) = credential.value.0.expose().rsplit_once('.').unwrap();
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &public);
        key.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().1).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims, json!({ "iat": 1_799_999_940, "exp": 1_800_000_540, "iss": "123" }));
    }

    #[test]
    fn a_key_is_taken_in_both_forms_and_with_or_without_line_ends_and_nothing_of_it_is_repeated() {
        let (pem, _) = pair();
        let one = key(&pem).unwrap();
        assert!(one.expose().lines().all(|line| line.len() <= 64));
        assert_eq!(key(&one).unwrap().expose(), one.expose());
        let windows = Secret::new(one.expose().replace('\n', "\r\n"));
        assert_eq!(key(&windows).unwrap().expose(), one.expose());
        // PKCS#1 is what stands in PKCS#8, after 26 bytes of its head.
        let body: String = one.expose().lines().filter(|line| !line.starts_with('-')).collect();
        let inner = STANDARD.encode(&STANDARD.decode(body).unwrap()[26..]);
        let pkcs1 = Secret::new(format!("-----BEGIN RSA PRIVATE KEY-----\n{inner}\n-----END RSA PRIVATE KEY-----\n"));
        assert!(word(&app(None), &key(&pkcs1).unwrap(), Moment(0)).is_ok());
        for bad in [
            "x",
            "-----BEGIN PRIVATE KEY-----canary-END",
            "-----BEGIN PRIVATE KEY-----Y2FuYXJ5-----END PRIVATE KEY-----",
        ] {
            let said = key(&Secret::new(bad.to_owned())).unwrap_err();
            assert!(!said.contains("canary") && !said.contains("Y2Fu"), "{said}");
        }
    }

    #[test]
    fn a_destination_is_a_repository_at_the_apps_own_host() {
        let of = |base, text| repository(&app(base), text);
        assert_eq!(of(None, "github.com/acme/shop"), Some(("acme", "shop")));
        assert_eq!(of(None, "api.github.com/acme/shop.git"), Some(("acme", "shop")));
        let own = Some("https://git.corp.example:8443/api/v3");
        assert_eq!(of(own, "git.corp.example:8443/acme/shop"), Some(("acme", "shop")));
        // Another port of the host is another service, which is no forge of this app's.
        for other in ["git.corp.example/acme/shop", "git.corp.example:8444/acme/shop", "git.corp.example:x/acme/shop"] {
            assert_eq!(of(own, other), None, "{other}");
        }
        assert_eq!(of(None, "github.com:443/acme/shop"), Some(("acme", "shop")));
        assert_eq!(of(None, "github.com:8443/acme/shop"), None);
        for bad in [
            "github.com/acme",
            "github.com/acme/a/b",
            "github.com//shop",
            "git.corp.example/a/b",
            "a/b/c",
            "github.com/../..",
        ] {
            assert_eq!(of(None, bad), None, "{bad}");
        }
        assert_eq!(of(own, "github.com/acme/shop"), None);
        let path = |base, path| of_path(&app(base), "api.github.com", path);
        assert_eq!(path(None, "/repos/acme/shop/issues").as_deref(), Some("api.github.com/acme/shop"));
        assert_eq!(path(None, "/repos/acme/shop?x").as_deref(), Some("api.github.com/acme/shop"));
        for bad in ["/orgs/acme", "/repos/acme", "/graphql", "/repos/acme/..", "/user/repos/acme/shop"] {
            assert_eq!(path(None, bad), None, "{bad}");
        }
        assert_eq!(
            of_path(&app(own), "git.corp.example:8443", "/api/v3/repos/a/b/x").as_deref(),
            Some("git.corp.example:8443/a/b")
        );
    }

    #[test]
    fn a_token_for_another_repository_or_for_more_than_was_asked_is_ended_and_not_used() {
        let answer = |repositories: serde_json::Value, permissions: serde_json::Value| {
            let body = json!({ "token": "ghs_0123456789abcdef", "expires_at": "2026-07-11T22:14:10Z",
                "permissions": permissions, "repositories": repositories });
            read(&app(None), "github.com/acme/shop", Access::Read, &Secret::new(body.to_string()))
        };
        let own = || json!([{ "full_name": "Acme/shop" }]);
        match answer(own(), json!({ "contents": "read", "metadata": "read" })) {
            Said::Value { kept, until } => {
                assert_eq!(until, Some(Moment(1_783_808_050_000)));
                assert_eq!(kept.end.unwrap().base, "https://api.github.com");
            }
            _ => panic!("no value"),
        }
        for (repositories, permissions) in [
            (own(), json!({ "contents": "write" })),
            (own(), json!({ "contents": "read", "issues": "read" })),
            (json!([{ "full_name": "evil/shop" }]), json!({ "contents": "read" })),
            (json!([{ "full_name": "acme/shop" }, { "full_name": "acme/b" }]), json!({ "contents": "read" })),
            (json!([]), json!({ "contents": "read" })),
        ] {
            assert!(matches!(answer(repositories.clone(), permissions), Said::Wider { .. }), "{repositories}");
        }
        let asked_to_write = |level: &str| {
            let body = json!({ "token": "ghs_0123456789abcdef", "expires_at": "2026-07-11T22:14:10Z",
                "permissions": { "contents": level }, "repositories": own() });
            read(&app(None), "github.com/acme/shop", Access::Write, &Secret::new(body.to_string()))
        };
        for level in ["write", "read"] {
            assert!(matches!(asked_to_write(level), Said::Value { .. }), "{level}");
        }
        for level in ["admin", "owner", "", "WRITE"] {
            assert!(matches!(asked_to_write(level), Said::Wider { .. }), "{level}");
        }
        let odd = Secret::new(r#"{"token":"a\r\nb","expires_at":"x"}"#.to_owned());
        assert!(matches!(read(&app(None), "github.com/a/b", Access::Read, &odd), Said::Unknown(_)));
    }
}
