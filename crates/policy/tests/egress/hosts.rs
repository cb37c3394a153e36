//! One spelling for each host.

use policy::egress::Name;
use policy::egress::host::Private;

/// What a text is read as, or the rule that refuses it.
fn read(text: &str) -> String {
    Name::parse(text).map_or_else(|no| no.rule.to_owned(), |name| name.to_string())
}

#[test]
fn a_name_has_one_spelling() {
    for (text, name) in [
        ("example.org", "example.org"),
        ("EXAMPLE.Org", "example.org"),
        ("example.org.", "example.org"),
        ("a.b.c.d.example.org", "a.b.c.d.example.org"),
        ("my_host.example.org", "my_host.example.org"),
        ("_dmarc.example.org", "_dmarc.example.org"),
        ("r3---sn-abc.example.org", "r3---sn-abc.example.org"),
        ("1.example.org", "1.example.org"),
        ("127.0.0.1.example.org", "127.0.0.1.example.org"),
        ("0x7f.example.org", "0x7f.example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bu\u{308}cher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("例え.example", "xn--r8jz45g.example"),
        // A look-alike is another name: the first letter is Cyrillic.
        ("\u{430}pple.example", "xn--pple-43d.example"),
        // Full-width letters, a circled letter, a full-width and an ideographic dot, a soft hyphen.
        ("ｅｘａｍｐｌｅ.org", "example.org"),
        ("ⓔxample.org", "example.org"),
        ("example．org", "example.org"),
        ("example。org", "example.org"),
        ("example。org。", "example.org"),
        ("exam\u{ad}ple.org", "example.org"),
        ("localhost", "localhost"),
        ("8.8.8.8", "8.8.8.8"),
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("[::1]", "[::1]"),
        ("[2001:DB8:0:0:0:0:0:1]", "[2001:db8::1]"),
        ("[::ffff:127.0.0.1]", "[::ffff:127.0.0.1]"),
        ("[::ffff:7f00:1]", "[::ffff:127.0.0.1]"),
    ] {
        assert_eq!(read(text), name, "{text:?}");
    }
}

#[test]
fn what_is_no_name_is_refused_by_its_rule() {
    let long_label = format!("{}.example", "a".repeat(64));
    let long_name = format!("{}a.example", "a.".repeat(123));
    let endless = "a".repeat(2000);
    for (text, rule) in [
        ("", "host.empty"),
        (".", "host.label"),
        ("..", "host.label"),
        (".example.org", "host.label"),
        ("a..b", "host.label"),
        ("example.org..", "host.label"),
        (long_label.as_str(), "host.label"),
        (long_name.as_str(), "host.label"),
        (endless.as_str(), "host.long"),
        ("-a.example", "host.label"),
        ("a-.example", "host.label"),
        ("xn--a.example", "host.label"),
        ("xn--.example", "host.label"),
        // Broken, or hiding plain letters.
        ("xn--bcher-kva-.example", "host.label"),
        ("xn--abc-.example", "host.label"),
        ("a\u{200d}b.example", "host.label"),
        ("\u{ad}.example", "host.label"),
        // Mapped to what no host has.
        ("a\u{ff0f}b.example", "host.label"),
        ("a\u{ff20}b.example", "host.label"),
        ("a\u{ff1a}80.example", "host.label"),
        ("a\u{2100}b.example", "host.label"),
        ("user@example.org", "host.userinfo"),
        ("@example.org", "host.userinfo"),
        ("a.example@b.example", "host.userinfo"),
        ("example%2eorg", "host.percent"),
        ("%65xample.org", "host.percent"),
        ("example.org%00.evil.example", "host.percent"),
        ("fe80::1%eth0", "host.port"),
        ("example.org:80", "host.port"),
        ("::1", "host.port"),
        ("example.org/", "host.character"),
        ("example.org\\a", "host.character"),
        ("example.org#a", "host.character"),
        ("example.org?a", "host.character"),
        ("exam ple.org", "host.character"),
        (" example.org", "host.character"),
        ("example.org\r\n", "host.character"),
        ("example.org\0", "host.character"),
        ("*.example.org", "host.character"),
        ("exam|ple.org", "host.character"),
        ("$(id).example.org", "host.character"),
        ("[::1", "host.address"),
        ("[::1]a", "host.address"),
        ("[]", "host.address"),
        ("[1.2.3.4]", "host.address"),
        ("[v1.fe80]", "host.address"),
        ("[::g]", "host.address"),
        ("[1:2:3:4:5:6:7:8:9]", "host.address"),
        ("[fe80::1%eth0]", "host.zone"),
        ("[fe80::1%25eth0]", "host.zone"),
        // Addresses that only some programs read as such.
        ("127.1", "host.number"),
        ("127.0.1", "host.number"),
        ("2130706433", "host.number"),
        ("017700000001", "host.number"),
        ("0x7f000001", "host.number"),
        ("0x7f.0x0.0x0.0x1", "host.number"),
        ("0x7F.1", "host.number"),
        ("0177.0.0.1", "host.number"),
        ("127.0.0.01", "host.number"),
        ("127.0.0.0x1", "host.number"),
        ("127.0.0.1.", "host.number"),
        ("256.256.256.256", "host.number"),
        ("1.2.3.4.5", "host.number"),
        ("0", "host.number"),
        ("0x", "host.number"),
        ("a.0x", "host.number"),
        ("example.1", "host.number"),
        ("１２７.0.0.1", "host.number"),
        ("127。0。0。1", "host.number"),
        ("①②⑦.0.0.1", "host.number"),
        ("0ｘ7f.1", "host.number"),
    ] {
        assert_eq!(read(text), rule, "{text:?}");
    }
}

#[test]
fn a_network_s_own_names_and_addresses_are_nobody_s_public_service() {
    use Private::{Address, Metadata, Name as Inside};
    for (text, private) in [
        ("example.org", None),
        ("8.8.8.8", None),
        ("[2606:4700::1111]", None),
        ("internal.example.org", None),
        ("metadata.example.org", None),
        ("notlocal.example", None),
        ("mylocalhost.org", None),
        ("metadata", Some(Metadata)),
        ("METADATA.google.internal.", Some(Metadata)),
        ("a.metadata.google.internal", Some(Metadata)),
        ("metadata.goog", Some(Metadata)),
        ("instance-data", Some(Metadata)),
        ("instance-data.ec2.internal", Some(Metadata)),
        ("metadata.azure.internal", Some(Metadata)),
        ("metadata.tencentyun.com", Some(Metadata)),
        ("169.254.169.254", Some(Metadata)),
        ("169.254.170.2", Some(Metadata)),
        ("100.100.100.200", Some(Metadata)),
        ("192.0.0.192", Some(Metadata)),
        ("168.63.129.16", Some(Metadata)),
        ("[fd00:ec2::254]", Some(Metadata)),
        ("[fd20:ce::254]", Some(Metadata)),
        ("[fd00:ec2::23]", Some(Metadata)),
        ("[fd00:c1::a9fe:a9fe]", Some(Metadata)),
        ("[fd00:42::42]", Some(Metadata)),
        ("[fd00:100::100:200]", Some(Metadata)),
        ("[fd00:a9fe:a9fe::1]", Some(Metadata)),
        ("169.254.170.23", Some(Metadata)),
        ("169.254.42.42", Some(Metadata)),
        ("169.254.0.23", Some(Metadata)),
        ("localhost", Some(Inside)),
        ("router", Some(Inside)),
        ("foo.localhost", Some(Inside)),
        ("printer.local", Some(Inside)),
        ("a.b.internal", Some(Inside)),
        ("kubernetes.default.svc.cluster.local", Some(Inside)),
        ("nas.home.arpa", Some(Inside)),
        ("wiki.corp", Some(Inside)),
        ("abcdef.onion", Some(Inside)),
        ("127.0.0.1", Some(Address)),
        ("10.0.0.1", Some(Address)),
        ("192.168.1.1", Some(Address)),
        ("0.0.0.0", Some(Address)),
        ("169.254.1.1", Some(Address)),
        ("224.0.0.1", Some(Address)),
        ("[::1]", Some(Address)),
        ("[::]", Some(Address)),
        ("[::ffff:8.8.8.8]", Some(Address)),
        ("[::ffff:169.254.169.254]", Some(Address)),
        ("[64:ff9b::a9fe:a9fe]", Some(Address)),
        ("[2002:a9fe:a9fe::]", Some(Address)),
        ("[fe80::1]", Some(Address)),
        ("[fc00::1]", Some(Address)),
    ] {
        assert_eq!(Name::parse(text).unwrap().private(), private, "{text:?}");
    }
}

#[test]
fn below_is_by_whole_labels() {
    let name = |text| Name::parse(text).unwrap();
    assert!(name("a.example.org").is_below("example.org"));
    assert!(name("b.a.example.org").is_below("example.org"));
    assert!(!name("example.org").is_below("example.org"));
    assert!(!name("badexample.org").is_below("example.org"));
    assert!(!name("example.org.evil.example").is_below("example.org"));
    assert!(!name("10.0.0.1").is_below("0.0.1"));
}
