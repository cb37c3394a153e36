//! Vendors that mint for tests, in the recorded forms of their answers: an app's installation tokens, a role's sessions, a
//! service account's tokens. On every host of [`crate::Outside`] that is started with them.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The number of the one installation that there is.
pub const INSTALLATION: u64 = 45;
/// How long an app's tokens live, in seconds.
const HOUR: i64 = 3_600;

/// What was minted, and what was shown to have it minted.
#[derive(Clone)]
pub struct Vendors(Arc<Mutex<Held>>, Arc<watch::Sender<bool>>);

struct Held {
    /// Whose repositories the installation is for.
    owner: String,
    key: String,
    bearer: String,
    minted: Vec<Minted>,
    shown: Vec<String>,
}

/// A value that was minted.
#[derive(Debug, Clone)]
pub struct Minted {
    /// The token; of a session its key, and its token.
    pub values: Vec<String>,
    /// Of an app's: the one repository, `OWNER/NAME`.
    pub repository: String,
    /// Of an app's: what it may do.
    pub permissions: Value,
    /// It was ended here.
    pub ended: bool,
}

impl Vendors {
    /// Those whose app is installed with `owner`.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn new(owner: &str) -> Self {
        let (owner, bearer) = (owner.to_owned(), odd("bearer"));
        let key = KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let der = key.as_der().expect("it is written");
        let body = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> =
            body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base 64")).collect();
        let key = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
        let held = Held { owner, key, bearer, minted: Vec::new(), shown: Vec::new() };
        Self(Arc::new(Mutex::new(held)), Arc::new(watch::Sender::new(false)))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds every answer from now on back, of what was done all the same; or lets them go.
    pub fn hold_answers(&self, hold: bool) {
        self.1.send_replace(hold);
    }

    /// Comes when answers go out.
    pub(crate) async fn let_go(&self) {
        // Whoever could say so is this one.
        drop(self.1.subscribe().wait_for(|hold| !hold).await);
    }

    /// The app's private key, in PEM.
    #[must_use]
    pub fn key(&self) -> String {
        self.held().key.clone()
    }

    /// The bearer that may ask for the account's tokens.
    #[must_use]
    pub fn bearer(&self) -> String {
        self.held().bearer.clone()
    }

    /// Everything that was minted, in order.
    #[must_use]
    pub fn minted(&self) -> Vec<Minted> {
        self.held().minted.clone()
    }

    /// What was shown to have something minted: words of an app's, signatures, bearers.
    #[must_use]
    pub fn shown(&self) -> Vec<String> {
        self.held().shown.clone()
    }

    /// Whether a token may do this to a repository, `OWNER/NAME`, now.
    #[must_use]
    pub fn may(&self, token: &str, repository: &str, permission: &str, level: &str) -> bool {
        let repository = repository.trim_end_matches(".git");
        self.held().minted.iter().any(|minted| {
            let has = minted.permissions.get(permission).and_then(Value::as_str);
            !minted.ended
                && minted.values[0] == token
                && minted.repository == repository
                && (has == Some(level) || has == Some("write"))
        })
    }

    /// Answers a request that is for a vendor: status, type and body.
    pub(crate) fn answer(
        &self,
        line: &str,
        host: &str,
        shown: &str,
        body: &str,
    ) -> Option<(&'static str, &'static str, String)> {
        let mut words = line.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let json = |status, body: Value| Some((status, "application/json; charset=utf-8", body.to_string()));
        let token = shown.strip_prefix("Bearer ").unwrap_or_default();
        match method {
            "POST" if target.ends_with(&format!("/app/installations/{INSTALLATION}/access_tokens")) => {
                if !is_word(token) {
                    return json("401 Unauthorized", json!({ "message": "A JSON web token could not be decoded" }));
                }
                let asked: Value = serde_json::from_str(body).unwrap_or_default();
                let name = asked["repositories"][0].as_str().unwrap_or_default();
                let mut held = self.held();
                let repository = format!("{}/{name}", held.owner);
                let minted = Minted {
                    values: vec![odd("ghs")],
                    repository: repository.clone(),
                    permissions: asked["permissions"].clone(),
                    ended: false,
                };
                let mut permissions = asked["permissions"].clone();
                permissions["metadata"] = json!("read");
                let answer = json!({
                    "token": minted.values[0], "expires_at": end(HOUR), "permissions": permissions,
                    "repository_selection": "selected", "repositories": [{ "id": 7, "name": name, "full_name": repository }],
                });
                held.shown.push(token.to_owned());
                held.minted.push(minted);
                json("201 Created", answer)
            }
            "DELETE" if target.ends_with("/installation/token") => {
                let mut held = self.held();
                match held.minted.iter_mut().find(|minted| minted.values[0] == token && !minted.ended) {
                    Some(minted) => minted.ended = true,
                    None => return json("401 Unauthorized", json!({ "message": "Bad credentials" })),
                }
                Some(("204 No Content", "text/plain", String::new()))
            }
            "POST" if host.starts_with("sts.") => {
                if !shown.starts_with("AWS4-HMAC-SHA256 Credential=") || !body.contains("Action=AssumeRole&") {
                    return Some(("403 Forbidden", "text/xml", "<ErrorResponse/>".into()));
                }
                let (key, session) = (odd("key"), odd("session"));
                let asked = body.split('&').find_map(|pair| pair.strip_prefix("DurationSeconds="));
                let end = end(asked.and_then(|seconds| seconds.parse().ok()).unwrap_or(HOUR));
                let answer = format!(
                    "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
                     <AccessKeyId>ASIAEXAMPLE</AccessKeyId><SecretAccessKey>{key}</SecretAccessKey>\
                     <SessionToken>{session}</SessionToken><Expiration>{end}</Expiration></Credentials></AssumeRoleResult>\
                     </AssumeRoleResponse>"
                );
                self.keep(shown, vec![key, session]);
                Some(("200 OK", "text/xml", answer))
            }
            "POST" if target.contains("/serviceaccounts/") && target.ends_with("/token") => {
                if token != self.bearer() {
                    return json("401 Unauthorized", json!({ "kind": "Status", "code": 401 }));
                }
                let value = odd("account");
                let asked: Value = serde_json::from_str(body).unwrap_or_default();
                let end = end(asked["spec"]["expirationSeconds"].as_i64().unwrap_or(HOUR));
                self.keep(shown, vec![value.clone()]);
                let status = json!({ "token": value, "expirationTimestamp": end });
                json("201 Created", json!({ "kind": "TokenRequest", "status": status }))
            }
            _ => None,
        }
    }

    fn keep(&self, shown: &str, values: Vec<String>) {
        let mut held = self.held();
        held.shown.push(shown.to_owned());
        held.minted.push(Minted { values, repository: String::new(), permissions: Value::Null, ended: false });
    }
}

/// So many seconds from now, as vendors write it.
fn end(seconds: i64) -> String {
    let end = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + seconds);
    end.expect("a time that can be written").to_string()
}

/// A value that nobody else's search meets, of characters that each form writes in its own way.
fn odd(what: &str) -> String {
    let mut bytes = [0; 12];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random bytes");
    format!("{what}+{}==", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// Whether this is an app's word, good for ten minutes at most.
fn is_word(token: &str) -> bool {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims: Value = claims.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let (from, to) = (claims["iat"].as_i64().unwrap_or(0), claims["exp"].as_i64().unwrap_or(0));
    token.split('.').count() == 3 && from > 0 && (1..=600).contains(&(to - from)) && claims["iss"].is_string()
}
