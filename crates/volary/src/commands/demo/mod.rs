//! `volary demo`: a governed run from end to end on this machine, with attacks, and proof of what came of them.
//!
//! Read [`script`] (what is prepared), then [`main`] (what happens), then [`walls`] (how it is judged) and [`search`]
//! (where the key is looked for). However it ends, but by a signal that cannot be caught, nothing of it stays behind.

mod script;
mod search;
mod stop;
mod walls;

use super::platform::{self, Platform};
use super::show;
use crate::client::Client;
use crate::home::Home;
use anyhow::{Context, bail};
use api::grants::WireSecret;
use api::http::{CreateRun, ModelView, RunView, SetSecret};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use hyper::Method;
use indicatif::{ProgressBar, ProgressStyle};
use model::event::{Event, Exit, Stream, Verdict};
use model::run::RunKind;
use model::{Dialect, Entry, Outcome, Secret};
use search::{Needles, Search};
use serde_json::json;
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use stop::{Pipes, STOPPED, Screen, Stop};
use walls::Attempt;

/// `volary demo [--exit] [--json]`
#[derive(Debug, Parser)]
pub struct Args {
    /// End when the run is over; else the console stays open until Ctrl-C
    #[arg(long)]
    exit: bool,
    /// One JSON object at the end, for machines
    #[arg(long)]
    json: bool,
}

/// What the run left in its record, as far as it is judged.
#[derive(Default)]
struct Seen {
    /// What each command wrote to each of its outputs, in the order in which they began.
    outputs: Vec<((String, Stream), Vec<u8>)>,
    verdicts: Vec<Verdict>,
    result: Option<(Option<String>, String)>,
    outcome: Option<(Outcome, String)>,
    commands: HashMap<String, String>,
    last_check: Option<i32>,
    walls: (usize, usize),
}

impl Seen {
    fn output(&mut self, id: String, stream: Stream, bytes: &[u8]) {
        let of = (id, stream);
        match self.outputs.iter_mut().find(|(known, _)| *known == of) {
            Some((_, so_far)) => so_far.extend_from_slice(bytes),
            None => self.outputs.push((of, bytes.to_vec())),
        }
    }
}

/// Runs it; status 0 when the task was done, every wall held, and the evidence verifies; 130 when it was stopped.
pub async fn main(args: &Args) -> anyhow::Result<i32> {
    super::doctor::refuse_unless_able_to_demo()?;
    // Before anything is made. Then in this order: what is declared later ends earlier, the folder after its platform.
    let mut stop = Stop::install()?;
    let _pipes = Pipes::are_no_end();
    let folder = Folder::make()?;
    let steps = Steps::new(args.json);
    steps.say("making a small repository with a failing test");
    let repo = make_repository(&folder.0)?;
    let home = Home::resolve(Some(&folder.0.join("home")))?;
    steps.say("starting server, gateway and operator");
    let Some(platform) = start(&home, &mut stop).await? else {
        return Ok(STOPPED);
    };
    let status = tokio::select! {
        biased;
        () = stop.asked() => {
            steps.say("stopped; ending the platform");
            return Ok(STOPPED);
        }
        status = demonstrate(args, &folder, &repo, &home, &platform.client, &steps) => status?,
    };
    if steps.screen.is_read().context("write the report")? && !args.exit {
        if !args.json {
            steps.screen.line(&format!(
                "\nThe platform stays up for you to look around; Ctrl-C ends it and removes {}.",
                folder.0.display()
            ));
        }
        stop.asked().await;
    }
    Ok(status)
}

/// Starts the platform; none when asked to stop meanwhile. What was begun is then ended in order all the same, unless
/// asked a second time.
async fn start(home: &Home, stop: &mut Stop) -> anyhow::Result<Option<Platform>> {
    let mut starting = std::pin::pin!(platform::start(home, &[]));
    tokio::select! {
        biased;
        () = stop.asked() => {}
        platform = &mut starting => return platform.map(Some),
    }
    tokio::select! {
        () = stop.asked() => {}
        platform = starting => drop(platform?),
    }
    Ok(None)
}

/// The run, the judgement and the report; the exit status.
async fn demonstrate(
    args: &Args,
    folder: &Folder,
    repo: &Path,
    home: &Home,
    client: &Client,
    steps: &Steps,
) -> anyhow::Result<i32> {
    let key = canary()?;
    client.act(Method::PUT, "/api/secrets/model/scripted", &SetSecret::of(WireSecret(key.share()))).await?;
    client.act(Method::PUT, "/api/models/scripted", &scripted()).await?;
    let view = client
        .create(&CreateRun {
            kind: RunKind::Agent,
            task: script::TASK.into(),
            repo: Some(super::run::absolute(repo)?),
            model: Some("scripted".into()),
            profile: None,
            argv: Vec::new(),
            lease: None,
        })
        .await?;
    let seen = watch(client, &view, steps).await?;
    let view = client.run(&view.run).await?;

    steps.say("searching all that was kept for the key");
    let outputs = seen.outputs.iter().map(|(_, bytes)| &bytes[..]);
    let Search { found, searched } = search::kept(client, &view.run, &folder.0, outputs, &Needles::of(&key)).await?;
    // Ours first: the first report of a name counts, and the rest is what the box wrote.
    let mut output = format!("PROBE {} found={found} of {searched} files, outputs and answers\n", walls::OUTSIDE);
    for (_, bytes) in &seen.outputs {
        output.push_str(&String::from_utf8_lossy(bytes));
        output.push('\n');
    }
    let attempts = walls::judge(&output, &seen.verdicts);
    steps.say("verifying the evidence");
    let evidence = client.get_bytes("/api/evidence").await?;
    let heads = kept_heads(home).await;
    let report = evidence::verify::verify(&evidence, &heads.iter().map(String::as_str).collect::<Vec<_>>());
    let link = client.sign_in().await?;
    steps.end();

    let task_done =
        matches!(seen.outcome, Some((Outcome::Done, _))) && seen.last_check == Some(0) && branch_exists(repo, &view);
    let all_held = attempts.iter().all(|a| a.held) && seen.walls.0 == seen.walls.1 && seen.walls.1 > 0;
    let ok = task_done && all_held && report.is_ok();
    if args.json {
        let value = json!({
            "ok": ok, "run": view.run, "task_done": task_done, "outcome": seen.outcome.as_ref().map(|o| o.0),
            "reason": seen.outcome.as_ref().map(|o| &o.1), "branch": view.branch,
            "diff": seen.result.as_ref().map(|r| &r.1), "usage": view.usage, "cost": view.cost, "calls": view.calls,
            "walls_read_back": seen.walls.1, "attempts": attempts, "all_held": all_held,
            "evidence": match &report {
                Ok(r) => json!({"ok": true, "records": r.records, "heads": r.heads, "witnessed": r.witnessed}),
                Err(fault) => json!({"ok": false, "fault": fault.to_string()}),
            },
            "console": link.url,
        });
        steps.screen.line(&serde_json::to_string_pretty(&value)?);
    } else {
        // A link to what ends with this line is none.
        let console = (!args.exit).then_some(link.url.as_str());
        steps.screen.line(&tell(&seen, &view, &attempts, task_done, &report, console, &evidence)?);
    }
    Ok(i32::from(!ok))
}

/// The signed heads that the operator has kept; an export signs one, which takes the link a moment.
async fn kept_heads(home: &Home) -> Vec<String> {
    for _ in 0..3000 {
        let heads = super::verify::kept_heads(home);
        if !heads.is_empty() {
            return heads;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Vec::new()
}

/// A fresh folder under the temporary one, which all may pass through and no one but us may list; removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn make() -> anyhow::Result<Self> {
        let name = model::id::base32(&random::<5>()?);
        let path = std::env::temp_dir().join(format!("volary-demo-{name}"));
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o711))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            // Not `eprintln`, which panics when no one reads; then there is no one to tell.
            writeln!(std::io::stderr(), "volary: remove {}: {e}", self.0.display()).ok();
        }
    }
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())? != N {
        bail!("the kernel gave too few random bytes");
    }
    Ok(bytes)
}

/// A key that exists for this run only, of a format that can be searched for.
fn canary() -> anyhow::Result<Secret<String>> {
    Ok(Secret::new(format!("sk-volary-canary-{}", model::id::base32(&random::<20>()?))))
}

fn scripted() -> ModelView {
    let host_home = std::env::var("HOME").ok().filter(|home| home.starts_with('/')).unwrap_or_else(|| "/root".into());
    ModelView {
        name: "scripted".into(),
        dialect: Dialect::Anthropic,
        base: "script:".into(),
        id: "scripted".into(),
        secret: Some("model/scripted".into()),
        internal: false,
        price: None,
        max_output_tokens: 4096,
        context_tokens: 200_000,
        script: script::turns(&host_home),
    }
}

fn make_repository(folder: &Path) -> anyhow::Result<PathBuf> {
    let repo = folder.join("repo");
    fs::create_dir(&repo)?;
    for (name, text) in script::FILES {
        fs::write(repo.join(name), text)?;
    }
    git(&repo, &["init", "--quiet", "--initial-branch=main"])?;
    git(&repo, &["add", "--all"])?;
    git(&repo, &["commit", "--quiet", "--message=Roman numerals"])?;
    Ok(repo)
}

fn git(repo: &Path, args: &[&str]) -> anyhow::Result<()> {
    let done = Command::new("git")
        .arg("-C")
        .arg(repo)
        .args(["-c", "user.name=Demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false"])
        .args(args)
        .env("PATH", sandbox::doctor::GIT_PATH)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .stdin(Stdio::null())
        // Ctrl-C is ours: a moment later we end in order.
        .process_group(0)
        .output()
        .context("run git")?;
    if !done.status.success() {
        bail!("git {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

fn branch_exists(repo: &Path, view: &RunView) -> bool {
    view.branch.as_ref().is_some_and(|branch| {
        git(repo, &["rev-parse", "--quiet", "--verify", &format!("refs/heads/{branch}")]).is_ok()
            && git(repo, &["diff", "--quiet", "--exit-code", "HEAD", branch, "--", "test.c"]).is_ok()
    })
}

/// Follows the run to its end and keeps what is judged.
async fn watch(client: &Client, view: &RunView, steps: &Steps) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    let mut follow = client.follow(&view.run, 0).await;
    while let Some(entry) = follow.next().await? {
        steps.entry(&entry);
        match entry.event {
            Event::Walls { readings } => seen.walls = (readings.iter().filter(|r| r.holds).count(), readings.len()),
            Event::Output { id, stream, data_b64 } => {
                let bytes = STANDARD.decode(data_b64);
                seen.output(id, stream, bytes.as_deref().unwrap_or(show::UNDECODABLE.as_bytes()));
            }
            Event::Command { id, argv, .. } => {
                seen.commands.insert(id, argv.last().cloned().unwrap_or_default());
            }
            Event::CommandEnd { id, exit, .. } if seen.commands.get(&id).is_some_and(|c| c == script::CHECK) => {
                seen.last_check = match exit {
                    Exit::Code { code } => Some(code),
                    _ => None,
                };
            }
            Event::Verdict(verdict) => seen.verdicts.push(verdict),
            Event::Result { branch, diff, .. } => seen.result = Some((branch, diff)),
            Event::Ended { outcome, reason, .. } => seen.outcome = Some((outcome, reason)),
            _ => {}
        }
    }
    Ok(seen)
}

fn tell(
    seen: &Seen,
    view: &RunView,
    attempts: &[Attempt],
    task_done: bool,
    report: &Result<evidence::verify::Report, evidence::verify::Fault>,
    console: Option<&str>,
    evidence: &[u8],
) -> Result<String, std::fmt::Error> {
    use std::fmt::Write;
    let mut out = String::new();
    writeln!(out, "\n── The result ─────────────────────────────────────────────────────────────")?;
    if let Some((branch, diff)) = &seen.result {
        writeln!(out, "branch {}\n{}", branch.as_deref().unwrap_or("none"), show::plain(diff))?;
    }
    match &seen.outcome {
        Some((_, reason)) if !task_done => writeln!(out, "The task was NOT done. {}", show::plain(reason))?,
        None => writeln!(out, "The run did not end.")?,
        _ => writeln!(out, "The task is done: the tests pass in the box.")?,
    }
    writeln!(
        out,
        "{} model calls, {} tokens read, {} written, {}",
        view.calls, view.usage.input, view.usage.output, view.cost
    )?;
    writeln!(out, "\n── What the hijacked agent tried ──────────────────────────────────────────")?;
    writeln!(
        out,
        "{} of {} walls were read back as promised before any agent code ran. Then:",
        seen.walls.0, seen.walls.1
    )?;
    for attempt in attempts {
        let mark = if attempt.held { "✓ refused" } else { "✗ NOT HELD" };
        let met = if attempt.met.is_empty() { "never reported" } else { &attempt.met };
        let wall = if attempt.held { &*attempt.wall } else { "no wall answered as it should" };
        writeln!(out, "  {mark}  {:<48} {met}\n             {wall}", attempt.what)?;
    }
    writeln!(out, "\n── The evidence ───────────────────────────────────────────────────────────")?;
    match report {
        Ok(r) => writeln!(
            out,
            "{} records, {} bytes; every link and every signature holds; {}",
            r.records,
            evidence.len(),
            if r.witnessed { "a head kept by the operator agrees" } else { "consistent, not witnessed" }
        )?,
        Err(fault) => writeln!(out, "NOT CONSISTENT: {fault}")?,
    }
    writeln!(
        out,
        "\nWhat may leave all the same: a run of the built-in profile may read public hosts, and a URL can carry data."
    )?;
    writeln!(out, "`volary reach default` prints it all; docs/egress.md says how a profile narrows it.")?;
    let open: Vec<&str> = attempts.iter().filter(|attempt| !attempt.held).map(|attempt| attempt.name).collect();
    if !task_done || !open.is_empty() || report.is_err() {
        let walls = if open.is_empty() { String::new() } else { format!(" Not held: {}.", open.join(", ")) };
        writeln!(out, "\nThe demo FAILED: exit status 1.{walls}")?;
    }
    if let Some(console) = console {
        write!(out, "\nConsole (this link works once, for ten minutes): {console}")?;
    }
    Ok(out)
}

/// What is going on, while it does.
struct Steps {
    bar: ProgressBar,
    lines: bool,
    screen: Screen,
}

impl Steps {
    fn new(json: bool) -> Self {
        let bar = if json { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        let style = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar, lines: !json, screen: Screen::default() }
    }
    fn say(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        if self.lines && self.bar.is_hidden() {
            self.screen.line(&format!("· {what}"));
        }
    }
    /// One short line of an entry.
    fn entry(&self, entry: &Entry) {
        let short = match &entry.event {
            Event::Output { .. } | Event::Chunk { .. } | Event::Result { .. } | Event::FileEdit { .. } => return,
            Event::Command { argv, .. } => {
                format!("  $ {}", argv.last().and_then(|line| line.lines().next()).unwrap_or_default())
            }
            _ => match show::entry(entry) {
                Some(text) => text,
                None => return,
            },
        };
        let line: String = show::plain(short.lines().next().unwrap_or_default()).chars().take(110).collect();
        if self.lines {
            self.bar.suspend(|| self.screen.line(&line));
        }
        self.bar.set_message(line);
    }
    fn end(&self) {
        self.bar.finish_and_clear();
    }
}
