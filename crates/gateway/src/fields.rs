//! Headers and trailers of an answer, scrubbed in their values and their names.
//!
//! Names arrive in lower case, and some values list names (`trailer`, `vary`): a credential in one has lost its case, and
//! cannot be replaced by a placeholder everywhere. Such a field is left out. So is a cookie: a host that was given a
//! credential may sign in whoever asked with it, and what it then sets is as good as the credential and no value that is known.

use http::{HeaderMap, HeaderName, HeaderValue};
use scrub::Scrubber;

const COOKIES: [&str; 2] = ["set-cookie", "set-cookie2"];

/// Takes away what sets a cookie.
pub(crate) fn without_cookies(fields: &mut HeaderMap) {
    for name in COOKIES {
        fields.remove(name);
    }
}

/// These fields, of a host that was given what the scrubber looks for, without that.
pub(crate) fn scrubbed<'f>(
    fields: impl IntoIterator<Item = (&'f HeaderName, &'f HeaderValue)>,
    scrubber: &Scrubber,
) -> HeaderMap {
    let mut clean = HeaderMap::new();
    for (name, value) in fields {
        let value = scrubber.scrub(value.as_bytes());
        let tells = scrubber.is_in_name(name.as_str()) || scrubber.is_in_name(&String::from_utf8_lossy(&value));
        // A scrubbed value is still a header value; were it not, leaving it out is right.
        let left_out = tells || COOKIES.contains(&name.as_str());
        if let (false, Ok(value)) = (left_out, HeaderValue::from_bytes(&value)) {
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
        add("set-cookie", "session=1; HttpOnly");
        add("set-cookie2", "session=1");
        add(&format!("x-{key}"), "1");
        add("vary", &format!("accept, x-{}", key.to_lowercase()));
        let clean = scrubbed(&fields, &scrubber);
        let said: Vec<_> = clean.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(said, [("x-you-are", "[scrubbed:k]"), ("x-plain", "as it is")]);
    }
}
