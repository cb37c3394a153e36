//! Ending a connection: here at once, at the provider (RFC 7009) as soon as it answers.
//!
//! Read [`revoke`], then [`super::ending`] (what is left to be ended, which a kill in the middle leads to as well).

use super::ending::{Ending, When, told_in_turn};
use super::refresh::tell;
use super::{Kept, locked, sign_in, unknown};
use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::{leases, now, record};
use api::connections::ConnectionEnded;
use serde_json::json;
use store::chain::By;
use vault::refresh::Life;

/// Ends a connection. From here on no grant finds its token, and the leases that were open on it are over; the provider is told now, and again until it confirms.
///
/// # Errors
/// 404, 409 for one that is not signed in, the store's.
pub async fn revoke(app: &App, caller: &Caller, name: &str) -> Result<ConnectionEnded, Fault> {
    let (ours, who, at, of) = (app.clone(), caller.person.to_string(), now(), name.to_owned());
    let (over, then) = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let mut kept = Kept::of(tx.connection(&of).await?.ok_or_else(|| unknown(&of))?)?;
                if matches!(kept.standing.life, Life::New | Life::Revoked) {
                    return Err(Fault::conflict("connection.over", format!("The connection {of:?} is not signed in.")));
                }
                let tokens = kept.tokens(tx, &ours).await?;
                let standing = kept.standing.revoke();
                kept.note_ending(&ours, standing.fence, &tokens, When::Now)?;
                kept.ending.all_now();
                // Both sealed anew with what is to be ended.
                kept.row.refresh = Vec::new();
                if kept.standing.locked && kept.ends_at().is_some() {
                    kept.ending.waits_for(kept.standing.fence);
                }
                kept.ended = standing.fence;
                let over = kept.close(tx, standing, (&who, at)).await?;
                let more = record::fields(json!({ "connection": of, "leases": over.leases.len() }));
                tx.record(By::Server, at, "connection.revoked", &who, more).await?;
                Ok::<_, Fault>((over, kept))
            })
        })
        .await?;
    leases::withdraw_value(app, &over);
    locked(&app.connections.devices).remove(name);
    sign_in::given_up(app, name);
    tell(app).await;
    // It is ended here, whatever became of the telling, which is done again.
    if let Err(fault) = told_in_turn(app, name).await {
        tracing::warn!("the provider was not told of the end of {name}: {}", fault.problem.message);
    }
    let leases = u32::try_from(over.leases.len()).unwrap_or(u32::MAX);
    let kept = match app.store.connection(name).await? {
        Some(row) => Kept::of(row)?,
        // What was left of one that is no more is gone with the provider's word.
        None => Kept { standing: then.standing.revoked(), ending: Ending::default(), ..then },
    };
    Ok(ConnectionEnded { connection: kept.view(app, caller), leases })
}
