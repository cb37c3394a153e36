//! Repositories that a run may fetch from and propose to: the `[[repository]]` rows of a profile.
//!
//! This is text with a form. What a row allows is `policy::git`'s word. A run's rows are those that its profile had
//! when it was accepted; a box names one of them by its id and nothing else.

use serde::{Deserialize, Serialize};

/// One repository. Unknown keys are an error, so that a typo is not a hole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Repository {
    /// What a box calls it: the path segment after `/git/`. 1 to 64 characters of `a-z`, `0-9` and `-`.
    pub id: String,
    /// Where it is: `https://host[:port]/path`, without user, query and fragment.
    pub url: String,
    /// The secret that opens it, by its name in the vault; none for what everybody may read. Without one there is no push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The user beside the secret; what the forge wants unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What serves it: known by its host unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forge: Option<Forge>,
    /// Branches that may be pushed beside the one that is minted for the run, by their whole names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<String>,
    /// Tags that may be pushed, by their whole names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The repository runs nothing that has a secret on a proposal's branch, so that a proposal may change its pipeline
    /// files. A push that changes one is held unless this is said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pipelines_without_secrets: bool,
    /// A pull request may be opened as whoever the repository's secret belongs to, when the person has no sign-in of
    /// their own there. Its text says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proposals_as_app: bool,
}

/// What serves a repository, and how it wants to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forge {
    /// GitHub, also an Enterprise Server.
    Github,
    /// GitLab.
    Gitlab,
    /// Gitea and Forgejo.
    Gitea,
    /// Git alone: there are no pull requests.
    Plain,
}
