//! Leases, with a gateway that the tests play.

mod bounds;

use crate::stage::{Answer, Gateway, Operator, Stage, exec, handle_sha256, sha256};
use api::grants::{EgressAsk, EgressKind, EgressWord, FromGateway, ToGateway};
use api::leases::{Given, LeaseAsk, LeaseEnd, LeaseRevoked, LeaseUse, LeaseUser, LeaseView, LeaseWord, ValueWord};
use api::link::{Down, Launch};
use http::{Method, StatusCode};
use model::capability::Delivery;
use model::event::Verdict;
use model::{Event, LeaseId, Outcome};
use serde_json::json;

const VALUE: &str = "shop-token-0123456789abcdef";
const PROFILE: &str = r#"
[[capability]]
name = "shop"
secret = "capability/shop"
kind = "command"
destinations = ["shop.example.org", "stock.example.org"]
delivery = { variable = "SHOP_TOKEN" }
executables = ["/usr/bin/curl"]
per-minute = 3
per-run = 4

[[capability]]
name = "tracker"
secret = "capability/tracker"
kind = "tool"
destinations = ["api.example.org"]
executables = ["/usr/bin/curl"]

[[capability]]
name = "stock"
secret = "capability/shop"
kind = "command"
destinations = ["stock.example.org"]
executables = ["/usr/bin/curl"]
per-run = 2

[variables]
TRACKER = { capability = "tracker" }

[[egress.write]]
capability = "tracker"
host = "api.example.org"
method = "POST"
path = "/v1"

[[egress.write]]
capability = "tracker"
host = "api.example.org"
method = "GET"
path = "/v1"

[[egress.write]]
capability = "other"
host = "api.example.org"
method = "POST"
path = "/v2"
"#;

pub async fn running(stage: &Stage) -> (Operator, Launch, Gateway) {
    for name in ["capability/shop", "capability/tracker", "capability/other"] {
        stage.secret(name, json!({ "value": VALUE })).await;
    }
    let (operator, launch) = stage.running(PROFILE).await;
    let gateway = stage.gateway().await;
    (operator, launch, gateway)
}

pub fn wish(launch: &Launch) -> LeaseAsk {
    LeaseAsk {
        run: launch.run.clone(),
        handle_sha256: handle_sha256(launch),
        capability: "shop".into(),
        destination: "shop.example.org".into(),
        reason: "to order paper".into(),
    }
}

pub async fn ask(gateway: &mut Gateway, ask: LeaseAsk) -> LeaseWord {
    gateway.say(&FromGateway::AskLease { id: 4, ask }).await;
    match gateway.hear().await {
        ToGateway::LeaseAnswer { id: 4, word } => word,
        other => panic!("{other:?}"),
    }
}

pub async fn granted(gateway: &mut Gateway, wish: LeaseAsk) -> Given {
    match ask(gateway, wish).await {
        LeaseWord::Granted(given) => given,
        other @ LeaseWord::Denied { .. } => panic!("{other:?}"),
    }
}

pub fn denied(word: LeaseWord) -> String {
    match word {
        LeaseWord::Granted(_) => "granted".into(),
        LeaseWord::Denied { rule, .. } => rule,
    }
}

pub fn curl() -> LeaseUser {
    LeaseUser::Command {
        executable: "/usr/bin/curl".into(),
        executable_sha256: sha256("curl"),
        argv_sha256: sha256("argv"),
    }
}

pub async fn take(gateway: &mut Gateway, launch: &Launch, lease: &LeaseId, by: LeaseUser) -> ValueWord {
    let used = LeaseUse { run: launch.run.clone(), lease: lease.clone(), by };
    gateway.say(&FromGateway::UseLease { id: 5, used }).await;
    match gateway.hear().await {
        ToGateway::LeaseValue { id: 5, word } => word,
        other => panic!("{other:?}"),
    }
}

fn rule(word: ValueWord) -> String {
    match word {
        ValueWord::Value { .. } => "value".into(),
        ValueWord::Denied { rule, .. } => rule,
    }
}

pub async fn leases(stage: &Stage) -> Vec<LeaseView> {
    stage.home(Method::GET, "/api/leases?all=true", None).await.json()
}

pub async fn state(stage: &Stage, lease: &LeaseId) -> LeaseView {
    leases(stage).await.into_iter().find(|view| view.lease == *lease).unwrap()
}

async fn revoke(stage: &Stage, lease: &LeaseId) -> Answer {
    stage.home(Method::POST, &format!("/api/leases/{lease}/revoke"), None).await
}

/// Takes back a lease that is in use; the gateway says that it is not any more, when it is told.
pub async fn revoke_used(stage: &Stage, gateway: &mut Gateway, lease: &LeaseId) -> LeaseRevoked {
    let ends = async {
        assert!(matches!(gateway.hear().await, ToGateway::RevokeLease { lease: told } if told == *lease));
        gateway.say(&FromGateway::EndLease { lease: lease.clone(), outcome: LeaseEnd::Broken }).await;
    };
    tokio::join!(revoke(stage, lease), ends).0.json()
}

async fn evidence(stage: &Stage) -> String {
    stage.home(Method::GET, "/api/evidence", None).await.text()
}

async fn verdicts(stage: &Stage, launch: &Launch) -> Vec<Verdict> {
    let lines = stage.transcript(&launch.run).await;
    lines.into_iter().filter_map(|line| if let Event::Verdict(v) = line.event { Some(v) } else { None }).collect()
}

/// Nothing that anyone can ask for holds the value.
async fn told_nowhere(stage: &Stage, launch: &Launch) {
    let said = [
        stage.home(Method::GET, "/api/leases?all=true", None).await.text(),
        stage.home(Method::GET, &format!("/api/runs/{}/events", launch.run), None).await.text(),
        evidence(stage).await,
    ];
    for text in said {
        assert!(!text.contains(VALUE), "{text}");
    }
}

#[tokio::test]
async fn a_lease_is_used_once_by_its_program_and_every_word_of_it_is_recorded() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    let given = granted(&mut gateway, wish(&launch)).await;
    assert_eq!(
        (given.delivery.clone(), given.executables.clone()),
        (Delivery::Variable("SHOP_TOKEN".into()), vec!["/usr/bin/curl".into()])
    );
    let view = state(&stage, &given.lease).await;
    assert_eq!(
        (view.state.as_str(), view.reason.as_str(), view.expires.since(view.made)),
        ("granted", "to order paper", 120_000)
    );
    // Another program, another run's door: nothing is given, and the lease is as it was.
    let other = LeaseUser::Command {
        executable: "/usr/bin/env".into(),
        executable_sha256: sha256("env"),
        argv_sha256: sha256(""),
    };
    assert_eq!(rule(take(&mut gateway, &launch, &given.lease, other).await), "lease.executable");
    let push = LeaseUser::GitPush { repository: "shop.example.org".into(), reference: "refs/heads/pr/x".into() };
    assert_eq!(rule(take(&mut gateway, &launch, &given.lease, push).await), "lease.destination");
    match take(&mut gateway, &launch, &given.lease, curl()).await {
        ValueWord::Value { value, secret, delivery, destination, expires, .. } => {
            assert_eq!((value.0.expose().as_str(), secret.as_str()), (VALUE, "capability/shop"));
            assert_eq!((delivery, destination.as_str(), expires), (given.delivery, "shop.example.org", given.expires));
        }
        denied @ ValueWord::Denied { .. } => panic!("{denied:?}"),
    }
    assert_eq!(state(&stage, &given.lease).await.state, "consumed");
    assert_eq!(rule(take(&mut gateway, &launch, &given.lease, curl()).await), "lease.used");
    gateway.say(&FromGateway::EndLease { lease: given.lease.clone(), outcome: LeaseEnd::Completed }).await;
    assert_eq!(
        denied(ask(&mut gateway, LeaseAsk { capability: "none".into(), ..wish(&launch) }).await),
        "lease.capability"
    );
    let over = async {
        loop {
            let view = state(&stage, &given.lease).await;
            if view.state == "completed" {
                return view;
            }
        }
    };
    let view = crate::stage::soon("the lease's end", over).await;
    // What is said of it after its end changes nothing.
    gateway.say(&FromGateway::EndLease { lease: given.lease.clone(), outcome: LeaseEnd::Broken }).await;
    assert_eq!((view.used_by.as_str(), view.ended_by.as_str()), ("the command /usr/bin/curl", "use"));
    assert_eq!(rule(take(&mut gateway, &launch, &given.lease, curl()).await), "lease.used");
    let rules: Vec<String> = verdicts(&stage, &launch).await.into_iter().map(|verdict| verdict.rule).collect();
    assert_eq!(
        rules,
        [
            "lease.granted",
            "lease.executable",
            "lease.destination",
            "lease.used",
            "lease.used",
            "lease.capability",
            "lease.used"
        ]
    );
    let evidence = evidence(&stage).await;
    for word in ["lease.granted", "lease.executable", "lease.ended", "to order paper", given.lease.as_str()] {
        assert!(evidence.contains(word), "{word}");
    }
    told_nowhere(&stage, &launch).await;
}

#[tokio::test]
async fn what_a_run_was_not_bound_to_at_its_launch_it_gets_no_lease_of() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    let with = |change: &dyn Fn(&mut LeaseAsk)| {
        let mut ask = wish(&launch);
        change(&mut ask);
        ask
    };
    for (rule, asked) in [
        ("lease.capability", with(&|ask| ask.capability = "capability/shop".into())),
        ("lease.capability", with(&|ask| ask.capability = "model/m".into())),
        ("lease.destination", with(&|ask| ask.destination = "shop.example.org.evil.example".into())),
        ("handle.unknown", with(&|ask| ask.handle_sha256 = sha256("vh_guess"))),
        ("run.unknown", with(&|ask| ask.run = "none".parse().unwrap())),
    ] {
        assert_eq!(denied(ask(&mut gateway, asked).await), rule);
    }
    // An edit of the file is for runs to come.
    let wider = PROFILE.replace("\"stock.example.org\"", "\"stock.example.org\", \"bank.example.org\"");
    std::fs::write(stage.dir.path().join("profiles/p.toml"), wider).unwrap();
    assert_eq!(
        denied(ask(&mut gateway, with(&|ask| ask.destination = "bank.example.org".into())).await),
        "lease.destination"
    );
    assert!(leases(&stage).await.iter().all(|view| view.state == "denied"));
    // Denials are rows, and cost nothing of what may be granted.
    granted(&mut gateway, wish(&launch)).await;
    // A reason is text: what is a secret in it is not kept.
    granted(&mut gateway, with(&|ask| ask.reason = format!("because {VALUE}"))).await;
    // Nor in what else is asked, which a denial repeats, and cuts.
    let long = format!("{}{VALUE}", "x".repeat(50));
    for value in [VALUE, &long] {
        assert_eq!(denied(ask(&mut gateway, with(&|ask| ask.capability = value.into())).await), "lease.capability");
        assert_eq!(denied(ask(&mut gateway, with(&|ask| ask.destination = value.into())).await), "lease.destination");
    }
    let said = evidence(&stage).await;
    assert!(said.contains("scrubbed:capability/"), "{said}");
    assert!(!said.contains(&VALUE[..12]), "{said}");
    told_nowhere(&stage, &launch).await;
}

#[tokio::test]
async fn a_person_takes_a_lease_back_the_gateway_is_told_at_once_and_the_person_when_its_use_has_ended() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    let (unused, used) =
        (granted(&mut gateway, wish(&launch)).await.lease, granted(&mut gateway, wish(&launch)).await.lease);
    assert_eq!(rule(take(&mut gateway, &launch, &used, curl()).await), "value");
    let revoked: LeaseRevoked = revoke(&stage, &unused).await.json();
    assert!(matches!(gateway.hear().await, ToGateway::RevokeLease { lease } if lease == unused));
    for revoked in [revoked, revoke_used(&stage, &mut gateway, &used).await] {
        assert_eq!((revoked.lease.state.as_str(), revoked.lease.ended_by.as_str()), ("revoked", "administrator"));
        assert!(revoked.use_ended);
        assert_eq!(revoke(&stage, &revoked.lease.lease).await.code(), "lease.over");
    }
    assert_eq!(rule(take(&mut gateway, &launch, &unused, curl()).await), "lease.revoked");
    // What is said of its end once more changes nothing: it stays taken back.
    gateway.say(&FromGateway::EndLease { lease: used.clone(), outcome: LeaseEnd::Completed }).await;
    assert_eq!(rule(take(&mut gateway, &launch, &used, curl()).await), "lease.revoked");
    assert_eq!(revoke(&stage, &"none".parse().unwrap()).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_runs_end_takes_all_its_leases_back() {
    let stage = Stage::start();
    let (mut operator, launch, mut gateway) = running(&stage).await;
    let unused = granted(&mut gateway, wish(&launch)).await.lease;
    let used = granted(&mut gateway, wish(&launch)).await.lease;
    assert_eq!(rule(take(&mut gateway, &launch, &used, curl()).await), "value");
    let ended = Event::Ended { outcome: Outcome::Done, reason: String::new(), exit: None };
    operator.event(&launch.run, 2, &ended).await;
    assert_eq!(operator.hear().await, Down::Ack { run: launch.run.clone(), seq: 2 });
    assert!(matches!(gateway.hear().await, ToGateway::Close { run } if run == launch.run));
    for lease in [&unused, &used] {
        let view = state(&stage, lease).await;
        assert_eq!((view.state.as_str(), view.ended_by.as_str()), ("revoked", "run's end"));
    }
    assert_eq!(rule(take(&mut gateway, &launch, &unused, curl()).await), "run.over");
    assert_eq!(denied(ask(&mut gateway, wish(&launch)).await), "run.over");
    let open: Vec<LeaseView> = stage.home(Method::GET, "/api/leases", None).await.json();
    assert_eq!(open, []);
}

#[tokio::test]
async fn a_lost_gateway_or_server_closes_what_was_open_but_for_what_the_next_one_says_is_in_use() {
    let mut stage = Stage::start();
    let (operator, launch, mut gateway) = running(&stage).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(granted(&mut gateway, wish(&launch)).await.lease);
    }
    assert_eq!(rule(take(&mut gateway, &launch, &ids[1], curl()).await), "value");
    assert_eq!(rule(take(&mut gateway, &launch, &ids[2], curl()).await), "value");
    drop((operator, gateway));
    stage.again();
    let mut gateway = stage.gateway_with_leases(vec![ids[2].clone()]).await;
    for (lease, is) in [(&ids[0], "revoked"), (&ids[1], "revoked"), (&ids[2], "consumed")] {
        assert_eq!(state(&stage, lease).await.state, is);
    }
    assert_eq!(rule(take(&mut gateway, &launch, &ids[0], curl()).await), "lease.revoked");
    assert_eq!(rule(take(&mut gateway, &launch, &ids[2], curl()).await), "lease.used");
}

#[tokio::test]
async fn a_lease_that_was_taken_back_while_the_gateway_was_away_is_taken_back_when_it_returns() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    let (one, other) =
        (granted(&mut gateway, wish(&launch)).await.lease, granted(&mut gateway, wish(&launch)).await.lease);
    for lease in [&one, &other] {
        assert_eq!(rule(take(&mut gateway, &launch, lease, curl()).await), "value");
    }
    drop(gateway);
    // Nobody says that its use has ended, and so that is not said.
    assert!(!revoke(&stage, &one).await.json::<LeaseRevoked>().use_ended);
    let mut gateway = stage.gateway_with_leases(vec![one.clone(), other.clone()]).await;
    let told = crate::stage::soon("what was taken back", gateway.hear()).await;
    assert!(matches!(&told, ToGateway::RevokeLease { lease } if *lease == one), "{told:?}");
    // The other one is in use as before, and nothing was said of it.
    assert_eq!(rule(take(&mut gateway, &launch, &other, curl()).await), "lease.used");
    assert_eq!(state(&stage, &other).await.state, "consumed");
}

#[tokio::test]
async fn a_command_of_a_proxy_lease_gets_a_handle_of_its_own_that_is_for_this_capability_alone_and_ends_with_it() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    let asked = LeaseAsk { capability: "tracker".into(), destination: "api.example.org".into(), ..wish(&launch) };
    let lease = granted(&mut gateway, asked).await.lease;
    let handle = match take(&mut gateway, &launch, &lease, curl()).await {
        ValueWord::Value { value, secret, variables, delivery: Delivery::Proxy, .. } => {
            assert_eq!((secret.as_str(), variables), ("", vec!["TRACKER".to_owned()]));
            value.0.expose().clone()
        }
        other => panic!("{other:?}"),
    };
    assert!(handle.starts_with("vh_") && handle.len() == 55 && handle != launch.agent.as_ref().unwrap().handle);
    gateway.say(&FromGateway::AskLaw { id: 1, run: launch.run.clone() }).await;
    let law = match gateway.hear().await {
        ToGateway::EgressAnswer { answer: EgressWord::Law { version, .. }, .. } => version,
        other => panic!("{other:?}"),
    };
    let write = |capability: &str, path: &str| EgressAsk {
        run: launch.run.clone(),
        law,
        kind: EgressKind::Write,
        rule: "write.row".into(),
        method: "POST".into(),
        target: format!("https://api.example.org{path}"),
        host: "api.example.org".into(),
        port: 443,
        capability: Some(capability.into()),
        handle_sha256: Some(sha256(&handle)),
        delegated: false,
        reads: 0,
    };
    let mut out = async |ask: EgressAsk| {
        gateway.say(&FromGateway::AskEgress { id: 2, ask }).await;
        match gateway.hear().await {
            ToGateway::EgressAnswer { answer: EgressWord::Granted { credential, .. }, .. } => {
                // What goes on by it ends with this very lease.
                let credential = credential.expect("a credential");
                assert_eq!((credential.lease.as_ref(), credential.carried), (Some(&lease), None));
                credential.value.0.expose().clone()
            }
            ToGateway::EgressAnswer { answer: EgressWord::Denied { rule, .. }, .. } => rule,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(out(write("tracker", "/v1/x")).await, VALUE);
    assert_eq!(out(write("other", "/v2/x")).await, "handle.other-capability");
    // A lease can be taken back between two requests: there is no allowance by it.
    let read = |reads| EgressAsk { method: "GET".into(), reads, ..write("tracker", "/v1") };
    assert_eq!(out(read(0)).await, VALUE);
    assert_eq!(out(read(2)).await, "reads.no-allowance");
    drop(revoke_used(&stage, &mut gateway, &lease).await);
    let mut out = async |ask: EgressAsk| {
        gateway.say(&FromGateway::AskEgress { id: 2, ask }).await;
        match gateway.hear().await {
            ToGateway::EgressAnswer { answer: EgressWord::Denied { rule, .. }, .. } => rule,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(out(write("tracker", "/v1/x")).await, "handle.unknown");
    // Nor is a command's handle good for a lease.
    let again = LeaseAsk { handle_sha256: sha256(&handle), ..wish(&launch) };
    assert_eq!(denied(ask(&mut gateway, again).await), "handle.unknown");
}

#[tokio::test]
async fn no_box_is_made_for_a_profile_that_would_bring_a_key_into_it_on_either_engine() {
    let stage = Stage::start();
    stage.secret("capability/custom", json!({ "value": VALUE })).await;
    stage.secret("capability/forge", json!({ "value": "forge-key-0123456789abcdef", "kind": "github" })).await;
    let _operator = stage.operator(vec![]).await;
    let capability = |secret: &str, delivery: &str| {
        format!(
            "[[capability]]\nname = \"x\"\nsecret = \"{secret}\"\nkind = \"command\"\ndestinations = [\"x\"]\n\
             executables = [\"/usr/bin/x\"]\ndelivery = {delivery}\n"
        )
    };
    let tries = [
        ("delivery.managed", capability("model/m", "{ variable = \"X\" }")),
        ("delivery.managed", capability("capability/forge", "{ file = \"X\" }")),
        ("delivery.managed", capability("capability/forge", "\"stdin\"")),
        ("delivery.managed", capability("capability/forge", "\"git-helper\"")),
        ("delivery.managed", "[variables]\nGITHUB_TOKEN = \"some-words-0123\"\n".to_owned()),
        ("delivery.literal", format!("[variables]\nREGION = \"{VALUE}\"\n")),
        ("delivery.literal", format!("instructions = \"say {VALUE}\"\n")),
        ("delivery.literal", format!("[variables]\nREGION = \"ghp_{}\"\n", "a1B2c3D4e5".repeat(4).get(..36).unwrap())),
        ("delivery.literal", "[variables]\nDEPLOY_TOKEN = \"k3Jd92hGq8Lz1mX0pR5v\"\n".to_owned()),
        ("capability.missing", capability("capability/gone", "\"proxy\"")),
        // There is no such thing: what a box finds in its environment stands in the profile.
        ("profile.wrong", "env-file = \".env\"\n".to_owned()),
        ("profile.wrong", "env = \"k3Jd92hGq8Lz1mX0pR5v\"\n".to_owned()),
    ];
    for engine in ["embedded", "docker"] {
        for (rule, body) in &tries {
            let text = format!("engine = \"{engine}\"\n{body}");
            std::fs::write(stage.dir.path().join("profiles/p.toml"), text).unwrap();
            let mut wish = exec(&["true"]);
            wish.profile = Some("p".into());
            let answer = stage.home(Method::POST, "/api/runs", Some(serde_json::to_value(&wish).unwrap())).await;
            assert_eq!((answer.code().as_str(), answer.status), (*rule, StatusCode::BAD_REQUEST), "{body}");
            assert!(!answer.text().contains(VALUE) && !answer.text().contains("a1B2c3"), "{}", answer.text());
        }
    }
    let runs: Vec<serde_json::Value> = stage.home(Method::GET, "/api/runs", None).await.json();
    assert_eq!(runs.len(), 0, "a run was accepted, and would have had a box");
    let evidence = evidence(&stage).await;
    assert_eq!(evidence.matches("run.refused").count(), 2 * tries.len());
    assert!(evidence.contains("DEPLOY_TOKEN") && !evidence.contains("k3Jd92"));
    assert!(evidence.contains("capability/forge") && !evidence.contains(VALUE) && !evidence.contains("a1B2c3"));
    assert!(evidence.contains("GITHUB_TOKEN") && !evidence.contains("some-words-0123"));
    // The same with nothing but handles is a run.
    let text = format!(
        "{}[variables]\nGITHUB_TOKEN = {{ capability = \"x\" }}\n",
        capability("capability/forge", "\"proxy\"")
    );
    std::fs::write(stage.dir.path().join("profiles/p.toml"), text).unwrap();
    let mut wish = exec(&["true"]);
    wish.profile = Some("p".into());
    stage.create(&wish).await;
}

#[tokio::test]
async fn a_key_that_became_a_providers_while_a_run_lived_is_no_longer_given_into_its_box() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    let lease = granted(&mut gateway, wish(&launch)).await.lease;
    stage.secret("capability/shop", json!({ "value": VALUE, "kind": "gitlab" })).await;
    assert_eq!(rule(take(&mut gateway, &launch, &lease, curl()).await), "delivery.managed");
    assert_eq!(denied(ask(&mut gateway, wish(&launch)).await), "delivery.managed");
    let gone = stage.home(Method::DELETE, "/api/secrets/capability/shop", None).await;
    assert_eq!(gone.status, StatusCode::OK);
    assert!(matches!(gateway.hear().await, ToGateway::RevokeLease { lease: over } if over == lease));
    assert_eq!(rule(take(&mut gateway, &launch, &lease, curl()).await), "capability.missing");
}
