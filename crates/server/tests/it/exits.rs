//! Every way out of the server: a live key and a vendor's token go in wherever something comes from, and out nowhere.

use crate::leases;
use crate::stage::{KEY, Operator, Stage, agent, exec};
use api::grants::{FromGateway, ModelCall, ToGateway};
use api::leases::{LeaseUser, ValueWord};
use api::link::{Down, Launch};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{Method, StatusCode};
use model::event::{Stream, Verdict};
use model::{Event, Outcome};
use std::path::Path;

/// What has the format of a credential, and is no secret of this home.
fn token() -> String {
    format!("ghp_{}", "a1B2".repeat(9))
}

/// Whether the key or the token stands there, as it is or in base 64 or hex.
fn holds(bytes: &[u8]) -> bool {
    let hex = |text: &str| text.bytes().map(|b| format!("{b:02x}")).collect::<String>();
    let forms = [KEY, &token()].map(|secret| [secret.to_owned(), STANDARD.encode(secret), hex(secret)]);
    forms.as_flattened().iter().any(|form| bytes.windows(form.len()).any(|window| window == form.as_bytes()))
}

/// A run in which both stand in all that a person, a box and a gateway can say.
async fn leaky(stage: &Stage) -> (Operator, Launch) {
    stage.model("m", "model-1").await;
    let mut gateway = stage.gateway().await;
    let mut operator = stage.operator(vec![]).await;
    let said = format!("the key {KEY} and the token {}", token());
    stage.create(&agent("say what you found")).await;
    let launch = operator.launch().await;
    operator.begin(&launch, 1).await;
    let events = [
        Event::Note { text: said.clone() },
        Event::Chunk { turn: 1, text: said.clone() },
        Event::Output { id: "t".into(), stream: Stream::Stdout, data_b64: STANDARD.encode(&said) },
    ];
    for (seq, event) in (2..).zip(&events) {
        operator.event(&launch.run, seq, event).await;
        assert_eq!(operator.hear().await, Down::Ack { run: launch.run.clone(), seq });
    }
    operator.raw(&launch.run, 5, &serde_json::json!({ "kind": "news", "of": { "a box": said } }).to_string()).await;
    assert_eq!(operator.hear().await, Down::Ack { run: launch.run.clone(), seq: 5 });
    let call = ModelCall {
        run: launch.run.clone(),
        handle_sha256: token(),
        provider: token(),
        path: format!("/v1/{KEY}"),
        model: said.clone(),
        max_output_tokens: 1,
        input_tokens_at_most: 1,
        body_sha256: token(),
        long_cache: false,
    };
    gateway.say(&FromGateway::Ask { id: 1, call }).await;
    assert!(matches!(gateway.hear().await, ToGateway::Answer { id: 1, .. }));
    let verdict = Verdict {
        allowed: false,
        rule: "path.unlisted".into(),
        method: token(),
        target: format!("/{}?{}", token(), KEY),
        why: said.clone(),
        body_sha256: Some(token()),
        grant: None,
        model: Some(said.clone()),
        reserved: None,
    };
    gateway.say(&FromGateway::Refused { run: launch.run.clone(), verdict }).await;
    while !stage
        .transcript(&launch.run)
        .await
        .iter()
        .any(|e| matches!(&e.event, Event::Verdict(v) if v.rule == "path.unlisted"))
    {
        tokio::task::yield_now().await;
    }
    let ended = Event::Ended { outcome: Outcome::Failed, reason: said, exit: None };
    operator.event(&launch.run, 6, &ended).await;
    while !stage.get(&launch.run).await.state.is_over() {
        tokio::task::yield_now().await;
    }
    (operator, launch)
}

/// What a way out gives: something of the run, and nothing of either secret.
fn clean(bytes: &[u8], mark: &str) {
    let text = String::from_utf8_lossy(bytes);
    assert!(!holds(bytes), "{text}");
    assert!(text.contains(mark), "{text}");
}

#[tokio::test]
async fn the_event_stream_the_transcript_and_its_export_hold_no_secret() {
    let stage = Stage::start();
    let (_operator, launch) = leaky(&stage).await;
    let events = format!("/api/runs/{}/events", launch.run);
    for path in [events.clone(), format!("{events}?follow=true")] {
        clean(&stage.home(Method::GET, &path, None).await.body, "[scrubbed:model/m#");
    }
    let output = stage.transcript(&launch.run).await.into_iter().find_map(|entry| match entry.event {
        Event::Output { data_b64, .. } => Some(STANDARD.decode(data_b64).unwrap()),
        _ => None,
    });
    clean(&output.unwrap(), "[redacted: github-token#");
}

#[tokio::test]
async fn a_task_with_a_key_or_a_token_in_it_is_refused_and_recorded_by_name_alone_and_begins_no_run() {
    let stage = Stage::start();
    stage.model("m", "model-1").await;
    let mut operator = stage.operator(vec![]).await;
    let tries = [
        (
            format!("publish it with {KEY}"),
            "This task holds the value of the secret model/m, which",
            "with [scrubbed:model/m#",
        ),
        (
            format!("line one\n\nset GH_TOKEN to {}.\n", token()),
            "This task holds what has the form of a credential (github-token), which",
            "to [redacted: github-token#",
        ),
        (
            format!("as in [scrubbed:model/other#0123abcd], but {}", STANDARD.encode(KEY)),
            "This task holds the value of the secret model/m, which",
            "but [scrubbed:model/m#",
        ),
    ];
    for (task, what, shown) in &tries {
        let refused = stage.home(Method::POST, "/api/runs", Some(serde_json::to_value(agent(task)).unwrap())).await;
        assert_eq!((refused.status, refused.code().as_str()), (StatusCode::BAD_REQUEST, "run.secret"));
        for mark in [what, shown, "Leave the value out.", "`[[capability]]`"] {
            clean(&refused.body, mark);
        }
    }
    // As a placeholder the key has 27 characters.
    for (dashes, is_whole) in [(2_000 - 27, true), (2_000 - 26, false)] {
        let long = agent(&format!("{KEY}{}", "-".repeat(dashes)));
        let refused = stage.home(Method::POST, "/api/runs", Some(serde_json::to_value(long).unwrap())).await;
        assert_eq!(refused.text().contains('…'), !is_whole, "{}", refused.text());
    }
    // It is shown where it stands, however far that is.
    let far = agent(&format!("{} here {KEY} and on", "far ".repeat(5_000)));
    let refused = stage.home(Method::POST, "/api/runs", Some(serde_json::to_value(far).unwrap())).await;
    assert!(
        refused.text().contains("It is: …") && refused.text().contains("here [scrubbed:model/m"),
        "{}",
        refused.text()
    );
    let evidence = stage.home(Method::GET, "/api/evidence", None).await;
    for (_, what, _) in &tries {
        clean(&evidence.body, what);
    }
    let text = evidence.text();
    assert_eq!(text.matches("run.refused").count(), tries.len() + 3, "{text}");
    assert!(!text.contains("publish it") && !text.contains("line one") && !text.contains("model/other"), "{text}");
    assert!(!text.contains("run.accepted"), "{text}");
    // What quotes a transcript has none, and is told as it was written.
    let quoted = "the log says [scrubbed:model/m#0123abcd]; mend it";
    stage.create(&agent(quoted)).await;
    assert_eq!(operator.launch().await.agent.unwrap().task, quoted);
}

#[tokio::test]
async fn a_command_that_would_bring_a_key_into_its_box_is_refused_on_either_engine_and_recorded_by_name_alone() {
    let stage = Stage::start();
    stage.model("m", "model-1").await;
    let mut operator = stage.operator(vec![]).await;
    let (named, held) = ("some-words-0123", "DEPLOY_TOKEN=k3Jd92hGq8Lz1mX0pR5v");
    let tries: [(&[&str], &str, &str); 5] = [
        (&["printf", "%s", KEY], "the value of the secret model/m", "printf %s [scrubbed:model/m#"),
        (&["sh", "-c", &format!("X={KEY} true")], "the value of the secret model/m", "X=[scrubbed:model/m#"),
        (&["printf", &token()], "the form of a credential (github-token)", "printf [redacted: github-token#"),
        (
            &["env", held, "true"],
            "the form of a credential (generic-secret)",
            "DEPLOY_TOKEN=[redacted: generic-secret#",
        ),
        (&["env", &format!("GITHUB_TOKEN={named}"), "true"], "a value for GITHUB_TOKEN", "volary exec --lease"),
    ];
    for engine in ["embedded", "docker"] {
        std::fs::write(stage.dir.path().join("profiles/p.toml"), format!("engine = \"{engine}\"\n")).unwrap();
        for (argv, what, shown) in tries {
            let mut wish = exec(argv);
            wish.profile = Some("p".into());
            let wish = serde_json::to_value(wish).unwrap();
            let refused = stage.home(Method::POST, "/api/runs", Some(wish)).await;
            assert_eq!((refused.status, refused.code().as_str()), (StatusCode::BAD_REQUEST, "run.secret"));
            clean(&refused.body, what);
            clean(&refused.body, shown);
            assert!(!refused.text().contains(named) && !refused.text().contains("k3Jd92"), "{}", refused.text());
        }
    }
    let evidence = stage.home(Method::GET, "/api/evidence", None).await;
    for (_, what, _) in tries {
        clean(&evidence.body, what);
    }
    let text = evidence.text();
    assert_eq!(text.matches("run.refused").count(), 2 * tries.len(), "{text}");
    assert!(!text.contains(named) && !text.contains("k3Jd92") && !text.contains("printf"), "{text}");
    // What shows a handle, or sets no key, is a command.
    let shown = format!("Authorization: Bearer vh_{}", "ab2c3d4e5f6g7".repeat(4));
    let argv = ["curl", "-H", &shown, "GITHUB_TOKEN=$VOLARY_HANDLE gh", "REGION=eu-central-1", "GITHUB_TOKEN="];
    stage.create(&exec(&argv)).await;
    assert_eq!(operator.launch().await.argv, argv);
}

#[tokio::test]
async fn the_console_holds_no_secret() {
    let stage = Stage::start();
    let (_operator, launch) = leaky(&stage).await;
    let runs = format!("/runs/{}", launch.run);
    for (path, mark) in [("/", "say what you found"), (&runs, "[scrubbed:model/m#")] {
        let page = stage.home(Method::GET, path, None).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        clean(&page.body, mark);
    }
}

#[tokio::test]
async fn the_audit_the_evidence_and_its_export_hold_no_secret() {
    let stage = Stage::start();
    leaky(&stage).await;
    clean(&stage.home(Method::GET, "/api/evidence", None).await.body, "gateway.refused");
}

#[tokio::test]
async fn an_error_that_quotes_what_was_asked_for_holds_no_secret() {
    let stage = Stage::start();
    stage.model("m", "model-1").await;
    // A key in the place of its name: the message quotes it.
    for (wrong, mark) in [(KEY.to_owned(), "[scrubbed:model/m#"), (token(), "[redacted: github-token#")] {
        let path = format!("/api/secrets/{wrong}");
        let put = stage.home(Method::PUT, &path, Some(serde_json::json!({ "value": "another-value" }))).await;
        assert_eq!(put.status, StatusCode::BAD_REQUEST);
        assert_eq!(put.code(), "secret.name");
        clean(&put.body, mark);
    }
}

#[tokio::test]
async fn no_file_of_the_server_holds_a_secret() {
    let mut stage = Stage::start();
    leaky(&stage).await;
    stage.stop();
    fn walk(folder: &Path, read: &mut usize) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, read);
            } else if path.is_file() {
                // The engine takes its side files away a moment after its last connection closes.
                let bytes = match std::fs::read(&path) {
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                    read => read.unwrap(),
                };
                assert!(!holds(&bytes), "{}", path.display());
                *read += bytes.len();
            }
        }
    }
    let mut read = 0;
    walk(stage.dir.path(), &mut read);
    assert!(read > 10_000, "the database was read: {read} bytes");
}

#[tokio::test]
async fn a_text_is_scrubbed_over_the_homes_socket_alone() {
    let stage = Stage::start();
    stage.model("m", "model-1").await;
    let text = serde_json::json!(format!("{KEY} {}", token()));
    let out = stage.home(Method::POST, "/api/scrub", Some(text)).await;
    assert_eq!(out.status, StatusCode::OK, "{}", out.text());
    clean(&out.body, "\"[scrubbed:model/m#");
    assert!(out.text().contains("] [redacted: github-token#"), "{}", out.text());
    assert_eq!(stage.tcp(Method::POST, "/api/scrub", &[], KEY).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_use_of_a_lease_by_a_program_whose_path_is_a_secret_is_kept_and_shown_without_it() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = leases::running(&stage).await;
    let lease = leases::granted(&mut gateway, leases::wish(&launch)).await.lease;
    let by = LeaseUser::Command {
        executable: format!("/usr/bin/{KEY}"),
        executable_sha256: "0".repeat(64),
        argv_sha256: "0".repeat(64),
    };
    let word = leases::take(&mut gateway, &launch, &lease, by).await;
    assert!(matches!(word, ValueWord::Denied { ref rule, .. } if rule == "lease.executable"), "{word:?}");
    for (path, mark) in [
        ("/api/leases?all=true".to_owned(), "granted"),
        (format!("/api/runs/{}/events", launch.run), "/usr/bin/[scrubbed:model/m#"),
        ("/api/evidence".to_owned(), "/usr/bin/[scrubbed:model/m#"),
    ] {
        clean(&stage.home(Method::GET, &path, None).await.body, mark);
    }
}
