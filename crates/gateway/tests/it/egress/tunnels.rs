//! Blind tunnels: for a package registry that a row names, with the name in the clear and within a budget.

use crate::egress::world::{World, any};
use crate::house::{past, soon};
use model::Egress;
use model::egress::TunnelRow;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Labels of a registry's host in the order of the list in `policy`.
fn registry() -> String {
    ["io", "crates", "index"].into_iter().rev().collect::<Vec<_>>().join(".")
}

fn table(mib: u64, seconds: u64) -> Egress {
    let row = TunnelRow { packages: "rust".to_owned(), host: None, mib, seconds };
    Egress { tunnel: vec![row], ..any() }
}

async fn world() -> World {
    let world = World::with(table(1, 60)).await;
    world.names.set(&registry(), &[&["93.184.216.34"]]);
    world
}

/// A first message of TLS that names `name`, with these further extensions.
fn hello(name: Option<&str>, more: &[(u16, &[u8])]) -> Vec<u8> {
    let mut extensions = Vec::new();
    if let Some(name) = name {
        let name = name.as_bytes();
        let length = u16::try_from(name.len()).unwrap();
        extensions.extend_from_slice(&[0, 0]);
        extensions.extend_from_slice(&(length + 5).to_be_bytes());
        extensions.extend_from_slice(&(length + 3).to_be_bytes());
        extensions.push(0);
        extensions.extend_from_slice(&length.to_be_bytes());
        extensions.extend_from_slice(name);
    }
    for (kind, value) in more {
        extensions.extend_from_slice(&kind.to_be_bytes());
        extensions.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        extensions.extend_from_slice(value);
    }
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 2, 0x13, 1, 1, 0]);
    body.extend_from_slice(&u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend_from_slice(&extensions);
    let mut message = vec![1, 0];
    message.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
    message.extend_from_slice(&body);
    let mut record = vec![22, 3, 1];
    record.extend_from_slice(&u16::try_from(message.len()).unwrap().to_be_bytes());
    record.extend_from_slice(&message);
    record
}

async fn end(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    drop(soon("the end", stream.read_to_end(&mut rest)).await);
    rest
}

#[tokio::test(flavor = "current_thread")]
async fn a_tunnel_to_a_registry_is_blind_granted_and_settled() {
    let mut world = world().await;
    let host = registry();
    let stream = world.connect(&format!("{host}:443")).await.unwrap();
    // The box speaks TLS with the host itself: the run's authority is not in between.
    let mut config = rustls::ClientConfig::builder().with_root_certificates(world.origin.roots()).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = rustls::pki_types::ServerName::try_from(host.clone()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let mut tls = soon("TLS", connector.connect(name, stream)).await.unwrap();
    let request = format!("POST /echo HTTP/1.1\r\nhost: {host}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi");
    let got = crate::egress::world::talk(&mut tls, request.as_bytes()).await;
    assert_eq!((got.status, got.text()), (200, "hi"));
    assert_eq!(world.saw().method, "POST");
    let asked = world.desk(|desk| desk.asked.pop()).unwrap();
    assert_eq!((asked.kind, asked.rule.as_str()), (api::grants::EgressKind::Tunnel, "connect.tunnel"));
    drop(tls);
    let settled = world.settled().await;
    assert!(settled.sent > 300 && settled.received > 300, "{settled:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_first_message_that_does_not_name_the_host_in_the_clear_is_refused_and_nothing_sent() {
    let mut world = world().await;
    let host = registry();
    let own = Some(host.as_str());
    let twice = {
        let one = hello(own, &[]);
        let extension = &one[5 + 4 + 2 + 32 + 1 + 4 + 2 + 2 + 4..];
        hello(own, &[(0, extension)])
    };
    for (what, bytes, rule) in [
        ("another name", hello(Some("evil.example"), &[]), "tunnel.name"),
        ("a name below", hello(Some(&format!("x.{host}")), &[]), "tunnel.name"),
        ("no name", hello(None, &[]), "tunnel.nameless"),
        ("encrypted", hello(own, &[(0xfe0d, &[0, 1, 2])]), "tunnel.hidden"),
        ("encrypted, the draft before", hello(own, &[(0xffce, &[0, 1, 2])]), "tunnel.hidden"),
        ("two names", twice, "tunnel.no-tls"),
        ("an address for a name", hello(Some("93.184.216.34"), &[]), "tunnel.name"),
        ("no TLS", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "tunnel.no-tls"),
        ("SSH", b"SSH-2.0-OpenSSH\r\n".to_vec(), "tunnel.no-tls"),
        ("an alert", vec![21, 3, 1, 0, 2, 1, 0], "tunnel.no-tls"),
        ("a record of nothing", vec![22, 3, 1, 0, 0], "tunnel.no-tls"),
        ("a record too long", vec![22, 3, 1, 0xff, 0xff, 1], "tunnel.no-tls"),
        ("another handshake message", vec![22, 3, 1, 0, 4, 2, 0, 0, 0], "tunnel.no-tls"),
    ] {
        let mut stream = world.connect(&format!("{host}:443")).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(world.refusal().await.rule, rule, "{what}");
        assert!(end(&mut stream).await.is_empty(), "{what}");
        assert!(world.origin.seen().is_empty(), "{what}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_first_message_in_pieces_is_read_whole() {
    let world = world().await;
    let host = registry();
    let whole = hello(Some(&host), &[]);
    // Two records, and single bytes.
    let message = &whole[5..];
    let mut bytes = Vec::new();
    for part in message.chunks(40) {
        bytes.extend_from_slice(&[22, 3, 1]);
        bytes.extend_from_slice(&u16::try_from(part.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(part);
    }
    let mut stream = world.connect(&format!("{host}:443")).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in bytes {
        stream.write_all(&[byte]).await.unwrap();
    }
    // The host has the message and answers it, if only by an alert.
    let first = soon("an answer", stream.read_u8()).await.expect("a record of the host");
    assert!(matches!(first, 21 | 22), "{first}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_tunnel_carries_its_budget_and_not_a_byte_more() {
    let mut world = world().await;
    let host = registry();
    let mut stream = world.connect(&format!("{host}:443")).await.unwrap();
    let first = hello(Some(&host), &[]);
    stream.write_all(&first).await.unwrap();
    // The host's own answer counts too: so many bytes are surely too many.
    let piece = vec![0; 64 * 1024];
    for _ in 0..17 {
        if stream.write_all(&piece).await.is_err() {
            break;
        }
    }
    let ended = soon("an end", async {
        loop {
            match world.house.hear().await {
                api::grants::FromGateway::SettleEgress { outcome, .. } => return outcome,
                _ => continue,
            }
        }
    })
    .await;
    assert!(ended.sent + ended.received <= 1 << 20, "{ended:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_tunnel_in_which_nothing_is_said_for_ten_seconds_is_refused_blind_or_not() {
    let mut world = world().await;
    for target in [format!("{}:443", registry()), "a.example:443".to_owned()] {
        let mut stream = world.connect(&target).await.unwrap();
        stream.write_all(&[22, 3, 1]).await.unwrap();
        assert!(past("its end", 10, end(&mut stream)).await.is_empty(), "{target}");
        assert_eq!(world.refusal().await.rule, "tunnel.slow", "{target}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_tunnel_that_pauses_for_a_minute_is_cut_and_none_stands_longer_than_its_row_says() {
    for (seconds, limit, refused) in [(3600, 60, false), (30, 30, true)] {
        let mut world = World::with(table(1, seconds)).await;
        world.names.set(&registry(), &[&["93.184.216.34"]]);
        let mut stream = world.connect(&format!("{}:443", registry())).await.unwrap();
        stream.write_all(&hello(Some(&registry()), &[])).await.unwrap();
        // The host has it and answers, if only by an alert.
        soon("an answer", stream.read_u8()).await.expect("a record of the host");
        if refused {
            assert_eq!(past("its end", limit, world.refusal()).await.rule, "tunnel.budget");
        } else {
            assert!(past("its end", limit, world.settled()).await.interrupted);
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn no_tunnel_is_blind_without_a_row_or_to_a_host_that_is_no_registry() {
    let world = world().await;
    assert!(world.tls("a.example:443", "a.example", &[b"http/1.1"]).await.is_ok(), "it is opened here");
    // Without the row the registry is opened too.
    world.legislate(any()).await;
    assert!(world.tls(&format!("{}:443", registry()), &registry(), &[b"http/1.1"]).await.is_ok());
    for answer in [&["10.0.0.1"][..], &["93.184.216.34", "10.0.0.1"], &["169.254.169.254"]] {
        world.legislate(table(1, 60)).await;
        world.names.set(&registry(), &[answer]);
        let got = world.connect(&format!("{}:443", registry())).await.expect_err("refused");
        assert_eq!((got.status, got.rule().starts_with("address.")), (403, true), "{answer:?}");
    }
}
