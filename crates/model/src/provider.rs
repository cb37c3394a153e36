//! Model providers as the rest of the platform names them.

use crate::MicroDollars;
use serde::{Deserialize, Serialize};

/// The wire format of a provider, and thereby which paths and fields exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// Anthropic Messages: `POST /v1/messages`, key in `x-api-key`.
    Anthropic,
    /// OpenAI Chat Completions and Responses: `POST /v1/chat/completions`, `POST /v1/responses`, bearer key.
    /// Every OpenAI-compatible server (Ollama, vLLM …) speaks the first.
    Openai,
}

/// What one model call used, as the provider itself reported it.
///
/// Counts are tokens. `input` leaves out what `cache_read` and `cache_write` count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read, outside the provider's cache.
    #[serde(default)]
    pub input: u64,
    /// Tokens written by the model.
    #[serde(default)]
    pub output: u64,
    /// Tokens read from the provider's cache.
    #[serde(default)]
    pub cache_read: u64,
    /// Tokens written to the provider's cache.
    #[serde(default)]
    pub cache_write: u64,
}

impl Usage {
    /// All tokens together, saturating.
    #[must_use]
    pub fn total(self) -> u64 {
        self.input.saturating_add(self.output).saturating_add(self.cache_read).saturating_add(self.cache_write)
    }
    /// The sum, part by part, saturating.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
        }
    }
    /// What this use costs at `price`, each part rounded up to a micro-dollar.
    #[must_use]
    pub fn cost(self, price: &Price) -> MicroDollars {
        MicroDollars::for_tokens(self.input, price.input)
            .plus(MicroDollars::for_tokens(self.output, price.output))
            .plus(MicroDollars::for_tokens(self.cache_read, price.cache_read))
            .plus(MicroDollars::for_tokens(self.cache_write, price.cache_write))
    }
}

/// What a model costs: micro-dollars per million tokens of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Per million tokens read.
    pub input: MicroDollars,
    /// Per million tokens written.
    pub output: MicroDollars,
    /// Per million tokens read from cache.
    #[serde(default)]
    pub cache_read: MicroDollars,
    /// Per million tokens written to cache.
    #[serde(default)]
    pub cache_write: MicroDollars,
}
