//! `volary secret`: set from a prompt or standard input, list, delete. There is no `get`.

use super::platform;
use crate::home::Home;
use anyhow::{Context, bail};
use api::grants::WireSecret;
use api::http::{SecretView, SetSecret};
use clap::Subcommand;
use hyper::Method;
use model::Secret;
use std::io::{BufRead, IsTerminal, Read, Write};

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
            let value = read_value(name).await?;
            let platform = platform::reach(home).await?;
            platform.client.act(Method::PUT, &path(name)?, &SetSecret { value: WireSecret(value) }).await?;
            println!("{name} is set; it will not be shown again, to anyone");
        }
        Act::List { json } => {
            let platform = platform::reach_made(home).await?;
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
            let platform = platform::reach_made(home).await?;
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

/// One line, not echoed when it is typed. Ctrl-C at the prompt gives the terminal back as it was.
async fn read_value(name: &str) -> anyhow::Result<Secret<String>> {
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
        let mut text = String::new();
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
