//! The run's table: asked for, changed while the run is live, and never replaced by anything softer.

use crate::egress::world::{PUBLIC, World, any};
use futures_util::StreamExt as _;
use model::Egress;
use model::egress::{ReadRow, Reads};

fn listed(host: &str, path: &str) -> Egress {
    let row = ReadRow { host: host.to_owned(), path: path.to_owned(), port: None };
    Egress { reads: Reads::Listed, read: vec![row], ..Egress::default() }
}

#[tokio::test(flavor = "current_thread")]
async fn reads_can_be_narrowed_to_a_list_or_to_none() {
    let world = World::with(listed("a.example", "/docs")).await;
    for (target, status) in [
        ("http://a.example/docs", 200),
        ("http://a.example/docs/x?y", 200),
        ("http://a.example/docsx", 403),
        ("http://a.example/", 403),
        ("http://a.example/docs/../x", 403),
        ("http://b.example/docs", 403),
        ("http://93.184.216.34/docs", 403),
    ] {
        assert_eq!(world.get(&format!("GET {target}"), "").await.status, status, "{target}");
    }
    world.legislate(Egress { reads: Reads::None, ..Egress::default() }).await;
    assert_eq!(world.get("GET http://a.example/docs", "").await.rule(), "read.none");
    assert_eq!(world.connect("a.example:443").await.expect_err("refused").rule(), "read.none");
}

#[tokio::test(flavor = "current_thread")]
async fn a_table_that_changed_holds_for_the_next_request_of_a_live_run_both_ways() {
    let world = World::with(any()).await;
    assert_eq!(world.get("GET http://a.example/", "").await.status, 200);
    world.desk(|desk| {
        desk.table = Egress { reads: Reads::None, ..Egress::default() };
        desk.version += 1;
    });
    // Narrower: at once, for nothing is granted by an old table. Also on connections that were open before.
    assert_eq!(world.get("GET http://a.example/", "").await.rule(), "read.none");
    world.legislate(any()).await;
    assert_eq!(world.get("GET http://a.example/", "").await.status, 200);
}

#[tokio::test(flavor = "current_thread")]
async fn a_connection_that_an_exception_opened_ends_with_it() {
    let row = model::egress::InternalRow {
        host: "wiki.corp".into(),
        port: 80,
        addresses: vec!["10.1.0.0/16".into()],
        why: String::new(),
    };
    let world = World::with(Egress { internal: vec![row], ..any() }).await;
    world.names.set("wiki.corp", &[&["10.1.2.3"]]);
    assert_eq!(world.get("GET http://wiki.corp/", "").await.status, 200);
    world.legislate(any()).await;
    assert_eq!(world.get("GET http://wiki.corp/", "").await.rule(), "host.internal");
}

#[tokio::test(flavor = "current_thread")]
async fn a_wrong_table_lets_nothing_out() {
    let mut wrong = listed("a.example", "/");
    wrong.packages = vec!["no-such-group".into()];
    let mut world = World::with(wrong).await;
    assert_eq!(world.get("GET http://a.example/", "").await.rule(), "law.wrong");
    assert_eq!(world.refusal().await.rule, "law.wrong");
    world.nothing_left("a wrong table");
}

#[tokio::test(flavor = "current_thread")]
async fn what_the_server_denies_or_cannot_record_does_not_leave() {
    let mut world = World::with(any()).await;
    world.desk(|desk| desk.deny = true);
    let got = world.get("GET http://a.example/", "").await;
    assert_eq!((got.status, got.rule().as_str()), (403, "test.denied"));
    world.nothing_left("a denial");
    // Its own fault is nobody's rule.
    world.desk(|desk| (desk.deny, desk.fails) = (false, true));
    let got = world.get("GET http://a.example/", "").await;
    let error = got.json()["error"].clone();
    assert_eq!((got.status, got.rule().as_str()), (503, "server.failed"));
    assert_eq!((&error["policy"], &error["retry"]), (&false.into(), &true.into()), "{error}");
    assert!(!error["message"].as_str().is_some_and(|said| said.contains("Refused by policy")), "{error}");
    world.nothing_left("a fault of the server's");
    world.house.kill_server().await;
    let got = world.get("GET http://a.example/", "").await;
    assert_eq!((got.status, got.rule().as_str()), (503, "record.lost"));
    world.nothing_left("no record");
}

#[tokio::test(flavor = "current_thread")]
async fn plain_requests_of_1000_connections_128_at_a_time_are_all_answered() {
    let world = World::with(any()).await;
    // No more at once than the door's queue holds: twice as many as may go out.
    let asks = futures_util::stream::iter((0..1000).map(|_| world.get("GET http://a.example/", "")));
    let got: Vec<_> = asks.buffer_unordered(128).collect().await;
    assert_eq!(got.len(), 1000);
    assert!(got.iter().all(|got| got.status == 200));
    assert!(world.origin.connected().iter().all(|at| at.ip().to_string() == PUBLIC));
}

#[tokio::test(flavor = "current_thread")]
async fn when_a_run_is_closed_what_it_has_under_way_outside_ends_and_is_settled_as_interrupted() {
    use tokio::io::AsyncWriteExt as _;
    let mut world = World::with(any()).await;
    for way in ["plain", "https", "http/2"] {
        let (mut plain, mut tls, mut two) = (None, None, None);
        match way {
            "plain" => {
                let mut stream = tokio::net::TcpStream::connect(world.house.door).await.unwrap();
                stream.write_all(b"GET http://a.example/hang HTTP/1.1\r\nhost: a.example\r\n\r\n").await.unwrap();
                plain = Some(stream);
            }
            "https" => {
                let mut stream = world.tls("a.example:443", "a.example", &[b"http/1.1"]).await.unwrap();
                stream.write_all(b"GET /hang HTTP/1.1\r\nhost: a.example\r\n\r\n").await.unwrap();
                stream.flush().await.unwrap();
                tls = Some(stream);
            }
            _ => {
                let stream = world.tls("a.example:443", "a.example", &[b"h2"]).await.unwrap();
                let mut sender = super::inside::two(stream).await;
                let request = http::Request::get("https://a.example/hang");
                let request = request.body(http_body_util::Full::new(bytes::Bytes::new())).unwrap();
                two = Some(tokio::spawn(async move { sender.send_request(request).await.is_err() }));
            }
        }
        crate::house::soon("the request at its host", async {
            while world.origin.seen().is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        let run = world.house.run.clone();
        world.house.say.send(api::grants::ToGateway::Close { run }).unwrap();
        let settled = world.settled().await;
        assert_eq!((settled.status, settled.interrupted), (0, true), "{way}");
        if let Some(asking) = two {
            assert!(crate::house::soon("the end", asking).await.unwrap(), "{way}");
        }
        drop((plain, tls));
    }
}
