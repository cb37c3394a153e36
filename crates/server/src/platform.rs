//! The server's own calls to the outside: recorded first, then made by the gateway.
//!
//! The server opens no connection. A call is noted in evidence (what for, method, host and path; never a query, a body
//! or a credential) in the act of the rows that it belongs to, and only what was noted can be sent: [`Noted`] has no
//! other maker.
//!
//! Read [`note`], [`send`], then [`call`] (both, for a call that belongs to no row).

use crate::app::App;
use crate::fault::Fault;
use crate::gateway::Late;
use crate::{mint, now, record};
use api::platform::{CallWord, NamedHost, PlatformCall};
use model::Moment;
use serde_json::json;
use store::chain::By;
use store::{StoreError, Tx};
use url::Url;

/// A call that stands in evidence, if the act in which it was noted is kept. To be sent after that act, once.
#[derive(Debug)]
pub struct Noted(PlatformCall);

/// The host of an address as an administrator set it; `internal` is the administrator's mark.
///
/// # Errors
/// One sentence, for what is no `https` URL with a host (or `http`, if internal), or holds a name, a password or a
/// fragment.
pub fn named_host(url: &str, internal: bool) -> Result<NamedHost, String> {
    let parsed = Url::parse(url).map_err(|e| format!("{url:?} is no URL: {e}."))?;
    match parsed.scheme() {
        "https" => {}
        "http" if internal => {}
        _ => return Err(format!("{url:?} takes https, or http for an internal address (`--internal`).")),
    }
    if !parsed.username().is_empty() || parsed.password().is_some() || parsed.fragment().is_some() {
        return Err(format!("{url:?} holds a name, a password or a fragment."));
    }
    match (parsed.host_str(), parsed.port_or_known_default()) {
        (Some(host), Some(port)) if !host.is_empty() => {
            Ok(NamedHost { host: host.to_owned(), port, internal, within: Vec::new() })
        }
        _ => Err(format!("{url:?} names no host.")),
    }
}

/// Notes a call of `who` in evidence.
///
/// # Errors
/// The store's. The call cannot be sent then.
pub async fn note(tx: &mut Tx, at: Moment, who: &str, call: PlatformCall) -> Result<Noted, StoreError> {
    let path = Url::parse(&call.url).map_or_else(|_| String::new(), |url| url.path().chars().take(256).collect());
    let more = record::fields(json!({
        "purpose": call.purpose, "method": call.method, "host": call.named.host, "port": call.named.port,
        "path": path, "internal": call.named.internal || !call.named.within.is_empty(),
    }));
    tx.record(By::Server, at, "platform.call", who, more).await?;
    Ok(Noted(call))
}

/// Has the gateway make a call. That no gateway is connected is a fault too: nothing was sent then. Where it was for a lease,
/// and what came of it is said too late, what was made is ended.
pub async fn send(app: &App, noted: Noted) -> CallWord {
    let lease = noted.0.lease.clone();
    let (word, late) = sent(app, noted).await;
    if let (Some(late), Some(lease)) = (late, lease) {
        let app = app.clone();
        tokio::spawn(async move {
            // A gateway that goes before says it again when it comes back.
            let Ok(word) = late.await else { return };
            if let Err(fault) = mint::late(&app, &lease, &word).await {
                tracing::error!("what was made for the lease {lease} is not ended yet: {}", fault.problem.message);
            }
        });
    }
    word
}

/// As [`send`], with what comes too late.
pub(crate) async fn sent(app: &App, noted: Noted) -> (CallWord, Option<Late>) {
    match app.gateway() {
        Some(gateway) => gateway.call(noted.0).await,
        None => {
            let why = "The gateway is not connected; `volary status` says how it stands.".into();
            (CallWord::Fault { unsent: true, rule: "gateway.away".into(), why }, None)
        }
    }
}

/// Notes a call, and has the gateway make it.
///
/// # Errors
/// The store's; nothing was sent then.
pub async fn call(app: &App, who: &str, call: PlatformCall) -> Result<CallWord, Fault> {
    called(app, who, call).await.map(|(word, _)| word)
}

/// As [`call`], with what comes too late.
///
/// # Errors
/// The store's; nothing was sent then.
pub(crate) async fn called(app: &App, who: &str, call: PlatformCall) -> Result<(CallWord, Option<Late>), Fault> {
    let (who, at) = (who.to_owned(), now());
    let noted = app
        .store
        .write(move |tx| Box::pin(async move { note(tx, at, &who, call).await }))
        .await
        .map_err(|e: StoreError| Fault::from(e))?;
    Ok(sent(app, noted).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gives_its_host_and_one_in_the_clear_only_inside() {
        let host = |url, internal| named_host(url, internal).map(|n| (n.host, n.port));
        assert_eq!(host("https://auth.example/token?x=1", false), Ok(("auth.example".into(), 443)));
        assert_eq!(host("http://127.0.0.1:8080/token", true), Ok(("127.0.0.1".into(), 8080)));
        for bad in ["http://auth.example/", "https://u@auth.example/", "https://auth.example/#f", "ftp://h/", "x", ""] {
            assert!(host(bad, false).is_err(), "{bad}");
        }
    }
}
