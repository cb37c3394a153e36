//! `volary secret`: set and replace from a prompt or standard input, list, delete. There is no `get`.

use super::platform;
use crate::home::Home;
use anyhow::{Context, bail};
use api::grants::WireSecret;
use api::http::{ReplaceSecret, SecretView, SetSecret};
use clap::Subcommand;
use hyper::Method;
use model::Secret;
use policy::providers::PROVIDERS;
use std::io::{BufRead, IsTerminal, Read, Write};

/// What can be done with secrets.
#[derive(Debug, Subcommand)]
pub enum Act {
    /// Set a value, read from a prompt or from standard input
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
        Act::Set { name, kind, mine, personal } => {
            let path = path(name)?;
            let value = WireSecret(read_value(name).await?);
            let platform = platform::reach(home).await?;
            let set = SetSecret { value, kind: kind.clone(), mine: *mine, personal: *personal };
            platform.client.act(Method::PUT, &path, &set).await?;
            println!("{name} is set; it will not be shown again, to anyone");
        }
        Act::Rotate { name, mine } => {
            let path = path(name)?;
            let platform = platform::reach_made(home).await?;
            let all: Vec<SecretView> = platform.client.get("/api/secrets").await?;
            // Who types a value for nothing has typed it for nothing.
            if !all.iter().any(|secret| secret.name == *name && secret.person.is_some() == *mine) {
                bail!("there is no such value of {name} to replace; `volary secret list` lists them");
            }
            let value = WireSecret(read_value(name).await?);
            platform.client.act(Method::POST, &path, &ReplaceSecret { value, mine: *mine }).await?;
            println!("{name} has its new value; revoke the old one where it was made");
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
                println!("{:<14} {:<10} {}", provider.id, provider.group.to_string(), provider.hosts.join(", "));
            }
        }
        Act::Delete { name, mine } => {
            let path = path(name)?;
            let platform = platform::reach_made(home).await?;
            let whose = if *mine { "?mine=true" } else { "" };
            platform.client.act(Method::DELETE, &format!("{path}{whose}"), &serde_json::json!({})).await?;
            println!("{name} is deleted");
        }
    }
    Ok(0)
}

fn tell(secret: &SecretView) {
    let what = match (&secret.kind, secret.managed) {
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
