//! What a request names and carries, read once; every later step uses this and not the text.
//!
//! The places in which a request says where it goes (target, `Host` or `:authority`, the CONNECT before it, the name
//! in its TLS) must agree; where they do not, two programs on the way could each follow another one.

use crate::refusal::Refusal;
use http::{HeaderMap, Request, Version, header};
use policy::egress::target::{self, Scheme};
use policy::egress::{Form, Name, Signs, signs};

/// How a request reached the gateway.
#[derive(Debug, Clone)]
pub(crate) enum Came {
    /// Plainly, on the run's listener.
    Plain,
    /// Inside TLS, which a CONNECT asked for.
    Inside(Inside),
}

/// What is known of TLS that the gateway opened.
#[derive(Debug, Clone)]
pub(crate) struct Inside {
    /// Of the CONNECT; the name in TLS, where there is one, is the same.
    pub(crate) host: Name,
    pub(crate) port: u16,
    /// Whether TLS named it; an address is named by nobody.
    pub(crate) named: bool,
}

/// A request, read.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) form: Form,
    pub(crate) host: Name,
    pub(crate) port: u16,
    /// Path and query; empty for CONNECT.
    pub(crate) path: String,
    pub(crate) signs: Signs,
    /// Whether every place that names the host was there and agreed: what a credential needs.
    pub(crate) agreed: bool,
}

impl Asked {
    /// The target for a verdict: no query.
    pub(crate) fn target(&self) -> String {
        let scheme = if self.form == Form::Plain { Scheme::Http } else { Scheme::Https };
        let name = match scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let port = if self.port == scheme.port() { String::new() } else { format!(":{}", self.port) };
        let path = self.path.split('?').next().unwrap_or_default();
        let path = if signs::hides_handle(path.as_bytes()) { "/[handle]" } else { path };
        let host = self.host.as_str();
        let host = if signs::holds_handle(host.as_bytes()) { "[handle]" } else { host };
        format!("{name}://{host}{port}{path}")
    }
}

fn differ<T>(why: &str) -> Result<T, Refusal> {
    Err(Refusal::policy("host.differs", why))
}

/// Reads a request.
///
/// # Errors
/// The rules of `policy::egress::target` and of names; `host.differs`; `request.form`.
pub(crate) fn read<B: http_body::Body>(came: &Came, request: &Request<B>) -> Result<Asked, Refusal> {
    let no = |no: policy::Refusal| Refusal::policy(no.rule, no.why);
    let mut signs = Signs::of(request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
    // HTTP/2 needs no header to announce a body.
    signs.body |= !request.body().is_end_stream();
    let uri = request.uri();
    if request.method() == http::Method::CONNECT {
        signs.upgrade |= request.extensions().get::<hyper::ext::Protocol>().is_some();
        if matches!(came, Came::Inside(_)) {
            return Err(Refusal::policy("connect.inside", "There is no tunnel inside a tunnel."));
        }
        let text = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let (host, port) = target::authority(text).map_err(no)?;
        if let Some(header) = host_header(request.headers())? {
            // Some clients leave the port out here.
            let (named, at) = target::host_header(header, Scheme::Https).map_err(no)?;
            if named != host || (at != port && header.contains(':') && !header.ends_with(']')) {
                return differ("The Host header names another host than the CONNECT line.");
            }
        }
        return Ok(Asked { form: Form::Connect, host, port, path: String::new(), signs, agreed: false });
    }
    match came {
        Came::Plain => {
            let text = uri.to_string();
            let url = target::absolute(&text).map_err(no)?;
            if url.scheme == Scheme::Https {
                return Err(Refusal::policy("request.form", "https goes through CONNECT; a plain request names http."));
            }
            if let Some(header) = host_header(request.headers())? {
                let named = target::host_header(header, Scheme::Http).map_err(no)?;
                if named != (url.host.clone(), url.port) {
                    return differ("The Host header names another host than the request line.");
                }
            }
            let path = url.path.to_owned();
            Ok(Asked { form: Form::Plain, host: url.host, port: url.port, path, signs, agreed: false })
        }
        Came::Inside(inside) => {
            let agrees = |host: &Name, port: u16| *host == inside.host && port == inside.port;
            let text = uri.to_string();
            let path = if uri.scheme().is_some() || uri.authority().is_some() {
                let url = target::absolute(&text).map_err(no)?;
                if url.scheme != Scheme::Https || !agrees(&url.host, url.port) {
                    return differ("The request names another host than the connection that it came on.");
                }
                url.path.to_owned()
            } else {
                target::origin(&text).map_err(no)?.to_owned()
            };
            let two = request.version() == Version::HTTP_2;
            match host_header(request.headers())? {
                Some(header) => {
                    let (host, port) = target::host_header(header, Scheme::Https).map_err(no)?;
                    if !agrees(&host, port) {
                        return differ("The Host header names another host than the connection that it came on.");
                    }
                }
                // In HTTP/2 `:authority` stands for it.
                None if two && uri.authority().is_some() => {}
                None => return differ("The request names no host."),
            }
            let named = inside.named || inside.host.address().is_some();
            Ok(Asked {
                form: Form::Intercepted,
                host: inside.host.clone(),
                port: inside.port,
                path,
                signs,
                agreed: named,
            })
        }
    }
}

fn host_header(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut all = headers.get_all(header::HOST).iter();
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(one), None) => match one.to_str() {
            Ok(text) => Ok(Some(text)),
            Err(_) => differ("The Host header is no text."),
        },
        (Some(_), Some(_)) => differ("The request has more than one Host header."),
    }
}
