//! What a refusal says, and what it offers.

use super::stage::{kind, law, named, rule, word};
use policy::egress::registries::Registries;
use policy::egress::{Proposal, Verdict, why_none};

const INSIDE: &str = "[[internal]]\nhost = 'wiki.corp'\nport = 443\naddresses = ['10.1.2.0/24']";

#[test]
fn a_refusal_that_can_be_lifted_offers_the_narrowest_rows_which_then_allow_that_request_and_little_else() {
    // A request, and what beside it on its host and port stays refused. Where that is nothing, the row is for the whole host:
    // the path is its root, is not known yet (CONNECT), or is none that a row can have; or the host is inside.
    for (profile, request, headers, beside) in [
        ("reads = 'listed'", "GET https://docs.example.org/guide/a?b=c", "", "GET https://docs.example.org/guide/ab"),
        ("reads = 'none'", "GET https://docs.example.org/guide/a?b=c", "", "GET https://docs.example.org/guide"),
        ("reads = 'none'", "GET https://docs.example.org/", "", ""),
        ("reads = 'listed'", "GET https://docs.example.org/%2e%2e/a", "", ""),
        ("reads = 'listed'", "GET http://docs.example.org/a\"b", "", "GET http://docs.example.org/a"),
        ("", "GET https://docs.example.org:8443/guide", "", "GET https://docs.example.org:8443/guides"),
        ("reads = 'listed'", "CONNECT docs.example.org:443", "", ""),
        ("reads = 'none'", "GET https://$rust/", "", ""),
        ("reads = 'none'", "GET https://$rust/a/b", "", "GET https://$rust/a/c"),
        ("reads = 'none'", "CONNECT $rust:443", "", ""),
        ("reads = 'packages'\npackages = ['python']", "GET https://$rust/a/b", "", "GET https://$rust/a"),
        (
            "reads = 'packages'\npackages = ['python']",
            "GET https://docs.example.org/a",
            "",
            "GET https://docs.example.org/b",
        ),
        ("reads = 'listed'", "GET https://$rust/a/b", "", "GET https://$rust/b"),
        ("reads = 'listed'\npackages = ['python']", "GET https://$rust/a/b", "", "GET https://$rust/a/bc"),
        ("reads = 'listed'", "GET https://$rust/%2e%2e/a", "", ""),
        ("reads = 'listed'", "GET https://$rust:8443/x", "", "GET https://$rust:8443/y"),
        ("", "POST https://api.example.org/v1/issues", "x-api-key: $H", "POST https://api.example.org/v1/issuesx"),
        ("", "POST https://api.example.org/v1/issues", "x-api-key: $H", "PUT https://api.example.org/v1/issues"),
        (
            "",
            "DELETE https://api.example.org:8443/v1/issues/1",
            "x-api-key: $H",
            "DELETE https://api.example.org:8443/v1/issues/2",
        ),
        ("", "GET https://api.example.org/v1/me", "x-api-key: $H", "GET https://api.example.org/v1/you"),
        (
            "",
            "GET https://live.example.org/socket",
            "x-api-key: $H ; upgrade: websocket",
            "GET https://live.example.org/other",
        ),
        ("", "GET http://10.1.2.3/a", "", ""),
        ("", "GET https://[fd12:3456::1]/a", "", ""),
        ("", "GET https://wiki.corp/a", "", ""),
        // Of a service inside: another port, and a write.
        (INSIDE, "GET https://wiki.corp:8443/a", "", ""),
        (INSIDE, "POST https://wiki.corp/a", "x-api-key: $H", "POST https://wiki.corp/b"),
        (INSIDE, "GET https://wiki.corp/a", "x-api-key: $H", "GET https://wiki.corp/b"),
    ] {
        let narrow = law(profile);
        let Verdict::Deny(denial) = word(&narrow, request, headers) else { panic!("{request} was allowed") };
        let proposal = denial.proposal.clone().unwrap_or_else(|| panic!("{request}: {} offers nothing", denial.rule));
        assert!(!proposal.opens.is_empty() && denial.ask().contains("may add it"), "{denial:?}");
        // The record of it, which has no query, says the same.
        let (method, url) = request.split_once(' ').unwrap();
        let recorded = named(url.split('?').next().unwrap());
        assert_eq!(Proposal::of(&narrow, denial.rule, method, &recorded).as_ref(), Some(&proposal), "{request}");
        let rows = widened(profile, &proposal.toml);
        let wider = law(&rows);
        let opened = |request: &str| kind(&word(&wider, request, headers)).is_some();
        assert!(opened(request), "{request}:\n{rows}\n{}", rule(&word(&wider, request, headers)));
        // Nothing else on its host and port, on a host beside or below it, or of any group of registries.
        let is_whole = proposal.toml.contains("path = \"/\"\n") || proposal.toml.starts_with("[[egress.internal]]");
        assert_eq!(beside.is_empty(), is_whole, "{request}: {rows}");
        assert!(is_whole || !opened(beside), "{rows} also opens {beside}");
        for other in other_hosts(request) {
            assert!(!opened(&other), "{rows} also opens {other}");
        }
        for other in registries().filter(|host| !recorded.contains(host)).map(|host| format!("GET https://{host}/")) {
            let was = kind(&word(&narrow, &other, headers)).is_some();
            assert_eq!(opened(&other), was, "{rows} also opens {other}");
        }
        for other in ["POST https://other.example.org/", "GET http://10.1.2.4/", "GET https://docs.example.org:9443/"] {
            assert!(kind(&word(&wider, other, "x-api-key: $H")).is_none(), "{rows} also opens {other}");
        }
    }
}

#[test]
fn of_a_registry_a_row_is_offered_and_its_wider_group_is_named_where_that_could_be_read() {
    let offered = |profile: &str, request: &str| match word(&law(profile), request, "") {
        Verdict::Deny(denial) => denial.proposal.expect("it offers something"),
        Verdict::Allow(allowed) => panic!("{allowed:?}"),
    };
    for profile in ["reads = 'none'", "reads = 'packages'\npackages = ['python']", "reads = 'listed'"] {
        let Proposal { toml, opens } = offered(profile, "GET https://$rust/a/b");
        assert!(toml.contains(&named("[[egress.read]]\nhost = \"$rust\"\npath = \"/a/b\"\n")), "{toml}");
        assert!(!toml.contains("packages"), "{toml}");
        assert!(opens.contains("packages = [\"rust\"]") && opens.contains("wider"), "{opens}");
        assert!(!offered(profile, "GET https://$rust:8443/a").opens.contains("packages"));
        assert!(!offered(profile, "GET https://docs.example.org/a").opens.contains("packages"));
    }
}

/// A profile with the rows of a proposal, as a person would put them there: what the proposal says of `reads` takes the place of
/// what stood there, and blanks are filled in.
fn widened(profile: &str, toml: &str) -> String {
    let rows = toml.replace("capability = \"\"", "capability = \"tracker\"");
    let rows = rows.replace("addresses = []", "addresses = [\"10.1.2.0/24\"]").replace("[[egress.", "[[");
    match rows.strip_prefix("[egress]\nreads = \"listed\"\n") {
        None => format!("{profile}\n{rows}"),
        Some(rows) => {
            let kept: Vec<&str> = profile.lines().filter(|line| !line.starts_with("reads")).collect();
            format!("reads = \"listed\"\n{}\n{rows}", kept.join("\n"))
        }
    }
}

/// The same request of hosts beside and below the one that it was of.
fn other_hosts(request: &str) -> Vec<String> {
    let of = |from: &str, to: &str| named(request).replacen(from, to, 1);
    match request {
        _ if request.contains("10.1.2.3") => vec![of("10.1.2.3", "10.1.2.4")],
        _ if request.contains("::1]") => vec![of("::1]", "::2]")],
        _ if request.starts_with("CONNECT") => vec![of(" ", " x-"), of(" ", " x.")],
        _ => vec![of("://", "://x-"), of("://", "://x.")],
    }
}

/// The hosts of all groups.
fn registries() -> impl Iterator<Item = String> {
    let all = Registries::built_in();
    all.groups().into_iter().flat_map(|group| all.group(group)).map(|registry| registry.host.to_string())
}

#[test]
fn a_refusal_without_a_row_says_what_to_send_instead_or_who_may_write_one_or_that_nothing_helps() {
    for (request, headers, next, person) in [
        ("GET http://169.254.169.254/", "", "", "No row of a profile can be added"),
        ("GET http://0.0.0.0/", "", "", "No row of a profile can be added"),
        ("GET http://[fe80::1]/", "", "", "No row of a profile can be added"),
        ("GET http://[::ffff:10.0.0.1]/", "", "", "No row of a profile can be added"),
        // The platform's own machine.
        ("GET http://127.0.0.1/", "", "write one", "An administrator may write one"),
        ("GET http://[::1]:8080/", "", "write one", "An administrator may write one"),
        ("GET http://localhost/", "", "write one", "An administrator may write one"),
        ("GET http://a.localhost:3000/", "", "write one", "An administrator may write one"),
        ("POST http://docs.example.org/", "", "over https", "over https"),
        ("GET http://docs.example.org/", "authorization: Bearer x", "Leave the credential out", "over https"),
        ("GET https://docs.example.org/", "x-note: $H", "in one header", "in one header"),
        ("GET https://docs.example.org/", "x-http-method-override: PUT", "without that header", "without that header"),
        ("GET https://docs.example.org/", "content-length: 3", "without a body", "without a body"),
        ("TRACE https://docs.example.org/", "", "GET and HEAD read", "GET and HEAD read"),
        ("POST https://docs.example.org/group%2Fapp/issues", "x-api-key: $H", "with a number", "with a number"),
        ("PUT https://docs.example.org/a//b", "x-api-key: $H", "written plainly", "written plainly"),
        ("GET https://docs.example.org/%2e%2e/a", "x-api-key: $H", "written plainly", "written plainly"),
        ("CONNECT docs.example.org:443", "proxy-authorization: Basic dTpw", "without it", "without it"),
        ("GET https://2130706433/", "", "four decimal numbers", "four decimal numbers"),
        ("GET https://docs.example.org/a\\b", "", "percent-encoded", "percent-encoded"),
    ] {
        let Verdict::Deny(denial) = word(&law(""), request, headers) else { panic!("{request} was allowed") };
        assert!(denial.proposal.is_none(), "{denial:?}");
        let (method, url) = request.split_once(' ').unwrap();
        assert_eq!(Proposal::of(&law(""), denial.rule, method, url), None, "{request}");
        let said = denial.next.clone().unwrap_or_else(|| denial.ask().to_owned());
        assert!(said.contains(next) && said.contains("no rule can be added") == next.is_empty(), "{request}: {said}");
        let told = why_none(denial.rule, url);
        assert!(told.contains(person), "{request}: {told}");
    }
}

#[test]
fn of_a_path_that_is_too_long_or_was_cut_on_record_nothing_wider_is_offered() {
    let offered = |rule: &str, method: &str, target: &str| Proposal::of(&law("reads = 'listed'"), rule, method, target);
    for (rule, method, headers) in [
        ("read.unlisted", "GET", ""),
        ("write.no-row", "POST", ""),
        ("handle.no-row", "GET", "x-api-key: $H"),
        ("upgrade.no-row", "GET", "upgrade: websocket"),
    ] {
        let url = |pad: usize| format!("https://api.example.org/v1/issues;pad={}", "a".repeat(pad));
        let refused = |pad: usize| match word(&law("reads = 'listed'"), &format!("{method} {}", url(pad)), headers) {
            Verdict::Deny(denial) => denial,
            Verdict::Allow(allowed) => panic!("{allowed:?}"),
        };
        // Of one that is just short enough the record is whole, and the offer is its very path.
        let longest = 240 - "api.example.org/v1/issues;pad=".len();
        let denial = refused(longest);
        assert_eq!(denial.rule, rule);
        assert!(denial.proposal.as_ref().unwrap().toml.contains("/v1/issues;pad=aaa"), "{denial:?}");
        assert_eq!(offered(rule, method, &url(longest)), denial.proposal);
        // Of a longer one, and of what a record holds of it, none; not the folder, not the root.
        for pad in [longest + 1, 260, 2000] {
            let denial = refused(pad);
            assert!(denial.proposal.is_none() && denial.ask().contains("an administrator may write one"), "{denial:?}");
            let recorded: String = url(pad).chars().take(256).collect();
            assert_eq!(offered(rule, method, &recorded), None, "{recorded}");
            assert!(why_none(rule, &recorded).contains("too long to offer"), "{}", why_none(rule, &recorded));
        }
    }
    // A host and a port that were cut are others.
    let host = format!("{}.example.org", ["a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(58)].join("."));
    for (rule, method, target) in
        [("read.unlisted", "CONNECT", format!("{host}:44")), ("port.closed", "GET", format!("https://{host}:8443/"))]
    {
        let recorded: String = target.chars().take(256).collect();
        assert!(recorded.len() == 256 && offered(rule, method, &recorded).is_none(), "{recorded}");
    }
    // It is no reason where nothing would be offered of a short one either.
    let long = "a".repeat(300);
    for (rule, target) in
        [("forge.never", format!("https://github.com/{long}")), ("write.no-row", format!("http://a.example/{long}"))]
    {
        assert!(!why_none(rule, &target).contains("too long"), "{rule}");
    }
}

#[test]
fn of_a_refused_lease_or_push_a_person_is_told_what_of_the_profile_would_allow_it() {
    for (rule, part) in [
        ("lease.capability", "[[capability]] of this name"),
        ("lease.destination", "add the destination"),
        ("lease.executable", "add the program"),
        ("lease.per-run", "other bounds"),
        ("git.branch", "[[repository]]"),
        ("git.repository", "[[repository]]"),
        ("git.delete", "No row of a profile can be added"),
        ("forge.never", "No row of a profile can be added"),
    ] {
        assert!(why_none(rule, "").contains(part), "{rule}: {}", why_none(rule, ""));
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
