//! A command's output on its way to a page: bytes that come in pieces, to text.

/// Longest control sequence that is taken out, in bytes; what is longer is shown.
const MOST: usize = 32;

/// Turns pieces of one output into text.
///
/// A character or control sequence may be cut anywhere between pieces: its beginning is held until the rest is
/// there. Of a terminal's languages only control sequences (`ESC [ … letter`: colours, moves) are taken out,
/// because they carry no text. Everything else (titles, links) is left for [`super::text::shown`] to make visible:
/// a sequence that never ends must not hide what follows it.
#[derive(Debug, Default)]
pub struct Terminal {
    held: Vec<u8>,
}

impl Terminal {
    /// The text that is whole after this piece.
    pub fn take(&mut self, piece: &[u8]) -> String {
        self.held.extend_from_slice(piece);
        let bytes = std::mem::take(&mut self.held);
        let (out, rest) = read(&bytes);
        self.held = rest.to_vec();
        out
    }

    /// What was held for a rest that never came.
    pub fn end(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }
}

/// The text, and the tail that may be the beginning of something.
fn read(bytes: &[u8]) -> (String, &[u8]) {
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        let at = rest.iter().position(|b| *b == 0x1b).unwrap_or(rest.len());
        let (before, from) = rest.split_at(at);
        let held = if from.is_empty() { cut_character(before) } else { 0 };
        let (whole, tail) = before.split_at(before.len() - held);
        out.push_str(&String::from_utf8_lossy(whole));
        if from.is_empty() {
            return (out, tail);
        }
        match sequence(from) {
            Sequence::Whole(len) => rest = &from[len..],
            Sequence::Cut => return (out, from),
            Sequence::None => {
                out.push('\u{1b}');
                rest = &from[1..];
            }
        }
    }
}

enum Sequence {
    Whole(usize),
    Cut,
    None,
}

/// What the escape at the beginning of `bytes` begins.
fn sequence(bytes: &[u8]) -> Sequence {
    match bytes.get(1) {
        None => return Sequence::Cut,
        Some(b'[') => {}
        Some(_) => return Sequence::None,
    }
    for (at, byte) in bytes.iter().enumerate().skip(2) {
        match byte {
            _ if at >= MOST => return Sequence::None,
            0x20..=0x3f => {}
            0x40..=0x7e => return Sequence::Whole(at + 1),
            _ => return Sequence::None,
        }
    }
    if bytes.len() > MOST { Sequence::None } else { Sequence::Cut }
}

/// How many bytes at the end may be the beginning of a character: 0 to 3.
fn cut_character(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    match std::str::from_utf8(tail) {
        Ok(_) => 0,
        Err(_) => tail
            .iter()
            .rev()
            .position(|b| b & 0xc0 != 0x80)
            .map(|back| back + 1)
            .filter(|len| {
                let lead = tail[tail.len() - len];
                let needs = match lead {
                    0xc2..=0xdf => 2,
                    0xe0..=0xef => 3,
                    0xf0..=0xf4 => 4,
                    _ => 0,
                };
                *len < needs
            })
            .unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(bytes: &[u8]) -> String {
        let mut terminal = Terminal::default();
        let mut out = terminal.take(bytes);
        out += &terminal.end();
        out
    }

    #[test]
    fn colours_are_taken_out_and_what_carries_text_is_not() {
        assert_eq!(whole(b"\x1b[1;31mred\x1b[0m\x1b[2Kx"), "redx");
        assert_eq!(whole(b"\x1b]0;title\x07x"), "\x1b]0;title\x07x");
        assert_eq!(whole(b"a\x1b]never ended"), "a\x1b]never ended");
        assert_eq!(whole(b"a\x1b["), "a\x1b[");
    }

    #[test]
    fn a_sequence_that_never_ends_hides_nothing() {
        let mut long = b"\x1b[".to_vec();
        long.extend([b'1'; 100]);
        long.extend(b"shown");
        assert!(whole(&long).ends_with("shown"), "{:?}", whole(&long));
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_not_dropped() {
        assert_eq!(whole(b"a\xff\xfeb"), "a\u{fffd}\u{fffd}b");
        assert_eq!(whole("é".as_bytes().split_at(1).0), "\u{fffd}");
    }

    proptest! {
        #[test]
        fn where_an_output_is_cut_does_not_matter(
            parts in prop::collection::vec(prop_oneof![
                Just("\u{1b}[1;31m".as_bytes().to_vec()), Just("é漢🦜".as_bytes().to_vec()), Just(b"\x1b".to_vec()),
                Just(b"plain\r\n".to_vec()), prop::collection::vec(any::<u8>(), 0..4),
            ], 0..12),
            cuts in prop::collection::vec(0usize..200, 0..8),
        ) {
            let bytes: Vec<u8> = parts.concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut terminal = Terminal::default();
            let (mut out, mut from) = (String::new(), 0);
            for cut in cuts {
                out += &terminal.take(&bytes[from..cut]);
                from = cut;
            }
            out += &terminal.take(&bytes[from..]);
            out += &terminal.end();
            prop_assert_eq!(out, whole(&bytes));
        }
    }
}
