//! Leases of rows to write: what a row that stands in the profile, or that a person allowed, lets an agent's run ask for,
//! with a gateway that the tests play.

use crate::stage::{Gateway, Stage, exec, sha256};
use crate::{egress, leases};
use api::denials::{ChangeView, DenialView};
use api::grants::{EgressAsk, EgressWord, FromGateway, ToGateway};
use api::http::ExecLease;
use api::leases::{LeaseAsk, LeaseEnd, LeaseUser, ValueWord};
use api::link::Launch;
use http::{Method, StatusCode};
use model::capability::Delivery;
use model::event::Verdict;
use serde_json::json;

const VALUE: &str = "tracker-token-0123456789";

fn row(capability: &str, host: &str, more: &str) -> String {
    format!(
        "[[egress.write]]\ncapability = \"{capability}\"\nhost = \"{host}\"\nmethod = \"POST\"\npath = \"/v1\"\n{more}"
    )
}

pub fn wish(launch: &Launch, capability: &str, destination: &str) -> LeaseAsk {
    LeaseAsk { capability: capability.into(), destination: destination.into(), ..leases::wish(launch) }
}

fn program(path: &str) -> LeaseUser {
    LeaseUser::Command { executable: path.into(), executable_sha256: sha256(path), argv_sha256: sha256("argv") }
}

/// The handle of a command under a lease that is asked for so.
pub async fn handle(gateway: &mut Gateway, launch: &Launch, ask: LeaseAsk) -> (model::LeaseId, String) {
    let given = leases::granted(gateway, ask).await;
    match leases::take(gateway, launch, &given.lease, program("/usr/bin/sh")).await {
        ValueWord::Value { value, secret, delivery: Delivery::Proxy, .. } => {
            assert_eq!(secret, "", "a handle, and no secret");
            (given.lease, value.0.expose().clone())
        }
        other => panic!("{other:?}"),
    }
}

/// What a request to this host with this handle comes to: the credential, or the rule that refuses it.
async fn write(gateway: &mut Gateway, launch: &Launch, capability: &str, at: (&str, u16), handle: &str) -> String {
    write_to(gateway, launch, capability, (at.0, at.1, "/v1/x"), handle).await
}

async fn write_to(
    gateway: &mut Gateway,
    launch: &Launch,
    capability: &str,
    (host, port, path): (&str, u16, &str),
    handle: &str,
) -> String {
    let (version, _) = egress::table(gateway, &launch.run).await;
    let place = if port == 443 { host.to_owned() } else { format!("{host}:{port}") };
    let ask = EgressAsk {
        capability: Some(capability.into()),
        host: host.into(),
        port,
        target: format!("https://{place}{path}"),
        handle_sha256: Some(sha256(handle)),
        ..egress::write(launch, version)
    };
    match egress::ask(gateway, ask).await {
        EgressWord::Granted { credential, .. } => credential.expect("a credential").value.0.expose().clone(),
        other => egress::rule(other),
    }
}

fn rule(word: ValueWord) -> String {
    match word {
        ValueWord::Value { .. } => "value".into(),
        ValueWord::Denied { rule, .. } => rule,
    }
}

#[tokio::test]
async fn of_a_row_that_a_person_allows_the_live_run_is_granted_leases_from_then_on() {
    let stage = Stage::start();
    stage.secret("capability/tracker", json!({ "value": VALUE })).await;
    let (_operator, launch) = stage.running("").await;
    let mut gateway = stage.gateway().await;
    let asked = || wish(&launch, "tracker", "api.example.org");
    assert_eq!(leases::denied(leases::ask(&mut gateway, asked()).await), "lease.capability");

    let verdict = Verdict {
        allowed: false,
        rule: "write.no-row".into(),
        method: "POST".into(),
        target: "https://api.example.org/v1".into(),
        why: "no".into(),
        body_sha256: None,
        grant: None,
        model: None,
        reserved: None,
    };
    gateway.say(&FromGateway::Refused { run: launch.run.clone(), verdict }).await;
    let base = format!("/api/runs/{}/denials", launch.run);
    let refused = async {
        loop {
            let all: Vec<DenialView> = stage.home(Method::GET, &base, None).await.json();
            if let Some(one) = all.into_iter().find(|one| one.rule == "write.no-row") {
                return one.n;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let n = refused.await;
    let change = stage.home(Method::GET, &format!("{base}/{n}/change?capability=tracker"), None).await;
    let change: ChangeView = change.json();
    assert!(change.opens.contains("An agent does so by commands under leases of this capability"), "{}", change.opens);
    let yes = json!({ "seen": change.seen, "terms": { "capability": "tracker" } });
    let said = stage.home(Method::POST, &format!("{base}/{n}/allow"), Some(yes)).await;
    assert_eq!(said.status, StatusCode::OK, "{}", said.text());
    assert!(matches!(gateway.hear().await, ToGateway::EndReads { .. }));

    let given = leases::granted(&mut gateway, asked()).await;
    assert_eq!((given.delivery, given.executables), (Delivery::Proxy, Vec::<String>::new()));
    let (lease, handle) = handle(&mut gateway, &launch, asked()).await;
    let at = ("api.example.org", 443);
    assert_eq!(write(&mut gateway, &launch, "tracker", at, &handle).await, VALUE);
    // The command is over, and so is what it was given.
    gateway.say(&FromGateway::EndLease { lease: lease.clone(), outcome: LeaseEnd::Completed }).await;
    crate::stage::soon("the lease's end", async { while leases::state(&stage, &lease).await.state == "consumed" {} })
        .await;
    assert_eq!(write(&mut gateway, &launch, "tracker", at, &handle).await, "handle.unknown");
}

#[tokio::test]
async fn a_lease_of_a_row_is_for_its_host_its_port_its_capability_and_its_run_and_for_programs_outside_the_worktree() {
    let stage = Stage::start();
    for name in ["capability/tracker", "capability/other"] {
        stage.secret(name, json!({ "value": VALUE })).await;
    }
    let rows = [
        row("tracker", "API.example.org", ""),
        row("tracker", "api.example.org", "port = 8443\n"),
        row("tracker", "two.example.org", ""),
        row("other", "three.example.org", ""),
    ];
    let (mut operator, launch) = stage.running(&rows.concat()).await;
    let mut wish_of_another = crate::stage::agent("x");
    wish_of_another.profile = Some("p".into());
    stage.create(&wish_of_another).await;
    let another = operator.launch().await;
    operator.begin(&another, 1).await;
    let mut gateway = stage.gateway().await;
    for (expected, capability, destination) in [
        ("lease.destination", "tracker", "three.example.org"),
        ("lease.destination", "tracker", "api.example.org:444"),
        ("lease.destination", "tracker", "api.example.org/v1"),
        ("lease.destination", "tracker", "https://api.example.org"),
        ("lease.destination", "tracker", "evil.example"),
        ("lease.destination", "tracker", ""),
        ("lease.capability", "capability/tracker", "api.example.org"),
        ("lease.capability", "", "api.example.org"),
        ("granted", "tracker", "api.example.org:8443"),
        // A row's host has one spelling, however the profile writes it.
        ("granted", "tracker", "api.example.org"),
        ("granted", "tracker", "API.example.org"),
    ] {
        let word = leases::ask(&mut gateway, wish(&launch, capability, destination)).await;
        assert_eq!(leases::denied(word), expected, "{capability} {destination}");
    }
    let lease = leases::granted(&mut gateway, wish(&launch, "tracker", "api.example.org")).await.lease;
    for path in ["/workspace/curl", "/tmp/curl", "curl", "/usr/../tmp/curl", "/proc/self/exe", "/run/x", ""] {
        let word = leases::take(&mut gateway, &launch, &lease, program(path)).await;
        assert_eq!(rule(word), "lease.executable", "{path}");
    }
    assert_eq!(rule(leases::take(&mut gateway, &another, &lease, program("/usr/bin/sh")).await), "lease.unknown");

    let (lease, own) = handle(&mut gateway, &launch, wish(&launch, "tracker", "api.example.org")).await;
    let (_, far) = handle(&mut gateway, &launch, wish(&launch, "tracker", "api.example.org:8443")).await;
    for (expected, run, capability, at, shown) in [
        (VALUE, &launch, "tracker", ("api.example.org", 443), &own),
        (VALUE, &launch, "tracker", ("api.example.org", 8443), &far),
        ("lease.destination", &launch, "tracker", ("api.example.org", 8443), &own),
        ("lease.destination", &launch, "tracker", ("api.example.org", 443), &far),
        ("lease.destination", &launch, "tracker", ("two.example.org", 443), &own),
        ("handle.other-capability", &launch, "other", ("three.example.org", 443), &own),
        ("write.no-row", &launch, "other", ("api.example.org", 443), &own),
        ("handle.other-run", &another, "tracker", ("api.example.org", 443), &own),
    ] {
        assert_eq!(write(&mut gateway, run, capability, at, shown).await, expected, "{capability} {at:?}");
    }
    // Nor is it a handle to ask for more with.
    let again = LeaseAsk { handle_sha256: sha256(&own), ..wish(&launch, "tracker", "api.example.org") };
    assert_eq!(leases::denied(leases::ask(&mut gateway, again).await), "handle.unknown");
    // Whether its use has ended by now is asserted with the leases.
    drop(leases::revoke_used(&stage, &mut gateway, &lease).await);
    let after = write(&mut gateway, &launch, "tracker", ("api.example.org", 443), &own).await;
    assert_eq!(after, "handle.unknown");
}

#[tokio::test]
async fn a_profiles_own_capability_keeps_its_programs_and_destinations_whatever_rows_name_it() {
    const OWN: &str = "[[capability]]\nname = \"tracker\"\nsecret = \"capability/tracker\"\nkind = \"command\"\n\
        destinations = [\"api.example.org\"]\nexecutables = [\"/usr/bin/curl\"]\nper-run = 2\n\
        [[capability]]\nname = \"file\"\nsecret = \"capability/tracker\"\nkind = \"command\"\n\
        destinations = [\"api.example.org\"]\ndelivery = \"stdin\"\nexecutables = [\"/usr/bin/cat\"]\n";
    let stage = Stage::start();
    stage.secret("capability/tracker", json!({ "value": VALUE })).await;
    let rows = [OWN.to_owned(), row("tracker", "api.example.org", ""), row("tracker", "two.example.org", "")];
    let (_operator, launch) = stage.running(&rows.concat()).await;
    let mut gateway = stage.gateway().await;
    let asked = || wish(&launch, "tracker", "api.example.org");
    let elsewhere = leases::ask(&mut gateway, wish(&launch, "tracker", "two.example.org")).await;
    assert_eq!(leases::denied(elsewhere), "lease.destination");
    let given = leases::granted(&mut gateway, asked()).await;
    assert_eq!(given.executables, ["/usr/bin/curl"]);
    let word = leases::take(&mut gateway, &launch, &given.lease, program("/usr/bin/sh")).await;
    assert_eq!(rule(word), "lease.executable");
    leases::granted(&mut gateway, asked()).await;
    assert_eq!(leases::denied(leases::ask(&mut gateway, asked()).await), "lease.per-run");

    // A person is told before they allow what such a capability could never be used for.
    let verdict = |host: &str| Verdict {
        allowed: false,
        rule: "write.no-row".into(),
        method: "PUT".into(),
        target: format!("https://{host}/v2"),
        why: "no".into(),
        body_sha256: None,
        grant: None,
        model: None,
        reserved: None,
    };
    gateway.say(&FromGateway::Refused { run: launch.run.clone(), verdict: verdict("three.example.org") }).await;
    let base = format!("/api/runs/{}/denials", launch.run);
    let refused = async {
        loop {
            let all: Vec<DenialView> = stage.home(Method::GET, &base, None).await.json();
            if let Some(one) = all.into_iter().find(|one| one.target.contains("three")) {
                return one.n;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let n = refused.await;
    for (name, told) in [
        ("tracker", "is for api.example.org, and not for three.example.org"),
        ("file", "travels by stdin"),
        ("none", "volary secret set capability/none"),
        ("connection/none", "volary connect add none"),
    ] {
        let name = name.replace('/', "%2F");
        let answer = stage.home(Method::GET, &format!("{base}/{n}/change?capability={name}"), None).await;
        assert_eq!(answer.code(), "change.capability", "{name}: {}", answer.text());
        assert!(answer.text().contains(told), "{name}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_persons_command_may_have_a_lease_of_a_row_too() {
    let stage = Stage::start();
    stage.model("m", "model-1").await;
    stage.secret("capability/tracker", json!({ "value": VALUE })).await;
    std::fs::write(stage.dir.path().join("profiles/p.toml"), row("tracker", "api.example.org", "")).unwrap();
    let mut operator = stage.operator(vec![]).await;
    let mut asked = exec(&["true"]);
    asked.profile = Some("p".into());
    asked.lease = Some(ExecLease { capability: "tracker".into(), destination: None });
    stage.create(&asked).await;
    let launch = operator.launch().await;
    assert!(launch.lease.is_some());
    asked.lease = Some(ExecLease { capability: "none".into(), destination: None });
    let refused = stage.home(Method::POST, "/api/runs", Some(serde_json::to_value(&asked).unwrap())).await;
    assert!(refused.code() == "run.lease" && refused.text().contains("it has tracker"), "{}", refused.text());
}

#[tokio::test]
async fn a_lease_whose_destination_has_a_path_is_for_that_path_and_what_is_below_it() {
    let stage = Stage::start();
    stage.secret("capability/tracker", json!({ "value": VALUE })).await;
    let own = "[[capability]]\nname = \"tracker\"\nsecret = \"capability/tracker\"\nkind = \"command\"\n\
               destinations = [\"api.example.org/v1/acme\", \"api.example.org/\"]\n";
    let (_operator, launch) = stage.running(&format!("{own}{}", row("tracker", "api.example.org", ""))).await;
    let mut gateway = stage.gateway().await;
    let (_, narrow) = handle(&mut gateway, &launch, wish(&launch, "tracker", "api.example.org/v1/acme")).await;
    for (path, said) in [
        ("/v1/acme", VALUE),
        ("/v1/acme/issues", VALUE),
        ("/v1/acme?state=open", VALUE),
        ("/v1/acmes", "lease.destination"),
        ("/v1/other", "lease.destination"),
        ("/v1", "lease.destination"),
    ] {
        let at = ("api.example.org", 443, path);
        assert_eq!(write_to(&mut gateway, &launch, "tracker", at, &narrow).await, said, "{path}");
    }
    let (_, whole) = handle(&mut gateway, &launch, wish(&launch, "tracker", "api.example.org/")).await;
    assert_eq!(write(&mut gateway, &launch, "tracker", ("api.example.org", 443), &whole).await, VALUE);
}
