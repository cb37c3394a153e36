//! Typed ids. Each is a short ASCII text that is safe in a file name, a cgroup
//! name, a URL path and a git ref; what an id means is its type, not its text.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an id: it takes 1 to 64 characters of a-z, 0-9 and '-'")]
pub struct BadId(pub String);

fn well_formed(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Reads an id.
            ///
            /// # Errors
            /// [`BadId`] unless the text is 1 to 64 characters of `a-z`, `0-9`, `-`, not starting with `-`.
            pub fn parse(text: &str) -> Result<Self, BadId> {
                if well_formed(text) { Ok(Self(text.to_owned())) } else { Err(BadId(text.to_owned())) }
            }
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> { Self::parse(&text) }
        }
        impl From<$name> for String { fn from(id: $name) -> String { id.0 } }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl std::str::FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> { Self::parse(text) }
        }
    };
}

id!(
    /// A tenant. One workspace, `main`, exists until people and roles do.
    WorkspaceId
);
id!(
    /// One unit of work, 12 random characters of base 32 (60 bits).
    RunId
);
id!(
    /// One box: an attempt of a run. 26 random characters of base 32 (130 bits), so that no one guesses it.
    BoxId
);
id!(
    /// Who is behind a run.
    PersonId
);
id!(
    /// One permission for one model call.
    GrantId
);
id!(
    /// One permission for one use of a capability. 26 random characters of base 32 (130 bits); whoever knows it has nothing
    /// without the run that it was given to.
    LeaseId
);

/// Writes `bytes` in base 32 (lower case, `a-z2-7`), the alphabet of our ids.
///
/// Gives `ceil(8 × len / 5)` characters.
#[must_use]
pub fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut held, mut bits) = (0u32, 0u32);
    for &byte in bytes {
        held = (held << 8) | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char::from(ALPHABET[(held >> bits) as usize & 31]));
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        out.push(char::from(ALPHABET[(held << (5 - bits)) as usize & 31]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_climb_out_of_a_folder() {
        for bad in ["", ".", "..", "a/b", "A", "a b", "-rf", "é", &"a".repeat(65)] {
            assert!(RunId::parse(bad).is_err(), "{bad:?} was taken");
        }
        assert!(RunId::parse(&"a".repeat(64)).is_ok());
    }

    #[test]
    fn base32_is_that_of_rfc_4648_in_lower_case_without_padding() {
        // Vectors of RFC 4648, section 10.
        for (input, output) in
            [("", ""), ("f", "my"), ("fo", "mzxq"), ("foo", "mzxw6"), ("foob", "mzxw6yq"), ("foobar", "mzxw6ytboi")]
        {
            assert_eq!(base32(input.as_bytes()), output);
        }
    }
}
