//! Keys of which their vendor makes narrower, shorter ones: what is made, for how long, and whether it can be ended.
//!
//! A key that is set as one of these goes nowhere itself: it signs, or opens, one request to its vendor, and the lease
//! carries what comes back. The list is this page and nothing else; what the vendor is told beside is `model::mint`'s.

use crate::providers::Group;
use std::fmt::Write as _;

/// In which form a minted value comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One text that stands in a header.
    Token,
    /// An id, a key that signs, and a token of the session.
    Three,
}

/// One kind of key of which narrower ones are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minter {
    /// As it is written: `github-app`.
    pub id: &'static str,
    /// Whose it is.
    pub group: Group,
    /// The form of what is made.
    pub form: Form,
    /// Whether it opens repositories.
    pub git: bool,
    /// What is stored: the key.
    pub key: &'static str,
    /// What is made of it, and how narrow that is.
    pub makes: &'static str,
    /// The shortest life that the vendor gives, in seconds; what is made lives that long or as long as its lease,
    /// whichever is longer.
    pub least_seconds: u32,
    /// Whether the vendor ends it when it is asked to; else it ends by itself, at the end of its life.
    pub revocable: bool,
}

/// All of them.
pub const MINTERS: [Minter; 3] = [
    Minter {
        id: "github-app",
        group: Group::Forge,
        form: Form::Token,
        git: true,
        key: "the app's private key (PEM)",
        makes: "an installation's token, for the one repository of the lease and what the capability needs there",
        least_seconds: 3_600,
        revocable: true,
    },
    Minter {
        id: "aws-role",
        group: Group::Cloud,
        form: Form::Three,
        git: false,
        key: "the secret access key of who may assume the role",
        makes: "a session of the role, within the session policy if there is one",
        least_seconds: 900,
        revocable: false,
    },
    Minter {
        id: "kubernetes-account",
        group: Group::Cloud,
        form: Form::Token,
        git: false,
        key: "a bearer token that may ask for tokens of the account",
        makes: "a token of the service account, for the audiences that were set",
        least_seconds: 600,
        revocable: false,
    },
];

impl Minter {
    /// The minter of this id.
    #[must_use]
    pub fn of(id: &str) -> Option<&'static Self> {
        MINTERS.iter().find(|minter| minter.id == id)
    }
}

/// The list as a part of a page of `docs/generated`.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "\n# Keys that are not used but minted from\n\nGenerated from `policy::minters`; do not edit. A key that is set as one of these \
         goes into one signed request to its vendor, and nowhere else; what the vendor makes of it is the lease's.\n\n\
         | kind | is a | what is stored | what a lease carries | lives at least | ended with its lease |\n|---|---|---|---|---|---|\n",
    );
    for Minter { id, group, key, makes, least_seconds, revocable, .. } in MINTERS {
        let ended = if revocable { "yes" } else { "no, it ends by itself" };
        // Writing to a String does not fail.
        let _ = writeln!(page, "| `{id}` | {group} | {key} | {makes} | {least_seconds} s | {ended} |");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::Provider;

    #[test]
    fn a_minter_is_no_provider_and_each_has_a_line_on_the_page() {
        let page = page();
        for minter in &MINTERS {
            assert_eq!(Provider::of(minter.id), None);
            assert_eq!(Minter::of(minter.id), Some(minter));
            assert!(page.contains(&format!("| `{}` |", minter.id)));
        }
        assert_eq!(Minter::of("github"), None);
    }
}
