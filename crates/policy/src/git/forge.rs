//! What may be asked of a forge's API with a run's handle: a table, first of what never may.
//!
//! Merging, approving, opening a proposal, writing references and files, and everything that one endpoint can be talked into
//! (GraphQL) are never a handle's, whatever a profile's row says: proposals are opened by the server, and merged by a person.
//!
//! Read [`never()`], then [`table`] (the rows).

pub mod table;

use table::{Api, NEVER};

/// Why a handle may not write to this path of a forge's API, if it may not. `target` begins with a slash; its query is
/// not looked at. Reads (`GET`, `HEAD`) may, except of GraphQL.
///
/// Matched on every part of a path whose end fits, so that no prefix of a forge that lives below another path hides it.
/// The last part counts as it is and without a format (`merge.txt`: GitLab takes any on every path), every part without
/// what follows a semicolon, and GitHub's repositories, organizations and teams by number are those by name.
#[must_use]
pub fn never(method: &str, target: &str) -> Option<&'static str> {
    let parts = parts(target);
    let mut parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let reads = reads(method);
    if parts.len() > MOST_PARTS {
        if !reads {
            return Some("no path of a forge's API has so many parts");
        }
        // Of a read only the end counts.
        parts.drain(..parts.len() - MOST_PARTS);
    }
    row(&parts, reads).or_else(|| row(&without_format(&parts).filter(|bare| !is_a_file(bare))?, reads))
}

/// Whether a path that ends in `graphql` and a format is that of a file or a package of this name (`graphql.md`,
/// `graphql.tar.gz`), and none of a forge's GraphQL: that lies at the root, or in `api`, below whatever the forge is.
fn is_a_file(bare: &[&str]) -> bool {
    bare.len() > MOST_BEFORE_GRAPHQL && !bare.ends_with(&["api", "graphql"]) && bare.ends_with(&["graphql"])
}

/// Parts of the path of a forge's GraphQL, itself among them, that is not in `api`.
const MOST_BEFORE_GRAPHQL: usize = 3;

/// Parts of a path that are held against the table, each against every row: the longest of it have a dozen, and a host's own
/// prefix a few.
const MOST_PARTS: usize = 64;

fn reads(method: &str) -> bool {
    matches!(method, "GET" | "HEAD")
}

/// What the first row says that these parts fit.
fn row(parts: &[&str], reads: bool) -> Option<&'static str> {
    let numbered: Vec<Vec<&str>> = (0..parts.len()).filter_map(|at| by_name(&parts[at..])).collect();
    NEVER
        .iter()
        .filter(|row| !reads || row.path == "graphql")
        .find(|row| {
            let fits = |parts: &[&str]| fits(row.path, parts);
            (0..parts.len()).any(|from| fits(&parts[from..])) || numbered.iter().any(|parts| fits(parts))
        })
        .map(|row| row.what)
}

/// The path by names that is the same to GitHub as one that begins with a repository's number, or an organization's, or with
/// those of an organization and a team of it.
fn by_name<'p>(parts: &[&'p str]) -> Option<Vec<&'p str>> {
    match parts {
        ["repositories", _, rest @ ..] => Some([&["repos", "x", "x"], rest].concat()),
        ["organizations", _, "team", rest @ ..] => Some([&["orgs", "x", "teams"], rest].concat()),
        ["organizations", _, rest @ ..] => Some([&["orgs", "x"], rest].concat()),
        _ => None,
    }
}

/// The parts of a target's path as servers that are generous read them: percent-encoded letters as they are, in lower case,
/// without parameters (`;x=1`) and without empty parts.
fn parts(target: &str) -> Vec<String> {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let bare = |part: &str| plain(part).split(';').next().unwrap_or_default().to_owned();
    path.split('/').map(bare).filter(|part| !part.is_empty()).collect()
}

/// The same parts, the last one without what follows its first dot; none where it has no dot.
fn without_format<'p>(parts: &[&'p str]) -> Option<Vec<&'p str>> {
    let (last, before) = parts.split_last()?;
    let (bare, _) = last.split_once('.')?;
    Some([before, &[bare]].concat())
}

/// Whether a request with a credential may never go through the forward proxy, by whatever row: the rule, and why.
///
/// Known forges are known by a word of their host's name, others by the root of their API. A push goes the way on which it is
/// held and listed, on no host past it.
#[must_use]
pub fn refused(host: &str, method: &str, target: &str) -> Option<(&'static str, String)> {
    let (_, query) = target.split_once('?').unwrap_or((target, ""));
    let parts = parts(target);
    let last = parts.last().map_or("", String::as_str);
    let is_push = |part: &str| part == "git-receive-pack";
    let named_so = is_push(last) || !reads(method) && last.split('.').next().is_some_and(is_push);
    if named_so || plain(query).contains("git-receive-pack") {
        let why = "A push goes to the run's own git address, /git/ID at the box's door, where it is held and listed.";
        return Some(("forge.push", why.to_owned()));
    }
    let path = format!("/{}/", parts.join("/"));
    let named = |name: &str| host.split('.').any(|label| label == name);
    let known = KNOWN.into_iter().any(|(word, _)| named(word));
    let root = ROOTS.into_iter().any(|root| path.contains(root));
    let what = (known || root).then(|| never(method, target))??;
    Some(("forge.never", format!("No run does this at a forge, whatever its profile allows: {what}.")))
}

/// The words in names of hosts by which forges are known, and the API that each has.
const KNOWN: [(&str, Api); 7] = [
    ("github", Api::Github),
    ("ghe", Api::Github),
    ("gitlab", Api::Gitlab),
    ("gitea", Api::Gitea),
    ("forgejo", Api::Gitea),
    ("codeberg", Api::Gitea),
    ("bitbucket", Api::Bitbucket),
];

/// How the paths of their APIs begin, on hosts of any name.
const ROOTS: [&str; 14] = [
    "/api/v3/",
    "/api/v4/",
    "/api/v1/repos/",
    "/api/v1/user/",
    "/api/v1/orgs/",
    "/api/v1/admin/",
    "/api/graphql",
    "/2.0/repositories/",
    "/2.0/internal/",
    "/2.0/workspaces/",
    "/2.0/users/",
    "/2.0/teams/",
    "/!api/",
    "/rest/",
];

/// A part of a path with its percent-encoded letters as they are, in lower case.
fn plain(part: &str) -> String {
    let bytes = part.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let code = if bytes[at] == b'%' { digit(at + 1).zip(digit(at + 2)) } else { None };
        let (byte, width) = match code.and_then(|(high, low)| u8::try_from(high << 4 | low).ok()) {
            Some(byte) => (byte, 3),
            None => (bytes[at], 1),
        };
        out.push(byte);
        at += width;
    }
    String::from_utf8_lossy(&out).to_ascii_lowercase()
}

fn fits(pattern: &str, parts: &[&str]) -> bool {
    let mut at = 0;
    for word in pattern.split('/') {
        if word == "**" {
            return parts.len() > at;
        }
        match parts.get(at) {
            Some(part) if word == "*" || word == *part => at += 1,
            _ => return false,
        }
    }
    at == parts.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::{Group, PROVIDERS};

    #[test]
    fn what_never_is_at_a_forge_is_not_on_a_host_of_any_name_either() {
        // Tokens of Gitea are made with a password, at a path that other services have as well.
        for (_, target) in targets().filter(|(row, _)| row.path != "users/*/tokens") {
            assert!(refused("code.corp", "POST", &target).is_some(), "{target}");
        }
        assert_eq!(refused("tracker.corp", "POST", "/api/v1/issues"), None);
    }

    /// A target for each row, at the root of its API.
    fn targets() -> impl Iterator<Item = (&'static table::Never, String)> {
        NEVER.iter().map(|row| {
            let root = match row.api {
                Api::Github if row.path == "graphql" => "/api/",
                Api::Github => "/api/v3/",
                Api::Gitlab if row.path == "graphql" => "/api/",
                Api::Gitlab => "/api/v4/",
                Api::Gitea => "/api/v1/",
                Api::Bitbucket => "/2.0/",
            };
            let path = row.path.replace("**", "y").replace('*', "x");
            let own = ["api/", "2.0/", "rest/", "!api/"].iter().any(|root| path.starts_with(root));
            (row, format!("{}{path}", if own { "/" } else { root }))
        })
    }

    #[test]
    fn no_format_parameter_slash_or_spelling_hides_any_row_of_the_table() {
        for (row, target) in targets() {
            let spelled = [
                format!("{target}.txt"),
                format!("{target}.xml"),
                format!("{target}.json"),
                format!("{target}.x"),
                format!("{target}.x.y"),
                format!("{target}."),
                format!("{target}%2etxt"),
                format!("{target}%2Etxt?a=b"),
                format!("{target}.txt/"),
                format!("{target};a=b"),
                format!("{target};a=b.txt"),
                format!("{target}.txt;a=b"),
                target.replace('/', ";a=b/").replacen(";a=b", "", 1),
                format!("{target}/"),
                format!("{target}?.txt"),
                target.replace('/', "//"),
                target.to_uppercase(),
                format!("{}.TXT", target.to_uppercase()),
            ];
            for target in spelled {
                // Tokens of Gitea are made with a password, at a path that other services have as well.
                let host = if row.path == "users/*/tokens" { "gitea.example" } else { "code.corp" };
                let rule = refused(host, "POST", &target).map(|(rule, _)| rule);
                assert_eq!(rule, Some("forge.never"), "{target}");
            }
        }
    }

    #[test]
    fn what_github_names_by_number_is_what_it_names_by_name_in_every_spelling() {
        for target in [
            "/repositories/1/pulls/3/merge",
            "/organizations/9/team/7/memberships/mallory",
            "/organizations/9/team/7/repos/acme/app",
            "/organizations/9/actions/secrets/x",
        ] {
            for spelled in [
                target.to_owned(),
                format!("/api/v3{target}"),
                format!("{target}.json"),
                format!("{target}/"),
                format!("{target};a=b?c=d"),
                target.replace('/', "//"),
                target.to_uppercase(),
                target.replace('t', "%74"),
                target.replace("/7/", "/%37;x/"),
            ] {
                let rule = refused("api.github.com", "PUT", &spelled).map(|(rule, _)| rule);
                assert_eq!(rule, Some("forge.never"), "{spelled}");
                let inside = refused("code.corp", "PUT", &format!("/api/v3{spelled}")).map(|(rule, _)| rule);
                assert_eq!(inside, Some("forge.never"), "{spelled}");
            }
        }
    }

    #[test]
    fn a_path_with_more_parts_than_any_api_has_is_no_write_and_costs_no_more_than_a_short_one() {
        let long = "/a".repeat(MOST_PARTS + 1);
        assert!(never("POST", &long).is_some_and(|why| why.contains("so many parts")));
        assert!(never("GET", &long).is_none());
        assert!(never("POST", &"/a".repeat(MOST_PARTS)).is_none());
        assert!(never("GET", &format!("{long}/graphql")).is_some());
        assert!(refused("github.com", "POST", &format!("{long}/repos/acme/app/pulls/3/merge")).is_some());
        // Each of these parts would begin a list of all behind it.
        assert!(never("GET", &"/repositories".repeat(100_000)).is_none());
    }

    #[test]
    fn a_push_is_known_by_its_path_in_every_spelling_and_a_page_about_it_may_be_read() {
        let rule = |method: &str, target: &str| refused("git.corp.example", method, target).map(|(rule, _)| rule);
        for end in ["", "/", ".x", ";a=b", "%2ex", ".x;a"] {
            let target = format!("/a/b.git/git-receive-pack{end}");
            assert_eq!(rule("POST", &target), Some("forge.push"), "{target}");
        }
        assert_eq!(rule("POST", "/a/b.git/GIT-receive-pack"), Some("forge.push"));
        assert_eq!(rule("GET", "/api/v4/projects/7/repository/files/git-receive-pack.txt"), None);
    }

    #[test]
    fn a_file_whose_name_begins_as_graphql_does_is_one_and_graphql_is_not_wherever_its_forge_lies() {
        for target in ["/repos/acme/app/contents/graphql.md", "/api/v4/projects/7/repository/files/graphql.js"] {
            assert_eq!(never("GET", target), None, "{target}");
        }
        for method in ["GET", "PUT"] {
            let package = "/api/v4/projects/7/packages/generic/client/1.0/graphql.tar.gz";
            assert_eq!(never(method, package), None, "{method}");
        }
        for target in [
            "/graphql.md",
            "/api/graphql.x",
            "/gitlab/api/graphql.json",
            "/forges/of/acme/api/graphql.json",
            "/forges/of/acme/api/graphql",
            "/api/graphql;x",
            "/api/graphql%2ex",
        ] {
            for method in ["GET", "POST"] {
                assert!(never(method, target).is_some(), "{method} {target}");
            }
        }
    }

    #[test]
    fn no_handle_merges_approves_writes_references_or_speaks_graphql() {
        for (method, target) in [
            ("PUT", "/repos/acme/app/pulls/3/merge"),
            ("PUT", "/api/v3/repos/acme/app/pulls/3/merge"),
            ("POST", "/repos/acme/app/pulls/3/reviews"),
            ("POST", "/repos/acme/app/pulls/3/reviews/9/events"),
            ("POST", "/repos/acme/app/merges"),
            ("POST", "/repos/acme/app/git/refs"),
            ("PATCH", "/repos/acme/app/git/refs/heads/main"),
            ("PUT", "/repos/acme/app/contents/x"),
            ("PUT", "/repos/acme/app/pulls/3/m%65rge"),
            ("PUT", "/repos/acme/app/pulls/3/%4DERGE"),
            ("POST", "/graphql"),
            ("POST", "/api/graphql"),
            ("GET", "/api/graphql?query=mutation"),
            ("POST", "/GraphQL"),
            ("PUT", "/api/v4/projects/7/merge_requests/3/merge"),
            ("PUT", "/api/v4/projects/acme%2Fapp/merge_requests/3/merge?x=1"),
            ("POST", "/api/v4/projects/7/merge_requests/3/approve"),
            ("POST", "/api/v4/projects/7/repository/branches"),
            ("POST", "/api/v4/projects/7/repository/commits"),
            ("DELETE", "/api/v4/projects/7/protected_branches/main"),
            ("POST", "/api/v1/repos/acme/app/pulls/3/merge"),
            ("POST", "/forge/api/v1/repos/acme/app/pulls/3/merge"),
            ("POST", "/api/v1/repos/acme/app/branches"),
            ("POST", "/api/v1/repos/acme/app/contents/x"),
            ("POST", "/api/v1//repos/acme/app/pulls/3/merge/"),
            ("PUT", "/repositories/1296269/pulls/3/merge"),
            ("PUT", "/api/v3/repositories/1296269/contents/x"),
            ("PATCH", "/repositories/12%396269/git/refs/heads/main"),
            ("PUT", "/repositories/1/repositories/1296269/pulls/3/merge"),
            ("PUT", "/organizations/9919/team/7/memberships/mallory"),
            ("PUT", "/api/v3/organizations/9919/team/7/repos/acme/app"),
            ("PATCH", "/organizations/9919/team/7"),
            ("PUT", "/organizations/9919/teams/7/memberships/mallory"),
            ("PUT", "/organizations/9919/memberships/mallory"),
            ("POST", "/organizations/9919/hooks"),
            ("PUT", "/organizations/organizations/9919/team/7/memberships/mallory"),
            ("PUT", "/api/v4/projects/7/merge_requests/3/merge.json"),
            ("PUT", "/api/v4/projects/7/merge_requests/3/merge%2Ejson?x=1"),
            ("POST", "/api/graphql.json"),
            ("POST", "/api/v4/projects/7/merge_requests"),
            ("PUT", "/api/v4/projects/acme%2Fapp/merge_requests/3"),
            ("POST", "/api/v4/projects/7/merge_requests/3/notes"),
            ("PUT", "/api/v4/projects/7/merge_requests/3/notes/5"),
            ("POST", "/api/v4/projects/7/merge_requests/3/discussions"),
            ("POST", "/api/v4/projects/7/merge_requests/3/discussions/a/notes"),
            ("POST", "/api/v4/projects/7/merge_requests/3/pipelines"),
            ("PUT", "/api/v4/suggestions/5/apply"),
            ("PUT", "/api/v4/suggestions/batch_apply"),
            ("POST", "/api/v4/projects/7/ref/main/trigger/pipeline"),
            ("POST", "/api/v4/projects/7/access_tokens"),
            ("POST", "/api/v4/projects/7/access_tokens/5/rotate"),
            ("POST", "/api/v4/projects/7/deploy_tokens"),
            ("DELETE", "/api/v4/projects/7/deploy_tokens/5"),
            ("POST", "/repos/acme/app/pulls"),
            ("PATCH", "/repos/acme/app/pulls/3"),
            ("PATCH", "/repos/acme/app/issues/3"),
            ("PATCH", "/repos/acme/app/bypass-requests/push-rules/3"),
            ("POST", "/orgs/acme/personal-access-token-requests"),
            ("POST", "/orgs/acme/personal-access-token-requests/3"),
            ("POST", "/repos/acme/app/pages/builds"),
            ("POST", "/repos/acme/app/pulls/3/requested_reviewers"),
            ("POST", "/repos/acme/app/deployments"),
            ("PUT", "/repos/acme/app/environments/production"),
            ("POST", "/repos/acme/app/code-scanning/alerts/3/autofix/commits"),
            ("PATCH", "/repos/acme/app"),
            ("PATCH", "/repositories/1296269"),
            ("POST", "/repositories/1296269/pulls"),
            ("PUT", "/orgs/acme/actions/secrets/X"),
            ("POST", "/api/v4/projects/7/merge_requests/3/draft_notes/bulk_publish"),
            ("PUT", "/api/v4/projects/7/merge_requests/3/reset_approvals"),
            ("POST", "/api/v4/projects/7/deployments/3/approval"),
            ("POST", "/api/v4/projects/7/issues/3/notes"),
            ("PUT", "/api/v4/projects/7/issues/3"),
            ("POST", "/api/v4/projects/7/issues"),
            ("POST", "/api/v4/projects/7/merge_trains/merge_requests/3"),
            ("POST", "/api/v4/projects/7/triggers"),
            ("PUT", "/api/v4/projects/7"),
            ("POST", "/api/v1/repos/acme/app/pulls"),
            ("PATCH", "/api/v1/repos/acme/app/pulls/3"),
            ("PATCH", "/api/v1/repos/acme/app/issues/3"),
            ("POST", "/api/v1/repos/acme/app/sync_fork/main"),
            ("POST", "/api/v1/repos/acme/app/push_mirrors"),
            ("POST", "/2.0/repositories/acme/app/pullrequests"),
            ("PUT", "/2.0/repositories/acme/app/pullrequests/3"),
            ("POST", "/2.0/repositories/acme/app/pullrequests/3/merge"),
            ("POST", "/2.0/repositories/acme/app/pullrequests/3/approve"),
            ("POST", "/2.0/repositories/acme/app/pullrequests/3/request-changes"),
            ("POST", "/2.0/repositories/acme/app/refs/tags"),
            ("DELETE", "/2.0/repositories/acme/app/refs/branches/main"),
            ("POST", "/2.0/repositories/acme/app/src"),
            ("POST", "/2.0/repositories/%7Bacme%7D/%7Bapp%7D/src/"),
            ("POST", "/2.0/repositories/acme/app/commit/c1/approve"),
            ("POST", "/2.0/repositories/acme/app/commit/c1/statuses/build"),
            ("POST", "/2.0/repositories/acme/app/pipelines/"),
            ("POST", "/2.0/repositories/acme/app/deploy-keys"),
            ("PUT", "/2.0/repositories/acme/app"),
            ("POST", "/!api/2.0/repositories/acme/app/pullrequests/3/merge"),
            ("POST", "/rest/api/latest/projects/ACME/repos/app/pull-requests/3/merge"),
            ("PUT", "/bitbucket/rest/api/1.0/projects/ACME/repos/app/browse/x"),
            ("POST", "/rest/git/latest/projects/ACME/repos/app/tags"),
        ] {
            assert!(never(method, target).is_some(), "{method} {target}");
        }
    }

    #[test]
    fn every_known_forge_has_its_merges_approvals_proposals_references_and_files_in_the_table() {
        // Of each API: what merges, approves, opens a proposal, writes a reference, and writes a file.
        let paths = |api| match api {
            Api::Github => ["pulls/3/merge", "pulls/3/reviews", "pulls", "git/refs", "contents/x"]
                .map(|end| format!("/repos/a/b/{end}")),
            Api::Gitea => ["pulls/3/merge", "pulls/3/reviews", "pulls", "branches", "contents/x"]
                .map(|end| format!("/api/v1/repos/a/b/{end}")),
            Api::Gitlab => [
                "merge_requests/3/merge",
                "merge_requests/3/approve",
                "merge_requests",
                "repository/branches",
                "repository/files/x",
            ]
            .map(|end| format!("/api/v4/projects/7/{end}")),
            Api::Bitbucket => {
                ["pullrequests/3/merge", "pullrequests/3/approve", "pullrequests", "refs/branches", "src"]
                    .map(|end| format!("/2.0/repositories/a/b/{end}"))
            }
        };
        for provider in PROVIDERS.iter().filter(|provider| provider.group == Group::Forge) {
            for host in provider.hosts {
                let api = KNOWN.into_iter().find(|(word, _)| host.split('.').any(|label| label == *word));
                let Some((_, api)) = api else { panic!("{host} is a forge's and known as none") };
                for (path, method) in
                    paths(api).iter().flat_map(|path| ["POST", "PUT", "DELETE"].map(|method| (path, method)))
                {
                    let rule = refused(host, method, path).map(|(rule, _)| rule);
                    assert_eq!(rule, Some("forge.never"), "{method} {host}{path}");
                    assert!(
                        NEVER.iter().any(|row| row.api == api && fits(row.path, &parts_of(path))),
                        "{api:?} {path}"
                    );
                }
            }
        }
        assert!(NEVER.iter().all(|row| !row.path.starts_with('/') && !row.what.is_empty()));
    }

    /// The parts below an API's root.
    fn parts_of(path: &str) -> Vec<&str> {
        let parts: Vec<&str> = path.split('/').collect();
        let at = parts.iter().position(|part| ["repos", "projects", "repositories"].contains(part)).unwrap();
        parts[at..].to_vec()
    }

    #[test]
    fn no_row_of_the_table_is_hidden_by_an_earlier_one_of_its_api_and_stands_for_nothing() {
        for (at, row) in NEVER.iter().enumerate() {
            let path = row.path.replace("**", "x").replace('*', "x");
            let parts: Vec<&str> = path.split('/').collect();
            let hides = |earlier: &&table::Never| earlier.api == row.api && fits(earlier.path, &parts);
            assert_eq!(NEVER[..at].iter().find(hides).map(|earlier| earlier.path), None, "{}", row.path);
        }
    }

    #[test]
    fn a_forge_is_known_by_its_host_or_its_api_and_a_push_goes_past_the_look_on_none() {
        let rule = |host, method, target| refused(host, method, target).map(|(rule, _)| rule);
        assert_eq!(rule("api.github.com", "PUT", "/repos/a/b/pulls/3/merge"), Some("forge.never"));
        assert_eq!(rule("api.github.com", "POST", "/graphql"), Some("forge.never"));
        assert_eq!(rule("git.corp.example", "PUT", "/api/v4/projects/3/merge_requests/1/merge"), Some("forge.never"));
        assert_eq!(rule("git.corp.example", "POST", "/api/graphql"), Some("forge.never"));
        for target in ["/graphql", "/api/v1/graphql", "/api/v1/users/x/tokens"] {
            assert_eq!(rule("api.tracker.example", "POST", target), None, "{target}");
        }
        assert_eq!(rule("git.corp.example", "POST", "/rest/api/1.0/projects/A/repos/b/tags"), Some("forge.never"));
        assert_eq!(rule("api.github.com", "POST", "/repos/a/b/issues"), None);
        assert_eq!(rule("jira.corp.example", "POST", "/rest/api/2/issue"), None);
        assert_eq!(rule("git.corp.example", "POST", "/a/b.git/git-receive-pack"), Some("forge.push"));
        assert_eq!(rule("git.corp.example", "GET", "/a/b.git/info/refs?service=git-receive-pack"), Some("forge.push"));
        assert_eq!(rule("git.corp.example", "POST", "/a/b.git/git-receive-p%61ck"), Some("forge.push"));
        assert_eq!(rule("git.corp.example", "POST", "/a/b.git/git-upload-pack"), None);
    }

    #[test]
    fn what_an_integration_is_for_is_left_to_the_profile() {
        for (method, target) in [
            ("POST", "/repos/acme/app/issues"),
            ("POST", "/repos/acme/app/issues/3/comments"),
            ("GET", "/repos/acme/app/pulls/3/reviews"),
            ("GET", "/repos/acme/app/contents/x"),
            ("GET", "/api/v4/projects/7/merge_requests/3/notes"),
            ("GET", "/api/v4/projects/7/issues/3/notes"),
            ("POST", "/api/v4/projects/7/labels"),
            ("POST", "/api/v4/projects/7/wikis"),
            ("GET", "/2.0/repositories/acme/app/pullrequests/3"),
            ("POST", "/2.0/repositories/acme/app/issues"),
            ("POST", "/2.0/repositories/acme/app/issues/3/comments"),
            ("POST", "/api/v1/repos/acme/app/issues/3/comments"),
            ("POST", "/rest/api/2/issue"),
            ("POST", "/repositories/1296269/issues"),
            ("POST", "/repositories"),
            ("GET", "/organizations/9919/team/7/members"),
            ("POST", "/organizations"),
            ("POST", "/v1/issues"),
            ("POST", "/v1/charges/git"),
            ("POST", "/api/v4/projects/7/labels.json"),
            ("POST", "/api/v4/projects/7/hooksmith.txt"),
            ("PUT", "/api/v4/projects/7/packages/generic/app/1.0/app.merge.zip"),
        ] {
            assert_eq!(never(method, target), None, "{method} {target}");
        }
    }
}
