//! What vendors mint for leases, with a gateway and vendors that the tests play, and kills at each step.

use crate::stage::{Gateway, Operator, Stage, agent, exec, soon};
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
use model::{LeaseId, Moment, Secret};
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
    for (name, value, minter) in [("acme", pem(), app()), ("aws", KEY, role()), ("cluster", BEARER, account())] {
        let body = json!({ "value": value, "minter": minter });
        let put = stage.home(Method::PUT, &format!("/api/secrets/capability/{name}"), Some(body)).await;
        assert_eq!(put.status, StatusCode::OK, "{}", put.text());
    }
    let (operator, launch) = stage.running(PROFILE).await;
    (operator, launch, stage.gateway().await)
}

/// The next call to a vendor, and its number.
async fn heard(gateway: &mut Gateway) -> (u64, PlatformCall) {
    loop {
        match gateway.hear().await {
            ToGateway::Call { id, call } => return (id, *call),
            // A lease that is over is told to the gateway as well.
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
async fn git_with_an_apps_key_has_a_token_for_that_repository_alone_which_is_revoked_at_the_runs_end() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    git(&mut gateway, &launch, GitAct::Fetch).await;
    let (id, call) = heard(&mut gateway).await;
    assert_eq!(
        (call.url.as_str(), call.method),
        ("https://api.github.com/app/installations/45/access_tokens", Asked::Post)
    );
    assert_eq!(body(&call), json!({ "repositories": ["shop"], "permissions": { "contents": "read" } }));
    // That the vendor is asked stands on record before it is, and that it made something does not yet.
    let said = evidence(&stage).await;
    assert!(said.contains("lease.carried") && said.contains("mint.asked") && !said.contains("mint.made"), "{said}");
    answer(&mut gateway, id, 201, token(TOKEN, "acme/shop", &json!({ "contents": "read", "metadata": "read" }))).await;
    assert_eq!(credential(git_word(&mut gateway).await), TOKEN);
    assert!(evidence(&stage).await.contains("mint.made"));
    // What follows of the same has the same; a push another, which may write.
    git(&mut gateway, &launch, GitAct::Fetch).await;
    assert_eq!(credential(git_word(&mut gateway).await), TOKEN);
    git(&mut gateway, &launch, GitAct::Offer).await;
    let (id, call) = heard(&mut gateway).await;
    assert_eq!(body(&call)["permissions"], json!({ "contents": "write" }));
    answer(&mut gateway, id, 201, token("ghs_canary-of-the-push", "acme/shop", &json!({ "contents": "write" }))).await;
    assert_eq!(credential(git_word(&mut gateway).await), "ghs_canary-of-the-push");
    nothing_leaked(&stage, &launch).await;
    // Each is over with the run, and its vendor is told by the token itself.
    drop(stage.home(Method::POST, &format!("/api/runs/{}/cancel", launch.run), None).await);
    let leases = all(&stage).await;
    for lease in &leases {
        drop(stage.home(Method::POST, &format!("/api/leases/{}/revoke", lease.lease), None).await);
    }
    let mut ended = Vec::new();
    for _ in 0..2 {
        let (id, call) = heard(&mut gateway).await;
        assert_eq!((call.url.as_str(), call.method), ("https://api.github.com/installation/token", Asked::Delete));
        assert_eq!(call.purpose, Purpose::Revoke);
        ended.push(call.credential.unwrap().value.0.expose().clone());
        answer(&mut gateway, id, 204, String::new()).await;
    }
    ended.sort();
    assert_eq!(ended, ["ghs_canary-of-the-push", TOKEN]);
    let look = async {
        while all(&stage).await.iter().any(|lease| lease.minted != "revoked") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    soon("the end of both", look).await;
    assert!(evidence(&stage).await.contains("mint.revoked"));
    nothing_leaked(&stage, &launch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commands_lease_carries_a_session_in_a_file_of_credentials_and_it_is_said_that_nobody_can_end_it() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    let lease = deploy(&mut gateway, &launch, "deploy", "shop-files").await;
    let (id, call) = heard(&mut gateway).await;
    assert_eq!((call.url.as_str(), call.purpose), ("https://sts.eu-central-1.amazonaws.com/", Purpose::Mint));
    assert_eq!(call.credential.as_ref().unwrap().form, CredentialForm::Signature);
    let form = call.body.unwrap();
    assert!(form.0.expose().contains("DurationSeconds=900") && !form.0.expose().contains(KEY), "{}", form.0.expose());
    answer(&mut gateway, id, 200, session()).await;
    match used(&mut gateway).await {
        ValueWord::Value { value, secret, parts, until, .. } => {
            assert!(value.0.expose().starts_with("[default]\naws_access_key_id = ASIAEXAMPLE\n"));
            let parts: Vec<String> = parts.iter().map(|part| part.0.expose().clone()).collect();
            assert_eq!(parts, ["canary/key+0123456789", "canary/session+0123456789"]);
            assert_eq!((secret.as_str(), until.is_some()), ("capability/aws", true));
        }
        denied @ ValueWord::Denied { .. } => panic!("{denied:?}"),
    }
    assert_eq!(minted(&stage, "live").await.lease, lease);
    gateway.say(&FromGateway::EndLease { lease: lease.clone(), outcome: LeaseEnd::Completed }).await;
    let left = minted(&stage, "left").await;
    assert!(left.lease == lease && left.state == "completed" && left.minted_until.is_some(), "{left:?}");
    assert!(evidence(&stage).await.contains("mint.left"));
    nothing_leaked(&stage, &launch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_carries_a_minted_token_for_what_its_path_is_about_and_another_path_has_none() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    let (law, _) = egress::table(&mut gateway, &launch.run).await;
    let ask = |capability: &str, host: &str, path: &str| EgressAsk {
        capability: Some(capability.into()),
        host: host.into(),
        target: format!("https://{host}{path}"),
        ..egress::write(&launch, law)
    };
    let hears = async |gateway: &mut Gateway| match gateway.hear().await {
        ToGateway::EgressAnswer { id: 2, answer } => answer,
        other => panic!("{other:?}"),
    };
    let issues = ask("acme", "api.github.com", "/repos/acme/shop/issues");
    gateway.say(&FromGateway::AskEgress { id: 2, ask: issues.clone() }).await;
    let (id, call) = heard(&mut gateway).await;
    assert_eq!(body(&call), json!({ "repositories": ["shop"], "permissions": { "issues": "write" } }));
    answer(&mut gateway, id, 201, token(TOKEN, "acme/shop", &json!({ "issues": "write", "metadata": "read" }))).await;
    let EgressWord::Granted { credential: Some(credential), .. } = hears(&mut gateway).await else { panic!("no word") };
    assert_eq!((credential.value.0.expose().as_str(), credential.host.as_str()), (TOKEN, "api.github.com"));
    // The same again asks nobody.
    let EgressWord::Granted { credential: Some(again), .. } = egress::ask(&mut gateway, issues).await else {
        panic!("no word")
    };
    assert_eq!(again.value.0.expose(), TOKEN);
    let elsewhere = ask("acme", "api.github.com", "/repos/acme");
    assert_eq!(egress::rule(egress::ask(&mut gateway, elsewhere).await), "mint.destination");

    gateway.say(&FromGateway::AskEgress { id: 2, ask: ask("cluster", "k.example.org", "/apis/apps") }).await;
    let (id, call) = heard(&mut gateway).await;
    assert_eq!(call.url, "https://k.example.org/api/v1/namespaces/ci/serviceaccounts/deployer/token");
    assert_eq!(call.credential.as_ref().unwrap().value.0.expose(), BEARER);
    let said = json!({ "status": { "token": "canary-account-token", "expirationTimestamp": ends(600) } });
    answer(&mut gateway, id, 201, said.to_string()).await;
    let EgressWord::Granted { credential: Some(credential), .. } = hears(&mut gateway).await else { panic!("no word") };
    assert_eq!(credential.value.0.expose(), "canary-account-token");
    nothing_leaked(&stage, &launch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_vendor_refuses_or_makes_too_wide_is_not_given_and_the_wider_one_is_ended() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    // No lease for what no value can be made for.
    let wish = LeaseAsk { capability: "issues".into(), destination: "example.org".into(), ..leases::wish(&launch) };
    assert_eq!(leases::denied(leases::ask(&mut gateway, wish).await), "mint.destination");

    let lease = deploy(&mut gateway, &launch, "issues", "github.com/acme/shop").await;
    let (id, _) = heard(&mut gateway).await;
    answer(&mut gateway, id, 422, json!({ "message": "there is no such repository" }).to_string()).await;
    assert_eq!(rule(used(&mut gateway).await), "mint.refused");
    let failed = minted(&stage, "failed").await;
    assert_eq!((failed.lease, failed.state.as_str()), (lease, "completed"));

    deploy(&mut gateway, &launch, "issues", "github.com/acme/shop").await;
    let (id, _) = heard(&mut gateway).await;
    answer(&mut gateway, id, 201, token(TOKEN, "acme/shop", &json!({ "administration": "write" }))).await;
    assert_eq!(rule(used(&mut gateway).await), "mint.wider");
    let (id, call) = heard(&mut gateway).await;
    assert_eq!(call.credential.unwrap().value.0.expose(), TOKEN);
    answer(&mut gateway, id, 204, String::new()).await;
    minted(&stage, "revoked").await;
    nothing_leaked(&stage, &launch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_lives_longer_than_was_asked_for_is_not_given_and_is_ended_or_said_to_be_left() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    let (law, _) = egress::table(&mut gateway, &launch.run).await;
    let ask = EgressAsk {
        capability: Some("cluster".into()),
        host: "k.example.org".into(),
        target: "https://k.example.org/apis/apps".into(),
        ..egress::write(&launch, law)
    };
    for end in [ends(365 * 86_400), ends(-60)] {
        gateway.say(&FromGateway::AskEgress { id: 2, ask: ask.clone() }).await;
        let (id, _) = heard(&mut gateway).await;
        let said = json!({ "status": { "token": "canary-account-token", "expirationTimestamp": end } });
        answer(&mut gateway, id, 201, said.to_string()).await;
        loop {
            match gateway.hear().await {
                ToGateway::EgressAnswer { id: 2, answer } => break assert_eq!(egress::rule(answer), "mint.wider"),
                ToGateway::RevokeLease { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(minted(&stage, "left").await.state, "completed", "{end}");
    }
    assert_eq!(evidence(&stage).await.matches("mint.left").count(), 2);

    git(&mut gateway, &launch, GitAct::Fetch).await;
    let (id, _) = heard(&mut gateway).await;
    let long = token(TOKEN, "acme/shop", &json!({ "contents": "read" })).replace(&*END, &ends(86_400));
    answer(&mut gateway, id, 201, long).await;
    let (mut denied, mut told) = (false, false);
    while !(denied && told) {
        match gateway.hear().await {
            ToGateway::GitAnswer { word: GitWord::Denied { rule, .. }, .. } => {
                assert_eq!(rule, "mint.wider");
                denied = true;
            }
            ToGateway::Call { id, call } => {
                assert_eq!(
                    (call.purpose, call.credential.unwrap().value.0.expose().as_str()),
                    (Purpose::Revoke, TOKEN)
                );
                answer(&mut gateway, id, 204, String::new()).await;
                told = true;
            }
            ToGateway::RevokeLease { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    minted(&stage, "revoked").await;
    nothing_leaked(&stage, &launch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_minted_for_a_host_goes_to_no_other_port_of_it() {
    let stage = Stage::start();
    let (_operator, _launch, _gateway) = running(&stage).await;
    let row = |capability: &str, host: &str| {
        format!(
            "[[egress.write]]\ncapability = \"{capability}\"\nhost = \"{host}\"\nport = 8443\nmethod = \"POST\"\npath = \"/\"\n"
        )
    };
    let repository = "[[repository]]\nid = \"shop\"\nurl = \"https://github.com:8443/acme/shop.git\"\nsecret = \"capability/acme\"\n";
    for profile in [row("cluster", "k.example.org"), row("acme", "api.github.com"), repository.to_owned()] {
        std::fs::write(stage.dir.path().join("profiles/other.toml"), &profile).unwrap();
        let mut wish = agent("x");
        wish.profile = Some("other".into());
        let refused = stage.home(Method::POST, "/api/runs", Some(serde_json::to_value(&wish).unwrap())).await;
        assert_eq!(refused.code(), "secret.other-host", "{profile}: {}", refused.text());
    }
}

/// The word on a question about the repository, whatever else is said meanwhile.
async fn git_denied(gateway: &mut Gateway) -> String {
    loop {
        match gateway.hear().await {
            ToGateway::GitAnswer { word: GitWord::Denied { rule, .. }, .. } => return rule,
            ToGateway::RevokeLease { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn look(launch: &Launch) -> GitAct {
    let branch = launch.variables.iter().find(|(name, _)| name == "VOLARY_BRANCH").map(|(_, branch)| branch);
    let reference = format!("refs/heads/{}", branch.unwrap());
    GitAct::Look { reference, old: "0".repeat(40), new: "1".repeat(40) }
}

/// The leases of pushes.
async fn pushes(stage: &Stage) -> Vec<LeaseView> {
    all(stage).await.into_iter().filter(|lease| lease.capability == "push/shop").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_whose_lease_is_refused_has_no_vendor_asked_and_no_lease_of_a_refused_one_is_left_open() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    let GitAct::Look { reference, old, new } = look(&launch) else { panic!("a look") };
    let push = GitPush {
        lease: LeaseId::parse("nobodys").unwrap(),
        reference,
        old,
        new,
        bytes: 1,
        objects: 1,
        paths: vec!["a".into()],
        paths_count: 1,
        paths_sha256: "0".repeat(64),
        pipelines: Vec::new(),
        there: None,
        fresh: true,
        commits: 1,
        others: Vec::new(),
        others_count: 0,
        onto: None,
    };
    git(&mut gateway, &launch, GitAct::Push(push.into())).await;
    assert_eq!(git_denied(&mut gateway).await, "lease.unknown");
    let said = evidence(&stage).await;
    assert!(!said.contains("lease.carried") && !said.contains("mint.asked"), "{said}");
    assert_eq!(all(&stage).await, []);

    // The vendor makes none, as often as it may be asked in a minute; of each push that began with that none is open.
    let most = 6;
    for n in 1..=most {
        git(&mut gateway, &launch, if n == 1 { look(&launch) } else { GitAct::Fetch }).await;
        let (id, _) = heard(&mut gateway).await;
        answer(&mut gateway, id, 500, String::new()).await;
        assert_eq!(git_denied(&mut gateway).await, "mint.unknown");
    }
    let [first] = &pushes(&stage).await[..] else { panic!("one push began") };
    assert_eq!((first.state.as_str(), first.ended_by.as_str()), ("revoked", "given up"));
    git(&mut gateway, &launch, look(&launch)).await;
    assert_eq!(git_denied(&mut gateway).await, "lease.per-minute");
    let ended: Vec<String> = pushes(&stage).await.into_iter().map(|lease| lease.state).collect();
    assert_eq!(ended, ["revoked", "revoked"]);
    assert_eq!(evidence(&stage).await.matches("lease.carried").count(), most);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_without_a_lease_is_launched_again_without_the_one_that_its_fetch_was_carried_by() {
    let stage = Stage::start();
    let (operator, _launch, mut gateway) = running(&stage).await;
    drop(operator);
    let mut wish = exec(&["git", "fetch"]);
    wish.profile = Some("p".into());
    let run = stage.create(&wish).await.run;
    let launched = async |stage: &Stage| {
        let mut operator = stage.operator(vec![]).await;
        loop {
            match operator.hear().await {
                Down::Launch(launch) if launch.run == run => return (operator, *launch),
                // Of the agent's run.
                _ => {}
            }
        }
    };
    let (operator, launch) = launched(&stage).await;
    assert_eq!((launch.attempt, &launch.lease), (1, &None));
    let shown = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, launch.handle.as_ref().unwrap().as_bytes());
    let handle_sha256 = shown.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let ask = GitAsk { run: run.clone(), handle_sha256, repository: "shop".into(), act: GitAct::Fetch };
    gateway.say(&FromGateway::AskGit { id: 9, ask }).await;
    let (id, _) = heard(&mut gateway).await;
    answer(&mut gateway, id, 201, token(TOKEN, "acme/shop", &json!({ "contents": "read" }))).await;
    assert_eq!(credential(git_word(&mut gateway).await), TOKEN);
    assert_eq!(minted(&stage, "live").await.run, run);
    drop(operator);
    let (_operator, again) = launched(&stage).await;
    assert_eq!((again.run, again.lease), (run.clone(), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_taken_back_while_its_vendor_is_asked_gives_nothing_and_what_comes_is_revoked() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    let lease = deploy(&mut gateway, &launch, "issues", "github.com/acme/shop").await;
    let (id, _) = heard(&mut gateway).await;
    let taken = stage.home(Method::POST, &format!("/api/leases/{lease}/revoke"), None).await;
    assert_eq!(taken.json::<LeaseView>().minted, "asked");
    assert!(matches!(gateway.hear().await, ToGateway::RevokeLease { lease: of } if of == lease));
    answer(&mut gateway, id, 201, token(TOKEN, "acme/shop", &json!({ "issues": "write" }))).await;
    let (mut denied, mut told) = (false, false);
    while !(denied && told) {
        match gateway.hear().await {
            ToGateway::LeaseValue { word, .. } => {
                assert_eq!(rule(word), "lease.revoked");
                denied = true;
            }
            ToGateway::Call { id, call } => {
                assert_eq!(call.credential.as_ref().unwrap().value.0.expose(), TOKEN);
                answer(&mut gateway, id, 204, String::new()).await;
                told = true;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(minted(&stage, "revoked").await.lease, lease);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_kill_between_the_question_and_its_answer_it_is_said_that_something_may_have_been_minted() {
    let mut stage = Stage::start();
    let (operator, launch, mut gateway) = running(&stage).await;
    git(&mut gateway, &launch, GitAct::Fetch).await;
    let (_, call) = heard(&mut gateway).await;
    assert_eq!(call.purpose, Purpose::Mint);
    // The vendor has made one by now. A kill leaves the row as it is on record; a server that ends in peace says so itself.
    let killed = |lease: &mut LeaseRow| {
        (lease.state, lease.ended, lease.mint.state) = ("consumed".into(), None, "asked".into());
        lease.mint.next = Moment(1);
    };
    changed(&mut stage, killed).await;
    drop((operator, gateway));
    let unknown = minted(&stage, "unknown").await;
    assert!(unknown.minted_until.is_some(), "{unknown:?}");
    let said = evidence(&stage).await;
    assert!(said.contains("mint.unknown") && said.contains("which nobody has"), "{said}");
    assert!(!said.contains("mint.made"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_gateway_goes_away_with_the_question_it_is_said_at_once_and_the_next_fetch_has_a_token_of_its_own() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    git(&mut gateway, &launch, GitAct::Fetch).await;
    heard(&mut gateway).await;
    drop(gateway);
    // What is known of the value is kept first, and then that its lease is over.
    let over = async {
        while minted(&stage, "unknown").await.state != "completed" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    soon("the end of its lease", over).await;
    let mut gateway = stage.gateway().await;
    fetched(&mut gateway, &launch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kills_between_value_use_and_end_a_value_is_revoked_all_the_same() {
    let mut stage = Stage::start();
    let (operator, launch, mut gateway) = running(&stage).await;
    fetched(&mut gateway, &launch).await;
    // Killed with a value that is live: whoever connects next has it no more.
    drop((operator, gateway));
    stage.again();
    let mut gateway = stage.gateway().await;
    let (_, call) = heard(&mut gateway).await;
    assert_eq!((call.purpose, call.credential.unwrap().value.0.expose().as_str()), (Purpose::Revoke, TOKEN));
    // Killed again, before the vendor's answer is heard.
    drop(gateway);
    changed(&mut stage, due).await;
    let mut gateway = stage.gateway().await;
    let (id, call) = heard(&mut gateway).await;
    assert_eq!(call.credential.unwrap().value.0.expose(), TOKEN);
    // The vendor is out of order once more, and asked again; it has ended it at the first question.
    answer(&mut gateway, id, 503, String::new()).await;
    let (id, _) = heard(&mut gateway).await;
    answer(&mut gateway, id, 401, String::new()).await;
    minted(&stage, "revoked").await;
    let said = evidence(&stage).await;
    assert!(said.matches("mint.ending").count() >= 3 && said.matches("mint.revoked").count() == 1, "{said}");
    nothing_leaked(&stage, &launch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_cannot_be_revoked_is_given_up_after_bounded_tries_and_its_end_is_on_record() {
    let mut stage = Stage::start();
    let (operator, launch, mut gateway) = running(&stage).await;
    fetched(&mut gateway, &launch).await;
    drop((operator, gateway));
    let tried = |lease: &mut LeaseRow| {
        (lease.state, lease.mint.state) = ("completed".into(), "ending".into());
        (lease.mint.tries, lease.mint.next) = (vault::mint::TRIES, Moment(1));
    };
    changed(&mut stage, tried).await;
    let _gateway = stage.gateway().await;
    let left = minted(&stage, "left").await;
    let said: jiff::Timestamp = END.parse().unwrap();
    assert_eq!(left.minted_until, Some(Moment(said.as_millisecond())), "the vendor's own word");
    assert!(evidence(&stage).await.contains("It could not be revoked."));
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
