//! What vendors mint for leases, with a gateway and vendors that the tests play.
//!
//! Read `given` (what is minted, for what, and what is not taken), `pushes`, then `cut` (kills at each step, and leases that are
//! taken back).

pub mod cut;
mod given;
mod pushes;

use crate::stage::{Gateway, Operator, Stage, agent, exec, sha256, soon};
use crate::{egress, leases};
use api::git::{GitAct, GitAsk, GitPush, GitWord};
use api::grants::{EgressAsk, EgressWord, FromGateway, ToGateway, WireSecret};
use api::http::SecretView;
use api::leases::{LeaseAsk, LeaseEnd, LeaseUse, LeaseUser, LeaseView, ValueWord};
use api::link::{Down, Launch};
use api::platform::{CallWord, CredentialForm, Method as Asked, PlatformCall, Purpose};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use model::{Event, LeaseId, Moment, Outcome, Secret};
use serde_json::{Value, json};
use std::sync::LazyLock;
use store::leases::LeaseRow;

const TOKEN: &str = "ghs_canary0123456789abcdef";
const KEY: &str = "canary-secret-access-key-0123456789";
const BEARER: &str = "canary-bearer-0123456789";
const PROFILE: &str = r#"
[[repository]]
id = "shop"
url = "https://github.com/acme/shop.git"
secret = "capability/acme"

[[capability]]
name = "deploy"
secret = "capability/aws"
kind = "command"
destinations = ["shop-files"]
delivery = { file = "AWS_SHARED_CREDENTIALS_FILE" }
executables = ["/usr/bin/curl"]

[[capability]]
name = "issues"
secret = "capability/acme"
kind = "command"
destinations = ["github.com/acme/shop", "example.org"]
delivery = { variable = "ISSUES" }
executables = ["/usr/bin/curl"]

[[egress.write]]
capability = "acme"
host = "api.github.com"
method = "POST"
path = "/repos"

[[egress.write]]
capability = "cluster"
host = "k.example.org"
method = "POST"
path = "/apis"
"#;

/// A private key, as an app's settings give it to be downloaded: made once, which takes long.
fn pem() -> &'static str {
    static PEM: LazyLock<String> = LazyLock::new(|| {
        let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let body = STANDARD.encode(key.as_der().unwrap().as_ref());
        format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
    });
    &PEM
}

fn app() -> Value {
    json!({ "kind": "github-app", "app": "123", "installation": 45, "permissions": { "issues": "write" } })
}

fn role() -> Value {
    json!({
        "kind": "aws-role", "access-key": "AKIAIOSFODNN7EXAMPLE", "role": "arn:aws:iam::123456789012:role/deploy",
        "region": "eu-central-1",
    })
}

fn account() -> Value {
    json!({ "kind": "kubernetes-account", "base": "https://k.example.org", "namespace": "ci", "account": "deployer" })
}

async fn running(stage: &Stage) -> (Operator, Launch, Gateway) {
    minters(stage).await;
    let (operator, launch) = stage.running(PROFILE).await;
    (operator, launch, stage.gateway().await)
}

async fn commanding(stage: &Stage) -> (Operator, Launch, Gateway) {
    minters(stage).await;
    let (operator, launch) = stage.commanding(PROFILE).await;
    (operator, launch, stage.gateway().await)
}

async fn minters(stage: &Stage) {
    for (name, value, minter) in [("acme", pem(), app()), ("aws", KEY, role()), ("cluster", BEARER, account())] {
        stage.secret(&format!("capability/{name}"), json!({ "value": value, "minter": minter })).await;
    }
}

/// The next call to a vendor, and its number.
async fn heard(gateway: &mut Gateway) -> (u64, PlatformCall) {
    loop {
        match gateway.hear().await {
            ToGateway::Call { id, call } => return (id, *call),
            // What is over is told to the gateway as well.
            ToGateway::RevokeLease { .. } | ToGateway::Close { .. } | ToGateway::EndReads { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn answer(gateway: &mut Gateway, id: u64, status: u16, body: String) {
    let body = WireSecret(Secret::new(body));
    gateway.say(&FromGateway::Called { id, word: CallWord::Answered { status, headers: Vec::new(), body } }).await;
}

/// So many seconds from now, as vendors write it.
fn ends(seconds: i64) -> String {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + seconds).unwrap().to_string()
}

/// When every token of the app ends: an hour from the first of them.
static END: LazyLock<String> = LazyLock::new(|| ends(3_600));

fn token(token: &str, repository: &str, permissions: &Value) -> String {
    json!({
        "token": token, "expires_at": *END, "permissions": permissions,
        "repository_selection": "selected", "repositories": [{ "id": 1, "full_name": repository }],
    })
    .to_string()
}

fn session() -> String {
    let end = ends(900);
    format!(
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIAEXAMPLE</AccessKeyId>\
     <SecretAccessKey>canary/key+0123456789</SecretAccessKey><SessionToken>canary/session+0123456789</SessionToken>\
     <Expiration>{end}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
}

fn body(call: &PlatformCall) -> Value {
    serde_json::from_str(call.body.as_ref().unwrap().0.expose()).unwrap()
}

async fn git(gateway: &mut Gateway, launch: &Launch, act: GitAct) {
    let ask = GitAsk {
        run: launch.run.clone(),
        handle_sha256: leases::wish(launch).handle_sha256,
        repository: "shop".into(),
        act,
    };
    gateway.say(&FromGateway::AskGit { id: 9, ask }).await;
}

async fn git_word(gateway: &mut Gateway) -> GitWord {
    match gateway.hear().await {
        ToGateway::GitAnswer { id: 9, word } => word,
        other => panic!("{other:?}"),
    }
}

fn credential(word: GitWord) -> String {
    match word {
        GitWord::Granted { credential: Some(credential), .. } => {
            assert!(credential.until.is_some());
            assert_eq!((credential.user.as_str(), credential.secret.as_str()), ("x-access-token", "capability/acme"));
            credential.value.0.expose().clone()
        }
        other => panic!("{other:?}"),
    }
}

/// A fetch whose token is minted.
async fn fetched(gateway: &mut Gateway, launch: &Launch) {
    git(gateway, launch, GitAct::Fetch).await;
    let (id, call) = heard(gateway).await;
    assert_eq!(call.purpose, Purpose::Mint);
    answer(gateway, id, 201, token(TOKEN, "acme/shop", &json!({ "contents": "read", "metadata": "read" }))).await;
    assert_eq!(credential(git_word(gateway).await), TOKEN);
}

async fn deploy(gateway: &mut Gateway, launch: &Launch, capability: &str, destination: &str) -> LeaseId {
    let wish = LeaseAsk { capability: capability.into(), destination: destination.into(), ..leases::wish(launch) };
    let lease = leases::granted(gateway, wish).await.lease;
    let by = LeaseUser::Command {
        executable: "/usr/bin/curl".into(),
        executable_sha256: "0".repeat(64),
        argv_sha256: "0".repeat(64),
    };
    let used = LeaseUse { run: launch.run.clone(), lease: lease.clone(), by };
    gateway.say(&FromGateway::UseLease { id: 5, used }).await;
    lease
}

async fn used(gateway: &mut Gateway) -> ValueWord {
    match gateway.hear().await {
        ToGateway::LeaseValue { id: 5, word } => word,
        other => panic!("{other:?}"),
    }
}

fn rule(word: ValueWord) -> String {
    match word {
        ValueWord::Denied { rule, .. } => rule,
        ValueWord::Value { .. } => "value".into(),
    }
}

/// Whoever asked is denied by this rule what a vendor made, and the vendor is told by the value that it is over, whichever
/// comes first.
async fn denied_and_revoked(gateway: &mut Gateway, by: &str, value: &str) {
    let (mut denied, mut told) = (false, false);
    while !(denied && told) {
        match gateway.hear().await {
            ToGateway::LeaseValue { word: ValueWord::Denied { rule, .. }, .. }
            | ToGateway::GitAnswer { word: GitWord::Denied { rule, .. }, .. } => {
                assert_eq!(rule, by);
                denied = true;
            }
            ToGateway::Call { id, call } => {
                assert_eq!(
                    (call.purpose, call.credential.unwrap().value.0.expose().as_str()),
                    (Purpose::Revoke, value)
                );
                answer(gateway, id, 204, String::new()).await;
                told = true;
            }
            // A lease that is over is told to the gateway as well.
            ToGateway::RevokeLease { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn all(stage: &Stage) -> Vec<LeaseView> {
    stage.home(Method::GET, "/api/leases?all=true", None).await.json()
}

/// The leases, once one of them has a value that stands so.
async fn minted(stage: &Stage, word: &str) -> LeaseView {
    let look = async {
        loop {
            if let Some(lease) = all(stage).await.into_iter().find(|lease| lease.minted == word) {
                return lease;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    soon(&format!("a value that is {word}"), look).await
}

async fn evidence(stage: &Stage) -> String {
    stage.home(Method::GET, "/api/evidence", None).await.text()
}

/// Nothing of any value stands in what is kept or shown.
async fn nothing_leaked(stage: &Stage, launch: &Launch) {
    let lines = serde_json::to_string(&stage.transcript(&launch.run).await).unwrap();
    let secrets = stage.home(Method::GET, "/api/secrets", None).await.text();
    let leases = serde_json::to_string(&all(stage).await).unwrap();
    for text in [lines, secrets, leases, evidence(stage).await] {
        assert!(!text.contains("canary") && !text.contains("PRIVATE KEY"), "{text}");
    }
    let file = std::fs::read(stage.dir.path().join("server/volary.db")).unwrap();
    assert!(!String::from_utf8_lossy(&file).contains("canary"), "a value stands in the database");
}

/// Stops the server, changes the rows of all leases as a kill or time would have left them, and starts it again.
async fn changed(stage: &mut Stage, change: impl Fn(&mut LeaseRow) + Send + 'static) {
    stage.stop();
    let store = store::Store::open(&stage.dir.path().join("server/volary.db")).await.unwrap();
    let all = store.leases(500).await.unwrap();
    let act = store.write(move |tx| {
        Box::pin(async move {
            for mut lease in all {
                change(&mut lease);
                tx.keep_lease(&lease);
            }
            Ok::<_, store::StoreError>(())
        })
    });
    act.await.unwrap();
    drop(store);
    stage.again();
}

/// So much later that whatever is still to be done is due.
fn due(lease: &mut LeaseRow) {
    if lease.mint.next != Moment(0) {
        lease.mint.next = Moment(1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_others_are_minted_from_is_set_with_its_settings_goes_nowhere_itself_and_is_nobodys_own() {
    let stage = Stage::start();
    let put = async |body: Value| {
        let put = stage.home(Method::PUT, "/api/secrets/capability/acme", Some(body)).await;
        if put.status == StatusCode::OK { String::new() } else { put.code() }
    };
    assert_eq!(put(json!({ "value": pem(), "kind": "github-app" })).await, "secret.minter");
    assert_eq!(put(json!({ "value": "no key at all, but long", "minter": app() })).await, "secret.minter");
    assert_eq!(put(json!({ "value": pem(), "kind": "aws-role", "minter": app() })).await, "secret.minter");
    assert_eq!(put(json!({ "value": pem(), "minter": app(), "mine": true })).await, "secret.personal");
    let mut plain = app();
    plain["base"] = json!("http://git.example/api/v3");
    assert_eq!(put(json!({ "value": pem(), "minter": plain })).await, "secret.minter");
    assert_eq!(put(json!({ "value": pem(), "minter": app() })).await, "");
    let listed: Vec<SecretView> = stage.home(Method::GET, "/api/secrets", None).await.json();
    let row = listed.iter().find(|row| row.name == "capability/acme").unwrap();
    assert_eq!((row.kind.as_deref(), row.managed, row.personal), (Some("github-app"), true, false));
    assert_eq!(serde_json::to_value(row.minter.as_ref().unwrap()).unwrap(), app());
    // A new key keeps the settings; a key without them is another thing.
    assert_eq!(put(json!({ "value": pem() })).await, "");
    let again = stage.home(Method::POST, "/api/secrets/capability/acme", Some(json!({ "value": pem() }))).await;
    assert!(again.json::<SecretView>().minter.is_some());
}
