//! What ends with a value that is deleted, and what goes on when it is replaced.

use crate::leases::{curl, granted, leases, running, take, wish};
use crate::stage::{Gateway, Stage};
use api::grants::{FromGateway, StoredValue, ToGateway};
use api::http::SecretRemoved;
use api::leases::{LeaseAsk, ValueWord};
use http::{Method, StatusCode};
use model::LeaseId;
use serde_json::json;

const NEW: &str = "another-token-0123456789abcdef";

async fn deleted(stage: &Stage, name: &str, whose: &str) -> SecretRemoved {
    let gone = stage.home(Method::DELETE, &format!("/api/secrets/{name}{whose}"), None).await;
    assert_eq!(gone.status, StatusCode::OK, "{}", gone.text());
    gone.json()
}

fn value(word: ValueWord) -> String {
    match word {
        ValueWord::Value { value, .. } => value.0.expose().clone(),
        ValueWord::Denied { rule, why } => panic!("{rule}: {why}"),
    }
}

/// The next lease that the gateway is told was taken back.
async fn taken_back(gateway: &mut Gateway) -> LeaseId {
    match gateway.hear().await {
        ToGateway::RevokeLease { lease } => lease,
        other => panic!("{other:?}"),
    }
}

/// How a lease stands, and what ended it.
async fn stands(stage: &Stage, lease: &LeaseId) -> (String, String) {
    let found = leases(stage).await.into_iter().find(|one| one.lease == *lease).expect("it is listed");
    (found.state, found.ended_by)
}

#[tokio::test]
async fn the_leases_that_are_open_on_a_secret_end_with_its_value_and_no_others_do() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    let used = granted(&mut gateway, wish(&launch)).await.lease;
    value(take(&mut gateway, &launch, &used, curl()).await);
    let unused = granted(&mut gateway, wish(&launch)).await.lease;
    let tracker = LeaseAsk { capability: "tracker".into(), destination: "api.example.org".into(), ..wish(&launch) };
    let other = granted(&mut gateway, tracker).await.lease;
    let gone = deleted(&stage, "capability/shop", "").await;
    assert_eq!(gone, SecretRemoved { leases: 2, revoking: 0, left_until: None });
    let mut told = [taken_back(&mut gateway).await, taken_back(&mut gateway).await];
    told.sort();
    let mut both = [used, unused];
    both.sort();
    assert_eq!(told, both);
    assert_eq!(gateway.ended().await, ("capability/shop".into(), String::new(), 1));
    for lease in &both {
        assert_eq!(stands(&stage, lease).await, ("revoked".into(), "secret's end".into()));
    }
    assert_eq!(stands(&stage, &other).await.0, "granted");
    let said = stage.home(Method::GET, "/api/evidence", None).await.text();
    let at = |what: &str| said.find(what).unwrap_or_else(|| panic!("{what}: {said}"));
    assert!(at("lease.ended") < at("secret.removed"), "{said}");
    assert_eq!(deleted(&stage, "capability/other", "").await.leases, 0);
}

#[tokio::test]
async fn with_a_persons_own_value_end_the_leases_that_carry_it_and_with_the_workspaces_those_that_carry_that() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    stage.secret("capability/shop", json!({ "value": NEW, "personal": true })).await;
    let workspaces = granted(&mut gateway, wish(&launch)).await.lease;
    assert_eq!(value(take(&mut gateway, &launch, &workspaces, curl()).await), NEW);
    stage.secret("capability/shop", json!({ "value": "a-token-of-my-own-0123456789", "mine": true })).await;
    let own = granted(&mut gateway, wish(&launch)).await.lease;
    assert_eq!(value(take(&mut gateway, &launch, &own, curl()).await), "a-token-of-my-own-0123456789");
    // The one that was in use before the own value was set carries the workspace's.
    assert_eq!(deleted(&stage, "capability/shop", "").await.leases, 1);
    assert_eq!(taken_back(&mut gateway).await, workspaces);
    assert_eq!(gateway.ended().await, ("capability/shop".into(), String::new(), 2));
    assert_eq!(stands(&stage, &own).await.0, "consumed");
    assert_eq!(deleted(&stage, "capability/shop", "?mine=true").await.leases, 1);
    assert_eq!(taken_back(&mut gateway).await, own);
    assert_eq!(gateway.ended().await, ("capability/shop".into(), "administrator".into(), 1));
}

#[tokio::test]
async fn a_lease_in_use_goes_on_with_the_value_that_was_replaced_and_one_that_is_used_later_has_the_new_one() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    let (before, after) =
        (granted(&mut gateway, wish(&launch)).await.lease, granted(&mut gateway, wish(&launch)).await.lease);
    assert_ne!(value(take(&mut gateway, &launch, &before, curl()).await), NEW);
    let replaced = stage.home(Method::POST, "/api/secrets/capability/shop", Some(json!({ "value": NEW }))).await;
    assert_eq!(replaced.status, StatusCode::OK, "{}", replaced.text());
    // Nothing else is said to the gateway in between.
    assert_eq!(value(take(&mut gateway, &launch, &after, curl()).await), NEW);
    assert_eq!(stands(&stage, &before).await, ("consumed".into(), String::new()));
    // Nor that a value is no more: the first that it hears of is another's.
    deleted(&stage, "capability/other", "").await;
    assert_eq!(gateway.ended().await.0, "capability/other");
}

#[tokio::test]
async fn a_gateway_that_was_away_is_told_which_of_the_values_that_it_uses_were_deleted() {
    let stage = Stage::start();
    for name in ["capability/shop", "capability/other"] {
        stage.secret(name, json!({ "value": NEW })).await;
    }
    deleted(&stage, "capability/shop", "").await;
    let value = |secret: &str| StoredValue { secret: secret.into(), person: String::new(), version: 1 };
    let values = ["capability/other", "capability/shop"].map(value).to_vec();
    let hello = FromGateway::Hello { open: Vec::new(), leases: Vec::new(), values };
    let mut gateway = stage.gateway_saying(hello).await;
    assert_eq!(gateway.ended().await, ("capability/shop".into(), String::new(), 1));
    // Of the other nothing: the next that it hears is that it is deleted now.
    deleted(&stage, "capability/other", "").await;
    assert_eq!(gateway.ended().await.0, "capability/other");
}
