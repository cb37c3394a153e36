//! Plain HTTP and HTTPS, by method.

use crate::egress::world::{PUBLIC, World, any};

#[tokio::test(flavor = "current_thread")]
async fn a_plain_read_of_a_public_host_goes_out_and_comes_back_and_is_asked_for_and_settled() {
    let mut world = World::with(any()).await;
    let got = world.get("GET http://a.example/page?q=1", "x-mine: yes\r\n").await;
    assert_eq!((got.status, got.text()), (200, "GET /page"));
    let seen = world.saw();
    assert_eq!((seen.at.ip().to_string().as_str(), seen.target.as_str()), (PUBLIC, "/page?q=1"));
    assert_eq!((seen.header("host"), seen.header("x-mine")), (Some("a.example"), Some("yes")));
    let asked = world.desk(|desk| desk.asked.remove(0));
    assert_eq!((asked.rule.as_str(), asked.target.as_str()), ("read.any", "http://a.example/page"));
    let settled = world.settled().await;
    assert_eq!((settled.status, settled.received, settled.interrupted), (200, 9, false));
}

#[tokio::test(flavor = "current_thread")]
async fn a_read_over_https_is_opened_with_the_runs_authority_and_verified_on_the_other_side() {
    let world = World::with(any()).await;
    let got = world.https("a.example", "GET /page", b"").await;
    assert_eq!((got.status, got.text()), (200, "GET /page"));
    let seen = world.saw();
    assert!(seen.tls);
}
