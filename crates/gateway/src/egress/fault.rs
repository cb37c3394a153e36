//! What went wrong outside, in words that show no address.

use crate::refusal::Refusal;

/// Why a host gave no answer. No rule: it may work later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its name was not resolved.
    Name,
    /// None of its addresses answered.
    Address,
    /// TLS could not be agreed, or its certificate is not to be trusted.
    Tls,
    /// The company's proxy did not connect us.
    Proxy,
    /// It broke off.
    Cut,
    /// It took too long.
    Slow,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let (rule, why) = match fault {
            Fault::Name => ("egress.name", "The host's name was not resolved."),
            Fault::Address => ("egress.unreachable", "None of the host's addresses answered."),
            Fault::Tls => {
                ("egress.tls", "TLS could not be agreed with the host; its certificate may not be trusted here.")
            }
            Fault::Proxy => ("egress.proxy", "The proxy that leads outside did not connect to the host."),
            Fault::Cut => ("egress.cut", "The host broke off before it answered."),
            Fault::Slow => ("egress.slow", "The host took too long to answer."),
        };
        Self::fault(rule, why)
    }
}
