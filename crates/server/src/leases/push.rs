//! The lease of a push. It begins when the push does, before its pack is read; its one use is that the pack goes on; whoever
//! takes it back before that, or meanwhile, has the gateway end the push.
//!
//! Nobody asks for it by itself: it is granted with the look that a push begins with, in that act and on its record.
//!
//! Read [`push_begins`], then [`push_used`] and [`push_refused`], and what ends with it: [`token_over`].

use super::{begin, end_in, judge};
use crate::mint::{self, Access};
use crate::random;
use model::capability::{Delivery, Kind};
use model::{LeaseId, Moment, RunId};
use policy::Refusal;
use policy::lease::{Bounds, Term};
use store::leases::{LeaseRow, MintRow};
use store::{StoreError, Tx};
use vault::lease::{Happening, State};

/// How the names begin by which the leases of pushes are counted and listed; the repository's id follows. No capability has
/// such a name.
const PUSH: &str = "push/";

fn capability(repository: &str) -> String {
    format!("{PUSH}{repository}")
}

/// A lease for one push of this run to a repository, which is at `place` and opened by the secret of this name, to set
/// `reference`. Kept in this act, as denied too; the caller records the word.
///
/// # Errors
/// The store's.
pub async fn push_begins(
    tx: &mut Tx,
    run: &RunId,
    (repository, place): (&str, &str),
    secret: &str,
    reference: &str,
    at: Moment,
) -> Result<Result<LeaseRow, Refusal>, StoreError> {
    let Bounds { seconds, per_minute, per_run } = policy::lease::of(Kind::GitPush);
    let term = Term { seconds: seconds.0, per_minute: per_minute.0, per_run: per_run.0 };
    let capability = capability(repository);
    let (minute, ever) = tx.leases_granted(run, &capability, at.plus_ms(-60_000)).await?;
    let word = judge::within(&term, minute, ever, run);
    let expires = at.plus_ms(i64::from(term.seconds) * 1000);
    let happening = if word.is_ok() { Happening::Grant { expires } } else { Happening::Deny };
    let (state, _) = State::Requested.after(happening, at);
    let lease = LeaseRow {
        id: random::lease_id(),
        run: run.clone(),
        capability,
        destination: place.chars().take(256).collect(),
        reason: format!("a push of {reference}"),
        kind: Kind::GitPush,
        delivery: Delivery::Proxy,
        secret: secret.to_owned(),
        state: state.word().to_owned(),
        made: at,
        expires: if word.is_ok() { expires } else { at },
        used: None,
        used_by: String::new(),
        ended: word.is_err().then_some(at),
        ended_by: word.as_ref().err().map_or_else(String::new, |no| no.rule.to_owned()),
        handle_sha256: String::new(),
        minted: Vec::new(),
        mint: MintRow::default(),
    };
    tx.add_lease(&lease)?;
    Ok(word.map(|()| lease))
}

/// The pack of this push is to go on: its lease is used, if it still may be.
///
/// # Errors
/// The store's.
pub async fn push_used(
    tx: &mut Tx,
    lease: &LeaseId,
    run: &RunId,
    (repository, reference): (&str, &str),
    at: Moment,
) -> Result<Result<(), Refusal>, StoreError> {
    let found = tx.lease(lease).await?;
    let Some(mut lease) = found.filter(|lease| lease.run == *run && lease.capability == capability(repository)) else {
        return Ok(Err(Refusal::new("lease.unknown", "This run has no such lease of a push to this repository.")));
    };
    let used = begin(&mut lease, &format!("a push of {reference}"), at);
    tx.keep_lease(&lease);
    Ok(used)
}

/// A push is refused in the act in which its lease was given, or used: the lease is over with it.
///
/// # Errors
/// The store's.
pub async fn push_refused(tx: &mut Tx, lease: &LeaseId, at: Moment) -> Result<(), StoreError> {
    let Some(mut lease) = tx.lease(lease).await? else { return Ok(()) };
    let happening = if lease.used.is_some() { Happening::End } else { Happening::TakeBack };
    end_in(tx, &mut lease, happening, at, ("refusal", "server")).await.map(drop)
}

/// Whether it is the lease of a push. The gateway has that under way from the grant on, before its use.
pub(super) fn is_push(lease: &LeaseRow) -> bool {
    lease.capability.starts_with(PUSH)
}

/// Whether it is the lease of what was minted to write to a repository.
pub(super) fn is_token(lease: &LeaseRow) -> bool {
    let repository = lease.capability.strip_prefix("git/").and_then(|rest| rest.split_once(':'));
    repository.is_some_and(|(id, _)| lease.capability == mint::named(&mint::of_repository(id), Access::Write))
}

/// With the lease of a push ends, in the same act, what was minted for its run to write to that repository: it is for one push,
/// from the offer before it to its end, whatever that is.
///
/// # Errors
/// The store's.
pub(super) async fn token_over(tx: &mut Tx, push: &LeaseRow, at: Moment, who: &str) -> Result<(), StoreError> {
    let Some(repository) = push.capability.strip_prefix(PUSH) else { return Ok(()) };
    let token = mint::named(&mint::of_repository(repository), Access::Write);
    let happening = if push.state == State::Completed.word() { Happening::End } else { Happening::TakeBack };
    for mut lease in tx.open_leases().await? {
        if lease.run == push.run && lease.capability == token {
            Box::pin(end_in(tx, &mut lease, happening, at, ("push's end", who))).await?;
        }
    }
    Ok(())
}
