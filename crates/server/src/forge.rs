//! Pull and merge requests: opened by the server alone, for what a run pushed, under the identity of the run's person.
//!
//! The secret that opens the repository decides whose identity that is: one that the person set for themselves is theirs;
//! the workspace's is an app's, and is used only where the profile's row says so, and then the text says so too. Nothing
//! here merges, approves or changes a proposal: each forge is asked for its default branch, for the opening, and, where it says
//! that there is one already, which that is.
//!
//! Read [`open`], then [`Api`] (what each forge wants to hear).

use crate::app::App;
use crate::fault::Fault;
use crate::{connections, git, leases, mint, now, platform, proposals, runs};
use api::git::PullRequestView;
use api::grants::WireSecret;
use api::leases::LeaseEnd;
use api::platform::{CallCredential, CallLimits, CallWord, CredentialForm, Method, PlatformCall, Purpose};
use model::capability::Kind;
use model::{Event, Forge, LeaseId, Repository, RunId, Secret};
use policy::Refusal;
use policy::git::{Place, forge_of, words};
use serde_json::{Value, json};
use store::StoreError;
use store::runs::RunRow;
use store::secrets::SecretRow;

/// How long one call to a forge may take, in seconds: three of them, and the minting before, within the minute that a minted
/// token is given for.
const SECONDS: u16 = 12;
/// Longest answer of a forge, in bytes.
const ANSWER: u32 = 1024 * 1024;
/// Longest task that a text repeats, in characters.
const TASK: usize = 4000;

/// What one forge wants to hear.
struct Api {
    forge: Forge,
    /// The repository in the forge's API, without a slash at its end.
    root: String,
    host: String,
    port: u16,
}

impl Api {
    fn of(repository: &Repository) -> Result<Self, Fault> {
        let forge = forge_of(repository);
        let place =
            Place::of(&repository.url).map_err(|why| Fault::bad("git.url", format!("The repository's url {why}.")))?;
        let path = place.path.strip_suffix(".git").unwrap_or(&place.path);
        let path = path.trim_matches('/');
        let own = if place.port == 443 { place.host.clone() } else { format!("{}:{}", place.host, place.port) };
        let (host, port, root) = match forge {
            Forge::Github if place.host == "github.com" => {
                ("api.github.com".to_owned(), 443, format!("https://api.github.com/repos/{path}"))
            }
            Forge::Github => (place.host, place.port, format!("https://{own}/api/v3/repos/{path}")),
            Forge::Gitlab => {
                (place.host, place.port, format!("https://{own}/api/v4/projects/{}", path.replace('/', "%2F")))
            }
            Forge::Gitea => (place.host, place.port, format!("https://{own}/api/v1/repos/{path}")),
            Forge::Plain => {
                let message = format!(
                    "The host of the repository {:?} is none of the forges that are known here, so no proposal is opened \
                     there. Say `forge = \"github\"`, \"gitlab\" or \"gitea\" in its row if it is one.",
                    repository.id
                );
                return Err(Fault::conflict("forge.plain", message));
            }
        };
        Ok(Self { forge, root, host, port })
    }

    fn call(&self, method: Method, rest: &str, body: Option<&Value>, credential: &Credential) -> PlatformCall {
        let mut headers = vec![("user-agent".to_owned(), "volary".to_owned())];
        let accept = match self.forge {
            Forge::Github => {
                headers.push(("x-github-api-version".to_owned(), "2022-11-28".to_owned()));
                "application/vnd.github+json"
            }
            _ => "application/json",
        };
        headers.push(("accept".to_owned(), accept.to_owned()));
        if body.is_some() {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        let form = match self.forge {
            Forge::Gitea => CredentialForm::Token,
            _ => CredentialForm::Bearer,
        };
        PlatformCall {
            purpose: Purpose::Forge,
            method,
            url: format!("{}{rest}", self.root),
            named: api::platform::NamedHost { host: self.host.clone(), port: self.port, internal: false },
            headers,
            body: body.map(|body| WireSecret(Secret::new(body.to_string()))),
            credential: Some(CallCredential {
                form,
                value: WireSecret(credential.value.share()),
                secret: credential.name.clone(),
            }),
            limits: CallLimits { seconds: SECONDS, answer_bytes: ANSWER, send_before_ms: None },
            lease: None,
        }
    }

    /// The path and body that open a proposal.
    fn opening(&self, branch: &str, into: &str, title: &str, text: &str) -> (&'static str, Value) {
        match self.forge {
            Forge::Gitlab => (
                "/merge_requests",
                json!({ "source_branch": branch, "target_branch": into, "title": title, "description": text }),
            ),
            _ => ("/pulls", json!({ "head": branch, "base": into, "title": title, "body": text })),
        }
    }

    /// The path that lists what is open of a branch, or of all branches where a forge does not choose.
    fn standing(&self, branch: &str, into: &str) -> String {
        let owner = self.root.rsplit('/').nth(1).unwrap_or_default();
        let (path, pairs) = match self.forge {
            Forge::Gitlab => (
                "/merge_requests",
                vec![("state", "opened".to_owned()), ("source_branch", branch.into()), ("target_branch", into.into())],
            ),
            Forge::Github => (
                "/pulls",
                vec![("state", "open".to_owned()), ("head", format!("{owner}:{branch}")), ("base", into.into())],
            ),
            _ => {
                ("/pulls", vec![("state", "open".to_owned()), ("sort", "recentupdate".into()), ("limit", "50".into())])
            }
        };
        format!("{path}?{}", url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish())
    }

    /// What is open of this repository's own branch, in such a list.
    fn found(&self, list: &Value, branch: &str, into: &str) -> Option<(u64, String)> {
        let at = |one: &Value, way: &str| one.pointer(way).cloned().unwrap_or_default();
        let is_ours = |one: &&Value| {
            let (from, to, theirs, ours) = match self.forge {
                Forge::Gitlab => ("/source_branch", "/target_branch", "/source_project_id", "/target_project_id"),
                _ => ("/head/ref", "/base/ref", "/head/repo/id", "/base/repo/id"),
            };
            at(one, from) == branch
                && at(one, to) == into
                && at(one, theirs).is_u64()
                && at(one, theirs) == at(one, ours)
        };
        self.opened(list.as_array()?.iter().find(is_ours)?)
    }

    /// Number and address of what was opened.
    fn opened(&self, answer: &Value) -> Option<(u64, String)> {
        let (number, url) = match self.forge {
            Forge::Gitlab => ("iid", "web_url"),
            _ => ("number", "html_url"),
        };
        let url = answer.get(url)?.as_str().filter(|url| url.starts_with("https://") && url.len() <= 2000)?;
        Some((answer.get(number)?.as_u64()?, url.to_owned()))
    }
}

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
    let api = Api::of(&repository)?;
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
    let said = said.get("message").and_then(Value::as_str).unwrap_or_default();
    let said: String = app.scrubber().scrub_str(said).chars().filter(|c| !c.is_control()).take(300).collect();
    Fault::new(http::StatusCode::BAD_GATEWAY, "forge.status", format!("The forge answered {status}. {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(url: &str, forge: &str) -> Result<Api, Fault> {
        let forge = if forge.is_empty() { String::new() } else { format!(r#","forge":"{forge}""#) };
        Api::of(&serde_json::from_str(&format!(r#"{{"id":"app","url":"{url}"{forge}}}"#)).unwrap())
    }

    #[test]
    fn each_forge_is_asked_in_its_own_words() {
        for (url, forge, root, path, head) in [
            ("https://github.com/acme/app.git", "", "https://api.github.com/repos/acme/app", "/pulls", "head"),
            (
                "https://git.corp.example/acme/app",
                "github",
                "https://git.corp.example/api/v3/repos/acme/app",
                "/pulls",
                "head",
            ),
            (
                "https://gitlab.com/group/sub/app.git",
                "",
                "https://gitlab.com/api/v4/projects/group%2Fsub%2Fapp",
                "/merge_requests",
                "source_branch",
            ),
            ("https://codeberg.org/acme/app", "", "https://codeberg.org/api/v1/repos/acme/app", "/pulls", "head"),
        ] {
            let api = api(url, forge).unwrap();
            assert_eq!(api.root, root);
            let (to, body) = api.opening("pr/a/b", "main", "t", "x");
            assert_eq!((to, &body[head]), (path, &json!("pr/a/b")), "{url}");
        }
        assert_eq!(api("https://git.example/acme/app", "").err().unwrap().problem.code, "forge.plain");
    }

    #[test]
    fn of_what_is_open_only_the_repositorys_own_branch_is_found() {
        let github = api("https://github.com/acme/app.git", "").unwrap();
        assert_eq!(github.standing("pr/a b", "main"), "/pulls?state=open&head=acme%3Apr%2Fa+b&base=main");
        let one = |head: &str, base: &str, of: u64| {
            let url = format!("https://github.com/acme/app/pull/{of}");
            json!({ "number": of, "html_url": url, "head": { "ref": head, "repo": { "id": of } }, "base": { "ref": base, "repo": { "id": 7 } } })
        };
        let list =
            json!([one("pr/a", "main", 8), one("pr/b", "main", 7), one("pr/a", "old", 7), one("pr/a", "main", 7)]);
        let found = github.found(&list, "pr/a", "main").unwrap();
        assert_eq!(found, (7, "https://github.com/acme/app/pull/7".into()));
        assert_eq!(github.found(&json!([one("pr/a", "main", 8)]), "pr/a", "main"), None, "another's fork");
        assert_eq!(github.found(&json!({ "number": 7 }), "pr/a", "main"), None);
        let gitlab = api("https://gitlab.com/a/b", "").unwrap();
        assert_eq!(
            gitlab.standing("pr/a", "main"),
            "/merge_requests?state=opened&source_branch=pr%2Fa&target_branch=main"
        );
        let list = json!([{ "iid": 3, "web_url": "https://gitlab.com/3", "source_branch": "pr/a", "target_branch": "main",
                            "source_project_id": 1, "target_project_id": 1 }]);
        assert_eq!(gitlab.found(&list, "pr/a", "main"), Some((3, "https://gitlab.com/3".into())));
    }

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

    #[test]
    fn what_was_opened_is_read_and_nothing_that_is_no_address() {
        let api = api("https://gitlab.com/a/b", "").unwrap();
        let web = |url: &str| api.opened(&json!({ "iid": 3, "web_url": url }));
        assert_eq!(
            web("https://gitlab.com/a/b/-/merge_requests/3"),
            Some((3, "https://gitlab.com/a/b/-/merge_requests/3".into()))
        );
        assert_eq!(web("javascript:alert(1)"), None);
        assert_eq!(api.opened(&json!({ "number": 3 })), None);
    }
}
