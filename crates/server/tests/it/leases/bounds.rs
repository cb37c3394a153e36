//! How many leases there are and for how long, and that there is none that is not on record.

use super::{VALUE, ask, curl, denied, evidence, granted, leases, revoke, rule, running, state, take, wish};
use crate::mint::cut::by_hand;
use crate::stage::{Stage, agent};
use api::grants::FromGateway;
use api::http::CreateRun;
use api::leases::{LeaseAsk, LeaseEnd};
use api::link::Launch;
use http::StatusCode;
use serde_json::json;

#[tokio::test]
async fn leases_are_capped_by_the_minute_and_by_the_run() {
    let stage = Stage::start();
    let (mut operator, launch, mut gateway) = running(&stage).await;
    for _ in 0..3 {
        granted(&mut gateway, wish(&launch)).await;
    }
    assert_eq!(denied(ask(&mut gateway, wish(&launch)).await), "lease.per-minute");
    // Of another capability there are others.
    let other = LeaseAsk { capability: "tracker".into(), destination: "api.example.org".into(), ..wish(&launch) };
    granted(&mut gateway, other).await;
    // A run has so many of a capability, however slowly it asks; another run has its own.
    let stock = |launch: &Launch| LeaseAsk {
        capability: "stock".into(),
        destination: "stock.example.org".into(),
        ..wish(launch)
    };
    for _ in 0..2 {
        granted(&mut gateway, stock(&launch)).await;
    }
    assert_eq!(denied(ask(&mut gateway, stock(&launch)).await), "lease.per-run");
    by_hand(&stage, "UPDATE leases SET made = made - 60000").await;
    granted(&mut gateway, wish(&launch)).await;
    assert_eq!(denied(ask(&mut gateway, stock(&launch)).await), "lease.per-run");
    stage.create(&CreateRun { profile: Some("p".into()), ..agent("x") }).await;
    let second = operator.launch().await;
    operator.begin(&second, 1).await;
    granted(&mut gateway, stock(&second)).await;
}

/// Has the database refuse every record from now on, as a full disk would, or no longer.
async fn full(stage: &Stage, is_full: bool) {
    let act = if is_full {
        "CREATE TRIGGER full BEFORE INSERT ON evidence BEGIN SELECT RAISE(ABORT, 'full'); END"
    } else {
        "DROP TRIGGER full"
    };
    by_hand(stage, act).await;
}

#[tokio::test]
async fn what_cannot_be_put_on_record_is_not_granted_not_denied_for_a_reason_not_given_and_not_taken_back() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    let before = evidence(&stage).await;
    full(&stage, true).await;
    assert_eq!(denied(ask(&mut gateway, wish(&launch)).await), "server.failed");
    let unknown = LeaseAsk { capability: "none".into(), ..wish(&launch) };
    assert_eq!(denied(ask(&mut gateway, unknown).await), "server.failed");
    assert!(leases(&stage).await.is_empty());
    full(&stage, false).await;
    let lease = granted(&mut gateway, wish(&launch)).await.lease;
    full(&stage, true).await;
    assert_eq!(rule(take(&mut gateway, &launch, &lease, curl()).await), "server.failed");
    assert_eq!(revoke(&stage, &lease).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(state(&stage, &lease).await.state, "granted");
    full(&stage, false).await;
    // Neither was it used up, nor was the gateway told of an end: the next word that it hears is the value.
    assert_eq!(rule(take(&mut gateway, &launch, &lease, curl()).await), "value");
    let after = evidence(&stage).await;
    let new: Vec<&str> = after.lines().filter(|line| !before.lines().any(|old| old == *line)).collect();
    let of = |word: &str| new.iter().filter(|line| line.contains(word)).count();
    assert_eq!((of("lease.granted"), of("lease.ended"), of("lease.capability")), (1, 0, 0), "{new:#?}");
}

#[tokio::test]
async fn a_use_that_breaks_off_at_the_end_of_its_leases_time_was_ended_by_time() {
    let stage = Stage::start();
    stage.secret("capability/shop", json!({ "value": VALUE })).await;
    let profile = "[[capability]]\nname = \"shop\"\nsecret = \"capability/shop\"\nkind = \"command\"
destinations = [\"shop.example.org\"]\ndelivery = { variable = \"SHOP_TOKEN\" }\nexecutables = [\"/usr/bin/curl\"]\n";
    let (_operator, launch) = stage.running(profile).await;
    let mut gateway = stage.gateway().await;
    let given = granted(&mut gateway, wish(&launch)).await;
    assert_eq!(rule(take(&mut gateway, &launch, &given.lease, curl()).await), "value");
    // Its time is over.
    by_hand(&stage, "UPDATE leases SET expires = made").await;
    gateway.say(&FromGateway::EndLease { lease: given.lease.clone(), outcome: LeaseEnd::Broken }).await;
    let over = async {
        loop {
            let view = state(&stage, &given.lease).await;
            if view.state != "consumed" {
                return view;
            }
        }
    };
    let view = crate::stage::soon("the lease's end", over).await;
    assert_eq!((view.state.as_str(), view.ended_by.as_str()), ("expired", "time"));
}
