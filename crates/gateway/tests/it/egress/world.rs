//! A world of its own: a network in which every address is this machine, a name server, hosts, a gateway, a box.

use crate::egress::names::{self, Names};
use crate::egress::origin::{Origin, Seen};
use crate::house::{self, Desk, Got, HANDLE, House, Word, soon};
use api::grants::FromGateway;
use model::Egress;
use model::event::Verdict;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use std::process::Command;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A public address. In the test's network it is this machine, as every other.
pub const PUBLIC: &str = "93.184.216.34";
pub const PUBLIC_6: &str = "2606:2800:220:1::34";
/// What a handle stands for. It must never be seen by a client.
pub const TOKEN: &str = "tok-canary-83b1f5d2c7a9e046";

pub struct World {
    pub house: House,
    pub names: Names,
    pub origin: Origin,
}

/// Puts this thread, and what it starts, into a network in which every address is this machine.
fn enter() {
    assert!(rustix::process::geteuid().is_root(), "run as root");
    // SAFETY: it changes which network this thread sees, and no memory.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("a network of our own");
    for line in ["link set lo up", "route add local 0.0.0.0/0 dev lo", "-6 route add local ::/0 dev lo"] {
        let done = Command::new("ip").args(line.split(' ')).status().expect("iproute2 is there");
        assert!(done.success(), "ip {line}");
    }
}

impl World {
    /// A world in which a run has this table.
    pub async fn with(table: Egress) -> Self {
        Self::of(table, true, |_| {}).await
    }

    /// The same; `two` says whether hosts offer HTTP/2, `change` how the outside is reached.
    pub async fn of(table: Egress, two: bool, change: impl FnOnce(&mut gateway::Outward)) -> Self {
        enter();
        house::install_tls();
        let (names, origin) = (Names::default(), Origin::new(two));
        names.serve().await;
        for (port, tls) in [(80, false), (443, true), (8080, false), (8443, true)] {
            origin.serve(port, tls).await;
        }
        for name in ["a.example", "b.example", "untrusted.example", "wrong.example"] {
            names.set(name, &[&[PUBLIC]]);
        }
        let mut outward =
            gateway::Outward { name_servers: vec![names::ADDRESS.parse().expect("an address")], proxy: None };
        change(&mut outward);
        let house = House::outward(Word::Deny, origin.roots(), outward, table).await;
        Self { house, names, origin }
    }

    pub fn desk<T>(&self, change: impl FnOnce(&mut Desk) -> T) -> T {
        change(&mut self.house.desk.lock().expect("unpoisoned"))
    }

    /// Another table, from now on: a refusal by the one before counts for a quarter of a second more.
    pub async fn legislate(&self, table: Egress) {
        self.desk(|desk| {
            desk.table = table;
            desk.version += 1;
        });
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }

    /// A plain request through the door, `more` its further header lines.
    pub async fn get(&self, line: &str, more: &str) -> Got {
        let host = line.split("://").nth(1).unwrap_or("x").split(['/', '?', ' ']).next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        house::ask(self.house.door, &format!("{line} HTTP/1.1\r\nhost: {host}\r\n{more}connection: close\r\n\r\n"), b"")
            .await
    }

    /// These very bytes through the door.
    pub async fn raw(&self, bytes: &[u8]) -> Got {
        house::ask(self.house.door, "", bytes).await
    }

    /// A CONNECT; the stream, when it was granted.
    pub async fn connect(&self, target: &str) -> Result<TcpStream, Got> {
        soon("an answer to CONNECT", async {
            let mut stream = TcpStream::connect(self.house.door).await.expect("the door is open");
            let head = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.expect("written");
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                answer.push(stream.read_u8().await.expect("an answer"));
            }
            if answer.starts_with(b"HTTP/1.1 200") {
                return Ok(stream);
            }
            let ended = stream.read_to_end(&mut answer).await;
            Err(house::parse(&answer, ended.is_ok()))
        })
        .await
    }

    /// TLS by `name` inside a CONNECT to `host`, as a box does it that trusts the run's authority.
    pub async fn tls(&self, target: &str, name: &str, alpn: &[&[u8]]) -> std::io::Result<Tls> {
        self.tls_of(target, name, true, alpn).await
    }

    /// The same; `sni` says whether the first message names the host.
    pub async fn tls_of(&self, target: &str, name: &str, sni: bool, alpn: &[&[u8]]) -> std::io::Result<Tls> {
        let stream = self.connect(target).await.expect("a tunnel");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.house.authority.as_bytes()).expect("PEM")).expect("an authority");
        let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.enable_sni = sni;
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        soon("TLS", tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }

    /// One request over HTTP/1.1 inside TLS with `host` on port 443. `head` is the request line and headers but Host.
    pub async fn https(&self, host: &str, head: &str, body: &[u8]) -> Got {
        let mut tls = self.tls(&format!("{host}:443"), host, &[b"http/1.1"]).await.expect("TLS with the gateway");
        let (line, more) = head.split_once("\r\n").unwrap_or((head, ""));
        let head = format!("{line} HTTP/1.1\r\nhost: {host}\r\n{more}connection: close\r\n\r\n");
        talk(&mut tls, &[head.as_bytes(), body].concat()).await
    }

    /// A WebSocket at `/socket` of `host`, with the run's handle and these header lines more; and the head of its answer.
    pub async fn websocket(&self, host: &str, more: &str) -> (Tls, String) {
        let mut tls = self.tls(&format!("{host}:443"), host, &[b"http/1.1"]).await.expect("TLS with the gateway");
        let bearer = format!("authorization: Bearer {HANDLE}\r\n");
        let head = format!("GET /socket HTTP/1.1\r\nhost: {host}\r\n{bearer}{WEBSOCKET}{more}\r\n");
        tls.write_all(head.as_bytes()).await.expect("written");
        let mut answer = Vec::new();
        soon("an answer", async {
            while !answer.ends_with(b"\r\n\r\n") {
                answer.push(tls.read_u8().await.expect("an answer"));
            }
        })
        .await;
        (tls, String::from_utf8(answer).expect("text"))
    }

    /// The one request that a host saw; none or more is a failure.
    pub fn saw(&self) -> Seen {
        let mut seen = self.origin.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }

    /// No host was asked anything, and none connected to, since the last look.
    pub fn nothing_left(&self, what: &str) {
        assert!(self.origin.connected().is_empty() && self.origin.seen().is_empty(), "{what}");
    }

    /// The next refusal that was recorded.
    pub async fn refusal(&mut self) -> Verdict {
        loop {
            match self.house.hear().await {
                FromGateway::Refused { verdict, .. } => return verdict,
                FromGateway::SettleEgress { .. } => {}
                other => panic!("not a refusal: {other:?}"),
            }
        }
    }

    /// The next settlement.
    pub async fn settled(&mut self) -> api::grants::EgressOutcome {
        match self.house.hear().await {
            FromGateway::SettleEgress { outcome, .. } => outcome,
            other => panic!("not a settlement: {other:?}"),
        }
    }
}

/// The headers that ask for a WebSocket, with the key of RFC 6455's own example.
pub const WEBSOCKET: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// TLS of a box.
pub type Tls = tokio_rustls::client::TlsStream<TcpStream>;

/// Sends bytes and reads the answer to the end of the connection.
pub async fn talk(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) -> Got {
    soon("the request's end", async {
        // A refusal may come before all is taken; then writing fails, and reading tells why.
        drop(stream.write_all(bytes).await);
        drop(stream.flush().await);
    })
    .await;
    let mut all = Vec::<u8>::new();
    // Patience for each piece: some answers are long.
    let end = std::time::Instant::now() + house::PATIENCE * 10;
    let ended = loop {
        assert!(std::time::Instant::now() < end, "an answer without an end");
        match soon("more of an answer", stream.read_buf(&mut all)).await {
            Ok(0) => break true,
            Ok(_) => {}
            Err(_) => break false,
        }
    };
    house::parse(&all, ended)
}

/// The table that reads anything.
pub fn any() -> Egress {
    Egress::default()
}

/// A table with one row to write.
pub fn writes(host: &str, method: &str, path: &str) -> Egress {
    let row = model::egress::WriteRow {
        capability: "api".to_owned(),
        host: host.to_owned(),
        method: method.to_owned(),
        path: path.to_owned(),
        port: None,
    };
    Egress { write: vec![row], ..Egress::default() }
}
