//! Signed heads: the evidence's state, signed now and then, kept here and given to the operator to keep.

use crate::app::App;
use crate::now;
use api::link::Down;
use std::time::Duration;
use store::chain::HeadRow;
use store::{Store, StoreError};
use tokio::sync::watch;

/// Records after which a head is signed at the latest.
pub const EVERY: u64 = 256;

/// How long the chain has to be quiet for a head to be signed before that.
pub const QUIET: Duration = Duration::from_secs(2);

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
    while due(&mut chain, signed).await {
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
async fn due(chain: &mut watch::Receiver<store::chain::Chain>, signed: u64) -> bool {
    loop {
        let n = chain.borrow_and_update().n;
        if n >= signed + EVERY {
            return true;
        }
        if n > signed {
            match tokio::time::timeout(QUIET, chain.changed()).await {
                Err(_) => return true,
                Ok(Ok(())) => {}
                Ok(Err(_)) => return false,
            }
        } else if chain.changed().await.is_err() {
            return false;
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
