//! The runner's own connection: the first on a door's listener, and nobody else's.

use crate::house::{House, pass, soon};
use api::delivery::{FromRunner, Over, RUNNER, ToRunner};
use api::frame;
use api::grants::{FromGateway, ToGateway, WireSecret};
use api::leases::{LeaseEnd, LeaseUse, LeaseUser, ValueWord};
use model::capability::Delivery;
use model::{Dialect, LeaseId, Moment, RunId, Secret};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const VALUE: &str = "tok-Ab3dE5gH1jK2mN4p";

async fn house() -> House {
    House::granting(Dialect::Anthropic, crate::house::url("http://127.0.0.1:9")).await
}

fn lease(letter: char) -> LeaseId {
    LeaseId::parse(&letter.to_string().repeat(26)).expect("an id")
}

fn command() -> LeaseUser {
    LeaseUser::Command {
        executable: "/usr/bin/cat".into(),
        executable_sha256: "0".repeat(64),
        argv_sha256: "1".repeat(64),
    }
}

/// The runner's connection, when it is the first.
async fn runner(door: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(door).await.expect("the door is open");
    stream.write_all(&[RUNNER]).await.expect("it reads");
    stream
}

async fn wants(stream: &mut TcpStream, id: u64, letter: char) {
    let message = FromRunner::Use { id, lease: lease(letter), by: command() };
    frame::write(stream, &message).await.expect("it reads");
}

async fn told(stream: &mut TcpStream) -> ToRunner {
    soon("a word for the runner", frame::read(stream)).await.expect("a frame")
}

/// The server is asked; gives the question's number.
async fn asked(house: &mut House, run: &str, letter: char) -> u64 {
    let expected = LeaseUse { run: RunId::parse(run).expect("an id"), lease: lease(letter), by: command() };
    loop {
        if let FromGateway::UseLease { id, used } = soon("a use", house.heard.recv()).await.expect("it lives") {
            assert_eq!(used, expected);
            return id;
        }
    }
}

/// The server is told how a use ended.
async fn ended(house: &mut House, letter: char) -> LeaseEnd {
    loop {
        if let FromGateway::EndLease { lease: of, outcome } =
            soon("an end", house.heard.recv()).await.expect("it lives")
        {
            assert_eq!(of, lease(letter));
            return outcome;
        }
    }
}

fn give(house: &House, id: u64, seconds: i64) {
    let word = ValueWord::Value {
        value: WireSecret(Secret::new(VALUE.to_owned())),
        secret: "custom/shop".into(),
        delivery: Delivery::Variable("TOKEN".into()),
        variables: Vec::new(),
        destination: "shop".into(),
        expires: Moment(Moment::from(SystemTime::now()).0 + seconds * 1000),
        parts: Vec::new(),
        until: None,
    };
    house.say.send(ToGateway::LeaseValue { id, word }).expect("the server lives");
}

/// Whether a connection is ended, and nothing of a lease is said on it.
async fn is_no_runners(mut stream: TcpStream) {
    let mut said = Vec::new();
    // Reset or closed: what it was, it was no line.
    drop(soon("its end", stream.read_to_end(&mut said)).await);
    let said = String::from_utf8_lossy(&said);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 400"), "{said:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn the_first_connection_of_a_door_is_the_runners_and_no_later_one_can_be() {
    let mut house = house().await;
    let (door, _) = house.another_run("run3").await;
    let mut line = runner(door).await;
    for _ in 0..2 {
        // They say the very same, and more than once.
        let mut other = runner(door).await;
        wants(&mut other, 1, 'z').await;
        is_no_runners(other).await;
    }
    wants(&mut line, 1, 'a').await;
    let id = asked(&mut house, "run3", 'a').await;
    give(&house, id, 60);
    let ToRunner::Value { id: 1, value, secret, delivery, .. } = told(&mut line).await else { panic!("no value") };
    assert_eq!((value.0.expose().as_str(), secret.as_str()), (VALUE, "custom/shop"));
    assert_eq!(delivery, Delivery::Variable("TOKEN".into()));
    frame::write(&mut line, &FromRunner::End { id: 1, outcome: LeaseEnd::Completed }).await.expect("it reads");
    assert_eq!(ended(&mut house, 'a').await, LeaseEnd::Completed);
}

#[tokio::test(flavor = "current_thread")]
async fn a_door_whose_first_connection_was_no_runners_has_none() {
    let house = house().await;
    // That the gateway is up was asked at this door.
    let mut late = runner(house.door).await;
    wants(&mut late, 1, 'a').await;
    is_no_runners(late).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_denied_use_is_told_by_its_rule_and_a_lost_server_denies() {
    let mut house = house().await;
    let (door, _) = house.another_run("run3").await;
    let mut line = runner(door).await;
    wants(&mut line, 1, 'a').await;
    let id = asked(&mut house, "run3", 'a').await;
    let word = ValueWord::Denied { rule: "lease.spent".into(), why: "It was used.".into() };
    house.say.send(ToGateway::LeaseValue { id, word }).expect("the server lives");
    assert!(matches!(told(&mut line).await, ToRunner::Denied { id: 1, rule, .. } if rule == "lease.spent"));
    house.kill_server().await;
    wants(&mut line, 2, 'b').await;
    assert!(matches!(told(&mut line).await, ToRunner::Denied { id: 2, rule, .. } if rule == "server.away"));
}

#[tokio::test(flavor = "current_thread")]
async fn a_use_whose_lease_is_taken_back_or_whose_time_is_over_is_ended_and_counts_as_broken_off() {
    let mut house = house().await;
    let (door, _) = house.another_run("run3").await;
    let mut line = runner(door).await;
    for (number, letter) in [(1, 'a'), (2, 'b')] {
        wants(&mut line, number, letter).await;
        let id = asked(&mut house, "run3", letter).await;
        // The second one has no time left when it comes.
        give(&house, id, if letter == 'a' { 600 } else { 0 });
        assert!(matches!(told(&mut line).await, ToRunner::Value { .. }));
        if letter == 'a' {
            house.say.send(ToGateway::RevokeLease { lease: lease('a') }).expect("the server lives");
        }
        let because = if letter == 'a' { Over::TakenBack } else { Over::Expired };
        assert!(matches!(told(&mut line).await, ToRunner::Over { id, why } if (id, why) == (number, because)));
        let end = FromRunner::End { id: number, outcome: LeaseEnd::Completed };
        frame::write(&mut line, &end).await.expect("it reads");
        assert_eq!(ended(&mut house, letter).await, LeaseEnd::Broken, "{letter}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_value_that_comes_after_its_lease_was_taken_back_or_its_run_is_over_goes_into_no_box() {
    let mut house = house().await;
    let (door, _) = house.another_run("run3").await;
    let mut line = runner(door).await;
    for (number, letter) in [(1, 'a'), (2, 'b')] {
        wants(&mut line, number, letter).await;
        let id = asked(&mut house, "run3", letter).await;
        let over = match letter {
            'a' => ToGateway::RevokeLease { lease: lease('a') },
            _ => ToGateway::Close { run: RunId::parse("run3").expect("an id") },
        };
        house.say.send(over).expect("the server lives");
        // A run's end is carried out beside what is read.
        tokio::time::sleep(Duration::from_millis(200)).await;
        give(&house, id, 600);
        assert!(
            matches!(told(&mut line).await, ToRunner::Denied { id, rule, .. } if id == number && rule == "lease.revoked")
        );
        assert_eq!(ended(&mut house, letter).await, LeaseEnd::Broken, "{letter}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_box_whose_uses_are_denied_again_and_again_asks_the_server_no_more() {
    let mut house = house().await;
    let (door, _) = house.another_run("run3").await;
    let mut line = runner(door).await;
    for number in 1..=1000 {
        wants(&mut line, number, 'a').await;
        let id = asked(&mut house, "run3", 'a').await;
        let word = ValueWord::Denied { rule: "lease.unknown".into(), why: "There is none.".into() };
        house.say.send(ToGateway::LeaseValue { id, word }).expect("the server lives");
        assert!(matches!(told(&mut line).await, ToRunner::Denied { rule, .. } if rule == "lease.unknown"));
    }
    wants(&mut line, 1001, 'a').await;
    assert!(matches!(told(&mut line).await, ToRunner::Denied { id: 1001, rule, .. } if rule == "door.flood"));
    let FromGateway::Refused { verdict, .. } = house.hear().await else { panic!("it is not recorded") };
    assert_eq!(verdict.rule, "door.flood");
}

#[tokio::test(flavor = "current_thread")]
async fn a_word_that_comes_together_with_the_runners_end_is_heard() {
    let mut house = house().await;
    let (door, _) = house.another_run("run3").await;
    let mut line = runner(door).await;
    for (number, letter) in [(1, 'a'), (2, 'b')] {
        wants(&mut line, number, letter).await;
        let id = asked(&mut house, "run3", letter).await;
        give(&house, id, 600);
        assert!(matches!(told(&mut line).await, ToRunner::Value { .. }));
    }
    frame::write(&mut line, &FromRunner::End { id: 1, outcome: LeaseEnd::Completed }).await.expect("it reads");
    drop(line);
    let mut ends = Vec::new();
    while ends.len() < 2 {
        let FromGateway::EndLease { lease, outcome } = house.hear().await else { continue };
        ends.push((lease, outcome));
    }
    ends.sort_by_key(|(lease, _)| lease.clone());
    assert_eq!(ends, [(lease('a'), LeaseEnd::Completed), (lease('b'), LeaseEnd::Broken)]);
}

#[tokio::test(flavor = "current_thread")]
async fn a_runner_that_is_gone_ends_what_it_used() {
    let mut house = house().await;
    let (door, _) = house.another_run("run3").await;
    let mut line = runner(door).await;
    wants(&mut line, 1, 'a').await;
    let id = asked(&mut house, "run3", 'a').await;
    give(&house, id, 600);
    assert!(matches!(told(&mut line).await, ToRunner::Value { .. }));
    drop(line);
    assert_eq!(ended(&mut house, 'a').await, LeaseEnd::Broken);
}

#[tokio::test(flavor = "current_thread")]
async fn the_runners_connection_takes_none_of_the_runs_and_no_time_ends_it() {
    let mut house = house().await;
    let (door, _) = house.another_run("run3").await;
    let mut line = runner(door).await;
    let mut others = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(door).await.expect("the door is open");
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it reads");
        let mut first = [0; 8];
        soon("an answer on each", stream.read_exact(&mut first)).await.expect("an answer");
        others.push(stream);
    }
    pass(Duration::from_secs(3600)).await;
    wants(&mut line, 1, 'a').await;
    let id = asked(&mut house, "run3", 'a').await;
    give(&house, id, 60);
    assert!(matches!(told(&mut line).await, ToRunner::Value { .. }));
}

#[tokio::test(flavor = "current_thread")]
async fn a_box_uses_sixteen_leases_at_once_and_a_seventeenth_when_one_of_them_is_over() {
    let mut house = house().await;
    let (door, _) = house.another_run("run3").await;
    let mut line = runner(door).await;
    for (n, letter) in ('a'..='p').enumerate() {
        let number = n as u64 + 1;
        wants(&mut line, number, letter).await;
        let id = asked(&mut house, "run3", letter).await;
        give(&house, id, 600);
        assert!(matches!(told(&mut line).await, ToRunner::Value { id, .. } if id == number), "{letter}");
    }
    wants(&mut line, 17, 'q').await;
    assert!(matches!(told(&mut line).await, ToRunner::Denied { id: 17, rule, .. } if rule == "lease.at-once"));
    frame::write(&mut line, &FromRunner::End { id: 3, outcome: LeaseEnd::Completed }).await.expect("it reads");
    assert_eq!(ended(&mut house, 'c').await, LeaseEnd::Completed);
    wants(&mut line, 18, 'q').await;
    // The server was not asked about the one before.
    let id = asked(&mut house, "run3", 'q').await;
    give(&house, id, 600);
    assert!(matches!(told(&mut line).await, ToRunner::Value { id: 18, .. }));
}
