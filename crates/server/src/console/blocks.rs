//! What each thing that can stand in a transcript looks like. Nothing here decides anything.

mod door;

pub use door::{lone_passed, lone_settled, passed, profile_changed, proposed, reads, settled, verdict};

use super::diff;
use super::sheet::{part, slot};
use super::text::{line, plain, shown};
use super::words::{clock, exit as how, number, span};
use maud::{Markup, html};
use model::event::{Exit, Reading, Stream};
use model::{BoxId, Moment, Outcome};
use serde_json::Value;

/// Lines of an output that are shown without being unfolded.
const SHORT: usize = 12;

/// One block of the transcript: when, and what.
fn entry(n: u64, at: Moment, class: &str, body: &Markup) -> Markup {
    html! {
        article class={ "entry " (class) } id={ "e" (n) } {
            a.when href={ "#e" (n) } title={ "entry " (n) } { (clock(at)) }
            div.what { (body) }
        }
    }
}

/// An element whose content comes in pieces.
fn span_slot(id: &str, class: &str) -> Markup {
    html! { span class=(class) id=(id) { (slot(id)) } }
}

fn div_slot(id: &str, class: &str) -> Markup {
    html! { div class=(class) id=(id) { (slot(id)) } }
}

/// A text to be unfolded, or an `open` one.
fn folded(summary: &str, text: &str, open: bool) -> Markup {
    let lines = text.lines().count();
    if open {
        return html! { pre.text.whole { "\n" (shown(text)) } };
    }
    html! {
        details.fold {
            summary { (summary) " " span.faint { "· " (lines) @if lines == 1 { " line" } @else { " lines" } } }
            pre.text { "\n" (shown(text)) }
        }
    }
}

pub fn accepted(n: u64, at: Moment, task: &str, person: &str) -> Markup {
    entry(
        n,
        at,
        "task",
        &html! {
            h3 { "Task " span.faint { "from " (shown(person)) } }
            pre.prose { "\n" (shown(task)) }
        },
    )
}

pub fn base(n: u64, at: Moment, commit: &str, left_out: &[String], count: u64) -> Markup {
    entry(
        n,
        at,
        "host",
        &html! {
            p { "Starts at commit " code.hash title=(plain(commit)) { (line(commit, 12)) } }
            @if count > 0 {
                details.fold {
                    summary { (number(count)) " uncommitted " @if count == 1 { "file" } @else { "files" } " left out" }
                    ul.paths {
                        @for path in left_out { li { code { (line(path, 400)) } } }
                        @if count > left_out.len() as u64 { li { "…" } }
                    }
                }
            }
        },
    )
}

pub fn attempt(n: u64, at: Moment, attempt: u32, box_id: &BoxId, uid: u32) -> Markup {
    entry(
        n,
        at,
        "host",
        &html! {
            p {
                @if attempt > 1 { strong { "Attempt " (attempt) ": " } "a new box, on the worktree as it was kept" }
                @else { "A box is made" }
                " " span.faint { code { (box_id) } " · uid " (uid) }
            }
        },
    )
}

pub fn walls(n: u64, at: Moment, readings: &[Reading]) -> Markup {
    let held = readings.iter().filter(|r| r.holds).count();
    let all = held == readings.len();
    entry(
        n,
        at,
        "host",
        &html! {
            details.fold open[!all] {
                summary {
                    @if all { span.good { "✓" } } @else { span.bad { "✗" } }
                    " " (held) " of " (readings.len()) " walls read back as promised"
                }
                div.scroll tabindex="0" role="group" aria-label="walls" {
                    table {
                        thead { tr { th { "Wall" } th { "Promised" } th { "Read" } th { "By" } th { "Holds" } } }
                        tbody {
                            @for r in readings {
                                tr {
                                    th scope="row" { (line(&r.wall, 80)) }
                                    td { code { (line(&r.promised, 400)) } }
                                    td { @if r.read == r.promised { span.faint { "the same" } } @else { code { (line(&r.read, 400)) } } }
                                    td { (line(&r.by, 200)) }
                                    td { @if r.holds { span.good { "✓ yes" } } @else { span.bad { "✗ no" } } }
                                }
                            }
                        }
                    }
                }
            }
        },
    )
}

pub fn note(n: u64, at: Moment, text: &str) -> Markup {
    entry(n, at, "host", &html! { p.lines { (shown(text)) } })
}

pub fn message(n: u64, at: Moment, turn: u32) -> Markup {
    entry(
        n,
        at,
        "message",
        &html! {
            h3.turn { "Turn " (turn) }
            (div_slot(&part(n, "text"), "prose"))
        },
    )
}

pub fn tool(n: u64, at: Moment, turn: u32, name: &str, title: &str, input: &Value) -> Markup {
    // A shell's title is its command, which stands in full below it.
    let title = if name == "shell" { "" } else { title.strip_prefix(name).unwrap_or(title).trim_start() };
    let input = serde_json::to_string_pretty(input).unwrap_or_default();
    entry(
        n,
        at,
        "tool",
        &html! {
            div.card {
                header {
                    h3 { span.name { (line(name, 60)) } " " span.title { (line(title, 160)) } }
                    (span_slot(&part(n, "state"), "state"))
                }
                (div_slot(&part(n, "parts"), "parts"))
                div.folds {
                    (div_slot(&part(n, "result"), "result"))
                    details.fold.input {
                        summary { "input " span.faint { "· turn " (turn) } }
                        pre.text { "\n" (shown(&input)) }
                    }
                }
            }
        },
    )
}

/// Stands where an answer is awaited.
pub fn working() -> Markup {
    html! { span.working { "running" } }
}

/// Stands where an answer never came.
pub fn unanswered() -> Markup {
    html! { span.faint { "no answer: its box ended" } }
}

/// Stands where an answer is on the next page.
pub fn continued() -> Markup {
    html! { span.faint { "goes on on the next page" } }
}

pub fn tool_state(ok: bool) -> Markup {
    if ok {
        html! { span.good { "✓" } }
    } else {
        html! { span.bad { "✗ failed" } }
    }
}

/// What the model read; folded where a command's output shows the same.
pub fn tool_result(ok: bool, text: &str, cut: bool, command: bool) -> Markup {
    let summary = if command || cut { "what the model read" } else { "output" };
    html! {
        @if !text.is_empty() { (folded(summary, text, !command && (!ok || text.lines().count() <= SHORT))) }
        @if cut { p.note { "The model read a part; the output is longer." } }
    }
}

pub fn lone_result(n: u64, at: Moment, ok: bool, text: &str, cut: bool) -> Markup {
    entry(
        n,
        at,
        "tool",
        &html! {
            div.card {
                header { h3 { span.faint { "the answer to an earlier call" } } span.state { (tool_state(ok)) } }
                (tool_result(ok, text, cut, false))
            }
        },
    )
}

/// A command, as a shell would be told it; in full.
fn prompt(argv: &[String], cwd: &str) -> Markup {
    let text = match argv {
        [shell, flag, script] if flag == "-c" && shell.ends_with("/sh") => script.clone(),
        _ => argv.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" "),
    };
    let place = if cwd == "/workspace" { "" } else { cwd };
    let first = html! { span.dollar { (line(place, 200)) "$" } " " };
    if text.lines().count() <= SHORT {
        return html! { pre.prompt { (first) (shown(&text)) } };
    }
    html! {
        details.fold.long {
            summary { (first) (line(text.lines().next().unwrap_or_default(), 160)) " "
                span.faint { "· " (text.lines().count()) " lines" } }
            pre.prompt { "\n" (shown(&text)) }
        }
    }
}

/// An argument as it would be typed.
fn quoted(arg: &str) -> String {
    let plain = !arg.is_empty() && arg.chars().all(|c| c.is_alphanumeric() || "-_./=:,@%+".contains(c));
    if plain { arg.to_owned() } else { format!("'{}'", arg.replace('\'', r"'\''")) }
}

pub fn command(n: u64, argv: &[String], cwd: &str) -> Markup {
    html! {
        section.command aria-label="command" {
            (prompt(argv, cwd))
            (div_slot(&part(n, "out"), "output"))
            p.end { (span_slot(&part(n, "state"), "state")) }
        }
    }
}

pub fn lone_command(n: u64, at: Moment, argv: &[String], cwd: &str) -> Markup {
    entry(n, at, "tool", &html! { div.card { (command(n, argv, cwd)) } })
}

pub fn lone_output(n: u64, at: Moment) -> Markup {
    entry(
        n,
        at,
        "tool",
        &html! {
            div.card {
                section.command aria-label="output" {
                    (div_slot(&part(n, "out"), "output"))
                    p.end { (span_slot(&part(n, "state"), "state")) }
                }
            }
        },
    )
}

pub fn output(stream: Stream, text: &str, full: bool) -> Markup {
    html! {
        @match stream {
            Stream::Stdout => (shown(text)),
            Stream::Stderr => span.err { (shown(text)) },
        }
        @if full { span.note { "\nThe output is longer than what is shown; the record holds all of it." } }
    }
}

pub fn command_state(exit: &Exit, ms: u64) -> Markup {
    let (words, ok) = how(exit);
    html! {
        span.good[ok].bad[!ok] { @if ok { "✓ " } @else { "✗ " } (shown(&words)) }
        " " span.faint { "· " (span(i64::try_from(ms).unwrap_or(i64::MAX))) }
    }
}

pub fn edit(path: &str, created: bool, diff: &str, cut: bool) -> Markup {
    html! {
        section.edit aria-label="file edit" {
            p.name { @if created { span.chip { "new" } " " } code { (line(path.strip_prefix("/workspace/").unwrap_or(path), 400)) } }
            (diff::one(diff, cut))
        }
    }
}

pub fn lone_edit(n: u64, at: Moment, edit: &Markup) -> Markup {
    entry(n, at, "tool", &html! { div.card { (edit) } })
}

/// What the run's agent proposes, in its own words.
pub fn wanted(n: u64, at: Moment, repository: &str, branch: &str, title: &str, body: &str) -> Markup {
    entry(
        n,
        at,
        "note",
        &html! {
            h3 { "The agent proposes what it pushed to " (line(repository, 64)) }
            p { code { (line(branch, 200)) } }
            p { strong { (line(title, 200)) } }
            pre.prose { "\n" (shown(body)) }
            p.faint { "These are the agent's words. A person opens the pull request." }
        },
    )
}

#[allow(clippy::too_many_arguments, reason = "the event's own fields")]
pub fn result(
    n: u64,
    at: Moment,
    branch: Option<&str>,
    commit: Option<&str>,
    files: u64,
    diff: &str,
    cut: bool,
) -> Markup {
    entry(
        n,
        at,
        "outcome",
        &html! {
            div.card {
                header {
                    h3 { "Result" }
                    span.state { (number(files)) @if files == 1 { " file" } @else { " files" } " changed" }
                }
                @if let Some(branch) = branch {
                    p.name { "branch " code { (line(branch, 200)) }
                        @if let Some(commit) = commit { " at " code.hash title=(plain(commit)) { (line(commit, 12)) } } }
                }
                @if diff.is_empty() && !cut { p.note { "Nothing was changed." } } @else { (diff::files(diff, cut)) }
            }
        },
    )
}

pub fn ended(n: u64, at: Moment, outcome: Outcome, reason: &str, exit: Option<&Exit>) -> Markup {
    let (class, words) = match outcome {
        Outcome::Done => ("end done", "✓ Done"),
        Outcome::Failed => ("end failed", "✗ Failed"),
        Outcome::Cancelled => ("end cancelled", "■ Cancelled"),
    };
    entry(
        n,
        at,
        class,
        &html! {
            h3 { (words) }
            @if !reason.is_empty() { p.lines { (shown(reason)) } }
            @if let Some(exit) = exit && outcome != Outcome::Done { p.faint { (shown(&how(exit).0)) } }
        },
    )
}

pub fn broken_off(n: u64, at: Moment, attempt: u32, reason: &str) -> Markup {
    entry(
        n,
        at,
        "end failed",
        &html! {
            h3 { "✗ Attempt " (attempt) " was broken off" }
            p.lines { (shown(reason)) }
            p.faint { "What it changed is kept. The run goes on in another box, or its end says why not." }
        },
    )
}

pub fn unknown(n: u64, at: Moment, raw: &str) -> Markup {
    entry(
        n,
        at,
        "host",
        &html! {
            details.fold {
                summary { "An event that this version does not know" }
                pre.text { "\n" (shown(&raw.chars().take(4_000).collect::<String>())) }
            }
        },
    )
}
