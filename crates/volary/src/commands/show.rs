//! Entries of a transcript as people read them in a terminal. What a box wrote is shown escaped: no control
//! character of an agent reaches the terminal.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::Unanswered;
use model::event::{Entry, Event, Exit, OneRead};
use std::fmt::Write;

/// Longest text of one entry, in characters; the whole of it is in the record.
const MOST: usize = 2_000;

/// Stands in the place of an output whose bytes cannot be decoded.
pub const UNDECODABLE: &str = "[an output that cannot be decoded]";

/// Text without control characters but line ends and tabs, and without characters that reorder what is read.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
                '\u{fffd}'
            }
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// As [`plain`], in one line: for names and titles, which must not look like lines of ours.
pub fn in_line(text: &str) -> String {
    plain(text).replace('\n', "\u{240a}")
}

/// The beginning of a text in one line of at most `most` characters; that there is more is shown.
pub fn short(text: &str, most: usize) -> String {
    let line = plain(text.trim_end()).replace(['\n', '\t'], " ");
    match line.char_indices().nth(most) {
        Some(_) => line.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
        None => line,
    }
}

fn cut(text: &str) -> String {
    let text = plain(text);
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}\n… (the whole of it: volary log --json)", &text[..at]),
        None => text,
    }
}

/// How a process ended, in words.
pub fn exit(exit: &Exit) -> String {
    match exit {
        Exit::Code { code } => format!("exit status {code}"),
        Exit::Signal { signal } => format!("ended by signal {signal}"),
        Exit::Killed { why } => plain(why),
        Exit::Unknown => "outcome unknown: the platform was interrupted".into(),
    }
}

/// A piece of an output as text.
pub fn output(data_b64: &str) -> String {
    let Ok(bytes) = STANDARD.decode(data_b64) else { return format!("{UNDECODABLE}\n") };
    let text = String::from_utf8_lossy(&bytes);
    if text.chars().nth(MOST).is_some() { cut(&text) + "\n" } else { plain(&text) }
}

/// An entry in lines; `None` for what people do not read (the loop's own steps) and for pieces of a text, which
/// [`super::transcript`] joins.
pub fn entry(entry: &Entry) -> Option<String> {
    let text = match &entry.event {
        Event::Accepted { task, repo, person, model, profile } => {
            let mut line = format!("● {} by {person}: {}", entry.run, cut(task));
            let parts = [("repository", repo.as_deref()), ("model", model.as_deref()), ("profile", Some(profile))];
            for (name, value) in parts {
                if let Some(value) = value {
                    write!(line, "\n  {name} {}", plain(value)).ok()?;
                }
            }
            line
        }
        Event::Base { commit, left_out, left_out_count } => {
            let mut line = format!("  starts at {commit}");
            if *left_out_count > 0 {
                write!(line, "\n  not in it, because not committed ({left_out_count}):").ok()?;
                for path in left_out {
                    write!(line, "\n    {}", in_line(path)).ok()?;
                }
            }
            line
        }
        Event::Attempt { attempt, box_id, .. } => format!("▣ box {box_id}, attempt {attempt}"),
        Event::Walls { readings } => {
            let held = readings.iter().filter(|r| r.holds).count();
            let mut line = format!("▣ {held} of {} walls read back as promised", readings.len());
            for r in readings.iter().filter(|r| !r.holds) {
                write!(line, "\n  ✗ {}: promised {}, read {} ({})", r.wall, r.promised, r.read, r.by).ok()?;
            }
            line
        }
        Event::BrokenOff { attempt, reason } => format!(
            "✗ attempt {attempt} was broken off: {}\n  what it changed is kept; the run goes on in another box, or its end says \
             why not",
            cut(reason)
        ),
        Event::Note { text } => format!("· {}", cut(text)),
        Event::Paused { person } => format!("‖ {} paused the run", in_line(person)),
        Event::Resumed { person, .. } => format!("▸ {} let the run go on", in_line(person)),
        Event::Froze => "‖ its box stands still, and its time with it".to_owned(),
        Event::Thawed { stood_ms } => {
            format!("▸ its box goes on, having stood still for {}.{} s", stood_ms / 1000, stood_ms % 1000 / 100)
        }
        Event::Result { branch, commit, files, diff, diff_cut } => {
            let mut line = format!("◆ {files} file{} changed", if *files == 1 { "" } else { "s" });
            if let (Some(branch), Some(commit)) = (branch, commit) {
                write!(line, ": branch {branch} at {commit}").ok()?;
            }
            if !diff.is_empty() {
                write!(line, "\n{}", plain(diff).trim_end_matches('\n')).ok()?;
            }
            if *diff_cut {
                line.push_str("\n… the diff is longer; see the branch");
            }
            line
        }
        Event::Ended { outcome, reason, .. } => {
            let (mark, word) = match outcome {
                model::Outcome::Done => ("✓", "done"),
                model::Outcome::Failed => ("✗", "failed"),
                model::Outcome::Cancelled => ("✗", "cancelled"),
            };
            match reason.strip_prefix(word) {
                _ if reason.is_empty() => format!("{mark} {word}"),
                // The reason begins with the word itself.
                Some(rest) if !rest.starts_with(char::is_alphanumeric) => format!("{mark} {}", cut(reason)),
                _ => format!("{mark} {word}: {}", cut(reason)),
            }
        }
        Event::ToolCall { title, .. } => format!("▶ {}", in_line(title)),
        Event::ToolResult { ok: false, text, .. } => format!("  ✗ {}", cut(text)),
        Event::ToolResult { .. } | Event::Chunk { .. } | Event::Output { .. } | Event::Loop { .. } | Event::Unknown => {
            return None;
        }
        Event::Command { argv, .. } => format!("  $ {}", cut(&argv.join(" "))),
        Event::CommandEnd { exit: how, ms, .. } => format!("  ({}, {ms} ms)", exit(how)),
        Event::FileEdit { path, created, diff, .. } => {
            format!("  {} {}\n{}", if *created { "new file" } else { "edited" }, in_line(path), cut(diff))
        }
        Event::Verdict(v) if v.allowed => {
            format!("⇄ {} {} allowed ({})", plain(&v.method), plain(&v.target), v.rule)
        }
        Event::Verdict(v) => {
            format!("⛔ {} {} refused ({}): {}", plain(&v.method), plain(&v.target), v.rule, plain(&v.why))
        }
        Event::Passed { status: 0, fault, .. } => format!("  ({})", no_answer(*fault)),
        Event::Passed { status, sent, received, interrupted, .. } => {
            let cut = if *interrupted { ", interrupted" } else { "" };
            format!("  (status {status}, {sent} bytes out, {received} in{cut})")
        }
        Event::Reads { reads, unheard, .. } => {
            let mut lines: Vec<String> = reads.iter().map(read).collect();
            if *unheard > 0 {
                lines.push(format!(
                    "  (the gateway ended: up to {unheard} more may have been made by this allowance, and are not known)"
                ));
            }
            if lines.is_empty() {
                return None;
            }
            lines.join("\n")
        }
        Event::Push { repository, reference, paths, paths_count, .. } => {
            let named: Vec<String> = paths.iter().take(8).map(|path| in_line(path)).collect();
            let more = if *paths_count > 8 { ", …" } else { "" };
            format!(
                "⇧ push to {}: {}, {paths_count} path(s): {}{more}",
                in_line(repository),
                in_line(reference),
                named.join(", ")
            )
        }
        Event::PullRequestWanted { repository, branch, title, body } => {
            let words: String = plain(body).lines().map(|line| format!("    {line}\n")).collect();
            format!(
                "⇧ the agent proposes {} of {}: {}\n{words}  `volary pr` opens it",
                in_line(branch),
                in_line(repository),
                in_line(title)
            )
        }
        Event::PullRequest { repository, url, .. } => {
            format!("⇧ proposal opened in {}: {}", in_line(repository), in_line(url))
        }
        Event::Proposed { profile, toml, opens, .. } => {
            let rows: String = plain(toml).lines().map(|line| format!("    {line}\n")).collect();
            let profile = in_line(profile);
            format!("⚑ ask an administrator to add to the profile {profile}:\n{rows}  it would open: {}", plain(opens))
        }
        Event::ProfileChanged { denial, person, profile, toml, opens, .. } => {
            let rows: String = plain(toml).lines().map(|line| format!("    {line}\n")).collect();
            format!(
                "⚑ {} allowed what refusal {denial} was about, in this run and in the profile {}:\n{rows}  it opened: {}",
                in_line(person),
                in_line(profile),
                plain(opens)
            )
        }
        Event::Settled { usage, cost, model, .. } => {
            format!("⇄ {model}: {} tokens read, {} written, {cost}", usage.input, usage.output)
        }
    };
    Some(text)
}

/// Why a host gave no answer, and what whoever runs the platform can do, where that is known.
fn no_answer(fault: Option<Unanswered>) -> String {
    let Some(fault) = fault else { return "no answer".to_owned() };
    format!("no answer, {}: {} {}", fault.rule(), fault.why(), fault.help().unwrap_or_default()).trim_end().to_owned()
}

/// One request that was made by an allowance.
fn read(read: &OneRead) -> String {
    let OneRead { method, target, status, received, interrupted, fault, .. } = read;
    let cut = if *interrupted { ", interrupted" } else { "" };
    let came = if *status == 0 { no_answer(*fault) } else { format!("status {status}, {received} bytes in") };
    format!("⇄ {} {} ({came}{cut})", plain(method), plain(target))
}

#[cfg(test)]
mod tests {
    use super::plain;
    use model::Unanswered;
    use model::event::{Entry, Event, OneRead};

    #[test]
    fn reads_by_an_allowance_are_shown_one_by_one_and_what_nobody_told_of_is_said() {
        let read = |target: &str, status, interrupted| OneRead {
            at: model::Moment(1),
            method: "GET".into(),
            target: target.into(),
            status,
            received: 7,
            interrupted,
            fault: (status == 0).then_some(Unanswered::Tls),
        };
        let shown = |reads, unheard| {
            super::entry(&Entry {
                run: "r".parse().unwrap(),
                n: 1,
                at: model::Moment(1),
                source: model::event::Source::Server,
                source_seq: 1,
                event: Event::Reads { grant: "g".into(), before: 0, reads, over: true, unheard },
            })
        };
        let two = vec![read("https://a.example/x", 200, true), read("https://a.example/y", 0, false)];
        assert_eq!(
            shown(two, 0).unwrap(),
            "⇄ GET https://a.example/x (status 200, 7 bytes in, interrupted)\n⇄ GET https://a.example/y (no answer, \
             egress.tls: TLS could not be agreed with the host; its certificate may not be trusted here. `volary up \
             --extra-roots FILE` trusts a company's own certificate authority.)"
        );
        assert!(shown(vec![], 3).unwrap().contains("up to 3 more may have been made"));
        assert_eq!(shown(vec![], 0), None, "an allowance that ends in order has nothing more to say");
    }

    #[test]
    fn a_task_in_a_list_is_one_line_that_says_when_it_is_cut() {
        assert_eq!(super::short("one\ntwo\n", 60), "one two");
        assert_eq!(super::short("abcdef", 6), "abcdef");
        assert_eq!(super::short("abcdefg", 6), "abcde…");
    }

    #[test]
    fn nothing_an_agent_wrote_steers_the_terminal_or_reorders_a_line() {
        let shown = plain("a\x1b[2Jb\r\u{9b}31m\u{202e}c\td\n");
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{shown:?}");
        assert!(!shown.contains('\u{202e}'));
    }
}
