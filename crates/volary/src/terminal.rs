//! What a command of a box says, on its way to a person's terminal.
//!
//! Whoever types `volary exec` expects a program's colours and the line that counts its progress, as from any program. But
//! what it says may be of anybody's writing (a file of a repository, an answer of a host), and a terminal obeys: it moves
//! its cursor over what was said before, takes another title, and writes the clipboard. So of what steers a terminal
//! only this passes: colours and the like (`CSI … m`), the rest of a line cleared (`CSI … K`), and the characters that
//! end a line, return in it, go a place back or to the next tab, and ring. All else is left out. A control character that
//! stands alone, and one that turns the direction of what is read, is shown as U+FFFD; what joins letters or keeps them
//! apart is a part of honest text, and passes.
//!
//! Bytes that are for no terminal pass this by: they are as the command wrote them.

/// One stream of a command, as its terminal gets it.
#[derive(Debug, Default)]
pub struct Terminal {
    state: State,
    /// The beginning of a character whose end has not come.
    begun: Vec<u8>,
    /// Whether it is left in other colours than it was found in.
    coloured: bool,
    /// Whether anything was left out.
    left_out: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Text,
    /// After an escape.
    Escape,
    /// Within a sequence that may pass: its numbers so far.
    Sequence(String),
    /// Within one that does not.
    Skipped,
    /// Within a command of a few characters, none of which passes.
    Other,
    /// Within a text for the terminal itself (a title, the clipboard).
    Words,
}

/// Characters of a sequence that may pass.
const LONGEST: usize = 64;

impl Terminal {
    /// What of the next bytes the terminal gets.
    pub fn pass(&mut self, bytes: &[u8]) -> String {
        self.begun.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.begun);
        let mut said = String::new();
        let mut chunks = all.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            chunk.valid().chars().for_each(|c| self.take(c, &mut said));
            let invalid = chunk.invalid();
            if chunks.peek().is_none() && is_begun(invalid) {
                self.begun = invalid.to_vec();
            } else if !invalid.is_empty() {
                self.take('\u{fffd}', &mut said);
            }
        }
        said
    }

    /// What it gets before others say something, so that this looks as ever. What was begun goes on after it.
    pub fn put_back(&mut self) -> &'static str {
        if std::mem::take(&mut self.coloured) { "\x1b[0m" } else { "" }
    }

    /// What it gets at the end: what was begun has no other.
    pub fn end(&mut self) -> String {
        let mut said = String::new();
        if !std::mem::take(&mut self.begun).is_empty() {
            self.take('\u{fffd}', &mut said);
        }
        self.left_out |= !matches!(std::mem::take(&mut self.state), State::Text);
        said + self.put_back()
    }

    /// Whether it did not get all.
    pub fn left_out(&self) -> bool {
        self.left_out
    }

    fn take(&mut self, c: char, said: &mut String) {
        match std::mem::take(&mut self.state) {
            // A line's end or a new sequence ends whatever was begun: nothing of that was passed on.
            _ if c == '\x1b' => self.state = State::Escape,
            State::Sequence(_) | State::Skipped | State::Other | State::Escape | State::Words
                if matches!(c, '\n' | '\r') =>
            {
                self.left_out = true;
                said.push(c);
            }
            State::Text => self.text(c, said),
            State::Escape => self.escaped(c),
            State::Sequence(so_far) => self.sequence(so_far, c, said),
            State::Skipped => {
                if matches!(c, ' '..='?') {
                    self.state = State::Skipped;
                }
            }
            State::Other => {
                self.left_out = true;
                if matches!(c, ' '..='/') {
                    self.state = State::Other;
                }
            }
            State::Words => {
                self.left_out = true;
                if !matches!(c, '\x07' | '\u{9c}' | '\x18' | '\x1a') {
                    self.state = State::Words;
                }
            }
        }
    }

    fn text(&mut self, c: char, said: &mut String) {
        match c {
            '\n' | '\r' | '\t' | '\x08' | '\x07' => said.push(c),
            c if c.is_control() || turns(c) => {
                self.left_out = true;
                said.push('\u{fffd}');
            }
            c => said.push(c),
        }
    }

    fn escaped(&mut self, c: char) {
        self.state = match c {
            '[' => State::Sequence(String::new()),
            ']' | 'P' | 'X' | '^' | '_' => State::Words,
            ' '..='/' => State::Other,
            _ => State::Text,
        };
        // The end of a text for the terminal, or something that is one character long.
        self.left_out |= matches!(self.state, State::Text);
    }

    fn sequence(&mut self, mut so_far: String, c: char, said: &mut String) {
        match c {
            '0'..='9' | ';' | ':' if so_far.len() < LONGEST => {
                so_far.push(c);
                self.state = State::Sequence(so_far);
            }
            'm' | 'K' => {
                said.push_str("\x1b[");
                said.push_str(&so_far);
                said.push(c);
                if c == 'm' {
                    self.coloured = !matches!(so_far.as_str(), "" | "0");
                }
            }
            // Of another kind: its end is looked for, and nothing of it passes.
            ' '..='?' => {
                self.left_out = true;
                self.state = State::Skipped;
            }
            _ => self.left_out = true,
        }
    }
}

/// Whether it changes the order in which a terminal shows the letters around it, and is no letter itself.
fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether these bytes are the beginning of a character, and no more than that.
fn is_begun(bytes: &[u8]) -> bool {
    let length = match bytes.first() {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => 0,
    };
    bytes.len() < length
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a terminal gets of these pieces, and whether that is not all.
    fn got(pieces: &[&[u8]]) -> (String, bool) {
        let mut terminal = Terminal::default();
        let mut said: String = pieces.iter().map(|piece| terminal.pass(piece)).collect();
        said.push_str(&terminal.end());
        (said, terminal.left_out())
    }

    fn of(text: &str) -> (String, bool) {
        let whole = got(&[text.as_bytes()]);
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(got(&bytes), whole, "in pieces it is another: {text:?}");
        whole
    }

    #[test]
    fn colours_and_a_line_of_progress_pass() {
        for text in [
            "plain, größer, 漢字 and 🦜\n",
            "\x1b[1;31mred\x1b[0m and \x1b[38;2;1;2;3mmore\x1b[m\n",
            "10%\r\x1b[K20%\r\x1b[2K30%\tdone\x07\x08\n",
        ] {
            assert_eq!(of(text), (text.to_owned(), false));
        }
        assert_eq!(of("\x1b[4:3mleft so"), ("\x1b[4:3mleft so\x1b[0m".to_owned(), false));
    }

    #[test]
    fn what_moves_the_cursor_sets_a_title_or_writes_the_clipboard_does_not() {
        for (text, gets) in [
            ("a\x1b[2Ab", "ab"),
            ("a\x1b[2J\x1b[Hb", "ab"),
            ("a\x1b[10;10fb", "ab"),
            ("a\x1b[?1049hb", "ab"),
            ("a\x1b[>4;2mb", "ab"),
            ("a\x1b[0 qb", "ab"),
            ("a\x1b]0;title\x07b", "ab"),
            ("a\x1b]52;c;aGk=\x1b\\b", "ab"),
            ("a\x1b]8;;https://a.example\u{9c}b", "ab"),
            ("a\x1bPq#0\x1b\\b\x1b_x\x1b\\\x1b^x\x1b\\\x1bXx\x1b\\c", "abc"),
            ("a\x1bcb\x1b7\x1b8", "ab"),
            ("a\x1b(0b\x1b#8c", "abc"),
            ("a\u{9b}2Jb\u{9d}0;t\u{9c}", "a\u{fffd}2Jb\u{fffd}0;t\u{fffd}"),
            ("a\0\x0b\x0c\x0e\x7fb", "a\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}b"),
            // Of what is begun and not ended nothing passes, and a line's end is its end.
            ("a\x1b]0;title\nb", "a\nb"),
            ("a\x1b[31\nb\x1b[1\x1b[2Jc", "a\nbc"),
            ("a\x1b[", "a"),
            ("a\x1b]0;title", "a"),
        ] {
            assert_eq!(of(text), (gets.to_owned(), true), "{text:?}");
        }
        let long = format!("\x1b[{}m.", "1;".repeat(1000));
        assert_eq!(of(&long), (".".to_owned(), true));
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_that() {
        assert_eq!(got(&[b"a\xff\xc3", b"\xa9b\xe2\x82", b"c"]).0, "a\u{fffd}\u{e9}b\u{fffd}c");
        assert_eq!(got(&[b"\x9b2J\xc2", b"\x9b2J"]).0, "\u{fffd}2J\u{fffd}2J");
        assert_eq!(got(&[b"\x1b[7ma\xe2\x82"]).0, "\x1b[7ma\u{fffd}\x1b[0m", "one of which the end never came");
    }

    #[test]
    fn what_turns_the_direction_of_a_line_is_made_visible_and_letters_of_either_direction_pass() {
        for turns in
            "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}".chars()
        {
            assert_eq!(of(&format!("ab{turns}c\n")), ("ab\u{fffd}c\n".to_owned(), true), "{turns:?}");
        }
        for text in ["שלום, مرحبا\n", "می\u{200c}خواهم\n", "👩\u{200d}👧 and \u{feff}more\n"] {
            assert_eq!(of(text), (text.to_owned(), false));
        }
    }

    #[test]
    fn colours_are_put_back_before_others_speak_and_what_was_begun_goes_on_after_them() {
        let mut terminal = Terminal::default();
        assert_eq!(terminal.put_back(), "", "it is as it was found");
        assert_eq!(terminal.pass(b"\x1b[8mhidden\x1b]0;ti"), "\x1b[8mhidden");
        assert_eq!((terminal.put_back(), terminal.put_back()), ("\x1b[0m", ""));
        assert_eq!(terminal.pass(b"tle\x07b"), "b");
        assert_eq!(terminal.end(), "");
    }
}
