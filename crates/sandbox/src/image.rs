//! What a box's file system may start from: an image that cannot change under a profile.
//!
//! Every kind leads to an image's id, the digest of its configuration, which names each layer by digest in turn. What
//! an engine loaded is used under that id only, so a file or a registry that gives other content gives nothing.
//!
//! Read [`Image`] (how a profile names one), [`content`] (what of this host it is), [`pulled`] (what came from a registry
//! for the embedded engine), [`said`] (what it says of itself), [`packed`] (what packs a layer), [`unpack`] (how layers become
//! a tree), then [`kept`] (where the embedded engine keeps trees).

pub(crate) mod content;
pub(crate) mod kept;
pub(crate) mod packed;
pub mod pulled;
pub mod said;
#[cfg(test)]
mod tests;
pub(crate) mod unpack;

use model::image::is_digest;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// An image as a profile names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Image {
    /// `registry/name@sha256:…`: what a registry has under that digest, and nothing else.
    Registry(String),
    /// A folder of the host that is an OCI image layout; with a digest, what has that digest in it.
    Layout(PathBuf, Option<String>),
    /// A tar of the host as `docker save` writes it, or of an OCI image layout; with a digest, as a layout.
    Tar(PathBuf, Option<String>),
}

impl Image {
    /// Reads a profile's word. A path must be there.
    ///
    /// # Errors
    /// A sentence that says what to write instead.
    pub fn parse(name: &str) -> Result<Self, String> {
        if name.starts_with('/') {
            return Self::of_this_host(name);
        }
        match name.split_once('@') {
            Some((repository, digest)) if !repository.is_empty() && is_digest(digest) => {
                Ok(Self::Registry(name.to_owned()))
            }
            Some(_) => Err(no_digest(name)),
            None => Err(format!(
                "{name:?} is a tag, and a tag can be moved to other content; name the image by its digest, as \
                 `docker image inspect --format '{{{{index .RepoDigests 0}}}}' {name}` prints it, or name a file or \
                 folder of this host from / on"
            )),
        }
    }

    fn of_this_host(name: &str) -> Result<Self, String> {
        let (path, digest) = match name.rsplit_once("@sha256:") {
            Some((path, hex)) => (path, Some(format!("sha256:{hex}"))),
            None => (name, None),
        };
        if digest.as_deref().is_some_and(|digest| !is_digest(digest)) {
            return Err(no_digest(name));
        }
        let path = PathBuf::from(path);
        let shown = path.display();
        match path.metadata() {
            Ok(found) if found.is_file() => Ok(Self::Tar(path, digest)),
            Ok(_) if path.join("oci-layout").is_file() => Ok(Self::Layout(path, digest)),
            Ok(_) => Err(format!("{shown} is a folder and no OCI image layout (it has no file oci-layout)")),
            Err(e) => Err(format!("{shown} cannot be opened: {e}")),
        }
    }

    /// Where on this host it lies; none for a registry's.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Registry(_) => None,
            Self::Layout(path, _) | Self::Tar(path, _) => Some(path),
        }
    }
}

fn no_digest(name: &str) -> String {
    format!("{name:?} has no whole digest; write name@sha256: and 64 hexadecimal digits")
}

#[cfg(test)]
mod names {
    use super::*;
    use std::fs;

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

    #[test]
    fn a_path_is_a_layout_or_a_tar_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().to_str().unwrap();
        let digest = "sha256:".to_owned() + &"0a".repeat(32);
        assert!(Image::parse(name).unwrap_err().contains("no OCI image layout"));
        assert!(Image::parse(&format!("{name}/absent")).unwrap_err().contains("cannot be opened"));
        fs::write(dir.path().join("oci-layout"), "{}").unwrap();
        assert_eq!(Image::parse(name), Ok(Image::Layout(dir.path().into(), None)));
        assert_eq!(
            Image::parse(&format!("{name}@{digest}")),
            Ok(Image::Layout(dir.path().into(), Some(digest.clone())))
        );
        assert!(Image::parse(&format!("{name}@sha256:12")).unwrap_err().contains("64 hexadecimal"));
        let tar = dir.path().join("x.tar");
        fs::write(&tar, "").unwrap();
        assert_eq!(Image::parse(tar.to_str().unwrap()), Ok(Image::Tar(tar, None)));
    }
}
