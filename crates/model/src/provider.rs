//! Model providers as the rest of the platform names them.

use crate::MicroDollars;
use serde::{Deserialize, Serialize};

/// The wire format in which a model is spoken to, and thereby which paths and fields exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// Anthropic Messages: `POST /v1/messages`, key in `x-api-key`.
    Anthropic,
    /// OpenAI Chat Completions: `POST /v1/chat/completions`, bearer key.
    /// Every OpenAI-compatible server (Ollama, vLLM …) speaks it.
    Openai,
    /// OpenAI Responses, stateless: `POST /v1/responses`, bearer key.
    OpenaiResponses,
    /// Gemini: `POST /v1beta/models/{model}:streamGenerateContent`, key in `x-goog-api-key`.
    Gemini,
}

impl Dialect {
    /// Whether a model of this dialect takes calls in the dialect `call`. OpenAI's two stand at one address, with
    /// one key and under one law; which of them the setting names says only which one our own agent speaks.
    #[must_use]
    pub fn takes(self, call: Self) -> bool {
        let openais = |dialect| matches!(dialect, Self::Openai | Self::OpenaiResponses);
        self == call || openais(self) && openais(call)
    }
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
    /// Of `cache_write`, those that are kept for an hour; 0 where the provider says nothing of it.
    #[serde(default, skip_serializing_if = "none")]
    pub cache_write_1h: u64,
}

fn none(n: &u64) -> bool {
    *n == 0
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
            cache_write_1h: self.cache_write_1h.saturating_add(other.cache_write_1h),
        }
    }
    /// What this use costs at `price`, each part rounded up to a micro-dollar.
    #[must_use]
    pub fn cost(self, price: &Price) -> MicroDollars {
        let hour = self.cache_write_1h.min(self.cache_write);
        MicroDollars::for_tokens(self.input, price.input)
            .plus(MicroDollars::for_tokens(self.output, price.output))
            .plus(MicroDollars::for_tokens(self.cache_read, price.cache_read))
            .plus(MicroDollars::for_tokens(self.cache_write - hour, price.cache_write))
            .plus(MicroDollars::for_tokens(hour, price.hour_write()))
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
    /// Per million tokens written to a cache that lasts an hour; 0 where there is no such price.
    #[serde(default, skip_serializing_if = "free")]
    pub cache_write_1h: MicroDollars,
}

fn free(price: &MicroDollars) -> bool {
    *price == MicroDollars(0)
}

impl Price {
    /// What writing a million tokens to a cache of an hour costs: never less than to any cache.
    #[must_use]
    pub fn hour_write(&self) -> MicroDollars {
        self.cache_write_1h.max(self.cache_write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICE: Price = Price {
        input: MicroDollars(3_000_000),
        output: MicroDollars(15_000_000),
        cache_read: MicroDollars(300_000),
        cache_write: MicroDollars(3_750_000),
        cache_write_1h: MicroDollars(6_000_000),
    };

    #[test]
    fn what_is_cached_for_an_hour_costs_its_own_price_and_the_rest_the_usual_one() {
        let usage = Usage { cache_write: 300, cache_write_1h: 100, ..Usage::default() };
        assert_eq!(usage.cost(&PRICE), MicroDollars(200 * 3_750 / 1000 + 600));
        assert_eq!(usage.total(), 300, "a part of it, not more");
    }

    #[test]
    fn without_a_price_for_an_hour_the_usual_one_counts_and_a_part_is_never_more_than_the_whole() {
        let price = Price { cache_write_1h: MicroDollars(0), ..PRICE };
        let usage = Usage { cache_write: 100, cache_write_1h: 200, ..Usage::default() };
        assert_eq!(usage.cost(&price), MicroDollars(375));
        assert_eq!(usage.cost(&PRICE), MicroDollars(600));
    }

    #[test]
    fn what_was_kept_before_there_was_a_cache_of_an_hour_still_reads_and_writes_the_same() {
        let text = r#"{"input":1,"output":2,"cache_read":3,"cache_write":4}"#;
        let (usage, price): (Usage, Price) = (serde_json::from_str(text).unwrap(), serde_json::from_str(text).unwrap());
        assert_eq!(serde_json::to_string(&usage).unwrap(), text);
        assert_eq!(serde_json::to_string(&price).unwrap(), text);
    }

    #[test]
    fn a_model_takes_the_calls_of_its_own_vendors_formats_only() {
        use Dialect::{Anthropic, Gemini, Openai, OpenaiResponses};
        for (model, call, taken) in [
            (Anthropic, Anthropic, true),
            (Anthropic, Openai, false),
            (Anthropic, OpenaiResponses, false),
            (Openai, Anthropic, false),
            (Openai, Openai, true),
            (Openai, OpenaiResponses, true),
            (OpenaiResponses, Openai, true),
            (OpenaiResponses, Anthropic, false),
            (Gemini, Gemini, true),
            (Gemini, Openai, false),
            (Gemini, Anthropic, false),
            (Anthropic, Gemini, false),
            (OpenaiResponses, Gemini, false),
        ] {
            assert_eq!(model.takes(call), taken, "{model:?} {call:?}");
        }
    }
}
