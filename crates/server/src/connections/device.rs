//! Signing in with a device's code (RFC 8628): a person types it in wherever they have a browser, and we ask now and then.

use super::sign_in::{SignIn, signed_in};
use super::wire::{self, DeviceCode, Said};
use super::{Kept, find, late, locked, unknown};
use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::{now, platform};
use api::connections::{ConnectionView, DeviceView};
use api::platform::{CallWord, Purpose};
use model::{Moment, Secret};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What RFC 8628 §3.5 adds to the interval of one who asks too often, in seconds.
const SLOWER: u64 = 5;

/// A sign-in under way.
struct Asking {
    number: u64,
    /// The connection as it was when this was begun.
    was: Arc<Kept>,
    who: String,
    code: Secret<String>,
    expires: Moment,
    interval: u64,
}

/// Asks the provider for a code, and from then on whether the person has typed it in. An earlier one of this connection
/// is given up.
///
/// # Errors
/// 404, 400 for a connection without device grant or with what the provider says, the store's.
pub async fn begin(app: &App, caller: &Caller, name: &str) -> Result<ConnectionView, Fault> {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let kept = Kept::of(app.store.connection(name).await?.ok_or_else(|| unknown(name))?)?;
    let Some(url) = &kept.settings.device_url else {
        let message = format!("The connection {name:?} has no device grant; sign in with a browser, in the console.");
        return Err(Fault::bad("connection.device", message));
    };
    let secret = kept.client_secret(app)?;
    let scope = kept.settings.scopes.join(" ");
    let fields: &[(&str, &str)] = if scope.is_empty() { &[] } else { &[("scope", scope.as_str())] };
    let call = kept
        .form(secret.as_ref(), Purpose::Device, url, fields)
        .map_err(|why| Fault::ours("ask for a device's code", &why))?;
    let who = caller.person.to_string();
    let word = platform::call(app, &who, call).await?;
    let code = wire::device(&word, kept.settings.internal)
        .map_err(|why| Fault::bad("connection.refused", format!("There is no code. {why}")))?;
    let DeviceCode { device, user, uri, lives, interval } = code;
    // Both are shown as they are.
    let scrubber = app.scrubber();
    if [&user, &uri].into_iter().any(|text| *scrubber.scrub_str(text) != **text) {
        let message = "There is no code. The provider's answer has a secret of this home in what is to be shown.";
        return Err(Fault::bad("connection.refused", message));
    }
    let expires = now().plus_ms(i64::try_from(lives * 1000).unwrap_or(0));
    let view = DeviceView { user_code: user, verification_uri: uri, expires, said: WAITING.to_owned() };
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    locked(&app.connections.devices).insert(name.to_owned(), (number, view));
    let asking = Asking { number, was: Arc::new(kept), who, code: device, expires, interval };
    let ours = app.clone();
    tokio::spawn(async move { ask(&ours, asking).await });
    find(app, caller, name).await
}

/// What is said while the person has not decided.
pub const WAITING: &str = "waiting";
/// What is said once the sign-in is kept.
pub const SIGNED_IN: &str = "signed in";

async fn ask(app: &App, mut asking: Asking) {
    let said = loop {
        tokio::time::sleep(Duration::from_secs(asking.interval)).await;
        if !is_mine(app, &asking) {
            return;
        }
        if now() >= asking.expires {
            break "The code is over; begin again.".to_owned();
        }
        let asked = now();
        let word = match once(app, &asking).await {
            Ok(word) => word,
            // It was not recorded, and so not asked.
            Err(fault) if fault.status.is_server_error() => continue,
            Err(fault) => break fault.problem.message,
        };
        match wire::said(&word) {
            Said::Pending { slower } => asking.interval += if slower { SLOWER } else { 0 },
            Said::Tokens(tokens) => {
                if !is_mine(app, &asking) {
                    return late::ended(app, &asking.was, tokens.unkept());
                }
                let (was, who) = (asking.was.clone(), asking.who.clone());
                match signed_in(app, SignIn { was, asked, tokens, who, by: "device" }).await {
                    Ok(()) => break SIGNED_IN.to_owned(),
                    Err(fault) => break fault.problem.message,
                }
            }
            // RFC 8628 §3.5: no connection is no end.
            Said::Untouched(_) => {}
            // Nor is one that is busy: a code that was used up meanwhile is refused the next time.
            Said::Unknown(_) if matches!(word, CallWord::Answered { status: 503, .. }) => {}
            Said::Unusable(tokens) => {
                late::ended(app, &asking.was, tokens);
                break wire::UNUSABLE.to_owned();
            }
            Said::Refused(why) | Said::Unknown(why) => break why,
        }
    };
    if let Some((number, view)) = locked(&app.connections.devices).get_mut(&asking.was.row.name)
        && *number == asking.number
    {
        view.said = said;
    }
    app.connections.changed.notify_waiters();
}

fn is_mine(app: &App, asking: &Asking) -> bool {
    locked(&app.connections.devices).get(&asking.was.row.name).is_some_and(|(number, _)| *number == asking.number)
}

async fn once(app: &App, asking: &Asking) -> Result<CallWord, Fault> {
    let name = &asking.was.row.name;
    let kept = Kept::of(app.store.connection(name).await?.ok_or_else(|| unknown(name))?)?;
    kept.still(&asking.was)?;
    let secret = kept.client_secret(app)?;
    let fields = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", asking.code.expose().as_str()),
    ];
    let call = kept
        .form(secret.as_ref(), Purpose::SignIn, &kept.settings.token_url, &fields)
        .map_err(|why| Fault::ours("ask for tokens", &why))?;
    let (word, too_late) = platform::called(app, &asking.who, call).await?;
    late::if_said(app, &asking.was, too_late);
    Ok(word)
}
