//! What a run may do with a repository: which addresses name it, which references may be pushed, which files decide
//! what a forge runs, and what may be asked of a forge's API.
//!
//! Read [`check`] (a profile's row), [`minted`] (the run's own branch), [`may_push`], [`pipelines`], then [`authors`] (whose
//! commits), [`words`] (what a proposal says) and [`forge`].

pub mod authors;
pub mod forge;
pub mod pipelines;
pub mod words;

use crate::Refusal;
use crate::egress::target::{self, Scheme};
use model::{Forge, Moment, Repository};

/// The id of the repository on its host that a run works on. No profile's row has it.
pub const LOCAL: &str = "local";

/// The row of a run's repository on its host: it is served like another, to this run alone.
#[must_use]
pub fn local() -> Repository {
    Repository {
        id: LOCAL.into(),
        url: String::new(),
        secret: None,
        user: None,
        forge: Some(Forge::Plain),
        tags: Vec::new(),
        pipelines: Vec::new(),
        pipelines_without_secrets: false,
        proposals_as_app: false,
        proposals: model::Proposals::Person,
        authors: model::Authors::Person,
    }
}

/// Whether this is the row of a run's repository on its host.
#[must_use]
pub fn is_local(row: &Repository) -> bool {
    row.id == LOCAL && row.url.is_empty()
}

/// Whether anything is ever pushed to a repository from a run.
#[must_use]
pub fn takes_pushes(row: &Repository) -> bool {
    row.secret.is_some() || is_local(row)
}

/// Rows of one profile.
pub const MAX_ROWS: usize = 64;
/// Longest name of a reference, in bytes.
pub const MAX_REFERENCE: usize = 250;
/// The object name that stands for none.
const ZERO: &str = "0000000000000000000000000000000000000000";

/// Whether a text is a repository's id: 1 to 64 characters of `a-z`, `0-9` and `-`, not `-` first.
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Checks a profile's rows.
///
/// # Errors
/// What is wrong with the first row that is, as the end of a sentence.
pub fn check(rows: &[Repository]) -> Result<(), String> {
    if rows.len() > MAX_ROWS {
        return Err(format!("it has more than {MAX_ROWS} repositories"));
    }
    for (n, row) in rows.iter().enumerate() {
        let id = &row.id;
        if !is_id(id) {
            return Err(format!("{id:?} is no id of a repository: it takes 1 to 64 of a-z, 0-9 and '-'"));
        }
        if id == LOCAL {
            return Err(format!(
                "{LOCAL:?} is what a run calls its own repository on its host; give this one another id"
            ));
        }
        if rows[..n].iter().any(|other| other.id == *id) {
            return Err(format!("there are two repositories {id:?}"));
        }
        Place::of(&row.url).map_err(|why| format!("the repository {id:?} has a url that {why}"))?;
        if row.user.as_ref().is_some_and(|user| !plain_user(user)) {
            return Err(format!("the repository {id:?} has a user that cannot stand in a header"));
        }
        if let Some(name) = row.tags.iter().find(|name| !is_reference(name) || name.starts_with("refs/")) {
            return Err(format!("the repository {id:?} names the tag {name:?}, which no tag can have"));
        }
        pipelines::check(row)?;
    }
    Ok(())
}

fn plain_user(user: &str) -> bool {
    (1..=64).contains(&user.len()) && user.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b))
}

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The host in its one spelling.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path, with the slash before it and none after it.
    pub path: String,
}

impl Place {
    /// Takes an address apart.
    ///
    /// # Errors
    /// The end of a sentence about the address.
    pub fn of(url: &str) -> Result<Self, &'static str> {
        let absolute = target::absolute(url).map_err(|_| "is no plain https address")?;
        if absolute.scheme != Scheme::Https {
            return Err("is not https: no credential goes another way");
        }
        let path = absolute.path.trim_end_matches('/');
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.~+@".contains(&b);
        if path.len() < 2 || path.len() > 512 || !path.bytes().all(plain) {
            return Err("has no path of letters, digits and -_.~+@ (and no query)");
        }
        if path.split('/').any(|part| part == "." || part == "..") {
            return Err("climbs");
        }
        Ok(Self { host: absolute.host.as_str().to_owned(), port: absolute.port, path: path.to_owned() })
    }

    /// The other addresses by which people and tools name the same repository, longest first: with and without `.git`,
    /// over `ssh`, and in the short form of `ssh`.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let bare = self.path.strip_suffix(".git").unwrap_or(&self.path);
        let (host, short) = (&self.host, bare.trim_start_matches('/'));
        let https = if self.port == 443 { host.clone() } else { format!("{host}:{}", self.port) };
        let mut all = Vec::new();
        for end in [".git", ""] {
            all.push(format!("https://{https}{bare}{end}"));
            for user in ["git@", ""] {
                all.push(format!("ssh://{user}{host}{bare}{end}"));
                all.push(format!("ssh://{user}{host}:22{bare}{end}"));
            }
            all.push(format!("git@{host}:{short}{end}"));
            all.push(format!("git://{host}{bare}{end}"));
        }
        all.sort_by_key(|name| std::cmp::Reverse(name.len()));
        all
    }
}

/// What serves a repository: as its row says, or known by its host.
#[must_use]
pub fn forge_of(row: &Repository) -> Forge {
    if let Some(forge) = row.forge {
        return forge;
    }
    let host = Place::of(&row.url).map(|place| place.host).unwrap_or_default();
    let named = |name: &str| host.split('.').any(|label| label == name);
    match () {
        () if named("github") => Forge::Github,
        () if named("gitlab") => Forge::Gitlab,
        () if named("gitea") || named("forgejo") || named("codeberg") => Forge::Gitea,
        () => Forge::Plain,
    }
}

/// The user beside a token, as the forge wants it.
#[must_use]
pub fn user_of(row: &Repository) -> String {
    match (&row.user, forge_of(row)) {
        (Some(user), _) => user.clone(),
        (None, Forge::Github) => "x-access-token".into(),
        (None, Forge::Gitlab | Forge::Gitea | Forge::Plain) => "oauth2".into(),
    }
}

/// The branch that is a run's own: `pr/<who>/<time>`, the time to the thousandth of a second, UTC.
///
/// Derived, never stored: the same person and moment give the same name.
#[must_use]
pub fn minted(person: &str, created: Moment) -> String {
    let mut who = String::new();
    for c in person.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' | '0'..='9' => who.push(c),
            _ if who.ends_with('-') || who.is_empty() => {}
            _ => who.push('-'),
        }
        if who.len() == 40 {
            break;
        }
    }
    let who = who.trim_end_matches('-');
    let who = if who.is_empty() { "person" } else { who };
    format!("pr/{who}/{}", utc(created))
}

/// `20260102-030405-678`.
fn utc(at: Moment) -> String {
    let ms = at.0.max(0);
    let (seconds, ms) = (ms / 1000, ms % 1000);
    let (mut days, time) = (seconds / 86_400, seconds % 86_400);
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year = 1970;
    while days >= 365 + i64::from(is_leap(year)) && year < 9999 {
        days -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + i64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}{month:02}{:02}-{hour:02}{minute:02}{second:02}-{ms:03}", days + 1)
}

/// Whether a text can be the name of a reference, by git's own rules and a little stricter: plain ASCII, no part that
/// begins with a dot or ends in `.lock`, nothing that any shell or URL reads in two ways.
#[must_use]
pub fn is_reference(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.+#=%,".contains(&b);
    !name.is_empty()
        && name.len() <= MAX_REFERENCE
        && name.bytes().all(plain)
        && !name.contains("..")
        && name.split('/').all(|part| {
            !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with('.') && !part.ends_with(".lock")
        })
}

/// One update of a reference, as a push asks for it.
#[derive(Debug, Clone, Copy)]
pub struct Update<'u> {
    /// The whole name.
    pub reference: &'u str,
    /// What it is now, as the pusher believes; all zeros for nothing.
    pub old: &'u str,
    /// What it is to become; all zeros for nothing.
    pub new: &'u str,
}

/// Judges one update by a repository's row and the run's own branch.
///
/// The run's own branch may be moved anywhere, also to what does not follow from where it was: it is this run's alone,
/// and what it was stands in the record. No row allows another branch: what is on one is merged by nobody but a person.
///
/// # Errors
/// `git.read-only`, `git.delete`, `git.tag`, `git.branch`.
pub fn may_push(row: &Repository, own: &str, update: &Update) -> Result<(), Refusal> {
    let no = |rule, why: String| Err(Refusal::new(rule, why));
    let mine = format!("Push to {own}, the branch that is this run's own: git push origin HEAD:refs/heads/{own}");
    if !takes_pushes(row) {
        return no("git.read-only", format!("The repository {:?} is one to read: nothing is pushed to it.", row.id));
    }
    if update.new == ZERO {
        return no("git.delete", format!("Nothing is deleted in a repository from a run. {mine}"));
    }
    if let Some(tag) = update.reference.strip_prefix("refs/tags/") {
        if !row.tags.iter().any(|name| name == tag) {
            return no("git.tag", format!("The profile lets no such tag be pushed. {mine}"));
        }
        if update.old != ZERO {
            return no("git.tag", "A tag that is there is not moved from a run.".into());
        }
        return Ok(());
    }
    match update.reference.strip_prefix("refs/heads/") {
        Some(branch) if branch == own => Ok(()),
        _ => no("git.branch", format!("This branch is not this run's to push. {mine}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(more: &str) -> Repository {
        toml::from_str(&format!("id = \"app\"\nurl = \"https://github.com/acme/app.git\"\n{more}")).unwrap()
    }
    const A: &str = "1111111111111111111111111111111111111111";
    const B: &str = "2222222222222222222222222222222222222222";

    fn rule(row: &Repository, reference: &str, old: &str, new: &str) -> &'static str {
        may_push(row, "pr/tess/t", &Update { reference, old, new }).map_or_else(|no| no.rule, |()| "")
    }

    #[test]
    fn exactly_the_runs_own_branch_may_be_pushed_and_nothing_deleted() {
        let plain = row("secret = \"capability/acme\"");
        assert_eq!(rule(&plain, "refs/heads/pr/tess/t", ZERO, A), "");
        assert_eq!(rule(&plain, "refs/heads/pr/tess/t", A, B), "");
        assert_eq!(rule(&plain, "refs/heads/pr/tess/t", A, ZERO), "git.delete");
        assert_eq!(rule(&plain, "refs/tags/v1", ZERO, A), "git.tag");
        for other in [
            "refs/heads/main",
            "refs/heads/pr/tess/t2",
            "refs/heads/pr/tess",
            "refs/heads/PR/tess/t",
            "pr/tess/t",
            "refs/heads/refs/heads/pr/tess/t",
            "refs/heads/pr/tess/t\0",
            "refs/heads/pr/tess/t ",
            "refs/heads/./pr/tess/t",
            "HEAD",
            "refs/notes/x",
            "",
        ] {
            assert_eq!(rule(&plain, other, ZERO, A), "git.branch", "{other:?}");
        }
        assert_eq!(rule(&row(""), "refs/heads/pr/tess/t", ZERO, A), "git.read-only");
    }

    #[test]
    fn a_row_may_name_new_tags_and_no_branch() {
        let wide = row("secret = \"capability/acme\"\ntags = [\"v1\"]");
        assert_eq!(rule(&wide, "refs/heads/v1", ZERO, A), "git.branch");
        assert_eq!(rule(&wide, "refs/tags/v1", ZERO, A), "");
        assert_eq!(rule(&wide, "refs/tags/v1", A, B), "git.tag");
        assert_eq!(rule(&wide, "refs/tags/v2", ZERO, A), "git.tag");
        let branches = "id = \"app\"\nurl = \"https://github.com/acme/app.git\"\nbranches = [\"main\"]";
        let said = toml::from_str::<Repository>(branches).unwrap_err().to_string();
        assert!(said.contains("unknown field `branches`"), "{said}");
    }

    #[test]
    fn a_row_that_hides_something_is_wrong() {
        let wrong = |more: &str| {
            let row: Repository = toml::from_str(more).unwrap();
            check(&[row]).unwrap_err()
        };
        for (url, word) in [
            ("http://github.com/a/b", "not https"),
            ("https://u:p@github.com/a/b", "no plain"),
            ("https://github.com/a/../b", "url"),
            ("https://github.com/", "path"),
            ("https://github.com/a?b=c", "url"),
            ("ssh://git@github.com/a/b", "no plain"),
            ("/srv/repo", "no plain"),
        ] {
            let said = wrong(&format!("id = \"a\"\nurl = {url:?}"));
            assert!(said.contains(word), "{url}: {said}");
        }
        assert!(wrong("id = \"A\"\nurl = \"https://a.example/x\"").contains("no id"));
        assert!(wrong("id = \"a\"\nurl = \"https://a.example/x\"\ntags = [\"a..b\"]").contains("tag"));
        assert!(check(&[row("pipelines = [\"/x\"]")]).unwrap_err().contains("pipeline"));
        assert!(check(&[row(""), row("")]).unwrap_err().contains("two repositories"));
        assert_eq!(check(&[row("")]), Ok(()));
    }

    #[test]
    fn a_profile_names_64_repositories_at_most_and_a_reference_has_250_bytes() {
        let rows = |count: usize| -> Vec<Repository> {
            (0..count).map(|n| Repository { id: format!("app{n}"), ..row("") }).collect()
        };
        assert_eq!(check(&rows(64)), Ok(()));
        assert!(check(&rows(65)).unwrap_err().contains("more than 64"));
        assert!(is_reference(&"a".repeat(250)) && !is_reference(&"a".repeat(251)));
    }

    #[test]
    fn the_names_of_a_repository_are_those_that_people_write() {
        let names = Place::of("https://github.com/acme/app.git").unwrap().names();
        for name in [
            "https://github.com/acme/app.git",
            "https://github.com/acme/app",
            "ssh://git@github.com/acme/app.git",
            "ssh://git@github.com:22/acme/app",
            "git@github.com:acme/app.git",
            "git@github.com:acme/app",
        ] {
            assert!(names.iter().any(|n| n == name), "{name} {names:?}");
        }
    }

    #[test]
    fn a_branch_is_minted_of_a_person_and_a_moment() {
        assert_eq!(minted("Tess Ter", Moment(1_767_323_045_678)), "pr/tess-ter/20260102-030405-678");
        assert_eq!(minted("../..", Moment(0)), "pr/person/19700101-000000-000");
        assert_eq!(minted("a", Moment(951_782_400_000)), "pr/a/20000229-000000-000");
        assert_eq!(minted("a", Moment(1_798_761_599_999)), "pr/a/20261231-235959-999");
    }

    proptest! {
        #[test]
        fn a_minted_branch_is_always_a_name_that_a_branch_can_have(person in ".*", ms in any::<i64>()) {
            let name = minted(&person, Moment(ms));
            prop_assert!(is_reference(&name), "{name}");
            prop_assert_eq!(name.split('/').count(), 3);
        }
    }
}
