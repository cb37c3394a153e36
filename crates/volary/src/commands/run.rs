//! `volary run`: an agent works on a task; a live view; the result is a branch and a printed diff.

use super::platform;
use super::transcript::Transcript;
use crate::home::{Home, is_missing};
use crate::out;
use anyhow::{Context, bail};
use api::http::CreateRun;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use model::event::Event;
use model::run::RunKind;
use model::{MicroDollars, Outcome, Usage};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `volary run [--repo PATH|URL | --empty] [--model M] [--profile P] [--background] [--json] "task"`
#[derive(Debug, Parser)]
pub struct Args {
    /// Repository to work on, a path or the address of one that the profile names; the current folder's when absent. Its
    /// HEAD is where the run starts
    #[arg(long, value_name = "PATH|URL")]
    pub repo: Option<String>,
    /// Work in an empty worktree, which is not kept
    #[arg(long, conflicts_with = "repo")]
    pub empty: bool,
    /// Model to use; the profile's, or the only one, when absent
    #[arg(long)]
    pub model: Option<String>,
    /// Profile to run under
    #[arg(long)]
    pub profile: Option<String>,
    /// Return at once and print the run's id
    #[arg(long)]
    pub background: bool,
    /// One JSON entry a line
    #[arg(long)]
    pub json: bool,
    /// What to do
    pub task: String,
}

/// A repository's path as the server takes it.
pub fn absolute(path: &Path) -> anyhow::Result<String> {
    let path = std::path::absolute(path)?;
    Ok(path.to_str().with_context(|| format!("the path {} is not UTF-8; move the repository", path.display()))?.into())
}

/// A repository as the server takes it: the address of one at a git host as it is, a path from its root.
pub fn named(repo: &str) -> anyhow::Result<String> {
    if is_address(repo) { Ok(repo.to_owned()) } else { absolute(&PathBuf::from(repo)) }
}

/// Whether a repository's name is an address, and no path: `scheme://…`, or the short form of ssh.
fn is_address(repo: &str) -> bool {
    let short = repo.split_once(':').is_some_and(|(host, _)| host.contains('@') && !host.contains('/'));
    repo.contains("://") || short
}

/// The root of the repository that `folder` lies in, when it lies in one.
fn around(folder: &Path) -> Option<&Path> {
    folder.ancestors().find(|above| !is_missing(&above.join(".git")))
}

/// The repository that a run works on as the server takes it, and what is said of it to whoever asked in `folder` without
/// naming one.
fn chosen(args: &Args, folder: Option<&Path>) -> anyhow::Result<(Option<String>, Option<String>)> {
    if let Some(repo) = &args.repo {
        return Ok((Some(named(repo)?), None));
    }
    if args.empty {
        return Ok((None, None));
    }
    if let Some(repo) = folder.and_then(around) {
        let repo = absolute(repo)?;
        let said = format!("works on a copy of HEAD of {repo} (another: --repo; none: --empty)");
        return Ok((Some(repo), Some(said)));
    }
    let said = "no repository here, and no --repo: the run has an empty worktree, and what it writes there is not kept";
    Ok((None, Some(said.to_owned())))
}

/// Runs it; returns 0 when the task was done.
pub async fn main(home: &Home, args: &Args) -> anyhow::Result<i32> {
    let (repo, said) = chosen(args, std::env::current_dir().ok().as_deref())?;
    if let Some(path) = repo.as_deref().filter(|path| !is_address(path) && is_missing(Path::new(path))) {
        bail!("{path} is not there; give the path of a git repository")
    }
    if let Some(said) = said {
        eprintln!("volary: {said}");
    }
    let platform = platform::reach(home).await?;
    if args.background && platform.is_own() {
        bail!("a background run needs a platform that stays up: start one with `volary up`");
    }
    let client = &platform.client;
    let request = CreateRun {
        kind: RunKind::Agent,
        task: args.task.clone(),
        repo,
        model: args.model.clone(),
        profile: args.profile.clone(),
        argv: Vec::new(),
        lease: None,
    };
    let view = client.create(&request).await?;
    if args.background {
        println!("{}", if args.json { serde_json::to_string(&view)? } else { view.run.to_string() });
        return Ok(0);
    }
    let mut follow = client.follow(&view.run, 0).await;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    let mut live = Live::new(args.json);
    let mut status = 1;
    // What this ends with because it could not be shown; 0 while it can.
    let mut unshown = 0;
    loop {
        let entry = tokio::select! {
            entry = follow.next() => entry?,
            _ = interrupt.recv() => { client.cancel(&view.run).await?; continue }
            _ = terminate.recv() => { client.cancel(&view.run).await?; continue }
            _ = hangup.recv() => { client.cancel(&view.run).await?; continue }
        };
        let Some(entry) = entry else { break };
        // Nobody takes this any more: that is Ctrl-C by another name, and the run is ended in order.
        if unshown == 0
            && let Err(e) = live.show(&entry)
        {
            unshown = out::lost(&e, 1);
            client.cancel(&view.run).await?;
        }
        if let Event::Ended { outcome, .. } = &entry.event {
            status = match outcome {
                Outcome::Done => 0,
                Outcome::Failed => 1,
                Outcome::Cancelled => 130,
            };
        }
    }
    if let Err(e) = live.close()
        && unshown == 0
    {
        unshown = out::lost(&e, 1);
    }
    platform.finish().await;
    Ok(if unshown == 0 { status } else { unshown })
}

/// The live view: the transcript as it comes, and one line below it that says what is going on and what it has cost.
struct Live {
    json: bool,
    bar: ProgressBar,
    transcript: Transcript,
    /// The beginning of a line, while the bar stands where it would.
    begun: String,
    usage: Usage,
    cost: MicroDollars,
}

impl Live {
    fn new(json: bool) -> Self {
        let bar = if json || !std::io::stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            ProgressBar::new_spinner().with_style(
                ProgressStyle::with_template("{spinner} {elapsed} {msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            )
        };
        bar.enable_steady_tick(Duration::from_millis(120));
        let (usage, cost) = (Usage::default(), MicroDollars(0));
        Self { json, bar, transcript: Transcript::default(), begun: String::new(), usage, cost }
    }

    fn show(&mut self, entry: &model::Entry) -> std::io::Result<()> {
        if self.json {
            return write(&format!("{}\n", serde_json::to_string(entry)?));
        }
        if let Event::Settled { usage, cost, .. } = &entry.event {
            self.usage = self.usage.plus(*usage);
            self.cost = self.cost.plus(*cost);
        }
        self.begun += &self.transcript.say(entry);
        // The bar is drawn over the line that the cursor stands in: beside it, only whole lines are written.
        let whole = if self.bar.is_hidden() { self.begun.len() } else { self.begun.rfind('\n').map_or(0, |at| at + 1) };
        let rest = self.begun.split_off(whole);
        let ready = std::mem::replace(&mut self.begun, rest);
        if !ready.is_empty() {
            self.bar.suspend(|| write(&ready))?;
        }
        self.bar.set_message(format!("{} tokens, {}", self.usage.total(), self.cost));
        Ok(())
    }

    /// Takes the bar away, and writes what stood behind it.
    fn close(&mut self) -> std::io::Result<()> {
        self.bar.finish_and_clear();
        let rest = std::mem::take(&mut self.begun) + &self.transcript.end();
        write(&rest)
    }
}

fn write(text: &str) -> std::io::Result<()> {
    let mut to = std::io::stdout();
    to.write_all(out::fit(text).as_bytes())?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::{Args, chosen, named};
    use clap::Parser;
    use std::path::Path;

    #[test]
    fn an_address_of_a_git_host_is_taken_as_it_is_and_a_path_with_a_colon_is_one() {
        for url in ["https://example.org/x.git", "ssh://git@example.org/x", "git@example.org:x.git"] {
            assert_eq!(named(url).unwrap(), url);
        }
        assert_eq!(named("/a:b").unwrap(), "/a:b");
        assert!(named("a").unwrap().starts_with('/'));
    }

    #[test]
    fn the_repository_is_the_named_one_or_that_of_the_current_folder_unless_none_is_asked_for() {
        let of = |more: &[&str], folder: &Path| {
            let args = Args::parse_from(["run", "task"].iter().chain(more));
            chosen(&args, Some(folder)).unwrap()
        };
        let root = tempfile::tempdir().unwrap();
        let inside = root.path().join("a/b");
        std::fs::create_dir_all(&inside).unwrap();
        let (repo, said) = of(&[], &inside);
        assert!(repo.is_none() && said.unwrap().contains("not kept"), "there is no repository yet");
        std::fs::create_dir(root.path().join(".git")).unwrap();
        let path = root.path().to_str().unwrap();
        let (repo, said) = of(&[], &inside);
        assert!(repo.as_deref() == Some(path) && said.unwrap().contains(path), "{repo:?}");
        assert_eq!(of(&["--empty"], &inside), (None, None));
        assert_eq!(of(&["--repo", "/other"], &inside), (Some("/other".to_owned()), None));
        assert!(Args::try_parse_from(["run", "task", "--empty", "--repo", "/other"]).is_err());
    }
}
