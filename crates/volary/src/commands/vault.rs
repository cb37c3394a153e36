//! `volary vault`: which key the vault is wrapped with, and another in its place.

use super::platform;
use crate::home::Home;
use crate::keys::{rotate, shut_memory};
use api::vault::VaultView;
use clap::Subcommand;

/// What can be done with the vault's key.
#[derive(Debug, Subcommand)]
pub enum Act {
    /// Say which key the vault is wrapped with, by its id, and where it comes from
    Show {
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Wrap the vault with another key; runs go on
    Rotate {
        /// Where the new key comes from: `file` for a new file of the home's own, or a line of vault.toml, such as
        /// 'env = "VOLARY_KEY"' [default: a new key of the kind in use]
        #[arg(long, value_name = "SOURCE")]
        to: Option<String>,
    },
}

/// Carries it out.
pub async fn main(home: &Home, act: &Act) -> anyhow::Result<i32> {
    let platform = platform::reach_made(home).await?;
    match act {
        Act::Show { json } => {
            let view: VaultView = platform.client.get("/api/vault").await?;
            if *json {
                println!("{}", serde_json::to_string_pretty(&view)?);
            } else {
                println!("The vault is wrapped with the key {}, from {}.", view.key, view.source);
            }
        }
        Act::Rotate { to } => {
            // It holds the new key until the server has it.
            shut_memory()?;
            let done = rotate::rotate(home, &platform.client, to.as_deref()).await?;
            println!("The vault is wrapped with the key {}, from {}.", done.now.0, done.now.1);
            println!(
                "The key of before ({}, from {}) opens backups that were taken until now and nothing else: keep it where \
                 they are kept, or destroy it with them.",
                done.before.0, done.before.1
            );
        }
    }
    Ok(0)
}
