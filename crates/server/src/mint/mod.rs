//! Minted values: what a vendor makes of a stored key for one lease, narrower and over by itself.
//!
//! What may become of one is [`vault::mint`]'s word; what each vendor is told and how its answer reads is a pure description
//! ([`github`], [`aws`], [`kubernetes`]). Here the rows, the records and the calls are put in order: the lease is on
//! record first, then that its vendor is asked, in the act that the call is noted in; the value is sealed in the lease's
//! row in the act that says it was made; only then is it given. So what was not recorded was not granted, and of what a
//! crash cuts off it is known that something may have been made. The key itself goes to its vendor, or signs, and goes
//! nowhere else.
//!
//! Read [`Plan::of`] (what is asked for), [`begin`], [`carry`] (a lease of the gateway's own), [`finish`], [`kept`] (what comes of
//! it, also late), then [`ends`].

mod aws;
pub mod ends;
mod github;
mod kept;
mod kubernetes;
mod plan;
mod value;

pub use kept::late;
pub use plan::{Access, Plan, at, belongs, check, mints, of_request, settings, whose};

use crate::app::App;
use crate::fault::Fault;
use crate::{leases, now, platform, random, record};
use api::leases::LeaseEnd;
use model::capability::{Delivery, Kind};
use model::{LeaseId, Moment, RunId, Secret};
use policy::Refusal;
use serde_json::json;
use store::chain::By;
use store::leases::{LeaseRow, MintRow};
use store::{StoreError, Tx};
use tokio::sync::Notify;
use value::Kept;
use vault::lease::{Happening, State as LeaseState};
use vault::mint::{Effect, Happening as Minting, State};

/// What the capability of a lease begins with that carries a value for requests by rows to write.
const REQUESTS: &str = "egress/";

/// What is to be done about minted values, for whoever does it.
#[derive(Default)]
pub struct Desk {
    /// Something is to be ended.
    due: Notify,
}

/// A value, to be given for the use of its lease.
pub struct Given {
    /// The lease that carries it.
    pub lease: LeaseId,
    /// As it is delivered.
    pub value: Secret<String>,
    /// What in it opens something by itself.
    pub parts: Vec<Secret<String>>,
    /// Until when it may open something.
    pub until: Moment,
    /// When the lease is over.
    pub expires: Moment,
}

/// A vendor that is to be asked: what stands on record, if the act in which it was begun is kept.
pub struct Ticket {
    lease: LeaseId,
    plan: Plan,
    /// When what is asked for ends, at the latest.
    longest: Moment,
    noted: platform::Noted,
}

/// A lease whose value is there, or is to be asked for.
pub enum Carried {
    /// The value that an earlier use of the same has.
    Known(Box<LeaseRow>),
    /// To be asked for.
    Ask(Box<Ticket>),
}

impl Carried {
    /// The lease that carries it.
    pub fn lease(&self) -> &LeaseId {
        match self {
            Self::Known(lease) => &lease.id,
            Self::Ask(ticket) => &ticket.lease,
        }
    }
}

fn state(row: &MintRow) -> State {
    State::of(&row.state, row.tries).unwrap_or(State::None)
}

fn set(row: &mut MintRow, state: State) {
    row.state = state.word().to_owned();
    row.tries = if let State::Ending(tries) = state { tries } else { 0 };
}

/// What evidence says of every step of a value.
async fn said(
    tx: &mut Tx,
    kind: &str,
    lease: &LeaseRow,
    at: Moment,
    who: &str,
    more: serde_json::Value,
) -> Result<(), StoreError> {
    let mut fields = record::fields(json!({
        "run": lease.run, "lease": lease.id, "secret": lease.secret, "destination": lease.destination,
    }));
    fields.extend(record::fields(more));
    tx.record(By::Server, at, kind, who, fields).await
}

/// Puts on record that a vendor is asked for a lease that is in use in this act, and notes the call. The row is the caller's
/// to keep.
///
/// # Errors
/// A key that does not open or sign, and the store's: then nothing of the act is kept.
pub async fn begin(
    tx: &mut Tx,
    app: &App,
    lease: &mut LeaseRow,
    plan: Plan,
    who: &str,
    at: Moment,
) -> Result<Ticket, Fault> {
    let mut call = plan.request(app, lease, at)?;
    call.lease = Some(lease.id.clone());
    let (after, effect) = state(&lease.mint).after(Minting::Ask);
    if effect != Effect::Send {
        return Err(Fault::ours("mint a value", &"the lease has had one"));
    }
    set(&mut lease.mint, after);
    lease.minted = plan.settings();
    lease.mint = asked(&lease.mint, plan.longest(lease, at), at);
    let more = json!({ "minter": plan.known.id, "for": plan.words(), "access": plan.access.word() });
    said(tx, "mint.asked", lease, at, who, more).await?;
    tx.secret_used(&plan.secret, at);
    let noted = platform::note(tx, at, who, call).await?;
    Ok(Ticket { lease: lease.id.clone(), plan, longest: lease.mint.until, noted })
}

/// The vendor is asked at `at` for a value that ends at `until`, at the latest: from when on nobody is believed to wait for
/// its answer any more.
fn asked(mint: &MintRow, until: Moment, at: Moment) -> MintRow {
    MintRow { until, next: at.plus_ms(vault::mint::ASKED_MS), ..mint.clone() }
}

/// What is minted for a repository's git is for, by its id; as [`carry`] is told.
#[must_use]
pub fn of_repository(id: &str) -> String {
    format!("git/{id}")
}

/// The name by which leases of what is minted for `what` are counted and listed. No capability has such a name.
#[must_use]
pub fn named(what: &str, access: Access) -> String {
    format!("{what}:{}", access.word())
}

/// What requests by rows to write are carried by, for this capability.
#[must_use]
pub fn of_requests(capability: &str) -> String {
    format!("{REQUESTS}{capability}")
}

/// Whether a lease is one of [`carry`]'s: of the end of what is done by those the gateway says nothing.
#[must_use]
pub fn is_own(lease: &LeaseRow) -> bool {
    lease.capability.contains(':')
}

/// A lease for what the gateway, or the server, does in a run's name with a minted value: one that is open for the very
/// same and has half its time left, or a new one, in use from the first.
///
/// # Errors
/// As of [`begin`]. A refusal (`lease.per-minute`, `lease.per-run`) is recorded by the caller with its word.
pub async fn carry(
    tx: &mut Tx,
    app: &App,
    plan: Plan,
    (run, what, kind): (&RunId, &str, Kind),
    who: &str,
    at: Moment,
) -> Result<Result<Carried, Refusal>, Fault> {
    let (capability, bounds) = (named(what, plan.access), policy::lease::of(kind));
    let seconds = bounds.seconds.0;
    if let Some(lease) = tx.live_mint(run, &capability, &plan.destination).await?
        && lease.secret == plan.secret.name
        && lease.made > plan.secret.set_at
        && lease.expires.since(at) >= i64::from(seconds) * 500
    {
        return Ok(Ok(Carried::Known(Box::new(lease))));
    }
    let (minute, ever) = tx.leases_granted(run, &capability, at.plus_ms(-60_000)).await?;
    if ever >= u64::from(bounds.per_run.0) || minute >= u64::from(bounds.per_minute.0) {
        let rule = if ever >= u64::from(bounds.per_run.0) { "lease.per-run" } else { "lease.per-minute" };
        let why = format!(
            "Values are minted {} times in a minute for one thing, {} in a run.",
            bounds.per_minute.0, bounds.per_run.0
        );
        return Ok(Err(Refusal::new(rule, why)));
    }
    let expires = at.plus_ms(i64::from(seconds) * 1000);
    let (granted, _) = LeaseState::Requested.after(Happening::Grant { expires }, at);
    let (in_use, _) = granted.after(Happening::Use, at);
    let mut lease = LeaseRow {
        id: random::lease_id(),
        run: run.clone(),
        capability,
        destination: plan.destination.clone(),
        reason: String::new(),
        kind,
        delivery: Delivery::Proxy,
        secret: plan.secret.name.clone(),
        state: in_use.word().to_owned(),
        made: at,
        expires,
        used: Some(at),
        used_by: format!("the platform itself, for {}", plan.words()),
        ended: None,
        ended_by: String::new(),
        handle_sha256: String::new(),
        minted: Vec::new(),
        mint: MintRow::default(),
    };
    said(tx, "lease.carried", &lease, at, who, json!({ "capability": lease.capability, "expires": expires })).await?;
    let ticket = begin(tx, app, &mut lease, plan, who, at).await?;
    tx.add_lease(&lease)?;
    Ok(Ok(Carried::Ask(Box::new(ticket))))
}

/// The value that a lease carries: opened, or asked for and kept.
///
/// # Errors
/// `mint.refused`, `mint.unknown`: there is none, and the lease is over; the store's.
pub async fn value(app: &App, carried: Carried) -> Result<Result<Given, Refusal>, Fault> {
    match carried {
        Carried::Known(lease) => Ok(Ok(open(app, &lease)?.given(&lease))),
        Carried::Ask(ticket) => finish(app, *ticket).await,
    }
}

/// Asks the vendor, and keeps what it made before it is given.
///
/// # Errors
/// As of [`value()`].
pub async fn finish(app: &App, ticket: Ticket) -> Result<Result<Given, Refusal>, Fault> {
    let app = app.clone();
    // Its own task: whoever asked may go away, and what was begun is brought to its end.
    let done = tokio::spawn(async move {
        let Ticket { lease, plan, longest, noted } = ticket;
        let word = platform::send(&app, noted).await;
        let answer = plan.said(&word).within(longest, now());
        let done = kept::kept(&app, &lease, plan.known.id, answer).await;
        if !matches!(done, Ok(Ok(_))) {
            leases::ended(&app, &lease, LeaseEnd::Broken).await?;
        }
        done
    });
    done.await.map_err(|e| Fault::ours("mint a value", &e))?
}

fn place(lease: &LeaseId) -> String {
    format!("lease/{lease}/minted")
}

fn seal(app: &App, lease: &LeaseId, kept: &Kept) -> Result<Vec<u8>, Fault> {
    let text = serde_json::to_string(kept).map_err(|e| Fault::ours("write what was minted", &e))?;
    app.keys.seal(&place(lease), 1, &Secret::new(text)).map_err(|e| Fault::ours("seal what was minted", &e))
}

fn open(app: &App, lease: &LeaseRow) -> Result<Kept, Fault> {
    let text = app.keys.open_sealed(&place(&lease.id), 1, &lease.minted);
    let text = text.map_err(|e| Fault::ours("open what was minted", &e))?;
    serde_json::from_str(text.expose()).map_err(|_| Fault::ours("open what was minted", &"it is in no known form"))
}

impl Kept {
    fn given(&self, lease: &LeaseRow) -> Given {
        Given {
            lease: lease.id.clone(),
            value: self.value.delivered(&lease.delivery),
            parts: self.value.parts(),
            until: lease.mint.until,
            expires: lease.expires,
        }
    }
}

/// What is minted and was live in the last hour, for the scrubber: by the name of the key that it was made of.
///
/// # Errors
/// The store's. What does not open is left out: it was given to nobody either.
pub async fn values(app: &App) -> Result<Vec<(String, Secret<String>)>, Fault> {
    let mut values = Vec::new();
    for lease in app.store.minted(now().plus_ms(-vault::mint::KNOWN_MS), false).await? {
        match open(app, &lease) {
            Ok(kept) => values.extend(kept.value.parts().into_iter().map(|part| (lease.secret.clone(), part))),
            Err(fault) => tracing::error!("of the lease {}: {}", lease.id, fault.problem.message),
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::RunId;
    use model::capability::{Delivery, Kind};
    use store::Store;

    #[tokio::test]
    async fn a_vendor_has_fifteen_seconds_and_what_nothing_is_heard_of_is_looked_at_after_a_minute_and_not_before() {
        let url = "https://vendor.example/".to_owned();
        let call = plan::call(api::platform::Purpose::Mint, api::platform::Method::Post, url, false).unwrap();
        assert_eq!(call.limits.seconds, 15);
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("volary.db")).await.unwrap();
        let (at, until) = (Moment(1_000), Moment(600_000));
        let mut mint = asked(&MintRow::default(), until, at);
        set(&mut mint, State::Asked);
        let row = LeaseRow {
            id: LeaseId::parse("0123456789abcdefghjkmnpqrs").unwrap(),
            run: RunId::parse("0123456789abcdefghjkmnpqrs").unwrap(),
            capability: "c".into(),
            destination: "d".into(),
            reason: String::new(),
            kind: Kind::Tool,
            delivery: Delivery::Proxy,
            secret: "capability/c".into(),
            state: LeaseState::Consumed { expires: until }.word().into(),
            made: at,
            expires: until,
            used: Some(at),
            used_by: String::new(),
            ended: None,
            ended_by: String::new(),
            handle_sha256: String::new(),
            minted: Vec::new(),
            mint,
        };
        let added: Result<(), StoreError> = store.write(move |tx| Box::pin(async move { tx.add_lease(&row) })).await;
        added.unwrap();
        let due = async |now| store.mints_due(now).await.unwrap().len();
        assert_eq!((due(Moment(60_999)).await, due(Moment(61_000)).await), (0, 1));
    }
}
