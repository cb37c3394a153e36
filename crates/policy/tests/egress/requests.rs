//! The word on reads, and on what no profile allows: a table for each kind of profile.

use super::stage::check;

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
    GET https://docs.example.org/ | x-$H: 1 | handle.misplaced
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
    GET https://docs.example.org/ | X-HTTP-Host-Override: b.example | method.override
    GET https://docs.example.org/ | x-forwarded-uri: /admin | method.override
    GET https://docs.example.org/ | x-forwarded-method: POST | method.override
    GET https://docs.example.org/ | x-original-method: POST | method.override
    GET https://docs.example.org/ | x-override-url: /admin | method.override
    GET https://docs.example.org/ | x-forwarded-url: /admin | method.override
    GET https://docs.example.org/ | x-rewrite-uri: /admin | method.override
    GET https://docs.example.org/ | x-original-path: /admin | method.override
    GET https://docs.example.org/ | x-envoy-original-path: /admin | method.override
    GET https://docs.example.org/?_method=DELETE | method.override
    GET https://docs.example.org/?a=b&_METHOD=put | method.override
    GET https://docs.example.org/?%5Fmethod=put | method.override
    GET https://docs.example.org/?a;_method=put | method.override
    GET https://docs.example.org/?$httpMethod=POST | method.override
    GET https://docs.example.org/?_HttpMethod=PATCH | method.override
    GET https://docs.example.org/?.method=DELETE | method.override
    GET https://docs.example.org/?%2emethod=DELETE | method.override
    GET https://docs.example.org/?+_method=DELETE | method.override
    GET https://docs.example.org/?%20_method=DELETE | method.override
    GET https://docs.example.org/?%5Bmethod=DELETE | method.override
    GET https://docs.example.org/?__method=DELETE | method.override
    GET https://docs.example.org/?_method[]=DELETE | method.override
    GET https://docs.example.org/?_method%00x=DELETE | method.override
    GET https://docs.example.org/?a=b?_method=DELETE | method.override
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
    GET https://docs.example.org/?methods=delete&payment_method=put | read.any
    GET https://docs.example.org/ | x-forwarded-proto: https ; x-forwarded-for: 192.0.2.1 | read.any
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
