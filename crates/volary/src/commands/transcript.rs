//! A transcript as people read it while it grows: the pieces of one text join, whoever else speaks meanwhile.
//!
//! The end of a text may come late (the scrubber holds back what could become a secret), and the server's own events
//! are not in the box's order. So what the server adds waits until the text or the line is at its end.
//! Read [`Transcript::say`].

use super::show;
use model::event::{Entry, Event};

/// What was said so far, as far as the next words depend on it.
#[derive(Debug, Default)]
pub struct Transcript {
    open: Option<Text>,
    /// Whether the line that was begun is not at its end.
    mid_line: bool,
    /// Lines of the server, to be told when the open text is at its end.
    waiting: String,
}

/// A text that comes in pieces.
#[derive(Debug, PartialEq, Eq)]
enum Text {
    /// The model's, of one turn.
    Words(u32),
    /// One command's output, or an exec's.
    Output(String),
}

impl Transcript {
    /// What to print for the next entry; may end within a line.
    pub fn say(&mut self, entry: &Entry) -> String {
        match &entry.event {
            Event::Chunk { turn, text } => {
                let before = self.open(Text::Words(*turn));
                before + &self.pieces(&show::plain(text), "")
            }
            Event::Output { id, data_b64, .. } => {
                let mut out = self.open(Text::Output(id.clone()));
                out += &self.pieces(&show::output(data_b64), "    ");
                // A command may run for long, and what the gateway refuses it is news.
                if !self.mid_line {
                    out += &std::mem::take(&mut self.waiting);
                }
                out
            }
            Event::Verdict(_)
            | Event::Passed { .. }
            | Event::Reads { .. }
            | Event::Push { .. }
            | Event::PullRequestWanted { .. }
            | Event::PullRequest { .. }
            | Event::Proposed { .. }
            | Event::Settled { .. }
                if self.mid_line || matches!(self.open, Some(Text::Words(_))) =>
            {
                self.waiting += &line(entry);
                String::new()
            }
            // It belongs to no text: the output of a command goes on after it.
            Event::Verdict(_)
            | Event::Passed { .. }
            | Event::Reads { .. }
            | Event::Push { .. }
            | Event::PullRequestWanted { .. }
            | Event::PullRequest { .. }
            | Event::Proposed { .. }
            | Event::Settled { .. } => line(entry),
            _ => self.end() + &line(entry),
        }
    }

    /// Ends the open text: gives what waited for that.
    pub fn end(&mut self) -> String {
        self.open = None;
        let end = if std::mem::take(&mut self.mid_line) { "\n" } else { "" };
        format!("{end}{}", std::mem::take(&mut self.waiting))
    }

    fn open(&mut self, text: Text) -> String {
        if self.open.as_ref() == Some(&text) {
            return String::new();
        }
        let before = self.end();
        self.open = Some(text);
        before
    }

    /// A piece, with `margin` before each line that begins in it.
    fn pieces(&mut self, piece: &str, margin: &str) -> String {
        let mut out = String::new();
        for part in piece.split_inclusive('\n') {
            if !self.mid_line {
                out.push_str(margin);
            }
            out.push_str(part);
            self.mid_line = !part.ends_with('\n');
        }
        out
    }
}

fn line(entry: &Entry) -> String {
    show::entry(entry).map_or_else(String::new, |text| text + "\n")
}

#[cfg(test)]
mod tests {
    use super::Transcript;
    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde_json::{Value, json};

    fn told(events: &[Value]) -> String {
        let mut transcript = Transcript::default();
        let mut said = String::new();
        for (n, event) in events.iter().enumerate() {
            let server = ["verdict", "settled", "passed", "proposed"].contains(&event["kind"].as_str().unwrap());
            let source = if server { "server" } else { "operator" };
            let entry = json!({"run": "r", "n": n + 1, "at": 0, "source": source, "source_seq": n + 1, "event": event});
            said += &transcript.say(&serde_json::from_value(entry).unwrap());
        }
        said + &transcript.end()
    }

    fn chunk(turn: u32, text: &str) -> Value {
        json!({"kind": "chunk", "turn": turn, "text": text})
    }
    fn output(id: &str, stream: &str, text: &str) -> Value {
        json!({"kind": "output", "id": id, "stream": stream, "data_b64": STANDARD.encode(text)})
    }
    fn settled() -> Value {
        json!({"kind": "settled", "grant": "g", "model": "m", "cost": 0, "status": 200,
            "usage": {"input": 5, "output": 2, "cache_read": 0, "cache_write": 0}})
    }
    fn refused() -> Value {
        json!({"kind": "verdict", "allowed": false, "rule": "door.closed", "method": "GET", "target": "/", "why": "no"})
    }
    fn line(event: &Value) -> String {
        told(std::slice::from_ref(event))
    }

    #[test]
    fn the_pieces_of_a_turn_are_one_text_even_when_its_end_comes_after_the_servers_own_events() {
        let call =
            json!({"kind": "tool-call", "turn": 1, "id": "a", "name": "shell", "title": "sh test.sh", "input": {}});
        let said = told(&[
            chunk(1, "I will look "),
            chunk(1, "at the tests"),
            settled(),
            refused(),
            chunk(1, " first."),
            json!({"kind": "loop", "step": {}}),
            call,
            chunk(2, "Done"),
            settled(),
            chunk(2, "."),
            json!({"kind": "ended", "outcome": "done"}),
        ]);
        let (paid, no) = (line(&settled()), line(&refused()));
        assert_eq!(said, format!("I will look at the tests first.\n{paid}{no}▶ sh test.sh\nDone.\n{paid}✓ done\n"));
    }

    #[test]
    fn a_text_that_nothing_ends_is_told_whole_and_then_what_waited_for_it() {
        assert_eq!(told(&[chunk(1, "I am"), settled()]), format!("I am\n{}", line(&settled())));
        assert_eq!(told(&[chunk(1, "one"), chunk(2, "two\n")]), "one\ntwo\n");
    }

    #[test]
    fn the_pieces_of_an_output_join_to_lines_and_a_refusal_waits_for_the_end_of_its_line_only() {
        let said = told(&[
            output("c", "stdout", "get"),
            refused(),
            output("c", "stderr", "ting\n\nnext\n"),
            refused(),
            output("c", "stdout", "last"),
            output("d", "stdout", "another's"),
            json!({"kind": "command-end", "id": "d", "exit": {"how": "code", "code": 0}, "ms": 1}),
        ]);
        let no = line(&refused());
        assert_eq!(
            said,
            format!("    getting\n    \n    next\n{no}{no}    last\n    another's\n  (exit status 0, 1 ms)\n")
        );
    }

    #[test]
    fn an_output_that_cannot_be_decoded_is_said_to_be_there() {
        let output = json!({"kind": "output", "id": "t1", "stream": "stdout", "data_b64": "aGk[scrubbed:key]"});
        assert_eq!(told(&[output]), "    [an output that cannot be decoded]\n");
    }

    #[test]
    fn a_result_is_followed_by_no_empty_line() {
        let result = |files: u64, diff: &str| told(&[json!({"kind": "result", "files": files, "diff": diff})]);
        assert_eq!(result(0, ""), "◆ 0 files changed\n");
        assert_eq!(result(1, "-a\n+b\n"), "◆ 1 file changed\n-a\n+b\n");
    }

    #[test]
    fn a_reason_that_only_repeats_the_outcome_is_not_said_twice() {
        let ended = |reason: &str| told(&[json!({"kind": "ended", "outcome": "cancelled", "reason": reason})]);
        assert_eq!(ended("cancelled"), "✗ cancelled\n");
        assert_eq!(ended("cancelled before its box was made"), "✗ cancelled before its box was made\n");
        assert_eq!(ended("the host is gone"), "✗ cancelled: the host is gone\n");
    }
}
