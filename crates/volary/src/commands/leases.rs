//! `volary lease`: the leases of live runs, and taking one back.

use super::log::when;
use super::{platform, show};
use crate::home::Home;
use api::leases::{LeaseRevoked, LeaseView};
use clap::Subcommand;
use model::LeaseId;

/// `volary lease list [--all] | revoke LEASE`
#[derive(Debug, Clone, Subcommand)]
pub enum Act {
    /// List those that are open
    List {
        /// The last 500 of all, denied and ended ones too
        #[arg(long)]
        all: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take one back; what uses it is ended
    Revoke {
        /// Its id
        lease: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Does it.
pub async fn main(home: &Home, act: &Act) -> anyhow::Result<i32> {
    let platform = platform::reach_made(home).await?;
    let client = &platform.client;
    match act {
        Act::List { all, json } => {
            let leases: Vec<LeaseView> = client.get(if *all { "/api/leases?all=true" } else { "/api/leases" }).await?;
            if *json {
                println!("{}", serde_json::to_string_pretty(&leases)?);
            } else if leases.is_empty() {
                println!("No lease is {}.", if *all { "known" } else { "open" });
            } else {
                leases.iter().for_each(|lease| println!("{}", line(lease)));
            }
        }
        Act::Revoke { lease, json } => {
            let lease = LeaseId::parse(lease).map_err(|e| anyhow::anyhow!("{e}; `volary lease list` lists them"))?;
            let path = format!("/api/leases/{lease}/revoke");
            let revoked: LeaseRevoked = client.post(&path, &serde_json::json!({})).await?;
            if *json {
                println!("{}", serde_json::to_string_pretty(&revoked)?);
            } else if revoked.use_ended {
                println!("{lease} is taken back; nothing uses it any more.");
            } else {
                println!("{lease} is taken back; what uses it is told to end, and nobody has said yet that it has.");
            }
        }
    }
    Ok(0)
}

/// One lease as a line. What an agent wrote stands in it as text, never as what a terminal obeys.
fn line(lease: &LeaseView) -> String {
    let end = match lease.ended {
        Some(at) if !lease.ended_by.is_empty() => format!("ended {} by {}", when(at), show::plain(&lease.ended_by)),
        Some(at) => format!("ended {}", when(at)),
        None => format!("until {}", when(lease.expires)),
    };
    let reason =
        if lease.reason.is_empty() { String::new() } else { format!("  “{}”", show::plain(&lease.reason)) };
    let minted = match (lease.minted.as_str(), lease.minted_until) {
        ("", _) => String::new(),
        ("live" | "asked", Some(until)) => format!("  a minted value, until {}", when(until)),
        ("ending", _) => "  a minted value, being revoked".to_owned(),
        ("revoked", Some(at)) => format!("  a minted value, revoked {}", when(at)),
        ("left", Some(until)) => format!("  a minted value that nobody can revoke, until {}", when(until)),
        ("unknown", Some(until)) => format!("  a value may have been minted, until {}", when(until)),
        (word, _) => format!("  a minted value: {}", show::plain(word)),
    };
    format!(
        "{}  {:<9}  run {}  {} for {}  {}  {end}{minted}{reason}",
        lease.lease,
        lease.state,
        lease.run,
        show::plain(&lease.capability),
        show::plain(&lease.destination),
        show::plain(&lease.delivery)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Moment;

    #[test]
    fn a_line_says_whose_it_is_and_obeys_no_escape_in_a_reason() {
        let lease = LeaseView {
            lease: "abc".parse().unwrap(),
            run: "r1".parse().unwrap(),
            capability: "shop".into(),
            destination: "shop.example.org".into(),
            reason: "to order\u{1b}[2Jpaper".into(),
            kind: "command".into(),
            delivery: "variable SHOP_TOKEN".into(),
            state: "granted".into(),
            made: Moment(0),
            expires: Moment(120_000),
            used: None,
            used_by: String::new(),
            ended: None,
            ended_by: String::new(),
            minted: String::new(),
            minted_until: None,
        };
        let said = line(&lease);
        assert!(
            said.starts_with("abc  granted    run r1  shop for shop.example.org  variable SHOP_TOKEN  until"),
            "{said}"
        );
        assert!(!said.contains('\u{1b}') && said.contains("paper"), "{said}");
    }
}
