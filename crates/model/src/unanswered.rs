//! Why a request that was let out got no answer: what went wrong outside, and what whoever runs the platform can do.

use serde::{Deserialize, Serialize};

/// Why a host gave no answer. No rule, and nobody's refusal: it may work later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unanswered {
    /// Its name was not resolved.
    Name,
    /// None of its addresses answered.
    Address,
    /// TLS could not be agreed, or its certificate is not to be trusted.
    Tls,
    /// The company's proxy did not connect to it.
    Proxy,
    /// It broke off.
    Cut,
    /// It took too long.
    Slow,
    /// A reason that this version does not know.
    #[serde(other)]
    Other,
}

impl Unanswered {
    /// Every reason that there is a word for.
    pub const ALL: [Self; 6] = [Self::Name, Self::Address, Self::Tls, Self::Proxy, Self::Cut, Self::Slow];

    /// Its name among rules, as whoever asked reads it.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Self::Name => "egress.name",
            Self::Address => "egress.unreachable",
            Self::Tls => "egress.tls",
            Self::Proxy => "egress.proxy",
            Self::Cut => "egress.cut",
            Self::Slow => "egress.slow",
            Self::Other => "egress.failed",
        }
    }

    /// What happened, one sentence that shows no address.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::Name => "The host's name was not resolved.",
            Self::Address => "None of the host's addresses answered.",
            Self::Tls => "TLS could not be agreed with the host; its certificate may not be trusted here.",
            Self::Proxy => "The proxy that leads outside did not connect to the host.",
            Self::Cut => "The host broke off before it answered.",
            Self::Slow => "The host took too long to answer.",
            Self::Other => "The host gave no answer.",
        }
    }

    /// What whoever runs the platform can do when it stays so; none where that is nothing of theirs.
    #[must_use]
    pub fn help(self) -> Option<&'static str> {
        Some(match self {
            Self::Name => {
                "`volary doctor` says which name servers the system has; `volary up --name-server ADDRESS` asks another."
            }
            Self::Address => {
                "Where a company's proxy leads outside, `volary up --upstream-proxy HOST:PORT` goes through it."
            }
            Self::Tls => "`volary up --extra-roots FILE` trusts a company's own certificate authority.",
            Self::Proxy => {
                "The gateway's log says what the proxy answered; `volary up --upstream-proxy-sign-in FILE` signs in to it."
            }
            Self::Cut | Self::Slow | Self::Other => return None,
        })
    }
}
