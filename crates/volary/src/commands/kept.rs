//! `volary kept`: worktrees whose changes are in no repository.

use super::log::{id, when};
use super::{platform, show};
use crate::home::Home;
use api::kept::{KeptImported, KeptWorktree};
use clap::Subcommand;
use hyper::Method;

/// `volary kept [list | import RUN | drop RUN]`
#[derive(Debug, Clone, Default, Subcommand)]
pub enum Act {
    /// List them, the oldest first
    #[default]
    List,
    /// Bring one into its repository, as the branch volary/RUN
    Import {
        /// Whose
        run: String,
    },
    /// Remove one for good
    Drop {
        /// Whose
        run: String,
    },
}

/// Does it; prints JSON with `json`.
pub async fn main(home: &Home, act: &Act, json: bool) -> anyhow::Result<i32> {
    let platform = platform::reach_made(home).await?;
    let client = &platform.client;
    match act {
        Act::List => {
            let all: Vec<KeptWorktree> = client.get("/api/kept").await?;
            if json {
                println!("{}", serde_json::to_string_pretty(&all)?);
            } else if all.is_empty() {
                println!("No worktree is kept: every run's changes are in its repository.");
            }
            for kept in all.iter().filter(|_| !json) {
                let repo = kept.repo.as_deref().unwrap_or("(no repository is known)");
                println!(
                    "{}  {}  {:>6} MiB  until {}  {}",
                    kept.run,
                    when(kept.at),
                    kept.bytes >> 20,
                    when(kept.until),
                    show::plain(repo)
                );
            }
        }
        Act::Import { run } => {
            let run = id(run)?;
            let path = format!("/api/kept/{run}/import");
            let imported: KeptImported = client.post(&path, &serde_json::json!({})).await?;
            if json {
                println!("{}", serde_json::to_string_pretty(&imported)?);
                return Ok(0);
            }
            match &imported.branch {
                Some(branch) => println!("{} files changed: branch {}", imported.files, show::plain(branch)),
                None => println!("Nothing was changed, so there is no branch."),
            }
            for text in &imported.left_out {
                println!("not brought along: {}", show::plain(text));
            }
        }
        Act::Drop { run } => {
            let run = id(run)?;
            client.act(Method::DELETE, &format!("/api/kept/{run}"), &serde_json::json!({})).await?;
            if json {
                println!("{}", serde_json::json!({ "dropped": run }));
            } else {
                println!("The kept worktree of {run} is removed.");
            }
        }
    }
    Ok(0)
}
