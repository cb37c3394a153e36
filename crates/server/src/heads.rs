//! Signed heads: the evidence's state, signed now and then, kept here and given to the operator to keep.

use crate::app::App;
use crate::now;
use api::link::Down;
use std::time::Duration;
use store::chain::HeadRow;
use store::{Store, StoreError};
use tokio::sync::{Notify, watch};

/// Records after which a head is signed at the latest.
pub const EVERY: u64 = 256;

/// How long the chain has to be quiet for a head to be signed before that.
pub const QUIET: Duration = Duration::from_secs(2);

/// How long an ending server waits for the operator's word that it keeps the last head.
pub const PARTING: Duration = Duration::from_millis(500);

/// What others say to this part.
#[derive(Debug, Default)]
pub struct Heads {
    /// A head is wanted at once: a run has ended.
    pub wanted: Notify,
    /// The head that the operator said last that it keeps.
    pub witnessed: watch::Sender<String>,
}

/// The last act of a server that ends in order: its last records are signed, and the operator keeps the head.
pub async fn part(app: &App) {
    let mut witnessed = app.heads.witnessed.subscribe();
    let signed = app.store.last_head().await.ok().flatten().map_or(0, |head| head.n);
    if app.store.chain().borrow().n <= signed {
        return;
    }
    match (sign(app).await, app.operator()) {
        (Ok(head), Some(link)) => {
            link.tell(&Down::Head { head: head.note.clone() });
            // Without an answer the head is signed all the same, and not witnessed.
            drop(tokio::time::timeout(PARTING, witnessed.wait_for(|note| *note == head.note)).await);
        }
        (Ok(_), None) => {}
        (Err(e), _) => tracing::error!("the last head of the evidence was not signed: {e}"),
    }
}

/// Signs heads as the chain grows; ends with the store.
pub async fn serve(app: App) {
    let mut chain = app.store.chain();
    let mut signed = match app.store.last_head().await {
        Ok(head) => head.map_or(0, |head| head.n),
        Err(e) => {
            tracing::error!("the signed heads cannot be read: {e}");
            0
        }
    };
    while due(&app.heads.wanted, &mut chain, signed).await {
        match sign(&app).await {
            Ok(head) => {
                signed = head.n;
                if let Some(link) = app.operator() {
                    link.tell(&Down::Head { head: head.note });
                }
            }
            Err(e) => {
                tracing::error!("no head of the evidence was signed: {e}");
                tokio::time::sleep(QUIET).await;
            }
        }
    }
}

/// Waits until a head is to be signed; false when the chain will never grow again.
async fn due(wanted: &Notify, chain: &mut watch::Receiver<store::chain::Chain>, signed: u64) -> bool {
    loop {
        let n = chain.borrow_and_update().n;
        match Due::of(n, signed) {
            Due::Now => return true,
            Due::WhenQuiet => tokio::select! {
                () = wanted.notified() => return true,
                () = tokio::time::sleep(QUIET) => return true,
                grown = chain.changed() => if grown.is_err() { return false },
            },
            Due::Not if chain.changed().await.is_err() => return false,
            Due::Not => {}
        }
    }
}

/// When the next head is to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// Nothing was recorded since the last one.
    Not,
    /// When nothing more was recorded for [`QUIET`], or somebody wants it.
    WhenQuiet,
    Now,
}

impl Due {
    /// Of `n` records, the first `signed` of which are under a signed head.
    fn of(n: u64, signed: u64) -> Self {
        match n.saturating_sub(signed) {
            0 => Self::Not,
            EVERY.. => Self::Now,
            _ => Self::WhenQuiet,
        }
    }
}

/// Signs the chain as it stands, and keeps the head.
///
/// # Errors
/// The store's.
pub async fn sign(app: &App) -> Result<HeadRow, StoreError> {
    let (signing, at) = (app.clone(), now());
    let store: &Store = &app.store;
    store
        .write(move |tx| {
            Box::pin(async move {
                let chain = tx.chain();
                let note = signing.keys.signer.sign(&signing.workspace, chain.n, chain.head);
                let row = HeadRow { n: chain.n, note };
                tx.add_head(&row, at).await?;
                Ok(row)
            })
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_due_at_the_256th_record_after_the_last_one_and_not_before() {
        for signed in [0, 1000] {
            assert_eq!(Due::of(signed, signed), Due::Not);
            assert_eq!(Due::of(signed + 1, signed), Due::WhenQuiet);
            assert_eq!(Due::of(signed + 255, signed), Due::WhenQuiet);
            assert_eq!(Due::of(signed + 256, signed), Due::Now);
            assert_eq!(Due::of(signed + 257, signed), Due::Now);
        }
        assert_eq!(QUIET, Duration::from_secs(2));
    }
}
