//! The machine under anything that can happen, in any order.

use super::tests::started_with;
use super::*;
use model::{Dialect, Usage};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const MAX_TURNS: u64 = 12;
const MAX_DEATHS: u32 = 4;

/// What is outstanding: as the driver would hold it.
#[derive(Debug)]
enum Pending {
    Model,
    Tool(String),
    Wait,
    Compact(Vec<String>),
}

/// A world that answers effects from a list of choices.
struct World {
    machine: Machine,
    pending: Vec<Pending>,
    record: Vec<Value>,
    /// Body that each turn sent last.
    sent: BTreeMap<u32, Vec<u8>>,
    ended: Option<End>,
    answered: BTreeSet<String>,
    deaths: u32,
}

impl World {
    fn new(dialect: Dialect, context_tokens: u64) -> Self {
        let mut world = Self {
            machine: Machine::default(),
            pending: Vec::new(),
            record: Vec::new(),
            sent: BTreeMap::new(),
            ended: None,
            answered: BTreeSet::new(),
            deaths: 0,
        };
        world.step(Step::Started(started_with(dialect, MAX_TURNS, context_tokens)));
        world
    }

    fn step(&mut self, step: Step) {
        self.record.push(serde_json::to_value(&step).unwrap());
        for effect in self.machine.step(&step) {
            assert!(self.ended.is_none(), "something follows the end: {effect:?}");
            match effect {
                Effect::CallModel { turn } => {
                    well_formed(self.machine.messages());
                    self.sent.insert(turn, self.machine.request().unwrap());
                    self.pending.push(Pending::Model);
                }
                Effect::RunTool(call) => self.pending.push(Pending::Tool(call.id)),
                Effect::Answered(result) => assert!(self.answered.insert(result.id), "a second result"),
                Effect::Wait { ms } => {
                    assert!(ms <= 60_000);
                    self.pending.push(Pending::Wait);
                }
                Effect::Compact { left_out } => self.pending.push(Pending::Compact(left_out)),
                Effect::Finish(end) => self.ended = Some(end),
            }
        }
    }

    /// One thing happens, chosen by `choice`.
    fn happen(&mut self, choice: u32) {
        let what = choice % 64;
        if what == 0 && self.deaths < MAX_DEATHS {
            self.deaths += 1;
            self.pending.clear();
            // What lives on is what the record rebuilds.
            self.machine = resume(&self.record).unwrap().0;
            return self.step(Step::Resumed);
        }
        if what == 1 && choice.is_multiple_of(512) {
            return self.step(if choice.is_multiple_of(1024) { Step::Cancelled } else { Step::TimeUp });
        }
        let at = choice as usize / 64 % self.pending.len();
        match self.pending.swap_remove(at) {
            Pending::Model => self.step(model_step(choice / 64)),
            Pending::Tool(id) => {
                let text = "x".repeat((choice as usize / 64 % 50) * 80);
                self.step(Step::ToolFinished(ToolResult { id, text, ok: choice.is_multiple_of(2), cut: false }));
            }
            Pending::Wait => self.step(Step::Waited),
            Pending::Compact(left_out) => self.step(Step::Compacted { left_out }),
        }
    }
}

fn model_step(choice: u32) -> Step {
    use FailureKind::{Busy, Cut, Garbage, TooLong, Unreachable};
    let kinds = [Busy, Cut, Garbage, TooLong, Unreachable];
    let n = choice / 8;
    let content = match choice % 8 {
        0 => {
            let kind = kinds[n as usize % kinds.len()];
            let failure =
                Failure { kind, status: 500, text: "no".into(), retry_after_ms: Some(n.into()), jitter: n as u16 };
            return Step::ModelFailed(failure);
        }
        1 => Vec::new(),
        2 => vec![Block::Text { text: "word ".repeat(n as usize % 400) }],
        calls => {
            let mut content = vec![Block::Text { text: "so: ".repeat(n as usize % 50) }];
            content.extend((0..calls).map(|i| {
                let input = if i == 5 { "{broken".into() } else { "{}".to_owned() };
                // Ids repeat, within an answer and across answers.
                Block::Call(Call { id: format!("id{}", (n + i) % 5), name: "shell".into(), input })
            }));
            content
        }
    };
    let stop = if choice.is_multiple_of(5) { Stop::OutputLimit } else { Stop::Ended };
    let usage = Usage { input: u64::from(n % 3000), output: 7, ..Usage::default() };
    Step::ModelAnswered(Answer { content, stop, usage })
}

/// Every call has exactly its results right after it, in order; no result stands alone; a user message is last.
fn well_formed(messages: &[Message]) {
    assert!(matches!(messages.first(), Some(Message::User(_))));
    assert!(!matches!(messages.last(), Some(Message::Model(_))));
    let mut owed: Vec<&str> = Vec::new();
    let mut seen = BTreeSet::new();
    for message in messages {
        match message {
            Message::Results(results) => {
                assert_eq!(results.iter().map(|r| &*r.id).collect::<Vec<_>>(), owed);
                owed.clear();
            }
            other => assert!(owed.is_empty(), "calls without results before {other:?}"),
        }
        if let Message::Model(blocks) = message {
            assert!(!blocks.is_empty());
            owed =
                blocks.iter().filter_map(|b| if let Block::Call(call) = b { Some(&*call.id) } else { None }).collect();
            assert!(owed.iter().all(|id| !id.is_empty() && seen.insert(*id)), "an id stands twice");
        }
    }
    assert!(owed.is_empty(), "calls without results at the end");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_record_rebuilds_the_state_and_the_limits_end_the_run(
        choices in prop::collection::vec(any::<u32>(), 2000),
        dialect in prop::sample::select(vec![Dialect::Anthropic, Dialect::Openai, Dialect::OpenaiResponses, Dialect::Gemini]),
        context_tokens in prop::sample::select(vec![1500u64, 4000, 200_000]),
    ) {
        let mut world = World::new(dialect, context_tokens);
        for choice in choices {
            if world.ended.is_some() {
                break;
            }
            world.happen(choice);
        }
        prop_assert!(world.ended.is_some(), "2,000 events did not end a run of {} turns", MAX_TURNS);
        prop_assert!(u64::from(world.machine.turns()) <= MAX_TURNS);

        // Through text, as the record is kept.
        let kept: Vec<Value> = world.record.iter().map(|v| serde_json::from_str(&v.to_string()).unwrap()).collect();
        prop_assert_eq!(&resume(&kept).unwrap().0, &world.machine);
        for (turn, body) in &world.sent {
            prop_assert_eq!(&context_at(&kept, *turn).unwrap(), body, "turn {}", turn);
        }
    }

    #[test]
    fn steps_in_any_order_at_all_never_break_the_context(
        choices in prop::collection::vec(any::<u32>(), 0..200),
    ) {
        let mut machine = Machine::default();
        let mut record = Vec::new();
        for choice in choices {
            let step = match choice % 9 {
                0 => Step::Started(started_with(Dialect::Anthropic, MAX_TURNS, 4000)),
                1 => Step::Waited,
                2 => Step::Resumed,
                3 => Step::Compacted { left_out: (0..5).map(|n| format!("id{n}")).collect() },
                4 | 5 => {
                    let id = format!("id{}", choice / 9 % 5);
                    Step::ToolFinished(ToolResult { id, text: "x".repeat(1000), ok: true, cut: false })
                }
                6 if choice.is_multiple_of(97) => Step::Cancelled,
                _ => model_step(choice / 9),
            };
            record.push(serde_json::to_value(&step).unwrap());
            if machine.step(&step).iter().any(|e| matches!(e, Effect::CallModel { .. })) {
                well_formed(machine.messages());
            }
        }
        prop_assert_eq!(resume(&record).unwrap().0, machine);
    }
}
