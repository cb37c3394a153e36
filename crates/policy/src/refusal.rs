//! What every refusal says.

/// A refusal that explains itself: which rule held, and what to do instead.
///
/// Both fields go to the agent and into evidence, so neither ever holds a value of the
/// request that could be a credential: fields are named, their contents are not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {why}")]
pub struct Refusal {
    /// Stable name of the rule, e.g. `model.field`.
    pub rule: &'static str,
    /// One or two sentences a model can act on.
    pub why: String,
}

impl Refusal {
    /// A refusal by `rule`, because of `why`.
    pub fn new(rule: &'static str, why: impl Into<String>) -> Self {
        Self { rule, why: why.into() }
    }
}
