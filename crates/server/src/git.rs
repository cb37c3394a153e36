//! The server's word on each request to a repository, and on each push what it changes.
//!
//! A repository is looked up by its id in the list that the run's profile had when the run was accepted, and nowhere
//! else. Its secret is opened for the handle of this very run. A push is granted for one reference, with the list of
//! what it changes on the record before anything goes on.
//!
//! Read [`ask`], then [`judge`].

mod pushes;
mod repositories;

use crate::app::App;
use crate::fault::Fault;
use crate::{connections, grants, leases, mint, now, proposals, random, record, runs, secrets};
use api::git::{GitAct, GitAsk, GitCredential, GitPush, GitWord, Leased};
use api::grants::{EgressOutcome, WireSecret};
use api::leases::LeaseEnd;
use model::capability::Kind;
use model::event::Verdict;
use model::{Author, Event, LeaseId, Moment, Repository};
use policy::Refusal;
use policy::git::{Place, Update};
pub use pushes::{Pushed, pushed};
use pushes::{let_through, may_push};
pub use repositories::{
    BRANCH, address_of, author_of, branch_of, find, is_address, repositories, variables, with_local,
};
use serde_json::{Map, Value, json};
use store::chain::By;
use store::grants::GrantRow;
use store::leases::LeaseRow;
use store::runs::RunRow;
use store::secrets::SecretRow;
use store::{StoreError, Tx};

/// What a handle is for that commands of a run show to the git gateway, and nowhere else: no model has such a name.
pub const HANDLE: &str = "/git";
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
    let own = carried.as_ref().map(|carried| carried.lease().clone());
    let credential = match (secret, carried) {
        (None, _) => None,
        (Some(row), Some(carried)) => match mint::value(app, carried).await {
            Ok(Ok(given)) => {
                let user = policy::git::user_of(&repository);
                let (value, until) = (WireSecret(given.value), Some(given.until));
                Some(GitCredential { user, value, secret: row.name, until, carried: own, stored: None })
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
                let (value, stored) = (WireSecret(value), Some(leases::value_of(&row)));
                Some(GitCredential { user, value, secret: row.name, until: None, carried: None, stored })
            }
            Err(e) => {
                broke_off(app, &grant, leased.as_ref()).await?;
                return Err(Fault::ours("open the repository's secret", &e));
            }
        },
    };
    let leased = leased.map(|(lease, author)| Leased { lease: lease.id, expires: lease.expires, author });
    let (repository, credential) = (Box::new(repository), credential.map(Box::new));
    Ok(GitWord::Granted { grant: grant.id, repository, credential, base, leased })
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
    match secrets::of_person(tx, name, person).await? {
        Err(no) => Ok(Err(no)),
        Ok(Some(secret)) => Ok(secrets::may_go(tx, &secret, host, port).await?.map(|()| Some(secret))),
        Ok(None) => {
            let why =
                format!("The secret {name:?} of the repository {:?} is not set; ask the administrator.", repository.id);
            Ok(Err(Refusal::new("secret.missing", why)))
        }
    }
}

/// Refreshes what opens a repository, where that is a connection's token that is over. That it cannot be is said, and
/// recorded, with the word on what it was for.
pub async fn freshen(app: &App, repository: &Repository) {
    if let Some(connection) = repository.secret.as_deref().and_then(connections::named) {
        drop(connections::refresh::ready(app, connection).await);
    }
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
