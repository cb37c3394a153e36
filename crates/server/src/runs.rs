//! The life of a run, as far as the server decides it: accepted, launched, followed, cancelled, ended.
//!
//! Read [`create`], [`launch()`], [`end`]; what a host says arrives through [`crate::link`].

mod launch;

use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::{delivery, git, leases, now, profiles, random, record};
use api::http::{CreateRun, Input, RunView};
use api::leases::{LeaseAsk, LeaseWord};
use api::link::Down;
use base64::Engine;
pub use launch::launch;
use model::run::RunKind;
use model::{Event, Moment, Outcome, RunId};
use serde_json::json;
use store::StoreError;
use store::chain::By;
use store::grants::HandleRow;
use store::runs::{RawEntry, RunRow};

/// Longest task, in bytes.
pub const MAX_TASK: usize = 65_536;
/// Longest command line, in bytes, arguments together.
pub const MAX_ARGV: usize = 131_072;
/// How long a handle lives beyond its last use or renewal, in milliseconds: ten minutes.
pub const HANDLE_MS: i64 = 600_000;

/// A handle in the clear: made here, told to the box, kept nowhere.
struct Handle {
    clear: String,
    sha256: String,
}

impl Handle {
    fn mint() -> Self {
        let clear = format!("vh_{}", random::token());
        let sha256 = random::sha256_hex(clear.as_bytes());
        Self { clear, sha256 }
    }
}

/// A run as people see it.
#[must_use]
pub fn view(row: RunRow) -> RunView {
    RunView {
        run: row.run,
        kind: row.kind,
        state: row.state,
        reason: row.reason,
        task: row.task,
        repo: row.repo,
        profile: row.profile_name,
        model: row.model,
        person: row.person,
        created: row.created,
        ended: row.ended,
        attempts: row.attempts,
        calls: row.calls,
        usage: row.usage,
        cost: row.cost,
        entries: row.entries,
        branch: row.branch,
    }
}

/// The newest runs first.
///
/// # Errors
/// The store's.
pub async fn list(app: &App, limit: u32) -> Result<Vec<RunView>, Fault> {
    Ok(app.store.runs(limit).await?.into_iter().map(view).collect())
}

/// One run.
///
/// # Errors
/// 404, and the store's.
pub async fn get(app: &App, run: &RunId) -> Result<RunView, Fault> {
    app.store.run(run).await?.map(view).ok_or_else(|| unknown(run))
}

/// Lines of a run's transcript after number `after`, at most `limit`.
///
/// # Errors
/// The store's.
pub async fn events_after(app: &App, run: &RunId, after: u64, limit: u32) -> Result<Vec<RawEntry>, Fault> {
    Ok(app.store.events(run, after, limit).await?)
}

/// What is said of a run that is not here.
#[must_use]
pub fn unknown(run: &RunId) -> Fault {
    Fault::missing("run.unknown", format!("There is no run {run}; `volary runs` lists them."))
}

/// What a run is asked to be, checked.
struct Wish {
    row: RunRow,
    argv_text: String,
    /// The capability and the destination of an exec's lease.
    lease: Option<(String, String)>,
}

async fn check(app: &App, caller: &Caller, wish: CreateRun) -> Result<Wish, Fault> {
    let argv_len: usize = wish.argv.iter().map(|arg| arg.len() + 1).sum();
    let argv_text = app.scrubber().scrub_str(&wish.argv.join(" ")).into_owned();
    match wish.kind {
        RunKind::Agent if !wish.argv.is_empty() => {
            return Err(Fault::bad("run.argv", "A task for an agent has no command; leave `argv` empty."));
        }
        RunKind::Agent if wish.task.trim().is_empty() || wish.task.len() > MAX_TASK => {
            let message = format!("A task takes 1 to {MAX_TASK} bytes; this one has {}.", wish.task.len());
            return Err(Fault::bad("run.task", message));
        }
        RunKind::Exec if wish.argv.first().is_none_or(String::is_empty) || argv_len > MAX_ARGV => {
            let message = format!("A command takes a program and arguments of at most {MAX_ARGV} bytes together.");
            return Err(Fault::bad("run.argv", message));
        }
        RunKind::Exec if wish.argv.iter().any(|arg| arg.contains('\0')) => {
            return Err(Fault::bad("run.argv", "No argument of a command can hold a zero byte."));
        }
        _ => {}
    }
    let profile_name = wish.profile.clone().unwrap_or_else(|| profiles::DEFAULT.to_owned());
    // It runs as it was given or not at all.
    delivery::request(app, caller, &profile_name, &wish).await?;
    let profile = delivery::profile(app, caller, &profile_name).await?;
    if let Some(repo) = &wish.repo {
        let plain = repo.starts_with('/') && !repo.contains('\0') && repo.len() <= 4096;
        if git::is_address(repo) {
            if git::find(&profile.repository, repo).is_none() {
                let message = format!(
                    "The profile {profile_name:?} names no repository at {repo}. An administrator adds it there:\n\n\
                     [[repository]]\nid = \"…\"\nurl = {repo:?}\nsecret = \"…\""
                );
                return Err(Fault::bad("run.repo", message));
            }
        } else if !plain {
            return Err(Fault::bad(
                "run.repo",
                format!("{repo:?} is neither an absolute path of a repository on this machine nor an address of one."),
            ));
        }
    }
    let lease = match wish.lease {
        None => None,
        Some(_) if wish.kind == RunKind::Agent => {
            return Err(Fault::bad("run.lease", "An agent asks for its leases itself; leave `lease` empty."));
        }
        Some(lease) => Some(delivery::exec_lease(&profile, lease)?),
    };
    let model = match wish.kind {
        RunKind::Agent => Some(delivery::model(app, caller, &profile_name, wish.model, &profile).await?),
        RunKind::Exec => None,
    };
    let mut row = RunRow::new(random::run_id(), wish.kind, now());
    row.profile = serde_json::to_string(&profile).map_err(|e| Fault::ours("write the profile down", &e))?;
    row.profile_name = profile_name;
    row.task = if wish.kind == RunKind::Agent { wish.task } else { argv_text.clone() };
    row.argv = wish.argv;
    row.repo = wish.repo;
    row.model = model;
    row.person = caller.person.to_string();
    Ok(Wish { row, argv_text, lease })
}

/// Takes a run on: its row, its first event, its evidence and its handle are one act. It is placed on the
/// linked host at once, or waits for one.
///
/// # Errors
/// 400 and 404 that say what is wrong with the wish; the store's.
pub async fn create(app: &App, caller: &Caller, wish: CreateRun) -> Result<RunView, Fault> {
    let Wish { row, argv_text, lease } = check(app, caller, wish).await?;
    let handle = Handle::mint();
    let sha256 = handle.sha256.clone();
    let asks = lease.map(|(capability, destination)| {
        let reason = format!("asked for with the command, by {}", row.person);
        let mut ask = LeaseAsk { run: row.run.clone(), handle_sha256: sha256.clone(), capability, destination, reason };
        leases::scrub(app, &mut ask);
        ask
    });
    let accepted = Event::Accepted {
        task: row.task.clone(),
        profile: row.profile_name.clone(),
        model: row.model.clone(),
        repo: row.repo.clone(),
        person: row.person.clone(),
    };
    let _placing = app.placing.lock().await;
    let run = row.run.clone();
    let (lease, last) = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                tx.add_run(&row).await?;
                let mut last = tx.append(&row.run, row.created, &accepted).await?.n;
                keep_handle(tx, &sha256, &row.run, of_model(&row), row.created).await?;
                let more = json!({
                    "run": row.run, "what": row.kind, "model": row.model, "repo": row.repo,
                    "profile": row.profile_name, "profile_sha256": random::sha256_hex(row.profile.as_bytes()),
                    "task_sha256": random::sha256_hex(row.task.as_bytes()),
                    "argv_sha256": random::sha256_hex(argv_text.as_bytes()),
                });
                tx.record(By::Server, row.created, "run.accepted", &row.person, record::fields(more)).await?;
                let Some(ask) = asks else { return Ok((None, last)) };
                // In this act: there is no run whose command was to have a lease and that has none.
                let (word, told) = leases::ask_in(tx, &ask, leases::of_command(&row.run), row.created).await?;
                last = told.unwrap_or(last);
                Ok::<_, Fault>((Some(word), last))
            })
        })
        .await?;
    app.live.tell(&run, last);
    if let Some(LeaseWord::Denied { rule, why }) = lease {
        end(app, &run, Outcome::Failed, &format!("Its command was refused its lease: {why}")).await?;
        return Err(Fault::bad(&rule, why));
    }
    if let Some(link) = app.operator() {
        launch(app, &link, &run, 1, Some(handle.clear)).await?;
    }
    get(app, &run).await
}

/// The model that a run's handle is for; of a command none, for the empty name is no model's.
fn of_model(row: &RunRow) -> &str {
    row.model.as_deref().unwrap_or_default()
}

async fn keep_handle(tx: &mut store::Tx, sha256: &str, run: &RunId, model: &str, at: Moment) -> Result<(), StoreError> {
    let row = HandleRow { run: run.clone(), model: model.to_owned(), expires: at.plus_ms(HANDLE_MS), dead: false };
    tx.add_handle(sha256, &row).await
}

/// Ends a run on the server's own word; one that is over stays as it ended. The host, where it has the run,
/// is told to forget it, which ends a box of it first.
///
/// # Errors
/// The store's.
pub async fn end(app: &App, run: &RunId, outcome: Outcome, reason: &str) -> Result<(), Fault> {
    let ended = Event::Ended { outcome, reason: reason.to_owned(), exit: None };
    let (ours, at) = (run.clone(), now());
    let entry = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                match tx.run(&ours).await? {
                    Some(row) if !row.state.is_over() => end_in(tx, &row, at, &ended).await.map(Some),
                    _ => Ok(None),
                }
            })
        })
        .await
        .map_err(|e: StoreError| Fault::from(e))?;
    if let Some(entry) = entry {
        over(app, run, entry.n);
        if let Some(link) = app.operator() {
            // No cancel: a host without a box would write an end of its own into the journal, as a second one.
            link.tell(&Down::Settle { run: run.clone() });
        }
    }
    Ok(())
}

/// Ends a run, in its act: its handles and leases end with it.
///
/// # Errors
/// The store's.
pub(crate) async fn end_in(
    tx: &mut store::Tx,
    row: &RunRow,
    at: Moment,
    ended: &Event,
) -> Result<RawEntry, StoreError> {
    let entry = tx.append(&row.run, at, ended).await?;
    tx.end_handles(&row.run).await?;
    leases::run_over(tx, &row.run, at, ended).await?;
    let more = record::ended(&row.run, ended);
    tx.record(By::Server, at, "run.ended", &row.person, more).await?;
    Ok(entry)
}

/// What follows, outside the rows, from a run's end as line `n` of its transcript.
pub fn over(app: &App, run: &RunId, n: u64) {
    app.live.tell(run, n);
    if let Some(gateway) = app.gateway() {
        gateway.close(run);
    }
}

/// Ends a run on a person's word. A run that no host works on is over at once; a host is told, and says when
/// it is over.
///
/// # Errors
/// 404, 409 for a run that is over, the store's.
pub async fn cancel(app: &App, caller: &Caller, run: &RunId) -> Result<RunView, Fault> {
    let person = caller.person.to_string();
    let note = format!("{person} asked for the run's end");
    cancel_for(app, person, run, note).await
}

/// As [`cancel`], for the person behind a run, with what the transcript says of it.
///
/// # Errors
/// Those of [`cancel`].
pub async fn cancel_for(app: &App, person: String, run: &RunId, note: String) -> Result<RunView, Fault> {
    let _placing = app.placing.lock().await;
    let link = app.operator();
    let (ours, at, linked) = (run.clone(), now(), link.is_some());
    let (n, ended) = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let row = tx.run(&ours).await?.ok_or_else(|| unknown(&ours))?;
                if row.state.is_over() {
                    let message = format!("The run {ours} is over already: {}.", row.state.word());
                    return Err(Fault::conflict("run.over", message));
                }
                tx.ask_cancel(&ours).await?;
                let note = Event::Note { text: note };
                let mut last = tx.append(&ours, at, &note).await?.n;
                let more = record::fields(json!({ "run": ours }));
                tx.record(By::Server, at, "run.cancel-asked", &person, more).await?;
                let now = !linked || row.launches == 0;
                if now {
                    // What a host has of it is not thrown away there.
                    let kept = if row.attempts > 0 && row.kind == RunKind::Agent && row.repo.is_some() {
                        " Its host was away: what it had changed is kept there (`volary kept`)."
                    } else {
                        ""
                    };
                    let reason = format!("{person} ended the run.{kept}");
                    let ended = Event::Ended { outcome: Outcome::Cancelled, reason, exit: None };
                    last = end_in(tx, &row, at, &ended).await?.n;
                }
                Ok((last, now))
            })
        })
        .await?;
    if ended {
        over(app, run, n);
    } else {
        app.live.tell(run, n);
    }
    if let Some(link) = link {
        link.tell(&Down::Cancel { run: run.clone() });
    }
    get(app, run).await
}

/// Passes bytes to an exec's standard input; waits while its box does not take what came before.
///
/// # Errors
/// 400, 404, and 409 when the run is no exec, is over, or its host is not linked.
pub async fn input(app: &App, run: &RunId, input: Input) -> Result<(), Fault> {
    let row = app.store.run(run).await?.ok_or_else(|| unknown(run))?;
    if row.kind != RunKind::Exec {
        return Err(Fault::conflict("run.input", "Only a command (`volary exec`) has a standard input."));
    }
    let over =
        |row: &RunRow| Fault::conflict("run.over", format!("The run {run} is over already: {}.", row.state.word()));
    if row.state.is_over() {
        return Err(over(&row));
    }
    if input.data_b64.len() > api::http::INPUT_WINDOW {
        let most = api::http::INPUT_WINDOW;
        return Err(Fault::bad("run.input", format!("`data_b64` takes at most {most} bytes at once.")));
    }
    if base64::engine::general_purpose::STANDARD.decode(&input.data_b64).is_err() {
        return Err(Fault::bad("run.input", "`data_b64` is not base 64."));
    }
    let away = || Fault::conflict("host.away", "The run's host is not linked at the moment; send it again when it is.");
    let link = {
        // A host that has just come is told of the run first, and takes nothing for one that it does not know.
        let _placing = app.placing.lock().await;
        app.operator().ok_or_else(away)?
    };
    if link.desk.room(run, input.data_b64.len()).await.is_err() {
        // Nothing was sent, whichever it is.
        let now = app.store.run(run).await?.ok_or_else(|| unknown(run))?;
        return Err(if now.state.is_over() { over(&now) } else { away() });
    }
    link.send(&Down::Input { run: run.clone(), data_b64: input.data_b64, end: input.end }).map_err(|_| away())
}
