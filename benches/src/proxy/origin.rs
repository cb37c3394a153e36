//! A network in which every address is this machine, and the one origin that answers in it, plainly and in TLS.

use anyhow::{Context, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Once};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// The host that is read.
pub const HOST: &str = "a.example";
/// The host that a blind tunnel leads to.
pub const REGISTRY: &str = "registry.example";
/// Its addresses, and those of every name here: a name without one of the two would be asked of a name server.
pub const ADDRESS: &str = "93.184.216.34";
const ADDRESS_6: &str = "2606:2800:220:1::34";
/// Bytes of an answer's body.
const BODY: usize = 1024;

/// What the measured ones need to know of the network.
pub struct World {
    /// The authority that the origin's certificate is of: the file, and its text.
    pub roots: PathBuf,
    pub pem: String,
    /// An authority for proxies that are given one: certificate and key in one file.
    pub proxy_authority: PathBuf,
    pub proxy_pem: String,
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

impl World {
    /// Puts this thread, and what it starts, into it, and serves the origin there until the program ends.
    pub fn enter(dir: &Path) -> Result<Self> {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| drop(rustls::crypto::aws_lc_rs::default_provider().install_default()));
        // SAFETY: it changes what this thread sees, and no memory.
        let left = unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) };
        ensure!(left == 0, "no network of its own: {}", std::io::Error::last_os_error());
        let hosts = dir.join("hosts");
        let lines = format!("127.0.0.1 localhost\n{ADDRESS} {HOST} {REGISTRY}\n{ADDRESS_6} {HOST} {REGISTRY}\n");
        std::fs::write(&hosts, lines)?;
        let hosts = hosts.to_str().context("a plain path")?;
        for line in [
            "mount --make-rprivate /",
            &format!("mount --bind {hosts} /etc/hosts"),
            "ip link set lo up",
            "ip route add local 0.0.0.0/0 dev lo",
            "ip -6 route add local ::/0 dev lo",
        ] {
            let mut words = line.split(' ');
            let done = Command::new(words.next().unwrap_or_default()).args(words).status()?;
            ensure!(done.success(), "{line}");
        }
        let origins = authority("origin")?;
        let proxys = authority("proxy")?;
        let (roots, proxy_authority) = (dir.join("origin.pem"), dir.join("proxy.pem"));
        std::fs::write(&roots, origins.pem())?;
        std::fs::write(&proxy_authority, format!("{}{}", proxys.pem(), proxys.key().serialize_pem()))?;
        let key = KeyPair::generate()?;
        let leaf = CertificateParams::new(vec![HOST.to_owned(), REGISTRY.to_owned()])?.signed_by(&key, &origins)?;
        let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let mut config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], private)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (told, tells) = std::sync::mpsc::channel();
        std::thread::spawn(move || told.send(serve(config.into())));
        // It serves until the program ends, and says something only when it cannot.
        if let Ok(ended) = tells.recv_timeout(std::time::Duration::from_millis(300)) {
            ended?;
        }
        Ok(Self { roots, pem: origins.pem(), proxy_authority, proxy_pem: proxys.pem() })
    }
}

fn serve(tls: Arc<rustls::ServerConfig>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let plain = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 80)).await?;
        let secure = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 443)).await?;
        let acceptor = tokio_rustls::TlsAcceptor::from(tls);
        // The end of a connection is the end of a client.
        let plainly = async {
            while let Ok((stream, _)) = plain.accept().await {
                stream.set_nodelay(true)?;
                tokio::spawn(async move { drop(answer(stream).await) });
            }
            anyhow::Ok(())
        };
        let securely = async {
            while let Ok((stream, _)) = secure.accept().await {
                stream.set_nodelay(true)?;
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        drop(answer(stream).await);
                    }
                });
            }
            anyhow::Ok(())
        };
        tokio::try_join!(plainly, securely)?;
        Ok(())
    })
}

/// Answers requests without a body, one after the other.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
    let body = "The origin says the same to everyone. ".repeat(BODY / 38 + 1);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {BODY}\r\n\r\n");
    let whole = [head.as_bytes(), &body.as_bytes()[..BODY]].concat();
    let mut got = Vec::with_capacity(8 * 1024);
    loop {
        let end = loop {
            if let Some(at) = got.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut got).await? == 0 {
                return Ok(());
            }
        };
        got.drain(..end);
        stream.write_all(&whole).await?;
        stream.flush().await?;
    }
}
