//! What is said to a provider, and what its answers mean: RFC 6749, 7009, 7636 and 8628, as far as a client needs them.
//!
//! Our own forms and not a library's: the call itself is the gateway's, so that of a library only the names of a dozen
//! fields would be left; and here a token is a secret from the first byte on, and every answer is one of three things that
//! matter for a token that may be used once: it acted, it did not, nobody knows.

use api::connections::{ClientAuth, ConnectionSettings};
use api::grants::WireSecret;
use api::platform::{CallCredential, CallLimits, CallWord, CredentialForm, Method, PlatformCall, Purpose};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::Secret;
use serde::Deserialize;
use url::form_urlencoded;

/// Longest answer of a provider that is read, in bytes.
const ANSWER: u32 = 256 * 1024;

/// How long a call takes at most unless said, in seconds.
pub(super) const SECONDS: u16 = 20;

/// Tokens that a provider gave.
pub(super) struct Tokens {
    pub(super) access: Secret<String>,
    /// None: the one that is there stays.
    pub(super) refresh: Option<Secret<String>>,
    /// Seconds that the access token lives.
    pub(super) lives: Option<u64>,
}

/// Tokens that nobody keeps.
#[derive(Default)]
pub(super) struct Unkept {
    pub(super) refresh: Option<Secret<String>>,
    pub(super) access: Option<Secret<String>>,
}

impl Unkept {
    /// How many.
    pub(super) fn count(&self) -> usize {
        usize::from(self.refresh.is_some()) + usize::from(self.access.is_some())
    }
}

impl Tokens {
    pub(super) fn unkept(&self) -> Unkept {
        Unkept { refresh: self.refresh.as_ref().map(Secret::share), access: Some(self.access.share()) }
    }
}

/// What an answer of a token endpoint means.
pub(super) enum Said {
    Tokens(Tokens),
    /// It acted, and what it gave cannot be used.
    Unusable(Unkept),
    /// The person has not decided yet; with true: ask less often.
    Pending {
        slower: bool,
    },
    /// The provider did not act, and may later.
    Untouched(String),
    /// The provider says no.
    Refused(String),
    /// It may have acted.
    Unknown(String),
}

impl Said {
    /// How many tokens it brought.
    pub(super) fn tokens(&self) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.unkept().count(),
            Self::Unusable(tokens) => tokens.count(),
            _ => 0,
        }
    }
}

/// A device's code.
pub(super) struct DeviceCode {
    pub(super) device: Secret<String>,
    pub(super) user: String,
    pub(super) uri: String,
    pub(super) lives: u64,
    pub(super) interval: u64,
}

/// Who asks: the client's settings, and its secret where it has one.
pub(super) struct Client<'a> {
    pub(super) name: &'a str,
    pub(super) settings: &'a ConnectionSettings,
    pub(super) secret: Option<&'a Secret<String>>,
}

impl Client<'_> {
    /// A form to an address of this client's provider.
    ///
    /// # Errors
    /// One sentence, for an address that is none.
    pub(super) fn form(&self, purpose: Purpose, url: &str, fields: &[(&str, &str)]) -> Result<PlatformCall, String> {
        let named = crate::platform::named_host(url, self.settings.internal)?;
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let mut credential = None;
        match (self.settings.client_auth, self.secret) {
            (ClientAuth::Basic, Some(secret)) => {
                // RFC 6749 §2.3.1: both are encoded as in a form before they are put together.
                let pair = format!("{}:{}", encoded(&self.settings.client_id), encoded(secret.expose()));
                credential = Some(CallCredential {
                    form: CredentialForm::Basic,
                    value: WireSecret(Secret::new(pair)),
                    secret: format!("connection/{}/client", self.name),
                });
            }
            (ClientAuth::Post, Some(secret)) => {
                form.append_pair("client_id", &self.settings.client_id).append_pair("client_secret", secret.expose());
            }
            _ => {
                form.append_pair("client_id", &self.settings.client_id);
            }
        }
        Ok(PlatformCall {
            purpose,
            method: Method::Post,
            url: url.to_owned(),
            named,
            headers: vec![
                ("content-type".into(), "application/x-www-form-urlencoded".into()),
                ("accept".into(), "application/json".into()),
            ],
            body: Some(WireSecret(Secret::new(form.finish()))),
            credential,
            limits: CallLimits { seconds: SECONDS, answer_bytes: ANSWER, send_before_ms: None },
            lease: None,
        })
    }
}

/// The S256 challenge of a verifier (RFC 7636 §4.2).
pub(super) fn challenge(verifier: &Secret<String>) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.expose().as_bytes()))
}

#[derive(Deserialize)]
struct Answer {
    access_token: Option<WireSecret>,
    refresh_token: Option<WireSecret>,
    expires_in: Option<serde_json::Value>,
    token_type: Option<String>,
    error: Option<String>,
}

/// What is said of an answer without tokens that can be used.
pub(super) const UNUSABLE: &str = "The provider's answer holds no token that can be used.";

/// What a token endpoint's answer means.
pub(super) fn said(word: &CallWord) -> Said {
    let (status, body) = match word {
        CallWord::Fault { unsent: true, why, .. } => return Said::Untouched(why.clone()),
        CallWord::Fault { unsent: false, why, .. } => return Said::Unknown(why.clone()),
        CallWord::Answered { status, body, .. } => (*status, body.0.expose()),
    };
    let answer: Option<Answer> = serde_json::from_str(body).ok();
    // Some providers answer an error with 200, so its word comes first.
    if let Some(error) = answer.as_ref().and_then(|answer| answer.error.as_deref()) {
        let code = code(error);
        return match code {
            "authorization_pending" => Said::Pending { slower: false },
            "slow_down" => Said::Pending { slower: true },
            "temporarily_unavailable" => Said::Untouched(format!("The provider is not available ({code}).")),
            "server_error" => Said::Unknown(format!("The provider failed ({code}).")),
            _ => Said::Refused(format!("The provider says {code}.")),
        };
    }
    match status {
        200..=299 => answer.map_or_else(|| Said::Unknown(UNUSABLE.into()), tokens),
        429 => Said::Untouched(format!("The provider is busy (status {status}).")),
        // Also a 503: what stands before the provider says that as well, and it may have acted behind it.
        500..=599 => Said::Unknown(format!("The provider failed (status {status}).")),
        _ => Said::Refused(format!("The provider answered with status {status}.")),
    }
}

fn tokens(answer: Answer) -> Said {
    let sized = |token: &Secret<String>| {
        (crate::secrets::MIN_VALUE..=crate::secrets::MAX_VALUE).contains(&token.expose().len())
    };
    // What cannot stand in a header could not be sent again.
    let usable = |token: &Secret<String>| sized(token) && token.expose().bytes().all(|b| b.is_ascii_graphic());
    let given = |token: Option<WireSecret>| token.map(|token| token.0).filter(|token| !token.expose().is_empty());
    let (access, refresh) = (given(answer.access_token), given(answer.refresh_token));
    let is_bearer = answer.token_type.is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
    // A text of digits is no number by the letter, and common.
    let lives = answer.expires_in.and_then(|lives| lives.as_u64().or_else(|| lives.as_str()?.parse().ok()));
    match access {
        Some(access) if is_bearer && usable(&access) && refresh.as_ref().is_none_or(usable) => {
            Said::Tokens(Tokens { access, refresh, lives })
        }
        // Of what is too short to be a token, or too long, nothing is kept to be ended.
        access => Said::Unusable(Unkept { refresh: refresh.filter(sized), access: access.filter(sized) }),
    }
}

/// The error codes that are shown: of RFC 6749, 6750, 7009 and 8628, of OpenID Connect, and of the known providers.
const CODES: [&str; 27] = [
    "access_denied",
    "authorization_pending",
    "bad_refresh_token",
    "bad_verification_code",
    "consent_required",
    "device_flow_disabled",
    "expired_token",
    "incorrect_client_credentials",
    "incorrect_device_code",
    "insufficient_scope",
    "interaction_required",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_token",
    "login_required",
    "redirect_uri_mismatch",
    "server_error",
    "slow_down",
    "temporarily_unavailable",
    "unauthorized",
    "unauthorized_client",
    "unsupported_grant_type",
    "unsupported_response_type",
    "unsupported_token_type",
    "unverified_user_email",
];

/// A provider's error code, as it may be shown. Its own words are not, and a word that is none of these may be the token that
/// it was shown.
fn code(error: &str) -> &'static str {
    CODES.into_iter().find(|code| *code == error).unwrap_or("an error that no standard names")
}

#[derive(Deserialize)]
struct DeviceAnswer {
    device_code: WireSecret,
    user_code: String,
    #[serde(alias = "verification_url")]
    verification_uri: String,
    expires_in: u64,
    #[serde(default = "five")]
    interval: u64,
}

fn five() -> u64 {
    5
}

/// The code of a device, as its endpoint answers.
///
/// # Errors
/// One sentence.
pub(super) fn device(word: &CallWord, internal: bool) -> Result<DeviceCode, String> {
    let body = match word {
        CallWord::Answered { status: 200..=299, body, .. } => body,
        CallWord::Answered { .. } => {
            return Err(match said(word) {
                Said::Refused(why) | Said::Untouched(why) | Said::Unknown(why) => why,
                _ => "The provider gave no code.".into(),
            });
        }
        CallWord::Fault { why, .. } => return Err(why.clone()),
    };
    let answer: DeviceAnswer = serde_json::from_str(body.0.expose())
        .map_err(|_| "The provider's answer holds no code of a device.".to_owned())?;
    let shown =
        |text: &str, most: usize| text.len() <= most && !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    // A person will be told to open it.
    crate::platform::named_host(&answer.verification_uri, internal)?;
    if !shown(&answer.user_code, 64)
        || !shown(&answer.verification_uri, 1024)
        || answer.device_code.0.expose().is_empty()
    {
        return Err("The provider's code cannot be shown.".into());
    }
    Ok(DeviceCode {
        device: answer.device_code.0,
        user: answer.user_code,
        uri: answer.verification_uri,
        lives: answer.expires_in.clamp(1, 3600),
        interval: answer.interval.clamp(1, 120),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str) -> CallWord {
        CallWord::Answered { status, headers: Vec::new(), body: WireSecret(Secret::new(body.to_owned())) }
    }

    fn kind(word: &CallWord) -> &'static str {
        match said(word) {
            Said::Tokens(_) => "tokens",
            Said::Unusable(Unkept { refresh, access }) => match (refresh.is_some(), access.is_some()) {
                (false, false) => "unusable",
                (false, true) => "unusable access",
                (true, false) => "unusable refresh",
                (true, true) => "unusable both",
            },
            Said::Pending { slower: false } => "pending",
            Said::Pending { slower: true } => "slower",
            Said::Untouched(_) => "untouched",
            Said::Refused(_) => "refused",
            Said::Unknown(_) => "unknown",
        }
    }

    #[test]
    fn an_answer_is_one_of_what_acted_what_did_not_and_what_nobody_knows() {
        let good = r#"{"access_token":"access-1","token_type":"Bearer","expires_in":3600,"refresh_token":"refresh-1"}"#;
        for (status, body, means) in [
            (200, good, "tokens"),
            (200, r#"{"access_token":"access-1","expires_in":"3600"}"#, "tokens"),
            (200, r#"{"access_token":"short"}"#, "unusable"),
            (200, r#"{"access_token":"access-1\r\nx: y"}"#, "unusable access"),
            (200, r#"{"access_token":"access-1","refresh_token":"a b c d e f"}"#, "unusable both"),
            (200, r#"{"access_token":"access-1","refresh_token":""}"#, "tokens"),
            (200, r#"{"access_token":"access-1","token_type":"mac"}"#, "unusable access"),
            (200, r#"{"refresh_token":"refresh-1"}"#, "unusable refresh"),
            (200, "{}", "unusable"),
            (200, "{\"access_tok", "unknown"),
            (200, "", "unknown"),
            // As GitHub does.
            (200, r#"{"error":"bad_refresh_token"}"#, "refused"),
            (400, r#"{"error":"invalid_grant"}"#, "refused"),
            (400, r#"{"error":"authorization_pending"}"#, "pending"),
            (400, r#"{"error":"slow_down"}"#, "slower"),
            (401, "", "refused"),
            (302, "", "refused"),
            (404, "<html>", "refused"),
            (429, "", "untouched"),
            (503, "later", "unknown"),
            (503, r#"{"error":"temporarily_unavailable"}"#, "untouched"),
            (500, "", "unknown"),
            (502, "<html>", "unknown"),
            (504, "", "unknown"),
            (400, r#"{"error":"server_error"}"#, "unknown"),
        ] {
            assert_eq!(kind(&answered(status, body)), means, "{status} {body}");
        }
        let fault = |unsent| CallWord::Fault { unsent, rule: "x".into(), why: "y".into() };
        assert_eq!((kind(&fault(true)), kind(&fault(false))), ("untouched", "unknown"));
    }

    #[test]
    fn a_providers_own_words_are_not_shown_but_its_code_is() {
        let why = |error: &str| {
            let body = format!(r#"{{"error":{error:?},"error_description":"token refresh-canary"}}"#);
            let Said::Refused(why) = said(&answered(400, &body)) else { panic!() };
            why
        };
        assert_eq!(why("invalid_grant"), "The provider says invalid_grant.");
        for none in ["invalid_grant [2J", "refresh-canary", ""] {
            assert_eq!(why(none), "The provider says an error that no standard names.");
        }
    }

    #[test]
    fn the_challenge_is_that_of_rfc_7636() {
        let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned());
        assert_eq!(challenge(&verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn a_client_shows_its_secret_in_one_place_only() {
        let mut settings = ConnectionSettings { client_id: "our id".into(), ..ConnectionSettings::default() };
        let secret = Secret::new("s3cr:t&".to_owned());
        let form = |settings: &ConnectionSettings, secret| {
            let client = Client { name: "x", settings, secret };
            let call =
                client.form(Purpose::Refresh, "https://a.example/token", &[("grant_type", "refresh_token")]).unwrap();
            (call.body.unwrap().0.expose().clone(), call.credential.map(|c| c.value.0.expose().clone()))
        };
        assert_eq!(form(&settings, None), ("grant_type=refresh_token&client_id=our+id".into(), None));
        settings.client_auth = ClientAuth::Post;
        let post = "grant_type=refresh_token&client_id=our+id&client_secret=s3cr%3At%26";
        assert_eq!(form(&settings, Some(&secret)), (post.into(), None));
        settings.client_auth = ClientAuth::Basic;
        assert_eq!(
            form(&settings, Some(&secret)),
            ("grant_type=refresh_token".into(), Some("our+id:s3cr%3At%26".into()))
        );
    }

    #[test]
    fn a_devices_code_leads_to_no_address_that_is_none() {
        let body = |uri: &str| {
            format!(r#"{{"device_code":"d","user_code":"AB-12","verification_uri":{uri:?},"expires_in":900}}"#)
        };
        let code = device(&answered(200, &body("https://a.example/device")), false).ok().unwrap();
        assert_eq!((code.user.as_str(), code.interval, code.lives), ("AB-12", 5, 900));
        for bad in ["javascript:alert(1)", "http://a.example/", "https://a.example/#x", ""] {
            assert!(device(&answered(200, &body(bad)), false).is_err(), "{bad}");
        }
        assert!(device(&answered(400, r#"{"error":"unauthorized_client"}"#), false).is_err());
    }
}
