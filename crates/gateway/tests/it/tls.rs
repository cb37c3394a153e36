//! TLS to a provider: its certificate is checked against the given authorities and its own name.

use crate::house::{House, KEY, Word, call, install_tls, url};
use crate::provider::{Provider, whole};
use model::Dialect;
use rustls::pki_types::PrivateKeyDer;
use std::sync::Arc;

const BODY: &str = r#"{"model":"claude-x","max_tokens":64,"messages":[{"role":"user","content":"hi"}]}"#;
const ANSWER: &str = r#"{"usage":{"input_tokens":1,"output_tokens":1}}"#;

/// An authority, and a provider whose certificate it signed for `name`.
async fn provider_named(name: &str) -> (rustls::RootCertStore, Provider) {
    install_tls();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)
        .unwrap();
    let steps = whole("200 OK\r\ncontent-type: application/json", ANSWER);
    (roots, Provider::behind_tls(steps, Arc::new(config).into()).await)
}

fn granting(base: &str) -> Word {
    Word::Grant { dialect: Dialect::Anthropic, place: url(base), key: KEY.to_owned() }
}

#[tokio::test(flavor = "current_thread")]
async fn a_provider_with_a_trusted_certificate_for_its_name_is_served() {
    for name in ["localhost", "127.0.0.1"] {
        let (roots, mut provider) = provider_named(name).await;
        let base = provider.base.replace("127.0.0.1", name);
        let house = House::with(granting(&base), roots).await;
        let got = call(house.door, "/v1/messages", BODY).await;
        assert_eq!((got.status, got.text()), (200, ANSWER));
        assert_eq!(provider.seen().await.header("x-api-key"), Some(KEY));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_certificate_for_another_name_or_of_an_unknown_authority_gets_no_key() {
    let (roots, mut provider) = provider_named("other.example").await;
    for roots in [roots, rustls::RootCertStore::empty()] {
        let house = House::with(granting(&provider.by_name()), roots).await;
        let got = call(house.door, "/v1/messages", BODY).await;
        assert_eq!((got.status, got.rule().as_str()), (502, "upstream.unreachable"));
        assert!(!provider.saw_more());
    }
}
