//! A company's way out: its own proxy, told the checked address; or one that takes names only.

use crate::egress::platform;
use crate::egress::world::{PUBLIC, TOKEN, World, any, writes};
use crate::house::HANDLE;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway::OutwardProxy;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// The proxy's address, inside the company's network.
const PROXY: &str = "10.9.9.9";

/// A proxy that connects whatever it is told, and keeps what it was told. Names go to the public address.
#[derive(Clone, Default)]
pub(super) struct Proxy(Arc<Mutex<Vec<String>>>);

impl Proxy {
    /// One that connects only whom it knows by `pair`.
    async fn serve_signed_in(&self, pair: &str) {
        let known = format!("proxy-authorization: Basic {}", STANDARD.encode(pair));
        self.serve_if("200 OK", move |head| head.lines().any(|line| line == known)).await;
    }

    pub(super) async fn serve(&self, status: &'static str) {
        self.serve_if(status, |_| true).await;
    }

    async fn serve_if(&self, status: &'static str, knows: impl Fn(&str) -> bool + Send + Sync + 'static) {
        let listener = TcpListener::bind((PROXY, 3128)).await.unwrap();
        self.serve_on(listener, status, knows);
    }

    fn serve_on(
        &self,
        listener: TcpListener,
        status: &'static str,
        knows: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) {
        let knows = Arc::new(knows);
        let told = self.0.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (told, knows) = (told.clone(), knows.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    let head = String::from_utf8(head).unwrap();
                    let target = head.split(' ').nth(1).unwrap().to_owned();
                    told.lock().unwrap().push(head.lines().next().unwrap().to_owned());
                    let status = if knows(&head) { status } else { "407 Proxy Authentication Required" };
                    stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.unwrap();
                    if status.starts_with('2') {
                        let port = target.rsplit(':').next().unwrap();
                        let mut out = TcpStream::connect(format!("{PUBLIC}:{port}")).await.unwrap();
                        // Either side may end it.
                        drop(copy_bidirectional(&mut stream, &mut out).await);
                    }
                });
            }
        });
    }
    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

async fn world_by(resolves: bool, pair: Option<&str>, table: model::Egress) -> World {
    let sign_in = pair.map(|pair| Arc::new(model::Secret::new(pair.to_owned())));
    let proxy = OutwardProxy { host: "proxy.corp".to_owned(), port: 3128, resolves, sign_in };
    let world = World::of(table, true, |outward| outward.proxy = Some(proxy)).await;
    world.names.set("proxy.corp", &[&[PROXY]]);
    world
}

async fn world(resolves: bool, status: &'static str, table: model::Egress) -> (World, Proxy) {
    let world = world_by(resolves, None, table).await;
    let told = Proxy::default();
    told.serve(status).await;
    (world, told)
}

#[tokio::test(flavor = "current_thread")]
async fn a_proxy_is_told_the_checked_address_and_the_host_keeps_its_name() {
    let (world, proxy) = world(false, "200 OK", any()).await;
    assert_eq!(world.get("GET http://a.example/", "").await.status, 200);
    assert_eq!(world.https("a.example", "GET /", b"").await.status, 200);
    let told = proxy.told();
    assert_eq!(told, [format!("CONNECT {PUBLIC}:80 HTTP/1.1"), format!("CONNECT {PUBLIC}:443 HTTP/1.1")]);
    assert!(
        world
            .origin
            .seen()
            .iter()
            .all(|seen| seen.target.contains("a.example") || seen.header("host") == Some("a.example"))
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_proxy_is_named_by_an_address_of_ipv6_too_as_it_stands_in_a_url() {
    let proxy = OutwardProxy { host: "[::1]".to_owned(), port: 3128, resolves: false, sign_in: None };
    let world = World::of(any(), true, |outward| outward.proxy = Some(proxy)).await;
    let proxy = Proxy::default();
    proxy.serve_on(TcpListener::bind("[::1]:3128").await.unwrap(), "200 OK", |_| true);
    assert_eq!(world.get("GET http://a.example/", "").await.status, 200);
    assert_eq!(proxy.told(), [format!("CONNECT {PUBLIC}:80 HTTP/1.1")]);
}

#[tokio::test(flavor = "current_thread")]
async fn why_a_host_gave_no_answer_is_told_with_the_outcome_and_to_the_agent_with_what_helps() {
    use model::Unanswered::{Name, Proxy as ByProxy, Tls};
    let mut plain = World::with(any()).await;
    for (https, host, fault, helps) in
        [(false, "nowhere.example", Name, "--name-server"), (true, "untrusted.example", Tls, "--extra-roots")]
    {
        let got = if https {
            plain.https(host, "GET /", b"").await
        } else {
            plain.get(&format!("GET http://{host}/"), "").await
        };
        assert_eq!((got.status, got.rule().as_str()), (502, fault.rule()));
        assert!(got.json()["error"]["ask"].as_str().is_some_and(|ask| ask.contains(helps)), "{}", got.json());
        let outcome = plain.settled().await;
        assert_eq!((outcome.status, outcome.fault), (0, Some(fault)), "{host}");
    }
    let (mut world, _proxy) = world(false, "403 Forbidden", any()).await;
    assert_eq!(world.get("GET http://a.example/", "").await.rule(), "egress.proxy");
    assert_eq!(world.settled().await.fault, Some(ByProxy));
}

#[tokio::test(flavor = "current_thread")]
async fn a_call_of_the_platforms_own_goes_through_the_proxy_to_the_checked_address() {
    let (mut world, proxy) = world(false, "200 OK", any()).await;
    let word = platform::made(&mut world, platform::call("https://a.example/x")).await;
    assert!(matches!(word, api::platform::CallWord::Answered { status: 200, .. }), "{word:?}");
    assert_eq!(proxy.told(), [format!("CONNECT {PUBLIC}:443 HTTP/1.1")]);
    world.names.set("a.example", &[&["10.0.0.1"]]);
    let word = platform::made(&mut world, platform::call("https://a.example/x")).await;
    assert!(matches!(word, api::platform::CallWord::Fault { unsent: true, .. }), "{word:?}");
    assert!(proxy.told().is_empty());
}

#[tokio::test(flavor = "current_thread")]
async fn through_a_proxy_every_address_is_judged_as_without() {
    let (world, proxy) = world(false, "200 OK", any()).await;
    for (answer, rule) in [
        (&["10.0.0.1"][..], "address.private"),
        (&[PUBLIC, "10.0.0.1"], "address.mixed"),
        (&["169.254.169.254"], "address.metadata"),
    ] {
        world.names.set("evil.example", &[answer]);
        assert_eq!(world.get("GET http://evil.example/", "").await.rule(), rule);
        assert!(proxy.told().is_empty(), "{answer:?}");
    }
    // The proxy itself is not a host that a box can name.
    assert_eq!(world.get("GET http://proxy.corp:3128/", "").await.rule(), "host.internal");
}

#[tokio::test(flavor = "current_thread")]
async fn a_proxy_that_refuses_is_a_fault_and_nothing_goes_round_it() {
    let (world, proxy) = world(false, "403 Forbidden", any()).await;
    let got = world.get("GET http://a.example/", "").await;
    assert_eq!((got.status, got.rule().as_str()), (502, "egress.proxy"));
    assert_eq!(proxy.told().len(), 1);
    assert!(world.origin.seen().is_empty());
    assert!(world.origin.connected().is_empty());
}

#[tokio::test(flavor = "current_thread")]
async fn where_the_proxy_resolves_reads_pass_by_name_and_no_credential_goes() {
    let table = writes("api.example", "POST", "/");
    let (world, proxy) = world(true, "200 OK", table).await;
    world.desk(|desk| desk.credential = Some((TOKEN.to_owned(), "api.example".to_owned(), 443)));
    assert_eq!(world.get("GET http://unknown-here.example/", "").await.status, 200);
    assert_eq!(proxy.told(), ["CONNECT unknown-here.example:80 HTTP/1.1"]);
    assert!(world.desk(|desk| desk.asked.pop()).unwrap().delegated, "the record says who checks the addresses");
    assert_eq!(world.get(&format!("GET http://{PUBLIC}/"), "").await.status, 200);
    assert!(!world.desk(|desk| desk.asked.pop()).unwrap().delegated, "an address is checked here");
    proxy.told();
    world.origin.seen();
    let head = format!("POST /x\r\nauthorization: Bearer {HANDLE}\r\ncontent-length: 0\r\n");
    let got = world.https("api.example", &head, b"").await;
    assert_eq!((got.status, got.rule().as_str()), (403, "inject.address"));
    assert!(world.origin.seen().is_empty());
    assert_eq!(world.get("GET http://10.0.0.1/", "").await.rule(), "host.private");
}

#[tokio::test(flavor = "current_thread")]
async fn an_exception_names_a_service_inside_and_is_not_asked_of_the_proxy() {
    let row = model::egress::InternalRow {
        host: "wiki.corp".into(),
        port: 80,
        addresses: vec!["10.2.0.0/16".into()],
        why: String::new(),
    };
    let (world, proxy) = world(false, "200 OK", model::Egress { internal: vec![row], ..any() }).await;
    world.names.set("wiki.corp", &[&["10.2.3.4"]]);
    assert_eq!(world.get("GET http://wiki.corp/", "").await.status, 200);
    assert!(proxy.told().is_empty());
    assert_eq!(world.saw().at.ip().to_string(), "10.2.3.4");
}

#[tokio::test(flavor = "current_thread")]
async fn a_proxy_that_asks_for_a_sign_in_gets_it_and_nobody_else_does() {
    let pair = "gateway:proxy-canary-51d0";
    let row = model::egress::InternalRow {
        host: "wiki.corp".into(),
        port: 80,
        addresses: vec!["10.2.0.0/16".into()],
        why: String::new(),
    };
    let world = world_by(false, Some(pair), model::Egress { internal: vec![row], ..any() }).await;
    world.names.set("wiki.corp", &[&["10.2.3.4"]]);
    let proxy = Proxy::default();
    proxy.serve_signed_in(pair).await;
    let answers = [
        world.get("GET http://a.example/hops", "").await,
        world.https("a.example", "GET /hops", b"").await,
        world.get("GET http://wiki.corp/hops", "").await,
    ];
    assert_eq!(proxy.told().len(), 2);
    let seen = world.origin.seen();
    assert_eq!(seen.len(), 3);
    let shown = format!("{seen:?} {answers:?}");
    assert!(!shown.contains("proxy-authorization") && !shown.contains(&STANDARD.encode(pair)), "{shown}");
}

#[tokio::test(flavor = "current_thread")]
async fn without_its_sign_in_such_a_proxy_connects_nothing_whatever_a_box_sends() {
    for pair in [None, Some("gateway:another")] {
        let mut world = world_by(false, pair, any()).await;
        let proxy = Proxy::default();
        proxy.serve_signed_in("gateway:right").await;
        let got = world.get("GET http://a.example/", "").await;
        assert_eq!((got.status, got.rule().as_str()), (502, "egress.proxy"));
        // A status of the proxy's is no answer to a box, which would sign in then.
        assert!(!got.head.contains("407") && !got.head.contains("proxy-authenticate"), "{}", got.head);
        assert_eq!(proxy.told().len(), 1);
        let own = format!("proxy-authorization: Basic {}\r\n", STANDARD.encode("gateway:right"));
        assert_eq!(world.get("GET http://a.example/", &own).await.rule(), "read.credential");
        assert_eq!(world.refusal().await.rule, "read.credential");
        assert!(proxy.told().is_empty() && world.origin.seen().is_empty());
    }
}
