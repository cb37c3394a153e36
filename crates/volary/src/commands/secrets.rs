//! `volary secret`: set and replace from a prompt or standard input, list, delete. There is no `get`.

use super::platform;
use crate::home::Home;
use anyhow::{Context, bail};
use api::grants::WireSecret;
use api::http::{ReplaceSecret, SecretRemoved, SecretView, SetSecret};
use clap::Subcommand;
use hyper::Method;
use model::Secret;
use model::mint::{AwsRole, GithubApp, KubernetesAccount, Minter};
use policy::delivery::TEXT;
use policy::minters::MINTERS;
use policy::providers::PROVIDERS;
use std::io::{BufRead, IsTerminal, Read, Write};

/// What can be done with secrets.
#[derive(Debug, Subcommand)]
pub enum Act {
    /// Set a value, read from a prompt or, also of several lines, from standard input
    Set {
        /// `model/anthropic`, `capability/tracker`
        name: String,
        /// The provider whose key it is (`volary secret kinds` lists them), or `custom`; it stays what it is unless said
        #[arg(long)]
        kind: Option<String>,
        /// Your own value, for your own runs, in place of the workspace's
        #[arg(long)]
        mine: bool,
        /// Whether people may have values of their own in its place
        #[arg(long, value_name = "yes|no", value_parser = yes_or_no, conflicts_with = "mine")]
        personal: Option<bool>,
        #[command(flatten)]
        minter: Box<Settings>,
    },
    /// Put a new value in the place of one that is set; all else of it stays
    Rotate {
        /// Its name
        name: String,
        /// Your own value
        #[arg(long)]
        mine: bool,
    },
    /// Names, kinds, who set them, when, and when they were last used; never a value
    List {
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// The providers whose keys are managed, and the hosts that each is for
    Kinds,
    /// Delete a value
    Delete {
        /// Its name
        name: String,
        /// Your own value
        #[arg(long)]
        mine: bool,
    },
}

/// What its vendor is told, of a key that others are minted from.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Of a key that others are minted from")]
pub struct Settings {
    /// github-app: the app's id, or its client's
    #[arg(long, requires = "installation")]
    app: Option<String>,
    /// github-app: the number of the installation
    #[arg(long, requires = "app")]
    installation: Option<u64>,
    /// github-app: what a token for a tool or a command may do, `issues=write`; again for each
    #[arg(long, value_name = "NAME=read|write", requires = "app", value_parser = pair)]
    permission: Vec<(String, String)>,
    /// aws-role: the id of the access key whose secret is stored
    #[arg(long, requires = "role")]
    access_key: Option<String>,
    /// aws-role: the role's ARN
    #[arg(long, requires_all = ["access_key", "region"])]
    role: Option<String>,
    /// aws-role: the region whose token service is asked
    #[arg(long, requires = "role")]
    region: Option<String>,
    /// aws-role: a file with a session policy (JSON); `{destination}` in it is the lease's destination
    #[arg(long, value_name = "FILE", requires = "role")]
    session_policy: Option<std::path::PathBuf>,
    /// kubernetes-account: its namespace
    #[arg(long, requires = "account")]
    namespace: Option<String>,
    /// kubernetes-account: its name
    #[arg(long, requires_all = ["namespace", "base"])]
    account: Option<String>,
    /// kubernetes-account: whom its tokens are for, unless the API server itself; again for each
    #[arg(long, requires = "account")]
    audience: Vec<String>,
    /// The vendor's address, where it is not the usual one: the API of an Enterprise Server, of a cluster
    #[arg(long, value_name = "URL")]
    base: Option<String>,
    /// The address is one of the own network
    #[arg(long, requires = "base")]
    internal: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, level) = text.split_once('=').ok_or("it is NAME=read or NAME=write")?;
    Ok((name.to_owned(), level.to_owned()))
}

impl Settings {
    /// What was said, if anything was.
    fn minter(&self) -> anyhow::Result<Option<Minter>> {
        let Self { base, internal, .. } = self;
        let (base, internal) = (base.clone(), *internal);
        let minter = match (&self.app, &self.role, &self.account) {
            (Some(app), None, None) => Minter::GithubApp(GithubApp {
                app: app.clone(),
                installation: self.installation.unwrap_or(0),
                base,
                permissions: self.permission.iter().cloned().collect(),
                internal,
            }),
            (None, Some(role), None) => Minter::AwsRole(AwsRole {
                access_key: self.access_key.clone().unwrap_or_default(),
                role: role.clone(),
                region: self.region.clone().unwrap_or_default(),
                policy: self.session_policy.as_ref().map(read_policy).transpose()?,
                base,
                internal,
            }),
            (None, None, Some(account)) => Minter::KubernetesAccount(KubernetesAccount {
                base: base.unwrap_or_default(),
                namespace: self.namespace.clone().unwrap_or_default(),
                account: account.clone(),
                audiences: self.audience.clone(),
                internal,
            }),
            (None, None, None) if base.is_none() => return Ok(None),
            (None, None, None) => bail!("--base belongs to --app, --role or --account"),
            _ => bail!("a key is one of an app, of a role or of an account"),
        };
        minter.check().map_err(anyhow::Error::msg)?;
        Ok(Some(minter))
    }
}

fn read_policy(path: &std::path::PathBuf) -> anyhow::Result<String> {
    Ok(std::fs::read_to_string(path).with_context(|| path.display().to_string())?.trim().to_owned())
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("it is `yes` or `no`".to_owned()),
    }
}

/// Carries it out.
pub async fn main(home: &Home, act: &Act) -> anyhow::Result<i32> {
    match act {
        Act::Set { name, kind, mine, personal, minter } => {
            let path = path(name)?;
            // What is wrong with it is said before a value is typed for nothing.
            let minter = minter.minter()?;
            let lines = kind.as_deref() == Some("github-app") || matches!(minter, Some(Minter::GithubApp(_)));
            let value = WireSecret(read(name, lines).await?);
            let platform = platform::reach(home).await?;
            let set = SetSecret { value, kind: kind.clone(), mine: *mine, personal: *personal, minter };
            platform.client.act(Method::PUT, &path, &set).await?;
            println!("{name} is set; it will not be shown again, to anyone");
        }
        Act::Rotate { name, mine } => {
            let path = path(name)?;
            let platform = platform::reach_made(home).await?;
            let all: Vec<SecretView> = platform.client.get("/api/secrets").await?;
            // Who types a value for nothing has typed it for nothing.
            let Some(now) = all.iter().find(|secret| secret.name == *name && secret.person.is_some() == *mine) else {
                bail!("there is no such value of {name} to replace; `volary secret list` lists them");
            };
            let lines = matches!(now.minter, Some(Minter::GithubApp(_))) || now.kind.as_deref() == Some(TEXT);
            let value = WireSecret(read(name, lines).await?);
            platform.client.act(Method::POST, &path, &ReplaceSecret { value, mine: *mine }).await?;
            println!("{name} has its new value; revoke the old one where it was made");
            println!("a lease in use goes on with the old one until its end: volary lease list, volary lease revoke");
        }
        Act::List { json } => {
            let platform = platform::reach_made(home).await?;
            let all: Vec<SecretView> = platform.client.get("/api/secrets").await?;
            if *json {
                println!("{}", serde_json::to_string_pretty(&all)?);
            } else if all.is_empty() {
                println!("No secrets yet. Set one: volary secret set model/anthropic");
            } else {
                all.iter().for_each(tell);
            }
        }
        Act::Kinds => {
            for provider in PROVIDERS {
                println!("{:<18} {:<10} {}", provider.id, provider.group.to_string(), provider.hosts.join(", "));
            }
            println!("\nKeys that go nowhere themselves: a vendor mints a narrower, shorter one for each lease.");
            for minter in &MINTERS {
                let ends = if minter.revocable { "ended with its lease" } else { "ends by itself" };
                println!("{:<18} {:<10} {}; {ends}", minter.id, minter.group.to_string(), minter.makes);
            }
        }
        Act::Delete { name, mine } => {
            let path = path(name)?;
            let platform = platform::reach_made(home).await?;
            let whose = if *mine { "?mine=true" } else { "" };
            let removed: SecretRemoved = platform.client.delete(&format!("{path}{whose}")).await?;
            println!("{name} is deleted{}", ended(removed.leases));
            match removed.revoking {
                0 => {}
                1 => println!("the value that was minted of it for one is being revoked at its vendor"),
                n => println!("{n} values that were minted of it for them are being revoked at their vendor"),
            }
            if let Some(until) = removed.left_until {
                println!(
                    "what was minted of it before and nobody can revoke ends by itself, {}",
                    super::log::when(until)
                );
            }
        }
    }
    Ok(0)
}

/// What is said of the leases that ended with a value.
pub(super) fn ended(leases: u32) -> String {
    match leases {
        0 => "; no lease was open on it".to_owned(),
        1 => "; the lease that was open on it is taken back, and what uses it is told to end".to_owned(),
        n => format!("; the {n} leases that were open on it are taken back, and what uses them is told to end"),
    }
}

fn tell(secret: &SecretView) {
    let what = match (&secret.kind, secret.managed) {
        (Some(kind), _) if secret.minter.is_some() => format!("minted from ({kind})"),
        (Some(kind), _) if kind == TEXT => "custom (text)".to_owned(),
        (Some(kind), _) => format!("managed ({kind})"),
        (None, true) => "managed".to_owned(),
        (None, false) => "custom".to_owned(),
    };
    let whose = match &secret.person {
        Some(person) => format!(", {person}'s own"),
        None if secret.personal => ", people may have their own".to_owned(),
        None => String::new(),
    };
    let used =
        secret.last_used.map_or_else(|| "never used".to_owned(), |at| format!("last used {}", super::log::when(at)));
    println!(
        "{:<32} version {:<4} {what}{whose}; set by {} at {}, {used}",
        secret.name,
        secret.version,
        secret.set_by,
        super::log::when(secret.set_at)
    );
}

/// Names stand in a path as they are: the server takes letters, digits, `-`, `_`, `.`, `:` and `/` only.
fn path(name: &str) -> anyhow::Result<String> {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/".contains(&b));
    if !plain || name.contains("..") {
        bail!("{name:?} is no name of a secret: letters, digits, '-', '_', '.', ':', in parts divided by '/'");
    }
    Ok(format!("/api/secrets/{name}"))
}

/// A value: what is piped in, or one line that is typed. One that has several lines (`lines`) is never typed.
async fn read(name: &str, lines: bool) -> anyhow::Result<Secret<String>> {
    if !std::io::stdin().is_terminal() {
        return read_all(name);
    }
    if lines {
        bail!("this value has several lines; give it as a file, as it was given first: … {name} < FILE");
    }
    read_value(name).await
}

/// All that is piped in. Of one line its end is none of the value's; several stay as they are.
fn read_all(name: &str) -> anyhow::Result<Secret<String>> {
    let mut text = String::with_capacity(MOST as usize + 2);
    std::io::stdin().lock().take(MOST + 1).read_to_string(&mut text).context("read the value")?;
    let text = Secret::new(text);
    if text.expose().len() as u64 > MOST {
        bail!("the value is longer than {MOST} bytes");
    }
    let line = text.expose().trim_end_matches(['\r', '\n']);
    if line.trim().is_empty() {
        bail!("no value was given; type it, or pipe it in: printenv KEY | volary secret set {name}");
    }
    let one = !line.contains('\n');
    Ok(if one { Secret::new(line.to_owned()) } else { text })
}

/// One line, not echoed when it is typed. Ctrl-C at the prompt gives the terminal back as it was.
pub(super) async fn read_value(name: &str) -> anyhow::Result<Secret<String>> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    let before = if stdin.is_terminal() { Some(tcgetattr(&stdin)?) } else { None };
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    if let Some(before) = &before {
        eprint!("Value of {name} (not shown): ");
        std::io::stderr().flush()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
    }
    let reading = tokio::task::spawn_blocking(|| {
        // Room for all of it: a text that grew would leave copies of its beginning behind.
        let mut text = String::with_capacity(MOST as usize + 2);
        // A value is one line; more than that is not cut in silence.
        std::io::stdin().lock().take(MOST + 1).read_line(&mut text).map(|_| text)
    });
    let read = tokio::select! {
        read = reading => Some(read?),
        _ = interrupt.recv() => None,
    };
    if let Some(before) = &before {
        tcsetattr(&stdin, OptionalActions::Flush, before)?;
        eprintln!();
    }
    let Some(read) = read else {
        // The read goes on in its thread; only the end of the process ends it.
        std::process::exit(130)
    };
    let line = Secret::new(read.context("read the value")?);
    let value = Secret::new(line.expose().trim_end_matches(['\r', '\n']).to_owned());
    if value.expose().is_empty() {
        bail!("no value was given; type it, or pipe it in: printenv KEY | volary secret set {name}");
    }
    if line.expose().len() as u64 > MOST {
        bail!("the value is longer than {MOST} bytes");
    }
    if before.is_none() && more_follows() {
        bail!("the value has more than one line; a key is one line");
    }
    Ok(value)
}

/// Longest value, in bytes: the server's own limit, and a line end.
const MOST: u64 = 16_386;

/// Whether anything but an end of line follows on a standard input that is no terminal.
fn more_follows() -> bool {
    let mut rest = Vec::new();
    let read = std::io::stdin().lock().take(64).read_to_end(&mut rest);
    read.is_ok() && rest.iter().any(|byte| !byte.is_ascii_whitespace())
}
