//! The word on what takes a row: writes, tunnels and exceptions for services inside.

use super::stage::{check, kind, law, named, rule, word};
use policy::egress::{Budget, Kind, Verdict};

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
fn a_host_that_is_shown_a_credential_by_some_row_is_shown_no_cookie_by_any_request() {
    check(
        &WRITES.replace("'none'", "'any'"),
        r"
        GET https://api.example.org/v2/ | cookie: session=1 | read.cookie
        GET https://API.example.org./ | cookie: session=1 | read.cookie
        HEAD https://api.example.org/ | Cookie: a=b | read.cookie
        GET http://api.example.org/ | cookie: a=b | read.cookie
        GET https://odd.example.org/ | cookie2: a=b | read.cookie
        GET https://api.example.org/v1/me | authorization: Bearer $H ; cookie: a=b | write.credential
        POST https://api.example.org/v1/issues | cookie: a=b | write.credential
        GET https://api.example.org/v2/ | read.any
        GET https://docs.example.org/ | cookie: a=b | read.any
        ",
    );
}

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
        GET https://api.example.org/v1/me | authorization: Bearer $H ; content-length: 0 | write.row
        GET https://api.example.org/v1/me | authorization: Bearer $H ; content-length: 40 | read.body
        GET https://api.example.org/v1/me | authorization: Bearer $H ; transfer-encoding: chunked | read.body
        POST https://api.example.org/v1/issues | x-amz-meta-token: $H | handle.misplaced
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
        POST https://api.example.org/v1/issues | authorization: Bearer $H ; fastly-key: a | write.credential
        POST https://api.example.org/v1/issues | authorization: Bearer $H ; DD-APPLICATION-KEY: a | write.credential
        POST https://api.example.org/v1/issues | authorization: Bearer $H ; X-Honeycomb-Team: a | write.credential
        POST https://api.example.org/v1/issues | authorization: Bearer $H ; Idempotency-Key: a | write.row
        POST https://api.example.org/v1/issues | fastly-key: $H | write.row
        POST https://api.example.org/v1/issues | authorization: Bearer $H ; Idempotency-Key: $H | handle.misplaced
        POST https://api.example.org/v1/issues?private_token=a | authorization: Bearer $H | write.credential
        POST https://api.example.org/v1/issues?a=b&Private%5FToken[]=a | authorization: Bearer $H | write.credential
        POST https://api.example.org/v1/issues;access_token=a | authorization: Bearer $H | write.no-row
        POST https://api.example.org/v1/issues/7;access_token=a | authorization: Bearer $H | write.credential
        POST https://api.example.org/v1/issues?X-Amz-Signature=a | authorization: Bearer $H | write.credential
        POST https://api.example.org/v1/issues?private_token=a | write.credential
        POST https://api.example.org/v1/issues?page_token=a&key=b&reset_password=true | authorization: Bearer $H | write.row
        GET https://api.example.org/v1/me?access_token=a | authorization: Bearer $H | write.credential
        GET https://live.example.org/socket?token=a | authorization: Bearer $H ; upgrade: websocket | write.credential
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
        POST https://api.example.org/v1/issues/../users | authorization: Bearer $H | write.path
        POST https://api.example.org/v1/issues/%2e%2e/users | authorization: Bearer $H | write.path
        POST https://api.example.org/v1/issues%2f..%2fusers | authorization: Bearer $H | write.path
        POST https://api.example.org//v1/issues | authorization: Bearer $H | write.path
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
        POST https://tracker.example.org/projects/group%2Fapp/issues | authorization: Bearer $H | write.path
        GET https://tracker.example.org/projects/group%2Fapp | authorization: Bearer $H | write.path
        GET https://live.example.org/a//socket | authorization: Bearer $H ; upgrade: websocket | write.path
        GET https://live.example.org/socket | authorization: Bearer $H ; upgrade: websocket ; sec-websocket-key: a | write.row
        GET https://live.example.org/socket | upgrade: websocket | write.handle
        GET https://live.example.org/socket | authorization: Bearer $H | handle.no-row
        GET https://live.example.org/other | authorization: Bearer $H ; upgrade: websocket | upgrade.no-row
        UPGRADE https://live.example.org/socket | authorization: Bearer $H | method.unknown
        ",
    );
}

#[test]
fn a_signed_address_may_be_read() {
    check(
        "",
        r"
        GET https://files.example.org/a?X-Amz-Signature=a&X-Amz-Credential=b | read.any
        GET https://files.example.org/a?sv=1&sig=a | read.any
        GET https://files.example.org/a?token=a | read.any
        GET https://files.example.org/a | fastly-key: a | read.credential
        GET https://files.example.org/a | idempotency-key: a | read.any
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
