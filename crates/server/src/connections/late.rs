//! Tokens that a provider gave and that nobody keeps: of a sign-in that was given up, of a connection that was ended, set anew
//! or removed while its provider was asked. They are ended there, by the way of all that are ([`super::ending`]).
//!
//! Where the connection is no longer the one that they were asked for, they stand in a row of their own, `NAME@MOMENT`, with
//! the provider's addresses and the client's secret of then. Nobody signs in to such a row, no profile can name it, and it
//! is gone once the provider has confirmed.
//!
//! Read [`Kept::still`], [`note`], then [`ended`].

use super::again::until_kept;
use super::ending::When;
use super::refresh::tell;
use super::wire::{self, Said, Unkept};
use super::{Kept, client_name, ending};
use crate::app::App;
use crate::fault::Fault;
use crate::gateway::Late;
use crate::{now, record};
use api::connections::ConnectionSettings;
use model::Moment;
use serde_json::json;
use std::sync::Arc;
use store::chain::By;
use store::connections::ConnectionRow;
use store::{StoreError, Tx};
use vault::refresh::{Life, Standing};

/// The connection of whose tokens this row is what is left, if it is such a row.
pub(super) fn of(row: &str) -> Option<&str> {
    row.split_once('@').map(|(name, _)| name)
}

/// The row for what is left of this connection, as it was set then.
fn apart(was: &ConnectionRow) -> String {
    format!("{}@{}", was.name, was.set_at.0)
}

impl Kept {
    /// Whether a sign-in that was begun when the connection stood as in `was` may still be kept.
    ///
    /// # Errors
    /// 409 for one that was set anew, or ended, since.
    pub(super) fn still(&self, was: &Self) -> Result<(), Fault> {
        if self.row.set_at != was.row.set_at {
            let message = "The connection was changed meanwhile; begin the sign-in again.";
            return Err(Fault::conflict("connection.changed", message));
        }
        if self.ended > was.standing.fence {
            let message = "The connection was ended meanwhile; begin the sign-in again.";
            return Err(Fault::conflict("connection.ended", message));
        }
        Ok(())
    }

    /// As [`Kept::note_ending`], of what nobody keeps. Gives how the connection stands then.
    pub(super) fn late(&mut self, app: &App, version: u64, tokens: &Unkept) -> Result<Standing, Fault> {
        self.note_ending(app, version, tokens, When::SignedOut)?;
        if self.standing.life != Life::Revoked || self.ending.is_over() {
            return Ok(self.standing.clone());
        }
        Ok(self.standing.revoke())
    }

    /// A row for what is left of it.
    fn remnant(&self, app: &App, at: Moment) -> Result<Self, Fault> {
        let (name, version) = (apart(&self.row), u64::try_from(at.0).unwrap_or(0));
        let client = match self.client_secret(app)? {
            Some(secret) => app
                .keys
                .seal(&client_name(&name), version, &secret)
                .map_err(|e| Fault::ours("seal the client's secret", &e))?,
            None => Vec::new(),
        };
        let settings = ConnectionSettings { authorize_url: None, device_url: None, ..self.settings.clone() };
        let body = serde_json::to_string(&settings).map_err(|e| Fault::ours("write the connection down", &e))?;
        let standing = Standing { life: Life::Revoking, fence: version + 1, ..Standing::default() };
        let row = ConnectionRow {
            name,
            body,
            standing: String::new(),
            fence: standing.fence,
            refresh: Vec::new(),
            refresh_version: 0,
            client,
            set_by: self.row.set_by.clone(),
            set_at: at,
            signed_in_by: String::new(),
            refreshed: None,
        };
        Ok(Self { row, settings, standing, ending: ending::Ending::default(), ended: 0 })
    }
}

/// Notes tokens that `was`'s provider gave and nobody keeps as ones that are to be ended. Gives the row at which they stand; none
/// where nobody can be told.
///
/// # Errors
/// The store's.
pub(super) async fn note(
    tx: &mut Tx,
    app: &App,
    was: &Kept,
    tokens: &Unkept,
    at: Moment,
) -> Result<Option<String>, Fault> {
    match tx.connection(&was.row.name).await?.filter(|row| row.set_at == was.row.set_at) {
        Some(row) => noted(tx, app, (Kept::of(row)?, false), tokens, at).await,
        None => note_apart(tx, app, was, tokens, at).await,
    }
}

/// As [`note`], for a connection that is set anew in this act, or no more.
///
/// # Errors
/// The store's.
pub(super) async fn note_apart(
    tx: &mut Tx,
    app: &App,
    was: &Kept,
    tokens: &Unkept,
    at: Moment,
) -> Result<Option<String>, Fault> {
    let kept = match tx.connection(&apart(&was.row)).await? {
        Some(row) => (Kept::of(row)?, false),
        None => (was.remnant(app, at)?, true),
    };
    noted(tx, app, kept, tokens, at).await
}

async fn noted(
    tx: &mut Tx,
    app: &App,
    (mut kept, is_new): (Kept, bool),
    tokens: &Unkept,
    at: Moment,
) -> Result<Option<String>, Fault> {
    let standing = kept.late(app, kept.standing.fence, tokens)?;
    let more = record::fields(json!({ "connection": kept.row.name, "left": kept.left() }));
    tx.record(By::Server, at, "connection.late", "server", more).await?;
    if kept.ending.is_over() {
        // Its provider has no address for it.
        return Ok(None);
    }
    let name = kept.row.name.clone();
    if is_new {
        kept.write_down()?;
        tx.add_connection(&kept.row).await?;
    } else {
        kept.keep(tx, standing).await?;
    }
    Ok(Some(name))
}

/// Notes them in an act of its own, and has them ended. What cannot be noted is tried again for as long as the server lives,
/// unless it never can be.
pub(super) fn ended(app: &App, was: &Arc<Kept>, tokens: Unkept) {
    let (app, was, tokens) = (app.clone(), was.clone(), Arc::new(tokens));
    tokio::spawn(async move {
        let name = &was.row.name;
        let act = || {
            let (ours, of, what) = (app.clone(), was.clone(), tokens.clone());
            app.store.write(move |tx| Box::pin(async move { note(tx, &ours, &of, &what, now()).await }))
        };
        match until_kept(&format!("what is to be ended of {name}"), act).await {
            Ok(noted) => go_on(&app, noted).await,
            Err(fault) => given_up(&app, name, tokens.count(), &fault).await,
        }
    });
}

/// Has it on record that tokens were given up that can never be kept, nor noted to be ended.
pub(super) async fn given_up(app: &App, name: &str, tokens: usize, fault: &Fault) {
    let why = &fault.problem.message;
    tracing::error!("{tokens} tokens of {name} are given up: {why}");
    let act = || {
        let (name, why) = (name.to_owned(), why.clone());
        app.store.write(move |tx| Box::pin(async move { Ok(unended(tx, &name, tokens, &why).await?) }))
    };
    if let Err(fault) = until_kept(&format!("that tokens of {name} are given up"), act).await {
        tracing::error!("that tokens of {name} are given up is not on record: {}", fault.problem.message);
    }
}

/// Records that nobody ends these tokens of a connection: they may be good at its provider still.
///
/// # Errors
/// The store's.
pub(super) async fn unended(tx: &mut Tx, name: &str, tokens: usize, why: &str) -> Result<(), StoreError> {
    let more = record::fields(json!({ "connection": name, "tokens": tokens, "why": why }));
    tx.record(By::Server, now(), "connection.unended", "server", more).await
}

/// Has tokens ended that the answer to a sign-in's question brings when it is waited for no more.
pub(super) fn if_said(app: &App, was: &Arc<Kept>, answer: Option<Late>) {
    let Some(answer) = answer else { return };
    let (app, was) = (app.clone(), was.clone());
    tokio::spawn(async move {
        match answer.await.map(|word| wire::said(&word)) {
            Ok(Said::Tokens(tokens)) => ended(&app, &was, tokens.unkept()),
            Ok(Said::Unusable(tokens)) => ended(&app, &was, tokens),
            _ => {}
        }
    });
}

/// Has what was noted at this row ended now.
pub(super) async fn go_on(app: &App, noted: Option<String>) {
    tell(app).await;
    let Some(name) = noted else { return };
    if let Err(fault) = ending::told(app, &name).await {
        tracing::warn!("the provider of {name} was not told what has ended: {}", fault.problem.message);
    }
}
