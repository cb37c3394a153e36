//! OAuth connections over the server's sockets, with a gateway and a provider that the tests play.

mod ends;
mod held;
mod late;
mod uses;

use crate::stage::{Answer, Stage, soon};
use api::connections::{ConnectionRemoved, ConnectionView};
use api::frame;
use api::grants::{FromGateway, StoredValue, ToGateway, WireSecret};
use api::platform::{CallWord, PlatformCall, Purpose};
use http::{Method, StatusCode};
use model::Secret;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;

/// What is said of the end of a connection.
async fn revoked(stage: &Stage) -> Answer {
    stage.home(Method::POST, "/api/connections/x/revoke", Some(json!({}))).await
}

/// Tokens that a test has its provider say when they are asked for no more.
fn late_tokens() -> CallWord {
    said(200, &json!({ "access_token": "late-canary-1", "refresh_token": "late-canary-2", "expires_in": 3600 }))
}

/// What the provider does with a refresh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    /// New tokens, the access token good for so many seconds.
    Good(u64),
    /// It acts, and its answer is lost.
    Lost,
    /// It does not act, and nobody hears so.
    Cut,
    /// It was not reached.
    Unsent,
    /// It says no.
    Refused,
    /// It waits for the test.
    Held,
}

#[derive(Default)]
struct Played {
    /// Every call: what for, its address, its form.
    calls: Vec<(Purpose, String, String)>,
    turns: VecDeque<Turn>,
    /// The refresh token that is good.
    good: u64,
    held: Vec<u64>,
    /// The question for a sign-in's tokens waits for the test.
    sign_in_held: bool,
    /// Ending a token does not work.
    deaf: bool,
    /// Whoever ends a token waits for the test.
    silent: bool,
    /// What ending a token is answered with; then that it is ended.
    ends: VecDeque<(u16, &'static str)>,
    /// A sign-in gives no refresh token.
    access_only: bool,
    /// Seconds that the access token of a sign-in is good for.
    lives: u64,
    /// What a device's code is, in place of an ordinary one.
    code: Option<&'static str>,
    /// The values of which the gateway was told that they are no more.
    over: Vec<StoredValue>,
}

impl Played {
    /// The tokens that were to be ended, with each question for one.
    fn ended(&self) -> Vec<String> {
        let of = |call: &&(Purpose, String, String)| call.0 == Purpose::Revoke;
        let token = |form: &str| form.split('&').find_map(|field| field.strip_prefix("token=")).unwrap().to_owned();
        self.calls.iter().filter(of).map(|call| token(&call.2)).collect()
    }

    fn of(&self, purpose: Purpose) -> usize {
        self.calls.iter().filter(|call| call.0 == purpose).count()
    }

    /// What became of a call; none for one that is held.
    fn answer(&mut self, id: u64, call: &PlatformCall) -> Option<CallWord> {
        let form = call.body.as_ref().map_or_else(String::new, |body| body.0.expose().clone());
        self.calls.push((call.purpose, call.url.clone(), form.clone()));
        let fault = |unsent| CallWord::Fault { unsent, rule: "platform.cut".into(), why: "It broke off.".into() };
        Some(match call.purpose {
            Purpose::Device => said(
                200,
                &json!({
                    "device_code": "device-canary-1", "user_code": self.code.unwrap_or("AB-CD"), "verification_uri": "https://auth.example/device",
                    "expires_in": 600, "interval": 1,
                }),
            ),
            Purpose::SignIn if self.sign_in_held => {
                self.held.push(id);
                return None;
            }
            Purpose::SignIn => self.tokens(self.lives),
            Purpose::Revoke if self.silent => {
                self.held.push(id);
                return None;
            }
            Purpose::Revoke if self.deaf => fault(false),
            Purpose::Revoke => {
                let (status, error) = self.ends.pop_front().unwrap_or((200, ""));
                said(status, &if error.is_empty() { json!({}) } else { json!({ "error": error }) })
            }
            _ => {
                let shown = format!("refresh_token=refresh-canary-{}&", self.good);
                match self.turns.pop_front().unwrap_or(Turn::Good(3600)) {
                    Turn::Unsent => fault(true),
                    Turn::Cut => fault(false),
                    Turn::Held => {
                        self.held.push(id);
                        return None;
                    }
                    Turn::Refused => said(400, &json!({ "error": "invalid_grant" })),
                    _ if !format!("{form}&").contains(&shown) => said(400, &json!({ "error": "invalid_grant" })),
                    Turn::Lost => {
                        self.good += 1;
                        fault(false)
                    }
                    Turn::Good(lives) => self.tokens(lives),
                }
            }
        })
    }

    fn tokens(&mut self, lives: u64) -> CallWord {
        self.good += 1;
        let mut tokens = json!({
            "access_token": format!("access-canary-{}", self.good), "token_type": "Bearer", "expires_in": lives,
            "refresh_token": format!("refresh-canary-{}", self.good),
        });
        if self.access_only {
            tokens["refresh_token"] = Value::Null;
        }
        said(200, &tokens)
    }
}

fn said(status: u16, body: &Value) -> CallWord {
    CallWord::Answered { status, headers: Vec::new(), body: WireSecret(Secret::new(body.to_string())) }
}

#[derive(Clone, Default)]
struct Provider(Arc<Mutex<Played>>);

impl Provider {
    fn look<T>(&self, at: impl FnOnce(&mut Played) -> T) -> T {
        at(&mut self.0.lock().unwrap())
    }

    /// Plays a gateway that has this provider behind it, until the server ends.
    async fn behind(&self, stage: &Stage) -> Arc<tokio::sync::Mutex<OwnedWriteHalf>> {
        let (mut from, to) = dial(stage).await.into_split();
        let to = Arc::new(tokio::sync::Mutex::new(to));
        let (provider, out) = (self.clone(), to.clone());
        tokio::spawn(async move {
            while let Ok(word) = frame::read::<ToGateway>(&mut from).await {
                match word {
                    ToGateway::Call { id, call } => {
                        if let Some(word) = provider.look(|played| played.answer(id, &call)) {
                            say(&out, id, word).await;
                        }
                    }
                    ToGateway::EndValue { value } => provider.look(|played| played.over.push(value)),
                    _ => {}
                }
            }
        });
        to
    }

    async fn until(&self, what: &str, so: impl Fn(&Played) -> bool) {
        eventually(what, async || self.look(|played| so(played))).await;
    }
}

/// The connection of a gateway. One that meets what another server on the database wrote is cut, and dials again, as the
/// real one does.
async fn dial(stage: &Stage) -> UnixStream {
    let mut dialled = None;
    eventually("a gateway's dial", async || {
        let mut stream = UnixStream::connect(stage.socket("gateway")).await.unwrap();
        let hello = FromGateway::Hello { open: Vec::new(), leases: Vec::new(), values: Vec::new() };
        let said = frame::write(&mut stream, &hello).await.is_ok();
        let heard = said && frame::read::<ToGateway>(&mut stream).await.is_ok();
        dialled = heard.then_some(stream);
        heard
    })
    .await;
    dialled.unwrap()
}

async fn say(to: &tokio::sync::Mutex<OwnedWriteHalf>, id: u64, word: CallWord) {
    // A server that has ended by now does not hear it.
    drop(frame::write(&mut *to.lock().await, &FromGateway::Called { id, word }).await);
}

async fn eventually(what: &str, mut so: impl AsyncFnMut() -> bool) {
    tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while !so().await {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

fn settings() -> Value {
    json!({ "settings": {
        "authorize_url": "https://auth.example/authorize", "device_url": "https://auth.example/device", "token_url": "https://auth.example/token",
        "revoke_url": "https://auth.example/revoke", "client_id": "volary", "scopes": ["read", "write"],
        "hosts": ["api.example.org"],
    } })
}

/// The same for a provider that has no address at which tokens are ended.
fn without_an_end() -> Value {
    let mut settings = settings();
    settings["settings"]["revoke_url"] = Value::Null;
    settings
}

async fn view(stage: &Stage, name: &str) -> ConnectionView {
    stage.home(Method::GET, &format!("/api/connections/{name}"), None).await.json()
}

/// An act that is done at the latest when another server on the database is not in between.
async fn done(stage: &Stage, method: Method, path: &str, body: Value) -> ConnectionView {
    let mut view = None;
    eventually("an act", async || {
        let answer = stage.home(method.clone(), path, Some(body.clone())).await;
        assert!(answer.status.is_success() || answer.status.is_server_error(), "{}", answer.text());
        view = answer.status.is_success().then(|| answer.json());
        view.is_some()
    })
    .await;
    view.unwrap()
}

/// A connection that was signed in to with a device's code, and whose access token is over at once.
async fn signed_in(stage: &Stage, name: &str) {
    signed_in_to(stage, name, settings()).await;
}

async fn signed_in_to(stage: &Stage, name: &str, settings: Value) {
    let before = done(stage, Method::PUT, &format!("/api/connections/{name}"), settings).await.generation;
    let begun = done(stage, Method::POST, &format!("/api/connections/{name}/device"), json!({})).await;
    assert_eq!(begun.device.unwrap().user_code, "AB-CD");
    // It may be over again by the time that it is seen.
    eventually("the sign-in", async || view(stage, name).await.generation > before).await;
}

async fn test(stage: &Stage, name: &str) -> Result<ConnectionView, String> {
    // The stage's own patience is not asked here: the server's, of 25 s for a token, is what ends it.
    let answer = stage.home(Method::POST, &format!("/api/connections/{name}/test"), Some(json!({}))).await;
    if answer.status == StatusCode::OK { Ok(answer.json()) } else { Err(answer.code()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_devices_code_that_is_a_secret_of_the_home_is_shown_to_nobody() {
    let stage = Stage::start();
    let provider = Provider::default();
    let _to = provider.behind(&stage).await;
    let mut settings = settings();
    settings["client_secret"] = json!("client-canary-0123");
    done(&stage, Method::PUT, "/api/connections/x", settings).await;
    provider.look(|played| played.code = Some("client-canary-0123"));
    let mut said = String::new();
    // Until its gateway is there it is another answer.
    eventually("the refusal", async || {
        said = stage.home(Method::POST, "/api/connections/x/device", Some(json!({}))).await.text();
        said.contains("has a secret of this home")
    })
    .await;
    let shown = stage.home(Method::GET, "/api/connections", None).await.text();
    assert!(!said.contains("client-canary") && !shown.contains("client-canary"), "{said} {shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_that_need_a_token_at_once_lead_to_one_refresh_and_all_have_it() {
    let stage = Arc::new(Stage::start());
    let provider = Provider::default();
    let _to = provider.behind(&stage).await;
    signed_in(&stage, "x").await;
    let all: Vec<_> = (0..50)
        .map(|_| {
            let stage = stage.clone();
            tokio::spawn(async move { test(&stage, "x").await })
        })
        .collect();
    for one in all {
        let view = soon("an answer", one).await.unwrap().unwrap();
        assert_eq!((view.state.as_str(), view.generation > 0), ("live", true));
    }
    // The token of the sign-in was over before they came, or while they did.
    eventually("the refresh", async || view(&stage, "x").await.generation == 2).await;
    assert_eq!(provider.look(|played| played.of(Purpose::Refresh)), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_wait_for_a_token_and_whoever_comes_then_is_told_at_once() {
    let stage = Arc::new(Stage::start());
    let provider = Provider::default();
    let to = provider.behind(&stage).await;
    provider.look(|played| played.turns.extend([Turn::Held]));
    signed_in(&stage, "x").await;
    provider.until("the refresh", |played| !played.held.is_empty()).await;
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..70 {
        let stage = stage.clone();
        all.spawn(async move { test(&stage, "x").await });
    }
    for _ in 64..70 {
        let one = soon("a refusal", all.join_next()).await.unwrap().unwrap();
        assert_eq!(one.unwrap_err(), "connection.stale");
    }
    let (id, tokens) = provider.look(|played| (played.held[0], played.tokens(3600)));
    say(&to, id, tokens).await;
    while let Some(one) = soon("an answer", all.join_next()).await {
        assert_eq!(one.unwrap().unwrap().generation, 2);
    }
    // Their places are free again.
    test(&stage, "x").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_is_in_the_journal_and_on_record_before_it_is_sent() {
    let stage = Stage::start();
    let provider = Provider::default();
    let _to = provider.behind(&stage).await;
    provider.look(|played| played.turns.extend([Turn::Held]));
    signed_in(&stage, "x").await;
    provider.until("the refresh", |played| !played.held.is_empty()).await;
    // The provider has been asked, and has not answered.
    assert!(view(&stage, "x").await.said.contains("being refreshed"));
    let evidence = stage.home(Method::GET, "/api/evidence", None).await.text();
    let of = |kind: &str| evidence.lines().filter(|line| line.contains(kind)).count();
    assert_eq!((of("connection.refresh\""), of("\"purpose\":\"refresh\"")), (1, 1), "{evidence}");
    assert_eq!(of("connection.answered"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_database_refresh_once_between_them() {
    let first = Arc::new(Stage::start());
    // Its database is there once it answers.
    assert_eq!(first.home(Method::GET, "/api/health", None).await.status, StatusCode::OK);
    let second = Arc::new(Stage::beside(&first));
    let provider = Provider::default();
    let _to = (provider.behind(&first).await, provider.behind(&second).await);
    signed_in(&first, "x").await;
    let all: Vec<_> = (0..50)
        .map(|n| {
            let stage = if n % 2 == 0 { first.clone() } else { second.clone() };
            tokio::spawn(async move { test(&stage, "x").await })
        })
        .collect();
    for one in all {
        soon("an answer", one).await.unwrap().unwrap();
    }
    eventually("the refresh", async || view(&second, "x").await.generation == 2).await;
    assert_eq!(provider.look(|played| played.of(Purpose::Refresh)), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_is_asked_for_once_more_with_the_old_token_and_then_the_connection_says_that_it_is_closed()
 {
    let stage = Stage::start();
    let provider = Provider::default();
    let _to = provider.behind(&stage).await;
    provider.look(|played| played.turns.extend([Turn::Lost, Turn::Good(3600)]));
    signed_in(&stage, "x").await;
    // The provider has changed its tokens, and nobody has the new ones.
    assert_eq!(test(&stage, "x").await.unwrap_err(), "connection.closed");
    let closed = view(&stage, "x").await;
    assert_eq!(closed.state, "lapsed");
    assert!(closed.said.contains("sign in again"), "{}", closed.said);
    let forms = provider.look(|played| {
        let refresh = |call: &&(Purpose, String, String)| call.0 == Purpose::Refresh;
        played.calls.iter().filter(refresh).map(|call| call.2.clone()).collect::<Vec<_>>()
    });
    assert_eq!(forms.len(), 2);
    assert!(forms.iter().all(|form| form.contains("refresh_token=refresh-canary-1&")), "{forms:?}");
    // Signing in again opens it.
    signed_in(&stage, "x").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_did_not_reach_the_provider_costs_no_sign_in() {
    let stage = Stage::start();
    let provider = Provider::default();
    let _to = provider.behind(&stage).await;
    provider.look(|played| played.turns.extend([Turn::Unsent, Turn::Good(3600)]));
    signed_in(&stage, "x").await;
    assert_eq!(test(&stage, "x").await.unwrap().generation, 2);
    assert_eq!(provider.look(|played| played.of(Purpose::Refresh)), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_that_the_provider_no_longer_takes_closes_the_connection_at_once() {
    let stage = Stage::start();
    let provider = Provider::default();
    let _to = provider.behind(&stage).await;
    provider.look(|played| played.turns.extend([Turn::Refused]));
    signed_in(&stage, "x").await;
    assert_eq!(test(&stage, "x").await.unwrap_err(), "connection.closed");
    assert_eq!(view(&stage, "x").await.state, "lapsed");
    assert_eq!(provider.look(|played| played.of(Purpose::Refresh)), 1, "it is not asked again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_is_in_an_answer_a_page_a_record_or_a_file() {
    let mut stage = Stage::start();
    let provider = Provider::default();
    let _to = provider.behind(&stage).await;
    let mut with_secret = settings();
    with_secret["client_secret"] = json!("client-canary-0123");
    stage.home(Method::PUT, "/api/connections/x", Some(with_secret)).await;
    stage.home(Method::POST, "/api/connections/x/device", Some(json!({}))).await;
    eventually("the sign-in", async || view(&stage, "x").await.state == "live").await;
    test(&stage, "x").await.unwrap();
    for path in ["/api/connections", "/api/connections/x", "/api/secrets", "/api/evidence", "/connections", "/secrets"]
    {
        let answer = stage.home(Method::GET, path, None).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert!(!answer.text().contains("canary"), "{path}: {}", answer.text());
    }
    stage.stop();
    let mut seen = 0;
    for entry in std::fs::read_dir(stage.dir.path().join("server")).unwrap() {
        let path = entry.unwrap().path();
        let Ok(bytes) = std::fs::read(&path) else { continue };
        for canary in ["access-canary", "refresh-canary", "client-canary", "device-canary"] {
            let canary = canary.as_bytes();
            assert!(!bytes.windows(canary.len()).any(|part| part == canary), "{}", path.display());
        }
        seen += 1;
    }
    assert!(seen >= 1, "the database");
}

#[tokio::test]
async fn a_connection_is_added_with_addresses_that_keep_its_tokens_and_no_others() {
    let stage = Stage::start();
    let put = async |change: fn(&mut Value)| {
        let mut wish = settings();
        change(&mut wish["settings"]);
        stage.home(Method::PUT, "/api/connections/x", Some(wish)).await
    };
    assert_eq!(put(|s| s["token_url"] = json!("http://auth.example/token")).await.code(), "connection.url");
    assert_eq!(put(|s| s["token_url"] = json!("https://u:p@auth.example/")).await.code(), "connection.url");
    let nowhere = put(|s| (s["device_url"], s["authorize_url"]) = (Value::Null, Value::Null)).await;
    assert_eq!(nowhere.code(), "connection.url");
    assert_eq!(put(|s| s["client_id"] = json!("")).await.code(), "connection.client");
    assert_eq!(put(|s| s["provider"] = json!("nobody")).await.code(), "connection.provider");
    assert_eq!(put(|s| s["scopes"] = json!(["a b"])).await.code(), "connection.scopes");
    for sent in ["device_url", "revoke_url"] {
        let mut wish = settings();
        wish["settings"][sent] = json!("https://another.example/oauth");
        let refused = stage.home(Method::PUT, "/api/connections/x", Some(wish.clone())).await;
        assert_eq!(refused.code(), "connection.other-host", "{sent}");
        assert!(refused.text().contains("--host another.example"), "{}", refused.text());
        // Unless it is named.
        wish["settings"]["hosts"] = json!(["another.example"]);
        assert_eq!(
            stage.home(Method::PUT, "/api/connections/x", Some(wish)).await.json::<ConnectionView>().state,
            "new"
        );
    }
    // A forge of one's own in the style of a known one has none of that one's addresses.
    let own = put(|s| {
        for (key, value) in [
            ("provider", json!("gitlab")),
            ("token_url", json!("https://git.example.org/oauth/token")),
            ("authorize_url", json!("https://git.example.org/oauth/authorize")),
            ("device_url", Value::Null),
            ("revoke_url", Value::Null),
        ] {
            s[key] = value;
        }
    })
    .await;
    let own: ConnectionView = own.json();
    assert_eq!((own.settings.device_url, own.settings.revoke_url), (None, None));
    assert_eq!(put(|_| ()).await.json::<ConnectionView>().state, "new");
    assert_eq!(test(&stage, "x").await.unwrap_err(), "connection.closed");
    assert_eq!(test(&stage, "y").await.unwrap_err(), "connection.unknown");
    // Its token is nobody's to set as a secret.
    let set = stage.home(Method::PUT, "/api/secrets/connection/x", Some(json!({ "value": "0123456789" }))).await;
    assert_eq!(set.code(), "secret.name");
    let removed: ConnectionRemoved = stage.home(Method::DELETE, "/api/connections/x", None).await.json();
    assert_eq!(removed.left, 0);
    assert_eq!(stage.home(Method::GET, "/api/connections/x", None).await.code(), "connection.unknown");
}
