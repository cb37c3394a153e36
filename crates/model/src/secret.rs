//! A value that cannot be printed, cloned by accident or left in memory.

use std::fmt;
use zeroize::Zeroize;

/// As what a custom secret is stored that is a text: it has spaces or line ends, and stands in no header and no variable.
pub const TEXT: &str = "text";

/// Holds a credential: `Debug` hides it, there is no `Display` and no
/// `Serialize`, and its memory is overwritten when it is dropped.
///
/// The one way to the value is [`Secret::expose`], which is easy to search for.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes a value in.
    pub fn new(value: T) -> Self {
        Self(value)
    }
    /// The value itself. Every call is a place to review.
    pub fn expose(&self) -> &T {
        &self.0
    }
    /// The value itself, to be written where it stays: no copy of it is made on the way.
    pub fn expose_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Zeroize + Clone> Secret<T> {
    /// A second holder of the same value; named, so that it is not done without thought.
    #[must_use]
    pub fn share(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_itself() {
        let secret = Secret::new("sk-very-real".to_owned());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "[secret] Some([secret])");
    }
}
