//! What a fetch may say: whole names of objects, depths and dates, and which files to leave out by their length or depth. git reads
//! some other lines as expressions, and looks them up in all that a repository holds, also in what it shows to nobody.
//!
//! Read [`asks_of`].

use super::pkt::{self, Line, Lines};
use crate::refusal::Refusal;
use policy::egress::signs;

/// Whether these are lines of git's that may be asked, and none holds a handle.
///
/// # Errors
/// `handle.misplaced`, `git.filter`, `git.deepen`, `git.form`.
pub(super) fn asks_of(body: &[u8]) -> Result<(), Refusal> {
    if signs::hides_handle(body) {
        return Err(Refusal::policy("handle.misplaced", "A handle stands in what git asks for."));
    }
    let mut lines = Lines::of(body);
    loop {
        match lines.next() {
            Ok(Some(Line::Data(data))) => may_say(pkt::text(data))?,
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(wrong) => return Err(Refusal::policy("git.form", format!("This is not what git asks: {wrong}."))),
        }
    }
}

/// One line, in version 0 or 2 of git's protocol.
fn may_say(line: &[u8]) -> Result<(), Refusal> {
    let (word, rest) = match line.iter().position(|b| *b == b' ') {
        Some(at) => (&line[..at], Some(&line[at + 1..])),
        None => (line, None),
    };
    let is = match (word, rest) {
        (b"filter", rest) => return is_plain(rest.unwrap_or_default()).then_some(()).ok_or_else(filter),
        (b"deepen-not", _) => {
            let why = "A history is cut off at a depth (--depth) or a date (--shallow-since) here, and not at a name.";
            return Err(Refusal::policy("git.deepen", why));
        }
        (b"want", Some(rest)) => {
            let mut words = rest.split(|b| *b == b' ');
            // Of the first one of version 0 what follows is what the box's git uses.
            words.next().is_some_and(is_name) && words.all(|word| word.iter().all(u8::is_ascii_graphic))
        }
        (b"have" | b"shallow" | b"oid", Some(name)) => word != b"oid" && is_name(name),
        (b"deepen" | b"deepen-since", Some(number)) => is_number(number),
        (b"ref-prefix", Some(name)) => !name.iter().any(u8::is_ascii_control),
        (b"want-ref", Some(name)) => is_reference(name),
        (
            b"done"
            | b"deepen-relative"
            | b"thin-pack"
            | b"no-progress"
            | b"include-tag"
            | b"ofs-delta"
            | b"sideband-all"
            | b"wait-for-done"
            | b"peel"
            | b"symrefs"
            | b"unborn"
            | b"command=ls-refs"
            | b"command=fetch"
            | b"object-format=sha1"
            | b"object-format=sha256",
            None,
        ) => true,
        (word, None) => {
            (word.starts_with(b"agent=") || word.starts_with(b"session-id=")) && word.iter().all(u8::is_ascii_graphic)
        }
        _ => false,
    };
    if is { Ok(()) } else { Err(form(word)) }
}

fn filter() -> Refusal {
    let why = "What is left out of a fetch is all files (blob:none), long ones (blob:limit=N) or deep ones (tree:N); no other filter \
               is passed on.";
    Refusal::policy("git.filter", why)
}

fn form(word: &[u8]) -> Refusal {
    let word: String = word.iter().take(40).map(|b| if b.is_ascii_graphic() { char::from(*b) } else { '?' }).collect();
    let why = format!(
        "This is not what git asks here: objects by their whole names, how deep and since when. It says {word:?}."
    );
    Refusal::policy("git.form", why)
}

/// Whether a filter names nothing: it is numbers alone.
fn is_plain(filter: &[u8]) -> bool {
    let length = |rest: &[u8]| {
        let (number, unit) = rest.split_at(rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len()));
        is_number(number) && matches!(unit, [] | [b'k' | b'm' | b'g' | b'K' | b'M' | b'G'])
    };
    filter == b"blob:none"
        || filter.strip_prefix(b"blob:limit=").is_some_and(length)
        || filter.strip_prefix(b"tree:").is_some_and(is_number)
}

fn is_number(text: &[u8]) -> bool {
    (1..=20).contains(&text.len()) && text.iter().all(u8::is_ascii_digit)
}

/// A whole name of an object, by SHA-1 or SHA-256.
fn is_name(text: &[u8]) -> bool {
    matches!(text.len(), 40 | 64) && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A whole name of a reference, with nothing in it that an expression is made of.
fn is_reference(name: &[u8]) -> bool {
    let odd = |b: &u8| b.is_ascii_control() || b" ^~:?*[\\@{".contains(b);
    (name == b"HEAD" || name.starts_with(b"refs/")) && !name.iter().any(odd) && !name.windows(2).any(|two| two == b"..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(line: &str) -> Option<String> {
        let mut body = Vec::new();
        pkt::line(&mut body, b"command=fetch");
        pkt::line(&mut body, line.as_bytes());
        pkt::flush(&mut body);
        asks_of(&body).err().map(|no| no.rule)
    }

    #[test]
    fn what_git_asks_by_itself_passes() {
        let (one, long) = ("1".repeat(40), "a".repeat(64));
        for line in [
            &*format!("want {one} multi_ack_detailed no-done side-band-64k thin-pack agent=git/2.47.3 filter"),
            &format!("want {long}\n"),
            &format!("have {one}\n"),
            &format!("shallow {one}"),
            "deepen 50\n",
            "deepen-since 1700000000",
            "deepen-relative\n",
            "filter blob:none\n",
            "filter blob:limit=1048576",
            "filter blob:limit=1m",
            "filter tree:0",
            "done\n",
            "command=ls-refs\n",
            "agent=git/2.47.3-Linux",
            "session-id=12-abc",
            "object-format=sha256",
            "peel",
            "ref-prefix refs/heads/\u{fc}ber",
            "want-ref refs/heads/main",
            "include-tag",
            "wait-for-done",
        ] {
            assert_eq!(rule(line), None, "{line}");
        }
    }

    #[test]
    fn nothing_is_asked_that_git_looks_up_as_an_expression() {
        for line in [
            "filter sparse:oid=refs/stash:.env",
            "filter sparse:oid=b6d6",
            "filter sparse:path=x",
            "filter combine:blob:none+sparse:oid=HEAD",
            "filter combine:blob%3Anone",
            "filter object:type=blob",
            "filter  blob:none",
            "filter blob:none ",
            "filter blob:limit=",
            "filter blob:limit=1t",
            "filter tree:HEAD",
            "filter",
            "filter auto",
        ] {
            assert_eq!(rule(line).as_deref(), Some("git.filter"), "{line}");
        }
        for line in ["deepen-not main", "deepen-not refs/stash", "deepen-not", "deepen-not HEAD@{1}"] {
            assert_eq!(rule(line).as_deref(), Some("git.deepen"), "{line}");
        }
        let one = "1".repeat(40);
        for line in [
            "want b6d6",
            "want refs/stash",
            &*format!("want {}", "A".repeat(40)),
            &format!("want {one}\tx"),
            &format!("want {one}\0x"),
            &format!("have {one} x"),
            "have HEAD",
            "shallow HEAD~1",
            "deepen main",
            "deepen-since yesterday",
            "want-ref stash",
            "want-ref refs/stash@{1}",
            "want-ref refs/heads/main:.env",
            "want-ref refs/heads/a..b",
            &format!("oid {one}"),
            "command=object-info",
            "command=bundle-uri",
            "packfile-uris https",
            "server-option=x",
            "FILTER blob:none",
            " filter blob:none",
            "",
        ] {
            assert_eq!(rule(line).as_deref(), Some("git.form"), "{line}");
        }
    }
}
