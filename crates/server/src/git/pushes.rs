//! The pushes of a run: what came of those that were let through, and whether another may be.
//!
//! Read [`may_push`], then [`pushed`].

use crate::app::App;
use api::git::GitPush;
use model::{Author, Authors, Event, Repository, RunId};
use policy::Refusal;
use policy::git::pipelines::Pipelines;
use policy::git::{Update, authors};
use store::StoreError;

/// The object name that stands for none.
const ZERO: &str = "0000000000000000000000000000000000000000";
/// Pushes that are read at a time: each may name 200 paths.
const PAGE: u32 = 64;
/// Pipeline files that a refusal names.
const NAMED: usize = 5;

/// The pushes of a run that its upstream is known to have made: of all its repositories, in order.
///
/// # Errors
/// The store's.
pub async fn pushed(app: &App, run: &RunId) -> Result<Vec<Pushed>, StoreError> {
    let mut all = let_through(app, run).await?;
    all.retain(|push| push.end == End::Made);
    Ok(all)
}

/// The pushes of a run that were let through, whatever came of them.
pub(super) async fn let_through(app: &App, run: &RunId) -> Result<Vec<Pushed>, StoreError> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = app.store.events_of_kind_after(run, "push", after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = last.n;
        for entry in page {
            if let Event::Push { grant, repository, reference, new, fresh, .. } = entry.event() {
                // Of all that passed, what is kept with the push's own grant.
                let passed = app.store.passed(&grant).await?;
                let end = passed.map_or(End::Unknown, |(status, interrupted)| End::of(status, interrupted));
                all.push(Pushed { repository, reference, new, fresh, end });
            }
        }
    }
}

/// A push that was let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The repository's id.
    pub repository: String,
    /// The reference, whole.
    pub reference: String,
    /// What it became, or was to become.
    pub new: String,
    /// The upstream had not had that before.
    fresh: bool,
    end: End,
}

/// What is known to have come of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The upstream said so, to the end of its report.
    Made,
    /// The upstream refused it.
    Refused,
    /// The upstream's word was lost: it may have been made.
    Unknown,
}

impl End {
    const fn of(status: u16, interrupted: bool) -> Self {
        match status {
            200 if !interrupted => Self::Made,
            400..=499 => Self::Refused,
            _ => Self::Unknown,
        }
    }
}

/// A push by the repository's row, the run's own branch, and what the run pushed before.
pub(super) fn may_push(
    repository: &Repository,
    branch: &str,
    push: &GitPush,
    before: &[Pushed],
    author: &Author,
) -> Result<(), Refusal> {
    let update = Update { reference: &push.reference, old: &push.old, new: &push.new };
    policy::git::may_push(repository, branch, &update)?;
    let own = push.reference.strip_prefix("refs/heads/") == Some(branch);
    // What the upstream says counts, not what the pusher believes.
    let stands = push.there.as_deref().or(Some(push.old.as_str()).filter(|old| *old != ZERO));
    // A push whose answer was lost may have been made: then the branch stands where that push was to set it. Where the
    // upstream had that commit before, anybody may have set it there.
    let was_pushed =
        before.iter().filter(|p| p.repository == repository.id && p.reference == push.reference).any(|p| match p.end {
            End::Made => true,
            End::Unknown => p.fresh && Some(p.new.as_str()) == stands,
            End::Refused => false,
        });
    if own && stands.is_some() && !was_pushed {
        let why = format!("A branch {branch} is there already, and this run did not make it. Start another run.");
        return Err(Refusal::new("git.taken", why));
    }
    // The gateway marks them; what it named is looked at once more.
    let held = Pipelines::of(repository);
    let marked = push.pipelines.iter().chain(push.paths.iter().filter(|path| held.hold(path)));
    let mut files: Vec<&str> = marked.map(String::as_str).collect();
    files.sort_unstable();
    files.dedup();
    if !files.is_empty() && !repository.pipelines_without_secrets {
        let named: Vec<&str> = files.iter().copied().take(NAMED).collect();
        let why = format!(
            "The push changes what the forge runs ({}), and the profile does not say that the repository runs nothing \
             with secrets on a proposal's branch. Take these changes out and push again, or say in your answer what they \
             are to be and let a person make them.",
            named.join(", ")
        );
        return Err(Refusal::new("git.pipelines", why));
    }
    if push.others_count > 0 && repository.authors == Authors::Person {
        return Err(authors::refusal(author, &push.others, push.others_count, push.commits, push.onto.as_deref()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "1111111111111111111111111111111111111111";

    fn rule(more: &str, reference: &str, old: &str, paths: &[&str], before: &[Pushed]) -> &'static str {
        judged(more, reference, old, paths, before, |_| {})
    }

    fn judged(
        more: &str,
        reference: &str,
        old: &str,
        paths: &[&str],
        before: &[Pushed],
        change: impl Fn(&mut GitPush),
    ) -> &'static str {
        let text = format!(r#"{{"id":"app","url":"https://github.com/acme/app","secret":"capability/acme"{more}}}"#);
        let repository: Repository = serde_json::from_str(&text).unwrap();
        let mut push = GitPush {
            reference: reference.to_owned(),
            old: old.to_owned(),
            new: A.to_owned(),
            bytes: 1,
            objects: 1,
            paths: paths.iter().map(|p| (*p).to_owned()).collect(),
            paths_count: paths.len() as u64,
            paths_sha256: String::new(),
            pipelines: Vec::new(),
            lease: model::LeaseId::parse("lease").unwrap(),
            there: None,
            fresh: true,
            commits: 2,
            others: Vec::new(),
            others_count: 0,
            onto: None,
        };
        change(&mut push);
        let author = authors::author("tess", Some("worker"));
        may_push(&repository, "pr/tess/t", &push, before, &author).map_or_else(|no| no.rule, |()| "")
    }

    #[test]
    fn a_branch_of_the_runs_name_that_the_run_did_not_make_is_not_moved() {
        let mine = "refs/heads/pr/tess/t";
        let before = |repository: &str| Pushed {
            repository: repository.into(),
            reference: mine.into(),
            new: A.into(),
            fresh: true,
            end: End::Made,
        };
        assert_eq!(rule("", mine, ZERO, &["a"], &[]), "");
        assert_eq!(rule("", mine, A, &["a"], &[]), "git.taken");
        assert_eq!(rule("", mine, A, &["a"], &[before("other")]), "git.taken");
        assert_eq!(rule("", mine, A, &["a"], &[before("app")]), "");
    }

    #[test]
    fn a_run_goes_on_with_its_branch_after_a_push_whose_answer_was_lost_and_not_after_a_refused_one() {
        let mine = "refs/heads/pr/tess/t";
        let of = |status, interrupted, new: &str, fresh| {
            let end = End::of(status, interrupted);
            let (repository, reference) = ("app".into(), mine.into());
            let before = Pushed { repository, reference, new: new.into(), fresh, end };
            rule("", mine, A, &["a"], &[before])
        };
        let after = |status, interrupted, new: &str| of(status, interrupted, new, true);
        let other = "2222222222222222222222222222222222222222";
        assert_eq!(after(0, true, A), "", "no answer came");
        assert_eq!(after(200, true, A), "", "the report broke off");
        assert_eq!(after(502, true, A), "", "a proxy before the host lost it");
        assert_eq!(after(0, true, other), "git.taken", "the branch is not where the run would have set it");
        assert_eq!(after(200, true, other), "git.taken");
        assert_eq!(after(200, false, other), "", "it is the run's own, whoever moved it on");
        assert_eq!(after(422, false, A), "git.taken", "the branch was there before");
        assert_eq!(after(403, true, A), "git.taken");
        assert_eq!(of(0, true, A, false), "git.taken", "the upstream had that commit: another may have set it there");
        assert_eq!(of(200, false, A, false), "", "the upstream said that it made it");
    }

    #[test]
    fn what_the_upstream_says_of_the_branch_counts_and_not_what_a_box_believes() {
        let mine = "refs/heads/pr/tess/t";
        let there = |push: &mut GitPush| push.there = Some(A.into());
        assert_eq!(judged("", mine, ZERO, &["a"], &[], there), "git.taken", "it says that there is none");
    }

    #[test]
    fn commits_of_others_are_pushed_where_the_profile_says_so() {
        let mine = "refs/heads/pr/tess/t";
        let others = |push: &mut GitPush| (push.others, push.others_count) = (vec![A.into()], 1);
        assert_eq!(judged("", mine, ZERO, &["a"], &[], others), "git.authors");
        assert_eq!(judged(r#","authors":"any""#, mine, ZERO, &["a"], &[], others), "");
    }

    #[test]
    fn a_push_that_changes_what_a_forge_runs_is_held_unless_the_profile_says_otherwise() {
        let mine = "refs/heads/pr/tess/t";
        assert_eq!(rule("", mine, ZERO, &["a", ".github/workflows/ci.yml"], &[]), "git.pipelines");
        assert_eq!(rule("", mine, ZERO, &[".github/"], &[]), "git.pipelines");
        assert_eq!(rule("", mine, ZERO, &["build/ci.yml"], &[]), "");
        assert_eq!(rule(r#","pipelines":["build/*.yml"]"#, mine, ZERO, &["build/ci.yml"], &[]), "git.pipelines");
        assert_eq!(rule(r#","pipelines-without-secrets":true"#, mine, ZERO, &[".github/workflows/ci.yml"], &[]), "");
    }
}
