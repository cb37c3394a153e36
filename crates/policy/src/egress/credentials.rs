//! By which names a credential is known: names of headers, and names of an address's parameters.
//!
//! Wide on purpose, since what is known by its name alone is known by nothing else. Each name that is not a word for a
//! credential by itself says whose it is. What a value looks like is not judged here.
//!
//! Read [`is_header`], then [`parameter`].

/// Words that make a header one of a credential, wherever they stand in its name.
const WORDS: [&str; 13] = [
    "auth",
    "token",
    "apikey",
    "api-key",
    "api_key",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "credential",
    "signature",
    "bearer",
    "jwt",
];

/// How such a header's name ends: `Fastly-Key`, `DD-APPLICATION-KEY`; exchanges sign a request by `…-ACCESS-SIGN`.
const ENDINGS: [&str; 3] = ["-key", "_key", "-sign"];

/// Headers whose names say nothing of the credential that they carry.
const EXACT: [&str; 2] = [
    "key",
    // Honeycomb's key, under the name of whom it is for.
    "x-honeycomb-team",
];

/// Ends of names that are none, whatever stands before them: a key of a thing and not of a door.
const NONE: [&str; 9] = [
    // One act is done once (Stripe and many others; YooKassa's spelling; queues).
    "idempotency-key",
    "idempotence-key",
    "deduplication-key",
    // Of what is kept: Fastly, other caches.
    "surrogate-key",
    "cache-key",
    // Where a record lies.
    "partition-key",
    // Everybody's by its name.
    "public-key",
    // Chance of a WebSocket's greeting (RFC 6455).
    "sec-websocket-key",
    // npm says here how it would sign in, not with what.
    "npm-auth-type",
];

/// Whether a header of this name, in lower case, carries a credential. A read needs none.
pub(super) fn is_header(name: &str) -> bool {
    let ends = |end: &str| name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with(['-', '_']));
    !NONE.into_iter().any(ends)
        && (WORDS.into_iter().any(|word| name.contains(word))
            || ENDINGS.into_iter().any(|end| name.ends_with(end))
            || EXACT.contains(&name))
}

/// One name of a parameter that is a credential, as people write it; it is compared by its letters and digits alone.
struct Parameter {
    name: &'static str,
    takes: Takes,
}

/// Which parameters a name is for.
enum Takes {
    /// Those whose name ends so: `private_token`, `x-private-token`, `user[private_token]`.
    Ending,
    /// Those of this very name: it is a part of names that say something else (`page_token`).
    Exact,
    /// Those of this very name, on this host and below it: elsewhere it is an everyday word.
    At(&'static str),
}

const fn ending(name: &'static str) -> Parameter {
    Parameter { name, takes: Takes::Ending }
}

const fn exact(name: &'static str) -> Parameter {
    Parameter { name, takes: Takes::Exact }
}

const fn at(host: &'static str, name: &'static str) -> Parameter {
    Parameter { name, takes: Takes::At(host) }
}

const PARAMETERS: &[Parameter] = &[
    // GitLab reads this one before any header, and the next in its pipelines.
    ending("private_token"),
    ending("job_token"),
    // RFC 6750; Gitea, Mapbox, Facebook and very many others.
    ending("access_token"),
    // OAuth 1, and what stands beside tokens of RFC 6750.
    ending("oauth_token"),
    ending("refresh_token"),
    ending("bearer_token"),
    exact("id_token"),
    // Everybody's own spelling.
    ending("api_token"),
    ending("app_token"),
    ending("auth_token"),
    ending("user_token"),
    ending("deploy_token"),
    ending("runner_token"),
    // GitLab's pages for readers of news.
    ending("feed_token"),
    ending("rss_token"),
    // AWS: X-Amz-Security-Token, and what its console calls it.
    ending("security_token"),
    ending("session_token"),
    // Slack, Trello, Consul, files of GitHub's as they are.
    exact("token"),
    exact("x_token"),
    exact("jwt"),
    exact("bearer"),
    exact("authorization"),
    // Firebase.
    exact("auth"),
    ending("api_key"),
    ending("app_key"),
    ending("application_key"),
    ending("access_key"),
    ending("access_key_id"),
    ending("secret_key"),
    ending("master_key"),
    ending("auth_key"),
    // Azure's API management.
    ending("subscription_key"),
    // A key by that name alone, where its host is known to take it so.
    at("googleapis.com", "key"),
    at("trello.com", "key"),
    at("stackexchange.com", "key"),
    // Functions of Azure take their key so; elsewhere it is the code of a sign-in, a country or a coupon.
    at("azurewebsites.net", "code"),
    ending("secret"),
    // Facebook's proof that whoever asks has the secret.
    ending("appsecret_proof"),
    ending("password"),
    ending("passwd"),
    ending("passphrase"),
    exact("pwd"),
    exact("pass"),
    ending("credential"),
    ending("credentials"),
    // Addresses that were signed: S3's and its kin (X-Amz-Signature, X-Goog-Signature), CloudFront, OAuth 1; Azure's.
    ending("signature"),
    exact("sig"),
    // Sessions of servlets and of PHP.
    exact("jsessionid"),
    exact("phpsessid"),
];

/// Values that are no credential whatever their name: `reset_password=true`.
const SWITCHES: [&str; 8] = ["", "0", "1", "true", "false", "yes", "no", "null"];

/// The credential that a parameter of this address is by its name, as people write that, if any is: in the query, or behind
/// a semicolon in the path. `target` is path and query.
///
/// A name is compared in lower case, by its letters and digits, without percent-encoding however often that was done and
/// without what stands in empty or numbered brackets; and so is the part of it before its first bracket.
pub(super) fn parameter(host: &str, target: &str) -> Option<&'static str> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let in_path = path.split('/').flat_map(|part| part.split(';').skip(1));
    // A second question mark is a letter to most, and begins the query anew to some.
    let in_query = query.split(['&', ';', '?']);
    in_query.chain(in_path).find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if SWITCHES.contains(&value.to_ascii_lowercase().as_str()) {
            return None;
        }
        let name = plain(name);
        let (first, rest) = name.split_once('[').unwrap_or((&name, ""));
        let inner = rest.split(['[', ']']).filter(|part| !part.bytes().all(|byte| byte.is_ascii_digit()));
        let names = [letters(first), letters(&std::iter::once(first).chain(inner).collect::<String>())];
        let fits = |one: &&Parameter| {
            let is_there = match one.takes {
                Takes::At(place) => host.strip_suffix(place).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
                Takes::Ending | Takes::Exact => true,
            };
            is_there
                && names.iter().any(|name| match before(name, one.name) {
                    Some(rest) => rest == 0 || matches!(one.takes, Takes::Ending),
                    None => false,
                })
        };
        PARAMETERS.iter().find(fits).map(|one| one.name)
    })
}

/// A name with its percent-encoded letters as they are, in lower case. What is encoded more than four times over is what no
/// server reads as a name.
fn plain(name: &str) -> String {
    let once = |name: &str| super::path::decoded(name).to_ascii_lowercase();
    (0..4).fold(name.to_ascii_lowercase(), |name, _| if name.contains('%') { once(&name) } else { name })
}

/// How many bytes of a name stand before a known one at its end, of which letters and digits count; none if another end is there.
fn before(name: &str, known: &str) -> Option<usize> {
    let mut rest = name.bytes().rev();
    let mut known = known.bytes().rev().filter(u8::is_ascii_alphanumeric);
    known.all(|byte| rest.next() == Some(byte)).then(|| rest.count())
}

fn letters(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_known_as_a_credentials_by_its_name_and_ordinary_ones_are_not() {
        for name in [
            "authorization",
            "x-api-key",
            "fastly-key",
            "dd-api-key",
            "dd-application-key",
            "x-honeycomb-team",
            "x-insert-key",
            "x-license-key",
            "ocp-apim-subscription-key",
            "x-functions-key",
            "x-master-key",
            "x-key",
            "x_service_key",
            "key",
            "ok-access-sign",
            "ok-access-passphrase",
            "x-jwt-assertion",
            "circle-token",
            "cf-access-client-secret",
            // An end of a name that is none does not make a name of another kind one.
            "xidempotency-key-secret",
        ] {
            assert!(is_header(name), "{name}");
        }
        for name in [
            "idempotency-key",
            "x-idempotency-key",
            "idempotence-key",
            "sec-websocket-key",
            "surrogate-key",
            "x-cache-key",
            "x-partition-key",
            "x-ssh-public-key",
            "npm-auth-type",
            "accept",
            "content-type",
            "if-none-match",
            "x-request-id",
            "mcp-session-id",
            "traceparent",
            "x-amz-server-side-encryption-aws-kms-key-id",
            "keep-alive",
            "x-monkey",
            "user-agent",
        ] {
            assert!(!is_header(name), "{name}");
        }
    }

    #[test]
    fn a_parameter_is_known_as_a_credential_in_every_spelling() {
        for query in [
            "private_token=glx",
            "a=b&private_token=glx",
            "a=b;private_token=glx",
            "a=b?private_token=glx",
            "PRIVATE_TOKEN=glx",
            "private-token=glx",
            "privateToken=glx",
            "private%5ftoken=glx",
            "%70rivate_token=glx",
            "private%255Ftoken=glx",
            "private%25255Ftoken=glx",
            "private_token[]=glx",
            "private_token%5B%5D=glx",
            "private_token[0]=glx",
            "private_token[x]=glx",
            "user[private_token]=glx",
            "+private_token=glx",
            "private_token%00=glx",
            "private.token=glx",
        ] {
            let found = parameter("git.example", &format!("/api/v4/projects/7/labels?{query}"));
            assert_eq!(found, Some("private_token"), "{query}");
        }
        assert_eq!(parameter("a.example", "/a;jsessionid=0a1b/b"), Some("jsessionid"));
        assert_eq!(parameter("a.example", "/a;x=1;access_token=0a1b"), Some("access_token"));
    }

    #[test]
    fn every_parameter_of_the_list_is_found_on_its_host_and_is_hidden_by_none_before_it() {
        for one in PARAMETERS {
            let host = match one.takes {
                Takes::At(place) => format!("x.{place}"),
                _ => "a.example".to_owned(),
            };
            assert_eq!(parameter(&host, &format!("/x?a=b&{}=abc&c=d", one.name)), Some(one.name));
        }
    }

    #[test]
    fn ordinary_parameters_are_none() {
        for query in [
            "",
            "?",
            "a=b&c=d",
            "page_token=abc",
            "pageToken=abc",
            "page[token]=abc",
            "nextToken=abc",
            "continuation-token=abc",
            "ClientRequestToken=abc",
            "key=PROJ-1",
            "code=DE",
            "keys=a",
            "author=joe",
            "authors[]=joe",
            "sort=signature_date",
            "reset_password=true",
            "force_random_password=1",
            "access_token",
            "access_token=",
            "assignee=x",
            "design=1",
            "session_id=7",
            "tokens=12",
            "q=access_token",
        ] {
            assert_eq!(parameter("api.example", &format!("/v1/x?{query}")), None, "{query}");
        }
        assert_eq!(parameter("googleapis.com.example", "/x?key=abc"), None);
        assert_eq!(parameter("notgoogleapis.com", "/x?key=abc"), None);
        assert_eq!(parameter("googleapis.com", "/x?key=abc"), Some("key"));
    }
}
