//! Leases: the only way a run may use the secret of a capability.
//!
//! What may happen to one is [`vault::lease`]'s word; here its row, its record and the run's transcript are written in one
//! act, before anything of it takes effect. A lease that was not recorded was never granted. A value is opened for its
//! one use, and told to the gateway alone.
//!
//! Read [`ask`], [`take`], then what ends one (`over`): [`ended`], [`revoke`], [`run_over`], [`value_over`], [`end_left`],
//! [`sweep`].

mod judge;
mod over;
mod push;

use crate::app::App;
use crate::fault::Fault;
use crate::{connections, grants, mint, now, random, record};
use api::grants::WireSecret;
use api::leases::{Given, LeaseAsk, LeaseEnd, LeaseUse, LeaseUser, LeaseView, LeaseWord, MAX_REASON, ValueWord};
use judge::{Fit, Granted};
pub use judge::{connection_of, shown, stored, takes};
use model::capability::{Delivery, Kind};
use model::event::Verdict;
use model::{LeaseId, Moment, RunId, RunState, Secret};
use over::end_in;
pub use over::{
    Ended, VALUE_GONE, end_left, ended, revoke, run_over, stands_still, sweep, value_of, value_over, values_left,
    withdraw, withdraw_and_wait, withdraw_value,
};
use policy::Refusal;
pub use push::{push_begins, push_refused, push_used};
use serde_json::{Map, Value, json};
use store::leases::{LeaseRow, MintRow};
use store::secrets::SecretRow;
use store::{StoreError, Tx};
use vault::lease::{Effect, Happening, State};

/// Longest name of a capability that is kept, in characters: `connection/` and 64.
const MAX_NAME: usize = 75;

/// Leases that a list shows.
pub const LISTED: u32 = 500;

/// The word on a question for a lease: row, evidence and transcript are one act.
///
/// # Errors
/// When it could not be recorded; then there is no lease.
pub async fn ask(app: &App, mut ask: LeaseAsk) -> Result<LeaseWord, Fault> {
    if let Some(row) = app.store.run(&ask.run).await?
        && let Some(connection) = judge::connection_of_row(&row.profile, &ask.capability)
    {
        // That its token cannot be fresh is said, and recorded, with the word.
        drop(connections::refresh::ready(app, &connection).await);
    }
    let (at, run) = (now(), ask.run.clone());
    scrub(app, &mut ask);
    let act = app.store.write(move |tx| Box::pin(async move { ask_in(tx, &ask, random::lease_id(), at).await }));
    let (word, last) = act.await.map_err(|e: StoreError| Fault::from(e))?;
    if let Some(n) = last {
        app.live.tell(&run, n);
    }
    Ok(word)
}

/// Takes out of a question what is a secret, before anything is cut from it: what is said of the question repeats it, and goes
/// on record.
pub fn scrub(app: &App, ask: &mut LeaseAsk) {
    let scrubber = app.scrubber();
    for text in [&mut ask.capability, &mut ask.destination, &mut ask.reason] {
        *text = scrubber.scrub_str(text).into_owned();
    }
}

/// The id of the lease that a command comes with, of this run: the run's own. By that it is known without another row
/// whether a command was to have one, and which; every other lease has an id of its own.
#[must_use]
pub fn of_command(run: &RunId) -> LeaseId {
    LeaseId::parse(run.as_str()).expect("ids have one form")
}

/// As [`ask`], in an act of the caller's, of a question that was scrubbed; also the last line of the run's transcript, if
/// there is one.
///
/// # Errors
/// The store's.
pub async fn ask_in(
    tx: &mut Tx,
    ask: &LeaseAsk,
    id: LeaseId,
    at: Moment,
) -> Result<(LeaseWord, Option<u64>), StoreError> {
    let mut row = tx.run(&ask.run).await?;
    let word = judge::ask(tx, ask, row.as_ref(), at).await?;
    let lease = asked(ask, id, &word, at);
    tx.add_lease(&lease)?;
    let also = record::fields(json!({
        "lease": lease.id, "capability": lease.capability, "destination": lease.destination,
        "reason": lease.reason, "secret": lease.secret, "expires": lease.expires,
    }));
    let said = word.as_ref().map(|_| ("lease.granted", granted_why(&lease))).map_err(Clone::clone);
    let verdict = verdict("LEASE", &lease, said);
    let last = grants::note_with(tx, row.as_mut(), &ask.run, at, verdict, also).await?;
    let word = match word {
        Ok(granted) => LeaseWord::Granted(Given {
            lease: lease.id,
            expires: lease.expires,
            delivery: lease.delivery,
            executables: granted.executables,
        }),
        Err(no) => LeaseWord::Denied { rule: no.rule.to_owned(), why: no.why },
    };
    Ok((word, last))
}

fn granted_why(lease: &LeaseRow) -> String {
    let seconds = lease.expires.since(lease.made) / 1000;
    format!("One use within {seconds} s, by {}.", lease.delivery.word())
}

/// The row of a question that was answered, and scrubbed before.
fn asked(ask: &LeaseAsk, id: LeaseId, word: &Result<Granted, Refusal>, at: Moment) -> LeaseRow {
    let cut = |text: &str, most| text.chars().take(most).collect::<String>();
    let happening = match word {
        Ok(granted) => Happening::Grant { expires: at.plus_ms(i64::from(granted.seconds) * 1000) },
        Err(_) => Happening::Deny,
    };
    let (state, _) = State::Requested.after(happening, at);
    let (kind, delivery, secret) = match word {
        Ok(granted) => (granted.kind, granted.delivery.clone(), granted.secret.clone()),
        Err(_) => (Kind::Command, Delivery::Proxy, String::new()),
    };
    let denied = word.is_err();
    LeaseRow {
        id,
        run: ask.run.clone(),
        capability: cut(&ask.capability, MAX_NAME),
        destination: cut(&ask.destination, 256),
        reason: cut(&ask.reason, MAX_REASON),
        kind,
        delivery,
        secret,
        state: state.word().to_owned(),
        made: at,
        expires: expiry(state).unwrap_or(at),
        used: None,
        used_by: String::new(),
        ended: denied.then_some(at),
        ended_by: word.as_ref().err().map_or_else(String::new, |no| no.rule.to_owned()),
        handle_sha256: String::new(),
        minted: Vec::new(),
        mint: MintRow::default(),
    }
}

fn expiry(state: State) -> Option<Moment> {
    match state {
        State::Granted { expires } | State::Consumed { expires } => Some(expires),
        _ => None,
    }
}

fn verdict(method: &str, lease: &LeaseRow, said: Result<(&'static str, String), Refusal>) -> Verdict {
    let target: String = format!("{} for {}", lease.capability, lease.destination).chars().take(256).collect();
    let (allowed, rule, why) = match said {
        Ok((rule, why)) => (true, rule.to_owned(), why),
        Err(no) => (false, no.rule.to_owned(), no.why),
    };
    Verdict {
        allowed,
        rule,
        method: method.to_owned(),
        target,
        why,
        body_sha256: None,
        grant: Some(lease.id.to_string()),
        model: None,
        reserved: None,
    }
}

/// What is to be given for the use of a lease.
enum Give {
    /// The secret's own value.
    Value(Box<SecretRow>),
    /// The command's own handle; its hash stands in the row.
    Handle(Secret<String>),
    /// What a vendor makes of the secret.
    Mint(Box<mint::Ticket>),
}

/// The word on the use of a lease: it is consumed, and recorded so, before the value is opened.
///
/// # Errors
/// When it could not be recorded, or the value does not open; then nothing is given.
pub async fn take(app: &App, used: LeaseUse) -> Result<ValueWord, Fault> {
    let at = now();
    let (run, ours) = (used.run.clone(), app.clone());
    // What uses it is said by a box: a path or a reference can be made of anything.
    let scrubber = app.scrubber();
    let (word, last) = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let mut row = tx.run(&used.run).await?;
                let found = tx.lease(&used.lease).await?.filter(|lease| lease.run == used.run);
                let Some(mut lease) = found else {
                    // Whose it is, if it is anyone's, is not said.
                    let no = Refusal::new("lease.unknown", "This run has no such lease; ask for one.");
                    let unknown = verdict("USE", &nobodys(&used, at), Err(no.clone()));
                    let last = grants::note_with(tx, row.as_mut(), &used.run, at, unknown, Map::new()).await?;
                    return Ok((Err(no), last));
                };
                let by = scrubber.scrub_str(&judge::user(&used.by)).into_owned();
                let paused = row.as_ref().is_some_and(|row| row.state == RunState::Paused);
                let word = match judge::fits(tx, row.as_ref(), &lease, &used.by).await? {
                    Ok(_) if paused && matches!(used.by, LeaseUser::Command { .. }) => {
                        Err(Refusal::new("run.paused", "The run is being paused; ask again when it goes on."))
                    }
                    Err(no) => Err(no),
                    Ok(fit) => begin(&mut lease, &by, at).map(|()| fit),
                };
                let word = match word {
                    Ok(fit) => {
                        let who = row.as_ref().map_or("nobody", |row| &row.person).to_owned();
                        give(tx, &ours, &mut lease, fit, &used.by, (&who, at)).await?
                    }
                    Err(no) => Err(no),
                };
                // Also what was found to be over is kept as that.
                tx.keep_lease(&lease);
                if let Ok((Give::Value(secret), _)) = &word {
                    tx.secret_used(secret, at);
                }
                let mut also = record::fields(json!({ "lease": lease.id, "capability": lease.capability, "by": by }));
                also.extend(digests(&used.by));
                let said = word.as_ref().map(|_| ("lease.used", format!("By {by}."))).map_err(Clone::clone);
                let verdict = grants::shown(&scrubber, verdict("USE", &lease, said));
                let last = grants::note_with(tx, row.as_mut(), &used.run, at, verdict, also).await?;
                Ok::<_, Fault>((word.map(|(give, variables)| (lease, give, variables)), last))
            })
        })
        .await?;
    if let Some(n) = last {
        app.live.tell(&run, n);
    }
    let (lease, give, variables) = match word {
        Ok(given) => given,
        Err(no) => return Ok(ValueWord::Denied { rule: no.rule.to_owned(), why: no.why }),
    };
    let LeaseRow { delivery, destination, mut expires, .. } = lease.clone();
    let (mut parts, mut until) = (Vec::new(), None);
    let (value, secret) = match give {
        Give::Handle(handle) => (handle, String::new()),
        Give::Mint(ticket) => match mint::finish(app, *ticket).await? {
            Ok(given) => {
                (parts, until) = (given.parts.into_iter().map(WireSecret).collect(), Some(given.until));
                expires = given.expires;
                (given.value, lease.secret)
            }
            Err(no) => return Ok(ValueWord::Denied { rule: no.rule.to_owned(), why: no.why }),
        },
        Give::Value(row) => match app.keys.open_secret(&row) {
            Ok(value) => (value, row.name),
            Err(e) => {
                // It was consumed and recorded so; nothing leaves.
                ended(app, &lease.id, LeaseEnd::Broken).await?;
                return Err(Fault::ours("open the capability's secret", &e));
            }
        },
    };
    Ok(ValueWord::Value { value: WireSecret(value), secret, delivery, variables, destination, expires, parts, until })
}

/// The use begins, if it may; the row says so then.
fn begin(lease: &mut LeaseRow, by: &str, at: Moment) -> Result<(), Refusal> {
    let effect = change(lease, Happening::Use, at, "time");
    if effect == Effect::Give {
        (lease.used, lease.used_by) = (Some(at), by.to_owned());
        return Ok(());
    }
    let (rule, why) = match State::of(&lease.state, lease.expires) {
        Some(State::Expired) => ("lease.expired", "Its time is over; ask for another one."),
        Some(State::Revoked) => ("lease.revoked", "It was taken back; ask for another one."),
        Some(State::Denied) => ("lease.denied", "It was refused."),
        _ => ("lease.used", "A lease is for one use, and this one has had it; ask for another one."),
    };
    Err(Refusal::new(rule, why))
}

async fn give(
    tx: &mut Tx,
    app: &App,
    lease: &mut LeaseRow,
    fit: Fit,
    by: &LeaseUser,
    (who, at): (&str, Moment),
) -> Result<Result<(Give, Vec<String>), Refusal>, Fault> {
    if lease.delivery == Delivery::Proxy && matches!(by, LeaseUser::Command { .. }) {
        let handle = format!("vh_{}", random::token());
        lease.handle_sha256 = random::sha256_hex(handle.as_bytes());
        return Ok(Ok((Give::Handle(Secret::new(handle)), fit.variables)));
    }
    if mint::mints(&fit.secret) {
        let plan = match mint::Plan::of(fit.secret, &lease.destination, mint::Access::of(lease.kind)) {
            Ok(plan) => plan,
            Err(no) => return Ok(Err(no)),
        };
        let ticket = mint::begin(tx, app, lease, plan, who, at).await?;
        return Ok(Ok((Give::Mint(Box::new(ticket)), Vec::new())));
    }
    Ok(Ok((Give::Value(Box::new(fit.secret)), Vec::new())))
}

fn digests(by: &LeaseUser) -> Map<String, Value> {
    match by {
        LeaseUser::Command { executable_sha256, argv_sha256, .. } => {
            record::fields(json!({ "executable_sha256": executable_sha256, "argv_sha256": argv_sha256 }))
        }
        LeaseUser::GitPush { .. } => Map::new(),
    }
}

/// A lease that is not there, for the verdict that says so.
fn nobodys(used: &LeaseUse, at: Moment) -> LeaseRow {
    LeaseRow {
        id: used.lease.clone(),
        run: used.run.clone(),
        capability: "unknown".into(),
        destination: "unknown".into(),
        reason: String::new(),
        kind: Kind::Command,
        delivery: Delivery::Proxy,
        secret: String::new(),
        state: State::Denied.word().into(),
        made: at,
        expires: at,
        used: None,
        used_by: String::new(),
        ended: None,
        ended_by: String::new(),
        handle_sha256: String::new(),
        minted: Vec::new(),
        mint: MintRow::default(),
    }
}

/// Lets something happen to a lease that was read in this act; says what follows once it is kept. `by` is what ended it, if that did.
fn change(lease: &mut LeaseRow, happening: Happening, at: Moment, by: &str) -> Effect {
    let Some(before) = State::of(&lease.state, lease.expires) else { return Effect::Nothing };
    let (after, effect) = before.after(happening, at);
    if after != before {
        lease.state = after.word().to_owned();
        if !after.is_open() {
            lease.ended = Some(at);
            lease.ended_by = if after == State::Expired { "time".to_owned() } else { by.to_owned() };
            // A handle that is over names nothing.
            lease.handle_sha256 = String::new();
        }
    }
    effect
}

/// A lease as people see it.
fn view(row: LeaseRow) -> LeaseView {
    LeaseView {
        lease: row.id,
        run: row.run,
        capability: row.capability,
        destination: row.destination,
        reason: row.reason,
        kind: row.kind.word().to_owned(),
        delivery: row.delivery.word(),
        state: row.state,
        made: row.made,
        expires: row.expires,
        used: row.used,
        used_by: row.used_by,
        ended: row.ended,
        ended_by: row.ended_by,
        minted_until: Some(row.mint.until).filter(|_| !row.mint.state.is_empty()),
        minted: row.mint.state,
    }
}

/// The open leases, oldest first; with `all` the newest of all, at most [`LISTED`].
///
/// # Errors
/// The store's.
pub async fn list(app: &App, all: bool) -> Result<Vec<LeaseView>, Fault> {
    let at = now();
    if all {
        return Ok(app.store.leases(LISTED).await?.into_iter().map(view).collect());
    }
    let open = app.store.open_leases().await?.into_iter().filter(|lease| at < lease.expires);
    Ok(open.map(view).collect())
}
