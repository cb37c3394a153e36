//! Who may ask for what: one list of scopes, sets of them as bits, and the guards of routes.
//!
//! A check is a bit test. There is no rule language and no owner bypass: a person's reach is the
//! union of their roles' scopes and nothing else. [`table`] prints the list for people to review.

use std::fmt;

/// How much harm a scope can do, and thereby how it is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Danger {
    /// Reads, without values that are secret.
    Low,
    /// Spends, or changes what others rely on; can be undone.
    Elevated,
    /// Loses something for good; confirmed scope by scope when it enters a role.
    Destructive,
    /// The installation's own; never enters a workspace's role.
    PlatformOnly,
}

impl fmt::Display for Danger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Elevated => "elevated",
            Self::Destructive => "destructive",
            Self::PlatformOnly => "platform only",
        })
    }
}

macro_rules! scopes {
    ($($name:ident $id:literal $area:literal $danger:ident $guards:literal,)*) => {
        /// A right to do one kind of thing. Each guards at least one route that works.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Scope {
            $(#[doc = $guards] $name,)*
        }

        impl Scope {
            /// All of them, in the order of their bits.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Stable id, `area-like.verb`; stored in roles and tokens.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }
            /// The area of the product it belongs to.
            #[must_use]
            pub const fn area(self) -> &'static str {
                match self { $(Self::$name => $area,)* }
            }
            /// How much harm it can do.
            #[must_use]
            pub const fn danger(self) -> Danger {
                match self { $(Self::$name => Danger::$danger,)* }
            }
            /// What it guards, in one sentence.
            #[must_use]
            pub const fn guards(self) -> &'static str {
                match self { $(Self::$name => $guards,)* }
            }
        }
    };
}

scopes! {
    RunsRead "runs.read" "runs" Low "See runs, their transcripts and results.",
    RunsCreate "runs.create" "runs" Elevated "Start a run, and write to its standard input.",
    RunsCancel "runs.cancel" "runs" Elevated "End a run.",
    RunsPause "runs.pause" "runs" Elevated "Have a run stand still where it is, and let it go on.",
    RunsPropose "runs.propose" "runs" Elevated "Open a pull request for what a run pushed, under the identity of its person.",
    SecretsList "secrets.list" "secrets" Low "See the names of secrets, who set them and when; never a value.",
    SecretsSet "secrets.set" "secrets" Elevated "Set or replace a secret.",
    SecretsDelete "secrets.delete" "secrets" Destructive "Delete a secret; its value is lost.",
    LeasesRead "leases.read" "leases" Low "See which leases are open and which were, for whom and what; never a value.",
    LeasesRevoke "leases.revoke" "leases" Elevated "Take a lease back, and end what uses it.",
    VaultRotate "vault.rotate" "secrets" Elevated "Wrap the vault with another key.",
    VaultBackup "vault.backup" "secrets" Elevated "Take a copy of everything that is kept, its secrets sealed.",
    ConnectionsRead "connections.read" "connections" Low "See the OAuth connections and how each stands; never a token.",
    ConnectionsManage "connections.manage" "connections" Elevated "Add an OAuth connection, sign in to it, end it.",
    ModelsRead "models.read" "models" Low "See which models are configured.",
    ModelsManage "models.manage" "models" Elevated "Add, change, remove and test models.",
    ProfilesEdit "profiles.edit" "profiles" Elevated "Add to a profile what would allow what a run was refused, for that run and those to come.",
    EvidenceRead "evidence.read" "evidence" Low "Export and verify the evidence.",
    ConsoleSignInLink "console.sign-in-link" "identity" Elevated "Make a single-use link that signs in to the console.",
    PlatformStatus "platform.status" "platform" Low "See every process and wall, read back live.",
}

const _: () = assert!(Scope::ALL.len() <= 64, "Scopes holds 64 bits");

impl Scope {
    const fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// A set of scopes: what a role gives, or what a person reaches.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes(u64);

impl Scopes {
    /// No scope.
    pub const NONE: Self = Self(0);

    /// Every scope: the one person who is enrolled with the installation until people and roles exist.
    #[must_use]
    pub const fn administrator() -> Self {
        let (mut all, mut at) = (Self::NONE, 0);
        while at < Scope::ALL.len() {
            all = all.with(Scope::ALL[at]);
            at += 1;
        }
        all
    }
    /// The same set and `scope`.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | scope.bit())
    }
    /// Whether `scope` is in the set.
    #[must_use]
    pub const fn holds(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }
    /// The scopes of the set, in order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.holds(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Scope::id)).finish()
    }
}

/// What a route demands of who calls it. There is no fifth kind and no default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardKind {
    /// Signed in, and holding this scope.
    Scope(Scope),
    /// Signed in; sees and changes only what is the caller's own.
    SelfOnly,
    /// Anyone, signed in or not.
    Public,
    /// Our own processes, over their sockets; never a person.
    Internal,
}

impl fmt::Display for GuardKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scope(scope) => write!(f, "scope {scope}"),
            Self::SelfOnly => f.write_str("self only"),
            Self::Public => f.write_str("public"),
            Self::Internal => f.write_str("internal"),
        }
    }
}

/// The list of scopes as a Markdown table, for `docs/generated/scopes.md`.
#[must_use]
pub fn table() -> String {
    let mut out = String::from(
        "# Scopes\n\nPrinted by `cargo xtask goldens --bless` from `policy::access`.\n\n| scope | area | danger | what it guards |\n|---|---|---|---|\n",
    );
    for scope in Scope::ALL {
        out += &format!("| `{}` | {} | {} | {} |\n", scope.id(), scope.area(), scope.danger(), scope.guards());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_two_scopes_have_one_id() {
        let ids: std::collections::BTreeSet<&str> = Scope::ALL.iter().map(|scope| scope.id()).collect();
        assert_eq!(ids.len(), Scope::ALL.len());
    }

    #[test]
    fn the_administrator_holds_every_scope_and_nobody_holds_none() {
        for scope in Scope::ALL {
            assert!(Scopes::administrator().holds(*scope));
            assert!(!Scopes::NONE.holds(*scope));
        }
    }

    #[test]
    fn the_table_has_one_row_for_each_scope_and_says_what_it_guards() {
        let table = table();
        assert_eq!(table.lines().filter(|line| line.starts_with("| `")).count(), Scope::ALL.len());
        let row = "| `secrets.delete` | secrets | destructive | Delete a secret; its value is lost. |";
        assert!(table.lines().any(|line| line == row), "{table}");
    }

    proptest! {
        #[test]
        fn a_set_holds_exactly_what_was_put_in(picked in prop::collection::hash_set(0..Scope::ALL.len(), 0..6)) {
            let set: Scopes = picked.iter().map(|at| Scope::ALL[*at]).collect();
            for (at, scope) in Scope::ALL.iter().enumerate() {
                prop_assert_eq!(set.holds(*scope), picked.contains(&at));
            }
        }
    }
}
