//! The machine itself.

use super::context::{self, Gauge, Message};
use super::{Answer, Block, Call, Effect, End, Ending, Failure, FailureKind, Started, Step, Stop, ToolResult};
use crate::tools::cut;
use model::Usage;
use std::collections::BTreeSet;

/// Most calls of one answer that are run; the rest are answered with an error. (The runner runs as many commands
/// at a time.)
const MAX_CALLS: usize = 16;
/// Most tries of one call of the model.
const MAX_TRIES: u32 = 6;
/// Longest wait between two tries, in milliseconds, whatever `Retry-After` says.
const MAX_WAIT_MS: u64 = 60_000;
/// Longest wait of our own choice, in milliseconds.
const MAX_BACKOFF_MS: u64 = 32_000;
/// How often an answer that reached the output limit may be continued in a row.
const MAX_CONTINUED: u32 = 3;

const NUDGE: &str = "You answered nothing. If the task is done, say so in one or two sentences. If it is not, go on.";
const GO_ON: &str = "Your answer was cut at the limit of its length. Go on from where it ended, in smaller pieces.";
const SUMMARISE: &str = "The context is nearly full. Do not use tools now. Write a summary that will take the place of \
everything above except the task: what was done and found, which files were changed and how, what was tried and \
failed, what remains, and any exact names, paths, commands or values that are still needed.";
const UNKNOWN_OUTCOME: &str = "Outcome unknown: the platform was interrupted while this ran. It may have happened, in \
whole or in part, or not at all. Check before repeating it.";

/// Where the loop stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has happened.
    New,
    /// The model is being called.
    Calling(Purpose),
    /// A wait before the same call again.
    Waiting(Purpose),
    /// These results are about to be left out of the context; then comes the call.
    Compacting {
        /// Ids of their calls.
        left_out: Vec<String>,
        /// What the call is for.
        then: Purpose,
    },
    /// Tools are at work: each call of the last answer, and its result once it is here.
    Tools(Vec<(Call, Option<ToolResult>)>),
    /// It is over.
    Over(End),
}

/// What a call of the model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To work on the task.
    Work,
    /// To have the context summed up.
    Summary,
}

/// The loop's state: a fold over its steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    started: Option<Started>,
    messages: Vec<Message>,
    phase: Phase,
    turns: u32,
    used: Usage,
    gauge: Gauge,
    /// Failures of the present call.
    failures: u32,
    /// Empty answers in a row.
    nudges: u32,
    /// Answers in a row that were cut at the output limit.
    continued: u32,
    /// Every id of a call so far.
    ids: BTreeSet<String>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            started: None,
            messages: Vec::new(),
            phase: Phase::New,
            turns: 0,
            used: Usage::default(),
            gauge: Gauge::default(),
            failures: 0,
            nudges: 0,
            continued: 0,
            ids: BTreeSet::new(),
        }
    }
}

impl Machine {
    /// Where the loop stands.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }
    /// What the model will see, or saw last.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }
    /// Answers of the model so far.
    #[must_use]
    pub fn turns(&self) -> u32 {
        self.turns
    }
    /// Tokens so far, as the model's provider counted them.
    #[must_use]
    pub fn used(&self) -> Usage {
        self.used
    }
    /// What the loop started from.
    #[must_use]
    pub fn started(&self) -> Option<&Started> {
        self.started.as_ref()
    }

    /// The body of the request that [`Effect::CallModel`] asks for, to the byte; none when the machine is not calling.
    #[must_use]
    pub fn request(&self) -> Option<Vec<u8>> {
        let (started, Phase::Calling(purpose)) = (self.started.as_ref()?, &self.phase) else { return None };
        Some(match purpose {
            Purpose::Work => crate::wire::request(started, &self.messages, true),
            Purpose::Summary => {
                let mut messages = self.messages.clone();
                messages.push(Message::User(SUMMARISE.to_owned()));
                crate::wire::request(started, &messages, false)
            }
        })
    }

    /// Takes one step, and says what is to be done because of it.
    ///
    /// A step that does not belong where the loop stands (a result nobody waits for, anything after the end)
    /// changes nothing and asks for nothing.
    pub fn step(&mut self, step: &Step) -> Vec<Effect> {
        let phase = std::mem::replace(&mut self.phase, Phase::New);
        match (phase, step) {
            (Phase::New, Step::Started(started)) => self.start(started),
            (Phase::Over(end), step) => {
                let again = *step == Step::Resumed;
                self.phase = Phase::Over(end.clone());
                if again { vec![Effect::Finish(end)] } else { Vec::new() }
            }
            (phase, Step::Cancelled) if phase != Phase::New => {
                self.finish(Ending::Cancelled, "The run was cancelled.".into())
            }
            (phase, Step::TimeUp) if phase != Phase::New => {
                self.finish(Ending::Time, "The run's time is over. Raise `limits.seconds` in its profile.".into())
            }
            (Phase::Calling(Purpose::Work), Step::ModelAnswered(answer)) => self.answered(answer),
            (Phase::Calling(Purpose::Summary), Step::ModelAnswered(answer)) => self.summarised(answer),
            (Phase::Calling(purpose), Step::ModelFailed(failure)) => self.failed(purpose, failure),
            (Phase::Waiting(purpose), Step::Waited)
            | (Phase::Calling(purpose) | Phase::Waiting(purpose), Step::Resumed) => self.call(purpose),
            (Phase::Compacting { then, .. }, Step::Compacted { left_out }) => {
                context::leave_out(&mut self.messages, left_out);
                if self.failures > 0 { self.call(then) } else { self.next_call() }
            }
            (Phase::Compacting { left_out, then }, Step::Resumed) => self.compact(left_out, then),
            (Phase::Tools(calls), Step::ToolFinished(result)) => self.tool_finished(calls, result),
            (Phase::Tools(calls), Step::Resumed) => self.tools_lost(calls),
            (phase, _) => {
                self.phase = phase;
                Vec::new()
            }
        }
    }

    fn start(&mut self, started: &Started) -> Vec<Effect> {
        self.messages.push(Message::User(started.task.clone()));
        self.started = Some(started.clone());
        self.next_call()
    }

    fn limits(&self) -> (u64, u64, u64, u64) {
        self.started
            .as_ref()
            .map_or((0, 0, 0, 0), |s| (s.max_turns, s.max_tokens, context::full_at(s), s.model.context_tokens))
    }

    fn bytes(&self) -> u64 {
        self.started.as_ref().map_or(0, |s| context::bytes(s, &self.messages))
    }

    /// The next call of the model, if the limits allow one and once the context is short enough.
    fn next_call(&mut self) -> Vec<Effect> {
        let (max_turns, max_tokens, full_at, _) = self.limits();
        if u64::from(self.turns) >= max_turns {
            let why = format!("The limit of {max_turns} turns is reached. Raise `limits.turns` in the run's profile.");
            return self.finish(Ending::Turns, why);
        }
        if self.used.total() >= max_tokens {
            let why =
                format!("The limit of {max_tokens} tokens is reached. Raise `limits.tokens` in the run's profile.");
            return self.finish(Ending::Tokens, why);
        }
        let bytes = self.bytes();
        let tokens = self.gauge.tokens(bytes);
        if tokens <= full_at {
            return self.call(Purpose::Work);
        }
        // Down to two thirds of the mark, so that it is not done again at the next turn.
        let goal = u64::try_from(u128::from(bytes) * u128::from(full_at / 3 * 2) / u128::from(tokens.max(1)));
        let left_out = context::oldest_results(&self.messages, bytes, goal.unwrap_or(0), false);
        if !left_out.is_empty() {
            self.compact(left_out, Purpose::Work)
        } else if self.messages.len() > 1 {
            self.call(Purpose::Summary)
        } else {
            self.call(Purpose::Work)
        }
    }

    fn call(&mut self, purpose: Purpose) -> Vec<Effect> {
        self.phase = Phase::Calling(purpose);
        vec![Effect::CallModel { turn: self.turns + 1 }]
    }

    fn compact(&mut self, left_out: Vec<String>, then: Purpose) -> Vec<Effect> {
        self.phase = Phase::Compacting { left_out: left_out.clone(), then };
        vec![Effect::Compact { left_out }]
    }

    fn finish(&mut self, how: Ending, reason: String) -> Vec<Effect> {
        let end = End { how, reason: cut::characters(&reason, 2000) };
        self.phase = Phase::Over(end.clone());
        vec![Effect::Finish(end)]
    }

    /// What every answer counts for.
    fn count(&mut self, usage: Usage, sent_bytes: u64) {
        self.turns += 1;
        self.used = self.used.plus(usage);
        self.failures = 0;
        let read = usage.input.saturating_add(usage.cache_read).saturating_add(usage.cache_write);
        self.gauge.read(read, sent_bytes);
    }

    fn answered(&mut self, answer: &Answer) -> Vec<Effect> {
        self.count(answer.usage, self.bytes());
        let blocks = self.named(&answer.content);
        let said: String =
            blocks.iter().filter_map(|b| if let Block::Text { text } = b { Some(&**text) } else { None }).collect();
        let calls: Vec<Call> =
            blocks.iter().filter_map(|b| if let Block::Call(call) = b { Some(call.clone()) } else { None }).collect();
        let empty = said.is_empty() && calls.is_empty();
        if !empty {
            self.messages.push(Message::Model(blocks));
            self.nudges = 0;
        }
        if !calls.is_empty() {
            self.continued = 0;
            return self.run(calls);
        }
        match answer.stop {
            Stop::Refused => {
                let why = if said.is_empty() { "The model refused to go on.".into() } else { said };
                self.finish(Ending::Refused, why)
            }
            Stop::OutputLimit => self.go_on(),
            Stop::Ended if empty => self.nudge(),
            Stop::Ended => match said.trim_start().strip_prefix(crate::prompt::NOT_DONE) {
                Some(why) => self.finish(Ending::NotDone, why.trim().to_owned()),
                None => self.finish(Ending::Done, String::new()),
            },
        }
    }

    fn nudge(&mut self) -> Vec<Effect> {
        if self.nudges > 0 {
            return self.finish(Ending::NotDone, "The model answered nothing, twice in a row.".into());
        }
        self.nudges += 1;
        self.messages.push(Message::User(NUDGE.to_owned()));
        self.next_call()
    }

    fn go_on(&mut self) -> Vec<Effect> {
        if self.continued >= MAX_CONTINUED {
            let why = "The model's answers reach the limit of their length again and again, and do no work. Raise its \
                       `max_output_tokens`, or give a smaller task.";
            return self.finish(Ending::Tokens, why.into());
        }
        self.continued += 1;
        self.messages.push(Message::User(GO_ON.to_owned()));
        self.next_call()
    }

    /// The blocks with every call under an id of its own, and without texts that say nothing (which providers
    /// refuse to read back).
    fn named(&mut self, content: &[Block]) -> Vec<Block> {
        let mut blocks = Vec::with_capacity(content.len());
        for block in content {
            match block {
                Block::Text { text } if text.trim().is_empty() => {}
                Block::Call(call) => {
                    let mut call = call.clone();
                    let mut n = blocks.len();
                    while call.id.is_empty() || !self.ids.insert(call.id.clone()) {
                        call.id = format!("call-{}-{n}", self.turns);
                        n += 1;
                    }
                    blocks.push(Block::Call(call));
                }
                other => blocks.push(other.clone()),
            }
        }
        blocks
    }

    fn run(&mut self, calls: Vec<Call>) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut slots = Vec::new();
        for (n, call) in calls.into_iter().enumerate() {
            if n < MAX_CALLS {
                effects.push(Effect::RunTool(call.clone()));
                slots.push((call, None));
            } else {
                let text = format!("Not run: one answer may call at most {MAX_CALLS} tools.");
                let result = ToolResult { id: call.id.clone(), text, ok: false, cut: false };
                effects.push(Effect::Answered(result.clone()));
                slots.push((call, Some(result)));
            }
        }
        self.phase = Phase::Tools(slots);
        effects
    }

    fn tool_finished(&mut self, mut calls: Vec<(Call, Option<ToolResult>)>, result: &ToolResult) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some((_, slot)) = calls.iter_mut().find(|(call, slot)| call.id == result.id && slot.is_none()) {
            *slot = Some(result.clone());
            effects.push(Effect::Answered(result.clone()));
        }
        effects.extend(self.when_all_here(calls));
        effects
    }

    fn tools_lost(&mut self, mut calls: Vec<(Call, Option<ToolResult>)>) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (call, slot) in calls.iter_mut().filter(|(_, slot)| slot.is_none()) {
            let result = ToolResult { id: call.id.clone(), text: UNKNOWN_OUTCOME.to_owned(), ok: false, cut: false };
            effects.push(Effect::Answered(result.clone()));
            *slot = Some(result);
        }
        effects.extend(self.when_all_here(calls));
        effects
    }

    fn when_all_here(&mut self, calls: Vec<(Call, Option<ToolResult>)>) -> Vec<Effect> {
        if calls.iter().any(|(_, slot)| slot.is_none()) {
            self.phase = Phase::Tools(calls);
            return Vec::new();
        }
        let mut results: Vec<ToolResult> = calls.into_iter().filter_map(|(_, slot)| slot).collect();
        let (.., window) = self.limits();
        context::fit(&mut results, window);
        self.messages.push(Message::Results(results));
        self.next_call()
    }

    fn summarised(&mut self, answer: &Answer) -> Vec<Effect> {
        self.count(answer.usage, self.bytes() + SUMMARISE.len() as u64);
        let said: Vec<&str> = answer
            .content
            .iter()
            .filter_map(|b| if let Block::Text { text } = b { Some(&**text) } else { None })
            .collect();
        let said = said.concat();
        let summary = if said.trim().is_empty() { "(none was written)" } else { said.trim() };
        let task = self.started.as_ref().map_or("", |s| &s.task);
        let text = format!(
            "{task}\n\n[The work so far is left out to save room. Your own summary of it, the files being as it left \
             them:]\n{summary}\n\n[Go on with the task.]"
        );
        self.messages = vec![Message::User(text)];
        self.next_call()
    }

    fn failed(&mut self, purpose: Purpose, failure: &Failure) -> Vec<Effect> {
        use FailureKind::{Busy, Cut, Endless, Garbage, Policy, Refused, TooLong, Unreachable};
        match failure.kind {
            Busy | Unreachable | Cut | Garbage => self.again(purpose, failure),
            TooLong => self.shorten(purpose, failure),
            Policy => self.finish(Ending::Refused, failure.text.clone()),
            Refused => {
                self.finish(Ending::Failed, format!("The model's provider refused the request: {}", failure.text))
            }
            Endless => self.finish(Ending::Failed, failure.text.clone()),
        }
    }

    fn again(&mut self, purpose: Purpose, failure: &Failure) -> Vec<Effect> {
        self.failures += 1;
        if self.failures >= MAX_TRIES {
            let why = format!("The model did not answer in {MAX_TRIES} tries. The last: {}", failure.text);
            return self.finish(Ending::Failed, why);
        }
        let backoff = (1000u64 << (self.failures - 1)).min(MAX_BACKOFF_MS);
        let own = backoff / 2 + backoff / 2 * u64::from(failure.jitter.min(1000)) / 1000;
        let ms = own.max(failure.retry_after_ms.unwrap_or(0).min(MAX_WAIT_MS));
        self.phase = Phase::Waiting(purpose);
        vec![Effect::Wait { ms }]
    }

    /// The provider says that the context is too long, whatever we estimated: leave every result out.
    fn shorten(&mut self, purpose: Purpose, failure: &Failure) -> Vec<Effect> {
        let left_out = context::oldest_results(&self.messages, u64::MAX, 0, true);
        self.failures += 1;
        if left_out.is_empty() || self.failures >= MAX_TRIES {
            let why = format!("The task no longer fits the model's context: {}", failure.text);
            return self.finish(Ending::Failed, why);
        }
        self.compact(left_out, purpose)
    }
}
