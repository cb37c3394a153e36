//! pkt-lines: the form of all that git says over HTTP but the packs themselves. Total: bytes in, lines or a word on what
//! is wrong out. Nothing is repaired.

use std::fmt;

/// Longest line, its four digits among it.
pub(crate) const MAX_LINE: usize = 65520;

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line<'b> {
    /// `0000`.
    Flush,
    /// `0001`.
    Delimiter,
    /// `0002`.
    End,
    /// What it holds.
    Data(&'b [u8]),
}

/// What is no pkt-line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The bytes end in the middle of one.
    Cut,
    /// Four characters that are no length.
    Length,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "it ends in the middle of a line",
            Self::Length => "a line has a length that is none",
        })
    }
}

/// Reads lines off the front of `bytes`.
pub(crate) struct Lines<'b> {
    bytes: &'b [u8],
}

impl<'b> Lines<'b> {
    pub(crate) fn of(bytes: &'b [u8]) -> Self {
        Self { bytes }
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'b [u8] {
        self.bytes
    }

    /// The next line; none at the end of the bytes.
    ///
    /// # Errors
    /// [`Wrong`]; nothing more can be read then.
    pub(crate) fn next(&mut self) -> Result<Option<Line<'b>>, Wrong> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let digits = self.bytes.get(..4).ok_or(Wrong::Cut)?;
        let mut length = 0usize;
        for digit in digits {
            let digit = char::from(*digit).to_digit(16).ok_or(Wrong::Length)?;
            length = length << 4 | usize::try_from(digit).unwrap_or(0);
        }
        let line = match length {
            0 => Line::Flush,
            1 => Line::Delimiter,
            2 => Line::End,
            3 | MAX_LINE.. if length != MAX_LINE => return Err(Wrong::Length),
            _ => Line::Data(self.bytes.get(4..length).ok_or(Wrong::Cut)?),
        };
        self.bytes = &self.bytes[length.max(4)..];
        Ok(Some(line))
    }
}

/// Writes one line. What is longer than a line is cut, which no caller's words are.
pub(crate) fn line(to: &mut Vec<u8>, data: &[u8]) {
    let data = &data[..data.len().min(MAX_LINE - 4)];
    to.extend_from_slice(format!("{:04x}", data.len() + 4).as_bytes());
    to.extend_from_slice(data);
}

/// Writes `0000`.
pub(crate) fn flush(to: &mut Vec<u8>) {
    to.extend_from_slice(b"0000");
}

/// The text of a line without its line end.
pub(crate) fn text(data: &[u8]) -> &[u8] {
    data.strip_suffix(b"\n").unwrap_or(data)
}

/// An object's name: 40 hexadecimal digits in lower case, as its 20 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Oid(pub(crate) [u8; 20]);

impl Oid {
    pub(crate) const ZERO: Self = Self([0; 20]);

    /// Reads one.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != 40 {
            return None;
        }
        let mut bytes = [0; 20];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |d: u8| match d {
                b'0'..=b'9' => Some(d - b'0'),
                b'a'..=b'f' => Some(d - b'a' + 10),
                _ => None,
            };
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8]) -> Result<Vec<Line<'_>>, Wrong> {
        let mut lines = Lines::of(bytes);
        let mut all = Vec::new();
        while let Some(line) = lines.next()? {
            all.push(line);
        }
        Ok(all)
    }

    #[test]
    fn lines_are_read_as_they_are_written_and_nothing_else_is_one() {
        let mut wire = Vec::new();
        line(&mut wire, b"hello\n");
        flush(&mut wire);
        wire.extend_from_slice(b"00010002");
        assert_eq!(all(&wire), Ok(vec![Line::Data(b"hello\n"), Line::Flush, Line::Delimiter, Line::End]));
        for (bytes, wrong) in [
            (&b"0003"[..], Wrong::Length),
            (b"00", Wrong::Cut),
            (b"0006a", Wrong::Cut),
            (b"zzzz", Wrong::Length),
            (b"+004", Wrong::Length),
            (b"fff1", Wrong::Length),
            (b"ffff", Wrong::Length),
        ] {
            assert_eq!(all(bytes), Err(wrong), "{bytes:?}");
        }
        assert_eq!(all(b"0004"), Ok(vec![Line::Data(b"")]));
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_end_and_the_lines_are_no_more_than_the_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut lines = Lines::of(&bytes);
            let mut count = 0;
            while let Ok(Some(_)) = lines.next() {
                count += 1;
                prop_assert!(count * 4 <= bytes.len());
            }
        }

        #[test]
        fn a_name_is_read_in_one_spelling(bytes in any::<[u8; 20]>()) {
            let text = Oid(bytes).to_string();
            prop_assert_eq!(Oid::parse(text.as_bytes()), Some(Oid(bytes)));
            prop_assert_eq!(Oid::parse(text.to_uppercase().as_bytes()).is_some(), text == text.to_uppercase());
        }
    }
}
