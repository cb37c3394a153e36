//! A provider that gives away the key it was called with: no word of it may stay anywhere.

use crate::shared::{Console, Ran, Wild, all, anthropic, api, event, gemini, head, openai, platform, run, steps, text};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::path::Path;
use testkit::{Platform, Repo};

const KEY: &str = "sk-ant-api03-Zq7Canary9fTr4Wm2xYb";

/// Whether the key, or its base 64, stands in there.
fn holds(bytes: &[u8]) -> bool {
    let within = String::from_utf8_lossy(bytes);
    // The last characters of base 64 depend on what follows the key.
    within.contains(KEY) || within.contains(&STANDARD.encode(KEY)[..42])
}

/// A file's bytes without its holes: a run's worktree is a disk of gigabytes that holds next to nothing.
fn data(path: &Path) -> Vec<u8> {
    use rustix::fs::{SeekFrom, seek};
    use std::io::{Read, Seek};
    let Some(mut file) = still("a file of the home can be opened", std::fs::File::open(path)) else {
        return Vec::new();
    };
    let (mut bytes, mut at) = (Vec::new(), 0);
    // Past the last data there is none: that is the end.
    while let Ok(begin) = seek(&file, SeekFrom::Data(at)) {
        at = seek(&file, SeekFrom::Hole(begin)).expect("data ends in a hole");
        file.seek(std::io::SeekFrom::Start(begin)).expect("a file can be read anywhere");
        (&file).take(at - begin).read_to_end(&mut bytes).expect("a file of the home can be read");
    }
    bytes
}

/// What is there still: the operator takes the folder of a run away when that is over.
fn still<T>(what: &str, came: std::io::Result<T>) -> Option<T> {
    match came {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        came => Some(came.expect(what)),
    }
}

/// Every file below a folder of which this is true.
fn files(folder: &Path, wanted: &dyn Fn(&[u8]) -> bool, found: &mut Vec<String>) {
    for entry in still("a folder of the home can be read", std::fs::read_dir(folder)).into_iter().flatten() {
        let Some(entry) = still("an entry", entry) else { continue };
        let path = entry.path();
        let Some(about) = still("an entry has a kind", path.symlink_metadata()) else { continue };
        let kind = about.file_type();
        if kind.is_dir() {
            files(&path, wanted, found);
        } else if kind.is_file() && wanted(&data(&path)) {
            found.push(path.display().to_string());
        }
    }
}

/// What is shown to people.
fn not_shown(platform: &Platform, ran: &Ran) {
    let console = Console::open(platform);
    let page = console.page(&format!("/runs/{}", ran.run));
    assert!(page.contains(&ran.run), "not the run's page: {page}");
    for (place, bytes) in [
        ("`log`", platform.ok(&["log", &ran.run]).into_bytes()),
        ("`runs`", platform.ok(&["runs"]).into_bytes()),
        ("`runs --json`", platform.ok(&["runs", "--json"]).into_bytes()),
        ("`model list --json`", platform.ok(&["model", "list", "--json"]).into_bytes()),
        ("`secret list --json`", platform.ok(&["secret", "list", "--json"]).into_bytes()),
        ("the run's page", page.into_bytes()),
        ("the list of runs", console.page("/").into_bytes()),
    ] {
        assert!(!holds(&bytes), "{place} holds the key:\n{}", text(&bytes));
    }
}

/// What is kept: entries, evidence, every file of the home as a thief of this disk would find it.
fn not_kept(platform: &Platform, ran: &Ran) {
    let evidence = api(platform, "/api/evidence");
    assert!(text(&evidence).contains(&ran.run), "not the evidence of this run");
    for (place, bytes) in [
        ("what `run` printed", ran.out.stdout.clone()),
        ("what `run` said", ran.out.stderr.clone()),
        ("`log --json`", platform.ok(&["log", &ran.run, "--json"]).into_bytes()),
        ("the evidence", evidence),
    ] {
        assert!(!holds(&bytes), "{place} holds the key:\n{}", text(&bytes));
    }
    let (mut with_key, mut with_run) = (Vec::new(), Vec::new());
    files(platform.home(), &holds, &mut with_key);
    assert_eq!(with_key, Vec::<String>::new(), "files of the home hold the key");
    files(platform.home(), &|bytes| String::from_utf8_lossy(bytes).contains(&ran.run), &mut with_run);
    assert!(!with_run.is_empty(), "the search does not even find the run");
}

/// The bytes cut in the middle of every key that stands in them.
fn cut_in_keys(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    while let Some(at) = rest.windows(KEY.len()).position(|window| window == KEY.as_bytes()) {
        let (piece, after) = rest.split_at(at + KEY.len() / 2);
        pieces.push(piece.to_vec());
        rest = after;
    }
    pieces.push(rest.to_vec());
    pieces
}

#[test]
fn a_key_that_anthropics_format_brings_back_in_body_headers_errors_or_base_64_is_found_nowhere() {
    let (platform, repo) = (platform(), Repo::failing());
    let wild = Wild::start(|n, _| {
        if n > 0 {
            let said = format!("the key {KEY} ({}) is worn out", STANDARD.encode(KEY));
            let body = json!({"type": "error", "error": {"type": "invalid_request_error", "message": said}});
            return vec![head("400 Bad Request", "application/json", ""), body.to_string().into_bytes()];
        }
        let echo = format!("request-id: {KEY}\r\nx-echo: {KEY}\r\nanthropic-ratelimit-tokens-limit: {KEY}\r\n");
        let input = json!({"command": format!("echo {KEY} | tee leaked.txt")}).to_string();
        let say = |said: String| {
            json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "text_delta", "text": said}})
        };
        let events = [
            json!({"type": "message_start", "message": {"id": KEY, "type": "message", "role": "assistant",
                "model": KEY, "content": [], "usage": {"input_tokens": 7}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            say(format!("Your key is {KEY}. ")),
            say(format!("In base 64: {}", STANDARD.encode(format!("{KEY} is it")))),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "content_block_start", "index": 1,
                "content_block": {"type": "tool_use", "id": "toolu_1", "name": "shell", "input": {}}}),
            json!({"type": "content_block_delta", "index": 1,
                "delta": {"type": "input_json_delta", "partial_json": input}}),
            json!({"type": "content_block_stop", "index": 1}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}}),
            json!({"type": "message_stop"}),
        ];
        let body: Vec<u8> = events.iter().flat_map(event).collect();
        let mut pieces = vec![head("200 OK", "text/event-stream", &echo)];
        pieces.extend(cut_in_keys(&body));
        pieces
    });
    anthropic(&platform, "leaky", wild.url(), KEY);
    let ran = run(&platform, &repo, &[]);
    let (outcome, reason) = ran.end();
    assert_eq!(outcome, "failed", "{}", all(&ran.out));
    assert!(reason.contains("the key [scrubbed:") && reason.contains("is worn out"), "{reason}");
    let command = ran.of_kind("command");
    assert!(command[0]["argv"].to_string().contains("[scrubbed:"), "{command:#?}");
    let branch = format!("volary/{}", ran.run);
    assert!(!holds(repo.git(&["log", "--all", "--patch"]).as_bytes()), "{branch} holds the key");

    let tested = platform.cli(&["model", "test", "leaky"]);
    assert!(!holds(&tested.stdout) && text(&tested.stdout).contains("[scrubbed:"), "{}", all(&tested));
    not_kept(&platform, &ran);
    not_shown(&platform, &ran);
}

#[test]
fn a_key_that_openais_format_brings_back_is_found_nowhere() {
    let (platform, repo) = (platform(), Repo::failing());
    let wild = Wild::start(|n, _| {
        let echo =
            format!("x-request-id: {KEY}\r\nopenai-organization: {KEY}\r\nx-ratelimit-limit-requests: {KEY}\r\n");
        if n > 0 {
            let said = format!("Incorrect API key provided: {KEY}.");
            let body = json!({"error": {"message": said, "type": "invalid_request_error", "code": KEY}});
            return vec![head("401 Unauthorized", "application/json", &echo), body.to_string().into_bytes()];
        }
        let input = json!({"command": format!("printf %s {KEY}")}).to_string();
        let chunk = |delta: Value, why: Value| {
            let chunk = json!({"id": KEY, "object": "chat.completion.chunk", "created": 1, "model": "m",
                "choices": [{"index": 0, "delta": delta, "finish_reason": why}]});
            format!("data: {chunk}\n\n").into_bytes()
        };
        let call = json!({"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
            "function": {"name": "shell", "arguments": input}}]});
        let body = [
            chunk(
                json!({"role": "assistant", "content": format!("It is {KEY} ({})", STANDARD.encode(KEY))}),
                Value::Null,
            ),
            chunk(call, Value::Null),
            chunk(json!({}), "tool_calls".into()),
            b"data: [DONE]\n\n".to_vec(),
        ]
        .concat();
        let mut pieces = vec![head("200 OK", "text/event-stream", &echo)];
        pieces.extend(cut_in_keys(&body));
        pieces
    });
    openai(&platform, "leaky", wild.url(), KEY);
    let ran = run(&platform, &repo, &[]);
    let (outcome, reason) = ran.end();
    assert_eq!(outcome, "failed", "{}", all(&ran.out));
    assert!(reason.contains("Incorrect API key provided: [scrubbed:"), "{reason}");
    not_kept(&platform, &ran);
    not_shown(&platform, &ran);
}

#[test]
fn a_key_that_geminis_format_brings_back_whole_or_in_halves_of_two_events_is_found_nowhere() {
    let (platform, repo) = (platform(), Repo::failing());
    let wild = Wild::start(|n, _| {
        let echo = format!("x-request-id: {KEY}\r\nx-goog-echo: {KEY}\r\n");
        if n > 0 {
            let said = format!("API key not valid: {KEY}.");
            let body = json!({"error": {"code": 400, "message": said, "status": "INVALID_ARGUMENT",
                "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "metadata": {"key": KEY}}]}});
            return vec![head("400 Bad Request", "application/json", &echo), body.to_string().into_bytes()];
        }
        let (left, right) = KEY.split_at(KEY.len() / 2);
        let part = |part: Value| json!({"candidates": [{"content": {"parts": [part], "role": "model"}, "index": 0}]});
        let input = json!({"command": format!("printf %s {KEY}")});
        let events = [
            part(json!({"text": format!("It is {KEY} ({}), or ", STANDARD.encode(KEY))})),
            part(json!({"text": left})),
            part(json!({"text": right})),
            part(json!({"text": "."})),
            part(json!({"functionCall": {"name": "shell", "args": input}, "thoughtSignature": STANDARD.encode(KEY)})),
            json!({"candidates": [{"finishReason": "STOP", "index": 0}], "modelVersion": KEY, "responseId": KEY}),
        ];
        let body: Vec<u8> = events.iter().flat_map(|event| format!("data: {event}\r\n\r\n").into_bytes()).collect();
        let mut pieces = vec![head("200 OK", "text/event-stream", &echo)];
        pieces.extend(cut_in_keys(&body));
        pieces
    });
    gemini(&platform, "leaky", wild.url(), KEY);
    let ran = run(&platform, &repo, &[]);
    let (outcome, reason) = ran.end();
    assert_eq!(outcome, "failed", "{}", all(&ran.out));
    assert!(reason.contains("API key not valid: [scrubbed:"), "{reason}");
    let said: String = ran.of_kind("chunk").iter().filter_map(|chunk| chunk["text"].as_str()).collect();
    assert_eq!(said.matches("[scrubbed:").count(), 3, "{said}");
    not_kept(&platform, &ran);
    not_shown(&platform, &ran);
}

#[test]
fn a_key_that_comes_in_halves_of_two_events_is_whole_in_no_entry_and_no_file() {
    let (platform, repo) = (platform(), Repo::failing());
    let wild = Wild::start(|_, _| {
        let (left, right) = KEY.split_at(KEY.len() / 2);
        let say = |said: &str| {
            json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "text_delta", "text": said}})
        };
        let events = [
            json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant",
                "model": "m", "content": [], "usage": {"input_tokens": 7}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            say("Your key is "),
            say(left),
            say(right),
            say(", is it not?"),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}),
            json!({"type": "message_stop"}),
        ];
        let mut pieces = vec![head("200 OK", "text/event-stream", "")];
        pieces.extend(events.iter().map(event));
        pieces
    });
    anthropic(&platform, "leaky", wild.url(), KEY);
    let ran = run(&platform, &repo, &[]);
    assert_eq!(ran.end().0, "done", "{}", all(&ran.out));
    // Where the halves meet, also on a page that joins the entries.
    not_kept(&platform, &ran);
    not_shown(&platform, &ran);
    let said: String = ran.of_kind("chunk").iter().filter_map(|chunk| chunk["text"].as_str()).collect();
    assert!(said.starts_with("Your key is [scrubbed:model/anthropic#") && said.ends_with("], is it not?"), "{said}");
    let answer = steps(&ran.entries, "model-answered")[0].to_string();
    assert!(answer.contains("Your key is [scrubbed:"), "{answer}");
}
