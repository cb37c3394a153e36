//! Naming models and keeping keys: what works, and what is refused with the way out.

use crate::shared::{all, anthropic, gemini, openai, platform, text};
use std::process::Output;
use testkit::{ModelDouble, Platform, Turn};

const KEY: &str = "sk-a-key-of-some-length";

/// That a command failed and said all of this.
fn refused(out: &Output, words: &[&str]) {
    assert!(!out.status.success(), "it was not refused: {}", all(out));
    let said = format!("{}{}", text(&out.stdout), text(&out.stderr));
    for word in words {
        assert!(said.contains(word), "{word:?} is not in it: {}", all(out));
    }
}

fn add(platform: &Platform, args: &[&str]) -> Output {
    let fixed = ["model", "add", "m", "--provider", "openai-compatible"];
    platform.cli(&[&fixed[..], args].concat())
}

#[test]
fn a_test_of_a_model_says_whether_it_answers_and_with_which_key() {
    let platform = platform();
    let double = ModelDouble::start(KEY, vec![Turn::says("pong"); 5]);
    anthropic(&platform, "claude", &double.url(), KEY);
    openai(&platform, "gpt", &double.url(), KEY);
    let add = ["model", "add", "new", "--provider", "openai", "--api", "responses", "--id", "gpt-test", "--base"];
    drop(platform.ok(&[&add[..], &[&double.url(), "--internal", "--price", "0,0"]].concat()));
    gemini(&platform, "gemini", &double.url(), KEY);
    for model in ["claude", "gpt", "new", "gemini"] {
        let said = platform.ok(&["model", "test", model]);
        assert!(said.starts_with("ok: "), "{said}");
    }
    assert_eq!(double.requests()[0].header("x-api-key"), Some(KEY));
    assert_eq!(double.requests()[1].header("authorization"), Some(&*format!("Bearer {KEY}")));
    assert_eq!(double.requests()[2].header("authorization"), Some(&*format!("Bearer {KEY}")));
    assert_eq!(double.requests()[2].target, "/v1/responses");
    assert_eq!(double.requests()[3].header("x-goog-api-key"), Some(KEY));
    assert_eq!(double.requests()[3].target, "/v1beta/models/gemini-test:generateContent");

    assert_eq!(platform.json(&["model", "test", "claude", "--json"])["ok"], true);

    platform.secret("model/anthropic", "sk-not-the-right-key");
    refused(&platform.cli(&["model", "test", "claude"]), &["failed: ", "401", "invalid x-api-key"]);
    refused(&platform.cli(&["model", "test", "nobody"]), &["no model \"nobody\"", "model list"]);
}

#[test]
fn a_gemini_model_is_named_by_what_can_stand_in_a_path_has_a_price_of_its_own_and_one_format() {
    let platform = platform();
    let add = ["model", "add", "g", "--provider", "gemini", "--id"];
    drop(platform.ok(&[&add[..], &["models/gemini-2.5-pro"]].concat()));
    let listed = platform.json(&["model", "list", "--json"]);
    let kept = &listed[0];
    assert_eq!((&kept["id"], &kept["dialect"]), (&"gemini-2.5-pro".into(), &"gemini".into()), "{kept:#}");
    assert_eq!(
        (&kept["base"], &kept["secret"]),
        (&"https://generativelanguage.googleapis.com".into(), &"model/gemini".into())
    );
    // What its vendor asks for long prompts: a budget that holds it holds any.
    assert_eq!((&kept["price"]["input"], &kept["price"]["output"]), (&2_500_000.into(), &15_000_000.into()));
    for id in ["a/b", "a:b", "..", "a b"] {
        refused(&platform.cli(&[&add[..], &[id, "--price", "0,0"]].concat()), &["stands in a path"]);
    }
    refused(&platform.cli(&[&add[..], &["gemini-2.5-pro", "--api", "chat"]].concat()), &["gemini has one format"]);
}

#[test]
fn a_test_of_a_model_that_cannot_be_reached_says_so() {
    let platform = platform();
    // A port that nobody is given unless they ask for it: nothing listens there.
    anthropic(&platform, "gone", "http://127.0.0.1:1", KEY);
    refused(&platform.cli(&["model", "test", "gone"]), &["failed: ", "reached"]);
}

#[test]
fn an_address_that_is_not_public_is_refused_unless_it_is_marked_as_internal() {
    let platform = platform();
    let double = ModelDouble::start(KEY, vec![Turn::says("pong")]);
    platform.secret("model/m", KEY);
    for base in [double.url().replace("http:", "https:"), "https://[::1]:8443".into(), "https://169.254.169.254".into()]
    {
        let added = add(&platform, &["--id", "x", "--secret", "model/m", "--price", "0,0", "--base", &base]);
        assert!(added.status.success(), "{}", all(&added));
        refused(&platform.cli(&["model", "test", "m"]), &["failed: ", "not a public one", "internal"]);
    }
    assert_eq!(double.requests().len(), 0);
}

#[test]
fn a_base_that_would_send_the_key_in_the_clear_is_refused() {
    let platform = platform();
    for base in ["http://models.example.com", "http://203.0.113.7:8000"] {
        let added = add(&platform, &["--id", "x", "--price", "0,0", "--base", base]);
        refused(&added, &["in the clear", "https", "--internal"]);
    }
    assert_eq!(platform.json(&["model", "list", "--json"]), serde_json::json!([]));
}

#[test]
fn only_a_model_of_openais_formats_has_a_choice_of_format() {
    let platform = platform();
    let added = platform.cli(&["model", "add", "m", "--provider", "anthropic", "--api", "chat", "--id", "x"]);
    refused(&added, &["--api", "anthropic has one format"]);
}

#[test]
fn a_model_without_a_known_price_is_refused_with_the_way_to_give_one() {
    let platform = platform();
    let added = add(&platform, &["--id", "nobody-knows-this", "--base", "https://models.example.com"]);
    refused(&added, &["nobody-knows-this", "--price"]);
    let added =
        add(&platform, &["--id", "nobody-knows-this", "--base", "https://models.example.com", "--price", "0.25,1.5"]);
    assert!(added.status.success(), "{}", all(&added));
    let listed = platform.json(&["model", "list", "--json"]);
    assert_eq!((&listed[0]["price"]["input"], &listed[0]["price"]["output"]), (&250_000.into(), &1_500_000.into()));
}

#[test]
fn secrets_are_listed_by_name_and_no_command_gives_a_value_back() {
    let platform = platform();
    platform.secret("model/one", "first-value-of-one");
    platform.secret("model/one", "second-value-of-one");
    platform.secret("model/two", "the-value-of-two");
    let rows = platform.json(&["secret", "list", "--json"]);
    let names: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["model/one", "model/two"]);
    assert_eq!((&rows[0]["version"], &rows[1]["version"]), (&2.into(), &1.into()));
    let person = platform.ok(&["secret", "list"]);
    assert!(person.contains("model/one") && person.contains("model/two"), "{person}");
    for said in [person, rows.to_string()] {
        assert!(!said.contains("value-of"), "{said}");
    }
    for word in ["get", "show", "export", "read"] {
        let out = platform.cli(&["secret", word, "model/one"]);
        assert_eq!(out.status.code(), Some(2), "`secret {word}` exists: {}", all(&out));
    }
    // A value on the command line would stand in every process list.
    assert_eq!(platform.cli(&["secret", "set", "model/one", "a-value"]).status.code(), Some(2));
}

#[test]
fn a_run_without_a_model_or_without_its_key_says_what_to_type() {
    let platform = platform();
    refused(&platform.cli(&["run", "--empty", "anything"]), &["volary model add"]);
    let added =
        add(&platform, &["--id", "x", "--secret", "model/m", "--price", "0,0", "--base", "https://example.com"]);
    assert!(added.status.success(), "{}", all(&added));
    refused(&platform.cli(&["run", "--empty", "anything"]), &["volary secret set model/m"]);
    assert_eq!(platform.json(&["runs", "--json"]), serde_json::json!([]));
}

#[test]
fn a_replaced_key_is_the_one_that_the_next_call_carries_and_a_deleted_one_is_missed_by_name() {
    let platform = platform();
    let double = ModelDouble::start("the-second-key-is-right", vec![Turn::says("pong")]);
    anthropic(&platform, "claude", &double.url(), "the-first-key-is-wrong");
    refused(&platform.cli(&["model", "test", "claude"]), &["401"]);
    platform.secret("model/anthropic", "the-second-key-is-right");
    drop(platform.ok(&["model", "test", "claude"]));
    let keys: Vec<_> = double.requests().iter().map(|request| request.header("x-api-key").map(str::to_owned)).collect();
    assert_eq!(keys, [Some("the-first-key-is-wrong".into()), Some("the-second-key-is-right".into())]);

    drop(platform.ok(&["secret", "delete", "model/anthropic"]));
    refused(&platform.cli(&["model", "test", "claude"]), &["volary secret set model/anthropic"]);
    refused(&platform.cli(&["run", "--empty", "anything"]), &["volary secret set model/anthropic"]);
    assert_eq!(double.requests().len(), 2);
}
