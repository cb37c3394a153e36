//! The two doors: what is checked of a request before any route, and what every answer carries.

use crate::app::App;
use crate::console::Trouble;
use crate::fault::Fault;
use crate::guard::Door;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use std::borrow::Cow;

/// What a browser may do with our pages: nothing from elsewhere, nothing inline, in nobody's frame.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";

/// The router as it is served at one door.
pub fn at(door: Door, router: Router<App>, app: &App) -> Router {
    router
        .layer(Extension(door))
        .layer(middleware::from_fn_with_state((door, app.clone()), check))
        .with_state(app.clone())
}

async fn check(State((door, app)): State<(Door, App)>, request: Request, next: Next) -> Response {
    let page = wants_page(&request);
    let mut answer = match door {
        Door::Tcp if let Err(fault) = foreign(request.method(), request.headers(), app.port) => fault.into_response(),
        _ => to_its_end(request, next).await,
    };
    if let Some(mut fault) = answer.extensions_mut().remove::<Fault>() {
        // A message may quote what was asked for, and that may be a key that was put in the wrong place.
        let said = match app.scrubber().scrub_str(&fault.problem.message) {
            Cow::Owned(scrubbed) => Some(scrubbed),
            Cow::Borrowed(_) => None,
        };
        let anew = page || said.is_some();
        fault.problem.message = said.unwrap_or(fault.problem.message);
        if anew {
            answer = if page { Trouble(fault).into_response() } else { fault.into_response() };
        }
    }
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    answer
}

/// Answers in a task of its own: what was begun is brought to its end also when whoever asked goes away. An act may be kept
/// by then, and who is to do something about it not be told yet.
async fn to_its_end(request: Request, next: Next) -> Response {
    match tokio::spawn(next.run(request)).await {
        Ok(answer) => answer,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(e) => Fault::ours("answer", &e).into_response(),
    }
}

/// Whether a person will read the answer: a browser says that it takes HTML; programs, which use the API, do not.
fn wants_page(request: &Request) -> bool {
    let html = |accept: &HeaderValue| accept.to_str().is_ok_and(|kinds| kinds.contains("text/html"));
    !request.uri().path().starts_with("/api/") && request.headers().get_all(header::ACCEPT).iter().any(html)
}

/// Refuses what another site makes a browser send.
///
/// A name that an attacker's DNS points to loopback shows in `Host`; a form or script of another site shows in
/// `Origin` and `Sec-Fetch-Site`, which pages cannot forge.
///
/// # Errors
/// 421 for a host that is not ours, 403 for a change that another site asks for.
pub fn foreign(method: &Method, headers: &HeaderMap, port: u16) -> Result<(), Fault> {
    let ours = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next().and_then(|h| h.to_str().ok()), hosts.next()) {
        (Some(host), None) if ours.iter().any(|o| o == host) => host,
        _ => {
            let message = format!("This is Volary at {}; the request names another host.", ours[0]);
            return Err(Fault::new(StatusCode::MISDIRECTED_REQUEST, "host.other", message));
        }
    };
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let origin_ours = headers
        .get_all(header::ORIGIN)
        .iter()
        .all(|origin| origin.to_str().is_ok_and(|o| o.strip_prefix("http://") == Some(host)));
    let site_ours = headers
        .get_all("sec-fetch-site")
        .iter()
        .all(|site| site.to_str().is_ok_and(|s| s == "same-origin" || s == "none"));
    if origin_ours && site_ours {
        return Ok(());
    }
    Err(Fault::new(StatusCode::FORBIDDEN, "origin.other", "Another site asked for this change; it was refused."))
}

/// Refuses what a browser does not say that a page of ours asked for: of a read that has an effect, which no `Origin` comes with.
///
/// # Errors
/// 403 for whatever else asks.
pub fn of_our_own_page(headers: &HeaderMap) -> Result<(), Fault> {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    match (sites.next(), sites.next()) {
        (Some(site), None) if site == "same-origin" => Ok(()),
        _ => Err(Fault::new(StatusCode::FORBIDDEN, "origin.other", "No page of ours asked for this; it was refused.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(method: Method, pairs: &[(&'static str, &'static str)]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        foreign(&method, &headers, 7).err().map(|fault| fault.problem.code)
    }

    #[test]
    fn a_name_that_only_points_to_loopback_is_another_host() {
        assert_eq!(said(Method::GET, &[("host", "127.0.0.1:7")]), None);
        assert_eq!(said(Method::GET, &[("host", "localhost:7")]), None);
        for bad in ["evil.example:7", "127.0.0.1", "127.0.0.1:8", "localhost:7.evil.example", "[::1]:7", ""] {
            let mut headers = HeaderMap::new();
            headers.insert("host", bad.parse().unwrap());
            assert_eq!(foreign(&Method::GET, &headers, 7).unwrap_err().problem.code, "host.other", "{bad}");
        }
        assert_eq!(said(Method::GET, &[]).as_deref(), Some("host.other"));
        assert_eq!(said(Method::GET, &[("host", "127.0.0.1:7"), ("host", "x")]).as_deref(), Some("host.other"));
    }

    #[test]
    fn a_change_that_another_site_asks_for_is_refused_and_our_own_is_not() {
        let host = ("host", "127.0.0.1:7");
        assert_eq!(said(Method::POST, &[host]), None);
        assert_eq!(
            said(Method::POST, &[host, ("origin", "http://127.0.0.1:7"), ("sec-fetch-site", "same-origin")]),
            None
        );
        for bad in ["http://evil.example", "null", "http://127.0.0.1:8", "https://127.0.0.1:7", "http://localhost:7"] {
            assert_eq!(said(Method::POST, &[host, ("origin", bad)]).as_deref(), Some("origin.other"), "{bad}");
        }
        for bad in ["cross-site", "same-site"] {
            assert_eq!(said(Method::POST, &[host, ("sec-fetch-site", bad)]).as_deref(), Some("origin.other"), "{bad}");
        }
        assert_eq!(said(Method::GET, &[host, ("origin", "http://evil.example")]), None);
    }
}
