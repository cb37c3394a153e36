//! Tokens that come when nobody keeps them: of a connection that was ended, set anew or removed while its provider was asked.

use super::{Provider, Turn, done, eventually, late_tokens, revoked, said, say, settings, signed_in, test, view};
use crate::stage::{Answer, Stage};
use api::connections::{ConnectionRemoved, ConnectionView};
use api::platform::Purpose;
use http::{Method, StatusCode};
use serde_json::json;
use std::sync::Arc;
use tokio::net::unix::OwnedWriteHalf;
use tokio::task::JoinHandle;
use url::{Url, form_urlencoded};

pub(super) type Writer = Arc<tokio::sync::Mutex<OwnedWriteHalf>>;

/// What the provider was asked to end, in its order.
pub(super) const LATE: [&str; 2] = ["late-canary-2", "late-canary-1"];

pub(super) async fn staged() -> (Arc<Stage>, Provider, Writer) {
    let stage = Arc::new(Stage::start());
    let provider = Provider::default();
    provider.look(|played| played.lives = 3600);
    let to = provider.behind(&stage).await;
    (stage, provider, to)
}

/// Waits until the provider holds a question, and answers it.
pub(super) async fn answer(provider: &Provider, to: &Writer, word: api::platform::CallWord) {
    provider.until("the question", |played| !played.held.is_empty()).await;
    let id = provider.look(|played| played.held.remove(0));
    say(to, id, word).await;
}

/// A sign-in with a browser to `x`, whose code the provider is being asked about: what the page will answer.
pub(super) async fn exchanging(stage: &Arc<Stage>, provider: &Provider) -> JoinHandle<Answer> {
    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
    let cookie = stage.signed_in().await;
    let page = stage.tcp(Method::POST, "/connections/sign-in", &[("cookie", &cookie), FORM], "name=x").await;
    let text = page.text().replace("&amp;", "&");
    let link = text.split("href=\"").find(|part| part.starts_with("https://auth.example/")).expect("a link");
    let url = Url::parse(link.split('"').next().unwrap()).unwrap();
    let state = url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("state", state.as_str()), ("code", "code-canary")])
        .finish();
    provider.look(|played| played.sign_in_held = true);
    let of = stage.clone();
    let asked = tokio::spawn(async move {
        of.tcp(Method::POST, "/connections/callback", &[("cookie", &cookie), FORM], &body).await
    });
    provider.until("the question", |played| !played.held.is_empty()).await;
    asked
}

/// What the provider was told of the ends of tokens: to which address, for which client.
pub(super) fn told(provider: &Provider) -> Vec<(String, String, String)> {
    provider.look(|played| {
        let form = |form: &str| form_urlencoded::parse(form.as_bytes()).into_owned().collect::<Vec<_>>();
        let field = |form: &[(String, String)], name: &str| {
            form.iter().find(|(n, _)| n == name).map_or_else(String::new, |(_, value)| value.clone())
        };
        let ends =
            played.calls.iter().filter(|call| call.0 == Purpose::Revoke).map(|call| (call.1.clone(), form(&call.2)));
        ends.map(|(url, form)| (url, field(&form, "token"), field(&form, "client_id"))).collect()
    })
}

pub(super) async fn all(stage: &Stage) -> Vec<ConnectionView> {
    stage.home(Method::GET, "/api/connections", None).await.json()
}

/// Has what is left told again by hand, as often as it takes: whoever tells the provider at that moment is not disturbed.
pub(super) async fn until_it_is_gone(stage: &Stage, name: &str) {
    eventually("the end", async || {
        stage.home(Method::POST, &format!("/api/connections/{name}/revoke"), Some(json!({}))).await;
        !all(stage).await.iter().any(|row| row.name == name)
    })
    .await;
}

/// Neither in a row nor in the clear in a record.
async fn nobody_has_it(stage: &Stage) {
    let evidence = stage.home(Method::GET, "/api/evidence", None).await.text();
    assert!(!evidence.contains("canary") && evidence.contains("connection.late"), "{evidence}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_a_browsers_sign_in_whose_connection_is_ended_meanwhile_are_ended_and_kept_by_nobody() {
    let (stage, provider, to) = staged().await;
    signed_in(&stage, "x").await;
    let asked = exchanging(&stage, &provider).await;
    assert_eq!(revoked(&stage).await.json::<ConnectionView>().state, "revoked");
    answer(&provider, &to, late_tokens()).await;
    let refused = asked.await.unwrap();
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text());
    provider.until("its end", |played| played.ended().len() == 4).await;
    eventually("the end", async || view(&stage, "x").await.state == "revoked").await;
    assert_eq!(provider.look(|played| played.ended())[2..], LATE);
    let over = view(&stage, "x").await;
    assert_eq!((over.generation, over.left), (1, 0));
    assert_eq!(test(&stage, "x").await.unwrap_err(), "connection.closed");
    nobody_has_it(&stage).await;
    // One that is begun from here on is kept.
    provider.look(|played| played.sign_in_held = false);
    done(&stage, Method::POST, "/api/connections/x/device", json!({})).await;
    eventually("the sign-in", async || view(&stage, "x").await.state == "live").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_a_browsers_sign_in_whose_connection_is_set_anew_meanwhile_are_ended_where_they_came_from() {
    let (stage, provider, to) = staged().await;
    let mut first = settings();
    first["client_secret"] = json!("client-canary-0123");
    first["settings"]["client_auth"] = json!("post");
    done(&stage, Method::PUT, "/api/connections/x", first).await;
    let asked = exchanging(&stage, &provider).await;
    let mut anew = settings();
    for url in ["token_url", "revoke_url", "device_url", "authorize_url"] {
        anew["settings"][url] = json!("https://other.example/");
    }
    anew["settings"]["client_id"] = json!("another");
    done(&stage, Method::PUT, "/api/connections/x", anew).await;
    provider.look(|played| played.deaf = true);
    answer(&provider, &to, late_tokens()).await;
    assert_eq!(asked.await.unwrap().status, StatusCode::CONFLICT);
    // Kept until the provider confirms it, beside the connection that took the place.
    provider.until("the first try", |played| played.ended().len() == 2).await;
    eventually("what is left", async || all(&stage).await.len() == 2).await;
    let rows = all(&stage).await;
    assert_eq!((rows[0].name.as_str(), rows[0].state.as_str(), rows[0].left), ("x", "new", 0));
    let left = &rows[1];
    assert!(left.name.starts_with("x@") && left.state == "revoking" && left.left == 2, "{left:?}");
    assert!(left.said.starts_with("What is left of x"), "{}", left.said);
    let page = stage.home(Method::GET, "/connections", None).await.text();
    assert!(page.contains("What is left of x") && !page.contains("canary"), "{page}");
    provider.look(|played| played.deaf = false);
    until_it_is_gone(&stage, &left.name).await;
    assert_eq!(all(&stage).await.len(), 1);
    let told = told(&provider);
    assert!(told.len() >= 4, "{told:?}");
    for (url, token, client) in &told {
        assert_eq!((url.as_str(), client.as_str()), ("https://auth.example/revoke", "volary"));
        assert!(LATE.contains(&token.as_str()), "{told:?}");
    }
    let showed = provider.look(|played| played.calls.iter().filter(|c| c.2.contains("client-canary-0123")).count());
    assert_eq!(
        showed,
        1 + told.len(),
        "the client that was asked for shows its secret, at the exchange and at each end"
    );
    nobody_has_it(&stage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_a_sign_in_whose_connection_is_removed_meanwhile_are_ended_also_by_a_server_that_starts_after() {
    let (stage, provider, to) = staged().await;
    done(&stage, Method::PUT, "/api/connections/x", settings()).await;
    let asked = exchanging(&stage, &provider).await;
    let removed: ConnectionRemoved = stage.home(Method::DELETE, "/api/connections/x", None).await.json();
    assert_eq!(removed.left, 0);
    provider.look(|played| played.deaf = true);
    answer(&provider, &to, late_tokens()).await;
    assert_eq!(asked.await.unwrap().status, StatusCode::NOT_FOUND);
    eventually("what is left", async || all(&stage).await.iter().any(|row| row.left == 2)).await;
    // It stays until its provider hears.
    let name = all(&stage).await.remove(0).name;
    let mut stage = Arc::try_unwrap(stage).unwrap_or_else(|_| panic!("it is used"));
    stage.stop();
    provider.look(|played| {
        played.deaf = false;
        played.calls.clear();
    });
    stage.again();
    let _to = provider.behind(&stage).await;
    until_it_is_gone(&stage, &name).await;
    let told = provider.look(|played| played.ended());
    assert!(LATE.iter().all(|token| told.iter().any(|t| t == token)), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_a_sign_in_that_cannot_be_used_are_ended() {
    let (stage, provider, to) = staged().await;
    done(&stage, Method::PUT, "/api/connections/x", settings()).await;
    let asked = exchanging(&stage, &provider).await;
    let other = json!({ "access_token": "late-canary-1", "refresh_token": "late-canary-2", "token_type": "mac" });
    answer(&provider, &to, said(200, &other)).await;
    let refused = asked.await.unwrap();
    assert!(refused.status == StatusCode::BAD_REQUEST && refused.text().contains("no token that can be used"));
    provider.until("its end", |played| played.ended() == LATE).await;
    assert_eq!(view(&stage, "x").await.state, "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_refresh_gives_after_its_connection_was_removed_is_ended() {
    let (stage, provider, to) = staged().await;
    refreshing(&stage, &provider).await;
    assert_eq!(revoked(&stage).await.json::<ConnectionView>().state, "revoking");
    assert_eq!(stage.home(Method::DELETE, "/api/connections/x", None).await.status, StatusCode::OK);
    answer(&provider, &to, late_tokens()).await;
    provider.until("its end", |played| played.ended().ends_with(&LATE.map(str::to_owned))).await;
    eventually("nothing left", async || all(&stage).await.is_empty()).await;
    nobody_has_it(&stage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_token_of_which_nobody_knows_is_ended_when_its_connection_is_set_anew() {
    for same in [true, false] {
        let (stage, provider, _to) = staged().await;
        provider.look(|played| {
            played.lives = 0;
            played.turns.extend([Turn::Cut, Turn::Cut]);
        });
        signed_in_and_lapsed(&stage, &provider).await;
        assert_eq!(view(&stage, "x").await.left, 1);
        let mut anew = settings();
        if !same {
            anew["settings"]["client_id"] = json!("another");
        }
        done(&stage, Method::PUT, "/api/connections/x", anew).await;
        provider.until("its end", |played| played.ended() == ["refresh-canary-1"]).await;
        eventually("nothing left", async || {
            let all = all(&stage).await;
            all.len() == 1 && all[0].left == 0 && all[0].state == "new"
        })
        .await;
        assert_eq!(told(&provider)[0].2, "volary");
    }
}

/// Signed in to `x`, and lapsed after two answers that were lost.
async fn signed_in_and_lapsed(stage: &Stage, provider: &Provider) {
    done(stage, Method::PUT, "/api/connections/x", settings()).await;
    done(stage, Method::POST, "/api/connections/x/device", json!({})).await;
    eventually("the lapse", async || view(stage, "x").await.state == "lapsed").await;
    assert_eq!(provider.look(|played| played.of(Purpose::Refresh)), 2);
}

/// Signed in to `x`, and a refresh of it under way.
pub(super) async fn refreshing(stage: &Stage, provider: &Provider) {
    provider.look(|played| {
        played.lives = 0;
        played.turns.extend([Turn::Held]);
    });
    signed_in(stage, "x").await;
    provider.until("the refresh", |played| !played.held.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_come_after_their_connection_was_ended_are_ended_and_kept_by_nobody() {
    let (stage, provider, to) = staged().await;
    refreshing(&stage, &provider).await;
    // Ended while the refresh is under way.
    let then: ConnectionView = revoked(&stage).await.json();
    assert!(then.state == "revoking" && then.said.contains("refresh was under way"), "{then:?}");
    assert_eq!(test(&stage, "x").await.unwrap_err(), "connection.closed");
    answer(&provider, &to, late_tokens()).await;
    eventually("the end", async || view(&stage, "x").await.state == "revoked").await;
    let told = provider.look(|played| played.ended());
    assert_eq!(told, ["refresh-canary-1", "access-canary-1", "late-canary-2", "late-canary-1"]);
    assert_eq!(super::ends::ended(&stage).await.last(), Some(&(true, 0)));
    assert_eq!(test(&stage, "x").await.unwrap_err(), "connection.closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_a_sign_in_that_was_given_up_before_they_came_are_ended() {
    let (stage, provider, to) = staged().await;
    signed_in(&stage, "x").await;
    // Signed in again with a device's code, and ended while the provider is asked for its tokens.
    provider.look(|played| played.sign_in_held = true);
    done(&stage, Method::POST, "/api/connections/x/device", json!({})).await;
    provider.until("the question", |played| !played.held.is_empty()).await;
    assert_eq!(revoked(&stage).await.json::<ConnectionView>().state, "revoked");
    answer(&provider, &to, late_tokens()).await;
    provider.until("its end", |played| played.ended().iter().any(|token| token == "late-canary-1")).await;
    eventually("the end", async || view(&stage, "x").await.state == "revoked").await;
    let told = provider.look(|played| played.ended());
    assert_eq!(told, ["refresh-canary-1", "access-canary-1", "late-canary-2", "late-canary-1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_that_was_ended_at_another_server_meanwhile_is_not_kept_and_its_tokens_are_ended() {
    let (first, provider, to) = staged().await;
    signed_in(&first, "x").await;
    let second = Stage::beside(&first);
    let _beside = provider.behind(&second).await;
    provider.look(|played| played.sign_in_held = true);
    done(&first, Method::POST, "/api/connections/x/device", json!({})).await;
    provider.until("the question", |played| !played.held.is_empty()).await;
    done(&second, Method::POST, "/api/connections/x/revoke", json!({})).await;
    answer(&provider, &to, late_tokens()).await;
    provider.until("its end", |played| played.ended().iter().any(|token| token == "late-canary-1")).await;
    eventually("the end", async || view(&first, "x").await.state == "revoked").await;
    assert_eq!(view(&second, "x").await.generation, 1);
}

#[tokio::test]
async fn nobody_sets_a_connection_of_the_name_of_what_is_left_of_one() {
    let (stage, ..) = staged().await;
    let put = stage.home(Method::PUT, "/api/connections/x@1", Some(settings())).await;
    assert_eq!(put.code(), "connection.name");
}
