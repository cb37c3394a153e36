//! Names and what they become: every address is judged, and what was judged is what is connected to.

use crate::egress::world::{PUBLIC, PUBLIC_6, World, any, writes};
use model::egress::InternalRow;
use std::collections::BTreeSet;

/// Addresses to which no name may lead, as policy's own tests have them.
const NOT_PUBLIC: &str = include_str!("../../../../policy/src/egress/not_public.txt");
const METADATA: [&str; 16] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "169.254.42.42",
    "169.254.0.23",
    "169.254.10.10",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "fd00:42::42",
    "fd00:100::100:200",
    "fd00:a9fe:a9fe::1",
];

#[tokio::test(flavor = "current_thread")]
async fn a_name_that_leads_to_an_address_that_is_not_public_is_refused_plainly_and_over_https() {
    let mut world = World::with(any()).await;
    let listed: BTreeSet<&str> = NOT_PUBLIC.lines().filter(|line| !line.starts_with('#')).chain(METADATA).collect();
    for address in listed {
        let rule = if METADATA.contains(&address) { "address.metadata" } else { "address.private" };
        world.names.set("evil.example", &[&[address]]);
        let got = world.get("GET http://evil.example/", "").await;
        assert_eq!((got.status, got.rule().as_str()), (403, rule), "{address}");
        assert_eq!(world.refusal().await.rule, rule);
        let got = world.https("evil.example", "GET /", b"").await;
        assert_eq!((got.status, got.rule().as_str()), (403, rule), "{address} over https");
        assert_eq!(world.refusal().await.rule, rule);
        world.nothing_left(address);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn an_address_of_the_host_itself_or_beside_it_is_refused_however_public_it_looks() {
    let mut world = World::with(any()).await;
    for line in ["addr add 8.8.4.4/24 dev lo", "-6 addr add 2606:4700:1234::1/64 dev lo"] {
        let done = std::process::Command::new("ip").args(line.split(' ')).status().expect("iproute2 is there");
        assert!(done.success(), "ip {line}");
    }
    for address in ["8.8.4.4", "8.8.4.77", "2606:4700:1234::1", "2606:4700:1234::99"] {
        for answer in [&[address][..], &[PUBLIC, address]] {
            world.names.set("near.example", &[answer]);
            let got = world.get("GET http://near.example/", "").await;
            assert_eq!((got.status, got.rule().as_str()), (403, "address.near"), "{answer:?}");
            assert_eq!(world.refusal().await.rule, "address.near");
            let got = world.https("near.example", "GET /", b"").await;
            assert_eq!((got.status, got.rule().as_str()), (403, "address.near"), "{answer:?} over https");
            assert_eq!(world.refusal().await.rule, "address.near");
            world.nothing_left(address);
        }
    }
    world.names.set("near.example", &[&["8.8.5.4"]]);
    assert_eq!(world.get("GET http://near.example/", "").await.status, 200, "beyond its network");
}

#[tokio::test(flavor = "current_thread")]
async fn a_name_that_leads_to_public_and_other_addresses_is_refused_as_a_whole() {
    let mut world = World::with(any()).await;
    for answer in [
        &[PUBLIC, "10.0.0.1"][..],
        &["10.0.0.1", PUBLIC],
        &[PUBLIC, PUBLIC_6, "::1"],
        &[PUBLIC, "fe80::1"],
        &[PUBLIC_6, "127.0.0.1"],
        &[PUBLIC, "1.1.1.1", "8.8.8.8", "192.168.0.1"],
    ] {
        world.names.set("mixed.example", &[answer]);
        let got = world.get("GET http://mixed.example/", "").await;
        assert_eq!((got.status, got.rule().as_str()), (403, "address.mixed"), "{answer:?}");
        assert_eq!(world.refusal().await.rule, "address.mixed");
        world.nothing_left("a mixed name");
    }
    world.names.set("mixed.example", &[&[PUBLIC, "169.254.169.254"]]);
    assert_eq!(world.get("GET http://mixed.example/", "").await.rule(), "address.metadata");
    world.nothing_left("a mixed name");
}

#[tokio::test(flavor = "current_thread")]
async fn a_name_is_asked_for_once_for_a_connection_and_the_connection_goes_to_that_answer() {
    let world = World::with(any()).await;
    // Whoever asks twice connects to the second.
    world.names.set("re.example", &[&[PUBLIC], &["10.0.0.1"]]);
    assert_eq!(world.get("GET http://re.example/one", "").await.status, 200);
    assert_eq!(world.names.asked("re.example"), 1);
    assert_eq!(world.saw().at.ip().to_string(), PUBLIC);
}

#[tokio::test(flavor = "current_thread")]
async fn over_https_with_a_credential_and_through_a_blind_tunnel_a_name_is_asked_for_once_as_well() {
    let registry =
        policy::egress::registries::Registries::built_in().group("rust").next().expect("one").host.to_string();
    let tunnel = model::egress::TunnelRow { packages: "rust".into(), host: None, mib: 1, seconds: 60 };
    let world = World::with(model::Egress { tunnel: vec![tunnel], ..writes("re.example", "POST", "/") }).await;
    world.desk(|desk| desk.credential = Some((crate::egress::world::TOKEN.into(), "re.example".into(), 443)));
    let bearer = format!("authorization: Bearer {}\r\ncontent-length: 0\r\n", crate::house::HANDLE);
    for head in ["GET /one".to_owned(), format!("POST /two\r\n{bearer}")] {
        world.names.set("re.example", &[&[PUBLIC], &["10.0.0.1"]]);
        assert_eq!(world.https("re.example", &head, b"").await.status, 200, "{head}");
        assert_eq!((world.names.asked("re.example"), world.saw().at.ip().to_string().as_str()), (1, PUBLIC), "{head}");
        // The next one goes by a connection of its own.
        world.desk(|desk| desk.version += 1);
    }
    world.origin.connected();
    world.names.set(&registry, &[&[PUBLIC], &["10.0.0.1"]]);
    let stream = world.connect(&format!("{registry}:443")).await.expect("a tunnel");
    let connected = world.origin.connected();
    assert_eq!((connected.len(), connected[0].ip().to_string().as_str()), (1, PUBLIC));
    assert_eq!(world.names.asked(&registry), 1);
    drop(stream);
    // And whoever looks at the second answer gets nowhere.
    let refused = world.connect(&format!("{registry}:443")).await.expect_err("refused");
    assert_eq!(refused.rule(), "address.private");
    world.nothing_left("a second tunnel");
}

#[tokio::test(flavor = "current_thread")]
async fn a_name_that_changes_gains_nothing_at_any_step() {
    let world = World::with(any()).await;
    for (step, answers) in [
        ("before the first", &[&["10.0.0.1"][..], &[PUBLIC]][..]),
        ("to an address in disguise", &[&["::ffff:10.0.0.1"], &[PUBLIC]]),
        ("to both", &[&[PUBLIC, "10.0.0.1"], &[PUBLIC]]),
    ] {
        let name = "flip.example";
        world.names.set(name, answers);
        assert_eq!(world.get("GET http://flip.example/", "").await.status, 403, "{step}");
        world.nothing_left(step);
        // What was refused is not remembered against it, and nothing of it for it.
        world.names.set(name, &[&[PUBLIC]]);
        assert_eq!(world.get("GET http://flip.example/", "").await.status, 200, "{step}");
        assert_eq!(world.saw().at.ip().to_string(), PUBLIC);
        // A kept connection leads where it led, whatever the name says now.
        world.origin.connected();
        world.names.set(name, &[&["10.0.0.1"]]);
        let got = world.get("GET http://flip.example/kept", "").await;
        match got.status {
            200 => assert_eq!(world.saw().at.ip().to_string(), PUBLIC),
            status => assert_eq!((status, got.rule().as_str()), (403, "address.private")),
        }
        assert!(world.origin.connected().iter().all(|at| at.ip().to_string() == PUBLIC), "{step}");
        // A new one is judged by what the name says now.
        world.legislate(any()).await;
        assert_eq!(world.get("GET http://flip.example/new", "").await.rule(), "address.private", "{step}");
        world.nothing_left(step);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_name_that_changes_between_connect_and_request_gains_nothing() {
    let world = World::with(any()).await;
    world.names.set("re.example", &[&[PUBLIC]]);
    let mut tls = world.tls("re.example:443", "re.example", &[b"http/1.1"]).await.unwrap();
    world.names.set("re.example", &[&["10.0.0.1"]]);
    let request = b"GET / HTTP/1.1\r\nhost: re.example\r\nconnection: close\r\n\r\n";
    let got = crate::egress::world::talk(&mut tls, request).await;
    assert_eq!((got.status, got.rule().as_str()), (403, "address.private"));
    world.nothing_left("an inner request");
}

#[tokio::test(flavor = "current_thread")]
async fn an_address_that_does_not_answer_is_followed_by_the_next_of_the_same_answer() {
    let world = World::with(any()).await;
    // No route leads there: the kernel refuses at once.
    std::process::Command::new("ip").args(["route", "add", "unreachable", "8.8.4.4"]).status().unwrap();
    world.names.set("two.example", &[&["8.8.4.4", PUBLIC_6]]);
    assert_eq!(world.get("GET http://two.example/", "").await.status, 200);
    assert_eq!((world.saw().at.ip().to_string().as_str(), world.names.asked("two.example")), (PUBLIC_6, 1));
}

#[tokio::test(flavor = "current_thread")]
async fn a_name_that_is_not_resolved_is_a_fault_and_not_a_rule() {
    let world = World::with(any()).await;
    let got = world.get("GET http://nowhere.example/", "").await;
    assert_eq!((got.status, got.rule().as_str()), (502, "egress.name"));
    assert_eq!((&got.json()["error"]["policy"], &got.json()["error"]["retry"]), (&false.into(), &true.into()));
    world.names.set("empty.example", &[&[]]);
    assert_eq!(world.get("GET http://empty.example/", "").await.rule(), "egress.name");
}

fn inside(host: &str, port: u16, range: &str) -> model::Egress {
    let row = InternalRow { host: host.to_owned(), port, addresses: vec![range.to_owned()], why: String::new() };
    model::Egress { internal: vec![row], ..any() }
}

#[tokio::test(flavor = "current_thread")]
async fn an_exception_opens_one_host_one_port_and_one_range() {
    let world = World::with(inside("wiki.corp", 8080, "10.2.3.0/24")).await;
    let done = std::process::Command::new("ip").args(["addr", "add", "8.8.4.4/24", "dev", "lo"]).status();
    assert!(done.expect("iproute2 is there").success());
    for (answer, target, expected) in [
        (&["10.2.3.4"][..], "http://wiki.corp:8080/", ""),
        (&["10.2.3.4", "10.2.3.5"], "http://wiki.corp:8080/", ""),
        (&["10.2.4.4"], "http://wiki.corp:8080/", "address.private"),
        (&["10.2.3.4", "10.2.4.4"], "http://wiki.corp:8080/", "address.private"),
        (&["10.2.3.4", PUBLIC], "http://wiki.corp:8080/", "address.mixed"),
        // It is a service inside: outside, and beside this host, it is none, whatever its name says by now.
        (&[PUBLIC], "http://wiki.corp:8080/", "address.outside"),
        (&[PUBLIC, PUBLIC_6], "http://wiki.corp:8080/", "address.outside"),
        (&["8.8.4.4"], "http://wiki.corp:8080/", "address.outside"),
        (&["8.8.4.77"], "http://wiki.corp:8080/", "address.outside"),
        (&["10.2.3.4", "8.8.4.4"], "http://wiki.corp:8080/", "address.mixed"),
        (&["169.254.169.254"], "http://wiki.corp:8080/", "address.metadata"),
        (&["10.2.3.4"], "http://wiki.corp/", "port.closed"),
        (&["10.2.3.4"], "http://wiki.corp:8443/", "port.closed"),
        (&["10.2.3.4"], "http://other.corp:8080/", "host.internal"),
        (&["10.2.3.4"], "http://10.2.3.4:8080/", "host.private"),
    ] {
        for name in ["wiki.corp", "other.corp"] {
            world.names.set(name, &[answer]);
        }
        // No connection kept from the case before.
        world.legislate(inside("wiki.corp", 8080, "10.2.3.0/24")).await;
        let got = world.get(&format!("GET {target}"), "").await;
        if expected.is_empty() {
            assert_eq!(got.status, 200, "{answer:?} {target}: {}", String::from_utf8_lossy(&got.body));
            assert_eq!(world.saw().at.ip().to_string(), answer[0]);
            world.origin.connected();
        } else {
            assert_eq!((got.status, got.rule().as_str()), (403, expected), "{answer:?} {target}");
            world.nothing_left(target);
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_write_to_a_name_that_leads_inside_sends_nothing() {
    let world = World::with(writes("api.example", "POST", "/")).await;
    world.desk(|desk| desk.credential = Some((crate::egress::world::TOKEN.into(), "api.example".into(), 443)));
    world.names.set("api.example", &[&["10.0.0.1"]]);
    let head = format!("POST /x\r\nauthorization: Bearer {}\r\ncontent-length: 2\r\n", crate::house::HANDLE);
    let got = world.https("api.example", &head, b"hi").await;
    assert_eq!((got.status, got.rule().as_str()), (403, "address.private"));
    world.nothing_left("a write");
}
