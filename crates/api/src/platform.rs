//! Server → gateway: the server's own calls to the outside.
//!
//! The server connects nowhere. Where it has something to ask of a provider (tokens of an OAuth connection, a pull
//! request at a forge), it records the call and hands it to the gateway, which makes it under a policy of one named
//! host and gives the answer back. Both messages cross the local socket only. What they carry may be a credential, in
//! the request and in the answer: it stands in a [`WireSecret`], which nothing prints.
//!
//! Read [`PlatformCall`], then [`CallWord`].

use crate::grants::WireSecret;
use model::LeaseId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest URL of a call, in bytes.
pub const MAX_URL: usize = 4096;

/// Most headers of a call, and longest value of one, in bytes.
pub const MAX_HEADERS: usize = 16;
/// See [`MAX_HEADERS`].
pub const MAX_HEADER: usize = 1024;

/// Longest body of a call, in bytes.
pub const MAX_BODY: usize = 1024 * 1024;

/// Longest answer that a call may ask for, in bytes.
pub const MAX_ANSWER: u32 = 1024 * 1024;

/// Longest time that a call may ask for, in seconds.
pub const MAX_SECONDS: u16 = 60;

/// What a call is for, as evidence names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A code of a browser's sign-in, or of a device, becomes tokens.
    SignIn,
    /// A device asks for its code.
    Device,
    /// A refresh token becomes new tokens.
    Refresh,
    /// A token is ended at its provider.
    Revoke,
    /// A pull or merge request, or what it takes.
    Forge,
    /// A vendor makes a narrower, shorter credential of a longer one.
    Mint,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SignIn => "sign-in",
            Self::Device => "device",
            Self::Refresh => "refresh",
            Self::Revoke => "revoke",
            Self::Forge => "forge",
            Self::Mint => "mint",
        })
    }
}

/// The method of a call. The server asks for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

impl Method {
    /// As it stands in a request.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// The one host that a call may reach, as an administrator set it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedHost {
    /// Name or address, in the spelling of a URL.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The administrator marked it as one of the own network: its addresses need not be public, and `http` will do
    /// where none of them is.
    #[serde(default)]
    pub internal: bool,
    /// Where every address of it lies, as a row of `egress.internal` for this very host and port names them: it is reached
    /// there and nowhere else, over TLS. Empty: without such a row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<String>,
}

/// One call.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlatformCall {
    /// What for.
    pub purpose: Purpose,
    /// The method.
    pub method: Method,
    /// Whole, at most [`MAX_URL`] bytes; `https`, and of [`PlatformCall::named`]. Holds no credential.
    pub url: String,
    /// Where it may go.
    pub named: NamedHost,
    /// Headers besides those that every call has (`Host`, `Accept-Encoding`, `Content-Length`); at most
    /// [`MAX_HEADERS`], none of them a credential.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The body, which may hold credentials; at most [`MAX_BODY`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<WireSecret>,
    /// What goes into one header, last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CallCredential>,
    /// Its bounds.
    pub limits: CallLimits,
    /// The lease that a value is made for by it. What comes of it is held at the gateway until the server has kept it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
}

/// A credential, and the header that it goes into.
#[derive(Debug, Serialize, Deserialize)]
pub struct CallCredential {
    /// Which header, in which form.
    pub form: CredentialForm,
    /// The value.
    pub value: WireSecret,
    /// The name of the secret that it is, for the scrubber's placeholder.
    pub secret: String,
}

/// How a credential stands in its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialForm {
    /// `Authorization: Bearer VALUE`.
    Bearer,
    /// `Authorization: token VALUE` (Gitea, Forgejo).
    Token,
    /// `Authorization: Basic` and the value, which is `name:password`, in base64.
    Basic,
    /// `PRIVATE-TOKEN: VALUE` (GitLab).
    PrivateToken,
    /// `Authorization: VALUE`: a signature over this very request.
    Signature,
}

/// The bounds of a call. What is over the constants of this module is cut to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallLimits {
    /// From the first look-up to the last byte of the answer.
    pub seconds: u16,
    /// Longest answer.
    pub answer_bytes: u32,
    /// The call is not sent after this moment of the host's boot clock, in milliseconds: whoever asked for it may have
    /// lost the right to, if it was held up until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_before_ms: Option<u64>,
}

/// What became of a call.
#[derive(Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "kebab-case")]
pub enum CallWord {
    /// The host answered, and the answer is whole.
    Answered {
        /// HTTP status. A redirect is an answer like any other; it is not followed.
        status: u16,
        /// Of the answer's headers: `content-type`, `date`, `etag`, `link`, `location`, `retry-after`, `x-ratelimit-…`.
        headers: Vec<(String, String)>,
        /// The body, which may hold credentials; UTF-8.
        body: WireSecret,
    },
    /// No whole answer came.
    Fault {
        /// Nothing of the request left: the host cannot have acted on it. When this is false, it may have.
        unsent: bool,
        /// Stable name of what is wrong, or of the rule that refused it.
        rule: String,
        /// One sentence, without any address in it.
        why: String,
    },
}

impl CallWord {
    /// The same once more.
    #[must_use]
    pub fn share(&self) -> Self {
        match self {
            Self::Answered { status, headers, body } => {
                Self::Answered { status: *status, headers: headers.clone(), body: WireSecret(body.0.share()) }
            }
            Self::Fault { unsent, rule, why } => Self::Fault { unsent: *unsent, rule: rule.clone(), why: why.clone() },
        }
    }
}

impl fmt::Debug for CallWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { status, .. } => write!(f, "Answered {{ status: {status}, .. }}"),
            Self::Fault { unsent, rule, .. } => write!(f, "Fault {{ unsent: {unsent}, rule: {rule:?}, .. }}"),
        }
    }
}

/// Now, by the host's boot clock, which server and gateway share and nobody sets; in milliseconds.
#[must_use]
pub fn boot_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Secret;

    #[test]
    fn what_a_call_and_its_answer_carry_is_not_printed() {
        let secret = || WireSecret(Secret::new("canary-7d1f0a".to_owned()));
        let call = PlatformCall {
            purpose: Purpose::Refresh,
            method: Method::Post,
            url: "https://auth.example/token".into(),
            named: NamedHost { host: "auth.example".into(), port: 443, internal: false, within: Vec::new() },
            headers: Vec::new(),
            body: Some(secret()),
            credential: Some(CallCredential {
                form: CredentialForm::Basic,
                value: secret(),
                secret: "connection/x/client".into(),
            }),
            limits: CallLimits { seconds: 20, answer_bytes: 1024, send_before_ms: None },
            lease: None,
        };
        let word =
            CallWord::Answered { status: 200, headers: vec![("link".into(), "canary-7d1f0a".into())], body: secret() };
        let printed = format!("{call:?} {word:?}");
        assert!(printed.contains("auth.example") && !printed.contains("canary"), "{printed}");
    }

    #[test]
    fn the_boot_clock_does_not_go_back() {
        let before = boot_ms();
        assert!(before > 0 && boot_ms() >= before);
    }
}
