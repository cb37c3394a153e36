//! Many reads by one word of the server: each told once, and none more than the word says.

use crate::egress::world::{TOKEN, World, any, writes};
use crate::house::{HANDLE, pass, soon};
use api::grants::{EgressAsk, FromGateway, ToGateway};
use model::Egress;
use model::egress::Reads;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Requests that are asked for one by one before the server is asked for many.
const ALONE: usize = 5;

async fn world(table: Egress) -> World {
    let world = World::with(table).await;
    world.desk(|desk| desk.allowances = true);
    world
}

async fn read(world: &World, path: &str) {
    assert_eq!(world.get(&format!("GET http://a.example/{path}"), "").await.status, 200);
}

/// How many requests were asked for one by one.
fn alone(world: &World) -> usize {
    world.desk(|desk| desk.asked.len())
}

/// Reads `first`, `first/1` … until one of them is made by an allowance; gives its path and what was asked for.
async fn until_allowed(world: &World, first: &str) -> (String, EgressAsk) {
    soon("an allowance", async {
        for n in 0.. {
            let (path, before) = (format!("{first}/{n}"), alone(world));
            read(world, &path).await;
            if alone(world) == before {
                return (path, world.desk(|desk| desk.asked_for_many.last().cloned()).expect("one was asked for"));
            }
        }
        unreachable!("it goes on for ever")
    })
    .await
}

/// What is told of all that the hosts saw: the targets of what was made by allowances, by their grants. All are over.
async fn told(world: &mut World) -> HashMap<String, Vec<String>> {
    let requests = world.origin.seen().len();
    let (mut over, mut ended, mut by_grant) = (0, 0, HashMap::<_, Vec<_>>::new());
    while over < requests || ended < world.desk(|desk| desk.asked_for_many.len()) {
        match world.house.hear().await {
            FromGateway::SettleEgress { .. } => over += 1,
            FromGateway::Reads { grant, before, reads, over: end } => {
                over += reads.len();
                ended += usize::from(end);
                let told = by_grant.entry(grant.to_string()).or_default();
                assert_eq!(usize::try_from(before).unwrap(), told.len(), "in their order, without a gap");
                told.extend(reads.into_iter().map(|read| {
                    assert_eq!((read.method.as_str(), read.status, read.interrupted), ("GET", 200, false));
                    assert!(read.at.0 > 0);
                    read.target
                }));
            }
            other => panic!("not an end: {other:?}"),
        }
    }
    assert_eq!(over, requests, "each once");
    by_grant
}

#[tokio::test(flavor = "current_thread")]
async fn after_a_few_reads_of_a_host_the_rest_are_made_by_one_word_and_each_is_told_once() {
    let mut world = world(any()).await;
    let (path, ask) = until_allowed(&world, "a").await;
    assert_eq!(
        (ask.rule.as_str(), ask.method.as_str(), ask.target.as_str(), ask.port),
        ("read.any", "GET", "http://a.example/", 80)
    );
    assert_eq!(world.desk(|desk| desk.asked_for_many[0].reads), 16);
    assert!(alone(&world) >= ALONE, "the first few are asked for one by one");
    let (other, _) = until_allowed(&world, "b?query").await;
    pass(Duration::from_secs(2)).await;
    let told = told(&mut world).await;
    for path in [path.as_str(), other.split('?').next().unwrap()] {
        let target = format!("http://a.example/{path}");
        assert_eq!(told.values().flatten().filter(|told| **told == target).count(), 1, "{target} of {told:?}");
    }
    // Their time is over.
    world.desk(|desk| desk.allowances = false);
    let asked = alone(&world);
    read(&world, "later").await;
    assert_eq!(alone(&world), asked + 1);
}

#[tokio::test(flavor = "current_thread")]
async fn an_allowance_that_is_much_used_is_followed_by_a_larger_one_and_none_makes_more_than_it_is_for() {
    let mut world = world(any()).await;
    soon("a larger allowance", async {
        while !world.desk(|desk| desk.asked_for_many.iter().any(|ask| ask.reads == 32)) {
            // Half of an allowance's reads within half of its second: all of a batch are under way at once.
            futures_util::future::join_all((0..24).map(|_| read(&world, "x"))).await;
        }
    })
    .await;
    pass(Duration::from_secs(2)).await;
    let told = told(&mut world).await;
    let sizes = world.desk(|desk| desk.asked_for_many.iter().map(|ask| ask.reads as usize).collect::<Vec<_>>());
    assert!(sizes.iter().all(|size| (16..=512).contains(size)), "{sizes:?}");
    for (grant, reads) in told {
        let number: usize = grant.trim_start_matches("many").parse().unwrap();
        assert!(reads.len() <= sizes[number - 1], "{grant} of {sizes:?}: {}", reads.len());
    }
}

#[tokio::test(flavor = "current_thread")]
async fn an_allowance_is_for_reads_of_its_host_and_port_by_its_rule_and_for_no_write() {
    let world = world(writes("a.example", "POST", "/post")).await;
    world.names.set("b.example", &[&["93.184.216.34"]]);
    world.desk(|desk| desk.credential = Some((TOKEN.to_owned(), "a.example".to_owned(), 443)));
    until_allowed(&world, "a").await;
    let alone_is = async |what: &str, asked: usize| {
        assert_eq!(alone(&world), asked + 1, "{what} is asked for by itself");
    };
    let asked = alone(&world);
    world.get("GET http://b.example/", "").await;
    alone_is("another host", asked).await;
    let asked = alone(&world);
    world.https("a.example", "GET /", b"").await;
    alone_is("another scheme", asked).await;
    for _ in 0..10 {
        let asked = alone(&world);
        let head = format!("POST /post\r\nauthorization: Bearer {HANDLE}\r\ncontent-length: 1\r\n");
        assert_eq!(world.https("a.example", &head, b"x").await.status, 200);
        alone_is("each write", asked).await;
    }
    assert!(world.desk(|desk| desk.asked_for_many.iter().all(|ask| ask.capability.is_none())));
}

#[tokio::test(flavor = "current_thread")]
async fn reads_by_a_row_are_made_by_an_allowance_of_that_row_and_handle_with_its_credential() {
    let world = world(writes("a.example", "GET", "/with")).await;
    world.desk(|desk| desk.credential = Some((TOKEN.to_owned(), "a.example".to_owned(), 443)));
    let head = |path: &str| format!("GET {path}\r\nauthorization: Bearer {HANDLE}\r\n");
    soon("an allowance", async {
        loop {
            let before = alone(&world);
            assert_eq!(world.https("a.example", &head("/with/x"), b"").await.status, 200);
            if alone(&world) == before {
                break;
            }
        }
    })
    .await;
    let ask = world.desk(|desk| desk.asked_for_many[0].clone());
    assert_eq!((ask.target.as_str(), ask.method.as_str()), ("https://a.example/with", "GET"));
    assert_eq!((ask.capability.as_deref(), ask.handle_sha256.is_some()), (Some("api"), true));
    for seen in world.origin.seen() {
        assert_eq!(seen.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
    }
    world.origin.connected();
    // Outside the row it is no use, and a handle that stands elsewhere goes nowhere.
    let asked = alone(&world);
    assert_eq!(world.https("a.example", &head("/without"), b"").await.rule(), "handle.no-row");
    assert_eq!(world.https("a.example", &format!("GET /with?{HANDLE}"), b"").await.rule(), "handle.misplaced");
    assert_eq!(alone(&world), asked);
    world.nothing_left("a refusal");
}

#[tokio::test(flavor = "current_thread")]
async fn an_allowance_ends_with_its_run_and_with_its_table() {
    for order in [|run| ToGateway::Close { run }, |run| ToGateway::EndReads { run }] {
        let mut world = world(any()).await;
        // Its second ends it too; on a machine that stands still for so long that is what is seen.
        soon("an end before its time", async {
            loop {
                let began = Instant::now();
                until_allowed(&world, "a").await;
                world.house.say.send(order(world.house.run.clone())).unwrap();
                while !matches!(world.house.hear().await, FromGateway::Reads { over: true, .. }) {}
                if began.elapsed() < Duration::from_millis(900) {
                    return;
                }
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_narrower_table_holds_within_the_second_also_where_its_change_is_told_to_nobody() {
    let world = world(any()).await;
    until_allowed(&world, "a").await;
    world.desk(|desk| {
        desk.table = Egress { reads: Reads::None, ..Egress::default() };
        desk.version += 1;
    });
    pass(Duration::from_millis(1000)).await;
    assert_eq!(world.get("GET http://a.example/", "").await.rule(), "read.none");
}

#[tokio::test(flavor = "current_thread")]
async fn without_the_server_nothing_is_made_by_an_allowance_and_what_was_made_is_told_when_it_is_back() {
    let mut world = world(any()).await;
    until_allowed(&world, "a").await;
    let (untold, _) = until_allowed(&world, "untold").await;
    let untold = format!("http://a.example/{untold}");
    world.house.kill_server().await;
    let got = soon("a refusal", async {
        loop {
            let got = world.get("GET http://a.example/lost", "").await;
            if got.status != 200 {
                return got;
            }
        }
    })
    .await;
    assert_eq!(got.rule(), "record.lost");
    world.house.restart_server();
    let told = soon("what was made", async {
        loop {
            if let FromGateway::Reads { reads, .. } = world.house.hear().await
                && reads.iter().any(|read| read.target == untold)
            {
                return;
            }
        }
    });
    told.await;
}
