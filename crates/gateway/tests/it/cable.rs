//! The cable: listeners come and go with the operator, and nothing else is taken.

use crate::house::{House, ask, soon, url, when};
use api::cable::{FromCable, MAX_PACKET, ToCable};
use model::{Dialect, RunId};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn house() -> House {
    House::granting(Dialect::Anthropic, url("http://127.0.0.1:9")).await
}

/// Whether the door is shut, although the operator still holds its copy of the listener.
async fn is_shut(house: &House) -> bool {
    soon("the door to shut", async {
        while TcpStream::connect(house.door).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    std::net::TcpListener::bind(house.door).is_err()
}

#[tokio::test(flavor = "current_thread")]
async fn when_the_operator_is_gone_its_doors_are_shut_and_the_port_stays_taken() {
    let mut house = house().await;
    let (other, _kept) = std::os::unix::net::UnixStream::pair().unwrap();
    house.cable = other.into();
    assert!(is_shut(&house).await);
}

#[tokio::test(flavor = "current_thread")]
async fn a_packet_that_is_none_of_this_protocol_ends_the_operators_connection() {
    let run = RunId::parse("run2").unwrap();
    let attach = serde_json::to_vec(&ToCable::Attach { run: run.clone() }).unwrap();
    let detach = serde_json::to_vec(&ToCable::Detach { run }).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    for (packet, descriptor) in [
        (b"{\"do\":\"open-everything\"}".as_slice(), None),
        (&attach, None),
        (&detach, Some(listener.as_fd())),
        (&attach, Some(connected.as_fd())),
        (&vec![b' '; MAX_PACKET + 1], None),
    ] {
        let house = house().await;
        house.send_bytes(packet, descriptor);
        assert_eq!(house.packet().await, None, "{}", String::from_utf8_lossy(&packet[..packet.len().min(80)]));
        assert!(is_shut(&house).await);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn two_runs_have_two_doors_and_one_goes_without_the_other() {
    let mut house = house().await;
    let door = house.second_run().await;
    let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(ask(door, request, b"").await.status, 403);
    match house.hear().await {
        api::grants::FromGateway::Refused { run: of, .. } => {
            assert_eq!(of.as_str(), "run2", "the listener says who it is")
        }
        other => panic!("not a refusal: {other:?}"),
    }
    let first = house.run.clone();
    house.send(&ToCable::Detach { run: first }, None);
    assert!(is_shut(&house).await);
    assert_eq!(ask(door, request, b"").await.status, 403);
}

#[tokio::test(flavor = "current_thread")]
async fn a_text_of_the_longest_packet_is_scrubbed_and_comes_back_in_as_many_as_it_takes() {
    let house = house().await;
    let envelope = serde_json::to_vec(&ToCable::Scrub { id: 7, text: String::new(), more: false }).unwrap().len();
    let token = format!("npm_{} ", "a1B2".repeat(9));
    let text = token.repeat((MAX_PACKET - envelope) / token.len());
    house.send(&ToCable::Scrub { id: 7, text: text.clone(), more: false }, None);
    let mut whole = String::new();
    loop {
        let FromCable::Scrubbed { id: 7, text, more } = house.receive().await else { panic!("not an answer") };
        whole.push_str(&text);
        if !more {
            break;
        }
    }
    let placeholder = crate::house::redacted("npm-token", token.trim());
    assert_eq!(whole, text.replace(token.trim(), &placeholder));
}

#[tokio::test(flavor = "current_thread")]
async fn a_token_across_the_pieces_of_a_text_is_found_and_texts_beside_each_other_stay_apart() {
    let house = house().await;
    let token = format!("npm_{}", "a1B2".repeat(9));
    let (one, two) = token.split_at(11);
    let send = |id, text: &str, more| house.send(&ToCable::Scrub { id, text: text.to_owned(), more }, None);
    send(1, &format!("é{one}"), true);
    send(2, "other words", false);
    send(1, &format!("{two} ü"), false);
    let mut said = Vec::new();
    for _ in 0..3 {
        let FromCable::Scrubbed { id, text, more: false } = house.receive().await else { panic!("not an answer") };
        said.push((id, text));
    }
    // Each text's own answers are in order; the other's may overtake them.
    said.sort_by_key(|(id, _)| *id);
    let placeholder = crate::house::redacted("npm-token", &token);
    assert_eq!(said, [(1, "é".to_owned()), (1, format!("{placeholder} ü")), (2, "other words".to_owned())]);
}

/// Events that the box below says at most; it stops when the other run was answered.
const COSTLY: u64 = 400;

#[tokio::test(flavor = "current_thread")]
async fn a_box_whose_words_are_costly_to_scrub_does_not_hold_up_another_runs_request() {
    let mut house = house().await;
    let door = house.second_run().await;
    let words = "sessiontoken=".repeat(48 * 1024 / 13);
    let event = serde_json::json!({"kind": "tool-result", "id": "t", "output": words}).to_string();
    let (run, cable) = (house.run.clone(), house.cable.try_clone().unwrap());
    let (said, heard) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let answered = Arc::new(AtomicBool::new(false));
    // Says it on a thread of its own, sixteen at once, and at last that it says nothing more.
    let saying = std::thread::spawn({
        let (said, heard, answered) = (said.clone(), heard.clone(), answered.clone());
        move || {
            let send = |id, event| {
                let packet = serde_json::to_vec(&ToCable::Hear { id, run: run.clone(), event }).unwrap();
                rustix::net::send(&cable, &packet, rustix::net::SendFlags::NOSIGNAL).expect("sent");
            };
            for id in 1..=COSTLY {
                while id > heard.load(Ordering::Relaxed) + 16 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                if answered.load(Ordering::Relaxed) {
                    break;
                }
                send(id, Some(event.clone()));
                said.store(id, Ordering::Relaxed);
            }
            send(u64::MAX, None);
        }
    });
    let cable = house.cable.try_clone().unwrap();
    let hearing = std::thread::spawn({
        let heard = heard.clone();
        move || {
            let mut packet = vec![0; MAX_PACKET];
            loop {
                let (length, _) = rustix::net::recv(&cable, &mut packet[..], rustix::net::RecvFlags::empty()).unwrap();
                match serde_json::from_slice(&packet[..length]).unwrap() {
                    FromCable::Heard { id: u64::MAX, .. } => return,
                    FromCable::Heard { id, .. } => assert_eq!(id, heard.fetch_add(1, Ordering::Relaxed) + 1),
                    other => panic!("not an answer: {other:?}"),
                }
            }
        }
    });
    when("words under way", || said.load(Ordering::Relaxed) > 4).await;
    let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(ask(door, request, b"").await.status, 403);
    assert!(heard.load(Ordering::Relaxed) < COSTLY, "it waited for all of another box's words");
    answered.store(true, Ordering::Relaxed);
    when("the rest of the words", || saying.is_finished() && hearing.is_finished()).await;
    saying.join().unwrap();
    hearing.join().unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn of_texts_that_nobody_ends_the_oldest_is_forgotten_and_its_held_words_shown_to_nobody() {
    let house = house().await;
    let half = format!("npm_{}", "a1B2".repeat(4));
    // One more than may be open; the first is given up.
    for id in 1..=65 {
        house.send(&ToCable::Scrub { id, text: half.clone(), more: true }, None);
        let FromCable::Scrubbed { text, more: false, .. } = house.receive().await else { panic!("not an answer") };
        assert_eq!(text, "");
    }
    for (id, expected) in [(1, " end".to_owned()), (2, format!("{half} end"))] {
        house.send(&ToCable::Scrub { id, text: " end".to_owned(), more: false }, None);
        let FromCable::Scrubbed { text, more: false, .. } = house.receive().await else { panic!("not an answer") };
        assert_eq!(text, expected);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn the_65th_connection_of_a_run_waits_for_one_of_64_to_go() {
    let house = house().await;
    let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut answer = vec![0; 4096];
    let mut seated = Vec::new();
    for _ in 0..64 {
        let mut one = TcpStream::connect(house.door).await.unwrap();
        one.write_all(request).await.unwrap();
        assert_ne!(soon("an answer", one.read(&mut answer)).await.unwrap(), 0);
        seated.push(one);
    }
    let mut last = TcpStream::connect(house.door).await.unwrap();
    last.write_all(request).await.unwrap();
    // Whoever has a seat is served, after the last one has asked.
    seated[0].write_all(request).await.unwrap();
    assert_ne!(soon("an answer", seated[0].read(&mut answer)).await.unwrap(), 0);
    assert_eq!(last.try_read(&mut answer).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(seated.pop());
    assert_ne!(soon("an answer", last.read(&mut answer)).await.unwrap(), 0);
}
