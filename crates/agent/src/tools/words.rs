//! A command line as the words of one program, without a shell: what only a shell could do is said, not guessed.

/// What a shell would do something about, outside quotes.
const SHELLS: &str = "|&;<>()$`*?[]{}~#!\n";

/// The words of a command line: white space parts them, quotes and backslashes keep it.
///
/// # Errors
/// A sentence for the model, when it takes a shell to understand it, or a quote has no end.
pub(super) fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err("A quote has no end.".to_owned()),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next() {
                        Some('"') => break,
                        Some('\\') => word.push(quoted(rest.next())?),
                        Some(c @ ('$' | '`')) => return Err(needs(c)),
                        Some(c) => word.push(c),
                        None => return Err("A quote has no end.".to_owned()),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(quoted(rest.next())?),
            c if SHELLS.contains(c) => return Err(needs(c)),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(next: Option<char>) -> Result<char, String> {
    next.ok_or_else(|| "The command ends in a backslash.".to_owned())
}

fn needs(c: char) -> String {
    format!(
        "A command under a lease is one program with its arguments, without a shell: {c:?} stands there unquoted. \
         Put it in single quotes if it is part of an argument, and do the rest in a command of its own."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Vec<String> {
        split(line).unwrap()
    }

    #[test]
    fn words_are_parted_by_white_space_and_kept_by_quotes() {
        assert_eq!(of("git  push origin\tmain"), ["git", "push", "origin", "main"]);
        assert_eq!(of(r#"a 'b $c' "d e\"f" g\ h '' i'j'k"#), ["a", "b $c", "d e\"f", "g h", "", "ijk"]);
        assert!(of("  ").is_empty());
    }

    #[test]
    fn what_takes_a_shell_is_refused_by_its_name() {
        for line in ["a | b", "a > b", "a; b", "a $X", "a \"$X\"", "a `b`", "a *", "a && b", "a\nb", "~/a"] {
            assert!(split(line).unwrap_err().contains("without a shell"), "{line}");
        }
        assert!(split("a 'b").is_err() && split("a \"b").is_err() && split("a\\").is_err());
    }
}
