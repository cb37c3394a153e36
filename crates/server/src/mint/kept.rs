//! What came of a question to a vendor is kept: before it is given, or to be ended.
//!
//! A value that cannot be kept is given to nobody. It is tried until it is kept as one to be ended, by this server or, when
//! that is killed, by the next one: the gateway holds what a vendor answered until it is told that it is kept ([`late`]).
//!
//! Read [`kept`], [`unkept`], then [`late`].

use super::plan::{self, Access};
use super::value::Said;
use super::{Given, ends, said, seal, set, state};
use crate::app::App;
use crate::fault::Fault;
use crate::{leases, now};
use api::leases::LeaseEnd;
use api::platform::CallWord;
use model::mint::Minter;
use model::{LeaseId, Moment};
use policy::Refusal;
use serde_json::json;
use std::time::Duration;
use store::StoreError;
use vault::lease::State as LeaseState;
use vault::mint::{Effect, Happening as Minting, State, again};

/// How often it is tried to keep what came, while somebody waits for it.
const KEEPS: u32 = 5;

/// Whether somebody waits for a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    /// Whoever uses the lease, if that is open.
    User,
    /// Nobody any more: it is to be ended.
    Nobody,
}

/// Keeps an answer, trying a few times.
///
/// # Errors
/// The store's: nobody has the value then, and it is ended once that can be recorded.
pub(super) async fn kept(
    app: &App,
    lease: &LeaseId,
    kind: &'static str,
    answer: Said,
) -> Result<Result<Given, Refusal>, Fault> {
    for n in 1.. {
        match keep(app, lease, (kind, For::User), &answer).await {
            Ok(done) => {
                if made(&answer) {
                    // Before anyone has it.
                    app.renew_scrubber().await?;
                    ends::due(app);
                }
                return Ok(done);
            }
            Err(fault) if n >= KEEPS => {
                tracing::error!("what {kind} made for the lease {lease} was not kept: {}", fault.problem.message);
                if made(&answer) {
                    tokio::spawn(unkept(app.clone(), lease.clone(), kind, answer));
                }
                return Err(fault);
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20 * u64::from(n))).await,
        }
    }
    unreachable!("it returns")
}

fn made(answer: &Said) -> bool {
    matches!(answer, Said::Value { .. } | Said::Wider { .. })
}

/// A value that could not be kept, which nobody was given: it is tried until it is kept as one to be ended, or over. Nothing is
/// said to its vendor before that is on record.
async fn unkept(app: App, lease: LeaseId, kind: &'static str, answer: Said) {
    let until = match &answer {
        Said::Value { until, .. } | Said::Wider { until, .. } => *until,
        Said::Refused(_) | Said::Unknown(_) => None,
    };
    for tries in 1.. {
        let wait = again(Moment(0), tries).0;
        tokio::time::sleep(Duration::from_millis(u64::try_from(wait).unwrap_or(0))).await;
        match to_be_ended(&app, &lease, kind, &answer).await {
            Ok(()) => return tracing::warn!("what {kind} made for the lease {lease} is kept after all, to be ended"),
            Err(fault) if until.is_some_and(|until| until <= now()) => {
                return tracing::error!("what {kind} made for {lease} ended by itself: {}", fault.problem.message);
            }
            Err(fault) => {
                tracing::warn!("what {kind} made for the lease {lease} is not kept: {}", fault.problem.message);
            }
        }
    }
}

async fn to_be_ended(app: &App, lease: &LeaseId, kind: &'static str, answer: &Said) -> Result<(), Fault> {
    drop(keep(app, lease, (kind, For::Nobody), answer).await?);
    app.renew_scrubber().await?;
    leases::ended(app, lease, LeaseEnd::Broken).await
}

/// What a vendor answered for a lease, from a gateway that was not told that it is kept: the server was killed, or its
/// connection cut, in between. Who asked for it is gone, so what was made is ended.
///
/// # Errors
/// The store's; the gateway says it again after the next dial.
pub async fn late(app: &App, id: &LeaseId, word: &CallWord) -> Result<(), Fault> {
    let lease = app.store.lease(id).await?;
    // Any other was kept, and it was not heard.
    if let Some(lease) = lease.filter(|lease| matches!(state(&lease.mint), State::Asked | State::Unknown)) {
        let minter: Minter = serde_json::from_slice(&lease.minted)
            .map_err(|e| Fault::ours("read by which settings a vendor was asked", &e))?;
        // Nobody gets it: how narrow it is plays no part.
        let answer = plan::said(&minter, (&lease.destination, Access::Tool), word);
        to_be_ended(app, id, minter.id(), &answer).await?;
    }
    told(app, id);
    Ok(())
}

/// Tells the gateway that there is nothing more to hold. One that is not connected says it again, and is told then.
fn told(app: &App, lease: &LeaseId) {
    if let Some(gateway) = app.gateway() {
        gateway.kept(lease);
    }
}

async fn keep(
    app: &App,
    id: &LeaseId,
    (kind, whom): (&'static str, For),
    answer: &Said,
) -> Result<Result<Given, Refusal>, Fault> {
    let at = now();
    let (value, until, wrong) = match answer {
        Said::Value { kept, until } => (Some(kept), *until, None),
        Said::Wider { kept, until, why } => (Some(kept), *until, Some(("mint.wider", why.as_str()))),
        Said::Refused(why) => (None, None, Some(("mint.refused", why.as_str()))),
        Said::Unknown(why) => (None, None, Some(("mint.unknown", why.as_str()))),
    };
    let wrong = match (whom, value.is_some()) {
        (For::Nobody, true) => Some(("mint.late", "It was over before its value was kept; the value is ended.")),
        _ => wrong,
    };
    let revocable = value.is_some_and(|kept| kept.end.is_some());
    let sealed = value.map(|kept| seal(app, id, kept)).transpose()?;
    let of = id.clone();
    let wrong = wrong.map(|(rule, why)| (rule, app.scrubber().scrub_str(why).into_owned()));
    let no = wrong.clone();
    let (lease, effect) = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let gone = || StoreError::Corrupt { what: "lease", why: format!("no lease {of}") };
                let mut lease = tx.lease(&of).await?.ok_or_else(gone)?;
                let open = LeaseState::of(&lease.state, lease.expires).is_some_and(LeaseState::is_open);
                let happening = match (&sealed, &no) {
                    (Some(_), None) => Minting::Value { open: open && at < lease.expires, revocable },
                    (Some(_), Some(_)) => Minting::Value { open: false, revocable },
                    (None, Some((rule, _))) if *rule == "mint.refused" => Minting::Refused,
                    (None, _) => Minting::Lost,
                };
                let before = state(&lease.mint);
                let (after, effect) = before.after(happening);
                if after == before {
                    // The same came twice, and was kept.
                    return Ok((lease, effect));
                }
                set(&mut lease.mint, after);
                lease.mint.until = until.unwrap_or(lease.mint.until);
                if let Some(sealed) = sealed {
                    lease.minted = sealed;
                    lease.expires = if open { lease.expires.min(lease.mint.until) } else { lease.expires };
                }
                lease.mint.next = match after {
                    // Its end is asked for when its lease is over, whenever that is.
                    State::Live if revocable => lease.expires,
                    State::Ending(_) => at,
                    _ => Moment(0),
                };
                tx.keep_lease(&lease);
                let kind_of_record = match after {
                    State::Failed => "mint.failed",
                    State::Unknown => "mint.unknown",
                    _ => "mint.made",
                };
                let more = json!({
                    "minter": kind, "until": lease.mint.until, "state": lease.mint.state,
                    "revocable": revocable, "why": no.as_ref().map(|(_, why)| why),
                });
                said(tx, kind_of_record, &lease, at, "server", more).await?;
                if after == State::Left {
                    ends::left(tx, &lease, at).await?;
                }
                Ok::<_, Fault>((lease, effect))
            })
        })
        .await?;
    if value.is_some() {
        // Of an answer that did not come the gateway may have the value yet.
        told(app, id);
    }
    Ok(match (value, effect, wrong) {
        (Some(kept), Effect::Give, _) => Ok(kept.given(&lease)),
        (_, _, Some((rule, why))) => Err(Refusal::new(rule, format!("No value was minted: {why}"))),
        _ => Err(Refusal::new("lease.revoked", "It was over before its value came; ask for another one.")),
    })
}
