//! The price table: data with its date and the source of each row. A price given with a model goes before it.

use model::MicroDollars;
use model::provider::Price;
use serde::Deserialize;
use std::sync::LazyLock;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    date: String,
    model: Vec<Row>,
}

/// One row; micro-dollars per million tokens.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
    #[serde(default)]
    cache_write_1h: u64,
    #[allow(dead_code, reason = "for who reads the table")]
    source: String,
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| toml::from_str(include_str!("prices.toml")).expect("the table carried along is whole"));

/// The price of a provider's model id; none for one that is not in the table.
#[must_use]
pub fn of(id: &str) -> Option<Price> {
    let row = TABLE.model.iter().find(|row| row.id == id)?;
    Some(Price {
        input: MicroDollars(row.input),
        output: MicroDollars(row.output),
        cache_read: MicroDollars(row.cache_read),
        cache_write: MicroDollars(row.cache_write),
        cache_write_1h: MicroDollars(row.cache_write_1h),
    })
}

/// The ids of vendors' models that are in the table, in its order.
#[must_use]
pub fn ids() -> Vec<&'static str> {
    TABLE.model.iter().map(|row| row.id.as_str()).filter(|id| *id != "scripted").collect()
}

/// The day the table was made.
#[must_use]
pub fn date() -> &'static str {
    &TABLE.date
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_is_whole_each_id_once_each_with_a_source_and_sane_prices() {
        let ids: BTreeSet<_> = TABLE.model.iter().map(|row| &row.id).collect();
        assert_eq!(ids.len(), TABLE.model.len());
        assert!(of("scripted").is_some() && of("no-such-model").is_none());
        for row in &TABLE.model {
            assert!(row.source.len() > 10, "{}", row.id);
            assert!(row.input <= row.output && row.cache_read <= row.input, "{}", row.id);
            let hour = row.cache_write_1h;
            assert_eq!(hour, if row.source.contains("Anthropic") { 2 * row.input } else { 0 }, "{}", row.id);
            // Its vendor asks more for long prompts; a row has one price.
            assert_eq!(row.source.contains("above 200,000"), row.id.starts_with("gemini") && row.id.contains("pro"));
            // 1,000 dollars a million tokens: a slip of the decimal point.
            assert!(row.output < 1_000_000_000 && row.output > 10_000, "{}", row.id);
        }
    }
}
