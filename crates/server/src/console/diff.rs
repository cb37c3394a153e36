//! Unified diffs in colour.

use super::text::shown;
use maud::{Markup, html};

/// Lines of a diff that are shown; the record and the branch hold all of it.
const MOST: usize = 4_000;

/// One file's part of a diff.
struct File<'a> {
    name: String,
    lines: Vec<&'a str>,
    added: usize,
    removed: usize,
}

/// A diff of several files, each to be folded; `cut` says that it is longer than what is here.
#[must_use]
pub fn files(diff: &str, cut: bool) -> Markup {
    let (files, left) = parse(diff);
    html! {
        @for file in &files {
            details.file open[files.len() <= 20] {
                summary { (name(file)) }
                (lines(&file.lines))
            }
        }
        @if cut || left > 0 { p.note { "The diff is longer than what is shown; the branch holds all of it." } }
    }
}

/// A diff of one file whose name is shown elsewhere.
#[must_use]
pub fn one(diff: &str, cut: bool) -> Markup {
    let (files, left) = parse(diff);
    html! {
        @for file in &files { (lines(&file.lines)) }
        @if cut || left > 0 { p.note { "The diff is longer than what is shown." } }
    }
}

fn name(file: &File) -> Markup {
    html! {
        span.path { (shown(&file.name)) }
        " " span.plus { "+" (file.added) } " " span.minus { "−" (file.removed) }
    }
}

fn lines(lines: &[&str]) -> Markup {
    html! {
        // Scrolls in itself, and with the keyboard.
        div.diff tabindex="0" role="group" aria-label="diff" {
            div.lines {
                @for line in lines {
                    @match kind(line) {
                        Some(class) => span class={ "ln " (class) } { (shown(line)) "\n" },
                        None => span.ln { (shown(line)) "\n" },
                    }
                }
            }
        }
    }
}

fn kind(line: &str) -> Option<&'static str> {
    match line.as_bytes().first()? {
        b'+' => Some("add"),
        b'-' => Some("del"),
        b'@' => Some("hunk"),
        b'\\' => Some("hunk"),
        _ => None,
    }
}

/// The files, without the headers that their names are taken from; and how many lines were left out.
fn parse(diff: &str) -> (Vec<File<'_>>, usize) {
    let mut files: Vec<File> = Vec::new();
    let (mut all, mut header) = (diff.lines(), true);
    let (mut room, mut left) = (MOST, 0);
    while let Some(line) = all.next() {
        if line.starts_with("diff --git ") {
            files.push(File { name: git_name(line).to_owned(), lines: Vec::new(), added: 0, removed: 0 });
            header = true;
            continue;
        }
        if line.starts_with("@@") {
            header = false;
        } else if header && (line.starts_with("--- ") || line.starts_with("+++ ")) {
            if let Some(name) = path_of(line)
                && let Some(file) = files.last_mut()
            {
                name.clone_into(&mut file.name);
            }
            if files.is_empty() && line.starts_with("+++ ") {
                let name = path_of(line).unwrap_or_default().to_owned();
                files.push(File { name, lines: Vec::new(), added: 0, removed: 0 });
            }
            continue;
        } else if header && line.starts_with("index ") {
            continue;
        }
        if room == 0 {
            left = 1 + all.count();
            break;
        }
        room -= 1;
        if files.is_empty() {
            files.push(File { name: String::new(), lines: Vec::new(), added: 0, removed: 0 });
        }
        if let Some(file) = files.last_mut() {
            file.added += usize::from(!header && line.starts_with('+'));
            file.removed += usize::from(!header && line.starts_with('-'));
            file.lines.push(line);
        }
    }
    (files, left)
}

fn git_name(line: &str) -> &str {
    line.rsplit_once(" b/").map_or(line, |(_, name)| name)
}

/// The path of a `---` or `+++` line; none for `/dev/null`.
fn path_of(line: &str) -> Option<&str> {
    let path = line.get(4..)?.split('\t').next()?;
    let path = path.strip_prefix("a/").or_else(|| path.strip_prefix("b/")).unwrap_or(path);
    (path != "/dev/null").then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "diff --git a/max.c b/max.c\nindex 1..2 100644\n--- a/max.c\n+++ b/max.c\n@@ -1,3 +1,3 @@\n \
        int max(int a, int b) {\n-    return a < b ? a : b;\n+    return a > b ? a : b;\n }\n\
        diff --git a/new b/new\nnew file mode 100644\n--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+<b>\n";

    #[test]
    fn each_file_is_named_and_its_lines_are_counted() {
        let (files, left) = parse(DIFF);
        let seen: Vec<_> = files.iter().map(|f| (f.name.as_str(), f.added, f.removed)).collect();
        assert_eq!(seen, [("max.c", 1, 1), ("new", 1, 0)]);
        assert_eq!(left, 0);
        let page = super::files(DIFF, false).into_string();
        assert!(page.contains("ln del") && page.contains("ln add") && page.contains("&lt;b&gt;"), "{page}");
    }

    #[test]
    fn a_removed_line_of_dashes_is_a_line_and_no_header() {
        let (files, _) = parse("--- a/x\n+++ b/x\n@@ -1,2 +1 @@\n--- gone\n+++ come\n");
        assert_eq!((files[0].added, files[0].removed, files[0].lines.len()), (1, 1, 3));
    }

    #[test]
    fn a_diff_of_too_many_lines_says_so() {
        let long = format!("--- a/x\n+++ b/x\n@@ -0,0 +1 @@\n{}", "+x\n".repeat(MOST - 1));
        assert_eq!(parse(&long).1, 0);
        let longer = format!("{long}+x\n");
        assert_eq!(parse(&longer).1, 1);
        assert!(one(&longer, false).into_string().contains("longer than what is shown"));
    }
}
