//! What may be asked of a forge's API with a run's handle: a table, first of what never may.
//!
//! Merging, approving, writing references, and everything that one endpoint can be talked into (GraphQL) are never a
//! handle's, whatever a profile's row says: proposals are opened by the server, and merged by a person.
//!
//! Read [`never()`].

use model::Forge;

/// One thing that a handle never does.
struct Never {
    forge: Forge,
    /// The parts of the path, in order; `*` is any one part, `**` any number of them.
    path: &'static str,
    what: &'static str,
}

const fn never_on(forge: Forge, path: &'static str, what: &'static str) -> Never {
    Never { forge, path, what }
}

/// Paths that no handle writes to, whatever the method. A prefix before the API's own root (`/api/v3`) is taken off.
const NEVER: &[Never] = &[
    never_on(Forge::Github, "graphql", "GraphQL can do all that the API can"),
    never_on(Forge::Github, "repos/*/*/pulls/*/merge", "a person merges"),
    never_on(Forge::Github, "repos/*/*/pulls/*/update-branch", "it writes a branch"),
    never_on(Forge::Github, "repos/*/*/pulls/*/reviews", "a person reviews"),
    never_on(Forge::Github, "repos/*/*/pulls/*/reviews/**", "a person reviews"),
    never_on(Forge::Github, "repos/*/*/merges", "it merges branches"),
    never_on(Forge::Github, "repos/*/*/merge-upstream", "it writes a branch"),
    never_on(Forge::Github, "repos/*/*/git/**", "it writes references and objects past the pack's look"),
    never_on(Forge::Github, "repos/*/*/contents/**", "it commits past the pack's look"),
    never_on(Forge::Github, "repos/*/*/branches/**", "it renames or unprotects branches"),
    never_on(Forge::Github, "repos/*/*/rulesets", "it changes what protects branches"),
    never_on(Forge::Github, "repos/*/*/rulesets/**", "it changes what protects branches"),
    never_on(Forge::Github, "repos/*/*/releases", "it makes tags"),
    never_on(Forge::Github, "repos/*/*/releases/**", "it makes tags"),
    never_on(Forge::Github, "repos/*/*/actions/**", "it runs pipelines and reads their secrets' names"),
    never_on(Forge::Github, "repos/*/*/dispatches", "it runs pipelines"),
    never_on(Forge::Github, "repos/*/*/keys", "it gives others access"),
    never_on(Forge::Github, "repos/*/*/keys/**", "it gives others access"),
    never_on(Forge::Github, "repos/*/*/hooks", "it sends what happens elsewhere"),
    never_on(Forge::Github, "repos/*/*/hooks/**", "it sends what happens elsewhere"),
    never_on(Forge::Github, "repos/*/*/collaborators/**", "it gives others access"),
    never_on(Forge::Github, "repos/*/*/statuses/**", "it says that checks passed"),
    never_on(Forge::Github, "repos/*/*/check-runs", "it says that checks passed"),
    never_on(Forge::Github, "repos/*/*/check-runs/**", "it says that checks passed"),
    never_on(Forge::Gitlab, "graphql", "GraphQL can do all that the API can"),
    never_on(Forge::Gitlab, "projects/*/merge_requests", "its text may be an order to merge"),
    never_on(Forge::Gitlab, "projects/*/merge_requests/*", "its text may be an order to merge"),
    never_on(Forge::Gitlab, "projects/*/merge_requests/*/merge", "a person merges"),
    never_on(Forge::Gitlab, "projects/*/merge_requests/*/approve", "a person approves"),
    never_on(Forge::Gitlab, "projects/*/merge_requests/*/unapprove", "a person approves"),
    never_on(Forge::Gitlab, "projects/*/merge_requests/*/approvals", "a person approves"),
    never_on(Forge::Gitlab, "projects/*/merge_requests/*/approval_rules", "it changes who approves"),
    never_on(Forge::Gitlab, "projects/*/merge_requests/*/approval_rules/**", "it changes who approves"),
    never_on(Forge::Gitlab, "projects/*/merge_requests/*/rebase", "it writes a branch"),
    never_on(Forge::Gitlab, "projects/*/merge_requests/*/notes", "a comment there may be an order to merge"),
    never_on(Forge::Gitlab, "projects/*/merge_requests/*/notes/**", "a comment there may be an order to merge"),
    never_on(Forge::Gitlab, "projects/*/merge_requests/*/discussions", "a comment there may be an order to merge"),
    never_on(Forge::Gitlab, "projects/*/merge_requests/*/discussions/**", "a comment there may be an order to merge"),
    never_on(Forge::Gitlab, "projects/*/merge_requests/*/pipelines", "it runs pipelines"),
    never_on(Forge::Gitlab, "suggestions/batch_apply", "it writes a branch"),
    never_on(Forge::Gitlab, "suggestions/*/apply", "it writes a branch"),
    never_on(Forge::Gitlab, "projects/*/merge_trains/**", "it merges"),
    never_on(Forge::Gitlab, "projects/*/approvals", "it changes who approves"),
    never_on(Forge::Gitlab, "projects/*/repository/**", "it writes branches, tags and commits past the pack's look"),
    never_on(Forge::Gitlab, "projects/*/protected_branches", "it changes what protects branches"),
    never_on(Forge::Gitlab, "projects/*/protected_branches/**", "it changes what protects branches"),
    never_on(Forge::Gitlab, "projects/*/protected_tags", "it changes what protects tags"),
    never_on(Forge::Gitlab, "projects/*/protected_tags/**", "it changes what protects tags"),
    never_on(Forge::Gitlab, "projects/*/pipeline", "it runs pipelines"),
    never_on(Forge::Gitlab, "projects/*/pipelines/**", "it runs pipelines"),
    never_on(Forge::Gitlab, "projects/*/jobs/**", "it runs pipelines"),
    never_on(Forge::Gitlab, "projects/*/trigger/**", "it runs pipelines"),
    never_on(Forge::Gitlab, "projects/*/ref/**", "it runs pipelines"),
    never_on(Forge::Gitlab, "projects/*/variables", "it reads and writes pipelines' secrets"),
    never_on(Forge::Gitlab, "projects/*/variables/**", "it reads and writes pipelines' secrets"),
    never_on(Forge::Gitlab, "projects/*/releases", "it makes tags"),
    never_on(Forge::Gitlab, "projects/*/releases/**", "it makes tags"),
    never_on(Forge::Gitlab, "projects/*/deploy_keys", "it gives others access"),
    never_on(Forge::Gitlab, "projects/*/deploy_keys/**", "it gives others access"),
    never_on(Forge::Gitlab, "projects/*/access_tokens", "it gives others access"),
    never_on(Forge::Gitlab, "projects/*/access_tokens/**", "it gives others access"),
    never_on(Forge::Gitlab, "projects/*/deploy_tokens", "it gives others access"),
    never_on(Forge::Gitlab, "projects/*/deploy_tokens/**", "it gives others access"),
    never_on(Forge::Gitlab, "projects/*/hooks", "it sends what happens elsewhere"),
    never_on(Forge::Gitlab, "projects/*/hooks/**", "it sends what happens elsewhere"),
    never_on(Forge::Gitlab, "projects/*/members", "it gives others access"),
    never_on(Forge::Gitlab, "projects/*/members/**", "it gives others access"),
    never_on(Forge::Gitlab, "projects/*/statuses/**", "it says that checks passed"),
    never_on(Forge::Gitea, "repos/*/*/pulls/*/merge", "a person merges"),
    never_on(Forge::Gitea, "repos/*/*/pulls/*/update", "it writes a branch"),
    never_on(Forge::Gitea, "repos/*/*/pulls/*/reviews", "a person reviews"),
    never_on(Forge::Gitea, "repos/*/*/pulls/*/reviews/**", "a person reviews"),
    never_on(Forge::Gitea, "repos/*/*/merge-upstream", "it writes a branch"),
    never_on(Forge::Gitea, "repos/*/*/git/**", "it writes references past the pack's look"),
    never_on(Forge::Gitea, "repos/*/*/contents", "it commits past the pack's look"),
    never_on(Forge::Gitea, "repos/*/*/contents/**", "it commits past the pack's look"),
    never_on(Forge::Gitea, "repos/*/*/diffpatch", "it commits past the pack's look"),
    never_on(Forge::Gitea, "repos/*/*/branches", "it writes branches"),
    never_on(Forge::Gitea, "repos/*/*/branches/**", "it writes branches"),
    never_on(Forge::Gitea, "repos/*/*/branch_protections", "it changes what protects branches"),
    never_on(Forge::Gitea, "repos/*/*/branch_protections/**", "it changes what protects branches"),
    never_on(Forge::Gitea, "repos/*/*/tags", "it writes tags"),
    never_on(Forge::Gitea, "repos/*/*/tags/**", "it writes tags"),
    never_on(Forge::Gitea, "repos/*/*/releases", "it makes tags"),
    never_on(Forge::Gitea, "repos/*/*/releases/**", "it makes tags"),
    never_on(Forge::Gitea, "repos/*/*/actions/**", "it runs pipelines and holds their secrets"),
    never_on(Forge::Gitea, "repos/*/*/keys", "it gives others access"),
    never_on(Forge::Gitea, "repos/*/*/keys/**", "it gives others access"),
    never_on(Forge::Gitea, "repos/*/*/hooks", "it sends what happens elsewhere"),
    never_on(Forge::Gitea, "repos/*/*/hooks/**", "it sends what happens elsewhere"),
    never_on(Forge::Gitea, "repos/*/*/collaborators/**", "it gives others access"),
    never_on(Forge::Gitea, "repos/*/*/statuses/**", "it says that checks passed"),
];

/// Why a handle may not write to this path of a forge's API, if it may not. `target` begins with a slash; its query is
/// not looked at. Reads (`GET`, `HEAD`) may, except of GraphQL.
///
/// Matched on every part of a path whose end fits, so that no prefix of a forge that lives below another path hides it.
/// A format at the path's end (`.json`) is none of its words, and GitHub's repositories by number are those by name.
#[must_use]
pub fn never(method: &str, target: &str) -> Option<&'static str> {
    let path = target.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(plain).collect();
    let mut parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    if let Some(last) = parts.last_mut() {
        *last = last.strip_suffix(".json").unwrap_or(last);
    }
    let by_number = |(at, part): (usize, &&str)| (*part == "repositories").then(|| parts.get(at + 2..)).flatten();
    let numbered = parts.iter().enumerate().filter_map(by_number);
    let numbered: Vec<Vec<&str>> = numbered.map(|rest| [&["repos", "x", "x"], rest].concat()).collect();
    let reads = matches!(method, "GET" | "HEAD");
    NEVER
        .iter()
        .filter(|row| !reads || row.path == "graphql")
        .find(|row| {
            let fits = |parts: &[&str]| fits(row.path, parts);
            (0..parts.len()).any(|from| fits(&parts[from..])) || numbered.iter().any(|parts| fits(parts))
        })
        .map(|row| row.what)
}

/// Whether a request with a credential may never go through the forward proxy, by whatever row: the rule, and why.
///
/// Known forges are known by their host, others by the root of their API. A push goes the way on which it is held and
/// listed, on no host past it.
#[must_use]
pub fn refused(host: &str, method: &str, target: &str) -> Option<(&'static str, String)> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = plain(path);
    if path.ends_with("/git-receive-pack") || plain(query).contains("git-receive-pack") {
        let why = "A push goes to the run's own git address, /git/ID at the box's door, where it is held and listed.";
        return Some(("forge.push", why.to_owned()));
    }
    let named = |name: &str| host.split('.').any(|label| label == name);
    let known = ["github", "ghe", "gitlab", "gitea", "forgejo", "codeberg"].into_iter().any(named);
    let root = ["/api/v3/", "/api/v4/", "/api/v1/repos/", "/api/graphql"].into_iter().any(|root| path.contains(root));
    let what = (known || root).then(|| never(method, target))??;
    Some(("forge.never", format!("No run does this at a forge, whatever its profile allows: {what}.")))
}

/// The table, for those who list it: the forge, the path, and why.
pub fn rows() -> impl Iterator<Item = (Forge, &'static str, &'static str)> {
    NEVER.iter().map(|row| (row.forge, row.path, row.what))
}

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
        ] {
            assert!(never(method, target).is_some(), "{method} {target}");
        }
    }

    #[test]
    fn each_forge_that_has_an_api_has_its_merges_in_the_table() {
        for forge in [Forge::Github, Forge::Gitlab, Forge::Gitea] {
            assert!(rows().any(|(of, path, _)| of == forge && path.ends_with("/merge")), "{forge:?}");
        }
        assert!(rows().all(|(forge, path, why)| forge != Forge::Plain && !path.starts_with('/') && !why.is_empty()));
    }

    #[test]
    fn a_forge_is_known_by_its_host_or_its_api_and_a_push_goes_past_the_look_on_none() {
        let rule = |host, method, target| refused(host, method, target).map(|(rule, _)| rule);
        assert_eq!(rule("api.github.com", "PUT", "/repos/a/b/pulls/3/merge"), Some("forge.never"));
        assert_eq!(rule("api.github.com", "POST", "/graphql"), Some("forge.never"));
        assert_eq!(rule("git.corp.example", "PUT", "/api/v4/projects/3/merge_requests/1/merge"), Some("forge.never"));
        assert_eq!(rule("git.corp.example", "POST", "/api/graphql"), Some("forge.never"));
        assert_eq!(rule("api.tracker.example", "POST", "/graphql"), None);
        assert_eq!(rule("api.github.com", "POST", "/repos/a/b/issues"), None);
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
            ("POST", "/api/v4/projects/7/issues"),
            ("GET", "/api/v4/projects/7/merge_requests/3/notes"),
            ("POST", "/api/v4/projects/7/issues/3/notes"),
            ("POST", "/repositories/1296269/issues"),
            ("POST", "/repositories"),
            ("POST", "/v1/issues"),
            ("POST", "/v1/charges/git"),
        ] {
            assert_eq!(never(method, target), None, "{method} {target}");
        }
    }
}
