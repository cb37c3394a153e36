use super::*;
use api::inbox::ModelRoute;
use model::{Dialect, Usage};
use serde_json::json;

pub(crate) fn started_with(dialect: Dialect, max_turns: u64, context_tokens: u64) -> Started {
    Started {
        task: "Fix the bug.".into(),
        system: "You work.".into(),
        tools: vec![ToolSpec {
            name: "shell".into(),
            description: "Runs.".into(),
            schema: r#"{"type":"object"}"#.into(),
        }],
        model: ModelRoute { name: "m".into(), dialect, id: "model-1".into(), max_output_tokens: 100, context_tokens },
        max_turns,
        max_tokens: 1_000_000,
    }
}

fn started() -> Step {
    Step::Started(started_with(Dialect::Anthropic, 100, 100_000))
}

fn machine() -> Machine {
    let mut machine = Machine::default();
    assert_eq!(machine.step(&started()), [Effect::CallModel { turn: 1 }]);
    machine
}

fn says(text: &str) -> Step {
    answers(vec![Block::Text { text: text.into() }], Stop::Ended)
}

fn answers(content: Vec<Block>, stop: Stop) -> Step {
    Step::ModelAnswered(Answer { content, stop, usage: Usage { input: 10, output: 5, ..Usage::default() } })
}

fn call(id: &str) -> Call {
    Call { id: id.into(), name: "shell".into(), input: r#"{"command":"true"}"#.into() }
}

fn calls(ids: &[&str]) -> Step {
    answers(ids.iter().map(|id| Block::Call(call(id))).collect(), Stop::Ended)
}

fn finished(id: &str, text: &str) -> Step {
    Step::ToolFinished(ToolResult { id: id.into(), text: text.into(), ok: true, cut: false })
}

fn fails(kind: FailureKind) -> Step {
    Step::ModelFailed(Failure { kind, status: 0, text: "words of the gateway".into(), retry_after_ms: None, jitter: 0 })
}

fn end(effects: &[Effect]) -> &End {
    match effects {
        [Effect::Finish(end)] => end,
        other => panic!("not over: {other:?}"),
    }
}

#[test]
fn the_task_is_done_when_the_model_says_so_and_not_when_it_says_not() {
    assert!(end(&machine().step(&says("All tests pass now."))).is_done());
    let not = machine().step(&says("NOT DONE: there is no compiler here."));
    assert_eq!(*end(&not), End { how: Ending::NotDone, reason: "there is no compiler here.".into() });
}

#[test]
fn results_go_back_in_the_order_of_the_calls_whatever_order_they_came_in() {
    let mut machine = machine();
    assert_eq!(machine.step(&calls(&["a", "b"])), [Effect::RunTool(call("a")), Effect::RunTool(call("b"))]);
    assert_eq!(machine.step(&finished("b", "second")).len(), 1);
    assert_eq!(machine.step(&finished("b", "again")), [], "a call has one result");
    assert_eq!(machine.step(&finished("a", "first")).last(), Some(&Effect::CallModel { turn: 2 }));
    let Some(Message::Results(results)) = machine.messages().last() else { panic!() };
    assert_eq!(results.iter().map(|r| &*r.text).collect::<Vec<_>>(), ["first", "second"]);
}

#[test]
fn a_call_without_an_id_or_with_one_that_was_there_gets_its_own() {
    let mut machine = machine();
    let effects = machine.step(&calls(&["", "a", "a"]));
    let ids: Vec<_> = effects.iter().map(|e| if let Effect::RunTool(call) = e { &*call.id } else { "" }).collect();
    assert_eq!(ids, ["call-1-0", "a", "call-1-2"]);
}

#[test]
fn more_calls_than_are_run_are_answered_with_an_error() {
    let ids: Vec<String> = (0..20).map(|n| format!("c{n}")).collect();
    let mut machine = machine();
    let effects = machine.step(&calls(&ids.iter().map(|id| &**id).collect::<Vec<_>>()));
    assert_eq!(effects.iter().filter(|e| matches!(e, Effect::RunTool(_))).count(), 16);
    assert_eq!(effects.iter().filter(|e| matches!(e, Effect::Answered(r) if !r.ok)).count(), 4);
}

#[test]
fn a_busy_model_is_tried_six_times_with_growing_waits_and_no_more() {
    let mut machine = machine();
    for ms in [500, 1000, 2000, 4000, 8000] {
        assert_eq!(machine.step(&fails(FailureKind::Busy)), [Effect::Wait { ms }]);
        assert_eq!(machine.step(&Step::Waited), [Effect::CallModel { turn: 1 }]);
    }
    assert_eq!(end(&machine.step(&fails(FailureKind::Cut))).how, Ending::Failed);
}

#[test]
fn an_answer_makes_the_next_call_start_its_tries_anew() {
    let mut machine = machine();
    for _ in 0..5 {
        machine.step(&fails(FailureKind::Unreachable));
        machine.step(&Step::Waited);
    }
    machine.step(&calls(&["a"]));
    machine.step(&finished("a", ""));
    assert_eq!(machine.step(&fails(FailureKind::Garbage)), [Effect::Wait { ms: 500 }]);
}

#[test]
fn retry_after_is_honoured_up_to_a_minute_and_never_shortens_a_wait() {
    for (asked, ms) in [(None, 1000), (Some(7000), 7000), (Some(3_600_000), 60_000), (Some(1), 1000)] {
        let failure =
            Failure { kind: FailureKind::Busy, status: 429, text: String::new(), retry_after_ms: asked, jitter: 1000 };
        assert_eq!(machine().step(&Step::ModelFailed(failure)), [Effect::Wait { ms }]);
    }
}

#[test]
fn what_will_not_pass_is_not_tried_again_and_the_words_are_kept() {
    for (kind, how) in [
        (FailureKind::Policy, Ending::Refused),
        (FailureKind::Refused, Ending::Failed),
        (FailureKind::Endless, Ending::Failed),
    ] {
        let effects = machine().step(&fails(kind));
        assert_eq!(end(&effects).how, how);
        assert!(end(&effects).reason.ends_with("words of the gateway"));
    }
}

#[test]
fn an_empty_answer_is_nudged_once_and_a_second_ends_the_run() {
    for empty in [vec![], vec![Block::Text { text: " \n".into() }]] {
        let mut machine = machine();
        assert_eq!(machine.step(&answers(empty.clone(), Stop::Ended)), [Effect::CallModel { turn: 2 }]);
        assert_eq!(end(&machine.step(&answers(empty, Stop::Ended))).how, Ending::NotDone);
    }
}

#[test]
fn an_answer_cut_at_the_output_limit_is_continued_three_times() {
    let mut machine = machine();
    let cut = answers(vec![Block::Text { text: "and then".into() }], Stop::OutputLimit);
    for turn in 2..=4 {
        assert_eq!(machine.step(&cut), [Effect::CallModel { turn }]);
    }
    assert_eq!(end(&machine.step(&cut)).how, Ending::Tokens);
}

#[test]
fn the_limits_of_turns_and_tokens_hold_at_their_edge() {
    let mut machine = Machine::default();
    machine.step(&Step::Started(started_with(Dialect::Openai, 2, 100_000)));
    machine.step(&calls(&["a"]));
    assert_eq!(machine.step(&finished("a", "")).last(), Some(&Effect::CallModel { turn: 2 }));
    machine.step(&calls(&["b"]));
    let effects = machine.step(&finished("b", ""));
    assert_eq!(end(&effects[1..]).how, Ending::Turns);

    for (max, goes_on) in [(15, false), (16, true)] {
        let mut machine = Machine::default();
        machine.step(&Step::Started(Started { max_tokens: max, ..started_with(Dialect::Openai, 9, 100_000) }));
        machine.step(&calls(&["a"]));
        let effects = machine.step(&finished("a", ""));
        assert_eq!(effects.last() == Some(&Effect::CallModel { turn: 2 }), goes_on, "{max}");
    }
}

#[test]
fn a_person_and_the_clock_end_the_run_wherever_it_stands_and_nothing_follows() {
    for (step, how) in [(Step::Cancelled, Ending::Cancelled), (Step::TimeUp, Ending::Time)] {
        for before in [vec![], vec![calls(&["a"])], vec![fails(FailureKind::Busy)]] {
            let mut machine = machine();
            for step in &before {
                machine.step(step);
            }
            assert_eq!(end(&machine.step(&step)).how, how);
            assert_eq!(machine.step(&finished("a", "late")), []);
            assert_eq!(end(&machine.step(&Step::Resumed)).how, how, "its next life ends the same way");
        }
    }
}

#[test]
fn a_tool_that_was_running_when_the_platform_died_is_told_as_unknown_and_not_run_again() {
    let mut machine = machine();
    machine.step(&calls(&["a", "b"]));
    machine.step(&finished("a", "kept"));
    let effects = machine.step(&Step::Resumed);
    let [Effect::Answered(lost), Effect::CallModel { turn: 2 }] = &effects[..] else { panic!("{effects:?}") };
    assert!(lost.id == "b" && !lost.ok && lost.text.starts_with("Outcome unknown"));
    let Some(Message::Results(results)) = machine.messages().last() else { panic!() };
    assert_eq!(results[0].text, "kept");
    assert!(results[1].text.contains("Check before repeating"));
}

/// A machine whose context is nearly full of results.
fn full() -> Machine {
    let mut machine = Machine::default();
    machine.step(&Step::Started(started_with(Dialect::Anthropic, 100, 4000)));
    for n in 0..20 {
        let id = format!("c{n}");
        let effects = machine.step(&calls(&[&id]));
        assert_eq!(effects.len(), 1, "{effects:?}");
        let effects = machine.step(&finished(&id, &"r".repeat(2500)));
        if !matches!(effects.last(), Some(Effect::CallModel { .. })) {
            assert!(matches!(effects.last(), Some(Effect::Compact { .. })), "{effects:?}");
            return machine;
        }
    }
    panic!("a full context was not met");
}

#[test]
fn a_full_context_loses_its_oldest_results_first_and_never_the_newest() {
    let mut machine = full();
    let Phase::Compacting { left_out, .. } = machine.phase().clone() else { panic!() };
    assert_eq!(left_out[0], "c0");
    machine.step(&Step::Compacted { left_out: left_out.clone() });
    let results: Vec<_> = machine
        .messages()
        .iter()
        .filter_map(|m| if let Message::Results(r) = m { Some(&r[0]) } else { None })
        .collect();
    for result in &results {
        assert_eq!(result.text.starts_with("[This result of "), left_out.contains(&result.id), "{}", result.id);
    }
    assert!(results.last().unwrap().text.starts_with('r'));
}

#[test]
fn when_results_are_not_what_fills_it_the_model_sums_it_up_and_the_task_stays() {
    let mut machine = Machine::default();
    machine.step(&Step::Started(started_with(Dialect::Anthropic, 100, 4000)));
    let long = vec![Block::Text { text: "word ".repeat(6000) }, Block::Call(call("a"))];
    machine.step(&answers(long, Stop::Ended));
    let effects = machine.step(&finished("a", "ok"));
    assert_eq!(effects.last(), Some(&Effect::CallModel { turn: 2 }));
    assert_eq!(*machine.phase(), Phase::Calling(Purpose::Summary));
    let body = String::from_utf8(machine.request().unwrap()).unwrap();
    assert!(body.contains("Write a summary") && body.contains(r#""tool_choice":{"type":"none"}"#));
    machine.step(&says("Tried this, found that."));
    let [Message::User(text)] = machine.messages() else { panic!("{:?}", machine.messages()) };
    assert!(text.starts_with("Fix the bug.") && text.contains("Tried this, found that."));
    assert_eq!(*machine.phase(), Phase::Calling(Purpose::Work));
}

#[test]
fn a_context_that_the_provider_finds_too_long_is_shortened_and_then_given_up() {
    let mut machine = machine();
    machine.step(&calls(&["a"]));
    machine.step(&finished("a", &"r".repeat(1000)));
    let effects = machine.step(&fails(FailureKind::TooLong));
    assert_eq!(effects, [Effect::Compact { left_out: vec!["a".into()] }]);
    assert_eq!(machine.step(&Step::Compacted { left_out: vec!["a".into()] }), [Effect::CallModel { turn: 2 }]);
    assert_eq!(end(&machine.step(&fails(FailureKind::TooLong))).how, Ending::Failed);
}

#[test]
fn a_history_that_is_none_is_refused_by_its_place() {
    let first = serde_json::to_value(started()).unwrap();
    let error = resume(&[first.clone(), json!({"what": "danced"})]).unwrap_err();
    assert!(matches!(error, BadHistory::Step { index: 1, .. }));
    let error = context_at(&[first], 2).unwrap_err();
    assert!(matches!(error, BadHistory::NoSuchTurn { turn: 2, last: 1 }));
}

#[test]
fn a_step_that_the_runner_split_is_read_as_one() {
    let steps = [started(), calls(&["a"]), finished("a", &"é\"\\\n".repeat(300))];
    let mut history = Vec::new();
    for step in &steps {
        history.extend(api::steps::split(&serde_json::to_string(step).unwrap(), 100));
    }
    assert!(history.len() > 20);
    assert_eq!(super::steps(&history).unwrap(), steps);
}
