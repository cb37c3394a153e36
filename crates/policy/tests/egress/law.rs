//! Tables that are wrong, and what is said of them.

use super::stage::{egress, named};
use policy::egress::Law;

fn wrong(text: &str) -> String {
    Law::of(&egress(text)).map_or_else(|wrong| wrong.to_string(), |_| "nothing".into())
}

#[test]
fn a_table_that_does_not_mean_what_it_seems_to_mean_is_wrong_and_the_row_is_named() {
    for (text, said) in [
        // Rows that narrow nothing.
        ("read = [{ host = 'docs.example.org' }]", "egress.read row 1: rows to read take reads = \"listed\""),
        ("reads = 'none'\nread = [{ host = 'docs.example.org' }]", "egress.read row 1: rows to read"),
        ("reads = 'packages'\npackages = ['rust']\nread = [{ host = 'a.example' }]", "egress.read row 1: rows to read"),
        ("packages = ['rust']", "egress.packages row 1: groups narrow nothing here"),
        ("reads = 'none'\npackages = ['rust']", "egress.packages row 1: groups narrow nothing"),
        ("reads = 'packages'", "needs egress.packages"),
        (
            "reads = 'listed'\npackages = ['rust', 'perl']",
            "egress.packages row 2: there is no package group \"perl\"; there are alpine, ",
        ),
        ("reads = 'listed'\npackages = ['rust', 'rust']", "egress.packages row 2: \"rust\" is there twice"),
        // Hosts.
        (
            "reads = 'listed'\nread = [{ host = 'https://a.example/' }]",
            "egress.read row 1: the host \"https://a.example/\"",
        ),
        ("reads = 'listed'\nread = [{ host = 'a.example' }, { host = '' }]", "egress.read row 2: the host \"\""),
        ("reads = 'listed'\nread = [{ host = '*' }]", "egress.read row 1: the host"),
        ("reads = 'listed'\nread = [{ host = '*.com' }]", "egress.read row 1: after `*.`"),
        ("reads = 'listed'\nread = [{ host = '*.*.example.org' }]", "egress.read row 1: the host"),
        ("reads = 'listed'\nread = [{ host = 'a*.example.org' }]", "egress.read row 1: the host"),
        ("reads = 'listed'\nread = [{ host = '*.1.1.1.1' }]", "egress.read row 1: after `*.`"),
        ("reads = 'listed'\nread = [{ host = 'a.example:8443' }]", "egress.read row 1: the host"),
        ("reads = 'listed'\nread = [{ host = 'localhost' }]", "egress.read row 1: localhost is inside a network"),
        ("reads = 'listed'\nread = [{ host = '10.0.0.1' }]", "egress.read row 1: 10.0.0.1 is inside a network"),
        ("reads = 'listed'\nread = [{ host = '*.prod.internal' }]", "egress.read row 1: prod.internal is inside"),
        (
            "reads = 'listed'\nread = [{ host = '169.254.169.254' }]",
            "egress.read row 1: 169.254.169.254 is a metadata service",
        ),
        ("reads = 'listed'\nread = [{ host = 'metadata.google.internal' }]", "is a metadata service"),
        // Paths and ports.
        ("reads = 'listed'\nread = [{ host = 'a.example', path = '' }]", "egress.read row 1: the path \"\""),
        ("reads = 'listed'\nread = [{ host = 'a.example', path = 'v1' }]", "the path \"v1\""),
        ("reads = 'listed'\nread = [{ host = 'a.example', path = '/a/../b' }]", "the path"),
        ("reads = 'listed'\nread = [{ host = 'a.example', path = '/a?b' }]", "the path"),
        ("reads = 'listed'\nread = [{ host = 'a.example', path = '/%2e' }]", "the path"),
        ("reads = 'listed'\nread = [{ host = 'a.example', path = '/a//b' }]", "the path"),
        ("reads = 'listed'\nread = [{ host = 'a.example', path = '/ä' }]", "the path"),
        ("reads = 'listed'\nread = [{ host = 'a.example', port = 0 }]", "egress.read row 1: there is no port 0"),
        // Writes.
        (
            "write = [{ capability = '', host = 'a.example', method = 'POST', path = '/' }]",
            "egress.write row 1: the capability",
        ),
        ("write = [{ capability = 'a b', host = 'a.example', method = 'POST', path = '/' }]", "the capability"),
        (
            "write = [{ capability = 'a', host = '*.a.example', method = 'POST', path = '/' }]",
            "egress.write row 1: the host",
        ),
        (
            "write = [{ capability = 'a', host = 'a.example', method = 'post', path = '/' }]",
            "egress.write row 1: the method \"post\"",
        ),
        ("write = [{ capability = 'a', host = 'a.example', method = '*', path = '/' }]", "the method"),
        ("write = [{ capability = 'a', host = 'a.example', method = 'CONNECT', path = '/' }]", "the method"),
        ("write = [{ capability = 'a', host = 'a.example', method = 'POST', path = '' }]", "the path"),
        (
            "write = [{ capability = 'a', host = 'intranet', method = 'POST', path = '/' }]",
            "needs a row in egress.internal",
        ),
        (
            "write = [{ capability = 'a', host = 'a.example', method = 'PUT', path = '/' },
                      { capability = 'b', host = 'A.example.', method = 'PUT', path = '/', port = 443 }]",
            "egress.write row 2: the same request has a row already",
        ),
        // Tunnels.
        ("tunnel = [{ packages = 'perl', mib = 1, seconds = 1 }]", "egress.tunnel row 1: there is no package group"),
        ("tunnel = [{ packages = 'rust', mib = 0, seconds = 1 }]", "egress.tunnel row 1: a tunnel takes"),
        ("tunnel = [{ packages = 'rust', mib = 4097, seconds = 1 }]", "a tunnel takes 1 to 4096 MiB"),
        ("tunnel = [{ packages = 'rust', mib = 1, seconds = 0 }]", "a tunnel takes"),
        ("tunnel = [{ packages = 'rust', mib = 1, seconds = 3601 }]", "1 to 3600 seconds"),
        (
            "tunnel = [{ packages = 'rust', host = 'docs.example.org', mib = 1, seconds = 1 }]",
            "the host is no registry of the group",
        ),
        (
            "tunnel = [{ packages = 'rust', host = '$python', mib = 1, seconds = 1 }]",
            "the host is no registry of the group \"rust\"",
        ),
        // Exceptions: never "allow private".
        ("internal = [{ host = 'a', port = 80, addresses = [] }]", "egress.internal row 1: it names no addresses"),
        ("internal = [{ host = 'a', port = 0, addresses = ['10.0.0.1'] }]", "there is no port 0"),
        ("internal = [{ host = 'a', port = 80, addresses = ['a'] }]", "\"a\" is no address and no range"),
        ("internal = [{ host = 'a', port = 80, addresses = ['10.0.0.0/8'] }]", "too wide"),
        ("internal = [{ host = 'a', port = 80, addresses = ['10.0.0.0/15'] }]", "too wide"),
        ("internal = [{ host = 'a', port = 80, addresses = ['fd00::/47'] }]", "too wide"),
        ("internal = [{ host = 'a', port = 80, addresses = ['127.0.0.0/31'] }]", "too wide"),
        ("internal = [{ host = 'a', port = 80, addresses = ['0.0.0.0/0'] }]", "not a private range"),
        ("internal = [{ host = 'a', port = 80, addresses = ['::/0'] }]", "not a private range"),
        (
            "internal = [{ host = 'a', port = 80, addresses = ['8.8.8.8'] }]",
            "not a private range; public addresses need no exception",
        ),
        ("internal = [{ host = 'a', port = 80, addresses = ['169.254.1.0/24'] }]", "not a private range"),
        ("internal = [{ host = 'a', port = 80, addresses = ['fe80::/64'] }]", "not a private range"),
        ("internal = [{ host = 'a', port = 80, addresses = ['::ffff:10.0.0.1'] }]", "not a private range"),
        ("internal = [{ host = 'a', port = 80, addresses = ['224.0.0.0/24'] }]", "not a private range"),
        ("internal = [{ host = 'a', port = 80, addresses = ['10.1.2.3/24'] }]", "the range is 10.1.2.0/24"),
        ("internal = [{ host = '10.1.2.3', port = 80, addresses = ['10.1.3.0/24'] }]", "in none of its ranges"),
        ("internal = [{ host = 'metadata', port = 80, addresses = ['10.1.3.0/24'] }]", "metadata service is nobody's"),
        (
            "internal = [{ host = '169.254.169.254', port = 80, addresses = ['10.1.3.0/24'] }]",
            "metadata service is nobody's",
        ),
        ("internal = [{ host = '*.corp', port = 80, addresses = ['10.1.3.0/24'] }]", "egress.internal row 1: the host"),
        (
            "internal = [{ host = 'a', port = 80, addresses = ['10.0.0.1'] }, { host = 'A.', port = 80, addresses = ['10.0.0.2'] }]",
            "egress.internal row 2: a:80 has an exception already",
        ),
    ] {
        let is = wrong(text);
        assert!(is.contains(said), "{text}\n  says: {is}\n  not:  {said}");
    }
}

#[test]
fn a_typo_in_a_table_is_an_error() {
    for text in [
        "read_any = true",
        "reads = 'all'",
        "reads = 'Any'",
        "reads = true",
        "allow-private = true",
        "reads = 'listed'\nread = [{ hosts = 'a.example' }]",
        "write = [{ host = 'a.example', method = 'POST', path = '/' }]",
        "write = [{ capability = 'c', host = 'a.example', method = 'POST' }]",
        "tunnel = [{ packages = 'rust' }]",
        "tunnel = [{ packages = 'rust', mib = -1, seconds = 1 }]",
        "internal = [{ host = 'a', port = 70000, addresses = ['10.0.0.1'] }]",
        "internal = [{ host = 'a', addresses = ['10.0.0.1'] }]",
    ] {
        assert!(toml::from_str::<model::Egress>(text).is_err(), "{text}");
    }
}

#[test]
fn a_table_has_4096_rows_at_most() {
    let row = |n: usize| format!("{{ host = 'h{n}.example.org' }}");
    let rows = |count| format!("reads = 'listed'\nread = [{}]", (0..count).map(row).collect::<Vec<_>>().join(", "));
    assert_eq!(wrong(&rows(4096)), "nothing");
    assert!(wrong(&rows(4097)).contains("4096"));
}

#[test]
fn a_path_of_a_row_has_1024_bytes_at_most() {
    let row = |length: usize| {
        format!("reads = 'listed'\nread = [{{ host = 'a.example', path = '/{}' }}]", "a".repeat(length - 1))
    };
    assert_eq!(wrong(&row(1024)), "nothing");
    assert!(wrong(&row(1025)).contains("egress.read row 1"), "{}", wrong(&row(1025)));
}

#[test]
fn a_table_survives_being_kept() {
    let all = egress(&named(
        "reads = 'listed'
        packages = ['rust']
        read = [{ host = 'a.example' }, { host = '*.b.example', path = '/x', port = 8443 }]
        write = [{ capability = 'c', host = 'a.example', method = 'POST', path = '/' }]
        tunnel = [{ packages = 'rust', host = '$rust', mib = 1, seconds = 2 }]
        internal = [{ host = 'a', port = 80, addresses = ['10.0.0.1'], why = 'the mirror' }]",
    ));
    assert_eq!(serde_json::from_str::<model::Egress>(&serde_json::to_string(&all).unwrap()).unwrap(), all);
    assert_eq!(toml::from_str::<model::Egress>(&toml::to_string(&all).unwrap()).unwrap(), all);
    assert_eq!(toml::from_str::<model::Egress>("").unwrap(), model::Egress::default());
}
