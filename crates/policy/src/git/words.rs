//! What a proposal may say: a forge reads orders out of some texts (`/merge` at the beginning of a line, a bot's name), and
//! a proposal's title and text are partly an agent's, or whoever's the task quotes.
//!
//! Read [`harmless`].

/// Longest title, in characters.
pub const MAX_TITLE: usize = 120;
/// Longest text, in characters.
pub const MAX_BODY: usize = 16_000;

/// A text in which no line begins as an order does, and in which nobody is called by name.
///
/// A slash at the beginning of a line, whatever blanks are before it, gets a backslash, which forges leave out when they show the
/// text; every kind of line end counts. After an at sign before a name comes a space of no width. What is no text is left
/// out, and a character that only changes how others are shown.
///
/// What was made harmless once stays as it is: `harmless(harmless(text)) == harmless(text)`.
#[must_use]
pub fn harmless(text: &str) -> String {
    // Before all else: what is left out later would bring what stands around it together.
    let text: String =
        text.chars().filter(|c| is_end(*c) || *c == '\t' || !(c.is_control() || is_format(*c))).collect();
    let mut out = String::with_capacity(text.len() + 16);
    let (mut at_start, mut before) = (true, ' ');
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => continue,
            _ if is_end(c) => {
                out.push('\n');
                at_start = true;
            }
            '/' if at_start => {
                out.push_str("\\/");
                at_start = false;
            }
            // A forge's words end where ASCII's letters and digits do.
            '@' if !before.is_ascii_alphanumeric() && chars.peek().is_some_and(|next| begins_a_name(*next)) => {
                out.push_str("@\u{200b}");
                at_start = false;
            }
            _ => {
                out.push(c);
                at_start &= c.is_whitespace();
            }
        }
        before = c;
    }
    out
}

/// Characters that a forge, or what shows its pages, may end a line at.
fn is_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn begins_a_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.')
}

/// Characters that show nothing themselves: what a reader does not see, and turns of the direction of writing.
fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// A title: one line, harmless, at most [`MAX_TITLE`] characters.
#[must_use]
pub fn title(text: &str) -> String {
    let text = harmless(text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("A change by an agent");
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TITLE).collect()
}

/// A text: harmless, at most [`MAX_BODY`] characters.
#[must_use]
pub fn body(text: &str) -> String {
    harmless(text).chars().take(MAX_BODY).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_line_begins_as_an_order_and_nobody_is_called() {
        for (text, out) in [
            ("/merge", "\\/merge"),
            ("a\n/merge now", "a\n\\/merge now"),
            ("a\r/merge\r\n \t/approve", "a\n\\/merge\n \t\\/approve"),
            ("a\u{2028}/merge", "a\n\\/merge"),
            ("a\u{85}\u{a0}/merge", "a\n\u{a0}\\/merge"),
            ("\u{feff}/merge", "\\/merge"),
            ("\u{200b}/merge", "\\/merge"),
            ("see src/a.rs and /etc", "see src/a.rs and /etc"),
            ("@bot merge", "@\u{200b}bot merge"),
            ("(@bot)", "(@\u{200b}bot)"),
            ("@\u{2060}bot", "@\u{200b}bot"),
            ("@\u{1}bot", "@\u{200b}bot"),
            ("@\u{200b}bot", "@\u{200b}bot"),
            ("\u{e9}@bot", "\u{e9}@\u{200b}bot"),
            ("@_bot", "@\u{200b}_bot"),
            ("a\r\u{1}\n\u{1}/merge", "a\n\\/merge"),
            ("tess@example.org", "tess@example.org"),
        ] {
            assert_eq!(harmless(text), out, "{text:?}");
        }
        assert_eq!(title("\n\n  /close  \nmore"), "\\/close");
        assert_eq!(title(""), "A change by an agent");
    }

    proptest! {
        #[test]
        fn whatever_a_text_holds_it_orders_nothing_calls_nobody_and_stays_so(
            text in "[/@ab_ \t\r\n\u{1}\u{85}\u{2028}\u{200b}\u{2060}\u{feff}]{0,40}|.*"
        ) {
            let out = harmless(&text);
            let ends = ['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];
            prop_assert!(out.split(ends).all(|line| !line.trim_start().starts_with('/')), "{out:?}");
            let all: Vec<char> = [' '].into_iter().chain(out.chars()).collect();
            let calls = |of: &[char]| of[1] == '@' && !of[0].is_alphanumeric() && of[2].is_alphanumeric();
            prop_assert!(!all.windows(3).any(calls), "{out:?}");
            prop_assert_eq!(harmless(&out), out);
            let title = title(&text);
            prop_assert!(title.lines().count() == 1);
            prop_assert_eq!(super::title(&title), title);
            let body = body(&text);
            prop_assert_eq!(super::body(&body), body);
        }
    }
}
