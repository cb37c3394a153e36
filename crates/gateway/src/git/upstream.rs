//! One connection to a repository's upstream, and what is asked over it: one request after the other, each with the
//! credential put in last.
//!
//! Dialled as every host of a run is: by the run's table, every address judged, to that very address. HTTPS alone. The run's
//! repository on its host is reached by `local`, without any credential.
//!
//! Read [`Upstream::open`], then [`Upstream::ask`].

use super::bands::Bands;
use super::{INLINE, MAX_REPORT, Share};
use crate::Gate;
use crate::call::Caller;
use crate::egress::decode::Encoding;
use crate::egress::ending::Ending;
use crate::egress::given::Given;
use crate::egress::limits::{ANSWER_HEAD, FIRST_BYTE, IDLE, REQUEST};
use crate::egress::reach::Way;
use crate::pace::{Interim, Paced};
use crate::refusal::Refusal;
use crate::server::egress::Leave;
use crate::server::git::Granted;
use crate::server::leases::Under;
use api::git::GitCredential;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use model::{RunId, Secret};
use policy::egress::{Law, Name};
use policy::git::{LOCAL, Place};
use scrub::Scrubber;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};

/// The way to the upstream of one repository, and a connection there.
pub(crate) struct Upstream {
    to: To,
    line: Option<(http1::SendRequest<Full<Bytes>>, Carrier)>,
    place: Place,
    authority: String,
    credential: Option<Shown>,
    /// By what it has that.
    under: Under,
    given: Arc<Given>,
    /// By what its answers are scrubbed.
    scrubber: Option<Scrubber>,
    /// Of the run that asks.
    pub(super) share: Share,
    pub(crate) leave: Leave,
}

/// The credential that opens it.
struct Shown {
    /// The secret's name, and the value.
    secret: (String, Secret<String>),
    /// `Authorization`, with the value in it.
    header: HeaderValue,
}

/// Where it is.
enum To {
    /// At a host, by the run's table.
    Host(Box<Way>, Arc<Law>),
    /// On this run's own host.
    Local(RunId),
}

/// Carries a connection's bytes until it is dropped, and watches the requests over it.
pub(crate) struct Carrier(tokio::task::JoinHandle<()>, Interim);

impl Drop for Carrier {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A request to the upstream.
pub(crate) struct Wanted {
    pub(crate) method: Method,
    /// What follows the repository's own path, query and all.
    pub(crate) path: &'static str,
    /// The body's type; none without a body.
    pub(crate) kind: Option<&'static str>,
    /// The answer's type. Another one is no answer of git's.
    pub(crate) answer: &'static str,
    /// Version 2 of the protocol.
    pub(crate) two: bool,
    pub(crate) body: Bytes,
}

fn cut() -> Refusal {
    Refusal::fault("git.cut", "The repository's host broke off before it answered.")
}

impl Upstream {
    /// Connects.
    ///
    /// # Errors
    /// A policy refusal for an address, or for a credential that may not go there; a fault when the host is not reached.
    pub(crate) async fn open(gate: &Gate, caller: &Caller, granted: Granted) -> Result<Self, Refusal> {
        let Granted { leave, repository, credential, .. } = granted;
        let share = caller.git.clone();
        if policy::git::is_local(&repository) {
            let place = Place { host: LOCAL.into(), port: 80, path: String::new() };
            let (to, authority) = (To::Local(caller.run.clone()), LOCAL.to_owned());
            let given = Arc::default();
            let (credential, under, scrubber) = (None, Under::default(), None);
            let mut upstream =
                Self { to, line: None, place, authority, credential, under, given, scrubber, share, leave };
            upstream.line = Some(upstream.dial(gate).await?);
            return Ok(upstream);
        }
        let wrong = |_| Refusal::fault("git.url", "The address of this repository in the profile cannot be used.");
        let place = Place::of(&repository.url).map_err(wrong)?;
        let host = Name::parse(&place.host).map_err(|no| Refusal::policy(no.rule, no.why))?;
        let known = caller.egress.law(&gate.server, &caller.run).await?;
        let internal = known.law.exception(&host, place.port);
        let way = Way { host, port: place.port, tls: true, internal, one: true };
        let authority = way.authority();
        if let Some(credential) = &credential {
            gate.recent.note_minted(&credential.secret, &credential.value.0, credential.until, Instant::now());
        }
        let under = credential.as_ref().map_or_else(Under::default, |credential| {
            gate.server.under(None, credential.carried.as_ref(), credential.stored.as_ref())
        });
        let shown = |c: GitCredential| {
            let header = basic(&c.user, &c.value.0)?;
            Ok::<_, Refusal>(Shown { secret: (c.secret, c.value.0), header })
        };
        let credential = credential.map(shown).transpose()?;
        let to = To::Host(Box::new(way), known.law);
        let given = caller.egress.given.clone();
        let mut upstream =
            Self { to, line: None, place, authority, credential, under, given, scrubber: None, share, leave };
        upstream.line = Some(upstream.dial(gate).await?);
        Ok(upstream)
    }

    /// Whether what opens it may be used still.
    fn not_over(&self) -> Result<(), Refusal> {
        if self.under.is_over() {
            let why = "The secret that opens this repository was deleted, or what was minted of it taken back.";
            return Err(Refusal::denied("lease.over".into(), why.into()));
        }
        Ok(())
    }

    async fn dial(&self, gate: &Gate) -> Result<(http1::SendRequest<Full<Bytes>>, Carrier), Refusal> {
        self.not_over()?;
        match &self.to {
            To::Local(run) => carried(gate.locals.open(run)?).await,
            To::Host(way, law) => {
                let reached = gate.reach.open(way, law).await?;
                if self.credential.is_some() && reached.address.is_none() {
                    return Err(Refusal::policy(
                        "inject.address",
                        "The host's address was not found and checked here; no credential goes there.",
                    ));
                }
                carried(Ending::with(&self.under, reached.wire)).await
            }
        }
    }

    /// The connection, made anew when the host has ended it after its last answer.
    async fn ready(&mut self, gate: &Gate) -> Result<(), Refusal> {
        if let Some((sender, _)) = &mut self.line
            && sender.ready().await.is_ok()
        {
            return Ok(());
        }
        self.line = Some(self.dial(gate).await?);
        Ok(())
    }

    /// Sends one request and waits for the head of its answer, which is git's own and can be read.
    ///
    /// # Errors
    /// Policy refusals of what comes back; a fault when the host breaks off.
    pub(crate) async fn ask(&mut self, gate: &Gate, wanted: Wanted) -> Result<Response<Incoming>, Refusal> {
        let bad = || Refusal::fault("git.url", "The address of this repository in the profile cannot be used.");
        let bytes = wanted.body.len();
        let mut request = Request::new(Full::new(wanted.body));
        *request.method_mut() = wanted.method;
        *request.uri_mut() = format!("{}{}", self.place.path, wanted.path).parse().map_err(|_| bad())?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, HeaderValue::from_str(&self.authority).map_err(|_| bad())?);
        headers.insert(header::USER_AGENT, HeaderValue::from_static("git/volary"));
        headers.insert(header::ACCEPT, HeaderValue::from_static(wanted.answer));
        // Compressed, the answer could not be scrubbed.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(kind) = wanted.kind {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        if wanted.two {
            headers.insert("git-protocol", HeaderValue::from_static("version=2"));
        }
        // Inject last: whatever changed the request or its destination after this line would carry the key elsewhere.
        if let Some(credential) = &self.credential {
            headers.insert(header::AUTHORIZATION, credential.header.clone());
        }
        self.ready(gate).await?;
        // Before it leaves: what comes back of it, by this request or one without any credential, is to be known.
        self.look_for_what_was_given(gate);
        let Some((sender, Carrier(_, interim))) = &mut self.line else { return Err(cut()) };
        interim.watch(&mut request);
        self.leave.sent(bytes);
        let patience = if bytes > 0 { REQUEST } else { FIRST_BYTE };
        let response = match tokio::time::timeout(patience, sender.send_request(request)).await {
            Ok(Err(_)) => return Err(self.not_over().err().unwrap_or_else(cut)),
            Err(_) => return Err(Refusal::fault("git.slow", "The repository's host took too long to answer.")),
            Ok(Ok(response)) => response,
        };
        self.leave.answered(response.status().as_u16());
        // Others may have been given since.
        self.look_for_what_was_given(gate);
        // The operator's own process says why it serves nothing; a host's words are not passed on.
        if let (To::Local(_), Some(why)) = (&self.to, response.headers().get(api::git::WHY)) {
            return Err(Refusal::fault("git.local", String::from_utf8_lossy(why.as_bytes())));
        }
        is_gits(&response, wanted.answer)?;
        Ok(response)
    }

    /// The host is given this credential, if it is, and is scrubbed of all that it was given in the run's name.
    fn look_for_what_was_given(&mut self, gate: &Gate) {
        let To::Host(way, _) = &self.to else { return };
        self.scrubber = match &self.credential {
            Some(Shown { secret: (name, value), .. }) => Some(self.given.note(&way.host, (name, value), &gate.recent)),
            None => self.given.scrubber(&way.host),
        };
    }

    /// The whole of an answer, scrubbed, at most `most` bytes.
    ///
    /// # Errors
    /// `git.too-long`; a fault when the host breaks off or stands still.
    pub(crate) async fn whole(&self, response: Response<Incoming>, most: usize) -> Result<Vec<u8>, Refusal> {
        let out = collected(response.into_body(), most, |bytes| self.leave.received(bytes)).await?;
        match self.scrubber.clone() {
            Some(scrubber) if out.len() > INLINE => {
                let gone = || Refusal::fault("git.scrub", "The repository's host's answer could not be scrubbed.");
                self.share.beside((), move || scrubber.scrub(&out).into_owned()).await.ok_or_else(gone)
            }
            Some(scrubber) => Ok(scrubber.scrub(&out).into_owned()),
            None => Ok(out),
        }
    }

    /// The report on a push, as [`Upstream::whole`], looked through as [`Bands`] do.
    ///
    /// # Errors
    /// Those of [`Upstream::whole`]; `git.report` where it is none.
    pub(crate) async fn report(&self, response: Response<Incoming>) -> Result<Vec<u8>, Refusal> {
        let out = collected(response.into_body(), MAX_REPORT, |bytes| self.leave.received(bytes)).await?;
        let Some(scrubber) = self.scrubber.clone() else { return Ok(out) };
        let gone = || Refusal::fault("git.scrub", "The repository's host's report could not be scrubbed.");
        let said = self.share.weighed(out.len(), move || Bands::report(&scrubber, &out)).await.ok_or_else(gone)?;
        said.map_err(|wrong| {
            let why = format!(
                "The push was sent, and the host's report on it is none: {}. Fetch to see whether it was made.",
                wrong.0
            );
            Refusal::fault("git.report", why)
        })
    }

    /// What is needed to pass an answer on.
    pub(crate) fn into_parts(self) -> (Option<Carrier>, Option<Scrubber>, Leave) {
        (self.line.map(|(_, carrier)| carrier), self.scrubber, self.leave)
    }
}

/// A body whole, at most `most` bytes; `received` is told of each piece, in bytes.
async fn collected<B>(mut body: B, most: usize, received: impl Fn(usize)) -> Result<Vec<u8>, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut out = Vec::new();
    loop {
        let frame = match tokio::time::timeout(IDLE, body.frame()).await {
            Err(_) => return Err(Refusal::fault("git.slow", "The repository's host stood still in its answer.")),
            Ok(None) => return Ok(out),
            Ok(Some(Err(_))) => return Err(cut()),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(bytes) = frame.into_data() else { continue };
        received(bytes.len());
        if out.len() + bytes.len() > most {
            let why = format!("The repository's host answered with more than {} MiB.", most >> 20);
            return Err(Refusal::policy("git.too-long", why).with_status(StatusCode::BAD_GATEWAY));
        }
        out.extend_from_slice(&bytes);
    }
}

async fn carried<W>(wire: W) -> Result<(http1::SendRequest<Full<Bytes>>, Carrier), Refusal>
where
    W: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let wire = Paced::new(wire);
    let interim = wire.interim();
    let handshake = http1::Builder::new().max_buf_size(ANSWER_HEAD).handshake(TokioIo::new(wire)).await;
    let (sender, connection) = handshake.map_err(|_| cut())?;
    // Its error is the head's or the body's error too, and is told there.
    let carrier = Carrier(tokio::spawn(async move { drop(connection.await) }), interim);
    Ok((sender, carrier))
}

fn basic(user: &str, value: &Secret<String>) -> Result<HeaderValue, Refusal> {
    let pair = Secret::new(format!("{user}:{}", value.expose()));
    let line = Secret::new(format!("Basic {}", STANDARD.encode(pair.expose())));
    let mut value = HeaderValue::from_str(line.expose())
        .map_err(|_| Refusal::fault("inject.credential", "The credential cannot stand in a header."))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether an answer is git's own, and in clear.
fn is_gits(response: &Response<Incoming>, kind: &str) -> Result<(), Refusal> {
    let no = |rule, why: &str| Err(Refusal::policy(rule, why).with_status(StatusCode::BAD_GATEWAY));
    match response.status() {
        StatusCode::OK => {}
        status if status.is_redirection() => {
            return no(
                "git.redirect",
                "The repository's host answered by a redirect, and none is followed: the profile must name where the \
                 repository is now.",
            );
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
            return Err(Refusal::fault(
                "git.denied",
                format!(
                    "The repository's host answered {}: it is not there, or what opens it is not enough for this.",
                    response.status().as_u16()
                ),
            ));
        }
        status => {
            return Err(Refusal::fault("git.status", format!("The repository's host answered {}.", status.as_u16())));
        }
    }
    let is = |name: header::HeaderName, want: &str| {
        response.headers().get(name).and_then(|v| v.to_str().ok()).is_some_and(|v| v.eq_ignore_ascii_case(want))
    };
    if Encoding::of(response.headers()) != Ok(None) {
        return no("git.encoding", "The repository's host answered in an encoding that cannot be checked for secrets.");
    }
    if !is(header::CONTENT_TYPE, kind) {
        return no(
            "git.form",
            "What the repository's host answered is not git's; is the address that of a repository?",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{MAX_OFFER, MAX_REPORT};
    use super::*;
    use http_body_util::StreamBody;

    #[tokio::test]
    async fn a_list_of_references_and_a_report_are_taken_to_their_limit_and_not_a_byte_more() {
        for most in [MAX_OFFER, MAX_REPORT] {
            for more in [0, 1] {
                // In pieces, of which the last has what is more.
                let pieces = [most / 2, most / 2 + more].map(|length| Bytes::from(vec![b'a'; length]));
                let frames = pieces.map(|piece| Ok::<_, std::convert::Infallible>(http_body::Frame::data(piece)));
                let counted = std::cell::Cell::new(0);
                let count = |bytes| counted.set(counted.get() + bytes);
                let whole = collected(StreamBody::new(futures_util::stream::iter(frames)), most, count).await;
                assert_eq!(counted.get(), most + more, "what came is counted, taken or not");
                match whole {
                    Ok(out) => assert_eq!((out.len(), more), (most, 0)),
                    Err(no) => assert_eq!((no.rule.as_str(), more), ("git.too-long", 1)),
                }
            }
        }
    }
}
