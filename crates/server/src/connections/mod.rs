//! OAuth connections: an integration that a person signed in to once, and whose access token the platform keeps fresh.
//!
//! What to do about one is [`vault::refresh`]'s word; here its row, its sealed tokens and its record are written in one
//! act, before anything of it takes effect. The access token stands among the secrets as `connection/NAME`, where a grant
//! finds it; it is gone from there the moment the connection is closed. The refresh token never leaves this module but
//! for the provider's own address.
//!
//! Read [`put`], then [`sign_in`] and [`device`] (how tokens come), [`refresh`] (how they stay), [`revoke`] and [`ending`] (how
//! they end), [`late`] (those that nobody keeps), [`restored`] (a copy of them that is not theirs to use).

mod again;
pub mod device;
mod ending;
mod hosts;
mod late;
mod providers;
pub mod refresh;
pub mod revoke;
mod set;
pub mod sign_in;
mod wire;

use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::{leases, now, record, secrets};
use api::connections::{ConnectionSettings, ConnectionView, DeviceView};
use api::platform::{PlatformCall, Purpose};
use ending::Ending;
use model::{Moment, Secret};
use policy::Refusal;
use policy::access::Scope;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use store::chain::By;
use store::connections::ConnectionRow;
use store::secrets::SecretRow;
use store::{StoreError, Tx};
use tokio::sync::{Notify, Semaphore};
use vault::refresh::{Lapse, Life, Standing};
use wire::{Client, Tokens, Unkept};

pub use hosts::{current_at, fits, stands};
pub use set::{put, remove};

/// How many may wait for a token at a time, whichever connection it is of.
const WAITING: usize = 64;

/// What this process knows of connections beyond their rows; all of it may be lost.
#[derive(Default)]
pub struct Desk {
    /// Since when each connection's fence has been the one that it is, by a clock that nobody sets.
    seen: Mutex<HashMap<String, (u64, Instant)>>,
    /// Sign-ins by a browser that were begun here, by the hash of their state.
    begun: Mutex<HashMap<String, sign_in::Begun>>,
    /// Sign-ins by a device that were begun here, by connection.
    devices: Mutex<HashMap<String, (u64, DeviceView)>>,
    /// Connections whose provider is being told what is to be ended.
    telling: Mutex<HashSet<String>>,
    /// One of those has been told.
    told: Notify,
    /// Something about a connection has changed.
    changed: Notify,
    /// For those who wait for a change.
    waiting: Seats,
}

/// Places for those who wait for a token. Each may hold the place of one of the gateway's questions; most of those places
/// are for the ones that wait for nothing.
struct Seats(Semaphore);

impl Default for Seats {
    fn default() -> Self {
        Self(Semaphore::new(WAITING))
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// A sign-in by a device, for whoever may sign in: with its code that could be another's sign-in.
    fn device(&self, name: &str, caller: &Caller) -> Option<DeviceView> {
        let device = locked(&self.devices).get(name).map(|(_, device)| device.clone());
        device.filter(|_| caller.scopes.holds(Scope::ConnectionsManage))
    }

    /// For how long this process has seen this very fence, in milliseconds.
    fn seen_ms(&self, name: &str, fence: u64) -> u64 {
        let mut seen = locked(&self.seen);
        let at = Instant::now();
        match seen.get_mut(name) {
            Some((known, since)) if *known == fence => {
                u64::try_from(at.saturating_duration_since(*since).as_millis()).unwrap_or(u64::MAX)
            }
            Some(known) => {
                *known = (fence, at);
                0
            }
            None => {
                seen.insert(name.to_owned(), (fence, at));
                0
            }
        }
    }
}

/// The name of a connection's access token among the secrets.
fn access_name(name: &str) -> String {
    format!("connection/{name}")
}

/// Under which names its refresh token and its client's secret are sealed.
fn refresh_name(name: &str) -> String {
    format!("connection/{name}/refresh")
}

fn client_name(name: &str) -> String {
    format!("connection/{name}/client")
}

/// The connection whose access token a secret's name is.
#[must_use]
pub fn named(secret: &str) -> Option<&str> {
    secret.strip_prefix("connection/").filter(|name| secrets::plain_name(name))
}

/// A connection, read.
struct Kept {
    row: ConnectionRow,
    settings: ConnectionSettings,
    standing: Standing,
    ending: Ending,
    /// The fence with which a person last ended it: a sign-in that was under way then is given up.
    ended: u64,
}

/// How a connection stands, as its row has it.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(flatten)]
    standing: Standing,
    #[serde(default)]
    ending: Ending,
    #[serde(default)]
    ended: u64,
}

impl Kept {
    fn of(row: ConnectionRow) -> Result<Self, StoreError> {
        let corrupt = |e: serde_json::Error| StoreError::Corrupt { what: "connection", why: e.to_string() };
        let settings = serde_json::from_str(&row.body).map_err(corrupt)?;
        let Written { standing, ending, ended } = serde_json::from_str(&row.standing).map_err(corrupt)?;
        Ok(Self { row, settings, standing, ending, ended })
    }

    /// Puts into its row how it stands.
    fn write_down(&mut self) -> Result<(), StoreError> {
        let (standing, ending) = (self.standing.clone(), self.ending.clone());
        let written = Written { standing, ending, ended: self.ended };
        self.row.standing = serde_json::to_string(&written)
            .map_err(|e| StoreError::Corrupt { what: "standing", why: e.to_string() })?;
        self.row.fence = self.standing.fence;
        Ok(())
    }

    /// Keeps it as `standing` says, in the act in which it was read.
    async fn keep(&mut self, tx: &mut Tx, standing: Standing) -> Result<(), StoreError> {
        let was = self.row.fence;
        self.standing = standing;
        let gave_way = std::mem::take(&mut self.ending.gave_way);
        if gave_way > 0 {
            let why = "More tokens of this connection than are kept are to be ended.";
            late::unended(tx, &self.row.name, gave_way, why).await?;
        }
        self.write_down()?;
        if tx.keep_connection(&self.row, was).await? {
            return Ok(());
        }
        // It was read in this very act: nobody can have been between.
        Err(StoreError::Corrupt { what: "connection", why: format!("{} has another fence", self.row.name) })
    }

    fn client_secret(&self, app: &App) -> Result<Option<Secret<String>>, Fault> {
        if self.row.client.is_empty() {
            return Ok(None);
        }
        let version = u64::try_from(self.row.set_at.0).unwrap_or(0);
        let opened = app.keys.open_sealed(&client_name(&self.row.name), version, &self.row.client);
        opened.map(Some).map_err(|e| Fault::ours("open the client's secret", &e))
    }

    fn refresh_token(&self, app: &App) -> Result<Option<Secret<String>>, Fault> {
        if self.row.refresh.is_empty() {
            return Ok(None);
        }
        let opened = app.keys.open_sealed(&refresh_name(&self.row.name), self.row.refresh_version, &self.row.refresh);
        opened.map(Some).map_err(|e| Fault::ours("open the refresh token", &e))
    }

    /// Its tokens, as far as they are there and open: one that does not is nobody's to end, and keeps nobody from anything.
    async fn tokens(&self, tx: &mut Tx, app: &App) -> Result<Unkept, StoreError> {
        let name = &self.row.name;
        let access = match tx.secret_of(&access_name(name), "").await? {
            Some(row) => app.keys.open_secret(&row).ok(),
            None => None,
        };
        let refresh = self.refresh_token(app).unwrap_or_else(|fault| {
            tracing::error!("the refresh token of the connection {name} does not open: {}", fault.problem.message);
            None
        });
        Ok(Unkept { refresh, access })
    }

    /// A form to an address of its provider's; to no other, whatever stands in the row.
    fn form(
        &self,
        secret: Option<&Secret<String>>,
        purpose: Purpose,
        url: &str,
        fields: &[(&str, &str)],
    ) -> Result<PlatformCall, String> {
        hosts::sends(&self.settings, url)?;
        Client { name: &self.row.name, settings: &self.settings, secret }.form(purpose, url, fields)
    }

    /// Keeps tokens, sealed, with the standing that they make.
    async fn keep_tokens(
        &mut self,
        tx: &mut Tx,
        app: &App,
        tokens: &Tokens,
        standing: Standing,
        (who, at): (&str, Moment),
    ) -> Result<(), Fault> {
        let ours = |e: vault::SealError| Fault::ours("seal a connection's token", &e);
        // One that the provider does not change is sealed anew with the others.
        let old = if tokens.refresh.is_none() && standing.token.is_some_and(|token| token.refreshable) {
            self.refresh_token(app)?
        } else {
            None
        };
        let name = access_name(&self.row.name);
        let version = tx.next_secret_version(&name, "").await?;
        let sealed = app.keys.seal(&name, version, &tokens.access).map_err(ours)?;
        let row = SecretRow {
            name,
            person: String::new(),
            kind: String::new(),
            personal: false,
            sealed,
            set_by: who.to_owned(),
            set_at: at,
            last_used: None,
            version,
            minter: String::new(),
        };
        tx.set_secret(&row).await?;
        self.row.refresh_version = standing.generation;
        self.row.refresh = match tokens.refresh.as_ref().or(old.as_ref()) {
            Some(value) => app.keys.seal(&refresh_name(&self.row.name), standing.generation, value).map_err(ours)?,
            None => Vec::new(),
        };
        self.row.refreshed = Some(at);
        Ok(self.keep(tx, standing).await?)
    }

    /// Closes it: the access token is gone from among the secrets, and with it every lease that is open on it. All that ended
    /// is to be withdrawn once the act is kept.
    async fn close(
        &mut self,
        tx: &mut Tx,
        standing: Standing,
        (who, at): (&str, Moment),
    ) -> Result<leases::Ended, StoreError> {
        let name = access_name(&self.row.name);
        let ended = leases::value_over(tx, (&name, ""), who, at).await?;
        tx.remove_secret(&name, "").await?;
        self.keep(tx, standing).await?;
        Ok(ended)
    }

    /// As people see it.
    fn view(self, app: &App, caller: &Caller) -> ConnectionView {
        let next = self.standing.next(now(), 0);
        let (state, said) = words(&self.standing, next.usable);
        let said = match (late::of(&self.row.name), self.ending.said(self.standing.life)) {
            (Some(before), Some(more)) => format!("What is left of {before}, which was set anew or removed. {more}"),
            (None, Some(more)) if self.standing.life == Life::Revoking => more,
            (None, Some(more)) => format!("{said} {more}"),
            (_, None) => said.to_owned(),
        };
        let left = self.left();
        let device = app.connections.device(&self.row.name, caller);
        ConnectionView {
            name: self.row.name,
            settings: self.settings,
            state: state.to_owned(),
            said,
            expires: self.standing.token.filter(|_| self.standing.life == Life::Live).and_then(|token| token.expires),
            refreshed: self.row.refreshed,
            generation: self.standing.generation,
            signed_in_by: self.row.signed_in_by,
            left,
            device,
        }
    }
}

/// The state and what it means.
fn words(standing: &Standing, usable: bool) -> (&'static str, &'static str) {
    match standing.life {
        Life::New => ("new", "Nobody has signed in yet."),
        Life::Live if standing.locked => ("live", "Signed in; its tokens are being refreshed."),
        Life::Live if usable => ("live", "Signed in."),
        Life::Live => ("live", "Signed in; the access token is over and a new one is being asked for."),
        Life::Lapsed(Lapse::Refused) => ("lapsed", "The provider no longer takes its sign-in; sign in again."),
        Life::Lapsed(Lapse::Unknown) => {
            ("lapsed", "It is not known what came of its last two refreshes, so it is closed; sign in again.")
        }
        Life::Lapsed(Lapse::Expired) => {
            ("lapsed", "Its token is over, and the provider gave none to refresh it; sign in again.")
        }
        Life::Lapsed(Lapse::Restored) => (
            "lapsed",
            "Restored from a backup; its tokens belong to the home that the backup was made of, and are not here: sign in again.",
        ),
        Life::Revoking => ("revoking", "Ended here; the provider has not confirmed it yet."),
        Life::Revoked => ("revoked", "Ended; sign in again to use it."),
    }
}

/// A connection's access token for a grant, if it may be given out at `at`; to be read in the act that records the grant.
///
/// # Errors
/// The store's.
pub async fn current(tx: &mut Tx, name: &str, at: Moment) -> Result<Result<SecretRow, Refusal>, StoreError> {
    let Some(row) = tx.connection(name).await? else { return Ok(Err(unknown_here(name))) };
    let standing = Kept::of(row)?.standing;
    let next = standing.next(at, 0);
    if !next.usable {
        return Ok(Err(closed(name, &standing)));
    }
    Ok(tx.secret_of(&access_name(name), "").await?.ok_or_else(|| closed(name, &standing)))
}

fn unknown_here(name: &str) -> Refusal {
    let why = format!("There is no connection {name:?}; an administrator adds one: `volary connect add {name}`.");
    Refusal::new("connection.unknown", why)
}

fn closed(name: &str, standing: &Standing) -> Refusal {
    let why = format!("The connection {name:?} cannot be used: {}", words(standing, false).1);
    if standing.life == Life::Live {
        return Refusal::new("connection.stale", why);
    }
    Refusal::new("connection.closed", format!("{why} A person does so: `volary connect sign-in {name}`."))
}

fn unknown(name: &str) -> Fault {
    let message =
        format!("There is no connection {name:?}; `volary connect list` lists them, `volary connect add` adds one.");
    Fault::missing("connection.unknown", message)
}

/// Every connection, by name.
///
/// # Errors
/// The store's.
pub async fn list(app: &App, caller: &Caller) -> Result<Vec<ConnectionView>, Fault> {
    let rows = app.store.connections().await?;
    rows.into_iter().map(|row| Ok(Kept::of(row)?.view(app, caller))).collect()
}

/// One connection.
///
/// # Errors
/// 404, the store's.
pub async fn find(app: &App, caller: &Caller, name: &str) -> Result<ConnectionView, Fault> {
    let row = app.store.connection(name).await?.ok_or_else(|| unknown(name))?;
    Ok(Kept::of(row)?.view(app, caller))
}

/// Every value of connections that stands nowhere else, for the scrubber: with the name under which it is sealed.
///
/// # Errors
/// The store's. What does not open is left out: it is given to nobody either.
pub(crate) async fn values(app: &App) -> Result<Vec<(String, Secret<String>)>, Fault> {
    let mut values = Vec::new();
    for row in app.store.connections().await? {
        let kept = Kept::of(row)?;
        for (name, value) in [
            (refresh_name(&kept.row.name), kept.refresh_token(app)),
            (client_name(&kept.row.name), kept.client_secret(app)),
        ] {
            if let Ok(Some(value)) = value {
                values.push((name, value));
            }
        }
        values.extend(kept.all_left(app));
    }
    Ok(values)
}

/// Closes every connection of a database that was restored: its tokens are those of the home that the backup was made of,
/// and a provider that changes them at each use would take a second user for a thief and end that home's sign-in. Gives of how
/// many somebody was signed in.
///
/// # Errors
/// The store's.
pub(crate) async fn restored(tx: &mut Tx, rows: Vec<ConnectionRow>, at: Moment) -> Result<usize, StoreError> {
    let mut signed_in = 0;
    for row in rows {
        let mut kept = Kept::of(row)?;
        // What is left to be ended is that home's to end.
        if late::of(&kept.row.name).is_some() {
            tx.remove_connection(&kept.row.name).await?;
            continue;
        }
        if matches!(kept.standing.life, Life::New | Life::Revoked) && kept.ending.is_over() {
            continue;
        }
        signed_in += usize::from(kept.standing.life == Life::Live);
        let standing = Standing { token: None, ..kept.standing.lapse(Lapse::Restored) };
        (kept.row.refresh, kept.ending) = (Vec::new(), Ending::default());
        // There is no gateway, and no run.
        kept.close(tx, standing, ("nobody", at)).await?;
        let more = record::fields(json!({ "connection": kept.row.name, "why": Lapse::Restored }));
        tx.record(By::Server, at, "connection.lapsed", "nobody", more).await?;
    }
    Ok(signed_in)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Door;
    use policy::access::Scopes;

    #[test]
    fn the_code_of_a_device_is_shown_to_those_who_may_sign_in_and_to_nobody_who_may_only_look() {
        let desk = Desk::default();
        let view = DeviceView {
            user_code: "AB-CD".into(),
            verification_uri: "https://auth.example/device".into(),
            expires: Moment(1),
            said: device::WAITING.into(),
        };
        locked(&desk.devices).insert("x".into(), (1, view.clone()));
        let shown = |scope| {
            let scopes = Scopes::NONE.with(Scope::ConnectionsRead).with(scope);
            let person = "ada".parse().unwrap();
            desk.device("x", &Caller { person, name: "Ada".into(), scopes, door: Door::Home, session: None })
        };
        assert_eq!(shown(Scope::ConnectionsRead), None);
        assert_eq!(shown(Scope::ConnectionsManage), Some(view));
    }
}
