//! Reservation before dispatch: a call that could break the budget is not made.
//!
//! Nothing here keeps a balance. The caller holds what is left, subtracts what [`Budget::reserve`]
//! answers and [`tokens`] counts before the call, and puts back the difference when it is settled.

use crate::Refusal;
use model::{MicroDollars, provider::Price};

/// Bytes of a request body that are reserved as one token of input.
///
/// A token of text is at least one byte, so bytes alone would bound a call of texts, but about four times
/// too high for prose and code: they would refuse calls that fit. A third keeps the reservation
/// above what texts in practice need. A body that needs more (rare scripts, random bytes, pictures and
/// documents, whose tokens are not counted by bytes at all) is settled exactly all the same: only the input
/// of calls under way at once can be more than what was reserved for them, and the next call meets it.
pub const BYTES_PER_RESERVED_TOKEN: u64 = 3;

/// What a run may still use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Tokens of all kinds together.
    pub tokens_left: u64,
    /// Money.
    pub cost_left: MicroDollars,
}

/// The tokens to reserve for a body of `input_at_most` bytes and at most `output_at_most` tokens written.
#[must_use]
pub fn tokens(input_at_most: u64, output_at_most: u64) -> u64 {
    input_at_most.div_ceil(BYTES_PER_RESERVED_TOKEN).saturating_add(output_at_most)
}

impl Budget {
    /// What to reserve for one call: the worst case of it at `price`.
    ///
    /// `input_at_most` is the body's length in bytes; `output_at_most` the most tokens it may write,
    /// after the caller has put the model's own ceiling in the place of "none set". Input is charged at
    /// the dearest of the input prices, since the provider alone decides what it caches; at that of a cache
    /// of an hour only where the call asks for one (`long_cache`).
    ///
    /// # Errors
    /// `budget.tokens` or `budget.cost`, when the worst case is more than what is left. Exactly what is left fits.
    pub fn reserve(
        &self,
        price: &Price,
        input_at_most: u64,
        output_at_most: u64,
        long_cache: bool,
    ) -> Result<MicroDollars, Refusal> {
        let needed = tokens(input_at_most, output_at_most);
        if needed > self.tokens_left {
            return Err(Refusal::new(
                "budget.tokens",
                format!(
                    "This call could use {needed} tokens and {} are left to this run. Policy, not a fault: shorten \
                     the context, lower the output limit, or finish the task.",
                    self.tokens_left
                ),
            ));
        }
        let written = if long_cache { price.hour_write() } else { price.cache_write };
        let dearest = price.input.max(price.cache_read).max(written);
        let cost = MicroDollars::for_tokens(input_at_most.div_ceil(BYTES_PER_RESERVED_TOKEN), dearest)
            .plus(MicroDollars::for_tokens(output_at_most, price.output));
        if cost > self.cost_left {
            return Err(Refusal::new(
                "budget.cost",
                format!(
                    "This call could cost {cost} and {} is left to this run. Policy, not a fault: shorten the \
                     context, lower the output limit, or finish the task.",
                    self.cost_left
                ),
            ));
        }
        Ok(cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PRICE: Price = Price {
        input: MicroDollars(3_000_000),
        output: MicroDollars(15_000_000),
        cache_read: MicroDollars(300_000),
        cache_write: MicroDollars(3_750_000),
        cache_write_1h: MicroDollars(6_000_000),
    };

    fn left(tokens_left: u64, cost: u64) -> Budget {
        Budget { tokens_left, cost_left: MicroDollars(cost) }
    }

    #[test]
    fn a_call_that_needs_exactly_what_is_left_fits_and_one_micro_dollar_less_does_not() {
        // 300 bytes are 100 tokens at 3.75, 10 written ones at 15: 375 + 150.
        assert_eq!(left(110, 525).reserve(&PRICE, 300, 10, false), Ok(MicroDollars(525)));
        assert_eq!(left(110, 524).reserve(&PRICE, 300, 10, false).unwrap_err().rule, "budget.cost");
    }

    #[test]
    fn a_call_that_needs_one_token_more_than_is_left_is_refused() {
        assert!(left(110, u64::MAX).reserve(&PRICE, 300, 10, false).is_ok());
        assert_eq!(left(110, u64::MAX).reserve(&PRICE, 301, 10, false).unwrap_err().rule, "budget.tokens");
    }

    #[test]
    fn a_model_without_a_price_is_held_by_tokens_alone() {
        assert_eq!(left(10, 0).reserve(&Price::default(), 0, 10, false), Ok(MicroDollars(0)));
        assert_eq!(left(10, 0).reserve(&Price::default(), 1, 10, false).unwrap_err().rule, "budget.tokens");
    }

    #[test]
    fn a_cache_of_an_hour_is_reserved_at_its_own_price_only_where_it_is_asked_for() {
        assert_eq!(left(100, u64::MAX).reserve(&PRICE, 300, 0, false), Ok(MicroDollars(375)));
        assert_eq!(left(100, u64::MAX).reserve(&PRICE, 300, 0, true), Ok(MicroDollars(600)));
    }

    proptest! {
        #[test]
        fn what_is_reserved_is_never_more_than_what_is_left(
            tokens_left: u64, cost: u64, input: u64, output: u64, per_in: u64, per_out: u64
        ) {
            let price = Price { input: MicroDollars(per_in), output: MicroDollars(per_out), ..Price::default() };
            if let Ok(reserved) = left(tokens_left, cost).reserve(&price, input, output, false) {
                prop_assert!(reserved.0 <= cost);
                prop_assert!(tokens(input, output) <= tokens_left);
            }
        }

        #[test]
        fn a_call_that_stays_within_its_bounds_never_settles_above_its_reservation(
            bytes in 0u64..1_000_000, output in 0u64..100_000, read in 0u64..100, cached in 0u64..100
        ) {
            let reserved = left(u64::MAX, u64::MAX).reserve(&PRICE, bytes, output, false).unwrap();
            let most = bytes.div_ceil(BYTES_PER_RESERVED_TOKEN);
            let used = model::Usage {
                input: most * read / 300, cache_read: most * cached / 300, cache_write: most / 300, output, cache_write_1h: 0,
            };
            // Four parts are rounded up where two were reserved.
            prop_assert!(used.cost(&PRICE).0 <= reserved.0 + 2);
        }
    }
}
