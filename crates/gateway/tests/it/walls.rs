//! The gateway makes the calls that its walls forbid, when the server asks.

use crate::house::{House, url, walls};
use api::grants::{FromGateway, ToGateway};
use model::Dialect;

#[tokio::test(flavor = "current_thread")]
async fn asked_for_its_walls_it_makes_the_calls_that_it_was_given_and_reports_each() {
    let mut house = House::granting(Dialect::Anthropic, url("http://127.0.0.1:1")).await;
    house.say.send(ToGateway::Walls { id: 7 }).unwrap();
    match house.hear().await {
        FromGateway::Walls { id, proof } => assert_eq!((id, proof.threads, proof.calls), (7, 1, walls())),
        other => panic!("no proof: {other:?}"),
    }
}
