//! The repositories of a run: which they are, where they are at its door, and by which variables a box's git goes there.
//!
//! Read [`repositories`], then [`variables`].

use model::run::RunKind;
use model::{Author, Repository};
use policy::git::{Place, authors};
use serde::Deserialize;
use store::StoreError;
use store::runs::RunRow;

/// The variable in which commands find the branch that is their run's own.
pub const BRANCH: &str = "VOLARY_BRANCH";
/// The name of the one remote that a box's own repository has.
const ORIGIN: &str = "origin";

/// The repositories of a run, as they were when it was accepted.
///
/// # Errors
/// A profile that cannot be read.
pub fn repositories(profile: &str) -> Result<Vec<Repository>, StoreError> {
    #[derive(Deserialize)]
    struct Kept {
        #[serde(default)]
        repository: Vec<Repository>,
    }
    let corrupt = |e: serde_json::Error| StoreError::Corrupt { what: "profile", why: e.to_string() };
    serde_json::from_str::<Kept>(profile).map(|kept| kept.repository).map_err(corrupt)
}

/// Every repository of a run: those of its profile, and the one on its host that it works on.
#[must_use]
pub fn with_local(row: &RunRow, rows: &[Repository]) -> Vec<Repository> {
    let local = row.repo.as_deref().filter(|repo| !is_address(repo)).map(|_| policy::git::local());
    rows.iter().cloned().chain(local).collect()
}

/// Who is to be the author of what a run commits.
#[must_use]
pub fn author_of(row: &RunRow) -> Author {
    authors::author(&row.person, row.model.as_deref().filter(|_| row.kind == RunKind::Agent))
}

/// The branch that is a run's own.
#[must_use]
pub fn branch_of(row: &RunRow) -> String {
    policy::git::minted(&row.person, row.created)
}

/// Whether a repository's name is an address of a git host, and no path.
#[must_use]
pub fn is_address(repo: &str) -> bool {
    let short = repo.split_once(':').is_some_and(|(host, _)| host.contains('@') && !host.contains('/'));
    repo.contains("://") || short
}

/// The repository that has this address among its names.
#[must_use]
pub fn find<'r>(rows: &'r [Repository], address: &str) -> Option<&'r Repository> {
    let address = address.trim_end_matches('/');
    let same = |row: &&Repository| Place::of(&row.url).is_ok_and(|place| place.names().iter().any(|n| n == address));
    rows.iter().find(same)
}

/// Where a run's own repository is at its door, if it is one at a git host.
#[must_use]
pub fn address_of(row: &RunRow, rows: &[Repository]) -> Option<String> {
    let own = find(rows, row.repo.as_deref()?)?;
    Some(format!("http://{}/git/{}", api::inbox::DOOR, own.id))
}

/// What commands of a run's box find in their environment, so that git goes the way through the gateway without a flag:
/// every name of each repository is rewritten to its place there, the handle is shown there and nowhere else, and what is
/// pushed without a name goes to the run's own branch. Commits are the person's.
#[must_use]
pub fn variables(row: &RunRow, rows: &[Repository], handle: &str) -> Vec<(String, String)> {
    let door = format!("http://{}/git/", api::inbox::DOOR);
    let (branch, author) = (branch_of(row), author_of(row));
    let mut settings = vec![
        (format!("http.{door}.extraHeader"), format!("Authorization: Bearer {handle}")),
        ("remote.origin.push".to_owned(), format!("HEAD:refs/heads/{branch}")),
        ("user.name".to_owned(), author.name),
        ("user.email".to_owned(), author.email),
    ];
    let own = row.repo.as_deref().and_then(|repo| find(rows, repo));
    let own = own.or_else(|| rows.iter().find(|row| policy::git::is_local(row))).or(rows.first());
    let own = own.map(|own| own.id.as_str());
    for repository in rows {
        let names = Place::of(&repository.url).map(|place| place.names()).unwrap_or_default();
        let key = format!("url.{door}{}.insteadOf", repository.id);
        // The remote that the box's own repository has is the run's, or the first of them.
        let origin = (own == Some(&repository.id) && repository.id != ORIGIN).then(|| format!("{door}{ORIGIN}"));
        settings.extend(names.into_iter().chain(origin).map(|name| (key.clone(), name)));
    }
    let mut all = vec![
        (BRANCH.to_owned(), branch),
        ("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned()),
        ("GIT_CONFIG_COUNT".to_owned(), settings.len().to_string()),
    ];
    for (n, (key, value)) in settings.into_iter().enumerate() {
        all.push((format!("GIT_CONFIG_KEY_{n}"), key));
        all.push((format!("GIT_CONFIG_VALUE_{n}"), value));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_accepted_before_there_were_repositories_has_none() {
        assert_eq!(repositories(r#"{"description": "an old one"}"#).unwrap(), []);
    }
}
