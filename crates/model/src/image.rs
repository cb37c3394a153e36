//! A registry's image by its digest: whom it is asked of, and what for.
//!
//! Names are read as Docker reads them: the part before the first slash is a host when it has a dot or a colon in it or
//! is `localhost`; otherwise all of it is a name at Docker Hub. A tag beside the digest says nothing.

/// Longest name of an image, in bytes.
const MAX_NAME: usize = 512;
/// Longest repository, in bytes, by the distribution's own rule.
const MAX_REPOSITORY: usize = 255;
/// What Docker Hub is called in names, and the host that answers for it.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");
/// Where Docker Hub keeps names of one word.
const HUB_LIBRARY: &str = "library";

/// What `registry/name@sha256:…` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The registry's host as a URL has it, its port beside it where the name has one.
    pub host: String,
    /// The repository there, `team/tools`.
    pub repository: String,
    /// `sha256:` and 64 lower-case hexadecimal digits: of an index, or of the manifest of one image.
    pub digest: String,
}

impl Reference {
    /// Reads a profile's word.
    ///
    /// # Errors
    /// A sentence that says what to write instead.
    pub fn parse(name: &str) -> Result<Self, String> {
        let (whole, digest) = name
            .split_once('@')
            .filter(|(_, digest)| name.len() <= MAX_NAME && is_digest(digest))
            .ok_or_else(|| format!("{name:?} has no whole digest; write name@sha256: and 64 hexadecimal digits"))?;
        let (host, path) = match whole.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
            _ => (HUB.0, whole),
        };
        let path = match path.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => path,
            _ => path,
        };
        let is_hub = host == HUB.0 || host == "index.docker.io";
        let repository = if is_hub && !path.contains('/') { format!("{HUB_LIBRARY}/{path}") } else { path.to_owned() };
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        if repository.len() > MAX_REPOSITORY || !repository.split('/').all(is_component) || !host.chars().all(is_host) {
            return Err(format!(
                "{name:?} names no image of a registry; write host[:port]/repository@sha256:…, the repository in small \
                 letters"
            ));
        }
        let host = if is_hub { HUB.1 } else { host };
        Ok(Self { host: host.to_owned(), repository, digest: digest.to_owned() })
    }

    /// Whether the registry is asked in plain HTTP: on this very host, where nobody is between.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let host = match self.host.strip_prefix('[') {
            Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
            None => self.host.split(':').next().unwrap_or_default(),
        };
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// A part of a repository's name between slashes: small letters and digits, with single dots, underscores or hyphens
/// between them, or several underscores or hyphens.
fn is_component(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    bytes.first().is_some_and(|byte| plain(*byte))
        && bytes.last().is_some_and(|byte| plain(*byte))
        && bytes.iter().all(|byte| plain(*byte) || matches!(byte, b'.' | b'_' | b'-'))
        && !part.contains("..")
}

/// `sha256:` and 64 lower-case hexadecimal digits.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str) -> Result<(String, String), String> {
        let whole = format!("{name}@sha256:{}", "0a".repeat(32));
        Reference::parse(&whole).map(|found| (found.host, found.repository))
    }

    #[test]
    fn a_name_is_read_as_docker_reads_it() {
        for (name, host, repository) in [
            ("debian", "registry-1.docker.io", "library/debian"),
            ("debian:13", "registry-1.docker.io", "library/debian"),
            ("team/tools", "registry-1.docker.io", "team/tools"),
            ("docker.io/debian", "registry-1.docker.io", "library/debian"),
            ("registry.example/a/b/c:latest", "registry.example", "a/b/c"),
            ("registry:5000/tools", "registry:5000", "tools"),
            ("localhost/tools", "localhost", "tools"),
            ("[::1]:5000/tools", "[::1]:5000", "tools"),
        ] {
            assert_eq!(read(name), Ok((host.to_owned(), repository.to_owned())), "{name}");
        }
    }

    #[test]
    fn what_names_no_repository_is_refused_with_what_to_write() {
        for name in ["", "r.example/", "r.example/UP", "r.example/a//b", "r.example/../a", "r.example/a/..", "r.e/a?b"]
        {
            assert!(read(name).unwrap_err().contains("names no image"), "{name}");
        }
        for name in ["u:p@r.example/a", "r.ex ample/a"] {
            assert!(read(name).is_err(), "{name}");
        }
        assert!(Reference::parse("debian").unwrap_err().contains("64 hexadecimal"));
        assert!(Reference::parse("debian@sha256:12").unwrap_err().contains("64 hexadecimal"));
        assert!(read(&"a".repeat(256)).unwrap_err().contains("names no image"));
    }

    #[test]
    fn only_this_very_host_is_asked_in_plain_http() {
        let plain =
            |host: &str| Reference { host: host.into(), repository: "a".into(), digest: String::new() }.is_plain();
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert!(plain(host), "{host}");
        }
        for host in ["registry.example", "10.0.0.1:5000", "localhost.example", "[::2]:5000", "127.0.0.1.example"] {
            assert!(!plain(host), "{host}");
        }
    }
}
