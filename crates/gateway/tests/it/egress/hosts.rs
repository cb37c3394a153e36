//! Hosts as they can be written: each has one reading, or is refused at once, and nobody was connected to.

use crate::egress::world::{World, any};

/// What a box may write for a host, and the rule that refuses it.
const REFUSED: [(&str, &str); 74] = [
    // This machine and its networks, plainly.
    ("127.0.0.1", "host.private"),
    ("127.255.255.254", "host.private"),
    ("0.0.0.0", "host.private"),
    ("10.0.0.1", "host.private"),
    ("172.16.0.1", "host.private"),
    ("172.31.255.255", "host.private"),
    ("192.168.1.1", "host.private"),
    ("100.64.0.1", "host.private"),
    ("169.254.1.1", "host.private"),
    ("192.0.2.1", "host.private"),
    ("198.18.0.1", "host.private"),
    ("224.0.0.1", "host.private"),
    ("255.255.255.255", "host.private"),
    ("240.0.0.1", "host.private"),
    ("192.88.99.1", "host.private"),
    // Metadata services.
    ("169.254.169.254", "host.metadata"),
    ("169.254.170.2", "host.metadata"),
    ("100.100.100.200", "host.metadata"),
    ("168.63.129.16", "host.metadata"),
    ("192.0.0.192", "host.metadata"),
    ("metadata", "host.metadata"),
    ("metadata.google.internal", "host.metadata"),
    ("METADATA.Google.Internal.", "host.metadata"),
    ("x.metadata.google.internal", "host.metadata"),
    ("instance-data", "host.metadata"),
    ("[fd00:ec2::254]", "host.metadata"),
    ("[fd20:ce::254]", "host.metadata"),
    // IPv6.
    ("[::1]", "host.private"),
    ("[::]", "host.private"),
    ("[fe80::1]", "host.private"),
    ("[fc00::1]", "host.private"),
    ("[fec0::1]", "host.private"),
    ("[ff02::1]", "host.private"),
    ("[2001:db8::1]", "host.private"),
    ("[100::1]", "host.private"),
    ("[5f00::1]", "host.private"),
    ("[3fff::1]", "host.private"),
    // IPv4 in IPv6, whatever is inside.
    ("[::ffff:127.0.0.1]", "host.private"),
    ("[::ffff:a9fe:a9fe]", "host.private"),
    ("[::ffff:93.184.216.34]", "host.private"),
    ("[::127.0.0.1]", "host.private"),
    ("[::ffff:0:127.0.0.1]", "host.private"),
    ("[64:ff9b::7f00:1]", "host.private"),
    ("[64:ff9b:1::a9fe:a9fe]", "host.private"),
    ("[2002:7f00:1::]", "host.private"),
    ("[2002:a9fe:a9fe::1]", "host.private"),
    ("[2001:0:53aa:64c::1]", "host.private"),
    ("[2606:4700::5efe:7f00:1]", "host.private"),
    ("[2606:4700::200:5efe:a9fe:a9fe]", "host.private"),
    // Zones.
    ("[fe80::1%25eth0]", "host.zone"),
    ("[::1%25lo]", "host.zone"),
    // Numbers that some programs take for addresses.
    ("2130706433", "host.number"),
    ("0x7f000001", "host.number"),
    ("0x7f.1", "host.number"),
    ("0177.0.0.1", "host.number"),
    ("127.1", "host.number"),
    ("127.0.1", "host.number"),
    ("1.2.3.4.5", "host.number"),
    ("256.1.1.1", "host.number"),
    ("0251.0376.0251.0376", "host.number"),
    ("127.0.0.01", "host.number"),
    ("3232235777", "host.number"),
    ("a.0x1", "host.number"),
    // Names of nobody's public service.
    ("localhost", "host.internal"),
    ("LOCALHOST.", "host.internal"),
    ("a.localhost", "host.internal"),
    ("printer", "host.internal"),
    ("db.internal", "host.internal"),
    ("wiki.corp", "host.internal"),
    ("nas.local", "host.internal"),
    ("router.lan", "host.internal"),
    ("x.onion", "host.internal"),
    ("router.home.arpa", "host.internal"),
    // Broken ones.
    ("a..example", "host.label"),
];

#[tokio::test(flavor = "current_thread")]
async fn a_host_that_is_nobodys_public_service_is_refused_in_every_spelling_and_form() {
    let mut world = World::with(any()).await;
    for (host, rule) in REFUSED {
        let got = world.get(&format!("GET http://{host}/"), "").await;
        assert_eq!((got.status, got.rule().as_str()), (403, rule), "GET of {host}");
        assert_eq!(world.refusal().await.rule, rule, "GET of {host}");
        let got = world.connect(&format!("{host}:443")).await.expect_err("refused");
        assert_eq!((got.status, got.rule().as_str()), (403, rule), "CONNECT to {host}");
        assert_eq!(world.refusal().await.rule, rule, "CONNECT to {host}");
        world.nothing_left(host);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn one_host_has_one_spelling_on_the_way_out() {
    let world = World::with(any()).await;
    world.names.set("xn--bcher-kva.example", &[&["93.184.216.34"]]);
    for (written, sent) in [
        ("a.example", "a.example"),
        ("A.Example", "a.example"),
        ("a.example.", "a.example"),
        ("a.example:80", "a.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("93.184.216.34", "93.184.216.34"),
        ("[2606:2800:220:1::34]", "[2606:2800:220:1::34]"),
        ("[2606:2800:0220:0001:0:0:0:0034]", "[2606:2800:220:1::34]"),
    ] {
        let got = world.get(&format!("GET http://{written}/"), "").await;
        assert_eq!(got.status, 200, "{written}: {}", String::from_utf8_lossy(&got.body));
        assert_eq!(world.saw().header("host"), Some(sent), "{written}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn targets_that_hide_something_are_refused() {
    let mut world = World::with(any()).await;
    for (line, rule) in [
        ("GET http://joe@a.example/", "host.userinfo"),
        ("GET http://joe:pw@a.example/", "host.userinfo"),
        ("GET http://a.example@10.0.0.1/", "host.userinfo"),
        ("GET http://a.example:81/", "port.closed"),
        ("GET http://a.example:443/", "port.closed"),
        ("GET http://a.example:22/", "port.closed"),
        ("GET http://a.example:25/", "port.closed"),
        ("GET http://a.example:6379/", "port.closed"),
        ("GET http://93.184.216.34:8080/", "port.closed"),
        ("GET http://a.example:080/", "target.port"),
        ("GET http://a.example:0/", "target.port"),
        ("GET http://a.example:/", "target.port"),
        ("GET ftp://a.example/", "target.scheme"),
        ("GET https://a.example/", "request.form"),
        ("GET http://a.example\\@10.0.0.1/", "request.malformed"),
        ("GET http://a.example/#x", "request.malformed"),
        ("GET http:///x", "request.malformed"),
        ("GET http://a_b%2ecom/", "request.malformed"),
    ] {
        let got = world.get(line, "").await;
        assert!(got.status == 403 || got.status == 400, "{line}: {}", got.status);
        let recorded = world.refusal().await.rule;
        assert_eq!(recorded, rule, "{line}");
        world.nothing_left(line);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_connect_to_a_port_that_is_not_https_is_refused() {
    let world = World::with(any()).await;
    for (target, rule) in [
        ("a.example:80", "port.closed"),
        ("a.example:22", "port.closed"),
        ("a.example:25", "port.closed"),
        ("a.example:8443", "port.closed"),
        ("a.example:0", "target.port"),
        ("a.example:0443", "target.port"),
        ("joe@a.example:443", "host.userinfo"),
    ] {
        let got = world.connect(target).await.expect_err("refused");
        assert!(got.status == 403 || got.status == 400, "{target}");
        if got.status == 403 {
            assert_eq!(got.rule(), rule, "{target}");
        }
        world.nothing_left(target);
    }
}
