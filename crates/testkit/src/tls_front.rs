//! TLS in front of what speaks without: a name, an authority of its own, and the bytes passed on.

use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, crypto::aws_lc_rs};

/// A port of loopback that speaks TLS under a name; it lasts as long as the test's process.
pub struct TlsFront {
    port: u16,
    authority: tempfile::NamedTempFile,
}

impl TlsFront {
    /// Passes what comes on to `to`. Its certificate is for `name`: a host's, or an address.
    ///
    /// # Panics
    /// When it cannot be served.
    #[must_use]
    pub fn start(to: SocketAddr, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
        let authority = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(authority.path(), issuer.pem()).expect("it is written");
        let key = KeyPair::generate().expect("a key");
        let leaf = CertificateParams::new(vec![name.to_owned()]).expect("a name").signed_by(&key, &issuer);
        let leaf = leaf.expect("signed").der().clone();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("its own versions")
            .with_no_client_auth()
            .with_single_cert(vec![leaf], PrivateKeyDer::try_from(key.serialize_der()).expect("a key"))
            .expect("they fit");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("it can be");
        let port = listener.local_addr().expect("a listener has an address").port();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    let acceptor = acceptor.clone();
                    tokio::spawn(async move {
                        // Who does not trust us hangs up.
                        let Ok(mut tls) = acceptor.accept(stream).await else { return };
                        let Ok(mut plain) = TcpStream::connect(to).await else { return };
                        drop(tokio::io::copy_bidirectional(&mut tls, &mut plain).await);
                    });
                }
            });
        });
        Self { port, authority }
    }

    /// Its address as a URL, on 127.0.0.1.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Its authority, a PEM file.
    #[must_use]
    pub fn authority(&self) -> &Path {
        self.authority.path()
    }
}
