//! A transcript as a page: each entry becomes pieces of HTML, each with the slot that it goes to.
//!
//! The same pieces make the page ([`super::sheet`]) and the live stream ([`super::live`]).

use super::blocks;
use super::sheet::{LOG, Piece, part};
use super::terminal::Terminal;
use super::words::span;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::Markup;
use model::event::{Exit, Stream};
use model::{Event, Moment};
use serde_json::Value;
use std::collections::HashMap;
use store::runs::RawEntry;

/// Output of one command that is shown, in bytes of text; the record holds all of it.
const MOST_OUTPUT: usize = 64 * 1024;

/// Stands in the place of an output whose bytes cannot be decoded.
const UNDECODABLE: &[u8] = b"[an output that cannot be decoded]\n";

/// Tool calls, commands and model calls that are remembered while they are open, of each. A box chooses how many
/// it opens; what is forgotten is shown as a block of its own.
const MOST_OPEN: usize = 512;

struct Tool {
    n: u64,
    path: Option<String>,
    command: bool,
}

struct Command {
    n: u64,
    shown: usize,
    out: Terminal,
    err: Terminal,
}

/// What is open at a place of a transcript: all that is needed to show what follows.
#[derive(Default)]
pub struct Transcript {
    message: Option<(u32, u64)>,
    tools: HashMap<String, Tool>,
    commands: HashMap<String, Command>,
    calls: HashMap<String, u64>,
}

fn remember<T>(open: &mut HashMap<String, T>, id: String, what: T) {
    if open.len() >= MOST_OPEN {
        open.clear();
    }
    open.insert(id, what);
}

impl Transcript {
    /// What the next entry adds to the page.
    pub fn take(&mut self, entry: &RawEntry) -> Vec<Piece> {
        let (n, at) = (entry.n, entry.at);
        let new = |html| vec![Piece::append(LOG, html)];
        match entry.event() {
            Event::Loop { .. } => Vec::new(),
            Event::Accepted { task, person, .. } => new(blocks::accepted(n, at, &task, &person)),
            Event::Base { commit, left_out, left_out_count } => {
                new(blocks::base(n, at, &commit, &left_out, left_out_count))
            }
            Event::Attempt { attempt, box_id, uid } => {
                let mut pieces = self.leave(&blocks::unanswered());
                pieces.push(Piece::append(LOG, blocks::attempt(n, at, attempt, &box_id, uid)));
                pieces
            }
            Event::Walls { readings } => new(blocks::walls(n, at, &readings)),
            Event::BrokenOff { attempt, reason } => {
                let mut pieces = self.leave(&blocks::unanswered());
                pieces.push(Piece::append(LOG, blocks::broken_off(n, at, attempt, &reason)));
                pieces
            }
            Event::Note { text } => new(blocks::note(n, at, &text)),
            Event::Paused { person } => new(blocks::note(n, at, &format!("{person} paused the run"))),
            Event::Resumed { person, .. } => new(blocks::note(n, at, &format!("{person} let the run go on"))),
            Event::Froze => new(blocks::note(n, at, "its box stands still, and its time with it")),
            Event::Thawed { stood_ms } => {
                let ms = i64::try_from(stood_ms).unwrap_or(i64::MAX);
                new(blocks::note(n, at, &format!("its box goes on, having stood still for {}", span(ms))))
            }
            Event::Result { branch, commit, files, diff, diff_cut } => {
                new(blocks::result(n, at, branch.as_deref(), commit.as_deref(), files, &diff, diff_cut))
            }
            Event::Ended { outcome, reason, exit } => {
                let mut pieces = self.leave(&blocks::unanswered());
                pieces.push(Piece::append(LOG, blocks::ended(n, at, outcome, &reason, exit.as_ref())));
                pieces
            }
            Event::Chunk { turn, text } => self.chunk(n, at, turn, &text),
            Event::ToolCall { turn, id, name, title, input } => self.tool_call(n, at, turn, id, &name, &title, &input),
            Event::ToolResult { id, ok, text, cut } => match self.tools.remove(&id) {
                Some(tool) => vec![
                    Piece::set(part(tool.n, "state"), blocks::tool_state(ok)),
                    Piece::set(part(tool.n, "result"), blocks::tool_result(ok, &text, cut, tool.command)),
                ],
                None => new(blocks::lone_result(n, at, ok, &text, cut)),
            },
            Event::Command { id, argv, cwd, tool_call } => self.command(n, at, id, &argv, &cwd, tool_call.as_deref()),
            Event::Output { id, stream, data_b64 } => {
                let bytes = STANDARD.decode(data_b64);
                self.output(n, at, &id, stream, bytes.as_deref().unwrap_or(UNDECODABLE))
            }
            Event::CommandEnd { id, exit, ms } => self.command_end(&id, &exit, ms),
            Event::FileEdit { path, created, diff, diff_cut } => self.edit(n, at, &path, created, &diff, diff_cut),
            Event::Verdict(verdict) => {
                let mut pieces = new(blocks::verdict(n, at, &verdict));
                if let Some(grant) = verdict.grant.filter(|_| verdict.allowed) {
                    remember(&mut self.calls, grant, n);
                    pieces.push(working(n, "paid"));
                }
                pieces
            }
            Event::Settled { grant, model, usage, cost, status, interrupted } => {
                if interrupted {
                    // The model begins its turn anew: its words are not a continuation.
                    self.message = None;
                }
                let paid = blocks::settled(usage, cost, status, interrupted);
                match self.calls.remove(&grant) {
                    Some(call) => vec![Piece::set(part(call, "paid"), paid)],
                    None => new(blocks::lone_settled(n, at, &model, &paid)),
                }
            }
            Event::Passed { grant, status, sent, received, interrupted, fault } => {
                let passed = blocks::passed(status, sent, received, interrupted, fault);
                match self.calls.remove(&grant) {
                    Some(call) => vec![Piece::set(part(call, "paid"), passed)],
                    None => new(blocks::lone_passed(n, at, &passed)),
                }
            }
            Event::Reads { reads, over, unheard, .. } => new(blocks::reads(n, at, &reads, over, unheard)),
            Event::Push { repository, reference, new: new_tip, paths, paths_count, .. } => {
                let names = paths.iter().take(20).map(String::as_str).collect::<Vec<_>>().join(", ");
                let short = new_tip.get(..12).unwrap_or_default();
                let text = format!("push to {repository}: {reference} becomes {short}, {paths_count} path(s): {names}");
                new(blocks::note(n, at, &text))
            }
            Event::PullRequestWanted { repository, branch, title, body } => {
                new(blocks::wanted(n, at, &repository, &branch, &title, &body))
            }
            Event::PullRequest { repository, url, person, as_app, .. } => {
                let as_whom = if as_app { " as the app" } else { "" };
                new(blocks::note(n, at, &format!("proposal opened in {repository} for {person}{as_whom}: {url}")))
            }
            Event::Proposed { rule, profile, toml, opens } => {
                new(blocks::proposed(n, at, &rule, &profile, &toml, &opens))
            }
            Event::ProfileChanged { denial, person, profile, version, toml, opens } => {
                new(blocks::profile_changed(n, at, denial, &person, &profile, &version, &toml, &opens))
            }
            Event::Unknown => new(blocks::unknown(n, at, entry.event.get())),
        }
    }

    fn chunk(&mut self, n: u64, at: Moment, turn: u32, text: &str) -> Vec<Piece> {
        let text = super::text::shown(text);
        match self.message {
            Some((now, message)) if now == turn => vec![Piece::append(part(message, "text"), text)],
            _ => {
                self.message = Some((turn, n));
                vec![Piece::append(LOG, blocks::message(n, at, turn)), Piece::append(part(n, "text"), text)]
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the event's own fields")]
    fn tool_call(
        &mut self,
        n: u64,
        at: Moment,
        turn: u32,
        id: String,
        name: &str,
        title: &str,
        input: &Value,
    ) -> Vec<Piece> {
        let path = input.get("path").and_then(Value::as_str).map(str::to_owned);
        let path = path.filter(|_| matches!(name, "edit" | "write"));
        remember(&mut self.tools, id, Tool { n, path, command: false });
        vec![Piece::append(LOG, blocks::tool(n, at, turn, name, title, input)), working(n, "state")]
    }

    fn command(
        &mut self,
        n: u64,
        at: Moment,
        id: String,
        argv: &[String],
        cwd: &str,
        tool_call: Option<&str>,
    ) -> Vec<Piece> {
        let tool = tool_call.and_then(|call| self.tools.get_mut(call));
        remember(&mut self.commands, id, Command { n, shown: 0, out: Terminal::default(), err: Terminal::default() });
        let block = match tool {
            Some(tool) => {
                tool.command = true;
                Piece::append(part(tool.n, "parts"), blocks::command(n, argv, cwd))
            }
            None => Piece::append(LOG, blocks::lone_command(n, at, argv, cwd)),
        };
        vec![block, working(n, "state")]
    }

    fn output(&mut self, n: u64, at: Moment, id: &str, stream: Stream, bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if !self.commands.contains_key(id) {
            // Its beginning is on an earlier page, or it is the one command of `volary exec`.
            pieces.extend([Piece::append(LOG, blocks::lone_output(n, at)), working(n, "state")]);
            let lone = Command { n, shown: 0, out: Terminal::default(), err: Terminal::default() };
            remember(&mut self.commands, id.to_owned(), lone);
        }
        let Some(command) = self.commands.get_mut(id) else { return pieces };
        let terminal = match stream {
            Stream::Stdout => &mut command.out,
            Stream::Stderr => &mut command.err,
        };
        let text = terminal.take(bytes);
        pieces.extend(command.show(stream, text));
        pieces
    }

    fn command_end(&mut self, id: &str, exit: &Exit, ms: u64) -> Vec<Piece> {
        let Some(mut command) = self.commands.remove(id) else { return Vec::new() };
        let mut pieces = command.rest();
        pieces.push(Piece::set(part(command.n, "state"), blocks::command_state(exit, ms)));
        pieces
    }

    fn edit(&mut self, n: u64, at: Moment, path: &str, created: bool, diff: &str, cut: bool) -> Vec<Piece> {
        let body = blocks::edit(path, created, diff, cut);
        // Which call it belongs to is not said; the open one that names this file is the one.
        let named = |tool: &&Tool| {
            tool.path.as_ref().is_some_and(|p| path == p || path.ends_with(&format!("/{}", p.trim_start_matches("./"))))
        };
        match self.tools.values().filter(named).min_by_key(|tool| tool.n) {
            Some(tool) => vec![Piece::append(part(tool.n, "parts"), body)],
            None => vec![Piece::append(LOG, blocks::lone_edit(n, at, &body))],
        }
    }

    /// What is open says `why` it is not followed any more: its box is gone, or the page ends here.
    pub fn leave(&mut self, why: &Markup) -> Vec<Piece> {
        self.message = None;
        let mut open: Vec<u64> = self.tools.drain().map(|(_, tool)| tool.n).collect();
        let mut pieces = Vec::new();
        for (_, mut command) in self.commands.drain() {
            pieces.extend(command.rest());
            open.push(command.n);
        }
        open.sort_unstable();
        pieces.extend(open.into_iter().map(|n| Piece::set(part(n, "state"), why.clone())));
        pieces
    }
}

fn working(n: u64, name: &str) -> Piece {
    Piece::set(part(n, name), blocks::working())
}

impl Command {
    fn show(&mut self, stream: Stream, mut text: String) -> Option<Piece> {
        if text.is_empty() || self.shown > MOST_OUTPUT {
            return None;
        }
        let left = MOST_OUTPUT - self.shown;
        self.shown += text.len();
        let full = text.len() > left;
        if full {
            text.truncate(text.floor_char_boundary(left));
        }
        Some(Piece::append(part(self.n, "out"), blocks::output(stream, &text, full)))
    }

    fn rest(&mut self) -> Vec<Piece> {
        let (out, err) = (self.out.end(), self.err.end());
        [(Stream::Stdout, out), (Stream::Stderr, err)].into_iter().filter_map(|(s, text)| self.show(s, text)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::sheet::Sheet;
    use model::RunId;
    use model::event::Source;
    use proptest::prelude::*;
    use serde_json::json;

    fn entries(events: &[Value]) -> Vec<RawEntry> {
        (1..)
            .zip(events)
            .map(|(n, event)| RawEntry {
                run: RunId::parse("r").unwrap(),
                n,
                at: Moment(i64::try_from(n).unwrap() * 1000),
                source: Source::Operator,
                source_seq: n,
                event: serde_json::value::to_raw_value(event).unwrap(),
            })
            .collect()
    }

    fn page(entries: &[RawEntry]) -> String {
        let (mut transcript, mut sheet) = (Transcript::default(), Sheet::default());
        for entry in entries {
            sheet.apply(transcript.take(entry));
        }
        sheet.write().into_string()
    }

    const HOSTILE: &str = "\"><img src=x onerror=alert(1)><script>alert(2)</script><!--@e1-text--></template>\u{202e}";

    /// Every field of every event that a box, a model or a repository can write.
    fn hostile() -> Vec<Value> {
        let b64 = STANDARD.encode(HOSTILE);
        vec![
            json!({"kind": "accepted", "task": HOSTILE, "profile": HOSTILE, "person": HOSTILE}),
            json!({"kind": "base", "commit": HOSTILE, "left_out": [HOSTILE], "left_out_count": 2}),
            json!({"kind": "attempt", "attempt": 1, "box": "b", "uid": 7}),
            json!({"kind": "walls", "readings": [
                {"wall": HOSTILE, "promised": HOSTILE, "read": "x", "holds": false, "by": HOSTILE}]}),
            json!({"kind": "note", "text": HOSTILE}),
            json!({"kind": "chunk", "turn": 1, "text": HOSTILE}),
            json!({"kind": "tool-call", "turn": 1, "id": HOSTILE, "name": HOSTILE, "title": HOSTILE, "input": {HOSTILE: HOSTILE}}),
            json!({"kind": "command", "id": HOSTILE, "argv": [HOSTILE, HOSTILE], "cwd": HOSTILE, "tool_call": HOSTILE}),
            json!({"kind": "output", "id": HOSTILE, "stream": "stdout", "data_b64": b64}),
            json!({"kind": "output", "id": HOSTILE, "stream": "stderr", "data_b64": b64}),
            json!({"kind": "command-end", "id": HOSTILE, "exit": {"how": "killed", "why": HOSTILE}, "ms": 5}),
            json!({"kind": "file-edit", "path": HOSTILE, "created": true, "diff": format!("--- a/{HOSTILE}\n+++ b/{HOSTILE}\n@@ -1 +1 @@\n+{HOSTILE}\n")}),
            json!({"kind": "tool-result", "id": HOSTILE, "ok": false, "text": HOSTILE, "cut": true}),
            json!({"kind": "tool-result", "id": "lone", "ok": true, "text": HOSTILE}),
            json!({"kind": "output", "id": "lone", "stream": "stdout", "data_b64": b64}),
            json!({"kind": "verdict", "allowed": false, "rule": HOSTILE, "method": HOSTILE, "target": HOSTILE, "why": HOSTILE}),
            json!({"kind": "verdict", "allowed": true, "rule": HOSTILE, "method": HOSTILE, "target": HOSTILE, "why": HOSTILE, "grant": "g", "model": HOSTILE}),
            json!({"kind": "settled", "grant": "g", "model": HOSTILE, "usage": {}, "cost": 7, "status": 200, "interrupted": true}),
            json!({"kind": "settled", "grant": "other", "model": HOSTILE, "usage": {}, "cost": 7, "status": 500}),
            json!({"kind": "later", "text": HOSTILE}),
            json!({"kind": "result", "branch": HOSTILE, "commit": HOSTILE, "files": 1, "diff": format!("diff --git a/{HOSTILE} b/{HOSTILE}\n+{HOSTILE}\n")}),
            json!({"kind": "ended", "outcome": "failed", "reason": HOSTILE, "exit": {"how": "killed", "why": HOSTILE}}),
        ]
    }

    #[test]
    fn no_field_of_any_event_is_anything_but_text() {
        let entries = entries(&hostile());
        for one in &entries {
            let page = page(std::slice::from_ref(one));
            assert!(!page.contains("<img") && !page.contains("<script") && !page.contains('\u{202e}'), "{page}");
        }
        let whole = page(&entries);
        assert!(whole.matches("&lt;script&gt;").count() > 20);
        assert!(!whole.contains("<script") && !whole.contains("<img") && !whole.contains("<!--"), "{whole}");
    }

    #[test]
    fn an_output_that_cannot_be_decoded_is_said_to_be_there() {
        let broken = json!({"kind": "output", "id": "t", "stream": "stdout", "data_b64": "aGk[scrubbed:key]"});
        assert!(page(&entries(&[broken])).contains("[an output that cannot be decoded]"));
    }

    fn story() -> Vec<Value> {
        let out = |bytes: &[u8]| json!({"kind": "output", "id": "t1", "stream": "stdout", "data_b64": STANDARD.encode(bytes)});
        vec![
            json!({"kind": "attempt", "attempt": 1, "box": "b", "uid": 7}),
            json!({"kind": "verdict", "allowed": true, "rule": "model.call", "method": "POST", "target": "/m", "why": "", "grant": "g", "model": "m"}),
            json!({"kind": "chunk", "turn": 1, "text": "one "}),
            json!({"kind": "chunk", "turn": 1, "text": "two"}),
            json!({"kind": "settled", "grant": "g", "model": "m", "usage": {"input": 5}, "cost": 7, "status": 200}),
            json!({"kind": "tool-call", "turn": 1, "id": "a", "name": "shell", "title": "make", "input": {"command": "make"}}),
            json!({"kind": "tool-call", "turn": 1, "id": "b", "name": "edit", "title": "edit x.c", "input": {"path": "x.c"}}),
            json!({"kind": "command", "id": "t1", "argv": ["/bin/sh", "-c", "make"], "cwd": "/workspace", "tool_call": "a"}),
            out("h\u{e9}".as_bytes().split_at(2).0),
            out(&[0xa9, b'\x1b', b'[']),
            json!({"kind": "file-edit", "path": "/workspace/x.c", "created": false, "diff": "--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-a\n+b\n"}),
            out(b"31mred"),
            json!({"kind": "command-end", "id": "t1", "exit": {"how": "code", "code": 0}, "ms": 5}),
            json!({"kind": "tool-result", "id": "b", "ok": true, "text": "Replaced once."}),
            json!({"kind": "tool-result", "id": "a", "ok": true, "text": "h\u{e9}red"}),
            json!({"kind": "chunk", "turn": 2, "text": "three"}),
            json!({"kind": "ended", "outcome": "done"}),
        ]
    }

    #[test]
    fn pieces_of_a_turn_of_a_command_and_of_a_call_stand_together() {
        let page = page(&entries(&story()));
        for whole in ["one two", "h\u{e9}red", "5</span> in"] {
            assert!(page.contains(whole), "{whole}: {page}");
        }
        assert_eq!(page.matches("<article").count(), 7, "{page}");
        assert!(!page.contains("running"), "{page}");
        let (call, edit) = (page.find("id=\"e7\"").unwrap(), page.find("ln add").unwrap());
        assert!(call < edit, "the edit stands in the call that made it");
    }

    #[test]
    fn a_new_box_leaves_nothing_running_and_takes_no_old_id_for_its_own() {
        let mut events = story();
        events.truncate(10);
        events.push(json!({"kind": "attempt", "attempt": 2, "box": "c", "uid": 8}));
        events.push(json!({"kind": "output", "id": "t1", "stream": "stdout", "data_b64": "bmV3"}));
        let page = page(&entries(&events));
        assert_eq!(page.matches("no answer: its box ended").count(), 3, "{page}");
        assert!(page.contains("id=\"e12-out\">new"), "{page}");
    }

    #[test]
    fn an_output_that_never_ends_fills_no_page() {
        let mut events = vec![json!({"kind": "command", "id": "t", "argv": ["yes"], "cwd": "/workspace"})];
        let piece =
            json!({"kind": "output", "id": "t", "stream": "stdout", "data_b64": STANDARD.encode(vec![b'y'; 50_000])});
        events.extend(vec![piece; 5]);
        let page = page(&entries(&events));
        assert!(page.len() < MOST_OUTPUT + 4_000, "{}", page.len());
        assert_eq!(page.matches("longer than what is shown").count(), 1);
    }

    #[test]
    fn a_box_that_opens_calls_without_end_is_not_remembered_without_end() {
        let mut transcript = Transcript::default();
        let call = |n: u64| json!({"kind": "tool-call", "turn": 1, "id": n.to_string(), "name": "x", "title": "", "input": {}});
        for entry in entries(&(0..2000).map(call).collect::<Vec<_>>()) {
            transcript.take(&entry);
        }
        assert!(transcript.tools.len() <= MOST_OPEN);
    }

    proptest! {
        /// What a browser holds after a page, a stream, a lost connection and another stream is what a reload shows.
        #[test]
        fn a_page_that_was_followed_is_the_page_that_is_loaded(cuts in prop::collection::vec(0usize..=22, 0..4), hostile_too in any::<bool>()) {
            let entries = entries(&if hostile_too { hostile() } else { story() });
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(entries.len())).collect();
            cuts.push(entries.len());
            cuts.sort_unstable();
            let (mut sheet, mut from) = (Sheet::default(), 0);
            for cut in cuts {
                // A connection begins by reading again what is there, and sends what follows.
                let mut transcript = Transcript::default();
                for entry in &entries[..from] {
                    transcript.take(entry);
                }
                for entry in &entries[from..cut] {
                    sheet.apply(transcript.take(entry));
                }
                from = cut;
            }
            prop_assert_eq!(sheet.write().into_string(), page(&entries));
        }
    }
}
