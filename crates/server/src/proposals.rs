//! What a run's agent proposes: a title and a text for what it pushed, in its own words.
//!
//! They are untrusted, scrubbed, and made harmless ([`policy::git::words`]). A person opens the pull request with them, having
//! read them, or the server does at once where the repository's row says so; under the person's identity either way, and by
//! [`crate::forge`] alone. Nothing here merges anything.
//!
//! Read [`ask`], then [`wanted`].

use crate::app::App;
use crate::fault::Fault;
use crate::forge::{self, Words};
use crate::{git, grants, now, record};
use api::git::{GitAsk, GitWord, Proposal, PullRequestView};
use model::event::Verdict;
use model::{Event, Moment, Proposals, Repository, RunId};
use policy::Refusal;
use policy::git::words;
use serde_json::json;
use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;
use store::runs::RunRow;
use store::{StoreError, Tx};

/// Proposals that one run may make. The last one counts.
const MOST: u64 = 20;
/// How long the agent waits to hear whether what it proposed is open: well within the gateway's own patience.
const OPENING: Duration = Duration::from_secs(20);

/// Runs of which a proposal is worked on.
static UNDER_WAY: LazyLock<Mutex<HashSet<RunId>>> = LazyLock::new(Mutex::default);

/// A run's turn to propose, while this lives: one at a time, so that a run has one of the places in which questions are
/// worked on for this, however often it asks and whether or not it waits for the answers.
struct Turn(RunId);

impl Turn {
    fn take(run: &RunId) -> Result<Self, Refusal> {
        let mut under_way = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
        // Made only when it is one: one that is dropped here would lock what is locked.
        if under_way.insert(run.clone()) {
            return Ok(Self(run.clone()));
        }
        let why = "A proposal of this run is being worked on; propose once that is answered.";
        Err(Refusal::new("propose.busy", why.to_owned()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// The word on a proposal of a run's agent: kept and recorded, and opened where the profile says so.
///
/// Handle, standing and number are judged before anything of the run's transcript is read, and again in the act that keeps it.
///
/// # Errors
/// When it could not be recorded; then there is none.
pub async fn ask(app: &App, ask: &GitAsk, proposal: &Proposal) -> Result<GitWord, Fault> {
    let turn = Turn::take(&ask.run);
    let found = match &turn {
        Ok(_) => found(app, ask).await?,
        Err(no) => Err(no.clone()),
    };
    let (title, body) = match &found {
        Ok(_) => {
            let scrubber = app.scrubber();
            (words::title(&scrubber.scrub_str(&proposal.title)), words::body(&scrubber.scrub_str(&proposal.body)))
        }
        Err(_) => Default::default(),
    };
    let (run, handle, at) = (ask.run.clone(), ask.handle_sha256.clone(), now());
    let (word, last) = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let mut row = tx.run(&run).await?;
                let may = may_propose(tx, row.as_ref(), &run, &handle, at).await?;
                let word = may.and_then(|branch| found.map(|repository| (branch, repository)));
                let verdict = verdict(&word);
                let also = record::fields(json!({ "title": title }));
                let mut last = grants::note_with(tx, row.as_mut(), &run, at, verdict, also).await?;
                if let (Ok((branch, repository)), Some(row)) = (&word, row.as_mut()) {
                    let (repository, branch) = (repository.id.clone(), branch.clone());
                    let event = Event::PullRequestWanted { repository, branch, title, body };
                    last = Some(tx.append_to(row, at, &event)?.n);
                }
                Ok::<_, StoreError>((word.map(|(_, repository)| (repository, row.map(|row| row.person))), last))
            })
        })
        .await?;
    if let Some(n) = last {
        app.live.tell(&ask.run, n);
    }
    let (repository, person) = match word {
        Ok(word) => word,
        Err(no) => return Ok(GitWord::Denied { rule: no.rule.to_owned(), why: no.why }),
    };
    let person = person.unwrap_or_default();
    let by_hand = format!("{person} reads it, and opens the pull request; nothing more is to be done here.");
    let text = match repository.proposals {
        Proposals::Person => format!("It is kept. {by_hand}"),
        Proposals::Agent => match opening(app, person.clone(), ask.run.clone(), turn.ok()).await {
            Some(Ok(view)) => format!("The pull request is open: {}", view.url),
            Some(Err(fault)) => format!("It is kept, and could not be opened: {} {by_hand}", fault.problem.message),
            None => format!("It is kept, and is being opened. Should that fail: {by_hand}"),
        },
    };
    Ok(GitWord::Said { text })
}

/// The repository that a proposal is for, where the run may propose anything.
async fn found(app: &App, ask: &GitAsk) -> Result<Result<Repository, Refusal>, Fault> {
    let (run, handle, at) = (ask.run.clone(), ask.handle_sha256.clone(), now());
    let may = app.store.write(move |tx| {
        Box::pin(async move {
            let row = tx.run(&run).await?;
            may_propose(tx, row.as_ref(), &run, &handle, at).await
        })
    });
    if let Err(no) = may.await? {
        return Ok(Err(no));
    }
    match pushed(app, &ask.run).await {
        Ok((repository, _)) => Ok(Ok(repository)),
        Err(fault) if fault.status.is_client_error() => Ok(Err(Refusal::new("propose.nothing", fault.problem.message))),
        Err(fault) => Err(fault),
    }
}

/// The run's own branch, where it stands, the handle is its own, and it has not proposed too often.
async fn may_propose(
    tx: &mut Tx,
    row: Option<&RunRow>,
    run: &RunId,
    handle: &str,
    at: Moment,
) -> Result<Result<String, Refusal>, StoreError> {
    let branch = match grants::standing_run(row) {
        Ok(row) => git::branch_of(row),
        Err(no) => return Ok(Err(no)),
    };
    if let Err(no) = grants::own_handle(tx.handle(handle).await?.as_ref(), run, at) {
        return Ok(Err(no));
    }
    if tx.count_of_kind(run, "pull-request-wanted").await? >= MOST {
        let why = format!("This run has proposed {MOST} times already.");
        return Ok(Err(Refusal::new("propose.many", why)));
    }
    Ok(Ok(branch))
}

/// Opens it in a task of its own, which ends what it began whoever waits for it; none where that takes longer than the gateway
/// is to be kept waiting. The run's turn is over when that is.
async fn opening(app: &App, person: String, run: RunId, turn: Option<Turn>) -> Option<Result<PullRequestView, Fault>> {
    let ours = app.clone();
    let task = tokio::spawn(async move {
        let _turn = turn;
        let opened = forge::open(&ours, &person, &run, Words::default()).await;
        if let Err(fault) = &opened {
            tracing::warn!(%run, code = fault.problem.code, "an agent's proposal was not opened: {}", fault.problem.message);
        }
        opened
    });
    let done = tokio::time::timeout(OPENING, task).await.ok()?;
    Some(done.unwrap_or_else(|e| Err(Fault::ours("open the agent's proposal", &e))))
}

fn verdict(word: &Result<(String, Repository), Refusal>) -> Verdict {
    let (allowed, rule, target, why) = match word {
        Ok((branch, repository)) => {
            let why = "What the run pushed is proposed, in the agent's words.".to_owned();
            (true, "git.propose", format!("/git/{} {branch}", repository.id), why)
        }
        Err(no) => (false, no.rule, "/propose".to_owned(), no.why.clone()),
    };
    Verdict {
        allowed,
        rule: rule.to_owned(),
        method: "PROPOSE".into(),
        target,
        why,
        body_sha256: None,
        grant: None,
        model: None,
        reserved: None,
    }
}

/// The repository, and the commit, that a run pushed last to its own branch at a git host.
///
/// # Errors
/// 404, 409 `forge.nothing`, the store's.
pub async fn pushed(app: &App, run: &RunId) -> Result<(Repository, String), Fault> {
    let row = app.store.run(run).await?.ok_or_else(|| crate::runs::unknown(run))?;
    let branch = git::branch_of(&row);
    let reference = format!("refs/heads/{branch}");
    let mut pushed = git::pushed(app, run).await?;
    pushed.retain(|push| push.reference == reference);
    let (local, mut at_hosts): (Vec<_>, Vec<_>) =
        pushed.into_iter().partition(|push| push.repository == policy::git::LOCAL);
    let Some(last) = at_hosts.pop() else {
        let message = if local.is_empty() {
            format!("The run {run} has pushed nothing to its own branch {branch}, so there is nothing to propose.")
        } else {
            format!(
                "The run {run} has pushed to its repository on this host alone, where there are no pull requests: its \
                 branch {branch} is there to be looked at."
            )
        };
        return Err(Fault::conflict("forge.nothing", message));
    };
    let rows = git::repositories(&row.profile)?;
    let repository = rows.into_iter().find(|repository| repository.id == last.repository);
    let gone = || Fault::conflict("git.repository", "The repository is not in the run's profile.");
    Ok((repository.ok_or_else(gone)?, last.new))
}

/// The title and the text that a run's agent proposed last for a repository. Its branch is always the run's own.
///
/// # Errors
/// The store's.
pub async fn wanted(app: &App, run: &RunId, of: &str) -> Result<Option<(String, String)>, StoreError> {
    let all = app.store.events_of_kind(run, "pull-request-wanted").await?;
    Ok(all.into_iter().rev().find_map(|entry| match entry.event() {
        Event::PullRequestWanted { repository, title, body, .. } if repository == of => Some((title, body)),
        _ => None,
    }))
}

/// Where the pull request is that was opened last for a run.
///
/// # Errors
/// The store's.
pub async fn opened(app: &App, run: &RunId) -> Result<Option<String>, StoreError> {
    let all = app.store.events_of_kind(run, "pull-request").await?;
    Ok(all.into_iter().rev().find_map(|entry| match entry.event() {
        Event::PullRequest { url, .. } => Some(url),
        _ => None,
    }))
}
