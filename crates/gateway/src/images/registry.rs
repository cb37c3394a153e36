//! What a registry is asked by the OCI distribution specification, and what its answers mean to people.

use super::sign_in;
use crate::Gate;
use crate::egress::reach::{Asked, Reach};
use crate::refusal::{Kind, Refusal};
use crate::server::egress::Leave;
use crate::spare::{Connection, Unanswered};
use api::frame;
use api::grants::EgressCredential;
use api::images::{PIECE, Part, PartKind};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use model::Secret;
use model::image::Reference;
use policy::egress::Name;
use policy::egress::ground::Ground;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWrite;
use tokio::time::timeout;
use url::Url;

/// From a request to the head of its answer.
const HEAD: Duration = Duration::from_secs(60);
/// From the first request for a part to the head of the answer that has it, sign-in and whoever is sent on to included.
const WAY: Duration = Duration::from_secs(150);
/// Between two pieces of an answer.
const IDLE: Duration = Duration::from_secs(60);
/// Hosts that a registry may send on to for one part, one after the other.
const REDIRECTS: usize = 5;
/// Longest answer that is no part, in bytes: an error, a token.
pub(super) const MAX_WORDS: usize = 64 * 1024;
/// Longest code of an error that is shown, in characters.
const MAX_CODE: usize = 40;
/// What a manifest may be: one image, or several to choose from.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

/// A registry that one image is asked of.
pub(super) struct Registry {
    pub(super) gate: Arc<Gate>,
    pub(super) reference: Reference,
    pub(super) base: Url,
    /// Where its addresses lie, as was seen when it was last connected to.
    pub(super) ground: Ground,
    /// A proxy that leads outside resolved its name: no credential goes that way.
    pub(super) delegated: bool,
    /// `Authorization`, once the registry asked for it.
    pub(super) authorization: Option<Secret<String>>,
    /// `user:password`, for this registry alone.
    pub(super) credential: Option<EgressCredential>,
    leave: Leave,
}

/// An answer, and the connection that it comes over.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    /// Whose it is.
    pub(super) host: String,
    /// It is the registry's own.
    home: bool,
    _connection: Connection,
}

impl Registry {
    pub(super) fn new(
        gate: Arc<Gate>,
        reference: Reference,
        leave: Leave,
        credential: Option<EgressCredential>,
    ) -> Result<Self, Refusal> {
        let scheme = if reference.is_plain() { "http" } else { "https" };
        let base = Url::parse(&format!("{scheme}://{}/", reference.host)).ok().filter(|url| url.path() == "/");
        let Some(base) = base else {
            let why = format!("{:?} is no host of a registry; write host[:port]/repository@sha256:…", reference.host);
            return Err(Refusal::policy("image.name", why));
        };
        if let Some(credential) = &credential {
            // What boxes say is scrubbed of it.
            gate.recent.note(&credential.secret, &credential.value.0, Instant::now());
        }
        let (ground, delegated, authorization) = (Ground::Public, false, None);
        Ok(Self { gate, reference, base, ground, delegated, authorization, credential, leave })
    }

    /// Every part that was asked for came.
    pub(super) fn finish(self) {
        self.leave.is_whole();
    }

    /// Gives a part to `to`: frames of its bytes.
    ///
    /// # Errors
    /// In words for people; some of it may have been given.
    pub(super) async fn give(&mut self, part: &Part, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), Refusal> {
        let host = host_of(&self.base);
        let Ok(answer) = timeout(WAY, self.found(part)).await else {
            let why = format!("The registry {host} and whom it sends on to gave no part in {} seconds.", WAY.as_secs());
            return Err(Refusal::fault("image.slow", why));
        };
        self.relay(answer?, part, to).await
    }

    /// The answer that has a part in it; signs in where that is asked for.
    async fn found(&mut self, part: &Part) -> Result<Answer, Refusal> {
        let mut asked_again = false;
        loop {
            let answer = self.ask(part).await?;
            let status = answer.response.status();
            self.leave.answered(status.as_u16());
            match status {
                StatusCode::OK => return Ok(answer),
                StatusCode::UNAUTHORIZED if answer.home && !asked_again => {
                    asked_again = true;
                    let challenges = answer.response.headers().get_all(header::WWW_AUTHENTICATE);
                    let challenge = sign_in::Challenge::of(challenges.iter().filter_map(|text| text.to_str().ok()));
                    drop(answer);
                    self.authorization = Some(self.sign_in(challenge).await?);
                }
                _ => return Err(self.refused(answer, part).await),
            }
        }
    }

    /// Asks for a part, of the registry and of whom it sends on to.
    async fn ask(&mut self, part: &Part) -> Result<Answer, Refusal> {
        let kind = match part.kind {
            PartKind::Manifest => "manifests",
            PartKind::Blob => "blobs",
        };
        let mut at = self.base.clone();
        at.set_path(&format!("/v2/{}/{kind}/{}", self.reference.repository, part.digest));
        let (mut home, mut from) = (true, None);
        for _ in 0..=REDIRECTS {
            let mut headers = HeaderMap::new();
            if part.kind == PartKind::Manifest {
                headers.insert(header::ACCEPT, HeaderValue::from_static(MANIFESTS));
            }
            let asked = connect(&self.gate.reach, &at, from).await?;
            from = Some(asked.ground);
            if home {
                (self.ground, self.delegated) = (asked.ground, asked.delegated);
            }
            // Last, and by the very host that is connected to: whatever leads elsewhere after this line must not carry it.
            if let Some(authorization) = self.authorization.as_ref().filter(|_| home) {
                headers.insert(header::AUTHORIZATION, sign_in::header(authorization)?);
            }
            let (response, connection) = send(asked, &at, headers).await?;
            let status = response.status();
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                let host = host_of(&at);
                return Ok(Answer { response, host, home, _connection: connection });
            }
            let next = response.headers().get(header::LOCATION).and_then(|to| at.join(to.to_str().ok()?).ok());
            let Some(next) = next.filter(is_plain_url) else {
                let why = format!("The registry {} sends on to no address that can be asked.", self.reference.host);
                return Err(Refusal::fault("image.redirect", why));
            };
            self.may_name(&next)?;
            home = home && next.origin() == at.origin();
            at = next;
        }
        let why = format!("The registry {} sends on more than {REDIRECTS} times for one part.", self.reference.host);
        Err(Refusal::fault("image.redirect", why))
    }

    /// Whether a text holds what the registry was shown, its password or its token, in whatever case. What it chooses itself, and
    /// what people are told, would put that on the record.
    fn tells(&self, text: &str) -> bool {
        let secret = format!("registry/{}", self.reference.host);
        let token = self.authorization.as_ref().and_then(|shown| shown.expose().strip_prefix("Bearer "));
        let token = token.map(|token| Secret::new(token.to_owned()));
        let shown = self.credential.iter().map(|credential| &credential.value.0).chain(&token);
        self.gate.recent.scrubber_of(shown.map(|value| (secret.as_str(), value))).is_in_name(text)
    }

    /// Whether a host that the registry names may be asked, and so be named.
    ///
    /// # Errors
    /// `image.redirect`, where its name tells what the registry was shown.
    pub(super) fn may_name(&self, at: &Url) -> Result<(), Refusal> {
        if at.origin() == self.base.origin() || !self.tells(at.host_str().unwrap_or_default()) {
            return Ok(());
        }
        let why = format!(
            "The registry {} sends on to a host in whose name its password or token stands; that one is not asked.",
            self.reference.host
        );
        Err(Refusal::fault("image.redirect", why))
    }

    async fn relay(&self, answer: Answer, part: &Part, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), Refusal> {
        let Answer { response, host, _connection, .. } = answer;
        let (head, mut body) = response.into_parts();
        if head
            .headers
            .get_all(header::CONTENT_ENCODING)
            .iter()
            .any(|v| !v.as_bytes().eq_ignore_ascii_case(b"identity"))
        {
            let why = format!("The registry's host {host} answers in an encoding that it was not asked for.");
            return Err(Refusal::fault("image.encoding", why));
        }
        let long = || {
            let why = format!("The registry's host {host} sends more than the {} bytes that this part has.", part.most);
            Refusal::fault("image.long", why)
        };
        let said =
            head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if said.is_some_and(|length| length > part.most) {
            return Err(long());
        }
        let mut left = part.most;
        loop {
            let Ok(frame) = timeout(IDLE, body.frame()).await else {
                let why = format!("The registry's host {host} sent nothing for {} seconds.", IDLE.as_secs());
                return Err(Refusal::fault("image.slow", why));
            };
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame.map_err(|error| {
                tracing::debug!(%error, "a part of an image was not whole");
                Refusal::fault(
                    "image.cut",
                    format!("The registry's host {host} broke off; another run tries it again."),
                )
            })?;
            let Ok(data) = frame.into_data() else { continue };
            left = left.checked_sub(data.len() as u64).ok_or_else(long)?;
            self.leave.received(data.len());
            for piece in data.chunks(PIECE) {
                // Back-pressure: what the disk does not take is not read.
                frame::write_bytes(to, piece).await.map_err(|error| {
                    tracing::debug!(%error, "nobody wants the image any more");
                    Refusal::fault("image.unwanted", "Nobody takes the image any more.")
                })?;
            }
        }
    }

    /// What an answer that is no part means.
    async fn refused(&self, answer: Answer, part: &Part) -> Refusal {
        let (status, host, home) = (answer.response.status(), answer.host, answer.home);
        let (registry, repository) = (&self.reference.host, &self.reference.repository);
        let code = timeout(IDLE, Limited::new(answer.response.into_body(), MAX_WORDS).collect()).await;
        let code = code.ok().and_then(Result::ok).and_then(|body| code_of(&body.to_bytes()));
        let code = code.filter(|code| !self.tells(code));
        let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
        let (rule, what) = match status.as_u16() {
            404 if home => (
                "image.unknown",
                format!(
                    "says that it has no {} in {repository}{code}; look whether the profile's digest is the one that was \
                     pushed there",
                    part.digest
                ),
            ),
            401 | 403 if home => ("image.sign-in", format!("{}{code}", self.needs_sign_in())),
            429 => ("image.busy", format!("asks to wait{code}: too much was pulled; run it again later, or sign in")),
            n => ("image.answer", format!("answers {n}{code}; run it again later, or ask whoever keeps it")),
        };
        let who = if home {
            format!("The registry {registry}")
        } else {
            format!("The registry {registry}, by its host {host},")
        };
        Refusal::fault(rule, format!("{who} {what}."))
    }

    /// What to do about a registry that does not let an image be read.
    pub(super) fn needs_sign_in(&self) -> String {
        let name = format!("registry/{}", self.reference.host);
        match (&self.credential, self.delegated) {
            (Some(_), true) => {
                "asks for a sign-in, and the proxy that leads outside resolves its name: no credential goes \
                                that way"
                    .to_owned()
            }
            (Some(_), false) => {
                format!("does not let the secret {name:?} read this; set it anew (volary secret set {name})")
            }
            (None, _) => format!(
                "does not let this be read without a sign-in; set the secret {name:?} to user:password (volary secret set \
                 {name})"
            ),
        }
    }
}

/// Bytes of a host's name that are said; DNS has none that is longer.
const MAX_SAID: usize = 255;

/// What stands in words for people, and in `Host` of whom is asked.
fn host_of(at: &Url) -> String {
    let host = at.host_str().unwrap_or_default();
    // One that is no name of DNS by its length is refused, and is not said in full.
    let host = &host[..host.floor_char_boundary(MAX_SAID)];
    at.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// `http` or `https`, with a host and nothing that hides in it.
pub(super) fn is_plain_url(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.host().is_some()
        && url.username().is_empty()
        && url.password().is_none()
}

/// Connects to the host of an address; `from` is the ground of whoever sent on to it, none for the one that the profile
/// names.
pub(super) async fn connect(reach: &Reach, at: &Url, from: Option<Ground>) -> Result<Asked, Refusal> {
    let (Some(host), Some(port)) = (at.host_str(), at.port_or_known_default()) else {
        return Err(Refusal::fault("image.redirect", "An address without a host is asked of nobody."));
    };
    let who = match from {
        None => format!("The registry {}", host_of(at)),
        Some(_) => format!("The host {}, to which the registry sends on,", host_of(at)),
    };
    let name = Name::parse(host).map_err(|no| Refusal::policy(no.rule, format!("{who} is not asked: {}", no.why)))?;
    reach.ask(&name, port, at.scheme() == "https", from).await.map_err(|no| match no.kind {
        Kind::Fault => Refusal::fault(&no.rule, format!("{who} was not reached. {}", no.why)),
        _ => Refusal::policy(&no.rule, format!("{who} is not asked. {}", no.why)),
    })
}

/// Sends one request and waits for the head of its answer.
pub(super) async fn send(
    asked: Asked,
    at: &Url,
    mut headers: HeaderMap,
) -> Result<(Response<Incoming>, Connection), Refusal> {
    let host = host_of(at);
    let cut = |error: &dyn std::fmt::Display| {
        tracing::debug!(%error, "a registry broke off");
        Refusal::fault("image.cut", format!("The registry's host {host} broke off before it answered."))
    };
    let bad =
        || Refusal::fault("image.redirect", format!("The registry's host {host} cannot be asked by that address."));
    let target = at.query().map_or_else(|| at.path().to_owned(), |query| format!("{}?{query}", at.path()));
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = target.parse().map_err(|_| bad())?;
    headers.insert(header::HOST, HeaderValue::from_str(&host).map_err(|_| bad())?);
    headers.insert(header::USER_AGENT, HeaderValue::from_static("volary"));
    // A part is bytes with a digest: packed once more, they would be others.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    *request.headers_mut() = headers;
    let mut connection = Connection::open(asked.wire, None).await.map_err(|error| cut(&error))?;
    let Ok(answer) = timeout(HEAD, connection.send(request)).await else {
        let why = format!("The registry's host {host} did not answer within {} seconds.", HEAD.as_secs());
        return Err(Refusal::fault("image.slow", why));
    };
    match answer {
        Ok(response) => Ok((response, connection)),
        Err(Unanswered::Cut(error)) => Err(cut(&error)),
        Err(Unanswered::Stale(_)) => Err(cut(&"it was kept")),
    }
}

/// The code of a registry's error, which is a word in capitals.
fn code_of(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let code = body["errors"][0]["code"].as_str()?;
    let is_word = code.len() <= MAX_CODE && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    (is_word && !code.is_empty()).then(|| code.to_owned())
}
