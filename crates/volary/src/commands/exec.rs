//! `volary exec`: any command in a throwaway box, with the same walls as an agent's; input, outputs and status pass through.

use super::platform;
use crate::home::Home;
use anyhow::Context;
use api::http::{CreateRun, Input};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use model::Outcome;
use model::event::{Event, Exit, Stream};
use model::run::RunKind;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use tokio::io::AsyncReadExt;

/// `volary exec [--profile P] [--repo PATH] -- COMMAND …`
#[derive(Debug, Parser)]
pub struct Args {
    /// Profile to run under
    #[arg(long, default_value = "default")]
    pub profile: String,
    /// Repository whose HEAD stands in /workspace
    #[arg(long, value_name = "PATH")]
    pub repo: Option<PathBuf>,
    /// Program and arguments
    #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// Exit statuses of our own: the platform failed; 128 + n for a signal, as shells have it.
const PLATFORM_FAILED: i32 = 125;

/// Runs it; returns the command's own status.
pub async fn main(home: &Home, args: &Args) -> anyhow::Result<i32> {
    let platform = platform::reach(home).await?;
    let client = &platform.client;
    let repo = args.repo.as_deref().map(super::run::absolute).transpose()?;
    let made = client
        .create(&CreateRun {
            kind: RunKind::Exec,
            task: String::new(),
            repo,
            model: None,
            profile: Some(args.profile.clone()),
            argv: args.command.clone(),
        })
        .await;
    let view = match made {
        Ok(view) => view,
        Err(e) => {
            eprintln!("volary: {e:#}");
            return Ok(PLATFORM_FAILED);
        }
    };
    let mut follow = client.follow(&view.run, 0).await;
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 32 * 1024];
    // A terminal is not handed on: the box has none, and waiting on it would keep this command from ending.
    let mut reading = !std::io::stdin().is_terminal();
    if !reading {
        client.input(&view.run, &Input { data_b64: String::new(), end: true }).await?;
    }
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    let mut status = PLATFORM_FAILED;
    let mut shown = true;
    loop {
        tokio::select! {
            entry = follow.next() => match entry? {
                None => break,
                Some(entry) => match entry.event {
                    // Whoever read the output is gone, as after `| head`: the run is ended in order.
                    Event::Output { stream, data_b64, .. } if shown && print(stream, &data_b64).is_err() => {
                        shown = false;
                        client.cancel(&view.run).await?;
                    }
                    // Whatever the command made of its end: it was ended.
                    Event::Ended { outcome: Outcome::Cancelled, .. } if shown => status = 130,
                    Event::Ended { exit, reason, .. } if shown => status = tell(exit, &reason),
                    Event::Ended { .. } => status = 141,
                    _ => {}
                },
            },
            read = stdin.read(&mut buffer), if reading => {
                let read = read.context("read standard input")?;
                reading = read > 0;
                let input = Input { data_b64: STANDARD.encode(&buffer[..read]), end: read == 0 };
                // The command may have ended without reading all; that is its own affair.
                if client.input(&view.run, &input).await.is_err() {
                    reading = false;
                }
            }
            _ = interrupt.recv() => client.cancel(&view.run).await?,
            _ = terminate.recv() => client.cancel(&view.run).await?,
            _ = hangup.recv() => client.cancel(&view.run).await?,
        }
    }
    platform.finish().await;
    // The runtime would wait for a read of standard input that may never come.
    std::process::exit(status)
}

fn print(stream: Stream, data_b64: &str) -> anyhow::Result<()> {
    let Ok(bytes) = STANDARD.decode(data_b64) else {
        // Beside the output, which may be data for another program.
        eprintln!("volary: {}", super::show::UNDECODABLE);
        return Ok(());
    };
    match stream {
        Stream::Stdout => {
            let mut out = std::io::stdout();
            out.write_all(&bytes)?;
            out.flush()?;
        }
        Stream::Stderr => std::io::stderr().write_all(&bytes)?,
    }
    Ok(())
}

fn tell(exit: Option<Exit>, reason: &str) -> i32 {
    match exit {
        Some(Exit::Code { code }) => {
            // A limit that the command met stands after its status, which is passed on as what it is.
            if let Some((_, limit)) = reason.split_once("; ") {
                eprintln!("volary: {limit}");
            }
            code
        }
        Some(Exit::Signal { signal }) => {
            if !reason.is_empty() {
                eprintln!("volary: {reason}");
            }
            128 + signal
        }
        Some(Exit::Killed { why }) => {
            eprintln!("volary: {}", if reason.is_empty() { &why } else { reason });
            137
        }
        Some(Exit::Unknown) | None => {
            eprintln!("volary: {reason}");
            PLATFORM_FAILED
        }
    }
}
