//! What a box shows and sends: its handle, and a body, whole, bounded and out of gzip.

use super::Share;
use super::asks::asks_of;
use crate::decide::sha256_hex;
use crate::egress::wire;
use crate::refusal::Refusal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::bufread::GzDecoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use policy::egress::signs;
use std::io::Read as _;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Longest body of a fetch, unpacked, in bytes.
pub(crate) const MAX_FETCH: usize = 8 << 20;
/// How long a box may take for a body. It comes over loopback.
const BODY: Duration = Duration::from_secs(120);
/// How long a body may stand still.
const STILL: Duration = Duration::from_secs(30);
/// Longest body that is taken out of gzip by the thread that serves, in bytes as it comes.
const GZIP_INLINE: usize = 8 << 10;
/// Of a push, what a run has the room for by itself, in bytes: such a push waits for no other run's.
pub(super) const OWN_PUSH: usize = 8 << 20;
/// What is longer of all runs' pushes and held at once, in MiB; more wait.
pub(super) static HELD: Semaphore = Semaphore::const_new(512);
/// How long one waits for that.
const FULL: Duration = Duration::from_secs(300);

/// The SHA-256 of the handle that a request shows, as a bearer or as either part of basic auth; no other credential beside it.
pub(super) fn handle(headers: &HeaderMap) -> Result<String, Refusal> {
    let no = |rule, why| Err(Refusal::policy(rule, why));
    let foreign = "The request carries a credential that is not this run's handle.";
    let others = ["cookie", "proxy-authorization", "x-api-key", "private-token", "x-auth-token"];
    if others.iter().any(|name| headers.contains_key(*name)) {
        return no("handle.foreign", foreign);
    }
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else {
        let why =
            "The request must show this run's handle in one Authorization header; git's configuration in the box does.";
        return no("handle.missing", why);
    };
    let Some((scheme, rest)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
        return no("handle.foreign", foreign);
    };
    let shown = if scheme.eq_ignore_ascii_case("bearer") {
        rest.to_owned()
    } else if scheme.eq_ignore_ascii_case("basic") {
        let pair = STANDARD.decode(rest.trim()).ok().and_then(|pair| String::from_utf8(pair).ok()).unwrap_or_default();
        let (user, password) = pair.split_once(':').unwrap_or((&pair, ""));
        if signs::holds_handle(user.as_bytes()) { user.to_owned() } else { password.to_owned() }
    } else {
        return no("handle.foreign", foreign);
    };
    let shown = model::Secret::new(shown);
    let whole = shown.expose().strip_prefix("vh_").is_some_and(|rest| rest.len() == 52);
    if !whole || !signs::holds_handle(shown.expose().as_bytes()) {
        return no("handle.foreign", foreign);
    }
    Ok(sha256_hex(shown.expose().as_bytes()))
}

/// How long a body is at most, in bytes: as long as its headers say, and `most` where they do not.
pub(super) fn declared(headers: &HeaderMap, most: usize) -> usize {
    let said = headers.get(header::CONTENT_LENGTH).filter(|_| !headers.contains_key(header::CONTENT_ENCODING));
    said.and_then(|said| said.to_str().ok()?.parse().ok()).map_or(most, |said: usize| said.min(most))
}

/// Room for `bytes` bytes that one run may not have by itself. Asked for once for a body: two that each had a part would wait
/// for each other.
async fn room(bytes: usize) -> Result<SemaphorePermit<'static>, Refusal> {
    let full = || {
        Refusal::fault("git.full", "The gateway holds all the pushes that it can.")
            .with_status(StatusCode::SERVICE_UNAVAILABLE)
    };
    let mib = u32::try_from(bytes.div_ceil(1 << 20)).map_err(|_| full())?;
    tokio::time::timeout(FULL, HELD.acquire_many(mib)).await.ok().and_then(Result::ok).ok_or_else(full)
}

/// Reads a body whole and takes gzip off it. `lengths`: of how many bytes the run has the room by itself, and how many it may
/// have at most. What is longer than the first has its room from what is for all, and gives it back with the permit.
pub(super) async fn read<B>(
    share: &Share,
    headers: &HeaderMap,
    mut body: B,
    lengths: (usize, usize),
) -> Result<(Bytes, Option<SemaphorePermit<'static>>), Refusal>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (own, most) = lengths;
    let too_long = || {
        let why = format!("This is longer than {} MiB, which is the most that git may send at once.", most >> 20);
        Refusal::policy("git.too-long", why).with_status(StatusCode::PAYLOAD_TOO_LARGE)
    };
    let bad = |why: &'static str| Refusal::policy("body.cut", why).with_status(StatusCode::BAD_REQUEST);
    let slow = || {
        let why = "The request's body stood still for 30 seconds, or took longer than two minutes.";
        Refusal::policy("body.slow", why).with_status(StatusCode::REQUEST_TIMEOUT)
    };
    let more = declared(headers, most).saturating_sub(own);
    let (mut held, mut out, mut ends) = (None, Vec::new(), Instant::now() + BODY);
    loop {
        let next = tokio::time::timeout(STILL.min(ends.saturating_duration_since(Instant::now())), body.frame());
        let frame = match next.await {
            Err(_) => return Err(slow()),
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                let error: Box<dyn std::error::Error + Send + Sync> = error.into();
                return Err(match wire::broken(&*error) {
                    Some(fault) => bad(fault.why()),
                    None => bad("The request's body broke off."),
                });
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if out.len() + data.len() > most {
            return Err(too_long());
        }
        if held.is_none() && out.len() + data.len() > own {
            let since = Instant::now();
            held = Some(room(more).await?);
            ends += since.elapsed();
        }
        out.extend_from_slice(&data);
    }
    let encodings: Vec<_> = headers.get_all(header::CONTENT_ENCODING).iter().map(HeaderValue::as_bytes).collect();
    match encodings[..] {
        [] | [b"identity"] => {}
        [b"gzip" | b"x-gzip"] => {
            if held.is_none() && more > 0 {
                held = Some(room(more).await?);
            }
            let plain = if out.len() > GZIP_INLINE {
                // The room goes along: the work goes on also when its box has hung up.
                let work = move || (gunzipped(&out, most), held);
                let gone = || Refusal::fault("git.body", "The request's body could not be read.");
                let (plain, room) = share.beside((), work).await.ok_or_else(gone)?;
                held = room;
                plain
            } else {
                gunzipped(&out, most)
            };
            out = plain.map_err(|no| match no {
                NoGzip::TooLong => too_long(),
                NoGzip::Wrong(why) => bad(why),
            })?;
        }
        _ => return Err(bad("The request's body is in an encoding that is not taken.")),
    }
    Ok((out.into(), held))
}

/// Why a body does not come out of its gzip.
enum NoGzip {
    TooLong,
    Wrong(&'static str),
}

/// A body without its gzip, at most `most` bytes.
fn gunzipped(body: &[u8], most: usize) -> Result<Vec<u8>, NoGzip> {
    let mut plain = Vec::new();
    let mut decoder = GzDecoder::new(body).take(most as u64 + 1);
    let wrong = |_| NoGzip::Wrong("The request's body is not the gzip that it says.");
    decoder.read_to_end(&mut plain).map_err(wrong)?;
    if plain.len() > most {
        return Err(NoGzip::TooLong);
    }
    if !decoder.into_inner().into_inner().is_empty() {
        return Err(NoGzip::Wrong("Something follows the gzip of the request's body."));
    }
    Ok(plain)
}

/// The body of a fetch: git's lines, such as may be asked, and nothing else. The run has room for it.
pub(super) async fn fetch_body<B>(share: &Share, headers: &HeaderMap, body: B) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (body, _) = read(share, headers, body, (MAX_FETCH, MAX_FETCH)).await?;
    let looked = body.clone();
    let gone = || Refusal::fault("git.body", "The request's body could not be read.");
    share.weighed(body.len(), move || asks_of(&looked)).await.ok_or_else(gone)??;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handle_is_shown_once_and_alone() {
        let shown = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            handle(&headers).map_err(|no| no.rule)
        };
        let handle = format!("vh_{}", "a".repeat(52));
        let digest = Ok(sha256_hex(handle.as_bytes()));
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        assert_eq!(shown(&[("authorization", &format!("Bearer {handle}"))]), digest);
        assert_eq!(shown(&[("authorization", &basic(&format!("{handle}:")))]), digest);
        assert_eq!(shown(&[("authorization", &basic(&format!("git:{handle}")))]), digest);
        assert_eq!(shown(&[]), Err("handle.missing".into()));
        let bearer = format!("Bearer {handle}");
        assert_eq!(shown(&[("authorization", &bearer), ("authorization", &bearer)]), Err("handle.missing".into()));
        for pairs in [
            [("authorization", "Bearer ghp_x"), ("accept", "*/*")],
            [("authorization", &format!("Bearer {handle}b")), ("accept", "*/*")],
            [("authorization", &format!("Bearer x{handle}")), ("accept", "*/*")],
            [("authorization", &format!("token {handle}")), ("accept", "*/*")],
            [("authorization", &bearer), ("cookie", "a=b")],
            [("authorization", &bearer), ("private-token", "x")],
        ] {
            assert_eq!(shown(&pairs), Err("handle.foreign".into()), "{pairs:?}");
        }
    }

    #[test]
    fn what_comes_out_of_gzip_is_as_long_as_it_may_be_and_not_a_byte_longer() {
        use std::io::Write as _;
        for more in [0, 1] {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&vec![0; MAX_FETCH + more]).unwrap();
            match gunzipped(&encoder.finish().unwrap(), MAX_FETCH) {
                Ok(plain) => assert_eq!((plain.len(), more), (MAX_FETCH, 0)),
                Err(no) => assert!(matches!(no, NoGzip::TooLong) && more == 1),
            }
        }
    }
}
