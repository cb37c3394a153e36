//! Whose commits a run may push: those of the run's person, each with a line that names the agent if one made it.
//!
//! A box gets the name and address by its settings of git and can write others; so what it pushes is read. Only commits
//! that the upstream does not have are judged: what was merged from there is whoever's it is.
//!
//! Read [`author`], then [`refusal`].

use crate::Refusal;
use model::Author;

/// The key of the line at a commit message's end that names the agent.
pub const TRAILER: &str = "Agent";
/// Commits that a refusal names.
const NAMED: usize = 3;

/// Who is to be the author and the committer of what a run for `person` commits; by the agent of `model`, if there is one.
///
/// Derived, never stored. Without what git itself would leave out of a name.
#[must_use]
pub fn author(person: &str, model: Option<&str>) -> Author {
    let crud = |c: char| c.is_whitespace() || ".,:;<>\"\\'".contains(c);
    let plain: String = person.chars().filter(|c| !c.is_control() && !matches!(c, '<' | '>')).collect();
    let name = plain.trim_matches(crud);
    let name = if name.is_empty() { "person" } else { name };
    let email = name.split_whitespace().collect::<Vec<_>>().join("-");
    let plain = |text: &str| text.chars().filter(|c| !c.is_control() && *c != '\'').collect::<String>();
    let agent = model.map(|model| format!("{TRAILER}: volary/{}", plain(model)));
    Author { name: name.to_owned(), email: format!("{email}@localhost"), trailer: agent }
}

/// The command that makes commits of a box the author's, the agent's line in each. `onto` is the one commit that they stand
/// on, where there is one; `commits` how many they are.
#[must_use]
pub fn repair(author: &Author, commits: u64, onto: Option<&str>) -> String {
    let trailer = author.trailer.as_ref().map(|trailer| format!(" --trailer '{trailer}'")).unwrap_or_default();
    let amend = format!("git commit --amend --no-edit --reset-author{trailer}");
    if commits == 1 {
        return amend;
    }
    format!("git rebase -r --autostash {} --exec \"{amend}\"", onto.unwrap_or("FETCH_HEAD"))
}

/// Why a push with these commits is not made.
#[must_use]
pub fn refusal(author: &Author, others: &[String], count: u64, commits: u64, onto: Option<&str>) -> Refusal {
    let named: Vec<&str> = others.iter().take(NAMED).map(|oid| oid.get(..12).unwrap_or(oid)).collect();
    let line =
        author.trailer.as_ref().map(|trailer| format!(", at their end a line \"{trailer}\"")).unwrap_or_default();
    let repair = repair(author, commits, onto);
    let why = format!(
        "{count} of the {commits} commit(s) that are new to the upstream ({}{}) are not as they must be: author and \
         committer {}{line}. Repair them with: {repair}",
        named.join(", "),
        if count > named.len() as u64 { ", …" } else { "" },
        author.identity(),
    );
    Refusal::new("git.authors", why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_refusal_holds_the_very_command_that_repairs_it() {
        let author = super::author("Tess Ter", Some("worker"));
        assert_eq!(author.identity(), "Tess Ter <Tess-Ter@localhost>");
        let one = refusal(&author, &["1".repeat(40)], 1, 1, None).why;
        assert!(
            one.ends_with("with: git commit --amend --no-edit --reset-author --trailer 'Agent: volary/worker'"),
            "{one}"
        );
        let many = refusal(&author, &vec!["1".repeat(40); 5], 5, 7, Some("abc")).why;
        assert!(many.contains("git rebase -r --autostash abc --exec \"git commit --amend"), "{many}");
        assert!(many.contains("…"), "{many}");
        let command = super::author("Tess", None);
        assert!(!refusal(&command, &["1".repeat(40)], 1, 1, None).why.contains("Agent"));
    }

    proptest! {
        #[test]
        fn an_identity_is_one_line_that_git_takes_as_it_is(person in ".*", model in proptest::option::of(".*")) {
            let author = super::author(&person, model.as_deref());
            let identity = author.identity();
            prop_assert!(!identity.chars().any(char::is_control));
            prop_assert_eq!(identity.matches(['<', '>']).count(), 2);
            prop_assert!(!author.name.is_empty() && author.name.trim() == author.name);
            prop_assert!(!author.email.contains(char::is_whitespace));
        }
    }
}
