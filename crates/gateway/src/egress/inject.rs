//! The request as a host gets it, and the answer as the box does: headers that belong to one connection stay on it, and,
//! last of all, the credential takes its handle's place.
//!
//! Read [`outgoing`], [`inject`], then [`answer_headers`].

use super::decode::{Encoding, Unreadable};
use super::reach::Way;
use super::request::Asked;
use crate::fields;
use crate::refusal::Refusal;
use api::grants::EgressCredential;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use model::Secret;
use policy::egress::Handle;
use policy::egress::signs::Place;
use scrub::Scrubber;
use std::net::IpAddr;

/// Headers that belong to one connection.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "expect",
    // It offers ways that do not lead through here.
    "alt-svc",
];
/// Headers of a request to a host that was given a credential that could make its answer one that cannot be read whole and in clear.
const PARTIAL: [&str; 7] = [
    "range",
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "sec-websocket-extensions",
];

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let stays = |name: &HeaderName| {
        let name = name.as_str();
        HOP_BY_HOP.contains(&name) || name.starts_with("proxy-") || named.iter().any(|n| n == name)
    };
    headers.iter().filter(|(name, _)| !stays(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The request without its body, as it goes to a host: the handle still in it, if there is one.
///
/// # Errors
/// A fault when it cannot be written down.
pub(crate) fn outgoing(
    asked: &Asked,
    way: &Way,
    method: &Method,
    headers: &HeaderMap,
    two: bool,
) -> Result<Request<()>, Refusal> {
    let bad = || Refusal::fault("request.form", "The request cannot be sent on.");
    let mut request = Request::new(());
    *request.method_mut() = method.clone();
    let mut kept = end_to_end(headers);
    kept.remove(header::HOST);
    let scheme = if way.tls { "https" } else { "http" };
    let uri = if two { format!("{scheme}://{}{}", way.authority(), asked.path) } else { asked.path.clone() };
    *request.uri_mut() = uri.parse::<Uri>().map_err(|_| bad())?;
    if two {
        *request.version_mut() = Version::HTTP_2;
        // It says that trailers arrive, as they do from here; some hosts of gRPC answer nobody else.
        if takes_trailers(headers) {
            kept.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    } else {
        kept.insert(header::HOST, HeaderValue::from_str(&way.authority()).map_err(|_| bad())?);
        join_cookies(&mut kept)?;
    }
    *request.headers_mut() = kept;
    Ok(request)
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    let words = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.split(',').any(|w| w.trim() == "trailers"));
    headers.get_all(header::TE).iter().any(words)
}

/// HTTP/2 cuts cookies into pieces; HTTP/1.1 knows one header.
fn join_cookies(headers: &mut HeaderMap) -> Result<(), Refusal> {
    let pieces: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if pieces.len() < 2 {
        return Ok(());
    }
    let joined = HeaderValue::from_bytes(&pieces.join(&b"; "[..]))
        .map_err(|_| Refusal::fault("request.form", "The request's cookies cannot be sent on."))?;
    headers.insert(header::COOKIE, joined);
    Ok(())
}

/// What must be so before a credential goes anywhere.
pub(crate) struct Facts<'f> {
    /// The request's way, by which it was judged.
    pub(crate) way: &'f Way,
    /// The checked address that the connection goes to.
    pub(crate) address: Option<IpAddr>,
    /// Whether every place that names the host agreed, TLS of the box's side among them.
    pub(crate) agreed: bool,
}

impl Facts<'_> {
    /// # Errors
    /// `inject.*`, for the first of the four that does not hold.
    fn hold(&self, credential: &EgressCredential) -> Result<(), Refusal> {
        let no = |rule, why| Err(Refusal::policy(rule, why));
        if credential.host != self.way.host.as_str() || credential.port != self.way.port {
            return no("inject.host", "The handle is for another host.");
        }
        if self.address.is_none() {
            return no(
                "inject.address",
                "The host's address was not found and checked here; no credential goes there.",
            );
        }
        if !self.way.tls {
            return no("inject.tls", "The way to the host is not encrypted; no credential goes there.");
        }
        if !self.agreed {
            return no(
                "inject.name",
                "The request's TLS names no host; no credential goes where only one side names it.",
            );
        }
        Ok(())
    }
}

/// Puts the credential in the handle's place. Nothing about the request or where it goes may change after this.
///
/// # Errors
/// `inject.*`; the request must not be sent then.
pub(crate) fn inject(
    request: &mut Request<()>,
    handle: &Handle,
    credential: &EgressCredential,
    facts: &Facts<'_>,
) -> Result<(), Refusal> {
    facts.hold(credential)?;
    let gone = || Refusal::policy("inject.place", "The handle is not where it was seen.");
    let Handle::Shown { header, handle, place } = handle else { return Err(gone()) };
    let name = HeaderName::from_bytes(header.as_bytes()).map_err(|_| gone())?;
    readable(request);
    let headers = request.headers_mut();
    let shown = headers.get(&name).and_then(|value| value.to_str().ok()).ok_or_else(gone)?;
    let value = filled(shown, handle, *place, credential.value.0.expose()).ok_or_else(gone)?;
    let mut value = HeaderValue::from_str(value.expose())
        .map_err(|_| Refusal::fault("inject.credential", "The credential cannot stand in a header."))?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

/// Asks for an answer that is whole and in clear, of a host that was given a credential.
pub(crate) fn readable(request: &mut Request<()>) {
    let headers = request.headers_mut();
    for name in PARTIAL {
        headers.remove(name);
    }
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

/// A header's value with the credential where the handle was.
fn filled(shown: &str, handle: &Secret<String>, place: Place, credential: &str) -> Option<Secret<String>> {
    let value = match place {
        Place::Whole => credential.to_owned(),
        Place::AfterWord => format!("{} {credential}", shown.split_once(' ')?.0),
        Place::BasicUser => {
            let (word, encoded) = shown.split_once(' ')?;
            let plain = Secret::new(String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?);
            let rest = plain.expose().strip_prefix(handle.expose().as_str())?;
            let plain = Secret::new(format!("{credential}{rest}"));
            format!("{word} {}", STANDARD.encode(plain.expose()))
        }
    };
    Some(Secret::new(value))
}

/// Whether an answer of a host that was given a credential may be passed on, `carried` if by this very request, and in what
/// encoding its body came.
///
/// # Errors
/// A policy refusal: for a redirect of a request that carried one, a part of an answer, a WebSocket with an extension, or a body in an encoding that is
/// not taken off here, and so cannot be scrubbed.
pub(crate) fn passable(status: StatusCode, headers: &HeaderMap, carried: bool) -> Result<Option<Encoding>, Refusal> {
    let no = |rule, why| Err(Refusal::policy(rule, why).with_status(StatusCode::BAD_GATEWAY));
    if carried && status.is_redirection() {
        return no("write.redirect", "The host answered a request with a credential by a redirect; none is passed on.");
    }
    if status == StatusCode::PARTIAL_CONTENT {
        return no("write.partial", "The host answered with a part only, which cannot be checked for secrets.");
    }
    if status == StatusCode::SWITCHING_PROTOCOLS && headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        // None was offered; what passes in compressed frames cannot be read here.
        return no("websocket.extension", "The host answered with an extension of WebSockets that nobody asked for.");
    }
    Encoding::of(headers).or_else(|Unreadable| {
        no("write.encoding", "The host answered in an encoding that cannot be checked for secrets.")
    })
}

/// The headers of an answer that go to the box; scrubbed in their names and values, when its host was given a credential, and without a word of
/// an encoding that its body goes on without.
pub(crate) fn answer_headers(
    headers: &HeaderMap,
    decoded: bool,
    scrubber: Option<&Scrubber>,
    has_body: bool,
) -> HeaderMap {
    let mut kept = end_to_end(headers);
    if decoded {
        kept.remove(header::CONTENT_ENCODING);
        kept.remove(header::CONTENT_LENGTH);
    }
    let Some(scrubber) = scrubber else { return kept };
    // Scrubbing changes the length of what is scrubbed.
    let stays = |name: &HeaderName| *name != header::CONTENT_LENGTH || scrubber.is_empty() || !has_body;
    fields::scrubbed(kept.iter().filter(|(name, _)| stays(name)), scrubber)
}
