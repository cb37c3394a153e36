//! Whole sessions over the Agent Client Protocol: tools, the order of the record, resume, cancel.

mod double;

use agent::turns::{context_at, resume};
use double::{ModelDouble, RunnerDouble, block_on, run, streamed, task};
use model::Dialect;
use serde_json::{Value, json};
use std::path::Path;
use std::rc::Rc;

/// One answer with these calls (id, tool, input), then the end; gives the results by the calls' order.
async fn tools(root: &Path, calls: &[(&str, &str, Value)]) -> (Vec<(bool, String)>, Rc<RunnerDouble>) {
    let dialect = Dialect::Anthropic;
    let model = ModelDouble::new(vec![streamed(dialect, "Working.", calls), streamed(dialect, "Done.", &[])]).await;
    let (done, runner) = run(&task(dialect), &model.address, root).await;
    assert_eq!(done["done"], true, "{done}");
    let results = runner.events("tool-result");
    let by_id = |id: &str| {
        let result = results.iter().find(|r| r["id"] == id).unwrap();
        (result["ok"].as_bool().unwrap(), result["text"].as_str().unwrap().to_owned())
    };
    (calls.iter().map(|(id, ..)| by_id(id)).collect(), runner)
}

#[test]
fn the_six_tools_work_on_the_worktree() {
    block_on(async {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("a.c"), "int one;\nint two;\nint three;\n").unwrap();
        std::fs::create_dir(root.path().join("sub")).unwrap();
        let (results, runner) = tools(
            root.path(),
            &[
                ("1", "read", json!({"path": "a.c", "offset": 2, "limit": 1})),
                ("2", "write", json!({"path": "sub/b.txt", "content": "new\n"})),
                ("3", "edit", json!({"path": "a.c", "old": "two", "new": "2"})),
                ("4", "search", json!({"pattern": "int t\\w+e"})),
                ("5", "shell", json!({"command": "cc a.c; fail"})),
                ("6", "list", json!({"depth": 1})),
            ],
        )
        .await;
        assert_eq!(results[0], (true, "int two;\n[lines 2 to 2; there is more: read on with offset 3]".into()));
        assert_eq!(results[1], (true, "Wrote 4 bytes to sub/b.txt.".into()));
        assert_eq!(results[2], (true, "Replaced once in a.c.".into()));
        assert_eq!(results[3], (true, "a.c:3: int three;\n".into()));
        assert_eq!(results[4], (false, "ran cc a.c; fail\n[exit status 1]".into()));
        assert!(results[5].1.contains("a.c  ") && results[5].1.contains("sub/\n"), "{}", results[5].1);
        assert_eq!(std::fs::read_to_string(root.path().join("a.c")).unwrap(), "int one;\nint 2;\nint three;\n");

        let create = &runner.all("terminal/create")[0];
        assert_eq!(create["command"], "/bin/sh");
        assert_eq!(create["args"], json!(["-c", "cc a.c; fail"]));
        assert_eq!(create["_meta"]["volary.toolCall"], "5");
        assert_eq!(runner.all("terminal/release").len(), 1);
    });
}

#[test]
fn edits_of_one_file_in_one_answer_do_not_lose_one_another() {
    block_on(async {
        let root = tempfile::tempdir().unwrap();
        let names: Vec<String> = (10..20).map(|n| format!("v{n}")).collect();
        std::fs::write(root.path().join("f"), names.join("\n")).unwrap();
        let calls: Vec<_> = names
            .iter()
            .map(|name| (&**name, "edit", json!({"path": "f", "old": name, "new": format!("{name}!")})))
            .collect();
        let (results, _) = tools(root.path(), &calls).await;
        assert!(results.iter().all(|(ok, _)| *ok), "{results:?}");
        let wanted = names.iter().map(|name| format!("{name}!")).collect::<Vec<_>>().join("\n");
        assert_eq!(std::fs::read_to_string(root.path().join("f")).unwrap(), wanted);
    });
}

#[test]
fn a_malformed_call_is_an_answer_to_the_model_and_not_the_end() {
    block_on(async {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("bytes"), [0xff, 0xfe]).unwrap();
        std::fs::write(root.path().join("twice"), "x x").unwrap();
        let (results, runner) = tools(
            root.path(),
            &[
                ("1", "fly", json!({})),
                ("2", "read", json!({"paht": "x"})),
                ("3", "shell", json!("{\"command\": \"ec")),
                ("4", "read", json!({"path": "bytes"})),
                ("5", "edit", json!({"path": "twice", "old": "x", "new": "y"})),
                ("6", "edit", json!({"path": "twice", "old": "z", "new": "y"})),
                ("7", "search", json!({"pattern": "("})),
                ("8", "list", json!({"path": "../.."})),
                ("9", "read", json!({"path": "missing"})),
            ],
        )
        .await;
        let said = [
            "There is no tool \"fly\". The tools are: read, write, edit, list, search, shell.",
            "unknown field `paht`",
            "It ends in the middle",
            "it is not UTF-8 text",
            "stands 2 times",
            "does not stand in twice",
            "no regular expression",
            "use shell for what is elsewhere",
            "No such file",
        ];
        for ((ok, text), said) in results.iter().zip(said) {
            assert!(!ok && text.contains(said), "{text:?} should say {said:?}");
        }
        assert!(runner.all("terminal/create").is_empty());
    });
}

#[test]
fn a_step_is_recorded_before_anything_is_done_because_of_it() {
    block_on(async {
        let root = tempfile::tempdir().unwrap();
        let (_, runner) = tools(root.path(), &[("1", "shell", json!({"command": "true"}))]).await;
        let heard = runner.heard.borrow();
        let at = |wanted: &dyn Fn(&str, &Value) -> bool| heard.iter().position(|(m, p)| wanted(m, p)).unwrap();
        let asked = at(&|m, p| m == "_volary/loop" && p["step"]["what"] == "model-answered");
        let shown = at(&|m, p| m == "_volary/event" && p["event"]["kind"] == "tool-call");
        let created = at(&|m, _| m == "terminal/create");
        let finished = at(&|m, p| m == "_volary/loop" && p["step"]["what"] == "tool-finished");
        assert!(asked < shown && shown < created && created < finished);
    });
}

#[test]
fn any_client_is_told_by_the_standard_updates_what_the_record_says() {
    block_on(async {
        let root = tempfile::tempdir().unwrap();
        let (_, runner) = tools(root.path(), &[("1", "shell", json!({"command": "true"}))]).await;
        let updates: Vec<Value> = runner.all("session/update").into_iter().map(|p| p["update"].clone()).collect();
        let kind = |n: usize| updates[n]["sessionUpdate"].as_str().unwrap();
        assert_eq!((kind(0), &updates[0]["content"]["text"]), ("agent_message_chunk", &json!("Working.")));
        assert_eq!(
            (kind(1), &updates[1]["kind"], &updates[1]["title"]),
            ("tool_call", &json!("execute"), &json!("true"))
        );
        assert_eq!((kind(2), &updates[2]["status"]), ("tool_call_update", &json!("completed")));
        let chunks = runner.events("chunk");
        assert_eq!((&chunks[0]["turn"], &chunks[0]["text"]), (&json!(1), &json!("Working.")));
        assert_eq!((&chunks[1]["turn"], &chunks[1]["text"]), (&json!(2), &json!("Done.")));
    });
}

#[test]
fn a_run_that_died_at_any_step_goes_on_and_repeats_no_command() {
    for dialect in [Dialect::Anthropic, Dialect::Openai, Dialect::OpenaiResponses, Dialect::Gemini] {
        block_on(async {
            let root = tempfile::tempdir().unwrap();
            let calls = [("1", "shell", json!({"command": "make"})), ("2", "shell", json!({"command": "test"}))];
            let script = [streamed(dialect, "First.", &calls), streamed(dialect, "Done.", &[])];
            let model = ModelDouble::new(script.to_vec()).await;
            let (_, whole) = run(&task(dialect), &model.address, root.path()).await;
            let steps = whole.steps();
            let count = |what: &str| steps.iter().filter(|step| step["what"] == what).count();
            assert_eq!((count("started"), count("model-answered"), count("tool-finished"), steps.len()), (1, 2, 2, 5));

            for died_after in 1..steps.len() {
                let turns = usize::from(died_after > 1);
                let model = ModelDouble::new(script[turns..].to_vec()).await;
                let mut again = task(dialect);
                again.history = steps[..died_after].to_vec();
                // It died between its last step and the event that shows it.
                let shown = whole.events("tool-result").len().min(died_after.saturating_sub(3));
                let id = |result: &Value| result["id"].as_str().unwrap().to_owned();
                again.answered = whole.events("tool-result")[..shown].iter().map(id).collect();
                let (done, runner) = run(&again, &model.address, root.path()).await;
                assert_eq!(done["done"], true, "{done}");
                let created = runner.all("terminal/create").len();
                assert_eq!(created, if turns == 0 { 2 } else { 0 }, "died after step {died_after}");
                let unknown = runner
                    .events("tool-result")
                    .iter()
                    .filter(|r| r["text"].as_str().unwrap().starts_with("Outcome unknown"))
                    .count();
                assert_eq!(unknown, if turns == 0 { 0 } else { 4 - died_after });
                let mut results = again.answered.clone();
                results.extend(runner.events("tool-result").iter().map(id));
                assert_eq!(results, ["1", "2"], "each call is answered once, died after step {died_after}");

                // The record of both lives together rebuilds what the model saw.
                let mut record = again.history.clone();
                record.extend(runner.steps());
                assert_eq!(context_at(&record, 2).unwrap(), *model.bodies().last().unwrap());
                assert!(resume(&record).is_ok());
            }
        });
    }
}

#[test]
fn a_gemini_answer_that_the_vendor_ended_is_answered_to_the_model_or_ends_the_run_with_its_reason() {
    let ended = |candidate: Value| {
        let event = json!({"candidates": [candidate], "usageMetadata": {"promptTokenCount": 9}});
        double::answer("200 OK", "content-type: text/event-stream\r\n", &format!("data: {event}\r\n\r\n"))
    };
    let unread = json!({"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": "print(read('a'))"});
    block_on(async {
        let root = tempfile::tempdir().unwrap();
        let model = ModelDouble::new(vec![ended(unread), streamed(Dialect::Gemini, "Done.", &[])]).await;
        let (done, runner) = run(&task(Dialect::Gemini), &model.address, root.path()).await;
        assert_eq!(done["done"], true, "{done}");
        assert_eq!(runner.events("tool-result")[0]["ok"], false);
        let second: Value = serde_json::from_slice(&model.bodies()[1]).unwrap();
        let said = |turn: usize| second["contents"][turn]["parts"][0]["text"].as_str().unwrap().to_owned();
        assert!(said(1).contains("print(read('a'))") && said(2).contains("The tools are: read, write"), "{second}");
    });
    let blocked = json!({"finishReason": "PROHIBITED_CONTENT", "finishMessage": "not this"});
    block_on(async {
        let root = tempfile::tempdir().unwrap();
        let model = ModelDouble::new(vec![ended(blocked)]).await;
        let (done, _) = run(&task(Dialect::Gemini), &model.address, root.path()).await;
        let reason = done["reason"].as_str().unwrap();
        assert!(
            done["done"] == false && reason.contains("PROHIBITED_CONTENT") && reason.contains("not this"),
            "{done}"
        );
    });
}

#[test]
fn cancel_ends_a_run_whose_command_does_not_end() {
    block_on(async {
        let root = tempfile::tempdir().unwrap();
        let calls = [("1", "shell", json!({"command": "cancel; sleep forever"}))];
        let model = ModelDouble::new(vec![streamed(Dialect::Anthropic, "", &calls)]).await;
        let (done, runner) = run(&task(Dialect::Anthropic), &model.address, root.path()).await;
        assert_eq!(done, json!({"done": false, "reason": "The run was cancelled.", "stop": "cancelled"}));
        assert_eq!(runner.steps().last().unwrap()["what"], "cancelled");
    });
}

#[test]
fn a_command_past_its_timeout_is_killed_and_the_model_told() {
    block_on(async {
        let root = tempfile::tempdir().unwrap();
        // The runner's double never ends it, killed or not: the tool must not wait for that either.
        tokio::time::pause();
        let call = ("1", "shell", json!({"command": "sleep forever", "timeout": 5}));
        let (results, runner) = tools(root.path(), &[call]).await;
        assert_eq!(results[0], (false, "ran sleep forever\n[killed: it did not end within 5 seconds]".into()));
        assert_eq!((runner.all("terminal/kill").len(), runner.all("terminal/release").len()), (1, 1));
    });
}

#[test]
fn a_tool_that_the_profile_leaves_out_is_not_there() {
    block_on(async {
        let root = tempfile::tempdir().unwrap();
        let calls = [("1", "shell", json!({"command": "true"}))];
        let dialect = Dialect::Openai;
        let model =
            ModelDouble::new(vec![streamed(dialect, "", &calls), streamed(dialect, "NOT DONE: no shell.", &[])]).await;
        let mut task = task(dialect);
        task.tools = vec!["read".into()];
        let (done, runner) = run(&task, &model.address, root.path()).await;
        assert_eq!(done, json!({"done": false, "reason": "no shell.", "stop": "end_turn"}));
        assert!(runner.all("terminal/create").is_empty());
        let body: Value = serde_json::from_slice(&model.bodies()[0]).unwrap();
        assert_eq!(body["tools"].as_array().unwrap().len(), 1);
    });
}
