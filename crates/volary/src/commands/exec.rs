//! `volary exec`: any command in a throwaway box, with the same walls as an agent's; input, outputs and status pass through.
//! With `--lease` it is given the use of one capability, as an agent's command is.

use super::{platform, show};
use crate::client::{Client, Refused};
use crate::home::Home;
use crate::out;
use crate::terminal::Terminal;
use anyhow::Context;
use api::http::{CreateRun, ExecLease, Input};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use model::event::{Event, Exit, Stream};
use model::run::RunKind;
use model::{Outcome, RunId};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// `volary exec [--profile P] [--repo PATH|URL] [--lease CAPABILITY] -- COMMAND …`
#[derive(Debug, Parser)]
pub struct Args {
    /// Profile to run under
    #[arg(long, default_value = "default")]
    pub profile: String,
    /// Repository whose HEAD stands in /workspace: a path, or the address of one that the profile names
    #[arg(long, value_name = "PATH|URL")]
    pub repo: Option<PathBuf>,
    /// Give the command the use of this capability of the profile, by a lease of its own
    #[arg(long, value_name = "CAPABILITY[=DESTINATION]", value_parser = lease)]
    pub lease: Option<ExecLease>,
    /// Program and arguments
    #[arg(trailing_var_arg = true, required = true)]
    pub command: Vec<String>,
}

/// A capability, and where it is for several destinations, one of them.
fn lease(text: &str) -> Result<ExecLease, std::convert::Infallible> {
    let (capability, destination) = match text.split_once('=') {
        Some((capability, destination)) => (capability, Some(destination.to_owned())),
        None => (text, None),
    };
    Ok(ExecLease { capability: capability.to_owned(), destination })
}

/// Exit statuses of our own: the platform failed; 128 + n for a signal, as shells have it.
const PLATFORM_FAILED: i32 = 125;
/// No status yet: the command is being ended because its input broke off.
const INPUT_LOST: i32 = -1;
/// Bytes of standard input in one piece.
const PIECE: usize = 256 * 1024;
/// How often a piece is offered to a host that is away, and the pause between.
const AWAY_TRIES: u32 = 100;
const AWAY_PAUSE: Duration = Duration::from_millis(100);

/// Runs it; returns the command's own status, or that of a platform that failed: what goes wrong here is never taken for it.
pub async fn main(home: &Home, args: &Args) -> i32 {
    carried_out(home, args).await.unwrap_or_else(|e| {
        eprintln!("volary: {}", show::plain(&format!("{e:#}")));
        PLATFORM_FAILED
    })
}

async fn carried_out(home: &Home, args: &Args) -> anyhow::Result<i32> {
    let platform = platform::reach(home).await?;
    let client = &platform.client;
    let named = |repo: &Path| repo.to_str().map_or_else(|| super::run::absolute(repo), super::run::named);
    let repo = args.repo.as_deref().map(named).transpose()?;
    let made = client
        .create(&CreateRun {
            kind: RunKind::Exec,
            task: String::new(),
            repo,
            model: None,
            profile: Some(args.profile.clone()),
            argv: args.command.clone(),
            lease: args.lease.clone(),
        })
        .await;
    let view = made?;
    // Whatever becomes of this process, the command does not outlive it.
    let mut follow = client.hold(&view.run).await;
    let mut feeding = tokio::spawn(feed(client.clone(), view.run.clone()));
    let mut fed = false;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    let mut status = PLATFORM_FAILED;
    // What this ends with because its output could not be shown; 0 while it can.
    let mut unshown = 0;
    let mut shown = Shown::new();
    // What its box met although it ended well.
    let mut met = String::new();
    loop {
        tokio::select! {
            entry = follow.next() => match entry? {
                None => break,
                Some(entry) => match entry.event {
                    Event::Output { stream, data_b64, .. } if unshown == 0 => {
                        // Nobody takes its output any more: the run is ended in order.
                        if let Err(e) = shown.print(stream, &data_b64) {
                            shown.put_back();
                            unshown = out::lost(&e, PLATFORM_FAILED);
                            client.cancel(&view.run).await?;
                        }
                    }
                    Event::Note { text } => {
                        if let Some(limit) = text.strip_prefix("command exec: ") {
                            met = show::plain(limit);
                        }
                    }
                    // The command was ended because not all of its input reached it.
                    Event::Ended { .. } if status == INPUT_LOST => status = PLATFORM_FAILED,
                    // Whatever the command made of its end: it was ended.
                    Event::Ended { outcome: Outcome::Cancelled, .. } if unshown == 0 => status = 130,
                    Event::Ended { exit, reason, .. } if unshown == 0 => status = tell(&mut shown, exit, &reason, &met),
                    Event::Ended { .. } => status = unshown,
                    _ => {}
                },
            },
            done = &mut feeding, if !fed => {
                fed = true;
                if let Err(why) = done.context("pass standard input on").flatten() {
                    // Half an input must not pass for a whole one.
                    shown.say(&format!("standard input did not reach the command whole: {why:#}; the command is ended"));
                    status = INPUT_LOST;
                    client.cancel(&view.run).await?;
                }
            }
            _ = interrupt.recv() => client.cancel(&view.run).await?,
            _ = terminate.recv() => client.cancel(&view.run).await?,
            _ = hangup.recv() => client.cancel(&view.run).await?,
        }
    }
    drop(shown);
    platform.finish().await;
    // The runtime would wait for a read of standard input that may never come.
    std::process::exit(status)
}

/// Passes standard input on, to its end. Each piece waits until there is room for it in front of the box.
///
/// # Errors
/// When it cannot be read, or cannot be passed on although the command lives.
async fn feed(client: Client, run: RunId) -> anyhow::Result<()> {
    // A terminal is not handed on: the box has none, and waiting on it would keep the command from ending.
    let mut stdin = (!std::io::stdin().is_terminal()).then(tokio::io::stdin);
    let mut buffer = vec![0; PIECE];
    loop {
        let read = match &mut stdin {
            Some(stdin) => stdin.read(&mut buffer).await.context("read standard input")?,
            None => 0,
        };
        let input = Input { data_b64: STANDARD.encode(&buffer[..read]), end: read == 0 };
        let mut tries = 0;
        while let Err(e) = client.input(&run, &input).await {
            match e.downcast_ref::<Refused>().map(|refused| refused.problem.code.as_str()) {
                // The command ended without reading all; that is its own affair.
                Some("run.over") => return Ok(()),
                // Nothing was sent.
                Some("host.away") if tries < AWAY_TRIES => tokio::time::sleep(AWAY_PAUSE).await,
                _ => return Err(e),
            }
            tries += 1;
        }
        if read == 0 {
            return Ok(());
        }
    }
}

/// The command's two streams, of which either may be a person's terminal. Dropped, it leaves each as it was found: whatever
/// ends this command, its own words come after that.
struct Shown {
    out: Option<Terminal>,
    err: Option<Terminal>,
}

impl Shown {
    fn new() -> Self {
        let of = |is: bool| is.then(Terminal::default);
        Self { out: of(io::stdout().is_terminal()), err: of(io::stderr().is_terminal()) }
    }

    fn print(&mut self, stream: Stream, data_b64: &str) -> io::Result<()> {
        let Ok(bytes) = STANDARD.decode(data_b64) else {
            // Beside the output, which may be data for another program.
            self.say(show::UNDECODABLE);
            return Ok(());
        };
        match (stream, &mut self.out, &mut self.err) {
            (Stream::Stdout, Some(terminal), _) => write(io::stdout(), terminal.pass(&bytes).as_bytes()),
            (Stream::Stdout, None, _) => write(io::stdout(), &bytes),
            (Stream::Stderr, _, Some(terminal)) => write(io::stderr(), terminal.pass(&bytes).as_bytes()),
            (Stream::Stderr, _, None) => write(io::stderr(), &bytes),
        }
    }

    /// Says something of ours, as it looks ever.
    fn say(&mut self, words: &str) {
        self.put_back();
        eprintln!("volary: {words}");
    }

    /// Takes the command's colours from each terminal.
    fn put_back(&mut self) {
        self.each(|terminal| terminal.put_back().to_owned());
    }

    /// Writes to each terminal what `gives` of it; whether that could be.
    fn each(&mut self, gives: impl Fn(&mut Terminal) -> String) -> bool {
        let (out, err) = (self.out.as_mut().map(&gives), self.err.as_mut().map(&gives));
        let out = write(io::stdout(), out.unwrap_or_default().as_bytes());
        let err = write(io::stderr(), err.unwrap_or_default().as_bytes());
        // A terminal that is gone keeps no colours.
        out.is_ok() && err.is_ok()
    }
}

impl Drop for Shown {
    /// Says also when a terminal did not get all.
    fn drop(&mut self) {
        if self.each(Terminal::end) && [&self.out, &self.err].into_iter().flatten().any(Terminal::left_out) {
            eprintln!(
                "volary: what steers a terminal beyond its colours was left out; through `| cat -v` all of it is seen"
            );
        }
    }
}

fn write(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

fn tell(shown: &mut Shown, exit: Option<Exit>, reason: &str, met: &str) -> i32 {
    match exit {
        Some(Exit::Code { code }) => {
            // A limit that the command met stands after its status, which is passed on as what it is.
            match reason.split_once("; ") {
                Some((_, limit)) => shown.say(&show::plain(limit)),
                None if !met.is_empty() => shown.say(met),
                None => {}
            }
            code
        }
        Some(Exit::Signal { signal }) => {
            if !reason.is_empty() {
                shown.say(&show::plain(reason));
            }
            128 + signal
        }
        Some(Exit::Killed { why }) => {
            shown.say(&show::plain(if reason.is_empty() { &why } else { reason }));
            137
        }
        Some(Exit::Unknown) | None => {
            shown.say(&show::plain(reason));
            PLATFORM_FAILED
        }
    }
}
