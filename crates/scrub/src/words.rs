//! The parts of a value that is a text (a key file, a file of settings): each word of it that could open something by itself.
//!
//! Whoever is given such a value prints it line by line, or says one word of it; as a whole it would then be found nowhere.
//! Taken is what stands behind a name of secrets (`token: …`, `"private_key": …`, `PASSWORD=…`), what is a line by itself, as in a
//! key file, the password of an address, and what looks like chance. What is a name itself, an address without a sign-in, a path
//! or a plain setting (a project, a user, a region) is everybody's word: runs could not speak of it any more.
//!
//! A value that is JSON is taken apart as JSON ([`json`]), on however many lines it is. Whoever reads a file of settings says
//! what its escapes mean, so that is a word as well ([`meant`]).

mod json;
mod meant;

use crate::MIN_BYTES;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Length from which a word that is taken for its place is one without a digit in it, in bytes.
const LONG: usize = 16;

/// What names of secrets hold, in any case.
const NAMES: [&str; 7] = ["pass", "pwd", "secret", "token", "key", "auth", "cred"];

/// Most words of one value that are looked for beside the whole of it.
pub const MOST_WORDS: usize = 256;
/// Most bytes of them together: four times the longest secret. Each is looked for in some thirty encodings.
pub const MOST_BYTES: usize = 64 * 1024;
/// Most signs (`:`, `=`) of one line that may make a setting; what stands behind further ones is taken by its look alone.
const MOST_SIGNS: usize = 1024;
/// The longest name of a setting that is read for what it names, in bytes.
const LONGEST_NAME: usize = 128;

/// The words of `value` that are looked for beside it, each once and at least [`MIN_BYTES`]; none of a value that is one word
/// itself. At most [`MOST_WORDS`], of [`MOST_BYTES`] together: the first ones, whatever stands in the value.
pub fn words(value: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let document = json::of(value);
    let is_text = document.is_none() && (value.trim().contains(char::is_whitespace) || value.contains("</"));
    let parsed = document.unwrap_or_default().into_iter().map(Cow::Owned);
    let found = parsed.chain(of_text(if is_text { value } else { "" }).map(Cow::Borrowed));
    let found = found.flat_map(|word| {
        let meant: Vec<String> = meant::all(&word);
        std::iter::once(word).chain(meant.into_iter().map(Cow::Owned))
    });
    let (mut seen, mut room) = (BTreeSet::new(), MOST_BYTES);
    let each_once = found.filter(move |word| word.len() >= MIN_BYTES && seen.insert(word.clone()));
    each_once.take(MOST_WORDS).map_while(move |word| {
        room = room.checked_sub(word.len())?;
        Some(word)
    })
}

/// The words of a text, line by line.
fn of_text(text: &str) -> impl Iterator<Item = &str> {
    let mut lines: Vec<&str> = text.split(['\n', '\r']).map(str::trim).collect();
    lines.retain(|line| !line.is_empty());
    let last = lines.len().saturating_sub(1);
    lines.into_iter().enumerate().flat_map(move |(at, line)| of_line(line, at == last))
}

fn of_line(line: &str, is_last: bool) -> Vec<&str> {
    let settings: Vec<Setting> = settings(line).collect();
    // A line without a name may be one of words: `login robot password …`.
    let named = if settings.is_empty() { is_secrets(line) } else { settings.iter().any(|one| is_secrets(one.name)) };
    // A key in JSON has its line ends as two characters.
    let parts = line.split(['\t', ' ', '"', '\'', ',', '{', '}', '[', ']']).flat_map(|part| part.split("\\n"));
    let parts = parts.filter(|part| part.len() >= MIN_BYTES);
    let mut all: Vec<&str> = parts.flat_map(|part| of_part(line, part, named, is_last)).collect();
    // All of it: it may have spaces, or what parts words elsewhere. Without quotes it is the rest of the line, of which there
    // is one: that of the first, since those of all would be as many rests as there are settings.
    let mut rests = 0;
    let whole = settings.into_iter().filter(|one| is_secrets(one.name)).filter(|one| {
        rests += usize::from(!one.quoted);
        one.quoted || rests == 1
    });
    let whole = whole.map(|one| one.text).chain(elements(line));
    all.extend(whole.filter(|text| !text.contains("\\n") && !text.contains("://") && !is_place(text)));
    all.retain(|word| word.len() >= MIN_BYTES);
    all
}

/// One setting of a line.
struct Setting<'v> {
    name: &'v str,
    text: &'v str,
    /// Whether quotes end it; the end of the line does otherwise.
    quoted: bool,
}

/// A line's settings: `name: text`, `name = text`, `{"name": "text", …}`.
fn settings(line: &str) -> impl Iterator<Item = Setting<'_>> {
    line.match_indices([':', '=']).take(MOST_SIGNS).filter_map(|(at, sign)| {
        let (before, after) = (line[..at].trim_end_matches(['"', '\'', ' ']), &line[at + 1..]);
        let before = &before[before.floor_char_boundary(before.len().saturating_sub(LONGEST_NAME))..];
        let name = before.rsplit([' ', '"', '\'', ',', '{', '&', ';']).next().unwrap_or_default();
        // What pads base 64 is no setting, and neither is an address, nor `user:password`.
        let is_one = (sign == "=" || after.is_empty() || after.starts_with([' ', '"', '\'']))
            && !name.is_empty()
            && !after.trim_matches('=').is_empty();
        let text = after.trim();
        let quoted = in_quotes(text);
        let text = quoted.unwrap_or_else(|| text.trim_end_matches([',', ';']));
        is_one.then_some(Setting { name, text, quoted: quoted.is_some() })
    })
}

/// What stands between the quote that `text` begins with and the next one of its kind: not one that is written twice, as YAML
/// and shells' kin do, nor one behind a backslash.
fn in_quotes(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|first| ['"', '\''].contains(first))?;
    let inside = &text[1..];
    let mut chars = inside.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        if char == '\\' && quote == '"' || char == quote && quote == '\'' && next == Some(quote) {
            chars.next();
        } else if char == quote {
            return Some(&inside[..at]);
        }
    }
    None
}

/// The texts of a line's elements that are named as secrets: `<password>text</password>`.
fn elements(line: &str) -> impl Iterator<Item = &str> {
    let opened = line.match_indices('<').take(MOST_SIGNS).filter_map(|(at, _)| line[at + 1..].split_once('>'));
    let named = opened.filter(|(tag, _)| tag.len() <= LONGEST_NAME && !tag.starts_with('/') && is_secrets(tag));
    named.filter_map(|(_, after)| after.split_once('<')).map(|(text, _)| text.trim())
}

fn is_secrets(name: &str) -> bool {
    let lower = name.to_lowercase();
    NAMES.iter().any(|name| lower.contains(name))
}

/// Whether it says where something is.
fn is_place(text: &str) -> bool {
    ["/", "./", "../", "~/"].iter().any(|start| text.starts_with(start)) && !text.contains(char::is_whitespace)
}

/// What is taken of one part of a line.
fn of_part<'v>(line: &'v str, part: &'v str, named: bool, is_last: bool) -> impl Iterator<Item = &'v str> {
    let after = &line[part.as_ptr() as usize - line.as_ptr() as usize + part.len()..];
    let is_name = part.ends_with(':') || after.trim_start_matches(['"', '\'', ' ', '\t']).starts_with([':', '=']);
    let is_whole = part.len() == line.len();
    // `NAME=value`, but not what pads base 64.
    let part = match part.split_once('=') {
        Some((_, value)) if !value.trim_start_matches('=').is_empty() => value,
        _ => part,
    };
    let is_address = part.contains("://");
    let holds = |is: fn(&u8) -> bool| part.as_bytes().iter().any(is);
    let (digit, capital) = (holds(u8::is_ascii_digit), holds(u8::is_ascii_uppercase));
    // Of a file of a name and a password the name stands first.
    let in_place =
        is_whole && (digit || capital || is_last) || (is_whole || named) && part.len() >= LONG || named && digit;
    let by_chance = digit && capital && holds(u8::is_ascii_lowercase);
    let is_one = match is_address {
        true => part.contains('@'),
        false => !is_name && !is_place(part) && (in_place || by_chance),
    };
    // Of `user:password` the second is said alone, too.
    let pair = if is_address {
        part.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map(|(pair, _)| pair)
    } else {
        Some(part)
    };
    let second = pair.filter(|_| is_one).and_then(|pair| pair.rsplit_once(':')).map(|(_, second)| second);
    [is_one.then_some(part), second].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(value: &str) -> Vec<String> {
        words(value).map(Cow::into_owned).collect()
    }

    fn has(found: &[String], word: &str) -> bool {
        found.iter().any(|one| one == word)
    }

    #[test]
    fn a_value_of_one_word_has_no_words_beside_it() {
        for one in ["sk-canary-0123456789", "user:password-0123456789", ""] {
            assert_eq!(all(one), [""; 0], "{one}");
        }
    }

    /// What the words of a value are together, in bytes, and how many.
    fn size(value: &str) -> (usize, usize) {
        (words(value).map(|word| word.len()).sum(), words(value).count())
    }

    #[test]
    fn a_value_that_is_made_to_have_many_words_has_256_of_64_kib_together_and_the_whole_is_found_all_the_same() {
        let long = 16 * 1024;
        for piece in
            ["key=x ", "key=\"x ", "key='x\" ", "key: ", "key=", "=", "key=abcdefgh1 ", "a: b ", "\\n", "key=\"a\", "]
        {
            let value: String = piece.chars().cycle().take(long).collect();
            let (bytes, count) = size(&value);
            assert!(bytes <= MOST_BYTES && count <= MOST_WORDS, "{piece}: {bytes} bytes, {count} words");
            // One rest of the line and no other.
            assert!(words(&value).filter(|word| word.len() > long / 2).count() <= 1, "{piece}");
        }
        let hostile = "key=x ".repeat(long / 6);
        let all = crate::with_parts([("a".to_owned(), model::Secret::new(hostile.clone()))]);
        let all: Vec<String> = all.map(|(_, value)| value.expose().clone()).collect();
        assert_eq!(all[0], hostile);
        assert!(all.iter().map(String::len).sum::<usize>() <= 3 * long, "{}", all.len());
        // At the edges: 256 words are taken and one more is not, and 64 KiB are and a word more is not.
        let lines = |count: usize, letters: usize| -> String {
            (0..count).map(|n| format!("{n:06}{}\n", "x".repeat(letters - 6))).collect()
        };
        assert_eq!((size(&lines(256, 8)).1, size(&lines(257, 8)).1), (256, 256));
        assert_eq!((size(&lines(64, 1024)), size(&lines(65, 1024))), ((64 << 10, 64), (64 << 10, 64)));
    }

    #[test]
    fn of_several_settings_of_a_line_the_quoted_are_whole_and_of_the_others_the_first_has_the_rest() {
        let found = all("password=one two three token=four five six\nx");
        assert!(has(&found, "one two three token=four five six"), "{found:?}");
        assert!(!has(&found, "four five six"), "{found:?}");
        let found = all("password=\"one two three\" token='four five six' key=seven eight nine\nx");
        for text in ["one two three", "four five six", "seven eight nine"] {
            assert!(has(&found, text), "{text}: {found:?}");
        }
        let twice = all("abcdefgh1\nabcdefgh1\n");
        assert_eq!(twice, ["abcdefgh1"]);
    }

    #[test]
    fn each_line_of_a_key_is_a_word_and_its_frame_is_none() {
        let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ\n  AAAAB3Nz\r\nQyNTUxOQA=\n\
                   -----END OPENSSH PRIVATE KEY-----\n";
        assert_eq!(all(key), ["b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ", "AAAAB3Nz", "QyNTUxOQA="]);
    }

    #[test]
    fn of_an_accounts_json_the_key_is_found_line_by_line_and_no_name_address_or_project_is() {
        let json = "{\n  \"type\": \"service_account\",\n  \"project_id\": \"acme-prod-1234\",\n  \"private_key_id\": \"0a1b2c3d4e5f\",\n  \
                    \"private_key\": \"-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkq\\nhkiG9w0BAQEFAASC\\n-----END PRIVATE KEY-----\\n\",\n  \
                    \"client_email\": \"ci@acme-prod-1234.example\",\n  \
                    \"auth_provider_x509_cert_url\": \"https://www.example.org/oauth2/v1/certs\"\n}\n";
        let mut found = all(json);
        found.sort();
        assert_eq!(found, ["0a1b2c3d4e5f", "MIIEvQIBADANBgkq", "hkiG9w0BAQEFAASC"]);
    }

    #[test]
    fn of_settings_the_secrets_are_found_however_they_are_written_and_the_rest_is_everybodys() {
        let settings = "apiVersion: v1\nkind: Config\nserver: https://k.example:6443\nclient-key-data: LS0tLS1CRUdJTg==\n\
                        token = abc-123-def\nregion = eu-central-1\nurl: postgres://ci:hunter2@db/x\nPASSWORD=hunter2-hunter2\n\
                        login robot password pass-0123\nnote: plain words in a sentence\n";
        let expected =
            ["LS0tLS1CRUdJTg==", "abc-123-def", "postgres://ci:hunter2@db/x", "hunter2-hunter2", "pass-0123"];
        assert_eq!(all(settings), expected);
        for (text, is) in [
            ("user: ci\npassword: hunter-two-x\n", vec!["hunter-two-x"]),
            ("PASSWORD=correct,horse{1}x\nX=1", vec!["correct,horse{1}x"]),
            ("a: 1\npassword: 'correct horse battery staple'", vec!["correct horse battery staple"]),
            (
                "DATABASE=postgres://ci:S3cretPassw0rd@db/x\nA=b",
                vec!["postgres://ci:S3cretPassw0rd@db/x", "S3cretPassw0rd"],
            ),
            ("postgres\nS3cret-pass-0123\n", vec!["S3cret-pass-0123"]),
            ("postgres\nhunterhunter\n", vec!["hunterhunter"]),
            ("apiVersion: client.authentication.k8s.io/v1beta1\nx: y", vec![]),
            ("signing-region: eu-central-1\nclient-key: /home/user/.mini/client.key\nx: y", vec![]),
            ("{\"api_token\": \"plain-and-short\", \"b\": 1}\nx", vec!["plain-and-short"]),
            ("{\"user\":\"x\",\"password\":\"hunter-two-x\"}\nx", vec!["hunter-two-x"]),
            ("<a>\n  <password>Tr0ub4dor-and-3xyz</password>\n</a>", vec!["Tr0ub4dor-and-3xyz"]),
            ("<a><user>deploy-0001</user><password>plainwords</password></a>", vec!["plainwords"]),
            ("user=ci\npassword=a\\:b\\=c-Zz99-kk\\#1\n", vec!["a:b=c-Zz99-kk#1"]),
            ("a: 1\ntoken: 'don''t-tell-0099'\n", vec!["don't-tell-0099"]),
            ("https://x:p%40ssW0rd-99@b.example\nhttps://y:z@c.example", vec!["p%40ssW0rd-99", "p@ssW0rd-99"]),
            ("<p>\n<secret>a&amp;b&lt;c-0001</secret></p>", vec!["a&b<c-0001"]),
            ("{\"apiVersion\":\"v1\",\"users\":[{\"user\":{\"token\":\"eyJhbGciOi\"}}]}", vec!["eyJhbGciOi"]),
            ("{\"auths\":{\"r.example\":{\"auth\":\"Y2k6SHVudDNy\"}}}", vec!["Y2k6SHVudDNy"]),
            ("{\"client_secret\": \"p\\u0026ss\\/W0rd\\\"99\", \"x\": 1}", vec!["p&ss/W0rd\"99"]),
            (
                "{\"private_key\":\"-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkq\\n-----END PRIVATE KEY-----\\n\"}",
                vec!["MIIEvQIBADANBgkq"],
            ),
            ("{\"project_id\":\"acme-prod-1234\",\"note\":\"a sentence of plain words\"}", vec![]),
        ] {
            let found = all(text);
            assert!(is.iter().all(|word| has(&found, word)), "{text}: {found:?}");
            assert!(is.is_empty() <= found.is_empty(), "{text}: {found:?}");
        }
        assert_eq!(all("machine x\nci:pass-0123"), ["ci:pass-0123", "pass-0123"]);
    }
}
