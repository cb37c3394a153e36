//! Money as integers. No floating point comes near a budget.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Millionths of a US dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroDollars(pub u64);

impl MicroDollars {
    /// The cost of `tokens` tokens at `per_million` micro-dollars per million tokens, rounded up, saturating.
    #[must_use]
    pub fn for_tokens(tokens: u64, per_million: Self) -> Self {
        let exact = u128::from(tokens) * u128::from(per_million.0);
        Self(u64::try_from(exact.div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }
    /// The sum, saturating.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
    /// The difference, no less than nothing.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for MicroDollars {
    /// Dollars with six places: `$0.001250`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_micro_dollar_is_charged_as_a_whole_one() {
        assert_eq!(MicroDollars::for_tokens(1, MicroDollars(3_000_000)), MicroDollars(3));
        assert_eq!(MicroDollars::for_tokens(1, MicroDollars(250_000)), MicroDollars(1));
        assert_eq!(MicroDollars::for_tokens(0, MicroDollars(250_000)), MicroDollars(0));
        assert_eq!(MicroDollars::for_tokens(u64::MAX, MicroDollars(u64::MAX)), MicroDollars(u64::MAX));
    }
}
