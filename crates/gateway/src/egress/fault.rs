//! What went wrong outside, in words that show no address.

use crate::refusal::Refusal;

/// Why a host gave no answer. No rule: it may work later.
pub(crate) use model::Unanswered as Fault;

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let help =
            fault.help().map(|help| format!("If it stays so, say so to the people who run the platform: {help}"));
        let told = Self::fault(fault.rule(), fault.why()).with_next(help);
        Self { unanswered: Some(fault), ..told }
    }
}
