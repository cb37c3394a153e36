//! Requests to the outside: by which table a run is judged, the word on each request, and what came of it.
//!
//! The table is the one in the profile that the run was accepted with, and what a person allowed it since. The gateway judges by it and asks here before
//! anything leaves; verdict, evidence and grant are committed before the answer, which alone carries the credential of
//! a write. A credential is given for the handle of this very run, for a row of this run's table, and for nothing else.
//!
//! Read [`law`], [`ask`], [`settle()`] (what came of it), then [`propose()`] (what a person may do about a refusal).

mod propose;
mod settle;
mod table;

use crate::app::App;
use crate::fault::Fault;
use crate::{connections, git, grants, leases, mint, now, random, record, runs, secrets};
use api::grants::{
    EgressAsk, EgressCredential, EgressKind, EgressOutcome, EgressWord, READS_AT_ONCE, READS_MS, WireSecret,
};
use model::capability::Kind;
use model::event::Verdict;
use model::{Egress, LeaseId, Moment, RunId};
use policy::Refusal;
use policy::egress::{Name, target};
pub use propose::propose;
use serde_json::{Map, json};
pub use settle::{Told, reads, settle, settle_in};
use std::sync::Arc;
use store::grants::GrantRow;
use store::runs::RunRow;
use store::secrets::SecretRow;
use store::{StoreError, Tx};
use table::Table;

/// Longest target that a verdict holds whole, in characters; the gateway cuts there.
pub(crate) const TARGET_CHARS: usize = policy::egress::MAX_TARGET;

/// By which table a run is judged.
///
/// # Errors
/// The store's.
pub async fn law(app: &App, run: &RunId) -> Result<EgressWord, Fault> {
    let row = app.store.run(run).await?;
    Ok(match grants::standing_run(row.as_ref()) {
        Ok(row) => {
            let Table { egress, version, .. } = Table::of(&row.profile)?;
            EgressWord::Law { version, egress }
        }
        Err(no) => EgressWord::Denied { rule: no.rule.to_owned(), why: no.why },
    })
}

/// The answer to a question on which there is no recorded word.
#[must_use]
pub fn unrecorded(fault: &Fault) -> EgressWord {
    let why = format!("The platform could not decide this and so refuses it: {}", fault.problem.message);
    EgressWord::Denied { rule: "server.failed".into(), why }
}

/// What the server says to a request.
enum Word {
    /// Another table holds by now; nothing was decided.
    Newer {
        version: u64,
        egress: Egress,
    },
    Granted(Box<Granted>),
    Denied(Refusal),
}

struct Granted {
    grant: GrantRow,
    /// By an exception for a service inside.
    inside: bool,
    /// For a write: the secret, and the host and port that it is for.
    credential: Option<(SecretRow, String, u16)>,
    /// The lease of the command whose handle was shown.
    lease: Option<LeaseId>,
    /// Of a key of which others are minted: the lease that carries one.
    carried: Option<mint::Carried>,
}

/// Judges one request, records the word and keeps the grant: all in one act.
///
/// # Errors
/// When it could not be recorded; then it is not granted.
pub async fn ask(app: &App, ask: EgressAsk) -> Result<EgressWord, Fault> {
    let run = ask.run.clone();
    let scrubber = app.scrubber();
    // A long table is read here, and not while everybody else's records wait.
    let known = Table::lately(app, &run).await?;
    if let (Some(capability), Some(table)) = (&ask.capability, &known)
        && names_row(table, &ask, capability)
        && let Some(connection) = leases::connection_of(&table.profile, capability)
    {
        // A token that is over is refreshed before the word; that it cannot be is said, and recorded, with it.
        drop(connections::refresh::ready(app, &connection).await);
    }
    let (at, ours) = (now(), app.clone());
    let (word, last) = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let mut row = tx.run(&ask.run).await?;
                let mut word = judge(tx, &ask, row.as_ref(), known, at).await?;
                if matches!(word, Word::Newer { .. }) {
                    return Ok((word, None));
                }
                if let (Word::Granted(granted), Some(row)) = (&mut word, &row)
                    && let Err(no) = carry(tx, &ours, granted, &ask, &row.person, at).await?
                {
                    word = Word::Denied(no);
                }
                if let Word::Granted(granted) = &word {
                    tx.reserve(&granted.grant, at).await?;
                    if let Some((secret, ..)) = &granted.credential {
                        tx.secret_used(secret, at);
                    }
                    if let Some(handle) = &ask.handle_sha256 {
                        tx.renew_handle(handle, at.plus_ms(runs::HANDLE_MS)).await?;
                    }
                }
                if ask.reads > 0 && matches!(word, Word::Denied(_)) {
                    // No request was refused: each that is made is asked for by itself.
                    return Ok((word, None));
                }
                let target = scrubber.scrub_str(&ask.target).into_owned();
                let verdict = verdict(&ask, target, &word);
                let more = match ask.reads {
                    0 => Map::new(),
                    reads => record::fields(json!({ "reads": reads, "ms": READS_MS })),
                };
                let last = grants::note_with(tx, row.as_mut(), &ask.run, at, verdict, more).await?;
                Ok::<_, Fault>((word, last))
            })
        })
        .await?;
    if let Some(n) = last {
        app.live.tell(&run, n);
    }
    let Granted { grant, credential, lease, carried, .. } = match word {
        Word::Newer { version, egress } => return Ok(EgressWord::Law { version, egress }),
        Word::Denied(no) => return Ok(EgressWord::Denied { rule: no.rule.to_owned(), why: no.why }),
        Word::Granted(granted) => *granted,
    };
    let Some((secret, host, port)) = credential else {
        return Ok(EgressWord::Granted { grant: grant.id, credential: None });
    };
    let broken = EgressOutcome { interrupted: true, ..EgressOutcome::default() };
    if let Some(carried) = carried {
        let own = Some(carried.lease().clone());
        return match mint::value(app, carried).await {
            Ok(Ok(given)) => {
                let (value, until) = (WireSecret(given.value), Some(given.until));
                let secret = secret.name;
                let credential =
                    EgressCredential { value, secret, host, port, until, lease, carried: own, stored: None };
                Ok(EgressWord::Granted { grant: grant.id, credential: Some(credential) })
            }
            Ok(Err(no)) => {
                settle(app, &grant.id, broken).await?;
                Ok(EgressWord::Denied { rule: no.rule.to_owned(), why: no.why })
            }
            Err(fault) => {
                settle(app, &grant.id, broken).await?;
                Err(fault)
            }
        };
    }
    match app.keys.open_secret(&secret) {
        Ok(value) => {
            let (value, stored, secret) = (WireSecret(value), Some(leases::value_of(&secret)), secret.name);
            let credential = EgressCredential { value, secret, host, port, until: None, lease, carried: None, stored };
            Ok(EgressWord::Granted { grant: grant.id, credential: Some(credential) })
        }
        Err(e) => {
            // The word was yes and recorded; nothing will leave.
            settle(app, &grant.id, broken).await?;
            Err(Fault::ours("open the capability's secret", &e))
        }
    }
}

/// Has a lease carry what is minted of a write's secret, where that is a key of which others are: for what the request's
/// path is about.
async fn carry(
    tx: &mut Tx,
    app: &App,
    granted: &mut Granted,
    ask: &EgressAsk,
    who: &str,
    at: Moment,
) -> Result<Result<(), Refusal>, Fault> {
    let Some((secret, host, port)) = granted.credential.as_ref().filter(|(secret, ..)| mint::mints(secret)) else {
        return Ok(Ok(()));
    };
    let path = target::absolute(&ask.target).map(|url| url.path.to_owned()).unwrap_or_default();
    let plan = mint::of_request(secret, (host, *port), &path)
        .and_then(|destination| mint::Plan::of(secret.clone(), &destination, mint::Access::Tool));
    let plan = match plan {
        Ok(plan) => plan,
        Err(no) => return Ok(Err(no)),
    };
    let what = mint::of_requests(ask.capability.as_deref().unwrap_or_default());
    Ok(mint::carry(tx, app, plan, (&ask.run, &what, Kind::Tool), who, at).await?.map(|carried| {
        granted.carried = Some(carried);
    }))
}

async fn judge(
    tx: &mut Tx,
    ask: &EgressAsk,
    row: Option<&RunRow>,
    known: Option<Arc<Table>>,
    at: Moment,
) -> Result<Word, StoreError> {
    let row = match grants::standing_run(row) {
        Ok(row) => row,
        Err(no) => return Ok(Word::Denied(no)),
    };
    let table = match known.filter(|known| known.profile == row.profile) {
        Some(known) => known,
        None => Table::keep(&row.run, Table::of(&row.profile)?),
    };
    if ask.law != table.version {
        return Ok(Word::Newer { version: table.version, egress: table.egress.clone() });
    }
    let reads = matches!(ask.kind, EgressKind::Read | EgressKind::Write) && matches!(&*ask.method, "GET" | "HEAD");
    if ask.reads > READS_AT_ONCE || (ask.reads > 0 && !reads) {
        let why = "An allowance is for reads, and for no more than so many.";
        return Ok(Word::Denied(Refusal::new("reads.no-allowance", why)));
    }
    let grant = GrantRow::allowance(random::grant_id(), ask.run.clone(), ask.reads);
    let mut lease = None;
    let credential = match (ask.kind, &ask.capability, &ask.handle_sha256) {
        (EgressKind::Read | EgressKind::Tunnel, None, None) => None,
        (EgressKind::Write | EgressKind::Upgrade, Some(capability), Some(handle)) => {
            match credential(tx, ask, row, &table, capability, handle, at).await? {
                Ok((secret, by)) => {
                    lease = by;
                    Some((secret, ask.host.clone(), ask.port))
                }
                Err(no) => return Ok(Word::Denied(no)),
            }
        }
        _ => {
            let why = "A read and a tunnel carry no handle; a write carries this run's, by a row of the profile.";
            return Ok(Word::Denied(Refusal::new("write.handle", why)));
        }
    };
    let inside = table
        .egress
        .internal
        .iter()
        .any(|row| row.port == ask.port && Name::parse(&row.host).is_ok_and(|named| named.as_str() == ask.host));
    Ok(Word::Granted(Box::new(Granted { grant, inside, credential, lease, carried: None })))
}

/// The secret of a write, when the row is one of this run's table and the handle that of a command under a lease, which is
/// given then, or a person's command's own.
async fn credential(
    tx: &mut Tx,
    ask: &EgressAsk,
    row: &RunRow,
    table: &Table,
    capability: &str,
    handle_sha256: &str,
    at: Moment,
) -> Result<Result<(SecretRow, Option<LeaseId>), Refusal>, StoreError> {
    macro_rules! refuse {
        ($rule:literal, $($why:tt)*) => { return Ok(Err(Refusal::new($rule, format!($($why)*)))) };
    }
    if !names_row(table, ask, capability) {
        refuse!("write.no-row", "The profile has no row for this host, method and path with this capability.");
    }
    if tx.handle(handle_sha256).await?.is_some_and(|handle| handle.model == git::HANDLE) {
        refuse!("handle.git", "This handle is for the run's git address alone.");
    }
    let (name, lease) = match leases::shown(tx, ask, row, capability, handle_sha256, at).await? {
        Ok(shown) => shown,
        Err(no) => return Ok(Err(no)),
    };
    if ask.reads > 0 && lease.is_some() {
        // A lease can be taken back at any moment, and holds for each request at its own.
        refuse!("reads.no-allowance", "What a command is given for its lease is asked for one by one.");
    }
    if let Some(connection) = connections::named(&name) {
        return Ok(connections::current_at(tx, connection, &ask.host, at).await?.map(|secret| (secret, lease)));
    }
    match secrets::of_person(tx, &name, &row.person).await? {
        Err(no) => Ok(Err(no)),
        Ok(Some(secret)) => Ok(secrets::may_go(tx, &secret, &ask.host, ask.port).await?.map(|()| (secret, lease))),
        Ok(None) => {
            refuse!("capability.missing", "The secret {name:?} of this capability is not set; ask the administrator.")
        }
    }
}

/// Whether a row of the table has this capability, host, port, method and path. Of a target that was cut the path is
/// the gateway's to judge.
fn names_row(table: &Table, ask: &EgressAsk, capability: &str) -> bool {
    let method = if ask.kind == EgressKind::Upgrade { "UPGRADE" } else { ask.method.as_str() };
    let Ok(host) = Name::parse(&ask.host) else { return false };
    if ask.target.chars().count() >= TARGET_CHARS {
        return table.egress.write.iter().any(|row| {
            row.capability == capability
                && row.method == method
                && row.port.unwrap_or(443) == ask.port
                && Name::parse(&row.host).is_ok_and(|named| named == host)
        });
    }
    let Some(law) = &table.law else { return false };
    let Ok(url) = target::absolute(&ask.target) else { return false };
    url.host == host
        && url.port == ask.port
        && url.scheme == target::Scheme::Https
        && law
            .writes(&host, ask.port, method, url.path)
            .and_then(|row| law.write(row))
            .is_some_and(|row| row.capability == capability)
}

fn verdict(ask: &EgressAsk, target: String, word: &Word) -> Verdict {
    let cut = |text: &str, most| text.chars().take(most).collect::<String>();
    let base = Verdict {
        allowed: false,
        rule: String::new(),
        method: cut(&ask.method, 32),
        target: cut(&target, TARGET_CHARS),
        why: String::new(),
        body_sha256: None,
        grant: None,
        model: None,
        reserved: None,
    };
    match word {
        Word::Granted(granted) => {
            let mut why: String = match (ask.kind, &ask.capability) {
                (EgressKind::Tunnel, _) => {
                    "A blind tunnel by a row of the profile: whoever has it can write there.".into()
                }
                (_, Some(capability)) => {
                    format!("By a row of the profile, in the name of the capability {}.", cut(capability, 64))
                }
                (_, None) => "A read that the profile allows.".into(),
            };
            if granted.inside {
                why.push_str(" To a service inside, by an exception of the profile.");
            }
            if ask.reads > 0 {
                let host = if ask.capability.is_some() { "below this path" } else { "of this host" };
                why.push_str(&format!(
                    " An allowance: up to {} requests {host}, GET or HEAD without a body, that begin within {} ms from \
                     here may be made; each is recorded when it is over.",
                    ask.reads, READS_MS
                ));
            }
            if ask.delegated {
                why.push_str(" Its addresses are checked by the proxy that leads outside, and not here.");
            }
            let grant = Some(granted.grant.id.to_string());
            Verdict { allowed: true, rule: cut(&ask.rule, 64), why, grant, ..base }
        }
        Word::Denied(no) => Verdict { rule: no.rule.to_owned(), why: no.why.clone(), ..base },
        Word::Newer { .. } => base,
    }
}
