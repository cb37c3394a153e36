//! `POST /lease` at a box's door: what is asked, what is told, and what never is.

use crate::house::{Got, HANDLE, House, ask, soon, url};
use api::grants::{FromGateway, ToGateway};
use api::leases::{Given, LeaseAsk, LeaseWord, MAX_WISH};
use model::capability::Delivery;
use model::{Dialect, LeaseId, Moment};
use serde_json::json;

async fn house() -> House {
    House::granting(Dialect::Anthropic, url("http://127.0.0.1:9")).await
}

fn head(method: &str, path: &str, more: &str, body: usize) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: door\r\nconnection: close\r\ncontent-length: {body}\r\n{more}\r\n")
}

fn bearer() -> String {
    format!("authorization: Bearer {HANDLE}\r\n")
}

fn wish() -> Vec<u8> {
    json!({ "capability": "shop", "destination": "shop.example.org", "reason": "paper" }).to_string().into_bytes()
}

fn error(got: &Got) -> serde_json::Value {
    serde_json::from_slice::<serde_json::Value>(&got.body).expect("JSON")["error"].clone()
}

/// Asks, and answers as the server.
async fn answered(house: &mut House, word: LeaseWord) -> (Got, LeaseAsk) {
    let (door, body) = (house.door, wish());
    let head = head("POST", "/lease", &bearer(), body.len());
    let asking = tokio::spawn(async move { ask(door, &head, &body).await });
    let FromGateway::AskLease { id, ask } = house.hear().await else { panic!("not a question for a lease") };
    house.say.send(ToGateway::LeaseAnswer { id, word }).expect("the server lives");
    (soon("the answer", asking).await.expect("it was asked"), ask)
}

#[tokio::test(flavor = "current_thread")]
async fn a_lease_is_asked_for_in_the_name_of_the_door_it_came_to_and_told_without_a_value() {
    let mut house = house().await;
    let given = Given {
        lease: LeaseId::parse("abc").expect("an id"),
        expires: Moment(5),
        delivery: Delivery::Variable("SHOP_TOKEN".into()),
        executables: vec!["/usr/bin/curl".into()],
    };
    let (got, asked) = answered(&mut house, LeaseWord::Granted(given.clone())).await;
    assert_eq!(got.status, 200);
    assert_eq!(serde_json::from_slice::<Given>(&got.body).expect("JSON"), given);
    assert_eq!((asked.run, asked.capability.as_str(), asked.reason.as_str()), (house.run.clone(), "shop", "paper"));
    // The handle goes no further than its hash.
    assert_eq!(asked.handle_sha256.len(), 64);
    assert!(!asked.handle_sha256.contains(HANDLE));
}

#[tokio::test(flavor = "current_thread")]
async fn a_denial_explains_itself_and_is_not_recorded_twice() {
    let mut house = house().await;
    let word = LeaseWord::Denied { rule: "lease.capability".into(), why: "There is no such capability.".into() };
    let (got, _) = answered(&mut house, word).await;
    let error = error(&got);
    assert_eq!(
        (got.status, error["rule"].as_str(), error["retry"].as_bool()),
        (403, Some("lease.capability"), Some(false))
    );
    assert!(error["message"].as_str().is_some_and(|said| said.contains("no such capability")), "{error}");
    // What comes next is the next request's, and no refusal of ours.
    let (got, _) =
        answered(&mut house, LeaseWord::Denied { rule: "lease.per-run".into(), why: "No more.".into() }).await;
    assert_eq!(got.status, 403);
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_no_wish_is_refused_here_and_recorded_without_its_body() {
    let mut house = house().await;
    let long = vec![b' '; MAX_WISH + 1];
    let field = json!({ "capability": "a", "destination": "b", "secret": "model/m" }).to_string().into_bytes();
    for (method, path, more, body, status, rule) in [
        ("GET", "/lease", bearer(), Vec::new(), 403, "lease.form"),
        ("POST", "/lease?x=1", bearer(), wish(), 403, "lease.form"),
        ("POST", "/lease", String::new(), wish(), 403, "handle.missing"),
        ("POST", "/lease", "authorization: Bearer sk-another\r\n".to_owned(), wish(), 403, "handle.foreign"),
        ("POST", "/lease", format!("{}x-api-key: {HANDLE}\r\n", bearer()), wish(), 403, "handle.foreign"),
        ("POST", "/lease", bearer(), b"not json".to_vec(), 400, "lease.form"),
        ("POST", "/lease", bearer(), field, 400, "lease.form"),
        ("POST", "/lease", bearer(), long, 413, "lease.form"),
        // An agent has one word for leases: it holds, renews and takes back none.
        ("POST", "/lease/x", bearer(), wish(), 403, "door.closed"),
        ("POST", "/lease/x/renew", bearer(), wish(), 403, "door.closed"),
        ("POST", "/lease/x/revoke", bearer(), Vec::new(), 403, "door.closed"),
        ("GET", "/lease/x", bearer(), Vec::new(), 403, "door.closed"),
        ("DELETE", "/lease/x", bearer(), Vec::new(), 403, "door.closed"),
        ("DELETE", "/lease", bearer(), Vec::new(), 403, "lease.form"),
        ("PUT", "/lease", bearer(), wish(), 403, "lease.form"),
        ("PATCH", "/lease", bearer(), wish(), 403, "lease.form"),
    ] {
        let got = ask(house.door, &head(method, path, &more, body.len()), &body).await;
        assert_eq!((got.status, error(&got)["rule"].as_str()), (status, Some(rule)), "{method} {path}");
        let verdict = house.refusal().await;
        assert_eq!(verdict.rule, rule);
        assert!(!verdict.why.contains("model/m") && !verdict.why.contains("sk-another"), "{verdict:?}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn without_the_server_there_is_no_lease() {
    let mut house = house().await;
    house.kill_server().await;
    let body = wish();
    let refused = async {
        loop {
            let got = ask(house.door, &head("POST", "/lease", &bearer(), body.len()), &body).await;
            // Until it has noticed, it asks into the void and says the same.
            if got.status == 503 {
                return got;
            }
        }
    };
    let got = soon("a refusal", refused).await;
    assert_eq!(error(&got)["rule"], "record.lost");
}
