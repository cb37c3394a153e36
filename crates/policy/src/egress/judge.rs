//! The word on one request.

use super::host::Private;
use super::law::{UPGRADE, Write};
use super::proposal::{self, Proposal};
use super::target::Scheme;
use super::{Handle, Law, Name, Signs, credentials, next, path, signs};
use model::egress::Reads;

/// What a box asks of the forward proxy.
#[derive(Debug)]
pub struct Ask<'a> {
    /// How it came.
    pub form: Form,
    /// The method, as written: methods are case-sensitive.
    pub method: &'a str,
    /// The host: of the target, of the Host header or `:authority`, and of the CONNECT and SNI before, which the
    /// caller has found equal.
    pub host: &'a Name,
    /// The port.
    pub port: u16,
    /// Path and query; empty for CONNECT.
    pub path: &'a str,
    /// What its headers carry.
    pub signs: &'a Signs,
}

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Plain HTTP, the target an absolute URL.
    Plain,
    /// HTTPS that the gateway opened with the run's own authority.
    Intercepted,
    /// The CONNECT that asks for HTTPS.
    Connect,
}

/// The word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on, to addresses that [`Law::check_addresses`] takes.
    Allow(Allowed),
    /// It may not.
    Deny(Box<Denial>),
}

/// What is allowed, and under which name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// As what.
    pub kind: Kind,
    /// Stable name of the rule: `read.any`, `read.row`, `read.package`, `write.row`, `connect.intercept`, `connect.tunnel`.
    pub rule: &'static str,
    /// The exception for the host and port, for [`Law::check_addresses`].
    pub internal: Option<usize>,
}

/// As what a request is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A read. Redirects go back to the box, which asks again.
    Read,
    /// A read of a package registry.
    Package,
    /// A request with a credential: row of the profile's `write`. No redirect is followed or passed; the server
    /// gives the credential for this run's handle only.
    Write {
        /// The row, for [`Law::write`].
        row: usize,
    },
    /// A CONNECT: open it with the run's authority, and judge each request inside.
    Intercept,
    /// A CONNECT: pass bytes blindly within this budget, when the name in the ClientHello is the host's.
    Tunnel(Budget),
}

/// What one tunnel may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Budget {
    /// Both ways together, in bytes.
    pub bytes: u64,
    /// How long it may stand, in seconds.
    pub seconds: u64,
}

/// A refusal, for the agent and for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Stable name of the rule, e.g. `write.no-row`.
    pub rule: &'static str,
    /// One or two sentences a model can act on.
    pub why: String,
    /// The narrowest change of the profile that would allow it; None where none does.
    pub proposal: Option<Proposal>,
    /// What the agent does itself to be let through: where a row allows it, or where the request is to be sent otherwise;
    /// one or two sentences.
    pub next: Option<String>,
    /// A row could allow it and none is offered: what runs on the platform's own machine is opened by who thought of it, and of
    /// a path that is too long a shorter one would open more.
    pub by_hand: bool,
}

impl Denial {
    /// A refusal that no change of a profile lifts; perhaps one of the request ([`next::of`]).
    #[must_use]
    pub fn new(rule: &'static str, why: impl Into<String>) -> Self {
        Self { rule, why: why.into(), proposal: None, next: next::of(rule).map(str::to_owned), by_hand: false }
    }

    /// What the agent may do about it, one sentence.
    #[must_use]
    pub fn ask(&self) -> &'static str {
        if self.proposal.is_some() {
            "This is policy and not a fault: trying again or another way gives the same answer. The people who own this \
             run see the rule that would allow it and may add it; say in your answer what you need it for."
        } else if self.by_hand {
            "This is policy and not a fault: trying again or another way gives the same answer. No rule is offered for \
             this, and an administrator may write one; say in your answer what you need it for."
        } else {
            "This is policy and not a fault: trying again or another way gives the same answer, and no rule can be \
             added that would allow it."
        }
    }
}

/// Judges one request by a profile's law. What no rule allows is refused.
#[must_use]
pub fn judge(law: &Law, ask: &Ask) -> Verdict {
    match word(law, ask) {
        Ok(allowed) => Verdict::Allow(allowed),
        Err(denial) => Verdict::Deny(denial),
    }
}

type Word = Result<Allowed, Box<Denial>>;

fn deny<T>(rule: &'static str, why: impl Into<String>) -> Result<T, Box<Denial>> {
    Err(Box::new(Denial::new(rule, why)))
}

fn offer<T>(rule: &'static str, why: impl Into<String>, proposal: Option<Proposal>) -> Result<T, Box<Denial>> {
    let by_hand = proposal.is_none();
    Err(Box::new(Denial { proposal, by_hand, ..Denial::new(rule, why) }))
}

fn word(law: &Law, ask: &Ask) -> Word {
    let internal = law.exception(ask.host, ask.port);
    reachable(law, ask, internal)?;
    let in_url = signs::hides_handle(ask.path.as_bytes()) || signs::holds_handle(ask.host.as_str().as_bytes());
    if matches!(ask.signs.handle, Handle::Misplaced) || in_url {
        return deny(
            "handle.misplaced",
            "A handle stands where no credential does (in the URL, in the password, twice, in another header); it goes \
             alone into one header, or as the user of basic auth.",
        );
    }
    let scheme = match ask.form {
        Form::Connect => return connect(law, ask, internal),
        Form::Plain => Scheme::Http,
        Form::Intercepted => Scheme::Https,
    };
    if let Err(no) = path::check(ask.path) {
        return deny(no.rule, no.why);
    }
    if ask.signs.overrides || path::overrides_method(ask.path) {
        return deny(
            "method.override",
            "A header or a parameter asks for another method, host or path than the request's own; leave it out.",
        );
    }
    let read = matches!(ask.method, "GET" | "HEAD") && !ask.signs.upgrade;
    let anonymous = matches!(ask.signs.handle, Handle::None) && !ask.signs.credential;
    if read && anonymous { read_word(law, ask, scheme, internal) } else { write_word(law, ask, scheme, read, internal) }
}

/// Refuses hosts that are nobody's public service, but for the exceptions.
fn reachable(law: &Law, ask: &Ask, internal: Option<usize>) -> Result<(), Box<Denial>> {
    match ask.host.private() {
        Some(Private::Metadata) => {
            deny("host.metadata", "This host hands out a machine's credentials; no run reaches it.")
        }
        Some(_) if internal.is_some() => Ok(()),
        None => Ok(()),
        Some(private) => {
            let (rule, why) = match private {
                _ if law.has_exception(ask.host) => {
                    ("port.closed", "This port is closed: the profile's exception for this host is for another one.")
                }
                Private::Address => {
                    ("host.private", "This address is not a public one, and the profile has no exception for it.")
                }
                _ => {
                    ("host.internal", "This name exists only inside networks, and the profile has no exception for it.")
                }
            };
            let proposal = proposal::internal(law, ask.host, ask.port);
            let by_hand = proposal.is_none() && proposal::is_own_machine(ask.host);
            Err(Box::new(Denial { proposal, by_hand, ..Denial::new(rule, why) }))
        }
    }
}

fn connect(law: &Law, ask: &Ask, internal: Option<usize>) -> Word {
    if ask.method != "CONNECT" {
        return deny("method.unknown", "Only CONNECT asks for a tunnel.");
    }
    if ask.signs.credential || !matches!(ask.signs.handle, Handle::None) {
        return deny("connect.credential", "The proxy itself takes no credential; send it none.");
    }
    if internal.is_none()
        && let Some(budget) = law.tunnel(ask.host, ask.port)
    {
        return Ok(Allowed { kind: Kind::Tunnel(budget), rule: "connect.tunnel", internal });
    }
    let intercepted = Allowed { kind: Kind::Intercept, rule: "connect.intercept", internal };
    if law.has_write(ask.host, ask.port) {
        return Ok(intercepted);
    }
    may_read(law, ask, Scheme::Https, None, internal).map(|_| intercepted)
}

fn read_word(law: &Law, ask: &Ask, scheme: Scheme, internal: Option<usize>) -> Word {
    if ask.signs.body {
        return deny("read.body", "A GET or HEAD carries no body here; leave it out.");
    }
    // A host that signs in who shows a credential once may take the cookie for it.
    if ask.signs.cookie && law.lends_to(ask.host) {
        let why = "The profile has a row to write to this host, which may take a cookie for a sign-in; no request to it carries one.";
        return deny("read.cookie", why);
    }
    may_read(law, ask, scheme, Some(ask.path), internal)
}

/// Whether `reads` takes this host and port, and the path where one is known.
fn may_read(law: &Law, ask: &Ask, scheme: Scheme, target: Option<&str>, internal: Option<usize>) -> Word {
    let usual = scheme.port();
    let package = law.package(ask.host).filter(|_| ask.port == usual);
    if package.is_some() {
        return Ok(Allowed { kind: Kind::Package, rule: "read.package", internal });
    }
    let row = law.reads(ask.host, ask.port, usual, target);
    let read = |rule| Ok(Allowed { kind: Kind::Read, rule, internal });
    match law.reads {
        Reads::Any | Reads::Listed if row => read("read.row"),
        Reads::Any if ask.port == usual || internal.is_some() => read("read.any"),
        Reads::Any => {
            let why = format!("Port {} is closed; {usual} is the port of this kind of request.", ask.port);
            offer("port.closed", why, proposal::read(law, ask.host, ask.port, usual, target))
        }
        reads => {
            let (rule, why) = match reads {
                Reads::None => ("read.none", "The profile allows no reads."),
                Reads::Packages => ("read.packages", "The profile allows reads of its package registries only."),
                _ => (
                    "read.unlisted",
                    "The profile allows reads of listed hosts and paths only, and this is none of them.",
                ),
            };
            offer(rule, why, proposal::read(law, ask.host, ask.port, usual, target))
        }
    }
}

fn write_word(law: &Law, ask: &Ask, scheme: Scheme, read: bool, internal: Option<usize>) -> Word {
    let method = match (ask.signs.upgrade, ask.method) {
        // WebSocket begins with a GET, over HTTP/2 with an extended CONNECT. No request has the word for a method.
        (true, "GET" | "CONNECT") => UPGRADE,
        (true, _) | (_, UPGRADE) => return deny("method.unknown", "This method is none that goes through the proxy."),
        (false, method) => method,
    };
    let Some(method) = super::law::WRITE_METHODS.into_iter().find(|known| *known == method) else {
        return deny("method.unknown", "This method is none that goes through the proxy.");
    };
    if let Some((rule, why)) = crate::git::forge::refused(ask.host.as_str(), ask.method, ask.path) {
        return deny(rule, why);
    }
    // Before any row: none that is offered for such a path would allow it.
    if path::is_odd(path::bare(ask.path)) {
        return deny("write.path", "Servers differ on what this path means (dots, empty segments, encoded slashes).");
    }
    let Some(row) = law.writes(ask.host, ask.port, method, ask.path) else {
        return no_row(ask, method, scheme, read);
    };
    if ask.signs.upgrade && !ask.signs.websocket {
        return deny("upgrade.unknown", "A WebSocket over HTTP/1.1 is the only upgrade that goes through the proxy.");
    }
    if scheme != Scheme::Https {
        return deny("write.plain", "A request with a credential goes over https only.");
    }
    // Hosts that look for none take it for the next request.
    if read && ask.signs.body {
        return deny("read.body", "A GET or HEAD carries no body here; leave it out.");
    }
    let no = |rule, why: &str| {
        let next = law.write(row).map(handle_first);
        Err(Box::new(Denial { next, ..Denial::new(rule, why) }))
    };
    if ask.signs.credential || ask.signs.cookie {
        return no(
            "write.credential",
            "The request carries a credential of another kind; only a handle is taken here.",
        );
    }
    if let Some(name) = credentials::parameter(ask.host.as_str(), ask.path) {
        let why = format!(
            "The address carries a credential in a parameter ({name}); only a handle in a header is taken here."
        );
        return no("write.credential", &why);
    }
    match ask.signs.handle {
        Handle::Shown { .. } => Ok(Allowed { kind: Kind::Write { row }, rule: "write.row", internal }),
        Handle::None | Handle::Misplaced => no(
            "write.handle",
            "The profile has a row for this request, but it carries no handle where the credential would stand.",
        ),
    }
}

/// How a request of this row comes to its handle: a person's command has one, an agent's under a lease.
fn handle_first(row: &Write) -> String {
    let Write { capability, method, path, .. } = row;
    let destination = row.destination();
    let such_as = match *method {
        UPGRADE => String::new(),
        method => format!(
            ", with a command such as: sh -c 'curl -X {method} -H \"Authorization: Bearer $VOLARY_HANDLE\" \
             https://{destination}{path}'"
        ),
    };
    format!(
        "If VOLARY_HANDLE is set where the command runs, send it with the request: `Authorization: Bearer $VOLARY_HANDLE`. \
         If it is not, ask the tool `lease` for the capability {capability:?} and the destination {destination:?}, then give \
         `shell` the id of that lease as `lease`{such_as}."
    )
}

fn no_row(ask: &Ask, method: &'static str, scheme: Scheme, read: bool) -> Word {
    let (rule, why) = match (read, ask.signs.credential, method) {
        (true, true, _) => (
            "read.credential",
            "A read carries no credential; leave it out, or use this run's handle where the profile has a row for it.",
        ),
        (true, false, _) => (
            "handle.no-row",
            "The profile has no row for a request with this run's handle to this host, method and path.",
        ),
        (false, _, UPGRADE) => (
            "upgrade.no-row",
            "An upgrade (WebSocket and the like) counts as a write, and the profile has no row for it.",
        ),
        (false, ..) => {
            ("write.no-row", "Only GET and HEAD leave this box; the profile has no row for this host, method and path.")
        }
    };
    // No row lets a credential go in the clear.
    if scheme != Scheme::Https {
        let next = if rule == "read.credential" {
            "Leave the credential out, or send it over https, where a row of the profile may allow it with a handle."
        } else {
            "Send it over https, where a row of the profile may allow it."
        };
        let why = "Over plain http only a GET or HEAD without a credential leaves this box.";
        return Err(Box::new(Denial { next: Some(next.to_owned()), ..Denial::new(rule, why) }));
    }
    offer(rule, why, proposal::write(ask.host, ask.port, method, ask.path))
}
