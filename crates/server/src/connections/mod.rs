//! OAuth connections: an integration that a person signed in to once, and whose access token the platform keeps fresh.
//!
//! What to do about one is [`vault::refresh`]'s word; here its row, its sealed tokens and its record are written in one
//! act, before anything of it takes effect. The access token stands among the secrets as `connection/NAME`, where a grant
//! finds it; it is gone from there the moment the connection is closed. The refresh token never leaves this module but
//! for the provider's own address.
//!
//! Read [`put`], then [`sign_in`] and [`device`] (how tokens come), [`refresh`] (how they stay), [`revoke`] (how they end).

pub mod device;
mod hosts;
mod providers;
pub mod refresh;
pub mod revoke;
pub mod sign_in;
mod wire;

use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::{now, platform, record, secrets};
use api::connections::{ClientAuth, ConnectionSettings, ConnectionView, DeviceView, SetConnection};
use model::{Moment, Secret};
use policy::Refusal;
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use store::chain::By;
use store::connections::ConnectionRow;
use store::secrets::SecretRow;
use store::{StoreError, Tx};
use tokio::sync::{Notify, Semaphore};
use vault::refresh::{Lapse, Life, Standing};
use wire::{Client, Tokens};

pub use hosts::{current_at, fits, stands};

/// Most scopes of a connection, and longest of one, in bytes.
const SCOPES: (usize, usize) = (64, 256);

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
}

impl Kept {
    fn of(row: ConnectionRow) -> Result<Self, StoreError> {
        let corrupt = |e: serde_json::Error| StoreError::Corrupt { what: "connection", why: e.to_string() };
        let settings = serde_json::from_str(&row.body).map_err(corrupt)?;
        let standing = serde_json::from_str(&row.standing).map_err(corrupt)?;
        Ok(Self { row, settings, standing })
    }

    /// Keeps it as `standing` says, in the act in which it was read.
    async fn keep(&mut self, tx: &mut Tx, standing: Standing) -> Result<(), StoreError> {
        let was = self.row.fence;
        self.row.standing = serde_json::to_string(&standing)
            .map_err(|e| StoreError::Corrupt { what: "standing", why: e.to_string() })?;
        self.row.fence = standing.fence;
        self.standing = standing;
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

    fn client<'a>(&'a self, secret: Option<&'a Secret<String>>) -> Client<'a> {
        Client { name: &self.row.name, settings: &self.settings, secret }
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

    /// Closes it: the access token is gone from among the secrets.
    async fn close(&mut self, tx: &mut Tx, standing: Standing) -> Result<(), StoreError> {
        tx.remove_secret(&access_name(&self.row.name), "").await?;
        self.keep(tx, standing).await
    }

    fn view(self, app: &App) -> ConnectionView {
        let next = self.standing.next(now(), 0);
        let (state, said) = words(&self.standing, next.usable);
        let device = locked(&app.connections.devices).get(&self.row.name).map(|(_, device)| device.clone());
        ConnectionView {
            name: self.row.name,
            settings: self.settings,
            state: state.to_owned(),
            said: said.to_owned(),
            expires: self.standing.token.filter(|_| self.standing.life == Life::Live).and_then(|token| token.expires),
            refreshed: self.row.refreshed,
            generation: self.standing.generation,
            signed_in_by: self.row.signed_in_by,
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
pub async fn list(app: &App) -> Result<Vec<ConnectionView>, Fault> {
    let rows = app.store.connections().await?;
    rows.into_iter().map(|row| Ok(Kept::of(row)?.view(app))).collect()
}

/// One connection.
///
/// # Errors
/// 404, the store's.
pub async fn find(app: &App, name: &str) -> Result<ConnectionView, Fault> {
    let row = app.store.connection(name).await?.ok_or_else(|| unknown(name))?;
    Ok(Kept::of(row)?.view(app))
}

fn check(name: &str, wish: &mut SetConnection) -> Result<(), Fault> {
    let bad = |code: &str, message: String| Err(Fault::bad(code, message));
    if !secrets::plain_name(name) {
        return bad(
            "connection.name",
            format!("{name:?} is no connection's name: it takes 1 to 64 characters of a-z, 0-9 and '-'."),
        );
    }
    let settings = &mut wish.settings;
    if !providers::fill(settings) {
        return bad("connection.provider", format!("This provider is not known; known are {}.", providers::names()));
    }
    let urls = [
        Some(&settings.token_url),
        settings.authorize_url.as_ref(),
        settings.device_url.as_ref(),
        settings.revoke_url.as_ref(),
    ];
    for url in urls.into_iter().flatten() {
        if let Err(why) = platform::named_host(url, settings.internal) {
            return bad("connection.url", why);
        }
    }
    let plain = |host: &String| policy::egress::Name::parse(host).is_ok_and(|name| name.as_str() == host);
    if settings.hosts.len() > hosts::MOST || !settings.hosts.iter().all(plain) {
        return bad("connection.hosts", "Hosts of a connection are at most 16 names, whole and in lower case.".into());
    }
    if settings.authorize_url.is_none() && settings.device_url.is_none() {
        return bad(
            "connection.url",
            "A connection takes an address to sign in at: `--authorize-url` or `--device-url`.".into(),
        );
    }
    let graphic =
        |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if !graphic(&settings.client_id, 512) {
        return bad("connection.client", "The client's id takes 1 to 512 printable characters.".into());
    }
    if settings.scopes.len() > SCOPES.0 || !settings.scopes.iter().all(|scope| graphic(scope, SCOPES.1)) {
        return bad("connection.scopes", "Scopes are at most 64 words.".into());
    }
    match (&wish.client_secret, settings.client_auth) {
        (Some(secret), _) if !graphic(secret.0.expose(), 4096) || secret.0.expose().len() < secrets::MIN_VALUE => bad(
            "connection.client",
            format!("The client's secret takes {} to 4096 printable characters.", secrets::MIN_VALUE),
        ),
        (Some(_), ClientAuth::None) => {
            settings.client_auth = ClientAuth::Basic;
            Ok(())
        }
        (None, ClientAuth::Basic | ClientAuth::Post) => {
            bad("connection.client", "A client that shows a secret needs one.".into())
        }
        _ => Ok(()),
    }
}

/// Adds a connection, or sets it anew: then its sign-in is over here, for its tokens belong to what it was.
///
/// # Errors
/// 400 that say what is wrong, 409 while it is signed in, the store's.
pub async fn put(app: &App, caller: &Caller, name: &str, mut wish: SetConnection) -> Result<ConnectionView, Fault> {
    check(name, &mut wish)?;
    let body = serde_json::to_string(&wish.settings).map_err(|e| Fault::ours("write the connection down", &e))?;
    let (ours, name, who, at) = (app.clone(), name.to_owned(), caller.person.to_string(), now());
    let kept = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let was = tx.connection(&name).await?;
                if let Some(row) = &was
                    && matches!(Kept::of(row.clone())?.standing.life, Life::Live | Life::Revoking)
                {
                    let message = format!("The connection {name:?} is signed in; end that first: `volary connect revoke {name}`.");
                    return Err(Fault::conflict("connection.live", message));
                }
                let version = u64::try_from(at.0).unwrap_or(0);
                let client = match &wish.client_secret {
                    Some(secret) => ours
                        .keys
                        .seal(&client_name(&name), version, &secret.0)
                        .map_err(|e| Fault::ours("seal the client's secret", &e))?,
                    None => Vec::new(),
                };
                // A fence is never had twice, also where a connection of this name was removed.
                let fence = was.as_ref().map_or(0, |row| row.fence).max(version) + 1;
                let standing = Standing { fence, ..Standing::default() };
                let row = ConnectionRow {
                    name: name.clone(),
                    body,
                    standing: serde_json::to_string(&standing).map_err(|e| Fault::ours("write the connection down", &e))?,
                    fence,
                    refresh: Vec::new(),
                    refresh_version: 0,
                    client,
                    set_by: who.clone(),
                    set_at: at,
                    signed_in_by: String::new(),
                    refreshed: None,
                };
                match was {
                    None => tx.add_connection(&row).await?,
                    Some(was) => {
                        if !tx.keep_connection(&row, was.fence).await? {
                            let message = format!("The connection {name:?} was changed meanwhile; nothing was done. Look again.");
                            return Err(Fault::conflict("connection.changed", message));
                        }
                    }
                }
                let more = json!({ "connection": name, "settings": wish.settings, "client_secret": wish.client_secret.is_some() });
                tx.record(By::Server, at, "connection.set", &who, record::fields(more)).await?;
                Ok::<_, Fault>(Kept::of(row)?)
            })
        })
        .await?;
    app.renew_scrubber().await?;
    Ok(kept.view(app))
}

/// Removes a connection that is not signed in.
///
/// # Errors
/// 404, 409, the store's.
pub async fn remove(app: &App, caller: &Caller, name: &str) -> Result<(), Fault> {
    let (name, who, at) = (name.to_owned(), caller.person.to_string(), now());
    app.store
        .write(move |tx| {
            Box::pin(async move {
                let row = tx.connection(&name).await?.ok_or_else(|| unknown(&name))?;
                if matches!(Kept::of(row)?.standing.life, Life::Live | Life::Revoking) {
                    let message = format!(
                        "The connection {name:?} is signed in; end that first: `volary connect revoke {name}`."
                    );
                    return Err(Fault::conflict("connection.live", message));
                }
                tx.remove_connection(&name).await?;
                let more = record::fields(json!({ "connection": name }));
                Ok(tx.record(By::Server, at, "connection.removed", &who, more).await?)
            })
        })
        .await
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
    }
    Ok(values)
}
