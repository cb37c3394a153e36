//! The server's word on each model call, and what becomes of it.

use crate::app::App;
use crate::fault::Fault;
use crate::{egress, models, now, random, record, runs, secrets};
use api::grants::{Answer, EgressOutcome, ModelCall, Place, Upstream, WireSecret};
use api::http::ModelView;
use model::event::Verdict;
use model::profile::Sought;
use model::provider::Price;
use model::{Event, GrantId, Moment, Profile, RunId, Secret, Usage};
use policy::Refusal;
use policy::budget::{self, Budget};
use policy::model_call;
use scrub::Scrubber;
use serde_json::{Map, Value, json};
use store::chain::By;
use store::grants::{GrantRow, HandleRow, Spent, Standing};
use store::runs::RunRow;
use store::secrets::SecretRow;
use store::{StoreError, Tx};

/// What a call is granted, before the key is opened.
struct Granted {
    grant: GrantRow,
    model: ModelView,
    secret: Option<SecretRow>,
    sought: Sought,
}

/// Judges one call, records the word, and (when it is yes) sets its worst case aside: all in one act.
///
/// # Errors
/// When it could not be recorded; then it is not granted.
pub async fn ask(app: &App, call: ModelCall) -> Result<Answer, Fault> {
    let at = now();
    let run = call.run.clone();
    let scrubber = app.scrubber();
    let (word, last) = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let usual = usual_secret(&call.provider);
                let mut standing = tx.standing(&call.run, &call.handle_sha256, &call.provider, &usual).await?;
                let word = judge(tx, &call, &mut standing, at).await?;
                if let Ok(granted) = &word {
                    tx.reserve(&granted.grant, at).await?;
                    if let Some(secret) = &granted.secret {
                        tx.secret_used(secret, at);
                    }
                    tx.renew_handle(&call.handle_sha256, at.plus_ms(runs::HANDLE_MS)).await?;
                }
                let verdict = shown(&scrubber, verdict(&call, &word));
                let last = note(tx, standing.run.as_mut(), &call.run, at, verdict).await?;
                Ok::<_, StoreError>((word, last))
            })
        })
        .await?;
    if let Some(n) = last {
        app.live.tell(&run, n);
    }
    let Granted { grant, model, secret, sought } = match word {
        Ok(granted) => granted,
        Err(refusal) => return Ok(Answer::Denied { rule: refusal.rule.to_owned(), why: refusal.why }),
    };
    let upstream = match upstream(app, &model, secret.as_ref()) {
        Ok(upstream) => upstream,
        Err(fault) => {
            // The word was yes and recorded; nothing will be dispatched, so nothing is spent.
            settle(app, &grant.id, Usage::default(), 0, true).await?;
            return Err(fault);
        }
    };
    Ok(Answer::Granted { grant: grant.id, upstream, reserved: grant.reserved_cost, sought })
}

/// The answer to a call on which there is no recorded word.
#[must_use]
pub fn unrecorded(fault: &Fault) -> Answer {
    let why = format!("The platform could not decide this and so refuses it: {}", fault.problem.message);
    Answer::Denied { rule: "server.failed".into(), why }
}

/// Where a model is and what opens it.
///
/// # Errors
/// A secret that does not open.
pub fn upstream(app: &App, model: &ModelView, secret: Option<&SecretRow>) -> Result<Upstream, Fault> {
    let credential = match secret {
        Some(row) => app.keys.open_secret(row).map_err(|e| Fault::ours("open the model's key", &e))?,
        None => Secret::new(String::new()),
    };
    let place = if model.base == models::SCRIPT {
        Place::Script { turns: model.script.clone() }
    } else {
        Place::Url { base: model.base.clone(), internal: model.internal }
    };
    let price = model.price.unwrap_or_default();
    let name = secret.map_or_else(String::new, |row| row.name.clone());
    Ok(Upstream { dialect: model.dialect, place, credential: WireSecret(credential), secret: name, price })
}

/// The name that the secret of a model has where its administrator chose no other: it is read with everything else.
fn usual_secret(model: &str) -> String {
    format!("model/{model}")
}

async fn judge(
    tx: &mut Tx,
    call: &ModelCall,
    standing: &mut Standing,
    at: Moment,
) -> Result<Result<Granted, Refusal>, StoreError> {
    macro_rules! refuse {
        ($rule:literal, $($why:tt)*) => { return Ok(Err(Refusal::new($rule, format!($($why)*)))) };
    }
    let row = match standing_run(standing.run.as_ref()) {
        Ok(row) => row,
        Err(no) => return Ok(Err(no)),
    };
    let handle = match own_handle(standing.handle.as_ref(), &call.run, at) {
        Ok(handle) => handle,
        Err(no) => return Ok(Err(no)),
    };
    if handle.model != call.provider {
        refuse!(
            "handle.other-model",
            "This handle is for the model {:?} and not for {:?}.",
            handle.model,
            record::short(&call.provider)
        );
    }
    if row.model.as_deref() != Some(call.provider.as_str()) {
        refuse!("model.other", "This run does not use the model {:?}.", record::short(&call.provider));
    }
    let Some(model) = standing.model.as_ref().map(models::parse).transpose()? else {
        refuse!("model.unknown", "The model {:?} was removed.", call.provider);
    };
    if model.id != call.model {
        refuse!("model.id", "This run's model is {:?}; the request names {:?}.", model.id, record::short(&call.model));
    }
    let secret = match &model.secret {
        None => None,
        Some(name) => {
            let usual = *name == usual_secret(&call.provider);
            let found = match usual {
                true => std::mem::replace(&mut standing.secret, Ok(None)),
                false => tx.secret_for(name, &row.person).await?,
            };
            match found.map_err(|two| secrets::apart(&two)) {
                Err(no) => return Ok(Err(no)),
                Ok(Some(secret)) => {
                    let to = models::host(&model);
                    match to.map_or(Ok(()), |at| secrets::belongs(&secret, &at.0, at.1, std::slice::from_ref(&at))) {
                        Ok(()) => Some(secret),
                        Err(no) => return Ok(Err(no)),
                    }
                }
                Ok(None) => {
                    refuse!("secret.missing", "The secret {name:?} of this model is not set; ask the administrator.")
                }
            }
        }
    };
    let (input, output) = match call.max_output_tokens {
        // Counting writes nothing and costs nothing.
        _ if model_call::only_counts(&call.path) => (0, 0),
        0 => (call.input_tokens_at_most, model.max_output_tokens),
        output => (call.input_tokens_at_most, output),
    };
    let price: Price = model.price.unwrap_or_default();
    let profile = profile(row)?;
    let reserved_cost = match left(&profile, &standing.spent).reserve(&price, input, output, call.long_cache) {
        Ok(cost) => cost,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let grant = GrantRow {
        id: random::grant_id(),
        run: call.run.clone(),
        model: model.name.clone(),
        settled: false,
        reserved_tokens: budget::tokens(input, output),
        reserved_cost,
        price,
        reads: 0,
        told: 0,
    };
    Ok(Ok(Granted { grant, model, secret, sought: profile.scrub.model }))
}

/// Entries of the server's in a run's transcript, beyond which nothing more is granted to it, over all its boxes: some 200 MB
/// of record. A request that is asked for alone is two of them, 64 reads by an allowance are one.
const MOST_ENTRIES: u64 = 200_000;

/// The run, if it may still be granted something.
///
/// # Errors
/// `run.unknown`, `run.over`; `run.spent`, when its record is as long as it may become.
pub fn standing_run(row: Option<&RunRow>) -> Result<&RunRow, Refusal> {
    match row {
        None => Err(Refusal::new("run.unknown", "There is no such run.")),
        Some(row) if row.state.is_over() => {
            Err(Refusal::new("run.over", "This run is over; nothing more is granted to it."))
        }
        Some(row) if row.server_seq >= MOST_ENTRIES => {
            let why = format!(
                "Very many requests were granted to this run: its record holds {MOST_ENTRIES} entries of them. It can make \
                 no more, in another box neither; start a new run."
            );
            Err(Refusal::new("run.spent", why))
        }
        Some(row) => Ok(row),
    }
}

/// The handle that was shown, if it is this very run's and lives at `at`.
///
/// # Errors
/// `handle.unknown`, `handle.other-run`, `handle.expired`.
pub fn own_handle<'h>(shown: Option<&'h HandleRow>, run: &RunId, at: Moment) -> Result<&'h HandleRow, Refusal> {
    let no = |rule, why: &str| Err(Refusal::new(rule, why));
    match shown {
        None => no(
            "handle.unknown",
            "The key that was sent is not a handle of this platform; use the one this run was given.",
        ),
        Some(handle) if handle.run != *run => {
            no("handle.other-run", "This handle belongs to another run; use the one this run was given.")
        }
        Some(handle) if handle.dead || at >= handle.expires => {
            no("handle.expired", "This handle is over; a run's handle ends with its attempt.")
        }
        Some(handle) => Ok(handle),
    }
}

/// The profile that the run was accepted with.
fn profile(row: &RunRow) -> Result<Profile, StoreError> {
    serde_json::from_str(&row.profile).map_err(|e| StoreError::Corrupt { what: "profile", why: e.to_string() })
}

/// What the run may still use: its limits, less what is used and what is set aside.
fn left(profile: &Profile, spent: &Spent) -> Budget {
    Budget {
        tokens_left: profile.limits.tokens.saturating_sub(spent.tokens).saturating_sub(spent.reserved_tokens),
        cost_left: profile.limits.cost_micro_dollars.minus(spent.cost).minus(spent.reserved_cost),
    }
}

fn verdict(call: &ModelCall, word: &Result<Granted, Refusal>) -> Verdict {
    let target = format!("/model/{}{}", call.provider, call.path);
    let base = Verdict {
        allowed: false,
        rule: String::new(),
        method: "POST".into(),
        target,
        why: String::new(),
        body_sha256: Some(call.body_sha256.clone()),
        grant: None,
        model: Some(call.model.clone()),
        reserved: None,
    };
    match word {
        Ok(granted) => Verdict {
            allowed: true,
            rule: "model.call".into(),
            why: "The run's own model, within its budget.".into(),
            grant: Some(granted.grant.id.to_string()),
            reserved: Some(granted.grant.reserved_cost),
            ..base
        },
        Err(refusal) => Verdict { rule: refusal.rule.to_owned(), why: refusal.why.clone(), ..base },
    }
}

/// A verdict as it may be kept: a box wrote parts of it. Scrubbed before it is cut, so that no half of a secret is left.
pub(crate) fn shown(scrubber: &Scrubber, verdict: Verdict) -> Verdict {
    let bounded = |text: &str, most| scrubber.scrub_str(text).chars().take(most).collect::<String>();
    Verdict {
        rule: bounded(&verdict.rule, 64),
        method: bounded(&verdict.method, 32),
        target: bounded(&verdict.target, 256),
        why: bounded(&verdict.why, 1000),
        body_sha256: verdict.body_sha256.map(|hash| bounded(&hash, 64)),
        model: verdict.model.map(|model| bounded(&model, 256)),
        ..verdict
    }
}

/// Writes a verdict down: in the run's transcript, where there is such a run, and in evidence always.
///
/// # Errors
/// The store's.
pub async fn note(
    tx: &mut Tx,
    row: Option<&mut RunRow>,
    run: &RunId,
    at: Moment,
    verdict: Verdict,
) -> Result<Option<u64>, StoreError> {
    note_with(tx, row, run, at, verdict, Map::new()).await
}

/// As [`note`], with more that evidence says of it.
///
/// # Errors
/// The store's.
pub async fn note_with(
    tx: &mut Tx,
    row: Option<&mut RunRow>,
    run: &RunId,
    at: Moment,
    verdict: Verdict,
    also: Map<String, Value>,
) -> Result<Option<u64>, StoreError> {
    let kind = if verdict.allowed { "gateway.allowed" } else { "gateway.refused" };
    let mut more = record::fields(json!({
        "run": run, "rule": verdict.rule, "method": verdict.method, "target": verdict.target,
        "model": verdict.model, "body_sha256": verdict.body_sha256, "grant": verdict.grant,
        "reserved": verdict.reserved,
    }));
    more.extend(also);
    let who = row.as_ref().map_or_else(|| "nobody".to_owned(), |row| row.person.clone());
    let n = match row {
        Some(row) => Some(tx.append_to(row, at, &Event::Verdict(verdict))?.n),
        None => None,
    };
    tx.record(By::Gateway, at, kind, &who, more).await?;
    Ok(n)
}

/// Records a request that the gateway refused by itself.
///
/// # Errors
/// The store's.
pub async fn refused(app: &App, run: &RunId, verdict: Verdict) -> Result<(), Fault> {
    let (ours, at) = (run.clone(), now());
    let verdict = Verdict { allowed: false, grant: None, reserved: None, ..verdict };
    let verdict = shown(&app.scrubber(), verdict);
    let told = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let mut row = tx.run(&ours).await?;
                let n = note(tx, row.as_mut(), &ours, at, verdict.clone()).await?;
                let offered = match row.as_mut() {
                    Some(row) => egress::propose(tx, row, at, &verdict)?,
                    None => None,
                };
                Ok((n, offered))
            })
        })
        .await
        .map_err(|e: StoreError| Fault::from(e))?;
    let n = match told {
        (_, Some((offered, made))) => {
            made.recorded();
            Some(offered)
        }
        (n, None) => n,
    };
    if let Some(n) = n {
        app.live.tell(run, n);
    }
    Ok(())
}

/// Settles a grant at what the call used. One that is settled already stays as it is.
///
/// Nobody waits for it: it shares the commit of whatever is recorded next, most often the run's next call.
///
/// # Errors
/// The store's.
pub async fn settle(app: &App, grant: &GrantId, usage: Usage, status: u16, interrupted: bool) -> Result<(), Fault> {
    let (id, at) = (grant.clone(), now());
    let told = app
        .store
        .write_soon(move |tx| {
            Box::pin(async move {
                let Some((mut grant, mut run)) = tx.grant(&id).await? else { return Ok(None) };
                settle_in(tx, &mut grant, run.as_mut(), at, Some(usage), status, interrupted).await
            })
        })
        .await
        .map_err(|e: StoreError| Fault::from(e))?;
    match told {
        Some((run, n)) => app.live.tell(&run, n),
        // After a cut the gateway says again what it said shortly before.
        None => tracing::debug!("the gateway settled a grant that is not open: {grant}"),
    }
    Ok(())
}

/// Settles every open grant but these at its reservation: what the calls really used is not known any more. Gives how
/// many of these are open, and how many others were settled.
///
/// # Errors
/// The store's.
pub async fn settle_left(app: &App, but: &[GrantId]) -> Result<(usize, usize), Fault> {
    let (at, but) = (now(), but.to_vec());
    let (open, told) = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let mut told = Vec::new();
                let (open, left): (Vec<_>, Vec<_>) =
                    tx.open_grants().await?.into_iter().partition(|grant| but.contains(&grant.id));
                for mut grant in left {
                    let mut run = tx.run(&grant.run).await?;
                    told.extend(settle_in(tx, &mut grant, run.as_mut(), at, None, 0, true).await?);
                }
                Ok::<_, StoreError>((open.len(), told))
            })
        })
        .await?;
    for (run, n) in &told {
        app.live.tell(run, *n);
    }
    Ok((open, told.len()))
}

async fn settle_in(
    tx: &mut Tx,
    grant: &mut GrantRow,
    run: Option<&mut RunRow>,
    at: Moment,
    usage: Option<Usage>,
    status: u16,
    interrupted: bool,
) -> Result<Option<(RunId, u64)>, StoreError> {
    let (usage, cost) = match usage {
        Some(usage) => (usage, usage.cost(&grant.price)),
        None => (Usage { input: grant.reserved_tokens, ..Usage::default() }, grant.reserved_cost),
    };
    if grant.is_passage() {
        let unknown = EgressOutcome { interrupted: true, ..EgressOutcome::default() };
        return egress::settle_in(tx, grant, run, at, unknown).await;
    }
    if !tx.settle_grant(grant, at, usage, cost, status, interrupted).await? {
        return Ok(None);
    }
    let event =
        Event::Settled { grant: grant.id.to_string(), model: grant.model.clone(), usage, cost, status, interrupted };
    let run = run.ok_or_else(|| StoreError::Corrupt { what: "run", why: format!("no run {}", grant.run) })?;
    let n = tx.append_to(run, at, &event)?.n;
    let more = record::fields(json!({
        "run": grant.run, "grant": grant.id, "model": grant.model, "cost": cost, "tokens": usage.total(),
        "status": status, "interrupted": interrupted,
    }));
    tx.record(By::Gateway, at, "model.settled", &run.person, more).await?;
    Ok(Some((grant.run.clone(), n)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_granted_so_many_requests_over_all_its_boxes_and_none_more() {
        let row = |server_seq, attempts| {
            let row = RunRow::new(random::run_id(), model::run::RunKind::Agent, Moment(0));
            RunRow { server_seq, attempts, ..row }
        };
        let rule = |row: &RunRow| standing_run(Some(row)).map_or_else(|no| no.rule, |_| "ok");
        for attempts in [1, 3] {
            assert_eq!(rule(&row(MOST_ENTRIES - 1, attempts)), "ok");
            assert_eq!(rule(&row(MOST_ENTRIES, attempts)), "run.spent");
        }
    }

    #[test]
    fn a_handle_is_its_own_runs_until_its_deadline_and_not_at_it() {
        let run = random::run_id();
        let row = |dead| HandleRow { run: run.clone(), model: "m".into(), expires: Moment(1000), dead };
        let rule = |shown: Option<&HandleRow>, run: &RunId, ms| {
            own_handle(shown, run, Moment(ms)).map_or_else(|no| no.rule, |_| "ok")
        };
        assert_eq!(rule(None, &run, 0), "handle.unknown");
        assert_eq!(rule(Some(&row(false)), &random::run_id(), 0), "handle.other-run");
        assert_eq!(rule(Some(&row(false)), &run, 999), "ok");
        assert_eq!(rule(Some(&row(false)), &run, 1000), "handle.expired");
        assert_eq!(rule(Some(&row(true)), &run, 0), "handle.expired");
    }
}
