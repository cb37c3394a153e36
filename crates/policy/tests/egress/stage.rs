//! Profiles and requests, as text.

use model::Egress;
use policy::egress::registries::Registries;
use policy::egress::target::{self, Scheme};
use policy::egress::{Ask, Denial, Form, Kind, Law, Signs, Verdict, judge};

/// A handle as it is minted.
pub const HANDLE: &str = "vh_abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst";

/// The table of this TOML text.
pub fn egress(text: &str) -> Egress {
    toml::from_str(&named(text)).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// The law of this TOML text.
pub fn law(text: &str) -> Law {
    Law::of(&egress(text)).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// The host of a group that is `n`th by name.
pub fn registry(group: &str, n: usize) -> String {
    Registries::built_in().group(group).nth(n).map(|registry| registry.host.to_string()).expect("there is one")
}

/// Puts registries' hosts in the place of `$rust`, `$python` …, and a handle in the place of `$H`.
pub fn named(text: &str) -> String {
    let groups = Registries::built_in().groups();
    let text =
        groups.iter().fold(text.to_owned(), |text, group| text.replace(&format!("${group}"), &registry(group, 0)));
    text.replace("$H", HANDLE)
}

/// Reads `METHOD URL` or `CONNECT host:port`, and headers parted by ` ; `; gives the word.
pub fn word(law: &Law, request: &str, headers: &str) -> Verdict {
    let (request, headers) = (named(request), named(headers));
    let (method, url) = request.split_once(' ').expect("a method and a target");
    let headers =
        headers.split(" ; ").filter(|line| !line.is_empty()).map(|line| line.split_once(':').expect("a header"));
    let signs = Signs::of(headers.map(|(name, value)| (name, value.trim().as_bytes())));
    let refused = |no: policy::Refusal| Verdict::Deny(Box::new(Denial::new(no.rule, no.why)));
    if method == "CONNECT" && !url.contains("://") {
        return match target::authority(url) {
            Err(no) => refused(no),
            Ok((host, port)) => {
                judge(law, &Ask { form: Form::Connect, method, host: &host, port, path: "", signs: &signs })
            }
        };
    }
    match target::absolute(url) {
        Err(no) => refused(no),
        Ok(to) => {
            let form = if to.scheme == Scheme::Http { Form::Plain } else { Form::Intercepted };
            judge(law, &Ask { form, method, host: &to.host, port: to.port, path: to.path, signs: &signs })
        }
    }
}

/// The rule of a word.
pub fn rule(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Allow(allowed) => allowed.rule,
        Verdict::Deny(denial) => denial.rule,
    }
}

/// As what it was allowed.
pub fn kind(verdict: &Verdict) -> Option<Kind> {
    match verdict {
        Verdict::Allow(allowed) => Some(allowed.kind),
        Verdict::Deny(_) => None,
    }
}

/// Rules that neither a row nor another request lifts.
const FINAL: [&str; 2] = ["host.metadata", "host.zone"];

/// Whether what a refusal says to do goes together: a row is offered, or the request is to be sent otherwise, or an
/// administrator may write a row, or nothing helps; one of these and no other.
fn is_of_one_mind(denial: &Denial) -> bool {
    let private = |address: &str| ["host.private", "host.internal"].contains(&denial.rule) && !address.is_empty();
    let ways = [denial.proposal.is_some(), denial.next.is_some(), denial.by_hand];
    let helps = ways.iter().filter(|way| **way).count();
    let is_final = FINAL.contains(&denial.rule) || denial.rule.starts_with("forge.") || private(&denial.why);
    let sends = ["leave it out", "write it plainly", "give ", "use "].iter().any(|word| denial.why.contains(word));
    let said = match (denial.proposal.is_some(), denial.by_hand) {
        (true, _) => denial.ask().contains("may add it"),
        (_, true) => denial.ask().contains("an administrator may write one"),
        _ => denial.next.is_some() || denial.ask().contains("no rule can be added"),
    };
    said && (helps == 1 || helps == 0 && is_final && !sends)
}

/// Checks a table of lines `request | headers | rule`, or `request | rule`; says every line that is wrong.
pub fn check(profile: &str, table: &str) {
    let law = law(profile);
    let mut wrong = Vec::new();
    let mut lines = 0;
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let (request, headers, expected) = match parts[..] {
            [request, rule] => (request, "", rule),
            [request, headers, rule] => (request, headers, rule),
            _ => panic!("no line of a table: {line}"),
        };
        lines += 1;
        let said = word(&law, request, headers);
        if rule(&said) != expected {
            wrong.push(format!("{line}: {} instead", rule(&said)));
        }
        if let Verdict::Deny(denial) = &said
            && !is_of_one_mind(denial)
        {
            wrong.push(format!("{line}: says two things: {denial:?}"));
        }
    }
    assert!(lines > 0 && wrong.is_empty(), "{} of {lines} lines are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
