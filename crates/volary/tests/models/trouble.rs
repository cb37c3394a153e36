//! Providers that are overloaded, break off, talk nonsense, or cost too much.

use crate::shared::{Wild, all, anthropic, head, mend, openai, platform, run, steps, text};
use model::Usage;
use serde_json::{Value, json};
use testkit::{ModelDouble, Platform, Repo, Turn};

const KEY: &str = "sk-a-key-of-some-length";

#[test]
fn after_429_529_and_a_cut_stream_the_same_bytes_are_sent_again_and_the_run_goes_on() {
    let (platform, repo) = (platform(), Repo::failing());
    let double = ModelDouble::start(
        KEY,
        vec![
            Turn { retry_after_secs: Some(2), ..Turn::fails(429) },
            Turn::calls("edit", mend()),
            Turn { cut: true, ..Turn::says("This answer is long enough to be cut in its middle.") },
            Turn::calls("shell", json!({"command": "sh test.sh"})),
            Turn::fails(529),
            Turn::fails(529),
            Turn::fails(529),
            Turn::says("Done."),
        ],
    );
    anthropic(&platform, "busy", &double.url(), KEY);
    let ran = run(&platform, &repo, &[]);
    assert_eq!(ran.end(), ("done".into(), String::new()), "{}", all(&ran.out));
    let sent: Vec<Vec<u8>> = double.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(sent.len(), 8);
    for (first, again) in [(0, 1), (2, 3), (4, 5), (5, 6), (6, 7)] {
        assert_eq!(sent[first], sent[again], "requests {first} and {again}");
    }
    assert_ne!(sent[1], sent[2]);
    let failures = steps(&ran.entries, "model-failed");
    let kinds: Vec<&str> = failures.iter().map(|step| step["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["busy", "cut", "busy", "busy", "busy"]);
    assert_eq!(failures[0]["retry_after_ms"], 2000);
    let settled: Vec<u64> = ran.of_kind("settled").iter().map(|event| event["status"].as_u64().unwrap()).collect();
    assert_eq!(settled, [429, 200, 200, 200, 529, 529, 529, 200]);
    let interrupted: Vec<&Value> = ran.of_kind("settled").iter().map(|event| &event["interrupted"]).collect();
    assert_eq!(interrupted.iter().filter(|word| **word == true).count(), 1, "{interrupted:?}");
    assert_eq!(interrupted[2], true);
    // What was said before the cut is not said twice: the record keeps it, the context does not.
    assert!(!text(&sent[7]).contains("long enough to be cut"));
    for turn in 1..=3 {
        assert!(platform.cli(&["replay", &ran.run, "--turn", &turn.to_string()]).status.success(), "turn {turn}");
    }
}

#[test]
fn a_provider_that_never_makes_sense_ends_the_run_with_the_reason() {
    let (platform, repo) = (platform(), Repo::failing());
    let wild = Wild::start(|_, _| vec![head("200 OK", "text/event-stream", ""), b"data: {\"mumble\n\n".to_vec()]);
    openai(&platform, "mad", wild.url(), KEY);
    let ran = run(&platform, &repo, &[]);
    let (outcome, reason) = ran.end();
    assert_eq!(outcome, "failed", "{}", all(&ran.out));
    assert!(reason.contains("did not answer in 6 tries"), "{reason}");
    assert_eq!(ran.out.status.code(), Some(1));
    assert_eq!(wild.asked().len(), 6);
    assert_eq!(ran.view(&platform)["reason"], reason);
    assert_eq!(ran.of_kind("settled").len(), 6);
}

/// Writes a profile with one limit.
fn limit(platform: &Platform, name: &str, line: &str) {
    let file = platform.home().join("profiles").join(format!("{name}.toml"));
    std::fs::write(file, format!("[limits]\n{line}\n")).expect("a profile is written");
}

#[test]
fn a_call_that_could_break_the_budget_never_leaves() {
    let (platform, repo) = (platform(), Repo::failing());
    limit(&platform, "poor", "cost-micro-dollars = 100");
    limit(&platform, "terse", "tokens = 100");
    let double = ModelDouble::start(KEY, vec![Turn::says("I was never asked.")]);
    anthropic(&platform, "dear", &double.url(), KEY);
    for (profile, rule, words) in [
        ("poor", "budget.cost", ["could cost $", "$0.000100 is left"]),
        ("terse", "budget.tokens", ["could use ", " 100 are left"]),
    ] {
        let ran = run(&platform, &repo, &["--profile", profile]);
        let (outcome, reason) = ran.end();
        assert_eq!(outcome, "failed", "{}", all(&ran.out));
        assert!(words.iter().all(|word| reason.contains(word)), "{reason}");
        assert_eq!(double.requests().len(), 0);
        let verdicts = ran.of_kind("verdict");
        assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
        assert_eq!((&verdicts[0]["allowed"], &verdicts[0]["rule"]), (&json!(false), &json!(rule)));
        assert!(ran.of_kind("settled").is_empty());
        assert_eq!(ran.view(&platform)["cost"], 0);
    }
}

#[test]
fn a_budget_that_is_used_up_ends_the_run_before_the_next_call_leaves() {
    let (platform, repo) = (platform(), Repo::failing());
    // One call's 16,384 tokens at 15 dollars a million (245,760) and its input fit; what is left after it does not.
    limit(&platform, "small", "cost-micro-dollars = 300000");
    let used = Usage { input: 1000, output: 6000, ..Usage::default() };
    let double =
        ModelDouble::start(KEY, vec![Turn { usage: used, ..Turn::calls("edit", mend()) }, Turn::says("Not asked.")]);
    anthropic(&platform, "dear", &double.url(), KEY);
    let ran = run(&platform, &repo, &["--profile", "small"]);
    let (outcome, reason) = ran.end();
    assert_eq!(outcome, "failed", "{}", all(&ran.out));
    assert!(reason.contains("$0.207000 is left"), "{reason}");
    assert_eq!(double.requests().len(), 1);
    let words: Vec<&Value> = ran.of_kind("verdict").iter().map(|verdict| &verdict["allowed"]).collect();
    assert_eq!(words, [&json!(true), &json!(false)]);
    assert_eq!(ran.view(&platform)["cost"], 93_000);
    // What was done until then is kept.
    assert!(repo.git(&["show", &format!("volary/{}:max.c", ran.run)]).contains("a > b"));
}

#[test]
fn a_wrong_key_ends_the_run_at_once_and_says_what_the_provider_said() {
    let (platform, repo) = (platform(), Repo::failing());
    let double = ModelDouble::start("another-key-than-ours", vec![Turn::says("x")]);
    openai(&platform, "locked", &double.url(), KEY);
    let ran = run(&platform, &repo, &[]);
    let (outcome, reason) = ran.end();
    assert_eq!(outcome, "failed", "{}", all(&ran.out));
    assert!(reason.contains("401") && reason.contains("invalid x-api-key"), "{reason}");
    assert_eq!(double.requests().len(), 1);
}
