//! Text that a box, a model or a repository wrote, as a page shows it.

use maud::{Markup, PreEscaped, Render, html};
use std::borrow::Cow;

/// The text, escaped, with every character that does not show itself made visible: control characters, and those
/// that are invisible or reorder what is read. Line ends and tabs stay as they are.
#[must_use]
pub fn shown(text: &str) -> Markup {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        let Some(name) = hidden(c) else { continue };
        text[plain..at].render_to(&mut out);
        plain = at + c.len_utf8();
        html! { span.ctl title={ "U+" (format!("{:04X}", c as u32)) } { (name) } }.render_to(&mut out);
        // A lone carriage return begins a line anew, as progress displays do.
        if c == '\r' && !text[plain..].starts_with('\n') {
            out.push('\n');
        }
    }
    text[plain..].render_to(&mut out);
    PreEscaped(out)
}

/// The same for a place that takes text only: a title, an attribute. (maud escapes it there.)
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match hidden(c) {
            Some(name) => out.push_str(&name),
            None => out.push(c),
        }
        out
    })
}

/// The same for one short line: line ends and tabs are made visible too, and at most `most` characters are shown.
#[must_use]
pub fn line(text: &str, most: usize) -> Markup {
    let end = text.char_indices().nth(most).map(|(at, _)| at);
    let (kept, rest) = text.split_at(end.unwrap_or(text.len()));
    let kept = kept.trim_end_matches('\n').replace('\n', " ¶ ").replace('\t', " ");
    html! { (shown(&kept)) @if !rest.is_empty() { "…" } }
}

/// Names of the characters from 0 to 31. (There are pictures for them in Unicode, but not in every font.)
const CONTROLS: [&str; 32] = [
    "‹NUL›",
    "‹SOH›",
    "‹STX›",
    "‹ETX›",
    "‹EOT›",
    "‹ENQ›",
    "‹ACK›",
    "‹BEL›",
    "‹BS›",
    "‹TAB›",
    "‹LF›",
    "‹VT›",
    "‹FF›",
    "‹CR›",
    "‹SO›",
    "‹SI›",
    "‹DLE›",
    "‹DC1›",
    "‹DC2›",
    "‹DC3›",
    "‹DC4›",
    "‹NAK›",
    "‹SYN›",
    "‹ETB›",
    "‹CAN›",
    "‹EM›",
    "‹SUB›",
    "‹ESC›",
    "‹FS›",
    "‹GS›",
    "‹RS›",
    "‹US›",
];

/// What stands for a character that does not show itself; none for one that does.
fn hidden(c: char) -> Option<Cow<'static, str>> {
    Some(match c {
        '\n' | '\t' => return None,
        '\0'..='\u{1f}' => Cow::Borrowed(CONTROLS[c as usize]),
        '\u{7f}' => Cow::Borrowed("‹DEL›"),
        '\u{202a}' => Cow::Borrowed("‹LRE›"),
        '\u{202b}' => Cow::Borrowed("‹RLE›"),
        '\u{202c}' => Cow::Borrowed("‹PDF›"),
        '\u{202d}' => Cow::Borrowed("‹LRO›"),
        '\u{202e}' => Cow::Borrowed("‹RLO›"),
        '\u{2066}' => Cow::Borrowed("‹LRI›"),
        '\u{2067}' => Cow::Borrowed("‹RLI›"),
        '\u{2068}' => Cow::Borrowed("‹FSI›"),
        '\u{2069}' => Cow::Borrowed("‹PDI›"),
        '\u{200b}' => Cow::Borrowed("‹ZWSP›"),
        '\u{feff}' => Cow::Borrowed("‹BOM›"),
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{180e}'
        | '\u{200c}'..='\u{200f}'
        | '\u{2028}'
        | '\u{2029}'
        | '\u{2060}'..='\u{2065}'
        | '\u{206a}'..='\u{206f}'
        | '\u{3164}'
        | '\u{ffa0}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}' => Cow::Owned(format!("‹U+{:04X}›", c as u32)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_text_is_text() {
        let out = shown("<script>alert(1)</script>\"><img src=x onerror=alert(1)>").into_string();
        assert!(!out.contains('<') && !out.contains('"'), "{out}");
        assert!(out.contains("&lt;script&gt;") && out.contains("&quot;&gt;&lt;img"), "{out}");
    }

    #[test]
    fn what_would_reorder_hide_or_steer_is_made_visible() {
        for (hostile, name) in
            [('\u{202e}', "‹RLO›"), ('\u{1b}', "‹ESC›"), ('\u{9b}', "‹U+009B›"), ('\0', "‹NUL›"), ('\u{1f}', "‹US›")]
        {
            let out = shown(&format!("a{hostile}b")).into_string();
            assert!(out.contains(name) && !out.contains(hostile), "{out:?}");
            assert_eq!(plain(&format!("a{hostile}b")), format!("a{name}b"));
        }
        assert_eq!(shown("a\tb\nc é 漢").into_string(), "a\tb\nc é 漢");
    }

    #[test]
    fn a_line_is_one_line_of_at_most_so_many_characters() {
        assert_eq!(line("a\nb\n", 10).into_string(), "a ¶ b");
        assert_eq!(line("ééé", 2).into_string(), "éé…");
        assert_eq!(line("éé", 2).into_string(), "éé");
    }
}
