//! The request as the provider gets it: the body's own bytes, the few headers that go on, and, last, the
//! credential. The handle is not among them.

use crate::connect::Target;
use crate::decide::Call;
use crate::refusal::Refusal;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use model::{Dialect, Secret};

/// The request headers that go on as they came. What is not listed stays here.
const FORWARDED: [&str; 6] =
    ["content-type", "accept", "anthropic-version", "anthropic-beta", "openai-beta", "user-agent"];

/// The request for an agent's call.
pub(crate) fn call(call: &Call, to: &Target, credential: &Secret<String>) -> Result<Request<Full<Bytes>>, Refusal> {
    let mut request = bare(&call.path, call.query.as_deref(), to, call.body.clone())?;
    for name in FORWARDED {
        for value in call.headers.get_all(name) {
            request.headers_mut().append(HeaderName::from_static(name), value.clone());
        }
    }
    inject(&mut request, call.dialect, credential)?;
    Ok(request)
}

/// The request for a probe of our own.
pub(crate) fn probe(
    dialect: Dialect,
    path: &str,
    to: &Target,
    body: Bytes,
    credential: &Secret<String>,
) -> Result<Request<Full<Bytes>>, Refusal> {
    let mut request = bare(path, None, to, body)?;
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if dialect == Dialect::Anthropic {
        request.headers_mut().insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    }
    inject(&mut request, dialect, credential)?;
    Ok(request)
}

fn bare(path: &str, query: Option<&str>, to: &Target, body: Bytes) -> Result<Request<Full<Bytes>>, Refusal> {
    let bad = || Refusal::fault("upstream.base", "The address that was set for this model cannot be used.");
    // A base that ends in the version that the path begins with is a common way to write it.
    let twice = ["/v1", "/v1beta"].into_iter().find(|version| path.starts_with(&format!("{version}/")));
    let base = twice.and_then(|version| to.path.strip_suffix(version)).unwrap_or(&to.path);
    let mut uri = format!("{base}{path}");
    if let Some(query) = query {
        uri.push('?');
        uri.push_str(query);
    }
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.parse::<Uri>().map_err(|_| bad())?;
    let host = HeaderValue::from_str(&to.host_header).map_err(|_| bad())?;
    request.headers_mut().insert(header::HOST, host);
    // Compressed, the answer could not be scrubbed.
    request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Ok(request)
}

/// Puts the credential in. Nothing about the request or where it goes may change after this.
fn inject(request: &mut Request<Full<Bytes>>, dialect: Dialect, credential: &Secret<String>) -> Result<(), Refusal> {
    if credential.expose().is_empty() {
        return Ok(());
    }
    let (name, value) = match dialect {
        Dialect::Anthropic => (HeaderName::from_static("x-api-key"), HeaderValue::from_str(credential.expose())),
        Dialect::Openai | Dialect::OpenaiResponses => {
            let bearer = Secret::new(format!("Bearer {}", credential.expose()));
            (header::AUTHORIZATION, HeaderValue::from_str(bearer.expose()))
        }
        Dialect::Gemini => (HeaderName::from_static("x-goog-api-key"), HeaderValue::from_str(credential.expose())),
    };
    let mut value = value.map_err(|_| {
        Refusal::fault("upstream.credential", "The credential that was set for this model cannot stand in a header.")
    })?;
    value.set_sensitive(true);
    request.headers_mut().insert(name, value);
    Ok(())
}
