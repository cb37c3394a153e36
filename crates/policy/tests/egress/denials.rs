//! What a refusal says, and what it offers.

use super::stage::{kind, law, named, rule, word};
use policy::egress::{Proposal, Verdict};

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
