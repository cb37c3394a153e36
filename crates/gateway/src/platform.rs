//! The server's own calls: recorded there before they come here, and made under the policy of one named host.
//!
//! The URL must lead to the very host and port that an administrator set, over TLS; every address of it must be public
//! unless it is marked as internal, or a row of a profile's `egress.internal` names them; the connection goes to one of the very
//! addresses that were checked, and is used for this one call. No redirect is followed, no cookie or proxy variable read, nothing sent twice. Time and size are bounded.
//! Nothing of an answer is kept here, but for what a vendor made for a lease, until the server has it; a credential that went out is known to the scrubber for as long as any other.
//!
//! What becomes of a call says whether the host may have acted on it: the server must know for a refresh token.
//!
//! Read [`Bound::of`] (what is refused unsent), then [`answer`].

use crate::connect::Target;
use crate::egress::reach::Way;
use crate::refusal::{Kind, Refusal};
use crate::{Gate, spare};
use api::grants::Place;
use api::platform::{
    CallCredential, CallWord, CredentialForm, MAX_ANSWER, MAX_BODY, MAX_HEADER, MAX_HEADERS, MAX_SECONDS, MAX_URL,
    NamedHost, PlatformCall, boot_ms,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use model::Secret;
use model::egress::{Egress, InternalRow};
use policy::egress::{Law, Name};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use url::Url;

/// Calls under way at the same time; one more is refused unsent.
pub(crate) const AT_ONCE: usize = 64;

/// The answer's headers that the server is told, and prefixes of such.
const TOLD: [&str; 6] = ["content-type", "date", "etag", "link", "location", "retry-after"];
const TOLD_PREFIX: &str = "x-ratelimit-";

/// Longest of those headers that is told, in bytes.
const TOLD_BYTES: usize = 4096;

/// Makes the call and tells the server what became of it: the question's number, and the connection that it came on.
pub(crate) async fn call(gate: &Gate, of: (u64, u64), call: PlatformCall) {
    let word = match gate.platform.try_acquire() {
        Ok(_seat) => {
            let limit = Duration::from_secs(u64::from(call.limits.seconds.clamp(1, MAX_SECONDS)));
            let left = AtomicBool::new(false);
            let word = tokio::time::timeout(limit, answer(gate, &call, &left)).await.unwrap_or_else(|_| {
                Err(Refusal::fault(
                    "platform.slow",
                    format!("No whole answer came within {} seconds.", limit.as_secs()),
                ))
            });
            word.unwrap_or_else(|no| fault(no, !left.load(Ordering::Relaxed)))
        }
        Err(_) => fault(Refusal::fault("platform.busy", "Too many calls of the platform's own are under way."), true),
    };
    gate.server.called(of, call.lease, word);
}

fn fault(no: Refusal, unsent: bool) -> CallWord {
    CallWord::Fault { unsent, rule: no.rule, why: no.why }
}

/// A call that keeps to its policy, as far as can be told before a name is resolved.
struct Bound {
    to: Target,
    place: Place,
    /// Where it is a service inside, by a row of a profile.
    inside: Option<(Way, Law)>,
    request: Request<Full<Bytes>>,
}

impl Bound {
    /// # Errors
    /// A policy refusal, for a call that leads elsewhere than where it may, or carries what it may not.
    fn of(call: &PlatformCall) -> Result<Self, Refusal> {
        let refuse = |rule, why: &str| Err(Refusal::policy(rule, why));
        if call.url.len() > MAX_URL || call.headers.len() > MAX_HEADERS {
            return refuse("platform.size", "The call's address is too long, or its headers are too many.");
        }
        let bad = || Refusal::policy("platform.url", "The call's address is no plain URL.");
        let url = Url::parse(&call.url).map_err(|_| bad())?;
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(bad());
        }
        match url.scheme() {
            "https" => {}
            // That no address of it is a public one is seen when it is dialled.
            "http" if call.named.internal && call.named.within.is_empty() => {}
            _ => return refuse("platform.plain", "The platform's own calls go over https."),
        }
        if !is_named(&url, &call.named) {
            return refuse("platform.host", "The call leads to another host than the one that was set for it.");
        }
        let mut base = url.clone();
        base.set_path("");
        base.set_query(None);
        let place = Place::Url { base: base.as_str().to_owned(), internal: call.named.internal };
        let to = Target::of(&place)?;
        let inside = inside(&call.named)?;
        let request = request(call, &url, &to)?;
        Ok(Self { to, place, inside, request })
    }
}

/// The way to a host that a row of a profile names, and the table of that row alone: it is dialled as a run's own requests
/// to it are. None for a host without one.
fn inside(named: &NamedHost) -> Result<Option<(Way, Law)>, Refusal> {
    if named.within.is_empty() {
        return Ok(None);
    }
    let bad = || Refusal::policy("platform.inside", "The profile's exception for this host cannot be used.");
    let (host, port) = (named.host.clone(), named.port);
    let row = InternalRow { host, port, addresses: named.within.clone(), why: String::new() };
    let law = Law::of(&Egress { internal: vec![row], ..Egress::default() }).map_err(|_| bad())?;
    let host = Name::parse(&named.host).map_err(|_| bad())?;
    let internal = Some(law.exception(&host, port).ok_or_else(bad)?);
    Ok(Some((Way { host, port, tls: true, internal, one: true }, law)))
}

/// Whether a URL leads to the named host and port, in the one spelling that URLs have.
fn is_named(url: &Url, named: &NamedHost) -> bool {
    let scheme = url.scheme();
    let bracketed = if named.host.contains(':') && !named.host.starts_with('[') {
        format!("[{}]", named.host)
    } else {
        named.host.clone()
    };
    Url::parse(&format!("{scheme}://{bracketed}:{}/", named.port)).is_ok_and(|named| {
        named.host().is_some()
            && named.host() == url.host()
            && named.port_or_known_default() == url.port_or_known_default()
            && named.path() == "/"
            && named.username().is_empty()
    })
}

/// Everything of the request but the credential.
fn request(call: &PlatformCall, url: &Url, to: &Target) -> Result<Request<Full<Bytes>>, Refusal> {
    let bad = |why: &str| Refusal::policy("platform.request", why);
    let body = call.body.as_ref().map_or(&[][..], |body| body.0.expose().as_bytes());
    if body.len() > MAX_BODY {
        return Err(bad("The call's body is too long."));
    }
    let mut line = url.path().to_owned();
    if let Some(query) = url.query() {
        line.push('?');
        line.push_str(query);
    }
    let mut request = Request::new(Full::new(Bytes::copy_from_slice(body)));
    *request.method_mut() = Method::from_bytes(call.method.as_str().as_bytes()).map_err(|_| bad("No such method."))?;
    *request.uri_mut() = line.parse::<Uri>().map_err(|_| bad("The call's path cannot be sent."))?;
    let headers = request.headers_mut();
    for (name, value) in &call.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("A header's name is none."))?;
        if RESERVED.contains(&name.as_str()) || value.len() > MAX_HEADER {
            return Err(bad("A header is one that the call may not set, or too long."));
        }
        headers.append(name, HeaderValue::from_str(value).map_err(|_| bad("A header cannot be sent."))?);
    }
    let host = HeaderValue::from_str(&to.host_header).map_err(|_| bad("The host cannot stand in a header."))?;
    headers.insert(header::HOST, host);
    // Compressed, an answer's length would say nothing of its size.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static("volary"));
    Ok(request)
}

/// Headers that only this module sets, or nobody.
const RESERVED: [&str; 9] = [
    "host",
    "authorization",
    "private-token",
    "cookie",
    "connection",
    "content-length",
    "transfer-encoding",
    "accept-encoding",
    "expect",
];

/// Puts the credential in. Nothing about the request or where it goes may change after this.
fn inject(request: &mut Request<Full<Bytes>>, credential: &CallCredential) -> Result<(), Refusal> {
    let value = credential.value.0.expose();
    let (name, text) = match credential.form {
        CredentialForm::Bearer => (header::AUTHORIZATION, Secret::new(format!("Bearer {value}"))),
        CredentialForm::Token => (header::AUTHORIZATION, Secret::new(format!("token {value}"))),
        CredentialForm::Basic => (header::AUTHORIZATION, Secret::new(format!("Basic {}", STANDARD.encode(value)))),
        CredentialForm::Signature => (header::AUTHORIZATION, Secret::new(value.clone())),
        CredentialForm::PrivateToken => (HeaderName::from_static("private-token"), Secret::new(value.clone())),
    };
    let mut value = HeaderValue::from_str(text.expose())
        .map_err(|_| Refusal::fault("platform.credential", "The call's credential cannot stand in a header."))?;
    value.set_sensitive(true);
    request.headers_mut().insert(name, value);
    Ok(())
}

/// Makes the call. `left` is true from the moment at which bytes of the request may have left.
async fn answer(gate: &Gate, call: &PlatformCall, left: &AtomicBool) -> Result<CallWord, Refusal> {
    let Bound { to, place, inside, mut request } = Bound::of(call)?;
    if let Some(credential) = &call.credential {
        // What boxes say is scrubbed of it, should the host ever tell it to one.
        gate.recent.note(&credential.secret, &credential.value.0, Instant::now());
    }
    let wire = match &inside {
        Some((way, law)) => gate.reach.open(way, law).await.map(|reached| reached.wire),
        None => gate.outlet.connect_plain(&gate.reach, &place, &to).await,
    };
    let wire = wire.map_err(as_platform)?;
    let mut connection = spare::Connection::open(wire, None).await.map_err(|error| broken(&error))?;
    // Last of all that may take time: whoever asked for the call may have lost the right to by now.
    if call.limits.send_before_ms.is_some_and(|last| boot_ms() > last) {
        return Err(Refusal::fault(
            "platform.late",
            "The call was held up for longer than it may be, and was not sent.",
        ));
    }
    // Inject last: whatever changed the request or its destination after this line would carry the credential elsewhere.
    if let Some(credential) = &call.credential {
        inject(&mut request, credential)?;
    }
    left.store(true, Ordering::Relaxed);
    let response = match connection.send(request).await {
        Ok(response) => response,
        Err(spare::Unanswered::Cut(error)) => return Err(broken(&error)),
        Err(spare::Unanswered::Stale(_)) => {
            return Err(Refusal::fault("platform.cut", "The host broke off before it answered."));
        }
    };
    let (head, body) = response.into_parts();
    if head.headers.get_all(header::CONTENT_ENCODING).iter().any(|v| !v.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Refusal::fault("platform.encoding", "The host answered in an encoding that it was not asked for."));
    }
    let most = call.limits.answer_bytes.min(MAX_ANSWER) as usize;
    let whole = Limited::new(body, most).collect().await.map_err(|error| {
        tracing::debug!(%error, "an answer to the platform was not whole");
        Refusal::fault("platform.cut", "The host broke off in its answer, or the answer was too long.")
    })?;
    let text = String::from_utf8(whole.to_bytes().into())
        .map_err(|_| Refusal::fault("platform.text", "The host's answer is no text."))?;
    let body = api::grants::WireSecret(Secret::new(text));
    Ok(CallWord::Answered { status: head.status.as_u16(), headers: told(&head.headers), body })
}

fn told(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .filter(|(name, _)| TOLD.contains(&name.as_str()) || name.as_str().starts_with(TOLD_PREFIX))
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .filter(|(_, value)| value.len() <= TOLD_BYTES)
        .take(MAX_HEADERS)
        .collect()
}

fn broken(error: &dyn std::fmt::Display) -> Refusal {
    tracing::debug!(%error, "a call of the platform broke off");
    Refusal::fault("platform.cut", "The host broke off before it answered.")
}

/// A connection's refusal, in the words of this kind of call.
fn as_platform(no: Refusal) -> Refusal {
    match (no.kind, no.rule.as_str()) {
        (Kind::Policy, "egress.private" | "egress.plain" | "address.near") => Refusal::policy(
            "platform.address",
            "The host's address is not a public one (or the way to it not encrypted), and no administrator marked it as internal.",
        ),
        (Kind::Policy, _) => no,
        _ => Refusal::fault(
            "platform.unreachable",
            "The host was not reached: its name was not resolved, no address answered, or its certificate is not trusted here.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::grants::WireSecret;
    use api::platform::{CallLimits, Purpose};

    fn to(url: &str, host: &str, port: u16, internal: bool) -> PlatformCall {
        PlatformCall {
            purpose: Purpose::Forge,
            method: api::platform::Method::Get,
            url: url.into(),
            named: NamedHost { host: host.into(), port, internal, within: Vec::new() },
            headers: Vec::new(),
            body: None,
            credential: None,
            limits: CallLimits { seconds: 5, answer_bytes: 1024, send_before_ms: None },
            lease: None,
        }
    }

    fn refused(call: &PlatformCall) -> Option<String> {
        Bound::of(call).err().map(|no| no.rule)
    }

    #[test]
    fn a_call_leads_to_its_named_host_and_port_and_nowhere_else() {
        for (url, host, port) in [
            ("https://api.example.com/x?y=1", "api.example.com", 443),
            ("https://api.example.com:8443/", "API.Example.com", 8443),
            ("https://[2001:db8::1]/", "2001:db8::1", 443),
            ("https://192.0.2.1/", "192.0.2.1", 443),
        ] {
            assert_eq!(refused(&to(url, host, port, false)), None, "{url}");
        }
        for (url, host, port) in [
            ("https://api.example.com.evil.example/", "api.example.com", 443),
            ("https://api.example.com:8443/", "api.example.com", 443),
            ("https://evil.example/api.example.com", "api.example.com", 443),
            ("https://evil.example/", "api.example.com@evil.example", 443),
            ("https://evil.example/", "evil.example/x", 443),
            ("https://0x7f.1/", "127.0.0.2", 443),
        ] {
            assert_eq!(refused(&to(url, host, port, false)).as_deref(), Some("platform.host"), "{url}");
        }
    }

    #[test]
    fn a_call_in_the_clear_or_with_a_credential_in_its_address_is_refused() {
        let rule = |url, internal| refused(&to(url, "h.example", 80, internal));
        assert_eq!(rule("http://h.example/", false).as_deref(), Some("platform.plain"));
        assert_eq!(rule("ftp://h.example/", true).as_deref(), Some("platform.plain"));
        assert_eq!(rule("http://h.example/", true), None);
        for url in ["https://u@h.example/", "https://u:p@h.example/", "https://h.example/#x", "h.example", ""] {
            assert_eq!(refused(&to(url, "h.example", 443, false)).as_deref(), Some("platform.url"), "{url}");
        }
    }

    #[test]
    fn a_call_by_a_profiles_exception_goes_over_https_and_by_one_that_a_profile_could_hold() {
        let rule = |url: &str, host: &str, ranges: &[&str]| {
            let mut call = to(url, host, 443, true);
            call.named.within = ranges.iter().map(|&range| range.to_owned()).collect();
            refused(&call)
        };
        assert_eq!(rule("https://git.corp/", "git.corp", &["10.2.3.0/24"]), None);
        assert_eq!(rule("http://git.corp:443/", "git.corp", &["10.2.3.0/24"]).as_deref(), Some("platform.plain"));
        for range in ["0.0.0.0/0", "10.0.0.0/8", "93.184.216.0/24", "169.254.169.254", "x", ""] {
            assert_eq!(rule("https://git.corp/", "git.corp", &[range]).as_deref(), Some("platform.inside"), "{range}");
        }
        let metadata = rule("https://169.254.169.254/", "169.254.169.254", &["10.2.3.0/24"]);
        assert_eq!(metadata.as_deref(), Some("platform.inside"));
    }

    #[test]
    fn a_call_has_a_body_of_1_mib_and_16_headers_of_1024_bytes_and_no_more() {
        let with = |headers: usize, value: usize, body: usize| {
            let mut call = to("https://h.example/", "h.example", 443, false);
            call.headers = (0..headers).map(|n| (format!("x-{n}"), "x".repeat(value))).collect();
            call.body = Some(WireSecret(model::Secret::new("x".repeat(body))));
            refused(&call)
        };
        assert_eq!(with(16, 1024, 1 << 20), None);
        assert_eq!(with(17, 1, 0).as_deref(), Some("platform.size"));
        assert_eq!(with(1, 1025, 0).as_deref(), Some("platform.request"));
        assert_eq!(with(1, 1, (1 << 20) + 1).as_deref(), Some("platform.request"));
    }

    #[test]
    fn a_header_that_names_a_host_or_carries_a_credential_is_the_calls_own_to_set() {
        for name in RESERVED.into_iter().chain(["Authorization", "x y", "x\r\ny"]) {
            let mut call = to("https://h.example/", "h.example", 443, false);
            call.headers = vec![(name.to_owned(), "x".to_owned())];
            assert_eq!(refused(&call).as_deref(), Some("platform.request"), "{name}");
        }
        let mut call = to("https://h.example/", "h.example", 443, false);
        call.headers = vec![("accept".to_owned(), "a\r\nauthorization: b".to_owned())];
        assert_eq!(refused(&call).as_deref(), Some("platform.request"));
    }

    #[test]
    fn each_form_of_a_credential_stands_in_its_one_header() {
        for (form, name, stands) in [
            (CredentialForm::Bearer, "authorization", "Bearer a:b"),
            (CredentialForm::Token, "authorization", "token a:b"),
            (CredentialForm::Basic, "authorization", "Basic YTpi"),
            (CredentialForm::PrivateToken, "private-token", "a:b"),
            (CredentialForm::Signature, "authorization", "a:b"),
        ] {
            let mut request = Request::new(Full::new(Bytes::new()));
            let value = WireSecret(Secret::new("a:b".to_owned()));
            inject(&mut request, &CallCredential { form, value, secret: "x".into() }).unwrap();
            assert_eq!((request.headers()[name].to_str().unwrap(), request.headers().len()), (stands, 1));
            assert!(request.headers()[name].is_sensitive());
        }
        let mut request = Request::new(Full::new(Bytes::new()));
        let split = WireSecret(Secret::new("a\r\nx: y".to_owned()));
        assert!(
            inject(&mut request, &CallCredential { form: CredentialForm::Bearer, value: split, secret: "x".into() })
                .is_err()
        );
    }
}
