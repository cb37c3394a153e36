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
    /// Tags that may be pushed beside the branch that is minted for the run, by their whole names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Files that decide what its forge runs, beside those that are known: patterns of paths, `build/*.yml`. They only add.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pipelines: Vec<String>,
    /// The repository runs nothing that has a secret on a proposal's branch, so that a proposal may change its pipeline
    /// files. A push that changes one is held unless this is said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pipelines_without_secrets: bool,
    /// A pull request may be opened as whoever the repository's secret belongs to, when the person has no sign-in of
    /// their own there. Its text says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proposals_as_app: bool,
    /// Who opens the pull request that an agent proposes.
    #[serde(default, skip_serializing_if = "Proposals::is_usual")]
    pub proposals: Proposals,
    /// Whose commits a run may push.
    #[serde(default, skip_serializing_if = "Authors::is_usual")]
    pub authors: Authors,
}

/// Who opens a pull request that an agent proposes. Whose identity it is opened under is the same either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proposals {
    /// A person does, who has read what it says.
    #[default]
    Person,
    /// It is opened at once, on the agent's word.
    Agent,
}

impl Proposals {
    fn is_usual(&self) -> bool {
        *self == Self::Person
    }
}

/// Whose commits a run may push.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Authors {
    /// Those by the run's person, and of an agent's run those alone that name the agent. What the upstream has already is
    /// anybody's.
    #[default]
    Person,
    /// Anybody's. What is another's is on the record.
    Any,
}

impl Authors {
    fn is_usual(&self) -> bool {
        *self == Self::Person
    }
}

/// Who is to be the author and the committer of what a run commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// The person's name, as git writes it into a commit.
    pub name: String,
    /// Their address there.
    pub email: String,
    /// The line that names the agent, where one makes the commits: whole, among the last lines of each message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trailer: Option<String>,
}

impl Author {
    /// The identity, as it stands in a commit's lines `author` and `committer` before the time.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("{} <{}>", self.name, self.email)
    }
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
