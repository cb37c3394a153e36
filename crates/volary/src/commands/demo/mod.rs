//! `volary demo`: a governed run from end to end on this machine, with attacks, and proof of what came of them.
//!
//! Read [`script`] (what is prepared), then [`main`] (what happens), then [`walls`] (how it is judged).

mod script;
mod walls;

use super::{platform, show};
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
use model::event::{Event, Exit, Verdict};
use model::run::RunKind;
use model::{Dialect, Entry, Outcome, Secret};
use serde_json::json;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
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
    output: String,
    verdicts: Vec<Verdict>,
    result: Option<(Option<String>, String)>,
    outcome: Option<(Outcome, String)>,
    commands: HashMap<String, String>,
    last_check: Option<i32>,
    walls: (usize, usize),
}

/// Runs it; status 0 when the task was done, every wall held, and the evidence verifies.
pub async fn main(args: &Args) -> anyhow::Result<i32> {
    super::doctor::refuse_unless_able().map_err(|e| anyhow::anyhow!("{e}\n{}", how_to_start()))?;
    let folder = Folder::make()?;
    let steps = Steps::new(args.json);
    steps.say("making a small repository with a failing test");
    let repo = make_repository(&folder.0)?;
    let home = Home::resolve(Some(&folder.0.join("home")))?;
    steps.say("starting server, gateway and operator");
    let platform = platform::start(&home, &[]).await?;
    let client = &platform.client;

    let key = canary()?;
    client.act(Method::PUT, "/api/secrets/model/scripted", &SetSecret { value: WireSecret(key.share()) }).await?;
    client.act(Method::PUT, "/api/models/scripted", &scripted()).await?;
    let view = client
        .create(&CreateRun {
            kind: RunKind::Agent,
            task: script::TASK.into(),
            repo: Some(super::run::absolute(&repo)?),
            model: Some("scripted".into()),
            profile: None,
            argv: Vec::new(),
        })
        .await?;
    let seen = watch(client, &view, &steps).await?;
    let view = client.run(&view.run).await?;

    steps.say("searching all that was kept for the key");
    let found = search_kept(client, &view, &folder.0, &key).await?;
    let output = format!("{}\nPROBE {} found={found}\n", seen.output, walls::OUTSIDE);
    let attempts = walls::judge(&output, &seen.verdicts);
    steps.say("verifying the evidence");
    let evidence = client.get_bytes("/api/evidence").await?;
    let heads = kept_heads(&home).await;
    let report = evidence::verify::verify(&evidence, &heads.iter().map(String::as_str).collect::<Vec<_>>());
    let link = client.sign_in().await?;
    steps.end();

    let task_done =
        matches!(seen.outcome, Some((Outcome::Done, _))) && seen.last_check == Some(0) && branch_exists(&repo, &view);
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
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        tell(&seen, &view, &attempts, task_done, &report, &link.url, &evidence);
    }
    if !args.exit {
        if !args.json {
            println!(
                "\nThe platform stays up for you to look around; Ctrl-C ends it and removes {}.",
                folder.0.display()
            );
        }
        let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    }
    drop(platform);
    Ok(i32::from(!ok))
}

/// The signed heads that the operator has kept; an export signs one, which takes the link a moment.
async fn kept_heads(home: &Home) -> Vec<String> {
    for _ in 0..200 {
        let heads = super::verify::kept_heads(home);
        if !heads.is_empty() {
            return heads;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Vec::new()
}

/// The one command to type when this user cannot keep boxes.
fn how_to_start() -> String {
    let exe = std::env::current_exe().map_or_else(|_| "volary".into(), |path| path.display().to_string());
    format!("Then: sudo {exe} demo")
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
            eprintln!("volary: remove {}: {e}", self.0.display());
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
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .stdin(Stdio::null())
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
            Event::Output { data_b64, .. } => {
                seen.output.push_str(&String::from_utf8_lossy(&STANDARD.decode(data_b64).unwrap_or_default()));
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

/// How often the full key stands in anything that was kept or can be shown: every file of the home but the sealed
/// vault's own (which is searched too), the transcript, the evidence, the model list, the repository.
async fn search_kept(client: &Client, view: &RunView, folder: &Path, key: &Secret<String>) -> anyhow::Result<usize> {
    let needle = key.expose().as_bytes();
    let mut found = 0;
    let mut open = vec![folder.to_path_buf()];
    while let Some(path) = open.pop() {
        let about = fs::symlink_metadata(&path)?;
        if about.is_dir() {
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        } else if about.is_file() {
            match file_holds(&path, needle) {
                Ok(holds) => found += usize::from(holds),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(e).with_context(|| format!("search {}", path.display())),
            }
        }
    }
    let run = &view.run;
    for path in [
        format!("/api/runs/{run}/events?after=0"),
        format!("/api/runs/{run}"),
        "/api/evidence".into(),
        "/api/models".into(),
        "/api/secrets".into(),
    ] {
        found += usize::from(holds(&client.get_bytes(&path).await?, needle));
    }
    Ok(found)
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| *b == needle[0]) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// Searches a file piece by piece; holes of a sparse one (a worktree's image) are passed over.
fn file_holds(path: &Path, needle: &[u8]) -> std::io::Result<bool> {
    use rustix::fs::{SeekFrom, seek};
    use std::io::Read;
    const PIECE: usize = 1 << 20;
    let mut file = fs::File::open(path)?;
    let mut piece = Vec::with_capacity(PIECE + needle.len());
    let mut at = 0;
    loop {
        // Back by a needle's length, so that none is missed that lies across two pieces.
        let data = match seek(&file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => return Ok(false),
            Err(e) => return Err(e.into()),
        };
        piece.clear();
        let read = Read::by_ref(&mut file).take(PIECE as u64).read_to_end(&mut piece)?;
        if holds(&piece, needle) {
            return Ok(true);
        }
        if read < PIECE {
            return Ok(false);
        }
        at = data + (PIECE - needle.len()) as u64;
    }
}

fn tell(
    seen: &Seen,
    view: &RunView,
    attempts: &[Attempt],
    task_done: bool,
    report: &Result<evidence::verify::Report, evidence::verify::Fault>,
    console: &str,
    evidence: &[u8],
) {
    println!("\n── The result ─────────────────────────────────────────────────────────────");
    if let Some((branch, diff)) = &seen.result {
        println!("branch {}\n{}", branch.as_deref().unwrap_or("none"), show::plain(diff));
    }
    match &seen.outcome {
        Some((_, reason)) if !task_done => println!("The task was NOT done. {}", show::plain(reason)),
        None => println!("The run did not end."),
        _ => println!("The task is done: the tests pass in the box."),
    }
    println!(
        "{} model calls, {} tokens read, {} written, {}",
        view.calls, view.usage.input, view.usage.output, view.cost
    );
    println!("\n── What the hijacked agent tried ──────────────────────────────────────────");
    println!("{} of {} walls were read back as promised before any agent code ran. Then:", seen.walls.0, seen.walls.1);
    for attempt in attempts {
        let mark = if attempt.held { "✓ refused" } else { "✗ NOT HELD" };
        let met = if attempt.met.is_empty() { "never reported" } else { &attempt.met };
        println!("  {mark}  {:<48} {met}\n             {}", attempt.what, attempt.wall);
    }
    println!("\n── The evidence ───────────────────────────────────────────────────────────");
    match report {
        Ok(r) => println!(
            "{} records, {} bytes; every link and every signature holds; {}",
            r.records,
            evidence.len(),
            if r.witnessed { "a head kept by the operator agrees" } else { "consistent, not witnessed" }
        ),
        Err(fault) => println!("NOT CONSISTENT: {fault}"),
    }
    println!("\nConsole (this link works once, for ten minutes): {console}");
}

/// What is going on, while it does.
struct Steps(ProgressBar, bool);

impl Steps {
    fn new(json: bool) -> Self {
        let bar = if json { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        let style = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar, !json)
    }
    fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
        if self.1 && self.0.is_hidden() {
            println!("· {what}");
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
        if self.1 {
            self.0.suspend(|| println!("{line}"));
        }
        self.0.set_message(line);
    }
    fn end(&self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_key_is_found_across_two_pieces_and_behind_a_hole_and_only_when_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let file = fs::File::create(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        let needle = b"sk-volary-canary-abc";
        file.write_all_at(&vec![b's'; 2 << 20], 8 << 20).unwrap();
        assert!(!file_holds(&path, needle).unwrap());
        file.write_all_at(needle, (9 << 20) - 7).unwrap();
        assert!(file_holds(&path, needle).unwrap());
        file.write_all_at(&[0; 20], (9 << 20) - 7).unwrap();
        file.write_all_at(needle, (64 << 20) - 20).unwrap();
        assert!(file_holds(&path, needle).unwrap());
    }
}
