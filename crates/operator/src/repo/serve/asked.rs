//! What a box asks for in a fetch, read before git reads it: whole names of what is shown, depths and dates, and nothing that git
//! would look up for it.
//!
//! Read [`judged`].

use super::super::Problem;
use super::super::git::{Git, is_object};
use super::lines;
use super::shown::Shown;
use std::collections::HashSet;

/// One line.
enum Line<'b> {
    /// The end of a list.
    End,
    /// An object that is asked for, and what the box's git uses.
    Want(&'b str),
    /// One that the box says that it has, or where its history ends.
    Has(&'b str),
    /// It names nothing.
    Plain,
}

/// What of a box's words on what its git uses is passed on, in version 0 of git's protocol: what its answer cannot be read without.
/// `include-tag` is none, by which git would add tags that the owner hides: a git that wants tags asks for those that it is told of.
const USED: [&[u8]; 11] = [
    b"multi_ack",
    b"multi_ack_detailed",
    b"no-done",
    b"thin-pack",
    b"ofs-delta",
    b"side-band",
    b"side-band-64k",
    b"no-progress",
    b"deepen-relative",
    b"object-format=sha1",
    b"object-format=sha256",
];

/// The lines of a fetch, in version 0 of git's protocol, without what names or would add what is not shown: to the box it is not
/// here.
///
/// # Errors
/// `repo.unshown` where such a thing is asked for; `repo.form` for any other line; [`Problem`] when git cannot be asked.
pub(super) fn judged(
    git: &Git,
    shown: impl FnOnce() -> Result<Shown, Problem>,
    body: &[u8],
) -> Result<Vec<u8>, Problem> {
    let mut names = HashSet::new();
    for line in lines::of(body) {
        if let Line::Want(name) | Line::Has(name) = read(line.map_err(|_| form())?)? {
            names.insert(name.to_owned());
        }
    }
    let shown = shown()?.among(git, names)?;
    let mut out = Vec::with_capacity(body.len());
    for line in lines::of(body) {
        let line = line.map_err(|_| form())?;
        match read(line)? {
            Line::Want(name) if !shown.contains(name) => {
                let message =
                    "The repository shows nothing by the name that is asked for: no branch or tag leads to it.";
                return Err(Problem::new("repo.unshown", message));
            }
            Line::Has(name) if !shown.contains(name) => {}
            Line::Want(name) => {
                // git takes one with a value for the same word without.
                let used = line.unwrap_or_default().split(|b| *b == b' ').skip(2).filter(|word| USED.contains(word));
                let words: Vec<&[u8]> = [b"want", name.as_bytes()].into_iter().chain(used).collect();
                lines::add(&mut out, Some(&words.join(&b' ')));
            }
            _ => lines::add(&mut out, line),
        }
    }
    Ok(out)
}

fn form() -> Problem {
    let message = "This is not what git asks a repository of a host: objects by their whole names, how deep, and since when; no \
                   filter, and no depth by a branch's name.";
    Problem::new("repo.form", message)
}

fn read(line: Option<&[u8]>) -> Result<Line<'_>, Problem> {
    let Some(line) = line else { return Ok(Line::End) };
    let text = std::str::from_utf8(line).ok().filter(|text| text.bytes().all(|b| matches!(b, b' '..=b'~')));
    let (word, rest) = text.map(|text| text.split_once(' ').unwrap_or((text, ""))).ok_or_else(form)?;
    let is_number = !rest.is_empty() && rest.len() <= 20 && rest.bytes().all(|b| b.is_ascii_digit());
    match word {
        "want" => {
            let name = rest.split(' ').next().filter(|name| is_object(name)).ok_or_else(form)?;
            Ok(Line::Want(name))
        }
        "have" | "shallow" if is_object(rest) => Ok(Line::Has(rest)),
        "deepen" | "deepen-since" if is_number => Ok(Line::Plain),
        "done" if rest.is_empty() => Ok(Line::Plain),
        _ => Err(form()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_is_whole_names_depths_and_dates_and_no_other_line() {
        let one = "1".repeat(40);
        let good = [
            format!("want {one} multi_ack_detailed side-band-64k ofs-delta agent=git/2.47"),
            format!("want {}", "a".repeat(64)),
            format!("have {one}"),
            format!("shallow {one}"),
            "deepen 1".into(),
            "deepen-since 1700000000".into(),
            "done".into(),
        ];
        for line in &good {
            assert!(read(Some(line.as_bytes())).is_ok(), "{line}");
        }
        for line in [
            "filter blob:none",
            "filter sparse:oid=refs/stash:.env",
            "deepen-not refs/stash",
            "deepen-not main",
            "want-ref refs/heads/main",
            "want refs/stash",
            "want 1111",
            "have 1111",
            "have HEAD",
            "shallow HEAD",
            "deepen one",
            "deepen",
            "done now",
            "",
            &format!("want {one}\tx"),
            &format!("want {one}\0filter x"),
            &format!("want {}", "A".repeat(40)),
            &format!("shallow {one} x"),
        ] {
            assert_eq!(read(Some(line.as_bytes())).err().map(|no| no.code).as_deref(), Some("repo.form"), "{line}");
        }
    }
}
