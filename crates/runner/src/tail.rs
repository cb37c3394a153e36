//! The end of a command's output, bounded, for an agent that asks.

use std::collections::VecDeque;

/// Keeps the last bytes of a stream.
#[derive(Debug)]
pub struct Tail {
    bytes: VecDeque<u8>,
    most: usize,
    cut: bool,
}

impl Tail {
    /// Keeps at most `most` bytes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { bytes: VecDeque::new(), most, cut: false }
    }

    /// Takes more of the stream.
    pub fn push(&mut self, more: &[u8]) {
        let keep = &more[more.len().saturating_sub(self.most)..];
        let over = (self.bytes.len() + keep.len()).saturating_sub(self.most);
        self.cut |= over > 0 || keep.len() < more.len();
        self.bytes.drain(..over);
        self.bytes.extend(keep);
    }

    /// What is kept, as text (each broken character replaced), and whether anything before it was lost.
    #[must_use]
    pub fn text(&self) -> (String, bool) {
        let mut bytes: Vec<u8> = self.bytes.iter().copied().collect();
        if self.cut {
            // A character that was cut in two is not part of the text.
            let broken = bytes.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
            bytes.drain(..broken);
        }
        (String::from_utf8_lossy(&bytes).into_owned(), self.cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_stay_and_a_character_is_not_cut_in_two() {
        let mut tail = Tail::new(5);
        tail.push("ab".as_bytes());
        assert_eq!(tail.text(), ("ab".into(), false));
        tail.push("éé".as_bytes());
        assert_eq!(tail.text(), ("béé".into(), true));
        tail.push("c".as_bytes());
        assert_eq!(tail.text(), ("ééc".into(), true));
        tail.push("d".as_bytes());
        assert_eq!(tail.text(), ("écd".into(), true));
    }

    #[test]
    fn exactly_as_much_as_is_kept_is_not_cut() {
        let mut tail = Tail::new(3);
        tail.push(b"abc");
        assert_eq!(tail.text(), ("abc".into(), false));
        tail.push(b"0123456789");
        assert_eq!(tail.text(), ("789".into(), true));
    }

    #[test]
    fn nothing_is_kept_of_a_stream_that_nobody_asks_for() {
        let mut tail = Tail::new(0);
        tail.push(b"abc");
        assert_eq!(tail.text(), (String::new(), true));
    }
}
