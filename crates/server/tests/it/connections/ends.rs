//! How connections end: by a person, at the provider, and what comes of it late.

use super::late::{answer, staged};
use super::{
    Provider, Turn, done, eventually, revoked, said, settings, signed_in, signed_in_to, test, view, without_an_end,
};
use crate::leases;
use crate::stage::Stage;
use api::connections::{ConnectionRemoved, ConnectionView};
use api::grants::{FromGateway, ToGateway};
use api::leases::{LeaseAsk, ValueWord};
use http::Method;
use serde_json::{Value, json};

/// What evidence says of each time that a provider was to be told: whether it was, and how many tokens are left.
pub(super) async fn ended(stage: &Stage) -> Vec<(bool, u64)> {
    let evidence = stage.home(Method::GET, "/api/evidence", None).await.text();
    assert!(!evidence.contains("canary"), "{evidence}");
    let mut all = Vec::new();
    for line in evidence.lines().filter(|line| line.contains("connection.ended")) {
        let record = line.find('{').map_or("", |at| &line[at..]);
        let record: Value = serde_json::from_str(record).expect("a record");
        all.push((record["told"].as_bool().unwrap(), record["left"].as_u64().unwrap()));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_ended_here_at_once_and_at_its_provider_and_is_told_so_until_it_answers() {
    let stage = Stage::start();
    let provider = Provider::default();
    let _to = provider.behind(&stage).await;
    signed_in(&stage, "x").await;
    test(&stage, "x").await.unwrap();
    let revoke = async || revoked(&stage).await;
    provider.look(|played| played.deaf = true);
    assert_eq!(revoke().await.json::<ConnectionView>().state, "revoking");
    assert_eq!(test(&stage, "x").await.unwrap_err(), "connection.closed");
    provider.look(|played| played.deaf = false);
    assert_eq!(revoke().await.json::<ConnectionView>().state, "revoked");
    // Each of both was told twice.
    let all = ["refresh-canary-2", "access-canary-2", "refresh-canary-2", "access-canary-2"];
    assert_eq!(provider.look(|played| played.ended()), all);
    assert_eq!(ended(&stage).await, [(false, 2), (true, 0)]);
    assert_eq!(revoke().await.code(), "connection.over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_without_a_refresh_token_is_ended_by_its_access_token_until_the_provider_has_confirmed_that() {
    let stage = Stage::start();
    let provider = Provider::default();
    let _to = provider.behind(&stage).await;
    provider.look(|played| (played.access_only, played.lives) = (true, 3600));
    signed_in(&stage, "x").await;
    provider.look(|played| played.deaf = true);
    assert_eq!(revoked(&stage).await.json::<ConnectionView>().state, "revoking");
    provider.look(|played| played.deaf = false);
    assert_eq!(revoked(&stage).await.json::<ConnectionView>().state, "revoked");
    assert_eq!(provider.look(|played| played.ended()), ["access-canary-1", "access-canary-1"]);
    assert_eq!(ended(&stage).await, [(false, 1), (true, 0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_said_to_be_told_of_a_connection_whose_provider_has_no_address_for_it() {
    let stage = Stage::start();
    let provider = Provider::default();
    let _to = provider.behind(&stage).await;
    provider.look(|played| played.lives = 3600);
    signed_in_to(&stage, "x", without_an_end()).await;
    assert_eq!(revoked(&stage).await.json::<ConnectionView>().state, "revoked");
    assert_eq!(ended(&stage).await, [(false, 0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_ends_a_connection_while_its_provider_is_being_told_hears_what_came_of_that() {
    let (stage, provider, to) = staged().await;
    signed_in(&stage, "x").await;
    provider.look(|played| played.silent = true);
    let asked = || {
        let stage = stage.clone();
        tokio::spawn(async move { revoked(&stage).await })
    };
    let first = asked();
    provider.until("the question", |played| !played.held.is_empty()).await;
    let second = asked();
    eventually("both of them on record", async || {
        let evidence = stage.home(Method::GET, "/api/evidence", None).await.text();
        evidence.matches("connection.revoked").count() == 2
    })
    .await;
    provider.look(|played| played.silent = false);
    answer(&provider, &to, said(200, &json!({}))).await;
    for asked in [first, second] {
        assert_eq!(asked.await.unwrap().json::<ConnectionView>().state, "revoked");
    }
    assert_eq!(provider.look(|played| played.ended()), ["refresh-canary-1", "access-canary-1"], "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_while_it_tells_the_provider_tells_it_again_with_every_token() {
    let mut stage = Stage::start();
    let provider = Provider::default();
    {
        let _to = provider.behind(&stage).await;
        provider.look(|played| (played.lives, played.silent) = (3600, true));
        signed_in(&stage, "x").await;
        let asked = revoked(&stage);
        tokio::select! {
            answer = asked => panic!("{}", answer.text()),
            () = provider.until("the question", |played| !played.ended().is_empty()) => {}
        }
    }
    stage.stop();
    provider.look(|played| {
        played.silent = false;
        played.calls.clear();
    });
    stage.again();
    let _to = provider.behind(&stage).await;
    // It may have looked before the gateway had dialled.
    eventually("the end", async || {
        let state = view(&stage, "x").await.state;
        if state == "revoking" {
            revoked(&stage).await;
        }
        state == "revoked"
    })
    .await;
    let told = provider.look(|played| played.ended());
    assert!(["refresh-canary-1", "access-canary-1"].iter().all(|token| told.iter().any(|t| t == token)), "{told:?}");
    assert_eq!(ended(&stage).await.last(), Some(&(true, 0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_no_of_the_provider_ends_no_token_and_is_said_but_that_it_ends_none_of_a_kind_is_an_answer() {
    let stage = Stage::start();
    let provider = Provider::default();
    let _to = provider.behind(&stage).await;
    provider.look(|played| played.lives = 3600);
    signed_in(&stage, "x").await;
    for (status, error) in [(429, ""), (408, ""), (401, "invalid_client"), (404, ""), (400, "invalid_request")] {
        provider.look(|played| played.ends.extend([(status, error), (status, error)]));
        let view: ConnectionView = revoked(&stage).await.json();
        assert_eq!(view.state, "revoking", "{status}");
        assert!(view.said.contains(&format!("status {status}")), "{}", view.said);
    }
    // It is set anew only when it is over, or was given up.
    let put = stage.home(Method::PUT, "/api/connections/x", Some(settings())).await;
    assert_eq!(put.code(), "connection.ending");
    // One of both is confirmed, and asked for no more.
    provider.look(|played| {
        played.calls.clear();
        played.ends.extend([(200, ""), (503, "")]);
    });
    assert_eq!(revoked(&stage).await.json::<ConnectionView>().state, "revoking");
    provider.look(|played| played.ends.extend([(400, "unsupported_token_type")]));
    assert_eq!(revoked(&stage).await.json::<ConnectionView>().state, "revoked");
    assert_eq!(provider.look(|played| played.ended()), ["refresh-canary-1", "access-canary-1", "access-canary-1"]);
    assert_eq!(ended(&stage).await[4..], [(false, 2), (false, 1), (true, 0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_whose_provider_never_confirms_its_end_can_be_given_up() {
    let stage = Stage::start();
    let provider = Provider::default();
    let _to = provider.behind(&stage).await;
    provider.look(|played| (played.lives, played.deaf) = (3600, true));
    signed_in(&stage, "x").await;
    assert_eq!(stage.home(Method::DELETE, "/api/connections/x", None).await.code(), "connection.live");
    assert_eq!(revoked(&stage).await.json::<ConnectionView>().state, "revoking");
    assert_eq!(view(&stage, "x").await.left, 2);
    let removed: ConnectionRemoved = stage.home(Method::DELETE, "/api/connections/x", None).await.json();
    assert_eq!(removed.left, 2);
    done(&stage, Method::PUT, "/api/connections/x", settings()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_removes_a_connection_that_lapsed_is_told_how_many_tokens_of_before_are_still_to_be_ended() {
    let stage = Stage::start();
    let provider = Provider::default();
    let _to = provider.behind(&stage).await;
    provider.look(|played| (played.lives, played.deaf) = (3600, true));
    signed_in(&stage, "x").await;
    assert_eq!(revoked(&stage).await.json::<ConnectionView>().state, "revoking");
    provider.look(|played| {
        played.lives = 0;
        played.turns.extend([Turn::Refused]);
    });
    done(&stage, Method::POST, "/api/connections/x/device", json!({})).await;
    eventually("the lapse", async || view(&stage, "x").await.state == "lapsed").await;
    let lapsed = view(&stage, "x").await;
    assert!(lapsed.left == 2 && lapsed.said.contains("still to be ended"), "{lapsed:?}");
    let page = stage.home(Method::GET, "/connections/remove?name=x", None).await.text();
    assert!(page.contains("the 2 tokens of it whose end its provider has not confirmed"), "{page}");
    let removed: ConnectionRemoved = stage.home(Method::DELETE, "/api/connections/x", None).await.json();
    assert_eq!(removed.left, 2);
    let evidence = stage.home(Method::GET, "/api/evidence", None).await.text();
    let record = evidence.lines().find(|line| line.contains("connection.removed")).unwrap();
    assert!(record.contains("\"left\":2"), "{record}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_in_use_is_over_when_its_connection_lapses() {
    const PROFILE: &str = "[[capability]]\nname = \"forge\"\nsecret = \"connection/x\"\nkind = \"tool\"\n\
        destinations = [\"api.example.org\"]\nexecutables = [\"/usr/bin/curl\"]\n";
    let stage = Stage::start();
    let provider = Provider::default();
    {
        let _to = provider.behind(&stage).await;
        provider.look(|played| played.lives = 3600);
        signed_in(&stage, "x").await;
    }
    let (_operator, launch) = stage.running(PROFILE).await;
    let mut gateway = stage.gateway().await;
    let ask = LeaseAsk { capability: "forge".into(), destination: "api.example.org".into(), ..leases::wish(&launch) };
    let given = leases::granted(&mut gateway, ask).await;
    let word = leases::take(&mut gateway, &launch, &given.lease, leases::curl()).await;
    assert!(matches!(word, ValueWord::Value { .. }), "{word:?}");
    // Signed in again, with a token that is over in a second and that nothing refreshes.
    provider.look(|played| (played.lives, played.access_only) = (1, true));
    let told = async {
        loop {
            match gateway.hear().await {
                ToGateway::Call { id, call } => {
                    let word = provider.look(|played| played.answer(id, &call)).expect("it answers");
                    gateway.say(&FromGateway::Called { id, word }).await;
                }
                ToGateway::RevokeLease { lease } => return lease,
                other => panic!("{other:?}"),
            }
        }
    };
    let (lease, _) = tokio::join!(told, done(&stage, Method::POST, "/api/connections/x/device", json!({})));
    assert_eq!(lease, given.lease);
    assert_eq!(view(&stage, "x").await.state, "lapsed");
    let over = leases::leases(&stage).await;
    assert_eq!(over[0].ended_by, "secret's end", "{over:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_copy_has_no_connections_token_and_asks_no_provider_for_one() {
    let mut stage = Stage::start();
    let provider = Provider::default();
    let _to = provider.behind(&stage).await;
    provider.look(|played| played.lives = 3600);
    signed_in(&stage, "x").await;
    // One that lapsed before is not among those that were signed in.
    provider.look(|played| {
        played.lives = 0;
        played.turns.extend([Turn::Refused]);
    });
    signed_in(&stage, "y").await;
    eventually("the lapse", async || view(&stage, "y").await.state == "lapsed").await;
    provider.look(|played| played.lives = 3600);
    stage.stop();
    let server = stage.dir.path().join("server");
    let ended = tokio::task::spawn_blocking(move || server::offline::restored(&server)).await.unwrap().unwrap();
    assert_eq!((ended.runs, ended.connections), (0, 1));
    provider.look(|played| played.calls.clear());
    stage.again();
    let _to = provider.behind(&stage).await;
    let restored = view(&stage, "x").await;
    assert_eq!(restored.state, "lapsed");
    assert!(
        restored.said.contains("Restored from a backup") && restored.said.contains("sign in again"),
        "{}",
        restored.said
    );
    assert_eq!(test(&stage, "x").await.unwrap_err(), "connection.closed");
    // Nor by being ended: the sign-in is the home's that the backup was made of.
    assert_eq!(revoked(&stage).await.json::<ConnectionView>().state, "revoked");
    assert_eq!(provider.look(|played| played.calls.len()), 0);
    signed_in(&stage, "x").await;
}
