//! `read`, `write` and `edit`, through the runner's `fs/*`.

use super::{Bench, Edit, MAX_TEXT, Read, Said, Write, cut};
use agent_client_protocol_schema::v1::{
    CLIENT_METHOD_NAMES, ReadTextFileRequest, ReadTextFileResponse, WriteTextFileRequest,
};
use serde_json::Value;
use std::path::Path;

/// Lines of one `read` unless said.
const LINES: u32 = 2000;
/// Largest file that is edited or overwritten by an edit, in bytes.
const MAX_EDITED: u64 = 4 * 1024 * 1024;

/// How what is shown in the place of a credential begins.
const PLACEHOLDERS: [&str; 2] = ["[redacted: ", "[scrubbed:"];

async fn text(bench: &Bench, path: &Path, lines: Option<(u32, u32)>) -> Result<String, Said> {
    let mut ask = ReadTextFileRequest::new(bench.session.clone(), path);
    if let Some((line, limit)) = lines {
        ask = ask.line(line).limit(limit);
    }
    let answer: ReadTextFileResponse = bench.peer.request(CLIENT_METHOD_NAMES.fs_read_text_file, ask).await?;
    Ok(answer.content)
}

async fn put(bench: &Bench, path: &Path, content: &str) -> Result<(), Said> {
    let ask = WriteTextFileRequest::new(bench.session.clone(), path, content);
    let _: Value = bench.peer.request(CLIENT_METHOD_NAMES.fs_write_text_file, ask).await?;
    Ok(())
}

pub(super) async fn read(bench: &Bench, read: &Read) -> Result<Said, Said> {
    let path = bench.path(&read.path)?;
    let first = read.offset.unwrap_or(1).max(1);
    let limit = read.limit.unwrap_or(LINES).clamp(1, 100_000);
    // One line more than is shown says whether there is more.
    let content = text(bench, &path, Some((first, limit + 1))).await?;
    if content.is_empty() {
        return Ok(Said::ok(if first == 1 {
            "(an empty file)".into()
        } else {
            format!("(no line {first}: the file is shorter)")
        }));
    }
    let wanted = match content.split_inclusive('\n').take(limit as usize).map(str::len).sum() {
        end if end < content.len() => &content[..end],
        _ => &content[..],
    };
    let shown = cut::head(wanted, MAX_TEXT);
    if shown.len() == content.len() {
        return Ok(Said::ok(content));
    }
    let lines = shown.split_inclusive('\n').count() as u32;
    let last = first + lines.max(1) - 1;
    let gap = if shown.ends_with('\n') { "" } else { "\n" };
    let note = if shown.ends_with('\n') {
        format!("[lines {first} to {last}; there is more: read on with offset {}]", last + 1)
    } else {
        format!("[line {last} is cut at {MAX_TEXT} bytes; use shell to see the rest of it]")
    };
    Ok(Said { text: format!("{shown}{gap}{note}"), ok: true, cut: true })
}

pub(super) async fn write(bench: &Bench, write: &Write) -> Result<Said, Said> {
    let path = bench.path(&write.path)?;
    let _order = bench.writing.lock().await;
    put(bench, &path, &write.content).await?;
    Ok(Said::ok(format!("Wrote {} bytes to {}.", write.content.len(), bench.shown(&path))))
}

pub(super) async fn edit(bench: &Bench, edit: &Edit) -> Result<Said, Said> {
    if edit.old.is_empty() {
        return Err(Said::error("`old` is empty: say which text to replace, or use write for a new file."));
    }
    let path = bench.path(&edit.path)?;
    let name = bench.shown(&path);
    if std::fs::metadata(&path).is_ok_and(|file| file.len() > MAX_EDITED) {
        return Err(Said::error(format!("{name} is larger than {MAX_EDITED} bytes; change it by a command.")));
    }
    let _order = bench.writing.lock().await;
    let content = text(bench, &path, None).await?;
    let count = content.matches(&edit.old).count();
    let changed = match count {
        0 if PLACEHOLDERS.iter().any(|start| edit.old.contains(start)) => {
            let text = format!(
                "`old` does not stand in {name}: a line of it holds a credential that you are not shown, and what is shown in \
                 its place stands in no file. Leave that line as it is and edit around it, with an `old` that does not hold it."
            );
            return Err(Said::error(text));
        }
        0 => {
            let text = format!(
                "`old` does not stand in {name}. It must match exactly, with its spaces and line ends; read the file again."
            );
            return Err(Said::error(text));
        }
        1 => content.replacen(&edit.old, &edit.new, 1),
        _ if edit.all => content.replace(&edit.old, &edit.new),
        _ => {
            let text = format!("`old` stands {count} times in {name}. Give more of the text around it, or set `all`.");
            return Err(Said::error(text));
        }
    };
    if changed == content {
        return Err(Said::error("`old` and `new` are the same; nothing was changed."));
    }
    put(bench, &path, &changed).await?;
    let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
    Ok(Said::ok(format!("Replaced {times} in {name}.")))
}
