//! What a run may use without having it: the `[[capability]]` rows and the `[variables]` table of a profile, as an
//! administrator writes them.
//!
//! A capability names a stored secret, what it is for, and the one way in which it may travel. An agent asks for it by its
//! name and gets a lease: the use of it, once. This is text with a form; what of it may be is `policy::delivery`'s
//! word, and how long and how often is `policy::lease`'s.
//!
//! Read [`Capability`], [`Delivery`], [`Variable`], then [`leasable`] (what a run may ask for) and [`check`] (what cannot be one).

use crate::Egress;
use crate::egress::WriteRow;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Component, Path, PathBuf};

/// Most capabilities of one profile.
pub const MAX_CAPABILITIES: usize = 64;
/// Most destinations, and most executables, of one capability.
pub const MAX_LISTED: usize = 32;
/// Longest destination, in bytes.
pub const MAX_DESTINATION: usize = 256;
/// Most variables of one profile.
pub const MAX_VARIABLES: usize = 64;
/// Longest literal of a variable, in bytes.
pub const MAX_LITERAL: usize = 4096;

/// One credential that a run may use, never have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Capability {
    /// What an agent asks by: 1 to 64 characters of `a-z`, `0-9`, `-`; one row for each name.
    pub name: String,
    /// The secret, by its name in the vault. No agent is told it, and none can name another.
    pub secret: String,
    /// What it is for; lifetimes and caps depend on it.
    pub kind: Kind,
    /// What it may be used on, by ids that mean something to people and to the gateway (`github.com/acme/shop`). A lease is
    /// for one of them. They are compared whole, and look nothing up.
    pub destinations: Vec<String>,
    /// How it reaches what uses it.
    #[serde(default)]
    pub delivery: Delivery,
    /// The programs that may be given it, absolute and outside the worktree. Needed for whatever ends inside a box; of a
    /// handle (`proxy`) an empty list means any program that the box cannot write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub executables: Vec<PathBuf>,
    /// How long a lease lives, in seconds; the kind's own unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
    /// Leases in one minute; the kind's own unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// Leases in one run; the kind's own unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_run: Option<u32>,
}

/// What a capability is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One push, through the git gateway or a helper of git's.
    GitPush,
    /// One call of an external tool.
    Tool,
    /// One command.
    Command,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::GitPush, Self::Tool, Self::Command];

    /// As a profile writes it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::GitPush => "git-push",
            Self::Tool => "tool",
            Self::Command => "command",
        }
    }
}

/// How a credential reaches what uses it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// The gateway puts it into a request; what is in the box has a handle.
    #[default]
    Proxy,
    /// A variable of one command's environment, by its name.
    Variable(String),
    /// A file without a name that one command has open; the variable of this name holds its path.
    File(String),
    /// One command's standard input.
    Stdin,
    /// One command's git, as its credential helper.
    GitHelper,
}

impl Delivery {
    /// As people read it: `variable NAME`.
    #[must_use]
    pub fn word(&self) -> String {
        match self {
            Self::Proxy => "proxy".to_owned(),
            Self::Variable(name) => format!("variable {name}"),
            Self::File(name) => format!("file {name}"),
            Self::Stdin => "stdin".to_owned(),
            Self::GitHelper => "git-helper".to_owned(),
        }
    }

    /// Whether the value itself is in the box while it is used.
    #[must_use]
    pub fn ends_in_the_box(&self) -> bool {
        !matches!(self, Self::Proxy)
    }

    /// The variable that the command finds, if there is one.
    #[must_use]
    pub fn variable(&self) -> Option<&str> {
        match self {
            Self::Variable(name) | Self::File(name) => Some(name),
            Self::Proxy | Self::Stdin | Self::GitHelper => None,
        }
    }
}

/// What a variable of a profile holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields, expecting = "a variable is a text, or { capability = \"name\" }")]
pub enum Variable {
    /// What is no secret, as it is; every command of the box has it.
    Literal(String),
    /// A capability's handle, never its value; only a command that runs under a lease of it has it.
    Handle {
        /// The capability's name.
        capability: String,
    },
}

/// What is wrong with a capability or a variable. It names the row and never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The row: `capability "name"`, `variables.NAME`.
    pub row: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.row, self.why)
    }
}

impl std::error::Error for Wrong {}

/// Whether this is the form of a profile's capabilities and variables. What they may be beyond it is the law's.
///
/// # Errors
/// The first row that is wrong.
pub fn check(capabilities: &[Capability], variables: &BTreeMap<String, Variable>) -> Result<(), Wrong> {
    if capabilities.len() > MAX_CAPABILITIES {
        return Err(Wrong { row: "capability".into(), why: format!("there are more than {MAX_CAPABILITIES}") });
    }
    let mut names = BTreeSet::new();
    for row in capabilities {
        let wrong = |why: String| Wrong { row: format!("capability {:?}", short(&row.name)), why };
        one(row).map_err(wrong)?;
        if !names.insert(row.name.as_str()) {
            return Err(wrong("there are two of this name".into()));
        }
    }
    if variables.len() > MAX_VARIABLES {
        return Err(Wrong { row: "variables".into(), why: format!("there are more than {MAX_VARIABLES}") });
    }
    for (name, variable) in variables {
        let wrong = |why: String| Wrong { row: format!("variables.{}", short(name)), why };
        variable_name(name).map_err(wrong)?;
        match variable {
            Variable::Literal(text) if text.len() > MAX_LITERAL || text.contains('\0') => {
                return Err(wrong(format!("a literal has at most {MAX_LITERAL} bytes and no zero byte")));
            }
            Variable::Literal(_) => {}
            Variable::Handle { capability } if !names.contains(capability.as_str()) => {
                return Err(wrong(format!("the profile has no capability {:?}", short(capability))));
            }
            Variable::Handle { .. } => {}
        }
    }
    Ok(())
}

/// The secret that a row to write names by `capability`: that of the capability of this name, a connection's token, or what
/// stands under `capability/` in the vault.
#[must_use]
pub fn secret_of(capabilities: &[Capability], name: &str) -> String {
    match capabilities.iter().find(|row| row.name == name) {
        Some(row) => row.secret.clone(),
        None if name.starts_with("connection/") => name.to_owned(),
        None => format!("capability/{name}"),
    }
}

/// The capability that rows to write make of themselves: what a command under a lease of it gets is a handle, which opens
/// these rows and nothing else.
fn of_rows<'r>(name: &str, rows: impl Iterator<Item = &'r WriteRow>) -> Capability {
    let mut destinations: Vec<String> = rows.filter(|row| row.capability == name).map(WriteRow::destination).collect();
    destinations.sort_unstable();
    destinations.dedup();
    Capability {
        name: name.to_owned(),
        secret: secret_of(&[], name),
        kind: Kind::Command,
        destinations,
        delivery: Delivery::Proxy,
        executables: Vec::new(),
        seconds: None,
        per_minute: None,
        per_run: None,
    }
}

/// What a run may ask leases of: the `[[capability]]` rows, and each other capability that a row to write names.
#[must_use]
pub fn leasable(capabilities: &[Capability], egress: &Egress) -> Vec<Capability> {
    let mut all = capabilities.to_vec();
    for row in &egress.write {
        if !all.iter().any(|known| known.name == row.capability) {
            all.push(of_rows(&row.capability, egress.write.iter()));
        }
    }
    all
}

/// As [`leasable`], the one of this name.
#[must_use]
pub fn leasable_as(name: &str, capabilities: &[Capability], egress: &Egress) -> Option<Capability> {
    let row = capabilities.iter().find(|row| row.name == name).cloned();
    let is_written = || egress.write.iter().any(|row| row.capability == name);
    row.or_else(|| is_written().then(|| of_rows(name, egress.write.iter())))
}

/// What an agent is told of what it may ask leases of, with the writes that each is for; no secret is named.
#[must_use]
pub fn told(capabilities: &[Capability], egress: &Egress) -> String {
    let mut text = String::from("Capabilities, each used by a lease (the tool `lease`), one lease for one use:");
    for row in leasable(capabilities, egress) {
        let programs: Vec<_> = row.executables.iter().map(|path| path.display().to_string()).collect();
        let programs = if programs.is_empty() { String::new() } else { format!("; for {}", programs.join(", ")) };
        text.push_str(&format!("\n- {} ({}): {}{programs}", row.name, row.kind.word(), row.destinations.join(", ")));
        for write in egress.write.iter().filter(|write| write.capability == row.name) {
            text.push_str(&format!("\n  - {} https://{}{}", write.method, write.destination(), write.path));
        }
    }
    text
}

fn one(row: &Capability) -> Result<(), String> {
    if !plain(&row.name) {
        return Err("a name takes 1 to 64 characters of a-z, 0-9 and '-', not beginning with '-'".into());
    }
    if row.secret.is_empty() || row.secret.len() > 160 || !row.secret.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("`secret` is the name of a secret in the vault".into());
    }
    if row.destinations.is_empty() || row.destinations.len() > MAX_LISTED {
        return Err(format!("it takes 1 to {MAX_LISTED} destinations"));
    }
    let destination =
        |text: &String| (1..=MAX_DESTINATION).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if !row.destinations.iter().all(destination) {
        return Err(format!("a destination takes 1 to {MAX_DESTINATION} printable ASCII characters without spaces"));
    }
    if row.executables.len() > MAX_LISTED {
        return Err(format!("it takes at most {MAX_LISTED} executables"));
    }
    if row.delivery.ends_in_the_box() && row.executables.is_empty() {
        return Err(format!("the delivery `{}` needs `executables`: who may be given it", row.delivery.word()));
    }
    if let Some(path) = row.executables.iter().find(|path| !declared(path)) {
        return Err(format!("the executable {} is not an absolute path outside the worktree", path.display()));
    }
    if let Some(name) = row.delivery.variable() {
        variable_name(name)?;
    }
    Ok(())
}

/// Whether a path can be an executable's: absolute, without `.` and `..`, and not where a run can write.
#[must_use]
pub fn declared(path: &Path) -> bool {
    let normal = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let writable = ["/workspace", "/tmp", "/proc", "/dev", "/run"].iter().any(|below| path.starts_with(below));
    path.is_absolute()
        && normal
        && !writable
        && path.file_name().is_some()
        && path.to_str().is_some_and(|text| text.len() <= 4096 && !text.contains('\0'))
}

/// Names that tell a program what code to run or where to read its settings: no profile sets them.
const STEERING: [&str; 14] = [
    "PATH",
    "HOME",
    "SHELL",
    "IFS",
    "ENV",
    "BASH_ENV",
    "CDPATH",
    "PERL5LIB",
    "PERL5OPT",
    "RUBYOPT",
    "NODE_OPTIONS",
    "JAVA_TOOL_OPTIONS",
    "PYTHONSTARTUP",
    "PYTHONPATH",
];
/// As [`STEERING`], by how the name begins.
const STEERING_BEGIN: [&str; 5] = ["LD_", "DYLD_", "GIT_", "VOLARY_", "SSL_"];

/// Whether a text can be the name of a variable that a profile sets.
///
/// # Errors
/// What is wrong with it.
pub fn variable_name(name: &str) -> Result<(), String> {
    let form = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    if !form {
        return Err("a variable's name takes 1 to 64 characters of A-Z, 0-9 and '_', not beginning with a digit".into());
    }
    let proxy = name.ends_with("_PROXY");
    if proxy || STEERING.contains(&name) || STEERING_BEGIN.iter().any(|begin| name.starts_with(begin)) {
        return Err(format!("{name} steers programs or belongs to the platform; a profile does not set it"));
    }
    Ok(())
}

fn plain(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
#[path = "capability_tests.rs"]
mod tests;
