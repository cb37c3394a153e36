//! WebSockets (RFC 6455), taken apart as they pass: what a box says in its masked frames is looked through for handles as
//! every body is; what a host says is looked through in [`super::heard`].
//!
//! No extension is ever agreed on (the header that offers one is taken off, and an answer with one refused), so a payload
//! is what it says. What is no frame of that side's is not passed on: whoever reads it otherwise would be told what was
//! not looked at.

use super::body::Watch;
use crate::refusal::Refusal;
use std::fmt;

/// Longest payload of a control frame, in bytes.
const MAX_CONTROL: u64 = 125;

/// Why a WebSocket is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is no frame as a client sends them.
    Frame,
    /// A handle stands in it.
    Handle,
    /// It is no frame as a host sends them, or one that has to wait too long for another.
    Host,
    /// The host says the credential.
    Credential,
    /// A message of the host ended as the credential begins, and nothing followed in time.
    Held,
    /// Hosts' words that ended so told the box as many letters as it may be told.
    Told,
}

impl Fault {
    /// The refusal that tells it.
    pub(crate) fn refusal(self) -> Refusal {
        let rule = match self {
            Self::Frame => "websocket.frame",
            Self::Handle => "handle.websocket",
            Self::Host => "websocket.host",
            Self::Credential | Self::Held | Self::Told => "websocket.credential",
        };
        Refusal::policy(rule, self.why())
    }

    fn why(self) -> &'static str {
        match self {
            Self::Frame => "What was sent over the WebSocket is no masked frame of RFC 6455 without extensions.",
            Self::Handle => "A handle stood in a message over the WebSocket; it is replaced in its one header alone.",
            Self::Host => {
                "What the host sent over the WebSocket is no unmasked frame of RFC 6455 without extensions, or more of it had to \
                 wait than is kept until it is known whether the credential is being said."
            }
            Self::Credential => {
                "The host was about to say the credential over the WebSocket; it was ended before that."
            }
            Self::Held => {
                "A message of the host over the WebSocket ends as the credential begins, and nothing came after it for ten \
                 seconds that shows that it is another word; the WebSocket was ended before that end was passed on. Ask the host for \
                 an answer that ends otherwise."
            }
            Self::Told => {
                "What hosts said ended as a credential begins so often that a WebSocket to a host with a credential is not open to \
                 this box any more: that a message waits shows whose beginning it is. Ask the host by requests of HTTP."
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why())
    }
}

impl std::error::Error for Fault {}

/// The head of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// It is the last frame of its message.
    pub(super) last: bool,
    /// It is a ping, a pong or a close: beside the messages, perhaps in the middle of one.
    pub(super) control: bool,
    /// Bytes of payload that follow.
    pub(super) length: u64,
    /// What they are masked with, where they are.
    mask: [u8; 4],
}

/// Reads heads of frames, byte by byte.
pub(super) struct Heads {
    /// The side that sends masks its frames.
    masked: bool,
    /// The head that begins, 14 bytes at most.
    head: Vec<u8>,
}

impl Heads {
    /// Those of a client, which are masked, or of a host, which are not.
    pub(super) fn new(masked: bool) -> Self {
        Self { masked, head: Vec::new() }
    }

    /// Takes the next byte; gives the head, once all of it is there.
    ///
    /// # Errors
    /// For what is no head of a frame of this side without extensions.
    pub(super) fn take(&mut self, byte: u8) -> Result<Option<Head>, ()> {
        self.head.push(byte);
        let (first, second) = match self.head[..] {
            [first, second, ..] => (first, second),
            _ => return Ok(None),
        };
        let (last, extended, kind) = (first & 0x80 != 0, first & 0x70 != 0, first & 0x0f);
        if extended || !matches!(kind, 0..=2 | 8..=10) || (second & 0x80 != 0) != self.masked {
            return Err(());
        }
        let long = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let masks = if self.masked { 4 } else { 0 };
        if self.head.len() < 2 + long + masks {
            return Ok(None);
        }
        let length = match long {
            0 => u64::from(second & 0x7f),
            _ => self.head[2..2 + long].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        let control = kind >= 8;
        if length >> 63 != 0 || control && (length > MAX_CONTROL || !last) {
            return Err(());
        }
        let mut mask = [0; 4];
        mask[..masks].copy_from_slice(&self.head[2 + long..]);
        self.head.clear();
        Ok(Some(Head { last, control, length, mask }))
    }
}

/// A client's frames, in pieces as they come.
pub(crate) struct Frames {
    heads: Heads,
    /// What is still to come of the frame's payload.
    left: u64,
    mask: [u8; 4],
    at: usize,
    control: bool,
    /// Messages and control frames each by themselves: one may stand in the middle of the other.
    said: Watch,
    beside: Watch,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            heads: Heads::new(true),
            left: 0,
            mask: [0; 4],
            at: 0,
            control: false,
            said: Watch::default(),
            beside: Watch::default(),
        }
    }
}

impl Frames {
    /// Looks at the next piece, which is passed on only after that.
    ///
    /// # Errors
    /// [`Fault`]; then nothing more may be passed on.
    pub(crate) fn look(&mut self, mut piece: &[u8]) -> Result<(), Fault> {
        while !piece.is_empty() {
            if self.left == 0 {
                let head = self.heads.take(piece[0]).map_err(|()| Fault::Frame)?;
                piece = &piece[1..];
                if let Some(head) = head {
                    (self.left, self.mask, self.at, self.control) = (head.length, head.mask, 0, head.control);
                }
                continue;
            }
            let bytes = piece.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let plain: Vec<u8> =
                piece[..bytes].iter().enumerate().map(|(n, byte)| byte ^ self.mask[(self.at + n) % 4]).collect();
            self.at = (self.at + bytes) % 4;
            self.left -= bytes as u64;
            piece = &piece[bytes..];
            let watch = if self.control { &mut self.beside } else { &mut self.said };
            if watch.meets_handle(&plain) {
                return Err(Fault::Handle);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLE: &str = "vh_q7w3e5r2t4abcdefghijklmnopqrstuvwxyz234567abcdefghij";

    fn frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..=125 => frame.push(0x80 | length as u8),
            length @ 126..=65535 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(payload.iter().enumerate().map(|(n, byte)| byte ^ mask[n % 4]));
        frame
    }

    fn looked(bytes: &[u8], piece: usize) -> Result<(), Fault> {
        let mut frames = Frames::default();
        bytes.chunks(piece).try_for_each(|piece| frames.look(piece))
    }

    #[test]
    fn a_handle_in_masked_frames_is_met_however_they_and_their_bytes_are_cut() {
        let mask = [0x5a, 0xc3, 0x17, 0x88];
        for length in [0, 10, 200, 70_000] {
            let text = [vec![b'-'; length], HANDLE.as_bytes().to_vec(), b" end".to_vec()].concat();
            for piece in if length < 1000 { [1, 7, 4096] } else { [1021, 4096, usize::MAX] } {
                assert_eq!(looked(&frame(0x82, &text, mask), piece), Err(Fault::Handle), "{length} {piece}");
                let (one, two) = text.split_at(length + 9);
                // A message in two frames, a ping between them.
                let parts =
                    [frame(0x01, one, mask), frame(0x89, b"are you there", mask), frame(0x80, two, [1, 2, 3, 4])];
                assert_eq!(looked(&parts.concat(), piece), Err(Fault::Handle), "{length} {piece}, in two");
            }
        }
        assert_eq!(looked(&frame(0x89, HANDLE.as_bytes(), mask), 3), Err(Fault::Handle), "in a ping");
    }

    #[test]
    fn what_holds_none_passes_and_what_is_no_clients_frame_does_not() {
        let mask = [9, 8, 7, 6];
        let good = [frame(0x81, b"hello", mask), frame(0x82, &vec![7; 70_000], mask), frame(0x88, b"", mask)].concat();
        for piece in [61, 1021, usize::MAX] {
            assert_eq!(looked(&good, piece), Ok(()));
        }
        let unmasked = [0x81, 5, b'h', b'e', b'l', b'l', b'o'];
        let long_ping = frame(0x89, &[0; 126], mask);
        for bad in
            [&unmasked[..], b"GET / HTTP/1.1\r\n", &frame(0xc1, b"x", mask), &frame(0x83, b"x", mask), &long_ping]
        {
            assert_eq!(looked(bad, 1), Err(Fault::Frame), "{bad:?}");
        }
        assert_eq!(looked(&frame(0x09, b"x", mask), 1), Err(Fault::Frame), "a ping in parts");
        assert_eq!(looked(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], 1), Err(Fault::Frame), "too long");
    }
}
