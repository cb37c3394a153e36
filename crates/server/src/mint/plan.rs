//! What is asked of which vendor: for one destination, by the settings of one key, and no more than is needed.
//!
//! Read [`Plan::of`], then what else the settings of a key decide: [`belongs`], [`check`], [`of_request`].

use super::value::Said;
use super::{aws, github, kubernetes};
use crate::app::App;
use crate::fault::Fault;
use crate::{platform, record};
use api::platform::{CallLimits, CallWord, Method, PlatformCall, Purpose};
use model::capability::Kind;
use model::mint::Minter;
use model::{Moment, Secret};
use policy::Refusal;
use policy::minters::Minter as Known;
use store::StoreError;
use store::leases::LeaseRow;
use store::secrets::SecretRow;
use url::Url;

/// How long a vendor may take, in seconds: the gateway waits 30 for the server's word.
const SECONDS: u16 = 15;
/// Longest answer of a vendor, in bytes.
const ANSWER: u32 = 64 * 1024;
/// What a value is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A repository is read.
    Read,
    /// A repository is pushed to.
    Write,
    /// A proposal is opened.
    Propose,
    /// A tool or a command, for what the key's settings say.
    Tool,
}

impl Access {
    /// What a lease of a capability of this kind needs.
    #[must_use]
    pub const fn of(kind: Kind) -> Self {
        match kind {
            Kind::GitPush => Self::Write,
            Kind::Tool | Kind::Command => Self::Tool,
        }
    }

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Propose => "propose",
            Self::Tool => "use",
        }
    }
}

/// Whether a stored key is one that values are minted from, and that goes nowhere itself.
#[must_use]
pub fn mints(row: &SecretRow) -> bool {
    !row.minter.is_empty()
}

/// The settings of such a key.
///
/// # Errors
/// What cannot be read.
pub fn settings(row: &SecretRow) -> Result<Minter, StoreError> {
    serde_json::from_str(&row.minter).map_err(|e| StoreError::Corrupt { what: "minter", why: e.to_string() })
}

/// The port of https, which an address need not say.
pub(super) const HTTPS: u16 = 443;

/// A host and its port as a destination has them: the port where it is not that of https.
#[must_use]
pub fn at(host: &str, port: u16) -> String {
    if port == HTTPS { host.to_owned() } else { format!("{host}:{port}") }
}

/// Whether an address is one of this port of this host.
pub(super) fn is_at(address: &str, host: &str, port: u16) -> bool {
    Url::parse(address).is_ok_and(|url| url.host_str() == Some(host) && url.port_or_known_default() == Some(port))
}

/// Whether what is minted of a key may go into a request to this port of `host`.
#[must_use]
pub fn belongs(row: &SecretRow, host: &str, port: u16) -> bool {
    match settings(row) {
        Ok(Minter::GithubApp(app)) => github::belongs(&app, host, port),
        Ok(Minter::KubernetesAccount(account)) => kubernetes::belongs(&account, host, port),
        Ok(Minter::AwsRole(_)) | Err(_) => false,
    }
}

/// Whether a key and its settings can be used; gives the key as it is kept.
///
/// # Errors
/// One sentence that repeats nothing of the key.
pub fn check(minter: &Minter, key: &Secret<String>) -> Result<Secret<String>, String> {
    minter.check()?;
    let (base, internal) = minter.base();
    if let Some(base) = base {
        platform::named_host(base, internal)?;
    }
    match minter {
        Minter::GithubApp(_) => github::key(key),
        Minter::AwsRole(role) => aws::check(role).map(|()| key.share()),
        Minter::KubernetesAccount(_) => Ok(key.share()),
    }
}

/// For which destination a request to this port of `host`, with this path, needs a value.
///
/// # Errors
/// `mint.destination`, for a path that names no repository where a value is for one.
pub fn of_request(row: &SecretRow, (host, port): (&str, u16), path: &str) -> Result<String, Refusal> {
    match settings(row) {
        Ok(Minter::GithubApp(app)) => github::of_path(&app, &at(host, port), path).ok_or_else(|| {
            let why =
                "A token of an app is for one repository; this path of the API is below none (`/repos/OWNER/NAME`).";
            Refusal::new("mint.destination", why)
        }),
        _ => Ok(at(host, port)),
    }
}

/// Who opens a proposal with what is minted of this key, in words.
#[must_use]
pub fn whose(row: &SecretRow) -> Option<String> {
    match settings(row) {
        Ok(Minter::GithubApp(app)) => Some(format!("the app {} (installation {})", app.app, app.installation)),
        _ => None,
    }
}

/// A call of this purpose, without headers, body and credential.
pub(super) fn call(purpose: Purpose, method: Method, url: String, internal: bool) -> Result<PlatformCall, String> {
    let named = platform::named_host(&url, internal)?;
    let limits = CallLimits { seconds: SECONDS, answer_bytes: ANSWER, send_before_ms: None };
    Ok(PlatformCall {
        purpose,
        method,
        url,
        named,
        headers: Vec::new(),
        body: None,
        credential: None,
        limits,
        lease: None,
    })
}

/// What is to be asked of a vendor.
pub struct Plan {
    pub(super) secret: SecretRow,
    minter: Minter,
    pub(super) known: &'static Known,
    pub(super) destination: String,
    pub(super) access: Access,
}

impl Plan {
    /// What `secret` is to be asked for.
    ///
    /// # Errors
    /// `mint.destination`, for one that no value can be made for; `mint.settings` for a key without usable settings.
    pub fn of(secret: SecretRow, destination: &str, access: Access) -> Result<Self, Refusal> {
        let (Ok(minter), Some(known)) = (settings(&secret), Known::of(&secret.kind)) else {
            let why =
                format!("The settings of {:?} cannot be read; ask the administrator to set it anew.", secret.name);
            return Err(Refusal::new("mint.settings", why));
        };
        if let Minter::GithubApp(app) = &minter
            && github::repository(app, destination).is_none()
        {
            let why = format!(
                "{:?} is no repository at the host of the app; a destination of this capability is HOST/OWNER/NAME.",
                record::short(destination)
            );
            return Err(Refusal::new("mint.destination", why));
        }
        if access != Access::Tool && !known.git {
            let why = format!("A key of the kind `{}` opens no repository.", known.id);
            return Err(Refusal::new("mint.kind", why));
        }
        Ok(Self { secret, minter, known, destination: destination.to_owned(), access })
    }

    /// What is granted, in words.
    pub(super) fn words(&self) -> String {
        match &self.minter {
            Minter::GithubApp(app) => github::words(app, self.access),
            Minter::AwsRole(role) => format!("the role {}", role.role),
            Minter::KubernetesAccount(account) => format!("the account {}/{}", account.namespace, account.account),
        }
    }

    pub(super) fn request(&self, app: &App, lease: &LeaseRow, at: Moment) -> Result<PlatformCall, Fault> {
        let key = app.keys.open_key(&self.secret).map_err(|e| Fault::ours("open the key to mint with", &e))?;
        let left = u32::try_from(lease.expires.since(at) / 1000).unwrap_or(0) + 1;
        let seconds = left.max(self.known.least_seconds);
        let call = match &self.minter {
            Minter::GithubApp(app) => {
                github::request(app, &key, (&self.secret.name, &self.destination, self.access), at)
            }
            Minter::AwsRole(role) => aws::request(role, &key, (&lease.run, &self.destination, seconds), at),
            Minter::KubernetesAccount(account) => kubernetes::request(account, &key, &self.secret.name, seconds),
        };
        call.map_err(|why| Fault::ours("write to the vendor", &why))
    }

    pub(super) fn said(&self, word: &CallWord) -> Said {
        said(&self.minter, (&self.destination, self.access), word)
    }

    /// By which settings the vendor is asked, as a row says it until something came of that.
    pub(super) fn settings(&self) -> Vec<u8> {
        self.secret.minter.clone().into_bytes()
    }

    /// When a value ends of which the vendor did not say it, at the latest.
    pub(super) fn longest(&self, lease: &LeaseRow, at: Moment) -> Moment {
        at.plus_ms(i64::from(self.known.least_seconds) * 1000).max(lease.expires)
    }
}

/// What a vendor's answer means, for one who was asked by these settings.
pub(super) fn said(minter: &Minter, (destination, access): (&str, Access), word: &CallWord) -> Said {
    let (status, body) = match word {
        CallWord::Fault { unsent: true, why, .. } => return Said::Refused(why.clone()),
        CallWord::Fault { unsent: false, why, .. } => return Said::Unknown(why.clone()),
        CallWord::Answered { status, body, .. } => (*status, &body.0),
    };
    match (status, minter) {
        (200..=299, Minter::GithubApp(app)) => github::read(app, destination, access, body),
        (200..=299, Minter::AwsRole(_)) => aws::read(body),
        (200..=299, Minter::KubernetesAccount(_)) => kubernetes::read(body),
        (500..=599, _) => Said::Unknown(format!("The vendor failed (status {status}).")),
        _ => Said::Refused(format!("The vendor answered with status {status}; it made nothing.")),
    }
}
