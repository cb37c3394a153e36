//! What a word of a file means to the program that reads the file: without the escapes of properties and quoted texts, of
//! addresses, of YAML's quotes and of XML.

/// Every meaning that is not the word itself, at most four.
pub(super) fn all(word: &str) -> Vec<String> {
    let found = [
        word.contains('\\').then(|| unescaped(word)),
        word.contains('%').then(|| decoded(word)).flatten(),
        word.contains("''").then(|| word.replace("''", "'")),
        word.contains('&').then(|| entities(word)),
    ];
    found.into_iter().flatten().filter(|meant| meant != word).collect()
}

/// Without the backslashes that stand before a sign.
fn unescaped(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    let mut chars = word.chars().peekable();
    while let Some(char) = chars.next() {
        match chars.peek() {
            Some(next) if char == '\\' && next.is_ascii_punctuation() => out.extend(chars.next()),
            _ => out.push(char),
        }
    }
    out
}

/// Percent-decoded; none where that is no text.
fn decoded(word: &str) -> Option<String> {
    let (bytes, mut out, mut at) = (word.as_bytes(), Vec::with_capacity(word.len()), 0);
    while at < bytes.len() {
        let pair = bytes.get(at + 1..at + 3).filter(|pair| bytes[at] == b'%' && pair.iter().all(u8::is_ascii_hexdigit));
        let code = pair.and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).ok()
}

fn entities(word: &str) -> String {
    const ALL: [(&str, &str); 6] =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
    ALL.iter().fold(word.to_owned(), |word, (entity, char)| word.replace(entity, char))
}
