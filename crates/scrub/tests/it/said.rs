//! What a box says in pieces: no secret is whole where the pieces meet, nothing is lost, and the order stays.

use crate::corpus::{Random, token};
use base64::{Engine, engine::general_purpose::STANDARD};
use model::Secret;
use scrub::{Formats, Said, Scrubber};
use serde_json::{Value, json};

const KEY: &str = "sk-canary-0123456789abcdef";

fn scrubber() -> Scrubber {
    Scrubber::new([("key".to_owned(), Secret::new(KEY.to_owned()))]).with_formats(Formats::load().unwrap())
}

fn chunk(turn: u32, text: &str) -> Value {
    json!({"kind": "chunk", "turn": turn, "text": text})
}

fn output(id: &str, bytes: &[u8]) -> Value {
    json!({"kind": "output", "id": id, "stream": "stdout", "data_b64": STANDARD.encode(bytes)})
}

/// What is kept of these events.
fn kept(events: &[Value]) -> Vec<Value> {
    let (scrubber, mut said) = (scrubber(), Said::default());
    let mut kept: Vec<String> = events.iter().flat_map(|event| said.take(&scrubber, &event.to_string())).collect();
    kept.extend(said.end(&scrubber));
    kept.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
}

/// The text of all pieces of one kind, as a page joins them.
fn joined(kept: &[Value]) -> String {
    let one = |event: &Value| match event["kind"].as_str() {
        Some("chunk") => event["text"].as_str().unwrap().as_bytes().to_vec(),
        Some("output") => STANDARD.decode(event["data_b64"].as_str().unwrap()).unwrap(),
        _ => Vec::new(),
    };
    String::from_utf8(kept.iter().flat_map(one).collect()).unwrap()
}

#[test]
fn a_key_split_over_two_pieces_is_replaced_wherever_the_cut_is() {
    let text = format!("Your key is {KEY}, is it not? é");
    for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
        let (one, two) = text.split_at(cut);
        let expected = "Your key is [scrubbed:key], is it not? é";
        assert_eq!(joined(&kept(&[chunk(1, one), chunk(1, two)])), expected, "cut at {cut}");
        assert_eq!(
            joined(&kept(&[output("t", one.as_bytes()), output("t", two.as_bytes())])),
            expected,
            "cut at {cut}"
        );
    }
}

#[test]
fn a_key_that_comes_letter_by_letter_is_replaced_in_every_encoding() {
    for form in [KEY.to_owned(), STANDARD.encode(KEY), KEY.bytes().map(|b| format!("{b:02x}")).collect()] {
        let letters = format!("<{form}> and on");
        let pieces: Vec<Value> = letters.chars().map(|letter| chunk(3, &letter.to_string())).collect();
        let joined = joined(&kept(&pieces));
        assert!(joined.starts_with("<[scrubbed:key]") && joined.ends_with("> and on"), "{joined}");
    }
}

#[test]
fn a_token_of_a_vendor_split_over_pieces_is_replaced() {
    let token = token("ghp_{an 36}", &mut Random::new(5)).text;
    let (one, two) = token.split_at(9);
    assert_eq!(joined(&kept(&[chunk(1, one), chunk(1, two), chunk(1, ".")])), "[redacted: github-token].");
}

#[test]
fn what_waits_comes_before_the_event_that_ends_its_text() {
    let call = json!({"kind": "tool-call", "turn": 1, "id": "a", "name": "shell", "title": "t", "input": {}});
    let kept = kept(&[chunk(1, "so sk-can"), call.clone(), chunk(2, "ary")]);
    assert_eq!(kept, [chunk(1, "so "), chunk(1, "sk-can"), call, chunk(2, "ary")]);
}

#[test]
fn another_turn_ends_the_words_of_the_one_before() {
    assert_eq!(kept(&[chunk(1, "sk-can"), chunk(2, "ary")]), [chunk(1, "sk-can"), chunk(2, "ary")]);
}

#[test]
fn two_commands_beside_each_other_do_not_end_each_others_output() {
    let (one, two) = KEY.split_at(10);
    let end = json!({"kind": "command-end", "id": "a", "exit": {"how": "code", "code": 0}, "ms": 1});
    let kept = kept(&[
        output("a", one.as_bytes()),
        output("b", b"other. "),
        chunk(1, "words. "),
        output("a", two.as_bytes()),
        output("a", b" sk-"),
        end.clone(),
    ]);
    let expected = [
        output("b", b"other. "),
        chunk(1, "words. "),
        output("a", b"[scrubbed:key]"),
        output("a", b" "),
        output("a", b"sk-"),
        end,
    ];
    assert_eq!(kept, expected);
}

#[test]
fn what_holds_nothing_is_left_as_it_is_to_the_byte() {
    let (scrubber, mut said) = (scrubber(), Said::default());
    for event in
        [r#"{ "text" : "hello world. ", "kind":"chunk", "turn":1 }"#, r#"{"kind":"note","text":"hi"}"#, "no json"]
    {
        assert_eq!(said.take(&scrubber, event), [event]);
    }
    assert_eq!(said.end(&scrubber), Vec::<String>::new());
}

#[test]
fn a_long_step_in_parts_is_scrubbed_where_its_parts_meet_and_stays_whole() {
    let step = json!({"answer": format!("Your key is {KEY}.")}).to_string();
    let part =
        |n: u64, count: usize, text: &str| json!({"kind": "loop", "step": {"volary.part": [n, count], "text": text}});
    for cut in 1..step.len() {
        let (one, two) = step.split_at(cut);
        let kept = kept(&[part(1, 2, one), part(2, 2, two)]);
        assert_eq!(kept.len(), 2);
        let texts = kept.iter().map(|event| event["step"]["text"].as_str().unwrap());
        assert_eq!(texts.collect::<String>(), r#"{"answer":"Your key is [scrubbed:key]."}"#, "cut at {cut}");
        assert_eq!(kept[1]["step"]["volary.part"], json!([2, 2]));
    }
}

#[test]
fn a_key_in_a_field_beside_the_text_is_replaced() {
    let kept = kept(&[output(KEY, b"sk-"), output(KEY, b"x")]);
    assert!(!Value::from(kept.clone()).to_string().contains(KEY), "{kept:?}");
    assert_eq!(joined(&kept), "sk-x");
}

#[test]
fn a_key_behind_escapes_is_replaced_and_a_number_that_is_a_value_too() {
    let scrubber =
        Scrubber::new([("key", KEY), ("pin", "1234567890")].map(|(n, v)| (n.to_owned(), Secret::new(v.to_owned()))));
    let escaped: String = KEY.chars().map(|char| format!("\\u{:04x}", u32::from(char))).collect();
    let event = format!(r#"{{"kind":"note","text":"it is {escaped}.","n":1234567890,"m":12345}}"#);
    let expected = r#"{"kind":"note","text":"it is [scrubbed:key].","n":"[scrubbed:pin]","m":12345}"#;
    assert_eq!(scrub::event::scrub_event(&scrubber, &event), expected);
}

#[test]
fn a_value_that_is_json_itself_leaves_a_note_and_not_half_an_event() {
    let value = r#"{"user":"joe","pass":"x"}"#;
    let scrubber = Scrubber::new([("k".to_owned(), Secret::new(value.to_owned()))]);
    let after = scrub::event::scrub_event(&scrubber, &format!(r#"{{"kind":"tool-call","input":{value}}}"#));
    let read: Value = serde_json::from_str(&after).unwrap();
    assert!(read["kind"] == "note" || !after.contains("joe"), "{after}");
    assert!(!after.contains("joe"), "{after}");
}

#[test]
fn the_33rd_open_text_ends_the_one_longest_unheard_of_and_nothing_is_lost() {
    let events: Vec<Value> = (0..40).map(|n| output(&format!("t{n}"), format!("{n}:sk-can").as_bytes())).collect();
    let kept = kept(&events);
    for n in 0..40 {
        let of = |event: &&Value| event["id"] == format!("t{n}");
        assert_eq!(joined(&kept.iter().filter(of).cloned().collect::<Vec<_>>()), format!("{n}:sk-can"));
    }
    assert!(kept.iter().position(|event| event["id"] == "t39") > kept.iter().rposition(|event| event["id"] == "t0"));
}

#[test]
fn random_pieces_of_random_texts_join_to_what_one_piece_gives() {
    let scrubber = scrubber();
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let tokens = ["ghp_{an 36} ", "{lo 9} ", "postgres://a:<{an 12}>@b ", "é{hex 3}"];
        let mut text: String = (0..6).map(|_| token(tokens[random.below(tokens.len())], &mut random).text).collect();
        text.push_str(KEY);
        let (mut pieces, mut rest) = (Vec::new(), text.as_str());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.ceil_char_boundary(1 + random.below(12)));
            pieces.push(chunk(1, piece));
            rest = after;
        }
        assert_eq!(joined(&kept(&pieces)), scrubber.scrub_str(&text), "seed {seed}: {text:?}");
    }
}
