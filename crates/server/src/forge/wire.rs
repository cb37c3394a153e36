//! What each forge wants to hear, and how its answers read.
//!
//! Read [`Api`].

use super::Credential;
use crate::fault::Fault;
use api::grants::WireSecret;
use api::platform::{CallCredential, CallLimits, CredentialForm, Method, NamedHost, PlatformCall, Purpose};
use model::{Egress, Forge, Repository, Secret};
use policy::egress::Name;
use policy::git::{Place, forge_of};
use serde::Deserialize;
use serde_json::{Value, json};
use store::StoreError;

/// How long one call to a forge may take, in seconds: three of them, and the minting before, within the minute that a minted
/// token is given for.
const SECONDS: u16 = 12;
/// Longest answer of a forge, in bytes.
const ANSWER: u32 = 1024 * 1024;

/// What one forge wants to hear.
pub(super) struct Api {
    forge: Forge,
    /// The repository in the forge's API, without a slash at its end.
    root: String,
    pub(super) host: String,
    pub(super) port: u16,
    /// Where its addresses lie, where the run's profile has an exception for this very host and port.
    within: Vec<String>,
}

impl Api {
    /// That of a repository, as a run by this profile reaches it.
    pub(super) fn of(repository: &Repository, profile: &str) -> Result<Self, Fault> {
        let forge = forge_of(repository);
        let place =
            Place::of(&repository.url).map_err(|why| Fault::bad("git.url", format!("The repository's url {why}.")))?;
        let path = place.path.strip_suffix(".git").unwrap_or(&place.path);
        let path = path.trim_matches('/');
        let own = if place.port == 443 { place.host.clone() } else { format!("{}:{}", place.host, place.port) };
        let (host, port, root) = match forge {
            Forge::Github if place.host == "github.com" => {
                ("api.github.com".to_owned(), 443, format!("https://api.github.com/repos/{path}"))
            }
            Forge::Github => (place.host, place.port, format!("https://{own}/api/v3/repos/{path}")),
            Forge::Gitlab => {
                (place.host, place.port, format!("https://{own}/api/v4/projects/{}", path.replace('/', "%2F")))
            }
            Forge::Gitea => (place.host, place.port, format!("https://{own}/api/v1/repos/{path}")),
            Forge::Plain => {
                let message = format!(
                    "The host of the repository {:?} is none of the forges that are known here, so no proposal is opened \
                     there. Say `forge = \"github\"`, \"gitlab\" or \"gitea\" in its row if it is one.",
                    repository.id
                );
                return Err(Fault::conflict("forge.plain", message));
            }
        };
        let within = within(profile, &host, port)?;
        Ok(Self { forge, root, host, port, within })
    }

    pub(super) fn call(
        &self,
        method: Method,
        rest: &str,
        body: Option<&Value>,
        credential: &Credential,
    ) -> PlatformCall {
        let mut headers = vec![("user-agent".to_owned(), "volary".to_owned())];
        let accept = match self.forge {
            Forge::Github => {
                headers.push(("x-github-api-version".to_owned(), "2022-11-28".to_owned()));
                "application/vnd.github+json"
            }
            _ => "application/json",
        };
        headers.push(("accept".to_owned(), accept.to_owned()));
        if body.is_some() {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        let form = match self.forge {
            Forge::Gitea => CredentialForm::Token,
            _ => CredentialForm::Bearer,
        };
        PlatformCall {
            purpose: Purpose::Forge,
            method,
            url: format!("{}{rest}", self.root),
            named: NamedHost { host: self.host.clone(), port: self.port, internal: false, within: self.within.clone() },
            headers,
            body: body.map(|body| WireSecret(Secret::new(body.to_string()))),
            credential: Some(CallCredential {
                form,
                value: WireSecret(credential.value.share()),
                secret: credential.name.clone(),
            }),
            limits: CallLimits { seconds: SECONDS, answer_bytes: ANSWER, send_before_ms: None },
            lease: None,
        }
    }

    /// The path and body that open a proposal.
    pub(super) fn opening(&self, branch: &str, into: &str, title: &str, text: &str) -> (&'static str, Value) {
        match self.forge {
            Forge::Gitlab => (
                "/merge_requests",
                json!({ "source_branch": branch, "target_branch": into, "title": title, "description": text }),
            ),
            _ => ("/pulls", json!({ "head": branch, "base": into, "title": title, "body": text })),
        }
    }

    /// The path that lists what is open of a branch, or of all branches where a forge does not choose.
    pub(super) fn standing(&self, branch: &str, into: &str) -> String {
        let owner = self.root.rsplit('/').nth(1).unwrap_or_default();
        let (path, pairs) = match self.forge {
            Forge::Gitlab => (
                "/merge_requests",
                vec![("state", "opened".to_owned()), ("source_branch", branch.into()), ("target_branch", into.into())],
            ),
            Forge::Github => (
                "/pulls",
                vec![("state", "open".to_owned()), ("head", format!("{owner}:{branch}")), ("base", into.into())],
            ),
            _ => {
                ("/pulls", vec![("state", "open".to_owned()), ("sort", "recentupdate".into()), ("limit", "50".into())])
            }
        };
        format!("{path}?{}", url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish())
    }

    /// What is open of this repository's own branch, in such a list.
    pub(super) fn found(&self, list: &Value, branch: &str, into: &str) -> Option<(u64, String)> {
        let at = |one: &Value, way: &str| one.pointer(way).cloned().unwrap_or_default();
        let is_ours = |one: &&Value| {
            let (from, to, theirs, ours) = match self.forge {
                Forge::Gitlab => ("/source_branch", "/target_branch", "/source_project_id", "/target_project_id"),
                _ => ("/head/ref", "/base/ref", "/head/repo/id", "/base/repo/id"),
            };
            at(one, from) == branch
                && at(one, to) == into
                && at(one, theirs).is_u64()
                && at(one, theirs) == at(one, ours)
        };
        self.opened(list.as_array()?.iter().find(is_ours)?)
    }

    /// Number and address of what was opened.
    pub(super) fn opened(&self, answer: &Value) -> Option<(u64, String)> {
        let (number, url) = match self.forge {
            Forge::Gitlab => ("iid", "web_url"),
            _ => ("number", "html_url"),
        };
        let url = answer.get(url)?.as_str().filter(|url| url.starts_with("https://") && url.len() <= 2000)?;
        Some((answer.get(number)?.as_u64()?, url.to_owned()))
    }
}

/// Why a forge refuses, in its own words: GitHub has a reason in each of `errors`, GitLab a text, a list or texts by field in
/// `message`, or an `error`, Gitea a text in `message`.
pub(super) fn reason(said: &Value) -> String {
    let mut text = String::new();
    for key in ["message", "error", "error_description", "errors"] {
        told(said.get(key).unwrap_or_default(), &mut text);
    }
    text
}

/// Adds what a value says, each text of a field after the field's name. No byte of it is repeated: whoever says it is not trusted.
fn told(value: &Value, text: &mut String) {
    let mut add = |more: &str| {
        if !text.is_empty() && !text.ends_with(": ") {
            text.push_str("; ");
        }
        text.push_str(more);
    };
    match value {
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) => add(&value.to_string()),
        Value::String(more) => add(more),
        Value::Array(all) => all.iter().for_each(|one| told(one, text)),
        Value::Object(all) => match all.get("message") {
            Some(message) => told(message, text),
            None => {
                for (name, one) in all.iter().filter(|(_, one)| !one.is_null()) {
                    told(&Value::String(format!("{name}: ")), text);
                    told(one, text);
                }
            }
        },
    }
}

/// The ranges of a profile's exception for this host and port; none without one.
fn within(profile: &str, host: &str, port: u16) -> Result<Vec<String>, StoreError> {
    #[derive(Deserialize)]
    struct Kept {
        #[serde(default)]
        egress: Egress,
    }
    let corrupt = |e: serde_json::Error| StoreError::Corrupt { what: "profile", why: e.to_string() };
    let kept: Kept = serde_json::from_str(profile).map_err(corrupt)?;
    let mut rows = kept.egress.internal.into_iter();
    let row = rows.find(|row| row.port == port && Name::parse(&row.host).is_ok_and(|name| name.as_str() == host));
    Ok(row.map(|row| row.addresses).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(url: &str, forge: &str) -> Result<Api, Fault> {
        inside(url, forge, "{}")
    }

    fn inside(url: &str, forge: &str, profile: &str) -> Result<Api, Fault> {
        let forge = if forge.is_empty() { String::new() } else { format!(r#","forge":"{forge}""#) };
        Api::of(&serde_json::from_str(&format!(r#"{{"id":"app","url":"{url}"{forge}}}"#)).unwrap(), profile)
    }

    #[test]
    fn a_profiles_exception_is_taken_for_its_very_host_and_port() {
        let row = |host: &str, port: u16| json!({ "host": host, "port": port, "addresses": ["10.2.3.0/24"] });
        let rows = [row("git.corp", 443), row("Git.Corp.", 8443), row("github.com", 443)];
        let profile = json!({ "egress": { "internal": rows } }).to_string();
        let of = |url: &str, forge: &str| inside(url, forge, &profile).unwrap().within;
        for url in ["https://git.corp/acme/app", "https://git.corp:8443/acme/app"] {
            assert_eq!(of(url, "gitea"), ["10.2.3.0/24"], "{url}");
        }
        for url in ["https://git.corp:9443/acme/app", "https://a.git.corp/acme/app", "https://gitlab.com/acme/app"] {
            assert!(of(url, "gitlab").is_empty(), "{url}");
        }
        assert!(of("https://github.com/acme/app", "").is_empty(), "its API is another host");
    }

    #[test]
    fn each_forge_is_asked_in_its_own_words() {
        for (url, forge, root, path, head) in [
            ("https://github.com/acme/app.git", "", "https://api.github.com/repos/acme/app", "/pulls", "head"),
            (
                "https://git.corp.example/acme/app",
                "github",
                "https://git.corp.example/api/v3/repos/acme/app",
                "/pulls",
                "head",
            ),
            (
                "https://gitlab.com/group/sub/app.git",
                "",
                "https://gitlab.com/api/v4/projects/group%2Fsub%2Fapp",
                "/merge_requests",
                "source_branch",
            ),
            ("https://codeberg.org/acme/app", "", "https://codeberg.org/api/v1/repos/acme/app", "/pulls", "head"),
        ] {
            let api = api(url, forge).unwrap();
            assert_eq!(api.root, root);
            let (to, body) = api.opening("pr/a/b", "main", "t", "x");
            assert_eq!((to, &body[head]), (path, &json!("pr/a/b")), "{url}");
        }
        assert_eq!(api("https://git.example/acme/app", "").err().unwrap().problem.code, "forge.plain");
    }

    #[test]
    fn of_what_is_open_only_the_repositorys_own_branch_is_found() {
        let github = api("https://github.com/acme/app.git", "").unwrap();
        assert_eq!(github.standing("pr/a b", "main"), "/pulls?state=open&head=acme%3Apr%2Fa+b&base=main");
        let one = |head: &str, base: &str, of: u64| {
            let url = format!("https://github.com/acme/app/pull/{of}");
            json!({ "number": of, "html_url": url, "head": { "ref": head, "repo": { "id": of } }, "base": { "ref": base, "repo": { "id": 7 } } })
        };
        let list =
            json!([one("pr/a", "main", 8), one("pr/b", "main", 7), one("pr/a", "old", 7), one("pr/a", "main", 7)]);
        let found = github.found(&list, "pr/a", "main").unwrap();
        assert_eq!(found, (7, "https://github.com/acme/app/pull/7".into()));
        assert_eq!(github.found(&json!([one("pr/a", "main", 8)]), "pr/a", "main"), None, "another's fork");
        assert_eq!(github.found(&json!({ "number": 7 }), "pr/a", "main"), None);
        let gitlab = api("https://gitlab.com/a/b", "").unwrap();
        assert_eq!(
            gitlab.standing("pr/a", "main"),
            "/merge_requests?state=opened&source_branch=pr%2Fa&target_branch=main"
        );
        let list = json!([{ "iid": 3, "web_url": "https://gitlab.com/3", "source_branch": "pr/a", "target_branch": "main",
                            "source_project_id": 1, "target_project_id": 1 }]);
        assert_eq!(gitlab.found(&list, "pr/a", "main"), Some((3, "https://gitlab.com/3".into())));
    }

    #[test]
    fn a_forges_reason_is_read_in_each_vendors_form() {
        let url = "https://docs.example/";
        for (said, expected) in [
            (
                json!({ "message": "Validation Failed", "documentation_url": url, "status": "422", "errors": [
                    { "resource": "PullRequest", "code": "custom", "message": "No commits between main and pr/a" },
                ] }),
                "Validation Failed; No commits between main and pr/a",
            ),
            (
                json!({ "message": "Validation Failed", "documentation_url": url, "errors": [
                    { "code": "invalid", "field": "head", "resource": "PullRequest" },
                ] }),
                "Validation Failed; code: invalid; field: head; resource: PullRequest",
            ),
            (json!({ "message": "Not so", "documentation_url": url, "errors": ["nor so"] }), "Not so; nor so"),
            (
                json!({ "message": ["Another open merge request already exists for this source branch: !5"] }),
                "Another open merge request already exists for this source branch: !5",
            ),
            (
                json!({ "message": { "author": { "name": ["is too long"] }, "title": ["can't be blank", "is odd"] } }),
                "author: name: is too long; title: can't be blank; is odd",
            ),
            (json!({ "error": "source_branch is missing" }), "source_branch is missing"),
            (
                json!({ "error": "invalid_token", "error_description": "It was revoked." }),
                "invalid_token; It was revoked.",
            ),
            (
                json!({ "message": "pull request already exists for these targets [id: 1]", "url": url }),
                "pull request already exists for these targets [id: 1]",
            ),
            (json!({ "message": "Bad credentials", "errors": null }), "Bad credentials"),
            (json!([1, true]), ""),
            (Value::Null, ""),
        ] {
            assert_eq!(reason(&said), expected, "{said}");
        }
    }

    #[test]
    fn what_was_opened_is_read_and_nothing_that_is_no_address() {
        let api = api("https://gitlab.com/a/b", "").unwrap();
        let web = |url: &str| api.opened(&json!({ "iid": 3, "web_url": url }));
        assert_eq!(
            web("https://gitlab.com/a/b/-/merge_requests/3"),
            Some((3, "https://gitlab.com/a/b/-/merge_requests/3".into()))
        );
        assert_eq!(web("javascript:alert(1)"), None);
        assert_eq!(api.opened(&json!({ "number": 3 })), None);
    }
}
