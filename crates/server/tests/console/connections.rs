//! The page of the connections, and a sign-in with a browser: bound to its session, once.

use crate::sign_in;
use crate::stage::{Answer, Stage};
use api::connections::ConnectionView;
use api::grants::{FromGateway, ToGateway, WireSecret};
use api::platform::{CallWord, PlatformCall, Purpose};
use http::{Method, StatusCode};
use model::Secret;
use serde_json::json;
use url::{Url, form_urlencoded};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

async fn post(stage: &Stage, cookie: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    stage.tcp(Method::POST, path, &[("cookie", cookie), FORM], &body).await
}

/// A connection `x`, to which nobody has signed in.
pub async fn added(stage: &Stage) {
    let settings = json!({ "settings": {
        "authorize_url": "https://auth.example/authorize?tenant=a", "token_url": "https://auth.example/token",
        "client_id": "volary", "scopes": ["read"],
    } });
    let put = stage.home(Method::PUT, "/api/connections/x", Some(settings)).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text());
}

/// Begins a sign-in on the page; what its link to the provider asks for.
async fn begun(stage: &Stage, cookie: &str) -> Vec<(String, String)> {
    let page = post(stage, cookie, "/connections/sign-in", &[("name", "x")]).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text());
    let text = page.text().replace("&amp;", "&");
    let link = text.split("href=\"").find(|part| part.starts_with("https://auth.example/")).unwrap();
    let url = Url::parse(link.split('"').next().unwrap()).unwrap();
    url.query_pairs().into_owned().collect()
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> &'a str {
    &fields.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no {name}")).1
}

fn form(call: &PlatformCall) -> Vec<(String, String)> {
    form_urlencoded::parse(call.body.as_ref().unwrap().0.expose().as_bytes()).into_owned().collect()
}

fn challenge_of(verifier: &str) -> String {
    use base64::Engine as _;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
}

#[tokio::test]
async fn a_sign_in_ends_in_the_session_that_began_it_with_its_own_verifier_and_once() {
    let stage = Stage::start();
    added(&stage).await;
    let cookie = sign_in(&stage).await;
    let mut gateway = stage.gateway().await;
    let asked = begun(&stage, &cookie).await;
    assert_eq!((field(&asked, "response_type"), field(&asked, "code_challenge_method")), ("code", "S256"));
    assert_eq!((field(&asked, "tenant"), field(&asked, "scope")), ("a", "read"));
    let back = format!("http://127.0.0.1:{}/connections/callback", stage.port);
    assert_eq!(field(&asked, "redirect_uri"), back);
    let state = field(&asked, "state").to_owned();

    // The provider's redirect brings no cookie with it; its page changes nothing, however often it is looked at.
    for _ in 0..2 {
        let page =
            stage.tcp(Method::GET, &format!("/connections/callback?code=code-canary&state={state}"), &[], "").await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(page.text().contains("name=\"code\" value=\"code-canary\""), "{}", page.text());
    }
    let fields = [("state", state.as_str()), ("code", "code-canary")];
    let ending = post(&stage, &cookie, "/connections/callback", &fields);
    let answering = async {
        let ToGateway::Call { id, call } = gateway.hear().await else { panic!("no call") };
        assert_eq!((call.purpose, call.url.as_str()), (Purpose::SignIn, "https://auth.example/token"));
        let said = form(&call);
        assert_eq!((field(&said, "code"), field(&said, "redirect_uri")), ("code-canary", back.as_str()));
        assert_eq!(challenge_of(field(&said, "code_verifier")), field(&asked, "code_challenge"));
        let body = r#"{"access_token":"access-canary-1","refresh_token":"refresh-canary-1","expires_in":3600}"#;
        let body = WireSecret(Secret::new(body.to_owned()));
        gateway.say(&FromGateway::Called { id, word: CallWord::Answered { status: 200, headers: vec![], body } }).await;
    };
    let (ended, ()) = tokio::join!(ending, answering);
    assert_eq!(ended.status, StatusCode::SEE_OTHER, "{}", ended.text());
    let page = stage.tcp(Method::GET, "/connections?signed_in=x", &[("cookie", &cookie)], "").await.text();
    assert!(page.contains("Signed in to") && page.contains("live") && !page.contains("canary"), "{page}");
    assert_eq!(post(&stage, &cookie, "/connections/callback", &fields).await.status, StatusCode::FORBIDDEN, "once");
}

#[tokio::test]
async fn a_sign_in_that_another_session_began_is_refused_and_is_over_for_both() {
    let stage = Stage::start();
    added(&stage).await;
    let (mine, other) = (sign_in(&stage).await, sign_in(&stage).await);
    let state = field(&begun(&stage, &mine).await, "state").to_owned();
    for cookie in [&other, &mine] {
        let fields = [("state", state.as_str()), ("code", "c")];
        assert_eq!(post(&stage, cookie, "/connections/callback", &fields).await.status, StatusCode::FORBIDDEN);
    }
    let nobody = stage.tcp(Method::POST, "/connections/callback", &[FORM], "state=a&code=b").await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    let one: ConnectionView = stage.home(Method::GET, "/api/connections/x", None).await.json();
    assert_eq!(one.state, "new");
}

#[tokio::test]
async fn what_a_provider_sends_back_instead_of_a_code_is_shown_as_a_word_and_no_markup() {
    let stage = Stage::start();
    let path = "/connections/callback?error=access_denied%3Cscript%3E&state=x";
    let page = stage.tcp(Method::GET, path, &[], "").await;
    assert!(page.text().contains("access_deniedscript") && !page.text().contains("<script>"), "{}", page.text());
    let none = stage.tcp(Method::GET, "/connections/callback", &[], "").await;
    assert!(none.text().contains("There is no sign-in"));
}

#[tokio::test]
async fn the_page_asks_before_it_ends_or_removes_a_connection_and_does_it() {
    let stage = Stage::start();
    added(&stage).await;
    let cookie = sign_in(&stage).await;
    let asks = stage.tcp(Method::GET, "/connections/revoke?name=x", &[("cookie", &cookie)], "").await;
    assert!(asks.text().contains("End this connection?"));
    // One that nobody is signed in to is as wished.
    let done = post(&stage, &cookie, "/connections/revoke", &[("name", "x")]).await;
    assert_eq!(done.headers["location"], "/connections?ended=x");
    let asks = stage.tcp(Method::GET, "/connections/remove?name=x", &[("cookie", &cookie)], "").await.text();
    assert!(asks.contains("Remove this connection?") && !asks.contains("Nobody ends"), "{asks}");
    for _ in 0..2 {
        let done = post(&stage, &cookie, "/connections/remove", &[("name", "x")]).await;
        assert_eq!(done.headers["location"], "/connections?removed=x");
    }
    for (left, says) in [("", "✓ <code>x</code> is removed."), ("&left=2", "Nobody ends the 2 tokens of it")] {
        let path = format!("/connections?removed=x{left}");
        let page = stage.tcp(Method::GET, &path, &[("cookie", &cookie)], "").await.text();
        assert!(page.contains(says), "{page}");
    }
    let gone = stage.tcp(Method::GET, "/connections/revoke?name=y", &[("cookie", &cookie)], "").await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
}
