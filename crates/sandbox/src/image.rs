//! What a box's file system may start from: an image that cannot change under a profile.

use serde::{Deserialize, Serialize};

/// An image as a profile names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Image {
    /// `registry/name@sha256:…`: what a registry has under that digest, and nothing else.
    Registry(String),
}

impl Image {
    /// Reads a profile's word.
    ///
    /// # Errors
    /// A sentence that says what to write instead.
    pub fn parse(name: &str) -> Result<Self, String> {
        match name.split_once('@') {
            Some((repository, digest)) if !repository.is_empty() && is_digest(digest) => {
                Ok(Self::Registry(name.to_owned()))
            }
            Some(_) => Err(format!("{name:?} has no whole digest; write name@sha256: and 64 hexadecimal digits")),
            None => Err(format!(
                "{name:?} is a tag, and a tag can be moved to other content; name the image by its digest, as \
                 `docker image inspect --format '{{{{index .RepoDigests 0}}}}' {name}` prints it"
            )),
        }
    }
}

/// `sha256:` and 64 lower-case hexadecimal digits.
fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_by_digest_and_a_tag_is_told_what_to_write() {
        let digest = "sha256:".to_owned() + &"0a".repeat(32);
        let whole = format!("registry:5000/team/tools@{digest}");
        assert_eq!(Image::parse(&whole), Ok(Image::Registry(whole.clone())));
        for tag in ["debian", "debian:12", "registry:5000/team/tools:latest"] {
            assert!(Image::parse(tag).unwrap_err().contains("by its digest"), "{tag}");
        }
        for cut in [&whole[..whole.len() - 1], "x@sha256:", &format!("@{digest}"), &whole.to_uppercase()] {
            assert!(Image::parse(cut).unwrap_err().contains("64 hexadecimal"), "{cut}");
        }
    }
}
