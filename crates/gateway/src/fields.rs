//! Headers and trailers of an answer, scrubbed in their values and their names.
//!
//! Names arrive in lower case, and some values list names (`trailer`, `vary`): a credential in one has lost its case, and
//! cannot be replaced by a placeholder everywhere. Such a field is left out.

use http::{HeaderMap, HeaderName, HeaderValue};
use scrub::Scrubber;

/// These fields without what the scrubber looks for.
pub(crate) fn scrubbed<'f>(
    fields: impl IntoIterator<Item = (&'f HeaderName, &'f HeaderValue)>,
    scrubber: &Scrubber,
) -> HeaderMap {
    let mut clean = HeaderMap::new();
    for (name, value) in fields {
        let value = scrubber.scrub(value.as_bytes());
        let tells = scrubber.is_in_name(name.as_str()) || scrubber.is_in_name(&String::from_utf8_lossy(&value));
        // A scrubbed value is still a header value; were it not, leaving it out is right.
        if let (false, Ok(value)) = (tells, HeaderValue::from_bytes(&value)) {
            clean.append(name.clone(), value);
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Secret;

    #[test]
    fn a_value_is_replaced_and_a_field_that_tells_it_by_a_name_is_left_out() {
        let key = "sk-Canary-0123456789";
        let scrubber = Scrubber::new([("k".to_owned(), Secret::new(key.to_owned()))]);
        let mut fields = HeaderMap::new();
        let mut add = |name: &str, value: &str| {
            fields.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap());
        };
        add("x-you-are", key);
        add("x-plain", "as it is");
        add(&format!("x-{key}"), "1");
        add("vary", &format!("accept, x-{}", key.to_lowercase()));
        let clean = scrubbed(&fields, &scrubber);
        let said: Vec<_> = clean.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(said, [("x-you-are", "[scrubbed:k]"), ("x-plain", "as it is")]);
    }
}
