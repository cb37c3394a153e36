//! `volary secret`: set from a prompt or standard input, list, delete. There is no `get`.

use super::platform;
use crate::home::Home;
use anyhow::{Context, bail};
use api::grants::WireSecret;
use api::http::{SecretView, SetSecret};
use clap::Subcommand;
use hyper::Method;
use model::Secret;
use std::io::{BufRead, IsTerminal, Write};

/// What can be done with secrets.
#[derive(Debug, Subcommand)]
pub enum Act {
    /// Set a value, read from a prompt or from standard input
    Set {
        /// `model/anthropic`, say
        name: String,
    },
    /// Names, who set them, when; never a value
    List {
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Delete a value
    Delete {
        /// Its name
        name: String,
    },
}

/// Carries it out.
pub async fn main(home: &Home, act: &Act) -> anyhow::Result<i32> {
    match act {
        Act::Set { name } => {
            let value = read_value(name)?;
            let platform = platform::reach(home).await?;
            platform.client.act(Method::PUT, &path(name)?, &SetSecret { value: WireSecret(value) }).await?;
            println!("{name} is set; it will not be shown again, to anyone");
        }
        Act::List { json } => {
            let platform = platform::reach(home).await?;
            let all: Vec<SecretView> = platform.client.get("/api/secrets").await?;
            if *json {
                println!("{}", serde_json::to_string_pretty(&all)?);
            } else if all.is_empty() {
                println!("No secrets yet. Set one: volary secret set model/anthropic");
            }
            if !*json {
                for secret in all {
                    println!(
                        "{:<32} version {:<4} set by {} at {}",
                        secret.name,
                        secret.version,
                        secret.set_by,
                        super::log::when(secret.set_at)
                    );
                }
            }
        }
        Act::Delete { name } => {
            let platform = platform::reach(home).await?;
            platform.client.act(Method::DELETE, &path(name)?, &serde_json::json!({})).await?;
            println!("{name} is deleted");
        }
    }
    Ok(0)
}

/// Names stand in a path as they are: the server takes letters, digits, `-`, `_`, `.` and `/` only.
fn path(name: &str) -> anyhow::Result<String> {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    if !plain || name.contains("..") {
        bail!("{name:?} is no name of a secret: letters, digits, '-', '_', '.', in parts divided by '/'");
    }
    Ok(format!("/api/secrets/{name}"))
}

/// One line, not echoed when it is typed.
fn read_value(name: &str) -> anyhow::Result<Secret<String>> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    let typed = stdin.is_terminal();
    let before = if typed { Some(tcgetattr(&stdin)?) } else { None };
    if let Some(before) = &before {
        eprint!("Value of {name} (not shown): ");
        std::io::stderr().flush()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if let Some(before) = &before {
        tcsetattr(&stdin, OptionalActions::Flush, before)?;
        eprintln!();
    }
    read.context("read the value")?;
    let value = Secret::new(line.trim_end_matches(['\r', '\n']).to_owned());
    drop(Secret::new(line));
    if value.expose().is_empty() {
        bail!("no value was given; type it, or pipe it in: printenv KEY | volary secret set {name}");
    }
    Ok(value)
}
