//! The server's word on each request to a repository, and on each push what it changes.
//!
//! A repository is looked up by its id in the list that the run's profile had when the run was accepted, and nowhere
//! else. Its secret is opened for the handle of this very run. A push is granted for one reference, with the list of
//! what it changes on the record before anything goes on.
//!
//! Read [`ask`], then [`judge`].

use crate::app::App;
use crate::fault::Fault;
use crate::{connections, grants, leases, mint, now, proposals, random, record, runs, secrets};
use api::git::{GitAct, GitAsk, GitCredential, GitPush, GitWord, Leased};
use api::grants::{EgressOutcome, WireSecret};
use api::leases::LeaseEnd;
use model::capability::Kind;
use model::event::Verdict;
use model::run::RunKind;
use model::{Author, Authors, Event, LeaseId, Moment, Repository, RunId};
use policy::Refusal;
use policy::git::{Place, Update, authors};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::chain::By;
use store::grants::GrantRow;
use store::leases::LeaseRow;
use store::runs::RunRow;
use store::secrets::SecretRow;
use store::{StoreError, Tx};

/// What a handle is for that commands of a run show to the git gateway, and nowhere else: no model has such a name.
pub const HANDLE: &str = "/git";
/// The variable in which commands find the branch that is their run's own.
pub const BRANCH: &str = "VOLARY_BRANCH";
/// The name of the one remote that a box's own repository has.
const ORIGIN: &str = "origin";
/// The object name that stands for none.
const ZERO: &str = "0000000000000000000000000000000000000000";
/// Pipeline files that a refusal names.
const NAMED: usize = 5;
/// Paths that the transcript keeps of one push.
const KEPT_PATHS: usize = 200;

/// What may be done.
struct Granted {
    grant: GrantRow,
    repository: Repository,
    secret: Option<SecretRow>,
    /// Of a key of which others are minted: the lease that carries one.
    carried: Option<mint::Carried>,
    base: Option<String>,
    /// Of a push that begins.
    leased: Option<(LeaseRow, Author)>,
}

/// The repositories of a run, as they were when it was accepted.
///
/// # Errors
/// A profile that cannot be read.
pub fn repositories(profile: &str) -> Result<Vec<Repository>, StoreError> {
    #[derive(Deserialize)]
    struct Kept {
        #[serde(default)]
        repository: Vec<Repository>,
    }
    let corrupt = |e: serde_json::Error| StoreError::Corrupt { what: "profile", why: e.to_string() };
    serde_json::from_str::<Kept>(profile).map(|kept| kept.repository).map_err(corrupt)
}

/// Every repository of a run: those of its profile, and the one on its host that it works on.
#[must_use]
pub fn with_local(row: &RunRow, rows: &[Repository]) -> Vec<Repository> {
    let local = row.repo.as_deref().filter(|repo| !is_address(repo)).map(|_| policy::git::local());
    rows.iter().cloned().chain(local).collect()
}

/// Who is to be the author of what a run commits.
#[must_use]
pub fn author_of(row: &RunRow) -> Author {
    authors::author(&row.person, row.model.as_deref().filter(|_| row.kind == RunKind::Agent))
}

/// The branch that is a run's own.
#[must_use]
pub fn branch_of(row: &RunRow) -> String {
    policy::git::minted(&row.person, row.created)
}

/// Whether a repository's name is an address of a git host, and no path.
#[must_use]
pub fn is_address(repo: &str) -> bool {
    let short = repo.split_once(':').is_some_and(|(host, _)| host.contains('@') && !host.contains('/'));
    repo.contains("://") || short
}

/// The repository that has this address among its names.
#[must_use]
pub fn find<'r>(rows: &'r [Repository], address: &str) -> Option<&'r Repository> {
    let address = address.trim_end_matches('/');
    let same = |row: &&Repository| Place::of(&row.url).is_ok_and(|place| place.names().iter().any(|n| n == address));
    rows.iter().find(same)
}

/// Where a run's own repository is at its door, if it is one at a git host.
#[must_use]
pub fn address_of(row: &RunRow, rows: &[Repository]) -> Option<String> {
    let own = find(rows, row.repo.as_deref()?)?;
    Some(format!("http://{}/git/{}", api::inbox::DOOR, own.id))
}

/// What commands of a run's box find in their environment, so that git goes the way through the gateway without a flag:
/// every name of each repository is rewritten to its place there, the handle is shown there and nowhere else, and what is
/// pushed without a name goes to the run's own branch. Commits are the person's.
#[must_use]
pub fn variables(row: &RunRow, rows: &[Repository], handle: &str) -> Vec<(String, String)> {
    let door = format!("http://{}/git/", api::inbox::DOOR);
    let (branch, author) = (branch_of(row), author_of(row));
    let mut settings = vec![
        (format!("http.{door}.extraHeader"), format!("Authorization: Bearer {handle}")),
        ("remote.origin.push".to_owned(), format!("HEAD:refs/heads/{branch}")),
        ("user.name".to_owned(), author.name),
        ("user.email".to_owned(), author.email),
    ];
    let own = row.repo.as_deref().and_then(|repo| find(rows, repo));
    let own = own.or_else(|| rows.iter().find(|row| policy::git::is_local(row))).or(rows.first());
    let own = own.map(|own| own.id.as_str());
    for repository in rows {
        let names = Place::of(&repository.url).map(|place| place.names()).unwrap_or_default();
        let key = format!("url.{door}{}.insteadOf", repository.id);
        // The remote that the box's own repository has is the run's, or the first of them.
        let origin = (own == Some(&repository.id) && repository.id != ORIGIN).then(|| format!("{door}{ORIGIN}"));
        settings.extend(names.into_iter().chain(origin).map(|name| (key.clone(), name)));
    }
    let mut all = vec![
        (BRANCH.to_owned(), branch),
        ("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned()),
        ("GIT_CONFIG_COUNT".to_owned(), settings.len().to_string()),
    ];
    for (n, (key, value)) in settings.into_iter().enumerate() {
        all.push((format!("GIT_CONFIG_KEY_{n}"), key));
        all.push((format!("GIT_CONFIG_VALUE_{n}"), value));
    }
    all
}

/// The pushes of a run that its upstream is known to have made: of all its repositories, in order.
///
/// # Errors
/// The store's.
pub async fn pushed(app: &App, run: &RunId) -> Result<Vec<Pushed>, StoreError> {
    let mut all = let_through(app, run).await?;
    all.retain(|push| push.end == End::Made);
    Ok(all)
}

/// The pushes of a run that were let through, whatever came of them.
async fn let_through(app: &App, run: &RunId) -> Result<Vec<Pushed>, StoreError> {
    let mut all = Vec::new();
    for entry in app.store.events_of_kind(run, "push").await? {
        if let Event::Push { grant, repository, reference, new, fresh, .. } = entry.event() {
            all.push(Pushed { grant, repository, reference, new, fresh, end: End::Unknown });
        }
    }
    if all.is_empty() {
        return Ok(all);
    }
    let mut ends = std::collections::HashMap::new();
    for entry in app.store.events_of_kind(run, "passed").await? {
        if let Event::Passed { grant, status, interrupted, .. } = entry.event() {
            ends.insert(grant, End::of(status, interrupted));
        }
    }
    for push in &mut all {
        push.end = ends.get(&push.grant).copied().unwrap_or(End::Unknown);
    }
    Ok(all)
}

/// A push that was let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    grant: String,
    /// The repository's id.
    pub repository: String,
    /// The reference, whole.
    pub reference: String,
    /// What it became, or was to become.
    pub new: String,
    /// The upstream had not had that before.
    fresh: bool,
    end: End,
}

/// What is known to have come of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The upstream said so, to the end of its report.
    Made,
    /// The upstream refused it.
    Refused,
    /// The upstream's word was lost: it may have been made.
    Unknown,
}

impl End {
    const fn of(status: u16, interrupted: bool) -> Self {
        match status {
            200 if !interrupted => Self::Made,
            400..=499 => Self::Refused,
            _ => Self::Unknown,
        }
    }
}

/// Judges one request, records the word and keeps the grant: all in one act.
///
/// # Errors
/// When it could not be recorded; then it is not granted.
pub async fn ask(app: &App, ask: GitAsk) -> Result<GitWord, Fault> {
    if let GitAct::Propose(proposal) = &ask.act {
        return proposals::ask(app, &ask, proposal).await;
    }
    let run = ask.run.clone();
    let scrubber = app.scrubber();
    if let Some(row) = app.store.run(&run).await?
        && let Some(repository) = repositories(&row.profile)?.iter().find(|row| row.id == ask.repository)
    {
        freshen(app, repository).await;
    }
    let at = now();
    let before = match &ask.act {
        GitAct::Push(_) => let_through(app, &run).await?,
        _ => Vec::new(),
    };
    let ours = app.clone();
    let (word, last) = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let mut row = tx.run(&ask.run).await?;
                let mut word = judge(tx, &ask, row.as_ref(), &before, at).await?;
                if let (Ok(granted), Some(row)) = (&mut word, &row) {
                    match lease(tx, &ask, &granted.repository, granted.secret.as_ref(), at).await? {
                        Ok(lease) => granted.leased = lease.map(|lease| (lease, author_of(row))),
                        Err(no) => word = Err(no),
                    }
                }
                // Last: that a vendor is asked stands on record, and nothing refuses it after that.
                if let (Ok(granted), Some(row)) = (&mut word, &row)
                    && let Err(no) = carry(tx, &ours, granted, &ask, &row.person, at).await?
                {
                    if let Some(lease) = lease_of(&ask, granted) {
                        leases::push_refused(tx, lease, at).await?;
                    }
                    word = Err(no);
                }
                if let Ok(granted) = &word {
                    tx.reserve(&granted.grant, at).await?;
                    if let Some(secret) = &granted.secret {
                        tx.secret_used(secret, at);
                    }
                    tx.renew_handle(&ask.handle_sha256, at.plus_ms(runs::HANDLE_MS)).await?;
                }
                let clean = |text: &str, most: usize| scrubber.scrub_str(text).chars().take(most).collect::<String>();
                let mut verdict = verdict(&ask, &word);
                (verdict.target, verdict.why) = (clean(&verdict.target, 256), clean(&verdict.why, 1000));
                let mut last = grants::note_with(tx, row.as_mut(), &ask.run, at, verdict, more(&ask, &word)).await?;
                if let (Ok(granted), GitAct::Push(push), Some(row)) = (&word, &ask.act, row.as_mut()) {
                    let paths = push.paths.iter().take(KEPT_PATHS).map(|path| clean(path, 1000)).collect();
                    let event = Event::Push {
                        grant: granted.grant.id.to_string(),
                        repository: granted.repository.id.clone(),
                        reference: push.reference.clone(),
                        old: push.old.clone(),
                        new: push.new.clone(),
                        bytes: push.bytes,
                        paths,
                        paths_count: push.paths_count,
                        fresh: push.fresh,
                        others: push.others_count,
                    };
                    last = Some(tx.append_to(row, at, &event)?.n);
                    tx.record(By::Gateway, at, "git.push", &row.person, pushed_fields(row, granted, push)).await?;
                }
                Ok::<_, Fault>((word, last))
            })
        })
        .await?;
    if let Some(n) = last {
        app.live.tell(&run, n);
    }
    let Granted { grant, repository, secret, carried, base, leased } = match word {
        Ok(granted) => granted,
        Err(no) => return Ok(GitWord::Denied { rule: no.rule.to_owned(), why: no.why }),
    };
    let credential = match (secret, carried) {
        (None, _) => None,
        (Some(row), Some(carried)) => match mint::value(app, carried).await {
            Ok(Ok(given)) => {
                let user = policy::git::user_of(&repository);
                let (value, until) = (WireSecret(given.value), Some(given.until));
                Some(GitCredential { user, value, secret: row.name, until })
            }
            Ok(Err(no)) => {
                broke_off(app, &grant, leased.as_ref()).await?;
                return Ok(GitWord::Denied { rule: no.rule.to_owned(), why: no.why });
            }
            Err(fault) => {
                broke_off(app, &grant, leased.as_ref()).await?;
                return Err(fault);
            }
        },
        (Some(row), None) => match app.keys.open_secret(&row) {
            Ok(value) => {
                let user = policy::git::user_of(&repository);
                Some(GitCredential { user, value: WireSecret(value), secret: row.name, until: None })
            }
            Err(e) => {
                broke_off(app, &grant, leased.as_ref()).await?;
                return Err(Fault::ours("open the repository's secret", &e));
            }
        },
    };
    let leased = leased.map(|(lease, author)| Leased { lease: lease.id, expires: lease.expires, author });
    Ok(GitWord::Granted { grant: grant.id, repository: Box::new(repository), credential, base, leased })
}

/// The word was yes and recorded, and nothing will leave: the passage is settled, and a push that began is over. Nobody else
/// ends its lease: the gateway is not told which it was.
async fn broke_off(app: &App, grant: &GrantRow, leased: Option<&(LeaseRow, Author)>) -> Result<(), Fault> {
    let broken = EgressOutcome { interrupted: true, ..EgressOutcome::default() };
    crate::egress::settle(app, &grant.id, broken).await?;
    match leased {
        Some((lease, _)) => leases::ended(app, &lease.id, LeaseEnd::Broken).await,
        None => Ok(()),
    }
}

/// The lease of the push that this question is about, once it was granted or used in the same act.
fn lease_of<'l>(ask: &'l GitAsk, granted: &'l Granted) -> Option<&'l LeaseId> {
    match &ask.act {
        GitAct::Push(push) => Some(&push.lease),
        _ => granted.leased.as_ref().map(|(lease, _)| &lease.id),
    }
}

/// Has a lease carry what is minted of the repository's secret, where that is a key of which others are: for this one
/// repository, to read it or to push to it.
async fn carry(
    tx: &mut Tx,
    app: &App,
    granted: &mut Granted,
    ask: &GitAsk,
    who: &str,
    at: Moment,
) -> Result<Result<(), Refusal>, Fault> {
    let Some(secret) = granted.secret.as_ref().filter(|secret| mint::mints(secret)) else { return Ok(Ok(())) };
    let access = match &ask.act {
        GitAct::Offer | GitAct::Push(_) => mint::Access::Write,
        _ => mint::Access::Read,
    };
    let plan = match mint::Plan::of(secret.clone(), &destination(&granted.repository), access) {
        Ok(plan) => plan,
        Err(no) => return Ok(Err(no)),
    };
    let what = mint::of_repository(&granted.repository.id);
    Ok(mint::carry(tx, app, plan, (&ask.run, &what, Kind::GitPush), who, at).await?.map(|carried| {
        granted.carried = Some(carried);
    }))
}

/// A repository as a lease's destination: `HOST[:PORT]/OWNER/NAME`.
#[must_use]
pub fn destination(repository: &Repository) -> String {
    let place = Place::of(&repository.url).ok();
    place.map_or_else(String::new, |place| {
        format!("{}/{}", mint::at(&place.host, place.port), place.path.trim_matches('/'))
    })
}

async fn judge(
    tx: &mut Tx,
    ask: &GitAsk,
    row: Option<&RunRow>,
    before: &[Pushed],
    at: Moment,
) -> Result<Result<Granted, Refusal>, StoreError> {
    macro_rules! refuse {
        ($rule:literal, $($why:tt)*) => { return Ok(Err(Refusal::new($rule, format!($($why)*)))) };
    }
    let row = match grants::standing_run(row) {
        Ok(row) => row,
        Err(no) => return Ok(Err(no)),
    };
    let shown = tx.handle(&ask.handle_sha256).await?;
    if let Err(no) = grants::own_handle(shown.as_ref(), &ask.run, at) {
        return Ok(Err(no));
    }
    let rows = with_local(row, &repositories(&row.profile)?);
    let Some(repository) = rows.iter().find(|repository| repository.id == ask.repository).cloned() else {
        let known: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        refuse!(
            "git.repository",
            "The run's profile names no repository {:?}. It names: {known}.",
            record::short(&ask.repository)
        )
    };
    let branch = branch_of(row);
    let no = match &ask.act {
        GitAct::Fetch | GitAct::Propose(_) => None,
        GitAct::Offer if !policy::git::takes_pushes(&repository) => {
            refuse!("git.read-only", "The repository {:?} is one to read: nothing is pushed to it.", repository.id)
        }
        GitAct::Offer => None,
        GitAct::Look { reference, old, new } => {
            policy::git::may_push(&repository, &branch, &Update { reference, old, new }).err()
        }
        GitAct::Push(push) => may_push(&repository, &branch, push, before, &author_of(row)).err(),
    };
    if let Some(no) = no {
        return Ok(Err(no));
    }
    let (host, port) = Place::of(&repository.url).map(|place| (place.host, place.port)).unwrap_or_default();
    let secret = match opener(tx, &repository, &row.person, (&host, port), at).await? {
        Ok(secret) => secret,
        Err(no) => return Ok(Err(no)),
    };
    let own = row.repo.as_deref().and_then(|repo| find(&rows, repo)).is_some_and(|own| own.id == repository.id);
    let base = row.base.clone().filter(|_| own || policy::git::is_local(&repository));
    let grant = GrantRow::passage(random::grant_id(), ask.run.clone());
    Ok(Ok(Granted { grant, repository, secret, carried: None, base, leased: None }))
}

/// The lease of a push: given when it begins, used when its pack goes on.
async fn lease(
    tx: &mut Tx,
    ask: &GitAsk,
    repository: &Repository,
    secret: Option<&SecretRow>,
    at: Moment,
) -> Result<Result<Option<LeaseRow>, Refusal>, StoreError> {
    let id = repository.id.as_str();
    match &ask.act {
        GitAct::Look { reference, .. } => {
            let place = match destination(repository) {
                place if place.is_empty() => "this host".to_owned(),
                place => place,
            };
            let secret = secret.map(|row| row.name.as_str()).unwrap_or_default();
            Ok(leases::push_begins(tx, &ask.run, (id, &place), secret, reference, at).await?.map(Some))
        }
        GitAct::Push(push) => {
            Ok(leases::push_used(tx, &push.lease, &ask.run, (id, &push.reference), at).await?.map(|()| None))
        }
        GitAct::Fetch | GitAct::Offer | GitAct::Propose(_) => Ok(Ok(None)),
    }
}

/// What opens a repository for a person, at this port of `host`: their own value or the workspace's, or a connection's token.
/// None for what everybody may read.
///
/// # Errors
/// The store's.
pub async fn opener(
    tx: &mut Tx,
    repository: &Repository,
    person: &str,
    (host, port): (&str, u16),
    at: Moment,
) -> Result<Result<Option<SecretRow>, Refusal>, StoreError> {
    let Some(name) = &repository.secret else { return Ok(Ok(None)) };
    if let Some(connection) = connections::named(name) {
        return Ok(connections::current_at(tx, connection, host, at).await?.map(Some));
    }
    let Some(secret) = tx.secret_for(name, person).await? else {
        let why =
            format!("The secret {name:?} of the repository {:?} is not set; ask the administrator.", repository.id);
        return Ok(Err(Refusal::new("secret.missing", why)));
    };
    Ok(secrets::may_go(tx, &secret, host, port).await?.map(|()| Some(secret)))
}

/// Refreshes what opens a repository, where that is a connection's token that is over. That it cannot be is said, and
/// recorded, with the word on what it was for.
pub async fn freshen(app: &App, repository: &Repository) {
    if let Some(connection) = repository.secret.as_deref().and_then(connections::named) {
        drop(connections::refresh::ready(app, connection).await);
    }
}

/// A push by the repository's row, the run's own branch, and what the run pushed before.
fn may_push(
    repository: &Repository,
    branch: &str,
    push: &GitPush,
    before: &[Pushed],
    author: &Author,
) -> Result<(), Refusal> {
    let update = Update { reference: &push.reference, old: &push.old, new: &push.new };
    policy::git::may_push(repository, branch, &update)?;
    let own = push.reference.strip_prefix("refs/heads/") == Some(branch);
    // What the upstream says counts, not what the pusher believes.
    let stands = push.there.as_deref().or(Some(push.old.as_str()).filter(|old| *old != ZERO));
    // A push whose answer was lost may have been made: then the branch stands where that push was to set it. Where the
    // upstream had that commit before, anybody may have set it there.
    let was_pushed =
        before.iter().filter(|p| p.repository == repository.id && p.reference == push.reference).any(|p| match p.end {
            End::Made => true,
            End::Unknown => p.fresh && Some(p.new.as_str()) == stands,
            End::Refused => false,
        });
    if own && stands.is_some() && !was_pushed {
        let why = format!("A branch {branch} is there already, and this run did not make it. Start another run.");
        return Err(Refusal::new("git.taken", why));
    }
    // The gateway marks them; what it named is looked at once more.
    let marked = push.pipelines.iter().chain(push.paths.iter().filter(|path| policy::git::is_pipeline(path)));
    let mut files: Vec<&str> = marked.map(String::as_str).collect();
    files.sort_unstable();
    files.dedup();
    if !files.is_empty() && !repository.pipelines_without_secrets {
        let named: Vec<&str> = files.iter().copied().take(NAMED).collect();
        let why = format!(
            "The push changes what the forge runs ({}), and the profile does not say that the repository runs nothing \
             with secrets on a proposal's branch. Take these changes out and push again, or say in your answer what they \
             are to be and let a person make them.",
            named.join(", ")
        );
        return Err(Refusal::new("git.pipelines", why));
    }
    if push.others_count > 0 && repository.authors == Authors::Person {
        return Err(authors::refusal(author, &push.others, push.others_count, push.commits, push.onto.as_deref()));
    }
    Ok(())
}

fn verdict(ask: &GitAsk, word: &Result<Granted, Refusal>) -> Verdict {
    let (method, what, reference) = match &ask.act {
        GitAct::Fetch => ("FETCH", "fetch", ""),
        GitAct::Offer => ("OFFER", "fetch", ""),
        GitAct::Look { reference, .. } => ("LOOK", "fetch", reference.as_str()),
        GitAct::Push(push) => ("PUSH", "push", push.reference.as_str()),
        GitAct::Propose(_) => ("PROPOSE", "propose", ""),
    };
    let target = format!("/git/{} {reference}", record::short(&ask.repository));
    let base = Verdict {
        allowed: false,
        rule: String::new(),
        method: method.into(),
        target: target.trim_end().to_owned(),
        why: String::new(),
        body_sha256: None,
        grant: None,
        model: None,
        reserved: None,
    };
    match word {
        Ok(granted) => Verdict {
            allowed: true,
            rule: format!("git.{what}"),
            why: match &ask.act {
                GitAct::Fetch => "A repository of the run's profile is read.".into(),
                GitAct::Offer => "A repository of the run's profile is read, to push.".into(),
                GitAct::Look { .. } => "A push begins: what it would change is listed first.".into(),
                GitAct::Propose(_) => "What the run pushed is proposed.".into(),
                GitAct::Push(push) => format!("A reference that is this run's; {} path(s) change.", push.paths_count),
            },
            grant: Some(granted.grant.id.to_string()),
            ..base
        },
        Err(no) => Verdict { rule: no.rule.to_owned(), why: no.why.clone(), ..base },
    }
}

/// What evidence says beside the verdict.
fn more(ask: &GitAsk, word: &Result<Granted, Refusal>) -> Map<String, Value> {
    let lease = word.as_ref().ok().and_then(|granted| granted.leased.as_ref()).map(|(lease, _)| lease);
    match (&ask.act, lease) {
        (GitAct::Push(push), _) => record::fields(json!({
            "repository": ask.repository, "old": push.old, "new": push.new, "paths_count": push.paths_count,
            "paths_sha256": push.paths_sha256, "lease": push.lease, "others": push.others_count,
        })),
        (GitAct::Look { .. }, Some(lease)) => record::fields(json!({
            "repository": ask.repository, "lease": lease.id, "capability": lease.capability, "destination": lease.destination,
            "reason": lease.reason, "secret": lease.secret, "expires": lease.expires,
        })),
        _ => record::fields(json!({ "repository": ask.repository })),
    }
}

fn pushed_fields(run: &RunRow, granted: &Granted, push: &GitPush) -> Map<String, Value> {
    let url = if policy::git::is_local(&granted.repository) {
        run.repo.as_deref().unwrap_or_default()
    } else {
        &granted.repository.url
    };
    record::fields(json!({
        "run": run.run, "grant": granted.grant.id, "lease": push.lease, "repository": granted.repository.id, "url": url,
        "commits": push.commits, "others": push.others, "others_count": push.others_count, "reference": push.reference, "old": push.old, "new": push.new, "bytes": push.bytes, "objects": push.objects,
        "paths_count": push.paths_count, "paths_sha256": push.paths_sha256, "pipelines": push.pipelines.len(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "1111111111111111111111111111111111111111";

    fn rule(more: &str, reference: &str, old: &str, paths: &[&str], before: &[Pushed]) -> &'static str {
        judged(more, reference, old, paths, before, |_| {})
    }

    fn judged(
        more: &str,
        reference: &str,
        old: &str,
        paths: &[&str],
        before: &[Pushed],
        change: impl Fn(&mut GitPush),
    ) -> &'static str {
        let text = format!(r#"{{"id":"app","url":"https://github.com/acme/app","secret":"capability/acme"{more}}}"#);
        let repository: Repository = serde_json::from_str(&text).unwrap();
        let mut push = GitPush {
            reference: reference.to_owned(),
            old: old.to_owned(),
            new: A.to_owned(),
            bytes: 1,
            objects: 1,
            paths: paths.iter().map(|p| (*p).to_owned()).collect(),
            paths_count: paths.len() as u64,
            paths_sha256: String::new(),
            pipelines: Vec::new(),
            lease: model::LeaseId::parse("lease").unwrap(),
            there: None,
            fresh: true,
            commits: 2,
            others: Vec::new(),
            others_count: 0,
            onto: None,
        };
        change(&mut push);
        let author = authors::author("tess", Some("worker"));
        may_push(&repository, "pr/tess/t", &push, before, &author).map_or_else(|no| no.rule, |()| "")
    }

    #[test]
    fn a_branch_of_the_runs_name_that_the_run_did_not_make_is_not_moved() {
        let mine = "refs/heads/pr/tess/t";
        let before = |repository: &str| Pushed {
            grant: "g".into(),
            repository: repository.into(),
            reference: mine.into(),
            new: A.into(),
            fresh: true,
            end: End::Made,
        };
        assert_eq!(rule("", mine, ZERO, &["a"], &[]), "");
        assert_eq!(rule("", mine, A, &["a"], &[]), "git.taken");
        assert_eq!(rule("", mine, A, &["a"], &[before("other")]), "git.taken");
        assert_eq!(rule("", mine, A, &["a"], &[before("app")]), "");
    }

    #[test]
    fn a_run_goes_on_with_its_branch_after_a_push_whose_answer_was_lost_and_not_after_a_refused_one() {
        let mine = "refs/heads/pr/tess/t";
        let of = |status, interrupted, new: &str, fresh| {
            let end = End::of(status, interrupted);
            let (grant, repository, reference) = ("g".into(), "app".into(), mine.into());
            let before = Pushed { grant, repository, reference, new: new.into(), fresh, end };
            rule("", mine, A, &["a"], &[before])
        };
        let after = |status, interrupted, new: &str| of(status, interrupted, new, true);
        let other = "2222222222222222222222222222222222222222";
        assert_eq!(after(0, true, A), "", "no answer came");
        assert_eq!(after(200, true, A), "", "the report broke off");
        assert_eq!(after(502, true, A), "", "a proxy before the host lost it");
        assert_eq!(after(0, true, other), "git.taken", "the branch is not where the run would have set it");
        assert_eq!(after(200, true, other), "git.taken");
        assert_eq!(after(200, false, other), "", "it is the run's own, whoever moved it on");
        assert_eq!(after(422, false, A), "git.taken", "the branch was there before");
        assert_eq!(after(403, true, A), "git.taken");
        assert_eq!(of(0, true, A, false), "git.taken", "the upstream had that commit: another may have set it there");
        assert_eq!(of(200, false, A, false), "", "the upstream said that it made it");
    }

    #[test]
    fn what_the_upstream_says_of_the_branch_counts_and_not_what_a_box_believes() {
        let mine = "refs/heads/pr/tess/t";
        let there = |push: &mut GitPush| push.there = Some(A.into());
        assert_eq!(judged("", mine, ZERO, &["a"], &[], there), "git.taken", "it says that there is none");
    }

    #[test]
    fn commits_of_others_are_pushed_where_the_profile_says_so() {
        let mine = "refs/heads/pr/tess/t";
        let others = |push: &mut GitPush| (push.others, push.others_count) = (vec![A.into()], 1);
        assert_eq!(judged("", mine, ZERO, &["a"], &[], others), "git.authors");
        assert_eq!(judged(r#","authors":"any""#, mine, ZERO, &["a"], &[], others), "");
    }

    #[test]
    fn a_push_that_changes_what_a_forge_runs_is_held_unless_the_profile_says_otherwise() {
        let mine = "refs/heads/pr/tess/t";
        assert_eq!(rule("", mine, ZERO, &["a", ".github/workflows/ci.yml"], &[]), "git.pipelines");
        assert_eq!(rule("", mine, ZERO, &[".github/"], &[]), "git.pipelines");
        assert_eq!(rule(r#","pipelines-without-secrets":true"#, mine, ZERO, &[".github/workflows/ci.yml"], &[]), "");
    }

    #[test]
    fn what_was_accepted_before_there_were_repositories_has_none() {
        assert_eq!(repositories(r#"{"description": "an old one"}"#).unwrap(), []);
    }
}
