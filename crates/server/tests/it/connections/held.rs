//! Tokens that nobody keeps while somebody is signed in with their client: many a provider ends a person's whole grant with any
//! token of it, so they are ended when that sign-in is.

use super::late::{LATE, Writer, all, answer, exchanging, refreshing, staged, told, until_it_is_gone};
use super::{
    Provider, Turn, done, eventually, late_tokens, revoked, said, settings, signed_in, signed_in_to, test, view,
};
use crate::mint::cut::by_hand;
use crate::stage::Stage;
use api::connections::ConnectionView;
use api::platform::Purpose;
use http::Method;
use serde_json::{Value, json};
use std::sync::Arc;

/// Signed in to `x` with a device's code, once more.
async fn again(stage: &Stage) -> ConnectionView {
    let before = view(stage, "x").await.generation;
    done(stage, Method::POST, "/api/connections/x/device", json!({})).await;
    eventually("the sign-in", async || view(stage, "x").await.generation > before).await;
    view(stage, "x").await
}

/// What evidence has of one kind.
async fn records(stage: &Stage, kind: &str) -> Vec<Value> {
    let evidence = stage.home(Method::GET, "/api/evidence", None).await.text();
    assert!(!evidence.contains("canary"), "{evidence}");
    let lines = evidence.lines().filter(|line| line.contains(kind));
    lines.map(|line| serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap()).collect()
}

/// A sign-in with a browser that answers with the late tokens, as nobody's: of another type than bearer.
async fn unusable(stage: &Arc<Stage>, provider: &Provider, to: &Writer) {
    let asked = exchanging(stage, provider).await;
    let other = json!({ "access_token": "late-canary-1", "refresh_token": "late-canary-2", "token_type": "mac" });
    answer(provider, to, said(200, &other)).await;
    asked.await.unwrap();
    provider.look(|played| played.sign_in_held = false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_nobody_keeps_end_no_sign_in_that_somebody_uses_and_are_ended_with_it() {
    let (stage, provider, to) = staged().await;
    refreshing(&stage, &provider).await;
    assert_eq!(revoked(&stage).await.json::<ConnectionView>().state, "revoking");
    provider.look(|played| played.lives = 3600);
    let then = again(&stage).await;
    assert_eq!(then.state, "live");
    // What the first sign-in's refresh brought, and a later sign-in that nobody can use.
    answer(&provider, &to, late_tokens()).await;
    eventually("what is left", async || view(&stage, "x").await.left == 2).await;
    unusable(&stage, &provider, &to).await;
    eventually("what is left", async || view(&stage, "x").await.left == 4).await;
    // Whoever looks at what is to be ended passes them over.
    signed_in(&stage, "y").await;
    done(&stage, Method::POST, "/api/connections/y/revoke", json!({})).await;
    eventually("its end", async || view(&stage, "y").await.state == "revoked").await;
    let now = test(&stage, "x").await.unwrap();
    assert_eq!((now.state.as_str(), now.generation), ("live", then.generation));
    assert!(now.said.contains("which nobody uses, are ended at the provider when this sign-in is"), "{}", now.said);
    assert!(!provider.look(|played| played.ended()).iter().any(|token| LATE.contains(&token.as_str())));
    // A person ends it, and with it all of them.
    let over: ConnectionView = revoked(&stage).await.json();
    assert_eq!((over.state.as_str(), over.left), ("revoked", 0), "{over:?}");
    let told = provider.look(|played| played.ended());
    let times = |token: &str| told.iter().filter(|told| *told == token).count();
    assert_eq!(LATE.map(times), [2, 2], "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_that_lapses_takes_with_it_what_nobody_keeps() {
    let (stage, provider, to) = staged().await;
    provider.look(|played| played.turns.extend([Turn::Unsent]));
    signed_in(&stage, "x").await;
    unusable(&stage, &provider, &to).await;
    eventually("what is left", async || view(&stage, "x").await.left == 2).await;
    // A sign-in that nothing refreshes.
    provider.look(|played| (played.lives, played.access_only) = (1, true));
    again(&stage).await;
    eventually("the lapse", async || view(&stage, "x").await.state == "lapsed").await;
    provider.until("their end", |played| LATE.iter().all(|late| played.ended().iter().any(|told| told == late))).await;
    eventually("nothing left", async || view(&stage, "x").await.left == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_keeps_of_a_sign_in_that_lapsed_waits_for_another_with_the_same_client() {
    let (stage, provider, to) = staged().await;
    signed_in(&stage, "y").await;
    let mut another = settings();
    another["settings"]["client_id"] = json!("another");
    signed_in_to(&stage, "z", another).await;
    signed_in(&stage, "x").await;
    unusable(&stage, &provider, &to).await;
    eventually("what is left", async || view(&stage, "x").await.left == 2).await;
    provider.look(|played| (played.lives, played.access_only) = (1, true));
    again(&stage).await;
    eventually("the lapse", async || view(&stage, "x").await.state == "lapsed").await;
    // Of another client's that lapses after it the provider is told.
    done(&stage, Method::POST, "/api/connections/z/device", json!({})).await;
    eventually("the lapse", async || view(&stage, "z").await.state == "lapsed").await;
    eventually("nothing left", async || view(&stage, "z").await.left == 0).await;
    assert_eq!((view(&stage, "x").await.left, view(&stage, "y").await.state.as_str()), (4, "live"));
    done(&stage, Method::POST, "/api/connections/y/revoke", json!({})).await;
    eventually("its end", async || view(&stage, "y").await.state == "revoked").await;
    eventually("nothing left", async || view(&stage, "x").await.left == 0).await;
    let ended = provider.look(|played| played.ended());
    let at = |token: &str| ended.iter().position(|ended| ended == token);
    assert!(at("access-canary-1").unwrap() < at(LATE[0]).unwrap(), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tokens_that_a_sign_in_takes_the_place_of_are_ended_with_it() {
    let (stage, provider, _to) = staged().await;
    signed_in(&stage, "x").await;
    let then = again(&stage).await;
    assert_eq!((then.state.as_str(), then.left), ("live", 2));
    assert_eq!(provider.look(|played| played.of(Purpose::Revoke)), 0);
    let over: ConnectionView = revoked(&stage).await.json();
    assert_eq!((over.state.as_str(), over.left), ("revoked", 0));
    let all = ["refresh-canary-1", "access-canary-1", "refresh-canary-2", "access-canary-2"];
    assert_eq!(provider.look(|played| played.ended()), all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_a_connection_that_is_no_more_waits_for_whoever_is_signed_in_with_its_client_unless_a_person_does_not()
 {
    for at_once in [false, true] {
        let (stage, provider, to) = staged().await;
        done(&stage, Method::PUT, "/api/connections/x", settings()).await;
        let asked = exchanging(&stage, &provider).await;
        provider.look(|played| played.sign_in_held = false);
        // Set anew as it was, and signed in to, while the provider is asked about the sign-in of before.
        done(&stage, Method::PUT, "/api/connections/x", settings()).await;
        again(&stage).await;
        answer(&provider, &to, late_tokens()).await;
        asked.await.unwrap();
        eventually("what is left", async || all(&stage).await.len() == 2).await;
        let left = all(&stage).await.remove(1);
        assert!(left.name.starts_with("x@") && left.left == 2, "{left:?}");
        assert!(left.said.contains("once nobody is signed in with the same client"), "{}", left.said);
        test(&stage, "x").await.unwrap();
        assert_eq!(told(&provider), []);
        if at_once {
            done(&stage, Method::POST, &format!("/api/connections/{}/revoke", left.name), json!({})).await;
            assert_eq!(view(&stage, "x").await.state, "live");
            assert_eq!(provider.look(|played| played.ended()), LATE);
        } else {
            assert_eq!(revoked(&stage).await.json::<ConnectionView>().state, "revoked");
            until_it_is_gone(&stage, &left.name).await;
        }
        assert_eq!(all(&stage).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_a_connection_that_is_no_more_is_given_up_and_recorded_after_sixteen_noes() {
    let (stage, provider, to) = staged().await;
    done(&stage, Method::PUT, "/api/connections/x", settings()).await;
    let asked = exchanging(&stage, &provider).await;
    stage.home(Method::DELETE, "/api/connections/x", None).await;
    // A provider that is busy says no for now: that counts anew.
    provider.look(|played| played.ends.extend([(404, ""), (503, "")]));
    provider.look(|played| played.ends.extend(vec![(404, ""); 100]));
    answer(&provider, &to, late_tokens()).await;
    asked.await.unwrap();
    provider.until("the first try", |played| played.ended().len() == 2).await;
    eventually("the record", async || records(&stage, "connection.ended").await.len() == 1).await;
    let name = all(&stage).await.remove(0).name;
    for times in 2..=17 {
        assert_eq!(all(&stage).await.len(), 1, "after {times} tries");
        done(&stage, Method::POST, &format!("/api/connections/{name}/revoke"), json!({})).await;
        eventually("the record", async || records(&stage, "connection.ended").await.len() == times).await;
    }
    assert_eq!(all(&stage).await.len(), 0);
    let ended = records(&stage, "connection.ended").await;
    let last = ended.last().unwrap();
    assert_eq!((&last["given_up"], &last["left"], &last["told"]), (&json!(true), &json!(2), &json!(false)), "{last}");
    assert!(ended[..16].iter().all(|record| record["given_up"] == json!(false)), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_beyond_the_most_that_are_to_be_ended_are_given_up_on_record() {
    let (stage, provider, to) = staged().await;
    signed_in(&stage, "x").await;
    for times in 1..=9 {
        unusable(&stage, &provider, &to).await;
        eventually("what is left", async || view(&stage, "x").await.left == (2 * times).min(16)).await;
    }
    eventually("the record", async || !records(&stage, "connection.unended").await.is_empty()).await;
    let given_up = records(&stage, "connection.unended").await;
    assert_eq!(given_up.len(), 1);
    assert_eq!((&given_up[0]["connection"], &given_up[0]["tokens"]), (&json!("x"), &json!(2)), "{given_up:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_a_connection_that_cannot_be_read_are_given_up_on_record_and_not_tried_for_ever() {
    let (stage, provider, to) = staged().await;
    done(&stage, Method::PUT, "/api/connections/x", settings()).await;
    let asked = exchanging(&stage, &provider).await;
    by_hand(&stage, "UPDATE connections SET standing = 'x'").await;
    let other = json!({ "access_token": "late-canary-1", "token_type": "mac" });
    answer(&provider, &to, said(200, &other)).await;
    asked.await.unwrap();
    eventually("the record", async || !records(&stage, "connection.unended").await.is_empty()).await;
    let given_up = records(&stage, "connection.unended").await;
    assert_eq!((&given_up[0]["connection"], &given_up[0]["tokens"]), (&json!("x"), &json!(1)), "{given_up:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_refreshes_that_are_waited_for_the_answer_to_one_ends_no_wait_for_the_other() {
    let (stage, provider, to) = staged().await;
    refreshing(&stage, &provider).await;
    revoked(&stage).await;
    // Signed in again, and ended while its refresh is under way, too.
    provider.look(|played| played.turns.extend([Turn::Held]));
    again(&stage).await;
    provider.until("the refresh", |played| played.held.len() == 2).await;
    revoked(&stage).await;
    answer(&provider, &to, late_tokens()).await;
    provider.until("the end of what it brought", |played| played.ended().ends_with(&LATE.map(str::to_owned))).await;
    eventually("what came of that", async || super::ends::ended(&stage).await.len() == 3).await;
    let then = view(&stage, "x").await;
    assert!(then.state == "revoking" && then.said.contains("refresh was under way"), "{then:?}");
    answer(&provider, &to, said(400, &json!({ "error": "invalid_grant" }))).await;
    eventually("the end", async || view(&stage, "x").await.state == "revoked").await;
}
