//! `volary explain RUN [N]`: what a run was refused, by which wall, and what would allow it. `volary allow RUN N`: a
//! person's yes to that, after the change of the profile and what it opens were shown.

use super::log::{id, when};
use super::platform;
use super::show::{in_line, plain};
use crate::home::Home;
use anyhow::bail;
use api::denials::{Allow, Allowed, Blank, ChangeView, DenialView, Terms};
use api::http::RunView;
use clap::Args;
use model::RunId;
use std::io::{BufRead, IsTerminal};

/// `volary explain RUN [N] [--json]`
pub async fn main(home: &Home, run: &str, n: Option<u64>, json: bool) -> anyhow::Result<i32> {
    let run = id(run)?;
    let platform = platform::reach_made(home).await?;
    let Some(n) = n else {
        let all: Vec<DenialView> = platform.client.get(&format!("/api/runs/{run}/denials")).await?;
        let view: RunView = platform.client.get(&format!("/api/runs/{run}")).await?;
        if json {
            println!("{}", serde_json::to_string_pretty(&all)?);
        } else {
            print!("{}{}", listed(&run, &all), stands(&view));
        }
        return Ok(0);
    };
    let one: DenialView = platform.client.get(&format!("/api/runs/{run}/denials/{n}")).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&one)?);
    } else {
        print!("{}", told(&run, &one));
    }
    Ok(0)
}

fn listed(run: &RunId, all: &[DenialView]) -> String {
    if all.is_empty() {
        return format!("Nothing was refused to {run}.\n");
    }
    let mut text = format!("{:>3}  {:>5}  {:<18}  REQUEST\n", "N", "TIMES", "RULE");
    for one in all {
        let what = match &one.proposal {
            Some(proposal) if proposal.holds => "allowed by now",
            Some(_) => "a row would allow it",
            None => "no row would allow it",
        };
        text += &format!(
            "{:>3}  {:>5}  {:<18}  {} {}  ({what})\n",
            one.n,
            one.times,
            in_line(&one.rule),
            in_line(&one.method),
            in_line(&one.target)
        );
    }
    text + &format!("volary explain {run} N says why, and what would allow it.\n")
}

/// How the run stands, where that is no refusal: why it has no box, or how it ended.
fn stands(view: &RunView) -> String {
    let mut text = String::new();
    if !view.reason.is_empty() && view.reason != view.state.word() {
        let how = if view.state.is_over() { view.state.word() } else { "without a box now" };
        text += &format!("The run is {how}: {}\n", in_line(&view.reason));
    }
    if view.attempts > 1 {
        text += &format!(
            "It had {} boxes; volary log {} says why each before the last was broken off.\n",
            view.attempts, view.run
        );
    }
    text
}

fn told(run: &RunId, one: &DenialView) -> String {
    let mut text = format!(
        "{} {}\n  refused   {} ({})\n  why       {}\n  wall      {}\n  profile   {}\n  came      {}\n",
        in_line(&one.method),
        in_line(&one.target),
        in_line(&one.rule),
        "policy, not a fault",
        in_line(&one.why),
        in_line(&one.wall),
        in_line(&one.profile),
        match one.times {
            1 => format!("once, at {}", when(one.first)),
            times => format!("{times} times, first at {}, last at {}", when(one.first), when(one.last)),
        },
    );
    let Some(proposal) = &one.proposal else {
        return text + &in_line(one.unoffered.as_deref().unwrap_or_default()) + "\n";
    };
    text += "What would allow it:\n";
    for line in plain(&proposal.toml).lines() {
        text += &format!("    {line}\n");
    }
    text += &format!("  it would newly open: {}\n", in_line(&proposal.opens));
    let terms = match proposal.blank {
        _ if proposal.holds => return text + "The run's table allows it by now.\n",
        None => "",
        Some(Blank::Capability) => " --capability NAME",
        Some(Blank::Addresses) => " --addresses RANGE --why TEXT",
    };
    text + &format!("A person who may edit the profile accepts it: volary allow {run} {}{terms}\n", one.n)
}

/// `volary allow`
#[derive(Debug, Args)]
pub struct AllowArgs {
    /// The run
    run: String,
    /// Number of the refusal, as `volary explain RUN` lists it
    n: u64,
    /// For a write: NAME of the secret `capability/NAME` that it carries, or `connection/NAME`
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    capability: String,
    /// For a service inside: the ranges that its addresses lie in
    #[arg(long, value_name = "RANGES", default_value = "", hide_default_value = true)]
    addresses: String,
    /// For a service inside: why
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    why: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// For machines; takes --yes
    #[arg(long, requires = "yes")]
    json: bool,
}

/// Shows what it would do, asks, and does it.
pub async fn allow(home: &Home, args: &AllowArgs) -> anyhow::Result<i32> {
    let run = id(&args.run)?;
    let terms = Terms { capability: args.capability.clone(), addresses: args.addresses.clone(), why: args.why.clone() };
    let platform = platform::reach_made(home).await?;
    let at = format!("/api/runs/{run}/denials/{}", args.n);
    let change: ChangeView = platform.client.get(&format!("{at}/change?{}", query(&terms))).await?;
    if !args.json {
        print!("{}", shown(&change));
    }
    if !change.done && !args.yes && !said_yes()? {
        println!("Nothing was changed.");
        return Ok(1);
    }
    let wish = Allow { seen: change.seen.clone(), terms };
    let allowed: Allowed = platform.client.post(&format!("{at}/allow"), &wish).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&allowed)?);
    } else if allowed.changed {
        println!("Allowed. The profile {} is now version {}.", in_line(&allowed.profile), short(&allowed.version));
    }
    Ok(0)
}

fn shown(change: &ChangeView) -> String {
    if change.done {
        return "The run and its profile allow it already; there is nothing to do.\n".to_owned();
    }
    let mut text = format!("It newly opens: {}\n", in_line(&change.opens));
    if change.diff.is_empty() {
        text += &format!("The profile {} allows it already; the run does not yet.\n", in_line(&change.profile));
    } else {
        let made = if change.makes { " (a file is made that takes the built-in profile's place)" } else { "" };
        text += &format!("In the profile {}, for its runs that start from now on{made}:\n", in_line(&change.profile));
        for line in plain(&change.diff).lines() {
            text += &format!("    {line}\n");
        }
    }
    text + if change.live {
        "This run goes on by it within a second; other runs that are under way do not.\n"
    } else {
        "This run's own table stays as it is.\n"
    }
}

fn short(version: &str) -> String {
    version.chars().take(12).collect()
}

/// Whether the person at the terminal says yes.
fn said_yes() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("nobody is there to be asked; say --yes, if that is what you want");
    }
    print!("Allow it? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn query(terms: &Terms) -> String {
    let pairs = [("capability", &terms.capability), ("addresses", &terms.addresses), ("why", &terms.why)];
    pairs.map(|(name, value)| format!("{name}={}", encoded(value))).join("&")
}

/// A value of a query: whatever is no letter or digit is encoded.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::denials::ProposalView;
    use model::Moment;

    const HOSTILE: &str = "\u{1b}[2J\u{202e}x\n  refused   nothing\r\u{9b}31m";

    fn hostile() -> DenialView {
        let text = || HOSTILE.to_owned();
        let proposal = ProposalView { toml: text(), opens: text(), blank: Some(Blank::Capability), holds: false };
        DenialView {
            n: 1,
            entry: 2,
            first: Moment(0),
            last: Moment(0),
            times: 3,
            rule: text(),
            method: text(),
            target: text(),
            why: text(),
            wall: text(),
            profile: text(),
            proposal: Some(proposal),
            unoffered: None,
        }
    }

    #[test]
    fn a_run_without_a_box_is_told_why_and_one_that_had_several_where_that_stands() {
        let view = |state: &str, reason: &str, attempts: u32| -> RunView {
            serde_json::from_value(serde_json::json!({
                "run": "r1", "kind": "agent", "state": state, "reason": reason, "task": "x", "repo": null, "profile": "p",
                "model": "m", "person": "a", "created": 0, "ended": null, "attempts": attempts, "calls": 0,
                "usage": model::Usage::default(), "cost": 0, "entries": 1, "branch": null,
            }))
            .unwrap()
        };
        assert_eq!(stands(&view("running", "", 1)), "");
        let without = stands(&view("running", "the gateway ended\u{1b}[2J", 1));
        assert!(without.starts_with("The run is without a box now: the gateway ended"), "{without}");
        assert!(!without.contains('\u{1b}'), "{without:?}");
        let ended = stands(&view("failed", "three boxes", 3));
        assert!(ended.starts_with("The run is failed: three boxes\nIt had 3 boxes; volary log r1 says why"), "{ended}");
        assert_eq!(stands(&view("done", "done", 1)), "");
    }

    #[test]
    fn nothing_that_a_box_asked_for_steers_the_terminal_or_makes_a_line_of_its_own() {
        let run = RunId::parse("r1").unwrap();
        let change = ChangeView {
            run: run.clone(),
            n: 1,
            profile: HOSTILE.into(),
            seen: String::new(),
            toml: HOSTILE.into(),
            opens: HOSTILE.into(),
            diff: HOSTILE.into(),
            makes: true,
            live: true,
            done: false,
        };
        for text in [listed(&run, &[hostile()]), told(&run, &hostile()), shown(&change)] {
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
            assert!(!text.contains('\u{202e}'), "{text:?}");
            // A line of ours begins with two spaces or none; what was written by others is indented further.
            assert!(!text.contains("\n  refused   nothing"), "{text:?}");
        }
    }

    #[test]
    fn a_value_of_a_query_cannot_become_another_field() {
        let terms = Terms { capability: "a&why=x".into(), addresses: "10.0.0.0/8 é".into(), why: String::new() };
        assert_eq!(query(&terms), "capability=a%26why%3Dx&addresses=10%2E0%2E0%2E0%2F8%20%C3%A9&why=");
    }
}
