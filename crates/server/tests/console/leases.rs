//! The page of the leases: what is open, live, and taken back after a question.

use crate::sign_in;
use crate::stage::{Gateway, Stage, handle_sha256};
use api::grants::{FromGateway, ToGateway};
use api::leases::{LeaseAsk, LeaseUse, LeaseUser, LeaseView, LeaseWord};
use http::{Method, StatusCode};
use model::{LeaseId, RunId};
use serde_json::json;

const PROFILE: &str = r#"
[[capability]]
name = "shop"
secret = "capability/shop"
kind = "tool"
destinations = ["shop.example.org"]
"#;

async fn leased(stage: &Stage) -> (Gateway, RunId, LeaseId) {
    stage.secret("capability/shop", json!({ "value": "shop-token-0123456789" })).await;
    let (_operator, launch) = stage.running(PROFILE).await;
    let mut gateway = stage.gateway().await;
    let ask = LeaseAsk {
        run: launch.run.clone(),
        handle_sha256: handle_sha256(&launch),
        capability: "shop".into(),
        destination: "shop.example.org".into(),
        reason: "<script>alert(1)</script>".into(),
    };
    gateway.say(&FromGateway::AskLease { id: 1, ask }).await;
    match gateway.hear().await {
        ToGateway::LeaseAnswer { word: LeaseWord::Granted(given), .. } => (gateway, launch.run, given.lease),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_page_shows_what_is_open_as_text_asks_and_takes_it_back() {
    let stage = Stage::start();
    let cookie = sign_in(&stage).await;
    let get = async |path: &str| stage.tcp(Method::GET, path, &[("cookie", &cookie)], "").await;
    assert!(get("/leases").await.text().contains("No lease is open."));
    let (mut gateway, _, lease) = leased(&stage).await;
    let page = get("/leases").await.text();
    assert!(page.contains("shop.example.org") && page.contains("data-live=\"/leases/live\""), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script>alert"), "{page}");
    let path = format!("/leases/{lease}/revoke");
    assert!(get(&path).await.text().contains("Take this lease back?"));
    let open: Vec<LeaseView> = stage.home(Method::GET, "/api/leases", None).await.json();
    assert_eq!(open.len(), 1, "a question changes nothing");
    // Nobody else's page can do it, nor anyone who is not signed in.
    let nobody = stage.tcp(Method::POST, &path, &[], "").await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    let foreign = [("cookie", cookie.as_str()), ("origin", "http://evil.example")];
    assert_eq!(stage.tcp(Method::POST, &path, &foreign, "").await.status, StatusCode::FORBIDDEN);
    for _ in 0..2 {
        let done = stage.tcp(Method::POST, &path, &[("cookie", &cookie)], "").await;
        assert_eq!((done.status, &done.headers["location"]), (StatusCode::SEE_OTHER, &"/leases".parse().unwrap()));
    }
    assert!(matches!(gateway.hear().await, ToGateway::RevokeLease { lease: told } if told == lease));
    assert!(get("/leases").await.text().contains("No lease is open."));
    assert_eq!(get(&path).await.headers["location"], "/leases");
}

#[tokio::test]
async fn who_takes_a_lease_back_is_told_when_nobody_said_that_its_use_has_ended() {
    let stage = Stage::start();
    let cookie = sign_in(&stage).await;
    let (mut gateway, run, lease) = leased(&stage).await;
    let by = LeaseUser::Command {
        executable: "/usr/bin/curl".into(),
        executable_sha256: "0".repeat(64),
        argv_sha256: "0".repeat(64),
    };
    let used = LeaseUse { run, lease: lease.clone(), by };
    gateway.say(&FromGateway::UseLease { id: 2, used }).await;
    assert!(matches!(gateway.hear().await, ToGateway::LeaseValue { .. }));
    drop(gateway);
    let done = stage.tcp(Method::POST, &format!("/leases/{lease}/revoke"), &[("cookie", &cookie)], "").await;
    assert_eq!(done.status, StatusCode::OK);
    assert!(done.text().contains("nobody has said yet that it has"), "{}", done.text());
    assert!(stage.tcp(Method::GET, "/leases", &[("cookie", &cookie)], "").await.text().contains("taken back"));
}
