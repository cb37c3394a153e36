//! `volary runs`, `log`, `replay`, `cancel`, `pause`, `resume`.

use super::transcript::Transcript;
use super::{platform, show};
use crate::home::Home;
use anyhow::Context;
use api::git::OpenProposal;
use api::http::RunView;
use model::event::Event;
use model::{Moment, RunId};
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// A run's id as a person writes it.
pub fn id(text: &str) -> anyhow::Result<RunId> {
    RunId::parse(text).with_context(|| format!("{text:?} names no run; `volary runs` lists them"))
}

/// A moment as people write it, UTC.
pub fn when(at: Moment) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| at.0.to_string(), |t| t.strftime("%F %T").to_string())
}

/// `volary runs`
pub async fn list(home: &Home, json: bool) -> anyhow::Result<i32> {
    let platform = platform::reach_made(home).await?;
    let all: Vec<RunView> = platform.client.get("/api/runs").await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(0);
    }
    if all.is_empty() {
        println!("No runs yet. Start one: volary run --repo PATH \"what to do\"");
    } else {
        println!("{:<12}  {:<9}  {:<19}  {:>9}  TASK", "RUN", "STATE", "STARTED (UTC)", "COST");
    }
    for run in all {
        let cost = run.cost.to_string();
        let task = show::short(&run.task, 60);
        println!("{}  {:<9}  {}  {cost:>9}  {task}", run.run, run.state.word(), when(run.created));
        if !run.reason.is_empty() && run.reason != run.state.word() {
            println!("{:>14}{}", "", show::short(&run.reason, 100));
        }
    }
    Ok(0)
}

/// `volary log RUN [--follow] [--json]`
pub async fn main(home: &Home, run: &str, follow: bool, json: bool) -> anyhow::Result<i32> {
    let run = id(run)?;
    let platform = platform::reach_made(home).await?;
    let mut transcript = Transcript::default();
    let mut print = |entry: &model::Entry| -> anyhow::Result<()> {
        if json {
            println!("{}", serde_json::to_string(entry)?);
        } else {
            print!("{}", transcript.say(entry));
        }
        Ok(())
    };
    if follow {
        let mut entries = platform.client.follow(&run, 0).await;
        while let Some(entry) = entries.next().await? {
            print(&entry)?;
        }
    } else {
        for entry in platform.client.events(&run, 0).await? {
            print(&entry)?;
        }
    }
    print!("{}", transcript.end());
    Ok(0)
}

/// `volary cancel RUN`
pub async fn cancel(home: &Home, run: &str) -> anyhow::Result<i32> {
    let run = id(run)?;
    let platform = platform::reach_made(home).await?;
    platform.client.cancel(&run).await?;
    println!("{run} is being ended");
    Ok(0)
}

/// `volary pr RUN`: prints where the pull request is that stands open for what the run pushed.
pub async fn propose(home: &Home, run: &str, words: OpenProposal) -> anyhow::Result<i32> {
    let run = id(run)?;
    let platform = platform::reach_made(home).await?;
    let opened = platform.client.propose(&run, &words).await?;
    println!("{}", opened.url);
    platform.finish().await;
    Ok(0)
}

/// How long `volary pause` waits for the word that the box stands still.
const STILL: Duration = Duration::from_secs(60);

/// `volary pause RUN`: returns once its box stands still.
pub async fn pause(home: &Home, run: &str) -> anyhow::Result<i32> {
    let run = id(run)?;
    let platform = platform::reach_made(home).await?;
    let client = &platform.client;
    let view = client.pause(&run).await?;
    // Told from the last word of a box on: it may have stood still before this one came.
    let mut entries = client.follow(&run, 0).await;
    let stands = async {
        let mut still = false;
        while let Some(entry) = entries.next().await? {
            match entry.event {
                Event::Froze => still = true,
                Event::Thawed { .. } | Event::Attempt { .. } => still = false,
                _ => {}
            }
            if still && entry.n >= view.entries {
                return Ok(true);
            }
        }
        Ok::<_, anyhow::Error>(false)
    };
    if view.attempts == 0 {
        println!("{run} is paused: it gets no box before `volary resume {run}`");
        return Ok(0);
    }
    match tokio::time::timeout(STILL, stands).await {
        Ok(Ok(true)) => println!("{run} is paused: its box stands still, and so does its time"),
        Ok(Ok(false)) => anyhow::bail!("{run} ended before it stood still"),
        Ok(Err(e)) => return Err(e),
        Err(_) => println!("{run} is paused; that its box stands still was not heard in {} s", STILL.as_secs()),
    }
    Ok(0)
}

/// `volary resume RUN`
pub async fn resume(home: &Home, run: &str) -> anyhow::Result<i32> {
    let run = id(run)?;
    let platform = platform::reach_made(home).await?;
    let view = platform.client.resume(&run).await?;
    println!("{run} goes on: {}", view.state.word());
    Ok(0)
}

/// `volary replay RUN --turn N`: the request that turn sent, byte for byte, rebuilt from the record and compared with
/// the digest that the gateway recorded when it passed.
pub async fn replay(home: &Home, run: &str, turn: u32) -> anyhow::Result<i32> {
    let run = id(run)?;
    let platform = platform::reach_made(home).await?;
    let entries = platform.client.events(&run, 0).await?;
    let steps: Vec<Value> = entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Loop { step } => Some(step.clone()),
            _ => None,
        })
        .collect();
    let body = agent::context_at(&steps, turn)
        .with_context(|| format!("rebuild turn {turn} of {run} from its record of {} steps", steps.len()))?;
    let digest = sha256_hex(&body);
    let passed = entries.iter().any(|entry| {
        matches!(&entry.event, Event::Verdict(v) if v.allowed && v.body_sha256.as_deref() == Some(digest.as_str()))
    });
    let mut out = std::io::stdout();
    // A person reads it indented; whatever else reads it gets the very bytes.
    let written = match serde_json::from_slice::<Value>(&body) {
        Ok(value) if out.is_terminal() => {
            writeln!(out, "{}", crate::out::fit(&serde_json::to_string_pretty(&value)?))
        }
        _ => out.write_all(&body),
    };
    written.and_then(|()| out.flush()).context(crate::out::UNWRITTEN)?;
    if passed {
        eprintln!("SHA-256 {digest}: the gateway passed these very bytes");
        Ok(0)
    } else {
        eprintln!(
            "SHA-256 {digest}: the gateway has no record of passing these bytes (the turn never left, or the record differs)"
        );
        Ok(1)
    }
}

fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
