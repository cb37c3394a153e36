//! Making long texts short, and saying so.

/// Keeps the head and the tail of a text that is longer than `max` bytes, with a note of what is missing
/// between; cuts at a line where one is near. The result is at most `max` + 64 bytes long.
#[must_use]
pub fn middle(text: &str, max: usize) -> (String, bool) {
    if text.len() <= max {
        return (text.to_owned(), false);
    }
    let head = head_end(text, max / 2);
    let tail = tail_start(text, text.len() - max / 2);
    let missing = tail - head;
    let gap = if text[..head].ends_with('\n') { "" } else { "\n" };
    (format!("{}{gap}[... {missing} bytes left out ...]\n{}", &text[..head], &text[tail..]), true)
}

/// Keeps the head of a text, at most `max` bytes, whole lines where there is one.
#[must_use]
pub fn head(text: &str, max: usize) -> &str {
    if text.len() <= max { text } else { &text[..head_end(text, max)] }
}

/// The first `max` characters.
#[must_use]
pub fn characters(text: &str, max: usize) -> String {
    text.chars().take(max).collect()
}

/// Where to end a head of at most `at` bytes: after the last line's end in its second half, or at a character.
fn head_end(text: &str, at: usize) -> usize {
    let at = text.floor_char_boundary(at);
    match text[..at].rfind('\n') {
        Some(line) if line >= at / 2 => line + 1,
        _ => at,
    }
}

/// Where to start a tail that starts at `from` or later.
fn tail_start(text: &str, from: usize) -> usize {
    let from = text.ceil_char_boundary(from);
    match text[from..].find('\n') {
        Some(line) if line < (text.len() - from) / 2 => from + line + 1,
        _ => from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_exactly_the_limit_is_whole_and_one_byte_more_is_cut() {
        assert_eq!(middle(&"x".repeat(100), 100), ("x".repeat(100), false));
        let (text, cut) = middle(&"x".repeat(101), 100);
        assert!(cut);
        assert_eq!(text, format!("{0}\n[... 1 bytes left out ...]\n{0}", "x".repeat(50)));
    }

    #[test]
    fn a_cut_never_splits_a_character_and_says_how_much_is_missing() {
        for max in 8..60 {
            let text = "aé漢🎈\n".repeat(20);
            let (short, cut) = middle(&text, max);
            assert!(cut && short.len() <= max + 64, "{max}: {short}");
            let missing: usize = short.split("[... ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
            let note = format!("[... {missing} bytes left out ...]\n");
            let kept = short.replacen(&format!("\n{note}"), "", 1).replacen(&note, "", 1).len();
            assert!(kept + missing == text.len() || kept + 1 + missing == text.len(), "{max}: {short}");
        }
    }

    #[test]
    fn what_is_kept_are_whole_lines_where_lines_are_short() {
        let text: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        let (short, _) = middle(&text, 200);
        for line in short.lines().filter(|l| !l.starts_with('[')) {
            assert!(text.contains(&format!("{line}\n")) && line.starts_with("line "), "{line:?}");
        }
        assert!(head(&text, 100).ends_with('\n'));
    }
}
