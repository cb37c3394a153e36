//! What a connection's token is used for: a run's writes, leases, and the hosts that it may go to.

use super::{Provider, Turn, done, eventually, settings, signed_in, signed_in_to, view, without_an_end};
use crate::stage::{Stage, agent, sha256};
use crate::{egress, leases, rows};
use api::connections::{ConnectionEnded, ConnectionView};
use api::frame;
use api::grants::{EgressAsk, EgressWord, FromGateway, StoredValue, ToGateway};
use api::leases::{LeaseAsk, ValueWord};
use http::{Method, StatusCode};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runs_write_is_given_a_connections_token_for_as_long_as_it_is_open_and_every_word_is_recorded() {
    const PROFILE: &str = "[[egress.write]]\ncapability = \"connection/x\"\nhost = \"api.example.org\"\n\
        method = \"POST\"\npath = \"/v1/issues\"\n";
    let stage = Stage::start();
    let provider = Provider::default();
    {
        let _to = provider.behind(&stage).await;
        provider.look(|played| played.lives = 3600);
        signed_in_to(&stage, "x", without_an_end()).await;
    }
    let (_operator, launch) = stage.commanding(PROFILE).await;
    let mut gateway = stage.gateway().await;
    let (version, _) = egress::table(&mut gateway, &launch.run).await;
    let write = || EgressAsk { capability: Some("connection/x".into()), ..egress::write(&launch, version) };
    let EgressWord::Granted { credential: Some(given), .. } = egress::ask(&mut gateway, write()).await else {
        panic!("no credential")
    };
    assert_eq!((given.value.0.expose().as_str(), given.secret.as_str()), ("access-canary-1", "connection/x"));
    assert_eq!((given.host.as_str(), given.port), ("api.example.org", 443));
    // An agent's command has it under a lease of the row, which bears the connection's name.
    let (lease, handle) =
        rows::handle(&mut gateway, &launch, rows::wish(&launch, "connection/x", "api.example.org")).await;
    let by_command = EgressAsk { handle_sha256: Some(sha256(&handle)), ..write() };
    let EgressWord::Granted { credential: Some(given), .. } = egress::ask(&mut gateway, by_command).await else {
        panic!("no credential")
    };
    assert_eq!(given.value.0.expose(), "access-canary-1");
    // A row of the profile for another one gives nothing of this one.
    let other = EgressAsk { capability: Some("connection/y".into()), ..write() };
    assert_eq!(egress::rule(egress::ask(&mut gateway, other).await), "write.no-row");
    let ended = stage.home(Method::POST, "/api/connections/x/revoke", Some(json!({}))).await;
    assert_eq!(ended.json::<ConnectionView>().state, "revoked");
    // The lease in use is over with it.
    let told = gateway.hear().await;
    assert!(matches!(&told, ToGateway::RevokeLease { lease: over } if *over == lease), "{told:?}");
    // And so is what goes on by its token.
    assert_eq!(gateway.ended().await.0, given.secret);
    assert_eq!(egress::rule(egress::ask(&mut gateway, write()).await), "connection.closed");
    let rules: Vec<_> = egress::verdicts(&stage, &launch.run).await.into_iter().map(|v| (v.allowed, v.rule)).collect();
    let wish = rows::wish(&launch, "connection/x", "api.example.org");
    assert_eq!(leases::denied(leases::ask(&mut gateway, wish).await), "connection.closed");
    let expected = [
        (true, "write.row"),
        (true, "lease.granted"),
        (true, "lease.used"),
        (true, "write.row"),
        (false, "write.no-row"),
        (false, "connection.closed"),
    ];
    assert_eq!(rules, expected.map(|(allowed, rule)| (allowed, rule.to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_on_by_a_connections_token_is_ended_when_its_sign_in_lapses_however_it_does() {
    const PROFILE: &str = "[[egress.write]]\ncapability = \"connection/x\"\nhost = \"api.example.org\"\n\
        method = \"POST\"\npath = \"/v1/issues\"\n";
    // Nothing refreshes it; the provider no longer takes its sign-in; nobody knows what came of two refreshes.
    for (access_only, turns) in [(true, vec![]), (false, vec![Turn::Refused]), (false, vec![Turn::Lost, Turn::Cut])] {
        let stage = Stage::start();
        let provider = Provider::default();
        {
            let _to = provider.behind(&stage).await;
            provider.look(|played| played.lives = 3600);
            signed_in(&stage, "x").await;
        }
        let (_operator, launch) = stage.commanding(PROFILE).await;
        let mut gateway = stage.gateway().await;
        let (version, _) = egress::table(&mut gateway, &launch.run).await;
        let write = EgressAsk { capability: Some("connection/x".into()), ..egress::write(&launch, version) };
        let word = egress::ask(&mut gateway, write).await;
        let EgressWord::Granted { credential: Some(given), .. } = word else { panic!("no credential: {word:?}") };
        let used = given.stored.expect("it is said which value it is");
        drop(gateway);
        let _to = provider.behind(&stage).await;
        // The next one is over at once, and the one in use was in its place before.
        provider.look(|played| {
            (played.lives, played.access_only) = (u64::from(access_only), access_only);
            played.turns.extend(&turns);
        });
        done(&stage, Method::POST, "/api/connections/x/device", json!({})).await;
        eventually("the lapse", async || view(&stage, "x").await.state == "lapsed").await;
        provider
            .until("the end of what goes on", |played| {
                let of_it = |over: &&StoredValue| over.secret == used.secret && over.person == used.person;
                played.over.iter().find(of_it).is_some_and(|over| over.version >= used.version)
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_that_would_send_a_connections_token_to_another_host_than_its_own_is_refused_before_a_run() {
    let stage = Stage::start();
    assert_eq!(stage.home(Method::PUT, "/api/connections/x", Some(settings())).await.status, StatusCode::OK);
    stage.model("m", "model-1").await;
    let asked = async |rows: &str| {
        std::fs::write(stage.dir.path().join("profiles/p.toml"), rows).unwrap();
        let mut wish = agent("x");
        wish.profile = Some("p".into());
        stage.home(Method::POST, "/api/runs", Some(serde_json::to_value(&wish).unwrap())).await
    };
    let write = |host: &str| {
        format!("[[egress.write]]\ncapability = \"connection/x\"\nhost = \"{host}\"\nmethod = \"POST\"\npath = \"/\"\n")
    };
    let repository =
        |host: &str| format!("[[repository]]\nid = \"app\"\nurl = \"https://{host}/a/b\"\nsecret = \"connection/x\"\n");
    for rows in [write("evil.example.org"), repository("evil.example.org")] {
        let refused = asked(&rows).await;
        assert_eq!(refused.code(), "connection.other-host", "{rows}");
        assert!(
            refused.text().contains("auth.example") && refused.text().contains("evil.example.org"),
            "{}",
            refused.text()
        );
    }
    let good = [write("api.example.org"), repository("api.example.org"), repository("auth.example")];
    for rows in &good {
        // Nobody has signed in yet, and of another one there is nothing.
        let refused = asked(rows).await;
        assert_eq!(refused.code(), "connection.closed", "{rows}");
        assert!(refused.text().contains("volary connect sign-in x"), "{}", refused.text());
        let refused = asked(&rows.replace("connection/x", "connection/y")).await;
        assert_eq!(refused.code(), "connection.unknown", "{rows}");
        assert!(refused.text().contains("volary connect add y"), "{}", refused.text());
    }
    let provider = Provider::default();
    {
        let _to = provider.behind(&stage).await;
        provider.look(|played| played.lives = 3600);
        signed_in_to(&stage, "x", settings()).await;
    }
    for rows in &good {
        assert_eq!(asked(rows).await.status, StatusCode::CREATED, "{rows}");
    }
    let evidence = stage.home(Method::GET, "/api/evidence", None).await.text();
    assert_eq!(evidence.matches("run.refused").count(), 2 + 2 * good.len(), "each is on record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_of_a_connections_token_is_for_the_gateway_alone_and_is_over_with_the_connection() {
    let profile = |delivery: &str| {
        format!(
            "[[capability]]\nname = \"forge\"\nsecret = \"connection/x\"\nkind = \"tool\"\n\
             destinations = [\"api.example.org\"]\nexecutables = [\"/usr/bin/curl\"]\n{delivery}"
        )
    };
    let stage = Stage::start();
    let provider = Provider::default();
    {
        let _to = provider.behind(&stage).await;
        provider.look(|played| played.lives = 3600);
        signed_in_to(&stage, "x", without_an_end()).await;
    }
    stage.model("m", "model-1").await;
    let wish = || {
        let mut wish = agent("x");
        wish.profile = Some("p".into());
        Some(serde_json::to_value(&wish).unwrap())
    };
    let path = stage.dir.path().join("profiles/p.toml");
    // A channel that ends in a box is for no token of a connection.
    std::fs::write(&path, profile("delivery = { variable = \"FORGE\" }\n")).unwrap();
    let refused = stage.home(Method::POST, "/api/runs", wish()).await;
    assert!(refused.status.is_client_error(), "{}", refused.text());
    assert!(refused.text().contains("connection/x"), "{}", refused.text());

    let (_operator, launch) = stage.running(&profile("")).await;
    let mut gateway = stage.gateway().await;
    let ask =
        || LeaseAsk { capability: "forge".into(), destination: "api.example.org".into(), ..leases::wish(&launch) };
    let given = leases::granted(&mut gateway, ask()).await;
    let ValueWord::Value { value, secret, .. } =
        leases::take(&mut gateway, &launch, &given.lease, leases::curl()).await
    else {
        panic!("no value")
    };
    assert!(value.0.expose().starts_with("vh_") && secret.is_empty(), "a command has a handle, and not the token");
    let open = leases::granted(&mut gateway, ask()).await;
    let ended = stage.home(Method::POST, "/api/connections/x/revoke", Some(json!({}))).await;
    let ended: ConnectionEnded = ended.json();
    assert_eq!((ended.connection.state.as_str(), ended.leases), ("revoked", 2));
    // Whatever uses one is ended, and the other is used by nobody.
    for _ in 0..2 {
        assert!(
            matches!(gateway.hear().await, ToGateway::RevokeLease { lease } if [&given.lease, &open.lease].contains(&&lease))
        );
    }
    assert!(leases::leases(&stage).await.iter().all(|lease| lease.ended_by == "secret's end"));
    assert_eq!(leases::denied(leases::ask(&mut gateway, ask()).await), "connection.closed");
    match leases::take(&mut gateway, &launch, &open.lease, leases::curl()).await {
        ValueWord::Denied { rule, .. } => assert_eq!(rule, "connection.closed"),
        ValueWord::Value { .. } => panic!("a value of a connection that is ended"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_of_what_the_profile_has_no_row_of_waits_for_no_connections_token() {
    let stage = Stage::start();
    let (_operator, launch) = stage.running("").await;
    let provider = Provider::default();
    let to = provider.behind(&stage).await;
    provider.look(|played| played.turns.extend([Turn::Held]));
    signed_in(&stage, "x").await;
    provider.until("the refresh", |played| !played.held.is_empty()).await;
    let ask = LeaseAsk { capability: "connection/x".into(), ..leases::wish(&launch) };
    frame::write(&mut *to.lock().await, &FromGateway::AskLease { id: 1, ask }).await.unwrap();
    // One that waits is answered after 25 s.
    let told = eventually("the word", async || {
        let verdicts = egress::verdicts(&stage, &launch.run).await;
        verdicts.iter().any(|verdict| verdict.rule == "lease.capability")
    });
    tokio::time::timeout(std::time::Duration::from_secs(20), told).await.expect("it does not wait");
}
