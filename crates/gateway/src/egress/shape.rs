//! The one shape in which HTTP is taken from a box. Pure: bytes in, a word on them out.
//!
//! A request that two programs can read in two ways is how one of them is made to pass on what the other refused.
//! So nothing is repaired and nothing tolerated: what has more than one reading has none.
//!
//! Read [`head`] (a head, whole), then [`Chunks`] (a body in chunks, as it comes); [`of_two`] is the same over HTTP/2.

use std::str;

/// Headers of one request.
const MAX_HEADERS: usize = 100;
/// Longest line between chunks, and of trailers, in bytes.
const MAX_LINE: usize = 8 * 1024;
/// Longest size of a chunk, in hexadecimal digits.
const MAX_SIZE_DIGITS: usize = 8;

/// What is wrong with a request's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    TooLong,
    TooMany,
    BareLineFeed,
    Control,
    Line,
    Version,
    Method,
    Name,
    Fold,
    Host,
    Length,
    Lengths,
    Encoding,
    Both,
    Upgrade,
    Expect,
    Chunk,
    Trailer,
}

impl Fault {
    const ALL: [Self; 18] = [
        Self::TooLong,
        Self::TooMany,
        Self::BareLineFeed,
        Self::Control,
        Self::Line,
        Self::Version,
        Self::Method,
        Self::Name,
        Self::Fold,
        Self::Host,
        Self::Length,
        Self::Lengths,
        Self::Encoding,
        Self::Both,
        Self::Upgrade,
        Self::Expect,
        Self::Chunk,
        Self::Trailer,
    ];

    /// Its place in the list of all faults.
    pub(crate) fn number(self) -> usize {
        self as usize
    }
    /// The fault at a place of that list.
    pub(crate) fn at(number: usize) -> Option<Self> {
        Self::ALL.get(number).copied()
    }

    /// What it is, for the agent.
    pub(crate) fn why(self) -> &'static str {
        match self {
            Self::TooLong => "The request's head is longer than 64 KiB.",
            Self::TooMany => "The request has more than 100 headers.",
            Self::BareLineFeed => "A line of the request does not end in carriage return and line feed.",
            Self::Control => "The request's head holds a control character.",
            Self::Line => "The request line is not method, one space, target, one space, version.",
            Self::Version => "The request is neither of HTTP/1.1 nor of HTTP/1.0.",
            Self::Method => "The request's method is no token.",
            Self::Name => "A header's name is no token that a colon follows at once.",
            Self::Fold => "A header goes on in a second line.",
            Self::Host => "The request does not have exactly one Host header.",
            Self::Length => "The Content-Length is no plain decimal number.",
            Self::Lengths => "The request has more than one Content-Length.",
            Self::Encoding => "The Transfer-Encoding is not exactly one, and exactly chunked, in HTTP/1.1.",
            Self::Both => "The request has a Content-Length and a Transfer-Encoding.",
            Self::Upgrade => "A request that opens a tunnel or changes the protocol has a body.",
            Self::Expect => "The request expects something else than 100-continue.",
            Self::Chunk => "The body is not in plain chunks.",
            Self::Trailer => "The body's trailers are no plain headers.",
        }
    }
}

/// What follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// So many bytes of body.
    Body(u64),
    /// A body in chunks.
    Chunked,
    /// If the answer agrees, another protocol.
    Other,
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether the bytes of a head from `from` on hold a line that does not end as it must, or a byte that stands in no
/// head. To be asked as bytes come, so that a request that never ends is refused at once.
pub(crate) fn bytes_of_head(head: &[u8], from: usize) -> Result<(), Fault> {
    for (at, byte) in head.iter().enumerate().skip(from) {
        match byte {
            b'\n' if at == 0 || head[at - 1] != b'\r' => return Err(Fault::BareLineFeed),
            b'\n' | b'\r' | b'\t' => {}
            0..0x20 | 0x7f => return Err(Fault::Control),
            _ => {}
        }
        if *byte != b'\n' && at > 0 && head[at - 1] == b'\r' {
            return Err(Fault::BareLineFeed);
        }
    }
    Ok(())
}

/// Judges a head, from its first byte to its empty line, all of whose bytes are [`bytes_of_head`].
///
/// # Errors
/// The first [`Fault`].
pub(crate) fn head(head: &[u8]) -> Result<Next, Fault> {
    let text = head.strip_suffix(b"\r\n\r\n").ok_or(Fault::Line)?;
    let mut lines = text.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (method, old) = request_line(lines.next().unwrap_or_default())?;
    let mut seen = Seen::default();
    for (count, line) in lines.enumerate() {
        if count == MAX_HEADERS {
            return Err(Fault::TooMany);
        }
        if line.first().is_some_and(|b| matches!(b, b' ' | b'\t')) {
            return Err(Fault::Fold);
        }
        let (name, value) = header(line).ok_or(Fault::Name)?;
        seen.take(name, value)?;
    }
    seen.judge(method, old)
}

/// Judges a head that came over HTTP/2, where frames say what ends where and the parser takes no line, no chunk and no
/// control character: what is left of [`head`].
///
/// # Errors
/// The first [`Fault`].
pub(crate) fn of_two<B>(request: &http::Request<B>) -> Result<(), Fault> {
    if request.method().as_str() == super::wire::REFUSED {
        return Err(Fault::Method);
    }
    // Each line counts, those of one name too.
    if request.headers().len() > MAX_HEADERS {
        return Err(Fault::TooMany);
    }
    let mut seen = Seen::default();
    request.headers().iter().try_for_each(|(name, value)| seen.take(name.as_str().as_bytes(), value.as_bytes()))?;
    // `:authority` can stand for it.
    if seen.hosts > 1 { Err(Fault::Host) } else { Ok(()) }
}

fn request_line(line: &[u8]) -> Result<(&[u8], bool), Fault> {
    let mut parts = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Fault::Line);
    };
    if method.is_empty() || !method.iter().copied().all(is_token) || method == super::wire::REFUSED.as_bytes() {
        return Err(Fault::Method);
    }
    // hyper would leave a fragment out without a word.
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) || target.contains(&b'#') {
        return Err(Fault::Line);
    }
    match version {
        b"HTTP/1.1" => Ok((method, false)),
        b"HTTP/1.0" => Ok((method, true)),
        _ => Err(Fault::Version),
    }
}

fn header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|b| *b == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    (!name.is_empty() && name.iter().copied().all(is_token)).then_some((name, value))
}

/// The headers that decide where a request ends.
#[derive(Default)]
struct Seen {
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

impl Seen {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("host") {
            self.hosts += 1;
        } else if is("content-length") {
            let plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let length = str::from_utf8(value).ok().filter(|_| plain).and_then(|v| v.parse().ok());
            if self.length.is_some() {
                return Err(Fault::Lengths);
            }
            self.length = Some(length.ok_or(Fault::Length)?);
        } else if is("transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::Encoding);
            }
            self.chunked = true;
        } else if is("upgrade") {
            self.upgrade = true;
        } else if is("expect") && !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Fault::Expect);
        }
        Ok(())
    }

    fn judge(&self, method: &[u8], old: bool) -> Result<Next, Fault> {
        if self.hosts > 1 || (self.hosts == 0 && !old) {
            return Err(Fault::Host);
        }
        let other = self.upgrade || method == b"CONNECT";
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Fault::Both),
            (_, true) if old => Err(Fault::Encoding),
            (None, false) if other => Ok(Next::Other),
            (Some(0), false) if other => Ok(Next::Other),
            (_, _) if other => Err(Fault::Upgrade),
            (None, true) => Ok(Next::Chunked),
            (length, false) => Ok(Next::Body(length.unwrap_or(0))),
        }
    }
}

/// A body in chunks, read along.
#[derive(Debug)]
pub(crate) enum Chunks {
    /// In the line of a size.
    Size { line: Vec<u8> },
    /// In the bytes of a chunk, so many to come, and the line end after them.
    Data { left: u64 },
    /// In the trailers.
    Trailers { line: Vec<u8>, bytes: usize },
    /// Over.
    Done,
}

impl Default for Chunks {
    fn default() -> Self {
        Self::Size { line: Vec::new() }
    }
}

impl Chunks {
    /// Reads on, and says how many of `bytes` belong to the body: all, unless it is [`Chunks::Done`] then.
    ///
    /// # Errors
    /// [`Fault::Chunk`] or [`Fault::Trailer`].
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut at = 0;
        while at < bytes.len() {
            match self {
                Self::Done => break,
                Self::Data { left } if *left > 2 => {
                    let taken = (bytes.len() - at).min(usize::try_from(*left - 2).unwrap_or(usize::MAX));
                    *left -= taken as u64;
                    at += taken;
                }
                Self::Data { left } => {
                    if bytes[at] != if *left == 2 { b'\r' } else { b'\n' } {
                        return Err(Fault::Chunk);
                    }
                    *left -= 1;
                    at += 1;
                    if *left == 0 {
                        *self = Self::default();
                    }
                }
                Self::Size { line } => {
                    line.push(bytes[at]);
                    at += 1;
                    if line.ends_with(b"\r\n") {
                        *self = match size(&line[..line.len() - 2])? {
                            0 => Self::Trailers { line: Vec::new(), bytes: 0 },
                            size => Self::Data { left: size + 2 },
                        };
                    } else if line.len() > MAX_SIZE_DIGITS + 1 || line.contains(&b'\n') {
                        return Err(Fault::Chunk);
                    }
                }
                Self::Trailers { line, bytes: all } => {
                    line.push(bytes[at]);
                    at += 1;
                    *all += 1;
                    if *all > MAX_LINE || bytes_of_head(line, line.len() - 1).is_err() {
                        return Err(Fault::Trailer);
                    }
                    if line == b"\r\n" {
                        *self = Self::Done;
                    } else if line.ends_with(b"\r\n") {
                        trailer(&line[..line.len() - 2])?;
                        line.clear();
                    }
                }
            }
        }
        Ok(at)
    }
}

fn size(digits: &[u8]) -> Result<u64, Fault> {
    let plain = (1..=MAX_SIZE_DIGITS).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let text = str::from_utf8(digits).ok().filter(|_| plain).ok_or(Fault::Chunk)?;
    u64::from_str_radix(text, 16).map_err(|_| Fault::Chunk)
}

fn trailer(line: &[u8]) -> Result<(), Fault> {
    let (name, _) = header(line).ok_or(Fault::Trailer)?;
    // What decides how a request is read or judged stands in its head or nowhere.
    let framing = ["content-length", "transfer-encoding", "host", "authorization", "cookie", "te", "trailer"];
    if framing.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes())) {
        return Err(Fault::Trailer);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
