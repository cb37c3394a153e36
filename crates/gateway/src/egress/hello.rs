//! The first message of a TLS client, looked at and not answered: which name it asks for, and whether it hides one.
//!
//! Pure: bytes in, a word out. For blind tunnels, through which nothing else can be seen.
//!
//! Read [`look`].

/// Longest first message, with its records, in bytes.
pub(crate) const MAX_HELLO: usize = 32 * 1024;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
/// Encrypted ClientHello, and the draft before it: the name in clear is then not the one that is asked for.
const HIDDEN: [u16; 2] = [0xfe0d, 0xffce];

/// What the bytes so far are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Look {
    /// The beginning of something that may become a first message.
    More,
    /// A first message that asks for this name, and hides none.
    Name(String),
    /// It asks for no name.
    Nameless,
    /// It hides the name that it asks for.
    Hidden,
    /// No first message of TLS.
    Other,
}

/// Looks at what a client sent first.
pub(crate) fn look(bytes: &[u8]) -> Look {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        match rest {
            // Versions 3.0 to 3.4 have stood here.
            [HANDSHAKE, 3, 0..=4, high, low, after @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if length == 0 || length > 1 << 14 {
                    return Look::Other;
                }
                let part = &after[..length.min(after.len())];
                message.extend_from_slice(part);
                if let Some(whole) = whole(&message) {
                    return whole.ok().and_then(extensions).unwrap_or(Look::Other);
                }
                if after.len() < length {
                    break;
                }
                rest = &after[length..];
            }
            [] | [HANDSHAKE] | [HANDSHAKE, 3] | [HANDSHAKE, 3, 0..=4] | [HANDSHAKE, 3, 0..=4, _] => break,
            _ => return Look::Other,
        }
    }
    if bytes.len() >= MAX_HELLO { Look::Other } else { Look::More }
}

/// The body of the message, once all of it is there; an error if it is another one.
fn whole(message: &[u8]) -> Option<Result<&[u8], ()>> {
    match message {
        [CLIENT_HELLO, a, b, c, body @ ..] => {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if length > MAX_HELLO {
                return Some(Err(()));
            }
            body.get(..length).map(Ok)
        }
        [] | [CLIENT_HELLO, ..] => None,
        _ => Some(Err(())),
    }
}

/// None when the message is not well formed.
fn extensions(body: &[u8]) -> Option<Look> {
    let mut body = Reader(body);
    body.take(2 + 32)?;
    body.short()?;
    body.long()?;
    body.short()?;
    if body.0.is_empty() {
        return Some(Look::Nameless);
    }
    let mut list = Reader(body.long()?);
    if !body.0.is_empty() {
        return None;
    }
    let mut name = None;
    let mut hidden = false;
    while !list.0.is_empty() {
        let kind = list.number()?;
        let value = list.long()?;
        hidden |= HIDDEN.contains(&kind);
        if kind == SERVER_NAME {
            // Two of them, and two readers may take one each.
            if name.is_some() {
                return None;
            }
            name = Some(server_name(value)?);
        }
    }
    Some(match (hidden, name) {
        (true, _) => Look::Hidden,
        (false, Some(name)) => Look::Name(name),
        (false, None) => Look::Nameless,
    })
}

/// The one host name of a list of server names.
fn server_name(value: &[u8]) -> Option<String> {
    let mut list = Reader(value);
    let mut names = Reader(list.long()?);
    let [0] = names.take(1)? else { return None };
    let name = names.long()?;
    let plain = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    (plain && names.0.is_empty() && list.0.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, bytes: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }
    fn number(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }
    /// What stands behind a length of one byte.
    fn short(&mut self) -> Option<&'b [u8]> {
        let length = usize::from(self.take(1)?[0]);
        self.take(length)
    }
    /// What stands behind a length of two bytes.
    fn long(&mut self) -> Option<&'b [u8]> {
        let length = usize::from(self.number()?);
        self.take(length)
    }
}

#[cfg(test)]
mod tests;
