//! What is minted for whom, and what a vendor may not make.

use super::*;

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
    let (_operator, launch, mut gateway) = commanding(&stage).await;
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
    // What goes on by it ends when the one lease that carries it is taken back.
    assert!(credential.carried.is_some() && credential.carried == again.carried && credential.lease.is_none());
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
    denied_and_revoked(&mut gateway, "mint.wider", TOKEN).await;
    minted(&stage, "revoked").await;
    nothing_leaked(&stage, &launch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_lives_longer_than_was_asked_for_is_not_given_and_is_ended_or_said_to_be_left() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = commanding(&stage).await;
    let (law, _) = egress::table(&mut gateway, &launch.run).await;
    let ask = EgressAsk {
        capability: Some("cluster".into()),
        host: "k.example.org".into(),
        target: "https://k.example.org/apis/apps".into(),
        ..egress::write(&launch, law)
    };
    // With a value that is over the lease is, too.
    for (end, state) in [(ends(365 * 86_400), "completed"), (ends(-60), "expired")] {
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
        assert_eq!(minted(&stage, "left").await.state, state, "{end}");
    }
    assert_eq!(evidence(&stage).await.matches("mint.left").count(), 2);

    git(&mut gateway, &launch, GitAct::Fetch).await;
    let (id, _) = heard(&mut gateway).await;
    let long = token(TOKEN, "acme/shop", &json!({ "contents": "read" })).replace(&*END, &ends(86_400));
    answer(&mut gateway, id, 201, long).await;
    denied_and_revoked(&mut gateway, "mint.wider", TOKEN).await;
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
