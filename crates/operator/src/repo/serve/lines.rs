//! git's lines: four hexadecimal digits, which count themselves, and what they say is there.

/// What is no line of git's, or only the beginning of one.
#[derive(Debug)]
pub(super) struct NoLine;

/// The lines of `bytes`, each without its digits and line end; none for the end of a list (`0000`). After what is no line
/// there is nothing.
pub(super) fn of(mut bytes: &[u8]) -> impl Iterator<Item = Result<Option<&[u8]>, NoLine>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let Some((line, rest)) = split(bytes) else {
            bytes = &[];
            return Some(Err(NoLine));
        };
        bytes = rest;
        Some(Ok(line))
    })
}

fn split(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let digits = bytes.get(..4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    let length = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    if length == 0 {
        return Some((None, &bytes[4..]));
    }
    let line = bytes.get(4..length)?;
    Some((Some(line.strip_suffix(b"\n").unwrap_or(line)), &bytes[length..]))
}

/// Adds one line; none for the end of a list.
pub(super) fn add(to: &mut Vec<u8>, line: Option<&[u8]>) {
    match line {
        Some(line) => {
            to.extend_from_slice(format!("{:04x}", line.len() + 5).as_bytes());
            to.extend_from_slice(line);
            to.push(b'\n');
        }
        None => to.extend_from_slice(b"0000"),
    }
}
