//! A transcript as a page: each entry becomes pieces of HTML, each with the slot that it goes to.
//!
//! The same pieces make the page ([`Sheet`]) and the live stream ([`super::live`]). A slot's id is made of an
//! entry's number only, never of a name that a box chose.

use super::blocks;
use super::terminal::Terminal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, PreEscaped};
use model::event::{Exit, Stream};
use model::{Event, Moment};
use serde_json::Value;
use std::collections::HashMap;
use store::runs::RawEntry;

/// The slot that the transcript's blocks are appended to.
pub const LOG: &str = "log";

/// Output of one command that is shown, in bytes of text; the record holds all of it.
const MOST_OUTPUT: usize = 64 * 1024;

/// Tool calls, commands and model calls that are remembered while they are open, of each. A box chooses how many
/// it opens; what is forgotten is shown as a block of its own.
const MOST_OPEN: usize = 512;

/// What a piece does to its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Goes behind what is there.
    Append,
    /// Takes the place of what is there.
    Set,
}

/// A piece of HTML and where it goes.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Id of an element.
    pub to: String,
    /// See [`How`].
    pub how: How,
    /// Escaped.
    pub html: Markup,
}

impl Piece {
    fn append(to: impl Into<String>, html: Markup) -> Self {
        Self { to: to.into(), how: How::Append, html }
    }
    /// A piece that takes a slot's place.
    pub fn set(to: impl Into<String>, html: Markup) -> Self {
        Self { to: to.into(), how: How::Set, html }
    }
}

/// The id of a part of an entry's block.
#[must_use]
pub fn part(n: u64, name: &str) -> String {
    format!("e{n}-{name}")
}

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
            Event::Note { text } => new(blocks::note(n, at, &text)),
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
                self.output(n, at, &id, stream, &STANDARD.decode(data_b64).unwrap_or_default())
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

/// Stands in a block where the content of a slot goes when a whole page is written. No text of anyone's can be
/// one: all texts are escaped.
#[must_use]
pub fn slot(id: &str) -> Markup {
    PreEscaped(format!("<!--@{id}-->"))
}

/// A page's worth of pieces, put together.
#[derive(Default)]
pub struct Sheet(HashMap<String, String>);

impl Sheet {
    /// Applies pieces in their order.
    pub fn apply(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            let slot = self.0.entry(piece.to).or_default();
            match piece.how {
                How::Append => slot.push_str(&piece.html.0),
                How::Set => *slot = piece.html.0,
            }
        }
    }

    /// The whole of the transcript.
    #[must_use]
    pub fn write(mut self) -> Markup {
        let log = self.0.remove(LOG).unwrap_or_default();
        let mut out = String::with_capacity(log.len() * 2);
        self.fill(&log, &mut out);
        PreEscaped(out)
    }

    fn fill(&mut self, html: &str, out: &mut String) {
        let mut rest = html;
        while let Some((before, after)) = rest.split_once("<!--@") {
            out.push_str(before);
            let Some((id, after)) = after.split_once("-->") else { break };
            // Each slot is taken out as it is filled, so that this ends.
            if let Some(inner) = self.0.remove(id) {
                self.fill(&inner, out);
            }
            rest = after;
        }
        out.push_str(rest);
    }
}
