//! Model calls against a real listener: what is tried again, how long is waited, what ends the run.

mod double;

use agent::door::{CallLimits, Door};
use agent::turns::{FailureKind, context_at};
use double::{HANG, ModelDouble, answer, block_on, run, streamed, task};
use model::Dialect;
use serde_json::{Value, json};
use std::time::Duration;

const ALL: [Dialect; 4] = [Dialect::Anthropic, Dialect::Openai, Dialect::OpenaiResponses, Dialect::Gemini];
const SSE: &str = "content-type: text/event-stream\r\n";

#[test]
fn overload_and_broken_streams_are_tried_again_with_the_same_bytes_and_retry_after_is_honoured() {
    for dialect in ALL {
        block_on(async {
            let whole = streamed(dialect, "Fixed.", &[]);
            let half = whole[..whole.find("Fixed.").unwrap() + 60].to_owned();
            let model = ModelDouble::new(vec![
                answer("429 Too Many Requests", "retry-after: 7\r\n", "{}"),
                answer("529 Overloaded", "content-length: 0\r\n", ""),
                half,
                answer("200 OK", "content-type: text/html\r\n", "<p>gateway time-out</p>"),
                whole,
            ])
            .await;
            let root = tempfile::tempdir().unwrap();
            let (done, runner) = run(&task(dialect), &model.address, root.path()).await;
            assert_eq!(done, json!({"done": true, "reason": "", "stop": "end_turn"}));

            let waits = runner.waits.borrow();
            assert_eq!(waits[0], 7000);
            for (wait, between) in waits[1..].iter().zip([1000..=2000, 2000..=4000, 4000..=8000]) {
                assert!(between.contains(wait), "{waits:?}");
            }
            assert_eq!(waits.len(), 4);

            let said: String = runner.events("chunk").iter().map(|c| c["text"].as_str().unwrap()).collect();
            assert_eq!(said, "Fixed.\n[the answer broke off here]\nFixed.");

            let bodies = model.bodies();
            assert_eq!(bodies.len(), 5);
            assert!(bodies.iter().all(|body| *body == context_at(&runner.steps(), 1).unwrap()));
        });
    }
}

#[test]
fn the_handle_and_the_path_are_those_of_the_dialect() {
    for (dialect, path, header) in [
        (Dialect::Anthropic, "post /model/m/v1/messages http/1.1", "x-api-key: vh_test"),
        (Dialect::Openai, "post /model/m/v1/chat/completions http/1.1", "authorization: bearer vh_test"),
        (Dialect::OpenaiResponses, "post /model/m/v1/responses http/1.1", "authorization: bearer vh_test"),
        (
            Dialect::Gemini,
            "post /model/m/v1beta/models/model-1:streamgeneratecontent?alt=sse http/1.1",
            "x-goog-api-key: vh_test",
        ),
    ] {
        block_on(async {
            let model = ModelDouble::new(vec![streamed(dialect, "Done.", &[])]).await;
            let root = tempfile::tempdir().unwrap();
            run(&task(dialect), &model.address, root.path()).await;
            let seen = model.seen.borrow()[0].clone();
            assert_eq!(seen.head.lines().next(), Some(path));
            assert!(seen.head.lines().any(|line| line == header), "{}", seen.head);
            assert!(!String::from_utf8_lossy(&seen.body).contains("vh_test"));
        });
    }
}

#[test]
fn the_wait_that_a_gemini_error_asks_for_in_its_body_is_honoured() {
    block_on(async {
        let error = |status: &str, code: u16, details: Value| {
            let body = json!({"error": {"code": code, "message": "later", "status": status, "details": details}});
            answer(&format!("{code} No"), "content-type: application/json\r\n", &body.to_string())
        };
        let info = |delay: &str| {
            json!([{"@type": "type.googleapis.com/google.rpc.Help"},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}])
        };
        let model = ModelDouble::new(vec![
            error("RESOURCE_EXHAUSTED", 429, info("34s")),
            error("UNAVAILABLE", 503, info("5.5s")),
            error("INTERNAL", 500, info("soon")),
            streamed(Dialect::Gemini, "Done.", &[]),
        ])
        .await;
        let root = tempfile::tempdir().unwrap();
        let (done, runner) = run(&task(Dialect::Gemini), &model.address, root.path()).await;
        assert_eq!(done["done"], true, "{done}");
        let waits = runner.waits.borrow();
        assert_eq!(waits[..2], [34_000, 5_500]);
        assert!((2000..=4000).contains(&waits[2]) && waits.len() == 3, "{waits:?}");
    });
}

#[test]
fn a_refusal_by_policy_ends_the_run_with_the_gateways_words_and_is_not_sent_again() {
    block_on(async {
        let body = r#"{"error":{"type":"volary_policy","rule":"budget.run","message":"The budget is spent."}}"#;
        let model =
            ModelDouble::new(vec![answer("403 Forbidden", "", body), streamed(Dialect::Anthropic, "x", &[])]).await;
        let root = tempfile::tempdir().unwrap();
        let (done, runner) = run(&task(Dialect::Anthropic), &model.address, root.path()).await;
        assert_eq!(done, json!({"done": false, "reason": "The budget is spent.", "stop": "refusal"}));
        assert_eq!((model.bodies().len(), runner.waits.borrow().len()), (1, 0));
    });
}

#[test]
fn a_request_that_the_provider_refuses_is_not_sent_again() {
    block_on(async {
        let body = r#"{"type":"error","error":{"type":"invalid_request_error","message":"no such model"}}"#;
        let model = ModelDouble::new(vec![answer("400 Bad Request", "", body)]).await;
        let root = tempfile::tempdir().unwrap();
        let (done, _) = run(&task(Dialect::Anthropic), &model.address, root.path()).await;
        assert_eq!(done["done"], false);
        assert!(done["reason"].as_str().unwrap().contains("no such model"), "{done}");
    });
}

#[test]
fn a_gateway_that_is_not_there_is_tried_six_times() {
    block_on(async {
        // Bound for as long as this test lives, and listening to nobody: no neighbour gets the port.
        let bound = tokio::net::TcpSocket::new_v4().unwrap();
        bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let closed = bound.local_addr().unwrap().to_string();
        let root = tempfile::tempdir().unwrap();
        let (done, runner) = run(&task(Dialect::Openai), &closed, root.path()).await;
        assert_eq!((done["done"].clone(), runner.waits.borrow().len()), (Value::Bool(false), 5));
        assert!(done["reason"].as_str().unwrap().contains("cannot be reached"), "{done}");
    });
}

#[test]
fn a_model_that_never_ends_is_cut_and_the_reason_says_so() {
    block_on(async {
        let event = json!({"choices": [{"delta": {"content": "and on ".repeat(100)}}]});
        let body = format!("data: {event}\n\n").repeat(100) + HANG;
        let model = ModelDouble::new(vec![answer("200 OK", SSE, &body)]).await;
        let root = tempfile::tempdir().unwrap();
        let (done, runner) = run(&task(Dialect::Openai), &model.address, root.path()).await;
        assert!(done["reason"].as_str().unwrap().contains("far beyond the limit"), "{done}");
        assert!(!runner.events("chunk").is_empty(), "what it said is in the transcript");
    });
}

#[test]
fn a_line_that_never_ends_is_cut_too() {
    for dialect in ALL {
        block_on(async {
            let body = "data: ".to_owned() + &"x".repeat(3 << 20) + HANG.trim_end();
            let model = ModelDouble::new(vec![answer("200 OK", SSE, &body)]).await;
            let (route, limits) = (task(dialect).model, CallLimits::default());
            let door = Door { address: model.address, route, handle: "vh_test".into(), limits };
            let failure = door.call(b"{}".to_vec(), &mut |_| {}).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Endless, "{dialect:?}");
        });
    }
}

#[test]
fn a_stream_that_only_drips_is_cut_at_the_limit_of_time_and_one_that_stops_is_taken_for_broken() {
    let (short, long) = (Duration::from_millis(50), Duration::from_secs(60));
    for (idle, total, kind) in [(long, short, FailureKind::Endless), (short, long, FailureKind::Cut)] {
        block_on(async {
            let model = ModelDouble::new(vec![answer("200 OK", SSE, HANG)]).await;
            let route = task(Dialect::Anthropic).model;
            let limits = CallLimits { connect: long, idle, total };
            let door = Door { address: model.address, route, handle: "vh_test".into(), limits };
            let failure = door.call(b"{}".to_vec(), &mut |_| {}).await.unwrap_err();
            assert_eq!(failure.kind, kind);
        });
    }
}

#[test]
fn a_server_that_does_not_stream_is_understood() {
    block_on(async {
        let body = json!({"object": "chat.completion", "choices": [
            {"message": {"role": "assistant", "content": "Done."}, "finish_reason": "stop"}]});
        let model =
            ModelDouble::new(vec![answer("200 OK", "content-type: application/json\r\n", &body.to_string())]).await;
        let root = tempfile::tempdir().unwrap();
        let (done, runner) = run(&task(Dialect::Openai), &model.address, root.path()).await;
        assert_eq!(done["done"], true);
        assert_eq!(runner.events("chunk")[0]["text"], "Done.");
    });
}
