//! Every host of the test's own network at once: it answers on all addresses, by path, and keeps what it was asked.

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;

/// A request, as a host saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Which address was connected to.
    pub at: SocketAddr,
    pub client: SocketAddr,
    pub tls: bool,
    pub version: Version,
    pub method: String,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }
}

pub(super) type Words = UnsyncBoxBody<Bytes, Infallible>;

/// All hosts.
#[derive(Clone)]
pub struct Origin {
    seen: Arc<Mutex<Vec<Seen>>>,
    connected: Arc<Mutex<Vec<SocketAddr>>>,
    trusted: Arc<CertifiedIssuer<'static, KeyPair>>,
    other: Arc<CertifiedIssuer<'static, KeyPair>>,
    /// What is offered in TLS.
    alpn: Arc<Vec<Vec<u8>>>,
    pub flow: Flow,
}

/// Bodies that the test holds in its hand.
#[derive(Clone)]
pub struct Flow {
    /// Requests whose head has come.
    pub begun: Arc<AtomicUsize>,
    /// Bytes of `/endless` that were taken.
    pub poured: Arc<AtomicU64>,
    drops: Arc<Semaphore>,
    /// Connections over which half of a pack was sent, and which are not over.
    pub halves: Arc<AtomicUsize>,
    /// What one connection of a host over HTTP/1.1 holds of an answer that is not taken, in bytes.
    pub held: Arc<AtomicUsize>,
    /// The same, of its kernel; 0: as much as that wants.
    pub sends: Arc<AtomicUsize>,
}

impl Flow {
    /// One line more of `/drip`.
    pub fn drop_one(&self) {
        self.drops.add_permits(1);
    }

    async fn drip(self) -> Option<(Result<Frame<Bytes>, Infallible>, Self)> {
        self.drops.acquire().await.ok()?.forget();
        Some((Ok(Frame::data(Bytes::from_static(b"x\n"))), self))
    }

    pub(super) async fn pour(self) -> Option<(Result<Frame<Bytes>, Infallible>, Self)> {
        static WATER: [u8; 16 * 1024] = [b'w'; 16 * 1024];
        self.poured.fetch_add(WATER.len() as u64, Ordering::Relaxed);
        Some((Ok(Frame::data(Bytes::from_static(&WATER))), self))
    }
}

/// What holds the answer of which half was sent.
struct Half(Arc<AtomicUsize>);

impl Half {
    fn of(flow: &Flow) -> Self {
        flow.halves.fetch_add(1, Ordering::Relaxed);
        Self(flow.halves.clone())
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn authority() -> Arc<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    Arc::new(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed"))
}

impl Origin {
    pub fn new(two: bool) -> Self {
        let mut alpn = vec![b"http/1.1".to_vec()];
        if two {
            alpn.insert(0, b"h2".to_vec());
        }
        Self {
            seen: Arc::default(),
            connected: Arc::default(),
            trusted: authority(),
            other: authority(),
            alpn: Arc::new(alpn),
            flow: Flow {
                begun: Arc::default(),
                poured: Arc::default(),
                drops: Arc::new(Semaphore::new(0)),
                halves: Arc::default(),
                held: Arc::new(AtomicUsize::new(256 * 1024)),
                sends: Arc::default(),
            },
        }
    }

    /// Whom the gateway is to trust.
    pub fn roots(&self) -> rustls::RootCertStore {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.trusted.der().clone()).expect("a certificate");
        roots
    }

    /// What was asked since the last look.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().expect("unpoisoned"))
    }

    /// Which addresses were connected to since the last look.
    pub fn connected(&self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.connected.lock().expect("unpoisoned"))
    }

    /// Serves every address on this port until the test ends.
    pub async fn serve(&self, port: u16, tls: bool) {
        let listener = TcpListener::bind((std::net::Ipv6Addr::UNSPECIFIED, port)).await.expect("a port of our own");
        let origin = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, client)) = listener.accept().await {
                let mut at = stream.local_addr().expect("connected");
                at.set_ip(at.ip().to_canonical());
                let sends = origin.flow.sends.load(Ordering::Relaxed);
                if sends > 0 {
                    rustix::net::sockopt::set_socket_send_buffer_size(&stream, sends).expect("a size");
                }
                origin.connected.lock().expect("unpoisoned").push(at);
                let origin = origin.clone();
                tokio::spawn(async move {
                    if tls {
                        origin.greet(stream, at, client).await;
                    } else {
                        origin.talk(stream, at, client, false, false).await;
                    }
                });
            }
        });
    }

    async fn greet(&self, stream: tokio::net::TcpStream, at: SocketAddr, client: SocketAddr) {
        let Ok(start) = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await else { return };
        let named = start.client_hello().server_name().map_or_else(|| at.ip().to_string(), str::to_owned);
        let before = super::floods::before_the_answer(&named);
        let (issuer, named) = match named.as_str() {
            "untrusted.example" => (&self.other, named),
            "wrong.example" => (&self.trusted, "right.example".to_owned()),
            _ => (&self.trusted, named),
        };
        let key = KeyPair::generate().expect("a key");
        let leaf = CertificateParams::new(vec![named]).expect("a name").signed_by(&key, issuer).expect("signed");
        let private = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], private)
            .expect("they fit");
        config.alpn_protocols = self.alpn.to_vec();
        // Who does not trust us hangs up here.
        let Ok(stream) = start.into_stream(Arc::new(config)).await else { return };
        let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if let Some(before) = before {
            return super::floods::answer_after(stream, two, before).await;
        }
        self.talk(stream, at, client, true, two).await;
    }

    async fn talk(
        &self,
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        at: SocketAddr,
        client: SocketAddr,
        tls: bool,
        two: bool,
    ) {
        let origin = self.clone();
        let service = service_fn(move |request| {
            let origin = origin.clone();
            async move { Ok::<_, Infallible>(origin.answer(request, at, client, tls).await) }
        });
        let io = TokioIo::new(stream);
        // The other side may end at any time.
        if two {
            drop(hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await);
        } else {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.max_buf_size(self.flow.held.load(Ordering::Relaxed));
            drop(builder.serve_connection(io, service).with_upgrades().await);
        }
    }

    async fn answer(
        &self,
        mut request: Request<Incoming>,
        at: SocketAddr,
        client: SocketAddr,
        tls: bool,
    ) -> Response<Words> {
        let upgrade = request.headers().contains_key("upgrade").then(|| hyper::upgrade::on(&mut request));
        let (head, body) = request.into_parts();
        self.flow.begun.fetch_add(1, Ordering::Relaxed);
        let Ok(whole) = body.collect().await else { return said(StatusCode::BAD_REQUEST, "cut") };
        let trailers = whole.trailers().cloned();
        let seen = Seen {
            at,
            client,
            tls,
            version: head.version,
            method: head.method.to_string(),
            target: head.uri.to_string(),
            headers: head.headers.clone(),
            body: whole.to_bytes().to_vec(),
            trailers,
        };
        let shown: String = ["authorization", "private-token", "x-api-key"]
            .iter()
            .filter_map(|name| head.headers.get(*name))
            .map(|value| value.to_str().expect("text").to_owned())
            .collect();
        let body = seen.body.clone();
        self.seen.lock().expect("unpoisoned").push(seen);
        if let Some((words, content, transfer)) = super::encoded::said(head.uri.path(), &shown) {
            let answer = if content.is_empty() {
                said(StatusCode::OK, words)
            } else {
                with(said(StatusCode::OK, words), "content-encoding", content)
            };
            return if transfer.is_empty() { answer } else { with(answer, "transfer-encoding", transfer) };
        }
        if let Some(answer) = super::said::by(head.uri.path(), &shown) {
            return answer;
        }
        if let Some(answer) = super::registry::said_by(&head, &self.flow) {
            return answer;
        }
        match head.uri.path() {
            "/echo" => said(StatusCode::OK, body),
            "/empty" => said(StatusCode::OK, ""),
            "/none" => said(StatusCode::NO_CONTENT, ""),
            "/big" => said(StatusCode::OK, vec![b'x'; 8 << 20]),
            "/redirect" => with(said(StatusCode::FOUND, "there"), "location", "http://10.0.0.1/"),
            "/gzip" => with(said(StatusCode::OK, "not really"), "content-encoding", "gzip"),
            "/part" => said(StatusCode::PARTIAL_CONTENT, "a part"),
            "/hops" => {
                let answer = with(said(StatusCode::OK, "hops"), "keep-alive", "timeout=5");
                with(with(answer, "proxy-authenticate", "Basic"), "alt-svc", "h3=\":443\"")
            }
            "/key" => {
                let shown_at = HeaderValue::from_str(&shown).expect("a value");
                let mut answer = said(StatusCode::OK, format!("you are {shown}, yes, {shown}"));
                answer.headers_mut().insert("x-you-are", shown_at);
                answer
            }
            "/signed-in" => {
                let mut trailers = HeaderMap::new();
                trailers.insert("set-cookie", HeaderValue::from_static("session=minted-later"));
                trailers.insert("x-sum", HeaderValue::from_static("42"));
                let frames = [Ok(Frame::data(Bytes::from_static(b"signed in"))), Ok(Frame::trailers(trailers))];
                let answer =
                    with(Response::new(UnsyncBoxBody::new(StreamBody::new(tokio_stream(frames)))), "x-plain", "1");
                let answer =
                    with(with(answer, "set-cookie", "session=minted; HttpOnly"), "set-cookie2", "session=minted");
                with(answer, "trailer", "set-cookie, x-sum")
            }
            "/trailers" => {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", HeaderValue::from_static("42"));
                let frames = [Ok(Frame::data(Bytes::from_static(b"with trailers"))), Ok(Frame::trailers(trailers))];
                let body = StreamBody::new(tokio_stream(frames));
                with(Response::new(UnsyncBoxBody::new(body)), "trailer", "x-sum")
            }
            "/socket" | "/socket/extended" | "/socket/told" => match upgrade {
                None => said(StatusCode::BAD_REQUEST, "no upgrade"),
                Some(on) => {
                    tokio::spawn(parrot(on));
                    let answer = with(said(StatusCode::SWITCHING_PROTOCOLS, ""), "upgrade", "websocket");
                    let answer = with(answer, "connection", "upgrade");
                    match head.uri.path() {
                        "/socket" => return answer,
                        "/socket/told" => return super::said::in_a_name(answer, &shown),
                        _ => {}
                    }
                    with(answer, "sec-websocket-extensions", "permessage-deflate")
                }
            },
            "/drip" => {
                let first = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"first\n")))]);
                let rest = futures_util::stream::unfold(self.flow.clone(), Flow::drip);
                Response::new(UnsyncBoxBody::new(StreamBody::new(first.chain(rest))))
            }
            "/wait" => {
                drop(self.flow.clone().drip().await);
                said(StatusCode::OK, "waited")
            }
            "/endless" => {
                let pieces = futures_util::stream::unfold(self.flow.clone(), Flow::pour);
                Response::new(UnsyncBoxBody::new(StreamBody::new(pieces)))
            }
            "/long-head" => {
                let mut answer = said(StatusCode::OK, "");
                let long = HeaderValue::from_bytes(&[b'x'; 200 * 1024]).expect("a value");
                answer.headers_mut().insert("x-long", long);
                answer
            }
            "/hang" | "/hang/info/refs" => std::future::pending().await,
            path if path.starts_with("/pause/") => {
                let said = Bytes::copy_from_slice(&path.as_bytes()["/pause/".len()..]);
                let begun = futures_util::stream::iter([Ok(Frame::data(said))]);
                Response::new(UnsyncBoxBody::new(StreamBody::new(begun.chain(futures_util::stream::pending()))))
            }
            "/half/git-upload-pack" => {
                let standing = Half::of(&self.flow);
                let half = futures_util::stream::iter([Ok(Frame::data(super::bands::half().into()))]);
                let rest = futures_util::stream::once(async move {
                    let _standing = standing;
                    std::future::pending().await
                });
                let answer = Response::new(UnsyncBoxBody::new(StreamBody::new(half.chain(rest))));
                with(answer, "content-type", "application/x-git-upload-pack-result")
            }
            "/repo.git/info/refs" => super::said::references(StatusCode::OK, super::world::TOKEN),
            path => said(StatusCode::OK, format!("{} {path}", head.method)),
        }
    }
}

/// Says over a WebSocket what stands in the frames that it is sent, byte for byte, whether that is frames or not.
async fn parrot(on: hyper::upgrade::OnUpgrade) {
    let Ok(stream) = on.await else { return };
    let mut stream = TokioIo::new(stream);
    let mut head = [0; 8];
    // Either side may end it.
    while stream.read_exact(&mut head).await.is_ok() {
        assert_eq!(head[1], 0x80 | 126, "a frame as `writes::frame` makes them");
        let mut payload = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
        if stream.read_exact(&mut payload).await.is_err() || stream.write_all(&payload).await.is_err() {
            return;
        }
    }
}

fn tokio_stream(
    frames: [Result<Frame<Bytes>, Infallible>; 2],
) -> impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> {
    futures_util::stream::iter(frames)
}

pub(super) fn said(status: StatusCode, words: impl Into<Bytes>) -> Response<Words> {
    let mut answer = Response::new(UnsyncBoxBody::new(Full::new(words.into())));
    *answer.status_mut() = status;
    answer
}

pub(super) fn with(mut answer: Response<Words>, name: &'static str, value: &'static str) -> Response<Words> {
    answer.headers_mut().append(name, HeaderValue::from_static(value));
    answer
}
