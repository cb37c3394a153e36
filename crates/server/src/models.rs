//! Models: what an administrator added, and which one a run uses.

use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::{gateway, grants, now, prices, record, secrets};
use api::http::{ModelView, Tested};
use model::{Dialect, Profile};
use serde_json::json;
use store::StoreError;
use store::chain::By;
use store::keep::ModelRow;
use store::secrets::{self as rows, SecretRow};
use url::{Host, Url};

/// The base of a scripted model.
pub const SCRIPT: &str = "script:";

/// Longest list of scripted turns, in bytes of JSON.
const MAX_SCRIPT: usize = 1024 * 1024;

/// A kept model.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub fn parse(row: &ModelRow) -> Result<ModelView, StoreError> {
    let view: Result<ModelView, _> = serde_json::from_str(&row.body);
    let mut view = view.map_err(|e| StoreError::Corrupt { what: "model", why: e.to_string() })?;
    view.name.clone_from(&row.name);
    Ok(view)
}

/// Every model, by name.
///
/// # Errors
/// The store's.
pub async fn list(app: &App) -> Result<Vec<ModelView>, Fault> {
    let rows = app.store.models().await?;
    Ok(rows.iter().map(parse).collect::<Result<_, _>>()?)
}

/// One model.
///
/// # Errors
/// The store's.
pub async fn find(app: &App, name: &str) -> Result<Option<ModelView>, StoreError> {
    app.store.model(name).await?.as_ref().map(parse).transpose()
}

fn unknown(name: &str) -> Fault {
    let message = format!("There is no model {name:?}; `volary model list` lists them, `volary model add` adds one.");
    Fault::missing("model.unknown", message)
}

/// The model that a run of this person's uses: the one it names, else its profile's, else the only one there is.
///
/// # Errors
/// 400 and 404 that say what to do; also when the model's secret is not set, and `secret.kinds` where it is for nobody to
/// say which of two of them that is.
pub async fn choose(app: &App, person: &str, named: Option<String>, profile: &Profile) -> Result<String, Fault> {
    let model = match named.or_else(|| profile.model.clone()) {
        Some(name) => find(app, &name).await?.ok_or_else(|| unknown(&name))?,
        None => {
            let mut all = list(app).await?;
            match (all.pop(), all.is_empty()) {
                (Some(only), true) => only,
                (None, _) => {
                    let message = "No model is set up yet. Add one, and its provider's key: `volary secret set \
                                   model/anthropic`, then `volary model add claude --provider anthropic --id MODEL`.";
                    return Err(Fault::bad("model.none", message));
                }
                _ => {
                    let message = "There are several models; name one with `--model`, or in the profile.";
                    return Err(Fault::bad("model.which", message));
                }
            }
        }
    };
    if let Some(secret) = &model.secret
        && key(app, secret, person).await?.is_none()
    {
        let message = format!("The key of the model {:?} is not set: `volary secret set {secret}`.", model.name);
        return Err(Fault::bad("secret.missing", message));
    }
    Ok(model.name)
}

/// The value of a model's secret that this person's runs get; none where there is none for them.
async fn key(app: &App, name: &str, person: &str) -> Result<Option<SecretRow>, Fault> {
    let usable = |row: &SecretRow| row.name == name && (row.person.is_empty() || row.person == person);
    let rows = app.store.secrets().await?.into_iter().filter(usable).collect();
    rows::choose(rows).map_err(|two| Fault::bad("secret.kinds", secrets::apart(&two).why))
}

fn check(name: &str, mut wish: ModelView) -> Result<ModelView, Fault> {
    if !secrets::plain_name(name) {
        let message = format!("{name:?} is no model's name: it takes 1 to 64 characters of a-z, 0-9 and '-'.");
        return Err(Fault::bad("model.name", message));
    }
    if !wish.name.is_empty() && wish.name != name {
        return Err(Fault::bad("model.name", "The name in the body is another than the one in the path."));
    }
    wish.name = name.to_owned();
    if wish.id.is_empty() || wish.id.len() > 256 || wish.id.chars().any(char::is_control) {
        return Err(Fault::bad("model.id", "The provider's id of the model takes 1 to 256 printable characters."));
    }
    if wish.dialect == Dialect::Gemini && !policy::model_call::gemini::is_model(&wish.id) {
        let message = "The id of a Gemini model stands in a path: it takes letters, digits, '-', '_' and '.'.";
        return Err(Fault::bad("model.id", message));
    }
    if let Some(secret) = &wish.secret {
        secrets::check_name(secret)?;
    }
    if wish.base == SCRIPT {
        let size = serde_json::to_vec(&wish.script).map_or(usize::MAX, |s| s.len());
        if wish.script.is_empty() || size > MAX_SCRIPT {
            return Err(Fault::bad("model.script", "A scripted model takes turns, at most 1 MiB of them."));
        }
    } else {
        if !wish.script.is_empty() {
            return Err(Fault::bad("model.script", format!("Only a model with the base {SCRIPT:?} has turns.")));
        }
        wish.base = base(&wish.base, wish.internal)?;
    }
    if !(1..=1 << 24).contains(&wish.max_output_tokens) || !(1..=1 << 32).contains(&wish.context_tokens) {
        let message = "`max_output_tokens` takes 1 to 16777216, `context_tokens` 1 to 4294967296.";
        return Err(Fault::bad("model.tokens", message));
    }
    if wish.price.is_none() {
        let price = prices::of(&wish.id).ok_or_else(|| {
            let message = format!(
                "The price of {:?} is not in the table of {}; give it with the model (`--price IN,OUT` in dollars per \
                 million tokens; 0,0 for a model of your own), since a budget without a price holds nothing. In the table: \
                 {}.",
                wish.id,
                prices::date(),
                prices::ids().join(", ")
            );
            Fault::bad("model.price", message)
        })?;
        wish.price = Some(price);
    }
    Ok(wish)
}

/// The host and port that a model's calls go to; none of a scripted one, whose calls go nowhere.
#[must_use]
pub fn host(model: &ModelView) -> Option<(String, u16)> {
    if model.base == SCRIPT {
        return None;
    }
    // What cannot be read is no provider's host.
    let to = |url: Url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?));
    Some(Url::parse(&model.base).ok().and_then(to).unwrap_or_default())
}

/// A provider's base as it is kept: without a trailing slash.
fn base(text: &str, internal: bool) -> Result<String, Fault> {
    let bad = |why: &str| Fault::bad("model.base", format!("The base {text:?} {why}"));
    let url = Url::parse(text).map_err(|e| bad(&format!("is no URL: {e}.")))?;
    match url.scheme() {
        "https" => {}
        "http" if internal => {}
        "http" => {
            return Err(bad(
                "would send the key in the clear; use https, or say that the address is internal (`--internal`).",
            ));
        }
        _ => return Err(bad("takes https, or http for an internal address.")),
    }
    if !matches!(url.host(), Some(Host::Domain(d)) if !d.is_empty())
        && !matches!(url.host(), Some(Host::Ipv4(_) | Host::Ipv6(_)))
    {
        return Err(bad("names no host."));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("holds a name or a password; keys are set with `volary secret set`."));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("holds a query or a fragment; it is the part before the inference path."));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Adds a model or replaces it.
///
/// # Errors
/// 400 that say what is wrong; the store's.
pub async fn put(app: &App, caller: &Caller, name: &str, wish: ModelView) -> Result<ModelView, Fault> {
    let view = check(name, wish)?;
    let body = serde_json::to_string(&view).map_err(|e| Fault::ours("write the model down", &e))?;
    let row = ModelRow { name: name.to_owned(), body };
    let (who, at) = (caller.person.to_string(), now());
    let more = json!({
        "model": view.name, "dialect": view.dialect, "base": view.base, "id": view.id, "secret": view.secret,
        "internal": view.internal, "price": view.price,
        "body_sha256": crate::random::sha256_hex(row.body.as_bytes()),
    });
    app.store
        .write(move |tx| {
            Box::pin(async move {
                tx.set_model(&row, &who, at).await?;
                tx.record(By::Server, at, "model.set", &who, record::fields(more)).await
            })
        })
        .await
        .map_err(|e: StoreError| Fault::from(e))?;
    Ok(view)
}

/// Removes a model. A run that uses it is refused its next call.
///
/// # Errors
/// 404, the store's.
pub async fn remove(app: &App, caller: &Caller, name: &str) -> Result<(), Fault> {
    let (who, at, name) = (caller.person.to_string(), now(), name.to_owned());
    app.store
        .write(move |tx| {
            Box::pin(async move {
                if !tx.remove_model(&name).await? {
                    return Err(unknown(&name));
                }
                let more = record::fields(json!({ "model": name }));
                Ok(tx.record(By::Server, at, "model.removed", &who, more).await?)
            })
        })
        .await
}

/// Lets the gateway make the smallest call to a model.
///
/// # Errors
/// 404, 400 for a missing key, those of [`gateway::GatewayHandle::probe`].
pub async fn test(app: &App, caller: &Caller, name: &str) -> Result<Tested, Fault> {
    let model = find(app, name).await?.ok_or_else(|| unknown(name))?;
    let gateway: gateway::GatewayHandle = app.gateway().ok_or_else(|| {
        let message = "The gateway is not connected; `volary status` says how it stands.";
        Fault::new(http::StatusCode::SERVICE_UNAVAILABLE, "gateway.away", message)
    })?;
    let secret = match &model.secret {
        None => None,
        Some(name) => {
            let message = format!("The key of this model is not set: `volary secret set {name}`.");
            let row = key(app, name, caller.person.as_str()).await?;
            let row = row.ok_or_else(|| Fault::bad("secret.missing", message))?;
            if let Some(at) = host(&model) {
                secrets::belongs(&row, &at.0, at.1, std::slice::from_ref(&at))
                    .map_err(|no| Fault::bad("secret.other-host", no.why))?;
            }
            Some(row)
        }
    };
    let (who, at, tested, opened) = (caller.person.to_string(), now(), name.to_owned(), secret.clone());
    app.store
        .write(move |tx| {
            Box::pin(async move {
                if let Some(secret) = &opened {
                    tx.secret_used(secret, at);
                }
                let more = record::fields(json!({ "model": tested }));
                tx.record(By::Server, at, "model.tested", &who, more).await
            })
        })
        .await
        .map_err(|e: StoreError| Fault::from(e))?;
    let upstream = grants::upstream(app, &model, secret.as_ref())?;
    let (status, said) = gateway.probe(upstream, model.id).await?;
    let said = app.scrubber().scrub_str(&said).into_owned();
    Ok(Tested { ok: (200..300).contains(&status), status, said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_that_would_send_the_key_in_the_clear_is_refused_unless_internal() {
        assert!(base("http://10.0.0.5:11434", false).unwrap_err().problem.message.contains("in the clear"));
        assert_eq!(base("http://10.0.0.5:11434/", true).unwrap(), "http://10.0.0.5:11434");
        assert_eq!(base("https://api.example.com/openai/", false).unwrap(), "https://api.example.com/openai");
    }

    #[test]
    fn a_base_with_credentials_a_query_or_another_scheme_is_refused() {
        for bad in ["https://u:p@h/", "https://h/?k=v", "https://h/#x", "ftp://h/", "file:///etc", "h", "script:x"] {
            assert!(base(bad, true).is_err(), "{bad}");
        }
    }
}
