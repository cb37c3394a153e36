//! What each vendor's API answers about proposals, in its documented form and no other: what one calls a number has another
//! meaning, or none, for the next.
//!
//! GitHub: "REST API endpoints for pull requests" (2022-11-28). GitLab: "Merge requests API" (v4) and "Data validation and
//! error reporting". Gitea: its swagger (v1).

use serde_json::{Value, json};

/// The repository's own number, and of each branch.
const REPOSITORY: u64 = 4711;
/// A proposal's number among those of the whole forge is so much more than the one that people know.
const APART: usize = 7_000;
/// Where a swagger or a documentation is.
const MANUAL: &str = "https://forge.example/manual";

/// Whose form it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Github,
    Gitlab,
    Gitea,
}

/// A status line's end, and a body.
pub(super) type Said = (&'static str, Value);

impl Form {
    /// By the version of the API in a target.
    pub(super) fn of(target: &str) -> Self {
        match target.split('/').nth(2) {
            Some("v4") => Self::Gitlab,
            Some("v1") => Self::Gitea,
            _ => Self::Github,
        }
    }

    /// From where to where a proposal is asked for; none in another vendor's words.
    pub(super) fn between(self, body: &Value) -> Option<(&str, &str)> {
        let (from, into) = match self {
            Self::Gitlab => ("source_branch", "target_branch"),
            _ => ("head", "base"),
        };
        Some((body[from].as_str()?, body[into].as_str()?)).filter(|_| body["title"].is_string())
    }

    /// Whether a target asks for the proposals that are open; by the wrong word for it none is.
    pub(super) fn lists(self, target: &str) -> bool {
        let (path, state) = match self {
            Self::Gitlab => ("/merge_requests", "opened"),
            _ => ("/pulls", "open"),
        };
        target.split_once('?').is_some_and(|(at, query)| {
            at.ends_with(path) && query.split('&').any(|pair| pair.strip_prefix("state=") == Some(state))
        })
    }

    /// The repository.
    pub(super) fn repository(self) -> Value {
        match self {
            Self::Gitlab => {
                json!({ "id": REPOSITORY, "path": "app", "path_with_namespace": "forge/app", "default_branch": "main" })
            }
            _ => json!({ "id": REPOSITORY, "name": "app", "full_name": "forge/app", "default_branch": "main" }),
        }
    }

    /// The proposal of this number.
    pub(super) fn one(self, number: usize, (from, into): (&str, &str)) -> Value {
        let web = format!("https://forge.example/proposals/{number}");
        let id = number + APART;
        let api = format!("https://forge.example/api/{id}");
        let repository = self.repository();
        let sha = "1".repeat(40);
        match self {
            Self::Github => {
                let at = |name: &str| json!({ "label": format!("forge:{name}"), "ref": name, "sha": sha, "repo": repository });
                json!({
                    "id": id, "url": api, "html_url": web, "number": number, "state": "open", "head": at(from),
                    "base": at(into),
                })
            }
            Self::Gitlab => json!({
                "id": id, "iid": number, "project_id": REPOSITORY, "state": "opened", "web_url": web, "sha": sha,
                "source_branch": from, "target_branch": into, "source_project_id": REPOSITORY,
                "target_project_id": REPOSITORY, "references": { "short": format!("!{number}") },
            }),
            Self::Gitea => {
                let at = |name: &str| json!({ "label": name, "ref": name, "sha": sha, "repo_id": REPOSITORY, "repo": repository });
                json!({
                    "id": id, "url": web, "html_url": web, "number": number, "state": "open", "head": at(from),
                    "base": at(into),
                })
            }
        }
    }

    /// Whoever asks is not known.
    pub(super) fn stranger(self) -> Said {
        let said = match self {
            Self::Github => json!({ "message": "Bad credentials", "documentation_url": MANUAL, "status": "401" }),
            Self::Gitlab => json!({ "message": "401 Unauthorized" }),
            Self::Gitea => json!({ "message": "invalid username, password or token", "url": MANUAL }),
        };
        ("401 Unauthorized", said)
    }

    /// There is one already, of this number.
    pub(super) fn exists(self, number: usize, (from, into): (&str, &str)) -> Said {
        match self {
            Self::Github => invalid(&format!("A pull request already exists for forge:{from}.")),
            Self::Gitlab => {
                let why = format!("Another open merge request already exists for this source branch: !{number}");
                ("409 Conflict", json!({ "message": [why] }))
            }
            Self::Gitea => {
                let why = format!(
                    "pull request already exists for these targets [id: {}, issue_id: {number}, head_repo_id: {REPOSITORY}, \
                     base_repo_id: {REPOSITORY}, head_branch: {from}, base_branch: {into}]",
                    number + APART
                );
                ("409 Conflict", json!({ "message": why, "url": MANUAL }))
            }
        }
    }

    /// It is not made, for this reason.
    pub(super) fn refusal(self, why: &str) -> Said {
        match self {
            Self::Github => invalid(why),
            Self::Gitlab => ("400 Bad Request", json!({ "message": { "title": [why] } })),
            Self::Gitea => ("422 Unprocessable Entity", json!({ "message": why, "url": MANUAL })),
        }
    }
}

/// GitHub's one form of whatever it does not take.
fn invalid(why: &str) -> Said {
    let error = json!({ "resource": "PullRequest", "code": "custom", "message": why });
    let said =
        json!({ "message": "Validation Failed", "errors": [error], "documentation_url": MANUAL, "status": "422" });
    ("422 Unprocessable Entity", said)
}
