//! Pull and merge requests: opened by the server alone, for what a run pushed, under the identity of the run's person.
//!
//! The secret that opens the repository decides whose identity that is: one that the person set for themselves is theirs;
//! the workspace's is an app's, and is used only where the profile's row says so, and then the text says so too. Nothing
//! here merges, approves or changes a proposal: each forge is asked for its default branch, for the opening, and, where it says
//! that there is one already, which that is.
//!
//! Read [`open`], then [`Api`] (what each forge wants to hear).

mod wire;

use crate::app::App;
use crate::fault::Fault;
use crate::{connections, git, leases, mint, now, platform, proposals, runs};
use api::git::PullRequestView;
use api::leases::LeaseEnd;
use api::platform::{CallWord, Method, PlatformCall};
use model::capability::Kind;
use model::{Event, LeaseId, Repository, RunId, Secret};
use policy::Refusal;
use policy::git::words;
use serde_json::{Value, json};
use store::StoreError;
use store::runs::RunRow;
use store::secrets::SecretRow;
use wire::Api;

/// Longest task that a text repeats, in characters.
const TASK: usize = 4000;
/// Longest reason of a forge's that is repeated, in characters.
const REASON: usize = 300;

/// What opens the forge's API.
struct Credential {
    name: String,
    value: Secret<String>,
    /// It is not the person's own.
    as_app: bool,
    /// Whose it is then, in words.
    app: String,
    /// The lease that carries it, where it was minted for this; over with the opening.
    lease: Option<LeaseId>,
}

/// What a proposal is to say.
#[derive(Debug, Default)]
pub struct Words {
    /// One line.
    pub title: Part,
    /// The text.
    pub body: Part,
}

/// Whose words a part of a proposal is.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// The agent's, as it proposed them last; where it did not, the task.
    #[default]
    Agents,
    /// The task.
    Task,
    /// A person's.
    Said(String),
}

impl Part {
    /// A person's words; where they gave none, what the agent proposed.
    #[must_use]
    pub fn or_agents(said: Option<String>) -> Self {
        said.map_or(Self::Agents, Self::Said)
    }
}

/// Opens a proposal for what a run pushed last to its own branch, for `who`; gives the one that is open already, if there is
/// one.
///
/// # Errors
/// 404 and 409 that say what is missing; 502 with the forge's status; the store's.
pub async fn open(app: &App, who: &str, run: &RunId, said: Words) -> Result<PullRequestView, Fault> {
    let row = app.store.run(run).await?.ok_or_else(|| runs::unknown(run))?;
    let branch = git::branch_of(&row);
    let (repository, commit) = proposals::pushed(app, run).await?;
    let of_id = repository.id.clone();
    for entry in app.store.events_of_kind(run, "pull-request").await? {
        if let Event::PullRequest { repository, branch: of, url, number, .. } = entry.event()
            && repository == of_id
            && of == branch
        {
            return Ok(PullRequestView { url, number, already: true });
        }
    }
    let api = Api::of(&repository, &row.profile)?;
    let credential = credential(app, &row, &repository, (&api.host, api.port)).await?;
    let opened = propose(app, who, &row, (repository, &commit, branch, said), &api, &credential).await;
    if let Some(lease) = &credential.lease {
        let outcome = if opened.is_ok() { LeaseEnd::Completed } else { LeaseEnd::Failed };
        leases::ended(app, lease, outcome).await?;
    }
    opened
}

/// Asks the forge which branch it goes into, opens it, and keeps that it is open.
async fn propose(
    app: &App,
    who: &str,
    row: &RunRow,
    (repository, commit, branch, said): (Repository, &str, String, Words),
    api: &Api,
    credential: &Credential,
) -> Result<PullRequestView, Fault> {
    let (who, run) = (who.to_owned(), &row.run);
    let known = ask(app, &who, api.call(Method::Get, "", None, credential)).await?;
    let into = known.get("default_branch").and_then(Value::as_str).filter(|name| policy::git::is_reference(name));
    let Some(into) = into else {
        return Err(strange("The forge does not say which branch of the repository is the default one."));
    };
    let proposed = proposals::wanted(app, run, &repository.id).await?;
    let app_said = credential.as_app.then_some(credential.app.as_str());
    let (title, text) = worded(row, commit, app_said, proposed, said);
    // Secrets that became known since it was proposed are known now.
    let scrubber = app.scrubber();
    let (title, text) = (scrubber.scrub_str(&title).into_owned(), scrubber.scrub_str(&text).into_owned());
    let (path, body) = api.opening(&branch, into, &title, &text);
    let (number, url) = match asked(app, &who, api.call(Method::Post, path, Some(&body), credential)).await? {
        (200..300, answer) => api.opened(&answer).ok_or_else(|| strange("The forge's answer names no proposal."))?,
        (status, answer) => {
            // A call of ours may have opened it whose answer came too late, or was lost before it was kept.
            let found = match status {
                409 | 422 => {
                    ask(app, &who, api.call(Method::Get, &api.standing(&branch, into), None, credential)).await.ok()
                }
                _ => None,
            };
            let found = found.and_then(|list| api.found(&list, &branch, into));
            found.ok_or_else(|| refused(app, status, &answer))?
        }
    };
    let event = Event::PullRequest {
        repository: repository.id,
        branch,
        url: url.clone(),
        number,
        person: row.person.clone(),
        as_app: credential.as_app,
    };
    let (ours, at, as_app) = (run.clone(), now(), credential.as_app);
    let n = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let n = tx.append(&ours, at, &event).await?.n;
                let more = json!({ "run": ours, "number": number, "as_app": as_app });
                tx.record(store::chain::By::Server, at, "proposal.opened", &who, crate::record::fields(more)).await?;
                Ok::<_, StoreError>(n)
            })
        })
        .await?;
    app.live.tell(run, n);
    Ok(PullRequestView { url, number, already: false })
}

fn strange(why: &str) -> Fault {
    Fault::new(http::StatusCode::BAD_GATEWAY, "forge.strange", why)
}

/// The person's own secret, or a connection that they signed in to; the workspace's, or one that somebody else signed in
/// to, where the row allows an app's identity.
async fn credential(
    app: &App,
    row: &RunRow,
    repository: &Repository,
    (host, port): (&str, u16),
) -> Result<Credential, Fault> {
    git::freshen(app, repository).await;
    let name = repository.secret.clone().unwrap_or_default();
    let (of, person, at, to) = (repository.clone(), row.person.clone(), now(), host.to_owned());
    let (found, own) = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let found = git::opener(tx, &of, &person, (&to, port), at).await?;
                let connection = of.secret.as_deref().and_then(connections::named);
                let own = match (connection, &found) {
                    (Some(name), _) => tx.connection(name).await?.is_some_and(|row| row.signed_in_by == person),
                    (None, Ok(Some(secret))) => secret.person == person,
                    _ => false,
                };
                // Of a key that others are minted from, the minting is its use.
                if let Ok(Some(secret)) = &found
                    && (own || of.proposals_as_app)
                    && !mint::mints(secret)
                {
                    tx.secret_used(secret, at);
                }
                Ok::<_, StoreError>((found, own))
            })
        })
        .await?;
    let secret = match found {
        Ok(Some(secret)) if own || repository.proposals_as_app => secret,
        Ok(Some(_)) => {
            let message = format!(
                "A proposal is opened under the person's own identity, and {} has none for {name:?}. Let them have one \
                 (`volary secret set --mine {name}`, or a connection that they sign in to), or let an administrator \
                 allow an app's identity (`proposals-as-app = true` in the repository's row).",
                row.person
            );
            return Err(Fault::conflict("forge.identity", message));
        }
        Ok(None) => {
            let message = "The repository is one to read: nothing is proposed to it.";
            return Err(Fault::conflict("git.read-only", message));
        }
        Err(no) => return Err(Fault::conflict(no.rule, no.why)),
    };
    if mint::mints(&secret) {
        return minted(app, row, repository, secret).await;
    }
    let value = app.keys.open_secret(&secret).map_err(|e| Fault::ours("open the repository's secret", &e))?;
    Ok(Credential { name: secret.name, value, as_app: !own, app: "an app".to_owned(), lease: None })
}

/// A token of an app's, minted for this repository and to open proposals there, and nothing else.
async fn minted(app: &App, row: &RunRow, repository: &Repository, secret: SecretRow) -> Result<Credential, Fault> {
    let no = |no: Refusal| Fault::conflict(no.rule, no.why);
    let whose = mint::whose(&secret).unwrap_or_else(|| "an app".to_owned());
    let (name, at, run, person) = (secret.name.clone(), now(), row.run.clone(), row.person.clone());
    let plan = mint::Plan::of(secret, &git::destination(repository), mint::Access::Propose).map_err(no)?;
    let (ours, what) = (app.clone(), format!("proposal/{}", repository.id));
    let carried = app
        .store
        .write(move |tx| {
            Box::pin(async move { mint::carry(tx, &ours, plan, (&run, &what, Kind::Tool), &person, at).await })
        })
        .await?
        .map_err(no)?;
    let given = mint::value(app, carried).await?.map_err(no)?;
    Ok(Credential { name, value: given.value, as_app: true, app: whose, lease: Some(given.lease) })
}

/// What a proposal says, and what made it, opened by `as_app` if not
/// under the person's own identity. No line of it is an order to a forge.
fn worded(
    row: &RunRow,
    commit: &str,
    as_app: Option<&str>,
    proposed: Option<(String, String)>,
    said: Words,
) -> (String, String) {
    let (agents_title, agents_body) = proposed.unzip();
    let of = |part, agents: Option<String>| match part {
        Part::Said(text) => Some(text),
        Part::Agents => agents,
        Part::Task => None,
    };
    let title = of(said.title, agents_title).unwrap_or_else(|| row.task.clone());
    let is_agents = said.body == Part::Agents && agents_body.is_some();
    let quoted = || row.task.chars().take(TASK).collect::<String>().lines().map(|line| format!("> {line}\n")).collect();
    let text: String = of(said.body, agents_body).unwrap_or_else(quoted);
    let (text, model) = (words::body(&text), row.model.as_deref().unwrap_or("none"));
    let mut text = format!(
        "{}\n\nMade by an agent (model {model}) in the volary run {} for {}, at commit {commit}. A person reviews and merges \
         it.\n",
        text.trim_end(),
        row.run,
        row.person
    );
    if is_agents {
        text.push_str("\nThe text above is the agent's own.\n");
    }
    if let Some(whose) = as_app {
        text.push_str(&format!(
            "\nOpened by {whose} for {}, who has no sign-in of their own here: an administrator allowed an app's identity for \
             this repository.\n",
            row.person
        ));
    }
    (words::title(&title), words::harmless(&text))
}

async fn ask(app: &App, who: &str, call: PlatformCall) -> Result<Value, Fault> {
    match asked(app, who, call).await? {
        (200..300, answer) => Ok(answer),
        (status, answer) => Err(refused(app, status, &answer)),
    }
}

/// The status, and what was said; of an answer that is no JSON nothing, where its status says all.
async fn asked(app: &App, who: &str, call: PlatformCall) -> Result<(u16, Value), Fault> {
    match platform::call(app, who, call).await? {
        CallWord::Answered { status, body, .. } => match serde_json::from_str(body.0.expose()) {
            Ok(said) => Ok((status, said)),
            Err(_) if (200..300).contains(&status) => Err(strange("The forge's answer is no JSON.")),
            Err(_) => Ok((status, Value::Null)),
        },
        CallWord::Fault { rule, why, .. } => {
            Err(Fault::new(http::StatusCode::BAD_GATEWAY, "forge.unreachable", format!("{why} ({rule})")))
        }
    }
}

fn refused(app: &App, status: u16, said: &Value) -> Fault {
    // Scrubbed as it will be read, and whole: of a secret that is cut, the rest is none.
    let said: String = wire::reason(said).chars().filter(|c| !c.is_control()).collect();
    let said: String = app.scrubber().scrub_str(&said).chars().take(REASON).collect();
    let message = format!("The forge answered {status}. {said}");
    Fault::new(http::StatusCode::BAD_GATEWAY, "forge.status", message.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_says_what_the_person_wants_else_the_agent_else_the_task_and_orders_nothing() {
        let mut row = RunRow::new(RunId::parse("r").unwrap(), model::run::RunKind::Agent, model::Moment(0));
        (row.task, row.person) = ("/merge it\n/approve".into(), "tess".into());
        let agents = || Some(("Mend max".to_owned(), "It was smaller.\n/merge\r/close".to_owned()));
        let (title, text) = worded(&row, "c1", None, None, Words::default());
        assert_eq!(title, "\\/merge it");
        assert!(text.starts_with("> /merge it\n> /approve\n") && !text.contains("agent's own"), "{text}");
        let (title, text) = worded(&row, "c1", Some("the app X"), agents(), Words::default());
        assert_eq!(title, "Mend max");
        assert!(text.starts_with("It was smaller.\n\\/merge\n\\/close\n") && text.contains("agent's own"), "{text}");
        assert!(text.contains("Opened by the app X") && text.contains("commit c1"), "{text}");
        let (title, text) = worded(&row, "c1", None, agents(), Words { title: Part::Task, body: Part::Task });
        assert_eq!(title, "\\/merge it");
        assert!(
            text.starts_with("> /merge it\n") && !text.contains("smaller") && !text.contains("agent's own"),
            "{text}"
        );
        let mine = Words { title: Part::Said("Mine".into()), body: Part::Said("So it is.".into()) };
        let (title, text) = worded(&row, "c1", None, agents(), mine);
        assert!(title == "Mine" && text.starts_with("So it is.\n") && !text.contains("agent's own"), "{text}");
    }
}
