//! The word on requests: a table for each kind of profile.

use super::stage::{check, kind, law, named, rule, word};
use policy::egress::{Budget, Kind, Proposal, Verdict};

/// What is refused whatever a profile says, as lines of a table.
const NEVER: &str = r"
    GET http://metadata.google.internal/computeMetadata/v1/ | host.metadata
    GET http://metadata/ | host.metadata
    GET http://instance-data/latest/ | host.metadata
    GET http://169.254.169.254/latest/meta-data/ | host.metadata
    GET http://169.254.170.2/v2/credentials | host.metadata
    GET http://100.100.100.200/ | host.metadata
    GET http://168.63.129.16/ | host.metadata
    GET http://[fd00:ec2::254]/ | host.metadata
    GET http://METADATA.GOOGLE.INTERNAL./ | host.metadata
    CONNECT metadata.google.internal:443 | host.metadata
    CONNECT 169.254.169.254:80 | host.metadata
    GET http://0xa9fea9fe/ | host.number
    GET http://2852039166/ | host.number
    GET http://0251.0376.0251.0376/ | host.number
    GET http://169.254.43518/ | host.number
    CONNECT 2852039166:443 | host.number
    GET http://127.0.0.1/ | host.private
    GET http://10.0.0.1/ | host.private
    GET http://172.16.0.1/ | host.private
    GET http://192.168.0.1/ | host.private
    GET http://100.64.0.1/ | host.private
    GET http://0.0.0.0/ | host.private
    GET http://255.255.255.255/ | host.private
    GET http://224.0.0.1/ | host.private
    GET http://[::1]/ | host.private
    GET http://[::]/ | host.private
    GET http://[::ffff:127.0.0.1]/ | host.private
    GET http://[::ffff:8.8.8.8]/ | host.private
    GET http://[64:ff9b::7f00:1]/ | host.private
    GET http://[2002:7f00:1::]/ | host.private
    GET http://[2001:0:53aa:64c::1]/ | host.private
    GET http://[2606:4700::5efe:7f00:1]/ | host.private
    GET http://[fe80::1]/ | host.private
    GET http://[fc00::1]/ | host.private
    CONNECT 127.0.0.1:443 | host.private
    CONNECT [::1]:443 | host.private
    GET http://localhost/ | host.internal
    GET http://localhost./ | host.internal
    GET https://a.localhost/ | host.internal
    GET https://router/ | host.internal
    GET https://wiki.corp/ | host.internal
    GET https://nas.local/ | host.internal
    GET https://db.prod.internal/ | host.internal
    CONNECT localhost:443 | host.internal
    GET http://user:pass@docs.example.org/ | host.userinfo
    GET https://docs.example.org/?x=$H | handle.misplaced
    GET https://docs.example.org/$H | handle.misplaced
    GET https://docs.example.org/ | x-note: $H | handle.misplaced
    GET https://docs.example.org/ | cookie: a=$H | handle.misplaced
    GET https://docs.example.org/ | referer: https://a.example/?$H | handle.misplaced
    GET https://docs.example.org/ | x-api-key: $H ; authorization: Bearer $H | handle.misplaced
    GET https://docs.example.org/ | x-api-key: a$H | handle.misplaced
    GET https://docs.example.org/ | proxy-authorization: Bearer $H | handle.misplaced
    CONNECT docs.example.org:443 | proxy-authorization: Basic $H | handle.misplaced
    CONNECT docs.example.org:443 | authorization: Bearer $H | connect.credential
    CONNECT docs.example.org:443 | proxy-authorization: Basic dTpw | connect.credential
    GET https://docs.example.org/ | x-http-method-override: DELETE | method.override
    GET https://docs.example.org/ | X-HTTP-Method: PUT | method.override
    GET https://docs.example.org/ | x-method-override: POST | method.override
    GET https://docs.example.org/ | x_http_method_override: POST | method.override
    GET https://docs.example.org/ | x-original-url: /admin | method.override
    GET https://docs.example.org/ | x-rewrite-url: /admin | method.override
    GET https://docs.example.org/ | x-forwarded-host: b.example | method.override
    GET https://docs.example.org/?_method=DELETE | method.override
    GET https://docs.example.org/?a=b&_METHOD=put | method.override
    GET https://docs.example.org/?%5Fmethod=put | method.override
    GET https://docs.example.org/?a;_method=put | method.override
    GET https://docs.example.org/?$httpMethod=POST | method.override
    GET https://docs.example.org/?x-http-method-override=POST | method.override
    GET https://docs.example.org/ | content-length: 5 | read.body
    GET https://docs.example.org/ | content-length: 00 | read.body
    GET https://docs.example.org/ | content-length: | read.body
    GET https://docs.example.org/ | transfer-encoding: chunked | read.body
    GET https://docs.example.org/ | expect: 100-continue | read.body
    HEAD https://docs.example.org/ | transfer-encoding: chunked | read.body
    HEAD http://docs.example.org/ | trailer: x | read.body
    TRACE https://docs.example.org/ | method.unknown
    OPTIONS https://docs.example.org/ | method.unknown
    CONNECT https://docs.example.org/ | method.unknown
    PROPFIND https://docs.example.org/ | method.unknown
    MKCOL https://docs.example.org/ | method.unknown
    PURGE https://docs.example.org/ | method.unknown
    QUERY https://docs.example.org/ | method.unknown
    get https://docs.example.org/ | method.unknown
    Get https://docs.example.org/ | method.unknown
    UPGRADED https://docs.example.org/ | method.unknown
";

/// What has no row anywhere but in the profile that writes.
const NO_ROW: &str = r"
    POST https://docs.example.org/ | write.no-row
    PUT https://docs.example.org/ | write.no-row
    PATCH https://docs.example.org/ | write.no-row
    DELETE https://docs.example.org/ | write.no-row
    POST http://docs.example.org/ | write.no-row
    POST https://docs.example.org/ | content-length: 0 | write.no-row
    POST https://docs.example.org/ | authorization: Bearer $H | write.no-row
    GET https://docs.example.org/ | upgrade: websocket ; connection: upgrade | upgrade.no-row
    GET https://docs.example.org/ | upgrade: h2c | upgrade.no-row
    GET http://docs.example.org/ | sec-websocket-key: abc | upgrade.no-row
    GET http://docs.example.org/ | http2-settings: abc | upgrade.no-row
    GET https://docs.example.org/ | http2-settings: abc | upgrade.no-row
    GET http://docs.example.org/ | x-api-key: $H | handle.no-row
    GET http://docs.example.org/ | x-api-key: abc | read.credential
    UPGRADE https://docs.example.org/ | method.unknown
    POST https://docs.example.org/ | upgrade: websocket | method.unknown
    GET https://docs.example.org/ | authorization: Bearer abc | read.credential
    GET https://docs.example.org/ | authorization: Basic dTpw | read.credential
    GET https://docs.example.org/ | x-api-key: abc | read.credential
    GET https://docs.example.org/ | private-token: abc | read.credential
    GET https://docs.example.org/ | x-amz-security-token: abc | read.credential
    GET https://docs.example.org/ | x-goog-api-key: abc | read.credential
    GET https://docs.example.org/ | proxy-authorization: Basic dTpw | read.credential
    GET https://docs.example.org/ | authorization: Bearer $H | handle.no-row
    HEAD https://docs.example.org/ | x-api-key: $H | handle.no-row
";

const READS_ANY: &str = r"
    GET https://docs.example.org/ | read.any
    HEAD https://docs.example.org/ | read.any
    GET http://docs.example.org/ | read.any
    HEAD http://docs.example.org/a?b=c | read.any
    GET http://DOCS.example.org./a | read.any
    GET https://bücher.example/ | read.any
    GET https://docs.example.org/?q=data-that-leaves | read.any
    GET https://docs.example.org/?method=DELETE | read.any
    GET https://docs.example.org/a/../b//c/%2e%2e/d | read.any
    GET https://docs.example.org/ | content-length: 0 | read.any
    GET https://docs.example.org/ | cookie: a=b | read.any
    GET https://docs.example.org/ | accept: */* ; user-agent: curl/8 ; range: bytes=0-1 | read.any
    GET https://docs.example.org/ | npm-auth-type: web ; npm-command: install | read.any
    GET https://1.1.1.1/ | read.any
    GET http://8.8.8.8/ | read.any
    GET https://[2606:4700::1111]/ | read.any
    CONNECT docs.example.org:443 | connect.intercept
    CONNECT DOCS.example.org.:443 | connect.intercept
    CONNECT 1.1.1.1:443 | connect.intercept
    GET https://$rust/ | read.package
    GET https://$python/simple/ | read.package
    GET http://$debian/dists/stable/InRelease | read.package
    HEAD https://$alpine/ | read.package
    CONNECT $node:443 | connect.intercept
    PUT https://$node/package | write.no-row
    PUT https://$rust/api/v1/crates/new | write.no-row
    GET https://docs.example.org:8443/ | port.closed
    GET https://docs.example.org:80/ | port.closed
    GET http://docs.example.org:443/ | port.closed
    GET http://docs.example.org:8080/ | port.closed
    GET http://docs.example.org:22/ | port.closed
    GET http://docs.example.org:25/ | port.closed
    GET https://$rust:8443/ | port.closed
    CONNECT docs.example.org:80 | port.closed
    CONNECT docs.example.org:22 | port.closed
    CONNECT docs.example.org:8443 | port.closed
    CONNECT $rust:22 | port.closed
";

#[test]
fn what_nothing_allows_is_refused_by_every_profile() {
    for profile in ["", "reads = 'listed'", "reads = 'none'", "reads = 'packages'\npackages = ['rust']"] {
        check(profile, NEVER);
        check(profile, NO_ROW);
    }
}

#[test]
fn the_built_in_profile_reads_any_public_host_by_get_and_head_and_writes_nothing() {
    check("", READS_ANY);
    check("reads = 'any'", READS_ANY);
}

#[test]
fn a_row_with_a_port_opens_that_port_beside_the_usual_one() {
    check(
        "read = [{ host = 'docs.example.org', port = 8443, path = '/v1' }]",
        r"
        GET https://docs.example.org:8443/v1/a | read.row
        GET http://docs.example.org:8443/v1 | read.row
        GET https://docs.example.org:8443/v2 | port.closed
        GET https://other.example.org:8443/v1 | port.closed
        GET https://docs.example.org/v2 | read.any
        CONNECT docs.example.org:8443 | connect.intercept
        POST https://docs.example.org:8443/v1/a | write.no-row
        ",
    );
}

#[test]
fn listed_reads_are_of_the_listed_hosts_and_paths_alone() {
    check(
        r"
        reads = 'listed'
        packages = ['rust', 'debian']
        read = [
            { host = 'docs.example.org', path = '/guide' },
            { host = 'Api.Example.Org.', path = '/v1/' },
            { host = '*.cdn.example.org' },
            { host = '1.1.1.1' },
            { host = 'bücher.example' },
            { host = 'odd.example.org', port = 8443 },
        ]
        ",
        r"
        GET https://docs.example.org/guide | read.row
        HEAD http://docs.example.org/guide/a?b | read.row
        GET https://docs.example.org/guide?x=/other | read.row
        GET https://docs.example.org/guides | read.unlisted
        GET https://docs.example.org/ | read.unlisted
        GET https://docs.example.org/Guide | read.unlisted
        GET https://docs.example.org/guide/../admin | read.unlisted
        GET https://docs.example.org/guide/./a | read.unlisted
        GET https://docs.example.org/guide/..;/admin | read.unlisted
        GET https://docs.example.org/guide/;a/admin | read.unlisted
        GET https://docs.example.org/guide/%2e%2e/admin | read.unlisted
        GET https://docs.example.org/guide/%2E./admin | read.unlisted
        GET https://docs.example.org/guide/..%2fadmin | read.unlisted
        GET https://docs.example.org/guide/%5c..%5cadmin | read.unlisted
        GET https://docs.example.org/guide/%252e%252e/admin | read.unlisted
        GET https://docs.example.org/guide/%00 | read.unlisted
        GET https://docs.example.org/guide/% | read.unlisted
        GET https://docs.example.org/guide/%zz | read.unlisted
        GET https://docs.example.org/guide//a | read.unlisted
        GET https://docs.example.org//guide | read.unlisted
        GET https://docs.example.org/%67uide | read.unlisted
        GET https://docs.example.org/guide/caf%C3%A9 | read.row
        GET https://docs.example.org/guide/a%20b | read.row
        GET https://docs.example.org/guide/a;v=1 | read.row
        GET https://docs.example.org/guide/ | read.row
        GET https://docs.example.org/guide/a/ | read.row
        GET https://docs.example.org/guide/... | read.row
        GET https://api.example.org/v1/ | read.row
        GET https://api.example.org/v1/x | read.row
        GET https://api.example.org/v1 | read.unlisted
        GET https://a.cdn.example.org/anything/../at/all | read.row
        GET https://b.a.cdn.example.org/ | read.row
        GET https://cdn.example.org/ | read.unlisted
        GET https://notcdn.example.org/ | read.unlisted
        GET https://cdn.example.org.evil.example/ | read.unlisted
        GET https://evilcdn.example.org/ | read.unlisted
        GET https://1.1.1.1/ | read.row
        GET https://1.1.1.2/ | read.unlisted
        GET https://xn--bcher-kva.example/ | read.row
        GET https://BÜCHER.example/ | read.row
        GET https://bucher.example/ | read.unlisted
        GET https://odd.example.org:8443/ | read.row
        GET https://odd.example.org/ | read.unlisted
        GET https://docs.example.org:8443/guide | read.unlisted
        GET https://other.example/ | read.unlisted
        GET https://docs.example.org.other.example/guide | read.unlisted
        GET https://$rust/ | read.package
        GET http://$debian/ | read.package
        GET https://$python/ | read.unlisted
        GET https://a.$rust/ | read.unlisted
        CONNECT docs.example.org:443 | connect.intercept
        CONNECT a.cdn.example.org:443 | connect.intercept
        CONNECT odd.example.org:8443 | connect.intercept
        CONNECT odd.example.org:443 | read.unlisted
        CONNECT cdn.example.org:443 | read.unlisted
        CONNECT other.example:443 | read.unlisted
        CONNECT $rust:443 | connect.intercept
        CONNECT $python:443 | read.unlisted
        CONNECT $rust:80 | read.unlisted
        ",
    );
}

#[test]
fn reads_of_packages_are_of_the_named_groups_alone() {
    check(
        "reads = 'packages'\npackages = ['python', 'ubuntu']",
        r"
        GET https://$python/simple/ | read.package
        HEAD https://$python/simple/ | read.package
        GET http://$ubuntu/ubuntu/ | read.package
        GET http://de.$ubuntu/ubuntu/ | read.package
        GET http://b.de.$ubuntu/ubuntu/ | read.package
        CONNECT $python:443 | connect.intercept
        POST https://$python/ | write.no-row
        GET https://$rust/ | read.packages
        GET https://docs.example.org/ | read.packages
        GET https://www.$python/ | read.packages
        GET https://$python.evil.example/ | read.packages
        GET https://evil$python/ | read.packages
        GET https://$python:8443/ | read.packages
        CONNECT $rust:443 | read.packages
        CONNECT docs.example.org:443 | read.packages
        ",
    );
}

#[test]
fn no_reads_are_none() {
    check(
        "reads = 'none'",
        r"
        GET https://docs.example.org/ | read.none
        HEAD http://docs.example.org/ | read.none
        GET https://$rust/ | read.none
        CONNECT docs.example.org:443 | read.none
        CONNECT $rust:443 | read.none
        ",
    );
}

const WRITES: &str = r"
    reads = 'none'
    write = [
        { capability = 'tracker', host = 'api.example.org', method = 'POST', path = '/v1/issues' },
        { capability = 'tracker', host = 'api.example.org', method = 'GET', path = '/v1/' },
        { capability = 'admin', host = 'api.example.org', method = 'POST', path = '/v1/issues/special' },
        { capability = 'odd', host = 'odd.example.org', method = 'PUT', path = '/', port = 8443 },
        { capability = 'live', host = 'live.example.org', method = 'UPGRADE', path = '/socket' },
    ]
";

#[test]
fn a_write_needs_its_row_https_the_handle_and_nothing_else() {
    check(
        WRITES,
        r"
        POST https://api.example.org/v1/issues | authorization: Bearer $H | write.row
        POST https://api.example.org/v1/issues | authorization: token $H ; content-length: 12 | write.row
        POST https://api.example.org/v1/issues/7?x=y | private-token: $H | write.row
        POST https://api.example.org/v1/issues | x-api-key: $H ; transfer-encoding: chunked | write.row
        GET https://api.example.org/v1/me | authorization: Bearer $H | write.row
        CONNECT api.example.org:443 | connect.intercept
        CONNECT api.example.org:8443 | read.none
        CONNECT odd.example.org:8443 | connect.intercept
        CONNECT odd.example.org:443 | read.none
        CONNECT live.example.org:443 | connect.intercept
        POST https://api.example.org/v1/issues | write.handle
        POST https://api.example.org/v1/issues | authorization: Bearer other | write.credential
        POST https://api.example.org/v1/issues | authorization: Bearer $H ; x-api-key: other | write.credential
        POST https://api.example.org/v1/issues | authorization: Bearer $H ; cookie: a=b | write.credential
        POST https://api.example.org/v1/issues | authorization: Bearer $H ; proxy-authorization: Basic dTpw | write.credential
        POST https://api.example.org/v1/issues | authorization: Bearer $H ; x-csrf-token: a | write.credential
        POST https://api.example.org/v1/issues | authorization: Bearer $H ; x-api-key: $H | handle.misplaced
        POST https://api.example.org/v1/issues?key=$H | handle.misplaced
        POST https://api.example.org/v1/issues?key=$H | authorization: Bearer $H | handle.misplaced
        POST http://api.example.org/v1/issues | authorization: Bearer $H | write.no-row
        POST http://api.example.org:443/v1/issues | authorization: Bearer $H | write.plain
        POST https://api.example.org/v1/issues | authorization: Bearer $H ; x-http-method-override: DELETE | method.override
        POST https://api.example.org/v1/issues?_method=DELETE | authorization: Bearer $H | method.override
        POST https://api.example.org/v1/issues | authorization: Bearer $H ; upgrade: websocket | method.unknown
        POST https://api.example.org/v1/issuesx | authorization: Bearer $H | write.no-row
        POST https://api.example.org/v1/Issues | authorization: Bearer $H | write.no-row
        POST https://api.example.org/v1/issues/../users | authorization: Bearer $H | write.no-row
        POST https://api.example.org/v1/issues/%2e%2e/users | authorization: Bearer $H | write.no-row
        POST https://api.example.org/v1/issues%2f..%2fusers | authorization: Bearer $H | write.no-row
        POST https://api.example.org//v1/issues | authorization: Bearer $H | write.no-row
        POST https://api.example.org/v1 | authorization: Bearer $H | write.no-row
        PUT https://api.example.org/v1/issues | authorization: Bearer $H | write.no-row
        DELETE https://api.example.org/v1/issues/7 | authorization: Bearer $H | write.no-row
        HEAD https://api.example.org/v1/me | authorization: Bearer $H | handle.no-row
        GET https://api.example.org/v2 | authorization: Bearer $H | handle.no-row
        GET https://api.example.org/v1/me | read.none
        POST https://api.example.org:8443/v1/issues | authorization: Bearer $H | write.no-row
        POST https://sub.api.example.org/v1/issues | authorization: Bearer $H | write.no-row
        POST https://example.org/v1/issues | authorization: Bearer $H | write.no-row
        POST https://api.example.org.evil.example/v1/issues | authorization: Bearer $H | write.no-row
        PUT https://odd.example.org:8443/ | authorization: Bearer $H | write.row
        PUT https://odd.example.org:8443/a/b | authorization: Bearer $H | write.row
        PUT https://odd.example.org:8443/a/../b | authorization: Bearer $H | write.path
        PUT https://odd.example.org:8443/a%2fb | authorization: Bearer $H | write.path
        PUT https://odd.example.org:8443/a//b | authorization: Bearer $H | write.path
        PUT https://odd.example.org/ | authorization: Bearer $H | write.no-row
        GET https://live.example.org/socket | authorization: Bearer $H ; upgrade: websocket ; sec-websocket-key: a | write.row
        GET https://live.example.org/socket | upgrade: websocket | write.handle
        GET https://live.example.org/socket | authorization: Bearer $H | handle.no-row
        GET https://live.example.org/other | authorization: Bearer $H ; upgrade: websocket | upgrade.no-row
        UPGRADE https://live.example.org/socket | authorization: Bearer $H | method.unknown
        ",
    );
}

#[test]
fn the_longest_path_decides_which_credential_goes() {
    let law = law(WRITES);
    let capability = |url: &str| match word(&law, &format!("POST {url}"), "authorization: Bearer $H") {
        Verdict::Allow(allowed) => match allowed.kind {
            Kind::Write { row } => law.write(row).map(|row| row.capability.clone()),
            _ => None,
        },
        Verdict::Deny(_) => None,
    };
    assert_eq!(capability("https://api.example.org/v1/issues/1").as_deref(), Some("tracker"));
    assert_eq!(capability("https://api.example.org/v1/issues/special").as_deref(), Some("admin"));
    assert_eq!(capability("https://api.example.org/v1/issues/special/1").as_deref(), Some("admin"));
    assert_eq!(capability("https://api.example.org/v1/issues/specials").as_deref(), Some("tracker"));
}

#[test]
fn every_method_against_every_row_is_allowed_on_the_diagonal_only() {
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
    for row in methods.into_iter().chain(["UPGRADE"]) {
        let law = law(&format!(
            "reads = 'none'\nwrite = [{{ capability = 'c', host = 'api.example.org', method = '{row}', path = '/' }}]"
        ));
        for method in methods {
            for upgrade in [false, true] {
                let headers = if upgrade { "x-api-key: $H ; upgrade: websocket" } else { "x-api-key: $H" };
                let said = word(&law, &format!("{method} https://api.example.org/x"), headers);
                let expected = if upgrade { row == "UPGRADE" && method == "GET" } else { row == method };
                assert_eq!(kind(&said).is_some(), expected, "{method}, upgrade {upgrade}, row {row}: {}", rule(&said));
            }
        }
    }
}

#[test]
fn a_tunnel_is_blind_only_to_the_registry_of_its_row_on_port_443() {
    let profile = named("reads = 'none'\ntunnel = [{ packages = 'rust', host = '$rust', mib = 64, seconds = 300 }]");
    check(
        &profile,
        r"
        CONNECT $rust:443 | connect.tunnel
        CONNECT $rust:80 | read.none
        CONNECT $rust:8443 | read.none
        CONNECT a.$rust:443 | read.none
        CONNECT $python:443 | read.none
        CONNECT docs.example.org:443 | read.none
        GET https://$rust/ | read.none
        PUT https://$rust/ | write.no-row
        CONNECT $rust:443 | proxy-authorization: Basic dTpw | connect.credential
        ",
    );
    let said = word(&law(&profile), "CONNECT $rust:443", "");
    assert_eq!(kind(&said), Some(Kind::Tunnel(Budget { bytes: 64 << 20, seconds: 300 })));
    check(
        "tunnel = [{ packages = 'node', mib = 1, seconds = 1 }]",
        "CONNECT $node:443 | connect.tunnel\nCONNECT $rust:443 | connect.intercept\nGET https://$node/ | read.package",
    );
}

#[test]
fn an_exception_reaches_one_host_and_port_and_allows_nothing_by_itself() {
    let rows = r"
        internal = [
            { host = 'artifacts', port = 8081, addresses = ['10.2.3.0/24'] },
            { host = 'git.corp', port = 443, addresses = ['10.2.4.1'] },
            { host = '10.9.9.9', port = 80, addresses = ['10.9.9.9'] },
        ]
    ";
    check(
        rows,
        r"
        GET http://artifacts:8081/repo | read.any
        GET https://artifacts:8081/repo | read.any
        GET http://artifacts/repo | port.closed
        GET http://artifacts:8082/repo | port.closed
        GET http://ARTIFACTS.:8081/ | read.any
        GET http://other:8081/ | host.internal
        GET https://git.corp/ | read.any
        GET http://git.corp/ | port.closed
        GET https://a.git.corp/ | host.internal
        GET http://10.9.9.9/ | read.any
        GET http://10.9.9.8/ | host.private
        GET https://10.9.9.9/ | port.closed
        CONNECT git.corp:443 | connect.intercept
        CONNECT artifacts:8081 | connect.intercept
        CONNECT artifacts:443 | port.closed
        POST http://artifacts:8081/repo | write.no-row
        POST https://artifacts:8081/repo | write.no-row
        ",
    );
    check(
        &format!("reads = 'none'\n{rows}"),
        "GET http://artifacts:8081/repo | read.none\nCONNECT git.corp:443 | read.none\nGET http://10.9.9.9/ | read.none",
    );
    check(
        &format!("reads = 'listed'\nread = [{{ host = 'artifacts', port = 8081, path = '/repo' }}]\n{rows}"),
        "GET http://artifacts:8081/repo/a | read.row\nGET http://artifacts:8081/b | read.unlisted\nGET https://git.corp/ | read.unlisted",
    );
    check(
        &format!(
            "reads = 'none'\nwrite = [{{ capability = 'c', host = 'git.corp', method = 'POST', path = '/api' }}]\n{rows}"
        ),
        "POST https://git.corp/api/x | x-api-key: $H | write.row\nGET https://git.corp/api/x | read.none",
    );
}

#[test]
fn a_refusal_that_can_be_lifted_offers_the_narrowest_rows_which_then_allow_that_request_and_little_else() {
    for (profile, request, headers) in [
        ("reads = 'listed'", "GET https://docs.example.org/guide/a?b=c", ""),
        ("reads = 'none'", "GET https://docs.example.org/guide/a?b=c", ""),
        ("reads = 'none'", "GET https://docs.example.org/", ""),
        ("reads = 'listed'", "GET https://docs.example.org/%2e%2e/a", ""),
        ("reads = 'listed'", "GET http://docs.example.org/a\"b", ""),
        ("", "GET https://docs.example.org:8443/guide", ""),
        ("reads = 'listed'", "CONNECT docs.example.org:443", ""),
        ("reads = 'none'", "GET https://$rust/", ""),
        ("reads = 'packages'\npackages = ['python']", "GET https://$rust/", ""),
        ("reads = 'listed'", "GET https://$rust/", ""),
        ("reads = 'listed'", "GET https://$rust:8443/x", ""),
        ("", "POST https://api.example.org/v1/issues", "x-api-key: $H"),
        ("", "DELETE https://api.example.org:8443/v1/issues/1", "x-api-key: $H"),
        ("", "GET https://api.example.org/v1/me", "x-api-key: $H"),
        ("", "GET https://live.example.org/socket", "x-api-key: $H ; upgrade: websocket"),
        ("", "GET http://10.1.2.3/a", ""),
        ("", "GET https://[fd12:3456::1]/a", ""),
        ("", "GET https://wiki.corp/a", ""),
    ] {
        let Verdict::Deny(denial) = word(&law(profile), request, headers) else { panic!("{request} was allowed") };
        let proposal = denial.proposal.clone().unwrap_or_else(|| panic!("{request}: {} offers nothing", denial.rule));
        assert!(!proposal.opens.is_empty() && denial.ask().contains("may add it"), "{denial:?}");
        // The record of it, which has no query, says the same.
        let (method, url) = request.split_once(' ').unwrap();
        let recorded = named(url.split('?').next().unwrap());
        assert_eq!(Proposal::of(&law(profile), denial.rule, method, &recorded).as_ref(), Some(&proposal), "{request}");
        // What a person fills in.
        let rows = proposal.toml.replace("capability = \"\"", "capability = \"tracker\"");
        let rows = rows.replace("addresses = []", "addresses = [\"10.1.2.0/24\"]");
        // As a person would: what the offer says of `reads` and `packages` takes the place of what stood there.
        let rows = match rows.strip_prefix("[egress]\n") {
            Some(rows) => rows.to_owned(),
            None => format!("{profile}\n{rows}"),
        };
        let rows = rows.replace("[[egress.", "[[");
        let rows = if rows.contains("packages = ") && !rows.contains("reads") {
            format!("{}\n{rows}", profile.lines().next().unwrap_or(""))
        } else {
            rows
        };
        let wider = law(&rows);
        assert!(
            kind(&word(&wider, request, headers)).is_some(),
            "{request}:\n{rows}\n{}",
            rule(&word(&wider, request, headers))
        );
        for other in ["POST https://other.example.org/", "GET http://10.1.2.4/", "GET https://docs.example.org:9443/"] {
            assert!(kind(&word(&wider, other, "x-api-key: $H")).is_none(), "{rows} also opens {other}");
        }
    }
}

#[test]
fn a_refusal_for_good_offers_nothing_and_says_so() {
    for (request, headers) in [
        ("GET http://169.254.169.254/", ""),
        ("GET http://0.0.0.0/", ""),
        // The platform's own machine.
        ("GET http://127.0.0.1/", ""),
        ("GET http://[::1]:8080/", ""),
        ("GET http://localhost/", ""),
        ("GET http://a.localhost:3000/", ""),
        ("GET http://[fe80::1]/", ""),
        ("GET http://[::ffff:10.0.0.1]/", ""),
        ("POST http://docs.example.org/", ""),
        ("GET https://docs.example.org/", "x-note: $H"),
        ("GET https://docs.example.org/", "x-http-method-override: PUT"),
        ("GET https://docs.example.org/", "content-length: 3"),
        ("TRACE https://docs.example.org/", ""),
    ] {
        let Verdict::Deny(denial) = word(&law(""), request, headers) else { panic!("{request} was allowed") };
        assert!(denial.proposal.is_none(), "{denial:?}");
        let (method, url) = request.split_once(' ').unwrap();
        assert_eq!(Proposal::of(&law(""), denial.rule, method, url), None, "{request}");
        assert!(denial.ask().contains("no rule can be added"), "{denial:?}");
    }
}

#[test]
fn no_refusal_repeats_what_was_sent() {
    for request in
        ["GET https://secret-host.example:77/secret-path?secret-query", "POST https://secret-host.example/secret-path"]
    {
        let Verdict::Deny(denial) = word(&law("reads = 'none'"), request, "authorization: Bearer secret-token") else {
            panic!("{request} was allowed")
        };
        assert!(!denial.why.contains("secret-"), "{denial:?}");
    }
}
