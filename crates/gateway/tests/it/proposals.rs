//! `POST /propose` at a box's door: how often the server is asked.

use crate::house::{Got, HANDLE, House, ask, soon, url};
use api::git::{GitAct, GitWord};
use api::grants::{FromGateway, ToGateway};
use model::Dialect;
use serde_json::json;
use std::net::SocketAddr;

/// Questions that the server may deny in a row.
const DENIED: usize = 1000;

async fn propose(door: SocketAddr) -> Got {
    let body = json!({ "title": "Mend max", "body": "It was wrong." }).to_string().into_bytes();
    let head = format!(
        "POST /propose HTTP/1.1\r\nhost: door\r\nconnection: close\r\ncontent-length: {}\r\nauthorization: Bearer {HANDLE}\r\n\r\n",
        body.len()
    );
    ask(door, &head, &body).await
}

fn rule(got: &Got) -> String {
    let said: serde_json::Value = serde_json::from_slice(&got.body).expect("JSON");
    said["error"]["rule"].as_str().expect("a rule").to_owned()
}

async fn question(house: &mut House) -> u64 {
    match house.hear().await {
        FromGateway::AskGit { id, ask } if matches!(ask.act, GitAct::Propose(_)) => id,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "current_thread")]
async fn of_a_run_one_proposal_is_asked_for_at_a_time() {
    let mut house = House::granting(Dialect::Anthropic, url("http://127.0.0.1:9")).await;
    let door = house.door;
    let first = tokio::spawn(propose(door));
    let id = question(&mut house).await;
    for _ in 0..60 {
        let second = soon("the second's answer", propose(door)).await;
        assert_eq!((second.status, rule(&second).as_str()), (503, "propose.busy"));
    }
    let text = "It is kept.".to_owned();
    house.say.send(ToGateway::GitAnswer { id, word: GitWord::Said { text } }).expect("the server lives");
    assert_eq!(soon("the first's answer", first).await.expect("it was asked").status, 200);
    // The next question is that of the next proposal, and none of those between.
    let next = tokio::spawn(propose(door));
    let next_id = question(&mut house).await;
    assert_ne!(next_id, id);
    next.abort();
}

#[tokio::test(flavor = "current_thread")]
async fn a_proposal_that_the_server_did_not_keep_counts_whatever_became_of_it() {
    let mut house = House::granting(Dialect::Anthropic, url("http://127.0.0.1:9")).await;
    let door = house.door;
    for _ in 0..DENIED {
        let asking = tokio::spawn(propose(door));
        let id = question(&mut house).await;
        let word = GitWord::Denied { rule: "server.failed".into(), why: "It took too long.".into() };
        house.say.send(ToGateway::GitAnswer { id, word }).expect("the server lives");
        assert_eq!(rule(&soon("the answer", asking).await.expect("it was asked")), "server.failed");
    }
    assert_eq!(rule(&soon("the refusal", propose(door)).await), "door.flood");
    // And that is its record: the server is not asked.
    assert!(matches!(house.hear().await, FromGateway::Refused { .. }));
}
