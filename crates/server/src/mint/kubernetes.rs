//! Kubernetes: a bearer asks for a token of a service account, for named audiences and a bounded time (`TokenRequest`).
//!
//! Such a token cannot be ended before its time, which is ten minutes at least: the record and the page say so.

use super::plan::{call, is_at};
use super::value::{Kept, Minted, Said, moment, sendable};
use api::grants::WireSecret;
use api::platform::{CallCredential, CredentialForm, Method, PlatformCall, Purpose};
use model::Secret;
use model::mint::KubernetesAccount;
use serde_json::{Value, json};

/// Whether what is minted may go to this port of this host.
pub(super) fn belongs(account: &KubernetesAccount, host: &str, port: u16) -> bool {
    is_at(&account.base, host, port)
}

/// The request for a token.
///
/// # Errors
/// One sentence.
pub(super) fn request(
    account: &KubernetesAccount,
    bearer: &Secret<String>,
    secret: &str,
    seconds: u32,
) -> Result<PlatformCall, String> {
    let mut spec = json!({ "expirationSeconds": seconds });
    if !account.audiences.is_empty() {
        spec["audiences"] = json!(account.audiences);
    }
    let body = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec });
    let KubernetesAccount { base, namespace, account, internal, .. } = account;
    let base = base.trim_end_matches('/');
    let url = format!("{base}/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
    let mut call = call(Purpose::Mint, Method::Post, url, *internal)?;
    call.headers = ["content-type", "accept"].map(|name| (name.to_owned(), "application/json".to_owned())).to_vec();
    call.body = Some(WireSecret(Secret::new(body.to_string())));
    let value = WireSecret(bearer.share());
    call.credential = Some(CallCredential { form: CredentialForm::Bearer, value, secret: secret.to_owned() });
    Ok(call)
}

/// What an answer with status 201 holds.
pub(super) fn read(body: &Secret<String>) -> Said {
    let answer: Value = serde_json::from_str(body.expose()).unwrap_or_default();
    let status = answer.get("status");
    let token = status.and_then(|status| status.get("token")).and_then(Value::as_str);
    let token = token.map(|token| Secret::new(token.to_owned())).filter(sendable);
    let until = status.and_then(|status| status.get("expirationTimestamp")).and_then(Value::as_str).and_then(moment);
    match (token, until) {
        (Some(token), Some(until)) => {
            let kept = Kept { value: Minted::Token(WireSecret(token)), end: None };
            Said::Value { kept, until: Some(until) }
        }
        _ => Said::Unknown("The vendor's answer holds no token that can be read.".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Moment;

    #[test]
    fn a_token_is_asked_for_by_its_account_audiences_and_time_and_read_from_its_status() {
        let account = KubernetesAccount {
            base: "https://k.example:6443/".into(),
            namespace: "ci".into(),
            account: "deployer".into(),
            audiences: vec!["https://registry.example".into()],
            internal: false,
        };
        let bearer = Secret::new("canary-bearer".to_owned());
        let call = request(&account, &bearer, "capability/k", 600).unwrap();
        assert_eq!(call.url, "https://k.example:6443/api/v1/namespaces/ci/serviceaccounts/deployer/token");
        let body: Value = serde_json::from_str(call.body.as_ref().unwrap().0.expose()).unwrap();
        assert_eq!(body["spec"], json!({ "expirationSeconds": 600, "audiences": ["https://registry.example"] }));
        assert!(!format!("{call:?}").contains("canary"));
        assert!(belongs(&account, "k.example", 6443) && !belongs(&account, "example", 6443));
        assert!(!belongs(&account, "k.example", 443), "another port is another service");
        let said = json!({ "status": { "token": "eyJ.0123456789.x", "expirationTimestamp": "2026-07-11T22:14:10Z" } });
        match read(&Secret::new(said.to_string())) {
            Said::Value { kept: Kept { value: Minted::Token(token), end: None }, until } => {
                assert_eq!((token.0.expose().as_str(), until), ("eyJ.0123456789.x", Some(Moment(1_783_808_050_000))));
            }
            _ => panic!("no token"),
        }
        assert!(matches!(read(&Secret::new("{}".to_owned())), Said::Unknown(_)));
    }
}
