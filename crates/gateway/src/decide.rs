//! Whether a request is one of the few that exist. Pure but for reading the body off the socket, and for the
//! thread beside this one on which a body is judged.
//!
//! Read [`target`] (where it points), [`handle`] (which credential it shows), then [`decide`].

use crate::refusal::{Refusal, Trace};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use model::Dialect;
use policy::model_call::{self, BETA_HEADERS};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Longest request body: 32 MiB, the providers' own ceiling.
pub(crate) const MAX_BODY: usize = 32 * 1024 * 1024;
/// Bodies of one run held at once, in bytes; further ones wait. Twice the longest.
const HELD_BODIES: usize = 2 * MAX_BODY;
/// The unit in which held bodies are counted, in bytes.
const HELD_UNIT: usize = 64 * 1024;
/// How long a client may take to send its body. It comes over loopback.
const BODY_SECS: u64 = 30;
/// Longest name of a model, in bytes.
const MAX_NAME: usize = 64;
/// What every handle starts with.
const HANDLE_PREFIX: &[u8] = b"vh_";
/// What follows, in characters of base 32: 256 random bits.
const HANDLE_CHARS: usize = 52;
/// Bodies that are judged at once, over all runs; of one run it is one. More wait.
pub(crate) const JUDGES: usize = 2;
/// Headers that carry a credential somewhere, and never here.
const FOREIGN: [&str; 5] = ["proxy-authorization", "cookie", "api-key", "x-auth-token", "x-amz-security-token"];
/// The header in which Gemini's clients show their key: the handle on its paths, foreign on any other.
const GEMINI: &str = "x-goog-api-key";

/// Where bodies are judged: beside the thread that serves, so that a long one delays nobody else's call.
#[derive(Clone)]
pub(crate) struct Court(Arc<Semaphore>);

impl Default for Court {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(JUDGES)))
    }
}

/// Room for the bodies of one run, so that a box can fill neither the gateway's memory nor its time.
pub(crate) struct Room {
    bodies: Arc<Semaphore>,
    judging: Arc<Semaphore>,
    court: Court,
}

impl Room {
    /// The room of one run.
    pub(crate) fn of(court: Court) -> Self {
        Self { bodies: Arc::new(Semaphore::new(HELD_BODIES / HELD_UNIT)), judging: Arc::new(Semaphore::new(1)), court }
    }

    /// Does `work` on another thread once it is this run's turn; the turn lasts until it is done, also when
    /// nobody waits for it any more. None when it did not end.
    pub(crate) async fn judge<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        // The run's own turn first: however many calls it has, it stands once in the queue for all.
        let own = self.judging.clone().acquire_owned().await.ok()?;
        let seat = self.court.0.clone().acquire_owned().await.ok()?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop((seat, own));
            done
        });
        done.await.ok()
    }

    /// Waits for room for `bytes` bytes, at most [`MAX_BODY`]; it is given back when the permit is dropped.
    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = bytes.min(MAX_BODY).div_ceil(HELD_UNIT).max(1);
        self.bodies.clone().acquire_many_owned(u32::try_from(units).ok()?).await.ok()
    }
}

/// A request that may be asked for.
pub(crate) struct Call {
    /// Held as long as the body is.
    pub(crate) room: Option<Arc<OwnedSemaphorePermit>>,
    /// The name after `/model/`.
    pub(crate) provider: String,
    /// The inference path after it.
    pub(crate) path: String,
    /// The query, without its mark.
    pub(crate) query: Option<String>,
    /// The wire format that the path belongs to.
    pub(crate) dialect: Dialect,
    /// What policy read in the body.
    pub(crate) asked: policy::model_call::Asked,
    /// SHA-256 of the handle, hex. The handle itself ends here.
    pub(crate) handle_sha256: String,
    /// The body, byte for byte as it came.
    pub(crate) body: Bytes,
    /// Its SHA-256, hex.
    pub(crate) body_sha256: String,
    /// The headers as they came; [`crate::inject`] takes the few that go on.
    pub(crate) headers: HeaderMap,
}

/// Judges one request. `trace` learns what the verdict will say.
///
/// # Errors
/// A [`Refusal`] that names the rule; nothing has left the gateway then.
pub(crate) async fn decide<B>(request: Request<B>, turns: &Room, trace: &mut Trace) -> Result<Call, Refusal>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let (provider, path) = target(&head.uri, &head.headers)?;
    let dialect = dialect(&path);
    let handle_sha256 = handle(&head.headers, dialect)?;
    betas(&head.headers)?;
    let (body, room) = read(&head.headers, body, turns).await?;
    let room = room.map(Arc::new);
    let query = head.uri.query().map(str::to_owned);
    let judged = {
        let (method, path, query, body) = (head.method, path.clone(), query.clone(), body.clone());
        // The body keeps its room as long as it is held here.
        let room = room.clone();
        let work = move || {
            let asked = model_call::judge(dialect, method.as_str(), &path, query.as_deref(), &body);
            let sha256 = sha256_hex(&body);
            drop((body, room));
            (sha256, asked)
        };
        turns.judge(work).await
    };
    let Some((body_sha256, asked)) = judged else {
        return Err(Refusal::policy("model.body", "The request's body could not be judged."));
    };
    trace.body_sha256 = Some(body_sha256.clone());
    let asked = asked.map_err(|no| Refusal::policy(no.rule, no.why))?;
    trace.model = Some(asked.model.clone());
    Ok(Call { room, provider, path, query, dialect, asked, handle_sha256, body, body_sha256, headers: head.headers })
}

/// The wire format that a path belongs to.
fn dialect(path: &str) -> Dialect {
    match path {
        "/v1/responses" => Dialect::OpenaiResponses,
        _ if path == "/v1/messages" || path.starts_with("/v1/messages/") => Dialect::Anthropic,
        _ if model_call::gemini::is_path(path) => Dialect::Gemini,
        _ => Dialect::Openai,
    }
}

/// Splits `/model/{name}{path}`; everything else is a closed door. What names a host itself is the forward proxy's
/// ([`crate::egress::is_for`]) and does not come here.
fn target(uri: &Uri, headers: &HeaderMap) -> Result<(String, String), Refusal> {
    let closed = |why: &str| Err(Refusal::policy("door.closed", why));
    if headers.contains_key(header::UPGRADE) {
        return closed("A connection cannot be turned into another protocol here.");
    }
    let Some((name, path)) = uri.path().strip_prefix("/model/").and_then(|rest| rest.split_once('/')) else {
        return closed(
            "This door has a model at /model/<name>/…, a repository at /git/ID, leases at /lease, proposals at /propose; a host's \
             pages are asked for through it as a proxy, by their whole address.",
        );
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(plain) {
        return closed("This is no name of a model.");
    }
    Ok((name.to_owned(), format!("/{path}")))
}

/// The SHA-256 of the one handle that a request shows.
///
/// # Errors
/// `handle.missing`, `handle.foreign`.
pub(crate) fn handle(headers: &HeaderMap, dialect: Dialect) -> Result<String, Refusal> {
    let foreign = |why: &str| Err(Refusal::policy("handle.foreign", why));
    let gemini = dialect == Dialect::Gemini;
    if FOREIGN.iter().any(|name| headers.contains_key(*name)) || !gemini && headers.contains_key(GEMINI) {
        return foreign("The request carries a credential of another kind; only this run's handle is taken.");
    }
    let shown: Vec<_> = headers
        .get_all("x-api-key")
        .iter()
        .chain(headers.get_all(GEMINI))
        .map(|v| (v, ""))
        .chain(headers.get_all(header::AUTHORIZATION).iter().map(|v| (v, "bearer ")))
        .collect();
    let (value, scheme) = match shown[..] {
        [] => {
            let own = if gemini { "x-goog-api-key, " } else { "" };
            return Err(Refusal::policy(
                "handle.missing",
                format!("The request carries no handle in {own}x-api-key or as a bearer token."),
            ));
        }
        [one] => one,
        _ => return foreign("The request carries more than one credential; exactly one header may carry the handle."),
    };
    let value = value.as_bytes();
    let handle = match value.get(..scheme.len()) {
        Some(start) if start.eq_ignore_ascii_case(scheme.as_bytes()) => &value[scheme.len()..],
        _ => return foreign("The credential in the request is not this run's handle."),
    };
    let minted = handle.strip_prefix(HANDLE_PREFIX).is_some_and(|chars| {
        chars.len() == HANDLE_CHARS && chars.iter().all(|c| matches!(c, b'a'..=b'z' | b'2'..=b'7'))
    });
    if !minted {
        return foreign("The credential in the request is not this run's handle.");
    }
    Ok(sha256_hex(handle))
}

/// Judges the features that the request switches on by its headers.
fn betas(headers: &HeaderMap) -> Result<(), Refusal> {
    for name in BETA_HEADERS {
        for value in headers.get_all(name) {
            let value = String::from_utf8_lossy(value.as_bytes());
            model_call::betas(name, &value).map_err(|no| Refusal::policy(no.rule, no.why))?;
        }
    }
    Ok(())
}

async fn read<B>(headers: &HeaderMap, body: B, room: &Room) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Refusal>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let refuse = |rule, why, status| Err(Refusal::policy(rule, why).with_status(status));
    let too_long =
        || refuse("body.too-long", "The request's body is longer than 32 MiB.", StatusCode::PAYLOAD_TOO_LARGE);
    let said = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    if said.is_some_and(|n| n > MAX_BODY) {
        return too_long();
    }
    let reading = async {
        let permit = room.take(said.unwrap_or(MAX_BODY)).await;
        Limited::new(body, MAX_BODY).collect().await.map(|whole| (whole.to_bytes(), permit))
    };
    match tokio::time::timeout(Duration::from_secs(BODY_SECS), reading).await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) if error.is::<LengthLimitError>() => too_long(),
        Ok(Err(_)) => refuse("body.cut", "The request's body broke off.", StatusCode::BAD_REQUEST),
        Err(_) => refuse("body.slow", "The request's body took longer than 30 seconds.", StatusCode::REQUEST_TIMEOUT),
    }
}

/// SHA-256 in lower-case hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes every write");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Poll;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().expect("a header value"));
        }
        map
    }
    fn rule<T>(result: Result<T, Refusal>) -> String {
        result.err().map(|no| no.rule).unwrap_or_default()
    }

    /// As it is minted.
    const HANDLE: &str = "vh_abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst";

    #[test]
    fn one_handle_in_one_header_is_taken_and_only_its_hash_goes_on() {
        let expected = sha256_hex(HANDLE.as_bytes());
        for dialect in [Dialect::Anthropic, Dialect::Openai, Dialect::Gemini] {
            for (name, value) in [
                ("x-api-key", HANDLE.to_owned()),
                ("authorization", format!("Bearer {HANDLE}")),
                ("authorization", format!("bearer {HANDLE}")),
            ] {
                assert_eq!(handle(&headers(&[(name, &value)]), dialect).unwrap(), expected, "{dialect:?} {name}");
            }
        }
        assert_eq!(handle(&headers(&[("x-goog-api-key", HANDLE)]), Dialect::Gemini).unwrap(), expected);
    }

    #[test]
    fn no_credential_two_credentials_and_a_foreign_one_are_refused() {
        for dialect in [Dialect::Anthropic, Dialect::Gemini] {
            assert_eq!(rule(handle(&headers(&[]), dialect)), "handle.missing");
        }
        let bearer = format!("Bearer {HANDLE}");
        for bad in [
            &[("x-api-key", HANDLE), ("authorization", bearer.as_str())][..],
            &[("x-api-key", HANDLE), ("x-api-key", HANDLE)],
            &[("x-api-key", "vh_a")],
            &[("x-api-key", &HANDLE[..54])],
            &[("x-api-key", &format!("{HANDLE}a"))],
            &[("x-api-key", &HANDLE.replace('a', "A"))],
            &[("x-api-key", &HANDLE.replace('a', "1"))],
            &[("x-api-key", "sk-ant-real")],
            &[("authorization", "Bearer sk-real")],
            &[("authorization", "Basic dmhfYTo=")],
            &[("authorization", HANDLE)],
            &[("x-api-key", HANDLE), ("cookie", "a=b")],
            &[("x-api-key", HANDLE), ("proxy-authorization", "Basic eA==")],
            &[("x-api-key", HANDLE), ("x-goog-api-key", HANDLE)],
            &[("x-goog-api-key", HANDLE), ("x-goog-api-key", HANDLE)],
            &[("x-goog-api-key", "AIzaSyReal")],
            &[("x-goog-api-key", &bearer)],
        ] {
            for dialect in [Dialect::Anthropic, Dialect::Gemini] {
                assert_eq!(rule(handle(&headers(bad), dialect)), "handle.foreign", "{dialect:?} {bad:?}");
            }
        }
        for dialect in [Dialect::Anthropic, Dialect::Openai, Dialect::OpenaiResponses] {
            let geminis = headers(&[("x-goog-api-key", HANDLE)]);
            assert_eq!(rule(handle(&geminis, dialect)), "handle.foreign", "{dialect:?}");
        }
    }

    #[test]
    fn only_a_model_path_opens_the_door() {
        let ask = |uri: &str| target(&uri.parse().unwrap(), &HeaderMap::new());
        assert_eq!(ask("/model/claude/v1/messages").unwrap(), ("claude".into(), "/v1/messages".into()));
        for uri in
            ["/", "/model/", "/model/x", "/model//v1/messages", "/model/a%2fb/v1", "/MODEL/x/v1", "//model/x/v1", "*"]
        {
            assert_eq!(rule(ask(uri)), "door.closed", "{uri}");
        }
        let upgrade = headers(&[("upgrade", "websocket")]);
        assert_eq!(rule(target(&"/model/x/v1/messages".parse().unwrap(), &upgrade)), "door.closed");
    }

    #[test]
    fn a_path_tells_the_wire_format() {
        for (path, expected) in [
            ("/v1/messages", Dialect::Anthropic),
            ("/v1/messages/count_tokens", Dialect::Anthropic),
            ("/v1/chat/completions", Dialect::Openai),
            ("/v1/models", Dialect::Openai),
            ("/v1/models/gpt", Dialect::Openai),
            ("/v1/responses", Dialect::OpenaiResponses),
            ("/v1/models/gemini-x:generateContent", Dialect::Gemini),
            ("/v1beta/models/gemini-x:streamGenerateContent", Dialect::Gemini),
            ("/v1beta/files", Dialect::Gemini),
        ] {
            assert_eq!(dialect(path), expected, "{path}");
        }
    }

    fn spaces(n: usize) -> http_body_util::Full<Bytes> {
        http_body_util::Full::new(Bytes::from(vec![b' '; n]))
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_body_at_the_limit_is_read_and_one_byte_more_is_not() {
        let (none, room) = (HeaderMap::new(), Room::of(Court::default()));
        assert_eq!(read(&none, spaces(MAX_BODY), &room).await.unwrap().0.len(), MAX_BODY);
        assert_eq!(rule(read(&none, spaces(MAX_BODY + 1), &room).await), "body.too-long");
        let said = headers(&[("content-length", "33554433")]);
        assert_eq!(rule(read(&said, spaces(0), &room).await), "body.too-long");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_third_body_of_the_longest_waits_for_one_of_two_to_go() {
        let room = Room::of(Court::default());
        let first = room.take(MAX_BODY).await;
        let _second = room.take(MAX_BODY).await;
        let mut third = std::pin::pin!(room.take(1));
        assert!(std::future::poll_fn(|cx| Poll::Ready(third.as_mut().poll(cx).is_pending())).await);
        drop(first);
        assert!(third.await.is_some());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_run_has_one_body_judged_at_a_time_and_all_runs_two() {
        let court = Court::default();
        let runs = [(); 3].map(|()| Room::of(court.clone()));
        let (begun, begins) = std::sync::mpsc::channel();
        let work = |name: &'static str| {
            let begun = begun.clone();
            let (end, ended) = std::sync::mpsc::channel::<()>();
            let work = move || {
                begun.send(name).unwrap();
                // Ends when the test drops the other side.
                ended.recv().unwrap_err();
            };
            (work, end)
        };
        let pending = async |coming: &mut std::pin::Pin<&mut dyn Future<Output = Option<()>>>| {
            std::future::poll_fn(|cx| Poll::Ready(coming.as_mut().poll(cx).is_pending())).await
        };
        let ((first, end_first), (again, end_again)) = (work("first"), work("again"));
        let ((second, end_second), (third, end_third)) = (work("second"), work("third"));
        let mut first: std::pin::Pin<&mut dyn Future<Output = Option<()>>> = std::pin::pin!(runs[0].judge(first));
        let mut again: std::pin::Pin<&mut dyn Future<Output = Option<()>>> = std::pin::pin!(runs[0].judge(again));
        let mut second: std::pin::Pin<&mut dyn Future<Output = Option<()>>> = std::pin::pin!(runs[1].judge(second));
        let mut third: std::pin::Pin<&mut dyn Future<Output = Option<()>>> = std::pin::pin!(runs[2].judge(third));
        for one in [&mut first, &mut again, &mut second, &mut third] {
            assert!(pending(one).await);
        }
        let mut two = [begins.recv().unwrap(), begins.recv().unwrap()];
        two.sort_unstable();
        assert_eq!(two, ["first", "second"]);
        assert_eq!((runs[0].judging.available_permits(), court.0.available_permits()), (0, 0));
        drop((end_second, end_third));
        second.await.unwrap();
        third.await.unwrap();
        assert_eq!(begins.recv().unwrap(), "third", "the first run's second body waits for its first");
        drop((end_first, end_again));
        first.await.unwrap();
        again.await.unwrap();
        assert_eq!(begins.recv().unwrap(), "again");
    }
}
