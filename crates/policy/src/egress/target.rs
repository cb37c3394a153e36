//! What a request to the forward proxy names: parsers for the three forms of its target.
//!
//! Strict, so that no two programs on the way can read one target in two ways: printable ASCII only, no user
//! part, no fragment, a port in plain decimal, a path that begins with a slash.

use super::{Name, path};
use crate::Refusal;

/// Longest target, in bytes.
pub const MAX_TARGET: usize = 16 * 1024;

/// The scheme of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP inside TLS.
    Https,
}

impl Scheme {
    /// The port that goes without saying.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// An absolute URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absolute<'t> {
    /// Its scheme.
    pub scheme: Scheme,
    /// Its host.
    pub host: Name,
    /// Its port, also where the text has none.
    pub port: u16,
    /// Path and query; `/` where the text has none.
    pub path: &'t str,
}

/// Reads the target of a request in absolute form, `http://host[:port][/path][?query]`.
///
/// # Errors
/// `target.*`, and the rules of [`Name::parse`].
pub fn absolute(text: &str) -> Result<Absolute<'_>, Refusal> {
    bounded(text)?;
    let (scheme, rest) = text.split_once("://").ok_or_else(|| no("target.form", "The target is no absolute URL."))?;
    let scheme = match scheme {
        s if s.eq_ignore_ascii_case("http") => Scheme::Http,
        s if s.eq_ignore_ascii_case("https") => Scheme::Https,
        _ => return Err(no("target.scheme", "Only http and https go through this proxy.")),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (host, port) = host_port(authority)?;
    let path = match path {
        "" => "/",
        path if path.starts_with('/') => path,
        _ => return Err(no("target.path", "The path begins with a slash, also before a query.")),
    };
    path::check(path)?;
    Ok(Absolute { scheme, host, port: port.unwrap_or_else(|| scheme.port()), path })
}

/// Reads the target of a CONNECT, `host:port`. The port must be said.
///
/// # Errors
/// `target.*`, and the rules of [`Name::parse`].
pub fn authority(text: &str) -> Result<(Name, u16), Refusal> {
    bounded(text)?;
    match host_port(text)? {
        (host, Some(port)) => Ok((host, port)),
        (_, None) => Err(no("target.port", "A tunnel names a port after the host.")),
    }
}

/// Reads the Host header of a request (or its `:authority`): `host[:port]`.
///
/// # Errors
/// `target.*`, and the rules of [`Name::parse`].
pub fn host_header(text: &str, scheme: Scheme) -> Result<(Name, u16), Refusal> {
    bounded(text)?;
    let (host, port) = host_port(text)?;
    Ok((host, port.unwrap_or_else(|| scheme.port())))
}

/// Checks the target of a request in origin form, `/path[?query]`.
///
/// # Errors
/// `target.*`.
pub fn origin(text: &str) -> Result<&str, Refusal> {
    bounded(text)?;
    path::check(text)?;
    Ok(text)
}

fn host_port(text: &str) -> Result<(Name, Option<u16>), Refusal> {
    // Before the port is split off: `user:1@host` has a colon too.
    if text.contains('@') {
        return Err(no("host.userinfo", "A user name or password before the host is not taken; leave it out."));
    }
    let split = match text.rfind(']') {
        // A colon inside the brackets belongs to the address.
        Some(end) if text.starts_with('[') => text[end..].find(':').map(|at| end + at),
        _ => text.rfind(':'),
    };
    let Some(at) = split else { return Ok((Name::parse(text)?, None)) };
    Ok((Name::parse(&text[..at])?, Some(port(&text[at + 1..])?)))
}

fn port(text: &str) -> Result<u16, Refusal> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    let port = if plain { text.parse::<u16>().ok() } else { None };
    port.ok_or_else(|| no("target.port", "A port is a decimal number from 1 to 65535, without zeros before it."))
}

fn bounded(text: &str) -> Result<(), Refusal> {
    if text.len() > MAX_TARGET {
        return Err(no("target.long", "The target is longer than 16 KiB."));
    }
    Ok(())
}

fn no(rule: &'static str, why: &str) -> Refusal {
    Refusal::new(rule, why)
}
