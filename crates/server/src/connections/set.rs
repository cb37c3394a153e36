//! Adding a connection, setting one anew, and removing one.
//!
//! Read [`put`], [`remove`].

use super::ending::{Ending, When};
use super::wire::Unkept;
use super::{Kept, client_name, hosts, late, providers, unknown};
use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::{now, platform, record, secrets};
use api::connections::{ClientAuth, ConnectionRemoved, ConnectionView, SetConnection};
use model::Moment;
use serde_json::json;
use store::Tx;
use store::chain::By;
use store::connections::ConnectionRow;
use vault::refresh::{Lapse, Life, Standing};

/// Most scopes of a connection, and longest of one, in bytes.
const SCOPES: (usize, usize) = (64, 256);

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
    for url in [&settings.device_url, &settings.revoke_url].into_iter().flatten() {
        hosts::sends(settings, url).map_err(|why| Fault::bad("connection.other-host", why))?;
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

/// Refuses one that is signed in.
fn is_free(kept: &Kept) -> Result<(), Fault> {
    if kept.standing.life != Life::Live {
        return Ok(());
    }
    let name = &kept.row.name;
    let message = format!("The connection {name:?} is signed in; end that first: `volary connect revoke {name}`.");
    Err(Fault::conflict("connection.live", message))
}

/// Adds a connection, or sets it anew: then its sign-in is over here, for its tokens belong to what it was.
///
/// # Errors
/// 400 that say what is wrong, 409 while it is signed in, the store's.
pub async fn put(app: &App, caller: &Caller, name: &str, mut wish: SetConnection) -> Result<ConnectionView, Fault> {
    check(name, &mut wish)?;
    let body = serde_json::to_string(&wish.settings).map_err(|e| Fault::ours("write the connection down", &e))?;
    let (ours, name, who, at) = (app.clone(), name.to_owned(), caller.person.to_string(), now());
    let (kept, noted) = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let was = tx.connection(&name).await?;
                let before = was.map(Kept::of).transpose()?;
                if let Some(kept) = &before {
                    is_free(kept)?;
                    if !kept.ending.is_over() || kept.standing.life == Life::Revoking {
                        let message = format!(
                            "The provider of {name:?} has yet to confirm that its tokens are ended; remove the connection to give that \
                             up: `volary connect remove {name}`."
                        );
                        return Err(Fault::conflict("connection.ending", message));
                    }
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
                let fence = before.as_ref().map_or(0, |kept| kept.row.fence).max(version) + 1;
                let row = ConnectionRow {
                    name: name.clone(),
                    body,
                    standing: String::new(),
                    fence,
                    refresh: Vec::new(),
                    refresh_version: 0,
                    client,
                    set_by: who.clone(),
                    set_at: at,
                    signed_in_by: String::new(),
                    refreshed: None,
                };
                let standing = Standing { fence, ..Standing::default() };
                let settings = wish.settings.clone();
                let mut kept = Kept { row, settings, standing, ending: Ending::default(), ended: 0 };
                let noted = match &before {
                    Some(before) => leave(tx, &ours, before, &mut kept, at).await?,
                    None => None,
                };
                kept.write_down()?;
                match before {
                    None => tx.add_connection(&kept.row).await?,
                    Some(before) => {
                        if !tx.keep_connection(&kept.row, before.row.fence).await? {
                            let message = format!("The connection {name:?} was changed meanwhile; nothing was done. Look again.");
                            return Err(Fault::conflict("connection.changed", message));
                        }
                    }
                }
                let more = json!({ "connection": name, "settings": wish.settings, "client_secret": wish.client_secret.is_some() });
                tx.record(By::Server, at, "connection.set", &who, record::fields(more)).await?;
                Ok::<_, Fault>((kept, noted))
            })
        })
        .await?;
    app.renew_scrubber().await?;
    if noted.is_some() {
        let ours = app.clone();
        tokio::spawn(async move { late::go_on(&ours, noted).await });
    }
    Ok(kept.view(app, caller))
}

/// Leaves the refresh token of a connection that lapsed, and of which nobody knows whether it is good, to be ended: by the client
/// that it becomes, if that is the same at the provider, else by the one that it was. Gives the row at which it stands.
async fn leave(tx: &mut Tx, app: &App, before: &Kept, then: &mut Kept, at: Moment) -> Result<Option<String>, Fault> {
    if before.standing.life != Life::Lapsed(Lapse::Unknown) {
        return Ok(None);
    }
    let tokens = Unkept { refresh: before.refresh_token(app)?, access: None };
    let client = |of: &Kept| {
        let settings = &of.settings;
        [Some(&settings.client_id), Some(&settings.token_url), settings.revoke_url.as_ref()].map(|text| text.cloned())
    };
    if client(before) == client(then) {
        then.note_ending(app, then.standing.fence, &tokens, When::SignedOut)?;
        Ok(Some(then.row.name.clone()))
    } else {
        late::note_apart(tx, app, before, &tokens, at).await
    }
}

/// Removes a connection that is not signed in; what its provider has not confirmed as ended is given up, and recorded and
/// answered so.
///
/// # Errors
/// 404, 409, the store's.
pub async fn remove(app: &App, caller: &Caller, name: &str) -> Result<ConnectionRemoved, Fault> {
    let (name, who, at) = (name.to_owned(), caller.person.to_string(), now());
    app.store
        .write(move |tx| {
            Box::pin(async move {
                let kept = Kept::of(tx.connection(&name).await?.ok_or_else(|| unknown(&name))?)?;
                is_free(&kept)?;
                tx.remove_connection(&name).await?;
                let left = kept.left();
                let more = record::fields(json!({ "connection": name, "left": left }));
                tx.record(By::Server, at, "connection.removed", &who, more).await?;
                Ok(ConnectionRemoved { left })
            })
        })
        .await
}
